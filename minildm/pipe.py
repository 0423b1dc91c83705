"""The parts of a diffusion model held together: `LatentDiffusion`. It samples nothing and opens no files."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from . import levels
from .files import UserError
from .layers import timestep_embedding
from .pictures import check_size
from .unet import SINUSOIDS
from .vae import sample_latent

# How published samplers choose their rows where a model's scheduler configuration does not say.
SPACING = {
    "ddim": "leading", "ddpm": "leading", "pndm": "leading", "euler": "linspace", "heun": "linspace",
    "dpmpp_2m": "rounded",
}  # fmt: skip


class LatentDiffusion(nn.Module):
    """A U-Net with what it needs: an autoencoder, a text tower, a schedule and the meaning of its answer.

    unet: `UNet`. vae: `VAE`, or None for a model of pixels. text: `Text`, or None for a model without prompts.
    schedule: `levels.Schedule` it was trained on. prediction: "eps", "v", "x0" or "flow". spacing and offset choose
    rows as `levels.pick` does, spacing None by the sampler's own custom; last is the row ddim and pndm end on.
    zeros_for_empty: guidance starts from zeros, not from the empty text. rescale: see `denoise.guided`.
    karras: rows between the same ends spaced by `levels.karras`, for euler, heun and dpmpp_2m.
    low: the schedule by which an upscaler's low-resolution picture is noised, a U-Net's label being the row.
    The same class holds the lessons' tiny models and the published ones (Rombach et al. 2022, section 3).
    """

    def __init__(self, unet: nn.Module, vae: nn.Module | None = None, text: nn.Module | None = None, *,
                 schedule: levels.Schedule, prediction: str = "eps", spacing: str | None = None,
                 offset: int = 1, last: str = "clean", size: int = 32, zeros_for_empty: bool = False,
                 rescale: float = 0.0, karras: bool = False, low: levels.Schedule | None = None):  # fmt: skip
        super().__init__()
        self.unet, self.vae, self.text = unet, vae, text
        self.schedule, self.prediction = schedule, prediction
        self.spacing, self.offset, self.last = spacing, offset, last
        self.zeros_for_empty, self.rescale, self.karras, self.low = zeros_for_empty, rescale, karras, low
        self.strip: int | None = None  # `decode` so many rows of latents at a time: see `strips`
        self.offloaded: torch.device | None = None
        self.size = size  # height and width of a picture, in pixels, where nobody asks for another

    @property
    def device(self) -> torch.device:
        return self.offloaded or self.unet.conv_in.weight.device

    def offload(self, device: torch.device | str) -> "LatentDiffusion":
        """Keep every part on the CPU and bring it to `device` for its own stage only; returns self.

        The largest part decides how much memory it takes there, not their sum.
        """
        self.to("cpu")
        self.offloaded = torch.device(device)
        return self

    @contextmanager
    def at_work(self, part: nn.Module) -> Iterator[None]:
        """While this lasts, a part of an offloaded pipeline lies where it computes."""
        if self.offloaded is None:
            yield
            return
        part.to(self.offloaded)
        try:
            yield
        finally:
            part.to("cpu")

    @property
    def factor(self) -> int:
        """Pixels along one side of a latent's cell; 1 without an autoencoder."""
        return 1 if self.vae is None else self.vae.config.downscale

    @property
    def dtype(self) -> torch.dtype:
        return self.unet.conv_in.weight.dtype

    @property
    def vae_dtype(self) -> torch.dtype:
        return self.vae.post_quant_conv.weight.dtype  # not always the U-Net's: SDXL's autoencoder overflows in float16

    def encode(self, pixels: Tensor, generator: torch.Generator | None = None, draw: bool = False) -> Tensor:
        """Pixels (b, 3, h, w) in -1..1 -> latents (b, c, h/f, w/f) of about unit variance, as the U-Net sees them.

        The mean of the encoder's Gaussian, or with `draw` a draw from it. Without an autoencoder: the pixels.
        """
        if self.vae is None:
            return pixels
        with self.at_work(self.vae):
            mean, logvar = self.vae.encode(pixels.to(self.device, self.vae_dtype))
        return (sample_latent(mean, logvar, generator) if draw else mean) * self.vae.config.scaling_factor

    def decode(self, z: Tensor) -> Tensor:
        """Latents (b, c, h/f, w/f) -> pixels (b, 3, h, w) in -1..1. The inverse scale of `encode`, then the decoder."""
        if self.vae is not None:
            scaled = z.to(self.device, self.vae_dtype) / self.vae.config.scaling_factor
            with self.at_work(self.vae):
                z = self.vae.decode(scaled, self.strip).to(z.dtype)
        return z.clamp(-1, 1)

    def latent_shape(self, height: int | None = None, width: int | None = None) -> tuple[int, int, int]:
        """(c, h, w) of the latents of a picture of this height and width in pixels (by default the model's own).

        Raises `UserError` for a size that the autoencoder cannot halve as often as it has to, or too large a one.
        """
        factor, vae = self.factor, self.vae
        height, width = self._sides(height, width)
        check_size(height, width, factor=factor)
        # U-Nets that paint into a picture or enlarge one take in more channels than a latent has
        channels = self.unet.config.in_channels if vae is None else vae.config.latent_channels
        return channels, height // factor, width // factor

    def _sides(self, height: int | None, width: int | None) -> tuple[int, int]:
        return self.size if height is None else height, self.size if width is None else width

    @torch.no_grad()
    def condition(self, prompts: Sequence[str], height: int | None = None, width: int | None = None) -> dict:
        """Prompts -> the keyword arguments of the U-Net call: {"context": (b, n, d)}, or {} without a text tower.

        A U-Net that asks for more (SDXL) gets {"added": (b, d)} too: the pooled state, and the sinusoids of what the
        picture's size was, where it was cropped, and what size is wanted (Podell et al. 2024, arXiv 2307.01952).
        """
        if self.text is None:
            return {}
        with self.at_work(self.text):
            context, pooled = self.text.both(list(prompts))
        return self._with_sizes(context, pooled, height, width)

    @torch.no_grad()
    def uncondition(self, count: int, height: int | None = None, width: int | None = None) -> dict:
        """The same for `count` pictures of which nothing is said: the empty text, or zeros where `zeros_for_empty`."""
        if self.text is None or not self.zeros_for_empty:
            return self.condition([""] * count, height, width)
        config, tokens = self.unet.config, self.text.tokenizer.model_max_length
        context = torch.zeros(count, tokens, config.context_dim, dtype=self.dtype, device=self.device)
        pooled = context.new_zeros(count, config.added_dim - 6 * SINUSOIDS if config.added_dim else 0)
        return self._with_sizes(context, pooled, height, width)

    def _with_sizes(self, context: Tensor, pooled: Tensor, height: int | None, width: int | None) -> dict:
        if self.unet.config.added_dim is None:
            return {"context": context}
        height, width = self._sides(height, width)
        sizes = torch.tensor([height, width, 0, 0, height, width], device=context.device)
        sines = timestep_embedding(sizes, SINUSOIDS).flatten().expand(len(pooled), -1)  # (b, 6 * SINUSOIDS)
        return {"context": context, "added": torch.cat([pooled, sines.to(pooled.dtype)], dim=-1)}

    def rows(self, steps: int, sampler: str) -> list[levels.Level]:
        """The steps + 1 rows that `sampler` goes through, noisiest first."""
        limit = len(self.schedule) - (sampler == "dpmpp_2m")
        if isinstance(steps, bool) or not isinstance(steps, int) or not 1 <= steps <= limit:
            raise UserError("steps", steps, f"a whole number from 1 to {limit}")
        last = self.last if sampler in ("ddim", "pndm") else "clean"
        spacing = self.spacing or SPACING[sampler]
        if sampler != "dpmpp_2m":
            rows = levels.pick(self.schedule, steps, spacing, self.offset, last)
            return levels.karras(self.schedule, rows) if self.karras and sampler in ("euler", "heun") else rows
        if self.karras:  # as published: between the ends of the table, told in whole timesteps
            rows = levels.karras(self.schedule, levels.pick(self.schedule, steps, "linspace"))
            return [row._replace(t=float(round(row.t))) for row in rows]
        rows = levels.pick(self.schedule, steps + 1, spacing, self.offset, last)
        return rows[:-2] + rows[-1:]  # as published: one step more, and the last one before the end left out
