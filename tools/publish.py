"""Put trained models from runs/ into the package: float16 weights, hashes and figures in one manifest.

    python tools/publish.py [--n 1000] RUN[=NAME] ...   for each folder runs/RUN; the others keep their entries
    python tools/publish.py --measure [--set SET] NAME ...   figures of shipped models anew, nothing else

`make checkpoints` calls it after training. A model goes by the name of its run, or by NAME. One that shares its
autoencoder and text tower with the published "shapes" is stored without them, a mini-CLIP without its tower.
"""

import argparse
import json
import os
import platform
import shutil
import subprocess
from datetime import date
from pathlib import Path

import torch
from torch import nn

from minildm import evaluate, weights
from minildm.clip import MiniCLIP
from minildm.files import atomic_write, sha256
from minildm.pipe import LatentDiffusion

RUNS = Path("runs")
SHARED = ("vae", "text_encoder", "tokenizer")


def machine() -> str:
    return f"{os.cpu_count()} cores {platform.machine()}, torch {torch.__version__.split('+')[0]}"


def command(run: dict, name: str) -> str:
    """The command line that trains this run again."""
    flags = {"recipe": None, "captions": None, "snapshots": None}
    words = ["minildm train", run["recipe"], f"--out runs/{name}"]
    said = {key: value for key, value in run.items() if value and key not in flags}
    words += [f"--{key}" if value is True else f"--{key} {value}" for key, value in said.items()]
    words += ["--no-captions"] if run.get("captions") is False else []
    words += [f"--snapshots {run['snapshots']}"] if run.get("snapshots") else []
    return " ".join(words)


def described(folder: Path) -> tuple[dict, float]:
    """What a run was asked for, and the seconds it took."""
    lines = (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    return json.loads((folder / "run.json").read_text(encoding="utf-8")), json.loads(lines[-1])["seconds"]


def built_on(run: dict) -> list[str]:
    """The command lines, and their seconds, of the runs that came before this one."""
    said = []
    for part in ("vae", "clip", "start", "model"):
        folder = Path(run.get(part) or "none")
        if (folder / "run.json").exists():
            earlier, seconds = described(folder)
            said += [*built_on(earlier), f"{command(earlier, folder.name)} ({seconds:.0f} s)"]
    return list(dict.fromkeys(said))  # parts that several runs share stand once


def publish(model: nn.Module, source: Path, name: str, run: dict, seconds: float, share: bool) -> dict:
    folder = weights.SHIPPED / name
    shutil.rmtree(folder, ignore_errors=True)
    weights.save(model, folder, torch.float16)
    if share:
        for part in SHARED:
            shutil.rmtree(folder / part, ignore_errors=True)
        index = folder / "model_index.json"
        atomic_write(index, json.dumps(json.loads(index.read_text()) | {"parts_of": "../shapes"}, indent=2).encode())
    tower, shapes = (weights.SHIPPED / one / "text_encoder" for one in (name, "shapes"))
    if isinstance(model, MiniCLIP) and all(sha256(tower / f.name) == sha256(f) for f in shapes.iterdir()):
        shutil.rmtree(tower)
        config = folder / "config.json"
        atomic_write(config, json.dumps(json.loads(config.read_text()) | {"text_of": "../shapes"}, indent=2).encode())
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    commit = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()
    return {
        "command": command(run, source.name if source.parent == RUNS else source.parent.name),
        "built_on": built_on(run),
        "commit": commit,
        "seconds": round(seconds),
        "machine": machine(),
        "sha256": {path.relative_to(folder).as_posix(): sha256(path) for path in files},
    }


MANIFEST = weights.SHIPPED / "manifest.json"


def write(models: dict) -> None:
    ordered = {name: models[name] for name in sorted(models)}
    atomic_write(MANIFEST, (json.dumps({"models": ordered}, indent=1) + "\n").encode())


def figures(name: str, n: int, sets: tuple[str, ...] | list[str] | None) -> dict[str, dict]:
    """What `evaluate.figures` measures of a shipped model, each set with its date."""
    today = date.today().isoformat()
    return {key: row | {"date": today} for key, row in evaluate.figures(name, n, sets=sets).items()}


def measure(names: list[str], n: int, sets: list[str] | None) -> None:
    """The figures of shipped models anew, of these sets (None: all that are usual); those of others stay."""
    models = weights.manifest()
    for name in names:
        print(f"measuring {name}", flush=True)
        models[name]["figures"] |= figures(name, n, sets)
        write(models)


def main(names: list[str], n: int) -> None:
    models = weights.manifest()
    for given in names:
        folder, _, name = given.partition("=")
        name = name or folder
        run, whole = described(RUNS / folder)
        sources = [(RUNS / folder, name, 1.0)]
        count = run.get("snapshots") or 0
        sources += [(RUNS / folder / f"snapshot-{i}", f"{name}-{i}", i / (count + 1)) for i in range(1, count + 1)]
        for source, shipped, share in sources:
            print(f"publishing {shipped}", flush=True)
            model = weights.load(source)
            told = isinstance(model, LatentDiffusion) and model.text is not None
            models[shipped] = publish(model, source, shipped, run, whole * share, told and name != "shapes")
            write(models)  # the next line loads it by name
            sets = ("one", "one-unseen") if told and run.get("objects") == 1 else None  # what it was trained to draw
            models[shipped]["date"] = date.today().isoformat()
            models[shipped]["figures"] = figures(shipped, n, sets)
            write(models)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Put trained models from runs/ into the package.")
    parser.add_argument("run", nargs="+", help="folders below runs/; shapes before what shares its parts")
    parser.add_argument("--n", type=int, default=1000, help="pictures in each set of the evaluation")
    parser.add_argument("--measure", action="store_true", help="only measure models that are shipped, by their names")
    parser.add_argument("--set", action="append", dest="sets", help="with --measure: of these sets alone; repeatable")
    given = parser.parse_args()
    if given.measure:
        measure(given.run, given.n, given.sets)
    else:
        main(given.run, given.n)
