"""The U-Net beside diffusers' with the same weights: a small training step, and SD 1.5 at full size.

    python -m benchmarks.unet [--rounds 5] [--tiny] [--record]

Ratios are ours over theirs, so below 1 is faster. "Same": the same precision, memory layout and optimiser on both
sides. "Best": ours with its best single switch, theirs as it comes.
"""

import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.side import arguments, keep_all, pair, seconds, tell, tell_memory, told
from minildm.configs import unet_to_hf
from minildm.devices import best_device, peak
from minildm.runs import LATENT_CONFIG
from minildm.train import precision
from minildm.unet import UNet, UNetConfig


def both(config: UNetConfig, device: torch.device, dtype: torch.dtype):
    """Ours, and theirs with the same random weights."""
    from diffusers import UNet2DConditionModel

    torch.manual_seed(0)
    ours = UNet(config).to(device, dtype)
    with torch.device("meta"):
        theirs = UNet2DConditionModel.from_config(unet_to_hf(config, 64))
    state = {name: tensor.clone() for name, tensor in ours.state_dict().items()}
    theirs.load_state_dict(state, assign=True)
    return ours, theirs.to(device)


def training(device: torch.device, rounds: int) -> None:
    """One step of the small text-to-picture model: forward, backward, AdamW; batch 64, 8 x 8 latents."""
    ours, theirs = both(LATENT_CONFIG, device, torch.float32)
    x, context = torch.randn(64, 4, 8, 8, device=device), torch.randn(64, 24, 128, device=device)
    t = torch.randint(1000, (64,), device=device)

    def step(network, call, dtype):
        optimizer = torch.optim.AdamW(network.parameters(), lr=1e-4)

        def work():
            with precision(device, dtype):
                loss = (call().float() - x).square().mean()
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()

        return work

    def mine():
        return ours(x, t, context)

    def other():
        return theirs(x, t, context).sample

    their_step = step(theirs, other, None)
    for what, dtype, goal in (("same", None, 0.95), ("best: bfloat16", torch.bfloat16, 0.80)):
        tell(f"training step, {what}", pair(step(ours, mine, dtype), their_step, 4 * rounds, 2), goal)


def matrix_rate(device: torch.device, dtype: torch.dtype) -> float:
    """Operations a second that the device reaches in a product of two large matrices, the best of five."""
    n = 8192 if device.type == "cuda" else 2048
    a = torch.randn(n, n, device=device, dtype=dtype)
    return 2 * n**3 / min(seconds(lambda: a @ a) for _ in range(6))


def operations(config: UNetConfig, batch: int) -> int:
    """Floating-point operations of one call at 64 x 64 latents: matrix products and convolutions, two each."""
    with torch.device("meta"):
        unet, t = UNet(config), torch.zeros(batch)
        x, context = torch.randn(batch, 4, 64, 64), torch.randn(batch, 77, config.context_dim)
    with FlopCounterMode(display=False) as counter:
        unet(x, t, context)
    return counter.get_total_flops()


@torch.no_grad()
def forward(device: torch.device, dtype: torch.dtype, batch: int, rounds: int, config: UNetConfig) -> None:
    ours, theirs = both(config, device, dtype)
    x = torch.randn(batch, 4, 64, 64, device=device, dtype=dtype)
    context = torch.randn(batch, 77, config.context_dim, device=device, dtype=dtype)
    t = torch.full((batch,), 501, device=device)
    what = f"SD 1.5 U-Net, batch {batch}, {str(dtype).split('.')[1]}, {device.type}"

    def mine():
        return ours(x, t, context)

    def other():
        return theirs(x, t, context).sample

    tell(f"{what}, same", pair(mine, other, rounds), 0.95 if device.type == "cpu" else None)
    tell_memory(what, peak(mine), peak(other), 1.0 if device.type == "cpu" else None)
    ours.to(memory_format=torch.channels_last)
    wide = x.to(memory_format=torch.channels_last)
    found = pair(lambda: ours(wide, t, context), other, rounds)
    tell(f"{what}, channels_last", found)
    if device.type == "cuda":
        fast = torch.compile(ours, mode="max-autotune")
        found = pair(lambda: fast(wide, t, context), other, rounds, 3)
        tell(f"{what}, compiled", found, 0.60)
    share = operations(config, batch) / found.ours / matrix_rate(device, dtype)
    told[f"{what}, share of the matrix rate"] = round(share, 3)
    print(f"{what}: {share:.0%} of the device's rate for large matrices", flush=True)


def main() -> None:
    asked = arguments("Our U-Net beside diffusers'.", "only the small network: seconds, not minutes")
    device = best_device()
    training(device, asked.rounds)
    if not asked.tiny:
        for dtype in (torch.float32, torch.bfloat16) if device.type == "cpu" else (torch.bfloat16,):
            forward(device, dtype, 2 if device.type == "cpu" else 8, asked.rounds, UNetConfig())
    if asked.record:
        keep_all("unet", device)


if __name__ == "__main__":
    main()
