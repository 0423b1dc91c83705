# %% [markdown]
# # 14 · Edit and control
#
# **After this lesson you can**
# - change a given picture as much as you like, and say what survives;
# - fill a hole in it, or make it wider, and keep every known pixel to the last bit;
# - enlarge it, and tell what was seen from what was made up;
# - steer a model by lines and by boxes, through a second network that begins as nothing;
# - say where each of these breaks, because you have broken it and counted.
#
# **Time:** Two to three minutes of computing on a laptop with 2 cores, no GPU; an hour or two with the exercises.
#
# **Needs:** lesson 12 (latents, and the loop that draws), lesson 10 (guidance). Nothing is downloaded. Words in
# *slanted type* are explained where they come up, and again in the [glossary](glossary.md).
#
# So far you have said what you want in words alone, and the noise decided the rest. Who works with pictures has more
# to say: *this* picture, but in orange; everything as it is, but not that thing there; a star in this corner. There
# seem to be many tools for that, each with its own program. In truth there are only three places where one can
# interfere with the loop that you know from lesson 12:
#
# | where | what one does there | what comes out |
# |---|---|---|
# | the **start** | begin with a noisy picture instead of noise alone | img2img, variations |
# | the **answer** | say what is known already, at every step | inpainting, outpainting |
# | the **network** | show it something beside the noise and the words | upscaling, ControlNet, layouts |
#
# All models below are small ones of the shapes world that came with the course. They draw dozens of pictures in
# seconds, by the same code as the published ones, and here an oracle can count how often it works.

# %%
import textwrap
import time

import torch
import torch.nn.functional as F
from matplotlib import pyplot as plt

from minildm import denoise, evaluate, hinted, hints, levels, oracle, pictures, sample, scenes, show, tasks, weights
from minildm.control import ControlNet, Hint
from minildm.course import painting, widgets
from minildm.edits import emptied
from minildm.hints import Box

STEPS, SCALE = 20, 3.0  # of every drawing below that does not say otherwise

opened = time.perf_counter()
show.style()
pipe, clip = weights.load("shapes"), weights.load("clip")  # the model of lesson 00, and who reads captions
edges, layout, upscaler = (weights.load(name) for name in ("edges", "layout", "upscaler"))
how = {"steps": STEPS, "scale": SCALE}


def noises(n, seed, height=32, width=32):
    return torch.randn(n, *pipe.latent_shape(height, width), generator=torch.Generator().manual_seed(seed))


def scene(ground, *things):
    """One scene in words and places, such as scene("white", "large red ring 0.3 0.5")."""
    said = [thing.split() for thing in things]
    absent = 2 - len(said)
    size, colour, shape = (
        torch.tensor([[[*names].index(words[k]) for words in said] + [-1] * absent])
        for k, names in enumerate((scenes.SIZES, scenes.COLOURS, scenes.SHAPES))
    )
    x, y = (torch.tensor([[float(words[k]) for words in said] + [0.0] * absent]) for k in (3, 4))
    return scenes.Scenes(shape, colour, size, x, y, torch.tensor([[*scenes.BACKGROUNDS].index(ground)]))


def share(hits):
    """A share with its 95% interval, in words."""
    value, low, high = oracle.wilson(int(hits.sum()), len(hits))
    return f"{value:.2f} ({low:.2f} to {high:.2f})"


def veiled(picture, mask):
    """A picture with a chequered cloth where it is to be painted anew."""
    rows, columns = (torch.arange(side) for side in picture.shape[2:])
    cloth = ((rows[:, None] + columns) % 2) * 0.5 - 0.1
    return torch.where(mask > 0, cloth, picture)


def framed(drawn, boxes):
    """Pictures (n, 3, h, w) at 64 x 64 with the rims of boxes in black and white dashes: seen on any ground."""
    drawn = F.interpolate(drawn, size=64)
    dashes = ((torch.arange(64)[:, None] + torch.arange(64)) // 2 % 2) * 2.0 - 1
    for _, *sides in boxes:
        left, top, right, bottom = (min(round(side * 64), 63) for side in sides)
        for rows, columns in ((slice(top, bottom + 1), [left, right]), ([top, bottom], slice(left, right + 1))):
            drawn[:, :, rows, columns] = dashes[rows, columns]
    return drawn


def columns_of(texts):
    """Texts as headings of narrow columns."""
    return [textwrap.fill(text, 13) for text in texts]


# %% [markdown]
# ## The picture first
#
# Above stands what was given beside the prompt, below what the model made of it: a picture; a picture with a hole; a
# drawing of lines; two boxes with words in them; a picture of 16 x 16 pixels.

# %%
blue_star = scenes.render(scene("white", "large blue star 0.5 0.5"))
pair = scenes.render(scene("beige", "large red circle 0.28 0.3", "small purple square 0.75 0.72"))
hole = scenes.box_map(torch.tensor([[0.04, 0.06, 0.52, 0.54]]))[:, None].ceil()  #         (1, 1, 32, 32)
lines = hints.edges(scene("grey", "large green cross 0.6 0.55"))  #                        (1, 3, 32, 32)
boxes = [Box("a large orange circle", 0.06, 0.5, 0.48, 0.92), Box("a small blue ring", 0.65, 0.12, 0.87, 0.34)]
night = scene("black", "large yellow star 0.35 0.6", "small pink ring 0.8 0.3")
small = F.interpolate(scenes.render(night, 64), size=16, mode="area")  #                   (1, 3, 16, 16)

asked = {
    "changed": "a large orange star on a white background",
    "filled": "a large green ring at the top left of a beige background",
    "along lines": "a large yellow cross on a grey background",
    "into boxes": "a large orange circle and a small blue ring on a white background",
    "enlarged": "a large yellow star and a small pink ring on a black background",
}
one, two, three, four, five = asked.values()
drawn = [
    tasks.img2img(pipe, one, blue_star, 0.7, noise=noises(1, 1), **how),
    tasks.inpaint(pipe, two, pair, hole, noise=noises(1, 2), **how),
    tasks.text2img(pipe, three, noise=noises(1, 3), control=[Hint(edges, lines)], **how),
    tasks.text2img(pipe, four, noise=noises(1, 4), control=[Hint(layout, hints.layout(clip, boxes))], **how),
    tasks.upscale(upscaler, five, small, 4, level=0, scale=1.0, generator=torch.Generator().manual_seed(5)),
]
given = [blue_star, veiled(pair, hole), lines * 2 - 1, framed(torch.ones(1, 3, 64, 64), boxes), small]
upper, lower = (torch.cat([F.interpolate(picture, size=64) for picture in row]) for row in (given, drawn))
show.figure(
    show.strip([upper, lower], ["given", "drawn"], list(asked)),
    "Five ways to say more than words can. Prompts: " + "; ".join(f"“{said}”" for said in asked.values()) + ".",
)

# %% [markdown]
# ## The start: how much survives
#
# A painter who wants to change a picture paints over it. A diffusion model does it by *noise*: add so much that what
# shall change drowns, and what shall stay still shows through; then take the noise away, with a prompt that says what
# you want. That is **img2img** (the idea is SDEdit's: Meng et al. 2022, [arXiv
# 2108.01073](https://arxiv.org/abs/2108.01073)). One number says how much, the **strength**: the share of the steps
# that are left to go. Our blue star is to become an orange ring; of its place the prompt says nothing. Look at the
# upper row first, at what the model begins with. What would *you* still see in it?

# %%
PROMPT, strengths, MANY = "a large orange ring on a white background", (0.1, 0.3, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0), 12
spot = (0.3, 0.35)
star = scenes.render(scene("white", "large blue star {} {}".format(*spot)))
rows, published = pipe.rows(STEPS, "ddim"), levels.scaled_linear()
starts, ends, obeyed = [], [], {"orange": [], "a ring": [], "where it was": []}
print("strength  steps left    t  alpha (share of the picture)  sigma (share of the noise)")
for strength in strengths:
    film = tasks.states(pipe, PROMPT, image=star, strength=strength, noise=noises(MANY, 1), **how)
    first, *_, last = film
    starts.append(pipe.decode(first[:1]))
    ends.append(pipe.decode(last))
    got = oracle.read(ends[-1]).scenes  # what it would guess, also of a picture that it calls unreadable
    obeyed["orange"].append((got.colour[:, 0] == [*scenes.COLOURS].index("orange")).float().mean())
    obeyed["a ring"].append((got.shape[:, 0] == scenes.SHAPES.index("ring")).float().mean())
    obeyed["where it was"].append((torch.hypot(got.x[:, 0] - spot[0], got.y[:, 0] - spot[1]) < 3 / 32).float().mean())
    left = int(STEPS * strength)
    row = rows[STEPS - left]
    print(f"{strength:8}  {left:10}  {row.t:3.0f}  {row.alpha:28.5f}  {row.sigma:26.5f}")
print(f"{'the last row of Stable Diffusion':>38}  {published.alpha[-1]:15.5f}  {published.sigma[-1]:26.5f}")
show.figure(
    show.strip([torch.cat(starts), torch.cat([some[:1] for some in ends])], ["the start, decoded", "the end"],
               [f"{strength:g}" for strength in strengths]),
    f"The strength ladder: a blue star, asked to be “{PROMPT}”, more strongly from left to right.",
)  # fmt: skip
fig, ax = plt.subplots(figsize=(8, 3))
for (name, values), look in zip(obeyed.items(), ("o-", "s-", "^--"), strict=True):
    ax.plot(strengths, values, look, label=name)
ax.set(xlabel="strength", ylabel=f"share of {MANY} pictures", ylim=(-0.05, 1.05))
ax.legend(loc="center left", bbox_to_anchor=(1, 0.5))
show.figure(fig, "What the oracle reads at the end. The prompt's colour wins first, its shape much later, "
            "and with the old shape the place goes too.")  # fmt: skip

# %% [markdown]
# Read it from left to right. With little noise nobody can doubt that the star is blue, and the picture wins. Then
# colour gives way: what is left of it under the noise does not tell blue from orange any more. Outline and place hold
# out longest, since many cells together tell them: in noise, what is large is the last to drown (lesson 04). At the
# far right the picture is gone, and the prompt alone speaks.
#
# So what you are after lies somewhere between, and for each wish somewhere else. To recolour a thing and leave it
# where it is, take a strength where the first curve is up and the last has not fallen. But where is the strength that
# makes a ring of the star *where it was*? There is hardly one: both are told by the same cells. For that, noise is
# too blunt a tool; one has to say the place, in words, by a mask or by a box. All of these follow.
#
# ### The formula
#
# With $k$ of $n$ steps left, the walk begins at row $n - k$ of the table, and a walk may only begin with what belongs
# there, a picture with the noise of that row:
#
# $$ x = \alpha_{n-k}\, z + \sigma_{n-k}\, \epsilon, \qquad k = \lfloor n \cdot \text{strength} \rfloor $$
#
# ### What happens at the ends
#
# **Strength 0** leaves no step. The right answer is the picture itself, bit by bit, without a round trip through the
# autoencoder.
#
# **Strength 1** begins at the noisiest row. Is that the same as no picture at all? Look at the last line of the
# table. In our rows next to nothing of the picture is left there; Stable Diffusion's table stops while 7% of it still
# is. So its img2img at strength 1 is *not* text-to-image: a black picture stays dark ([diffusers
# #436](https://github.com/huggingface/diffusers/issues/436)), and people keep finding it
# ([#6957](https://github.com/huggingface/diffusers/issues/6957), [cog-stable-diffusion
# #21](https://github.com/replicate/cog-stable-diffusion/issues/21)). It is no mistake of the program. The network was
# trained to find a trace of a picture in that row, and pure noise is what it has never seen there. (One warning more:
# in some programs the number means the opposite, as [mflux #123](https://github.com/mflux-community/mflux/issues/123)
# found out.)

# %% [markdown] tags=["solution"]
# # 14 · Edit and control: solutions
#
# One answer to each exercise, and why it is so. There are others; the check takes them too.

# %% [markdown] tags=["exercise"]
# ## Exercises
#
# Write your answer in place of the dots and run the cell. Its last line looks at what you wrote: a tick, or what is
# amiss and on which input. `check.hint("14.img2img")` gives a hint, and a clearer one each time; nothing is counted.
# Whatever you write, the notebook runs on.

# %% tags=["setup"]
import copy
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import nn

from minildm import oracle
from minildm.course import check

# %% [markdown] tags=["exercise"]
# ### 14.img2img: begin in the middle
#
# Write `img2img(encode, decode, denoise, picture, noise, rows, strength)`:
# - `encode(picture)` gives (scaled) latents, `decode(z)` a picture; the round trip is *not* exact;
# - `denoise(x, level)` guesses the clean latents; prompt and guidance are already in it;
# - `rows` are n + 1 levels `(t, alpha, sigma)`, noisiest first, the last one clean; of n steps `int(n * strength)`
#   are done;
# - `noise` has the shape of the latents.
#
# Return a picture. The steps are those of DDIM, as in `12.whole`. Mind both ends. (One answer stands in the cell
# after this one: hands off until you have your own.)

# %% tags=["exercise"]
def img2img(encode, decode, denoise, picture, noise, rows, strength):
    # BEGIN SOLUTION
    n = len(rows) - 1
    left = rows[n - int(n * strength) :]
    if len(left) == 1:
        return picture  # nothing to do, and the autoencoder shall do nothing either
    x = left[0].alpha * encode(picture) + left[0].sigma * noise
    for level, below in pairwise(left):
        x0 = denoise(x, level)
        x = below.alpha * x0 + below.sigma * (x - level.alpha * x0) / level.sigma
    return decode(x)
    # END SOLUTION


check.exercise("14.img2img", img2img)

# %% [markdown] tags=["solution"]
# Strength 1 needs no case of its own: $n - n = 0$, and the row says how much of the picture is left there. Where its
# alpha is 0, `x` is the noise and the walk is that of text-to-image. At strength 0 one clean row is left, and a loop
# over pairs would do nothing; but `decode(encode(picture))` would still be a little off the picture.

# %% [markdown]
# In the library it is as short as that, and it works alike for the small model and for the published ones. Is it the
# same? And if one leaves the prompt away, the model has no wish of its own but that the picture be *a* picture, and
# draws **variations**: what it takes for the same thing at that strength (`tasks.vary`).

# %%
def my_img2img(pipe, prompt, image, strength, steps, scale, noise):
    left = pipe.rows(steps, "ddim")[steps - int(steps * strength) :]
    if len(left) == 1:
        return image
    x = left[0].alpha * pipe.encode(image) + left[0].sigma * noise
    denoiser = tasks.prompted(pipe, [prompt] * len(noise), None, scale)
    *_, x = sample.ddim(denoiser, x, left)
    return pipe.decode(x)


check.same(my_img2img, tasks.img2img)
print("strength 0 gives the picture, bit by bit:", torch.equal(my_img2img(pipe, "", star, 0, 20, 1, None), star))
ours, plain = (
    task(pipe, PROMPT, *more, noise=noises(1, 1), **how)
    for task, more in ((tasks.img2img, (star, 1.0)), (tasks.text2img, ()))
)
apart = (ours - plain).abs().max() * 127.5
print(f"strength 1 and text2img, alpha {rows[0].alpha:.5f}: {apart:.2f} of 255 apart at most")

varied = {s: my_img2img(pipe, "", pair.expand(6, -1, -1, -1), s, STEPS, 1, noises(6, 3)) for s in (0.5, 0.7, 0.85)}
show.figure(
    show.strip([torch.cat([pair, made]) for made in varied.values()], [f"strength {s:g}" for s in varied],
               ["given", *[f"noise {i}" for i in range(1, 7)]]),
    "Variations: img2img without a prompt. What is small changes first; places hold out longest.",
)  # fmt: skip

# %% [markdown]
# ## The answer: fill a hole
#
# Now a part of the picture is to stay **exactly**. A *mask* says which: white (1) is painted anew, black (0) stays.
# We want two things that pull apart: known pixels must not move by a bit, and what is new must *fit* them. If one
# only pasted the old pixels over a new picture, the first would hold and the second would not.
#
# So the model has to see the known part while it draws. Think of a step of the loop, at some level. What would the
# network see around the hole, if the picture that is in the making were ours? Our latents, with the noise of that
# level. And what would it answer there? Our latents. We know both! So we tell it, before and after each call, with
# $m$ for the mask:
#
# $$ x \leftarrow m\, x + (1-m)\,(\alpha z + \sigma \epsilon), \qquad
# \hat z_0 \leftarrow m\, \hat z_0(x) + (1-m)\, z $$
#
# (Lugmayr et al. 2022, [arXiv 2201.09865](https://arxiv.org/abs/2201.09865), for models of pixels; in latents
# Avrahami et al. 2023, [arXiv 2206.02779](https://arxiv.org/abs/2206.02779).) In code this is a **wrapper**: a
# denoiser goes in, a denoiser comes out, and the sampler never hears of it.

# %%
def my_keep(denoiser, z, hole, noise, start):
    def knowing(x, level):
        if level.t != start:  # at the first row x is what we began with, all noise, as the published programs have it
            x = torch.where(hole > 0, x, level.alpha * z + level.sigma * noise)
        return torch.where(hole > 0, denoiser(x, level), z)

    return knowing


ring = "a large green ring at the top left of a beige background"
z, cells, noise = pipe.encode(pair), pictures.on_grid(hole, pipe.factor), noises(1, 2)
plain = tasks.prompted(pipe, [ring], None, SCALE)
film = list(sample.ddim(my_keep(plain, z, cells, noise, rows[0].t), noise, rows))
*_, theirs = tasks.states(pipe, ring, image=pair, mask=hole, noise=noise, **how)
check.agree("latents by this wrapper, and of tasks.inpaint", film[-1], theirs)
shown = [0, 5, 9, 12, 15, 19]
with torch.no_grad():
    seen = pipe.decode(torch.cat([film[i] for i in shown]))
    guesses = pipe.decode(torch.cat([plain(film[i - 1] if i else noise, rows[i]) for i in shown]))
show.figure(
    show.strip([seen, guesses], ["after the step, decoded", "the bare network's guess"],
               [f"step {i + 1}" for i in shown]),
    f"“{ring}”: the hole at the upper left is filled. Below: what the network itself would answer, "
    "before we say what we know.",
)  # fmt: skip

# %% [markdown]
# ### Seams: in latents, in pixels, or in both?
#
# Now there is a choice of where to blend. Four ways, from the same noise:
#
# - **latents alone**: the wrapper, then decode. What is new fits; but *all* pixels went through the autoencoder;
# - **pixels alone**: draw a picture by the prompt without looking, and paste the known pixels over it;
# - **both**: the wrapper, and at the end the known pixels over it;
# - **both, and met**: the same, but first the colours of the new pixels are shifted so that they meet the known ones.
#   In the last cells that were kept we know how far the decoder is off: it errs, and the new cells next door change its
#   answer. That much is added to what is new, spread over it like a **membrane** that is held at its rim (Pérez et al.
#   2003), and by springs to what was drawn (Bhat et al. 2008): with each cell further in from a straight rim about a
#   third of it is left. This is `tasks.inpaint`.
#
# The table counts how many known pixels moved by more than 1 of 255, and how much neighbouring pixels differ *across
# the rim* of the mask. It does so twice: for a mask whose rim lies between cells of the latents, and for one two
# pixels further up and to the right.

# %%
n = 8
real = scenes.draw(n, seed=140, objects=2)
originals, said, noise = scenes.render(real), scenes.captions(real, full=True), noises(n, 5)
anew = tasks.text2img(pipe, said, noise=noise, **how)


def rim(drawn, mask):
    """How much pixels differ from their neighbours on the other side of the mask's rim, on a scale of 255."""
    steps = [drawn.diff(dim=d).abs().mean(1, keepdim=True)[mask.diff(dim=d) != 0] for d in (2, 3)]
    return torch.cat(steps).mean() * 127.5


print(f"{'':22}{'known pixels moved':>20}{'by at most':>12}{'across the rim':>16}")
for kind, (top, left) in {"between cells": (8, 8), "two pixels off": (6, 10)}.items():
    mask = torch.zeros(n, 1, 32, 32)
    mask[..., top : top + 20, left : left + 16] = 1
    *_, latents = tasks.states(pipe, said, image=originals, mask=mask, noise=noise, **how)
    decoded = pipe.decode(latents)
    ways = {
        "latents alone": decoded,
        "pixels alone": torch.where(mask > 0, anew, originals),
        "both": torch.where(mask > 0, decoded, originals),
        "both, and met": pictures.blended(decoded, originals, mask, pipe.factor),
    }
    print(f"{kind}: {rim(originals, mask):.1f} across the rim in the real pictures")
    for name, made in ways.items():
        moved = (made - originals).abs().amax(1, keepdim=True)[mask == 0] * 127.5
        print(f"    {name:18}{(moved > 1).float().mean():20.3f}{moved.max():12.0f}{rim(made, mask):16.1f}")
theirs = tasks.inpaint(pipe, said, originals, mask, noise=noise, **how)
check.agree("both, and met; and tasks.inpaint", ways["both, and met"], theirs)
error = (decoded - originals).abs().amax(1, keepdim=True) * (mask == 0) * 10 - 1
show.figure(
    show.strip([veiled(originals, mask)[:6], *(made[:6] for made in ways.values()), error[:6]],
               ["two pixels off", *ways, "latents alone: known pixels moved, ten times"]),
    "Blending in latents alone fits, and moves known pixels; in pixels alone keeps them, and tears; the last two keep them and fit better.",
)  # fmt: skip

# %% [markdown]
# Latents alone move pixels everywhere a little, because the autoencoder is not exact, and near the rim a lot: each
# pixel of the decoder looks at several cells, and some of them are new. Pixels alone keep them all, and tear. Both
# together keep them all and fit better. What is left at a rim *between* cells comes in part from the decoder: of two
# neighbours only the new one is as it made them. In the last way, where they are made to meet, the jump is a third
# smaller, and still no known pixel has moved.
#
# Two pixels off, little helps. The cells at the rim are drawn anew as a whole, and then half of each is covered by the
# old pixels again. What was drawn there, the old pixels do not go on with, and so they hold no membrane: it would pull
# the colour of one thing into another. So choose masks on the grid where you can, and let them reach a little beyond
# what is to go, so that their rim lies where there is only ground.
#
# ### A mask on the grid of latents
#
# The mask has 32 x 32 pixels, the latents have 8 x 8 cells of 4 x 4 pixels each. A cell is either kept or painted
# anew: there is no half of it. What about one that the stroke only touches? Three candidates, on a thin stroke that
# was meant to paint something away:

# %%
stroke = torch.zeros(1, 1, 32, 32)
for i in range(20):
    stroke[0, 0, 25 - i : 27 - i, 5 + i : 7 + i] = 1
grids = {
    "one sample": stroke[..., ::4, ::4],
    "majority": (F.avg_pool2d(stroke, 4) > 0.5).float(),
    "any pixel": pictures.on_grid(stroke, 4),
}
covered = {name: (F.interpolate(grid, scale_factor=4) * stroke).sum() / stroke.sum() for name, grid in grids.items()}
wide = [veiled(pair, F.interpolate(grid, scale_factor=4)) for grid in grids.values()]
show.figure(
    show.strip([torch.cat([veiled(pair, stroke), *wide])], ["a mask"],
               ["painted", *(f"{name}: {part:.0%}" for name, part in covered.items())]),
    "The share of the stroke that lies in open cells. What is not in one is kept in the latents, "
    "and what was to go shines through.",
)  # fmt: skip

# %% [markdown]
# So **any pixel** opens its cell: the maximum over it. (A well-known program took a single sample in the corner until
# 2026: [stable-diffusion.cpp #1357](https://github.com/leejet/stable-diffusion.cpp/pull/1357).) That opens more than
# was painted. No known pixel is lost by it, because the last step lays them over the result again; how well the new
# fits them is another matter, as you have just seen. And "any" has a price. A speck of 1 in 255 opens a cell, and in
# one program a browser's specks opened them all ([stable-diffusion-webui
# #10644](https://github.com/AUTOMATIC1111/stable-diffusion-webui/pull/10644)): look at your mask before you blame the
# model.

# %% [markdown] tags=["exercise"]
# ### 14.grid: bring a mask to the grid
#
# Write `on_grid(mask, factor)`. `mask` is (b, 1, h, w), numbers in 0..1, where everything above 0 counts as painted.
# Return (b, 1, h', w') of 0.0 and 1.0, one for each cell of `factor` x `factor` pixels. Where h or w is no multiple
# of the factor, the last cells hang over the edge and have fewer pixels; they are cells all the same.

# %% tags=["exercise"]
def on_grid(mask, factor):
    # BEGIN SOLUTION
    painted = (mask > 0).float()
    # the largest of zeros and ones is 1 if there is a 1
    cells = F.max_pool2d(painted, factor, ceil_mode=True)
    return cells
    # END SOLUTION


check.exercise("14.grid", on_grid)

# %% [markdown] tags=["solution"]
# Pooling by the maximum is a question about *any*; by the mean it would be one about *how much*, and minus the
# maximum of minus the mask asks about *all*. `pictures.on_grid` has one line less, because the picture was padded
# before.

# %% [markdown] tags=["exercise"]
# ### 14.inpaint: keep every known pixel
#
# Write `inpaint(encode, decode, denoise, picture, mask, hole, noise, rows)`: the arguments of `14.img2img`, with
# `mask` on pixels (b, 1, h, w) and `hole` on the grid (b, 1, h', w'), both of 0 and 1.
# - The walk begins in `noise`, and goes by DDIM through all rows.
# - Before each call, the first one too, the known part of `x` is made `alpha * z + sigma * noise`; in each answer it
#   is `z`.
# - In the picture that comes out, all pixels outside of `mask` are those of `picture`, **bit by bit**.

# %% tags=["exercise"]
def inpaint(encode, decode, denoise, picture, mask, hole, noise, rows):
    # BEGIN SOLUTION
    z, x = encode(picture), noise
    for level, below in pairwise(rows):
        x = torch.where(hole > 0, x, level.alpha * z + level.sigma * noise)
        x0 = torch.where(hole > 0, denoise(x, level), z)
        x = below.alpha * x0 + below.sigma * (x - level.alpha * x0) / level.sigma
    return torch.where(mask > 0, decode(x), picture)
    # END SOLUTION


check.exercise("14.inpaint", inpaint)

# %% [markdown] tags=["solution"]
# A surprise: with DDIM the first of the two lines is needed only once. If the answer is `z` and `x` is
# $\alpha z + \sigma \epsilon$, then the noise that is left is $\epsilon$ again, and the step leads to
# $\alpha' z + \sigma' \epsilon$ by itself. Samplers that add fresh noise on the way (DDPM) do not keep it so, and
# there the line is needed at every step.

# %% [markdown]
# ### What goes wrong: it never saw the mask
#
# It all looks well. So let us count, first with the ring that was filled in so nicely above. Does it matter what the
# prompt says? Then from each of 40 scenes one thing is taken away, with a margin of two pixels, and asked for again
# by a prompt that describes the whole scene. The hole is more than large enough. In how many pictures is everything
# right?

# %%
done = scene("beige", "large green ring 0.28 0.3", "small purple square 0.75 0.72")
for words, prompt in {
    "the whole scene": "a large green ring and a small purple square on a beige background",
    "the new thing": "a large green ring on a beige background",
    "the new thing and its place": ring,
}.items():
    made = tasks.inpaint(pipe, prompt, pair, hole, noise=noises(MANY, 2), **how)
    right = oracle.matches(oracle.read(made), done[torch.zeros(MANY, dtype=torch.int64)])["all"]
    print(f"the prompt names {words:28} everything right in {int(right.sum()):2} of {MANY}")

n = 40
full = scenes.draw(n, seed=141)
holed, holes = emptied(full)  # without the last object of each scene       (n, 3, 32, 32), (n, 1, 32, 32)
captions_40, noise_40 = scenes.captions(full, seed=141, full=True), noises(n, 6)
early, own = rows[7], []  # what the network wants early on, before we say what we know


def overheard(x, t, **said):
    out = pipe.unet(x, t, **said)
    if t[0] == early.t:
        wanted, plain = (denoise.to_x0(part, x[:n], early, pipe.prediction) for part in out.chunk(2))
        own.append(plain + SCALE * (wanted - plain))
    return out


film = tasks.states(pipe, captions_40, image=holed, mask=holes, noise=noise_40, network=overheard, **how)
refilled = tasks.finish(pipe, film, holed, holes)
alone = oracle.matches(oracle.read(refilled), full)["all"]
print(f"\n40 scenes: everything right {share(alone)}; known pixels exact:",
      bool(((refilled == holed) | (holes > 0)).all()))  # fmt: skip
bad = (~alone).nonzero()[:6, 0]
show.figure(
    show.strip([scenes.render(full)[bad], veiled(holed, holes)[bad], pipe.decode(own[0])[bad], refilled[bad]],
               ["the scene", "given", "what it wants at step 8", "the result"],
               columns_of(oracle.describe(oracle.read(refilled), i) for i in bad.tolist())),
    "Six that went wrong. Above, what the oracle reads in the result: “fit” says that no thing of this world looks so, "
    "like the ring in the third, which is cut flat at its top. Third row: the bare network's guess at step 8 of 20; "
    "fourth: what came out, cut to the hole.",
)  # fmt: skip

# %% [markdown]
# Look at the third row. The network does want a thing of the kind that it was asked for, if not always in the right
# colour yet (a red ring for a pink one, a green ring for a purple one); but elsewhere, or larger than the hole, and
# the wrapper cuts it off. How should it know better? **It never saw the mask.** It sees what is around the hole, hidden
# in noise at first, and *we* overrule its answers there; nobody tells it that it will be overruled. While the large
# things are settled, at the noisy end, it puts the thing wherever the prompt leaves it free to; when it notices, it
# is too late.
#
# Three ways out *tell* the network, one tells the hole, and one tells nobody:
#
# 1. **Say it in words.** The prompt that named the place was the one that worked. It costs nothing, but words are
#    coarse.
# 2. **Show it the mask.** The published inpainting models are trained on holes. Their U-Net takes nine channels in
#    place of four: the noisy latents, the mask, and the latents of the picture with the hole in it. It is the same
#    class, with one convolution that is wider: `UNetConfig(in_channels=9)`. `tasks.inpaint` sees that and shows such
#    a model its hole (`denoise.beside`); lesson 16 reads the nine off the shapes of a published file.
# 3. **Tell it by a map** where things are to be, through a second network. We get to know that one further down, and
#    come back to these 40 holes with it.
# 4. **Let it feel what it misses.** When we overrule an answer, we know by how much it was wrong. Below, the hole gets
#    to know it too.
# 5. **Draw several, and let it choose.** Put as much noise on a finished picture as there is picture, or twice as much,
#    and see how well the network takes it out again. It has never seen a ring that is cut in two, and stumbles over it:
#    `tasks.likeliest` keeps the picture with the least error. Eight tries cost eight times as much, and a little more.
#
# ### What the hole can feel
#
# The wrapper puts the right answer in the place of a wrong one, and that is that: in the hole nothing comes of it.
# Lesson 10 steered by the slope of the logarithm of what a classifier says. Take in its place the logarithm of how
# likely the *known* part is, given all of $x$: a bell curve about the network's answer. Its slope says how each number
# of $x$, those in the hole too, should change for the network to find by itself what we know:
#
# $$ \hat z_0 \leftarrow \hat z_0 - \frac{1}{\alpha} \nabla_x \tfrac12
# \big\lVert (1-m)\,(\hat z_0(x) - z) \big\rVert^2 $$
#
# That is **reconstruction guidance** (Ho et al. 2022, [arXiv 2204.03458](https://arxiv.org/abs/2204.03458)). How broad
# is the bell curve? In noise alone nothing is known, and its variance is that of the latents, 1; with no noise it is 0;
# in between we take $\sigma^2$ (Song et al. 2023, [ICLR](https://openreview.net/forum?id=9_gsMA8MRKQ)). So the factor
# $\sigma^2 / \alpha$ of lesson 10 becomes $1/\alpha$. At the noisy end that grows beyond all bounds, and the code stops
# it at 20. The slope goes back through the network, so a step takes twice the time.
#
# For the 40 holes we take DDPM besides: its fresh noise gives the hole more than one chance to agree with what lies
# around it.


# %%
def my_reconstruction(denoiser, z, hole):
    def moved(x, level):
        with torch.enable_grad():
            probe = x.detach().requires_grad_()
            answer = denoiser(probe, level)
            missed = ((answer - z)[hole.expand_as(z) == 0] ** 2).sum() / 2
            (slope,) = torch.autograd.grad(missed, probe)
        return answer.detach() - slope / max(level.alpha, level.sigma / 20)  # in pure noise alpha is next to nothing

    return moved


start = noises(1, 2)  # that of the ring
both = my_keep(my_reconstruction(plain, z, cells), z, cells, start, rows[0].t)
*_, mine = sample.ddim(both, start, rows)
*_, theirs = tasks.states(pipe, ring, image=pair, mask=hole, noise=start, reconstruction=1.0, **how)
check.agree("latents by both wrappers, and of tasks.inpaint", mine, theirs)

refills = {"DDIM": refilled}
for name, weight in {"DDPM": 0.0, "DDPM, reconstruction": 1.0}.items():
    seeded = torch.Generator().manual_seed(6)
    refills[name] = tasks.inpaint(pipe, captions_40, holed, holes, noise=noise_40, sampler="ddpm", generator=seeded,
                                  reconstruction=weight, **how)  # fmt: skip
for name, filled in refills.items():
    print(f"{name:22}everything right {share(oracle.matches(oracle.read(filled), full)['all'])}")
last = oracle.read(refills["DDPM, reconstruction"])
show.figure(
    show.strip([x[bad] for x in refills.values()], list(refills),
               columns_of(oracle.describe(last, i) for i in bad.tolist())),
    "The six holes that went wrong, filled in three ways. Over each column: what the oracle reads in the last row.",
)  # fmt: skip

# %% [markdown]
# DDPM alone does little for these holes; with the slope it does, with the same network, the same words and the same
# mask. The slope alone would not do either, try `sampler="ddim"`: it is a rough guide and leaves stains, and DDIM keeps
# what is there once, while DDPM draws fresh noise over everything at each step. And the fifth way comes on top: of eight
# such tries, at a scale of 2, `tasks.likeliest` picks one that is right in more than nine holes of ten. Forty holes are
# few; the figures of 500 are in `docs/measurements.md`.
#
# ## Play: paint a mask
#
# Something is painted over already. Clear it, paint over something else with the mouse, write what should be there,
# and press the button. What does the prompt have to name: the new thing, or all of the picture? What happens if you
# paint over half of a thing?

# %% tags=["explorer"] jupyter={"source_hidden": true}
alt = "a large red circle and a small purple square on beige"
canvas = painting.mask(pair, alt=alt, button="Paint anew")
canvas.value = hole  # something to begin with


def painted(hole, prompt, strength, seed):
    if not hole.any():
        return pair, "Nothing is painted yet. Paint over something in the picture."
    made = tasks.inpaint(pipe, prompt, pair, hole, strength, noise=noises(1, seed), steps=12, scale=SCALE)
    opened_cells = int(pictures.on_grid(hole, pipe.factor).sum())
    words = f"{int(hole.sum())} pixels painted, {opened_cells} of 64 cells opened. "
    return made, words + f"The oracle reads: {oracle.describe(oracle.read(made), 0)}."


studio = widgets.explorer(painted, hole=canvas, prompt=ring, strength=(0.4, 1.0, 0.1, 1.0), seed=(0, 9, 1))
painting.beside(studio)
widgets.show(studio, "Paint over a part of the picture at the left, and it is drawn anew, at the right.")

# %% [markdown]
# ## Wider and wider
#
# **Outpainting** is inpainting on a larger canvas: all that is new is the hole. A model that has learned pictures of
# one size is best given windows of that size: its last 16 columns are known, 16 are new. Then the window moves on.
# Five times makes 32 columns into 112.
#
# The prompt is that of the *window*, and the model does not know that half of it is known. So say what it cannot see:
# in the first strip the **place** and the **background**, in the second the background alone, in the third nothing.
# Where in the second a thing is missing or half of one, the network wanted it in the known half, and was overruled.
# Without any prompt it is free to want any ground at all, and noise hides that there is one already.
#
# And the seam? A seam that you can see is a jump between two columns that the world itself would not make. So we
# measure the jump, in what was made, in real pictures, and in two pictures of the same prompt put side by side.

# %%
things = [
    "a large red circle", "a small yellow star", "a large blue square", "a small pink ring", "a large orange cross",
]  # fmt: skip
kinds = {
    "place and background": "{} at the right of a black background",
    "background": "{} on a black background",
    "nothing": "",
}
world = scenes.render(scene("black", "large green ring 0.4 0.5")).repeat(3, 1, 1, 1)  #    (3, 3, 32, 32)
given = world
for i, thing in enumerate(things):
    prompts = [words.format(thing) for words in kinds.values()]
    wider = tasks.outpaint(pipe, prompts, world[..., -16:], right=16, noise=noises(3, 20 + i), **how)
    world = torch.cat([world, wider[..., 16:]], 3)
print(f"{world.shape[2]} x {world.shape[3]} pixels; what was given is in them, bit by bit:",
      torch.equal(world[..., :32], given))  # fmt: skip
fig, axes = plt.subplots(3, 1, figsize=(8, 7.6))
for ax, strip, name in zip(axes, world, kinds, strict=True):
    ax.imshow((strip / 2 + 0.5).permute(1, 2, 0), interpolation="nearest")
    ax.set_title(f"the prompts name: {name}")
    ax.set_xticks([31.5 + 16 * i for i in range(5)], ["seam"] * 5)
    ax.tick_params(axis="x", length=8, width=2, color="black")
    ax.set_yticks([])
show.figure(fig, "One picture outpainted five times, in three ways. Asked for, from left to "
            "right: " + ", ".join(things) + ".")  # fmt: skip

n = 20
real = scenes.draw(n, seed=142)
originals, said = scenes.render(real), scenes.captions(real, seed=142, full=True)
made = tasks.outpaint(pipe, said, originals[..., :16], right=16, noise=noises(n, 7), **how)
other = tasks.text2img(pipe, said, noise=noises(n, 7), **how)
side = torch.cat([originals[..., :16], other[..., 16:]], 3)
seams = {"outpainted": made, "real": scenes.render(scenes.draw(500, seed=143)), "side by side": side}
jumps = {name: (x[..., 16] - x[..., 15]).abs().mean((1, 2)) * 127.5 for name, x in seams.items()}
limit = jumps["real"].quantile(0.975)
print(f"{'':14}{'mean jump at the seam':>22}   at most {limit:.0f}, as in 97.5% of real pictures")
for name, jump in jumps.items():
    print(f"{name:14}{jump.mean():22.1f}   {share(jump <= limit)}")

# %% [markdown]
# Most seams are no larger than those of the world itself: the new columns are drawn to fit in *latents*, and their colours
# are made to meet the old ones. Those that are larger belong to things that the network wanted on both sides. What helps
# in a hole helps here too: of 500 pictures such as these (but with 20 columns given) 0.93 have a seam like that of real
# ones, with reconstruction guidance, DDPM and a scale of 2 it is 0.97, and of the likeliest of eight such 0.98, which is
# as many as in the world itself. (Without the membrane it was 0.87, 0.93 and 0.95.)
#
# ## The network: shown a small picture
#
# To enlarge a picture means to make up pixels. *Bicubic* interpolation makes them up from their neighbours, by a
# formula: smooth, and wrong at every edge. A model can do better, for it knows what edges look like. Two ways:
#
# - **An ordinary model**: enlarge bicubically, then img2img with little strength. It draws what *could* be there.
# - **An upscaler** was trained for it. Beside the noisy latents its U-Net is shown the small picture, as three
#   further channels (`denoise.beside`). It never has to guess what it can see.
#
# An upscaler that was trained on clean small pictures alone trusts every pixel of them, and enlarges their flaws. So
# the small picture gets some noise in training, by a **level** that the network is told (*noise conditioning
# augmentation*, Ho et al. 2021, [arXiv 2106.15282](https://arxiv.org/abs/2106.15282)). When drawing, the level says
# how far to trust it: 0 is "every pixel", more is "only the large things".

# %%
n = 12
real = scenes.draw(n, seed=144, objects=2)
large, said = scenes.render(real, 64), scenes.captions(real, seed=144, full=True)
small = F.interpolate(large, size=16, mode="area")  #                                      (n, 3, 16, 16)


def decibels(made):
    return evaluate.psnr((made - large[: len(made)]).square().mean().item())


def upscaled(small, level):
    more = {"generator": torch.Generator().manual_seed(8), "steps": 15, "scale": 1.0}
    return tasks.upscale(upscaler, said[: len(small)], small, 4, level=level, **more)


results = {
    "nearest": F.interpolate(small, scale_factor=4),
    "bicubic": F.interpolate(small, scale_factor=4, mode="bicubic").clamp(-1, 1),
    "img2img": tasks.upscale(pipe, said, small, 4, strength=0.4, noise=noises(n, 8, 64, 64), **how),
    "upscaler": upscaled(small, 0),
}
for name, made in results.items():
    right = oracle.matches(oracle.read(made), real)["all"]
    print(f"{name:10} {decibels(made):5.1f} dB, all right: {int(right.sum())} of {n}")
show.figure(
    show.strip([*(made[:5] for made in results.values()), large[:5]], [*results, "the truth"]),
    "From 16 x 16 to 64 x 64. Look at the corners: who made them up, who saw them, and who knew what they must be?",
)

hurt = (small[:3] + 0.25 * torch.randn(small[:3].shape, generator=torch.Generator().manual_seed(9))).clamp(-1, 1)
trust = {level: (upscaled(small[:3], level), upscaled(hurt, level)) for level in (0, 60, 150, 300)}
print("level   from a clean small picture   from one with grain")
for level, (clean, grainy) in trust.items():
    print(f"{level:5}   {decibels(clean):23.1f} dB   {decibels(grainy):16.1f} dB")
columns = [F.interpolate(hurt, size=64), *(grainy for _, grainy in trust.values())]
show.figure(
    show.strip([torch.stack([column[i] for column in columns]) for i in range(2)],
               ["first", "second"], ["with grain", *(f"level {level}" for level in trust)]),
    "Two grainy small pictures, enlarged at four levels of trust.",
)  # fmt: skip

# %% [markdown]
# Bicubic is safe, and soft. The ordinary model makes sharp edges, of the wrong things: it was trained at 32 x 32,
# where a large thing is 13 pixels wide, and in 27 pixels it sees room for several. (Stable Diffusion repeats things
# for the same reason in pictures much larger than those it was trained on: [diffusers
# #593](https://github.com/huggingface/diffusers/issues/593).) The upscaler sees what is there and knows what edges look
# like: nine decibels above bicubic here, and the oracle agrees with all twelve. It is not guided, for the words have less
# to say than the picture. What would guidance cost? Try `scale`.
#
# In the second table level 0 is best in both columns. Why then noise? Because in a world this simple nothing looks
# like grain, and the network mends it even where it is told to trust every pixel; all that more noise does is hide
# things. See the purple triangle at level 300: it has moved. In photographs grain can be sand, or skin. There the level
# says which, and nobody can tell the program which of the two pictures it has been given. You can.
#
# ## The network: a second one beside it
#
# Lines, boxes, depths, poses: one would have to train a new model for each, on millions of pictures, and hope that it
# forgets nothing of what it knew. A **ControlNet** (Zhang et al. 2023, [arXiv
# 2302.05543](https://arxiv.org/abs/2302.05543)) leaves the model as it is and puts a second network beside it:
#
# - a **copy of the way down** of the U-Net, weights and all: it can see pictures from its first day;
# - it is given the noisy latents and, added to them after the first layer, what some convolutions make of the
#   **map**;
# - what it finds at each size is **added to the skip connections** of the U-Net, through a **zero convolution**:
#   one of 1 x 1 whose weights and bias begin at 0.
#
# For one block $F$ with the weights $\Theta$, a copy with the weights $\Theta_c$, a map $c$ and zero convolutions
# $Z_1$ and $Z_2$ (their section 3.1):
#
# $$ y = F(x; \Theta) + Z_2\big(F(x + Z_1(c);\, \Theta_c)\big) $$
#
# At the start $Z_2$ gives 0, so **the picture is the same to the last bit**, and training begins from a model that
# already draws well. But a layer of zeros, will it ever learn? Many ask; the list of questions that comes with the
# published code holds this one alone ([docs/faq.md](https://github.com/lllyasviel/ControlNet/blob/main/docs/faq.md)).
# Take one weight, $y = w\,x$. The gradient of $w$ is $x$, and not $w$: it is not zero as long as what *comes in* is
# not. Only what lies *before* it gets nothing as long as $w$ is zero. So the parts wake up one after another, from
# the outlet inwards. Here is a new ControlNet for our model, and the gradients at its first steps. Look where the
# zeros end, row by row:

# %%
net = ControlNet.from_unet(pipe.unet, 3, hinted.EDGES_EMBEDDING)
learn = scenes.draw(8, seed=145)
z0, maps = pipe.encode(scenes.render(learn)), hints.edges(learn)
context = pipe.text(scenes.captions(learn, full=True))
t = torch.linspace(100, 900, 8).long()
level, eps = pipe.schedule.at(t), noises(8, 10)
alpha, sigma = (v.view(-1, 1, 1, 1) for v in (level.alpha, level.sigma))
x, target = alpha * z0 + sigma * eps, denoise.target(z0, eps, level, pipe.prediction)


def answer():
    return pipe.unet(x, t.float(), context=context, control=net(x, t.float(), context, maps))


with torch.no_grad():
    bare = pipe.unet(x, t.float(), context=context)
    print("a new ControlNet changes no bit of the answer:", torch.equal(answer(), bare))
parts = {
    "outlets (zero)": [*net.controlnet_down_blocks.parameters(), *net.controlnet_mid_block.parameters()],
    "copy of the way down": [*net.down_blocks.parameters(), *net.mid_block.parameters()],
    "inlet (zero)": [*net.controlnet_cond_embedding.conv_out.parameters()],
    "what reads the map": [*net.controlnet_cond_embedding.conv_in.parameters()],
}
optimiser = torch.optim.AdamW(net.parameters(), lr=1e-3)
print(f"\n{'size of the gradient':24}" + "".join(f"{f'step {i + 1}':>12}" for i in range(4)) + f"{'weights':>12}")
table = {name: [] for name in parts}
for _ in range(4):
    optimiser.zero_grad()
    F.mse_loss(answer(), target).backward()
    for name, some in parts.items():
        table[name].append(sum(w.grad.square().sum() for w in some).sqrt().item())
    optimiser.step()
for name, sizes in table.items():
    count = sum(w.numel() for w in parts[name])
    print(f"{name:24}" + "".join(f"{size:12.1e}" for size in sizes) + f"{count:12,}")

# %% [markdown] tags=["exercise"]
# ### 14.zero: begin as nothing, and learn
#
# Write `add_control(block, channels)`. `block` is a trained module that makes (b, c, h, w) of (b, c, h, w), with c
# `channels`. Return three things:
# - a function `forward(x, hint)`, the formula above, both of shape (b, c, h, w);
# - the copy, to be trained; the block itself is locked;
# - the list `[into, out]` of the two zero convolutions (`nn.Conv2d`), for what goes in and what comes out.

# %% tags=["exercise"]
def add_control(block, channels):
    # BEGIN SOLUTION
    twin = copy.deepcopy(block)  # before the lock, or the copy would be locked too
    block.requires_grad_(False)
    into, out = nn.Conv2d(channels, channels, 1), nn.Conv2d(channels, channels, 1)
    for conv in (into, out):
        nn.init.zeros_(conv.weight)
        nn.init.zeros_(conv.bias)

    def forward(x, hint):
        return block(x) + out(twin(x + into(hint)))

    return forward, twin, [into, out]
    # END SOLUTION


check.exercise("14.zero", add_control)

# %% [markdown] tags=["solution"]
# Why a copy, and not a new network? It starts where the block is: it sees shapes and knows what words mean. And why
# zero, and not just small numbers? The author's own answer to that ([ControlNet
# #51](https://github.com/lllyasviel/ControlNet/issues/51)): so as not to destroy the trainable copy. With random
# outlets the first steps would send it noise.

# %% [markdown]
# ### Lines
#
# The shipped `edges` learned from scenes and their outlines (`minildm train edges`, half an hour of one busy core), in
# half of the cases without a prompt, so that it must look at the lines. They say where and which shape; **colour and
# background are left to the words**. The number beside a hint is its **control strength**: its answers are multiplied
# by it before they are added. Three maps: from a scene, drawn by hand, and one that contradicts its prompt.

# %%
def line(canvas, start, end):
    """A line one pixel thin from start to end, x and y in pixels, with soft sides."""
    y, x = torch.meshgrid(torch.arange(32) + 0.5, torch.arange(32) + 0.5, indexing="ij")
    a, b = torch.tensor(start), torch.tensor(end)
    along = (((x - a[0]) * (b - a)[0] + (y - a[1]) * (b - a)[1]) / (b - a).square().sum()).clamp(0, 1)
    apart = ((x - a[0] - along * (b - a)[0]) ** 2 + (y - a[1] - along * (b - a)[1]) ** 2).sqrt()
    return torch.maximum(canvas, (1 - apart).clamp(0, 1))


by_hand, corners = torch.zeros(32, 32), [(9.0, 21.0), (17.0, 7.0), (24.0, 22.0), (9.0, 21.0)]
for start, end in pairwise(corners):
    by_hand = line(by_hand, start, end)
by_hand = by_hand.expand(1, 3, 32, 32)
cross = hints.edges(scene("white", "large blue cross 0.5 0.5"))
tries = {
    "from a scene": (hints.edges(scene("white", "large blue star 0.35 0.4", "small red ring 0.8 0.75")),
                     "a large pink star and a small brown ring on a black background"),
    "by hand": (by_hand, "a large purple triangle on a grey background"),
    "contradicted": (cross, "a large red circle on a white background"),
}  # fmt: skip
forces, prompts = (0.0, 0.5, 1.0, 1.5, 2.0), [prompt for _, prompt in tries.values()]
maps, same = torch.cat([lines for lines, _ in tries.values()]), noises(1, 12).repeat(3, 1, 1, 1)
columns = [maps * 2 - 1]
columns += [tasks.text2img(pipe, prompts, noise=same, control=[Hint(edges, maps, force)], **how) for force in forces]
show.figure(
    show.strip([torch.stack([column[i] for column in columns]) for i in range(3)], list(tries),
               ["the map", *(f"{force:g}" for force in forces)]),
    "Control strength from 0 to 2. Prompts: " + "; ".join(f"“{prompt}”" for prompt in prompts) + ".",
)  # fmt: skip

n = 12
print("lines of a cross, and the words “a large red circle”: of 12 pictures")
for force in (0.0, 0.5, 1.0, 2.0):
    told = [Hint(edges, cross, force)]
    made = tasks.text2img(pipe, tries["contradicted"][1], noise=noises(n, 13), control=told, **how)
    got = oracle.read(made)
    first = torch.where(got.readable, got.scenes.shape[:, 0], -1)
    circles, crosses = (int((first == scenes.SHAPES.index(name)).sum()) for name in ("circle", "cross"))
    f1 = hints.edge_f1(made, cross.expand(n, -1, -1, -1)).mean()
    others = n - circles - crosses
    print(f"strength {force:3}: {circles:2} circles, {crosses:2} crosses, {others:2} others; edge F1 {f1:.2f}")

# %% [markdown]
# In the last row words and lines cannot both be right. Here the words win, at every strength: a circle comes, and the
# lines only say where and how large. With another pair of networks, or another training, the lines would have won.
# Nothing in the sum of the two decides that: the model was trained on maps and prompts that agree, and what it does
# where they do not, nobody has taught it. (**Edge F1** says how well the outlines in the picture lie on those of the
# map: 1 is all of them, and no others.)
#
# Note that red crosses were held out of all training, so the way to obey both is one that the model has never seen.
#
# ## Boxes with words
#
# A line drawing says a lot. A **layout** says less: *something like this, about here*. Each box is filled with the
# mini-CLIP vector of its caption (lesson 11), 0 elsewhere. So the map has as many channels as a vector has numbers,
# and shape and colour are in it only as *words*. The network that reads it is the same class as before, with more
# channels in.
#
# Does it work? The oracle finds each object and the box around it. **Intersection over union** (IoU) compares that
# with the box that was asked for: the area that both cover, over the area that either covers. 1 is the same box, 0 is
# apart. One thing to know about the second line of the table: without a prompt there is no guidance either, since
# both of its answers are told the same boxes, and nothing differs that could be exaggerated.

# %%
n = 20
asked_for = scenes.draw(n, seed=146)
wanted_boxes, said = hints.boxes_of(asked_for), scenes.captions(asked_for, seed=146, full=True)
maps = torch.cat([hints.layout(clip, some) for some in wanted_boxes])  #                   (n, d, 32, 32)
control = [Hint(layout, maps)]
told = {"prompt alone": (said, []), "boxes alone": ([""] * n, control), "both": (said, control)}
by_layout = {}
print(f"{'told by':14}{'mean IoU':>10}   right shape, colour and size in its box")
for name, (prompts, control) in told.items():
    by_layout[name] = tasks.text2img(pipe, prompts, noise=noises(n, 14), control=control, **how)
    iou, right = oracle.in_boxes(oracle.read(by_layout[name]), asked_for)
    there = ~iou.isnan()
    print(f"{name:14}{iou[there].mean():10.2f}   {share(right[there])}")
shown = range(6)
plans = torch.cat([framed(torch.ones(1, 3, 64, 64), wanted_boxes[i]) for i in shown])
drawn = [torch.cat([framed(made[i : i + 1], wanted_boxes[i]) for i in shown]) for made in by_layout.values()]
grounds = [[*scenes.BACKGROUNDS][i] for i in asked_for.background.tolist()]
heads = ["; ".join(box.caption[2:] for box in wanted_boxes[i]) + f"; on {grounds[i]}" for i in shown]
show.figure(
    show.strip([plans, *drawn], ["the boxes", *told], columns_of(heads)),
    "The same noise, told by the prompt, by the boxes, by both. The boxes are drawn over the pictures only to compare. "
    "Of the ground no box speaks: that only the prompt tells.",
)

# %% [markdown] tags=["exercise"]
# ### 14.boxes: judge it yourself
#
# Write `in_its_box(pictures, boxes)`: for pictures (n, 3, 32, 32) and one box each, (n, 4), give the IoU of what was
# drawn with what was asked for, (n,). Boxes are left, top, right, bottom in 0..1 of the frame, y downwards.
#
# `reading = oracle.read(pictures)` has `reading.scenes.boxes`, (n, 2, 4), the boxes around the objects in two slots
# (all zeros where there is none), and `reading.readable`, (n,). Of two objects the one that overlaps most counts. An
# unreadable picture gets 0.

# %% tags=["exercise"]
def in_its_box(pictures, boxes):
    # BEGIN SOLUTION
    reading = oracle.read(pictures)
    found, asked = reading.scenes.boxes, boxes[:, None]  #                                 (n, 2, 4), (n, 1, 4)
    sides = torch.minimum(found[..., 2:], asked[..., 2:]) - torch.maximum(found[..., :2], asked[..., :2])
    both = sides.clamp(min=0).prod(-1)  #                                                  (n, 2)
    areas = [(box[..., 2:] - box[..., :2]).prod(-1) for box in (found, asked)]
    iou = both / (areas[0] + areas[1] - both)
    return iou.amax(1) * reading.readable
    # END SOLUTION


check.exercise("14.boxes", in_its_box)

# %% [markdown] tags=["solution"]
# The clamp is what most people forget once: two boxes that lie apart in x *and* in y have two negative sides, and
# their product is positive. And the union is no box: its area is the sum of both, less what was counted twice.

# %% [markdown]
# ### Back to the holes
#
# Now the third way out. The wrapper keeps what is known, and one box tells the network *where* the missing thing
# belongs: two interferences, at two of the three places, and neither knows of the other. (Of the rest of the scene no
# box speaks. In training one box in five was left out, so that a layout need not say everything.) The same 40 holes,
# the same noise. And since answers are simply added, two ControlNets can speak at once: one has the outline of one
# thing, the other a box for the other.

# %%
last = (full.count - 1).tolist()
missing = [some[i] for some, i in zip(hints.boxes_of(full), last, strict=True)]  # one box for each hole
where = torch.cat([hints.layout(clip, [box]) for box in missing])
retold = tasks.inpaint(pipe, captions_40, holed, holes, noise=noise_40, control=[Hint(layout, where)], **how)
guided = oracle.matches(oracle.read(retold), full)["all"]
print(f"everything right: the wrapper alone {share(alone)}")
print(f"                  and a box         {share(guided)}")
better, worse = int((guided & ~alone).sum()), int((~guided & alone).sum())
print(f"of those that were wrong, {better} are right now; of those that were right, {worse} are wrong")
lone = hints.edges(scene("white", "large blue star 0.3 0.35"))
spot = [Box("a large red circle", 0.53, 0.53, 0.95, 0.95)]
two_nets = {
    "lines alone": [Hint(edges, lone)],
    "a box alone": [Hint(layout, hints.layout(clip, spot))],
    "both": [Hint(edges, lone), Hint(layout, hints.layout(clip, spot))],
}
mixed = "a large green star and a large red circle on a white background"
rows_of_two = [tasks.text2img(pipe, mixed, noise=noises(6, 15), control=some, **how) for some in two_nets.values()]
show.figure(
    show.strip([refilled[bad], retold[bad]], ["the wrapper alone", "and a box"]),
    "The six holes that went wrong above, and the same where a box tells what belongs into the hole.",
)
show.figure(
    show.strip(rows_of_two, list(two_nets)),
    f"“{mixed}” Two ControlNets at once: a star's outline at the upper left, a box at the lower right; their answers are "
    "added. With the lines alone half of the pictures have a circle or a red star in the outline's place: two things are "
    "asked for, one is outlined, and nobody says which. The box has words, so it leaves no such doubt.",
)

# %% [markdown]
# ## Play: boxes, and where they fail
#
# In training, boxes were squares around things of two sizes; there were two at most, and they never overlapped. What
# becomes of two boxes on top of each other, whose vectors are added up? Of a third, in a world that never had more
# than two things? Of a box that is much too wide, or much too large? Of a caption that says more than one thing? Guess
# first, then look.

# %% jupyter={"source_hidden": true}
hard = {
    "overlapping": [Box("a large red circle", 0.2, 0.25, 0.62, 0.67),
                    Box("a large blue square", 0.4, 0.35, 0.82, 0.77)],
    "three": [Box("a small red star", 0.1, 0.1, 0.32, 0.32), Box("a small blue ring", 0.65, 0.2, 0.87, 0.42),
              Box("a small green circle", 0.35, 0.65, 0.57, 0.87)],
    "very wide": [Box("a large orange square", 0.08, 0.4, 0.92, 0.6)],
    "much too large": [Box("a small purple ring", 0.1, 0.1, 0.9, 0.9)],
    "a word too much": [Box("a large circle or maybe a star in red", 0.3, 0.3, 0.72, 0.72)],
}  # fmt: skip


def told_by(boxes, ground):
    return " and ".join(box.caption for box in boxes) + f" on a {ground} background"


tried = []
for some in hard.values():
    control = [Hint(layout, hints.layout(clip, some))]
    made = tasks.text2img(pipe, told_by(some, "white"), noise=noises(2, 16), control=control, **how)
    tried.append(framed(made, some))
show.figure(
    show.strip([torch.stack([two[i] for two in tried]) for i in range(2)], ["one noise", "another"], list(hard)),
    "Boxes as no training picture had them: each column one layout, drawn from two noises. The prompts say the same.",
)

# %% [markdown]
# Here it was so: of two boxes on top of each other one wins; three things come where they should, but their colours and
# shapes mix; a wide box and a large one get a thing of a size that this world has, where there is room for it and not
# always inside them; and a word too much brings a thing that no box asked for.
#
# Now draw your own. All but the last can be tried here: a caption is chosen from menus, so it has no word too many. (The
# prompt is put together from the boxes' words and the background.)

# %% tags=["explorer"] jupyter={"source_hidden": true}
editor = painting.boxes(button="Draw", most=3)
editor.value = tuple(boxes)  # something to begin with


def rimmed(picture):
    """A thin grey line around it: a white picture would end nowhere on a white page."""
    return F.pad(F.interpolate(picture, scale_factor=2), (1, 1, 1, 1), value=0.2)


def laid_out(boxes, background, weight, seed):
    if not boxes:
        return rimmed(torch.ones(1, 3, 64, 64)), "Draw a box in the frame at the left and choose its words."
    control = [Hint(layout, hints.layout(clip, boxes), weight)]
    prompt = told_by(boxes, background)
    made = tasks.text2img(pipe, prompt, noise=noises(1, seed), control=control, steps=12, scale=SCALE)
    read = oracle.read(made)
    found = read.scenes.boxes[0][read.scenes.shape[0] >= 0] if read.readable[0] else torch.zeros(1, 4)
    best = [oracle.overlap(found, torch.tensor(box[1:])).max() for box in boxes]
    words = "; ".join(f"{box.caption}: IoU {value:.2f}" for box, value in zip(boxes, best, strict=True))
    return rimmed(framed(made, boxes)), f"{words}. The oracle reads: {oracle.describe(read, 0)}."


planner = widgets.explorer(
    laid_out, boxes=editor, background=[*scenes.BACKGROUNDS], weight=(0.0, 2.0, 0.25, 1.0), seed=(0, 9, 1)
)
painting.beside(planner)
widgets.show(planner, "Draw boxes at the left, give each its words, and see what is drawn into them.")
nothing = torch.zeros_like(hole)
widgets.drive(studio, limit=1.0, hole=[stroke, nothing], prompt=["a small blue star on a beige background"])
_ = widgets.drive(planner, limit=1.0, boxes=[tuple(boxes[:1]), ()])

# %% [markdown]
# ## Bug museum: the picture that wore off
#
# In August 2022 somebody mends a picture by inpainting, one detail after the other, each time in the result of the
# last, and sees the *whole* picture get worse, also where no mask ever was ([basujindal/stable-diffusion
# #88](https://github.com/basujindal/stable-diffusion/issues/88)). Is it saved as JPEG by mistake? The next day
# another reader guesses right: it is the way into latents and back. A year later the same is asked of another library
# ([diffusers #4782](https://github.com/huggingface/diffusers/issues/4782)), in 2025 of yet another program ([ComfyUI
# #7194](https://github.com/Comfy-Org/ComfyUI/issues/7194)). You know it from the table above: blending in latents
# alone. Once through the autoencoder nobody sees; ten times is another matter.
#
# Broken on purpose: the same corner ten times, each time in the result of the last, decoded and left so. Then mended:
# the known pixels are laid over each result. So says an answer in the first thread, three days after the question;
# diffusers has a function for it now (`apply_overlay`, [#6072](https://github.com/huggingface/diffusers/pull/6072)).

# %%
rounds, corner = 10, torch.zeros(4, 1, 32, 32)
corner[..., 20:32, 20:32] = 1  # the same hole each time: as one does who is not yet content
grounds = [*scenes.BACKGROUNDS]
things = ["large red star", "large green cross", "large orange ring", "large pink triangle"]
originals = scenes.render(
    scenes.join([scene(ground, f"{thing} 0.35 0.35") for ground, thing in zip(grounds, things, strict=True)])
)
said = [f"a small blue circle at the bottom right of a {ground} background" for ground in grounds]
broken = mended = originals
worn, kept_rows = {"broken": [], "mended": []}, [originals]
for i in range(rounds):
    more = {"noise": noises(4, 30 + i), "steps": 8, "scale": SCALE}
    *_, last = tasks.states(pipe, said, image=broken, mask=corner, **more)
    broken = pipe.decode(last)  # and the known pixels are what the decoder made of them
    mended = tasks.inpaint(pipe, said, mended, corner, **more)
    for name, made in (("broken", broken), ("mended", mended)):
        error = (made - originals).square().mean(1, keepdim=True)[corner == 0].mean().item()
        worn[name].append(f"{evaluate.psnr(error):.1f} dB" if error else "exact")
    if i + 1 in (1, 5, rounds):
        kept_rows.append(broken)
worst = (broken - originals).abs() * (corner == 0) * 10 - 1
print("the pixels outside of the mask, after 1, 5 and 10 rounds:")
for name, values in worn.items():
    print(f"  {name}: {values[0]}, {values[4]}, {values[9]}")
show.figure(
    show.strip([*kept_rows, worst, mended],
               ["at first", "broken, 1 round", "5 rounds", "10 rounds", "how far off, ten times", "mended, 10 rounds"]),
    "The corner at the lower right painted anew ten times, and what becomes of the rest. Fifth row: how far its pixels "
    "are off after ten rounds, ten times as bright.",
)

# %% [markdown]
# ## What you learned
#
# - A picture is edited at three places of the loop: its start, its answers, its network.
# - **Strength** is the share of steps left. The start has the noise of the row it stands at. Strength 0 is the
#   picture, strength 1 forgets it only where alpha is 0.
# - **Inpainting** needs two blends: in latents, so that the new fits, and in pixels, so that the old stays. Any
#   touched pixel opens its cell.
# - The wrapper tells nobody of the hole, and what the network does not see, it cannot respect. Words, nine channels or
#   a map tell the network; the slope of what it misses tells the hole.
# - An **upscaler** looks at the small picture, and noise on that teaches it how far to trust.
# - A **ControlNet** is a copy of the way down with zero convolutions: it begins as nothing, and its outlets learn
#   first, since the gradient of a weight is what comes in.
# - Where maps, prompts and training disagree, nothing is promised. Count.
#
# On the command line `minildm picture` changes a picture (`--image`, `--strength`), fills a hole (`--mask`,
# `--reconstruction`), and follows maps and boxes (`--control`, `--layout`). Outpainting, upscaling and choosing among
# several pictures are there in Python alone.
#
# ## Quiz
#
# Answer for yourself, then open.
#
# <details><summary>1. You inpaint with strength 1 and mask nothing at all. What comes out, and what of it is
# drawn?</summary>
#
# The picture itself. The model walks all its steps, its answers are overruled everywhere, and at the end every pixel
# is laid over the result. A good test of a program, by the way: any difference at all is the bug of the museum.
# </details>
#
# <details><summary>2. A friend initialises the zero convolutions with zeros, and the copy of the way down with zeros
# as well, "to be on the safe side". The picture is unchanged at the start. What happens in training?</summary>
#
# Next to nothing. The gradient of the outlets' weights is what comes in, and what comes in is zero; the copy's
# gradient passes through those weights, which are zero. Two zeros in a row never wake up. Only the outlets' biases
# learn: a constant, whatever the map says.
# </details>
#
# <details><summary>3. With an edge map at control strength 2 a colleague's edges fit as well as at 1, and her pictures
# look worse. Why?</summary>
#
# The answers were learned to be added once. Twice pushes further along the lines, and pushes the states of the U-Net
# to where no training has ever been. It is the same bargain as a guidance scale that is too high (lesson 10).
# </details>
#
# **Words of this lesson** ([glossary](glossary.md)): img2img, strength, variation, mask, inpainting, outpainting,
# seam, membrane, reconstruction guidance, noise augmentation, ControlNet, zero convolution, control strength, edge F1, layout,
# IoU. **Next:** lesson 16 loads the published weights into these same classes.

# %%
print(f"this lesson took {time.perf_counter() - opened:.0f} s from its first cell to its last")
