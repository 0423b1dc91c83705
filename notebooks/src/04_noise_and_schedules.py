# %% [markdown] tags=["solution"]
# # 04 · Noise: forward process and schedules: solutions
#
# One answer to each exercise, and why it is so. There are others; the check takes them too.

# %% [markdown]
# # 04 · Noise: forward process and schedules
#
# **After this lesson you can**
# - make a picture noisy in one leap, and prove that a thousand small steps come to the same;
# - say in one number, log-SNR, how much of a picture is left, whatever the schedule;
# - choose between linear, cosine, sigmoid, shifted and flow schedules, and say why larger pictures need more noise;
# - find by a test two faults that no error message shows: a root that is missing, and noise that is no noise at the end.
#
# **Time:** about ten seconds of computing on a laptop with 2 cores, no GPU; an hour or two with the exercises.
#
# **Needs:** what a variance is. No network is trained, nothing is downloaded, no papers read. Words in *slanted type*
# are explained where they come up, and again in the [glossary](glossary.md).
#
# A diffusion model learns to remove noise. So somebody has to put the noise in first, and that is this whole lesson.
# It looks like the easy half. But how much noise, how fast, and when is it enough? These choices decide what a model
# can learn at all, and published models got them wrong.

# %%
import math
import time

import torch
from matplotlib import pyplot as plt

from minildm import denoise, levels, scenes, show
from minildm.course import check, widgets
from minildm.files import UserError

opened = time.perf_counter()
show.style()


def noise_like(x, seed=0):
    """Draws from N(0, 1), of the shape of x and always the same for one seed."""
    return torch.randn(x.shape, dtype=x.dtype, generator=torch.Generator().manual_seed(seed))


def noisy(x0, level, eps):
    """The contract of this whole library: x = alpha * x0 + sigma * eps."""
    return level.alpha * x0 + level.sigma * eps


# %% [markdown]
# ## The picture first
#
# Here a picture drowns in noise, with the numbers Stable Diffusion was trained with. $t$ counts the steps; there are
# 1,000 of them.

# %%
picture = scenes.render(scenes.draw(1, seed=44, start=11, objects=2), size=32)  #       (1, 3, 32, 32) in -1..1
sd = levels.scaled_linear()  # Stable Diffusion's table: a level (t, alpha, sigma) for each t from 0 to 999
times = (0, 100, 200, 300, 400, 500, 600, 800, 999)
film = [noisy(picture, sd.rows()[t], noise_like(picture))[0] for t in times]
fig = show.strip([film], ["x_t"], columns=[f"t = {t}" for t in times])
show.figure(fig, "One picture, one noise, more and more of it.")

# %% [markdown]
# **Between which two columns does the picture end, for your eyes?** Write the number down. Half way through this
# lesson we ask what an observer could see who misses nothing, and you may be surprised by how much later he gives up.
#
# ## One small step
#
# *Noise* here means: for every number of the picture (each pixel, each colour) one draw $\epsilon$ from the bell curve
# $\mathcal N(0, 1)$, with mean 0 and variance 1, and no draw knows of any other. One step of the *forward process*
# shrinks the picture a little and adds a little noise:
#
# $$x_t = \sqrt{1 - \beta_t}\; x_{t-1} + \sqrt{\beta_t}\; \epsilon_t$$
#
# (Ho et al. 2020, [arXiv 2006.11239](https://arxiv.org/abs/2006.11239), eq. 2.) $\beta_t$ is a small number, such as
# 0.01 (and has nothing to do with the $\beta$ of lesson 02). Why the roots? Because of two rules about variances that
# the whole lesson rests on:
#
# 1. multiply by $c$, and the variance is multiplied by $c^2$;
# 2. add two things that know nothing of each other, and their variances add.
#
# So if $x_{t-1}$ has variance 1, then $x_t$ has $(1 - \beta_t) \cdot 1 + \beta_t \cdot 1 = 1$ again. **What the picture
# loses, the noise gains.** Without the roots the sum does not come out. Let us walk all 1,000 steps in three ways, with
# pixels that are black or white by the toss of a coin: they have variance 1, and look like anything but a bell.

# %%
beta = torch.linspace(1e-4, 0.02, 1000)  # the betas of Ho et al., section 4
coins = (noise_like(torch.zeros(20_000)) > 0) * 2.0 - 1  # -1 or 1
ways = {
    "roots, as it should be": (lambda b: math.sqrt(1 - b), lambda b: math.sqrt(b)),
    "nothing shrunk": (lambda b: 1.0, lambda b: math.sqrt(b)),
    "no roots": (lambda b: 1 - b, lambda b: b),
}
deviations, seen, throw = {}, {}, torch.Generator().manual_seed(1)
for name, (keep, add) in ways.items():
    x, deviations[name] = coins.clone(), []
    for t, b in enumerate(beta.tolist()):
        x = keep(b) * x + add(b) * torch.randn(x.shape, generator=throw)
        deviations[name].append(x.std().item())
        if t in (20, 100, 250, 999) and name.startswith("roots"):
            seen[t] = x
fig, axes = plt.subplots(1, 2, figsize=(10, 3.4), width_ratios=(1, 1.2))
for name, line in deviations.items():
    axes[0].plot(line, label=name)
axes[0].set(xlabel="t", title="standard deviation of the pixels", ylim=(0, 3.6))
axes[0].legend()
for t, x in seen.items():
    axes[1].hist(x, bins=90, range=(-4, 4), density=True, histtype="step", linewidth=2, label=f"t = {t}")
bell = torch.linspace(-4, 4, 200)
axes[1].plot(bell, (-(bell**2) / 2).exp() / math.sqrt(2 * math.pi), "k--", linewidth=1.5, label="N(0, 1)")
axes[1].set(xlabel="value of a pixel", title="values of the pixels, with the roots", yticks=[], ylim=(0, 1.6))
axes[1].legend(loc="upper right")
show.figure(fig, "Left: only with both roots the spread stays 1. Right: two spikes, black and white, become one bell.")

# %% [markdown]
# ## All steps in one leap
#
# Training needs a noisy picture at a random $t$, millions of times. A thousand steps for each would be hopeless. Happily
# they can be taken **in one leap**. Write $a_t = 1 - \beta_t$ for what a step keeps, and take two steps:
#
# $$x_1 = \sqrt{a_1}\, x_0 + \sqrt{1 - a_1}\, \epsilon_1$$
# $$x_2 = \sqrt{a_2}\, x_1 + \sqrt{1 - a_2}\, \epsilon_2
# = \sqrt{a_2 a_1}\, x_0 + \underbrace{\sqrt{a_2 (1 - a_1)}\, \epsilon_1 + \sqrt{1 - a_2}\, \epsilon_2}_{\text{noise}}$$
#
# The sum of two bell curves that know nothing of each other is a bell curve, and its variance is the sum of theirs (rule
# 1, then rule 2):
#
# $$a_2 (1 - a_1) + (1 - a_2) = 1 - a_2 a_1 .$$
#
# So after two steps the picture is multiplied by the root of the product $a_1 a_2$, and *all noise so far is one noise*,
# multiplied by the root of 1 minus that product. A third step does the same to it: put $\bar\alpha_2 = a_1 a_2$ where
# $a_1$ stood. And so on for all:
#
# $$x_t = \alpha_t\, x_0 + \sigma_t\, \epsilon, \qquad \alpha_t = \sqrt{\bar\alpha_t}, \quad
# \sigma_t = \sqrt{1 - \bar\alpha_t}, \qquad \bar\alpha_t = \prod_{s \le t} (1 - \beta_s)$$
#
# (Ho et al. 2020, eq. 4. They write $q(x_t \mid x_0)$ for this bell curve around $\sqrt{\bar\alpha_t}\, x_0$, and
# $\bar\alpha$, *alpha-bar*, is what every program calls it. Beware: their $\alpha_t$ is our $a_t$, what one step keeps;
# our $\alpha_t$ is the root of $\bar\alpha_t$.) Papers count the steps from 1, Python and our tables count
# them from 0: what we call $t = 0$ has one step behind it.
#
# Do not take it on trust. The proof says more than "similar": it says *which* one noise stands for all the small ones.
# Step $s$ threw in $\sqrt{\beta_s}\, \epsilon_s$, and every later step $r$ multiplied that by $\sqrt{a_r}$. The loop below
# carries along what all noises together have come to in this way. Leap with that, and you must arrive **at the very
# same picture**.

# %%
keep = 1 - beta.double()
alpha_bar = keep.cumprod(0)
x0 = picture.double()
x, one_noise = x0, torch.zeros_like(x0)
stops, walked, leapt = (99, 249, 399, 549, 999), [], []
for t in range(1000):
    eps = noise_like(x, seed=t)
    x = keep[t].sqrt() * x + (1 - keep[t]).sqrt() * eps
    one_noise = keep[t].sqrt() * one_noise + (1 - keep[t]).sqrt() * eps  # what all the noises have come to
    if t in stops:
        eps_for_all = one_noise / (1 - alpha_bar[t]).sqrt()  # as one draw from N(0, 1)
        walked.append(x[0])
        leapt.append((alpha_bar[t].sqrt() * x0 + (1 - alpha_bar[t]).sqrt() * eps_for_all)[0])
        check.agree(f"{t + 1:4} steps and one leap", walked[-1], leapt[-1], within=1e-9)
        print(f"     the one noise has mean {eps_for_all.mean():6.3f} and variance {eps_for_all.var():.3f}")

factors = (1 - keep) * alpha_bar[-1] / alpha_bar  # of the variance of each noise, by the time step 1,000 is done
check.agree("all variances of the noises together, and 1 - alpha-bar", factors.sum(), 1 - alpha_bar[-1], within=1e-9)
fig = show.strip([walked, leapt], ["step by step", "in one leap"], columns=[f"{t + 1} steps" for t in stops])
show.figure(fig, "A thousand steps, or one: not alike but equal, pixel by pixel.")

# %% [markdown]
# So a schedule is nothing but a table: for each $t$ an $\alpha$ and a $\sigma$. As always here: write it, prove it with
# `check.same` (the same inputs to both, and how far apart the answers are), and import it ever after.

# %%
def my_linear(steps=1000, beta_start=1e-4, beta_end=0.02):
    alpha_bar = (1 - torch.linspace(beta_start, beta_end, steps)).cumprod(0).double()
    return levels.Schedule(torch.arange(steps).double(), alpha_bar.sqrt(), (1 - alpha_bar).sqrt())


check.same(my_linear, levels.linear)

# %% [markdown]
# ## How much is left? One number for all schedules
#
# $t = 500$ says nothing by itself: of another table row 500 is another picture. What counts is how strong the picture is
# against the noise. Strength is measured as variance. If the picture has variance 1, the part $\alpha x_0$ has
# $\alpha^2$ and the part $\sigma \epsilon$ has $\sigma^2$, and their quotient is the *signal-to-noise ratio* (pictures in
# -1..1 have somewhat less than 1; by custom it is left out):
#
# $$\mathrm{SNR} = \frac{\alpha^2}{\sigma^2}, \qquad \lambda = \log \mathrm{SNR}$$
#
# (Kingma et al. 2021, [arXiv 2107.00630](https://arxiv.org/abs/2107.00630), put it in the place of time. In lessons 01
# and 02 $\lambda$ was a variance; from here on it is this.) We take the logarithm since SNR runs from a thousand down
# to a few thousandths. At $\lambda = 0$ picture and noise are equally strong; every 2.3 on the scale is a factor of
# ten.
#
# Where $\alpha^2 + \sigma^2 = 1$ (such a table is called *variance preserving*), one number tells both. Solve $\alpha^2 / (1 - \alpha^2) = e^\lambda$ for $\alpha^2$:
#
# $$\alpha^2 = \frac{1}{1 + e^{-\lambda}} = \mathrm{sigmoid}(\lambda), \qquad
# \sigma^2 = \mathrm{sigmoid}(-\lambda).$$

# %%
def my_log_snr(level):
    log = torch.log if isinstance(level.alpha, torch.Tensor) else math.log
    return 2 * log(level.alpha / level.sigma)


check.same(my_log_snr, levels.log_snr)
table = torch.tensor([my_log_snr(row) for row in sd.rows()], dtype=torch.float64)
check.agree("alpha squared and sigmoid(log-SNR)", sd.alpha**2, table.sigmoid(), within=1e-9)

fig, axes = plt.subplots(1, 2, figsize=(10, 3.2))
axes[0].plot(sd.alpha, label="alpha: of the picture")
axes[0].plot(sd.sigma, label="sigma: of the noise")
axes[0].set(xlabel="t", ylim=(0, 1.05), title="how much there is in x")
axes[0].legend(loc="lower left", bbox_to_anchor=(0.1, 0))
axes[1].plot(table)
even = int((table > 0).sum())
axes[1].plot([0, even, even], [0, 0, -6], "k:", linewidth=1.5)
axes[1].text(even + 20, 0.3, f"equally strong: t = {even}")
axes[1].set(xlabel="t", xlim=(0, None), ylim=(-6, 8), title="log-SNR")
show.figure(fig, "Stable Diffusion's table twice: as two factors, and as one number.")

# %% [markdown]
# ## Five ways down
#
# The same picture, the same noise, the same $t$; only the table differs. Each row was somebody's answer to a fault of an
# earlier one.
#
# - **linear**: the betas lie on a straight line (Ho et al. 2020, section 4).
# - **cosine**: $\bar\alpha$ follows a squared cosine. Nichol & Dhariwal 2021
#   ([arXiv 2102.09672](https://arxiv.org/abs/2102.09672), eq. 17) found that the linear table hurries: its last rows
#   are noise and nothing else. You will write this one in the exercises.
# - **sigmoid**: $\bar\alpha$ follows a piece of an S (Chen 2023, [arXiv 2301.10972](https://arxiv.org/abs/2301.10972)).
# - **shifted**: the cosine table with *more* noise everywhere, for larger pictures. Why, is told below (Hoogeboom et al.
#   2023, [arXiv 2301.11093](https://arxiv.org/abs/2301.11093), section 3.1).
# - **flow**: a straight line from picture to noise, $\alpha = 1 - \sigma$ and $\sigma = t / T$. Stable Diffusion 3 uses
#   it (Esser et al. 2024, [arXiv 2403.03206](https://arxiv.org/abs/2403.03206)).

# %%
TABLES = {
    "linear": levels.linear(),
    "cosine": levels.cosine(),
    "sigmoid": levels.sigmoid(),
    "shifted": levels.shifted(levels.cosine(), 4),  # the cosine table for pictures four times as wide
    "flow": levels.flow(),
}
places = (0, 150, 325, 500, 675, 850, 999)
rows = [[noisy(picture, table.rows()[i], noise_like(picture))[0] for i in places] for table in TABLES.values()]
show.figure(show.strip(rows, [*TABLES], columns=[f"row {i}" for i in places]),
            "One picture under five tables. In the middle column two of them have nearly lost it, the others are half way.")  # fmt: skip

# %% [markdown]
# Side by side the pictures tell little: who is early, who is late? On one axis it is plain.

# %%
CHOICE = TABLES | {"Stable Diffusion": sd}
curves = {name: torch.tensor([levels.log_snr(row) for row in table.rows()]) for name, table in CHOICE.items()}
fig, axes = plt.subplots(1, 2, figsize=(11, 4.2), sharey=True, width_ratios=(1.5, 1))
for name, curve in curves.items():
    line = {"color": "black", "linestyle": "--", "linewidth": 1.8} if CHOICE[name] is sd else {}
    axes[0].plot(torch.arange(1000) / 1000, curve, label=name, **line)
    axes[1].plot(1 / 1000 / -curve.diff(), (curve[1:] + curve[:-1]) / 2, **line)  # 1 row in 1,000, on how much log-SNR
for ax in axes:
    ax.axhline(0, color="black", linestyle=":", linewidth=1.5)
axes[0].text(0.56, 0.3, "equally strong")
axes[0].set(xlabel="place in the table", ylabel="log-SNR", ylim=(-11, 11), title="how fast it goes")
axes[0].legend(loc="lower left")
axes[1].set(xlabel="share of the rows per unit of log-SNR", title="where the time is spent", xlim=(0, 0.2))
show.figure(fig, "All tables on the axis that counts. Right, seen from the side: how many rows lie at each level.")
for name, curve in curves.items():
    print(f"{name:16} {(curve < -3).float().mean():3.0%} of the rows lie below -3, {(curve > 3).float().mean():3.0%} above 3")

# %% [markdown]
# Read the right half. In training $t$ is drawn evenly, so **a table is a decision where the network spends its time.**
# All go through the same levels, from nearly clean to nearly nothing; they differ in how long they stay. The linear
# table spends nearly half of its rows below -3, where next to nothing is left to see. Cosine, sigmoid and flow stay around 0,
# and the shifted table is the cosine table moved down. The dashed line is the one with which Stable Diffusion was
# trained: it stops at -5.4, before all others. At the end of this lesson we ask what that does.
#
# Is flow not something else altogether, a new kind of model? In this picture it is one more curve. Take a flow row and
# the row with the same log-SNR and $\alpha^2 + \sigma^2 = 1$. The quotient $\alpha / \sigma$ is the same, so both noisy
# pictures are the same **up to one factor**, and that carries no information:

# %%
def my_flow(steps=1000, shift=1.0):
    u = torch.arange(1, steps + 1).double() / steps
    sigma = shift * u / (1 + (shift - 1) * u)  # Esser et al. 2024, eq. 23; without a shift this is u itself
    return levels.Schedule(steps * sigma, 1 - sigma, sigma, shift)


check.same(my_flow, levels.flow)
for row in (TABLES["flow"].rows()[i] for i in (100, 500, 900)):
    snr = math.exp(levels.log_snr(row))
    as_vp = levels.Level(row.t, math.sqrt(snr / (1 + snr)), math.sqrt(1 / (1 + snr)))
    size = math.hypot(row.alpha, row.sigma)
    x, twin = (noisy(picture.double(), level, noise_like(picture.double())) for level in (row, as_vp))
    check.agree(f"flow at {row.t:3.0f} and its twin times {size:.3f}", x, size * twin, within=1e-9)

# %% [markdown]
# ## Play: which table, and how far?
#
# Choose a table and move $t$. The bars count the values of all pixels; the black line is the bell curve $\mathcal N(0,
# 1)$, what they should come to. Find the place where the bars begin to fit the line. Is the picture gone there? And
# watch flow half way: its bars are *narrower* than the line, since $\alpha^2 + \sigma^2$ is less than 1 there.

# %% tags=["explorer"] jupyter={"source_hidden": true}
ROWS = {name: table.rows() for name, table in CHOICE.items()}
EPS = noise_like(picture)
LINE = (-(bell**2) / 2).exp() / math.sqrt(2 * math.pi)


def view(table, t):
    level = ROWS[table][t]
    x = noisy(picture, level, EPS)
    fig = plt.figure(figsize=(8.4, 3.4))
    left, right = fig.add_axes((0.01, 0.04, 0.35, 0.86)), fig.add_axes((0.41, 0.17, 0.56, 0.73))
    left.imshow(show.sheet(x, zoom=8))
    left.set_title(f"{table}, t = {t}")
    left.axis("off")
    shares, edges = torch.histogram(x.flatten(), bins=48, range=(-4.0, 4.0), density=True)
    right.stairs(shares, edges, fill=True)
    right.plot(bell, LINE, color="black")
    right.set(xlim=(-4, 4), ylim=(0, 0.8), yticks=[], xlabel="value of a pixel")
    left_over = f"log-SNR {levels.log_snr(level):.1f}" if level.alpha else "nothing is left"
    right.set_title(f"alpha {level.alpha:.3f}   sigma {level.sigma:.3f}   {left_over}")
    return fig


box = widgets.explorer(view, table=[*CHOICE], t=(0, 999, 1, 300))
widgets.show(box, "A noisy picture, and how often each value of a pixel occurs in it, against the bell curve.")

# %% tags=["widget-test"] jupyter={"source_hidden": true}
# Moves both controls through their values and back, so that a mistake in the explorer cannot stay unseen.
slowest = widgets.drive(box, limit=0.15)

# %% [markdown]
# ## A larger picture needs more noise
#
# The same scene in three sizes, **at the same level**: the same $\alpha$, the same $\sigma$, for every pixel. In the
# first row look how much better you see the large one. The second row says why: the noisy pictures, averaged down to 20
# by 20 pixels. The third and the fourth are the same with a table that was shifted for each size.

# %%
SIZES = (20, 40, 80)
scene = scenes.draw(1, seed=44, start=11, objects=2)
base, at = levels.cosine(), 580
columns = []
for side in SIZES:
    x0, k = scenes.render(scene, size=side), side // 20
    eps = noise_like(x0, seed=3)
    shown = []
    for table in (base, levels.shifted(base, k)):
        x = noisy(x0, table.rows()[at], eps)
        small = torch.nn.functional.avg_pool2d(x, k)  # the mean of each block of k x k pixels  (1, 3, 20, 20)
        small = small / math.hypot(table.alpha[at], table.sigma[at] / k)  # back to the usual size of values
        shown += [torch.nn.functional.interpolate(made, size=160)[0] for made in (x, small)]  # pixels stay squares
    columns.append(shown)
rows = [list(row) for row in zip(*columns, strict=True)]
names = ["one table for all sizes", "the same, averaged", "shifted for each size", "the same, averaged"]
fig = show.strip(rows, names, columns=[f"{side} x {side}" for side in SIZES])
show.figure(fig, "The same noise hides less of a larger picture. Shifted, all sizes are equally far gone.")

# %% [markdown]
# Averaging blocks of $k \times k$ pixels leaves a smooth picture as it is: neighbours show the same thing. It does not
# leave the noise as it is. The sum of $k^2$ draws has variance $k^2 \sigma^2$ (rule 2), and dividing by $k^2$ divides
# that by $k^4$ (rule 1):
#
# $$\mathrm{Var}\Big[\frac{1}{k^2} \sum_{i=1}^{k^2} \sigma\, \epsilon_i\Big]
# = \frac{k^2 \sigma^2}{k^4} = \frac{\sigma^2}{k^2}
# \qquad\Longrightarrow\qquad \lambda_{\text{averaged}} = \lambda + 2 \log k .$$
#
# A picture twice as wide has *the same small picture inside it*, with a quarter of the noise. To make it as hard as the
# small one, lower log-SNR by $2 \log k$ everywhere: a **shifted** table (Hoogeboom et al. 2023, section 3.1). For flow
# the `shift` $s$ of Stable Diffusion 3 does the same. It replaces $\sigma = u$ by $\sigma' = s u / (1 + (s - 1) u)$ (Esser
# et al. 2024, eq. 23). Then $\alpha' = 1 - \sigma' = (1 - u) / (1 + (s - 1) u)$, and in the quotient the ugly part
# cancels: $\alpha' / \sigma' = (1 - u) / (s u)$ is $s$ times smaller than before, and log-SNR falls by $2 \log s$.

# %%
for k in (2, 4, 8):
    blocks = torch.nn.functional.avg_pool2d(noise_like(torch.zeros(1, 1, 1024, 1024)), k)
    print(f"blocks of {k} x {k}: variance of the noise {blocks.var():.5f}, formula {1 / k**2:.5f}")
    moved = levels.shifted(base, k)
    for before, after in zip(base.rows()[::100], moved.rows()[::100], strict=True):
        assert math.isclose(levels.log_snr(after) + 2 * math.log(k), levels.log_snr(before), abs_tol=1e-9)
flat, moved = (torch.tensor([levels.log_snr(row) for row in levels.flow(shift=s).rows()[:-1]]) for s in (1.0, 3.0))
check.agree("flow with shift 3, and log-SNR - 2 log 3", moved, flat - 2 * math.log(3), within=1e-3)

# %% [markdown]
# ## So when is a picture gone?
#
# Back to the number you wrote down. Eyes are poor judges: they do not average over a whole picture. Let us ask an
# observer who misses nothing. He knows that the picture is either $a$ or $b$, a star or a circle of the same colour at
# the same place, and has to say which. Half of the time he would be right by guessing.
#
# Which way to look? Only along the difference. Let $u = (a - b) / \|a - b\|$ be the direction from $b$ to $a$, and look
# at one number, $x \cdot u$. (In all directions across $u$ both pictures are the same, and there is only noise.) The
# noise along $u$ is one draw from $\mathcal N(0, 1)$ times $\sigma$, by our two rules: $\sum u_i^2 = 1$. So the number
# comes from one of two bell curves of width $\sigma$, at a distance of $\alpha \|a - b\|$. Cut in the middle; he is
# wrong where a draw strays over half of the distance:
#
# $$P(\text{wrong}) = \Phi\Big(-\frac{\alpha\, \|a - b\|}{2 \sigma}\Big)
# = \Phi\Big(-\tfrac12\, e^{\lambda / 2}\, \|a - b\|\Big)$$
#
# where $\Phi$ counts how much of $\mathcal N(0, 1)$ lies to the left. Only log-SNR is in it, and the distance of the
# two pictures. And $\|a - b\|$ grows with the side of the picture: that is the effect of resolution once more.

# %%
def pair(side):
    """A large orange star and a large orange circle at the same place: (1, 3, side, side) each."""
    shape, orange = scenes.draw(1, seed=44, start=32, objects=1), [*scenes.COLOURS].index("orange")
    shape.size[0, 0], shape.colour[0, 0], shape.x[0, 0], shape.y[0, 0] = 1, orange, 0.5, 0.5
    made = []
    for name in ("star", "circle"):
        shape.shape[0, 0] = scenes.SHAPES.index(name)
        made.append(scenes.render(shape, size=side))
    return made


def wrong(log_snr, distance):
    return torch.special.ndtr(-0.5 * (torch.as_tensor(log_snr) / 2).exp() * distance)  # ndtr is Phi


SIDES = (16, 32, 64, 128)
apart = {side: (pair(side)[0] - pair(side)[1]).norm().item() for side in SIDES}
fig, axes = plt.subplots(1, 2, figsize=(11, 3.8), width_ratios=(1, 1.4))
a, b = pair(32)
level = sd.rows()[850]
u = (a - b) / (a - b).norm()
throw, seen, errors = torch.Generator().manual_seed(2), {}, 0
for name, x0 in (("a star", a), ("a circle", b)):
    x = noisy(x0, level, torch.randn(2000, 3, 32, 32, generator=throw))
    seen[name] = ((x - level.alpha * (a + b) / 2) * u).sum((1, 2, 3))  #                       (2000,)
    errors += ((seen[name] > 0) != (name == "a star")).sum().item()
    axes[0].hist(seen[name], bins=40, range=(-4, 4), alpha=0.6, label=name)
axes[0].axvline(0, color="black", linestyle=":", linewidth=1.5)
axes[0].set(xlabel="x along the difference", yticks=[], title="2,000 noisy pictures of each, t = 850")
axes[0].legend()
print(f"t = 850, 32 x 32 pixels: wrong in {errors / 4000:.1%} of 4,000 pictures; formula "
      f"{wrong(levels.log_snr(level), apart[32]).item():.1%}")  # fmt: skip
scale = torch.linspace(-10, 2, 200)
for side in SIDES:
    axes[1].plot(scale, wrong(scale, apart[side]), label=f"{side} x {side}")
axes[1].axvline(levels.log_snr(sd.rows()[-1]), color="black", linestyle=":", linewidth=1.5)
axes[1].text(levels.log_snr(sd.rows()[-1]) + 0.1, 0.44, "Stable Diffusion's last row")
axes[1].set(xlabel="log-SNR", title="how often the best observer is wrong", ylim=(0, 0.5))
axes[1].legend(loc="lower left")
show.figure(fig, "Star or circle? Each doubling of the side moves the curve by 2 log 2 = 1.4 to the left.")
for side in (32, 128):
    found = torch.tensor([wrong(levels.log_snr(row), apart[side]).item() for row in sd.rows()])
    until = [int((found < share).sum()) - 1 for share in (0.001, 0.01, 0.1)]
    print(f"{side:3} x {side:3} pixels: wrong in under 0.1% of all cases up to t = {until[0]}, "
          f"1% up to {until[1]}, 10% up to {until[2]}")  # fmt: skip

# %% [markdown]
# Compare that with your number. At 32 by 32 pixels, the size of our film, he is hardly ever wrong up to $t = 742$. At 128
# by 128 he tells star from circle even in the last row. The eye gives up where an edge drowns; the observer adds up
# thousands of pixels. A trained network is such an observer: **what is there, it finds, whether we see it or not.** So
# larger pictures need a table that goes further down. And look where the dotted line is.
#
# ## The last row is not pure noise
#
# Sampling starts from pure noise. Training ends with the last row of the table. They should be the same, and are they?

# %%
for name, table in CHOICE.items():
    last = table.rows()[-1]
    print(f"{name:16} alpha in the last row {last.alpha:.5f}, log-SNR {levels.log_snr(last):6.1f}")

# %% [markdown]
# In Stable Diffusion's last row the picture is still there, times 0.068. That sounds like nothing. But take the simplest thing that one
# can know about a picture, its brightness: the mean of all its numbers. For $d$ numbers the noise in that mean has the
# standard deviation $\sigma / \sqrt d$, by the same two rules, and $d$ is large.

# %%
def brightness(level, count=1000, side=32):
    """The means of noisy black and white pictures at this level, and of pure noise: three tensors (count,)."""
    throw = torch.Generator().manual_seed(4)
    eps = torch.randn(count, 3 * side * side, generator=throw)
    pictures = {"black": -1.0, "white": 1.0}
    return {name: noisy(value, level, eps).mean(1) for name, value in pictures.items()} | {
        "pure noise": torch.randn(count, 3 * side * side, generator=throw).mean(1)}  # fmt: skip


def histogram(means):
    looks = {"black": ("black", "black"), "white": ("white", "black"), "pure noise": ("C0", "C0")}
    fig, ax = plt.subplots(figsize=(8.5, 2.6))
    for kind, values in means.items():
        face, edge = looks[kind]
        bins = {"bins": 70, "range": (-0.14, 0.14), "histtype": "stepfilled", "linewidth": 1.5}
        ax.hist(values, facecolor=face, edgecolor=edge, alpha=0.7, label=kind, **bins)
    ax.set(xlabel="mean of all numbers in x", yticks=[])
    ax.legend(loc="upper left", bbox_to_anchor=(1, 1))
    return fig


show.figure(histogram(brightness(sd.rows()[-1])),
            "1,000 pictures of each kind at t = 999. Black and white ones are told apart with ease, and neither looks "
            "like the noise that sampling starts from.")  # fmt: skip
for count, what in ((3 * 32 * 32, "3 x 32 x 32 pixels"), (4 * 64 * 64, "Stable Diffusion's 4 x 64 x 64 latents")):
    away = sd.alpha[-1] / (sd.sigma[-1] / math.sqrt(count))
    print(f"{what}, all at 1: {away:.1f} standard deviations of the mean from 0")

# %% [markdown]
# There is the fault. In training "noise" with mean 0.068 *means* a white picture, and mean 0 means a grey one. So the
# network believes what it reads there. Then we sample, from real noise, whose mean is 0 every time. And it draws what
# it has learned to draw: a picture of medium brightness. Lin et al. 2023
# ([arXiv 2305.08891](https://arxiv.org/abs/2305.08891)) found that this is why Stable Diffusion cannot paint a really
# dark or a really bright picture, whatever the prompt.
#
# **The mending** (their algorithm 1): move and stretch the table, so that its last row has $\alpha = 0$ and its first
# row stays. It is the exercise `04.terminal_snr`, so here we only look at what it does.

# %%
mended = levels.zero_terminal_snr(sd)
print(f"first row: alpha {sd.alpha[0]:.5f} before, {mended.alpha[0]:.5f} after; last row: {mended.alpha[-1]:.1f}")
check.agree("at every row, alpha^2 + sigma^2 and 1", mended.alpha**2 + mended.sigma**2, torch.ones(1000), within=1e-9)
fig = histogram(brightness(mended.rows()[-1]))
show.figure(fig, "After the mending nothing is left in the last row, not even the brightness: three heaps in one place.")

x, level = noise_like(picture), mended.rows()[-1]
try:
    denoise.to_x0(x, x, level, "eps")
except UserError as error:
    print("a network that predicts the noise is refused there:")
    print(error)

# %% [markdown]
# The last line is the price. At $\alpha = 0$ the picture is $x$ minus the noise, *divided by 0*. A network that
# predicts the noise can say nothing about the picture there: in pure noise "all of it is noise" is the whole truth. So
# the mended table needs another prediction, such as $v$ (lessons 07 and 09), **and a network that was trained on it.**
# Turning it on for a network that was not gives black pictures ([diffusers
# #5103](https://github.com/huggingface/diffusers/issues/5103)): a division by 0, and then no number is one.
#
# ## Bug museum: the missing root
#
# $\sigma$ is a root, $\sqrt{1 - \bar\alpha}$, and it is easily lost:
# - in the notebook of a popular course, in the line that adds the noise ([How-Diffusion-Models-Work
#   #1](https://github.com/Ryota-Kawamura/How-Diffusion-Models-Work/issues/1), of 2023, and open when we looked);
# - in a well-known annotated implementation, in the table of its sampler ([labml
#   #152](https://github.com/labmlai/annotated_deep_learning_paper_implementations/issues/152), of 2022, mended);
# - in print: somebody asks why the code has a root where the paper has none, and the answer is that the code is right
#   ([CSDI #9](https://github.com/ermongroup/CSDI/issues/9)).
#
# Broken on purpose. Before you run the cell: will you see it in the pictures?

# %%
def broken(x0, level, eps):
    return level.alpha * x0 + level.sigma**2 * eps  # 1 - alpha-bar where its root belongs


times = (50, 150, 300, 500, 999)
rows = [[rule(picture, sd.rows()[t], noise_like(picture))[0] for t in times] for rule in (noisy, broken)]
show.figure(show.strip(rows, ["right", "missing root"], columns=[f"t = {t}" for t in times]),
            "Right, and broken. Cover the first row with your hand: would you notice?")  # fmt: skip

# %% [markdown]
# Nothing crashes, the loss falls, the pictures look nearly right. But every rule of this lesson says at once what is
# wrong. The variance is no longer kept. And the table promises a log-SNR that the pictures do not have: the network is
# trained on pictures that are cleaner than their $t$ says, and meets dirtier ones when it samples. (Lesson 07 trains
# with this bug, and shows what becomes of the samples.)

# %%
many = coins.repeat(20)  # 400,000 of them
eps = noise_like(many, seed=5)
spread = {rule: [rule(many, row, eps).std().item() for row in sd.rows()[::10]] for rule in (noisy, broken)}
promised = torch.tensor([levels.log_snr(row) for row in sd.rows()], dtype=torch.float64)
fig, axes = plt.subplots(1, 2, figsize=(10, 3.2))
for name, rule in (("right", noisy), ("missing root", broken)):
    axes[0].plot(range(0, 1000, 10), spread[rule], label=name)
axes[0].set(xlabel="t", ylim=(0.8, 1.05), title="spread of pixels that had spread 1")
axes[1].plot(promised, label="right")
axes[1].plot(2 * (sd.alpha / sd.sigma**2).log(), label="missing root")
axes[1].set(xlabel="t", title="log-SNR of what is trained on")
axes[1].legend(loc="upper right")
show.figure(fig, "Measured: the spread dips by a seventh, and early pictures are far cleaner than the table says.")


def test(rule):
    """Mean and variance of 20,000 pixels of the value 0.5, against the formula, at three levels."""
    x0 = torch.full((20_000,), 0.5)
    for row in (sd.rows()[t] for t in (100, 400, 800)):
        x = rule(x0, row, noise_like(x0, seed=6))
        if abs(x.mean() - 0.5 * row.alpha) > 0.03 or abs(x.var() - row.sigma**2) > 0.03:
            return f"wrong at t = {row.t:.0f}: variance {x.var():.3f}, and {row.sigma**2:.3f} is wanted"
    return "passes"


print(f"broken: {test(broken)}\nmended: {test(noisy)}")

# %% [markdown]
# **How to never fall for it:** test the forward process by itself, before there is any network. Constant pixels, mean and
# variance, three levels: ten lines, written in a minute. The bug lives for years.

# %% [markdown] tags=["exercise"]
# ## Exercises
#
# Write your answer in place of the dots and run the cell. Its last line looks at what you wrote: a tick, or what is amiss
# and on which input. `check.hint("04.cosine")` gives a hint, and a clearer one each time; nothing is counted. Whatever you
# write, the notebook runs on.

# %% tags=["setup"]
import math

import torch

from minildm import levels
from minildm.course import check

# %% [markdown] tags=["exercise"]
# ### 04.q_sample: the leap, for a whole batch
#
# Write `q_sample(x0, t, betas, eps)` as a training loop needs it, starting from the betas:
# - `x0` and `eps` are pictures and their noise, (b, c, h, w);
# - `t` are whole numbers (b,): **each picture of the batch has its own level.** At $t = 0$ one step was taken, with
#   `betas[0]`;
# - `betas` are the betas of all steps, (T,).
#
# Return the noisy pictures, (b, c, h, w).

# %% tags=["exercise"]
def q_sample(x0, t, betas, eps):
    # BEGIN SOLUTION
    alpha_bar = (1 - betas).cumprod(0)[t]  # what the steps up to t keep, for each picture
    alpha_bar = alpha_bar[:, None, None, None]  #                                              (b,) -> (b, 1, 1, 1)
    return alpha_bar.sqrt() * x0 + (1 - alpha_bar).sqrt() * eps
    # END SOLUTION


check.exercise("04.q_sample", q_sample)

# %% [markdown] tags=["solution"]
# The check measures mean and variance, and walks step by step beside you. The line that most people miss is the second.
# PyTorch lines shapes up **from the right**: a factor of shape (b,) meets the last axis, the width. With one picture that
# goes well, with a batch it stops with an error, and with as many pictures as pixels in a row it is *silently wrong*.

# %% [markdown] tags=["exercise"]
# ### 04.cosine: a table without haste
#
# Nichol & Dhariwal 2021 (eq. 17) want $\bar\alpha$ to follow
#
# $$f(u) = \cos^2\Big(\frac{u + 0.008}{1 + 0.008} \cdot \frac{\pi}{2}\Big), \qquad u = 0 \dots 1,$$
#
# so that $\bar\alpha = f(u) / f(0)$ at the *end* of each step: after step $i$ of $T$ (counted from 1) it is $u = i / T$.
# But $f(1) = 0$ would leave nothing to divide by. So they go by the betas: step $i$ has $\beta_i = 1 - f(i/T) /
# f((i-1)/T)$, **and no beta may be above 0.999.** Then $\bar\alpha$ is the product again, as always.
#
# Write `cosine(steps)`, which returns the `steps` values of $\bar\alpha$ as a tensor.

# %% tags=["exercise"]
def cosine(steps):
    # BEGIN SOLUTION
    u = torch.arange(steps + 1) / steps  # the ends of all steps, and the beginning of the first
    f = torch.cos((u.double() + 0.008) / 1.008 * math.pi / 2) ** 2
    betas = (1 - f[1:] / f[:-1]).clamp(max=0.999)
    return (1 - betas).cumprod(0)
    # END SOLUTION


check.exercise("04.cosine", cosine)

# %% [markdown] tags=["solution"]
# $T$ steps have $T + 1$ ends, and counting them wrongly is the usual slip, in published code too
# ([denoising-diffusion-pytorch #19](https://github.com/lucidrains/denoising-diffusion-pytorch/issues/19)). If the table
# begins with $\bar\alpha = 1$, somebody divides by $\sigma = 0$ later ([GenerativeModels
# #489](https://github.com/Project-MONAI/GenerativeModels/issues/489)). The cap touches the last beta alone; it is why this
# table ends with a log-SNR of about -20 and not in pure noise.

# %% [markdown] tags=["exercise"]
# ### 04.terminal_snr: end in pure noise
#
# Write `mend(alpha_bar)` for a table of $\bar\alpha$, (T,). It returns a new table of $\bar\alpha$, made so (Lin et al.
# 2023, algorithm 1): take the roots; lower all of them by the same amount, so that the last becomes 0; multiply all of
# them by the same factor, so that the first is what it was; square.

# %% tags=["exercise"]
def mend(alpha_bar):
    # BEGIN SOLUTION
    alpha = alpha_bar.sqrt()
    first, last = alpha[0], alpha[-1]
    alpha = (alpha - last) * first / (first - last)
    return alpha**2
    # END SOLUTION


check.exercise("04.terminal_snr", mend)

# %% [markdown] tags=["solution"]
# At the last row the factor is $(\text{last} - \text{last}) = 0$, at the first $(\text{first} - \text{last}) \cdot
# \text{first} / (\text{first} - \text{last}) = \text{first}$. Setting the last row to 0 and leaving the others would do,
# too, by the letter: but then one step would have to bring a picture from nothing to 6.8%, and all others would be as
# before.

# %% [markdown] tags=["exercise"]
# ### 04.shift: a table for another size
#
# A table was found to work for pictures of `small` by `small` pixels. Write `shift(alpha, sigma, small, large)`, which
# makes of its columns (T,) those for `large` by `large` pixels, and returns the two. In every row:
# - averaged down to `small`, the noisy picture shall have the log-SNR that the row had;
# - $\alpha^2 + \sigma^2 = 1$, as before.

# %% tags=["exercise"]
def shift(alpha, sigma, small, large):
    # BEGIN SOLUTION
    k = large / small
    noise = k * sigma  # averaging will divide it by k
    size = (alpha**2 + noise**2).sqrt()
    return alpha / size, noise / size
    # END SOLUTION


check.exercise("04.shift", shift)

# %% [markdown] tags=["solution"]
# Dividing both by one number changes no log-SNR and makes the sum of squares 1. The other way is as good: `log_snr = 2 *
# (alpha / sigma).log() - 2 * math.log(k)`, then `log_snr.sigmoid().sqrt()` and `(-log_snr).sigmoid().sqrt()`. If you were
# in doubt about the sign: more pixels, more that says the same, more noise needed.

# %% [markdown]
# ## Quiz
#
# <details><summary>1. Somebody adds noise by <code>x = x0 + sigma * eps</code>, with sigma from 0.01 to 80, and shrinks
# nothing. Is that a diffusion model?</summary>
#
# Yes. Its log-SNR is -2 log sigma, from about 9 to about -9, and each of its pictures is one of ours up to a factor (divide
# by the root of 1 + sigma squared). Only the network must not see the large numbers as they are: the library divides by that
# root before the call.
# </details>
#
# <details><summary>2. A table worked well for 64 x 64 pixels. At 512 x 512 the pictures have fine textures, but two heads.
# What do you suspect?</summary>
#
# Too little noise for that size. The rough plan of a picture is decided where little is left of it, and by the averaging
# argument the large picture is never that far gone: k is 8, so 2 log 8 = 4.2 of log-SNR are missing at the noisy end. Shift
# the table by that and train again.
# </details>
#
# <details><summary>3. "My picture at t = 999 looks like noise to me, so the last row is fine." What do you answer?</summary>
#
# That his eyes do not average over thousands of pixels, and the network does. Measure: alpha in the last row times the root
# of the number of values, against sigma. For Stable Diffusion that is nearly 4 standard deviations of brightness even for a
# picture of 32 x 32.
# </details>
#
# **Words of this lesson** ([glossary](glossary.md)): eps, forward process, beta, alpha and sigma, alpha-bar, level,
# schedule, variance preserving, log-SNR, flow, shifted schedule, zero terminal SNR. **Next:** lesson 05 asks what the best
# possible denoiser does with all this noise, and finds it without any training; lesson 07 trains one.

# %%
print(f"this lesson took {time.perf_counter() - opened:.0f} s from its first cell to its last")
