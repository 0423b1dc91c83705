"""What each way of saving memory saves and costs, at full size: highest memory and seconds of a prompt to a picture.

    python -m benchmarks.memory FOLDER [--size 512] [--steps 2]

FOLDER holds Stable Diffusion as published, or with random weights (`python -m tools.full_size`). Every row is a
process of its own, so that none finds memory that another left behind. On a CPU the memory is all that the process
held, PyTorch itself and the mapped file included; on a GPU what PyTorch held there.
"""

import argparse
import json
import subprocess
import sys
import time

import torch

from benchmarks.side import finish, half
from minildm import tasks, weights
from minildm.devices import best_device
from minildm.files import UserError

# a name -> half precision, rows of latents decoded at a time, parts brought to the device one by one
TRICKS = {
    "float32": (False, None, False),
    "float32, decoded 8 rows at a time": (False, 8, False),
    "half precision": (True, None, False),
    "half precision, decoded 8 rows at a time": (True, 8, False),
    "half precision, one part at a time": (True, None, True),
    "half precision, one part at a time, decoded 8 rows at a time": (True, 8, True),
}


def highest(device: torch.device) -> float:
    """GB held at most since this was last asked."""
    if device.type == "cuda":
        most = torch.cuda.max_memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        return most / 1e9
    with open("/proc/self/status") as file:  # Linux
        most = next(int(line.split()[1]) * 1024 for line in file if line.startswith("VmHWM"))
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")  # set the high-water mark back
    return most / 1e9


@torch.no_grad()
def measure(folder: str, trick: str, size: int, steps: int) -> dict:
    """The highest memory while the model is loaded, while it steps and while it decodes, and the seconds of each."""
    small, rows, alone = TRICKS[trick]
    device = best_device()
    marks, held = [time.perf_counter()], []

    def mark() -> None:
        finish()
        marks.append(time.perf_counter())
        held.append(highest(device))

    pipe = weights.load(folder, "cpu" if alone else device, half(device) if small else torch.float32)
    pipe = pipe.offload(device) if alone else pipe
    pipe.strip = rows
    mark()
    *_, z = tasks.states(pipe, "a harbour at dusk", steps=steps, scale=7.5, height=size, width=size)
    mark()
    pipe.decode(z)
    mark()
    spent = [b - a for a, b in zip(marks, marks[1:], strict=False)]
    return {"held": held, "loading": spent[0], "a step": spent[1] / steps, "decoding": spent[2]}


def main() -> None:
    parser = argparse.ArgumentParser(description="Memory and seconds of each way of saving memory.")
    parser.add_argument("folder")
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--steps", type=int, default=2)
    parser.add_argument("--trick", choices=TRICKS, help="only this row, as JSON")
    asked = parser.parse_args()
    try:
        weights.locate(asked.folder)
    except (UserError, OSError) as error:
        parser.exit(2, f"error: {error}\n")
    if asked.trick:
        print(json.dumps(measure(asked.folder, asked.trick, asked.size, asked.steps)))
        return
    print(f"| {asked.size} x {asked.size}, {best_device().type} | loading, GB | steps, GB | decoding, GB "
          "| loading, s | a step, s | decoding, s |\n|---|---|---|---|---|---|---|", flush=True)  # fmt: skip
    for trick, (_, _, alone) in TRICKS.items():
        if alone and best_device().type == "cpu":
            continue  # there is no other place to keep the parts
        command = [sys.executable, "-m", "benchmarks.memory", asked.folder, "--trick", trick]
        command += ["--size", str(asked.size), "--steps", str(asked.steps)]
        told = subprocess.run(command, capture_output=True, text=True)
        if told.returncode:  # most likely out of memory: that is a result too
            print(f"| {trick} | failed: {(told.stderr.strip().splitlines() or ['killed'])[-1]} | | | | | |", flush=True)
            continue
        found = json.loads(told.stdout.splitlines()[-1])
        times = (found["loading"], found["a step"], found["decoding"])
        print(f"| {trick} | {' | '.join(f'{x:.1f}' for x in (*found['held'], *times))} |", flush=True)


if __name__ == "__main__":
    main()
