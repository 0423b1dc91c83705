"""Controls that are drawn with the mouse: a mask over a picture, and boxes with captions.

    hole = painting.mask(picture, button="Paint anew")
    box = widgets.explorer(view, hole=hole, strength=(0.2, 1.0, 0.1))
    painting.beside(box)

`view` is given their `value`: after every stroke or, where a control has a `button`, when that is pressed. A `value`
set in Python is seen in the page. `widgets.drive` tries those that it is given, as in `drive(box, hole=[a_mask])`.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from .. import hints, pictures, show
from ..files import UserError
from ..scenes import COLOURS, SHAPES, SIZES, WORDS, unknown_words

if TYPE_CHECKING:
    from anywidget import AnyWidget
    from ipywidgets import VBox

OBJECTS = ([f"a {size}" for size in SIZES], [*COLOURS], [*SHAPES])  # a caption has one of each
MOST = 3  # boxes; boxes.js has a colour for each
LAYOUT = {"max_width": "100%"}  # else it stays as wide as its picture on a narrow page
ABOVE = 10  # pixels of the page above what is drawn on, as in painting.css
LINES = 56  # pixels of two lines below, kept free, so that nothing jumps where one becomes two


def mask(picture: pictures.Given, size: int = 256, alt: str = "the picture", button: str = "") -> "AnyWidget":
    """A picture to paint on, with the mouse, a finger, or the arrow keys and Space; nothing is painted at first.

    picture: one, (3, h, w) or (1, 3, h, w) in -1..1, or what `pictures.read` takes. It is shown about `size` pixels
    wide, each of its own enlarged alike, and never made smaller; `alt` says what it shows. button: the name of one
    that sends what is painted, for a view that takes seconds.
    `value` is a float tensor (1, 1, h, w): 1 is painted, to be made anew, 0 stays.
    Raises `UserError` for what is not one picture, and for a `value` of another size or with other numbers.
    """
    given = picture[None] if isinstance(picture, Tensor) and picture.ndim == 3 else picture
    pixels = pictures.read(given)  #                                                        (1, 3, h, w)
    if len(pixels) != 1:
        raise UserError("picture", tuple(pixels.shape), "one picture, (3, h, w)")
    high, wide = pixels.shape[2:]
    png = show.png(pixels, size=wide)  # the page enlarges it, so that it stays small on its way
    made = {"picture": png, "wide": wide, "high": high, "size": _size(size), "alt": alt, "button": button}
    return _mask_class()(layout=LAYOUT, **made)


def boxes(choices: Sequence[Sequence[str]] = OBJECTS, size: int = 256, most: int = 2, button: str = "") -> "AnyWidget":
    """An empty square frame to draw boxes on, at most `most`, each with a caption; there is none at first.

    choices: lists of words, each a menu; a caption has one of each, the first of each in a new box. With no choices,
    (), a caption is typed, in words that captions of the shapes world use. size: pixels of the page. button: as in
    `mask`. Boxes are drawn, moved, resized at a corner and deleted, by mouse, by finger or by keys.
    `value` is a tuple of `hints.Box`; a list will do to set it.
    Raises `UserError` for other choices or a `most` beyond 1..3, and for a `value` that has too many boxes, one that
    `hints.layout` would refuse, or a caption of other words.
    """
    if isinstance(most, bool) or not isinstance(most, int) or not 1 <= most <= MOST:
        raise UserError("most", most, f"1 to {MOST} boxes")
    lists = [[] if isinstance(one, str) else [*one] for one in choices]
    if not all(words and all(isinstance(word, str) and word for word in words) for words in lists):
        raise UserError("choices", choices, "lists of words, or () for captions that are typed")
    words = [] if lists else sorted(WORDS)
    made = {"choices": lists, "words": words, "size": _size(size), "most": most, "button": button}
    return _boxes_class()(layout=LAYOUT, **made)


def beside(box: "VBox") -> None:
    """Put what is drawn on in an explorer beside what comes of it, or above on a narrow page; other controls on top."""
    import anywidget
    import ipywidgets as w

    panel, screen, message = box.children
    drawn = [control for control in panel.children if isinstance(control, anywidget.AnyWidget)]
    panel.children = [control for control in panel.children if control not in drawn]
    screen.layout.margin, message.layout.min_height = f"{ABOVE}px 0 0 0", f"{LINES}px"
    box.children = [panel, w.Box([*drawn, screen], layout=w.Layout(flex_flow="row wrap", grid_gap="0 10px")), message]


@contextmanager
def at_work(controls: Iterable[object]) -> Iterator[None]:
    """While this lasts, those of the controls that are drawn on say that they are busy."""
    drawn = [control for control in controls if hasattr(control, "busy")]
    for control in drawn:
        control.busy = True
    try:
        yield
    finally:
        for control in drawn:
            control.busy = False


def _size(size: int) -> int:
    if isinstance(size, bool) or not isinstance(size, int) or size < 64:
        raise UserError("size", size, "a whole number of pixels, from 64")
    return size


def _read(name: str) -> str:
    return (Path(__file__).parent / name).read_text(encoding="utf-8")


@cache
def _mask_class() -> type:
    import anywidget
    from traitlets import Bool, Bytes, Int, TraitType, Unicode, default, validate

    def sent(mask: Tensor, _: object) -> bytes:
        return mask.to(torch.uint8).numpy().tobytes()

    def received(data: bytes, widget: "Mask") -> Tensor:
        return torch.frombuffer(bytearray(data), dtype=torch.uint8).view(1, 1, widget.high, widget.wide).float()

    class Mask(anywidget.AnyWidget):
        _esm, _css = _read("paint.js"), _read("painting.css")
        picture, alt, button = Bytes().tag(sync=True), Unicode().tag(sync=True), Unicode().tag(sync=True)
        wide, high, size = Int().tag(sync=True), Int().tag(sync=True), Int().tag(sync=True)
        busy = Bool(False).tag(sync=True)  # whether an explorer is at work
        value = TraitType().tag(sync=True, to_json=sent, from_json=received)

        @default("value")
        def _empty(self) -> Tensor:
            return torch.zeros(1, 1, self.high, self.wide)

        @validate("value")
        def _checked(self, proposal: dict) -> Tensor:
            mask = pictures.read_mask(proposal["value"]).float().cpu()  #                  (1, 1, h, w)
            if mask.shape != (1, 1, self.high, self.wide):
                raise UserError("mask", tuple(mask.shape), f"the picture's size, {(1, 1, self.high, self.wide)}")
            if not ((mask == 0) | (mask == 1)).all():
                raise UserError("mask", "values between 0 and 1", "0, which stays, or 1, which is painted")
            # An explorer knows a view that it keeps by the tensor, not by what is in it.
            return self.value if torch.equal(self.value, mask) else mask

    return Mask


@cache
def _boxes_class() -> type:
    import anywidget
    from traitlets import Bool, Int, List, TraitType, Unicode, validate

    def received(rows: list, _: object) -> tuple[hints.Box, ...]:
        return tuple(hints.Box(*row) for row in rows)

    class Boxes(anywidget.AnyWidget):
        _esm, _css = _read("boxes.js"), _read("painting.css")
        choices, words = List(List(Unicode())).tag(sync=True), List(Unicode()).tag(sync=True)
        size, most, button = Int().tag(sync=True), Int().tag(sync=True), Unicode().tag(sync=True)
        busy = Bool(False).tag(sync=True)  # whether an explorer is at work
        value = TraitType(()).tag(sync=True, from_json=received)

        @validate("value")
        def _checked(self, proposal: dict) -> tuple[hints.Box, ...]:
            boxes = hints.checked(proposal["value"])
            if len(boxes) > self.most:
                raise UserError("boxes", len(boxes), f"at most {self.most}")
            known = {" ".join(words) for words in product(*self.choices)}
            for i, (caption, *_) in enumerate(boxes):
                if self.choices and caption not in known:
                    lists = ", then ".join(" or ".join(words) for words in self.choices)
                    raise UserError(f"box {i}, caption", caption, lists)
                if not self.choices and (strange := unknown_words(caption)):
                    word, near = strange[0]
                    raise UserError(f"box {i}, caption", word, " or ".join(near) or "a word that captions use")
            return boxes

    return Boxes
