"""Where a lesson trains and how large a network: decided here, and said in one line."""

import torch

from ..unet import UNet, UNetConfig


def network(small: UNetConfig, large: UNetConfig) -> tuple[torch.device, UNetConfig]:
    """The device to train on and the network for it, the large one if there is a CUDA GPU; prints what was chosen."""
    if torch.cuda.is_available():
        where = f"on a GPU, {torch.cuda.get_device_name()}"
        print(f"training {_weights(large):,} weights {where} (without one it would be {_weights(small):,})")
        return torch.device("cuda"), large
    print(f"training {_weights(small):,} weights on the processor (with a CUDA GPU it would be {_weights(large):,})")
    return torch.device("cpu"), small


def _weights(config: UNetConfig) -> int:
    with torch.device("meta"):  # counts without memory
        return sum(p.numel() for p in UNet(config).parameters())
