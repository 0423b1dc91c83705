"""The seconds that docs/measurements.md states, measured side by side.

    python tools/measure.py [--record]

Prints one line a figure: what, its median, its least and greatest. The time of a training step is also given as a
ratio to a fixed loop of convolutions in the same process, which says more of the code and less of the machine.
With --record all goes into docs/results/measure.json.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable

import measurements
import torch
import torch.nn.functional as F

from minildm import recipes, scenes
from minildm.train import fit

PROMPT = "a large red circle on a white background"


def child(code: str) -> float:
    """Seconds of a whole Python process."""
    start = time.perf_counter()
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
    return time.perf_counter() - start


def tell(found: dict, what: str, values: list[float], unit: str) -> None:
    found[what] = [round(value, 4) for value in (statistics.median(values), min(values), max(values))]
    print(f"{what}: {statistics.median(values):.3g} {unit} ({min(values):.3g} to {max(values):.3g})", flush=True)


def calibration_loop() -> float:
    """Seconds of 100 convolutions, 64 channels of 32 x 32, a batch of 32, in float32."""
    x, w = torch.randn(32, 64, 32, 32), torch.randn(64, 64, 3, 3)
    start = time.perf_counter()
    for _ in range(100):
        F.conv2d(x, w, padding=1)
    return time.perf_counter() - start


def step_seconds(name: str, count: int = 20, **options: object) -> list[float]:
    run = recipes.prepare(name, **options)
    stamps = [now.seconds for now in fit(run.model, run.loss, steps=count, lr=run.lr, autocast=run.autocast)]
    return [b - a for a, b in zip(stamps[2:], stamps[3:], strict=False)]  # the first ones also allocate


def per_second(work: Callable[[], object], count: int, repeats: int = 5) -> list[float]:
    rates = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        rates.append(count / (time.perf_counter() - start))
    return rates


def main() -> None:
    parser = argparse.ArgumentParser(description="The seconds that the page of measurements states.")
    parser.add_argument("--record", action="store_true", help="write them into docs/results/measure.json")
    asked = parser.parse_args()
    found = {}
    pairs = [(child("import torch, minildm"), child("import torch")) for _ in range(7)]
    tell(found, "import minildm beyond import torch", [a - b for a, b in pairs], "s")

    drawn = scenes.draw(10_000)
    scenes.render(drawn[:1000])
    tell(found, "scenes rendered at 32x32", per_second(lambda: scenes.render(drawn), 10_000), "images/s")

    with tempfile.TemporaryDirectory() as folder:
        command = f"from minildm.cli import app; app(['picture', {PROMPT!r}, '--out', {folder + '/p.png'!r}])"
        tell(found, "minildm picture, 8 pictures, 25 steps, imports included", [child(command) for _ in range(3)], "s")

    loop = [calibration_loop() for _ in range(5)]
    tell(found, "calibration loop", loop, "s")
    for name, options in (("latent", {"objects": 1, "small": True}), ("pixel", {"objects": 1, "small": True})):
        seconds = step_seconds(name, **options)
        tell(found, f"{name} recipe, small, one step", seconds, "s")
        share = [s / statistics.median(loop) for s in seconds]
        tell(found, f"{name} recipe, small, one step, as a share of the loop", share, "")
    if asked.record:
        measurements.record("measure", "python tools/measure.py", found)


if __name__ == "__main__":
    main()
