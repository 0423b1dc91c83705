"""Latent diffusion from scratch: networks small enough to train here, that also load the published weights."""

from . import (
    configs,
    control,
    data,
    denoise,
    evaluate,
    files,
    folders,
    layers,
    levels,
    oracle,
    own,
    pipe,
    pngs,
    recipes,
    runs,
    sample,
    scenes,
    show,
    tasks,
    text,
    train,
    unet,
    vae,
    weights,
)
from .clip import MiniCLIP
from .control import ControlNet, ControlNetConfig
from .devices import best_device
from .files import UserError
from .pipe import LatentDiffusion
from .tasks import text2img
from .text import Text
from .unet import UNet, UNetConfig
from .vae import VAE, FlatVAE, VAEConfig
from .weights import load, save

__version__ = "0.1.0"
__all__ = [
    "VAE",
    "ControlNet",
    "ControlNetConfig",
    "FlatVAE",
    "LatentDiffusion",
    "MiniCLIP",
    "Text",
    "UNet",
    "UNetConfig",
    "UserError",
    "VAEConfig",
    "best_device",
    "configs",
    "control",
    "data",
    "denoise",
    "evaluate",
    "files",
    "folders",
    "layers",
    "levels",
    "load",
    "oracle",
    "own",
    "pipe",
    "pngs",
    "recipes",
    "runs",
    "sample",
    "save",
    "scenes",
    "show",
    "tasks",
    "text",
    "text2img",
    "train",
    "unet",
    "vae",
    "weights",
]
