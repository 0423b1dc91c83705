"""Models of one's own pictures on tiny networks: settings, words, losses, what a run leaves behind, and going on."""

import functools
import json
import shutil
import sys

import own_pictures
import pytest
import tiny
import torch
from PIL import Image

from minildm import folders, own, pngs, recipes, tasks, train, weights
from minildm.files import UserError
from minildm.own import learning, settings, watching, words
from minildm.pipe import LatentDiffusion
from minildm.vae import VAE

TINY = ["size=32", "batch=4", "steps=6", "samples=2", "held_out=0.2", "unet.block_out_channels=8,16", "unet.heads=2,2",
        "unet.norm_num_groups=4", "text.width=16", "text.layers=1", "text.heads=2"]  # fmt: skip


def refuses(*said):
    return pytest.raises(UserError, match="(?s)" + ".*".join(said))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return own_pictures.fill(tmp_path_factory.mktemp("pictures"), 20, ((32, 32), (40, 24)))


@pytest.fixture(scope="module")
def vae(tmp_path_factory):
    torch.manual_seed(0)
    return str(weights.save(VAE(tiny.VAE_CONFIG), tmp_path_factory.mktemp("vae")))


@pytest.fixture(scope="module")
def trained(folder, vae, tmp_path_factory):
    out = tmp_path_factory.mktemp("run") / "out"
    plan = own.plan("latent", folder, vae=vae, settings=TINY, seed=3)
    progress = list(own.train(plan, out, command="minildm train latent"))
    assert [now.step for now in progress] == [1, 2, 3, 4, 5, 6]
    return out


def lines(out):
    return [json.loads(line) for line in (out / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]


def ran(plan, out, **more):
    return list(own.train(plan, out, **more))


# --- settings


def test_settings_are_read_as_the_dataclass_says():
    configs = {"training": settings.LatentTraining(), "text": settings.TextConfig(), "unet": tiny.UNET}
    made = settings.changed(configs, ["lr=1e-4", "flips=Yes", "prediction=x0", "batch= 7 ", "text.width=64",
                                      "unet.block_out_channels=(8, 24)", "unet.context_dim=None",
                                      "batch=8"])  # fmt: skip
    assert made["training"] == settings.LatentTraining(lr=1e-4, flips=True, prediction="x0", batch=8)
    assert made["text"].width == 64
    assert made["unet"].block_out_channels == (8, 24) and made["unet"].context_dim is None
    assert settings.changed(configs, []) == configs


@pytest.mark.parametrize(
    "setting, said",
    [
        ("lr", ["set", "'lr'", "NAME=VALUE", "batch", "text.width", "unet.heads"]),
        ("rate=3", ["set", "lr", "unsaid"]),
        ("vae.heads=3", ["set", "unet.heads"]),
        ("lr=fast", ["lr: got 'fast'", "a number"]),
        ("lr=nan", ["lr", "a number"]),
        ("batch=1.5", ["batch: got '1.5'", "a whole number"]),
        ("batch=0", ["batch: got 0", "from 1"]),
        ("held_out=0.9", ["held_out: got 0.9", "to 0.5"]),
        ("flips=maybe", ["flips", "yes or no"]),
        ("prediction=eps", ["prediction", "v, x0, flow"]),
        ("unet.heads=2,x", ["unet.heads", "a whole number"]),
        ("unet.heads=2", ["heads", "2 numbers, one for each"]),
    ],
)
def test_a_wrong_setting_says_what_is_right(setting, said):
    configs = {"training": settings.LatentTraining(), "text": settings.TextConfig(), "unet": tiny.UNET}
    with refuses(*said):
        settings.changed(configs, [setting])


def test_usual_settings_change_nothing():
    for kind in own.KINDS:
        part = "unet" if kind == "latent" else "vae"
        assert any(one.startswith(part) for one in own.usual(kind)) and "lr=0.001" in own.usual(kind)
    configs = {"training": settings.LatentTraining(), "unet": own.plans.UNET_CONFIG, "text": settings.TextConfig()}
    assert settings.changed(configs, own.usual("latent")) == configs


# --- words


def test_every_word_of_the_captions_is_a_token_and_the_longest_fits():
    captions = ["a red house", "an old lighthouse, " + "very " * 30 + "tall"]
    tokenizer = words.tokenizer_for(captions)
    assert len(tokenizer.tokenize("lighthouse")) == 1 and len(tokenizer.tokenize("zebra")) == 5
    assert tokenizer.model_max_length == len(tokenizer(captions[1])["input_ids"])
    assert words.tokenizer_for(["a house"]).model_max_length == words.LEAST
    assert words.tokenizer_for(["tree " * 500]).model_max_length == words.MOST


def test_a_grown_tower_says_the_same_of_words_it_knew():
    before = tiny.text()
    captions = ["a large red circle beside a lighthouse", "a small blue ring"]
    after = words.grown(before, captions).eval()
    known = "a large red circle"
    assert [after.tokenizer.tokenize(word) for word in known.split()] == [
        before.tokenizer.tokenize(word) for word in known.split()
    ]
    a, b = before(known)[0, :6], after(known)[0, :6]  # start, four words, end: padding comes after and is not seen
    assert torch.allclose(a, b, atol=1e-5)
    assert len(after.tokenizer.tokenize("lighthouse")) == 1 < len(before.tokenizer.tokenize("lighthouse"))


# --- plans


def test_a_plan_fits_the_networks_to_one_another(folder, vae):
    plan = own.plan("latent", folder, vae=vae, settings=TINY)
    config = plan.model.unet.config
    assert (config.in_channels, config.out_channels, config.context_dim) == (4, 4, 16)
    assert set(plan.album.places) == {(32, 32), (24, 40)}
    assert plan.learns_words and all(p.requires_grad for p in plan.model.text.parameters())
    assert not any(p.requires_grad for p in plan.model.vae.parameters())
    again = own.plan("latent", folder, vae=vae, settings=TINY)
    assert all(torch.equal(a, b) for a, b in zip(plan.model.state_dict().values(), again.model.state_dict().values(),
                                                 strict=True))  # fmt: skip
    assert again.asked == plan.asked and json.dumps(plan.asked)
    words_of_held_out = own.plan("latent", folder, vae=vae, settings=[*TINY, "held_out=0.5"])
    said = " ".join(one.caption for one, held in zip(plan.album.pictures, words_of_held_out.album.held_out, strict=True)
                    if not held)  # fmt: skip
    assert all(len(words_of_held_out.model.text.tokenizer.tokenize(word)) == 1 for word in said.split())


def test_the_report_tells_how_well_the_autoencoder_knows_such_pictures(folder, vae):
    plan = own.plan("latent", folder, vae=vae, settings=TINY)
    album = plan.album
    square = [i for i, place in enumerate(album.places) if place == (32, 32)]
    album.pictures, album.places = [album.pictures[i] for i in square], [(32, 32)] * len(square)
    album.held_out = [False] * len(square)
    x = torch.stack([folders.fitted(one, 32, 32) for one in album.pictures]) / 127.5 - 1
    with torch.no_grad():
        coder = weights.load(vae)
        error = (coder.decode(coder.encode(x)[0]).clamp(-1, 1) - x).square().mean().item()
    wanted = 10 * torch.tensor(4 / error).log10().item()
    assert plan.psnr == pytest.approx(wanted, abs=1e-3)
    assert f"{wanted:.1f} dB" in plan.report() and f"minildm train vae --data {folder}" in plan.report()


@pytest.mark.parametrize(
    "kind, more, said",
    [
        ("pixel", {}, ["recipe", "latent, vae"]),
        ("vae", {"vae": "shapes/vae"}, ["vae", "--start"]),
        ("vae", {"start": "classifier"}, ["start", "classifier", "an autoencoder"]),
        ("vae", {"start": "shapes/vae", "settings": ["vae.latent_channels=8"]}, ["start", "latent_channels=8"]),
        ("latent", {"vae": "classifier"}, ["vae", "classifier", "an autoencoder"]),
        ("latent", {"clip": "shapes/vae"}, ["clip", "shapes/vae", "text tower"]),
        ("latent", {"start": "shapes/vae"}, ["start", "draws what a prompt says"]),
        ("latent", {"start": "shapes", "settings": ["unet.heads=2"]}, ["unet.heads", "start"]),
        ("latent", {"start": "shapes", "settings": ["text.width=64"]}, ["set", "text.width"]),
        ("latent", {"settings": ["unet.in_channels=3"]}, ["unet.in_channels: got 3", "4"]),
        ("latent", {"settings": ["size=36"]}, ["size: got 36", "multiple of 8"]),
    ],
)
def test_a_plan_that_cannot_be_is_refused(folder, kind, more, said):
    with refuses(*said):
        own.plan(kind, folder, **more | {"settings": ["size=32", *more.get("settings", [])]})


# --- a run


@pytest.mark.parametrize("kind", ["latent", "vae"])
def test_a_batch_in_parts_trains_the_same(kind, folder, vae, tmp_path):
    last = []
    for accumulate in (1, 3):
        more = ["flips=yes", "steps=3", "samples=0"]
        if kind == "latent":
            plan = own.plan(kind, folder, vae=vae, settings=[*TINY, *more], seed=3)
        else:
            plan = own.plan(kind, folder, start=vae, settings=["size=32", "batch=4", *more], seed=3)
        last.append(ran(plan, tmp_path / str(accumulate), accumulate=accumulate)[-1].loss)
    assert last[0] == pytest.approx(last[1], rel=1e-4)


def test_a_run_leaves_a_model_and_its_story(trained, folder, vae):
    names = {path.name for path in trained.iterdir()}
    assert {"run.json", "metrics.jsonl", "report.txt", "command.txt", "samples", "latents"} <= names
    assert (trained / "command.txt").read_text(encoding="utf-8") == "minildm train latent\n"
    asked = json.loads((trained / "run.json").read_text(encoding="utf-8"))
    assert asked["unet"]["block_out_channels"] == [8, 16] and asked["training"]["batch"] == 4
    assert asked["steps"] == 6 and asked["seed"] == 3 and asked["data"] == str(folder)
    told = lines(trained)
    assert told[-1]["step"] == 6 and all({"loss", "seen", "held_out", "seconds"} <= set(line) for line in told)
    sheets = sorted(path.name for path in (trained / "samples").glob("*.png"))
    assert sheets == ["step-000001.png", "step-000003.png", "step-000006.png"]
    rows = (trained / "samples" / "rows.txt").read_text(encoding="utf-8").splitlines()
    assert len(rows) == len(set(rows)) <= watching.ROWS and all("house" in row for row in rows)
    model = weights.load(trained)
    assert isinstance(model, LatentDiffusion) and model.size == 32
    assert len(model.text.tokenizer.tokenize("house")) == 1
    x = tasks.text2img(model, "a red house", steps=2, noise=torch.randn(1, 4, 8, 8))
    assert x.shape == (1, 3, 32, 32) and x.isfinite().all()


def test_a_sheet_shows_the_average_of_the_weights_from_the_same_noise(trained):
    model = weights.load(trained)
    plan = own.plan("latent", json.loads((trained / "run.json").read_text())["data"],
                    vae=str(trained / "vae"), settings=TINY)  # fmt: skip
    rows = (trained / "samples" / "rows.txt").read_text(encoding="utf-8").splitlines()
    x = watching.drawn(plan, model, rows)
    sheet = watching.show.to_image(x, watching.COLUMNS)
    with Image.open(trained / "samples" / "step-000006.png") as saved:
        assert saved.size == sheet.size and pngs.apart(saved, sheet) <= 1
        with Image.open(trained / "samples" / "step-000001.png") as first:
            assert pngs.apart(saved, first) > 1


@pytest.mark.slow
def test_the_same_run_gives_the_same_weights_interrupted_or_not(trained, folder, vae, tmp_path, monkeypatch):
    plan = functools.partial(own.plan, "latent", folder, vae=vae, settings=TINY)
    monkeypatch.setattr(recipes, "fit", functools.partial(train.fit, save_every=0))
    for now in own.train(plan(seed=3), tmp_path / "b"):
        if now.step == 4:
            break
    before = lines(tmp_path / "b")
    with (tmp_path / "b" / "metrics.jsonl").open("a", encoding="utf-8") as file:
        file.write('{"step": 5, "loss": 99.0}\n{"step": 6, "lo')  # of steps after the state that was saved
    with refuses("out", "--resume"):
        ran(plan(seed=3), tmp_path / "b")
    assert [now.step for now in own.train(plan(seed=3), tmp_path / "b", resume=True)] == [5, 6]
    assert weights.fingerprint(tmp_path / "b") == weights.fingerprint(trained)
    assert lines(tmp_path / "b")[: len(before)] == before
    assert [line["step"] for line in lines(tmp_path / "b")] == [1, 2, 3, 4, 5, 6]
    ran(plan(seed=4), tmp_path / "c")
    assert weights.fingerprint(tmp_path / "c") != weights.fingerprint(trained)


def test_another_run_does_not_go_on_in_a_folder(folder, vae, tmp_path, trained):
    with refuses("training, on resuming", "began"):
        ran(own.plan("latent", folder, vae=vae, settings=[*TINY, "lr=0.1"], seed=3), trained, resume=True)
    other = shutil.copytree(folder, tmp_path / "pictures")
    own_pictures.draw(70)[0].save(other / "000.png")
    with refuses("album, on resuming", "began"):
        ran(own.plan("latent", other, vae=vae, settings=TINY, seed=3), trained, resume=True)
    with refuses("out", "outside of"):
        ran(own.plan("latent", folder, vae=vae, settings=TINY), folder / "run")
    assert not (folder / "run").exists()


@pytest.mark.slow
def test_a_kill_while_caching_costs_a_file_of_latents_at_most(folder, vae, trained, tmp_path, monkeypatch):
    monkeypatch.setattr(own.latents, "SHARD", 4)
    plan = functools.partial(own.plan, "latent", folder, vae=vae, settings=TINY, seed=3)
    for count, _ in enumerate(own.encode(plan(), tmp_path / "b")):
        if count == 2:
            break
    shards = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "b" / "latents").iterdir()}
    assert len(shards) == 2
    ran(plan(), tmp_path / "b")
    after = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "b" / "latents").iterdir()}
    assert shards.items() <= after.items() and len(after) == 6
    shared = tmp_path / "shared"
    ran(plan(), tmp_path / "c", cache=shared)
    assert not (tmp_path / "c" / "latents").exists()
    assert list(own.encode(plan(), tmp_path / "d", cache=shared)) == [(20, 20)]


def test_training_never_sees_what_is_held_out(folder, vae):
    plan = own.plan("latent", folder, vae=vae, settings=[*TINY, "flips=yes"])
    batch = learning.batches(plan)
    generator = torch.Generator().manual_seed(0)
    seen, turned = set(), 0
    for step in range(60):
        numbers, shown = batch(step, generator)
        seen |= set(numbers)
        turned += sum(one.mirrored for one in shown)
        assert len({one.place for one in shown}) == 1
    assert seen == set(plan.album.numbers(False)) and not seen & set(plan.album.numbers(True))
    assert 80 < turned < 160  # of 240
    assert len(learning.entries(plan)) == 40
    parts = learning.looked_at(plan)
    assert set(parts["held_out"]) == set(plan.album.numbers(True)) and len(parts["seen"]) == len(parts["held_out"])


def test_the_figures_change_with_the_network_alone(folder, vae, tmp_path):
    plan = own.plan("latent", folder, vae=vae, settings=TINY)
    list(own.encode(plan, tmp_path))
    latents = own.Latents(tmp_path / "latents", plan.vae)
    list(latents.fill(learning.entries(plan)))
    run, figures = learning.latent_run(plan, latents)
    first = figures(run.model)
    torch.randn(5)
    assert figures(run.model) == first and run.check(run.model) == first["held_out"]
    with torch.no_grad():
        run.model.unet.conv_out.bias += 1
    changed = figures(run.model)
    assert all(changed[name] > first[name] + 0.5 for name in ("seen", "held_out"))
    values = torch.cat([latents([learning.wanted(plan, i)])[0].flatten() for i in plan.album.numbers(False)])
    assert plan.vae.config.scaling_factor == pytest.approx(1 / values.std().item(), rel=1e-4)


def test_a_frozen_tower_stays_as_it_is_and_answers_once(folder, vae, tmp_path, monkeypatch):
    model = weights.save(tiny.pipe(), tmp_path / "model")
    plan = own.plan("latent", folder, vae=vae, clip=str(model), settings=TINY[:-3])
    assert not plan.learns_words
    ran(plan, tmp_path / "out")
    for a, b in zip(weights.load(tmp_path / "out").text.parameters(), tiny.text().parameters(), strict=True):
        assert torch.equal(a, b)
    asked = []
    remembered = learning.Remembered(plan.model)
    monkeypatch.setattr(plan.model, "condition", lambda said: asked.append(said) or tiny_condition(plan.model, said))
    states = [remembered(["b", "a", "b"])["context"], remembered(["a"])["context"]]
    assert asked == [["a", "b"]] and torch.equal(states[0][1], states[1][0])
    monkeypatch.setattr(learning, "MEMORY", 0)
    assert torch.allclose(remembered(["b", "a", "b"])["context"], states[0], atol=1e-5) and len(asked) == 2


def test_captions_that_are_too_long_are_counted_once_and_not_warned_of(folder, vae, tmp_path):
    long = shutil.copytree(folder, tmp_path / "pictures")
    rows = [json.loads(line) for line in (long / "metadata.jsonl").read_text(encoding="utf-8").splitlines()]
    for row in rows[:7]:
        row["text"] += " and a house" * 30
    (long / "metadata.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    plan = own.plan("latent", long, vae=vae, settings=TINY)
    assert "captions  7 are longer than the text tower reads: 75 tokens" in plan.report()
    ran(plan, tmp_path / "out", steps=2)  # a warning would be an error here
    assert "text tower reads" not in own.plan("latent", folder, vae=vae, settings=TINY).report()


def tiny_condition(pipe, said):
    return {"context": pipe.text(list(said))}


def test_a_model_is_taught_further_with_its_own_words(folder, tmp_path):
    start = weights.save(tiny.pipe(), tmp_path / "start")
    plan = own.plan("latent", folder, start=str(start), settings=["size=32", "batch=4", "samples=0"])
    assert plan.model.prediction == "v" and plan.asked["training"]["prediction"] == "v" and plan.learns_words
    assert all(torch.equal(a, b) for a, b in zip(plan.model.unet.parameters(), tiny.pipe().unet.parameters(),
                                                 strict=True))  # fmt: skip
    factor = plan.vae.config.scaling_factor
    ran(plan, tmp_path / "out", steps=2)
    made = weights.load(tmp_path / "out")
    assert made.vae.config.scaling_factor == factor == tiny.VAE_CONFIG.scaling_factor
    assert len(made.text.tokenizer.tokenize("house")) == 1
    assert not (tmp_path / "out" / "samples").exists()


# --- an autoencoder


def test_an_autoencoder_learns_from_a_folder(folder, vae, tmp_path):
    plan = own.plan("vae", folder, start=vae, settings=["size=32", "batch=4", "lr=3e-3", "samples=1", "held_out=0.2"])
    ran(plan, tmp_path / "out", steps=40)
    told = lines(tmp_path / "out")
    assert all(told[-1][name] < 0.85 * told[0][name] for name in ("seen", "held_out"))
    made = weights.load(tmp_path / "out")
    assert isinstance(made, VAE) and made.config.scaling_factor != tiny.VAE_CONFIG.scaling_factor
    some = own.plan("latent", folder, vae=str(tmp_path / "out"), settings=TINY)
    assert some.psnr > own.plan("latent", folder, vae=vae, settings=TINY).psnr + 1
    with Image.open(tmp_path / "out" / "samples" / "step-000040.png") as sheet:
        wide = {40: 3, 32: 4}  # pixels for each of the picture's; two rows: pictures, and what comes back of them
        assert sheet.height in {2 * 24 * wide[40] + 4, 2 * 32 * wide[32] + 4}
    from_nothing = own.plan("vae", folder, settings=["size=32", "vae.latent_channels=6"])
    assert from_nothing.fresh and from_nothing.model.config.latent_channels == 6
    assert own.plan("vae", folder, start="none", settings=["size=32"]).fresh
    further = own.plan("vae", folder, settings=["size=32"])
    assert not further.fresh and torch.equal(further.model.post_quant_conv.weight,
                                             weights.load("shapes/vae").post_quant_conv.weight)  # fmt: skip


# --- TensorBoard


def test_without_tensorboard_the_error_says_what_to_install(folder, vae, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with refuses("--tensorboard", "pip install tensorboard"):
        ran(own.plan("latent", folder, vae=vae, settings=TINY), tmp_path / "out", tensorboard=True)
    assert not (tmp_path / "out").exists()


def test_tensorboard_gets_every_line_and_sheet(folder, vae, tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    ran(own.plan("latent", folder, vae=vae, settings=TINY), tmp_path / "out", tensorboard=True)
    events = EventAccumulator(str(tmp_path / "out" / "tensorboard"))
    events.Reload()
    told = lines(tmp_path / "out")
    for name in ("loss", "seen", "held_out"):
        assert [(e.step, e.value) for e in events.Scalars(name)] == [
            (line["step"], pytest.approx(line[name], rel=1e-5)) for line in told
        ]
    assert [e.step for e in events.Images("samples")] == [1, 3, 6]
