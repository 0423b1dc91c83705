"""From a prompt to the film of a picture: what every task is made of."""

import math
from collections import deque
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from .. import pictures
from ..control import STRONGEST, controlled, mapped
from ..denoise import beside, clamped, denoiser, guided, halves, keep, reconstructing
from ..files import UserError
from ..levels import Denoiser, Level, rescaled
from ..pipe import LatentDiffusion
from ..sample import SAMPLERS

PULL = 10  # weight of reconstruction guidance: at 2 already the shipped model draws worse than at 1
LOUDEST = 1000  # noise is drawn from a normal of deviation 1: far beyond use, and float32 still holds what comes of it


def prompted(
    pipe: LatentDiffusion,
    prompts: Sequence[str],
    negative: str | None,
    scale: float,
    height: int | None = None,
    width: int | None = None,
    network: Callable[..., Tensor] | None = None,
) -> Denoiser:
    """The model's denoiser steered by `prompts`: classifier-free guidance away from `negative`, see `text2img`.

    Scale 1 needs no second network call and makes none. Pixel models answer within -1..1. network: what is called in
    the U-Net's place, in the same way; None is the U-Net.
    """
    network = network or pipe.unet

    def conditioned(said: dict) -> Denoiser:
        return denoiser(network, pipe.prediction, dtype=pipe.dtype, **said)

    n = len(prompts)
    said = pipe.condition(prompts, height, width)
    denoise = conditioned(said)
    if pipe.text is not None and scale != 1:
        no = pipe.uncondition(n, height, width) if negative is None else pipe.condition([negative] * n, height, width)
        both = conditioned({name: torch.cat([said[name], no[name]]) for name in said})
        denoise = guided(*halves(both), scale, pipe.rescale, pipe.prediction)
    return _in_range(pipe, denoise)


@torch.no_grad()
def states(
    pipe: LatentDiffusion,
    prompt: str | Sequence[str] = "",
    negative: str | None = None,
    steps: int = 30,
    scale: float = 7.5,
    sampler: str = "ddim",
    noise: Tensor | None = None,
    generator: torch.Generator | None = None,
    height: int | None = None,
    width: int | None = None,
    *,
    image: pictures.Given | None = None,
    mask: pictures.Given | None = None,
    strength: float = 1.0,
    reconstruction: float = 0.0,
    control: Sequence = (),
    network: Callable[..., Tensor] | None = None,
) -> Iterator[Tensor]:
    """The film of every task: yields the start and then every state, latents (b, c, h, w).

    Without `image` that of `text2img`, steps + 1 states; with one that of `img2img`, and with a mask too that of
    `inpaint`: int(steps * strength) + 1 of them. `pipe.decode` makes a picture of any, `finish` the task's picture of
    the last. Arguments and errors as there; network as in `prompted`.
    """
    prompts = _prompts(prompt)
    if not isinstance(sampler, str) or sampler not in SAMPLERS:
        raise UserError("sampler", sampler, "one of " + ", ".join(SAMPLERS))
    if not _finite(scale) or abs(scale) > STRONGEST:
        raise UserError("scale", scale, f"a finite number up to {STRONGEST}; 1 is no guidance, 3 to 8 is usual")
    if not _finite(strength) or not 0 <= strength <= 1:
        raise UserError("strength", strength, "a number from 0 to 1; 0 is the picture as it is, 1 a new one")
    if not _finite(reconstruction) or not 0 <= reconstruction <= PULL:
        raise UserError("reconstruction", reconstruction, f"a number from 0 to {PULL}; 0 is none, 1 is usual")
    takes, has = pipe.unet.config.in_channels, pipe.latent_shape()[0]
    sees_hole = mask is not None and takes == 2 * has + 1
    if network is None and takes != has and not sees_hole:
        wanted = f"one of {has}; an upscaler is for tasks.upscale alone, an inpainting model needs a mask"
        raise UserError("model", f"a U-Net of {takes} channels", wanted)
    if reconstruction and (mask is None or sees_hole):
        why = "an inpainting model is shown the mask" if sees_hole else "without a mask it has nothing to compare"
        raise UserError("reconstruction", reconstruction, f"0: {why}")
    rows = pipe.rows(steps, sampler)
    if image is not None:
        rows = rows[steps - int(steps * strength) :]
    if sampler == "pndm" and not _begins_with_a_trace(rows):
        why = "ddim, say: pndm carries eps on, and this model's first row holds nothing else"
        raise UserError("sampler", sampler, why)

    wide = torch.promote_types(pipe.dtype, torch.float32)  # half precision is the networks' alone
    z = hole = None
    if image is not None:
        if height is not None or width is not None:
            raise UserError("height and width", (height, width), "None: a picture that is given has its own")
        image = pictures.read(image)
        z, hole, around = (part if part is None else part.to(wide) for part in _given(pipe, image, mask))
        height, width = (side * pipe.factor for side in z.shape[2:])
    elif mask is not None:
        raise UserError("image", None, "the picture that the mask belongs to")
    if control:
        network = _controlled(pipe, control, image, network)
    parts = [("prompts", prompts), ("pictures", z), ("masks", hole)]
    parts += [("control maps", hint.map) for hint in control or ()]
    counts = [(name, len(part)) for name, part in parts if part is not None]
    shape = pipe.latent_shape(height, width)
    if noise is None:
        n = max(count for _, count in counts)
        pictures.check_size(shape[1] * pipe.factor, shape[2] * pipe.factor, n)
        noise = torch.randn(n, *shape, generator=generator)  # on the CPU: a seed means the same start on every device
    elif not isinstance(noise, Tensor) or not noise.is_floating_point():
        raise UserError("noise", getattr(noise, "dtype", type(noise).__name__), "a tensor of fractions")
    elif noise.ndim != 4 or noise.shape[1] != has or not noise.numel() or (z is not None and noise.shape[1:] != shape):
        want = f"b, {has}, h, w" if z is None else ", ".join(map(str, ("b", *shape)))
        raise UserError("noise", tuple(noise.shape), f"a shape ({want})")
    elif not noise.abs().max() <= LOUDEST:  # also false where one is no number
        raise UserError("noise", f"values up to {noise.abs().max().item():g}", "unit-normal numbers")
    noise = noise.to(pipe.device, wide)
    n = len(noise)
    for name, count in counts:
        if count not in (1, n):
            raise UserError(name, count, f"one, or as many as the noise has pictures: {n}")

    network = network or pipe.unet
    x = noise
    if z is not None:
        z = z.expand(n, -1, -1, -1)
        if mask is None or strength < 1:
            x = rows[0].alpha * z + rows[0].sigma * noise
    if sees_hole:
        network = beside(network, torch.cat([hole.expand(n, -1, -1, -1), around.expand(n, -1, -1, -1)], dim=1))
    height, width = (side * pipe.factor for side in x.shape[2:])
    denoise = prompted(pipe, prompts * (n // len(prompts)), negative, scale, height, width, network)
    if mask is None or sees_hole:
        return _film(pipe, denoise, x, rows, sampler, generator)
    if reconstruction:
        denoise = _in_range(pipe, reconstructing(denoise, z, hole, reconstruction))
    denoise = keep(denoise, z, hole, noise, rows[0].t)
    return _clean_around(hole, z, _film(pipe, denoise, x, rows, sampler, generator), len(rows))


@torch.no_grad()
def text2img(
    pipe: LatentDiffusion,
    prompt: str | Sequence[str] = "",
    negative: str | None = None,
    steps: int = 30,
    scale: float = 7.5,
    sampler: str = "ddim",
    noise: Tensor | None = None,
    generator: torch.Generator | None = None,
    height: int | None = None,
    width: int | None = None,
    control: Sequence = (),
) -> Tensor:
    """Pictures from a prompt: (b, 3, height, width) in -1..1.

    prompt: a string or a list; one prompt makes as many pictures as `noise` has. negative: what to steer away from;
    None is the model's own rule, the empty text. steps: 1..T calls of the sampler. scale: uncond + scale * (cond -
    uncond); 7.5 is usual for the published models, 3 for the small ones of the course. sampler: a name in
    `sample.SAMPLERS`. noise: the unit-normal start (b, c, h, w) in latents, which fixes the picture's size; else
    drawn from `generator` for `height` and `width` in pixels. control: `control.Hint`s, each a network, its map and
    its weight.
    Raises `UserError` for a prompt that is no text, steps, scale, sampler, noise or size out of range.
    """
    film = states(pipe, prompt, negative, steps, scale, sampler, noise, generator, height, width, control=control)
    (last,) = deque(film, maxlen=1)
    return pipe.decode(last)


def _in_range(pipe, denoise):
    """Pixels have a known range, latents have none."""
    return denoise if pipe.vae is not None else clamped(denoise, -1, 1)


def _given(pipe, image, mask):
    """The latents of a picture; with a mask also that on their grid, and the latents of what lies around the hole."""
    z = pipe.encode(pictures.padded(image, pipe.factor)).to(pipe.device)
    if mask is None:
        return z, None, None
    mask = pictures.read_mask(mask)
    if mask.shape[2:] != image.shape[2:]:
        raise UserError("mask", tuple(mask.shape[2:]), f"the picture's height and width, {tuple(image.shape[2:])}")
    if len(mask) != len(image) and 1 not in (len(mask), len(image)):
        raise UserError("masks", len(mask), f"one, or as many as there are pictures: {len(image)}")
    mask = pictures.padded(mask, pipe.factor)
    hole = pictures.on_grid(mask, pipe.factor).to(pipe.device)
    if pipe.unet.config.in_channels == len(z[0]):
        return z, hole, None
    around = pictures.padded(image, pipe.factor) * (mask == 0).to(image.device)  # grey, the middle, in the hole
    return z, hole, pipe.encode(around).to(pipe.device)


def _controlled(pipe, control, image, network):
    """The U-Net with its controls; a map of the size of a picture that is padded is padded too."""
    if network is not None:
        raise UserError("control", f"{len(control)} hints", "none: an upscaler follows its small picture")
    if image is not None:
        size = image.shape[2:]
        control = mapped(control, lambda m: pictures.padded(m, pipe.factor) if m.shape[2:] == size else m)
    return controlled(pipe.unet, control)


def _begins_with_a_trace(rows: Sequence[Level]) -> bool:
    """Whether the noisiest row holds some of the picture. Published tables begin at sigma / alpha of about 15."""
    return rows[0].sigma < 100 * rows[0].alpha


def _film(pipe, denoise, x, rows, sampler, generator):
    """The start and every state after it, all in the frame of `rows`."""
    yield x
    frame = rows
    # Heun's numbers depend on the frame, and published ones are of this one. But where a table begins in next to pure
    # noise, or in nothing else, the first step would be one of thousands of units: there x stays as it is.
    if sampler == "heun" and _begins_with_a_trace(rows):
        x, frame = x / rows[0].alpha, rescaled(rows)
    with pipe.at_work(pipe.unet):
        after = SAMPLERS[sampler](denoise, x, frame, generator=generator)
        for row, own, state in zip(rows[1:], frame[1:], after, strict=True):
            yield state * (row.alpha / own.alpha)


def _clean_around(hole, z, film, count):
    """The film, its last state clean where the picture is known: published models end in a row with a little noise."""
    for i, x in enumerate(film, 1):
        yield x if i < count else torch.where(hole > 0, x, z)


def _finite(number: object) -> bool:
    return isinstance(number, int | float) and not isinstance(number, bool) and abs(number) < math.inf


def _prompts(prompt: str | Sequence[str]) -> list[str]:
    prompts = [prompt] if isinstance(prompt, str) else prompt
    if not isinstance(prompts, list | tuple) or not prompts or not all(isinstance(p, str) for p in prompts):
        raise UserError("prompt", prompt, "a text or a list of texts")
    return list(prompts)
