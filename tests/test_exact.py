"""Mixtures whose best denoiser is known, against quadrature, autograd, PyTorch's own mixtures and plain averages."""

import pytest
import torch
from torch.distributions import Categorical, Independent, MixtureSameFamily, Normal

from minildm import exact, levels, sample
from minildm.levels import Level

MEANS = torch.tensor([[-1.2, -0.6], [1.2, -0.4], [0.2, 1.1]], dtype=torch.float64)
SPREAD = torch.tensor([0.25, 0.15, 0.4], dtype=torch.float64)
WEIGHTS = torch.tensor([0.3, 0.2, 0.5], dtype=torch.float64)
LEVELS = [Level(900.0, 0.28, 0.96), Level(500.0, 0.6, 0.8), Level(50.0, 0.9999, 0.01), Level(999.0, 0.0, 1.0)]
X = torch.randn(7, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("level", LEVELS)
def test_log_density_is_that_of_a_noisy_mixture(level):
    deviation = (level.alpha**2 * SPREAD**2 + level.sigma**2).sqrt()[:, None].expand(-1, 2)
    noisy = MixtureSameFamily(Categorical(WEIGHTS), Independent(Normal(level.alpha * MEANS, deviation), 1))
    ours = exact.log_density(X, level, MEANS, SPREAD, WEIGHTS * 7)  # weights need not add up to 1
    torch.testing.assert_close(ours, noisy.log_prob(X), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("level", LEVELS[:3])
def test_posterior_mean_by_tweedie(level):
    x = X.clone().requires_grad_()
    (slope,) = torch.autograd.grad(exact.log_density(x, level, MEANS, SPREAD, WEIGHTS).sum(), x)
    want = (X + level.sigma**2 * slope) / level.alpha
    ours = exact.posterior_mean(X, level, MEANS, SPREAD, WEIGHTS)
    torch.testing.assert_close(ours, want, rtol=1e-10, atol=1e-10)


def test_posterior_mean_by_quadrature():
    grid = torch.linspace(-9, 9, 60_001, dtype=torch.float64)
    prior = (WEIGHTS * Normal(MEANS[:, 0], SPREAD).log_prob(grid[:, None]).exp()).sum(1)
    for level in LEVELS[:2]:
        mass = prior * Normal(level.alpha * grid, level.sigma).log_prob(X[:, :1]).exp()
        want = (mass * grid).sum(1) / mass.sum(1)
        ours = exact.posterior_mean(X[:, :1], level, MEANS[:, :1], SPREAD, WEIGHTS)
        torch.testing.assert_close(ours[:, 0], want, rtol=1e-9, atol=1e-9)


def test_one_point_is_always_the_answer_and_pure_noise_gives_the_mean():
    point = torch.tensor([[[[0.3, -0.2]]]])
    x = torch.randn(5, 1, 1, 2, generator=torch.Generator().manual_seed(1))
    for level in LEVELS:
        torch.testing.assert_close(exact.posterior_mean(x, level, point), point.expand(5, -1, -1, -1))
    mean = exact.posterior_mean(X, LEVELS[-1], MEANS, SPREAD, WEIGHTS)
    torch.testing.assert_close(mean, (WEIGHTS[:, None] * MEANS).sum(0).expand(7, 2))


def test_far_away_and_nearly_clean_it_is_the_nearest_point():
    far = torch.tensor([[40.0, 3.0], [1.21, -0.4]])
    got = exact.posterior_mean(far, Level(1.0, 1.0, 0.01), MEANS.float())
    torch.testing.assert_close(got, MEANS.float()[[1, 1]])


def test_a_level_for_each_of_the_batch():
    alpha, sigma = torch.linspace(0.2, 0.9, 7).double(), torch.linspace(0.9, 0.3, 7).double()
    for fn in (exact.posterior_mean, exact.log_density):
        together = fn(X, Level(torch.zeros(7), alpha, sigma), MEANS, SPREAD, WEIGHTS)
        alone = [fn(X[i : i + 1], Level(0.0, alpha[i].item(), sigma[i].item()), MEANS, SPREAD, WEIGHTS)
                 for i in range(7)]  # fmt: skip
        torch.testing.assert_close(together, torch.cat(alone))


@pytest.mark.parametrize("sampler", [sample.ddim, sample.ddpm])
def test_samplers_draw_the_mixture(sampler):
    means, spread, weights = MEANS.float(), SPREAD.float(), WEIGHTS.float()
    rows = levels.pick(levels.cosine(), 100, "trailing")
    start = torch.randn(4000, 2, generator=torch.Generator().manual_seed(2))
    *_, x = sampler(exact.denoiser(means, spread, weights), start, rows, generator=torch.Generator().manual_seed(3))
    mean = (weights[:, None] * means).sum(0)
    away = means - mean
    covariance = (weights * away.T) @ away + (weights * spread**2).sum() * torch.eye(2)
    for points in (x, exact.draw(4000, means, spread, weights, torch.Generator().manual_seed(4))):
        assert (points.mean(0) - mean).abs().max() < 0.06  # four standard errors of 4,000 draws
        assert (torch.cov(points.T) - covariance).abs().max() < 0.08
        share = torch.bincount(torch.cdist(points, means).argmin(1), minlength=3) / 4000
        assert (share - weights).abs().max() < 0.04


def test_draws_keep_the_shape_of_pictures():
    pictures = torch.stack([torch.full((1, 2, 2), -1.0), torch.full((1, 2, 2), 1.0)])
    drawn = exact.draw(50, pictures, generator=torch.Generator().manual_seed(0))
    assert drawn.shape == (50, 1, 2, 2) and set(drawn.flatten().tolist()) == {-1.0, 1.0}
