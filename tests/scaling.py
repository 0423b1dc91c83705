"""A small diffusion model trained in every way that must make no difference; started by torchrun, or imported.

    torchrun --nproc_per_node 2 tests/scaling.py JOB FOLDER

JOB: "proof", what `ways` gives, kept in FOLDER; "accelerate", the first of them inside an `Accelerator`; "fall", one
with a checkpoint, in which the last process kills itself where FOLDER has no file `again`.
"""

import os
import signal
import sys
from contextlib import nullcontext
from pathlib import Path

import torch

from minildm import processes, runs, weights
from minildm.train import EMA, fit
from minildm.unet import UNetConfig

CONFIG = UNetConfig(block_out_channels=(16,), layers_per_block=1, transformer_layers=(1,), heads=(2,), context_dim=128,
                    linear_projection=True, norm_num_groups=4)  # fmt: skip
BATCH, STEPS = 8, 100


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
    run = runs.diffusion_run(weights.load("shapes/vae"), weights.load("clip").text, CONFIG, batch=BATCH, steps=steps)
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
    yield "float32, 1", train(torch.float32)


def main(job, folder):
    torch.set_num_threads(1)
    folder = Path(folder)
    if job == "accelerate":
        from accelerate import Accelerator

        assert Accelerator(cpu=True).num_processes == processes.count() == int(os.environ["WORLD_SIZE"])
    with nullcontext() if job == "accelerate" else processes.joined("cpu"):
        if job == "fall":
            kept = {"fall": train(torch.float64, checkpoint=folder / "state.pt", save_every=0, clock=clock(folder))}
        else:
            kept = dict(ways()) if job == "proof" else {"float64, 1": train(torch.float64)}
        if processes.rank() == 0:
            torch.save(kept, folder / f"{job}-{processes.count()}.pt")


def clock(folder):
    """A clock that is looked at twice in each step; the last process does not live to see the end of step 30."""
    looks = iter(range(10**9))

    def now():
        look = next(looks)
        if look == 59 and processes.rank() == processes.count() - 1 and not (folder / "again").exists():
            os.kill(os.getpid(), signal.SIGKILL)
        return float(look)

    return now


if __name__ == "__main__":
    main(*sys.argv[1:])
