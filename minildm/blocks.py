"""The shape of a U-Net, and the blocks it is made of; `unet` puts them together."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .files import UserError
from .layers import DEEPEST, Attention, Downsample, ResnetBlock, Upsample, check_groups, check_whole, check_widths

EPS = 1e-5  # GroupNorms of resnets and output; the one at the head of a transformer has 1e-6


@dataclass(frozen=True)
class UNetConfig:
    """The shape of a `UNet`. The defaults are the published Stable Diffusion 1.5 network."""

    in_channels: int = 4
    out_channels: int = 4
    block_out_channels: tuple[int, ...] = (320, 640, 1280, 1280)  # one level each; all but the last halve the size
    layers_per_block: int = 2  # resnets a level on the way down, one more on the way up
    transformer_layers: tuple[int, ...] = (1, 1, 1, 0)  # transformer blocks after each resnet of a level; 0: none
    mid_layers: int = 1  # transformer blocks in the middle
    heads: tuple[int, ...] = (8, 8, 8, 8)  # the NUMBER of attention heads at each level
    context_dim: int | None = 768  # width of the text states; None leaves the cross-attention out
    linear_projection: bool = False  # SD 1.x enters and leaves a transformer by 1x1 convolutions
    norm_num_groups: int = 32
    added_dim: int | None = None  # width of what SDXL adds to the time embedding: pooled text and sizes
    num_class_embeds: int | None = None  # labels that the time embedding knows; an upscaler's is a level of noise
    only_cross_attention: tuple[bool, ...] = ()  # levels whose places look at the text alone; (): none

    def __post_init__(self):
        """Raises `UserError` for fields that no network can have; see `check` for those that fit no other field."""
        for name in ("in_channels", "out_channels", "norm_num_groups"):
            check_whole(name, getattr(self, name))
        check_whole("layers_per_block", self.layers_per_block, 1, DEEPEST)
        check_whole("mid_layers", self.mid_layers, 0, DEEPEST)
        for name in ("context_dim", "added_dim", "num_class_embeds"):
            if getattr(self, name) is not None:
                check_whole(name, getattr(self, name))
        check_widths("block_out_channels", self.block_out_channels)
        levels = len(self.block_out_channels)
        rows = {"transformer_layers": (0, DEEPEST), "heads": (1, max(self.block_out_channels))}
        for name, (least, most) in rows.items():
            check_widths(name, getattr(self, name), least, most)
        for name in (*rows, *(["only_cross_attention"] if self.only_cross_attention else [])):
            values = getattr(self, name)
            if not isinstance(values, tuple | list) or len(values) != levels:
                raise UserError(name, values, f"{levels} numbers, one for each of block_out_channels")

    def check(self) -> None:
        """Raises `UserError` where groups or heads do not divide the widths: what a network of this config would do."""
        check_groups(self.block_out_channels, self.norm_num_groups)
        if self.block_out_channels[0] % 2:
            raise UserError("block_out_channels", self.block_out_channels, "an even one first: half of it are sines")
        crossed = [*self.transformer_layers[:-1], self.transformer_layers[-1] or self.mid_layers]
        for width, heads, layers in zip(self.block_out_channels, self.heads, crossed, strict=True):
            if layers and width % heads:
                raise UserError("heads", self.heads, f"divisors of block_out_channels, {self.block_out_channels}")


class GEGLU(nn.Module):
    """A linear layer to twice `d_out`; one half gates the other (Shazeer 2020, eq. 5)."""

    def __init__(self, d_in: int, d_out: int):
        super().__init__()
        self.proj = nn.Linear(d_in, 2 * d_out)

    def forward(self, x: Tensor) -> Tensor:
        value, gate = self.proj(x).chunk(2, dim=-1)
        return value * F.gelu(gate)


class FeedForward(nn.Module):
    """GEGLU to four times the width and back: (b, n, d) -> (b, n, d)."""

    def __init__(self, dim: int):
        super().__init__()
        # the empty middle keeps the published key `net.2`; it was a dropout of probability 0
        self.net = nn.Sequential(GEGLU(dim, 4 * dim), nn.Identity(), nn.Linear(4 * dim, dim))

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)


class TransformerBlock(nn.Module):
    """Self-attention, cross-attention to the text, feed-forward, each around a shortcut: (b, n, d) -> (b, n, d).

    only_cross: the first attention looks at the text too, and no place at any other.
    """

    def __init__(self, dim: int, heads: int, context_dim: int | None, only_cross: bool = False):
        super().__init__()
        self.only_cross = only_cross
        self.norm1 = nn.LayerNorm(dim)
        self.attn1 = Attention(dim, heads, context_dim if only_cross else None)
        if context_dim is not None:
            self.norm2 = nn.LayerNorm(dim)
            self.attn2 = Attention(dim, heads, context_dim)
        self.norm3 = nn.LayerNorm(dim)
        self.ff = FeedForward(dim)

    def forward(self, x: Tensor, context: Tensor | None) -> Tensor:
        x = x + self.attn1(self.norm1(x), context if self.only_cross else None)
        if context is not None:
            x = x + self.attn2(self.norm2(x), context)
        return x + self.ff(self.norm3(x))


class Transformer(nn.Module):
    """A feature map as a sequence of places, through transformer blocks and back: (b, c, h, w) -> (b, c, h, w)."""

    def __init__(self, c: int, layers: int, heads: int, config: UNetConfig, only_cross: bool = False):
        super().__init__()
        self.linear = config.linear_projection
        self.norm = nn.GroupNorm(config.norm_num_groups, c, eps=1e-6)
        self.proj_in = nn.Linear(c, c) if self.linear else nn.Conv2d(c, c, 1)
        self.transformer_blocks = nn.ModuleList(
            TransformerBlock(c, heads, config.context_dim, only_cross) for _ in range(layers)
        )
        self.proj_out = nn.Linear(c, c) if self.linear else nn.Conv2d(c, c, 1)

    def forward(self, x: Tensor, context: Tensor | None) -> Tensor:
        shortcut, size = x, x.shape[2:]
        x = self.norm(x)
        x = x if self.linear else self.proj_in(x)
        x = x.flatten(2).transpose(1, 2)  #                                               (b, h*w, c)
        x = self.proj_in(x) if self.linear else x
        for block in self.transformer_blocks:
            x = block(x, context)
        x = self.proj_out(x) if self.linear else x
        x = x.transpose(1, 2).unflatten(2, size)  #                                       (b, c, h, w)
        return shortcut + (x if self.linear else self.proj_out(x))


class Stage(nn.Module):
    """Resnets, each followed by a transformer where the level has one: the common part of both ways."""

    def __init__(self, channels: list[tuple[int, int]], level: int, config: UNetConfig):
        super().__init__()
        time_dim = 4 * config.block_out_channels[0]
        self.resnets = nn.ModuleList(
            ResnetBlock(c_in, c_out, config.norm_num_groups, EPS, time_dim) for c_in, c_out in channels
        )
        self.attentions = transformers(level, config.transformer_layers[level], len(channels), config)

    def step(self, i: int, x: Tensor, time: Tensor, context: Tensor | None) -> Tensor:
        x = self.resnets[i](x, time)
        return self.attentions[i](x, context) if self.attentions else x


def transformers(level: int, layers: int, count: int, config: UNetConfig) -> nn.ModuleList | None:
    """`count` transformers of `layers` blocks for one level, or None where it has none."""
    c, heads = config.block_out_channels[level], config.heads[level]
    only_cross = bool(config.only_cross_attention) and level >= 0 and config.only_cross_attention[level]
    return nn.ModuleList(Transformer(c, layers, heads, config, only_cross) for _ in range(count)) if layers else None


class DownBlock(Stage):
    """One level on the way down; `forward` gives the new map and what the way up will be shown again."""

    def __init__(self, level: int, config: UNetConfig):
        c = config.block_out_channels
        channels = [c[max(level - 1, 0)]] + [c[level]] * config.layers_per_block
        super().__init__(list(zip(channels, channels[1:], strict=False)), level, config)
        last = level + 1 == len(c)
        self.downsamplers = None if last else nn.ModuleList([Downsample(c[level], padding=1)])

    def forward(self, x: Tensor, time: Tensor, context: Tensor | None) -> tuple[Tensor, list[Tensor]]:
        skips = []
        for i in range(len(self.resnets)):
            x = self.step(i, x, time, context)
            skips.append(x)
        if self.downsamplers:
            x = self.downsamplers[0](x)  #                                                (b, c, h/2, w/2)
            skips.append(x)
        return x, skips


class MidBlock(nn.Module):
    """Resnet, transformer, resnet at the smallest size."""

    def __init__(self, config: UNetConfig):
        super().__init__()
        c, time_dim = config.block_out_channels[-1], 4 * config.block_out_channels[0]
        self.resnets = nn.ModuleList(
            ResnetBlock(c, c, config.norm_num_groups, EPS, time_dim) for _ in range(2)
        )
        self.attentions = transformers(-1, config.mid_layers, 1, config)

    def forward(self, x: Tensor, time: Tensor, context: Tensor | None) -> Tensor:
        x = self.resnets[0](x, time)
        if self.attentions:
            x = self.attentions[0](x, context)
        return self.resnets[1](x, time)


class UpBlock(Stage):
    """One level on the way up; each resnet is given what the way down left, joined along the channels."""

    def __init__(self, level: int, config: UNetConfig):
        c, n = config.block_out_channels, config.layers_per_block + 1
        below = c[min(level + 1, len(c) - 1)]  # what comes up from the level below
        skips = [c[level]] * (n - 1) + [c[max(level - 1, 0)]]
        inputs = [below] + [c[level]] * (n - 1)
        super().__init__([(a + b, c[level]) for a, b in zip(inputs, skips, strict=True)], level, config)
        self.upsamplers = nn.ModuleList([Upsample(c[level])]) if level else None

    def forward(self, x: Tensor, skips: list[Tensor], time: Tensor, context: Tensor | None) -> Tensor:
        for i in range(len(self.resnets)):
            x = self.step(i, torch.cat([x, skips.pop()], dim=1), time, context)
        return self.upsamplers[0](x, skips[-1].shape[2:]) if self.upsamplers else x
