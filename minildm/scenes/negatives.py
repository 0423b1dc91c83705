"""Captions that are almost true: each scene with one fact changed, so that what it says of the picture is false.

A model that compares a picture with captions of other scenes can do well by looking for the right words, whichever
object they belong to (Yuksekgonul et al. 2023, "When and why vision-language models behave like bags-of-words").
Captions of the same words in another order, and of one word changed, take that way out.
"""

import torch
from torch import Tensor

from ..draws import uniforms
from .captions import captions
from .words import BACKGROUNDS, COLOURS, SHAPES, SIZES
from .world import HELD_PAIRS, INSET, Scenes, pick, place

SALT = 0x6E6567  # so that changes are not drawn with the very numbers that drew the scenes and their captions
CHOICES = {"colour": len(COLOURS), "shape": len(SHAPES), "size": len(SIZES)}
_ALLOWED = torch.ones(len(COLOURS), len(SHAPES), dtype=torch.bool)
_ALLOWED[HELD_PAIRS[:, 0], HELD_PAIRS[:, 1]] = False


def _with(scenes: Scenes, **changed: Tensor) -> Scenes:
    return Scenes(**(vars(scenes) | changed))


def change(scenes: Scenes, name: str, u: Tensor) -> tuple[Scenes, Tensor]:
    """One object of each scene gets another colour, shape or size, as `name` says; this can always be done.

    u: (n, 2) in 0..1, which object and which value. Returns the scenes and (n,) True.
    """
    n = torch.arange(len(scenes))
    slot = ((u[:, 0] < 0.5) & (scenes.count == 2)).long()
    value = {key: getattr(scenes, key)[n, slot, None] for key in CHOICES}  #              (n, 1) each
    now, value[name] = value[name], torch.arange(CHOICES[name])[None]  #                  (n, 1), (1, k)
    twin = (value["colour"] == scenes.colour[n, 1 - slot, None]) & (
        value["shape"] == scenes.shape[n, 1 - slot, None]
    )
    good = (value[name] != now) & (name == "size" or _ALLOWED[value["colour"], value["shape"]] & ~twin)
    wanted = (u[:, 1] * good.sum(1)).long()[:, None]  # 0 for the first good value, and so on
    new = getattr(scenes, name).clone()
    new[n, slot] = (good.cumsum(1) > wanted).long().argmax(1)
    return _with(scenes, **{name: new}), torch.ones_like(slot, dtype=torch.bool)


def change_background(scenes: Scenes, u: Tensor) -> tuple[Scenes, Tensor]:
    """Another background; u: (n, 2) in 0..1. Returns the scenes and (n,) True."""
    k = len(BACKGROUNDS)
    background = (scenes.background + 1 + pick(u[:, 1], k - 1)) % k
    return _with(scenes, background=background), scenes.count > 0


def change_place(scenes: Scenes, u: Tensor) -> tuple[Scenes, Tensor]:
    """A lone object goes to the middle of another ninth of the frame, or as near as its size lets it.

    u: (n, 2) in 0..1. Returns the scenes and (n,) bool: where there is one object whose place is beyond doubt.
    """
    before = place(scenes)[:, 0]
    after = (before + 1 + pick(u[:, 1], 8)) % 9
    margin = scenes.radius[:, 0] + INSET
    middle = torch.stack([after % 3, after // 3]) * 2 / 6 + 1 / 6
    x, y = torch.minimum(torch.maximum(middle, margin), 1 - margin)  #                    (n,) each
    lone = scenes.count == 1
    x, y = (
        torch.where(lone[:, None], torch.stack([new, old[:, 1]], 1), old)
        for new, old in ((x, scenes.x), (y, scenes.y))
    )
    return _with(scenes, x=x, y=y), lone & (before >= 0)


def swap(scenes: Scenes, name: str, u: Tensor) -> tuple[Scenes, Tensor]:
    """The two objects exchange their colours, shapes or sizes, as `name` says.

    Returns the scenes and (n,) bool: where there are two, that differ in it, and no held-out pair comes of it.
    """
    value = getattr(scenes, name)
    changed = _with(scenes, **{name: value.flip(1)})
    allowed = _ALLOWED[changed.colour.clamp(min=0), changed.shape.clamp(min=0)].all(1)
    return changed, (scenes.count == 2) & (value[:, 0] != value[:, 1]) & allowed


def mirror(scenes: Scenes, u: Tensor) -> tuple[Scenes, Tensor]:
    """The two objects change places: left becomes right, above becomes below. Also (n,) bool: where there are two."""
    two = scenes.count == 2
    x, y = (torch.where(two[:, None], v.flip(1), v) for v in (scenes.x, scenes.y))
    return _with(scenes, x=x, y=y), two


def turn(scenes: Scenes, u: Tensor) -> tuple[Scenes, Tensor]:
    """Left or right becomes above or below, or the other way about, and the one that is false even loosely.

    An object to the left may lie a little higher, too: then "below" is the wrong answer, not "above".
    Returns the scenes and (n,) bool: where there are two objects.
    """
    two = scenes.count == 2
    dx, dy = scenes.x[:, 0] - scenes.x[:, 1], scenes.y[:, 0] - scenes.y[:, 1]
    against = (dx * dy > 0)[:, None]
    x = torch.where(against, 1 - scenes.y, scenes.y)
    y = torch.where(against, 1 - scenes.x, scenes.x)
    return _with(
        scenes, x=torch.where(two[:, None], x, scenes.x), y=torch.where(two[:, None], y, scenes.y)
    ), two


# Each maps scenes and (n, 2) numbers in 0..1 to changed scenes and where they were changed. The first are new words,
# the second the same words about other objects, or another relation.
WORDS = {
    "colour": lambda scenes, u: change(scenes, "colour", u),
    "shape": lambda scenes, u: change(scenes, "shape", u),
    "size": lambda scenes, u: change(scenes, "size", u),
    "background": change_background,
    "place": change_place,
}
BINDINGS = {
    "colours swapped": lambda scenes, u: swap(scenes, "colour", u),
    "shapes swapped": lambda scenes, u: swap(scenes, "shape", u),
    "sizes swapped": lambda scenes, u: swap(scenes, "size", u),
    "mirrored": mirror,
    "turned": turn,
}
CHANGES = WORDS | BINDINGS


def hard_negatives(
    scenes: Scenes, seed: int = 0, start: int = 0, count: int = 2, mirrored: bool = False
) -> list[Scenes]:
    """For each of n scenes, `count` others (1 to 4) that differ in one fact: a list of `count` Scenes of n each.

    One object has another colour, shape, size or place, or the background is another. Where there are two objects,
    every other change, the first included, is one of binding: they exchange their colours, shapes or sizes, or get
    another relation. With `mirrored` the first is that they change places, and all others of binding come next.
    The changes of one scene are of different kinds. None holds a held-out pair; the scenes must hold none
    themselves. They are there to be captioned: no one has looked whether the objects now overlap.
    What scene i becomes depends only on it and (seed, start + i).
    Raises ValueError if count is not 1 to 4.
    """
    if count not in (1, 2, 3, 4):
        raise ValueError(f"count: got {count!r}; expected 1 to 4")
    kinds = len(CHANGES)
    u = uniforms(seed + SALT, start, len(scenes), 3 * kinds)
    made = [make(scenes, u[:, 2 * i : 2 * i + 2]) for i, make in enumerate(CHANGES.values())]
    fits = torch.stack([where for _, where in made], 1)  #                                (n, kinds)
    luck = torch.where(fits, u[:, 2 * kinds :], -1.0)
    if mirrored:
        luck[:, list(CHANGES).index("mirrored")] = 2.0  # where there is one object, no binding is chosen at all
    words = luck[:, : len(WORDS)].argsort(dim=1, descending=True, stable=True)
    bindings = luck[:, len(WORDS) :].argsort(dim=1, descending=True, stable=True) + len(WORDS)
    mixed = torch.cat([bindings, words], 1) if mirrored else torch.stack([bindings, words], 2).flatten(1)
    chosen = torch.where((scenes.count == 2)[:, None], mixed[:, :4], words[:, :4])  #     (n, 4)
    return [_gather([changed for changed, _ in made], chosen[:, k]) for k in range(count)]


def _gather(made: list[Scenes], kind: Tensor) -> Scenes:
    """Scene i of the kind[i]-th of several Scenes of n each."""
    row = torch.arange(len(kind))
    return Scenes(**{name: torch.stack([vars(m)[name] for m in made])[kind, row] for name in vars(made[0])})


def false_captions(
    scenes: Scenes, seed: int = 0, start: int = 0, full: bool = False, count: int = 2, mirrored: bool = False
) -> list[list[str]]:
    """Captions of `hard_negatives` in the very form of `captions(scenes, seed, start, full)`: n lists of `count`.

    Each differs from the true caption in the words that were changed and is false of the picture. Where the changed
    fact is one that the caption leaves unsaid, another colour or shape, which is always said, takes its place.
    Raises ValueError if count is not 1 to 4.
    """
    true = captions(scenes, seed, start, full)
    columns = []
    for k, changed in enumerate(hard_negatives(scenes, seed, start, count, mirrored)):
        texts = captions(changed, seed, start, full)
        for i in [i for i in range(len(true)) if texts[i] == true[i]]:
            u = uniforms(seed + SALT + 1 + k, start + i, 1, 2)
            spare, _ = change(scenes[i], ("colour", "shape")[k % 2], u)
            texts[i] = captions(spare, seed, start + i, full)[0]
        columns.append(texts)
    return [list(row) for row in zip(*columns, strict=True)]
