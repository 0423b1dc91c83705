"""`minildm picture` with a picture, a mask, maps and boxes: what it draws, what its recipe holds, what it refuses."""

import numpy as np
import pytest
import tiny
import torch
from PIL import Image
from test_cli import PROMPT, refuses, works
from test_control import trained

from minildm import given, hints, pngs, scenes, show, tasks, weights
from minildm.clip import MiniCLIP
from minildm.control import Hint

QUICK = ("--steps", 4, "--count", 1, "--seed", 5)


@pytest.fixture(scope="module")
def here(tmp_path_factory):
    """A folder with a model, two ControlNets, a picture, a mask and a map."""
    folder = tmp_path_factory.mktemp("given")
    pipe = tiny.pipe()
    weights.save(pipe, folder / "model")
    torch.manual_seed(1)
    weights.save(MiniCLIP(tiny.text(), dim=6, channels=8), folder / "clip")
    weights.save(trained(pipe.unet), folder / "outlines")
    weights.save(trained(pipe.unet, channels=6), folder / "layout")
    drawn = scenes.draw(1, seed=2)
    show.to_image(scenes.render(drawn), size=32).save(folder / "scene.png")
    hole = np.zeros((32, 32), np.uint8)
    hole[8:20, 8:20] = 255
    Image.fromarray(hole).save(folder / "hole.png")
    show.to_image(hints.edges(drawn) * 2 - 1, size=32).save(folder / "map.png")
    return folder


@pytest.fixture
def draw(here, tmp_path, monkeypatch):
    monkeypatch.chdir(here)
    monkeypatch.setattr(given, "LAYOUT", "./layout")
    monkeypatch.setattr(given, "CLIP", "./clip")

    def drawn(*words):
        works("picture", PROMPT, "--model", "model", "--out", tmp_path / "a.png", *QUICK, *words)
        return pixels(tmp_path / "a.png")

    return drawn


def pixels(path):
    return torch.from_numpy(np.array(Image.open(path))).permute(2, 0, 1)[None, :, ::4, ::4] / 127.5 - 1


def as_drawn(task, *given_, **how):
    return task(weights.load("model"), PROMPT, *given_, steps=4, scale=3.0,
                generator=torch.Generator().manual_seed(5), **how)  # fmt: skip


def close(a, b):
    return (a - b).abs().max() <= 1.01 / 127.5


def test_a_given_picture_is_changed_as_the_library_does(draw):
    assert close(draw("--image", "scene.png"), as_drawn(tasks.img2img, "scene.png"))
    assert close(draw("--image", "scene.png", "--strength", 0.5), as_drawn(tasks.img2img, "scene.png", 0.5))
    assert close(draw("--image", "scene.png", "--strength", 0), pixels_of("scene.png"))
    made = draw("--image", "scene.png", "--mask", "hole.png")
    assert close(made, as_drawn(tasks.inpaint, "scene.png", "hole.png"))
    assert not close(made, pixels_of("scene.png"))
    told = draw("--image", "scene.png", "--mask", "hole.png", "--reconstruction", 1)
    assert close(told, as_drawn(tasks.inpaint, "scene.png", "hole.png", reconstruction=1.0)) and not close(told, made)


def pixels_of(path):
    return torch.from_numpy(np.array(Image.open(path).convert("RGB"))).permute(2, 0, 1)[None] / 127.5 - 1


def test_maps_and_boxes_steer_as_the_library_does(draw):
    plain = draw()
    net, layout = weights.load("outlines"), weights.load("./layout")
    hint = Hint(net, (pixels_of("map.png") + 1) / 2, 0.5)
    made = draw("--control", "outlines=map.png@0.5")
    assert close(made, as_drawn(tasks.text2img, control=[hint])) and not close(made, plain)
    assert not close(made, draw("--control", "outlines=map.png"))
    boxes = ("--layout", "a small red circle=0.1,0.1,0.4,0.4", "--layout", "a ring=0.5,0.5,0.9,0.9")
    wanted = [hints.Box("a small red circle", 0.1, 0.1, 0.4, 0.4), hints.Box("a ring", 0.5, 0.5, 0.9, 0.9)]
    both = [hint, Hint(layout, hints.layout(weights.load("./clip"), wanted))]
    assert close(draw("--control", "outlines=map.png@0.5", *boxes), as_drawn(tasks.text2img, control=both))


def test_the_recipe_holds_it_all_and_draws_it_again(draw, tmp_path):
    draw("--image", "scene.png", "--mask", "hole.png", "--strength", 0.75, "--reconstruction", 0.5,
         "--control", "outlines=map.png@0.5", "--layout", "a ring=0.5,0.5,0.9,0.9")  # fmt: skip
    recipe = pngs.read(tmp_path / "a.png")[1]
    assert recipe["image"] == "scene.png" and recipe["mask"] == "hole.png" and recipe["strength"] == 0.75
    assert recipe["control"] == [["outlines", "map.png", 0.5]] and recipe["layout"] == [["a ring", 0.5, 0.5, 0.9, 0.9]]
    assert set(recipe["given"]) == {"scene.png", "hole.png", "map.png", "outlines", "./layout", "./clip"}
    told = works("recipe", tmp_path / "a.png").stdout
    for words in ("--image scene.png", "--strength 0.75", "--reconstruction 0.5", "--control outlines=map.png@0.5",
                  "--layout 'a ring=0.5,0.5,0.9,0.9'", "\nreconstruction: 0.5\n"):  # fmt: skip
        assert words in told
    assert "at most 0/255" in works("recipe", tmp_path / "a.png", "--again").stdout
    assert pngs.read(tmp_path / "a-again.png")[1] == recipe


def test_again_wants_the_very_files(draw, tmp_path, monkeypatch, here):
    draw("--image", "scene.png")
    (tmp_path / "other").mkdir()
    for name in ("model", "layout", "clip"):
        (tmp_path / "other" / name).symlink_to(here / name)
    Image.new("RGB", (32, 32)).save(tmp_path / "other" / "scene.png")
    monkeypatch.chdir(tmp_path / "other")
    assert "hash of scene.png" in refuses("recipe", tmp_path / "a.png", "--again")
    (tmp_path / "other" / "scene.png").unlink()
    assert "scene.png" in refuses("recipe", tmp_path / "a.png", "--again")


@pytest.mark.parametrize(
    "words, told",
    [
        (("--mask", "hole.png"), "mask: got 'hole.png'; expected nothing without an image"),
        (("--strength", 0.5), "strength: got 0.5; expected nothing without an image"),
        (("--image", "scene.png", "--reconstruction", 1), "reconstruction: got 1.0; expected nothing without a mask"),
        (("--image", "scene.png", "--mask", "hole.png", "--reconstruction", -1), "expected a finite number from 0"),
        (("--image", "nowhere.png"), "nowhere.png"),
        (("--image", "model/model_index.json"), "a whole picture file"),
        (("--image", "scene.png", "--strength", 1.5), "got '1.5'; expected a finite number from 0 to 1"),
        (("--image", "scene.png", "--strength", "much"), "got 'much'; expected a finite number from 0 to 1"),
        (("--image", "scene.png", "--strength", -0.1), "got '-0.1'; expected a finite number from 0 to 1"),
        (("--image", "scene.png", "--strength", "nan"), "got 'nan'; expected a finite number from 0 to 1"),
        (("--image", "scene.png", "--mask", "small.png"), "mask: got (16, 16)"),
        (("--control", "outlines"), "control: got 'outlines'; expected NETWORK=FILE"),
        (("--image", "scene.png", "--mask", "nowhere.png"), "mask: got 'nowhere.png'; expected a file that is there"),
        (("--image", "/nowhere/a.png"), "image: got '/nowhere/a.png'; expected a file that is there"),
        (("--control", "outlines=nowhere.png"), "control map: got 'nowhere.png'"),
        (("--control", "outlines=map.png@nan"), "control: got 'outlines=map.png@nan'; expected NETWORK=FILE"),
        (("--control", "outlines=map.png@1e38"), "control weight: got 1e+38"),
        (("--control", "outlines=small.png"), "control map: got '16 x 16 (height x width)'; expected 32 x 32"),
        (("--control", "model=map.png"), "a ControlNet"),
        (("--control", "./layout=map.png"), "see --layout"),
        (("--layout", "a ring"), "layout: got 'a ring'"),
        (("--layout", "a ring=0.1,0.1,0.1,0.5"), "an area"),
        (("--layout", "a ring=0.1,0.1,1.5,0.5"), "in 0..1 of the frame"),
        (("--layout", "a ring=0.1,0.1,x,0.5"), "four numbers"),
    ],
)
def test_mistakes_are_one_line(draw, here, words, told):
    Image.new("L", (16, 16)).save(here / "small.png")
    line = refuses("picture", PROMPT, "--model", "model", "--out", "never.png", *QUICK, *words)
    assert told in line, line
    assert not (here / "never.png").exists()


def test_a_picture_of_our_own_is_taken_at_the_size_it_was_drawn_in(draw, tmp_path):
    drawn = draw()
    (tmp_path / "a.png").rename(tmp_path / "own.png")  # four times as large
    assert close(draw("--image", tmp_path / "own.png", "--strength", 0), drawn)
    words = ("--model", "model", "--out", tmp_path / "grid.png", "--steps", 1, "--count", 2)
    works("picture", PROMPT, *words)
    line = refuses("picture", PROMPT, *words, "--out", tmp_path / "b.png", "--image", tmp_path / "grid.png")
    assert "2 pictures" in line and "--count 1" in line


@pytest.mark.parametrize(
    "small, zoom", [((32, 32), 4), ((16, 24), 8), ((20, 20), 6), ((128, 128), 1), ((150, 90), 1)]
)
def test_a_picture_of_our_own_keeps_its_size_whatever_is_left_to_see_in_it(here, tmp_path, small, zoom):
    """A flat one could be of any size."""
    pipe, path = weights.load(here / "model"), tmp_path / "own.png"
    noisy = torch.rand(1, 3, *small, generator=torch.Generator().manual_seed(0)) * 2 - 1
    for drawn in (noisy, torch.full_like(noisy, -1.0)):
        assert pngs.zoom_of(drawn) == zoom
        pngs.save(pngs.grid(drawn), path, {"count": 1, "zoom": zoom})
        assert given.keywords({"image": str(path)}, pipe)["image"].shape == drawn.shape
    for unknown in ({}, {"zoom": 0}, {"zoom": "4"}):  # of an earlier version, or written by hand
        pngs.save(pngs.grid(noisy), path, {"count": 1} | unknown)
        assert given.keywords({"image": str(path)}, pipe)["image"].shape == noisy.shape
    pngs.save(pngs.grid(noisy), path, {"count": 1, "zoom": 2 * zoom + 1})  # no longer as it was saved
    assert given.keywords({"image": str(path)}, pipe)["image"].shape[2] == small[0] * zoom


def test_a_map_s_empty_layer_is_black(draw, here):
    lines = Image.new("RGBA", (32, 32), (255, 255, 255, 0))
    lines.paste((255, 255, 255, 255), (10, 4, 11, 30))
    lines.save(here / "layer.png")
    told = given.keywords({"control": [["outlines", "layer.png", 1.0]]}, weights.load("model"))
    assert told["control"][0].map.sum() == 3 * 26


def test_boxes_are_those_of_the_given_picture_and_not_of_one_padded_to_whole_cells(draw, here):
    Image.new("RGB", (33, 30), "white").save(here / "odd.png")
    pipe = weights.load("model")
    told = {"image": "odd.png", "layout": [["a ring", 0.5, 0.0, 1.0, 1.0]]}
    map_ = given.keywords(told, pipe)["control"][0].map
    boxes = [hints.Box("a ring", 0.5, 0.0, 1.0, 1.0)]
    assert torch.equal(map_, hints.layout(weights.load("./clip"), boxes, 30, 33))
    draw("--image", "odd.png", "--layout", "a ring=0.5,0,1,1")


def test_what_is_drawn_over_a_picture_of_our_own_shrinks_with_it(draw, tmp_path):
    """A mask and a map of its 128 x 128 pixels; a thin line of either stays."""
    small = draw()
    (tmp_path / "a.png").rename(tmp_path / "own.png")
    large = torch.zeros(1, 1, 128, 128)
    large[..., 40:80, 41:81] = 1
    large[..., 100, :] = 1
    show.to_image(large.expand(-1, 3, -1, -1) * 2 - 1, size=128).save(tmp_path / "large.png")
    shrunk = torch.zeros(1, 1, 32, 32)
    shrunk[..., 10:20, 10:21] = 1
    shrunk[..., 25, :] = 1
    own, over = tmp_path / "own.png", tmp_path / "large.png"
    given_ = pixels_of(own)[..., ::4, ::4]
    assert close(small, given_)
    assert close(draw("--image", own, "--mask", over), as_drawn(tasks.inpaint, given_, shrunk))
    hint = Hint(weights.load("outlines"), shrunk.expand(-1, 3, -1, -1))
    made = draw("--image", own, "--strength", 0.5, "--control", f"outlines={over}")
    assert close(made, as_drawn(tasks.img2img, given_, 0.5, control=[hint]))


@pytest.mark.parametrize("words", [("--image", "PATH"), ("--image", "scene.png", "--mask", "PATH"),
                                   ("--control", "outlines=PATH")])  # fmt: skip
def test_a_picture_does_not_take_the_place_of_what_it_is_drawn_from(draw, here, tmp_path, words):
    path = tmp_path / "a.png"
    path.write_bytes((here / "scene.png").read_bytes())
    before = path.read_bytes()
    words = [word.replace("PATH", str(path)) for word in words]
    assert "another name" in refuses("picture", PROMPT, "--model", "model", "--out", path, *QUICK, *words)
    assert path.read_bytes() == before
    draw("--image", "scene.png", "--strength", 0.5)
    assert "this is the image" in refuses("recipe", path, "--again", "--out", "scene.png")


def test_strange_words_in_boxes_are_warned_of(draw, tmp_path):
    words = ("picture", PROMPT, "--model", "model", "--out", tmp_path / "b.png", *QUICK, "--layout")
    assert "layout: words that no caption has: 'frog'" in works(*words, "a frog=0.1,0.1,0.5,0.5").stderr
    assert "warning" not in works(*words, "a small red ring=0.1,0.1,0.5,0.5").stderr


def test_a_weight_keeps_all_of_its_digits(draw, tmp_path):
    draw("--control", "outlines=map.png@0.123456789")
    assert "outlines=map.png@0.123456789" in works("recipe", tmp_path / "a.png").stdout


def test_a_picture_of_another_size_than_the_models_is_warned_of(draw, here, tmp_path):
    Image.new("RGB", (64, 70), "white").save(here / "large.png")
    words = ("--model", "model", "--out", tmp_path / "b.png", *QUICK, "--strength", 0.3)
    told = works("picture", PROMPT, *words, "--image", "large.png").stderr
    assert "64 x 70" in told and "smaller" not in told
    photo = given.remarks(torch.zeros(1, 3, 3000, 4000, device="meta"), weights.load("model"))
    assert photo.endswith("it takes more than 11,718 times as long as one of those: make it smaller first")
    assert "scene.png" not in works("picture", PROMPT, *words, "--image", "scene.png").stderr


@pytest.mark.parametrize(
    "broken", [{"image": 3}, {"mask": "a.png"}, {"control": "edges"}, {"control": [["edges"]]},
               {"layout": [["a ring", 0, 0, "x", 1]]}, {"layout": [3]}, {"strength": True, "image": "a.png"}],
)  # fmt: skip
def test_a_recipe_that_somebody_wrote_by_hand_is_read_with_care(draw, tmp_path, broken):
    draw()
    image, recipe = pngs.read(tmp_path / "a.png")
    pngs.save(image, tmp_path / "b.png", recipe | broken)
    refuses("recipe", tmp_path / "b.png", "--again")
