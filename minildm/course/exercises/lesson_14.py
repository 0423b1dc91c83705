"""Lesson 14, changing a given picture: img2img and its two ends, and holes that are filled."""

import math
from collections.abc import Callable
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor

from ...levels import Level
from . import Exercise, Wrong, expect, hint_for, near, seeded

# A toy autoencoder, in which each pixel looks at its neighbours, and a toy denoiser. The round trip is not exact.


def encode(picture: Tensor) -> Tensor:
    return 1.5 * F.avg_pool2d(picture, 2) + 0.2  #                                         (b, 3, h/2, w/2)


def decode(z: Tensor) -> Tensor:
    x = F.interpolate((z - 0.2) / 1.5, scale_factor=2.0)
    return F.avg_pool2d(F.pad(x, (1, 1, 1, 1), mode="replicate"), 3, stride=1)


def guess(x: Tensor, level: Level) -> Tensor:
    return 0.4 * x.roll(1, -1) + 0.3 * level.sigma * x - 0.1


def table(first_alpha: float, n: int = 5) -> list[Level]:
    """n + 1 rows from this alpha to the clean row."""
    alphas = [first_alpha + (1 - first_alpha) * i / n for i in range(n)]
    return [*(Level(1000.0 - 190 * i, a, math.sqrt(1 - a * a)) for i, a in enumerate(alphas)), Level(0.0, 1.0, 0.0)]


def walked(x: Tensor, rows: list[Level], denoise: Callable = guess) -> Tensor:
    for level, below in pairwise(rows):
        x0 = denoise(x, level)
        x = below.alpha * x0 + below.sigma * (x - level.alpha * x0) / level.sigma
    return x


def pictures(b: int = 2, h: int = 8, w: int = 8, seed: int = 0) -> Tensor:
    return torch.rand(b, 3, h, w, generator=seeded(seed)) * 2 - 1


class Asked:
    """A denoiser that keeps what it is asked."""

    def __init__(self):
        self.seen: list[tuple[Tensor, Level]] = []

    def __call__(self, x: Tensor, level: Level) -> Tensor:
        self.seen.append((x.clone(), level))
        return guess(x, level)


# 14.img2img

ROUND_TRIP = (
    "At strength 0 there is nothing to do, and the autoencoder does harm even so: its round trip is not exact. Give "
    "back the picture itself."
)
BACKWARDS = (
    "Strength is turned round: 0 leaves the picture and 1 draws a new one. (Some programs count the other way; say "
    "which way yours does.)"
)
WRONG_END = "These are the noisiest rows. With little strength the LAST ones are left to go: the cleaner ones."
NOT_CLEAN = "The last row, the clean one, is missing: k steps need the last k + 1 rows."
ALL_ROWS = "All rows are walked. A picture with little noise in it starts further down: at the row whose noise it has."
TOO_NOISY = (
    "The noise is that of the first row of the whole table. It has to be that of the row where the walk begins, or "
    "the network is told a level that is not there."
)
TOO_CLEAN = "The noise is that of the row AFTER the first one left. The first question is asked at rows[n - k]."
STRENGTH_AS_NOISE = (
    "Strength is no alpha: it says how many steps are left. How much picture and how much noise then are in x is "
    "written in the row."
)
NO_NOISE = "Nothing was added: a clean picture is no x of that row, and the network would take its edges for noise."
NO_ALPHA = "The picture's share is missing: x = alpha * z + sigma * noise. Without alpha x is too loud for its row."
PURE = (
    "At strength 1 you start from the noise alone. Right where alpha is 0, but here the noisiest row holds a trace of "
    "the picture, as Stable Diffusion's does. Take the row as it is; no exception is needed."
)
UNDECODED = "These are latents. What is wanted is a picture: `decode` what the walk ends in."
ROUNDED = "Round down: int(n * strength) steps. So a strength too small for a single step leaves the picture alone."
COUNTED_ROWS = "n is the number of STEPS, one less than there are rows: `n = len(rows) - 1`."
WALK = (
    "k = int(n * strength); left = rows[n - k:]; x = alpha * z + sigma * noise at left[0]; DDIM through left; "
    "decode."
)


def begins_where_the_noise_is(fn: Callable) -> None:
    picture = pictures()
    z, noise = encode(picture), torch.randn(2, 3, 4, 4, generator=seeded(3))
    for first, strength in ((0.07, 0.6), (0.07, 0.3), (0.07, 0.35), (0.07, 1.0), (0.0, 1.0), (0.07, 0.1), (0.07, 0.0)):
        rows, n = table(first), 5
        asked = Asked()
        got = fn(encode, decode, asked, picture, noise, rows, strength)
        k = int(n * strength)
        left = rows[n - k :]
        call = f"{n} steps, alpha {first:g} at the noisiest row, strength {strength:g}: img2img"
        want = picture if k == 0 else decode(walked(left[0].alpha * z + left[0].sigma * noise, left))

        def started(x: Tensor, rows: list[Level] = left) -> Tensor:
            return decode(walked(x, rows)) if len(rows) > 1 else decode(x)

        more = rows[n - min(math.ceil(n * strength), n) :]
        longer = rows[max(n - int((n + 1) * strength), 0) :]
        turned = rows[k:]
        slips = [
            (started(noise) if strength == 1 else None, PURE),
            (started(turned[0].alpha * z + turned[0].sigma * noise, turned), BACKWARDS),
            (picture if strength == 1 else None, BACKWARDS), (decode(z), ROUND_TRIP),
            (started(rows[0].alpha * z + rows[0].sigma * noise, rows[: k + 1]), WRONG_END),
            (started(left[0].alpha * z + left[0].sigma * noise, left[:-1]) if k > 1 else None, NOT_CLEAN),
            (started(left[0].alpha * z + left[0].sigma * noise, rows), ALL_ROWS),
            (started(rows[0].alpha * z + rows[0].sigma * noise), TOO_NOISY),
            (started(rows[n - k + 1].alpha * z + rows[n - k + 1].sigma * noise) if k else None, TOO_CLEAN),
            (started((1 - strength) * z + strength * noise), STRENGTH_AS_NOISE), (started(z), NO_NOISE),
            (started(z + left[0].sigma * noise), NO_ALPHA),
            (started(longer[0].alpha * z + longer[0].sigma * noise, longer), COUNTED_ROWS),
            (started(more[0].alpha * z + more[0].sigma * noise, more), ROUNDED),
        ]  # fmt: skip
        slips = [(slip, hint) for slip, hint in slips if slip is not None and not near(slip, want)]
        hint = hint_for(got, slips, WALK)
        if isinstance(got, Tensor) and got.shape == z.shape:
            hint = UNDECODED
        expect(got, want, call, hint)
        if k == 0 and not torch.equal(got, picture):
            raise Wrong(f"{call} changes the picture in its last digits; not a bit of it should change", ROUND_TRIP)
        if [level for _, level in asked.seen] != left[:-1]:
            raise Wrong(f"{call} asks the denoiser {len(asked.seen)} times; {k} are wanted, one at each row left", WALK)


# 14.inpaint

PASTE = (
    "Known pixels came back through the autoencoder, and it is not exact. At the end lay the given pixels over the "
    "result: where the mask is 0, the picture itself."
)
BY_CELLS = (
    "You laid the known pixels back by `hole`, the mask on the coarse grid. Some pixels of those cells are known all "
    "the same: the last step goes by `mask`."
)
TURNED = "Mask and hole are turned round: 1 is to be painted anew, 0 stays."
UNSEEN = (
    "The pixels are pasted, but the network never saw what lies around the hole: it drew a picture of its own, and "
    "the seam will show. Impose the known latents on x before each call."
)
CLEAN = (
    "The network is shown CLEAN latents around the hole, and told a noisy level. What it sees has to be as noisy as "
    "the level says: alpha * z + sigma * noise."
)
ONLY_ONCE = "The known part is imposed once, at the start. The walk carries it away: impose it before EVERY call."
LATE_LEVEL = "The known part has the noise of the next level. Before the call it has to have that of the level asked."
ANSWER = (
    "In the denoiser's answer the known part has to be z itself: that is what we know. Else the walk ends with its "
    "guess there, and the decoder mixes that into the hole's rim."
)
MASKED_ANSWER = "Around the hole the answer is 0. Zeros are not the picture: there the answer is z."
DICE = "The noise around the hole is `noise`, the same at every call. New dice each time make the known part jump."
REMEMBERS = "What was in the hole is still in the start, if only a little. The hole begins in pure noise: x = noise."
ORDER = "z = encode(picture); x = noise; at each row: impose, ask, z into the answer's known part, step; decode; paste."


def fills(z, hole, noise, rows, *, see=True, clean=False, once=False, late=False, answer="z",
          old=False) -> Tensor:  # fmt: skip
    """Latents at the end, and what some mistakes make of them."""
    x = rows[0].alpha * z + rows[0].sigma * noise if old else noise
    for i, (level, below) in enumerate(pairwise(rows)):
        at = below if late else level
        known = z if clean else at.alpha * z + at.sigma * noise
        if see and not (once and i):
            x = torch.where(hole > 0, x, known)
        x0 = guess(x, level)
        if answer != "guess":
            x0 = torch.where(hole > 0, x0, z if answer == "z" else torch.zeros_like(z))
        x = below.alpha * x0 + below.sigma * (x - level.alpha * x0) / level.sigma
    return x


def keeps_what_is_known(fn: Callable) -> None:
    picture = pictures(2, 8, 12, seed=1)
    mask = torch.zeros(2, 1, 8, 12)
    mask[0, :, 2:5, 4:9], mask[1, :, 1:8, 6:12] = 1, 1  # not on the grid: some cells are known in part
    hole = F.max_pool2d(mask, 2)
    z, noise, rows = encode(picture), torch.randn(2, 3, 4, 6, generator=seeded(4)), table(0.05, 4)
    asked = Asked()
    got = fn(encode, decode, asked, picture, mask, hole, noise, rows)
    call = "Two pictures with a hole, 4 steps: inpaint"
    made = decode(fills(z, hole, noise, rows))
    want = torch.where(mask > 0, made, picture)
    if not isinstance(got, Tensor) or got.shape != want.shape:
        expect(got, want, call, UNDECODED if isinstance(got, Tensor) and got.shape == z.shape else ORDER)
    wide = F.interpolate(hole, scale_factor=2.0)
    known = (mask == 0).expand_as(picture)
    moved = (got != picture) & known
    backwards = torch.where(mask > 0, picture, decode(fills(z, 1 - hole, noise, rows)))
    slips = [(torch.where(wide > 0, made, picture), BY_CELLS), (backwards, TURNED),
             (torch.where(mask > 0, picture, made), TURNED)]  # fmt: skip
    if moved.any():
        at = tuple(moved.nonzero()[0].tolist())
        raise Wrong(f"{call} gives {got[at]:.6g} at index {at}, outside of the mask, where the picture has "
                    f"{picture[at]:.6g}; it should not change at all", hint_for(got, slips, PASTE))  # fmt: skip
    if near(got, torch.where(mask > 0, decode(fills(z, 1 - hole, noise, rows)), picture)):
        raise Wrong(f"{call} draws the known part and keeps the hole", TURNED)

    def ended(**how: object) -> Tensor:
        return torch.where(mask > 0, decode(fills(z, hole, noise, rows, **how)), picture)

    slips = [
        (ended(see=False, answer="guess"), UNSEEN), (ended(clean=True), CLEAN),
        (ended(once=True, answer="guess"), ONLY_ONCE), (ended(late=True), LATE_LEVEL),
        (ended(answer="guess"), ANSWER), (ended(answer="0"), MASKED_ANSWER), (ended(old=True), REMEMBERS),
    ]  # fmt: skip
    slips = [(slip, hint) for slip, hint in slips if not near(slip, want)]
    hint = hint_for(got, slips, ORDER)
    if hint == ORDER and not near(got, fn(encode, decode, guess, picture, mask, hole, noise, rows)):
        hint = DICE
    expect(got, want, call + ", in the hole,", hint)
    for x, level in asked.seen:
        should = level.alpha * z + level.sigma * noise
        if not near(torch.where(hole > 0, 0, x), torch.where(hole > 0, 0, should)):
            raise Wrong(f"{call} shows the denoiser other numbers around the hole than alpha z + sigma noise", CLEAN)
    if len(asked.seen) != 4:
        raise Wrong(f"{call} asks the denoiser {len(asked.seen)} times; 4 are wanted, one at each step", ORDER)


EXERCISES = (
    Exercise("14.img2img", (
        "How many steps are left? int(n * strength), of n = len(rows) - 1. If none is left, the answer is the picture.",
        "The walk begins at the first row left, so x has its noise: left[0].alpha * z + left[0].sigma * noise.",
        "`left = rows[n - k:]`; then the loop of lesson 12 through pairwise(left), unguided; decode at the end.",
    ), (begins_where_the_noise_is,)),
    Exercise("14.inpaint", (
        "DDIM from `noise`, with two lines more: one before the denoiser is asked, one after.",
        "Before: x = torch.where(hole > 0, x, level.alpha * z + level.sigma * noise). After: z where the hole is not.",
        "After the loop decode, and `torch.where(mask > 0, made, picture)`: the pixels that were given, bit by bit.",
    ), (keeps_what_is_known,)),
)  # fmt: skip
