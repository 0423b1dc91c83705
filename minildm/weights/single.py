"""Original single files: what the shapes of their tensors tell of the networks, and what only a publication tells."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from torch import Tensor

from .. import configs, levels
from ..files import UserError
from ..unet import UNetConfig
from ..vae import VAEConfig
from . import archive, towers

if TYPE_CHECKING:
    from transformers import CLIPTextConfig

Tensors = dict[str, Tensor]


@dataclass
class Plan:
    """All that a pipeline is built from but its tensors and tokenizers."""

    unet: UNetConfig
    vae: VAEConfig | None
    texts: "list[CLIPTextConfig]"
    about: dict  # further keyword arguments of `LatentDiffusion`
    wide_vae: bool = False  # the autoencoder overflows in float16
    family: str = ""  # its name on the hub, for what a single file does not hold


@dataclass(frozen=True)
class Published:
    """What no shape tells of a published family of models. Source: the configuration files published with them."""

    name: str
    family: str
    heads: int | None  # attention heads at every level; None: 64 channels each
    activations: tuple[str, ...]
    prediction: str
    spacing: str | None
    size: int
    scaling_factor: float
    zeros_for_empty: bool = False

    def heads_of(self, unet: UNetConfig) -> tuple[int, ...]:
        return tuple(self.heads or c // 64 for c in unet.block_out_channels)


FAMILIES = {  # by the width of the text states
    768: Published("SD 1.x", "sd15", 8, ("quick_gelu",), "eps", None, 512, 0.18215),
    1024: Published("SD 2.x", "sd21", None, ("gelu",), "v", None, 768, 0.18215),
    2048: Published("SDXL", "sdxl", None, ("quick_gelu", "gelu"), "eps", "leading", 1024, 0.13025, True),
}


def plan_from_shapes(parts: dict[str, Tensors], what: str) -> Plan:
    """How to build a published model: widths and depths from the shapes, the rest from its family.

    Raises `UserError` where the text states have no published width.
    """
    unet = unet_config(parts["unet"], what)
    family = family_of(unet, what)
    vae = vae_config(parts["vae"], what)
    encoders = [parts[name] for name in ("text_encoder", "text_encoder_2") if name in parts]
    if len(encoders) != len(family.activations):
        wanted = f"{len(family.activations)}, as {family.name} has"
        raise UserError(f"weights {what}", f"{len(encoders)} text towers", wanted)
    texts = [clip_config(t, act, what) for t, act in zip(encoders, family.activations, strict=True)]
    if family.name == "SD 2.x":
        texts[0].num_hidden_layers -= 1  # what steers is the last layer but one's output
    return Plan(
        replace(unet, heads=family.heads_of(unet)),
        replace(vae, scaling_factor=family.scaling_factor),
        texts,
        {
            "schedule": levels.scaled_linear(), "prediction": family.prediction, "spacing": family.spacing,
            "offset": 1, "last": "first", "size": family.size, "zeros_for_empty": family.zeros_for_empty,
        },
        wide_vae=family.name == "SDXL",
        family=family.family,
    )  # fmt: skip


def family_of(unet: UNetConfig, what: str) -> Published:
    """The published family that has text states of this width. Raises `UserError` where there is none."""
    if unet.context_dim not in FAMILIES:
        known = ", ".join(f"{width} ({one.name})" for width, one in FAMILIES.items())
        raise UserError(f"weights {what}, width of the text states", unet.context_dim, f"{known}; or say config=FOLDER")
    return FAMILIES[unet.context_dim]


def plan_from_folder(folder: Path) -> Plan:
    """How to build what a folder's configuration files describe; the tensors may come from elsewhere."""
    index = archive.read_json(folder / "model_index.json")
    shared = archive.with_shared_parts(folder)
    config = archive.read_json(folder / "unet" / "config.json")
    coder = archive.read_json(shared / "vae" / "config.json") if index.get("vae") else None
    vae = None if coder is None else configs.vae_from_hf(coder)
    names = [name for name in ("text_encoder", "text_encoder_2") if name in index and index[name] != [None, None]]
    return Plan(
        configs.unet_from_ours(config) if config.get("_class_name") == "UNet" else configs.unet_from_hf(config),
        vae,
        [towers.text_config(shared / name / "config.json") for name in names],
        {
            **configs.scheduler_from_hf(archive.read_json(folder / "scheduler" / "scheduler_config.json")),
            "size": config.get("sample_size", 64) * (vae.downscale if vae else 1),
            "zeros_for_empty": bool(index.get("force_zeros_for_empty_prompt")),
            "low": _low(folder) if index.get("low_res_scheduler") else None,
        },
        wide_vae=bool(coder and coder.get("force_upcast")),
    )


def _low(folder: Path) -> levels.Schedule:
    return configs.schedule_from_hf(archive.read_json(folder / "low_res_scheduler" / "scheduler_config.json"))


def unet_config(tensors: Tensors, what: str) -> UNetConfig:
    """The `UNetConfig` that these shapes are of; heads and groups, which no shape tells, are left as published."""

    def shape(name: str) -> tuple[int, ...]:
        if name not in tensors:
            raise UserError(f"weights {what}", f"no {name}", "the U-Net of a Stable Diffusion model")
        return tuple(tensors[name].shape)

    levels_ = count(tensors, "down_blocks.")
    channels = tuple(shape(f"down_blocks.{i}.resnets.0.conv1.weight")[0] for i in range(levels_))
    layers = tuple(count(tensors, f"down_blocks.{i}.attentions.0.transformer_blocks.") for i in range(levels_))
    first = "mid_block.attentions.0."
    return UNetConfig(
        in_channels=shape("conv_in.weight")[1],
        out_channels=shape("conv_out.weight")[0],
        block_out_channels=channels,
        layers_per_block=count(tensors, "down_blocks.0.resnets."),
        transformer_layers=layers,
        mid_layers=count(tensors, first + "transformer_blocks."),
        heads=(8,) * len(channels),
        context_dim=shape(first + "transformer_blocks.0.attn2.to_k.weight")[1],
        linear_projection=len(shape(first + "proj_in.weight")) == 2,
        added_dim=shape("add_embedding.linear_1.weight")[1] if "add_embedding.linear_1.weight" in tensors else None,
    )


def vae_config(tensors: Tensors, what: str) -> VAEConfig:
    """The `VAEConfig` that these shapes are of."""
    try:
        return VAEConfig(
            in_channels=tensors["encoder.conv_in.weight"].shape[1],
            out_channels=tensors["decoder.conv_out.weight"].shape[0],
            block_out_channels=tuple(
                tensors[f"encoder.down_blocks.{i}.resnets.0.conv1.weight"].shape[0]
                for i in range(count(tensors, "encoder.down_blocks."))
            ),
            layers_per_block=count(tensors, "encoder.down_blocks.0.resnets."),
            latent_channels=tensors["post_quant_conv.weight"].shape[0],
        )
    except KeyError as error:
        raise UserError(f"weights {what}", f"no {error.args[0]}", "the autoencoder of Stable Diffusion") from error


def clip_config(tensors: Tensors, activation: str, what: str) -> "CLIPTextConfig":
    """The configuration of a published CLIP text tower: heads of 64 channels, the rest from the shapes."""
    from transformers import CLIPTextConfig

    try:
        words, width = tensors["embeddings.token_embedding.weight"].shape
        projected = tensors.get("text_projection.weight")
        return CLIPTextConfig(
            vocab_size=words, hidden_size=width, num_attention_heads=width // 64, hidden_act=activation,
            intermediate_size=tensors["encoder.layers.0.mlp.fc1.weight"].shape[0],
            num_hidden_layers=count(tensors, "encoder.layers."),
            max_position_embeddings=tensors["embeddings.position_embedding.weight"].shape[0],
            projection_dim=width if projected is None else projected.shape[0],
            bos_token_id=words - 2, eos_token_id=words - 1, pad_token_id=words - 1,
        )  # fmt: skip
    except KeyError as error:
        raise UserError(f"weights {what}", f"no {error.args[0]}", "a CLIP text tower") from error


def count(tensors: Tensors, stem: str) -> int:
    """How many numbered pieces follow `stem` in the names: 1 more than the largest number, 0 if there is none."""
    found = (name[len(stem) :].split(".")[0] for name in tensors if name.startswith(stem))
    return max((int(number) + 1 for number in found if number.isdigit()), default=0)
