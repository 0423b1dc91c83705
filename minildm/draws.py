"""Random numbers by name: which ones come depends on a seed and some counters, not on what was drawn before.

So any part of a data set or of a batch can be had without the rest, by one process or by many. A counter is hashed
instead of a state being advanced, by the output function of SplitMix64 (Steele, Lea and Flood, "Fast splittable
pseudorandom number generators", 2014; constants as in S. Vigna's public-domain splitmix64.c), whose own state is a
counter.
"""

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

_STEP = np.uint64(0x9E3779B97F4A7C15)


def mixed(z: np.ndarray) -> np.ndarray:
    """SplitMix64's output function, on an array of uint64 (numpy wraps arrays at 2**64 without a warning)."""
    z = z + _STEP
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def _key(number: int) -> np.ndarray:
    return mixed(np.full(1, number % 2**64, dtype=np.uint64))


def _table(keys: np.ndarray, n: int) -> np.ndarray:
    """n numbers of 64 bits for each key: (b,) -> (b, n)."""
    return mixed(keys[:, None] + np.arange(1, n + 1, dtype=np.uint64) * _STEP)


def _floats(bits: np.ndarray) -> np.ndarray:
    """The upper 24 bits as float32, 0 <= u < 1."""
    return (bits >> np.uint64(40)).astype(np.float32) * np.float32(2**-24)


def uniforms(seed: int, start: int, n: int, draws: int) -> Tensor:
    """Random numbers that depend on (seed, start + row, column) alone: (n, draws) float32, 0 <= u < 1."""
    rows = np.arange(start, start + n, dtype=np.int64).astype(np.uint64)
    return torch.from_numpy(_floats(_table(mixed(_key(seed) ^ mixed(rows)), draws)))


class Draws:
    """What is drawn for some samples of a training step: each one's numbers depend on (seed, step, its index) alone.

    `indices` are the samples' places in the step's batch. The functions below take it where they take a
    `torch.Generator`. Each call has other numbers than the one before, so all processes have to make the same calls.
    """

    def __init__(self, seed: int, step: int, indices: range):
        self.indices = indices
        keys = mixed(_key(seed) ^ mixed(_key(step)))
        self._keys = mixed(keys ^ mixed(np.asarray(indices, dtype=np.int64).astype(np.uint64)))  # (b,)
        self._calls = 0

    def bits(self, n: int) -> np.ndarray:
        """n fresh numbers of 64 bits for each sample: (b, n)."""
        self._calls += 1
        return _table(mixed(self._keys + np.full(1, self._calls, dtype=np.uint64) * _STEP), n)


Source = torch.Generator | Draws | None  # None: PyTorch's own state


def uniform(shape: Sequence[int], source: Source = None) -> Tensor:
    """Uniform float32 numbers, 0 <= u < 1, on the CPU; of `Draws`, shape[0] is the number of samples."""
    if not isinstance(source, Draws):
        return torch.rand(tuple(shape), generator=source)
    return torch.from_numpy(_floats(source.bits(math.prod(shape[1:])))).view(*shape)


def integers(high: int, shape: Sequence[int], source: Source = None) -> Tensor:
    """Whole numbers 0..high-1 as int64, on the CPU, otherwise as `uniform`."""
    if not isinstance(source, Draws):
        return torch.randint(high, tuple(shape), generator=source)
    bits = source.bits(math.prod(shape[1:])) >> np.uint64(11)  # 53 of them, as many as a float64 holds
    return torch.from_numpy((bits * (high * 2.0**-53)).astype(np.int64)).view(*shape)


def normal(shape: Sequence[int], source: Source = None) -> Tensor:
    """Numbers from N(0, 1) as float32, on the CPU, otherwise as `uniform`.

    Of `Draws` by the Box-Muller transform, two from each hash: none lies beyond 5.8.
    """
    if not isinstance(source, Draws):
        return torch.randn(tuple(shape), generator=source, dtype=torch.float32)
    n = math.prod(shape[1:])
    bits = source.bits((n + 1) // 2)
    radius = torch.from_numpy(1 - _floats(bits)).log_().mul_(-2).sqrt_()  #               above 0, so the log is finite
    angle = torch.from_numpy(_floats(bits << np.uint64(24))).mul_(2 * math.pi)
    return torch.cat([radius * angle.cos(), radius * angle.sin()], 1)[:, :n].reshape(*shape)


def places(batch: int, source: Source = None) -> range:
    """Which samples of a batch are asked for: those of `Draws`, else all of them."""
    return source.indices if isinstance(source, Draws) else range(batch)
