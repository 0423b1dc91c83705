# %% [markdown] tags=["solution"]
# # 06 · U-Net and attention by hand: solutions
#
# One answer to each exercise, and why it is so. There are others; the check takes them too.

# %% [markdown]
# # 06 · U-Net and attention by hand
#
# **After this lesson you can**
# - build the network of Stable Diffusion from tensors: time embedding, GroupNorm, residual blocks, skips, attention;
# - load published weights into your own class, and prove that it is the same network;
# - say how many numbers a network holds and how much it computes, without running it;
# - measure where a network looks, and find three faults in it that no error message shows.
#
# **Time:** about half a minute of computing on a laptop with 2 cores, no GPU; two to three hours with the exercises.
#
# **Needs:** lesson 04 ($x = \alpha x_0 + \sigma \epsilon$), what a convolution is (lesson 01), and what a gradient is.
# Nothing is trained or downloaded, no papers read. Words in *slanted type* are explained where they come up, and again
# in the [glossary](glossary.md).
#
# Lesson 05 wrote down the best denoiser there is, and it could only copy. So we want a *network* that denoises. Which
# one? From the first diffusion models that drew well (2020) to Stable Diffusion XL (2023) the answer was always the
# same: a **U-Net**. You will write it, all of it, in about a hundred lines.

# %% tags=["setup"]
import math
import time

import torch
import torch.nn.functional as F
from matplotlib import pyplot as plt
from matplotlib.patches import FancyArrowPatch, Rectangle
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from minildm import denoise, layers, scenes, show, tasks, unet, weights
from minildm.course import check, widgets
from minildm.unet import UNetConfig

opened = time.perf_counter()
show.style()


def draw(*shape, seed=0, dtype=torch.float32):
    """Draws from N(0, 1), always the same for one seed."""
    return torch.randn(*shape, dtype=dtype, generator=torch.Generator().manual_seed(seed))


# %% [markdown]
# ## The picture first
#
# A trained network came with this package. Here it looks at a noisy picture, and we look at what it makes of it on
# its way. Between two blocks there is a stack of maps, one per *channel*; red, green and blue show the three
# directions in which they vary most.

# %%
pipe = weights.load("pixel")  # lesson 07 trains it; 3 levels, no words
shipped, schedule = pipe.unet.eval(), pipe.schedule
picture = scenes.render(scenes.draw(1, seed=44, start=11, objects=2), size=32)  #       (1, 3, 32, 32) in -1..1
EPS = draw(1, 3, 32, 32)


def noisy(t):
    level = schedule.rows()[t]
    return level.alpha * picture + level.sigma * EPS


def guess(net, x, told):
    """The clean picture that `net` sees in x, if it is told that x comes from row `told` of the table."""
    with torch.no_grad():
        out = net(x, torch.tensor([float(told)]))
    return denoise.to_x0(out, x, schedule.rows()[told], pipe.prediction)


def colours(maps):
    """Maps (c, h, w) as one picture (3, h, w): the three directions in which they vary most."""
    flat = maps.flatten(1) - maps.flatten(1).mean(1, keepdim=True)
    _, _, main = torch.linalg.svd(flat, full_matrices=False)
    return (main[:3] / main[:3].abs().amax(1, keepdim=True)).unflatten(1, maps.shape[1:])


seen, at = [], 600
stops = [block.resnets[-1] for block in shipped.down_blocks] + [shipped.mid_block.resnets[-1]]
stops += [block.resnets[-1] for block in shipped.up_blocks]
# a hook is a function that PyTorch calls whenever a layer has answered, with what went in and what came out
hooks = [stop.register_forward_hook(lambda block, given, out: seen.append(out[0])) for stop in stops]
first, last = noisy(at), guess(shipped, noisy(at), at)
for hook in hooks:
    hook.remove()

fig = plt.figure(figsize=(10.5, 3.3), layout="none")
sizes, depths = (1.0, 1.0, 0.75, 0.55, 0.55, 0.55, 0.75, 1.0, 1.0), (0, 0, 0.8, 1.7, 1.7, 1.7, 0.8, 0, 0)
across, ends = 0.0, []
for maps, size, depth in zip([first[0], *seen, last[0]], sizes, depths, strict=True):
    wide = 1.4 * size
    ax = fig.add_axes((across / 10.5, (3.05 - wide - 0.55 * depth) / 3.3, wide / 10.5, wide / 3.3))
    ax.imshow(show.sheet(maps if len(maps) == 3 else colours(maps)))
    ax.set_axis_off()
    ax.set_title(" x ".join(map(str, maps.shape)), fontsize=11, loc="center", pad=4)
    ends.append((across / 10.5, (across + wide) / 10.5))
    across += wide + 0.1
for a, b, y in ((1, 7, 2.95), (2, 6, 2.4)):
    fig.add_artist(FancyArrowPatch((ends[a][1] + 0.01, y / 3.3), (ends[b][0] - 0.01, y / 3.3), arrowstyle="->",
                                   mutation_scale=14, linewidth=1.5, color="0.4"))  # fmt: skip
fig.text(0.49, 3.02 / 3.3, "skip connections", ha="center", fontsize=11)
show.figure(fig, f"From a noisy picture (left, t = {at}) to the guess of the clean one (right): down to small "
            "maps that are many, and up again. The numbers are channels x height x width.")  # fmt: skip

# %% [markdown]
# That shape gives the U-Net its name (Ronneberger et al. 2015, [arXiv 1505.04597](https://arxiv.org/abs/1505.04597),
# who found cells in microscope pictures with it). At the bottom there are 8 x 8 places; each stands for a piece of
# the picture, and knows what is in it. On the way up this is spread over the pixels again.
#
# ## What must a denoiser be able to do?
#
# 1. **Answer for each pixel.** What goes in has the shape of what comes out, and pixels must not be mixed up: the
#    noise of pixel (7, 12) is wanted at (7, 12).
# 2. **Look near and far.** The colour of a pixel is told by its neighbours. Whether the thing is a star is told from
#    afar. And the two ends of a square have to agree.
# 3. **Know how noisy it is.** The same grey speck is noise in a clean picture and a good hint in a noisy one.
#
# The third sounds like a luxury: can it not see that by itself? Let us lie to the network about $t$.

# %%
truths, told = (150, 400, 600), (20, 150, 400, 600, 800)
rows = [[noisy(t)[0]] + [guess(shipped, noisy(t), s)[0] for s in told] for t in truths]
fig = show.strip(rows, [f"t = {t}" for t in truths], columns=["x", *(f"told {s}" for s in told)])
show.figure(fig, "Its guess of the clean picture, told the truth and lies. Told less noise, it leaves the rest in; "
            "told more, it invents. Where row and column agree the guess is clean.")  # fmt: skip

# %% [markdown]
# It believes what it is told. So $t$ goes in as a second argument, and has to reach every block.
#
# ## Telling the time
#
# How do we give a network a number? As it is: one input that runs from 0 to 999? Then 500 and 501 are nearly the same
# to it, and a layer of smooth functions has a hard time to do different things at both. The way out is old: **look at
# a clock.** The hand for seconds tells close times apart and says nothing of the hour; the hand for hours does the
# opposite. With many hands that turn at different speeds $\omega_i$ every $t$ has a face of its own. A hand is a
# point on a circle, so two numbers:
#
# $$\gamma(t) = \big(\cos \omega_0 t, \;\dots,\; \cos \omega_{h-1} t, \;\; \sin \omega_0 t, \;\dots,\;
# \sin \omega_{h-1} t \big), \qquad \omega_i = 10000^{-i/h}$$
#
# (Ho et al. 2020, [arXiv 2006.11239](https://arxiv.org/abs/2006.11239), appendix B, after Vaswani et al. 2017, [arXiv
# 1706.03762](https://arxiv.org/abs/1706.03762), section 3.5.) The first hand turns once in 6.3 steps, the last not
# even once in 10,000. Programs write $\omega_i = e^{-\ln(10000)\, i / h}$, which is the same.
#
# There is more in it than "all different". The product of two faces is $\sum_i \cos \omega_i t \cos \omega_i s + \sin
# \omega_i t \sin \omega_i s$, and by the theorem of addition that is $\sum_i \cos \omega_i (t - s)$. **How alike two
# times are depends only on how far apart they are.** Nobody had to learn that.

# %%
def my_embedding(t, dim):
    hands = [t.float() * math.exp(-math.log(10000) * i / (dim // 2)) for i in range(dim // 2)]
    return torch.stack([hand.cos() for hand in hands] + [hand.sin() for hand in hands], dim=1)  #  (b,) -> (b, dim)


check.same(my_embedding, layers.timestep_embedding)
faces = my_embedding(torch.arange(1000), 32)
speeds = torch.exp(-math.log(10000) * torch.arange(16) / 16)
alike = faces @ faces.T  #                                                               (1000, 1000)
by_theorem = (600 * speeds).cos().sum()
check.agree("faces of 700 and 100, and the sum over cos(600 w)", alike[700, 100], by_theorem, within=1e-3)

fig, axes = plt.subplots(1, 2, figsize=(10.5, 3.4), width_ratios=(1.15, 1))
axes[0].imshow(faces.T, aspect="auto", cmap="PuOr", interpolation="nearest")
axes[0].set(xlabel="t", yticks=[0, 8, 24], title="the face of each t")
axes[0].set_yticklabels(["fast", "cosines", "sines"])
many = my_embedding(torch.arange(1000), 256)
for t in (250, 700):
    axes[1].plot(many[t] @ many.T / 128, linewidth=1.5, label=f"t = {t}")
axes[1].set(xlabel="s", title="how alike the faces of s and t are (128 hands)", ylim=(0, 1.05))
axes[1].legend(loc="upper center")
show.figure(fig, "Left: 16 hands as 32 numbers, for every t; in each half the hands get slower downwards. "
            "Right: the same curve around each t, only moved.")  # fmt: skip

# %% [markdown]
# The face goes through two linear layers with a SiLU between (the activation of lesson 01), and then every block is
# given the result.

# %% [markdown] tags=["exercise"]
# ### 06.time: another school's clock
#
# Write your answer in place of the dots and run the cell. Its last line looks at what you wrote: a tick, or what is
# amiss and on which input. `check.hint("06.time")` gives a hint, and a clearer one each time. Whatever you write, the
# notebook runs on.
#
# You want to load weights of somebody else, and his clock is another one: in the program of Ho et al. the sines stand
# first, and $i$ is divided not by $h$ but by $h - 1$, so that the last hand turns with exactly 1/10000. Write
# `embed(t, dim, cosines_first, shift)` for all such clocks: `t` is (b,), the answer (b, dim), with $h$ = dim/2 hands
# and
#
# $$\omega_i = e^{-\ln(10000)\; i / (h - \mathrm{shift})}, \qquad i = 0, \dots, h - 1,$$
#
# all cosines and then all sines if `cosines_first` is True, else all sines and then all cosines.

# %% tags=["exercise"]
def embed(t, dim, cosines_first, shift):
    # BEGIN SOLUTION
    half = dim // 2
    speeds = torch.exp(-math.log(10000) * torch.arange(half) / (half - shift))
    angle = t[:, None].float() * speeds  #                                                 (b, half)
    both = [angle.cos(), angle.sin()] if cosines_first else [angle.sin(), angle.cos()]
    return torch.cat(both, dim=1)  #                                                       (b, dim)
    # END SOLUTION


check.exercise("06.time", embed)

# %% [markdown] tags=["solution"]
# `t[:, None]` makes a column of the times, and a column times a row is a table: each time with each speed. The
# swapped halves are a real fault that real pictures suffered from ([flashinfer
# #3819](https://github.com/flashinfer-ai/flashinfer/pull/3819)): everything stays sharp, only the picture no longer
# obeys. Nothing in the file of weights says which clock they were trained with.

# %% [markdown]
# ## A convolution is a matrix product
#
# The work is done by convolutions: each output pixel is a weighted sum over a window of 3 x 3 input pixels in all
# channels, and **the weights are the same everywhere**. Cut out all windows, lay each one down as a column, and it is
# one matrix product. Now we can count. The matrix has $9\, c_\text{in}\, c_\text{out}$ numbers, and there are
# $c_\text{out}$ biases. Each of the $h w$ columns costs a multiplication and an addition for each number of the
# matrix:
#
# $$\text{parameters} = 9\, c_\text{in}\, c_\text{out} + c_\text{out}, \qquad
# \text{FLOPs} = 2 \cdot 9\, c_\text{in}\, c_\text{out} \cdot h w .$$
#
# (*FLOPs* are floating point operations. Beware: some count a multiplication with its addition as one, a *MAC*, and
# have half of our numbers. Biases and everything that is not a product are left out by custom.)
#
# How far does it see? The *receptive field* of an output pixel is what it depends on, and a gradient tells: **ask
# which input pixels the output moves with.** One layer sees 3 x 3, and each further layer one pixel more on every
# side: $1 + 2n$ after $n$ layers. To see 32 pixels across takes 16 layers. But halve the picture after each layer,
# and the next one's pixels are twice as far apart: $1 + 2\,(1 + 2 + 4 + \dots) = 2^{n+1} - 1$. Five layers.

# %%
def my_conv(x, weight, bias):
    """A 3x3 convolution: (b, c_in, h, w) -> (b, c_out, h, w)."""
    windows = F.unfold(x, 3, padding=1)  #                                               (b, 9 c_in, h*w)
    return (weight.flatten(1) @ windows + bias[:, None]).unflatten(2, x.shape[2:])


x, weight, bias = draw(2, 4, 8, 8), draw(6, 4, 3, 3, seed=1), draw(6, seed=2)
with FlopCounterMode(display=False) as counter:
    theirs = F.conv2d(x, weight, bias, padding=1)
check.agree("windows times matrix, and conv2d", my_conv(x, weight, bias), theirs)
check.agree("FLOPs by formula and as counted", 2 * 9 * 4 * 6 * 64 * len(x), counter.get_total_flops(), within=0)


def reach(depth, halve):
    """Where the middle pixel looks, after `depth` layers of equal weights: the gradient (65, 65)."""
    x = torch.zeros(1, 1, 65, 65, requires_grad=True)
    y = x
    for i in range(depth):  # windows whose pixels lie 2^i apart are those of a picture halved i times
        apart = 2**i if halve else 1
        y = F.conv2d(y, torch.full((1, 1, 3, 3), 1 / 9), padding=apart, dilation=apart)
    return torch.autograd.grad(y[0, 0, 32, 32], x)[0][0, 0]


fig, axes = plt.subplots(2, 5, figsize=(10, 4.5))
for row, halve in zip(axes, (False, True), strict=True):
    for ax, depth in zip(row, range(1, 6), strict=True):
        field = reach(depth, halve)
        side = int((field[32] != 0).sum())
        assert side == (2 ** (depth + 1) - 1 if halve else 1 + 2 * depth)  # the formulas
        ax.imshow(field / field.max(), cmap="Purples", vmin=-0.12, interpolation="nearest")
        ax.set(xticks=[], yticks=[], title=f"{depth} layer{'s' * (depth > 1)}: {side}")
        ax.spines[:].set_visible(False)
for ax, name in zip(axes[:, 0], ("same size", "halved each time"), strict=True):
    ax.set_ylabel(name)
show.figure(fig, "The pixels, of 65 x 65, that the middle one depends on, by gradient. The numbers are the formulas'.")
print(f"5 layers of the same size: {reach(5, False).sum(0)[29:36].sum():.0%} of the gradient within 7 columns of 11")

# %% [markdown]
# That is why the network goes *down*: on small maps far is near, and a layer costs a quarter. And see how faint the
# border is: a field that is 11 wide on paper is about 7 wide in truth, and the longer the stack, the worse (Luo et
# al. 2016, [arXiv 1701.04128](https://arxiv.org/abs/1701.04128), show that it grows like the *root* of the depth).
# Keep that in mind.
#
# ## Keeping the numbers in order
#
# Behind each layer numbers grow or shrink a little, and after fifty layers "a little" is a factor of a thousand. So
# they are brought back to mean 0 and variance 1. Over which numbers the mean is taken has a name each. The U-Net
# takes **GroupNorm**: of *one* picture, a *group* of neighbouring channels, all places:
#
# $$y = \gamma_c\, \frac{x - \mu}{\sqrt{v + \varepsilon}} + \beta_c, \qquad
# \mu = \frac1m \sum_{i \in \text{group}} x_i, \qquad v = \frac1m \sum_{i \in \text{group}} (x_i - \mu)^2$$
#
# (Wu & He 2018, [arXiv 1803.08494](https://arxiv.org/abs/1803.08494).) $\gamma$ and $\beta$ are learned, one of each
# per channel, and $\varepsilon$ is a small number against dividing by 0. Why not BatchNorm, as everywhere else at
# that time? In a training batch each picture has another $t$, and a nearly clean picture should not be judged by its
# noisy neighbours. And when we sample there is one picture, or four.

# %%
x = 3 + 5 * draw(2, 8, 16, 16, seed=3)
y = F.group_norm(x, 4)  # 4 groups of 2 channels
groups = y.unflatten(1, (4, 2))  #                                                       (2, 4, 2, 16, 16)
check.agree("mean of each group, and 0", groups.mean((2, 3, 4)), torch.zeros(2, 4), within=1e-5)
check.agree("variance of each group, and 1", groups.var((2, 3, 4), correction=0), torch.ones(2, 4), within=1e-4)

kinds = {"BatchNorm": ("all", "one"), "LayerNorm": ("one", "all"), "InstanceNorm": ("one", "one"),
         "GroupNorm": ("one", "group")}  # fmt: skip
fig, axes = plt.subplots(1, 4, figsize=(10, 2.9))
for ax, (name, (pictures, channels)) in zip(axes, kinds.items(), strict=True):
    for i in range(4):
        for c in range(6):
            chosen = (pictures == "all" or i == 0) and (channels == "all" or c < {"one": 1, "group": 3}[channels])
            ax.add_patch(Rectangle((c, 3 - i), 0.9, 0.9, color=show.PALETTE["purple" if chosen else "blue"],
                                   alpha=1.0 if chosen else 0.18))  # fmt: skip
    ax.set(xlim=(0, 6), ylim=(0, 4), xticks=[], yticks=[], aspect="equal", title=name, xlabel="channels")
    ax.spines[:].set_visible(False)
axes[0].set_ylabel("pictures")
show.figure(fig, "Dark: what is brought to mean 0 and variance 1 together. Each square is a whole map.")

# %% [markdown] tags=["exercise"]
# ### 06.group_norm: the formula above
#
# Write `group_norm(x, groups, weight, bias, eps)` without PyTorch's own: `x` is (b, c, h, w), its c channels are cut
# into `groups` groups of neighbours, and `weight` and `bias`, (c,), are $\gamma$ and $\beta$. The check uses a large
# `eps`, too, and pictures that are as wide as they have channels.

# %% tags=["exercise"]
def group_norm(x, groups, weight, bias, eps):
    # BEGIN SOLUTION
    b, c, h, w = x.shape
    y = x.reshape(b, groups, -1)  #                                                      (b, groups, c/groups*h*w)
    mean = y.mean(2, keepdim=True)
    variance = ((y - mean) ** 2).mean(2, keepdim=True)
    y = (y - mean) / (variance + eps).sqrt()
    return y.reshape(b, c, h, w) * weight[:, None, None] + bias[:, None, None]
    # END SOLUTION


check.exercise("06.group_norm", group_norm)

# %% [markdown] tags=["solution"]
# Neighbouring channels lie one behind the other in memory, so one `reshape` collects a whole group. `torch.var` would
# divide by $m - 1$ by default, which is another number ([pytorch
# #22617](https://github.com/pytorch/pytorch/issues/22617): somebody was sure that GroupNorm was wrong). Where
# $\varepsilon$ stands has been argued over, too ([group_normalization
# #1](https://github.com/taokong/group_normalization/issues/1)): "equivalent" it is not, as the check shows.

# %% [markdown]
# ## A block that may do nothing
#
# Now the brick of which the house is built. Two convolutions, each after a norm and a SiLU; in between the time is
# added, one number per channel; and around all a *shortcut*:
#
# $$\text{block}(x, t) = x + F(x, t)$$
#
# (He et al. 2016, [arXiv 1512.03385](https://arxiv.org/abs/1512.03385); with the time, Ho et al. 2020, appendix B.)
# Why the shortcut? A stack of layers finds it hard to learn to leave things as they are. With $x +$ in front, doing
# nothing is $F = 0$, and the gradient of the last block reaches the first one straight through all the $+$. Where the
# number of channels changes, $x$ cannot be added, and a 1 x 1 convolution adapts it.
#
# The names of the parts are not our choice. They are the names in the published files of weights, and so our class
# will be able to load them.

# %%
class MyResnet(nn.Module):
    def __init__(self, c_in, c_out, groups, eps, time_dim):
        super().__init__()
        self.norm1 = nn.GroupNorm(groups, c_in, eps)
        self.conv1 = nn.Conv2d(c_in, c_out, 3, padding=1)
        self.time_emb_proj = nn.Linear(time_dim, c_out)
        self.norm2 = nn.GroupNorm(groups, c_out, eps)
        self.conv2 = nn.Conv2d(c_out, c_out, 3, padding=1)
        if c_in != c_out:
            self.conv_shortcut = nn.Conv2d(c_in, c_out, 1)

    def forward(self, x, time):
        h = self.conv1(F.silu(self.norm1(x)))
        h = h + self.time_emb_proj(F.silu(time))[:, :, None, None]  #    (b, c_out) -> (b, c_out, 1, 1): all places
        h = self.conv2(F.silu(self.norm2(h)))
        return h + (self.conv_shortcut(x) if hasattr(self, "conv_shortcut") else x)


check.same(MyResnet, layers.ResnetBlock)  # of classes, with the same weights in both

block, x = MyResnet(16, 16, 4, 1e-5, 32), draw(1, 16, 8, 8, seed=4)
with torch.no_grad():
    block.conv2.weight.zero_()
    block.conv2.bias.zero_()
    check.agree("a block whose last convolution is 0, and its input", block(x, draw(1, 32, seed=5)), x, within=0)


def learn_to_copy(keep, steps=50):
    """Trains a chain of 8 blocks to return what it is given; with keep = 0 the shortcuts are taken out."""
    torch.manual_seed(0)
    chain = nn.ModuleList(MyResnet(8, 8, 4, 1e-5, 16) for _ in range(8))
    optimizer, losses = torch.optim.Adam(chain.parameters(), lr=2e-3), []
    for step in range(steps):
        x = y = draw(8, 8, 8, 8, seed=step)
        for block in chain:
            y = block(y, torch.zeros(8, 16)) - (1 - keep) * y
        loss = (y - x).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


fig, ax = plt.subplots(figsize=(7.5, 2.8))
for name, keep in (("with shortcuts", 1.0), ("without", 0.0)):
    ax.plot(learn_to_copy(keep), label=name)
ax.axhline(1, color="black", linestyle=":", linewidth=1.5, label="always answer 0")
ax.set(xlabel="steps of training", title="squared error of a copy", ylim=(0, 1.6))
ax.legend(loc="upper left", bbox_to_anchor=(1, 1))
show.figure(fig, "Eight blocks learn to change nothing. Without shortcuts they have not even begun after 50 steps.")

# %% [markdown]
# "Last convolution 0" is used in earnest: the program of Ho et al. starts each block's last convolution [at
# 0](https://github.com/hojonathanho/diffusion/blob/master/diffusion_tf/models/unet.py), so that a new network of any
# depth begins as "change nothing".

# %% [markdown] tags=["exercise"]
# ### 06.count: how large, how dear?
#
# Without building it: how many parameters has the block above, and how many FLOPs does it take for one picture? Write
# `count(c_in, c_out, time_dim, side)` for maps of `side` by `side` pixels, and return the two numbers, `(parameters,
# flops)`. Count as above: convolutions and linear layers have a bias, a norm has $\gamma$ and $\beta$ per channel; of
# FLOPs only the products count, two for each number of a matrix. The time is one vector for the whole picture.

# %% tags=["exercise"]
def count(c_in, c_out, time_dim, side):
    # BEGIN SOLUTION
    convs = [(9 * c_in, c_out), (9 * c_out, c_out)]  # numbers in a window, and channels made of them
    if c_in != c_out:
        convs.append((c_in, c_out))
    parameters = sum(inside * made + made for inside, made in convs)
    parameters += time_dim * c_out + c_out
    parameters += 2 * c_in + 2 * c_out
    flops = sum(2 * inside * made * side**2 for inside, made in convs) + 2 * time_dim * c_out
    return parameters, flops
    # END SOLUTION


check.exercise("06.count", count)

# %% [markdown] tags=["solution"]
# The check builds the block, counts its numbers, and counts the products of each layer while it runs. The shortcut is
# the part that is forgotten: it is there only if the number of channels changes. Twice as many channels are four
# times the price; twice the side, too.

# %% [markdown]
# ## Down, up, and across
#
# **Down** is a convolution with stride 2, which calculates every second pixel only. **Up** repeats each pixel 2 x 2
# times and smooths that by a convolution. And now the trouble: what went down to 8 x 8 has forgotten where exactly it
# was. But the answer is wanted *for each pixel*.
#
# So the way down leaves every map behind, on a pile. The way up takes them from the top of the pile, **last one
# first**, and *concatenates*: puts it behind its own channels. These are the *skip connections*, the bars across the
# U. Its own maps say what it is, the skip says where.

# %% [markdown] tags=["exercise"]
# ### 06.skip: the way through a U
#
# Write `through(x, down, middle, up)`:
# - `down` is a list of functions; each is given the map of the one before, the first one `x`, and **what it returns
#   is left behind**;
# - `middle` is one function;
# - `up` is a list of functions, as many as in `down`, in the order in which they are called. Each is given one
#   tensor: what has come up so far, and behind it, along the channels of (b, c, h, w), the map that was left behind
#   last and is not used yet.
#
# Return what the last one returns.

# %% tags=["exercise"]
def through(x, down, middle, up):
    # BEGIN SOLUTION
    pile = []
    for block in down:
        x = block(x)
        pile.append(x)
    x = middle(x)
    for block in up:
        x = block(torch.cat([x, pile.pop()], dim=1))
    return x
    # END SOLUTION


check.exercise("06.skip", through)

# %% [markdown] tags=["solution"]
# `append` and `pop` are a pile: last in, first out. Popping from `up` itself, or reversing `down` in place, would
# spoil the caller's lists. Which comes first in the concatenation is a matter of custom, and yet nothing may be
# changed about it: weights that were trained for "own maps first" make nonsense of the other order, and no shape
# tells.

# %% [markdown]
# ## Attention: everybody asks everybody
#
# The two ends of a square have to agree, and convolutions pass a message on from neighbour to neighbour. *Attention*
# is the direct line. Take the 64 places of an 8 x 8 map as 64 *tokens*, vectors of $d$ numbers. Each sends out a
# question, the *query* $q$; each holds up a sign, the *key* $k$; and each has something to tell, the *value* $v$. All
# three come from its vector by three matrices. How well a sign answers a question is measured by $q \cdot k$, and
# what a place learns is the average of all values, weighted by that:
#
# $$\mathrm{Attention}(Q, K, V) = \mathrm{softmax}\Big( \frac{Q K^\top}{\sqrt d} \Big)\, V$$
#
# (Vaswani et al. 2017, eq. 1.) First as it is said, by loops; then as it is written; then PyTorch's own.

# %%
def by_loops(q, k, v):
    """q, k, v: (n, d), one row for each token."""
    out = torch.zeros_like(v)
    for i in range(len(q)):  # each place asks
        fits = [torch.dot(q[i], k[j]) / math.sqrt(q.shape[1]) for j in range(len(k))]
        loud = [math.exp(fit) for fit in fits]
        for j in range(len(k)):
            out[i] += loud[j] / sum(loud) * v[j]
    return out


def by_matrix(q, k, v):
    """(..., n, d), (..., m, d), (..., m, d) -> (..., n, d); and who looked at whom, (..., n, m)."""
    look = (q @ k.mT / math.sqrt(q.shape[-1])).softmax(-1)  # mT: rows and columns change places
    return look @ v, look


q, k, v = draw(3, 20, 16, seed=7, dtype=torch.float64)
mine, look = by_matrix(q, k, v)
check.agree("loops and matrix product", by_loops(q, k, v), mine, within=1e-9)
check.agree("matrix product and PyTorch's own", mine, F.scaled_dot_product_attention(q, k, v), within=1e-9)
check.agree("what each place hands out, and 1", look.sum(-1), torch.ones(20), within=1e-9)
mixed = torch.randperm(20, generator=torch.Generator().manual_seed(0))
check.agree("tokens mixed before, and after", by_matrix(q[mixed], k[mixed], v[mixed])[0], mine[mixed], within=1e-9)

widths, throws = (4, 16, 64, 256, 1024), {}
for d in widths:
    scores = (draw(2000, 1, d, seed=8) @ draw(2000, d, 64, seed=9))[:, 0]  #            (2000, 64)
    throws[d] = scores.var().item(), scores.softmax(1).amax(1).mean().item(), (
        (scores / math.sqrt(d)).softmax(1).amax(1).mean().item())  # fmt: skip
fig, axes = plt.subplots(1, 2, figsize=(10, 3.1))
axes[0].loglog(widths, [throws[d][0] for d in widths], "o-", label="measured")
axes[0].loglog(widths, widths, "k:", label="d")
axes[0].set(xlabel="d", title="variance of q . k")
axes[0].legend()
axes[1].semilogx(widths, [throws[d][1] for d in widths], "o-", label="without the root")
axes[1].semilogx(widths, [throws[d][2] for d in widths], "o-", label="with it")
axes[1].set(xlabel="d", title="largest of 64 weights, on average", ylim=(0, 1.02))
axes[1].legend(loc="lower right", bbox_to_anchor=(1, 0.15))
show.figure(fig, "Why the root of d. Without it wide tokens look at one other token only, before anything is learned.")

# %% [markdown]
# The $\sqrt d$ is again the rule of lesson 04: $q \cdot k$ is a sum of $d$ products that know nothing of each other,
# each of variance 1, so it has variance $d$ (Vaswani et al. 2017, section 3.2.1). Divided by the root it has variance
# 1 for any $d$. Without, softmax gets numbers like $\pm 30$, picks one token and stops learning, since its slope
# there is 0.
#
# The line "tokens mixed" is worth a thought. Mix up the tokens, and the answers come mixed up in the same way:
# attention is *permutation-equivariant*. It has no idea who is whose neighbour. In a U-Net it need not: the
# convolutions around it have told the tokens where they are (they know the border by its zeros).
#
# One question per place is little. So the $d$ numbers are cut into *heads* of equal width, each has its own
# attention, and the answers are put together again (Vaswani et al. 2017, section 3.2.2).

# %% [markdown] tags=["exercise"]
# ### 06.attention: several heads
#
# Write `attention(q, k, v, heads)` with several heads, without PyTorch's own: `q` is (b, n, d), `k` and `v` are (b,
# m, d). Head 0 has the first d / heads numbers of each token, head 1 the next, and so on; each head does what is
# written above with *its* numbers. Return (b, n, d), the heads' answers in the same order.

# %% tags=["exercise"]
def attention(q, k, v, heads):
    # BEGIN SOLUTION
    q, k, v = (tokens.unflatten(-1, (heads, -1)).transpose(1, 2) for tokens in (q, k, v))  # (b, heads, n, d/heads)
    scores = q @ k.mT / math.sqrt(q.shape[-1])  #                                            (b, heads, n, m)
    out = scores.softmax(dim=-1) @ v
    return out.transpose(1, 2).flatten(2)  #                                                 (b, n, d)
    # END SOLUTION


check.exercise("06.attention", attention)

# %% [markdown] tags=["solution"]
# `unflatten` cuts the last axis in two, `transpose` brings the heads to the front, where a matrix product leaves them
# alone; and at the end the way back. The transposes are what goes wrong. `reshape(b, heads, n, -1)` in one go has the
# right shape and mixes up tokens, and many published programs had it ([transformer-from-scratch
# #6](https://github.com/jsbaan/transformer-from-scratch/pull/6)). The root is of a *head's* width, since that is what
# is summed over ([vit-pytorch #65](https://github.com/lucidrains/vit-pytorch/issues/65)).

# %% [markdown]
# Now as a layer, with its three matrices, and one more at the end. With a second argument the questions come from the
# picture and the signs and values from elsewhere, from the words of a prompt: **cross-attention** (Rombach et al.
# 2022, [arXiv 2112.10752](https://arxiv.org/abs/2112.10752), section 3.3). Nothing else changes; lesson 11 goes on
# from there.

# %%
class MyAttention(nn.Module):
    def __init__(self, dim, heads, context_dim=None):
        super().__init__()
        self.heads = heads
        self.to_q = nn.Linear(dim, dim, bias=False)
        self.to_k = nn.Linear(context_dim or dim, dim, bias=False)
        self.to_v = nn.Linear(context_dim or dim, dim, bias=False)
        self.to_out = nn.ModuleList([nn.Linear(dim, dim)])

    def forward(self, x, context=None):
        context = x if context is None else context
        q, k, v = self.to_q(x), self.to_k(context), self.to_v(context)  #                (b, n, d) and (b, m, d)
        each = [by_matrix(*parts) for parts in zip(*(y.chunk(self.heads, dim=-1) for y in (q, k, v)), strict=True)]
        self.look = torch.stack([look for _, look in each], dim=1)  # to show it later:  (b, heads, n, m)
        return self.to_out[0](torch.cat([out for out, _ in each], dim=-1))


check.same(MyAttention, layers.Attention)

# %% [markdown]
# ## All of it
#
# Attention alone is not enough; it comes in a *transformer block*: self-attention, cross-attention if there
# are words, then a small network for each token by itself. Each has a norm before it and a shortcut around it: the
# idea of "doing nothing is easy" again. The small network has a gate, one half of its numbers switching the other
# (GEGLU, Shazeer 2020, [arXiv 2002.05202](https://arxiv.org/abs/2002.05202), eq. 5).
#
# And then the U. Read `forward` of `MyUNet` slowly, there is nothing in it that you have not met. `left` is the pile
# of the exercise. Note how `__init__` finds out how many channels come in on the way up: it keeps a pile of numbers
# in the same way.

# %%
class MyTransformer(nn.Module):
    """Places of a map as tokens, through blocks of attention and back: (b, c, h, w) -> (b, c, h, w)."""

    def __init__(self, c, layers, heads, config):
        super().__init__()
        self.norm = nn.GroupNorm(config.norm_num_groups, c, eps=1e-6)
        self.linear = config.linear_projection  # Stable Diffusion 1 has a 1x1 convolution there: the same sums
        self.proj_in, self.proj_out = (nn.Linear(c, c) if self.linear else nn.Conv2d(c, c, 1) for _ in range(2))
        self.transformer_blocks = nn.ModuleList()
        for _ in range(layers):
            gate = nn.ModuleDict({"proj": nn.Linear(c, 8 * c)})
            net = nn.ModuleList([gate, nn.Identity(), nn.Linear(4 * c, c)])
            parts = {"norm1": nn.LayerNorm(c), "attn1": MyAttention(c, heads), "norm3": nn.LayerNorm(c)}
            if config.context_dim:
                parts |= {"norm2": nn.LayerNorm(c), "attn2": MyAttention(c, heads, config.context_dim)}
            self.transformer_blocks.append(nn.ModuleDict(parts | {"ff": nn.ModuleDict({"net": net})}))

    def project(self, layer, x):  #                                                      (b, n, c) -> (b, n, c)
        return layer(x) if self.linear else layer(x.mT[..., None])[..., 0].mT

    def forward(self, x, context):
        y = self.project(self.proj_in, self.norm(x).flatten(2).mT)  #                    (b, h*w, c)
        for block in self.transformer_blocks:
            y = y + block["attn1"](block["norm1"](y))
            if context is not None:
                y = y + block["attn2"](block["norm2"](y), context)
            gate, _, out = block["ff"]["net"]
            value, switch = gate["proj"](block["norm3"](y)).chunk(2, dim=-1)
            y = y + out(value * F.gelu(switch))
        return x + self.project(self.proj_out, y).mT.unflatten(2, x.shape[2:])


class MyUNet(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.config = config
        c, n, groups = config.block_out_channels, config.layers_per_block, config.norm_num_groups
        below = len(c) - 1

        def stage(pairs, level, layers):  # resnets, and a transformer after each where the level has any
            return nn.ModuleDict({
                "resnets": nn.ModuleList(MyResnet(a, b, groups, 1e-5, 4 * c[0]) for a, b in pairs),
                "attentions": nn.ModuleList(MyTransformer(c[level], layers, config.heads[level], config)
                                            for _ in pairs if layers),
            })  # fmt: skip

        def scaler(level, stride):
            return nn.ModuleList([nn.ModuleDict({"conv": nn.Conv2d(c[level], c[level], 3, stride, padding=1)})])

        self.time_embedding = nn.ModuleDict(
            {"linear_1": nn.Linear(c[0], 4 * c[0]), "linear_2": nn.Linear(4 * c[0], 4 * c[0])}
        )
        self.conv_in = nn.Conv2d(config.in_channels, c[0], 3, padding=1)
        self.down_blocks, self.up_blocks, left, now = nn.ModuleList(), nn.ModuleList(), [c[0]], c[0]
        for level, wide in enumerate(c):
            block = stage([(now, wide)] + [(wide, wide)] * (n - 1), level, config.transformer_layers[level])
            if level < below:
                block["downsamplers"] = scaler(level, stride=2)
            self.down_blocks.append(block)
            left, now = left + [wide] * (n + (level < below)), wide
        self.mid_block = stage([(now, now)], below, config.mid_layers)
        self.mid_block["resnets"].append(MyResnet(now, now, groups, 1e-5, 4 * c[0]))
        for level in reversed(range(len(c))):
            pairs = []
            for _ in range(n + 1):
                pairs, now = pairs + [(now + left.pop(), c[level])], c[level]
            block = stage(pairs, level, config.transformer_layers[level])
            if level:
                block["upsamplers"] = scaler(level, stride=1)
            self.up_blocks.append(block)
        self.conv_norm_out = nn.GroupNorm(groups, c[0], eps=1e-5)
        self.conv_out = nn.Conv2d(c[0], config.out_channels, 3, padding=1)

    def forward(self, x, t, context=None):
        face = layers.timestep_embedding(t, self.config.block_out_channels[0]).to(x.dtype)
        time = self.time_embedding["linear_2"](F.silu(self.time_embedding["linear_1"](face)))

        def step(block, i, x):
            x = block["resnets"][i](x, time)
            return block["attentions"][i](x, context) if i < len(block["attentions"]) else x

        x = self.conv_in(x)
        left = [x]
        for block in self.down_blocks:
            for i in range(len(block["resnets"])):
                x = step(block, i, x)
                left.append(x)
            if "downsamplers" in block:
                x = block["downsamplers"][0]["conv"](x)
                left.append(x)
        for i in range(2):  # resnet, transformer, resnet
            x = step(self.mid_block, i, x)
        for block in self.up_blocks:
            for i in range(len(block["resnets"])):
                x = step(block, i, torch.cat([x, left.pop()], dim=1))
            if "upsamplers" in block:
                x = block["upsamplers"][0]["conv"](F.interpolate(x, size=left[-1].shape[2:]))
        return self.conv_out(F.silu(self.conv_norm_out(x)))


check.same(MyUNet, unet.UNet)

# %% [markdown]
# That is the U-Net of this library, and of Stable Diffusion 1 and 2. Not "like" it: **it loads their weights.** Twice
# we try it on models that came with the package, the one with pixels and the one with words and latents (`shapes`, of
# lessons 00 and 12). For Stable Diffusion 1.5 itself, 3.4 GB that we do not download, we build our network on the
# device `meta`, where tensors have a shape and no numbers, and compare all names and shapes. (Lesson 16 loads the
# numbers.)

# %%
mine = MyUNet(shipped.config).eval()
mine.load_state_dict(shipped.state_dict())  # strict: not one name may be missing or too many
words = weights.load("shapes")
telling = MyUNet(words.unet.config).eval()
telling.load_state_dict(words.unet.state_dict())
with torch.no_grad():
    x, t = noisy(at), torch.tensor([float(at)])
    check.agree("pixel model, mine and the library's", mine(x, t), shipped(x, t))
    z, context = draw(1, 4, 8, 8, seed=1), words.text(["a small red circle on white"])
    theirs = words.unet(z, t, context)
    check.agree("model with words, mine and the library's", telling(z, t, context), theirs, within=1e-4)
SD = UNetConfig()  # the defaults are Stable Diffusion 1.5
with torch.device("meta"):
    pair = [{name: tuple(p.shape) for name, p in kind(SD).state_dict().items()} for kind in (MyUNet, unet.UNet)]
assert pair[0] == pair[1]
print(f"Stable Diffusion 1.5: all {len(pair[0])} names and shapes are the same, such as")
for name in [*pair[0]][100:400:120]:
    print(f"  {name:75} {pair[0][name]}")

# %% [markdown]
# ## The ladder
#
# Here is what you have built, as a drawing. Each box is a map behind one block, **as high as the map is and as wide
# as it has channels**. Left the network of lesson 07, right Stable Diffusion's: the same drawing, other numbers.
# Follow one arrow with your finger, then the pile: the maps that are left first are used last.

# %%
HUE = {"as it comes in": "0.72", "residual block": show.PALETTE["blue"],
       "residual block and attention": show.PALETTE["orange"]}  # fmt: skip


def ladder(ax, config, side):
    """Draws the U of a network, for maps of `side` by `side` at the top."""
    c, n, plain, (grey, blue, orange) = config.block_out_channels, config.layers_per_block, 0.12, HUE.values()
    rows, high, out = [], 1.0, 0.0  # of each level: height, widths and hues on both ways, where it begins
    for level, wide in enumerate(c):
        hue = orange if config.transformer_layers[level] else blue
        down = [(c[max(level - 1, 0)], grey)] + [(wide, hue)] * n
        rows.append((high, [(0.55 * ch / max(c), h) for ch, h in down], [(0.55 * wide / max(c), hue)] * (n + 1), out))
        out += sum(w for w, _ in rows[-1][1]) * 0.6 + plain
        high /= 2
    half = max(out + sum(w + plain for w, _ in down) for _, down, _, out in rows) + 0.35
    top = 0.0
    for level, (high, down, up, out) in enumerate(rows):
        ends = []
        for sign, boxes in ((1, down), (-1, up[::-1])):
            x, ends_here = -sign * (half - out), []
            for wide, hue in boxes:
                ax.add_patch(Rectangle((min(x, x + sign * wide), top - high), wide, high, color=hue, linewidth=0))
                x += sign * wide
                ends_here.append(x)
                x += sign * plain
            ends.append(ends_here)
        for i, (a, b) in enumerate(zip(*ends, strict=True)):
            y = top - high * (i + 1) / (n + 2)
            ax.annotate("", (b, y), (a, y), zorder=0, arrowprops={"arrowstyle": "->", "color": "0.4", "linewidth": 1})
        ax.text(-half - 0.12, top - high / 2, f"{side // 2**level}", ha="right", va="center")
        ax.text(half + 0.12, top - high / 2, f"{c[level]}", ha="left", va="center")
        top -= high + 0.1
    wide = up[0][0]
    for i, hue in enumerate((blue, orange if config.mid_layers else blue, blue)):
        ax.add_patch(Rectangle(((i - 1.5) * wide + (i - 1) * 0.04, top - high), wide, high, color=hue, linewidth=0))
    ax.text(-half - 0.12, 0.12, "side", ha="right", va="bottom")
    ax.text(half + 0.12, 0.12, "channels", ha="center", va="bottom")
    ax.set(xlim=(-half - 0.7, half + 0.8), ylim=(top - high - 0.05, 0.4))
    ax.set_axis_off()


fig, axes = plt.subplots(1, 2, figsize=(10.5, 3.6))
for ax, config, side, name in ((axes[0], shipped.config, 32, "lesson 07"), (axes[1], SD, 64, "Stable Diffusion 1.5")):
    ladder(ax, config, side)
    ax.set_title(name, loc="center")
fig.legend([Rectangle((0, 0), 1, 1, color=hue) for hue in HUE.values()], HUE, loc="outside lower center", ncols=3)
show.figure(fig, "Two ladders. Behind the lowest level is the middle. Arrows are the skip connections. In Stable "
            "Diffusion all levels but the lowest have attention, to the picture itself and to the words.")  # fmt: skip

# %% [markdown]
# ## Where does it look?
#
# By formula every output pixel of these networks depends on every input pixel. By gradient we can ask how much. Take
# one pixel inside the blue cross and follow it through the blocks of the trained network: which input pixels does the
# map at that place move with, behind each block? And *through what*? We hold two things still in turn: the attention
# (its answers are replaced by 0) and the statistics of GroupNorm (mean and variance count as constants when the
# gradient is taken).

# %%
def held(layer, given, out):
    """GroupNorm with its mean and variance as constants."""
    x = given[0]
    groups = x.detach().unflatten(1, (layer.num_groups, -1))
    mean, var = (part.expand_as(groups).flatten(1, 2) for part in (
        groups.mean((2, 3, 4), keepdim=True), groups.var((2, 3, 4), correction=0, keepdim=True)))  # fmt: skip
    return (x - mean) / (var + layer.eps).sqrt() * layer.weight[:, None, None] + layer.bias[:, None, None]


STOPS = {"the first layer": mine.conv_in}
STOPS |= {f"down, {32 // 2**i} px": block["resnets"][0] for i, block in enumerate(mine.down_blocks)}
STOPS |= {"attention": mine.down_blocks[2]["attentions"][0], "middle": mine.mid_block["resnets"][1]}
STOPS |= {f"up, {8 * 2**i} px": block["resnets"][1] for i, block in enumerate(mine.up_blocks)}
STOPS |= {"answer": mine.conv_out}


def looks(t, place, attention=True, norms=True):
    """For each stop the gradient of its map at this place of the picture (row, column): {stop: (32, 32)}."""
    x, seen = noisy(t).requires_grad_(), {}
    hooks = [at.register_forward_hook(lambda layer, given, out, name=name: seen.update({name: out}))
             for name, at in STOPS.items()]  # fmt: skip
    for layer in mine.modules():
        if isinstance(layer, MyAttention) and not attention:
            hooks.append(layer.register_forward_hook(lambda layer, given, out: 0 * out))
        if isinstance(layer, nn.GroupNorm) and not norms:
            hooks.append(layer.register_forward_hook(held))
    mine(x, torch.tensor([float(t)]))
    for hook in hooks:
        hook.remove()
    fields = {}
    for name, out in seen.items():
        row, column = (p * out.shape[2] // 32 for p in place)
        slope = torch.autograd.grad(out[0, :, row, column].square().sum(), x, retain_graph=True)[0]
        fields[name] = slope[0].norm(dim=0)
    return fields


PLACE = (22, 19)  # row and column of a pixel in the cross
ways = {"convolutions": (False, False), "+ attention": (True, False), "+ GroupNorm": (True, True)}
away = (torch.arange(32)[:, None] - PLACE[0]).square() + (torch.arange(32) - PLACE[1]).square()
fig, axes = plt.subplots(3, len(STOPS), figsize=(11, 3.6))
for row, (name, (attention, norms)) in zip(axes, ways.items(), strict=True):
    for ax, (stop, field) in zip(row, looks(500, PLACE, attention, norms).items(), strict=True):
        shades = ((field / field.max()).clamp(min=1e-4).log10() * 3).round()  # three to a factor of ten
        ax.imshow(shades, cmap="magma", interpolation="nearest")
        ax.set(xticks=[], yticks=[])
        ax.spines[:].set_visible(False)
        if ax in axes[0]:
            ax.set_title(stop, fontsize=10, loc="center")
    far = field[away > 100].sum() / field.sum()
    print(f"{name:13} of the answer's gradient {far:4.0%} lies more than 10 pixels away")
    row[0].set_ylabel(name, fontsize=10)
show.figure(fig, "From left to right through the network: what one pixel of the cross depends on at t = 500. "
            "Yellow: most; three shades darker: a tenth of it; black: less than 1/10,000.")  # fmt: skip

# %% [markdown]
# Read the columns. The field grows by a few pixels a block while the maps are large, and in leaps when they are
# small: in the middle the convolutions alone have reached nearly everything, but unevenly, and the far corners stay
# dark. The *first attention* opens the whole picture at once, and behind the later ones (up, 8 px) you see whom it
# asked: the circle, the other thing in the picture. The last row has a surprise. With GroupNorm everything depends on
# everything **from the first block on**: faintly, but from so many pixels that it adds up to more than a quarter. A
# mean over all places is a message to all places. Few people think of it when they say that a convolution is local.
#
# What do the skips carry? Cut them, by putting zeros where they come in, and ask for the guess.

# %%
def without_skips(net, side):
    """Hooks that put zeros in the place of the skips at the level of this side."""
    level = {8: 0, 16: 1, 32: 2}[side]
    own = net.up_blocks[level]["resnets"][0].conv1.out_channels
    arriving = [net.up_blocks[max(level - 1, 0)]["resnets"][-1].conv1.out_channels, own]

    def cut(keep):
        return lambda layer, given: (torch.cat([given[0][:, :keep], 0 * given[0][:, keep:]], 1), *given[1:])

    return [resnet.register_forward_pre_hook(cut(keep))
            for resnet, keep in zip(net.up_blocks[level]["resnets"], arriving, strict=True)]  # fmt: skip


choices = {"all of it": (), "8 px cut": (8,), "16 px cut": (16,), "32 px cut": (32,), "all cut": (8, 16, 32)}
rows = []
for t in (200, 500):
    rows.append([noisy(t)[0]])
    for sides in choices.values():
        hooks = [hook for side in sides for hook in without_skips(mine, side)]
        rows[-1].append(guess(mine, noisy(t), t)[0])
        for hook in hooks:
            hook.remove()
show.figure(show.strip(rows, ["t = 200", "t = 500"], columns=["x", *choices]),
            "The trained network's guess, with some of its skips cut.")  # fmt: skip

# %% [markdown]
# Cut at the bottom, nothing happens to the eye: what comes up knows it anyway. Cut in the middle, shapes lose their
# insides. Cut at the top, **the noise stays in the picture**. To take noise away one has to know it pixel by pixel,
# and that knowledge lives at the full size alone. (A fair warning: this network was trained *with* its skips. One
# that was trained without would have learned to do better than this.)
#
# ## Who looks at whom
#
# The weights of attention can be seen. Here is the first one of our network, on its way down at 8 x 8: for three
# places that ask, what each of its four heads answers.

# %%
PARTS = {"on the way down": mine.down_blocks[2], "in the middle": mine.mid_block,
         "first on the way up": mine.up_blocks[0], "second on the way up": mine.up_blocks[0]}  # fmt: skip
TIMES = [0, 100, 200, 300, 400, 500, 600, 700, 800, 900]
LOOKS = {}  # (part, t) -> (4 heads, 64 who ask, 64 who are asked)
for t in TIMES:
    guess(mine, noisy(t), t)
    for name, part in PARTS.items():
        place = 1 if name.startswith("second") else 0
        LOOKS[name, t] = part["attentions"][place].transformer_blocks[0]["attn1"].look[0].detach()
check.agree("each of the 64 places shares out", torch.stack([*LOOKS.values()]).sum(-1), torch.ones(40, 4, 64))


def asking(axes, part, t, row, column):
    """Fills five axes: the noisy picture with the place that asks, and what the four heads look at."""
    axes[0].imshow(show.sheet(noisy(t)))
    axes[0].add_patch(Rectangle((4 * column - 0.5, 4 * row - 0.5), 4, 4, fill=False, linewidth=3))
    for ax, head in zip(axes[1:], LOOKS[part, t][:, 8 * row + column].unflatten(1, (8, 8)), strict=True):
        ax.imshow(head, cmap="magma", vmin=0)
        ax.add_patch(Rectangle((column - 0.5, row - 0.5), 1, 1, fill=False, edgecolor="white", linewidth=1.5))
    for ax in axes:
        ax.set_axis_off()


fig, axes = plt.subplots(3, 5, figsize=(8.6, 5.2))
for row, place in zip(axes, ((3, 2), (5, 5), (1, 5)), strict=True):
    asking(row, "on the way down", 300, *place)
for ax, name in zip(axes[0], ("who asks", *(f"head {i}" for i in range(4))), strict=True):
    ax.set_title(name, loc="center")
show.figure(fig, "The frame asks: a place in the circle, in the cross, in the background. Bright: where that head "
            "looks (each map in its own scale). t = 300.")  # fmt: skip

# %% [markdown]
# Nobody told it what a thing is. Yet heads 2 and 3 look at the cross when the circle or the background asks, and away
# from it when the cross does. It must have helped to guess the noise. Beware of reading too much into such pictures:
# a weight says where a value came from, and nothing of what that value says.
#
# ## Play: choose a place, see where it looks
#
# Drag the ring (or move it by the arrow keys), change the layer and the noise. Things to look for: a head that always
# looks at the same spot, whoever asks; a head that looks at neighbours; what the background does; and what becomes of
# it all when there is nothing but noise.

# %% tags=["explorer"] jupyter={"source_hidden": true}
BOX = (0.005, 0.01, 0.45, 0.88)  # of the picture, in the figure


def where(place, layer, t):
    across, up = place[0]
    column, row = min(int(across * 8), 7), min(int((1 - up) * 8), 7)
    fig = plt.figure(figsize=(7.6, 3.9), layout="none")
    corners = [(0.49 + 0.26 * i, 0.49 - 0.48 * j) for j in range(2) for i in range(2)]
    axes = [fig.add_axes(BOX)] + [fig.add_axes((x, y, 0.205, 0.4)) for x, y in corners]
    asking(axes, layer, round(t / 100) * 100, row, column)
    axes[0].set_aspect("auto")
    axes[0].set_title(f"row {row + 1}, column {column + 1} of 8, t = {t}")
    for i, ax in enumerate(axes[1:]):
        ax.set_title(f"head {i}, up to {LOOKS[layer, t][i, 8 * row + column].max():.0%}")
    return fig


looking = widgets.explorer(
    where, place=widgets.points([(0.3, 0.55)], ["the place that asks"], BOX), layer=[*PARTS], t=(0, 900, 100, 300)
)
widgets.show(looking, "Left the noisy picture, with the place that asks. Right where each of the four heads looks from "
             "there, and how much of its attention the brightest place gets.")  # fmt: skip

# %% [markdown]
# ## How large, how dear?
#
# Now the whole network by formula, with nothing but the rules from above. A linear layer has $d_\text{in}
# d_\text{out}$ numbers and as many products for each token. Attention has four of them, and between them no parameter
# at all, but two products of matrices: queries with keys, weights with values, $n \cdot m \cdot d$ products each.
# With $n = m = $ side² tokens that grows with **the fourth power of the side**, and so large maps have no attention
# if one has to save.
#
# The formula walks through the U as `MyUNet` does, with a pile of channels. Then two judges: `numel()` of the real
# network, and PyTorch's counter while it runs. They must agree to the last digit.

# %%
def conv(c_in, c_out, k, side):  # each of these: parameters, FLOPs
    return torch.tensor([k * k * c_in * c_out + c_out, 2 * k * k * c_in * c_out * side**2])


def linear(d_in, d_out, tokens, bias=True):
    return torch.tensor([d_in * d_out + bias * d_out, 2 * d_in * d_out * tokens])


def norm(c):
    return torch.tensor([2 * c, 0])


def resnet(c_in, c_out, time, side):
    shortcut = conv(c_in, c_out, 1, side) if c_in != c_out else 0
    ends = norm(c_in) + norm(c_out) + linear(time, c_out, 1)
    return ends + conv(c_in, c_out, 3, side) + conv(c_out, c_out, 3, side) + shortcut


def attending(c, side, blocks, context, words):
    n = side**2

    def one(d, m):
        own, theirs = linear(c, c, n, bias=False) + linear(c, c, n), 2 * linear(d, c, m, bias=False)
        return norm(c) + own + theirs + torch.tensor([0, 4 * n * m * c])

    block = one(c, n) + norm(c) + linear(c, 8 * c, n) + linear(4 * c, c, n)
    if context:
        block = block + one(context, words)
    return norm(c) + 2 * conv(c, c, 1, side) + blocks * block if blocks else torch.zeros(2, dtype=torch.int64)


def cost(config, side, words=77):
    """Parameters and FLOPs for one picture, part by part."""
    c, sides = config.block_out_channels, [side]
    time, left, now = 4 * c[0], [c[0]], c[0]
    found = {"in": linear(c[0], time, 1) + linear(time, time, 1) + conv(config.in_channels, c[0], 3, side)}

    def step(c_in, level):
        here = attending(c[level], sides[level], config.transformer_layers[level], config.context_dim, words)
        return resnet(c_in, c[level], time, sides[level]) + here

    for level, wide in enumerate(c):
        found[f"down {sides[-1]}"] = part = torch.zeros(2, dtype=torch.int64)
        for _ in range(config.layers_per_block):
            part += step(now, level)
            now = wide
            left.append(now)
        if level < len(c) - 1:
            sides.append((sides[-1] + 1) // 2)
            part += conv(wide, wide, 3, sides[-1])
            left.append(now)
    middle = attending(now, sides[-1], config.mid_layers, config.context_dim, words)
    found["middle"] = 2 * resnet(now, now, time, sides[-1]) + middle
    for level in reversed(range(len(c))):
        found[f"up {sides[level]}"] = part = torch.zeros(2, dtype=torch.int64)
        for _ in range(config.layers_per_block + 1):
            part += step(now + left.pop(), level)
            now = c[level]
        if level:
            part += conv(now, now, 3, sides[level - 1])
    found["out"] = norm(c[0]) + conv(c[0], config.out_channels, 3, side)
    return found


for name, config, side, count_of_words in (("pixel", shipped.config, 32, 0), ("shapes", telling.config, 8, 24),
                                           ("Stable Diffusion 1.5", SD, 64, 77)):  # fmt: skip
    with torch.device("meta"):  # shapes without numbers: nothing is computed, and everything is counted
        net = MyUNet(config)
        given = [torch.zeros(1, config.in_channels, side, side), torch.zeros(1)]
        given += [torch.zeros(1, count_of_words, config.context_dim)] if config.context_dim else []
        with FlopCounterMode(display=False) as counter:
            net(*given)
    parts = cost(config, side, count_of_words)
    parameters, flops = sum(parts.values()).tolist()
    assert parameters == sum(p.numel() for p in net.parameters()) and flops == counter.get_total_flops()
    print(f"{name:21} {parameters:11,} parameters, {flops:15,} FLOPs a look: formula and count agree")

fig, axes = plt.subplots(1, 2, figsize=(10.5, 3.4), sharey=True)
for ax, kind, unit, by in zip(axes, (0, 1), ("million parameters", "GFLOPs for one look"), (1e6, 1e9), strict=True):
    ax.barh(range(len(parts)), [part[kind].item() / by for part in parts.values()])
    ax.set(xlabel=unit, yticks=range(len(parts)))
    ax.set_yticklabels(parts)
axes[0].invert_yaxis()
show.figure(fig, "Stable Diffusion 1.5, part by part, in the order of the way. The numbers live at the bottom of "
            "the U, the work is done at the top.")  # fmt: skip

# %% [markdown]
# 859,520,964. Whoever started Stable Diffusion in its first years has seen the line "DiffusionWrapper has 859.52 M
# params" ([CompVis/stable-diffusion #688](https://github.com/CompVis/stable-diffusion/issues/688)): you have just found
# it with paper and pencil. And 0.8 TFLOPs for one look, one call of the network: with 50 steps and guidance, two looks
# a step, that is 80 TFLOPs for a picture, without the decoder. A processor with 100 GFLOPs a second needs a quarter of
# an hour; a graphics card with 50 TFLOPs a second, a second or two.
#
# ## Play: build one
#
# Width, depth, attention: watch which number moves. What is four times as dear when you double the width? What does
# not change at all when you double the side? And why is attention at 64 x 64 no good idea?

# %% tags=["explorer"] jupyter={"source_hidden": true}
FROM = {"nowhere": 0, "at the lowest level": 1, "at the two lowest": 2, "everywhere": 4}


def build(width, levels, blocks, side, attention):
    config = UNetConfig(
        in_channels=3, out_channels=3, block_out_channels=tuple(width * min(2**i, 4) for i in range(levels)),
        layers_per_block=blocks, context_dim=None, heads=(4,) * levels, norm_num_groups=8,
        transformer_layers=tuple(int(levels - i <= FROM[attention]) for i in range(levels)),
        mid_layers=int(attention != "nowhere"),
    )  # fmt: skip
    side = int(side)
    parameters, flops = sum(cost(config, side).values()).tolist()
    fig = plt.figure(figsize=(8.6, 4.3), layout="none")
    ladder(fig.add_axes((0.01, 0.01, 0.98, 0.82)), config, side)
    known = ((0.03, parameters, "parameters", 859_520_964), (0.53, flops, "FLOPs a look", 803_273_441_280))
    for x, count, unit, theirs in known:
        by, word = next(size for size in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")) if count >= size[0])
        fig.text(x, 0.93, f"{count / by:.3g} {word} {unit}", weight="bold")
        share = f"{count / theirs:.1f} times" if count > theirs else f"{count / theirs:.2g} of"
        fig.text(x, 0.87, f"{share} Stable Diffusion 1.5")
    return fig


built = widgets.explorer(build, width=(16, 320, 16, 32), levels=(1, 4, 1, 3), blocks=(1, 3, 1, 1),
                         side=["16", "32", "64", "128"], attention=[*FROM])  # fmt: skip
built.controls["side"].value, built.controls["attention"].value = "32", "at the lowest level"
widgets.show(built, "The ladder of a network for pictures, with its parameters and what one look costs, by formula.")

# %% tags=["widget-test"] jupyter={"source_hidden": true}
# Moves all controls through their values and back, so that a mistake in an explorer cannot stay unseen.
slowest = max(widgets.drive(box, limit=0.15) for box in (looking, built))

# %% [markdown]
# ## Bug museum: it loads, so it is right
#
# You write the network, the weights load, not one name is missing, every shape fits. Done? Three times it was not:
# - **a number.** GroupNorm has $\varepsilon = 10^{-5}$ in the residual blocks and $10^{-6}$ at the head of a
#   transformer. A well-known port took the default for all: [mlx-examples
#   #1434](https://github.com/ml-explore/mlx-examples/issues/1434), open when we looked.
# - **a name.** In the published config of Stable Diffusion stands `attention_head_dim: 8`. It is not the width of a
#   head, it is the *number* of heads: [diffusers #2011](https://github.com/huggingface/diffusers/issues/2011). The
#   name stayed, since too many files have it.
# - **an axis.** A much-read annotated U-Net took its softmax over those who ask and not over those who are asked:
#   [labml #146](https://github.com/labmlai/annotated_deep_learning_paper_implementations/issues/146), "a typo and a
#   big bug". After it was mended somebody asked to have it back:
#   [#282](https://github.com/labmlai/annotated_deep_learning_paper_implementations/issues/282).
#
# Broken on purpose, all three, with the weights of the model with words. Which of them would you see?

# %%
PROMPTS = ["a small blue star on black", "a green square on beige", "a purple triangle on grey",
           "a large orange ring on white"]  # fmt: skip


def over_those_who_ask(layer, given, out):
    """What a layer of attention answers if its softmax runs over the wrong axis."""
    context = given[1] if len(given) > 1 else given[0]
    q, k, v = (y.unflatten(-1, (layer.heads, -1)).transpose(1, 2)
               for y in (layer.to_q(given[0]), layer.to_k(context), layer.to_v(context)))  # fmt: skip
    mixed = (q @ k.mT / math.sqrt(q.shape[-1])).softmax(-2) @ v
    return layer.to_out[0](mixed.transpose(1, 2).flatten(2))


def with_fault(fault):
    net = MyUNet(words.unet.config).eval()
    said = net.load_state_dict(words.unet.state_dict())
    for layer in net.modules():
        if fault == "eps 1e-5" and isinstance(layer, MyTransformer):
            layer.norm.eps = 1e-5
        if fault == "heads of width 4" and isinstance(layer, MyAttention):
            layer.heads = layer.to_q.out_features // 4
        if fault == "softmax, wrong axis" and isinstance(layer, MyAttention):
            layer.register_forward_hook(over_those_who_ask)
    return net, said


faults, rows, library = ("none", "eps 1e-5", "heads of width 4", "softmax, wrong axis"), [], words.unet
z, t, context = draw(1, 4, 8, 8).double(), torch.tensor([500.0]), words.text(PROMPTS[:1])
for fault in faults:
    words.unet, said = with_fault(fault)
    rows.append(list(tasks.text2img(words, PROMPTS, steps=10, noise=draw(5, 4, 8, 8, seed=3)[1:])))
    with torch.no_grad():
        apart = (words.unet.double()(z, t, context.double()) - library.double()(z, t, context.double())).abs().max()
    library.float()
    print(f"{fault:20} {said}; in float64 {apart:.0e} apart: {'passes' if apart < 1e-10 else 'found'}")
words.unet = library
fig = show.strip(rows, faults, columns=["blue star", "green square", "purple triangle", "orange ring"])
show.figure(fig, "Four prompts, the same noise in each column. The first row is right, the others have one fault each.")

# %% [markdown]
# Nothing crashed, four times "All keys matched". **The number** nobody sees, and somebody will hunt for weeks after a
# last small difference. **The heads** are worse: these are *good* pictures. Only the square is a star now, and the
# triangle a house. Without the right row above you would say "my model could be better", and train it for longer.
# Only **the axis** shows, because other things are drawn than were asked for.
#
# That story has a sting. The one who found the axis trained *both* networks, right and wrong, and measured pictures
# of the same quality. It is no contradiction: weights that are trained with a fault learn to live with it. **In your
# own training a fault is another network. With somebody else's weights it is a fault.**
#
# **How to never fall for it:** strict loading proves names and shapes, and nothing else. So give both networks the
# same weights and the same input, in float64, and compare the outputs: rounding is $10^{-14}$ there, and every fault
# above stands out, even the smallest. That is what `check.same` does, and what the tests of this library do with
# Stable Diffusion's reference program.
#
# ## Quiz
#
# <details><summary>1. You want a U-Net for pictures of 33 x 33 pixels. Where does it break, and how is it that
# <code>MyUNet</code> does not?</summary>
#
# Halving gives 17, 9; doubling 9 gives 18, which does not fit to the skip of 17. So the way up does not double: it
# enlarges to the size of the map that lies on top of the pile, <code>left[-1].shape[2:]</code>.
# </details>
#
# <details><summary>2. Attention does not know where its tokens are. Why does the U-Net get along without telling it,
# and a network for text does not?</summary>
#
# Before its first attention a U-Net has had several convolutions, and those know neighbours, and the border by the
# zeros around the picture. So a token carries already something about its place. A network for text has nothing but
# attention, and without positions "dog bites man" and "man bites dog" are the same to it (lesson 11).
# </details>
#
# <details><summary>3. Your network has 10 million parameters and is too slow. A friend says: halve the channels of the
# lowest level, that takes away most parameters. Will it be twice as fast?</summary>
#
# Hardly. The parameters live at the bottom, on small maps, where each is used for few pixels; the time goes at the
# top, where few parameters are used for many. Halve the channels at the top, or begin with a smaller picture: that is
# what latent diffusion does (lesson 12).
# </details>
#
# **Words of this lesson** ([glossary](glossary.md)): attention, channel, cross-attention, FLOPs, GroupNorm, head,
# query, key, value, receptive field, resnet block, skip connection, timestep embedding, transformer block, U-Net.
# **Next:** lesson 07 gives this network its weights.

# %%
print(f"this lesson took {time.perf_counter() - opened:.0f} s from its first cell to its last")
