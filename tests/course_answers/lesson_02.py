"""Answers to the exercises of lesson 02."""

import math

import torch
import torch.nn.functional as F
from torch.distributions import Normal, kl_divergence

# 02.kl


def kl_by_hand(mean, logvar, prior_mean, prior_logvar):
    gap = (mean - prior_mean) ** 2
    each = 0.5 * (prior_logvar - logvar + (logvar.exp() + gap) * (-prior_logvar).exp() - 1)
    return each.flatten(1).sum(1)


def kl_by_widths(mean, logvar, prior_mean, prior_logvar):
    sigma, prior_sigma = (logvar / 2).exp(), (prior_logvar / 2).exp()
    each = torch.log(prior_sigma / sigma) + (sigma**2 + (mean - prior_mean) ** 2) / (2 * prior_sigma**2) - 0.5
    return torch.stack([picture.sum() for picture in each])


def kl_of_torch(mean, logvar, prior_mean, prior_logvar):
    q, p = (Normal(m.double(), (v.double() / 2).exp()) for m, v in ((mean, logvar), (prior_mean, prior_logvar)))
    return kl_divergence(q, p).sum(tuple(range(1, mean.ndim)))


def kl_with(scale=lambda v: v, gap_over=lambda gap, w: gap / w, less=0.5, whole=1.0, join=lambda each: each.sum(1)):
    """A right divergence but for one of its parts."""

    def kl(mean, logvar, prior_mean, prior_logvar):
        v, w = scale(logvar.exp()), scale(prior_logvar.exp())
        each = 0.5 * (prior_logvar - logvar) + 0.5 * (v / w + gap_over((mean - prior_mean) ** 2, w)) - less
        return whole * join(each.flatten(1))

    return kl


def kl_mean_of_latents():
    """keras-molecules #59, grammarVAE #2: K.mean over the latents, because every other loss is a mean."""
    return kl_with(join=lambda each: each.mean(1))


def kl_turned(mean, logvar, prior_mean, prior_logvar):
    """A distance has no order, so the first curve is put where the second belongs."""
    return kl_by_hand(prior_mean, prior_logvar, mean, logvar)


def kl_of_the_lesson(mean, logvar, prior_mean, prior_logvar):
    """The formula everybody knows by heart is the one against N(0, 1); the new arguments stay unused."""
    return 0.5 * (mean**2 + logvar.exp() - 1 - logvar).flatten(1).sum(1)


def kl_gap_unscaled():
    """Written from the formula for N(0, 1) by putting differences in: the mean's part was not divided there."""
    return kl_with(gap_over=lambda gap, w: gap)


def kl_squared_variance():
    """pytorch/examples #225 and vgae_pytorch #2: whether exp(logvar) is sigma or its square is asked in both."""
    return kl_with(scale=lambda v: v**2)


def kl_no_half():
    """The 1/2 in front of the bracket is lost when the terms are written one by one."""
    return kl_with(whole=2.0)


def kl_negative():
    """pytorch/examples #824, PyTorch-VAE #68: the paper gives minus KL, and its sign is copied along."""
    return kl_with(whole=-1.0)


def kl_never_zero():
    """The -1 looks like a constant that no training feels, so it is dropped."""
    return kl_with(less=0.0)


def kl_by_subtraction(mean, logvar, prior_mean, prior_logvar):
    """The library can do it against N(0, 1), so both are measured from there, as heights from the sea."""
    first, second = (0.5 * (m**2 + v.exp() - 1 - v) for m, v in ((mean, logvar), (prior_mean, prior_logvar)))
    return (first - second).flatten(1).sum(1)


def kl_over_the_batch():
    """GNTPP #4, nvae #3: torch.sum without dim gives one number for all pictures, and nothing complains."""
    return kl_with(join=lambda each: each.sum())


def kl_by_sampling(mean, logvar, prior_mean, prior_logvar):
    """The definition is an average over draws, and one draw is what the other half of the loss uses."""
    q, p = Normal(mean, (logvar / 2).exp()), Normal(prior_mean, (prior_logvar / 2).exp())
    z = q.sample()
    return (q.log_prob(z) - p.log_prob(z)).flatten(1).sum(1)


# 02.reparam


def draws_at_once(mean, logvar, count, generator):
    eps = torch.randn(count, *mean.shape, generator=generator)
    return mean + (0.5 * logvar).exp() * eps


def draws_one_by_one(mean, logvar, count, generator):
    width = logvar.exp().sqrt()
    made = []
    for _ in range(count):
        eps = torch.empty_like(mean, requires_grad=False).normal_(generator=generator)
        made.append(torch.addcmul(mean, width, eps))
    return torch.stack(made)


def draws_with(width=lambda logvar: (logvar / 2).exp(), noise=lambda shape, g: torch.randn(shape, generator=g)):
    """Right draws but for the width, or for the noise."""

    def draws(mean, logvar, count, generator):
        return mean + width(logvar) * noise((count, *mean.shape), generator)

    return draws


def draws_by_variance():
    """keras #9972, ibp_vae #3: logvar.exp() is what the KL needs, and is used once more here."""
    return draws_with(width=lambda logvar: logvar.exp())


def draws_by_logvar():
    """The encoder's second output is taken for sigma itself."""
    return draws_with(width=lambda logvar: logvar)


def draws_uniform():
    """torch.rand and torch.randn differ by one letter."""
    return draws_with(noise=lambda shape, g: torch.rand(shape, generator=g))


def draws_narrow():
    """keras #4211: an epsilon_std of 0.01 was in the example for a while, as "better results"."""
    return draws_with(noise=lambda shape, g: 0.01 * torch.randn(shape, generator=g))


def draws_one_noise():
    """The noise gets the shape of the mean, as always, and is then expanded to `count`."""
    return draws_with(noise=lambda shape, g: torch.randn(shape[1:], generator=g).expand(shape))


def draws_one_for_all_pictures():
    """One row of noise broadcasts over the batch without a murmur."""
    return draws_with(noise=lambda shape, g: torch.randn(shape[0], 1, shape[2], generator=g))


def draws_by_distribution(mean, logvar, count, generator):
    """The obvious way to draw from a Normal is to ask Normal for a sample."""
    return Normal(mean, (logvar / 2).exp()).sample((count,))


def draws_detached():
    """The width is computed under no_grad because "only the noise is random, nothing to learn there"."""
    return draws_with(width=lambda logvar: (logvar / 2).exp().detach())


def draws_seeded_inside():
    """For reproducible results the seed is set right where the noise is drawn."""
    return draws_with(noise=lambda shape, g: torch.randn(shape, generator=torch.Generator().manual_seed(0)))


def draws_without_generator():
    """torch.randn_like takes no generator, and is the shortest way to write it."""
    return draws_with(noise=lambda shape, g: torch.randn(shape))


# 02.elbo


def standard_kl(mean, logvar):
    return 0.5 * (mean**2 + logvar.exp() - 1 - logvar).sum(1)


def elbo_by_hand(x, out, mean, logvar, variance):
    error = (x - out).square().flatten(1).sum(1) / (2 * variance)
    constant = 0.5 * x[0].numel() * math.log(2 * math.pi * variance)
    return -error - constant - standard_kl(mean, logvar)


def elbo_of_torch(x, out, mean, logvar, variance):
    fit = Normal(out, math.sqrt(variance)).log_prob(x).sum((1, 2, 3))
    price = kl_divergence(Normal(mean, (logvar / 2).exp()), Normal(0.0, 1.0)).sum(1)
    return fit - price


def elbo_picture_by_picture(x, out, mean, logvar, variance):
    made = []
    for i in range(len(x)):
        terms = [-(a - b) ** 2 / (2 * variance) for a, b in zip(x[i].flatten(), out[i].flatten(), strict=True)]
        fit = sum(terms) - len(terms) / 2 * math.log(2 * math.pi * variance)
        made.append(fit - standard_kl(mean, logvar)[i])
    return torch.stack(made)


def elbo_with(error=lambda e, v: e.sum(1) / (2 * v), log=lambda v, d: 0.5 * d * math.log(2 * math.pi * v),
              price=lambda kl: kl.sum(1), sign=1.0):  # fmt: skip
    """A right bound but for one of its parts."""

    def elbo(x, out, mean, logvar, variance):
        squares = (x - out).square().flatten(1)
        kl = 0.5 * (mean**2 + logvar.exp() - 1 - logvar)
        return sign * (-error(squares, variance) - log(variance, squares.shape[1]) - price(kl))

    return elbo


def elbo_mse_loss(x, out, mean, logvar, variance):
    """pytorch/examples #234, sigma-vae-pytorch #12: F.mse_loss is a mean over pixels too, and nothing says so."""
    return -F.mse_loss(out, x) / (2 * variance) - standard_kl(mean, logvar).mean()


def elbo_over_the_batch():
    """A loss is one number, so everything is added up at once."""
    return lambda *args: elbo_by_hand(*args).sum()


def elbo_as_loss():
    """What is trained is minus the ELBO, and programs call that the ELBO."""
    return elbo_with(sign=-1.0)


def elbo_plus_kl():
    """In the loss both terms are added; the plus survives when the first sign is turned."""
    return elbo_with(price=lambda kl: -kl.sum(1))


def elbo_without_price():
    """The KL is known as a penalty of training, and a bound is thought to be there for measuring."""
    return elbo_with(price=lambda kl: 0.0)


def elbo_no_constant():
    """Lectures drop what no training changes, and then call the rest the ELBO."""
    return elbo_with(log=lambda v, d: 0.0)


def elbo_one_constant():
    """The constant of one bell curve is written once, though there is a curve for every pixel."""
    return elbo_with(log=lambda v, d: 0.5 * math.log(2 * math.pi * v))


def elbo_variance_as_width():
    """Normal(out, s) takes a deviation, and is handed the variance."""
    return elbo_with(lambda e, v: e.sum(1) / (2 * v**2), lambda v, d: 0.5 * d * math.log(2 * math.pi * v**2))


def elbo_no_half():
    """(x - out)^2 / variance looks complete: the 2 stands in an exponent that nobody writes out."""
    return elbo_with(error=lambda e, v: e.sum(1) / v)


def elbo_mean_of_latents():
    """keras-molecules #59: a mean over the latents, to match a mean over the pixels."""
    return elbo_with(price=lambda kl: kl.mean(1))


def elbo_plain_error():
    """A squared error is a squared error: why would it need the variance?"""
    return elbo_with(error=lambda e, v: e.sum(1))


# 02.active


def active_all_means(encode, batches):
    means = torch.cat([encode(x)[0] for x in batches])
    spread = means.var(0)
    return spread > 0.01


def active_running_sums(encode, batches):
    count, total, squares = 0, 0, 0
    for x in batches:
        mean, _ = encode(x)
        count, total, squares = count + len(mean), total + mean.sum(0), squares + (mean**2).sum(0)
    return squares / count - (total / count) ** 2 > 0.01


def active_by(measure):
    """Of all means and logvars at once, what `measure` gives is compared with 0.01."""

    def active(encode, batches):
        parts = [encode(x) for x in batches]
        return measure(torch.cat([mean for mean, _ in parts]), torch.cat([logvar for _, logvar in parts])) > 0.01

    return active


def active_by_draws():
    """A latent is a draw from q, so the variance of the draws is measured, as in the histogram of the lesson."""
    noise = torch.Generator().manual_seed(0)
    return active_by(
        lambda mean, logvar: (mean + (logvar / 2).exp() * torch.randn(mean.shape, generator=noise)).var(0)
    )


def active_by_kl():
    """"A KL near 0 is an alarm" is turned round: a KL above 0 is taken for a proof of life."""
    return active_by(lambda mean, logvar: 0.5 * (mean**2 + logvar.exp() - 1 - logvar).mean(0))


def active_by_deviation():
    """Spread is thought of as a standard deviation, and .std is one letter shorter than .var is long."""
    return active_by(lambda mean, logvar: mean.std(0))


def active_by_size():
    """A latent that says something is thought to have means that are not 0."""
    return active_by(lambda mean, logvar: mean.mean(0).abs())


def active_by_certainty():
    """A collapsed posterior has the width 1, so a width below 1 is taken for speaking."""
    return active_by(lambda mean, logvar: (1 - logvar.exp()).mean(0))


def active_within_batches(encode, batches):
    """As with losses: a number for each batch, and the mean of the numbers at the end."""
    spreads = [encode(x)[0].var(0) for x in batches]
    return torch.stack(spreads).mean(0) > 0.01


def active_last_batch(encode, batches):
    """The loop overwrites its variable, and what is looked at afterwards is the last batch."""
    for x in batches:
        mean, _ = encode(x)
    return mean.var(0) > 0.01


def active_of_centres(encode, batches):
    """A mean is asked for, and the mean of a batch is the first that comes to hand."""
    centres = torch.stack([encode(x)[0].mean(0) for x in batches])
    return centres.var(0) > 0.01


def active_batches_alike(encode, batches):
    """Averages of averages: right only where all batches are of one size, as they are until the last."""
    means = [encode(x)[0] for x in batches]
    first = sum(mean.mean(0) for mean in means) / len(means)
    second = sum((mean**2).mean(0) for mean in means) / len(means)
    return second - first**2 > 0.01


RIGHT = {
    "02.kl": [kl_by_hand, kl_by_widths, kl_of_torch],
    "02.reparam": [draws_at_once, draws_one_by_one],
    "02.elbo": [elbo_by_hand, elbo_of_torch, elbo_picture_by_picture],
    "02.active": [active_all_means, active_running_sums],
}
WRONG = {
    "02.kl": [
        (kl_mean_of_latents, "the price of all is the SUM"), (kl_turned, "Turned round"),
        (kl_of_the_lesson, "are not used"), (kl_gap_unscaled, "not divided by the prior's variance"),
        (kl_squared_variance, "squared again"), (kl_no_half, "Twice as much"), (kl_negative, "never below 0"),
        (kl_never_zero, "where is the -1"), (kl_over_the_batch, "leaves the batch alone"),
        (kl_by_sampling, "it seems to draw"), (kl_by_subtraction, "no height above sea level"),
    ],
    "02.reparam": [
        (draws_by_variance, "its root, the deviation"), (draws_by_logvar, "The logarithm itself"),
        (draws_uniform, "`torch.randn` is the bell"), (draws_narrow, "much too close"),
        (draws_one_noise, "drawn once and copied"), (draws_one_for_all_pictures, "share one noise"),
        (draws_by_distribution, "no way back"), (draws_detached, "no gradient to logvar"),
        (draws_seeded_inside, "the seed is set inside"), (draws_without_generator, "Hand the generator on"),
    ],
    "02.elbo": [
        (elbo_mse_loss, "AVERAGED over the pixels"), (elbo_over_the_batch, "Each picture has its own bound"),
        (elbo_as_loss, "This is the loss"), (elbo_plus_kl, "MINUS the KL"),
        (elbo_without_price, "the fit alone"),
        (elbo_no_constant, "The constant is missing"), (elbo_one_constant, "belongs to EVERY pixel"),
        (elbo_variance_as_width, "s squared already"),
        (elbo_no_half, "a factor 2 was lost"), (elbo_mean_of_latents, "averaged over the latents"),
        (elbo_plain_error, "in nats it is divided"),
    ],
    "02.active": [
        (active_by_draws, "DRAWS vary"), (active_by_kl, "CHANGE from picture"), (active_by_deviation, "not its root"),
        (active_by_size, "on average is not the question"), (active_by_certainty, "How sure the encoder is"),
        (active_within_batches, "BETWEEN them"), (active_last_batch, "Only one of the batches"),
        (active_batches_alike, "A batch of 2 counts"), (active_of_centres, "averages of whole batches"),
    ],
}  # fmt: skip
