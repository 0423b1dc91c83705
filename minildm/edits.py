"""How well models change a given picture or follow a given map, in figures: what the oracle reads in what they draw.

Every measure has "without" in it too: what the same model scores where it is not told, or not shown, what it should do.
"""

from collections.abc import Callable
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from . import hints, metrics, oracle, tasks
from .control import PICTURES, ControlNet, Hint
from .pipe import LatentDiffusion
from .scenes import COLOURS, HELD_OUT, SHAPES, Scenes, box_map, captions, draw, render
from .train import device_of
from .weights import load

Figures = dict[str, float | metrics.Figure]
Draw = Callable[..., Tensor]  # a task and its arguments, pictures at a time -> all pictures

SEED = 800_000  # far from every seed that a training run, or another measure, draws its scenes from
MARGIN = 2  # pixels of 32 by which a hole reaches beyond the box around what is to go
STAYS = 2 / 32  # by how much of the frame an object may move and still be where it was
KEPT = 20  # columns of 32 that outpainting is given
TRIES = 8  # pictures of what is missing that the model chooses from
GUIDANCE = 2.0  # scale of these: of two tries each of 100 other scenes 0.71 were right at 3, 0.76 at 2, 0.77 at 1.5
STRENGTH = 0.5  # of img2img where only the colour should change, in all cases
NOTHING = ""  # the prompt of a model that is not told


def emptied(scenes: Scenes) -> tuple[Tensor, Tensor]:
    """Scenes without their last objects (n, 3, 32, 32) in -1..1, and the holes where those were (n, 1, 32, 32), 0 or 1.

    A hole is the box around the object and MARGIN more, and tells neither shape nor colour.
    """
    row, slot = torch.arange(len(scenes)), scenes.count - 1
    gone = replace(scenes, shape=scenes.shape.clone())
    gone.shape[row, slot] = -1
    box = scenes.boxes[row, slot] + torch.tensor([-1, -1, 1, 1]) * MARGIN / 32  # (n, 4)
    return render(gone), (box_map(box)[:, None] > 0).float()


def inpainted(pipe: LatentDiffusion, n: int, drawn: Draw, seed: int = 0, net: ControlNet | None = None) -> Figures:
    """An object is taken out of a scene and asked for again: "all" is right, and every known pixel as it was.

    See `completed`: of several pictures the likeliest counts, "first" is the first of them, and "without" the likeliest
    where there is no prompt. "plain" is one by the usual sampler, without reconstruction guidance. With a `net` of
    layouts the model is also told what belongs into the hole, and draws once.
    """
    scenes = draw(n, seed + SEED)
    pictures, hole = emptied(scenes)
    said = captions(scenes, seed + SEED, full=True)
    control = []
    if net:
        clip, last = load("clip"), (scenes.count - 1).tolist()
        own = [boxes[slot] for boxes, slot in zip(hints.boxes_of(scenes), last, strict=True)]
        control = [Hint(net, torch.cat([hints.layout(clip, [box]) for box in own]).to(pipe.device))]

    def right(made: Tensor) -> metrics.Figure:
        return _share(oracle.matches(oracle.read(made), scenes)["all"])

    plain = drawn(tasks.inpaint, pipe, said, pictures, hole, control=control)
    if net:
        return {"all": right(plain)}
    best, first = completed(tasks.inpaint, pipe, said, drawn, seed, pictures, hole)
    untold, _ = completed(tasks.inpaint, pipe, [NOTHING] * n, drawn, seed, pictures, hole, scale=1.0)
    kept = ((best == pictures) | (hole > 0)).flatten(1).all(1)
    return {"all": right(best), "known pixels exact": _share(kept), "first": right(first), "plain": right(plain),
            "without": right(untold)}  # fmt: skip


def completed(task: Callable[..., Tensor], pipe: LatentDiffusion, said: list[str], drawn: Draw, seed: int,
              *given: Tensor, **more: object) -> tuple[Tensor, Tensor]:  # fmt: skip
    """What is missing in pictures, drawn TRIES times: the ones that the model finds the likeliest, and the first ones.

    By `ddpm` and with reconstruction guidance: see `tasks.inpaint`.
    """
    how = {"sampler": "ddpm", "reconstruction": 1.0, "scale": GUIDANCE} | more
    tries = [drawn(task, pipe, said, *given, generator=torch.Generator().manual_seed(seed + i), **how)
             for i in range(TRIES)]  # fmt: skip

    def chosen(pipe, said, *tries, generator, **_):
        return tasks.likeliest(pipe, said, tries, generator)

    return drawn(chosen, pipe, said, *tries, generator=torch.Generator().manual_seed(seed + TRIES)), tries[0]


def recoloured(pipe: LatentDiffusion, n: int, drawn: Draw, seed: int = 0) -> Figures:
    """The colour of a scene's one object is asked to change by `img2img`: "all" is the new one on the old shape, where
    that was."""
    scenes = draw(n, seed + SEED + 1, objects=1)
    wanted = replace(scenes, colour=scenes.colour.clone())
    generator = torch.Generator().manual_seed(seed)
    for i in range(n):
        shape, old = SHAPES[scenes.shape[i, 0]], list(COLOURS)[scenes.colour[i, 0]]
        free = [j for j, colour in enumerate(COLOURS) if colour != old and (colour, shape) not in HELD_OUT]
        wanted.colour[i, 0] = free[int(torch.randint(len(free), (), generator=generator))]
    said = captions(wanted, seed + SEED, full=True)

    def judged(made: Tensor) -> dict[str, Tensor]:
        got = oracle.read(made)
        right = oracle.matches(got, wanted)
        moved = ((got.scenes.x - wanted.x) ** 2 + (got.scenes.y - wanted.y) ** 2)[:, 0].sqrt()
        stays = (moved <= STAYS) & right["count"]
        right = {name: right[name] for name in ("colour", "shape", "size")} | {"place": stays}
        return {"all": right["colour"] & right["shape"] & right["place"]} | right

    pictures = render(scenes)
    told = judged(drawn(tasks.img2img, pipe, said, pictures, strength=STRENGTH))
    untold = judged(drawn(tasks.img2img, pipe, [NOTHING] * n, pictures, strength=STRENGTH))
    return {name: _share(hits) for name, hits in told.items()} | {"without": _share(untold["all"])}


def outpainted(pipe: LatentDiffusion, n: int, drawn: Draw, seed: int = 0) -> Figures:
    """The first KEPT columns of a scene are given and the others asked for: how much the picture changes at the seam.

    "seam" is the mean difference of the pixels left and right of it, -1..1 scale, "real" the same in the real picture;
    "within range" the share of pictures where the seam differs no more than in 97.5% of real ones. The pictures are
    those of `completed`; "first" and "plain" as in `inpainted`. "without": the same share where the new columns are of
    a picture of the same prompt, drawn without a look at the old ones.
    """
    scenes = draw(n, seed + SEED + 2)
    pictures = render(scenes)
    said = captions(scenes, seed + SEED, full=True)
    made, first = completed(tasks.outpaint, pipe, said, drawn, seed, pictures[..., :KEPT], right=32 - KEPT)
    plain = drawn(tasks.outpaint, pipe, said, pictures[..., :KEPT], right=32 - KEPT)
    other = drawn(tasks.text2img, pipe, said)
    beside = torch.cat([pictures[..., :KEPT], other[..., KEPT:]], 3)

    def seam(x: Tensor) -> Tensor:
        return (x[..., KEPT] - x[..., KEPT - 1]).abs().mean((1, 2))

    real = seam(pictures)
    most = real.quantile(0.975)
    return {
        "within range": _share(seam(made) <= most),
        "first": _share(seam(first) <= most),
        "plain": _share(seam(plain) <= most),
        "without": _share(seam(beside) <= most),
        "seam": _mean(seam(made)),
        "real": _mean(real),
        "readable": _share(oracle.read(made).readable),
    }


def enlarged(pipe: LatentDiffusion, n: int, drawn: Draw, seed: int = 0) -> Figures:
    """Pictures of a quarter of the size made large by an upscaler, unguided, and "without": by bicubic interpolation.

    Guidance would draw what the words say more than what the small picture shows.
    """
    scenes = draw(n, seed + SEED + 3)
    pictures = render(scenes, pipe.size)
    small = F.interpolate(pictures, scale_factor=1 / pipe.factor, mode="area")
    made = drawn(tasks.upscale, pipe, captions(scenes, seed + SEED, full=True), small, pipe.factor, level=0, scale=1.0)
    bicubic = F.interpolate(small, scale_factor=pipe.factor, mode="bicubic").clamp(-1, 1)

    def decibels(x: Tensor) -> metrics.Figure:
        return _mean(10 * torch.log10(4 / (x - pictures).square().flatten(1).mean(1)))

    figures: Figures = {}
    for name, x in (("", made), ("without", bicubic)):
        figures[f"PSNR in dB {name}".strip()] = decibels(x)
        figures[f"all {name}".strip()] = _share(oracle.matches(oracle.read(x), scenes)["all"])
    return figures


def edged(net: ControlNet, n: int, drawn: Draw, seed: int = 0) -> Figures:
    """Pictures of "shapes" along the edges of a scene: `hints.edge_f1`, and whether the scene came out."""
    pipe = load("shapes", device_of(net))
    scenes = draw(n, seed + SEED + 4)
    maps = hints.edges(scenes).to(pipe.device)
    said = captions(scenes, seed + SEED, full=True)
    figures: Figures = {}
    for name, control in (("", [Hint(net, maps)]), ("without", [])):
        x = drawn(tasks.text2img, pipe, said, control=control)
        figures[f"edge F1 {name}".strip()] = _mean(hints.edge_f1(x, maps.cpu()))
        figures[f"all {name}".strip()] = _share(oracle.matches(oracle.read(x), scenes)["all"])
    return figures


def laid_out(net: ControlNet, n: int, drawn: Draw, seed: int = 0) -> Figures:
    """Boxes with captions: how well objects lie in their boxes, and whether each is the one that its box asked for.

    The prompt says what there is and on which ground; "no prompt" has the map alone, "without" the prompt alone.
    "inpaint" is what `inpainted` finds where a box says what belongs into the hole.
    """
    pipe, clip = load("shapes", device_of(net)), load("clip")
    scenes = draw(n, seed + SEED + 5)
    said = captions(scenes, seed + SEED, full=True)
    maps = torch.cat([hints.layout(clip, boxes) for boxes in hints.boxes_of(scenes)]).to(pipe.device)
    figures: Figures = {}
    for name, prompts, control in (
        ("", said, [Hint(net, maps)]), ("no prompt", [NOTHING] * n, [Hint(net, maps)]), ("without", said, []),
    ):  # fmt: skip
        iou, right = oracle.in_boxes(oracle.read(drawn(tasks.text2img, pipe, prompts, control=control)), scenes)
        asked = ~iou.isnan()
        figures[f"IoU {name}".strip()] = _mean(iou[asked])
        figures[f"right in its box {name}".strip()] = _share(right[asked])
    return figures | {"inpaint": inpainted(pipe, n, drawn, seed, net)["all"]}


# What a model that draws from prompts can be asked to do with a picture, and how often each measure draws n of them.
EDITS = {"inpaint": 2 * TRIES + 3, "recolour": 2, "outpaint": TRIES + 3}
MEASURES = {"inpaint": inpainted, "recolour": recoloured, "outpaint": outpainted, "upscale": enlarged, "edges": edged,
            "layout": laid_out}  # fmt: skip


def drawings(name: str) -> int:
    """How many times n pictures are drawn for a measure, or for a set of prompts."""
    return (EDITS | {"edges": 2, "layout": 4}).get(name, 1)


def of(model: nn.Module) -> list[str]:
    """The measures that a model has of its own: an upscaler's, or a ControlNet's; none for any other."""
    if isinstance(model, ControlNet):
        return ["edges" if model.config.conditioning_channels in PICTURES else "layout"]
    return ["upscale"] if isinstance(model, LatentDiffusion) and model.low else []


def _mean(values: Tensor) -> metrics.Figure:
    return metrics.mean(values, torch.Generator().manual_seed(0))


def _share(hits: Tensor) -> metrics.Figure:
    return oracle.wilson(int(hits.sum()), len(hits))
