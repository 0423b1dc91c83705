"""The command line: `minildm picture`, `train`, `evaluate`, `league`, `recipe`, `inspect`.

Only here is a device chosen and printed.

What a command finds out goes to stdout, and how it gets on to stderr. A mistake in what it was given is one line
on stderr and exit code 2.
"""

import signal
import sys
from contextlib import closing
from pathlib import Path
from typing import Annotated

import typer

from .. import evaluate as evaluation
from .. import league as contest
from .. import pngs, processes, recipes, weights
from ..devices import best_device
from ..files import UserError
from .drawing import picture, recipe
from .plumbing import BAR, OneLine, Sampler, Scale, Seed, Steps, again, loaded, number, stopping, warn

DRAWING = {"objects", "captions", "small", "vae", "clip", "start"}
TAKEN = {  # which options of `train` a recipe has; the others have none
    "latent": DRAWING, "pixel": DRAWING, "decoder": {"vae"}, "relations": {"clip"}, "upscaler": {"vae", "clip"},
    "edges": {"model"}, "layout": {"model", "clip"},
}  # fmt: skip

app = typer.Typer(cls=OneLine, add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)


@app.callback(invoke_without_command=True)
def start(context: typer.Context) -> None:
    """Latent diffusion from scratch: draw pictures, train models, measure them."""
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


app.command()(picture)


@app.command()
def train(
    context: typer.Context,
    recipe: Annotated[str, typer.Argument(help="One of " + ", ".join(recipes.RECIPES) + ".")],
    out: Annotated[Path, typer.Option(help="The folder for the model and the state of the run.")],
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in OUT, if there is one.")] = False,
    steps: Annotated[int | None, number(int, 1, help="Steps, instead of the recipe's own.")] = None,
    seconds: Annotated[float | None, number(float, 1, help="Seconds of training, instead of steps.")] = None,
    seed: Seed = 0,
    snapshots: Annotated[int, number(int, 0, help="Models to save on the way.")] = 0,
    accumulate: Annotated[int, number(int, 1, help="Parts of a batch, one after the other: less memory.")] = 1,
    objects: Annotated[int | None, number(int, 1, help="latent, pixel: 1 or 2 in each scene, not both.")] = None,
    captions: Annotated[bool, typer.Option(help="pixel: with prompts or without.")] = True,
    small: Annotated[bool, typer.Option("--small", help="latent, pixel: the network for minutes.")] = False,
    vae: Annotated[
        str | None, typer.Option(help="latent, decoder, upscaler: the autoencoder, a folder or a name.")
    ] = None,
    clip: Annotated[
        str | None, typer.Option(help="latent, pixel, relations, upscaler, layout: the mini-CLIP, likewise.")
    ] = None,
    start: Annotated[str | None, typer.Option(help="latent, pixel: a trained model to go on from, likewise.")] = None,
    model: Annotated[str | None, typer.Option(help="edges, layout: the model to steer, likewise.")] = None,
) -> None:
    """Train a model by a recipe into a folder that `picture` and `evaluate` take.

    On several GPUs: torchrun --nproc_per_node 8 --no-python minildm train ...
    """
    from tqdm import tqdm

    given = {"objects": objects, "captions": captions, "small": small, "vae": vae, "clip": clip, "start": start,
             "model": model}  # fmt: skip
    usual = {"captions": True, "small": False}
    options = {name: value for name, value in given.items() if value is not usual.get(name)}
    taken = TAKEN.get(recipe, set())
    if recipe in recipes.RECIPES and (refused := options.keys() - taken):
        name = min(refused)
        raise UserError(name, options[name], f"no such option, for the recipe {recipe}")
    device = "cuda" if best_device().type == "cuda" else "cpu"  # bfloat16 training was never tried on Apple's GPUs
    with processes.joined(device) as device:
        first = processes.rank() == 0
        run = recipes.train(recipe, out, steps=steps, seconds=seconds, seed=seed, resume=resume, snapshots=snapshots,
                            accumulate=accumulate, device=device, **options)  # fmt: skip
        bar = tqdm(desc=recipe, total=1.0, bar_format=BAR, delay=1, file=sys.stderr, disable=not first)
        with bar, stopping():
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
                    warn(f"stopped; this goes on: {again(context)}")
                raise typer.Exit(128 + (stop.args[0] if stop.args else signal.SIGINT)) from None
    if first:
        typer.echo(out)


@app.command()
def evaluate(
    model: Annotated[str, typer.Argument(help="A shipped model's name, or a folder.")],
    n: Annotated[int, number(int, 1, "--n", help="Pictures in each set.")] = 1000,
    steps: Steps = 25,
    scale: Scale = 3.0,
    sampler: Sampler = "ddim",
    seed: Seed = 0,
    batch: Annotated[int, number(int, 1, help="Pictures at a time.")] = 100,
    sets: Annotated[
        list[str] | None, typer.Option("--set", help="Of " + ", ".join(evaluation.SETS) + "; can be repeated.")
    ] = None,
) -> None:
    """Measure a model: shares with their 95% intervals, read from its pictures by the oracle."""
    from tqdm import tqdm

    measured = loaded(model)
    with tqdm(desc=f"evaluate {model}", bar_format=BAR, delay=2, file=sys.stderr, leave=False) as bar:

        def each(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        table = evaluation.evaluate(
            measured, n, steps=steps, scale=scale, sampler=sampler, seed=seed, batch=batch, sets=sets, each=each
        )
    for name, row in table.items():
        typer.echo(f"{model}, {name}")
        for key, value in row.items():
            share = isinstance(value, tuple)
            told = f"{value[0]:.4f}   {value[1]:.4f} to {value[2]:.4f}" if share else f"{value:.4f}"
            typer.echo(f"  {key:<16} {told}")


@app.command()
def league(
    budget: Annotated[int, number(int, 1, help="Seconds of training for each contestant.")] = 300,
    seeds: Annotated[int, number(int, 1, help="Trainings of each, from other first weights.")] = 3,
    entry: Annotated[
        list[str] | None, typer.Option(help="Of " + ", ".join(contest.ENTRIES) + "; can be repeated; else all.")
    ] = None,
    out: Annotated[Path, typer.Option(help="Where the runs lie; what is there is not run again.")] = Path("league"),
    figure: Annotated[Path | None, typer.Option(help="A PNG file for the figure of all that lies there.")] = None,
) -> None:
    """Compare kinds of models at equal seconds: a VAE, pixel diffusion, latent diffusion, latent flow."""
    from tqdm import tqdm

    figure = figure and pngs.named(figure)  # before the hours, not after
    device = "cuda" if best_device().type == "cuda" else "cpu"
    for job in contest.jobs(budget, seeds, out, entry):
        with tqdm(desc=job.name, total=1.0, bar_format=BAR, delay=1, file=sys.stderr, leave=False) as bar:
            for now in contest.play(job, out, device):
                if now.fraction < bar.n:  # the training is over, and the drawing begins
                    bar.reset(1.0)
                    bar.set_description(f"{job.name}, drawing")
                bar.update(now.fraction - bar.n)
        typer.echo(out / f"{job.name}.json")
    if figure:
        contest.figure(contest.kept(out)).savefig(figure, facecolor="white")
    typer.echo(f"{contest.rates(out)}\n\n{contest.table(contest.kept(out), budget)}")


app.command()(recipe)


@app.command()
def inspect(
    path: Annotated[Path, typer.Argument(help="A file of weights, an index of shards, or a model's folder.")],
) -> None:
    """Say what a file of weights holds, from its header alone."""
    typer.echo(weights.inspect(path))
