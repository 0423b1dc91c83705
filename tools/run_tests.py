"""Everything `make test` runs, in order and against the clock. `make quick` is the same with --quick.

    python tools/run_tests.py [--quick] [--slack 2]

Lint, then unit and parity tests, then every notebook from its first cell to its last. A part that fails stops
nothing, but the whole then fails. The times are for two cores; --slack stretches them for slower machines.
"""

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOKS = ROOT / "notebooks"
PYTEST = [sys.executable, "-m", "pytest"]

# The time ledger, in minutes.
TESTS, SAMPLES, QUICK, LESSON, SOLUTION = 8.0, 5.0, 3.0, 5.0, 0.5
NOTEBOOKS_TOGETHER = 25.0  # 20 for lessons and 5 for solutions; what one part leaves, the other may use on a slow day
SAMPLED = ["tests/test_interrupted.py", "tests/test_scale.py", "tests/test_fuzz.py"]  # of `make kills`, `make fuzz`


def main() -> int:
    parser = argparse.ArgumentParser(description="Run every test and notebook, against the clock.")
    parser.add_argument("--quick", action="store_true", help="lint and the fast tests only")
    parser.add_argument("--slack", type=float, default=1.0, help="stretch the ledger by this factor")
    options = parser.parse_args()

    rows = [run("ruff", [sys.executable, "-m", "ruff", "check"], 1.0)]
    if options.quick:
        rows.append(run("unit, fast ones", [*PYTEST, "-q", "-m", "not slow", "tests"], QUICK))
    else:
        others = [f"--ignore={path}" for path in SAMPLED]
        rows.append(run("unit and parity", [*PYTEST, "-q", "--durations=10", "tests", *others], TESTS))
        rows.append(run("kills, processes, random input", [*PYTEST, "-q", "--durations=5", *SAMPLED], SAMPLES))
        lessons = [notebook(path, LESSON) for path in sorted(NOTEBOOKS.glob("*.ipynb"))]
        solutions = [notebook(path, SOLUTION) for path in sorted(NOTEBOOKS.glob("solutions/*.ipynb"))]
        rows += [*lessons, *solutions]
        for name, parts in (("all lessons", lessons), ("all solutions", solutions), ("both", lessons + solutions)):
            rows.append((name, sum(minutes for _, minutes, _, _ in parts), NOTEBOOKS_TOGETHER, True))

    print(f"\n{'':56} minutes  at most")
    failed = False
    for name, minutes, most, passed in rows:
        late = minutes > most * options.slack
        failed |= late or not passed
        verdict = "  FAILED" * (not passed) + "  TOO LONG" * late
        print(f"{name:56} {minutes:7.1f}  {most * options.slack:7.1f}{verdict}")
    return int(failed)


def run(name: str, command: list[str], most: float) -> tuple[str, float, float, bool]:
    """One part: its name, the minutes it took, those it may take, whether it passed."""
    print(f"\n== {name}: {' '.join(command[1:])}", flush=True)
    start = time.monotonic()
    code = subprocess.run(command, cwd=ROOT, env=os.environ | {"HF_HUB_OFFLINE": "1"}).returncode
    return name, (time.monotonic() - start) / 60, most, code == 0


def notebook(path: Path, most: float) -> tuple[str, float, float, bool]:
    """One notebook, every cell in order: no cell may fail, tagged cells must show what they showed before."""
    name = path.relative_to(ROOT).as_posix()
    return run(name, [*PYTEST, "-q", "--nbval-lax", "--nbval-current-env", name], most)


if __name__ == "__main__":
    sys.exit(main())
