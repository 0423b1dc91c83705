"""Random prompts, pictures, masks, boxes, configs, recipes and command lines, until something breaks.

    python tools/fuzz.py [--cases 10000] [--seed 0] [--only NAME]

All of it runs in this process, on a small untrained model. Each case has to end in what was asked for (a picture is
finite, of the right shape, in -1..1) or in a `UserError` of one line; on the command line that is exit code 2 and the
line on stderr. Anything else is printed, each kind once, with the shortest case that came. `make fuzz` is this;
`tests/test_fuzz.py` runs a few hundred of the same cases.
"""

import argparse
import contextlib
import io
import os
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"  # a random name that looks like an id asks nobody
ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests"), str(ROOT / "tools")]

import torch  # noqa: E402
from fuzzing.cases import TARGETS  # noqa: E402
from fuzzing.targets import Place  # noqa: E402
from hypothesis import HealthCheck, Phase, given, seed, settings  # noqa: E402

from minildm.files import UserError  # noqa: E402

LIMIT = 8 << 30  # bytes of address space: what asks for more was not refused in time
PATIENCE = 30  # seconds for one case


def ended(target, place, case):
    """Run one case: "made", or "refused" for a `UserError` of one line. Raises whatever else happens."""
    try:
        with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            target(place, case)
    except UserError as error:
        assert "\n" not in str(error), f"more than one line: {error}"
        return "refused"
    return "made"


def fuzz(name, cases, place, start=0, seconds=0):
    """Run that many cases of a target, each stopped after so many seconds (0: never).

    Returns how they ended, as a Counter, and what broke: {where: (the shortest case, the trace)}.
    """
    _, strategy, target = TARGETS[name]
    counts, broken = Counter(), {}

    @seed(start)
    @settings(max_examples=cases, deadline=None, database=None, phases=[Phase.generate],
              suppress_health_check=list(HealthCheck))  # fmt: skip
    @given(strategy)
    def run(case):
        with patience(seconds):
            try:
                counts[ended(target, place, case)] += 1
            except Exception as error:
                frames = traceback.extract_tb(error.__traceback__)
                ours = [f"{Path(f.filename).name}:{f.lineno}" for f in frames if "minildm" in f.filename] or ["?"]
                where = f"{type(error).__name__} at {ours[-1]}"
                told = " ".join(repr(case).split())
                if where not in broken or len(told) < len(broken[where][0]):
                    broken[where] = told, "".join(traceback.format_exception(error)[-6:])[-3000:]
                counts["broken"] += 1

    run()
    return counts, broken


@contextlib.contextmanager
def patience(seconds):
    if not seconds or not hasattr(signal, "alarm"):
        yield
        return
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)


def late(*_):
    raise TimeoutError(f"more than {PATIENCE} seconds")


@contextlib.contextmanager
def bounded():
    """While this lasts, nothing may take much memory, and an alarm is an error. (Where the system knows such.)"""
    try:
        import resource
    except ImportError:
        yield
        return
    before = resource.getrlimit(resource.RLIMIT_AS)
    handler = signal.signal(signal.SIGALRM, late)
    resource.setrlimit(resource.RLIMIT_AS, (LIMIT, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)
        signal.signal(signal.SIGALRM, handler)


def main():
    parser = argparse.ArgumentParser(description="Random cases, until something breaks.")
    parser.add_argument("--cases", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", choices=TARGETS)
    options = parser.parse_args()
    torch.set_num_threads(1)
    total = Counter()
    with tempfile.TemporaryDirectory() as folder, bounded():
        place = Place(folder)
        for name in [options.only] if options.only else TARGETS:
            share = 10_000 if options.only else TARGETS[name][0]
            started = time.process_time()
            cases = max(1, round(share * options.cases / 10_000))
            counts, broken = fuzz(name, cases, place, options.seed, PATIENCE)
            total += counts
            told = ", ".join(f"{counts[how]:5} {how}" for how in ("made", "refused", "broken"))
            pace = 1000 * (time.process_time() - started) / counts.total()
            print(f"{name:10} {told}, {pace:6.1f} s per 1,000", flush=True)
            for where, (case, trace) in broken.items():
                print(f"\n{where}\n{trace}{case[:1000]}\n", flush=True)
    print(f"{total.total()} cases, {total['broken']} broken")
    return int(total["broken"] > 0)


if __name__ == "__main__":
    sys.exit(main())
