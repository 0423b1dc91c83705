"""Named training runs: what `minildm train`, `make checkpoints` and the lessons run is defined once, here."""

import json
from collections.abc import Iterator
from contextlib import closing
from itertools import chain
from pathlib import Path

import torch
from torch import nn

from . import processes, weights
from .checkpoint import States, cut
from .files import UserError, append, atomic_write, sweep
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
MARKS = 40  # lines in a run's `metrics.jsonl`; in a run of fewer seconds one a second


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
          resume: bool = False, snapshots: int = 0, accumulate: int = 1, device: str | torch.device = "cpu",
          **options: object) -> Iterator[Progress]:  # fmt: skip
    """Run a recipe into `folder` and yield its progress; at the end the trained model lies there for `weights.load`.

    steps or seconds: by default the recipe's own number of steps. The rest as in `into`; options as in `prepare`.
    Raises `UserError` where the folder holds a run already and `resume` is not asked for, and as `into` does.
    """
    check_free(folder, resume)
    run = prepare(name, seed=seed, device=device, **options)
    yield from into(folder, run, {"recipe": name, "seed": seed} | options, steps, seconds, seed, snapshots, accumulate)


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


def states_of(folder: str | Path) -> States:
    """The states of the run in a folder; of several processes the first one writes them."""
    return States(Path(folder) / "state.pt", writes=processes.rank() == 0)


def check_free(folder: str | Path, resume: bool) -> None:
    """Raises `UserError` where the folder holds a run already and `resume` is not asked for."""
    if states_of(folder).files() and not resume:
        raise UserError("out", str(folder), "a folder without a run in it, or --resume to go on with that run")


def into(folder: str | Path, run: Run, asked: dict, steps: int | None = None, seconds: float | None = None,
         seed: int = 0, snapshots: int = 0, accumulate: int = 1, watch: Watch | None = None,
         ) -> Iterator[Progress]:  # fmt: skip
    """Train a run into `folder`, or go on with the one that is there, and yield its progress.

    `folder` gets the trained model, `run.json` (`asked`), `metrics.jsonl` (see `MARKS`; the loss is the mean of the
    steps since the line before) and the last states of the run (`checkpoint.States`), from which an interrupted one
    goes on. snapshots: models saved on the way, evenly spread, as folder/snapshot-1 and so on. accumulate: parts each
    batch is taken in. Of several processes (`processes.joined`) the first one writes all files.
    Raises `UserError` as `fit` and `States` do: for a full disk, say, or while another training writes into the folder.
    """
    folder, watch = Path(folder), watch or Watch(run)
    if steps is None and seconds is None:
        steps = run.steps
    check_length(steps, seconds)  # before anything is written
    asked = asked | {"steps": steps, "seconds": seconds, "snapshots": snapshots}
    ema, states = EMA(run.model, run.ema), states_of(folder)
    lines = MARKS if steps else max(1, min(MARKS, int(seconds)))  # figures take time that `seconds` does not count
    progress = fit(run.model, run.loss, steps=steps, seconds=seconds, lr=run.lr, ema=ema, seed=seed,
                   autocast=run.autocast, checkpoint=states, batch=run.batch, accumulate=accumulate)  # fmt: skip
    if processes.rank():
        yield from progress
        return
    metrics = folder / "metrics.jsonl"
    with states, closing(progress):
        sweep(folder)
        begun, done = states.step, states.step / steps if steps else states.spent / seconds
        marks, parts = int(done * lines) if begun else None, int(done * (snapshots + 1))
        first = next(progress, None)  # the state of another run is refused here, before anything is changed
        atomic_write(folder / "run.json", json.dumps(asked, indent=2).encode())
        cut(metrics, begun)
        for now in chain([first] if first else [], progress):
            total, count = states.notes.get("losses", (0.0, 0))  # since the last line
            total, count = total + now.loss, count + 1
            before, marks = marks, int(now.fraction * lines)
            if marks != before:
                line = {"step": now.step, "seconds": round(now.seconds, 1), "loss": total / count}
                line |= watch.figures(ema.model)
                append(metrics, json.dumps(line))
                watch.line(line)
                total, count = 0.0, 0
            states.notes["losses"] = (total, count)
            before, parts = parts, int(now.fraction * (snapshots + 1))
            if before < parts <= snapshots:
                weights.save(run.finish(ema.model), folder / f"snapshot-{parts}")
            watch.step(now, ema.model)
            states.stand(now.step, now.seconds)  # all that belongs to it is written before its state can be saved
            yield now
        weights.save(run.finish(ema.model), folder)


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
