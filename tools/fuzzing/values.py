"""What is thrown at the library: hypothesis strategies for everything that a user can hand in.

Each draws mostly what is nearly right, and now and then what is absurd: what is wrong from the first look is refused
by the first check and tests nothing behind it.
"""

import io
import json
import struct

import numpy as np
import torch
from hypothesis import strategies as st
from PIL import Image

HUGE = [10**6, 2**20, 2**31, 2**40, 2**62, 2**64, 10**30]
ODD = [None, True, "3", "", [], {}, (), b"x", float("nan"), float("inf"), -float("inf"), 1e308, 1j, object]
WORDS = ["a large red circle on a white background", "a tiny blue star", "red", "a", "circle " * 40, "<|endoftext|>"]
SURROGATES = st.sampled_from(["\ud800", "a \udfff circle", "\udc80" * 3, "\ud83d", "red\0circle", "\x1b[31m", "\ufeff"])

absurd = st.sampled_from([*ODD, *HUGE, 0, -1])
text = st.one_of(
    st.sampled_from(WORDS), st.text(max_size=60), SURROGATES, st.just("x" * 5000), st.just("🎈" * 900),
    st.text(st.characters(categories=["Cc", "Cf", "Zs", "Mn", "So"]), max_size=20),
)  # fmt: skip


def mostly(usual, rare=absurd, of=8):
    """`usual`, and once in `of` times `rare`."""
    return st.integers(1, of).flatmap(lambda n: rare if n == of else usual)


prompts = mostly(text, st.one_of(st.lists(text, max_size=3), st.lists(absurd, max_size=2), absurd))
negatives = mostly(st.one_of(st.none(), text))
steps = mostly(st.integers(1, 3), st.one_of(st.sampled_from([-3, 0, 1001, 2000]), absurd))
scales = mostly(st.one_of(st.floats(0, 9), st.integers(-3, 9)), st.one_of(st.floats(), absurd))
strengths = mostly(st.floats(0, 1), st.one_of(st.floats(), absurd))
samplers = mostly(
    st.sampled_from(["ddim", "ddpm", "euler", "heun", "dpmpp_2m"]), st.one_of(st.just("pndm"), text, absurd)
)
sides = mostly(st.sampled_from([None, 4, 8, 12, 16, 20, 32]), st.one_of(st.integers(-9, 40), st.floats(0, 40), absurd))

# Pictures

MODES = ["1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr", "LAB", "HSV", "I", "F"]
MODES += ["I;16", "I;16B"]
DTYPES = [np.uint8, np.int8, np.uint16, np.int64, np.float16, np.float32, np.float64, np.complex64, bool]
small = st.integers(1, 24)


@st.composite
def pil_images(draw):
    mode, size = draw(st.sampled_from(MODES)), (draw(small), draw(small))
    image = Image.new(mode, size)
    content = draw(st.binary(max_size=64)) or b"\0"
    raw = len(image.tobytes())
    image.frombytes((content * (raw // len(content) + 1))[:raw])
    if draw(st.booleans()):
        image.getexif()[0x0112] = draw(st.sampled_from([0, 1, 2, 3, 6, 8, 9, 70000]))
    if mode in ("P", "L", "RGB", "1") and draw(st.booleans()):
        image.info["transparency"] = draw(st.sampled_from([0, 255, b"\0\x80", (1, 2, 3), 300]))
    return image


@st.composite
def arrays(draw):
    shape = draw(st.lists(st.integers(0, 9), max_size=5))
    return (np.random.default_rng(draw(st.integers(0, 99))).random(shape) * 300).astype(draw(st.sampled_from(DTYPES)))


@st.composite
def tensors(draw, channels=3, least=-1.0):
    """Mostly (b, channels, h, w) in least..1."""
    kind = draw(st.sampled_from(["right", "right", "right", "shape", "dtype", "range", "empty"]))
    shape = [draw(st.sampled_from([1, 1, 1, 2])), channels, draw(small), draw(small)]
    if kind == "shape":
        shape = draw(st.lists(st.integers(0, 9), max_size=6))
    if kind == "empty":
        shape[draw(st.integers(0, 3))] = 0
    generator = torch.Generator().manual_seed(draw(st.integers(0, 9)))
    x = torch.rand(shape, generator=generator) * (1 - least) + least
    if kind == "range" and x.numel():
        x.view(-1)[0] = draw(st.sampled_from([float("nan"), float("inf"), 1.5, -2.0, 1e30]))
    kinds = [torch.float64, torch.float16, torch.bfloat16, torch.int64, torch.uint8, torch.bool, torch.complex64]
    return x.to(draw(st.sampled_from(kinds))) if kind == "dtype" else x


def png_that_claims(width, height):
    """The head of a PNG file of this size, and nothing behind it."""
    import zlib

    def chunk(kind, content):
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")


@st.composite
def files(draw):
    """(suffix, bytes) of a picture file, whole or not."""
    form = draw(st.sampled_from(["png", "jpeg", "gif", "webp", "bmp", "tiff", "ppm", "none", "claims"]))
    suffix = draw(st.sampled_from([f".{form}", f".{form}", ".png", ".txt", ""]))
    if form == "none":
        return suffix, draw(st.binary(max_size=200))
    if form == "claims":
        return suffix, png_that_claims(
            *draw(st.sampled_from([(0, 0), (20000, 20000), (2**31 - 1, 2**31 - 1), (1, 65000)]))
        )
    image = Image.new("RGB", (draw(small), draw(small)), draw(st.sampled_from(["red", "white", "#123456"])))
    exif = Image.Exif()
    exif[0x0112] = draw(st.sampled_from([1, 3, 6, 8]))
    more = {"append_images": [image.rotate(90)] * 2, "save_all": True} if form in ("gif", "webp", "tiff") else {}
    image.save(file := io.BytesIO(), form, **more, **({"exif": exif} if form in ("png", "jpeg", "webp") else {}))
    content = file.getvalue()
    harm = draw(st.sampled_from(["none", "none", "cut", "flip", "longer"]))
    if harm == "cut":
        content = content[: draw(st.integers(0, len(content)))]
    if harm == "flip":
        place = draw(st.integers(0, len(content) - 1))
        content = content[:place] + bytes([content[place] ^ draw(st.integers(1, 255))]) + content[place + 1 :]
    return suffix, content + b"\0" * 99 * (harm == "longer")


paths = st.sampled_from(
    ["", ".", "/", "gone.png", "\0", "a\0b.png", "x" * 5000, "\ud800.png", "~", "/dev/null", "🎈.png"]
)
noises = st.one_of(tensors(4), absurd)
told = st.tuples(st.one_of(st.just("fits"), st.just("fits"), tensors(3, 0.0), absurd), mostly(st.floats(0, 2), absurd))
wrong = st.one_of(arrays(), paths, absurd)
pictures = mostly(st.one_of(pil_images(), tensors(), files()), wrong)
masks = mostly(st.one_of(pil_images(), tensors(1, 0.0), files()), wrong)

# Boxes, controls, recipes

odd_numbers = st.sampled_from(["nan", "inf", "-1", "1e999", "", "0x1", "\u0661", "1_0", " .5 "])
number_text = mostly(st.floats(0, 1).map(str), odd_numbers)
ordered = st.tuples(st.integers(0, 50), st.integers(1, 50)).map(lambda t: (t[0] / 100, (t[0] + t[1]) / 100))
captions = mostly(st.sampled_from(WORDS), text, of=4)
sided = st.tuples(ordered, ordered).map(lambda t: (t[0][0], t[1][0], t[0][1], t[1][1]))
typed = st.one_of(sided.map(lambda t: [*map(str, t)]), st.lists(number_text, min_size=3, max_size=5))
box_texts = mostly(st.tuples(captions, typed).map(lambda t: f"{t[0]}={','.join(t[1])}"), text)
control_texts = mostly(st.tuples(captions, captions, number_text).map(lambda t: f"{t[0]}={t[1]}@{t[2]}"), text)
boxes = mostly(
    st.tuples(captions, sided).map(lambda t: (t[0], *t[1])),
    st.one_of(st.tuples(text, *[st.one_of(st.floats(), absurd)] * 4), st.lists(absurd, max_size=6), absurd),
)
leaves = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), text)
nested = st.one_of(st.lists(leaves, max_size=4), st.dictionaries(st.text(max_size=8), leaves, max_size=4))
json_values = st.one_of(leaves, leaves, nested, st.lists(nested, max_size=3))


@st.composite
def recipes(draw, good):
    """A recipe as JSON text: a good one with up to three fields changed, added or gone, or none at all."""
    if draw(st.integers(0, 9)) == 0:
        return draw(st.one_of(text, json_values.map(json.dumps), st.just("[" * 5000), st.just('{"a":' * 5000)))
    recipe = dict(good)
    extra = ["image", "mask", "strength", "reconstruction", "control", "layout", "given", "x"]
    usual = {
        "prompt": text, "negative": st.one_of(st.none(), text), "seed": st.integers(), "steps": st.integers(-1, 3),
        "scale": st.floats(), "sampler": samplers, "count": st.sampled_from([1, 2, 0, -1, *HUGE]), "image": paths,
        "mask": paths, "strength": strengths, "reconstruction": strengths,
        "given": st.dictionaries(paths, json_values, max_size=2),
        "layout": st.lists(st.tuples(text, *[st.floats(0, 1)] * 4), max_size=2),
        "control": st.lists(st.tuples(text, paths, st.floats()), max_size=2), "model": st.one_of(text, paths),
    }  # fmt: skip
    for name in draw(st.lists(st.sampled_from([*recipe, *extra]), max_size=3)):
        if draw(st.integers(0, 5)) == 0:
            recipe.pop(name, None)
        else:
            recipe[name] = draw(st.one_of(usual.get(name, json_values), json_values))
    return json.dumps(recipe, default=repr)
