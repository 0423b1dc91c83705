"""What a ControlNet of the shapes world is shown, edges or boxes, and how well a picture follows its edges."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from .clip import MiniCLIP
from .files import UserError
from .layers import check_whole
from .pictures import LONGEST, SLACK
from .scenes import COLOURS, SHAPES, SIZES, Scenes, box_map, edge_map

_SIZES, _COLOURS = list(SIZES), list(COLOURS)
SEEN = 0.3  # least change of a channel (of 2) over two pixels that is an edge; any colour on any ground has twice that


class Box(NamedTuple):
    """Something in a rectangle of the frame: its caption, and left, top, right and bottom in 0..1."""

    caption: str
    left: float
    top: float
    right: float
    bottom: float


def edges(scenes: Scenes, size: int = 32) -> Tensor:
    """The outlines of the objects as a picture, (n, 3, size, size) in 0..1: what published edge ControlNets read."""
    return edge_map(scenes, size).expand(-1, 3, -1, -1)


def layout(clip: MiniCLIP, boxes: Sequence[Box], height: int = 32, width: int | None = None) -> Tensor:
    """Boxes with captions as a map (1, d, height, width): every box filled with the mini-CLIP vector of its caption.

    The map says where something is and, in words, what; no shape or colour is drawn into it. Where boxes overlap their
    vectors are added.
    Raises `UserError` for no boxes, one that covers less than a pixel of the map, one beyond the frame, one without a
    caption, and a height or width below 8.
    """
    if not boxes:
        raise UserError("layout", "no boxes", "one box with a caption, or more")
    width = height if width is None else width
    check_whole("height", height, 8, LONGEST)
    check_whole("width", width, 8, LONGEST)
    boxes = checked(boxes)
    vectors = clip.prompts([box.caption for box in boxes])  #                             (m, d)
    where = box_map(torch.tensor([box[1:] for box in boxes]), height, width)  #        (m, height, width)
    for i, area in enumerate(where.sum((1, 2)).tolist()):
        if area < 1 - SLACK:
            least = f"an area of at least one pixel of the map, {height} x {width}"
            raise UserError(f"box {i} ({boxes[i].caption})", boxes[i][1:], least)
    return painted(where[None].to(vectors.device), vectors[None])


def checked(boxes: Sequence[Sequence]) -> tuple[Box, ...]:
    """Boxes, or the like of (caption, left, top, right, bottom), as `Box`es; `UserError` where `layout` raises it."""
    try:
        made = tuple(Box(*box) for box in boxes)
    except TypeError as error:
        raise UserError("boxes", boxes, "a list of Box(caption, left, top, right, bottom)") from error
    for i, (caption, *sides) in enumerate(made):
        if not isinstance(caption, str) or not caption.strip():
            raise UserError(f"box {i}, caption", caption, "some words, say 'a small red circle'")
        if not all(isinstance(side, int | float) and 0 <= side <= 1 for side in sides):
            raise UserError(f"box {i} ({caption})", tuple(sides), "left, top, right and bottom, in 0..1 of the frame")
        if sides[0] >= sides[2] or sides[1] >= sides[3]:
            raise UserError(f"box {i} ({caption})", tuple(sides), "left below right and top below bottom, an area")
    return tuple(Box(caption, *map(float, sides)) for caption, *sides in made)


def boxes_of(scenes: Scenes) -> list[list[Box]]:
    """The box around every object of each scene, its size, colour and shape as the caption."""
    rows = zip(scenes.shape.tolist(), scenes.colour.tolist(), scenes.size.tolist(), scenes.boxes.tolist(), strict=True)
    named = [list(zip(*row, strict=True)) for row in rows]
    return [[Box(f"a {_SIZES[k]} {_COLOURS[j]} {SHAPES[i]}", *box) for i, j, k, box in row if i >= 0] for row in named]


def painted(where: Tensor, vectors: Tensor) -> Tensor:
    """Masks (b, m, h, w) filled with unit vectors (b, m, d), added up, of about unit variance: (b, d, h, w)."""
    return torch.einsum("bmhw,bmd->bdhw", where, vectors) * vectors.shape[2] ** 0.5


def outlines(pictures: Tensor) -> Tensor:
    """Where pictures (n, 3, h, w) in -1..1 change: (n, 1, h, w) bool. The pixels either side of an edge have it."""
    around = F.pad(pictures, (1, 1, 1, 1), mode="replicate")
    x = (around[:, :, 1:-1, 2:] - around[:, :, 1:-1, :-2]).abs()
    y = (around[:, :, 2:, 1:-1] - around[:, :, :-2, 1:-1]).abs()
    return torch.maximum(x, y).amax(1, keepdim=True) > SEEN


def edge_f1(pictures: Tensor, maps: Tensor) -> Tensor:
    """How well outlines lie where a map wants them: pictures (n, 3, h, w) in -1..1, maps (n, 1 or 3, h, w) -> (n,).

    The harmonic mean of two shares, with one pixel of tolerance in each direction: of the outlines that lie on a line
    of the map (above 0.5), and of the map's lines on which an outline lies. 0 where one has none.
    """
    drawn, wanted = outlines(pictures).float(), (maps[:, :1] > 0.5).float()

    def share(of: Tensor, near: Tensor) -> Tensor:
        near = F.max_pool2d(near, 3, stride=1, padding=1)
        return (of * near).sum((1, 2, 3)) / of.sum((1, 2, 3)).clamp(min=1)

    precision, recall = share(drawn, wanted), share(wanted, drawn)
    return 2 * precision * recall / (precision + recall).clamp(min=1e-12)
