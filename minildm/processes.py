"""This process and the others that train the same model, where torchrun or `accelerate launch` started several.

Each has the whole model and a part of every batch (data parallel). Everything here also works for one alone.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import timedelta

import torch
from torch import Tensor, distributed, nn

from .files import UserError

TOLD = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")  # what a launcher sets
PATIENCE = timedelta(minutes=10)  # for a process that neither answers nor ends; the first one may be saving or sampling


def count() -> int:
    """How many processes train together."""
    return distributed.get_world_size() if distributed.is_available() and distributed.is_initialized() else 1


def rank() -> int:
    """The number of this one, from 0; the first one alone writes files and prints."""
    return distributed.get_rank() if count() > 1 else 0


@contextmanager
def joined(device: torch.device | str) -> Iterator[torch.device]:
    """Meet the processes that were launched with this one, if any; yields the device that this one computes on.

    Of several GPUs each process gets its own. GPUs talk by NCCL, CPUs by gloo.
    Raises `UserError` where a machine has fewer GPUs than processes, and where another process was lost on the way.
    """
    device = torch.device(device)
    if count() > 1 or not all(name in os.environ for name in TOLD) or os.environ["WORLD_SIZE"] == "1":
        yield device
        return
    if device.type == "cuda":
        local = int(os.environ.get("LOCAL_RANK", 0))
        if local >= torch.cuda.device_count():
            raise UserError("processes on this machine", local + 1, f"{torch.cuda.device_count()}, as it has GPUs")
        device = torch.device("cuda", local)
        torch.cuda.set_device(device)
    distributed.init_process_group(timeout=PATIENCE)
    try:
        yield device
    except RuntimeError as error:
        if not isinstance(error, distributed.DistError) and "gloo" not in str(error):
            raise
        said = " ".join(str(error).split())
        raise UserError("another process", said, "all to the end; --resume goes on from the last checkpoint") from error
    finally:
        distributed.destroy_process_group()


def shares(batch: int, accumulate: int = 1) -> list[range]:
    """The samples of a batch that are this process's, in `accumulate` parts to take one after the other.

    Raises `UserError` for a batch with fewer samples than parts.
    """
    parts = count() * accumulate
    if accumulate < 1 or batch < parts:
        raise UserError("batch", batch, f"at least {parts}: {accumulate} parts in each of {count()} processes")
    ends = [batch * i // parts for i in range(parts + 1)]
    return [range(*ends[i : i + 2]) for i in range(rank() * accumulate, (rank() + 1) * accumulate)]


def totals(numbers: list[float], device: torch.device) -> list[float]:
    """The sums of each number over all processes, in float64 and the same everywhere."""
    if count() == 1:
        return numbers
    held = torch.tensor(numbers, dtype=torch.float64, device=device if device.type == "cuda" else "cpu")
    distributed.all_reduce(held)
    return held.tolist()


class _Step(nn.Module):
    """A loss as a module, since DistributedDataParallel has to see where a step begins and ends, and the weights."""

    def __init__(self, model: nn.Module, loss: Callable[..., Tensor]):
        super().__init__()
        self.model, self.loss = model, loss

    def forward(self, *asked: object) -> Tensor:
        return self.loss(*asked)


def shared(model: nn.Module, loss: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """The loss once more, whose backward pass leaves each process the mean of all processes' gradients.

    The loss may call the model in any way. Gradients travel while the backward pass goes on. All processes begin with
    the weights of the first.
    """
    if count() == 1:
        return loss
    return nn.parallel.DistributedDataParallel(_Step(model, loss), gradient_as_bucket_view=True)


def alone(loss: Callable[..., Tensor]) -> AbstractContextManager:
    """Where a backward pass of a `shared` loss keeps its gradients, since another part of the batch follows."""
    return loss.no_sync() if count() > 1 else nullcontext()
