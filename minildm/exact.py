"""Data whose best denoiser can be written down: a mixture of bell curves, or a list of pictures.

The mixture has means (k, ...), a spread (standard deviation) for each, and weights. A spread of 0 makes it a list of
points. Noise turns a mixture into a mixture: of means alpha * mean and variances alpha^2 spread^2 + sigma^2. So
everything that a trained network only approaches is known here.

In every function `spread` is a float or (k,), `weights` is (k,) and positive, by default all equal, and the level's
sigma is above 0.
"""

import math

import torch
from torch import Tensor

from .levels import Denoiser, Level


def posterior_mean(
    x: Tensor, level: Level, means: Tensor, spread: float | Tensor = 0.0, weights: Tensor | None = None
) -> Tensor:
    """E[x0 | x], the answer with the least squared error, for x (b, ...) and means (k, ...).

    For a list of points it is Karras et al. 2022 (arXiv 2206.00364), eq. 57.
    """
    alpha, sigma = _columns(x, level)
    spread, logs = _parts(x, level, means, spread, weights)
    share = logs.softmax(1)  #                                                        how likely each mode is: (b, k)
    pull = share * alpha * spread**2 / (alpha**2 * spread**2 + sigma**2)
    flat = (share - alpha * pull) @ means.to(x).flatten(1) + pull.sum(1, keepdim=True) * x.flatten(1)
    return flat.view_as(x)


def log_density(
    x: Tensor, level: Level, means: Tensor, spread: float | Tensor = 0.0, weights: Tensor | None = None
) -> Tensor:
    """log p(x) of the noisy mixture at this level, in nats: x (b, ...) -> (b,)."""
    return _parts(x, level, means, spread, weights)[1].logsumexp(1)


def denoiser(means: Tensor, spread: float | Tensor = 0.0, weights: Tensor | None = None) -> Denoiser:
    """The perfect denoiser of a mixture, for any sampler: denoise(x, level) -> x0."""
    return lambda x, level: posterior_mean(x, level, means, spread, weights)


def draw(
    n: int, means: Tensor, spread: float | Tensor = 0.0, weights: Tensor | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:  # fmt: skip
    """n clean draws (n, ...) from the mixture."""
    weights = torch.ones(len(means)) if weights is None else weights
    mode = torch.multinomial(weights, n, replacement=True, generator=generator)
    noise = torch.randn(n, *means.shape[1:], generator=generator)
    spread = torch.as_tensor(spread).expand(len(means))[mode].view(-1, *[1] * (means.ndim - 1))
    return means[mode] + spread * noise


def _columns(x: Tensor, level: Level) -> tuple[Tensor, Tensor]:
    """alpha and sigma as (1, 1), or (b, 1) where there is a level for each x."""
    both = (level.alpha, level.sigma)
    return tuple(torch.as_tensor(value, dtype=x.dtype, device=x.device).view(-1, 1) for value in both)


def _parts(
    x: Tensor, level: Level, means: Tensor, spread: float | Tensor, weights: Tensor | None
) -> tuple[Tensor, Tensor]:
    """The modes' spreads (k,), and the logarithm of what each mode adds to p(x): (b, k)."""
    points, means = x.flatten(1), means.to(x).flatten(1)
    spread = torch.as_tensor(spread, dtype=x.dtype, device=x.device).expand(len(means))
    weights = torch.ones_like(spread) if weights is None else weights.to(x)
    alpha, sigma = _columns(x, level)
    variance = alpha**2 * spread**2 + sigma**2  #                                                   (1 or b, k)
    # Differences first: squares of large numbers would leave nothing of a small sigma in float32.
    distance = (points[:, None] - alpha[..., None] * means).square().sum(-1)  #                         (b, k)
    logs = (weights / weights.sum()).log() - means.shape[1] / 2 * (2 * math.pi * variance).log()
    return spread, logs - distance / (2 * variance)
