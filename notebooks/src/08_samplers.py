# %% [markdown] tags=["solution"]
# # 08 · Samplers: solutions
#
# One answer to each exercise, and why it is so. There are others; the check takes them too.

# %% [markdown]
# # 08 · Samplers
#
# **After this lesson you can**
# - write down the equation that every sampler solves, and solve it in five ways, from Euler to DPM-Solver++;
# - measure the order of a method, and say what it promises: nothing about large steps;
# - turn dice on and off with one number, eta, and say what they are good for and what they cost;
# - compare samplers fairly: the same start, the same number of network calls, error bars;
# - go backwards, from a picture to the noise that leads to it.
#
# **Time:** a little over a minute of computing on a laptop with 2 cores, no GPU; two hours with the exercises.
#
# **Needs:** lesson 04 (levels), lesson 05 (the perfect denoiser, the score), and what a derivative is. The network is
# the text-to-picture model that comes with the package; how it was trained does not matter here. Nothing is downloaded.
# Words in *slanted type* are explained where they come up, and again in the [glossary](glossary.md).
#
# In lesson 05 a picture came out of noise in 50 steps. In a large model each step is a call of a network with a billion
# weights, and calls are all that sampling costs. Can it be done in ten? In five? That question made an old art young
# again: the numerical solution of differential equations.

# %% tags=["setup"]
import math
import time
from itertools import pairwise
from types import SimpleNamespace

import torch
from matplotlib import pyplot as plt

from minildm import evaluate, exact, levels, oracle, sample, scenes, show, tasks, weights
from minildm.course import check, widgets
from minildm.levels import Level

opened = time.perf_counter()
show.style()


def seeded(seed):
    return torch.Generator().manual_seed(seed)


# %% [markdown]
# ## The picture first
#
# One prompt, **one start**, four samplers. In each column all four have asked the network equally often. (Heun asks
# twice a step, and once in the last, so its numbers of calls are odd. For fairness' sake, all of ours are.)

# %%
pipe = weights.load("shapes")
CALLS = (3, 5, 9, 17, 33)
SAMPLERS = {"ddpm": sample.ddpm, "ddim": sample.ddim, "heun": sample.heun, "dpmpp_2m": sample.dpmpp_2m}


def rows_for(name, calls):
    """As many rows as the calls allow, evenly spaced in the model's own table of 1,000."""
    return levels.pick(pipe.schedule, (calls + 1) // 2 if name == "heun" else calls, "trailing")


def drawn(name, denoise, noise, rows, **more):
    """The last state of a sampler."""
    *_, z = SAMPLERS[name](denoise, noise, rows, generator=seeded(1), **more)
    return z


@torch.no_grad()
def pictures(z):
    return pipe.decode(z)


# the model's denoiser for a prompt, with no negative prompt, at guidance scale 3 (lesson 00)
asked = tasks.prompted(pipe, ["a large red star to the left of a small blue circle on a white background"], None, 3.0)
noise = torch.randn(1, *pipe.latent_shape(), generator=seeded(6))
film = [[pictures(drawn(name, asked, noise, rows_for(name, calls)))[0] for calls in CALLS] for name in SAMPLERS]
fig = show.strip(film, [*SAMPLERS], columns=[f"{calls} calls" for calls in CALLS])
show.figure(fig, "“A large red star to the left of a small blue circle on a white background”, by four samplers, "
            "from the same noise.")  # fmt: skip

# %% [markdown]
# Three of the four agree more and more, down to the place of the star. They are after **the same picture**: the one
# that this noise leads to. The fourth, `ddpm`, throws dice on the way and goes somewhere else. What is it that the
# three agree on?
#
# ## The equation behind it
#
# Take a clean picture and a noise, hold both fixed, and turn the knob of lesson 04, $x = \alpha\, x_0 + \sigma\,
# \epsilon$. If $\alpha$ and $\sigma$ change a little, $x$ moves by
#
# $$dx = x_0\, d\alpha + \epsilon\, d\sigma .$$
#
# While sampling we know neither $x_0$ nor $\epsilon$. But at every place $x$ the denoiser has a guess $D(x)$ for the
# one, and what is left of $x$ is a guess for the other, $\hat\epsilon = (x - \alpha D) / \sigma$. Put the guesses in:
#
# $$dx = D(x)\, d\alpha + \hat\epsilon(x)\, d\sigma .$$
#
# That is an *ordinary differential equation*, an **ODE**: at each place and level it says which way to go. It is the
# *probability flow ODE* of Song et al. 2020 ([arXiv 2011.13456](https://arxiv.org/abs/2011.13456), eq. 13), who write
# it with a drift $f x$ and a diffusion $g$,
#
# $$\frac{dx}{dt} = f x - \tfrac12 g^2\, \nabla \log p(x), \qquad f = \frac{d \log \alpha}{dt}, \quad
# g^2 = \frac{d \sigma^2}{dt} - 2 \frac{d \log \alpha}{dt} \sigma^2 .$$
#
# (Put $\nabla \log p = -\hat\epsilon / \sigma$ from lesson 05 into the one, and $x = \alpha D + \sigma \hat\epsilon$
# into its $f x$, and the other comes out.) Our way of writing has no $t$ in it: **only the levels count**, not how
# fast we go through them.
#
# To judge methods we need a case whose solution is known. Let the data be one bell curve $\mathcal N(0, s^2)$. At each
# level the noisy data are a bell curve of width $w = \sqrt{\alpha^2 s^2 + \sigma^2}$, and lesson 05 gives
# $D = \alpha s^2 x / w^2$. Guess that the ODE just squeezes the crowd: $x$ **is always the same number of widths from
# the middle**, $x = c \cdot w$. Then $dx = c\, dw = c\, (\alpha s^2\, d\alpha + \sigma\, d\sigma) / w$. And the right
# side of the ODE is $D\, d\alpha + \hat\epsilon\, d\sigma$ with $D = c\, \alpha s^2 / w$ and
# $\hat\epsilon = c\, \sigma / w$: the same. So that is the exact solution.

# %%
S = 0.5
bell = exact.denoiser(torch.zeros(1, 1), S)


def width(level):
    """How widely noisy data are spread that have the standard deviation S when clean: the exact solution, c = 1."""
    return math.hypot(level.alpha * S, level.sigma)


def guesses(denoise, x, level):
    """The denoiser's picture and the noise that is left."""
    x0 = denoise(x, level)
    return x0, (x - level.alpha * x0) / level.sigma


angle, tiny = 0.9, 1e-6
level, near = (Level(500.0, math.cos(a), math.sin(a)) for a in (angle, angle + tiny))  # time is the angle here
x = torch.full((1, 1), width(level), dtype=torch.float64)
x0, eps = guesses(bell, x, level)
by_levels = -math.sin(angle) * x0 + math.cos(angle) * eps  # D alpha' + eps sigma'
speed = (width(near) - width(level)) / tiny
check.agree("speed of the exact solution, and D d(alpha) + eps d(sigma)", speed, by_levels)
f, g2 = -math.tan(angle), 2 * math.tan(angle)
check.agree("f x - g^2/2 score, and the same", f * x - g2 / 2 * (-x / width(level) ** 2), by_levels, within=1e-9)

# %% [markdown]
# ## Euler: a straight step
#
# The oldest method, Euler's, takes the direction here and now for the direction of the whole step. From a row
# $(\alpha, \sigma)$ to the next one $(\alpha', \sigma')$:
#
# $$x' = x + D\, (\alpha' - \alpha) + \hat\epsilon\, (\sigma' - \sigma) .$$
#
# And `ddim` (Song et al. 2021, [arXiv 2010.02502](https://arxiv.org/abs/2010.02502), eq. 12 without its noise) takes
# $x$ apart and puts it together again at the next row, $x' = \alpha' D + \sigma' \hat\epsilon$. Subtract
# $x = \alpha D + \sigma \hat\epsilon$ from that, and see: **DDIM is Euler.** One function can be compared with both.

# %%
def my_euler(denoise, x, rows, generator=None):
    for level, below in pairwise(rows):
        x0, eps = guesses(denoise, x, level)
        x = x + (below.alpha - level.alpha) * x0 + (below.sigma - level.sigma) * eps
        yield x


check.same(my_euler, sample.euler)
check.same(my_euler, sample.ddim)

# %% [markdown]
# How good is it? We go from log-SNR -5 to 5, in even steps, and look at one point. Its exact path is the width
# itself, the black line.

# %%
def even(steps, low=-5.0, high=5.0):
    """steps + 1 rows, evenly spaced in log-SNR: alpha^2 is its sigmoid (lesson 04)."""
    logs = torch.linspace(low, high, steps + 1, dtype=torch.float64)
    return [Level(500.0, log.sigmoid().sqrt().item(), (-log).sigmoid().sqrt().item()) for log in logs]


def walk(sampler, rows):
    """The states of one point that starts one width from the middle."""
    start = torch.full((1, 1), width(rows[0]), dtype=torch.float64)
    return [state.item() for state in [start, *sampler(bell, start, rows)]]


fig, ax = plt.subplots(figsize=(8.5, 3.6))
for steps in (4, 8, 16):
    rows = even(steps)
    ends = walk(my_euler, rows)
    ax.plot([levels.log_snr(row) for row in rows], ends, "o-", markersize=5, label=f"Euler, {steps} steps")
    off = ends[-1] / width(rows[-1]) - 1
    print(f"{steps:2} steps: at the end {ends[-1]:.4f}, and {width(rows[-1]):.4f} is right: {off:+.1%}")
fine = even(200)
ax.plot([levels.log_snr(row) for row in fine], [width(row) for row in fine], "k", linewidth=1.5, label="exact")
ax.set(xlabel="log-SNR: left noise, right clean", ylabel="x")
ax.legend(loc="upper right")
show.figure(fig, "Euler on a bell curve. It goes straight on where the path bends, and each step adds to the error. "
            "Twice the steps, half of it.")  # fmt: skip

# %% [markdown]
# Why half? Over a step of size $h$ the direction changes by something like $h$, and Euler misses that for a time $h$:
# an error of about $h^2$ a step. There are $1/h$ steps, which leaves $h$. A method whose error falls like $h^p$ is of
# **order** $p$. On paper with two logarithmic scales that is a line with slope $-p$.
#
# ## Look ahead, to the middle, or back
#
# To do better, know how the direction changes. There are three places where one can look.
#
# **Ahead.** Take Euler's step, but only as a look. Ask again there. Then take the step from $x$, along the *mean* of
# both directions. It is Heun's method, and algorithm 1 of Karras et al. 2022 ([arXiv
# 2206.00364](https://arxiv.org/abs/2206.00364)). A step costs two calls; the error of a step is of the size $h^3$, as
# the mean of start and end is right for every direction that changes evenly.

# %% [markdown] tags=["exercise"]
# ### 08.heun: the look ahead
#
# Write `heun_step(denoise, x, level, below)`, one step from the row `level` to the cleaner row `below`:
# - get `x0` and `eps` at `x`, and with Euler's step the place ahead;
# - get `x0` and `eps` there: the place ahead lies at `below`;
# - step from `x`, with the mean of the two `x0` and the mean of the two `eps`.
#
# If `below.sigma` is 0 there is no noise to be read at the end: then return Euler's step. The check takes one step
# with data of three modes, and then 10, 20 and 40 on the bell curve, where the slope must be 2.

# %% tags=["exercise"]
def heun_step(denoise, x, level, below):
    # BEGIN SOLUTION
    x0 = denoise(x, level)
    eps = (x - level.alpha * x0) / level.sigma
    ahead = below.alpha * x0 + below.sigma * eps
    if below.sigma == 0:
        return ahead
    x0_end = denoise(ahead, below)
    eps_end = (ahead - below.alpha * x0_end) / below.sigma
    x0, eps = (x0 + x0_end) / 2, (eps + eps_end) / 2
    return x + (below.alpha - level.alpha) * x0 + (below.sigma - level.sigma) * eps
    # END SOLUTION


check.exercise("08.heun", heun_step)

# %% [markdown] tags=["solution"]
# It does not matter whether you average the directions or two whole steps, *as long as both begin at* $x$. Whoever
# goes on from the place ahead has taken one step and a half. Note what is averaged: $x_0$ with $x_0$, and $\epsilon$
# with $\epsilon$. One could also average the two $x_0$ and read a single $\epsilon$ at $x$; that is of second order
# too, and another method. As a sampler it is the library's:

# %% tags=["solution"]
def my_heun(denoise, x, rows, generator=None):
    for level, below in pairwise(rows):
        x = heun_step(denoise, x, level, below)
        yield x


check.same(my_heun, sample.heun)

# %% [markdown]
# **A better clock.** Before we look elsewhere: is Euler's "straight" straight? In the ODE the part
# $\hat\epsilon = (x - \alpha D) / \sigma$ changes already because $x$ does, even if the denoiser's opinion $D$ stays.
# So ask for the solution with $D$ *held*. Divide the ODE by $\sigma$ and use $\lambda = \log(\alpha / \sigma)$ as the
# clock. (Beware: that is the letter of the paper below, and *half* of the log-SNR, which lesson 04 called $\lambda$.)
#
# $$\frac{dx}{\sigma} - \frac{x\, d\sigma}{\sigma^2}
# = \frac{D\, d\alpha}{\sigma} - \frac{\alpha D\, d\sigma}{\sigma^2}
# \quad\Longleftrightarrow\quad
# d\Big(\frac{x}{\sigma}\Big) = D\; d\Big(\frac{\alpha}{\sigma}\Big) = D\, e^\lambda\, d\lambda .$$
#
# (On the left and on the right stands the rule for quotients.) **$x / \sigma$ only moves by what the denoiser says.**
# Add it up from a row to the next:
#
# $$\frac{x'}{\sigma'} = \frac{x}{\sigma} + \int_\lambda^{\lambda'} e^{u}\, D\, du .$$
#
# It is exact, and with $D$ held the integral is $D\, (\alpha'/\sigma' - \alpha/\sigma)$: DDIM once more! So DDIM
# makes one mistake alone, it takes $D$ for constant. DPM-Solver++ (Lu et al. 2022, [arXiv
# 2211.01095](https://arxiv.org/abs/2211.01095)) takes it for a straight line in $\lambda$.
#
# **Back.** For a line one needs two points, and one is there for free: the answer of the step before. With the steps
# $h$ now and $h_-$ before, $D$ has lately changed by $(D - D_-) / h_-$ per unit, so in the *middle* of this step it
# will be about
#
# $$\bar D = D + \frac{h}{2\, h_-}\, (D - D_-),$$
#
# and a DDIM step is taken with $\bar D$. That is **DPM-Solver++(2M)**, algorithm 2 of the paper: second order for one
# call a step. The first step has nothing to look back to, and for a step to $\sigma = 0$, where $\lambda$ is
# infinite, the library takes $D$ as it is.

# %%
def my_dpmpp_2m(denoise, x, rows, generator=None):
    before, x0_before = None, None
    for level, below in pairwise(rows):
        x0 = mean = denoise(x, level)
        if before is not None and below.sigma > 0:
            h, h_before = (levels.log_snr(b) - levels.log_snr(a) for a, b in ((level, below), (before, level)))
            mean = x0 + h / (2 * h_before) * (x0 - x0_before)
        x = below.alpha * mean + below.sigma * (x - level.alpha * mean) / level.sigma
        before, x0_before = level, x0
        yield x


check.same(my_dpmpp_2m, sample.dpmpp_2m)

# %% [markdown] tags=["exercise"]
# ### 08.dpmpp: the look to the middle
#
# There is a third place to look: the **middle**. Go half-way, ask there, and take the whole step with that answer.
# The same paper has it as DPM-Solver++(2S). Write `middle_step(denoise, x, level, below)`:
# - the middle is the `Level` half-way between both **in log-SNR**, with $\alpha^2 + \sigma^2 = 1$. (You know
#   `levels.log_snr`, and from lesson 04 that $\alpha^2$ is the sigmoid of it. For `t`, of which these denoisers take
#   no notice, take the mean.)
# - go there by a DDIM step, and ask;
# - with *that* `x0` take a DDIM step **from `x`** to `below`.
#
# Both rows have noise. The check takes one step first, and then 10, 20 and 40 for the slope.

# %% tags=["exercise"]
def middle_step(denoise, x, level, below):
    # BEGIN SOLUTION
    log = (levels.log_snr(level) + levels.log_snr(below)) / 2
    alpha, sigma = math.sqrt(1 / (1 + math.exp(-log))), math.sqrt(1 / (1 + math.exp(log)))
    middle = Level((level.t + below.t) / 2, alpha, sigma)
    x0 = denoise(x, level)
    there = alpha * x0 + sigma * (x - level.alpha * x0) / level.sigma
    x0 = denoise(there, middle)
    return below.alpha * x0 + below.sigma * (x - level.alpha * x0) / level.sigma
    # END SOLUTION


check.exercise("08.dpmpp", middle_step)

# %% [markdown] tags=["solution"]
# The middle is a look and no stop: the way goes on from $x$, with $\epsilon$ solved anew for the new $x_0$. Walking
# on from the middle would be two steps of DDIM, twice the calls for half of the error. Half-way in log-SNR is a
# *geometric* mean: of $\sigma / \alpha$, so `math.sqrt(level.sigma / level.alpha * below.sigma / below.alpha)` would
# have done, too.

# %% [markdown]
# ## Measure the order
#
# All methods on the bell curve, on the same even rows, against the number of **calls**, since calls are what costs.
# For `ddpm` there is no one end to compare with. But it moves each point by a factor and adds noise, so the width of
# its crowd can be computed (exercise 05.collapse), and for the others the width of the crowd is the end of our one
# point. So all have the same question to answer: *how wide is the crowd at the end?*

# %%
def ddpm_width(rows):
    variance = width(rows[0]) ** 2
    for level, below in pairwise(rows):
        kept = level.alpha / below.alpha * below.sigma**2 / level.sigma
        gain = level.alpha * S**2 / width(level) ** 2  # of the denoiser
        factor = below.alpha * gain + kept * (1 - level.alpha * gain) / level.sigma
        variance = factor**2 * variance + below.sigma**2 - kept**2
    return math.sqrt(variance)


COUNTS = (4, 8, 16, 32, 64, 128)
errors = {"ddpm": [(n, ddpm_width(even(n)) / width(even(n)[-1]) - 1) for n in COUNTS]}
for name in ("ddim", "heun", "dpmpp_2m"):
    ends = {n: walk(SAMPLERS[name], even(n))[-1] / width(even(n)[-1]) - 1 for n in COUNTS}
    errors[name] = [((2 if name == "heun" else 1) * n, end) for n, end in ends.items()]
fig, ax = plt.subplots(figsize=(8.5, 4.2))
for (name, found), mark in zip(errors.items(), "sovD", strict=True):
    calls, wrong = zip(*found, strict=True)
    slope = math.log2(abs(wrong[-2] / wrong[-1]))  # from 64 to 128 steps
    ax.loglog(calls, [abs(e) for e in wrong], mark + "-", markersize=6, label=f"{name}: slope {slope:.2f}")
    print(f"{name:9} slope from 64 to 128 steps: {slope:.2f}")
    assert abs(slope - (2 if name in ("heun", "dpmpp_2m") else 1)) < 0.1
ax.set(xlabel="calls of the denoiser", ylabel="relative error of the width")
ax.set_xticks([4, 8, 16, 32, 64, 128, 256], ["4", "8", "16", "32", "64", "128", "256"])
ax.minorticks_off()
ax.legend(loc="lower left")
show.figure(fig, "Two methods of first order, two of second: half the step leaves half of the error, or a quarter.")

# %% [markdown]
# Theory and measurement agree: 1, 1, 2, 2. Two things are easily overlooked.
#
# - **An order is a promise about small steps.** At 128 calls `heun` errs less than a twentieth as much as `ddim`; at
#   8 calls, half as much. The order says how fast an error falls, and not how large it is. (`dpmpp_2m` has both here,
#   the slope and the low start: it pays one call a step.)
# - **An order needs a frame.** The rows here are even in log-SNR, and end where there is still noise. And our Heun
#   works on $x$ as it is. Published ones work on $x / \alpha$, where each row is $(1, \sigma/\alpha)$. The ODE is the
#   same, the order is the same. The error is not: where a table begins in nearly pure noise, $\sigma / \alpha$ is
#   enormous.

# %%
for what, rows in (("even rows", even(8)), ("this model's own rows", rows_for("heun", 15))):
    rows = [row for row in rows if row.sigma > 0]
    start = torch.full((1, 1), width(rows[0]), dtype=torch.float64)
    *_, own = sample.heun(bell, start, rows)
    *_, other = sample.heun(bell, start / rows[0].alpha, levels.rescaled(rows))
    own, other = (end.item() / width(rows[-1]) - 1 for end in (own, other * rows[-1].alpha))
    print(f"{what}: sigma / alpha from {rows[0].sigma / rows[0].alpha:,.0f}, "
          f"Heun errs by {own:+.1%} in x, by {other:+.1%} in x / alpha")  # fmt: skip

# %% [markdown]
# On the second line the two frames differ by a world. In $x / \alpha$ the first step is thousands of units long, a
# straight line through it is a guess, and Heun averages that guess in. (Karras et al. choose rows that crowd where
# there is little noise, `levels.karras`, and that is no detail: their Heun needs them. `tasks.text2img` takes
# Heun as published, in $x / \alpha$, only where the rows begin with a trace of a picture, as Stable Diffusion's do; with
# this model it stays with $x$, as we do.) **A sampler is a method and its rows.**
#
# ## With dice: DDPM
#
# Lessons 05 and 07 sampled with `ddpm`, which throws fresh noise in at each step, and took its formula on trust. Where
# does *its* step come from? Not from an ODE, but from Bayes. Suppose we knew $x_0$. What is $x'$ at the next row, given
# $x$ at this one? Two things are known about it:
#
# - from the picture: $x' = \alpha' x_0 + \sigma' \epsilon$, so $x'$ is near $\alpha' x_0$, with variance $\sigma'^2$;
# - from $x$, one step of the forward process *later*: $x = r x' + \sqrt{\beta}\, z$ with $r = \alpha / \alpha'$ and
#   $\beta = \sigma^2 - r^2 \sigma'^2$ (so that the noise comes out as $\sigma$). So $x'$ is near $x / r$, with
#   variance $\beta / r^2$.
#
# Two bell curves about one number are multiplied. The *precisions*, one over the variance, add up, and the mean is
# the average, weighted by precision:
#
# $$\frac1{\tilde\beta} = \frac1{\sigma'^2} + \frac{r^2}{\beta}
# \;\Longrightarrow\; \tilde\beta = \frac{\sigma'^2}{\sigma^2}\, \beta,
# \qquad
# \tilde\mu = \tilde\beta\, \Big( \frac{\alpha' x_0}{\sigma'^2} + \frac{r\, x}{\beta} \Big)
# = \frac{\beta}{\sigma^2}\, \alpha' x_0 + \frac{\sigma'^2}{\sigma^2}\, r\, x .$$
#
# (Ho et al. 2020, [arXiv 2006.11239](https://arxiv.org/abs/2006.11239), eq. 6 and 7.) Put $D$ in for $x_0$ and draw:
# that is the whole sampler.

# %%
def my_ddpm(denoise, x, rows, generator=None):
    for level, below in pairwise(rows):
        r = level.alpha / below.alpha
        beta = level.sigma**2 - r**2 * below.sigma**2
        ratio = below.sigma**2 / level.sigma**2
        x = beta / level.sigma**2 * below.alpha * denoise(x, level) + ratio * r * x
        if below.sigma > 0:
            x = x + math.sqrt(ratio * beta) * torch.randn(x.shape, dtype=x.dtype, generator=generator)
        yield x


check.same(my_ddpm, sample.ddpm)
level, below = even(10)[4:6]
r = level.alpha / below.alpha
beta = level.sigma**2 - r**2 * below.sigma**2
precision = 1 / below.sigma**2 + r**2 / beta
tilde = below.sigma**2 / level.sigma**2 * beta
check.agree("beta-tilde, and one over the sum of precisions", tilde, 1 / precision, within=1e-12)

# %% [markdown]
# ## One number for the dice
#
# `ddim` keeps all of the old noise and adds none. `ddpm` keeps some of it, and adds fresh noise, $\tilde\beta$ of it.
# Song et al. 2021 (eq. 12 and 16) put a knob between them, **eta**. The fresh noise has the standard deviation
#
# $$f = \eta\, \sqrt{\tilde\beta} = \eta\, \frac{\sigma'}{\sigma}
# \sqrt{\sigma^2 - \frac{\alpha^2}{\alpha'^2} \sigma'^2},$$
#
# and the old one keeps just so much that, together, there is as much noise in $x'$ as its row says. Variances add up:
# $k^2 + f^2 = \sigma'^2$.

# %% [markdown] tags=["exercise"]
# ### 08.ddim: the whole family in one step
#
# Write `ddim_step(x, x0, level, below, eta, z)`. `x` lies at the row `level`, `x0` is what the denoiser says about
# it, `z` is fresh noise, drawn from $\mathcal N(0, 1)$, and `eta` is 0 to 1. Return x at the row `below`: the
# picture, what stays of the old noise, and the fresh noise.
#
# The check wants what the formulas promise: no `z` in it at `eta` 0; the variance of Bayes at `eta` 1; the identity
# for a step from a row to itself (mind the root of what is 0 up to rounding); and the picture, where `below` is
# clean.

# %% tags=["exercise"]
def ddim_step(x, x0, level, below, eta, z):
    # BEGIN SOLUTION
    eps = (x - level.alpha * x0) / level.sigma
    room = level.sigma**2 - (level.alpha / below.alpha * below.sigma) ** 2
    fresh = eta * below.sigma / level.sigma * math.sqrt(max(room, 0.0))
    kept = math.sqrt(max(below.sigma**2 - fresh**2, 0.0))
    return below.alpha * x0 + kept * eps + fresh * z
    # END SOLUTION


check.exercise("08.ddim", ddim_step)

# %% [markdown] tags=["solution"]
# `eps` is read where $x$ lies, at `level`; everything else belongs to `below`. `fresh` is a standard deviation, and
# `kept` makes room for it in squares. At `eta` 1 the same numbers come out as from Bayes, though the formulas look so
# different: there $x$ stood with the factor $r \sigma'^2 / \sigma^2$, and here it stands in `kept * eps`. Papers
# print $\bar\alpha$ for our $\alpha^2$ and $1 - \bar\alpha$ for $\sigma^2$.

# %% [markdown]
# What are the dice good for? Take a very small step. Then $f$ is small, and
# $k = \sqrt{\sigma'^2 - f^2} \approx \sigma' - f^2 / (2 \sigma')$. So
#
# $$x' \;\approx\; \underbrace{\alpha' D + \sigma' \hat\epsilon}_{\text{the ODE's step}}
# \;\underbrace{-\; \frac{f^2}{2 \sigma'}\, \hat\epsilon \;+\; f z}_{
# \text{uphill by } \frac{f^2}2 \nabla \log p\text{, and noise}}$$
#
# since $-\hat\epsilon / \sigma$ is the score. The second part is a step of *Langevin's equation*. It moves nobody
# nearer to the data, it only **shakes the crowd into the shape that belongs to this level**, whatever shape it had.
# So a stochastic equation, an **SDE**, is the ODE with shaking (Song et al. 2020 derive the two together), and an ODE
# has no shaking: what was wrong once stays wrong. Let us do it wrong: three crowds, of which two do not start with
# the right width.

# %%
def crowd(rows, eta, start):
    """The widths of a crowd on its way: every step multiplies by a factor and adds noise, so no dice are thrown."""
    widths = [start * width(rows[0])]
    for level, below in pairwise(rows):
        room = level.sigma**2 - (level.alpha / below.alpha * below.sigma) ** 2
        fresh = eta * below.sigma / level.sigma * math.sqrt(max(room, 0.0))
        kept = math.sqrt(max(below.sigma**2 - fresh**2, 0.0))
        gain = level.alpha * S**2 / width(level) ** 2
        factor = below.alpha * gain + kept * (1 - level.alpha * gain) / level.sigma
        widths.append(math.hypot(factor * widths[-1], fresh))
    return widths


fig, axes = plt.subplots(1, 3, figsize=(11, 3.4), sharey=True, width_ratios=(1, 1, 1.1))
rows = even(100)
logs = [levels.log_snr(row) for row in rows]
for ax, eta in zip(axes[:2], (0, 1), strict=True):
    for start in (1.6, 1.0, 0.5):
        relative = [w / width(row) for w, row in zip(crowd(rows, eta, start), rows, strict=True)]
        ax.plot(logs, relative, label=f"starts at {start}")
    ax.set(title=f"eta = {eta}, 100 steps", xlabel="log-SNR", ylim=(0.4, 1.7))
axes[0].set_ylabel("width, 1 is right")
axes[0].legend(loc="upper right", bbox_to_anchor=(1, 0.92))
for eta in (0.0, 0.5, 1.0):
    ends = [crowd(even(n), eta, 1.0)[-1] / width(even(n)[-1]) for n in COUNTS]
    axes[2].plot(COUNTS, ends, "o-", label=f"eta = {eta:g}")
axes[2].set(title="right start, few steps", xlabel="steps", xscale="log")
axes[2].set_xticks(COUNTS, [str(n) for n in COUNTS])
axes[2].minorticks_off()
axes[2].legend(loc="upper right")
show.figure(fig, "Left: the ODE carries a wrong width to the end. Middle: dice forget it. Right: what dice cost.")
small = even(4000)
k, rest = [], []
for level, below in pairwise(small):
    f2 = below.sigma**2 / level.sigma**2 * (level.sigma**2 - (level.alpha / below.alpha * below.sigma) ** 2)
    k.append(math.sqrt(below.sigma**2 - f2))
    rest.append(below.sigma - f2 / 2 / below.sigma)
check.agree("in small steps, k and sigma' - f^2 / 2 sigma'", torch.tensor(k), torch.tensor(rest), within=1e-5)

# %% [markdown]
# So it is a trade. **Dice forgive** the mistakes that were made on the way, those of a network too. **And they cost
# steps**: with few steps the crowd ends too narrow, and the more so the more dice are thrown. Many steps: some eta
# may help. Few steps: none.
#
# ## Quality against calls
#
# Enough of bell curves. The network, prompts about two objects, and the oracle, which reads each picture and says
# whether *all* was drawn as asked. To be fair:
#
# - every sampler gets **the same starts and the same prompts**;
# - the same number of **calls**, not of steps;
# - **error bars**. We have 32 pictures for each point at the left, and from 32 pictures one cannot tell 0.90 from 0.95.
#
# And since a sampler is a method and its rows, `ddim` comes in a second time, with rows that are even in log-SNR from
# -8 to 6 (or rather the nearest rows in the table) and a last step to the clean row. On the right something else:
# **how far** each picture is from the one that its noise leads to, which we get from 100 steps of `dpmpp_2m`. For that
# eight pictures will do, and we go on to 17 calls.

# %%
N, SHOWN = 32, 8
BUDGETS, READ = (3, 5, 9, 17), (3, 5, 9)  # calls of the network; those where the oracle reads all pictures
TABLE = pipe.schedule.rows()
LOGS = torch.tensor([levels.log_snr(row) for row in TABLE])


def even_rows(name, calls):
    steps = (calls + 1) // 2 if name == "heun" else calls
    wanted = torch.linspace(-8, 6, steps + 1)[:-1]
    return [*(TABLE[int((LOGS - log).abs().argmin())] for log in wanted), Level(0.0, 1.0, 0.0)]


said, wanted = evaluate.prompts("two", N)
asked = {count: tasks.prompted(pipe, said[:count], None, 3.0) for count in (N, SHOWN)}
starts = torch.randn(N, *pipe.latent_shape(), generator=seeded(0))
limit = drawn("dpmpp_2m", asked[SHOWN], starts[:SHOWN], rows_for("dpmpp_2m", 100))
WAYS = {name: (name, rows_for) for name in SAMPLERS} | {"ddim, rows even in log-SNR": ("ddim", even_rows)}
shares, far = {}, {}


def measure():
    begun, done = time.perf_counter(), 0
    every = len(WAYS) * sum(calls * (N if calls in READ else SHOWN) for calls in BUDGETS)
    for way, (name, rows) in WAYS.items():
        for calls in BUDGETS:
            count = N if calls in READ else SHOWN
            z = drawn(name, asked[count], starts[:count], rows(name, calls))
            far[way, calls] = (z[:SHOWN] - limit).square().mean().sqrt().item()
            if calls in READ:
                right = oracle.matches(oracle.read(pictures(z)), wanted)["all"]
                shares[way, calls] = oracle.wilson(int(right.sum()), N)
            done += calls * count
            passed = time.perf_counter() - begun
            yield SimpleNamespace(step=done, fraction=done / every, seconds=passed, loss=far[way, calls])


show.track(measure(), "calls, times pictures", measure="distance")
fig, axes = plt.subplots(1, 2, figsize=(11, 4.2), width_ratios=(1.25, 1))
for i, (way, mark) in enumerate(zip(WAYS, "sovD^", strict=True)):
    low, high = ([abs(shares[way, c][j] - shares[way, c][0]) for c in READ] for j in (1, 2))
    at = [c * 1.045 ** (i - 2) for c in READ]  # beside each other, or the bars would hide each other
    middle = [shares[way, c][0] for c in READ]
    axes[0].errorbar(at, middle, [low, high], fmt=mark + "-", markersize=6, linewidth=2, elinewidth=1.2, label=way)
    if way != "ddpm":
        axes[1].loglog(BUDGETS, [far[way, c] for c in BUDGETS], mark + "-", markersize=6, color=f"C{i}")
axes[0].set(xscale="log", ylim=(0, 1.03), xlabel="calls of the network", title="all as asked, 95% intervals")
axes[1].set(xlabel="calls of the network", title="distance to the limit")
axes[1].set_yticks([0.05, 0.1, 0.2, 0.5], ["0.05", "0.1", "0.2", "0.5"])
for ax, shown in zip(axes, (READ, BUDGETS), strict=True):
    ax.set_xticks(shown, [str(c) for c in shown])
    ax.minorticks_off()
axes[0].legend(loc="lower right")
show.figure(fig, "Left: how often all is right. Right: root mean square distance of the latents of 8 pictures from "
            "where the ODE leads.")  # fmt: skip
print(" " * 26 + "".join(f"{calls:12} calls" for calls in READ))
for way in WAYS:
    print(f"{way:26}" + "".join("  {:.2f} ({:.2f}-{:.2f})".format(*shares[way, calls]) for calls in READ))

# %% [markdown]
# Read it slowly; it is not what the last figure led us to expect.
#
# 1. **At nine calls the oracle can hardly tell the samplers apart.** The bars overlap. Somebody who shows you
#    with 32 pictures that one is better than another has seen noise. (The command `minildm evaluate shapes --set two
#    --sampler dpmpp_2m --steps 9` asks 1,000 prompts.)
# 2. **With three and five calls a higher order is worth nothing, or less.** These are not small steps. Heun spends
#    its five calls on three steps. And 2M draws a line through two answers that lie far apart, the first of them
#    given in pure noise.
# 3. **The rows count as much as the method.** On the right, `ddim` with rows that are even in log-SNR comes nearer to
#    the limit than any method on the other rows, at every budget.
# 4. **But near is not right.** At three calls the oracle sees nothing of that. What is measured decides who wins.
# 5. **`ddpm` needs more calls than `ddim`**, as the bell curve foretold.
#
# And on the right no line reaches the slope 2. A trained network is not as smooth as a bell curve: it has errors of
# its own, and guidance enlarges them. What is right for your model? **Measure, at the number of calls that you can
# pay, with error bars.**
#
# ## Play: sampler, rows, calls, dice
#
# Three starts, one prompt. Below each picture stands what the oracle reads in it. Try `ddim` with 3 calls and change
# the rows. Turn eta up with few calls, and with many. (Only `ddim` has an eta; `ddpm` is `ddim` with eta 1.)

# %% tags=["explorer"] jupyter={"source_hidden": true}
PROMPT = "a small purple ring above a large orange square on a white background"
trio = tasks.prompted(pipe, [PROMPT] * 3, None, 3.0)
three = torch.randn(3, *pipe.latent_shape(), generator=seeded(12))
SPACINGS = {"even in the table": rows_for, "even in log-SNR": even_rows}


def view(sampler, rows, calls, eta):
    more = {"eta": eta} if sampler == "ddim" else {}
    x = pictures(drawn(sampler, trio, three, SPACINGS[rows](sampler, calls), **more))
    reading = oracle.read(x)
    texts = [oracle.describe(reading, i).replace("a large", "large").replace("a small", "small") for i in range(3)]
    return show.grid(x, columns=3, labels=texts)


box = widgets.explorer(view, sampler=["ddim", "heun", "dpmpp_2m", "ddpm"], rows=[*SPACINGS], calls=(3, 13, 2, 5),
                       eta=(0.0, 1.0, 0.25))  # fmt: skip
widgets.show(box, f"“{PROMPT.capitalize()}”: three starts, and what the oracle reads in the pictures.")

# %% tags=["widget-test"] jupyter={"source_hidden": true}
slowest = widgets.drive(box, limit=1.0)

# %% [markdown]
# ## Backwards: from a picture to its noise
#
# An ODE has no arrow. What leads from noise to a picture leads from the picture to its noise, if it is walked the
# other way: **DDIM inversion** (Song et al. 2021, section 5.4). `sample.ddim` does not care in which order its rows
# come, so hand it the rows turned round. Only the clean row has to be left out: there is no noise to divide by.
# (`last="first"` ends at the first row of the table, where $\sigma$ is 0.006.) We ask with the true caption and
# without guidance, scale 1.

# %%
few = scenes.draw(6, seed=808, objects=1)
captions = scenes.captions(few, 808, full=True)
real = scenes.render(few, size=32)
with torch.no_grad():
    z = pipe.encode(real)
told = tasks.prompted(pipe, captions, None, 1.0)
STEPS = (10, 20, 40)
backs, noises, misses = {}, {}, {}
for steps in STEPS:
    rows = levels.pick(pipe.schedule, steps, "trailing", last="first")
    noises[steps] = drawn("ddim", told, z, rows[::-1])
    backs[steps] = drawn("ddim", told, noises[steps], rows)
    misses[steps] = (backs[steps] - z).square().mean().sqrt().item()
    print(f"{steps} steps up and {steps} down: off by {misses[steps]:.3f} of a latent's spread; "
          f"standard deviation of the noise {noises[steps].std():.2f}")  # fmt: skip
print(f"slope from 10 to 40 steps: {math.log2(misses[10] / misses[40]) / 2:.2f}")
film = [real, show.latents(noises[10]), pictures(backs[10]), show.latents(noises[40]), pictures(backs[40])]
fig = show.strip(film, ["picture", "its noise, 10 steps", "and back", "its noise, 40 steps", "and back"])
show.figure(fig, "Six pictures, the noise that 10 and 40 steps find for them (three channels as colours), and what "
            "grows from it.")  # fmt: skip

# %% [markdown]
# The way back errs by something like $1 / \text{steps}$: Euler up and Euler down do not take quite the same path. And
# **look at the noise**: its standard deviation is not 1, and the 10-step noise is dull where the background was flat.
# Real noise has no such traces. It is a common disappointment ("cannot reconstruct noise",
# [diffusers #5703](https://github.com/huggingface/diffusers/issues/5703)). The reason: on the way down a step asks the
# denoiser where it *starts*, in the noisier place. On the way up it asks again where it starts, and that is now the
# cleaner place. Can a step be undone **exactly**?

# %% [markdown] tags=["exercise"]
# ### 08.invert: undo each step exactly
#
# DDIM goes from the upper (noisy) row to the lower one by $x_{low} = \alpha_{low} D + \sigma_{low} \hat\epsilon$,
# with $D$ and $\hat\epsilon$ asked *at the upper row*, where $x_{up} = \alpha_{up} D + \sigma_{up} \hat\epsilon$.
# Take $D$ out of the two:
#
# $$x_{up} = a\, x_{low} + b\, \hat\epsilon(x_{up}), \qquad
# a = \frac{\alpha_{up}}{\alpha_{low}}, \quad b = \sigma_{up} - a\, \sigma_{low} .$$
#
# What we look for stands on both sides. So guess $x_{up} = x_{low}$, put the guess into the right side, get a better
# one, and so on, until nothing moves: a *fixed point*. It works even from the clean row, as nothing is asked there.
#
# Write `invert(denoise, x, rows)`. `rows` are levels with `.alpha` and `.sigma`, **cleanest first**, the first of
# them clean, and `x` lies at the first. Return the noise, x at the last row. The check lets `sample.ddim` walk down
# from your noise; `x` must come back to within 0.001, in a dozen steps.

# %% tags=["exercise"]
def invert(denoise, x, rows):
    # BEGIN SOLUTION
    for low, up in pairwise(rows):
        a = up.alpha / low.alpha
        b = up.sigma - a * low.sigma
        guess = x
        for _ in range(50):
            eps = (guess - up.alpha * denoise(guess, up)) / up.sigma
            guess = a * x + b * eps
        x = guess
    return x
    # END SOLUTION


check.exercise("08.invert", invert)

# %% [markdown] tags=["solution"]
# With a single turn of the inner loop this is the usual inversion, but for the level that is asked (published code
# does that, and readers wonder: [prompt-to-prompt #64](https://github.com/google/prompt-to-prompt/issues/64)). Each
# further turn costs a call. That the guesses come to rest is sure where the right side moves less than the guess
# does, $|b\, d\hat\epsilon / dx| < 1$: always for a bell curve, for smooth data mostly. A trained network gives no
# such promise. There a few turns help, and more may not.

# %% tags=["solution"]
places = torch.tensor([[-0.9], [0.2], [0.8]], dtype=torch.float64)
modes = exact.denoiser(torch.tensor([[-1.0], [0.3], [1.2]]), torch.tensor([0.3, 0.2, 0.4]))
for steps in (6, 12, 24):
    rows = levels.pick(levels.scaled_linear(), steps, "trailing")
    *_, usual = sample.ddim(modes, places, rows[-2::-1])
    *_, usual = sample.ddim(modes, usual, rows[:-1])
    *_, solved = sample.ddim(modes, invert(modes, places, rows[::-1]), rows)
    off, solved_off = ((back - places).abs().max() for back in (usual, solved))
    print(f"{steps:2} steps: the usual inversion is off by {off:.3f}, solved exactly by {solved_off:.0e}")

# %% [markdown]
# ## Between two noises
#
# If each noise leads to one picture, then a *path* of noises leads to a path of pictures. But which path? Lesson 03 has
# the answer: noise lies on a shell (here $\sqrt{256} = 16$ from 0), the straight line leaves it, and `slerp` turns from
# one noise to the other along it. There we could only look at the noises. Here are the pictures.

# %%
a, b = torch.randn(2, 1, *pipe.latent_shape(), generator=seeded(31))
between = [i / 6 for i in range(7)]
paths = {"along the shell": [sample.slerp(a, b, u) for u in between],
         "straight": [(1 - u) * a + u * b for u in between]}  # fmt: skip
lines = []
one = tasks.prompted(pipe, ["a large green triangle"] * 7, None, 3.0)
for name, path in paths.items():
    x = pictures(drawn("ddim", one, torch.cat(path), even_rows("ddim", 12)))
    lines.append(x)
    reading = oracle.read(x)
    single = int((reading.readable & (reading.scenes.count == 1)).sum())
    print(f"{name:15} lengths {[round(p.norm().item(), 1) for p in path]}: one object in {single} of 7")
check.agree("slerp keeps the length of unit noises", sample.slerp(a / a.norm(), b / b.norm(), 0.3).norm(), 1.0)
fig = show.strip(lines, [*paths], columns=[f"{u:.2f}" for u in between])
show.figure(fig, "“A large green triangle”, from one noise to another: along the shell, and straight through.")

# %% [markdown]
# The path of noises has no jumps, and the ODE maps it without tearing. But look how little happens from 0 to 0.33,
# and how fast it goes later: all pictures are scenes, with a triangle in *one* place, so in between the map has to be
# steep. On the straight way one of the pictures has two triangles. Too little noise means a mean of several scenes,
# which we met in lesson 05.
#
# ## Bug museum: the direction's coefficient
#
# A course on generative models writes its own DDIM sampler. In review
# ([CoursIA #16158](https://github.com/jsboige/CoursIA/pull/16158), September 2026, merged since) two mistakes were
# found in it, one after the other, in the factor of **the old noise**. With our letters:
#
# - first it was $k = \sqrt{\sigma'^2 - f^2}$ as it should be, but with $f = \eta \sigma$, the noise of the wrong row.
#   At $\eta = 1$ something negative stands under the root in every step, and a `clamp(min=0)` made 0 of it without a
#   word;
# - then $f$ was mended, and $k$ became *the same number as* $f$. At $\eta = 0$, the only setting that was run, both
#   are 0: $x' = \alpha' D$. **Not a grain of noise is left after the first step**, and from there on the denoiser is
#   asked about noise that is not there.
#
# Broken on purpose, both, beside the right one. The first four prompts say all there is to say; the other four
# pictures are asked for with just "a small purple ring", and the noise has to decide where, and on which background.

# %%
def sampler_with(fresh_of, kept_of):
    def sampler(denoise, x, rows, generator=None, eta=0.0):
        for level, below in pairwise(rows):
            x0, eps = guesses(denoise, x, level)
            fresh = eta * fresh_of(level, below)
            x = below.alpha * x0 + kept_of(below, fresh) * eps
            x = x + fresh * torch.randn(x.shape, dtype=x.dtype, generator=generator) if fresh else x
            yield x

    return sampler


def posterior(level, below):
    room = max(level.sigma**2 - (level.alpha / below.alpha * below.sigma) ** 2, 0.0)
    return below.sigma / level.sigma * math.sqrt(room)


def what_is_left(below, fresh):
    return math.sqrt(max(below.sigma**2 - fresh**2, 0.0))


MUSEUM = {
    "right": sampler_with(posterior, what_is_left),
    "first mistake": sampler_with(lambda level, below: level.sigma, what_is_left),
    "second mistake": sampler_with(posterior, lambda below, fresh: fresh),
}
check.same(MUSEUM["right"], sample.ddim)
rows = rows_for("ddim", 12)
crossing = tasks.prompted(pipe, said[:4] + ["a small purple ring"] * 4, None, 3.0)
film = {}
for name, eta in (("right", 0.0), ("second mistake", 0.0), ("right", 1.0), ("first mistake", 1.0)):
    *_, last = MUSEUM[name](crossing, starts[:8], rows, generator=seeded(3), eta=eta)
    film[f"{name}, eta {eta:g}"] = pictures(last)
    readable = oracle.read(pictures(last)).readable
    full, vague = int(readable[:4].sum()), int(readable[4:].sum())
    print(f"{name:15} eta {eta:g}: readable {full} of 4 that were told all, {vague} of 4 that were not")
fig = show.strip([*film.values()], [*film], columns=["told all"] * 4 + ["ring"] * 4)
show.figure(fig, "Twelve steps from the same eight starts. Cover the right half: what would you have reported?")

# %% [markdown]
# **With prompts that say everything the second mistake hardly shows.** (One cross is lost. Who would blame the
# sampler?) There nothing is left for the noise to decide. Where there is, all possibilities are averaged into nothing at
# all: lesson 05's collapse, in a network. And the first mistake is DDIM itself at $\eta = 0$, and at $\eta = 1$ its pictures
# please the eye. So test a sampler where there is no network and no prompt. **The promise of a sampler is: at every
# row, the crowd is as wide as the row says.** On a bell curve that takes a few lines:

# %%
def test(sampler, eta):
    """The width of 20,000 points after each of 100 steps, against the width that each row says: the worst quotient."""
    rows = even(100)
    crowd_now = torch.randn(20_000, 1, generator=seeded(4)) * width(rows[0])
    states = sampler(bell, crowd_now, rows, seeded(5), eta)
    found = [state.std().item() / width(row) for state, row in zip(states, rows[1:], strict=True)]
    return max(found, key=lambda quotient: abs(quotient - 1))


for name, sampler in MUSEUM.items():
    print(f"{name:15} worst width, 1 is right: eta 0: {test(sampler, 0.0):.2f}, eta 1: {test(sampler, 1.0):.2f}")
assert all(0.95 < test(MUSEUM["right"], eta) < 1.05 for eta in (0.0, 1.0))
assert not 0.95 < test(MUSEUM["first mistake"], 1.0) < 1.05 and not 0.95 < test(MUSEUM["second mistake"], 0.0) < 1.05
rows = levels.pick(levels.linear(), 20, "trailing")
negative = sum(below.sigma < level.sigma for level, below in pairwise(rows))
print(f"first mistake, eta 1, in DDPM's table: negative under the root in {negative} of {len(rows) - 1} steps")

# %% [markdown]
# **How to never fall for it:** data whose answer is known, every setting of every knob, and no `clamp` on what should
# not be negative without an `assert` beside it. The same line has been wrong elsewhere, too: [eta in the place of its
# square](https://github.com/inbarhub/DDPM_inversion/issues/12), [a missing
# root](https://github.com/mathpluscode/ImgX-DiffSeg/issues/4).
#
# ## Quiz
#
# <details><summary>1. A paper says: "our sampler has order 3, so with 4 steps it beats DDIM, which has order 1." What
# do you answer?</summary>
#
# That an order is about steps that get smaller. With 4 steps nothing is small, and the methods of second order in
# this lesson were no better than DDIM there. And count the calls: a step of order 3 may cost three.
# </details>
#
# <details><summary>2. With <code>ddim</code> at eta = 0 two runs from the same noise give the same picture. Does
# that mean that all its pictures together lack variety?</summary>
#
# No. The variety lies in the starts. The crowd ends as wide as that of DDPM (both have their discretisation errors);
# it is only that each start has one end.
# </details>
#
# <details><summary>3. You invert a photograph in 10 steps with guidance 7.5, sample from the noise you found, and get
# something else. Name two causes.</summary>
#
# Steps that are too large: the error of the way there and back is of first order. And guidance: it makes the
# direction change faster, so that asking at the wrong end of a step costs more. More steps, scale 1 on the way up, or
# solve each step as in the exercise.
# </details>
#
# **Words of this lesson** ([glossary](glossary.md)): call, DDIM, DDPM, DPM-Solver++, eta, Euler's method, fixed
# point, Heun's method, inversion, Langevin step, ODE and SDE, order. **Next:** in lesson 09 the *network* changes:
# what if it answered with the direction itself, and what if the paths were straight? Then Euler would need a single
# step.

# %%
print(f"this lesson took {time.perf_counter() - opened:.0f} s from its first cell to its last")
