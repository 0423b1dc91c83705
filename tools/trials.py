"""Pictures to try the oracle on: renders that were harmed a little, and pictures that are no scene.

Used by tools/calibrate.py and tests/test_oracle.py. All are (n, 3, 32, 32) in -1..1.
"""

import torch
import torch.nn.functional as F

from minildm.scenes import BACKGROUNDS, COLOURS, SHAPES, SIZES, Scenes, draw, masks, render
from minildm.scenes.render import circle, cross, ring, square, star, triangle

DISTANCES = (circle, square, triangle, star, ring, cross)  # in the order of SHAPES
GROUNDS = torch.tensor(list(BACKGROUNDS.values())) * 2 - 1
PALETTE = torch.tensor(list(COLOURS.values())) * 2 - 1
GAP = 2.05 / 32  # clear space between two objects, as the scenes have it


def generator(seed):
    return torch.Generator().manual_seed(seed)


def another(index, count, rng):
    """Random indices below count, each another than the one given."""
    return (index + torch.randint(1, count, index.shape, generator=rng)) % count


def over(pictures, mask, colour):
    """Paint a colour (n, 3) over pictures (n, 3, s, s) where mask (n, s, s) says."""
    return pictures + mask[:, None] * (colour[:, :, None, None] - pictures)


# Pictures that should be read, made from renders


def scenes_of(n, seed=0):
    """n scenes of one and two objects, half of them with a held-out pair."""
    parts = [draw(n - n // 2, seed=seed), draw(n // 2, seed=seed, held_out=True)]
    names = ("shape", "colour", "size", "x", "y", "background")
    return Scenes(*(torch.cat([getattr(part, name) for part in parts]) for name in names))


def noisy(pictures, std, seed=0):
    """With Gaussian noise of this standard deviation on the 0..1 scale, not clamped."""
    return pictures + 2 * std * torch.randn(pictures.shape, generator=generator(seed))


def blurred(pictures, std):
    """With a Gaussian blur; up to half a pixel it takes 3 x 3 pixels."""
    reach = 1 if std <= 0.5 else 3
    weights = torch.softmax(-(torch.arange(-reach, reach + 1.0) ** 2) / (2 * std**2), 0)
    wide = F.pad(pictures, (reach,) * 4, "replicate")
    return F.conv2d(wide, torch.outer(weights, weights).expand(3, 1, -1, -1), groups=3)


def tinted(scenes, most=0.05, seed=0):
    """Rendered, with every channel of every object and background off by up to `most` on the 0..1 scale."""
    rng = generator(seed)
    ground, colours = GROUNDS[scenes.background], PALETTE[scenes.colour.clamp(min=0)]
    shift = [(torch.rand(c.shape, generator=rng) * 2 - 1) * 2 * most for c in (ground, colours)]
    out = (ground + shift[0])[:, :, None, None].expand(-1, -1, 32, 32)
    for slot in (0, 1):
        out = over(out, masks(scenes)[:, slot], colours[:, slot] + shift[1][:, slot])
    return out.clamp(-1, 1)


# Pictures that should be unreadable


def distance(scenes, shape, radius):
    """Signed distance (n, 32, 32) in pixels to the first object, drawn as `shape` (n,) of `radius` (n,)."""
    steps = torch.arange(32) + 0.5
    x, y = (steps - v[:, :1] * 32 for v in (scenes.x, scenes.y))
    x, y = torch.broadcast_tensors(x[:, None, :], y[:, :, None])
    out = torch.empty(x.shape)
    for index, function in enumerate(DISTANCES):
        for r in radius.unique().tolist():
            some = (shape == index) & (radius == r)
            out[some] = function(x[some], y[some], r * 32)
    return out


def drawn(scenes, mask, colour=None):
    """Render scenes with another mask (n, 32, 32) or colour (n, 3) of the first object."""
    rest = Scenes(scenes.shape.clone(), scenes.colour, scenes.size, scenes.x, scenes.y, scenes.background)
    rest.shape[:, 0] = -1
    return over(render(rest), mask, PALETTE[scenes.colour[:, 0]] if colour is None else colour)


def shapes_mixed(n, seed=0, share=0.5, distances=False):
    """One object is `share` of the way to another shape: pictures, their scenes, and the other shape (n,).

    The two are cross-faded or, with distances=True, their signed distances are.
    """
    scenes = draw(n, seed=seed)
    other = another(scenes.shape[:, 0], len(SHAPES), generator(seed))
    pair = [distance(scenes, shape, scenes.radius[:, 0]) for shape in (scenes.shape[:, 0], other)]
    if not distances:
        pair = [(0.5 - d).clamp(0, 1) for d in pair]
    mixed = torch.lerp(*pair, share)
    return drawn(scenes, (0.5 - mixed).clamp(0, 1) if distances else mixed), scenes, other


def sizes_mixed(n, seed=0):
    """One object half-way between small and large, where it touches nothing."""
    scenes = draw(n * 3 // 2, seed=seed)
    scenes.size[:, 0] = 1
    middle = sum(SIZES.values()) / 2
    inside = (torch.stack([scenes.x, scenes.y])[:, :, 0] - 0.5).abs().amax(0) < 0.5 - middle
    apart = torch.hypot(*(scenes.x.diff(dim=1), scenes.y.diff(dim=1)))[:, 0] > middle + scenes.radius[:, 1] + GAP
    scenes = scenes[(inside & (apart | (scenes.count == 1))).nonzero()[:n, 0]]
    return drawn(scenes, (0.5 - distance(scenes, scenes.shape[:, 0], torch.full((len(scenes),), middle))).clamp(0, 1))


def colours_mixed(n, seed=0):
    """One object half-way between two colours."""
    scenes = draw(n, seed=seed)
    other = another(scenes.colour[:, 0], len(PALETTE), generator(seed))
    return drawn(scenes, masks(scenes)[:, 0], (PALETTE[scenes.colour[:, 0]] + PALETTE[other]) / 2)


def three(n, seed=0):
    """A third object, clear of the other two."""
    two, one = draw(20 * n, seed=seed, objects=2), draw(20 * n, seed=seed + 1, objects=1)
    gap = torch.hypot(two.x - one.x[:, :1], two.y - one.y[:, :1]) - two.radius - one.radius[:, :1]
    free = (gap > GAP).all(1).nonzero()[:n, 0]
    return over(render(two[free]), masks(one[free])[:, 0], PALETTE[one.colour[free, 0]])


def stacked(n, seed=0):
    """A small object of another colour upon a large one."""
    rng = generator(seed)
    below, above = draw(n, seed=seed, objects=1), draw(n, seed=seed + 1, objects=1)
    below.size[:, 0], above.size[:, 0] = 1, 0
    angle, away = 2 * torch.pi * torch.rand(n, generator=rng), 0.2 * torch.rand(n, generator=rng)
    for name, step in (("x", angle.cos()), ("y", angle.sin())):
        at = 0.25 + 0.5 * torch.rand(n, generator=rng)
        getattr(below, name)[:, 0], getattr(above, name)[:, 0] = at, at + away * step
    above.colour[:, 0] = another(below.colour[:, 0], len(PALETTE), rng)
    return over(render(below), masks(above)[:, 0], PALETTE[above.colour[:, 0]])


def static(n, seed=0):
    """Noise alone, Gaussian or uniform."""
    normal = torch.randn(n - n // 2, 3, 32, 32, generator=generator(seed))
    uniform = torch.rand(n // 2, 3, 32, 32, generator=generator(seed)) * 2 - 1
    return torch.cat([normal, uniform]).clamp(-1, 1)


def flat(n, seed=0):
    """One colour all over, half of the time that of a background."""
    colour = torch.rand(n, 3, generator=generator(seed)) * 2 - 1
    colour[: n // 2] = GROUNDS[torch.arange(n // 2) % len(GROUNDS)]
    return colour[:, :, None, None].repeat(1, 1, 32, 32)


def rectangles(n, seed=0):
    """One to eight rectangles of any colours on one."""
    rng, out = generator(seed), flat(n, seed)
    for picture in out:
        for _ in range(int(torch.randint(1, 9, (), generator=rng))):
            (x, y), (w, h) = (torch.randint(*limits, (2,), generator=rng).tolist() for limits in ((0, 30), (3, 17)))
            picture[:, y : y + h, x : x + w] = torch.rand(3, 1, 1, generator=rng) * 2 - 1
    return out


def patchwork(n, seed=0):
    """A grid of squares of any colours, of four or eight pixels."""
    parts = [
        F.interpolate(torch.rand(m, 3, k, k, generator=generator(seed)) * 2 - 1, size=32)
        for m, k in ((n - n // 2, 4), (n // 2, 8))
    ]
    return torch.cat(parts)


def tiles(n, seed=0):
    """A grid of sixteen squares, each from another scene."""
    pieces = render(draw(16 * n, seed=seed)).view(n, 4, 4, 3, 4, 8, 4, 8)
    i = torch.arange(4)
    own = pieces[:, i[:, None], i, :, i[:, None], :, i, :]  # (4, 4, n, 3, 8, 8)
    return own.permute(2, 3, 0, 4, 1, 5).reshape(n, 3, 32, 32)


def pasted(n, seed=0):
    """A scene with a rectangle of another, on another background."""
    rng = generator(seed)
    scenes, others = draw(n, seed=seed), draw(n, seed=seed + 1)
    others.background = another(scenes.background, len(GROUNDS), rng)
    out, source = render(scenes), render(others)
    for picture, patch in zip(out, source, strict=True):
        w, h = torch.randint(6, 21, (2,), generator=rng).tolist()
        x, y = (int(torch.randint(0, 33 - side, (), generator=rng)) for side in (w, h))
        picture[:, y : y + h, x : x + w] = patch[:, y : y + h, x : x + w]
    return out


NO_SCENE = (static, flat, rectangles, patchwork, tiles, pasted)
