"""Where a lesson trains and how large a network: decided here, and said in one line."""

from collections.abc import Callable
from typing import TypeVar

import torch
from torch import nn

from ..unet import UNet

Config = TypeVar("Config")


def network(
    small: Config, large: Config, build: Callable[[Config], nn.Module] = UNet
) -> tuple[torch.device, Config]:
    """The device to train on and the config for it, the large one if there is a CUDA GPU; prints what was chosen.

    `build(config)` makes the network that a config stands for, here only to count its weights.
    """

    def weights(config: Config) -> str:
        with torch.device("meta"):  # counts without memory
            return f"{sum(p.numel() for p in build(config).parameters()):,}"

    if torch.cuda.is_available():
        where = f"on a GPU, {torch.cuda.get_device_name()}"
        print(f"training {weights(large)} weights {where} (without one it would be {weights(small)})")
        return torch.device("cuda"), large
    print(f"training {weights(small)} weights on the processor (with a CUDA GPU it would be {weights(large)})")
    return torch.device("cpu"), small
