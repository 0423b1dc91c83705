"""`minildm train --data FOLDER`: what is printed, what is written, what is refused in one line."""

import json
import re

import own_pictures
import pytest
import tiny
import torch
from test_cli import refuses, works

from minildm import own, pngs, recipes, weights
from minildm.vae import VAE

TINY = "size=32 batch=4 steps=4 samples=1 unet.block_out_channels=8,16 unet.heads=2,2 unet.norm_num_groups=4 " \
       "text.width=16 text.layers=1 text.heads=2"  # fmt: skip
SETTINGS = [word for setting in TINY.split() for word in ("--set", setting)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = own_pictures.fill(tmp_path_factory.mktemp("pictures") / "my houses", 12)
    (folder / "003.png").write_bytes(b"torn")
    return folder


@pytest.fixture(scope="module")
def vae(tmp_path_factory):
    torch.manual_seed(0)
    return weights.save(VAE(tiny.VAE_CONFIG), tmp_path_factory.mktemp("vae"))


def test_a_folder_becomes_a_model_that_draws(folder, vae, tmp_path):
    out = tmp_path / "run"
    asked = ("--vae", vae, *SETTINGS, "--prompt", "a red house", "--prompt", "a blue field")
    done = works("train", "latent", "--data", folder, "--out", out, *asked)
    told = done.stdout.splitlines()
    assert told[0] == str(folder) and told[-1] == str(out)
    assert "  pictures  11 can be used; " in done.stdout and "1 broken pictures: 003.png" in done.stdout
    assert (out / "report.txt").read_text(encoding="utf-8").splitlines() == told[:-1]
    command = (out / "command.txt").read_text(encoding="utf-8")
    assert command.startswith(f"minildm train latent --data '{folder}' --out {out} --vae {vae} --set size=32")
    assert command.endswith("--prompt 'a red house' --prompt 'a blue field'\n")
    assert (out / "samples" / "rows.txt").read_text(encoding="utf-8") == "a red house\na blue field\n"
    picture = tmp_path / "picture.png"
    done = works("picture", "a red house", "--model", out, "--out", picture, "--steps", 2, "--count", 1)
    assert done.stderr == ""  # no word of it is strange to this model
    assert pngs.read(picture)[0].size == (128, 128)
    assert "'zebra'" in works("picture", "a red zebra", "--model", out, "--out", picture, "--steps", 2).stderr


def test_a_run_goes_on_and_remembers_both_commands(folder, vae, tmp_path):
    out = tmp_path / "run"
    asked = ("train", "latent", "--data", folder, "--out", out, "--vae", vae, *SETTINGS)
    works(*asked)
    assert "--resume" in refuses(*asked)
    works(*asked, "--resume")
    first, second = (out / "command.txt").read_text(encoding="utf-8").splitlines()
    assert second == first + " --resume"


def test_options_reach_the_library(folder, tmp_path, monkeypatch):
    calls = []

    def plan(kind, data, **more):
        calls.append((kind, data, more))
        return type("Plan", (), {"report": lambda self: "told", "album": None})()

    def train(made, out, **more):
        calls.append((out, more))
        yield recipes.Progress(1, 1.0, 0.1, 0.5, 0.0)

    monkeypatch.setattr(own, "plan", plan)
    monkeypatch.setattr(own, "check", lambda *_: None)
    monkeypatch.setattr(own, "encode", lambda *_: iter([(1, 1)]))
    monkeypatch.setattr(own, "train", train)
    asked = ("--size", 48, "--flips", "--set", "lr=1e-4", "--seed", 5, "--start", "shapes", "--seconds", 9)
    rest = ("--cache", tmp_path / "c", "--tensorboard", "--snapshots", 2)
    works("train", "latent", "--data", folder, "--out", tmp_path, *asked, *rest)
    kind, data, more = calls[0]
    assert (kind, data) == ("latent", str(folder))
    assert more == {"vae": None, "clip": None, "start": "shapes", "settings": ["size=48", "flips=yes", "lr=1e-4"],
                    "seed": 5, "device": torch.device("cpu")}  # fmt: skip
    out, more = calls[1]
    command = more.pop("command")
    assert command.startswith("minildm train latent --data") and "--tensorboard" in command
    assert more == {"prompts": (), "cache": tmp_path / "c", "tensorboard": True, "steps": None, "seconds": 9.0,
                    "resume": False, "snapshots": 2, "accumulate": 1}  # fmt: skip


@pytest.mark.parametrize(
    "words, told",
    [
        (["latent", "--size", "64"], "size: got 64; expected no such option, without --data"),
        (["latent", "--set", "lr=1"], "set: got ['lr=1']; expected no such option, without --data"),
        (["edges", "--flips"], "flips: got True; expected no such option, without --data"),
        (["latent", "--data", "F", "--small"], "small: got True; expected no such option, for the recipe latent with"),
        (["clip", "--data", "F"], "recipe: got 'clip'; expected one of latent, vae, for pictures of one's own"),
        (["latent", "--data", "nowhere"], "folder: got 'nowhere'; expected a folder of pictures"),
        (["latent", "--data", "F", "--size", "36"], "size: got 36; expected a multiple of 8"),
        (["latent", "--data", "F"], "0 usable, 11 tiny, 1 broken"),
        (["latent", "--data", "F", "--set", "learning_rate=1"], "set: got 'learning_rate=1'; expected NAME=VALUE"),
        (["latent", "--data", "F", "--size", "32", "--steps", "2", "--seconds", "3"], "steps, seconds: got (2, 3.0)"),
    ],
)
def test_a_wrong_wish_is_one_line_and_writes_nothing(words, told, folder, tmp_path):
    words = [str(folder) if word == "F" else word for word in words]
    assert told in refuses("train", *words, "--out", tmp_path / "run")
    assert not list(tmp_path.iterdir())


def test_the_help_reads_like_a_manual():
    told = works("train", "--help").stdout
    for title in ("The run:", "What it builds on:", "The shapes world:", "Your own pictures, with --data:",
                  "Recipes:"):  # fmt: skip
        assert f"\n{title}\n" in told, title
    for name in ("--data", "--set", "--flips", "--tensorboard", "unet.mid_layers=1", "vae.latent_channels=4"):
        assert name in told, name
    assert max(map(len, told.splitlines())) <= 100
    examples = re.findall(r"^  (minildm train .*)$", told, re.MULTILINE)
    assert len(examples) >= 8
    named = {word for line in examples for word in line.split() if word.startswith("--")}
    assert {"--data", "--out", "--vae", "--start", "--flips", "--set", "--seconds", "--resume", "--clip"} <= named
    for name in named:
        assert told.count(name) > 1, f"{name} stands in an example alone"
    for line in examples:
        kind = line.split()[2]
        assert kind in recipes.RECIPES
        for setting in re.findall(r"--set (\S+)", line):
            assert any(one.partition("=")[0] == setting.partition("=")[0] for one in own.usual(kind)), setting


def test_the_run_file_of_a_recipe_is_as_it_was(tmp_path):
    out = tmp_path / "digits"
    works("train", "digits-vae", "--out", out, "--steps", 4, "--seed", 3, "--snapshots", 1)
    asked = json.loads((out / "run.json").read_text(encoding="utf-8"))
    assert asked == {"recipe": "digits-vae", "steps": 4, "seconds": None, "seed": 3, "snapshots": 1}
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [line["step"] for line in lines] == [1, 2, 3, 4] and all(line["check"] > 0 for line in lines)
    assert (out / "snapshot-1").is_dir()
