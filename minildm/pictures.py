"""Given pictures and masks, from files or from memory, and how they are brought onto a model's grid."""

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor

from .files import UserError, is_there

if TYPE_CHECKING:
    from PIL.Image import Image

Given = str | Path | Tensor | Any  # as a picture or a mask; Any is a PIL image, whose package is not imported here
SLACK = 1e-3  # by which rounding may leave the range
LONGEST, MOST = 2**14, 2**28  # pixels along a side, and in all pictures of one call: more is a slip of the keyboard


def rgb(given: "str | Path | Image") -> "Image":
    """A picture file or PIL image of any mode as an RGB one, as people see it.

    Turned as its EXIF data say; what is transparent lies over white. Grey of 16 bits is scaled to 8, not cut.
    Raises `UserError` for what is no picture, and for grey numbers (modes I and F) of no known range.
    """
    return _over(_opened(given), "white")


def read(given: Given) -> Tensor:
    """A picture (1, 3, h, w) in -1..1, float32, from a file or a PIL image of any mode: see `rgb`.

    A tensor (b, 3, h, w) in -1..1 is a picture already: it is checked and comes back as it is.
    Raises `UserError` as `rgb` does, and for a tensor of another shape, dtype or range.
    """
    if isinstance(given, Tensor):
        return _checked("picture", given, 3, -1)
    return _pixels(rgb(given)) / 127.5 - 1


def read_map(given: Given) -> Tensor:
    """A control map of colours, (1, 3, h, w) in 0..1, float32, from a file or a PIL image of any mode.

    What is transparent is black, as with masks: bright lines on an empty layer are a map too. A tensor (b, 3, h, w) in
    0..1 is one already. Raises `UserError` as `read` does.
    """
    if isinstance(given, Tensor):
        return _checked("control map", given, 3, 0)
    return _pixels(_over(_opened(given, "control map"), "black", "control map")) / 255


def read_mask(given: Given) -> Tensor:
    """A mask (1, 1, h, w) in 0..1, float32, from a file or a PIL image of any mode: white (1) is to be painted anew.

    Black (0) stays, and so does what is transparent: a stroke on an empty layer is a mask too. Colours count by how
    bright they are. A tensor (b, 1, h, w) of numbers in 0..1 or of booleans will do as well.
    Raises `UserError` as `read` does.
    """
    if isinstance(given, Tensor):
        return _checked("mask", given.float() if given.dtype == torch.bool else given, 1, 0).clamp(0, 1)
    return _pixels(_over(_opened(given, "mask"), "black", "mask").convert("L")) / 255


def check_size(height: object, width: object, count: int = 1, factor: int = 1) -> None:
    """Raises `UserError` for sides that are no multiples of factor or too long, and for too many pixels together."""
    for name, value in (("height", height), ("width", width)):
        whole = isinstance(value, int) and not isinstance(value, bool)
        if not whole or not 0 < value <= LONGEST or value % factor:
            raise UserError(name, value, f"a positive multiple of {factor} pixels, up to {LONGEST}")
    if count * height * width > MOST:
        raise UserError("pictures", f"{count} of {height} x {width} pixels", f"at most {MOST:,} pixels together")


def padded(pixels: Tensor, factor: int) -> Tensor:
    """(b, c, h, w) -> (b, c, h', w'), the next multiples of `factor`: the last row and column are repeated.

    Repeated, and not black or mirrored: an autoencoder sees no edge there. `pixels[..., :h, :w]` crops back.
    """
    h, w = pixels.shape[-2:]
    return extended(pixels, right=-w % factor, bottom=-h % factor)


def extended(pixels: Tensor, left: int = 0, right: int = 0, top: int = 0, bottom: int = 0) -> Tensor:
    """(b, c, h, w) -> (b, c, h + top + bottom, w + left + right): the border goes on as it is."""
    return F.pad(pixels, (left, right, top, bottom), mode="replicate")


def on_grid(mask: Tensor, factor: int) -> Tensor:
    """A mask (b, 1, h, w) on the grid of latents: 0 or 1, (b, 1, h/f, w/f).

    A cell with any pixel above 0 is painted anew as a whole. Were it kept, so would be a part of what is to go.
    """
    return F.max_pool2d((mask > 0).to(mask.dtype), factor)  #                         (b, 1, h/f, w/f)


def blended(made: Tensor, image: Tensor, mask: Tensor, factor: int = 1) -> Tensor:
    """`image` where `mask` is 0, bit by bit, and `made` where it is above, brought to meet it: (b, 3, h, w) in -1..1.

    made: (b, 3, h, w) in -1..1; image, mask: the same and (b, 1, h, w) in 0..1, or one for all. `made` comes from
    latents with cells of `factor` pixels. Those without a hole were kept, or drawn to be the same. What the decoder
    makes of them is still not `image`: it has its errors, and near the rim the new cells change its answer. Both go
    on beyond the rim. So the difference at the rim is added to what is new, spread over the new cells as smoothly as
    can be, like a membrane that is held there (Pérez et al. 2003). Springs of stiffness 1 / factor^2 hold the membrane
    to what was made (Bhat et al. 2008): with each cell away from a straight rim about a third of the difference is
    left. Without them a large one would leave a stain across the hole. Known pixels in new cells hold no membrane:
    there it is mostly the things themselves that differ. Between 0 and 1 a mask mixes both.
    Time and memory grow with the hole: about a second for half of 512 x 512 pixels, three for 1024 x 1024.
    """
    wide = torch.promote_types(torch.promote_types(made.dtype, image.dtype), torch.float32)
    made, image, mask = made.to(wide), image.to(made.device, wide), mask.to(made.device, wide)
    gaps = (image - made).detach().cpu()  #                                                (b, 3, h, w)
    cells = F.interpolate(on_grid(padded(mask, factor), factor), scale_factor=factor)  #     each wholly 0 or 1
    holes = cells[:, 0, : mask.shape[2], : mask.shape[3]].cpu() > 0
    parts = [(gaps, holes[0])] if (holes == holes[:1]).all() else zip(gaps.split(1), holes, strict=True)
    lift = torch.cat([_membrane(*part, factor**-2) for part in parts]).to(made)
    return torch.lerp(image, (made + lift).clamp(-1, 1), mask)


def _membrane(gaps: Tensor, hole: Tensor, spring: float) -> Tensor:
    """Numbers (k, c, h, w) known outside of a hole (h, w), carried on inside it; outside 0.

    Each times spring is the sum of what its neighbours are above it: the screened Laplace equation.
    """
    from scipy.sparse import identity
    from scipy.sparse.csgraph import laplacian
    from scipy.sparse.linalg import splu
    from sklearn.feature_extraction.image import grid_to_graph

    lifts = torch.zeros_like(gaps)
    if hole.all() or not hole.any():  # there is no rim
        return lifts
    y, x = (slice(max(0, int(at.min()) - 1), int(at.max()) + 2) for at in hole.nonzero(as_tuple=True))  # hole and rim
    near, numbers = hole[y, x], gaps[..., y, x].flatten(2).flatten(0, 1).numpy()  #         (h', w'), (k * c, h' * w')
    inside = near.flatten().numpy()
    rows = laplacian(grid_to_graph(*near.shape).astype(float)) + spring * identity(len(inside))
    rows = rows.tocsr()[inside]  #                                                      a pixel and its neighbours each
    # in the order for symmetric matrices, which takes half the time and memory of the usual one
    symmetric = {"permc_spec": "MMD_AT_PLUS_A", "diag_pivot_thresh": 0.0, "options": {"SymmetricMode": True}}
    solver = splu(rows[:, inside].tocsc(), **symmetric)
    within = solver.solve(-(rows[:, ~inside] @ numbers[:, ~inside].T.astype(float))).T  #   (k * c, pixels inside)
    lifts[..., y, x][..., near] = torch.from_numpy(within.astype(numbers.dtype)).view(*gaps.shape[:2], -1)
    return lifts


def _opened(given: "str | Path | Image", what: str = "picture") -> "Image":
    """A PIL image of 8 bits a channel, upright."""
    from PIL import Image, ImageOps

    name = f"{what} {given}" if isinstance(given, str | Path) else what
    if isinstance(given, str | Path) and not is_there(given):
        raise UserError(name, "no such file", "a picture file")
    if not isinstance(given, str | Path | Image.Image):
        raise UserError(name, type(given).__name__, "a path, a PIL image or a tensor")
    try:
        if isinstance(given, Image.Image):
            image = ImageOps.exif_transpose(given)
        else:
            with Image.open(given) as file:
                image = ImageOps.exif_transpose(file)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise UserError(name, f"{type(error).__name__}: {error}", "a whole picture file") from error
    return _eight_bits(image, name) if image.mode[0] in "IF" else image


def _eight_bits(image: "Image", name: str) -> "Image":
    """Grey of 16 bits (PIL's I;16, or I), or of fractions (F): PIL's own way to 8 bits cuts at 255."""
    import numpy as np
    from PIL import Image

    grey = np.asarray(image).astype(np.float32)
    top = 1 if image.mode == "F" else 2**16 - 1
    low, high = float(grey.min()), float(grey.max())
    if not 0 <= low <= high <= top:  # also false where one of them is no number
        raise UserError(f"{name} of mode {image.mode}", f"values {low:g} to {high:g}", f"grey from 0 to {top}")
    if image.mode != "F" and 0 < high <= 255:  # of 8 bits, or nearly black: who knows
        wanted = f"grey from 0 to {top}; of 8 bits it is mode L"
        raise UserError(f"{name} of mode {image.mode}", f"values up to {high:g}", wanted)
    return Image.fromarray((grey * (255 / top)).round().astype(np.uint8))


def _over(image: "Image", colour: str, what: str = "picture") -> "Image":
    from PIL import Image

    try:
        if not image.has_transparency_data:
            return image.convert("RGB")
        above = image.convert("RGBA")
    except (ValueError, TypeError) as error:  # a mode or a transparency that PIL has no way to RGB from
        raise UserError(what, f"mode {image.mode}: {error}", "one that PIL can convert to RGB") from error
    return Image.alpha_composite(Image.new("RGBA", image.size, colour), above).convert("RGB")


def _pixels(image: "Image") -> Tensor:
    """Float32 0..255, (1, c, h, w)."""
    import numpy as np

    pixels = torch.from_numpy(np.array(image)).float()  #                             (h, w, 3) or (h, w)
    return pixels.view(1, image.height, image.width, -1).permute(0, 3, 1, 2).contiguous()


def _checked(what: str, given: Tensor, channels: int, low: int) -> Tensor:
    if given.ndim != 4 or given.shape[1] != channels or not given.numel():
        raise UserError(what, tuple(given.shape), f"a tensor (b, {channels}, h, w), a path or a PIL image")
    if not given.is_floating_point():
        raise UserError(what, str(given.dtype), f"numbers from {low} to 1, float32")
    least, most = given.min().item(), given.max().item()
    if not (math.isfinite(least) and low - SLACK <= least and most <= 1 + SLACK):
        raise UserError(what, f"values {least:g} to {most:g}", f"numbers from {low} to 1")
    return given
