"""Answers to the exercises of lesson 05."""

import math
from itertools import pairwise

import torch

# 05.posterior_mean


def mean_by_shares(x, level, means, spread, weights):
    variance = level.alpha**2 * spread**2 + level.sigma**2
    away = x[:, None] - level.alpha * means
    logs = weights.log() - away.square().sum(2) / (2 * variance) - x.shape[1] / 2 * variance.log()
    share = logs.softmax(1)
    own = means + (level.alpha * spread**2 / variance)[:, None] * away
    return (share[..., None] * own).sum(1)


def mean_by_loop(x, level, means, spread, weights):
    votes, answers = [], []
    for mean, s, weight in zip(means, spread.tolist(), weights.tolist(), strict=True):
        deviation = math.hypot(level.alpha * s, level.sigma)
        bell = torch.distributions.Normal(level.alpha * mean, deviation)
        votes.append(math.log(weight) + bell.log_prob(x).sum(1))
        gain = level.alpha * s * s / deviation**2
        answers.append((1 - gain * level.alpha) * mean + gain * x)
    votes = torch.stack(votes)
    share = (votes - votes.logsumexp(0)).exp()
    return sum(a * b[:, None] for a, b in zip(answers, share, strict=True))


def mean_by_tweedie(x, level, means, spread, weights):
    from torch.distributions import Categorical, Independent, MixtureSameFamily, Normal

    deviation = (level.alpha**2 * spread**2 + level.sigma**2).sqrt()[:, None].expand_as(means)
    noisy = MixtureSameFamily(Categorical(weights), Independent(Normal(level.alpha * means, deviation), 1))
    x = x.clone().requires_grad_()
    slope = torch.autograd.grad(noisy.log_prob(x).sum(), x)[0]
    return ((x + level.sigma**2 * slope) / level.alpha).detach()


def mean_with(votes=None, answers=None, share=None):
    """A right answer but for its votes (as logarithms), the modes' own answers, or how votes become shares."""

    def posterior_mean(x, level, means, spread, weights):
        variance = level.alpha**2 * spread**2 + level.sigma**2
        away = x[:, None] - level.alpha * means
        right = weights.log() - away.square().sum(2) / (2 * variance) - x.shape[1] / 2 * variance.log()
        logs = votes(x, level, means, spread, weights, right) if votes else right
        own = means + (level.alpha * spread**2 / variance)[:, None] * away
        own = answers(own, means) if answers else own
        return ((share(logs) if share else logs.softmax(1))[..., None] * own).sum(1)

    return posterior_mean


def mean_no_weights():
    """The formula of the lesson is copied: there all digits of the list are equally likely."""
    return mean_with(votes=lambda x, level, means, spread, weights, right: right - weights.log())


def mean_unshrunk_means():
    """Distances are measured to the data as they are, as where alpha is 1; deepinv issue 736 is about such scales."""

    def votes(x, level, means, spread, weights, right):
        variance = level.alpha**2 * spread**2 + level.sigma**2
        return weights.log() - (x[:, None] - means).square().sum(2) / (2 * variance) - x.shape[1] / 2 * variance.log()

    return mean_with(votes=votes)


def mean_no_height():
    """The factor before a bell curve is taken for a constant: it is one only where all modes are equally wide."""
    return mean_with(votes=lambda x, level, means, spread, weights, right: (
        right + x.shape[1] / 2 * (level.alpha**2 * spread**2 + level.sigma**2).log()))  # fmt: skip


def mean_height_of_a_line():
    """1 / sigma stands before the bell curve in every school book, whose bell curves live on a line."""
    return mean_with(votes=lambda x, level, means, spread, weights, right: (
        right + (x.shape[1] - 1) / 2 * (level.alpha**2 * spread**2 + level.sigma**2).log()))  # fmt: skip


def mean_winner():
    """To denoise is understood as to find out which mode it was."""
    return mean_with(share=lambda logs: torch.nn.functional.one_hot(logs.argmax(1), logs.shape[1]).float())


def mean_means_only():
    """The answer for a list of points is kept, although a mode has a width of its own."""
    return mean_with(answers=lambda own, means: means.expand_as(own))


def mean_by_plain_exp():
    """The bell curves are computed as they stand in the formula, and divided by their sum."""
    return mean_with(share=lambda logs: logs.exp() / logs.exp().sum(1, keepdim=True))


# 05.score


def step_by_parts(score, x, level, below):
    slope = score(x, level)
    x0 = (x + level.sigma**2 * slope) / level.alpha
    eps = -level.sigma * slope
    return below.alpha * x0 + below.sigma * eps


def step_in_one_formula(score, x, level, below):
    ratio = below.alpha / level.alpha
    pull = ratio * level.sigma**2 - below.sigma * level.sigma
    return ratio * x + pull * score(x, level)


def step_with(x0=None, eps=None, together=None):
    """A right step but for its clean picture, its noise, or how they are put together."""

    def step(score, x, level, below):
        slope = score(x, level)
        clean = x0(x, slope, level) if x0 else (x + level.sigma**2 * slope) / level.alpha
        noise = eps(slope, level) if eps else -level.sigma * slope
        return together(clean, noise, level, below) if together else below.alpha * clean + below.sigma * noise

    return step


def step_wrong_sign():
    """The score "is" the noise up to a factor; its sign is lost as in acids-ircam/diffusion_models pull request 7."""
    return step_with(eps=lambda slope, level: level.sigma * slope)


def step_no_sigma():
    """The score is taken for the noise itself; asked at yang-song/score_sde_pytorch issue 26."""
    return step_with(eps=lambda slope, level: -slope)


def step_sigma_unsquared():
    """Whether it is sigma or sigma squared is asked at pals-ttic/sjc issue 6."""
    return step_with(x0=lambda x, slope, level: (x + level.sigma * slope) / level.alpha)


def step_no_alpha():
    """Tweedie's formula is looked up, and stands there for alpha = 1."""
    return step_with(x0=lambda x, slope, level: x + level.sigma**2 * slope)


def step_old_level():
    """`level` is written four times, and then twice more."""
    return step_with(together=lambda x0, eps, level, below: level.alpha * x0 + level.sigma * eps)


def step_old_sigma():
    """The noise is left as it was, since "a deterministic step adds none"."""
    return step_with(together=lambda x0, eps, level, below: below.alpha * x0 + level.sigma * eps)


def step_to_the_end():
    """The clean picture is there, so why not return it."""
    return step_with(together=lambda x0, eps, level, below: x0)


# 05.dsm_loss


def loss_of_slopes(score, x0, level, eps):
    x = level.alpha * x0 + level.sigma * eps
    target = -eps / level.sigma
    return (level.sigma**2 * (score(x, level) - target) ** 2).mean(1)


def loss_as_noise(score, x0, level, eps):
    guessed = -level.sigma * score(level.alpha * x0 + level.sigma * eps, level)
    return torch.nn.functional.mse_loss(guessed, eps, reduction="none").flatten(1).mean(1)


def loss_with(noisy=None, target=None, weight=None, reduce=None):
    """A right loss but for one of its parts."""

    def dsm_loss(score, x0, level, eps):
        x = noisy(x0, level, eps) if noisy else level.alpha * x0 + level.sigma * eps
        wanted = target(level, eps) if target else -eps / level.sigma
        errors = (weight(level) if weight else level.sigma**2) * (score(x, level) - wanted) ** 2
        return reduce(errors) if reduce else errors.mean(1)

    return dsm_loss


def loss_wrong_sign():
    """The slope of -distance^2 loses its minus, as in soran-ghaderi/torchebm issue 318."""
    return loss_with(target=lambda level, eps: eps / level.sigma)


def loss_no_sigma():
    """The target is thought to be the noise, as proposed in acids-ircam/diffusion_models issue 5."""
    return loss_with(target=lambda level, eps: -eps)


def loss_of_clean_x():
    """The score of the data is wanted, so it is asked about the data."""
    return loss_with(noisy=lambda x0, level, eps: x0)


def loss_no_alpha():
    """x0 + sigma eps, as Song & Ermon 2019 write it."""
    return loss_with(noisy=lambda x0, level, eps: x0 + level.sigma * eps)


def loss_no_weight():
    """The bare squared error, as before the weight is introduced; ermongroup/ncsn issue 9 suffers from it."""
    return loss_with(weight=lambda level: 1.0)


def loss_weight_sigma():
    """The root that belongs to sigma and to sigma squared is mixed up once more."""
    return loss_with(weight=lambda level: level.sigma)


def loss_summed():
    """Norms are sums, and the formula has a norm in it."""
    return loss_with(reduce=lambda errors: errors.sum(1))


def loss_of_the_batch():
    """`.mean()` is what every loss ends with."""
    return loss_with(reduce=lambda errors: errors.mean())


# 05.collapse


def crowd_by_variance(rows, s, noise):
    variance = 1.0
    for level, below in pairwise(rows):
        a = level.alpha * s**2 / (level.alpha**2 * s**2 + level.sigma**2)
        kept = level.alpha / below.alpha * below.sigma**2 / level.sigma
        variance *= (below.alpha * a + kept * (1 - level.alpha * a) / level.sigma) ** 2
        if noise:
            variance += below.sigma**2 - kept**2
    return math.sqrt(variance)


def crowd_by_posterior(rows, s, noise):
    """With the mean and the variance of Ho et al. 2020, eq. 7."""
    width = torch.tensor(1.0)
    for (_, alpha, sigma), (_, alpha_below, sigma_below) in pairwise(rows):
        b = 1 - (alpha / alpha_below) ** 2
        of_x0 = alpha_below * b / sigma**2
        of_x = alpha / alpha_below * sigma_below**2 / sigma**2
        factor = of_x0 * alpha * s * s / (alpha * alpha * s * s + sigma * sigma) + of_x
        fresh = b * sigma_below**2 / sigma**2 if noise else 0.0
        width = torch.sqrt((width * factor) ** 2 + fresh)
    return width


def crowd_with(guess=None, kept=None, add=None, end=math.sqrt):
    """A right calculation but for the denoiser's factor, the noise kept, how a step adds up, or the end."""

    def crowd(rows, s, noise):
        variance = 1.0
        for level, below in pairwise(rows):
            a = guess(level, s) if guess else level.alpha * s**2 / (level.alpha**2 * s**2 + level.sigma**2)
            old = level.alpha / below.alpha * below.sigma**2 / level.sigma
            fresh = below.sigma**2 - old**2 if noise else 0.0
            old = kept(level, below) if kept else old
            factor = below.alpha * a + old * (1 - level.alpha * a) / level.sigma
            variance = add(variance, factor, fresh, noise) if add else factor**2 * variance + fresh
        return end(variance)

    return crowd


def crowd_of_ddim():
    """Without fresh noise is taken to mean ddim, which has none either."""
    return crowd_with(kept=lambda level, below: below.sigma)


def crowd_factor_unsquared():
    """A factor is a factor: the variance is multiplied by it as x is."""
    return crowd_with(add=lambda variance, factor, fresh, noise: factor * variance + fresh)


def crowd_adds_spreads():
    """Two spreads are added as lengths are."""
    return crowd_with(add=lambda variance, factor, fresh, noise: (factor * variance**0.5 + fresh**0.5) ** 2)


def crowd_variance():
    """The loop works with variances, and its last value is returned."""
    return crowd_with(end=lambda variance: variance)


def crowd_never_noise():
    """`noise` is not looked at: it is the collapse that the section is about."""
    return crowd_with(add=lambda variance, factor, fresh, noise: factor**2 * variance)


def crowd_always_noise():
    """The step of ddpm is written down once, with its noise, whatever `noise` says."""

    def crowd(rows, s, noise):
        return crowd_by_variance(rows, s, True)

    return crowd


def crowd_answers_the_mean():
    """The text says that the best answer is the mean, and the mean of the data is 0."""
    return crowd_with(guess=lambda level, s: 0.0)


def crowd_bold():
    """x0 = x / alpha, as if there were no noise in x."""
    return crowd_with(guess=lambda level, s: 1 / level.alpha)


RIGHT = {
    "05.posterior_mean": [mean_by_shares, mean_by_loop, mean_by_tweedie],
    "05.score": [step_by_parts, step_in_one_formula],
    "05.dsm_loss": [loss_of_slopes, loss_as_noise],
    "05.collapse": [crowd_by_variance, crowd_by_posterior],
}
WRONG = {
    "05.posterior_mean": [
        (mean_no_weights, "not equally likely"), (mean_unshrunk_means, "no longer stand at `means`"),
        (mean_no_height, "does not cancel"), (mean_height_of_a_line, "for EACH coordinate"),
        (mean_winner, "an average of all modes"), (mean_means_only, "within its mode x0 varies"),
        (mean_by_plain_exp, "0 / 0 is nan"),
    ],
    "05.score": [
        (step_wrong_sign, "MINUS sigma times"), (step_no_sigma, "in units of sigma"),
        (step_sigma_unsquared, "sigma SQUARED"), (step_no_alpha, "alpha times x0"),
        (step_old_level, "stay where you are"), (step_old_sigma, "one of the old level"),
        (step_to_the_end, "One look is not enough"),
    ],
    "05.dsm_loss": [
        (loss_wrong_sign, "MINUS eps / sigma"), (loss_no_sigma, "and not -eps"), (loss_of_clean_x, "not about x0"),
        (loss_no_alpha, "left out alpha"), (loss_no_weight, "drown all"), (loss_weight_sigma, "sigma SQUARED"),
        (loss_summed, "do not add them up"), (loss_of_the_batch, "One number for each point"),
    ],
    "05.collapse": [
        (crowd_of_ddim, "That is ddim"), (crowd_factor_unsquared, "SQUARE of that number"),
        (crowd_adds_spreads, "by their variances"), (crowd_variance, "That is the variance"),
        (crowd_never_noise, "With `noise=True`"), (crowd_always_noise, "With `noise=False`"),
        (crowd_answers_the_mean, "not always the mean"), (crowd_bold, "shrinks that"),
    ],
}  # fmt: skip
