"""Lesson 16, real Stable Diffusion: what to do where the memory is too small."""

import random
from collections.abc import Callable
from itertools import combinations

from . import Exercise, Wrong, told

SAVINGS = {"strips": 1, "float16": 2, "one at a time": 4}  # and the seconds that each costs
SETS = sorted((set(s) for n in range(4) for s in combinations(SAVINGS, n)), key=lambda s: sum(SAVINGS[x] for x in s))
# weights of text, U-Net and autoencoder; work of text, U-Net, autoencoder, and it in strips; all in GB of float32;
# the budget; and what a wrong answer has missed. Whoever makes one of these mistakes alone fails at its own case.
CASES = (
    ((1, 3, 1), (0.1, 1, 2, 0.5), 20, "With room for everything nothing has to be saved: the empty set, `set()`."),
    ((1, 3, 1), (0.1, 1, 3, 0.8), 7,
     "Weights are not all. While a part works it also holds its work, and the autoencoder's can be the largest."),
    ((1, 3, 1), (1, 2, 2, 0.5), 8,
     "The parts work one after another, never at once: only the largest work counts, not the sum of all."),
    ((1, 3, 1), (0.1, 1, 2.3, 0.5), 7, "A GB has 10**9 bytes here. 2**30 bytes are a GiB, 7% more."),
    ((1, 3, 1), (0.5, 3, 8, 2), 5, "In float16 every number has two bytes, those of the work as well as the weights."),
    ((1, 4, 1), (0.1, 1, 6, 3), 2.7,
     "One at a time means that a part's own weights and its own work are there together. Take the largest of these "
     "sums, not the largest weights plus the largest work: they may belong to different parts."),
    ((1, 3, 1), (0.1, 2, 1, 0.5), 6,
     "A cheap saving that does not help is not worth its second. Do not add one saving to another until it fits; try "
     "each of the eight sets, the cheapest first."),
    ((2, 2, 2), (1, 1, 1.5, 0.5), 3.6,
     "Cheapest means the fewest seconds, not the fewest savings: 1 + 2 is less than 4."),
    ((1, 4, 1), (0.1, 1, 6, 3), 2, "Where not even all three savings together are enough, the answer is None."),
)  # fmt: skip


def need(weights: dict[str, int], work: dict[str, int], savings: set[str]) -> float:
    """The most bytes that are held at any time."""
    busy = {part: work["vae in strips" if part == "vae" and "strips" in savings else part] for part in weights}
    if "one at a time" in savings:
        most = max(weights[part] + busy[part] for part in weights)
    else:
        most = sum(weights.values()) + max(busy.values())
    return most * (2 if "float16" in savings else 4)


def plans_the_memory(fn: Callable) -> None:
    draw = random.Random(0)
    some = [([draw.uniform(0.1, 4) for _ in range(3)], [draw.uniform(0.1, 6) for _ in range(3)]) for _ in range(200)]
    by_hand = "Go through need and cost with these numbers by hand."
    drawn = [(held, (*busy, busy[2] / 3), round(draw.uniform(1, 14), 1), by_hand) for held, busy in some]
    for held, busy, budget, hint in (*CASES, *drawn):  # in GB of float32, which has four bytes a number
        weights = {part: round(gb * 1e9 / 4) for part, gb in zip(("text", "unet", "vae"), held, strict=True)}
        work = {part: round(gb * 1e9 / 4) for part, gb in zip((*weights, "vae in strips"), busy, strict=True)}
        wanted = next((s for s in SETS if need(weights, work, s) <= budget * 1e9), None)
        got = fn(dict(weights), dict(work), budget)
        what = f"plan({weights}, {work}, {budget:g}) gives {told(got)}"
        if got is not None:
            if isinstance(got, str) or not hasattr(got, "__iter__") or not set(got) <= set(SAVINGS):
                raise Wrong(what, "The answer is a set of savings, spelt as in the task: {'strips', 'float16'}, say.")
            got = set(got)
        if got != wanted:
            needs = "" if got is None else f", which needs {need(weights, work, got) / 1e9:.2f} GB"
            raise Wrong(f"{what}{needs}; the cheapest that fits is {wanted}", hint)


EXERCISES = (
    Exercise("16.memory_plan", (
        "First write a helper: the bytes that a given set of savings needs. Then ask it about all eight sets.",
        "Everything on the device: the sum of the weights plus the LARGEST work. One at a time: the largest of each "
        "part's weights plus its own work. Two bytes a number in float16, four without.",
        "The eight sets, cheapest first: by binary counting, since the costs are 1, 2 and 4. The first whose need is "
        "at most budget * 10**9 is the answer.",
    ), (plans_the_memory,)),
)  # fmt: skip
