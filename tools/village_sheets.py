"""What the long runs of lesson 17 gave, as small pictures and figures: notebooks/village/.

    minildm train vae --data datasets/village --out runs/village-vae
    minildm train latent --data datasets/village --vae runs/village-vae --out runs/village
    python tools/village_sheets.py runs/village-vae runs/village

A run that was stopped has no model yet: then the average of the weights in its last state is taken.

samples.png: of the sheets that the run drew on its way, the first noise of each prompt. pairs.png: a drawing of each
pair that the folder never shows together. vae.png: held-out pictures, there and back. figures.json: losses on the way,
PSNR by kind, how far the model listens, copying.
"""

import argparse
import json
import warnings
from pathlib import Path

import torch
from PIL import Image

from minildm import evaluate, folders, metrics, own, recipes, show, tasks, train, weights
from minildm.own import learning

ROOT = Path(__file__).resolve().parent.parent
VILLAGE, OUT = ROOT / "datasets" / "village", ROOT / "notebooks" / "village"
KINDS = ("house", "plant", "face", "flag")
PAIRS = [  # what no picture of the folder has, in the order of its card
    "a wooden house with a blue roof", "a brick house in the snow", "a white house behind a round tree at night",
    "a cactus in a blue pot", "a sunflower in a striped pot", "red tulips in a white pot in a garden",
    "a smiling face with curly blond hair", "a sad face with glasses", "a face in a yellow hat",
    "a flag with three vertical stripes and a fish in the middle", "a flag with a leaf by the sea",
    "a yellow flag with a red heart",
]  # fmt: skip
COLOURS = 24  # of a sheet: small files, and hardly to be seen


def save(pictures: torch.Tensor, name: str, columns: int) -> None:
    image = show.to_image(pictures, columns, pictures.shape[3], 0)
    image = image.quantize(COLOURS, Image.Quantize.MAXCOVERAGE, kmeans=3, dither=Image.Dither.NONE)
    image.save(OUT / name, optimize=True)


def cut(album: own.Album, numbers: list[int]) -> torch.Tensor:
    """Pictures of an album as squares, (n, 3, 64, 64)."""
    return folders.scaled(torch.stack([folders.fitted(album.pictures[i], 64, 64) for i in numbers]))


def loss(vae: torch.nn.Module, pixels: torch.Tensor) -> torch.Tensor:
    """The squared error of a picture, bytes (3, h, w), there and back."""
    x = folders.scaled(pixels)[None]
    return (vae.decode(vae.encode(x)[0]).clamp(-1, 1) - x).square().mean()


def errors(pipe: torch.nn.Module, pictures: torch.Tensor, captions: list[str], seed: int) -> torch.Tensor:
    """The model's loss on each picture, told these captions, over the noise of a seed."""
    z, random = pipe.encode(pictures), torch.Generator().manual_seed(seed)
    return train.diffusion_loss(pipe.unet, z, pipe.schedule, pipe.prediction, random, **pipe.condition(captions))


def listens(pipe: torch.nn.Module, pictures: torch.Tensor, captions: list[str]) -> dict[str, float]:
    moved = captions[1:] + captions[:1]
    return {name: torch.cat([errors(pipe, pictures, said, seed) for seed in range(8)]).mean().item()
            for name, said in (("own", captions), ("other", moved))}  # fmt: skip


def drawn(pipe: torch.nn.Module, prompts: list[str], seed: int) -> torch.Tensor:
    noise = torch.randn(len(prompts), *pipe.latent_shape(), generator=torch.Generator().manual_seed(seed))
    return torch.cat([tasks.text2img(pipe, prompts[i : i + 16], steps=20, scale=3.0, noise=noise[i : i + 16])
                      for i in range(0, len(prompts), 16)])  # fmt: skip


def model_of(folder: Path, vae: Path) -> tuple[torch.nn.Module, int]:
    """The model of a run, finished or not, and how many steps it had."""
    last = max(recipes.states_of(folder).files(), key=lambda path: int(path.stem.split("-")[1]))
    step = int(last.stem.split("-")[1])
    if (folder / "model_index.json").exists():
        return weights.load(str(folder)), step
    plan = own.plan("latent", VILLAGE, vae=str(vae))
    latents = own.Latents(folder / "latents", plan.vae)
    for _ in latents.fill(learning.entries(plan)):
        pass
    run, _ = learning.latent_run(plan, latents)
    run.model.load_state_dict(torch.load(last, map_location="cpu", weights_only=True)["ema"])
    return run.finish(run.model).eval(), step


@torch.no_grad()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("vae", type=Path)
    parser.add_argument("latent", type=Path)
    options = parser.parse_args()
    warnings.simplefilter("ignore", UserWarning)  # a held-out caption may be longer than what the tower reads
    OUT.mkdir(exist_ok=True)
    album = own.look(VILLAGE)
    seen, held = album.numbers(held_out=False), album.numbers(held_out=True)
    captions = [picture.caption for picture in album.pictures]
    coders = {"shipped": weights.load("shapes/vae"), "trained": weights.load(str(options.vae))}
    pipe, step = model_of(options.latent, options.vae)
    figures = {"step": step, "pairs": PAIRS, "psnr": {}}

    everything = cut(album, range(len(captions)))
    for name, vae in coders.items():
        error = torch.stack([loss(vae, folders.fitted(picture, *place)) for picture, place in
                             zip(album.pictures, album.places, strict=True)])  # fmt: skip
        parts = {kind: [i for i in held if album.pictures[i].name.startswith(kind)] for kind in KINDS}
        parts |= {"held out": held, "seen": seen}
        figures["psnr"][name] = {part: round(evaluate.psnr(error[i].mean().item()), 2) for part, i in parts.items()}
        if name == "trained":
            first = {kind: parts[kind][0] for kind in KINDS}
            figures["shown"] = [album.pictures[i].name for i in first.values()]
            x = everything[list(first.values())]
            save(vae.decode(vae.encode(x)[0]).clamp(-1, 1), "vae.png", 4)

    sheets = sorted((options.latent / "samples").glob("step-*.png"))
    sheets = [sheets[i] for i in (1, len(sheets) // 2, -1)]
    figures["steps"] = [int(path.stem.removeprefix("step-")) for path in sheets]
    figures["prompts"] = (options.latent / "samples" / "rows.txt").read_text(encoding="utf-8").splitlines()
    squares = [Image.open(path).convert("RGB").crop((0, row * 132, 128, row * 132 + 128)).resize((64, 64), 0)
               for row in range(4) for path in sheets]  # fmt: skip
    pixels = [torch.frombuffer(bytearray(one.tobytes()), dtype=torch.uint8).view(64, 64, 3) for one in squares]
    save(folders.scaled(torch.stack(pixels).permute(0, 3, 1, 2)), "samples.png", len(sheets))

    save(drawn(pipe, PAIRS, 1), "pairs.png", 6)
    some = seen[:: len(seen) // len(held)][: len(held)]
    of_seen, of_held = (torch.cat([drawn(pipe, [captions[i] for i in part], seed) for seed in (1, 2)])
                        for part in (some, held))  # fmt: skip
    small = lambda x: torch.nn.functional.avg_pool2d(x, 4).flatten(1)  # noqa: E731
    for name, made in (("seen", of_seen), ("held out", of_held)):
        made = metrics.copying(*map(small, (everything[seen], everything[held], made)))
        figures[f"copying, drawn from captions {name}"] = [round(float(number), 3) for number in made]
    figures["listens"] = {"seen": listens(pipe, everything[some], [captions[i] for i in some]),
                          "held out": listens(pipe, everything[held], [captions[i] for i in held])}  # fmt: skip
    for name, folder in (("vae", options.vae), ("latent", options.latent)):
        lines = (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
        rows = [json.loads(line) for line in lines[1::2]]
        figures[name] = {key: [round(row[key], 4) for row in rows] for key in ("step", "seconds", "seen", "held_out")}
    text = ",\n".join(f"{json.dumps(name)}: {json.dumps(value)}" for name, value in figures.items())
    (OUT / "figures.json").write_text(f"{{{text}}}\n", encoding="utf-8")
    print(json.dumps({name: value for name, value in figures.items() if name not in ("vae", "latent")}, indent=1))


if __name__ == "__main__":
    main()
