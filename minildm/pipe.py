"""The parts of a diffusion model held together: `LatentDiffusion`. It samples nothing and opens no files."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from . import levels
from .files import UserError
from .vae import sample_latent

# How published samplers choose their rows where a model's scheduler configuration does not say.
SPACING = {"ddim": "leading", "ddpm": "leading", "euler": "linspace", "heun": "linspace", "dpmpp_2m": "rounded"}


class LatentDiffusion(nn.Module):
    """A U-Net with what it needs: an autoencoder, a text tower, a schedule and the meaning of its answer.

    unet: `UNet`. vae: `VAE`, or None for a model of pixels. text: `Text`, or None for a model without prompts.
    schedule: `levels.Schedule` it was trained on. prediction: "eps", "v", "x0" or "flow". spacing and offset choose
    rows as `levels.pick` does, spacing None by the sampler's own custom; last is the row ddim and ddpm end on.
    The same class holds the lessons' tiny models and the published ones (Rombach et al. 2022, section 3).
    """

    def __init__(self, unet: nn.Module, vae: nn.Module | None = None, text: nn.Module | None = None, *,
                 schedule: levels.Schedule, prediction: str = "eps", spacing: str | None = None,
                 offset: int = 1, last: str = "clean", size: int = 32):  # fmt: skip
        super().__init__()
        self.unet, self.vae, self.text = unet, vae, text
        self.schedule, self.prediction = schedule, prediction
        self.spacing, self.offset, self.last = spacing, offset, last
        self.size = size  # height and width of a picture, in pixels, where nobody asks for another

    @property
    def device(self) -> torch.device:
        return self.unet.conv_in.weight.device

    @property
    def dtype(self) -> torch.dtype:
        return self.unet.conv_in.weight.dtype

    def encode(self, pixels: Tensor, generator: torch.Generator | None = None, draw: bool = False) -> Tensor:
        """Pixels (b, 3, h, w) in -1..1 -> latents (b, c, h/f, w/f) of about unit variance, as the U-Net sees them.

        The mean of the encoder's Gaussian, or with `draw` a draw from it. Without an autoencoder: the pixels.
        """
        if self.vae is None:
            return pixels
        mean, logvar = self.vae.encode(pixels)
        return (sample_latent(mean, logvar, generator) if draw else mean) * self.vae.config.scaling_factor

    def decode(self, z: Tensor) -> Tensor:
        """Latents (b, c, h/f, w/f) -> pixels (b, 3, h, w) in -1..1. The inverse scale of `encode`, then the decoder."""
        if self.vae is not None:
            z = self.vae.decode(z.to(self.dtype) / self.vae.config.scaling_factor).to(z.dtype)
        return z.clamp(-1, 1)

    def latent_shape(self, height: int | None = None, width: int | None = None) -> tuple[int, int, int]:
        """(c, h, w) of the latents of a picture of this height and width in pixels (by default the model's own).

        Raises `UserError` for a size that the autoencoder cannot halve as often as it has to.
        """
        factor = 1 if self.vae is None else self.vae.config.downscale
        height, width = height or self.size, width or self.size
        for name, value in (("height", height), ("width", width)):
            if not isinstance(value, int) or value <= 0 or value % factor:
                raise UserError(name, value, f"a positive multiple of {factor} pixels")
        return self.unet.config.in_channels, height // factor, width // factor

    @torch.no_grad()
    def condition(self, prompts: Sequence[str], height: int | None = None, width: int | None = None) -> dict:
        """Prompts -> the keyword arguments of the U-Net call: {"context": (b, n, d)}, or {} without a text tower."""
        return {} if self.text is None else {"context": self.text(list(prompts))}

    def rows(self, steps: int, sampler: str) -> list[levels.Level]:
        """The steps + 1 rows that `sampler` goes through, noisiest first."""
        limit = len(self.schedule) - (sampler == "dpmpp_2m")
        if isinstance(steps, bool) or not isinstance(steps, int) or not 1 <= steps <= limit:
            raise UserError("steps", steps, f"a whole number from 1 to {limit}")
        last = self.last if sampler in ("ddim", "ddpm") else "clean"
        spacing = self.spacing or SPACING[sampler]
        if sampler != "dpmpp_2m":
            return levels.pick(self.schedule, steps, spacing, self.offset, last)
        rows = levels.pick(self.schedule, steps + 1, spacing, self.offset, last)
        return rows[:-2] + rows[-1:]  # as published: one step more, and the last one before the end left out
