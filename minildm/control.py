"""ControlNet: a trainable copy of the U-Net's way down that reads a map and tells the U-Net what it saw.

Zhang et al. 2023 (arXiv 2302.05543). The U-Net itself is not touched. The copy sees a map beside the
noisy latents, and what it finds is added to all that the U-Net's way up is given. It leaves through "zero
convolutions", which begin as nothing: a new ControlNet changes no picture, and learns from there.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .files import UserError
from .layers import check_whole, check_widths
from .unet import UNet, UNetConfig, WayDown

PICTURES = (1, 3)  # channels of a map that is a picture, in 0..1; one of more holds vectors, of any size
STRONGEST = 1000  # weight of a hint, or scale of guidance: far beyond use, and float32 still holds what comes of it
# What has to be the same in both networks, for one to be given the other's answers and the same words.
SHARED = ("block_out_channels", "layers_per_block", "context_dim", "added_dim", "num_class_embeds")


@dataclass(frozen=True)
class ControlNetConfig(UNetConfig):
    """The shape of a `ControlNet`: that of its U-Net, and of what reads the map. `out_channels` is of no use here.

    The defaults are the published networks for Stable Diffusion 1.5.
    """

    conditioning_channels: int = 3  # of the map
    embedding_channels: tuple[int, ...] = (16, 32, 96, 256)  # each step to the next halves the map's size

    def __post_init__(self):
        super().__post_init__()
        check_whole("conditioning_channels", self.conditioning_channels)
        check_widths("embedding_channels", self.embedding_channels)  # one, and one more for each halving

    @property
    def downscale(self) -> int:
        """Pixels of the map along one side of a latent's cell: as many as of the picture, or the two do not meet."""
        return 2 ** (len(self.embedding_channels) - 1)


class MapEmbedding(nn.Module):
    """Convolutions from a map (b, c, H, W) to the latents' size and the U-Net's width: (b, c0, h, w)."""

    def __init__(self, config: ControlNetConfig):
        super().__init__()
        c = config.embedding_channels
        self.conv_in = nn.Conv2d(config.conditioning_channels, c[0], 3, padding=1)
        self.blocks = nn.ModuleList()
        for narrow, wide in zip(c, c[1:], strict=False):
            self.blocks.append(nn.Conv2d(narrow, narrow, 3, padding=1))
            self.blocks.append(nn.Conv2d(narrow, wide, 3, padding=1, stride=2))
        self.conv_out = zeroed(nn.Conv2d(c[-1], config.block_out_channels[0], 3, padding=1))

    def forward(self, hint: Tensor) -> Tensor:
        x = F.silu(self.conv_in(hint))
        for conv in self.blocks:
            x = F.silu(conv(x))
        return self.conv_out(x)


def zeroed(conv: nn.Conv2d) -> nn.Conv2d:
    """A convolution that begins as nothing. Its weights' gradient is what comes in, so it does not stay so."""
    nn.init.zeros_(conv.weight)
    nn.init.zeros_(conv.bias)
    return conv


class ControlNet(WayDown):
    """A map, noisy latents, a timestep and the text's states -> what is added inside the U-Net.

    Attribute names are the published checkpoints' keys.
    """

    def __init__(self, config: ControlNetConfig | None = None):
        super().__init__(config := config or ControlNetConfig())
        self.controlnet_cond_embedding = MapEmbedding(config)
        c, n = config.block_out_channels, config.layers_per_block
        # what the way down keeps: after conv_in, after each resnet, after each halving
        kept = [c[0]] + [width for width in c for _ in range(n + 1)][:-1]
        self.controlnet_down_blocks = nn.ModuleList(zeroed(nn.Conv2d(width, width, 1)) for width in kept)
        self.controlnet_mid_block = zeroed(nn.Conv2d(c[-1], c[-1], 1))

    @classmethod
    def from_unet(
        cls, unet: UNet, conditioning_channels: int = 3, embedding_channels: Sequence[int] = (16, 32, 96, 256)
    ) -> "ControlNet":
        """A new one, to be trained: the U-Net's way down copied, zero convolutions, its dtype and its device."""
        more = {"conditioning_channels": conditioning_channels, "embedding_channels": tuple(embedding_channels)}
        net = cls(ControlNetConfig(**asdict(unet.config), **more)).to(unet.conv_in.weight)
        own = net.state_dict()
        net.load_state_dict(own | {name: t for name, t in unet.state_dict().items() if name in own})
        return net

    def forward(self, x: Tensor, t: Tensor, context: Tensor | None, hint: Tensor, added: Tensor | None = None,
                label: Tensor | None = None) -> list[Tensor]:  # fmt: skip
        """The `control` of `UNet.forward`, whose other arguments these are. hint: (b, c, H, W) in 0..1.

        H and W are the picture's pixels, `config.downscale` for each cell of the latents.
        """
        return self.residuals(x, t, context, self.controlnet_cond_embedding(hint), added, label)

    def residuals(self, x: Tensor, t: Tensor, context: Tensor | None, seen: Tensor, added: Tensor | None = None,
                  label: Tensor | None = None) -> list[Tensor]:  # fmt: skip
        """As `forward`, with what `controlnet_cond_embedding` made of the map: (1 or b, c0, h, w)."""
        x, skips, _ = self.descend(x, t, context, added, label, seen)
        outlets = [*self.controlnet_down_blocks, self.controlnet_mid_block]
        return [conv(kept) for conv, kept in zip(outlets, [*skips, x], strict=True)]


class Hint(NamedTuple):
    """One control: a network, the map it reads, and how much its answers count.

    The map is (b, c, H, W), as large as the picture: itself a picture in 0..1, or vectors (`hints.layout`).
    """

    net: ControlNet
    map: Tensor
    weight: float = 1.0


def listed(hints: Sequence[Hint]) -> None:
    """Raises `UserError` for what is no list of `Hint`s: one alone, or a tuple that only looks like one."""
    wanted = "a list of Hint(network, map, weight)"
    if isinstance(hints, Hint) or not isinstance(hints, list | tuple):
        raise UserError("control", f"a {type(hints).__name__}", wanted)
    for hint in hints:
        if not isinstance(hint, Hint):
            raise UserError("control", f"a {type(hint).__name__} in a {type(hints).__name__}", wanted)


def mapped(hints: Sequence[Hint], change: Callable[[Tensor], Tensor]) -> list[Hint]:
    """The hints with `change` made to their maps; what is no map stays, and `check` tells. `UserError` as `listed`."""
    listed(hints)
    made = []
    for hint in hints:
        if isinstance(hint.map, Tensor) and hint.map.ndim == 4 and hint.map.numel():
            map_ = hint.map.float() if hint.map.dtype == torch.bool else hint.map  # torch pads no booleans
            hint = hint._replace(map=change(map_))
        made.append(hint)
    return made


def controlled(unet: UNet, hints: Sequence[Hint]) -> Callable[..., Tensor]:
    """A function of (x, t, context, ...) to put in the U-Net's place: the U-Net, told by every hint at once.

    What the networks say is weighted and added up. A hint holds one map for all pictures, or one for each; where
    guidance asks for twice as many, the second half gets the same maps again. A map is read once, at the first call,
    so make a new function when a network has been trained on. A U-Net that takes in more than a ControlNet (to
    inpaint, say) shows it the first channels, which are the noisy latents. Without hints it is the U-Net itself.
    Raises `UserError` for what is no list of hints, a network of another shape than the U-Net, a map with another
    number of channels or with values outside 0..1 (where it is a picture), and a weight beyond `STRONGEST`; at the
    first call for a map of another size than the picture.
    """
    listed(hints)
    for hint in hints:
        check(unet, hint)
    if not hints:
        return unet
    seen: list[Tensor] = []

    def network(x: Tensor, t: Tensor, context: Tensor | None = None, **more: Tensor) -> Tensor:
        if not seen:
            seen.extend(look(hint, x) for hint in hints)
        control = None
        for (net, _, weight), view in zip(hints, seen, strict=True):
            view = view.repeat(len(x) // len(view), 1, 1, 1)  #                            (b, c0, h, w)
            said = [weight * y for y in net.residuals(x[:, : net.config.in_channels], t, context, view, **more)]
            control = said if control is None else [a + b for a, b in zip(control, said, strict=True)]
        return unet(x, t, context, **more, control=control)

    return network


def check(unet: UNet, hint: Hint) -> None:
    """Raises `UserError` for a hint that no picture of this U-Net can follow."""
    net, pixels, weight = hint
    if not isinstance(net, ControlNet):
        raise UserError("control network", type(net).__name__, "a ControlNet")
    for name in SHARED:
        if getattr(net.config, name) != getattr(unet.config, name):
            raise UserError(f"control network, {name}", getattr(net.config, name),
                            f"{getattr(unet.config, name)}, as the U-Net has")  # fmt: skip
    if net.config.in_channels > unet.config.in_channels:
        raise UserError("control network, in_channels", net.config.in_channels,
                        f"at most the U-Net's {unet.config.in_channels}")  # fmt: skip
    if net.conv_in.weight.dtype != unet.conv_in.weight.dtype:
        raise UserError("control network, dtype", net.conv_in.weight.dtype, f"the U-Net's {unet.conv_in.weight.dtype}")
    if isinstance(weight, bool) or not isinstance(weight, int | float) or not abs(weight) <= STRONGEST:  # nor nan
        raise UserError("control weight", weight, f"a number up to {STRONGEST}; 0 is no control, 1 is usual")
    channels = net.config.conditioning_channels
    if not isinstance(pixels, Tensor) or pixels.ndim != 4 or pixels.shape[1] != channels:
        got = tuple(pixels.shape) if isinstance(pixels, Tensor) else type(pixels).__name__
        raise UserError("control map", got, f"a tensor of shape (b, {channels}, height, width)")
    if pixels.is_complex():
        raise UserError("control map", str(pixels.dtype), "real numbers, float32")
    least, most = (pixels.amin().item(), pixels.amax().item()) if pixels.numel() else (0.0, 0.0)
    low, high = (0, 1) if channels in PICTURES else (-math.inf, math.inf)
    if not low <= least <= most <= high or math.isinf(most - least):  # nor with any nan
        wanted = "values in 0..1" if channels in PICTURES else "finite numbers"
        raise UserError("control map", f"values from {least:.3g} to {most:.3g}", wanted)


def look(hint: Hint, x: Tensor) -> Tensor:
    """What the network makes of its map, before any noise: (1 or b, c0, h, w), for latents x. `UserError` as above."""
    net, pixels, _ = hint
    size = tuple(net.config.downscale * side for side in x.shape[2:])
    if pixels.shape[2:] != size:
        got = f"{pixels.shape[2]} x {pixels.shape[3]} (height x width)"
        raise UserError("control map", got, f"{size[0]} x {size[1]}, the size of the picture")
    if len(pixels) not in (1, len(x), len(x) / 2):
        raise UserError("control maps", len(pixels), "one, or one for each picture")
    if net.conv_in.weight.device != x.device:
        raise UserError("control network, device", str(net.conv_in.weight.device), f"{x.device}, where the picture is")
    return net.controlnet_cond_embedding(pixels.to(x))
