"""What a file of weights holds, told from its header alone."""

from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path

import torch

from .. import hub, original
from ..files import UserError, is_there
from . import archive
from .single import FAMILIES, count

DTYPES = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16", "I64": "int64"}


@dataclass
class Contents:
    """What `inspect` found: `kind` in words, numbers of parameters by part, dtypes, bytes on the disk, layout."""

    path: Path
    kind: str
    parameters: dict[str, int]
    dtypes: tuple[str, ...]
    bytes: int
    layout: str  # "original" or "diffusers"

    def __str__(self) -> str:
        parts = ", ".join(f"{part} {n:,}" for part, n in self.parameters.items())
        return (f"{self.path.name}: {self.kind}, {self.layout} layout, {sum(self.parameters.values()):,} parameters "
                f"({parts}), {' and '.join(self.dtypes)}, {self.bytes / 1e9:.2f} GB")  # fmt: skip


def inspect(path: str | Path) -> Contents:
    """What a file of weights, an index of shards or a model's folder holds; no tensor of safetensors is read.

    A pickle has no header: it is opened by the `weights_only` unpickler. Raises `UserError` for what is no such file.
    """
    path = Path(path)
    if is_there(path) and path.is_dir():
        return _folder(path)
    if not is_there(path) or not path.is_file():
        raise UserError("file", str(path), "a file of weights, or a folder that holds some")
    if path.suffix in archive.PICKLES:
        table = {n: (str(t.dtype).split(".")[-1], list(t.shape)) for n, t in archive.read(path).items()}
    else:
        table = {n: (DTYPES.get(d, d), shape) for n, (d, shape) in archive.header(path).items()}
    if not table:
        raise UserError(f"weights {path}", "no tensors", "a file of weights")
    size = sum(file.stat().st_size for file in (archive.shards(path) if path.suffix == ".json" else [path]))
    table = {name: entry for name, entry in table.items() if not name.endswith(archive.UNREAD)}
    shapes = {name: torch.empty(shape, device="meta") for name, (_, shape) in table.items()}
    layout = "original" if original.is_original(shapes) else "diffusers"
    parts = original.parts(shapes) if layout == "original" else {_part(shapes): shapes}
    parameters = {part: sum(prod(t.shape) for t in some.values()) for part, some in parts.items()}
    dtypes = tuple(dtype for dtype, _ in Counter(dtype for dtype, _ in table.values()).most_common())
    return Contents(path, _kind(parts), parameters, dtypes, size, layout)


def _folder(folder: Path) -> Contents:
    files = []
    for part in sorted(p for p in folder.iterdir() if p.is_dir()):
        for stem in (hub.WEIGHTS, hub.TEXT_WEIGHTS):
            try:
                files.append((part.name, inspect(archive.find(part, stem))))
            except UserError:
                continue
    if not files:
        with suppress(UserError):  # the folder of one part
            return replace(inspect(archive.find(folder, hub.WEIGHTS)), path=folder)
        raise UserError("folder", str(folder), "parts with files of weights in them")
    parameters = {name: sum(one.parameters.values()) for name, one in files}
    kinds = [one.kind for name, one in files if name == "unet"] or [files[0][1].kind]
    dtypes = tuple(dict.fromkeys(dtype for _, one in files for dtype in one.dtypes))
    return Contents(folder, kinds[0], parameters, dtypes, sum(one.bytes for _, one in files), "diffusers")


def _part(shapes: dict) -> str:
    marks = {"control": "controlnet_", "unet": "time_embedding.", "vae": "post_quant_conv.",
             "text_encoder": original.TEXT_MODEL + "embeddings."}  # fmt: skip
    for part, mark in marks.items():
        if any(name.startswith(mark) for name in shapes):
            return part
    if any(mark in name for name in shapes for mark in archive.LORA):
        return "lora"
    return "unknown"


def _kind(parts: dict) -> str:
    if "control" in parts:
        return "a ControlNet for " + _kind({"unet": parts["control"]})
    if "unet" not in parts:
        names = {"vae": "an autoencoder", "text_encoder": "a CLIP text tower", "lora": "a LoRA"}
        return next((names[part] for part in parts if part in names), "of unknown kind")
    unet = parts["unet"]
    width = next((t.shape[1] for name, t in unet.items() if name.endswith("attn2.to_k.weight")), None)
    family = FAMILIES[width].name if width in FAMILIES else f"a U-Net with text states of width {width}"
    channels = unet["conv_in.weight"].shape[1] if "conv_in.weight" in unet else 4
    levels = count(unet, "down_blocks.")
    return f"{family}{', inpainting' if channels == 9 else ''}, {levels} level{'s' * (levels != 1)}"
