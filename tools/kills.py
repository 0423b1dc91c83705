"""Kill a training at random moments, go on with it each time, and compare its weights with those of an undisturbed run.

    python tools/kills.py [--kills 50] [--seed 0] [--record]

`make kills` calls it with --record, which puts the counts into docs/results/kills.json. Each kill is SIGKILL to a
process that runs `minildm train digits-vae`, forked off one that has imported its packages, which takes longest. What
is changed in it: it saves after every step, and slowly, so that many kills fall inside a save: a temporary file then
lies there. The process that ends the run is an ordinary one. Compared are the trained model's file, the last state, and
the lines of metrics.jsonl but their seconds. Needs Linux or macOS.
"""

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import measurements
import torch

PAUSE = 0.02  # seconds, after each piece of a state and before its renaming: most of a step is then a save
LONGEST = 1.2  # seconds from the first step of a process to its end, at most
NORMAL = (sys.executable, "-c", "from minildm.cli import app; app(prog_name='minildm')")
SERVER = (sys.executable, __file__, "--serve")
ALONE = os.environ | {"OMP_NUM_THREADS": "1"}  # two trainings run at once: threads that wait for each other slow both


def main() -> None:
    if sys.argv[1:] == ["--serve"]:
        return serve()
    parser = argparse.ArgumentParser(description="Kill a training at random moments and compare.")
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--record", action="store_true", help="write docs/results/kills.json")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = trial(Path(folder), asked.kills, asked.seed)
    for what, value in found.items():
        print(f"{what}: {value}")
    if asked.record:
        aims = {"inside a save, share": {"at least": 0.25}, "different": {"at most": 0}, "states lost": {"at most": 0}}
        measurements.record("kills", "make kills", found, aims)
    sys.exit(found["different"] + found["states lost"] > 0 or found["inside a save, share"] < 0.25)


def trial(folder: Path, kills: int, seed: int = 0) -> dict[str, float]:
    """So many kills in a run below `folder`: how many fell inside a save, and what then differed."""
    killed, whole = folder / "killed", folder / "whole"
    steps = 50 + 50 * kills  # more than the killed processes can do
    words = ["train", "digits-vae", "--steps", str(steps), "--seed", "3", "--resume", "--out"]
    silent = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    undisturbed = subprocess.Popen([*NORMAL, *words, str(whole)], env=ALONE, **silent)
    draw, inside, lost, reached = random.Random(seed), 0, 0, 0
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    with subprocess.Popen(SERVER, env=ALONE, **pipes) as server:
        for _ in range(kills):
            kill(server, [*words, str(killed)], draw.uniform(0, LONGEST))
            inside += any(killed.glob(".state-*.part"))
            before, reached = reached, newest(killed)
            lost += reached < before
        server.stdin.close()
    subprocess.run([*NORMAL, *words, str(killed)], check=True, capture_output=True, env=ALONE)
    assert undisturbed.wait() == 0
    assert not list(killed.rglob(".*.part")), "a temporary file of a killed process is still there"
    wrong = [what for what, of in PARTS.items() if not equal(of(killed), of(folder / "whole"))]
    return {
        "kills": kills, "inside a save": inside, "inside a save, share": round(inside / kills, 2),
        "steps": steps, "steps before the last kill": reached, "states lost": lost,
        "different": len(wrong),
    }  # fmt: skip


def kill(server: subprocess.Popen, words: list[str], seconds: float) -> None:
    """Let `minildm` run with these words, and kill it so long after its first step."""
    server.stdin.write(json.dumps(words).encode() + b"\n")
    server.stdin.flush()
    process = int(server.stdout.readline())
    if server.stdout.readline() != b"ready\n":
        raise RuntimeError("the training did not begin")
    time.sleep(seconds)
    os.kill(process, signal.SIGKILL)
    if int(server.stdout.readline()) != signal.SIGKILL:
        raise RuntimeError("the training was over before it was killed: it needs more steps")


def newest(folder: Path) -> int:
    """The step of the newest state that torch can read, 0 for none."""
    from minildm.checkpoint import States

    return States(folder / "state.pt", writes=False).__enter__().step


def state(folder: Path) -> object:
    """All of the last state but the seconds, and torch's global random state: each process begins with its own."""
    from minildm.checkpoint import States

    found = torch.load(States(folder / "state.pt").files()[0], weights_only=True)
    return [found[key] for key in ("model", "ema", "optimizer", "step", "ema_step", "run")]


def lines(folder: Path) -> object:
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    return [[row["step"], row["loss"], row["check"]] for row in rows]


PARTS = {
    "model": lambda folder: (folder / "diffusion_pytorch_model.safetensors").read_bytes(),
    "state": state,
    "metrics": lines,
}


def equal(a: object, b: object) -> bool:
    """To the last bit."""
    if isinstance(a, torch.Tensor):
        return a.dtype == b.dtype and torch.equal(a, b)
    if isinstance(a, dict):
        return list(a) == list(b) and all(map(equal, a.values(), b.values()))
    if isinstance(a, list):
        return len(a) == len(b) and all(map(equal, a, b))
    return a == b


def serve() -> None:
    """For each line of words on stdin, a process that is `minildm` with these words; then what it ended by."""
    import sklearn.datasets  # noqa: F401  what the training would import
    import torch._dynamo  # noqa: F401

    app = slow()
    for line in sys.stdin:
        if (process := os.fork()) == 0:
            print(os.getpid(), flush=True)
            app(json.loads(line), prog_name="minildm")
        print(os.waitpid(process, 0)[1], flush=True)


def slow() -> object:
    """`minildm`, which says "ready" at its first step, saves after each and takes its time over it."""
    from minildm import checkpoint, files, recipes
    from minildm.cli import app

    write, replace = checkpoint._write, os.replace

    def in_pieces(state: dict, part: Path) -> None:
        write(state, part)
        content = part.read_bytes()
        with part.open("wb") as file:
            for i in range(0, len(content), len(content) // 4 + 1):
                file.write(content[i : i + len(content) // 4 + 1])
                file.flush()
                time.sleep(PAUSE)

    def renamed(*paths: object) -> None:
        time.sleep(PAUSE)
        replace(*paths)

    def fit(*args: object, **extra: object) -> object:
        for number, now in enumerate(real(*args, **extra, save_every=0.0)):
            if number == 0:
                print("ready", flush=True)
            yield now

    real, recipes.fit = recipes.fit, fit
    checkpoint._write, files.os.replace = in_pieces, renamed
    return app


if __name__ == "__main__":
    main()
