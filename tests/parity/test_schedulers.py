"""Our rows, denoisers and samplers against the schedulers of diffusers, in float64.

The reference rounds its tables and states to float32 as it goes. Here it keeps its published float32 table of
alpha-bar, widened, and computes everything after that in float64: then what is left is rounding.
"""

from contextlib import ExitStack, contextmanager
from unittest import mock

import diffusers
import numpy as np
import pytest
import torch
from diffusers.schedulers import (
    scheduling_ddim,
    scheduling_ddpm,
    scheduling_dpmsolver_multistep,
    scheduling_euler_ancestral_discrete,
    scheduling_euler_discrete,
    scheduling_flow_match_euler_discrete,
    scheduling_flow_match_heun_discrete,
    scheduling_heun_discrete,
    scheduling_pndm,
)

from minildm import levels
from minildm.denoise import denoiser
from minildm.levels import karras, pick, rescaled, zero_terminal_snr
from minildm.sample import ddim, ddpm, dpmpp_2m, euler, heun, pndm

# Inside diffusers: np.array(tensor) with recent numpy.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept:DeprecationWarning")

TOLERANCE = 1e-10
SHAPE = (2, 3, 4, 4)
BETAS = {
    "linear": (levels.linear(), {"beta_schedule": "linear", "beta_start": 1e-4, "beta_end": 0.02}),
    "scaled_linear": (
        levels.scaled_linear(),
        {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012},
    ),
    "cosine": (levels.cosine(), {"beta_schedule": "squaredcos_cap_v2"}),
}
PREDICTIONS = {"eps": "epsilon", "v": "v_prediction", "x0": "sample"}

each_table = pytest.mark.parametrize("table", BETAS)
each_prediction = pytest.mark.parametrize("prediction", PREDICTIONS)
# spacing, steps_offset, number of steps (7 and 12 do not divide 1000)
each_spacing = pytest.mark.parametrize(
    ("spacing", "offset", "n"),
    [("leading", 1, 10), ("leading", 0, 7), ("trailing", 0, 10), ("trailing", 0, 12), ("linspace", 0, 10)],
)


class Wide:
    """A module that answers float64 where it is asked for float32."""

    def __init__(self, module):
        self.module = module

    def __getattr__(self, name):
        return getattr(self.module, "float64" if name == "float32" else name)


@contextmanager
def widened(module):
    with ExitStack() as stack:
        stack.enter_context(mock.patch.object(module, "torch", Wide(torch)))
        if hasattr(module, "np"):
            stack.enter_context(mock.patch.object(module, "np", Wide(np)))
        yield


def make(name, **config):
    scheduler = getattr(diffusers, name)(**config)
    for table in ("alphas_cumprod", "final_alpha_cumprod"):
        if hasattr(scheduler, table):
            setattr(scheduler, table, getattr(scheduler, table).double())
    return scheduler


def network(x, t):
    """Any smooth function of the noisy picture and of time does for a network."""
    weight = torch.linspace(-1, 1, x[0].numel(), dtype=x.dtype).view(x.shape[1:])
    t = torch.as_tensor(t).float().to(x.dtype).view(-1, 1, 1, 1)
    return torch.tanh(x.flip(-1) * weight + torch.sin(t / 100)) * 0.9


def noise():
    return torch.randn(SHAPE, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def seeded():
    return torch.Generator().manual_seed(2)


def walk(module, scheduler, n, **options):
    """The reference's start and its state after every call of the network."""
    with widened(module):
        scheduler.set_timesteps(n)
        x = noise() * scheduler.init_noise_sigma
        states = [x]
        for t in scheduler.timesteps:
            out = network(scheduler.scale_model_input(x, t), t)
            x = scheduler.step(out, t, x, **options).prev_sample
            states.append(x)
    assert all(state.dtype == torch.float64 for state in states)
    return states


def agree(mine, theirs, tolerance=TOLERANCE):
    """Every state, within the tolerance times its largest entry, or times 1 if that is more.

    (x / alpha starts at 2e4 with the cosine table.)
    """
    for ours, other in zip(list(mine), theirs, strict=True):
        torch.testing.assert_close(ours, other, atol=tolerance * max(1.0, other.abs().max().item()), rtol=0)


@each_table
def test_tables_are_equal_to_the_last_bit(table):
    schedule, config = BETAS[table]
    reference = diffusers.DDPMScheduler(**config).alphas_cumprod
    # A square root in float64, squared, still rounds to the float32 it came from.
    assert torch.equal((schedule.alpha**2).float(), reference)
    assert torch.equal((1 - schedule.sigma**2).float(), reference)


@pytest.mark.parametrize("shift", [1.0, 3.0])
def test_flow_table_is_equal_to_the_last_bit(shift):
    schedule = levels.flow(shift=shift)
    reference = diffusers.FlowMatchEulerDiscreteScheduler(shift=shift)
    assert torch.equal(schedule.sigma.float(), reference.sigmas.flip(0))
    assert torch.equal(schedule.t.float(), reference.timesteps.flip(0))


@pytest.mark.parametrize("last", ["clean", "first"])
@pytest.mark.parametrize("eta", [0.0, 0.6, 1.0])
@each_prediction
@each_table
@pytest.mark.parametrize(
    ("spacing", "offset", "n"), [("leading", 1, 10), ("leading", 0, 7), ("trailing", 0, 10)]
)
def test_ddim(table, prediction, eta, last, spacing, offset, n):
    # The reference's DDIM always steps to t - 1000 // n, which is the next t for these spacings only.
    schedule, config = BETAS[table]
    reference = make(
        "DDIMScheduler",
        **config,
        prediction_type=PREDICTIONS[prediction],
        clip_sample=False,
        set_alpha_to_one=last == "clean",
        timestep_spacing=spacing,
        steps_offset=offset,
    )
    theirs = walk(scheduling_ddim, reference, n, eta=eta, generator=seeded())
    rows = pick(schedule, n, spacing, offset, last)
    agree(ddim(denoiser(network, prediction), noise(), rows, eta, seeded()), theirs[1:])


@each_prediction
@each_table
@each_spacing
def test_ddpm(table, prediction, spacing, offset, n):
    schedule, config = BETAS[table]
    reference = make(
        "DDPMScheduler",
        **config,
        prediction_type=PREDICTIONS[prediction],
        clip_sample=False,
        timestep_spacing=spacing,
        steps_offset=offset,
    )
    theirs = walk(scheduling_ddpm, reference, n, generator=seeded())
    rows = pick(schedule, n, "rounded" if spacing == "linspace" else spacing, offset)
    mine = list(ddpm(denoiser(network, prediction), noise(), rows, seeded()))
    agree(mine[:-1], theirs[1:-1])
    # A last step from t > 0 still gets noise of size 1e-10 in the reference.
    agree(mine[-1:], theirs[-1:], tolerance=1e-9)


def native(rows, states):
    """States of x / alpha brought back to x; one more row than steps."""
    return [row.alpha * state for row, state in zip(rows, states, strict=True)]


@each_prediction
@each_table
@each_spacing
@pytest.mark.parametrize("frame", ["native", "rescaled"])
def test_euler(table, prediction, spacing, offset, n, frame):
    schedule, config = BETAS[table]
    reference = make(
        "EulerDiscreteScheduler",
        **config,
        prediction_type=PREDICTIONS[prediction],
        timestep_spacing=spacing,
        steps_offset=offset,
    )
    theirs = walk(scheduling_euler_discrete, reference, n)
    rows = pick(schedule, n, spacing, offset)
    if frame == "native":
        theirs = native(rows, theirs)
    else:
        rows = rescaled(rows)
    agree(euler(denoiser(network, prediction), theirs[0], rows), theirs[1:])
    agree(ddim(denoiser(network, prediction), theirs[0], rows), theirs[1:])


@pytest.mark.parametrize("prediction", ["eps", "v"])  # the reference has no x0 prediction here
@each_table
@each_spacing
def test_euler_ancestral_is_ddim_with_noise_on_rescaled_rows(table, prediction, spacing, offset, n):
    schedule, config = BETAS[table]
    reference = make(
        "EulerAncestralDiscreteScheduler",
        **config,
        prediction_type=PREDICTIONS[prediction],
        timestep_spacing=spacing,
        steps_offset=offset,
    )
    theirs = walk(scheduling_euler_ancestral_discrete, reference, n, generator=seeded())
    rows = rescaled(pick(schedule, n, spacing, offset))
    agree(ddim(denoiser(network, prediction), theirs[0], rows, 1.0, seeded()), theirs[1:])


@each_prediction
@each_table
@each_spacing
def test_heun_on_rescaled_rows(table, prediction, spacing, offset, n):
    schedule, config = BETAS[table]
    reference = make(
        "HeunDiscreteScheduler",
        **config,
        prediction_type=PREDICTIONS[prediction],
        timestep_spacing=spacing,
        steps_offset=offset,
    )
    theirs = walk(scheduling_heun_discrete, reference, n)
    assert len(theirs) == 2 * n  # two calls a step, one in the last
    rows = rescaled(pick(schedule, n, spacing, offset))
    agree(heun(denoiser(network, prediction), theirs[0], rows), [*theirs[2::2], theirs[-1]])


@each_prediction
@each_table
@pytest.mark.parametrize("n", [6, 20])  # the reference treats fewer than 15 steps apart
@pytest.mark.parametrize(("spacing", "offset"), [("linspace", 0), ("leading", 1), ("trailing", 0)])
def test_dpmpp_2m(table, prediction, spacing, offset, n):
    schedule, config = BETAS[table]
    reference = make(
        "DPMSolverMultistepScheduler",
        **config,
        prediction_type=PREDICTIONS[prediction],
        timestep_spacing=spacing,
        steps_offset=offset,
    )
    theirs = walk(scheduling_dpmsolver_multistep, reference, n)
    if spacing == "trailing":
        rows = pick(schedule, n, spacing)
    else:  # the reference spaces one row more than it needs and drops the last before the end
        rows = pick(schedule, n + 1, "rounded" if spacing == "linspace" else spacing, offset)
        del rows[-2]
    agree(dpmpp_2m(denoiser(network, prediction), noise(), rows), theirs[1:])


@each_table
@pytest.mark.parametrize("last", ["clean", "first"])
@pytest.mark.parametrize(("n", "offset"), [(1, 1), (2, 1), (3, 1), (4, 0), (10, 1), (50, 1)])
def test_pndm(table, last, n, offset):
    schedule, config = BETAS[table]
    reference = make(
        "PNDMScheduler", **config, skip_prk_steps=True, set_alpha_to_one=last == "clean", steps_offset=offset
    )
    theirs = walk(scheduling_pndm, reference, n)
    assert len(theirs) == (n + 2 if n > 1 else 2)  # two calls in the first step
    rows = pick(schedule, n, "leading", offset, last)
    agree(pndm(denoiser(network, "eps"), noise(), rows), theirs[1:] if n == 1 else theirs[2:])


# The reference holds these in float32; the states keep that error.
@pytest.mark.parametrize("n", [5, 20])
@pytest.mark.parametrize("spacing, offset", [("linspace", 0), ("leading", 1)])
def test_karras_spacing(n, spacing, offset):
    schedule, config = BETAS["scaled_linear"]
    more = {"use_karras_sigmas": True, "timestep_spacing": spacing, "steps_offset": offset}
    reference = make("EulerDiscreteScheduler", **config, **more)
    theirs = walk(scheduling_euler_discrete, reference, n)
    rows = karras(schedule, pick(schedule, n, spacing, offset))
    np.testing.assert_allclose([row.sigma for row in rescaled(rows)][:-1], reference.sigmas[:-1], rtol=1e-5)
    np.testing.assert_allclose([row.t for row in rows][:-1], reference.timesteps, rtol=1e-5, atol=1e-4)
    agree(euler(denoiser(network, "eps"), theirs[0], rescaled(rows)), theirs[1:], tolerance=1e-5)


@pytest.mark.parametrize("table", ["linear", "scaled_linear"])
def test_zero_terminal_snr(table):
    schedule, config = BETAS[table]
    more = {"rescale_betas_zero_snr": True, "prediction_type": "v_prediction", "timestep_spacing": "trailing"}
    reference = make("DDIMScheduler", **config, **more, clip_sample=False)
    flat = zero_terminal_snr(schedule)
    assert flat.alpha[-1] == 0 and flat.sigma[-1] == 1
    np.testing.assert_allclose(flat.alpha**2, reference.alphas_cumprod, atol=1e-6)  # made in float32 there
    theirs = walk(scheduling_ddim, reference, 10)
    agree(ddim(denoiser(network, "v"), noise(), pick(flat, 10, "trailing")), theirs[1:], tolerance=1e-5)


def walk_flow(module, scheduler, n):
    """`walk` for the flow schedulers, which neither scale their start nor the network's input."""
    with widened(module):
        scheduler.set_timesteps(n)
        states = [noise()]
        for t in scheduler.timesteps:
            states.append(scheduler.step(network(states[-1], t), t, states[-1]).prev_sample)
    return states


@pytest.mark.parametrize("shift", [1.0, 3.0])
@pytest.mark.parametrize("n", [5, 28])
def test_flow_match_euler(shift, n):
    reference = diffusers.FlowMatchEulerDiscreteScheduler(shift=shift)
    theirs = walk_flow(scheduling_flow_match_euler_discrete, reference, n)
    rows = pick(levels.flow(shift=shift), n, "linspace")
    np.testing.assert_allclose([row.sigma for row in rows], reference.sigmas, atol=1e-12)
    agree(euler(denoiser(network, "flow"), noise(), rows), theirs[1:])
    agree(ddim(denoiser(network, "flow"), noise(), rows), theirs[1:])


@pytest.mark.parametrize("shift", [1.0, 3.0])
@pytest.mark.parametrize("n", [5, 28])
def test_flow_match_heun(shift, n):
    reference = diffusers.FlowMatchHeunDiscreteScheduler(shift=shift)
    theirs = walk_flow(scheduling_flow_match_heun_discrete, reference, n)
    rows = pick(levels.flow(shift=shift), n, "linspace")
    agree(heun(denoiser(network, "flow"), noise(), rows), [*theirs[2::2], theirs[-1]])
