"""Random numbers by (seed, step, sample): the same however a batch is split, and as random as they should be."""

import math

import pytest
import torch

from minildm import draws
from minildm.draws import Draws


def kinds(source, n):
    """One call of each kind, for n samples."""
    return [
        draws.normal((n, 3, 5), source), draws.uniform((n,), source), draws.integers(1000, (n, 2), source),
        draws.normal((n, 4), source),
    ]  # fmt: skip


@pytest.mark.parametrize("ends", [(0, 8), (0, 4, 8), (0, 1, 2, 7, 8)])
def test_any_split_of_a_batch_draws_the_same(ends):
    whole = kinds(Draws(5, 7, range(8)), 8)
    parts = [kinds(Draws(5, 7, range(a, b)), b - a) for a, b in zip(ends, ends[1:], strict=False)]
    for one, split in zip(whole, zip(*parts, strict=True), strict=True):
        assert torch.equal(one, torch.cat(split))


def test_seeds_steps_samples_and_calls_have_numbers_of_their_own():
    """Seven rows of 20,000 normal numbers; correlations have a standard error of 0.007."""
    sources = [Draws(0, 0, range(2)), Draws(0, 1, range(2)), Draws(1, 0, range(2))]
    rows = [draws.normal((2, 20_000), source) for source in sources]
    rows = torch.cat([*rows, draws.normal((2, 20_000), sources[0])[:1]])
    off = torch.corrcoef(rows) - torch.eye(7)
    assert off.abs().max() < 0.035


def test_normal_numbers_are_normal():
    """Against the distribution function itself: a Kolmogorov-Smirnov distance of 1e6 numbers is below 0.002 but for
    one case in 1,500."""
    x = draws.normal((1000, 1000), Draws(3, 0, range(1000))).flatten().double().sort().values
    exact = 0.5 * (1 + torch.erf(x / math.sqrt(2)))
    assert (exact - torch.linspace(0, 1, len(x), dtype=torch.float64)).abs().max() < 0.002
    assert 4 < x.max() < 5.8 and -5.8 < x.min() < -4
    pairs = draws.normal((100_000, 2), Draws(4, 0, range(100_000)))  # both of one hash
    assert abs((pairs[:, 0] * pairs[:, 1]).mean()) < 0.016 and abs((pairs.square().prod(1)).mean() - 1) < 0.05


def test_whole_numbers_and_uniform_ones_fill_their_range():
    source = Draws(1, 2, range(100_000))
    counts = draws.integers(10, (100_000,), source).bincount(minlength=10)
    assert counts.sum() == 100_000 and (counts - 10_000).abs().max() < 5 * 95
    u = draws.uniform((100_000,), source)
    assert u.dtype == torch.float32 and 0 <= u.min() and u.max() < 1 and abs(u.mean() - 0.5) < 5 * 0.0009
    assert draws.integers(3, (5, 2), Draws(0, 0, range(5))).dtype == torch.int64


def test_a_generator_gives_what_torch_gives():
    def seeded():
        return torch.Generator().manual_seed(9)

    assert torch.equal(draws.normal((3, 4), seeded()), torch.randn(3, 4, generator=seeded()))
    assert torch.equal(draws.uniform((7,), seeded()), torch.rand(7, generator=seeded()))
    assert torch.equal(draws.integers(50, (7,), seeded()), torch.randint(50, (7,), generator=seeded()))
    assert draws.places(6, seeded()) == draws.places(6) == range(6)
    assert draws.places(6, Draws(0, 0, range(2, 4))) == range(2, 4)


def test_the_wrong_number_of_samples_is_refused():
    with pytest.raises(RuntimeError, match="shape"):
        draws.normal((3, 2), Draws(0, 0, range(4)))
