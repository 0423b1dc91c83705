# %% [markdown]
# # 02 VAE from the ELBO
#
# | | |
# |---|---|
# | **Afterwards you can** | derive the loss of a VAE, test both its parts, and see a latent collapse |
# | **Time** | about 2 minutes of computing on 2 processor cores |
# | **You need** | to know what an autoencoder is (lesson 01); no GPU, no network, no papers read |
#
# An autoencoder squeezes a picture into a few numbers, its *latents*, and rebuilds it from them. A
# *variational* autoencoder, or VAE, can also do without the picture: it invents. At the end we see why the
# one inside Stable Diffusion cannot, and what that has to do with diffusion.

# %%
import math

import matplotlib.pyplot as plt
import torch
import torch.nn.functional as F
from torch import nn
from torch.distributions import Normal

from minildm import oracle, runs, scenes, show, train, vae, weights
from minildm.course import check
from minildm.data import digits

TRAIN = True  # False: take the trained model that came with the package
SECONDS = 20  # of live training
STEPS = 1500  # of each small training, in the sweep and in the museum

show.style()
pictures, labels = digits("train")  # (1437, 1, 8, 8) in -1..1, and 0..9
unseen, unseen_labels = digits("test")  # written by other people
print(tuple(pictures.shape), tuple(unseen.shape), pictures.min().item(), pictures.max().item())

# %% [markdown]
# ## The picture first
#
# Someone wrote the digits of the first row. A VAE saw each one, kept **two numbers**, and rebuilt the second
# row from them. Nobody wrote the third row: two random numbers each, and the same decoder.

# %%
shipped = weights.load(next(name for name in weights.shipped() if name.startswith("digits")))
with torch.no_grad():
    rebuilt = shipped.decode(shipped.encode(unseen[:10])[0])
    invented = shipped.decode(torch.randn(10, 2, generator=torch.Generator().manual_seed(5)))
fig = show.strip([unseen[:10], rebuilt, invented], ["written", "two numbers each", "invented"])
show.figure(fig, "Digits the model has never seen, the same from two latents each, and digits from nothing.")

# %% [markdown]
# The rebuilt digits are blurred. Two numbers are very little, and we shall see what is lost. The third row is
# the point: **a plain autoencoder cannot do it.** It puts its latents anywhere, with holes in between, and a
# random point falls into a hole. A VAE is an autoencoder trained so that the latents of all pictures
# *together* look like plain noise, the bell curve $\mathcal N(0, 1)$. Then noise is a good place to start.
#
# ## A story about where pictures come from
#
# Pretend that every picture $x$ was made like this:
# 1. draw latents $z$ from $p(z) = \mathcal N(0, 1)$, a few independent numbers;
# 2. decode them, and add a little noise of variance $s^2$ to every pixel:
#    $p(x \mid z) = \mathcal N(\text{decode}(z),\, s^2)$.
#
# A good decoder is one under which the real pictures are *likely*: we want $\log p(x)$ to be high. But $p(x)
# = \int p(x \mid z)\, p(z)\, dz$ runs over all $z$, and for one given picture almost every $z$ is wrong.
# Nobody can wait for that integral. So we train a helper, the **encoder** $q(z \mid x)$, which looks at the
# picture and proposes the few $z$ that matter: a bell curve with its own mean and variance.
#
# For any $q$ at all, three steps give an exact equation. Bayes says $p(x) = p(x \mid z)\,p(z) \,/\, p(z \mid
# x)$, whatever $z$ is. Take logarithms, and add and subtract $\log q(z \mid x)$. Then average over $z$ drawn
# from $q$; the left side has no $z$ in it and stays as it is:
#
# $$\log p(x) \;=\;
# \underbrace{\mathbb E_{q}\big[\log p(x \mid z)\big]
# - \mathrm{KL}\big(q(z \mid x)\,\|\,p(z)\big)}_{\text{the ELBO}}
# \;+\; \underbrace{\mathrm{KL}\big(q(z \mid x)\,\|\,p(z \mid x)\big)}_{\text{never negative}}$$
#
# (Kingma & Welling 2014, [arXiv 1312.6114](https://arxiv.org/abs/1312.6114), eq. 1 and 3.) KL is the
# *Kullback-Leibler divergence*: how much one distribution differs from another, 0 if not at all, never less.
# So the **ELBO**, the *evidence lower bound*, lies below what we want and can be computed. Raise it, and two
# good things happen at once: the pictures become likelier, and the encoder becomes more truthful.
#
# Do not take it on trust. Here is the smallest such story, one latent and one pixel, $x = w z + s\,\epsilon$.
# In it everything is known: $p(x) = \mathcal N(0,\, w^2 + s^2)$, and the true $p(z \mid x)$ is a bell curve
# too.

# %%
w, s, x = 1.5, 0.6, torch.tensor(1.2)
log_p = Normal(0.0, math.hypot(w, s)).log_prob(x)
true_mean, true_var = w * x / (w**2 + s**2), torch.tensor(s**2 / (w**2 + s**2))


def elbo(mean, var):
    fits = -0.5 * math.log(2 * math.pi * s**2) - ((x - w * mean) ** 2 + w**2 * var) / (2 * s**2)
    return fits - 0.5 * (mean**2 + var - 1 - var.log())


means = torch.linspace(-0.6, 2.0, 200)
fig, ax = plt.subplots(figsize=(7, 3.4))
for factor, name in ((1.0, "as wide as p(z|x)"), (4.0, "too wide"), (0.3, "too narrow")):
    ax.plot(means, elbo(means, factor * true_var), label=f"ELBO, q {name}")
ax.axhline(log_p, color="black", linestyle="--", label="log p(x)")
ax.plot(true_mean, log_p, "o", color="black", markersize=9)
ax.set(xlabel="mean of q", ylabel="nats", ylim=(-6, -1))
ax.legend(loc="lower center")
show.figure(fig, "The bound is a bound: no q gets above log p(x); only the true p(z|x), the dot, reaches it.")
print(f"log p(x) {log_p:.6f}    the ELBO of the true posterior {elbo(true_mean, true_var):.6f}")

# %% [markdown]
# A *nat* is the unit of information that goes with the natural logarithm: 1 nat is 1.44 bits.
#
# ## Part one of the loss: draw a latent, and still have a gradient
#
# The first term averages over $z \sim q$. We take one draw per picture and let the many pictures average. But
# how do you improve the encoder through a dice roll? By rolling the dice *elsewhere*. Draw $\epsilon$ from
# $\mathcal N(0, 1)$, which no network has a say in, then shift and stretch it:
#
# $$z = \mu + \sigma\,\epsilon, \qquad \sigma = e^{\frac12 \log \sigma^2}$$
#
# (Kingma & Welling 2014, section 2.4, the *reparameterisation trick*.) The encoder gives $\log \sigma^2$ and
# not $\sigma$, because a logarithm may be any number and a width may not. Now $z$ has a slope: move $\mu$ by
# a little, and $z$ moves by as much.
#
# From here on the device of this course: **write it, prove that it is the library's, and import it ever
# after.**

# %%
def my_sample_latent(mean, logvar, generator=None):
    eps = torch.randn(mean.shape, generator=generator)
    return mean + (0.5 * logvar).exp() * eps


mean = torch.full((100_000,), 2.0, requires_grad=True)
logvar = torch.full((100_000,), math.log(0.25), requires_grad=True)
z = my_sample_latent(mean, logvar, torch.Generator().manual_seed(0))
check.agree("sample_latent", z, vae.sample_latent(mean, logvar, torch.Generator().manual_seed(0)))

z.sum().backward()
check.agree("dz/dmean is 1", mean.grad, torch.ones_like(mean))
check.agree("dz/dlogvar is (z - mean) / 2", logvar.grad, (z - mean).detach() / 2)
print(f"100,000 draws: mean {z.mean():.3f} (wanted 2), variance {z.var():.3f} (wanted 0.25)")
print("drawn the naive way it has a gradient:", Normal(mean, (0.5 * logvar).exp()).sample().requires_grad)

# %% [markdown]
# ## Part two: what it costs to say something
#
# $\mathrm{KL}(q \,\|\, p)$ is the average of $\log q(z) - \log p(z)$ over $z \sim q$. Both are bell curves,
# so it is a few averages one can look up: $z^2$ has the average $\mu^2 + \sigma^2$, and $(z - \mu)^2$ has
# $\sigma^2$. What remains, for each latent:
#
# $$\mathrm{KL}\big(\mathcal N(\mu, \sigma^2)\,\|\,\mathcal N(0, 1)\big)
# = \tfrac12\big(\mu^2 + \sigma^2 - 1 - \log \sigma^2\big)$$
#
# (Kingma & Welling 2014, appendix B.) Read it aloud: *moving away from zero costs, and being sure costs.* A
# latent that says nothing, $\mu = 0$ and $\sigma = 1$ whatever the picture, costs nothing. The latents of one
# picture are **summed**: each of them speaks.

# %%
def my_kl(mean, logvar):
    return 0.5 * (mean**2 + logvar.exp() - 1 - logvar).sum(1)  #                        (b, latents) -> (b,)


mean, logvar = torch.randn(2, 500, 4, generator=torch.Generator().manual_seed(1))
check.agree("kl_divergence", my_kl(mean, logvar), vae.kl_divergence(mean, logvar))
q, p = Normal(mean, (0.5 * logvar).exp()), Normal(0.0, 1.0)
check.agree("torch.distributions", my_kl(mean, logvar), torch.distributions.kl_divergence(q, p).sum(1), within=1e-4)
check.agree("a silent latent costs", my_kl(torch.zeros(1, 4), torch.zeros(1, 4)), torch.zeros(1))

# %% [markdown]
# ## The loss
#
# For a bell curve of variance $s^2$, $-\log p(x \mid z)$ is the squared error over $2 s^2$, summed over the
# $d$ pixels, plus a constant that no training changes. So the negative ELBO of one picture is
#
# $$\frac{1}{2 s^2} \sum_{i=1}^{d} (x_i - \hat x_i)^2 \;+\; \beta\,\mathrm{KL}$$
#
# (Kingma & Welling 2014, eq. 10, with a single draw). With $\beta = 1$ it is the ELBO. Other $\beta$ are the
# $\beta$-VAE of Higgins et al. 2017 (*beta-VAE*, ICLR 2017). Look closely: **$\beta$ and $s^2$ are one
# knob.** Only $2 s^2 \beta$ counts, the weight of the second term when the first is written as a plain
# squared error. The library multiplies all by $2 s^2 / d$, so that the first part is the familiar mean
# squared error.

# %%
VARIANCE = runs.DIGITS_VARIANCE  # s squared, of a pixel in -1..1


def my_loss(model, x, beta=1.0, generator=None):
    mean, logvar = model.encode(x)
    out = model.decode(my_sample_latent(mean, logvar, generator))
    error = (out - x).square().flatten(1).sum(1)  #                                      (b, 1, 8, 8) -> (b,)
    in_nats = error / (2 * VARIANCE) + beta * my_kl(mean, logvar)
    return in_nats.mean() * 2 * VARIANCE / x[0].numel()


torch.manual_seed(0)
model, some = vae.FlatVAE(), pictures[:64]
mine = my_loss(model, some, 0.7, torch.Generator().manual_seed(2))
theirs = train.vae_loss(model, some, 2 * VARIANCE * 0.7, torch.Generator().manual_seed(2))
check.agree("vae_loss", mine, sum(theirs))
print("encoder:", [tuple(p.shape) for p in model.encoder.parameters() if p.ndim == 2])
print("decoder:", [tuple(p.shape) for p in model.decoder.parameters() if p.ndim == 2])

# %% [markdown]
# The network is small: three layers in, three layers out, 64 pixels -> two means and two log-variances -> 64
# pixels.
#
# ## Train it
#
# The recipe `digits-vae` holds the network, the loss above and a batch of 128. `fit` is the library's
# training loop. The *check* is the squared error on the digits of other people.

# %%
if TRAIN:
    torch.manual_seed(0)
    run = runs.digits_run(beta=1.0)
    model = run.model
    progress = train.fit(model, run.loss, seconds=SECONDS, lr=run.lr)
    history = show.track(progress, "digits VAE", check=lambda: run.check(model), marks=20)
    fig, ax = plt.subplots(figsize=(7, 3))
    ax.plot(history.times, history.losses, linewidth=0.5, label="training loss: error and KL")
    ax.plot(history.check_times, history.checks, "o-", label="check: error on unseen digits")
    ax.set(xlabel="seconds", ylim=(0, 0.4))
    ax.legend(loc="upper right")
    show.figure(fig, "The check stops falling early: 1,437 digits are few, and the rest is learned by heart.")
else:
    model = shipped


@torch.no_grad()
def measure(model, x):
    """Squared error a pixel, rebuilt from the mean, and KL in nats for each latent: averages over x."""
    mean, logvar = model.encode(x)
    error = (model.decode(mean) - x).square().mean().item()
    return error, 0.5 * (mean**2 + logvar.exp() - 1 - logvar).mean(0)


error, cost = measure(model, unseen)
print(f"unseen digits: squared error {error:.3f} a pixel; KL {cost[0]:.2f} + {cost[1]:.2f} nats a picture")
print(f"the assumed variance s^2: {VARIANCE}; the mean digit as the answer: {pictures.var(0).mean():.3f}")

# %% [markdown]
# The squared error and $s^2$ are near each other, and they should be: $s^2$ is how far we say the pixels
# stray.
#
# ## Rebuilt and invented

# %%
chosen = torch.stack([unseen[unseen_labels == digit][0] for digit in range(10)])
with torch.no_grad():
    mean, logvar = model.encode(chosen)
    rebuilt = model.decode(mean)
    again = model.decode(vae.sample_latent(mean, logvar, torch.Generator().manual_seed(3)))
    invented = model.decode(torch.randn(40, 2, generator=torch.Generator().manual_seed(4)))
fig = show.strip([chosen, rebuilt, again], ["unseen", "mean of q", "draw of q"])
show.figure(fig, "Ten digits of people the model never met. A draw from q moves a digit a little.")
show.figure(show.grid(invented, 10), "Forty draws from N(0, 1), decoded. Between two kinds lie in-betweens.")

# %% [markdown]
# **The hard thing, aloud: VAE pictures are blurred, and it is not a bug.** Where two numbers leave several
# pictures possible, the least squared error is their average, and an average of digits is a smear.
#
# ## A map of all digits
#
# With two latents we can look at the whole latent space at once. Every training digit stands where the
# encoder's mean puts it.

# %%
with torch.no_grad():
    mean, logvar = model.encode(pictures)
fig, ax = plt.subplots(figsize=(7, 6.4))
colours = plt.get_cmap("tab10").colors
for digit in range(10):
    of = mean[labels == digit]
    ax.scatter(of[:, 0], of[:, 1], marker=f"${digit}$", s=50, color=colours[digit], linewidths=0.3)
turn = torch.linspace(0, 2 * math.pi, 100)
for radius in (1, 2):
    ax.plot(radius * turn.cos(), radius * turn.sin(), color="black", linewidth=1, linestyle=":")
ax.set(xlabel="latent 1", ylabel="latent 2", aspect="equal")
caption = "Where the digits live. Nobody told the model which is which. Dotted: 1 and 2 standard deviations."
show.figure(fig, caption)

# %% [markdown]
# Now the same map from the other side: walk over the latent space and decode. The steps are *quantiles* of
# $\mathcal N(0, 1)$, so each cell holds as many random draws as any other (Kingma & Welling 2014, figure 4).

# %%
steps = Normal(0.0, 1.0).icdf(torch.linspace(0.03, 0.97, 18))
across, up = torch.meshgrid(steps, steps.flip(0), indexing="xy")
with torch.no_grad():
    decoded = model.decode(torch.stack([across.flatten(), up.flatten()], 1))  #          (324, 1, 8, 8)
fig, ax = plt.subplots(figsize=(6.4, 6.4))
ax.imshow(show.sheet(decoded, columns=18, gap=4, zoom=4))
ax.set(xlabel="latent 1, by quantiles", ylabel="latent 2, by quantiles", xticks=[], yticks=[])
show.figure(fig, "Every place of the map, decoded: one digit turns into the next without a hole.")

# %% [markdown]
# ## Do the latents really look like noise?
#
# Draw a latent from $q$ for every training picture and count. If the promise were kept to the letter, each
# latent's histogram would be the bell curve.

# %%
z = vae.sample_latent(mean, logvar, torch.Generator().manual_seed(5))
grid = torch.linspace(-4, 4, 200)
fig, axes = plt.subplots(1, 2, figsize=(8, 2.8), sharey=True)
for i, ax in enumerate(axes):
    ax.hist(z[:, i], bins=40, range=(-4, 4), density=True, alpha=0.5)
    ax.plot(grid, Normal(0.0, 1.0).log_prob(grid).exp(), color="black")
    ax.set(title=f"latent {i + 1}: mean {z[:, i].mean():.2f}, std {z[:, i].std():.2f}", xlabel="value")
show.figure(fig, "The latents of all pictures together, against N(0, 1), the black line.")

# %% [markdown]
# Not to the letter: they lie around 0, but wider than the line. Each picture's KL pulls inwards, yet telling
# two digits apart needs room, and at this price room is worth buying. The random draws above look like digits
# all the same, because there are no holes; but they fall into the middle more often than real digits do. The
# price is a knob.
#
# ## The knob: rate against distortion
#
# The KL is a **rate**: how many nats the latents tell about the picture. The squared error is a
# **distortion**: what is still wrong when they have been told. (The words are those of Alemi et al. 2018,
# *Fixing a Broken ELBO*, arXiv 1711.00464.) $\beta$ is the price of a nat. Before you run it: what happens
# when nats are very dear?

# %%
BETAS = (0.01, 0.1, 1.0, 4.0, 16.0, 64.0)
sweep = {}
for beta in BETAS:
    torch.manual_seed(0)
    run = runs.digits_run(beta=beta)
    show.track(train.fit(run.model, run.loss, steps=STEPS, lr=run.lr), f"beta = {beta}")
    sweep[beta] = run.model
    with torch.no_grad():
        z = vae.sample_latent(*run.model.encode(pictures), torch.Generator().manual_seed(5))
    print(f"beta {beta:5g}: all latents together have the standard deviations {z[:, 0].std():.2f}, {z[:, 1].std():.2f}")

# %%
errors, costs = zip(*(measure(sweep[beta], unseen) for beta in BETAS), strict=True)
rates = [cost.sum().item() for cost in costs]
strongest = torch.linalg.eigvalsh(torch.cov(pictures.flatten(1).T))[-1].item()
fig, axes = plt.subplots(1, 3, figsize=(13, 3.6))
axes[0].semilogx(BETAS, errors, "o-")
axes[0].set(xlabel="beta", ylabel="squared error a pixel", title="distortion")
for i in range(2):
    axes[1].semilogx(BETAS, [cost[i] for cost in costs], "o-", label=f"latent {i + 1}")
axes[1].axvline(strongest / VARIANCE, color="black", linestyle=":", label="see the toy below")
axes[1].set(xlabel="beta", ylabel="nats a picture", title="rate")
axes[1].legend(loc="upper right")
axes[2].plot(rates, errors, "o-")
for beta, rate, error in zip(BETAS, rates, errors, strict=True):
    axes[2].annotate(f" {beta:g}", (rate, error), va="bottom")
axes[2].set(xlabel="rate: nats a picture", ylabel="distortion", title="one against the other")
show.figure(fig, "Six trainings. Dear nats are not bought: the rate falls, the error rises, all falls silent.")
with torch.no_grad():
    shown = (0.01, 1.0, 16.0, 64.0)
    rows = [sweep[beta].decode(sweep[beta].encode(chosen)[0]) for beta in shown]
fig = show.strip([chosen, *rows], ["unseen", *(f"beta {beta:g}" for beta in shown)])
show.figure(fig, "The same ten digits, rebuilt. At beta 64 every digit is the average of all digits.")

# %% [markdown]
# Three things to see. Dearer nats, narrower latents: by $\beta = 16$ they are as wide as the bell curve.
# Left of $\beta = 1$ the nats are bought for nothing: they tell training digits apart, and unseen digits gain
# little. And at the right end is **posterior collapse**: $q(z \mid x)$ is $\mathcal N(0, 1)$ whatever the
# picture, the KL is 0, the latents say nothing, and the decoder has learned to live without them. The loss
# curve looks fine. Only the KL, latent by latent, tells you.
#
# ## When does a latent collapse? A toy that can be solved
#
# Data: points in a plane, of variance $\lambda_1 = 1$ along one direction and $\lambda_2 = 0.1$ along the
# other. Model: a VAE without hidden layers, $\hat x = W z$. In each direction let the decoder have the slope
# $w$. The best encoder is the true posterior of our smallest story, with variance $s^2 / (w^2 + s^2)$. The
# likelihood is highest where the story's variance $w^2 + s^2$ is the data's, so
#
# $$w^2 = \max(\lambda - s^2,\, 0), \qquad
# \mathrm{KL} = \tfrac12 \log \frac{\lambda}{s^2} \ \text{ if } \lambda > s^2, \text{ else } 0.$$
#
# The first is the well-known solution of probabilistic PCA (Bishop 2006, *Pattern Recognition and Machine
# Learning*, eq. 12.45; Lucas et al. 2019, arXiv 1911.02469, show that the linear VAE finds it). In words: **a
# direction with less spread than the noise we assume is not worth one nat.** With $\beta$ in front of the KL,
# read $\beta s^2$ for $s^2$. That is the dotted line above: the strongest direction of the digits, over
# $s^2$.

# %%
class LinearVAE(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder, self.decode = nn.Linear(2, 4), nn.Linear(2, 2)

    def encode(self, x):
        return self.encoder(x).chunk(2, dim=1)


SPREAD = torch.tensor([1.0, 0.1])  # the two variances of the data
noises, found = torch.logspace(-1.4, 0.5, 8), []
for variance in noises.tolist():
    torch.manual_seed(1)
    toy = LinearVAE()

    def loss(step, generator, toy=toy, variance=variance):
        x = torch.randn(512, 2, generator=generator) * SPREAD.sqrt()
        return sum(train.vae_loss(toy, x, 2 * variance, generator))

    for _ in train.fit(toy, loss, steps=600, lr=0.03):
        pass
    points = torch.randn(4000, 2, generator=torch.Generator().manual_seed(6)) * SPREAD.sqrt()
    found.append(measure(toy, points)[1].sort(descending=True).values)

# %%
fine = torch.logspace(-1.4, 0.5, 200)
fig, axes = plt.subplots(1, 2, figsize=(11, 3.6), width_ratios=(1, 1.7))
axes[0].scatter(points[:800, 0], points[:800, 1], s=6)
axes[0].set(xlabel="x, variance 1", ylabel="y, variance 0.1", aspect="equal", title="the data")
for i, (spread, colour) in enumerate(zip(SPREAD.tolist(), ("C0", "C1"), strict=True)):
    formula = 0.5 * (spread / fine).log().clamp(min=0)
    axes[1].semilogx(fine, formula, color=colour, label=f"formula, variance {spread:g}")
    rate = [nats[i] for nats in found]
    axes[1].semilogx(noises, rate, "o", color=colour, label=f"trained, latent {i + 1}")
axes[1].set(xlabel="assumed noise, s squared", ylabel="nats", title="what each latent says")
axes[1].legend(loc="upper right")
show.figure(fig, "Each latent falls silent where the formula says: when the noise exceeds its spread.")
theory = 0.5 * (SPREAD / noises[:, None]).log().clamp(min=0)
check.agree("nats of the toy", torch.stack(found).sum(1), theory.sum(1), within=0.1)

# %% [markdown]
# ## The same idea, one size up
#
# The autoencoder of latent diffusion is a VAE too, with convolutions in place of `Linear` (Rombach et al.
# 2022, arXiv 2112.10752, section 3.1). Ours was trained on the shapes world: 3x32x32 pixels become 4x8x8
# latents. The class is `vae.VAE`, and with other numbers in its config it is the one inside Stable Diffusion.
# Only the price differs: a nat costs almost nothing here, since the pictures must come back sharp.

# %%
big = weights.load("shapes/vae")
wanted = scenes.draw(256, seed=52)
shapes = scenes.render(wanted)
with torch.no_grad():
    mean, logvar = big.encode(shapes)  #                                                 (256, 4, 8, 8) each
    rebuilt = big.decode(mean).clamp(-1, 1)
psnr = 10 * math.log10(4 / (rebuilt - shapes).square().mean().item())
right, *_ = oracle.accuracy(oracle.read(rebuilt), wanted)["all"]
print(f"{tuple(shapes.shape[1:])} -> {tuple(mean.shape[1:])}")
print(f"rebuilt: {psnr:.1f} dB; the oracle reads every attribute right in {right:.1%} of {len(wanted)} pictures")
print(f"KL {vae.kl_divergence(mean, logvar).mean():.0f} nats a picture; of a digit at beta 1: {rates[2]:.1f}")
fig = show.strip([shapes[:8], rebuilt[:8]], ["drawn", "rebuilt"])
show.figure(fig, "Sharp: 256 latents are kept, and the encoder is sure of each.")

# %% [markdown]
# So let it invent. First plain noise, scaled as the latents are. Then, to be fair, noise with the right mean
# and the right spread *at each of the 256 places*.

# %%
noise = torch.randn(mean.shape, generator=torch.Generator().manual_seed(7))
with torch.no_grad():
    plain = big.decode(noise / big.config.scaling_factor).clamp(-1, 1)
    fitted = big.decode(mean.mean(0) + mean.std(0) * noise).clamp(-1, 1)
for name, invented in (("plain noise", plain), ("noise with the right mean and spread", fitted)):
    share = oracle.read(invented).readable.float().mean().item()
    print(f"{name}: the oracle finds a scene in {share:.1%} of {len(invented)} pictures")
near = torch.corrcoef(torch.stack([mean[:, 0, 4, 3], mean[:, 0, 4, 4]]))[0, 1].item()
print(f"two neighbouring latents of real pictures have the correlation {near:.2f}; in noise it is 0")
fig = show.strip([rebuilt[:8], plain[:8], fitted[:8]], ["rebuilt", "plain noise", "fitted noise"])
show.figure(fig, "What random latents decode to: junk. Each number alone is likely, together they are not.")

# %% [markdown]
# People meet this again and again: *my autoencoder reconstructs, but random latents are noise*
# ([CompVis/latent-diffusion #187](https://github.com/CompVis/latent-diffusion/issues/187),
# [#227](https://github.com/CompVis/latent-diffusion/issues/227)). Nothing is broken. With a low price the
# latents are free to depend on each other: "this place is red" makes "its neighbour is red" likely. Noise
# knows nothing of that. Raise the price, and the latents look like noise again, but the pictures blur, as the
# sweep showed.
#
# **The way out is to keep the sharp autoencoder and to learn, with a second model, which latents occur.**
# That model is a diffusion model, and the two together are *latent diffusion*: lesson 12. First, diffusion
# itself: lesson 07.
#
# ## Bug museum: a mean where a sum belongs
#
# The most copied mistake in VAE code. `F.mse_loss` averages over pictures *and pixels*; the KL is summed over
# latents and averaged over pictures only. Each line looks right. Together, the first term is $d$ times too
# small, which is to say that $\beta$ is $d$ times too large, and everything collapses.
# - [pytorch/examples #234](https://github.com/pytorch/examples/issues/234) (2017): someone tries just this
#   mixture, and the digits come out "rather faint and blurry (just like digit 8)". Mended in
#   [#296](https://github.com/pytorch/examples/pull/296) by summing both.
# - [keras #3383](https://github.com/keras-team/keras/pull/3383) (2016) multiplies the error by the number of
#   pixels again, after a clean-up had lost that factor.
# - [AppliedDataSciencePartners/WorldModels
#   #12](https://github.com/AppliedDataSciencePartners/WorldModels/issues/12) (2018): "VAE performance is
#   bad". The log shows it all: a KL of 3.8e-07.
#
# Broken on purpose, then mended:

# %%
def broken(model, x, generator):
    mean, logvar = model.encode(x)
    out = model.decode(vae.sample_latent(mean, logvar, generator))
    error = F.mse_loss(out, x) / (2 * VARIANCE)  # the mean over pictures and pixels: wrong
    return error + vae.kl_divergence(mean, logvar).mean()


def mended(model, x, generator):
    mean, logvar = model.encode(x)
    out = model.decode(vae.sample_latent(mean, logvar, generator))
    error = F.mse_loss(out, x, reduction="sum") / len(x) / (2 * VARIANCE)  # the sum over pixels
    return error + vae.kl_divergence(mean, logvar).mean()


museum = {}
for rule in (broken, mended):
    torch.manual_seed(0)
    victim = vae.FlatVAE()

    def loss(step, generator, rule=rule, victim=victim):
        return rule(victim, pictures[torch.randint(len(pictures), (128,), generator=generator)], generator)

    show.track(train.fit(victim, loss, steps=STEPS, lr=2e-3), rule.__name__)
    error, cost = measure(victim, unseen)
    print(f"{rule.__name__}: squared error {error:.3f}, KL {cost[0]:.4f} + {cost[1]:.4f} nats")
    with torch.no_grad():
        museum[rule.__name__] = victim.decode(victim.encode(chosen)[0])
fig = show.strip([chosen, *museum.values()], ["unseen", *museum])
show.figure(fig, "One word, reduction='sum', between an average digit and a working model.")

# %% [markdown]
# **How to never fall for it:** write the loss in nats *per picture* (sum over what belongs to one picture,
# mean over pictures), and print the KL of each latent. A KL near 0 is an alarm.
#
# ## Try it
#
# Halve the assumed variance and double $\beta$. Say first what will change, then run the cell.

# %%
beta, variance = 2.0, VARIANCE / 2
a = train.vae_loss(model, some, 2 * VARIANCE * 1.0, torch.Generator().manual_seed(8))
b = train.vae_loss(model, some, 2 * variance * beta, torch.Generator().manual_seed(8))
print(f"error {a[0]:.4f} and {b[0]:.4f}; weighted KL {a[1]:.4f} and {b[1]:.4f}")

# %% [markdown]
# ## Quiz
#
# **1.** Your VAE's reconstructions are excellent. You decode random draws and get junk. Which number do you
# look at first, and which knob do you turn?
# <details><summary>Answer</summary>The KL. It is large: the latents are far from N(0, 1), so noise is not
# where the decoder has been. Raise beta and accept more blur, or leave it as it is and train a diffusion
# model on the latents.</details>
#
# **2.** The KL of latent 2 is 0.0001 nats, the loss is low and still falling. Is that latent useful?
# <details><summary>Answer</summary>No, it has collapsed: it is N(0, 1) for every picture and tells nothing.
# The loss does not show it, because the decoder has learned to do without.</details>
#
# **3.** A colleague doubles the side of the pictures, keeps <code>F.mse_loss(out, x) + kl</code>, and finds
# everything blurrier. Why?
# <details><summary>Answer</summary>The mean over four times as many pixels is a quarter of what the sum would
# have become, in proportion. Against it the KL weighs four times as much: beta has grown by four without
# anybody touching it.</details>
#
# **Words of this lesson:** latent, prior, posterior, ELBO, reparameterisation, KL divergence, rate,
# distortion, posterior collapse. **Next:** lesson 03 walks through the latent space; lesson 07 trains a
# diffusion model.
