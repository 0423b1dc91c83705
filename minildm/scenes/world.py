"""Scenes: what is in a picture, before any pixel is drawn, and the random draws that make them.

Every scene depends only on its seed and its number, so a data set needs no files and can be read from any
point: scene i of seed s is the same whether it is drawn alone or among a million.
"""

from dataclasses import dataclass, fields

import torch

from ..draws import uniforms
from .words import BACKGROUNDS, COLOURS, HELD_OUT, SHAPES, SIZES

UNSURE = 1.5 / 32  # of the frame; what lies this close to a boundary, no caption states
INSET = 0.015  # clear space between a bounding circle and the edge of the frame
GAP = 2.05 / 32  # clear space between two bounding circles: two pixels of 32 and a little for rounding
RADII = torch.tensor(list(SIZES.values()))


@dataclass
class Scenes:
    """n scenes of at most two objects, held as arrays; slot 1 of a one-object scene is absent.

    shape, colour, size: (n, 2) int64, indices into SHAPES, COLOURS and SIZES; -1 where absent
    x, y: (n, 2) float32, centre of the object's bounding circle, 0..1 of the frame, y down; 0 where absent
    background: (n,) int64, index into BACKGROUNDS
    """

    shape: torch.Tensor
    colour: torch.Tensor
    size: torch.Tensor
    x: torch.Tensor
    y: torch.Tensor
    background: torch.Tensor

    def __len__(self):
        return len(self.background)

    def __getitem__(self, which):
        """The scenes chosen by an integer (one scene, still as an array of one), a slice, or a tensor."""
        if isinstance(which, int):
            if not -len(self) <= which < len(self):
                raise IndexError(f"scene: got {which}; expected {-len(self)} to {len(self) - 1}")
            which = slice(which, which + 1 or None)
        return Scenes(*(getattr(self, field.name)[which] for field in fields(self)))

    @property
    def count(self):
        """(n,) int64: how many objects each scene holds, 1 or 2."""
        return (self.shape >= 0).sum(1)

    @property
    def radius(self):
        """(n, 2) float32: radius of each bounding circle as a fraction of the frame; 0 where absent."""
        return torch.where(self.size >= 0, RADII[self.size.clamp(min=0)], 0.0)


    @property
    def boxes(self):
        """(n, 2, 4) float32: left, top, right, bottom of the square around each bounding circle, 0..1 of the frame."""
        r = self.radius
        return torch.stack([self.x - r, self.y - r, self.x + r, self.y + r], 2)


def join(parts):
    """Several `Scenes`, one after the other."""
    return Scenes(*(torch.cat([getattr(part, field.name) for part in parts]) for field in fields(Scenes)))


def pick(u, k):
    """Turn uniform numbers in 0..1 into integers 0..k-1, of the same shape as u."""
    return (u * k).long().clamp(max=k - 1)


def _pairs():
    """(colour, shape) indices of the pairs seen in training, (40, 2), and of those held out, (8, 2)."""
    names = list(COLOURS)
    held = [(names.index(colour), SHAPES.index(shape)) for colour, shape in HELD_OUT]
    seen = [(c, s) for c in range(len(names)) for s in range(len(SHAPES)) if (c, s) not in held]
    return torch.tensor(seen), torch.tensor(held)


SEEN_PAIRS, HELD_PAIRS = _pairs()


def draw(n, seed=0, start=0, objects=None, held_out=False):
    """Draw n scenes, numbers start to start + n - 1 of the endless list that the seed stands for.

    objects: 1 or 2 in every scene, or None for half of each.
    held_out: False keeps the pairs of HELD_OUT away altogether; True puts exactly one into every scene.
    Objects lie whole inside the frame and two pixels of 32 apart or more; two objects differ in their
    (colour, shape), and one of the four relations holds between them beyond doubt.
    Raises ValueError if n or start is negative or objects is not None, 1 or 2.
    """
    for what, value in (("n", n), ("start", start)):
        if value < 0:
            raise ValueError(f"{what}: got {value!r}; expected 0 or more")
    if objects not in (None, 1, 2):
        raise ValueError(f"objects: got {objects!r}; expected None, 1 or 2")
    u = uniforms(seed, start, n, 13)
    two = u[:, 0] < 0.5 if objects is None else torch.full((n,), objects == 2)

    first = pick(u[:, 1], len(SEEN_PAIRS))
    other = pick(u[:, 2], len(SEEN_PAIRS) - 1)
    other = other + (other >= first)  # any seen pair but the first
    pairs = torch.stack([SEEN_PAIRS[first], SEEN_PAIRS[other]], 1)  # (n, 2 slots, colour and shape)
    if held_out:
        unseen = HELD_PAIRS[pick(u[:, 3], len(HELD_PAIRS))]
        slot = ((u[:, 4] < 0.5) & two).long()
        pairs[torch.arange(n), slot] = unseen
    size = pick(u[:, 5:7], len(SIZES))  # (n, 2)

    margin = RADII[size] + INSET  # (n, 2)
    alone = margin[:, :1] + u[:, 7:9] * (1 - 2 * margin[:, :1])  # (n, x and y)
    together = _two_places(RADII[size], u[:, 7:12])  # (n, 2 slots, x and y)
    centre = torch.where(two[:, None, None], together, torch.stack([alone, alone], 1))

    present = torch.stack([torch.ones_like(two), two], 1)  # (n, 2)
    return Scenes(
        shape=torch.where(present, pairs[:, :, 1], -1),
        colour=torch.where(present, pairs[:, :, 0], -1),
        size=torch.where(present, size, -1),
        x=torch.where(present, centre[:, :, 0], 0.0),
        y=torch.where(present, centre[:, :, 1], 0.0),
        background=pick(u[:, 12], len(BACKGROUNDS)),
    )


def _two_places(radius, u):
    """Centres of two circles of these radii that neither touch nor leave doubt about their relation.

    radius: (n, 2); u: (n, 5) in 0..1. Returns (n, 2 slots, x and y). Nothing is tried and thrown away: the
    distance along the axis of the relation is drawn first, then the sideways one from what that allows, then
    where the pair lies.
    """
    low, high = (radius + INSET).unbind(1)
    apart = radius.sum(1) + GAP
    doubt = UNSURE + 0.003
    # Sideways can be at most `along - doubt`, so the circles stay apart only if along**2 + (along - doubt)**2
    # is at least apart**2; the larger root of that quadratic is the least distance along the axis.
    least = (doubt + (2 * apart**2 - doubt**2).sqrt()) / 2
    most = 1 - low - high
    along = least + u[:, 0] * (most - least)
    near = (apart**2 - along**2).clamp(min=0).sqrt()
    aside = near + u[:, 1] * (along - doubt - near).clamp(min=0)

    relation = pick(u[:, 2], 4)
    a = low + u[:, 3] * (most - along)  # first circle before second, along the axis
    b = a + along
    # Sideways, the first circle may lie anywhere that keeps both inside. What u[:, 2] has left after choosing
    # one of four relations chooses the sign of `aside`.
    sign = torch.where((u[:, 2] * 4) % 1 < 0.5, -1.0, 1.0)
    left = torch.maximum(low, high - sign * aside)
    right = torch.minimum(1 - low, 1 - high - sign * aside)
    c = left + u[:, 4] * (right - left)
    d = c + sign * aside

    flip = ((relation == 1) | (relation == 3))[:, None]
    main = torch.stack([a, b], 1)
    main = torch.where(flip, 1 - main, main)  # (n, 2): mirrored for "right of" and "below"
    side = torch.stack([c, d], 1)
    across = (relation < 2)[:, None]
    return torch.stack([torch.where(across, main, side), torch.where(across, side, main)], 2)


def relation(scenes):
    """(n,) int64: index into RELATIONS of object 0 to object 1; -1 with one object, or if in doubt.

    In doubt is a scene where |dx| and |dy| of the centres differ by less than 1.5 pixels of 32.
    """
    dx, dy = scenes.x[:, 0] - scenes.x[:, 1], scenes.y[:, 0] - scenes.y[:, 1]
    across = torch.where(dx < 0, 0, 1)
    upright = torch.where(dy < 0, 2, 3)
    found = torch.where(dx.abs() > dy.abs(), across, upright)
    sure = ((dx.abs() - dy.abs()).abs() >= UNSURE) & (scenes.count == 2)
    return torch.where(sure, found, -1)


def ninth(scenes):
    """(n, 2) int64: index into PLACES of each object's centre, in doubt or not; of an absent one that of its 0, 0."""
    column, row = ((3 * v).long().clamp(0, 2) for v in (scenes.x, scenes.y))
    return 3 * row + column


def place(scenes):
    """(n, 2) int64: index into PLACES of each object's centre; -1 if absent, or in doubt.

    The frame is cut in thirds each way; in doubt is a centre within 1.5 pixels of 32 of a cut.
    """
    sure = scenes.shape >= 0
    for v in (scenes.x, scenes.y):
        sure = sure & ((v - 1 / 3).abs() >= UNSURE) & ((v - 2 / 3).abs() >= UNSURE)
    return torch.where(sure, ninth(scenes), -1)
