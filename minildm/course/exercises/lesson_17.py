"""Lesson 17, your own pictures: captions and their files, buckets, and the name of a latent in the cache."""

import json
from collections.abc import Callable

import torch

from . import Exercise, Wrong, expect, seeded, told

# 17.pairs

BY_PLACE = (
    "You pair lines and files by their place in two lists. One file without a line, and every caption after it belongs "
    "to the wrong picture. Go by the name in the line."
)
BY_PLACE_UNSORTED = (
    "Files and lines are in different orders, and paired by their place. The order of files is nobody's promise: go by "
    "the name in the line."
)
GONE = "A line may name a file that is not there (any more). It is no pair, and wrong[name] says \"no picture\"."
SILENT = "A file that no line names has no caption. Leave it out of the pairs, and say so in `wrong`."
EMPTY = "A caption of nothing, or of spaces alone, is none: strip it first, then look whether anything is left."
DROPPED = "The file with the empty caption is in neither answer. It belongs into `wrong`, as \"no caption\"."
UNSTRIPPED = "White space at the ends of a caption is no part of it: `.strip()`."
BY_NAME = "Keep the order of the lines."
BY_HAND = "A caption may hold quotes and letters written as \\u00e9. Let `json.loads(line)` read the line."
BOTH = "A line with no caption whose file is missing too: the file counts first, \"no picture\"."
METADATA = "\n".join([
    '{"file_name": "plant-2.png", "text": "a fern in a yellow pot"}',
    '{"file_name": "house-1.png", "text": " a house with a \\"welcome\\" mat "}',
    "",
    '{"file_name": "face-9.png", "text": "a face in a hat"}',
    '{"file_name": "flag-3.png", "text": "   "}',
    '{"file_name": "flag-8.png", "text": ""}',
    '{"file_name": "flag-1.png", "text": "a flag over a caf\\u00e9"}',
    '{"file_name": "face-4.png", "text": ""}',
    "",
])  # fmt: skip
FILES = ["flag-3.png", "face-2.png", "plant-2.png", "house-1.png", "flag-1.png", "flag-8.png"]
Pairs = tuple[list[tuple[str, str]], dict[str, str]]


def read(text: str, files: list[str], gone: bool = True, silent: bool = False, empty: str = "no caption",
         strip: bool = True, order: bool = False, hand: bool = False, both: bool = False) -> Pairs:  # fmt: skip
    """The right answer, or with one of the options a wrong one."""
    good, wrong, seen = [], {}, set()
    for line in text.split("\n"):
        if not line.strip():
            continue
        row = json.loads(line)
        name, caption = row["file_name"], line.split('"')[7] if hand else row["text"]
        seen.add(name)
        if gone and name not in files and not (both and not caption.strip()):
            wrong[name] = "no picture"
        elif empty == "spaces" and caption or caption.strip() or empty == "kept":
            good.append((name, caption.strip() if strip else caption))
        elif empty != "dropped":
            wrong[name] = "no caption"
    if not silent:
        wrong |= {name: "no caption" for name in files if name not in seen}
    return sorted(good) if order else good, wrong


def by_place(text: str, files: list[str]) -> list[tuple[str, str]]:
    captions = [json.loads(line)["text"].strip() for line in text.split("\n") if line.strip()]
    return list(zip(files, captions, strict=False))


def pairs_by_name(fn: Callable) -> None:
    got = fn(METADATA, list(FILES))
    call = "With eight lines and six files: "
    if not isinstance(got, tuple | list) or len(got) != 2 or not isinstance(got[1], dict):
        raise Wrong(f"{call}pairs gives {told(got)}; a list and a dictionary are wanted", "`return good, wrong`")
    try:
        good = [(name, caption) for name, caption in got[0]]
    except (TypeError, ValueError):
        raise Wrong(f"{call}the first answer is {told(got[0])}; a list of (name, caption) is wanted") from None
    for files, hint in ((sorted(FILES), BY_PLACE), (FILES, BY_PLACE_UNSORTED)):
        paired = by_place(METADATA, files)
        if good in (paired, [(name, caption) for name, caption in paired if caption]):
            raise Wrong(f"{call}“{good[1][1]}” is the caption of {good[1][0]}", hint)
    slips = [({"gone": False}, GONE), ({"silent": True}, SILENT), ({"empty": "spaces"}, EMPTY),
             ({"empty": "kept"}, EMPTY), ({"empty": "dropped"}, DROPPED), ({"strip": False}, UNSTRIPPED),
             ({"order": True}, BY_NAME), ({"hand": True}, BY_HAND), ({"both": True}, BOTH)]  # fmt: skip
    hint = next((hint for slip, hint in slips if (good, got[1]) == read(METADATA, FILES, **slip)), "")
    want = read(METADATA, FILES)
    expect(good, want[0], call + "good", hint)
    expect(got[1], want[1], call + "wrong", hint)


# 17.bucket

RATIO = (
    "You compare width / height by subtraction. That favours upright buckets: 0.5 to 1 is as much of a cut as 1 to 2. "
    "Compare the shares that are cut away."
)
NEAR_SIZE = "The nearest in pixels is not asked: the picture is scaled first. Only shapes are compared."
SMALLEST = "Two buckets cut equally much here. Take the larger one: it keeps more detail."
FIRST = "Two buckets cut equally much here, and you take whichever comes first. Take the larger one."
TURNED = "Buckets are (width, height), as the picture is. Somewhere yours are turned."
KEPT = "That is the share that is KEPT. Asked is what is cut away: 1 minus it."
PERCENT = "A share is in 0..1; this one is in per cent."
OF_BUCKET = "The share is of the PICTURE: what is cut, divided by the whole scaled picture and not by the bucket."
UNSCALED = "The picture is scaled before it is cut. With its own pixels, a large photo would lose nearly all of itself."
COVER = "scale = max(bw / width, bh / height); cut = 1 - bw * bh / (width * height * scale**2)."
SHAPES = [(64, 64), (72, 56), (56, 72), (80, 48), (48, 80)]
CASES = [((640, 480), SHAPES), ((480, 640), SHAPES), ((73, 100), [(32, 64), (64, 64)]),
         ((200, 150), [(80, 80), (72, 56)]), ((100, 100), [(48, 48), (64, 64), (32, 32)]), ((96, 64), SHAPES),
         ((3000, 1000), SHAPES)]  # fmt: skip


def cut(width: int, height: int, bw: int, bh: int) -> float:
    """The share of a picture that is cut away when it is scaled to cover a bucket."""
    ratio = width / height * bh / bw
    return 1 - min(ratio, 1 / ratio)


def cuts_least(fn: Callable) -> None:
    for (w, h), buckets in CASES:
        got = fn(w, h, list(buckets))
        call = f"bucket({w}, {h}, {buckets})"
        if not isinstance(got, tuple | list) or len(got) != 2:
            raise Wrong(f"{call} gives {told(got)}; a bucket and a share are wanted", "`return best, share`")
        cuts = {place: cut(w, h, *place) for place in buckets}
        least = min(cuts.values())
        equal = [place for place, share in cuts.items() if share < least + 1e-9]
        want = max(equal, key=lambda place: place[0] * place[1])
        bw, bh = want
        choices = [
            (min(equal, key=lambda p: p[0] * p[1]), SMALLEST), (equal[0], FIRST),
            (min(buckets, key=lambda p: abs(w / h - p[0] / p[1])), RATIO),
            (min(buckets, key=lambda p: abs(w - p[0]) + abs(h - p[1])), NEAR_SIZE),
            (min(buckets, key=lambda p: (w - p[0]) ** 2 + (h - p[1]) ** 2), NEAR_SIZE),
            (min(buckets, key=lambda p: cut(h, w, *p)), TURNED),
        ]  # fmt: skip
        place = tuple(got[0]) if isinstance(got[0], tuple | list) else got[0]
        if place != want:
            known = isinstance(place, tuple) and place in cuts
            what = f", and cuts {cuts[place]:.1%} away" if known else ""
            hint = next((hint for choice, hint in choices if choice == place), COVER)
            raise Wrong(f"{call} chooses {told(place)}{what}; {want} cuts {cuts[want]:.1%}", hint)
        shares = [(1 - least, KEPT), (100 * least, PERCENT), (1 / (1 - least) - 1, OF_BUCKET),
                  (1 - bw * bh / (w * h), UNSCALED)]  # fmt: skip
        if not isinstance(got[1], int | float) or abs(got[1] - least) > 1e-6:
            near = isinstance(got[1], int | float)
            hint = next((hint for share, hint in shares if near and abs(got[1] - share) < 1e-6), COVER)
            raise Wrong(f"{call} gives the share {told(got[1])}; it should be {least:.4f}", hint)


# 17.key

CHANCE = "The same entry has two names. A name must be a function of what the entry is made of, and of nothing else."
NAME = "A renamed file holds the same picture. With the file's name in the key everything is encoded again."
MODIFIED = "A copied or touched file holds the same picture. Its bytes tell; its time does not."
ONLY_NAME = (
    "Other bytes get the same name: whoever edits a picture trains on its old latent (kohya_ss #1629). Take the hash "
    "of the bytes."
)
PART = "Only a part of the bytes is in your key. An edit far down in the file goes unseen."
NO_ENCODER = (
    "A newly trained autoencoder gets the old one's latents: the model then learns in a space that its decoder does "
    "not read."
)
SHAPES_ONLY = "Training changes no name and no shape. The VALUES of the weights have to be in the key."
ROUNDED = (
    "A small change in the last tensor goes unseen. A tensor as text shows four digits, and of a large one only its "
    "edges; and a sum is rounded. Take the raw bytes: `tensor.numpy().tobytes()`."
)
SUM = "Two tensors that change places make another network and the same key. Take their bytes in order, not their sum."
OBJECT = "The same weights, loaded anew, get another name: `id` or `hash` of a tensor names the object alone."
PLACE = "At another size the picture has another latent. The size belongs into the key."
GLUED = "(8, 88) and (88, 8) get the same name: glued together, both are 888. Put something between the parts."
MIRROR = "The mirrored picture has a latent of its own."
TEXT = "A key is a text, to be the name of an entry: `.hexdigest()`."


def names_what_it_is_made_of(fn: Callable) -> None:
    data = bytes(range(256)) * 20
    encoder = {"conv.weight": torch.randn(16, 80, generator=seeded(0)), "conv.bias": torch.zeros(4),
               "norm.bias": torch.tensor([0.5, 1.25, 0.75, 1.0])}  # fmt: skip
    base = {"data": data, "name": "house-1.png", "modified": 1700000000.0, "encoder": encoder, "place": (8, 88),
            "mirrored": False}  # fmt: skip

    def key(**changed: object) -> str:
        return fn(*(base | changed).values())

    first = key()
    if not isinstance(first, str):
        raise Wrong(f"key gives {told(first)}; a text is wanted", TEXT)
    bent = encoder | {"norm.bias": torch.tensor([0.5, 1.25, 0.75, 1.00001])}
    swapped = encoder | {"conv.bias": encoder["norm.bias"], "norm.bias": encoder["conv.bias"]}
    other = {name: tensor + 1 for name, tensor in encoder.items()}
    tests = [  # what is done, whether the key may change, and the hint
        ("asked twice", {}, False, CHANCE),
        ("renamed", {"name": "cottage.png"}, False, NAME),
        ("touched", {"modified": 1800000000.0}, False, MODIFIED),
        ("the encoder loaded anew", {"encoder": {n: t.clone() for n, t in encoder.items()}}, False, OBJECT),
        ("other bytes", {"data": data[::-1]}, True, ONLY_NAME),
        ("the last byte changed", {"data": data[:-1] + b"!"}, True, PART),
        ("another network", {"encoder": {"conv.weight": torch.zeros(2, 2)}}, True, NO_ENCODER),
        ("all weights changed", {"encoder": other}, True, SHAPES_ONLY),
        ("two tensors exchanged", {"encoder": swapped}, True, SUM),
        ("one weight changed a little", {"encoder": bent}, True, ROUNDED),
        ("another size", {"place": (64, 64)}, True, PLACE),
        ("the size turned", {"place": (88, 8)}, True, GLUED),
        ("mirrored", {"mirrored": True}, True, MIRROR),
    ]
    for what, changed, differs, hint in tests:
        if (key(**changed) != first) != differs:
            raise Wrong(f"{what}: the key {'stays the same' if differs else 'changes'}", hint)


EXERCISES = (
    Exercise("17.pairs", (
        "Go through `text.splitlines()`, pass over empty lines, and let `json.loads` read each of the others.",
        "Three cases for a line: its file is not there, its caption is empty, or it is a pair. After all lines: which "
        "files were in none of them?",
        "wrong[name] = \"no picture\" if name not in files; else caption = row[\"text\"].strip() and, if it is empty, "
        "\"no caption\"; else good.append((name, caption)).",
    ), (pairs_by_name,)),
    Exercise("17.bucket", (
        "First write down what share of the picture ONE bucket cuts away. Then take the smallest.",
        "To cover a bucket the picture is scaled by max(bw / width, bh / height). What sticks out is cut.",
        "ratio = width / height * bh / bw; share = 1 - min(ratio, 1 / ratio). Compare (round(share, 9), -bw * bh).",
    ), (cuts_least,)),
    Exercise("17.key", (
        "Not everything that is handed over belongs into the key. What decides how the latent comes out?",
        "`digest = hashlib.sha256(data)`, then `digest.update(...)` with bytes for each further part.",
        "For the encoder: `for name, tensor in encoder.items()`, the name and tensor.numpy().tobytes(). For the rest: "
        "repr((place, mirrored)).encode().",
    ), (names_what_it_is_made_of,)),
)  # fmt: skip
