"""The models that come with the package, and where a model's files lie."""

import hashlib
import json
from pathlib import Path

from .. import hub
from ..files import UserError, is_there, sha256
from . import archive

READ = ("unet", "vae", "scheduler", "low_res_scheduler", "text_encoder", "text_encoder_2", "tokenizer", "tokenizer_2")
SHIPPED = Path(__file__).parent.parent / "checkpoints"


def shipped() -> list[str]:
    """Names of the models that came with the package; `load` takes each in place of a folder."""
    return sorted(manifest())


def manifest() -> dict:
    """What the package says of each model it ships: hashes, how it was made, its figures."""
    path = SHIPPED / "manifest.json"
    return json.loads(path.read_text(encoding="utf-8"))["models"] if path.exists() else {}


def locate(source: str | Path, half: bool = False) -> Path:
    """The folder or file of a shipped model's name or of a path, else what `hub.fetch` finds (`half`: see there).

    A shipped model's files are compared with their recorded hashes. Raises `UserError` where one is not as shipped,
    and where there is no such model.
    """
    name = str(source).split("/")[0]  # "shapes", or "shapes/vae" for one of its parts
    entry = manifest().get(name)
    path = SHIPPED / str(source) if entry else Path(source)
    if not is_there(path) and hub.is_id(str(source)):
        return hub.fetch(str(source), half)
    if not is_there(path):
        here, there = ", ".join(shipped()) or "none shipped", ", ".join(hub.KNOWN)
        allowed = f"a folder or file, one of {here}, one of {there} or an id such as {hub.KNOWN['sd15'][0].id}"
        raise UserError("model", str(source), allowed)
    for file, digest in (entry or {}).get("sha256", {}).items():
        one = SHIPPED / name / file
        if one.is_relative_to(path) and (not one.exists() or sha256(one) != digest):
            raise UserError(f"file {file} of model {name}", "altered or missing", "the file as it was shipped")
    return path


def unused(path: str | Path) -> list[str]:
    """The parts that a folder's `model_index.json` names and `load` leaves alone, such as a safety checker."""
    if not (Path(path) / "model_index.json").is_file():
        return []
    index = archive.read_json(Path(path) / "model_index.json")
    parts = (name for name, value in index.items() if isinstance(value, list) and value != [None, None])
    return [name for name in parts if name not in READ]


def fingerprint(path: str | Path) -> str:
    """One short hash of all weights of a model, shared parts too: 12 hexadecimal digits that name what draws."""
    path = Path(path)
    if path.is_file():
        return sha256(path)[:12]
    files = set(path.rglob("*.safetensors"))
    if (path / "model_index.json").exists():
        index = archive.read_json(path / "model_index.json")
        for part in index.keys() & {"vae", "text_encoder"}:
            files |= set((archive.with_shared_parts(path) / part).glob("*.safetensors"))
    elif (path / "config.json").exists():
        files |= set((archive.with_shared_text(path) / "text_encoder").glob("*.safetensors"))
    digest = hashlib.sha256()
    for file in sorted(files):
        digest.update(sha256(file).encode())
    return digest.hexdigest()[:12]
