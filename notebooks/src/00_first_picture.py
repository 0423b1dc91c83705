# %% [markdown]
# # 00 · First picture in 90 seconds
#
# **After this lesson you can**
# - run this course on your machine;
# - say what happens between a sentence and a picture;
# - steer it, and check by numbers whether the picture obeyed.
#
# **Time:** at most a minute on a laptop with 2 cores, no GPU; then as long as you like to play. **Needs:** this course
# installed (`make lab`), and no papers read. Nothing is downloaded.
#
# Below, a sentence becomes a picture. It starts as noise and clears up in 25 small steps. The model that
# does it was trained on this course's own drawings: one or two coloured shapes on a plain background. It has
# the same parts, in the same order, with the same names, as Stable Diffusion. It is only smaller, by a
# factor of about two hundred.
#
# Run the cells from top to bottom with **Shift + Enter**. Nothing here can break.

# %%
import platform
import time
from importlib.metadata import PackageNotFoundError, requires, version
from itertools import pairwise

import torch
from packaging.requirements import Requirement

import minildm
from minildm import denoise, oracle, scenes, show, tasks, weights

opened = time.perf_counter()
show.style()

# %% [markdown]
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

device = minildm.best_device()
print(f"\npictures are computed on: {device}, {torch.get_num_threads()} threads")
for name in weights.shipped():
    size = sum(path.stat().st_size for path in weights.locate(name).rglob("*.safetensors")) / 1e6
    print(f"model {name:16} {size:5.1f} MB, unaltered")

# %% [markdown]
# ## Eight sentences, eight pictures
#
# The next cell loads the model and asks it for eight pictures at once. Look at the result first. How it
# comes about is the rest of this lesson, and then of the course.
#
# One of the eight was never seen in training: no training picture had a purple star. The model saw purple
# things and saw stars, and had to put the two together.

# %%
pipe = weights.load("shapes", device)

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
pictures = tasks.text2img(pipe, PROMPTS, steps=25, scale=3.0, generator=torch.Generator().manual_seed(0))
show.figure(
    show.grid(pictures, 4, PROMPTS),
    "Eight prompts and what the shipped model draws for them, one try each, no picture chosen among several. "
    "The purple star is a combination that no training picture had.",
)

# %% [markdown]
# ## From words to numbers
#
# A network cannot read. So a **tokenizer** cuts the sentence into pieces, *tokens*, and looks up the number
# of each. This one puts a start mark in front and fills up with end marks, until there are 24 tokens.

# %%
PROMPT = "a small blue star to the left of a large green ring on a white background"

ids = pipe.text.ids(PROMPT)[0]  #                                                             (24,)
for number, token in zip(ids.tolist(), pipe.text.tokenizer.convert_ids_to_tokens(ids.tolist()), strict=True):
    print(f"{number:5}  {token.replace('</w>', '')}")

# %% [markdown]
# Then a small **transformer** reads all tokens together and gives back a list of 128 numbers for each of them.
# The numbers of *star* now also say that the star is small and blue. This table is all that the
# picture network will ever know about your sentence.

# %%
with torch.no_grad():
    states = pipe.text(PROMPT)  #                                                             (1, 24, 128)
from matplotlib import pyplot as plt

words = [token.replace("</w>", "") for token in pipe.text.tokenizer.convert_ids_to_tokens(ids.tolist())]
fig, ax = plt.subplots(figsize=(9, 5.2))
ax.imshow(states[0].cpu(), cmap="RdBu_r", vmin=-2.5, vmax=2.5, aspect="auto", interpolation="nearest")
ax.set_yticks(range(len(words)), words, fontsize=9)
ax.set_xlabel("128 numbers for each token (blue: negative, red: positive)")
show.figure(fig, "The sentence as the picture network sees it: one row of 128 numbers for each token.")

# %% [markdown]
# ## From noise to a picture
#
# The picture network never sees pixels. It works on **latents**: here 4 x 8 x 8 = 256 numbers that stand for
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
# of the above in about 25 lines, from the words to the pixels, with nothing hidden in a pipeline. In the last lesson
# the same cell runs the real Stable Diffusion, with nothing changed but the name of the folder.

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
# From here on the course uses `tasks.text2img` for this. Is it really the same? In this course such questions
# are answered by a number.

# %%
theirs = tasks.text2img(pipe, PROMPT, steps=STEPS, scale=SCALE, generator=torch.Generator().manual_seed(SEED))
difference = (picture - theirs).abs().max().item()
print(f"largest difference of any pixel value: {difference:.1e} (a saved picture's smallest step is {2 / 255:.1e})")
assert difference < 1 / 255

# %% [markdown]
# ## Your turn: the prompt box
#
# Choose, or write a sentence of your own into the prompt line and press Enter. Every change draws a new picture.
#
# - **seed** chooses the noise at the start: another seed, another picture of the same sentence.
# - **steps** is how often the network is asked.
# - **scale** is how much the sentence's effect is exaggerated. At 0 the sentence is ignored, at 1 taken as it is.
#   Try 0, 1, 3 and 8.
#
# The model knows only the words of its small world. It will warn you, and draw something all the same.

# %% tags=["prompt-box"] jupyter={"source_hidden": true}
import html
import warnings

import ipywidgets as w
from IPython.display import display

from minildm.scenes.captions import PLACE_PHRASES


def dropdown(label, options, value):
    return w.Dropdown(description=label, options=list(options), value=value)


sizes, colours, shapes = list(scenes.SIZES), list(scenes.COLOURS), scenes.SHAPES
size, size2 = dropdown("size", sizes, "large"), dropdown("its size", sizes, "small")
colour, colour2 = dropdown("colour", colours, "red"), dropdown("its colour", colours, "blue")
shape, shape2 = dropdown("shape", shapes, "circle"), dropdown("its shape", shapes, "star")
place = dropdown("place", ["anywhere", *scenes.PLACES], "anywhere")
relation = dropdown("second", ["none", *scenes.RELATIONS], "none")
ground = dropdown("background", scenes.BACKGROUNDS, "white")
slow = {"continuous_update": False}  # draw when the slider is let go, not on its way
seed = w.IntSlider(description="seed", min=0, max=99, value=0, **slow)
steps = w.IntSlider(description="steps", min=1, max=50, value=25, **slow)
scale = w.FloatSlider(description="scale", min=0, max=8, step=0.5, value=3, **slow)
prompt = w.Text(description="prompt", layout=w.Layout(width="100%"), **slow)
image, note = w.Image(format="png", width=256, height=256), w.HTML()


def sentence():
    """The sentence that the dropdowns stand for, in one of the forms the model was trained on."""
    first = f"a {size.value} {colour.value} {shape.value}"
    second = f"a {size2.value} {colour2.value} {shape2.value}"
    if relation.value != "none":
        by = "to the " * (relation.value in ("left of", "right of")) + relation.value
        return f"{first} {by} {second} on a {ground.value} background"
    if place.value != "anywhere":
        return f"{first} {PLACE_PHRASES[place.value][0]} of a {ground.value} background"
    return f"{first} on a {ground.value} background"


def compose(_=None):
    """The dropdowns changed: write their sentence, which draws it."""
    place.disabled = relation.value != "none"
    for control in (size2, colour2, shape2):
        control.disabled = relation.value == "none"
    prompt.value = sentence()


def draw(_=None):
    """Draw the prompt, show the picture, and below it what the oracle reads and which words are unknown."""
    noise = torch.Generator().manual_seed(seed.value)
    with warnings.catch_warnings(record=True) as heard:  # a long sentence is cut: say so below the picture
        warnings.simplefilter("always")
        drawn = tasks.text2img(pipe, prompt.value, steps=steps.value, scale=scale.value, generator=noise)
    image.value = show.png(drawn, size=256)
    lines = ["The oracle reads: " + oracle.describe(oracle.read(drawn), 0) + "."]
    lines += {f"Careful: {warning.message}." for warning in heard}
    for word, near in scenes.unknown_words(prompt.value):
        lines.append(f"The model does not know “{word}”" + (f"; did you mean {' or '.join(near)}?" if near else "."))
    note.value = "<br>".join(html.escape(line) for line in lines)


for control in (size, colour, shape, place, relation, size2, colour2, shape2, ground):
    control.observe(compose, "value")
for control in (prompt, seed, steps, scale):
    control.observe(draw, "value")
compose()
objects = w.HBox([w.VBox([size, colour, shape, place]), w.VBox([relation, size2, colour2, shape2])])
display(w.VBox([objects, ground, w.HBox([seed, steps, scale]), prompt, w.HBox([image, note])]))

# %% tags=["widget-test"] jupyter={"source_hidden": true}
# Moves every control of the box through its range, so that a mistake in it cannot stay unseen; then puts all back.
everything = (size, colour, shape, place, relation, size2, colour2, shape2, ground, seed, scale, steps)
at_first = [control.value for control in everything]
steps.value = 1  # these pictures only have to be drawn, not to be good
for control in (size, colour, shape, ground, place, relation, size2, colour2, shape2):
    every = control in (place, relation)  # these choose their words; of the others two are enough
    for option in control.options if every else (control.options[-1], control.options[0]):
        control.value = option
for text in ("", "a pourple dgo", "very " * 200 + "large red circle"):
    prompt.value = text
    assert ("purple" in note.value) == ("pourple" in text)
    assert ("cut off" in note.value) == ("very" in text)
for slider in (seed, scale, steps):
    for value in (slider.min, slider.max):
        slider.value = value
for control, value in zip(everything, at_first, strict=True):
    control.value = value
assert prompt.value == "a large red circle on a white background"

# %% [markdown]
# If you are reading this on a web page, the box above is asleep. This is what its *seed* slider does:

# %%
SEEDS = 6
starts = [torch.randn(pipe.latent_shape(), generator=torch.Generator().manual_seed(i)) for i in range(SEEDS)]
said = "a large red circle on a white background"
same_prompt = tasks.text2img(pipe, said, steps=25, scale=3.0, noise=torch.stack(starts))
show.figure(
    show.grid(same_prompt, SEEDS, [f"seed {i}" for i in range(SEEDS)]),
    "One sentence, six seeds. What the sentence says should stay; what it leaves open, here the place, changes.",
)

# %% [markdown]
# ## Exercise: two attributes right
#
# Wanted is **a large red circle on a white background**. That scene has four attributes: size, colour,
# shape, background. Change `MY_PROMPT` so that the oracle finds **exactly two** of the four right in the
# picture. There are many answers.

# %%
MY_PROMPT = "a large red circle on a white background"  # <- change this line, then run the next cell

# %% jupyter={"source_hidden": true}
WANTED = {"size": "large", "colour": "red", "shape": "circle", "background": "white"}
try:
    mine = tasks.text2img(pipe, MY_PROMPT, steps=25, scale=3.0, generator=torch.Generator().manual_seed(0))
    read = oracle.read(mine)
    seen = {
        "size": sizes[read.scenes.size[0, 0]],
        "colour": colours[read.scenes.colour[0, 0]],
        "shape": shapes[read.scenes.shape[0, 0]],
        "background": list(scenes.BACKGROUNDS)[read.scenes.background[0]],
    }
    right = [name for name in WANTED if seen[name] == WANTED[name]]
    show.figure(show.grid(mine, 1), f"“{MY_PROMPT}” The oracle reads: {oracle.describe(read, 0)}.")
    if not read.readable[0]:
        print("not yet: the oracle cannot read this picture. Name a size, a colour, a shape and a background.")
    elif read.scenes.count[0] != 1:
        print("not yet: there should be one object.")
    elif len(right) != 2:
        print(f"not yet: {len(right)} of 4 are right ({', '.join(right) or 'none'}). Two are wanted.")
    else:
        print(f"✓ exactly two are right: {right[0]} and {right[1]}.")
except ValueError as error:  # say, a prompt that is no text
    print(f"not yet: {error}")

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
# with those tokens. It has no way to say that it does not know; it can only draw what it has learned to draw.
# Try it in the box.
# </details>

# %%
print(f"this lesson took {time.perf_counter() - opened:.0f} s from its first cell to its last")

# %% [markdown]
# ## What next
#
# Lesson 02 builds the part that makes latents, lesson 07 the part that cleans up noise, and lesson 12 puts them together
# as you saw here. Each begins with pictures. Nothing is taken on trust: what a lesson derives, it proves equal
# to the library's own function before it goes on.
