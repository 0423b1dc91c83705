"""From scenes to pixels: shapes are signed distance functions, so any resolution gives the same drawing.

A signed distance is negative inside a shape, positive outside, and here in pixels. Half a pixel either side
of the outline it is turned into coverage, 0..1, which is what makes edges smooth. The folding of a symmetric
shape onto one of its edges is the device of I. Quilez, "2D distance functions"
(iquilezles.org/articles/distfunctions2d).
"""

import math

import torch

from .words import BACKGROUNDS, COLOURS, SIZES

_COLOURS = torch.tensor(list(COLOURS.values()))
_BACKGROUNDS = torch.tensor(list(BACKGROUNDS.values()))
_RADII = list(SIZES.values())

# Proportions, in radii of the bounding circle. The small shapes are 3.5 pixels in radius at size 32, so what
# tells them apart (hole, waist, notches) is made wide.
RING_HOLE = 0.5
SQUARE_HALF = 0.7  # its corners lie at 0.99
STAR_WAIST = 0.4
CROSS_ARM = 0.9487  # with arms a third as wide as long, the corners lie at 1.00


def _length(x, y):
    return (x * x + y * y).sqrt()  # half the time of torch.hypot


def circle(x, y, r):
    """Signed distance of points (x, y) to a disc of radius r about the origin."""
    return _length(x, y) - r


def ring(x, y, r):
    """Signed distance to a ring of outer radius r and a hole of RING_HOLE * r."""
    middle, half = (1 + RING_HOLE) / 2 * r, (1 - RING_HOLE) / 2 * r
    return (_length(x, y) - middle).abs() - half


def _box(x, y, w, h):
    """Signed distance to an upright box of half-width w and half-height h; x and y not negative."""
    dx, dy = x - w, y - h
    return _length(dx.clamp(min=0), dy.clamp(min=0)) + torch.maximum(dx, dy).clamp(max=0)


def square(x, y, r):
    """Signed distance to an upright square whose corners lie just inside radius r."""
    return _box(x.abs(), y.abs(), SQUARE_HALF * r, SQUARE_HALF * r)


def cross(x, y, r):
    """Signed distance to an upright cross whose arms are a third as wide as the cross."""
    x, y = x.abs(), y.abs()
    # Folded along the diagonal, every point is nearest to the arm that points along x.
    return _box(torch.maximum(x, y), torch.minimum(x, y), CROSS_ARM * r, CROSS_ARM * r / 3)


def _fold(x, y, degrees):
    """Mirror points beyond a line through the origin, so many degrees from straight up, back across it."""
    angle = math.radians(degrees)
    nx, ny = math.cos(angle), math.sin(angle)  # unit normal, towards larger angles; y points down
    beyond = (nx * x + ny * y).clamp(min=0) * 2
    return x - nx * beyond, y - ny * beyond


def triangle(x, y, r):
    """Signed distance to an upright triangle with three equal sides and its corners at radius r."""
    x, y = _fold(-x.abs(), y, -120)  # to the sector of the lower side, whose middle is at (0, r / 2)
    below = y - r / 2
    outside = _length((x.abs() - math.sqrt(3) / 2 * r).clamp(min=0), below)
    return torch.where(below > 0, outside, below)


def star(x, y, r):
    """Signed distance to an upright star of five points at radius r and five notches at STAR_WAIST * r."""
    x, y = _fold(x.abs(), y, 72)
    x, y = _fold(x.abs(), y, 36)  # now between a point, straight up, and a notch, 36 degrees on
    # From the point to the notch, in radii:
    ex, ey = STAR_WAIST * math.sin(math.pi / 5), 1 - STAR_WAIST * math.cos(math.pi / 5)
    length = math.hypot(ex, ey)
    ex, ey = ex / length, ey / length
    y = y + r
    along = (x * ex + y * ey).clamp(0, length * r)
    side = x * ey - y * ex  # positive outside
    return torch.copysign(_length(x - along * ex, y - along * ey), side)


_DISTANCES = (circle, square, triangle, star, ring, cross)  # in the order of SHAPES


def _paint(scenes, size, reach, ink):
    """Fill (n, 2, size, size) zeros with ink(signed distance in pixels), 0 from `reach` pixels outwards.

    Only a window around each object is computed: a small shape covers a tenth of the frame.
    """
    out = torch.zeros(len(scenes), 2, size * size)
    for shape, distance in enumerate(_DISTANCES):
        for kind, radius in enumerate(_RADII):
            n, slot = ((scenes.shape == shape) & (scenes.size == kind)).nonzero(as_tuple=True)  # (m,) each
            if len(n) == 0:
                continue
            r = radius * size
            w = min(size, math.ceil(2 * (r + reach)) + 1)
            steps = torch.arange(w)
            centre = torch.stack([scenes.x[n, slot], scenes.y[n, slot]], 1) * size  # (m, 2)
            corner = (centre - r - reach).floor().long().clamp(0, size - w)
            column, row = (corner[:, :, None] + steps).unbind(1)  # (m, w) each
            x = (column + 0.5 - centre[:, :1])[:, None, :]
            y = (row + 0.5 - centre[:, 1:])[:, :, None]
            value = ink(distance(*torch.broadcast_tensors(x, y), r))  # (m, w, w)
            pixel = row[:, :, None] * size + column[:, None, :]
            out[n[:, None], slot[:, None], pixel.flatten(1)] = value.flatten(1)
    return out.unflatten(2, (size, size))


def _chunks(scenes, size):
    """Slices of the scenes small enough for the intermediate arrays to stay in the processor's cache."""
    step = max(1, 256 * 32 * 32 // size**2)
    return (slice(i, i + step) for i in range(0, len(scenes), step))


def _check(size):
    if isinstance(size, bool) or not isinstance(size, int) or size < 8:
        raise ValueError(f"size: got {size!r}; expected a whole number of pixels, 8 or more")


def masks(scenes, size=32):
    """Coverage of every pixel by each object: (n, 2, size, size) float32 in 0..1; zeros for an absent object.

    Raises ValueError if size is not a whole number of at least 8.
    """
    _check(size)
    out = torch.empty(len(scenes), 2, size, size)
    for part in _chunks(scenes, size):
        out[part] = _paint(scenes[part], size, 0.5, lambda d: (0.5 - d).clamp(0, 1))
    return out


def render(scenes, size=32):
    """Draw the scenes: (n, 3, size, size) float32 in -1..1, edges anti-aliased.

    Raises ValueError if size is not a whole number of at least 8.
    """
    _check(size)
    ground = _BACKGROUNDS[scenes.background] * 2 - 1  # (n, 3)
    change = _COLOURS[scenes.colour.clamp(min=0)] * 2 - 1 - ground[:, None]  # (n, 2, 3)
    out = torch.empty(len(scenes), 3, size, size)
    for part in _chunks(scenes, size):
        mask = _paint(scenes[part], size, 0.5, lambda d: (0.5 - d).clamp(0, 1))
        mixed = torch.bmm(change[part].transpose(1, 2), mask.flatten(2))  # (chunk, 3, size * size)
        torch.add(mixed.unflatten(2, (size, size)), ground[part, :, None, None], out=out[part])
    return out


def edge_map(scenes, size=32):
    """The outlines of the objects: (n, 1, size, size) float32 in 0..1, lines 1/32 of the frame wide.

    Below size 32 they stay one pixel wide. Raises ValueError if size is not a whole number of at least 8.
    """
    _check(size)
    half = max(0.5, size / 64)
    out = torch.empty(len(scenes), 1, size, size)
    for part in _chunks(scenes, size):
        lines = _paint(scenes[part], size, half + 0.5, lambda d: (half + 0.5 - d.abs()).clamp(0, 1))
        out[part] = lines.amax(1, keepdim=True)
    return out


def box_map(boxes, size=32, width=None):
    """Boxes (..., 4), left, top, right and bottom in 0..1 of the frame, filled: (..., size, width) float32 in 0..1.

    A pixel that a box covers in part has that part as its value. The frame is square where no width is given. Raises
    ValueError if size or width is not at least 8.
    """
    width = width or size
    _check(size)
    _check(width)

    def covered(first, last, size):  # the part of each pixel, along one axis, that the box covers: (..., size)
        edge = torch.arange(size)
        first, last = first[..., None] * size, last[..., None] * size
        return (torch.minimum(last, edge + 1) - torch.maximum(first, edge)).clamp(0, 1)

    left, top, right, bottom = boxes.unbind(-1)
    return covered(top, bottom, size)[..., :, None] * covered(left, right, width)[..., None, :]


def layout_map(scenes, size=32):
    """The square around each object's bounding circle, filled: (n, 2, size, size) float32 in 0..1.

    It tells where and how large an object is, and not which. Raises ValueError if size is not at least 8.
    """
    return box_map(scenes.boxes, size)
