"""Finds the objects of a picture and fits a drawing to each.

Let D be the difference between picture and background, and T a drawing (coverage, 0..1). The colour that fits
best is c = (T.D) / (T.T), and what it explains of |D|^2 is (T.D)^2 / (T.T), summed over the channels: least
squares with one unknown in each.

A drawing is believed only if it is alone. With the colour fixed, let A be the best and B any other: if the
picture were (1 - u) A + u B, the squared error of B less that of A would be |c|^2 |A - B|^2 (1 - 2u). Divided by
|c|^2 |A - B|^2 that is the margin over B: 1 if the picture is A, 0 half-way to B.

All of this happens at SIZE pixels; lengths are in those.
"""

import functools
import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from .. import scenes as world
from ..scenes import COLOURS, SHAPES, SIZES, Scenes

SIZE = 32
CONTRAST = 0.25  # least difference of an object from the background, on the -1..1 scale; pink on beige has 0.70
SPECK = 4.0  # pixels; this few together are no object, and the smallest object, a small star, covers 14
REACH, STEP = 1.0, 0.25  # every drawing is tried moved by up to REACH each way, in steps
SOFTNESS = (0.0, 0.4, 0.6)  # and blurred so much (standard deviation), as trained decoders do

_COLOURS = torch.tensor(list(COLOURS.values()))


class Fit(NamedTuple):
    """What was fitted to the m parts of a batch; each (m,)."""

    row: Tensor  # which picture
    slot: Tensor  # which of its parts, 0 or 1
    kind: Tensor  # 2 * shape + size
    x: Tensor  # centre, 0..1 of the frame
    y: Tensor
    colour: Tensor  # index into COLOURS
    off: Tensor  # distance from that colour, in RGB, 0..1 scale
    margin: Tensor  # over the next best kind
    misfit: Tensor  # what is left around the object, beyond noise, in parts of what is explained


def grow(x, pixels):
    """The largest value within so many pixels each way: (..., h, w), not negative, to the same shape."""
    for _ in range(pixels):
        wide = F.pad(x, (1, 1))
        x = torch.maximum(torch.maximum(wide[..., :-2], wide[..., 2:]), x)
        tall = F.pad(x, (0, 0, 1, 1))
        x = torch.maximum(torch.maximum(tall[..., :-2, :], tall[..., 2:, :]), x)
    return x  # many times faster on a processor than max_pool2d


def components(difference):
    """The two largest connected areas that differ from the background, and how many there are (3: or more).

    difference: (b, 3, 32, 32). Returns (b, 2, 32, 32) float32 of 0 and 1, larger first, and (b,) int64.
    """
    b = len(difference)
    weights = torch.tensor([0.25, 0.5, 0.25])
    kernel = torch.outer(weights, weights).expand(3, 1, 3, 3)
    strength = F.conv2d(difference, kernel, padding=1, groups=3).square().sum(1).sqrt()  # (b, 32, 32)
    # The second condition keeps the soft edges of two bold objects, two pixels apart, from running into each other.
    found = (strength > CONTRAST) & (strength > 0.45 * grow(strength, 2))
    label = found * torch.arange(1.0, SIZE * SIZE + 1).view(SIZE, SIZE)  # a number for every pixel
    for _ in range(4 * SIZE):
        spread = grow(label, 1) * found  # the largest number spreads through each connected area
        if torch.equal(spread, label):
            break
        label = spread
    label = label.flatten(1).long()
    area = torch.zeros(b, SIZE * SIZE + 1).scatter_add_(1, label, torch.ones(b, SIZE * SIZE))
    area[:, 0] = 0
    largest, number = area.topk(3, dim=1)
    big = largest > SPECK
    parts = (label[:, None] == number[:, :2, None]) & big[:, :2, None]
    return parts.float().unflatten(2, (SIZE, SIZE)), big.sum(1)


def fit(difference, parts, ground, noise):
    """Fit one drawing to each of the m parts of a batch.

    difference (b, 3, 32, 32), ground (b, 3) and noise (b,), a variance, are on the -1..1 scale; parts (b, 2, 32, 32).
    Returns a Fit and (b, 3, 32, 32): the difference less all that was fitted.
    """
    bank, power, shared, offsets = drawings()
    kinds, moves = bank.shape[:2]
    k = math.isqrt(bank.shape[2])
    row, slot = parts.flatten(2).any(2).nonzero(as_tuple=True)
    m = torch.arange(len(row))
    near = grow(parts, 1)[row, slot]  # (m, 32, 32)
    theirs = grow(parts, 2)[row, 1 - slot] * (1 - near)
    mine = difference[row] * (1 - theirs)[:, None]  # (m, 3, 32, 32)

    # The centre of every shape is its centre of mass, so a guess of that says where to cut.
    tint = torch.einsum("mchw,mhw->mc", mine, parts[row, slot])
    mass = torch.einsum("mchw,mc->mhw", mine, tint).clamp(min=0) * near
    steps = torch.arange(SIZE) + 0.5
    moments = torch.stack([mass.sum(1) @ steps, mass.sum(2) @ steps], 1)  # (m, x and y)
    # The pixel of the centre, which is also the corner of the crop once a border of half its side is added.
    corner = (moments / mass.sum((1, 2)).clamp(min=1e-9)[:, None]).floor().long()
    columns, rows = (corner[:, :, None] + torch.arange(k)).unbind(1)  # (m, k) each
    side = SIZE + k - 1
    pixel = (rows[:, :, None] * side + columns[:, None, :]).flatten(1)  # (m, k * k)
    pixel3 = pixel[:, None].expand(-1, 3, -1)
    border = (k // 2,) * 4
    crop = F.pad(mine, border).flatten(2).gather(2, pixel3)  # (m, 3, k * k)
    seen = F.pad(1 - theirs, border).flatten(1).gather(1, pixel).sum(1)  # (m,): pixels that hold noise

    # Every kind where it fits best; then all of them there, in every softness. A blur is symmetric, so a
    # blurred drawing times the crop is the drawing times the blurred crop.
    explained = (crop @ bank.flatten(0, 1).T).square().sum(1) / power[0].flatten()
    move = explained.unflatten(1, (kinds, moves)).argmax(2)  # (m, kinds)
    each = torch.arange(kinds)
    crops = torch.stack([blur(crop.unflatten(2, (k, k)), std).flatten(2) for std in SOFTNESS], 1)
    dots = torch.einsum("mlcp,mkp->mlkc", crops, bank[each, move])  # (m, softness, kinds, 3)
    power = power[:, each, move].transpose(0, 1)  # (m, softness, kinds)
    best = (dots.square().sum(3) / power).flatten(1).argmax(1)
    soft, kind = best // kinds, best % kinds
    dots, power = dots[m, soft], power[m, soft]  # (m, kinds, 3), (m, kinds)
    place = move[m, kind]
    fitted = dots[m, kind] / power[m, kind, None]  # (m, 3)
    off, colour = torch.cdist((ground[row] + fitted + 1) / 2, _COLOURS).min(1)

    fixed = _COLOURS[colour] * 2 - 1 - ground[row]
    strength = fixed.square().sum(1, keepdim=True)
    error = strength * power - 2 * (dots * fixed[:, None]).sum(2)  # squared, less |D|^2, the same for all
    at = each * moves + move
    apart = power + power[m, kind, None] - 2 * shared[soft[:, None], (kind * moves + place)[:, None], at]
    gap = (error - error[m, kind, None]) / (strength * apart).clamp(min=1e-9)
    gap[m, kind] = torch.inf
    margin = gap.amin(1)

    signal = fitted.square().sum(1) * power[m, kind]
    chance = noise[row] * (3 * seen + 4 * (6 * seen).sqrt())  # what noise leaves, and four standard deviations
    misfit = (crop.square().sum((1, 2)) - signal - chance).clamp(min=0) / signal

    drawn = bank[kind, place].unflatten(1, (1, k, k))
    drawn = torch.stack([blur(drawn, std).flatten(1) for std in SOFTNESS])[soft, m]  # (m, k * k)
    painted = fitted[:, :, None] * drawn[:, None]
    left = F.pad(difference, border).flatten(2)
    for some in (slot == 0, slot == 1):  # in turn: crops of one picture may overlap
        left[row[some]] = left[row[some]].scatter_add(2, pixel3[some], -painted[some])
    inside = slice(k // 2, k // 2 + SIZE)
    left = left.unflatten(2, (side, side))[:, :, inside, inside]
    x, y = ((corner + 0.5 + offsets[place]) / SIZE).unbind(1)
    return Fit(row, slot, kind, x, y, colour, off, margin, misfit), left


def blur(x, std):
    """Gaussian blur, with zeros outside, of (m, c, k, k); std in pixels."""
    if std == 0:
        return x
    steps = torch.arange(-math.ceil(3 * std), math.ceil(3 * std) + 1)
    weights = torch.softmax(-(steps**2) / (2 * std**2), 0)
    out = F.conv2d(x.flatten(0, 1)[:, None], torch.outer(weights, weights)[None, None], padding="same")
    return out.view_as(x)


@functools.cache
def drawings():
    """What the parts of a picture are compared with: every kind, moved every way.

    Returns the drawings (kinds, moves, k * k), each centred in the middle of its window but for its move; the
    square norm of each in every softness (softness, kinds, moves); the products of any two, in a matrix for each
    softness (softness, kinds * moves, kinds * moves); and the moves in pixels (moves, x and y).
    """
    half = math.ceil(max(SIZES.values()) * SIZE + REACH)
    line = torch.arange(-round(REACH / STEP), round(REACH / STEP) + 1) * STEP
    moves = torch.cartesian_prod(line, line)
    kinds = len(SHAPES) * len(SIZES)
    kind = torch.arange(kinds).repeat_interleave(len(moves))
    x, y = ((SIZE // 2 + 0.5 + moves.repeat(kinds, 1)) / SIZE).unbind(1)
    columns = (kind // len(SIZES), 0 * kind, kind % len(SIZES), x, y)
    absent = (-1, -1, -1, 0.0, 0.0)
    pairs = zip(columns, absent, strict=True)
    slots = (torch.stack([column, torch.full_like(column, none)], 1) for column, none in pairs)
    window = slice(SIZE // 2 - half, SIZE // 2 + half + 1)
    bank = world.masks(Scenes(*slots, 0 * kind), SIZE)[:, :1, window, window]
    soft = torch.stack([blur(bank, std).flatten(1) for std in SOFTNESS])
    shape = (kinds, len(moves))
    return (
        bank.flatten(1).unflatten(0, shape),
        soft.square().sum(2).unflatten(1, shape),
        soft @ soft.transpose(1, 2),
        moves,
    )
