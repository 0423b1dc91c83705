"""The tables of levels and the rows chosen from them."""

import json
import math
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch

from minildm import levels
from minildm.files import UserError
from minildm.levels import Level, log_snr, pick, rescaled

FACTS = json.loads((Path(__file__).parent / "fixtures" / "schedules.json").read_text(encoding="utf-8"))
SCHEDULES = {
    "linear": levels.linear(),
    "scaled_linear": levels.scaled_linear(),
    "cosine": levels.cosine(),
    "sigmoid": levels.sigmoid(),
    "shifted": levels.shifted(levels.cosine(), 4.0),
    "flow": levels.flow(),
    "flow, shift 3": levels.flow(shift=3.0),
}
each_schedule = pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES)


def times(rows):
    return [row.t for row in rows]


def sigmas(rows):
    return [row.sigma / row.alpha for row in rows]


@each_schedule
def test_tables_are_wide_and_noise_rises(schedule):
    assert len(schedule) == 1000
    for table in (schedule.t, schedule.alpha, schedule.sigma):
        assert table.dtype == torch.float64 and table.shape == (1000,) and table.device.type == "cpu"
    assert (schedule.t.diff() > 0).all()
    assert (schedule.sigma.diff() > 0).all() and (schedule.alpha.diff() < 0).all()


@pytest.mark.parametrize("name", ["linear", "scaled_linear", "cosine", "sigmoid", "shifted"])
def test_variance_is_preserved(name):
    schedule = SCHEDULES[name]
    torch.testing.assert_close(
        schedule.alpha**2 + schedule.sigma**2, torch.ones(1000).double(), atol=1e-15, rtol=0
    )


@pytest.mark.parametrize("shift", [1.0, 3.0])
def test_flow_is_a_straight_path_to_pure_noise(shift):
    schedule = levels.flow(shift=shift)
    torch.testing.assert_close(schedule.alpha + schedule.sigma, torch.ones(1000).double(), atol=1e-15, rtol=0)
    assert (schedule.t[-1], schedule.alpha[-1], schedule.sigma[-1]) == (1000.0, 0.0, 1.0)
    # Half way along the unshifted path, the shift turns odds of 1 to 1 into odds of shift to 1.
    assert schedule.sigma[499].item() == pytest.approx(shift / (1 + shift), abs=1e-7)


def test_linear_is_the_product_of_its_betas():
    betas = [1e-4 + (0.02 - 1e-4) * i / 999 for i in range(1000)]
    product = torch.tensor([1 - beta for beta in betas], dtype=torch.float64).cumprod(0)
    torch.testing.assert_close(SCHEDULES["linear"].alpha ** 2, product, atol=1e-6, rtol=1e-4)


def test_cosine_follows_the_formula_until_the_cap():
    def squared_cosine(u):
        return math.cos((u + 0.008) / 1.008 * math.pi / 2) ** 2

    for i in (0, 250, 500, 750, 990):
        expected = squared_cosine((i + 1) / 1000) / squared_cosine(0)
        assert SCHEDULES["cosine"].alpha[i].item() ** 2 == pytest.approx(expected, rel=2e-5)
    last = SCHEDULES["cosine"].alpha[-2:] ** 2
    assert (last[1] / last[0]).item() == pytest.approx(1 - 0.999, rel=1e-4)


@pytest.mark.parametrize("start, end, tau", [(-3, 3, 1), (0, 3, 0.8)])
def test_sigmoid_follows_the_formula_until_the_cut(start, end, tau):
    def logistic(u):
        return 1 / (1 + math.exp(-(start + (end - start) * u) / tau))

    alpha_bar = levels.sigmoid(100, start, end, tau).alpha ** 2
    for i in (0, 24, 49, 98):
        expected = (logistic(1) - logistic((i + 1) / 100)) / (logistic(1) - logistic(0))
        assert alpha_bar[i].item() == pytest.approx(expected, rel=1e-10)
    assert alpha_bar[-1].item() == pytest.approx(1e-9)
    half_way = levels.sigmoid(100).alpha[49] ** 2  # by symmetry
    assert half_way.item() == pytest.approx(0.5, abs=1e-15)


@pytest.mark.parametrize("name", ["scaled_linear", "sigmoid"])
@pytest.mark.parametrize("ratio", [0.5, 1.0, 4.0])
def test_shifted_lowers_log_snr_everywhere_by_the_same(name, ratio):
    before, after = SCHEDULES[name], levels.shifted(SCHEDULES[name], ratio)
    assert torch.equal(before.t, after.t)
    torch.testing.assert_close(after.alpha**2 + after.sigma**2, torch.ones(1000).double(), atol=1e-15, rtol=0)
    for row, moved in zip(before.rows(), after.rows(), strict=True):
        assert log_snr(moved) == pytest.approx(log_snr(row) - 2 * math.log(ratio), abs=1e-12)


def test_shifted_averages_to_the_same_noise():
    """Blocks of 2 x 2 pixels, averaged: the larger picture under the shifted table is the smaller one again."""
    before, after = SCHEDULES["scaled_linear"], levels.shifted(SCHEDULES["scaled_linear"], 2.0)
    block = after.sigma / 2 / after.alpha  # noise against picture, in the mean of four pixels
    torch.testing.assert_close(block, before.sigma / before.alpha, atol=0, rtol=1e-12)


def test_shifted_pure_noise_and_flow():
    mended = levels.shifted(levels.zero_terminal_snr(SCHEDULES["scaled_linear"]), 4.0)
    assert (mended.alpha[-1], mended.sigma[-1]) == (0.0, 1.0)
    with pytest.raises(UserError, match="schedule to shift: got 'flow'"):
        levels.shifted(SCHEDULES["flow"], 2.0)


@pytest.mark.parametrize("shift", [0.5, 3.0])
def test_the_shift_of_flow_lowers_log_snr_too(shift):
    for row, moved in zip(SCHEDULES["flow"].rows()[:-1], levels.flow(shift=shift).rows()[:-1], strict=True):
        assert log_snr(moved) == pytest.approx(log_snr(row) - 2 * math.log(shift), abs=1e-3)


def test_scaled_linear_is_the_published_table():
    for index, alpha_bar in FACTS["alphas_cumprod"].items():
        assert SCHEDULES["scaled_linear"].alpha[int(index)].item() ** 2 == pytest.approx(alpha_bar, rel=2e-7)


@each_schedule
def test_at_gathers_float32_rows(schedule):
    index = torch.tensor([999, 0, 17])
    level = schedule.at(index)
    for value, table in zip(level, (schedule.t, schedule.alpha, schedule.sigma), strict=True):
        assert value.dtype == torch.float32 and value.shape == (3,)
        assert torch.equal(value, table[index].float())
    assert all(value.device.type == "meta" for value in schedule.at(index.to("meta")))


@pytest.mark.parametrize("n", [5, 20])
def test_rows_of_published_samplers(n):
    schedule, facts = SCHEDULES["scaled_linear"], FACTS["schedules"]

    assert times(pick(schedule, n)[:-1]) == facts[f"ddim/{n}"]["timesteps"]

    euler = pick(schedule, n, "linspace")
    assert times(euler[:-1]) == pytest.approx(facts[f"euler/{n}"]["timesteps"], rel=1e-6)
    assert sigmas(euler) == pytest.approx(facts[f"euler/{n}"]["sigmas"], rel=3e-7)

    # DPM-Solver's own linspace: one row more, rounded, and the row before the end left out.
    dpm = pick(schedule, n + 1, "rounded")
    del dpm[-2]
    assert times(dpm[:-1]) == facts[f"dpmpp_2m/{n}"]["timesteps"]
    assert sigmas(dpm) == pytest.approx(facts[f"dpmpp_2m/{n}"]["sigmas"], rel=3e-7)

    flow = pick(SCHEDULES["flow, shift 3"], n, "linspace")
    assert times(flow[:-1]) == pytest.approx(facts[f"flow_euler_shift3/{n}"]["timesteps"], rel=3e-7)
    assert [row.sigma for row in flow] == pytest.approx(facts[f"flow_euler_shift3/{n}"]["sigmas"], rel=3e-7)


def test_leading_rows_in_the_variance_exploding_frame():
    facts = FACTS["schedules"]["euler_leading/5"]
    rows = rescaled(pick(SCHEDULES["scaled_linear"], 5))
    assert times(rows[:-1]) == facts["timesteps"]
    assert [row.sigma for row in rows] == pytest.approx(facts["sigmas"], rel=3e-7)
    assert {row.alpha for row in rows} == {1.0}


@each_schedule
@pytest.mark.parametrize("spacing", levels.SPACINGS)
@pytest.mark.parametrize("n", [1, 2, 7, 20, 999, 1000])
def test_rows_are_floats_and_noise_falls(schedule, spacing, n):
    rows = pick(schedule, n, spacing)
    assert len(rows) == n + 1 and rows[-1] == Level(0.0, 1.0, 0.0)
    assert all(type(value) is float for row in rows for value in row)
    assert all(a.sigma > b.sigma and a.t >= b.t for a, b in pairwise(rows))
    if spacing != "leading":
        assert rows[0] == schedule.rows()[999]  # noise is what sampling starts from


@pytest.mark.parametrize("spacing", ["leading", "trailing", "rounded"])
def test_places_round_as_numpy_rounds_them(spacing):
    schedule = levels.linear()
    for n in [*range(2, 130), *range(130, 1001, 7)]:  # about 20 of these have places half way between rows
        if spacing == "leading":
            expected = np.arange(n) * (1000 // n)
        elif spacing == "rounded":
            expected = np.linspace(0, 999, n).round()
        else:  # numpy's arange now and then runs one too far
            expected = (np.round(np.arange(1000, 0, -1000 / n)) - 1)[:n][::-1]
        assert times(pick(schedule, n, spacing, offset=0)[:-1]) == expected[::-1].tolist()


def test_offset_and_last_row():
    schedule = SCHEDULES["scaled_linear"]
    assert times(pick(schedule, 4, offset=0)) == [750, 500, 250, 0, 0]
    assert times(pick(schedule, 4, offset=1)) == [751, 501, 251, 1, 0]
    assert times(pick(schedule, 1000, offset=1)) == [*range(999, -1, -1), 0]
    assert pick(schedule, 4, last="first")[-1] == schedule.rows()[0]
    assert pick(schedule, 4, last="first")[:-1] == pick(schedule, 4)[:-1]


def test_a_row_between_two_rows_lies_between():
    schedule = SCHEDULES["scaled_linear"]
    row = pick(schedule, 5, "linspace")[1]
    below, above = schedule.rows()[749], schedule.rows()[750]
    assert row.t == 749.25
    assert row.alpha**2 + row.sigma**2 == pytest.approx(1, abs=1e-15)
    ratio = 0.75 * below.sigma / below.alpha + 0.25 * above.sigma / above.alpha
    assert row.sigma / row.alpha == pytest.approx(ratio, rel=1e-14)


@pytest.mark.parametrize("n", [0, -1, 1001, 2.0, "20", True, None])
def test_a_wrong_number_of_steps_is_named(n):
    with pytest.raises(UserError, match=r"steps: got .*; expected a whole number from 1 to 1000"):
        pick(SCHEDULES["linear"], n)


def test_wrong_words_are_named():
    with pytest.raises(UserError, match="spacing: got 'karras'; expected one of leading, trailing"):
        pick(SCHEDULES["linear"], 5, "karras")
    with pytest.raises(UserError, match="last row: got 'zero'; expected one of clean, first"):
        pick(SCHEDULES["linear"], 5, last="zero")
    with pytest.raises(UserError, match=r"alpha of a row to rescale: got 0\.0"):
        rescaled(pick(SCHEDULES["flow"], 5, "linspace"))


def test_log_snr():
    assert log_snr(Level(0.0, 0.8, 0.6)) == pytest.approx(math.log(0.64 / 0.36))
    assert log_snr(Level(0.0, 1.0, 0.0)) == math.inf
    assert log_snr(Level(0.0, 0.0, 1.0)) == -math.inf
    index = torch.tensor([3, 600])
    schedule = SCHEDULES["cosine"]
    expected = torch.tensor([log_snr(schedule.rows()[3]), log_snr(schedule.rows()[600])])
    torch.testing.assert_close(log_snr(schedule.at(index)), expected, atol=1e-5, rtol=1e-5)
    # Rescaling a row leaves its ratio of signal to noise alone.
    for a, b in zip(pick(schedule, 6)[:-1], rescaled(pick(schedule, 6)[:-1]), strict=True):
        assert log_snr(a) == pytest.approx(log_snr(b), rel=1e-14)
