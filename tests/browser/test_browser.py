"""Explorers in a real JupyterLab, in the system's Chromium: what a reader moves changes what a reader sees.

`make browser` installs what this needs but for Chromium (or Chrome) itself, and is the only one to run it: it takes
about 80 s on one busy core. With SCREENSHOTS=folder it leaves pictures to look at.
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
    for name, source in {"slider": SLIDER, "points": POINTS, "film": FILM, "button": BUTTON, "driven": DRIVEN}.items():
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
