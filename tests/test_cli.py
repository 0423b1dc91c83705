"""The command line, on a small untrained model: what it makes, what it warns of, what it refuses in one line."""

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import published
import pytest
import tiny
import torch
from PIL import Image
from typer.testing import CliRunner

import minildm
from minildm import cli, evaluate, pngs, recipes, scenes, tasks, weights
from minildm.cli import training
from minildm.vae import VAE

PROMPT = "a large red circle on a white background"


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return weights.save(tiny.pipe(), tmp_path_factory.mktemp("model"))


def run(*words):
    return CliRunner().invoke(cli.app, [str(word) for word in words])


def works(*words):
    done = run(*words)
    assert done.exit_code == 0, done.stderr or done.exception
    return done


def refuses(*words):
    """The one line that a mistake is told in."""
    done = run(*words)
    assert done.exit_code == 2, done.output
    assert done.stdout == ""
    lines = done.stderr.splitlines()
    assert len(lines) == 1 and lines[0].startswith("error: "), done.stderr
    return lines[0]


@pytest.fixture
def picture(model, tmp_path):
    """Draws a picture with few steps, and returns its path."""

    def draw(name="a.png", prompt=PROMPT, *more):
        works("picture", prompt, "--model", model, "--out", tmp_path / name, "--steps", 2, "--count", 2, *more)
        return tmp_path / name

    return draw


# --- picture


def test_a_picture_is_what_the_library_draws(model, tmp_path):
    out = tmp_path / "new" / "picture.png"
    asked = ("--steps", 3, "--scale", 2, "--seed", 5, "--count", 1)
    done = works("picture", PROMPT, "--model", model, "--out", out, *asked)
    assert done.stdout.strip() == str(out) and done.stderr == ""
    pipe = weights.load(model)
    noise = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(5))
    wanted = tasks.text2img(pipe, PROMPT, steps=3, scale=2.0, noise=noise)
    pixels = torch.from_numpy(np.array(Image.open(out))).permute(2, 0, 1)[:, ::4, ::4]
    assert pixels.shape == (3, 32, 32)  # four times as large
    assert (pixels / 127.5 - 1 - wanted[0]).abs().max() <= 1.01 / 127.5


def test_several_pictures_make_a_grid():
    x = torch.linspace(-1, 1, 8)[:, None, None, None].expand(8, 3, 32, 32)
    image = np.array(pngs.grid(x))
    assert image.shape == (2 * 130 + 2, 4 * 130 + 3 * 2, 3)  # two rows of four, framed, a gap of two
    for i in range(8):
        y, left = (i // 4) * 132, (i % 4) * 132
        assert (image[y + 1 : y + 129, left + 1 : left + 129] == round((x[i, 0, 0, 0].item() + 1) * 127.5)).all()
        assert (image[y, left : left + 130] == 204).all()
    sizes = {n: pngs.grid(torch.zeros(n, 3, 256, 256)).size for n in (1, 2, 4, 7, 12)}
    assert {n: ((w + 2) // 260, (h + 2) // 260) for n, (w, h) in sizes.items() if n > 1} == {
        2: (2, 1), 4: (2, 2), 7: (7, 1), 12: (4, 3),
    }  # fmt: skip
    assert sizes[1] == (256, 256)


def test_a_picture_carries_its_recipe(picture, model):
    asked = ("--negative", "a red cross", "--seed", 7, "--sampler", "euler", "--scale", 1.5)
    path = picture("a.png", "a blue ring", *asked)
    recipe = json.loads(Image.open(path).text["minildm"])
    assert recipe == {
        "prompt": "a blue ring",
        "negative": "a red cross",
        "seed": 7,
        "steps": 2,
        "scale": 1.5,
        "sampler": "euler",
        "count": 2,
        "model": str(model),
        "hash": weights.fingerprint(model),
        "version": minildm.__version__,
        "zoom": 4,
    }
    told = works("recipe", path).stdout
    for value in recipe.values():
        assert str(value) in told
    assert "minildm picture 'a blue ring' --count 2 --steps 2 --scale 1.5 --sampler euler --seed 7" in told


@pytest.mark.parametrize("sampler", ["ddim", "ddpm", "heun", "dpmpp_2m"])
def test_again_draws_the_same_picture(picture, sampler, tmp_path):
    path = picture("a.png", PROMPT, "--sampler", sampler, "--negative", "black")
    done = works("recipe", path, "--again")
    again = tmp_path / "a-again.png"
    assert done.stdout.startswith(f"{again}: at most 0/255") or done.stdout.startswith(f"{again}: at most 1/255")
    before, after = (np.array(Image.open(file)).astype(int) for file in (path, again))
    assert abs(before - after).max() <= 2
    assert pngs.read(again)[1] == pngs.read(path)[1]
    assert np.unique(before).size > 20  # it is not a picture of nothing


def test_again_wants_the_very_model(picture, model, tmp_path):
    path = picture()
    torch.manual_seed(3)
    other = tiny.pipe()
    other.unet.conv_out.bias.data += 0.1
    weights.save(other, tmp_path / "other")
    line = refuses("recipe", path, "--again", "--model", tmp_path / "other")
    assert weights.fingerprint(model) in line and weights.fingerprint(tmp_path / "other") in line
    assert not (tmp_path / "a-again.png").exists()
    weights.save(tiny.pipe(), tmp_path / "moved")
    works("recipe", path, "--again", "--model", tmp_path / "moved", "--out", tmp_path / "b.png")
    assert pngs.apart(Image.open(path), Image.open(tmp_path / "b.png")) <= 2


def test_again_says_when_the_version_is_another(picture, monkeypatch):
    path = picture()
    monkeypatch.setattr(minildm, "__version__", "0.0.9")
    done = works("recipe", path, "--again")
    assert "version 0.1.0" in done.stderr and "0.0.9" in done.stderr


def test_apart_sees_a_difference():
    one = Image.new("RGB", (4, 4), (10, 10, 10))
    other = one.copy()
    other.putpixel((2, 1), (10, 13, 10))
    assert (pngs.apart(one, one), pngs.apart(one, other), pngs.apart(one, one.resize((5, 4)))) == (0, 3, 255)


# --- the prompt history


def test_a_folders_recipes_are_listed_newest_first(picture, tmp_path):
    for i, (name, prompt) in enumerate([("a.png", "a blue ring"), ("b.png", "a red cross"), ("c.png", "a Blue star")]):
        path = picture(name, prompt)
        os.utime(path, (1000 + i, 1000 + i))
    deep = tmp_path / "more" / "d.png"
    deep.parent.mkdir()
    deep.write_bytes((tmp_path / "a.png").read_bytes())
    os.utime(deep, (1, 1))
    Image.new("RGB", (4, 4)).save(tmp_path / "plain.png")
    (tmp_path / "broken.png").write_bytes(b"no picture")

    def listed(*more):
        return [Path(line.split(": ")[0]).name for line in works("recipe", tmp_path, *more).stdout.splitlines()]

    assert listed() == ["c.png", "b.png", "a.png", "d.png"]
    assert listed("--match", "blue") == ["c.png", "a.png", "d.png"]
    assert listed("--match", "dog") == []
    assert "minildm picture 'a red cross'" in works("recipe", tmp_path, "--match", "cross").stdout


# --- warnings


def test_unknown_words_are_named_with_the_nearest_known(model, tmp_path):
    words = ("--model", model, "--out", tmp_path / "a.png", "--steps", 1, "--count", 1)
    done = works("picture", "a lage red sircle on a white dog", *words, "--negative", "bleu")
    prompt, negative = done.stderr.splitlines()
    assert prompt.startswith("warning: prompt: ") and "'lage' (nearest: large" in prompt
    assert "'sircle' (nearest: circle" in prompt and "'dog'" in prompt and "'red'" not in prompt
    assert negative.startswith("warning: negative: ") and "'bleu' (nearest: blue" in negative
    assert (tmp_path / "a.png").exists()


WARNING = f"warning: the prompt has room for 22 tokens; cut off: '{'red circle ' * 8}red circle'\n"


def test_a_long_prompt_is_cut_with_a_warning(model, tmp_path):
    images = []
    for count, warning in ((20, WARNING), (11, "")):
        out = tmp_path / f"{count}.png"
        prompt = " ".join(["red circle"] * count)
        done = works("picture", prompt, "--model", model, "--out", out, "--steps", 1, "--count", 1)
        assert done.stderr == warning
        images.append(pngs.read(out)[0])
    assert pngs.apart(*images) == 0


def test_words_are_not_judged_for_a_model_of_another_world():
    from transformers import CLIPTokenizer

    ours = tiny.text().tokenizer
    assert pngs.strange_words(ours, "a zebra") and not pngs.strange_words(ours, PROMPT)
    vocab = {f"word{i}</w>": i for i in range(6000)} | {"<|startoftext|>": 6000, "<|endoftext|>": 6001}
    other = CLIPTokenizer(vocab=vocab, merges=[], model_max_length=77)
    assert not pngs.strange_words(other, "a zebra")


def test_parts_that_are_not_used_are_told_of_once(model, tmp_path):
    """Whether their files are there or not; and never a word that could be taken for a promise of safety."""
    folder = shutil.copytree(model, tmp_path / "copy")
    index = json.loads((folder / "model_index.json").read_text(encoding="utf-8"))
    index |= {"safety_checker": ["stable_diffusion", "StableDiffusionSafetyChecker"]}
    (folder / "model_index.json").write_text(json.dumps(index), encoding="utf-8")
    done = works("picture", PROMPT, "--model", folder, "--out", tmp_path / "a.png", "--steps", 1, "--count", 2)
    assert done.stderr == "warning: safety_checker: not used here; nothing checks what the model draws\n"


def test_inspect_tells_what_a_file_and_a_folder_hold(model, tmp_path):
    single = published.save_single(published.pipe("sdxl"), "sdxl", tmp_path / "xl.safetensors", torch.float16)
    told = works("inspect", single).stdout
    for word in ("xl.safetensors", "original layout", "float16", "unet", "text_encoder_2", "3 levels"):
        assert word in told
    pipe = weights.load(model)
    told = works("inspect", model).stdout
    total = sum(p.numel() for p in pipe.parameters())
    assert f"{total:,} parameters" in told and "float32" in told and "diffusers layout" in told
    told = works("inspect", Path(model) / "vae" / "diffusion_pytorch_model.safetensors").stdout
    assert "an autoencoder" in told and f"{sum(p.numel() for p in pipe.vae.parameters()):,}" in told


# --- mistakes


@pytest.mark.parametrize(
    "words, told",
    [
        (["picture", ""], "prompt: got ''"),
        (["picture", " "], "prompt: got ' '"),
        (["picture", "red " * 500], "prompt: got '2000 characters'; expected at most 1000"),
        (["picture", PROMPT, "--negative", "x" * 1001], "negative: got '1001 characters'"),
        (["picture"], "prompt"),
        (["picture", PROMPT, "--steps", "0"], "'--steps': got '0'; expected a whole number from 1"),
        (["picture", PROMPT, "--steps", "1001"], "steps: got 1001; expected a whole number from 1 to 1000"),
        (["picture", PROMPT, "--steps", "1000", "--sampler", "dpmpp_2m"], "steps: got 1000; expected a whole number"),
        (["picture", PROMPT, "--steps", "2.5"], "'--steps': got '2.5'"),
        (["picture", PROMPT, "--scale", "much"], "'--scale': got 'much'; expected a finite number"),
        (["picture", PROMPT, "--scale", "nan"], "'--scale': got 'nan'"),
        (["picture", PROMPT, "--scale", "inf"], "'--scale': got 'inf'"),
        (["picture", PROMPT, "--sampler", "magic"], "sampler: got 'magic'; expected one of ddpm, ddim"),
        (["picture", PROMPT, "--seed", "-1"], "'--seed': got '-1'"),
        (["picture", PROMPT, "--count", "0"], "'--count': got '0'"),
        (["picture", PROMPT, "--out", "a.jpg"], "out: got 'a.jpg'; expected a name that ends in .png"),
        (["picture", PROMPT, "--colour", "red"], "--colour"),
        (["picture", PROMPT, "--model", "nowhere"], "model: got 'nowhere'; expected a folder or file, one of"),
        (["paint", PROMPT], "paint"),
    ],
)
def test_a_wrong_wish_for_a_picture_is_one_line(words, told, model, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    if words[0] == "picture" and "--model" not in words:
        words = [*words, "--model", model]
    assert told in refuses(*words)
    assert not list(tmp_path.iterdir())


def test_broken_checkpoints_are_one_line_and_leave_nothing(model, tmp_path):
    import shutil

    def broken(name, change):
        folder = tmp_path / "copy"
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(model, folder)
        change(folder / name)
        return refuses("picture", PROMPT, "--model", folder, "--out", tmp_path / "a.png")

    file = "unet/diffusion_pytorch_model.safetensors"
    assert file.split("/")[1] in broken(file, lambda path: path.write_bytes(path.read_bytes()[:1000]))
    assert "no such file" in broken(file, lambda path: path.unlink())
    assert "valid JSON" in broken("unet/config.json", lambda path: path.write_text("{"))
    assert "missing" in broken("unet/config.json", lambda path: path.write_text(
        path.read_text().replace('"layers_per_block": 1', '"layers_per_block": 2')
    ))  # fmt: skip
    assert not (tmp_path / "a.png").exists()
    weights.save(VAE(tiny.VAE_CONFIG), tmp_path / "vae")
    assert "got 'a VAE'" in refuses("picture", PROMPT, "--model", tmp_path / "vae", "--out", tmp_path / "a.png")


def test_a_picture_that_cannot_be_written_is_one_line(model, tmp_path):
    (tmp_path / "file").write_text("in the way", encoding="utf-8")
    line = refuses("picture", PROMPT, "--model", model, "--steps", 1, "--out", tmp_path / "file" / "a.png")
    assert line.startswith("error: file: got") and "a.png" in line


def test_pictures_without_a_recipe_are_refused(tmp_path, picture):
    plain, text, foreign = (tmp_path / name for name in ("plain.png", "text.png", "foreign.png"))
    Image.new("RGB", (4, 4)).save(plain)
    text.write_text("no picture", encoding="utf-8")
    pngs.save(Image.new("RGB", (4, 4)), foreign, {"prompt": 3})
    cut = picture("cut.png")
    cut.write_bytes(cut.read_bytes()[:900])
    assert "a picture that `minildm picture` saved" in refuses("recipe", plain)
    assert "a whole PNG file" in refuses("recipe", text)
    assert "a whole PNG file" in refuses("recipe", cut)
    assert "prompt: got 3; expected str" in refuses("recipe", foreign)
    assert "a PNG file" in refuses("recipe", tmp_path / "nowhere.png")
    assert "--again draws one at a time" in refuses("recipe", tmp_path, "--again")


# --- train


def test_train_runs_a_recipe_and_resumes(tmp_path):
    out = tmp_path / "digits"
    done = works("train", "digits-vae", "--out", out, "--steps", 4, "--seed", 3)
    assert done.stdout.strip() == str(out)
    assert type(weights.load(out)).__name__ == "FlatVAE"
    assert "out: got" in refuses("train", "digits-vae", "--out", out, "--steps", 4, "--seed", 3)
    works("train", "digits-vae", "--out", out, "--steps", 4, "--seed", 3, "--resume")
    again = tmp_path / "again"
    works("train", "digits-vae", "--out", again, "--steps", 4, "--seed", 3)
    assert weights.fingerprint(again) == weights.fingerprint(out)


def test_train_passes_its_options_on(tmp_path, monkeypatch):
    calls = []

    def fake(name, folder, **options):
        calls.append((name, folder, options))
        yield recipes.Progress(1, 1.0, 0.1, 0.5, 0.0)

    monkeypatch.setattr(recipes, "train", fake)
    asked = ("--seconds", 300, "--objects", 1, "--small", "--vae", "v", "--clip", "c")
    works("train", "latent", "--out", tmp_path, *asked)
    works("train", "pixel", "--out", tmp_path, "--no-captions", "--snapshots", 3, "--resume")
    monkeypatch.setattr(training, "best_device", lambda: torch.device("mps"))  # trained on the CPU there, see cli
    usual = {"steps": None, "seconds": None, "seed": 0, "resume": False, "snapshots": 0, "accumulate": 1,
             "device": torch.device("cpu")}  # fmt: skip
    own = {"seconds": 300.0, "objects": 1, "small": True, "vae": "v", "clip": "c"}
    assert calls[0] == ("latent", tmp_path, usual | own)
    assert calls[1] == ("pixel", tmp_path, usual | {"captions": False, "snapshots": 3, "resume": True})
    monkeypatch.setattr(training, "best_device", lambda: torch.device("cuda"))
    works("train", "vae", "--out", tmp_path)
    assert calls[2] == ("vae", tmp_path, usual | {"device": torch.device("cuda")})


@pytest.mark.parametrize(
    "words, told",
    [
        (["painting"], "recipe: got 'painting'; expected one of vae, decoder"),
        (["vae", "--steps", "0"], "'--steps': got '0'"),
        (["vae", "--seconds", "soon"], "'--seconds': got 'soon'; expected a finite number from 1"),
        (["vae", "--steps", "3", "--seconds", "3"], "steps, seconds: got (3, 3.0); expected one of the two"),
        (["vae", "--objects", "1"], "objects: got 1; expected no such option, for the recipe vae"),
        (["vae", "--vae", "shapes/vae"], "vae: got 'shapes/vae'; expected no such option, for the recipe vae"),
        (["latent", "--model", "shapes"], "model: got 'shapes'; expected no such option, for the recipe latent"),
        (["decoder", "--small"], "small: got True; expected no such option, for the recipe decoder"),
        (["latent", "--objects", "3"], "objects: got 3; expected 1, 2"),
        (["latent", "--start", "latent-300"], "start: got 'latent-300'; expected a model with this network"),
        (["pixel", "--clip", "nowhere"], "model: got 'nowhere'"),
        ([], "recipe"),
    ],
)
def test_a_wrong_wish_for_a_training_is_one_line(words, told, tmp_path):
    assert told in refuses("train", *words, "--out", tmp_path / "run")
    assert not list(tmp_path.iterdir())


def test_the_help_of_train_shows_every_recipe_and_option():
    told = works("train", "--help").stdout
    for name in (*recipes.RECIPES, "--out", "--resume", "--steps", "--seconds", "--seed", "--objects", "--no-captions",
                 "--small", "--vae", "--clip", "--start", "--model", "--snapshots"):  # fmt: skip
        assert name in told, name


def test_a_training_that_is_stopped_says_how_to_go_on(tmp_path, monkeypatch):
    def fake(name, folder, **options):
        yield recipes.Progress(1, 0.5, 0.1, 0.5, 0.0)
        raise KeyboardInterrupt

    monkeypatch.setattr(recipes, "train", fake)
    done = run("train", "vae", "--out", tmp_path)
    assert done.exit_code == 130 and "--resume" in done.stderr


# --- evaluate


def test_evaluate_prints_shares_with_their_intervals(model):
    done = works("evaluate", model, "--n", 4, "--steps", 1, "--set", "one", "--set", "two-unseen")
    assert f"{model}, one\n" in done.stdout and f"{model}, two-unseen\n" in done.stdout
    line = next(line for line in done.stdout.splitlines() if line.split()[:1] == ["all"])
    share, low, to, high = line.split()[1:]
    assert to == "to" and float(low) <= float(share) <= float(high)
    wanted = evaluate.evaluate(weights.load(model), 4, steps=1, sets=["one"])["one"]["all"]
    assert float(high) == pytest.approx(wanted[2], abs=1e-4)


def test_evaluate_refuses_unknown_models_and_sets(model):
    assert "model: got 'nowhere'" in refuses("evaluate", "nowhere")
    assert "set: got 'three'" in refuses("evaluate", model, "--n", 2, "--set", "three")
    assert "'--n': got '0'" in refuses("evaluate", model, "--n", 0)


# --- the whole


def test_without_a_command_there_is_help():
    told = works().stdout
    assert told == works("--help").stdout
    for name in ("picture", "train", "evaluate", "recipe"):
        assert name in told


def test_the_version_is_the_projects():
    import tomllib

    text = (Path(__file__).parent.parent / "pyproject.toml").read_text(encoding="utf-8")
    assert tomllib.loads(text)["project"]["version"] == minildm.__version__


def test_the_best_device_is_the_fastest_there_is(monkeypatch):
    for cuda, mps, kind in ((True, True, "cuda"), (False, True, "mps"), (False, False, "cpu")):
        monkeypatch.setattr(torch.cuda, "is_available", lambda found=cuda: found)
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda found=mps: found)
        assert minildm.best_device().type == kind


def test_help_loads_no_transformers():
    code = "import sys; from minildm import cli\ntry: cli.app(['--help'])\nexcept SystemExit: pass\n"
    code += "assert not {'transformers', 'matplotlib', 'torchvision', 'sklearn'} & set(sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_no_caption_of_the_shapes_world_is_warned_of():
    tokenizer = tiny.text().tokenizer
    drawn = scenes.draw(300, seed=5)
    for prompt in scenes.captions(drawn, full=True) + scenes.captions(drawn, full=True, forms="held_out"):
        assert not pngs.strange_words(tokenizer, prompt), prompt


@pytest.mark.slow
def test_a_bar_appears_only_after_a_while(picture, model, tmp_path, monkeypatch):
    slow = pngs.film

    def slowly(pipe, recipe, more):
        for state in slow(pipe, recipe, more):
            time.sleep(0.8)
            yield state

    monkeypatch.setattr(pngs, "film", slowly)
    words = ("--model", model, "--out", tmp_path / "a.png", "--count", 1)
    assert "picture" in works("picture", PROMPT, *words, "--steps", 4).stderr
