"""Lesson 02, the two halves of a VAE's loss: what a latent costs, and drawing one with a gradient."""

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.distributions import Normal, kl_divergence

from . import Exercise, Slips, Wrong, expect, hint_for, near, seeded


def normals(*shape: int, count: int, seed: int) -> tuple[Tensor, ...]:
    generator = seeded(seed)
    return tuple(torch.randn(shape, generator=generator) for _ in range(count))


# 02.kl

ONE_EACH = (
    "One number for each picture of the batch, (b,): `.flatten(1).sum(1)` adds up all that belongs to one picture and "
    "leaves the batch alone."
)
AVERAGED = "The latents of a picture each cost something, and the price of all is the SUM. This is their average."
TURNED = (
    "Turned round: this is KL(prior || q), averaged over draws of the prior. The order matters. It is q that is drawn "
    "from, so it is q's variance that stands above the prior's."
)
IGNORED = "This is the price against N(0, 1), whatever prior is given: `prior_mean` and `prior_logvar` are not used."
NOT_SCALED = (
    "The distance of the means is not divided by the prior's variance. A narrow prior makes the same step aside dear, "
    "a wide one cheap."
)
LOG_OF_SIGMA = (
    "The networks give log(sigma^2), so exp(logvar) is the variance already. It is squared again here, or taken for "
    "the deviation."
)
NO_EXP = "logvar is a logarithm: the variance in the formula is `logvar.exp()`."
HALF = "Twice as much as it should be: both logarithms of bell curves carry a factor 1/2."
SIGN = "The sign: a KL divergence is never below 0. It is log q - log p that is averaged, and not log p - log q."
NOT_ZERO = "Two equal curves cost nothing. With mean and prior_mean equal, what is left must cancel: where is the -1?"
NO_GAP = "`prior_mean` is not used. What costs is the distance of the two means, and not of one from 0."
SUBTRACTED = (
    "A divergence is no height above sea level: the price of one curve minus the price of the other is not the price "
    "between the two. Write log q - log p out anew."
)
BY_DRAWS = (
    "Asked twice, it says two things: it seems to draw. For two bell curves there is no need, the averages of z and of "
    "(z - prior_mean)^2 are known."
)
FROM_PARTS = "Take it apart: equal means and different variances first, then equal variances and different means."


def prices(mean: Tensor, logvar: Tensor, prior_mean: Tensor, prior_logvar: Tensor) -> tuple[Tensor, Slips]:
    """The right prices, and what the usual mistakes make of them."""
    v, w, gap = logvar.exp(), prior_logvar.exp(), (mean - prior_mean) ** 2
    each = 0.5 * (prior_logvar - logvar + (v + gap) / w - 1)
    alone = 0.5 * (mean**2 + v - 1 - logvar)
    slips = [
        (each.flatten(1).mean(1), AVERAGED), (2 * each.flatten(1).sum(1), HALF), (-each.flatten(1).sum(1), SIGN),
        (alone.flatten(1).sum(1), IGNORED), ((each + 0.5).flatten(1).sum(1), NOT_ZERO),
        ((0.5 * (logvar - prior_logvar + (w + gap) / v - 1)).flatten(1).sum(1), TURNED),
        ((0.5 * (prior_logvar - logvar + v / w + gap - 1)).flatten(1).sum(1), NOT_SCALED),
        ((0.5 * (prior_logvar - logvar + (v**2 + gap) / w**2 - 1)).flatten(1).sum(1), LOG_OF_SIGMA),
        ((prior_logvar - logvar + 0.5 * ((v**2 + gap) / w**2 - 1)).flatten(1).sum(1), LOG_OF_SIGMA),
        ((0.5 * (prior_logvar - logvar + (v + mean**2) / w - 1)).flatten(1).sum(1), NO_GAP),
        ((alone - 0.5 * (prior_mean**2 + w - 1 - prior_logvar)).flatten(1).sum(1), SUBTRACTED),
        ((0.5 * (prior_logvar - logvar + (logvar + gap) / prior_logvar - 1)).flatten(1).sum(1), NO_EXP),
    ]  # fmt: skip
    return each.flatten(1).sum(1), slips


def costs_nothing_when_equal(fn: Callable) -> None:
    zero, (mean, logvar) = torch.zeros(2, 3), normals(2, 3, count=2, seed=0)
    for name, given in {"Both curves N(0, 1)": (zero, zero) * 2, "Both curves the same": (mean, logvar) * 2}.items():
        got = fn(*given)
        if not near(got, torch.zeros(2)):  # two curves that differ tell the mistakes apart
            different = normals(2, 3, count=4, seed=4)
            _, slips = prices(*different)
            otherwise = NO_EXP if isinstance(got, Tensor) and got.isnan().any() else NOT_ZERO
            hint = hint_for(fn(*different), slips, otherwise)
            expect(got, torch.zeros(2), f"{name}, 2 pictures of 3 latents: kl", shaped(got, zero, hint))


def shaped(got: object, mean: Tensor, otherwise: str) -> str:
    wrong_shape = isinstance(got, Tensor) and got.shape != (len(mean),)
    return ONE_EACH if wrong_shape else otherwise


def is_torchs_divergence(fn: Callable) -> None:
    standard = torch.zeros(4, 3)
    cases = {"against N(0, 1)": (*normals(4, 3, count=2, seed=1), standard, standard)}
    cases["two different curves"] = normals(4, 3, count=4, seed=2)
    cases["latents that are small pictures, (3, 4, 2, 2)"] = normals(3, 4, 2, 2, count=4, seed=3)
    for name, given in cases.items():
        mean, logvar, prior_mean, prior_logvar = given
        got, (_, slips) = fn(*given), prices(*given)
        curves = Normal(mean, (0.5 * logvar).exp()), Normal(prior_mean, (0.5 * prior_logvar).exp())
        want = kl_divergence(*curves).flatten(1).sum(1)
        if isinstance(got, Tensor) and got.shape == want.shape and not torch.equal(got, fn(*given)):
            raise Wrong(f"{name}: kl gives {got[0]:.3f}, and the next time something else", BY_DRAWS)
        expect(got, want, f"{name}: kl", shaped(got, mean, hint_for(got, slips, FROM_PARTS)))


# 02.reparam

SHAPE = "All draws of all pictures at once: a tensor (count, b, d), so its noise has the shape (count, *mean.shape)."
VARIANCE = "exp(logvar) is the variance; what stretches the noise is its root, the deviation: exp(logvar / 2)."
LOG_AS_WIDTH = "The logarithm itself stretches the noise here. It may be negative; a width is exp(logvar / 2)."
UNIFORM = "This noise is no bell curve around 0. `torch.rand` is even between 0 and 1; `torch.randn` is the bell."
TOO_NARROW = (
    "The draws are much too close to the mean. The noise has to have the spread 1, or the KL speaks of another q than "
    "the one that is drawn from."
)
WHICH = "Which of the two is off? The mean is what is added; the variance is the square of what stretches the noise."
ONE_NOISE = "All draws of a picture have the same noise: it was drawn once and copied. Draw (count, b, d) numbers."
ONE_FOR_BATCH = "All pictures of the batch share one noise. Each picture, and each latent, needs its own."
NO_WAY_BACK = (
    "The result has no way back to `mean` and `logvar`: it was sampled, and a dice roll has no slope. Draw noise that "
    "knows of neither, then shift and stretch it with plain arithmetic."
)
CUT = "There is no gradient to logvar: a `.detach()`, `.data` or `no_grad` cuts it off, and the width never learns."
SAME_SEED = (
    "Two generators with different seeds give the same draws, so the seed is set inside. In training every step would "
    "see the same noise."
)
OTHER_NOISE = "The same seed gives different draws. Hand the generator on: `torch.randn(..., generator=generator)`."


def has_the_shape(fn: Callable) -> None:
    got = fn(torch.zeros(2, 3), torch.zeros(2, 3), 5, seeded(0))
    if not isinstance(got, Tensor) or got.shape != (5, 2, 3):
        said = f"the shape {tuple(got.shape)}" if isinstance(got, Tensor) else f"a {type(got).__name__}"
        raise Wrong(f"5 draws for 2 pictures of 3 latents: draws gives {said}; it should be (5, 2, 3)", SHAPE)


def has_mean_and_variance(fn: Callable) -> None:
    mean, variance = torch.tensor([[2.0, -1.0], [0.0, 3.0]]), torch.tensor([[0.25, 4.0], [1.0, 0.5]])
    z = fn(mean, variance.log(), 20_000, seeded(1)).detach()
    found, spread = z.mean(0), z.var(0)
    off_mean, off = (found - mean).abs() > 0.1, (spread - variance).abs() > 0.1 * variance + 0.02
    if (off_mean | off | spread.isnan()).any():
        at = tuple((off_mean | off | spread.isnan()).nonzero()[0].tolist())
        asked = f"mean {mean[at]:.2f} and variance {variance[at]:.2f}"
        what = f"20,000 draws with {asked} have mean {found[at]:.2f} and variance {spread[at]:.2f}"
        squares = {VARIANCE: variance**2, LOG_AS_WIDTH: variance.log() ** 2}
        hint = next((hint for hint, v in squares.items() if torch.allclose(spread, v, 0.15, 0.02)), "")
        if not hint and (spread < 0.5 * variance).all():
            hint = UNIFORM if off_mean.any() else TOO_NARROW
        raise Wrong(what, hint or (LOG_AS_WIDTH if spread.isnan().any() else WHICH))
    if ((z - mean) / variance.sqrt()).abs().max() < 2.5:
        raise Wrong("Of 20,000 draws not one is 2.5 deviations from its mean; of a bell, one in 80 is", UNIFORM)


def draws_each_its_own(fn: Callable) -> None:
    eps = fn(torch.zeros(3, 2), torch.full((3, 2), math.log(4)), 6, seeded(2)).detach()
    for axis, whose, hint in ((0, "draw", ONE_NOISE), (1, "picture", ONE_FOR_BATCH), (2, "latent", ONE_FOR_BATCH)):
        first, second = eps.select(axis, 0), eps.select(axis, 1)
        if torch.allclose(first, second):
            raise Wrong(f"With equal curves {whose} 0 and {whose} 1 are the same, number by number", hint)


def has_gradients(fn: Callable) -> None:
    mean, logvar = (value.requires_grad_() for value in normals(3, 2, count=2, seed=3))
    z = fn(mean, logvar, 4, seeded(4))
    if not z.requires_grad:
        raise Wrong("Nothing can be learned through this: draws gives a tensor without a gradient", NO_WAY_BACK)
    to_mean, to_logvar = torch.autograd.grad(z.sum(), (mean, logvar), allow_unused=True)
    if to_mean is None:
        raise Wrong("Move a mean by a little, and no draw moves", NO_WAY_BACK)
    if to_logvar is None:
        raise Wrong("Change a logvar by a little, and no draw moves", CUT)
    expect(to_mean, torch.full((3, 2), 4.0), "The sum of 4 draws, by each mean (1 for each draw)", NO_WAY_BACK)
    wanted = ((z - mean) / 2).sum(0).detach()
    expect(to_logvar, wanted, "The sum of 4 draws, by each logvar ((z - mean) / 2 for each draw)", VARIANCE)


def takes_the_generator(fn: Callable) -> None:
    given = torch.zeros(2, 2), torch.zeros(2, 2), 3
    first, again, other = (fn(*given, seeded(seed)).detach() for seed in (5, 5, 6))
    if not torch.equal(first, again):
        raise Wrong("Two generators with the seed 5 give different draws", OTHER_NOISE)
    if torch.equal(first, other):
        raise Wrong("The seeds 5 and 6 give the same draws", SAME_SEED)


EXERCISES = (
    Exercise("02.kl", (
        "Write log q(z) and log p(z) of a bell curve, subtract, and put in the two averages. The constants cancel.",
        "log q(z) = -1/2 (log 2 pi + logvar + (z - mean)^2 / variance). Averaged over q, its last part is 1; in "
        "log p(z) it is (variance + (mean - prior_mean)^2) / prior_variance.",
        "Each latent costs 0.5 * (prior_logvar - logvar + (variance + (mean - prior_mean)**2) / prior_variance - 1). "
        "Then `.flatten(1).sum(1)`.",
    ), (costs_nothing_when_equal, is_torchs_divergence)),
    Exercise("02.reparam", (
        "Three steps: the width from logvar, noise for every draw of every picture, shift and stretch.",
        "`torch.randn(count, *mean.shape, generator=generator)` is the noise, (count, b, d). Which width stretches it?",
        "mean + (0.5 * logvar).exp() * eps. (b, d) meets (count, b, d) from the right, so nothing has to be copied.",
    ), (has_the_shape, draws_each_its_own, has_mean_and_variance, has_gradients, takes_the_generator)),
)  # fmt: skip
