"""What one does with a model: each task a short function over denoisers and a sampler, none a class."""

import math
from collections import deque
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from .denoise import clamped, denoiser, guided, halves
from .files import UserError
from .levels import Denoiser, Level, rescaled
from .pipe import LatentDiffusion
from .sample import SAMPLERS


def prompted(
    pipe: LatentDiffusion,
    prompts: Sequence[str],
    negative: str | None,
    scale: float,
    height: int | None = None,
    width: int | None = None,
) -> Denoiser:
    """The model's denoiser steered by `prompts`: classifier-free guidance away from `negative`, see `text2img`.

    Scale 1 needs no second network call and makes none. Pixel models answer within -1..1.
    """

    def conditioned(said: dict) -> Denoiser:
        return denoiser(pipe.unet, pipe.prediction, dtype=pipe.dtype, **said)

    n = len(prompts)
    said = pipe.condition(prompts, height, width)
    denoise = conditioned(said)
    if pipe.text is not None and scale != 1:
        no = pipe.uncondition(n, height, width) if negative is None else pipe.condition([negative] * n, height, width)
        both = conditioned({name: torch.cat([said[name], no[name]]) for name in said})
        denoise = guided(*halves(both), scale, pipe.rescale, pipe.prediction)
    return denoise if pipe.vae is not None else clamped(denoise, -1, 1)


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
) -> Iterator[Tensor]:
    """The film of `text2img`: yields the start and then every state, steps + 1 latents (b, c, h, w) in all.

    Arguments and errors as in `text2img`. `pipe.decode` makes a picture of any of them.
    """
    prompts = _prompts(prompt)
    if sampler not in SAMPLERS:
        raise UserError("sampler", sampler, "one of " + ", ".join(SAMPLERS))
    if isinstance(scale, bool) or not isinstance(scale, int | float) or not math.isfinite(scale):
        raise UserError("scale", scale, "a finite number; 1 is no guidance, 3 to 8 is usual")
    takes, has = pipe.unet.config.in_channels, pipe.latent_shape()[0]
    if takes != has:
        raise UserError("model", f"a U-Net of {takes} channels", f"one of {has}; an inpainting model takes a mask too")
    rows = pipe.rows(steps, sampler)
    if sampler == "pndm" and not _begins_with_a_trace(rows):
        why = "ddim, say: pndm carries eps on, and this model's first row holds nothing else"
        raise UserError("sampler", sampler, why)
    if noise is None:
        shape = (len(prompts), *pipe.latent_shape(height, width))
        noise = torch.randn(shape, generator=generator)  # on the CPU: a seed means the same start on every device
    elif noise.ndim != 4 or noise.shape[1] != has:
        raise UserError("noise", tuple(noise.shape), f"a shape (b, {has}, h, w)")
    if len(prompts) not in (1, len(noise)):
        raise UserError("prompts", len(prompts), f"one, or as many as the noise has pictures: {len(noise)}")
    x = noise.to(pipe.device, torch.promote_types(pipe.dtype, torch.float32))  # half precision is the networks' alone
    height, width = (side * pipe.factor for side in x.shape[2:])
    denoise = prompted(pipe, prompts * (len(x) // len(prompts)), negative, scale, height, width)
    return _film(pipe, denoise, x, rows, sampler, generator)


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
) -> Tensor:
    """Pictures from a prompt: (b, 3, height, width) in -1..1.

    prompt: a string or a list; one prompt makes as many pictures as `noise` has. negative: what to steer away from;
    None is the model's own rule, the empty text. steps: 1..T calls of the sampler. scale: uncond + scale * (cond -
    uncond); 7.5 is usual for the published models, 3 for the small ones of the course. sampler: a name in
    `sample.SAMPLERS`. noise: the unit-normal start (b, c, h, w) in latents, which fixes the picture's size; else
    drawn from `generator` for `height` and `width` in pixels.
    Raises `UserError` for a prompt that is no text, steps, scale, sampler, noise or size out of range.
    """
    film = states(pipe, prompt, negative, steps, scale, sampler, noise, generator, height, width)
    (last,) = deque(film, maxlen=1)
    return pipe.decode(last)


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


def _prompts(prompt: str | Sequence[str]) -> list[str]:
    prompts = [prompt] if isinstance(prompt, str) else prompt
    if not isinstance(prompts, list | tuple) or not prompts or not all(isinstance(p, str) for p in prompts):
        raise UserError("prompt", prompt, "a text or a list of texts")
    return list(prompts)
