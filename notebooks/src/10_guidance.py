# %% [markdown] tags=["solution"]
# # 10 · Classes and classifier-free guidance: solutions
#
# One answer to each exercise, and why it is so. There are others; the check takes them too.

# %% [markdown]
# # 10 · Classes and classifier-free guidance
#
# **After this lesson you can**
# - train one network that draws with and without being told what, and say why it needs both;
# - derive guidance from Bayes' rule, and convert between the two ways in which programs count its scale;
# - measure what a scale costs: obedience goes up, variety goes down, and one day the picture breaks;
# - guide at some levels only, away from a class, or by the slope of a classifier.
#
# **Time:** a little over a minute of computing on a laptop with 2 cores, no GPU; an hour or two with the exercises.
#
# **Needs:** lesson 05 (the score), lesson 07 (the loop of training), and Bayes' rule. Nothing is downloaded. Words in
# *slanted type* are explained where they come up, and again in the [glossary](glossary.md).
#
# A model that draws *something* is a curiosity. A model that draws what you ask for is a tool. Between the two lies
# one line of code, and that line has confused more people than any other in this field.

# %% tags=["setup"]
import math
import time
from collections import deque

import matplotlib.pyplot as plt
import torch
import torch.nn.functional as F
from sklearn.svm import SVC
from torch import nn

from minildm import data, denoise, evaluate, exact, levels, oracle, sample, show, tasks, train, weights
from minildm.course import check, widgets
from minildm.levels import Level
from minildm.unet import UNet, UNetConfig

show.style()

# %%
STEPS = 160  # of live training on the digits: few on purpose, try 1000 when you have seen it all

opened = time.perf_counter()
pipe = weights.load("shapes")  # a text-to-picture model that came with the package


def seeded(seed):
    return torch.Generator().manual_seed(seed)


# %% [markdown]
# ## The picture first
#
# The prompt is "a circle". It says nothing of colours, sizes, places and backgrounds. Each column starts from a noise
# of its own; down a column only one number changes, the **guidance scale**.

# %%
START = torch.randn(8, *pipe.latent_shape(), generator=seeded(0))
SCALES = (0.0, 1.0, 4.0, 10.0)
rows = []


def draw_row(scale):
    rows.append(tasks.text2img(pipe, "a circle", None, 10, scale, "dpmpp_2m", START))
    return scale


show.track(train.each([lambda s=s: draw_row(s) for s in SCALES]), "four rows", measure="scale")
fig = show.strip(rows, [f"scale {scale:g}" for scale in SCALES])
show.figure(fig, '"A circle" at four guidance scales. 0 does not listen, 1 listens, and beyond it something is traded.')

# %% [markdown]
# At 0 the prompt is not heard at all. At 1 circles come out, of many colours. Further down they are even more plainly
# circles, **but look how their colours and places become alike**, though nobody asked for that; and in the last row
# the paint goes wrong. By the end of this lesson you can say where each of these comes from, and put a number to it.
#
# ## Two answers
#
# The model behind it gives two answers to every noisy picture $x$. One is for somebody who knows what is wanted, the
# class or prompt $c$: the **conditional** answer, the best guess of the picture *given $c$*. The other knows nothing:
# the **unconditional** answer, the best guess over everything the model has ever seen. Guidance takes the difference
# between the two and exaggerates it:
#
# $$D_s(x) \;=\; D(x) \;+\; s\,\big(D(x \mid c) - D(x)\big)$$
#
# Start at what you would do anyway, and go $s$ times the way to what $c$ wants. At $s = 0$ the condition is ignored,
# at $s = 1$ obeyed, and at $s > 1$ one goes past it, *away from what all pictures have in common and towards what
# sets this class apart*. We look at it first where everything is known: in a plane, with the exact denoisers of
# lesson 05.

# %%
MINE = torch.tensor([[-1.5, 0.5], [0.2, 0.7]])  # the two modes of our class
OTHERS = torch.tensor([[1.1, 0.2], [0.5, -1.0]])  # those of all other pictures
ALL, SPREAD = torch.cat([MINE, OTHERS]), 0.28
cond, uncond = exact.denoiser(MINE, SPREAD), exact.denoiser(ALL, SPREAD)
HUES = [show.PALETTE[name] for name in ("blue", "orange")]


def my_guided(cond, uncond, scale):
    def guided(x, level):
        plain = uncond(x, level)
        return plain + scale * (cond(x, level) - plain)

    return guided


def fog(ax, level, side=3.2):
    """Where noisy points lie: our class in blue, everything else in orange."""
    line = torch.linspace(-side, side, 140)
    x = torch.stack(torch.meshgrid(line, line, indexing="xy"), -1).view(-1, 2)
    for modes, hue in ((OTHERS, HUES[1]), (MINE, HUES[0])):
        shade = exact.log_density(x, level, modes, SPREAD).exp().view(140, 140)
        ax.contour(line, line, shade / shade.max(), (0.1, 0.4, 0.75), colors=[hue], linewidths=1.5)
    ax.set(aspect="equal", xlim=(-2.8, 2.4), ylim=(-2.4, 2.5))
    ax.set_axis_off()


fig, axes = plt.subplots(1, 3, figsize=(10, 3.5))
for ax, sigma in zip(axes, (0.9, 0.6, 0.3), strict=True):
    level = Level(0.0, math.sqrt(1 - sigma**2), sigma)
    fog(ax, level)
    spots = torch.tensor([[0.3, -0.1], [-0.6, -1.2], [1.4, 1.1]]) * (0.5 + 0.5 * level.alpha)
    arrows = {"angles": "xy", "scale_units": "xy", "scale": 1, "width": 0.012}
    for scale, hue in ((3.0, "red"), (1.0, "blue"), (0.0, "brown")):
        step = level.alpha * my_guided(cond, uncond, scale)(spots, level) - spots
        ax.quiver(*spots.T, *step.T, color=show.PALETTE[hue], label=f"scale {scale:g}", **arrows)
    ax.plot(*spots.T, "ko", markersize=5)
    ax.set_title(f"sigma = {sigma}")
fig.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=3, handlelength=1.2)
show.figure(fig, "Blue rings: our class. Orange rings: the others. From each point the answers at scale 0, 1 and 3: "
            "the red tip lies on the line through the other two, beyond the blue one.")  # fmt: skip

# %% [markdown]
# ## Where the formula comes from
#
# Three steps, and Bayes' rule is the first.
#
# 1. *What is $c$, given $x$?* $\;p(c \mid x) = p(x \mid c)\, p(c) / p(x)$. Take logarithms and the slope in $x$; $p(c)$
#    does not depend on $x$ and drops out:
#    $$\nabla \log p(c \mid x) = \nabla \log p(x \mid c) - \nabla \log p(x) .$$
#    The difference of the two scores **is the slope of a classifier** that nobody trained.
# 2. Lesson 05: a score is a denoiser in other units, $\nabla \log p(x) = (\alpha D(x) - x) / \sigma^2$. The $x$ cancels
#    in the difference:
#    $$\nabla \log p(c \mid x) = \frac{\alpha}{\sigma^2}\,\big(D(x \mid c) - D(x)\big) .$$
# 3. Now want $c$ *more* than you should. Count the classifier $s$ times: follow the slope of
#    $\log p(x) + s \log p(c \mid x)$. Put step 2 in and multiply out: that is $D_s$.
#
# Ho & Salimans 2022 ([arXiv 2207.12598](https://arxiv.org/abs/2207.12598), eq. 6) write it for the noise and count
# from the conditional answer, $\;\tilde\epsilon = (1 + w)\, \epsilon(x, c) - w\, \epsilon(x)$. It is the same with $s
# = 1 + w$. No classifier is trained, hence *classifier-free*. Each step of this can be run:

# %%
def slope(log_prob, x):
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        return torch.autograd.grad(log_prob(x).sum(), x)[0]


x, level = 1.2 * torch.randn(500, 2, generator=seeded(1), dtype=torch.float64), Level(0.0, 0.8, 0.6)


def log_class(x):
    """log p(c | x) by Bayes: two of four equal modes are ours, so p(c) is a half."""
    return exact.log_density(x, level, MINE, SPREAD) + math.log(0.5) - exact.log_density(x, level, ALL, SPREAD)


print(f"p(c | x) lies between {log_class(x).exp().min():.4f} and {log_class(x).exp().max():.4f}, as it should")
difference = level.alpha / level.sigma**2 * (cond(x, level) - uncond(x, level))
check.agree("slope of log p(c | x), and the difference of two denoisers", slope(log_class, x), difference, within=1e-9)
for scale in (0.0, 1.0, 7.5):
    mine, theirs = (make(cond, uncond, scale)(x, level) for make in (my_guided, denoise.guided))
    check.agree(f"scale {scale:3g}: mine, and denoise.guided", mine, theirs, within=1e-12)
    eps, eps_c, eps_u = ((x - level.alpha * x0) / level.sigma for x0 in (mine, cond(x, level), uncond(x, level)))
    w = scale - 1
    check.agree("           the noise in it, and eq. 6", eps, (1 + w) * eps_c - w * eps_u, within=1e-9)

# %% [markdown]
# The last line also says: **it does not matter what is mixed**, $x_0$, the noise or $v$. At one $x$ they are
# straight-line functions of each other, and the two factors add up to 1.
#
# ## The conversion box
#
# Two numberings are in use, and they differ by one:
#
# | | formula | no condition | plain condition | twice the way |
# |---|---|---|---|---|
# | **this course**, `scale`; Stable Diffusion's `guidance_scale`; Imagen's $w$ | `uncond + s * (cond - uncond)` | 0 | **1** | 2 |
# | Ho & Salimans' $w$; whatever is written `cond + w * (cond - uncond)` | `(1 + w) * cond - w * uncond` | -1 | **0** | 1 |
#
# **To come from the paper's number to ours, add 1.** People have asked in public, again and again, which of the two
# is the bug: [diffusers #5882](https://github.com/huggingface/diffusers/issues/5882), denoising-diffusion-pytorch
# [#155](https://github.com/lucidrains/denoising-diffusion-pytorch/issues/155) and
# [#207](https://github.com/lucidrains/denoising-diffusion-pytorch/issues/207), [dome272
# #22](https://github.com/dome272/Diffusion-Models-pytorch/issues/22), [stable-dreamfusion
# #32](https://github.com/ashawkey/stable-dreamfusion/issues/32), [threestudio
# #127](https://github.com/threestudio-project/threestudio/issues/127), [DALLE2-pytorch
# #303](https://github.com/lucidrains/DALLE2-pytorch/issues/303). The answer was "neither" each time. One trap is
# real: a program that counts the paper's way and still switches guidance off below 1 turns a wished 0.5 into nothing
# ([diffusers #12905](https://github.com/huggingface/diffusers/issues/12905)).

# %% [markdown] tags=["exercise"]
# ### 10.cfg: one formula, two numberings
#
# Write `guide(cond, uncond, number, convention)`. `cond` and `uncond` are two answers, tensors of one shape. If
# `convention` is `"scale"`, `number` is counted as in this course; if it is `"w"`, as in the paper. Return the guided
# answer. The check tries numbers of both kinds, and that equal steps of the number are equal steps of the answer.

# %% tags=["exercise"]
def guide(cond, uncond, number, convention):
    # BEGIN SOLUTION
    scale = number + 1 if convention == "w" else number  # from here on there is only one numbering
    way = cond - uncond
    return uncond + scale * way
    # END SOLUTION


check.exercise("10.cfg", guide)

# %% [markdown] tags=["solution"]
# Convert at the door, and compute in one numbering: two formulas side by side drift apart. Whatever the number, the
# two factors, $s$ and $1 - s$, add up to 1. So where both answers agree, guidance changes nothing. That is the test
# to run on anybody's code.

# %% [markdown]
# ## What guidance does to a distribution
#
# Follow $D_s$ from noise to data, 3,000 times. One would expect draws from the density whose slope we wrote down,
# $p(x)\, p(c \mid x)^s$, which is $p(x \mid c)^s\, p(x)^{1-s}$ but for a constant: the class, sharpened where the
# classifier is sure. The grey rings are that density. The dots are what comes.

# %%
angles = torch.linspace(math.pi / 2 * 0.9985, 0.02, 80).tolist()
LONG = [Level(0.0, math.cos(a), math.sin(a)) for a in angles] + [Level(0.0, 1.0, 0.0)]
dust = torch.randn(3000, 2, generator=seeded(2))
line = torch.linspace(-3.2, 2.4, 250)
grid = torch.stack(torch.meshgrid(line, line, indexing="xy"), -1).view(-1, 2)
CLEAN = Level(0.0, 1.0, 1e-3)


def left_share(x, weight=None):
    """The part of points that lies nearest to the left one of our modes, among all that lie nearest to ours."""
    near = torch.cdist(x, ALL).argmin(1)
    weight = torch.ones(len(x)) if weight is None else weight
    return (weight[near == 0].sum() / weight[near < 2].sum()).item()


def powers(scale):
    ours, all_of_it = (exact.log_density(grid, CLEAN, modes, SPREAD) for modes in (MINE, ALL))
    log = scale * ours + (1 - scale) * all_of_it
    return (log - log.max()).exp()


fig, axes = plt.subplots(1, 4, figsize=(11, 3.1))
for ax, scale in zip(axes, (0.0, 1.0, 3.0, 8.0), strict=True):
    *_, landed = sample.ddim(denoise.guided(cond, uncond, scale), dust, LONG)
    hoped = powers(scale)
    ax.contour(line, line, hoped.view(250, 250), (0.1, 0.4, 0.75), colors="grey", linewidths=2)
    ax.scatter(*landed[:700].T, s=3, color=HUES[0])
    ax.set(aspect="equal", xlim=(-2.8, 2), ylim=(-1.9, 2.1), title=f"scale {scale:g}")
    ax.set_axis_off()
    print(f"scale {scale:g}: of our class {left_share(landed):4.0%} land in the left mode, "
          f"and {left_share(grid, hoped):4.0%} of the sharpened density lie there")  # fmt: skip
show.figure(fig, "Grey rings: the density one would expect. Dots: where guided walks end. Up to scale 1 they agree.")

# %% [markdown]
# Say the hard thing aloud: **guidance does not sample the density from which it is derived.** Three things happen
# instead. The dots leave the modes, *away* from the other class, to places where no data ever were. They crowd
# together. And one of our two modes dies, the one that has the others for neighbours, though the sharpened density
# gives both about a half.
#
# Why? At every level the slope is that of $p_\sigma(x \mid c)^s\, p_\sigma(x)^{1-s}$, powers of *noisy* densities.
# But noise added to a sharpened density gives something else: a product of averages is no average of products. So
# these densities, level by level, are no noisy versions of one another, and a walk through them ends nowhere in
# particular (Bradley & Nakkiran 2024, [arXiv 2408.09000](https://arxiv.org/abs/2408.09000), show it by examples, for
# DDIM and DDPM). The formula is a good idea and no theorem. It is used since people like the pictures.
#
# ## Guide in the middle only
#
# Where is the harm done? Walk in three parts, and guide in one of them.

# %%
def walk_in_parts(scale, low, high):
    """Walks that are guided from sigma = high down to low, and conditional before and after."""
    first, last = sum(row.sigma > high for row in LONG), sum(row.sigma >= low for row in LONG)
    x = dust
    for part, walker in ((LONG[: first + 1], cond), (LONG[first : last + 1], denoise.guided(cond, uncond, scale)),
                         (LONG[last:], cond)):  # fmt: skip
        *_, x = [x, *sample.ddim(walker, x, part)]  # no step, where a part is empty
    return x


fig, axes = plt.subplots(1, 3, figsize=(10, 3.4))
PARTS = ((0.0, 1.0, "everywhere"), (0.8, 1.0, "early: sigma above 0.8"), (0.3, 0.8, "middle: 0.3 to 0.8"))
for ax, (low, high, where) in zip(axes, PARTS, strict=True):
    landed = walk_in_parts(6.0, low, high)
    fog(ax, CLEAN._replace(sigma=0.05))
    ax.scatter(*landed[:700].T, s=3, color="black")
    ax.set_title(f"{where}\n{left_share(landed):.0%} in the left mode")
show.figure(fig, "Scale 6 at all levels, at the noisy ones alone, and in the middle alone. Half would be right.")

# %% [markdown]
# Most of the harm is done **early**. In much noise the two answers differ by little more than a direction, from the
# middle of everything to the middle of our class; pushed along it six times too far, all walks start on one side, and
# the mode on the other is lost before anything can be seen. In the middle, where it is decided which picture it
# becomes, guidance helps. Kynkäänniemi et al. 2024 ([arXiv 2404.07724](https://arxiv.org/abs/2404.07724)) found just
# this on ImageNet: harmful in much noise, nearly useless in little, and when it is confined to the middle the pictures
# come closer to real ones (by the FID, the usual distance between crowds of pictures). And outside of it *one call of
# the network is saved at each step*.

# %% [markdown] tags=["exercise"]
# ### 10.interval: guide at some levels only
#
# Write `only_between(cond, uncond, scale, low, high)` for two denoisers. It returns a denoiser, a function of `(x,
# level)`, that guides where `level.sigma` lies from `low` to `high`, and is plainly conditional at all other levels.
# There it must not even ask `uncond`: a call of a network is the dearest thing we have.

# %% tags=["exercise"]
def only_between(cond, uncond, scale, low, high):
    # BEGIN SOLUTION
    def guided(x, level):
        if not low <= level.sigma <= high:
            return cond(x, level)
        plain = uncond(x, level)
        return plain + scale * (cond(x, level) - plain)

    return guided
    # END SOLUTION


check.exercise("10.interval", only_between)

# %% [markdown] tags=["solution"]
# Outside the interval the scale is 1 and not 0: "no guidance" means "the condition as it is". Who returns uncond there
# throws the class away at the very levels at which the outlines are laid down. And who calls both first and decides
# afterwards gets the same picture in more time.

# %% [markdown]
# ## One network, two answers
#
# Where do the two denoisers come from when there are no formulas? Two networks would do. Better: **one network that is
# sometimes not told.** In training, the label of a picture is replaced now and then by a label that means "nothing
# said", the *null*. Ho & Salimans call the rate $p_\text{uncond}$ (their algorithm 1); a tenth or a fifth is usual.
# When the null is given the best the network can do is to guess over all classes, and that is the unconditional
# answer.
#
# Ten digits and the null make eleven labels. Each is one learned token, a *class token*: a vector of 32 numbers that
# takes the place of the prompt: the same U-Net as everywhere, with a context of one token. (Attention to one token is
# no choice at all: its weight is always 1, so the token is simply added everywhere. It becomes interesting with many
# tokens, in lesson 11.)

# %% [markdown] tags=["exercise"]
# ### 10.dropout: sometimes say nothing
#
# Write `drop(labels, null, p, generator)`. `labels` are whole numbers (b,). Return new ones, of which each is `null`
# with the probability `p`, *independently of all others*, and unchanged otherwise. All chance comes from `generator`.

# %% tags=["exercise"]
def drop(labels, null, p, generator):
    # BEGIN SOLUTION
    coins = torch.rand(len(labels), generator=generator)
    dropped = coins < p
    return torch.where(dropped, null, labels)
    # END SOLUTION


check.exercise("10.dropout", drop)

# %% [markdown] tags=["solution"]
# How does a check judge chance? 8,000 labels are dropped with $p$; the count has a standard deviation of
# $\sqrt{8000\, p (1 - p)}$, and whoever is five of them away is wrong with near certainty. Two slips are dear, as
# nothing crashes. If the null is 0, all noughts of the data teach "nothing said". And a drop that is still switched
# on when sampling makes some of the "conditional" answers unconditional ([denoising-diffusion-pytorch
# #199](https://github.com/lucidrains/denoising-diffusion-pytorch/issues/199)).

# %% [markdown]
# Training is the loop of lesson 07 with one thing more. Below, each picture stands in the list six times with its
# label and once with the null: a rate of 1/7, without any coin.

# %%
NULL = 10
pictures, digit = data.digits()
listed = torch.cat([digit] * 6 + [torch.full_like(digit, NULL)])
schedule = levels.cosine()
CONFIG = UNetConfig(in_channels=1, out_channels=1, block_out_channels=(16, 32), layers_per_block=1,
                    transformer_layers=(0, 1), mid_layers=0, heads=(1, 2), context_dim=32, norm_num_groups=8)  # fmt: skip


class Told(nn.Module):
    """A U-Net whose prompt is one learned token for each label."""

    def __init__(self):
        super().__init__()
        self.unet, self.token = UNet(CONFIG), nn.Embedding(NULL + 1, CONFIG.context_dim)

    def forward(self, x, t, label):
        return self.unet(x, t, self.token(label)[:, None])  #                              a context of (b, 1, 32)


torch.manual_seed(0)
network = Told()
ema = train.EMA(network)


def loss(step, generator):
    i = torch.randint(len(listed), (64,), generator=generator)
    return train.diffusion_loss(network, pictures[i % len(digit)], schedule, "v", generator, label=listed[i]).mean()


history = show.track(train.fit(network, loss, steps=STEPS, lr=3e-3, ema=ema), "digits")
print(f"{sum(p.numel() for p in network.parameters()):,} weights, {len(history.steps):,} steps of 64 digits")

# %% [markdown]
# And now the two answers, from one network: the same $x$, once with the label, once with the null.

# %%
WALK = levels.pick(schedule, 14, "trailing")


def told(label):
    """The network's denoiser for labels (b,)."""
    return denoise.denoiser(ema.model, "v", label=label)


def draw(label, scale, noise, negative=NULL, rescale=0.0, low=0.0, high=1.0):
    """Digits (b, 1, 8, 8) by guidance: away from `negative`, at the levels from low to high."""
    asked, nothing = told(label), told(torch.full_like(label, negative))
    strong = denoise.guided(asked, nothing, scale, rescale, "v")

    def walker(x, level):
        return (strong if low <= level.sigma <= high else asked)(x, level).clamp(-1, 1)

    *_, x = sample.ddim(walker, noise, WALK)
    return x


noise = torch.randn(10, 1, 8, 8, generator=seeded(3))
rows = [draw(torch.arange(10), scale, noise) for scale in (0.0, 1.0, 3.0, 8.0)]
fig = show.strip([pictures[:10], *rows], ["data", *(f"scale {s}" for s in (0, 1, 3, 8))], columns=[*"0123456789"])
show.figure(fig, "Data, and digits asked for by their class, each column from one noise. At scale 0 nobody listens.")

# %% [markdown]
# ## The trade, measured
#
# Two questions, one number each. *Is it what was asked for?* A judge who has never seen the model reads it: a support
# vector machine, trained on clean digits. *Is it always the same?* The mean distance between two digits of one class:
# what real digits have is the dashed line. A third number watches the contrast: the standard
# deviation of all pixels.

# %%
judge = SVC().fit(pictures.flatten(1).numpy(), digit.numpy())
test_pictures, test_digit = data.digits("test")
print(f"the judge reads {judge.score(test_pictures.flatten(1).numpy(), test_digit.numpy()):.1%} of held-out digits")


def right(x, label):
    return int((torch.from_numpy(judge.predict(x.flatten(1).numpy())) == label).sum())


def variety(x):
    """Mean distance of two digits of one class; x holds the classes one after another, equally many of each."""
    return torch.stack([torch.pdist(part.flatten(1)).mean() for part in x.chunk(10)]).mean().item()


def contrast(x):
    return x.std().item()


LABELS = torch.arange(10).repeat_interleave(16)
many = torch.randn(160, 1, 8, 8, generator=seeded(4))
swept = {}


def judged(key, **how):
    x = draw(LABELS, noise=many, **how)
    share = oracle.wilson(right(x, LABELS), len(x))
    swept[key] = (share, variety(x), contrast(x))
    return share[0]


SWEEP = (0.0, 0.5, 1.0, 2.0, 3.0, 5.0, 8.0, 12.0)
show.track(train.each([lambda s=s: judged(s, scale=s) for s in SWEEP]), "eight scales", measure="share right")
real = torch.stack([torch.pdist(pictures[digit == k].flatten(1)).mean() for k in range(10)]).mean().item()


def sweep_figure(scales, shares, spreads, paint, real, names):
    fig, axes = plt.subplots(1, 3, figsize=(11, 3.2))
    low = [share - lo for share, lo, _ in shares]
    high = [hi - share for share, _, hi in shares]
    axes[0].errorbar(scales, [share for share, _, _ in shares], [low, high], marker="o", capsize=4)
    axes[1].plot(scales, spreads, "o-", color=show.PALETTE["red"])
    axes[2].plot(scales, paint, "o-", color=show.PALETTE["green"])
    for ax, name, line in zip(axes, names, real, strict=True):
        ax.set(xlabel="scale", title=name)
        if line is not None:
            ax.axhline(line, color="black", linestyle="--", linewidth=1.5)
        ax.set_ylim(0, 1.08 * ax.get_ylim()[1])
    axes[0].set_ylim(0, 1.04)
    return fig


fig = sweep_figure(SWEEP, *zip(*(swept[s] for s in SWEEP), strict=True), (None, real, contrast(pictures)),
                   ("read as asked, with 95% intervals", "distance of two of a class", "spread of the pixels"))  # fmt: skip
show.figure(fig, "Digits: obedience, variety and contrast against the scale. Dashed: what the data have.")

# %% [markdown]
# A network that was trained for so few steps has half understood its labels, and so **guidance buys it much**: obedience
# climbs steeply past scale 1, then stays where it is. The price goes on being paid: two digits of one class are more and
# more alike, soon more than in the data, and their contrast rises. There is no best scale in these curves, only a choice.
# And it is a choice for *this* network: train with `STEPS = 1000`, and the digits are right at scale 1 already, so that
# there is only a price. A scale that works for one model says little about another.
#
# Now the same with words: the shipped model, and the oracle as a judge. For obedience it gets prompts with two
# objects and everything about them; right is a picture of which *all* is right. For variety it gets "a circle", and
# we count the colours that it chooses when nobody tells it: $e^H$, the soft count of lesson 05, where
# $H = -\sum p \log p$ is the entropy of the colours read; 8 would be all equally often, 1 always the same.

# %%
WORDS = (0.0, 1.0, 2.0, 4.0, 7.0, 10.0)
said, wanted = evaluate.prompts("two", 24)
start = torch.randn(24, *pipe.latent_shape(), generator=seeded(5))
worded = {}


def colours(reading):
    """The effective number of colours among the readable pictures."""
    seen = reading.scenes.colour[:, 0][reading.readable & (reading.scenes.colour[:, 0] >= 0)]
    p = torch.bincount(seen, minlength=8).float() / max(len(seen), 1)
    return (-torch.special.xlogy(p, p).sum()).exp().item() if len(seen) else 0.0


def worded_at(scale):
    # of all states of the walk a deque of length 1 keeps the last one
    two, circles = (deque(tasks.states(pipe, text, None, 8, scale, "dpmpp_2m", start), 1).pop()
                    for text in (said, "a circle"))  # fmt: skip
    with torch.no_grad():
        readings = [oracle.read(pipe.decode(latents)) for latents in (two, circles)]
    share = oracle.accuracy(readings[0], wanted)["all"]
    worded[scale] = share, colours(readings[1]), contrast(two)
    return share[0]


show.track(train.each([lambda s=s: worded_at(s) for s in WORDS]), "six scales, 48 pictures each", measure="share right")
fig = sweep_figure(WORDS, *zip(*(worded[s] for s in WORDS), strict=True), (None, 8.0, 1.0),
                   ("all right, with 95% intervals", "colours of “a circle”", "spread of the latents"))  # fmt: skip
show.figure(fig, "The model with words. Dashed: all eight colours equally often; the spread of the data's latents.")

# %% [markdown]
# This model was trained for long, and the world is simple: with scale 1 it is already right in most pictures, and
# what is left to gain lies within the intervals. What there is to lose is plain: "a circle" had most of the colours at
# scale 1, and has a few favourites at 4. **A good model needs less guidance**; large text models use 5 to 8 because,
# on their data, they are bad at listening. From 7 on the pictures fall apart: the latents have left the region in which
# the decoder knows its way.
#
# ## Play: one class, ten noises
#
# Move the scale; then confine it to an interval of levels; then choose a class to move away
# from.

# %% tags=["explorer"] jupyter={"source_hidden": true}
ten = torch.randn(10, 1, 8, 8, generator=seeded(6))


def view(digit=4, scale=3.0, from_sigma=0.0, to_sigma=1.0, away_from="nothing said"):
    label = torch.full((10,), digit)
    negative = NULL if away_from == "nothing said" else int(away_from)
    with torch.no_grad():
        x = draw(label, scale, ten, negative, low=from_sigma, high=to_sigma)
    return show.grid(x, 5), f"The judge reads a {digit} in {right(x, label)} of 10; variety {variety_of_ten(x):.1f}."


def variety_of_ten(x):
    return torch.pdist(x.flatten(1)).mean().item()


box = widgets.explorer(
    view, digit=(0, 9, 1, 4), scale=(0.0, 12.0, 0.5, 3.0), from_sigma=(0.0, 1.0, 0.1, 0.0),
    to_sigma=(0.0, 1.0, 0.1, 1.0), away_from=["nothing said", *"0123456789"],
)  # fmt: skip
widgets.show(box, "Ten digits of one class, by the network that you have trained.")

# %% tags=["widget-test"] jupyter={"source_hidden": true}
slowest = widgets.drive(box, limit=1.0)

# %% [markdown]
# ## Three repairs, on one table
#
# - **Interval**: as above, in the middle only.
# - **Rescale** (Lin et al. 2023, [arXiv 2305.08891](https://arxiv.org/abs/2305.08891), section 3.4). Exaggeration
#   also exaggerates the spread of the numbers, and that is what burns the paint. Bring the standard deviation of the
#   guided answer back to that of the conditional one, and mix the result with the guided answer: `rescale` is the
#   share of it, 0.7 in the paper.
# - **Negative class**: in the place of "nothing said" put what you do *not* want. By the derivation above the
#   difference is then the slope of $\log p(c \mid x) - \log p(c' \mid x)$: not "more of a 4" but "more of a 4 and
#   less of a 9". Nothing in the network is new; with a text in that place programs call it a *negative prompt*.

# %%
BENCH = {"plain, scale 1": {"scale": 1.0}, "scale 8": {"scale": 8.0}, "scale 8, rescale 0.7": {"scale": 8.0, "rescale": 0.7},
         "scale 8, sigma 0.3 to 0.8": {"scale": 8.0, "low": 0.3, "high": 0.8}}  # fmt: skip
jobs = [lambda n=n, how=how: judged(n, **how) for n, how in BENCH.items()]
show.track(train.each(jobs), "repairs", measure="share right")
print(f"{'':28}{'right':>12}{'variety':>12}{'contrast':>10}")
for name in BENCH:
    (share, low, high), spread, ends = swept[name]
    print(f"{name:28}{share:7.0%} ±{(high - low) / 2:3.0%}{spread:12.2f}{ends:10.2f}")
print(f"{'data':40}{real:12.2f}{contrast(pictures):10.2f}")

fours = torch.full((10,), 4)
plain, away = draw(fours, 2.0, ten), draw(fours, 2.0, ten, negative=9)
fig = show.strip([plain, away], ["a 4", "a 4, and not a 9"])
show.figure(fig, "The same noises, scale 2: away from nothing in particular, and away from the nines.")

x = torch.randn(6, 1, 8, 8, generator=seeded(7))
level = schedule.rows()[500]
asked, nothing = told(fours[:6]), told(torch.full((6,), NULL))
with torch.no_grad():
    out = denoise.to_output(denoise.guided(asked, nothing, 8.0, 1.0, "v")(x, level), x, level, "v")
    as_told = denoise.to_output(asked(x, level), x, level, "v")
check.agree("spread of the rescaled answer, and of cond's", out.flatten(1).std(1), as_told.flatten(1).std(1), within=1e-4)

# %% [markdown]
# ## With a classifier, for contrast
#
# Before there was a classifier-free way there was the other one: Dhariwal & Nichol 2021 ([arXiv
# 2105.05233](https://arxiv.org/abs/2105.05233)) *train* the classifier $p(c \mid x)$ and add its slope to
# an unconditional model. In our units, by step 2 above read backwards:
#
# $$D_s(x) = D(x) + s\,\frac{\sigma^2}{\alpha}\, \nabla_x \log p(c \mid x)
# \qquad\Longleftrightarrow\qquad \hat\epsilon = \epsilon - s\, \sigma\, \nabla_x \log p(c \mid x) .$$
#
# The classifier must be able to read *noisy* digits and be told how noisy they are; a bought one for clean pictures
# will not do.

# %% [markdown] tags=["exercise"]
# ### 10.classifier: steer by a slope
#
# Write `steer(uncond, log_prob, scale)`. `uncond` is a denoiser; `log_prob(x, level)` gives $\log p(c \mid x)$ for
# each of a batch, (b,), and PyTorch can take its slope. Return a denoiser, a function of `(x, level)`. It will be
# called by a sampler, and these run under `torch.no_grad`. The check has exact denoisers, a plane and Bayes: it knows
# the right answer.

# %% tags=["exercise"]
def steer(uncond, log_prob, scale):
    # BEGIN SOLUTION
    def steered(x, level):
        with torch.enable_grad():
            probe = x.detach().requires_grad_()
            (uphill,) = torch.autograd.grad(log_prob(probe, level).sum(), probe)
        return uncond(x, level) + scale * level.sigma**2 / level.alpha * uphill

    return steered
    # END SOLUTION


check.exercise("10.classifier", steer)

# %% [markdown] tags=["solution"]
# Why the sum over the batch? The slope of a sum with respect to picture $i$ is the slope of the one term that contains
# picture $i$. It was reported as a bug of the published program, and is none ([guided-diffusion
# #51](https://github.com/openai/guided-diffusion/issues/51)). A mean would divide every push by the number of pictures,
# and the same scale would do less in a larger batch.

# %% [markdown]
# From here on it is the library's, `denoise.steered`. Now for a reader to steer by, and the same ten digits again.

# %%
torch.manual_seed(1)
reader = nn.Sequential(nn.Linear(65, 128), nn.SiLU(), nn.Linear(128, 128), nn.SiLU(), nn.Linear(128, 10))


def read(x, sigma):
    """Logits (b, 10) for noisy digits; sigma is the 65th number."""
    return reader(torch.cat([x.flatten(1), torch.as_tensor(sigma).expand(len(x))[:, None]], 1))


def reading_loss(step, generator):
    i = torch.randint(len(digit), (128,), generator=generator)
    level = schedule.at(torch.randint(len(schedule), (128,), generator=generator))
    eps = torch.randn(128, 1, 8, 8, generator=generator)
    x = level.alpha[:, None, None, None] * pictures[i] + level.sigma[:, None, None, None] * eps
    return F.cross_entropy(read(x, level.sigma), digit[i])


show.track(train.fit(reader, reading_loss, steps=1500, lr=3e-3), "a reader of noisy digits")
for t in (100, 400, 700):
    level = schedule.rows()[t]
    x = level.alpha * test_pictures + level.sigma * torch.randn(test_pictures.shape, generator=seeded(8))
    hits = (read(x, level.sigma).argmax(1) == test_digit).float().mean()
    print(f"sigma = {level.sigma:.2f}: it reads {hits:.0%} of held-out digits")


def classified(scale, label, noise):
    def log_prob(x, level):
        return read(x, level.sigma).log_softmax(1).gather(1, label[:, None])[:, 0]

    unasked = told(torch.full_like(label, NULL))
    *_, x = sample.ddim(denoise.clamped(denoise.steered(unasked, log_prob, scale), -1, 1), noise, WALK)
    return x


# in the plane, where Bayes gives the slope, both ways of guiding are one
x, level = torch.randn(500, 2, generator=seeded(1), dtype=torch.float64), Level(0.0, 0.8, 0.6)
by_slope = denoise.steered(uncond, lambda x, _: log_class(x), 3.0)
check.agree("denoise.steered, and classifier-free", by_slope(x, level), my_guided(cond, uncond, 3.0)(x, level), 1e-9)

rows = [draw(torch.arange(10), 3.0, noise)] + [classified(s, torch.arange(10), noise) for s in (1.0, 3.0, 10.0)]
labels = ["classifier-free, scale 3", *(f"classifier, scale {s}" for s in (1, 3, 10))]
fig = show.strip(rows, labels, columns=[*"0123456789"])
show.figure(fig, "The same noises, steered by the network's own two answers, and by the slope of a reader.")
for name, x in (("classifier-free", draw(LABELS, 3.0, many)), ("classifier", classified(3.0, LABELS, many))):
    print(f"{name:16} scale 3: read as asked {right(x, LABELS) / len(x):.0%}, variety {variety(x):.2f}")

# %% [markdown]
# It works, and the reader costs two seconds of training. It needs a second network all the same, one for noisy
# pictures, a backward pass at every step, and it inherits the reader's blind spots: the slope of a classifier finds
# what *moves the classifier*, which need not be what makes a digit. Its one great advantage: the model need not have
# been trained for it. In lesson 11 the reader will be a CLIP, and the class a sentence.
#
# ## Bug museum: s minus one
#
# In an annotated implementation that many have learned from, the text gives the formula as
#
# $$s\,\epsilon(x, c) + (s - 1)\,\epsilon(x)$$
#
# ([labml #177](https://github.com/labmlai/annotated_deep_learning_paper_implementations/issues/177), of 2023, open
# when we looked; the code beside it is right). It should be $1 - s$. Two characters have changed places. Whoever
# types it from the page gets this:

# %%
def broken(cond, uncond, scale):
    return lambda x, level: scale * cond(x, level) + (scale - 1) * uncond(x, level)


def drawn_by(rule, scale):
    asked, nothing = told(torch.arange(10)), told(torch.full((10,), NULL))
    walker = rule(asked, nothing, scale)
    *_, x = sample.ddim(lambda x, level: walker(x, level).clamp(-1, 1), noise, WALK)
    return x


rows = [drawn_by(rule, scale) for scale in (1.0, 3.0) for rule in (denoise.guided, broken)]
labels = ["scale 1, right", "scale 1, broken", "scale 3, right", "scale 3, broken"]
fig = show.strip(rows, labels, columns=[*"0123456789"])
show.figure(fig, "At scale 1 the broken formula is right, since its wrong factor is 0. At 3 it is not.")


def test(rule):
    """Where both answers agree, guidance must change nothing; scale 0 is uncond, scale 1 is cond."""
    x, level = torch.randn(50, 2, generator=seeded(9)), Level(0.0, 0.8, 0.6)
    for scale, a, b, want in ((5.0, cond, cond, cond), (0.0, cond, uncond, uncond), (1.0, cond, uncond, cond)):
        if not torch.allclose(rule(a, b, scale)(x, level), want(x, level), atol=1e-5):
            return f"wrong at scale {scale:g}"
    return "passes"


print(f"broken: {test(broken)}\nmended: {test(denoise.guided)}")

# %% [markdown]
# Where both answers are the same the broken one gives $2s - 1$ times that answer: at scale 3 everything is five times
# too large, hits the ends of the range, and what you see is a stamp of black and white. Worse is the half-hearted
# case: at scale 1.2 it is 1.4 times too large, and the pictures are merely "too contrasty". **How to never fall for
# it:** three lines of test, without a network. Equal answers stay; 0 is uncond; 1 is cond. The same three lines
# settle which of the two numberings a program uses.
#
# ## Quiz
#
# <details><summary>1. A program says "guidance 7.5" and computes <code>cond + 7.5 * (cond - uncond)</code>. Which scale is
# that in this course, and would you have noticed?</summary>
#
# 8.5: it counts from cond, so add 1. At such scales the difference is hardly seen, which is why it stays in programs
# for years. At small ones it is: the paper's 0.5 is our 1.5, and our 0.5 would be half way to "nobody listens".
# </details>
#
# <details><summary>2. Somebody trains with labels and never drops any, then samples with guidance; for the unconditional
# answer a label is given that never occurred. What happens?</summary>
#
# The token of that label was never trained, so its answer is that of a random prompt: some direction, not the mean
# over all classes. The difference is then no slope of log p(c | x), and pushing along it may do anything. Pictures
# can still look fine at small scales, so it goes unnoticed. Look at scale 0: it has to give pictures of all classes.
# </details>
#
# <details><summary>3. In the plane scale 8 put all points into one mode, outside the data. Would more steps of the sampler
# help? Another sampler?</summary>
#
# No. The steps were small; the walk followed its arrows faithfully. It is the arrows that belong to no noisy version
# of any density. DDPM, which adds noise, ends elsewhere, and is not right either. A smaller scale helps, or an
# interval.
# </details>
#
# **Words of this lesson** ([glossary](glossary.md)): guidance, classifier-free guidance, classifier guidance, null
# label, label dropout, class token, guidance interval, rescale, negative prompt. **Next:** lesson 11 puts sentences
# where the ten digits stood, and steers by the similarity of picture and text.

# %%
print(f"this lesson took {time.perf_counter() - opened:.0f} s from its first cell to its last")
