"""ControlNet against diffusers' with the same random weights, in float64: the network, its folder, the pipelines."""

import warnings
from dataclasses import replace

import diffusers
import published
import pytest
import torch
from diffusers import ControlNetModel, UNet2DConditionModel
from published import randomise

from minildm import tasks, weights
from minildm.configs import unet_to_hf
from minildm.control import ControlNet, Hint
from minildm.unet import SINUSOIDS, UNet, UNetConfig
from minildm.weights.controls import control_to_hf

ATOL = 1e-10
# SD 1.5 in small, with a level of two transformer blocks and a last level without any
UNET = UNetConfig(
    block_out_channels=(32, 64, 64), transformer_layers=(1, 2, 0), mid_layers=2, heads=(4, 2, 2), context_dim=24,
    norm_num_groups=8,
)  # fmt: skip
SHAPES = {
    "sd1": UNET,
    "sd2": replace(UNET, linear_projection=True, heads=(1, 2, 4)),
    "sdxl": replace(UNET, linear_projection=True, transformer_layers=(0, 2, 2), added_dim=6 + 6 * SINUSOIDS),
    "labels": replace(UNET, num_class_embeds=10),
}


def random(*shape):
    return torch.randn(shape, dtype=torch.float64)


def pixels(*shape):
    """A map in 0..1, of numbers that float32 holds exactly: the reference pipelines pass it through float32."""
    return torch.randint(0, 257, shape).double() / 256


def nets(config, channels=3, embedding=(4, 8, 12)):
    """A U-Net and a ControlNet with random weights, zero convolutions too, and the reference's of the same."""
    torch.manual_seed(0)
    unet = randomise(UNet(config))
    control = randomise(ControlNet.from_unet(unet, channels, embedding))
    theirs = UNet2DConditionModel.from_config(unet_to_hf(config, 8)).double()
    theirs.load_state_dict(unet.state_dict(), strict=True)
    other = ControlNetModel.from_config(control_to_hf(control.config)).double()
    other.load_state_dict(control.state_dict(), strict=True)
    return unet, control, theirs.eval(), other.eval()


@pytest.mark.parametrize("size", [(12, 20), (14, 19)], ids=["even", "odd"])
@pytest.mark.parametrize("shape", SHAPES)
@torch.no_grad()
def test_network(shape, size):
    unet, control, their_unet, theirs = nets(SHAPES[shape], channels=5)
    x, t, context = random(2, 4, *size), torch.tensor([3, 981]), random(2, 7, 24)
    hint = torch.rand(2, 5, 4 * size[0], 4 * size[1], dtype=torch.float64)
    told, asked = {}, {}
    if shape == "sdxl":
        sizes = torch.tensor([[64, 96, 0, 8, 64, 96], [32, 32, 0, 0, 64, 64]])
        asked = {"added_cond_kwargs": {"text_embeds": random(2, 6), "time_ids": sizes}}
        sines = their_unet.add_time_proj(sizes.flatten()).view(2, -1).double()
        told = {"added": torch.cat([asked["added_cond_kwargs"]["text_embeds"], sines], -1)}
    if shape == "labels":
        told = {"label": torch.tensor([0, 9])}
        asked = {"class_labels": told["label"]}
    mine = control(x, t, context, hint, **told)
    down, mid = theirs(x, t, context, hint, return_dict=False, **asked)
    assert len(mine) == len(down) + 1
    for ours, other in zip(mine, [*down, mid], strict=True):
        assert other.std() > 1e-3  # or nothing would be compared
        torch.testing.assert_close(ours, other, atol=ATOL, rtol=0)
    plain = unet(x, t, context, **told)
    led = unet(x, t, context, **told, control=mine)
    asked |= {"down_block_additional_residuals": down, "mid_block_additional_residual": mid}
    expected = their_unet(x, t, context, **asked)
    assert (led - plain).abs().max() > 1e-2
    torch.testing.assert_close(led, expected.sample, atol=ATOL, rtol=0)


@pytest.mark.parametrize("shape", SHAPES)
def test_the_reference_opens_a_saved_folder(shape, tmp_path):
    _, control, _, _ = nets(SHAPES[shape], channels=4)
    weights.save(control, tmp_path, torch.float64)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs, info = ControlNetModel.from_pretrained(tmp_path, torch_dtype=torch.float64, output_loading_info=True)
    assert not any(info.values())
    table = theirs.state_dict()
    assert table.keys() == control.state_dict().keys()
    assert all(torch.equal(table[name], t) for name, t in control.state_dict().items())
    back = weights.load(tmp_path, dtype=torch.float64)
    assert replace(back.config, out_channels=4) == replace(control.config, out_channels=4)
    assert not back.training and all(torch.equal(back.state_dict()[name], t) for name, t in table.items())


def reference(style, folder, controls):
    name = f"StableDiffusion{'XL' if style == 'sdxl' else ''}ControlNetPipeline"
    pipe = getattr(diffusers, name).from_pretrained(folder, controlnet=controls, torch_dtype=torch.float64)
    pipe.set_progress_bar_config(disable=True)
    for table in ("alphas_cumprod", "final_alpha_cumprod"):
        setattr(pipe.scheduler, table, getattr(pipe.scheduler, table).double())
    return pipe


@pytest.mark.slow
@pytest.mark.parametrize("style", published.STYLES)
@torch.no_grad()
def test_pictures_are_of_the_reference_pipeline(style, tmp_path):
    """From the same noise, not square, two pictures: one network, then two at weights; and guidance or none."""
    pipe = published.pipe(style)
    torch.manual_seed(1)
    controls = [ControlNet.from_unet(pipe.unet, channels, (4, 8, 8, 12)) for channels in (3, 3)]
    controls = [randomise(control) for control in controls]
    for p in controls[1].parameters():
        p.data = p.data.flip(0)
    weights.save(pipe, tmp_path / "pipe", torch.float64)
    theirs = []
    noise, prompts, no = random(2, 4, 8, 12), [published.PROMPTS[0], "the sea"], ["a cross"] * 2
    maps = [pixels(2, 3, 64, 96), pixels(1, 3, 64, 96)]
    drawn = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for i, control in enumerate(controls):
            weights.save(control, tmp_path / str(i), torch.float64)
            theirs.append(ControlNetModel.from_pretrained(tmp_path / str(i), torch_dtype=torch.float64))
        for count, strengths, scale in ((1, (1.0,), 5.0), (2, (0.7, -1.3), 5.0), (2, (0.7, 1.3), 1.0)):
            alone = count == 1
            given = [each.expand(2, -1, -1, -1) for each in maps[:count]]
            expected = reference(style, tmp_path / "pipe", theirs[0] if alone else theirs)(
                prompts, negative_prompt=no, image=given[0] if alone else given, num_inference_steps=4,
                guidance_scale=scale, latents=noise, output_type="latent", height=64, width=96,
                controlnet_conditioning_scale=strengths[0] if alone else list(strengths),
            ).images  # fmt: skip
            control = [Hint(*each) for each in zip(controls, maps, strengths, strict=False)]
            *_, made = tasks.states(pipe, prompts, no[0], 4, scale, "ddim", noise, control=control)
            torch.testing.assert_close(made, expected, atol=ATOL, rtol=0)
            drawn.append(made)
    *_, plain = tasks.states(pipe, prompts, no[0], 4, 5.0, "ddim", noise)
    assert (drawn[0] - plain).abs().max() > 1e-2 < (drawn[0] - drawn[1]).abs().max()
