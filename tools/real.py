"""Compare a published Stable Diffusion model in our classes with diffusers, part by part, in float32.

    make real WEIGHTS=folder            a folder in the diffusers layout
    make real WEIGHTS=file CONFIG=folder    a single file, and a folder with its configuration and tokenizer

Prints the largest differences and writes `real/report.md` beside both pictures.
"""

import argparse
import platform
import sys
import time
import warnings
from pathlib import Path

import torch

import minildm
from minildm import tasks, weights
from minildm.devices import best_device
from minildm.files import UserError
from minildm.text import TextPair
from minildm.unet import SINUSOIDS

PROMPT = "a photograph of an astronaut riding a horse"
STEPS, SCALE = 10, 7.5


def reference(source: Path, config: Path | None, pair: bool, device: torch.device):
    """diffusers' pipeline of the same files, with DDIM over the model's own rows."""
    import diffusers

    kind = diffusers.StableDiffusionXLPipeline if pair else diffusers.StableDiffusionPipeline
    spare = {} if pair else {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False}
    if source.is_file():
        pipe = kind.from_single_file(str(source), config=str(config), torch_dtype=torch.float32, **spare)
    else:
        pipe = kind.from_pretrained(source, torch_dtype=torch.float32, **spare)
    own = {k: v for k, v in pipe.scheduler.config.items() if k not in ("clip_sample", "_class_name")}
    pipe.scheduler = diffusers.DDIMScheduler.from_config(own | {"clip_sample": False})
    pipe.set_progress_bar_config(disable=True)
    return pipe.to(device)


@torch.no_grad()
def compare(source: Path, config: Path | None, size: int | None, device: torch.device) -> tuple[list, dict]:
    """Rows (what, largest difference, largest entry, seconds ours, seconds theirs), and both pictures."""
    ours = weights.load(source, device, config=config)
    pair = isinstance(ours.text, TextPair)
    theirs = reference(source, config, pair, device)
    rows = []

    def row(what, mine, other):
        started = time.perf_counter()
        a = mine()
        middle = time.perf_counter()
        b = other()
        rows.append((what, (a - b).abs().max().item(), b.abs().max().item(), middle - started,
                     time.perf_counter() - middle))  # fmt: skip
        return a, b

    def words():
        states = theirs.encode_prompt(PROMPT, device=device, num_images_per_prompt=1, do_classifier_free_guidance=False)
        return states[0]

    generator = torch.Generator().manual_seed(0)
    height = size or ours.size
    noise = torch.randn(1, *ours.latent_shape(height, height), generator=generator).to(device)
    pixels = torch.rand(1, 3, height, height, generator=generator).to(device) * 2 - 1
    row("text states", lambda: ours.text([PROMPT]), words)
    said = ours.condition([PROMPT], height, height)
    t = torch.tensor([501], device=device)
    more = {}
    if pair:
        pooled = ours.unet.config.added_dim - 6 * SINUSOIDS
        more = {"text_embeds": said["added"][:, :pooled],
                "time_ids": torch.tensor([[height, height, 0, 0, height, height]], device=device)}  # fmt: skip
    row("one call of the U-Net", lambda: ours.unet(noise, t, **said),
        lambda: theirs.unet(noise, t, said["context"], added_cond_kwargs=more or None).sample)  # fmt: skip
    row("pixels to latents", lambda: ours.vae.encode(pixels)[0], lambda: theirs.vae.encode(pixels).latent_dist.mean)
    row("latents to pixels", lambda: ours.vae.decode(noise), lambda: theirs.vae.decode(noise).sample)
    pictures = row(
        f"a picture, {STEPS} steps of ddim, scale {SCALE}",
        lambda: tasks.text2img(ours, PROMPT, None, STEPS, SCALE, "ddim", noise) / 2 + 0.5,
        lambda: theirs(PROMPT, num_inference_steps=STEPS, guidance_scale=SCALE, latents=noise, output_type="pt",
                       height=height, width=height).images,
    )  # fmt: skip
    return rows, dict(zip(("minildm", "diffusers"), pictures, strict=True))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("weights", type=Path)
    parser.add_argument("--config", type=Path, help="for a single file: a folder with its configuration")
    parser.add_argument("--size", type=int, help="height and width in pixels, a multiple of 64")
    parser.add_argument("--out", type=Path, default=Path("real"))
    asked = parser.parse_args()
    warnings.simplefilter("ignore")  # diffusers' own
    device = best_device()
    try:
        rows, pictures = compare(asked.weights, asked.config, asked.size, device)
    except UserError as error:
        sys.exit(f"error: {error}")
    import diffusers
    from torchvision.utils import save_image

    asked.out.mkdir(exist_ok=True, parents=True)
    for name, picture in pictures.items():
        save_image(picture.float().cpu(), asked.out / f"{name}.png")
    told = [
        f"# {asked.weights.name} in minildm and in diffusers",
        "",
        f"minildm {minildm.__version__}, diffusers {diffusers.__version__}, torch {torch.__version__}, "
        f"{device.type} on {platform.machine()}, float32",
        "",
        "| what | largest difference | largest entry | seconds, minildm | seconds, diffusers |",
        "|---|---|---|---|---|",
        *(f"| {what} | {apart:.2e} | {most:.3g} | {a:.1f} | {b:.1f} |" for what, apart, most, a, b in rows),
        "",
        "![minildm](minildm.png) ![diffusers](diffusers.png)",
    ]
    (asked.out / "report.md").write_text("\n".join(told) + "\n", encoding="utf-8")
    print("\n".join(told))
    print(f"\nwritten to {asked.out}/report.md; please send it with both pictures")


if __name__ == "__main__":
    main()
