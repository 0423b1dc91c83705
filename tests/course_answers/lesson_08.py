"""Answers to the exercises of lesson 08."""

import math
from itertools import pairwise

import torch

# 08.ddim


def ddim_by_parts(x, x0, level, below, eta, z):
    eps = (x - level.alpha * x0) / level.sigma
    room = max(level.sigma**2 - (level.alpha / below.alpha * below.sigma) ** 2, 0.0)
    fresh = eta * below.sigma / level.sigma * math.sqrt(room)
    kept = math.sqrt(max(below.sigma**2 - fresh**2, 0.0))
    return below.alpha * x0 + kept * eps + fresh * z


def ddim_as_in_the_paper(x, x0, level, below, eta, z):
    """With alpha-bars, as eq. 12 and 16 of Song et al. 2021 are printed."""
    a, a_below = (torch.tensor(row.alpha**2, dtype=torch.float64) for row in (level, below))
    variance = eta**2 * (1 - a_below) / (1 - a) * (1 - a / a_below).clamp(min=0)
    noise = (x - a.sqrt() * x0) / (1 - a).sqrt()
    return (a_below.sqrt() * x0 + (1 - a_below - variance).clamp(min=0).sqrt() * noise + variance.sqrt() * z).to(x)


def ddim_by_angle(x, x0, level, below, eta, z):
    """The old and the fresh noise as the two legs of a right triangle whose hypotenuse is below.sigma."""
    beta = max(0.0, 1.0 - (level.alpha / below.alpha) ** 2)
    angle = math.asin(min(1.0, eta * math.sqrt(beta) / level.sigma))
    noise = torch.sub(x, x0, alpha=level.alpha) / level.sigma
    return below.alpha * x0 + below.sigma * (math.cos(angle) * noise + math.sin(angle) * z)


def ddim_with(fresh=None, kept=None, eps=None, alpha=None, floor=0.0):
    """A right step but for one of its parts."""

    def ddim_step(x, x0, level, below, eta, z):
        room = max(level.sigma**2 - (level.alpha / below.alpha * below.sigma) ** 2, floor)
        most = below.sigma / level.sigma * math.sqrt(room)
        new = fresh(level, below, eta, most) if fresh else eta * most
        old = kept(below, new, most) if kept else math.sqrt(max(below.sigma**2 - new**2, 0.0))
        noise = eps(x, x0, level, below) if eps else (x - level.alpha * x0) / level.sigma
        return (alpha(level) if alpha else below.alpha) * x0 + old * noise + new * z

    return ddim_step


def ddim_direction():
    """One variable is used for both terms, as in jsboige/CoursIA pull request 16158."""
    return ddim_with(kept=lambda below, new, most: new)


def ddim_no_room():
    """ddim is known by heart for eta = 0, and the noise is put on top of it."""
    return ddim_with(kept=lambda below, new, most: below.sigma)


def ddim_room_of_ddpm():
    """eta is written before z, where it is seen to act, and nowhere else."""
    return ddim_with(kept=lambda below, new, most: math.sqrt(below.sigma**2 - most**2))


def ddim_beta():
    """Ho et al. 2020 allow beta as well as beta-tilde in section 3.2, and beta is shorter to write."""
    return ddim_with(fresh=lambda level, below, eta, most: eta * math.sqrt(1 - (level.alpha / below.alpha) ** 2))


def ddim_variance():
    """The formula is for a variance, sigma squared, and is not rooted before it meets z."""
    return ddim_with(fresh=lambda level, below, eta, most: eta**2 * most**2)


def ddim_eta_once():
    """eta is multiplied to the variance, as inbarhub/DDPM_inversion issue 12 finds in published code."""
    return ddim_with(fresh=lambda level, below, eta, most: math.sqrt(eta) * most)


def ddim_differences():
    """What comes in is taken off: standard deviations are subtracted as lengths are."""
    return ddim_with(kept=lambda below, new, most: below.sigma - new)


def ddim_eps_below():
    """The step is about `below`, so its numbers are used to read x as well."""
    return ddim_with(eps=lambda x, x0, level, below: (x - below.alpha * x0) / below.sigma)


def ddim_old_alpha():
    """`level.alpha` was just typed in the line above, and is typed again."""
    return ddim_with(alpha=lambda level: level.alpha)


def ddim_without_eta():
    """The step of DDPM from the lesson above is copied, and the new argument is overlooked."""
    return ddim_with(fresh=lambda level, below, eta, most: most)


def ddim_upside_down():
    """The quotient of the alphas is turned round, and the guard against rounding hides the negative number."""

    def fresh(level, below, eta, most):
        room = max(level.sigma**2 - (below.alpha / level.alpha * below.sigma) ** 2, 0.0)
        return eta * below.sigma / level.sigma * math.sqrt(room)

    return ddim_with(fresh=fresh)


def ddim_unguarded(x, x0, level, below, eta, z):
    """The formula as printed: the root of a number that is 0 in theory and -1e-17 in a computer."""
    room = torch.tensor(level.sigma**2 - (level.alpha / below.alpha * below.sigma) ** 2 - 1e-17, dtype=torch.float64)
    fresh = eta * below.sigma / level.sigma * room.sqrt()
    kept = (below.sigma**2 - fresh**2).sqrt()
    return (below.alpha * x0 + kept * (x - level.alpha * x0) / level.sigma + fresh * z).to(x)


# 08.heun


def heun_by_means(denoise, x, level, below):
    x0 = denoise(x, level)
    eps = (x - level.alpha * x0) / level.sigma
    ahead = below.alpha * x0 + below.sigma * eps
    if below.sigma == 0:
        return ahead
    x0_end = denoise(ahead, below)
    eps_end = (ahead - below.alpha * x0_end) / below.sigma
    x0, eps = (x0 + x0_end) / 2, (eps + eps_end) / 2
    return x + (below.alpha - level.alpha) * x0 + (below.sigma - level.sigma) * eps


def heun_by_two_steps(denoise, x, level, below):
    """The mean of two whole steps, both from x: one along the slope here, one along the slope there."""

    def way(place, row):
        x0 = denoise(place, row)
        noise = (place - row.alpha * x0) / row.sigma
        return (below.alpha - level.alpha) * x0 + (below.sigma - level.sigma) * noise

    first = way(x, level)
    if not below.sigma:
        return x + first
    second = way(x + first, below)
    return x + 0.5 * first + 0.5 * second


def heun_with(ask=None, read=None, end=None):
    """A right step but for where it asks, how it reads the noise there, or how it ends."""

    def heun_step(denoise, x, level, below):
        x0 = denoise(x, level)
        eps = (x - level.alpha * x0) / level.sigma
        da, ds = below.alpha - level.alpha, below.sigma - level.sigma
        ahead = x + da * x0 + ds * eps
        if below.sigma == 0:
            return ahead
        place, row = ask(x, ahead, level, below) if ask else (ahead, below)
        x0_end = denoise(place, row)
        row = read(level) if read else below
        eps_end = (place - row.alpha * x0_end) / row.sigma
        parts = (x, ahead, da, ds, x0, eps, x0_end, eps_end)
        return end(*parts) if end else x + da * (x0 + x0_end) / 2 + ds * (eps + eps_end) / 2

    return heun_step


def heun_euler():
    """The look ahead is taken, and then the first slope is used as before."""
    return heun_with(end=lambda x, ahead, da, ds, x0, eps, x0_end, eps_end: ahead)


def heun_end_alone():
    """The later answer is believed to be the better one, as it was made with less noise."""
    return heun_with(end=lambda x, ahead, da, ds, x0, eps, x0_end, eps_end: x + da * x0_end + ds * eps_end)


def heun_from_ahead():
    """x was overwritten by the look ahead, so the real step starts there."""
    return heun_with(end=lambda x, ahead, da, ds, x0, eps, x0_end, eps_end: (
        ahead + da * (x0 + x0_end) / 2 + ds * (eps + eps_end) / 2))  # fmt: skip


def heun_mean_of_places():
    """Heun is remembered as a mean of two steps of Euler, and the second is taken from where the first ended."""
    return heun_with(end=lambda x, ahead, da, ds, x0, eps, x0_end, eps_end: (
        (ahead + (ahead + da * x0_end + ds * eps_end)) / 2))  # fmt: skip


def heun_sum():
    """Both slopes are added, and the half is forgotten."""
    return heun_with(end=lambda x, ahead, da, ds, x0, eps, x0_end, eps_end: (
        x + da * (x0 + x0_end) + ds * (eps + eps_end)))  # fmt: skip


def heun_eps_of_level():
    """The line for eps is copied from above with x renamed, and the level is not renamed."""
    return heun_with(read=lambda level: level)


def heun_asks_at_level():
    """The second call is copied from the first; only x was replaced."""
    return heun_with(ask=lambda x, ahead, level, below: (ahead, level))


def heun_asks_about_x():
    """`the slope at the end of the step` is taken for the slope of x at the level of the end."""
    return heun_with(ask=lambda x, ahead, level, below: (x, below))


def heun_x0_only():
    """A denoiser answers x0, so x0 is what is averaged."""
    return heun_with(end=lambda x, ahead, da, ds, x0, eps, x0_end, eps_end: x + da * (x0 + x0_end) / 2 + ds * eps)


def heun_one_eps(denoise, x, level, below):
    """The mean of two x0 is put into ddim's step, since ddim is Euler: a frame in which Heun is another method."""
    x0 = denoise(x, level)
    eps = (x - level.alpha * x0) / level.sigma
    if below.sigma == 0:
        return below.alpha * x0
    x0 = (x0 + denoise(below.alpha * x0 + below.sigma * eps, below)) / 2
    return below.alpha * x0 + below.sigma * (x - level.alpha * x0) / level.sigma


def heun_divides_by_nothing(denoise, x, level, below):
    """The last step, to sigma = 0, is not thought of: all steps before it went well."""
    x0 = denoise(x, level)
    eps = (x - level.alpha * x0) / level.sigma
    ahead = below.alpha * x0 + below.sigma * eps
    x0_end = denoise(ahead, below)
    eps_end = (ahead - below.alpha * x0_end) / torch.tensor(below.sigma)
    return x + (below.alpha - level.alpha) * (x0 + x0_end) / 2 + (below.sigma - level.sigma) * (eps + eps_end) / 2


# 08.dpmpp


def middle_by_sigmoid(denoise, x, level, below):
    log = sum(2 * math.log(row.alpha / row.sigma) for row in (level, below)) / 2
    alpha, sigma = math.sqrt(1 / (1 + math.exp(-log))), math.sqrt(1 / (1 + math.exp(log)))
    half = type(level)((level.t + below.t) / 2, alpha, sigma)
    x0 = denoise(x, level)
    there = alpha * x0 + sigma * (x - level.alpha * x0) / level.sigma
    x0 = denoise(there, half)
    return below.alpha * x0 + below.sigma * (x - level.alpha * x0) / level.sigma


def middle_by_tangent(denoise, x, level, below):
    """sigma / alpha is a tangent, and half-way in its logarithm is a geometric mean."""
    tangent = math.sqrt(level.sigma / level.alpha * below.sigma / below.alpha)
    angle = math.atan(tangent)
    half = level._replace(alpha=math.cos(angle), sigma=math.sin(angle))

    def to(row, x0):  # x(row) = sigma_row / sigma x + (alpha_row - sigma_row / sigma alpha) x0
        ratio = row.sigma / level.sigma
        return ratio * x + (row.alpha - ratio * level.alpha) * x0

    return to(below, denoise(to(half, denoise(x, level)), half))


def middle_with(half=None, row=None, x0=None, end=None):
    """A right step but for where the middle is, at which row it asks, whose x0 it takes, or how it ends."""

    def middle_step(denoise, x, level, below):
        log = math.log(level.alpha / level.sigma) + math.log(below.alpha / below.sigma)
        alpha, sigma = math.sqrt(1 / (1 + math.exp(-log))), math.sqrt(1 / (1 + math.exp(log)))
        alpha, sigma = half(level, below, log) if half else (alpha, sigma)
        mid = type(level)(level.t, alpha, sigma)
        first = denoise(x, level)
        eps = (x - level.alpha * first) / level.sigma
        there = alpha * first + sigma * eps
        found = denoise(there, row(level) if row else mid)
        if end:
            return end(there, found, eps, mid, below)
        found = x0(first, found) if x0 else found
        return below.alpha * found + below.sigma * (x - level.alpha * found) / level.sigma

    return middle_step


def middle_one_step():
    """The names x0 and x0_middle are mixed up in the last line."""
    return middle_with(x0=lambda first, found: first)


def middle_two_steps():
    """Having walked to the middle one walks on from there: it seems a waste to go back."""
    return middle_with(end=lambda there, found, eps, mid, below: (
        below.alpha * found + below.sigma * (there - mid.alpha * found) / mid.sigma))  # fmt: skip


def middle_old_eps():
    """eps was computed once, and is still at hand."""
    return middle_with(end=lambda there, found, eps, mid, below: below.alpha * found + below.sigma * eps)


def middle_mean_x0():
    """Heun averages both answers, so this method should too."""
    return middle_with(x0=lambda first, found: (first + found) / 2)


def middle_asks_at_level():
    """The same level is handed over twice, as the line is copied."""
    return middle_with(row=lambda level: level)


def middle_mean_of_both():
    """The middle of two rows is taken column by column."""
    return middle_with(half=lambda level, below, log: (
        (level.alpha + below.alpha) / 2, (level.sigma + below.sigma) / 2))  # fmt: skip


def middle_mean_sigma():
    """Half of the noise is taken to be half of the way, and alpha is made to fit."""

    def half(level, below, log):
        sigma = (level.sigma + below.sigma) / 2
        return math.sqrt(1 - sigma**2), sigma

    return middle_with(half=half)


def middle_no_root():
    """sigmoid(log-SNR) is taken for alpha: the root is lost, as in labml issue 152."""
    return middle_with(half=lambda level, below, log: (1 / (1 + math.exp(-log)), 1 / (1 + math.exp(log))))


def middle_half_log():
    """The papers' lambda, half of the log-SNR, meets the sigmoid of the whole: two conventions in one line."""
    return middle_with(half=lambda level, below, log: (
        math.sqrt(1 / (1 + math.exp(-log / 2))), math.sqrt(1 / (1 + math.exp(log / 2)))))  # fmt: skip


# 08.invert


def invert_by_turns(denoise, x, rows):
    for low, up in pairwise(rows):
        a = up.alpha / low.alpha
        b = up.sigma - a * low.sigma
        guess = x
        for _ in range(60):
            eps = (guess - up.alpha * denoise(guess, up)) / up.sigma
            guess = a * x + b * eps
        x = guess
    return x


def invert_by_secant(denoise, x, rows):
    """Newton's method with the slope from two places, each coordinate for itself: on these data it has but one."""
    for low, up in zip(rows, rows[1:], strict=False):

        def lack(there, low=low, up=up, x=x):
            x0 = denoise(there, up)
            return low.alpha * x0 + low.sigma * (there - up.alpha * x0) / up.sigma - x

        old, there = x, x + 1e-3
        for _ in range(30):
            a, b = lack(old), lack(there)
            slope = torch.where((b - a).abs() > 1e-14, (there - old) / (b - a), 0.0)
            old, there = there, there - b * slope
        x = there
    return x


def invert_until_still(denoise, x, rows):
    state = x
    for i in range(1, len(rows)):
        low, up = rows[i - 1], rows[i]
        there, last = state.clone(), None
        while last is None or (there - last).abs().max() > 1e-9:
            last = there
            noise = (last - up.alpha * denoise(last, up)) / up.sigma
            clean = (state - low.sigma * noise) / low.alpha
            there = up.alpha * clean + up.sigma * noise
        state = there
    return state


def invert_with(turns=60, start=None, level=None, a=None, order=None):
    """A right inversion but for one of its parts."""

    def invert(denoise, x, rows):
        for low, up in pairwise(order(rows) if order else rows):
            factor = a(low, up) if a else up.alpha / low.alpha
            b, guess = up.sigma - factor * low.sigma, x
            for _ in range(turns):
                at = level(low, up) if level else up
                eps = (guess - at.alpha * denoise(guess, at)) / at.sigma
                guess = factor * (start(x, guess) if start else x) + b * eps
            x = guess
        return x

    return invert


def invert_one_look():
    """The lesson's inversion, with the upper row in the place of the lower one: how most published code does it."""
    return invert_with(turns=1)


def invert_chained():
    """One name for the state and the guess: `x = a * x + b * eps` inside the inner loop."""
    return invert_with(start=lambda x, guess: guess)


def invert_lower_level():
    """Where x comes from is where it is asked; level and place are mixed up as in google/prompt-to-prompt issue 64."""
    return invert_with(level=lambda low, up: low if low.sigma else up)


def invert_upside_down():
    """a is copied from ddim's way down, where it is alpha below over alpha."""
    return invert_with(a=lambda low, up: low.alpha / up.alpha)


def invert_from_the_noisy_end():
    """All samplers go through rows noisiest first, and this one is made to do so too."""
    return invert_with(order=lambda rows: rows[::-1][:-1])


def invert_one_row(denoise, x, rows):
    """`return` is indented once too far, a slip that no error message shows."""
    return invert_by_turns(denoise, x, rows[:2])


def invert_in_the_clean_row(denoise, x, rows):
    """ddim with the rows turned round, as asked at ermongroup/ddim issue 9, begun in the row that has no noise."""
    for low, up in pairwise(rows):
        x0 = denoise(x, low)
        x = up.alpha * x0 + up.sigma * (x - low.alpha * x0) / torch.tensor(low.sigma)
    return x


def invert_by_drawing(denoise, x, rows):
    """The forward process makes noise of a picture, so it is called: picture and noise have nothing to do any more."""
    return rows[-1].alpha * x + rows[-1].sigma * torch.randn(x.shape, dtype=x.dtype)


def invert_too_few():
    """Two turns look enough: the numbers hardly move."""
    return invert_with(turns=2)


RIGHT = {
    "08.ddim": [ddim_by_parts, ddim_as_in_the_paper, ddim_by_angle],
    "08.heun": [heun_by_means, heun_by_two_steps],
    "08.dpmpp": [middle_by_sigmoid, middle_by_tangent],
    "08.invert": [invert_by_turns, invert_by_secant, invert_until_still],
}
WRONG = {
    "08.ddim": [
        (ddim_direction, "keeps the factor of the fresh one"), (ddim_no_room, "has to make room"),
        (ddim_room_of_ddpm, "though at a smaller eta"), (ddim_beta, "called beta-tilde"),
        (ddim_variance, "the ROOT of the variance"), (ddim_eta_once, "gets eta SQUARED"),
        (ddim_differences, "variances do"), (ddim_eps_below, "x lies at `level`"),
        (ddim_old_alpha, "where x will lie"), (ddim_without_eta, "does not depend on eta"),
        (ddim_unguarded, "From a row to itself"), (ddim_upside_down, "Upside down"),
    ],
    "08.heun": [
        (heun_euler, "is not used"), (heun_end_alone, "the slope of the end alone"),
        (heun_from_ahead, "It was only a look"), (heun_mean_of_places, "You average places"),
        (heun_sum, "MEAN is wanted"), (heun_eps_of_level, "read its eps"),
        (heun_asks_at_level, "the level to ask"), (heun_asks_about_x, "and not about x"),
        (heun_x0_only, "keep the eps of the start"), (heun_one_eps, "Heun in another frame"),
        (heun_divides_by_nothing, "no noise to divide by"),
    ],
    "08.dpmpp": [
        (middle_one_step, "one step of ddim"), (middle_two_steps, "two steps of ddim"),
        (middle_old_eps, "Solve for eps again"), (middle_mean_x0, "first QUARTER"),
        (middle_asks_at_level, "hand that level"), (middle_mean_of_both, "is no row"),
        (middle_mean_sigma, "clock of this method"), (middle_no_root, "take the root"),
        (middle_half_log, "sigmoid of the whole"),
    ],
    "08.invert": [
        (invert_one_look, "That is one look"), (invert_chained, "climbs the same step"),
        (invert_lower_level, "lies at the UPPER row"), (invert_upside_down, "below 1"),
        (invert_from_the_noisy_end, "in which they come"), (invert_in_the_clean_row, "0 / 0"),
        (invert_one_row, "behind the outer loop"),
        (invert_by_drawing, "to be found, not drawn"), (invert_too_few, "put in again often enough"),
    ],
}  # fmt: skip
