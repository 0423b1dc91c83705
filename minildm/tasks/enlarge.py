"""Larger pictures from small ones."""

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from .. import pictures
from ..denoise import beside
from ..files import UserError
from ..pipe import LatentDiffusion
from .draw import _prompts, states
from .edit import img2img


@torch.no_grad()
def upscale(
    pipe: LatentDiffusion,
    prompt: str | Sequence[str],
    image: pictures.Given,
    factor: int,
    strength: float = 0.3,
    level: int = 20,
    **how: object,
) -> Tensor:
    """A picture (b, 3, h, w) `factor` times as wide and high: (b, 3, factor * h, factor * w) in -1..1.

    An ordinary model enlarges it bicubically and runs `img2img` at a low `strength`: it draws what could be there. An
    upscaler, whose U-Net takes three channels more than a latent has, was trained to look at the small picture; its
    factor is that of its autoencoder. It is given the picture with the noise of row `level`, see `shown`, and begins
    in pure noise: it has no use for `strength`, as an ordinary model has none for `level`.
    Takes the keywords of `text2img` too, except height and width.
    Raises `UserError` for another factor or level, and as `img2img` does.
    """
    if isinstance(factor, bool) or not isinstance(factor, int) or factor < 1:
        raise UserError("factor", factor, "a whole number from 1")
    for name in ("height", "width"):
        if (side := how.pop(name, None)) is not None:
            raise UserError(name, side, "None: it is the picture's, times the factor")
    image = pictures.read(image)
    pictures.check_size(factor * image.shape[2], factor * image.shape[3], len(image))
    if pipe.unet.config.in_channels != pipe.latent_shape()[0] + 3:
        enlarged = F.interpolate(image, scale_factor=factor, mode="bicubic").clamp(-1, 1)  #  (b, 3, f*h, f*w)
        return img2img(pipe, prompt, enlarged, strength, **how)
    if factor != pipe.factor:
        raise UserError("factor", factor, f"{pipe.factor}, which this upscaler was trained for")
    prompts, noise = _prompts(prompt), how.get("noise")
    drawn = isinstance(noise, Tensor) and noise.ndim == 4 and len(noise)  # else `states` tells what is wrong with it
    count = drawn or max(len(prompts), len(image))
    for name, some in (("pictures", image), ("prompts", prompts)):
        if len(some) not in (1, count):
            raise UserError(name, len(some), f"one, or as many as are to be drawn: {count}")
    prompts = prompts * (count // len(prompts))
    height, width = (factor * side for side in image.shape[2:])
    network = shown(pipe, image, level, how.get("generator"))
    *_, z = states(pipe, prompts, height=height, width=width, network=network, **how)
    return pipe.decode(z)


def shown(
    pipe: LatentDiffusion, image: Tensor, level: int = 20, generator: torch.Generator | None = None
) -> Callable[..., Tensor]:
    """An upscaler's U-Net that looks at a small picture (b, 3, h, w) beside its latents: the `network` of `states`.

    To the picture is added the noise of row `level` of `pipe.low`, drawn from `generator`, and the network is told the
    level. Trained so, it mends what is wrong with a small picture, and does not enlarge that too (noise conditioning
    augmentation, Ho et al. 2021, arXiv 2106.15282).
    Raises `UserError` for a level that `pipe.low` does not have, or the network no label for.
    """
    wide = torch.promote_types(pipe.dtype, torch.float32)
    image, labels = image.to(pipe.device, wide), pipe.unet.config.num_class_embeds
    counts = [count for count in (pipe.low and len(pipe.low), labels) if count is not None]
    if counts and (isinstance(level, bool) or not isinstance(level, int) or not 0 <= level < min(counts)):
        raise UserError("level", level, f"a whole number from 0 to {min(counts) - 1}")
    if pipe.low is not None:
        row = pipe.low.rows()[level]
        noise = torch.randn(image.shape, dtype=wide, generator=generator).to(pipe.device)  # as the start: on the CPU
        image = row.alpha * image + row.sigma * noise

    def called(x: Tensor, t: Tensor, **condition: object) -> Tensor:
        if labels is not None:
            condition["label"] = torch.full((len(x),), level, device=x.device)  #        (b,)
        return pipe.unet(x, t, **condition)

    return beside(called, image)
