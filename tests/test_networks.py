"""The networks: the published names and shapes, every device and dtype, gradients that reach everything."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from minildm import scenes, weights
from minildm.files import UserError
from minildm.layers import Attention, timestep_embedding, watched
from minildm.unet import UNet, UNetConfig
from minildm.vae import VAE, FlatVAE, VAEConfig, kl_divergence, sample_latent

FIXTURES = Path(__file__).parent / "fixtures"
TINY_UNET = UNetConfig(
    block_out_channels=(8, 16), layers_per_block=1, transformer_layers=(0, 1), heads=(2, 4), context_dim=12,
    norm_num_groups=4,
)  # fmt: skip
TINY_VAE = VAEConfig(block_out_channels=(8, 16, 16), layers_per_block=1, norm_num_groups=4)


@pytest.mark.parametrize(("network", "count"), [(UNet, 859_520_964), (VAE, 83_653_863)])
def test_the_default_network_is_the_published_one(network, count):
    """Names, shapes and number of parameters of Stable Diffusion 1.5, without allocating any."""
    wanted = json.loads((FIXTURES / f"sd15_{network.__name__.lower()}_keys.json").read_text(encoding="utf-8"))
    with torch.device("meta"):
        state = network().state_dict()
    assert {name: list(t.shape) for name, t in state.items()} == wanted
    assert sum(t.numel() for t in state.values()) == count


class NoFloat64(TorchDispatchMode):
    """Fails as soon as an operation yields a float64 tensor: Apple's MPS has none."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(out):
            assert not (isinstance(leaf, torch.Tensor) and leaf.dtype == torch.float64), func
        return out


@pytest.mark.parametrize("device", ["cpu", "meta"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@torch.no_grad()
def test_networks_run_on_any_device_and_dtype(device, dtype):
    with torch.device(device), NoFloat64():
        unet, vae, flat = UNet(TINY_UNET).to(dtype), VAE(TINY_VAE).to(dtype), FlatVAE().to(dtype)
        out = unet(torch.randn(2, 4, 8, 6, dtype=dtype), torch.tensor([3, 981]), torch.randn(2, 5, 12, dtype=dtype))
        mean, logvar = vae.encode(torch.randn(2, 3, 16, 24, dtype=dtype))
        pixels = vae.decode(mean)
        digits = flat.decode(flat.encode(torch.randn(2, 1, 8, 8, dtype=dtype))[0])
    assert (out.shape, out.dtype, out.device.type) == ((2, 4, 8, 6), dtype, device)
    assert mean.shape == logvar.shape == (2, 4, 4, 6)
    assert (pixels.shape, pixels.dtype, pixels.device.type) == ((2, 3, 16, 24), dtype, device)
    assert digits.shape == (2, 1, 8, 8)


@pytest.mark.parametrize("config", [TINY_UNET, replace(TINY_UNET, context_dim=None)])
def test_gradient_reaches_every_weight(config):
    unet = UNet(config)
    context = None if config.context_dim is None else torch.randn(2, 5, 12)
    unet(torch.randn(2, 4, 8, 8), torch.tensor([1, 900]), context).square().sum().backward()
    assert [name for name, p in unet.named_parameters() if p.grad is None or not p.grad.any()] == []


@torch.no_grad()
def test_the_prompt_and_the_time_change_the_answer():
    unet, x = UNet(TINY_UNET), torch.randn(1, 4, 8, 8)
    base = unet(x, torch.tensor([500]), torch.zeros(1, 5, 12))
    assert not torch.allclose(base, unet(x, torch.tensor([500]), torch.ones(1, 5, 12)))
    assert not torch.allclose(base, unet(x, torch.tensor([10]), torch.zeros(1, 5, 12)))


@torch.no_grad()
def test_odd_sizes_come_back_as_they_were():
    unet = UNet(replace(TINY_UNET, context_dim=None))
    assert unet(torch.randn(1, 4, 7, 9), torch.tensor([5])).shape == (1, 4, 7, 9)


def test_wrong_context_and_wrong_config_are_named():
    with pytest.raises(UserError, match="context"):
        UNet(TINY_UNET)(torch.randn(1, 4, 8, 8), torch.tensor([5]))
    with pytest.raises(UserError, match="context"):
        UNet(replace(TINY_UNET, context_dim=None))(torch.randn(1, 4, 8, 8), torch.tensor([5]), torch.randn(1, 5, 12))
    with pytest.raises(UserError, match="label"):
        UNet(replace(TINY_UNET, num_class_embeds=3))(torch.randn(1, 4, 8, 8), torch.tensor([5]), torch.randn(1, 5, 12))
    with pytest.raises(UserError, match="heads"):
        replace(TINY_UNET, heads=(8,))
    with pytest.raises(UserError, match="only_cross_attention"):
        replace(TINY_UNET, only_cross_attention=(True,))


def test_timestep_embedding_is_the_formula():
    """cos first: entry i is cos(t * 10000^(-i / half)), entry half + i its sine."""
    t = torch.tensor([0.0, 1.0, 981.0])
    emb = timestep_embedding(t, 320)
    frequency = 10_000 ** (-torch.arange(160, dtype=torch.float64) / 160)
    angle = t.double()[:, None] * frequency
    assert emb.dtype == torch.float32
    torch.testing.assert_close(emb.double(), torch.cat([angle.cos(), angle.sin()], 1), atol=2e-4, rtol=0)
    assert (emb[0, :160] == 1).all() and (emb[0, 160:] == 0).all()


def test_kl_equals_torch_distributions():
    mean, logvar = torch.randn(6, 4, 2, 2, dtype=torch.float64), torch.randn(6, 4, 2, 2, dtype=torch.float64)
    normal = torch.distributions.Normal
    wanted = torch.distributions.kl_divergence(normal(mean, (0.5 * logvar).exp()), normal(0.0, 1.0)).flatten(1).sum(1)
    torch.testing.assert_close(kl_divergence(mean, logvar), wanted, atol=1e-12, rtol=0)
    assert kl_divergence(torch.zeros(1, 3), torch.zeros(1, 3)).item() == 0


def test_sample_latent_has_the_moments_and_the_gradient():
    mean = torch.full((200_000,), 0.7, requires_grad=True)
    logvar = torch.full((200_000,), -1.2)
    z = sample_latent(mean, logvar, torch.Generator().manual_seed(0))
    assert abs(z.mean().item() - 0.7) < 5e-3 and abs(z.var().item() - torch.tensor(-1.2).exp().item()) < 5e-3
    z.sum().backward()
    assert (mean.grad == 1).all()


@pytest.mark.parametrize("rows", [1, 2, 3, 5, 8])
@pytest.mark.parametrize("config", [TINY_VAE, replace(TINY_VAE, layers_per_block=2, block_out_channels=(8, 8, 16, 16))])
def test_decoding_in_strips_is_decoding(rows, config):
    torch.manual_seed(0)
    vae = VAE(config).double()
    for p in vae.parameters():
        p.data = torch.randn_like(p) * 0.2 + 0.1
    z = torch.randn(2, 4, 7, 5, dtype=torch.float64)
    with torch.no_grad():
        torch.testing.assert_close(vae.decode(z, rows), vae.decode(z), atol=1e-10, rtol=1e-10)


def test_decoding_in_strips_in_half_precision():
    """bfloat16 keeps 8 bits: strips may differ from the whole no more than the whole from float32."""
    vae = weights.load("shapes/vae")
    with torch.no_grad():
        z = vae.encode(scenes.render(scenes.draw(8, seed=4)))[0]
        exact = vae.decode(z)
        whole, cut = (vae.bfloat16().decode(z.bfloat16(), rows).float() for rows in (None, 3))
    assert (cut - exact).abs().mean() < 1.2 * (whole - exact).abs().mean() < 0.05


@pytest.mark.parametrize(("name", "context_dim"), [("attn2", 6), ("attn1", None)])
def test_watched_attention_beside_pytorchs_own(name, context_dim):
    torch.manual_seed(0)
    block = torch.nn.ModuleDict({name: Attention(8, 2, context_dim), "another": Attention(8, 2)})
    layer, x = block[name], torch.randn(3, 10, 8)
    context = x if context_dim is None else torch.randn(3, 5, context_dim)
    theirs = torch.nn.MultiheadAttention(8, 2, bias=False, kdim=context_dim, vdim=context_dim, batch_first=True)
    halves = [layer.to_q.weight, layer.to_k.weight, layer.to_v.weight]
    with torch.no_grad():
        if context_dim is None:
            theirs.in_proj_weight.copy_(torch.cat(halves))
        else:
            for into, weight in zip(("q", "k", "v"), halves, strict=True):
                getattr(theirs, f"{into}_proj_weight").copy_(weight)
        with watched(block, name) as seen:
            block["another"](x)
            out = layer(x) if context_dim is None else layer(x, context)
        torch.testing.assert_close(seen, [theirs(x, context, context)[1]])
        torch.testing.assert_close(seen[0].sum(-1), torch.ones(3, 10))
        with pytest.raises(ZeroDivisionError), watched(block, name):
            raise ZeroDivisionError
        assert torch.equal(layer(x, None if context_dim is None else context), out) and len(seen) == 1
