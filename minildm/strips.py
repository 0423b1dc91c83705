"""A decoder's way up, strip by strip: the same numbers as at once, with less memory.

Nearly all memory of decoding goes where maps are as large as the picture. A 3x3 convolution of a strip needs one row
of each neighbour; a GroupNorm needs the mean and variance of all strips, which are sums. So nothing is approximated
and nothing blended, unlike with tiles that are decoded on their own.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Strips = list[Tensor]  # of one map (b, c, h, w), cut along h


def enlarge(decoder: nn.Module, x: Tensor, rows: int) -> Tensor:
    """`Decoder.enlarge` of x (b, c, h, w), at most `rows` rows of it at a time."""
    strips = list(x.split(rows, dim=2))
    for block in decoder.up_blocks:
        for resnet in block.resnets:
            strips = _resnet(strips, resnet)
        if block.resample:
            strips = [F.interpolate(strip, scale_factor=2.0, mode="nearest") for strip in strips]
            strips = _conv(strips, block.upsamplers[0].conv)
    return torch.cat(_conv(strips, decoder.conv_out, _normed(strips, decoder.conv_norm_out)), dim=2)


def _resnet(strips: Strips, resnet: nn.Module) -> Strips:
    h = _conv(strips, resnet.conv1, _normed(strips, resnet.norm1))
    h = _conv(h, resnet.conv2, _normed(h, resnet.norm2))
    short = resnet.conv_shortcut
    for i, strip in enumerate(strips):
        h[i] += strip if short is None else short(strip)
    return h


def _normed(strips: Strips, norm: nn.GroupNorm) -> Callable[[Tensor], Tensor]:
    """GroupNorm by the statistics of all strips, then SiLU, as a function of any rows of them."""
    count = sum(strip[0, 0].numel() for strip in strips) * strips[0].shape[1] // norm.num_groups

    def sums(power: int, mean: Tensor | float = 0.0) -> Tensor:  #                        (b, groups, 1)
        parts = (strip.unflatten(1, (norm.num_groups, -1)).flatten(2).double() for strip in strips)
        return sum((part - mean).pow(power).sum(2, keepdim=True) for part in parts) / count

    mean = sums(1)
    scale = (sums(2, mean) + norm.eps).rsqrt()
    each = strips[0].shape[1] // norm.num_groups
    shape, wide = (len(mean), -1, 1, 1), torch.promote_types(strips[0].dtype, torch.float32)  # as GroupNorm computes
    mean, scale = (t.expand(-1, -1, each).reshape(shape).to(wide) for t in (mean, scale))
    gain, bias = norm.weight[:, None, None], norm.bias[:, None, None]
    return lambda rows: F.silu(((rows - mean) * scale * gain + bias).to(rows.dtype))


def _conv(strips: Strips, conv: nn.Conv2d, before: Callable[[Tensor], Tensor] = lambda rows: rows) -> Strips:
    """A 3x3 convolution, its padding 1, of the strips after the pointwise function `before`."""
    out = []
    for i, strip in enumerate(strips):
        above = [strips[i - 1][:, :, -1:]] if i else []
        below = [strips[i + 1][:, :, :1]] if i + 1 < len(strips) else []
        rows = before(torch.cat([*above, strip, *below], dim=2))
        rows = F.pad(rows, (1, 1, 0 if above else 1, 0 if below else 1))
        out.append(F.conv2d(rows, conv.weight, conv.bias))
    return out
