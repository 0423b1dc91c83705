"""Draw the example folder `datasets/village`: houses, potted plants, faces and flags, each with a caption.

    python tools/draw_village.py [--out datasets/village]

The same pictures every time: all chance comes from SEED. What is drawn lies in `tools/village`. In each kind some
pairs of attributes never meet (NEVER), so that asking a model for such a pair tests what it has understood.
"""

import argparse
import io
import json
from pathlib import Path

from village import faces, flags, houses, plants
from village.brush import Dice, Page
from village.captions import caption

ROOT = Path(__file__).resolve().parent.parent
KINDS = {"house": houses, "plant": plants, "face": faces, "flag": flags}
EACH = 75  # pictures of a kind
SEED = 17
SHADES = 128  # colours of one picture's palette


def normal(kind, is_):
    """The attributes, without those that nothing shows: the petals of a cactus, the colour of no scarf."""
    hidden = {
        "plant": [name for name, of in (("petals", "tulip"), ("bloom", "cactus")) if is_.get("plant") != of],
        "face": ["cloth"] if is_.get("worn") == "nothing" else [],
    }.get(kind, [])
    return {name: None if name in hidden else value for name, value in is_.items()}


def never(kind, is_):
    """Whether the attributes hold a pair that no picture of the folder has."""
    return any(all(is_[name] == value for name, value in pair.items()) for pair in KINDS[kind].NEVER)


def choose(kind):
    """The attributes of every picture of a kind: each one other than the rest, every value about equally often."""
    world, dice, chosen, used = KINDS[kind], Dice(f"{SEED} {kind}"), [], {}
    first, *_ = world.ATTRIBUTES

    def crowded(is_):  # how often its values were chosen already, in parts of their due
        seen = [used.get(pair, 0) * len(world.ATTRIBUTES[pair[0]]) for pair in is_.items() if pair[1] is not None]
        return sum(seen) / len(seen)

    while len(chosen) < EACH:
        tries = []
        while len(tries) < 16:
            is_ = {name: dice.pick(values) for name, values in world.ATTRIBUTES.items()}
            is_ = normal(kind, is_ | {first: world.ATTRIBUTES[first][len(chosen) % len(world.ATTRIBUTES[first])]})
            if is_ not in chosen and not never(kind, is_) and getattr(world, "allowed", lambda _: True)(is_):
                tries.append(is_)
        best = min(tries, key=crowded)
        chosen.append(best)
        for pair in best.items():
            used[pair] = used.get(pair, 0) + 1
    return dice.mixed(chosen)


def draw(kind, number, is_):
    """One picture and its caption."""
    dice = Dice(f"{SEED} {kind} {number}")
    page = Page(*dice.pick(KINDS[kind].sizes(is_)), (255, 255, 255), dice)
    KINDS[kind].paint(page, is_, dice)
    return page.finished(), caption(kind, is_, Dice(f"{SEED} {kind} {number} says"))


def village():
    """(file name, picture, caption, attributes) of every picture."""
    for kind in KINDS:
        for number, is_ in enumerate(choose(kind)):
            yield (f"{kind}-{number:02}.png", *draw(kind, number, is_), is_)


def main():
    parser = argparse.ArgumentParser(description="Draw the example folder.")
    parser.add_argument("--out", type=Path, default=ROOT / "datasets" / "village")
    out = parser.parse_args().out
    out.mkdir(parents=True, exist_ok=True)
    lines, size = [], 0
    for name, picture, text, _ in village():
        picture.quantize(SHADES, kmeans=2, dither=0).save(file := io.BytesIO(), "png", optimize=True)
        (out / name).write_bytes(file.getvalue())
        size += len(file.getvalue())
        lines.append(json.dumps({"file_name": name, "text": text}))
    (out / "metadata.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8", newline="\n")
    print(f"{len(lines)} pictures, {size / 1e6:.2f} MB, in {out}")


if __name__ == "__main__":
    main()
