"""Who takes part: four kinds of models of one size, and two of them once more with the shipped autoencoder."""

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import replace

import torch
from torch import Tensor, nn

from .. import levels, runs, weights
from ..devices import peak
from ..files import UserError
from ..pipe import LatentDiffusion
from ..tasks import text2img
from ..text import Text
from ..train import CHECK_SEED, EMA, Progress, Run, fit, precision
from ..unet import UNet
from ..vae import VAE, sample_latent

ENTRIES = {
    "vae": "conditional VAE",
    "pixel": "pixel diffusion",
    "latent": "latent diffusion",
    "flow": "latent flow",
    "latent-shipped": "latent diffusion *",
    "flow-shipped": "latent flow *",
}
AUTOENCODER = 1 / 3  # of a latent model's seconds go into its autoencoder: set beforehand, and not tuned
LATENTS = 32  # numbers of the conditional VAE's latent
BATCH = 16  # of all; chosen on a latent model, which it left less loss at equal seconds than 32 did
SCALE = 3.0  # of guidance, in all of the diffusion models

# 0.82 to 0.89 million weights each: the same VAE and U-Net behind "vae", "latent" and "flow", a larger U-Net behind
# "pixel". The marked entries have the same U-Net as "latent", and the larger autoencoder that the course ships.
VAE_CONFIG = replace(runs.VAE_CONFIG, block_out_channels=(16, 32, 32))
LATENT = replace(runs.SMALL_LATENT, block_out_channels=(48,))
PIXEL = replace(runs.SMALL_PIXEL, block_out_channels=(16, 32, 56))


class ConditionalVAE(nn.Module):
    """A VAE that is told the prompt (Sohn et al. 2015), of the parts that a latent diffusion model has.

    Its latent is one vector z (b, LATENTS), so that what is drawn is of one piece. `prior` is where z comes from by the
    prompt alone, and `decode` hears the prompt too: the U-Net looks at both once, before the decoder.
    """

    def __init__(self, vae: VAE, unet: UNet):
        super().__init__()
        self.vae, self.unet = vae, unet
        side = 32 // vae.config.downscale
        self.grid = (vae.config.latent_channels, side, side)
        places, d = math.prod(self.grid), unet.config.context_dim
        self.narrow, self.widen = nn.Linear(2 * places, 2 * LATENTS), nn.Linear(LATENTS, places)
        self.told = nn.Sequential(nn.Linear(d, d // 2), nn.SiLU(), nn.Linear(d // 2, 2 * LATENTS))

    def encode(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Pixels (b, 3, h, w) in -1..1 -> mean and logvar of z, each (b, LATENTS)."""
        moments = torch.cat(self.vae.encode(pixels), 1).flatten(1)  #                     (b, 2 * places)
        return self.narrow(moments).chunk(2, 1)

    def prior(self, context: Tensor) -> tuple[Tensor, Tensor]:
        """Hidden states of prompts (b, n, d) -> mean and logvar of z, each (b, LATENTS)."""
        return self.told(context.mean(1)).chunk(2, 1)

    def decode(self, z: Tensor, context: Tensor) -> Tensor:
        """z (b, LATENTS) and hidden states of prompts (b, n, d) -> pixels (b, 3, h, w)."""
        grid = self.widen(z).unflatten(1, self.grid)  #                                   (b, c, h/f, w/f)
        return self.vae.decode(grid + self.unet(grid, torch.zeros(len(z), device=z.device), context))


def kl_between(mean: Tensor, logvar: Tensor, other_mean: Tensor, other_logvar: Tensor) -> Tensor:
    """KL(N(mean, exp(logvar)) || N(other_mean, exp(other_logvar))) in nats: (b, d) four times -> (b,)."""
    ratio = ((mean - other_mean).square() + logvar.exp()) / other_logvar.exp()
    return 0.5 * (ratio - 1 + other_logvar - logvar).sum(1)


def conditional_run(words: Text, device: str | torch.device = "cpu") -> Run:
    """The conditional VAE, trained on the negative evidence lower bound with the best noise of its decoder.

    For a Gaussian decoder whose variance is the mean squared error of a batch, the bound is log(error) / 2 a value and
    the KL divergence, up to a constant (Rybkin et al. 2021): no weight of the two is left to choose.
    """
    model = ConditionalVAE(VAE(VAE_CONFIG).to(memory_format=torch.channels_last), UNet(LATENT)).to(device)
    encoded = runs.told(LatentDiffusion(model.unet, None, words, schedule=levels.cosine()), objects=1)

    def bound(model: nn.Module, pixels: Tensor, condition: dict, generator: torch.Generator) -> Tensor:
        mean, logvar = (part.float() for part in model.encode(pixels))
        out = model.decode(sample_latent(mean, logvar, generator), **condition)
        kl = kl_between(mean, logvar, *(part.float() for part in model.prior(**condition))).mean()
        return (out.float() - pixels).square().mean().log() / 2 + kl / pixels[0].numel()

    def loss(step: int, generator: torch.Generator) -> Tensor:
        return bound(model, *runs.from_pool(encoded, step, BATCH), generator)

    @torch.no_grad()
    def check(model: nn.Module) -> float:
        return bound(model, *encoded(CHECK_SEED, 2, 256), torch.Generator().manual_seed(0)).item()

    return Run(model, loss, check, lambda model: model, steps=0, lr=1e-3)


class Contestant:
    """One of ENTRIES: `train` it, then `draw`. The text tower, that of the shipped mini-CLIP, is the same for all.

    Raises `UserError` for an unknown entry.
    """

    def __init__(self, entry: str, seed: int = 0, device: str | torch.device = "cpu"):
        if entry not in ENTRIES:
            raise UserError("entry", entry, "one of " + ", ".join(ENTRIES))
        self.entry, self.seed, self.device = entry, seed, torch.device(device)
        self.clock = time.process_time if self.device.type == "cpu" else time.perf_counter
        self.words = weights.load("clip", self.device).text
        self.vae = weights.load("shapes/vae", self.device) if entry.endswith("shipped") else None
        self.model: ConditionalVAE | LatentDiffusion | VAE | None = None
        self.steps: dict[str, int] = {}  # of training, by part
        self.seconds: dict[str, float] = {}  # the same, by the clock

    def train(self, seconds: float, lr: float = 1e-3) -> Iterator[Progress]:
        """Train for so many seconds and yield a `Progress` after each step.

        Everything counts: drawing the scenes, encoding captions and pictures. A CPU's clock is the time it worked on
        this process: waiting for others does not count, though busy neighbours still slow the work, by up to a fifth.
        With more than one thread those of all would add up, so set `torch.set_num_threads(1)`.
        """
        begun = self.clock()

        def fitted(part: str, made: Callable[[], Run], until: float) -> Iterator[Progress]:
            started = self.clock()
            run = made()
            run.model.to(self.device)
            ema = EMA(run.model, run.ema)
            for now in fit(run.model, run.loss, seconds=until - (self.clock() - begun), lr=lr, ema=ema, seed=self.seed,
                           autocast=run.autocast, clock=self.clock):  # fmt: skip
                spent = self.clock() - begun
                yield Progress(now.step, min(1.0, spent / seconds), spent, now.loss, now.rate)
            self.model = run.finish(ema.model)
            self.steps[part], self.seconds[part] = now.step, self.clock() - started

        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            if self.entry in ("latent", "flow"):
                yield from fitted("autoencoder", self._autoencoder, seconds * AUTOENCODER)
                self.vae = self.model
            yield from fitted("drawing", self._drawing, seconds)

    def _autoencoder(self) -> Run:
        return runs.vae_run(VAE_CONFIG, BATCH, objects=1)

    def _drawing(self) -> Run:
        """The run of what draws, in the latents of what was trained before it."""
        if self.entry == "vae":
            return conditional_run(self.words, self.device)
        config = PIXEL if self.entry == "pixel" else LATENT
        target = "flow" if self.entry.startswith("flow") else "v"
        run = runs.diffusion_run(self.vae, self.words, config, 1, batch=BATCH, prediction=target, device=self.device)
        return replace(run, autocast=torch.bfloat16)  # as in all runs that are committed

    @property
    def parameters(self) -> int:
        """How many weights it has, without the text tower."""
        parts = [self.model] if self.entry == "vae" else filter(None, [self.model.unet, self.model.vae])
        return sum(p.numel() for part in parts for p in part.parameters())

    def memory(self) -> float:
        """Megabytes for training: weights, their mean, Adam's two moments, and what a step takes at most.

        With the first step, in which a pool of scenes is drawn and encoded, and with an autoencoder that stands by.
        """
        autoencoder = [(self._autoencoder(), 0)] if self.entry in ("latent", "flow") else []
        standing_by = sum(p.numel() * p.element_size() for p in self.vae.parameters()) if self.vae else 0
        return max(self._memory(*part) for part in [*autoencoder, (self._drawing(), standing_by)])

    def _memory(self, run: Run, standing_by: int) -> float:
        run.model.to(self.device)
        trained = 4 * sum(p.numel() * p.element_size() for p in run.model.parameters())

        def step() -> None:
            run.model.zero_grad(set_to_none=True)
            with precision(self.device, run.autocast):
                loss = run.loss(0, torch.Generator().manual_seed(0))
            loss.backward()

        return (trained + standing_by + max(peak(step), peak(step))) / 1e6

    @torch.no_grad()
    def draw(self, prompts: list[str], calls: int, generator: torch.Generator) -> Tensor:
        """One picture of each prompt, (b, 3, 32, 32) in -1..1, in `calls` steps of a sampler; a VAE takes one."""
        if self.entry == "vae":
            context = self.words(prompts)
            z = sample_latent(*self.model.prior(context), generator)
            return self.model.decode(z, context).clamp(-1, 1)
        sampler = "euler" if self.entry.startswith("flow") else "ddim"
        return text2img(self.model, prompts, None, calls, SCALE, sampler, generator=generator)
