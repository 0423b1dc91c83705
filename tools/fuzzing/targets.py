"""What the random cases are thrown at: a function for each kind of thing that a user hands in.

A function raises `UserError` where a case is refused, `AssertionError` where what comes out is not what was asked for,
and whatever the library raises where it has a bug.
"""

import re
from dataclasses import fields
from pathlib import Path

import tiny
import torch
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from typer.testing import CliRunner

from minildm import cli, clip, control, hints, pictures, tasks, weights
from minildm import given as givens
from minildm.files import UserError
from minildm.unet import UNet, UNetConfig
from minildm.vae import VAE, VAEConfig

FITTING = [None, *[(h, w) for h in (8, 16, 32) for w in (8, 16, 32)]]  # sizes for which a map is made that fits


class Place:
    """The small model, in memory and in a folder, and a folder for what the cases write."""

    def __init__(self, folder):
        self.folder = Path(folder)
        self.pipe = tiny.pipe()
        self.model = weights.save(self.pipe, self.folder / "model")
        self.clip = clip.MiniCLIP(tiny.text(), dim=8).eval().requires_grad_(False)
        like = {field.name: getattr(tiny.UNET, field.name) for field in fields(tiny.UNET)}
        self.control = control.ControlNet(control.ControlNetConfig(**like, embedding_channels=(4, 4, 4))).eval()
        self.image = self.folder / "given.png"
        Image.new("RGB", (16, 12), "red").save(self.image)

    def file(self, given):
        """What the strategies draw for a picture, as it is handed in: (suffix, bytes) becomes a file."""
        if isinstance(given, tuple) and len(given) == 2:
            path = self.folder / f"case{given[0]}"
            path.write_bytes(given[1])
            return path
        return given


def picture(x, size=None):
    """Fails for what is no picture."""
    assert isinstance(x, torch.Tensor) and x.ndim == 4 and x.shape[1] == 3 and x.numel(), "no picture"
    assert torch.isfinite(x).all() and x.abs().max() <= 1 + pictures.SLACK, "values"
    assert size is None or x.shape[2:] == size, f"size {tuple(x.shape)}"


def prompts(place, case):
    case = dict(case)
    height, width, said = case["height"], case["width"], case.pop("control")
    size = None if None in (height, width) or case["noise"] is not None else (height, width)
    if said is not None:
        map_, weight = said
        map_ = torch.rand(1, 3, *(size or (32, 32))) if isinstance(map_, str) and size in FITTING else map_
        case["control"] = [control.Hint(place.control, map_, weight)]
    picture(tasks.text2img(place.pipe, **case, generator=torch.Generator().manual_seed(0)), size)


def images(place, case):
    given = place.file(case[0])
    read = pictures.read(given)
    picture(read)
    if max(read.shape[2:]) < 64:
        picture(tasks.img2img(place.pipe, "red", given, case[1], steps=2, scale=1), read.shape[2:])


def masks(place, case):
    image, mask, fit, task, more, strength = case
    image, mask = place.file(image), place.file(mask)
    if fit and isinstance(image, Image.Image):
        mask = Image.linear_gradient("L").resize(image.size)
    if task == "inpaint":
        picture(tasks.inpaint(place.pipe, "red", image, mask, strength, steps=2, scale=1))
    elif task == "outpaint":
        picture(tasks.outpaint(place.pipe, "red", image, *more, strength=strength, steps=1, scale=1))
    elif task == "upscale":
        picture(tasks.upscale(place.pipe, "red", image, more[0], strength, steps=2, scale=1))
    elif task == "vary":
        picture(tasks.vary(place.pipe, image, strength, steps=2))
    else:
        read = pictures.read_mask(mask)
        assert read.shape[1] == 1 and read.min() >= 0 and read.max() <= 1, "no mask"


def boxes(place, case):
    kind, value = case
    if kind == "box":
        givens.check({"layout": [givens.box(value)]})
    elif kind == "control":
        givens.check({"control": [givens.control(value)]})
    elif kind == "layout":
        made = hints.layout(place.clip, value, 12, 16)
        assert made.shape == (1, 8, 12, 16) and torch.isfinite(made).all()
    else:
        givens.check(value)


def shapes(place, case):
    """Configs: by hand, and as a published file says them. Networks are made without memory ("meta")."""
    kind, config = case
    with torch.device("meta"):
        if kind == "unet":
            net = UNet(UNetConfig(**config))
            told = net.config
            context = None if told.context_dim is None else torch.zeros(1, 3, told.context_dim)
            added = None if told.added_dim is None else torch.zeros(1, told.added_dim)
            label = None if told.num_class_embeds is None else torch.zeros(1, dtype=torch.long)
            x = net(torch.zeros(1, told.in_channels, 9, 8), torch.zeros(1), context, added, label)
            assert x.shape == (1, told.out_channels, 9, 8)
        elif kind == "vae":
            net = VAE(VAEConfig(**config))
            side = net.config.downscale
            mean, _ = net.encode(torch.zeros(1, net.config.in_channels, 2 * side, side))
            assert mean.shape == (1, net.config.latent_channels, 2, 1)
            assert net.decode(mean).shape == (1, net.config.out_channels, 2 * side, side)
        else:
            place.pipe.latent_shape(*config)


def folders(place, case):
    """A model's folder of which one file was changed."""
    name, change = case
    path = place.model / name
    before = path.read_bytes()
    try:
        path.write_bytes(change(before))
        weights.load(place.model)
        weights.inspect(place.model)
    finally:
        path.write_bytes(before)


def commands(place, words):
    line([word.replace("MODEL", str(place.model)).replace("IMAGE", str(place.image))
          .replace("OUT", str(place.folder / "out.png")) for word in words])  # fmt: skip


def recipes(place, case):
    text, how = case
    path, info = place.folder / "recipe.png", PngInfo()
    info.add_itxt(givens.KEY, text.replace('"model": ""', f'"model": "{place.model}"').encode("utf-8", "replace"))
    Image.new("RGB", (8, 8)).save(path, pnginfo=info)
    if how == "change":
        more = ["--model", place.model, "--steps", 1, "--count", 1]
        line(["picture", "red", "--image", path, "--out", place.folder / "changed.png", *more])
    else:
        line(["recipe", path, *(["--again", "--out", place.folder / "again.png"] if how == "again" else [])])


def line(words):
    """A command line, as typer runs it: raises `UserError` where it was refused in one line and with code 2."""
    done = CliRunner().invoke(cli.app, [str(word) for word in words])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    # A slow machine also shows a bar, which is wiped out again.
    told = [one for one in re.split("[\r\n]", done.stderr) if one.strip() and "% |" not in one]
    lines = [one for one in told if not one.startswith("warning: ")]
    if done.exit_code == 2:
        assert len(lines) == 1 and lines[0].startswith("error: "), done.stderr
        raise UserError("command", lines[0], "another")
    assert done.exit_code == 0 and not lines, (done.exit_code, done.stderr)
