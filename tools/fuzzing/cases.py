"""The random cases of each target, and how many of ten thousand there are."""

import json

from hypothesis import strategies as st

from minildm import given as givens

from . import targets, values

PNG = {"prompt": "a red circle", "negative": None, "seed": 1, "steps": 1, "scale": 3.0, "sampler": "ddim", "count": 1,
       "model": "", "hash": "", "version": "0"}  # fmt: skip
FILES = ["model_index.json", "scheduler/scheduler_config.json", "unet/config.json", "vae/config.json",
         "text_encoder/config.json", "tokenizer/tokenizer.json", "tokenizer/tokenizer_config.json",
         "unet/diffusion_pytorch_model.safetensors", "vae/diffusion_pytorch_model.safetensors",
         "text_encoder/model.safetensors"]  # fmt: skip


@st.composite
def changed(draw):
    """A function from a good file's bytes to broken ones."""
    kind = draw(st.sampled_from(["json", "json", "json", "cut", "flip", "other"]))
    if kind == "cut":
        share = draw(st.floats(0, 1))
        return lambda content: content[: int(share * len(content))]
    if kind == "flip":
        place, by = draw(st.floats(0, 1, exclude_max=True)), draw(st.integers(1, 255))
        return lambda content: flipped(content, int(place**4 * len(content)), by)  # mostly in the header
    if kind == "other":
        other = draw(st.one_of(st.binary(max_size=99), values.json_values.map(json.dumps).map(str.encode)))
        return lambda content: other
    which, value = draw(st.integers(0, 99)), draw(st.one_of(values.json_values, st.sampled_from([0, -1, 2**40, 1e308])))
    gone = draw(st.booleans()) and draw(st.booleans())

    def edit(content):
        try:
            config = json.loads(content)
        except ValueError:
            return flipped(content, which, 1)
        if not isinstance(config, dict) or not config:
            return b"{}"
        key = sorted(config)[which % len(config)]
        config = {k: v for k, v in config.items() if k != key} if gone else config | {key: value}
        return json.dumps(config, default=repr).encode("utf-8", "surrogatepass")

    return edit


def flipped(content, place, by):
    return content[:place] + bytes([content[place] ^ by]) + content[place + 1 :]


widths = st.one_of(st.sampled_from([(4, 8), (8,), (4, 8, 8), [4, 8], (5, 7), ()]), st.lists(values.absurd, max_size=3))
few = values.mostly(st.integers(1, 4), st.one_of(st.integers(-2, 9), values.absurd), of=3)
UNET = {
    "in_channels": few, "out_channels": few, "block_out_channels": widths, "layers_per_block": few, "mid_layers": few,
    "transformer_layers": st.one_of(st.sampled_from([(0, 1), (1,), (1, 0, 0)]), widths), "context_dim": few,
    "heads": st.one_of(st.sampled_from([(1, 1), (2,), (2, 2, 4), (3, 3)]), widths), "norm_num_groups": few,
    "linear_projection": values.absurd, "added_dim": few, "num_class_embeds": few, "only_cross_attention": widths,
}  # fmt: skip
VAE_FIELDS = {
    "in_channels": few, "out_channels": few, "block_out_channels": widths, "layers_per_block": few,
    "latent_channels": few, "norm_num_groups": few, "scaling_factor": st.one_of(st.floats(), values.absurd),
}  # fmt: skip
GOOD_UNET = {"block_out_channels": (4, 8), "transformer_layers": (0, 1), "heads": (1, 1), "norm_num_groups": 2,
             "layers_per_block": 1, "context_dim": 8}  # fmt: skip
GOOD_VAE = {"block_out_channels": (4, 8), "norm_num_groups": 2, "layers_per_block": 1}


def around(good, fields):
    """A good config with a few of its fields drawn anew."""
    some = st.lists(st.sampled_from(list(fields)), max_size=3, unique=True)
    return some.flatmap(lambda names: st.fixed_dictionaries({name: fields[name] for name in names})).map(
        lambda new: good | new
    )


words = st.one_of(
    values.text.filter(lambda t: len(t) < 200), st.sampled_from(["1", "0", "-1", "2", "1e400", "nan", "9" * 30])
)
OPTIONS = {
    "picture": ["--count", "--steps", "--scale", "--sampler", "--seed", "--out", "--negative", "--model", "--image",
                "--mask", "--strength", "--reconstruction", "--control", "--layout"],
    "evaluate": ["--n", "--steps", "--scale", "--sampler", "--seed", "--batch", "--set"],
    "inspect": ["--help"], "recipe": ["--again", "--out", "--match", "--model"],
    "train": ["--steps", "--seconds", "--seed", "--objects", "--small", "--vae", "--clip", "--start", "--nonsense"],
}  # fmt: skip
USUAL = {
    "picture": ["red", "--model", "MODEL", "--steps", "1", "--count", "1", "--out", "OUT"],
    "evaluate": ["MODEL", "--n", "1", "--steps", "1", "--set", "one"], "inspect": ["MODEL"], "recipe": ["IMAGE"],
    "train": ["nothing", "--out", "OUT"],
}  # fmt: skip
fitting = st.sampled_from(["1", "2", "0", "-1", "0.5", "IMAGE", "MODEL", "OUT", "ddim", "pndm", "red=0,0,1,1",
                           "red=0.5,0,0.2,1", "edges=IMAGE", "edges=IMAGE@0.5", "two", "gone.png"])  # fmt: skip


@st.composite
def command_lines(draw):
    """Words of a command line: a good one, and behind it options that are right, wrong or nonsense."""
    if draw(st.integers(0, 9)) == 0:
        return draw(st.lists(words, max_size=4))
    name = draw(st.sampled_from(["picture", "picture", "picture", *OPTIONS]))
    line = [name, *USUAL[name]]
    for option in draw(st.lists(st.sampled_from(OPTIONS[name]), max_size=3)):
        line += [option, *draw(st.lists(st.one_of(fitting, fitting, words), min_size=1, max_size=1))]
    if draw(st.integers(0, 9)) == 0:
        line.pop(draw(st.integers(0, len(line) - 1)))
    return line


TASKS = ["inpaint", "inpaint", "inpaint", "outpaint", "upscale", "vary", "read"]
drawing = st.fixed_dictionaries({
    "prompt": values.prompts, "negative": values.negatives, "steps": values.steps,
    "scale": values.scales, "sampler": values.samplers,
    "height": values.sides, "width": values.sides, "noise": values.mostly(st.none(), values.noises),
    "control": values.mostly(st.none(), values.told, of=4),
})  # fmt: skip
editing = st.tuples(
    values.pictures, values.masks, st.booleans(), st.sampled_from(TASKS),
    st.tuples(*[values.mostly(st.integers(0, 5), of=20)] * 4), values.strengths,
)  # fmt: skip
placing = st.one_of(
    st.tuples(st.just("box"), values.box_texts),
    st.tuples(st.just("control"), values.control_texts),
    st.tuples(st.just("layout"), values.mostly(st.lists(values.boxes, min_size=1, max_size=3))),
    st.tuples(st.just("recipe"), st.dictionaries(st.sampled_from(list(givens.FIELDS)), values.json_values)),
)  # fmt: skip
shaping = st.one_of(
    st.tuples(st.just("unet"), around(GOOD_UNET, UNET)), st.tuples(st.just("vae"), around(GOOD_VAE, VAE_FIELDS)),
    st.tuples(st.just("size"), st.tuples(values.sides, values.sides)),
)  # fmt: skip
HOW = ["read", "again", "again", "change"]
TARGETS = {
    "prompts": (2500, drawing, targets.prompts),
    "images": (2500, st.tuples(values.pictures, values.strengths), targets.images),
    "masks": (1500, editing, targets.masks),
    "boxes": (1200, placing, targets.boxes),
    "shapes": (1000, shaping, targets.shapes),
    "folders": (500, st.tuples(st.sampled_from(FILES), changed()), targets.folders),
    "commands": (500, command_lines(), targets.commands),
    "recipes": (
        300,
        st.tuples(values.recipes(PNG), st.sampled_from(["read", "again", "again", "change"])),
        targets.recipes,
    ),
}
