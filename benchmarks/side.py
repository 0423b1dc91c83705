"""Two ways to do the same work, measured in turns, so that a slow minute of the machine meets both."""

import argparse
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

Work = Callable[[], object]


@dataclass
class Pair:
    """Medians over the rounds: seconds of ours and theirs, and their ratios round by round."""

    ours: float
    theirs: float
    ratio: float
    low: float
    high: float


def finish() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def seconds(work: Work) -> float:
    finish()
    started = time.perf_counter()
    work()
    finish()
    return time.perf_counter() - started


def pair(ours: Work, theirs: Work, rounds: int, warm: int = 1) -> Pair:
    """Each once a round, the order changing from round to round, after `warm` rounds that do not count."""
    mine, others = [], []
    for i in range(-warm, rounds):
        order = [(ours, mine), (theirs, others)]
        for work, times in order[:: 1 if i % 2 else -1]:
            times.append(seconds(work))
    mine, others = mine[warm:], others[warm:]
    ratios = sorted(a / b for a, b in zip(mine, others, strict=True))
    return Pair(statistics.median(mine), statistics.median(others), statistics.median(ratios), ratios[0], ratios[-1])


def half(device: torch.device) -> torch.dtype:
    """The half precision that a device has units for."""
    return torch.float16 if device.type == "cuda" else torch.bfloat16


def arguments(what: str, tiny: str) -> argparse.Namespace:
    """The options of both benchmarks: rounds, and whether only the small model is to be measured."""
    parser = argparse.ArgumentParser(description=what)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--tiny", action="store_true", help=tiny)
    return parser.parse_args()


def tell(what: str, found: Pair, goal: float | None = None) -> None:
    """One line: the ratio and its range, both medians, and whether the goal is met."""
    print(f"{what}: {found.ratio:.2f} ({found.low:.2f} to {found.high:.2f}), {found.ours:.3g} s against "
          f"{found.theirs:.3g} s{_verdict(found.ratio, goal)}", flush=True)  # fmt: skip


def tell_memory(what: str, ours: int, theirs: int, goal: float | None = None) -> None:
    """The same of bytes."""
    print(f"{what}, peak memory: {ours / theirs:.2f}, {ours / 1e6:,.0f} MB against {theirs / 1e6:,.0f} MB"
          f"{_verdict(ours / theirs, goal)}", flush=True)  # fmt: skip


def _verdict(ratio: float, goal: float | None) -> str:
    return "" if goal is None else f"; goal {goal:.2f}: {'reached' if ratio <= goal else 'missed'}"
