"""Losses, the average of the weights, and one training loop that reports as it goes.

Everything random in a step is drawn by (seed, step), or for each sample by (seed, step, its index). So a run is the
same run whether or not it was interrupted, and by sample also on any number of processes. `checkpoint` keeps what it
has to go on from.
"""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from . import draws, processes
from .checkpoint import States
from .denoise import target
from .devices import device_of, precision
from .files import UserError
from .levels import Schedule
from .vae import kl_divergence, sample_latent

Loss = Callable[[int, draws.Source], Tensor]  # (step, where its random numbers come from)
CHECK_SEED = 99  # of the scenes that the checks of all runs draw, and no run trains on


@dataclass
class Run:
    """A training run ready to start: what `fit` needs, and what becomes of the averaged network at the end."""

    model: nn.Module  # what is trained
    loss: Loss
    check: Callable[[nn.Module], float]  # a loss on pictures and noise that never change
    finish: Callable[[nn.Module], nn.Module]  # trained network -> what is saved
    steps: int
    lr: float
    ema: float = 0.999
    batch: int | None = None  # samples of a step, if the loss is their mean and can be asked for some (`draws.places`)
    autocast: torch.dtype | None = torch.bfloat16  # measured: half the time of a step with convolutions


def vae_loss(
    vae: nn.Module, pixels: Tensor, kl_weight: float, generator: draws.Source = None
) -> tuple[Tensor, Tensor]:
    """Squared error and KL divergence of a VAE on pixels (b, c, h, w), both in nats-like units per pixel value.

    Returns (reconstruction, kl): means over the batch and over the c*h*w values of a picture, so their sum
    `reconstruction + kl` is the negative evidence lower bound up to scale (Kingma & Welling 2014, eq. 10) with
    `kl_weight` already applied to the second (Higgins et al. 2017's beta, in units of this squared error).
    """
    mean, logvar = vae.encode(pixels)
    out = vae.decode(sample_latent(mean, logvar, generator))
    kl = kl_divergence(mean.to(pixels.dtype), logvar.to(pixels.dtype)).mean() / pixels[0].numel()
    return (out.to(pixels.dtype) - pixels).square().mean(), kl_weight * kl


def diffusion_loss(
    network: nn.Module,
    x0: Tensor,
    schedule: Schedule,
    prediction: str,
    generator: draws.Source = None,
    noisy: float = 0.0,
    **condition: object,
) -> Tensor:
    """Mean squared error of the network's answer at random levels: x0 (b, c, h, w) -> (b,), one for each picture.

    The simplified objective of Ho et al. 2020, eq. 14, for any prediction. Levels and noise are drawn on the CPU,
    so a seeded generator gives the same loss on every device; pass the same seed again and again for a
    validation curve that only the network can change. Levels are uniform over the rows, but for a share `noisy`
    0..1 of them, drawn from the noisiest quarter alone (Esser et al. 2024 choose other densities).
    """
    rows = len(schedule)
    index = draws.integers(rows, (len(x0),), generator)
    if noisy:
        chosen = draws.uniform((len(x0),), generator) < noisy
        index = torch.where(chosen, rows - 1 - index // 4, index)
    index = index.to(x0.device)
    eps = draws.normal(x0.shape, generator).to(x0)
    level = schedule.at(index)  #                                                         each (b,)
    alpha, sigma = (a.view(-1, *[1] * (x0.ndim - 1)) for a in (level.alpha, level.sigma))
    out = network(alpha * x0 + sigma * eps, level.t, **condition)
    return (out.to(x0.dtype) - target(x0, eps, level, prediction)).square().flatten(1).mean(1)


class EMA:
    """An exponential moving average of a network's weights, in a copy of it: `ema.model`.

    The decay starts low and rises to `decay`, min(decay, (1 + step) / (10 + step)), so that a short run's average
    is not the beginning's noise.
    """

    def __init__(self, model: nn.Module, decay: float = 0.999):
        if not 0 <= decay < 1:
            raise UserError("ema decay", decay, "a number from 0 up to but not 1")
        self.decay, self.step = decay, 0
        self.model = deepcopy(model).eval().requires_grad_(False)

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """Move the average towards the model's weights as they are now; buffers are copied."""
        decay = min(self.decay, (1 + self.step) / (10 + self.step))
        self.step += 1
        mine, theirs = list(self.model.parameters()), [p.detach() for p in model.parameters()]
        torch._foreach_lerp_(mine, theirs, 1 - decay)
        for a, b in zip(self.model.buffers(), model.buffers(), strict=True):
            a.copy_(b)


@dataclass
class Progress:
    """Where a run stands after a step: `fraction` 0..1 of it done, `seconds` spent training so far."""

    step: int
    fraction: float
    seconds: float
    loss: float
    rate: float


def learning_rate(fraction: float, warmup: float = 0.03) -> float:
    """The factor on the peak learning rate at `fraction` 0..1 of the run: a linear rise, then a half cosine to 0.

    Loshchilov & Hutter 2017, eq. 5, without restarts.
    """
    if fraction < warmup:
        return fraction / warmup
    return 0.5 * (1 + math.cos(math.pi * (fraction - warmup) / (1 - warmup)))


def check_length(steps: int | None, seconds: float | None) -> None:
    """Raises `UserError` unless exactly one of the two is given, above 0 and finite."""
    if (steps is None) == (seconds is None) or not 0 < (steps or seconds or 0) < math.inf:
        raise UserError("steps, seconds", (steps, seconds), "one of the two, above 0")


def check_finite(step: int, loss: float, norm: float, states: States) -> None:
    """Raises `UserError` with likely causes and the last good state, unless loss and gradient norm are finite."""
    for what, value in (("loss", loss), ("gradient", norm)):
        if not math.isfinite(value):
            causes = "a learning rate too large, data that holds nan or inf, or an overflow of half precision"
            raise UserError(f"{what} at step {step}", value, f"a finite number; likely {causes}; {states.last()}")


def fit(
    model: nn.Module,
    loss: Loss,
    *,
    steps: int | None = None,
    seconds: float | None = None,
    lr: float = 1e-3,
    ema: EMA | None = None,
    seed: int = 0,
    autocast: torch.dtype | None = None,
    checkpoint: str | Path | States | None = None,
    save_every: float = 60.0,
    clock: Callable[[], float] = time.perf_counter,
    batch: int | None = None,
    accumulate: int = 1,
) -> Iterator[Progress]:
    """Train `model` by `loss(step, generator)` and yield a `Progress` after each step; stop early by breaking off.

    Give `steps` or `seconds`. AdamW (betas 0.9 and 0.99), gradients clipped to norm 1, learning rate `lr` times
    `learning_rate(fraction)`. `autocast` (say torch.bfloat16) is the dtype of the forward pass; weights stay as
    they are. With `checkpoint`, a file such as runs/a/state.pt, the state is written beside it (`States`) every
    `save_every` seconds of training, at the end, on Ctrl-C and where you break off; and a run that finds a state
    goes on from it: for `steps`, to bit-identical weights on the CPU. A step is saved after you had its `Progress`.
    `clock` tells the seconds: the wall's, or say `time.process_time`, which stands while other programs run.
    With `batch`, the loss is the mean over so many samples and can be asked for some: `loss(step, draws.Draws)`, see
    `draws.places`. Then the processes of a launch (`processes.joined`) take a part of each batch, one after the other
    in `accumulate` parts, which need less memory. How many parts there are changes the weights by rounding only.
    Raises `UserError` for wrong arguments, for a checkpoint of another run, and where loss or gradient are no longer
    finite, before that reaches the weights.
    """
    check_length(steps, seconds)
    together = processes.count()
    if batch is None and together * accumulate != 1:
        raise UserError("processes, accumulate", (together, accumulate), "1 each: this loss needs whole batches")
    parts = processes.shares(batch, accumulate) if batch else [None]
    device = device_of(model)
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=lr, betas=(0.9, 0.99), weight_decay=0.01, fused=True)
    states = checkpoint if isinstance(checkpoint, States) else States(checkpoint, writes=processes.rank() == 0)
    with states:
        step, spent = states.restore(model, optimizer, ema, {"seed": seed, "steps": steps, "seconds": seconds})
        if processes.totals([step], device)[0] != step * together:
            raise UserError(f"checkpoint {states.path}", f"step {step} here", "states that all processes can read")
        ask = processes.shared(model, loss)
        model.train()

        def fraction() -> float:
            return min(1.0, step / steps if steps else spent / seconds)

        while fraction() < 1:
            started = clock()
            rate = lr * learning_rate(fraction())
            for group in optimizer.param_groups:
                group["lr"] = rate
            optimizer.zero_grad(set_to_none=True)
            value = 0.0
            for part in parts:
                if part is None:
                    source, share = torch.Generator().manual_seed(seed * 1_000_003 + step), 1.0
                else:
                    source, share = draws.Draws(seed, step, part), len(part) / batch
                with nullcontext() if part is parts[-1] else processes.alone(ask):
                    with precision(device, autocast):
                        some = ask(step, source) * share
                    (some * together).backward()  # of which the mean over all processes is taken
                value += some.detach()
            norm = nn.utils.clip_grad_norm_(trained, 1.0)
            (value,) = processes.totals([value.item()], device)
            check_finite(step, value, norm.item(), states)
            states.moving()
            optimizer.step()
            if ema:
                ema.update(model)
            step, spent = step + 1, spent + clock() - started
            if seconds:
                spent = processes.totals([spent], device)[0] / together  # all processes have to end together
            if states is not checkpoint:  # whoever brings their own says when all that belongs to the step is done
                states.stand(step, spent)
            yield Progress(step, fraction(), spent, value, rate)
            states.stand(step, spent)
            if spent - states.saved_at >= save_every or fraction() >= 1:
                states.save()
    model.eval()


def each(jobs: Sequence[Callable[[], float]]) -> Iterator[Progress]:
    """Do the jobs one after the other, each giving a number to show, and yield a `Progress` after each."""
    started = time.perf_counter()
    for done, job in enumerate(jobs, 1):
        value = job()
        yield Progress(done, done / len(jobs), time.perf_counter() - started, value, 0.0)
