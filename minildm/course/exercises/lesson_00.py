"""Lesson 00, the first picture: a sentence that is half right."""

from collections.abc import Callable
from functools import cache

import torch

from ... import oracle, scenes, tasks, weights
from ...pipe import LatentDiffusion
from ...scenes.captions import split
from ...scenes.words import SIZE_WORDS
from . import Exercise, Wrong, seeded, told

STEPS, SCALE, SLIPS = 10, 3.0, 2  # slips: how many good sentences the model may fail to draw
KINDS = {"size": scenes.SIZES, "colour": scenes.COLOURS, "shape": scenes.SHAPES, "background": scenes.BACKGROUNDS}
MEANS = {word: size for size, words in SIZE_WORDS.items() for word in words}
NOT = {"not", "no", "without", "never", "except", "isn't", "non"}

# Every shape, colour, size and background is wanted at least once, so no word is always something else.
WANTED = [
    dict(zip(KINDS, words.split(), strict=True))
    for words in (
        "large red circle white", "small blue star black", "large green ring beige", "small orange square grey",
        "large pink triangle black", "small purple cross white", "large yellow star grey", "small brown circle beige",
    )
]  # fmt: skip

NEGATION = (
    "The model does not understand a “not”. It learned from sentences that say what IS in a picture, and it draws "
    "what the words name, behind a “not” as well. Name something else instead."
)
NOTHING = "For this scene it ends without a `return`. Is there an `if` that fits the example alone?"
UNKNOWN = (
    "The model never read that word, so nobody can tell what it draws for it. Take words of its small world: "
    "`scenes.COLOURS`, `scenes.SHAPES`, `scenes.BACKGROUNDS` and `scenes.SIZES` hold them."
)
SAME = (
    "This sentence is the same for every wanted scene. Build it from what you are given: `wanted['colour']` is the "
    "colour that is wanted, and `f\"a {wanted['size']} ...\"` puts words together."
)
EVERYTHING = "All four are named as they are wanted, so all four come out right. Two of them should be something else."
SWAPPED = (
    "What you put in its place is just what is wanted here. No word is always something else: look at `wanted` first, "
    "then choose, as in `\"star\" if wanted['shape'] != \"star\" else \"ring\"`."
)
SYNONYM = "“{}” and “{}” are the same size in other words, so nothing has changed by it. There are only two sizes."
ONE_CHANGED = "Only one of the four is something else. Choose a second one."
MORE_CHANGED = "Too much has changed. Two of the four have to stay as they are wanted."
LEFT_OPEN = (
    "The sentence names no {}. What it leaves open the noise decides, and that is right in one picture and wrong in "
    "the next. Name all four, two of them as something else."
)
TWO_OBJECTS = (
    "One object is wanted, and here are two. That one of two OBJECTS is right does not make two of four attributes "
    "right. Write of one object, two of its words as wanted and two not."
)
MIXED = "The sentence names more than one {}, and nobody can tell which the model takes. One of each kind, please."
ORDER = (
    "Its words are half right, but the model cannot read them in this order. It knows sentences such as “a large red "
    "circle on a white background”."
)


@cache
def model() -> LatentDiffusion:
    return weights.load("shapes")


def named(prompt: str) -> dict[str, list[str]]:
    """What a sentence names of each kind; sizes by their usual words."""
    words = [MEANS.get(word, word) for word in split(prompt)]
    return {kind: [word for word in words if word in choice] for kind, choice in KINDS.items()}


def is_half_right(wanted: dict[str, str], prompt: str) -> bool:
    """Whether the words alone are so: one of each kind, two of them as wanted."""
    said = named(prompt)
    return all(len(words) == 1 for words in said.values()) and sum(said[kind] == [wanted[kind]] for kind in KINDS) == 2


def in_words(wanted: dict[str, str]) -> str:
    return "a {size} {colour} {shape} on {background}".format(**wanted)


def sentences(fn: Callable) -> list[str]:
    found = []
    for wanted in WANTED:
        prompt = fn(dict(wanted))
        call = f"For {in_words(wanted)} your function"
        if not isinstance(prompt, str):
            raise Wrong(f"{call} gives {told(prompt)}; a sentence is wanted, a str", NOTHING if prompt is None else "")
        strange = dict(scenes.unknown_words(prompt))
        refused = [word for word in strange if word in NOT]
        if strange:
            word = (refused or [*strange])[0]
            known = f" (but “{strange[word][0]}”)" if strange[word] and not refused else ""
            what = f"{call} writes “{prompt}”, and the model does not know “{word}”{known}"
            raise Wrong(what, NEGATION if refused else UNKNOWN)
        found.append(prompt)
    return found


def why(wanted: dict[str, str], prompt: str, every: list[str]) -> str:
    """The hint for a sentence that is not half right."""
    said = named(prompt)
    right = sum(said[kind] == [wanted[kind]] for kind in KINDS)
    other = [word for word in split(prompt) if MEANS.get(word, word) != word]
    if len(set(every)) == 1:
        return SAME
    if len(said["shape"]) > 1:
        return TWO_OBJECTS
    for kind, words in said.items():
        if len(words) != 1:
            return (MIXED if words else LEFT_OPEN).format(kind)
    if right > 2 and other and said["size"] == [wanted["size"]]:
        return SYNONYM.format(wanted["size"], other[0])
    if right > 2 and any(map(is_half_right, WANTED, every)):
        return SWAPPED
    return {4: EVERYTHING, 3: ONE_CHANGED, 2: ORDER}.get(right, MORE_CHANGED)


def draws_half_of_it(fn: Callable) -> None:
    prompts = sentences(fn)
    shape = model().latent_shape()
    starts = [torch.randn(shape, generator=seeded(i)) for i in range(len(prompts))]
    pictures = tasks.text2img(model(), prompts, steps=STEPS, scale=SCALE, noise=torch.stack(starts))
    reading, failed = oracle.read(pictures), []
    for i, (wanted, prompt) in enumerate(zip(WANTED, prompts, strict=True)):
        seen = oracle.describe(reading, i)
        right = [kind for kind in KINDS if wanted[kind] in split(seen)]
        if len(right) != 2 or reading.scenes.count[i] != 1:
            what = f"Wanted is {in_words(wanted)}, and you write “{prompt}”. The oracle reads “{seen}”"
            what += f": {len(right)} of 4 are right" + (f" ({', '.join(right)})" if right else "")
            failed.append((is_half_right(wanted, prompt), what, why(wanted, prompt, prompts)))
    failed.sort(key=lambda one: one[0])  # what the model did comes after what the sentence says
    if failed and (not failed[0][0] or len(failed) > SLIPS):
        raise Wrong(*failed[0][1:])


EXERCISES = (
    Exercise("00.half_right", (
        "Keep two of the four words, replace two, and put all four into a sentence the model knows: “a large red "
        "circle on a white background”.",
        "`wanted[\"size\"]` is the wanted size. Another one is `\"small\" if wanted[\"size\"] == \"large\" else "
        "\"large\"`; so too for a colour, a shape or a background.",
        "With `size` and `colour` chosen so: `return f\"a {size} {colour} {wanted['shape']} on a "
        "{wanted['background']} background\"`.",
    ), (draws_half_of_it,), seconds=15.0),  # most of it for loading the model, the first time
)  # fmt: skip
