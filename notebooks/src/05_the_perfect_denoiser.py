# %% [markdown] tags=["solution"]
# # 05 · The perfect denoiser: solutions
#
# One answer to each exercise, and why it is so. There are others; the check takes them too.

# %% [markdown]
# # 05 · The perfect denoiser
#
# **After this lesson you can**
# - write down the best denoiser there is, for a list of pictures and for a mixture of bell curves;
# - turn a denoiser into arrows, the score, and prove the formula that links them;
# - draw with it in two ways, with dice on the way and without, and say what the dice are for;
# - say why the lowest loss of all belongs to a denoiser that only copies.
#
# **Time:** about 15 seconds of computing on a laptop with 2 cores, no GPU; an hour or two with the exercises.
#
# **Needs:** lesson 04 ($x = \alpha x_0 + \sigma \epsilon$) and Bayes' rule. No network is trained, nothing is
# downloaded, no papers read. Words in *slanted type* are explained where they come up, and again in the
# [glossary](glossary.md).
#
# A diffusion model is a network that removes noise. In this lesson there is no network. Where the data are known, the
# *best possible* denoiser can be written down in a few lines, and everything about diffusion can be seen without the
# fog of training: what a network is trained towards, how its answers draw pictures, and why we are lucky that it never
# gets there.

# %% tags=["setup"]
import math
import time
from itertools import pairwise

import matplotlib.pyplot as plt
import torch
import torch.nn.functional as F

from minildm import denoise, exact, levels, sample, show, train
from minildm.course import check
from minildm.data import digits
from minildm.levels import Level

opened = time.perf_counter()
show.style()
schedule = levels.cosine()  # 1,000 noise levels
rows = levels.pick(schedule, 50, "trailing")  # every 20th level, from the last one, pure noise, down to clean


def seeded(seed):
    return torch.Generator().manual_seed(seed)


# %% [markdown]
# ## The picture first
#
# Each row starts as pure noise and ends as a digit. Nobody drew it on the way, and **nothing was trained**: the formula
# that guesses the clean picture is two lines long, and you will have it in ten minutes.

# %%
known = digits("train")[0][:200]  # (200, 1, 8, 8) in -1..1: all the data there are in this lesson
unseen = digits("test")[0]  # (360, 1, 8, 8), written by other people
perfect = exact.denoiser(known)

start = torch.randn(4, 1, 8, 8, generator=seeded(3))
film = [start, *sample.ddim(perfect, start, rows)]
nearest = torch.cdist(film[-1].flatten(1), known.flatten(1)).argmin(1)
looks = (0, 20, 28, 34, 38, 42, 46, 50)
strips = [[film[i][k] for i in looks] + [known[nearest[k]]] for k in range(4)]
fig = show.strip(strips, ["a", "b", "c", "d"], columns=[*(f"{i} steps" for i in looks), "twin"])
show.figure(fig, "Four noises become four digits. Last column: of the 200 known digits the one nearest to the result.")

# %% [markdown]
# They are sharp, they are digits, and they are different. But look at the last column. **Every result is a copy of a
# digit from the list**, to the last pixel. That is the riddle of this lesson: the best denoiser makes the worst artist.
#
# ## What is the best answer?
#
# Somebody tossed a coin: $x_0$ is $-1$ or $+1$. Then came noise, $x = \alpha x_0 + \sigma \epsilon$, and you see only
# $x$. You are asked for $x_0$, and pay the *squared* error. What do you say at $x = 0.3$?
#
# Not $+1$. If you answer $a$, you pay on average $\mathbb E[(a - x_0)^2]$ over all the $x_0$ that could be behind this
# $x$. Write $m = \mathbb E[x_0 \mid x]$ for their mean, put $a - x_0 = (a - m) + (m - x_0)$, and multiply out. The
# mixed term is $2 (a - m)\, \mathbb E[m - x_0 \mid x] = 0$, and what is left is
#
# $$\mathbb E\big[(a - x_0)^2 \mid x\big] \;=\; (a - m)^2 \;+\; \mathbb E\big[(m - x_0)^2 \mid x\big] .$$
#
# The second part does not depend on $a$. So **the best answer is the mean**, $a = m$, and nothing else comes close. The
# perfect denoiser is
#
# $$D(x) \;=\; \mathbb E[x_0 \mid x].$$
#
# For the coin, Bayes weighs $+1$ and $-1$ by how well they explain $x$, by $e^{-(x \mp \alpha)^2 / 2\sigma^2}$.
# Multiply the squares out: all but $e^{\pm \alpha x / \sigma^2}$ is common to both and cancels, and the mean of $+1$
# and $-1$ with these weights is $D(x) = \tanh(\alpha x / \sigma^2)$. Do not believe it: toss a million coins, and
# average $x_0$ over those that led to about the same $x$.

# %%
coins = torch.randint(2, (1_000_000,), generator=seeded(0)) * 2.0 - 1
eps = torch.randn(coins.shape, generator=seeded(1))
places = torch.linspace(-2, 2, 21)
grid = torch.linspace(-2.2, 2.2, 300)
fig, ax = plt.subplots(figsize=(7.5, 3.8))
for sigma in (0.3, 0.6, 0.9):
    alpha = math.sqrt(1 - sigma**2)
    (line,) = ax.plot(grid, torch.tanh(alpha * grid / sigma**2), label=f"tanh, sigma = {sigma}")
    bins = ((alpha * coins + sigma * eps + 2.1) / 0.2).floor().long()
    inside = (bins >= 0) & (bins < 21)
    count = torch.bincount(bins[inside], minlength=21)
    mean = torch.bincount(bins[inside], coins[inside], minlength=21) / count
    enough = count > 400
    ax.plot(places[enough], mean[enough], "o", color=line.get_color())
    mine = torch.tanh(alpha * grid / sigma**2)[:, None]
    theirs = exact.posterior_mean(grid[:, None], Level(0.0, alpha, sigma), torch.tensor([[-1.0], [1.0]]))
    assert torch.allclose(mine, theirs, atol=1e-5)
ax.axhline(0, color="black", linewidth=0.6)
ax.set(xlabel="x, the noisy coin", ylabel="best answer for x0")
ax.legend(loc="lower right")
show.figure(fig, "Lines: the formula. Dots: the average coin behind each x, out of a million. More noise, meeker answers.")

# %% [markdown]
# Little noise: the answer jumps from one side to the other, the denoiser is sure. Much noise: it hardly dares to leave
# 0, which is no coin at all. **A mean of possible pictures need not be a possible picture**: that is why a single look
# is blurred, and why we take many.
#
# ## A list of pictures
#
# Now let $x_0$ be one of $n$ pictures $x^{(1)}, \dots, x^{(n)}$, all equally likely. Nothing changes. How likely is
# picture $i$, given $x$? The noise would have to be $(x - \alpha x^{(i)}) / \sigma$, and the bell curve says how likely
# that is. So every picture of the list gets a *vote*, and the answer is their average:
#
# $$D(x) \;=\; \sum_i w_i\, x^{(i)}, \qquad
# w_i = \frac{e^{-\|x - \alpha x^{(i)}\|^2 / 2\sigma^2}}{\sum_j e^{-\|x - \alpha x^{(j)}\|^2 / 2\sigma^2}}$$
#
# (Karras et al. 2022, [arXiv 2206.00364](https://arxiv.org/abs/2206.00364), eq. 57, with $x/\alpha$ and
# $\sigma/\alpha$ for their $x$ and $\sigma$.) Exponentials over their sum: that is a *softmax*. Two lines, as promised.

# %%
def my_lookup(x, level, means):
    votes = -(x[:, None] - level.alpha * means).flatten(2).square().sum(2) / (2 * level.sigma**2)  #  (b, n)
    return (votes.softmax(1) @ means.flatten(1)).view_as(x)


check.same(my_lookup, exact.posterior_mean)

one, same_eps = unseen[3:4], torch.randn(1, 1, 8, 8, generator=seeded(2))
noisy, guesses, voters = [], [], []
shown = [schedule.rows()[t] for t in (990, 800, 650, 500, 400, 300, 150, 0)]
for level in shown:
    x = level.alpha * one + level.sigma * same_eps
    votes = -(x - level.alpha * known).flatten(1).square().sum(1) / (2 * level.sigma**2)
    share = votes.softmax(0)
    voters.append((-(share * share.clamp(min=1e-12).log()).sum()).exp().item())  # exp of the entropy
    noisy.append(x[0])
    guesses.append(perfect(x, level)[0])
columns = [f"{count:.0f} vote{'s' * (count >= 1.5)}" for count in voters]
fig = show.strip([noisy, guesses], ["an unseen digit in noise", "best answer"], columns=columns)
show.figure(fig, "From much noise to little. Above: by how many of the 200 the answer is decided, as exp of the entropy.")

# %% [markdown]
# (The exponential of the entropy is a soft count, as the perplexity was in lesson 03.) At the left everybody votes, and
# the answer is the mean of all digits. The less noise, the fewer voters. At the right there is hardly any noise, the
# digit is plain to see, and the perfect denoiser answers **with another digit**: it knows its list, this digit is not
# on it, so it must have been the nearest one. Keep that in mind.
#
# ## A bell curve, and many
#
# Lists are made of points. Smooth data are as easy. Let $x_0$ come from one bell curve $\mathcal N(m, s^2)$. Given $x$,
# the logarithm of how likely $x_0$ is has two parts, what we knew and what we see:
#
# $$-\frac{(x_0 - m)^2}{2 s^2} \;-\; \frac{(x - \alpha x_0)^2}{2 \sigma^2} .$$
#
# That is a parabola in $x_0$: a bell curve again, and its mean lies where the slope is 0. Set $(m - x_0) / s^2 + \alpha
# (x - \alpha x_0) / \sigma^2 = 0$ and solve for $x_0$:
#
# $$D(x) \;=\; m \;+\; \frac{\alpha s^2}{\alpha^2 s^2 + \sigma^2}\,(x - \alpha m).$$
#
# Read it aloud: *start from what you expect, $m$; see how far $x$ is from what $m$ would have given, $\alpha m$; go some
# of the way.* The fraction is near 0 in much noise, and $1/\alpha$ in none.

# %%
m, s, level = 1.0, 0.5, Level(0.0, 0.8, 0.6)
seen = torch.tensor([[-0.6]])
gain = level.alpha * s**2 / (level.alpha**2 * s**2 + level.sigma**2)
formula = m + gain * (seen - level.alpha * m)
grid = torch.linspace(-3, 3, 6001)
expected = torch.exp(-((grid - m) ** 2) / (2 * s**2))
fits = torch.exp(-((seen[0] - level.alpha * grid) ** 2) / (2 * level.sigma**2))
both = expected * fits
average = (grid * both).sum() / both.sum()  # the mean by adding up, without any algebra
print(f"formula {formula.item():.5f}   quadrature {average:.5f}   "
      f"library {exact.posterior_mean(seen, level, torch.tensor([[m]]), s).item():.5f}")  # fmt: skip
assert abs(formula.item() - average) < 1e-4

fig, ax = plt.subplots(figsize=(7.5, 3.2))
names = ("expected: N(1, 0.5²)", "seen: x = -0.6", "both together")
for curve, name in zip((expected, fits, both / both.max()), names, strict=True):
    ax.plot(grid, curve, label=name)
ax.axvline(average, color="black", linestyle="--", linewidth=1.5, label="best answer")
ax.set(xlabel="x0", yticks=[], xlim=(-2.6, 3), ylim=(0, 1.08))
ax.legend(loc="upper left", bbox_to_anchor=(1, 1))
show.figure(fig, "How likely each x0 is (each curve drawn to height 1): what we knew, what we see, and the product.")

# %% [markdown]
# From one bell curve to several, a *mixture*: first ask which of the modes $x$ came from, then let each mode answer for
# itself, and average. That is your turn.
#
# (There are four exercises, each where its subject comes up. Write your answer in place of the dots and run the cell. Its
# last line looks at what you wrote: a tick, or what is amiss and on which input. `check.hint("05.posterior_mean")` gives a
# hint, and a clearer one each time. Whatever you write, the notebook runs on.)

# %% [markdown] tags=["exercise"]
# ### 05.posterior_mean: several bell curves
#
# Write `posterior_mean(x, level, means, spread, weights)`: the best answer for a mixture of $k$ bell curves.
# - `x` is (b, d), the noisy points; `level.alpha` and `level.sigma` are two numbers.
# - Mode $k$ has the mean `means[k]`, the same standard deviation `spread[k]` in every coordinate, and is chosen with
#   the probability `weights[k]`. `means` is (k, d), `spread` and `weights` are (k,), and the weights add up to 1.
#
# What noise makes of mode $k$ is a bell curve again, with the mean $\alpha m_k$ and the variance $\alpha^2 s_k^2 +
# \sigma^2$ in each of its $d$ coordinates. Weigh the modes with it, let each answer as above, and return the average,
# (b, d). The check compares with adding up on a fine grid, and tries points that are far away.

# %% tags=["exercise"]
def posterior_mean(x, level, means, spread, weights):
    # BEGIN SOLUTION
    variance = level.alpha**2 * spread**2 + level.sigma**2  #                              (k,)
    away = x[:, None] - level.alpha * means  #                                             (b, k, d)
    votes = weights.log() - away.square().sum(2) / (2 * variance) - means.shape[1] / 2 * variance.log()
    gain = level.alpha * spread**2 / variance
    answers = means + gain[:, None] * away
    return (votes.softmax(1)[..., None] * answers).sum(1)  #                               (b, d)
    # END SOLUTION


check.exercise("05.posterior_mean", posterior_mean)

# %% [markdown] tags=["solution"]
# The vote of a mode is its weight times the height of its bell curve at $x$. In logarithms: $\log w_k$, minus the squared
# distance over twice the variance, minus $\frac d2 \log$ of the variance. The last part is the curve's own height: wide
# curves are low. It is the same for all points of a list, which is why it was not in the formula before. `softmax`
# subtracts the largest vote before it takes exponentials, so that points far from everything still get an answer.

# %% [markdown]
# ## Arrows
#
# Our world for the next pages is a plane with three modes: narrow, medium and wide, with different weights. From every
# point $x$ draw an arrow to where the best answer would lie in the noisy plane, $\alpha D(x)$. As $D$ is an average over
# modes, the arrow is a sum: **each mode pulls towards itself**, with a strength that goes by its vote.

# %%
MODES = torch.tensor([[-1.3, -0.6], [1.3, -0.5], [0.1, 1.2]])
SPREAD = torch.tensor([0.25, 0.12, 0.4])
WEIGHTS = torch.tensor([0.3, 0.2, 0.5])
plane = exact.denoiser(MODES, SPREAD, WEIGHTS)
HUES = [show.PALETTE[name] for name in ("red", "green", "purple")]


def pulls(x, level):
    """What each mode adds to the arrow from x to alpha D(x): (b, modes, 2)."""
    variance = level.alpha**2 * SPREAD**2 + level.sigma**2
    away = level.alpha * MODES - x[:, None]
    votes = WEIGHTS.log() - away.square().sum(2) / (2 * variance) - variance.log()  # d / 2 = 1 coordinates
    return votes.softmax(1)[..., None] * (level.sigma**2 / variance)[:, None] * away


def fog(ax, level, side=2.6):
    """The density of noisy points, as shades of grey (of its root, or else wide modes would not be seen)."""
    line = torch.linspace(-side, side, 120)
    x = torch.stack(torch.meshgrid(line, line, indexing="xy"), -1).view(-1, 2)
    shade = exact.log_density(x, level, MODES, SPREAD, WEIGHTS).div(2).exp().view(120, 120)
    ax.contourf(line, line, shade / shade.max(), torch.linspace(0.06, 1, 7), cmap="Greys", vmax=1.8)
    ax.set(aspect="equal", xlim=(-side, side), ylim=(-side, side))
    ax.set_axis_off()


line = torch.linspace(-2.1, 2.1, 7)
probes = torch.stack(torch.meshgrid(line, line, indexing="xy"), -1).view(-1, 2)
fig, axes = plt.subplots(1, 3, figsize=(12, 4.1))
arrows = {"angles": "xy", "scale_units": "xy", "scale": 1.6}
for ax, sigma in zip(axes, (0.95, 0.6, 0.3), strict=True):
    level = Level(0.0, math.sqrt(1 - sigma**2), sigma)
    parts = pulls(probes, level)
    assert torch.allclose(parts.sum(1), level.alpha * plane(probes, level) - probes, atol=1e-5)
    fog(ax, level)
    for k in range(3):
        strong = parts[:, k].norm(dim=1) > 0.08
        ax.quiver(*probes[strong].T, *parts[strong, k].T, color=HUES[k], width=0.009, headwidth=3, **arrows)
        ax.plot(*(level.alpha * MODES[k]), "o", color=HUES[k], markersize=9, markeredgecolor="white")
    ax.quiver(*probes.T, *parts.sum(1).T, color="black", width=0.003, headwidth=5, **arrows)
    ax.set_title(f"sigma = {sigma}")
show.figure(fig, "Grey: where noisy points lie. Colours: the pull of each mode. Black: their sum, from x towards alpha D(x).")

# %% [markdown]
# In much noise (left) all modes are wanted at once, and every arrow points to about the middle. In little noise (right)
# each place belongs to one mode. Somewhere between the two it is decided what will become of you.
#
# ## The arrows have a name
#
# Look at the black arrows again. They point uphill, to where the grey is darker. That is no accident. The slope of the
# logarithm of a density is called its **score**, $\nabla_x \log p(x)$, and in four steps we find it inside $D$.
#
# 1. The density of noisy points collects every $x_0$ they can come from: $p(x) = \int p(x \mid x_0)\, p(x_0)\, dx_0$.
# 2. How $x$ came from one $x_0$ is a bell curve, and its slope in $x$ is the bell curve times $-(x - \alpha x_0) /
#    \sigma^2$.
# 3. So $\nabla p(x) = \int \frac{\alpha x_0 - x}{\sigma^2}\; p(x \mid x_0)\, p(x_0)\, dx_0$.
# 4. Divide by $p(x)$. On the left $\nabla p / p = \nabla \log p$. On the right $p(x \mid x_0)\, p(x_0) / p(x)$ is how
#    likely $x_0$ is, given $x$: the integral is an average over it, and the average of $x_0$ is $D(x)$.
#
# $$\nabla_x \log p(x) \;=\; \frac{\alpha\, D(x) - x}{\sigma^2}
# \qquad\Longleftrightarrow\qquad
# D(x) \;=\; \frac{x + \sigma^2\, \nabla_x \log p(x)}{\alpha}$$
#
# It is known as **Tweedie's formula** (Efron 2011, *Tweedie's Formula and Selection Bias*, who traces it to Robbins
# 1956; there with $\alpha = 1$). Nowhere did we ask what the data are. So: *who can denoise knows the slope of the
# density, and who knows the slope can denoise.* We have the density, PyTorch can take slopes, and the two sides must
# agree.

# %%
def slope_of_log_density(x, level, *mixture):
    x = x.clone().requires_grad_()
    return torch.autograd.grad(exact.log_density(x, level, *mixture).sum(), x)[0]


for name, x, mixture in (
    ("plane", torch.randn(500, 2, generator=seeded(4)), (MODES, SPREAD, WEIGHTS)),
    ("digits", torch.randn(50, 1, 8, 8, generator=seeded(5)), (known,)),
):
    for t in (900, 500, 150):
        level = schedule.rows()[t]
        by_denoiser = (level.alpha * exact.posterior_mean(x, level, *mixture) - x) / level.sigma**2
        by_autograd = slope_of_log_density(x, level, *mixture)
        apart = ((by_denoiser - by_autograd).norm() / by_autograd.norm()).item()
        assert apart < 1e-4, apart
        print(f"{name:6} t = {t}: the two scores differ by {apart:.0e} of their length")

# %% [markdown]
# And the noise? $\epsilon = (x - \alpha x_0) / \sigma$, so the best guess of the noise is $\hat\epsilon(x) = (x - \alpha
# D(x)) / \sigma = -\sigma\, \nabla_x \log p(x)$. **A network that predicts noise is a network that predicts the score,
# but for the factor $-\sigma$.** The score points to the data, the noise away from them.

# %% [markdown] tags=["exercise"]
# ### 05.score: walk with nothing but a slope
#
# Somebody gives you `score(x, level)`, the slope of the log density of noisy points, and nothing else: no data, no
# denoiser. Write `step(score, x, level, below)`: the step of the sampler `ddim` (the next section shows where it leads)
# from `level` to the cleaner row `below`. Get from the score the guess $D$ and the noise $\hat\epsilon$ that `x` consists
# of; the new x is $\alpha' D + \sigma' \hat\epsilon$, with the two numbers of `below`. The check takes one step, and then 200 with your function.

# %% tags=["exercise"]
def step(score, x, level, below):
    # BEGIN SOLUTION
    slope = score(x, level)
    x0 = (x + level.sigma**2 * slope) / level.alpha
    eps = -level.sigma * slope
    return below.alpha * x0 + below.sigma * eps
    # END SOLUTION


check.exercise("05.score", step)

# %% [markdown] tags=["solution"]
# The first line is Tweedie's formula, the second is what it leaves of $x$: $x - \alpha x_0 = -\sigma^2\, \nabla \log p$,
# and that is $\sigma$ times the noise. Keep the signs apart: the score points towards the data, and $x$ has been pushed
# away from them by the noise.

# %% [markdown]
# ## Two ways down
#
# The library's samplers take any `denoise(x, level) -> x0`, and do not care whether a network is inside. Here are two,
# from the same starts, both with the perfect denoiser.
# - `ddim` (Song et al. 2021, [arXiv 2010.02502](https://arxiv.org/abs/2010.02502), eq. 12) throws no dice. In tiny steps
#   it follows an *ordinary differential equation*, **ODE**: where you start decides where you end.
# - `ddpm` (Ho et al. 2020, [arXiv 2006.11239](https://arxiv.org/abs/2006.11239), eq. 6 and 7) removes more noise than
#   the step asks for, and adds fresh noise. In tiny steps it is a *stochastic differential equation*, **SDE**: dice are
#   thrown all the way.
#
# (Both equations, and why they lead to the same crowd: Song et al. 2020,
# [arXiv 2011.13456](https://arxiv.org/abs/2011.13456).)

# %%
even = levels.pick(levels.linear(), 100, "trailing")  # the rows of the DDPM paper: about even steps in much noise
starts = torch.randn(1500, 2, generator=seeded(6))
fig, axes = plt.subplots(1, 2, figsize=(9, 4.4))
drawn = {"ddim": 30, "ddpm": 4}  # so many paths, or nothing could be seen
for ax, sampler, title in zip(axes, (sample.ddim, sample.ddpm), ("ODE: ddim", "SDE: ddpm"), strict=True):
    paths = torch.stack([starts, *sampler(plane, starts, even, generator=seeded(7))])  #  (101, 1500, 2)
    ends = torch.cdist(paths[-1], MODES).argmin(1)
    fog(ax, Level(0.0, 1.0, 0.02))
    for i in range(drawn[sampler.__name__]):
        ax.plot(*paths[:, i].T, color=HUES[ends[i]], linewidth=1.2, alpha=0.8)
        ax.plot(*paths[0, i], "o", color="black", markersize=4)
        ax.plot(*paths[-1, i], "o", color=HUES[ends[i]], markersize=7)
    ax.set_title(title)
    share = torch.bincount(ends, minlength=3) / len(ends)
    wide = [paths[-1][ends == k].std(0).mean().item() for k in range(3)]
    print(f"{sampler.__name__}: shares {[round(v, 2) for v in share.tolist()]}, spreads {[round(v, 2) for v in wide]}")
print("wanted: shares", [round(v, 2) for v in WEIGHTS.tolist()], "and spreads", [round(v, 2) for v in SPREAD.tolist()])
show.figure(fig, "From the starts (black) to the ends (large), coloured by the mode. Left 30 paths, right the first 4 of the same starts.")

# %% [markdown]
# The same start may end in different modes, and yet **the crowds are the same**: the shares and the widths that we asked
# for, from both. On a line we can see time as well. Three points, a *lookup table* as small as can be, and time runs to
# the right:

# %%
three = torch.tensor([[-1.0], [0.3], [1.0]])
on_line = exact.denoiser(three)
line = torch.linspace(-2.6, 2.6, 241)[:, None]
shades = torch.stack([exact.log_density(line, level, three).exp() for level in even[:-1]], 1)  # (241, 100)
shades = shades / shades.amax(0)
fig, axes = plt.subplots(1, 2, figsize=(12, 3.8), sharey=True)
for ax, sampler, title in zip(axes, (sample.ddim, sample.ddpm), ("ODE: ddim", "SDE: ddpm"), strict=True):
    begin = torch.linspace(-2.2, 2.2, 15)[:, None] if sampler is sample.ddim else torch.zeros(6, 1)
    paths = torch.stack([begin, *sampler(on_line, begin, even, generator=seeded(8))])[:, :, 0]
    ax.contourf(torch.arange(100), line[:, 0], shades, torch.linspace(0.1, 1, 7), cmap="Greys", vmax=1.8)
    for path in paths.T:
        ax.plot(path, linewidth=1.5, color=HUES[(path[-1] - three[:, 0]).abs().argmin()])
    ax.set(title=title, xlabel="steps: left pure noise, right clean", xlim=(0, 100))
axes[0].set_ylabel("x")
show.figure(fig, "Grey: where noisy points lie at that step. Left: 15 starts, no dice. Right: one start, six times.")

# %% [markdown]
# Paths of the ODE never cross: two that met would have to go on together. So the starts are divided into three intervals,
# one for each point, and the borders are sharp: your fate is sealed at the start. Paths of the SDE start at one place and
# end anywhere, and change their minds until only little noise is left.
#
# ## Play: a crowd on its way
#
# Drag the three modes (or move them by the arrow keys), and follow a crowd of 60 on its way. Things to try: put two modes
# next to each other, and see how long they stay one. Put one far out: who finds it? Make the modes wide: what changes?

# %% tags=["explorer"] jupyter={"source_hidden": true}
from minildm.course import widgets

AREA, SIDE = (0.02, 0.02, 0.96, 0.96), 2.6
crowd = torch.randn(60, 2, generator=seeded(9))
way = levels.pick(schedule, 40, "trailing")
lattice = torch.stack(torch.meshgrid(*[torch.linspace(-2.3, 2.3, 10)] * 2, indexing="xy"), -1).view(-1, 2)
pixels = torch.stack(torch.meshgrid(*[torch.linspace(-SIDE, SIDE, 60)] * 2, indexing="xy"), -1).view(-1, 2)


def walk(modes, steps, path, spread):
    """The crowd after some steps, on the density of noisy points and their scores."""
    means = (torch.tensor(modes) * 2 - 1) * SIDE
    sampler = sample.ddpm if path.startswith("SDE") else sample.ddim
    states = [crowd, *sampler(exact.denoiser(means, spread), crowd, way[: steps + 1], generator=seeded(10))]
    paths, level = torch.stack(states), way[min(steps, len(way) - 2)]
    fig = plt.figure(figsize=(5.2, 5.2))
    ax = fig.add_axes(AREA)
    density = exact.log_density(pixels, level, means, spread).exp().view(60, 60)
    side = torch.linspace(-SIDE, SIDE, 60)
    ax.contourf(side, side, density / density.max(), torch.linspace(0.06, 1, 7), cmap="Greys", vmax=1.8)
    pull = level.alpha * exact.posterior_mean(lattice, level, means, spread) - lattice
    ax.quiver(*lattice.T, *pull.T, angles="xy", scale_units="xy", scale=4, width=0.003, color="0.35")
    ends = torch.cdist(paths[-1], level.alpha * means).argmin(1)
    for k in range(len(means)):
        mine = F.pad(paths[-8:, ends == k].permute(2, 1, 0), (0, 1), value=math.nan)  # a gap ends each way
        ax.plot(*mine.flatten(1), color=HUES[k], linewidth=0.8, alpha=0.6)
        ax.plot(*mine[:, :, -2], "o", color=HUES[k], markersize=4.5)
        ax.plot(*means[k], "o", markersize=15, markerfacecolor="none", markeredgecolor=HUES[k], markeredgewidth=2)
    ax.text(-2.5, 2.35, f"sigma {level.sigma:.2f}" if steps < 40 else "clean", backgroundcolor="white")
    ax.set(xlim=(-SIDE, SIDE), ylim=(-SIDE, SIDE))
    ax.set_axis_off()
    return fig


explorer = widgets.explorer(
    walk,
    modes=widgets.points([(0.25, 0.38), (0.75, 0.4), (0.52, 0.73)], ["mode 1", "mode 2", "mode 3"], AREA),
    steps=(0, 40, 1, 26),
    path=["ODE: no dice", "SDE: dice"],
    spread=(0.05, 0.6, 0.05, 0.2),
)
widgets.show(explorer, "Rings: the modes, to be dragged. Dots: the crowd after these steps, with the last of their way. "
             "Grey: where noisy points lie, which is nearer to the middle as long as alpha is small. Arrows: "
             "sigma squared times the score.")  # fmt: skip

# %% tags=["widget-test"] jupyter={"source_hidden": true}
slowest = widgets.drive(explorer, limit=0.15)

# %% [markdown]
# ## What is the fresh noise for?
#
# It looks like a waste: `ddpm` takes the noise out and throws new noise in. Why not leave the second half out, and get a
# cleaner picture? Here is what one step does, with the guesses $D$ and $\hat\epsilon$, from $(\alpha, \sigma)$ to
# $(\alpha', \sigma')$:
#
# $$x' = \alpha' D + k\, \hat\epsilon + f z, \qquad
# f^2 = \frac{\sigma'^2}{\sigma^2} \Big( \sigma^2 - \frac{\alpha^2}{\alpha'^2} \sigma'^2 \Big), \qquad
# k^2 + f^2 = \sigma'^2, \qquad k = \frac{\alpha\, \sigma'^2}{\alpha' \sigma}$$
#
# (Song et al. 2021, eq. 12 and 16 with $\eta = 1$, which is the step of Ho et al. 2020; the last one follows from the
# others. Where it all comes from is derived in lesson 08.) Of the noise that belongs at the new level, $\sigma'$, only
# the part $k$ is old, and $z$ is thrown anew for the rest. **Leave it out, and $x'$ has less noise than the level
# says.** The denoiser is not told. It takes a part of the picture for noise as well, and pulls the point to the middle,
# and again in the next step.

# %%
def my_ddpm(denoiser, x, rows, generator=None, fresh=1.0):
    """The step above; with fresh = 0 the noise is not added back."""
    for level, below in pairwise(rows):
        x0 = denoiser(x, level)
        kept = level.alpha / below.alpha * below.sigma**2 / level.sigma
        x = below.alpha * x0 + kept * (x - level.alpha * x0) / level.sigma
        if fresh * below.sigma > 0:
            z = torch.randn(x.shape, dtype=x.dtype, generator=generator)
            x = x + fresh * math.sqrt(below.sigma**2 - kept**2) * z
        yield x


check.same(my_ddpm, sample.ddpm)


def without_noise(denoiser, x, rows, generator=None):
    return my_ddpm(denoiser, x, rows, generator, fresh=0.0)


ways = {"ddim": sample.ddim, "ddpm": sample.ddpm, "ddpm, no noise added": without_noise}
fig, axes = plt.subplots(1, 2, figsize=(10.5, 4.2), width_ratios=(1.3, 1))
fog(axes[1], Level(0.0, 1.0, 0.02))
for (name, sampler), dot in zip(ways.items(), (2, 2, 12), strict=True):
    paths = torch.stack([starts, *sampler(plane, starts, even, generator=seeded(11))])
    axes[0].plot(paths.var(1).sum(1).sqrt(), label=name)
    axes[1].plot(*paths[-1].T, "o", markersize=dot, linestyle="none", alpha=0.35 if dot == 2 else 1)
    print(f"{name:21} at the end {len(starts)} points are spread by {paths[-1].std(0).norm():.5f}")
mean = WEIGHTS @ MODES
variance = (WEIGHTS * (2 * SPREAD**2 + (MODES - mean).square().sum(1))).sum()
theory = [(level.alpha**2 * variance + 2 * level.sigma**2).sqrt() for level in even]
axes[0].plot(theory, color="black", linestyle=":", label="as it should be")
axes[0].set(xlabel="steps", ylabel="spread of the crowd", ylim=(0, None))
axes[0].legend(loc="center right")
show.figure(fig, "1,500 points. With no noise added back the crowd collapses, and ends in a single point (right, green).")

noises = torch.randn(8, 1, 8, 8, generator=seeded(12))
films = [[*sampler(perfect, noises, even, generator=seeded(13))] for sampler in ways.values()]
fig = show.strip([film[-1] for film in films] + [films[2][69]], [*ways, "after 70 of its 100 steps"])
show.figure(fig, "The same eight noises, the perfect denoiser of 200 digits. Without fresh noise all become one digit.")
mean_digit = known.mean(0, keepdim=True)
typical = known[(known - mean_digit).flatten(1).norm(dim=1).argmin()]
print("all eight are the known digit nearest to the mean:", torch.allclose(films[2][-1], typical, atol=1e-4))

# %% [markdown]
# After 70 steps of a hundred all eight are about *the mean of all digits* (last row, faint because $\alpha$ is small). From
# there they fall, all together, into the one known digit that lies nearest to the mean. A trained network, which never saw anything so clean at
# such a level, leaves a blur. A popular course shows it as its first experiment, "incorrectly sample without adding in
# noise" ([How-Diffusion-Models-Work](https://github.com/Ryota-Kawamura/How-Diffusion-Models-Work)). **No noise added, and
# `ddim`, are not the same**: `ddim` adds none either, but keeps *all* of the old noise, $k = \sigma'$, so that $x'$ is as
# noisy as its level says.

# %% [markdown] tags=["exercise"]
# ### 05.collapse: foresee it
#
# Let the data be one bell curve, $\mathcal N(0, s^2)$, and let a crowd start with standard deviation 1. Write
# `crowd_spread(rows, s, noise)`: the crowd's standard deviation after all steps of `ddpm` with the perfect denoiser, if the fresh noise is
# added (`noise=True`) or left out (`noise=False`). Nothing needs to be drawn:
# - the perfect denoiser multiplies $x$ by a number, $D(x) = a x$: you know $a$ from the single bell curve;
# - the step above, with $\hat\epsilon = (x - \alpha D) / \sigma$, multiplies $x$ by a number too;
# - independent draws add up by their variances.
#
# `rows` are levels with `.alpha` and `.sigma`, noisiest first. Use $k = \alpha \sigma'^2 / (\alpha' \sigma)$ and
# $f^2 = \sigma'^2 - k^2$, also in the last step, where $\sigma' = 0$.

# %% tags=["exercise"]
def crowd_spread(rows, s, noise):
    # BEGIN SOLUTION
    variance = 1.0
    for level, below in pairwise(rows):
        a = level.alpha * s**2 / (level.alpha**2 * s**2 + level.sigma**2)
        kept = level.alpha / below.alpha * below.sigma**2 / level.sigma
        factor = below.alpha * a + kept * (1 - level.alpha * a) / level.sigma
        variance = factor**2 * variance
        if noise:
            variance += below.sigma**2 - kept**2
    return math.sqrt(variance)
    # END SOLUTION


check.exercise("05.collapse", crowd_spread)

# %% [markdown] tags=["solution"]
# With noise the result is $s$, up to what the finite number of steps leaves out. Without, each step multiplies by less than
# it should, and a few dozen such factors leave next to nothing:

# %% tags=["solution"]
for steps in (10, 50, 250):
    taken = levels.pick(levels.linear(), steps, "trailing")
    print(f"{steps:3} steps, s = 0.5: {crowd_spread(taken, 0.5, True):.4f} with noise, "
          f"{crowd_spread(taken, 0.5, False):.4f} without")  # fmt: skip

# %% [markdown]
# ## Why the optimum memorises
#
# Back to the riddle. How near are the results to the list? We measure the distance to the nearest known digit: of 200
# results of `ddpm`; of results of the *blurred* list, where every digit is a bell curve of spread 0.25; and of real
# digits that the list does not have.

# %%
def to_nearest(x):
    return torch.cdist(x.flatten(1), known.flatten(1)).min(1).values


many = torch.randn(200, 1, 8, 8, generator=seeded(14))
*_, copies = sample.ddpm(perfect, many, rows, generator=seeded(15))
*_, blurred = sample.ddpm(exact.denoiser(known, 0.25), many, rows, generator=seeded(15))
fig, ax = plt.subplots(figsize=(8.5, 3.2))
for name, x in (("perfect denoiser", copies), ("perfect for the blurred list", blurred), ("real, unseen", unseen)):
    far = to_nearest(x)
    ax.hist(far, bins=60, range=(0, 6), alpha=0.75, label=f"{name}: median {far.median():.2f}")
ax.set(xlabel="distance to the nearest of the 200 known digits", ylabel="how many", ylim=(0, 90))
ax.annotate("200 copies", (0.12, 84), (0.9, 78), arrowprops={"arrowstyle": "->"})
ax.legend(loc="upper right")
show.figure(fig, "All 200 results lie at distance 0 (the bar is cut off). Blurring the list moves them, but not towards new digits.")
print(f"largest distance of a copy: {to_nearest(copies).max():.6f}")
fig = show.strip([copies[:9], blurred[:9], unseen[:9]], ["perfect denoiser", "blurred list", "real, unseen"])
show.figure(fig, "Copies; the same copies with grey noise on top; and what new digits look like.")

# %% [markdown]
# It could not be otherwise. The last step ends at $\sigma' = 0$, where one voter decides. A network with endless capacity,
# trained endlessly on these 200 digits, would have the *lowest loss that is possible*, and would never draw a 201st digit.
# **Low loss and new pictures are not the same wish.** Blurring the list does not help: it makes copies with noise on them.
#
# So why do real diffusion models draw new things? Because something stands between them and the optimum:
# - **capacity**: with millions of pictures there are too many to learn by heart;
# - **time**: training is stopped long before;
# - **the way it is built**: a network of convolutions *cannot* compute the formula above.
#
# The last one we can see, again without any training. A convolution looks at a small window. So let every pixel hold its
# own vote, and judge the 200 digits **only by its window** of 5x5 pixels. Everything else stays as it was.

# %%
def local(width):
    """The best answer for one who sees, at each pixel, only a window around it: (b, 1, 8, 8) -> (b, 1, 8, 8)."""
    window = torch.ones(1, 1, width, width)

    def denoiser(x, level):
        gaps = (x - level.alpha * known[:, 0]).square()  #                               (b, 200, 8, 8)
        inside = F.conv2d(gaps.view(-1, 1, 8, 8), window, padding=width // 2).view_as(gaps)
        votes = (-inside / (2 * level.sigma**2)).softmax(1)
        return (votes * known[:, 0]).sum(1, keepdim=True)

    return denoiser


level = schedule.rows()[500]
assert torch.allclose(local(15)(many, level), perfect(many, level), atol=1e-4)  # a window over all is no window
mosaics = {width: [*sample.ddpm(local(width), many[:30], rows, generator=seeded(15))][-1] for width in (3, 5, 7, 15)}
for width, x in mosaics.items():
    print(f"window {width:2}: median distance to the nearest known digit {to_nearest(x).median():.2f}")
print(f"real, unseen digits: {to_nearest(unseen).median():.2f}")
twins = known[torch.cdist(mosaics[5].flatten(1), known.flatten(1)).argmin(1)]
fig = show.strip([mosaics[15][:9], mosaics[7][:9], mosaics[5][:9], twins[:9], mosaics[3][:9]],
                 ["sees all: copies", "window 7x7", "window 5x5", "nearest known to 5x5", "window 3x3"])  # fmt: skip
show.figure(fig, "The same noises. The less one sees at once, the newer the digits, until they fall apart.")

# %% [markdown]
# **New digits, out of an imperfection.** Each patch of the third row is copied from *some* known digit, neighbouring
# patches agree where they overlap, and the whole was never written by anybody: a mosaic. With windows too small nobody
# keeps the whole together. Kamb & Ganguli 2025 ([arXiv 2412.20292](https://arxiv.org/abs/2412.20292)) show that this
# picture predicts, to a good part, what trained convolutional networks really draw. Whether a model copies is a question
# to measure, with the distance above, and not one to take on trust.
#
# ## The floor under the loss
#
# If the perfect denoiser copies, what is its loss? Not 0! At the beginning we found, for any answer $a$, that the error is
# the answer's distance to $D$ plus something that does not depend on it. Average that over all $x$, for any denoiser $f$:
#
# $$\underbrace{\mathbb E\,\|f(x) - x_0\|^2}_{\text{what you see while training}}
# \;=\; \underbrace{\mathbb E\,\|f(x) - D(x)\|^2}_{\text{what can be learned}}
# \;+\; \underbrace{\mathbb E\,\|D(x) - x_0\|^2}_{\text{irreducible}}$$
#
# It is Pythagoras: the two errors stand at right angles. For the coin every average is a sum over a grid, so here it is
# checked without any dice, for three denoisers that are not perfect.

# %%
alpha, sigma = 0.8, 0.6
x = torch.linspace(-7, 7, 20_001, dtype=torch.float64)
up, down = (torch.exp(-((x - side * alpha) ** 2) / (2 * sigma**2)) for side in (1, -1))
up, down = up / (up + down).sum(), down / (up + down).sum()  # the chances of (x, x0 = 1) and (x, x0 = -1)
best = torch.tanh(alpha * x / sigma**2)
for name, f in (("sure: the sign of x", x.sign()), ("bold: x / alpha", x / alpha), ("mute: always 0", 0 * x)):
    total = (up * (f - 1) ** 2 + down * (f + 1) ** 2).sum()
    learnable = ((up + down) * (f - best) ** 2).sum()
    floor = (up * (best - 1) ** 2 + down * (best + 1) ** 2).sum()
    assert abs(total - learnable - floor) < 1e-9
    print(f"{name:20} error {total:.4f} = {learnable:.4f} to be learned + {floor:.4f} that nobody gets rid of")

# %% [markdown]
# Now the loss of the library, `train.diffusion_loss`, the one that trains the diffusion networks of this course (Ho et al. 2020, eq.
# 14). It asks for the noise; so we dress the perfect denoiser up as a network that answers with $\hat\epsilon$.

# %%
def as_network(denoiser):
    """A denoiser in the clothes of a network that predicts eps: called with x (b, ...) and t (b,)."""

    def network(x, t):
        level = schedule.at(t.long())
        return denoise.to_output(denoiser(x, level), x, level, "eps")

    return network


bell = (torch.zeros(1, 1, 8, 8), 0.5)  # data N(0, 0.5^2) in every pixel
worlds = {
    "one digit": (known[:1].expand(3000, -1, -1, -1), exact.denoiser(known[:1])),
    "200 digits": (known.repeat(15, 1, 1, 1), perfect),
    "bell curve": (exact.draw(3000, *bell, generator=seeded(16)), exact.denoiser(*bell)),
}
times = torch.arange(20, 1000, 35)
fig, ax = plt.subplots(figsize=(8.5, 3.8))
ax.axhline(1, color="black", linewidth=1, linestyle="--", label="mute: always answers 0")
for name, (data, denoiser) in worlds.items():
    loss = train.diffusion_loss(as_network(denoiser), data, schedule, "eps", seeded(17)).mean()
    curve = []
    for t in times.tolist():
        level = schedule.rows()[t]
        noise = torch.randn(600, 1, 8, 8, generator=seeded(t))
        x = level.alpha * data[:600] + level.sigma * noise
        curve.append(((x - level.alpha * denoiser(x, level)) / level.sigma - noise).square().mean())
    ax.plot(times, curve, "o-", markersize=4, label=f"{name}: diffusion_loss {loss:.3f}")
ratio = (schedule.alpha**2 * 0.25 / (schedule.alpha**2 * 0.25 + schedule.sigma**2)).float()
ax.plot(ratio, color="black", linewidth=1, label=f"bell curve by formula: {ratio.mean():.3f}")
ax.set(xlabel="t (right: more noise)", ylabel="squared error of eps", ylim=(-0.03, 1.08))
ax.legend(loc="upper left", bbox_to_anchor=(1, 1))
show.figure(fig, "The lowest loss there is, level by level. With one digit it is 0; with more there is a floor.")

# %% [markdown]
# For the bell curve the floor has a formula, $\alpha^2 s^2 / (\alpha^2 s^2 + \sigma^2)$, and the dots lie on it. A network
# that is trained on a bell curve and shows that loss is *perfect*, although its loss "does not go down". And on **one**
# digit the floor is 0 at every level: that makes the sharpest test of a loss that there is, and your next exercise.

# %% [markdown] tags=["exercise"]
# ### 05.dsm_loss: the loss of a score
#
# Tweedie's formula has shown that to denoise is to know the score. So one may as well train a network to answer with the
# score, by *denoising score matching* (Vincent 2011, *A Connection Between Score Matching and Denoising Autoencoders*). The
# score of all noisy points is not known while training. But that of the points which came from **one** $x_0$ is: it is the
# slope of $\log p(x \mid x_0) = -\|x - \alpha x_0\|^2 / 2\sigma^2 + \text{const}$. The loss asks for that, and weighs the
# squared error by $\sigma^2$ (Song & Ermon 2019, [arXiv 1907.05600](https://arxiv.org/abs/1907.05600), eq. 5 and 6,
# there with $\alpha = 1$ and a factor ½).
#
# Write `dsm_loss(score, x0, level, eps)`, without the ½: make `x0` (b, d) noisy by `eps`, ask `score(x, level)`, and
# return for each point the mean over its coordinates of $\sigma^2 (\text{score} - \text{wanted})^2$: (b,). On a data set of
# one point the perfect score must lose nothing.

# %% tags=["exercise"]
def dsm_loss(score, x0, level, eps):
    # BEGIN SOLUTION
    x = level.alpha * x0 + level.sigma * eps
    wanted = -eps / level.sigma
    error = score(x, level) - wanted
    return (level.sigma**2 * error**2).mean(1)
    # END SOLUTION


check.exercise("05.dsm_loss", dsm_loss)

# %% [markdown] tags=["solution"]
# The slope is $-(x - \alpha x_0) / \sigma^2$, and $x - \alpha x_0 = \sigma \epsilon$, which leaves $-\epsilon / \sigma$. With
# the weight $\sigma^2$ the loss is $\|\sigma\, \text{score} + \epsilon\|^2$: the loss of a network that predicts the noise,
# $\hat\epsilon = -\sigma\, \text{score}$. The two schools of diffusion, scores and noise, train the same thing.

# %% [markdown]
# ## Bug museum: a sign
#
# One sign in the target of that loss, and it is lost again and again:
# - [torchebm #318](https://github.com/soran-ghaderi/torchebm/issues/318): a library's denoising score matching "learns an
#   inverted energy", and samplers move *away* from the data; mended in
#   [#333](https://github.com/soran-ghaderi/torchebm/pull/333) with a test against a closed form;
# - [acids-ircam/diffusion_models #7](https://github.com/acids-ircam/diffusion_models/pull/7): a tutorial's formula lacks
#   the minus (open when we looked);
# - [CoursIA #16132](https://github.com/jsboige/CoursIA/pull/16132): a course got the sign of the way back wrong, and found
#   out by trying all signs with the *exact* score, since then "no network can hide a mistake of the method".
#
# Broken on purpose: we let a "network" with a single knob learn. It answers with $c$ times the perfect score, and we try
# every $c$. Which $c$ has the lowest loss?

# %%
points = exact.draw(4000, MODES, SPREAD, WEIGHTS, generator=seeded(18))
eps = torch.randn(points.shape, generator=seeded(19))
level = schedule.rows()[400]
x = level.alpha * points + level.sigma * eps
true_score = (level.alpha * plane(x, level) - x) / level.sigma**2
knobs = torch.linspace(-2, 2, 81)
fig, axes = plt.subplots(1, 3, figsize=(12, 3.9), width_ratios=(1.25, 1, 1))
learned = {}
for name, sign in (("mended: -eps / sigma", -1), ("broken: +eps / sigma", 1)):
    losses = torch.stack([(level.sigma**2 * (c * true_score - sign * eps / level.sigma) ** 2).mean() for c in knobs])
    learned[name] = knobs[losses.argmin()].item()
    axes[0].plot(knobs, losses, label=name)
    print(f"{name}: lowest loss {losses.min():.3f} at c = {learned[name]:.2f}")
axes[0].set(xlabel="c, what the network has learned", ylabel="loss", ylim=(0, None))
axes[0].legend(loc="upper center")
begun = even[20:]  # from a level where there is something to see
crowd_start = begun[0].sigma * starts[:300] + begun[0].alpha * points[:300]
for ax, (name, c) in zip(axes[1:], learned.items(), strict=True):

    def signed(x, level, c=c):
        return (x + c * (level.alpha * plane(x, level) - x)) / level.alpha

    paths = torch.stack([crowd_start, *sample.ddim(signed, crowd_start, begun)])
    fog(ax, Level(0.0, 1.0, 0.02), side=4)
    for i in range(40):
        ax.plot(*paths[:, i].T, color=show.PALETTE["blue"], linewidth=0.8)
    ax.plot(*crowd_start[:40].T, "o", color="black", markersize=3)
    ax.set_title(name.split(":")[0])
show.figure(fig, "Left: both losses have the same lowest value. Right: what the samplers then do, from the same starts.")

# %% [markdown]
# **Both losses reach the same minimum**, to the last digit: the curves are mirror images. No loss curve will ever tell
# you. What tells you is data whose answer is known. **How to never fall for it:** run the loss on one point with its
# perfect score, which must give 0 (the broken one gives 4 times $\epsilon^2$), and look at one sample.
#
# ## Try it
#
# What if the denoiser knows only *five* digits? And what if it is told of less noise than there is? Guess, then run.

# %%
five = exact.denoiser(known[:5])
*_, a = sample.ddpm(five, noises, rows, generator=seeded(20))


def trusting(x, level):
    """Believes that there is only a third of the noise."""
    return perfect(x, level._replace(sigma=level.sigma / 3))


*_, b = sample.ddpm(trusting, noises, rows, generator=seeded(20))
fig = show.strip([known[:8], a, b], ["known digits 1 to 8", "knows five", "told too little"])
show.figure(fig, "Who knows five draws five. Who is told of too little noise decides too early, and still ends on the list.")

# %% [markdown]
# ## Quiz
#
# <details><summary>1. At a very noisy level your network answers with a grey blur, whatever the input. A bug?</summary>
#
# No, that is the best answer there: the mean of all pictures that could be behind the noise. Sharp answers at that
# level would be a reason to worry.
# </details>
#
# <details><summary>2. Two teams train on the same 10,000 pictures. One reaches a lower training loss. Whose model will
# draw better <em>new</em> pictures?</summary>
#
# One cannot tell. The lowest loss of all belongs to the denoiser that copies the list. Measure on unseen pictures, and
# measure the distance of samples to the nearest training picture.
# </details>
#
# <details><summary>3. You leave out the fresh noise of <code>ddpm</code>, and all samples look alike. A friend uses
# <code>ddim</code>, adds no noise either, and gets many different ones. Why?</summary>
#
# ddim keeps all of the noise that is in x, so x is as noisy as its level says. ddpm keeps only a part, to make room for
# fresh noise; without that, x is too clean for its level, and the denoiser pulls everything to the middle.
# </details>
#
# **Words of this lesson** ([glossary](glossary.md)): denoiser, posterior, mixture, mode, score, Tweedie's formula, ODE
# and SDE, sampler, DDIM, memorisation, irreducible loss, denoising score matching. **Next:** in lesson 06 we build the
# network that will try, and luckily fail, to be perfect.

# %%
print(f"this lesson took {time.perf_counter() - opened:.0f} s from its first cell to its last")
