"""Folders of captioned pictures: which caption belongs to which file, and what is wrong with any of them.

There is one reader of folders. `data.folder` refuses a folder with any fault in it, `own` leaves the faulty files out
and says so.
"""

import hashlib
import io
import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

import torch
from torch import Tensor

from . import pictures
from .files import UserError

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff")
METADATA = "metadata.jsonl"
KINDS = {  # what can be wrong with a file or a caption; `look` finds the first four, `twins` the others
    "missing": "captions without a picture",
    "uncaptioned": "pictures without a caption",
    "broken": "broken pictures",
    "tiny": "pictures too small",
    "same file": "pictures that are there twice, byte by byte",
    "same pixels": "pictures that are there twice in different files",
}
Least = Callable[[int, int], tuple[int, int]]  # width and height of a picture -> what they must be at least


@dataclass(frozen=True)
class Picture:
    """One picture of a folder that could be read whole."""

    name: str  # within the folder, with slashes
    path: Path
    caption: str
    width: int
    height: int
    digest: str  # SHA-256 of the file's bytes
    pixels: str  # SHA-256 of what people see of it


@dataclass(frozen=True)
class Fault:
    """Why a file or a caption cannot be used; `error` is what a strict reader raises."""

    kind: str  # one of KINDS
    name: str
    error: UserError


@dataclass
class Folder:
    """What lies in a folder: pictures that can be used, and what is wrong with the rest."""

    path: Path
    source: str  # where the captions come from, in words
    pictures: list[Picture] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)


def look(path: str | Path, least: Least = lambda width, height: (1, 1)) -> Folder:
    """Read all pictures of a folder and their captions. Every picture is opened once, and none is kept.

    Captions come from the first of these that is there: `metadata.jsonl` with one line {"file_name": ..., "text": ...}
    for each picture (the Hugging Face `imagefolder` convention); a text file beside each picture, of the same name;
    the names of the sub-folders, underscores read as spaces. Files whose names begin with a dot are passed over.
    Raises `UserError` where there is no such folder, nothing in it, or a line that is not as above.
    """
    path = Path(path)
    if not path.is_dir():
        raise UserError("folder", str(path), "a folder of pictures")
    files = {}
    for file in sorted(path.rglob("*")):
        name = file.relative_to(path)
        if not any(part.startswith(".") for part in name.parts) and file.is_file():
            files[name.as_posix()] = file
    images = [name for name in files if PurePosixPath(name).suffix.lower() in SUFFIXES]
    source, captions, faults = _captions(path, files, images)
    found = Folder(path, source, faults=faults)
    known = captions.keys() | {fault.name for fault in faults}
    for name in images:
        if name not in known:
            where = {METADATA: f"a line in {path / METADATA}", ".txt files": "a text file of the same name beside it"}
            error = UserError(f"caption of {path / name}", None, where.get(source, "a sub-folder that says what it is"))
            faults.append(Fault("uncaptioned", name, error))

    def one(name: str) -> Picture | Fault:
        return _opened(path, name, captions[name], least)

    with ThreadPoolExecutor() as threads:  # reading and decoding leave Python to the others
        for result in threads.map(one, captions):
            (found.faults if isinstance(result, Fault) else found.pictures).append(result)
    return found


def twins(given: list[Picture]) -> tuple[list[Picture], list[Fault]]:
    """The pictures without repetitions, the first of each kept; and a fault for every one that is left out."""
    kept, faults = [], []
    by_file: dict[str, str] = {}
    by_pixels: dict[str, str] = {}
    for one in given:
        first = by_file.get(one.digest) or by_pixels.get(one.pixels)
        if first is None:
            kept.append(one)
            by_file[one.digest] = by_pixels[one.pixels] = one.name
            continue
        kind = "same file" if one.digest in by_file else "same pixels"
        faults.append(Fault(kind, one.name, UserError(f"picture {one.path}", f"the same as {first}", "another one")))
    return kept, faults


def fitted(given: Picture, height: int, width: int) -> Tensor:
    """A picture scaled and cut at the centre to this size: bytes (3, height, width).

    Raises `UserError` where the file is no longer the one that `look` saw.
    """
    from PIL import Image, ImageOps

    raw = given.path.read_bytes() if given.path.exists() else b""
    if hashlib.sha256(raw).hexdigest() != given.digest:
        raise UserError(f"picture {given.path}", "another file", "the file that was there when the folder was read")
    with Image.open(io.BytesIO(raw)) as file:
        image = ImageOps.fit(pictures.rgb(file), (width, height), Image.Resampling.LANCZOS)
    return torch.frombuffer(bytearray(image.tobytes()), dtype=torch.uint8).view(height, width, 3).permute(2, 0, 1)


def scaled(given: Tensor) -> Tensor:
    """Bytes 0..255 -> float32 -1..1."""
    return given.float().div_(127.5).sub_(1).contiguous()


def _opened(folder: Path, name: str, caption: str, least: Least) -> Picture | Fault:
    path = folder / name
    try:
        if not path.is_file():
            return Fault("missing", name, UserError(f"picture {path}", "no such file", "a picture file"))
        raw = path.read_bytes()
        image = pictures.rgb(path)
    except UserError as error:
        return Fault("broken", name, error)
    except OSError as error:
        got = f"{type(error).__name__}: {error.strerror}"
        return Fault("broken", name, UserError(f"picture {path}", got, "a file that can be read"))
    width, height = least(*image.size)
    if image.width < width or image.height < height:
        each = f"{width} pixels each way" if width == height else f"{width} pixels wide and {height} high"
        return Fault("tiny", name, UserError(f"picture {path}", image.size, f"at least {each}"))
    seen = hashlib.sha256(f"{image.size}".encode() + image.tobytes()).hexdigest()
    return Picture(name, path, caption, *image.size, hashlib.sha256(raw).hexdigest(), seen)


def _captions(path: Path, files: dict[str, Path], images: list[str]) -> tuple[str, dict[str, str], list[Fault]]:
    """Where captions come from, the caption of each picture that has one, and what is wrong with the others."""
    if METADATA in files:
        return METADATA, *_metadata(files[METADATA])
    if not images:
        wanted = f"pictures, with captions in {METADATA}, one line a picture, in .txt files or as sub-folders' names"
        raise UserError(f"folder {path}", "no picture", wanted)
    stems: dict[str, list[str]] = {}
    for name in images:
        stems.setdefault(name.rpartition(".")[0], []).append(name)
    texts = {name.rpartition(".")[0]: file for name, file in files.items() if name.lower().endswith(".txt")}
    if texts.keys() & stems.keys():
        captions, faults = {}, []
        for stem, file in texts.items():
            if stem not in stems:
                error = UserError(f"caption {file}", "no picture beside it", "a picture of the same name")
                faults.append(Fault("missing", file.relative_to(path).as_posix(), error))
                continue
            text = _text(file, "a caption").split()
            for name in stems[stem]:
                captions[name] = " ".join(text)
                if not text:
                    del captions[name]
                    faults.append(Fault("uncaptioned", name, UserError(f"caption {file}", "no word", "a caption")))
        return ".txt files", captions, faults
    parents = {name: PurePosixPath(name).parent.name.replace("_", " ").strip() for name in images}
    return "sub-folders' names", {name: parent for name, parent in parents.items() if parent}, []


def _metadata(path: Path) -> tuple[dict[str, str], list[Fault]]:
    captions: dict[str, str] = {}
    faults = []
    for number, line in enumerate(_text(path, "a text file, one line a picture").split("\n"), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            name, text = PurePosixPath(row["file_name"]), row["text"]
        except (ValueError, KeyError, TypeError) as error:
            raise UserError(f"{path}, line {number}", line, '{"file_name": ..., "text": ...}') from error
        if name.is_absolute() or ".." in name.parts:
            raise UserError(f"{path}, line {number}, file_name", str(name), "a name within the folder")
        if name.as_posix() in captions:
            raise UserError(f"{path}, line {number}, file_name", str(name), "every picture once")
        captions[name.as_posix()] = text
        if not isinstance(text, str) or not text.strip():
            error = UserError(f"{path}, line {number}, text", text, "a caption")
            faults.append(Fault("uncaptioned", name.as_posix(), error))
    if not captions:
        raise UserError(f"file {path}", "no line", "one line a picture")
    bare = {fault.name for fault in faults}
    return {name: " ".join(text.split()) for name, text in captions.items() if name not in bare}, faults


def _text(path: Path, allowed: str) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")  # some editors begin a file with a mark
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"file {path}", type(error).__name__, allowed) from error
