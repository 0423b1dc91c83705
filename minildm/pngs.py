"""Pictures that carry their recipe: what to ask for to draw them again, as text inside the PNG file."""

import io
import json
from pathlib import Path
from typing import TYPE_CHECKING

from .files import UserError, atomic_write

if TYPE_CHECKING:
    from PIL.Image import Image

KEY = "minildm"  # the name of the text in the file; its content is JSON
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


def named(path: str | Path) -> Path:
    """The path. Raises `UserError` if its name does not end in .png."""
    if Path(path).suffix.lower() != ".png":
        raise UserError("out", str(path), "a name that ends in .png")
    return Path(path)


def save(image: "Image", path: str | Path, recipe: Recipe) -> Path:
    """Write an image and its recipe as a PNG file, whole or not at all. Returns the path.

    Raises `UserError` as `named` does, and where no file can be written.
    """
    from PIL.PngImagePlugin import PngInfo

    path, text = named(path), PngInfo()
    text.add_itxt(KEY, json.dumps(recipe, ensure_ascii=False))
    image.save(file := io.BytesIO(), format="png", pnginfo=text)
    try:
        return atomic_write(path, file.getvalue())
    except OSError as error:
        raise UserError("out", str(path), f"a file that can be written ({error.strerror})") from error


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
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise UserError("picture", str(path), f"a whole PNG file ({type(error).__name__})") from error
    if not isinstance(recipe, dict):
        raise UserError(f"recipe of {path}", recipe, "the fields " + ", ".join(FIELDS))
    for name, kind in FIELDS.items():
        if not isinstance(recipe.get(name), kind) or isinstance(recipe[name], bool):
            raise UserError(f"recipe of {path}, {name}", recipe.get(name), f"{getattr(kind, '__name__', kind)}")
    return image, recipe


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
