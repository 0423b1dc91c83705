"""Where objects were drawn, against where they were to be."""

import torch
from torch import Tensor

from ..files import UserError
from ..scenes import Scenes
from .reading import Reading


def overlap(boxes: Tensor, others: Tensor) -> Tensor:
    """Intersection over union of boxes (..., 4), left, top, right, bottom: (...), 0..1. 0 where both are empty."""
    corner = torch.minimum(boxes[..., 2:], others[..., 2:]) - torch.maximum(boxes[..., :2], others[..., :2])
    both = corner.clamp(min=0).prod(-1)
    areas = [(b[..., 2:] - b[..., :2]).clamp(min=0).prod(-1) for b in (boxes, others)]
    return both / (areas[0] + areas[1] - both).clamp(min=1e-12)


def in_boxes(reading: Reading, wanted: Scenes) -> tuple[Tensor, Tensor]:
    """For every wanted object how well the read one lies in its box, and whether that one is it: two of (n, 2).

    The first is the intersection over union of the boxes (`Scenes.boxes`), 0 for an object that was not drawn; the
    second says whether shape, colour and size are as wanted. Objects are paired as their boxes overlap most, whatever
    they are. An unreadable picture has 0 and False. Where no object was wanted: NaN and False.
    Raises UserError if the numbers of pictures and scenes differ.
    """
    if len(reading) != len(wanted):
        raise UserError("scenes", len(wanted), f"as many as pictures were read, {len(reading)}")
    got = reading.scenes
    asked = wanted.shape >= 0  # (n, 2)
    iou = overlap(got.boxes[:, :, None], wanted.boxes[:, None])  # (n, got, wanted)
    iou = iou * (got.shape >= 0)[:, :, None] * asked[:, None] * reading.readable[:, None, None]
    straight = iou.diagonal(dim1=1, dim2=2)
    crossed = iou.flip(1).diagonal(dim1=1, dim2=2)
    turned = crossed.sum(1) > straight.sum(1)  # (n,)
    order = torch.where(turned[:, None], torch.tensor([1, 0]), torch.tensor([0, 1]))
    names = ("shape", "colour", "size")
    same = [getattr(got, name).gather(1, order) == getattr(wanted, name) for name in names]
    right = torch.stack(same).all(0) & asked & reading.readable[:, None]
    chosen = torch.where(turned[:, None], crossed, straight)
    return torch.where(asked, chosen, torch.nan), right & (chosen > 0)
