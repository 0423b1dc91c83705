"""The example folder: it is what its script draws, and its captions tell the truth."""

import json
import math
import re
from collections import Counter
from pathlib import Path

import draw_village
import numpy as np
import pytest
from draw_village import KINDS, choose, draw
from PIL import Image
from village import faces, flags, houses, plants
from village.captions import MOST_WORDS

from minildm import data, scenes

FOLDER = Path(__file__).parent.parent / "datasets" / "village"
LINES = [json.loads(line) for line in (FOLDER / "metadata.jsonl").read_text(encoding="utf-8").splitlines()]
CAPTIONS = {line["file_name"]: line["text"] for line in LINES}
CHOSEN = {f"{kind}-{number:02}.png": (kind, number, is_) for kind in KINDS for number, is_ in enumerate(choose(kind))}


def pixels(image):
    return np.asarray(image.convert("RGB"), dtype=float)


def psnr(one, other):
    return 10 * math.log10(255**2 / max(1e-9, ((one - other) ** 2).mean()))


def committed(name):
    with Image.open(FOLDER / name) as image:
        assert image.format == "PNG"
        return pixels(image)


def test_folder_holds_what_is_chosen_and_nothing_else():
    assert {path.name for path in FOLDER.iterdir()} == {"README.md", "metadata.jsonl", *CHOSEN}
    assert list(CAPTIONS) == list(CHOSEN) and len(LINES) == len(CAPTIONS) >= 200
    assert Counter(kind for kind, _, _ in CHOSEN.values()) == dict.fromkeys(KINDS, 75)


def test_folder_is_small_and_no_picture_is_there_twice():
    files = [FOLDER / name for name in CHOSEN]
    assert sum(path.stat().st_size for path in FOLDER.iterdir()) < 1e6
    assert len({path.read_bytes() for path in files}) == len(files)
    small = []
    for path in files:
        with Image.open(path) as image:
            assert image.size in ((64, 64), (64, 80), (96, 64))
            small.append(pixels(image.resize((16, 16))).ravel())
    small = np.stack(small)
    squares = (small**2).sum(1)
    apart = (squares[:, None] + squares - 2 * small @ small.T) / small.shape[1]
    assert apart[np.triu_indices(len(small), 1)].min() > 15  # nor nearly


def check_drawn(names):
    for name in names:
        picture, text = draw(*CHOSEN[name])
        assert CAPTIONS[name] == text
        # The palette of the file costs up to 40 dB; another line or colour would cost far more.
        assert picture.size[::-1] == committed(name).shape[:2]
        assert psnr(pixels(picture), committed(name)) > 39, name


def test_files_are_what_the_script_draws():
    check_drawn(list(CHOSEN)[::10])


@pytest.mark.slow
def test_every_file_is_what_the_script_draws():
    check_drawn(CHOSEN)


def test_another_attribute_would_be_seen():
    """Else the tests above could not fail."""
    for kind, world in KINDS.items():
        name = f"{kind}-00.png"
        is_ = CHOSEN[name][2]
        for attribute, values in world.ATTRIBUTES.items():
            other = next(value for value in values if value != is_[attribute])
            if is_[attribute] is not None:
                picture, _ = draw(kind, 0, is_ | {attribute: other})
                here = committed(name)
                same = picture.size[::-1] == here.shape[:2]
                assert not same or psnr(pixels(picture), here) < 35, attribute


def test_script_writes_the_same_folder_twice(tmp_path, monkeypatch):
    monkeypatch.setattr(draw_village, "EACH", 2)
    for name in ("one", "two"):
        monkeypatch.setattr("sys.argv", ["draw_village.py", "--out", str(tmp_path / name)])
        draw_village.main()
    files = sorted(path.name for path in (tmp_path / "one").iterdir())
    assert len(files) == 9
    assert all((tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes() for name in files)


# What a caption may say of a picture: a pattern, the attribute it speaks of, and what its words mean.
SAYS = {
    "house": [
        (r"(small|little|tall)", "height", {"little": "small"}),
        (r"(brick|wooden|white)", "wall", {}),
        (r"(red|blue|straw) roof|roof of (straw)", "roof", {}),
        (r"(red|blue|yellow) door", "door", {}),
        (r"(pine|round) tree", "tree", {}),
        (r"(smoke)", "smoke", {"smoke": True}),
        (r"\b(sunny|sun|night|moon|snow|snowy|winter)\b", "when", {
            "sunny": "day", "sun": "day", "moon": "night", "snowy": "snow", "winter": "snow"}),
    ],
    "plant": [
        (r"(cactus|cacti|tulips|sunflower|fern)", "plant", {"cacti": "cactus", "tulips": "tulip"}),
        (r"(\w+) tulips", "petals", {}),
        (r"(clay|blue|yellow|white) pot", "pot", {}),
        (r"(plain|striped|stripes|spotted|spots)", "pattern", {"stripes": "striped", "spots": "spotted"}),
        (r"(windowsill|window|table|garden|fence)\b", "place", {"window": "windowsill", "fence": "garden"}),
        (r"(pink)", "bloom", {"pink": True}),
        (r"\b(two)\b", "count", {"two": 2}),
    ],
    "face": [
        (r"(black|red|blond|white) (?:hair|curls|braids)", "hair", {}),
        (r"(curly|curls|long|short|braids)", "cut", {"curls": "curly"}),
        (r"(smiling|happy|sad|crying|surprised|sleeping|sleepy)", "mood", {
            "happy": "smiling", "crying": "sad", "sleepy": "sleeping"}),
        (r"(glasses)", "glasses", {"glasses": True}),
        (r"(hat|scarf)", "worn", {}),
        (r"(\w+) (?:hat|scarf)", "cloth", {}),
    ],
    "flag": [
        (r"(horizontal|vertical|cross|check)", "pattern", {"check": "checks"}),
        (r"(heart|fish|leaf|star)", "emblem", {}),
        (r"(hill|sea|beach|tower)", "place", {"hill": "hills", "beach": "sea"}),
    ],
}  # fmt: skip


def said(kind, text):
    """(attribute, value) of all that a caption names."""
    for pattern, attribute, means in SAYS[kind]:
        for found in re.findall(pattern, text):
            word = found if isinstance(found, str) else "".join(found)
            yield attribute, means.get(word, word)


def test_captions_are_true():
    for name, (kind, _, is_) in CHOSEN.items():
        for attribute, value in said(kind, CAPTIONS[name]):
            assert is_[attribute] == value, (name, CAPTIONS[name], is_)


def test_colours_of_flags_are_true():
    for name, (kind, _, is_) in CHOSEN.items():
        if kind == "flag":
            text = CAPTIONS[name].replace("green hills", "hills")
            named = re.findall(r"red|blue|yellow|white|green", text)
            assert set(named) <= {is_["first"], is_["second"]}, (text, is_)
            for pattern, attribute in ((r"(\w+) flag", "first"), (r"(\w+) cross", "second"),
                                       (r"(\w+) (?:horizontal |vertical )?stripe\b", "second")):  # fmt: skip
                for word in re.findall(pattern, text):
                    if word in flags.COLOURS and is_["pattern"] != "checks":
                        assert word == is_[attribute], (text, is_)
            for word in re.findall(r"(\w+) (?:heart|fish|leaf|star)", text):
                assert word == is_["second" if is_["pattern"] == "plain" else "first"], (text, is_)


def test_captions_say_one_pot_only_where_one_is():
    """"two" is checked above; a plant alone is named in the singular."""
    for name, (kind, _, is_) in CHOSEN.items():
        if kind == "plant" and "two" not in CAPTIONS[name]:
            assert is_["count"] == 1, CAPTIONS[name]


def test_captions_vary_within_few_words():
    texts = list(CAPTIONS.values())
    words = Counter(word for text in texts for word in re.findall(r"\w+", text))
    assert len(words) <= MOST_WORDS
    assert len(set(texts)) > 0.95 * len(texts)
    assert not {"left", "right"} & set(words)  # a mirrored picture keeps its caption
    assert all(re.fullmatch(r"[a-z]+(,? [a-z]+)*", text) for text in texts)
    for kind in KINDS:
        mine = [CAPTIONS[name] for name in CHOSEN if name.startswith(kind)]
        named = [len({attribute for attribute, _ in said(kind, text)}) for text in mine]
        assert np.mean(named) >= (2 if kind == "flag" else 2.8) and min(named) >= 1


@pytest.mark.parametrize("kind", KINDS)
def test_pairs_that_never_meet(kind):
    world, chosen = KINDS[kind], [is_ for k, _, is_ in CHOSEN.values() if k == kind]
    for pair in world.NEVER:
        for attribute, value in pair.items():
            assert sum(is_[attribute] == value for is_ in chosen) >= 9, (attribute, value)
        assert not any(all(is_[a] == v for a, v in pair.items()) for is_ in chosen)
    for attribute, values in world.ATTRIBUTES.items():
        counts = Counter(is_[attribute] for is_ in chosen)
        assert min(counts[value] for value in values) >= 5, (attribute, counts)
    assert len({tuple(is_.items()) for is_ in chosen}) == len(chosen)


def test_readme_lists_the_pairs():
    rows = re.findall(r"^\| (\w+) \| (\w+) (\w+), (\w+) (\w+) \|$", (FOLDER / "README.md").read_text(encoding="utf-8"),
                      re.MULTILINE)  # fmt: skip
    told = [(kind, {a: v, b: w}) for kind, a, v, b, w in rows]
    made = [(kind, {a: str(v) for a, v in pair.items()}) for kind in KINDS for pair in KINDS[kind].NEVER]
    assert told == made


def test_colours_keep_apart_for_all_readers():
    from colorspacious import cspace_convert

    for colours in (houses.ROOFS, houses.DOORS, plants.POTS, plants.PETALS, faces.HAIR, faces.CLOTH, flags.COLOURS):
        rgb = np.array(list(colours.values())) / 255
        a, b = np.triu_indices(len(rgb), 1)
        for sight in ("deuteranomaly", "protanomaly", "tritanomaly"):
            space = {"name": "sRGB1+CVD", "cvd_type": sight, "severity": 100}
            seen = cspace_convert(np.clip(cspace_convert(rgb, space, "sRGB1"), 0, 1), "sRGB1", "CAM02-UCS")
            assert np.linalg.norm(seen[a] - seen[b], axis=1).min() >= 17  # as the shapes world's palette has it


def test_folder_is_read_by_the_library():
    pictures, captions = data.load("folder", FOLDER, size=64)
    assert pictures.shape == (300, 3, 64, 64) and captions == list(CAPTIONS.values())
    assert pictures.std() > 0.3


def test_it_is_another_world_than_the_shapes():
    words = {word for text in CAPTIONS.values() for word in re.findall(r"\w+", text)}
    assert not words & set(scenes.SHAPES) - {"star", "cross"}
