"""The command line: `minildm picture`, `train`, `evaluate`, `league`, `recipe`, `inspect`.

Only here is a device chosen and printed.

What a command finds out goes to stdout, and how it gets on to stderr. A mistake in what it was given is one line
on stderr and exit code 2.
"""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import torch
import typer

import minildm

from .. import evaluate as evaluation
from .. import league as contest
from .. import pngs, recipes, weights
from ..devices import best_device
from ..files import UserError
from ..pipe import LatentDiffusion
from .plumbing import BAR, Model, OneLine, Prompt, Sampler, Scale, Seed, Steps, number, warn

if TYPE_CHECKING:
    from PIL.Image import Image

app = typer.Typer(cls=OneLine, add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)


@app.callback(invoke_without_command=True)
def start(context: typer.Context) -> None:
    """Latent diffusion from scratch: draw pictures, train models, measure them."""
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


@app.command()
def picture(
    prompt: Prompt,
    count: Annotated[int, number(int, 1, help="How many pictures, in one grid.")] = 8,
    steps: Steps = 25,
    scale: Scale = 3.0,
    sampler: Sampler = "ddim",
    seed: Seed = 0,
    out: Annotated[Path, typer.Option(help="The PNG file to write.")] = Path("picture.png"),
    negative: Annotated[str | None, typer.Option(help="What the picture should not be.")] = None,
    model: Model = "shapes",
) -> None:
    """Draw pictures of a prompt into a PNG file that carries its recipe."""
    pngs.named(out)
    recipe: pngs.Recipe = {
        "prompt": prompt,
        "negative": negative,
        "seed": seed,
        "steps": steps,
        "scale": scale,
        "sampler": sampler,
        "count": count,
        "model": model,
        "hash": "",
        "version": minildm.__version__,
    }
    image, recipe["hash"] = _drawn(recipe)
    typer.echo(pngs.save(image, out, recipe))


@app.command()
def train(
    recipe: Annotated[str, typer.Argument(help="One of " + ", ".join(recipes.RECIPES) + ".")],
    out: Annotated[Path, typer.Option(help="The folder for the model and the state of the run.")],
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in OUT, if there is one.")] = False,
    steps: Annotated[int | None, number(int, 1, help="Steps, instead of the recipe's own.")] = None,
    seconds: Annotated[float | None, number(float, 1, help="Seconds of training, instead of steps.")] = None,
    seed: Seed = 0,
    snapshots: Annotated[int, number(int, 0, help="Models to save on the way.")] = 0,
    objects: Annotated[int | None, number(int, 1, help="latent, pixel: 1 or 2 in each scene, not both.")] = None,
    captions: Annotated[bool, typer.Option(help="pixel: with prompts or without.")] = True,
    small: Annotated[bool, typer.Option("--small", help="latent, pixel: the network for minutes.")] = False,
    vae: Annotated[str | None, typer.Option(help="latent, decoder: the autoencoder, a folder or a name.")] = None,
    clip: Annotated[str | None, typer.Option(help="latent, pixel, relations: the mini-CLIP, likewise.")] = None,
    start: Annotated[str | None, typer.Option(help="latent, pixel: a trained model to go on from, likewise.")] = None,
) -> None:
    """Train a model by a recipe into a folder that `picture` and `evaluate` take."""
    from tqdm import tqdm

    given = {"objects": objects, "captions": captions, "small": small, "vae": vae, "clip": clip, "start": start}
    usual = {"captions": True, "small": False}
    options = {name: value for name, value in given.items() if value is not usual.get(name)}
    taken = {"latent": set(given), "pixel": set(given), "decoder": {"vae"}, "relations": {"clip"}}.get(recipe, set())
    if recipe in recipes.RECIPES and (refused := options.keys() - taken):
        name = min(refused)
        raise UserError(name, options[name], f"no such option, for the recipe {recipe}")
    device = "cuda" if best_device().type == "cuda" else "cpu"  # bfloat16 training was never tried on Apple's GPUs
    run = recipes.train(recipe, out, steps=steps, seconds=seconds, seed=seed, resume=resume, snapshots=snapshots,
                        device=device, **options)  # fmt: skip
    with tqdm(desc=recipe, total=1.0, bar_format=BAR, delay=1, file=sys.stderr) as bar:
        try:
            for now in run:
                if bar.n == 0:  # a resumed run has a part behind it, which says nothing about its pace
                    bar.initial = bar.n = now.fraction
                bar.set_postfix_str(f"step {now.step}, loss {now.loss:.4f}", refresh=False)
                bar.update(now.fraction - bar.n)
        except KeyboardInterrupt:
            bar.close()
            warn(f"stopped; the same command with --resume goes on from the last state in {out}")
            raise typer.Exit(130) from None
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

    loaded = _loaded(model)
    with tqdm(desc=f"evaluate {model}", bar_format=BAR, delay=2, file=sys.stderr, leave=False) as bar:

        def each(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        table = evaluation.evaluate(
            loaded, n, steps=steps, scale=scale, sampler=sampler, seed=seed, batch=batch, sets=sets, each=each
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


@app.command()
def recipe(
    path: Annotated[Path, typer.Argument(help="A PNG file, or a folder of them.")],
    again: Annotated[bool, typer.Option("--again", help="Draw the same picture again.")] = False,
    out: Annotated[Path | None, typer.Option(help="Where to; by default beside it, as NAME-again.png.")] = None,
    match: Annotated[str, typer.Option(help="Of a folder, only prompts that hold this.")] = "",
    model: Annotated[str | None, typer.Option(help="Where the model lies now, if elsewhere.")] = None,
) -> None:
    """Read back the recipe of a picture, or of all pictures in a folder, newest first."""
    if path.is_dir():
        if again:
            raise UserError("picture", str(path), "a PNG file; --again draws one at a time")
        for file, recipe in pngs.history(path, match):
            typer.echo(f"{file}: {pngs.command(recipe, file)}")
        return
    before, recipe = pngs.read(path)
    if not again:
        for name, value in recipe.items():
            typer.echo(f"{name + ':':<10}{value if value is not None else ''}".rstrip())
        typer.echo(f"{'command:':<10}{pngs.command(recipe, path)}")
        return
    out = pngs.named(out or path.with_name(f"{path.stem}-again.png"))
    if recipe["version"] != minildm.__version__:
        warn(f"the picture was drawn by version {recipe['version']}, and this is {minildm.__version__}")
    image, _ = _drawn(recipe, model)
    typer.echo(f"{pngs.save(image, out, recipe)}: at most {pngs.apart(before, image)}/255 from the first one")


@app.command()
def inspect(
    path: Annotated[Path, typer.Argument(help="A file of weights, an index of shards, or a model's folder.")],
) -> None:
    """Say what a file of weights holds, from its header alone."""
    typer.echo(weights.inspect(path))


def _drawn(recipe: pngs.Recipe, source: str | None = None) -> tuple["Image", str]:
    """The image that a recipe asks for, drawn by the model it names (or by `source`), and that model's hash.

    Raises `UserError` if the hash in the recipe is another, and for all that is wrong with the recipe.
    """
    from tqdm import tqdm

    pngs.check(recipe)
    name = source or recipe["model"]
    folder = weights.locate(name)
    found = weights.fingerprint(folder)
    if recipe["hash"] not in ("", found):
        raise UserError(f"hash of model {name}", found, f"{recipe['hash']}, as in the recipe")
    if left := weights.unused(folder):
        warn(f"{', '.join(left)}: not used here; nothing checks what the model draws")
    pipe = _loaded(folder)  # found, and its hashes compared, above
    if not isinstance(pipe, LatentDiffusion) or pipe.text is None:
        got = f"a {type(pipe).__name__}" + (" without text" if isinstance(pipe, LatentDiffusion) else "")
        raise UserError(f"model {name}", got, "a model that draws what a prompt says")
    for key in ("prompt", "negative"):
        if strange := pngs.strange_words(pipe.text.tokenizer, recipe[key] or ""):
            warn(f"{key}: words that no caption has: {strange}")
    film = pngs.film(pipe, recipe)
    for state in tqdm(film, "picture", recipe["steps"] + 1, bar_format=BAR, delay=2, leave=False, file=sys.stderr):
        z = state
    with torch.no_grad():
        return pngs.grid(pipe.decode(z).cpu()), found


def _loaded(name: str | Path) -> torch.nn.Module:
    from transformers.utils import logging

    logging.disable_progress_bar()  # a small model is there at once
    return weights.load(name, best_device())
