"""What came out: the committed runs, as records and as a table."""

from collections.abc import Sequence
from pathlib import Path

from torch import Tensor

from ..files import UserError
from .contestants import ENTRIES
from .judging import from_bytes
from .running import RATES, RUNG, TUNING, Job, calls_of, record, tuned

RESULTS = Path(__file__).parent / "results"
COLUMNS = {
    "kernel distance": ("seen", "kernel"), "detail": ("seen", "detail"), "coverage": ("seen", "coverage"),
    "coverage, never seen": ("unseen", "coverage"), "attributes, classifier": ("seen", "classifier one"),
    "attributes, never seen": ("unseen", "classifier one"), "prompts, oracle": ("seen", "oracle all"),
    "oracle, never seen": ("unseen", "oracle all"),
}  # fmt: skip
FLOOR = 0.01  # where no entry comes so far, the oracle has nothing to tell


def results(folder: str | Path = RESULTS) -> list[dict]:
    """All finished runs, those that only chose a learning rate too: one record each, as `judging.judge` makes them.

    Raises `UserError` where a file is broken.
    """
    return [record(file) for file in sorted(Path(folder).glob("*_seed*.json"))]


def kept(folder: str | Path = RESULTS) -> list[dict]:
    """The runs with each entry's chosen learning rate, by entry, seconds and seed, without those that chose it."""
    folder = Path(folder)
    rates = {entry: tuned(entry, folder) for entry in ENTRIES}
    chosen = [run for run in results(folder)
              if run["lr"] == rates[run["entry"]] and (run["seconds"], run["seed"]) != (TUNING, 0)]  # fmt: skip
    return sorted(chosen, key=lambda run: (list(ENTRIES).index(run["entry"]), run["seconds"], run["seed"]))


def pictures(entry: str, seconds: int, folder: str | Path = RESULTS) -> Tensor:
    """Pictures (RUNG, 3, 32, 32) in -1..1 that a contestant drew after so many seconds of training.

    For the first RUNG of the PICTURES prompts of set "one" (`evaluate.prompts`); a smaller set has others.
    Raises `UserError` where there are none of that training.
    """
    from PIL import Image
    from torchvision.transforms.functional import pil_to_tensor

    lr = tuned(entry, Path(folder)) if entry in ENTRIES else None
    file = Path(folder) / f"{Job(entry, seconds, 0, lr or 0.0).name}.png"
    if not file.exists():
        there = sorted({(run["entry"], run["seconds"]) for run in kept(folder) if run["calls"]})
        raise UserError("pictures of", f"{entry}, {seconds} s", "one of " + ", ".join(f"{e}, {s} s" for e, s in there))
    rows = pil_to_tensor(Image.open(file)).unfold(1, 32, 32).unfold(2, 32, 32)  #     (3, rows, 16, 32, 32)
    return from_bytes(rows.permute(1, 2, 0, 3, 4).flatten(0, 1)[:RUNG])


def over_seeds(runs: Sequence[dict], *path: str) -> tuple[float, float, float]:
    """A figure of several runs: its mean, and the least and greatest end of their intervals."""
    found = []
    for run in runs:
        for name in path:
            run = run[name]
        found.append(run)
    values, lows, highs = zip(*found, strict=True)
    return sum(values) / len(values), min(lows), max(highs)


def table(runs: Sequence[dict], seconds: int) -> str:
    """The league after so many seconds of training each, as Markdown; `runs` as `kept` gives them.

    The oracle's columns are there only if it reads FLOOR of somebody's pictures.
    """
    those = [run for run in runs if run["seconds"] == seconds]
    reads = any(over_seeds([run], "seen", "oracle all")[0] >= FLOOR for run in those)
    columns = {head: path for head, path in COLUMNS.items() if reads or "oracle all" not in path}
    heads = ["", *columns, "seeds", "weights", "s for 100", "MB to train"]
    lines = ["| " + " | ".join(heads) + " |", "|---" * len(heads) + "|"]
    for entry, title in ENTRIES.items():
        some = [run for run in those if run["entry"] == entry]
        if not some:
            continue
        cells = [_cell(over_seeds(some, *path)) for path in columns.values()]
        took, mega = sampling(some), some[0]["memory"]
        cells += [str(len(some)), f"{some[0]['parameters'] / 1e6:.2f} M", f"{took:.1f}", f"{mega:.0f}"]
        lines.append("| " + " | ".join([title, *cells]) + " |")
    return "\n".join(lines)


def rates(folder: str | Path = RESULTS) -> str:
    """What each learning rate came to, the kernel distance after TUNING seconds, as Markdown; the chosen one bold."""
    heads = ["learning rate", *(f"{lr:g}" for lr in RATES)]
    lines = ["| " + " | ".join(heads) + " |", "|---" * len(heads) + "|"]
    found = {(run["entry"], run["lr"]): run for run in results(folder) if (run["seconds"], run["seed"]) == (TUNING, 0)}
    for entry, title in ENTRIES.items():
        some = [found[entry, lr] for lr in RATES if (entry, lr) in found]
        if len(some) == len(RATES):
            cells = [_cell(over_seeds([run], "seen", "kernel")) for run in some]
            best = RATES.index(tuned(entry, Path(folder)))
            cells[best] = f"**{cells[best]}**"
            lines.append("| " + " | ".join([title, *cells]) + " |")
    return "\n".join(lines)


def sampling(runs: Sequence[dict]) -> float:
    """Seconds for 100 pictures, the mean over runs of one entry."""
    return sum(run["sampling"][str(calls_of(run["entry"]))] for run in runs) / len(runs)


def _cell(figure: tuple[float, float, float]) -> str:
    value, low, high = figure
    return f"{value:.3f} ({low:.3f} to {high:.3f})"
