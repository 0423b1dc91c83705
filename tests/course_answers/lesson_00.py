"""Answers to the exercise of lesson 00."""

import random

# 00.half_right


def half_by_choice(wanted):
    shape = "star" if wanted["shape"] != "star" else "ring"
    ground = "black" if wanted["background"] != "black" else "white"
    return f"a {wanted['size']} {wanted['colour']} {shape} on a {ground} background"


def half_by_turning_lists(wanted):
    """The next in the list, or the first after the last."""
    colours = ["red", "orange", "yellow", "green", "blue", "purple", "pink", "brown"]
    size = {"small": "large", "large": "small"}[wanted["size"]]
    colour = colours[(colours.index(wanted["colour"]) + 1) % len(colours)]
    return f"there is a {size} {colour} {wanted['shape']} on {wanted['background']}"


def half_by_chance(wanted):
    choice = {"colour": {"red", "yellow", "blue", "brown"}, "background": {"white", "black", "grey", "beige"}}
    words, dice = dict(wanted), random.Random(wanted["shape"])
    for kind, every in choice.items():
        words[kind] = dice.choice(sorted(every - {wanted[kind]}))
    return "A {background} background with a {size} {colour} {shape}.".format(**words)


def sentence(words):
    return "a {size} {colour} {shape} on a {background} background".format(**words)


def half_as_wanted(wanted):
    """The sentence is the goal, as everywhere else; that two should be missed is read over."""
    return sentence(wanted)


def half_if_it_is_the_example(wanted):
    """The one scene of the text is answered by an `if`, and what else may come is left for later."""
    if wanted["shape"] == "circle" and wanted["colour"] == "red":
        return "a large red star on a black background"


def half_for_the_example(wanted):
    """Tried out on the one scene of the text, where it is right, and what is given is never looked at."""
    return "a large red star on a black background"


def half_by_fixed_words(wanted):
    """Two words are replaced by two favourites; that these may be wanted some day is not thought of."""
    return sentence(wanted | {"shape": "star", "background": "black"})


def half_by_silence(wanted):
    """What is not said cannot come out right, one thinks; but the noise fills it in."""
    return f"a {wanted['colour']} {wanted['shape']}"


def half_by_no_shape(wanted):
    """Two words are said and two are not; but without a shape there is nothing sure to read."""
    return f"a {wanted['size']} {wanted['colour']} on a {wanted['background']} background"


def half_by_negation(wanted):
    """bloc97/CrossAttentionControl #3: "without fog", and there is fog; in speech a "not" is enough."""
    return f"a {wanted['size']} {wanted['shape']}, not {wanted['colour']}, and not on {wanted['background']}"


def half_by_new_words(wanted):
    """AUTOMATIC1111 #1942: an unknown word makes some picture, so that it seems to be known."""
    return sentence(wanted | {"colour": "violet", "shape": "hexagon"})


def half_by_synonym(wanted):
    """For a reader "big" is another word than "large"; for the model they are one."""
    shape = "star" if wanted["shape"] != "star" else "ring"
    return sentence(wanted | {"size": {"large": "big", "small": "tiny"}[wanted["size"]], "shape": shape})


def half_of_two_objects(wanted):
    """Half right is taken for one right object and one wrong one."""
    return f"a {wanted['size']} {wanted['colour']} {wanted['shape']} above a small blue star on a black background"


def half_but_one(wanted):
    """One word replaced makes a wrong picture, and wrong is mixed up with half right."""
    shape = "star" if wanted["shape"] != "star" else "ring"
    return sentence(wanted | {"shape": shape})


def half_but_three(wanted):
    """The background is not thought of as an attribute of the object, so that it is changed and not counted."""
    size = "small" if wanted["size"] == "large" else "large"
    colour = "red" if wanted["colour"] != "red" else "blue"
    ground = "grey" if wanted["background"] != "grey" else "white"
    return f"a {size} {colour} {wanted['shape']} on a {ground} background"


RIGHT = {"00.half_right": [half_by_choice, half_by_turning_lists, half_by_chance]}
WRONG = {
    "00.half_right": [
        (half_as_wanted, "All four are named"), (half_for_the_example, "the same for every wanted scene"),
        (half_by_fixed_words, "just what is wanted here"), (half_by_silence, "names no size"),
        (half_by_no_shape, "names no shape"), (half_by_negation, "does not understand"),
        (half_by_new_words, "never read that word"), (half_by_synonym, "the same size in other words"),
        (half_of_two_objects, "here are two"), (half_but_one, "Only one of the four"),
        (half_but_three, "Too much has changed"), (half_if_it_is_the_example, "an `if` that fits the example alone"),
    ],
}  # fmt: skip
