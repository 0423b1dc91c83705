"""What each run of a drawing network trains, on what, by which loss: autoencoders and diffusion models.

`recipes` gives them names, folders and checkpoints; `readers` has the runs of networks that read pictures.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache

import torch
from torch import Tensor, nn

from . import levels, scenes, text
from .pipe import LatentDiffusion
from .train import CHECK_SEED, Run, device_of, diffusion_loss, vae_loss
from .unet import UNet, UNetConfig
from .vae import VAE, FlatVAE, VAEConfig, sample_latent

# Seeds of the endless streams of scenes: no run trains on what another, or an evaluation, draws.
VAE_SEED, DECODER_SEED, UNET_SEED = 1, 11, 2

# Scenes are encoded POOL batches at a time, and each is trained on REUSE times in other company and under other
# noise: encoding every batch anew took a quarter of a small model's step.
POOL, REUSE = 8, 4

VAE_CONFIG = VAEConfig(block_out_channels=(32, 64, 64), layers_per_block=1, norm_num_groups=8, scaling_factor=1.0)
# One level: 8x8 places are few enough to attend to one another throughout. At equal seconds it beat two levels.
LATENT_CONFIG = UNetConfig(
    block_out_channels=(128,), layers_per_block=1, transformer_layers=(1,), heads=(4,), context_dim=128,
    linear_projection=True, norm_num_groups=16,
)  # fmt: skip
# The latent network with two more levels in front: attention at the same 8x8 places.
PIXEL_CONFIG = replace(
    LATENT_CONFIG, in_channels=3, out_channels=3, block_out_channels=(32, 64, 128),
    transformer_layers=(0, 0, 1), heads=(4, 4, 4),
)  # fmt: skip
# What a few minutes can train, small enough to ship beside the others.
SMALL_LATENT = replace(LATENT_CONFIG, block_out_channels=(64,), norm_num_groups=8)
SMALL_PIXEL = replace(PIXEL_CONFIG, block_out_channels=(24, 32, 64), norm_num_groups=8)
# Lesson 07's: no prompts, attention at 8x8 only.
PLAIN_PIXEL = UNetConfig(
    in_channels=3, out_channels=3, block_out_channels=(24, 32, 48), layers_per_block=1, transformer_layers=(0, 0, 1),
    heads=(4, 4, 4), context_dim=None, norm_num_groups=8,
)  # fmt: skip


def scene_batch(seed: int, step: int, batch: int, objects: int | None = None) -> tuple[Tensor, scenes.Scenes]:
    """The `step`-th batch of an endless stream of scenes without held-out pairs: pictures (b, 3, 32, 32), scenes."""
    drawn = scenes.draw(batch, seed=seed, start=step * batch, objects=objects)
    return scenes.render(drawn).to(memory_format=torch.channels_last), drawn


def round_trip(pictures: Tensor) -> Callable[[nn.Module], float]:
    """The squared error of these pictures through an autoencoder and back, as a check of a run."""

    @torch.no_grad()
    def check(vae: nn.Module) -> float:
        pixels = pictures.to(device_of(vae))
        return (vae.decode(vae.encode(pixels)[0]) - pixels).square().mean().item()

    return check


def vae_run(config: VAEConfig = VAE_CONFIG, batch: int = 32, kl_weight: float = 0.001, steps: int = 4000,
            objects: int | None = None) -> Run:  # fmt: skip
    """The autoencoder of the shapes world: squared error and a small KL term, no perceptual or adversarial one."""
    model = VAE(config).to(memory_format=torch.channels_last)
    check = round_trip(scene_batch(CHECK_SEED, 0, 256, objects)[0])

    def loss(step: int, generator: torch.Generator) -> Tensor:
        pixels, _ = scene_batch(VAE_SEED, step, batch, objects)
        return sum(vae_loss(model, pixels.to(device_of(model)), kl_weight, generator))

    @torch.no_grad()
    def finish(vae: nn.Module) -> nn.Module:
        vae.config = replace(config, scaling_factor=scaling_factor(vae))
        return vae

    return Run(model, loss, check, finish, steps, lr=1.2e-3)


def decoder_run(model: VAE, batch: int = 32, steps: int = 3000) -> Run:
    """An autoencoder's decoder once more, on scenes of two objects; the encoder, and so every latent, stays as it is.

    As the published `sd-vae-ft-mse` was made (its model card). A step costs three quarters of one of `vae_run`, can
    go on beside the training of a diffusion model, and mends what stayed blurred: small objects of little contrast.
    """
    model = model.to(memory_format=torch.channels_last).requires_grad_(False)
    for part in (model.post_quant_conv, model.decoder):
        part.requires_grad_(True)

    def loss(step: int, generator: torch.Generator) -> Tensor:
        pixels = scene_batch(DECODER_SEED, step, batch, objects=2)[0].to(device_of(model))
        with torch.no_grad():
            z = sample_latent(*model.encode(pixels), generator)
        return (model.decode(z).float() - pixels).square().mean()

    check = round_trip(scene_batch(CHECK_SEED, 0, 256, objects=2)[0])
    return Run(model, loss, check, lambda vae: vae, steps, lr=6e-4)


@torch.no_grad()
def scaling_factor(vae: nn.Module) -> float:
    """1 / the standard deviation of the latents of 1,024 pictures (Rombach et al. 2022, appendix G)."""
    pictures, _ = scene_batch(CHECK_SEED, 1, 1024)
    return round(1 / vae.encode(pictures.to(device_of(vae)))[0].std().item(), 5)


def digits_run(batch: int = 128, steps: int = 6000, beta: float = 0.5) -> Run:
    """A fully connected VAE with two latents, on scikit-learn's handwritten digits."""
    from .data import digits

    pictures, _ = digits("train")
    held_back, _ = digits("test")
    model = FlatVAE()

    def loss(step: int, generator: torch.Generator) -> Tensor:
        pixels = pictures[torch.randint(len(pictures), (batch,), generator=generator)].to(device_of(model))
        return sum(vae_loss(model, pixels, DIGITS_VARIANCE * 2 * beta, generator))

    return Run(model, loss, round_trip(held_back), lambda vae: vae, steps, lr=2e-3, autocast=None)


# A Gaussian decoder of this variance makes the squared error a likelihood; about what two latents leave over.
DIGITS_VARIANCE = 0.1


def captioned(seed: int, step: int, batch: int, objects: int | None) -> tuple[Tensor, list[str]]:
    """Pictures and training captions: three in four name everything, two in three have two objects (if both may be)."""
    parts = ((1, 0, batch // 3), (2, batch // 3, batch)) if objects is None else ((objects, 0, batch),)
    pictures, said = [], []
    for count, first, last in parts:
        start, quarter = step * batch + first, (last - first) // 4
        drawn = scenes.draw(last - first, seed, start, objects=count)
        pictures.append(scenes.render(drawn))
        said += scenes.captions(drawn[:quarter], seed, start)
        said += scenes.captions(drawn[quarter:], seed, start + quarter, full=True)
    return torch.cat(pictures).to(memory_format=torch.channels_last), said


def told(pipe: LatentDiffusion, objects: int | None) -> Callable[[int, int, int], tuple[Tensor, dict]]:
    """f(seed, pool, count) -> so many pictures as the U-Net sees them, and the captions as it is told them."""

    @lru_cache(maxsize=2)  # of a run, and of its check
    @torch.no_grad()
    def encoded(seed: int, pool: int, count: int) -> tuple[Tensor, dict]:
        pictures, said = captioned(seed, pool, count, objects)
        return pipe.encode(pictures.to(pipe.device)).float(), pipe.condition(said)

    return encoded


def from_pool(encoded: Callable, step: int, batch: int) -> tuple[Tensor, dict]:
    """The batch of training step `step`, from its pool of POOL batches."""
    x0, condition = encoded(UNET_SEED, step // (POOL * REUSE), POOL * batch)
    order = torch.randperm(POOL * batch, generator=torch.Generator().manual_seed(step // POOL))
    some = order[step % POOL * batch :][:batch].to(x0.device)
    return x0[some], {name: value[some] for name, value in condition.items()}


def diffusion_run(vae: VAE | None = None, words: text.Text | None = None, config: UNetConfig = LATENT_CONFIG,
                  objects: int | None = None, batch: int = 64, steps: int = 10_000, lr: float = 1e-3,
                  unsaid: float = 0.1, noisy: float = 0.5, prediction: str = "v",
                  device: str | torch.device = "cpu") -> Run:  # fmt: skip
    """A diffusion model of scenes: in the latents of `vae` or (None) in pixels, told in `words` or (None) not at all.

    On cosine rows, or for a `prediction` of "flow" on straight ones; a caption is left out with probability `unsaid`,
    so that one network also answers without it (Ho & Salimans 2022, algorithm 1). With a prompt, `noisy` of the
    levels are drawn from the noisiest quarter, where it is decided what is where. `vae` and `words` stay as they are.
    """
    model = UNet(config)
    rows = levels.flow() if prediction == "flow" else levels.cosine()
    pipe = LatentDiffusion(model, vae, words, schedule=rows, prediction=prediction, spacing="trailing").to(device)
    empty, noisy = (words([""]).detach(), noisy) if words else (None, 0.0)
    encoded = told(pipe, objects)

    def untold(condition: dict, generator: torch.Generator) -> dict:
        if not words:
            return {}
        drop = torch.rand(len(condition["context"]), generator=generator) < unsaid
        return {"context": torch.where(drop[:, None, None].to(empty.device), empty, condition["context"])}

    def loss(step: int, generator: torch.Generator) -> Tensor:
        x0, condition = from_pool(encoded, step, batch)
        condition = untold(condition, generator)
        return diffusion_loss(model, x0, pipe.schedule, pipe.prediction, generator, noisy, **condition).mean()

    @torch.no_grad()
    def check(unet: nn.Module) -> float:
        generator = torch.Generator().manual_seed(0)
        x0, condition = encoded(CHECK_SEED, 2, 256)
        condition = untold(condition, generator)
        return diffusion_loss(unet, x0, pipe.schedule, pipe.prediction, generator, **condition).mean().item()

    def finish(unet: nn.Module) -> nn.Module:
        pipe.unet = unet
        return pipe

    return Run(model, loss, check, finish, steps, lr)
