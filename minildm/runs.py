"""What each run of a drawing network trains, on what, by which loss: autoencoders and diffusion models.

`recipes` gives them names, folders and checkpoints; `readers` has the runs of networks that read pictures.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache

import torch
from torch import Tensor, nn

from . import draws, levels, scenes, text
from .pipe import LatentDiffusion
from .train import CHECK_SEED, Run, device_of, diffusion_loss, vae_loss
from .unet import UNet, UNetConfig
from .vae import VAE, FlatVAE, VAEConfig, sample_latent

# Seeds of the endless streams of scenes: no run trains on what another, or an evaluation, draws.
VAE_SEED, DECODER_SEED, UNET_SEED = 1, 11, 2

Network = Callable[..., Tensor]
Encoded = Callable[[int, int, int], tuple[Tensor, dict]]
Shown = Callable[[Tensor, scenes.Scenes], dict[str, Tensor]]  # pictures and scenes -> tensors by name
# (network in training, condition, generator) -> what to call, and with which keywords
Asked = Callable[[nn.Module, dict, draws.Source], tuple[Network, dict]]

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


def scene_batch(seed: int, step: int, batch: int, objects: int | None = None,
                source: draws.Source = None) -> tuple[Tensor, scenes.Scenes]:  # fmt: skip
    """The `step`-th batch of an endless stream of scenes without held-out pairs: pictures (b, 3, 32, 32), scenes.

    Of it, the samples that `source` asks for (`draws.places`).
    """
    asked = draws.places(batch, source)
    drawn = scenes.draw(len(asked), seed=seed, start=step * batch + asked[0], objects=objects)
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

    def loss(step: int, generator: draws.Source) -> Tensor:
        pixels, _ = scene_batch(VAE_SEED, step, batch, objects, generator)
        return sum(vae_loss(model, pixels.to(device_of(model)), kl_weight, generator))

    @torch.no_grad()
    def finish(vae: nn.Module) -> nn.Module:
        vae.config = replace(config, scaling_factor=scaling_factor(vae))
        return vae

    return Run(model, loss, check, finish, steps, lr=1.2e-3, batch=batch)


def decoder_run(model: VAE, batch: int = 32, steps: int = 3000) -> Run:
    """An autoencoder's decoder once more, on scenes of two objects; the encoder, and so every latent, stays as it is.

    As the published `sd-vae-ft-mse` was made (its model card). A step costs three quarters of one of `vae_run`, can
    go on beside the training of a diffusion model, and mends what stayed blurred: small objects of little contrast.
    """
    model = model.to(memory_format=torch.channels_last).requires_grad_(False)
    for part in (model.post_quant_conv, model.decoder):
        part.requires_grad_(True)

    def loss(step: int, generator: draws.Source) -> Tensor:
        pixels = scene_batch(DECODER_SEED, step, batch, 2, generator)[0].to(device_of(model))
        with torch.no_grad():
            z = sample_latent(*model.encode(pixels), generator)
        return (model.decode(z).to(pixels.dtype) - pixels).square().mean()

    check = round_trip(scene_batch(CHECK_SEED, 0, 256, objects=2)[0])
    return Run(model, loss, check, lambda vae: vae, steps, lr=6e-4, batch=batch)


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

    def loss(step: int, generator: draws.Source) -> Tensor:
        some = draws.integers(len(pictures), (len(draws.places(batch, generator)),), generator)
        pixels = pictures[some].to(device_of(model))
        return sum(vae_loss(model, pixels, DIGITS_VARIANCE * 2 * beta, generator))

    return Run(model, loss, round_trip(held_back), lambda vae: vae, steps, lr=2e-3, batch=batch, autocast=None)


# A Gaussian decoder of this variance makes the squared error a likelihood; about what two latents leave over.
DIGITS_VARIANCE = 0.1


def captioned(
    seed: int, step: int, batch: int, objects: int | None, size: int = 32
) -> tuple[Tensor, list[str], scenes.Scenes]:
    """Pictures, training captions and scenes: three captions in four name everything, and two scenes in three have two
    objects (if both kinds may be)."""
    parts = ((1, 0, batch // 3), (2, batch // 3, batch)) if objects is None else ((objects, 0, batch),)
    parted, said = [], []
    for count, first, last in parts:
        start, quarter = step * batch + first, (last - first) // 4
        drawn = scenes.draw(last - first, seed, start, objects=count)
        parted.append(drawn)
        said += scenes.captions(drawn[:quarter], seed, start)
        said += scenes.captions(drawn[quarter:], seed, start + quarter, full=True)
    drawn = scenes.join(parted)
    return scenes.render(drawn, size).to(memory_format=torch.channels_last), said, drawn


def told(pipe: LatentDiffusion, objects: int | None = None, shown: Shown | None = None) -> Encoded:
    """f(seed, pool, count) -> so many pictures as the U-Net sees them, and the captions as it is told them.

    What `shown` gives of the pictures and their scenes comes beside the captions, each under its name.
    """

    @lru_cache(maxsize=2)  # of a run, and of its check
    @torch.no_grad()
    def encoded(seed: int, pool: int, count: int) -> tuple[Tensor, dict]:
        pictures, said, drawn = captioned(seed, pool, count, objects, pipe.size)
        pictures = pictures.to(pipe.device)
        more = {} if shown is None else {name: x.to(pipe.device) for name, x in shown(pictures, drawn).items()}
        return pipe.encode(pictures).float(), pipe.condition(said) | more

    return encoded


def from_pool(encoded: Encoded, step: int, batch: int, source: draws.Source = None) -> tuple[Tensor, dict]:
    """The batch of training step `step`, from its pool of POOL batches: the samples that `source` asks for."""
    x0, condition = encoded(UNET_SEED, step // (POOL * REUSE), POOL * batch)
    order = torch.randperm(POOL * batch, generator=torch.Generator().manual_seed(step // POOL))
    some = order[step % POOL * batch :][draws.places(batch, source)].to(x0.device)
    return x0[some], {name: value[some] for name, value in condition.items()}


def untold(condition: dict, empty: Tensor | None, share: float, generator: draws.Source) -> dict:
    """The condition with so large a share of the prompts exchanged for the empty one's states (1, n, d), if any."""
    if empty is None:
        return condition
    drop = draws.uniform(condition["context"].shape[:1], generator) < share
    return condition | {"context": torch.where(drop[:, None, None].to(empty.device), empty, condition["context"])}


def plainly(network: nn.Module, condition: dict, generator: draws.Source) -> tuple[Network, dict]:
    return network, condition


def denoising_run(pipe: LatentDiffusion, model: nn.Module, finish: Callable[[nn.Module], nn.Module], *,
                  objects: int | None = None, shown: Shown | None = None, asked: Asked = plainly, batch: int = 64,
                  steps: int = 10_000, lr: float = 1e-3, unsaid: float = 0.1, noisy: float = 0.5) -> Run:  # fmt: skip
    """Train `model` to answer as the U-Net of `pipe` should: on scenes, their captions, and what `shown` gives beside.

    `asked` says what is called with what. A caption is left out with probability `unsaid`, so that one network also
    answers without it (Ho & Salimans 2022, algorithm 1). With a prompt, `noisy` of the levels are drawn from the
    noisiest quarter, where it is decided what is where.
    """
    empty, noisy = (pipe.text([""]).detach(), noisy) if pipe.text else (None, 0.0)
    encoded = told(pipe, objects, shown)

    def error(model: nn.Module, x0: Tensor, condition: dict, generator: draws.Source, noisy: float) -> Tensor:
        network, condition = asked(model, untold(condition, empty, unsaid, generator), generator)
        return diffusion_loss(network, x0, pipe.schedule, pipe.prediction, generator, noisy, **condition).mean()

    def loss(step: int, generator: draws.Source) -> Tensor:
        return error(model, *from_pool(encoded, step, batch, generator), generator, noisy)

    @torch.no_grad()
    def check(model: nn.Module) -> float:
        return error(model, *encoded(CHECK_SEED, 2, 256), torch.Generator().manual_seed(0), 0.0).item()

    # measured on two cores: in bfloat16 a step takes 1.3 to 1.5 times as long
    half = torch.bfloat16 if pipe.device.type == "cuda" else None
    return Run(model, loss, check, finish, steps, lr, batch=batch, autocast=half)


def diffusion_run(vae: VAE | None = None, words: text.Text | None = None, config: UNetConfig = LATENT_CONFIG,
                  objects: int | None = None, prediction: str = "v", device: str | torch.device = "cpu",
                  **options: float) -> Run:  # fmt: skip
    """A diffusion model of scenes: in the latents of `vae` or (None) in pixels, told in `words` or (None) not at all.

    On cosine rows, or for a `prediction` of "flow" on straight ones. `vae` and `words` stay as they are. options: see
    `denoising_run`.
    """
    model = UNet(config)
    rows = levels.flow() if prediction == "flow" else levels.cosine()
    pipe = LatentDiffusion(model, vae, words, schedule=rows, prediction=prediction, spacing="trailing").to(device)
    return denoising_run(pipe, model, into(pipe), objects=objects, **options)


def into(pipe: LatentDiffusion) -> Callable[[nn.Module], nn.Module]:
    """What ends the training of a pipeline's U-Net: the pipeline with the trained one."""

    def finish(unet: nn.Module) -> nn.Module:
        pipe.unet = unet
        return pipe

    return finish
