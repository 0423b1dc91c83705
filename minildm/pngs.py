"""Pictures that carry their recipe: what to ask for to draw them again, as text inside the PNG file."""

import difflib
import io
import json
import math
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from . import given, scenes, show
from .files import UserError, atomic_write
from .given import KEY
from .layers import check_whole
from .pipe import LatentDiffusion
from .tasks import states

if TYPE_CHECKING:
    from PIL.Image import Image
    from transformers import CLIPTokenizer

FIELDS = {  # of a recipe, and what each may be; hash is `weights.fingerprint` of the model
    "prompt": str,
    "negative": str | None,
    "seed": int,
    "steps": int,
    "scale": float | int,
    "sampler": str,
    "count": int,
    "model": str,
    "hash": str,
    "version": str,
}
Recipe = dict[str, str | int | float | None]
LONGEST = 1000  # characters of a prompt; a model reads its first tokens only, see `remarks`
MANY = 10_000  # pictures in one grid
OURS = 5000  # a tokenizer learned from captions has some hundred tokens, the published one 49,408


def named(path: str | Path) -> Path:
    """The path. Raises `UserError` if its name does not end in .png."""
    if Path(path).suffix.lower() != ".png":
        raise UserError("out", str(path), "a name that ends in .png")
    return Path(path)


def save(image: "Image", path: str | Path, recipe: Recipe) -> Path:
    """Write an image and its recipe as a PNG file, whole or not at all. Returns the path.

    Raises `UserError` as `named` and `atomic_write` do.
    """
    from PIL.PngImagePlugin import PngInfo

    path, text = named(path), PngInfo()
    text.add_itxt(KEY, _json(recipe))
    image.save(file := io.BytesIO(), format="png", pnginfo=text)
    return atomic_write(path, file.getvalue())


def read(path: str | Path) -> tuple["Image", Recipe]:
    """The image of a PNG file, loaded, and its recipe.

    Raises `UserError` if there is no such file, if it is no whole PNG, or if it carries no recipe of ours.
    """
    from PIL import Image

    path = Path(path)
    try:
        with Image.open(path, formats=["png"]) as image:
            image.load()
            recipe = json.loads(image.text[KEY])
    except FileNotFoundError as error:
        raise UserError("picture", str(path), "a PNG file") from error
    except KeyError as error:
        raise UserError("picture", str(path), "a picture that `minildm picture` saved") from error
    except (OSError, SyntaxError, ValueError, RecursionError, Image.DecompressionBombError) as error:
        raise UserError("picture", str(path), f"a whole PNG file ({type(error).__name__})") from error
    if not isinstance(recipe, dict):
        raise UserError(f"recipe of {path}", recipe, "the fields " + ", ".join(FIELDS))
    recipe = dict.fromkeys(FIELDS) | recipe
    given.check(recipe)
    for name, kind in FIELDS.items():
        if not isinstance(recipe.get(name), kind) or isinstance(recipe[name], bool):
            raise UserError(f"recipe of {path}, {name}", recipe.get(name), f"{getattr(kind, '__name__', kind)}")
    return image, recipe


def _json(recipe: Recipe) -> str:
    """Raises `UserError` for halves of characters, which no file can hold: some names of files have them."""
    text = json.dumps(recipe, ensure_ascii=False)
    try:
        text.encode()
    except UnicodeEncodeError as error:
        got = text[max(0, error.start - 20) : error.end]
        raise UserError("recipe", got, "text without halves of characters (lone surrogates)") from error
    return text


def history(folder: str | Path, match: str = "") -> list[tuple[Path, Recipe]]:
    """All pictures with a recipe in a folder and below it, newest first; other files are passed over.

    match: only those whose prompt or negative prompt holds this text, in any case of letters.
    """
    found = []
    for path in Path(folder).rglob("*.png"):
        try:
            recipe = read(path)[1]
        except UserError:
            continue
        said = f"{recipe.get('prompt')} {recipe.get('negative')}".lower()
        if match.lower() in said:
            found.append((path.stat().st_mtime_ns, path, recipe))
    return [(path, recipe) for _, path, recipe in sorted(found, key=lambda row: (-row[0], str(row[1])))]


def command(recipe: Recipe, out: str | Path) -> str:
    """The command line that draws this picture into a file of the name of `out`."""
    words = ["minildm", "picture", recipe["prompt"]]
    edit = ("image", "mask", "strength", "reconstruction")
    for name in ("count", "steps", "scale", "sampler", "seed", "negative", "model", *edit):
        if recipe.get(name) is not None:
            words += [f"--{name}", str(recipe[name])]
    for network, file, weight in recipe.get("control", []):
        words += ["--control", f"{network}={file}@{weight!r}"]
    for caption, *sides in recipe.get("layout", []):
        words += ["--layout", f"{caption}={','.join(map(str, sides))}"]
    return shlex.join([*words, "--out", Path(out).name])


def check(recipe: Recipe) -> None:
    """Raises `UserError` for an empty prompt, one (or a negative one) of over LONGEST characters, no count, no seed."""
    _json(recipe)
    check_whole("count", recipe["count"], 1, MANY)
    check_whole("seed", recipe["seed"], 0, 2**63 - 1)
    for name in ("prompt", "negative"):
        text = recipe[name] or ""
        if name == "prompt" and not text.strip():
            raise UserError(name, text, "some words, say 'a large red circle on a white background'")
        if len(text) > LONGEST:
            raise UserError(name, f"{len(text)} characters", f"at most {LONGEST}")


def strange_words(tokenizer: "CLIPTokenizer", prompt: str) -> str:
    """The words of a prompt that no caption of the training had, each with the nearest that some did.

    A vocabulary learned from captions has a token for each of their words; that of the shapes world is known by its
    own words. Empty for a prompt without any, and for published models, which have seen them all.
    """
    if len(tokenizer) >= OURS:
        return ""
    known = {token.removesuffix("</w>") for token in tokenizer.get_vocab() if token.endswith("</w>")}
    if known >= set(scenes.SHAPES):
        found = scenes.unknown_words(prompt)
    else:
        words = re.findall(r"[^\W\d_]+", prompt.lower())  # as the tokenizer cuts, but for digits and signs
        strange = dict.fromkeys(word for word in words if len(tokenizer.tokenize(word)) > 1)
        found = [(word, difflib.get_close_matches(word, sorted(known), n=3, cutoff=0.6)) for word in strange]
    return ", ".join(f"{word!r} (nearest: {', '.join(near)})" if near else repr(word) for word, near in found)


def film(pipe: LatentDiffusion, recipe: Recipe, more: dict) -> Iterator[Tensor]:
    """The states that lead to a recipe's pictures, latents (count, c, h, w); errors as in `tasks.states`.

    more: what the recipe has beside its prompt, as `given.keywords` tells it.
    """
    generator = torch.Generator().manual_seed(recipe["seed"])
    options = {name: recipe[name] for name in ("negative", "steps", "scale", "sampler")}
    return states(pipe, [recipe["prompt"]] * recipe["count"], **options, generator=generator, **more)


def zoom_of(pictures: Tensor) -> int:
    """How often `grid` repeats each pixel of pictures (n, 3, h, w), so that small ones can be seen."""
    return max(1, 128 // pictures.shape[2])


def grid(pictures: Tensor) -> "Image":
    """Pictures (n, 3, h, w) in -1..1 as one image: small ones enlarged, several in thin frames row by row."""
    n, zoom = len(pictures), zoom_of(pictures)
    cells = pictures.repeat_interleave(zoom, 2).repeat_interleave(zoom, 3)
    if n > 1:  # else white pictures would run into one another
        cells = torch.nn.functional.pad(cells, (1, 1, 1, 1), value=0.6)
    least = math.ceil(math.sqrt(n))
    columns = next((k for k in range(least, 9) if n % k == 0), least)
    return show.to_image(cells, columns, size=cells.shape[3], gap=2)


def apart(one: "Image", other: "Image") -> int:
    """The largest difference of two images in any channel of any pixel, 0 to 255; 255 if their sizes differ."""
    from PIL import ImageChops

    if one.size != other.size:
        return 255
    return max(high for _, high in ImageChops.difference(one.convert("RGB"), other.convert("RGB")).getextrema())
