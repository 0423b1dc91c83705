"""Lesson 06, attention: several heads."""

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from . import Exercise, Slips, Wrong, expect, hint_for, near, seeded
from .lesson_06 import alike

SCALE = (
    "The scores are not divided by anything. A sum of many products is large; divide by the root of how many "
    "numbers a query has."
)
WHOLE_WIDTH = (
    "Divided by the root of d. But each head sums over its own d / heads numbers only, and it is the root of THAT: "
    "after cutting, `q.shape[-1]`."
)
NO_ROOT = (
    "Divided by the width itself; it is the ROOT of the width, as the sum of d independent products has variance "
    "d."
)
AXIS = (
    "The weights add up to 1 over those who ASK. Each query shares out its attention over all keys: softmax along "
    "the last axis of (n, m), which is that of the keys."
)
OVER_HEADS = (
    "The softmax runs over the heads (or the batch): where there is one of them every weight is 1. It belongs "
    "along the last axis, that of the keys."
)
NO_SOFTMAX = "These weights are the bare scores; they have to be positive and add up to 1: a softmax."
RESHAPED = (
    "Tokens and heads are mixed up on the way IN: `reshape(b, heads, n, ...)` reads on in memory, and memory has "
    "all of one token first. Cut the last axis, (b, n, heads, d/heads), and then `transpose(1, 2)`."
)
MERGED = (
    "Tokens and heads are mixed up on the way OUT: before the heads are put behind each other, `transpose(1, 2)` "
    "has to bring the tokens to the front again."
)
ONE_HEAD = (
    "This is one head over all d numbers. Cut queries, keys and values into `heads` parts, each with its own "
    "softmax."
)
TAKING_TURNS = "Head 0 has the FIRST d / heads numbers, in one piece. Here each head takes every so-manieth."
SUMMED = "Each head fills its own d / heads numbers of the answer; they are not added or averaged."
OVERFLOW = (
    "exp of a large score is infinite, and infinite over infinite is no number. `softmax` subtracts the largest "
    "score first; use it, or do the same."
)
HEADS_LOOK = (
    "Here the heads of ONE token look at each other. A matrix product treats all axes but the last two separately: "
    "bring the heads in front of the tokens, `transpose(1, 2)`."
)
SWAPPED = "The keys ask here and the queries answer: it is `q @ k.mT`, one row for each query."
AFTER = "The scores are divided after the softmax. Before it, please: the weights have to add up to 1 at the end."
NOT_BACK = "Each head's answer is right. Put them back behind each other: `out.transpose(1, 2).flatten(2)`."
NEIGHBOURS = "Compare with one head and two tokens, by hand: weights from the scores, then the average of the values."
ALONE = "What comes out of one picture depends on another one of the batch."


def looked(q: Tensor, k: Tensor, v: Tensor, scale: float | None = None, axis: int = -1) -> Tensor:
    scale = 1 / math.sqrt(q.shape[-1]) if scale is None else scale
    return (q @ k.mT * scale).softmax(axis) @ v


def answers(q: Tensor, k: Tensor, v: Tensor, heads: int) -> tuple[Tensor, Slips]:
    """The right answer, and what the usual mistakes make of it."""
    b, n, d = q.shape

    def cut(x: Tensor) -> Tensor:
        return x.unflatten(-1, (heads, -1)).transpose(1, 2)

    def back(x: Tensor) -> Tensor:
        return x.transpose(1, 2).flatten(2)

    parts, wide = [cut(x) for x in (q, k, v)], d // heads
    out = F.scaled_dot_product_attention(*parts)
    mixed = [x.reshape(b, heads, -1, wide) for x in (q, k, v)]
    turns = [x.unflatten(-1, (-1, heads)).movedim(-1, 1) for x in (q, k, v)]
    slips = [
        (back(looked(*parts, scale=1.0)), SCALE), (back(looked(*parts, axis=-2)), AXIS),
        (back(looked(*parts, scale=1 / wide)), NO_ROOT),
        (back(parts[0] @ parts[1].mT / math.sqrt(wide) @ parts[2]), NO_SOFTMAX),
        (back(looked(*parts, axis=1)), OVER_HEADS), (out, NOT_BACK), (back(out / math.sqrt(wide)), AFTER),
        (back(looked(*parts, scale=1.0) / math.sqrt(wide)), AFTER),
    ]  # fmt: skip
    if n == k.shape[1]:
        slips.append((back(looked(parts[1], parts[0], parts[2])), SWAPPED))
        apart = [x.unflatten(-1, (heads, -1)) for x in (q, k, v)]
        slips.append((looked(*apart).flatten(2), HEADS_LOOK))
    if heads > 1:
        slips += [
            (back(looked(*parts, scale=d**-0.5)), WHOLE_WIDTH), (looked(q, k, v), ONE_HEAD),
            (looked(q, k, v, scale=wide**-0.5), ONE_HEAD),
            (back(looked(*mixed)), RESHAPED),
            (looked(*mixed).reshape(b, n, d), RESHAPED), (out.reshape(b, n, d), MERGED),
            (looked(*turns).movedim(1, -1).flatten(2), TAKING_TURNS), (back(looked(*turns)), TAKING_TURNS),
            (out.mean(1).repeat(1, 1, heads), SUMMED), (out.sum(1).repeat(1, 1, heads), SUMMED),
            (out.mean(1), SUMMED), (out.sum(1), SUMMED),
        ]  # fmt: skip
    return back(out), slips


def tokens(b: int, n: int, m: int, d: int) -> tuple[Tensor, Tensor, Tensor]:
    g = seeded(n + d)
    return tuple(torch.randn(b, size, d, generator=g) for size in (n, m, m))


def is_attention(fn: Callable) -> None:
    for b, n, m, d, heads in ((1, 3, 3, 4, 1), (1, 4, 4, 8, 2), (2, 5, 5, 12, 3), (2, 3, 6, 8, 4)):
        given = tokens(b, n, m, d)
        right, slips = answers(*given, heads)
        call = f"q of shape {(b, n, d)}, k and v of {(b, m, d)}, {heads} head{'s' * (heads > 1)}: attention"
        got = fn(*given, heads)
        expect(got, right, call, hint_for(got, slips, NEIGHBOURS if alike(got, right) else ""))


def does_not_mind_the_order(fn: Callable) -> None:
    q, k, v = tokens(1, 6, 6, 8)
    order, plain = torch.tensor([3, 0, 5, 1, 4, 2]), fn(q, k, v, 2)
    expect(fn(q, k[:, order], v[:, order], 2), plain, "Keys and values in another order, both the same: attention")
    expect(fn(q[:, order], k, v, 2), plain[:, order], "Queries in another order, so answers in that order: attention")


def holds_for_large_scores(fn: Callable) -> None:
    q, k, v = tokens(2, 4, 4, 8)
    got, right = fn(60 * q, 60 * k, v, 2), answers(60 * q, 60 * k, v, 2)[0]
    if not near(got, right) and not got.isfinite().all():
        raise Wrong("Scores of some thousands: attention gives nan", OVERFLOW)
    expect(got, right, "Scores of some thousands: attention", OVERFLOW)
    expect(fn(q[:1], k[:1], v[:1], 2), fn(q, k, v, 2)[:1], "A batch of one, and of two: attention", ALONE)


EXERCISES = (
    Exercise("06.attention", (
        "Give each head an axis of its own, in front of the tokens; a matrix product then treats each head by itself.",
        "`x.unflatten(-1, (heads, -1)).transpose(1, 2)` makes (b, heads, n, d/heads) of (b, n, d). Then the "
        "formula, with the width that q has now.",
        "scores = q @ k.mT / math.sqrt(q.shape[-1]); out = scores.softmax(-1) @ v; and back: "
        "out.transpose(1, 2).flatten(2).",
    ), (is_attention, does_not_mind_the_order, holds_for_large_scores)),
)  # fmt: skip
