"""The published layouts: whole single files and folders, at full size by name and shape, in small by value."""

import json
import warnings

import published
import pytest
import torch

from minildm import original, tasks, weights
from minildm.files import UserError
from minildm.text import TextPair
from minildm.unet import UNet
from minildm.vae import VAE
from minildm.weights import single, towers

CONFIGS = published.facts("published_configs")
each_style = pytest.mark.parametrize("style", published.STYLES)


@pytest.fixture(scope="module")
def toys(tmp_path_factory):
    """Each style once: the model, its folder, its single file."""
    made = {}
    for style in published.STYLES:
        folder = tmp_path_factory.mktemp(style)
        pipe = published.pipe(style)
        weights.save(pipe, folder / "folder", torch.float64)
        made[style] = pipe, folder / "folder", published.save_single(pipe, style, folder / "single.safetensors")
    return made


def config_folder(model, folder):
    """The published configuration files of a model as they lie in its folder."""
    for part, content in CONFIGS[model].items():
        path = {"model_index": "model_index.json", "scheduler": "scheduler/scheduler_config.json"}
        path = folder / path.get(part, f"{part}/config.json")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(content), encoding="utf-8")
    return folder


def meta(shapes):
    return {name: torch.empty(shape, device="meta") for name, shape in shapes.items()}


# --- at full size


@each_style
def test_shapes_and_family_say_what_the_published_configs_say(style, tmp_path):
    parts = original.parts(meta(published.facts("published_keys")["files"][published.STYLES[style]]))
    told = single.plan_from_shapes(parts, style)
    read = single.plan_from_folder(config_folder(style, tmp_path))
    assert told.unet == read.unet
    assert told.vae == read.vae
    assert told.wide_vae == read.wide_vae == (style == "sdxl")
    for mine, theirs in zip(told.texts, read.texts, strict=True):
        for name in ("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads",
                     "max_position_embeddings", "hidden_act", "layer_norm_eps"):  # fmt: skip
            assert getattr(mine, name) == getattr(theirs, name), name
    assert torch.equal(told.about.pop("schedule").alpha, read.about.pop("schedule").alpha)
    assert told.about | {"karras": False, "low": None} == read.about


@pytest.mark.parametrize("model", ["sd15", "sd15_inpaint", "sd21", "sdxl"])
def test_networks_of_the_published_configs_have_the_published_names_and_shapes(model, tmp_path):
    facts = published.facts("published_keys")["folders"]
    with torch.device("meta"):
        unet = UNet(single.configs.unet_from_hf(CONFIGS[model]["unet"]))
        vae = VAE(single.configs.vae_from_hf(CONFIGS[model.removesuffix("_inpaint")]["vae"]))
    wanted = dict(facts["sd15.unet" if "sd15" in model else f"{model}.unet"])
    if model == "sd15_inpaint":
        wanted["conv_in.weight"] = [320, 9, 3, 3]
    assert {name: list(t.shape) for name, t in unet.state_dict().items()} == wanted
    assert {name: list(t.shape) for name, t in vae.state_dict().items()} == facts["sd15.vae"]


@pytest.mark.parametrize("model, part", [
    ("sd15", "text_encoder"), ("sd21", "text_encoder"), ("sdxl", "text_encoder"), ("sdxl", "text_encoder_2"),
])  # fmt: skip
def test_text_towers_of_the_published_configs_have_the_published_names_and_shapes(model, part):
    from transformers import CLIPTextConfig, CLIPTextModel

    config = CLIPTextConfig.from_dict(CONFIGS[model][part])
    with torch.device("meta"):
        shapes = {f"text_model.{name}": list(t.shape) for name, t in CLIPTextModel(config).state_dict().items()}
    if part == "text_encoder_2":
        shapes["text_projection.weight"] = [config.projection_dim, config.hidden_size]
    wanted = dict(published.facts("published_keys")["folders"][f"{model}.{part}"])
    wanted.pop("text_model.embeddings.position_ids", None)
    assert shapes == wanted


# --- in small


@each_style
def test_a_single_file_and_its_folder_are_the_same_model(toys, style):
    pipe, folder, file = toys[style]
    one = weights.load(folder, dtype=torch.float64).state_dict()
    other = weights.load(file, dtype=torch.float64, config=folder).state_dict()
    whole = pipe.state_dict()
    assert one.keys() == other.keys() == whole.keys()
    assert all(torch.equal(one[name], other[name]) and torch.equal(one[name], t) for name, t in whole.items())


@each_style
def test_all_that_a_config_says_comes_back(toys, style):
    pipe, folder, _ = toys[style]
    back = weights.load(folder)
    for name in ("prediction", "spacing", "offset", "last", "karras", "zeros_for_empty", "size"):
        assert getattr(back, name) == getattr(pipe, name), name
    assert back.unet.config == pipe.unet.config and back.vae.config == pipe.vae.config
    assert isinstance(back.text, TextPair) == (style == "sdxl")


@each_style
def test_pictures_are_of_the_reference_pipeline(toys, style):
    """Float64, from the same noise, not square, with a negative prompt and with the model's own rule."""
    import diffusers

    pipe, folder, _ = toys[style]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        name = "StableDiffusionXLPipeline" if style == "sdxl" else "StableDiffusionPipeline"
        reference = getattr(diffusers, name).from_pretrained(folder, torch_dtype=torch.float64)
        reference.set_progress_bar_config(disable=True)
        scheduler = reference.scheduler
        for table in ("alphas_cumprod", "final_alpha_cumprod"):
            setattr(scheduler, table, getattr(scheduler, table).double())
        noise = torch.randn(2, 4, 8, 12, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
        prompt = [published.PROMPTS[0], "the sea"]
        for negative in (None, "a cross"):
            theirs = reference(
                prompt, negative_prompt=negative and [negative] * 2, num_inference_steps=4, guidance_scale=5.0,
                latents=noise, output_type="pt", height=64, width=96,
            ).images  # fmt: skip
            ours = tasks.text2img(pipe, prompt, negative, 4, 5.0, "ddim", noise)
            # the reference brings its picture to 0..1
            torch.testing.assert_close(ours / 2 + 0.5, theirs.clamp(0, 1), atol=1e-10, rtol=0)


def test_ddpm_ends_clean_on_published_rows(toys):
    """As the reference's does, whatever `set_alpha_to_one` says: that is for ddim and pndm."""
    import diffusers
    from diffusers.schedulers import scheduling_ddpm
    from parity.test_schedulers import widened

    pipe, folder, _ = toys["sd15"]
    assert pipe.last == "first"
    noise = torch.randn(2, 4, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    with warnings.catch_warnings(), widened(scheduling_ddpm):
        warnings.simplefilter("ignore")
        reference = diffusers.StableDiffusionPipeline.from_pretrained(folder, torch_dtype=torch.float64)
        reference.set_progress_bar_config(disable=True)
        reference.scheduler = diffusers.DDPMScheduler.from_config(reference.scheduler.config)
        reference.scheduler.alphas_cumprod = reference.scheduler.alphas_cumprod.double()
        theirs = reference(
            ["the sea"] * 2, num_inference_steps=4, guidance_scale=5.0, latents=noise, output_type="pt",
            generator=torch.Generator().manual_seed(3),
        ).images  # fmt: skip
    seeded = torch.Generator().manual_seed(3)
    ours = tasks.text2img(pipe, "the sea", None, 4, 5.0, "ddpm", noise, seeded)
    # the last step of the reference has noise of 1e-10, and the decoder makes it larger
    torch.testing.assert_close(ours / 2 + 0.5, theirs.clamp(0, 1), atol=1e-8, rtol=0)


@pytest.mark.parametrize("style", ["sd15", "sdxl"])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_keeps_wide_what_overflows(toys, style, dtype):
    """SDXL's autoencoder stays in float32 (its config says so), and pictures come near those in float32."""
    pipe, folder, _ = toys[style]
    config = json.loads((folder / "vae" / "config.json").read_text(encoding="utf-8"))
    path = folder / "vae" / "config.json"
    path.write_text(json.dumps(config | {"force_upcast": style == "sdxl"}), encoding="utf-8")
    half = weights.load(folder, dtype=dtype)
    assert half.dtype == dtype and half.vae_dtype == (torch.float32 if style == "sdxl" else dtype)
    noise = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    picture = tasks.text2img(half, "the sea", None, 4, 5.0, "ddim", noise)
    exact = tasks.text2img(pipe, "the sea", None, 4, 5.0, "ddim", noise)
    assert picture.isfinite().all() and (picture - exact).abs().mean() < 0.05


def test_an_inpainting_model_loads_and_does_not_draw_from_a_prompt_alone(tmp_path):
    weights.save(published.pipe("sd15", channels=9), tmp_path)
    pipe = weights.load(tmp_path)
    assert pipe.unet.config.in_channels == 9 and pipe.latent_shape() == (4, 8, 8)
    with pytest.raises(UserError, match="a U-Net of 9 channels"):
        tasks.text2img(pipe, "the sea")


# --- words


@pytest.fixture(scope="module")
def vocabulary(tmp_path_factory):
    pytest.importorskip("open_clip")
    return published.write_vocabulary(tmp_path_factory.mktemp("words"))


def words(vocabulary, folder, model="sd15"):
    for name in ("vocab.json", "merges.txt"):
        (folder / name).write_bytes((vocabulary / name).read_bytes())
    for name in ("tokenizer_config", "special_tokens_map"):
        (folder / f"{name}.json").write_text(json.dumps(CONFIGS[model][name]), encoding="utf-8")
    return towers.load_tokenizer(folder)


def test_ids_are_the_reference_s(vocabulary, tmp_path):
    """On every prompt that needs no repair of its characters (ftfy) and no unescaping of HTML."""
    tokenizer, pad = words(vocabulary, tmp_path)
    assert (len(tokenizer), tokenizer.model_max_length, pad) == (49408, 77, 49407)
    rows = [row for row in published.facts("clip_ids")["rows"] if row["plain_ok"]]
    assert len(rows) > 130
    text = published.tower(tokenizer, 1, "quick_gelu")
    for row in rows:
        wanted = [49406, *row["ids"]][:76] + [49407]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # some are too long
            assert text.ids(row["text"])[0].tolist() == wanted + [49407] * (77 - len(wanted)), row["text"]


def test_ids_are_open_clip_s_with_padding_by_zero(vocabulary, tmp_path):
    """SD 2.x pads by 0, which is "!": the one in a prompt must still be a word."""
    import open_clip

    tokenizer, pad = words(vocabulary, tmp_path, "sd21")
    assert pad == 0
    text = published.tower(tokenizer, 1, "gelu", pad)
    prompts = ["a cat!", "!!!", "", "a photo of an astronaut riding a horse on mars, 4k"]
    assert text.ids(prompts).tolist() == open_clip.tokenize(prompts).tolist()
