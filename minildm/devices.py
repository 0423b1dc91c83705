"""Which device to compute on. The library takes the one it is given; notebooks and commands ask here."""

import torch


def best_device() -> torch.device:
    """The fastest kind of device that this computer has: cuda, else mps (Apple's), else cpu."""
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
