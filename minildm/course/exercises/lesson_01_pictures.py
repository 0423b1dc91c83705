"""Lesson 01, pictures: an autoencoder that fits any size, and the error of a rebuilt picture in decibels."""

from collections.abc import Callable

import torch
from torch import Tensor

from . import Exercise, Wrong, expect, hint_for, seeded, told

# 01.conv

TWO = "Give back two networks, `return encoder, decoder`, each an `nn.Sequential` of layers (or another callable)."
FIXED = (
    "A Linear layer needs to know how many numbers come in, so it fits one size of picture only. Leave it out: "
    "convolutions do not care how large the picture is, and the latents stay a small map."
)
CHANNELS = "The number of colours is `channels`, and it is not always 3: a digit has one. Use the argument."
PADDING = (
    "A convolution without padding eats the rim. Halving exactly takes padding: kernel 4, stride 2, padding 1, or "
    "kernel 3, stride 2, padding 1."
)
HALVE = "Twice halved is h/4 by w/4: two layers of stride 2 (or two poolings) on the way down, no more and no fewer."
MAP = "The latents stay a map, `latent` channels at h/4 by w/4 places. No Flatten: what is where is worth keeping."
LATENT = "The narrow place has `latent` channels: that many are what the last layer of the encoder gives."
SHORT = (
    "The picture comes back too small. A transposed convolution of kernel 3, stride 2 and padding 1 turns 8 into 15: "
    "two sizes are halved to 8, and it picks the smaller. `output_padding=1` picks 16, and kernel 4 has no such doubt."
)
DOUBLE = "Each halving on the way down needs one doubling on the way up, so that the picture comes back in its size."
TO_32 = "The decoder always draws one size. Double twice (`scale_factor=2`, stride 2), and never name a size in pixels."
RANGE = (
    "Pictures lie in -1..1, and the decoder cannot go below 0: its last layer is followed by a sigmoid or a ReLU. "
    "Black would come out grey. End with the plain convolution (or with Tanh)."
)
LINEAR = (
    "There is nothing curved in it. Convolutions alone, one after another, are one linear map, and no linear map beats "
    "PCA. Put an activation such as nn.SiLU() between them."
)
CHAIN = "Each layer takes as many channels as the layer before it gives: out of one, into the next."
SIZES = ((32, 32), (28, 28), (8, 20), (12, 8))


def ran(network: Callable, x: Tensor, call: str, hint: str) -> Tensor:
    try:
        got = network(x)
    except (RuntimeError, ValueError, TypeError) as error:
        line = str(error).splitlines()[0][:120]
        if "channels" in line:
            hint = CHANNELS if x.shape[1] < 3 else CHAIN  # three colours are tried first
        raise Wrong(f"{call} stops with {type(error).__name__}: {line}", hint) from None
    if not isinstance(got, Tensor):
        raise Wrong(f"{call} gives {told(got)}; a torch tensor is wanted", TWO)
    return got


def keeps_the_shapes(fn: Callable) -> None:
    for channels, latent in ((3, 4), (1, 2)):
        got = fn(channels, latent)
        made = f"conv_autoencoder({channels}, {latent})"
        if not isinstance(got, tuple | list) or len(got) != 2 or not all(callable(part) for part in got):
            raise Wrong(f"{made} gives {told(got)}; an encoder and a decoder are wanted", TWO)
        encoder, decoder = got
        for h, w in SIZES:
            with torch.no_grad():
                x = torch.randn(2, channels, h, w, generator=seeded(h))
                z = ran(encoder, x, f"{made}: its encoder, given {tuple(x.shape)},", FIXED)
                wanted = (2, latent, h // 4, w // 4)
                if z.shape != wanted:
                    raise Wrong(f"{made}: {tuple(x.shape)} is encoded as {tuple(z.shape)}; it should be {wanted}",
                                why_latents(z, wanted))  # fmt: skip
                out = ran(decoder, z, f"{made}: its decoder, given {tuple(z.shape)},", FIXED)
                if out.shape != x.shape:
                    raise Wrong(f"{made}: {tuple(z.shape)} is decoded as {tuple(out.shape)}; it should be "
                                f"{tuple(x.shape)}", why_picture(out, x))  # fmt: skip


def why_latents(z: Tensor, wanted: tuple) -> str:
    if z.ndim != 4:
        return MAP
    if z.shape[2:] == wanted[2:]:
        return LATENT
    ratios = [side / want for side, want in zip(z.shape[2:], wanted[2:], strict=True)]
    return HALVE if all(ratio in (4, 2, 0.5, 0.25) for ratio in ratios) else PADDING


def why_picture(out: Tensor, x: Tensor) -> str:
    if out.shape[2:] == (32, 32):
        return TO_32
    if out.ndim == 4 and out.shape[1] != x.shape[1] and out.shape[2:] == x.shape[2:]:
        return CHANNELS
    twice = [side / want for side, want in zip(out.shape[2:], x.shape[2:], strict=True)] if out.ndim == 4 else [1]
    return DOUBLE if all(ratio in (0.25, 0.5, 2, 4) for ratio in twice) else SHORT


def can_draw_and_bend(fn: Callable) -> None:
    encoder, decoder = fn(3, 4)
    generator = seeded(1)
    with torch.no_grad():
        z = 30 * torch.randn(16, 4, 8, 8, generator=generator)
        out = decoder(z)
        if out.min() >= 0:
            raise Wrong(f"Whatever the latents, what is decoded is {out.min():.2f} or more; black is -1", RANGE)
        a, b = torch.randn(2, 1, 3, 32, 32, generator=generator)

        def there_and_back(x: Tensor) -> Tensor:
            return decoder(encoder(x))

        bend = there_and_back(a + b) - there_and_back(a) - there_and_back(b) + there_and_back(0 * a)
        if bend.abs().max() < 1e-4 * (1e-3 + there_and_back(a).abs().max()):
            raise Wrong("There and back, a + b comes out as a and b added up: the whole is linear", LINEAR)


# 01.psnr

PEAK = "The data lie in -1..1, so that black and white are 2 apart: the peak is 2, and its square 4."
BYTES = "255 is the peak of pictures in bytes. These lie in -1..1, where black and white are 2 apart."
BRIGHTEST = (
    "The peak is what the scale allows, and not what this picture happens to hold: else a dark picture would be judged "
    "by another measure."
)
ROOT = "10 log10 goes with SQUARES: the peak's square, 4, over the mean squared error. 20 log10 goes with their roots."
NATURAL = "Decibels count in powers of ten: `torch.log10`. `torch.log` is the natural logarithm."
SUM = "The mean over all numbers of a picture, not the sum, or larger pictures would all look worse."
ONE = "One number for each picture, (b,): average over channels, rows and columns, and leave the batch alone."
CUT = (
    "On a screen nothing is darker than -1 or brighter than 1. Cut what is rebuilt to -1..1 first: `rebuilt.clamp(-1, "
    "1)`."
)
SIGN = "Upside down: a smaller error is better, and should give MORE decibels."


def ratings() -> list[tuple[str, Tensor, Tensor]]:
    """Pictures and rebuilt ones: all off by 0.2, by different amounts, and one that leaves the range."""
    generator = seeded(0)
    flat = torch.full((2, 3, 4, 4), 0.3)
    x = torch.rand(3, 1, 6, 6, generator=generator) * 1.2 - 0.6
    noise = torch.rand(x.shape, generator=generator) - 0.5
    off = x + torch.tensor([0.02, 0.1, 0.5])[:, None, None, None] * noise
    edge = torch.full((1, 3, 4, 4), -1.0)
    over = edge + torch.tensor([-0.5, 0.2]).repeat(8).view(4, 4)
    return [
        ("Pictures of 0.3, rebuilt as 0.5", flat, flat + 0.2), ("Three grey pictures of one channel", x, off),
        ("A black picture, rebuilt as -1.5 and -0.8", edge, over),
    ]  # fmt: skip


def decibels(fn: Callable) -> None:
    for what, x, rebuilt in ratings():
        errors = (x - rebuilt.clamp(-1, 1)).square().flatten(1)
        mse, uncut = errors.mean(1), (x - rebuilt).square().flatten(1).mean(1)
        want = 10 * (4 / mse).log10()
        bright = x.flatten(1).amax(1)
        slips = [
            (10 * (1 / mse).log10(), PEAK), (10 * (2 / mse).log10(), PEAK), (10 * (1 / uncut).log10(), PEAK),
            (10 * (255**2 / mse).log10(), BYTES), (10 * (bright**2 / mse).log10(), BRIGHTEST),
            (10 * (x.max() ** 2 / mse).log10(), BRIGHTEST), (10 * (2 / mse.sqrt()).log10(), ROOT),
            (10 * (4 / mse.sqrt()).log10(), ROOT), (20 * (2 / mse).log10(), ROOT), (20 * (4 / mse).log10(), ROOT),
            (10 * (4 / mse).log(), NATURAL), (10 * (4 / errors.sum(1)).log10(), SUM),
            (-want, SIGN), (10 * mse.log10(), SIGN), ((10 * (4 / mse.mean()).log10()).expand(len(x)), ONE),
            (10 * (4 / uncut).log10(), CUT),
        ]  # fmt: skip
        got = fn(x, rebuilt)
        if isinstance(got, int | float) or (isinstance(got, Tensor) and got.shape != want.shape):
            raise Wrong(f"{what}: psnr gives {told(got)}; it should be of shape {tuple(want.shape)}", ONE)
        otherwise = CUT if rebuilt.min() < -1 else PEAK
        expect(got, want, f"{what}: psnr", hint_for(got, slips, otherwise, 1e-3))


EXERCISES = (
    Exercise("01.conv", (
        "Two layers that halve on the way down, two that double on the way up, and something curved between any two.",
        "`nn.Conv2d(a, b, 4, stride=2, padding=1)` halves exactly, `nn.ConvTranspose2d(a, b, 4, stride=2, padding=1)` "
        "doubles exactly.",
        "Encoder: Conv2d(channels, 16, 4, 2, 1), SiLU, Conv2d(16, latent, 4, 2, 1). Decoder: the same backwards, with "
        "ConvTranspose2d, ending in `channels` and with nothing after it.",
    ), (keeps_the_shapes, can_draw_and_bend)),
    Exercise("01.psnr", (
        "How far apart are the darkest and the brightest possible number? And what is the mean over?",
        "`(x - rebuilt.clamp(-1, 1)).square().flatten(1).mean(1)` is the mean squared error of each picture, (b,).",
        "10 * (4 / error).log10(): the peak is 2, its square 4.",
    ), (decibels,)),
)  # fmt: skip
