"""ControlNets: their published configuration, and what the shapes in an original single file tell of one."""

from dataclasses import asdict, replace
from pathlib import Path

from .. import configs
from ..control import ControlNetConfig
from ..files import UserError
from . import archive
from .single import Tensors, count, family_of, unet_config

# The maps are read as red, green, blue, and what is seen at each place is told at that place.
FIXED = {"controlnet_conditioning_channel_order": "rgb", "global_pool_conditions": False}
OWN = {"conditioning_channels": "conditioning_channels", "conditioning_embedding_out_channels": "embedding_channels"}


def control_from_hf(config: dict) -> ControlNetConfig:
    """A published ControlNet's `config.json`. Raises `UserError` on any feature not built here."""
    for key, value in FIXED.items():
        if config.get(key, value) != value:
            raise UserError(f"control config, {key}", config[key], f"{value!r}, the only one built here")
    shape = {key: value for key, value in config.items() if key not in FIXED | OWN}
    shape["out_channels"] = shape["in_channels"]
    shape["up_block_types"] = [kind.replace("Down", "Up") for kind in reversed(config["down_block_types"])]
    unet = configs.unet_from_hf(shape, "control")
    more = {ours: config[theirs] for theirs, ours in OWN.items() if config.get(theirs) is not None}
    return ControlNetConfig(**asdict(unet), **{k: tuple(v) if isinstance(v, list) else v for k, v in more.items()})


def control_to_hf(config: ControlNetConfig) -> dict:
    """The inverse of `control_from_hf`. `UserError` where the format cannot say it: without text states, say."""
    if config.context_dim is None:
        raise UserError("context_dim", None, "a width: the published format has no ControlNet without text states")
    unread = ("out_channels", "up_block_types", "sample_size")
    shape = {key: value for key, value in configs.unet_to_hf(config, 0).items() if key not in unread}
    own = {"conditioning_channels": config.conditioning_channels,
           "conditioning_embedding_out_channels": list(config.embedding_channels)}  # fmt: skip
    return shape | own | {"_class_name": "ControlNetModel"}


def control_config(tensors: Tensors, what: str, folder: Path | None) -> ControlNetConfig:
    """The config of an original file's ControlNet: what `folder` says, or the shapes and the family they are of."""
    if folder:
        return control_from_hf(archive.read_json(folder / "config.json"))
    try:
        # one that goes up again would end in as many channels as it begins with
        unet = unet_config(tensors | {"conv_out.weight": tensors["conv_in.weight"].transpose(0, 1)}, what)
        stem = "controlnet_cond_embedding."
        first = tensors[stem + "conv_in.weight"].shape
        wider = [tensors[f"{stem}blocks.{i}.weight"].shape[0] for i in range(1, count(tensors, stem + "blocks."), 2)]
    except KeyError as error:
        raise UserError(f"weights {what}", f"no {error.args[0]}", "a ControlNet") from error
    family = family_of(unet, what)
    return ControlNetConfig(
        **asdict(replace(unet, heads=family.heads_of(unet))),
        conditioning_channels=first[1],
        embedding_channels=(first[0], *wider),
    )
