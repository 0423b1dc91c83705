"""Pictures, figures and the progress bar: what is drawn, where, and what a notebook is given to keep."""

import base64
import io
import subprocess
import sys
from itertools import islice
from types import SimpleNamespace

import matplotlib
import pytest
import torch

from minildm import scenes, show
from minildm.files import UserError

matplotlib.use("agg")  # no window on any machine


def blocks(*values, size=2):
    """One flat grey picture (3, size, size) for each value in -1..1."""
    return torch.stack([torch.full((3, size, size), float(value)) for value in values])


def test_sheet_puts_every_picture_in_its_place():
    out = show.sheet(blocks(-1, 0, 1, -1, 0), columns=2, gap=1)
    assert out.shape == (3 * 2 + 2, 2 * 2 + 1, 3) and out.dtype == torch.uint8
    corner = out[:, :, 0][::3, ::3]  # the top left pixel of every cell
    assert corner.tolist() == [[0, 128], [255, 0], [128, 255]]  # the last cell is empty, so white
    assert (out[2] == 255).all() and (out[:, 2] == 255).all()  # the gaps


def test_sheet_rounds_cuts_and_zooms():
    picture = torch.tensor([[[-2.0, 2.0]]]).expand(3, 1, 2)  # beyond -1..1
    out = show.sheet(picture, zoom=3)
    assert out.shape == (3, 6, 3)
    assert (out[:, :3] == 0).all() and (out[:, 3:] == 255).all()
    every = torch.arange(256) / 127.5 - 1  # each byte comes back
    assert show.sheet(every.view(1, 1, 1, 256))[0, :, 0].tolist() == list(range(256))


def test_sheet_takes_one_picture_a_list_and_grey():
    one = torch.rand(3, 4, 4)
    assert show.sheet(one).equal(show.sheet([one]))
    grey = torch.rand(2, 1, 4, 4)
    assert show.sheet(grey).equal(show.sheet(grey.repeat(1, 3, 1, 1)))


@pytest.mark.parametrize("bad", [torch.zeros(2, 4, 8, 8), torch.zeros(0, 3, 8, 8), torch.zeros(8, 8)])
def test_what_is_no_picture_is_refused(bad):
    with pytest.raises(UserError, match="pictures"):
        show.sheet(bad)


@pytest.mark.parametrize("columns", [0, -1, 1.5, "2"])
def test_columns_must_be_a_whole_number(columns):
    with pytest.raises(UserError, match="columns"):
        show.sheet(blocks(0, 0), columns=columns)


def test_to_image_enlarges_by_whole_pixels_and_png_opens_as_the_same_image():
    from PIL import Image

    picture = torch.rand(3, 32, 32) * 2 - 1
    image = show.to_image(picture, size=128)
    assert image.size == (128, 128)
    assert image.resize((32, 32), Image.Resampling.NEAREST).resize((128, 128), 0).tobytes() == image.tobytes()
    assert show.to_image(torch.zeros(3, 64, 64), size=16).size == (64, 64)  # never made smaller
    assert show.to_image(torch.zeros(3, 3, 32, 32), columns=2, size=64, gap=4).size == (132, 132)
    again = Image.open(io.BytesIO(show.png(picture)))
    assert again.format == "PNG" and again.tobytes() == image.tobytes()


def test_latents_become_pictures():
    z = torch.full((2, 4, 8, 8), 1.5)
    assert show.latents(z).shape == (2, 3, 8, 8) and (show.latents(z) == 0.5).all()
    assert show.latents(torch.randn(2, 2, 4, 4) * 9).abs().max() <= 1


def test_the_palette_is_that_of_the_shapes_world_and_stands_out_from_white():
    for name, colour in show.PALETTE.items():
        assert colour == scenes.COLOURS[name]
        assert sum((1 - value) ** 2 for value in colour) ** 0.5 > 0.9


def test_the_style_has_one_size_of_type():
    settings = show.settings()
    assert {value for name, value in settings.items() if name.endswith("size")} == {show.TYPE}
    assert len([name for name in settings if name.endswith("size")]) == 8


def drawn(fig):
    """The pixels (H, W, 3) that a figure of pictures shows, and the texts beside them."""
    fig.canvas.draw()
    ax = fig.axes[0]
    return ax.images[0].get_array(), {text.get_text(): text.get_position() for text in ax.texts}


def test_grid_shows_pictures_with_labels_below_them():
    labels = ["one", "two", "a label of several words that has to be wrapped"]
    pixels, texts = drawn(show.grid(blocks(-1, 0, 1, size=8), columns=2, labels=labels, title="pictures"))
    side = show.SIDES[0] + 2  # with its frame
    assert pixels[5, 5, 0] == 0 and pixels[5, side + show.GAP + 5, 0] == 128
    wrapped = next(text for text in texts if text.startswith("a label"))
    assert "\n" in wrapped
    assert texts["one"][1] == texts["two"][1] > side and texts["one"][0] < side < texts["two"][0]
    assert texts[wrapped][1] > texts["one"][1] and "pictures" in texts
    with pytest.raises(UserError, match="labels"):
        show.grid(blocks(0, 0), 2, labels=["only one"])


@pytest.mark.parametrize("columns", [2, 6])
def test_no_label_runs_into_another_or_into_a_picture(columns):
    labels = ["a large purple triangle on a white background with a small brown star below it"] * 2 * columns
    fig = show.grid([torch.zeros(3, 8, 8)] * 2 * columns, columns, labels)
    fig.canvas.draw()
    texts = fig.axes[0].texts
    boxes = [text.get_window_extent() for text in texts]
    assert boxes[0].x1 < boxes[1].x0 and boxes[-1].y0 > 0
    side = show.SIDES[columns > 5] + 2
    next_row = fig.bbox.height - (texts[columns].get_position()[1] - 3 - side)  # the top of its picture
    assert boxes[0].y0 > next_row


def test_strip_holds_rows_of_pictures_of_different_sizes():
    rows = [blocks(-1, 1, size=8), blocks(1, -1, size=32)]
    pixels, texts = drawn(show.strip(rows, ["latent", "picture"], columns=["first", "last"]))
    side = show.SIDES[0] + 2 + show.GAP
    assert pixels.shape[:2] == (2 * side - show.GAP, 2 * side - show.GAP)
    assert [pixels[y + 9, x + 9, 0] for y in (0, side) for x in (0, side)] == [0, 255, 255, 0]
    assert texts["latent"][0] < 0 and texts["last"][1] < 0
    uneven = [rows[0], rows[1][:1]]
    for arguments in ((rows, ["one"]), (rows, ["a", "b"], ["c"]), (uneven, ["a", "b"]), ([], [])):
        with pytest.raises(UserError, match="rows"):
            show.strip(*arguments)


def test_figures_of_pictures_stay_out_of_pyplot():
    from matplotlib import pyplot

    before = pyplot.get_fignums()
    show.grid(blocks(0), 1)
    show.strip([blocks(0)], ["a"])
    assert pyplot.get_fignums() == before


class Kernel:
    """A notebook for `show`: keeps what is displayed, and of a display that is updated its last state."""

    def __init__(self):
        self.shown = []

    def display(self, content, raw, metadata=None, display_id=None):
        assert raw
        self.shown.append([content, metadata])
        at = len(self.shown) - 1
        return SimpleNamespace(update=lambda content, raw: self.put(at, content))

    def put(self, at, content):
        self.shown[at][0] = content


@pytest.fixture
def kernel(monkeypatch):
    import IPython.display

    kernel = Kernel()
    monkeypatch.setattr(show, "in_notebook", lambda: True)
    monkeypatch.setattr(IPython.display, "display", kernel.display)
    return kernel


def test_figure_shows_picture_alt_text_and_caption_and_closes(kernel):
    from matplotlib import pyplot
    from PIL import Image

    fig, ax = pyplot.subplots()
    ax.plot([0, 1])
    show.figure(fig, "A line that rises.")
    (picture, metadata), (caption, _) = kernel.shown
    image = Image.open(io.BytesIO(base64.b64decode(picture["image/png"])))
    assert image.width > 100 and metadata["image/png"]["alt"] == picture["text/plain"] == "A line that rises."
    assert caption["text/markdown"] == "*A line that rises.*"
    assert fig.number not in pyplot.get_fignums()
    show.figure(show.grid(blocks(0), 1), "Grey.", alt="A grey square.")
    assert kernel.shown[2][1]["image/png"]["alt"] == "A grey square."


def run(n=10, seconds=20.0):
    """What `train.fit` yields, without the training."""
    for step in range(1, n + 1):
        yield SimpleNamespace(step=step, fraction=step / n, seconds=seconds * step / n, loss=1 / step)


def test_the_style_serves_figures_of_pictures_and_plots_alike(kernel):
    from matplotlib import pyplot

    with matplotlib.rc_context():
        show.style()
        fig = show.grid(blocks(0), 1, ["a"])
        show.figure(fig, "Grey.")  # warnings are errors
        show.figure(fig, "Grey again.")
        fig, ax = pyplot.subplots()
        ax.plot([0, 1])
        assert ax.lines[0].get_color() == show.PALETTE["blue"] and ax.title.get_fontsize() == show.TYPE
        show.figure(fig, "A line.")
    assert len(kernel.shown) == 6


def test_track_keeps_the_losses_and_calls_back_to_the_end(kernel):
    calls = iter(range(100))
    history = show.track(run(), "VAE <1>", check=lambda: next(calls), samples=lambda: blocks(0, 0), marks=4)
    assert history.steps == list(range(1, 11)) and history.losses == [1 / step for step in range(1, 11)]
    assert history.checks == [0, 1, 2, 3] and history.check_times[-1] == history.times[-1] == 20.0
    ((content, _),) = kernel.shown  # one display, whatever the number of steps
    assert content["text/plain"] == "VAE <1>: step 10, 20 s, done, loss 0.1000, check 3.0000"
    assert "VAE &lt;1&gt;" in content["text/html"] and "data:image/png;base64," in content["text/html"]


def test_track_tells_the_time_that_is_left(kernel):
    show.track(islice(run(), 6), marks=10)  # broken off after 12 of 20 seconds
    assert kernel.shown[0][0]["text/plain"] == "training: step 6, 12 s, about 8 s left, loss 0.1667"


def test_outside_a_notebook_nothing_is_displayed(capsys, monkeypatch):
    import IPython

    monkeypatch.setattr(IPython, "get_ipython", lambda: None)  # a terminal's would have no kernel either
    assert not show.in_notebook()
    assert show.track(run(3)).steps == [1, 2, 3]
    show.figure(show.grid(blocks(0), 1), "Grey.")
    monkeypatch.setattr(IPython, "get_ipython", lambda: SimpleNamespace(kernel=None))
    assert show.in_notebook()
    monkeypatch.delitem(sys.modules, "IPython")
    assert not show.in_notebook()
    assert capsys.readouterr() == ("", "")


def test_importing_show_imports_no_plotting():
    code = "import sys, minildm.show; print({'matplotlib', 'PIL', 'IPython'} & set(sys.modules))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "set()"
