# %% [markdown]
# # 16 · Real Stable Diffusion, in your own modules
#
# **After this lesson you can**
# - load the published weights of Stable Diffusion into the classes you trained yourself;
# - read what a file of weights holds before you trust it, and say which facts about a network no file tells;
# - choose what to do when the memory is too small;
# - say what these models cannot do, and what their licences ask of you.
#
# **Time:** about half a minute of computing on a laptop with 2 cores, no GPU, with the small model; an hour with the
# exercises.
#
# **Needs:** lessons 00 and 12. The published weights are 2 to 7 GB and are not part of this course. Without them
# everything below still runs, on the small model, and says so; nowhere is a picture shown that was not just drawn here. To run it on the real ones, put their folder, file or hub name into
# `MINILDM_WEIGHTS` before you start Jupyter, best on a machine with a GPU:
#
# ```sh
# MINILDM_WEIGHTS=sd15 make lab
# ```

# %%
import os
import textwrap
import time
import warnings
from dataclasses import replace
from itertools import pairwise

import torch
from matplotlib import pyplot as plt

import minildm
from minildm import denoise, layers, levels, original, sample, scenes, show, tasks, weights
from minildm.course import widgets
from minildm.unet import UNet, UNetConfig
from minildm.vae import VAE

opened = time.perf_counter()
show.style()

WEIGHTS = os.environ.get("MINILDM_WEIGHTS")  # a folder, a file or a hub name; None: not at hand
FOLDER = WEIGHTS or "shapes"
device = minildm.best_device()
print(f"published weights: {WEIGHTS or 'none at hand, so the small model of this course takes their place'}")
print(f"computed on {device}")

# %% [markdown]
# ## The same rows, other numbers
#
# This is the claim of the whole course: the class `UNet` that you trained in a minute *is* Stable Diffusion's. Only
# the numbers in its configuration differ. PyTorch can build a network without giving it any memory (on the device
# `meta`), so the big ones can be counted on any laptop.

# %%
SD15 = UNetConfig()  # our defaults are Stable Diffusion 1.5
SD21 = replace(SD15, heads=(5, 10, 20, 20), context_dim=1024, linear_projection=True)
SDXL = UNetConfig(
    block_out_channels=(320, 640, 1280), transformer_layers=(0, 2, 10), mid_layers=10, heads=(5, 10, 20),
    context_dim=2048, linear_projection=True, added_dim=2816,
)
small = weights.load("shapes").unet.config
columns = {"yours": small, "SD 1.5": SD15, "SD 2.1": SD21, "SDXL": SDXL}
counts = {}
with torch.device("meta"):
    for name, config in columns.items():
        counts[name] = sum(p.numel() for p in UNet(config).parameters())


def line(head, cells):
    print(f"{head:18}" + "".join(f"{cell:>{width}}" for cell, width in zip(cells, (12, 24, 24, 18), strict=True)))


line("", columns)
for field in ("block_out_channels", "layers_per_block", "transformer_layers", "mid_layers", "heads", "context_dim",
              "linear_projection", "added_dim", "norm_num_groups"):
    line(field, [str(getattr(config, field)) for config in columns.values()])
line("parameters", [f"{count:,}" for count in counts.values()])

# %% [markdown]
# `added_dim` is the one row that SDXL brought: what the time embedding is told besides the time, namely a summary of
# the prompt, and the picture's size (Podell et al. 2024). Everything else you have met.
#
# ## What is in a file of weights
#
# A file in the *safetensors* format begins with a table: names, types, shapes. That table can be read without
# reading the gigabytes behind it, and without running anything. (The older `.ckpt` files are Python pickles: opening
# one carelessly runs whatever program its author put in. `minildm` opens them only through PyTorch's `weights_only`
# reader, which builds tensors and refuses the rest.)

# %%
path = weights.locate(FOLDER)
held = weights.inspect(path)
print(textwrap.fill(str(held), 100))
if "SDXL" in str(held):
    raise minildm.UserError("MINILDM_WEIGHTS", WEIGHTS, "Stable Diffusion 1.x or 2.x; `minildm picture --model` draws with "
                            "SDXL, whose two text towers are more than this lesson's cell has room for")  # fmt: skip

# %% [markdown]
# The names in that table are the attribute names of our classes. That is why no conversion is needed: `unet.down_blocks[0]
# .resnets[0].conv1.weight` *is* the key. But the first files of Stable Diffusion had other names, from the original
# code, which numbers the blocks in one row. Here are a few of them, and what `original.parts` makes of each.

# %%
strange = [
    "model.diffusion_model.input_blocks.1.0.in_layers.2.weight",
    "model.diffusion_model.input_blocks.4.1.transformer_blocks.0.attn2.to_k.weight",
    "model.diffusion_model.input_blocks.3.0.op.weight",
    "model.diffusion_model.middle_block.1.proj_in.weight",
    "model.diffusion_model.output_blocks.5.2.conv.weight",
    "first_stage_model.encoder.down.1.block.0.nin_shortcut.weight",
    "cond_stage_model.transformer.text_model.encoder.layers.0.mlp.fc1.weight",
]
found = original.parts({name: torch.tensor(i) for i, name in enumerate(strange)})
renamed = {int(i): f"{part}: {name}" for part, table in found.items() for name, i in table.items()}
for i, name in enumerate(strange):
    print(f"{name}\n    -> {renamed[i]}")

# %% [markdown]
# Look at the fourth: `middle_block.1` became `attentions.0`. A rename table is dull work, and one slip gives a model that
# loads and draws mud. So it is tested as a **bijection**: every published name lands on one of ours, none twice, with
# its shape (`tests/test_original.py`).
#
# ### What no shape tells
#
# Widths and depths can be read from the shapes. Four things cannot: the number of attention **heads**, the
# **activation** in the text tower, what the network **predicts** (eps or v), and the **tokenizer**. A matrix of 320 x
# 320 looks the same with 5 heads and with 8. They have to be published, and `weights.load` takes them from the
# configuration files, or for a single file from what it knows of the family.
#
# ## The cell of lesson 12, once more
#
# Nothing is changed in it but the name of the folder and the prompt; a test of this course compares the two, letter
# by letter.

# %% tags=["whole-of-latent-diffusion"]
PROMPT, STEPS, SCALE, SEED = "a photograph of an astronaut riding a horse", 25, 7.5, 0
if not WEIGHTS:
    PROMPT, SCALE = "a small blue star to the left of a large green ring on a white background", 3.0
    print("No published weights here: the small model draws, with a prompt from its own world.")

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
# ## Half the bits
#
# Published weights are used in half precision as a rule: it takes half the memory, and a GPU has faster units for it. Load
# them once more with another `dtype` and draw from the same noise. One thing does not become half: the state of the
# sampler stays in float32, because an error of one part in a thousand at every one of 25 steps would add up.

# %%
exact = picture.cpu().float()
half = torch.float16 if device.type == "cuda" else torch.bfloat16
pipe = weights.load(FOLDER, device, half)
noise = torch.randn(1, *pipe.latent_shape(), generator=torch.Generator().manual_seed(SEED))
rounded = tasks.text2img(pipe, PROMPT, None, STEPS, SCALE, noise=noise).cpu().float()
show.figure(
    show.grid(torch.cat([exact, rounded]), 2, ["float32, the cell above", f"{str(half)[6:]}, tasks.text2img"]),
    f"“{PROMPT}” from the same noise. Mean difference {(exact - rounded).abs().mean() * 127.5:.2f} of 255.",
)
if device.type == "cpu":
    pipe = weights.load(FOLDER, device)  # a laptop's processor gains little by it on a model as small as this

# %% [markdown]
# ## The schedule never quite reaches noise
#
# Stable Diffusion's rows are `scaled_linear`, ours squared cosines. The figure shows how loud the picture is against
# the noise. Look at the right end: the published schedule stops while 7% of the picture is still there. The network
# has never seen pure noise, and yet sampling starts from it. That is why these models find it hard to draw a very
# dark or a very bright picture (Lin et al. 2023), and why `levels.zero_terminal_snr` exists.

# %%
published, ours = levels.scaled_linear(), levels.cosine()
fig, ax = plt.subplots(figsize=(8, 3.4))
for name, schedule in (("Stable Diffusion 1.x, 2.x, SDXL", published), ("this course: squared cosine", ours)):
    ax.plot(schedule.t, 20 * (schedule.alpha / schedule.sigma).log10(), label=name)
ax.set(xlabel="t", ylabel="signal over noise, in decibels", ylim=(-60, 40))
ax.legend()
show.figure(fig, "How loud the picture is against the noise, from clean (left) to noisy (right).")
for name, schedule in (("published", published), ("with zero terminal SNR", levels.zero_terminal_snr(published))):
    print(f"{name:24} alpha at the last row: {schedule.alpha[-1]:.4f}")

# %% [markdown]
# ## Other ways through the same rows
#
# Stable Diffusion 1.5 was published with the sampler PNDM, which draws its next step out of the noise of the last four
# answers. On the published rows that is well. Ours begin at $\alpha = 0.00005$, where $x$ is noise and nothing else, and
# it would blow up every small error of the first answer: the library refuses it there. The samplers from the same noise,
# with only eight steps:

# %%
names = ["ddpm", "ddim", "euler", "heun", "dpmpp_2m"] + (["pndm"] if WEIGHTS else [])
start = torch.randn(1, *pipe.latent_shape(), generator=torch.Generator().manual_seed(4))
drawn = [
    tasks.text2img(pipe, PROMPT, steps=8, scale=SCALE, sampler=name, noise=start, generator=torch.Generator().manual_seed(1))
    for name in names
]
show.figure(show.grid(torch.cat(drawn).cpu(), len(names), names), "Eight steps each. Only ddpm draws fresh noise on the way.")

# %% [markdown]
# ## Guidance against steps
#
# Two numbers decide what you get for your time. More **steps** follow the same path in smaller strides; beyond twenty or so
# little changes. More **scale** obeys the prompt more and the training data less: colours saturate and pictures of one
# prompt grow alike (Ho & Salimans 2022). Published
# models are mostly used at 7.5, ours at 3.

# %%
scales, counts_of_steps = ((1.0, 4.0, 7.5, 12.0) if WEIGHTS else (0.0, 1.0, 3.0, 8.0)), (4, 10, 25)
drawn = torch.cat([
    tasks.text2img(pipe, PROMPT, None, n, scale, noise=noise).cpu().float() for n in counts_of_steps for scale in scales
])  # fmt: skip
show.figure(
    show.strip(list(drawn.split(len(scales))), [f"{n} steps" for n in counts_of_steps], [f"scale {s:g}" for s in scales]),
    f"“{PROMPT}”, all from one noise.",
)

# %% [markdown]
# ## Seeds and variations
#
# The seed is the only thing that chance has a say in: it draws the first noise, and everything else follows. So a picture
# can be had again, and *varied*: go from its noise a little towards another. In many dimensions noise lies on a sphere, so
# the way leads along the sphere and not straight through it (lesson 03): half-way on the straight line
# the noise would be too quiet by a factor of 0.7.

# %%
shares = (0, 0.15, 0.3, 0.5, 0.75, 1)
other = torch.randn(noise.shape, generator=torch.Generator().manual_seed(7))
between = torch.cat([sample.slerp(noise, other, share) for share in shares])
straight = 0.5 * (noise + other)
around = sample.slerp(noise, other, 0.5)
print(f"standard deviation half-way: on the sphere {around.std():.2f}, straight {straight.std():.2f}")
drawn = torch.cat([tasks.text2img(pipe, PROMPT, None, 20, SCALE, noise=z[None]).cpu().float() for z in between])
show.figure(
    show.grid(drawn, len(shares), [f"{share:.0%}" for share in shares]),
    "One prompt. Left: seed 0; right: seed 7; between them the way along the sphere. Small steps vary a picture.",
)

# %% [markdown]
# ## Which word is looked at, and where
#
# In cross-attention every place of the picture asks every word: is this about me? The answers are weights that add up to
# 1. `layers.watched` shows them (lesson 11 derives it).

# %%
def attention_maps(pipe, prompt, seed=0, at=0.5):
    """Mean over heads and layers of the cross-attention at the step `at` of the way: (tokens, h, w), and the tokens."""
    z = torch.randn(1, *pipe.latent_shape(), generator=torch.Generator().manual_seed(seed))
    height, width = z.shape[2:]
    rows = pipe.rows(STEPS, "ddim")
    film = list(tasks.states(pipe, prompt, steps=STEPS, scale=SCALE, noise=z))
    i = int(at * STEPS)
    said = {name: value.to(pipe.dtype) for name, value in pipe.condition([prompt]).items()}
    with torch.no_grad(), layers.watched(pipe.unet) as seen:
        pipe.unet(film[i].to(pipe.dtype), torch.full((1,), rows[i].t, device=pipe.device), **said)
    maps = []
    for look in seen:  #                                                                  (1, places, tokens)
        side = round((look.shape[1] * height / width) ** 0.5)
        look = look.mT.unflatten(2, (side, -1)).float()  #                                (1, tokens, side, side)
        maps.append(torch.nn.functional.interpolate(look, size=(height, width), mode="bilinear")[0])
    ids = pipe.text.tokenizer(prompt)["input_ids"]
    tokens = [token.replace("</w>", "") for token in pipe.text.tokenizer.convert_ids_to_tokens(ids)]
    return torch.stack(maps).mean(0)[: len(tokens)].cpu(), tokens, pipe.decode(film[-1])[0].cpu()


looks, tokens, result = attention_maps(pipe, PROMPT)
fig, axes = plt.subplots(3, 6, figsize=(10, 5.4))
shown = range(1, min(len(tokens) - 1, 18))
for ax in axes.flat:
    ax.axis("off")
axes[0, 0].imshow((result / 2 + 0.5).permute(1, 2, 0).float())
axes[0, 0].set_title("the picture", fontsize=9)
for ax, i in zip(list(axes.flat)[1:], shown, strict=False):
    ax.imshow(looks[i], cmap="magma")
    ax.set_title(tokens[i], fontsize=9)
show.figure(fig, "Half-way to the picture: where each word is looked at (bright: much). Each map has its own scale.")

# %% [markdown]
# Read it with care. The text tower has read the whole sentence by the time the U-Net sees a word, so a late word can carry
# all of it: a bright map says *this token's numbers were used here*, not *this word means this place*.
#
# ## Pictures that the autoencoder never saw
#
# An autoencoder is a specialist too. The published one was trained on photographs; ours has seen flat shapes on plain
# grounds. Two photographs, there and back:

# %%
from sklearn.datasets import load_sample_images

side = 512 if WEIGHTS else 128
photos = [torch.from_numpy(image.copy()).permute(2, 0, 1).float() / 127.5 - 1 for image in load_sample_images().images]
photos = torch.stack([torch.nn.functional.interpolate(p[None, :, :427, 100:527], size=side, mode="area")[0] for p in photos])
with torch.no_grad():
    back = pipe.decode(pipe.encode(photos.to(pipe.device)))[:, :, :side, :side].cpu().float()
error = 10 * (4 / (back - photos).square().mean((1, 2, 3))).log10()
show.figure(
    show.strip([photos, back], ["a photograph", f"through {FOLDER}'s autoencoder"]),
    f"PSNR {error[0]:.1f} and {error[1]:.1f} dB. " + ("" if WEIGHTS else "Ours reaches over 40 dB on its own shapes: "
    "what it never saw, it cannot keep."),
)  # fmt: skip

# %% [markdown]
# ## When the memory is too small
#
# Weights take parameters times bytes. That part needs no measuring:

# %%
with torch.device("meta"):
    coder = sum(p.numel() for p in VAE().parameters())
text = {"SD 1.5": 123_060_480, "SD 2.1": 340_387_840, "SDXL": 123_060_480 + 694_659_840}  # of the published text towers
plans = {"float32": (4, False), "float16": (2, False), "float16, one part at a time": (2, True)}
fig, ax = plt.subplots(figsize=(8, 3))
for i, (plan, (width, alone)) in enumerate(plans.items()):
    sizes = []
    for name in text:
        parts = [counts[name], coder, text[name]]
        sizes.append(width * (max(parts) if alone else sum(parts)) / 1e9)
    bars = ax.barh([j + 0.27 * (i - 1) for j in range(3)], sizes, 0.25, label=plan)
    ax.bar_label(bars, fmt="%.1f", padding=3, fontsize=8)
ax.set_yticks(range(3), text)
ax.invert_yaxis()
ax.set(xlabel="GB of weights on the device", xlim=(0, 16))
ax.legend()
show.figure(fig, "Weights alone, computed from the parameter counts. What the computation itself needs comes on top.")

latent = torch.randn(1, *pipe.latent_shape(), generator=torch.Generator().manual_seed(0)).to(pipe.device, pipe.vae_dtype)
with torch.no_grad():
    whole = pipe.vae.decode(latent)
    for rows in (8, 4, 2):
        print(f"decoded {rows} rows at a time, largest difference {(pipe.vae.decode(latent, rows) - whole).abs().max():.1e}")

# %% [markdown]
# What comes on top has to be measured. On a CPU with 2 cores, in bfloat16 for half precision, PyTorch itself included;
# `python -m benchmarks.memory FOLDER` makes this table for your machine, and your GPU:
#
# | Stable Diffusion 1.5, 512 x 512 | memory in steps, GB | memory in decoding, GB | a step, s | decoding, s |
# |---|---|---|---|---|---|
# | float32 | 5.6 | 6.4 | 10.2 | 14.9 |
# | float32, decoded 8 rows at a time | 5.6 | 6.1 | 10.1 | 28.2 |
# | half precision | 3.2 | 3.7 | 6.0 | 8.0 |
# | half precision, decoded 8 rows at a time | 3.2 | 3.6 | 6.0 | 11.9 |
#
# - **Half precision** (`weights.load(..., dtype=torch.float16)`) halves the weights. Three things stay in float32: the
#   sampler's state, the sinusoids of the time, and SDXL's autoencoder, which overflows in half precision.
# - **One part at a time** (`pipe.offload("cuda")`): text tower, U-Net and autoencoder come to the device for their own
#   stage only.
# - **Decoding strip by strip** (`pipe.strip = 8`): the autoencoder's last maps are as large as the picture and 128 to
#   512 channels deep. Cut into strips, with one row of each neighbour for the convolutions and common statistics for
#   the norms, they give the same picture (the differences stand below the figure). At
#   512 x 512 that saves little; it is for pictures whose decoding would not fit.

# %% [markdown]
# ## Bug museum: heads that are no heads
#
# The published configuration of the U-Net has an entry `attention_head_dim`. By its name it is the *width* of a head. It
# is in truth the *number* of heads: an old slip, kept because every published file has it. Who takes the name at its
# word builds a network with the same shapes everywhere. **It loads without a word of complaint.** Broken on purpose:

# %%
cpu = weights.load("shapes")
config = cpu.unet.config
mistaken = UNet(replace(config, heads=tuple(c // h for c, h in zip(config.block_out_channels, config.heads, strict=True))))
print("keys and shapes:", mistaken.load_state_dict(cpu.unet.state_dict(), strict=True))
print(f"heads: {config.heads} as published, {mistaken.config.heads} if the name is believed")
prompts = scenes.captions(scenes.draw(6, seed=8, objects=2), full=True)
noise = torch.randn(6, *cpu.latent_shape(), generator=torch.Generator().manual_seed(0))
right = tasks.text2img(cpu, prompts, steps=25, scale=3.0, noise=noise)
cpu.unet = mistaken.eval().requires_grad_(False)
wrong = tasks.text2img(cpu, prompts, steps=25, scale=3.0, noise=noise)
show.figure(show.strip([right, wrong], ["heads as published", "the name believed"]), "The same weights, the same noise.")

# %% [markdown]
# Mended, the number of heads is read as a number (`minildm/configs.py`), and a test compares the network's answer with
# diffusers' to ten digits: only numbers catch what shapes cannot (`docs/testing.md` lists thirteen such faults).
#
# ## Prompts that say no
#
# Guidance moves away from what the model draws *without* the prompt. Replace the empty sentence by words, and it moves away
# from those: a **negative prompt**. On the small model it works in miniature. (What it has no words for, such as "blurry",
# it cannot avoid.)

# %% tags=["explorer"] jupyter={"source_hidden": true}
first = ("a large circle on a white background", "red")
if WEIGHTS:
    first = ("a photograph of a harbour at dusk", "people")
count, calls = (1, 15) if WEIGHTS else (4, 8)


def view(prompt, but_not, scale, seed):
    noise = torch.randn(count, *pipe.latent_shape(), generator=torch.Generator().manual_seed(seed))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a long sentence is cut
        return tasks.text2img(pipe, prompt, but_not or None, calls, scale, noise=noise)


box = widgets.explorer(view, prompt=first[0], but_not="", scale=(0, 12, 0.5, SCALE), seed=(0, 99, 1))
if WEIGHTS:  # they take their time: draw when a slider is let go, not on its way
    box.controls["scale"].continuous_update = box.controls["seed"].continuous_update = False
widgets.show(box, "A prompt, and below it what the picture is to move away from. Nothing is said there yet.")

# and for readers of the page, where nothing moves
noise = torch.randn(6, *pipe.latent_shape(), generator=torch.Generator().manual_seed(5))[: 2 if WEIGHTS else 6]
rows = [tasks.text2img(pipe, first[0], no, 20, SCALE, noise=noise).cpu().float() for no in (None, first[1])]
show.figure(
    show.strip(rows, ["nothing", f"“{first[1]}”"]),
    f"“{first[0]}”, and below it the same noises steered away from “{first[1]}”.",
)

# %% tags=["widget-test"] jupyter={"source_hidden": true}
# Moves every control through its values and back. On a processor each view of the real weights would take minutes.
if not WEIGHTS or device.type == "cuda":
    widgets.drive(box, limit=None if WEIGHTS else 1.0, but_not=[first[1], "very " * 100])

# %% [markdown]
# ### The craft of a prompt
#
# A caption in the training data says what its writer thought worth saying. Write like one: the subject first, then what it
# looks like, then the kind of picture. What you leave open, the model fills with what was most common there. From one noise,
# one more thing said in each picture:

# %%
said = ["a harbour", "a harbour at dusk", "a harbour at dusk, fishing boats", "an oil painting of a harbour at dusk"]
if not WEIGHTS:
    said = ["a circle", "a red circle", "a small red circle", "a small red circle on a grey background",
            "a small red circle at the top left on a grey background"]  # fmt: skip
drawn = torch.cat([tasks.text2img(pipe, one, None, 20, SCALE, noise=start).cpu().float() for one in said])
show.figure(show.grid(drawn, len(said), list("12345")), "; ".join(f"{i}: “{one}”" for i, one in enumerate(said, 1)))

# %% [markdown]
# ## What these models cannot do, and what they ask of you
#
# - **Count, write, relate.** Five apples, a readable sign, "the cube on the sphere": all learned from captions that
#   rarely said so. You have seen the same weakness in your own model, which mixes up left and right.
# - **The world beyond their pictures.** They were trained on pictures and captions from the web, most of them English.
#   They repeat its stereotypes and its gaps (ask for "a nurse" and "an engineer" eight times each), and an ordinary
#   prompt in another language is read badly.
#
# See for yourself, without choosing the best of many:

# %%
asked = ["five apples on a table", "a sign that says HELLO", "a cube on a sphere", "ein Pferd auf einer Wiese"]
if not WEIGHTS:
    asked = ["three small red circles on a white background", "a star that says hello", "an elephant", "ein roter Kreis"]
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    drawn = torch.cat([tasks.text2img(pipe, one, None, 20, SCALE, noise=start).cpu().float() for one in asked])
show.figure(show.grid(drawn, len(asked), list("1234")), "; ".join(f"{i}: “{one}”" for i, one in enumerate(asked, 1)))
if not WEIGHTS:
    strange = [word for one in asked for word, _ in scenes.unknown_words(one)]
    print("The small model never read:", ", ".join(strange))

# %% [markdown]
# - **Safety.** The published folders come with a *safety checker*, a second network that blanks some pictures. This
#   library does not use it, and says so where it matters. So you are the checker: do not make pictures of real people
#   without their consent, do not pass pictures off as photographs, and do not put a model like this in front of the
#   public without thinking about what it will be asked for.
# - **Licences.** The code here is MIT. The weights are not ours and carry their own: CreativeML Open RAIL-M (SD 1.x) and
#   Open RAIL++-M (SD 2.x, SDXL), which list uses that are not allowed.

# %% [markdown] tags=["solution"]
# # 16 · Real Stable Diffusion: solutions
#
# One answer to each exercise, and why it is so. There are others; the check takes them too.

# %% [markdown] tags=["exercise"]
# ## Exercises
#
# Write your answer in place of the dots and run the cell. Its last line looks at what you wrote: a tick, or what is amiss
# and on which input. `check.hint("16.rename")` gives a hint, and a clearer one each time; nothing is counted. Whatever you
# write, the notebook runs on.

# %% tags=["setup"]
import math

import torch
from torch import nn

from minildm.course import check
from minildm.unet import UNet, UNetConfig

with torch.device("meta"):
    TABLE = {name: tuple(tensor.shape) for name, tensor in UNet().state_dict().items()}  # SD 1.5's names and shapes
print(len(TABLE), "tensors, the first two:", *list(TABLE.items())[:2])

# %% [markdown] tags=["exercise"]
# ### 16.read_table: what a header tells
#
# Write `census(table)`. It is given a dictionary of the names and shapes of a U-Net, such as `TABLE`, and returns three things:
# - the family, `"SD 1.x"`, `"SD 2.x"` or `"SDXL"`: the states of the text have width 768, 1024 or 2048;
# - `True` if it is for inpainting, `False` if not: an inpainting model takes nine channels in, not four;
# - a dictionary with the number of parameters of each part. A part is the piece of a name before its first dot:
#   `conv_in`, `time_embedding`, `down_blocks` and so on.

# %% tags=["exercise"]
def census(table):
    # BEGIN SOLUTION
    counts = {}
    for name, shape in table.items():
        part = name.split(".")[0]
        counts[part] = counts.get(part, 0) + math.prod(shape)
        if name.endswith("attn2.to_k.weight"):
            family = {768: "SD 1.x", 1024: "SD 2.x", 2048: "SDXL"}[shape[1]]
    inpainting = table["conv_in.weight"][1] == 9
    return family, inpainting, counts
    # END SOLUTION


check.exercise("16.read_table", census)

# %% [markdown] tags=["solution"]
# PyTorch keeps the matrix of a linear layer as (out, in), and the weight of a convolution as (out, in, height, width): in both
# what goes *in* stands second. Keys and values of cross-attention are made from the text, so the width of the text is what
# `attn2.to_k` takes in. Which of the sixteen `attn2` you look at is all the same. Only do not fix on a name of the
# first level: SDXL has no attention there.

# %% [markdown] tags=["exercise"]
# ### 16.find_eps: a fault without a name
#
# A norm divides by $\sqrt{\text{var} + \epsilon}$, and its `eps` is in no file of weights. Write `find_norm(right, suspect)`. It is
# given two U-Nets with equal weights. In `suspect` the eps of some `GroupNorm`s was changed: of one, of several, or of none. Return a
# list with the names of these modules, as `named_modules()` gives them, such as `"mid_block.attentions.0.norm"`.
#
# You may compare what the modules say of themselves, or what comes out of them. In the second case: the networks are small, in
# float64, and are run by `right(x, t, context)` with `x` (1, 4, 8, 8), `t` (1,) and `context` (1, 3, 8).

# %% tags=["exercise"]
def find_norm(right, suspect):
    # BEGIN SOLUTION
    twins = dict(suspect.named_modules())
    changed = []
    for name, module in right.named_modules():
        if isinstance(module, nn.GroupNorm) and module.eps != twins[name].eps:
            changed.append(name)
    return changed
    # END SOLUTION


check.exercise("16.find_eps", find_norm)

# %% [markdown] tags=["solution"]
# No number is suspicious by itself: the resnets of Stable Diffusion's U-Net have an eps of 1e-5, the norms before its transformers
# 1e-6, and its autoencoder 1e-6 throughout. So one compares with a network that is known to be right. If you compared
# activations, you met a second rule: after the first changed norm *everything* differs, and so each norm and its twin have to
# be given the same input. That is how a port of a network is debugged: layer by layer, from the inputs of the original.

# %% [markdown] tags=["exercise"]
# ### 16.rename: from their names to ours
#
# Write `rename(name)` for the resnets on the way down of SD 1.x (without the prefix `model.diffusion_model.`). It makes
# `input_blocks.4.0.in_layers.2.weight` into `down_blocks.1.resnets.0.conv1.weight`.
#
# - The original numbers its input blocks in one row: 0 is `conv_in`. Then every level has two resnets, and but for the
#   last a convolution that halves the size: the levels are 1 2 (3), 4 5 (6), 7 8 (9), 10 11. You are given only resnets.
# - Inside a resnet, `in_layers` is norm, SiLU, convolution; `emb_layers` is SiLU, linear; `out_layers` is norm, SiLU, dropout,
#   convolution; each is counted from 0. Some resnets have a `skip_connection`.
# - Ours are called `norm1`, `conv1`, `time_emb_proj`, `norm2`, `conv2` and `conv_shortcut`.

# %% tags=["exercise"]
def rename(name):
    # BEGIN SOLUTION
    inside = {
        "in_layers.0": "norm1", "in_layers.2": "conv1", "emb_layers.1": "time_emb_proj",
        "out_layers.0": "norm2", "out_layers.3": "conv2", "skip_connection": "conv_shortcut",
    }  # fmt: skip
    pieces = name.split(".")
    level, place = divmod(int(pieces[1]) - 1, 3)
    inner, kind = ".".join(pieces[3:-1]), pieces[-1]
    return f"down_blocks.{level}.resnets.{place}.{inside[inner]}.{kind}"
    # END SOLUTION


check.exercise("16.rename", rename)

# %% [markdown] tags=["solution"]
# Without `conv_in` the count begins at 0 and every level has three numbers, so quotient and rest of a division by 3 are level and
# resnet. Layers without weights (SiLU, dropout) have numbers too, which is why `conv2` is number 3.

# %% [markdown] tags=["exercise"]
# ### 16.memory_plan: Stable Diffusion on 6 GB
#
# Write `plan(weights, work, budget)`: the cheapest set of savings with which a model fits.
# - `weights` says how many parameters the parts `"text"`, `"unet"` and `"vae"` have; `work` how many numbers each holds besides while
#   it works, and has a fourth entry `"vae in strips"`. A number takes 4 bytes. `budget` is in GB of 10⁹ bytes.
# - All weights lie on the device. The parts work one after another, so what must fit is the sum of the weights and the
#   largest work.
# - Three savings are to be had: `"strips"` (the autoencoder needs the work `"vae in strips"` in place of `"vae"`) costs 1 second a
#   picture, `"float16"` (every number takes 2 bytes) costs 2 seconds on this old card, and `"one at a time"` (only the part that
#   works has its weights on the device) costs 4. Costs add up.
#
# Return the set of savings that costs least among those with which the need is at most the budget: `set()` if nothing has to be
# saved, `None` if nothing helps. Then ask it what your card needs: `plan(*SIZES["SD 1.5"], 6)` and
# `plan(*SIZES["SDXL"], 6)`.

# %% tags=["setup"]
# Parameters as published. The work is a rough count for 512 x 512 and 1024 x 1024 pixels: of the decoder three of its largest
# maps (256 channels, all pixels), in strips two; of the U-Net the widest feed-forward layer and what it keeps for the way up.
SIZES = {
    "SD 1.5": (
        {"text": 123_060_480, "unet": 859_520_964, "vae": 83_653_863},
        {"text": 1_000_000, "unet": 60_000_000, "vae": 200_000_000, "vae in strips": 134_000_000},
    ),
    "SDXL": (
        {"text": 817_720_320, "unet": 2_567_463_684, "vae": 83_653_863},
        {"text": 2_000_000, "unet": 200_000_000, "vae": 800_000_000, "vae in strips": 540_000_000},
    ),
}

# %% tags=["exercise"]
def plan(weights, work, budget):
    # BEGIN SOLUTION
    for number in range(8):  # by their cost: 1, 2 and 4 are the binary digits
        strips, half, alone = number & 1, number & 2, number & 4
        busy = {"text": work["text"], "unet": work["unet"], "vae": work["vae in strips" if strips else "vae"]}
        if alone:
            need = max(weights[part] + busy[part] for part in weights)
        else:
            need = sum(weights.values()) + max(busy.values())
        if need * (2 if half else 4) <= budget * 10**9:
            names = {"strips": strips, "float16": half, "one at a time": alone}
            return {name for name, used in names.items() if used}
    # END SOLUTION


check.exercise("16.memory_plan", plan)

# %% [markdown] tags=["solution"]
# Trying all eight sets is safe, adding one saving to another is not: a cheap one may not help at all. The costs 1, 2 and 4 have a
# different sum for every set, so counting from 0 to 7 goes through the sets from the cheapest on.

# %% tags=["solution"]
for name, model in SIZES.items():
    for budget in (3, 6, 12):
        print(f"{name:8} on {budget:2} GB: {plan(*model, budget)}")

# %% [markdown]
# ## Quiz
#
# <details><summary>1. A single file loads into your U-Net without any missing or unexpected key, and every shape is right.
# Name two mistakes that can still be in your network.</summary>
#
# The number of heads, an activation (tanh for erf in GELU), the eps of a norm, cosines and sines exchanged, the padding of the
# encoder, the meaning of the answer (eps or v). None of them has a shape.
# </details>
#
# <details><summary>2. Why does the sampler keep its state in float32 while the network computes in float16?</summary>
#
# The network's answer is a guess and may be a little off. The state is a sum over all steps: rounding it 25 times, each time
# between numbers of very different size, loses what the small steps at the end are there to add.
# </details>
#
# <details><summary>3. SDXL's U-Net has 2.6 billion parameters. How many GB do you need at the least for its weights in float16,
# and which trick makes the text towers free?</summary>
#
# 5.1 GB. Bringing one part at a time to the device: the text towers have done their work before the U-Net comes.
# </details>

# %%
print(f"this lesson took {time.perf_counter() - opened:.0f} s from its first cell to its last")
