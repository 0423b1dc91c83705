# %% [markdown]
# # 12 · Latent diffusion on your own VAE
#
# **After this lesson you can**
# - train an autoencoder, and a diffusion model in its latents;
# - say what compression buys and loses, and why photographs need a critic where flat shapes do not;
# - measure the scale factor, and find it lost or turned round;
# - write the sampler of Stable Diffusion, with guidance, from memory.
#
# **Time:** three minutes of computing on a laptop with 2 cores, no GPU, half of it training that you can watch;
# an hour or two with the exercises.
#
# **Needs:** lesson 02 (what a VAE is), 04 (noise), 08 (samplers), 10 (guidance). Nothing is downloaded. Words in
# *slanted type* are explained where they come up, and again in the [glossary](glossary.md).
#
# A picture of 512 x 512 pixels has 786,432 numbers, most of them spent on saying that one pixel looks like its
# neighbour. A diffusion model that works on pixels spends its time on them too, at every one of its steps.
# The idea of this lesson is to **compress first and diffuse afterwards** (Rombach et al. 2022,
# [arXiv 2112.10752](https://arxiv.org/abs/2112.10752)). It takes two networks, trained one after the other:
#
# 1. an **autoencoder**, which turns a picture into few numbers, its *latents*, and back;
# 2. a **diffusion model**, which learns what latents look like, and draws new ones.
#
# With a GPU the race in the middle is run on it, by larger networks, and a printed line says so.

# %%
import json
import textwrap
import time
from dataclasses import replace
from functools import lru_cache

import torch
import torch.nn.functional as F
from matplotlib import pyplot as plt
from torch import nn

import minildm
from minildm import denoise, evaluate, levels, oracle, recipes, runs, sample, scenes, show, tasks, train, weights
from minildm.course import check, choose, widgets
from minildm.unet import UNet

TRAIN = True  # False: take the models that came with the package instead
VAE_SECONDS, LATENT_SECONDS, PIXEL_SECONDS = 25, 25, 25  # of live training
JUDGED = 32  # prompts a model is judged by

opened = time.perf_counter()
show.style()
pipe = weights.load("shapes")  # the model of lesson 00: its autoencoder and its text tower are used below


def seeded(seed):
    return torch.Generator().manual_seed(seed)


# %% [markdown]
# ## The picture first
#
# The upper row is what the diffusion model made: 4 x 8 x 8 numbers for each picture, of which three channels are shown
# as red, green and blue. You can already see where something is. The lower row is what the decoder made of it.

# %%
PROMPTS = [
    "a large red circle on a white background",
    "a small blue star at the top left of a black background",
    "a big green ring on a grey background",
    "a large purple cross on a beige background",
    "a small yellow circle to the left of a large blue square on white",
    "a large orange cross above a small brown ring on a beige background",
    "a little pink triangle below a huge green cross on black",
]
*_, z = tasks.states(pipe, PROMPTS, steps=25, scale=3.0, generator=seeded(0))
with torch.no_grad():
    drawn = pipe.decode(z)
show.figure(
    show.strip([show.latents(z), drawn], ["latents (4x8x8)", "decoded (3x32x32)"]),
    "Seven latents drawn by a diffusion model, and the pictures that the autoencoder makes of them.",
)

# %% [markdown]
# ## The autoencoder
#
# The encoder halves the picture twice, 32 to 16 to 8 pixels, and gives for each of the 4 x 8 x 8 latents a mean $\mu$
# and a spread $\sigma$. In training a latent is drawn at random from that range,
#
# $$ z = \mu + \sigma \cdot \epsilon, \qquad \epsilon \sim \mathcal N(0, 1) $$
#
# (the reparameterisation of Kingma & Welling 2014, arXiv 1312.6114, section 2.4). So the decoder never gets exact
# latents. It has to make do with approximate ones, such as a diffusion model will hand to it later.
#
# Two wishes pull at the encoder. The picture that comes back should be the one that went in: that is the squared
# error. And latents should neither drift apart nor become ever more exact: a small penalty, the
# Kullback-Leibler divergence to a standard normal distribution, keeps them near (Kingma & Welling 2014, eq. 10;
# lesson 02 derives it):
#
# $$ \mathrm{KL} = \tfrac12 \sum \left( \mu^2 + \sigma^2 - 1 - \log \sigma^2 \right) $$
#
# This is the objective of Rombach et al. 2022, eq. 25, without two of its parts: there a discriminator and a
# perceptual loss keep photographs sharp. Flat shapes do without; below we try both where something is to be gained.
# In code it is short. Is it the library's?

# %%
def my_vae_loss(model, pixels, kl_weight, generator):
    mean, logvar = model.encode(pixels)  #                                                each (b, 4, 8, 8)
    z = mean + (logvar / 2).exp() * torch.randn(mean.shape, generator=generator)
    error = ((model.decode(z) - pixels) ** 2).mean()
    kl = 0.5 * (mean**2 + logvar.exp() - 1 - logvar).flatten(1).sum(1).mean()
    return error, kl_weight * kl / pixels[0].numel()  # nats for each of the 3 x 32 x 32 values


wanted = scenes.draw(64, seed=12)
pixels = scenes.render(wanted)  #                                                         (64, 3, 32, 32)
with torch.no_grad():
    for name, mine, theirs in zip(
        ("squared error", "KL divergence"),
        my_vae_loss(pipe.vae, pixels, 0.01, torch.Generator().manual_seed(0)),
        train.vae_loss(pipe.vae, pixels, 0.01, torch.Generator().manual_seed(0)),
        strict=True,
    ):
        check.agree(name, mine, theirs)

# %% [markdown]
# Now train one. It is smaller than the shipped one, and it has seconds instead of many minutes. The pictures
# below the bar are reconstructions of scenes that it is never trained on. Watch what comes first: the
# background, then colours, then places; outlines come last.

# %%
torch.manual_seed(0)
run = runs.vae_run(replace(runs.VAE_CONFIG, block_out_channels=(16, 32, 32)), batch=16, kl_weight=0.003)
ema = train.EMA(run.model, 0.99)  # the average of the last weights is better than the last weights
test = pixels[:8]


@torch.no_grad()
def reconstructions():
    return torch.cat([test, ema.model.decode(ema.model.encode(test)[0])])


if TRAIN:
    progress = train.fit(run.model, run.loss, seconds=VAE_SECONDS, lr=0.003, ema=ema)
    show.track(progress, "autoencoder", lambda: run.check(ema.model), reconstructions, marks=6)
    my_vae = run.finish(ema.model)
else:
    my_vae = pipe.vae

# %% [markdown]
# How good is it? Two measures. **PSNR** is the squared error in decibels: every 10 dB are ten times less error. And
# the **oracle** reads the reconstruction: is everything that was in the scene still there? Do not be sad about yours:
# so few seconds are little, and the oracle is strict about outlines. From here on we use the shipped autoencoder, which
# had more time.

# %%
@torch.no_grad()
def there_and_back(model, pixels):
    return model.decode(model.encode(pixels)[0]).clamp(-1, 1)


test_scenes = scenes.draw(500, seed=13)
test_pixels = scenes.render(test_scenes)
for name, model in (("yours", my_vae), ("shipped", pipe.vae)):
    back = there_and_back(model, test_pixels)
    right = oracle.matches(oracle.read(back), test_scenes)["all"]
    share, low, high = oracle.wilson(int(right.sum()), len(right))
    decibels = evaluate.psnr((back - test_pixels).square().mean().item())
    print(f"{name:8} {decibels:5.1f} dB, all right after it: {share:.3f} ({low:.3f} to {high:.3f})")
show.figure(
    show.strip(
        [test, there_and_back(my_vae, test), there_and_back(pipe.vae, test)],
        ["picture", f"yours, {VAE_SECONDS} s" if TRAIN else "shipped", "shipped"],
    ),
    "Pictures that neither autoencoder was trained on, and what comes back.",
)

# %% [markdown]
# ## Latents as pictures
#
# Each channel of the latents is a small picture itself. The table says how much the means $\mu$ of a channel differ
# between pictures and places, and how uncertain the encoder calls them ($\sigma$, on average). A channel
# whose means hardly move and whose $\sigma$ is near 1 is switched off: it costs no KL and says nothing, as in
# lesson 02.

# %%
with torch.no_grad():
    mean, logvar = pipe.vae.encode(test_pixels)
print("channel  spread of the means  average sigma")
for c in range(mean.shape[1]):
    print(f"{c:7}  {mean[:, c].std():19.2f}  {(logvar[:, c] / 2).exp().mean():13.2f}")
limit = 2 * mean.std()
channels = [(mean[:8, c : c + 1] / limit) for c in range(mean.shape[1])]
show.figure(
    show.strip([test_pixels[:8], *channels], ["picture", *(f"channel {c}" for c in range(len(channels)))]),
    "Eight pictures and the four channels of their latents (mid-grey is zero). The place of an object stays its place: "
    "latents are a coarse picture, not a code.",
)

# %% [markdown]
# ## Where compression loses
#
# 3,072 numbers went in and 256 came out. What is lost here, no diffusion model can bring back: it only learns to
# imitate these latents, and then the same decoder draws. So the share of round trips that the oracle reads
# correctly is, but for luck, the **ceiling** of every model built on this autoencoder. Look at the worst.

# %%
# back and right are still the shipped autoencoder's, from the table above
small = (test_scenes.size == 0).any(1)  # index 0 of scenes.SIZES
for name, some in (("a small object", small), ("only large objects", ~small)):
    share, low, high = oracle.wilson(int(right[some].sum()), int(some.sum()))
    print(f"pictures with {name:18}: {share:.3f} right ({low:.3f} to {high:.3f})")
error = (back - test_pixels).square().mean((1, 2, 3))
worst = (error - error.max() * right.float()).topk(7).indices  # wrong ones first, then by error
verdict = ["right" if right[i] else "wrong" for i in worst]
difference = (back - test_pixels)[worst].abs() * 4 - 1
show.figure(
    show.strip([test_pixels[worst], back[worst], difference], ["picture", "round trip", "difference, twice"], verdict),
    "The seven worst of 500 round trips. What suffers is edges, corners and small things: "
    "what changes from one pixel to the next.",
)

# %% [markdown]
# ## Why photographs need a critic
#
# What the latents do not hold, the decoder has to leave out or to make up. With squared error it leaves it out, and
# that is no lack of training. Say that a pixel of some cloth may be dark or bright, and the latents do not tell which.
# The answer with the least squared error is the **mean of all pictures that are possible**, and the mean of all
# threads is smooth. (As in lesson 05, where the best denoiser answers with a mean.)
#
# Our shapes are flat, so nothing of that kind is lost. So we make something to lose: the background becomes *cloth*,
# with threads drawn by dice. The latents are those of the flat picture; they know which colour the cloth has, and
# nothing of its threads. We train anew what a decoder does last: three layers, on the maps that reach the shipped
# decoder's last layer, and a channel of dice to make threads of. Three losses, the same steps each (what they cost is in
# the table):
#
# - **squared error** alone;
# - **+ perceptual**: the squared error of what a network *sees* in both pictures (Zhang et al. 2018,
#   [arXiv 1801.03924](https://arxiv.org/abs/1801.03924)). There it is a large network that has learned to name what
#   is on photographs; ours is the first half of lesson 11's mini-CLIP, which has seen nothing but flat shapes;
# - **+ critic**: a small network $D$ looks at patches of 12 x 12 pixels, and learns to answer above 1 where they come
#   from true pictures $x$ and below -1 where they are the decoder's $\hat x$; the decoder learns to please it:
#
# $$ L_D = \mathrm{mean} \max(0,\, 1 - D(x)) + \mathrm{mean} \max(0,\, 1 + D(\hat x)), \qquad
# L = \mathrm{mean}\,(x - \hat x)^2 - w \; \mathrm{mean}\, D(\hat x) $$
#
# This *hinge loss* with a critic of patches is how the autoencoders of Esser et al. 2021
# ([arXiv 2012.09841](https://arxiv.org/abs/2012.09841)) and, after them, of Stable Diffusion are trained, together
# with both other terms. They let $w$ follow the gradients of the two parts; ours is a constant, found by trying
# three.

# %%
CRITIC_STEPS = 160
scene = scenes.render(scenes.draw(320, seed=31, objects=1))
ground = (scene - scene[:, :, :1, :1]).abs().sum(1, keepdim=True) < 0.1  # like the corner  (320, 1, 32, 32)
threads = F.avg_pool2d(torch.randn(320, 1, 32, 36, generator=seeded(1)), (1, 5), stride=1) * 5**0.5
cloth = 0.6 * scene + 0.35 * threads * ground

maps = []  # what reaches the last layer of the decoder
hook = pipe.vae.decoder.conv_out.register_forward_pre_hook(lambda layer, given: maps.append(given[0]))
with torch.no_grad():
    for part in scene.split(64):
        there_and_back(pipe.vae, part)
hook.remove()
maps = torch.cat(maps)  #                                                                 (320, 32, 32, 32)
eyes = weights.load("clip").picture[:5].requires_grad_(False)


def networks():
    """What is to be trained: the end of a decoder, and a critic that sees patches of 12 x 12 pixels."""
    torch.manual_seed(0)
    soft, leaky = nn.SiLU(), nn.LeakyReLU(0.2)
    a, b, c = nn.Conv2d(33, 16, 3, padding=1), nn.Conv2d(16, 16, 5, padding=2), nn.Conv2d(16, 3, 3, padding=1)
    d, e, f = nn.Conv2d(3, 16, 5, padding=2), nn.Conv2d(16, 32, 4, 2, 1), nn.Conv2d(32, 1, 3, padding=1)
    return nn.Sequential(a, soft, b, soft, c), nn.Sequential(d, leaky, e, leaky, f)


def finish(decoder, i, generator):
    dice = torch.randn(len(i), 1, 32, 32, generator=generator)
    return decoder(torch.cat([maps[i], dice], 1))


def fight(decoder, critic, term):
    """Train a decoder, and a critic where there is one."""
    ours, its = (torch.optim.AdamW(net.parameters(), lr=2e-3, betas=(0.5, 0.9)) for net in (decoder, critic))
    start = time.perf_counter()
    for step in range(CRITIC_STEPS):
        random = seeded(step)
        i = torch.randint(256, (16,), generator=random)
        true, made = cloth[i], finish(decoder, i, random)
        error = loss = (made - true).square().mean()
        if term == "perceptual":
            loss = error + (eyes(made) - eyes(true)).square().mean()
        if term == "critic":
            loss = error - 0.05 * critic(made).mean()
        ours.zero_grad()
        loss.backward()
        ours.step()
        if term == "critic":
            verdict = F.relu(1 - critic(true)).mean() + F.relu(1 + critic(made.detach())).mean()
            its.zero_grad()
            verdict.backward()
            its.step()
        seconds = time.perf_counter() - start
        yield train.Progress(step + 1, (step + 1) / CRITIC_STEPS, seconds, error.item(), 0.0)


def roughness(pictures):
    """How much neighbouring rows of the ground differ."""
    return (pictures.mean(1, keepdim=True).diff(dim=2).square() * ground[kept, :, 1:]).mean()


kept = torch.arange(256, 320)  # pictures that none of them is trained on
results, lines = {"true": cloth[kept]}, []
for term in ("squared error", "perceptual", "critic"):
    decoder, critic = networks()
    history = show.track(fight(decoder, critic, term), f"decoder, {term}", measure="squared error")
    with torch.no_grad():
        results[term] = finish(decoder, kept, seeded(9)).clamp(-1, 1)
    decibels = evaluate.psnr((results[term] - cloth[kept]).square().mean().item())
    share = roughness(results[term]) / roughness(cloth[kept])
    lines.append(f"{term:22}{decibels:6.1f}{share:10.3f}{history.times[-1]:10.1f}")
floor = evaluate.psnr((0.35 * threads * ground)[kept].square().mean().item())
print(f"{'':22}{'dB':>6}{'threads':>10}{'seconds':>10}\n{'all but the threads':22}{floor:6.1f}{0:10.3f}")
print("\n".join(lines))
rows = [pictures[:7] for pictures in results.values()]
show.figure(show.strip(rows, [*results]), "True pictures, and three decoders that do not know the threads.")

fig, ax = plt.subplots(figsize=(8.5, 3))
for (name, pictures), line in zip(results.items(), ("k--", "-", "-", "-"), strict=True):
    power = torch.fft.rfft2(pictures.mean(1)).abs().square().mean((0, 2))[:17]  # by waves from top to bottom
    ax.semilogy(power, line, label=name)
ax.set(xlabel="waves from top to bottom of the picture", ylabel="power")
ax.legend(loc="upper left", bbox_to_anchor=(1, 1))
show.figure(fig, "How much there is of coarse and of fine. Only the critic's decoder follows the truth to the right.")

# %% [markdown]
# In the table, the first line is what the best decoder could have that knows everything but the threads; *threads* is
# how much neighbouring rows of the ground differ, as a part of how much they do in truth.
# Squared error makes none: smooth cloth, and the **best PSNR**. The perceptual term does little here. It asks for
# pictures that *its* network takes for the same, and ours has never had a reason to look at threads; a network
# trained on photographs has. The critic's decoder weaves. No thread lies where it lay, so it has *more* squared error
# than smooth cloth has: threads that are missed count once, and wrong ones in their place once more, up to 3 dB.
#
# So the two measures disagree, and both are right. PSNR asks *is this the picture?*, the critic *could this be one?*
# For a model that draws new pictures the second question counts, since nobody will compare. For a medical scan it
# would be the first one. And look at the objects: they have suffered. A critic is one more force, and badly weighed
# it wins; training that fell apart "once the discriminator kicks in" is a classic
# ([taming-transformers #44](https://github.com/CompVis/taming-transformers/issues/44)).

# %% [markdown]
# ## The scale factor
#
# A diffusion model adds noise of standard deviation 1. Its schedule was made for data of about that size too. Latents
# have whatever size the autoencoder happened to choose. So we measure their standard deviation once and divide by it,
# as Rombach et al. 2022 do (appendix G, on training in latent space):
#
# $$ \hat\sigma^2 = \frac{1}{b\,c\,h\,w} \sum_{b,c,h,w} \left(z^{b,c,h,w} - \hat\mu\right)^2, \qquad
# z \leftarrow z / \hat\sigma $$
#
# $1/\hat\sigma$ is the **scale factor**: the famous 0.18215 of Stable Diffusion. One number for all channels. Before
# decoding one divides by it again. It is stored with the autoencoder, and losing or inverting it is a frequent bug.

# %%
many, _ = runs.scene_batch(runs.CHECK_SEED, 1, 1024)
with torch.no_grad():
    z = pipe.vae.encode(many)[0]
    my_factor = 1 / ((z - z.mean()) ** 2).mean().sqrt()
    check.agree("scale factor", my_factor, runs.scaling_factor(pipe.vae), within=1e-4)
    check.agree("standard deviation of scaled latents, and 1", pipe.encode(many).std(), 1.0, within=0.02)
    check.agree("encode, scale, unscale, decode", pipe.decode(pipe.encode(test)), there_and_back(pipe.vae, test))
print(f"scale factors: shipped {pipe.vae.config.scaling_factor:.3f}, yours {my_vae.config.scaling_factor:.3f}")

fig, axes = plt.subplots(1, 2, figsize=(9, 3.2), sharey=True)
grid = torch.linspace(-4, 4, 200)
with torch.no_grad():
    own = my_vae.encode(many[:256])[0]
own = {"as your encoder gives them": own, "scaled": own * my_vae.config.scaling_factor}
for ax, (name, values) in zip(axes, own.items(), strict=True):
    ax.hist(values.flatten().numpy(), bins=80, range=(-4, 4), density=True)
    ax.plot(grid, (-(grid**2) / 2).exp() / (2 * torch.pi) ** 0.5, color=show.PALETTE["red"], label="N(0, 1)")
    ax.set_title(f"{name}: std {values.std():.2f}")
    ax.set_xlabel("value of a latent")
axes[0].legend()
show.figure(fig, "Latents of your autoencoder before and after scaling. Scaled they have the spread of the noise; they "
            "are still not normally distributed.")  # fmt: skip

# %% [markdown] tags=["exercise"]
# ## Exercises
#
# Write your answer in place of the dots and run the cell. Its last line looks at what you wrote: a tick, or what is
# amiss and on which input. `check.hint("12.scale")` gives a hint, and a clearer one each time; nothing is counted.
# Whatever you write, the notebook runs on.

# %% tags=["setup"]
from itertools import pairwise

import torch

from minildm.course import check

# %% [markdown] tags=["exercise"]
# ### 12.scale: measure it
#
# Write `scale_factor(encode, batches)`. `encode(pixels)` gives a mean and a logvar, each (n, c, h, w); `batches` is a
# list of pictures (n, 3, H, W), **not all equally many, and not all of the same kind** (as files on a disk are
# sorted). Return the one number by which all latents, the means, have to be multiplied to have the standard deviation
# 1.

# %% tags=["exercise"]
def scale_factor(encode, batches):
    # BEGIN SOLUTION
    means = [encode(batch)[0] for batch in batches]
    z = torch.cat(means)  # all of them: their own means differ, and that is spread, too
    return 1 / z.std()
    # END SOLUTION


check.exercise("12.scale", scale_factor)

# %% [markdown] tags=["solution"]
# If there are too many latents to keep, carry three numbers from batch to batch: how many values, their sum, and the
# sum of their squares. The variance is the mean of the squares minus the square of the mean. What does *not* work is
# to average what each batch says about itself: the variance within batches leaves out how far the batches lie apart.

# %% [markdown] tags=["exercise"]
# ### 12.pair: in, and back
#
# Write `pair(encode, decode, factor)`, which returns two functions:
# - `to_latents(pixels)`: the latents as the diffusion model sees them (the encoder's mean, no draw, of unit spread);
# - `to_pixels(z)`: from there back to pictures, in -1..1 whatever the decoder says.
#
# It sounds like nothing, and it goes wrong in public. A library's sampler had `decode(z) * factor`; the report
# proposed `decode(z * factor)` instead ([GenerativeModels
# #212](https://github.com/Project-MONAI/GenerativeModels/issues/212)); what was merged in the end
# ([#214](https://github.com/Project-MONAI/GenerativeModels/pull/214)) is neither.

# %% tags=["exercise"]
def pair(encode, decode, factor):
    # BEGIN SOLUTION
    def to_latents(pixels):
        mean, logvar = encode(pixels)
        return mean * factor

    def to_pixels(z):
        return decode(z / factor).clamp(-1, 1)

    return to_latents, to_pixels
    # END SOLUTION


check.exercise("12.pair", pair)

# %% [markdown] tags=["solution"]
# The round trip `to_pixels(to_latents(x))` finds a factor that is used in one direction only. It does **not** find
# one that is turned round in both: that round trip is perfect, and the diffusion model gets latents of the wrong
# size. So check two things: the round trip, and that latents have the standard deviation 1. The tutorials of the same
# library had no factor at all for a while ([#203](https://github.com/Project-MONAI/GenerativeModels/issues/203)).

# %% [markdown]
# ## Why not simply decode random latents?
#
# The KL penalty pulls latents towards a standard normal distribution. So why not draw 256 random numbers
# and decode them? People try, and ask why their autoencoder "reconstructs well but samples noise"
# ([CompVis/latent-diffusion #227](https://github.com/CompVis/latent-diffusion/issues/227),
# [#187](https://github.com/CompVis/latent-diffusion/issues/187)). The penalty is weak, on purpose, so that pictures
# come back sharp: latents stay far from independent normal numbers. Neighbours have rules *together* (an edge goes on
# in the next cell, a background is the same all over), and independent numbers follow none of them.
#
# Then what about numbers that are not independent? A bell curve can hold which numbers go together: it has a mean for
# each of the 256, and a *covariance* for each pair of them, 32,896 in all. That is all
# a bell curve can know, and far more than spreads alone.

# %% [markdown] tags=["exercise"]
# ### 12.gaussian: the bell curve of latents
#
# Write `imitate(z, eps)`. `z` are latents (n, c, h, w), `eps` noise from $\mathcal N(0, 1)$, (m, c, h, w). Return m
# new latents, of the shape of `eps`, made from `eps` so that all their `c * h * w` numbers have the mean and the covariance
# matrix of those in `z`. As one number is drawn by $\mu + \sigma \epsilon$, a vector is by $\mu + L\,\epsilon$, with
# $L L^T$ the covariance matrix (`torch.cov`, `torch.linalg.cholesky`).
#
# The check draws nothing. If the answer is $\mu + L\,\epsilon$, it gives itself away on $\epsilon = 0$ and on vectors
# of one 1 among zeros.

# %% tags=["exercise"]
def imitate(z, eps):
    # BEGIN SOLUTION
    flat = z.flatten(1)  #                                                                (n, c*h*w)
    mean, cov = flat.mean(0), torch.cov(flat.T)
    root = torch.linalg.cholesky(cov)
    return (mean + eps.flatten(1) @ root.T).view(eps.shape)
    # END SOLUTION


check.exercise("12.gaussian", imitate)

# %% [markdown] tags=["solution"]
# Draws lie in rows here, and in books in columns: hence `eps @ root.T`. Any root does, a symmetric one as well, since
# $L \epsilon$ has the covariance $L\,\mathbb E[\epsilon \epsilon^T]\,L^T = L L^T$. If numbers depend on each other
# exactly, Cholesky stops with an error; a little on the diagonal, `cov + 1e-4 * torch.eye(len(cov))`, helps.

# %% [markdown]
# Now all four, from the same 60 noises: as they are; with each channel's mean and spread; as a bell curve with all
# its covariances; and diffused, without any prompt.

# %%
n = 60
start = torch.randn(n, 4, 8, 8, generator=seeded(0))
centre, spread = (f(mean, (0, 2, 3), keepdim=True) for f in (torch.mean, torch.std))
flat = z.flatten(1)  # the latents of 1,024 pictures, from above
bell = torch.distributions.MultivariateNormal(flat.mean(0), torch.cov(flat.T) + 1e-4 * torch.eye(256))
bell_latents = (bell.loc + start.flatten(1) @ bell.scale_tril.T).view_as(start)
with torch.no_grad():
    guesses = {
        "random latents": pipe.decode(start),
        "each channel's mean and spread": pipe.vae.decode(centre + spread * start).clamp(-1, 1),
        "bell curve, all covariances": pipe.vae.decode(bell_latents).clamp(-1, 1),
        "diffused": tasks.text2img(pipe, "", steps=20, scale=1.0, noise=start),
    }
for name, pictures in guesses.items():
    share, low, high = oracle.wilson(int(oracle.read(pictures).readable.sum()), n)
    print(f"{name:32} readable: {share:.2f} ({low:.2f} to {high:.2f})")
show.figure(
    show.strip([pictures[:7] for pictures in guesses.values()], list(guesses)),
    "The same random numbers four times. The bell curve knows that a background is the same all over and that things "
    "hang together; it does not know that there is either a star or a ring.",
)

# %% [markdown]
# The third row is remarkable for something so old and plain, and still nothing in it is *something*. A bell curve has
# one hill. Half a star and half a ring are, for it, the likeliest of all. What is missing is "either,
# or", and that takes a network: learning those rules is the diffusion model's job.

# %% [markdown]
# ## Diffusion in latents
#
# From here on nothing is new but the letter: $z$ in place of the picture. Noise is added as in lesson 04,
# $z_t = \alpha z_0 + \sigma \epsilon$. Rombach et al. 2022, eq. 3, have the U-Net predict it, from $z_t$, the level
# $t$, and the sentence $y$ as the states $\tau(y)$ of the text tower:
#
# $$ L = \mathbb E_{z_0,\, y,\, \epsilon,\, t} \left\| \epsilon - \epsilon_\theta(z_t, t, \tau(y)) \right\|^2 $$
#
# Our models predict $v = \alpha\,\epsilon - \sigma\, z_0$ instead, for the reasons of lesson 09 (Salimans & Ho 2022,
# [arXiv 2202.00512](https://arxiv.org/abs/2202.00512), appendix D). What *is* new is what noise does to a picture
# whose latents it falls on.

# %%
schedule = levels.cosine()  # Nichol & Dhariwal 2021 (arXiv 2102.09672), eq. 17


def my_diffusion_loss(network, z0, context, generator):
    t = torch.randint(len(schedule), (len(z0),), generator=generator)  #                  (b,)
    eps = torch.randn(z0.shape, generator=generator)
    alpha, sigma = (table[t].float().view(-1, 1, 1, 1) for table in (schedule.alpha, schedule.sigma))
    v = alpha * eps - sigma * z0
    out = network(alpha * z0 + sigma * eps, t.float(), context=context)
    return ((out - v) ** 2).mean((1, 2, 3))  #                                            (b,)


with torch.no_grad():
    z0, context = pipe.encode(pixels), pipe.text(scenes.captions(wanted, full=True))
    check.agree(
        "loss of 64 latents",
        my_diffusion_loss(pipe.unet, z0, context, seeded(0)),
        train.diffusion_loss(pipe.unet, z0, schedule, "v", seeded(0), context=context),
    )
    shown = [0, 150, 300, 450, 600, 750, 900]
    clean, eps = pipe.encode(test_pixels[:1]), torch.randn(1, 4, 8, 8, generator=seeded(5))
    noisy = torch.cat([schedule.alpha[t].float() * clean + schedule.sigma[t].float() * eps for t in shown])
    seen = pipe.decode(noisy)
show.figure(
    show.strip([show.latents(noisy), seen], ["noisy latents", "decoded"], [f"t = {t}" for t in shown]),
    "One picture's latents under more and more noise. The decoder was trained on slightly noisy latents, so it "
    "hides the first of it; then the picture does not get grainy: it melts.",
)

# %% [markdown]
# ## A race: latents against pixels
#
# Two networks of the same kind get the same captions, the same pictures of one object, and the same time. One
# works in the latents of the shipped autoencoder. The other works on pixels; it has two more levels in front to get
# down to 8 x 8, where both have their attention. One caption in ten is left out, so that each also learns to draw
# without a sentence; guidance will need that (Ho & Salimans 2022, arXiv 2207.12598, algorithm 1).
#
# The latent one has a head start that should be said aloud: its autoencoder was trained before, and not in these
# seconds. That is paid once, for all models ever built on it.
#
# Do not wait for the loss to reach zero. It cannot (lesson 05 measures the floor). And do not compare the two losses:
# they are of different data.

# %%
RACE = [
    "a large red circle on a white background",
    "a small blue star on a black background",
    "a large green ring on a grey background",
    "a large purple cross on a beige background",
    "a small yellow square on a black background",
    "a large brown triangle on a white background",
]


def race(name, seconds):
    """Train a recipe's network on one-object captions: its pipeline, and its seconds a step."""
    if not TRAIN:
        return weights.load(f"{name}-300"), ""
    small = recipes.NETWORKS[name, True]
    device, config = choose.network(small, recipes.NETWORKS[name, False])
    run = recipes.prepare(name, objects=1, small=config is small, device=device)
    ema = train.EMA(run.model, run.ema)
    progress = train.fit(run.model, run.loss, seconds=seconds, lr=run.lr, ema=ema, autocast=run.autocast)

    def samples():
        return tasks.text2img(run.finish(ema.model), RACE, steps=10, scale=3.0, generator=seeded(0))

    history = show.track(progress, f"{name} model", lambda: run.check(ema.model), samples, marks=2)
    return run.finish(ema.model), f"{history.times[-1] / history.steps[-1]:.3f}"


latent_model, latent_step = race("latent", LATENT_SECONDS)
pixel_model, pixel_step = race("pixel", PIXEL_SECONDS)

# %% [markdown]
# Now judge both by the same prompts, which name every attribute, one picture each, read by the oracle. Sampling time
# is measured too. The oracle is strict: a picture with a ragged outline is "unreadable", and then nothing of it
# counts. So the last three rows, marked *, say what it would guess if it had to. By chance it would be right in
# 1/4, 1/8 and 1/6 of the pictures.

# %%
def judge(title, models):
    """A table of models by name: what each had, what it can do; and their pictures of the same prompts."""
    said, asked = evaluate.prompts("one", JUDGED)
    print(f"{'':16}" + "".join(f"{name:>16}" for name in models))
    table = {}
    rows = []
    for model, step_seconds in models.values():
        started = time.perf_counter()
        pictures = tasks.text2img(model, said, steps=15, scale=3.0, generator=seeded(0))
        seconds = time.perf_counter() - started
        reading = oracle.read(pictures)
        share, low, high = oracle.accuracy(reading, asked)["all"]
        guessed = reading.scenes
        cells = {
            "parameters": f"{sum(p.numel() for p in model.unet.parameters()):,}",
            "s a step": step_seconds or "-",
            "s a picture": f"{seconds / JUDGED:.3f}",
            "all right": f"{share:.2f}",
            "95% interval": f"{low:.2f} to {high:.2f}",
            "readable": f"{reading.readable.float().mean():.2f}",
            "background*": f"{(guessed.background == asked.background).float().mean():.2f}",
            "colour*": f"{(guessed.colour[:, 0] == asked.colour[:, 0]).float().mean():.2f}",
            "shape*": f"{(guessed.shape[:, 0] == asked.shape[:, 0]).float().mean():.2f}",
        }
        for name, cell in cells.items():
            table.setdefault(name, []).append(cell)
        rows.append(tasks.text2img(model, RACE, steps=15, scale=3.0, generator=seeded(0)))
    for name, cells in table.items():
        print(f"{name:16}" + "".join(f"{cell:>16}" for cell in cells))
    asked = ", ".join(prompt.removeprefix("a ").removesuffix(" background") for prompt in RACE)
    show.figure(show.strip(rows, list(models)), f"{title} Prompts: {asked}.")


judge(
    "The latent model after {} s of training, the pixel model after {} s.".format(
        *((LATENT_SECONDS, PIXEL_SECONDS) if TRAIN else (300, 300))
    ),
    {"latent": (latent_model, latent_step), "pixel": (pixel_model, pixel_step)},
)

# %% [markdown]
# Look at the seconds a step: in latents it costs less than half, and so the latent model saw more than twice as many
# pictures. Half a minute is not much, though. Here are the same two after 300 seconds on two cores, from shipped
# snapshots. The commands that made them are printed too; run them if you have ten minutes.

# %%
manifest = json.loads((weights.SHIPPED / "manifest.json").read_text(encoding="utf-8"))["models"]
for name in ("latent-300", "pixel-300"):
    print(textwrap.fill(f"{name}, {manifest[name]['seconds']} s: {manifest[name]['command']}", 100, subsequent_indent="    "))
print()
judge(
    "The same race after 300 seconds.",
    {"latent": (weights.load("latent-300"), ""), "pixel": (weights.load("pixel-300"), "")},
)

# %% [markdown]
# ## Drawing
#
# All parts of the sampler you have met: **guidance**, two answers and the difference between them exaggerated (lesson
# 10; Ho & Salimans 2022, [arXiv 2207.12598](https://arxiv.org/abs/2207.12598), eq. 6 with $s = 1 + w$), and a step of
# **DDIM**, which takes the noise that the guess leaves and puts both together again at the next level (lesson 08;
# Song et al. 2021, [arXiv 2010.02502](https://arxiv.org/abs/2010.02502), eq. 12 with their $\sigma_t = 0$):
#
# $$ \tilde z_0 = \hat z_0 + s\,(\hat z_0^{y} - \hat z_0), \qquad
# \hat\epsilon = (z - \alpha\, \tilde z_0) / \sigma, \qquad z' = \alpha'\, \tilde z_0 + \sigma'\, \hat\epsilon $$
#
# Now without looking them up.

# %% [markdown] tags=["exercise"]
# ### 12.whole: the whole of it, from memory
#
# Write `paint(plain, wanted, decode, factor, z, rows, scale)`:
# - `plain(z, level)` and `wanted(z, level)` guess the clean, scaled latents, without and with the sentence;
# - `decode` is the autoencoder's decoder, `factor` its scale factor;
# - `z` are latents of pure noise, and `rows` the levels `(t, alpha, sigma)` to go through, noisiest first; the last
#   is the clean one;
# - `scale` is the guidance: 1 takes the sentence as it is.
#
# Return pictures in -1..1. The check compares you with formulas on two simple denoisers, and then with
# `tasks.text2img` on the shipped model.

# %% tags=["exercise"]
def paint(plain, wanted, decode, factor, z, rows, scale):
    # BEGIN SOLUTION
    for level, below in pairwise(rows):
        without = plain(z, level)
        z0 = without + scale * (wanted(z, level) - without)
        eps = (z - level.alpha * z0) / level.sigma
        z = below.alpha * z0 + below.sigma * eps
    return decode(z / factor).clamp(-1, 1)
    # END SOLUTION


check.exercise("12.whole", paint)

# %% [markdown] tags=["solution"]
# Seven lines, and no network in sight: what predicts eps or v, how the sentence is read, on which device it runs is
# all hidden in the two denoisers. The order matters once: `eps` is worked out at the level where `z` is, before `z`
# moves. At the last row $\alpha' = 1$ and $\sigma' = 0$, so what comes out is the last guess.

# %% [markdown]
# ## The whole of latent diffusion, in one cell
#
# This is the folded cell of lesson 00. By now you have derived every line of it; the loop you have just written, and
# here it is with the networks in their places.

# %% tags=["whole-of-latent-diffusion"]
FOLDER = "shapes"  # a shipped model's name, or the folder of a published one: nothing else here need change
PROMPT, STEPS, SCALE, SEED = "a small blue star to the left of a large green ring on a white background", 25, 3.0, 0

pipe = weights.load(FOLDER, minildm.best_device())
tokenizer, clip, unet, vae = pipe.text.tokenizer, pipe.text.model, pipe.unet, pipe.vae

with torch.no_grad():
    # the sentence, and beside it the empty sentence, as tokens and then as states
    ids = tokenizer(["", PROMPT], padding="max_length", truncation=True, return_tensors="pt").input_ids
    context = clip(input_ids=ids.to(pipe.device)).last_hidden_state  #                    (2, n, d)

    # latents of pure noise
    z = torch.randn(1, *pipe.latent_shape(), generator=torch.Generator().manual_seed(SEED)).to(pipe.device)

    for level, below in pairwise(pipe.rows(STEPS, "ddim")):
        # what the clean latents may be: without the sentence, and with it
        twice, t = torch.cat([z, z]), torch.full((2,), level.t, device=z.device)
        out = unet(twice, t, context=context)  #                                          (2, c, h, w)
        plain, wanted = denoise.to_x0(out, twice, level, pipe.prediction).chunk(2)
        # guidance: exaggerate the difference that the sentence makes
        z0 = plain + SCALE * (wanted - plain)
        # one step of DDIM: the noise that this guess leaves, then both again at the next, lower level
        eps = (z - level.alpha * z0) / level.sigma
        z = below.alpha * z0 + below.sigma * eps

    picture = vae.decode(z / vae.config.scaling_factor).clamp(-1, 1)  #                   (1, 3, H, W)

show.figure(show.grid(picture, 1), PROMPT)

# %%
theirs = tasks.text2img(pipe, PROMPT, steps=STEPS, scale=SCALE, generator=torch.Generator().manual_seed(SEED))
check.agree("this cell and tasks.text2img", picture, theirs, within=1 / 255)
print("the oracle reads:", oracle.describe(oracle.read(picture), 0))

# %% [markdown]
# ## Play: the prompt studio
#
# The same loop, and this time it keeps what it saw on the way. Above: the state $z$ as it is at this step, as latents
# and decoded. Below: what the model *guesses* the clean latents to be. Move **step** slowly from left to right. When
# is it decided where something is? When, what it is? Then raise the scale and look at the same step again.

# %% tags=["explorer"] jupyter={"source_hidden": true}
@lru_cache(64)
def film(prompt, negative, seed, steps, scale):
    """States and guesses of one drawing: two lists of latents (1, 4, 8, 8)."""
    denoiser = tasks.prompted(pipe, [prompt], negative or None, scale)
    z = torch.randn(1, *pipe.latent_shape(), generator=seeded(seed)).to(pipe.device)
    states, guesses = [], []
    with torch.no_grad():
        for level, below in pairwise(pipe.rows(steps, "ddim")):
            z0 = denoiser(z, level)
            states.append(z)
            guesses.append(z0)
            z = below.alpha * z0 + below.sigma * (z - level.alpha * z0) / level.sigma
    return [*states, z], [*guesses, z]


def view(prompt=PROMPTS[1], not_this="", seed=0, steps=20, scale=3.0, step=25):
    states, guesses = film(prompt, not_this, seed, steps, scale)
    at = min(step, steps)
    with torch.no_grad():
        drawn = pipe.decode(torch.cat([states[at], guesses[at]])).cpu()
    seen = F.interpolate(show.latents(torch.cat([states[at], guesses[at]])).cpu(), size=32)
    rows = [[seen[0], drawn[0]], [seen[1], drawn[1]]]
    fig = show.strip(rows, ["state z", "guess of z0"], ["latents", "decoded"])
    read = oracle.describe(oracle.read(drawn[1:]), 0)
    return fig, f"After {at} of {steps} steps. The oracle reads in the guess: {read}."


box = widgets.explorer(view, prompt=PROMPTS[1], not_this="", seed=(0, 9, 1), steps=(5, 25, 5, 20),
                       scale=(0.0, 8.0, 1.0, 3.0), step=(0, 25, 1, 8))  # fmt: skip
widgets.show(box, "The studio: a prompt, one to keep away from, and every step on the way, as latents and decoded.")

# %% tags=["widget-test"] jupyter={"source_hidden": true}
texts = {"prompt": ["a large red ring on a white background"], "not_this": ["a blue star"]}
slowest = widgets.drive(box, limit=1.0, **texts)

# %% [markdown]
# ## Bug museum: a scale factor of 109
#
# In April 2022 a reader of [JD-P/cloob-latent-diffusion](https://github.com/JD-P/cloob-latent-diffusion/issues/7) got
# 6.85 where the example said about 100. The example's number came from an early version of the measuring script. It
# added up the variance of many batches and took the root of the **sum**; a later version divided by their
# number first. Nothing crashes. The latents only become far too small.
#
# Broken on purpose, then mended. And what does the mistake do? Two small networks, a few seconds each, the same
# latents, only divided by one number or by the other. Look at the loss first, and then at the pictures.

# %%
batches = test_pixels[:480].split(32)
with torch.no_grad():
    variances = [pipe.vae.encode(batch.to(pipe.device))[0].var().item() for batch in batches]
broken, mended = sum(variances) ** 0.5, (sum(variances) / len(variances)) ** 0.5
print(f"root of the sum of {len(batches)} variances:  {broken:.3f}")
print(f"root of their mean:               {mended:.3f}")
check.agree("their ratio, and the root of the number of batches", broken / mended, len(batches) ** 0.5)

SCALE_SECONDS = 5
cpu = weights.load("shapes")
with torch.no_grad():
    z0 = cpu.vae.encode(runs.scene_batch(runs.UNET_SEED, 0, 1024, objects=1)[0])[0]
config = replace(runs.SMALL_LATENT, context_dim=None)
shown, lines = {}, []
for name, deviation in (("broken", broken), ("mended", mended)):
    torch.manual_seed(0)
    network = UNet(config)
    ema = train.EMA(network, 0.99)
    data = z0 / deviation

    def loss(step, generator, network=network, data=data):
        some = data[torch.randint(len(data), (64,), generator=generator)]
        return train.diffusion_loss(network, some, schedule, "v", generator).mean()

    progress = train.fit(network, loss, seconds=SCALE_SECONDS, lr=2e-3, ema=ema, autocast=torch.bfloat16)
    history = show.track(progress, f"latents divided by {deviation:.2f} ({name})")
    guess = denoise.denoiser(ema.model, "v")
    level, noise = levels.pick(schedule, 2, "trailing")[1], torch.randn(data[:256].shape, generator=seeded(0))
    with torch.no_grad():
        error = (guess(level.alpha * data[:256] + level.sigma * noise, level) - data[:256]).square().mean()
        *_, drawn = sample.ddim(guess, noise[:8], levels.pick(schedule, 25, "trailing"))
        shown[name] = cpu.vae.decode(drawn * deviation).clamp(-1, 1)
    last = sum(history.losses[-20:]) / len(history.losses[-20:])
    lines.append(f"{name}: loss {last:.3f}; error of the guess half-way {error / data.var():.2f} of the data's variance "
                 "(the average: 1)")  # fmt: skip
print("\n".join(lines))
show.figure(
    show.strip(list(shown.values()), list(shown)),
    f"Drawn without prompts after {SCALE_SECONDS} s of training, with the broken and with the mended factor.",
)

# %% [markdown]
# The lower loss belongs to the worse model. Latents that are too small drown in the noise at almost every level.
# Predicting is then easy, because there is hardly anything but noise to predict; and what matters is hardly learned.
# Losses can only be compared on the same data at the same scale.
#
# Is a missing scale factor always fatal? No. A reader asked
# [explainingai-code/StableDiffusion-PyTorch
# #33](https://github.com/explainingai-code/StableDiffusion-PyTorch/issues/33) why that course has none. The author
# had measured: the latents there had a standard deviation close to 1 as they were. So the rule is not "multiply by
# 0.18215". It is: **measure, and keep the number with the autoencoder.**

# %% [markdown]
# ## Quiz
#
# Answer for yourself, then open.
#
# <details><summary>1. Your latent model draws washed-out pictures with too little contrast, though its samples were
# fine during training. You suspect the scale factor. Which single check tells?</summary>
#
# `decode(encode(x))` with the very functions that sampling uses. If one of them multiplies where it should divide,
# the round trip of a real picture is as wrong as the samples. If it is right, the factor may still be turned round in
# both (`12.pair`): look at the standard deviation of the latents, too.
# </details>
#
# <details><summary>2. A colleague shows two autoencoders. A has 2 dB more PSNR, B was trained with a critic. Which one
# do you build your model of photographs on?</summary>
#
# Ask what comes out of the decoder, not only how near it is. A's lead may be that it leaves all texture out, the mean
# of what is possible, and then no diffusion model on top of it will ever draw any. For photographs most take B; where
# every pixel has to be true, A.
# </details>
#
# <details><summary>3. You make the KL penalty a thousand times stronger, so that random latents decode to something.
# What do you pay?</summary>
#
# Detail. The encoder has to be uncertain about everything, so that its latents look like pure noise, and the
# decoder can only draw averages: blur. Latent diffusion takes the other way: a weak penalty, sharp pictures,
# and a second model that learns what latents look like.
# </details>
#
# **Words of this lesson** ([glossary](glossary.md)): latent, scaling factor, critic, hinge loss, patch, perceptual
# loss, covariance, PSNR, guidance. **Next:** lesson 13 asks how to judge all these models fairly; lesson 16 runs the
# one cell above on the published Stable Diffusion.

# %%
print(f"this lesson took {time.perf_counter() - opened:.0f} s from its first cell to its last")
