"""What one does with a picture that is there already: change it, fill a hole in it, make it larger at its sides.

All take the keywords of `text2img` too (negative, steps, scale, sampler, noise, generator, control), except height
and width: a picture has its own. Sizes that are no multiple of the autoencoder's factor are padded on the way in and
cropped on the way out; `noise` has the padded size, control maps that of the picture.
"""

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from .. import pictures
from ..control import mapped
from ..files import UserError
from ..pipe import LatentDiffusion
from .draw import states


@torch.no_grad()
def img2img(
    pipe: LatentDiffusion,
    prompt: str | Sequence[str],
    image: pictures.Given,
    strength: float = 0.8,
    **how: object,
) -> Tensor:
    """A picture drawn anew from a noisy version of itself: (b, 3, h, w) in -1..1 (SDEdit, Meng et al. 2022).

    image: a path, a PIL image or a tensor (b, 3, h, w) in -1..1. strength: which share of the steps is left to go,
    from alpha * z + sigma * noise at their first row. 0, or so little that no step is left, gives the picture itself,
    bit by bit. 1 begins at the noisiest row, which still holds a trace of the picture where alpha is not 0 there
    (7% of it in Stable Diffusion's table), and is `text2img` where alpha is 0.
    Raises `UserError` for what is no picture, strength outside 0..1, and as `text2img` does.
    """
    return _edited(pipe, prompt, image, None, strength, how)


@torch.no_grad()
def inpaint(
    pipe: LatentDiffusion,
    prompt: str | Sequence[str],
    image: pictures.Given,
    mask: pictures.Given,
    strength: float = 1.0,
    reconstruction: float = 0.0,
    **how: object,
) -> Tensor:
    """The picture with what is white in the mask painted anew, and all else bit by bit as it was: (b, 3, h, w).

    mask: a path, a PIL image or a tensor (b, 1, h, w) in 0..1, of the picture's size; 1 is new, 0 stays, and what
    lies between mixes both. strength 1 begins in pure noise, less in a noisy version of what is in the hole. An
    inpainting model (9 channels) is shown the mask and the picture around the hole; any other is held to the picture
    by `denoise.keep`, and may cut a thing off at the hole's rim, which it does not know. Against that there are three
    means, best together: reconstruction=1 (`denoise.reconstructing`; 0 is none), by which the hole hears of what would
    be cut off, for twice the time, and with less guidance, a scale of 2 for the models of the course; sampler="ddpm",
    whose fresh noise gives the new part more chances to agree with the known one; and among several pictures
    `likeliest` finds the one that the model itself thinks whole.

    Why both, latents and pixels: kept latents alone keep no pixel, for the decoder has its errors everywhere, and
    each of its pixels looks at cells inside the hole too. Known pixels pasted over a picture that was drawn without
    them keep all of them, and a seam. So the latents are kept while drawing, which makes the new part fit the old
    one, the known pixels are laid over the result at the end, and the new ones are brought to meet them
    (`pictures.blended`).
    Raises `UserError` for no mask, one of another size or range, for a reconstruction outside 0..10 or by an
    inpainting model, and as `img2img` does.
    """
    if mask is None:
        raise UserError("mask", None, "what is to be painted anew; img2img changes the whole picture")
    return _edited(pipe, prompt, image, mask, strength, how | {"reconstruction": reconstruction})


@torch.no_grad()
def outpaint(
    pipe: LatentDiffusion,
    prompt: str | Sequence[str],
    image: pictures.Given,
    left: int = 0,
    right: int = 0,
    top: int = 0,
    bottom: int = 0,
    strength: float = 1.0,
    reconstruction: float = 0.0,
    **how: object,
) -> Tensor:
    """The picture and so many new pixels at its sides: (b, 3, h + top + bottom, w + left + right).

    `inpaint` on a larger canvas, where all that is new is the hole; the given pixels stay bit by bit. What helps there
    against things cut off helps here against a seam. Before it is noised the canvas holds the picture's border, drawn
    out: the encoder then sees no edge that is none, and a strength below 1 begins with something like what lies beside.
    New pixels meet old ones best between cells of the latents, see `pictures.blended`. So at the left and the top whole
    cells are drawn, for which `noise` has to be large enough, and what is too much is cut off; the other two seams lie
    between cells where the given picture's sides are multiples of `pipe.factor`. Maps of `control` are as large as what
    comes back.
    Raises `UserError` for sides that are no whole numbers from 0, and as `inpaint` does.
    """
    sides = {"left": left, "right": right, "top": top, "bottom": bottom}
    for name, value in sides.items():
        if isinstance(value, bool) or not isinstance(value, int) or value < 0:
            raise UserError(name, value, "a whole number of pixels from 0")
    image = pictures.read(image)
    h, w = image.shape[2:]
    pictures.check_size(h + top + bottom, w + left + right, len(image))
    too_left, too_high = -left % pipe.factor, -top % pipe.factor
    left, top = left + too_left, top + too_high
    canvas = pictures.extended(image, left, right, top, bottom)
    if control := how.get("control"):
        how["control"] = mapped(control, lambda map_: pictures.extended(map_, left=too_left, top=too_high))
    mask = torch.ones_like(canvas[:1, :1])
    mask[..., top : top + h, left : left + w] = 0
    made = _edited(pipe, prompt, canvas, mask, strength, how | {"reconstruction": reconstruction})
    return made[..., too_high:, too_left:]


def vary(
    pipe: LatentDiffusion, image: pictures.Given, strength: float = 0.5, scale: float = 1, **how: object
) -> Tensor:
    """Other pictures like this one: `img2img` without a prompt, and so without guidance. For several, see `noise`.

    scale: more than 1 steers away from what `negative` says.
    """
    return img2img(pipe, "", image, strength, scale=scale, **how)


def finish(
    pipe: LatentDiffusion, film: Iterable[Tensor], image: pictures.Given, mask: pictures.Given | None = None
) -> Tensor:
    """The task's picture at the end of a film of `states`: decoded, cropped to the size of `image`, (b, 3, h, w).

    With a mask the pixels of `image` are laid over it, see `pictures.blended`. After a film of a single state, where no
    step was left to do, it is `image` itself.
    """
    image = pictures.read(image)
    for step, z in enumerate(film):  # noqa: B007
        pass
    image = image.to(z.device)
    if step == 0:  # nothing was done, and the autoencoder shall do nothing either
        return image.repeat(len(z) // len(image), 1, 1, 1)
    made = pipe.decode(z)[..., : image.shape[2], : image.shape[3]]
    if mask is None:
        return made
    return pictures.blended(made, image, pictures.read_mask(mask), pipe.factor)


def _edited(pipe, prompt, image, mask, strength, how):
    image = pictures.read(image)
    mask = mask if mask is None else pictures.read_mask(mask)
    return finish(pipe, states(pipe, prompt, image=image, mask=mask, strength=strength, **how), image, mask)
