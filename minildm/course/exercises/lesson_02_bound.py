"""Lesson 02, the bound and what becomes of the latents: the ELBO of a picture, and which latents speak at all."""

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.distributions import Normal

from ... import vae
from . import Exercise, Slips, Wrong, expect, hint_for, near, told
from .lesson_02 import normals

# 02.elbo

PER_PICTURE = (
    "Each picture has its own bound: (b,). Sum over what belongs to one picture, `.flatten(1).sum(1)`; any mean over "
    "the batch comes later."
)
MEAN_OF_PIXELS = (
    "The squared error was AVERAGED over the pixels. log p(x|z) is a sum: each pixel is one more fact that the decoder "
    "has to get right. Averaged, the error is as many times too small as there are pixels, and the KL wins."
)
MEAN_OF_LATENTS = "The KL was averaged over the latents. Each latent costs, and the costs add up."
UPSIDE_DOWN = "This is the loss, minus the ELBO. The bound itself is a log-probability: less error makes it larger."
ADDED = "The KL is a price, and has to be taken off: the ELBO is the fit MINUS the KL."
NO_PRICE = "The price of the latents is not taken off. Without the KL this is the fit alone, and above log p(x)."
ERROR_ADDED = "The sign of the error: the further off, the LESS likely is the picture, so it lowers the bound."
CONSTANT_ADDED = "The sign of the constant: the logarithm of a bell curve has MINUS 1/2 log(2 pi variance)."
NO_CONSTANT = (
    "The constant is missing: log p(x|z) of a bell curve also has -1/2 log(2 pi variance) for each pixel. No training "
    "feels it, but without it this is no bound on log p(x)."
)
ONE_CONSTANT = "-1/2 log(2 pi variance) belongs to EVERY pixel of a picture: times `x[0].numel()`, no more and no less."
WIDTH = "`variance` is s squared already: the error is divided by 2 * variance, and the logarithm is of 2 pi variance."
NO_HALF = "A bell curve has (x - out)^2 / (2 * variance) in its exponent: somewhere a factor 2 was lost."
UNWEIGHTED = "The squared error itself is in units of pixels; in nats it is divided by 2 * variance."
ONE_BY_ONE = "Look at its three parts one by one: error 0 and KL 0 first, then only the one, then only the other."


def bounds(x: Tensor, out: Tensor, mean: Tensor, logvar: Tensor, variance: float) -> tuple[Tensor, Slips]:
    """The right bounds, and what the usual mistakes make of them."""
    d, kl = x[0].numel(), vae.kl_divergence(mean, logvar)
    error, const = (x - out).square().flatten(1).sum(1), 0.5 * math.log(2 * math.pi * variance)
    wide = 0.5 * math.log(2 * math.pi * variance**2)  # for who takes the variance for a width
    right = -error / (2 * variance) - d * const - kl
    slips = [
        (-error / d / (2 * variance) - const - kl, MEAN_OF_PIXELS),
        (-error / d / (2 * variance) - d * const - kl, MEAN_OF_PIXELS),
        (-error / d / (2 * variance) - kl, MEAN_OF_PIXELS), (error / d / (2 * variance) + kl, MEAN_OF_PIXELS),
        (-error / d - kl, MEAN_OF_PIXELS), (error / d + kl, MEAN_OF_PIXELS),
        (right + kl - kl / mean[0].numel(), MEAN_OF_LATENTS), (-right, UPSIDE_DOWN), (-right - d * const, UPSIDE_DOWN),
        (right + 2 * kl, ADDED), (right + d * const, NO_CONSTANT), (right + (d - 1) * const, ONE_CONSTANT),
        (right + (d - len(x)) * const, ONE_CONSTANT), (right + (d - x.numel()) * const, ONE_CONSTANT),
        (right + kl, NO_PRICE), (right + d * const + kl, NO_PRICE), (right + 2 * d * const, CONSTANT_ADDED),
        (right + error / variance, ERROR_ADDED), (right + error / variance + d * const, ERROR_ADDED),
        (-error / (2 * variance**2) - d * wide - kl, WIDTH), (-error / (2 * variance) - d * wide - kl, WIDTH),
        (-error / (2 * variance**2) - d * const - kl, WIDTH), (-error / variance - d * const - kl, NO_HALF),
        (-error / (2 * variance) - 2 * d * const - kl, NO_HALF), (-error - d * const - kl, UNWEIGHTED),
        (-error - kl, UNWEIGHTED), (-0.5 * error - d * const - kl, UNWEIGHTED),
    ]  # fmt: skip
    return right, slips


def adds_up(fn: Callable) -> None:
    (x, off), (mean, logvar) = normals(3, 1, 4, 4, count=2, seed=0), normals(3, 2, count=2, seed=1)
    silent, out = torch.zeros(3, 2), x + off
    colour = normals(2, 3, 4, 6, count=2, seed=2), normals(2, 5, count=2, seed=3)
    cases = {
        "Rebuilt without error, latents silent": (x, x, silent, silent, 0.3),
        "With an error, latents silent": (x, out, silent, silent, 0.3),
        "Rebuilt without error, latents that speak": (x, x, mean, logvar, 0.3),
        "With an error, latents that speak": (x, out, mean, logvar, 0.3),
        "Colour pictures, 5 latents": (*colour[0], *colour[1], 0.05),
    }
    for name, given in cases.items():
        got, (right, _) = fn(*given), bounds(*given)
        if not near(got, right):  # where all its parts are at work every mistake leaves a mark of its own
            _, slips = bounds(x, out, mean, logvar, 0.3)
            whole = fn(x, out, mean, logvar, 0.3)
            forms = [(form, hint) for slip, hint in slips for form in (slip, slip.mean(), slip.sum())]
            otherwise = PER_PICTURE if isinstance(got, Tensor) and got.shape != right.shape else ONE_BY_ONE
            expect(got, right, f"{name}, variance {given[-1]}: elbo", hint_for(whole, forms, otherwise))


def is_a_log_probability(fn: Callable) -> None:
    """In the story with one pixel, the average over q of the true posterior's bound is log p(x)."""
    w, s2, count = 1.5, 0.36, 400
    x = torch.full((count, 1, 1, 1), 1.2)
    var = torch.tensor(s2 / (w**2 + s2))
    mean, logvar = torch.full((count, 1), w * 1.2 / (w**2 + s2)), var.log().repeat(count, 1)
    eps = Normal(0.0, 1.0).icdf((torch.arange(count) + 0.5) / count)[:, None]  # as if drawn, but evenly
    z = mean + var.sqrt() * eps
    found = fn(x, w * z[:, :, None, None], mean, logvar, s2).mean().item()
    wanted = Normal(0.0, math.sqrt(w**2 + s2)).log_prob(torch.tensor(1.2)).item()
    if not abs(found - wanted) < 0.02:
        raise Wrong(f"One pixel, one latent, the true posterior: {found:.3f} on average; log p(x) is {wanted:.3f}", "")


# 02.active

KIND = "One True or False for each latent: a tensor of dtype bool, (d,). A comparison such as `spread > 0.01` gives it."
OF_DRAWS = (
    "A silent latent has the posterior N(0, 1), so its DRAWS vary as widely as can be, and say nothing. Ask for the "
    "variance of the posterior's mean."
)
BY_PRICE = (
    "A KL above 0 does not prove that a latent speaks: one that says 0.8 of every picture, or is very sure of the same "
    "thing, costs nats and tells nothing. Does its mean CHANGE from picture to picture?"
)
ROOTED = "Compared with 0.01 is the variance, not its root: a deviation of 0.05 is a variance of 0.0025."
WITHIN = (
    "These are the variances inside each batch. If the batches are sorted, all that a latent tells may lie "
    "BETWEEN them. Put all means together first: `torch.cat`."
)
LAST_BATCH = "Only one of the batches counts here. Gather the means of all of them in a list, then `torch.cat`."
CENTRES = "Only the averages of whole batches are compared here. Keep the mean of every picture, then `torch.cat`."
BY_MEAN = "How large the means are on average is not the question, but how much they differ from picture to picture."
BY_WIDTH = (
    "How sure the encoder is, exp(logvar), is not the question: it can be sure of the same thing for every picture."
)
BATCHES_ALIKE = "A batch of 2 counts as much here as one of 200. Put all means together first, then take the variance."
OTHERWISE = "For each latent: the means of all pictures of all batches, their variance, and is that above 0.01?"

LATENTS = (
    "that follows the picture", "that is N(0, 1) for every picture", "that says 0.8 for every picture",
    "whose mean has a deviation of 0.05", "whose mean is another in each batch",
    "that is sure of the same for every picture", "that says 0.5 of 2 pictures in 300 and 0 of all others",
    "that follows the pictures of the first batch alone", "that follows those of the last batch alone",
)  # fmt: skip
SPEAK = torch.tensor([True, False, False, False, True, False, False, True, True])


def pretend(x: Tensor) -> tuple[Tensor, Tensor]:
    """An encoder whose latents are as `LATENTS` says: x (b, 3) -> mean and logvar (b, 9)."""
    own, batch, rare = x.T
    still = torch.zeros_like(own)
    parts = [own * (batch == which) for which in (-1, 1)]
    means = torch.stack([own, still, still + 0.8, 0.05 * own, batch, still, 0.5 * rare, *parts], 1)
    logvars = torch.stack([still - 2, still, still, still, still - 2, still - 3, still, still - 2, still - 2], 1)
    return means, logvars


class Batches(list):
    def __repr__(self) -> str:
        return f"{len(self)} batches"


def batches_of_pictures() -> list[Tensor]:
    made = Batches()
    for i, size in enumerate((100, 2, 198)):
        own = torch.linspace(-1, 1, size) * (3 * (size - 1) / (size + 1)) ** 0.5  # of variance 1 in every batch
        made.append(torch.stack([own, torch.full((size,), i - 1.0), torch.full((size,), float(size == 2))], 1))
    return made


def slips_of_active(batches: list[Tensor]) -> list[tuple[Tensor, str]]:
    parts = [pretend(x) for x in batches]
    mean, logvar = (torch.cat(part) for part in zip(*parts, strict=True))
    within = torch.stack([part.var(0) for part, _ in parts])
    centres = torch.stack([part.mean(0) for part, _ in parts])
    squares = torch.stack([part.square().mean(0) for part, _ in parts])
    alike = squares.mean(0) - centres.mean(0) ** 2
    price = 0.5 * (mean**2 + logvar.exp() - 1 - logvar).mean(0)
    found = [
        (mean.var(0) + logvar.exp().mean(0), OF_DRAWS), (price, BY_PRICE), (mean.std(0), ROOTED),
        (within.mean(0), WITHIN), (within[-1], LAST_BATCH), (within[0], LAST_BATCH),
        (mean.mean(0).abs(), BY_MEAN), (mean.abs().mean(0), BY_MEAN),
        (centres.var(0), CENTRES), ((1 - logvar.exp()).mean(0), BY_WIDTH), (alike, BATCHES_ALIKE),
    ]  # fmt: skip
    return [(value > 0.01, hint) for value, hint in found]


def finds_those_that_speak(fn: Callable) -> None:
    batches = batches_of_pictures()
    got = fn(pretend, batches)
    if not isinstance(got, Tensor) or got.shape != SPEAK.shape or got.dtype != torch.bool:
        said = f"{got.dtype}, {tuple(got.shape)}" if isinstance(got, Tensor) else told(got)
        raise Wrong(f"3 batches, an encoder with 9 latents: active gives {said}; it should be torch.bool, (9,)", KIND)
    if not torch.equal(got, SPEAK):
        at = int((got != SPEAK).nonzero()[0])
        hint = next((hint for slip, hint in slips_of_active(batches) if torch.equal(got, slip)), OTHERWISE)
        said = "active" if got[at] else "silent"
        raise Wrong(f"A latent {LATENTS[at]} is called {said}; it is not", hint)


EXERCISES = (
    Exercise("02.elbo", (
        "Three parts: the error in nats, a constant for each pixel, and the KL.",
        "The log of the bell curve N(out, variance) at x is -(x - out)^2 / (2 variance) - 1/2 log(2 pi variance) "
        "for every pixel. Add them up, picture by picture.",
        "`torch.distributions.Normal(out, variance**0.5).log_prob(x).flatten(1).sum(1)` is the fit; take off "
        "`vae.kl_divergence(mean, logvar)`.",
    ), (adds_up, is_a_log_probability)),
    Exercise("02.active", (
        "Encode every batch, keep its means, put all of them together, and ask how much they vary.",
        "`encode(x)` gives two things; of a list of tensors `torch.cat` makes one, (all pictures, d).",
        "`means.var(0)` is one variance for each latent; compare it with 0.01.",
    ), (finds_those_that_speak,)),
)  # fmt: skip
