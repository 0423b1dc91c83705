"""Explorers in a real JupyterLab, in the system's Chromium: what a reader moves changes what a reader sees.

`make browser` installs what this needs but for Chromium (or Chrome) itself, and is the only one to run it: it takes
about two minutes on one busy core. With SCREENSHOTS=folder it leaves pictures to look at.
"""

import os
import secrets
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import nbformat
import pytest

from minildm.hints import Box

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
CHROMIUM = next(filter(None, map(shutil.which, BROWSERS)), None)
if not CHROMIUM:
    pytest.skip(f"none of {', '.join(BROWSERS)} is installed", allow_module_level=True)
sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: make browser does it")

ROOT = Path(__file__).parents[2]
PATIENCE = 60_000  # milliseconds for the kernel to start on a busy machine

SLIDER = """
import torch
from minildm.course import widgets
box = widgets.explorer(lambda grey, red: torch.tensor([red * 2.0 - 1, grey / 5 - 1, grey / 5 - 1]).view(1, 3, 1, 1)
                       .expand(1, 3, 8, 8), grey=(0, 10, 1), red=False)
widgets.show(box, "A grey square.")
"""
POINTS = """
from matplotlib.figure import Figure
from minildm import show
from minildm.course import widgets
show.style()

def view(ends):
    fig = Figure(figsize=(5, 4), layout="none")
    ax = fig.add_axes((0.15, 0.15, 0.8, 0.8), xlim=(0, 1), ylim=(0, 1), xlabel="x", ylabel="y")
    ax.plot(*zip(*ends))
    return fig

widgets.show(widgets.explorer(view, ends=widgets.points([(0.25, 0.25), (0.75, 0.5)], ["left end", "right end"],
                              area=(0.15, 0.15, 0.8, 0.8))), "A line between two points.")
"""
FILM = """
import torch
from minildm.course import widgets
film = torch.linspace(-1, 1, 30).view(-1, 1, 1, 1, 1).expand(-1, 1, 3, 8, 8)
widgets.show(widgets.explorer(lambda step: film[step], step=range(30)), "It gets lighter.")
"""
BUTTON = """
import ipywidgets, torch
from minildm.course import widgets
box = widgets.explorer(lambda choices: torch.full((1, 3, 8, 8), len(choices) / 5 - 1), choices="")
letters, button = box.controls["choices"], ipywidgets.Button(description="lighter")
button.on_click(lambda _: setattr(letters, "value", letters.value + "l"))
box.children = (*box.children, button)
widgets.show(box, "It gets lighter.")
"""
MASK = """
import ipywidgets, time, torch
from minildm.course import painting, widgets
hole = painting.mask(torch.linspace(-1, 1, 64).view(1, 8, 8).expand(3, 8, 8), size=160, alt="a ramp")
def view(hole):
    time.sleep(0.3)  # slower than the hand
    return hole.expand(-1, 3, -1, -1) * 2 - 1, str([8 * y + x for *_, y, x in hole.nonzero().tolist()])
box = widgets.explorer(view, hole=hole)
button = ipywidgets.Button(description="all of it")
button.on_click(lambda _: setattr(hole, "value", torch.ones(1, 1, 8, 8)))
painting.beside(box)
box.children = (*box.children, button)
widgets.show(box, "What is painted is white.")
"""
BOXES = """
import ipywidgets, torch
from minildm.course import painting, widgets
from minildm.hints import Box
frame = painting.boxes(size=200, button="Draw")
box = widgets.explorer(lambda frame: (torch.full((1, 3, 8, 8), len(frame) / 2 - 1), "; ".join(map(str, frame))),
                       frame=frame)
button = ipywidgets.Button(description="one of mine")
button.on_click(lambda _: setattr(frame, "value", [Box("a large blue star", 0.25, 0.25, 0.75, 0.75)]))
box.children = (*box.children, button)
widgets.show(box, "More boxes, a lighter square.")
"""
DRIVEN = """
import time, torch
from minildm.course import widgets
box = widgets.explorer(lambda dark, light: (time.sleep(0.05), torch.full((1, 3, 8, 8), (light - dark) / 20))[1],
                       dark=(0.0, 1.0, 0.1, 0.2), light=(0.0, 12.0, 0.5, 3.0))
widgets.show(box, "A grey square.")
widgets.drive(box)
print("driven")
"""


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    """The address of a JupyterLab of its own, with a folder of notebooks."""
    folder = tmp_path_factory.mktemp("lab")
    books = {"slider": SLIDER, "points": POINTS, "film": FILM, "button": BUTTON, "mask": MASK, "boxes": BOXES}
    for name, source in (books | {"driven": DRIVEN}).items():
        book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source.strip())])
        book.metadata.kernelspec = {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"}
        nbformat.write(book, folder / f"{name}.ipynb")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    token = secrets.token_hex(16)
    command = [
        sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", "--ip=127.0.0.1", f"--port={port}",
        "--ServerApp.port_retries=0", f"--IdentityProvider.token={token}", f"--ServerApp.root_dir={folder}",
        "--LabApp.news_url=None", "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate",
    ]  # fmt: skip
    paths = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    homes = {f"JUPYTER_{kind}_DIR": str(folder / kind.lower()) for kind in ("CONFIG", "RUNTIME")}
    homes["JUPYTERLAB_WORKSPACES_DIR"] = homes["JUPYTERLAB_SETTINGS_DIR"] = str(folder / "lab")
    log = (folder / "log.txt").open("w")
    server = subprocess.Popen(
        command, cwd=folder, env=os.environ | homes | {"PYTHONPATH": paths}, stdout=log, stderr=log
    )
    address = f"http://127.0.0.1:{port}"
    try:
        for _ in range(120):
            time.sleep(0.5)
            try:
                urllib.request.urlopen(f"{address}/api?token={token}", timeout=5).close()
                break
            except OSError:
                assert server.poll() is None, (folder / "log.txt").read_text()
        yield lambda name: f"{address}/lab/tree/{name}.ipynb?token={token}&reset"
    finally:
        server.terminate()
        server.wait(30)
        log.close()


@pytest.fixture(scope="module")
def browser():
    with sync_api.sync_playwright() as play:
        sandbox = ["--no-sandbox"] if getattr(os, "geteuid", lambda: 1)() == 0 else []
        browser = play.chromium.launch(executable_path=CHROMIUM, args=sandbox)
        yield browser
        browser.close()


@pytest.fixture
def run(lab, browser):
    """Open a notebook, run its cell, and give the page and the picture in it, once it is there."""
    pages = []

    def open_and_run(name, picture):
        page = browser.new_page(viewport={"width": 1280, "height": 800})
        pages.append(page)
        page.set_default_timeout(PATIENCE)
        page.goto(lab(name))
        image = page.locator(f".jp-OutputArea {picture}").first
        for again in (True, True, True, False):  # a kernel that is still connecting forgets what it was asked
            page.locator(".jp-Notebook .jp-CodeCell .cm-content").first.click()
            page.keyboard.press("Shift+Enter")
            try:
                image.wait_for(timeout=PATIENCE / 3)
                break
            except sync_api.TimeoutError:
                if not again:
                    raise
        if folder := os.environ.get("SCREENSHOTS"):  # to look at
            page.wait_for_timeout(1500)
            page.screenshot(path=f"{folder}/{name}.png")
        return page, image

    yield open_and_run
    for page in pages:
        page.close()


def changed(image, before):
    """The address of the picture's bytes, as soon as it is another one than before."""
    handle = image.element_handle()
    image.page.wait_for_function("([image, before]) => image.src !== before", arg=[handle, before])
    return image.get_attribute("src")


def test_a_slider_by_keyboard_and_a_checkbox_change_the_picture(run):
    page, image = run("slider", ".widget-image")
    src = image.get_attribute("src")
    size = image.bounding_box()
    page.get_by_role("slider").first.focus()
    page.keyboard.press("ArrowRight")
    src = changed(image, src)
    page.get_by_role("checkbox").first.click()
    changed(image, src)
    assert image.bounding_box() == size, "nothing jumps"
    assert page.locator(".jp-OutputArea img").count() == 1, "the still picture is for other pages"
    assert page.locator(".jp-RenderedMarkdown").inner_text().strip() == "A grey square."
    page.set_viewport_size({"width": 420, "height": 800})  # a small screen
    assert image.bounding_box()["width"] <= 420


def test_a_driven_box_stands_as_before(run):
    page, _ = run("driven", ".widget-image")
    page.get_by_text("driven", exact=True).last.wait_for()
    page.wait_for_timeout(3000)  # what the page had to answer has been answered
    assert page.locator(".widget-readout").all_inner_texts() == ["0.2", "3.0"]


def test_a_film_plays(run):
    page, image = run("film", ".widget-image")
    src = image.get_attribute("src")
    page.locator(".widget-play button").first.click()
    src = changed(image, src)
    changed(image, src)


def test_a_button_that_writes_into_a_control_changes_the_picture(run):
    page, image = run("button", ".widget-image")
    src = image.get_attribute("src")
    button = page.get_by_role("button", name="lighter")
    button.click()
    src = changed(image, src)
    button.click()
    changed(image, src)


def test_points_are_dragged_and_moved_by_keys(run):
    page, image = run("points", "img[draggable=false]")
    src = image.get_attribute("src")
    left, right = page.get_by_role("button", name="left end"), page.get_by_role("button", name="right end")
    box = left.bounding_box()
    page.mouse.move(box["x"] + 12, box["y"] + 12)
    page.mouse.down()
    page.mouse.move(box["x"] + 60, box["y"] - 60, steps=5)
    page.mouse.up()
    src = changed(image, src)
    assert left.bounding_box()["y"] < box["y"] - 50
    right.focus()
    page.keyboard.press("ArrowUp")
    changed(image, src)
    assert "x 0.75, y 0.52" in right.get_attribute("aria-label")


def drag(page, element, *places):
    """Drag from place to place, each in 0..1 of the element, from the left and from above."""
    element.scroll_into_view_if_needed()
    at = element.bounding_box()
    for i, (x, y) in enumerate(places):
        page.mouse.move(at["x"] + x * at["width"], at["y"] + y * at["height"], steps=5)
        if not i:
            page.mouse.down()
    page.mouse.up()


def test_a_mask_is_painted_erased_undone_and_set_by_the_kernel(run):
    page, image = run("mask", ".widget-image")
    canvas, told = page.get_by_role("application"), page.locator(".jp-OutputArea .widget-html")

    def painted(*pixels):
        told.get_by_text(str(sorted(pixels)), exact=True).wait_for()

    canvas.wait_for()
    painted()
    high = page.locator(".jp-OutputArea").first.bounding_box()["height"]
    page.evaluate("""() => {
        window.said = [];
        const status = document.querySelector(".minildm-status");
        new MutationObserver(() => said.push(status.textContent)).observe(status, { childList: true });
    }""")
    page.get_by_label("width of the brush").fill("1")
    drag(page, canvas, (0.2, 0.45), (0.8, 0.45))  # from pixel 1 to pixel 6 of row 3
    painted(25, 26, 27, 28, 29, 30)
    page.get_by_text("6 pixels (9%)").wait_for()
    assert "Drawing …" in page.evaluate("said"), "while the view is at work"
    assert page.locator(".jp-OutputArea").first.bounding_box()["height"] == high, "nothing jumps"
    page.get_by_role("button", name="Erase").click()
    drag(page, canvas, (0.45, 0.1), (0.45, 0.9))  # down column 3
    painted(25, 26, 28, 29, 30)
    page.get_by_role("button", name="Undo").click()
    painted(25, 26, 27, 28, 29, 30)
    page.get_by_role("button", name="Paint").click()
    page.set_viewport_size({"width": 500, "height": 800})  # a small screen: the picture is narrower, its pixels too
    page.wait_for_function("document.querySelector('.minildm-frame').clientWidth < 130")
    drag(page, canvas, (0.06, 0.06), (0.06, 0.2))  # rows 0 and 1 of column 0
    drag(page, canvas, (0.94, 0.06), (0.94, 0.2))  # before the kernel has answered
    drag(page, canvas, (0.94, 0.94), (0.94, 0.8))
    painted(0, 7, 8, 15, 25, 26, 27, 28, 29, 30, 55, 63)
    page.get_by_role("button", name="Clear").click()
    painted()
    canvas.focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Space")
    painted(8 * 4 + 5)
    page.get_by_role("button", name="all of it").click()
    painted(*range(64))
    page.get_by_text("64 pixels (100%)").wait_for()


def test_boxes_are_drawn_moved_resized_named_deleted_and_set_by_the_kernel(run):
    page, image = run("boxes", ".widget-image")
    frame, told = page.get_by_role("group", name="frame with boxes"), page.locator(".jp-OutputArea .widget-html")
    frame.wait_for()

    def boxes(*wanted):
        page.get_by_role("button", name="Draw").click()
        told.get_by_text("; ".join(str(Box(*box)) for box in wanted), exact=True).wait_for()

    drag(page, frame, (0.1, 0.2), (0.5, 0.7))
    drag(page, frame, (0.9, 0.9), (0.6, 0.8))
    boxes(("a small red circle", 0.1, 0.2, 0.5, 0.7), ("a small red circle", 0.6, 0.8, 0.9, 0.9))
    drag(page, frame, (0.3, 0.4), (0.4, 0.3))  # moves the first one
    drag(page, frame, (0.9, 0.9), (0.95, 1.0))  # a corner of the second
    drag(page, frame, (0.02, 0.02), (0.5, 0.1))  # two are all there may be
    page.get_by_label("box 1, word 2").select_option("yellow")
    boxes(("a small yellow circle", 0.2, 0.1, 0.6, 0.6), ("a small red circle", 0.6, 0.8, 0.95, 1.0))
    page.get_by_role("button", name="delete box 1").click()
    page.keyboard.press("ArrowLeft")
    boxes(("a small red circle", 0.58, 0.8, 0.93, 1.0))
    page.get_by_role("button", name="one of mine").click()
    told.get_by_text("a large blue star").wait_for()
    assert page.get_by_label("box 1, word 2").input_value() == "blue"
    assert page.get_by_role("button", name="Draw").is_disabled()
    drag(page, frame, (0.1, 0.1), (0.1, 0.1))  # a click is no box
    assert page.locator(".minildm-box").count() == 1
