"""A few hundred of the random cases of `make fuzz`, that they would notice a bug, and all that they found so far."""

import json

import fuzz
import numpy as np
import pytest
import tiny
import torch
from fuzzing.cases import TARGETS
from fuzzing.targets import Place, line
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from minildm import given, pictures, pngs, tasks, weights
from minildm.control import ControlNetConfig, Hint
from minildm.files import UserError
from minildm.unet import UNet, UNetConfig
from minildm.vae import VAE, VAEConfig

CASES = 300


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return Place(tmp_path_factory.mktemp("fuzz"))


@pytest.mark.slow
@pytest.mark.parametrize("name", TARGETS)
def test_random_cases_end_well(place, name):
    cases = round(CASES * TARGETS[name][0] / 10_000)
    counts, broken = fuzz.fuzz(name, cases, place)
    assert not broken, "\n".join(f"{where}: {case}\n{trace}" for where, (case, trace) in broken.items())
    # Neither may all be refused, which would test the first checks alone, nor may nothing be.
    assert counts.total() == cases and counts["made"] > cases / 8 and counts["refused"] > 0


def test_shares_are_those_of_ten_thousand():
    assert sum(share for share, _, _ in TARGETS.values()) == 10_000
    assert sum(round(CASES * share / 10_000) for share, _, _ in TARGETS.values()) >= CASES


@pytest.mark.parametrize("harm, where", [
    (lambda *_, **__: 1 / 0, "ZeroDivisionError"),
    (lambda *_, **__: torch.full((1, 3, 8, 8), float("nan")), "AssertionError"),
    (lambda *_, **__: torch.full((1, 3, 8, 8), 1.5), "AssertionError"),
    (lambda *_, **__: torch.zeros(1, 4, 8, 8), "AssertionError"),
])  # fmt: skip
def test_a_bug_would_be_seen(place, monkeypatch, harm, where):
    monkeypatch.setattr(tasks, "text2img", harm)
    counts, broken = fuzz.fuzz("prompts", 3, place)
    assert counts["broken"] == 3 and all(found.startswith(where) for found in broken)


def test_an_error_of_two_lines_would_be_seen(place):
    class TwoLines(UserError):
        def __str__(self):
            return "one\ntwo"

    def refuse(*_):
        raise TwoLines("a", 1, "b")

    with pytest.raises(AssertionError, match="more than one line"):
        fuzz.ended(refuse, place, None)


# What was found, each once a traceback.


@pytest.fixture(scope="module")
def pipe():
    return tiny.pipe()


@pytest.mark.parametrize("how, named", [
    ({"prompt": "a \ud800 circle"}, "prompt"),  # the tokenizer is not Python and knows no half characters
    ({"negative": "\udfff"}, "prompt"),
    ({"height": 2**62}, "height"),
    ({"width": 10**30}, "width"),
    ({"height": 2**14, "width": 2**14, "prompt": ["a"] * 2}, "pictures"),
    ({"height": 0}, "height"),  # was the usual size
    ({"scale": 1e300}, "scale"),  # was a picture of nan
    ({"noise": "3"}, "noise"), ({"noise": torch.full((1, 4, 2, 2), float("nan"))}, "noise"),
    ({"noise": torch.zeros(1, 4, 2, 2, dtype=torch.int64)}, "noise"), ({"noise": torch.zeros(1, 4, 2, 0)}, "noise"),
    ({"noise": torch.full((1, 4, 2, 2), 1e30)}, "noise"), ({"sampler": {}}, "sampler"),
])  # fmt: skip
def test_prompts_and_sizes(pipe, how, named):
    with pytest.raises(UserError, match=f"^{named}: got "):
        tasks.text2img(pipe, **{"prompt": "red", "steps": 1} | how)


def test_control_map_of_complex_numbers(place):
    hint = Hint(place.control, torch.zeros(1, 3, 8, 8, dtype=torch.complex64))
    with pytest.raises(UserError, match="control map: got 'torch"):
        tasks.text2img(place.pipe, "red", steps=1, height=8, width=8, control=[hint])


def test_guidance_at_its_limit_is_a_picture(pipe):
    for scale in (1000, -1000):
        for sampler in ("ddim", "euler", "heun", "dpmpp_2m"):
            made = tasks.text2img(pipe, "red", steps=5, scale=scale, sampler=sampler, height=8, width=8)
            assert torch.isfinite(made).all(), sampler


def test_larger_pictures_than_can_be(pipe):
    image = torch.zeros(1, 3, 8, 8)
    for call in (lambda: tasks.upscale(pipe, "red", image, 2**20), lambda: tasks.outpaint(pipe, "red", image, 2**40)):
        with pytest.raises(UserError, match="pixels, up to 16384"):
            call()


def test_largest_size_is_allowed():
    pictures.check_size(2**14, 2**14)
    with pytest.raises(UserError, match="height: got 16385"):
        pictures.check_size(2**14 + 1, 1)
    with pytest.raises(UserError, match="at most 268,435,456 pixels"):
        pictures.check_size(2**14, 2**14, 2)


def test_images_that_have_no_way_to_rgb():
    odd = Image.new("L", (4, 4))
    odd.info["transparency"] = b"\0\x80"  # a table, where a single shade should be
    for image in (odd, Image.new("La", (4, 4))):
        for read in (pictures.read, pictures.read_mask):
            with pytest.raises(UserError, match=f"mode {image.mode}"):
                read(image)


@pytest.mark.parametrize("field, value", [
    ("block_out_channels", ()), ("block_out_channels", (8, -8)), ("block_out_channels", ("8", 8)),
    ("block_out_channels", 8), ("block_out_channels", (8, 2**40)), ("layers_per_block", 10**9),
    ("layers_per_block", 1.0), ("in_channels", 0), ("out_channels", None), ("norm_num_groups", True),
    ("heads", (0, 1)), ("heads", "11"), ("context_dim", -1), ("added_dim", "3"), ("transformer_layers", (0, -1)),
    ("mid_layers", float("nan")),
])  # fmt: skip
def test_fields_that_no_unet_has(field, value):
    good = {"block_out_channels": (8, 8), "transformer_layers": (0, 1), "heads": (1, 1), "norm_num_groups": 2}
    with pytest.raises(UserError, match=field):
        UNetConfig(**good | {field: value})
    with pytest.raises(UserError, match=field):
        ControlNetConfig(**good | {field: value})


@pytest.mark.parametrize("change, named", [
    ({"norm_num_groups": 3}, "block_out_channels"), ({"heads": (1, 3)}, "heads"),
    ({"block_out_channels": (7, 8), "norm_num_groups": 1}, "block_out_channels"),
])  # fmt: skip
def test_fields_that_do_not_fit_one_another(change, named):
    good = {"block_out_channels": (8, 8), "transformer_layers": (0, 1), "heads": (1, 1), "norm_num_groups": 2}
    UNet(UNetConfig(**good))
    UNet(UNetConfig(**good | {"heads": (3, 1)}))  # the first level has no attention
    with pytest.raises(UserError, match=named):
        UNet(UNetConfig(**good | change))


@pytest.mark.parametrize("change", [
    {"block_out_channels": []}, {"block_out_channels": (8, None)}, {"layers_per_block": 0}, {"latent_channels": -1},
    {"norm_num_groups": 3}, {"scaling_factor": float("nan")}, {"scaling_factor": 0}, {"scaling_factor": "1"},
])  # fmt: skip
def test_fields_that_no_autoencoder_has(change):
    with pytest.raises(UserError):
        VAE(VAEConfig(**{"block_out_channels": (8, 8), "norm_num_groups": 2} | change))


def test_control_that_reads_nothing():
    for change in ({"embedding_channels": ()}, {"embedding_channels": (4, 0)}, {"conditioning_channels": 0}):
        with pytest.raises(UserError, match=next(iter(change))):
            ControlNetConfig(**change)


def test_names_that_no_file_can_have(place, tmp_path):
    for name in ("x" * 5000, "a\0b.png", "\ud800.png"):
        for read in (pictures.read, pictures.read_mask):
            with pytest.raises(UserError):
                read(name)
        for words in (["inspect", name], ["recipe", name], ["evaluate", name], ["picture", "red", "--model", name],
                      ["picture", "red", "--steps", 1, "--model", place.model, "--out", f"{name}.png"],
                      ["picture", "red", "--model", place.model, "--image", name]):  # fmt: skip
            with pytest.raises(UserError, match="error: "):
                line(words)


def test_nested_beyond_what_json_can_read(place, tmp_path):
    deep = tmp_path / "a.png"
    info = PngInfo()
    info.add_itxt(given.KEY, "[" * 100_000)
    Image.new("RGB", (8, 8)).save(deep, pnginfo=info)
    with pytest.raises(UserError, match="a whole PNG file"):
        line(["recipe", deep])
    (tmp_path / "model_index.json").write_text("[" * 100_000, encoding="utf-8")
    with pytest.raises(UserError, match="valid JSON"):
        weights.load(tmp_path)


def test_recipe_with_half_a_character(place, tmp_path):
    odd = "caf\udce9"  # a name in Latin 1, as Python reads it on Linux
    recipe = {"prompt": "red", "negative": None, "seed": 1, "steps": 1, "scale": 3.0, "sampler": "ddim", "count": 1,
              "model": str(place.model), "hash": "", "version": "0", "given": {odd: odd}}  # fmt: skip
    assert "recipe: got" in refused(tmp_path / "a.png", recipe, "--again")
    line(["recipe", tmp_path / "a.png"])  # shown it can be
    pngs.save(Image.new("RGB", (8, 8)), tmp_path / "b.png", recipe | {"given": {}})
    with pytest.raises(UserError, match="lone surrogates"):
        pngs.save(Image.new("RGB", (8, 8)), tmp_path / "b.png", recipe)


@pytest.mark.parametrize("text", ["no JSON", "[1]", "3", "[" * 100_000, "{}"])
def test_picture_with_a_text_that_is_no_recipe_can_be_changed(place, tmp_path, text):
    info = PngInfo()
    info.add_itxt(given.KEY, text)
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png", pnginfo=info)
    words = ["--model", place.model, "--steps", 1, "--count", 1, "--out", tmp_path / "b.png"]
    line(["picture", "red", "--image", tmp_path / "a.png", *words])
    assert (tmp_path / "b.png").exists()


def refused(path, recipe, *more):
    info = PngInfo()
    info.add_itxt(given.KEY, json.dumps(recipe))
    Image.new("RGB", (8, 8)).save(path, pnginfo=info)
    with pytest.raises(UserError, match="error: ") as caught:
        line(["recipe", path, *more])
    return str(caught.value)


@pytest.mark.parametrize("change, named", [
    ({"count": 2**40}, "count"), ({"count": 0}, "count"), ({"seed": 2**64}, "seed"), ({"seed": -1}, "seed"),
])  # fmt: skip
def test_numbers_of_a_recipe(place, tmp_path, change, named):
    recipe = {"prompt": "red", "negative": None, "seed": 1, "steps": 1, "scale": 3.0, "sampler": "ddim", "count": 1,
              "model": str(place.model), "hash": "", "version": "0"}  # fmt: skip
    assert f"error: {named}: got {change[named]}" in refused(tmp_path / "a.png", recipe | change, "--again")


def test_recipe_without_a_negative_prompt_has_none(place, tmp_path):
    recipe = {"prompt": "red", "seed": 1, "steps": 1, "scale": 3.0, "sampler": "ddim", "count": 1,
              "model": str(place.model), "hash": "", "version": "0"}  # fmt: skip
    info = PngInfo()
    info.add_itxt(given.KEY, json.dumps(recipe))
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png", pnginfo=info)
    line(["recipe", tmp_path / "a.png"])
    line(["recipe", tmp_path / "a.png", "--again"])


def test_error_is_one_line_whatever_it_is_about():
    assert "\n" not in str(UserError("numbers", np.zeros((3, 3)), "none\nat all"))


def test_warning_of_a_long_prompt_is_short(pipe):
    with pytest.warns(UserWarning, match="cut off") as told:
        pipe.text("a red circle " * 400)
    assert len(str(told[0].message)) < 300
