"""Models to and from files: folders in the Hugging Face layout, original single files, the hub, and shipped ones.

A folder holds one sub-folder a part, each with its `config.json` and a file whose names are the attribute names of
our classes: those of the published checkpoints. Whatever the source, weights go through one strict loader.
"""

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from .. import configs, hub, original
from ..clip import MiniCLIP
from ..control import ControlNet
from ..features import Classifier
from ..files import UserError
from ..pipe import LatentDiffusion
from ..text import TextPair
from ..unet import UNet
from ..vae import VAE, FlatVAE
from . import archive, controls, towers
from .inspecting import inspect
from .places import SHIPPED, fingerprint, locate, manifest, shipped, unused
from .saving import CLASSIFIER, save
from .single import Plan, plan_from_folder, plan_from_shapes

__all__ = ["SHIPPED", "fingerprint", "inspect", "load", "locate", "manifest", "save", "shipped", "unused"]

TEXTS = ("text_encoder", "text_encoder_2")


def load(source: str | Path, device: str | torch.device = "cpu", dtype: torch.dtype = torch.float32,
         config: str | Path | None = None) -> nn.Module:  # fmt: skip
    """A model in evaluation mode from a folder, an original single file, a shipped model's name or a hub id.

    What lies on the disk comes first. A pipeline gives a `LatentDiffusion`; a folder of one part gives that part:
    `VAE`, `FlatVAE`, `MiniCLIP`, `Classifier` or `ControlNet`. So does a single file with a ControlNet in it, whatever
    else it holds. Of a single file, widths and depths are read from the shapes; heads, activation, prediction and
    tokenizer are the published model's, or what the configuration files of the folder `config` say.
    An autoencoder that overflows in half precision (SDXL's) stays in float32.
    Raises ONE `UserError` that names the file and every fault; nothing is half-loaded and nothing in a file is run.
    """
    path = locate(source, half=dtype in (torch.float16, torch.bfloat16))
    try:
        if path.is_file():
            model = _load_file(path, dtype, Path(config) if config else None)
        elif (path / "model_index.json").exists():
            model = _load_folder(path, dtype, Path(config) if config else path)
        else:
            model = _load_part(path, dtype)
    except UserError:
        raise
    except Exception as error:  # an altered configuration or tokenizer can break in any way
        got = " ".join(f"{type(error).__name__}: {error}".split())
        raise UserError(f"model {path}", got, "a folder as `save` writes it, or a published one") from error
    return model.to(device).eval().requires_grad_(False)


Parts = Callable[[str], tuple[dict[str, Tensor], str]]  # a part's name -> its tensors, and what to call their file


def _load_folder(folder: Path, dtype: torch.dtype, config: Path) -> LatentDiffusion:
    shared = archive.with_shared_parts(folder)

    def tensors(part: str) -> tuple[dict[str, Tensor], str]:
        where = folder if part == "unet" else shared
        path = archive.find(where / part, hub.PARTS[part])
        return archive.read(path), str(path)

    return _assemble(plan_from_folder(config), tensors, archive.with_shared_parts(config), dtype)


def _load_file(path: Path, dtype: torch.dtype, config: Path | None) -> nn.Module:
    everything = archive.read(path)
    if not original.is_original(everything):
        some = ", ".join(sorted(everything)[:3])
        raise UserError(f"weights {path}", f"names such as {some}",
                        "a whole model in the original layout; a file of one part belongs into a folder")  # fmt: skip
    parts = original.parts(everything, str(path))
    if control := parts.get("control"):
        with torch.device("meta"):
            model = ControlNet(controls.control_config(control, str(path), config))
        return archive.fill(model, control, dtype, f"{path}, control")
    missing = [part for part in ("unet", "vae", "text_encoder") if part not in parts]
    if missing:
        raise UserError(f"weights {path}", "no " + ", no ".join(missing), "a whole model in one file")
    plan = plan_from_folder(config) if config else plan_from_shapes(parts, str(path))
    for part, text in zip(TEXTS, plan.texts, strict=False):
        parts[part] = _read(parts.get(part, {}), text.num_hidden_layers, len(plan.texts) == 2 and part == TEXTS[1])
    words = archive.with_shared_parts(config) if config else hub.fetch(plan.family, tokenizers=True)
    return _assemble(plan, lambda part: (parts[part], f"{path}, {part}"), words, dtype)


def _read(tensors: dict[str, Tensor], layers: int, projected: bool) -> dict[str, Tensor]:
    """Without what a tower of an original file holds and nobody reads: a layer behind the last, a projection."""
    unread = (f"encoder.layers.{layers}.", *(() if projected else ("text_projection.",)))
    return {name: tensor for name, tensor in tensors.items() if not name.startswith(unread)}


def _assemble(plan: Plan, parts: Parts, tokenizers: Path, dtype: torch.dtype) -> LatentDiffusion:
    with torch.device("meta"):
        unet, vae = UNet(plan.unet), VAE(plan.vae) if plan.vae else None
    tensors, what = parts("unet")
    archive.fill(unet, tensors, dtype, what)
    if vae:
        tensors, what = parts("vae")
        tensors = dict(original.vae_attention(name, tensor) for name, tensor in tensors.items())
        wide = plan.wide_vae and dtype in (torch.float16, torch.bfloat16)
        archive.fill(vae, tensors, torch.float32 if wide else dtype, what)
    texts = []
    for part, config in zip(TEXTS, plan.texts, strict=False):
        tensors, what = parts(part)
        words = towers.load_tokenizer(tokenizers / part.replace("text_encoder", "tokenizer"))
        pair = len(plan.texts) == 2
        texts.append(towers.build_text(config, tensors, words, dtype, what, pair, pair and part == TEXTS[1]))
    text = TextPair(*texts) if len(texts) == 2 else texts[0] if texts else None
    return LatentDiffusion(unet, vae, text, **plan.about)


def _load_part(folder: Path, dtype: torch.dtype) -> nn.Module:
    config = archive.read_json(folder / "config.json")
    kind = config.get("_class_name")
    with torch.device("meta"):
        if kind == "AutoencoderKL":
            model = VAE(configs.vae_from_hf(config))
        elif kind == "ControlNetModel":
            model = ControlNet(controls.control_from_hf(config))
        elif kind == "FlatVAE":
            model = FlatVAE(**{name: config[name] for name in ("shape", "latent", "hidden")})
        elif kind == "Classifier":
            model = Classifier(**{name: config[name] for name in CLASSIFIER})
        elif kind != "MiniCLIP":
            kinds = "AutoencoderKL, ControlNetModel, FlatVAE, MiniCLIP or Classifier"
            raise UserError(f"config {folder / 'config.json'}, _class_name", kind, kinds)
    path = archive.find(folder, hub.WEIGHTS)
    tensors = archive.read(path)
    if kind == "MiniCLIP":
        tower = archive.with_shared_text(folder) / "text_encoder"
        file = archive.find(tower, hub.TEXT_WEIGHTS)
        text = towers.build_text(towers.text_config(tower / "config.json"), archive.read(file),
                                 towers.load_tokenizer(folder / "tokenizer"), dtype, str(file))  # fmt: skip
        with torch.device("meta"):
            model = MiniCLIP(text, config["dim"], config["channels"])
        return archive.fill(model, tensors, dtype, str(path), skip="text.")
    if kind == "AutoencoderKL":
        tensors = dict(original.vae_attention(name, tensor) for name, tensor in tensors.items())
    return archive.fill(model, tensors, dtype, str(path))
