"""The oracle: reads a scene back from pixels by fitting the renderer to them, or says that it cannot.

Nothing here is trained. The background is the colour of the rim, the objects are what differs from it, and each is
compared with drawings of every shape in both sizes. Let D be the difference between picture and background, and T a
drawing (coverage, 0..1). The colour that fits best is c = (T.D) / (T.T), and what it explains of |D|^2 is (T.D)^2 /
(T.T), summed over the channels: least squares with one unknown in each.

The best drawing is believed only if it is alone. With the colour fixed, let A be the best and B any other: if the
picture were (1 - u) A + u B, the squared error of B less that of A would be |c|^2 |A - B|^2 (1 - 2u). Divided by
|c|^2 |A - B|^2 that is the margin: 1 for A itself, 0 half-way to B.
"""

import functools
import math
from dataclasses import dataclass, fields

import torch
import torch.nn.functional as F
from torch import Tensor

from . import scenes as world
from .files import UserError
from .scenes import BACKGROUNDS, COLOURS, PLACES, RELATIONS, SHAPES, SIZES, Scenes

# Why a picture is unreadable, the first that applies; "ok" if it is not.
WHY = ("ok", "background", "no object", "too many objects", "noise", "colour", "shape", "size", "fit")

# Lengths are in pixels of 32 and grow with the picture. Distances of colours are Euclidean, on the 0..1 scale.
GROUND_NEAR = 0.12  # between the rim and a background; white and beige, the nearest two, are 0.29 apart
COLOUR_NEAR = 0.13  # between an object and its colour; half-way from red to yellow lies 0.15 from orange
CONTRAST = 0.25  # least difference from the background, on the -1..1 scale, of an object; pink on beige has 0.70
SPECK = 4.0  # pixels; this few together are no object, and the smallest object, a small star, covers 14
NOISE = 0.14  # most noise, as a standard deviation on the -1..1 scale
MARGIN = 0.5
MISFIT = 0.15  # most that may be left around an object, in parts of what its drawing explains
BLOB = 0.4  # most that may be left anywhere on the -1..1 scale, averaged over 3 x 3 pixels
REACH, STEP = 1.0, 0.25  # every drawing is tried moved by up to REACH each way, in steps
SOFTNESS = (0.0, 0.4, 0.6)  # and blurred so much (standard deviation), as trained decoders do
BATCH = 256

_COLOURS, _BACKGROUNDS = (torch.tensor(list(table.values())) for table in (COLOURS, BACKGROUNDS))


@dataclass
class Reading:
    """What was read in n pictures.

    readable: (n,) bool; why: (n,) int64, index into WHY, 0 where readable
    scenes: the n scenes read, the larger object first, centres to 0.2 pixels; where unreadable, a guess
    residual: (n,) float32, root mean square difference, -1..1 scale, between the picture and the scene drawn again
    margin, misfit: (n,) float32, of the worst object (1 and 0 if all is perfect); blob: (n,) float32; see MARGIN,
    MISFIT and BLOB, which bound them
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
    """Read pictures (n, 3, s, s), floats in -1..1 (what lies beyond is clamped, as in a saved file), s at least 32.

    Raises UserError for another shape or for whole numbers. A picture with a value that is not finite is unreadable.
    """
    shape = tuple(pictures.shape)
    square = len(shape) == 4 and shape[1] == 3 and shape[2] == shape[3] and shape[2] >= 32
    if not square or not pictures.is_floating_point():
        got = f"{pictures.dtype} {shape}"
        raise UserError("pictures", got, "floats of shape (n, 3, s, s) with s at least 32")
    pictures = pictures.detach().to("cpu", torch.float32).clamp(-1, 1)
    step = max(1, BATCH * 32 * 32 // shape[2] ** 2)
    return _join([_read(pictures[i : i + step]) for i in range(0, max(1, shape[0]), step)])


def _join(parts):
    """One Reading, or one Scenes, from several."""
    columns = [[getattr(part, field.name) for part in parts] for field in fields(parts[0])]
    return type(parts[0])(*(_join(c) if isinstance(c[0], Scenes) else torch.cat(c) for c in columns))


def _read(pictures):
    b, size = pictures.shape[0], pictures.shape[3]
    unit = round(size / 32)
    rim = torch.cat([pictures[:, :, 0], pictures[:, :, -1], pictures[:, :, :, 0], pictures[:, :, :, -1]], 2)
    ground = rim.median(2).values  # (b, 3)
    away, background = torch.cdist((ground + 1) / 2, _BACKGROUNDS).min(1)
    difference = pictures - ground[:, :, None, None]
    parts, count = _components(difference)
    clear = 1 - _grow(parts.amax(1), 2 * unit)  # (b, s, s)
    noise = (difference.square().mean(1) * clear).sum((1, 2)) / clear.sum((1, 2)).clamp(min=1)  # variance

    row, slot, kind, x, y, colour, error, margin, rival, misfit, left = _fit(difference, parts, ground, noise)
    here = (row, slot)
    blank = torch.full((b, 2), -1)
    scenes = Scenes(
        shape=blank.index_put(here, kind // len(SIZES)),
        colour=blank.index_put(here, colour),
        size=blank.index_put(here, kind % len(SIZES)),
        x=torch.zeros(b, 2).index_put(here, x),
        y=torch.zeros(b, 2).index_put(here, y),
        background=background,
    )
    margins = torch.ones(b, 2).index_put(here, margin)
    same_shape = torch.zeros(b, 2, dtype=torch.bool).index_put(here, rival // len(SIZES) == kind // len(SIZES))
    close, misfits = margins < MARGIN, torch.zeros(b, 2).index_put(here, misfit)
    blob = F.avg_pool2d(left, 3 * unit, 1).norm(dim=1).amax((1, 2))
    faults = {
        "background": ~(away < GROUND_NEAR),  # written so that NaN is a fault
        "no object": count == 0,
        "too many objects": count > 2,
        "noise": noise > NOISE**2,
        "colour": (torch.zeros(b, 2).index_put(here, error) > COLOUR_NEAR).any(1),
        "shape": (close & ~same_shape).any(1),
        "size": close.any(1),
        "fit": (misfits > MISFIT).any(1) | ~(blob < BLOB),
    }
    why = torch.zeros(b, dtype=torch.int64)
    for name in reversed(WHY[1:]):
        why[faults[name]] = WHY.index(name)
    residual = (pictures - world.render(scenes, size)).square().mean((1, 2, 3)).sqrt()
    return Reading(why == 0, why, scenes, residual, margins.amin(1), misfits.amax(1), blob)


def _components(difference):
    """The two largest connected areas that differ from the background, and how many there are (3: or more).

    difference: (b, 3, s, s). Returns (b, 2, s, s) float32 of 0 and 1, larger first, and (b,) int64.
    """
    b, _, size, _ = difference.shape
    unit = round(size / 32)
    weights = torch.tensor([0.25, 0.5, 0.25])
    kernel = torch.outer(weights, weights).expand(3, 1, 3, 3)
    strength = F.conv2d(difference, kernel, padding=1, groups=3).norm(dim=1)  # (b, s, s)
    # The second condition keeps the soft edges of two bold objects two pixels apart from running into each other.
    found = (strength > CONTRAST) & (strength > 0.45 * _grow(strength, 2 * unit))
    label = found * torch.arange(1.0, size * size + 1).view(size, size)  # a number for every pixel
    for _ in range(4 * size):
        spread = _grow(label, 1) * found  # the largest number spreads through each connected area
        if torch.equal(spread, label):
            break
        label = spread
    label = label.flatten(1).long()
    area = torch.zeros(b, size * size + 1).scatter_add_(1, label, torch.ones(b, size * size))
    area[:, 0] = 0
    largest, number = area.topk(3, dim=1)
    big = largest > SPECK * (size / 32) ** 2
    parts = (label[:, None] == number[:, :2, None]) & big[:, :2, None]
    return parts.float().unflatten(2, (size, size)), big.sum(1)


def _grow(x, pixels):
    """The largest value within so many pixels each way, of values (..., h, w) that are not negative."""
    for _ in range(pixels):
        for sides in ((1, 1), (0, 0, 1, 1)):
            wide = F.pad(x, sides)
            before, after = (wide[..., :-2], wide[..., 2:]) if len(sides) == 2 else (wide[..., :-2, :], wide[..., 2:, :])
            x = torch.maximum(torch.maximum(before, after), x)
    return x


def _fit(difference, parts, ground, noise):
    """Fit one drawing to each of the m parts of a batch; see the head of this file.

    difference: (b, 3, s, s); parts: (b, 2, s, s); ground: (b, 3); noise: (b,), a variance. Returns, each (m,): picture,
    slot, kind (2 * shape + size), x, y, colour, its distance from the palette, margin, the kind next best, misfit; and
    (b, 3, s, s), the difference less all that was fitted.
    """
    b, _, size, _ = difference.shape
    unit = round(size / 32)
    bank, offsets = _bank(size)
    k = math.isqrt(bank.shape[3])
    half = k // 2
    row, slot = parts.flatten(2).any(2).nonzero(as_tuple=True)
    m = torch.arange(len(row))
    near = _grow(parts, unit)[row, slot]  # (m, s, s)
    theirs = _grow(parts, 2 * unit)[row, 1 - slot] * (1 - near)
    mine = difference[row] * (1 - theirs)[:, None]  # (m, 3, s, s)

    # The centre of every shape is its centre of mass, so a guess of that says where to cut.
    tint = torch.einsum("mchw,mhw->mc", mine, parts[row, slot])
    mass = torch.einsum("mchw,mc->mhw", mine, tint).clamp(min=0) * near
    steps = torch.arange(size) + 0.5
    guess = torch.stack([mass.sum(1) @ steps, mass.sum(2) @ steps], 1) / mass.sum((1, 2))[:, None]  # (m, x and y)
    corner = guess.floor().long()  # of the crop, once a border of `half` is added
    columns, rows = (corner[:, :, None] + torch.arange(k)).unbind(1)  # (m, k) each
    pixel = (rows[:, :, None] * (size + 2 * half) + columns[:, None, :]).flatten(1)  # (m, k * k)
    pixel3 = pixel[:, None].expand(-1, 3, -1)
    border = (half,) * 4
    crop = F.pad(mine, border).flatten(2).gather(2, pixel3)  # (m, 3, k * k)
    seen = F.pad(1 - theirs, border).flatten(1).gather(1, pixel).sum(1)  # (m,): pixels that hold noise

    # Where every kind fits best; then each there, in every softness.
    drawings = bank[0].flatten(0, 1)  # (kinds * offsets, k * k)
    explained = (crop @ drawings.T).square().sum(1) / drawings.square().sum(1)
    offset = explained.unflatten(1, bank.shape[1:3]).argmax(2)  # (m, kinds)
    rivals = bank[:, torch.arange(bank.shape[1]), offset].transpose(0, 1)  # (m, softness, kinds, k * k)
    power = rivals.square().sum(3)
    dots = torch.einsum("mcp,mlkp->mlkc", crop, rivals)
    best = (dots.square().sum(3) / power).flatten(1).argmax(1)
    soft, kind = best // bank.shape[1], best % bank.shape[1]
    rivals, power, dots = rivals[m, soft], power[m, soft], dots[m, soft]
    drawing, fitted = rivals[m, kind], dots[m, kind] / power[m, kind, None]  # (m, k * k) and (m, 3)
    error, colour = torch.cdist((ground[row] + fitted + 1) / 2, _COLOURS).min(1)

    fixed = _COLOURS[colour] * 2 - 1 - ground[row]
    strength = fixed.square().sum(1, keepdim=True)
    cost = strength * power - 2 * (dots * fixed[:, None]).sum(2)  # squared error, but for the same |D|^2 in all
    gap = (cost - cost[m, kind, None]) / (strength * (rivals - drawing[:, None]).square().sum(2)).clamp(min=1e-9)
    gap[m, kind] = torch.inf
    margin, rival = gap.min(1)

    signal = fitted.square().sum(1) * power[m, kind]
    rest = crop.square().sum((1, 2)) - signal
    chance = noise[row] * (3 * seen + 4 * (6 * seen).sqrt())  # four standard deviations above what noise leaves
    misfit = (rest - chance).clamp(min=0) / signal
    left = F.pad(difference, border).flatten(2)
    for index in (slot == 0, slot == 1):  # in turn: crops of one picture may overlap
        painted = fitted[index][:, :, None] * drawing[index][:, None]
        left[row[index]] = left[row[index]].scatter_add(2, pixel3[index], -painted)
    left = left.unflatten(2, (size + 2 * half,) * 2)[:, :, half:-half, half:-half]
    x, y = ((corner + 0.5 + offsets[offset[m, kind]]) / size).unbind(1)
    return row, slot, kind, x, y, colour, error, margin, rival, misfit, left


@functools.lru_cache(maxsize=4)
def _bank(size):
    """What a crop of a picture of this size is compared with.

    Returns drawings (softness, kinds, offsets, k * k), where a kind is 2 * shape + size, and the offset of each from
    the middle of the crop, in pixels: (offsets, x and y).
    """
    unit = size / 32
    half = math.ceil(max(SIZES.values()) * size + REACH * unit)
    moves = torch.arange(-round(REACH / STEP), round(REACH / STEP) + 1) * STEP * unit
    offsets = torch.cartesian_prod(moves, moves)
    kinds = len(SHAPES) * len(SIZES)
    kind = torch.arange(kinds).repeat_interleave(len(offsets))
    x, y = ((size // 2 + 0.5 + offsets.repeat(kinds, 1)) / size).unbind(1)
    columns = (kind // len(SIZES), 0 * kind, kind % len(SIZES), x, y)
    absent = (-1, -1, -1, 0.0, 0.0)
    slots = (torch.stack([column, torch.full_like(column, none)], 1) for column, none in zip(columns, absent))
    window = slice(size // 2 - half, size // 2 + half + 1)
    drawings = world.masks(Scenes(*slots, 0 * kind), size)[:, :1, window, window]
    soft = torch.stack([_blur(drawings, std * unit).flatten(1) for std in SOFTNESS])
    return soft.unflatten(1, (kinds, len(offsets))), offsets


def _blur(drawings, std):
    """Gaussian blur, with zeros outside, of (m, 1, k, k); std in pixels."""
    if std == 0:
        return drawings
    steps = torch.arange(-math.ceil(3 * std), math.ceil(3 * std) + 1)
    weights = torch.softmax(-(steps**2) / (2 * std**2), 0)
    return F.conv2d(drawings, torch.outer(weights, weights)[None, None], padding="same")


def matches(reading: Reading, scenes: Scenes, every_place: bool = False) -> dict[str, Tensor]:
    """Which attributes of the wanted scenes were read: a dict of (n,) bool, "all" among them.

    "shape", "colour" and "size" hold if they do for every object; two objects are compared in the order in which more
    of these agree. "count" and "background" are what they say. "relation" is asked of two objects, and "place" of one
    that lies in a place beyond doubt: what a full caption states; they hold where nothing is asked (with
    every_place=True, places of two objects are asked too). An unreadable picture has nothing right.
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

    place, relation = _asked(scenes, every_place)
    cell = 3 * (3 * got.y).long().clamp(0, 2) + (3 * got.x).long().clamp(0, 2)
    dx, dy = got.x[:, 0] - got.x[:, 1], got.y[:, 0] - got.y[:, 1]
    side = torch.where(dx.abs() > dy.abs(), (dx > 0).long(), 2 + (dy > 0).long())
    right["place"] = ((cell == place) | (place < 0)).all(1) & right["count"]
    right["relation"] = ((side == relation) | (relation < 0)) & right["count"]
    right = {name: value & reading.readable for name, value in right.items()}
    return right | {"all": torch.stack(list(right.values())).all(0)}


def _asked(scenes, every_place):
    """The places (n, 2) and relations (n,) that a reading must find; -1 where none is asked."""
    place = world.place(scenes)
    return place if every_place else torch.where((scenes.count == 1)[:, None], place, -1), world.relation(scenes)


def accuracy(reading: Reading, scenes: Scenes, every_place: bool = False) -> dict[str, tuple[float, float, float]]:
    """Share of pictures with each attribute right (see matches), and "readable": (share, low, high) of wilson.

    Place and relation are counted only over the scenes that are asked for them, and left out if none is.
    """
    right = {"readable": reading.readable} | matches(reading, scenes, every_place)
    place, relation = _asked(scenes, every_place)
    asked = {"place": (place >= 0).any(1), "relation": relation >= 0}
    picked = {name: value[asked[name]] if name in asked else value for name, value in right.items()}
    return {name: wilson(int(value.sum()), len(value)) for name, value in picked.items() if len(value)}


def wilson(hits: int, n: int) -> tuple[float, float, float]:
    """A share hits / n and its 95% interval (share, low, high), which is not empty even if all or none are hits.

    The score interval of E. B. Wilson, "Probable inference, the law of succession, and statistical inference", J. Am.
    Stat. Assoc. 22 (1927) 209-212: all p with (hits / n - p)^2 <= z^2 p (1 - p) / n. Raises UserError unless
    0 <= hits <= n and n > 0.
    """
    if n < 1 or not 0 <= hits <= n:
        raise UserError("hits of n", (hits, n), "0 <= hits <= n and n at least 1")
    share, z = hits / n, 1.959964
    middle, reach = share + z * z / (2 * n), z * math.sqrt(share * (1 - share) / n + (z / (2 * n)) ** 2)
    low, high = ((middle + sign * reach) / (1 + z * z / n) for sign in (-1, 1))
    return share, max(low, 0.0), min(high, 1.0)


def describe(reading: Reading, i: int) -> str:
    """The i-th reading in words: "a large red circle, top left, on white", or "unreadable: " and the reason."""
    if not reading.readable[i]:
        return f"unreadable: {WHY[reading.why[i]]}"
    scene = reading.scenes[i]
    place, relation = world.place(scene)[0].tolist(), int(world.relation(scene))
    words = (list(SIZES), list(COLOURS), list(SHAPES))
    rows = zip(scene.size[0].tolist(), scene.colour[0].tolist(), scene.shape[0].tolist())
    objects = [" ".join(["a", *(names[at] for names, at in zip(words, row))]) for row in rows if row[2] >= 0]
    if len(objects) == 2:
        text = f"{objects[0]} {RELATIONS[relation] if relation >= 0 else 'and'} {objects[1]}"
    else:
        text = objects[0] + (f", {PLACES[place[0]]}" if place[0] >= 0 else "")
    return f"{text}, on {list(BACKGROUNDS)[scene.background]}"
