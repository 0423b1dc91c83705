"""A small untrained model of the shapes world, the same in every test."""

import torch

from minildm import levels, scenes
from minildm.pipe import LatentDiffusion
from minildm.text import Text, train_tokenizer
from minildm.unet import UNet, UNetConfig
from minildm.vae import VAE, VAEConfig

UNET = UNetConfig(
    block_out_channels=(8, 16), layers_per_block=1, transformer_layers=(0, 1), heads=(2, 2), context_dim=16,
    norm_num_groups=4,
)  # fmt: skip
VAE_CONFIG = VAEConfig(block_out_channels=(8, 8, 8), layers_per_block=1, norm_num_groups=4, scaling_factor=1.3)


def text() -> Text:
    torch.manual_seed(1)
    captions = scenes.captions(scenes.draw(500), full=True) + scenes.captions(scenes.draw(500))
    return Text.tiny(train_tokenizer(captions), width=16, layers=1, heads=2).eval()


def pipe(schedule=None, prediction: str = "v", spacing: str | None = "trailing", **more) -> LatentDiffusion:
    words = text()
    torch.manual_seed(0)
    unet, vae = UNet(UNET), VAE(VAE_CONFIG)
    for block in unet.up_blocks:  # small random networks hardly look at the prompt: make this one
        for attention in block.attentions or []:
            attention.transformer_blocks[0].attn2.to_out[0].weight.data *= 20
    kind = {"schedule": schedule or levels.cosine(), "prediction": prediction, "spacing": spacing} | more
    return LatentDiffusion(unet, vae, words, **kind).eval().requires_grad_(False)
