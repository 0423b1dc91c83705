"""From pictures to readings: background, objects, and whether the fit can be believed."""

from dataclasses import dataclass, fields

import torch
import torch.nn.functional as F
from torch import Tensor

from ..files import UserError
from ..scenes import BACKGROUNDS, COLOURS, PLACES, RELATIONS, SHAPES, SIZES, Scenes, join, place, relation, render
from .fit import SIZE, components, fit, grow

# Why a picture is unreadable: the first that applies; "ok" if it is not.
WHY = ("ok", "background", "no object", "too many objects", "noise", "colour", "shape", "fit")

# Distances of colours are Euclidean in RGB, on the 0..1 scale; the rest is on the -1..1 scale.
GROUND_NEAR = 0.12  # between the rim and a background; white and beige, the nearest two, are 0.29 apart
COLOUR_NEAR = 0.16  # between an object and its colour; half-way colours are further from all, but red-yellow: orange
NOISE = 0.14  # most noise, as a standard deviation
MARGIN = 0.3  # least margin over any other drawing, see fit.py; below lies what is 0.35 to 0.65 of the way
MISFIT = 0.075  # most that may be left around an object, in parts of what its drawing explains
BLOB = 0.4  # most that may be left anywhere, averaged over 3 x 3 pixels
BATCH = 256

_BACKGROUNDS = torch.tensor(list(BACKGROUNDS.values()))


@dataclass
class Reading:
    """What was read in n pictures.

    readable: (n,) bool; why: (n,) int64, index into WHY, 0 where readable
    scenes: the n scenes read, the larger object first, centres to 0.2 pixels of 32; where unreadable, a guess
    residual: (n,) float32, root mean square difference, -1..1 scale, between the picture (at 32 pixels) and the
    scene drawn again
    margin, misfit: (n,) float32, of the worst object (1 and 0 if all is perfect); blob: (n,) float32. MARGIN,
    MISFIT and BLOB bound them
    """

    readable: Tensor
    why: Tensor
    scenes: Scenes
    residual: Tensor
    margin: Tensor
    misfit: Tensor
    blob: Tensor

    def __len__(self):
        return len(self.readable)


@torch.no_grad()
def read(pictures: Tensor) -> Reading:
    """Read pictures (n, 3, s, s), floats in -1..1 (what lies beyond is clamped, as in a saved file), s from 32.

    Larger pictures are averaged down to 32 pixels first. One with a value that is not finite is unreadable.
    Raises UserError for another shape or for whole numbers.
    """
    shape = tuple(pictures.shape)
    square = len(shape) == 4 and shape[1] == 3 and shape[2] == shape[3] and shape[2] >= SIZE
    if not square or not pictures.is_floating_point():
        got = f"{pictures.dtype} {shape}"
        raise UserError("pictures", got, "floats of shape (n, 3, s, s) with s at least 32")
    pictures = pictures.to("cpu", torch.float32)
    return _join([_read(pictures[i : i + BATCH]) for i in range(0, max(1, shape[0]), BATCH)])


def _join(parts):
    """One Reading from several."""
    columns = [[getattr(part, field.name) for part in parts] for field in fields(Reading)]
    return Reading(*(join(c) if isinstance(c[0], Scenes) else torch.cat(c) for c in columns))


def _read(pictures):
    b = len(pictures)
    finite = pictures.isfinite().flatten(1).all(1)
    pictures = pictures.nan_to_num(0.0).clamp(-1, 1)
    if pictures.shape[3] != SIZE:
        pictures = F.interpolate(pictures, size=(SIZE, SIZE), mode="area")
    rim = torch.cat([pictures[:, :, 0], pictures[:, :, -1], pictures[:, :, :, 0], pictures[:, :, :, -1]], 2)
    ground = rim.median(2).values  # (b, 3)
    away, background = torch.cdist((ground + 1) / 2, _BACKGROUNDS).min(1)
    difference = pictures - ground[:, :, None, None]
    parts, count = components(difference)
    clear = 1 - grow(parts.amax(1), 2)  # (b, 32, 32): 1 away from the objects
    noise = (difference.square().mean(1) * clear).sum((1, 2)) / clear.sum((1, 2)).clamp(min=1)
    found, left = fit(difference, parts, ground, noise)

    def slots(values, absent):
        """(b, 2): a value for each object found."""
        return torch.full((b, 2), absent, dtype=values.dtype).index_put((found.row, found.slot), values)

    scenes = Scenes(
        shape=slots(found.kind // len(SIZES), -1),
        colour=slots(found.colour, -1),
        size=slots(found.kind % len(SIZES), -1),
        x=slots(found.x, 0.0),
        y=slots(found.y, 0.0),
        background=background,
    )
    margin, misfit = slots(found.margin, 1.0), slots(found.misfit, 0.0)
    blob = F.avg_pool2d(left, 3, 1).square().sum(1).amax((1, 2)).sqrt()
    faults = {
        "background": (away > GROUND_NEAR) | ~finite,
        "no object": count == 0,
        "too many objects": count > 2,
        "noise": noise > NOISE**2,
        "colour": (slots(found.off, 0.0) > COLOUR_NEAR).any(1),
        "shape": (~(margin >= MARGIN)).any(1),  # the other way round, NaN would pass
        "fit": (~(misfit <= MISFIT)).any(1) | (blob > BLOB),
    }
    why = torch.zeros(b, dtype=torch.int64)
    for name in reversed(WHY[1:]):
        why[faults[name]] = WHY.index(name)
    residual = (pictures - render(scenes, SIZE)).square().mean((1, 2, 3)).sqrt()
    return Reading(why == 0, why, scenes, residual, margin.amin(1), misfit.amax(1), blob)


def describe(reading: Reading, i: int) -> str:
    """The i-th reading in words: "a large red circle, top left, on white", or "unreadable: shape"."""
    if not reading.readable[i]:
        return f"unreadable: {WHY[reading.why[i]]}"
    scene = reading.scenes[i]
    where, how = int(place(scene)[0, 0]), int(relation(scene))
    names = (list(SIZES), list(COLOURS), list(SHAPES))
    rows = torch.stack([scene.size[0], scene.colour[0], scene.shape[0]], 1).tolist()  # one for each slot
    objects = [[name[at] for name, at in zip(names, row, strict=True)] for row in rows if row[2] >= 0]
    objects = [" ".join(["a", *words]) for words in objects]
    if len(objects) == 2:
        text = f"{objects[0]} {RELATIONS[how] if how >= 0 else 'and'} {objects[1]}"
    else:
        text = objects[0] + (f", {PLACES[where]}" if where >= 0 else "")
    return f"{text}, on {list(BACKGROUNDS)[scene.background]}"
