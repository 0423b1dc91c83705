"""Lesson 07, training a pixel DDPM: the loss of a network that answers v, and the average of its weights."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from ...levels import Schedule
from . import Exercise, Wrong, expect, hint_for, seeded

# Few levels, none of them clean or pure noise: (alpha, sigma) lie on a circle.
ANGLES = torch.linspace(0.3, 1.4, 10, dtype=torch.float64)
SCHEDULE = Schedule(torch.arange(10).double(), ANGLES.cos(), ANGLES.sin())


# 07.loss

NOT_NOISY = "The network is shown the clean picture, so there is nothing to find out. Make it noisy first."
ROOT = "`schedule.sigma` is what multiplies the noise as it stands. Neither square it nor take its root."
OWN_NOISE = "Use the noise `eps` that you are given: the network's input and its target must hold the same one."
TIME = (
    "The network is told another t than the one whose alpha and sigma made the picture noisy. Tables count from 0, "
    "and papers from 1: hand over `t` as it is."
)
AXIS = (
    "Each picture has a level of its own. PyTorch lines shapes up from the right: give the factors of shape (b,) the "
    "shape (b, 1, 1, 1) first."
)
SIGN = "The sign is turned: v = alpha * eps - sigma * x0, the noise with plus and the picture with minus."
EPS = "That is the loss of a network that answers eps. This one answers v = alpha * eps - sigma * x0."
X0 = "That is the loss of a network that answers x0. This one answers v = alpha * eps - sigma * x0."
SWAPPED = "alpha and sigma have changed places: in v, alpha stands with the noise and sigma with the picture."
SUM = "That is the SUM over a picture's numbers. Take their mean, or the loss grows with the size of the picture."
ABSOLUTE = "That is the mean of |error|. Its best answer is the median; only the SQUARED error asks for the mean."
CUT = "No gradient reaches the network: its answer is detached, or `no_grad` is in force. So nothing would be learned."


def loss_of_v(fn: Callable) -> None:
    throw = seeded(0)
    for shape in ((4, 3, 4, 4), (2, 1, 3, 5)):
        x0, eps = torch.randn(2, *shape, generator=throw)
        t = torch.tensor([7, 0, 3, 9])[: len(x0)]
        alpha, sigma = (a[t].float()[:, None, None, None] for a in (SCHEDULE.alpha, SCHEDULE.sigma))
        x, v, seen = alpha * x0 + sigma * eps, alpha * eps - sigma * x0, []

        def cheat(x, t, v=v, seen=seen):
            seen.append((x, t))
            return v.clone()

        got = fn(cheat, x0, t, eps, SCHEDULE)
        if not seen:
            raise Wrong("the network was never called", "What is trained is the network: ask it `network(x, t)`.")
        shown, time = seen[0]
        across = alpha.flatten().repeat(9)[: shape[3]], sigma.flatten().repeat(9)[: shape[3]]
        known = [
            (x0, NOT_NOISY), (alpha * x0 + sigma**2 * eps, ROOT), (alpha * x0 + sigma.sqrt() * eps, ROOT),
            (alpha.sqrt() * x0 + sigma.sqrt() * eps, ROOT), (across[0] * x0 + across[1] * eps, AXIS),
            (alpha[:1] * x0 + sigma[:1] * eps, AXIS),
        ]  # fmt: skip
        expect(shown, x, "The network's input", hint_for(shown, known, OWN_NOISE))
        if not isinstance(time, Tensor) or time.shape != t.shape or not torch.equal(time.long(), t):
            said = time.tolist() if isinstance(time, Tensor) else time
            raise Wrong(f"the network is told t = {said} for t = {t.tolist()}", TIME)
        swapped = sigma * eps - alpha * x0
        targets = [(-v, SIGN), (eps, EPS), (x0, X0), (-swapped, SWAPPED), (swapped, SWAPPED)]
        known = [((v - other).square().flatten(1).mean(1), hint) for other, hint in targets]
        expect(got, torch.zeros(len(x0)), "A network that knows v: v_loss", hint_for(got, known, EPS))
        got = fn(lambda x, t: torch.zeros_like(x), x0, t, eps, SCHEDULE)
        known = [(v.square().flatten(1).sum(1), SUM), (v.abs().flatten(1).mean(1), ABSOLUTE)]
        expect(got, v.square().flatten(1).mean(1), "A network that always answers 0: v_loss", hint_for(got, known))


def lets_the_gradient_through(fn: Callable) -> None:
    knob = torch.full((), 0.5, requires_grad=True)
    x0, eps = torch.randn(2, 2, 1, 2, 2, generator=seeded(1))
    loss = fn(lambda x, t: knob * x, x0, torch.tensor([2, 5]), eps, SCHEDULE)
    if not loss.requires_grad:
        raise Wrong("the loss has no gradient with respect to the network's weights", CUT)


# 07.ema

DECAYS = "the decay of step k (from 0) is min(decay, (1 + k) / (10 + k))"
WAYS = {
    "d turned round: decay is the share of the OLD average, and the new weights count 1 - d.": ("turned", 0),
    "The decay rises: at the start (1 + k) / (10 + k) is smaller than `decay`. With the full decay at once, the first, "
    "random weights count for a thousand steps.": ("constant", 0),
    "The first step is step 0, with the decay 1 / 10; you count one too many or one too few.": ("rising", 1),
    "The smaller of the two counts: `min`. With `max` the decay is never below the full one.": ("max", 0),
}


def average(path: Sequence[Tensor], decay: float, way: str = "rising", late: int = 0) -> Tensor:
    out = path[0]
    for k, weights in enumerate(path[1:], late):
        rise = (1 + k) / (10 + k)
        d = {"constant": decay, "max": max(decay, rise)}.get(way, min(decay, rise))
        d = 1 - d if way == "turned" else d
        out = d * out + (1 - d) * weights
    return out


def shares(steps: int, decay: float) -> list[float]:
    """What the start and then each step count in the average, as products and not by a loop over averages."""
    d = torch.tensor([min(decay, (1 + k) / (10 + k)) for k in range(steps)], dtype=torch.float64)
    later = torch.cat([d.flip(0).cumprod(0).flip(0), torch.ones(1)])
    return torch.cat([later[:1], (1 - d) * later[1:]]).float()


def averages_the_weights(fn: Callable) -> None:
    for steps, decay in ((30, 0.5), (200, 0.95), (1, 0.8)):
        path = list(torch.randn(steps + 1, 2, 3, generator=seeded(steps)))
        got = fn(path, decay)
        want = (shares(steps, decay)[:, None, None] * torch.stack(path)).sum(0)
        zero = [torch.zeros(2, 3), *path[1:]]
        known = [(average(path, decay, *way), hint) for hint, way in WAYS.items()]
        known += [
            (average(zero, decay), "The average starts at the first weights, path[0], and not at zero."),
            (average([path[1], *path[1:]], decay), "The average starts at path[0], the weights before the first step."),
            (torch.stack(path).mean(0), "That is the plain mean of all weights. The early, bad ones have to fade."),
            (path[-1], "Those are the last weights. What is asked for is the average that has followed them."),
        ]
        expect(got, want, f"After {steps} steps with decay {decay}: averaged", hint_for(got, known, DECAYS))


EXERCISES = (
    Exercise("07.loss", (
        "Four things: the factors of each picture's level, the noisy picture, the target v, the mean square.",
        "`schedule.alpha[t]` is (b,) and float64: `.float()[:, None, None, None]` makes it fit a picture.",
        "x = alpha * x0 + sigma * eps and v = alpha * eps - sigma * x0; then (network(x, t) - v) squared, flattened "
        "from dimension 1 on, and its mean over dimension 1.",
    ), (loss_of_v, lets_the_gradient_through)),
    Exercise("07.ema", (
        "Start with a copy of path[0], and follow the others one after another.",
        "enumerate(path[1:]) gives k from 0 and the weights after step k; d = min(decay, (1 + k) / (10 + k)).",
        "average = d * average + (1 - d) * weights, made new each time and not written into path[0].",
    ), (averages_the_weights,)),
)  # fmt: skip
