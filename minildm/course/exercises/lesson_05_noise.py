"""Lesson 05, the perfect denoiser: the loss that it cannot lower, and what becomes of a crowd without fresh noise."""

from collections.abc import Callable
from itertools import pairwise

import torch
from torch import Tensor

from ... import levels
from ...levels import Level
from . import Exercise, Wrong, expect, hint_for, seeded
from .lesson_05 import bell

# 05.dsm_loss

LOSSES = {
    "sign": "The target has the wrong sign. Where the noise has pushed x to the right, the data lie to the left: the "
    "score of x given x0 is MINUS eps / sigma.",
    "no sigma": "The target is -eps / sigma and not -eps: the less noise, the steeper the bell curve.",
    "clean x": "The score is asked about the noisy x, `alpha * x0 + sigma * eps`, and not about x0.",
    "no alpha": "x is `alpha * x0 + sigma * eps`. You left out alpha, which is 1 in some papers, and not here.",
    "no weight": "Each squared error counts sigma squared. Without that weight the levels with little noise drown all "
    "others.",
    "weight sigma": "The weight is sigma SQUARED, as the error it stands before is squared too.",
    "sum": "Average over the coordinates of a point, and do not add them up: the losses of large and of small pictures "
    "are to be comparable.",
}


def loss_of(score: Callable, x0: Tensor, level: Level, eps: Tensor, change: str = "") -> Tensor:
    """The loss (b,), or what a change to it makes of it."""
    alpha, sigma = level.alpha * (change != "no alpha") + (change == "no alpha"), level.sigma
    x = x0 if change == "clean x" else alpha * x0 + sigma * eps
    target = eps * {"sign": 1 / sigma, "no sigma": -1}.get(change, -1 / sigma)
    weight = {"no weight": 1, "weight sigma": sigma}.get(change, sigma**2)
    errors = weight * (score(x, level) - target) ** 2
    return errors.sum(1) if change == "sum" else errors.mean(1)


def loses_nothing_on_one_point(fn: Callable) -> None:
    point, level = torch.tensor([0.7, -1.3, 0.4]), Level(600.0, 0.6, 0.8)
    x0, eps = point.expand(16, 3), torch.randn(16, 3, generator=seeded(5))

    def perfect(x: Tensor, level: Level) -> Tensor:
        return (level.alpha * point - x) / level.sigma**2

    def mute(x: Tensor, level: Level) -> Tensor:
        return torch.zeros_like(x)

    for score, want in ((perfect, torch.zeros(16)), (mute, eps.square().mean(1))):
        got = fn(score, x0, level, eps)
        slips = [(loss_of(score, x0, level, eps, change), LOSSES[change]) for change in LOSSES]
        hint = hint_for(got, slips, within=1e-3)
        if isinstance(got, Tensor) and got.ndim == 0:
            hint = "One number for each point of the batch is wanted, (b,): average over the coordinates only."
        expect(got, want, f"dsm_loss of the {score.__name__} score, on a data set of a single point,", hint)
    x0 = torch.randn(16, 3, generator=seeded(6))
    expect(fn(bell, x0, level, eps), loss_of(bell, x0, level, eps), "dsm_loss on scattered data")


# 05.collapse

ENDS = {
    "ddim": "You keep the old noise at its full new strength. That is ddim, and it loses nothing. ddpm makes room for "
    "fresh noise: of the old it keeps only `level.alpha / below.alpha * below.sigma**2 / level.sigma`.",
    "no variance": "A step multiplies x by one number. The variance is then multiplied by the SQUARE of that number.",
    "added spreads": "Independent draws add up by their variances, not by their standard deviations.",
    "variance": "That is the variance. The standard deviation is its root.",
    "never noise": "With `noise=True` the step adds fresh noise, of variance below.sigma**2 - kept**2.",
    "always noise": "With `noise=False` nothing is added: only the factor acts.",
    "no guess": "The denoiser's answer is not always the mean, 0: it moves with x. For data N(0, s^2) it is x times "
    "`alpha s^2 / (alpha^2 s^2 + sigma^2)`.",
    "bold guess": "You take x / alpha for the clean picture. The perfect denoiser shrinks that, and more where there "
    "is more noise: x times `alpha s^2 / (alpha^2 s^2 + sigma^2)`.",
}


def ends(rows: list[Level], s: float, noise: bool, change: str = "") -> Tensor:
    """How wide the crowd is at the end, or what a change to the calculation makes of it."""
    width = torch.tensor(1.0)
    for level, below in pairwise(rows):
        a = level.alpha * s**2 / (level.alpha**2 * s**2 + level.sigma**2)
        a = {"no guess": 0.0, "bold guess": 1 / max(level.alpha, 1e-6)}.get(change, a)
        kept = level.alpha / below.alpha * below.sigma**2 / level.sigma
        fresh = (below.sigma**2 - kept**2) ** 0.5 * (change != "never noise" and (noise or change == "always noise"))
        kept = below.sigma if change == "ddim" else kept
        factor = below.alpha * a + kept * (1 - level.alpha * a) / level.sigma
        if change == "no variance":
            width = (factor * width**2 + fresh**2) ** 0.5
        elif change == "added spreads":
            width = factor * width + fresh
        else:
            width = ((factor * width) ** 2 + fresh**2) ** 0.5
    return width**2 if change == "variance" else width


def tells_how_wide_the_crowd_is(fn: Callable) -> None:
    few = [Level(800.0, 0.28, 0.96), Level(500.0, 0.6, 0.8), Level(200.0, 0.96, 0.28), Level(0.0, 1.0, 0.0)]
    many = levels.pick(levels.cosine(), 400, "trailing")
    for rows, s, noise in ((few[:2], 0.5, False), (few[:2], 0.5, True), (few, 0.5, False), (few, 2.0, True)):
        got = fn(list(rows), s, noise)
        number = torch.as_tensor(got).float() if isinstance(got, int | float | Tensor) else got
        changes = [c for c in ENDS if c not in ("never noise", "always noise")] + ["always noise", "never noise"]
        hint = hint_for(number, [(ends(rows, s, noise, c), ENDS[c]) for c in changes], within=1e-3)
        want = ends(rows, s, noise)
        expect(number, want, f"crowd_spread over {len(rows) - 1} steps, s = {s:g}, noise = {noise}", hint)
    wide, narrow = (float(fn(list(many), 0.5, noise)) for noise in (True, False))
    if abs(wide - 0.5) > 0.01 or narrow > 0.1:
        what = f"After 400 steps on data N(0, 0.5^2), crowd_spread gives {wide:.3f} with noise and {narrow:.3f} without"
        raise Wrong(what, "With its noise ddpm ends as wide as the data. Without, hardly anything is left.")


EXERCISES = (
    Exercise("05.dsm_loss", (
        "Make x noisy first. Then compare two slopes: the score's, and that of the bell curve around alpha * x0.",
        "log p(x | x0) is -|x - alpha x0|^2 / (2 sigma^2) and a constant. Its slope in x is -(x - alpha x0) / sigma^2, "
        "which is -eps / sigma.",
        "(level.sigma**2 * (score(x, level) + eps / level.sigma) ** 2).flatten(1).mean(1)",
    ), (loses_nothing_on_one_point,)),
    Exercise("05.collapse", (
        "Everything is linear: a step multiplies x by one number, and may add a draw that has nothing to do with x.",
        "x0 = a x and eps = (1 - alpha a) / sigma x, so the new x is (below.alpha a + kept (1 - alpha a) / sigma) x, "
        "plus fresh noise if there is any.",
        "variance = factor**2 * variance, and with noise + below.sigma**2 - kept**2; at the end math.sqrt(variance).",
    ), (tells_how_wide_the_crowd_is,)),
)  # fmt: skip
