"""Lesson 04, noise: the leap to step t, and the cosine table."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from ... import levels
from . import Exercise, Slips, Wrong, expect, hint_for, seeded

# 04.q_sample

BETAS = torch.tensor([0.1, 0.4, 0.2, 0.6, 0.3])
SEEN = "With the betas 0.1, 0.4, 0.2, 0.6 and 0.3, "
GIVEN = "Nothing to draw here: the noise is `eps`, which is given. Whoever draws anew cannot compare anything."
ROOTS = (
    "Variances add up, but what you multiply the noise by is a standard deviation: the ROOT of 1 - alpha_bar. Squared "
    "and added, the two factors must give 1."
)
NOISE = "The factor of the noise is the root of 1 - alpha_bar, with the alpha_bar of the picture's factor."
SIGNAL_ROOT = "Each step multiplies the picture by the root of 1 - beta, so in the end it is the root of alpha_bar."
ONE_STEP = (
    "This is step t alone, x_t from x_(t-1). The leap has to hold what ALL the steps before it did, too: a product "
    "over them."
)
LAST_STEP = (
    "A step is missing or there is one too many: x at t = 0 has taken one step already, so the product runs from "
    "beta 0 to beta t, both included."
)
KEPT = "alpha_bar is the product of what each step KEEPS, 1 - beta; this is a product or a sum of the betas themselves."
AXIS = (
    "Each picture of the batch has a level of its own. PyTorch lines shapes up from the right, so a factor of shape "
    "(b,) is taken for one number per COLUMN. Give it the shape (b, 1, 1, 1)."
)
FIRST_ONLY = "All pictures got the level of the first one. Take `alpha_bar[t]` for all t at once."


def leaps(fn: Callable) -> None:
    t, one, zero = torch.tensor([2]), torch.ones(1, 1, 2, 3), torch.zeros(1, 1, 2, 3)
    bar = (1 - BETAS).cumprod(0)
    expect(fn(zero, t, BETAS, zero), zero, "q_sample of x0 = 0 and eps = 0", GIVEN)
    signal = {
        bar[2]: SIGNAL_ROOT, (1 - BETAS[2]).sqrt(): ONE_STEP, bar[1].sqrt(): LAST_STEP, bar[3].sqrt(): LAST_STEP,
        BETAS.cumprod(0)[2].sqrt(): KEPT, (1 - BETAS.cumsum(0))[2].sqrt(): KEPT,
    }  # fmt: skip
    got = fn(one, t, BETAS, zero)
    slips = [(factor * one, hint) for factor, hint in signal.items()]
    expect(got, bar[2].sqrt() * one, SEEN + "x0 = 1, eps = 0 and t = 2: q_sample", hint_for(got, slips, SIGNAL_ROOT))
    noise = {
        1 - bar[2]: ROOTS, BETAS[2].sqrt(): ONE_STEP, BETAS[2]: ONE_STEP, (1 - bar[1]).sqrt(): LAST_STEP,
        BETAS.cumprod(0)[2].sqrt(): KEPT, BETAS.cumsum(0)[2].sqrt(): KEPT,
    }  # fmt: skip
    got = fn(zero, t, BETAS, one)
    slips = [(factor * one, hint) for factor, hint in noise.items()]
    expect(got, (1 - bar[2]).sqrt() * one, SEEN + "x0 = 0, eps = 1 and t = 2: q_sample", hint_for(got, slips, NOISE))


def has_the_mean_and_variance(fn: Callable) -> None:
    x0, eps = torch.full((1, 1, 200, 200), 0.7), torch.randn(1, 1, 200, 200, generator=seeded(0))
    for i, bar in enumerate((1 - BETAS).cumprod(0).tolist()):
        x = fn(x0, torch.tensor([i]), BETAS, eps)
        found, wanted = (x.mean().item(), x.var().item()), (0.7 * math.sqrt(bar), 1 - bar)
        if max(abs(a - b) for a, b in zip(found, wanted, strict=True)) > 0.03:
            said = "40,000 pixels of 0.7 at t = {}: mean {:.3f} and variance {:.3f}; they should be {:.3f} and {:.3f}"
            raise Wrong(said.format(i, *found, *wanted), ROOTS)


def equals_the_chain(fn: Callable) -> None:
    generator = seeded(1)
    x0 = torch.randn(1, 3, 4, 4, generator=generator)
    x, noise, bar = x0, torch.zeros_like(x0), 1.0
    for i, beta in enumerate(BETAS.tolist()):
        eps = torch.randn(x0.shape, generator=generator)
        x = math.sqrt(1 - beta) * x + math.sqrt(beta) * eps
        noise = math.sqrt(1 - beta) * noise + math.sqrt(beta) * eps
        bar *= 1 - beta
        got = fn(x0, torch.tensor([i]), BETAS, noise / math.sqrt(1 - bar))
        expect(got, x, f"Steps 0 to {i} one by one and the leap with the same noises: q_sample", LAST_STEP)


def takes_a_batch(fn: Callable) -> None:
    for shape, t in (((3, 3, 3, 3), (4, 0, 2)), ((2, 1, 4, 5), (1, 3))):
        x0, eps = torch.randn(2, *shape, generator=seeded(2))
        bar = (1 - BETAS).cumprod(0)[torch.tensor(t)][:, None, None, None]
        got = fn(x0, torch.tensor(t), BETAS, eps)
        slips = [(bar[0].sqrt() * x0 + (1 - bar[0]).sqrt() * eps, FIRST_ONLY)]
        want = bar.sqrt() * x0 + (1 - bar).sqrt() * eps
        expect(got, want, f"A batch of shape {shape} with t = {t}: q_sample", hint_for(got, slips, AXIS))


# 04.cosine

SQUARE = "This is the cosine itself. f is its square: alpha_bar is a share of power, and powers are squares."
ENDS = (
    "The ends of T steps are T + 1 points, 0, 1/T, ..., 1, as a fence of T fields has T + 1 posts. Row i of the table "
    "is the END of step i, so no row has alpha_bar = 1: that would be a level without noise, and T numbers come out."
)
STRETCHED = (
    "Look at the last point: it has to be u = 1. `torch.linspace(0, 1, T + 1)` gives T + 1 points with both ends among "
    "them; dividing by T + 1 as well falls short."
)
CAPPED = (
    "f(1) is 0, so the last beta would be 1 and nothing at all would be left. Cap every beta at 0.999 BEFORE the "
    "product: `betas.clamp(max=0.999)`."
)
CAPPED_BETA = "It is the beta that is capped at 0.999, not alpha_bar that is kept above 0.001."
OFFSET = "Without the 0.008 the first steps are tiny: f is level at its top. (u + 0.008) / 1.008 starts a little later."
TABLE_OF_BETAS = "These are the betas. The table is what is left after each step: the products of 1 - beta."
NORMED = "Start at 1: alpha_bar is f(u) / f(0). Going by the betas does that by itself, since they are quotients."
TURN = "From u = 0 to 1 the cosine goes down a quarter of its turn: pi / 2, and not pi, or it comes up again."


def cosines(steps: int) -> tuple[Tensor, Slips]:
    """The right table, and what the usual mistakes make of it."""
    u = torch.arange(steps + 1).double() / steps

    def f(u: Tensor, offset: float = 0.008, turn: float = math.pi / 2) -> Tensor:
        return ((u + offset) / (1 + offset) * turn).cos()

    def by_betas(f: Tensor, cap: float = 0.999) -> Tensor:
        return (1 - (1 - f[1:] / f[:-1]).clamp(max=cap)).cumprod(0)

    square, right = f(u) ** 2, levels.cosine(steps).alpha ** 2
    short = u * steps / (steps + 1)
    return right, [
        (by_betas(f(u)), SQUARE), (f(u[1:]) / f(u[0]), SQUARE), (f(u[1:]), SQUARE),
        (by_betas(square, 1.0), CAPPED), (square[1:] / square[0], CAPPED), (by_betas(f(short) ** 2), STRETCHED),
        (by_betas(f(u, 0.0) ** 2), OFFSET), (1 - right / torch.cat([torch.ones(1), right[:-1]]), TABLE_OF_BETAS),
        (square[1:], NORMED), (square[1:].clamp(min=0.001), NORMED), (square[:-1], ENDS),
        ((square[1:] / square[0]).clamp(min=0.001), CAPPED_BETA), (by_betas(f(u, turn=math.pi) ** 2), TURN),
        (f(u[1:], turn=math.pi) ** 2, TURN),
    ]  # fmt: skip


def is_the_cosine_table(fn: Callable) -> None:
    for steps in (10, 1000):
        call, (right, slips) = f"cosine({steps})", cosines(steps)
        got = fn(steps)
        if not isinstance(got, Tensor) or got.shape != right.shape:
            expect(got, right, call, ENDS if isinstance(got, Tensor) else "")  # says what came
        hint = hint_for(got, slips, ENDS if got[0] > 0.999999 else "Compare the betas of the first and the last step.")
        if (got >= 1).any() or (got <= 0).any():
            raise Wrong(f"{call} lies in {got.min():.3g} to {got.max():.3g}; alpha_bar is above 0 and below 1", hint)
        if (got.diff() > 0).any():
            raise Wrong(f"{call} rises at row {int((got.diff() > 0).nonzero()[0]) + 1}; noise only grows", hint)
        expect(got, right, call, hint)
        if not math.isclose(got[-1], right[-1], rel_tol=1e-3):
            raise Wrong(f"{call} ends at {got[-1]:.3g}; it should end at {right[-1]:.3g}", CAPPED)


EXERCISES = (
    Exercise("04.q_sample", (
        "Three things in turn: the product of what each step keeps, its two roots, and the sum.",
        "`(1 - betas).cumprod(0)` holds alpha_bar for every t; `[t]` picks one for each picture: a shape (b,).",
        "`bar = bar[t].view(-1, 1, 1, 1)` lets one number meet a whole picture. Then it is the root of bar times x0 "
        "and the root of 1 - bar times eps.",
    ), (leaps, has_the_mean_and_variance, equals_the_chain, takes_a_batch)),
    Exercise("04.cosine", (
        "First f at all ends of steps, then a beta from each pair of neighbours, then the product.",
        "`u = torch.arange(steps + 1) / steps` are the ends. With `f` a tensor of T + 1 numbers, `f[1:] / f[:-1]` is "
        "what each step keeps.",
        "betas = (1 - f[1:] / f[:-1]).clamp(max=0.999), and the table is (1 - betas).cumprod(0).",
    ), (is_the_cosine_table,)),
)  # fmt: skip
