"""Two ways to do the same work, measured in turns, so that a slow minute of the machine meets both."""

import argparse
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

from tools.measurements import record

Work = Callable[[], object]
told: dict[str, dict] = {}  # what this process has measured, for --record
goals: dict[str, dict] = {}


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
    """The options of both benchmarks: rounds, whether to measure the small model alone, and whether to record."""
    parser = argparse.ArgumentParser(description=what)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--tiny", action="store_true", help=tiny)
    parser.add_argument("--record", action="store_true", help="write what was measured into docs/results")
    asked = parser.parse_args()
    if asked.record and asked.tiny:
        parser.error("--record writes all rows anew, and --tiny measures only some")
    return asked


def keep(what: str, ratio: float | list[float], ours: float, theirs: float, goal: float | None) -> None:
    told[what] = {"ratio": ratio, "ours": ours, "theirs": theirs}
    if goal is not None:
        goals[f"{what}/ratio"] = {"at most": goal}


def keep_all(name: str, device: torch.device) -> None:
    """Write all that was told into docs/results/NAME.json, or NAME-cuda.json where there is a GPU."""
    record(name if device.type == "cpu" else f"{name}-{device.type}", f"python -m benchmarks.{name}", told, goals)


def tell(what: str, found: Pair, goal: float | None = None) -> None:
    """One line: the ratio and its range, both medians, and whether the goal is met."""
    ratio = [round(part, 4) for part in (found.ratio, found.low, found.high)]
    keep(what, ratio, round(found.ours, 4), round(found.theirs, 4), goal)
    print(f"{what}: {found.ratio:.2f} ({found.low:.2f} to {found.high:.2f}), {found.ours:.3g} s against "
          f"{found.theirs:.3g} s{_verdict(found.ratio, goal)}", flush=True)  # fmt: skip


def tell_memory(what: str, ours: int, theirs: int, goal: float | None = None) -> None:
    """The same of bytes."""
    keep(f"{what}, peak memory", round(ours / theirs, 4), round(ours / 1e6), round(theirs / 1e6), goal)
    print(f"{what}, peak memory: {ours / theirs:.2f}, {ours / 1e6:,.0f} MB against {theirs / 1e6:,.0f} MB"
          f"{_verdict(ours / theirs, goal)}", flush=True)  # fmt: skip


def _verdict(ratio: float, goal: float | None) -> str:
    return "" if goal is None else f"; goal {goal:.2f}: {'reached' if ratio <= goal else 'missed'}"
