"""The command line: `minildm picture`, `train`, `evaluate`, `league`, `recipe`, `inspect`.

Only here is a device chosen and printed.

What a command finds out goes to stdout, and how it gets on to stderr. A mistake in what it was given is one line
on stderr and exit code 2.
"""

import sys
from pathlib import Path
from typing import Annotated

import typer

from .. import evaluate as evaluation
from .. import league as contest
from .. import pngs, weights
from ..devices import best_device
from ..files import UserError, is_there, ready
from .drawing import picture, recipe
from .plumbing import BAR, OneLine, Sampler, Scale, Seed, Steps, loaded, number
from .training import add as add_train

app = typer.Typer(cls=OneLine, add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)


@app.callback(invoke_without_command=True)
def start(context: typer.Context) -> None:
    """Latent diffusion from scratch: draw pictures, train models, measure them."""
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


app.command()(picture)
add_train(app)


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

    todo = contest.jobs(budget, seeds, out, entry)  # whatever is wrong is told before the hours, not after
    if figure:
        if is_there(pngs.named(figure)) and figure.is_dir():
            raise UserError("figure", str(figure), "a file, and this is a folder")
        ready(figure.parent)
    ready(out)
    contest.results(out)
    device = "cuda" if best_device().type == "cuda" else "cpu"
    for job in todo:
        with tqdm(desc=job.name, total=1.0, bar_format=BAR, delay=1, file=sys.stderr, leave=False) as bar:
            for now in contest.play(job, out, device):
                if now.fraction < bar.n:  # the training is over, and the drawing begins
                    bar.reset(1.0)
                    bar.set_description(f"{job.name}, drawing")
                bar.update(now.fraction - bar.n)
        typer.echo(out / f"{job.name}.json")
    if figure:
        contest.save(contest.kept(out), figure)
    typer.echo(f"{contest.rates(out)}\n\n{contest.table(contest.kept(out), budget)}")


app.command()(recipe)


@app.command()
def inspect(
    path: Annotated[Path, typer.Argument(help="A file of weights, an index of shards, or a model's folder.")],
) -> None:
    """Say what a file of weights holds, from its header alone."""
    typer.echo(weights.inspect(path))
