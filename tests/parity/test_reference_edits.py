"""Tasks on given pictures against the reference's pipelines, in float64, from the same noise.

The reference draws its latents from the encoder's Gaussian, where we take the mean: here it takes the mean too.
"""

import dataclasses
import warnings
from contextlib import ExitStack, contextmanager
from unittest import mock

import diffusers
import published
import pytest
import torch
from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution
from diffusers.schedulers import (
    scheduling_dpmsolver_multistep,
    scheduling_euler_discrete,
    scheduling_heun_discrete,
)
from parity.test_schedulers import widened

from minildm import levels, tasks, weights
from minildm.unet import UNet

PROMPTS = [published.PROMPTS[0], "the sea"]
SIZE = (64, 96)  # height, width
HOW = {"steps": 5, "scale": 5.0, "negative": "a cross"}
LEADING = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012, "timestep_spacing": "leading",
           "steps_offset": 1}  # fmt: skip
OTHERS = {  # beside ddim, which is that of the folder
    "euler": ("EulerDiscreteScheduler", scheduling_euler_discrete),
    "heun": ("HeunDiscreteScheduler", scheduling_heun_discrete),
    "dpmpp_2m": ("DPMSolverMultistepScheduler", scheduling_dpmsolver_multistep),
}


@pytest.fixture(scope="module")
def toys(tmp_path_factory):
    """The models by their U-Net's channels, with their folders: 4 draws, 9 fills holes, 7 looks at a small picture."""
    made = {}
    for channels in (4, 7, 9):
        pipe = published.pipe("sd15", channels)
        if channels == 7:
            config = dataclasses.replace(pipe.unet.config, num_class_embeds=50)
            pipe.unet = published.randomise(UNet(config))
            pipe.low = levels.linear()
        folder = tmp_path_factory.mktemp(f"of_{channels}")
        weights.save(pipe, folder, torch.float64)
        made[channels] = pipe, folder
    return made


@contextmanager
def reference(name, folder, sampler="ddim"):
    with ExitStack() as stack:
        stack.enter_context(warnings.catch_warnings())
        warnings.simplefilter("ignore")
        pipe = diffusers.DiffusionPipeline.from_pretrained(folder, torch_dtype=torch.float64)
        if type(pipe).__name__ != name:
            more = {} if "XL" in name else {"requires_safety_checker": False}
            pipe = getattr(diffusers, name)(**pipe.components, **more)
        if sampler in OTHERS:
            name, module = OTHERS[sampler]
            pipe.scheduler = getattr(diffusers, name)(**LEADING)
            stack.enter_context(widened(module))
        for scheduler in (pipe.scheduler, getattr(pipe, "low_res_scheduler", None)):
            for table in ("alphas_cumprod", "final_alpha_cumprod"):
                if hasattr(scheduler, table):
                    setattr(scheduler, table, getattr(scheduler, table).double())
        if sampler == "dpmpp_2m":  # its other tables, made anew of the widened one
            scheduler = pipe.scheduler
            alpha, sigma = scheduler.alphas_cumprod.sqrt(), (1 - scheduler.alphas_cumprod).sqrt()
            scheduler.alpha_t, scheduler.sigma_t, scheduler.lambda_t = alpha, sigma, (alpha / sigma).log()
        pipe.set_progress_bar_config(disable=True)
        mean = mock.patch.object(DiagonalGaussianDistribution, "sample", lambda self, generator=None: self.mode())
        stack.enter_context(mean)
        yield lambda **how: pipe(
            PROMPTS, negative_prompt=["a cross"] * 2, num_inference_steps=5, guidance_scale=5.0,
            generator=torch.Generator().manual_seed(3), output_type="latent", **how,
        ).images  # fmt: skip


def noise(height=SIZE[0] // 8, width=SIZE[1] // 8):
    return torch.randn(2, 4, height, width, dtype=torch.float64, generator=torch.Generator().manual_seed(3))


def image(height=SIZE[0], width=SIZE[1]):
    """Multiples of 1/256: the reference rounds a picture to float32 on its way."""
    generator = torch.Generator().manual_seed(4)
    return torch.randint(0, 257, (2, 3, height, width), generator=generator).double() / 256


def holes():
    """Two masks of whole cells: on the way to latents the reference looks at one pixel of each."""
    mask = torch.zeros(2, 1, *SIZE, dtype=torch.float64)
    mask[0, :, 8:32, 16:56] = mask[1, :, 40:, 32:] = 1
    return mask


def last(*args, **how):
    *_, z = tasks.states(*args, **HOW, **how)
    return z


def agree(mine, theirs):
    assert mine.dtype == theirs.dtype == torch.float64
    torch.testing.assert_close(mine, theirs, atol=1e-10, rtol=0)


def set_up(toys, channels, sampler):
    pipe, folder = toys[channels]
    pipe.spacing = "leading" if sampler in OTHERS else None  # so that both begin at noise of variance 1
    return pipe, folder


@pytest.mark.parametrize("sampler", ["ddim", *OTHERS])
@pytest.mark.parametrize("strength", [0.29, 0.6, 1.0])
def test_img2img(toys, sampler, strength):
    pipe, folder = set_up(toys, 4, sampler)
    with reference("StableDiffusionImg2ImgPipeline", folder, sampler) as draw:
        theirs = draw(image=image(), strength=strength)
    agree(last(pipe, PROMPTS, sampler=sampler, noise=noise(), image=2 * image() - 1, strength=strength), theirs)


@pytest.mark.parametrize("sampler", ["ddim", *OTHERS])
@pytest.mark.parametrize("strength", [0.29, 0.6, 1.0])
@pytest.mark.parametrize("channels", [4, 9])
def test_inpaint(toys, channels, sampler, strength):
    pipe, folder = set_up(toys, channels, sampler)
    with reference("StableDiffusionInpaintPipeline", folder, sampler) as draw:
        theirs = draw(image=image(), mask_image=holes(), strength=strength, height=SIZE[0], width=SIZE[1])
    mine = last(pipe, PROMPTS, sampler=sampler, noise=noise(), image=2 * image() - 1, mask=holes(), strength=strength)
    agree(mine, theirs)


@pytest.mark.slow
@pytest.mark.parametrize("strength", [0.6, 1.0])
@pytest.mark.parametrize(("style", "name"), [("sd21", "StableDiffusion"), ("sdxl", "StableDiffusionXL")])
def test_other_published_models(style, name, strength, tmp_path):
    pipe = published.pipe(style)
    weights.save(pipe, tmp_path, torch.float64)
    how = {"noise": noise(), "image": 2 * image() - 1, "strength": strength}
    with reference(f"{name}Img2ImgPipeline", tmp_path) as draw:
        theirs = draw(image=image(), strength=strength)
    agree(last(pipe, PROMPTS, **how), theirs)
    with reference(f"{name}InpaintPipeline", tmp_path) as draw:
        theirs = draw(image=image(), mask_image=holes(), strength=strength, height=SIZE[0], width=SIZE[1])
    agree(last(pipe, PROMPTS, mask=holes(), **how), theirs)


def test_upscale(toys):
    """The picture's noise comes first out of the generator, the latents' is given."""
    pipe, folder = set_up(toys, 7, "ddim")
    small = image(8, 16)
    with reference("StableDiffusionUpscalePipeline", folder) as draw:
        theirs = draw(image=2 * small - 1, noise_level=20, latents=noise(8, 16))
    seen = []
    with mock.patch.object(type(pipe), "decode", lambda self, z: seen.append(z)):
        generator = torch.Generator().manual_seed(3)
        tasks.upscale(pipe, PROMPTS, 2 * small - 1, 8, level=20, noise=noise(8, 16), generator=generator, **HOW)
    agree(seen[0], theirs)
