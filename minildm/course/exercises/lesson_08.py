"""Lesson 08, samplers: the step of ddim with eta, and the way back from a picture to its noise."""

import math
from collections.abc import Callable
from itertools import pairwise

import torch
from torch import Tensor

from ... import exact, sample
from ...levels import Denoiser, Level
from . import Exercise, Wrong, expect, hint_for, seeded

THREE = exact.denoiser(torch.tensor([[-1.0], [0.3], [1.2]]), torch.tensor([0.3, 0.2, 0.4]))
BELL = exact.denoiser(torch.zeros(1, 1), 0.5)


def even(steps: int, low: float = -5.0, high: float = 5.0) -> list[Level]:
    """steps + 1 rows, evenly spaced in log-SNR from `low` (noisy) up to `high`, with alpha^2 + sigma^2 = 1."""
    logs = torch.linspace(low, high, steps + 1, dtype=torch.float64)
    return [Level(500.0, log.sigmoid().sqrt().item(), (-log).sigmoid().sqrt().item()) for log in logs]


def width(level: Level, s: float = 0.5) -> float:
    """The standard deviation of noisy data, where the clean ones have s."""
    return math.hypot(level.alpha * s, level.sigma)


# 08.ddim

ETA = {
    "direction": "The old noise keeps the factor of the fresh one. But together they have to make up sigma' = "
    "below.sigma: the old noise's factor is the ROOT of `below.sigma**2 - fresh**2`. At eta = 0 that is all of it.",
    "no room": "The fresh noise comes on top of all of the old. Then x is noisier than `below` says: the old noise "
    "has to make room, k^2 = below.sigma^2 - fresh^2.",
    "room of ddpm": "The old noise always makes the room that DDPM needs, though at a smaller eta less comes in.",
    "beta": "That is beta, the noise of a step FORWARD. Coming back we know x0 as well, which leaves less doubt: "
    "beta times below.sigma^2 / level.sigma^2, called beta-tilde.",
    "variance": "z is multiplied by a standard deviation, the ROOT of the variance.",
    "eta once": "eta multiplies the standard deviation of the fresh noise, so its variance gets eta SQUARED.",
    "differences": "Standard deviations do not subtract; variances do: k^2 = below.sigma^2 - fresh^2.",
    "eps below": "x lies at `level`, so it is read with the two numbers of `level`: eps = (x - level.alpha * x0) / "
    "level.sigma.",
    "old alpha": "The clean picture comes back with the factor of the row where x will lie, below.alpha.",
    "never": "No fresh noise comes in, whatever eta is. Look at the quotient under the root: alpha / alpha' is "
    "level.alpha / below.alpha, below 1. Upside down, the room is negative.",
    "no eta": "Your answer does not depend on eta. It scales the fresh noise: 0 for none, 1 for all that DDPM adds.",
}  # fmt: skip
NEGATIVE = (
    "From a row to itself nothing happens. There sigma^2 - (alpha / alpha')^2 sigma'^2 is 0, and rounding may make it "
    "a little less, whose root is nan: take `max(..., 0.0)` first."
)
CLEAN = "In the last step below.sigma is 0: no noise is left, neither old nor fresh, and x is x0 times below.alpha."


def stepped(x: Tensor, x0: Tensor, level: Level, below: Level, eta: float, z: Tensor, change: str = "") -> Tensor:
    """The step, or what a change to it leads to."""
    eta = {"no eta": 1.0, "never": 0.0}.get(change, eta)
    ratio = level.alpha / below.alpha
    beta = max(1 - ratio**2, 0.0)  # of rows with alpha^2 + sigma^2 = 1
    tilde = below.sigma**2 / level.sigma**2 * max(level.sigma**2 - (ratio * below.sigma) ** 2, 0.0)
    variance = beta if change == "beta" else tilde
    fresh = math.sqrt(eta * variance) if change == "eta once" else eta * math.sqrt(variance)
    fresh = eta**2 * variance if change == "variance" else fresh
    kept = math.sqrt(max(below.sigma**2 - fresh**2, 0.0))
    kept = {"direction": fresh, "no room": below.sigma, "differences": below.sigma - fresh,
            "room of ddpm": math.sqrt(max(below.sigma**2 - variance, 0.0))}.get(change, kept)  # fmt: skip
    read = below if change == "eps below" else level
    eps = (x - read.alpha * x0) / read.sigma
    return (level if change == "old alpha" else below).alpha * x0 + kept * eps + fresh * z


def steps_with_eta(fn: Callable) -> None:
    x, x0, z = torch.randn(3, 4, 2, generator=seeded(8))
    level, below = Level(600.0, 0.6, 0.8), Level(500.0, 0.72, math.sqrt(1 - 0.72**2))
    for eta in (0.0, 1.0, 0.5):
        got = fn(x, x0, level, below, eta, z)
        telling = ETA
        if eta == 0:  # without fresh noise several mistakes look alike
            telling = ("direction", "room of ddpm", "eps below", "no eta", "old alpha")
        known = [(stepped(x, x0, level, below, eta, z, change), ETA[change]) for change in telling]
        hint = hint_for(got, known, within=1e-3)
        expect(got, stepped(x, x0, level, below, eta, z), f"ddim_step at eta = {eta:g}", hint)
    # The same at eta = 1 without any formula of DDIM's: Bayes joins what x0 says and what x says.
    ratio = level.alpha / below.alpha
    precision = 1 / below.sigma**2 + ratio**2 / (level.sigma**2 - (ratio * below.sigma) ** 2)
    swing = fn(x, x0, level, below, 1.0, z + 1) - fn(x, x0, level, below, 1.0, z)
    expect(swing**2, torch.full_like(x, 1 / precision), "The variance of ddim_step at eta = 1", ETA["beta"])


def stays_and_arrives(fn: Callable) -> None:
    x, x0, z = torch.randn(3, 4, 2, generator=seeded(9))
    for sigma in (0.8, 0.3, 0.777):
        level = Level(600.0, math.sqrt(1 - sigma**2), sigma)
        expect(fn(x, x0, level, Level(*level), 1.0, z), x, f"ddim_step from sigma {sigma} to sigma {sigma}", NEGATIVE)
    end = Level(0.0, 1.0, 0.0)
    expect(fn(x, x0, Level(90.0, 0.96, 0.28), end, 1.0, z), x0, "ddim_step to the clean row", CLEAN)


# 08.invert

WAY_BACK = {
    "one look": "That is one look: eps was asked where you come from. Going down, ddim will ask it where you ARRIVE. "
    "Put what you found into the right side again, until it no longer moves.",
    "chained": "Each turn has to start from the same x, the picture at the lower row: `guess = a * x + b * "
    "eps(guess)`. Yours writes over x, and so climbs the same step again and again.",
    "lower level": "The guess lies at the UPPER row: ask the denoiser there, and read eps with the numbers of "
    "that row.",
    "upside down": "Look at a again: on the way up the picture gets weaker, so it is alpha_up / alpha_low, below 1.",
}
EARLY = "You return after the first two rows. The `return` belongs behind the outer loop."
ORDER = "Go through the rows in the order in which they come: `for low, up in itertools.pairwise(rows)`."
DIVIDED = (
    "nan comes from 0 / 0: in the clean row there is no noise to divide by. Ask only at the upper row of each step."
)
DRAWN = (
    "The noise of this picture is to be found, not drawn: `alpha * x + sigma * randn` is another one each time, and "
    "leads to another picture."
)
MORE = "Is the guess put in again often enough? Fifty turns do no harm: they cost little here."


def climbed(denoise: Denoiser, x: Tensor, rows: list[Level], change: str = "", turns: int = 50) -> Tensor:
    """The noise of x, or what a change leads to."""
    for low, up in pairwise(rows):
        a = low.alpha / up.alpha if change == "upside down" else up.alpha / low.alpha
        b, guess = up.sigma - a * low.sigma, x
        for _ in range(1 if change == "one look" else turns):
            at = low if change == "lower level" and low.sigma else up
            eps = (guess - at.alpha * denoise(guess, at)) / at.sigma
            guess = a * (guess if change == "chained" else x) + b * eps
        x = guess
    return x


def comes_back(fn: Callable) -> None:
    for denoise, what in ((BELL, "one bell curve"), (THREE, "three modes")):
        rows = [Level(0.0, 1.0, 0.0), *even(12, -3.0, 4.0)[::-1]]  # cleanest first
        x = torch.tensor([[-0.9], [-0.4], [0.2], [0.8], [1.1]], dtype=torch.float64)
        found, again = fn(denoise, x, list(rows)), fn(denoise, x, list(rows))
        call = f"invert, for data of {what}"
        if not isinstance(found, Tensor) or found.shape != x.shape:
            expect(found, x, call, "Return x at the last row, one tensor of the shape of the picture.")
        if found.isnan().any():
            raise Wrong(f"{call}, has nan in it", DIVIDED)
        if not torch.equal(found, again):
            raise Wrong(f"{call}, gives two different noises for one picture", DRAWN)
        *_, back = sample.ddim(denoise, found, rows[::-1])
        far = (back - x).abs().max().item()
        if not far < 1e-3:
            known = [(climbed(denoise, x, rows, c), WAY_BACK[c]) for c in WAY_BACK]
            wrong_way = rows[::-1][:-1]
            known += [(climbed(denoise, x, rows[:2]), EARLY), (climbed(denoise, x, wrong_way), ORDER),
                      (climbed(denoise, x, wrong_way, "one look"), ORDER)]  # fmt: skip
            what = f"{call}: ddim leads your noise to a picture {far:.2g} away; it should be less than 0.001"
            raise Wrong(what, hint_for(found, known, WAY_BACK["chained"] if far > 100 else MORE, within=1e-3))
    rows = [Level(0.0, 1.0, 0.0), *even(40)[::-1]]
    x = torch.tensor([[-0.9], [0.2], [0.8]], dtype=torch.float64)
    found = fn(BELL, x, list(rows))
    if not torch.allclose(found, x / 0.5 * width(rows[-1]), rtol=0.1):
        raise Wrong("40 rows on data N(0, 0.5^2) do not lead to x / 0.5 times the width of the last row", MORE)


EXERCISES = (
    Exercise("08.ddim", (
        "Three lines: the noise that is in x; how much fresh noise comes in; how much of the old noise may stay.",
        "fresh = eta * below.sigma / level.sigma * sqrt(level.sigma^2 - (level.alpha / below.alpha * below.sigma)^2), "
        "and kept^2 + fresh^2 = below.sigma^2.",
        "eps = (x - level.alpha * x0) / level.sigma; the result is below.alpha * x0 + kept * eps + fresh * z. Guard "
        "both roots with max(..., 0.0).",
    ), (steps_with_eta, stays_and_arrives)),
    Exercise("08.invert", (
        "Two loops: the outer goes up the rows, the inner puts a guess for x_up into the right side until it is still.",
        "a = up.alpha / low.alpha and b = up.sigma - a * low.sigma. Begin with guess = x; eps is asked with the guess, "
        "at `up`.",
        "In the inner loop: eps = (guess - up.alpha * denoise(guess, up)) / up.sigma, then guess = a * x + b * eps. "
        "After it: x = guess.",
    ), (comes_back,)),
)  # fmt: skip
