"""`minildm train`: the recipes of the shapes world, and models of one's own pictures."""

import shlex
import signal
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Annotated

import typer

from .. import own, processes, recipes
from ..devices import best_device
from ..files import UserError
from ..train import Progress
from .plumbing import BAR, Manual, Seed, again, number, stopping, warn

DRAWING = {"objects", "captions", "small", "vae", "clip", "start"}
TAKEN = {  # which options of `train` a recipe has; the others have none
    "latent": DRAWING, "pixel": DRAWING, "decoder": {"vae"}, "relations": {"clip"}, "upscaler": {"vae", "clip"},
    "edges": {"model"}, "layout": {"model", "clip"},
}  # fmt: skip
OWN = {"size", "flips", "set", "prompt", "cache", "tensorboard"}  # which need --data
RUN, BASE, WORLD, DATA = "The run", "What it builds on", "The shapes world", "Your own pictures, with --data"
EXAMPLES = """
A model of your own pictures; captions in metadata.jsonl, in .txt files, or as names of folders:
  minildm train latent --data holiday --out runs/holiday
  minildm picture "a red boat on a lake" --model runs/holiday

The autoencoder first, if the report says that the shipped one blurs them; then the model:
  minildm train vae --data holiday --out runs/holiday-vae
  minildm train latent --data holiday --vae runs/holiday-vae --out runs/holiday

A trained model taught new pictures; half of them mirrored; other settings; for half an hour:
  minildm train latent --data holiday --start shapes --out runs/holiday
  minildm train latent --data holiday --flips --out runs/holiday
  minildm train latent --data holiday --set lr=5e-4 --set unet.block_out_channels=96,192 --out OUT
  minildm train latent --data holiday --seconds 1800 --out runs/holiday

A run that was stopped goes on; one on eight GPUs:
  minildm train latent --data holiday --out runs/holiday --resume
  torchrun --nproc_per_node 8 --no-python minildm train latent --out runs/shapes

The models that are shipped, of the shapes world:
  minildm train vae --out runs/vae
  minildm train latent --vae runs/vae --clip clip --out runs/shapes
"""
FOLDER = """
What lies in OUT afterwards: the model, run.json (all settings), metrics.jsonl, and the last states
of the run (state-STEP.pt), to go on from. With --data also report.txt, command.txt, latents/ and
samples/ (the same prompts and noise each time). In metrics.jsonl, "seen" and "held_out" are losses
on pictures trained on and never trained on, over noise that never changes: while both fall the
model learns, where held_out rises it memorises.
"""


def manual() -> str:
    """What stands below the options in the help: recipes, settings, the folder, examples."""
    lines = ["Recipes:", *(f"  {name:<18} {text}" for name, text in recipes.RECIPES.items()), ""]
    for kind in own.KINDS:
        lines.append(f"Settings of {kind} --data, for --set:")
        rest = " ".join(own.usual(kind))
        while rest:
            cut = len(rest) if len(rest) <= 96 else rest.rindex(" ", 0, 96)
            lines.append("  " + rest[:cut])
            rest = rest[cut:].strip()
        lines.append("")
    return "\n".join(lines) + FOLDER + EXAMPLES


def section(name: str, help: str, *flags: str) -> object:
    return typer.Option(*flags, help=help, rich_help_panel=name)


def train(
    context: typer.Context,
    recipe: Annotated[str, typer.Argument(help="What to train: " + ", ".join(recipes.RECIPES) + ".")],
    out: Annotated[Path, section(RUN, "The folder for the model and the state of the run.")],
    resume: Annotated[bool, section(RUN, "Go on with the run in OUT, if there is one.", "--resume")] = False,
    steps: Annotated[int | None, number(int, 1, help="Steps, instead of the recipe's own.", panel=RUN)] = None,
    seconds: Annotated[float | None, number(float, 1, help="Seconds of training, instead of steps.", panel=RUN)] = None,
    seed: Seed = 0,
    snapshots: Annotated[int, number(int, 0, help="Models to save on the way.", panel=RUN)] = 0,
    accumulate: Annotated[int, number(int, 1, help="Parts a batch is taken in: less memory.", panel=RUN)] = 1,
    vae: Annotated[str | None, section(BASE, "latent, decoder, upscaler: the autoencoder, a folder or a name.")] = None,
    clip: Annotated[
        str | None, section(BASE, "latent, pixel, relations, upscaler, layout: the mini-CLIP, likewise.")
    ] = None,
    start: Annotated[
        str | None, section(BASE, "latent, pixel, vae --data: a trained model to go on from, or none.")
    ] = None,
    model: Annotated[str | None, section(BASE, "edges, layout: the model to steer, likewise.")] = None,
    objects: Annotated[
        int | None, number(int, 1, help="latent, pixel: 1 or 2 in each scene, not both.", panel=WORLD)
    ] = None,
    captions: Annotated[bool, section(WORLD, "pixel: with prompts or without.")] = True,
    small: Annotated[bool, section(WORLD, "latent, pixel: the network for minutes.", "--small")] = False,
    data: Annotated[str | None, section(DATA, "latent, vae: a folder of captioned pictures to train on.")] = None,
    size: Annotated[
        int | None, number(int, 8, help="Side of a square picture; others get about its area.", panel=DATA)
    ] = None,
    flips: Annotated[bool, section(DATA, "Show half of them mirrored: not where sides matter.", "--flips")] = False,
    set: Annotated[list[str] | None, section(DATA, "NAME=VALUE of those listed below; repeatable.")] = None,
    prompt: Annotated[list[str] | None, section(DATA, "A row of each sheet in samples/; repeatable.")] = None,
    cache: Annotated[Path | None, section(DATA, "A folder for latents that runs share, instead of OUT.")] = None,
    tensorboard: Annotated[bool, section(DATA, "Write for TensorBoard too.", "--tensorboard")] = False,
) -> None:
    """Train a model into a folder that `picture` and `evaluate` take: of the shapes world, or of your own pictures.

    Without --data the shapes world is drawn as training needs it. With --data DATA, recipe latent or vae, the pictures
    of a folder are checked first, with a report; cut to a few sizes; kept as latents; and trained on.
    """
    given = {"objects": objects, "captions": captions, "small": small, "vae": vae, "clip": clip, "start": start,
             "model": model, "size": size, "flips": flips, "set": set, "prompt": prompt, "cache": cache,
             "tensorboard": tensorboard}  # fmt: skip
    usual = {"captions": True, "small": False, "flips": False, "tensorboard": False}
    options = {name: value for name, value in given.items() if value is not usual.get(name) and value != []}
    if data is not None:
        taken, why = OWN | {"vae", "clip", "start"}, f"for the recipe {recipe} with --data"
    elif options.keys() & OWN:
        taken, why = TAKEN.get(recipe, DRAWING), "without --data"
    else:
        taken, why = TAKEN.get(recipe, {}), f"for the recipe {recipe}"
    known = own.KINDS if data is not None else recipes.RECIPES
    if recipe in known and (refused := sorted(options.keys() - taken)):
        raise UserError(refused[0], options[refused[0]], f"no such option, {why}")
    device = "cuda" if best_device().type == "cuda" else "cpu"  # bfloat16 training was never tried on Apple's GPUs
    about = {"steps": steps, "seconds": seconds, "resume": resume, "snapshots": snapshots, "accumulate": accumulate}
    with processes.joined(device) as device, stopping():
        if data is None:
            run = recipes.train(recipe, out, seed=seed, device=device, **about, **options)
        else:
            settings = [f"size={size}"] * (size is not None) + ["flips=yes"] * flips + (set or [])
            plan = own.plan(recipe, data, vae=vae, clip=clip, start=start, settings=settings, seed=seed, device=device)
            own.check(plan, out, resume, steps, seconds, tensorboard)
            if processes.rank() == 0:
                typer.echo(plan.report())
            shown(own.encode(plan, out, cache), "latents")
            command = shlex.join(["minildm", *context.obj["words"]])
            run = own.train(plan, out, prompts=prompt or (), cache=cache, tensorboard=tensorboard, command=command,
                            **about)  # fmt: skip
        followed(run, recipe, again(context))
        if processes.rank() == 0:
            typer.echo(out)


def shown(work: Iterator[tuple[int, int]], what: str) -> None:
    """Do the work, which says how much of how much is done, under a bar that appears if it takes a while."""
    from tqdm import tqdm

    with tqdm(desc=what, bar_format=BAR, delay=1, file=sys.stderr, leave=False) as bar:
        for done, total in work:
            bar.total = total
            bar.update(done - bar.n)


def followed(run: Iterator[Progress], what: str, again: str) -> None:
    """Train under a bar; a run that is stopped says which command goes on with it."""
    from tqdm import tqdm

    first = processes.rank() == 0
    with tqdm(desc=what, total=1.0, bar_format=BAR, delay=1, file=sys.stderr, disable=not first) as bar:
        try:
            with closing(run):
                for now in run:
                    if bar.n == 0:  # a resumed run has a part behind it, which says nothing about its pace
                        bar.initial = bar.n = now.fraction
                    bar.set_postfix_str(f"step {now.step}, loss {now.loss:.4f}", refresh=False)
                    bar.update(now.fraction - bar.n)
        except KeyboardInterrupt as stop:
            bar.close()
            if first:
                warn(f"stopped; this goes on: {again}")
            raise typer.Exit(128 + (stop.args[0] if stop.args else signal.SIGINT)) from None


def add(app: typer.Typer) -> None:
    """Give the command line this command."""
    app.command(cls=Manual, epilog=manual())(train)
