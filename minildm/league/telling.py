"""What came out: the committed runs, as records, as a table and as a figure."""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from .. import show
from ..files import UserError, atomic_write
from ..scenes import BACKGROUNDS, COLOURS, SHAPES, SIZES
from .contestants import ENTRIES
from .judging import from_bytes
from .running import CALLS, LADDER, RATES, RUNG, TUNING, Job, calls_of, record, tuned

if TYPE_CHECKING:
    from matplotlib.figure import Figure

RESULTS = Path(__file__).parent / "results"
HUES = dict(zip(ENTRIES, ("red", "brown", "blue", "green", "purple", "orange"), strict=True))
CHANCE = sum(1 / len(words) for words in (SHAPES, COLOURS, SIZES, BACKGROUNDS)) / 4  # of an attribute, by guessing
COLUMNS = {
    "kernel distance": ("seen", "kernel"), "detail": ("seen", "detail"), "coverage": ("seen", "coverage"),
    "coverage, never seen": ("unseen", "coverage"), "attributes, classifier": ("seen", "classifier one"),
    "attributes, never seen": ("unseen", "classifier one"), "prompts, oracle": ("seen", "oracle all"),
    "oracle, never seen": ("unseen", "oracle all"),
}  # fmt: skip
APART = 4  # points by which the entries stand beside each other in the figure, or no whisker could be told from another
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


def plotted(fig: "Figure") -> str:
    """A fingerprint of what a figure shows: its words, and every point of its lines to six digits."""
    parts = []
    for ax in fig.axes:
        parts += [ax.get_title(loc="left"), ax.get_xlabel(), ax.get_ylabel(), *(text.get_text() for text in ax.texts)]
        lines = [line.get_xydata() for line in ax.lines]
        lines += [part for whiskers in ax.collections if hasattr(whiskers, "get_segments")
                  for part in whiskers.get_segments()]  # fmt: skip
        parts += [" ".join(f"{value:.6g}" for value in line.flatten()) for line in lines]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def save(runs: Sequence[dict], path: str | Path) -> Path:
    """Write the `figure` as a PNG file, whole or not at all, with the fingerprint of what it shows; the path."""
    fig = figure(runs)
    said = {"plotted": plotted(fig)}
    return atomic_write(path, lambda part: fig.savefig(part, format="png", facecolor="white", metadata=said))


def _by_seconds(ax, runs, which, name, title):
    tops = [0.1]
    for entry, label in ENTRIES.items():
        mine = [run for run in runs if run["entry"] == entry]
        lengths = sorted({run["seconds"] for run in mine})
        told = [over_seeds([run for run in mine if run["seconds"] == s], which, name) for s in lengths]
        if told:
            _line(ax, lengths, told, entry, label)
            tops += [high for _, _, high in told]
    ax.set_title(title)
    ax.set_xlabel("seconds of training")
    ticks = sorted({run["seconds"] for run in runs}) or [TUNING]
    ax.set_xscale("log")
    ax.set_xticks(ticks, [f"{s:,}" for s in ticks])
    ax.set_xlim(ticks[0] / 1.25, ticks[-1] * 1.25)
    ax.minorticks_off()
    _upwards(ax, name, max(tops))


def _upwards(ax, name, top):
    """From 0; kernel distances, of which one is a hundred times another, by powers of ten down to a tenth."""
    if name == "kernel":
        ax.set_yscale("symlog", linthresh=0.1, linscale=0.6)
        ax.axhspan(0, 0.1, color="0.93", linewidth=0)
        ax.set_ylabel("powers of ten (grey: even)")
        ax.set_yticks([0, 0.1, 1, 10], ["0", "0.1", "1", "10"])
        ax.minorticks_off()
        top = max(top, 9.1)
    ax.set_ylim(0, 1.1 * top)


def _line(ax, where, told, entry, label):
    from matplotlib.transforms import ScaledTranslation

    middle, low, high = (torch.tensor(part) for part in zip(*told, strict=True))
    style = {"color": show.PALETTE[HUES[entry]], "linestyle": "--" if entry.endswith("shipped") else "-"}
    reach = torch.stack([middle - low, high - middle]).clamp(min=0)
    aside = ScaledTranslation(APART * (list(ENTRIES).index(entry) - 2.5) / 72, 0, ax.figure.dpi_scale_trans)
    ax.errorbar(where, middle, reach, label=label, marker="o", markersize=5, linewidth=2, capsize=2.5, elinewidth=1.2,
                transform=ax.transData + aside, **style)  # fmt: skip


def _by_calls(ax, runs):
    tops = [0.1]
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
            tops += [high for _, _, high in told]
    ax.set_title(f"Kernel distance by calls, after {longest:,} s")
    ax.set_xlabel("calls of the sampler (guided: two answers each)")
    ax.set_xscale("log")
    ax.set_xticks(LADDER, LADDER)
    ax.set_xlim(LADDER[0] / 1.4, LADDER[-1] * 1.4)
    ax.minorticks_off()
    _upwards(ax, "kernel", max(tops))


def _costs(ax, runs):
    for entry, title in ENTRIES.items():
        some = [run for run in runs if run["entry"] == entry]
        if some:
            where, flow = (_sampling(some), some[0]["memory"]), entry.startswith("flow")
            ax.plot(*where, "s" if flow else "o", markersize=13 if flow else 9, color=show.PALETTE[HUES[entry]],
                    fillstyle="none" if entry.endswith("shipped") or flow else "full",
                    markeredgewidth=1.5)  # fmt: skip
            left = entry.startswith("latent") or entry == "pixel"
            ax.annotate(title, where, (-11 if left else 11, 0), textcoords="offset points", va="center",
                        ha="right" if left else "left", fontsize=10)  # fmt: skip
    ax.set_title("What it costs")
    ax.set_xlabel(f"seconds for 100 pictures, {CALLS} calls (VAE: one)")
    ax.set_ylabel("MB to train")
    ax.set_xscale("log")
    ax.set_xticks([0.3, 1, 3, 10, 30], [0.3, 1, 3, 10, 30])
    ax.minorticks_off()
    ax.set_ylim(0, 1.2 * max((run["memory"] for run in runs), default=1.0))
