"""The parts that several networks share.

Attribute names are the keys of the published checkpoints (the Hugging Face `diffusers` folder layout),
so that a file of weights fits without a name table.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .files import UserError

WIDEST, DEEPEST = 2**16, 64  # of a network: far beyond any that was published, and a computer can still count so far


def check_whole(name: str, value: object, least: int = 1, most: int = WIDEST) -> None:
    """Raises `UserError` for what is no whole number from least to most."""
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise UserError(name, value, f"a whole number from {least} to {most}")


def check_widths(name: str, values: object, least: int = 1, most: int = WIDEST) -> None:
    """Raises `UserError` for what is no tuple of at least one such number."""
    if not isinstance(values, tuple | list) or not 1 <= len(values) <= DEEPEST:
        raise UserError(name, values, f"1 to {DEEPEST} whole numbers")
    for value in values:
        check_whole(name, value, least, most)


def check_groups(widths: tuple[int, ...], groups: int) -> None:
    """Raises `UserError` where GroupNorm cannot divide one of a network's widths."""
    if any(width % groups for width in widths):
        raise UserError("block_out_channels", widths, f"multiples of norm_num_groups, {groups}")


def timestep_embedding(t: Tensor, dim: int) -> Tensor:
    """Sinusoids of a timestep, cosines first: (b,) -> (b, dim), float32, every entry in -1..1.

    Source: Ho et al. 2020, appendix B, after Vaswani et al. 2017, section 3.5. The frequencies are taken as
    exp(-ln(10000) i / half) in float32, in the published code's order of operations.
    """
    half = dim // 2
    frequency = torch.exp(-math.log(10000) * torch.arange(half, dtype=torch.float32, device=t.device) / half)
    angle = t.float()[:, None] * frequency[None]  #                                       (b, half)
    return torch.cat([angle.cos(), angle.sin()], dim=-1)  #                               (b, dim)


class TimestepEmbedding(nn.Module):
    """Two linear layers with SiLU between: sinusoids (b, d_in) -> embedding (b, d_out)."""

    def __init__(self, d_in: int, d_out: int):
        super().__init__()
        self.linear_1 = nn.Linear(d_in, d_out)
        self.linear_2 = nn.Linear(d_out, d_out)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear_2(F.silu(self.linear_1(x)))


class ResnetBlock(nn.Module):
    """Two 3x3 convolutions around a shortcut: (b, c_in, h, w) -> (b, c_out, h, w).

    With `time_dim`, the time embedding is added between the two (Ho et al. 2020, appendix B).
    """

    def __init__(self, c_in: int, c_out: int, groups: int, eps: float, time_dim: int | None = None):
        super().__init__()
        self.norm1 = nn.GroupNorm(groups, c_in, eps=eps)
        self.conv1 = nn.Conv2d(c_in, c_out, 3, padding=1)
        if time_dim is not None:
            self.time_emb_proj = nn.Linear(time_dim, c_out)
        self.norm2 = nn.GroupNorm(groups, c_out, eps=eps)
        self.conv2 = nn.Conv2d(c_out, c_out, 3, padding=1)
        self.conv_shortcut = nn.Conv2d(c_in, c_out, 1) if c_in != c_out else None

    def forward(self, x: Tensor, time: Tensor | None = None) -> Tensor:
        h = self.conv1(F.silu(self.norm1(x)))
        if time is not None:
            h = h + self.time_emb_proj(F.silu(time))[:, :, None, None]
        h = self.conv2(F.silu(self.norm2(h)))
        return h + (x if self.conv_shortcut is None else self.conv_shortcut(x))


class Attention(nn.Module):
    """Multi-head attention (Vaswani et al. 2017, eq. 1): tokens (b, n, d) look at context (b, m, d_context).

    Without a context the tokens look at themselves.
    """

    def __init__(self, dim: int, heads: int, context_dim: int | None = None, bias: bool = False):
        super().__init__()
        self.heads = heads
        self.to_q = nn.Linear(dim, dim, bias=bias)
        self.to_k = nn.Linear(context_dim or dim, dim, bias=bias)
        self.to_v = nn.Linear(context_dim or dim, dim, bias=bias)
        self.to_out = nn.ModuleList([nn.Linear(dim, dim)])

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        context = x if context is None else context
        q, k, v = (self.split(y) for y in (self.to_q(x), self.to_k(context), self.to_v(context)))
        out = F.scaled_dot_product_attention(q, k, v)
        return self.to_out[0](out.transpose(1, 2).flatten(2))  #                          (b, n, d)

    def split(self, y: Tensor) -> Tensor:
        """(b, n, d) -> (b, heads, n, d/heads): head 0 has the first of the d numbers, and so on."""
        return y.unflatten(-1, (self.heads, -1)).transpose(1, 2)


@contextmanager
def watched(network: nn.Module, name: str = "attn2") -> Iterator[list[Tensor]]:
    """While it lasts, a list of what each `Attention` of this name looks at: shares (b, n, m), the mean of its heads.

    A row adds up to 1. "attn2" is where places look at words, "attn1" where they look at each other. The layer's own
    fused step never shows its shares; they are computed once more from what goes in.
    """
    seen = []

    def look(layer: Attention, inputs: tuple, _: Tensor) -> None:
        x, context = inputs if len(inputs) == 2 else (inputs[0], None)
        q, k = layer.split(layer.to_q(x)), layer.split(layer.to_k(x if context is None else context))
        seen.append((q @ k.mT / math.sqrt(q.shape[-1])).softmax(-1).mean(1))

    hooks = [layer.register_forward_hook(look) for path, layer in network.named_modules() if path.endswith(name)]
    try:
        yield seen
    finally:
        for hook in hooks:
            hook.remove()


class Downsample(nn.Module):
    """Half the height and width by a 3x3 convolution of stride 2.

    `padding` 1 pads all four sides (U-Net); 0 pads right and bottom only, as the published VAE encoder does.
    """

    def __init__(self, c: int, padding: int):
        super().__init__()
        self.conv = nn.Conv2d(c, c, 3, stride=2, padding=padding)

    def forward(self, x: Tensor) -> Tensor:
        if self.conv.padding == (0, 0):
            x = F.pad(x, (0, 1, 0, 1))
        return self.conv(x)  #                                                            (b, c, h/2, w/2)


class Upsample(nn.Module):
    """Nearest-neighbour enlargement to `size` (twice the height and width if not given), then a 3x3 convolution."""

    def __init__(self, c: int):
        super().__init__()
        self.conv = nn.Conv2d(c, c, 3, padding=1)

    def forward(self, x: Tensor, size: tuple[int, int] | None = None) -> Tensor:
        size = size or (2 * x.shape[2], 2 * x.shape[3])
        return self.conv(F.interpolate(x, size=size, mode="nearest"))  #                  (b, c, 2h, 2w)
