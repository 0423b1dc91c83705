"""Which device to compute on, and how much memory work takes there.

The library takes the device it is given; notebooks and commands ask here.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.profiler import ProfilerActivity, profile


def best_device() -> torch.device:
    """The fastest kind of device that this computer has: cuda, else mps (Apple's), else cpu."""
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


def device_of(model: nn.Module) -> torch.device:
    return next(model.parameters()).device


@contextmanager
def precision(device: torch.device, autocast: torch.dtype | None) -> Iterator[None]:
    """What a forward pass of training runs under: autocast to this dtype if any, and the attention that fits it."""
    # on a CPU the bfloat16 backward pass of fused attention costs more than all the rest of a small U-Net
    attention = sdpa_kernel(SDPBackend.MATH) if device.type == "cpu" and autocast else nullcontext()
    with torch.autocast(device.type, autocast or torch.bfloat16, enabled=autocast is not None), attention:
        yield


def peak(work: Callable[[], object]) -> int:
    """Bytes that PyTorch's tensors take at most during `work`, beyond what is held before it.

    On the CPU by PyTorch's profiler, which does not see what kernels allocate for themselves.
    """
    if torch.cuda.is_available():
        torch.cuda.synchronize()
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        work()
        torch.cuda.synchronize()
        return torch.cuda.max_memory_allocated() - before
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # else the profiler writes to stderr that it starts, and of GPUs
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as watched:
        work()
    held = most = 0
    for event in watched.profiler.kineto_results.events():
        if event.name() == "[memory]":  # one allocation, or below zero one given back
            held += event.nbytes()
            most = max(most, held)
    return most
