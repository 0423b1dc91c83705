"""What the figures say of the pictures of a run: one set of them for every kind of model."""

from functools import lru_cache

import torch
from torch import Tensor

from .. import metrics, oracle, weights
from ..evaluate import SEED, prompts
from ..scenes import BACKGROUNDS, COLOURS, PLACES, SHAPES, SIZES, Scenes, draw, render

SETS = {"seen": "one", "unseen": "one-unseen"}  # our sets of prompts to those of `evaluate`
REAL = 1000  # pictures of the world that the drawn ones are compared with

# The figures, in the order of the tables, and what is better: more, less, or as much as real pictures have.
FIGURES = {
    "oracle all": "more", "readable": "more", "classifier all": "more", "classifier one": "more", "CLIP score": "more",
    "frechet": "less", "kernel": "less", "precision": "more", "recall": "more", "coverage": "more",
    "density": "as real", "copying": "as real", "diversity": "as real", "detail": "as real",
}  # fmt: skip

SHARES = ("precision", "recall", "coverage")  # of pictures that are hits, of the figures by neighbours


def to_bytes(pictures: Tensor) -> Tensor:
    """Pictures in -1..1 as they are kept: uint8 on the CPU, 0 to 255."""
    return ((pictures.clamp(-1, 1) + 1) * 127.5).round().to("cpu", torch.uint8)


def from_bytes(pictures: Tensor) -> Tensor:
    """The way back from `to_bytes`: float32 in -1..1."""
    return pictures.float() / 127.5 - 1


def judge(drawn: dict) -> dict:
    """The facts of a run with the figures of its pictures instead of these: what `NAME.json` holds.

    "seen" and "unseen" are figures of prompts with pairs of colour and shape that training showed, and that it did
    not; "calls" those by the number of a sampler's steps. Each is (value, low, high).
    """
    pictures = drawn["pictures"]
    facts = {name: value for name, value in drawn.items() if name != "pictures"}
    told = {name: figures(pictures[name], name) for name in SETS}
    calls = {key.split()[1]: figures(value, "seen") for key, value in pictures.items() if key.startswith("calls")}
    return _rounded(facts | told | {"calls": calls})


@torch.no_grad()
def figures(pictures: Tensor, which: str = "seen") -> dict[str, metrics.Figure]:
    """All FIGURES of pictures (n, 3, 32, 32), bytes or -1..1, of the n `prompts` of "seen" or "unseen".

    "classifier one" is the share of shape, colour, size and background that it would choose rightly, "classifier all"
    that of pictures with all four. "detail" is how much neighbouring pixels differ, over how much they do in real
    pictures of the same scenes: below 1 for a blur, above it for noise.

    The intervals of SHARES are Wilson's, which takes the pictures for independent questions. Those of coverage are
    somewhat too narrow and those of recall far too narrow: one made picture answers for many real ones.
    """
    if pictures.dtype == torch.uint8:
        pictures = from_bytes(pictures)
    said, wanted = prompts(SETS[which], len(pictures))
    reader, clip = weights.load("classifier"), weights.load("clip")
    made, world = reader.features(pictures), world_features(which)
    generator = torch.Generator().manual_seed(0)
    near = metrics.neighbours(world["real"], made)
    right = attributes_right(reader(pictures), wanted)
    score = metrics.clip_score(clip.pictures(pictures), clip.prompts(said))
    read = oracle.accuracy(oracle.read(pictures), wanted)
    told = {
        "oracle all": read["all"],
        "readable": read["readable"],
        "classifier all": oracle.wilson(int(right.all(1).sum()), len(pictures)),
        "classifier one": metrics.mean(right.double().mean(1), generator),
        "CLIP score": metrics.mean(score, generator),
        "frechet": metrics.resampled(metrics.frechet, world["real"], made, generator=generator),
        "kernel": metrics.kernel(world["real"], made),
        "copying": metrics.copying(world["train"], world["real"], made, generator),
        "diversity": metrics.diversity(made),
        "detail": metrics.mean(_edges(pictures) / _edges(render(wanted)).mean(), generator),
        "density": metrics.mean(near["density"], generator),
    } | {name: oracle.wilson(int(near[name].sum()), len(near[name])) for name in SHARES}
    return {name: told[name] for name in FIGURES}


def _edges(pictures: Tensor) -> Tensor:
    """How much neighbouring pixels differ: (n, 3, h, w) -> (n,)."""
    return sum(pictures.diff(dim=dim).abs().mean((1, 2, 3)) for dim in (2, 3))


def attributes_right(logits: Tensor, wanted: Scenes) -> Tensor:
    """Is the classifier's first choice of shape, colour, size, background the scene's? (n, QUESTIONS) -> (n, 4) bool.

    Of scenes of one object. Unlike the oracle it always has a first choice, be the picture ever so blurred.
    """
    pairs, kinds, _, grounds, _ = logits.split([len(COLOURS) * len(SHAPES), len(SHAPES) * len(SIZES), len(PLACES),
                                                len(BACKGROUNDS), 1], dim=1)  # fmt: skip
    pair, size = pairs.argmax(1), kinds.unflatten(1, (len(SHAPES), len(SIZES))).amax(1).argmax(1)
    told = [pair % len(SHAPES), pair // len(SHAPES), size, grounds.argmax(1)]
    asked = [wanted.shape[:, 0], wanted.colour[:, 0], wanted.size[:, 0], wanted.background]
    return torch.stack([a == b for a, b in zip(told, asked, strict=True)], 1)


@lru_cache(maxsize=2)
@torch.no_grad()
def world_features(which: str) -> dict[str, Tensor]:
    """Features (REAL, d) of pictures of the world: "real" ones that nobody trained on, and "train"ing ones."""
    from ..runs import UNET_SEED

    reader = weights.load("classifier")

    def features(scenes: Scenes) -> Tensor:
        return reader.features(render(scenes))

    real = draw(REAL, SEED + 50_000, objects=1, held_out=which == "unseen")
    return {"real": features(real), "train": features(draw(REAL, UNET_SEED, objects=1))}


def _rounded(value: object) -> object:
    if isinstance(value, dict):
        return {name: _rounded(part) for name, part in value.items()}
    if isinstance(value, tuple | list):
        return [_rounded(part) for part in value]
    return float(f"{value:.5g}") if isinstance(value, float) else value
