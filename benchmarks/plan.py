"""What a training of the published U-Nets takes, worked out from their shapes without a weight in memory.

    python -m benchmarks.plan [--record]

Weights, gradients, AdamW's two moments and the average are counted from the parameters. What a forward pass keeps for
the backward pass is counted as PyTorch saves it, each storage once, with fused attention. Operations are those of
matrix products and convolutions, two for each multiplication.

Two numbers are not measured but assumed, and the page says so: RATE and LINK.
"""

import argparse
from unittest import mock

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from minildm import configs
from minildm.unet import UNet, UNetConfig
from tests.published import facts
from tools.measurements import record

RATE = 150e12  # assumed: operations a second that a GPU keeps up over a whole training step
LINK = 20e9  # assumed: bytes a second that each GPU sends and gets while gradients are added up
GPUS = {"node": 8, "cluster": 64}
PICTURES = 10**8  # seen in the training that the page plans
MODELS = {"SD 1.5": ("sd15", 64), "SDXL": ("sdxl", 128)}  # family, and height and width of its latents
TOLD = 77  # tokens of a prompt


def network(config: UNetConfig, side: int, dtype: torch.dtype) -> tuple:
    """A U-Net of no memory, and the arguments of a call for one picture."""
    with torch.device("meta"):
        unet, x = UNet(config).to(dtype), torch.randn(1, 4, side, side, dtype=dtype)
        said = {"context": torch.randn(1, TOLD, config.context_dim, dtype=dtype)}
        if config.added_dim:
            said["added"] = torch.randn(1, config.added_dim, dtype=dtype)
    return unet, (x, torch.zeros(1, device="meta")), said


class Fused(torch.autograd.Function):
    """Attention as a fused kernel keeps it: what goes in, what comes out, and one number for each query.

    Asked without memory, PyTorch would choose the way that keeps a table of all pairs.
    """

    @staticmethod
    def forward(ctx, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        out = torch.empty_like(q)
        ctx.save_for_backward(q, k, v, out, q.new_empty(q.shape[:-1], dtype=torch.float32))
        return out

    @staticmethod
    def backward(ctx, given: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        raise NotImplementedError("only counted")


def kept(config: UNetConfig, side: int, dtype: torch.dtype) -> int:
    """Bytes that a forward pass of one picture keeps for the backward pass, the weights themselves left out."""
    unet, given, said = network(config, side, dtype)
    known = {p.untyped_storage()._cdata for p in unet.parameters()}
    storages = {}  # held until the end, so that no two have the same address

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        storages[storage._cdata] = storage
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        with mock.patch("torch.nn.functional.scaled_dot_product_attention", Fused.apply):
            unet(*given, **said)
    return sum(storage.nbytes() for address, storage in storages.items() if address not in known)


def operations(config: UNetConfig, side: int) -> int:
    """Of a training step for one picture: the backward pass counted as two forward passes."""
    unet, given, said = network(config, side, torch.float32)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        unet(*given, **said)
    return 3 * counter.get_total_flops()


def planned(family: str, side: int) -> dict:
    config = configs.unet_from_hf(facts("published_configs")[family]["unet"])
    unet, _, _ = network(config, side, torch.float32)
    weights = sum(p.numel() for p in unet.parameters())
    work = operations(config, side)
    dtypes = {"float32": torch.float32, "bfloat16": torch.bfloat16}
    found = {
        "million weights": weights / 1e6, "state": 20 * weights / 1e9, "checkpoint": 16 * weights / 1e9,
        "bf16 copy": 2 * weights / 1e9, "gradients": 4 * weights / 1e9,
        "kept": {name: kept(config, side, dtype) / 1e9 for name, dtype in dtypes.items()},
        "operations": work / 1e12, "a second": RATE / work,
    }  # fmt: skip
    for name, gpus in GPUS.items():
        found[name] = {
            "a second": gpus * RATE / work, "days": PICTURES * work / RATE / gpus / 86400,
            "adding up": 2 * (gpus - 1) / gpus * 4 * weights / LINK,
        }  # fmt: skip
    found["GPU hours"] = PICTURES * work / RATE / 3600
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description="What a training of the published U-Nets takes.")
    parser.add_argument("--record", action="store_true", help="write it into docs/results/plan.json")
    asked = parser.parse_args()
    values = {name: planned(*model) for name, model in MODELS.items()}
    values |= {"assumed": {"rate": RATE / 1e12, "link": LINK / 1e9, "pictures": PICTURES / 1e6}}
    for name, found in values.items():
        print(name, found)
    if asked.record:
        record("plan", "python -m benchmarks.plan", values)


if __name__ == "__main__":
    main()
