"""Lesson 10, classes and guidance: the formula under its two numberings, and labels dropped in training."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from . import Exercise, Wrong, expect, near, seeded

# 10.cfg

SIGN = (
    "The two factors have to add up to 1: where both answers are the same, guidance has nothing to say and must "
    "leave them alone. uncond has the factor 1 - scale, and not scale - 1."
)
PAPER_FOR_OURS = (
    "You start from cond. In our numbering one starts from uncond and goes `scale` times the way to cond: 0 stays at "
    "uncond, 1 arrives at cond."
)
OURS_FOR_PAPER = (
    "The number of the paper counts from cond: w = 0 is cond itself, so w = 0 is our scale 1. Convert it first, then "
    "use ONE formula."
)
BACKWARDS = "The paper's number is the smaller one: it is 0 where ours is 1. So add 1 to it; do not take 1 away."
SWAPPED = "The two answers have changed places: scale 0 has to give uncond and scale 1 cond."
PLUS = "(1 + w) cond MINUS w uncond: uncond is what one moves away from. With a plus the answer is too large as well."
BETWEEN = "Guidance goes beyond cond: a scale of 3 is meant as 3. Do not cut it to 0..1, and do not divide by it."
UNSCALED = "The number has to multiply the whole way from uncond to cond, both parts of the difference."
TWICE = (
    "Converted at the wrong place: a number called \"scale\" is ours already, and one called \"w\" needs 1 more, once."
)
CFG_OTHER = "Write down the answer for cond = 1 and uncond = 0, then for 0 and 1: those are its factors."


def mixed(convention: str) -> list[tuple[Callable, str]]:
    """What one comes to by a mistake, as the factor of cond and that of uncond for a number, and the hint for it."""
    if convention == "w":
        return [
            (lambda n: (1 + n, n), PLUS), (lambda n: (n, 1 - n), OURS_FOR_PAPER), (lambda n: (n - 1, 2 - n), BACKWARDS),
            (lambda n: (-n, 1 + n), SWAPPED), (lambda n: (1.0, 0.0), BETWEEN), (lambda n: (2 + n, -1 - n), TWICE),
        ]  # fmt: skip
    return [
        (lambda n: (n, n - 1), SIGN), (lambda n: (1 + n, -n), PAPER_FOR_OURS), (lambda n: (1 - n, n), SWAPPED),
        (lambda n: (min(max(n, 0), 1), 1 - min(max(n, 0), 1)), BETWEEN), (lambda n: (1.0, 1 - n), UNSCALED),
        (lambda n: (n, 0.0), UNSCALED), (lambda n: (n, -1.0), UNSCALED), (lambda n: (n, 1.0), UNSCALED),
        (lambda n: (n - 1, 2 - n), TWICE),
    ]  # fmt: skip


def slip_of(fn: Callable, cond: Tensor, uncond: Tensor, convention: str) -> str:
    """The hint of the mistake that explains the answers to three numbers."""
    got = {n: fn(cond, uncond, n, convention) for n in (2.0, 3.5, 6.0)}
    for factors, hint in mixed(convention):
        made = {n: factors(n)[0] * cond + factors(n)[1] * uncond for n in got}
        if all(near(got[n], made[n]) for n in got):
            return hint
    return CFG_OTHER


def numbers(fn: Callable) -> None:
    cond, uncond = torch.randn(2, 2, 3, 4, 4, generator=seeded(0), dtype=torch.float64)
    for convention, counted in (("scale", (1.0, 0.0, 3.0, -0.5)), ("w", (0.0, 2.0, 6.5, -1.0))):
        for number in counted:
            scale = number if convention == "scale" else number + 1
            want = uncond + scale * (cond - uncond)
            got = fn(cond, uncond, number, convention)
            hint = "" if near(got, want) else slip_of(fn, cond, uncond, convention)
            expect(got, want, f'guide(cond, uncond, {number:g}, "{convention}")', hint)


def is_linear(fn: Callable) -> None:
    """Equal answers stay as they are, and equal steps of the number are equal steps of the answer."""
    same = torch.linspace(-2, 2, 7)
    for number, convention in ((0.0, "scale"), (7.5, "scale"), (6.5, "w")):
        call = f'Where cond and uncond are the same, guide(..., {number:g}, "{convention}")'
        expect(fn(same, same.clone(), number, convention), same, call, SIGN)
    a, b, c = (fn(same, -same.flip(0) + 1, number, "scale") for number in (1.0, 4.0, 7.0))
    expect(c - b, b - a, "From scale 4 to 7 and from 1 to 4 the answer moves alike: the move of guide", BETWEEN)


# 10.dropout

LABELS = "Labels are whole numbers (b,), and what comes back is what the network looks up: whole numbers again."
NULL_IS_ZERO = (
    "0 is a class, the digit nought! A dropped label becomes `null`, an id that no picture has. Multiplying by a mask "
    "of zeros and ones turns every dropped label into class 0."
)
OTHER_CLASS = "A dropped label becomes `null` and nothing else. Another class in its place would be a false label."
KEPT_RATE = "It is `p` that are dropped, and here it is 1 - p. `torch.rand(n) < p` is true in a share p of the cases."
TOGETHER = (
    "All labels of a batch are dropped together, or none: one coin for all. Each picture needs a coin of its own, "
    "`torch.rand(len(labels), generator=generator)`."
)
PLACES = (
    "It is always the same places that are dropped, so some pictures of a batch never are. Chance has to decide, for "
    "each place by itself."
)
FIXED = (
    "Two calls in a row drop the same places. Draw from the `generator` you are given, and do not seed anything "
    "yourself: else every training step drops alike."
)
OWN_CHANCE = (
    "The same generator, seeded alike, gives other labels each time: your chance comes from elsewhere. Pass "
    "`generator=generator` to what draws, or no run can be repeated."
)
RATE = "How often is a label dropped? In a share p of the cases, each by itself; with p = 0.5 that is a fair coin."


def only_null_is_new(fn: Callable) -> None:
    labels = torch.arange(1000) % 10
    for p, null in ((0.3, 10), (0.0, 10), (1.0, 12)):
        call = f"drop of 1,000 labels 0..9 with p = {p:g} and null = {null}"
        got = fn(labels, null, p, seeded(0))
        if not isinstance(got, Tensor) or got.shape != labels.shape:
            expect(got, labels, call, LABELS)
        changed = got != labels
        if changed.any() and (got[changed] == 0).all():
            raise Wrong(f"{call} makes 0 of {int(changed.sum())} labels; a dropped one should be {null}", NULL_IS_ZERO)
        if got.dtype != torch.int64:
            raise Wrong(f"{call} gives {got.dtype}; torch.int64 is wanted", LABELS)
        if (changed & (got != null)).any():
            at = int((changed & (got != null)).nonzero()[0])
            what = f"{call} makes {int(got[at])} of the label {int(labels[at])}; only {null} can take its place"
            raise Wrong(what, OTHER_CLASS)


def drops_a_share(fn: Callable) -> None:
    """Within five standard deviations of the binomial: a right answer fails once in a million times."""
    for p in (0.1, 0.5, 0.8):
        masks = torch.stack([fn(torch.full((20,), 3), 10, p, seeded(i)) == 10 for i in range(400)])  #     (400, 20)
        if (masks == masks[0]).all() and p < 0.8:
            block = masks[0].nonzero().flatten()
            edge = len(block) == 0 or int(block[-1] - block[0]) == len(block) - 1
            raise Wrong(f"400 generators, seeded differently, p = {p:g}: each time the same labels are dropped",
                        PLACES if edge else FIXED)  # fmt: skip
        share, room = masks.float().mean().item(), 5 * math.sqrt(p * (1 - p) / masks.numel())
        batches = masks.float().mean(1)
        if ((batches == 0) | (batches == 1)).all():
            raise Wrong(f"400 batches of 20 labels, p = {p:g}: in each all are dropped, or none", TOGETHER)
        if abs(share - p) > room:
            slip = KEPT_RATE if abs(share - (1 - p)) <= room else RATE
            raise Wrong(f"Of 8,000 labels {share:.3f} are dropped with p = {p:g}", slip)
        places = masks.float().mean(0)
        if ((places == 0) | (places == 1)).any():
            at = int(((places == 0) | (places == 1)).nonzero()[0])
            raise Wrong(f"In 400 batches label {at} is dropped {places[at] * 400:.0f} times, p = {p:g}", PLACES)


def draws_from_the_generator(fn: Callable) -> None:
    labels, g = torch.full((200,), 3), seeded(5)
    first, second = fn(labels, 10, 0.5, g), fn(labels, 10, 0.5, g)
    if torch.equal(first, second):
        raise Wrong("Two calls in a row with one generator drop the same of 200 labels", FIXED)
    if not torch.equal(fn(labels, 10, 0.5, seeded(5)), first):
        raise Wrong("Two generators with the same seed drop different labels", OWN_CHANCE)


EXERCISES = (
    Exercise("10.cfg", (
        "Bring both numberings to one, then use one formula. Which number of the paper is our 1?",
        "w = 0 is our scale 1, and w = 1 is our scale 2. So `scale = number + 1` where the convention is \"w\".",
        "return uncond + scale * (cond - uncond)",
    ), (numbers, is_linear)),
    Exercise("10.dropout", (
        "One coin for each label: a tensor of random numbers as long as the labels, compared with p.",
        "`torch.rand(len(labels), generator=generator) < p` is true where a label is to be dropped.",
        "`torch.where(dropped, null, labels)` makes new labels and leaves the old ones as they were.",
    ), (only_null_is_new, drops_a_share, draws_from_the_generator)),
)  # fmt: skip

