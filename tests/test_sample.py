"""The samplers on data whose answer is known: a Gaussian N(mean, spread^2) in every entry.

Its best denoiser is E[x0 | x] = mean + alpha spread^2 / (alpha^2 spread^2 + sigma^2) (x - alpha mean),
and the exact path of sampling without noise keeps (x - alpha mean) / sqrt(alpha^2 spread^2 + sigma^2)
constant.
"""

import math
from itertools import pairwise

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from minildm import levels
from minildm.denoise import denoiser, keep, reconstructing
from minildm.levels import Level, pick, rescaled
from minildm.sample import SAMPLERS, ddim, ddpm, dpmpp_2m, euler, heun, slerp

MEAN, SPREAD = 0.7, 0.4
SCHEDULES = {
    "linear": levels.linear(),
    "scaled_linear": levels.scaled_linear(),
    "cosine": levels.cosine(),
    "flow": levels.flow(),
}
each_schedule = pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES)
each_sampler = pytest.mark.parametrize("name", SAMPLERS)


class NoDoubles(TorchDispatchMode):
    """Raises if any operation makes a float64 tensor."""

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        out = function(*args, **(kwargs or {}))
        for leaf in tree_leaves(out):
            assert not (isinstance(leaf, torch.Tensor) and leaf.dtype == torch.float64), function
        return out


def width(level):
    return math.sqrt((level.alpha * SPREAD) ** 2 + level.sigma**2)


def exact(x, level):
    return MEAN + level.alpha * SPREAD**2 / width(level) ** 2 * (x - level.alpha * MEAN)


def carried(x, level, below):
    """Where the exact path takes x."""
    return below.alpha * MEAN + width(below) / width(level) * (x - level.alpha * MEAN)


def noise(*shape, seed=0, dtype=torch.float64):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def final(states):
    *_, last = states
    return last


def arc(n):
    """Rows along the quarter circle alpha = cos u, sigma = sin u, from nearly noise to nearly clean."""
    angles = [1.5 - 1.4 * i / n for i in range(n + 1)]
    return [Level(u, math.cos(u), math.sin(u)) for u in angles]


def chord(n):
    """Rows along the straight path alpha = 1 - sigma."""
    return [Level(s, 1 - s, s) for s in (0.98 - 0.95 * i / n for i in range(n + 1))]


@pytest.mark.parametrize(
    ("sampler", "order"), [(ddim, 1), (euler, 1), (heun, 2), (dpmpp_2m, 2)], ids=lambda value: str(value)
)
@pytest.mark.parametrize(
    "rows", [arc, chord, lambda n: rescaled(arc(n))], ids=["arc", "chord", "rescaled arc"]
)
def test_order_of_accuracy(sampler, order, rows):
    """Twice the steps: half the error for first order, a quarter for second."""
    x, errors = noise(50), []
    for n in (100, 200, 400):
        path = rows(n)
        start = x * width(path[0]) + path[0].alpha * MEAN
        error = final(sampler(exact, start, path)) - carried(start, path[0], path[-1])
        errors.append(error.abs().max().item())
    slopes = [math.log2(a / b) for a, b in pairwise(errors)]
    assert slopes == pytest.approx([order, order], abs=0.1), errors


@each_schedule
@pytest.mark.parametrize("spacing", levels.SPACINGS)
@pytest.mark.parametrize("frame", ["native", "rescaled"])
def test_euler_is_ddim(schedule, spacing, frame):
    x, weight = noise(2, 5).unbind()
    rows = pick(schedule, 9, spacing)
    if frame == "rescaled" and rows[0].alpha > 0:
        rows = rescaled(rows)

    def denoise(x, level):
        return torch.tanh(x * weight + level.t / 1000)

    for a, b in zip(euler(denoise, x, rows), ddim(denoise, x, rows), strict=True):
        torch.testing.assert_close(a, b, atol=1e-12, rtol=1e-12)


@pytest.mark.parametrize("name", ["linear", "scaled_linear", "cosine"])
def test_noise_of_eta_one_is_the_posterior_of_ddpm(name):
    """Ho et al. 2020, eq. 6 and 7, in their own letters, from the cleanest steps to the noisiest."""
    schedule = SCHEDULES[name]
    # Back to the float32 numbers of the table: near the data 1 - alpha_bar has no digit to spare.
    alpha_bar = (schedule.alpha**2).float().tolist()
    x, x0 = noise(2, 5).unbind()
    for t in range(1, 1000, 37):
        ratio = alpha_bar[t] / alpha_bar[t - 1]
        beta = 1 - ratio
        mean = (
            math.sqrt(alpha_bar[t - 1]) * beta / (1 - alpha_bar[t]) * x0
            + math.sqrt(ratio) * (1 - alpha_bar[t - 1]) / (1 - alpha_bar[t]) * x
        )
        variance = (1 - alpha_bar[t - 1]) / (1 - alpha_bar[t]) * beta
        rows = [schedule.rows()[t], schedule.rows()[t - 1]]
        z = noise(5, seed=3)
        for sampler, options in ((ddim, {"eta": 1.0}), (ddpm, {})):
            (mine,) = sampler(
                lambda x, level: x0, x, rows, generator=torch.Generator().manual_seed(3), **options
            )
            torch.testing.assert_close(mine, mean + math.sqrt(variance) * z, atol=1e-12, rtol=0)


def test_ancestral_step_of_rescaled_rows():
    """Noise up by sqrt(s'^2 (s^2 - s'^2) / s^2), as k-diffusion's ancestral Euler has it."""
    x, x0 = noise(2, 5).unbind()
    s, s_below = 3.0, 1.2
    up = math.sqrt(s_below**2 * (s**2 - s_below**2) / s**2)
    down = math.sqrt(s_below**2 - up**2)
    rows = [Level(1.0, 1.0, s), Level(0.0, 1.0, s_below)]
    (mine,) = ddpm(lambda x, level: x0, x, rows, torch.Generator().manual_seed(3))
    expected = x + (down - s) * (x - x0) / s + up * noise(5, seed=3)
    torch.testing.assert_close(mine, expected, atol=1e-12, rtol=0)


@pytest.mark.parametrize(
    ("name", "n"), [("ddpm", 1000), ("ddim", 500), ("euler", 500), ("heun", 100), ("dpmpp_2m", 100), ("pndm", 100)]
)
@each_schedule
def test_samples_have_the_mean_and_spread_of_the_data(schedule, name, n):
    count, bias = 20_000, 4e-3
    rows = pick(schedule, n, "trailing")
    # Stable Diffusion's noisiest row still has 7% of the picture: start from that row, not from noise.
    x = rows[0].alpha * MEAN + width(rows[0]) * noise(count, dtype=torch.float32)
    x = final(SAMPLERS[name](exact, x, rows, generator=torch.Generator().manual_seed(5)))
    # Five standard errors, and what finitely many steps leave.
    assert abs(x.mean().item() - MEAN) < 5 * SPREAD / math.sqrt(count) + bias
    assert abs(x.std().item() - SPREAD) < 5 * SPREAD / math.sqrt(2 * count) + bias


@each_sampler
@each_schedule
def test_every_state_is_yielded_and_the_last_is_clean(schedule, name):
    x = noise(2, 3, dtype=torch.float32)
    start = x.clone()
    seen = []

    def point(x, level):
        seen.append(level)
        return torch.full_like(x, 0.25)

    rows = pick(schedule, 6, "linspace")
    states = list(SAMPLERS[name](point, x, rows, generator=torch.Generator().manual_seed(0)))
    assert len(states) == 6 and all(state.shape == x.shape for state in states)
    assert len({state.data_ptr() for state in states}) == 6 and torch.equal(x, start)
    # Data that is one point: the last step lands on it, whatever the noise was.
    torch.testing.assert_close(states[-1], torch.full_like(x, 0.25), atol=1e-6, rtol=0)
    assert all(level.sigma > 0 for level in seen)  # nobody asks about a clean picture


@each_sampler
def test_a_start_at_pure_noise_needs_no_logarithm_of_zero(name):
    rows = pick(SCHEDULES["flow"], 20, "linspace")
    assert rows[0].alpha == 0
    states = list(SAMPLERS[name](exact, noise(7), rows, generator=torch.Generator().manual_seed(0)))
    assert all(state.isfinite().all() for state in states)


@pytest.mark.parametrize("name", ["ddim", "ddpm"])
def test_rows_that_end_at_the_first_row(name):
    """From row 0 to row 0 nothing moves."""
    rows = pick(SCHEDULES["scaled_linear"], 5, offset=0, last="first")
    assert rows[-1] == rows[-2]
    states = list(SAMPLERS[name](exact, noise(7), rows, generator=torch.Generator().manual_seed(0)))
    torch.testing.assert_close(states[-1], states[-2], atol=1e-14, rtol=0)


@each_sampler
def test_samplers_own_no_state(name):
    rows = pick(SCHEDULES["scaled_linear"], 8)
    sampler = SAMPLERS[name]

    def start(seed):
        return sampler(exact, noise(7, seed=seed), rows, generator=torch.Generator().manual_seed(seed))

    alone = [list(start(1)), list(start(2))]
    together = list(zip(start(1), start(2), strict=True))
    before = torch.get_rng_state()
    for a, b, (x, y) in zip(*alone, together, strict=True):
        assert torch.equal(a, x) and torch.equal(b, y)
    assert not torch.equal(alone[0][-1], alone[1][-1])
    list(start(3))
    assert torch.equal(torch.get_rng_state(), before)  # a generator given, the global one is left alone


def test_fresh_noise_and_reconstruction_bring_what_is_filled_in_nearer_to_where_it_belongs():
    """Of two numbers with correlation 0.9 the first is known to be 1.5: the second has the mean 0.9 * 1.5. Held to
    the first by `keep`, no sampler gets there, for the model answers as if the first could still change; ddpm gets
    further than ddim, and with reconstruction guidance nearly there."""
    like, known = torch.tensor([[1, 0.9], [0.9, 1]], dtype=torch.float64), 1.5

    def best(x, level):  # the mean of x0 given x, for normal data
        noisy = level.alpha**2 * like + level.sigma**2 * torch.eye(2, dtype=torch.float64)
        return (level.alpha * x.flatten(1) @ torch.linalg.inv(noisy) @ like).view_as(x)

    start, hole = noise(2000, 1, 1, 2), torch.tensor([[[[0.0, 1.0]]]])
    far = {}
    rows = pick(SCHEDULES["cosine"], 50, "trailing")
    for name, weight in (("ddim", 0), ("ddpm", 0), ("ddim", 1), ("ddpm", 1)):
        told = reconstructing(best, torch.full_like(start, known), hole, weight)
        held = keep(told, torch.full_like(start, known), hole, start, rows[0].t)
        filled = final(SAMPLERS[name](held, start, rows, generator=torch.Generator().manual_seed(2)))
        far[name, weight] = 0.9 * known - filled[..., 1].mean().item()
    assert 0.3 < far["ddpm", 0] < 0.75 * far["ddim", 0]
    assert 0 < far["ddpm", 1] < far["ddim", 1] < 0.25 * far["ddim", 0]


def test_noise_is_drawn_on_the_cpu_for_every_device():
    rows = pick(SCHEDULES["scaled_linear"], 8)
    states = []
    for device in ("cpu", "meta"):
        generator = torch.Generator().manual_seed(0)
        list(ddpm(exact, noise(7).to(device), rows, generator))
        states.append(generator.get_state())
    assert torch.equal(*states)
    assert not torch.equal(states[0], torch.Generator().manual_seed(0).get_state())


def test_only_the_stochastic_samplers_draw():
    rows = pick(SCHEDULES["scaled_linear"], 8)
    for name, sampler in SAMPLERS.items():
        ends = [
            final(sampler(exact, noise(7), rows, generator=torch.Generator().manual_seed(s))) for s in (0, 1)
        ]
        assert torch.equal(*ends) == (name != "ddpm")
    ends = [final(ddim(exact, noise(7), rows, 0.5, torch.Generator().manual_seed(s))) for s in (0, 1)]
    assert not torch.equal(*ends)


@each_sampler
def test_no_gradients_while_sampling_and_none_lost_outside(name):
    weight = torch.ones(7, requires_grad=True)
    for state in SAMPLERS[name](lambda x, level: x * weight, noise(7), pick(SCHEDULES["linear"], 4)):
        assert not state.requires_grad
        assert torch.is_grad_enabled()  # between two states the caller's setting holds


@each_sampler
@pytest.mark.parametrize("prediction", ["eps", "v", "x0", "flow"])
@pytest.mark.parametrize("device", ["cpu", "meta"])
@pytest.mark.parametrize("dtype", [None, torch.bfloat16], ids=str)
def test_state_stays_float32_on_every_device(name, prediction, device, dtype):
    network = torch.nn.Conv2d(3, 3, 1, device=device, dtype=dtype)
    schedule = SCHEDULES["flow" if prediction == "flow" else "scaled_linear"]
    x = torch.ones(2, 3, 4, 4, device=device)
    with NoDoubles():
        denoise = denoiser(lambda x, t: network(x), prediction, dtype=dtype)
        rows = pick(schedule, 4, "linspace")
        states = list(SAMPLERS[name](denoise, x, rows, generator=torch.Generator().manual_seed(0)))
    assert len(states) == 4
    for state in states:
        assert state.dtype == torch.float32 and state.device.type == device
        assert device == "meta" or state.isfinite().all()


@pytest.mark.parametrize("t", [0.0, 0.3, 1.0])
def test_slerp_turns_each_noise_by_its_own_angle(t):
    """In the plane of complex numbers a turn is a product: there the answer is known."""
    start, turn, length = torch.tensor([0.4, 2.0, -1.0, 0.3]), torch.tensor([1.5, 0.01, -3.0, 0.0]), 2.5
    a, b, want = (torch.polar(torch.full((4,), length), start + share * turn) for share in (0.0, 1.0, t))
    a, b, want = (torch.view_as_real(z.to(torch.complex128)) for z in (a, b, want))
    torch.testing.assert_close(slerp(a, b, t), want, atol=1e-5, rtol=0)
    wide = [x.view(4, 2, 1, 1).repeat(1, 3, 2, 2) for x in (a, b, want)]
    torch.testing.assert_close(slerp(*wide[:2], t), wide[2], atol=1e-5, rtol=0)


def test_slerp_of_opposite_noises_does_not_fly_off():
    a = torch.randn(3, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    assert slerp(a, -a, 0.4).norm() <= a.norm()
    torch.testing.assert_close(slerp(a, a, 0.4), a)
