"""What each run of a network that is shown a picture beside the prompt trains, on what, by which loss."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from . import levels, scenes, text
from .pipe import LatentDiffusion
from .runs import Network, denoising_run, into
from .train import Run
from .unet import UNet, UNetConfig
from .vae import VAE

LOW = 16  # height and width of the pictures that the upscaler enlarges
NOISIEST = 350  # rows of the schedule by which they are noised, of 1,000: as the published upscaler's (its model card)
# Two levels, 16 x 16 and 8 x 8; only the smaller one looks at words and at places far away.
UPSCALER_CONFIG = UNetConfig(
    in_channels=7, block_out_channels=(48, 96), layers_per_block=1, transformer_layers=(0, 1), heads=(4, 4),
    context_dim=128, linear_projection=True, norm_num_groups=16, num_class_embeds=NOISIEST,
)  # fmt: skip


def upscaler_run(vae: VAE, words: text.Text, config: UNetConfig = UPSCALER_CONFIG, batch: int = 32,
                 steps: int = 6000, device: str | torch.device = "cpu") -> Run:  # fmt: skip
    """A diffusion model that is shown each picture at a quarter of its size, 16 -> 64, noised by a level it is told.

    The noise keeps it from copying what is wrong with a small picture that was not simply made smaller (Ho et al.
    2022, "Cascaded diffusion models", section 4.2). Its size is that of the latents, so the two lie on each other.
    """
    model = UNet(config)
    pipe = LatentDiffusion(model, vae, words, schedule=levels.cosine(), prediction="v", spacing="trailing",
                           size=LOW * 4, low=levels.cosine()).to(device)  # fmt: skip

    def shown(pictures: Tensor, _: scenes.Scenes) -> dict[str, Tensor]:
        return {"low": F.interpolate(pictures, size=(LOW, LOW), mode="area")}

    def asked(model: nn.Module, condition: dict, generator: torch.Generator) -> tuple[Network, dict]:
        low = condition.pop("low")
        label = torch.randint(NOISIEST, (len(low),), generator=generator).to(low.device)
        row = pipe.low.at(label)
        eps = torch.randn(low.shape, generator=generator).to(low)
        low = row.alpha.view(-1, 1, 1, 1) * low + row.sigma.view(-1, 1, 1, 1) * eps
        return lambda x, t, **said: model(torch.cat([x, low], 1), t, **said), condition | {"label": label}

    return denoising_run(pipe, model, into(pipe), shown=shown, asked=asked, batch=batch, steps=steps, noisy=0.0)
