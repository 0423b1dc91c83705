"""Lesson 13, judging: does a model copy, and a probe that is asked about what it was not fitted to."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from . import Exercise, Wrong, seeded
from .lesson_13 import close, compare, number

# 13.copying

OTHER_WAY = "Turned round: count where the MADE picture lies nearer to the training set than the held-out one does."
TIES = (
    "Two equal distances count a half. A model that copies has distances of 0, and so may the held-out set, if "
    "somebody let a training picture slip into it."
)
LESS_EQUAL = "Ties count whole here. They are nobody's win: a half."
IN_PAIRS = (
    "You compare the first made picture with the first held-out one, the second with the second, and so on. They do "
    "not belong together: compare every made one with every held-out one."
)
RATIO = "A ratio of mean distances depends on the few pictures that are far from everything. Count who is nearer."
AXIS = (
    "You look for the nearest made picture of each TRAINING picture. Asked is the other way: for each made one, the "
    "nearest of all training pictures."
)
MEAN_OF_ALL = "The distance to the training set is that to its NEAREST picture, not the mean over all of them."
MIDDLE = "Compared with the mean held-out distance alone, their spread is lost: compare with every held-out picture."
NO_BASELINE = (
    "Near compared with what? A narrow world makes everything near. The measure is the held-out pictures' own distance "
    "to the training set."
)
COPYING = "near = torch.cdist(made, train).amin(1), far = the same for held_out; then compare all with all."


def nearest(x: Tensor, train: Tensor) -> Tensor:
    return torch.cdist(x, train).amin(1)


def copied(near: Tensor, far: Tensor) -> Tensor:
    wins, ties = near[:, None] < far, near[:, None] == far
    return (wins.double() + ties.double() / 2).mean()


def copying_slips(train: Tensor, held_out: Tensor, made: Tensor) -> list[tuple[Tensor, str]]:
    near, far = nearest(made, train), nearest(held_out, train)
    few = min(len(near), len(far))
    a, b = near[:few], far[:few]
    own = torch.cdist(train, train)
    own = own.kthvalue(2, dim=1).values
    return [
        (1 - copied(near, far), OTHER_WAY), ((near[:, None] < far).double().mean(), TIES),
        ((near[:, None] <= far).double().mean(), LESS_EQUAL),
        ((a < b).double().mean(), IN_PAIRS), (((a < b).double() + (a == b) / 2).mean(), IN_PAIRS),
        (near.mean() / far.mean(), RATIO), (far.mean() / near.mean(), RATIO),
        (copied(torch.cdist(made, train).amin(0), torch.cdist(held_out, train).amin(0)), AXIS),
        (copied(torch.cdist(made, train).mean(1), torch.cdist(held_out, train).mean(1)), MEAN_OF_ALL),
        ((near < far.mean()).double().mean(), MIDDLE), ((near < far.median()).double().mean(), MIDDLE),
        (copied(near, own), NO_BASELINE), (copied(near, nearest(train, train)), NO_BASELINE),
    ]  # fmt: skip


def counts_who_is_nearer(fn: Callable) -> None:
    g = seeded(19)
    # no more than 25: beyond that torch.cdist multiplies matrices, and the distance of two equal rows is not quite 0
    train, held_out, made = (torch.randn(n, 3, generator=g, dtype=torch.float64) for n in (25, 24, 24))
    made = made * torch.linspace(0.2, 2.0, 24, dtype=torch.float64)[:, None]
    blur = 0.01 * torch.randn(24, 3, generator=g, dtype=torch.float64)
    slipped = torch.cat([held_out[:16], train[:8]])
    cases = (
        ("a crowd that is too narrow here and too wide there", held_out, made),
        ("pictures that are nearly the training pictures", held_out, train[:24] + blur),
        ("exact copies, where 8 training pictures slipped into the held-out set", slipped,
         torch.cat([train[:20], made[:4]])),
    )  # fmt: skip
    for what, held, x in cases:
        want = copied(nearest(x, train), nearest(held, train)).item()
        compare(fn(train, held, x), want, copying_slips(train, held, x), f"copying of {what}", COPYING)


# 13.probe

ON_TRAINING = (
    "That is the share of the pictures it was FITTED to. With enough features any labels can be fitted, even dice. "
    "Score the rows from `train` on."
)
LEAKED = "The rows that are scored were fitted too: the fit may see `features[:train]` and `labels[:train]`, no more."
ALL_OF_IT = "Fitted to all and scored on all: nothing is held out at all."
NO_CONSTANT = "A constant is missing: without a column of ones every answer is 0 where the features are 0."
NUMBERS = (
    "Labels are names: class 3 is not three times class 1. Fit one column for each class (`F.one_hot`), and take the "
    "largest answer."
)
ERRORS = "This is the share of mistakes. Asked is the share that is right."
COUNT = "This is a count. Divide by the number of rows that were scored."
PROBE = "Ones beside the features, `torch.linalg.lstsq` on the first `train` rows, then argmax on the others."


def probed(x: Tensor, y: Tensor, fit: slice, score: slice, constant: bool = True, names: bool = True) -> Tensor:
    x = torch.cat([x, torch.ones(len(x), 1, dtype=x.dtype)], 1) if constant else x
    target = F.one_hot(y).to(x) if names else y.to(x)[:, None]
    answer = x[score] @ torch.linalg.lstsq(x[fit], target[fit]).solution
    said = answer.argmax(1) if names else answer[:, 0].round().long()
    return (said == y[score]).double().mean()


def scores_what_it_has_not_seen(fn: Callable) -> None:
    g = seeded(20)
    y = torch.randint(5, (300,), generator=g)
    middles = 1.2 * torch.randn(5, 30, generator=g, dtype=torch.float64)
    told_apart = middles[y] / 3 + torch.randn(300, 30, generator=g, dtype=torch.float64) + 3
    dice = torch.randn(300, 60, generator=g, dtype=torch.float64)
    for what, x, train in (("features that tell a little", told_apart, 100), ("dice for features", dice, 90)):
        call = f"probe of {what}, {train} rows to fit, {300 - train} to score"
        got, first, rest = fn(x, y, train), slice(train), slice(train, None)
        want = probed(x, y, first, rest)
        value = number(got, call)
        if (value - want).abs() <= 4.5 / (300 - train):  # a small penalty on the weights may turn a few
            continue
        known = (
            (probed(x, y, first, first), ON_TRAINING), (probed(x, y, slice(None), rest), LEAKED),
            (probed(x, y, slice(None), slice(None)), ALL_OF_IT),
            (probed(x, y, first, rest, names=False), NUMBERS), (1 - want, ERRORS), (want * (300 - train), COUNT),
            (probed(x, y, first, rest, constant=False), NO_CONSTANT),
        )  # fmt: skip
        hint = next((hint for slip, hint in known if close(value, slip, 0.004)), PROBE)
        raise Wrong(f"{call} gives {value.item():.3f}; it should be about {want.item():.3f}", hint)


EXERCISES = (
    Exercise("13.copying", (
        "For each made picture the distance to its nearest training picture, `torch.cdist(made, train).amin(1)`. The "
        "same for each held-out one.",
        "Compare every made one with every held-out one: `near[:, None] < far` is a table (m, n) of True and False.",
        "(near[:, None] < far).double() and half of (near[:, None] == far), added, and the mean of it.",
    ), (counts_who_is_nearer,)),
    Exercise("13.probe", (
        "A column of ones beside the features; a column for each class, 1 where it is this class.",
        "`torch.linalg.lstsq(a, b).solution` gives the weights with the least squared error: a and b are the first "
        "`train` rows only.",
        "said = (x[train:] @ weights).argmax(1), and the mean of said == labels[train:].",
    ), (scores_what_it_has_not_seen,)),
)  # fmt: skip
