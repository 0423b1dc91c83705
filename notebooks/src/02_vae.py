# %% [markdown] tags=["solution"]
# # 02 · VAE from the ELBO: solutions
#
# One answer to each exercise, and why it is so. There are others; the check takes them too.

# %% [markdown]
# # 02 · VAE from the ELBO
#
# **After this lesson you can**
# - derive the loss of a variational autoencoder in three steps, and test both its parts by themselves;
# - draw at random inside a network and still have a gradient;
# - turn the one knob, beta, and say what it buys and what it costs;
# - see a latent collapse, say beforehand when it will, and tell a dead latent from a living one;
# - find the most copied mistake in VAE code, which no error message shows.
#
# **Time:** about a minute of computing on a laptop with 2 cores, no GPU; an hour or two with the exercises.
#
# **Needs:** lesson 01 (what an autoencoder is), what a mean, a variance and a density are, and Bayes' rule. Nothing is
# downloaded, no papers read. Words in *slanted type* are explained where they come up, and again in the
# [glossary](glossary.md).
#
# An autoencoder squeezes a picture into a few numbers, its *latents*, and makes the picture again from them. A
# *variational* autoencoder, or *VAE*, can also do without the picture: it invents. Stable Diffusion has one inside that
# cannot, and at the end we see why, and what that has to do with diffusion.

# %%
import math
import time

import torch
import torch.nn.functional as F
from matplotlib import pyplot as plt
from torch import nn
from torch.distributions import Normal, kl_divergence

from minildm import oracle, runs, scenes, show, train, vae, weights
from minildm.course import check, widgets
from minildm.data import digits

opened = time.perf_counter()
TRAIN = True  # False: take the trained model that came with the package
SECONDS = 12  # of live training
STEPS = 480  # of each small training, in the sweep and in the museum

show.style()
pictures, labels = digits("train")  # (1437, 1, 8, 8) in -1..1, and 0..9
unseen, unseen_labels = digits("test")  # written by other people


def seeded(seed):
    return torch.Generator().manual_seed(seed)


# %% [markdown]
# ## The picture first
#
# Someone wrote the digits of the first row. A VAE saw each one, kept **two numbers**, and made the second row from
# them. Nobody wrote the third row: two random numbers each, and the same decoder.

# %%
shipped = weights.load("digits-vae")
with torch.no_grad():
    rebuilt = shipped.decode(shipped.encode(unseen[:10])[0])
    invented = shipped.decode(torch.randn(10, 2, generator=seeded(5)))
fig = show.strip([unseen[:10], rebuilt, invented], ["written", "two numbers each", "invented"])
show.figure(fig, "Digits the model has never seen, the same from two latents each, and digits from nothing.")

# %% [markdown]
# The digits of the second row are blurred. Two numbers are very little, and we shall see what is lost. The third row is
# the point: **a plain autoencoder cannot do it.** It puts its latents anywhere, with holes in between, and a random
# point falls into a hole (lesson 01). A VAE is an autoencoder trained so that the latents of all pictures *together*
# look like plain noise, the bell curve $\mathcal N(0, 1)$. Then noise is a good place to start.
#
# ## A story about where pictures come from
#
# Pretend that every picture $x$ was made like this:
# 1. draw latents $z$ from $p(z) = \mathcal N(0, 1)$, the *prior*: a few numbers that know nothing of each other;
# 2. decode them, and add a little noise of variance $s^2$ to every pixel:
#    $p(x \mid z) = \mathcal N(\text{decode}(z),\, s^2)$.
#
# A good decoder is one under which the real pictures are *likely*: we want $\log p(x)$ to be high. But
# $p(x) = \int p(x \mid z)\, p(z)\, dz$ runs over all $z$, and for one given picture almost every $z$ is wrong. Nobody
# can wait for that integral. So we train a helper, the **encoder** $q(z \mid x)$: it looks at the picture and proposes
# the few $z$ that matter, as a bell curve with a mean and a variance of its own.
#
# For any $q$ at all, three steps lead to an exact equation.
#
# 1. Bayes says $p(x) = p(x \mid z)\,p(z) \,/\, p(z \mid x)$, whatever $z$ is. Take logarithms.
# 2. Add and subtract $\log q(z \mid x)$, and sort:
#    $$\log p(x) = \log p(x \mid z) - \log \frac{q(z \mid x)}{p(z)} + \log \frac{q(z \mid x)}{p(z \mid x)} .$$
# 3. Average over $z$ drawn from $q$. The left side has no $z$ in it and stays as it is:
#
# $$\log p(x) \;=\;
# \underbrace{\mathbb E_{q}\big[\log p(x \mid z)\big]
# - \mathrm{KL}\big(q(z \mid x)\,\|\,p(z)\big)}_{\text{the ELBO}}
# \;+\; \underbrace{\mathrm{KL}\big(q(z \mid x)\,\|\,p(z \mid x)\big)}_{\text{never negative}}$$
#
# (Kingma & Welling 2014, [arXiv 1312.6114](https://arxiv.org/abs/1312.6114), eq. 1 and 3.) KL is the *Kullback-Leibler
# divergence*: how much one distribution differs from another, 0 if not at all, never less. So the **ELBO**, the
# *evidence lower bound*, lies below what we want and can be computed. Raise it, and two good things happen at once:
# the pictures become likelier, and the encoder becomes more truthful.
#
# Do not take it on trust. Here is the smallest such story, one latent and one pixel, $x = w z + s\,\epsilon$. In it
# everything is known: $p(x) = \mathcal N(0,\, w^2 + s^2)$, and the true $p(z \mid x)$, the *posterior*, is a bell
# curve too.

# %%
w, s, x = 1.5, 0.6, torch.tensor(1.2)
log_p = Normal(0.0, math.hypot(w, s)).log_prob(x)
true_mean, true_var = w * x / (w**2 + s**2), torch.tensor(s**2 / (w**2 + s**2))


def elbo(mean, var):
    fit = -0.5 * math.log(2 * math.pi * s**2) - ((x - w * mean) ** 2 + w**2 * var) / (2 * s**2)
    return fit - 0.5 * (mean**2 + var - 1 - var.log())


means = torch.linspace(-0.6, 2.0, 200)
fig, ax = plt.subplots(figsize=(8.4, 3.2))
for factor, name in ((1.0, "as wide as p(z|x)"), (4.0, "too wide"), (0.3, "too narrow")):
    below = elbo(means, factor * true_var)
    ax.plot(means, below, label=f"ELBO, q {name}")
    to_truth = kl_divergence(Normal(means, (factor * true_var).sqrt()), Normal(true_mean, true_var.sqrt()))
    check.agree(f"log p(x) and ELBO + KL to the truth, q {name}", below + to_truth, log_p)
ax.axhline(log_p, color="black", linestyle="--", linewidth=1.8, label="log p(x)")
ax.plot(true_mean, log_p, "o", color="black", markersize=9)
ax.set(xlabel="mean of q", ylabel="nats", ylim=(-6, -1))
ax.legend(loc="center left", bbox_to_anchor=(1, 0.5))
show.figure(fig, "The bound is a bound: no q gets above log p(x); only the true p(z|x), the dot, reaches it.")

# %% [markdown]
# A *nat* is the unit of information that goes with the natural logarithm: 1 nat is 1.44 bits.
#
# ## Part one of the loss: draw a latent, and still have a gradient
#
# The first term averages over $z \sim q$. We take one draw per picture and let the many pictures average. But how do
# you improve the encoder through a dice roll? By rolling the dice *elsewhere*. Draw $\epsilon$ from
# $\mathcal N(0, 1)$, which no network has a say in, then shift and stretch it:
#
# $$z = \mu + \sigma\,\epsilon, \qquad \sigma = e^{\frac12 \log \sigma^2}$$
#
# (Kingma & Welling 2014, section 2.4; the *reparameterisation*.) The encoder gives $\log \sigma^2$ and not $\sigma$,
# because a logarithm may be any number and a width may not. Now $z$ has a slope: move $\mu$ by a little, and $z$ moves
# by as much.
#
# As in lesson 01: write it, prove with `check.same` that it is the library's, and import it ever after.

# %%
def my_sample_latent(mean, logvar, generator=None):
    eps = torch.randn(mean.shape, generator=generator).to(mean)
    return mean + (0.5 * logvar).exp() * eps


check.same(my_sample_latent, vae.sample_latent)
mean = torch.full((100_000,), 2.0, requires_grad=True)
logvar = torch.full((100_000,), math.log(0.25), requires_grad=True)
z = my_sample_latent(mean, logvar, seeded(0))
z.sum().backward()
check.agree("dz/dmean and 1", mean.grad, torch.ones_like(mean))
check.agree("dz/dlogvar and (z - mean) / 2", logvar.grad, (z - mean).detach() / 2)
print(f"100,000 draws: mean {z.mean():.3f} (wanted 2), variance {z.var():.3f} (wanted 0.25)")
print("drawn the naive way it has a gradient:", Normal(mean, (0.5 * logvar).exp()).sample().requires_grad)

# %% [markdown]
# ## Part two: what it costs to say something
#
# $\mathrm{KL}(q \,\|\, p)$ is the average of $\log q(z) - \log p(z)$ over $z \sim q$. Write both logarithms out; the
# constants cancel:
#
# $$\log q(z) - \log p(z) = -\tfrac12 \log \sigma^2 - \frac{(z - \mu)^2}{2 \sigma^2} + \frac{z^2}{2} .$$
#
# Only two averages are left to take. $(z - \mu)^2$ has the average $\sigma^2$, which is what variance means. And $z^2$
# has the average $\mu^2 + \sigma^2$. So each latent costs
#
# $$\mathrm{KL}\big(\mathcal N(\mu, \sigma^2)\,\|\,\mathcal N(0, 1)\big)
# = \tfrac12\big(\mu^2 + \sigma^2 - 1 - \log \sigma^2\big)$$
#
# (Kingma & Welling 2014, appendix B.) Read it aloud: *moving away from zero costs, and being sure costs.* A latent
# that says nothing, $\mu = 0$ and $\sigma = 1$ whatever the picture, costs nothing. The latents of one picture are
# **summed**: each of them speaks.

# %%
def my_kl(mean, logvar):
    each = 0.5 * (mean**2 + logvar.exp() - 1 - logvar)
    return each.flatten(1).sum(1)  #                                                      (b, ...) -> (b,)


check.same(my_kl, vae.kl_divergence)
mean, logvar = torch.randn(2, 500, 4, generator=seeded(1))
theirs = kl_divergence(Normal(mean, (0.5 * logvar).exp()), Normal(0.0, 1.0)).sum(1)
check.agree("our KL and the one of torch.distributions", my_kl(mean, logvar), theirs, within=1e-4)
check.agree("the cost of a silent latent and 0", my_kl(torch.zeros(1, 4), torch.zeros(1, 4)), torch.zeros(1))

# %% [markdown]
# ## The loss
#
# For a bell curve of variance $s^2$, $-\log p(x \mid z)$ is the squared error over $2 s^2$, summed over the $d$ pixels,
# plus a constant that no training changes. So what we make small, for one picture, is minus the ELBO:
#
# $$\frac{1}{2 s^2} \sum_{i=1}^{d} (x_i - \hat x_i)^2 \;+\; \beta\,\mathrm{KL}$$
#
# (Kingma & Welling 2014, eq. 10, with a single draw.) With $\beta = 1$ it is the ELBO. Other $\beta$ make the *β-VAE*
# (Higgins et al. 2017). Look closely: **$\beta$ and $s^2$ are one knob.** Only the product $2 s^2 \beta$ counts, the
# weight of the second term when the first is written as a plain squared error. Programs multiply all by $2 s^2 / d$: the
# first part becomes the familiar mean squared error, the second $2 s^2 \beta\, \mathrm{KL} / d$. `kl_weight` is
# $2 s^2 \beta$; the division by $d$ stands in the code.

# %%
def my_vae_loss(model, pixels, kl_weight, generator=None):
    mean, logvar = model.encode(pixels)
    out = model.decode(my_sample_latent(mean, logvar, generator))
    d = pixels[0].numel()
    return (out - pixels).square().mean(), kl_weight * my_kl(mean, logvar).mean() / d


check.same(my_vae_loss, train.vae_loss)
VARIANCE = runs.DIGITS_VARIANCE  # s squared, of a pixel in -1..1
torch.manual_seed(0)
model, some = vae.FlatVAE(), pictures[:64]
with torch.no_grad():
    mean, logvar = model.encode(some)
    out = model.decode(vae.sample_latent(mean, logvar, seeded(2)))
    fit = Normal(out, math.sqrt(VARIANCE)).log_prob(some).flatten(1).sum(1)  # log p(x|z), with the constant
    bound = (fit - vae.kl_divergence(mean, logvar)).mean()
    loss = sum(train.vae_loss(model, some, 2 * VARIANCE, seeded(2)))
    in_nats = loss * 64 / (2 * VARIANCE) + 64 / 2 * math.log(2 * math.pi * VARIANCE)
    check.agree("minus the ELBO, and the loss in nats with its constant", -bound, in_nats, within=1e-3)
    a = train.vae_loss(model, some, 2 * VARIANCE * 1.0, seeded(8))
    b = train.vae_loss(model, some, 2 * (VARIANCE / 2) * 2.0, seeded(8))
    check.agree("half of s squared and twice beta: nothing changed", torch.stack(a), torch.stack(b))
print("encoder:", [tuple(p.shape) for p in model.encoder.parameters() if p.ndim == 2])
print("decoder:", [tuple(p.shape) for p in model.decoder.parameters() if p.ndim == 2])

# %% [markdown]
# The network is small: three layers in, three layers out; 64 pixels become two means and two log-variances, and two
# latents become 64 pixels.
#
# ## Train it
#
# The recipe `digits-vae` holds the network, the loss above and a batch of 128. `fit` is the library's training loop.
# The *check* is the squared error on the digits of other people.

# %%
if TRAIN:
    torch.manual_seed(0)
    run = runs.digits_run(beta=1.0)
    model = run.model
    progress = train.fit(model, run.loss, seconds=SECONDS, lr=run.lr)
    history = show.track(progress, "digits VAE", check=lambda: run.check(model), marks=20)
    fig, ax = plt.subplots(figsize=(8.4, 2.8))
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
lazy = (unseen - pictures.mean(0)).square().mean()
print(f"the mean digit as the only answer would have the error {lazy:.3f}")
guesses = torch.linspace(0.05, 0.5, 2000, dtype=torch.float64)  # of s squared
best = guesses[(0.5 * guesses.log() + error / (2 * guesses)).argmin()]
check.agree("the s squared that suits this error best, and the error", best, error, within=1e-3)

# %% [markdown]
# The last line answers a question that you may have had: **who says how large $s^2$ is?** In the ELBO it stands twice,
# in $\frac{1}{2 s^2} \cdot \text{error}$ and in the constant, $\frac12 \log s^2$ for each pixel. (In the ELBO the error
# is that of draws of $q$, usually a little larger than this one, which is rebuilt from the mean.) The slope of the sum
# is 0 where $s^2$ is the mean squared error itself: how far we *say* the pixels stray should be how far they *do*
# (Rybkin et al. 2021, [sigma-VAE](https://orybkin.github.io/sigma-vae/)). Our 0.1 lies near it.
#
# The loss should settle, but not at 0: two numbers cannot hold a digit, and the KL is the price of what they do hold.

# %%
chosen = torch.stack([unseen[unseen_labels == digit][0] for digit in range(10)])
with torch.no_grad():
    mean, logvar = model.encode(chosen)
    rebuilt = model.decode(mean)
    again = model.decode(vae.sample_latent(mean, logvar, seeded(3)))
    invented = model.decode(torch.randn(20, 2, generator=seeded(4)))
rows = [chosen, rebuilt, again, invented[:10], invented[10:]]
fig = show.strip(rows, ["unseen", "mean of q", "draw of q", "draws of N(0, 1)", "and more"])
show.figure(fig, "Digits the model never met, and digits from noise. Between two kinds lie in-betweens.")

# %% [markdown]
# **The hard thing, aloud: VAE pictures are blurred, and it is not a bug.** Where two numbers leave several pictures
# possible, the least squared error is their average, and an average of digits is a smear.
#
# ## A map of all digits
#
# With two latents we can look at the whole latent space at once. Left, every training digit stands where the encoder's
# mean puts it. Right, the same from the other side: walk over the latent space and decode. The steps are *quantiles* of
# $\mathcal N(0, 1)$, so each cell holds as many random draws as any other (Kingma & Welling 2014, figure 4; lesson 03
# says why).

# %%
def draw_map(ax, model, size=34):
    """All training digits at the means of their posteriors, and circles at 1 and 2 deviations of N(0, 1)."""
    with torch.no_grad():
        mean, _ = model.encode(pictures)
    for digit, colour in enumerate(plt.get_cmap("tab10").colors):
        of = mean[labels == digit]
        ax.scatter(of[:, 0], of[:, 1], marker=f"${digit}$", s=size, color=colour, linewidths=0.3)
    turn = torch.linspace(0, 2 * math.pi, 100)
    for radius in (1, 2):
        ax.plot(radius * turn.cos(), radius * turn.sin(), color="black", linewidth=1.5, linestyle=":")
    reach = max(3.2, mean.abs().max().item())
    ax.set(xlim=(-reach, reach), ylim=(-reach, reach), aspect="equal")


steps = Normal(0.0, 1.0).icdf(torch.linspace(0.03, 0.97, 16))
across, up = torch.meshgrid(steps, steps.flip(0), indexing="xy")
with torch.no_grad():
    decoded = model.decode(torch.stack([across.flatten(), up.flatten()], 1))  #          (256, 1, 8, 8)
fig, axes = plt.subplots(1, 2, figsize=(11, 5.4))
draw_map(axes[0], model)
axes[0].set(xlabel="latent 1", ylabel="latent 2")
axes[1].imshow(show.sheet(decoded, columns=16, gap=4, zoom=4))
axes[1].set(xlabel="latent 1, by quantiles", ylabel="latent 2, by quantiles", xticks=[], yticks=[])
show.figure(fig, "Left: where the digits live; nobody told the model which is which. Dotted: 1 and 2 deviations "
            "of N(0, 1). Right: every place decoded, and one digit turns into the next.")  # fmt: skip

# %% [markdown]
# Do the latents look like noise, as promised? Not to the letter: they lie around 0, but wider than the dotted circles.
# Each picture's KL pulls inwards, yet telling two digits apart needs room, and at this price room is worth buying. The
# price is a knob.
#
# ## The knob: rate against distortion
#
# The KL is a **rate**: how many nats the latents tell about the picture. The squared error is a **distortion**: what
# is still wrong when they have been told. (The words are those of Alemi et al. 2018,
# [arXiv 1711.00464](https://arxiv.org/abs/1711.00464).) $\beta$ is the price of a nat. We train seven models that
# differ in it alone. **Before you run it:** what happens when nats are very dear?

# %%
BETAS = (0.01, 0.1, 1.0, 3.0, 10.0, 20.0, 40.0)
sweep, parts = {}, {}
for beta in BETAS:
    torch.manual_seed(0)
    run = runs.digits_run(beta=beta)
    show.track(train.fit(run.model, run.loss, steps=STEPS, lr=2 * run.lr), f"beta = {beta:g}")
    sweep[beta] = run.model
    with torch.no_grad():  # both parts of minus the ELBO, in nats a picture, on unseen digits
        mean, logvar = run.model.encode(unseen)
        draws = [run.model.decode(vae.sample_latent(mean, logvar, seeded(seed))) for seed in range(8)]
        misfit = sum((out - unseen).square().flatten(1).sum(1).mean() for out in draws) / 8 / (2 * VARIANCE)
        parts[beta] = misfit.item(), vae.kl_divergence(mean, logvar).mean().item()

# %%
misfits, rates = zip(*parts.values(), strict=True)
strongest = torch.linalg.eigvalsh(torch.cov(pictures.flatten(1).T))[-1].item()
fig, axes = plt.subplots(1, 2, figsize=(11, 3.8), width_ratios=(1.3, 1))
axes[0].semilogx(BETAS, misfits, "o-", label="error, over 2 s²")
axes[0].semilogx(BETAS, rates, "o-", label="KL")
both = [sum(pair) for pair in parts.values()]
axes[0].semilogx(BETAS, both, "ko--", linewidth=1.8, label="both: minus the ELBO")
axes[0].axvline(strongest / VARIANCE, color="black", linestyle=":", linewidth=1.5)
axes[0].text(strongest / VARIANCE * 0.9, 25, "see the toy below", ha="right")
axes[0].set(xlabel="beta in training", ylabel="nats a picture", title="the parts of the ELBO", ylim=(0, None))
axes[0].legend(loc="upper left", bbox_to_anchor=(0.12, 1.0))
axes[1].plot(rates, misfits, "o-")
for beta, rate, misfit in zip(BETAS, rates, misfits, strict=True):
    below = beta == 1.0
    place = {"xytext": (0, -20 if below else 7), "ha": "center" if beta <= 1 else "left"}
    axes[1].annotate(f" beta {beta:g}", (rate, misfit), textcoords="offset points", **place)
axes[1].set(xlabel="rate: KL in nats", ylabel="distortion: error", title="one against the other")
axes[1].margins(0.1)
show.figure(fig, "Seven trainings, measured on unseen digits. Dear nats are not bought: the rate falls, "
            "the error rises, and at the end all falls silent.")  # fmt: skip
with torch.no_grad():
    shown = (0.01, 1.0, 10.0, 40.0)
    rows = [sweep[beta].decode(sweep[beta].encode(chosen)[0]) for beta in shown]
fig = show.strip([chosen, *rows], ["unseen", *(f"beta {beta:g}" for beta in shown)])
show.figure(fig, "The same ten digits, rebuilt. At beta 40 every digit is the average of all digits.")

# %% [markdown]
# Three things to see.
# - **The dashed line is lowest near $\beta = 1$.** Minus the ELBO is what $\beta = 1$ was trained on, and all the
#   others on something else. (On unseen digits a somewhat higher price may come out as good: it also keeps from
#   learning by heart.)
# - **Left of it nats are bought for nothing.** They tell training digits apart, by heart, and unseen digits gain
#   nothing from it.
# - **At the right end is *posterior collapse*:** $q(z \mid x)$ is $\mathcal N(0, 1)$ whatever the picture, the KL is
#   0, the latents say nothing, and the decoder has learned to live without them. The loss curve looks fine. Only the
#   KL tells.
#
# ## Play: the price of a nat
#
# Left the map, with one unseen digit on it: the ellipses are its posterior $q$, one and two deviations. Right the
# digit, the mean of $q$ decoded, draws of $q$ decoded; and below, inventions. Move $\beta$ up and watch the ellipse:
# it grows until it *is* the dotted circles. Then go down, and look at the inventions: at which $\beta$ are they best,
# and why not at the lowest?

# %% tags=["explorer"] jupyter={"source_hidden": true}
import io

import ipywidgets
from PIL import Image, ImageDraw

SHOWN = torch.cat([unseen[unseen_labels == digit][1:3] for digit in range(10)])  # two of each kind


def backdrop(small, title):
    """All that does not depend on the digit, drawn once, and the way from a point of the map to its pixel."""
    fig = plt.figure(figsize=(10.2, 4.7), layout="none")
    left, below = fig.add_axes((0.005, 0.01, 0.43, 0.93)), fig.add_axes((0.45, 0.0, 0.545, 0.72))
    draw_map(left, small, size=26)
    with torch.no_grad():
        invented = small.decode(torch.randn(40, 2, generator=seeded(7)))
    below.imshow(show.sheet(invented, columns=8, gap=1, zoom=5))
    for ax, text in ((left, title), (below, "invented: draws of N(0, 1)")):
        ax.set_title(text)
        ax.axis("off")
        ax.apply_aspect()
    fig.text(below.get_window_extent().x0 / fig.bbox.width, 0.955, "the digit, the mean of q, six draws of q")
    fig.savefig(file := io.BytesIO(), format="png")
    image = Image.open(file).convert("RGB")
    place = left.transData.frozen()
    start = round(below.get_window_extent().x0), round(0.06 * image.height)
    plt.close(fig)
    return image, place, start


VIEWS = {}
for beta, small in sweep.items():
    misfit, rate = parts[beta]
    with torch.no_grad():
        mean, logvar = small.encode(SHOWN)
        some = torch.stack([vae.sample_latent(mean, logvar, seeded(seed)) for seed in range(6)])
        rows = torch.stack([SHOWN, small.decode(mean), *map(small.decode, some)])  #     (8, 20, 1, 8, 8)
    image = backdrop(small, f"beta {beta:g}: KL {rate:.1f}, error {misfit:.0f} nats")
    VIEWS[f"{beta:g}"] = *image, mean, (0.5 * logvar).exp(), rows


def view(beta, digit):
    image, place, start, mean, width, rows = VIEWS[beta]
    image = image.copy()
    for deviations in (1, 2):
        reach = deviations * width[digit]
        corners = place.transform(torch.stack([mean[digit] - reach, mean[digit] + reach]).numpy())
        (left, low), (right, high) = corners + [[-3, -3], [3, 3]]  # never too small to be seen
        edges = (left, image.height - high, right, image.height - low)
        ImageDraw.Draw(image).ellipse(edges, outline="black", width=3)
    image.paste(show.to_image(rows[:, digit], columns=8, size=56, gap=6), start)
    image.save(file := io.BytesIO(), format="png", compress_level=3)
    return file.getvalue()


knob = ipywidgets.SelectionSlider(options=[*VIEWS], value="1", description="beta")
box = widgets.explorer(view, beta=knob, digit=(0, 19, 1, 4))
widgets.show(box, "The map of a model, one digit's posterior on it, what it decodes to, and inventions.")

# %% tags=["widget-test"] jupyter={"source_hidden": true}
# Moves both controls through their values and back, so that a mistake in the explorer cannot stay unseen.
slowest = widgets.drive(box, limit=0.15)

# %% [markdown]
# ## When does a latent collapse? A toy that can be solved
#
# Data: points in a plane, of variance $\lambda_1 = 1$ along one direction and $\lambda_2 = 0.1$ along the other.
# Model: a VAE without hidden layers, $\hat x = W z$. In each direction let the decoder have the slope $w$. The best
# encoder is the true posterior of our smallest story, with variance $s^2 / (w^2 + s^2)$. The likelihood is highest
# where the story's variance $w^2 + s^2$ is the data's, so
#
# $$w^2 = \max(\lambda - s^2,\, 0), \qquad
# \mathrm{KL} = \tfrac12 \log \frac{\lambda}{s^2} \ \text{ if } \lambda > s^2, \text{ else } 0.$$
#
# The first is the well-known solution of probabilistic PCA (Bishop 2006, eq. 12.45; Lucas et al. 2019,
# [arXiv 1911.02469](https://arxiv.org/abs/1911.02469), show that the linear VAE finds it). The second takes one more
# line. Averaged over the data, $\mu^2$ is the prior's variance minus the posterior's, $1 - s^2/\lambda$; so
# $\mu^2 + \sigma^2 - 1$ averages to 0, and $-\frac12 \log \sigma^2 = \frac12 \log (\lambda / s^2)$ is left. In words:
# **a direction with less spread than the noise we assume is not worth one nat.** With $\beta$ in front of the KL, read
# $\beta s^2$ for $s^2$. That is the dotted line above: the strongest direction of the digits, over $s^2$. Hidden
# layers and all, it still told us where the end would be.

# %%
class LinearVAE(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder, self.decode = nn.Linear(2, 4), nn.Linear(2, 2)

    def encode(self, x):
        return self.encoder(x).chunk(2, dim=1)


SPREAD = torch.tensor([1.0, 0.1])  # the two variances of the data


def upright(count, generator):
    return torch.randn(count, 2, generator=generator) * SPREAD.sqrt()


noises, found = torch.logspace(-1.4, 0.5, 7), []
for variance in noises.tolist():
    torch.manual_seed(1)
    toy = LinearVAE()

    def loss(step, generator, toy=toy, variance=variance):
        return sum(train.vae_loss(toy, upright(512, generator), 2 * variance, generator))

    show.track(train.fit(toy, loss, steps=400, lr=0.04), f"s squared = {variance:.2f}")
    found.append(measure(toy, upright(4000, seeded(6)))[1].sort(descending=True).values)
found, fine = torch.stack(found), torch.logspace(-1.4, 0.5, 200)
fig, ax = plt.subplots(figsize=(8.4, 3.2))
for i, (spread, colour) in enumerate(zip(SPREAD.tolist(), ("C0", "C1"), strict=True)):
    formula = 0.5 * (spread / fine).log().clamp(min=0)
    ax.semilogx(fine, formula, color=colour, label=f"formula, variance {spread:g}")
    ax.semilogx(noises, found[:, i], "o", color=colour, markersize=8, label=f"trained, latent {i + 1}")
ax.set(xlabel="assumed noise, s squared", ylabel="nats", title="what each latent says")
ax.legend(loc="upper right")
show.figure(fig, "Each latent falls silent where the formula says: when the noise exceeds its spread.")
theory = 0.5 * (SPREAD / noises[:, None]).log().clamp(min=0)
check.agree("nats of the toy, trained and by the formula", found.sum(1), theory.sum(1), within=0.1)

# %% [markdown]
# ## Collapse without a fault: two Gaussians
#
# Now the decoder may say how wide its noise is, **for each axis by itself**, and learns it. Three sets of points: one
# Gaussian that stands upright; *the same*, tilted; and two clusters. (The device is that of Berkeley's CS294-158,
# [homework 2](https://github.com/rll/deepul/blob/master/homeworks/hw2/hw2.ipynb).) Which of them needs latents?

# %%
class PlaneVAE(nn.Module):
    def __init__(self, hidden=32):
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(2, hidden), nn.SiLU(), nn.Linear(hidden, 4))
        self.decode = nn.Sequential(nn.Linear(2, hidden), nn.SiLU(), nn.Linear(hidden, 2))
        self.noise = nn.Parameter(torch.zeros(2))  # log of s squared, of each axis

    def parts(self, x, generator):
        """Minus the ELBO in two parts: the misfit (b,) and the price of each latent (b, 2)."""
        mean, logvar = self.encoder(x).chunk(2, dim=1)
        out = self.decode(vae.sample_latent(mean, logvar, generator))
        misfit = 0.5 * ((x - out) ** 2 / self.noise.exp() + self.noise + math.log(2 * math.pi)).sum(1)
        return misfit, 0.5 * (mean**2 + logvar.exp() - 1 - logvar)


def tilted(count, generator):
    return upright(count, generator) @ torch.tensor([[1.0, 1.0], [-1.0, 1.0]]) / math.sqrt(2)


def clusters(count, generator):
    side = (torch.rand(count, 1, generator=generator) < 0.5) * 2.0 - 1
    return side * torch.tensor([1.0, 0.5]) + 0.25 * torch.randn(count, 2, generator=generator)


fig, axes = plt.subplots(2, 3, figsize=(10.6, 5.6), sharex=True, sharey=True)
bound, price = {}, {}
for (above, ax), data in zip(axes.T, (upright, tilted, clusters), strict=True):
    torch.manual_seed(0)
    plane = PlaneVAE()

    def loss(step, generator, plane=plane, data=data):
        misfit, cost = plane.parts(data(256, generator), generator)
        return (misfit + cost.sum(1)).mean()

    show.track(train.fit(plane, loss, steps=700, lr=0.02), data.__name__)
    with torch.no_grad():
        misfit, cost = plane.parts(data(20_000, seeded(9)), seeded(8))
        bound[data] = -(misfit + cost.sum(1)).mean().item()
        price[data] = cost.mean(0).sort(descending=True).values
        decoded = plane.decode(torch.randn(500, 2, generator=seeded(10)))
        noisy = decoded + (0.5 * plane.noise).exp() * torch.randn(500, 2, generator=seeded(11))
    above.scatter(*data(500, seeded(9)).T, s=8, color="0.35")
    above.set(title=data.__name__, xlim=(-3.2, 3.2), ylim=(-2.3, 2.3), aspect="equal")
    ax.scatter(*noisy.T, s=8, label="with its noise")
    ax.scatter(*decoded.T, s=8, color="C3", label="without")
    ax.set(title=f"invented: {price[data][0]:.2f} + {price[data][1]:.2f} nats", aspect="equal")
axes[1, 0].legend(loc="lower left", markerscale=2.5, handletextpad=0.1, borderpad=0)
show.figure(fig, "Above the data, below latents drawn from N(0, 1) and decoded. Upright, they hardly leave one "
            "point: the noise does all the work.")  # fmt: skip
best = -math.log(2 * math.pi * math.e) - 0.5 * SPREAD.log().sum().item()  # mean of log p(x), were p the truth
for data in (upright, tilted):
    check.agree(f"{data.__name__}: the ELBO and the best log p(x), {best:.2f}", bound[data], best, within=0.05)
needed = 0.5 * (SPREAD[0] / SPREAD[1]).log()
check.agree("tilted: nats of latent 1 and the toy's formula", price[tilted][0], needed, within=0.1)

# %% [markdown]
# Upright: **both latents are dead, and nothing is wrong.** The noise of the decoder is wide along one axis and narrow
# along the other, and that says all there is to say; no $\log p(x)$ can be higher, and the ELBO has reached it.
# Tilted, the same cloud cannot be said axis by axis, so one latent comes to life and tells the place along it: for
# $\frac12 \log (1 / 0.1)$ nats, the formula of the toy. And the clusters need to hear which one it is. That is one
# bit, $\log 2 = 0.69$ nats; it costs more, since two bell curves cannot share out the prior's one bell without a seam.
# Nor can a decoder without jumps tear a cloud in two: it draws a bridge of points that no one has seen.
#
# Remember it as a rule: **latents say what the decoder cannot say by itself.** A decoder that can say everything, as
# a large language model can, may leave them silent.
#
# ## Which latents are alive?
#
# Eight latents for the digits, at a high price ($\beta = 8$). Look at each by itself: the histogram of its draws $z$,
# over all training pictures, against the bell curve that was promised; and the histogram of its means.

# %%
torch.manual_seed(0)
eight = vae.FlatVAE(latent=8)


def loss(step, generator):
    batch = pictures[torch.randint(len(pictures), (128,), generator=generator)]
    return sum(train.vae_loss(eight, batch, 2 * VARIANCE * 8, generator))


show.track(train.fit(eight, loss, steps=STEPS, lr=5e-3), "eight latents")
with torch.no_grad():
    mean, logvar = eight.encode(pictures)
    z = vae.sample_latent(mean, logvar, seeded(5))
    cost = measure(eight, pictures)[1]
bell = torch.linspace(-4, 4, 200)
fig, axes = plt.subplots(2, 4, figsize=(11, 4.4), sharex=True)
for i, ax in zip(cost.argsort(descending=True).tolist(), axes.flat, strict=True):
    bins, line = {"range": (-4, 4), "density": True}, {"histtype": "step", "color": "C1", "linewidth": 2}
    ax.hist(z[:, i], bins=40, alpha=0.45, label="draws", **bins)
    ax.hist(mean[:, i], bins=80, label="means", **bins, **line)
    ax.plot(bell, Normal(0.0, 1.0).log_prob(bell).exp(), color="black", linewidth=2, label="N(0, 1)")
    ax.set(title=f"{cost[i]:.2f} nats, var {mean[:, i].var():.3f}", ylim=(0, 0.9), yticks=[])
fig.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
show.figure(fig, "Eight latents, sorted by their cost. The last ones fit the bell curve best, and say nothing.")
print(f"alive: {(mean.var(0) > 0.01).sum()} of 8")

# %% [markdown]
# There is the trap. **A histogram that fits the bell curve perfectly is no good sign.** The dead latents fit best:
# their draws are pure noise, and their means are one needle at 0, the same for all pictures. So ask the *means*. The
# usual test calls a latent *active* if the variance of its mean, over all pictures, is above 0.01 (Burda et al. 2016,
# [arXiv 1509.00519](https://arxiv.org/abs/1509.00519)). You will write it in the exercises, and it has its own traps.
#
# Dead latents do not hurt. They show how many nats the model found worth their price; the histogram over *all* latents
# together would have told you nothing.
#
# ## The same idea, one size up
#
# The autoencoder of latent diffusion is a VAE too, with convolutions in place of `Linear` (Rombach et al. 2022,
# [arXiv 2112.10752](https://arxiv.org/abs/2112.10752), section 3.1). Ours was trained on the shapes world: 3x32x32
# pixels become 4x8x8 latents. The class is `vae.VAE`, and with other numbers in its config it is the one inside Stable
# Diffusion. Only the price differs: a nat costs almost nothing here, since the pictures must come back sharp.

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
print(f"rebuilt: {psnr:.1f} dB; the oracle reads every attribute right in {right:.1%} of {len(wanted)}")
cost = vae.kl_divergence(mean, logvar).mean()
print(f"KL {cost:.0f} nats a picture; of a digit at beta 1: {parts[1.0][1]:.1f}")

noise = torch.randn(mean.shape, generator=seeded(7))
with torch.no_grad():
    plain = big.decode(noise / big.config.scaling_factor).clamp(-1, 1)
    fitted = big.decode(mean.mean(0) + mean.std(0) * noise).clamp(-1, 1)
for name, invented in (("plain noise", plain), ("noise with the right mean and spread", fitted)):
    share = oracle.read(invented).readable.float().mean().item()
    print(f"{name}: the oracle finds a scene in {share:.1%} of {len(invented)} pictures")


def foretold(z):
    """The share of the latents' variance that a linear guess from the four neighbours explains."""
    z = (z - z.mean(0)) / z.std(0)
    sides = z[..., :-2, 1:-1], z[..., 2:, 1:-1], z[..., 1:-1, :-2], z[..., 1:-1, 2:]
    known, own = (part.movedim(1, -1).flatten(0, 2) for part in (torch.cat(sides, 1), z[..., 1:-1, 1:-1]))
    guess = known @ torch.linalg.lstsq(known, own).solution
    return 1 - (own - guess).square().mean() / own.square().mean()


shares = foretold(mean), foretold(noise)
print(f"foretold by a latent's neighbours: {shares[0]:.0%} of its variance; in noise {shares[1]:.0%}")
rows = [shapes[:8], rebuilt[:8], plain[:8], fitted[:8]]
show.figure(show.strip(rows, ["drawn", "rebuilt", "plain noise", "fitted noise"]),
            "Sharp, since 256 latents are kept and the encoder is sure of each. But let it invent, and out "
            "comes junk: each number alone is likely, together they are not.")  # fmt: skip

# %% [markdown]
# *Plain noise* has been brought to the spread of all latents together (by one number, the *scaling factor*: lesson 12);
# *fitted noise* has, to be fair, the right mean and the right spread at each of the 256 places. This is the complaint
# quoted in lesson 01, about just this kind of VAE. Nothing is broken. With a low price the latents are free to depend
# on each other: "this place is red" makes "its neighbour is red" likely. Noise knows nothing of that. Raise the price,
# and the latents look like noise again, but the pictures blur, as the sweep showed.
#
# **The way out is to keep the sharp autoencoder and to learn, with a second model, which latents occur.** That model
# is a diffusion model, and the two together are *latent diffusion*: lesson 12.
#
# ## Bug museum: a mean where a sum belongs
#
# The most copied mistake in VAE code. `F.mse_loss` averages over pictures *and pixels*; the KL is summed over latents
# and averaged over pictures only. Each line looks right. Together, the first term is $d$ times too small, which is to
# say that $\beta$ is $d$ times too large, and everything collapses.
# - [keras #3383](https://github.com/keras-team/keras/pull/3383) (2016) brings back the number of pixels as a factor,
#   which a clean-up had lost; a reader had found "the same output" all over the latent space
#   ([#3373](https://github.com/keras-team/keras/issues/3373)).
# - [pytorch/examples #234](https://github.com/pytorch/examples/issues/234) (2017), mended in
#   [#296](https://github.com/pytorch/examples/pull/296) by summing both.
# - [WorldModels #12](https://github.com/AppliedDataSciencePartners/WorldModels/issues/12) (2018): "VAE performance is
#   bad". The log shows it all: a KL of 3.8e-07.
# - [sigma-vae-pytorch #12](https://github.com/orybkin/sigma-vae-pytorch/pull/12) (2026!): blurry pictures that will not
#   improve, in the code of a paper on just this balance.
#
# Broken on purpose, then mended. Before you run the cell: our $d$ is 64. Which $\beta$ of the sweep will the broken
# one be like?

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

    show.track(train.fit(victim, loss, steps=STEPS, lr=4e-3), rule.__name__)
    error, cost = measure(victim, unseen)
    print(f"{rule.__name__}: squared error {error:.3f}, KL {cost[0]:.4f} + {cost[1]:.4f} nats")
    with torch.no_grad():
        museum[rule.__name__] = victim.decode(victim.encode(chosen)[0])
fig = show.strip([chosen, *museum.values()], ["unseen", *museum])
show.figure(fig, "One word, reduction='sum', between an average digit and a working model.")

# %% [markdown]
# The other way round it is found as well: the *KL* averaged over the latents
# ([keras-molecules #59](https://github.com/maxhodak/keras-molecules/issues/59)). That is a $\beta$ which is too small,
# by the number of latents; nothing collapses, and draws of $\mathcal N(0, 1)$ decode to junk.
#
# **How to never fall for it:** write the loss in nats *per picture* (sum over what belongs to one picture, mean over
# pictures), and print the KL of each latent. A KL near 0 is an alarm, and doubling the size of the pictures must not
# change what a nat costs.

# %% [markdown] tags=["exercise"]
# ## Exercises
#
# Write your answer in place of the dots and run the cell. Its last line looks at what you wrote: a tick, or what is
# amiss and on which input. `check.hint("02.kl")` gives a hint, and a clearer one each time; nothing is counted.
# Whatever you write, the notebook runs on.

# %% tags=["setup"]
import math

import torch

from minildm import vae
from minildm.course import check

# %% [markdown] tags=["exercise"]
# ### 02.kl: the price against any prior
#
# In the lesson the prior was $\mathcal N(0, 1)$. Let it be any bell curve, $\mathcal N(m, v)$. (Such divergences come
# back in lesson 07: the loss of a diffusion model begins as a sum of them.) Write
# `kl(mean, logvar, prior_mean, prior_logvar)`:
# - all four have the same shape, (b, ...): a vector of latents for each picture, or a small picture of them;
# - it returns nats, one number for each picture, (b,).
#
# Go the way of "Part two". Both logarithms have a variance of their own now, and of the two averages one is new: over
# $z \sim q$, $(z - m)^2$ has the average $\sigma^2 + (\mu - m)^2$.

# %% tags=["exercise"]
def kl(mean, logvar, prior_mean, prior_logvar):
    # BEGIN SOLUTION
    variance, prior_variance = logvar.exp(), prior_logvar.exp()
    gap = (mean - prior_mean) ** 2
    each = 0.5 * (prior_logvar - logvar + (variance + gap) / prior_variance - 1)
    return each.flatten(1).sum(1)  # all that belongs to one picture
    # END SOLUTION


check.exercise("02.kl", kl)

# %% [markdown] tags=["solution"]
# $\log q - \log p = \frac12 (\log v - \log \sigma^2) - \frac{(z - \mu)^2}{2 \sigma^2} + \frac{(z - m)^2}{2 v}$; the
# middle part averages to $\frac12$, the last to $(\sigma^2 + (\mu - m)^2) / 2v$. Put $m = 0$ and $v = 1$, and the
# lesson's formula is back. The order matters: turned round, the two variances change places in the quotient. What is
# always drawn from is the first.

# %% [markdown] tags=["exercise"]
# ### 02.reparam: many draws, each with a gradient
#
# One draw per picture is enough for training. For a closer look one wants more. Write `draws(mean, logvar, count,
# generator)`: `count` draws for each picture of a batch, every one with noise of its own.
# - `mean` and `logvar` are (b, d), the answer is (count, b, d);
# - the noise comes from `generator`;
# - gradients must reach `mean` and `logvar`.

# %% tags=["exercise"]
def draws(mean, logvar, count, generator):
    # BEGIN SOLUTION
    width = (0.5 * logvar).exp()
    eps = torch.randn(count, *mean.shape, generator=generator)  #                        (count, b, d)
    return mean + width * eps
    # END SOLUTION


check.exercise("02.reparam", draws)

# %% [markdown] tags=["solution"]
# `Normal(mean, width).sample((count,))` draws the same numbers and cuts the way back; `rsample`, *r* for
# reparameterised, is how PyTorch calls what you wrote. The noise must have the spread 1: an `epsilon_std` of 0.01
# stood in a much-read example for a while ([keras #4211](https://github.com/keras-team/keras/pull/4211)), and then the
# KL is of another $q$ than the one that is drawn from.

# %% [markdown] tags=["exercise"]
# ### 02.elbo: the bound in nats
#
# Write `elbo(x, out, mean, logvar, variance)`: the ELBO of each picture, with a single draw that is decoded already.
# - `x` and `out` are pictures and what the decoder made of the draws, (b, c, h, w);
# - `mean` and `logvar` are the encoder's, (b, d); the prior is $\mathcal N(0, 1)$, and `vae.kl_divergence` is yours to
#   use;
# - `variance` is $s^2$, a number, the same for all pixels.
#
# Return nats, (b,), **with the constant**: a true lower bound on $\log p(x)$, which can be compared between models with
# different $s^2$. And the bound itself, not the loss.

# %% tags=["exercise"]
def elbo(x, out, mean, logvar, variance):
    # BEGIN SOLUTION
    error = (x - out).square().flatten(1).sum(1)  #                                      (b, c, h, w) -> (b,)
    constant = 0.5 * x[0].numel() * math.log(2 * math.pi * variance)
    return -error / (2 * variance) - constant - vae.kl_divergence(mean, logvar)
    # END SOLUTION


check.exercise("02.elbo", elbo)

# %% [markdown] tags=["solution"]
# In three parts: how far off, how many pixels, how many nats the latents cost. Divide it by $d \log 2$ and you have
# *bits per dimension*, the unit in which papers compare models. With `.mean(1)` for the first `.sum(1)` everything
# would still run, and be the exhibit of the museum.

# %% [markdown] tags=["exercise"]
# ### 02.active: which latents speak?
#
# Write `active(encode, batches)`: `encode(x)` gives mean and logvar, (b, d) each, and `batches` is a list of batches of
# pictures, of different sizes, perhaps sorted. Return for each latent whether it is active, a tensor of True and False,
# (d,): **its mean, over all pictures, has a variance above 0.01.**

# %% tags=["exercise"]
def active(encode, batches):
    # BEGIN SOLUTION
    means = [encode(x)[0] for x in batches]
    means = torch.cat(means)  #                                                          (all pictures, d)
    return means.var(0) > 0.01
    # END SOLUTION


check.exercise("02.active", active)

# %% [markdown] tags=["solution"]
# The variance *of the means*, and not of the draws: a dead latent's draws have the variance 1. Not the KL either: a
# latent that says 0.8 of every picture costs 0.32 nats each time and tells nothing. And all pictures at once: the
# average of the batches' variances forgets what lies between the batches.

# %% [markdown]
# ## Quiz
#
# <details><summary>1. Your VAE rebuilds beautifully. You decode random draws and get junk. Which number do you look at
# first, and which knob do you turn?</summary>
#
# The KL. It is large: the latents are far from N(0, 1), so noise is not where the decoder has been. Raise beta and
# accept more blur; or leave it as it is and train a diffusion model on the latents.
# </details>
#
# <details><summary>2. The histogram of latent 5 fits the bell curve to a hair. A colleague is pleased. What do you ask
# him?</summary>
#
# To show the means. If they are one needle at 0, the draws are nothing but noise and the latent is dead: it fits so
# well because it says nothing. A living latent of a good model is a sum of many narrow posteriors that together come
# near the bell.
# </details>
#
# <details><summary>3. A colleague doubles the side of the pictures, keeps <code>F.mse_loss(out, x) + kl</code>, and
# finds everything blurrier. Why?</summary>
#
# The mean over the pixels stays about what it was; the sum would have become four times as large. So against what it
# should be the KL weighs four times as much: beta has grown by four, and nobody touched it.
# </details>
#
# **Words of this lesson** ([glossary](glossary.md)): VAE, latent, prior, posterior, ELBO, reparameterisation, KL
# divergence, nat, beta, rate and distortion, posterior collapse, active latent. **Next:** lesson 03 walks through a
# latent space, and adds and subtracts in it; lesson 12 puts a diffusion model in the place of the bell curve.

# %%
print(f"this lesson took {time.perf_counter() - opened:.0f} s from its first cell to its last")
