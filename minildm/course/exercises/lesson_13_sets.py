"""Lesson 13, judging: precision and recall by neighbours, and an interval by drawing pictures anew."""

from collections.abc import Callable

import torch
from torch import Tensor

from . import Exercise, Wrong, seeded, told
from .lesson_13 import close, number

# 13.precision

TWO = "Return two numbers: `return precision, recall`."
EXCHANGED = (
    "The two have changed places. Precision asks of each MADE picture whether it is near real ones; recall asks of "
    "each REAL picture whether anything near it is made."
)
ITSELF = (
    "The nearest neighbour of a picture within its own set is itself, at distance 0. So the k-th nearest OTHER is the "
    "(k + 1)-th smallest of its distances."
)
WRONG_BALLS = (
    "Whose balls? For precision the balls lie around REAL pictures, with the radius from real to real. You gave each "
    "picture that is asked a ball of its own."
)
EVERY_BALL = "In the ball of ANY real picture, not of all of them: `.any(...)`."
ONE_RADIUS = "Every picture has a radius of its own: small where pictures are dense, large where they are sparse."
NEAREST = "The radius reaches to the k-th neighbour; yours stops at the nearest, whatever k is."
SQUARED = "Compare distances with distances: one of yours is squared. `torch.cdist` gives plain ones."
COUNTED = "A share is wanted, in 0..1: `.double().mean()`. Yours counts pictures."
BALLS = "A share of PICTURES is wanted: those that lie in at least one ball. Yours averages over all pairs."
PRECISION = "apart = torch.cdist(real, made), (n, m): compare row i with the radius of real i, then ask `.any(0)`."


def pair(got: object, call: str, hint: str) -> tuple[Tensor, Tensor]:
    """An answer as two numbers. Raises `Wrong` where it is not."""
    got = tuple(got) if isinstance(got, Tensor) and got.shape == (2,) else got
    if not isinstance(got, tuple | list) or len(got) != 2:
        raise Wrong(f"{call} gives {told(got)}; two numbers are wanted", hint)
    return number(got[0], call), number(got[1], call)


def shares(real: Tensor, made: Tensor, k: int, change: str = "") -> tuple[Tensor, Tensor]:
    """Precision and recall, or what a change to them leads to."""
    power = 2 if change == SQUARED else 1

    def radius(x: Tensor) -> Tensor:
        nth = {ITSELF: max(k, 1), NEAREST: 2}.get(change, k + 1)
        reach = torch.cdist(x, x).kthvalue(nth, dim=1).values
        return reach.mean().expand(len(x)) if change == ONE_RADIUS else reach

    apart = torch.cdist(real, made) ** power
    in_real, in_made = apart <= radius(real)[:, None], apart <= radius(made)
    if change == WRONG_BALLS:
        in_real, in_made = in_made, in_real
    if change == EVERY_BALL:
        return in_real.all(0).double().mean(), in_made.all(1).double().mean()
    if change == BALLS:
        return in_real.double().mean(), in_made.double().mean()
    precision, recall = in_real.any(0).double(), in_made.any(1).double()
    if change == COUNTED:
        return precision.sum(), recall.sum()
    both = precision.mean(), recall.mean()
    return both[::-1] if change == EXCHANGED else both


def finds_both(fn: Callable) -> None:
    g = seeded(16)
    real = torch.randn(60, 2, generator=g, dtype=torch.float64)
    narrow = 0.5 * torch.randn(45, 2, generator=g, dtype=torch.float64) + 0.4
    cases = (
        ("a narrow crowd beside a wide one, k = 3", real, narrow, 3),
        ("the two the other way round, k = 5", narrow, real, 5),
        ("pictures taken out of the real ones, k = 2", real, real[:20].clone(), 2),
        ("a crowd far away, k = 4", real, narrow + 50, 4),
    )
    for what, a, b, k in cases:
        call = f"precision_recall of {what}"
        got, want = pair(fn(a, b, k), call, TWO), shares(a, b, k)
        if all(map(close, got, want)):
            continue
        for change in (EXCHANGED, ITSELF, WRONG_BALLS, EVERY_BALL, ONE_RADIUS, NEAREST, SQUARED, COUNTED, BALLS):
            slip = shares(a, b, k, change)
            if not all(map(close, slip, want)) and all(map(close, got, slip)):
                break
        else:
            change = PRECISION
        said = [f"({x.item():.3f}, {y.item():.3f})" for x, y in (got, want)]
        raise Wrong(f"{call} gives {said[0]}; it should be {said[1]}", change)


# 13.bootstrap

REPLACED = (
    "Each of your draws holds every picture once, so the statistic hardly moves, and the interval has no width. Draw "
    "WITH replacement: `torch.randint(n, (n,), generator=generator)`."
)
PIXELS = (
    "You draw numbers anew, and not pictures: a drawn row has to be one of the rows of `values`, whole. What is drawn "
    "at random in the world is a picture; its features come together."
)
AS_MANY = "Each draw holds as many pictures as there are, n. Fewer make the interval too wide, more too narrow."
ASKED = "Ask `statistic` of each draw, `times` of them, and take what you need from its answers."
SAME = "All draws are the same one: begin the generator once, outside, and let it go on."
NINETY = "From 0.05 to 0.95 lie 90% of the draws. For 95% leave 2.5% out on either side: 0.025 and 0.975."
ENDS = "The smallest and the largest of all draws move on as you draw more. Wanted are quantiles."
SPREAD = (
    "You go some standard deviations to either side. That fits a bell curve; these draws are lopsided, and quantiles "
    "follow that."
)
OF_THE_MEAN = "You divide by the root of `times` or n once more. The spread of the draws IS the uncertainty already."
TURNED = "Low comes first: `return low, high`."
OWN_DICE = "Use the generator that you are given: with the same seed the same interval has to come out."
QUANTILES = "`torch.quantile(drawn, 0.025)` and 0.975, of the answers that `statistic` gave to your draws."


def watches_the_draws(fn: Callable) -> None:
    values = torch.randn(30, 2, generator=seeded(17), dtype=torch.float64)
    times, seen = 400, []

    def statistic(x: Tensor) -> float:
        seen.append(x.clone() if isinstance(x, Tensor) else torch.as_tensor(x))
        return (3 * x[:, 0] * x[:, 1]).mean().exp().item()  # lopsided, and it needs whole rows

    call = "interval of 30 pictures, 400 times"
    low, high = pair(fn(statistic, values, times, seeded(1)), call, "Return two numbers: `return low, high`.")
    draws = [x for x in seen if not torch.equal(x, values)]  # the value itself may be asked for too
    if draws and all(len(x) == 1 for x in draws):
        raise Wrong(f"{call}: the statistic is asked of one picture at a time", ASKED)
    if any(x.shape != values.shape for x in draws):
        raise Wrong(f"{call}: a draw has the shape {tuple(next(x.shape for x in draws if x.shape != values.shape))}; "
                    f"it should be {tuple(values.shape)}", AS_MANY)  # fmt: skip
    known = {tuple(row) for row in values.tolist()}
    if not all(tuple(row) in known for x in draws for row in x.tolist()):
        raise Wrong(f"{call}: a draw holds a row that no picture has", PIXELS)
    if draws and all(len({tuple(row) for row in x.tolist()}) == len(values) for x in draws):
        raise Wrong(f"{call}: no draw holds any picture twice", REPLACED)
    if len(draws) != times:
        raise Wrong(f"{call}: the statistic is asked of {len(draws)} draws; it should be {times}", ASKED)
    if all(torch.equal(x, draws[0]) for x in draws):
        raise Wrong(f"{call}: every draw is the same", SAME)
    drawn = torch.tensor([statistic(x) for x in draws], dtype=torch.float64).sort().values
    if drawn[6] <= low <= drawn[13] and drawn[-14] <= high <= drawn[-7]:  # whatever way quantiles are interpolated
        return
    mean, std = drawn.mean(), drawn.std()
    slips = (
        (drawn.quantile(torch.tensor([0.05, 0.95], dtype=torch.float64)), NINETY), ((drawn[0], drawn[-1]), ENDS),
        (drawn.quantile(torch.tensor([0.975, 0.025], dtype=torch.float64)), TURNED),
        *(((mean - z * std, mean + z * std), SPREAD) for z in (1, 1.96, 1.959964, 2)),
        *(((mean - 1.96 * std / n**0.5, mean + 1.96 * std / n**0.5), OF_THE_MEAN) for n in (times, len(values))),
    )  # fmt: skip
    hint = next((hint for (a, b), hint in slips if close(low, a, 0.02) and close(high, b, 0.02)), QUANTILES)
    raise Wrong(f"{call} gives {low.item():.3f} to {high.item():.3f}; the 95% in the middle of the draws lie from "
                f"{drawn[10].item():.3f} to {drawn[-11].item():.3f}", hint)  # fmt: skip


def draws_from_the_generator(fn: Callable) -> None:
    values = torch.randn(25, 1, generator=seeded(18), dtype=torch.float64)

    def ask(generator: torch.Generator) -> list[Tensor]:
        answer = fn(lambda x: x.mean().item(), values, 50, generator)
        return [*pair(answer, "interval", "Return two numbers: `return low, high`.")]

    if ask(seeded(3)) != ask(seeded(3)) or ask(seeded(3)) == ask(seeded(4)):
        raise Wrong("interval does not depend on its generator alone", OWN_DICE)


EXERCISES = (
    Exercise("13.precision", (
        "First a radius for each picture, from the table of distances within its own set, `torch.cdist(x, x)`. What is "
        "the smallest number in each row of it?",
        "The radius: `torch.cdist(x, x).kthvalue(k + 1, dim=1).values`, as the smallest is that to itself. Then "
        "apart = torch.cdist(real, made) is (n, m). Precision compares it with the radii of the real ones, as a "
        "column: `radius(real)[:, None]`. Recall compares it with those of the made ones, as a row.",
        "(apart <= radius(real)[:, None]).any(0).double().mean() is the precision.",
    ), (finds_both,)),
    Exercise("13.bootstrap", (
        "A loop over range(times): draw n picture numbers, look the pictures up, ask the statistic, keep it.",
        "`rows = torch.randint(len(values), (len(values),), generator=generator)`, and `statistic(values[rows])`.",
        "At the end, `torch.tensor(drawn).quantile(...)` at 0.025 and at 0.975.",
    ), (watches_the_draws, draws_from_the_generator)),
)  # fmt: skip
