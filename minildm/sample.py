"""Samplers: generator functions that walk from noise to data and yield the state after every step.

A sampler takes denoise(x, level) -> x0, a start x (b, ...) at the first row, and n + 1 rows of floats,
noisiest first. It yields n states. It knows neither what the network predicts nor which schedule the rows
come from, and it owns nothing: no counter, no progress bar, no random state. To keep the film take
`list(ddim(...))`; to keep the picture, its last entry; to stop early, stop asking.

Every step reads x0, solves x = alpha * x0 + sigma * eps for eps, and rebuilds x at the next row. All samplers
take `generator` so that they are called alike; only `ddim` with eta above 0 and `ddpm` draw noise. Noise is
drawn on the CPU and moved, so that a seed means the same picture on every device.
"""

import math
from collections.abc import Iterator, Sequence
from itertools import pairwise

import torch
from torch import Tensor

from .levels import Denoiser, Level, log_snr


@torch.no_grad()
def ddim(
    denoise: Denoiser,
    x: Tensor,
    rows: Sequence[Level],
    eta: float = 0.0,
    generator: torch.Generator | None = None,
) -> Iterator[Tensor]:
    """Song et al. 2021 (arXiv 2010.02502), eq. 12 and 16: deterministic at eta = 0, DDPM at eta = 1.

    The size of the fresh noise is written for any rows: eta = 1 gives the posterior of variance-preserving
    rows and the ancestral step of rows rescaled to alpha = 1.
    """
    for level, below in pairwise(rows):
        x0 = denoise(x, level)
        # max: two equal rows may leave a rounding error below zero.
        room = max(level.sigma**2 - (level.alpha / below.alpha * below.sigma) ** 2, 0.0)
        fresh = eta * below.sigma / level.sigma * math.sqrt(room)
        kept = math.sqrt(max(below.sigma**2 - fresh**2, 0.0))
        x = below.alpha * x0 + kept * _eps(x, x0, level)
        if fresh > 0:
            x = x + fresh * torch.randn(x.shape, dtype=x.dtype, generator=generator).to(x.device)
        yield x


def ddpm(
    denoise: Denoiser, x: Tensor, rows: Sequence[Level], generator: torch.Generator | None = None
) -> Iterator[Tensor]:
    """Ancestral sampling: draw from the posterior of Ho et al. 2020 (arXiv 2006.11239), eq. 6 and 7."""
    return ddim(denoise, x, rows, eta=1.0, generator=generator)


@torch.no_grad()
def euler(
    denoise: Denoiser, x: Tensor, rows: Sequence[Level], generator: torch.Generator | None = None
) -> Iterator[Tensor]:
    """A straight step along dx = x0 d(alpha) + eps d(sigma): the same numbers as `ddim` at eta = 0."""
    for level, below in pairwise(rows):
        x0 = denoise(x, level)
        x = x + (below.alpha - level.alpha) * x0 + (below.sigma - level.sigma) * _eps(x, x0, level)
        yield x


@torch.no_grad()
def heun(
    denoise: Denoiser, x: Tensor, rows: Sequence[Level], generator: torch.Generator | None = None
) -> Iterator[Tensor]:
    """Look ahead with Euler, then step along the mean of both ends: second order, two calls a step.

    Karras et al. 2022 (arXiv 2206.00364), algorithm 1. A step to sigma = 0 is Euler's, one call. Unlike
    `ddim` it depends on the frame: use `levels.rescaled(rows)`, and x divided by the first alpha, to meet
    published samplers of variance-preserving networks.
    """
    for level, below in pairwise(rows):
        x0 = denoise(x, level)
        eps = _eps(x, x0, level)
        if below.sigma > 0:
            ahead = below.alpha * x0 + below.sigma * eps
            x0_ahead = denoise(ahead, below)
            x0, eps = (x0 + x0_ahead) / 2, (eps + _eps(ahead, x0_ahead, below)) / 2
        x = x + (below.alpha - level.alpha) * x0 + (below.sigma - level.sigma) * eps
        yield x


@torch.no_grad()
def dpmpp_2m(
    denoise: Denoiser, x: Tensor, rows: Sequence[Level], generator: torch.Generator | None = None
) -> Iterator[Tensor]:
    """DPM-Solver++(2M), Lu et al. 2022 (arXiv 2211.01095): second order for one call a step.

    It is `ddim` with x0 drawn out, along the log-SNR, from the last two answers. The first step, the step
    after alpha = 0 and a step to sigma = 0 have nothing to go by and use x0 as it is.
    """
    before, x0_before = None, None
    for level, below in pairwise(rows):
        x0 = drawn = denoise(x, level)
        if before is not None and below.sigma > 0:
            stride = log_snr(below) - log_snr(level)
            stride_before = log_snr(level) - log_snr(before)  # infinite after alpha = 0: the ratio is 0
            drawn = x0 + stride / (2 * stride_before) * (x0 - x0_before)
        x = below.alpha * drawn + below.sigma * _eps(x, drawn, level)
        before, x0_before = level, x0
        yield x


@torch.no_grad()
def pndm(
    denoise: Denoiser, x: Tensor, rows: Sequence[Level], generator: torch.Generator | None = None
) -> Iterator[Tensor]:
    """Pseudo linear multistep: `ddim` with eps drawn from up to four answers of evenly spaced steps.

    Liu et al. 2022 (arXiv 2202.09778), without its Runge-Kutta start, as published with Stable
    Diffusion 1.x: the first step looks ahead and steps along the mean, which makes steps + 1 calls in all.
    Where alpha = 0 x says nothing about x0, and the answer is used as it is; where alpha is nearly 0 (the first
    row of squared cosines) an error of the answer counts sigma / alpha times: take another sampler there.
    """
    held: list[Tensor] = []  # the last answers, newest first
    for level, below in pairwise(rows):
        x0 = denoise(x, level)
        eps = _eps(x, x0, level)
        held = [eps, *held[:3]]
        if len(held) == 1 and len(rows) > 2:
            ahead = below.alpha * x0 + below.sigma * eps
            change = (_eps(ahead, denoise(ahead, below), below) - eps) / 2
        else:
            weights = ADAMS_BASHFORTH[len(held)]
            change = sum(weight * (one - eps) for weight, one in zip(weights, held, strict=True))
        if level.alpha > 0:
            x0 = x0 - level.sigma / level.alpha * change
        x = below.alpha * x0 + below.sigma * (eps + change)
        yield x


# What a polynomial through the last 1, 2, 3 or 4 answers makes of them at the next step, newest first.
ADAMS_BASHFORTH = {
    1: (1.0,),
    2: (3 / 2, -1 / 2),
    3: (23 / 12, -16 / 12, 5 / 12),
    4: (55 / 24, -59 / 24, 37 / 24, -9 / 24),
}


def slerp(a: Tensor, b: Tensor, t: float) -> Tensor:
    """From noises a towards noises b (n, ...) by the share t of 0..1 of the angle between them, one angle for each.

    Shoemake 1985 (doi 10.1145/325165.325242). Stays on the shell where draws in many dimensions lie, which a straight
    line leaves; that line is taken where a and b point the same way, or opposite ways.
    """
    cosine = torch.cosine_similarity(a.flatten(1), b.flatten(1)).clamp(-1, 1)  #                       (n,)
    angle = cosine.arccos().view(-1, *[1] * (a.ndim - 1))
    sine = angle.sin()
    flat = sine < 1e-6
    arc = (((1 - t) * angle).sin() * a + (t * angle).sin() * b) / sine.masked_fill(flat, 1)
    return torch.where(flat, (1 - t) * a + t * b, arc)


def _eps(x: Tensor, x0: Tensor, level: Level) -> Tensor:
    return (x - level.alpha * x0) / level.sigma


SAMPLERS = {"ddpm": ddpm, "ddim": ddim, "euler": euler, "heun": heun, "dpmpp_2m": dpmpp_2m, "pndm": pndm}
