"""What came out: the committed runs, as records, as a table and as a figure."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from .. import show
from ..files import UserError
from ..scenes import BACKGROUNDS, COLOURS, SHAPES, SIZES
from .contestants import ENTRIES
from .judging import from_bytes
from .running import CALLS, LADDER, RATES, RUNG, TUNING, Job, calls_of, tuned

if TYPE_CHECKING:
    from matplotlib.figure import Figure

RESULTS = Path(__file__).parent / "results"
HUES = dict(zip(ENTRIES, ("red", "brown", "blue", "green", "purple", "orange"), strict=True))
CHANCE = sum(1 / len(words) for words in (SHAPES, COLOURS, SIZES, BACKGROUNDS)) / 4  # of an attribute, by guessing
COLUMNS = {
    "kernel": "kernel distance", "detail": "detail", "coverage": "coverage", "classifier one": "attributes, classifier",
    "oracle all": "prompts, oracle",
}  # fmt: skip


def results(folder: str | Path = RESULTS) -> list[dict]:
    """All finished runs, those that only chose a learning rate too: one record each, as `judging.judge` makes them."""
    files = sorted(Path(folder).glob("*_seed*.json"))
    return [json.loads(file.read_text(encoding="utf-8")) for file in files]


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
    """The league after so many seconds of training each, as Markdown; `runs` as `kept` gives them."""
    heads = ["", *COLUMNS.values(), "the same, never seen", "seeds", "weights", "s for 100", "MB to train"]
    lines = ["| " + " | ".join(heads) + " |", "|---" * len(heads) + "|"]
    for entry, title in ENTRIES.items():
        some = [run for run in runs if run["entry"] == entry and run["seconds"] == seconds]
        if not some:
            continue
        cells = [_cell(over_seeds(some, "seen", name)) for name in COLUMNS]
        cells.append(_cell(over_seeds(some, "unseen", "oracle all")))
        sampling = _sampling(some)
        cells += [str(len(some)), f"{some[0]['parameters'] / 1e6:.2f} M", f"{sampling:.1f}", f"{some[0]['memory']:.0f}"]
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


def _sampling(runs: Sequence[dict]) -> float:
    """Seconds for 100 pictures, the mean over runs of one entry."""
    return sum(run["sampling"][str(calls_of(run["entry"]))] for run in runs) / len(runs)


def _cell(figure: tuple[float, float, float]) -> str:
    value, low, high = figure
    return f"{value:.3f} ({low:.3f} to {high:.3f})"


def figure(runs: Sequence[dict]) -> "Figure":
    """The league in one picture: what more seconds of training bring, and what more calls of a sampler; cost below."""
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context(show.settings()):
        fig = Figure(figsize=(10.5, 9.6), layout="constrained")
        panels = fig.subplots(3, 2)
        _by_seconds(panels[0, 0], runs, "seen", "kernel", "Quality: kernel distance, less is better")
        _by_seconds(panels[0, 1], runs, "seen", "coverage", "Coverage of real pictures")
        _by_seconds(panels[1, 0], runs, "seen", "classifier one", "Attributes as asked (dotted: guessing)")
        _by_seconds(panels[1, 1], runs, "unseen", "classifier one", "The same, pairs never seen")
        for ax in panels[1]:
            ax.axhline(CHANCE, color="black", linewidth=1, linestyle=":")
            ax.set_ylim(0, 1)
        _by_calls(panels[2, 0], runs)
        _costs(panels[2, 1], runs)
        handles, labels = panels[0, 0].get_legend_handles_labels()
        fig.legend(handles, labels, loc="outside lower center", ncols=3, handlelength=3.5)  # or no dashes are seen
    return fig


def _by_seconds(ax, runs, which, name, title):
    for entry, label in ENTRIES.items():
        mine = [run for run in runs if run["entry"] == entry]
        lengths = sorted({run["seconds"] for run in mine})
        told = [over_seeds([run for run in mine if run["seconds"] == s], which, name) for s in lengths]
        if told:
            _line(ax, lengths, told, entry, label)
    ax.set_title(title)
    ax.set_xlabel("seconds of training")
    ticks = sorted({run["seconds"] for run in runs}) or [TUNING]
    ax.set_xscale("log")
    ax.set_xticks(ticks, [f"{s:,}" for s in ticks])
    ax.minorticks_off()
    _upwards(ax, name)


def _upwards(ax, name):
    """From 0; kernel distances, of which one is a hundred times another, by powers of ten down to a tenth."""
    if name == "kernel":
        ax.set_yscale("symlog", linthresh=0.1)
        ax.set_yticks([0, 0.1, 1, 10], ["0", "0.1", "1", "10"])
        ax.minorticks_off()
    ax.set_ylim(bottom=0)


def _line(ax, where, told, entry, label):
    middle, low, high = (torch.tensor(part) for part in zip(*told, strict=True))
    style = {"color": show.PALETTE[HUES[entry]], "linestyle": "--" if entry.endswith("shipped") else "-"}
    reach = torch.stack([middle - low, high - middle]).clamp(min=0)
    ax.errorbar(where, middle, reach, label=label, marker="o", capsize=3, elinewidth=1.2, **style)


def _by_calls(ax, runs):
    climbed = [run for run in runs if run["calls"]]
    there = {(run["seconds"], run["entry"]) for run in climbed}
    everyone = {entry for _, entry in there}
    # a league may be half run: the longest training that all have had
    longest = max((seconds for seconds, _ in there if all((seconds, e) in there for e in everyone)), default=0)
    for run in climbed:
        if run["seconds"] == longest:
            where = sorted(map(int, run["calls"]))
            told = [run["calls"][str(calls)]["kernel"] for calls in where]
            _line(ax, where, told, run["entry"], None)
    ax.set_title(f"Kernel distance by calls, after {longest:,} s")
    ax.set_xlabel("calls of the sampler (guided: two answers each)")
    ax.set_xscale("log")
    ax.set_xticks(LADDER, LADDER)
    ax.minorticks_off()
    _upwards(ax, "kernel")


def _costs(ax, runs):
    for entry in ENTRIES:
        some = [run for run in runs if run["entry"] == entry]
        if some:
            ax.plot(_sampling(some), some[0]["memory"], "o", markersize=11, color=show.PALETTE[HUES[entry]],
                    fillstyle="none" if entry.endswith("shipped") else "full")  # fmt: skip
    ax.set_title("What it costs")
    ax.set_xlabel(f"seconds for 100 pictures, {CALLS} calls (VAE: one)")
    ax.set_ylabel("MB to train")
    ax.set_xscale("log")
    ax.set_xticks([0.3, 1, 3, 10, 30], [0.3, 1, 3, 10, 30])
    ax.minorticks_off()
    ax.set_ylim(0, 1.2 * max((run["memory"] for run in runs), default=1.0))
