"""Captions as people write them: a few of a picture's attributes, in no fixed order, and never one that is not so.

No caption says left or right, so a picture may be mirrored while a model learns.
"""

MOST_WORDS = 120  # that all captions together may use


def caption(kind, is_, dice):
    """One line about a picture of this kind with these attributes."""
    text = {"house": _house, "plant": _plant, "face": _face, "flag": _flag}[kind](is_, dice)
    return " ".join(text.split()).replace(" ,", ",").strip(", ")


def _and(parts):
    return " and ".join(filter(None, [", ".join(parts[:-1]), *parts[-1:]]))


def _some(dice, share, text):
    return text if dice.chance(share) else ""


def _house(is_, dice):
    size = _some(dice, 0.75, dice.pick(("small", "little")) if is_["height"] == "small" else "tall")
    house = f"a {size} {_some(dice, 0.9, is_['wall'])} house"
    roof = f"a {is_['roof']} roof" if is_["roof"] != "straw" else dice.pick(("a straw roof", "a roof of straw"))
    smoke = "smoke " + dice.pick(("coming out of the chimney", "rising from the chimney")) if is_["smoke"] else ""
    when = {"day": ("on a sunny day", "in the sun"), "night": ("at night", "under the moon"),
            "snow": ("in the snow", "on a snowy day", "in winter")}[is_["when"]]  # fmt: skip
    when = _some(dice, 0.75, dice.pick(when))
    tree = {"none": "", "pine": "a pine tree", "round": "a round tree"}[is_["tree"]]
    tree = tree and _some(dice, 0.8, tree)
    has = [_some(dice, 0.8, roof), _some(dice, 0.8, f"a {is_['door']} door"), smoke and _some(dice, 0.7, smoke)]
    has = dice.mixed([part for part in has if part]) or [roof]
    forms = [f"{house} with {_and(has)} {when}"]
    if when:
        forms += [f"{when}, {house} with {_and(has)}", f"{house} {when}, with {_and(has)}"]
    if tree:
        forms = [
            f"{tree} in front of {house} with {_and(has)} {when}",
            f"{house} with {_and(has)}, behind {tree} {when}",
            f"{house} {when}, {_and(has)}, {tree} in front",
            f"{house} behind {tree}, with {_and(has)}",
        ]
    elif smoke and smoke in has:
        rest = [part for part in has if part != smoke]
        forms.append(f"{smoke} of {house} {'with ' if rest else ''}{_and(rest)} {when}")
    return dice.pick(forms)


def _plant(is_, dice):
    two, plant = is_["count"] == 2, is_["plant"]
    pots = {
        "plain": (f"{is_['pot']} #", f"{is_['pot']} #", f"plain {is_['pot']} #"),
        "striped": (f"striped {is_['pot']} #", f"{is_['pot']} # with stripes", "striped #"),
        "spotted": (f"spotted {is_['pot']} #", f"{is_['pot']} # with spots", "spotted #"),
    }[is_["pattern"]]
    pot = dice.pick(pots)
    place = {
        "windowsill": ("on a windowsill", "by the window"),
        "table": ("on a table", "on a table with a checked cloth"),
        "garden": ("in the garden", "in front of a fence"),
    }[is_["place"]]
    place = _some(dice, 0.85, dice.pick(place))
    many = {"cactus": "cacti", "sunflower": "sunflowers", "fern": "ferns"}
    bloom = "with a pink flower" if is_["bloom"] and dice.chance(0.8) else ""
    if plant == "tulip":
        tulips = f"{is_['petals']} tulips"
        inside = f"two {pot.replace('#', 'pots')}" if two else f"a {pot.replace('#', 'pot')}"
        forms = [
            f"{tulips} in {inside} {place}",
            f"{inside} {_with(pot)} {tulips} {place}",
            f"{place}, {tulips} in {inside}",
        ]
        if two:
            forms.append(f"two pots of {tulips} {place}")
    elif two:
        inside = pot.replace("#", "pots")
        things = f"two {many[plant]} {bloom.replace('a pink flower', 'pink flowers')}"
        forms = [f"{things} in {inside} {place}", f"{place}, {things} in {inside}",
                 f"two {inside} {place}, with a {plant} in each"]  # fmt: skip
    else:
        inside, things = f"a {pot.replace('#', 'pot')}", f"a {plant} {bloom}"
        forms = [
            f"{things} in {inside} {place}",
            f"{place}, {things} in {inside}",
            f"{inside} {_with(pot)} {things} {place}",
            f"{things} {place}, in {inside}",
        ]
    return dice.pick(forms)


def _with(pot):
    return "and" if "with" in pot else "with"


def _face(is_, dice):
    mood = {"smiling": ("smiling", "happy"), "sad": ("sad", "crying"), "surprised": ("surprised",),
            "sleeping": ("sleeping", "sleepy")}[is_["mood"]]  # fmt: skip
    mood, hair = dice.pick(mood), is_["hair"]
    hair = {
        "curly": (f"curly {hair} hair", f"{hair} curls"),
        "braids": (f"two {hair} braids", f"{hair} hair in braids"),
        "long": (f"long {hair} hair",),
        "short": (f"short {hair} hair",),
    }[is_["cut"]]
    glasses = dice.pick(("round glasses", "glasses")) if is_["glasses"] else ""
    worn = {
        "nothing": "",
        "hat": dice.pick((f"a {is_['cloth']} hat", f"a woolly {is_['cloth']} hat")),
        "scarf": dice.pick((f"a {is_['cloth']} scarf", f"a striped {is_['cloth']} scarf")),
    }[is_["worn"]]
    hair, worn = _some(dice, 0.92, dice.pick(hair)), worn and _some(dice, 0.9, worn)
    extras = dice.mixed([part for part in (glasses, worn) if part])
    has = dice.mixed([part for part in (hair, *extras) if part])
    forms = [f"a {mood} face with {_and(has)}"] if has else [f"a {mood} face"]
    if hair and extras:
        forms += [f"a {mood} face with {hair}, wearing {_and(extras)}", _and([hair, *extras, f"a {mood} face"]),
                  f"someone with {hair} wearing {_and(extras)}, {mood}"]  # fmt: skip
    elif hair:
        forms += [f"someone {mood} with {hair}", f"{hair} around a {mood} face"]
    return dice.pick(forms)


def _flag(is_, dice):
    first, second, emblem = is_["first"], is_["second"], is_["emblem"]
    fly = dice.pick(("flying", "waving", "waving in the wind", ""))
    place = {"hills": ("over green hills", "on a hill"), "sea": ("by the sea", "on the beach"),
             "tower": ("on a tower", "on top of a stone tower")}[is_["place"]]  # fmt: skip
    where = f"{fly} {_some(dice, 0.85, dice.pick(place))}"
    way = is_["pattern"]
    if way == "plain":
        forms = [f"a {first} flag with a {second} {emblem} {where}", f"a {second} {emblem} on a {first} flag {where}",
                 f"a {first} flag {where}, with a {second} {emblem} in the middle"]  # fmt: skip
    elif way == "cross":
        forms = [f"a {first} flag with a {second} cross {where}", f"a {second} cross on a {first} flag {where}"]
    elif way == "checks":
        one, other = dice.mixed([first, second])
        forms = [f"a flag with {one} and {other} checks {where}", f"a checked {one} and {other} flag {where}"]
    else:
        thing = f"a {first} {emblem} in the middle" if emblem != "none" else ""
        forms = [f"a flag {where} with three {way} stripes, {first}, {second} and {first}{thing and ', and ' + thing}",
                 f"a {first} flag {where} with one {second} {way} stripe {thing and 'and ' + thing}",
                 f"three {way} stripes on a flag {where}, {thing or second + ' in the middle'}"]  # fmt: skip
        if not thing:
            forms.append(f"a {first} flag {where}, {way} stripes, {second} in the middle")
            forms.append(f"a flag with three {way} stripes, {second} in the middle, {where}")
    return dice.pick(forms)
