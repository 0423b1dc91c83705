"""Captions that are almost true: each scene with one fact changed, so that what it says of the picture is false.

A model that compares a picture with captions of other scenes can do well by looking for the right words, whichever
object they belong to (Yuksekgonul et al. 2023, "When and why vision-language models behave like bags-of-words").
Captions of the same words in another order, and of one word changed, take that way out.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from .captions import captions
from .words import BACKGROUNDS, COLOURS, SHAPES
from .world import HELD_PAIRS, INSET, RADII, Scenes, pick, place, uniforms

SALT = 0x6E6567  # so that changes are not drawn with the very numbers that drew the scenes and their captions
_ALLOWED = torch.ones(len(COLOURS), len(SHAPES), dtype=torch.bool)
_ALLOWED[HELD_PAIRS[:, 0], HELD_PAIRS[:, 1]] = False


def _with(scenes: Scenes, **changed: Tensor) -> Scenes:
    return Scenes(**(vars(scenes) | changed))


def _proper(scenes: Scenes) -> Tensor:
    """(n,) bool: no held-out pair, and the two objects differ in their (colour, shape)."""
    present = scenes.shape >= 0
    allowed = (_ALLOWED[scenes.colour.clamp(min=0), scenes.shape.clamp(min=0)] | ~present).all(1)
    same = (scenes.colour[:, 0] == scenes.colour[:, 1]) & (scenes.shape[:, 0] == scenes.shape[:, 1])
    return allowed & ~same


def _another(value: Tensor, k: int, u: Tensor) -> Tensor:
    """An index of k, other than `value`."""
    return (value + 1 + pick(u, k - 1)) % k


def _slot(scenes: Scenes, u: Tensor) -> tuple[Tensor, Tensor]:
    """Row numbers and the slot of one object of each scene, to index an (n, 2) array with."""
    return torch.arange(len(scenes)), ((u < 0.5) & (scenes.count == 2)).long()


def _change(scenes: Scenes, name: str, k: int, u: Tensor) -> Scenes:
    """One object's colour, shape or size becomes another of the k."""
    where = _slot(scenes, u[:, 0])
    value = getattr(scenes, name).clone()
    value[where] = _another(value[where], k, u[:, 1])
    return _with(scenes, **{name: value})


def change_colour(scenes: Scenes, u: Tensor) -> tuple[Scenes, Tensor]:
    changed = _change(scenes, "colour", len(COLOURS), u)
    return changed, _proper(changed)


def change_shape(scenes: Scenes, u: Tensor) -> tuple[Scenes, Tensor]:
    changed = _change(scenes, "shape", len(SHAPES), u)
    return changed, _proper(changed)


def change_size(scenes: Scenes, u: Tensor) -> tuple[Scenes, Tensor]:
    return _change(scenes, "size", len(RADII), u), scenes.count > 0


def change_background(scenes: Scenes, u: Tensor) -> tuple[Scenes, Tensor]:
    return _with(scenes, background=_another(scenes.background, len(BACKGROUNDS), u[:, 0])), scenes.count > 0


def change_place(scenes: Scenes, u: Tensor) -> tuple[Scenes, Tensor]:
    """A lone object moves to the middle of another ninth of the frame, or as near as its size lets it."""
    before = place(scenes)[:, 0]
    after = _another(before, 9, u[:, 0])
    margin = scenes.radius[:, 0] + INSET
    x, y = (
        torch.minimum(torch.maximum((2 * third + 1) / 6, margin), 1 - margin) for third in (after % 3, after // 3)
    )
    lone = scenes.count == 1
    moved = _with(
        scenes,
        x=torch.where(lone[:, None], torch.stack([x, scenes.x[:, 1]], 1), scenes.x),
        y=torch.where(lone[:, None], torch.stack([y, scenes.y[:, 1]], 1), scenes.y),
    )
    return moved, lone & (before >= 0)


def _swap(name: str) -> Callable[[Scenes, Tensor], tuple[Scenes, Tensor]]:
    def swap(scenes: Scenes, u: Tensor) -> tuple[Scenes, Tensor]:
        value = getattr(scenes, name)
        changed = _with(scenes, **{name: value.flip(1)})
        return changed, (scenes.count == 2) & (value[:, 0] != value[:, 1]) & _proper(changed)

    return swap


def mirror(scenes: Scenes, u: Tensor) -> tuple[Scenes, Tensor]:
    """The two objects change places: left becomes right, above becomes below."""
    two = scenes.count == 2
    x, y = (torch.where(two[:, None], v.flip(1), v) for v in (scenes.x, scenes.y))
    return _with(scenes, x=x, y=y), two


def turn(scenes: Scenes, u: Tensor) -> tuple[Scenes, Tensor]:
    """Left or right becomes above or below, or the other way about, and the one that is false even loosely.

    An object to the left may lie a little higher, too: then "below" is the wrong answer, not "above".
    """
    two = scenes.count == 2
    dx, dy = scenes.x[:, 0] - scenes.x[:, 1], scenes.y[:, 0] - scenes.y[:, 1]
    against = (two & (dx * dy > 0))[:, None]
    x = torch.where(against, 1 - scenes.y, scenes.y)
    y = torch.where(against, 1 - scenes.x, scenes.x)
    return _with(scenes, x=torch.where(two[:, None], x, scenes.x), y=torch.where(two[:, None], y, scenes.y)), two


# Each makes (changed scenes, which of them were changed as the name says) from scenes and (n, 2) numbers in 0..1.
CHANGES = {
    "colour": change_colour,
    "shape": change_shape,
    "size": change_size,
    "background": change_background,
    "place": change_place,
    "colours swapped": _swap("colour"),
    "shapes swapped": _swap("shape"),
    "sizes swapped": _swap("size"),
    "mirrored": mirror,
    "turned": turn,
}


def hard_negatives(scenes: Scenes, seed: int = 0, start: int = 0, count: int = 2) -> list[Scenes]:
    """For each of n scenes, `count` others (at most 4) that differ in one fact: a list of `count` Scenes of n each.

    A changed scene has another colour, shape, size, background or place of one object, or two objects with their
    colours, shapes or sizes exchanged, or another relation; the `count` changes of one scene are of different kinds.
    None holds a held-out pair. They are there to be captioned: no one has looked whether the objects overlap.
    What scene i becomes depends only on it and (seed, start + i). The scenes must hold no held-out pair themselves.
    """
    kinds = len(CHANGES)
    u = uniforms(seed + SALT, start, len(scenes), 3 * kinds)
    made = [change(scenes, u[:, 2 * i : 2 * i + 2]) for i, change in enumerate(CHANGES.values())]
    # Each kind that applies gets a random number, the others none; the largest `count` are taken.
    fits = torch.stack([ok for _, ok in made], 1)  #                                                    (n, kinds)
    order = torch.where(fits, u[:, 2 * kinds : 3 * kinds] + 1, 0.0).argsort(dim=1, descending=True, stable=True)
    return [_gather([changed for changed, _ in made], order[:, k]) for k in range(count)]


def _gather(made: list[Scenes], kind: Tensor) -> Scenes:
    """Scene i of the kind[i]-th of several Scenes of n each."""
    row = torch.arange(len(kind))
    return Scenes(**{name: torch.stack([vars(m)[name] for m in made])[kind, row] for name in vars(made[0])})


def false_captions(
    scenes: Scenes, seed: int = 0, start: int = 0, full: bool = False, count: int = 2
) -> list[list[str]]:
    """Captions of the hard negatives in the very form of `captions(scenes, seed, start, full)`: n lists of `count`.

    Each differs from the true caption in the words that were changed and is false of the picture. Where the changed
    fact is one that the caption leaves unsaid, another colour or shape, which is always said, takes its place.
    """
    true = captions(scenes, seed, start, full)
    columns = []
    for k, changed in enumerate(hard_negatives(scenes, seed, start, count)):
        texts = captions(changed, seed, start, full)
        for i in [i for i, (a, b) in enumerate(zip(texts, true, strict=True)) if a == b]:
            texts[i] = captions(_spare(scenes[i], seed, start + i, k), seed, start + i, full)[0]
        columns.append(texts)
    return [list(row) for row in zip(*columns, strict=True)]


def _spare(scene: Scenes, seed: int, number: int, k: int) -> Scenes:
    """One scene with another colour (k even) or shape (k odd): the first proper one of a random order."""
    change = (change_colour, change_shape)[k % 2]
    for attempt in range(100):
        changed, ok = change(scene, uniforms(seed + SALT + 1 + attempt, number, 1, 2))
        if ok.all():
            return changed
    raise AssertionError("every colour has shapes and every shape has colours to change to")
