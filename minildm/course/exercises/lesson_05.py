"""Lesson 05, the perfect denoiser: the best answer for a mixture, and a step by one who knows only the score."""

from collections.abc import Callable
from itertools import pairwise

import torch
from torch import Tensor

from ... import exact, levels
from ...levels import Level
from . import Exercise, Wrong, expect, hint_for

# 05.posterior_mean

PLANE = (torch.tensor([[-1.2, -0.6], [1.2, -0.4], [0.2, 1.1]]), torch.tensor([0.25, 0.15, 0.4]),
         torch.tensor([0.3, 0.2, 0.5]))  # fmt: skip
LINE = (torch.tensor([[-1.0], [0.5]]), torch.tensor([0.2, 0.6]), torch.tensor([0.7, 0.3]))
MIDDLE = Level(500.0, 0.6, 0.8)


def by_quadrature(x: Tensor, level: Level, means: Tensor, spread: Tensor, weights: Tensor) -> Tensor:
    """E[x0 | x] of a mixture on a line by adding up x0 p(x0) p(x | x0) on a fine grid: x (b, 1) -> (b, 1)."""
    grid = torch.linspace(-8, 8, 40_001, dtype=torch.float64)
    prior = weights * (-((grid[:, None] - means[:, 0]) ** 2) / (2 * spread**2)).exp() / spread  #   (grid, modes)
    fit = -((x.double() - level.alpha * grid) ** 2) / (2 * level.sigma**2)  #                         (b, grid)
    mass = prior.sum(1) * (fit - fit.amax(1, keepdim=True)).exp()
    return ((mass * grid).sum(1, keepdim=True) / mass.sum(1, keepdim=True)).float()


def voted(x: Tensor, level: Level, mixture: tuple[Tensor, Tensor, Tensor], change: str = "") -> Tensor:
    """The best answer, or the one that a change to it leads to."""
    means, spread, weights = mixture
    alpha, sigma = level.alpha, level.sigma
    variance = (1 if change == "clean spread" else alpha**2) * spread**2 + sigma**2
    distance = (x[:, None] - (1 if change == "clean means" else alpha) * means).square().sum(-1)
    height = {"no height": 0, "height of a line": 1}.get(change, means.shape[1])
    logs = -distance / (2 * variance) - height / 2 * variance.log()
    share = (logs if change == "no weights" else logs + weights.log()).softmax(1)
    if change == "winner":
        share = torch.nn.functional.one_hot(share.argmax(1), len(means)).to(x)
    pull = alpha * spread**2 / variance * (change != "means only")
    own = means + pull[:, None] * (x[:, None] - alpha * means)  #                            (b, modes, d)
    return (share[..., None] * own).sum(1)


VOTES = {
    "no weights": "The modes are not equally likely before you look at x. Multiply each mode's vote by its weight.",
    "clean means": "In x the modes no longer stand at `means`: noising shrinks the data, and they stand at "
    "`level.alpha * means`.",
    "clean spread": "Noising shrinks a mode's own spread by alpha before it adds the noise: the variance of x is "
    "`level.alpha**2 * spread**2 + level.sigma**2`.",
    "no height": "A wide bell curve is lower than a narrow one. Its height, 1 / sqrt(variance) for each coordinate, is "
    "part of the vote, and it does not cancel where the spreads differ.",
    "height of a line": "The height of a bell curve is 1 / sqrt(variance) for EACH coordinate: with d coordinates, to "
    "the power of d. On a line it was right.",
    "winner": "You let the likeliest mode win. The answer with the least squared error is an average of all modes, "
    "each with its share.",
    "means only": "That is the average of the modes' means. But within its mode x0 varies too, and x tells something "
    "about it: each mode answers as a single bell curve does.",
}
LOGS = (
    "Far from all modes every exp(-distance) is 0 in float32, and 0 / 0 is nan. Keep the votes as logarithms and give "
    "them to `softmax`, which subtracts the largest first."
)


def averages_the_modes(fn: Callable) -> None:
    line = torch.linspace(-3, 3, 25)[:, None]
    plane = torch.cartesian_prod(torch.linspace(-2, 2, 7), torch.linspace(-2, 2, 7))
    for x, mixture in ((line, LINE), (plane, PLANE)):
        got = fn(x, MIDDLE, *mixture)
        want = by_quadrature(x, MIDDLE, *mixture) if x.shape[1] == 1 else exact.posterior_mean(x, MIDDLE, *mixture)
        hint = hint_for(got, [(voted(x, MIDDLE, mixture, change), VOTES[change]) for change in VOTES], within=1e-3)
        expect(got, want, f"posterior_mean for {len(mixture[0])} modes in {x.shape[1]}-D at alpha 0.6", hint)
    far, clean = torch.tensor([[30.0, -20.0], [0.1, 0.2]]), Level(10.0, 0.999, 0.04)
    want = exact.posterior_mean(far, clean, *PLANE)
    expect(fn(far, clean, *PLANE), want, "posterior_mean far from all modes, with little noise", LOGS)


# 05.score

STEP = (Level(600.0, 0.6, 0.8), Level(400.0, 0.8, 0.6))


def bell(x: Tensor, level: Level) -> Tensor:
    """The score of noisy data N(0.5, 0.3^2) in each coordinate."""
    return -(x - level.alpha * 0.5) / (level.alpha**2 * 0.09 + level.sigma**2)


def steps_with_a_score(fn: Callable) -> None:
    level, below = STEP
    x = torch.tensor([[-1.5, 0.2, 0.9], [0.3, 2.0, -0.4]])
    slope = bell(x, level)
    x0, eps = (x + level.sigma**2 * slope) / level.alpha, -level.sigma * slope

    def to(clean: Tensor, noise: Tensor, row: Level = below) -> Tensor:
        return row.alpha * clean + row.sigma * noise

    known = [
        (to(x0, -eps), "The score points towards the data, the noise away from it: eps is MINUS sigma "
         "times the score."),
        (to(x0, -slope), "A score is measured per unit of x, noise in units of sigma: eps = -sigma * score."),
        (to((x + level.sigma * slope) / level.alpha, eps), "Tweedie's formula has sigma SQUARED: the score is a slope, "
         "(logarithm) per unit of x."),
        (to(x + level.sigma**2 * slope, eps), "`x + sigma**2 * score` is alpha times x0: in this frame the data "
         "were shrunk by alpha. Divide by it."),
        (to(x0, eps, level), "You put picture and noise together at the level you came from, and stay where you "
         "are. The new x takes both numbers of `below`."),
        (to(x0, eps, Level(0.0, below.alpha, level.sigma)), "The new x takes both numbers of `below`, alpha and sigma; "
         "you take one of the old level."),
        (x0, "That is the clean picture guessed in one go. One look is not enough: go to `below` only, and keep the "
         "noise that belongs there."),
    ]  # fmt: skip
    got = fn(bell, x, level, below)
    hint = hint_for(got, known, within=1e-3)
    expect(got, to(x0, eps), "step from sigma 0.8 to sigma 0.6", hint)
    rows = levels.pick(levels.cosine(), 200, "trailing")
    crowd = torch.tensor([[-2.0], [-1.0], [0.0], [1.0], [2.0]])
    for level, below in pairwise(rows):
        crowd = fn(bell, crowd, level, below)
    if (crowd - (0.5 + 0.3 * torch.arange(-2.0, 3.0)[:, None])).abs().max() > 0.02:
        what = f"200 steps lead a start at 2.0 to {crowd[-1].item():.3f}; for the data N(0.5, 0.3^2) it should be 1.1"
        raise Wrong(what, "Use the level and the row below that you are given, in every step.")


EXERCISES = (
    Exercise("05.posterior_mean", (
        "Two questions: how likely is it that x came from mode k, and what does mode k alone answer? Then average.",
        "Mode k in x: mean alpha * means[k], variance alpha^2 spread[k]^2 + sigma^2. Its vote is its weight times the "
        "height of that bell curve at x; take logarithms, and `softmax` over the modes.",
        "own = means + pull[:, None] * (x[:, None] - alpha * means), with pull = alpha * spread**2 / variance: it is "
        "(b, k, d). Multiply by the shares (b, k, 1) and add up over the modes.",
    ), (averages_the_modes,)),
    Exercise("05.score", (
        "What ddim needs is a clean picture and a noise. Both can be had from the score.",
        "Tweedie: x0 = (x + sigma^2 score) / alpha. The noise is what is left: eps = (x - alpha x0) / sigma.",
        "eps is then -sigma * score. Put both together with the two numbers of `below`.",
    ), (steps_with_a_score,)),
)  # fmt: skip
