"""Models into folders in the Hugging Face layout."""

import dataclasses
from pathlib import Path

import torch
from torch import nn

from .. import configs, hub
from ..clip import MiniCLIP
from ..control import ControlNet
from ..features import Classifier
from ..files import UserError
from ..pipe import LatentDiffusion
from ..text import TextPair
from ..vae import VAE, FlatVAE
from . import archive, controls, towers

CLASSIFIER = ("channels", "answers", "strides", "width", "dim")  # what one is made with


def save(model: nn.Module, folder: str | Path, dtype: torch.dtype = torch.float32) -> Path:
    """Write a model into `folder`, weights in `dtype` (float16 halves the size), so that `load` gives it back.

    A `LatentDiffusion` with all its parts also opens as `diffusers`' StableDiffusionPipeline, or the one of that name
    with XL (two text towers), Upscale (`low`) or Inpaint (nine channels) in it; a `ControlNet` as its ControlNetModel.
    """
    folder = Path(folder)
    if isinstance(model, LatentDiffusion):
        _save_pipe(model, folder, dtype)
    elif isinstance(model, VAE):
        _write(model, configs.vae_to_hf(model.config, 32), folder, dtype)
    elif isinstance(model, ControlNet):
        _write(model, controls.control_to_hf(model.config), folder, dtype)
    elif isinstance(model, FlatVAE):
        config = {"_class_name": "FlatVAE", "shape": model.shape, "latent": model.latent, "hidden": model.hidden}
        _write(model, config, folder, dtype)
    elif isinstance(model, Classifier):
        config = {name: getattr(model, name) for name in CLASSIFIER}
        _write(model, {"_class_name": "Classifier"} | config, folder, dtype)
    elif isinstance(model, MiniCLIP):
        towers.save_text(model.text, folder, dtype)
        config = {"_class_name": "MiniCLIP", "dim": model.dim, "channels": model.channels}
        _write(model, config, folder, dtype, skip="text.")
    else:
        kinds = "LatentDiffusion, ControlNet, VAE, FlatVAE, MiniCLIP or Classifier"
        raise UserError("model", type(model).__name__, kinds)
    return folder


def _save_pipe(pipe: LatentDiffusion, folder: Path, dtype: torch.dtype) -> None:
    scheduler = configs.scheduler_to_hf(
        pipe.schedule, pipe.prediction, pipe.spacing, pipe.offset, pipe.last, pipe.karras
    )
    pair = isinstance(pipe.text, TextPair)
    full = pipe.vae is not None and pipe.text is not None
    task = "XL" if pair else "Upscale" if pipe.low else "Inpaint" if pipe.unet.config.in_channels == 9 else ""
    name = f"StableDiffusion{task}Pipeline" if full else "LatentDiffusion"
    index = {"_class_name": name, "_diffusers_version": "0.42.0"}  # diffusers asks before it opens an Inpaint pipeline
    size = pipe.latent_shape()[1]
    ours = {"_class_name": "UNet"} | dataclasses.asdict(pipe.unet.config)  # says more than the format can
    unet = configs.unet_to_hf(pipe.unet.config, size) if full else ours
    _write(pipe.unet, unet | {"sample_size": size}, folder / "unet", dtype)
    index["unet"] = ["diffusers", "UNet2DConditionModel"]
    if pipe.vae is not None:
        _write(pipe.vae, configs.vae_to_hf(pipe.vae.config, pipe.size), folder / "vae", dtype)
        index["vae"] = ["diffusers", "AutoencoderKL"]
    for i, text in enumerate([pipe.text.first, pipe.text.second] if pair else [pipe.text] if pipe.text else []):
        end = "_2" if i else ""
        towers.save_text(text, folder, dtype, "text_encoder" + end)
        kind = "CLIPTextModelWithProjection" if text.text_projection is not None else "CLIPTextModel"
        index |= {"text_encoder" + end: ["transformers", kind], "tokenizer" + end: ["transformers", "CLIPTokenizer"]}
    archive.write_json(folder / "scheduler" / "scheduler_config.json", scheduler)
    index |= {"scheduler": ["diffusers", "DDIMScheduler"]}
    if pipe.low:
        low = configs.scheduler_to_hf(pipe.low, "eps", None, 0, "clean", False)
        archive.write_json(folder / "low_res_scheduler" / "scheduler_config.json", low)
        index |= {"low_res_scheduler": ["diffusers", "DDIMScheduler"]}
    if pair:
        index |= {"force_zeros_for_empty_prompt": pipe.zeros_for_empty}
    else:
        index |= {"safety_checker": [None, None], "feature_extractor": [None, None]}
        index |= {"watermarker": [None, None]} if pipe.low else {"requires_safety_checker": False}
    archive.write_json(folder / "model_index.json", index)  # last: a folder without it is not taken for a whole one


def _write(module: nn.Module, config: dict, folder: Path, dtype: torch.dtype, skip: str = "\0") -> None:
    tensors = {name: tensor for name, tensor in module.state_dict().items() if not name.startswith(skip)}
    archive.write(tensors, config, folder, hub.WEIGHTS, dtype)
