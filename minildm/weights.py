"""Models to folders and back, in the Hugging Face layout, through one strict loader.

A folder holds one sub-folder a part, each with its `config.json` and a `.safetensors` file whose names are the
attribute names of our classes: those of the published checkpoints.
"""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from . import configs
from .files import UserError, atomic_write, sha256
from .pipe import LatentDiffusion
from .text import MiniCLIP, Text
from .unet import UNet, UNetConfig
from .vae import VAE, FlatVAE

SHIPPED = Path(__file__).parent / "checkpoints"
WEIGHTS, TEXT_WEIGHTS = "diffusion_pytorch_model.safetensors", "model.safetensors"
TEXT_PREFIX = "text_model."  # on every name of a published text tower; transformers 5 dropped it from its classes


def shipped() -> list[str]:
    """Names of the models that came with the package; `load` takes each in place of a folder."""
    return sorted(_manifest())


def _manifest() -> dict:
    path = SHIPPED / "manifest.json"
    return json.loads(path.read_text(encoding="utf-8"))["models"] if path.exists() else {}


def fingerprint(folder: str | Path) -> str:
    """One short hash of all weights of a model, shared parts too: 12 hexadecimal digits that name what draws."""
    import hashlib

    folder = Path(folder)
    files = set(folder.rglob("*.safetensors"))
    if (folder / "model_index.json").exists():
        index = _json(folder / "model_index.json")
        shared = folder / index.get("parts_of", "")  # as `_load_pipe` finds them
        for part in index.keys() & {"vae", "text_encoder"}:
            files |= set((shared / part).glob("*.safetensors"))
    digest = hashlib.sha256()
    for path in sorted(files):
        digest.update(sha256(path).encode())
    return digest.hexdigest()[:12]


def locate(source: str | Path) -> Path:
    """The folder of a shipped model's name, or the folder itself; a shipped model's files are compared with their
    recorded hashes. Raises `UserError` where there is neither, or where a file is not the one that was shipped."""
    name = str(source).split("/")[0]  # "shapes", or "shapes/vae" for one of its parts
    entry = _manifest().get(name)
    folder = SHIPPED / str(source) if entry else Path(source)
    if not folder.is_dir():
        raise UserError("model", str(source), f"a folder, or one of {', '.join(shipped()) or 'none shipped'}")
    for file, digest in (entry or {}).get("sha256", {}).items():
        path = SHIPPED / name / file
        if path.is_relative_to(folder) and (not path.exists() or sha256(path) != digest):
            raise UserError(f"file {file} of model {name}", "altered or missing", "the file as it was shipped")
    return folder


def load(source: str | Path, device: str | torch.device = "cpu", dtype: torch.dtype = torch.float32) -> nn.Module:
    """A model from a folder or from a shipped model's name, in evaluation mode.

    A pipeline folder (`model_index.json`) gives a `LatentDiffusion`; a folder of one part gives that part: `VAE`,
    `FlatVAE` or `MiniCLIP`. Raises `UserError` that names the file and what is wrong with it.
    """
    folder = locate(source)
    try:
        model = (_load_pipe if (folder / "model_index.json").exists() else _load_part)(folder, dtype)
    except UserError:
        raise
    except Exception as error:  # an altered configuration or tokenizer can break in any way
        got = " ".join(f"{type(error).__name__}: {error}".split())
        raise UserError(f"model {folder}", got, "a folder as `save` writes it, or a published one") from error
    return model.to(device).eval().requires_grad_(False)


def save(model: nn.Module, folder: str | Path, dtype: torch.dtype = torch.float32) -> Path:
    """Write a model into `folder`, weights in `dtype` (float16 halves the size), so that `load` gives it back.

    A `LatentDiffusion` with all its parts also opens as `diffusers`' StableDiffusionPipeline.
    """
    folder = Path(folder)
    if isinstance(model, LatentDiffusion):
        _save_pipe(model, folder, dtype)
    elif isinstance(model, VAE):
        _write(model, configs.vae_to_hf(model.config, 32), folder, dtype)
    elif isinstance(model, FlatVAE):
        config = {"_class_name": "FlatVAE", "shape": model.shape, "latent": model.latent, "hidden": model.hidden}
        _write(model, config, folder, dtype)
    elif isinstance(model, MiniCLIP):
        _save_text(model.text, folder, dtype)
        config = {"_class_name": "MiniCLIP", "dim": model.dim, "channels": model.channels}
        _write(model, config, folder, dtype, skip="text.")
    else:
        raise UserError("model", type(model).__name__, "LatentDiffusion, VAE, FlatVAE or MiniCLIP")
    return folder


def load_strict(build: Callable[[], nn.Module], path: Path, dtype: torch.dtype, skip: str = "\0") -> nn.Module:
    """Fill `build()` with the tensors of a `.safetensors` file, name by name and shape by shape, or not at all.

    `build` runs on the meta device, so nothing is allocated twice. Parts whose names start with `skip` stay on meta.
    Raises ONE `UserError` that lists every name missing, too many, or of another shape.
    """
    tensors = {name.removeprefix(TEXT_PREFIX): tensor for name, tensor in _read(path).items()}
    with torch.device("meta"):
        model = build()
    wanted = {name: t.shape for name, t in model.state_dict().items() if not name.startswith(skip)}
    faults = [f"missing {name}" for name in wanted.keys() - tensors.keys()]
    faults += [f"unknown {name}" for name in tensors.keys() - wanted.keys()]
    faults += [
        f"{name} of shape {tuple(tensors[name].shape)} instead of {tuple(shape)}"
        for name, shape in wanted.items()
        if name in tensors and tensors[name].shape != shape
    ]
    if faults:
        raise UserError(f"weights {path}", "; ".join(sorted(faults)), f"the {len(wanted)} names of its config")
    model.load_state_dict({name: t.to(dtype) for name, t in tensors.items()}, strict=skip == "\0", assign=True)
    return model


def _read(path: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except FileNotFoundError as error:
        raise UserError(f"weights {path}", "no such file", "a .safetensors file") from error
    except SafetensorError as error:
        raise UserError(f"weights {path}", str(error), "a whole .safetensors file") from error


def _json(path: Path) -> dict:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise UserError(f"config {path}", "no such file", "a model's configuration") from error
    except ValueError as error:
        raise UserError(f"config {path}", str(error), "valid JSON") from error


def _write(module: nn.Module, config: dict, folder: Path, dtype: torch.dtype, skip: str = "\0",
           file: str = WEIGHTS, prefix: str = "") -> None:  # fmt: skip
    from safetensors.torch import save_file

    state = module.state_dict().items()
    tensors = {prefix + name: t.to("cpu", dtype).contiguous() for name, t in state if not name.startswith(skip)}
    atomic_write(folder / file, lambda part: save_file(tensors, part, metadata={"format": "pt"}))
    _write_json(folder / "config.json", config)


def _write_json(path: Path, content: dict) -> None:
    atomic_write(path, (json.dumps(content, indent=2, ensure_ascii=False) + "\n").encode())


def _save_text(text: Text, folder: Path, dtype: torch.dtype) -> None:
    # a pipeline that opens in float32 must not meet a text tower in float16
    config = text.model.config.to_dict() | {"architectures": ["CLIPTextModel"], "dtype": "float32"}
    _write(text.model, config, folder / "text_encoder", dtype, file=TEXT_WEIGHTS, prefix=TEXT_PREFIX)
    text.tokenizer.save_pretrained(folder / "tokenizer")


def _load_text(folder: Path, dtype: torch.dtype) -> Text:
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

    if not (folder / "tokenizer" / "tokenizer.json").exists():
        raise UserError(f"file {folder / 'tokenizer' / 'tokenizer.json'}", "no such file", "the prompt's tokenizer")
    tokenizer = CLIPTokenizer.from_pretrained(folder / "tokenizer", local_files_only=True)
    config = CLIPTextConfig.from_dict(_json(folder / "text_encoder" / "config.json"))
    model = load_strict(lambda: CLIPTextModel(config), folder / "text_encoder" / TEXT_WEIGHTS, dtype)
    # not part of the file, and left on the meta device
    model.embeddings.position_ids = torch.arange(config.max_position_embeddings)[None]
    return Text(tokenizer, model)


def _load_part(folder: Path, dtype: torch.dtype) -> nn.Module:
    config = _json(folder / "config.json")
    kind, path = config.get("_class_name"), folder / WEIGHTS
    if kind == "AutoencoderKL":
        return load_strict(lambda: VAE(configs.vae_from_hf(config)), path, dtype)
    if kind == "FlatVAE":
        build = {name: config[name] for name in ("shape", "latent", "hidden")}
        return load_strict(lambda: FlatVAE(**build), path, dtype)
    if kind == "MiniCLIP":
        text = _load_text(folder, dtype)
        model = load_strict(lambda: MiniCLIP(text, config["dim"], config["channels"]), path, dtype, skip="text.")
        return model
    raise UserError(f"config {folder / 'config.json'}, _class_name", kind, "AutoencoderKL, FlatVAE or MiniCLIP")


def _save_pipe(pipe: LatentDiffusion, folder: Path, dtype: torch.dtype) -> None:
    schedule = next((k for k, make in configs.BETAS.items() if torch.equal(make().alpha, pipe.schedule.alpha)), None)
    if schedule is None:
        raise UserError("schedule", "rows of its own", "linear, scaled_linear or cosine rows with the default ends")
    full = pipe.vae is not None and pipe.text is not None
    index = {"_class_name": "StableDiffusionPipeline" if full else "LatentDiffusion", "requires_safety_checker": False}
    size = pipe.latent_shape()[1]
    ours = {"_class_name": "UNet"} | dataclasses.asdict(pipe.unet.config)  # says more than the format can
    unet = configs.unet_to_hf(pipe.unet.config, size) if full else ours
    _write(pipe.unet, unet | {"sample_size": size}, folder / "unet", dtype)
    index["unet"] = ["diffusers", "UNet2DConditionModel"]
    if pipe.vae is not None:
        _write(pipe.vae, configs.vae_to_hf(pipe.vae.config, pipe.size), folder / "vae", dtype)
        index["vae"] = ["diffusers", "AutoencoderKL"]
    if pipe.text is not None:
        _save_text(pipe.text, folder, dtype)
        index |= {"text_encoder": ["transformers", "CLIPTextModel"], "tokenizer": ["transformers", "CLIPTokenizer"]}
    scheduler = configs.scheduler_to_hf(schedule, pipe.prediction, pipe.spacing, pipe.last)
    _write_json(folder / "scheduler" / "scheduler_config.json", scheduler)
    index |= {"scheduler": ["diffusers", "DDIMScheduler"]}
    index |= {"safety_checker": [None, None], "feature_extractor": [None, None]}
    _write_json(folder / "model_index.json", index)  # last: a folder without it is not taken for a whole one


def _load_pipe(folder: Path, dtype: torch.dtype) -> LatentDiffusion:
    index = _json(folder / "model_index.json")
    shared = folder / index.get("parts_of", "")  # where a shipped model keeps the parts it has in common with another
    config = _json(folder / "unet" / "config.json")
    if config.get("_class_name") == "UNet":
        fields = {f.name: config[f.name] for f in dataclasses.fields(UNetConfig)}
        shape = UNetConfig(**{k: tuple(v) if isinstance(v, list) else v for k, v in fields.items()})
    else:
        shape = configs.unet_from_hf(config)
    unet = load_strict(lambda: UNet(shape), folder / "unet" / WEIGHTS, dtype)
    vae = _load_part(shared / "vae", dtype) if "vae" in index else None
    text = _load_text(shared, dtype) if "text_encoder" in index else None
    size = config.get("sample_size", 64) * (vae.config.downscale if vae else 1)
    schedule = configs.scheduler_from_hf(_json(folder / "scheduler" / "scheduler_config.json"))
    return LatentDiffusion(unet, vae, text, size=size, **schedule)
