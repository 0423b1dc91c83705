"""Lesson 13, judging: two distances between crowds of features, the Fréchet distance and the kernel distance."""

from collections.abc import Callable, Iterable
from numbers import Real

import torch
from torch import Tensor

from ... import metrics
from . import Exercise, Wrong, seeded, told

ONE = "Return one number: a float, or a tensor without dimensions."
COMPLEX = (
    "The eigenvalues of a matrix that is not symmetric come as complex numbers, though here their imaginary parts are "
    "rounding alone. Take `.real` of them, and `.clamp(min=0)` before the root."
)


def number(got: object, call: str) -> Tensor:
    """An answer as a float64 scalar. Raises `Wrong` where it is not one real number."""
    if isinstance(got, Tensor) and got.is_complex() and got.numel() == 1:
        raise Wrong(f"{call} gives a complex number", COMPLEX)
    if isinstance(got, bool) or not isinstance(got, Real | Tensor) or isinstance(got, Tensor) and got.numel() != 1:
        raise Wrong(f"{call} gives {told(got)}; one number is wanted", ONE)
    return torch.as_tensor(got).detach().double().reshape(())


def close(got: Tensor, want: Tensor | float, within: float = 1e-4) -> bool:
    """Whether two numbers are the same but for rounding, which nan is not."""
    want = torch.as_tensor(want, dtype=torch.float64)
    return bool((got - want).abs() <= within * (1 + want.abs()))


def compare(got: object, want: float, slips: Iterable[tuple[float | Tensor, str]], call: str, other: str) -> None:
    """Raise `Wrong` unless `got` is the number `want`, with the hint of the first slip that explains it."""
    value = number(got, call)
    if close(value, want):
        return
    known = (hint for slip, hint in slips if not close(torch.as_tensor(slip), want) and close(value, slip))
    raise Wrong(f"{call} gives {value.item():.5g}; it should be {want:.5g}", next(known, other))


# 13.frechet

NO_TWO = "Is the root subtracted twice? tr(C + C' - 2 (C C')^(1/2)): for two equal crowds the three have to cancel."
ENTRIES = (
    "`.sqrt()` of a tensor is a root of each entry. Wanted is the root of the MATRIX. Its trace is the sum of the "
    "roots of the eigenvalues of C @ C', and that is all that you need of it."
)
APART = (
    "You multiply the root of C by the root of C'. That is the root of C C' only where the two covariances have the "
    "same axes. Multiply first, then take the root."
)
DIAGONAL = (
    "You use the variance of each feature and not how features go together. C is the whole covariance matrix, (d, d)."
)
STD = "These are standard deviations where variances belong: the covariance matrix has variances on its diagonal."
MOMENT = "The mean is still in your covariance: subtract it from every row first, or let `torch.cov` do it."
ROOTED = "You took a root at the end. The Fréchet distance is reported SQUARED, by us and by everybody else."
NORM = "The distance of the means counts squared: `(m - m').square().sum()`, without a root."
AVERAGED = "The means differ in d features, and their squares are SUMMED; yours averages them."
MEANS = "Only the means are compared. Two crowds with one middle can still differ in their widths: see the traces."
ROWS = (
    "`torch.cov` takes one ROW for each feature, and you handed it one for each picture: `torch.cov(x.T)`. C is "
    "(d, d), however many pictures there are."
)
BIASED = "Divide the covariance by n - 1, as `torch.cov` does: you divide by n, and with 12 pictures that shows."
ROOTLESS = "The root of C C' is missing: its eigenvalues have to be rooted before they are summed."
FRECHET = "Take it apart: means, covariances of the columns (`torch.cov(x.T)`), eigenvalues of C @ C', and one sum."


def frechet_slips(real: Tensor, made: Tensor) -> list[tuple[Tensor, str]]:
    """What one comes to by a mistake, and the hint for it."""
    m, w = real.mean(0), made.mean(0)
    c, o = torch.cov(real.T), torch.cov(made.T)
    apart, traces = (m - w).square().sum(), c.trace() + o.trace()

    def root(a: Tensor) -> Tensor:
        values, vectors = torch.linalg.eigh(a)
        return (vectors * values.clamp(min=0).sqrt()) @ vectors.T

    def shared(a: Tensor, b: Tensor) -> Tensor:
        return torch.linalg.eigvalsh(root(a) @ b @ root(a)).clamp(min=0).sqrt().sum()

    right = apart + traces - 2 * shared(c, o)
    s, t = c.diagonal().sqrt(), o.diagonal().sqrt()
    n, k = len(real), len(made)
    raw, other = real.T @ real / n, made.T @ made / k
    fewer, less = c * (n - 1) / n, o * (k - 1) / k
    turned, over = torch.cov(real), torch.cov(made)  # of two sets of unlike size these two do not fit together
    rows = [(apart + turned.trace() + over.trace() - 2 * shared(turned, over), ROWS)] if n == k else []
    return [
        (apart + traces - shared(c, o), NO_TWO), (apart + traces - 2 * (c @ o).sqrt().trace(), ENTRIES),
        (apart + traces - 2 * (root(c) @ root(o)).trace(), APART), (apart + (s - t).square().sum(), DIAGONAL),
        (apart + (s.sqrt() - t.sqrt()).square().sum(), STD), (apart, MEANS), (apart.sqrt() + right - apart, NORM),
        (right.clamp(min=0).sqrt(), ROOTED), (apart + raw.trace() + other.trace() - 2 * shared(raw, other), MOMENT),
        (apart / real.shape[1] + right - apart, AVERAGED),
        (apart + fewer.trace() + less.trace() - 2 * shared(fewer, less), BIASED),
        (apart + traces - 2 * (c @ o).trace(), ROOTLESS), *rows,
    ]  # fmt: skip


def frechet_of_known_crowds(fn: Callable) -> None:
    g = seeded(13)
    crowd = torch.randn(12, 3, generator=g, dtype=torch.float64) @ torch.randn(3, 3, generator=g, dtype=torch.float64)
    crowd = crowd + torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)
    other = torch.randn(20, 3, generator=g, dtype=torch.float64) @ torch.randn(3, 3, generator=g, dtype=torch.float64)
    moved = crowd + torch.tensor([3.0, 4.0, 0.0], dtype=torch.float64)
    wider = crowd.mean(0) + 2 * (crowd - crowd.mean(0))
    total = torch.cov(crowd.T).trace().item()
    cases = (
        ("a crowd and itself", crowd, crowd.clone(), 0.0),
        ("a crowd and one twice as wide (so it should be the first one's total variance)", crowd, wider, total),
        ("a crowd and one moved by (3, 4, 0)", crowd, moved, 25.0),
        ("two crowds", crowd, other, metrics.frechet(crowd, other)),
        ("the same two the other way round", other, crowd, metrics.frechet(other, crowd)),
    )
    for what, a, b, want in cases:
        got = fn(a, b)
        if number(got, f"frechet of {what}").isnan():
            raise Wrong(f"frechet of {what} gives nan", ENTRIES)
        compare(got, want, frechet_slips(a, b), f"frechet of {what}", FRECHET)


# 13.kernel

KEPT = (
    "Equal crowds do not come to 0 on average: each picture is compared with itself, on the diagonal, and nothing is "
    "as like a picture as itself. Leave the diagonals out: n (n - 1) pairs are left of n^2."
)
NORMALISER = "The diagonal is out, and still you divide by n^2. Without it there are only n (n - 1) pairs."
DEGREE = "The kernel is a THIRD power. With the second it sees means and covariances, and no lopsidedness."
NO_D = "Divide x . y by the number of features d before 1 is added: else the kernel depends on the width of a layer."
NO_ONE = "1 is added before the third power. Without it neither means nor covariances are compared, but for a part."
ONCE = "The similarity BETWEEN the crowds counts twice: |a - b|^2 = a.a + b.b - 2 a.b."
CROSS = "Between the crowds nobody meets himself, so nothing is left out there: it is a plain mean over all n m pairs."
UNROOTED = "You took a root. The kernel distance is reported squared, or it could not come out below 0, as it has to."
ADDED = "Likeness between the crowds is subtracted: the more alike the two are, the SMALLER their distance."
KERNEL = "Three tables of likenesses: real with real, made with made, real with made. Two lose their diagonal."


def kernel_slips(real: Tensor, made: Tensor) -> list[tuple[Tensor, str]]:
    n, m, d = len(real), len(made), real.shape[1]

    def value(power: float = 3, by: float = d, plus: float = 1.0, kept: bool = False, square: bool = False,
              times: float = 2.0, cross: bool = False) -> Tensor:  # fmt: skip
        def table(a: Tensor, b: Tensor) -> Tensor:
            return (a @ b.T / by + plus) ** power

        def inner(a: Tensor) -> Tensor:
            of, k = table(a, a), len(a)
            if kept:
                return of.mean()
            return (of.sum() - of.diagonal().sum()) / (k * k if square else k * (k - 1))

        between = table(real, made)
        mean = (between.sum() - between.diagonal().sum()) / (n * m - min(n, m)) if cross else between.mean()
        return inner(real) + inner(made) - times * mean

    return [
        (value(kept=True), KEPT), (value(square=True), NORMALISER), (value(power=2), DEGREE), (value(by=1.0), NO_D),
        (value(plus=0.0), NO_ONE), (value(times=1.0), ONCE), (value(cross=True), CROSS),
        (value().clamp(min=0).sqrt(), UNROOTED), (value(kept=True).clamp(min=0).sqrt(), UNROOTED),
        (value(times=-2.0), ADDED),
    ]  # fmt: skip


def kernel_of_small_crowds(fn: Callable) -> None:
    """Small ones: there a diagonal weighs most."""
    g = seeded(14)
    for n, m, shift in ((6, 9, 0.0), (7, 7, 0.0), (40, 30, 0.5)):
        real, made = (torch.randn(k, 4, generator=g, dtype=torch.float64) for k in (n, m))
        made = made + shift
        call = f"kernel_distance of {n} and {m} pictures"
        compare(fn(real, made), metrics.kernel(real, made)[0], kernel_slips(real, made), call, KERNEL)


def is_nothing_on_average(fn: Callable) -> None:
    g = seeded(15)
    values = torch.stack([number(fn(*torch.randn(2, 5, 3, generator=g, dtype=torch.float64)), "kernel_distance")
                          for _ in range(400)])  # fmt: skip
    mean, error = values.mean().item(), values.std().item() / 20
    if not abs(mean) < 5 * error:
        raise Wrong(f"400 pairs of equal crowds have the mean kernel distance {mean:.3f}; it should be 0 within "
                    f"{5 * error:.3f}", KEPT)  # fmt: skip


EXERCISES = (
    Exercise("13.frechet", (
        "Four things of the two sets: a mean each, `x.mean(0)`, and a covariance matrix each, `torch.cov(x.T)`.",
        "The trace of the root of C C' is the sum of the roots of its eigenvalues, `torch.linalg.eigvals(C @ C')`. "
        "They are real but for rounding: `.real.clamp(min=0).sqrt().sum()`.",
        "return (m - w).square().sum() + C.trace() + D.trace() - 2 * shared",
    ), (frechet_of_known_crowds,)),
    Exercise("13.kernel", (
        "Three tables of likenesses: real with real, made with made, real with made. In which of them does a picture "
        "meet itself?",
        "One inner function for a table, `(a @ b.T / d + 1) ** 3`. For real with real: its sum without the diagonal, "
        "over n (n - 1). The same for made with made.",
        "inner(real) + inner(made) - 2 * table(real, made).mean()",
    ), (kernel_of_small_crowds, is_nothing_on_average)),
)  # fmt: skip
