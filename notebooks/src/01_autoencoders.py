# %% [markdown] tags=["solution"]
# # 01 · Shapes, digits, autoencoders: solutions
#
# One answer to each exercise, and why it is so. There are others; the check takes them too.

# %% [markdown]
# # 01 · Shapes, digits, autoencoders
#
# **After this lesson you can**
# - say what varies in a set of pictures, and why a few numbers for each can be enough;
# - derive PCA from Pythagoras alone, and prove on real data that its error is the variance it throws away;
# - train a linear autoencoder and prove that it has found PCA; bend it, and say when that helps and when it does not;
# - build a convolutional autoencoder whose shapes fit, for any size of picture;
# - see why a perfect autoencoder is no artist: random latents decode to junk.
#
# **Time:** a little over a minute of computing on a laptop with 2 cores, no GPU; an hour or two with the exercises.
#
# **Needs:** what a matrix product and a gradient are. Nothing is downloaded, no papers read. Words in *slanted type*
# are explained where they come up, and again in the [glossary](glossary.md).
#
# Stable Diffusion never paints a pixel. It paints in a small array of numbers, the *latent*, and a decoder makes the
# picture of it. This lesson is about that array: where it comes from, how small it may be, and what is wrong with it.

# %%
import math
import time

import ipywidgets
import torch
from matplotlib import pyplot as plt
from torch import nn

import minildm
from minildm import data, oracle, scenes, show, train
from minildm.course import check, widgets

opened = time.perf_counter()
show.style()
SECONDS = 20  # of live training for the convolutional autoencoder: more is better
DEVICE = minildm.best_device()

digits, labels = data.digits("train")  #                     (1437, 1, 8, 8) in -1..1, and 0..9
unseen, unseen_labels = data.digits("test")  #               (360, 1, 8, 8), by other people
known = digits.flatten(1).double()  #                        (1437, 64): a picture is a list of 64 numbers
new = unseen.flatten(1).double()

# %% [markdown]
# ## The picture first
#
# Someone wrote the digits in the last column; each is a list of 64 numbers. The other columns show what comes back
# when only *some* numbers are kept: not pixels, but numbers that we work out from all pixels together, and from which
# all pixels are worked out again.

# %%
mean = known.mean(0)
directions = torch.linalg.svd(known - mean, full_matrices=False)[2]  # you will know soon what this is
KEEP = (1, 2, 4, 8, 16, 32)
four = torch.stack([new[unseen_labels == digit][1] for digit in (0, 3, 4, 8)])
kept = [(mean + (four - mean) @ directions[:k].T @ directions[:k]).view(4, 1, 8, 8) for k in KEEP]
rows = [[*[pictures[i] for pictures in kept], four[i].view(1, 8, 8)] for i in range(4)]
columns = [f"{k} number{'s' * (k > 1)}" for k in KEEP] + ["all 64"]
show.figure(show.strip(rows, ["a", "b", "c", "d"], columns=columns),
            "Four digits, rebuilt from 1, 2, 4 ... numbers each.")  # fmt: skip

# %% [markdown]
# **From which column on can you read all four? And how many numbers would you keep of the 64?** Write both down. We
# shall draw the curve later, and look for its knee.
#
# ## What varies?
#
# The course has two sets of pictures, and both are always there. The digits are real handwriting from scikit-learn, 8
# by 8 pixels, in grey. The shapes are drawn by the library, 32 by 32 pixels in colour, and with every picture comes a
# *caption*. Numbers lie in -1..1 in both, from black to white.
#
# The shapes have something that photographs have not: **we know what varies.** A picture with one shape is decided by
# six things, its *factors*. In each row below one of them changes and all others stay.

# %%
base = scenes.draw(1, seed=7, start=3, objects=1)
base.shape[0, 0], base.colour[0, 0], base.size[0, 0], base.background[0] = 3, 4, 1, 0
base.x[0, 0], base.y[0, 0] = 0.5, 0.5


def changed(factor, value):
    """The scene `base` with one factor changed, drawn: (3, 32, 32)."""
    scene = scenes.draw(1, seed=7, start=3, objects=1)
    for name in ("shape", "colour", "size", "background", "x", "y"):
        getattr(scene, name).copy_(getattr(base, name))
    getattr(scene, factor).flatten()[0] = value
    return scenes.render(scene)[0]


FACTORS = {
    "shape": range(6), "colour": (0, 1, 2, 3, 5, 7), "x": torch.linspace(0.25, 0.75, 6).tolist(),
    "y": torch.linspace(0.25, 0.75, 6).tolist(), "size": (0, 1) * 3, "background": (0, 1, 2, 3, 0, 1),
}  # fmt: skip
fig = show.strip([[changed(name, value) for value in values] for name, values in FACTORS.items()], [*FACTORS])
show.figure(fig,
            "One factor changes in each row. Size has two values, background four.")  # fmt: skip
drawn = scenes.draw(40, seed=1000)
said, five = scenes.captions(drawn, seed=1000), [21, 38, 35, 17, 3]
show.figure(show.grid(scenes.render(drawn)[five], 5, [said[i] for i in five]),
            "Five of the training pictures, each with its caption.")  # fmt: skip
print(f"all pictures of 32 x 32 in 256^3 colours: 10^{3 * 1024 * math.log10(256):.0f}")
places = 21**2  # a step of one pixel at 32 x 32, for a small shape a little more
print(f"pictures with one shape, places told apart by a pixel: about {6 * 8 * 2 * 4 * places:,}")

# %% [markdown]
# Look at the two numbers. Nearly everything that could stand in 32 by 32 pixels is snow, and *no* picture of our
# world. What is left can be numbered with six factors. **That is why compression is learning: whoever can store
# pictures in few numbers has understood what varies in them, and what never does.**
#
# The renderer of the library is such a *decoder*: six numbers in, 3,072 out. But it was written by hand. Nobody has
# written one for handwriting or for photographs. So we let a machine find it:
#
# $$x \;\xrightarrow{\ \text{encoder}\ }\; z \;\xrightarrow{\ \text{decoder}\ }\; \hat x, \qquad
# \text{as alike as can be:}\quad \|x - \hat x\|^2 \to \min$$
#
# Between the two is a *bottleneck*, a latent $z$ of few numbers. Both together are an **autoencoder**. Nobody says
# what the numbers should mean; the pictures are their own answers.
#
# ## One number for each point
#
# Begin with the smallest case that can be drawn: a point has two numbers, and we may keep one. Let encoder and decoder
# be as simple as possible. Choose a direction $u$ of length 1 through the middle of the cloud. Keep how far along $u$
# the point lies, $z = x \cdot u$ (the middle is at 0). Rebuild it as $z\,u$, its *shadow* on the line. Which direction
# loses least?
#
# The point, its shadow and the middle form a right angle. So Pythagoras holds, for every point and every direction:
#
# $$\underbrace{\|x\|^2}_{\text{given}} \;=\; \underbrace{(x \cdot u)^2}_{\text{kept}} \;+\;
# \underbrace{\|x - (x \cdot u)\,u\|^2}_{\text{error}} .$$
#
# Average over all points. On the left stands the *variance* of the cloud, and it does not depend on $u$. So kept and
# error always add up to the same, and **to lose least is to keep most variance.**

# %%
stretch = torch.tensor([[1.4, 0.0], [0.75, 0.35]]).double()
cloud = torch.randn(300, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(1)) @ stretch.T
cloud = cloud - cloud.mean(0)
angles = torch.linspace(0, math.pi, 181, dtype=torch.float64)
u = torch.stack([angles.cos(), angles.sin()], 1)  # a direction each degree    (181, 2)
along = cloud @ u.T  #                                                       (300, 181)
variance_kept = along.square().mean(0)
error = (cloud[:, None] - along[..., None] * u).square().sum(2).mean(0)
variance = cloud.square().sum(1).mean()
check.agree("kept + error, and the variance, at 181 angles", variance_kept + error, variance, within=1e-9)

fig, axes = plt.subplots(1, 3, figsize=(11, 3.4), width_ratios=(1, 1, 1.25))
best = int(error.argmin())
for ax, at in zip(axes, (130, best), strict=False):
    shadow = along[:, at, None] * u[at]
    for point, foot in zip(cloud[:50], shadow[:50], strict=True):
        ax.plot(*torch.stack([point, foot]).T, color="C1", linewidth=1)
    ax.plot(*(3.4 * torch.stack([-u[at], u[at]])).T, color="black", linewidth=1.5)
    ax.plot(*cloud[:50].T, "o", color="C0", markersize=4)
    ax.set(xlim=(-3.6, 4.2), ylim=(-3, 3), aspect="equal", title=f"{at}°: error {error[at]:.2f}")
    ax.axis("off")
axes[2].plot(angles.rad2deg(), error, color="C1", label="error")
axes[2].plot(angles.rad2deg(), variance_kept, color="C0", label="variance kept")
axes[2].plot(angles.rad2deg(), error + variance_kept, "k:", label="sum")
axes[2].set(xlabel="angle of the direction", xticks=(0, 45, 90, 135, 180), ylim=(0, None))
axes[2].legend(loc="center left", bbox_to_anchor=(1, 0.5))
show.figure(fig, "Each point loses its red line. Right: what one direction loses, it fails to keep.")

# %% [markdown]
# That is **PCA**, *principal component analysis*: turn the line until the shadows lie as far apart as possible. It is
# Pearson's idea of 1901 (*On Lines and Planes of Closest Fit to Systems of Points in Space*), older than any computer.
#
# ## Sixty-four numbers, and no more turning
#
# A picture has 64 numbers, and in 64 dimensions one cannot try all angles. Four steps, and none is harder than
# Pythagoras.
#
# 1. **The variance along $u$ is $u^\top C\, u$.** Write it out: the mean of $(x \cdot u)^2 = u^\top x\, x^\top u$ is
#    $u^\top C\, u$ with $C$, the mean of $x\, x^\top$, 64 by 64 (with the mean picture taken away first). It is called
#    the *covariance*.
# 2. **$C$ is symmetric, so it has 64 directions $v_i$ at right angles that it only stretches:**
#    $C v_i = \lambda_i v_i$. Sort them, $\lambda_1 \ge \lambda_2 \ge \dots$ By step 1, $\lambda_i = v_i^\top C\, v_i$
#    is the variance along $v_i$.
# 3. **No direction keeps more than $\lambda_1$.** Any $u$ is a mixture, $u = \sum c_i v_i$ with $\sum c_i^2 = 1$, and
#    so $u^\top C\, u = \sum c_i^2 \lambda_i$: an *average* of the $\lambda_i$. An average is never above the largest,
#    and reaches it if all the weight is there: $u = v_1$.
# 4. **No $k$ directions keep more than the first $k$.** For directions $u_1 \dots u_k$ at right angles the sum is
#    $\sum_i w_i \lambda_i$ again, where $w_i$ adds up the squared shares of $v_i$ in all of them. No $w_i$ is above 1
#    (it is the squared shadow of the unit vector $v_i$), and together they are $k$. Best is to put a full 1 on each of
#    the $k$ largest.
#
# What is lost is all the rest:
#
# $$\hat x = \bar x + \sum_{i=1}^{k} \big((x - \bar x) \cdot v_i\big)\, v_i, \qquad
# \overline{\|x - \hat x\|^2} = \sum_{i > k} \lambda_i .$$
#
# (Bishop 2006, *Pattern Recognition and Machine Learning*, section 12.1.2: the error as a sum over what is left out is
# eq. 12.15, the rebuilt picture eq. 12.20.) **The error is the discarded variance.** Not about: exactly.

# %%
centred = known - mean
covariance = centred.T @ centred / len(known)  #                                      (64, 64)
variances, vectors = torch.linalg.eigh(covariance)  # sorted from small to large, a direction in each column
variances, principal = variances.flip(0).clamp(min=0), vectors.flip(1).T  # from large to small, in rows


def project(x, k):
    """PCA there and back: (b, 64) -> k numbers -> (b, 64)."""
    z = (x - mean) @ principal[:k].T  #                                                (b, k)
    return mean + z @ principal[:k]


lost = torch.stack([(known - project(known, k)).square().sum(1).mean() for k in range(65)])
discarded = torch.stack([variances[k:].sum() for k in range(65)])
check.agree("error and discarded variance, for k = 0 to 64", lost, discarded, within=1e-9)
check.agree("rebuilt twice and once, k = 8", project(project(new, 8), 8), project(new, 8), within=1e-9)

from sklearn.decomposition import PCA

theirs = PCA(8).fit(known.numpy())
theirs = torch.from_numpy(theirs.inverse_transform(theirs.transform(new.numpy())))
check.agree("unseen digits through 8 numbers, ours and scikit-learn's", project(new, 8), theirs, within=1e-6)

share = variances.cumsum(0) / variances.sum()
fig, ax = plt.subplots(figsize=(7.5, 3.2))
ax.bar(range(1, 65), variances / variances.sum(), color="C3", label="kept by direction k alone")
ax.plot(range(1, 65), share, color="C0", label="kept by the first k together")
for part in (0.5, 0.9):
    k = int((share < part).sum()) + 1
    ax.plot([0, k, k], [part, part, 0], "k:", linewidth=1.5)
    ax.text(k + 0.7, part - 0.09, f"{k} for {part:.0%}")
ax.set(xlabel="k", xlim=(0, 64.5), ylim=(0, 1.03), ylabel="share of the variance")
ax.legend(loc="center right")
show.figure(fig, "The digits' variance, direction by direction. Where would you stop?")
wave = torch.stack([mean + s * 2 * variances[i].sqrt() * principal[i] for s in (-1, 1) for i in range(7)])
shown = wave.view(2, 7, 1, 8, 8).clamp(-1, 1)
names = [f"direction {i + 1}" for i in range(7)]
fig = show.strip([*shown], ["mean, and back", "mean, and forth"], columns=names)
show.figure(fig,
            "Along each of the seven strongest directions, two standard deviations both ways.")  # fmt: skip

# %% [markdown]
# Compare with what you wrote down. There is no sharp knee: the curve bends gently around 8 to 20, and that is how real
# data are. Half of the variance sits in 5 numbers; the last 14 together hold less than a thousandth (some pixels at the
# rim are hardly ever written on). To find such a $k$ from the variances is the exercise `01.how_many`; PCA itself, for
# new pictures, is `01.pca`.
#
# Look at the directions, too. Direction 2 happens to run between something like a 1 and something like a 0; most
# others run between ghosts. **Variance is counted in pixels, not in meaning.**
#
# ## A network that does the same
#
# Now let it be *learned*. The smallest autoencoder there is has two layers and nothing between them:
# $z = A x + a$, and $\hat x = B z + b$. Nobody tells it about covariances or right angles. What does it find?
#
# **It cannot be better than PCA.** Whatever $z$ is, $\hat x$ lies in the flat sheet $b + \text{span}(B)$, of $k$
# dimensions. The nearest point of a sheet is the shadow on it, so the error is at least that of the shadows; and of
# all sheets, PCA's has the least (step 4; and a sheet that misses the mean by $c$ pays $\|c\|^2$ more). **It can be as
# good**, since a shadow is a linear map. So the least error that it can reach is $\sum_{i>k} \lambda_i$, and it is
# reached on PCA's sheet alone (if $\lambda_k > \lambda_{k+1}$).
#
# Does gradient descent get there, or is there a trap on the way? Baldi & Hornik 1989 ([doi
# 10.1016/0893-6080(89)90014-2](https://doi.org/10.1016/0893-6080(89)90014-2)) proved that there is none (for layers
# without biases): wherever the slope is 0, there is a sheet along *some* of the $v_i$, and all but the best are saddles,
# from which a way leads down.
#
# This is the first training of the course, so here is the loop in full. The learning rate rises, then falls along half
# a cosine (Loshchilov & Hutter 2017, eq. 5): first large steps, then fine ones. And here is the device of this course:
# **write it, prove that it is the library's, and import it ever after.** `check.same` feeds both the same inputs and prints
# how far apart the answers are.

# %%
def my_rate(fraction, warmup=0.03):
    if fraction < warmup:
        return fraction / warmup
    return (1 + math.cos(math.pi * (fraction - warmup) / (1 - warmup))) / 2


check.same(my_rate, train.learning_rate)
K, STEPS, RATE = 4, 1500, 0.03
x = known.float()


def linear_autoencoder():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(64, K), nn.Linear(K, 64))


model = linear_autoencoder()
# AdamW: downhill, with a stride for each weight by itself, by how steep its way has been lately
optimizer = torch.optim.AdamW(model.parameters(), lr=RATE, betas=(0.9, 0.99), weight_decay=0.01)
curve = []
for step in range(STEPS):
    for group in optimizer.param_groups:
        group["lr"] = RATE * my_rate(step / STEPS)
    loss = (model(x) - x).square().sum(1).mean()  # how wrong is it? the squared error of a picture
    optimizer.zero_grad()
    loss.backward()  # which way is up, for every weight?
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)  # never more than one stride
    optimizer.step()  # a step down
    curve.append(loss.item())

again = linear_autoencoder()
run = train.fit(again, lambda step, generator: (again(x) - x).square().sum(1).mean(), steps=STEPS, lr=RATE)
history = show.track(run, "linear autoencoder")
check.agree("the last loss, and that of the library's loop", curve[-1], history.losses[-1], within=0.01)

# %% [markdown]
# The loop by hand and `train.fit` are the same thing; from here on we use the second, which also draws a bar with the
# time that is left. Now the proof. First the error. Then the sheets themselves: are they the same *subspace*? The
# cosine of the angle between two unit vectors is their dot product. For two sheets take the pair of directions, one in
# each, with the smallest angle; then the best pair at right angles to those; and so on, $k$ angles in all, the
# *principal angles*. If the rows of $Q$ and $P$ are unit vectors at right angles, their cosines are the singular
# values of $Q P^\top$. All angles 0: the same sheet.

# %%
with torch.no_grad():
    found = (again(x) - x).double().square().sum(1).mean().item()
    spanned = torch.linalg.qr(again[1].weight.double())[0].T  # unit directions of its sheet    (K, 64)
    cosines = torch.linalg.svdvals(spanned @ principal[:K].T).clamp(max=1)
print(f"error of a digit: PCA {discarded[K]:.4f}, linear autoencoder {found:.4f}")
check.agree("both errors, in parts of PCA's", found / discarded[K].item(), 1.0, within=0.005)
print("principal angles:", ", ".join(f"{angle:.2f}°" for angle in cosines.acos().rad2deg()))
assert cosines.acos().rad2deg().max() < 5

fig, ax = plt.subplots(figsize=(7, 2.9))
ax.plot(curve, label="linear autoencoder")
for k, line in ((K - 2, "C3"), (K - 1, "C2"), (K, "black")):
    ax.axhline(discarded[k], color=line, linestyle=":", linewidth=1.8, label=f"PCA with {k}")
ax.set(xlabel="step", ylabel="error of a digit", xlim=(0, STEPS), ylim=(9, 19))
ax.legend(loc="upper right")
show.figure(fig, "Training comes down to PCA's error and not below it.")
with torch.no_grad():
    own = again[1].weight.T.double()  # what each latent paints                             (K, 64)
    mixing = torch.linalg.lstsq(own.T, principal[:K].T).solution  #                         (K, K)
    mixed = (own.T @ mixing).T
rows = [(part / part.abs().amax(1, keepdim=True)).view(K, 1, 8, 8) for part in (principal[:K], own, mixed)]
fig = show.strip(rows, ["PCA's directions", "what its latents paint", "the same, mixed"])
show.figure(fig, "Grey is 0. One sheet, other axes: mixed in the right way, the learned patterns are PCA's.")

# %% [markdown]
# **The same sheet, and other axes on it.** Put any invertible $M$ between, $B M$ and $M^{-1} A$, and the pictures are
# the same to the last pixel, so nothing in the loss prefers PCA's axes. Say the hard thing aloud, for it holds for
# every autoencoder in this course: **a latent's single numbers need not mean anything.** Only all of them together do.
#
# ## Bend it
#
# A flat sheet is a poor picture of digits: they do not fill one, and half-way between a 1 and a 0 there is no digit.
# Put layers with an *activation* before and after the bottleneck (a curved function of each number by itself, here SiLU,
# $x \cdot \mathrm{sigmoid}(x)$), and the sheet may bend. Such networks were shown to
# beat PCA with as many numbers by Hinton & Salakhutdinov 2006 ([doi
# 10.1126/science.1127647](https://doi.org/10.1126/science.1127647)). We train six, of six sizes, and measure all on
# digits that none of them has seen.

# %%
def autoencoder(k, hidden=128, last=None):
    torch.manual_seed(0)
    encoder = nn.Sequential(
        nn.Flatten(), nn.Linear(64, hidden), nn.SiLU(), nn.Linear(hidden, hidden), nn.SiLU(),
        nn.Linear(hidden, k),
    )  # fmt: skip
    decoder = nn.Sequential(
        nn.Linear(k, hidden), nn.SiLU(), nn.Linear(hidden, hidden), nn.SiLU(), nn.Linear(hidden, 64),
        *([last] if last else []), nn.Unflatten(1, (1, 8, 8)),
    )  # fmt: skip
    return nn.Sequential(encoder, decoder)


def teach(network, pictures, what, batch=128, **length):
    """Train a network to give back the pictures it is given: the history of its losses."""

    def loss(step, generator):
        some = pictures[torch.randint(len(pictures), (batch,), generator=generator).to(pictures.device)]
        return (network(some).float() - some).square().mean()

    return show.track(train.fit(network, loss, **length), what)


bent = {}
for k in KEEP:
    bent[k] = autoencoder(k)
    teach(bent[k], digits, f"autoencoder, {k} number{'s' * (k > 1)}", steps=1000, lr=3e-3)

# %%
def mse(a, b):
    """The squared error of a pixel."""
    return (a - b).square().mean().item()


with torch.no_grad():
    REBUILT = {k: {"PCA": project(new, k).view(-1, 1, 8, 8).float(), "bent": bent[k](unseen)} for k in KEEP}
    on_known = {k: (mse(project(known, k), known), mse(bent[k](digits), digits)) for k in KEEP}
fig, ax = plt.subplots(figsize=(7.5, 3.6))
ax.loglog(KEEP, [mse(REBUILT[k]["PCA"], unseen) for k in KEEP], "o-", label="PCA, unseen digits")
ax.loglog(KEEP, [mse(REBUILT[k]["bent"], unseen) for k in KEEP], "s-", label="autoencoder, unseen digits")
ax.loglog(KEEP, [on_known[k][1] for k in KEEP], "s:", color="C1", label="autoencoder, digits it knows")
ax.axhline(mse(mean, new), color="black", linestyle=":", linewidth=1.5)
ax.text(1, mse(mean, new) * 1.06, "always the mean digit")
ax.set(xlabel="numbers kept", ylabel="squared error a pixel", ylim=(0.007, 0.42))
ax.set_xticks(KEEP, KEEP)
ax.set_yticks(grades := (0.01, 0.02, 0.05, 0.1, 0.2), grades)
ax.minorticks_off()
ax.legend(loc="lower left")
show.figure(fig,
            "Bent wins where numbers are few, and loses where they are many.")  # fmt: skip
ten = torch.stack([torch.nonzero(unseen_labels == digit)[2, 0] for digit in range(10)])
names = [("PCA", 2), ("bent", 2), ("PCA", 8), ("bent", 8)]
rows = [unseen[ten], *[REBUILT[k][name][ten] for name, k in names]]
labelled = ["unseen"] + [f"{'PCA' if name == 'PCA' else 'autoencoder'}, {k} numbers" for name, k in names]
show.figure(show.strip(rows, labelled), "Ten unseen digits through 2 and through 8 numbers.")

# %% [markdown]
# With two numbers PCA draws ghosts, and the autoencoder draws digits (now and then another digit: look closely). Where
# numbers are few, bending pays. **And at 32 numbers PCA wins.** It has an exact solution and no way to learn by heart;
# the network has 1,437 examples and a thousand steps, and the dotted line shows that it knows its examples better than
# the others. With 64 numbers PCA makes no error at all. *Try the simple thing first, and measure on what was not
# seen.*
#
# ## Play: how many numbers?
#
# Move the number of latents, and go through the unseen digits. Look for a digit that PCA reads right and the
# autoencoder turns into another one. The grey pictures show what is lost: grey is right, white too bright, black too
# dark.

# %% tags=["explorer"] jupyter={"source_hidden": true}
def view(numbers, digit):
    parts, names = [unseen[digit]], ["unseen"]
    for name in ("PCA", "bent"):
        rebuilt = REBUILT[numbers][name][digit]
        off = (rebuilt - unseen[digit]).square().mean()
        parts += [rebuilt, (rebuilt - unseen[digit]) / 2]
        names += ["PCA" if name == "PCA" else "autoencoder", f"error {off:.3f}"]
    return show.strip([parts], [f"{numbers} of 64 numbers"], columns=names)


slider = ipywidgets.SelectionSlider(options=KEEP, value=4, description="numbers kept")
slider.style.description_width, slider.layout.width = "initial", "22em"
box = widgets.explorer(view, numbers=slider, digit=(0, 359, 1, 38))
widgets.show(box, "An unseen digit, rebuilt by PCA and by the autoencoder; what each got wrong is beside it.")

# %% tags=["widget-test"] jupyter={"source_hidden": true}
# Moves both controls through their values and back, so that a mistake in the explorer cannot stay unseen.
slowest = widgets.drive(box, limit=0.15)

# %% [markdown]
# ## Pictures of shapes: let the network know that things move
#
# Now the shapes, 3,072 numbers each. A star that moves by one pixel is the same star to us. To PCA, and to `Linear`
# layers, it is a different list of numbers: nobody told them which pixels are neighbours. A *convolution* is a layer
# that knows it. The same small window, its *kernel*, is laid on every place of the picture, and what was learned about
# a star here holds for a star there.
#
# Two sums have to come out right. A kernel of width $k$, moved by a *stride* of $s$ pixels over a picture of $n$
# pixels with a rim of $p$ added on each side, finds this many places; and the *transposed* convolution, which paints
# where the other reads, makes this many pixels of $n$ places:
#
# $$\text{down:}\quad \Big\lfloor \frac{n + 2p - k}{s} \Big\rfloor + 1, \qquad\qquad
# \text{up:}\quad (n - 1)\, s - 2p + k .$$
#
# (Dumoulin & Visin 2016, [arXiv 1603.07285](https://arxiv.org/abs/1603.07285).) The first start at 0 and the last one
# that fits, $(n + 2p - k)/s$ strides later; plus one, as with fence posts. Upwards read it the other way: $n$ places
# are $n - 1$ strides apart, and the last kernel reaches $k$ further. With $k = 4$, $s = 2$, $p = 1$ the first is $n/2$
# for every even $n$, and the second is $2n$. **Halved and doubled without remainder**: those are the numbers to
# remember.

# %%
def down(n, k, s, p):
    return (n + 2 * p - k) // s + 1


def up(n, k, s, p):
    return (n - 1) * s - 2 * p + k


tried = 0
for k, s, p in ((4, 2, 1), (3, 2, 1), (3, 1, 1), (3, 2, 0), (5, 3, 2), (2, 2, 0)):
    for n in range(5, 34):
        one = torch.zeros(1, 1, n, n)
        assert nn.Conv2d(1, 1, k, s, p)(one).shape[2] == down(n, k, s, p)
        assert nn.ConvTranspose2d(1, 1, k, s, p)(one).shape[2] == up(n, k, s, p)
        tried += 2
print(f"formula and layer agree on all {tried} shapes")
for k, s, p in ((4, 2, 1), (3, 2, 1), (3, 2, 0)):
    small = [down(n, k, s, p) for n in (28, 32)]
    print(f"kernel {k}, stride {s}, rim {p}: 28 and 32 -> {small} -> {[up(n, k, s, p) for n in small]}")

# %% [markdown]
# The last two lines are the classic trap: a picture of 32 pixels comes back with 31, and the loss stops with an error
# about shapes. To mend it is an exercise, `01.conv`.
#
# Here are three autoencoders of shapes, **each with a latent of 128 numbers** (a 24th): PCA; fully connected layers;
# and convolutions, whose latent is a small map of 2 channels at 8 by 8 places. All learn from the same 4,000 pictures.

# %%
shapes, captions = data.scenes("train", 4000)  #                                       (4000, 3, 32, 32)
others, other_captions = data.scenes("test", 300)
flat, middle = shapes.flatten(1), shapes.flatten(1).mean(0)
torch.manual_seed(0)
strongest = torch.pca_lowrank(flat, q=140, niter=4)[2]  # PCA in a hurry, nearly exact       (3072, 140)
sheet = strongest.T[:128]  #                                                            (128, 3072)
silu = nn.SiLU
dense = nn.Sequential(
    nn.Sequential(nn.Flatten(), nn.Linear(3072, 256), silu(), nn.Linear(256, 256), silu(),
                  nn.Linear(256, 128)),
    nn.Sequential(nn.Linear(128, 256), silu(), nn.Linear(256, 256), silu(), nn.Linear(256, 3072),
                  nn.Unflatten(1, (3, 32, 32))),
)  # fmt: skip
conv = nn.Sequential(
    nn.Sequential(
        nn.Conv2d(3, 32, 4, 2, 1), silu(), nn.Conv2d(32, 64, 4, 2, 1), silu(),  #            32 -> 16 -> 8
        nn.Conv2d(64, 64, 3, padding=1), silu(), nn.Conv2d(64, 2, 3, padding=1),
    ),
    nn.Sequential(
        nn.Conv2d(2, 64, 3, padding=1), silu(), nn.Conv2d(64, 64, 3, padding=1), silu(),
        nn.ConvTranspose2d(64, 32, 4, 2, 1), silu(), nn.ConvTranspose2d(32, 3, 4, 2, 1),  #  8 -> 16 -> 32
    ),
)  # fmt: skip
for network, what, length, rate, batch in (
    (dense, "fully connected", SECONDS / 4, 2e-3, 32), (conv, "convolutional", SECONDS, 4e-3, 16),
):  # fmt: skip
    # for speed alone: a layout in memory that convolutions like, and (autocast) half of the digits in products
    network.to(DEVICE, memory_format=torch.channels_last)
    given = shapes.to(DEVICE, memory_format=torch.channels_last)
    teach(network, given, f"{what} autoencoder", batch, seconds=length, lr=rate, autocast=torch.bfloat16)
    network.to("cpu")
    size = sum(p.numel() for p in network.parameters())
    print(f"{what}: {size:,} weights")

# %%
def flat_shapes(x, k=128):
    """Shapes through PCA with k numbers."""
    return (middle + (x.flatten(1) - middle) @ sheet[:k].T @ sheet[:k]).view_as(x)


with torch.no_grad():
    REST = {
        "PCA, 6 numbers": lambda x: flat_shapes(x, 6), "PCA, 128": flat_shapes, "fully connected, 128": dense,
        "convolutions, 128": conv,
    }  # fmt: skip
    back = {name: there_and_back(others) for name, there_and_back in REST.items()}
    errors = {name: (mse(there_and_back(shapes[:1000]), shapes[:1000]), mse(back[name], others))
              for name, there_and_back in REST.items()}  # fmt: skip
fig = show.strip([others[:8], *[pictures[:8] for pictures in back.values()]], ["unseen", *back])
show.figure(fig, "Eight unseen scenes, and what comes back of them.")
total = mse(middle, others.flatten(1))
print("squared error a pixel    known  unseen  variance kept")
for name, (on_seen, on_new) in errors.items():
    print(f"{name:22} {on_seen:7.4f} {on_new:7.4f} {1 - on_new / total:14.0%}")

# %% [markdown]
# Four rows, four lessons:
# - **PCA with 6 numbers keeps nine tenths of the variance, and not one shape.** Most of the variance is the colour
#   of the background. A percentage of variance is not a percentage of what you care about.
# - **PCA with 128** finds every object, blurred and in a haze of speckles.
# - **Fully connected layers do worse than PCA**, with twelve times the weights of the last: of all that could be done
#   with 3,072 numbers, they have to find out from examples what a place is. Four times as long helped it little when
#   we tried (0.03).
# - **Convolutions** bring back colour, place and shape, and most edges. They know the one thing that is true of
#   all pictures: a thing is the same thing elsewhere.
#
# The usual unit for such comparisons is the decibel; you will compute it yourself in `01.psnr`. Train longer (`SECONDS`
# above), and the last row goes on getting sharper.
#
# ## The pain: random latents decode to junk
#
# We have a decoder: numbers in, picture out. So to invent a new picture, throw dice for the numbers! To be fair we
# throw them with the mean and the spread that each latent has on real pictures.

# %%
generator = torch.Generator().manual_seed(3)


def dice(latents, count):
    """Random latents, each number with the mean and spread that it has in `latents`."""
    return latents.mean(0) + latents.std(0) * torch.randn(count, *latents.shape[1:], generator=generator)


with torch.no_grad():
    flat_z = (known - mean) @ principal[:16].T
    by_pca = (mean + dice(flat_z, 360).double() @ principal[:16]).view(-1, 1, 8, 8).float()
    bent_z = bent[16][0](digits)  #                                                    (1437, 16)
    thrown = dice(bent_z, 360)
    by_bent = bent[16][1](thrown)
    by_conv = conv[1](dice(conv[0](shapes), 100)).clamp(-1, 1)
small = torch.nn.functional.interpolate(torch.cat([by_pca[:8], by_bent[:8]]), size=32).expand(-1, 3, -1, -1)
names = ["PCA, 16 numbers", "autoencoder, 16", "convolutions, 128"]
fig = show.strip([small[:8], small[8:], by_conv[:8]], names)
show.figure(fig, "Random latents, decoded. Now and then half a digit; of the shapes, nothing at all.")
kinds = {"unseen digits": unseen, "the same, rebuilt": REBUILT[16]["bent"], "random latents": by_bent}
for name, pictures in kinds.items():
    apart = torch.cdist(pictures.flatten(1), digits.flatten(1)).amin(1).median()
    print(f"{name:18} decoded: distance to the most alike known digit {apart:.2f}")
rebuilt = back["convolutions, 128"][:100].clamp(-1, 1)
for name, pictures in (("rebuilt", rebuilt), ("from random latents", by_conv)):
    readable = oracle.read(pictures).readable.float().mean().item()
    print(f"shapes {name}: the oracle, which reads scenes back from pixels, can read {readable:.0%}")

# %% [markdown]
# A mean error of next to nothing, and junk. **Rebuilding well and inventing are different things**, and nothing in the
# loss has ever asked for the second. Where is the fault? With two latents we can look at the whole space: every
# training digit is a point.

# %%
with torch.no_grad():
    plane = bent[2][0](digits)  #                                                       (1437, 2)
low, high = plane.quantile(0.06, 0), plane.quantile(0.94, 0)
steps = [torch.linspace(*ends, 60) for ends in zip(low.tolist(), high.tolist(), strict=True)]
everywhere = torch.cartesian_prod(*steps)  #                                           (3600, 2)
water = torch.cdist(everywhere, plane).amin(1)  # how far from the nearest digit
circles = [int(water.argmax())]
while len(circles) < 6:  # the farthest out, then the next that is not beside it
    beside = torch.cdist(everywhere, everywhere[circles]).amin(1) < 1.3 * water.max()
    circles.append(int(water.masked_fill(beside, 0).argmax()))
circles = everywhere[circles]
fig, axes = plt.subplots(1, 2, figsize=(11, 4.8), width_ratios=(1.2, 1))
colours = plt.get_cmap("tab10").colors
for digit in range(10):
    look = {"marker": f"${digit}$", "color": colours[digit], "linewidths": 0.2}
    axes[0].scatter(*plane[labels == digit].T, s=28, **look)
for name, (across, upwards) in zip("abcdef", circles.tolist(), strict=True):
    axes[0].scatter(across, upwards, s=330, facecolors="white", edgecolors="black", linewidths=1.5)
    axes[0].text(across, upwards, name, ha="center", va="center", weight="bold")
axes[0].set(title="two latents", xticks=[], yticks=[], xlabel="latent 1", ylabel="latent 2")
with torch.no_grad():
    for name, z, colour in (("unseen digits", bent[16][0](unseen), "C0"), ("random latents", thrown, "C3")):
        axes[1].hist(torch.cdist(z, bent_z).amin(1), bins=35, alpha=0.65, color=colour, label=name)
axes[1].set(xlabel="distance to the nearest known digit", yticks=[], ylim=(0, 42), title="sixteen latents")
axes[1].legend(loc="upper right")
show.figure(fig,
            "Left: islands, and six circles in the holes. Right: with 16 latents all is hole.")  # fmt: skip
with torch.no_grad():
    loneliest = thrown[torch.cdist(thrown, bent_z).amin(1).argsort(descending=True)[:6]]
    rows = [bent[2][1](circles), bent[16][1](loneliest)]
fig = show.strip(rows, ["2 latents", "16 latents"], columns=[*"abcdef"])
show.figure(fig,
            "Above: the circles, decoded. Below: the six random latents farthest from all digits.")  # fmt: skip

# %% [markdown]
# The encoder may put its pictures wherever it likes, and it does: islands, of odd shapes and sizes, with empty water
# between. The decoder was only ever asked about the islands. With two latents no place is far from land, and what it
# makes of the circles is often a fair digit, or something between two. With sixteen, *everything* is water: on the
# right hardly any random point comes as near to a digit as an unseen digit does, and what is decoded there is nobody's
# writing. (You measure it in `01.holes`.)
#
# This is no toy's problem. It is the first thing that people meet who train the autoencoder of Stable Diffusion and
# decode noise: *reconstruction works well, but the sampled image shows only noise*
# ([CompVis/latent-diffusion #187](https://github.com/CompVis/latent-diffusion/issues/187),
# [#227](https://github.com/CompVis/latent-diffusion/issues/227)). Two ways out, and this course goes both:
# - teach the *encoder* to leave no holes, so that all latents together look like plain noise: a VAE, **lesson 02**;
# - leave the islands as they are, and train a second network that *finds* them, starting from noise: diffusion in a
#   latent space, **lesson 12**. That is Stable Diffusion.
#
# ## Bug museum: a decoder that cannot be black
#
# Data have a range, and so has the last layer of a decoder. If they differ, the network cannot say what it should,
# however long it trains. A sigmoid gives 0..1, a ReLU nothing below 0, and data that were centred or scaled to -1..1
# lie half below:
# - a convolutional autoencoder with pictures brought to mean 0: the network "couldn't reconstruct negative values" and
#   the lower half of the data was chopped off, until a reader noticed ([mikesj-public/convolutional_autoencoder
#   #9](https://github.com/mikesj-public/convolutional_autoencoder/pull/9), 2015);
# - "if we use relu in deconv part of the autoencoder, we get the result larger than zero", and the data have mean 0
#   ([Character_Animation #3](https://github.com/AliJalalifar/Character_Animation/issues/3), open when we looked);
# - the milder reverse, a tanh that gives -1..1 for data in 0..1: works, wastes half of its range, and is asked about
#   again and again ([swift-models #179](https://github.com/tensorflow/swift-models/issues/179), [PyTorch-VAE
#   #48](https://github.com/AntixK/PyTorch-VAE/issues/48)).
#
# Broken on purpose: our digits lie in -1..1, and most of their pixels are -1. Will the loss tell?

# %%
museum = {"broken: sigmoid": nn.Sigmoid(), "mended: tanh": nn.Tanh(), "mended: nothing": None}
losses, made = {}, {}
for name, last in museum.items():
    victim = autoencoder(16, last=last)
    losses[name] = teach(victim, digits, name, steps=600, lr=3e-3).losses
    with torch.no_grad():
        made[name] = victim(unseen)
fig, axes = plt.subplots(1, 2, figsize=(10, 3.2))
for name, line in losses.items():
    axes[0].semilogy(line, linewidth=1.5, label=name)
axes[0].set(xlabel="step", title="training loss", ylim=(0.008, 2))
axes[0].legend(loc="upper right", bbox_to_anchor=(1, 0.8))
for name, pictures in (("the data", unseen), ("broken: sigmoid", made["broken: sigmoid"])):
    look = {"color": "black" if pictures is unseen else "C0", "histtype": "step", "linewidth": 2}
    axes[1].hist(pictures.flatten(), bins=32, range=(-1.2, 1.2), label=name, **look)
axes[1].set(title="values of all pixels", yticks=[], xlim=(-1.2, 1.2))
axes[1].legend(loc="upper right")
show.figure(fig,
            "Left: the broken loss falls and settles. Right: its pixels pile up at 0, data at -1.")  # fmt: skip
show.figure(show.strip([unseen[ten], *[pictures[ten] for pictures in made.values()]], ["unseen", *made]),
            "Where it should be black the broken one paints grey, and the same grey for all.")  # fmt: skip
for name, pictures in ({"the data": unseen} | made).items():
    ends = f"values from {pictures.min():5.2f} to {pictures.max():5.2f}"
    print(f"{name:16} {ends}, error {mse(pictures, unseen):.3f}")

# %% [markdown]
# No message, and a loss that falls and then settles, as losses do. If you do not know what it *could* be, 0.7 looks
# like a number as good as any. And it is worse than grey for black. The sigmoid is pushed to its end, towards the -1
# that it cannot reach, and at its end it is flat: no slope comes back through it, the network stops learning, and
# **all digits come out as one and the same picture.**
#
# **How to never fall for it:** print the least and the greatest value of data and output side by side; and compare the
# loss with that of a fool who always answers the mean digit (here 0.29). Who is worse than the fool has a bug.

# %% [markdown] tags=["exercise"]
# ## Exercises
#
# Write your answer in place of the dots and run the cell. Its last line looks at what you wrote: a tick, or what is
# amiss and on which input. `check.hint("01.pca")` gives a hint, and a clearer one each time; nothing is counted.
# Whatever you write, the notebook runs on.

# %% tags=["setup"]
import math

import torch
from torch import nn

from minildm.course import check

# %% [markdown] tags=["exercise"]
# ### 01.pca: learn from some, rebuild others
#
# Write `pca(seen, new, k)`, which learns from `seen`, (n, d), and gives two things for `new`, (m, d):
# - the latents, (m, k): the shadows on the $k$ strongest directions of `seen`, the strongest first;
# - the rebuilt points, (m, d).
#
# The check also tries pictures of many numbers when only a few were seen (n below d). Then the covariance is larger
# than the data, and there is a shorter way: `torch.linalg.svd(a, full_matrices=False)` writes any matrix as `U @
# diag(S) @ Vh`. Put that into $C = a^\top a / n$, and see what the rows of `Vh` are.

# %% tags=["exercise"]
def pca(seen, new, k):
    # BEGIN SOLUTION
    mean = seen.mean(0)
    directions = torch.linalg.svd(seen - mean, full_matrices=False)[2][:k]  #          (k, d), strongest first
    z = (new - mean) @ directions.T  #                                                 (m, k)
    return z, mean + z @ directions
    # END SOLUTION


check.exercise("01.pca", pca)

# %% [markdown] tags=["solution"]
# With $a = U S V^\top$ the covariance is $a^\top a / n = V S U^\top U S V^\top / n = V (S^2 / n) V^\top$: the rows of
# `Vh` are the directions, and $S^2 / n$ the variances. The line to get right is the first: mean *and* directions
# belong to the encoder, and are learned from `seen` alone. The signs of the latents are anybody's choice, and the
# check leaves it to you.

# %% [markdown] tags=["exercise"]
# ### 01.how_many: where to stop
#
# Write `how_many(variances, share)`: the least number of directions that together keep at least `share` of all
# variance. `variances` is a tensor (d,) in *any* order, `share` a number above 0 and at most 1. Return an int.

# %% tags=["exercise"]
def how_many(variances, share):
    # BEGIN SOLUTION
    kept = variances.sort(descending=True).values.cumsum(0)  # by the best 1, 2, 3 ... directions
    enough = kept >= share * variances.sum()
    return int((~enough).sum()) + 1  # all that are not enough, and one more
    # END SOLUTION


check.exercise("01.how_many", how_many)

# %% [markdown] tags=["solution"]
# The cumulative sum rises, so the entries that are not enough come first; the number wanted is one more than there are
# of those. Multiplying the share by the sum, in place of dividing everything by it, keeps whole numbers whole. For the
# digits `how_many(variances, 0.9)` is what the dotted line of the figure says.

# %% [markdown] tags=["exercise"]
# ### 01.conv: a puzzle of shapes
#
# Write `conv_autoencoder(channels, latent)`. It returns two networks, `encoder` and `decoder`:
# - the encoder makes of pictures (b, channels, h, w) a map (b, latent, h/4, w/4);
# - the decoder makes of that a picture (b, channels, h, w), with any value in -1..1 possible;
# - **h and w may be any multiples of 4**, not only 32, and need not be equal;
# - and it has to be more than one linear map.

# %% tags=["exercise"]
def conv_autoencoder(channels, latent):
    # BEGIN SOLUTION
    encoder = nn.Sequential(
        nn.Conv2d(channels, 16, 4, stride=2, padding=1), nn.SiLU(),  #                  h -> h/2
        nn.Conv2d(16, latent, 4, stride=2, padding=1),  #                               h/2 -> h/4
    )  # fmt: skip
    decoder = nn.Sequential(
        nn.ConvTranspose2d(latent, 16, 4, stride=2, padding=1), nn.SiLU(),  #           h/4 -> h/2
        nn.ConvTranspose2d(16, channels, 4, stride=2, padding=1),  #                    h/2 -> h
    )  # fmt: skip
    return encoder, decoder
    # END SOLUTION


check.exercise("01.conv", conv_autoencoder)

# %% [markdown] tags=["solution"]
# Down: $(n + 2 - 4)/2 + 1 = n/2$. Up: $(n - 1) \cdot 2 - 2 + 4 = 2n$. With kernel 3 the way down fits too,
# $\lfloor (n - 1)/2 \rfloor + 1 = n/2$ for even $n$; but 15 and 16 both become 8, so the way up has to be told which
# one it was: `output_padding=1`. Pooling on the way down and `nn.Upsample(scale_factor=2)` on the way up are fine. A
# `Linear` layer is not: it has one weight for each pixel, and so one size of picture.

# %% [markdown] tags=["exercise"]
# ### 01.psnr: errors in decibels
#
# The *peak signal-to-noise ratio* compares the error with the largest possible difference of two pixels, the *peak*:
#
# $$\mathrm{PSNR} = 10 \log_{10} \frac{\text{peak}^2}{\text{mean squared error}}$$
#
# Write `psnr(x, rebuilt)` for pictures (b, c, h, w) **in -1..1**, one number for each picture, (b,). A screen cannot
# show more than white: cut what is rebuilt to -1..1 first. About 20 dB are a blur, at 40 dB hardly anybody sees a
# difference.

# %% tags=["exercise"]
def psnr(x, rebuilt):
    # BEGIN SOLUTION
    rebuilt = rebuilt.clamp(-1, 1)
    error = (x - rebuilt).square().flatten(1).mean(1)  #                               (b, c, h, w) -> (b,)
    peak = 2  # from black, -1, to white, 1
    return 10 * torch.log10(peak**2 / error)
    # END SOLUTION


check.exercise("01.psnr", psnr)

# %% [markdown] tags=["solution"]
# The peak is the width of the scale, and for -1..1 that is 2. With 1 every result is 6 dB too low, and with pictures
# in 0..1 and a peak of 2 every result is 6 dB too good: in [MBRS #4](https://github.com/jzyustc/MBRS/issues/4) the
# readers of one line of code argue for 1, for 2 and for 255. PSNR values from different papers can be compared only if
# all agree on this, and on whether the mean is taken before the logarithm.

# %% [markdown] tags=["exercise"]
# ### 01.holes: how far from everything?
#
# Write `holes(z, encoded)` for latents `z`, (m, k), and the encoded pictures, (n, k). For each of `z` return its
# distance to the nearest encoded latent, *divided by the usual distance*: the median, over the encoded latents, of
# each one's distance to its nearest other. The result is (m,): about 1 for a latent among friends, much more in a
# hole.

# %% tags=["exercise"]
def holes(z, encoded):
    # BEGIN SOLUTION
    among = torch.cdist(encoded, encoded)  #                                           (n, n)
    among.fill_diagonal_(math.inf)  # nobody is a neighbour of himself
    usual = among.amin(1).median()
    return torch.cdist(z, encoded).amin(1) / usual  #                                  (m, n) -> (m,)
    # END SOLUTION


check.exercise("01.holes", holes)

# %% [markdown] tags=["solution"]
# The nearest to an encoded latent is itself, at distance 0: without the diagonal taken out the usual distance is 0,
# and everything is infinitely lonely. Leaving out distances of 0 by `d > 0` is not the same: `torch.cdist` may round a
# distance of 0 to a little more ([pytorch #123082](https://github.com/pytorch/pytorch/issues/123082)), and of two
# pictures that are equal each *is* the other's neighbour.

# %% [markdown]
# ## Quiz
#
# <details><summary>1. A colleague's autoencoder has one hidden layer of 10 numbers and no activation, trained for a
# day on a GPU. What would you have done?</summary>
#
# PCA, in a second. The best that a linear autoencoder can reach is PCA's error with 10 directions, and PCA reaches it
# exactly. The day was spent on getting near.
# </details>
#
# <details><summary>2. "Our latent keeps 99% of the variance, so next to nothing is lost." When is that wrong?</summary>
#
# When what matters is small. In the shapes six numbers keep nine tenths of the variance, and that is the background: a
# shape of 40 pixels among 1,024 hardly counts, however clearly one sees it. Look at the pictures, and measure what you
# need. </details>
#
# <details><summary>3. Your autoencoder rebuilds unseen pictures almost perfectly, so you decode random latents and
# get noise. Train longer?</summary>
#
# No. It does what it was asked for, and was never asked what lies between its islands. Longer training may make the
# islands smaller still. Either the encoder must be made to fill the space (lesson 02), or a second model must learn
# where the islands are (lesson 12). </details>
#
# **Words of this lesson** ([glossary](glossary.md)): autoencoder, bottleneck, convolution, factor, latent, PCA,
# principal angles, activation, PSNR. **Next:** lesson 02 makes the latents of all pictures together look like noise,
# and pays for it.

# %%
print(f"this lesson took {time.perf_counter() - opened:.0f} s from its first cell to its last")
