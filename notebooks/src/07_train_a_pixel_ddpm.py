# %% [markdown] tags=["solution"]
# # 07 · Train a pixel DDPM: solutions
#
# One answer to each exercise, and why it is so. There are others; the check takes them too.

# %% [markdown]
# # 07 · Train a pixel DDPM
#
# **After this lesson you can**
# - write the loss and the loop of a diffusion model, and test both before you wait for them;
# - tell whether a model is learning whose loss looks flat, and name the part of the loss that nobody gets rid of;
# - sample from your own network, by the formula of the paper;
# - recognise a picture whose noise lost its root, and one whose pixels were never brought to -1..1.
#
# **Time:** two minutes of computing on a laptop with 2 cores, no GPU; an hour or two with the exercises.
#
# **Needs:** lesson 04 (noise levels) and lesson 05 (the perfect denoiser). The network is the U-Net of lesson 06; how
# it is built does not matter here. Nothing is downloaded. Words in *slanted type* are explained where they come up, and
# again in the [glossary](glossary.md).
#
# DDPM is short for *denoising diffusion probabilistic model*. Train a network to take noise out of pictures, and it can
# make pictures out of noise.

# %% tags=["setup"]
import json
import math
import time
from dataclasses import replace
from itertools import pairwise

import matplotlib.pyplot as plt
import torch
import torch.nn.functional as F
from torch import nn

from minildm import denoise, exact, levels, oracle, runs, sample, scenes, show, tasks, train, weights
from minildm.course import check, choose, widgets
from minildm.unet import UNet, UNetConfig

show.style()

# %%
SECONDS = 30  # of live training; with 5 you can still follow: trained models came with the package
STEPS = 200  # of each training on one picture, in the sanity test and in the museum

opened = time.perf_counter()
schedule = levels.cosine()  # 1,000 noise levels
snapshots = ["pixel"]  # trained models of this kind in the package; with --snapshots a run of your own leaves more

# %% [markdown]
# ## The picture first
#
# Each row starts as pure noise. A network looks at it, guesses the clean picture, and takes *a little* of the
# noise away. Then it looks again. Fifty looks later a coloured shape is there which nobody drew.

# %%
pipe = weights.load(snapshots[-1])
start = torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(4))
film = list(tasks.states(pipe, noise=start, steps=50, sampler="ddpm", generator=torch.Generator().manual_seed(5)))
looks = (0, 10, 20, 26, 32, 38, 44, 50)
rows = [[film[i][k].clamp(-1, 1) for i in looks] for k in range(3)]
fig = show.strip(rows, ["a", "b", "c"], columns=[f"{i} looks" for i in looks])
show.figure(fig, "From noise to three scenes. Early looks decide what it will be, late ones sharpen it.")

# %% [markdown]
# ## The way there, in one line
#
# To learn to remove noise we need noisy pictures of which we know the clean one. Those are easy to make: lesson 04 took
# a picture $x_0$ to any noise level in one leap,
#
# $$x_t = \alpha_t\, x_0 + \sigma_t\, \epsilon, \qquad \epsilon \sim \mathcal N(0, 1), \qquad
# \alpha_t^2 + \sigma_t^2 = 1$$
#
# (Ho et al. 2020, [arXiv 2006.11239](https://arxiv.org/abs/2006.11239), eq. 4; our $\alpha$ is their
# $\sqrt{\bar\alpha}$, our $\sigma$ their $\sqrt{1 - \bar\alpha}$.) It is the contract of the whole library.

# %%
def my_q_sample(x0, t, eps):
    """The picture x0 (b, c, h, w) at the levels t (b,), made noisy by eps."""
    alpha, sigma = schedule.alpha[t].float(), schedule.sigma[t].float()
    return alpha[:, None, None, None] * x0 + sigma[:, None, None, None] * eps


picture = scenes.render(scenes.draw(1, seed=81, objects=1))  #                            (1, 3, 32, 32) in -1..1
t = torch.tensor([0, 100, 250, 400, 550, 700, 850, 999])
eps = torch.randn(8, 3, 32, 32, generator=torch.Generator().manual_seed(0))
noisy = my_q_sample(picture.expand(8, -1, -1, -1), t, eps)
fig = show.strip([noisy], ["x_t"], columns=[f"t = {i}" for i in t.tolist()])
show.figure(fig, "The forward process: one picture, the same noise, more and more of it.")

# %% [markdown]
# ## What should the network answer?
#
# Show the network $x_t$ and $t$. It should tell the clean picture from the noise. It could answer the noise
# $\epsilon$, or the picture $x_0$: whoever knows one knows the other, since $x_t$ is known. Ho et al. start
# from the bound of lesson 02 with $x_1 \dots x_T$ as latents. Each step costs one KL between two bell curves
# (eq. 5), which is a squared error (eq. 8; put equal variances into the formula of `02.kl`, and see), with a weight for
# each $t$ (eq. 12). Then they do something bold: **they drop the weights**, because the pictures get better. What is
# left is the simple loss:
#
# $$L = \mathbb E_{t,\,x_0,\,\epsilon}\; \big\|\, \epsilon - \epsilon_\theta(\alpha_t x_0 + \sigma_t \epsilon,\; t) \,\big\|^2$$
#
# (Ho et al. 2020, eq. 14.) It has one weak spot. At $t = 999$ the input is all noise, so "the noise is what
# you see" is a perfect answer that says nothing about the picture. Salimans & Ho 2022 ([arXiv
# 2202.00512](https://arxiv.org/abs/2202.00512), appendix D) ask for a mixture instead, the *velocity*
#
# $$v = \alpha_t\, \epsilon - \sigma_t\, x_0, \qquad\text{so that}\qquad
# x_0 = \alpha_t x_t - \sigma_t v, \quad \epsilon = \sigma_t x_t + \alpha_t v .$$
#
# Where there is little noise, $v$ is the noise; where there is little picture, it is the picture: the hard
# part each time. The recipe of this lesson asks for $v$; the loss is the same line with $v$ in place of
# $\epsilon$.
#
# Write it, prove that it is the library's, and import it ever after.

# %%
def my_target(x0, eps, level, prediction):
    alpha, sigma = (torch.as_tensor(a, dtype=x0.dtype).view(-1, 1, 1, 1) for a in (level.alpha, level.sigma))
    return {"eps": eps, "x0": x0, "v": alpha * eps - sigma * x0, "flow": eps - x0}[prediction]  # flow: lesson 09


check.same(my_target, denoise.target)

x0 = scenes.render(scenes.draw(8, seed=72, objects=1)).double()
eps = torch.randn(x0.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
level = levels.Level(t, *(table[t][:, None, None, None] for table in (schedule.alpha, schedule.sigma)))
x, v = level.alpha * x0 + level.sigma * eps, my_target(x0, eps, level, "v")
check.agree("x0 from v", level.alpha * x - level.sigma * v, x0, within=1e-12)
check.agree("eps from v", level.sigma * x + level.alpha * v, eps, within=1e-12)

# %% [markdown] tags=["exercise"]
# ### 07.loss: the line that trains everything
#
# Write `v_loss(network, x0, t, eps, schedule)` for a network that answers $v$. `x0` and `eps` are (b, c, h, w), `t` is (b,)
# whole numbers, a level of its own for each picture; `schedule.alpha` and `schedule.sigma` are tables of 1,000 numbers (in
# float64, so `.float()` them). Make the pictures noisy, call `network(x, t)`, and return for **each** picture the mean
# squared error of its answer: (b,).

# %% tags=["exercise"]
def v_loss(network, x0, t, eps, schedule):
    # BEGIN SOLUTION
    alpha, sigma = (table[t].float()[:, None, None, None] for table in (schedule.alpha, schedule.sigma))
    x = alpha * x0 + sigma * eps
    v = alpha * eps - sigma * x0
    return (network(x, t) - v).square().flatten(1).mean(1)
    # END SOLUTION


check.exercise("07.loss", v_loss)

# %% [markdown] tags=["solution"]
# `table[t]` looks up a level for each picture, and the three `None` give the factors the shape (b, 1, 1, 1): without them
# PyTorch would line the b factors up with the *columns* of the pictures, and say nothing if there happen to be b columns.
# The mean runs over all numbers of a picture but not over the batch, so that one can still see which picture, and which
# level, was hard.

# %% [markdown]
# ## Two answers whose loss you know beforehand
#
# From here on we use the library's, `train.diffusion_loss`, which draws `t` and `eps` itself. Before any training,
# feed it two fake networks. A **cheat** that knows $x_0$ computes the noise
# exactly: its loss must be 0. A **mute** one always answers 0: its loss is the average of $\epsilon^2$, which
# is 1. If your own code does not give these two numbers, do not start to train.

# %%
known = scenes.render(scenes.draw(512, seed=73, objects=1))


def cheat(x, t):
    alpha, sigma = (a[t.long()].float()[:, None, None, None] for a in (schedule.alpha, schedule.sigma))
    return (x - alpha * known) / sigma


def mute(x, t):
    return torch.zeros_like(x)


for name, fake in (("the cheat", cheat), ("the mute", mute)):
    loss = train.diffusion_loss(fake, known, schedule, "eps", torch.Generator().manual_seed(3)).mean()
    print(f"{name}: {loss:.5f} for eps")
loss = train.diffusion_loss(mute, known, schedule, "v", torch.Generator().manual_seed(3)).mean()
print(f"the mute: {loss:.5f} for v, where pixels of x0 have the mean square {known.square().mean():.3f}")

# %% [markdown]
# ## The sanity test: learn one picture by heart
#
# A data set of one picture has a perfect answer at every level, so the loss can go **to zero**, and sampling
# must return that picture. It takes seconds, and it finds most bugs: in the loss, in the network, in the
# sampler. Run it first, whatever you build.

# %%
TINY = UNetConfig(in_channels=3, out_channels=3, block_out_channels=(16, 32), layers_per_block=1,
                  transformer_layers=(0, 0), mid_layers=0, heads=(1, 1), context_dim=None, norm_num_groups=8)  # fmt: skip


def overfit(noising, x0, steps=STEPS):
    """A tiny network trained on one picture x0 (1, 3, h, w), made noisy by noising(x0, t, eps)."""
    torch.manual_seed(0)
    net = UNet(TINY)

    def loss(step, generator):
        t = torch.randint(len(schedule), (16,), generator=generator)
        eps = torch.randn(16, *x0.shape[1:], generator=generator)
        out = net(noising(x0.expand(16, -1, -1, -1), t, eps), t)
        return F.mse_loss(out, my_target(x0, eps, schedule.at(t), "v"))

    return net, show.track(train.fit(net, loss, steps=steps, lr=4e-3), "one picture").losses


def paint(net, noise, steps=25, sampler=sample.ddim):
    """Pictures (b, 3, h, w) from noise of that shape. ddim throws no dice on the way, ddpm does: see below."""
    # clamped: the guess of x0 is cut to the range of pictures
    model = denoise.clamped(denoise.denoiser(net, "v"), -1, 1)
    x = noise.to(next(net.parameters()).device)
    *_, x = sampler(model, x, levels.pick(schedule, steps, "trailing"), generator=torch.Generator().manual_seed(9))
    return x.cpu()


one = scenes.render(scenes.draw(1, seed=81, objects=1), size=16)  # small, so that it takes seconds
one_noise = torch.randn(5, 3, 16, 16, generator=torch.Generator().manual_seed(6))
net, one_losses = overfit(my_q_sample, one)
print(f"loss of the first step {one_losses[0]:.3f}, of the last ten {sum(one_losses[-10:]) / 10:.4f}")
fig = show.grid(torch.cat([one, paint(net, one_noise)]), 6, ["the picture", *["sampled"] * 5])
show.figure(fig, "Five different noises, one picture: the network has learned it by heart.")

# %% [markdown] tags=["exercise"]
# ### 07.overfit: the loop, by hand
#
# `train.fit` ran that for us. Write the loop once yourself:
# `overfit_by_hand(network, optimizer, x0, schedule, steps, generator)` trains the network on one picture `x0` (1, c, h,
# w). Each of the `steps` draws fresh levels and fresh noise for 16 copies of it (`x0.expand(16, -1, -1, -1)`) and moves
# the weights once. Return the list of the losses, as plain numbers.
#
# Use `train.diffusion_loss(network, pictures, schedule, "v", generator)`, which gives a loss for each picture, or your own.

# %% tags=["exercise"]
def overfit_by_hand(network, optimizer, x0, schedule, steps, generator):
    # BEGIN SOLUTION
    losses = []
    for _ in range(steps):
        loss = train.diffusion_loss(network, x0.expand(16, -1, -1, -1), schedule, "v", generator).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses
    # END SOLUTION


check.exercise("07.overfit", overfit_by_hand)

# %% [markdown] tags=["solution"]
# The order counts. `backward` *adds* its slopes to those that are already there, so the old ones have to go first; and the
# optimizer can only step once the new ones are there. `loss.item()` keeps the number and lets go of everything that was
# needed to compute it; a list of the losses themselves would hold the memory of all steps.

# %% [markdown]
# ## An average of the weights
#
# Each training step pulls the weights towards 64 pictures, and the next step elsewhere. The path trembles. So
# one keeps a second set of weights, the *exponential moving average* (EMA), and samples with that: after each
# step $\bar\theta \leftarrow d\,\bar\theta + (1 - d)\,\theta$. Ho et al. use $d = 0.9999$ (appendix B).
# Unrolled, it is a weighted mean of all the weights there ever were, those of step $k$ counting $(1 - d_k)
# \prod_{j > k} d_j$. In the library $d_k$ rises from 0.1 to 0.999, or else the first, random weights would
# count for a thousand steps.

# %%
def my_shares(decays):
    """How much the start, and then the weights after each step, count in the average: (n + 1,), summing to 1."""
    d = torch.tensor(decays)
    later = torch.cat([d.flip(0).cumprod(0).flip(0), torch.ones(1)])  # the product of this decay and all after it
    return torch.cat([later[:1], (1 - d) * later[1:]])


layer, steps = nn.Linear(3, 3), 40
path, ema = [layer.weight.detach().clone()], train.EMA(layer, decay=0.999)
for _ in range(steps):
    nn.init.normal_(layer.weight)
    path.append(layer.weight.detach().clone())
    ema.update(layer)
decays = [min(0.999, (1 + k) / (10 + k)) for k in range(steps)]
check.agree("EMA", (my_shares(decays)[:, None, None] * torch.stack(path)).sum(0), ema.model.weight)

fig, ax = plt.subplots(figsize=(7, 2.8))
for n in (100, 500, 2000):
    shares = my_shares([min(0.999, (1 + k) / (10 + k)) for k in range(n)])
    ax.plot(torch.arange(n + 1) - n, shares * 100, label=f"after {n:,} steps")
ax.set(xlabel="steps ago", ylabel="share in percent", xlim=(-800, 0), ylim=(0, 3))
ax.legend(loc="upper left")
show.figure(fig, "What the average remembers: about the last tenth of the run, until the decay is at its full 0.999.")

# %% [markdown] tags=["exercise"]
# ### 07.ema: the average, step by step
#
# The shares above are what the average comes to. A program does not keep all weights there ever were; it keeps *one* copy
# and moves it. Write `averaged(path, decay)`: `path` is a list of tensors, `path[0]` the weights before the first step and
# `path[k + 1]` those after step k (counted from 0). The decay of step k is $d_k = \min(\text{decay}, (1 + k) / (10 + k))$.
# Return the average after the last step.

# %% tags=["exercise"]
def averaged(path, decay):
    # BEGIN SOLUTION
    average = path[0]
    for k, now in enumerate(path[1:]):
        d = min(decay, (1 + k) / (10 + k))
        average = d * average + (1 - d) * now
    return average
    # END SOLUTION


check.exercise("07.ema", averaged)

# %% [markdown] tags=["solution"]
# One line does it, from step to step, and the memory of it all is one copy of the weights. The rising decay is there for
# short runs: with 0.999 at once, the random first weights would still count 37% after a thousand steps.

# %% [markdown]
# ## Train, for some seconds
#
# All is tested; now the real thing. The recipe `pixel`: scenes of one object, drawn anew for every step, so
# there is nothing to learn by heart; a U-Net; the loss above for $v$; batches of 64. Below the bar you see
# what the averaged network makes of eight noises, always the same eight.

# %%
device, config = choose.network(runs.PLAIN_PIXEL, replace(runs.PIXEL_CONFIG, context_dim=None))
torch.manual_seed(0)
run = runs.diffusion_run(config=config, objects=1, device=device)
noise = torch.randn(48, 3, 32, 32, generator=torch.Generator().manual_seed(6))
ema, film = train.EMA(run.model, run.ema), []


def look():
    film.append(paint(ema.model, noise[:8]))
    return film[-1]


progress = train.fit(run.model, run.loss, seconds=SECONDS, lr=run.lr, ema=ema, autocast=run.autocast)
history = show.track(progress, "pixel DDPM", check=lambda: run.check(ema.model), samples=look, marks=8)
chosen = [0, len(film) // 3, 2 * len(film) // 3, len(film) - 1]
fig = show.strip([film[i] for i in chosen], [f"{history.check_times[i]:.0f} s" for i in chosen])
show.figure(fig, "Eight noises, and what the averaged network makes of them as it trains.")

# %% [markdown]
# Half a minute on two cores is not enough for shapes: you see backgrounds settle, and smudges. The package brings
# the same network, trained for longer. We use it in a moment.
#
# ## "The loss is flat. Is it learning?"
#
# Asked again and again: [ermongroup/ddim #33](https://github.com/ermongroup/ddim/issues/33),
# [facebookresearch/DiT #17](https://github.com/facebookresearch/DiT/issues/17), [zoubohao's DDPM
# #45](https://github.com/zoubohao/DenoisingDiffusionProbabilityModel-ddpm-/issues/45) and
# [#48](https://github.com/zoubohao/DenoisingDiffusionProbabilityModel-ddpm-/issues/48), [Open-Sora
# #286](https://github.com/hpcaitech/Open-Sora/issues/286), where the answer is: the loss is almost the same,
# but the model keeps improving. How can both be true?
#
# **First reason: the training loss is noise.** Each step draws new pictures, new noise, and above all new
# levels $t$; an easy draw looks like progress and a hard one like relapse. Cure: now and then compute the
# loss on pictures, noise and levels that **never change**. Then only the network can move it. That is the
# *check*.

# %%
fig, axes = plt.subplots(1, 2, figsize=(11, 3.2))
axes[0].plot(history.times, history.losses, linewidth=0.8)
axes[0].set(title="training loss", xlabel="seconds", ylabel="squared error of v", ylim=(0, None))
axes[1].plot(history.check_times, history.checks, "o-", color="C1")
axes[1].set(title="check: fixed pictures, noise and levels", xlabel="seconds", ylim=(0, None))
show.figure(fig, "The same training twice. Left what everybody looks at, right what only the network can change.")

# %% [markdown]
# **Second reason: the loss should settle, but not at zero.** Look at $x_{999}$: pure noise. Nobody on earth
# can say which picture is behind it, and the best answer is the average of all pictures. The error that even
# a perfect network makes, the *irreducible* one of lesson 05, is most of what you see in the loss.
#
# How large is it? For a list of pictures lesson 05 wrote the perfect denoiser down: each picture has a vote, by how
# well it explains $x$, and the votes go through a softmax. Our pictures are endless, not a list. So we draw 10,000,
# tell the perfect denoiser *which* 10,000, and ask about some of them. **Knowing the list can only help**: no network
# that is not told can be better on average. So this is a true lower bound. With little noise the hint gives everything
# away and the bound falls to 0; with much noise it hardly helps, and the bound is tight.

# %%
crowd = scenes.render(scenes.draw(10_000, seed=74, objects=1)).flatten(1)  #              (10000, 3072)
asked = crowd[:48].view(-1, 3, 32, 32)
asked_eps = torch.randn(asked.shape, generator=torch.Generator().manual_seed(7))
TIMES = list(range(15, 1000, 82))


def knows_the_list(x, level):
    """E[x0 | x] for one who knows that x0 is in the crowd: (b, 3, 32, 32) -> (b, 3, 32, 32)."""
    fit = level.alpha * x.flatten(1) @ crowd.T - 0.5 * level.alpha**2 * crowd.square().sum(1)  #  (b, 10000)
    return ((fit / level.sigma**2).softmax(1) @ crowd).view_as(x)  # the square of x is the same for all: left out


level = schedule.rows()[930]
some = level.alpha * asked[:2] + level.sigma * asked_eps[:2]
check.agree("the posterior mean of lesson 05", knows_the_list(some, level), exact.posterior_mean(some, level, crowd), 1e-4)


@torch.no_grad()
def loss_by_t(denoiser, device="cpu"):
    """The squared error of v at each of TIMES, for a denoiser(x, level) -> x0. As v = (alpha x - x0) / sigma,
    it is that of x0 over sigma squared."""
    losses = []
    for t in TIMES:
        level = schedule.rows()[t]
        guess = denoiser((level.alpha * asked + level.sigma * asked_eps).to(device), level).cpu()
        losses.append((guess - asked).square().mean().item() / level.sigma**2)
    return losses


floor = loss_by_t(knows_the_list)
models = {f"live, {history.times[-1]:.0f} s": ema.model}
models |= {name: weights.load(name, device).unet for name in snapshots}
by_t = {name: loss_by_t(denoise.denoiser(unet, "v"), device) for name, unet in models.items()}
fig, ax = plt.subplots(figsize=(9, 4))
for name, losses in by_t.items():
    ax.semilogy(TIMES, losses, label=f"{name}: mean {sum(losses) / len(losses):.4f}")
ax.fill_between(TIMES, 1e-4, [max(loss, 1e-4) for loss in floor], color="black", alpha=0.15)
ax.plot(TIMES, floor, "k--", label=f"nobody below this: mean {sum(floor) / len(floor):.4f}")
ax.set(xlabel="t (right: more noise)", ylabel="squared error of v", ylim=(1e-4, 2))
ax.legend(loc="upper left", bbox_to_anchor=(1, 1))
show.figure(fig, "Loss by level. At the right all models lie on the floor; what makes pictures good is in the middle.")

# %% [markdown]
# Read it from the right. Near pure noise all models come close to the floor, early, and the floor is high:
# *there is next to nothing left to learn there, and yet that is where most of the floor's mean comes from.*
# In the middle, where it is decided what is in the picture, and at the left, where edges are drawn, the
# models differ by factors. But those losses are small, and in the mean over all $t$ they hardly count. **A
# mean over $t$ hides what you want to know.**
#
# ## What you really want to know
#
# Are the pictures good? In this world we can ask. The oracle reads a scene from pixels or says "unreadable":
# it is not a network, it fits the renderer. It is strict: a shape in two colours is no scene to it, and for a pixel
# model this small, the better part of an hour is not enough to satisfy it. But it also tells how far each picture is from the nearest scene
# that could have been drawn, its *residual*. So let us sample from every model, from the same noises, and read.

# %%
manifest = json.loads((weights.SHIPPED / "manifest.json").read_text(encoding="utf-8"))["models"]
seconds = [history.times[-1], *(manifest[name]["seconds"] for name in snapshots)]
residuals, rows = [], []
for name, spent, unet in zip(models, seconds, models.values(), strict=True):
    pictures = paint(unet, noise, steps=20)
    reading = oracle.read(pictures)
    residuals.append(reading.residual.quantile(torch.tensor([0.25, 0.5, 0.75])).tolist())
    rows.append(pictures[:8])
    share, low, high = oracle.wilson(int(reading.readable.sum()), len(pictures))
    print(f"{name:12} {spent:5,.0f} s   distance to the nearest scene {residuals[-1][1]:.3f}   "
          f"readable {share:.0%} (interval {low:.0%} to {high:.0%})")  # fmt: skip
show.figure(show.strip(rows, [*models]), "One column, one noise. The longer it has trained, the more is a scene.")

# %%
order = sorted(range(len(seconds)), key=lambda i: seconds[i])
fig, axes = plt.subplots(1, 2, figsize=(10, 3.2))
means = [sum(losses) / len(losses) for losses in by_t.values()]
axes[0].plot([seconds[i] for i in order], [means[i] for i in order], "o-")
axes[0].axhline(sum(floor) / len(floor), color="black", linestyle="--")
axes[0].set(title="mean loss, and the floor", xlabel="seconds of training", ylim=(0, None))
low, middle, high = ([residuals[i][k] for i in order] for k in range(3))
spread = [[m - a for m, a in zip(middle, low, strict=True)], [b - m for m, b in zip(middle, high, strict=True)]]
axes[1].errorbar([seconds[i] for i in order], middle, spread, fmt="o-", color="C1", capsize=4)
axes[1].set(title="distance to the nearest scene", xlabel="seconds of training", ylim=(0, None))
show.figure(fig, "The answer to 'the loss is flat': where the left curve is nearly level, the right one still falls. "
            "Its bars hold half of the pictures.")

# %% [markdown]
# ## Play: scrub through the training
#
# One noise for each of the eight pictures, and the network as it was at some eleven moments, from the first seconds of your own
# run to the end of the long one. Move the slider, and watch one picture. When is its background settled? When has it an object? Then look at the curve, and ask whether it would have told you.

# %% tags=["explorer"] jupyter={"source_hidden": true}
moments = [*zip(history.check_times, history.checks, film, strict=True)]
for spent, name in zip(seconds[1:], snapshots, strict=True):
    trained = models[name]
    moments.append((spent, run.check(trained), paint(trained, noise[:8])))
moments.sort(key=lambda moment: moment[0])
spent, fixed, _ = zip(*moments, strict=True)


def view(moment):
    now, loss, pictures = moments[moment]
    fig = plt.figure(figsize=(9, 3.3))
    left, right = fig.add_axes((0.01, 0.03, 0.5, 0.85)), fig.add_axes((0.61, 0.17, 0.37, 0.71))
    left.imshow(show.sheet(pictures, columns=4, zoom=4))
    left.set_title(f"after {now:,.0f} seconds")
    left.axis("off")
    right.plot([math.log10(s) for s in spent], fixed, "o-", color="0.7", markersize=4)
    right.plot(math.log10(now), loss, "o", markersize=10)
    right.set(xlabel="seconds of training", ylim=(0, None), xticks=range(1, 4), xticklabels=[10, 100, 1000])
    right.set_title(f"check: {loss:.4f}")
    return fig


box = widgets.explorer(view, moment=(0, len(moments) - 1, 1, len(moments) - 1))
widgets.show(box, "Eight pictures from eight noises that never change, and the check with fixed noise at that moment.")

# %% tags=["widget-test"] jupyter={"source_hidden": true}
slowest = widgets.drive(box, limit=0.15)

# %% [markdown]
# So, when a diffusion loss looks flat: (1) look at a check with fixed noise; (2) look at it level by level;
# (3) know that its floor is not 0; (4) look at samples of saved snapshots, from the same noise each time, and
# measure them if you can.
#
# ## Sampling, by hand
#
# `paint` used `ddim` from the library. The sampler of the DDPM paper draws fresh noise at every step. You know it from
# lesson 05, in the letters of another paper; here it is as its own paper has it, and lesson 08 derives it. Say we are
# at level $t$ and want to be at a cleaner level $s$. If we knew $x_0$, then $x_s$ given $x_t$ would be a bell curve:
# two bell curves, "$x_s$ was made from $x_0$" and "$x_t$ was made from $x_s$", multiplied. Its mean and variance, with
# $1 - \beta = \bar\alpha_t / \bar\alpha_s$:
#
# $$\tilde\mu = \frac{\sqrt{\bar\alpha_s}\,\beta}{1 - \bar\alpha_t}\, x_0
# + \frac{\sqrt{1 - \beta}\,(1 - \bar\alpha_s)}{1 - \bar\alpha_t}\, x_t, \qquad
# \tilde\beta = \frac{1 - \bar\alpha_s}{1 - \bar\alpha_t}\, \beta$$
#
# (Ho et al. 2020, eq. 7.) We do not know $x_0$; we put in the network's guess, and draw (algorithm 2).

# %%
@torch.no_grad()
def my_ddpm(denoiser, x, rows, generator=None):
    for level, below in pairwise(rows):
        x0 = denoiser(x, level)
        bar_t, bar_s = level.alpha**2, below.alpha**2
        b = 1 - bar_t / bar_s
        mean = math.sqrt(bar_s) * b / (1 - bar_t) * x0 + math.sqrt(1 - b) * (1 - bar_s) / (1 - bar_t) * x
        variance = (1 - bar_s) / (1 - bar_t) * b
        x = mean
        if variance > 0:  # the last step ends at the clean picture and adds nothing
            x = x + math.sqrt(variance) * torch.randn(x.shape, generator=generator)
        yield x


model = denoise.clamped(denoise.denoiser(pipe.unet, "v"), -1, 1)
rows = levels.pick(schedule, 25, "trailing")
*_, mine = my_ddpm(model, noise[:8], rows, torch.Generator().manual_seed(8))
*_, theirs = sample.ddpm(model, noise[:8], rows, torch.Generator().manual_seed(8))
check.agree("ddpm", mine, theirs, within=1e-3)
*_, other = my_ddpm(model, noise[:8], rows, torch.Generator().manual_seed(9))
fig = show.strip([mine, other, paint(pipe.unet, noise[:8], 25)], ["ddpm", "ddpm, other dice", "ddim, no dice"])
show.figure(fig, "One column starts from one noise. The dice on the way decide as much as the start does.")

# %% [markdown] tags=["exercise"]
# ### 07.pixels: the last step to a picture
#
# A file or a screen wants bytes, whole numbers 0..255 with the channels last. Write `to_bytes(x)`: what a sampler gives, `x`
# (b, 3, h, w), where -1 is black, 1 is white, and some values overshoot a little, becomes `torch.uint8` of shape (b, h, w,
# 3). It looks too simple for an exercise. Most ways to get it wrong give a picture that looks
# nearly right.

# %% tags=["exercise"]
def to_bytes(x):
    # BEGIN SOLUTION
    unit = (x.clamp(-1, 1) + 1) / 2
    whole = (unit * 255).round().to(torch.uint8)
    return whole.permute(0, 2, 3, 1)
    # END SOLUTION


check.exercise("07.pixels", to_bytes)

# %% [markdown] tags=["solution"]
# Clamp first: a byte knows nothing above 255 and starts again at 0, so a white that overshoots becomes a black speck. Round,
# because the conversion cuts off. And `permute` moves the channels to the end, where `reshape` would only cut the same row of
# numbers at other places.

# %% [markdown]
# ## Bug museum: the missing root, and the wrong range
#
# **The missing root.** You have met it in the museum of lesson 04: $\sigma^2$ where $\sigma$ belongs. Training then
# sees less noise than the sampler will show. Nothing crashes, and the loss falls. Here is what becomes of the samples.
#
# **The wrong range.** Picture libraries give pixels in 0..1. The sampler starts from noise with mean 0, so
# the data are scaled to -1..1 (Ho et al. 2020, section 3.3). Leave it out, and the picture is half as strong
# against the noise as it should be, and comes out pale. It is asked often, for instance in [DALLE2-pytorch
# #96](https://github.com/lucidrains/DALLE2-pytorch/issues/96).
#
# Both broken on purpose, on one picture, for some seconds each. The first row is the mended one.

# %%
def missing_root(x0, t, eps):
    alpha, sigma = (a[t].float()[:, None, None, None] for a in (schedule.alpha, schedule.sigma))
    return alpha * x0 + sigma**2 * eps  # 1 - alpha_bar where its root belongs


trials = {
    "right": (net, one_losses),
    "missing root": overfit(missing_root, one),
    "data in 0..1": overfit(my_q_sample, (one + 1) / 2),
}
fig = show.strip([paint(trained, one_noise, 50, sample.ddpm) for trained, _ in trials.values()], [*trials])
show.figure(fig, "The same network, picture, noises and steps. The range shows at once. The root hardly shows.")
for name, (_, losses) in trials.items():
    print(f"{name:14} loss of the last ten steps {sum(losses[-10:]) / 10:.4f}")
spread = {rule.__name__: rule(known, torch.full((512,), 500), torch.randn(known.shape)).std().item()
          for rule in (my_q_sample, missing_root)}  # fmt: skip
print("standard deviation of x at t = 500:", {name: round(value, 2) for name, value in spread.items()})

# %% [markdown]
# Look at the second row: you would not notice. That is how such a bug lives for years. A weak network hides
# it, for it does not trust its input much. **The better the network, the worse the pictures.** We need not
# train for a week to see that: we have the perfect denoiser. Give it what endless training without the root
# would give, and sample as usual.

# %%
def perfect(rootless):
    """The best possible network for the crowd, trained with the right noise or with sigma squared, read as usual."""

    def denoiser(x, level):
        sigma = level.sigma**2 if rootless else level.sigma  # the noise it was trained on
        x0 = knows_the_list(x, level._replace(sigma=sigma))
        v = level.alpha * (x - level.alpha * x0) / sigma - level.sigma * x0  # what it has learned to answer
        return (level.alpha * x - level.sigma * v).clamp(-1, 1)

    return denoiser


rows = levels.pick(schedule, 50, "trailing")
ends = [[*sample.ddpm(perfect(rootless), noise[:8], rows, torch.Generator().manual_seed(10))][-1]
        for rootless in (False, True)]  # fmt: skip
fig = show.strip(ends, ["right", "missing root"])
show.figure(fig, "Perfect networks. The first returns pictures of its list; the second, without the root, returns noise.")

# %% [markdown]
# (The first row also shows the catch of perfection: it can only repeat its list. A real network does better
# than that by doing worse. Lesson 05 is about it.)
#
# **How to never fall for it:** test the forward process by itself, as in lesson 04, mean and standard
# deviation against the formula: 0.89 and 0.74 are not the same. And run the one-picture test, which shows the
# range at once.
#
# ## Try it
#
# How many looks does a picture need? Guess the smallest number of steps at which the shapes are still whole.
# Then run.

# %%
few = [paint(pipe.unet, noise[:8], steps) for steps in (1, 2, 4, 8, 25)]
show.figure(show.strip(few, ["1 step", "2 steps", "4 steps", "8 steps", "25 steps"]), "The same eight noises.")

# %% [markdown]
# With one step you see the network's answer to pure noise: the average of all pictures. Remember the floor?
#
# ## Quiz
#
# <details><summary>1. Your loss fell from 1.0 to 0.06 within a minute and has been at 0.05 for an hour. Stop?</summary>
#
# Not for that reason. Most of the 0.05 may be irreducible. Look at a fixed-noise check, level by level, and at samples
# from snapshots.
# </details>
#
# <details><summary>2. On a data set of a single picture your loss settles at 0.2. What do you conclude?</summary>
#
# There is a bug (or far too small a network). With one picture the perfect answer is known at every level, so the floor
# is 0.
# </details>
#
# <details><summary>3. Which curve lies: training loss, fixed-noise check, loss by level, distance to the nearest
# scene?</summary>
#
# None lies, each answers its own question. The training loss answers a question that changes at every step, and the
# mean over levels is ruled by the levels where nothing can be learned.
# </details>
#
# **Words of this lesson** ([glossary](glossary.md)): DDPM, prediction, v, EMA, irreducible loss, memorisation.
# **Next:** lesson 08 asks which sampler needs the fewest looks; lesson 12 moves all of this into the latents of lesson
# 02.

# %%
print(f"this lesson took {time.perf_counter() - opened:.0f} s from its first cell to its last")
