"""Explorers in the kernel: what a control is made of, when the picture changes, and that `drive` sees what is amiss."""

import io
import time
import warnings

import ipywidgets as w
import pytest
import torch
from matplotlib.figure import Figure
from PIL import Image

from minildm import show
from minildm.course import widgets
from minildm.files import UserError

GREY = torch.linspace(-1, 1, 11).view(-1, 1, 1, 1).expand(-1, 3, 8, 8)


def size(png):
    return Image.open(io.BytesIO(png)).size


def grey(i):
    return GREY[i]


def test_short_forms():
    seen = []

    def view(**values):
        seen.append(values)
        return GREY[:1]

    box = widgets.explorer(
        view, t=(0, 9, 3), at=(0, 1, 0.25, 0.5), small=(0, 0.01, 0.001), frame=range(2, 11, 4), word="ring",
        shape_of_it=["ring", "star"], live=True, own=w.BoundedIntText(4),
    )  # fmt: skip
    kinds = [w.IntSlider, w.FloatSlider, w.FloatSlider, w.IntSlider, w.Text, w.Dropdown, w.Checkbox, w.BoundedIntText]
    assert [type(control) for control in box.controls.values()] == kinds
    first = {"t": 0, "at": 0.5, "small": 0.0, "frame": 2, "word": "ring", "shape_of_it": "ring", "live": True, "own": 4}
    assert seen == [first]
    assert [box.controls[name].readout_format for name in ("at", "small")] == [".2f", ".3f"]
    assert (box.controls["frame"].max, box.controls["frame"].step) == (10, 4)
    assert box.controls["shape_of_it"].description == "shape of it"
    for control in list(box.controls.values())[:-1]:
        assert control.description and control.style.description_width == "initial"
    assert len([one for one in box.children if isinstance(one, w.Image)]) == 1


@pytest.mark.parametrize("given", [3, None, [], (0, 1), (1, 2, 3, 4, 5), ["a", 1], range(1)])
def test_other_forms_are_an_error(given):
    with pytest.raises(UserError, match="control i"):
        widgets.explorer(grey, i=given)


def test_a_control_changes_the_picture_and_views_are_kept():
    calls = []
    box = widgets.explorer(lambda i: calls.append(i) or GREY[i], i=(0, 10, 1))
    image = next(one for one in box.children if isinstance(one, w.Image))
    first = image.value
    assert first == box.picture() == show.png(GREY[0], size=256)
    assert (image.width, image.height) == ("256", "256")
    box.controls["i"].value = 3
    assert image.value == show.png(GREY[3], size=256)
    box.controls["i"].value = 0
    assert image.value == first and calls == [0, 3]


def test_an_error_is_shown_and_raised_and_goes_away():
    def view(i):
        if i == 2:
            raise ValueError("<b>first line\nsecond")
        return GREY[i]

    box = widgets.explorer(view, i=(0, 10, 1))
    message = box.children[-1]
    assert message.layout.display == "none"
    with pytest.raises(ValueError, match="first"):
        box.controls["i"].value = 2
    assert message.layout.display == "" and "ValueError: &lt;b&gt;first line</span>" in message.value
    box.controls["i"].value = 3
    assert message.layout.display == "none"
    with pytest.raises(ValueError, match="first"):
        widgets.explorer(view, i=(2, 9, 1))


def test_a_text_stands_below_the_picture():
    def view(i):
        if i == 2:
            raise ValueError("no")
        return (GREY[i], f"i < {i}\ntwice") if i else GREY[i]

    box = widgets.explorer(view, i=(0, 10, 1))
    message = box.children[-1]
    assert message.layout.display == "none"
    for i in (1, 3, 1):
        box.controls["i"].value = i
        assert message.layout.display == "" and message.value == f"<span role='status'>i &lt; {i}<br>twice</span>"
        assert box.picture() == show.png(GREY[i], size=256)
    with pytest.raises(ValueError, match="no"):
        box.controls["i"].value = 2
    assert "alert" in message.value
    box.controls["i"].value = 0
    assert message.layout.display == "none"


def figure_view(title, bars):
    fig = Figure(figsize=(5, 3))
    ax = fig.add_axes((0.2, 0.2, 0.7, 0.6)) if bars == 1 else fig.subplots()
    ax.bar(range(bars), range(bars))
    ax.set_title(title * 2)
    return fig


def test_figures_keep_their_size_and_grids_their_labels():
    import matplotlib

    with matplotlib.rc_context(show.settings()), warnings.catch_warnings():
        warnings.simplefilter("error")
        views = [figure_view(title, bars) for title in ("a", "longer\n") for bars in (1, 5)]
        assert {size(widgets.to_png(fig)) for fig in views} == {(450, 270)}
        labelled = widgets.to_png(show.strip([GREY[:3]], ["a label at the left"]))
        bare = widgets.to_png(show.grid(GREY[:3], 3))
    assert size(labelled)[0] > size(bare)[0]


@pytest.mark.parametrize("answer", [None, b"GIF89a", torch.zeros(3)])
def test_what_is_no_picture_is_an_error(answer):
    with pytest.raises((UserError, IndexError)):
        widgets.explorer(lambda i: answer, i=(0, 1, 1))


def test_drive_moves_everything_and_puts_it_back():
    seen = []

    def view(i, word, live, kind, ends):
        seen.append((i, word, live, kind, ends))
        return torch.tensor([i / 100 - 1, len(word) / 9 + live / 2 - 1, ends[0][0] - len(kind) / 4]).view(1, 3, 1, 1)

    box = widgets.explorer(
        view, i=(0, 100, 1, 50), word="ring", live=False, kind=["a", "bb"], ends=widgets.points([(0.25, 0.5)])
    )
    at_first = [control.value for control in box.controls.values()]
    slowest = widgets.drive(box, limit=5, word=("a red star",))
    assert 0 < slowest < 5
    assert [control.value for control in box.controls.values()] == at_first
    assert {i for i, *_ in seen} >= {0, 100} and 6 <= len({i for i, *_ in seen}) <= 7
    assert {word for _, word, *_ in seen} == {"ring", "", "a red star"}
    assert {live for _, _, live, *_ in seen} == {True, False} and {kind for *_, kind, _ in seen} == {"a", "bb"}
    assert ((0.9, 0.1),) in {ends for *_, ends in seen}


def test_the_page_is_told_nothing_that_it_could_answer(monkeypatch):
    """It answers 0.7 with its own rounding of it, after all cells have run: a box was found standing elsewhere."""
    box = widgets.explorer(lambda dark: torch.full((1, 3, 8, 8), -dark), dark=(0.0, 1.0, 0.1, 0.2))
    slider, told = box.controls["dark"], []
    monkeypatch.setattr(type(slider), "send_state", lambda self, key=None: told.append(self.value))
    widgets.drive(box)
    assert set(told) == {0.2}


def test_a_number_from_a_browser_is_rounded():
    seen = []
    box = widgets.explorer(lambda x: seen.append(x) or torch.full((1, 3, 8, 8), x / 20), x=(0.0, 12.0, 0.5, 3.0))
    box.controls["x"].value = 10.000000000000002
    assert seen == [3.0, 10.0]


def compute(seconds):
    until = time.thread_time() + seconds
    while time.thread_time() < until:
        pass


def test_drive_sees_what_is_amiss(monkeypatch):
    with pytest.raises(AssertionError, match="dead changes nothing"):
        widgets.drive(widgets.explorer(lambda i, dead: GREY[i], i=(0, 10, 1), dead=True))
    widgets.drive(widgets.explorer(lambda i, dead: GREY[i], i=(0, 10, 1), dead=True), still=["dead"])
    with pytest.raises(IndexError):
        widgets.drive(widgets.explorer(grey, i=(0, 11, 1)))

    def slow(i):
        compute(0.05 * (i > 0))
        return GREY[i]

    box = widgets.explorer(slow, i=(0, 10, 1))
    with pytest.raises(AssertionError, match=r"i = 2 took 0\.\d+ s five times, over 0.02 s"):
        widgets.drive(box, limit=0.02)
    assert box.controls["i"].value == 0
    monkeypatch.delenv(widgets.TESTED)  # a reader's own machine may be slow
    assert widgets.drive(box, limit=0.02) > 0.02


def test_a_view_that_fails_leaves_its_control_as_it_was():
    def view(i):
        return GREY[i] if i < 7 else None

    box = widgets.explorer(view, i=(0, 10, 1, 3))
    with pytest.raises(UserError):
        widgets.drive(box)
    assert box.controls["i"].value == 3


def test_one_late_picture_is_the_machines_doing():
    late = iter([0.3])

    def view(i):
        time.sleep(0.25 * (i == 6))  # nor is a wait: other work has the processor
        compute(next(late, 0.0) if i == 4 else 0.0)
        return GREY[i]

    assert widgets.drive(widgets.explorer(view, i=(0, 10, 1)), limit=0.2) < 0.2


def test_points_are_given_as_pairs_and_carry_the_picture():
    seen = []
    spot = widgets.points([(0.25, 0.5), (1, 0)], labels=["one", "two"], area=(0.1, 0.1, 0.8, 0.8))
    box = widgets.explorer(lambda spots: seen.append(spots) or GREY[len(seen)], spots=spot)
    assert seen == [((0.25, 0.5), (1.0, 0.0))] and (spot.x, spot.y) == ([0.25, 1.0], [0.5, 0.0])
    assert not any(isinstance(one, w.Image) for one in box.children) and spot in box.children
    assert box.picture() == spot.png and spot.png.startswith(widgets.PNG)
    before = spot.png
    spot.set_state({"x": [0.5, 1.0], "y": [0.75, 0.0]})  # as the browser does
    assert seen[1:] == [((0.5, 0.75), (1.0, 0.0))] and spot.png != before
    assert spot.labels == ["one", "two"] and spot.area == [0.1, 0.1, 0.8, 0.8]


def test_show_displays_a_widget_with_a_picture_in_its_place(monkeypatch):
    box = widgets.explorer(grey, i=(0, 10, 1))
    widgets.show(box, "Outside a notebook nothing is shown.")
    shown = []

    def display(data, metadata=None, raw=False):
        shown.append((data, metadata))

    monkeypatch.setattr(show, "in_notebook", lambda: True)
    monkeypatch.setattr("IPython.display.display", display)
    widgets.show(box, "A square.", alt="a grey square")
    (data, metadata), (caption, _) = shown
    assert data["application/vnd.jupyter.widget-view+json"]["model_id"] == box.model_id
    assert metadata == {"image/png": {"alt": "a grey square"}} and data["text/plain"] == "a grey square"
    assert data["image/png"] and caption["text/markdown"] == "*A square.*"
