"""Our training loop beside diffusers', each step whole: noise, forward, backward, clipping, AdamW, learning rate, EMA.

    python -m benchmarks.training [--rounds 5] [--tiny] [--record]

Theirs is the loop of their text-to-image example on latents that are encoded already, with accelerate and as it comes.
Both have the same U-Net with the same first weights, the same latents and captions' states, and v as their target.
Ratios are ours over theirs, so below 1 is faster. Then what part of our steps goes into getting the data.
"""

import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.side import arguments, goals, keep_all, pair, tell, told
from benchmarks.unet import both
from minildm import draws, levels, own, runs, weights
from minildm.devices import best_device
from minildm.files import UserError
from minildm.own.latents import Latents
from minildm.own.learning import entries, latent_run
from minildm.train import EMA, Run, diffusion_loss, fit
from minildm.unet import UNetConfig

BATCH, KEPT, STEPS, LR = 64, 1024, 10**6, 1e-4
VILLAGE = Path(__file__).parent.parent / "datasets" / "village"
SWITCHES = {  # dtype, channels_last, compiled
    "float32": (None, False, False),
    "float32, channels_last": (None, True, False),
    "bfloat16": (torch.bfloat16, False, False),
    "bfloat16, channels_last": (torch.bfloat16, True, False),
    "float32, compiled": (None, False, True),
    "float32, channels_last, compiled": (None, True, True),
    "bfloat16, compiled": (torch.bfloat16, False, True),
}


def ours(network: nn.Module, x0: Tensor, context: Tensor, dtype: torch.dtype | None, compiled: bool) -> Iterator:
    call = torch.compile(network) if compiled else network
    schedule = levels.linear()

    def loss(step: int, source: draws.Source) -> Tensor:
        some = torch.randperm(KEPT, generator=torch.Generator().manual_seed(step))[draws.places(BATCH, source)]
        return diffusion_loss(call, x0[some], schedule, "v", source, context=context[some]).mean()

    return fit(network, loss, steps=STEPS, lr=LR, ema=EMA(network), autocast=dtype, batch=BATCH)


def theirs(network: nn.Module, x0: Tensor, context: Tensor) -> Iterator:
    """The steps of diffusers' examples/text_to_image/train_text_to_image.py that a latent goes through."""
    from accelerate import Accelerator
    from diffusers import DDPMScheduler
    from diffusers.optimization import get_scheduler
    from diffusers.training_utils import EMAModel

    accelerator = Accelerator(cpu=x0.device.type == "cpu")
    average = EMAModel(network.parameters(), decay=0.999, model_cls=type(network), model_config=network.config)
    average.to(x0.device)
    optimizer = torch.optim.AdamW(network.parameters(), lr=LR, betas=(0.9, 0.99), weight_decay=0.01)
    rates = get_scheduler("cosine", optimizer, num_warmup_steps=STEPS // 33, num_training_steps=STEPS)
    network, optimizer, rates = accelerator.prepare(network, optimizer, rates)
    schedule = DDPMScheduler(1000, beta_start=1e-4, beta_end=0.02, prediction_type="v_prediction")
    network.train()
    for step in range(STEPS):
        some = torch.randperm(KEPT, generator=torch.Generator().manual_seed(step))[:BATCH]
        latents = x0[some]
        with accelerator.accumulate(network):
            noise = torch.randn_like(latents)
            t = torch.randint(0, 1000, (BATCH,), device=latents.device).long()
            noisy = schedule.add_noise(latents, noise, t)
            target = schedule.get_velocity(latents, noise, t)
            answer = network(noisy, t, context[some], return_dict=False)[0]
            loss = F.mse_loss(answer.float(), target.float(), reduction="mean")
            accelerator.gather(loss.repeat(BATCH)).mean().item()
            accelerator.backward(loss)
            if accelerator.sync_gradients:
                accelerator.clip_grad_norm_(network.parameters(), 1.0)
            optimizer.step()
            rates.step()
            optimizer.zero_grad()
        if accelerator.sync_gradients:
            average.step(network.parameters())
        yield loss.detach().item()


def beside(name: str, config: UNetConfig, device: torch.device, rounds: int) -> None:
    torch.manual_seed(0)
    x0, context = torch.randn(KEPT, 4, 8, 8, device=device), torch.randn(KEPT, 24, config.context_dim, device=device)
    ratios = {}
    for switch, (dtype, last, compiled) in SWITCHES.items():
        mine, other = both(config, device, torch.float32)
        if last:
            mine.to(memory_format=torch.channels_last)
        some = x0.to(memory_format=torch.channels_last) if last else x0
        a, b = ours(mine, some, context, dtype, compiled), theirs(other, x0, context)
        try:
            found = pair(lambda a=a: next(a), lambda b=b: next(b), rounds, 3)
        except UserError as error:  # torch 2.14 on the CPU: a compiled bfloat16 step has gradients that are nan
            print(f"{name}, {switch}: no figure. {error}", flush=True)
            continue
        tell(f"{name}, {switch}", found)
        ratios[switch] = found.ratio
    plain = [switch for switch in ratios if "bfloat16" not in switch and "compiled" not in switch]
    for what, of, goal in (("same precision", plain, 0.95), ("best switch", ratios, 0.80)):
        chosen = min(of, key=ratios.get)
        told[f"{name}, {what}"] = told[f"{name}, {chosen}"] | {"switch": chosen}
        goals[f"{name}, {what}/ratio"] = {"at most": goal}
        reached = "reached" if ratios[chosen] <= goal else "missed"
        print(f"{name}, {what}: {chosen}, {ratios[chosen]:.2f}; goal {goal:.2f}: {reached}", flush=True)


def timed(spent: dict[str, float], what: str, function: Callable) -> Callable:
    """The same function; the seconds in it add up in spent[what]."""

    def call(*asked: object) -> object:
        started = time.perf_counter()
        found = function(*asked)
        spent[what] += time.perf_counter() - started
        return found

    return call


def trained(run: Run, steps: int) -> float:
    """The seconds that so many steps of a run take."""
    *_, now = fit(run.model, run.loss, steps=steps, lr=run.lr, ema=EMA(run.model), autocast=run.autocast,
                  batch=run.batch)  # fmt: skip
    return now.seconds


def waiting(steps: int, device: torch.device) -> None:
    """The share of `minildm train latent --small` that draws scenes and captions, and the share that encodes them."""
    spent = {"drawing": 0.0, "all": 0.0}
    captioned, from_pool = runs.captioned, runs.from_pool
    runs.captioned, runs.from_pool = timed(spent, "drawing", captioned), timed(spent, "all", from_pool)
    try:
        words = weights.load("clip", device).text
        run = runs.diffusion_run(weights.load("shapes/vae", device), words, runs.SMALL_LATENT, device=device)
        whole = trained(run, steps)
    finally:
        runs.captioned, runs.from_pool = captioned, from_pool
    told["waiting for data"] = {"drawing": round(spent["drawing"] / whole, 4),
                                "encoding": round((spent["all"] - spent["drawing"]) / whole, 4)}  # fmt: skip
    goals["waiting for data/drawing"] = {"at most": 0.05}
    print("waiting for data:", told["waiting for data"], flush=True)


def waiting_for_latents(steps: int, device: torch.device) -> None:
    """The share of `minildm train latent --data datasets/village` that fetches cached latents."""
    plan, spent = own.plan("latent", VILLAGE, device=device), {"fetching": 0.0}
    with tempfile.TemporaryDirectory() as folder:
        latents = Latents(folder, plan.vae)
        for _ in latents.fill(entries(plan)):
            pass
        run, _ = latent_run(plan, timed(spent, "fetching", latents))
    spent["fetching"] = 0.0
    whole = trained(run, steps)
    told["waiting for latents"] = {"fetching": round(spent["fetching"] / whole, 4)}
    goals["waiting for latents/fetching"] = {"at most": 0.05}
    print("waiting for latents:", told["waiting for latents"], flush=True)


def main() -> None:
    asked = arguments("Our training loop beside diffusers'.", "only the smaller network: minutes")
    device = best_device()
    beside("latent, small", runs.SMALL_LATENT, device, 8 * asked.rounds)
    if not asked.tiny:
        beside("latent", runs.LATENT_CONFIG, device, 4 * asked.rounds)
    waiting(runs.POOL * runs.REUSE, device)
    waiting_for_latents(100, device)
    if asked.record:
        keep_all("training", device)


if __name__ == "__main__":
    main()
