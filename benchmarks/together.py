"""How far trainings on many processes, or in many parts, end from the same on one: the largest difference of a weight.

    python -m benchmarks.together [--record]

The small U-Net of tests/scaling.py, 100 steps of batch 8 on the CPU, from the same first weights.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import torch

from tools.measurements import record

SCRIPT = Path(__file__).parent.parent / "tests" / "scaling.py"


def trained(count: int, folder: str) -> dict[str, dict[str, torch.Tensor]]:
    """The weights of each way to train on so many processes, by "dtype, parts"."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={count}"]
    one_thread = os.environ | {"OMP_NUM_THREADS": "1"}
    subprocess.run([*command, SCRIPT, "proof", folder], check=True, env=one_thread)
    return torch.load(Path(folder, f"proof-{count}.pt"))


def apart(one: dict, other: dict, part: str) -> float:
    return max((one[name] - value).abs().max().item() for name, value in other.items() if name.startswith(part))


def main() -> None:
    parser = argparse.ArgumentParser(description="How far trainings on many processes end from one on one.")
    parser.add_argument("--record", action="store_true", help="write it into docs/results/together.json")
    asked = parser.parse_args()
    values = {}
    with tempfile.TemporaryDirectory() as folder:
        alone = trained(1, folder)
        for count in (1, 2, 4):
            for way, found in trained(count, folder).items():
                dtype, parts = way.split(", ")
                if count * int(parts) > 1:
                    ends = {part: apart(alone[f"{dtype}, 1"], found, part) for part in ("model", "ema")}
                    values.setdefault(dtype, {})[f"{count} processes, {parts} parts"] = ends
                    print(dtype, count, parts, ends, flush=True)
    if asked.record:
        record("together", "python -m benchmarks.together", values, {"float64": {"at most": 1e-9}})


if __name__ == "__main__":
    main()
