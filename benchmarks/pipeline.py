"""Prompts to pictures, and latents to pixels, beside diffusers with the same weights.

    python -m benchmarks.pipeline [--rounds 5] [--tiny] [--record]

The small pictures are drawn by the shipped model, the large ones by SD 1.5 at full size with random weights.
"""

import tempfile
import warnings
from pathlib import Path

import torch

from benchmarks.side import arguments, half, keep_all, pair, tell, tell_memory
from minildm import tasks, weights
from minildm.configs import vae_to_hf
from minildm.devices import best_device, peak
from minildm.pipe import LatentDiffusion
from minildm.vae import VAE
from tools.full_size import write_folder

PROMPT = "a large red circle on a white background"


def reference(folder: str | Path, device: torch.device, dtype: torch.dtype):
    """diffusers' pipeline out of a folder, with DDIM over the model's own rows."""
    import diffusers

    none = {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made = diffusers.StableDiffusionPipeline.from_pretrained(folder, torch_dtype=dtype, **none)
    made.scheduler = diffusers.DDIMScheduler.from_config(made.scheduler.config)
    made.set_progress_bar_config(disable=True)
    return made.to(device)


def small(device: torch.device, rounds: int) -> None:
    """The shipped model, 25 steps of ddim, scale 3."""
    ours = weights.load("shapes", device)
    with tempfile.TemporaryDirectory() as folder:
        theirs = reference(weights.save(ours, folder), device, torch.float32)
    for batch, same, best in ((1, 0.85, 0.60), (8, 0.95, None)):
        noise = torch.randn(batch, *ours.latent_shape(), generator=torch.Generator().manual_seed(0)).to(device)

        def mine(noise=noise):
            return tasks.text2img(ours, PROMPT, steps=25, scale=3.0, noise=noise)

        def other(noise=noise, batch=batch):
            return theirs([PROMPT] * batch, num_inference_steps=25, guidance_scale=3.0, latents=noise,
                          output_type="pt").images  # fmt: skip

        what = f"shapes text2img, batch {batch}, 25 steps"
        tell(f"{what}, same", pair(mine, other, rounds), same)
        if best:
            for switch, fast in switched(device).items():

                def quick(noise=noise, fast=fast):
                    return tasks.text2img(fast, PROMPT, steps=25, scale=3.0, noise=noise)

                tell(f"{what}, {switch}", pair(quick, other, rounds, 2), best)


def switched(device: torch.device) -> dict[str, LatentDiffusion]:
    """The shipped model under each single switch that should make it faster."""
    wide, small, compiled = (weights.load("shapes", device) for _ in range(3))
    wide.unet.to(memory_format=torch.channels_last)
    small.to(half(device))
    frozen = {"freezing": True} if device.type == "cpu" else {"triton.cudagraphs": True}
    compiled.unet.forward = torch.compile(compiled.unet.forward, options=frozen)
    return {"channels_last": wide, "half precision": small, "compiled": compiled}


@torch.no_grad()
def large(device: torch.device, rounds: int, dtype: torch.dtype) -> None:
    """SD 1.5's autoencoder at 512 x 512."""
    from diffusers import AutoencoderKL

    torch.manual_seed(0)
    ours = VAE().to(device, dtype)
    with torch.device("meta"):
        theirs = AutoencoderKL.from_config(vae_to_hf(ours.config, 512))
    theirs.load_state_dict(ours.state_dict(), assign=True)
    z = torch.randn(1, 4, 64, 64, device=device, dtype=dtype)

    def mine():
        return ours.decode(z)

    def other():
        return theirs.decode(z).sample

    what = f"SD 1.5 VAE decode, 512 x 512, {str(dtype).split('.')[1]}, {device.type}"
    tell(f"{what}, same", pair(mine, other, rounds), 0.95)
    tell_memory(what, peak(mine), peak(other))


def whole(device: torch.device, dtype: torch.dtype) -> None:
    """A prompt to a 512 x 512 picture in 25 steps, guided, each side once."""
    with tempfile.TemporaryDirectory() as folder:
        write_folder("sd15", Path(folder), dtype)
        ours, theirs = weights.load(folder, device, dtype), reference(folder, device, dtype)
    noise = torch.randn(1, 4, 64, 64, generator=torch.Generator().manual_seed(0)).to(device)

    def mine():
        return tasks.text2img(ours, PROMPT, steps=25, scale=7.5, noise=noise)

    def other():
        return theirs(PROMPT, num_inference_steps=25, guidance_scale=7.5, latents=noise.to(dtype), output_type="pt")

    what = f"SD 1.5 text2img, 512 x 512, 25 steps, {str(dtype).split('.')[1]}, {device.type}"
    tell(f"{what}, same", pair(mine, other, 1, 0))


def main() -> None:
    asked = arguments("Our pictures beside diffusers'.", "only the small model: a minute, not many")
    device = best_device()
    small(device, asked.rounds)
    if not asked.tiny:
        for dtype in (torch.float32, torch.bfloat16):
            large(device, asked.rounds, dtype)
        whole(device, torch.bfloat16)
    if asked.record:
        keep_all("pipeline", device)


if __name__ == "__main__":
    main()
