"""Answers to the exercises of lesson 12."""

import math
from itertools import pairwise

import torch

# 12.scale


def scale_all(encode, batches):
    z = torch.cat([encode(batch)[0] for batch in batches])
    return 1 / z.std()


def scale_by_sums(encode, batches):
    count = total = squares = 0.0
    for batch in batches:
        mean, _ = encode(batch)
        count += mean.numel()
        total += mean.double().sum().item()
        squares += mean.double().square().sum().item()
    return 1 / math.sqrt(squares / count - (total / count) ** 2)


def scale_museum(encode, batches):
    """cloob-latent-diffusion #7: the variances of many batches are added up and never divided by their number."""
    return 1 / sum(encode(batch)[0].var() for batch in batches) ** 0.5


def scale_mean_of_variances(encode, batches):
    """The mending of that bug, taken further: weighted by size, it still misses how the batches' means differ."""
    n = sum(len(batch) for batch in batches)
    return 1 / sum(encode(batch)[0].var() * len(batch) / n for batch in batches) ** 0.5


def scale_each_batch_alike(encode, batches):
    """Averages of averages: each batch counts the same, also the short one at the end of a data set."""
    return 1 / torch.stack([encode(batch)[0].var() for batch in batches]).mean().sqrt()


def scale_mean_of_stds(encode, batches):
    """One standard deviation for each batch is at hand, so one averages those."""
    return 1 / torch.stack([encode(batch)[0].std() for batch in batches]).mean()


def scale_first_batch(encode, batches):
    """The published training code of latent diffusion measures the first batch, and calls it a day."""
    return 1 / encode(batches[0])[0].std()


def scale_not_inverted(encode, batches):
    """"Measure the standard deviation" is what every text says, and so that is what one returns."""
    return 1 / scale_all(encode, batches)


def scale_variance(encode, batches):
    """.var() and .std() are one word apart."""
    return 1 / torch.cat([encode(batch)[0] for batch in batches]).var()


def scale_uncentred(encode, batches):
    """"Unit power": the mean of squares, as if latents had the mean 0 as the KL penalty wishes."""
    return 1 / torch.cat([encode(batch)[0] for batch in batches]).square().mean().sqrt()


def scale_of_draws(encode, batches):
    """In training the decoder got draws, so it seems right to measure draws."""
    noise = torch.Generator().manual_seed(3)
    made = [encode(batch) for batch in batches]
    z = [mean + (logvar / 2).exp() * torch.randn(mean.shape, generator=noise) for mean, logvar in made]
    return 1 / torch.cat(z).std()


def scale_by_channel(encode, batches):
    """BatchNorm and its relatives have one number for each channel."""
    return 1 / torch.cat([encode(batch)[0] for batch in batches]).std((0, 2, 3))


def scale_famous(encode, batches):
    """0.18215 stands in every tutorial, so it is taken for a constant of nature (diffusers #437 asks what it is)."""
    z = encode(batches[0])[0]
    return z.new_tensor(0.18215)


# 12.pair


def pair_functions(encode, decode, factor):
    def to_latents(pixels):
        mean, _ = encode(pixels)
        return mean * factor

    def to_pixels(z):
        return decode(z / factor).clamp(-1, 1)

    return to_latents, to_pixels


def pair_lambdas(encode, decode, factor):
    spread = 1 / factor
    return [lambda x: torch.div(encode(x)[0], spread), lambda z: torch.clip(decode(spread * z), min=-1, max=1)]


def pair_with(into=lambda mean, logvar, f: mean * f, back=lambda decode, z, f: decode(z / f).clamp(-1, 1)):
    """A right pair but for one of its halves."""

    def pair(encode, decode, factor):
        return lambda x: into(*encode(x), factor), lambda z: back(decode, z, factor)

    return pair


def pair_turned():
    """The factor is taken for the standard deviation, which one divides by."""
    return pair_with(lambda mean, logvar, f: mean / f, lambda decode, z, f: decode(z * f).clamp(-1, 1))


def pair_unscaled():
    """explainingai-code/StableDiffusion-PyTorch #33: there no factor was needed, and the code is copied."""
    return pair_with(lambda mean, logvar, f: mean, lambda decode, z, f: decode(z).clamp(-1, 1))


def pair_multiplies_twice():
    """MONAI GenerativeModels #212: what the report proposed, decode(latent * factor); pull request 214 divides."""
    return pair_with(back=lambda decode, z, f: decode(z * f).clamp(-1, 1))


def pair_scales_the_picture():
    """MONAI GenerativeModels #212: what the code did, decode(latent) * factor."""
    return pair_with(back=lambda decode, z, f: (decode(z) * f).clamp(-1, 1))


def pair_unscaled_in():
    """MONAI GenerativeModels #203: the tutorials trained on latents as the encoder gave them."""
    return pair_with(into=lambda mean, logvar, f: mean)


def pair_draws():
    """A VAE draws its latents in training, and that line is copied."""
    return pair_with(into=lambda mean, logvar, f: (mean + (logvar / 2).exp() * torch.randn_like(mean)) * f)


def pair_no_clamp():
    """A decoder trained on pictures in -1..1 is believed to keep to them."""
    return pair_with(back=lambda decode, z, f: decode(z / f))


def pair_clamps_latents():
    """Everything else in the notebook is in -1..1, so latents are made so, too."""
    return pair_with(into=lambda mean, logvar, f: (mean * f).clamp(-1, 1))


def pair_scales_pictures_in():
    """"Scale the input" is read as the pictures, as one scales pixels from bytes."""

    def pair(encode, decode, factor):
        return lambda x: encode(x * factor)[0], lambda z: decode(z / factor).clamp(-1, 1)

    return pair


def pair_clamps_before():
    """The clamp is put where the numbers come in, as one checks arguments."""
    return pair_with(back=lambda decode, z, f: decode((z / f).clamp(-1, 1)))


# 12.gaussian


def imitate_cholesky(z, eps):
    flat = z.flatten(1)
    root = torch.linalg.cholesky(torch.cov(flat.T))
    return (flat.mean(0) + eps.flatten(1) @ root.T).view_as(eps)


def imitate_eigen(z, eps):
    rows = z.reshape(len(z), -1).double()
    away = rows - rows.mean(0, keepdim=True)
    values, vectors = torch.linalg.eigh(away.T @ away / len(rows))
    stretched = eps.reshape(len(eps), -1).double() * values.clamp(min=0).sqrt()
    return (stretched @ vectors.T + rows.mean(0)).reshape(eps.shape).float()


def imitate_by_distribution(z, eps):
    flat = z.flatten(1)
    bell = torch.distributions.MultivariateNormal(flat.mean(0), torch.cov(flat.T))
    return (bell.loc + (bell.scale_tril @ eps.flatten(1).T).T).reshape(eps.shape)


def imitate_with(made):
    """A right answer but for what becomes of the rows of noise: made(rows of z, rows of eps)."""

    def imitate(z, eps):
        return made(z.flatten(1), eps.flatten(1)).view(eps.shape)

    return imitate


def imitate_independent():
    """Mean and standard deviation of each number: what "fit a Gaussian" means in one dimension, 256 times."""
    return imitate_with(lambda flat, eps: flat.mean(0) + flat.std(0) * eps)


def imitate_channels(z, eps):
    """Thread G's first repair: each channel's spread, since random latents are "of the wrong size"."""
    return z.mean(0) + z.std((0, 2, 3), keepdim=True) * eps


def imitate_one_mean():
    """One mean for all, as for the scale factor of this lesson."""
    return imitate_with(lambda flat, eps: flat.mean() + eps @ torch.linalg.cholesky(torch.cov(flat.T)).T)


def imitate_no_mean():
    """The covariance is the hard part, and the mean is forgotten over it."""
    return imitate_with(lambda flat, eps: eps @ torch.linalg.cholesky(torch.cov(flat.T)).T)


def imitate_no_root():
    """The matrix that says how numbers go together is what one multiplies by."""
    return imitate_with(lambda flat, eps: flat.mean(0) + eps @ torch.cov(flat.T))


def imitate_turned():
    """mean + L eps in the book, for columns; here draws are rows, and L stays as it is."""
    return imitate_with(lambda flat, eps: flat.mean(0) + eps @ torch.linalg.cholesky(torch.cov(flat.T)))


def imitate_roots_of_numbers():
    """.sqrt() of a tensor is a root, of each number by itself."""
    return imitate_with(lambda flat, eps: flat.mean(0) + eps @ torch.cov(flat.T).sqrt())


def imitate_not_centred():
    """E[z z^T] is remembered as the covariance, which it is for a mean of 0."""
    return imitate_with(lambda flat, eps: flat.mean(0) + eps @ torch.linalg.cholesky(flat.T @ flat / len(flat)).T)


def imitate_correlations():
    """torch.corrcoef stands beside torch.cov, and "how numbers go together" sounds like it."""
    return imitate_with(lambda flat, eps: flat.mean(0) + eps @ torch.linalg.cholesky(torch.corrcoef(flat.T)).T)


def imitate_draws_anew(z, eps):
    """torch has a distribution that draws, so the noise that is given goes unused."""
    bell = torch.distributions.MultivariateNormal(z.flatten(1).mean(0), torch.cov(z.flatten(1).T))
    return bell.sample((len(eps),)).view_as(eps)


# 12.whole


def paint_pairs(plain, wanted, decode, factor, z, rows, scale):
    for level, below in pairwise(rows):
        without = plain(z, level)
        z0 = without + scale * (wanted(z, level) - without)
        eps = (z - level.alpha * z0) / level.sigma
        z = below.alpha * z0 + below.sigma * eps
    return decode(z / factor).clamp(-1, 1)


def paint_by_index(plain, wanted, decode, factor, z, rows, scale):
    for i in range(1, len(rows)):
        _, alpha, sigma = rows[i - 1]
        guess = (1 - scale) * plain(z, rows[i - 1]) + scale * wanted(z, rows[i - 1])
        ratio = rows[i].sigma / sigma
        z = ratio * z + (rows[i].alpha - ratio * alpha) * guess
    return torch.clamp(decode(z * (1 / factor)), min=-1.0, max=1.0)


def paint_with(
    guide=lambda plain, wanted, s: plain + s * (wanted - plain),
    step=lambda z, z0, level, below, start: below.alpha * z0 + below.sigma * (z - level.alpha * z0) / level.sigma,
    end=lambda decode, z, factor: decode(z / factor).clamp(-1, 1),
):
    """A right loop but for its guidance, its step or its end."""

    def paint(plain, wanted, decode, factor, z, rows, scale):
        start = z
        for level, below in pairwise(rows):
            z = step(z, guide(plain(z, level), wanted(z, level), scale), level, below, start)
        return end(decode, z, factor)

    return paint


def paint_swapped():
    """Thread E: which of the two the difference starts from is the question of eight public threads."""
    return paint_with(guide=lambda plain, wanted, s: wanted + s * (plain - wanted))


def paint_paper_scale():
    """Thread E: the paper's (1 + w) wanted - w plain, with our scale put in for its w."""
    return paint_with(guide=lambda plain, wanted, s: (1 + s) * wanted - s * plain)


def paint_no_guidance():
    """The loop of lesson 08, which had one denoiser, with the sentence's put in."""
    return paint_with(guide=lambda plain, wanted, s: wanted)


def paint_same_level():
    """Guess and noise are put together again as they were taken apart, at the same level: z does not move."""

    def step(z, z0, level, below, start):
        return level.alpha * z0 + level.sigma * (z - level.alpha * z0) / level.sigma

    return paint_with(step=step)


def paint_next_sigma():
    """One row per step is enough, one thinks, and takes the next row's for both halves."""

    def step(z, z0, level, below, start):
        return below.alpha * z0 + below.sigma * ((z - below.alpha * z0) / max(below.sigma, 1e-9))

    return paint_with(step=step)


def paint_first_noise():
    """The noise is known: it is what the loop began with."""
    return paint_with(step=lambda z, z0, level, below, start: below.alpha * z0 + below.sigma * start)


def paint_without_noise():
    """z becomes the guess, which is cleaner after all, and the next level never knows."""
    return paint_with(step=lambda z, z0, level, below, start: z0)


def paint_no_alpha():
    """Thread D: x0 and x_t exchanged, or their factor lost: noise = z - z0, as for a photograph with grain."""
    return paint_with(step=lambda z, z0, level, below, start: below.alpha * z0 + below.sigma * (z - z0) / level.sigma)


def paint_fresh_noise():
    """DDPM throws dice at every step, and so every sampler is thought to."""
    return paint_with(step=lambda z, z0, level, below, start: below.alpha * z0 + below.sigma * torch.randn_like(z))


def paint_upwards(plain, wanted, decode, factor, z, rows, scale):
    """t counts up in training, so the rows are turned round first."""
    rows = [row._replace(sigma=max(row.sigma, 1e-3)) for row in rows[::-1]]
    return paint_pairs(plain, wanted, decode, factor, z, rows, scale)


def paint_one_jump(plain, wanted, decode, factor, z, rows, scale):
    """The denoiser gives z0, the clean latents, so why walk?"""
    guess = plain(z, rows[0]) + scale * (wanted(z, rows[0]) - plain(z, rows[0]))
    return decode(guess / factor).clamp(-1, 1)


def paint_multiplies():
    """MONAI GenerativeModels #212: the factor multiplied on the way in, so it multiplies on the way out."""
    return paint_with(end=lambda decode, z, factor: decode(z * factor).clamp(-1, 1))


def paint_forgets_the_factor():
    """The factor belongs to the autoencoder, so the decoder is believed to know it."""
    return paint_with(end=lambda decode, z, factor: decode(z).clamp(-1, 1))


def paint_no_clamp():
    """show.figure cuts what lies beyond -1..1, so nothing looks wrong."""
    return paint_with(end=lambda decode, z, factor: decode(z / factor))


RIGHT = {
    "12.scale": [scale_all, scale_by_sums],
    "12.pair": [pair_functions, pair_lambdas],
    "12.gaussian": [imitate_cholesky, imitate_eigen, imitate_by_distribution],
    "12.whole": [paint_pairs, paint_by_index],
}
WRONG = {
    "12.scale": [
        (scale_museum, "root of the SUM"), (scale_mean_of_variances, "Batches differ in their means"),
        (scale_each_batch_alike, "not equally long"), (scale_mean_of_stds, "no standard deviation"),
        (scale_first_batch, "the first batch alone"), (scale_not_inverted, "the standard deviation itself"),
        (scale_variance, "the root is missing"), (scale_uncentred, "Subtract the mean"),
        (scale_of_draws, "These are draws"), (scale_famous, "Every autoencoder has its own"),
        (scale_by_channel, "One number for all channels"),
    ],
    "12.pair": [
        (pair_turned, "Both directions"), (pair_unscaled, "Nothing is scaled"), (pair_multiplies_twice, "has to undo"),
        (pair_scales_the_picture, "before the decoder"), (pair_unscaled_in, "the encoder's own latents"),
        (pair_draws, "a draw from the encoder"), (pair_scales_pictures_in, "comes OUT of the encoder"),
        (pair_no_clamp, "may overshoot"),
        (pair_clamps_latents, "Latents are no picture"), (pair_clamps_before, "Clamp what the decoder gives"),
    ],
    "12.gaussian": [
        (imitate_independent, "drawn independently"), (imitate_channels, "One spread for each channel"),
        (imitate_one_mean, "a mean of its own"), (imitate_no_mean, "Add it"), (imitate_no_root, "a ROOT of the matrix"),
        (imitate_turned, "Your draws are rows"), (imitate_roots_of_numbers, "not the matrix of the roots"),
        (imitate_not_centred, "the mean still in it"), (imitate_correlations, "the spreads divided out"),
        (imitate_draws_anew, "nothing to draw here"),
    ],
    "12.whole": [
        (paint_swapped, "The two are exchanged"), (paint_paper_scale, "one larger or smaller"),
        (paint_no_guidance, "The scale does nothing"), (paint_same_level, "at the NEXT level"),
        (paint_next_sigma, "where z IS"), (paint_first_noise, "the loop began with"),
        (paint_one_jump, "The first guess was taken"), (paint_without_noise, "taken for the next z"),
        (paint_no_alpha, "holds alpha * z0"), (paint_fresh_noise, "No dice"), (paint_upwards, "Start at the noisiest"),
        (paint_multiplies, "DIVIDED"),
        (paint_forgets_the_factor, "works in scaled latents"), (paint_no_clamp, "may overshoot"),
    ],
}  # fmt: skip
