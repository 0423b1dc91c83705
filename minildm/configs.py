"""The published configuration files (the Hugging Face `diffusers` format) to our dataclasses and back.

Every key of a published file is either translated, known to change nothing, or refused: a feature that is not
built here raises instead of giving a network that loads and draws nonsense.
"""

import dataclasses

import torch

from . import levels
from .files import UserError
from .unet import SINUSOIDS, UNetConfig
from .vae import VAEConfig

# What our networks are, in the published words: another value there means another network.
UNET_FIXED = {
    "act_fn": "silu", "center_input_sample": False, "flip_sin_to_cos": True, "freq_shift": 0, "norm_eps": 1e-5,
    "downsample_padding": 1, "mid_block_scale_factor": 1, "dropout": 0.0, "conv_in_kernel": 3, "conv_out_kernel": 3,
    "mid_block_type": "UNetMidBlock2DCrossAttn", "resnet_time_scale_shift": "default",
    "resnet_out_scale_factor": 1.0, "time_embedding_type": "positional", "attention_type": "default",
}  # fmt: skip
VAE_FIXED = {"act_fn": "silu", "use_quant_conv": True, "use_post_quant_conv": True, "mid_block_add_attention": True}
SCHEDULER_FIXED = {
    "num_train_timesteps": 1000, "clip_sample": False, "trained_betas": None, "thresholding": False,
}  # fmt: skip
# Read nowhere: who wrote the file, what the picture's size was in training, limits that only matter where clipping
# or thresholding is on, how a scheduler of another name would have gone through the same rows, and what the
# reference does not read either where attention is fused.
IGNORED = {
    "sample_size", "force_upcast", "addition_embed_type_num_heads", "clip_sample_range", "sample_max_value",
    "dynamic_thresholding_ratio", "skip_prk_steps", "interpolation_type", "upcast_attention",
}  # fmt: skip
PREDICTIONS = {"epsilon": "eps", "v_prediction": "v", "sample": "x0"}
BETAS = {"scaled_linear": levels.scaled_linear, "linear": levels.linear, "squaredcos_cap_v2": levels.cosine}


def _check(config: dict, fixed: dict, used: set[str], what: str) -> None:
    for key, value in config.items():
        if key in fixed:
            if value != fixed[key]:
                raise UserError(f"{what} config, {key}", value, f"{fixed[key]!r}, the only one built here")
        elif key not in used | IGNORED and not key.startswith("_") and value not in (None, False):
            raise UserError(f"{what} config, {key}", value, "no such feature: it is not built here")


def _each(value: object, count: int) -> tuple:
    return tuple(value) if isinstance(value, list | tuple) else (value,) * count


def unet_from_hf(config: dict, what: str = "unet") -> UNetConfig:
    """A published `unet/config.json` as a `UNetConfig`. Raises `UserError` on any feature not built here.

    what: whose config an error says it is.
    """
    used = {
        "in_channels", "out_channels", "block_out_channels", "layers_per_block", "norm_num_groups", "down_block_types",
        "up_block_types", "attention_head_dim", "cross_attention_dim", "transformer_layers_per_block",
        "use_linear_projection", "num_attention_heads", "addition_embed_type", "addition_time_embed_dim",
        "projection_class_embeddings_input_dim", "num_class_embeds", "only_cross_attention",
    }  # fmt: skip
    _check(config, UNET_FIXED, used, what)
    added = config.get("addition_embed_type")
    if added not in (None, "text_time") or (added and config.get("addition_time_embed_dim") != SINUSOIDS):
        wanted = f"nothing, or text_time with {SINUSOIDS} sinusoids"
        raise UserError(f"{what} config, addition_embed_type", added, wanted)
    channels = tuple(config["block_out_channels"])
    n = len(channels)
    down, up = config["down_block_types"], config["up_block_types"]
    crossed = [kind == "CrossAttnDownBlock2D" for kind in down]
    for way, kinds in (("Down", down), ("Up", up)):
        names = (f"CrossAttn{way}Block2D", f"{way}Block2D")
        if len(kinds) != n or not set(kinds) <= set(names):
            raise UserError(f"{what} config, {way.lower()}_block_types", kinds, f"{n} of {', '.join(names)}")
    if [kind == "CrossAttnUpBlock2D" for kind in reversed(up)] != crossed:
        raise UserError(f"{what} config, up_block_types", up, "attention at the same levels as down_block_types")
    layers = _each(config.get("transformer_layers_per_block", 1), n)
    only_cross = config.get("only_cross_attention") or ()
    if only_cross is True:
        wanted = "one truth value a level: not built for the middle"
        raise UserError(f"{what} config, only_cross_attention", True, wanted)
    return UNetConfig(
        in_channels=config["in_channels"],
        out_channels=config["out_channels"],
        block_out_channels=channels,
        layers_per_block=config["layers_per_block"],
        transformer_layers=tuple(k if cross else 0 for k, cross in zip(layers, crossed, strict=True)),
        mid_layers=layers[-1],
        # `attention_head_dim` is the number of heads: an old slip in the name that the format keeps
        heads=_each(config.get("num_attention_heads") or config.get("attention_head_dim", 8), n),
        context_dim=config["cross_attention_dim"],
        linear_projection=config.get("use_linear_projection", False),
        norm_num_groups=config["norm_num_groups"],
        added_dim=config["projection_class_embeddings_input_dim"] if added else None,
        num_class_embeds=config.get("num_class_embeds"),
        only_cross_attention=tuple(only_cross),
    )


def unet_from_ours(config: dict) -> UNetConfig:
    """A `UNetConfig` written out field by field: for networks that the published format has no words for."""
    fields = {f.name: config.get(f.name, f.default) for f in dataclasses.fields(UNetConfig)}
    return UNetConfig(**{name: tuple(v) if isinstance(v, list) else v for name, v in fields.items()})


def unet_to_hf(config: UNetConfig, size: int) -> dict:
    """The inverse of `unet_from_hf`; `size` is the latents' height. `UserError` where the format cannot say it."""
    crossed = [k > 0 for k in config.transformer_layers]
    layers = [k or config.mid_layers for k in config.transformer_layers]
    if layers[-1] != config.mid_layers:
        raise UserError("mid_layers", config.mid_layers, f"{layers[-1]}, as at the last level")
    added = {} if config.added_dim is None else {
        "addition_embed_type": "text_time",
        "addition_time_embed_dim": SINUSOIDS,
        "projection_class_embeddings_input_dim": config.added_dim,
    }  # fmt: skip
    if config.num_class_embeds is not None:
        added["num_class_embeds"] = config.num_class_embeds
    if config.only_cross_attention:
        added["only_cross_attention"] = list(config.only_cross_attention)
    return added | {
        "_class_name": "UNet2DConditionModel",
        "act_fn": "silu",
        "attention_head_dim": list(config.heads),
        "block_out_channels": list(config.block_out_channels),
        "cross_attention_dim": config.context_dim,
        "down_block_types": ["CrossAttnDownBlock2D" if cross else "DownBlock2D" for cross in crossed],
        "flip_sin_to_cos": True,
        "freq_shift": 0,
        "in_channels": config.in_channels,
        "layers_per_block": config.layers_per_block,
        "norm_eps": 1e-5,
        "norm_num_groups": config.norm_num_groups,
        "out_channels": config.out_channels,
        "sample_size": size,
        "transformer_layers_per_block": layers,
        "up_block_types": ["CrossAttnUpBlock2D" if cross else "UpBlock2D" for cross in reversed(crossed)],
        "use_linear_projection": config.linear_projection,
    }


def vae_from_hf(config: dict) -> VAEConfig:
    """A published `vae/config.json` as a `VAEConfig`. Raises `UserError` on any feature not built here."""
    names = ("in_channels", "out_channels", "layers_per_block", "latent_channels", "norm_num_groups")
    used = {*names, "block_out_channels", "down_block_types", "up_block_types", "scaling_factor"}
    _check(config, VAE_FIXED, used, "vae")
    for name, kind in (("down_block_types", "DownEncoderBlock2D"), ("up_block_types", "UpDecoderBlock2D")):
        if config[name] != [kind] * len(config["block_out_channels"]):
            raise UserError(f"vae config, {name}", config[name], f"{kind} at every level")
    return VAEConfig(
        block_out_channels=tuple(config["block_out_channels"]),
        scaling_factor=config.get("scaling_factor", VAEConfig.scaling_factor),
        **{name: config[name] for name in names},
    )


def vae_to_hf(config: VAEConfig, size: int) -> dict:
    """The inverse of `vae_from_hf`; `size` is the height of the pictures."""
    n = len(config.block_out_channels)
    return {
        "_class_name": "AutoencoderKL",
        "act_fn": "silu",
        "block_out_channels": list(config.block_out_channels),
        "down_block_types": ["DownEncoderBlock2D"] * n,
        "force_upcast": False,
        "in_channels": config.in_channels,
        "latent_channels": config.latent_channels,
        "layers_per_block": config.layers_per_block,
        "norm_num_groups": config.norm_num_groups,
        "out_channels": config.out_channels,
        "sample_size": size,
        "scaling_factor": config.scaling_factor,
        "up_block_types": ["UpDecoderBlock2D"] * n,
    }


def scheduler_from_hf(config: dict) -> dict:
    """A published `scheduler_config.json` as the keyword arguments of `LatentDiffusion` that it speaks of."""
    used = {
        "beta_start", "beta_end", "beta_schedule", "prediction_type", "set_alpha_to_one", "timestep_spacing",
        "steps_offset", "use_karras_sigmas", "rescale_betas_zero_snr",
    }  # fmt: skip
    _check(config, SCHEDULER_FIXED, used, "scheduler")
    prediction = _one_of("prediction_type", config.get("prediction_type", "epsilon"), PREDICTIONS)
    return {
        "schedule": schedule_from_hf(config),
        "prediction": PREDICTIONS[prediction],
        "spacing": config.get("timestep_spacing"),
        "offset": config.get("steps_offset", 0),
        "last": "clean" if config.get("set_alpha_to_one", True) else "first",
        "karras": bool(config.get("use_karras_sigmas")),
    }


def schedule_from_hf(config: dict) -> levels.Schedule:
    """The table of rows that a published `scheduler_config.json` stands for; how one samples from it left aside."""
    kind = _one_of("beta_schedule", config.get("beta_schedule", "linear"), BETAS)
    ends = () if kind == "squaredcos_cap_v2" else (config["beta_start"], config["beta_end"])
    schedule = BETAS[kind](1000, *ends)
    return levels.zero_terminal_snr(schedule) if config.get("rescale_betas_zero_snr") else schedule


def _one_of(name: str, value: str, known: dict) -> str:
    if value not in known:
        raise UserError(f"scheduler config, {name}", value, "one of " + ", ".join(known))
    return value


def scheduler_to_hf(schedule: levels.Schedule, prediction: str, spacing: str | None, offset: int, last: str,
                    karras: bool) -> dict:  # fmt: skip
    """A `scheduler_config.json` for DDIM; the inverse of `scheduler_from_hf`.

    Raises `UserError` for a schedule that is none of `BETAS` with its default ends, zero terminal SNR or not.
    """
    flat = bool(schedule.alpha[-1] == 0)
    made = {kind: levels.zero_terminal_snr(make()) if flat else make() for kind, make in BETAS.items()}
    kind = next((kind for kind, table in made.items() if torch.equal(table.alpha, schedule.alpha)), None)
    if kind is None:
        raise UserError("schedule", "rows of its own", "linear, scaled_linear or cosine rows with the default ends")
    ends = {"scaled_linear": (0.00085, 0.012), "linear": (1e-4, 0.02)}.get(kind, (1e-4, 0.02))
    return {
        "_class_name": "DDIMScheduler",
        "beta_end": ends[1],
        "beta_schedule": kind,
        "beta_start": ends[0],
        "clip_sample": False,
        "num_train_timesteps": 1000,
        "prediction_type": {ours: theirs for theirs, ours in PREDICTIONS.items()}[prediction],
        "set_alpha_to_one": last == "clean",
        "steps_offset": offset,
        **({"rescale_betas_zero_snr": True} if flat else {}),
        **({"timestep_spacing": spacing} if spacing else {}),
        **({"use_karras_sigmas": True} if karras else {}),
    }
