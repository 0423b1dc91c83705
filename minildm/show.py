"""Pictures for people: tensors to image files and figures, films of a sampler, a progress bar for training.

One style for all lessons: one size of type that can be read from the back row, lines in the colours of the
shapes world, nothing drawn that says nothing. matplotlib, PIL and IPython are imported where they are used.
"""

import base64
import html
import io
import math
import sys
import textwrap
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from .files import UserError

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from PIL.Image import Image

Pictures = Tensor | Sequence[Tensor]

# The shapes world's colours that stand out from white (scenes/words.py; a test compares them).
PALETTE = {
    "blue": (0.11, 0.45, 0.89), "red": (0.90, 0.00, 0.04), "green": (0.10, 0.53, 0.30),
    "orange": (0.97, 0.60, 0.00), "purple": (0.40, 0.08, 0.60), "brown": (0.37, 0.18, 0.09),
}  # fmt: skip
TYPE, DPI = 12, 90  # points; dots an inch
SIDES, GAP = (160, 96), 4  # pixels of a picture in a figure of up to 5 columns, of more; and between two
LINE, LETTER = 1.25 * TYPE * DPI / 72, 0.5 * TYPE * DPI / 72  # pixels a line, and about those of a letter


def settings() -> dict:
    """The style, as settings of matplotlib."""
    from matplotlib import cycler

    sizes = "font. axes.title axes.label xtick.label ytick.label legend.font figure.title figure.label"
    return {f"{kind}size": TYPE for kind in sizes.split()} | {
        "axes.prop_cycle": cycler(color=list(PALETTE.values())), "axes.titlelocation": "left",
        "axes.spines.top": False, "axes.spines.right": False, "legend.frameon": False, "lines.linewidth": 2.5,
        "figure.constrained_layout.use": True, "figure.dpi": DPI, "savefig.dpi": DPI,
    }  # fmt: skip


def style() -> None:
    """Draw all figures of this session in the one style: call it once, at the top of a notebook."""
    import matplotlib

    matplotlib.rcParams.update(settings())


def sheet(pictures: Pictures, columns: int | None = None, gap: int = 0, zoom: int = 1) -> Tensor:
    """Pictures in -1..1, one (3, h, w) or n, side by side and row by row: bytes (H, W, 3).

    columns: by default all in one row. gap: white pixels between pictures. zoom: how wide each pixel becomes,
    without smoothing. One channel is shown as grey; what lies beyond -1..1 is cut.
    Raises `UserError` for tensors that are no pictures and for columns or zoom below 1.
    """
    n = len(pictures := _batch(pictures))
    columns = n if columns is None else columns
    for name, value in (("columns", columns), ("zoom", zoom)):
        if not isinstance(value, int) or value < 1:
            raise UserError(name, value, "a whole number from 1")
    cells = ((pictures.nan_to_num(0.0).clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
    cells = cells.repeat_interleave(zoom, 2).repeat_interleave(zoom, 3)  #            (n, 3, h*zoom, w*zoom)
    h, w = cells.shape[2:]
    out = torch.full((3, math.ceil(n / columns) * (h + gap) - gap, columns * (w + gap) - gap), 255)
    for i, cell in enumerate(cells):
        y, x = i // columns * (h + gap), i % columns * (w + gap)
        out[:, y : y + h, x : x + w] = cell
    return out.to(torch.uint8).permute(1, 2, 0)


def to_image(pictures: Pictures, columns: int | None = None, size: int = 128, gap: int = 4) -> "Image":
    """Pictures as `sheet` takes them as one PIL image, to save: `to_image(x).save("picture.png")`.

    Each is enlarged by whole pixels to about `size` of them, and never made smaller.
    """
    from PIL import Image

    zoom = max(1, round(size / _batch(pictures).shape[3]))
    return Image.fromarray(sheet(pictures, columns, gap, zoom).numpy())


def png(pictures: Pictures, columns: int | None = None, size: int = 128, gap: int = 4) -> bytes:
    """The image of `to_image` as the bytes of a PNG file: the `value` of an ipywidgets Image."""
    to_image(pictures, columns, size, gap).save(file := io.BytesIO(), format="png")
    return file.getvalue()


def latents(z: Tensor, spread: float = 3.0) -> Tensor:
    """Latents (n, c, h, w) of unit variance as pictures (n, 3, h, w): three channels as red, green and blue.

    -spread..spread becomes -1..1. With fewer than three channels the first is shown, as grey.
    """
    return (z[:, : 3 if z.shape[1] > 2 else 1] / spread).expand(-1, 3, -1, -1).clamp(-1, 1)


def grid(pictures: Pictures, columns: int, labels: Sequence[str] | None = None,
         title: str | None = None) -> "Figure":  # fmt: skip
    """A figure of n pictures in rows of `columns`; `labels`, n texts, are wrapped below each."""
    cells = _cells(pictures, columns)
    if labels is not None and len(labels) != len(cells):
        raise UserError("labels", len(labels), f"as many as pictures: {len(cells)}")
    side = cells.shape[3]
    texts = [textwrap.fill(label, int(side / LETTER)) for label in labels or ()]
    room = round(max((text.count("\n") + 1.5 for text in texts if text), default=0) * LINE)
    padded = torch.nn.functional.pad(cells, (0, 0, 0, room), value=1.0)  #           (n, 3, side+room, side)
    fig, ax = _canvas(sheet(padded, columns, GAP), title)
    for i, text in enumerate(texts):
        x, y = i % columns * (side + GAP) + side / 2, i // columns * (side + room + GAP) + side + 3
        ax.text(x, y, text, ha="center", va="top", fontsize=TYPE, linespacing=1.05)
    return fig


def strip(rows: Sequence[Pictures], labels: Sequence[str], columns: Sequence[str] | None = None,
          title: str | None = None) -> "Figure":  # fmt: skip
    """A figure of films: rows of n pictures of any size, `labels` at their left, `columns` (n texts) above.

    Raises `UserError` where rows, labels and columns do not fit together.
    """
    cells = [_cells(row, len(row)) for row in rows]
    widths = {len(row) for row in cells} | ({len(columns)} if columns is not None else set())
    if len(widths) != 1 or len(labels) != len(cells):
        got = f"{[len(row) for row in cells]} pictures, {len(labels)} labels, {len(columns or ())} columns"
        raise UserError("rows", got, "equal rows, a label for each, and as many columns as pictures in a row")
    fig, ax = _canvas(sheet(torch.cat(cells), len(cells[0]), GAP), title, above=24 if columns else 0)
    side = cells[0].shape[3]
    for i, label in enumerate(labels):
        text = textwrap.fill(label, 16)
        ax.text(-8, i * (side + GAP) + side / 2, text, ha="right", va="center", fontsize=TYPE)
    for i, label in enumerate(columns or ()):
        ax.text(i * (side + GAP) + side / 2, -6, label, ha="center", va="bottom", fontsize=TYPE)
    return fig


def figure(fig: "Figure", caption: str, alt: str | None = None) -> None:
    """Show a figure in a notebook with its caption as text below, and close it.

    `alt` (else the caption) stands in for the picture where it cannot be seen. Outside a notebook the figure
    is drawn and closed, and nothing is shown.
    """
    import matplotlib

    file = io.BytesIO()
    with matplotlib.rc_context(settings() | {"figure.constrained_layout.use": False}):  # it has its layout by now
        fig.savefig(file, format="png", bbox_inches="tight", pad_inches=0.08, facecolor="white")
    if "matplotlib.pyplot" in sys.modules:  # else nothing can have been opened there
        sys.modules["matplotlib.pyplot"].close(fig)
    if in_notebook():
        from IPython.display import display

        content = {"image/png": base64.b64encode(file.getvalue()).decode(), "text/plain": alt or caption}
        display(content, metadata={"image/png": {"alt": alt or caption}}, raw=True)
        display({"text/markdown": f"*{caption}*", "text/plain": caption}, raw=True)


def in_notebook() -> bool:
    """Whether this runs in a notebook's kernel, where things can be displayed."""
    return "IPython" in sys.modules and hasattr(sys.modules["IPython"].get_ipython(), "kernel")


@dataclass
class History:
    """What `track` saw: the loss after each step, and now and then a check; times in seconds of training."""

    steps: list[int] = field(default_factory=list)
    times: list[float] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)
    check_times: list[float] = field(default_factory=list)
    checks: list[float] = field(default_factory=list)


def track(progress: Iterable, what: str = "training", check: Callable[[], float] | None = None,
          samples: Callable[[], Tensor] | None = None, marks: int = 8, measure: str = "loss") -> History:  # fmt: skip
    """Run `train.fit` to its end under a notebook's progress bar with the time left, and keep its losses.

    progress: yields objects with step, fraction, seconds and loss, which the bar calls `measure`. check (a validation
    loss) and samples (pictures (n, 3, h, w) to show below the bar) are called `marks` times, the last at the end; their
    time is not training time. One display is updated in place, so a saved notebook holds its last state alone.
    """
    history, shown, mark, pictures, bar = History(), 0.0, 0, None, None
    if in_notebook():
        from IPython.display import display

        bar = display({"text/plain": ""}, raw=True, display_id=True)
    for now in progress:
        history.steps.append(now.step)
        history.times.append(now.seconds)
        history.losses.append(now.loss)
        marked, mark = int(now.fraction * marks) > mark, int(now.fraction * marks)
        if marked and check:
            history.check_times.append(now.seconds)
            history.checks.append(check())
        if marked and samples:
            pictures = samples()
        if bar and (marked or time.monotonic() - shown > 0.5):
            shown = time.monotonic()
            bar.update(_bar(what, now, history.checks, pictures, measure), raw=True)
    return history


def _bar(what: str, now: object, checks: list[float], pictures: Tensor | None, measure: str) -> dict[str, str]:
    left = now.seconds * (1 - now.fraction) / max(now.fraction, 1e-9)
    state = f"about {left:.0f} s left" if now.fraction < 1 else "done"
    text = f"{what}: step {now.step:,}, {now.seconds:.0f} s, {state}, {measure} {now.loss:.4f}"
    text += f", check {checks[-1]:.4f}" if checks else ""
    page = f"<div>{html.escape(text)}</div><progress max='1' value='{now.fraction:.3f}' "
    page += f"aria-label='{html.escape(what)}' style='width: 24em'></progress>"
    if pictures is not None:
        data = base64.b64encode(png(pictures, size=96)).decode()
        page += f"<div><img alt='samples of {html.escape(what)}' src='data:image/png;base64,{data}'></div>"
    return {"text/html": page, "text/plain": text}


def _batch(pictures: Pictures) -> Tensor:
    """(n, 3, h, w), float32 on the CPU, from a batch, one picture (c, h, w) or a list of them."""
    if not isinstance(pictures, Tensor):
        pictures = torch.stack([*pictures])
    pictures = pictures[None] if pictures.ndim == 3 else pictures
    if pictures.ndim != 4 or pictures.shape[1] not in (1, 3) or not len(pictures):
        raise UserError("pictures", tuple(pictures.shape), "a shape (n, 3, h, w), (n, 1, h, w) or (3, h, w)")
    return pictures.detach().to("cpu", torch.float32).expand(-1, 3, -1, -1)


def _cells(pictures: Pictures, columns: int) -> Tensor:
    """Pictures of any size as squares for a figure, not smoothed, in a thin grey frame."""
    side = SIDES[columns > 5]
    cells = torch.nn.functional.interpolate(_batch(pictures), size=(side, side), mode="nearest-exact")
    return torch.nn.functional.pad(cells, (1, 1, 1, 1), value=0.6)


def _canvas(picture: Tensor, title: str | None, above: int = 0) -> tuple["Figure", object]:
    """A figure that shows bytes (H, W, 3) pixel by pixel, outside pyplot's care, and its axes."""
    from matplotlib.figure import Figure

    high, wide = picture.shape[:2]
    fig = Figure(figsize=(wide / DPI, high / DPI), dpi=DPI, layout="none")
    ax = fig.add_axes((0, 0, 1, 1))
    ax.imshow(picture.numpy(), interpolation="nearest")
    ax.set_axis_off()
    if title:
        ax.text(0, -above - 8, title, ha="left", va="bottom", fontsize=TYPE, weight="bold")
    return fig, ax
