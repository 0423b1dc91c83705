"""Models to folders and back: nothing changes, nothing is half-loaded, and `diffusers` opens the folder too."""

import json
import os
import shutil
import stat
import warnings
from dataclasses import replace

import pytest
import tiny
import torch
from safetensors.torch import load_file, save_file

from minildm import configs, levels, runs, tasks, weights
from minildm.clip import MiniCLIP
from minildm.features import Classifier
from minildm.files import UserError, sha256
from minildm.pipe import LatentDiffusion
from minildm.unet import UNet, UNetConfig
from minildm.vae import VAE, FlatVAE, VAEConfig

UNET_FILE = "unet/diffusion_pytorch_model.safetensors"
PROMPT = "a large red circle on a white background"


def noise(n=2):
    return torch.randn(n, 4, 8, 8, generator=torch.Generator().manual_seed(0))


def refuses(*words):
    return pytest.raises(UserError, match="(?s)" + ".*".join(words))


@pytest.fixture(scope="module")
def pipe():
    return tiny.pipe()


@pytest.fixture
def saved(pipe, tmp_path):
    return weights.save(pipe, tmp_path / "model")


def edit(path, **changes):
    content = json.loads(path.read_text(encoding="utf-8")) | changes
    path.write_text(json.dumps(content), encoding="utf-8")


def same_state(a, b):
    one, other = a.state_dict(), b.state_dict()
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)


# --- round trips


def test_a_pipeline_comes_back_the_same(pipe, saved):
    back = weights.load(saved)
    same_state(pipe, back)
    for name in ("prediction", "spacing", "offset", "last", "size"):
        assert getattr(back, name) == getattr(pipe, name), name
    assert torch.equal(back.schedule.alpha, pipe.schedule.alpha)
    assert back.unet.config == pipe.unet.config and back.vae.config == pipe.vae.config
    assert not back.training and not any(p.requires_grad for p in back.parameters())
    made = [tasks.text2img(model, PROMPT, steps=3, noise=noise()) for model in (pipe, back)]
    assert torch.equal(*made)


def test_an_upscaler_comes_back_the_same_and_opens_in_diffusers(tmp_path):
    import diffusers

    pipe = tiny.pipe()
    torch.manual_seed(0)
    config = replace(tiny.UNET, in_channels=7, num_class_embeds=20, only_cross_attention=(False, True))
    pipe.unet, pipe.low = UNet(config), levels.scaled_linear()
    back = weights.load(weights.save(pipe, tmp_path))
    same_state(pipe, back)
    assert back.unet.config == config
    assert torch.equal(back.low.alpha, pipe.low.alpha) and not torch.equal(back.low.alpha, back.schedule.alpha)
    assert weights.unused(tmp_path) == []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it expects the published autoencoder's scale
        theirs = diffusers.StableDiffusionUpscalePipeline.from_pretrained(tmp_path, local_files_only=True)
    torch.testing.assert_close(theirs.low_res_scheduler.alphas_cumprod, (pipe.low.alpha**2).float())


def test_a_mini_clip_may_have_its_text_tower_in_another_folder(tmp_path):
    torch.manual_seed(0)
    clip = MiniCLIP(tiny.text(), dim=6, channels=8)
    weights.save(clip, tmp_path / "clip")
    (tmp_path / "other").mkdir()
    (tmp_path / "clip" / "text_encoder").rename(tmp_path / "other" / "text_encoder")
    edit(tmp_path / "clip" / "config.json", text_of="../other")
    back = weights.load(tmp_path / "clip")
    torch.testing.assert_close(back.prompts([PROMPT]), clip.eval().prompts([PROMPT]))
    whole = weights.fingerprint(tmp_path / "clip")
    file = tmp_path / "other" / "text_encoder" / "model.safetensors"
    save_file({name: tensor + 1 for name, tensor in load_file(file).items()}, file, {"format": "pt"})
    assert weights.fingerprint(tmp_path / "clip") != whole
    shutil.rmtree(tmp_path / "other")
    with pytest.raises(UserError, match="text_encoder"):
        weights.load(tmp_path / "clip")


@pytest.mark.parametrize("told", [True, False])
def test_a_model_of_pixels_comes_back_the_same(pipe, tmp_path, told):
    torch.manual_seed(0)
    config = replace(tiny.UNET, in_channels=3, out_channels=3, context_dim=16 if told else None)
    if not told:
        config = replace(config, transformer_layers=(0, 0), mid_layers=0)
    words = pipe.text if told else None
    model = LatentDiffusion(UNet(config), None, words, schedule=levels.linear(), prediction="eps", last="first")
    back = weights.load(weights.save(model, tmp_path))
    same_state(model, back)
    assert back.vae is None and (back.text is not None) == told
    assert (back.unet.config, back.last, back.spacing, back.size) == (config, "first", None, 32)


@pytest.mark.parametrize("kind", ["vae", "flat", "clip", "classifier"])
def test_each_part_comes_back_the_same(kind, tmp_path):
    torch.manual_seed(0)
    make = {
        "vae": lambda: VAE(tiny.VAE_CONFIG),
        "flat": lambda: FlatVAE((1, 8, 8), latent=3, hidden=16),
        "clip": lambda: MiniCLIP(tiny.text(), dim=8, channels=8),
        "classifier": lambda: Classifier(channels=1, answers=10, strides=(1, 1, 2), width=8, dim=5),
    }
    model = make[kind]()
    back = weights.load(weights.save(model, tmp_path))
    assert type(back) is type(model)
    same_state(model, back)
    if kind == "clip":
        torch.testing.assert_close(back.prompts(PROMPT), model.eval().prompts(PROMPT).detach(), rtol=0, atol=1e-6)


def test_half_precision_halves_the_file_and_loads_in_single(pipe, saved, tmp_path):
    half = weights.save(pipe, tmp_path / "half", torch.float16)
    sizes = [(folder / UNET_FILE).stat().st_size for folder in (saved, half)]
    assert 0.5 < sizes[1] / sizes[0] < 0.65  # the names take the same room in both
    back = weights.load(half)
    for (name, ours), theirs in zip(back.named_parameters(), pipe.parameters(), strict=True):
        assert ours.dtype == torch.float32, name
        assert torch.equal(ours, theirs.half().float()), name
    assert json.loads((half / "text_encoder" / "config.json").read_text(encoding="utf-8"))["dtype"] == "float32"


def test_saved_files_can_be_read_by_all(saved):
    for path in saved.rglob("*"):
        if path.is_file():
            assert path.stat().st_mode & stat.S_IRUSR, path
            assert stat.S_IMODE(path.stat().st_mode) & 0o111 == 0, path


def test_what_cannot_be_said_in_the_format_is_refused(pipe, tmp_path):
    with refuses("schedule"):
        weights.save(tiny.pipe(levels.scaled_linear(beta_end=0.013)), tmp_path / "a")
    with refuses("model", "Linear"):
        weights.save(torch.nn.Linear(1, 1), tmp_path / "b")
    assert not list(tmp_path.iterdir())


# --- the strict loader


def test_the_strict_loader_lists_all_that_is_wrong_in_one_error(saved):
    path = saved / UNET_FILE
    tensors = load_file(path)
    tensors["conv_in.weight"] = tensors["conv_in.weight"][:, :3].contiguous()
    tensors["mid_block.extra.weight"] = torch.zeros(2)
    del tensors["conv_out.bias"], tensors["time_embedding.linear_1.bias"]
    save_file(tensors, path)
    with refuses("unet") as caught:
        weights.load(saved)
    for part in (
        "missing conv_out.bias",
        "missing time_embedding.linear_1.bias",
        "unknown mid_block.extra.weight",
        "conv_in.weight of shape (8, 3, 3, 3) instead of (8, 4, 3, 3)",
    ):
        assert part in str(caught.value)


WEIGHT_FILES = (UNET_FILE, UNET_FILE.replace("unet", "vae"), "text_encoder/model.safetensors")


@pytest.mark.parametrize("name", WEIGHT_FILES)
def test_truncated_foreign_and_absent_weights_are_named(saved, name):
    path = saved / name
    whole = path.read_bytes()
    for content in (whole[: len(whole) // 2], whole[:4], b"not weights at all, but long enough to look", b""):
        path.write_bytes(content)
        with refuses("weights", path.name, "a whole .safetensors file"):
            weights.load(saved)
    path.unlink()
    with refuses("weights", path.name, "no such file"):
        weights.load(saved)


@pytest.mark.parametrize(
    "name", ["unet/config.json", "vae/config.json", "text_encoder/config.json", "scheduler/scheduler_config.json"]
)
def test_broken_absent_and_emptied_configs_are_refused(saved, name):
    path = saved / name
    path.write_text("{", encoding="utf-8")
    with refuses("config", path.name, "valid JSON"):
        weights.load(saved)
    path.write_text("{}", encoding="utf-8")
    with pytest.raises(UserError) as caught:
        weights.load(saved)
    assert "\n" not in str(caught.value)
    path.unlink()
    with refuses("config", path.name, "no such file"):
        weights.load(saved)


def test_a_tokenizer_must_be_there_and_whole(saved):
    path = saved / "tokenizer" / "tokenizer.json"
    path.write_text('{"model": 3}', encoding="utf-8")
    with refuses("model"):
        weights.load(saved)
    path.unlink()
    with refuses("tokenizer", "no such files", "vocab.json and merges.txt, or tokenizer.json"):
        weights.load(saved)


def test_weights_of_another_model_are_refused(saved, tmp_path):
    torch.manual_seed(0)
    other = UNet(replace(tiny.UNET, block_out_channels=(12, 16)))
    save_file(other.state_dict(), saved / UNET_FILE)
    with refuses("conv_in.weight of shape", "instead of"):
        weights.load(saved)


def test_folders_that_are_no_model_are_refused(tmp_path):
    with refuses("model", "nowhere", "a folder"):
        weights.load(tmp_path / "nowhere")
    with refuses("config", "config.json", "no such file"):
        weights.load(tmp_path)
    (tmp_path / "config.json").write_text('{"_class_name": "T2IAdapter"}', encoding="utf-8")
    with refuses("_class_name", "T2IAdapter", "AutoencoderKL"):
        weights.load(tmp_path)


# --- shipped models


@pytest.fixture
def shipped(saved, monkeypatch):
    hashes = {path.relative_to(saved).as_posix(): sha256(path) for path in saved.rglob("*") if path.is_file()}
    (saved.parent / "manifest.json").write_text(json.dumps({"models": {"model": {"sha256": hashes}}}), encoding="utf-8")
    monkeypatch.setattr(weights.places, "SHIPPED", saved.parent)
    return saved


def test_a_shipped_model_is_found_by_name_and_so_are_its_parts(shipped, pipe):
    assert weights.shipped() == ["model"]
    same_state(weights.load("model"), pipe)
    same_state(weights.load("model/vae"), pipe.vae)
    with refuses("model", "'shapes'", "one of model"):
        weights.load("shapes")


@pytest.mark.parametrize("name", [UNET_FILE, "vae/config.json", "tokenizer/tokenizer.json"])
def test_an_altered_file_of_a_shipped_model_is_named(shipped, name):
    path = shipped / name
    path.write_bytes(path.read_bytes() + b" ")
    with refuses(name, "altered"):
        weights.load("model")
    path.unlink()
    with refuses(name, "altered or missing"):
        weights.load("model")


def test_the_fingerprint_is_of_the_weights_alone(saved):
    before = weights.fingerprint(saved)
    assert len(before) == 12 and int(before, 16) >= 0
    edit(saved / "vae" / "config.json", _note="hello")
    assert weights.fingerprint(saved) == before
    tensors = load_file(saved / UNET_FILE)
    tensors["conv_out.bias"] += 1e-6
    save_file(tensors, saved / UNET_FILE)
    assert weights.fingerprint(saved) != before


def test_the_fingerprint_covers_the_parts_that_a_model_shares(saved, tmp_path):
    child = tmp_path / "child"
    shutil.copytree(saved, child)
    for part in ("vae", "text_encoder", "tokenizer"):
        shutil.rmtree(child / part)
    edit(child / "model_index.json", parts_of=os.path.relpath(saved, child))
    before = weights.fingerprint(child)
    tensors = load_file(saved / "vae" / "diffusion_pytorch_model.safetensors")
    tensors["decoder.conv_out.bias"] += 1e-6
    save_file(tensors, saved / "vae" / "diffusion_pytorch_model.safetensors")
    assert weights.fingerprint(child) != before


# --- configurations


@pytest.fixture(scope="module")
def published(request):
    path = request.path.parent / "fixtures" / "sd15_configs.json"
    return json.loads(path.read_text(encoding="utf-8"))


def test_published_configs_are_our_defaults(published):
    assert configs.unet_from_hf(published["unet"]) == UNetConfig()
    assert configs.vae_from_hf(published["vae"]) == VAEConfig()
    ours = configs.scheduler_from_hf(published["scheduler"])
    assert torch.equal(ours.pop("schedule").alpha, levels.scaled_linear().alpha)
    assert ours == {"prediction": "eps", "spacing": None, "offset": 1, "last": "first", "karras": False}


@pytest.mark.parametrize(
    "config", [UNetConfig(), tiny.UNET, runs.LATENT_CONFIG, replace(UNetConfig(), linear_projection=True)]
)
def test_unet_configs_survive_the_format(config):
    assert configs.unet_from_hf(json.loads(json.dumps(configs.unet_to_hf(config, 8)))) == config


@pytest.mark.parametrize("config", [VAEConfig(), tiny.VAE_CONFIG, runs.VAE_CONFIG])
def test_vae_configs_survive_the_format(config):
    assert configs.vae_from_hf(json.loads(json.dumps(configs.vae_to_hf(config, 32)))) == config


@pytest.mark.parametrize("kind", ["scaled_linear", "linear", "squaredcos_cap_v2"])
@pytest.mark.parametrize("prediction", ["eps", "v", "x0"])
def test_scheduler_configs_survive_the_format(kind, prediction):
    table = configs.BETAS[kind]()
    for schedule in (table, levels.zero_terminal_snr(table)):
        for spacing, offset, last, karras in ((None, 1, "first", False), ("trailing", 0, "clean", True)):
            config = configs.scheduler_to_hf(schedule, prediction, spacing, offset, last, karras)
            back = configs.scheduler_from_hf(json.loads(json.dumps(config)))
            assert torch.equal(back.pop("schedule").alpha, schedule.alpha)
            told = {"prediction": prediction, "spacing": spacing, "offset": offset, "last": last, "karras": karras}
            assert back == told


@pytest.mark.parametrize(
    "part, changes",
    [
        ("unet", {"class_embed_type": "timestep"}),
        ("unet", {"addition_embed_type": "text_time"}),
        ("unet", {"act_fn": "gelu"}),
        ("unet", {"norm_eps": 1e-6}),
        ("unet", {"a_feature_of_tomorrow": 3}),
        ("unet", {"down_block_types": ["DownBlock2D"] * 3 + ["AttnDownBlock2D"]}),
        ("unet", {"up_block_types": ["CrossAttnUpBlock2D"] * 4}),
        ("unet", {"up_block_types": ["UpBlock2D"]}),
        ("vae", {"use_quant_conv": False}),
        ("vae", {"shift_factor": 0.1}),
        ("vae", {"down_block_types": ["AttnDownEncoderBlock2D"] * 4}),
        ("scheduler", {"clip_sample": True}),
        ("scheduler", {"thresholding": True}),
        ("scheduler", {"beta_schedule": "sigmoid"}),
        ("scheduler", {"prediction_type": "flow"}),
        ("scheduler", {"num_train_timesteps": 100}),
    ],
)
def test_features_that_are_not_built_are_refused_by_name(published, part, changes):
    read = {"unet": configs.unet_from_hf, "vae": configs.vae_from_hf, "scheduler": configs.scheduler_from_hf}[part]
    (name, value), *_ = changes.items()
    with pytest.raises(UserError) as caught:
        read(published[part] | changes)
    assert f"{part} config" in str(caught.value)
    assert name in str(caught.value)
    assert str(value).strip("[]")[:20] in str(caught.value).replace('"', "'")


# --- the folder in diffusers


@pytest.mark.parametrize(
    "schedule, prediction, spacing",
    [(levels.cosine, "v", "trailing"), (levels.scaled_linear, "eps", None), (levels.scaled_linear, "v", "leading")],
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_diffusers_opens_the_folder_and_draws_the_same(tmp_path, schedule, prediction, spacing, dtype):
    import diffusers

    weights.save(tiny.pipe(schedule(), prediction, spacing), tmp_path, dtype)
    ours = weights.load(tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what it says of itself is not our concern
        theirs = diffusers.StableDiffusionPipeline.from_pretrained(tmp_path, local_files_only=True)
        theirs.set_progress_bar_config(disable=True)
        options = {"num_inference_steps": 5, "guidance_scale": 3.0, "height": 32, "width": 32, "output_type": "pt"}
        drawn = theirs([PROMPT] * 2, latents=noise(), **options).images
    assert isinstance(theirs.unet, diffusers.UNet2DConditionModel) and theirs.safety_checker is None
    made = tasks.text2img(ours, PROMPT, steps=5, scale=3.0, noise=noise())
    plain = tasks.text2img(ours, PROMPT, steps=5, scale=1.0, noise=noise())
    assert (made - plain).abs().max() > 1e-3  # else guidance would not be tested
    assert made.std() > 0.05
    assert (drawn * 2 - 1 - made).abs().max() < 1e-4
