"""Lesson 07, training a pixel DDPM: the loop that learns one picture by heart, and pictures as bytes."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from . import Exercise, Wrong, expect, hint_for, seeded
from .lesson_07 import SCHEDULE

# 07.overfit

STEPS = 300
LEARNED = 0.05  # a right loop comes to about 0.02, one that learns nothing stays near 1
RETURN = "Append `loss.item()`, a plain number, in each step, and return the list at the end."
NO_STEP = "`loss.backward()` only writes down the slopes. It is `optimizer.step()` that moves the weights."
NO_BACKWARD = "The optimizer steps, but nobody computed the slopes: `loss.backward()` comes before `optimizer.step()`."
PILED = "Gradients ADD UP in PyTorch until you clear them: `optimizer.zero_grad()` in each step, before `backward`."
CLEARED = "`zero_grad` comes between `backward` and `step` and throws the slopes away. Clear them before `backward`."
ONE_LEVEL = "The same levels t in every step. Draw them INSIDE the loop, or the network never sees the others."
ONE_NOISE = (
    "The same noise in every step: the network learns that noise by heart. Draw it inside the loop, and do not seed "
    "the generator anew there."
)
OTHER = (
    "The loss falls, but not that of v. Is the target alpha * eps - sigma * x0, is x made with the same t and eps, and "
    "are there 16 noisy copies in each step?"
)


class Small(nn.Module):
    """Learns one picture of 4 x 4 grey values within a second, and keeps what it is shown."""

    def __init__(self):
        super().__init__()
        self.inside, self.outside, self.times = nn.Linear(16, 64), nn.Linear(64, 16), nn.Embedding(10, 64)
        self.skip = nn.Embedding(10, 1)
        self.seen: list[tuple[Tensor, Tensor]] = []

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        if self.training:
            self.seen.append((x.detach().clone(), t.detach().clone()))
        t = t.long()
        hidden = torch.nn.functional.silu(self.inside(x.flatten(1)) + self.times(t))
        return (self.outside(hidden) + self.skip(t) * x.flatten(1)).view_as(x)


class Watching(torch.optim.Adam):
    """Adam, that looks whether it is given the slopes of one loss, of several on top of each other, or of none."""

    def __init__(self, network: nn.Module):
        self.fresh: list[Tensor] = []
        self.watched, self.steps, self.piled, self.empty, self.backwards = network.outside.bias, 0, 0, 0, 0
        self.watched.register_hook(self.note)
        super().__init__(network.parameters(), lr=1e-2)

    def note(self, grad: Tensor) -> None:
        self.backwards += 1
        self.fresh.append(grad.clone())

    def step(self, closure: object = None) -> None:
        self.steps += 1
        grad = self.watched.grad
        if grad is None or not grad.any():
            self.empty += 1
        elif self.fresh and not torch.allclose(grad, torch.stack(self.fresh).sum(0), atol=1e-6):
            self.piled += 1
        self.fresh = []
        super().step()


def learns_one_picture(fn: Callable) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = Small()
    optimizer = Watching(network)
    x0 = torch.linspace(-1, 1, 16).view(1, 1, 4, 4)
    losses = fn(network, optimizer, x0, SCHEDULE, STEPS, seeded(0))
    call = f"overfit(..., steps={STEPS})"
    if not network.seen:
        raise Wrong(f"{call} never calls the network", "Each step asks the network: by `train.diffusion_loss`, say.")
    if optimizer.steps == 0:
        raise Wrong(f"in {call} the optimizer never makes a step", NO_STEP)
    if optimizer.empty:
        between = optimizer.backwards > 0
        raise Wrong(f"in {call} the optimizer makes a step without slopes", CLEARED if between else NO_BACKWARD)
    if optimizer.piled:
        raise Wrong(f"in {call} the optimizer is given more than the slopes of the last loss", PILED)
    if not isinstance(losses, list) or len(losses) != STEPS or not all(isinstance(loss, float) for loss in losses):
        got = f"{type(losses).__name__} of {len(losses) if hasattr(losses, '__len__') else '?'}"
        raise Wrong(f"{call} returns a {got}; a list of {STEPS} floats is wanted", RETURN)
    (x, t), (later, _) = network.seen[0], network.seen[-1]
    if len({tuple(times.tolist()) for _, times in network.seen}) == 1:
        same = x.shape == later.shape and torch.equal(x, later)
        what = f"all {len(network.seen)} calls of the network have the levels {t.tolist()}"
        raise Wrong(what, ONE_NOISE if same else ONE_LEVEL)
    if len({noise_of(x[0], t[0], x0) for x, t in network.seen[:20]}) == 1:
        raise Wrong("the first picture of the batch has the same noise in every step", ONE_NOISE)
    error = loss_on_fresh_noise(network.eval(), x0)
    if not error < LEARNED:
        raise Wrong(f"after {call} the loss on new noise is {error:.2f}; a right loop comes below {LEARNED}", OTHER)


def noise_of(x: Tensor, t: Tensor, x0: Tensor) -> tuple[float, ...]:
    """The noise in a noisy picture, rounded."""
    alpha, sigma = SCHEDULE.alpha[t.long()].float(), SCHEDULE.sigma[t.long()].float()
    return tuple(round(value, 2) for value in ((x - alpha * x0[0]) / sigma).flatten().tolist()[:4])


@torch.no_grad()
def loss_on_fresh_noise(network: nn.Module, x0: Tensor) -> float:
    t = torch.arange(10).repeat(20)
    alpha, sigma = (a[t].float()[:, None, None, None] for a in (SCHEDULE.alpha, SCHEDULE.sigma))
    eps = torch.randn(200, 1, 4, 4, generator=seeded(99))
    return (network(alpha * x0 + sigma * eps, t) - (alpha * eps - sigma * x0)).square().mean().item()


# 07.pixels

WRAP = (
    "Bytes wrap round: 257 becomes 1, a black speck in the white. A sampler's values overshoot -1..1 a little: clamp "
    "them before they become bytes."
)
RANGE = "-1 has to become 0 and +1 255: first (x + 1) / 2, then times 255."
FLOOR = "`.to(torch.uint8)` cuts off what is behind the point, so everything gets darker by half a step. Round first."
MOVED = (
    "The numbers are all there but in the wrong places. `view` and `reshape` cut the same row of numbers elsewhere; "
    "to move the channels to the end, `permute` them."
)


def writes_bytes(fn: Callable) -> None:
    steps = torch.tensor([-1.0, -0.5, 0.0, 0.5, 1.0]).view(1, 1, 1, 5).expand(1, 3, 1, 5).clone()
    want = torch.tensor([0, 64, 128, 191, 255], dtype=torch.uint8).view(1, 1, 5, 1).expand(1, 1, 5, 3)
    cut = want.movedim(3, 1).reshape(want.shape)
    got = fn(steps)
    if isinstance(got, Tensor) and got.dtype != torch.uint8:
        raise Wrong(f"to_bytes gives {got.dtype}; picture files hold torch.uint8", "End with `.to(torch.uint8)`.")
    floored = torch.tensor([0, 63, 127, 191, 255], dtype=torch.uint8).view(1, 1, 5, 1).expand(1, 1, 5, 3)
    hint = hint_for(got, [(floored, FLOOR), (cut, MOVED)], RANGE)
    expect(got, want, "to_bytes of a row of -1, -0.5, 0, 0.5, 1", hint)
    beyond = torch.tensor([-1.2, -1.01, 1.01, 3.0]).view(1, 1, 1, 4).expand(1, 3, 1, 4).clone()
    want = torch.tensor([0, 0, 255, 255], dtype=torch.uint8).view(1, 1, 4, 1).expand(1, 1, 4, 3)
    expect(fn(beyond), want, "to_bytes of a row of -1.2, -1.01, 1.01, 3", WRAP)
    x = torch.rand(2, 3, 4, 5, generator=seeded(0)) * 2 - 1
    got, bytes_ = fn(x), ((x + 1) * 127.5).round().to(torch.uint8)
    expect(got, bytes_.movedim(1, 3), "to_bytes of two pictures (2, 3, 4, 5)", MOVED)


EXERCISES = (
    Exercise("07.overfit", (
        "Each step: a loss of a fresh batch, the old slopes cleared, the new ones computed, the weights moved.",
        "16 noisy copies: `train.diffusion_loss(network, x0.expand(16, -1, -1, -1), schedule, 'v', generator).mean()`.",
        "Then optimizer.zero_grad(), loss.backward(), optimizer.step(), and losses.append(loss.item()).",
    ), (learns_one_picture,), seconds=20),  # the first step of an optimizer imports half of PyTorch
    Exercise("07.pixels", (
        "Four things in this order: cut off what overshoots, scale to 0..255, round to bytes, move the channels.",
        "`clamp(-1, 1)`, then (x + 1) * 127.5, then `.round().to(torch.uint8)`.",
        "`permute(0, 2, 3, 1)` makes (b, 3, h, w) into (b, h, w, 3).",
    ), (writes_bytes,)),
)  # fmt: skip
