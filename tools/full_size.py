"""Stable Diffusion at full size with random weights: names, shapes and configurations as published, worth nothing.

    python -m tools.full_size sd15 FOLDER           the folder as it lies on the hub
    python -m tools.full_size sd15 FOLDER --single  and FOLDER/single.safetensors, the original single file

For `make real`, `python -m benchmarks.pipeline` and `python -m benchmarks.memory` where the published files are not at
hand. 3.4 to 14 GB in float32, half of that with --half.
"""

import argparse
import math
from pathlib import Path

import torch
from safetensors.torch import save_file

from minildm.files import UserError
from minildm.hub import PARTS
from minildm.weights.archive import write_json
from tests.published import STYLES, facts, write_vocabulary


def drawn(shapes: dict[str, list[int]], generator: torch.Generator, dtype: torch.dtype) -> dict[str, torch.Tensor]:
    """Tensors of these names and shapes that keep what flows through a network of about unit size."""
    made = {}
    for name, shape in shapes.items():
        if name.endswith("position_ids"):
            made[name] = torch.arange(math.prod(shape)).view(shape)
        elif len(shape) > 1:
            fan = math.prod(shape[1:])
            made[name] = (torch.randn(shape, generator=generator) / math.sqrt(fan)).to(dtype)
        else:
            gain = name.endswith("weight")  # of a norm; the rest are biases, and tables of a schedule that nobody reads
            made[name] = torch.full(shape, float(gain), dtype=dtype)
    return made


def write_folder(family: str, folder: Path, dtype: torch.dtype) -> None:
    """The folder of a family as it lies on the hub. Raises `UserError` where something lies there already."""
    if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        raise UserError("folder", str(folder), "a new or an empty one")
    configs, shapes = facts("published_configs")[family], facts("published_keys")["folders"]
    generator = torch.Generator()
    for part in PARTS.keys() & configs.keys():
        (folder / part).mkdir(parents=True)
        own = shapes.get(f"{family}.{part}") or shapes["sd15.vae.legacy"]
        path = folder / part / f"{PARTS[part]}.safetensors"
        save_file(drawn(own, generator.manual_seed(len(part)), dtype), path, {"format": "pt"})
        path.chmod(0o644)
        write_json(folder / part / "config.json", configs[part])
    for part in (part for part in configs["model_index"] if part.startswith("tokenizer")):
        (folder / part).mkdir()
        write_vocabulary(folder / part)
        write_json(folder / part / "tokenizer_config.json", configs[f"{part}_config"])
        write_json(folder / part / "special_tokens_map.json", configs["special_tokens_map"])
    write_json(folder / "scheduler" / "scheduler_config.json", configs["scheduler"])
    write_json(folder / "model_index.json", configs["model_index"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("family", choices=list(STYLES))
    parser.add_argument("folder", type=Path)
    parser.add_argument("--single", action="store_true", help="the original single file too")
    parser.add_argument("--half", action="store_true", help="float16")
    asked = parser.parse_args()
    dtype = torch.float16 if asked.half else torch.float32
    try:
        write_folder(asked.family, asked.folder, dtype)
    except (UserError, OSError) as error:
        parser.exit(2, f"error: {error}\n")
    if asked.single:
        names = facts("published_keys")["files"][STYLES[asked.family]]
        save_file(drawn(names, torch.Generator().manual_seed(0), dtype), asked.folder / "single.safetensors")


if __name__ == "__main__":
    main()
