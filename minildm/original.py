"""The layout of the original single-file checkpoints, in our names: one table of pieces for each kind of network.

The original code numbers the U-Net's blocks in one row, counts the decoder's levels from the outside, and has its own
words for the parts of a block. Values move unchanged, but for three kinds that are reshaped; see `parts`.
"""

import re
from collections.abc import Iterator

from torch import Tensor

from .files import UserError

Tensors = dict[str, Tensor]

# Where each part lives in the files of SD 1.x, SD 2.x, SDXL and the ControlNets for them.
PREFIXES = {
    "model.diffusion_model.": "unet",
    "first_stage_model.": "vae",
    "cond_stage_model.transformer.": "text_encoder",
    "cond_stage_model.model.": "text_encoder",
    "conditioner.embedders.0.transformer.": "text_encoder",
    "conditioner.embedders.1.model.": "text_encoder_2",
    "control_model.": "control",
}
# On every name of a published text tower; transformers 5 dropped it from its classes.
TEXT_MODEL = "text_model."
# What a file may hold besides: an average of the weights, the schedule's buffers, numbers that nobody reads.
EXTRA = re.compile(r"model_ema\..+|betas|\w*alphas_cumprod(_prev)?|posterior_\w+|.+\.(position_ids|logit_scale)")

RESNET = {
    "in_layers.0": "norm1", "in_layers.2": "conv1", "emb_layers.1": "time_emb_proj", "out_layers.0": "norm2",
    "out_layers.3": "conv2", "skip_connection": "conv_shortcut",
}  # fmt: skip
UNET = {
    "time_embed.0": "time_embedding.linear_1", "time_embed.2": "time_embedding.linear_2",
    "label_emb.0.0": "add_embedding.linear_1", "label_emb.0.2": "add_embedding.linear_2",
    "input_blocks.0.0": "conv_in", "out.0": "conv_norm_out", "out.2": "conv_out",
}  # fmt: skip
CONTROL = {"middle_block_out.0": "controlnet_mid_block"}
VAE = {
    "mid.block_1": "mid_block.resnets.0", "mid.attn_1": "mid_block.attentions.0", "mid.block_2": "mid_block.resnets.1",
    "nin_shortcut": "conv_shortcut", "norm_out": "conv_norm_out",
}  # fmt: skip
ATTENTION = {  # the last four as the published folders of SD 1.x and 2.x spell them
    "q": "to_q", "k": "to_k", "v": "to_v", "proj_out": "to_out.0", "norm": "group_norm",
    "query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0",
}  # fmt: skip
OPEN_CLIP = {
    "token_embedding": "embeddings.token_embedding", "ln_final": "final_layer_norm", "ln_1": "layer_norm1",
    "ln_2": "layer_norm2", "mlp.c_fc": "mlp.fc1", "mlp.c_proj": "mlp.fc2", "attn.out_proj": "self_attn.out_proj",
}  # fmt: skip


def is_original(names: object) -> bool:
    """Whether these names are those of an original single file."""
    return any(name.startswith(tuple(PREFIXES)) for name in names)


def parts(tensors: Tensors, what: str = "the file") -> dict[str, Tensors]:
    """An original file's tensors as ours: {"unet": {...}, "vae": {...}, "text_encoder": {...}, ...}.

    The autoencoder's 1x1 attention convolutions (c, c, 1, 1) become matrices (c, c); OpenCLIP's joined projection
    (3d, d) becomes three; its `text_projection` is transposed. Averages and schedule buffers are left out.
    Raises ONE `UserError` that lists every name which belongs to no part.
    """
    found: dict[str, Tensors] = {"unet": {}, "vae": {}, "text_encoder": {}, "text_encoder_2": {}, "control": {}}
    strange = []
    for name, tensor in tensors.items():
        if EXTRA.fullmatch(name):
            continue
        prefix = next((prefix for prefix in PREFIXES if name.startswith(prefix)), None)
        if prefix is None:
            strange.append(name)
        else:
            found[PREFIXES[prefix]][name.removeprefix(prefix)] = tensor
    if strange:
        raise UserError(f"names in {what}", ", ".join(sorted(strange)), "only names of " + ", ".join(found))
    rename = {"unet": _unet, "vae": _vae, "text_encoder": _text, "text_encoder_2": _text, "control": _control}
    return {part: dict(rename[part](some)) for part, some in found.items() if some}


def _swap(name: str, table: dict[str, str]) -> str:
    """`name` with every whole run of its dotted pieces that the table knows replaced."""
    for old, new in table.items():
        name = re.sub(rf"(?<![^.]){re.escape(old)}(?![^.])", new, name)
    return name


def _unet(tensors: Tensors) -> Iterator[tuple[str, Tensor]]:
    down = [int(m[1]) for name in tensors if (m := re.match(r"input_blocks\.(\d+)\.0\.op\.", name))]
    last = max((int(m[1]) for name in tensors if (m := re.match(r"input_blocks\.(\d+)\.", name))), default=0)
    each = min(down, default=last + 1)  # blocks a level on the way down: its resnets, and what halves the size
    for name, tensor in tensors.items():
        side, *rest = name.split(".")
        if side in ("input_blocks", "output_blocks") and not name.startswith("input_blocks.0."):
            number, slot, inner = int(rest[0]), rest[1], ".".join(rest[2:])
            number -= side == "input_blocks"
            level, place = divmod(number, each)
            stem = f"{'down' if side == 'input_blocks' else 'up'}_blocks.{level}"
            if inner.startswith("op."):
                name = f"{stem}.downsamplers.0.conv.{inner.removeprefix('op.')}"
            elif inner.startswith("conv."):
                name = f"{stem}.upsamplers.0.{inner}"
            elif slot == "0":
                name = f"{stem}.resnets.{place}.{_swap(inner, RESNET)}"
            else:
                name = f"{stem}.attentions.{place}.{inner}"
        elif side == "middle_block":
            kind = {"0": "resnets.0", "1": "attentions.0", "2": "resnets.1"}.get(rest[0], rest[0])
            name = f"mid_block.{kind}.{_swap('.'.join(rest[1:]), RESNET)}"
        else:
            name = _swap(name, UNET)
        yield name, tensor


def _control(tensors: Tensors) -> Iterator[tuple[str, Tensor]]:
    stem = "input_hint_block."
    last = max((int(name.split(".")[1]) for name in tensors if name.startswith(stem)), default=0)
    way_down = {}
    for name, tensor in tensors.items():
        if name.startswith(stem):
            number, inner = name.removeprefix(stem).split(".", 1)
            place = int(number) // 2 - 1  # every other one is an activation, the first and the last are by themselves
            part = {0: "conv_in", last: "conv_out"}.get(int(number), f"blocks.{place}")
            yield f"controlnet_cond_embedding.{part}.{inner}", tensor
        elif name.startswith(("zero_convs.", "middle_block_out.")):
            yield re.sub(r"^zero_convs\.(\d+)\.0\.", r"controlnet_down_blocks.\1.", _swap(name, CONTROL)), tensor
        else:
            way_down[name] = tensor
    yield from _unet(way_down)


def _vae(tensors: Tensors) -> Iterator[tuple[str, Tensor]]:
    top = max((int(m[1]) for name in tensors if (m := re.match(r"decoder\.up\.(\d+)\.", name))), default=0)
    for name, tensor in tensors.items():
        name = re.sub(r"^encoder\.down\.(\d+)\.", r"encoder.down_blocks.\1.", name)
        name = re.sub(r"^decoder\.up\.(\d+)\.", lambda m: f"decoder.up_blocks.{top - int(m[1])}.", name)
        name = re.sub(r"\.block\.(\d+)\.", r".resnets.\1.", name)
        name = re.sub(r"\.(down|up)sample\.conv\.", r".\1samplers.0.conv.", name)
        yield vae_attention(_swap(name, VAE), tensor)


def vae_attention(name: str, tensor: Tensor) -> tuple[str, Tensor]:
    """One tensor of an autoencoder, its attention in any of the three published spellings, in ours."""
    stem, found, inner = name.partition("mid_block.attentions.0.")
    if not found:
        return name, tensor
    matrix = tensor[:, :, 0, 0] if tensor.ndim == 4 else tensor  # 1x1 convolutions in the original files
    return stem + found + _swap(inner, ATTENTION), matrix


def _text(tensors: Tensors) -> Iterator[tuple[str, Tensor]]:
    for name, tensor in tensors.items():
        if name.startswith(TEXT_MODEL):  # CLIP as transformers names it
            yield name.removeprefix(TEXT_MODEL), tensor
            continue
        name = re.sub(r"^transformer\.resblocks\.(\d+)\.", r"encoder.layers.\1.", name)
        stem, joined, kind = name.partition("attn.in_proj_")
        if joined:
            for letter, third in zip("qkv", tensor.chunk(3), strict=True):
                yield f"{stem}self_attn.{letter}_proj.{kind}", third
        elif name == "positional_embedding":
            yield "embeddings.position_embedding.weight", tensor
        elif name == "text_projection":
            yield "text_projection.weight", tensor.T
        else:
            yield _swap(name, OPEN_CLIP), tensor
