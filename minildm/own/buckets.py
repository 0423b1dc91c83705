"""Sizes for pictures of all shapes, and the order in which training sees them.

A batch has one size. So pictures are sorted into a few sizes of about the same area, and every batch is of one of
them (NovelAI 2022): less is cut away than with squares, and no time goes into padding.
"""

import hashlib
from collections.abc import Sequence
from functools import lru_cache

import torch

from ..files import UserError

Place = tuple[int, int]  # height and width of a bucket in pixels
LONGEST = 2.0  # of the longer side to the shorter; what is longer than the longest bucket loses its ends


def places(size: int, step: int) -> list[Place]:
    """All buckets: both sides multiples of `step`, of each width the largest height with an area up to size * size.

    Raises `UserError` where `size` is not itself a multiple of `step`.
    """
    if isinstance(size, bool) or not isinstance(size, int) or size < step or size % step:
        raise UserError("size", size, f"a multiple of {step} pixels: the network halves it that often")
    found = set()
    for one in range(step, size + 1, step):
        other = size * size // one // step * step
        if other <= LONGEST * one:
            found |= {(one, other), (other, one)}
    return sorted(found)


def cropped(width: int, height: int, place: Place) -> float:
    """The share of a picture that is cut away when it is scaled to cover a bucket: 0..1."""
    ratio = width / height * place[0] / place[1]
    return 1 - min(ratio, 1 / ratio)


def best(width: int, height: int, choices: Sequence[Place]) -> Place:
    """The bucket that cuts least away; among equals the largest."""
    return min(choices, key=lambda place: (round(cropped(width, height, place), 9), -place[0] * place[1], place))


class Order:
    """Which pictures are in the batch of a step: a function of (seed, step) alone, whatever ran before.

    groups: the numbers of the pictures in each bucket. Each bucket goes through its pictures in one random order
    after the other; each step takes the bucket that is furthest behind its share of all pictures. So every picture
    is seen equally often, whatever its shape.
    """

    def __init__(self, groups: Sequence[Sequence[int]], batch: int, seed: int):
        self.groups, self.batch, self.seed = [list(group) for group in groups if len(group)], batch, seed
        if not self.groups:
            raise UserError("pictures to train on", 0, "at least one")
        self.total = sum(map(len, self.groups))
        self._turns(0)

    def at(self, step: int) -> list[int]:
        """The numbers of the pictures in the batch of this step, all of one bucket."""
        if step < self.step:
            self._turns(0)
        while self.step < step:
            self.taken[self._next()] += 1
            self.step += 1
        group = self._next()
        first = self.taken[group] * self.batch
        return [self._place(group, place) for place in range(first, first + self.batch)]

    def _turns(self, step: int) -> None:
        self.step, self.taken = step, [0] * len(self.groups)

    def _next(self) -> int:
        behind = [len(group) * (self.step + 1) - self.total * taken
                  for group, taken in zip(self.groups, self.taken, strict=True)]  # fmt: skip
        return behind.index(max(behind))

    def _place(self, group: int, place: int) -> int:
        members = self.groups[group]
        return members[shuffled(len(members), self.seed, group, place // len(members))[place % len(members)]]


@lru_cache(maxsize=64)
def shuffled(n: int, *seed: int) -> list[int]:
    """The numbers 0 to n - 1 in a random order that `seed` decides."""
    digest = hashlib.sha256(repr(seed).encode()).digest()
    generator = torch.Generator().manual_seed(int.from_bytes(digest[:7]))
    return torch.randperm(n, generator=generator).tolist()
