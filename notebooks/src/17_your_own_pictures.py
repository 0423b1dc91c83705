# %% [markdown]
# # 17 · Your own pictures
#
# **After this lesson you can**
# - turn a folder of captioned pictures into a text-to-picture model, with two commands;
# - read the report on a folder, and mend what it finds before you train;
# - say what the autoencoder allows, what the cache keeps, and what each step sees;
# - find out why a model does not learn, in the order in which it pays to look.
#
# **Time:** two and a half minutes of computing on a laptop with 2 quiet cores, no GPU; an hour or two with the exercises.
#
# **Needs:** lesson 12 (latent diffusion); 13 helps to judge. Nothing is downloaded. The pictures are in
# `datasets/village`, drawn by a script of this repository: 300 houses, potted plants, faces and flags. Put the path of
# your own folder in `FOLDER`, and the lesson is about yours; what it says about the long run is still about the village.

# %%
import json
import random
import shutil
import tempfile
import textwrap
import time
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from matplotlib import pyplot as plt
from PIL import Image

from minildm import evaluate, folders, own, show, tasks, train, weights
from minildm.course import widgets
from minildm.files import UserError

FOLDER = Path("../datasets/village")  # or your own
LONG = Path("village")  # pictures and figures of the long run
VAE_SECONDS, SECONDS = 25, 30  # of live training: the autoencoder, and the model
SHORT = 10  # seconds of each small experiment

opened = time.perf_counter()
show.style()
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
holder = tempfile.TemporaryDirectory()  # everything that is made here goes there, and goes away with the kernel
work = Path(holder.name)
long = json.loads((LONG / "figures.json").read_text(encoding="utf-8"))


def light(pictures, colours=24):
    """The same in few colours, so that this page stays small."""
    flat = show.to_image(pictures, 1, pictures.shape[3], 0)
    flat = flat.quantize(colours, Image.Quantize.MAXCOVERAGE, kmeans=3, dither=Image.Dither.NONE).convert("RGB")
    return folders.scaled(torch.from_numpy(np.array(flat)).view(len(pictures), -1, *flat.size[:1], 3).permute(0, 3, 1, 2))


def squares(album, numbers, side=64):
    """Pictures of a folder, cut to squares: (n, 3, side, side)."""
    return folders.scaled(torch.stack([folders.fitted(album.pictures[i], side, side) for i in numbers]))


# %% [markdown]
# ## The picture first
#
# A folder needs nothing but pictures and sentences. These are six of the village, with what somebody wrote about them.

# %%
album = own.look(FOLDER)
some = random.Random(4).sample(range(len(album.pictures)), 6)
show.figure(
    show.grid(light(squares(album, some), 32), 6, [album.pictures[i].caption for i in some]),
    "Six of the pictures, cut to squares, and their captions.",
)

# %% [markdown]
# ## A folder as people have it
#
# Captions may be given in three ways; the first that is there counts:
#
# - `metadata.jsonl`, a line for each picture: `{"file_name": "house-00.png", "text": "a tall house in the snow"}`;
# - a text file beside each picture, `house-00.txt` beside `house-00.png`;
# - the names of sub-folders: all in `tall_house/` are “tall house”.
#
# Nobody's folder is clean. Let us take a dozen pictures and spoil them the way it happens: a download that broke off, a
# copy under another name, a thumbnail, a file that nobody described, a line whose file is gone.

# %%
messy = work / "messy"
messy.mkdir()
names = [album.pictures[i].name for i in range(0, 300, 25)] if len(album.pictures) >= 300 else []
names = names or [picture.name for picture in album.pictures[:12]]
for name in names:
    shutil.copy(FOLDER / name, messy / Path(name).name)
names = [Path(name).name for name in names]
lines = [json.dumps({"file_name": name, "text": f"picture number {i}"}) for i, name in enumerate(names)]

whole = (messy / names[0]).read_bytes()
(messy / names[0]).write_bytes(whole[: len(whole) // 2])  # the download broke off
shutil.copy(messy / names[1], messy / "copy.png")  # the same file again
lines.append(json.dumps({"file_name": "copy.png", "text": "the same picture"}))
Image.open(messy / names[2]).resize((20, 20)).save(messy / names[2])  # a thumbnail
lines[3] = json.dumps({"file_name": names[3], "text": " "})  # nothing was written about it
lines.append(json.dumps({"file_name": "gone.png", "text": "a file that was deleted"}))
(messy / "metadata.jsonl").write_text("\n".join(lines), encoding="utf-8")
print(own.look(messy).report().replace(f"{work}/", ""))

# %% [markdown]
# This report stands above every training, and in the run's folder as `report.txt`. What cannot be used is left out **and
# named**. Two things happen silently in many programs and are done here without asking, because there is only one right
# way: photographs that a phone turned by a note in the file are turned (ignoring it made captions wrong in
# [sd-scripts #1316](https://github.com/kohya-ss/sd-scripts/issues/1316)), and see-through pictures are laid on white
# (dropping the transparency alone brought out hidden colours in
# [sd-scripts #1269](https://github.com/kohya-ss/sd-scripts/issues/1269)).

# %% [markdown] tags=["solution"]
# # 17 · Your own pictures: solutions
#
# One answer to each exercise, and why it is so. There are others; the check takes them too.

# %% tags=["setup"]
import hashlib
import json

import torch

from minildm.course import check

# %% [markdown] tags=["exercise"]
# ### 17.pairs: which caption belongs to which file
#
# Write `pairs(text, files)`. `text` is what stands in a `metadata.jsonl`, `files` the list of the picture files that are
# there. Return two things:
# - a list of pairs `(file name, caption)`, in the order of the lines, without white space around the captions;
# - a dictionary of what is wrong, by file name: `"no picture"` for a line whose file is not there, `"no caption"` for a
#   file with no line or with nothing but white space for a caption.
#
# Empty lines mean nothing. Where both are wrong, it is `"no picture"`.

# %% tags=["exercise"]
def pairs(text, files):
    # BEGIN SOLUTION
    good, wrong, named = [], {}, set()
    for line in text.splitlines():
        if not line.strip():
            continue
        row = json.loads(line)
        name, caption = row["file_name"], row["text"].strip()
        named.add(name)
        if name not in files:
            wrong[name] = "no picture"
        elif not caption:
            wrong[name] = "no caption"
        else:
            good.append((name, caption))
    return good, wrong | {name: "no caption" for name in files if name not in named}
    # END SOLUTION


check.exercise("17.pairs", pairs)

# %% [markdown] tags=["solution"]
# The name decides, never the place in a list. Two lists that happen to have the same order are the beginning of the bug in
# this lesson's museum. And nothing is dropped without a word: each file and each line ends up in one of the two answers.

# %% [markdown]
# ## Sizes
#
# A batch has one size; pictures have many. Cutting all of them square takes the heads off tall pictures. So they are
# sorted into **buckets**, a few sizes of about the same area (NovelAI 2022). A picture $w \times h$ is scaled until it
# *covers* a bucket $w_b \times h_b$, and what sticks out is cut off at both ends. The share that is lost:
#
# $$ \text{cut} = 1 - \min(r, 1/r), \qquad r = \frac{w / h}{w_b / h_b} \tag{1} $$
#
# Is this formula what happens to the pixels? We count them.

# %%
choices = own.places(64, 8)  # height and width; the networks halve a side three times
print("buckets:", ", ".join(f"{w}x{h}" for h, w in choices))
counted, formula = [], []
for width, height in ((640, 480), (480, 640), (900, 700), (333, 777)):
    for h, w in choices:
        scale = max(w / width, h / height)
        counted.append(1 - w * h / (width * scale * height * scale))
        r = (width / height) / (w / h)
        formula.append(1 - min(r, 1 / r))
check.agree("pixels that stick out, and equation 1", torch.tensor(counted), torch.tensor(formula))

shapes = {(p.width, p.height): i for i, p in reversed(list(enumerate(album.pictures)))}
before, said, sizes = [], [], []
for (w, h), i in sorted(shapes.items())[:4]:
    picture, (bh, bw) = album.pictures[i], album.places[i]
    side, scale = max(w, h), max(bw / w, bh / h)
    kept = round(bw / scale), round(bh / scale)  # of the picture's own pixels
    image = folders.fitted(picture, h, w).float() / 127.5 - 1
    dark = image * 0.35 - 0.45
    top, left = (h - kept[1]) // 2, (w - kept[0]) // 2
    dark[:, top : top + kept[1], left : left + kept[0]] = image[:, top : top + kept[1], left : left + kept[0]]
    canvas = torch.ones(3, side, side)
    canvas[:, (side - h) // 2 :, (side - w) // 2 :][:, :h, :w] = dark
    before.append(torch.nn.functional.interpolate(canvas[None], size=96, mode="nearest")[0])
    said.append(f"{1 - kept[0] * kept[1] / (w * h):.0%} cut")
    sizes.append(f"{w} x {h} into {bw} x {bh}")
show.figure(
    show.grid(light(torch.stack(before)), len(before), said),
    f"One picture of each shape in the folder: {', '.join(sizes)} pixels. The dark ends are cut off.",
)

# %% [markdown] tags=["exercise"]
# ### 17.bucket: the one that cuts least
#
# Write `bucket(width, height, buckets)`. `buckets` is a list of pairs (width, height). Return the bucket that cuts the
# smallest share off the picture, of equal ones the largest; and that share, 0..1.

# %% tags=["exercise"]
def bucket(width, height, buckets):
    # BEGIN SOLUTION
    def cut(place):
        ratio = width / height * place[1] / place[0]
        return 1 - min(ratio, 1 / ratio)

    best = min(buckets, key=lambda place: (round(cut(place), 9), -place[0] * place[1]))
    return best, cut(best)
    # END SOLUTION


check.exercise("17.bucket", bucket)

# %% [markdown] tags=["solution"]
# Ratios are compared by dividing: from 1:2 to 1:1 is as far as from 1:1 to 2:1, though the differences are 0.5 and 1.
# Rounding keeps two cuts that differ in the sixteenth digit from being called different.

# %% [markdown]
# ## The autoencoder first
#
# The model will work on the latents of an autoencoder, and draw with its decoder. **What the autoencoder cannot give back,
# the model cannot draw.** The shipped one has seen flat shapes and nothing else. So look at this before anything:

# %%
plan = own.plan("vae", FOLDER, settings=["samples=0", "lr=2e-3"], device=DEVICE)
print(plan.report())

# %% [markdown]
# 15 dB is a blur: below about 22 the report warns. Training it *further* is faster than training one from nothing: that is
# what `minildm train vae --data FOLDER --out OUT` does, and here is the same call in Python.

# %%
progress = own.train(plan, work / "vae", seconds=VAE_SECONDS)
show.track(progress, "autoencoder")

number = {picture.name: i for i, picture in enumerate(album.pictures)}
test = [number[name] for name in long["shown"] if name in number] or album.numbers(held_out=True)[:4]
originals = squares(album, test)


@torch.no_grad()
def there_and_back(vae, pixels):
    return torch.cat([vae.decode(vae.encode(part.to(DEVICE))[0]).clamp(-1, 1).cpu() for part in pixels.split(32)])


def sheet(name):
    """A sheet of the long run as pictures (n, 3, 64, 64)."""
    pixels = torch.from_numpy(np.array(Image.open(LONG / name).convert("RGB"))).permute(2, 0, 1)
    rows = [row.split(64, 2) for row in pixels.split(64, 1)]
    return folders.scaled(torch.stack([cell for row in rows for cell in row]))


mine = weights.load(str(work / "vae")).to(DEVICE)
shipped = weights.load("shapes/vae").to(DEVICE)
rows = [originals, there_and_back(shipped, originals), there_and_back(mine, originals), sheet("vae.png")]
closer = [torch.nn.functional.interpolate(row[::2, :, 20:52, 16:48], size=64) for row in rows]  # of the first and third
rows = [torch.cat([row, close]) for row, close in zip(rows, closer, strict=True)]
show.figure(
    show.strip([light(row) for row in rows], ["picture", "shipped", f"yours, {VAE_SECONDS} s", "1,500 steps"]),
    "Four pictures that no training has seen, there and back through three autoencoders; then two of them, closer.",
)
held = album.numbers(held_out=True)
error = (there_and_back(mine, squares(album, held)) - squares(album, held)).square().mean().item()
print(f"yours: {evaluate.psnr(error):.1f} dB on {len(held)} pictures held out")
print("long run" + "".join(f"{part:>10}" for part in long["psnr"]["trained"]))
for name, values in long["psnr"].items():
    print(f"{name:8}" + "".join(f"{value:10.1f}" for value in values.values()))

# %% [markdown]
# The last rows are from the long run, 1,500 steps:
#
# ```sh
# minildm train vae --data datasets/village --out runs/village-vae
# ```
#
# Read the columns. On pictures that were **seen** it is nearly 4 dB better than on those **held out**: 283 pictures are
# few, and it begins to learn them by heart. Flags come back best. In faces, mouth, eyes and glasses get smeared: they
# are few pixels, and differ most from face to face.
#
# This is a ceiling for all that follows. If you are not content with the second row from below, there is no point in
# training the model: give the autoencoder more steps, more pictures, or more channels (`--set vae.latent_channels=8`, which
# starts from random weights).

# %% [markdown]
# ## What is kept on the disk
#
# Each picture goes through the encoder **once**. Mean and log variance go to the disk, and each step draws from them:
#
# $$ z = s \, (\mu + \sigma \epsilon), \qquad \epsilon \sim \mathcal N(0, 1) \tag{2} $$
#
# (Kingma & Welling 2014, section 2.4; the scale factor $s$ is that of Rombach et al. 2022, appendix G). What must happen
# if a file is renamed? If its pixels are edited? If the autoencoder is trained further? An entry's name answers all of it:
# it is a hash of *what the entry is made of*. Nothing is ever thrown away or checked; what changed has another name.

# %%
few = work / "few"
few.mkdir()
for i in range(8):
    shutil.copy(album.pictures[i].path, few / f"{i}.png")
    (few / f"{i}.txt").write_text(album.pictures[i].caption, encoding="utf-8")


def encode(what, vae):
    """Fill the cache for this folder, and say how many entries were new."""
    given = own.look(few, held_out=0)
    latents = own.Latents(work / "cache", vae)
    asked = [own.Wanted(picture, place) for picture, place in zip(given.pictures, given.places, strict=True)]
    counts = list(latents.fill(asked))
    print(f"{what:34} {counts[-1][1] - counts[0][0]} of {counts[-1][1]} encoded")
    return latents, asked


encode("the first time", mine)
latents, asked = encode("once more", mine)
(few / "0.png").rename(few / "old_house.png")
(few / "0.txt").rename(few / "old_house.txt")
encode("a file renamed", mine)
with Image.open(few / "1.png") as image:
    image.convert("L").convert("RGB").save(few / "1.png")
encode("a picture made grey", mine)
encode("the shipped autoencoder instead", shipped)
mean, logvar = latents(asked[2:3])
again = folders.scaled(folders.fitted(asked[2].picture, *asked[2].place))[None].to(DEVICE)
with torch.no_grad():
    check.agree("the mean in the cache, and encoded anew", mean, mine.encode(again)[0].cpu(), within=1e-3)
print(f"an entry: mean and log variance, each {tuple(mean.shape)}, under the name {latents.key(asked[2])[:16]}...")

# %% [markdown]
# Where the name says less, stale latents are trained on and nobody is told: in
# [kohya_ss #1629](https://github.com/bmaltais/kohya_ss/issues/1629) somebody edited an image, trained again, and the cached
# file stayed as it was because the size had not changed.

# %% [markdown] tags=["exercise"]
# ### 17.key: a name for a latent
#
# Write `key(data, name, modified, encoder, place, mirrored)`, a text that names an entry of the cache. It is given the
# file's bytes, its name and the time of its last change; the encoder's weights as a dictionary of tensors; the size
# `place` as a pair; and whether the picture is mirrored. Two entries get the same key exactly if their latents are the
# same. Not all that is given belongs in it.

# %% tags=["exercise"]
def key(data, name, modified, encoder, place, mirrored):
    # BEGIN SOLUTION
    digest = hashlib.sha256(data)
    for part, tensor in encoder.items():
        digest.update(part.encode())
        digest.update(tensor.numpy().tobytes())
    digest.update(repr((place, mirrored)).encode())
    return digest.hexdigest()
    # END SOLUTION


check.exercise("17.key", key)

# %% [markdown] tags=["solution"]
# Name and time are left out on purpose: a folder that was copied has new times, and its latents are still right. `hash()`
# will not do: for texts and bytes Python salts it anew in each process, so tomorrow nothing would be found.

# %% [markdown]
# ## Train
#
# Now the model: a U-Net, and beside it a small text tower whose words are learned from your captions. The loss is that of
# lesson 12 (Ho et al. 2020, eq. 14, for $v$), told the caption $y$; one in ten captions is left out, so that guidance has
# something to compare with (Ho & Salimans 2022):
#
# $$ L = \mathbb E \, \| v_\theta(\alpha z + \sigma \epsilon, t, y) - v \|^2 \tag{3} $$
#
# On a processor the live one gets a smaller network than the recipe's. Below the bar: what
# one of the prompts gives so far.

# %%
PROMPTS = ["a house with a red roof", "tulips in a pot", "a smiling face", "a flag with a cross"]
SMALLER = [] if DEVICE == "cuda" else ["unet.block_out_channels=32,64"]
plan = own.plan("latent", FOLDER, vae=str(work / "vae"), settings=["samples=0", "lr=2e-3", "held_out=0.03", *SMALLER],
                device=DEVICE)  # fmt: skip
noise = torch.randn(8, *plan.model.latent_shape(), generator=torch.Generator().manual_seed(3))


def drawn(pipe, prompts, which=0, steps=12):
    start = noise[which][None].expand(len(prompts), -1, -1, -1)
    return tasks.text2img(pipe, prompts, steps=steps, scale=3.0, noise=start).float().cpu()


progress = own.train(plan, work / "village", seconds=SECONDS, cache=work / "cache")
history = show.track(progress, "text to picture", samples=lambda: light(drawn(plan.model, PROMPTS[2:3]), 12), marks=3)
pipe = weights.load(str(work / "village")).to(DEVICE)
with torch.no_grad():
    live = torch.stack([drawn(pipe, PROMPTS, which, 20) for which in range(2)], 1).flatten(0, 1)
show.figure(
    show.grid(light(live), 8, [word for word in ("house", "tulips", "face", "flag") for _ in range(2)]),
    f"After {history.steps[-1]} steps in {SECONDS} s: kinds and grounds come first, parts much later.",
)

# %% [markdown]
# Do not be disappointed: for this task half a minute is nothing. You see whether *anything* is learned, and that is
# what a short run is for.

# %% [markdown] tags=["exercise"]
# ### 17.order: which pictures does a step see?
#
# Write `batch(n, size, seed, step)`: the numbers of the `size` pictures, out of `n`, in the batch of a step (from 0).
# - Epoch after epoch, all pictures come once, shuffled anew each time. The epochs follow each other without a gap: a
#   batch may begin in one and end in the next.
# - The answer follows from the arguments alone, whatever was called before; and the shared random numbers of the program
#   stay as they are. So a run that is stopped at step 700 can go on there.

# %% tags=["exercise"]
def batch(n, size, seed, step):
    # BEGIN SOLUTION
    numbers = []
    for place in range(step * size, (step + 1) * size):
        epoch, at = divmod(place, n)
        generator = torch.Generator().manual_seed(seed * 1_000_003 + epoch)
        numbers.append(torch.randperm(n, generator=generator)[at].item())
    return numbers
    # END SOLUTION


check.exercise("17.order", batch)

# %% [markdown] tags=["solution"]
# Shuffling the whole list for each picture is wasteful, and short; `own.buckets.Order` remembers the lists it has shuffled
# and does this for each bucket. A large prime keeps seed and epoch apart for as many epochs as anybody trains.

# %% [markdown]
# ## The long run
#
# This is what the recipe's own network gives, on the long-trained autoencoder. The first two commands train, the last one
# makes the small pictures and figures shown here. On one thread of a busy computer the autoencoder took 11 minutes, and the
# model, 3,000 steps, 33.
#
# ```sh
# minildm train vae --data datasets/village --out runs/village-vae
# minildm train latent --data datasets/village --vae runs/village-vae --out runs/village
# python tools/village_sheets.py runs/village-vae runs/village
# ```
#
# <img src="village/samples.png" width="384" alt="Four prompts after 300, 1,500 and 3,000 steps: from coloured fog to a flag, two houses in the snow and a window with pots">
#
# *One noise for each prompt, after 300, 1,500 and 3,000 steps. From above: “a blue fish on a white flag waving in the wind on
# a hill”, “a round tree in front of a little wooden house with a red roof”, “red tulips in two spotted blue pots by the
# window”, “in the snow, a tall house with a red door and smoke rising from the chimney”.*
#
# Grounds come first, then outlines, then parts. After 3,000 steps there is something blue on a white flag over a green hill,
# and a window has curtains and pots. But the fish is a blot, and house 2 stands in the snow like house 4, though nobody
# said so: where the words are not learned yet, the noise decides.
#
# ### Has it understood, or does it remember?
#
# The village was drawn with twelve **pairs that never occur together**, though each half occurs often: cacti and blue
# pots, but no cactus in a blue pot. A model that draws one has put together what it saw apart.
#
# <img src="village/pairs.png" width="768" alt="Twelve drawings: three houses, three potted plants, three faces, three flags, none with both halves of its pair">
#
# *Never seen together. One drawing each, from the first noise, none chosen. Above: a wooden house with a blue roof; a brick
# house in the snow; a white house behind a round tree at night; a cactus in a blue pot; a sunflower in a striped pot; red
# tulips in a white pot in a garden. Below: a smiling face with curly blond hair; a sad face with glasses; a face in a yellow
# hat; a flag with three vertical stripes and a fish in the middle; a flag with a leaf by the sea; a yellow flag with a red
# heart.*
#
# Judge for yourself; this is our count. The **kind** is right in 12 of 12, and often the place: snow, sea, fence. Of the pairs
# themselves, both halves can be seen in **none**. The hat is red, the pot clay; and “blue” made it night behind the first
# house, which tells how little 300 pictures say about a word. So nobody can tell yet whether this model puts together what
# it saw apart: first it has to learn the halves.
#
# And is a good picture perhaps only a copy? Look for the **nearest** picture of the folder, and compare how near it is
# with how near *real* pictures come that were held out (lesson 13; Meehan et al. 2020). The explorer below shows the
# nearest ones; here is the figure, by thumbnails of 16 x 16 pixels.

# %%
for part in ("seen", "held out"):
    value, low, high = long[f"copying, drawn from captions {part}"]
    print(f"copying, drawn from captions {part:9}: {value:.2f} ({low:.2f} to {high:.2f}); 0.5 is right, 1 is a copy")

# %% [markdown]
# No copies: the two figures are a little above 0.5, with 0.5 inside of their intervals, which are wide because only 17
# pictures are held out.
#
# ## When it does not learn
#
# Look in this order; each line costs less than the next one saves.
#
# | what you see | where to look | what to do |
# |---|---|---|
# | it stops at once | `report.txt` | mend the folder |
# | all pictures blur alike | the autoencoder's dB in the report; row 2 of `vae/samples` | train the autoencoder further: it is the ceiling |
# | pictures grey, or in glaring colours, from the first sheet to the last | `scaling_factor` of the autoencoder | it belongs to *this* autoencoder, `minildm train vae` measures it (lesson 12) |
# | the loss does not fall | overfit eight pictures first (below) | if even that fails, it is the learning rate, or a bug |
# | the loss jumps, or is not finite | learning rate (below) | a tenth of it |
# | `held_out` rises while `seen` falls | the two curves (below) | more pictures, `--flips`, or stop there |
# | good pictures that fit no prompt | does it listen to captions? (museum) | captions and files were mixed up |
# | one word is never drawn | how many captions have it? | dozens of examples, not two; or say it with a word it knows |
#
# ### The two curves
#
# `metrics.jsonl` has, forty times in a run (in less than 40 seconds once a second), the loss on pictures that are **seen** and on
# some that are **held out**, over the same noise every time. So only the network can move them.

# %%
fig, axes = plt.subplots(1, 2, figsize=(8, 2.7))
for ax, name, title in zip(axes, ("vae", "latent"), ("autoencoder", "text to picture"), strict=True):
    for part, style in (("seen", "-"), ("held_out", "--")):
        ax.plot(long[name]["step"], long[name][part], style, label=part.replace("_", " "))
    lowest = min(zip(long[name]["held_out"], long[name]["step"], strict=True))
    print(f"{title}: held out lowest at step {lowest[1]:,} ({lowest[0]:.4f}), at the end {long[name]['held_out'][-1]:.4f};"
          f" seen {long[name]['seen'][-1]:.4f}")  # fmt: skip
    ax.set(title=title, xlabel="step", yscale="log" if name == "vae" else "linear")
axes[0].legend()
show.figure(fig, "The long runs: losses on pictures seen (solid) and held out (dashed).")

# %% [markdown]
# Left: `held_out` stops falling at a third of the way while `seen` goes on; what the autoencoder still learns there helps
# with these pictures only. Right: it **turns upwards** three quarters of the way. From there on the model learns its 283
# pictures by heart. More steps would not draw the pairs above; more pictures might.
#
# ### Eight pictures first, and the learning rate
#
# A network that cannot learn eight pictures by heart will not learn three hundred. It takes seconds, so do it first.
# Three learning rates, the same network and time:

# %%
def quick(what, folder, *settings, seconds=SHORT):
    """A small run at 32 x 32 pixels, into a folder of this name."""
    usual = ["size=32", "unet.block_out_channels=32,64", "text.width=64", "samples=0", "lr=2e-3", "ema=0.99"]
    plan = own.plan("latent", folder, vae=str(work / "vae"), settings=[*usual, *settings], device=DEVICE)
    show.track(own.train(plan, work / what, seconds=seconds, cache=work / "cache"), what)


def losses(what):
    """The lines that a run has written on its way."""
    return [json.loads(line) for line in (work / what / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]


fig, ax = plt.subplots(figsize=(6, 2.7))
for lr, style in (("1e-5", "--"), ("2e-3", "-"), ("0.3", ":")):
    what = f"learning rate {lr}"
    try:
        quick(what, few, f"lr={lr}", "batch=8", "held_out=0", "unsaid=0", seconds=SHORT / 2)
    except UserError as error:  # training stops where a number is no number any more
        print(textwrap.fill(f"{what}: {error}", 100))
    rows = losses(what)
    ax.plot([row["step"] for row in rows], [row["loss"] for row in rows], style, label=lr)
ax.set(xlabel="step", ylabel="loss", ylim=(0, 2), xlim=(0, 1.35 * ax.get_xlim()[1]))
ax.legend(title="learning rate", loc="upper right")
show.figure(fig, "Eight pictures to be learned by heart, with three learning rates.")

# %% [markdown]
# Too small: it falls, and will for hours. Too large: it rises, stays where guessing is, or stops with a number that is none.
# The middle one goes down. Which of yours is the middle one depends on the network: a larger one wants a smaller rate.
#
# ## Bug museum: sorted files, unsorted captions
#
# In a widely used trainer the list of image files came out of a `set`, the captions were taken from it in that order, and
# then the files alone were sorted ([cloneofsimo/lora #197](https://github.com/cloneofsimo/lora/issues/197), 2023). From
# there on caption number 5 belonged to some other picture. Nothing crashes. Broken on purpose, then mended, with captions
# that say the kind alone:

# %%
files = [picture.name for picture in album.pictures]
word = {name: f"a {name.split('-')[0]}" for name in files}
lists = {}
paths = random.Random(0).sample(files, len(files))  # what list(set(...)) gives: any order
captions = [word[path] for path in paths]
lists["broken"] = list(zip(sorted(paths), captions, strict=True))  # the files are sorted, the captions are not
both = sorted(zip(paths, captions, strict=True))
lists["mended"] = both  # sorted together

models, words = {}, sorted(set(captions))
print("                     loss seen   held out   right captions")
for name, told in lists.items():
    (work / name).mkdir()
    for path, _ in told:
        shutil.copy(FOLDER / path, work / name / path)
    rows = [json.dumps({"file_name": path, "text": text}) for path, text in told]
    (work / name / "metadata.jsonl").write_text("\n".join(rows), encoding="utf-8")
    quick(f"{name} run", work / name, "held_out=0.1")
    models[name], end = weights.load(str(work / f"{name} run")).to(DEVICE), losses(f"{name} run")[-1]
    right = sum(text == word[path] for path, text in told) / len(told)
    print(f"{name:20} {end['seen']:10.3f} {end['held_out']:10.3f} {right:14.0%}")

# %% [markdown]
# Look at the losses alone: would you have known? A caption changes the loss by a few hundredths; what pictures in general
# look like is learned without it. The question to ask is: **what does a wrong caption cost?** Tell each picture the
# caption of another, over the same noise. To a model that listens that is worse. To one that was trained on mixed-up
# captions it is all the same.

# %% [markdown] tags=["exercise"]
# ### 17.listens: what a wrong caption costs
#
# Write `listens(error, captions)`. `error(captions, seed)` tells picture 0 the first caption, picture 1 the second and so
# on, and gives the model's error on each picture, a tensor `(n,)`, over noise that depends on the seed alone. Return how
# much larger the mean error is if each picture is told the caption of the next one (the last: that of the first), as a
# mean over the seeds 0 to 7.

# %% tags=["exercise"]
def listens(error, captions):
    # BEGIN SOLUTION
    moved = captions[1:] + captions[:1]
    gaps = []
    for seed in range(8):
        gap = error(moved, seed) - error(captions, seed)
        gaps.append(gap.mean())
    return sum(gaps) / len(gaps)
    # END SOLUTION


check.exercise("17.listens", listens)

# %% [markdown] tags=["solution"]
# The same seed twice is the whole trick. The noise moves the error of a picture by far more than a caption does; in the
# difference over the same noise it cancels. This is a *paired* comparison (lesson 13).

# %%
@torch.no_grad()
def errors(pipe, pixels, captions, seed):
    """Equation 3 on each picture, over the noise of this seed."""
    told = pipe.condition(captions)
    noise = torch.Generator().manual_seed(seed)
    return train.diffusion_loss(pipe.unet, pipe.encode(pixels), pipe.schedule, pipe.prediction, noise, **told)


def cost(pipe, pixels, captions):
    moved = captions[1:] + captions[:1]
    gaps = [errors(pipe, pixels, moved, seed) - errors(pipe, pixels, captions, seed) for seed in range(8)]
    return torch.stack(gaps).mean().item()


mixed = random.Random(1).sample(range(len(files)), 48)
mixed = sorted(mixed, key=lambda i: (int(files[i].split("-")[1].split(".")[0]), files[i]))  # neighbours differ in kind
pixels = squares(album, mixed, 32)
with torch.no_grad():
    rows = []
    for name, model in models.items():
        print(f"{name}: a wrong caption costs {cost(model, pixels, [word[files[i]] for i in mixed]):+.4f}")
        start = torch.randn(2, *model.latent_shape(), generator=torch.Generator().manual_seed(5))
        rows.append(torch.cat([tasks.text2img(model, [text] * 2, steps=20, scale=3.0, noise=start) for text in words]))
show.figure(
    show.strip([light(row.float().cpu()) for row in rows], list(models), [text[2:] for text in words for _ in range(2)]),
    f"Two drawings of each word, after {SHORT} s of training on the broken list and on the mended one.",
)
for part, values in long["listens"].items():
    print(f"long run, captions {part:9}: own {values['own']:.4f}, another's {values['other']:.4f}")

# %% [markdown]
# ## Play: what is near?
#
# “The nearest picture” depends on what one compares. Choose a drawing of the long run, and compare it pixel by pixel (64),
# or as thumbnails. At which size do you agree with what is called near? Faces are near to faces, because ground and
# outline fill most pixels. Is any of the neighbours *the same picture*?

# %% tags=["explorer"] jupyter={"source_hidden": true}
seen = album.numbers(held_out=False)
everything = squares(album, range(len(album.pictures)))


def thumbs(pictures, factor=4):
    return torch.nn.functional.avg_pool2d(pictures, factor).flatten(1)


gallery = torch.cat([sheet("samples.png")[2::3], sheet("pairs.png")])
labels = [*long["prompts"], *long["pairs"]]


@lru_cache(16)
def small(size):
    return thumbs(gallery, 64 // size), thumbs(everything[seen], 64 // size)


def view(drawing=4, compared_at="16", neighbours=4):
    one, all_ = small(int(compared_at))
    distance = torch.cdist(one[drawing : drawing + 1], all_)[0] / one.shape[1] ** 0.5
    order = distance.argsort()[:neighbours]
    pictures = torch.cat([gallery[drawing : drawing + 1], everything[[seen[i] for i in order]]])
    told = [f"{distance[i]:.2f}: {album.pictures[seen[i]].caption}" for i in order]
    return light(torch.cat([pictures, torch.ones(6 - len(pictures), 3, 64, 64)]), 24), "\n".join([labels[drawing], *told])


box = widgets.explorer(view, drawing=(0, len(gallery) - 1, 1, 4), compared_at=["16", "64", "32", "8", "4"],
                       neighbours=(1, 5, 1, 4))  # fmt: skip
widgets.show(box, "Left: a drawing of the long run. Right of it: the nearest pictures it was trained on.")

# %% tags=["widget-test"] jupyter={"source_hidden": true}
slowest = widgets.drive(box, limit=0.15)

# %% [markdown]
# ## Use it, and scale it
#
# A run's folder is a model like any other:
#
# ```sh
# minildm picture "a brick house with a yellow door" --model runs/village
# minildm train latent --data datasets/village --vae runs/village-vae --out runs/village --resume
# ```
#
# The second line goes on with a run that was stopped.
#
# With a GPU the commands are the same, and pictures of 512 pixels are in reach: begin with a published model, which has
# seen a great many pictures, and teach it yours. Its autoencoder and its text tower stay as they are.
#
# ```sh
# minildm train latent --data holiday --start sd15 --size 512 --set lr=1e-5 --set batch=4 --out runs/holiday
# torchrun --nproc_per_node 8 --no-python minildm train latent --data holiday --start sd15 --size 512 --out runs/holiday
# ```
#
# No GPU has run these two lines for this page; what was tested, and what a GPU must hold, stands in
# [scaling](../docs/scaling.md). Before you begin, ask whose pictures they are, and whether the people on them agreed.
#
# ## Quiz
#
# Answer for yourself, then open.
#
# <details><summary>1. The loss on seen pictures falls all night, the held-out one has its lowest value at midnight. Which
# model do you keep, and what do you change for the next night?</summary>
#
# The one of midnight (`--snapshots` keeps some on the way). Then more pictures or `--flips`; more steps would only
# improve what it remembers.
# </details>
#
# <details><summary>2. You train your autoencoder further after the latents are cached, with its encoder frozen. Does the
# cache have to be made again?</summary>
#
# No. Latents depend on the encoder alone, and so does their name. A decoder may be improved at any time, and every model
# on these latents draws better at once.
# </details>
#
# <details><summary>3. Loss and pictures are fine, but “a red flag” gives red houses and blue faces as well. Name the two
# first suspects.</summary>
#
# The captions: are they the right ones for their files, and does a wrong one cost anything? Then guidance: without captions
# left out in training, or with a scale of 1 or less, nothing is exaggerated.
# </details>
#
# **Words of this lesson** ([glossary](glossary.md)): bucket, cache, epoch, held out, latent, memorising, metadata.jsonl,
# scaling factor. **Next:** your own folder.

# %%
print(f"this lesson took {time.perf_counter() - opened:.0f} s from its first cell to its last")
