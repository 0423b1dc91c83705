"""Lesson 01, holes: how far from everything that was encoded a latent lies."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from . import Exercise, Wrong, expect, hint_for, seeded

# 01.holes

SELF = (
    "The nearest to each encoded latent is itself, at distance 0. Leave it out before you take the smallest: "
    "`d.fill_diagonal_(math.inf)`. (Do not rely on `d > 0`: rounding can make 0 a little more.)"
)
MEAN = "To the NEAREST one: the smallest of the distances, not their mean. In a hole one can be near the mean of all."
SQUARED = "These are squared distances. The root comes first, or everything far away looks farther still."
SCALE = "Divide by the usual distance. 0.3 says nothing by itself: are the others 0.01 apart, or 10?"
AXIS = "One number for each of z: the smallest over the ENCODED ones, in `torch.cdist(z, encoded)` over dim 1."
VALUES = "`min(1)` gives two things, the values and where they are. Take `.values` of it, or use `amin(1)`."
FARTHEST = "This is the distance to the FARTHEST latent. A hole is where even the nearest is far away."
MEDIAN = "The usual distance is the MEDIAN of them: a mean is pulled up by a few loners."
AMONG = "The usual distance is between ENCODED latents, each to its nearest other. Those of z are what is to be judged."
CENTRE = "The distance to the mean of all says how far out z lies. A hole can be right in the middle."


def latents() -> list[tuple[str, Tensor, Tensor]]:
    """What to judge and what was encoded, an odd number of them: on a line, on a ring, and a cloud with loners."""
    turn = torch.arange(21) / 21 * 2 * math.pi
    ring = 3 * torch.stack([turn.cos(), turn.sin()], 1)
    generator = seeded(0)
    cloud = torch.randn(15, 3, generator=generator) * torch.tensor([3.0, 1.0, 0.5])
    return [
        ("Latents 0, 1, 2, 3 and 10 on a line", torch.tensor([[1.5], [6.0], [10.0]]),
         torch.tensor([[0.0], [1.0], [2.0], [3.0], [10.0]])),
        ("21 latents on a ring, and its centre", torch.tensor([[0.0, 0.0], [3.0, 0.1]]), ring),
        ("A cloud of 15 latents", torch.randn(6, 3, generator=generator) * 3, cloud),
    ]  # fmt: skip


def distances(a: Tensor, b: Tensor) -> Tensor:
    return (a[:, None] - b).norm(dim=2)


def finds_holes(fn: Callable) -> None:
    for what, z, encoded in latents():
        there, among = distances(z, encoded), distances(encoded, encoded)
        others = among.clone().fill_diagonal_(math.inf).amin(1)
        usual, nearest = others.median(), there.amin(1)
        out = (z - encoded.mean(0)).norm(dim=1)
        slips = [
            (nearest, SCALE), (nearest**2 / usual**2, SQUARED), (nearest**2, SQUARED), (there.mean(1) / usual, MEAN),
            (there.mean(1), MEAN), (there.mean(1) / among.mean(1).median(), MEAN), (there.amax(1) / usual, FARTHEST),
            (there.amax(1) / among.amax(1).median(), FARTHEST), (nearest / others.mean(), MEDIAN),
            (nearest / nearest.median(), AMONG), (out, CENTRE), (out / usual, CENTRE), (nearest / among.median(), SELF),
        ]  # fmt: skip
        got = fn(z, encoded)
        if isinstance(got, tuple):
            raise Wrong(f"{what}: holes gives {len(got)} things; one tensor is wanted", VALUES)
        if isinstance(got, Tensor) and got.shape != nearest.shape:
            raise Wrong(f"{what}: holes gives the shape {tuple(got.shape)}; one number for each of z is wanted, "
                        f"{tuple(nearest.shape)}", AXIS)  # fmt: skip
        endless = isinstance(got, Tensor) and got.shape == nearest.shape and not got.isfinite().all()
        hint = SELF if endless else hint_for(got, slips, SCALE, 1e-3)
        expect(got, nearest / usual, f"{what}: holes", hint)


EXERCISES = (
    Exercise("01.holes", (
        "Two tables of distances: from z to the encoded ones, (m, n), and among the encoded ones, (n, n).",
        "`torch.cdist(a, b)` is such a table. In the second one `fill_diagonal_(math.inf)` takes each latent's "
        "distance to itself out of the way.",
        "usual = among.amin(1).median(); the answer is torch.cdist(z, encoded).amin(1) / usual.",
    ), (finds_holes,)),
)  # fmt: skip
