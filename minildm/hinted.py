"""What each run of a network that is shown a picture beside the prompt trains, on what, by which loss."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from . import draws, hints, levels, scenes, text
from .clip import MiniCLIP
from .control import ControlNet
from .denoise import beside
from .pipe import LatentDiffusion
from .runs import Network, denoising_run, into
from .scenes.words import SIZE_WORDS
from .train import Run
from .unet import UNet, UNetConfig
from .vae import VAE

LOW = 16  # height and width of the pictures that the upscaler enlarges
NOISIEST = 350  # rows of the schedule by which they are noised, of 1,000: as many as diffusers' upscaler allows
# Two levels, 16 x 16 and 8 x 8; only the smaller one looks at words and at places far away.
UPSCALER_CONFIG = UNetConfig(
    in_channels=7, block_out_channels=(48, 96), layers_per_block=1, transformer_layers=(0, 1), heads=(4, 4),
    context_dim=128, linear_projection=True, norm_num_groups=16, num_class_embeds=NOISIEST,
)  # fmt: skip
# From a map of 32 x 32 to 8 x 8 cells. A layout has 128 channels: wide layers at its full size would cost most of all.
EDGES_EMBEDDING, LAYOUT_EMBEDDING = (16, 32, 64), (32, 32, 96)


def upscaler_run(vae: VAE, words: text.Text, config: UNetConfig = UPSCALER_CONFIG, batch: int = 16,
                 steps: int = 18_000, device: str | torch.device = "cpu") -> Run:  # fmt: skip
    """A diffusion model that is shown each picture at a quarter of its size, 16 -> 64, noised by a level it is told.

    The noise keeps it from copying what is wrong with a small picture that was not simply made smaller (Ho et al. 2021,
    arXiv 2106.15282). Its size is that of the latents, so the two lie on each other.
    """
    model = UNet(config)
    pipe = LatentDiffusion(model, vae, words, schedule=levels.cosine(), prediction="v", spacing="trailing",
                           size=LOW * 4, low=levels.cosine()).to(device)  # fmt: skip

    def shown(pictures: Tensor, _: scenes.Scenes) -> dict[str, Tensor]:
        return {"low": F.interpolate(pictures, size=(LOW, LOW), mode="area")}

    def asked(model: nn.Module, condition: dict, generator: draws.Source) -> tuple[Network, dict]:
        low = condition.pop("low")
        # Mostly little noise: what a small picture is most often shown with, and where the finest of it can be seen.
        label = (NOISIEST * draws.uniform(low.shape[:1], generator).square()).long().to(low.device)
        row = pipe.low.at(label)
        eps = draws.normal(low.shape, generator).to(low)
        low = row.alpha.view(-1, 1, 1, 1) * low + row.sigma.view(-1, 1, 1, 1) * eps
        return beside(model, low), condition | {"label": label}

    return denoising_run(pipe, model, into(pipe), shown=shown, asked=asked, batch=batch, steps=steps)


def object_vectors(clip: MiniCLIP) -> Tensor:
    """The mini-CLIP vector of every object by every word for its size: (shapes, colours, sizes, words, d)."""
    words = list(SIZE_WORDS.values())
    said = [f"a {word} {colour} {shape}" for shape in scenes.SHAPES for colour in scenes.COLOURS
            for size in words for word in size]  # fmt: skip
    with torch.no_grad():
        vectors = clip.prompts(said).cpu()
    return vectors.view(len(scenes.SHAPES), len(scenes.COLOURS), len(words), len(words[0]), -1)


def control_run(pipe: LatentDiffusion, clip: MiniCLIP | None = None) -> Run:
    """A ControlNet for `pipe`, whose own networks stay as they are: of edges, or with `clip` of layouts.

    Half of the prompts are left out, so that the map alone has to do (as Zhang et al. 2023 trained theirs).
    """
    net = ControlNet.from_unet(pipe.unet, *((3, EDGES_EMBEDDING) if clip is None else (clip.dim, LAYOUT_EMBEDDING)))
    pipe.requires_grad_(False)
    named = None if clip is None else object_vectors(clip)

    def shown(pictures: Tensor, drawn: scenes.Scenes) -> dict[str, Tensor]:
        if clip is None:
            return {"edges": hints.edges(drawn)}
        any_number = (drawn.x * 2**12).long()  # but always the same for the same object
        vectors = named[drawn.shape, drawn.colour, drawn.size, any_number % named.shape[3]]
        boxed = any_number % 5 > 0  # a fifth have no box, for layouts that do not say all
        return {"where": scenes.layout_map(drawn) * boxed[:, :, None, None], "vectors": vectors}

    def asked(net: nn.Module, condition: dict, generator: draws.Source) -> tuple[Network, dict]:
        if clip is None:
            hint = condition.pop("edges")
        else:
            hint = hints.painted(condition.pop("where"), condition.pop("vectors"))

        def network(x: Tensor, t: Tensor, **said: Tensor) -> Tensor:
            return pipe.unet(x, t, **said, control=net(x, t, hint=hint, **said))

        return network, condition

    return denoising_run(pipe, net, lambda net: net, shown=shown, asked=asked, batch=32, unsaid=0.5, lr=5e-4,
                         steps=1500 if clip is None else 4000)  # fmt: skip
