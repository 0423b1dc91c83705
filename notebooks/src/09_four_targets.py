# %% [markdown] tags=["solution"]
# # 09 · Four targets, one network: solutions
#
# One answer to each exercise, and why it is so. There are others; the check takes them too.

# %% [markdown]
# # 09 · Four targets, one network: eps, x0, v, flow
#
# **After this lesson you can**
# - turn the answer of any diffusion network into any other: noise, picture, velocity, flow;
# - say at which noise level each of them is a bad question, and by which factor;
# - say which loss you *really* train with, whatever the code calls it;
# - train a flow, straighten it once, and draw in one single step;
# - derive the four numbers of EDM's preconditioning from one wish: unit variance.
#
# **Time:** about a minute of computing on a laptop with 2 cores, no GPU; an hour or two with the exercises.
#
# **Needs:** lesson 04 (levels and log-SNR), 05 (the perfect denoiser), 08 (Euler's method). Small networks are trained
# on points in the plane; nothing is downloaded, no papers read. Words in *slanted type* are explained where they come
# up, and again in the [glossary](glossary.md).
#
# One model "predicts the noise", the next "predicts v", and Stable Diffusion 3 is "a flow". Three kinds of model? No:
# three ways to ask **one** question. But the question you ask decides where the network's errors hurt.

# %% tags=["setup"]
import math
import time
from dataclasses import replace

import matplotlib.pyplot as plt
import torch
from torch import nn

from minildm import denoise, exact, levels, sample, scenes, show, train
from minildm.course import check, widgets
from minildm.levels import Level

opened = time.perf_counter()
show.style()


def seeded(seed):
    return torch.Generator().manual_seed(seed)


# %% [markdown]
# ## The picture first
#
# The first row is what every network sees: one picture, drowning. The other rows are what a network would have to draw,
# at each level, to be entirely right. Each row is one way of training.

# %%
picture = scenes.render(scenes.draw(1, seed=44, start=11, objects=2), size=32)  #       (1, 3, 32, 32) in -1..1
EPS = torch.randn(picture.shape, generator=seeded(0))
cosine = levels.cosine()
KINDS = ("eps", "x0", "v", "flow")
places = (20, 200, 400, 600, 800, 990)
shown = [cosine.rows()[i] for i in places]
film = [[level.alpha * picture[0] + level.sigma * EPS[0] for level in shown]]
film += [[denoise.target(picture, EPS, level, kind)[0] for level in shown] for kind in KINDS]
fig = show.strip(film, ["x: seen", *KINDS], columns=[f"row {i}" for i in places])
show.figure(fig, "Seen, and wanted. Three of the four never change; v turns from the noise into the picture, negative.")

# %% [markdown]
# Where is a wish *hard*? Asked for `eps` in row 20, the network must find noise that is hardly there; in row 990 the
# noise is all it sees, and it may copy. For `x0` it is the other way round. `v` asks for the noise where the picture is
# plain to see, and for the picture where the noise is: for the hard part, each time. **And yet all four know the
# same.** That comes first.
#
# ## Two equations, two unknowns
#
# At a known level two things are unknown, $x_0$ and $\epsilon$. We see one mixture of them, $x$. Whatever the network
# is asked for, its answer $o$ is a second mixture:
#
# $$x = \alpha\, x_0 + \sigma\, \epsilon, \qquad o = p\, x_0 + q\, \epsilon$$
#
# | target | $p$ | $q$ | | $\det = \alpha q - \sigma p$ |
# |---|---|---|---|---|
# | eps | 0 | 1 | Ho et al. 2020, [arXiv 2006.11239](https://arxiv.org/abs/2006.11239), eq. 14 | $\alpha$ |
# | x0 | 1 | 0 | the clean picture itself | $-\sigma$ |
# | v | $-\sigma$ | $\alpha$ | Salimans & Ho 2022, [arXiv 2202.00512](https://arxiv.org/abs/2202.00512), app. D | $\alpha^2 + \sigma^2$ |
# | flow | $-1$ | 1 | Esser et al. 2024, [arXiv 2403.03206](https://arxiv.org/abs/2403.03206) | $\alpha + \sigma$ |
#
# Two equations with two unknowns, as at school. To lose $\epsilon$, take $q$ times the first minus $\sigma$ times the
# second; to lose $x_0$, take $\alpha$ times the second minus $p$ times the first:
#
# $$q\, x - \sigma\, o = (\alpha q - \sigma p)\, x_0 \;\Rightarrow\; x_0 = \frac{q\, x - \sigma\, o}{\det}, \qquad
# \alpha\, o - p\, x = (\alpha q - \sigma p)\, \epsilon \;\Rightarrow\; \epsilon = \frac{\alpha\, o - p\, x}{\det} .$$
#
# That is all of it. All four rules are these two lines, what lesson 07 said of $v$ among them, and the *determinant*
# $\det$ **says where a target fails**: eps where $\alpha = 0$, x0 where $\sigma = 0$, and v and flow nowhere. Write it,
# prove that it is the library's, and import it ever after.

# %%
def column(value, x):
    return value.view(-1, *[1] * (x.ndim - 1)) if isinstance(value, torch.Tensor) else value


def mixture(level, kind, x):
    """alpha, sigma, p and q: x = alpha * x0 + sigma * eps, and the answer is p * x0 + q * eps."""
    alpha, sigma = column(level.alpha, x), column(level.sigma, x)
    return alpha, sigma, *{"eps": (0, 1), "x0": (1, 0), "v": (-sigma, alpha), "flow": (-1, 1)}[kind]


def my_target(x0, eps, level, prediction):
    _, _, p, q = mixture(level, prediction, x0)
    return p * x0 + q * eps


def my_to_x0(out, x, level, prediction):
    alpha, sigma, p, q = mixture(level, prediction, x)
    return (q * x - sigma * out) / (alpha * q - sigma * p)


def my_to_output(x0, x, level, prediction):
    alpha, sigma, p, q = mixture(level, prediction, x)
    return p * x0 + q * (x - alpha * x0) / sigma


check.same(my_target, denoise.target)
check.same(my_to_x0, denoise.to_x0)
check.same(my_to_output, denoise.to_output)

# %% [markdown] tags=["exercise"]
# ### 09.convert: twelve conversions
#
# Somebody's network answers one thing, your sampler wants another. Write `convert(out, x, alpha, sigma, have, want)`:
# - `out` is an answer of the kind `have` at the noisy points `x`; both are (b, d);
# - `alpha` and `sigma` are two numbers, of any rows: $\alpha^2 + \sigma^2$ **may be anything**;
# - `have` and `want` are two of `"eps"`, `"x0"`, `"v"` and `"flow"`.
#
# Return what a network of the kind `want` would have answered. There are four times three conversions; the check walks
# all of them, there and back. And it goes to both ends: from v and flow it must work **at $\alpha = 0$ and at $\sigma =
# 0$ too**, from eps at $\sigma = 0$, from x0 at $\alpha = 0$. Write it yourself, without the functions above.

# %% tags=["exercise"]
def convert(out, x, alpha, sigma, have, want):
    # BEGIN SOLUTION
    kinds = {"eps": (0, 1), "x0": (1, 0), "v": (-sigma, alpha), "flow": (-1, 1)}
    p, q = kinds[have]
    determinant = alpha * q - sigma * p
    x0 = (q * x - sigma * out) / determinant
    eps = (alpha * out - p * x) / determinant
    p, q = kinds[want]
    return p * x0 + q * eps
    # END SOLUTION


check.exercise("09.convert", convert)

# %% [markdown] tags=["solution"]
# Sixteen `if`s would do as well. The trap is the way round: from v to x0, and then from x0 to eps by $(x - \alpha x_0)
# / \sigma$. That is right in the middle of the table and 0 / 0 at its clean end, although v knows the answer there.
# Whoever finds *both* unknowns at once divides by the determinant only, and for v and flow that is never 0.

# %% [markdown]
# ## What an error becomes
#
# No network is entirely right. Say its answer is wrong by $\delta$: it gives $o + \delta$. Put that into the two lines
# above, and subtract:
#
# $$\Delta x_0 = -\frac{\sigma}{\det}\, \delta, \qquad \Delta \epsilon = \frac{\alpha}{\det}\, \delta .$$
#
# | an error of 1 in | eps | x0 | v (rows with $\alpha^2 + \sigma^2 = 1$) | flow |
# |---|---|---|---|---|
# | is in $x_0$ one of | $\sigma / \alpha$ | 1 | $\sigma$ | $\sigma / (\alpha + \sigma)$ |
# | and in $\epsilon$ one of | 1 | $\alpha / \sigma$ | $\alpha$ | $\alpha / (\alpha + \sigma)$ |
#
# Read the columns. An error in eps explodes near pure noise, for $\alpha \to 0$. An error in x0 does no harm to $x_0$,
# but explodes *as noise* near the clean end, and a sampler needs the noise for its next step. v and flow never enlarge
# an error.

# %%
delta = 0.1 * torch.randn(picture.shape, generator=seeded(1), dtype=torch.float64)
x0, eps = picture.double(), EPS.double()
for place in (50, 950):
    level = cosine.rows()[place]
    x = level.alpha * x0 + level.sigma * eps
    for kind in KINDS:
        wrong = denoise.to_x0(denoise.target(x0, eps, level, kind) + delta, x, level, kind)
        factor = {"eps": level.sigma / level.alpha, "x0": 1, "v": level.sigma,
                  "flow": level.sigma / (level.alpha + level.sigma)}[kind]  # fmt: skip
        what = f"row {place}, error of x0 and {factor:6.3f} times the error of {kind:4}"
        check.agree(what, (wrong - x0).abs(), factor * delta.abs(), within=1e-9)

curve = torch.linspace(10, -10, 200)
alpha, sigma = curve.sigmoid().sqrt(), (-curve).sigmoid().sqrt()
HUES = dict(zip(KINDS, show.PALETTE.values(), strict=False))
FACTORS = {"eps": sigma / alpha, "x0": torch.ones(200), "v": sigma, "flow": sigma / (alpha + sigma)}
fig, axes = plt.subplots(1, 2, figsize=(10, 3.5), sharey=True)
for kind, factor in FACTORS.items():
    axes[0].semilogy(curve, factor, color=HUES[kind], label=kind)
    axes[1].semilogy(curve, factor * alpha / sigma, color=HUES[kind])
for ax, what in zip(axes, ("x0", "eps"), strict=True):
    ax.set(xlabel="log-SNR: clean at the left, noise at the right", xlim=(10, -10), xticks=range(-10, 11, 5), ylim=(0.004, 250))
    ax.set_title(f"an error of 1 in the answer is in {what} ...")
axes[0].legend(loc="upper left", ncols=2)
show.figure(fig, "eps is a bad question in the noise, x0 at the clean end. v and flow stay at 1 or below everywhere.")

# %% [markdown]
# ## Play: what would it have to say here?
#
# Choose a target, a level and a table. The second picture is the right answer, the third the same with an error of 0.1
# in it (less than you see), the fourth the picture that this answer stands for. **Find for each target the place where
# a hardly visible error ruins x0, or prove that there is none.** Then look for eps in the last row of flow.

# %% tags=["explorer"] jupyter={"source_hidden": true}
TABLES = {"cosine": cosine.rows(), "flow": levels.flow().rows()}
MISS = 0.1 * torch.randn(picture.shape, generator=seeded(1))


def view(target, row, table):
    level = TABLES[table][row]
    x = level.alpha * picture + level.sigma * EPS
    right = denoise.target(picture, EPS, level, target)
    known = target != "eps" or level.alpha > 0
    back = denoise.to_x0(right + MISS, x, level, target) if known else torch.zeros_like(x)
    fig = plt.figure(figsize=(10, 2.5))
    ax = fig.add_axes((0.005, 0, 0.74, 0.86))
    ax.imshow(show.sheet(torch.cat([x, right, right + MISS, back]), gap=6, zoom=5))
    ax.axis("off")
    for i, title in enumerate(("x: seen", f"right {target}", "with an error", "x0 it stands for")):
        ax.text(i * 166, -6, title, va="bottom")
    ax = fig.add_axes((0.82, 0.24, 0.15, 0.62))
    ax.plot(curve, FACTORS[target].log10(), color=HUES[target])
    ax.axvline(max(-10.0, min(10.0, levels.log_snr(level))), color="black", linestyle=":", linewidth=1.5)
    ax.set(xlim=(10, -10), ylim=(-2.4, 2.4), xlabel="log-SNR", title="error of x0, times")
    ax.set_yticks((-2, -1, 0, 1, 2), ("0.01", "0.1", "1", "10", "100"))
    told = f"An error of 0.10 in {target} is one of {(back - picture).square().mean().sqrt():.2f} in x0."
    return fig, told if known else "In pure noise eps says nothing about x0: there is no picture to show."


box = widgets.explorer(view, target=[*KINDS], row=(0, 999, 1, 850), table=[*TABLES])
widgets.show(box, "What a network sees, what it should answer, and what a small error in that does to the picture.")

# %% tags=["widget-test"] jupyter={"source_hidden": true}
# Moves all controls through their values and back, so that a mistake in the explorer cannot stay unseen.
slowest = widgets.drive(box, limit=0.15)

# %% [markdown]
# ## One loss, many weights
#
# Square the error and you have the loss. So the last section says, in other words: **at one level all four losses are
# the same loss, times a weight.** From $\Delta x_0 = -\frac{\sigma}{\det} \delta$ follows
# $\|\delta\|^2 = \frac{\det^2}{\sigma^2} \|\Delta x_0\|^2$. Write $\mathrm{SNR} = \alpha^2 / \sigma^2$, and on rows
# with $\alpha^2 + \sigma^2 = 1$ it is
#
# $$\begin{aligned}
# \|\text{error of eps}\|^2 &= \mathrm{SNR} \cdot \|\Delta x_0\|^2, \\
# \|\text{error of } v\|^2 &= (\mathrm{SNR} + 1)\, \|\Delta x_0\|^2, \\
# \|\text{error of flow}\|^2 &= (\sqrt{\mathrm{SNR}} + 1)^2\, \|\Delta x_0\|^2 .
# \end{aligned}$$
#
# (The first two weights are discussed in Salimans & Ho 2022; $1 / \sigma^2 = \mathrm{SNR} + 1$ since $\alpha^2 +
# \sigma^2 = 1$.) Does it matter, if each network could be perfect? No: the best answer at each level is the best for
# any weight. But a network has one set of weights for all levels and too little time. The loss tells it **where to be
# good**, and so does the table, by how many rows it spends where (lesson 04, "where the time is spent"). Only the
# product of both counts.

# %%
snr = (cosine.alpha / cosine.sigma) ** 2
WEIGHTS = {"eps": snr, "x0": torch.ones_like(snr), "v": snr + 1, "flow": (snr.sqrt() + 1) ** 2}
throw = seeded(2)
for place in (100, 500, 900):
    level = cosine.rows()[place]
    x0, eps, guess = torch.randn(3, 1000, 2, generator=throw, dtype=torch.float64)  # a guess of x0, as bad as can be
    x = level.alpha * x0 + level.sigma * eps
    for kind, weight in WEIGHTS.items():
        loss = (denoise.to_output(guess, x, level, kind) - denoise.target(x0, eps, level, kind)).square().mean()
        check.agree(f"row {place}, {kind:4} loss, and {weight[place]:8.3f} times that of x0",
                    loss / (guess - x0).square().mean() / weight[place], 1, within=1e-9)  # fmt: skip

fig, axes = plt.subplots(1, 2, figsize=(10, 3.7))
for kind, weight in WEIGHTS.items():
    axes[0].semilogy(snr.log(), weight, color=HUES[kind], label=kind)
axes[0].set(xlim=(8, -8), ylim=(1e-3, 3e3), xlabel="log-SNR", title="weight of the x0 error")
axes[0].legend(loc="upper right")
trainings = {"linear table, eps": (levels.linear(), "eps"), "cosine table, v": (cosine, "v"),
             "flow table, flow": (levels.flow(), "flow")}  # fmt: skip
for name, (table, kind) in trainings.items():
    alpha, sigma = table.alpha[:-1], table.sigma[:-1]  # without the last row of flow, which is pure noise
    log_snr = 2 * (alpha / sigma).log()
    rows_there = -1 / log_snr.diff() / len(table)  # which share of the rows lies on one unit of log-SNR
    det = {"eps": alpha, "v": alpha**2 + sigma**2, "flow": alpha + sigma}[kind]
    axes[1].semilogy(log_snr[:-1], (det / sigma).square()[:-1] * rows_there, color=HUES[kind], label=name)
axes[1].set(xlim=(8, -8), ylim=(1e-4, 1e2), xlabel="log-SNR", title="the same, times the rows there")
axes[1].legend(loc="lower left")
show.figure(fig, "Left: what each loss asks for. Right: with the rows of their tables, three trainings on one scale.")

u = torch.linspace(0.02, 0.98, 97, dtype=torch.float64, requires_grad=True)  # the place in the table, without its rows
PLAIN = {"v": ((u * math.pi / 2).cos(), (u * math.pi / 2).sin()), "flow": (1 - u, u)}  # cosine, and flow
asked = {}
for kind, (alpha, sigma) in PLAIN.items():
    log_snr = 2 * (alpha / sigma).log()
    rows_there = -1 / torch.autograd.grad(log_snr.sum(), u)[0]
    det = alpha**2 + sigma**2 if kind == "v" else alpha + sigma
    asked[kind] = ((det / sigma) ** 2 * rows_there / (log_snr / 2).exp()).detach()
check.agree("cosine and v, divided by the root of SNR, and 1 / pi", asked["v"], 1 / math.pi, within=1e-9)
check.agree("flow and flow, divided by the root of SNR, and 1 / 2", asked["flow"], 1 / 2, within=1e-9)

# %% [markdown]
# Look at the right half: "v with a cosine table" and "flow" are two parallel lines. **They are one loss, up to a
# constant.** For a cosine without the small print, $\alpha = \cos \frac{\pi u}{2}$ and $\sigma = \sin \frac{\pi u}{2}$,
# where $u = t / T$, log-SNR falls by $\frac{\pi}{\alpha \sigma}$ per unit of $u$; so there are $\frac{\alpha
# \sigma}{\pi}$ rows, times the weight $\frac{1}{\sigma^2}$: that is $\frac{1}{\pi} \frac{\alpha}{\sigma}$. For flow it
# falls by $\frac{2}{\alpha \sigma}$, and with $\alpha + \sigma = 1$ the weight is $\frac{1}{\sigma^2}$ again: $\frac12
# \frac{\alpha}{\sigma}$. (Kingma & Gao 2023, [arXiv 2303.00848](https://arxiv.org/abs/2303.00848), sort the losses of
# many papers in this way.) Two methods with two names ask for the same thing at every level. What is left between them
# is how the picture is scaled when the network sees it. The linear table with eps really is another wish: it cares less
# for the noisy end.

# %% [markdown] tags=["exercise"]
# ### 09.weight: which loss is it really?
#
# Write `weight(log_snr, have, want)`. On rows with $\alpha^2 + \sigma^2 = 1$ and for levels `log_snr`, a tensor (n,),
# it returns the factors (n,) that turn a loss on `have` into the loss on `want`:
#
# $$\|\text{error of want}\|^2 = \text{weight} \cdot \|\text{error of have}\|^2$$
#
# for one and the same guess. `have` and `want` are two of the four kinds.

# %% tags=["exercise"]
def weight(log_snr, have, want):
    # BEGIN SOLUTION
    snr = log_snr.exp()
    on_x0 = {"eps": snr, "x0": torch.ones_like(snr), "v": snr + 1, "flow": (snr.sqrt() + 1) ** 2}
    return on_x0[want] / on_x0[have]
    # END SOLUTION


check.exercise("09.weight", weight)

# %% [markdown] tags=["solution"]
# Each loss is its own weight times the x0 loss. So go through x0: divide by the weight of what you have, multiply by
# that of what you want. To forget one of the two is the common slip, and a published one: see the museum below.

# %% [markdown]
# ## Four trainings, one judge
#
# Now measure. The data are points along the outline of a star: 40 narrow bell curves, so that lesson 05 gives us the
# **perfect denoiser** and we can say how far a network is from it, level by level. One small network, three seeds, the
# same table, the same steps; only the target differs. What we draw in the end is judged by one number, the *sliced
# Wasserstein distance*: look at both clouds from the side, sort the points along that line, compare them one by one,
# and average over 64 directions. For a cloud that is merely moved by $m$ it has to be $\|m\| / \sqrt 2$: the mean of
# $\cos^2$ is one half.

# %%
STEPS, SEEDS = 600, (0, 1, 2)
turns = [i * math.pi / 5 for i in range(11)]
corners = [(1.6 - 0.95 * (i % 2)) * torch.tensor([math.sin(a), math.cos(a)]) for i, a in enumerate(turns)]
MODES = torch.stack([a + (b - a) * k / 4 for a, b in zip(corners, corners[1:], strict=False) for k in range(4)])
SPREAD = 0.06
stars = exact.draw(20_000, MODES, SPREAD, generator=seeded(3))  #                                (20000, 2)
fresh = exact.draw(4000, MODES, SPREAD, generator=seeded(4))  # to judge by
start = torch.randn(4000, 2, generator=seeded(5))
perfect = exact.denoiser(MODES, SPREAD)


def distance(a, b, directions=64):
    """Sliced Wasserstein distance of two clouds of as many points."""
    angle = torch.arange(directions) / directions * math.pi
    lines = torch.stack([angle.cos(), angle.sin()])  #                                           (2, directions)
    return ((a @ lines).sort(0)[0] - (b @ lines).sort(0)[0]).square().mean().sqrt().item()


class Small(nn.Module):
    """Points (b, 2) and t (b,) -> an answer (b, 2)."""

    def __init__(self, seed, width=128):
        super().__init__()
        torch.manual_seed(seed)
        self.body = nn.Sequential(nn.Linear(30, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU(),
                                  nn.Linear(width, width), nn.SiLU(), nn.Linear(width, 2))  # fmt: skip

    def forward(self, x, t):
        angle = t[:, None] / 1000 * math.pi / 4 * 2.0 ** torch.arange(8)
        waves = (x[:, :, None] * 2.0 ** torch.arange(3)).flatten(1)  # fine detail is easier to learn from waves
        return self.body(torch.cat([x, waves.sin(), waves.cos(), angle.sin(), angle.cos()], 1))


def in_turn(trainings):
    """Several trainings, one after the other, as one progress bar."""
    spent = 0.0
    for i, training in enumerate(trainings):
        for now in training:
            yield replace(now, fraction=(i + now.fraction) / len(trainings), seconds=spent + now.seconds)
        spent += now.seconds


move = torch.tensor([0.3, -0.4])
check.agree("a cloud moved by 0.5, and 0.5 / root 2", distance(fresh, fresh + move), 0.5 / math.sqrt(2), within=1e-5)
floor = distance(fresh, exact.draw(4000, MODES, SPREAD, generator=seeded(6)))
print(f"two clouds of real data are {floor:.3f} apart, nobody can do better; data and noise {distance(fresh, start):.2f}")

# %%
def training(net, kind, seed):
    def loss(step, generator):
        points = stars[torch.randint(len(stars), (256,), generator=generator)]
        return train.diffusion_loss(net, points, cosine, kind, generator).mean()

    return train.fit(net, loss, steps=STEPS, lr=4e-3, seed=seed)


nets = {(kind, seed): Small(seed) for kind in KINDS for seed in SEEDS}
history = show.track(in_turn([training(net, *key) for key, net in nets.items()]), "twelve small networks")
rows = levels.pick(cosine, 50, "trailing")
draws, scores = {}, {}
for kind in KINDS:
    # frame="vp": all were trained on rows with alpha^2 + sigma^2 = 1 (flow is taken for alpha + sigma = 1 if not told)
    trials = {kind: [denoise.denoiser(nets[kind, seed], kind, frame="vp") for seed in SEEDS]}
    if kind == "eps":
        trials["eps, cut"] = [denoise.clamped(model, -2, 2) for model in trials["eps"]]
    for name, models in trials.items():
        ends = [[*sample.euler(model, start, rows)][-1] for model in models]
        draws[name], scores[name] = ends[0], [distance(end, fresh) for end in ends]
for name, found in scores.items():
    print(f"{name:9} distance of 50-step draws {sum(found) / 3:8.3f}, from {min(found):.3f} to {max(found):.3f}")

# %%
@torch.no_grad()
def misses(kind, level):
    """By how much the answers miss the perfect answer; and the x0 and the eps that they stand for: three numbers."""
    x = level.alpha * fresh[:2000] + level.sigma * start[:2000]
    best, told = perfect(x, level), torch.full((len(x),), level.t)
    outs = [nets[kind, seed](x, told) for seed in SEEDS]
    off = torch.stack([out - denoise.to_output(best, x, level, kind) for out in outs])
    off_x0 = torch.stack([denoise.to_x0(out, x, level, kind) - best for out in outs])
    off_eps = off_x0 * level.alpha / level.sigma
    return [error.square().mean().sqrt().item() for error in (off, off_x0, off_eps)]


measured = [cosine.rows()[i] for i in (3, 8, 20, 50, 100, *range(150, 1000, 50), 970, 985, 993, 997)]
lines = {kind: torch.tensor([misses(kind, level) for level in measured]) for kind in KINDS}
at = [levels.log_snr(level) for level in measured]
fig, axes = plt.subplots(1, 3, figsize=(10, 3.3), sharey=True)
for i, (ax, title) in enumerate(zip(axes, ("of the answer itself", "made into x0", "made into eps"), strict=True)):
    for kind, line in lines.items():
        ax.semilogy(at, line[:, i], color=HUES[kind], label=kind)
    ax.set(xlim=(11, -11), xticks=range(-10, 11, 5), ylim=(1e-3, 60), xlabel="log-SNR", title="error " * (not i) + title)
axes[0].legend(ncols=2, loc="upper left")
show.figure(fig, "Errors against the perfect denoiser. Made into x0, eps is torn away in the noise; made into eps, x0 at the clean end.")  # fmt: skip
fig, axes = plt.subplots(1, 6, figsize=(11, 2.1), sharex=True, sharey=True)
for ax, (name, cloud) in zip(axes, {"data": fresh, **draws}.items(), strict=True):
    ax.plot(*cloud[:2000].T, ".", markersize=1.5, color=HUES.get(name[:3] if "cut" in name else name, "black"))
    ax.set(aspect="equal", xlim=(-2.2, 2.2), ylim=(-2.2, 2.2), title=name)
    ax.set_axis_off()
axes[1].text(0, 0, "nearly all\noutside", ha="center", va="center")
show.figure(fig, "Two thousand draws in 50 steps. From eps most lie far outside; with x0 cut to -2..2 they come back.")

# %% [markdown]
# **The same network, the same steps, and one of the four draws nothing.** Left: no task is easy everywhere. Middle and
# right are our table of factors, measured. From eps the error of $x_0$ grows by $\sigma / \alpha$: the first step
# starts from the last row, whose log-SNR is about -20, and an error of a few hundredths in eps becomes one of a
# thousand in $x_0$. Published eps models live with it by two habits: they stop their table long before ($\alpha =
# 0.068$ in Stable Diffusion's last row, lesson 04), or they cut $x_0$ to the range that pictures have. That is
# `denoise.clamped`, and here it helps, at the price of a first step that was guesswork. x0 pays at the other end, more
# quietly: where hardly any noise is left the picture is there to be copied, and a network does not copy exactly. The
# honest summary: v and flow are never bad, and no target is best everywhere.
#
# ## Flow: straight lines that cross
#
# On the table of flow, $\alpha = 1 - \sigma$, a pair of picture and noise is joined by a straight line, and the target
# is its direction: $x = x_0 + \sigma (\epsilon - x_0)$, so $dx / d\sigma = \epsilon - x_0$. The network learns
#
# $$\min_f\; \mathbb E\, \big\| f(x, t) - (\epsilon - x_0) \big\|^2$$
#
# (Liu et al. 2023, [arXiv 2209.03003](https://arxiv.org/abs/2209.03003), who call it *rectified flow*, and Lipman et
# al. 2023, [arXiv 2210.02747](https://arxiv.org/abs/2210.02747). Beware of names: Liu et al. call the noise $X_0$ and
# the data $X_1$, and their velocity is ours with the sign turned.) To draw, follow the arrows from $\sigma = 1$ to 0.
# With Euler's method a step is $x + (\sigma' - \sigma) f(x, t)$, and nothing else.
#
# Straight lines, so one step is enough? **No.** Many lines go through one point, and all the network can answer is
# their *mean*. Where lines cross, the path bends.

# %%
flow = levels.flow()
net = Small(0)
level, below = levels.pick(flow, 8, "trailing")[2:4]
with torch.no_grad():
    by_hand = start + (below.sigma - level.sigma) * net(start, torch.full((4000,), level.t))
check.agree("one step along the network's arrow, and sample.euler",
            next(sample.euler(denoise.denoiser(net, "flow"), start, [level, below])), by_hand, 1e-5)  # fmt: skip


def walk(denoiser, x, n, table=flow):
    """The whole path in n Euler steps: (n + 1, b, 2)."""
    return torch.stack([x, *sample.euler(denoiser, x, levels.pick(table, n, "trailing"))])


def straightness(path):
    """Mean squared difference of the velocity on the way and the whole way: 0 for straight paths at even speed."""
    return (path.diff(dim=0) * (len(path) - 1) - (path[-1] - path[0])).square().sum(-1).mean().item()


def draw_paths(ax, path, title, count=60):
    path = path[:, path[0].norm(dim=1) < 2.2][:, :count]
    for one in path.unbind(1):
        ax.plot(*one.T, color="grey", linewidth=0.8)
    ax.plot(*path[0].T, ".", color=HUES["eps"], markersize=6)
    ax.plot(*path[-1].T, ".", color=HUES["x0"], markersize=6)
    ax.set(aspect="equal", xlim=(-2.3, 2.3), ylim=(-2.3, 2.3), title=title)
    ax.set_axis_off()


fig, axes = plt.subplots(1, 3, figsize=(10, 3.5))
draw_paths(axes[0], torch.stack([start, fresh]), "pairs for training")
draw_paths(axes[1], walk(perfect, start[:100], 100), "flow: the best network")
draw_paths(axes[2], walk(perfect, start[:100], 100, cosine), "cosine: the best network")
show.figure(fig, "Blue noise, red data. Left: what is asked for. Middle, right: the mean of all lines through a point, "
                 "followed; no two paths cross any more, and they bend.")  # fmt: skip

# %% [markdown] tags=["exercise"]
# ### 09.one_step: when one step is enough
#
# Write `euler(velocity, x, steps)`, the sampler of a flow:
# - `velocity(x, t)` gives $dx / dt$ at points `x` (b, d), for a float `t`: 1 is noise, 0 is data, and the velocity is
#   of the kind `eps - x0`, so it points **towards noise**;
# - begin with the noise `x` at $t = 1$ and take `steps` equal steps to $t = 0$. Ask the velocity once a step, where the
#   step begins.
#
# Return the points at $t = 0$. The check sends you down a flow whose paths are exactly straight: there one step has to
# arrive at the very place where seven do.

# %% tags=["exercise"]
def euler(velocity, x, steps):
    # BEGIN SOLUTION
    for i in range(steps):
        t = 1 - i / steps
        x = x - velocity(x, t) / steps
    return x
    # END SOLUTION


check.exercise("09.one_step", euler)

# %% [markdown] tags=["solution"]
# The velocity points to the noise, and we walk away from it: minus. Half of the programs define it the other way, `x0 -
# eps` with a plus in the sampler. Both work; one half of each does not ([splitmeanflow
# #2](https://github.com/primepake/splitmeanflow/issues/2): teacher and student were trained on opposite directions, by
# copying from two projects). On a straight path at even speed the velocity never changes, so it does not matter how
# often it is asked: that is why one step is enough, and why straight paths are worth a second training.

# %% [markdown]
# ## Reflow: ask again, with better pairs
#
# The paths of the middle picture do not cross (lesson 05: two that met would have to go on together). They lead from
# each noise to *one* point of data. Liu et al. 2023 turn that into an idea: **take the two ends of each path as a new
# pair, and train again on the straight lines between them.** Nobody is joined to a stranger any more; the new lines
# hardly cross, so their mean is hardly a mean, and the paths come out nearly straight.
#
# Three seeds: train on random pairs, draw 10,000 pairs with 50 steps, train a copy on these pairs. Nothing else
# changes, not even the loss.

# %%
def flow_training(net, x0, eps, seed):
    """Fit the flow from eps to x0; where eps is None, to fresh noise each time."""

    def loss(step, generator):
        i = torch.randint(len(x0), (256,), generator=generator)
        noise = torch.randn(256, 2, generator=generator) if eps is None else eps[i]
        level = flow.at(torch.randint(1000, (256,), generator=generator))
        x = level.alpha[:, None] * x0[i] + level.sigma[:, None] * noise
        return (net(x, level.t) - (noise - x0[i])).square().mean()

    return train.fit(net, loss, steps=STEPS, lr=4e-3, seed=seed)


firsts, seconds = {seed: Small(seed) for seed in SEEDS}, {seed: Small(seed) for seed in SEEDS}
show.track(in_turn([flow_training(net, stars, None, seed) for seed, net in firsts.items()]), "flow, random pairs")
trainings = []
for seed, net in seconds.items():
    net.load_state_dict(firsts[seed].state_dict())
    noise = torch.randn(10_000, 2, generator=seeded(100 + seed))
    ends = walk(denoise.denoiser(firsts[seed], "flow"), noise, 50)[-1]
    trainings.append(flow_training(net, ends, noise, seed))
history = show.track(in_turn(trainings), "flow, its own pairs")
COUNTS = (1, 2, 4, 8, 50)
table = {}
print("distance" + "".join(f"{n:9} steps" for n in COUNTS) + "  straightness")
for name, models in (("before", firsts), ("after", seconds)):
    flows = [denoise.denoiser(net, "flow") for net in models.values()]
    table[name] = torch.tensor([[distance(walk(f, start, n)[-1], fresh) for n in COUNTS] for f in flows])  # (seed, n)
    bend = [straightness(walk(f, start, 50)) for f in flows]
    said = [f"{m:.3f} ± {s:.3f}" for m, s in zip(table[name].mean(0), table[name].std(0), strict=True)]
    print(f"{name:8}" + "".join(f"{one:>15}" for one in said) + f"{max(bend):14.4f}")

# %%
fig = plt.figure(figsize=(10, 4.4))
grid = fig.add_gridspec(2, 4, width_ratios=(1, 1, 1, 1.5))
for i, (name, models) in enumerate((("before", firsts), ("after", seconds))):
    f = denoise.denoiser(models[0], "flow")
    draw_paths(fig.add_subplot(grid[i, 0]), walk(f, start, 50), f"{name}: paths")
    for j, n in enumerate((1, 4)):
        ax = fig.add_subplot(grid[i, 1 + j])
        ax.plot(*walk(f, start, n)[-1][:2000].T, ".", markersize=1.5, color=HUES["flow"])
        ax.set(aspect="equal", xlim=(-2.2, 2.2), ylim=(-2.2, 2.2), title=f"{n} step" + "s" * (n > 1))
        ax.set_axis_off()
ax = fig.add_subplot(grid[:, 3])
for name, found in table.items():
    ax.errorbar(COUNTS, found.mean(0), found.std(0), marker="o", capsize=4, label=name)
ax.axhline(floor, color="black", linestyle=":", linewidth=1.5)
ax.text(1, floor * 1.06, "two clouds of data", va="bottom")
ax.set(xscale="log", yscale="log", xlabel="Euler steps", title="distance to the data", ylim=(0.02, 1.2))
ax.set_xticks(COUNTS, COUNTS)
ax.set_yticks((0.03, 0.1, 0.3, 1), (0.03, 0.1, 0.3, 1))
ax.minorticks_off()
ax.legend(loc="upper right")
show.figure(fig, "Before reflow one step lands every point in the middle. After it one step is nearly as good as fifty.")

# %% [markdown]
# One step before: all points in the middle, the mean of the data, which is the best answer to "which star point does
# this noise belong to?" if each noise met all of them. One step after: a star. The straightness (the integral of
# $\|(Z_1 - Z_0) - \dot Z_t\|^2$ of Liu et al. 2023, in 50 steps) falls by a factor of hundreds.
#
# Say the hard thing aloud: **reflow makes nothing better, only faster.** The second network learns from the first one's
# draws, so its best is the first one's 50 steps, and in our figure it stops just there, above the dotted line. In the
# plane one round is enough; with pictures the pairs have errors, each round adds some, and one-step pictures are
# visibly worse than many-step ones.

# %% [markdown]
# ## EDM: one more wrapper
#
# Karras et al. 2022 ([arXiv 2206.00364](https://arxiv.org/abs/2206.00364), eq. 7 and table 1) do not choose among
# targets. They ask: *which mixture should it be at each level, so that the network has the easiest life?* In their
# frame $\alpha = 1$, $x = x_0 + \sigma \epsilon$, and the denoiser is the network $F$ between four factors:
#
# $$D(x; \sigma) = c_\text{skip}\, x + c_\text{out}\, F\big(c_\text{in}\, x,\; c_\text{noise}\big)$$
#
# Let the data have mean 0 and the spread $s$. Two wishes, in three steps:
#
# 1. **What goes in has variance 1.** $x$ has $s^2 + \sigma^2$, so $c_\text{in} = 1 / \sqrt{s^2 + \sigma^2}$.
# 2. **What should come out has variance 1.** Solve $D = x_0$ for $F$: the target is $(x_0 - c_\text{skip}\, x) /
#    c_\text{out}$. On top stands $(1 - c_\text{skip})\, x_0 - c_\text{skip}\, \sigma\, \epsilon$, with the variance
#    $(1 - c_\text{skip})^2 s^2 + c_\text{skip}^2 \sigma^2$: that must be $c_\text{out}^2$.
# 3. One freedom is left. The network's errors arrive in $D$ times $c_\text{out}$: **make it small.** The slope in
#    $c_\text{skip}$ is $-2 (1 - c_\text{skip}) s^2 + 2 c_\text{skip} \sigma^2$, and it is 0 for
#
# $$c_\text{skip} = \frac{s^2}{s^2 + \sigma^2}, \qquad\text{and then}\qquad
# c_\text{out} = \frac{s\, \sigma}{\sqrt{s^2 + \sigma^2}} .$$
#
# ($c_\text{noise} = \frac14 \ln \sigma$ is only how the network is told the level.) Two surprises. $c_\text{skip}\, x$
# is the **perfect denoiser of one bell curve** of spread $s$ (lesson 05): the network only has to learn what the data
# are *more* than a bell. And for $s = 1$ its target is an old friend: $F = -v$.

# %%
s = stars.std().item()
for sigma in (0.1, 1.0, 10.0):
    skips = torch.linspace(0, 1, 100_001, dtype=torch.float64)
    out = ((1 - skips) ** 2 * s**2 + skips**2 * sigma**2).sqrt()  # wish 2, for every c_skip there is
    formula = s**2 / (s**2 + sigma**2)
    check.agree(f"sigma = {sigma:4}: the best c_skip of 100,001, and the formula", skips[out.argmin()], formula, 1e-5)
    check.agree("              its c_out", out.min(), s * sigma / math.hypot(s, sigma), 1e-8)
    x = stars[:9].double() + sigma * start[:9].double()
    bell = exact.posterior_mean(x, Level(0.0, 1.0, sigma), torch.zeros(1, 2, dtype=torch.float64), s)
    check.agree("              c_skip times x, and a bell's perfect denoiser", formula * x, bell, 1e-6)
    x0, eps = stars[:9].double(), start[:9].double()
    size = math.hypot(1, sigma)  # for s = 1, on the rows with alpha^2 + sigma^2 = 1 that have this noise
    v = denoise.target(x0, eps, Level(0.0, 1 / size, sigma / size), "v")
    wanted = (x0 - (x0 + sigma * eps) / size**2) / (sigma / size)
    check.agree("              for s = 1: the answer EDM asks for, and -v", wanted, -v, 1e-9)

# %% [markdown] tags=["exercise"]
# ### 09.edm: the wrapper
#
# Write `edm(network, x, sigma, spread)`, which returns $D(x; \sigma)$, (b, d):
# - `network(z, c)` takes points (b, d) and one number $c_\text{noise}$ for each, (b,), and answers (b, d);
# - `x` is (b, d), in the frame $\alpha = 1$; `sigma` is (b,): **each point has its own level**;
# - `spread` is $s$, one number; $c_\text{noise} = \frac14 \ln \sigma$.

# %% tags=["exercise"]
def edm(network, x, sigma, spread):
    # BEGIN SOLUTION
    c_noise = sigma.log() / 4
    sigma = sigma[:, None]  #                                                                    (b,) -> (b, 1)
    both = spread**2 + sigma**2
    answer = network(x / both.sqrt(), c_noise)
    return spread**2 / both * x + spread * sigma / both.sqrt() * answer
    # END SOLUTION


check.exercise("09.edm", edm)

# %% [markdown] tags=["solution"]
# The check hands in networks that it knows: one that answers 0 shows c_skip, one that answers 1 shows c_out, one that
# remembers what it was given shows c_in and c_noise. Do the same with a wrapper that you find on the web: a wrong
# factor does not crash, the network learns around it, and only worse.

# %% [markdown]
# As a denoiser for our samplers it is a few lines, and the network inside is the one that we trained four times. In
# training each level is weighed by $1 / c_\text{out}^2$, which makes it a plain squared error of $F$. (We tell the
# level by $t$, as before: any number that tells levels apart will do.)

# %%
def factors(level):
    sigma = torch.as_tensor(level.sigma / level.alpha, dtype=torch.float32).view(-1, 1)
    both = s**2 + sigma**2
    return s**2 / both, s * sigma / both.sqrt(), 1 / both.sqrt()  # skip, out, in: (b or 1, 1)


def edm_denoiser(network):
    def denoise(x, level):
        skip, out, into = factors(level)
        x = x / torch.as_tensor(level.alpha, dtype=torch.float32).view(-1, 1)  # to the frame alpha = 1
        return skip * x + out * network(into * x, torch.as_tensor(level.t, dtype=torch.float32).expand(len(x)))

    return denoise


def edm_training(net, seed):
    def loss(step, generator):
        x0 = stars[torch.randint(len(stars), (256,), generator=generator)]
        level = cosine.at(torch.randint(1000, (256,), generator=generator))
        x = level.alpha[:, None] * x0 + level.sigma[:, None] * torch.randn(256, 2, generator=generator)
        return ((edm_denoiser(net)(x, level) - x0) / factors(level)[1]).square().mean()

    return train.fit(net, loss, steps=STEPS, lr=4e-3, seed=seed)


wrapped = [Small(seed) for seed in SEEDS]
history = show.track(in_turn([edm_training(net, seed) for seed, net in enumerate(wrapped)]), "EDM")
scores["EDM"] = [distance([*sample.euler(edm_denoiser(net), start, rows)][-1], fresh) for net in wrapped]
for name, found in scores.items():
    print(f"{name:9} {sum(found) / 3:8.3f}   from {min(found):.3f} to {max(found):.3f}")

# %% [markdown]
# About as good as v and flow: our $s$ is near 1, and then EDM *is* nearly v but for a sign. (Public code has both side
# by side: `EDMScaling` and `VScaling` in `denoiser_scaling.py` of `sgm` differ, for $s = 1$, in one minus.) Where $s$
# is far from 1, with latents that nobody scaled, say, EDM still hands the network numbers of size 1, and v does not. A
# surprise from writing this lesson: without the waves in `Small`, EDM alone learned nothing in 1,000 steps. The skip
# already gives the bell's answer, and what is left to learn is under a tenth of the target's variance, the rest being
# chance.
#
# ## Bug museum: the weight that was mended three times
#
# Hang et al. 2023 ([arXiv 2303.09556](https://arxiv.org/abs/2303.09556)) train with the weight $\min(\mathrm{SNR}, 5)$
# on the **x0 loss**: clean levels shall not drown the others. What is that for a network that predicts eps? Divide by
# SNR. And v? By $\mathrm{SNR} + 1$. You know that: it is `09.weight`. In public code it went so:
# - somebody noticed that the authors' own release did not divide for v at all ([Min-SNR-Diffusion-Training
#   #3](https://github.com/TiankaiHang/Min-SNR-Diffusion-Training/issues/3), mended);
# - a widely used set of training scripts had eps's weight plus 1 in places ([diffusers
#   #8466](https://github.com/huggingface/diffusers/pull/8466) describes it);
# - elsewhere the 1 was added above *and* below the line ([diffusers
#   #5238](https://github.com/huggingface/diffusers/pull/5238), found wrong in
#   [#5654](https://github.com/huggingface/diffusers/issues/5654), mended in
#   [#6307](https://github.com/huggingface/diffusers/pull/6307)).
#
# Broken on purpose, all of them. Multiply each weight of v by $\mathrm{SNR} + 1$, and you see what it *means* for
# $x_0$:

# %%
GAMMA = 5
BROKEN = {
    "right": lambda snr: snr.clamp(max=GAMMA) / (snr + 1),
    "eps's weight": lambda snr: snr.clamp(max=GAMMA) / snr,
    "eps's weight, plus 1": lambda snr: snr.clamp(max=GAMMA) / snr + 1,
    "1 above and below": lambda snr: (snr + 1).clamp(max=GAMMA) / (snr + 1),
}
snr = torch.linspace(8, -8, 300).exp()
fig, ax = plt.subplots(figsize=(8, 3.5))
for (name, rule), look in zip(BROKEN.items(), ("-", (0, (1, 1)), "--", (3, (3, 3))), strict=True):
    ax.semilogy(snr.log(), rule(snr) * (snr + 1), label=name, linestyle=look, linewidth=4 if look == (0, (1, 1)) else 2.5)
ax.set(xlim=(8, -8), ylim=(1e-3, 1e4), xlabel="log-SNR", title="the weight on x0 that each weight on v stands for")
ax.legend(loc="lower left")
show.figure(fig, "One is what the paper asks for. The others agree with it here and there, and never in the noise.")

# %% [markdown]
# Nothing crashes, the loss falls, the pictures come. In noise the broken weights ask for a thousand times more than was
# meant, and whoever looks at samples cannot tell: one author reports 100,000 steps with a wrong one, and asks for proof
# that the right one is better. (It need not be! But then it is another method, and should have another name.) What
# finds it is no sample but the identity of this lesson: **one guess, two targets, the weighted losses must be equal.**

# %%
def test(rule):
    """The weighted v loss of a guess against the weighted eps loss of the same guess, at three levels."""
    for level in (cosine.rows()[i] for i in (200, 500, 800)):
        x0, eps, guess = torch.randn(3, 500, 2, generator=seeded(7))
        x, snr = level.alpha * x0 + level.sigma * eps, torch.tensor(level.alpha**2 / level.sigma**2)
        loss = {kind: (denoise.to_output(guess, x, level, kind) - denoise.target(x0, eps, level, kind)).square().mean()
                for kind in ("eps", "v")}  # fmt: skip
        wanted, found = snr.clamp(max=GAMMA) / snr * loss["eps"], rule(snr) * loss["v"]
        if not torch.isclose(wanted, found, rtol=1e-3):
            return f"wrong at t = {level.t:.0f}: v's loss is {found:.3f}, eps's {wanted:.3f}"
    return "passes"


for name, rule in BROKEN.items():
    print(f"{name:22} {test(rule)}")

# %% [markdown]
# **How to never fall for it:** a weight belongs to a target. Whenever you read "we weigh the loss by", ask: *the loss
# of what?* And test it with a wrong guess, not with a trained network.
#
# ## Quiz
#
# <details><summary>1. A colleague turns zero terminal SNR (lesson 04) on for a network that predicts eps, and gets
# nan in the first step. Which of the other three targets would have worked, and would retraining eps help?</summary>
#
# All three: the determinant of eps is alpha, which is 0 in that row; those of x0, v and flow are -sigma, 1 and alpha +
# sigma. Retraining eps does not help. In pure noise "the noise is what you see" is the perfect answer, and it says
# nothing about the picture.
# </details>
#
# <details><summary>2. Two papers compare "v-prediction" and "eps-prediction" on one table and find v better. What else
# did they change, perhaps without noticing?</summary>
#
# The loss weight: a plain loss on v is the plain loss on eps times (SNR + 1) / SNR. To learn what the <em>target</em>
# does, give both the same weight on x0.
# </details>
#
# <details><summary>3. Your one-step flow draws the mean of the data for every noise. Is the network broken?</summary>
#
# No. In pure noise all pairs of this noise are mixed, and the mean direction leads to the mean of the data. The paths
# bend later. Take more steps, or straighten the paths by reflow and train again.
# </details>
#
# **Words of this lesson** ([glossary](glossary.md)): prediction, v, flow, rectified flow, reflow, straightness, loss
# weight, preconditioning, sliced Wasserstein distance. **Next:** lesson 10 tells the network *what* to draw, and
# exaggerates it.

# %%
print(f"this lesson took {time.perf_counter() - opened:.0f} s from its first cell to its last")
