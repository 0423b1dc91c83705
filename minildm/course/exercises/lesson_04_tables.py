"""Lesson 04, changing a table: so that it ends in pure noise, and so that it suits a larger picture."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from ... import levels
from . import Exercise, Slips, Wrong, expect, hint_for, told

# 04.terminal_snr

MOVE = "How far above 0 is the root of the last row? Lower all roots by that, and the last one is 0."
LAST_ALONE = (
    "Now the last row is pure noise, and the one before it is far from it: a cliff of one step. All rows have to share "
    "the way, each moving a little."
)
OF_ROOTS = (
    "Take the roots first. alpha_bar is the square of what the picture is multiplied by, and it is alpha itself, the "
    "root, that is moved and stretched."
)
STRETCH = "Moved down, the first row has sunk as well. Stretch the whole so that the first is again where it was."
TO_ONE = (
    "The first row has become 1, a picture without any noise, and no step is that clean. After dividing by "
    "(first - last) multiply by the first."
)
SQUARE_AGAIN = "These are the roots, alpha. The table was one of alpha_bar: square them again."
SHAPE = (
    "The two ends are right, the way between them is not: every root is lowered by the SAME amount and then multiplied "
    "by the SAME factor. So the curve keeps its form."
)


def tables() -> dict[str, Tensor]:
    made = {"Stable Diffusion's table": levels.scaled_linear(), "A linear table of 20 rows": levels.linear(20)}
    return {name: schedule.alpha**2 for name, schedule in made.items()}


def mended(bar: Tensor) -> tuple[Tensor, Slips]:
    """The right answer for a table of alpha-bar, and the usual mistakes with it."""
    a, steps = bar.sqrt(), len(bar)
    right = ((a - a[-1]) * a[0] / (a[0] - a[-1])) ** 2
    cut = torch.cat([bar[:-1], torch.zeros(1)])
    return right, [
        (cut, LAST_ALONE), ((bar - bar[-1]) * bar[0] / (bar[0] - bar[-1]), OF_ROOTS),
        (bar - bar[-1], OF_ROOTS), ((bar - bar[-1]) / (bar[0] - bar[-1]), OF_ROOTS),
        ((a - a[-1]) ** 2, STRETCH), (((a - a[-1]) / (a[0] - a[-1])) ** 2, TO_ONE),
        (((a - a[-1]) / (1 - a[-1])) ** 2, STRETCH), (right.sqrt(), SQUARE_AGAIN), (a - a[-1], SQUARE_AGAIN),
        ((a * (1 - torch.arange(steps) / (steps - 1))) ** 2, SHAPE),
    ]  # fmt: skip


def ends_in_pure_noise(fn: Callable) -> None:
    for name, bar in tables().items():
        right, slips = mended(bar)
        got = fn(bar)
        if not isinstance(got, Tensor) or got.shape != right.shape:
            expect(got, right, name + ": mend")  # says what came
        hint = hint_for(got, slips, SHAPE)
        if not abs(got[-1]) < 1e-8:
            raise Wrong(f"{name}: the last row is {got[-1]:.3g}; it should be 0", hint if hint != SHAPE else MOVE)
        if not math.isclose(got[0], bar[0], rel_tol=1e-4):
            raise Wrong(f"{name}: the first row was {bar[0]:.4f} and is now {got[0]:.4f}; it should stay", hint)
        expect(got, right, name + ": mend", hint)


# 04.shift

SAME = "What is divided by for the larger picture is the same for every row, so log-SNR moves by the same everywhere."
SIGN = (
    "The wrong way round. A larger picture has MORE pixels that say the same, so the same noise hides less of it. It "
    "needs more noise, so a LOWER SNR."
)
POWER = (
    "Averaging k x k pixels divides the noise's standard deviation by k, and SNR is made of squares. So it is k "
    "squared by which SNR has to fall: log-SNR by 2 log k."
)
TWICE = "Counted twice: the mean of k x k pixels has a variance k squared times smaller, and the square is in it."
LOGS = "These logarithms are natural ones, `math.log` or `torch.log`: the SNR itself has to be k squared times smaller."
PRESERVING = (
    "alpha^2 + sigma^2 has to stay 1, or the variance of x is another. Divide both by the same number: log-SNR knows "
    "only their quotient and does not notice."
)
SIGMOID = "sigmoid(log-SNR) is alpha_bar, the SQUARE of alpha. Both factors still need their roots."


def moves_log_snr(fn: Callable) -> None:
    for name, table in (("cosine", levels.cosine(50)), ("scaled_linear", levels.scaled_linear(50, 0.01, 0.2))):
        for small, large in ((32, 32), (32, 128), (64, 32)):
            call, ratio = f"The {name} table, from {small} to {large} pixels", large / small
            got = fn(table.alpha, table.sigma, small, large)
            if not isinstance(got, tuple | list) or len(got) != 2:
                raise Wrong(f"{call}: shift gives {told(got)}; two tables are wanted", "`return alpha, sigma`")
            alpha, sigma = got
            right = levels.shifted(table, ratio)
            for part, want in ((alpha, right.alpha), (sigma, right.sigma)):
                if not isinstance(part, Tensor) or part.shape != want.shape:
                    expect(part, want, call + ": shift")
            power = alpha**2 + sigma**2
            if not torch.allclose(power, torch.ones_like(power), atol=1e-5):
                rooted = torch.allclose(alpha + sigma, torch.ones_like(alpha), atol=1e-5)
                at = int((power - 1).abs().argmax())
                what = f"{call}: alpha^2 + sigma^2 is {power[at]:.3f} in row {at}; it should be 1"
                raise Wrong(what, SIGMOID if rooted else PRESERVING)
            moved = 2 * (alpha.log() - sigma.log() - table.alpha.log() + table.sigma.log())
            if not torch.allclose(moved, moved.mean(), atol=1e-3):
                what = f"{call}: log-SNR moves by {moved.min():.3f} in one row, by {moved.max():.3f} in another"
                raise Wrong(what, SAME)
            if not math.isclose(moved.mean(), wanted := -2 * math.log(ratio), abs_tol=1e-3):
                what = f"{call}: log-SNR moves by {moved.mean():.3f}; it should move by {wanted:.3f}"
                raise Wrong(what, moving_slip(moved.mean().item() / wanted if wanted else 0.0))
            expect(alpha, right.alpha, call + ": alpha")
            expect(sigma, right.sigma, call + ": sigma")


def moving_slip(share: float) -> str:
    """The hint for log-SNR that moved by this share of the right way."""
    if share < 0:
        return SIGN
    known = {0.5: POWER, 2.0: TWICE, 1 / math.log(10): LOGS, 1 / math.log(2): LOGS}
    return next((hint for size, hint in known.items() if math.isclose(share, size, rel_tol=0.01)), POWER)


EXERCISES = (
    Exercise("04.terminal_snr", (
        "All happens to the roots: `alpha = alpha_bar.sqrt()`. Move, stretch, and square at the end.",
        "Moving: `alpha - alpha[-1]` ends at 0. But what was alpha[0] is now alpha[0] - alpha[-1]. By which factor "
        "does it come back?",
        "The factor is alpha[0] / (alpha[0] - alpha[-1]).",
    ), (ends_in_pure_noise,)),
    Exercise("04.shift", (
        "Average k x k pixels of the larger picture, k = large / small. What becomes of its noise, and what of itself?",
        "SNR = (alpha / sigma)^2 has to fall by the factor k^2. The simplest: multiply sigma by k, and then make the "
        "sum of squares 1 again.",
        "size = (alpha**2 + (k * sigma) ** 2).sqrt(); divide alpha and k * sigma by it.",
    ), (moves_log_snr,)),
)  # fmt: skip
