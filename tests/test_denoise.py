"""Prediction rules both ways, and the denoisers made from networks and from other denoisers."""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from minildm import exact, levels
from minildm.denoise import PREDICTIONS, clamped, denoiser, guided, reconstructing, steered, target, to_output, to_x0
from minildm.files import UserError
from minildm.levels import Level, pick, rescaled

SCHEDULES = {
    "linear": levels.linear(),
    "scaled_linear": levels.scaled_linear(),
    "cosine": levels.cosine(),
    "flow": levels.flow(shift=3.0),
}
each_schedule = pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES)
each_prediction = pytest.mark.parametrize("prediction", PREDICTIONS)


class NoDoubles(TorchDispatchMode):
    """Raises if any operation makes a float64 tensor."""

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        out = function(*args, **(kwargs or {}))
        for leaf in tree_leaves(out):
            assert not (isinstance(leaf, torch.Tensor) and leaf.dtype == torch.float64), function
        return out


def pair(*shape, dtype=torch.float64):
    generator = torch.Generator().manual_seed(0)
    return (torch.randn(2, *shape, generator=generator, dtype=torch.float64).to(dtype)).unbind()


def mixed(x0, eps, level):
    return level.alpha * x0 + level.sigma * eps


@each_prediction
@each_schedule
def test_round_trips_at_every_level(schedule, prediction):
    x0, eps = pair(3, 4)
    for index in range(0, 1000, 27):  # both ends are among them
        level = schedule.rows()[index]
        if prediction == "eps" and level.alpha == 0:
            continue
        x = mixed(x0, eps, level)
        out = target(x0, eps, level, prediction)
        # eps divides what is left of x0 by alpha, and the rounding of x with it: 5e-5 in cosine's last row.
        atol = max(1e-12, 1e-15 / level.alpha) if prediction == "eps" else 1e-12
        torch.testing.assert_close(to_x0(out, x, level, prediction), x0, atol=atol, rtol=0)
        torch.testing.assert_close(to_output(x0, x, level, prediction), out, atol=atol, rtol=0)


@pytest.mark.parametrize("prediction", ["v", "x0", "flow"])
def test_pure_noise_can_be_answered(prediction):
    x0, eps = pair(3, 4)
    level = SCHEDULES["flow"].rows()[999]
    assert level.alpha == 0
    out = target(x0, eps, level, prediction)
    torch.testing.assert_close(to_x0(out, eps, level, prediction), x0, atol=1e-12, rtol=0)


def test_what_cannot_be_answered_is_named():
    x0, eps = pair(3, 4)
    with pytest.raises(UserError, match=r"pure noise \(alpha = 0\): got 'eps'; expected one of v, x0, flow"):
        to_x0(eps, eps, Level(999.0, 0.0, 1.0), "eps")
    with pytest.raises(UserError, match=r"clean level \(sigma = 0\): got 'v'; expected x0"):
        to_output(x0, x0, Level(0.0, 1.0, 0.0), "v")
    for call in (
        lambda: target(x0, eps, Level(0.0, 1.0, 0.0), "score"),
        lambda: to_x0(x0, eps, Level(0.0, 1.0, 0.0), "score"),
        lambda: to_output(x0, eps, Level(0.0, 1.0, 0.0), "score"),
        lambda: denoiser(None, "score"),
        lambda: guided(None, None, 2.0, rescale=0.5),
    ):
        with pytest.raises(UserError, match=r"prediction: got .*; expected one of eps, v, x0, flow"):
            call()
    with pytest.raises(UserError, match="frame: got 've'; expected one of vp, flow"):
        denoiser(None, "eps", frame="ve")


def test_v_is_a_quarter_turn_from_x():
    # x = cos(u) x0 + sin(u) eps, so v = dx/du: check against a difference quotient.
    x0, eps = pair(3, 4)
    u, h = torch.tensor([0.7, 1e-6], dtype=torch.float64)

    def state(u):
        return u.cos() * x0 + u.sin() * eps

    slope = (state(u + h) - state(u - h)) / (2 * h)
    v = target(x0, eps, Level(0.0, u.cos().item(), u.sin().item()), "v")
    torch.testing.assert_close(v, slope, atol=1e-9, rtol=0)


@each_prediction
@each_schedule
def test_denoiser_with_floats_and_with_tensors(schedule, prediction):
    """A network that knows the answer gives x0 back, one level for all or one for each picture."""
    x0, eps = pair(4, 3, 2, 2)
    index = torch.tensor([5, 300, 700, 960])
    many = Level(*(table[index] for table in (schedule.t, schedule.alpha, schedule.sigma)))
    told = []

    def answer(x, t, level):
        told.append(t)
        return target(x0, eps, level, prediction)

    wide = Level(many.t, many.alpha.view(4, 1, 1, 1), many.sigma.view(4, 1, 1, 1))
    frame = "flow" if schedule.shift else "vp"
    denoise = denoiser(lambda x, t: answer(x, t, wide), prediction, frame)
    torch.testing.assert_close(denoise(mixed(x0, eps, wide), many), x0, atol=1e-12, rtol=0)

    one = schedule.rows()[300]
    denoise = denoiser(lambda x, t: answer(x, t, one), prediction, frame)
    torch.testing.assert_close(denoise(mixed(x0, eps, one), one), x0, atol=1e-12, rtol=0)

    assert all(t.dtype == torch.float32 and t.shape == (4,) for t in told)
    assert torch.equal(told[0], many.t.float()) and torch.equal(told[1], torch.full((4,), one.t))


@each_prediction
@each_schedule
def test_rescaled_rows_give_the_same_x0(schedule, prediction):
    x, weight = pair(4, 3)
    frame = "flow" if schedule.shift else "vp"
    denoise = denoiser(lambda x, t: torch.tanh(x * weight + t[:, None] / 1000), prediction, frame)
    for level in pick(schedule, 6, "leading")[:-1]:
        (scaled,) = rescaled([level])
        x0 = denoise(x, level)
        torch.testing.assert_close(denoise(x / level.alpha, scaled), x0, atol=1e-12, rtol=1e-13)


def test_condition_reaches_the_network():
    seen = {}

    def network(x, t, context, mask):
        seen.update(context=context, mask=mask, x=x)
        return x

    x = torch.zeros(2, 3)
    context, mask = torch.ones(2, 5), torch.tensor([True, False])
    denoise = denoiser(network, "x0", dtype=torch.bfloat16, context=context, mask=mask)
    assert denoise(x, Level(1.0, 0.8, 0.6)).dtype == torch.float32
    assert seen["context"].dtype == seen["x"].dtype == torch.bfloat16
    assert seen["mask"].dtype == torch.bool
    denoiser(network, "x0", context=context, mask=mask)(x, Level(1.0, 0.8, 0.6))
    assert seen["context"] is context


def test_guidance_mixes():
    x, out = pair(2, 3)
    level = Level(1.0, 0.8, 0.6)
    cond, uncond = (lambda x, level: x + out), (lambda x, level: x - out)
    for scale, expected in [(0.0, x - out), (1.0, x + out), (3.0, x + 5 * out)]:
        torch.testing.assert_close(guided(cond, uncond, scale)(x, level), expected)


@each_prediction
def test_guidance_of_x0_is_guidance_of_the_output(prediction):
    x, noise = pair(2, 3)
    level = SCHEDULES["scaled_linear"].rows()[400]
    outs = noise, noise.flip(0) * 2
    cond, uncond = (lambda x, level, out=out: to_x0(out, x, level, prediction) for out in outs)
    mixed_out = outs[1] + 4.0 * (outs[0] - outs[1])
    expected = to_x0(mixed_out, x, level, prediction)
    torch.testing.assert_close(guided(cond, uncond, 4.0)(x, level), expected, atol=1e-12, rtol=0)


@each_prediction
def test_rescaled_guidance_has_the_spread_of_the_conditional_output(prediction):
    x, noise = pair(3, 8, 8)
    level = SCHEDULES["scaled_linear"].rows()[400]
    outs = noise, noise.flip(0) * 2
    cond, uncond = (lambda x, level, out=out: to_x0(out, x, level, prediction) for out in outs)

    def spread(rescale):
        x0 = guided(cond, uncond, 4.0, rescale, prediction)(x, level)
        return to_output(x0, x, level, prediction).std(dim=(1, 2))

    torch.testing.assert_close(spread(1.0), outs[0].std(dim=(1, 2)), atol=1e-12, rtol=0)
    torch.testing.assert_close(spread(0.3), 0.3 * spread(1.0) + 0.7 * spread(0.0), atol=1e-12, rtol=0)
    # The same picture whatever frame the rows are in.
    full = guided(cond, uncond, 4.0, 0.7, prediction)(x, level)
    (scaled,) = rescaled([level])
    wide_cond, wide_uncond = (lambda x, _, d=d: d(x * level.alpha, level) for d in (cond, uncond))
    wide = guided(wide_cond, wide_uncond, 4.0, 0.7, prediction)(x / level.alpha, scaled)
    torch.testing.assert_close(wide, full, atol=1e-12, rtol=0)


@pytest.mark.parametrize("level", [Level(1.0, 0.8, 0.6), Level(9.0, 0.05, 0.998), Level(2.0, 1.0, 3.0)])
def test_steering_by_a_slope_is_bayes(level):
    """With exact denoisers, and log p(class | x) by Bayes' rule, scale 1 is the class's own denoiser."""
    x = pair(2)[0].repeat(5, 1) * torch.arange(1, 6)[:, None]
    modes = torch.tensor([[-1.0, 0.5], [0.3, 0.7], [1.0, -1.0]], dtype=torch.float64)
    whole, part = exact.denoiser(modes, 0.3), exact.denoiser(modes[:2], 0.3)

    def log_prob(x, level):
        return exact.log_density(x, level, modes[:2], 0.3) - exact.log_density(x, level, modes, 0.3)

    with torch.no_grad():
        close = {"atol": 1e-9, "rtol": 0}
        torch.testing.assert_close(steered(whole, log_prob, 1.0)(x, level), part(x, level), **close)
        assert torch.equal(steered(whole, log_prob, 0.0)(x, level), whole(x, level))
        both = steered(whole, log_prob, 2.5)(x, level), guided(part, whole, 2.5)(x, level)
        torch.testing.assert_close(*both, **close)
    many = Level(*(torch.full((5,), number, dtype=torch.float64) for number in level))
    torch.testing.assert_close(steered(whole, log_prob, 2.5)(x, many), both[0], **close)
    assert not x.requires_grad
    with pytest.raises(UserError, match=r"pure noise \(alpha = 0\)"):
        steered(whole, log_prob, 1.0)(x, Level(999.0, 0.0, 1.0))


def test_clamped():
    x = torch.tensor([[-3.0, 0.2, 7.0]])
    denoise = clamped(lambda x, level: x, -1, 1)
    assert torch.equal(denoise(x, Level(0.0, 0.8, 0.6)), torch.tensor([[-1.0, 0.2, 1.0]]))


@each_prediction
@each_schedule
def test_float32_stays_float32_and_runs_anywhere(schedule, prediction):
    network = torch.nn.Conv2d(3, 3, 1)
    for device, dtype in [("cpu", None), ("cpu", torch.bfloat16), ("meta", None), ("meta", torch.bfloat16)]:
        moved = torch.nn.Conv2d(3, 3, 1, device=device, dtype=dtype)
        if device == "cpu":
            moved.load_state_dict(network.state_dict())

        def call(x, t, moved=moved):
            assert t.dtype == torch.float32
            return moved(x)

        plain = denoiser(call, prediction, dtype=dtype)
        denoise = clamped(guided(plain, plain, 2.0, 0.5, prediction), -1, 1)
        x = torch.zeros(2, 3, 4, 4, device=device)
        index = torch.tensor([3, 800], device=device)
        for choose in (lambda index=index: schedule.at(index), lambda: pick(schedule, 5)[1]):
            with NoDoubles():
                level = choose()
                x0 = denoise(x, level)
                out = target(x, x, level, prediction)
            assert x0.dtype == out.dtype == torch.float32
            assert x0.device.type == out.device.type == device and x0.shape == out.shape == x.shape


@pytest.mark.parametrize("level", [Level(1.0, 0.8, 0.6), Level(9.0, 0.0625, 0.998), Level(2.0, 1.0, 3.0)])
def test_reconstruction_guidance_is_bayes(level):
    """Three normal numbers, the first known: with its true variance for p, the others move to their means given it."""
    like = torch.tensor([[1.0, 0.9, -0.3], [0.9, 1.0, 0.1], [-0.3, 0.1, 2.0]], dtype=torch.float64)
    noisy = level.alpha**2 * like + level.sigma**2 * torch.eye(3, dtype=torch.float64)
    gain = level.alpha * like @ torch.linalg.inv(noisy)  # E[x0 | x] = gain x
    left = like - level.alpha * gain @ like  # the covariance of x0 given x
    x = pair(2, 3, 1, 1)[0]
    known, mask = torch.full_like(x, 1.5), torch.tensor([0.0, 1.0, 1.0], dtype=torch.float64).view(1, 3, 1, 1)

    def best(x, level):
        return (x.flatten(1) @ gain.T).view_as(x)

    plain = best(x, level)
    weight = level.sigma**2 / (level.alpha**2 + level.sigma**2) / left[0, 0].item()
    wanted = plain + (left[:, 0] / left[0, 0]).view(1, 3, 1, 1) * (1.5 - plain[:, :1])
    with torch.no_grad():
        torch.testing.assert_close(reconstructing(best, known, mask, weight)(x, level), wanted, atol=1e-9, rtol=0)
        assert torch.equal(reconstructing(best, known, mask, 0.0)(x, level), plain)
        (scaled,) = rescaled([level])
        wide = reconstructing(lambda x, _: best(x * level.alpha, level), known, mask, weight)(x / level.alpha, scaled)
    torch.testing.assert_close(wide, wanted, atol=1e-9, rtol=0)  # whatever frame the rows are in


@pytest.mark.parametrize("alpha", [0.0, 0.001, 0.01, 0.04])
def test_reconstruction_guidance_ends_in_noise(alpha):
    """Its factor is that of sigma = 20 alpha where there is less picture than that; a network of one slope shows it."""
    x, known, mask = pair(2, 3, 4, 4)[0], torch.full((2, 3, 4, 4), 1.5, dtype=torch.float64), torch.zeros(1, 1, 4, 4)
    mask[..., :2] = 1
    bare = Level(999.0, alpha, 1.0)
    moved = reconstructing(lambda x, _: 0.1 * x, known, mask)(x, bare)
    factor = 20 * (1 + alpha**2)
    wanted = 0.1 * x + torch.where(mask > 0, 0, factor * 0.1 * (known - 0.1 * x))
    torch.testing.assert_close(moved, wanted, atol=1e-9, rtol=0)
    assert not moved.requires_grad and not x.requires_grad
    if alpha:
        (scaled,) = rescaled([bare])
        wide = reconstructing(lambda x, _: 0.1 * alpha * x, known, mask)(x / alpha, scaled)
        torch.testing.assert_close(wide, wanted, atol=1e-9, rtol=0)
