"""Lesson 14, boxes: how well what was drawn lies in the box that was asked for."""

from collections.abc import Callable

import torch
from torch import Tensor

from ...scenes import Scenes, render
from . import Exercise, Wrong, expect, hint_for, seeded

# 14.boxes

NEGATIVE = (
    "Two boxes that lie apart in both directions have two negative sides, and their product is positive. Clamp the "
    "sides of the intersection at 0 before you multiply."
)
OVER_WANTED = (
    "Divide by the area of the UNION. By the wanted box alone an object that fills the picture would be perfect."
)
OVER_DRAWN = (
    "Divide by the area of the UNION. By the drawn box alone a dot somewhere in the wanted box would be perfect."
)
SUM = "The union counts what both have ONCE: area + area - intersection."
DICE = "2 * intersection / (area + area) is the Dice score, a sister of the IoU and never smaller. Asked is the IoU."
PIXELS = "There is no 1 to be added to a side: boxes are shares of the frame, not whole pixels."
FLIPPED = "y runs downwards here, in the boxes that are asked and in those that were read: nothing is to be turned."
HULL = "You divide by the box around both. The union is smaller: area + area - intersection."
INVISIBLE = "Where the oracle cannot read a picture nothing was found: 0, whatever stands in the reading."
FIRST = "A picture may hold two objects, and the oracle puts them in no fixed order. Take the one that overlaps most."
TOGETHER = "Overlap is counted for both objects together. Take the larger of the two, not their sum or mean."
ONE_EACH = "One number for each picture: (n,)."
IOU = "Intersection: the smaller right minus the larger left, clamped at 0; likewise down; multiplied. Over the union."


def placed(rows: list[tuple]) -> Scenes:
    """Scenes of (shape, x, y, size) for each object, in red on white."""
    n = len(rows)
    made = Scenes(*(torch.full((n, 2), -1) for _ in range(3)), torch.zeros(n, 2), torch.zeros(n, 2),
                  torch.zeros(n, dtype=torch.int64))  # fmt: skip
    for i, row in enumerate(rows):
        for j, (shape, x, y, size) in enumerate(row):
            made.shape[i, j], made.colour[i, j], made.size[i, j] = shape, 0, size
            made.x[i, j], made.y[i, j] = x, y
    return made


def judges_as_the_oracle_does(fn: Callable) -> None:
    from ... import oracle

    rows = [[(0, 0.3, 0.35, 1)], [(1, 0.7, 0.6, 1)], [(4, 0.25, 0.75, 0)], [(2, 0.25, 0.25, 0)],
            [(0, 0.25, 0.3, 1), (1, 0.75, 0.7, 0)], [(3, 0.7, 0.3, 1), (4, 0.25, 0.75, 1)]]  # fmt: skip
    drawn = render(placed(rows))
    drawn = torch.cat([drawn, torch.randn(1, 3, 32, 32, generator=seeded(0)).clamp(-1, 1)])
    asked = torch.tensor([[0.09, 0.14, 0.51, 0.56], [0.4, 0.45, 0.75, 0.8], [0.0, 0.5, 0.5, 1.0],
                          [0.6, 0.65, 0.9, 0.95], [0.6, 0.55, 0.9, 0.85], [0.1, 0.6, 0.4, 0.9],
                          [0.0, 0.0, 0.6, 0.6]])  # fmt: skip
    reading = oracle.read(drawn)
    boxes = reading.scenes.boxes.clone()
    got = fn(drawn, asked)
    call = "Seven pictures, the last of them noise: in_its_box"
    if isinstance(got, Tensor) and got.shape != (7,):
        raise Wrong(f"{call} gives the shape {tuple(got.shape)}; it should be (7,)", ONE_EACH)

    def scored(ratio: Callable, pick: Callable = lambda v: v.amax(1), clamp: bool = True, there: bool = True,
               boxes: Tensor = boxes, more: float = 0.0) -> Tensor:  # fmt: skip
        a, b = boxes, asked[:, None].expand_as(boxes)
        side = torch.minimum(a[..., 2:], b[..., 2:]) - torch.maximum(a[..., :2], b[..., :2]) + more
        both = (side.clamp(min=0) if clamp else side).prod(-1)
        hull = (torch.maximum(a[..., 2:], b[..., 2:]) - torch.minimum(a[..., :2], b[..., :2])).prod(-1)
        areas = [(v[..., 2:] - v[..., :2] + more).prod(-1) for v in (a, b)]
        value = ratio(both, *areas, hull).nan_to_num(0.0) * (reading.scenes.shape >= 0)
        return pick(value) * (reading.readable if there else 1)

    def iou(both: Tensor, a: Tensor, b: Tensor, hull: Tensor) -> Tensor:
        return both / (a + b - both)

    turned = torch.stack([boxes[..., 0], 1 - boxes[..., 3], boxes[..., 2], 1 - boxes[..., 1]], -1)
    slips = [
        (scored(iou, clamp=False), NEGATIVE), (scored(iou, there=False), INVISIBLE),
        (scored(iou, lambda v: v[:, 0]), FIRST), (scored(iou, lambda v: v[:, 1]), FIRST),
        (scored(iou, lambda v: v.sum(1)), TOGETHER),
        (scored(iou, lambda v: v.mean(1)), TOGETHER), (scored(lambda both, a, b, hull: both / b), OVER_WANTED),
        (scored(lambda both, a, b, hull: both / a), OVER_DRAWN), (scored(lambda both, a, b, hull: both / (a + b)), SUM),
        (scored(lambda both, a, b, hull: 2 * both / (a + b)), DICE),
        (scored(lambda both, a, b, hull: both / hull), HULL), (scored(iou, more=1.0), PIXELS),
        (scored(iou, boxes=turned), FLIPPED),
    ]  # fmt: skip
    expect(got, scored(iou), call, hint_for(got, slips, IOU))


EXERCISES = (
    Exercise("14.boxes", (
        "`reading = oracle.read(pictures)`; reading.scenes.boxes is (n, 2, 4), and boxes[:, None] (n, 1, 4) fits it.",
        "Sides of the intersection: minimum of the rights minus maximum of the lefts, `.clamp(min=0)`; likewise in y.",
        "iou = both / (a + b - both), (n, 2); 0 where not reading.readable; then `.amax(1)`.",
    ), (judges_as_the_oracle_does,)),
)  # fmt: skip
