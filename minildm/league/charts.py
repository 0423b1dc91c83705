"""What came out, as a figure."""

import hashlib
import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from .. import show
from ..files import atomic_write
from ..scenes import BACKGROUNDS, COLOURS, SHAPES, SIZES
from .contestants import ENTRIES
from .running import CALLS, LADDER, TUNING
from .telling import over_seeds, sampling

if TYPE_CHECKING:
    from matplotlib.figure import Figure

HUES = dict(zip(ENTRIES, ("red", "brown", "blue", "green", "purple", "orange"), strict=True))
CHANCE = sum(1 / len(words) for words in (SHAPES, COLOURS, SIZES, BACKGROUNDS)) / 4  # of an attribute, by guessing
APART = 4  # points by which the entries stand beside each other in the figure, or no whisker could be told from another


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
    from PIL import Image
    from PIL.PngImagePlugin import PngInfo

    fig, file, said = figure(runs), io.BytesIO(), PngInfo()
    fig.savefig(file, format="png", facecolor="white")
    said.add_text("plotted", plotted(fig))
    few = Image.open(file).convert("RGB").quantize(256, kmeans=4, dither=Image.Dither.NONE)  # a third of the bytes
    return atomic_write(path, lambda part: few.save(part, "png", optimize=True, pnginfo=said))


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
            where, flow = (sampling(some), some[0]["memory"]), entry.startswith("flow")
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
