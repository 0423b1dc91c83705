"""Compares readings with the scenes that were wanted, and counts."""

import math

import torch
from torch import Tensor

from ..files import UserError
from ..scenes import Scenes, ninth, place, relation
from .reading import Reading


def matches(reading: Reading, scenes: Scenes, every_place: bool = False) -> dict[str, Tensor]:
    """Which attributes of the wanted scenes were read: a dict of (n,) bool, "all" among them.

    "shape", "colour" and "size" hold if they do for every object; two objects are compared in the order in which
    more of these agree. "relation" is asked of two objects, and "place" of one that lies beyond doubt in it: what a
    full caption states. Both hold where nothing is asked (every_place=True asks for the places of two objects
    too). An unreadable picture has nothing right.
    Raises UserError if the numbers of pictures and scenes differ.
    """
    if len(reading) != len(scenes):
        raise UserError("scenes", len(scenes), f"as many as pictures were read, {len(reading)}")
    columns = ("shape", "colour", "size", "x", "y")
    got = reading.scenes
    orders = [torch.tensor(order).expand(len(scenes), 2) for order in ((0, 1), (1, 0))]
    straight, crossed = (
        sum((getattr(got, name).gather(1, order) == getattr(scenes, name)).sum(1) for name in columns[:3])
        for order in orders
    )
    order = torch.where((crossed > straight)[:, None], orders[1], orders[0])
    got = Scenes(*(getattr(got, name).gather(1, order) for name in columns), got.background)
    right = {name: (getattr(got, name) == getattr(scenes, name)).all(1) for name in columns[:3]}
    right["background"] = got.background == scenes.background
    right["count"] = got.count == scenes.count

    places, relations = _asked(scenes, every_place)
    dx, dy = got.x[:, 0] - got.x[:, 1], got.y[:, 0] - got.y[:, 1]
    side = torch.where(dx.abs() > dy.abs(), (dx > 0).long(), 2 + (dy > 0).long())
    right["place"] = ((ninth(got) == places) | (places < 0)).all(1) & right["count"]
    right["relation"] = ((side == relations) | (relations < 0)) & right["count"]
    right = {name: value & reading.readable for name, value in right.items()}
    return right | {"all": torch.stack(list(right.values())).all(0)}


def _asked(scenes, every_place):
    """The places (n, 2) and relations (n,) that a reading must find; -1 where none is asked."""
    places = place(scenes)
    if not every_place:
        places = torch.where((scenes.count == 1)[:, None], places, -1)
    return places, relation(scenes)


def accuracy(reading: Reading, scenes: Scenes, every_place: bool = False) -> dict[str, tuple[float, float, float]]:
    """Share of pictures with each attribute right (see matches), and "readable": (share, low, high) of wilson().

    Place and relation are counted only over the scenes that are asked for them, and left out if none is.
    """
    right = {"readable": reading.readable} | matches(reading, scenes, every_place)
    places, relations = _asked(scenes, every_place)
    asked = {"place": (places >= 0).any(1), "relation": relations >= 0}
    picked = {name: value[asked[name]] if name in asked else value for name, value in right.items()}
    return {name: wilson(int(value.sum()), len(value)) for name, value in picked.items() if len(value)}


def errors(reading: Reading, scenes: Scenes) -> dict[str, tuple[float, float, float]]:
    """Two ways to have every word right and the sentence wrong: shares of the scenes of two objects, as wilson().

    "binding": shapes, colours and sizes are all there, but not on the objects they were asked of. "relation": both
    objects are as asked, on the wrong sides of each other, of the scenes whose relation is beyond doubt. Left out where
    no scene is of that kind.
    Raises UserError if the numbers of pictures and scenes differ.
    """
    right = matches(reading, scenes)
    names = ("shape", "colour", "size")
    there = [getattr(reading.scenes, name).sort(1).values == getattr(scenes, name).sort(1).values for name in names]
    objects = torch.stack([right[name] for name in names]).all(0)
    wrong = {
        "binding": reading.readable & torch.stack(there).all(0).all(1) & ~objects,
        "relation": objects & ~right["relation"],
    }
    asked = {"binding": scenes.count == 2, "relation": relation(scenes) >= 0}
    return {name: wilson(int(wrong[name][of].sum()), int(of.sum())) for name, of in asked.items() if of.any()}


def wilson(hits: int, n: int) -> tuple[float, float, float]:
    """A share hits / n and its 95% interval, (share, low, high), with a width even if all or none are hits.

    The score interval of E. B. Wilson, "Probable inference, the law of succession, and statistical inference",
    J. Am. Stat. Assoc. 22 (1927) 209-212: all p with (hits / n - p)^2 <= z^2 p (1 - p) / n.
    Raises UserError unless 0 <= hits <= n and n > 0.
    """
    if n < 1 or not 0 <= hits <= n:
        raise UserError("hits of n", (hits, n), "0 <= hits <= n and n at least 1")
    share, z = hits / n, 1.959964
    middle, reach = share + z * z / (2 * n), z * math.sqrt(share * (1 - share) / n + (z / (2 * n)) ** 2)
    low, high = ((middle + sign * reach) / (1 + z * z / n) for sign in (-1, 1))
    return share, max(min(low, share), 0.0), min(max(high, share), 1.0)  # rounding could leave the share outside
