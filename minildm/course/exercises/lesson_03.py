"""Lesson 03, walking: the grid of quantiles, and the way over the sphere."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from . import Exercise, Wrong, expect, hint_for, near, seeded

# 03.quantile_grid

PRIOR = (
    "These are the quantiles of N(0, 1). The grid should follow the latents that are handed over, wherever they lie: "
    "`torch.quantile(latents, shares, dim=0)`."
)
BELL = (
    "Mean and standard deviation are right, but these latents are no bell curve. Ask them directly where "
    "the share u lies: `torch.quantile(latents, shares, dim=0)`."
)
EVEN = (
    "These steps are equally long. They should hold equally many latents: begin with the shares (i + 0.5) / n, which "
    "are evenly spaced, and look up each among the latents."
)
RIMS = (
    "The shares 0 and 1 are the outermost latents, two strays that may lie anywhere. Take the MIDDLE of each slice: "
    "(i + 0.5) / n."
)
MIDDLES = "n slices have the middles (i + 0.5) / n for i = 0 ... n - 1. These points cut the latents at other shares."
TOGETHER = (
    "Both latents got the same steps, so all numbers were sorted in one heap. Each latent has quantiles of its own: "
    "`dim=0` goes down the pictures and keeps the two apart."
)
UPSIDE = (
    "Upside down: row 0 is the TOP row of the picture, and the second latent grows upwards, so row 0 has its largest "
    "value. Flip one axis."
)
SWAPPED = (
    "The two latents have changed places. Latent 1, `grid[..., 0]`, grows along a row; latent 2 along a column. With "
    "`torch.meshgrid`, `indexing='xy'` makes the first of its answers grow along the row."
)
ONE_TABLE = (
    "One tensor, with the two latents of a cell beside each other in the LAST axis: `torch.stack([across, up], -1)` "
    "makes (n, n, 2) of two tables (n, n)."
)
BOTH_FLIPPED = "Only latent 2 runs against the counting of rows. Latent 1 grows from left to right, as columns do."


def inhabited() -> Tensor:
    """Latents (2000, 2) of two kinds, neither a bell curve: the one crowded at its low end, the other in two clumps."""
    u = (torch.arange(2000) + 0.5) / 2000
    first = (3 * u).exp() / 4 - 1
    second = torch.special.ndtri(u) / 3 + torch.where(u < 0.5, 2.0, 6.0)
    return torch.stack([first, second[torch.randperm(2000, generator=seeded(0))]], 1)


def steps_of(latents: Tensor, n: int) -> tuple[Tensor, list[tuple[Tensor, str]]]:
    """The right steps along each latent, (n, 2), and those of the usual mistakes."""
    shares = (torch.arange(n) + 0.5) / n
    low, high, mean, std = latents.amin(0), latents.amax(0), latents.mean(0), latents.std(0)
    bell = torch.special.ndtri(shares)[:, None].expand(n, 2)
    lines = [torch.linspace(0, 1, n)[:, None], shares[:, None]]
    slips = [(bell, PRIOR), (mean + std * bell, BELL), *((low + line * (high - low), EVEN) for line in lines)]
    slips += [((torch.linspace(-k, k, n)[:, None] * std + mean), EVEN) for k in (1, 2, 3)]
    slips += [(torch.linspace(-k, k, n)[:, None].expand(n, 2), EVEN) for k in (2, 3, 4)]
    slips.append((torch.quantile(latents, torch.linspace(0, 1, n), dim=0), RIMS))
    slips.append((torch.quantile(latents.flatten(), shares)[:, None].expand(n, 2), TOGETHER))
    return torch.quantile(latents, shares, dim=0), slips


def close(got: Tensor, want: Tensor) -> bool:
    """Equal but for the ways to say where between two latents a quantile lies."""
    return bool(((got - want).abs() <= 0.02).all())


def is_the_quantile_grid(fn: Callable) -> None:
    latents = inhabited()
    for n in (4, 6):  # an odd one would ask for the middle of the gap between the clumps
        call, (right, slips) = f"quantile_grid of 2,000 latents, n = {n}:", steps_of(latents, n)
        got = fn(latents, n)
        across, up = torch.meshgrid(right[:, 0], right[:, 1].flip(0), indexing="xy")
        want = torch.stack([across, up], -1)
        if isinstance(got, tuple | list):
            raise Wrong(f"{call} it gives {len(got)} things; one tensor ({n}, {n}, 2) is wanted", ONE_TABLE)
        if not isinstance(got, Tensor) or got.shape != want.shape:
            expect(got, want, call + " it", ONE_TABLE if isinstance(got, Tensor) else "")  # says what came
        if not got.isfinite().all():
            raise Wrong(f"{call} one point is {got[~got.isfinite()][0]:g}; all should be finite", RIMS)
        if close(got[0, :, 0], got[0, :1, 0].expand(n)):
            raise Wrong(f"{call} along the first row latent 1 stays {got[0, 0, 0]:.3f}; it should grow", SWAPPED)
        if got[0, 0, 0] > got[0, -1, 0]:
            raise Wrong(f"{call} latent 1 falls along the first row, from {got[0, 0, 0]:.3f}", BOTH_FLIPPED)
        upside = bool(got[0, 0, 1] < got[-1, 0, 1])
        found = torch.stack([got[0, :, 0], got[:, 0, 1] if upside else got[:, 0, 1].flip(0)], 1)
        if not close(found, right):
            k = int((found - right).abs().amax(0).argmax())
            i = int((found - right).abs()[:, k].argmax())
            what = f"{call} step {i} of latent {k + 1} is {found[i, k]:.3f}; it should be {right[i, k]:.3f}"
            raise Wrong(what, next((hint for slip, hint in slips if close(found, slip)), MIDDLES))
        if upside:
            raise Wrong(f"{call} latent 2 is {got[0, 0, 1]:.3f} in the top row, its smallest value", UPSIDE)
        if not close(got, want):
            raise Wrong(f"{call} a row or a column does not keep the value of its first point", SWAPPED)


# 03.slerp

STRAIGHT = (
    "This is the straight line. The weights are sines: sin((1 - t) angle) / sin(angle) for a, and "
    "sin(t angle) / sin(angle) for b."
)
SINES = (
    "The weights are sin((1 - t) angle) / sin(angle) for a, and sin(t angle) / sin(angle) for b, with the angle in "
    "radians as arccos gives it. A quarter circle is the simplest case to try by hand."
)
REVERSED = "You walk from b to a. At t = 0 the answer is a: the weight with (1 - t) belongs to a."
LENGTH = (
    "The direction is right, the length is lost. Only the ANGLE is computed from vectors of length 1; the weights then "
    "multiply a and b as they were given."
)
CHORD = (
    "A straight line pulled back to the sphere. Its ends are right and its length too, but it hurries in the middle: "
    "after a third of the time a third of the ANGLE has to be done."
)
COSINE = (
    "arccos takes a cosine, and a . b is one only for vectors of length 1. Divide by both lengths before, and clamp to "
    "-1..1: rounding may leave 1.0000001, of which arccos is nan."
)
ROWS = (
    "Each row has an angle of its own. Sum over the last axis with `keepdim=True`: (n, d) becomes (n, 1), and each "
    "number meets its own row again."
)
PARALLEL = (
    "Where a and b point the same way the angle is 0, and so is its sine: 0 / 0 is nan. There the straight line is "
    "right; `torch.where(sine < 1e-6, line, arc)` chooses row by row."
)
BACKWARDS = (
    "For directions that are nearly the same you fall back to the straight line, and it runs from b to a. Like this it "
    "stood in published code for years: test the fallback too."
)
HALF_TURN = "In the formula the angle is the whole one between a and b, in radians, as arccos gives it."


def arc(a: Tensor, b: Tensor, t: float, angle: Tensor) -> Tensor:
    return (torch.sin((1 - t) * angle) * a + torch.sin(t * angle) * b) / torch.sin(angle)


def angle_of(a: Tensor, b: Tensor) -> Tensor:
    return ((a * b).sum(1, keepdim=True) / a.norm(dim=1, keepdim=True) / b.norm(dim=1, keepdim=True)).arccos()


def turns_by_the_angle(fn: Callable) -> None:
    """A quarter circle and a sixth of one, where the answer is known; then lengths, then rows of several angles."""
    for length, degrees in ((1.0, 90.0), (3.0, 90.0), (3.0, 60.0)):
        whole = math.radians(degrees)
        a = torch.tensor([[length, 0.0]])
        b = length * torch.tensor([[math.cos(whole), math.sin(whole)]])
        for t in (0.0, 1.0, 1 / 3):
            want = length * torch.tensor([[math.cos(t * whole), math.sin(t * whole)]])
            line = (1 - t) * a + t * b
            chord = line / line.norm()
            back = length * torch.tensor([[math.cos((1 - t) * whole), math.sin((1 - t) * whole)]])
            half = arc(a, b, t, torch.tensor(whole / 2))
            slips = [(line, STRAIGHT), (back, REVERSED), ((1 - t) * b + t * a, REVERSED), (want / length, LENGTH),
                     (chord, CHORD), (chord * length, CHORD), (half, HALF_TURN)]  # fmt: skip
            call = f"Length {length:g}, {degrees:g} degrees apart, t = {t:.2f}: slerp"
            got = fn(a, b, t)
            hint = hint_for(got, slips, COSINE if length > 1 and degrees < 90 else SINES)
            expect(got, want, call, hint)


def takes_rows(fn: Callable) -> None:
    g = seeded(0)
    for n, d in ((3, 3), (4, 50), (2, 400)):
        a, b = torch.randn(2, n, d, generator=g)
        b = b + torch.linspace(0, 2, n)[:, None] * a  # another angle in every row
        b = b * a.norm(dim=1, keepdim=True) / b.norm(dim=1, keepdim=True)
        got = fn(a, b, 0.3)
        want = arc(a, b, 0.3, angle_of(a, b))
        expect(got, want, f"{n} rows of {d} numbers, t = 0.3: slerp", ROWS)
        apart = (got.norm(dim=1) - a.norm(dim=1)).abs().max()
        if apart > 1e-3:
            raise Wrong(f"{n} rows of {d} numbers: the length changes by {apart:.3f} on the way", LENGTH)
        expect(fn(b, a, 0.7), got, "The same way from its other end: slerp(b, a, 0.7)", REVERSED)


def survives_the_poles(fn: Callable) -> None:
    a = torch.tensor([[0.6, 0.0, 0.8], [1.0, 0.0, 0.0], [0.1, 0.2, 0.3]])
    b = torch.tensor([[0.6, 0.0, 0.8], [0.0, 1.0, 0.0], [0.1, 0.2, 0.3]])
    want = torch.tensor([[0.6, 0.0, 0.8], [math.cos(math.pi / 8), math.sin(math.pi / 8), 0.0], [0.1, 0.2, 0.3]])
    expect(fn(a, b, 0.25), want, "Rows 0 and 2 have a = b, row 1 a right angle: slerp", PARALLEL)
    for angle in (0.02, 1e-4):
        a, b = torch.tensor([[1.0, 0.0]]), torch.tensor([[math.cos(angle), math.sin(angle)]])
        got, want = fn(a, b, 0.25), torch.tensor([[math.cos(angle / 4), math.sin(angle / 4)]])
        call = f"a and b {angle:g} radians apart, t = 0.25: slerp"
        expect(got, want, call, BACKWARDS if near(got, arc(b, a, 0.25, angle_of(a, b))) else PARALLEL)
    a = torch.tensor([[1.0, 0.0], [0.0, 2.0]])
    got = fn(a, -a, 0.4)
    if not isinstance(got, Tensor) or got.shape != a.shape or not got.isfinite().all() or got.norm(dim=1).max() > 2.1:
        raise Wrong("b = -a: slerp(a, b, 0.4) is not finite, or far away", PARALLEL + " At a half turn it is 0, too.")


EXERCISES = (
    Exercise("03.quantile_grid", (
        "Three steps: n shares, one for the middle of each slice; for each latent the values at these shares; and from "
        "the two lists of steps a table of pairs.",
        "`steps = torch.quantile(latents, (torch.arange(n) + 0.5) / n, dim=0)` is (n, 2): a column for each latent.",
        "`torch.meshgrid(steps[:, 0], steps[:, 1].flip(0), indexing='xy')` gives two tables (n, n); `torch.stack(..., "
        "-1)` makes one of them.",
    ), (is_the_quantile_grid,)),
    Exercise("03.slerp", (
        "First the cosine of the angle, one for each row: the dot product over both lengths. Then arccos, then the "
        "two sines.",
        "`cosine = (a * b).sum(-1, keepdim=True) / (a.norm(dim=-1, keepdim=True) * b.norm(dim=-1, keepdim=True))`, "
        "clamped to -1..1.",
        "arc = (sin((1 - t) * angle) * a + sin(t * angle) * b) / sin(angle), and `torch.where` puts the straight line "
        "in rows where the sine is below 1e-6.",
    ), (turns_by_the_angle, takes_rows, survives_the_poles)),
)  # fmt: skip
