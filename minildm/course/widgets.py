"""Explorers: a few controls and the picture that they choose.

    box = widgets.explorer(view, t=(0, 999, 1), shape=["ring", "star"], live=True)
    widgets.show(box, "What the reader of the page should see in it.")
    widgets.drive(box, limit=0.15)

`view(t=0, shape="ring", live=True)` gives a matplotlib figure, pictures in -1..1, or the bytes of a PNG file; or a
pair of one of these and a text, which stands below the picture.
"""

import base64
import html
import io
import os
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from decimal import Decimal
from functools import cache, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from .. import show as pictures
from ..files import UserError
from .painting import at_work

if TYPE_CHECKING:
    from ipywidgets import DOMWidget, VBox

KEPT = 256  # views that an explorer remembers
TESTED = "MINILDM_TESTED"  # set in conftest.py: a reader whose machine is slow or busy only waits
STOPS, CHOICES = 6, 12  # values of a slider, and of a list, that `drive` tries
PNG = b"\x89PNG\r\n\x1a\n"
SHORT_FORMS = "(low, high, step[, value]), a range, a list of strings, a string, True or False, or a widget"


def explorer(view: Callable[..., object], **controls: object) -> "VBox":
    """A widget that shows `view(**values)` for the values of its controls, each named as an argument of `view`.

    A control is one of ipywidgets' or of `points`, or a short form: numbers (low, high, step[, value]) are a slider
    that begins at low, a range is one with a play button, a list of strings is a dropdown, a string a text box, and
    True or False a checkbox. With `points` the picture lies below them. What `view` raises is shown in red, and
    raised. The widget has `controls` (by name), `picture()` (the bytes shown) and `forget()` (the views it keeps).
    """
    import ipywidgets as w

    rows = {name: _control(name.replace("_", " "), given) for name, given in controls.items()}
    made = {name: row.children[1] if isinstance(row, w.HBox) else row for name, row in rows.items()}
    on_picture = [name for name, control in made.items() if hasattr(control, "png")]
    # As wide as its pixels, or the page; a size known beforehand keeps what is below from jumping. No tooltip: the
    # view of an Image fails in the browser if it has one (ipywidgets 8.1).
    image = w.Image(format="png", layout=w.Layout(max_width="100%", height="auto", align_self="flex-start"))
    screen, trait = (made[on_picture[0]], "png") if on_picture else (image, "value")
    message = w.HTML(layout=w.Layout(display="none"))

    @lru_cache(KEPT)
    def drawn(values: tuple) -> tuple[bytes, str]:
        got = view(**dict(zip(made, values, strict=True)))
        picture, text = got if isinstance(got, tuple) and isinstance(got[-1], str) else (got, "")
        return to_png(picture, exact=bool(on_picture)), "<br>".join(map(html.escape, text.splitlines()))

    def redraw(_: object = None) -> None:
        try:
            with at_work(made.values()):
                png, text = drawn(tuple(_value(control) for control in made.values()))
        except Exception as error:
            line = html.escape(f"{type(error).__name__}: {error}".splitlines()[0])
            message.value, message.layout.display = f"<span role='alert' style='color: #c00'>{line}</span>", ""
            raise
        message.value, message.layout.display = f"<span role='status'>{text}</span>", "" if text else "none"
        setattr(screen, trait, png)

    redraw()
    if not on_picture:
        wide, high = (int.from_bytes(image.value[i : i + 4], "big") for i in (16, 20))  # the head of a PNG file
        image.width, image.height = str(wide), str(high)
    for control in made.values():
        control.observe(redraw, ["x", "y"] if hasattr(control, "png") else "value")
    apart = w.Layout(flex_flow="row wrap", grid_gap="0 1.5em")
    panel = w.Box([row for row in rows.values() if row is not screen], layout=apart)
    box = w.VBox([panel, screen, message])
    box.controls, box.picture, box.forget = made, lambda: getattr(screen, trait), drawn.cache_clear
    return box


def points(places: Sequence[tuple[float, float]], labels: Sequence[str] | None = None,
           area: tuple[float, float, float, float] = (0, 0, 1, 1)) -> "DOMWidget":  # fmt: skip
    """Points on an explorer's picture that are dragged, or moved by the arrow keys.

    places: x, y of each in 0..1, from the left and from below. labels: what each is called. area: the part of the
    picture that they move in (left, bottom, width, height), as `ax.get_position().bounds` gives it. `view` is given
    the places as a tuple of pairs. The widget has the lists `x` and `y`, and `value` for both.
    """
    widget = _points_class()(labels=list(labels or (f"point {i + 1}" for i in range(len(places)))), area=list(area))
    widget.value = places
    return widget


def show(box: "VBox", caption: str, alt: str | None = None) -> None:
    """Show an explorer with its caption below. Where widgets do not live, on a page of the web, say, its picture stands
    in their place, and `alt` (else the caption) where no picture can be seen."""
    if pictures.in_notebook():
        from IPython.display import display

        content = box._repr_mimebundle_() | {"image/png": base64.b64encode(box.picture()).decode()}
        content["text/plain"] = alt or caption
        display(content, metadata={"image/png": {"alt": alt or caption}}, raw=True)
        display({"text/markdown": f"*{caption}*", "text/plain": caption}, raw=True)


def drive(box: "VBox", limit: float | None = None, still: Sequence[str] = (), **values: Sequence) -> float:
    """Move every control of an explorer through its values and back: the most seconds from a value to its picture.

    They are seconds of this thread's computing, so that a busy machine fails nobody. values: what to try beside a
    control's own few, such as texts. Raises what a view raises, and `AssertionError` where a control changes nothing
    (but for those in `still`); in tests (see TESTED) also where a picture takes longer than `limit`.
    """
    with ExitStack() as stack:
        # The page hears of it when all is put back. It answers a number with its own rounding of it, and answers that
        # come after the last cell would move the controls away from where they stood.
        for widget in {*box.controls.values(), *box.children}:
            stack.enter_context(widget.hold_sync())
        return _drive(box, limit if TESTED in os.environ else None, still, values)


def _drive(box: "VBox", limit: float | None, still: Sequence[str], values: dict[str, Sequence]) -> float:
    slowest = 0.0
    for name, control in box.controls.items():
        first, seen = control.value, {box.picture()}
        try:
            for value in [*_stops(control), *values.get(name, ())]:
                for left in (4, 3, 2, 1, 0):  # late five times in a row is slow; once may be the machine's doing
                    box.forget()
                    start = time.thread_time()
                    control.value = value
                    seconds = time.thread_time() - start
                    if limit is None or seconds <= limit:
                        break
                    assert left, f"{name} = {value!r} took {seconds:.2f} s five times, over {limit} s"
                    control.value = first
                slowest = max(slowest, seconds)
                seen.add(box.picture())
        finally:
            control.value = first
        assert len(seen) > 1 or name in still, f"{name} changes nothing in the picture"
    return slowest


def to_png(picture: object, exact: bool = False) -> bytes:
    """A view's answer as the bytes of a PNG file; with `exact`, of the figure and nothing outside it."""
    if hasattr(picture, "savefig"):
        return _drawn(picture, exact)
    if isinstance(picture, bytes):
        if not picture.startswith(PNG):
            raise UserError("bytes of a view", picture[:8], "those of a PNG file")
        return picture
    if picture is None:
        raise UserError("what the view gives", picture, "a figure, pictures, or the bytes of a PNG file")
    return pictures.png(picture, size=256 if len(picture) == 1 or getattr(picture, "ndim", 4) == 3 else 128)


def _drawn(fig: object, exact: bool) -> bytes:
    import matplotlib

    # Every picture keeps its size, so that nothing jumps; but a grid of pictures has its labels outside the figure.
    outside = not exact and any(ax.get_position().bounds == (0, 0, 1, 1) for ax in fig.axes)
    cut = {"bbox_inches": "tight", "pad_inches": 0.08} if outside else {}
    if not any(ax.get_subplotspec() for ax in fig.axes):  # placed by hand: matplotlib warns that there is no layout
        fig.set_layout_engine("none")
    with matplotlib.rc_context(pictures.settings()):
        fig.savefig(file := io.BytesIO(), format="png", facecolor="white", **cut)
    if "matplotlib.pyplot" in sys.modules:
        sys.modules["matplotlib.pyplot"].close(fig)
    return file.getvalue()


def _control(text: str, given: object) -> "DOMWidget":
    """The widget that a control or its short form stands for; with a play button, a box of both."""
    import ipywidgets as w

    look = {"description": text, "style": {"description_width": "initial"}}
    wide = w.Layout(width="22em", max_width="100%")
    if isinstance(given, w.DOMWidget):
        return given
    if isinstance(given, bool):
        return w.Checkbox(given, indent=False, layout=w.Layout(width="auto"), **look)
    if isinstance(given, str):
        return w.Text(given, continuous_update=False, layout=w.Layout(width="100%"), **look)
    if isinstance(given, range) and len(given) > 1:
        span = {"min": given[0], "max": given[-1], "step": given.step}
        play, slider = w.Play(interval=200, **span), w.IntSlider(given[0], layout=wide, **span, **look)
        w.jslink((play, "value"), (slider, "value"))
        return w.HBox([play, slider], layout=w.Layout(flex_flow="row wrap"))
    if isinstance(given, list | tuple) and given and all(isinstance(one, str) for one in given):
        return w.Dropdown(options=given, layout=w.Layout(width="auto", max_width="100%"), **look)
    if isinstance(given, list | tuple) and len(given) in (3, 4) and all(isinstance(one, int | float) for one in given):
        span = dict(zip(("min", "max", "step"), given, strict=False)) | {"value": given[3 if len(given) == 4 else 0]}
        if all(isinstance(one, int) for one in given):
            return w.IntSlider(layout=wide, **span, **look)
        digits = max(0, -Decimal(str(span["step"])).as_tuple().exponent)  # 2 for 0.25
        return w.FloatSlider(readout_format=f".{digits}f", layout=wide, **span, **look)
    raise UserError(f"control {text}", given, SHORT_FORMS)


def _value(control: "DOMWidget") -> object:
    """What `view` is given: a slider in the browser says 10.000000000000002 where it means 10."""
    return round(control.value, 9) if isinstance(control.value, float) else control.value


@cache
def _points_class() -> type:
    import anywidget
    from traitlets import Bytes, Float, List, Unicode

    class Points(anywidget.AnyWidget):
        _esm = (Path(__file__).parent / "points.js").read_text(encoding="utf-8")
        x, y = List(Float()).tag(sync=True), List(Float()).tag(sync=True)
        area, labels = List(Float()).tag(sync=True), List(Unicode()).tag(sync=True)
        png = Bytes(b"").tag(sync=True)

        @property
        def value(self) -> tuple[tuple[float, float], ...]:
            return tuple(zip(self.x, self.y, strict=True))

        @value.setter
        def value(self, places: Sequence[tuple[float, float]]) -> None:
            with self.hold_sync(), self.hold_trait_notifications():  # never x of one place and y of another
                self.x, self.y = [float(x) for x, _ in places], [float(y) for _, y in places]

    return Points


def _stops(control: "DOMWidget") -> list:
    """Values of a control, from one end to the other: STOPS of a slider, CHOICES of a list, four corners of a point."""
    if hasattr(control, "png"):
        corners = [(0.1, 0.1), (0.9, 0.1), (0.9, 0.9), (0.1, 0.9)]
        places = control.value
        return [(*places[:i], corner, *places[i + 1 :]) for i in range(len(places)) for corner in corners]
    if hasattr(control, "options"):
        every = [one[1] if isinstance(one, tuple) else one for one in control.options]
    elif hasattr(control, "max"):
        steps = round((control.max - control.min) / control.step)
        every = [control.min + i * control.step for i in range(steps + 1)]
    elif isinstance(control.value, bool):
        every = [True, False]
    else:
        every = [""] if isinstance(control.value, str) else []
    most = min(len(every), CHOICES if hasattr(control, "options") else STOPS)
    return [every[round(i * (len(every) - 1) / max(most - 1, 1))] for i in range(most)]
