"""How good a model is, in figures: what the oracle reads in its pictures, against what the prompts asked for.

The prompts are drawn by the grammar with every attribute named, a quarter of them in sentence forms that no
training caption has. Each gets one picture, and none is picked out or left away. Only where a model is to complete a
picture (`edits.completed`) it draws several, by a sampler and a scale of its own, and picks one out itself.
"""

import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from . import data, edits, oracle
from .clip import MiniCLIP
from .control import ControlNet, Hint
from .features import Classifier, questions
from .files import UserError
from .pipe import LatentDiffusion
from .scenes import Scenes, captions, draw, place, render
from .scenes.negatives import false_captions
from .tasks import text2img
from .train import device_of
from .vae import VAE, FlatVAE, kl_divergence
from .weights import load

SETS = {"one": (1, False), "two": (2, False), "one-unseen": (1, True), "two-unseen": (2, True)}
SEED = 700_000  # far from every seed that a training run or a data set draws its scenes from
ATTRIBUTES = ("all", "shape", "colour", "size", "background", "count", "place", "relation", "readable")

Share = tuple[float, float, float]  # a share and its 95% interval
Figures = dict[str, float | Share]
Each = Callable[[int, int], object]  # called with how many pictures are done, and of how many


def evaluate(
    model: nn.Module,
    n: int = 1000,
    *,
    steps: int = 25,
    scale: float = 3.0,
    sampler: str = "ddim",
    seed: int = 0,
    batch: int = 100,
    sets: Sequence[str] | None = None,
    each: Each | None = None,
) -> dict[str, Figures]:
    """The figures of a model by set, n pictures in each: {"one": {"all": (share, low, high), ...}, ...}.

    A `LatentDiffusion` is asked for the prompts of `sets` (by default all of SETS), see `pictured`, or to do what
    the `edits.EDITS` among them say; without a text tower only "readable" is counted. An upscaler enlarges scenes, a
    `ControlNet` steers the shipped "shapes" along edges or into boxes: see `edits`. A `VAE` takes scenes there and back
    ("seen", "unseen"), a `FlatVAE` the digits, a `MiniCLIP` compares true captions with almost true ones, and a
    `Classifier` names what is in scenes or digits; these have no use for steps, scale and sampler. Only what draws from
    prompts has sets. Raises `UserError` for another model, an unknown set, n or batch below 1, and as `text2img` does.
    """
    for name, value in (("n", n), ("batch", batch)):
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise UserError(name, value, "a whole number above 0")
    own = edits.of(model)  # what a model can do that draws nothing from prompts alone
    if sets is not None and (own or not (isinstance(model, LatentDiffusion) and model.text)):
        raise UserError("sets", sets, "none: only a model that draws from prompts has any")
    if isinstance(model, VAE):
        return {name: _there_and_back(model, n, seed, held, batch) for name, held in _SEEN.items()}
    if isinstance(model, FlatVAE):
        return {"digits": _digits(model)}
    if isinstance(model, MiniCLIP):
        return {name: _told_apart(model, n, seed, SETS[name][0], batch) for name in ("one", "two")}
    if isinstance(model, Classifier):
        if model.channels == 1:
            return {"digits": _digits_named(model)}
        return {name: _named(model, n, seed, held, batch) for name, held in _SEEN.items()}
    if not isinstance(model, LatentDiffusion | ControlNet):
        kinds = "LatentDiffusion, ControlNet, VAE, FlatVAE, MiniCLIP or Classifier"
        raise UserError("model", type(model).__name__, kinds)
    sets = own or (["unprompted"] if model.text is None else list(SETS if sets is None else sets))
    if unknown := [name for name in sets if name not in (*SETS, *edits.MEASURES, "unprompted")]:
        raise UserError("set", unknown[0], "one of " + ", ".join([*SETS, *edits.EDITS]))
    total = n * sum(edits.drawings(name) for name in sets)
    done = 0

    def drawn(task: Callable[..., Tensor], pipe: LatentDiffusion, said: Sequence[str], *given: object,
              control: Sequence[Hint] = (), **more: object) -> Tensor:  # fmt: skip
        """The pictures of a task, some at a time: what is a tensor is cut as the prompts are."""
        nonlocal done
        made, fresh = [], torch.Generator().manual_seed(seed)
        options = {"steps": steps, "scale": scale, "sampler": sampler, "generator": fresh} | more

        def some(value: object) -> object:
            return value[part] if isinstance(value, Tensor) else value

        for i in range(0, n, batch):
            part = slice(i, i + batch)
            held = {"control": [hint._replace(map=hint.map[part]) for hint in control]} if control else {}
            now = {name: some(value) for name, value in options.items()}
            made.append(task(pipe, said[part], *map(some, given), **now, **held).cpu())
            done += len(made[-1])
            if each:
                each(done, total)
        return torch.cat(made)

    figures = {}
    for name in sets:
        started = time.perf_counter()
        if name in edits.MEASURES:
            row = edits.MEASURES[name](model, n, drawn, seed)
        else:
            said, wanted = ([""] * n, None) if model.text is None else prompts(name, n, seed)
            noise = torch.randn(n, *model.latent_shape(), generator=torch.Generator().manual_seed(seed))
            row = pictured(drawn(text2img, model, said, noise=noise), wanted)
        figures[name] = row | {"seconds": time.perf_counter() - started}
    return figures


_SEEN = {"seen": False, "unseen": True}


def figures(source: str | Path, n: int = 1000, **options: object) -> dict[str, dict[str, float | list[float]]]:
    """What `evaluate` says of a folder or a shipped model, on the CPU, for a JSON file: rounded to 4 decimals."""

    def rounded(value: float | Share) -> float | list[float]:
        return [round(part, 4) for part in value] if isinstance(value, tuple) else round(value, 4)

    table = evaluate(load(source), n, **options)
    return {name: {key: rounded(value) for key, value in row.items()} for name, row in table.items()}


def prompts(name: str, n: int = 1000, seed: int = 0) -> tuple[list[str], Scenes]:
    """The first n prompts of a set and the scenes they describe; the last quarter is in held-out forms.

    Set "one" has one object, "two" two; "-unseen" says that one object's colour and shape are a pair never
    seen together in training. A one-object prompt states the place where that is beyond doubt, which is in
    half of them. Raises `UserError` for an unknown set.
    """
    if name not in SETS:
        raise UserError("set", name, "one of " + ", ".join(SETS))
    objects, held_out = SETS[name]
    seed += SEED + 1000 * list(SETS).index(name)
    scenes = draw(n, seed, objects=objects, held_out=held_out)
    usual = n - n // 4
    said = captions(scenes[:usual], seed, full=True)
    said += captions(scenes[usual:], seed, usual, full=True, forms="held_out")
    return said, scenes


def pictured(pictures: Tensor, wanted: Scenes | None = None) -> Figures:
    """What the oracle reads in pictures (n, 3, h, w) in -1..1, against the scenes that `prompts` gave.

    Shares with their 95% intervals: each of ATTRIBUTES, where "all" is what counts and "place" and "relation"
    are shares of the prompts that state them; "wrong binding" and "wrong relation" are `oracle.errors`; "held-out
    forms" is "all" in the last quarter. "spread x" and "spread y": see `spread`. Without wanted scenes only
    "readable" is told.
    """
    reading = oracle.read(pictures)
    if wanted is None:
        return {"readable": oracle.wilson(int(reading.readable.sum()), len(reading))}
    shares = oracle.accuracy(reading, wanted)
    figures: Figures = {name: shares[name] for name in ATTRIBUTES if name in shares}
    figures |= {f"wrong {name}": share for name, share in oracle.errors(reading, wanted).items()}
    quarter = len(pictures) // 4
    if quarter:
        right = oracle.matches(reading, wanted)["all"][-quarter:]
        figures["held-out forms"] = oracle.wilson(int(right.sum()), quarter)
    return figures | spread(reading, wanted)


def spread(reading: oracle.Reading, wanted: Scenes) -> Figures:
    """How much places differ between pictures, as a part of how much they do in the data: 1 is right.

    The standard deviation, x and y, of the centre of all objects, over the readable pictures of the prompts
    that leave open where that is (one object without a place; two objects), divided by that of the scenes
    from which these prompts were drawn. A model that has collapsed draws them all in one place: 0.
    Nothing where fewer than two pictures are of that kind.
    """
    got = reading.scenes
    open_place = (wanted.count == 2) | (place(wanted)[:, 0] < 0)
    kept = open_place & reading.readable & (got.count == wanted.count)
    if kept.sum() < 2:
        return {}

    def deviation(where: Tensor) -> Tensor:
        return (where.sum(1) / wanted.count)[kept].std()  # an absent object lies at 0 and adds nothing

    ratio = {name: deviation(getattr(got, name)) / deviation(getattr(wanted, name)) for name in ("x", "y")}
    return {f"spread {name}": value.item() for name, value in ratio.items()}


def psnr(error: float, peak: float = 2.0) -> float:
    """A mean squared error in decibels below the square of the range, here 2 for values in -1..1."""
    return math.inf if error == 0 else 10 * math.log10(peak**2 / error)


@torch.no_grad()
def _there_and_back(vae: VAE, n: int, seed: int, held_out: bool, batch: int) -> Figures:
    """Scenes through the encoder's mean and the decoder: PSNR of the mean error, and the oracle's reading."""
    scenes = draw(n, seed + SEED, held_out=held_out)
    pictures = render(scenes)
    device = device_of(vae)
    back = torch.cat([vae.decode(vae.encode(x.to(device))[0]).cpu() for x in pictures.split(batch)])
    back = back.clamp(-1, 1)
    shares = oracle.accuracy(oracle.read(back), scenes)
    figures: Figures = {name: shares[name] for name in ATTRIBUTES if name in shares}
    return figures | {"PSNR in dB": psnr((back - pictures).square().mean().item())}


@torch.no_grad()
def _digits(vae: FlatVAE) -> Figures:
    """The test digits through the encoder's mean and the decoder."""
    pictures = data.digits("test")[0].to(device_of(vae))
    mean, logvar = vae.encode(pictures)
    error = (vae.decode(mean) - pictures).square().mean().item()
    kl = kl_divergence(mean, logvar).mean().item()
    return {"squared error": error, "PSNR in dB": psnr(error), "KL in nats": kl}


@torch.no_grad()
def _told_apart(clip: MiniCLIP, n: int, seed: int, objects: int, batch: int) -> Figures:
    """How often a picture is nearer to its caption than to each of four captions with one fact changed."""
    hits = pairs = 0
    device = device_of(clip)
    for start in range(0, n, batch):
        scenes = draw(min(batch, n - start), seed + SEED, start, objects)
        true = captions(scenes, seed + SEED, start, full=True)
        false = false_captions(scenes, seed + SEED, start, full=True, count=4)
        texts = clip.prompts(true + [text for row in false for text in row])
        images = clip.pictures(render(scenes).to(device))
        near = (images * texts[: len(true)]).sum(1, keepdim=True)  #                   (b, 1)
        others = torch.einsum("bd,bkd->bk", images, texts[len(true) :].unflatten(0, (-1, 4)))
        hits += int((near > others).all(1).sum())
        pairs += int((near > others).sum())
    return {"beats all four": oracle.wilson(hits, n), "beats one": oracle.wilson(pairs, 4 * n)}


@torch.no_grad()
def _named(model: Classifier, n: int, seed: int, held_out: bool, batch: int) -> Figures:
    """How often every question about a scene is answered rightly, and how often one is."""
    scenes = draw(n, seed + SEED, held_out=held_out)
    device = device_of(model)
    answers = torch.cat([model(x.to(device)).cpu() for x in render(scenes).split(batch)]) > 0
    right = answers == questions(scenes).bool()
    return {"all": oracle.wilson(int(right.all(1).sum()), n), "one": oracle.wilson(int(right.sum()), right.numel())}


@torch.no_grad()
def _digits_named(model: Classifier) -> Figures:
    pictures, labels = data.digits("test")
    hits = model(pictures.to(device_of(model))).argmax(1).cpu() == labels
    return {"right": oracle.wilson(int(hits.sum()), len(hits))}
