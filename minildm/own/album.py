"""A folder of pictures made ready for training: sorted into buckets, a part held out, and a report on all of it."""

import hashlib
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from .. import folders
from ..files import UserError
from ..folders import Fault, Picture
from .buckets import Place, best, cropped, places

NAMES = 5  # of a list in a report that is printed; one that is written has them all


@dataclass
class Album:
    """Pictures that a model can be trained on. Lists of the same length: pictures, their buckets, who is held out."""

    path: Path
    source: str
    pictures: list[Picture]
    places: list[Place]  # height and width of each
    held_out: list[bool]
    faults: list[Fault]

    @property
    def digest(self) -> str:
        """12 hexadecimal digits that name these pictures, captions and sizes, in this order."""
        rows = [(p.digest, p.caption, place) for p, place in zip(self.pictures, self.places, strict=True)]
        return hashlib.sha256(repr(rows).encode()).hexdigest()[:12]

    @property
    def place(self) -> Place:
        """The bucket of most pictures."""
        return Counter(self.places).most_common(1)[0][0]

    def numbers(self, held_out: bool) -> list[int]:
        """The numbers of the pictures that are held out, or of those that are trained on."""
        return [i for i, held in enumerate(self.held_out) if held == held_out]

    def groups(self, numbers: Iterable[int]) -> list[list[int]]:
        """These numbers, bucket by bucket."""
        groups: dict[Place, list[int]] = {}
        for i in numbers:
            groups.setdefault(self.places[i], []).append(i)
        return [groups[place] for place in sorted(groups)]

    def report(self, names: int | None = NAMES) -> str:
        """What was found, in lines for people; of each list of files the first `names`, or with None all."""
        sizes = [(p.width, p.height) for p in self.pictures]
        least, most = (by(sizes, key=lambda size: size[0] * size[1]) for by in (min, max))
        cuts = [cropped(*size, place) for size, place in zip(sizes, self.places, strict=True)]
        worst = max(range(len(cuts)), key=cuts.__getitem__)
        pixels = [w * h for w, h in sizes]
        share = sum(cut * n for cut, n in zip(cuts, pixels, strict=True)) / sum(pixels)
        told = len({p.caption for p in self.pictures})
        held = sum(self.held_out)
        rows = [
            ("pictures", f"{len(self.pictures)} can be used; {told} different captions, from {self.source}"),
            ("sizes", f"{least[0]}x{least[1]} to {most[0]}x{most[1]} pixels"),
            ("buckets", ", ".join(f"{w}x{h}: {n}" for (h, w), n in Counter(self.places).most_common())),
            ("cut away", f"{share:.1%} of all pixels" + (
                f", at most {cuts[worst]:.1%} ({self.pictures[worst].name})" if cuts[worst] >= 0.0005 else "")),
            ("held out", f"{held} of them, never trained on" if held else "none, so memorising cannot be seen"),
        ]  # fmt: skip
        for kind, words in folders.KINDS.items():
            if found := [fault.name for fault in self.faults if fault.kind == kind]:
                rest = f" and {len(found) - names} more" if names is not None and len(found) > names else ""
                rows.append(("left out", f"{len(found)} {words}: {', '.join(found[:names])}{rest}"))
        return "\n".join([f"{self.path}", *(f"  {name:<10}{text}" for name, text in rows)])


def look(path: str | Path, size: int = 64, step: int = 8, held_out: float = 0.05) -> Album:
    """Read a folder as `folders.look` does, leave out what cannot be used, and sort the rest into buckets.

    size: the side of a square bucket; the others have about its area, and sides that are multiples of `step`. A
    picture that would have to be enlarged for its bucket is too small. held_out: the share of pictures that training
    never sees, chosen by the hash of their files, so that more pictures do not change the choice.
    Raises `UserError` as `folders.look` does, and where fewer than 2 pictures are left.
    """
    choices = places(size, step)

    def least(width: int, height: int) -> Place:
        h, w = best(width, height, choices)
        return w, h

    found = folders.look(path, least)
    kept, again = folders.twins(found.pictures)
    faults = found.faults + again
    if len(kept) < 2:
        counts = Counter(fault.kind for fault in faults)
        got = ", ".join([f"{len(kept)} usable", *(f"{n} {kind}" for kind, n in counts.items())])
        first = f"; the first fault is: {faults[0].error}" if faults else ""
        raise UserError(f"folder {path}", got, f"at least 2 pictures that can be used at size {size}{first}")
    return Album(Path(path), found.source, kept, [best(p.width, p.height, choices) for p in kept],
                 _held_out(kept, held_out), faults)  # fmt: skip


def _held_out(given: list[Picture], share: float) -> list[bool]:
    if not share:
        return [False] * len(given)
    numbers = [int(p.digest[:8], 16) / 2**32 for p in given]
    limit = max(share, min(numbers) + 2**-33)  # at least one
    held = [number < limit for number in numbers]
    if all(held):
        held[numbers.index(max(numbers))] = False
    return held
