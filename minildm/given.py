"""What a picture's recipe names beside its prompt, from words to tensors: a picture, a mask, control maps, boxes."""

import json
import math
from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from . import hints, pictures, weights
from .control import PICTURES, ControlNet, Hint
from .files import UserError, is_there, sha256
from .pipe import LatentDiffusion

FIELDS = {  # further ones of a recipe, each there only where it was asked for
    "image": str,
    "mask": str,
    "strength": float | int,
    "reconstruction": float | int,
    "control": list,  # of [network, file of its map, weight]
    "layout": list,  # of [caption, left, top, right, bottom]
    "given": dict,  # hashes of all of these files and networks, by name
    "zoom": int,  # how often the file has each pixel in a row, and each row
}
KEY = "minildm"  # the name of the text in a PNG file that holds a recipe, as JSON
LAYOUT, CLIP = "layout", "clip"  # the shipped networks that put things into boxes


def control(text: str) -> list:
    """NETWORK=FILE or NETWORK=FILE@WEIGHT, as it is typed -> [network, file, weight]. Raises `UserError`."""
    network, equals, file = text.partition("=")
    rest, at, weight = file.rpartition("@")
    try:
        number = float(weight) if at else None
    except ValueError:  # the @ is of the file's name
        number = None
    if number is not None:
        file = rest
    if not (network and equals and file) or not math.isfinite(number or 0):
        raise UserError("control", text, "NETWORK=FILE, say edges=map.png, or with a weight: edges=map.png@0.5")
    return [network, file, 1.0 if number is None else number]


def box(text: str) -> list:
    """CAPTION=LEFT,TOP,RIGHT,BOTTOM, as it is typed -> [caption, left, top, right, bottom]. Raises `UserError`."""
    caption, _, sides = text.rpartition("=")
    numbers = [_number(side) for side in sides.split(",")]
    if not caption.strip() or len(numbers) != 4 or None in numbers:
        wanted = "a caption and four numbers in 0..1 of the frame: 'a small red circle=0.1,0.1,0.4,0.4'"
        raise UserError("layout", text, wanted)
    return [caption.strip(), *numbers]


def check(recipe: dict) -> None:
    """Raises `UserError` for fields that contradict each other or hold what they cannot: a recipe may be anything."""
    for name, kind in FIELDS.items():
        if name in recipe and (not isinstance(recipe[name], kind) or isinstance(recipe[name], bool)):
            raise UserError(name, recipe[name], f"{getattr(kind, '__name__', kind)}")
    for name in ("mask", "strength"):
        if name in recipe and "image" not in recipe:
            raise UserError(name, recipe[name], "nothing without an image; it says what becomes of one")
    if "reconstruction" in recipe and "mask" not in recipe:
        raise UserError("reconstruction", recipe["reconstruction"], "nothing without a mask; it helps to fill a hole")
    shapes = {"control": (str, str, float | int), "layout": (str, *[float | int] * 4)}
    for name, kinds in shapes.items():
        for one in recipe.get(name, []):
            fits = isinstance(one, list) and len(one) == len(kinds)
            if not fits or not all(isinstance(x, kind) for x, kind in zip(one, kinds, strict=True)):
                raise UserError(name, one, "as `minildm picture` writes it")


def hashes(recipe: dict) -> dict[str, str]:
    """A short hash of every file and network that a recipe names, by its name. Raises `UserError` for one not there."""
    found = {}
    for name, file in _files(recipe):
        found[file] = _hash(name, file)
    for network, *_ in recipe.get("control", []):
        found[network] = weights.fingerprint(weights.locate(network))
    for network in (LAYOUT, CLIP) if recipe.get("layout") else ():
        found[network] = weights.fingerprint(weights.locate(network))
    return found


def spare(recipe: dict, out: Path) -> None:
    """Raises `UserError` where the picture to be written would take the place of a file that it is drawn from."""
    for name, file in _files(recipe):
        if is_there(file) and is_there(out) and out.samefile(file):
            raise UserError("out", str(out), f"another name: this is the {name}, which it would take the place of")


def keywords(recipe: dict, pipe: LatentDiffusion) -> dict:
    """The keyword arguments of `tasks.states` that a recipe's further fields stand for.

    Raises `UserError` as `check` does, for files that are no pictures, and for what is no ControlNet.
    """
    check(recipe)
    said: dict = {}
    size, zoom = None, 1
    height = width = pipe.size
    if "image" in recipe:
        large = pictures.read(Path(recipe["image"]))
        image = _as_drawn(recipe["image"], large)
        height, width = image.shape[2:]
        size, zoom = large.shape[2:], large.shape[2] // image.shape[2]
        mask = None if "mask" not in recipe else _fit(pictures.read_mask(Path(recipe["mask"])), size, zoom)
        said = {"image": image, "mask": mask}
        said["strength"] = recipe.get("strength", 0.8 if said["mask"] is None else 1.0)
        said["reconstruction"] = recipe.get("reconstruction", 0.0)
    told = []
    for name, file, weight in recipe.get("control", []):
        net = _network(name, pipe)
        told.append(Hint(net, _fit(_map(net, file), size, zoom), weight))
    if recipe.get("layout"):
        boxes = [hints.Box(*one) for one in recipe["layout"]]
        map_ = hints.layout(weights.load(CLIP), boxes, height, width)
        told.append(Hint(_network(LAYOUT, pipe), map_.to(pipe.device)))
    return said | {"control": told}


def remarks(image: Tensor, pipe: LatentDiffusion) -> str:
    """What is to be said of a picture much larger or smaller than those that the model has learned from; or nothing."""
    height, width = image.shape[2:]
    if max(height, width) < 2 * pipe.size and min(height, width) > pipe.size / 2:
        return ""
    times = height * width // pipe.size**2  # and attention takes longer still
    slow = f"; it takes more than {times:,} times as long as one of those: make it smaller first" if times > 9 else ""
    return f"the picture has {width} x {height} pixels, and the model has learned from {pipe.size} x {pipe.size}{slow}"


def _as_drawn(file: str, image: Tensor) -> Tensor:
    """A picture that `minildm picture` saved has its pixels several times: once is enough. Any other stays as it is.

    How often, its recipe says; where that has no "zoom" yet it is as often as can be.
    Raises `UserError` for a grid of several.
    """
    from PIL import Image

    with Image.open(file) as opened:
        text = getattr(opened, "text", {}).get(KEY)
    try:
        recipe = json.loads(text or "{}")
    except (ValueError, RecursionError):  # a text of that name that is none of ours
        return image
    if not text or not isinstance(recipe, dict):
        return image
    if (count := recipe.get("count", 1)) != 1:
        raise UserError(f"picture {file}", f"a grid of {count} pictures", "one, drawn with --count 1")
    known = recipe.get("zoom")  # of a hand-written recipe it may be anything
    for zoom in [known] if type(known) is int and known > 0 else range(min(image.shape[2:]), 1, -1):
        small = image[..., ::zoom, ::zoom]
        if torch.equal(small.repeat_interleave(zoom, 2).repeat_interleave(zoom, 3), image):
            return small
    return image


def _fit(drawn: Tensor, size: Sequence[int] | None, zoom: int) -> Tensor:
    """What was drawn over the picture as it was saved shrinks with it; its thin lines stay."""
    return F.max_pool2d(drawn, zoom) if drawn.shape[2:] == size else drawn


def _network(name: str, pipe: LatentDiffusion) -> ControlNet:
    net = weights.load(name, pipe.device, pipe.dtype)
    if not isinstance(net, ControlNet):
        raise UserError(f"control network {name}", f"a {type(net).__name__}", "a ControlNet")
    return net


def _map(net: ControlNet, file: str) -> Tensor:
    channels = net.config.conditioning_channels
    if channels not in PICTURES:
        raise UserError("control network", f"one that reads {channels} channels", "one of pictures; see --layout")
    read = pictures.read_mask(Path(file)) if channels == 1 else pictures.read_map(Path(file))
    return read.to(net.conv_in.weight.device, torch.float32)


def _files(recipe: dict) -> list[tuple[str, str]]:
    """The picture files that a recipe names, each with what it is."""
    files = [(name, recipe[name]) for name in ("image", "mask") if name in recipe]
    return files + [("control map", file) for _, file, _ in recipe.get("control", [])]


def _hash(name: str, file: str) -> str:
    if not is_there(file) or not Path(file).is_file():
        where = "" if Path(file).is_absolute() else f", seen from {Path.cwd()}: paths begin in the folder where one is"
        raise UserError(name, file, f"a file that is there{where}")
    return sha256(Path(file))[:12]


def _number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None
