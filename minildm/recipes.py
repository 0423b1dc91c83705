"""Named training runs: what `minildm train`, `make checkpoints` and the lessons run is defined once, here."""

import json
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import nn

from . import weights
from .files import UserError, atomic_write
from .hinted import control_run, upscaler_run
from .readers import classifier_run, clip_run, digits_classifier_run, relations_run
from .runs import (
    LATENT_CONFIG,
    PIXEL_CONFIG,
    PLAIN_PIXEL,
    SMALL_LATENT,
    SMALL_PIXEL,
    decoder_run,
    diffusion_run,
    digits_run,
    vae_run,
)
from .train import EMA, Progress, Run, check_length, fit
from .unet import UNet

NETWORKS = {  # by the recipe and whether a small one is asked for
    ("latent", False): LATENT_CONFIG, ("latent", True): SMALL_LATENT,
    ("pixel", False): PIXEL_CONFIG, ("pixel", True): SMALL_PIXEL,
}  # fmt: skip
MARKS = 40  # lines in a run's `metrics.jsonl`


def prepare(name: str, objects: int | None = None, captions: bool = True, small: bool = False,
            vae: str = "shapes/vae", clip: str = "clip", start: str | None = None, model: str = "shapes",
            seed: int = 0, device: str | torch.device = "cpu") -> Run:  # fmt: skip
    """The run of a recipe's name, its first weights drawn from `seed`.

    For "latent" and "pixel": objects, 1 or 2 in each scene (None: both kinds); captions, False for a pixel model
    without prompts; small, the network that minutes can train; vae and clip, folders or shipped names of what
    they build on; start, the same of a trained model whose weights to go on from. "decoder" takes `vae` alone,
    "relations" `clip`, "upscaler" both; "edges" takes the `model` that it shall steer, "layout" that and `clip`.
    Everything is drawn on the CPU and trained on `device`.
    Raises `UserError` for an unknown name, and for a start with another network.
    """
    if name not in RECIPES:
        raise UserError("recipe", name, "one of " + ", ".join(RECIPES))
    if objects not in (None, 1, 2):
        raise UserError("objects", objects, "1, 2 or nothing for both")
    if name == "latent" and not captions:
        raise UserError("captions", captions, "True; only a pixel model goes without prompts")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if name in ("latent", "pixel"):
            words = weights.load(clip).text if captions else None
            encoder = weights.load(vae) if name == "latent" else None
            config = NETWORKS[name, small] if captions else PLAIN_PIXEL
            run = diffusion_run(encoder, words, config, objects, device=device)
            if start:
                _start_from(start, run.model)
        elif name == "decoder":
            run = decoder_run(weights.load(vae))
        elif name == "relations":
            run = relations_run(weights.load(clip))
        elif name == "upscaler":
            run = upscaler_run(weights.load(vae), weights.load(clip).text, device=device)
        elif name in ("edges", "layout"):
            steered = weights.load(model, device)
            run = control_run(steered, weights.load(clip, device) if name == "layout" else None)
        else:
            run = {
                "vae": vae_run, "clip": clip_run, "digits-vae": digits_run,
                "classifier": classifier_run, "digits-classifier": digits_classifier_run,
            }[name]()  # fmt: skip
    run.model.to(device)
    return run


def _start_from(source: str, model: UNet) -> None:
    trained = weights.load(source).unet
    if trained.config != model.config:
        raise UserError("start", source, f"a model with this network: {model.config}")
    model.load_state_dict(trained.state_dict())


def train(name: str, folder: str | Path, *, steps: int | None = None, seconds: float | None = None, seed: int = 0,
          resume: bool = False, snapshots: int = 0, device: str | torch.device = "cpu",
          **options: object) -> Iterator[Progress]:  # fmt: skip
    """Run a recipe into `folder` and yield its progress; at the end the trained model lies there for `weights.load`.

    steps or seconds: by default the recipe's own number of steps. The rest as in `into`; options as in `prepare`.
    Raises `UserError` where the folder holds a run already and `resume` is not asked for.
    """
    check_free(folder, resume)
    run = prepare(name, seed=seed, device=device, **options)
    yield from into(folder, run, {"recipe": name, "seed": seed} | options, steps, seconds, seed, snapshots)


class Watch:
    """What is looked at while a run goes on: figures for its lines, and whatever else is to be done with them."""

    def __init__(self, run: Run):
        self.run = run

    def figures(self, model: nn.Module) -> dict[str, float]:
        """Numbers of the averaged network, for a line of `metrics.jsonl`."""
        return {"check": self.run.check(model)}

    def line(self, line: dict[str, float]) -> None:
        """Called with each line that is written."""

    def step(self, now: Progress, model: nn.Module) -> None:
        """Called after each step."""


def check_free(folder: str | Path, resume: bool) -> None:
    """Raises `UserError` where the folder holds a run already and `resume` is not asked for."""
    if (Path(folder) / "state.pt").exists() and not resume:
        raise UserError("out", str(folder), "a folder without a run in it, or --resume to go on with that run")


def into(folder: str | Path, run: Run, asked: dict, steps: int | None = None, seconds: float | None = None,
         seed: int = 0, snapshots: int = 0, watch: Watch | None = None) -> Iterator[Progress]:  # fmt: skip
    """Train a run into `folder`, or go on with the one that is there, and yield its progress.

    `folder` gets the trained model, `run.json` (`asked`), `metrics.jsonl` (`MARKS` lines; the loss is the mean of the
    steps since the line before) and `state.pt`, from which an interrupted run goes on. snapshots: models saved on the
    way, evenly spread, as folder/snapshot-1 and so on.
    """
    folder, watch = Path(folder), watch or Watch(run)
    if steps is None and seconds is None:
        steps = run.steps
    check_length(steps, seconds)  # before anything is written
    asked = asked | {"steps": steps, "seconds": seconds, "snapshots": snapshots}
    atomic_write(folder / "run.json", json.dumps(asked, indent=2).encode())
    ema = EMA(run.model, run.ema)
    progress = fit(run.model, run.loss, steps=steps, seconds=seconds, lr=run.lr, ema=ema, seed=seed,
                   autocast=run.autocast, checkpoint=folder / "state.pt")  # fmt: skip
    marks = parts = None
    losses: list[float] = []
    for now in progress:
        losses.append(now.loss)
        if marks is None:
            _forget(folder / "metrics.jsonl", now.step)
        before, marks = marks, int(now.fraction * MARKS)
        if marks != before:
            line = {"step": now.step, "seconds": round(now.seconds, 1), "loss": sum(losses) / len(losses)}
            line |= watch.figures(ema.model)
            with (folder / "metrics.jsonl").open("a", encoding="utf-8") as log:
                log.write(json.dumps(line) + "\n")
            losses.clear()
            watch.line(line)
        before, parts = parts, int(now.fraction * (snapshots + 1))
        if before is not None and before < parts <= snapshots:
            weights.save(run.finish(ema.model), folder / f"snapshot-{parts}")
        watch.step(now, ema.model)
        yield now
    weights.save(run.finish(ema.model), folder)


def _forget(path: Path, step: int) -> None:
    """Leave out the lines of steps that are done again: those after the last state, and one that was cut short."""
    kept = []
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else []:
        try:
            if json.loads(line)["step"] < step:
                kept.append(line + "\n")
        except (ValueError, KeyError, TypeError):
            continue
    atomic_write(path, "".join(kept).encode())


RECIPES = {
    "vae": "the autoencoder of the shapes world",
    "decoder": "its decoder once more, with the latents as they are",
    "clip": "the tokenizer and the mini-CLIP, whose text tower steers the pictures",
    "relations": "the mini-CLIP once more, to tell left from right",
    "latent": "the text-to-picture model in the latents of the autoencoder",
    "pixel": "the same in pixels, or without prompts",
    "upscaler": "pictures four times as large, out of small ones",
    "edges": "a ControlNet that draws along given outlines",
    "layout": "a ControlNet that puts things into boxes",
    "digits-vae": "a small fully connected VAE on handwritten digits",
    "classifier": "names what is in a scene; its states are the features of the metrics",
    "digits-classifier": "the same for handwritten digits",
}
