"""The U-Net of latent diffusion: one class for the lessons' tiny models and for the published ones."""

import torch.nn.functional as F
from torch import Tensor, nn

from .blocks import EPS, DownBlock, MidBlock, UNetConfig, UpBlock
from .files import UserError
from .layers import TimestepEmbedding, timestep_embedding

SINUSOIDS = 256  # of each of the six numbers that SDXL's sizes are


class WayDown(nn.Module):
    """The half of a U-Net that a ControlNet copies: the time embedding, the way down, the middle."""

    def __init__(self, config: UNetConfig):
        super().__init__()
        config.check()
        self.config = config
        c = config.block_out_channels
        self.conv_in = nn.Conv2d(config.in_channels, c[0], 3, padding=1)
        self.time_embedding = TimestepEmbedding(c[0], 4 * c[0])
        if config.added_dim is not None:
            self.add_embedding = TimestepEmbedding(config.added_dim, 4 * c[0])
        if config.num_class_embeds is not None:
            self.class_embedding = nn.Embedding(config.num_class_embeds, 4 * c[0])
        self.down_blocks = nn.ModuleList(DownBlock(i, config) for i in range(len(c)))
        self.mid_block = MidBlock(config)

    def descend(
        self, x: Tensor, t: Tensor, context: Tensor | None, added: Tensor | None, label: Tensor | None,
        hint: Tensor | None = None,
    ) -> tuple[Tensor, list[Tensor], Tensor]:  # fmt: skip
        """As `UNet.forward`, down to the middle: its map, what is kept for the way up, the time embedding (b, d).

        hint: (b, c0, h, w), added behind `conv_in`.
        """
        config = self.config
        for name, value, dim, kind in (
            ("context", context, config.context_dim, "a tensor whose last dimension is"),
            ("added", added, config.added_dim, "a tensor whose last dimension is"),
            ("label", label, config.num_class_embeds, "whole numbers, one a picture, below"),
        ):
            if (value is None) != (dim is None):
                got = None if value is None else tuple(value.shape)
                raise UserError(name, got, "None" if dim is None else f"{kind} {dim}")
        time = self.time_embedding(timestep_embedding(t, config.block_out_channels[0]).to(x.dtype))  # (b, d)
        if added is not None:
            time = time + self.add_embedding(added.to(x.dtype))
        if label is not None:
            time = time + self.class_embedding(label)
        x = self.conv_in(x)  #                                                            (b, c0, h, w)
        x = x if hint is None else x + hint
        skips = [x]
        for block in self.down_blocks:
            x, more = block(x, time, context)
            skips += more
        return self.mid_block(x, time, context), skips, time


class UNet(WayDown):
    """The denoising network: noisy latents, a timestep and the text's states -> its prediction.

    Ho et al. 2020 (appendix B) with the cross-attention of Rombach et al. 2022 (section 3.3). What the output
    means (eps, v, x0 or flow) is not the network's business: see `denoise`.
    """

    def __init__(self, config: UNetConfig | None = None):
        super().__init__(config := config or UNetConfig())
        c = config.block_out_channels
        self.up_blocks = nn.ModuleList(UpBlock(i, config) for i in reversed(range(len(c))))
        self.conv_norm_out = nn.GroupNorm(config.norm_num_groups, c[0], eps=EPS)
        self.conv_out = nn.Conv2d(c[0], config.out_channels, 3, padding=1)

    def forward(self, x: Tensor, t: Tensor, context: Tensor | None = None, added: Tensor | None = None,
                label: Tensor | None = None, control: list[Tensor] | None = None) -> Tensor:  # fmt: skip
        """Predict from x (b, c, h, w), timesteps t (b,) and text states (b, n, context_dim): (b, c_out, h, w).

        added: (b, added_dim), for networks that want it (Podell et al. 2024, arXiv 2307.01952). label: (b,) whole
        numbers below num_class_embeds, likewise. control: what a `ControlNet` answers, added to all that the way up
        is given: one map for each that the way down keeps, in its order, and one for the middle's.
        Raises `UserError` where context, added or label is missing, or given to a network that has no use for it.
        """
        x, skips, time = self.descend(x, t, context, added, label)
        if control is not None:
            *skips, x = [kept + more for kept, more in zip([*skips, x], control, strict=True)]
        for block in self.up_blocks:
            x = block(x, skips, time, context)
        return self.conv_out(F.silu(self.conv_norm_out(x)))  #                            (b, c_out, h, w)
