"""Pictures and captions out of tar files that are read from front to back: for sets that are larger than the disk.

A set is a folder of tar files, its shards, which may lie on another machine's disk. In a shard, files that follow one
another and share their name up to its first dot are one sample: cat.jpg and cat.txt. That is the WebDataset format.
"""

import json
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from io import BytesIO
from itertools import count, islice
from pathlib import Path

import torch
from torch import Tensor

from . import draws, pictures
from .files import UserError

KINDS = ("jpg", "jpeg", "png", "webp")  # of pictures
LANES = 64  # at most: a stream is read in so many places, each by a process of its own where there are enough


@dataclass
class Sample:
    """The files of one sample by their endings, as bytes or as the place of their bytes in the shard."""

    shard: Path
    key: str
    parts: dict[str, bytes | tuple[int, int]]

    def part(self, kind: str) -> bytes:
        found = self.parts[kind]
        if isinstance(found, bytes):
            return found
        with self.shard.open("rb") as file:
            return _read(file, *found, self.shard, f"{self.key}.{kind}")

    def picture(self, size: int) -> Tensor:
        """(3, size, size) in -1..1, cut square at the centre and scaled.

        Raises `UserError` that names shard and file where there is no picture, a broken one, or one of fewer pixels.
        """
        from PIL import Image, ImageOps

        kind = self._either(KINDS, "a picture")
        what = f"shard {self.shard}, {self.key}.{kind}"
        try:
            image = pictures.rgb(Image.open(BytesIO(self.part(kind))))
        except Exception as error:  # PIL's are of many kinds
            raise UserError(what, f"{type(error).__name__}: {error}", "a whole picture file") from error
        if min(image.size) < size:
            raise UserError(what, image.size, f"at least {size} pixels each way")
        return pictures.read(ImageOps.fit(image, (size, size), Image.Resampling.LANCZOS))[0]

    def caption(self) -> str:
        """The text of its .txt, or "caption" or "text" of its .json. Raises `UserError` where there is neither."""
        kind = self._either(("txt", "json"), "a caption")
        try:
            text = self.part(kind).decode("utf-8")
            if kind == "json":
                said = json.loads(text)
                text = said["caption"] if "caption" in said else said["text"]
            if not text.strip():
                raise ValueError("no text")
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            got = f"{type(error).__name__}: {error}"
            raise UserError(f"shard {self.shard}, {self.key}.{kind}", got, 'a text, or {"caption": ...}') from error
        return text.strip()

    def _either(self, kinds: tuple[str, ...], what: str) -> str:
        for kind in kinds:
            if kind in self.parts:
                return kind
        raise UserError(f"shard {self.shard}, {self.key}", sorted(self.parts), f"{what}: one of {', '.join(kinds)}")


def read(shard: Path, whole: Callable[[], bool] = lambda: True) -> Iterator[Sample]:
    """The samples of a shard, in order; their bytes are read only while `whole()`, which is asked before each file.

    Raises `UserError` that names the shard, and the file after which it is broken.
    """
    sample, name = None, "its beginning"
    try:
        with tarfile.open(shard, "r:") as tar:
            for member in tar:
                tar.members = []  # else the archive remembers them all
                folder, _, file = member.name.rpartition("/")
                key, _, kind = file.partition(".")
                if not member.isfile() or not key:  # a folder, or a hidden file
                    continue
                name, key, kind = member.name, f"{folder}/{key}".lstrip("/"), kind.lower()
                if sample is None or key != sample.key:
                    if sample:
                        yield sample
                    sample = Sample(shard, key, {})
                if kind in sample.parts:
                    raise UserError(f"shard {shard}", f"{name} twice", "each file of a sample once")
                place = member.offset_data, member.size
                sample.parts[kind] = _read(tar.fileobj, *place, shard, name) if whole() else place
            tar.fileobj.seek(tar.offset)  # `tarfile` takes a broken header for the end, which is a block of zeros
            if tar.fileobj.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
                raise tarfile.ReadError("a file begins here, but its header is broken or cut off")
    except (OSError, tarfile.TarError) as error:
        got = f"{type(error).__name__} after {name}: {error}"
        raise UserError(f"shard {shard}", got, "a whole tar file, not compressed") from error
    if sample is None:
        raise UserError(f"shard {shard}", "no sample", "files such as cat.jpg and cat.txt")
    yield sample


def _read(file, offset: int, size: int, shard: Path, name: str) -> bytes:
    file.seek(offset)
    found = file.read(size)
    if len(found) < size:
        raise UserError(f"shard {shard}, {name}", f"{len(found)} bytes", f"{size}, as the shard says")
    return found


class Stream:
    """The endless stream of batches that a folder of shards is, in an order that `seed` decides.

    All shards come in an order of their own in each epoch, and samples are exchanged with any of `buffer` that wait.
    What sample i of step s is depends on nothing else: not on the number of processes, nor on where a run began. The
    batch is read in lanes, each a part of the shards, so with as many processes no shard is read twice.
    Raises `UserError` for a folder without shards.
    """

    def __init__(self, folder: str | Path, batch: int, seed: int = 0, buffer: int = 4096):
        self.shards = sorted(Path(folder).glob("*.tar"))
        if not self.shards:
            raise UserError("shards", str(folder), "a folder with .tar files")
        if batch < 1 or buffer < 1:
            raise UserError("batch, buffer", (batch, buffer), "whole numbers above 0")
        self.batch, self.seed = batch, seed
        self.lanes = max(n for n in range(1, min(LANES, batch, len(self.shards)) + 1) if batch % n == 0)
        self.buffer = -(-buffer // self.lanes)
        self._open: dict[int, tuple[int, Iterator[Sample]]] = {}  # by lane: the next sample's number, and the rest

    def samples(self, step: int, source: draws.Source = None) -> list[Sample]:
        """Those of step `step` that `source` asks for (`draws.places`). To go back or far ahead takes long."""
        each = self.batch // self.lanes
        asked = [divmod(i, each) for i in draws.places(self.batch, source)]
        return [self._sample(lane, step * each + place) for lane, place in asked]

    def pairs(self, step: int, size: int, source: draws.Source = None) -> tuple[Tensor, list[str]]:
        """The same as pictures (b, 3, size, size) in -1..1 and b captions."""
        found = self.samples(step, source)
        return torch.stack([sample.picture(size) for sample in found]), [sample.caption() for sample in found]

    def _sample(self, lane: int, number: int) -> Sample:
        following, rest = self._open.get(lane, (number + 1, None))
        if following > number:
            following, rest = number, self._lane(lane, number)
        self._open[lane] = number + 1, rest
        return next(islice(rest, number - following, None))

    def _lane(self, lane: int, start: int) -> Iterator[Sample]:
        """The samples of a lane from number `start` on; of those before it only the places are looked up."""
        given = 0
        coming = (sample for shard in self._order(lane) for sample in read(shard, lambda: given >= start))
        waiting = list(islice(coming, self.buffer))
        for given in count():
            if given % 1024 == 0:
                chosen = draws.integers(self.buffer, (1, 1024), draws.Draws(self.seed, given, range(lane, lane + 1)))[0]
            i = chosen[given % 1024].item()
            sample, waiting[i] = waiting[i], next(coming)
            if given >= start:
                yield sample

    def _order(self, lane: int) -> Iterator[Path]:
        n, known = len(self.shards), -1
        for turn in count(lane, self.lanes):
            epoch, place = divmod(turn, n)
            if epoch != known:
                known, order = epoch, draws.uniform((1, n), draws.Draws(~self.seed, epoch, range(1)))[0].argsort()
            yield self.shards[order[place]]
