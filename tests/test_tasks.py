"""Pictures from prompts, on a small random model: what must hold whatever the weights are."""

import math

import published
import pytest
import tiny
import torch

from minildm import levels, tasks
from minildm.files import UserError
from minildm.pipe import LatentDiffusion
from minildm.sample import SAMPLERS
from minildm.text import Text, train_tokenizer
from minildm.unet import UNet, UNetConfig
from minildm.vae import VAE, VAEConfig


@pytest.fixture(scope="module")
def pipe():
    torch.manual_seed(0)
    text = Text.tiny(train_tokenizer(["a red circle on white", "a blue ring"], length=12), width=8, layers=1, heads=2)
    unet = UNet(UNetConfig(block_out_channels=(8, 16), layers_per_block=1, transformer_layers=(0, 1), heads=(2, 2),
                           context_dim=8, norm_num_groups=4))  # fmt: skip
    for block in unet.up_blocks:  # small random networks hardly look at the prompt: make this one
        for attention in block.attentions or []:
            attention.transformer_blocks[0].attn2.to_out[0].weight.data *= 20
    vae = VAE(VAEConfig(block_out_channels=(8, 8, 8), layers_per_block=1, norm_num_groups=4, scaling_factor=1.3))
    parts = {"schedule": levels.cosine(), "prediction": "v", "spacing": "trailing"}
    return LatentDiffusion(unet, vae, text, **parts).eval().requires_grad_(False)


def noise(count=2, height=8, width=8):
    return torch.randn(count, 4, height, width, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_every_sampler_makes_pictures(pipe, sampler):
    """On a published table, whose noisiest row holds a trace of the picture: there all of them work."""
    parts = {"schedule": levels.scaled_linear(), "prediction": "v", "spacing": "leading", "offset": 1}
    pipe = LatentDiffusion(pipe.unet, pipe.vae, pipe.text, **parts).eval()
    made = tasks.text2img(pipe, "a red circle", sampler=sampler, noise=noise(), steps=4,
                          generator=torch.Generator().manual_seed(1))  # fmt: skip
    assert made.shape == (2, 3, 32, 32) and made.abs().max() <= 1 and made.isfinite().all()


@pytest.mark.parametrize("sampler", [name for name in SAMPLERS if name != "pndm"])
def test_and_from_pure_noise(pipe, sampler):
    made = tasks.text2img(pipe, "a red circle", sampler=sampler, noise=noise(), steps=4,
                          generator=torch.Generator().manual_seed(1))  # fmt: skip
    assert made.shape == (2, 3, 32, 32) and made.abs().max() <= 1 and made.isfinite().all()


@pytest.mark.parametrize("schedule", [levels.cosine(), levels.flow(), levels.zero_terminal_snr(levels.scaled_linear())])
def test_rows_that_begin_in_pure_noise(pipe, schedule):
    """Heun stays in the frame of x there, where its steps are of the size of x; pndm has nothing to go on from."""
    parts = {"schedule": schedule, "prediction": "v", "spacing": "trailing"}
    pipe = LatentDiffusion(pipe.unet, pipe.vae, pipe.text, **parts).eval()
    film = list(tasks.states(pipe, "a red circle", sampler="heun", noise=noise(), steps=6))
    assert max(x.abs().max() for x in film) < 20
    with pytest.raises(UserError, match="pndm"):
        tasks.states(pipe, "a red circle", sampler="pndm", noise=noise(), steps=6)


def test_the_film_starts_at_the_noise_and_ends_at_the_picture(pipe):
    for sampler in ("ddim", "heun"):
        film = list(tasks.states(pipe, "a red circle", sampler=sampler, noise=noise(), steps=4))
        assert len(film) == 5 and torch.equal(film[0], noise())
        last = tasks.text2img(pipe, "a red circle", sampler=sampler, noise=noise(), steps=4)
        assert torch.equal(pipe.decode(film[-1]), last)


def test_guidance_is_the_formula(pipe):
    """One step from pure noise: x0 at scale w is uncond + w (cond - uncond) of the two plain answers."""
    def one(prompt, scale, negative=None):
        return list(tasks.states(pipe, prompt, negative, steps=1, scale=scale, noise=noise()))[-1]

    cond, uncond, other = one("a red circle", 1), one("", 1), one("a blue ring", 1)
    assert (cond - uncond).abs().max() > 1e-3
    torch.testing.assert_close(one("a red circle", 3.0), uncond + 3 * (cond - uncond), atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(one("a red circle", 0), uncond, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(one("a red circle", 2, "a blue ring"), other + 2 * (cond - other), atol=1e-4, rtol=1e-4)


def test_sizes_seeds_and_lists(pipe):
    wide = tasks.text2img(pipe, "a red circle", steps=2, height=32, width=48, generator=torch.Generator())
    assert wide.shape == (1, 3, 32, 48)
    both = tasks.text2img(pipe, ["a red circle", "a blue ring"], steps=2, noise=noise())
    first = tasks.text2img(pipe, "a red circle", steps=2, noise=noise()[:1])
    torch.testing.assert_close(both[:1], first, atol=1e-5, rtol=1e-5)
    again = [tasks.text2img(pipe, "", steps=2, generator=torch.Generator().manual_seed(s)) for s in (3, 3, 4)]
    assert torch.equal(again[0], again[1]) and not torch.equal(again[0], again[2])


def test_latents_scale_there_and_back(pipe):
    x = torch.rand(2, 3, 32, 32) * 2 - 1
    torch.testing.assert_close(pipe.encode(x), pipe.vae.encode(x)[0] * 1.3)
    torch.testing.assert_close(pipe.decode(pipe.encode(x)), pipe.vae.decode(pipe.vae.encode(x)[0]).clamp(-1, 1))


@pytest.mark.parametrize(("wrong", "named"), [
    ({"prompt": 3}, "prompt"), ({"prompt": []}, "prompt"), ({"prompt": ["a", None]}, "prompt"),
    ({"steps": 0}, "steps"), ({"steps": 2000}, "steps"), ({"steps": 2.5}, "steps"),
    ({"scale": "high"}, "scale"), ({"scale": math.nan}, "scale"), ({"sampler": "magic"}, "sampler"),
    ({"height": 30}, "height"), ({"noise": torch.zeros(1, 3, 8, 8)}, "noise"),
    ({"prompt": ["a", "b", "c"], "noise": torch.zeros(2, 4, 8, 8)}, "prompts"),
])  # fmt: skip
def test_wrong_arguments_are_named_before_anything_is_drawn(pipe, wrong, named):
    with pytest.raises(UserError, match=f"^{named}"):
        tasks.text2img(pipe, **({"prompt": "a red circle"} | wrong))


def test_a_pixel_model_without_prompts():
    torch.manual_seed(0)
    unet = UNet(UNetConfig(in_channels=3, out_channels=3, block_out_channels=(8, 8), layers_per_block=1,
                           transformer_layers=(0, 0), heads=(1, 1), context_dim=None, norm_num_groups=4))  # fmt: skip
    pipe = LatentDiffusion(unet, schedule=levels.linear(), prediction="eps", size=16)
    made = tasks.text2img(pipe, steps=3, generator=torch.Generator())
    assert made.shape == (1, 3, 16, 16) and made.abs().max() <= 1


def test_an_offloaded_model_draws_the_same_and_each_part_comes_and_goes(monkeypatch):
    """Moves are watched on the CPU: each part goes to work once for its own stage, and home again."""
    moves = []
    model = tiny.pipe()
    before = tasks.text2img(model, "a red circle", steps=3, noise=torch.ones(1, 4, 8, 8))
    names = {id(model.text): "text", id(model.unet): "unet", id(model.vae): "vae"}
    real = torch.nn.Module.to
    model.offload("cpu")

    def to(self, *args, **kw):
        moves.append((names[id(self)], str(args[0])))
        return real(self, *args, **kw)

    for part in (model.text, model.unet, model.vae):
        monkeypatch.setattr(part, "to", to.__get__(part), raising=False)
    after = tasks.text2img(model, "a red circle", steps=3, noise=torch.ones(1, 4, 8, 8))
    torch.testing.assert_close(after, before)
    assert [name for name, _ in moves] == ["text"] * 4 + ["unet"] * 2 + ["vae"] * 2  # the prompt and the empty text


def test_zeros_for_the_empty_text_are_the_same_without_reading_it(monkeypatch):
    """SDXL's rule: nothing is said by zeros of the shapes that the towers would give, and they are not run."""
    for style in ("sdxl", "sd15"):  # with and without the pooled state and the sizes
        pipe = published.pipe(style)
        pipe.zeros_for_empty = True
        said = pipe.condition(["", ""], 64, 96)
        wanted = {"context": torch.zeros_like(said["context"])}
        if style == "sdxl":
            wanted["added"] = said["added"].clone()
            wanted["added"][:, :24] = 0
        with monkeypatch.context() as patch:
            patch.setattr(pipe.text, "both", None)
            torch.testing.assert_close(pipe.uncondition(2, 64, 96), wanted, atol=0, rtol=0)
    pipe.zeros_for_empty = False
    torch.testing.assert_close(pipe.uncondition(2), pipe.condition(["", ""]), atol=0, rtol=0)
