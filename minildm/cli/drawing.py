"""`minildm picture` and `minildm recipe`: pictures into PNG files that say how to draw them again."""

import sys
from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import torch
import typer

import minildm

from .. import given, pngs, weights
from ..files import UserError, is_there
from ..pipe import LatentDiffusion
from ..tasks import finish
from ..tasks.draw import PULL
from .plumbing import BAR, Model, Prompt, Sampler, Scale, Seed, Steps, loaded, number, warn

if TYPE_CHECKING:
    from PIL.Image import Image


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
    image: Annotated[str | None, typer.Option(help="A picture to change; alone, or where a mask is white.")] = None,
    mask: Annotated[str | None, typer.Option(help="A picture as large: white is painted anew, black stays.")] = None,
    strength: Annotated[
        float | None, number(float, 0, most=1, help="With an image, 0 leaves it, 1 begins anew; 0.8, with a mask 1.")
    ] = None,
    reconstruction: Annotated[
        float | None, number(float, 0, most=PULL, help="With a mask, 1 fits new parts to old ones, in twice the time.")
    ] = None,
    control: Annotated[
        list[str] | None, typer.Option(help="NETWORK=FILE or NETWORK=FILE@WEIGHT, a map to draw along; repeatable.")
    ] = None,
    layout: Annotated[
        list[str] | None, typer.Option(help="CAPTION=LEFT,TOP,RIGHT,BOTTOM in 0..1, what lies where; repeatable.")
    ] = None,
) -> None:
    """Draw pictures of a prompt into a PNG file that carries its recipe.

    With --image it changes a picture, with a mask only a part of it. --control draws along a map, --layout into boxes.
    """
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
    wishes = {"image": image, "mask": mask, "strength": strength, "reconstruction": reconstruction}
    wishes |= {"control": list(map(given.control, control or [])), "layout": list(map(given.box, layout or []))}
    recipe |= {name: value for name, value in wishes.items() if value not in (None, [])}
    given.spare(recipe, out)
    grid, found = _drawn(recipe)
    typer.echo(pngs.save(grid, out, recipe | found))


def recipe(
    path: Annotated[Path, typer.Argument(help="A PNG file, or a folder of them.")],
    again: Annotated[bool, typer.Option("--again", help="Draw the same picture again.")] = False,
    out: Annotated[Path | None, typer.Option(help="Where to; by default beside it, as NAME-again.png.")] = None,
    match: Annotated[str, typer.Option(help="Of a folder, only prompts that hold this.")] = "",
    model: Annotated[str | None, typer.Option(help="Where the model lies now, if elsewhere.")] = None,
) -> None:
    """Read back the recipe of a picture, or of all pictures in a folder, newest first."""
    if is_there(path) and path.is_dir():
        if again:
            raise UserError("picture", str(path), "a PNG file; --again draws one at a time")
        for file, recipe in pngs.history(path, match):
            typer.echo(f"{file}: {pngs.command(recipe, file)}")
        return
    before, recipe = pngs.read(path)
    if not again:
        rows = recipe | {"command": pngs.command(recipe, path)}
        width = 2 + max(map(len, rows))
        for name, value in rows.items():
            typer.echo(f"{name + ':':<{width}}{value if value is not None else ''}".rstrip())
        return
    out = pngs.named(out or path.with_name(f"{path.stem}-again.png"))
    if recipe["version"] != minildm.__version__:
        warn(f"the picture was drawn by version {recipe['version']}, and this is {minildm.__version__}")
    given.spare(recipe, out)
    image, _ = _drawn(recipe, model)
    typer.echo(f"{pngs.save(image, out, recipe)}: at most {pngs.apart(before, image)}/255 from the first one")


def _drawn(recipe: pngs.Recipe, source: str | None = None) -> tuple["Image", dict]:
    """The image that a recipe asks for, drawn by the model it names (or by `source`), and what belongs to it.

    Those are fields of a recipe: how much it is enlarged, and hashes, of the model, and of all files and networks given
    beside it, if any.
    Raises `UserError` if a hash in the recipe is another, and for all that is wrong with the recipe.
    """
    from tqdm import tqdm

    pngs.check(recipe)
    given.check(recipe)
    seen = given.hashes(recipe)
    for name, found in seen.items():
        if recipe.get("given", {}).get(name, found) != found:
            raise UserError(f"hash of {name}", found, f"{recipe['given'][name]}, as in the recipe")
    name = source or recipe["model"]
    folder = weights.locate(name)
    found = weights.fingerprint(folder)
    if recipe["hash"] not in ("", found):
        raise UserError(f"hash of model {name}", found, f"{recipe['hash']}, as in the recipe")
    hashes = {"hash": found} | ({"given": seen} if seen else {})
    if left := weights.unused(folder):
        warn(f"{', '.join(left)}: not used here; nothing checks what the model draws")
    pipe = loaded(folder)  # found, and its hashes compared, above
    if not isinstance(pipe, LatentDiffusion) or pipe.text is None:
        got = f"a {type(pipe).__name__}" + (" without text" if isinstance(pipe, LatentDiffusion) else "")
        raise UserError(f"model {name}", got, "a model that draws what a prompt says")
    captions = ", ".join(caption for caption, *_ in recipe.get("layout", []))
    for key, text in (("prompt", recipe["prompt"]), ("negative", recipe["negative"] or ""), ("layout", captions)):
        if strange := pngs.strange_words(pipe.text.tokenizer, text):
            warn(f"{key}: words that no caption has: {strange}")
    more = given.keywords(recipe, pipe)
    if "image" in more and (remark := given.remarks(more["image"], pipe)):
        warn(remark)
    film = pngs.film(pipe, recipe, more)
    total = int(recipe["steps"] * more.get("strength", 1)) + 1
    bar = tqdm(film, "picture", total, bar_format=BAR, delay=2, leave=False, file=sys.stderr)
    with torch.no_grad():
        if "image" in more:
            drawn = finish(pipe, bar, more["image"], more["mask"])
        else:
            (z,) = deque(bar, maxlen=1)
            drawn = pipe.decode(z)
    return pngs.grid(drawn.cpu()), hashes | {"zoom": pngs.zoom_of(drawn)}
