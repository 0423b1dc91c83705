"""Lesson 12, latents: the scale factor, and the way into them and back."""

from collections.abc import Callable
from numbers import Real

import torch
from torch import Tensor

from . import Exercise, Wrong, expect, hint_for, seeded, told

# 12.scale

INVERSE = "This is the standard deviation itself. The factor is what brings it to 1: divide 1 by it."
SUMMED = (
    "More pictures must not make the factor smaller. This is the root of the SUM of the batches' variances (the bug of "
    "the museum); a variance is a mean."
)
BETWEEN = (
    "Batches differ in their means, and that is spread too: a mean of the batches' own variances misses it. Keep all "
    "latents and measure once, each around the mean of ALL."
)
OF_STDS = "A mean of standard deviations is no standard deviation: variances add up, their roots do not."
FIRST = (
    "This is the first batch alone. Published code does so, with one large batch of mixed pictures; these batches are "
    "small and differ."
)
EQUALLY = "The batches are not equally long. Averaging one number for each lets a picture of the short one count more."
ABOUT_ZERO = "Subtract the mean first: the spread is measured around it, and these latents have a mean far from 0."
ROOTLESS = "This is 1 / variance. The noise is measured by its standard deviation, so the root is missing."
DRAWN = (
    "These are draws, mean + sigma * eps, and their spread holds the encoder's own noise. The diffusion model is given "
    "the means: measure those, the first of the two that `encode` gives."
)
PER_CHANNEL = (
    "One number for all channels is asked for. With one for each, what differed between channels is lost; that may "
    "train well (some models do it), but the decoder's side needs the same numbers."
)
LATENTS = "These are the scaled latents themselves. Return the factor alone: others will multiply by it."
FAMOUS = "0.18215 is the factor of Stable Diffusion's autoencoder. Every autoencoder has its own: measure."


def toy(pictures: Tensor) -> tuple[Tensor, Tensor]:
    """An encoder that halves the picture: means of three sizes in four channels, and logvar 1."""
    small = torch.nn.functional.avg_pool2d(pictures, 2)
    mean = torch.cat([2 * small, small[:, :1] - 3], 1) + 1.5
    return mean, torch.ones_like(mean)


def batches(seed: int) -> list[Tensor]:
    g = seeded(seed)
    kinds = ((40, 0.6, 0.5), (10, -1.0, 1.2), (25, 0.1, 0.2))  # how many pictures, their mean, their spread
    return [torch.randn(n, 3, 16, 16, generator=g) * spread + mean for n, mean, spread in kinds]


def brings_the_spread_to_one(fn: Callable) -> None:
    for given in (batches(0), batches(1)[:1], [*batches(2)[1:], batches(3)[0]]):
        call = f"Batches of {' and '.join(str(len(batch)) for batch in given)} pictures: scale_factor"
        parts = [toy(batch)[0] for batch in given]
        z = torch.cat(parts)
        got = fn(toy, given)
        if isinstance(got, Tensor) and got.numel() > 1:
            hint = PER_CHANNEL if got.numel() == z.shape[1] else LATENTS if got.shape == z.shape else ""
            raise Wrong(f"{call} gives {told(got)}; one number is wanted", hint)
        if isinstance(got, bool) or not isinstance(got, Real | Tensor):
            raise Wrong(f"{call} gives {told(got)}; one number is wanted")
        got = torch.as_tensor(got).detach().double().reshape(())
        noise = torch.cat([m + (v / 2).exp() * torch.randn(m.shape, generator=seeded(5))
                           for m, v in map(toy, given)])  # fmt: skip
        variances, sizes = torch.stack([p.var() for p in parts]), torch.tensor([len(p) for p in parts])
        slips = [
            (z.std(), INVERSE), (variances.sum().rsqrt(), SUMMED), (1 / parts[0].std(), FIRST),
            ((variances * sizes).sum().div(sizes.sum()).rsqrt(), BETWEEN), (1 / variances.sqrt().mean(), OF_STDS),
            ((1 / variances.sqrt()).mean(), OF_STDS), (variances.mean().rsqrt(), EQUALLY),
            (z.square().mean().rsqrt(), ABOUT_ZERO), (1 / z.var(), ROOTLESS),
            (torch.tensor(0.18215), FAMOUS),
        ]  # fmt: skip
        want = 1 / z.std()
        if abs(got / want - 1) > 0.003:
            slips = [(slip.double(), hint) for slip, hint in slips if abs(slip / want - 1) > 0.003]
            other = hint_for(got, [(1 / noise.std().double(), DRAWN)], "Measure all latents together, once.", 0.01)
            hint = hint_for(got, slips, other, 0.001)
            raise Wrong(f"{call} gives {got:.4f}: scaled, the latents have the standard deviation "
                        f"{got * z.std():.3f}; it should be 1", hint)  # fmt: skip


# 12.pair

MISSING = (
    "Nothing is scaled. That goes well only where latents happen to have the standard deviation 1; an encoder's "
    "seldom do."
)
TURNED = (
    "Both directions are turned round. The round trip cannot tell (it is perfect), the diffusion model can: it gets "
    "latents that are too large or too small. Into latents one MULTIPLIES by the factor."
)
UNDO = "to_pixels has to undo to_latents: it DIVIDES by the factor that to_latents multiplied by."
PICTURE = (
    "It is the latents that are divided, before the decoder, and not the picture that comes out of it: "
    "decode(z / factor), not decode(z) / factor. A decoder is curved, so the two differ."
)
NOT_SCALED_IN = "to_latents gives the encoder's own latents. Multiply them by the factor, so that their spread is 1."
DRAW = "This is a draw from the encoder's Gaussian. Take its mean, the first of the two that `encode` gives."
UNCUT = "The decoder may overshoot, and a picture is in -1..1: `.clamp(-1, 1)` what comes out of it."
CUT_LATENTS = "Latents are no picture: most of them may lie outside of -1..1. Only the decoded picture is clamped."
CUT_INPUT = "Clamp what the decoder gives, not what it is given: latents go beyond -1..1, and have to."
OF_PICTURES = "Scale what comes OUT of the encoder. A picture that is scaled before is one the encoder has never seen."
LOGVAR = "The encoder gives two, (mean, logvar). This is the second; the latents are the first."
NO_RETURN = "Do both inner functions end with `return`?"
RANGE = "Pictures are in -1..1 here: what lies beyond is cut off, `.clamp(-1, 1)`, and all else stays as it is."
FACTOR = 0.5


def encode(pixels: Tensor) -> tuple[Tensor, Tensor]:
    mean = 3 * torch.nn.functional.avg_pool2d(pixels, 2) + 2.0
    return mean, torch.zeros_like(mean)


def decode(z: Tensor) -> Tensor:
    """What `encode` did, undone, with an overshoot where pictures are bright."""
    x = (z - 2.0) / 3
    return torch.nn.functional.interpolate(x + 0.4 * x**3, scale_factor=2.0)


def goes_in_and_comes_back(fn: Callable) -> None:
    blocks = torch.rand(3, 3, 2, 2, generator=seeded(0)) * 2 - 1
    pixels = blocks.repeat_interleave(2, 2).repeat_interleave(2, 3)
    got = fn(encode, decode, FACTOR)
    if not isinstance(got, tuple | list) or len(got) != 2 or not all(map(callable, got)):
        raise Wrong(f"pair gives {told(got)}; two functions are wanted", "`return to_latents, to_pixels`")
    into, back = got
    mean, z = encode(pixels)[0], encode(pixels)[0] * FACTOR
    call = f"With the factor {FACTOR}: "
    before = pixels.clone()
    one = into(pixels)
    if one is None:
        raise Wrong(call + "to_latents returns nothing", NO_RETURN)
    if not torch.equal(pixels, before):
        raise Wrong(call + "to_latents changes the pictures it is given", "Make something new: `x * 2`, not `x *= 2`.")
    again = into(pixels)
    if isinstance(one, Tensor) and isinstance(again, Tensor) and not torch.equal(one, again):
        raise Wrong(call + "to_latents gives other latents for the same pictures each time", DRAW)
    two = back(z)
    if two is None:
        raise Wrong(call + "to_pixels returns nothing", NO_RETURN)
    right = decode(mean).clamp(-1, 1)
    both = isinstance(one, Tensor) and isinstance(two, Tensor)
    if both and one.shape == z.shape and two.shape == right.shape:
        turned = torch.allclose(one, mean / FACTOR) and torch.allclose(two, decode(z * FACTOR).clamp(-1, 1), atol=1e-5)
        plain = torch.allclose(one, mean) and torch.allclose(two, decode(z).clamp(-1, 1), atol=1e-5)
        if turned or plain:
            raise Wrong(f"{call}the latents have the standard deviation {one.std():.2f}; it should be {z.std():.2f}",
                        TURNED if turned else MISSING)  # fmt: skip
    slips = [(mean.clamp(-1, 1) * FACTOR, CUT_LATENTS), (z.clamp(-1, 1), CUT_LATENTS), (mean, NOT_SCALED_IN),
             (encode(pixels * FACTOR)[0], OF_PICTURES), (encode(pixels)[1] * FACTOR, LOGVAR)]  # fmt: skip
    expect(one, z, call + "to_latents", hint_for(one, slips, "encode(pixels)[0] * factor"))
    slips = [
        (decode(z * FACTOR).clamp(-1, 1), UNDO), (decode(z * FACTOR), UNDO), (decode(z).clamp(-1, 1), UNDO),
        ((decode(z) * FACTOR).clamp(-1, 1), PICTURE), ((decode(z) / FACTOR).clamp(-1, 1), PICTURE),
        (decode(z) * FACTOR, PICTURE), (decode(z) / FACTOR, PICTURE), (decode(mean), UNCUT),
        (decode(mean.clamp(-1, 1)), CUT_INPUT), (decode(mean.clamp(-1, 1)).clamp(-1, 1), CUT_INPUT),
        (decode(z.clamp(-1, 1) / FACTOR), CUT_INPUT), (decode(mean).clamp(0, 1), RANGE), (decode(mean).tanh(), RANGE),
    ]  # fmt: skip
    expect(two, right, call + "to_pixels", hint_for(two, slips, "decode(z / factor).clamp(-1, 1)"))


EXERCISES = (
    Exercise("12.scale", (
        "All latents of all batches, then one standard deviation of the whole, then its inverse.",
        "`encode(batch)` gives a mean and a logvar, each (n, 4, h, w). Collect the means in a list.",
        "`z = torch.cat([encode(batch)[0] for batch in batches])`, and 1 / z.std().",
    ), (brings_the_spread_to_one,)),
    Exercise("12.pair", (
        "Two small functions inside of this one, and `return to_latents, to_pixels` (without calling them).",
        "to_latents multiplies what comes OUT of the encoder; to_pixels divides what goes INTO the decoder.",
        "`mean, logvar = encode(pixels)` and mean * factor; decode(z / factor), clamped to -1..1.",
    ), (goes_in_and_comes_back,)),
)  # fmt: skip
