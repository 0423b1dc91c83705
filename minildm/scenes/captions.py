"""English sentences for scenes: a grammar small enough to list, with paraphrases.

A caption states only what holds beyond doubt (world.relation and world.place say when). Each kind of
caption has sentence forms for training and others, made of the same words, that no training caption uses:
they tell whether a model learned the words or the sentences.
"""

import difflib
import re

from ..draws import uniforms
from .words import BACKGROUNDS, COLOURS, RELATIONS, SHAPES, SIZE_WORDS, SIZES
from .world import place, relation

# {a}, {b}: an object with its article; {at}: a place; {is_at}: how a lies to b; {there}: the same, with b
# named before a; {ground}: the background's colour.
ONE = (
    "{a} on a {ground} background",
    "there is {a} on a {ground} background",
    "a {ground} background with {a}",
    "a picture of {a} on a {ground} background",
    "{a} on {ground}",
    "a {ground} background behind {a}",
    "{a} in front of a {ground} background",
    "a {ground} background, and on it {a}",
    "there is {a} on {ground}",
    "a {ground} picture with {a} on it",
)
ONE_PLACED = (
    "{a} {at} of a {ground} background",
    "{a} {at} on a {ground} background",
    "a {ground} background with {a} {at}",
    "there is {a} {at} of a {ground} background",
    "a picture of {a} {at} on {ground}",
    "{a} on a {ground} background, {at}",
    "{a} on {ground}, {at}",
    "a {ground} picture with {a} {at}",
)
TWO = (
    "{a} {is_at} {b} on a {ground} background",
    "there is {a} {is_at} {b} on a {ground} background",
    "a {ground} background with {a} {is_at} {b}",
    "{b} with {a} {there} on a {ground} background",
    "a picture of {a} {is_at} {b} on {ground}",
    "{a} {is_at} {b} on {ground}",
    "{b} on a {ground} background with {a} {there}",
    "a {ground} background behind {a} {is_at} {b}",
    "a {ground} background, and on it {a} {is_at} {b}",
    "a {ground} picture with {a} {is_at} {b}",
)
# Without the background.
ONE_BARE = ("{a}", "there is {a}", "a picture of {a}", "a picture with {a} on it")
ONE_PLACED_BARE = ("{a} {at}", "there is {a} {at}", "a picture of {a}, {at}", "a picture with {a} {at}")
TWO_BARE = (
    "{a} {is_at} {b}",
    "there is {a} {is_at} {b}",
    "{b} with {a} {there}",
    "a picture of {a} {is_at} {b}",
)

# Never in training.
ONE_HELD_OUT = (
    "on a {ground} background, there is {a}",
    "there is a {ground} background behind {a}",
    "a picture with a {ground} background and {a}",
    "on {ground}, {a}",
    "{a} with a {ground} background behind it",
)
ONE_PLACED_HELD_OUT = (
    "{at} of a {ground} background, there is {a}",
    "on a {ground} background, {a} {at}",
    "there is a {ground} background with {a} {at}",
    "on {ground} there is {a} {at}",
    "{at}, {a} on {ground}",
)
TWO_HELD_OUT = (
    "on a {ground} background, there is {a} {is_at} {b}",
    "{is_at} {b} there is {a}, on a {ground} background",
    "there is a {ground} background behind {b} with {a} {there}",
    "on {ground}, {b} with {a} {there}",
    "a picture with a {ground} background and {a} {is_at} {b}",
)

PLACE_PHRASES = {  # for each of PLACES, in its order
    "top left": ("in the top left", "at the top left"),
    "top": ("at the top",),
    "top right": ("in the top right", "at the top right"),
    "left": ("on the left", "at the left"),
    "centre": ("in the centre", "in the middle"),
    "right": ("on the right", "at the right"),
    "bottom left": ("in the bottom left", "at the bottom left"),
    "bottom": ("at the bottom",),
    "bottom right": ("in the bottom right", "at the bottom right"),
}
RELATION_PHRASES = {  # for each of RELATIONS, in its order: said before the other object, and after it
    "left of": (("to the left of", "left of"), "to its left"),
    "right of": (("to the right of", "right of"), "to its right"),
    "above": (("above",), "above it"),
    "below": (("below",), "below it"),
}
SWAPPED = (1, 0, 3, 2)  # the relation of object 1 to object 0, as an index into RELATIONS

# How often a training caption names what it may leave out. Colour and shape are always named.
SAYS_BACKGROUND, SAYS_SIZE = 0.85, 0.80
SAYS_PLACE = 0.60  # of the one-object scenes whose place is beyond doubt, about half: so in 0.3 of them all
DRAWS = 10  # random numbers a caption
SALT = 7_919  # else one seed would choose a scene and its words by the same numbers

_SHAPES, _COLOURS, _SIZES, _GROUNDS = list(SHAPES), list(COLOURS), list(SIZES), list(BACKGROUNDS)
_PLACES, _RELATIONS = list(PLACE_PHRASES.values()), [RELATION_PHRASES[name] for name in RELATIONS]


def _words():
    """Every word that a caption can hold."""
    phrases = [*_SHAPES, *_COLOURS, *_GROUNDS, "a", "an"]
    for forms in (ONE, ONE_PLACED, TWO, ONE_BARE, ONE_PLACED_BARE, TWO_BARE):
        phrases += [re.sub(r"{\w+}", " ", form) for form in forms]
    for synonyms in (*SIZE_WORDS.values(), *_PLACES):
        phrases += synonyms
    for before, after in _RELATIONS:
        phrases += [*before, after]
    return frozenset(split(" ".join(phrases)))


def split(text):
    """The words of a text, in lower case and without punctuation."""
    return re.findall(r"[^\W_]+(?:'[^\W_]+)*", text.lower())


WORDS = _words()


def unknown_words(prompt):
    """The words of a prompt that no caption uses, with the nearest that some do: [(word, [known, ...]), ...].

    Every word appears once, in the order of the prompt; its list holds at most three known words, nearest
    first, by the ratio of Python's difflib (0.6 or more).
    """
    strange = dict.fromkeys(word for word in split(prompt) if word not in WORDS)
    known = sorted(WORDS)
    return [(word, difflib.get_close_matches(word, known, n=3, cutoff=0.6)) for word in strange]


def _one_of(choices, u):
    return choices[int(u * len(choices))]


def _object(colour, shape, size, u):
    """An object with its article; size None leaves the size out, u chooses among the words for it."""
    words = [_COLOURS[colour], _SHAPES[shape]]
    if size is not None:
        words.insert(0, _one_of(SIZE_WORDS[_SIZES[size]], u))
    article = "an" if words[0][0] in "aeiou" else "a"
    return " ".join([article, *words])


def captions(scenes, seed=0, start=0, full=False, forms="train"):
    """One sentence for each scene: a list of n strings, the i-th from its scene and (seed, start + i) alone.

    full: False leaves the background, the sizes and the place out now and then; True names all there is to
    say: sizes, colours, shapes, background, the relation of two objects, and the place of one where it is
    beyond doubt, which is so for half of the one-object scenes that draw makes.
    forms: "train", or "held_out" for sentence forms that no training caption has (these always name the
    background).
    Raises ValueError if forms is neither, or if two objects stand in no certain relation (no drawn ones do).
    """
    if forms not in ("train", "held_out"):
        raise ValueError(f"forms: got {forms!r}; expected 'train' or 'held_out'")
    numbers = uniforms(seed + SALT, start, len(scenes), DRAWS).tolist()
    columns = (scenes.shape, scenes.colour, scenes.size, scenes.background, relation(scenes), place(scenes))
    rows = zip(*(column.tolist() for column in columns), numbers, strict=True)
    return [_caption(*row, full, forms == "held_out") for row in rows]


def _caption(shape, colour, size, ground, related, placed, u, full, held_out):
    """The caption of one scene; the arguments are its row of each array, and u its random numbers."""
    two = shape[1] >= 0
    sized = [full or value < SAYS_SIZE for value in u[:2]]
    objects = [_object(colour[i], shape[i], size[i] if sized[i] else None, u[2 + i]) for i in range(1 + two)]
    grounded = full or held_out or u[4] < SAYS_BACKGROUND
    parts = {"ground": _GROUNDS[ground]}
    if two:
        first = int(u[5] < 0.5)
        parts |= {"a": objects[first], "b": objects[1 - first]}
        if related < 0:
            raise ValueError("scenes: got two objects in no certain relation; expected one of RELATIONS")
        before, after = _RELATIONS[SWAPPED[related] if first else related]
        parts |= {"is_at": _one_of(before, u[6]), "there": after}
        form = TWO_HELD_OUT if held_out else TWO if grounded else TWO_BARE
    else:
        parts["a"] = objects[0]
        if placed[0] >= 0 and (full or u[7] < SAYS_PLACE):
            parts["at"] = _one_of(_PLACES[placed[0]], u[8])
            form = ONE_PLACED_HELD_OUT if held_out else ONE_PLACED if grounded else ONE_PLACED_BARE
        else:
            form = ONE_HELD_OUT if held_out else ONE if grounded else ONE_BARE
    return _one_of(form, u[9]).format(**parts)
