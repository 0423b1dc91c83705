"""Our networks against diffusers' with the same random weights, in float64."""

from dataclasses import replace

import pytest
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from published import randomise

from minildm.configs import unet_to_hf, vae_to_hf
from minildm.unet import UNet, UNetConfig
from minildm.vae import VAE, VAEConfig

ATOL = 1e-10
# SD 1.5 in small, with a level of two transformer blocks and a last level without any
UNET = UNetConfig(
    block_out_channels=(32, 64, 64), transformer_layers=(1, 2, 0), mid_layers=2, heads=(4, 2, 2), context_dim=24,
    norm_num_groups=8,
)  # fmt: skip


@pytest.mark.parametrize("tokens", [7, 77])
@pytest.mark.parametrize("linear", [False, True])
@pytest.mark.parametrize("size", [(12, 20), (14, 19)], ids=["even", "odd"])
def test_unet(linear, size, tokens):
    config = replace(UNET, linear_projection=linear)
    ours = randomise(UNet(config))
    theirs = UNet2DConditionModel.from_config(unet_to_hf(config, 8)).double()
    theirs.load_state_dict(ours.state_dict(), strict=True)
    x, t = torch.randn(2, 4, *size, dtype=torch.float64), torch.tensor([3, 981])
    context = torch.randn(2, tokens, 24, dtype=torch.float64)
    with torch.no_grad():
        torch.testing.assert_close(ours(x, t, context), theirs(x, t, context).sample, atol=ATOL, rtol=0)


def test_unet_with_labels_and_places_that_look_at_the_text_alone():
    """As the published upscaler of Stable Diffusion 2."""
    config = replace(UNET, in_channels=7, num_class_embeds=10, only_cross_attention=(True, False, False))
    ours = randomise(UNet(config))
    theirs = UNet2DConditionModel.from_config(unet_to_hf(config, 8)).double()
    theirs.load_state_dict(ours.state_dict(), strict=True)
    x, t, label = torch.randn(2, 7, 12, 20, dtype=torch.float64), torch.tensor([3, 981]), torch.tensor([0, 9])
    context = torch.randn(2, 7, 24, dtype=torch.float64)
    with torch.no_grad():
        expected = theirs(x, t, context, class_labels=label).sample
        torch.testing.assert_close(ours(x, t, context, label=label), expected, atol=ATOL, rtol=0)
        assert not torch.allclose(ours(x, t, context, label=label.flip(0)), expected)


@pytest.mark.parametrize("layers", [1, 2])
def test_vae(layers):
    config = VAEConfig(block_out_channels=(32, 64, 64), layers_per_block=layers, norm_num_groups=8)
    ours = randomise(VAE(config))
    theirs = AutoencoderKL.from_config(vae_to_hf(config, 32)).double()
    theirs.load_state_dict(ours.state_dict(), strict=True)
    x, z = torch.randn(2, 3, 16, 24, dtype=torch.float64), torch.randn(2, 4, 5, 6, dtype=torch.float64)
    with torch.no_grad():
        mean, logvar = ours.encode(x)
        posterior = theirs.encode(x).latent_dist
        torch.testing.assert_close(mean, posterior.mean, atol=ATOL, rtol=0)
        torch.testing.assert_close(logvar, posterior.logvar, atol=ATOL, rtol=0)
        torch.testing.assert_close(ours.decode(z), theirs.decode(z).sample, atol=ATOL, rtol=0)
