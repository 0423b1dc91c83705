"""Lesson 09, on the way: Euler's steps down a flow, and the wrapper of EDM."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from . import Exercise, Slips, Wrong, expect, hint_for, seeded

# 09.one_step

DIRECTION = (
    "The velocity points from data to noise, and we go from noise to data: t falls, so each step is x - velocity / "
    "steps, with a minus."
)
FROM_NOISE = "We begin with noise, and noise is t = 1. The times to ask at are 1, 1 - 1/n, ..., 1/n, falling."
STEP_END = "Euler asks where the step BEGINS, with x and t of the same moment. This asks at the t where it ends."
FENCE = (
    "A step too few or too many: `torch.linspace(1, 0, n)` are n points, and between n points are only n - 1 steps. n "
    "steps have n + 1 points, and the velocity is asked at all but the last."
)
ONE_DIRECTION = (
    "The velocity was asked once and used for the whole way. On curved paths it changes: ask again at each x and t."
)
JUMP = "Each step has the length 1/n. This takes steps of the length t: a jump to the end of the tangent, each time."
AVERAGED = "Euler asks once a step. This looks ahead and averages (Heun's method): better, but not what is asked here."
STEP_SIZE = "All steps together have to lead from t = 1 to t = 0, so each is 1 / steps long."
IN_ROWS = "t is a float from 1 to 0 here, and not the number of a row out of 1,000."
COUNTED = (
    "A step too many, by rounding: 1 - 1/3 - 1/3 - 1/3 is not quite 0 in floats. Count the steps and make each t from "
    "its number: 1 - i / steps."
)
ONLY_THE_END = "Return the points at the end, (b, d), and not the way there."
WAYS = {
    "end": STEP_END, "up": FROM_NOISE, "short": FENCE, "once": ONE_DIRECTION, "jump": JUMP, "plus": DIRECTION,
    "long": FENCE, "heun": AVERAGED,
}  # fmt: skip


def walked(velocity: Callable, x: Tensor, n: int, way: str = "") -> Tensor:
    """Euler's way down, or what a mistake makes of it."""
    steps = {"short": n - 1, "long": n + 1}.get(way, n)
    first = velocity(x, 1.0)
    for i in range(steps):
        t = i / n if way == "up" else 1 - i / n
        asked = t - 1 / n if way == "end" else t
        v = first if way == "once" else velocity(x, asked)
        if way == "heun":
            v = (v + velocity(x - v / n, t - 1 / n)) / 2
        x = x + v / n if way == "plus" else x - v * t if way == "jump" else x - v / n
    return x


def one_way_for_all(fn: Callable) -> None:
    x, along = torch.tensor([[1.0, 0.5], [-2.0, 0.0]]), torch.tensor([2.0, -1.0])
    for n in (1, 4):
        got = fn(lambda x, t: along.expand_as(x), x, n)
        slips = [(x + along, DIRECTION), (x - along * (n - 1) / n, FENCE), (x - along * (n + 1) / n, FENCE)]
        slips += [(walked(lambda x, t: along.expand_as(x), x, n, "jump"), JUMP)]
        call = f"Down a flow with the velocity (2, -1) everywhere, in {n} step{'s' * (n > 1)}: euler"
        whole = not isinstance(got, Tensor) or got.ndim > 2
        expect(got, x - along, call, ONLY_THE_END if whole else hint_for(got, slips, STEP_SIZE))


def asks_where_steps_begin(fn: Callable) -> None:
    x, asked = torch.randn(3, 2, generator=seeded(0)), []

    def velocity(x: Tensor, t: float) -> Tensor:
        asked.append(float(t))
        return torch.zeros_like(x)

    for n in (4, 1, 3):
        asked.clear()
        fn(velocity, x, n)
        wanted = [1 - i / n for i in range(n)]
        if len(asked) != n or not all(math.isclose(a, b, abs_tol=1e-4) for a, b in zip(asked, wanted, strict=True)):
            hint = FENCE
            if len(asked) == n + 1 and abs(asked[-1]) < 1e-6:
                hint = COUNTED
            elif asked and max(asked) > 1.5:
                hint = IN_ROWS
            elif asked and asked[0] < 0.001:
                hint = FROM_NOISE
            elif math.isclose(asked[0], 0.75, abs_tol=1e-4):
                hint = STEP_END
            elif len(asked) == 1 and n > 1:
                hint = ONE_DIRECTION
            elif len(asked) == 2 * n:
                hint = AVERAGED
            told = ", ".join(f"{t:.3g}" for t in asked[:8])
            what = f"With steps = {n} euler asks the velocity at t = {told or 'no time at all'}"
            raise Wrong(what + f"; it should be {', '.join(f'{t:.3g}' for t in wanted)}", hint)


def needs_one_step_when_straight(fn: Callable) -> None:
    x, star = torch.randn(5, 2, generator=seeded(1)), torch.tensor([0.7, -0.3])

    def velocity(x: Tensor, t: float) -> Tensor:
        return (x - star) / t  # every path is a straight line to one point

    for n in (1, 7):
        call = f"A flow with straight paths that all lead to (0.7, -0.3), in {n} step{'s' * (n > 1)}: euler"
        expect(fn(velocity, x, n), star.expand_as(x), call, STEP_SIZE)


def follows_a_curve(fn: Callable) -> None:
    x = torch.tensor([[1.0, -2.0]])

    def velocity(x: Tensor, t: float) -> Tensor:
        return (1 + t) * x

    for n in (3, 40):
        right = walked(velocity, x, n)
        slips: Slips = [(walked(velocity, x, n, way), hint) for way, hint in WAYS.items()]
        got = fn(velocity, x, n)
        call = f"Down a flow with the velocity (1 + t) x, in {n} steps: euler"
        expect(got, right, call, hint_for(got, slips, STEP_SIZE))


# 09.edm

ROOT_IN = (
    "c_in makes the variance of x 1. The variance is s^2 + sigma^2, and dividing by c divides it by c^2: a ROOT."
)
SCALED = "The network is to see c_in * x, not x itself: its input shall have variance 1 at every level."
EXCHANGED = (
    "c_skip is s^2 / (s^2 + sigma^2): with little noise it is nearly 1, and x is passed through. This is 1 minus that."
)
ROOT_SKIP = "c_skip has no root: s^2 / (s^2 + sigma^2). (The roots are in c_in and c_out.)"
OUT = "c_out is s * sigma / root(s^2 + sigma^2): the error that the perfect denoiser of one bell curve still makes."
OUT_SQUARED = "This is c_out squared, a variance. The network's answer is multiplied by a spread: its root."
OUT_SPREAD = "The spread s is missing in c_out: s * sigma / root. That only shows where s is not 1."
SKIP_ONE = "The skip belongs to the data's own spread: s^2 above the line, not 1. Nothing says that s is 1."
TOLD = "The network is told c_noise = ln(sigma) / 4, a quarter of the natural logarithm: (b,), as sigma itself came."
LEVELS = (
    "Each point has its own sigma. A factor of shape (b,) is taken for one number per COLUMN: make it (b, 1), "
    "`sigma[:, None]`, before it meets x."
)
SKIP_LEFT_IN = "The skip takes x as it came, not c_in * x."


def coefficients(sigma: Tensor, s: float) -> tuple[Tensor, Tensor, Tensor]:
    both = (s**2 + sigma**2)[:, None]
    return s**2 / both, s * sigma[:, None] / both.sqrt(), 1 / both.sqrt()


def wraps(fn: Callable) -> None:
    # three points of two numbers, so that a factor of shape (b,) stops with an error; then two, where it is silent
    for b, s in ((3, 0.5), (2, 0.5), (3, 1.3)):
        x = torch.randn(b, 2, generator=seeded(b)) + 1
        sigma = torch.tensor([0.1, 0.9, 6.0])[:b]
        skip, out, into = coefficients(sigma, s)
        where = f"For sigma = {[round(v, 1) for v in sigma.tolist()]} and a spread of {s}, "
        try:
            got = fn(lambda z, c: torch.zeros_like(z), x, sigma, s)
        except RuntimeError as error:
            raise Wrong(where + f"edm stops: {str(error).splitlines()[0][:90]}", LEVELS) from None
        column = s**2 / (s**2 + sigma**2)
        slips = [((1 - skip) * x, EXCHANGED), (skip.sqrt() * x, ROOT_SKIP), (skip * into * x, SKIP_LEFT_IN),
                 (x / (1 + sigma[:, None] ** 2), SKIP_ONE), (into**2 * x, SKIP_ONE)]  # fmt: skip
        slips += [(column * x, LEVELS)] if b == 2 else []
        expect(got, skip * x, where + "with a network that answers 0: edm", hint_for(got, slips, EXCHANGED))
        got = fn(lambda z, c: torch.ones_like(z), x, sigma, s) - skip * x
        per_column = s * sigma / (s**2 + sigma**2).sqrt()
        slips = [(out**2, OUT_SQUARED), (out / s, OUT_SPREAD), (sigma[:, None], OUT), (out**2 / s, OUT_SPREAD)]
        slips = [(slip.expand_as(x), hint) for slip, hint in slips]
        slips += [(per_column.expand(2, 2), LEVELS)] if b == 2 else []
        what = where + "what comes of an answer of 1, beyond the skip,"
        expect(got, out.expand_as(x), what, hint_for(got, slips, OUT))
        feeds(fn, x, sigma, s, into, where)


def feeds(fn: Callable, x: Tensor, sigma: Tensor, s: float, into: Tensor, where: str) -> None:
    given = []

    def network(z: Tensor, c: Tensor) -> Tensor:
        given.append((z, c))
        return torch.zeros_like(x)

    fn(network, x, sigma, s)
    if len(given) != 1:
        raise Wrong(f"{where}edm asks the network {len(given)} times; once is enough", SCALED)
    z, c = given[0]
    expect(z, into * x, where + "the points handed to the network: edm", hint_for(z, [(into**2 * x, ROOT_IN)], SCALED))
    expect(c, sigma.log() / 4, where + "the level handed to the network: edm", TOLD)


EXERCISES = (
    Exercise("09.one_step", (
        "A loop over the steps. In each: where in time are we, which way does the velocity point, and how long is it?",
        "In step i, counted from 0, t is 1 - i / steps. The velocity points to the noise, and we leave it.",
        "for i in range(steps): x = x - velocity(x, 1 - i / steps) / steps",
    ), (one_way_for_all, asks_where_steps_begin, needs_one_step_when_straight, follows_a_curve)),
    Exercise("09.edm", (
        "Four factors from sigma and s, one call of the network, one sum.",
        "Make sigma (b, 1) first. With both = s^2 + sigma^2: c_in = 1 / root(both), c_skip = s^2 / both, c_out = s * "
        "sigma / root(both).",
        "c_skip * x + c_out * network(c_in * x, sigma.log() / 4), where the last sigma is (b,) as it came.",
    ), (wraps,)),
)  # fmt: skip
