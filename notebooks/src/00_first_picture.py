# %% [markdown]
# # 00 · First picture in 90 seconds
#
# **After this lesson you can**
# - run this course on your machine;
# - say what happens between a sentence and a picture;
# - steer it, and check by numbers whether the picture obeyed;
# - get the same picture again next week, and say why a seed is not always enough for that.
#
# **Time:** under a minute of computing on a laptop with 2 cores, no GPU, and the first picture comes in seconds; then
# as long as you like to play.
#
# **Needs:** this course installed (`make lab`). Nothing is downloaded, no papers read, no mathematics. Words in
# *slanted type* are explained where they come up, and again in the [glossary](glossary.md).
#
# Run the cells from top to bottom with **Shift + Enter**. Nothing here can break.

# %%
import platform
import time
from importlib.metadata import PackageNotFoundError, requires, version
from itertools import pairwise

import torch
from matplotlib import pyplot as plt
from packaging.requirements import Requirement

import minildm
from minildm import denoise, oracle, scenes, show, tasks, weights
from minildm.course import check, widgets

opened = time.perf_counter()
show.style()

# %% [markdown]
# ## The pictures first
#
# The next cell loads a *model*, which is a program with numbers in it that were found by training, and asks it for eight
# pictures at once. Look at them first. How they come about is the rest of this lesson, and then of the course.

# %%
pipe = weights.load("shapes", minildm.best_device())

PROMPTS = [
    "a large red circle on a white background",
    "a small blue star at the top left of a black background",
    "a large purple star on a beige background",
    "a big green ring on a grey background",
    "a small yellow circle to the left of a large blue square on a white background",
    "a large orange cross above a small brown ring on a beige background",
    "a tiny pink triangle below a huge green cross on a black background",
    "there is a little red square to the right of a big purple triangle on grey",
]
pictures = tasks.text2img(pipe, PROMPTS, steps=12, scale=3.0, generator=torch.Generator().manual_seed(0))
show.figure(
    show.grid(pictures, 4, PROMPTS),
    "Eight sentences and what the model draws for them, one try each, no picture chosen among several. No picture that "
    "it was trained on had a purple star.",
)

# %% [markdown]
# A sentence that asks for a picture is called a *prompt*. The picture starts as noise and clears up in small steps. The
# model was trained on this course's own drawings: one or two coloured shapes on a plain background. It has the same
# parts, in the same order, with the same names, as Stable Diffusion. It is only smaller, by a factor of about two
# hundred.
#
# One of the eight was never seen in training: the **purple star**. The model saw purple things and saw stars, and had to
# put the two together (a *held-out pair*).
#
# ## Does everything work here?
#
# The left column is what this course needs, the right one what this machine has. If a line does not say `ok`,
# the troubleshooting page in `docs/` is the place to go.

# %%
try:
    needed = requires("minildm")
except PackageNotFoundError:
    needed = []
    print("minildm lies here but is not installed: run make lab to have its needs checked")
print(f"{'Python':16} {'3.11 or newer':20} {platform.python_version():12} ok")
for need in map(Requirement, needed):
    if need.marker is None or need.marker.evaluate({"extra": "lab"}):
        try:
            found = version(need.name)
            state = "ok" if need.specifier.contains(found, prereleases=True) else "another version is needed"
        except PackageNotFoundError:
            found, state = "missing", "install it with make lab"
        print(f"{need.name:16} {str(need.specifier):20} {found:12} {state}")

print(f"\npictures are computed on: {pipe.device}, {torch.get_num_threads()} threads")
for name in weights.shipped():
    size = sum(path.stat().st_size for path in weights.locate(name).rglob("*.safetensors")) / 1e6
    print(f"model {name:16} {size:5.1f} MB, unaltered")

# %% [markdown]
# ## From words to numbers
#
# A network cannot read. So a **tokenizer** cuts the sentence into pieces, *tokens*, and looks up the number
# of each. This one puts a start mark in front and fills up with end marks, until there are 24 tokens.

# %%
PROMPT = "a small blue star to the left of a large green ring on a white background"

ids = pipe.text.ids(PROMPT)[0]  #                                                             (24,)
words = [token.removesuffix("</w>") for token in pipe.text.tokenizer.convert_ids_to_tokens(ids.tolist())]
for number, word in zip(ids.tolist(), words, strict=True):
    print(f"{number:5}  {word}")

# %% [markdown]
# Then a small **transformer** reads all tokens together and gives back a list of 128 numbers for each of them.
# The numbers of *star* now also say that the star is small and blue. This table is all that the
# picture network will ever know about your sentence.

# %%
with torch.no_grad():
    states = pipe.text(PROMPT)  #                                                             (1, 24, 128)
used = words.index("<|endoftext|>") + 1  # what fills up after the first end mark is not shown
fig, ax = plt.subplots(figsize=(9, 5))
ax.imshow(states[0, :used].cpu(), cmap="RdBu_r", vmin=-2.5, vmax=2.5, aspect="auto", interpolation="nearest")
ax.set_yticks(range(used), words[:used])
ax.tick_params(left=False)
ax.set_xlabel("128 numbers for each token (blue: negative, red: positive)")
show.figure(fig, "The sentence as the picture network sees it: one row of 128 numbers for each token.")

# %% [markdown]
# ## From noise to a picture
#
# The picture network, a *U-Net*, never sees pixels. It works on **latents**: here 4 x 8 x 8 = 256 numbers that stand for
# the 3 x 32 x 32 = 3,072 numbers of a picture. At the start these 256 numbers are pure chance.
#
# At each step the network looks at the noisy latents and at the sentence, and guesses what the
# *clean* latents are. The sampler moves a little towards the guess. Then the network guesses again, with less noise
# in its way. A **decoder** turns latents into pixels.
#
# Read the film from left to right. The first two rows are the state itself, as latents and decoded. The third row
# is the guess. It knows the picture in the large while the state is still mostly noise: first the background and
# patches of colour, outlines last.

# %%
STEPS, SCALE, SEED = 25, 3.0, 0

rows = pipe.rows(STEPS, "ddim")  # the noise levels, noisiest first
film = list(tasks.states(pipe, PROMPT, steps=STEPS, scale=SCALE, generator=torch.Generator().manual_seed(SEED)))
guess_clean = tasks.prompted(pipe, [PROMPT], negative=None, scale=SCALE)
shown = [0, 3, 6, 9, 12, 15, 18, 21, STEPS]
with torch.no_grad():
    guesses = [guess_clean(film[i], rows[i]) for i in shown[:-1]] + [film[-1]]
    decoded = [pipe.decode(film[i])[0] for i in shown]
    decoded_guesses = [pipe.decode(z)[0] for z in guesses]
show.figure(
    show.strip(
        [show.latents(torch.cat([film[i] for i in shown])), decoded, decoded_guesses],
        ["the state, as latents", "the state, decoded", "the guess, decoded"],
        [f"step {i}" for i in shown],
    ),
    "From noise to a picture in 25 steps, nine of them shown. Latents are shown by three of their four channels, "
    "as red, green and blue.",
)

# %% [markdown]
# Did the picture do what the sentence said? We need not judge by eye. The **oracle** of this course reads
# a picture by fitting the drawing program to its pixels. It is not a trained network and it does not know the
# sentence. If nothing fits, it says so.

# %%
picture = pipe.decode(film[-1])
show.figure(show.grid(picture, 1), f"“{PROMPT}”")
print("the oracle reads:", oracle.describe(oracle.read(picture), 0))

# %% [markdown]
# ## The whole of latent diffusion, in one cell
#
# The next cell is folded. Open it (click on the bar at its left, or on the three dots) when you are curious: it is all
# of the above in about 25 lines, from the words to the pixels, with nothing hidden in a pipeline. One number in it you
# cannot guess: the `scaling_factor`, by which latents are multiplied so that they vary about as much as the noise does
# (lesson 12). In lesson 16 the same cell runs the real Stable Diffusion, with nothing changed but the name of the
# folder.

# %% tags=["whole-of-latent-diffusion"] jupyter={"source_hidden": true}
FOLDER = "shapes"  # a shipped model's name, or the folder of a published one: nothing else here need change
PROMPT, STEPS, SCALE, SEED = "a small blue star to the left of a large green ring on a white background", 25, 3.0, 0

pipe = weights.load(FOLDER, minildm.best_device())
tokenizer, clip, unet, vae = pipe.text.tokenizer, pipe.text.model, pipe.unet, pipe.vae

with torch.no_grad():
    # the sentence, and beside it the empty sentence, as tokens and then as states
    ids = tokenizer(["", PROMPT], padding="max_length", truncation=True, return_tensors="pt").input_ids
    context = clip(input_ids=ids.to(pipe.device)).last_hidden_state  #                    (2, n, d)

    # latents of pure noise
    z = torch.randn(1, *pipe.latent_shape(), generator=torch.Generator().manual_seed(SEED)).to(pipe.device)

    for level, below in pairwise(pipe.rows(STEPS, "ddim")):
        # what the clean latents may be: without the sentence, and with it
        twice, t = torch.cat([z, z]), torch.full((2,), level.t, device=z.device)
        out = unet(twice, t, context=context)  #                                          (2, c, h, w)
        plain, wanted = denoise.to_x0(out, twice, level, pipe.prediction).chunk(2)
        # guidance: exaggerate the difference that the sentence makes
        z0 = plain + SCALE * (wanted - plain)
        # one step of DDIM: the noise that this guess leaves, then both again at the next, lower level
        eps = (z - level.alpha * z0) / level.sigma
        z = below.alpha * z0 + below.sigma * eps

    picture = vae.decode(z / vae.config.scaling_factor).clamp(-1, 1)  #                   (1, 3, H, W)

show.figure(show.grid(picture, 1), PROMPT)

# %% [markdown]
# From here on the course uses `tasks.text2img` for this. Is it really the same? In this course such questions are
# answered by a number: the largest difference of any value of any pixel. They lie in -1..1, and the smallest step of a
# saved picture is 2/255.

# %%
theirs = tasks.text2img(pipe, PROMPT, steps=STEPS, scale=SCALE, generator=torch.Generator().manual_seed(SEED))
check.agree("the cell above and tasks.text2img", picture, theirs, within=1 / 255)

# %% [markdown]
# ## Play: the prompt box
#
# Choose, or write a sentence of your own into the prompt line and press Enter. Every change draws a new picture.
#
# - **seed** chooses the noise at the start: another *seed*, another picture of the same sentence.
# - **steps** is how often the network is asked. At 1 you see its very first guess. From where on does more not help?
# - **scale** is how much the sentence's effect is exaggerated (*guidance*). At 0 the sentence is ignored, at 1 taken as
#   it is. Try 0, 1, 3 and 8.
#
# The model knows only the words of its small world. It will warn you, and draw something all the same. Can you find a
# sentence of known words that it gets wrong?

# %% tags=["explorer"] jupyter={"source_hidden": true}
import warnings

import ipywidgets as w

from minildm.scenes.captions import PLACE_PHRASES, RELATION_PHRASES


def view(prompt, seed, steps, scale):
    """The picture of a prompt, and below it what the oracle reads and which words are unknown."""
    with warnings.catch_warnings(record=True) as heard:  # a long sentence is cut: say so below the picture
        warnings.simplefilter("always")
        noise = torch.Generator().manual_seed(seed)
        drawn = tasks.text2img(pipe, prompt, steps=steps, scale=scale, generator=noise)
    lines = [f"The oracle reads: {oracle.describe(oracle.read(drawn), 0)}."]
    lines += sorted({f"Careful: {warning.message}." for warning in heard})
    for word, near in scenes.unknown_words(prompt):
        lines.append(f"The model does not know “{word}”" + (f"; did you mean {' or '.join(near)}?" if near else "."))
    large = torch.nn.functional.interpolate(drawn, size=256)  #                                   (1, 3, 256, 256)
    framed = torch.nn.functional.pad(large, (1, 1, 1, 1), value=0.6)  # a thin grey line: white lies on white
    return framed, "\n".join(lines)


beside = [before[0] for before, _ in RELATION_PHRASES.values()]
wheres = ["anywhere", *(phrases[0] for phrases in PLACE_PHRASES.values()), *beside]
sizes, colours, shapes = list(scenes.SIZES), list(scenes.COLOURS), scenes.SHAPES
chosen = {
    "size": (sizes, "small"), "colour": (colours, "blue"), "shape": (shapes, "star"), "where": (wheres, beside[0]),
    "its size": (sizes, "large"), "its colour": (colours, "green"), "its shape": (shapes, "ring"),
    "background": (list(scenes.BACKGROUNDS), "white"),
}  # fmt: skip
look = {"layout": w.Layout(width="auto"), "style": {"description_width": "initial"}}
menus = {
    name: w.Dropdown(options=options, value=value, description=name, **look)
    for name, (options, value) in chosen.items()
}


def sentence():
    """The sentence that the dropdowns stand for, in one of the forms the model was trained on."""
    size, colour, shape, where, size2, colour2, shape2, ground = (control.value for control in menus.values())
    if where in beside:
        return f"a {size} {colour} {shape} {where} a {size2} {colour2} {shape2} on a {ground} background"
    return f"a {size} {colour} {shape} " + ("on" if where == "anywhere" else f"{where} of") + f" a {ground} background"


def compose(_):
    """A dropdown changed: write its sentence into the prompt line, which draws it."""
    for name in ("its size", "its colour", "its shape"):
        menus[name].disabled = menus["where"].value not in beside
    box.controls["prompt"].value = sentence()


box = widgets.explorer(view, prompt=sentence(), seed=(0, 99, 1), steps=(1, 25, 1, 12), scale=(0, 8, 0.5, 3.0))
for control in menus.values():
    control.observe(compose, "value")
row = w.Layout(flex_flow="row wrap", grid_gap="0 1em")
box.children = (w.Box(list(menus.values()), layout=row), *box.children)
box.controls = menus | box.controls
widgets.show(box, "The prompt box: a sentence, its picture, and below it what the oracle reads in the picture.")

# %% tags=["widget-test"] jupyter={"source_hidden": true}
# Moves every control of the box through its values and back, so that a mistake in it cannot stay unseen.
slowest = widgets.drive(box, limit=1.0, prompt=["a pourple dgo", "very " * 200 + "large red circle"])
assert box.controls["prompt"].value == PROMPT
assert "did you mean purple" in view("a pourple dgo", 0, 1, 3.0)[1]
assert "cut off" in view("very " * 200 + "large red circle", 0, 1, 3.0)[1]

# %% [markdown]
# If you are reading this on a web page, the box above is asleep. This is what its *seed* slider does:

# %%
SEEDS = 6


def start(seed):
    """The noise that a picture starts from, drawn for it alone: (1, 4, 8, 8)."""
    return torch.randn(1, *pipe.latent_shape(), generator=torch.Generator().manual_seed(seed))


said = "a large red circle on a white background"
same_prompt = tasks.text2img(pipe, said, steps=12, scale=3.0, noise=torch.cat([start(i) for i in range(SEEDS)]))
show.figure(
    show.grid(same_prompt, SEEDS, [f"seed {i}" for i in range(SEEDS)]),
    "One sentence, six seeds. What the sentence says should stay; what it leaves open, here the place, changes.",
)

# %% [markdown]
# ## Bug museum: the seed that was not enough
#
# You want an orange cross and leave the rest to chance. Four at a time, since that is faster than one by one. The third
# is lovely! You note the sentence, the steps, the scale and the seed, 20. Next week you ask for it again. **What do you
# get?** Broken on purpose:

# %%
wish = {"prompt": "an orange cross", "steps": 12, "scale": 3.0}
seeds, columns = (20, 21, 22, 23), ["first", "second", "third", "fourth"]
noise = torch.randn(4, *pipe.latent_shape(), generator=torch.Generator().manual_seed(20))
four = tasks.text2img(pipe, noise=noise, **wish)
alone = torch.cat([tasks.text2img(pipe, noise=start(seed), **wish) for seed in seeds])
show.figure(
    show.strip([four, alone], ["four at once, from seed 20", "alone, from seeds 20, 21, 22, 23"], columns),
    "Only the first of the four comes back. The third is made neither by seed 20 nor by seed 22.",
)
for seed, one, other in zip(seeds, four, alone, strict=True):
    print(f"{columns[seed - 20]:6} of four, and seed {seed} alone: {(one - other).abs().max():.3f} apart")

# %% [markdown]
# A *seed* is the number that a generator of random numbers begins with, and no more. One generator drew the noise of all
# four, one after the other, so the third got what comes *after* the noise of the first two. No seed begins there.
# This was no beginner's slip. A widely used program does it; its users asked how to make "photo 3 of 4" by itself
# ([ComfyUI #2134](https://github.com/Comfy-Org/ComfyUI/issues/2134)) and proposed a mending, a seed for each picture
# ([#1454](https://github.com/Comfy-Org/ComfyUI/pull/1454)). And look at the first figure of this lesson: it has the
# same fault. You can have all eight again, but not the fifth by itself.
#
# **The second way to lose a picture is another device.** The generator of a graphics card is another program than that of
# the processor: the same seed, other numbers, another picture. Users missed it ([stable-diffusion-webui
# #9613](https://github.com/AUTOMATIC1111/stable-diffusion-webui/issues/9613)), and it was mended by an option to draw the
# noise on the processor always ([#9734](https://github.com/AUTOMATIC1111/stable-diffusion-webui/pull/9734)). We need no
# graphics card to see such a thing. It is enough to ask for numbers of another kind, with 64 bits instead of 32:

# %%
for kind in (torch.float32, torch.float64):
    numbers = torch.randn(1, *pipe.latent_shape(), generator=torch.Generator().manual_seed(22), dtype=kind)
    print(f"seed 22, {kind}: {', '.join(f'{number:6.3f}' for number in numbers.flatten()[:5])} ...")

mended = tasks.text2img(pipe, noise=torch.cat([start(seed) for seed in seeds]), **wish)  # a seed for each
show.figure(
    show.strip([mended, alone], ["four at once, a seed for each", "alone, from the same seeds"], columns),
    "Mended: each has noise of its own, and comes back in whatever company.",
)
check.agree("the third of four with a seed for each, and seed 22 alone", mended[2], alone[2], within=0.1)

# %% [markdown]
# **How to never fall for it:** one seed for each picture, and noise that is drawn on the processor, in 32 bits, and moved
# to the device afterwards. The library does the second by itself; that is why its functions are given noise or a
# generator, and never a bare seed.
#
# And a hard thing said aloud. The last line above says "the same", but hardly a difference of 0: four pictures at once
# are computed in another order than one, so the last digits differ, and 12 steps make a little more of that. PyTorch
# [promises no more](https://pytorch.org/docs/stable/notes/randomness.html): not between its releases, not between
# platforms, not between processor and graphics card. So this course never compares anything with a stored random
# picture. Nor should your own tests.
#
# ## Half right, by hand
#
# Wanted is **a large red circle on a white background**. That scene has four *attributes*: size, colour, shape,
# background. Usually one wants all four. But whoever can miss on purpose knows what the machine listens to. Change
# `MY_PROMPT` so that the oracle finds **exactly two of the four right**. There are many answers.

# %%
MY_PROMPT = "a large red circle on a white background"  # <- change this line, and run the cell again

mine = tasks.text2img(pipe, MY_PROMPT, steps=12, scale=3.0, noise=start(0))
seen = oracle.describe(oracle.read(mine), 0)
right = [word for word in ("large", "red", "circle", "white") if word in seen.replace(",", "").split()]
show.figure(show.grid(mine, 1), f"“{MY_PROMPT}” The oracle reads: {seen}.")
print(f"{len(right)} of 4 are right ({', '.join(right)}). " + ("That is it!" if len(right) == 2 else "Two are wanted."))

# %% [markdown] tags=["solution"]
# # 00 · First picture in 90 seconds: solution
#
# One answer, and why it is so. There are others; the check takes them too.

# %% [markdown] tags=["exercise"]
# ## Exercise
#
# Now teach it to the machine. Write your answer in place of the dots and run the cell. Its last line looks at what you
# wrote: a tick, or what is amiss and on which input. `check.hint("00.half_right")` gives a hint, and a clearer one each
# time; nothing is counted. Whatever you write, the notebook runs on.

# %% tags=["setup"]
from minildm import scenes
from minildm.course import check

for kind, known in (("size", scenes.SIZES), ("colour", scenes.COLOURS), ("shape", scenes.SHAPES),
                    ("background", scenes.BACKGROUNDS)):  # fmt: skip
    print(f"{kind:12}{', '.join(known)}")

# %% [markdown] tags=["exercise"]
# ### 00.half_right: miss two on purpose, whatever is wanted
#
# Write `half_right(wanted)`. It is given a scene of one object as a dictionary,
#
# ```python
# {"size": "large", "colour": "red", "shape": "circle", "background": "white"}
# ```
#
# and returns a prompt, a `str`, of words that the model knows. In the picture that the model draws of it, the oracle shall
# find one object and **exactly two of the four attributes as wanted**, no matter which two. The check asks for eight
# scenes, has your prompts drawn and reads the pictures. (The model may spoil a picture now and then. That is its fault,
# and not held against you.)

# %% tags=["exercise"]
def half_right(wanted):
    # BEGIN SOLUTION
    shape = "star" if wanted["shape"] != "star" else "ring"
    ground = "black" if wanted["background"] != "black" else "white"
    return f"a {wanted['size']} {wanted['colour']} {shape} on a {ground} background"
    # END SOLUTION


check.exercise("00.half_right", half_right)

# %% [markdown] tags=["solution"]
# Two things are easily missed. A fixed word such as "star" is no longer something else as soon as a star is wanted, hence
# the two questions. And leaving a word out does not make its attribute wrong: what the sentence does not say, the noise
# decides, and half of all sizes come out right by chance.

# %% [markdown]
# ## Quiz
#
# Answer for yourself, then open.
#
# <details><summary>1. You run the same prompt twice with the same seed and get the same picture. Where, then, does a
# new picture of the same prompt come from?</summary>
#
# From the noise at the start, and from nowhere else. The sampler used here (DDIM) draws no further random numbers, so
# the seed decides everything that the sentence leaves open.
# </details>
#
# <details><summary>2. The network is asked 25 times. How many numbers does it have to clean up each time, and how many
# would it be without the latents?</summary>
#
# 4 x 8 x 8 = 256 instead of 3 x 32 x 32 = 3,072: a twelfth. Lesson 12 measures what that is worth in seconds.
# </details>
#
# <details><summary>3. You write "a large red dog". What will you get, and why not an error?</summary>
#
# Most likely some red shape. The tokenizer can spell any word, byte by byte, but the network never saw a picture
# with those tokens. It has no way to say that it does not know; it can only draw what it has learned to draw. Try it in
# the box. (People who use large models would like them to refuse: [stable-diffusion-webui
# #1942](https://github.com/AUTOMATIC1111/stable-diffusion-webui/issues/1942).)
# </details>
#
# **Words of this lesson** ([glossary](glossary.md)): prompt, token, transformer, latent, U-Net, sampler, guidance,
# seed, held-out pair, oracle, DDIM.

# %%
print(f"this lesson took {time.perf_counter() - opened:.0f} s from its first cell to its last")

# %% [markdown]
# ## What next
#
# From here the parts are built one by one, and each lesson begins with pictures:
# - **01** and **02** build the part that makes latents, an autoencoder, and find out why a plain one cannot invent;
#   **03** takes a walk through its latents;
# - **04** puts noise into pictures, and **05** finds the best possible way to take it out again, without any network;
# - **06** builds a network that tries the same, and **07** trains it; **08**, **09** and **10** are about drawing with
#   such a network: in few steps, by other questions, and as you wish;
# - **12** puts all parts together as you saw here, and **16** loads the published Stable Diffusion into them.
#
# You can begin anywhere, as every lesson finds what it needs ready trained. Nothing is taken on trust: what a lesson
# derives, it proves equal to the library's own function before it goes on.
