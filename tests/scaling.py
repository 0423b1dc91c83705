"""A small diffusion model trained in every way that must make no difference; started by torchrun, or imported.

    torchrun --nproc_per_node 2 tests/scaling.py JOB FOLDER

JOB: "proof", what `ways` gives, kept in FOLDER; "accelerate", the same in an `Accelerator`; "fall", one with a
checkpoint, in which the last process kills itself.
"""

import os
import signal
import sys
from contextlib import nullcontext
from pathlib import Path

import torch
from torch import nn

from minildm import processes, runs
from minildm.train import EMA, fit
from minildm.unet import UNetConfig
from minildm.vae import VAE, VAEConfig

CONFIG = UNetConfig(block_out_channels=(8,), layers_per_block=1, transformer_layers=(1,), heads=(2,), context_dim=12,
                    norm_num_groups=4)  # fmt: skip
VAE_CONFIG = VAEConfig(block_out_channels=(8, 8, 8), layers_per_block=1, norm_num_groups=4)
BATCH, STEPS = 8, 100


class Words(nn.Module):
    """Stands in for a text tower, which would take longer to import than all the rest: a wave for each word."""

    def both(self, said):
        lengths = torch.tensor([[len(word) for word in (text.split() + [""] * 4)[:4]] for text in said])
        return (lengths[:, :, None] * torch.arange(1, 13)).sin(), None  #                 (b, 4, 12)

    def forward(self, said):
        return self.both(said)[0]


def in_dtype(dtype):
    """`runs.from_pool`, which gives its tensors in this dtype."""

    def cast(*asked):
        x0, condition = from_pool(*asked)
        return x0.to(dtype), {name: value.to(dtype) for name, value in condition.items()}

    return cast


from_pool = runs.from_pool


def train(dtype, accumulate=1, steps=STEPS, seed=3, **options):
    """The weights, and those of the average, after a short run with captions, dropped prompts and noisy levels."""
    torch.manual_seed(0)
    run = runs.diffusion_run(VAE(VAE_CONFIG), Words(), CONFIG, batch=BATCH, steps=steps)
    run.model.to(dtype)
    runs.from_pool = in_dtype(dtype)
    ema = EMA(run.model, 0.9)
    seen = list(fit(run.model, run.loss, steps=steps, lr=run.lr, ema=ema, seed=seed, batch=run.batch,
                    accumulate=accumulate, **options))  # fmt: skip
    kept = {f"{name}.{key}": value for name, part in (("model", run.model), ("ema", ema.model))
            for key, value in part.state_dict().items()}  # fmt: skip
    return kept | {"losses": torch.tensor([now.loss for now in seen], dtype=torch.float64)}


def ways():
    """Trainings by name: both precisions, and the batch in several parts."""
    count = processes.count()
    for accumulate in {1: (1, 2, 4), 2: (1, 2), 4: (1,)}[count]:
        yield f"float64, {accumulate}", train(torch.float64, accumulate)
    if count < 4:
        yield "float32, 1", train(torch.float32)


def main(job, folder):
    torch.set_num_threads(1)
    folder = Path(folder)
    if job == "accelerate":
        from accelerate import Accelerator

        assert Accelerator(cpu=True).num_processes == processes.count() == int(os.environ["WORLD_SIZE"])
    with nullcontext() if job == "accelerate" else processes.joined("cpu"):
        if job == "fall":
            train(torch.float64, checkpoint=folder / "state.pt", save_every=5, clock=clock())
        kept = dict(ways())
        if processes.rank() == 0:
            torch.save(kept, folder / f"{job}-{processes.count()}.pt")


def clock():
    """A clock that is looked at twice in each step; the last process does not live to see the end of step 30."""
    looks = iter(range(10**9))

    def now():
        look = next(looks)
        if look == 59 and processes.rank() == processes.count() - 1:
            os.kill(os.getpid(), signal.SIGKILL)
        return float(look)

    return now


if __name__ == "__main__":
    main(*sys.argv[1:])
