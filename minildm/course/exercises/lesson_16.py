"""Lesson 16, real Stable Diffusion: a file's table, its names, and a fault that no name shows."""

import re
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from math import prod

import torch

from ... import original
from ...unet import UNet, UNetConfig
from . import Exercise, Wrong, expect, told

# 16.read_table

SDXL = {
    "block_out_channels": (320, 640, 1280), "transformer_layers": (0, 2, 10), "mid_layers": 10, "heads": (5, 10, 20),
    "context_dim": 2048, "linear_projection": True, "added_dim": 2816,
}  # fmt: skip
MODELS = {  # what is changed against SD 1.5, the family, and whether it is for inpainting
    "SD 1.5": ({}, "SD 1.x", False),
    "SD 2.1": ({"context_dim": 1024, "linear_projection": True}, "SD 2.x", False),
    "SDXL": (SDXL, "SDXL", False),
    "SD 2.0 for inpainting": ({"context_dim": 1024, "linear_projection": True, "in_channels": 9}, "SD 2.x", True),
}
TO_K = (
    "The width of the text is what `attn2.to_k` takes in, and PyTorch keeps the matrix of a linear layer as (out, in): "
    "it stands second. `attn1` is no help, it looks at the picture itself."
)
CONV_IN = (
    "`conv_in.weight` is (out, in, height, width): what goes into the network stands second. An inpainting model takes "
    "nine channels, 4 noisy latents, 4 of the masked picture and 1 mask."
)


@cache
def table(model: str) -> dict[str, tuple[int, ...]]:
    """The names and shapes in the file of a published U-Net."""
    with torch.device("meta"):
        unet = UNet(replace(UNetConfig(), **MODELS[model][0]))
    return {name: tuple(tensor.shape) for name, tensor in unet.state_dict().items()}


def reads_the_table(fn: Callable) -> None:
    for model, (_, family, inpainting) in MODELS.items():
        got = fn(dict(table(model)))
        if not isinstance(got, tuple | list) or len(got) != 3:
            raise Wrong(f"census gives {told(got)}; three things are wanted", "`return family, inpainting, counts`")
        expect(got[0], family, f"{model}: the family", TO_K)
        expect(got[1], inpainting, f"{model}: whether it is for inpainting", CONV_IN)
        wanted = counts(table(model))
        if not isinstance(got[2], dict) or set(got[2]) != set(wanted):
            parts = list(got[2]) if isinstance(got[2], dict) else got[2]
            split = "A part is what stands before the first dot of a name: `name.split('.')[0]`."
            raise Wrong(f"{model}: the parts are {told(parts)}; they should be {told(list(wanted))}", split)
        for part, count in wanted.items():
            slip = counting_slip({k: s for k, s in table(model).items() if k.split(".")[0] == part}, got[2][part])
            expect(got[2][part], count, f"{model}: the number of parameters in {part}", slip)


def counts(shapes: dict[str, tuple[int, ...]]) -> dict[str, int]:
    found: dict[str, int] = {}
    for name, shape in shapes.items():
        part = name.split(".")[0]
        found[part] = found.get(part, 0) + prod(shape)
    return found


def counting_slip(shapes: dict[str, tuple[int, ...]], count: object) -> str:
    """The hint for a wrong count of one part, by how one comes to such a count."""
    if count == len(shapes):
        return "These are its tensors. Its parameters are the numbers in them: multiply the sizes of each shape."
    if count == prod(list(shapes.values())[-1]):
        return "That is the last tensor of the part alone: `counts[part] = ...` replaces what stood there. Add to it."
    if count == sum(prod(shape) for name, shape in shapes.items() if name.endswith(".weight")):
        return "These are the weights alone. Biases are trained too: count every name of the part."
    return "A tensor of shape (320, 4, 3, 3) holds 320 * 4 * 3 * 3 numbers. Add that up over all names of a part."


# 16.find_eps

TINY = UNetConfig(block_out_channels=(16, 32), layers_per_block=1, transformer_layers=(1, 1), heads=(2, 2),
                  context_dim=8, norm_num_groups=4)  # fmt: skip
PLANTED = (
    ({"down_blocks.1.attentions.0.norm": 1e-5},
     "eps is a setting and no weight: it is in no `state_dict`, and no comparison of tensors shows it. Every GroupNorm "
     "carries it as `module.eps`, or shows it in what comes out for the same input."),
    ({"down_blocks.0.attentions.0.norm": 1e-5, "mid_block.attentions.0.norm": 1e-5},
     "There may be several. Go on after the first: collect the names in a list, and return it after the loop."),
    ({"up_blocks.0.resnets.1.norm2": 1e-6, "conv_norm_out": 1e-6},
     "Any norm may be the one, also in a resnet or at the very end, and its eps may be too small as well as too large. "
     "`named_modules()` goes through all of them."),
    ({}, "Here both networks are the same, so the list is empty."),
)  # fmt: skip
BY_RIGHT = (
    "An eps of 1e-5 is no fault by itself: the resnets of a U-Net have it by right, and only the norm before a "
    "transformer has 1e-6. Compare with the right network, not with a number."
)
DOWNSTREAM = (
    "One changed norm changes all that comes after it, so downstream everything differs. Give a norm and its twin the "
    "SAME input, or compare their settings."
)


def finds_the_planted_norms(fn: Callable) -> None:
    for planted, missed in PLANTED:
        torch.manual_seed(0)
        right = UNet(TINY).double().eval().requires_grad_(False)
        suspect = UNet(TINY).double().eval().requires_grad_(False)
        suspect.load_state_dict(right.state_dict())
        modules = dict(suspect.named_modules())
        for name, eps in planted.items():
            modules[name].eps = eps
        got = fn(right, suspect)
        if isinstance(got, str) or not hasattr(got, "__iter__"):
            raise Wrong(f"find_norm gives {told(got)}; a list of names is wanted", "`return [name]` for a single one.")
        got = list(got)
        what = f"With eps changed in {told(sorted(planted)) if planted else 'no norm'}, find_norm gives {told(got)}"
        if not set(got) <= set(modules):
            raise Wrong(what, "Give the names of modules as `named_modules()` does: no `.weight` or `.eps` behind.")
        extra = set(got) - set(planted)
        if extra and all(getattr(modules[name], "eps", 0) == 1e-5 for name in extra):
            raise Wrong(what, BY_RIGHT)
        if extra:
            raise Wrong(what, DOWNSTREAM)
        if set(got) != set(planted):
            raise Wrong(what, missed)


# 16.rename

PREFIX = "model.diffusion_model."
INNER = {
    "in_layers.0": "The order here is norm, SiLU, convolution. The shapes tell: a norm's weight is a plain row (320,).",
    "in_layers.2": "`in_layers` is norm, SiLU, convolution: number 2 is conv1. (Number 1 has no weights.)",
    "emb_layers.1": "`emb_layers` is SiLU and a linear layer for the time embedding: number 1 is time_emb_proj.",
    "out_layers.0": "`out_layers` begins with its norm, as `in_layers` does: number 0 is norm2.",
    "out_layers.3": "`out_layers` is norm, SiLU, dropout, convolution: because of the dropout conv2 is number 3.",
    "skip_connection": "Where a resnet changes the number of channels, its shortcut is a convolution: skip_connection "
    "is our conv_shortcut. Only two input blocks have one, so a look at the first block does not show it.",
}


def published_names() -> dict[str, str]:
    """The original name of every tensor in the resnets of SD 1.x's way down, and ours."""
    inner = [piece for piece in INNER if piece != "skip_connection"]
    names = [f"input_blocks.{n}.0.{piece}" for n in (1, 2, 4, 5, 7, 8, 10, 11) for piece in inner]
    names += [f"input_blocks.{n}.0.skip_connection" for n in (4, 7)]
    names = [f"{name}.{kind}" for name in names for kind in ("weight", "bias")]
    halving = [f"input_blocks.{n}.0.op.weight" for n in (3, 6, 9)]  # they tell how many blocks a level has
    numbered = {PREFIX + name: torch.tensor(i) for i, name in enumerate(names + halving)}
    return {names[i]: ours for ours, i in original.parts(numbered)["unet"].items() if i < len(names)}


def renames_every_name(fn: Callable) -> None:
    for name, ours in published_names().items():
        got = fn(name)
        number, piece = int(name.split(".")[1]), next(piece for piece in INNER if f".{piece}." in name)
        stem, last = ".".join(ours.split(".")[:4]), ours.split(".")[-1]
        hint = INNER[piece]
        if not isinstance(got, str):
            hint = "Return our name, a string."
        elif not got.startswith(stem + "."):
            hint = numbering_slip(number, got)
        elif got == ours.removesuffix(f".{last}"):
            hint = f"The last piece, `{last}`, stays as it is."
        expect(got, ours, f"rename({name!r})", hint)


def numbering_slip(number: int, got: str) -> str:
    """The hint for a wrong level or resnet, by how one comes to such numbers."""
    found = re.match(r"down_blocks\.(\d+)\.resnets\.(\d+)\.", got)
    pair = tuple(map(int, found.groups())) if found else None
    if pair is None:
        return "Our name begins with `down_blocks.`, the level, `.resnets.` and the number of the resnet in its level."
    if pair[0] == number:
        return (
            "The original counts all blocks in one row, from 0 to 11, so its first number is not yet our level. Its "
            "second tells resnet (0) from transformer (1)."
        )
    if pair == divmod(int(str(number)[0]) - 1, 3) and number > 9:
        return "Numbers can have two digits. Take the name apart at its dots: `name.split('.')`."
    if number == 1:
        return "Number 0 is conv_in and belongs to no level. The count of the levels begins at number 1."
    if pair == divmod(number - 1, 2):
        return "A level has three numbers and not two: two resnets, and the convolution that halves the size (3, 6, 9)."
    return "Levels come in threes from number 1 on: 1, 2 and the halving 3; 4, 5 and the halving 6; and so forth."


EXERCISES = (
    Exercise("16.read_table", (
        "Go through `table.items()` once. The first piece of a name is its part.",
        "The family: find a name that ends in `attn2.to_k.weight`. Its shape is (out, in), and `in` is the width of "
        "the text: 768, 1024 or 2048. Inpainting: look at the shape of `conv_in.weight` in the same way.",
        "counts[part] = counts.get(part, 0) + math.prod(shape)",
    ), (reads_the_table,)),
    Exercise("16.find_eps", (
        "The weights are equal. What else does a GroupNorm know? `print(right.conv_norm_out)`",
        "`named_modules()` gives the name and the module of every part, in the same order for both networks. Compare "
        "the twins, not the suspect with a number.",
        "for (name, a), (_, b) in zip(right.named_modules(), suspect.named_modules()): where `a` is an `nn.GroupNorm`, "
        "compare `a.eps` with `b.eps`.",
    ), (finds_the_planted_norms,)),
    Exercise("16.rename", (
        "Take the name apart at its dots, and do two things in turn: the block's number, then what is inside it.",
        "Number 0 is conv_in. From 1 on every level has three numbers: two resnets and the convolution that halves. "
        "`divmod(a, 3)` gives the quotient and the rest.",
        "level, place = divmod(number - 1, 3). For the inside make a dictionary of what each of in_layers.0, "
        "in_layers.2, emb_layers.1, out_layers.0, out_layers.3 and skip_connection is called here.",
    ), (renames_every_name,)),
)  # fmt: skip
