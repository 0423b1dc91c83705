"""Lesson 08, samplers: two steps of second order, one that looks ahead and one that looks at the middle."""

import math
from collections.abc import Callable
from itertools import pairwise

import torch
from torch import Tensor

from ... import levels
from ...levels import Denoiser, Level
from . import Exercise, Wrong, expect, hint_for
from .lesson_08 import BELL, THREE, even, width

STEPS = (
    (Level(600.0, 0.6, 0.8), Level(400.0, 0.8, 0.6)),
    (Level(300.0, 0.8, 0.6), Level(100.0, 0.96, 0.28)),
)
PLACES = torch.tensor([[-1.6], [-0.5], [0.1], [0.7], [1.9]], dtype=torch.float64)


def eps_of(x: Tensor, x0: Tensor, level: Level) -> Tensor:
    return (x - level.alpha * x0) / level.sigma


def falls_with_the_square(step: Callable, name: str) -> None:
    """Data of one bell curve, where the end is known: twice the steps, a quarter of the error."""
    errors = []
    for n in (10, 20, 40):
        rows = even(n)
        x = torch.full((1, 1), width(rows[0]), dtype=torch.float64)
        for level, below in pairwise(rows):
            x = step(BELL, x, level, below)
        errors.append(abs(x.item() / width(rows[-1]) - 1))
    slope = math.log2(errors[0] / errors[2]) / 2
    if not 1.7 < slope < 2.4:
        what = f"With 10, 20 and 40 steps {name} errs by {', '.join(f'{e:.1e}' for e in errors)}: slope {slope:.1f}"
        raise Wrong(what + "; it should be about 2", "Euler has slope 1. Is the second answer used, in every step?")


# 08.heun

AHEAD = {
    "euler": "That is Euler's step: the answer at the place ahead is not used.",
    "end": "You step along the slope of the end alone. That errs as much as Euler, to the other side: take the mean of "
    "both.",
    "from ahead": "You step on from the place ahead. It was only a look: the real step starts at x again, along the "
    "mean.",
    "mean of places": "You average places, and it is the slopes that are averaged: half of the way is not half of the "
    "slope. Average the two x0 and the two eps, and step from x.",
    "sum": "The two answers are added up. Their MEAN is wanted: half of it.",
    "eps of level": "The place ahead lies at `below`: read its eps with the two numbers of `below`.",
    "asked level": "The place ahead lies at `below`: that is the level to ask the denoiser about.",
    "asked x": "The second question is about the place ahead, and not about x, which does not lie at `below`.",
    "x0 only": "You average the two x0, but keep the eps of the start. Both change along the way; average both.",
    "one eps": "That is a good method, too: ddim's step with the mean of two x0, which is Heun in another frame. Here "
    "take the mean of the two eps as well, each read where it was asked.",
}
DIVIDED = (
    "nan: where below.sigma is 0 there is no noise to divide by at the place ahead. In that step Euler's step is "
    "taken, with one question."
)


def heun(denoise: Denoiser, x: Tensor, level: Level, below: Level, change: str = "") -> Tensor:
    """The step, or what a change to it leads to."""
    x0 = denoise(x, level)
    eps = eps_of(x, x0, level)
    da, ds = below.alpha - level.alpha, below.sigma - level.sigma
    ahead = x + da * x0 + ds * eps
    if change == "euler" or below.sigma == 0:
        return ahead
    asked = x if change == "asked x" else ahead
    end = denoise(asked, level if change == "asked level" else below)
    eps_end = eps_of(asked, end, level if change == "eps of level" else below)
    half = 1.0 if change == "sum" else 0.5
    mean, mean_eps = half * (x0 + end), half * (eps + eps_end)
    if change == "end":
        mean, mean_eps = end, eps_end
    if change == "x0 only":
        mean_eps = eps
    if change == "one eps":
        mean_eps = eps_of(x, mean, level)
        return below.alpha * mean + below.sigma * mean_eps
    if change == "mean of places":
        return (ahead + ahead + da * end + ds * eps_end) / 2
    return (ahead if change == "from ahead" else x) + da * mean + ds * mean_eps


def looks_ahead(fn: Callable) -> None:
    for level, below in STEPS:
        got = fn(THREE, PLACES, level, below)
        known = [(heun(THREE, PLACES, level, below, change), AHEAD[change]) for change in AHEAD]
        known += [((PLACES + heun(THREE, PLACES, level, below, "euler")) / 2, AHEAD["mean of places"])]
        call = f"heun_step from sigma {level.sigma} to sigma {below.sigma}"
        expect(got, heun(THREE, PLACES, level, below), call, hint_for(got, known, within=1e-3))
    end = Level(0.0, 1.0, 0.0)
    want = heun(THREE, PLACES, STEPS[1][1], end)
    expect(fn(THREE, PLACES, STEPS[1][1], end), want, "heun_step to the clean row", DIVIDED)


def heun_is_of_second_order(fn: Callable) -> None:
    falls_with_the_square(fn, "heun_step")


# 08.dpmpp

MIDDLE = {
    "one step": "That is one step of ddim: the answer at the middle is not used.",
    "two steps": "You go to the middle, and on from there: two steps of ddim, first order. The middle was only a look. "
    "Go from x, at `level`, with the x0 that was found there.",
    "old eps": "The new x0 with the old eps does not make x. Solve for eps again: (x - level.alpha * x0) / "
    "level.sigma, with the x0 of the middle.",
    "mean x0": "You average the x0 of the start and of the middle, which is the x0 of the first QUARTER. The middle "
    "alone stands for the whole step.",
    "asked level": "x is asked about at the middle: hand that level to the denoiser.",
    "mean of both": "The mean of two alphas and of two sigmas is no row: alpha^2 + sigma^2 is not 1, and the log-SNR "
    "is not half-way. Go by the log-SNR.",
    "mean sigma": "Half-way in sigma (or in alpha, or in the angle) is not half-way in log-SNR, and that is the clock "
    "of this method.",
    "no root": "sigmoid(log-SNR) is alpha SQUARED, a share of power: take the root.",
    "half log": "`levels.log_snr` is the logarithm of alpha^2 / sigma^2. The papers' lambda is half of it; alpha^2 is "
    "the sigmoid of the whole.",
}


def half_way(level: Level, below: Level, change: str = "") -> Level:
    log = (levels.log_snr(level) + levels.log_snr(below)) / 2
    log = log / 2 if change == "half log" else log
    alpha, sigma = (math.sqrt(1 / (1 + math.exp(-sign * log))) for sign in (1, -1))
    if change == "no root":
        alpha, sigma = alpha**2, sigma**2
    if change in ("mean of both", "mean sigma"):
        sigma = (level.sigma + below.sigma) / 2
        alpha = (level.alpha + below.alpha) / 2 if change == "mean of both" else math.sqrt(1 - sigma**2)
    return Level((level.t + below.t) / 2, alpha, sigma)


def middle(denoise: Denoiser, x: Tensor, level: Level, below: Level, change: str = "") -> Tensor:
    """The step, or what a change to it leads to."""
    mid = half_way(level, below, change)
    first = denoise(x, level)
    eps = eps_of(x, first, level)
    there = mid.alpha * first + mid.sigma * eps
    x0 = denoise(there, level if change == "asked level" else mid)
    x0 = {"one step": first, "mean x0": (first + x0) / 2}.get(change, x0)
    eps = {"old eps": eps, "two steps": eps_of(there, x0, mid)}.get(change, eps_of(x, x0, level))
    return below.alpha * x0 + below.sigma * eps


def middles(level: Level, below: Level) -> list[Level]:
    """Rows that are taken for the middle: by alpha, and by the angle."""
    alpha, angle = (level.alpha + below.alpha) / 2, sum(math.atan2(row.sigma, row.alpha) for row in (level, below)) / 2
    return [Level(0.0, alpha, math.sqrt(1 - alpha**2)), Level(0.0, math.cos(angle), math.sin(angle))]


def looks_at_the_middle(fn: Callable) -> None:
    for level, below in STEPS:
        got = fn(THREE, PLACES, level, below)
        known = [(middle(THREE, PLACES, level, below, change), MIDDLE[change]) for change in MIDDLE]
        first = THREE(PLACES, level)
        for mid in middles(level, below):
            x0 = THREE(mid.alpha * first + mid.sigma * eps_of(PLACES, first, level), mid)
            known += [(below.alpha * x0 + below.sigma * eps_of(PLACES, x0, level), MIDDLE["mean sigma"])]
        want = middle(THREE, PLACES, level, below)
        call = f"middle_step from sigma {level.sigma} to sigma {below.sigma}"
        expect(got, want, call, hint_for(got, known, within=1e-3))


def middle_is_of_second_order(fn: Callable) -> None:
    falls_with_the_square(fn, "middle_step")


EXERCISES = (
    Exercise("08.heun", (
        "First all of Euler's step, but call its result `ahead`. Then ask again, there.",
        "x0_end = denoise(ahead, below), eps_end = (ahead - below.alpha * x0_end) / below.sigma: two answers about x0, "
        "two about eps.",
        "x + (below.alpha - level.alpha) * (x0 + x0_end) / 2 + (below.sigma - level.sigma) * (eps + eps_end) / 2; and "
        "if below.sigma is 0, return `ahead`.",
    ), (looks_ahead, heun_is_of_second_order)),
    Exercise("08.dpmpp", (
        "Find the row half-way in log-SNR, take ddim's step there, ask, forget the place, and keep its x0.",
        "log = (levels.log_snr(level) + levels.log_snr(below)) / 2; alpha is the root of 1 / (1 + exp(-log)), sigma "
        "the root of 1 / (1 + exp(log)).",
        "With x0 from the middle: eps = (x - level.alpha * x0) / level.sigma, and the new x is below.alpha * x0 + "
        "below.sigma * eps.",
    ), (looks_at_the_middle, middle_is_of_second_order)),
)  # fmt: skip
