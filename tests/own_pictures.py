"""Small folders of drawn pictures for the tests of `minildm.own`."""

import json

import numpy as np
from PIL import Image

COLOURS = {"red": (220, 30, 30), "green": (30, 160, 60), "blue": (40, 60, 220), "white": (240, 240, 240)}


def draw(number, width=32, height=32):
    """A rectangle on a ground, never twice the same, and a caption of it."""
    random = np.random.default_rng(number)
    ground, thing = random.choice(list(COLOURS), 2, replace=False)
    pixels = np.empty((height, width, 3), dtype=np.uint8)
    pixels[:] = COLOURS[ground]
    top, left = random.integers(2, height // 2), random.integers(2, width // 2)
    pixels[top : top + height // 3, left : left + width // 3] = COLOURS[thing]
    pixels[0, 0] = number % 256, number // 256, 7
    return Image.fromarray(pixels), f"a {thing} house on a {ground} field"


def fill(folder, count=12, sizes=((32, 32),), captions=True):
    """`count` pictures NNN.png of these sizes (width, height) in turn, and their metadata.jsonl."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = []
    for number in range(count):
        image, caption = draw(number, *sizes[number % len(sizes)])
        image.save(folder / f"{number:03}.png")
        lines.append(json.dumps({"file_name": f"{number:03}.png", "text": caption}))
    if captions:
        (folder / "metadata.jsonl").write_text("\n".join(lines), encoding="utf-8")
    return folder
