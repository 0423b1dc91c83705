"""What a training on one's own pictures can be told: dataclasses, and settings such as "unet.heads=4,4" for them."""

import dataclasses
import math
import types
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ..files import UserError


@dataclass(frozen=True)
class Training:
    """What both trainings have. Raises `UserError` for a value out of its range."""

    size: int = 64  # side of a square picture in pixels; others get about its area
    batch: int = 16  # pictures in a step
    steps: int = 3000
    lr: float = 1e-3  # the peak of the learning rate
    ema: float = 0.998  # of the average of the weights, which is what is saved
    held_out: float = 0.05  # share of the pictures that is never trained on
    flips: bool = False  # show half of the pictures mirrored; not where a caption says left, or letters are seen
    samples: int = 10  # sheets of pictures on the way
    bf16: bool | None = None  # compute in bfloat16; none: on a GPU alone. On a CPU these small batches are slower in it

    def __post_init__(self):
        for name, least, most in RANGES:
            value = getattr(self, name, least)
            if not least <= value <= most:
                raise UserError(name, value, f"a number from {least:g}" + (f" to {most:g}" if most < math.inf else ""))


@dataclass(frozen=True)
class LatentTraining(Training):
    """Of a text-to-picture model."""

    unsaid: float = 0.1  # share of the captions left out, so that the model can also draw without one
    noisy: float = 0.0  # share of the noise levels drawn from the noisiest quarter alone
    prediction: str = "v"  # what the network answers: v, x0 or flow; eps says nothing at the noisiest level

    def __post_init__(self):
        super().__post_init__()
        if self.prediction not in ANSWERS:
            raise UserError("prediction", self.prediction, "one of " + ", ".join(ANSWERS))


@dataclass(frozen=True)
class VAETraining(Training):
    """Of an autoencoder."""

    batch: int = 8  # more steps of fewer pictures came nearer in the same time
    steps: int = 1500
    kl_weight: float = 0.001  # of the KL term beside the squared error


@dataclass(frozen=True)
class TextConfig:
    """The text tower that is trained along, see `text.Text.tiny`."""

    width: int = 128
    layers: int = 2
    heads: int = 4


ANSWERS = ("v", "x0", "flow")
RANGES = [  # name, least, most
    ("batch", 1, math.inf), ("steps", 1, math.inf), ("lr", 0, 1), ("ema", 0, 0.99999), ("held_out", 0, 0.5),
    ("samples", 0, 1000), ("unsaid", 0, 1), ("noisy", 0, 1), ("kl_weight", 0, math.inf),
]  # fmt: skip


def names(configs: Mapping[str, object]) -> list[str]:
    """The names of all settings: of the dataclass "training" as they are, of others as "unet.heads"."""
    return [field.name if part == "training" else f"{part}.{field.name}"
            for part, config in configs.items() for field in dataclasses.fields(config)]  # fmt: skip


def told(value: object) -> str:
    """A value as it is written in a setting."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return ",".join(map(told, value)) if isinstance(value, tuple) else "none" if value is None else str(value)


def changed(configs: Mapping[str, object], settings: Sequence[str]) -> dict[str, object]:
    """The dataclasses with these settings, texts NAME=VALUE, the last of a name counts.

    Values are read as the field's type says: numbers, yes or no, text, None where that is allowed, several with commas.
    Raises `UserError` for an unknown name, which lists the valid ones, and for a value of another type.
    """
    wanted: dict[str, dict[str, object]] = {part: {} for part in configs}
    for setting in settings:
        name, found, text = setting.partition("=")
        part, _, field = name.strip().rpartition(".")
        part = part or "training"
        kinds = typing.get_type_hints(type(configs[part])) if part in configs else {}
        if not found or field not in kinds:
            raise UserError("set", setting, "NAME=VALUE with one of " + ", ".join(names(configs)))
        wanted[part][field] = _value(name.strip(), text.strip(), kinds[field])
    return {part: dataclasses.replace(config, **wanted[part]) for part, config in configs.items()}


def _value(name: str, text: str, kind: object) -> object:
    if isinstance(kind, types.UnionType):
        kinds = typing.get_args(kind)
        if types.NoneType in kinds and text.lower() == "none":
            return None
        kind = next(one for one in kinds if one is not types.NoneType)
    if typing.get_origin(kind) is tuple:
        each = typing.get_args(kind)[0]
        return tuple(_value(name, one.strip(), each) for one in text.strip("()").split(",") if one.strip())
    told = {bool: "yes or no", int: "a whole number", float: "a number", str: "text"}[kind]
    try:
        if kind is bool:
            return {"yes": True, "true": True, "1": True, "no": False, "false": False, "0": False}[text.lower()]
        value = kind(text)
        if kind is float and not math.isfinite(value):
            raise ValueError
    except (ValueError, KeyError) as error:
        raise UserError(name, text, told) from error
    return value
