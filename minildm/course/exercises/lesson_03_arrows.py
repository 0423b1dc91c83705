"""Lesson 03, reading and adding: a linear probe, and the arrow from one colour to another."""

from collections.abc import Callable
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor

from ... import oracle, scenes, weights
from . import Exercise, Wrong, expect, hint_for, seeded, told

# 03.probe

BIAS = (
    "A line without an offset has to go through 0. Give the features one more column, of ones: its weight is the "
    "offset, and no special case is left."
)
ON_TRAINING = (
    "This is R² on the data that the weights were fitted to. There, nonsense scores too. Fit on `x, y`; predict and "
    "measure on `x_new, y_new`."
)
CORRELATION = (
    "This is the squared correlation. It forgives a wrong scale, a wrong offset and even a wrong sign. R² is "
    "1 - (squared errors) / (squared distances from the mean)."
)
AROUND_ZERO = "The errors are compared with how far y_new lies from its MEAN, not from 0: subtract the mean first."
TRAIN_MEAN = "Around the mean of y_new: that is the best that a constant could do THERE."
ERROR_ITSELF = "This is the error, and small would be good. R² compares it with that of the best constant; 1 is best."
SHARE_LEFT = "This is the share that is left unexplained. R² is 1 minus that."
UNEVEN = (
    "Sums over sums, or means over means: `var` of PyTorch divides by n - 1, and `mean` by n. With two sums there is "
    "no such question."
)
REPEATED = (
    "One column is a copy of another: then X^T X has no inverse. `torch.linalg.lstsq(..., driver='gelsd')` or "
    "`torch.linalg.pinv` find a best answer all the same."
)
EVERY_PIXEL = "Latents hold a little more than this. Compare the lines one by one: fit, predict, errors, mean."


def with_ones(x: Tensor) -> Tensor:
    return torch.cat([x, torch.ones(len(x), 1, dtype=x.dtype)], 1).double()


def fitted(x: Tensor, y: Tensor, new: Tensor) -> Tensor:
    return new @ (torch.linalg.pinv(x) @ y.double())


def r_squared(guess: Tensor, y: Tensor, middle: float | None = None) -> float:
    away = y.double() - (y.double().mean() if middle is None else middle)
    return (1 - (guess - y).square().sum() / away.square().sum()).item()


def probe_slips(x: Tensor, y: Tensor, new: Tensor, y_new: Tensor) -> tuple[float, list[tuple[float, str]]]:
    """The right R², and what the usual mistakes make of it."""
    guess = fitted(with_ones(x), y, with_ones(new))
    bare = fitted(x.double(), y, new.double())
    right = r_squared(guess, y_new)
    return right, [
        (r_squared(bare, y_new), BIAS), (r_squared(fitted(with_ones(x), y, with_ones(x)), y), ON_TRAINING),
        (r_squared(fitted(with_ones(new), y_new, with_ones(new)), y_new), ON_TRAINING),
        (torch.corrcoef(torch.stack([guess, y_new.double()]))[0, 1].item() ** 2, CORRELATION),
        (r_squared(guess, y_new, 0.0), AROUND_ZERO), (r_squared(guess, y_new, y.mean().item()), TRAIN_MEAN),
        ((guess - y_new).square().mean().item(), ERROR_ITSELF), ((guess - y_new).square().sum().item(), ERROR_ITSELF),
        (1 - right, SHARE_LEFT), (1 - (1 - right) * (len(y_new) - 1) / len(y_new), UNEVEN),
    ]  # fmt: skip


def probe_says(fn: Callable, call: str, data: tuple, otherwise: str, within: float = 2e-3) -> None:
    right, slips = probe_slips(*data)
    try:
        got = fn(*data)
    except torch.linalg.LinAlgError as error:
        raise Wrong(f"{call}: your code stops with {type(error).__name__}", REPEATED) from error
    if getattr(got, "shape", None) in ((), (1,)) and hasattr(got, "item"):  # a tensor's or NumPy's number
        got = got.item()
    if not isinstance(got, int | float):
        raise Wrong(f"{call} gives {told(got)}; one number, R², is wanted", "`return` the R² of the new data.")
    if not abs(got - right) <= within * (1 + abs(right)):
        hint = next((hint for slip, hint in slips if abs(got - slip) <= within * (1 + abs(slip))), otherwise)
        raise Wrong(f"{call} gives {got:.4f}; it should be {right:.4f}", hint)


def fits_lines(fn: Callable) -> None:
    g = seeded(0)
    x, new = torch.randn(60, 2, generator=g), torch.randn(40, 2, generator=g) + 0.5
    line = torch.tensor([2.0, -1.0])
    y, y_new = torch.randn(60, generator=g) + 2, torch.randn(40, generator=g) + 3
    probe_says(fn, "y has nothing to do with x: probe", (x, y, new, y_new), AROUND_ZERO)
    probe_says(fn, "y = 3 + 2 x1 - x2, without noise: probe", (x, 3 + x @ line, new, 3 + new @ line), BIAS)
    noisy, noisy_new = (3 + v @ line + torch.randn(len(v), generator=g) for v in (x, new))
    probe_says(fn, "y = 3 + 2 x1 - x2 + noise: probe", (x, noisy, new, noisy_new), AROUND_ZERO)
    twice, twice_new = (torch.cat([v, v[:, :1]], 1) for v in (x, new))
    probe_says(fn, "The same with column 1 twice: probe", (twice, noisy, twice_new, noisy_new), REPEATED)


@cache
def pooled_latents() -> tuple[Tensor, Tensor]:
    """Of 200 scenes of one object: latents averaged down to 4x4 places, (200, 64), and where the object is, x."""
    drawn = scenes.draw(200, seed=303, objects=1)
    with torch.no_grad():
        mean, _ = weights.load("shapes/vae").encode(scenes.render(drawn))
    return F.avg_pool2d(mean, 2).flatten(1), drawn.x[:, 0].contiguous()


def reads_the_place(fn: Callable) -> None:
    z, x = pooled_latents()
    probe_says(fn, "Where the object is, from the latents of 150 scenes: probe", (z[:150], x[:150], z[150:], x[150:]),
               EVERY_PIXEL, within=0.02)  # fmt: skip


# 03.arrow

WHOLE = "The arrow is added to one latent, so it has the shape of one. `mean(0)` averages over pictures alone."
LIKE = (
    "For each shape that has pictures in both colours: the mean of ALL its new ones minus the mean of ALL its old "
    "ones. Then the mean of these differences."
)
OPPOSITE = "The arrow points the wrong way: it leads FROM old TO new, so it is new minus old."
POOLED = (
    "A part of this arrow is a shape. Old and new colour do not occur in the same shapes, nor equally often, so the "
    "difference of their means is colour AND shape. Compare like with like: one difference for each shape."
)
EMPTY = (
    "Some shapes occur in one of the two colours only. The mean of no picture at all is nan, and one nan spoils the "
    "sum: leave such shapes out."
)
ADDED_UP = "The differences of all shapes, added up. The arrow is their MEAN, or it is several arrows long."
FROM_THE_MEAN = (
    "This leads from the mean of ALL pictures to the new colour. A picture of the old colour is not there: start from "
    "the old colour's mean, shape by shape."
)
UNIT = "The length of an arrow is part of the answer: k = 1 should lead from one colour to the other. Do not normalise."
BY_COUNT = (
    "A shape of which there are many pictures counts more here than a rare one. Take the mean within each shape first, "
    "and then the mean over shapes, each counting once."
)
ONE_SHAPE = "This is the difference for one shape alone, with all that is peculiar to it. Average over the shapes."
FLIPS = (
    "The numbers fit, and yet the pictures do not turn. Does the arrow have the shape of a latent, (4, 8, 8), with "
    "every number in its place?"
)
FLIPPED = 0.45  # of the held-out pictures at least; measured 0.60 for the right arrow, 0.35 for one shape alone


def by_shape(z: Tensor, colour: Tensor, shape: Tensor, old: int, new: int) -> list[Tensor]:
    found = []
    for s in shape.unique():
        pair = [z[(shape == s) & (colour == c)] for c in (old, new)]
        if len(pair[0]) and len(pair[1]):
            found.append(pair[1].mean(0) - pair[0].mean(0))
    return found


def compares_like_with_like(fn: Callable) -> None:
    g = seeded(0)
    # Colours 0..2, shapes 0..3: colour 0 is mostly shape 0, colour 2 mostly shape 1, shape 3 never has colour 0.
    counts = {(0, 0): 6, (0, 1): 2, (0, 2): 1, (2, 0): 1, (2, 1): 7, (2, 2): 2, (2, 3): 3, (1, 3): 2}
    pairs = [pair for pair, count in counts.items() for _ in range(count)]
    colour, shape = torch.tensor(pairs).T.contiguous()
    for size in ((3,), (4, 2, 2)):
        shapes_, colours_ = torch.randn(4, *size, generator=g) * 3, torch.randn(3, *size, generator=g)
        z = shapes_[shape] + colours_[colour] + 0.3 * torch.randn(len(pairs), *size, generator=g)
        parts = by_shape(z, colour, shape, 0, 2)
        right = torch.stack(parts).mean(0)
        pooled = z[colour == 2].mean(0) - z[colour == 0].mean(0)
        shared = torch.isin(shape, torch.tensor([0, 1, 2]))
        count = torch.stack([p * n for p, n in zip(parts, (7, 9, 3), strict=True)]).sum(0) / 19
        slips = [
            (-right, OPPOSITE), (-pooled, OPPOSITE), (pooled, POOLED), (right * 3, ADDED_UP),
            (right * 3 / 4, ADDED_UP), (z[colour == 2].mean(0) - z.mean(0), FROM_THE_MEAN),
            (right / right.norm(), UNIT), (pooled / pooled.norm(), UNIT),
            (z[shared & (colour == 2)].mean(0) - z[shared & (colour == 0)].mean(0), POOLED), (count, BY_COUNT),
            *((part, ONE_SHAPE) for part in parts),
        ]  # fmt: skip
        got = fn(z, colour, shape, 0, 2)
        call = f"24 pictures in 3 colours and 4 shapes, latents of the shape {size}: arrow"
        if isinstance(got, Tensor) and got.shape == right.shape and got.isnan().any():
            raise Wrong(call + " gives nan", EMPTY)
        as_one = isinstance(got, Tensor) and got.shape == right.shape
        expect(got, right, call, hint_for(got, slips, LIKE) if as_one else WHOLE)


@cache
def in_one_place() -> tuple[torch.nn.Module, Tensor, Tensor, Tensor, Tensor]:
    """The shipped autoencoder; each shape in each colour, large, amid white: latents, and what is what."""
    vae = weights.load("shapes/vae")
    shape, colour = (v.flatten() for v in torch.meshgrid(torch.arange(6), torch.arange(8), indexing="ij"))
    first = scenes.draw(48, seed=0, objects=1)
    for name, value in {"shape": shape, "colour": colour, "size": 1, "x": 0.5, "y": 0.5}.items():
        getattr(first, name)[:, 0] = value
    first.background[:] = 0
    names = list(scenes.COLOURS)
    held = torch.tensor([(names[c], scenes.SHAPES[s]) in scenes.HELD_OUT for s, c in zip(shape, colour, strict=True)])
    with torch.no_grad():
        return vae, vae.encode(scenes.render(first))[0], shape, colour, held


def flips_the_oracle(fn: Callable) -> None:
    vae, z, shape, colour, held = in_one_place()
    seen, moved, wanted = ~held, [], []
    for aim in held.nonzero().flatten().tolist():
        for start in (seen & (shape == shape[aim])).nonzero().flatten().tolist():
            arrow = fn(z[seen], colour[seen], shape[seen], int(colour[start]), int(colour[aim]))
            moved.append((z[start] + arrow).float())
            wanted.append(int(colour[aim]))
    with torch.no_grad():
        read = oracle.read(vae.decode(torch.stack(moved)))
    share = (read.readable & (read.scenes.colour[:, 0] == torch.tensor(wanted))).float().mean().item()
    if share < FLIPPED:
        what = f"Of {len(wanted)} arrows to held-out pairs the oracle sees {share:.0%} arrive; {FLIPPED:.0%} are wanted"
        raise Wrong(what, FLIPS)


EXERCISES = (
    Exercise("03.probe", (
        "Four things in turn: the column of ones, the weights from `x, y`, the guesses for `x_new`, and R² of these.",
        "`X = torch.cat([x, torch.ones(len(x), 1)], 1)` and `w = torch.linalg.pinv(X) @ y`.",
        "1 - (guess - y_new).square().sum() / (y_new - y_new.mean()).square().sum(), where guess is made of x_new.",
    ), (fits_lines, reads_the_place)),
    Exercise("03.arrow", (
        "For each shape that has pictures in both colours: mean of the new ones minus mean of the old ones.",
        "`of_new = z[(shape == s) & (colour == new)]` are the latents of one shape and colour; `len(of_new)` may be 0.",
        "Collect the differences in a list; `torch.stack(found).mean(0)` is the arrow.",
    ), (compares_like_with_like, flips_the_oracle)),
)  # fmt: skip
