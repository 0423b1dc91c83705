"""The autoencoders: the convolutional `VAE` of latent diffusion, and the small fully connected `FlatVAE`."""

import math
from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor, nn

from . import draws, strips
from .files import UserError
from .layers import DEEPEST, Attention, Downsample, ResnetBlock, Upsample, check_groups, check_whole, check_widths

EPS = 1e-6  # every GroupNorm of the published VAE, unlike the U-Net's 1e-5


@dataclass(frozen=True)
class VAEConfig:
    """The shape of a `VAE`. The defaults are the published Stable Diffusion 1.5 autoencoder."""

    in_channels: int = 3
    out_channels: int = 3
    block_out_channels: tuple[int, ...] = (128, 256, 512, 512)  # one level each; all but the last halve the picture
    layers_per_block: int = 2  # resnets a level on the way down, one more on the way up
    latent_channels: int = 4
    norm_num_groups: int = 32
    scaling_factor: float = 0.18215  # what the diffusion model sees is latent * scaling_factor, of unit variance

    def __post_init__(self):
        """Raises `UserError` for fields that make no autoencoder."""
        for name in ("in_channels", "out_channels", "latent_channels", "norm_num_groups"):
            check_whole(name, getattr(self, name))
        check_whole("layers_per_block", self.layers_per_block, 1, DEEPEST)
        check_widths("block_out_channels", self.block_out_channels)
        scale = self.scaling_factor
        if isinstance(scale, bool) or not isinstance(scale, int | float) or not 0 < scale < math.inf:
            raise UserError("scaling_factor", scale, "a finite number above 0")

    @property
    def downscale(self) -> int:
        """Pixels along one side of a latent's cell: 8 for the published model."""
        return 2 ** (len(self.block_out_channels) - 1)


class VAEAttention(Attention):
    """Self-attention with one head over all places of a feature map: (b, c, h, w) -> (b, c, h, w)."""

    def __init__(self, c: int, groups: int):
        super().__init__(c, heads=1, bias=True)
        self.group_norm = nn.GroupNorm(groups, c, eps=EPS)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.group_norm(x).flatten(2).transpose(1, 2)  #                         (b, h*w, c)
        return x + super().forward(tokens).transpose(1, 2).unflatten(2, x.shape[2:])  #   (b, c, h, w)


class Block(nn.Module):
    """One level: resnets, then a change of size (or none)."""

    def __init__(self, c_in: int, c_out: int, layers: int, groups: int, resample: str | None):
        super().__init__()
        channels = [c_in] + [c_out] * layers
        self.resnets = nn.ModuleList(
            ResnetBlock(a, b, groups, EPS) for a, b in zip(channels, channels[1:], strict=False)
        )
        if resample == "down":
            self.downsamplers = nn.ModuleList([Downsample(c_out, padding=0)])
        elif resample == "up":
            self.upsamplers = nn.ModuleList([Upsample(c_out)])
        self.resample = resample

    def forward(self, x: Tensor) -> Tensor:
        for resnet in self.resnets:
            x = resnet(x)
        if self.resample:
            x = getattr(self, f"{self.resample}samplers")[0](x)
        return x


class MidBlock(nn.Module):
    """Resnet, attention, resnet at the smallest size."""

    def __init__(self, c: int, groups: int):
        super().__init__()
        self.resnets = nn.ModuleList(ResnetBlock(c, c, groups, EPS) for _ in range(2))
        self.attentions = nn.ModuleList([VAEAttention(c, groups)])

    def forward(self, x: Tensor) -> Tensor:
        return self.resnets[1](self.attentions[0](self.resnets[0](x)))


class Encoder(nn.Module):
    """Pixels (b, 3, h, w) -> moments (b, 2 * latent_channels, h/f, w/f)."""

    def __init__(self, config: VAEConfig):
        super().__init__()
        channels, groups = config.block_out_channels, config.norm_num_groups
        self.conv_in = nn.Conv2d(config.in_channels, channels[0], 3, padding=1)
        self.down_blocks = nn.ModuleList(
            Block(channels[max(i - 1, 0)], c, config.layers_per_block, groups,
                  "down" if i + 1 < len(channels) else None)
            for i, c in enumerate(channels)
        )  # fmt: skip
        self.mid_block = MidBlock(channels[-1], groups)
        self.conv_norm_out = nn.GroupNorm(groups, channels[-1], eps=EPS)
        self.conv_out = nn.Conv2d(channels[-1], 2 * config.latent_channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv_in(x)  #                                                            (b, c0, h, w)
        for block in self.down_blocks:
            x = block(x)
        return self.conv_out(F.silu(self.conv_norm_out(self.mid_block(x))))  #            (b, 2*latent, h/f, w/f)


class Decoder(nn.Module):
    """Latents (b, latent_channels, h/f, w/f) -> pixels (b, 3, h, w)."""

    def __init__(self, config: VAEConfig):
        super().__init__()
        channels, groups = config.block_out_channels[::-1], config.norm_num_groups
        self.conv_in = nn.Conv2d(config.latent_channels, channels[0], 3, padding=1)
        self.mid_block = MidBlock(channels[0], groups)
        self.up_blocks = nn.ModuleList(
            Block(channels[max(i - 1, 0)], c, config.layers_per_block + 1, groups,
                  "up" if i + 1 < len(channels) else None)
            for i, c in enumerate(channels)
        )  # fmt: skip
        self.conv_norm_out = nn.GroupNorm(groups, channels[-1], eps=EPS)
        self.conv_out = nn.Conv2d(channels[-1], config.out_channels, 3, padding=1)

    def forward(self, z: Tensor, rows: int | None = None) -> Tensor:
        x = self.mid_block(self.conv_in(z))  #                                            (b, c, h/f, w/f)
        return strips.enlarge(self, x, rows) if rows else self.enlarge(x)

    def enlarge(self, x: Tensor) -> Tensor:
        """The middle's map (b, c, h/f, w/f) -> pixels (b, 3, h, w): where nearly all memory goes."""
        for block in self.up_blocks:
            x = block(x)
        return self.conv_out(F.silu(self.conv_norm_out(x)))  #                            (b, 3, h, w)


class VAE(nn.Module):
    """The KL autoencoder of latent diffusion (Rombach et al. 2022, section 3.1 and appendix G).

    `encode` gives a Gaussian over latents, `decode` turns a latent back into a picture. Latents here are the
    network's own; the diffusion model sees them times `config.scaling_factor` (see `pipe.LatentDiffusion`).
    """

    def __init__(self, config: VAEConfig | None = None):
        super().__init__()
        self.config = config = config or VAEConfig()
        check_groups(config.block_out_channels, config.norm_num_groups)
        self.encoder = Encoder(config)
        self.quant_conv = nn.Conv2d(2 * config.latent_channels, 2 * config.latent_channels, 1)
        self.post_quant_conv = nn.Conv2d(config.latent_channels, config.latent_channels, 1)
        self.decoder = Decoder(config)

    def encode(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Pixels (b, 3, h, w) in -1..1 -> mean and logvar, each (b, latent_channels, h/f, w/f)."""
        mean, logvar = self.quant_conv(self.encoder(pixels)).chunk(2, dim=1)
        return mean, logvar.clamp(-30, 20)  # the published bounds: exp never overflows

    def decode(self, z: Tensor, rows: int | None = None) -> Tensor:
        """Latents (b, latent_channels, h/f, w/f) -> pixels (b, 3, h, w), near -1..1 but not clamped.

        With `rows`, so many rows of latents at a time (see `strips`): the same picture with less memory.
        """
        return self.decoder(self.post_quant_conv(z), rows)


class FlatVAE(nn.Module):
    """A fully connected VAE for small pictures (Kingma & Welling 2014, appendix C), as lesson 02 derives it.

    Pictures (b, c, h, w) of `shape` (c, h, w) in -1..1; latents are vectors (b, latent).
    """

    def __init__(self, shape: tuple[int, int, int] = (1, 8, 8), latent: int = 2, hidden: int = 256):
        super().__init__()
        self.shape, self.latent, self.hidden = tuple(shape), latent, hidden
        d = shape[0] * shape[1] * shape[2]
        self.encoder = nn.Sequential(
            nn.Flatten(), nn.Linear(d, hidden), nn.SiLU(), nn.Linear(hidden, hidden), nn.SiLU(),
            nn.Linear(hidden, 2 * latent),
        )  # fmt: skip
        self.decoder = nn.Sequential(
            nn.Linear(latent, hidden), nn.SiLU(), nn.Linear(hidden, hidden), nn.SiLU(), nn.Linear(hidden, d)
        )

    def encode(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Pictures (b, c, h, w) -> mean and logvar, each (b, latent)."""
        return self.encoder(pixels).chunk(2, dim=1)

    def decode(self, z: Tensor) -> Tensor:
        """Latents (b, latent) -> pictures (b, c, h, w)."""
        return self.decoder(z).unflatten(1, self.shape)


def sample_latent(mean: Tensor, logvar: Tensor, generator: draws.Source = None) -> Tensor:
    """A draw from N(mean, exp(logvar)), differentiable in both: mean + exp(logvar / 2) * eps.

    The reparameterisation trick (Kingma & Welling 2014, section 2.4). Noise is drawn on the CPU and moved,
    so that a seed means the same draw on every device.
    """
    eps = draws.normal(mean.shape, generator).to(mean)
    return mean + (0.5 * logvar).exp() * eps


def kl_divergence(mean: Tensor, logvar: Tensor) -> Tensor:
    """KL(N(mean, exp(logvar)) || N(0, 1)) in nats, summed over all but the batch: (b, ...) -> (b,).

    Kingma & Welling 2014, appendix B.
    """
    return 0.5 * (mean.square() + logvar.exp() - 1 - logvar).flatten(1).sum(1)
