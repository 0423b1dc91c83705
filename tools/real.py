"""Compare a published Stable Diffusion model in our classes with diffusers, part by part, in float32.

    make real WEIGHTS=folder            a folder in the diffusers layout
    make real WEIGHTS=file CONFIG=folder    a single file, and a folder with its configuration and tokenizer

Prints the largest differences and writes `real/report.md` beside both pictures.
"""

import argparse
import gc
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
T, STEPS, SCALE = 501, 10, 7.5
TEXT, CALL, DOWN, UP = "text states", "one call of the U-Net", "pixels to latents", "latents to pixels"
DRAW = f"a picture, {STEPS} steps of ddim, scale {SCALE}"


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


class Results(dict):
    """What was asked -> the answer on the CPU, and the seconds it took."""

    def ask(self, what: str, work) -> None:
        started = time.perf_counter()
        answer = work().float().cpu()
        self[what] = answer, time.perf_counter() - started


@torch.no_grad()
def mine(source: Path, config: Path | None, size: int | None, device: torch.device) -> tuple[Results, dict]:
    """Our answers, and what the reference needs to be asked the same."""
    pipe, results = weights.load(source, device, config=config), Results()
    generator = torch.Generator().manual_seed(0)
    height = size or pipe.size
    noise = torch.randn(1, *pipe.latent_shape(height, height), generator=generator).to(device)
    pixels = torch.rand(1, 3, height, height, generator=generator).to(device) * 2 - 1
    said = pipe.condition([PROMPT], height, height)
    results.ask(TEXT, lambda: pipe.text([PROMPT]))
    results.ask(CALL, lambda: pipe.unet(noise, torch.tensor([T], device=device), **said))
    results.ask(DOWN, lambda: pipe.vae.encode(pixels)[0])
    results.ask(UP, lambda: pipe.vae.decode(noise))
    results.ask(DRAW, lambda: tasks.text2img(pipe, PROMPT, None, STEPS, SCALE, "ddim", noise) / 2 + 0.5)
    given = {"height": height, "noise": noise, "pixels": pixels, "context": said["context"], "added": None}
    if isinstance(pipe.text, TextPair):
        pooled = pipe.unet.config.added_dim - 6 * SINUSOIDS
        sizes = torch.tensor([[height, height, 0, 0, height, height]], device=device)
        given["added"] = {"text_embeds": said["added"][:, :pooled], "time_ids": sizes}
    return results, given


@torch.no_grad()
def others(source: Path, config: Path | None, given: dict, device: torch.device) -> Results:
    """The reference's answers to the same."""
    pipe, results = reference(source, config, given["added"] is not None, device), Results()
    noise, t = given["noise"], torch.tensor([T], device=device)

    def words():
        return pipe.encode_prompt(PROMPT, device=device, num_images_per_prompt=1, do_classifier_free_guidance=False)[0]

    def picture():
        return pipe(PROMPT, num_inference_steps=STEPS, guidance_scale=SCALE, latents=noise, output_type="pt",
                    height=given["height"], width=given["height"]).images  # fmt: skip

    results.ask(TEXT, words)
    results.ask(CALL, lambda: pipe.unet(noise, t, given["context"], added_cond_kwargs=given["added"]).sample)
    results.ask(DOWN, lambda: pipe.vae.encode(given["pixels"]).latent_dist.mean)
    results.ask(UP, lambda: pipe.vae.decode(noise).sample)
    results.ask(DRAW, picture)
    return results


def compare(source: Path, config: Path | None, size: int | None, device: torch.device) -> tuple[list, dict]:
    """Rows (what, largest difference, largest entry, seconds ours, seconds theirs), and both pictures.

    One model after the other, so that the memory has to hold only one of them.
    """
    a, given = mine(source, config, size, device)
    gc.collect()
    b = others(source, config, given, device)
    rows = [(what, (a[what][0] - b[what][0]).abs().max().item(), b[what][0].abs().max().item(), a[what][1], b[what][1])
            for what in a]  # fmt: skip
    return rows, {"minildm": a[DRAW][0], "diffusers": b[DRAW][0]}


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
        save_image(picture, asked.out / f"{name}.png")
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
