"""Lesson 10, steering: guidance at some levels only, and by the slope of a classifier."""

from collections.abc import Callable

import torch
from torch import Tensor

from ... import exact
from ...levels import Denoiser, Level
from . import Exercise, Wrong, expect, hint_for, seeded, told

# A plane with two classes: what is asked for, and everything.
MODES = torch.tensor([[-1.0, 0.8], [-0.2, -0.5], [0.9, 0.3], [0.7, -1.1]], dtype=torch.float64)
SPREAD, MINE = 0.3, slice(0, 2)
COND, UNCOND = exact.denoiser(MODES[MINE], SPREAD), exact.denoiser(MODES, SPREAD)
LEVELS = [Level(t, (1 - sigma**2) ** 0.5, sigma) for t, sigma in ((50.0, 0.1), (400.0, 0.6), (900.0, 0.96))]
INNER = "The inner function returns nothing of use: it needs a `return` of its own, and that returns a picture x0."
ASK = "What you return is asked later, again and again: a function of (x, level). Define it inside and return it."


def points(seed: int = 0, n: int = 5) -> Tensor:
    return 1.5 * torch.randn(n, 2, dtype=torch.float64, generator=seeded(seed))


class Counted:
    """A denoiser that knows how often it was asked."""

    def __init__(self, denoise: Denoiser):
        self.denoise, self.calls = denoise, 0

    def __call__(self, x: Tensor, level: Level) -> Tensor:
        self.calls += 1
        return self.denoise(x, level)


def as_denoiser(got: object, call: str) -> Denoiser:
    if not callable(got):
        raise Wrong(f"{call} gives {told(got)}; a function denoise(x, level) is wanted", ASK)
    return got


def asked(denoise: Denoiser, x: Tensor, level: Level, call: str) -> Tensor:
    got = denoise(x, level)
    if not isinstance(got, Tensor):
        raise Wrong(f"What {call} returns answers with {told(got)} when it is asked", INNER)
    return got


# 10.interval

NOWHERE = "Never guided: the answer is cond's at every level, inside the interval as well."
OUTSIDE = (
    "Outside the interval there is no guidance, but there still is a condition: the answer is cond's, scale 1. With "
    "uncond, scale 0, nobody says there what to draw."
)
INSIDE_OUT = "Turned inside out: guided where it should not be, and plain where it should be guided."
ONE_END = "The interval has two ends, and one is not looked at: both `low <= sigma` and `sigma <= high` must hold."
BY_T = "It is `level.sigma` that has to lie in the interval, not `level.t`: t runs to 1,000 and sigma to 1."
WASTE = (
    "The answer is right, but uncond is asked where its answer is thrown away. Half the time of a step is won by not "
    "asking it: decide first, then call."
)
EVERYWHERE = "Guided at every level: nothing in your function looks at `level.sigma`."
FORMULA = "Inside the interval it is uncond + scale * (cond - uncond), as always."


def only_in_the_middle(fn: Callable) -> None:
    x = points()
    for low, high in ((0.3, 0.8), (0.0, 0.3), (0.8, 1.0)):
        call = f"only_between(cond, uncond, 4, {low}, {high})"
        for level in LEVELS:
            cond, uncond = Counted(COND), Counted(UNCOND)
            denoise = as_denoiser(fn(cond, uncond, 4.0, low, high), call)
            inside = low <= level.sigma <= high
            mine, plain = COND(x, level), UNCOND(x, level)
            guided = plain + 4 * (mine - plain)
            cond.calls = uncond.calls = 0
            got = asked(denoise, x, level, call)
            said = f"at sigma = {level.sigma}, which is {'inside' if inside else 'outside'}, {call}"
            if inside:
                hint = hint_for(got, [(mine, inside_hint(fn, call)), (plain, INSIDE_OUT)], FORMULA)
                expect(got, guided, said, hint)
            else:
                hint = hint_for(got, [(plain, OUTSIDE), (guided, outside_hint(fn, call, x))], OUTSIDE)
                expect(got, mine, said, hint)
                if uncond.calls:
                    raise Wrong(f"{said} asks uncond {uncond.calls} times", WASTE)


def inside_hint(fn: Callable, call: str) -> str:
    """Not guided inside: is it t that is compared?"""
    denoise = as_denoiser(fn(COND, UNCOND, 4.0, 0.3, 0.8), call)
    x, level = points(), LEVELS[1]._replace(t=0.5)
    return NOWHERE if torch.allclose(denoise(x, level), COND(x, level)) else BY_T


def outside_hint(fn: Callable, call: str, x: Tensor) -> str:
    """Guided outside: everywhere, on one side only, or turned round."""
    denoise = as_denoiser(fn(COND, UNCOND, 4.0, 0.3, 0.8), call)
    plain = [torch.allclose(denoise(x, level), COND(x, level)) for level in LEVELS]
    return INSIDE_OUT if plain[1] else (ONE_END if any(plain) else EVERYWHERE)


# 10.classifier

AWAY = "This leads away from the class. The slope of log p(c | x) points to where the class is likelier: add it to x0."
SIGMA = (
    "The factor is too small a power of sigma: sigma times the slope is what one takes from EPS. For x0 it is divided "
    "by alpha and multiplied by sigma once more: sigma^2 / alpha."
)
ALPHA = "sigma^2 times the slope moves alpha * x0, as in Tweedie's formula of lesson 05. For x0 divide by alpha."
SHARE = (
    "One number is needed to take a slope of, and a mean divides each push by the number of pictures. Take the SUM "
    "over the batch: picture i occurs in one term only, so its own slope comes out."
)
BARE = "The slope alone has no right size: Tweedie's formula multiplies it by sigma^2 / alpha before x0 moves."
OF_P = "`log_prob` is a logarithm already. Its slope is wanted, not that of p itself or of a second logarithm."
GRAD = (
    "Samplers run without gradients, under torch.no_grad. Inside your denoiser switch them on for the slope: `with "
    "torch.enable_grad():`, and take a copy of x with `.detach().requires_grad_()`."
)
LEAK = "What you return still hangs on its gradients, and a sampler of 50 steps would keep them all. Detach the slope."
COPY = "The x of the sampler was switched to gradients as well. Make a copy of your own: `x.detach().requires_grad_()`."
FACTOR = "x0 moves by scale * sigma^2 / alpha * slope. Check each of the four at scale 1, where cond has to come out."


def log_prob(x: Tensor, level: Level) -> Tensor:
    """log p(c | x) of the plane's first two modes, by Bayes: exact, without any classifier."""
    share = torch.tensor(0.5, dtype=x.dtype).log()
    return exact.log_density(x, level, MODES[MINE], SPREAD) + share - exact.log_density(x, level, MODES, SPREAD)


def slopes(x: Tensor, level: Level) -> tuple[Tensor, Tensor]:
    """Of log p and of p itself."""
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        log = log_prob(x, level)
        return torch.autograd.grad(log.sum(), x, retain_graph=True)[0], torch.autograd.grad(log.exp().sum(), x)[0]


@torch.no_grad()
def steers_as_bayes_says(fn: Callable) -> None:
    for level in LEVELS[1:]:
        for n in (1, 5):
            x = points(seed=n, n=n)
            plain, (slope, of_p) = UNCOND(x, level), slopes(x, level)
            a, s = level.alpha, level.sigma
            for scale in (1.0, 3.0):
                call = f"sigma = {s}, {n} points: steer(uncond, log_prob, {scale:g})"
                want = plain + scale * (COND(x, level) - plain)
                denoise = as_denoiser(fn(UNCOND, log_prob, scale), call)
                try:
                    got = asked(denoise, x, level, call)
                except RuntimeError as error:
                    said = {"require grad": GRAD, "scalar outputs": SHARE}
                    hint = next((hint for part, hint in said.items() if part in str(error)), None)
                    if hint is None:
                        raise
                    raise Wrong(f"{call} stops with: {error}".splitlines()[0], hint) from None
                move = scale * slope
                slips = [
                    (plain - s**2 / a * move, AWAY), (plain - s * move, AWAY), (plain + s / a * move, SIGMA),
                    (plain + s * move, SIGMA), (plain + s**2 * move, ALPHA), (plain + move, BARE),
                    (plain + s**2 / a * scale * of_p, OF_P), (plain + s**2 / a * move / n, SHARE if n > 1 else FACTOR),
                ]  # fmt: skip
                expect(got, want, call, hint_for(got, slips, FACTOR))
                if got.requires_grad or x.requires_grad:
                    what = "gives what requires gradients" if got.requires_grad else "leaves x requiring gradients"
                    raise Wrong(f"{call} {what}", LEAK if got.requires_grad else COPY)


EXERCISES = (
    Exercise("10.interval", (
        "Write a function inside a function: the inner one is given x and a level, looks at level.sigma, and decides.",
        "Outside: `return cond(x, level)`, before uncond is asked. Inside: the formula of guidance.",
        "if not low <= level.sigma <= high: return cond(x, level)",
    ), (only_in_the_middle,)),
    Exercise("10.classifier", (
        "Tweedie: a slope of log p(x) becomes x0 by sigma^2 / alpha. A slope that is added to it goes the same way.",
        "The slope: `x = x.detach().requires_grad_()`, then `torch.autograd.grad(log_prob(x, level).sum(), x)[0]`, all "
        "under `with torch.enable_grad():`.",
        "return uncond(x, level) + scale * level.sigma**2 / level.alpha * slope",
    ), (steers_as_bayes_says,)),
)  # fmt: skip
