"""Which runs there are, in which order, and one of them from the first step to its file of figures."""

import json
import platform
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from .. import show
from ..evaluate import prompts
from ..files import UserError, atomic_write
from ..train import Progress, each
from .contestants import ENTRIES, Contestant
from .judging import FIGURES, SETS, from_bytes, judge, to_bytes

RATES = (5e-4, 1.5e-3, 4.5e-3)
TUNING = 60  # seconds of training for each learning rate
CALLS = 25  # steps of a sampler where nothing else is said; a VAE has one
LADDER = (1, 2, 5, 10, 25, 50, 100)
WHOLE = "all that a run of the league leaves; without this file that run is done again"
PICTURES, RUNG = 256, 128  # in each set of prompts, and for each number of calls


@dataclass(frozen=True)
class Job:
    """One run of the league."""

    entry: str
    seconds: int
    seed: int
    lr: float

    @property
    def name(self) -> str:
        return f"{self.entry}_{self.seconds}s_seed{self.seed}_lr{self.lr:g}"

    @property
    def climbs(self) -> bool:
        """Whether its pictures are kept, and drawn with every number of calls too."""
        return self.seed == 0 and self.seconds > TUNING


def calls_of(entry: str) -> int:
    """How many calls an entry's pictures take where nothing else is said."""
    return 1 if entry == "vae" else CALLS


def record(file: Path) -> dict:
    """What a finished run left in its file. Raises `UserError` where that is not whole."""
    try:
        run = json.loads(file.read_text(encoding="utf-8"))
        numbers = [run[name] for name in ("seconds", "seed", "lr", "parameters", "memory")]
        numbers.append(run["sampling"][str(calls_of(run["entry"]))])
        told = [run[which][name] for which in SETS for name in FIGURES]
        told += [run["calls"][calls]["kernel"] for calls in run["calls"]]
        if run["entry"] not in ENTRIES:
            raise ValueError(f"an entry {run['entry']!r}")
        for value, low, high in told:
            numbers += [value, low, high]
        if not all(isinstance(x, int | float) for x in numbers):
            raise ValueError("something else in the place of a number")
    except KeyError as error:
        raise UserError(str(file), f"no {error}", WHOLE) from error
    except (ValueError, TypeError, AttributeError) as error:
        raise UserError(str(file), str(error), WHOLE) from error
    return run


def tuned(entry: str, folder: Path) -> float | None:
    """The learning rate of the least kernel distance after TUNING seconds; None while one of the runs is missing.

    The marked entries have the rate of their unmarked ones.
    """
    found = {}
    for lr in RATES:
        file = folder / (Job(entry.removesuffix("-shipped"), TUNING, 0, lr).name + ".json")
        if not file.exists():
            return None
        found[lr] = record(file)["seen"]["kernel"][0]
    return min(found, key=found.get)


def jobs(budget: int, seeds: int, folder: str | Path, entries: list[str] | None = None) -> Iterator[Job]:
    """What is left to do in this folder: first the learning rates, by seed 0, then so many seeds at `budget` seconds.

    Raises `UserError` for an unknown entry.
    """
    folder, entries = Path(folder), list(entries or ENTRIES)
    for entry in entries:
        if entry not in ENTRIES:
            raise UserError("entry", entry, "one of " + ", ".join(ENTRIES))
    return _jobs(budget, seeds, folder, entries)


def _jobs(budget: int, seeds: int, folder: Path, entries: list[str]) -> Iterator[Job]:
    def missing(job: Job) -> bool:
        return not (folder / f"{job.name}.json").exists()

    for lr in RATES:
        for entry in dict.fromkeys(name.removesuffix("-shipped") for name in entries):
            yield from filter(missing, [Job(entry, TUNING, 0, lr)])
    first = int(budget == TUNING)  # seed 0 has chosen the rate there, and would be the best of three
    for seed in range(first, first + seeds):
        for entry in entries:
            yield from filter(missing, [Job(entry, budget, seed, tuned(entry, folder))])


def play(job: Job, folder: str | Path, device: str | torch.device = "cpu") -> Iterator[Progress]:
    """Run a job and yield its progress, first of the training, then of the drawing; at the end its files are there.

    On the CPU all of it runs on one thread, so that its seconds are those of one core. What was drawn is kept
    (NAME.pt), so that a job cut short while it was judged, or judged anew, is not trained again.
    """
    folder = Path(folder)
    kept = folder / f"{job.name}.pt"
    if not kept.exists():
        threads = torch.get_num_threads()
        torch.set_num_threads(1 if torch.device(device).type == "cpu" else threads)
        try:
            yield from _played(job, kept, device)
        finally:
            torch.set_num_threads(threads)
    drawn = torch.load(kept, weights_only=True)
    if job.climbs:
        sheet = from_bytes(drawn["pictures"]["seen"][:RUNG])
        show.to_image(sheet, columns=16, size=32, gap=0).save(folder / f"{job.name}.png", optimize=True)
    atomic_write(folder / f"{job.name}.json", json.dumps(judge(drawn), indent=1).encode())


def _played(job: Job, kept: Path, device: str | torch.device) -> Iterator[Progress]:
    contestant = Contestant(job.entry, job.seed, device)
    wall = time.perf_counter()
    yield from contestant.train(job.seconds, job.lr)
    wall = time.perf_counter() - wall
    pictures, sampling = {}, {}

    def drawing(key: str, of: str, calls: int, count: int) -> float:
        generator = torch.Generator().manual_seed(job.seed)
        said, _ = prompts(SETS[of], count)
        begun = contestant.clock()
        made = torch.cat([contestant.draw(said[i : i + 64], calls, generator) for i in range(0, count, 64)])
        sampling[str(calls)] = 100 / count * (contestant.clock() - begun)
        pictures[key] = to_bytes(made)
        return 100 / count

    usual = calls_of(job.entry)
    asked = [(name, name, usual, PICTURES) for name in SETS]
    if job.climbs:
        asked += [(f"calls {calls}", "seen", calls, RUNG) for calls in ((1,) if usual == 1 else LADDER)]
    yield from each([lambda part=part: drawing(*part) for part in asked])
    facts = {
        "parameters": contestant.parameters, "memory": contestant.memory(), "steps": contestant.steps,
        "busy": contestant.seconds, "wall": wall, "sampling": sampling,
        "machine": f"{device}, torch {torch.__version__.split('+')[0]}, {platform.system()} {platform.machine()}",
    }  # fmt: skip
    atomic_write(kept, lambda part: torch.save(asdict(job) | facts | {"pictures": pictures}, part))
