"""Files of tensors: safetensors (whole or in shards) and old pickles, read without running anything in them."""

import json
from pathlib import Path, PurePosixPath

import torch
from torch import Tensor, nn

from .. import hub
from ..files import UserError, atomic_write

SAFE, PICKLES = ".safetensors", (".ckpt", ".pt", ".pth", ".bin")
LORA = (".lora_up.", ".lora_down.", ".lora_A.", ".lora_B.", "lora_unet_", "lora_te")
# Data that a file of weights may hold beside weights, and which is read nowhere.
UNREAD = ("position_ids",)


def read_json(path: Path) -> dict:
    """A JSON object. Raises `UserError` that names the file where it is missing or holds something else."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise UserError(f"config {path}", "no such file", "a model's configuration") from error
    except (ValueError, OSError, RecursionError) as error:
        raise UserError(f"config {path}", str(error), "valid JSON") from error
    if not isinstance(content, dict):
        raise UserError(f"config {path}", type(content).__name__, "a JSON object")
    return content


def write_json(path: Path, content: dict) -> None:
    """A JSON object into a file, whole or not at all."""
    atomic_write(path, (json.dumps(content, indent=2, ensure_ascii=False) + "\n").encode())


def put(tensors: dict[str, Tensor], path: Path) -> None:
    """Tensors into a safetensors file. Raises `OSError` where it cannot be written, as other writers do."""
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    try:
        save_file(tensors, path, metadata={"format": "pt"})
    except SafetensorError as error:  # which is no OSError, even where the disk is full
        raise OSError(None, str(error)) from error


def write(tensors: dict[str, Tensor], config: dict, folder: Path, stem: str, dtype: torch.dtype) -> None:
    """Tensors in `dtype` into the safetensors file `stem` of a folder, and their `config.json` beside it."""
    ready = {name: tensor.to("cpu", dtype).contiguous() for name, tensor in tensors.items()}
    atomic_write(folder / (stem + SAFE), lambda part: put(ready, part))
    write_json(folder / "config.json", config)


def with_shared_parts(folder: Path) -> Path:
    """Where a pipeline's parts but the U-Net lie: its own folder, or a shipped model's that has them in common."""
    return folder / read_json(folder / "model_index.json").get("parts_of", "")


def with_shared_text(folder: Path) -> Path:
    """Where a mini-CLIP's text tower lies: in its own folder, or in a shipped model's that has it in common."""
    return folder / read_json(folder / "config.json").get("text_of", "")


def find(folder: Path, stem: str) -> Path:
    """The weights called `stem` in a folder: the first of their `hub.forms`. Raises `UserError` that lists them."""
    names = hub.forms(stem)
    for name in names:
        if (folder / name).is_file():
            return folder / name
    raise UserError(f"weights {folder / names[0]}", "no such file", "one of " + ", ".join(names))


def read(path: Path) -> dict[str, Tensor]:
    """All tensors of a file by name, on the CPU, as they are stored.

    Pickles go through torch's `weights_only` unpickler, which builds tensors and plain containers and refuses
    everything else. Raises `UserError` that names the file and the cause.
    """
    if path.name.endswith(".json"):
        tensors: dict[str, Tensor] = {}
        for shard in shards(path):
            tensors |= _safe(shard)
    elif path.suffix == SAFE:
        tensors = _safe(path)
    elif path.suffix in PICKLES:
        tensors = _pickle(path)
    else:
        raise UserError(f"weights {path}", path.suffix or "no suffix", "one of " + ", ".join((SAFE, *PICKLES)))
    if any(mark in name for name in tensors for mark in LORA):
        raise UserError(f"weights {path}", "a LoRA", "a whole model; a LoRA only says how to change one")
    return {name: tensor for name, tensor in tensors.items() if not name.endswith(UNREAD)}


def shards(index: Path) -> list[Path]:
    """The files that an index names, each in the index's own folder. Raises `UserError` for any other or none."""
    names = read_json(index).get("weight_map")
    if not isinstance(names, dict) or not names or not all(isinstance(name, str) for name in names.values()):
        raise UserError(f"index {index}, weight_map", type(names).__name__, "the name of a file for each tensor")
    files = sorted(set(names.values()))
    bad = [name for name in files if PurePosixPath(name).name != name or "\\" in name or not name.endswith(SAFE)]
    if bad:
        raise UserError(f"index {index}", ", ".join(bad), f"names of {SAFE} files in the same folder")
    missing = [name for name in files if not (index.parent / name).is_file()]
    if missing:
        raise UserError(f"index {index}", "missing " + ", ".join(missing), "every file that it names")
    return [index.parent / name for name in files]


def header(path: Path) -> dict[str, tuple[str, list[int]]]:
    """Names, dtypes and shapes of a safetensors file or index, from the headers alone: {name: ("F16", [4, 3])}.

    Raises `UserError` for a file that is cut short or whose header is none.
    """
    from safetensors import SafetensorError, safe_open

    if path.name.endswith(".json"):
        return {name: entry for shard in shards(path) for name, entry in header(shard).items()}
    if path.suffix != SAFE:
        raise UserError(f"weights {path}", path.suffix or "no suffix", "one of " + ", ".join((SAFE, *PICKLES)))
    try:
        with safe_open(path, framework="pt") as file:
            slices = {name: file.get_slice(name) for name in file.keys()}
            return {name: (part.get_dtype(), part.get_shape()) for name, part in slices.items()}
    except (SafetensorError, OSError, ValueError) as error:
        raise UserError(f"weights {path}", str(error), "a whole .safetensors file") from error


def _safe(path: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except FileNotFoundError as error:
        raise UserError(f"weights {path}", "no such file", "a .safetensors file") from error
    except (SafetensorError, OSError, ValueError, KeyError) as error:  # KeyError: a dtype that torch does not have
        raise UserError(f"weights {path}", str(error), "a whole .safetensors file") from error


def _pickle(path: Path) -> dict[str, Tensor]:
    try:
        with torch.serialization.safe_globals(_stand_ins()):
            content = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise UserError(f"weights {path}", "no such file", "a file of weights") from error
    except Exception as error:  # what a broken or hostile pickle raises has no end
        first = str(error).strip().splitlines()[:1]
        raise UserError(f"weights {path}", " ".join([type(error).__name__, *first]),
                        "a checkpoint of tensors alone; nothing else in a pickle is ever run") from error  # fmt: skip
    content = content.get("state_dict", content) if isinstance(content, dict) else None
    if not isinstance(content, dict) or not content or not all(isinstance(name, str) for name in content):
        raise UserError(f"weights {path}", type(content).__name__, "a table of tensors by name")
    strange = sorted(name for name, value in content.items() if not isinstance(value, Tensor))
    if strange:
        raise UserError(f"weights {path}", ", ".join(strange), "tensors under every name")
    return content


def _stand_ins() -> list:
    """What the Stable Diffusion checkpoints of 2022 name beside tensors: numbers of numpy, and a class for a key."""
    import numpy as np

    class ModelCheckpoint:
        """An empty class where pytorch_lightning's would be: it is only the name of an entry that nobody reads."""

    ModelCheckpoint.__module__ = "pytorch_lightning.callbacks.model_checkpoint"
    ModelCheckpoint.__qualname__ = "ModelCheckpoint"
    try:
        from numpy._core.multiarray import scalar
    except ImportError:  # numpy 1
        from numpy.core.multiarray import scalar
    return [ModelCheckpoint, (scalar, "numpy.core.multiarray.scalar"), np.dtype, type(np.dtype(np.float64))]


def fill(model: nn.Module, tensors: dict[str, Tensor], dtype: torch.dtype, what: str, skip: str = "\0") -> nn.Module:
    """Give a model built on the meta device these tensors, name by name and shape by shape, or none at all.

    Parts whose names start with `skip` stay as they are. Raises ONE `UserError` that lists every name missing, too
    many, of another shape, not of floating point, or not finite.
    """
    wanted = {name: t.shape for name, t in model.state_dict().items() if not name.startswith(skip)}
    faults = [f"missing {name}" for name in wanted.keys() - tensors.keys()]
    faults += [f"unknown {name}" for name in tensors.keys() - wanted.keys()]
    for name in wanted.keys() & tensors.keys():
        tensor, shape = tensors[name], wanted[name]
        if tensor.shape != shape:
            faults.append(f"{name} of shape {tuple(tensor.shape)} instead of {tuple(shape)}")
        elif tensor.dtype not in (torch.float64, torch.float32, torch.float16, torch.bfloat16):
            faults.append(f"{name} of {tensor.dtype}")
        elif not tensor.isfinite().all():
            faults.append(f"{name} with entries that are not finite")
    if faults:
        raise UserError(f"weights {what}", "; ".join(sorted(faults)), f"the {len(wanted)} names of its config")
    model.load_state_dict({name: t.to(dtype) for name, t in tensors.items()}, strict=skip == "\0", assign=True)
    return model
