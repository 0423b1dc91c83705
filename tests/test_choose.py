"""A lesson trains a larger network where there is a GPU, and says so in one line."""

import torch

from minildm.course import choose
from minildm.runs import LATENT_CONFIG, SMALL_LATENT
from minildm.unet import UNet


def test_one_line_says_what_was_chosen(monkeypatch, capsys):
    sizes = [f"{sum(p.numel() for p in UNet(config).parameters()):,}" for config in (SMALL_LATENT, LATENT_CONFIG)]
    for gpu in (False, True):
        monkeypatch.setattr(torch.cuda, "is_available", lambda gpu=gpu: gpu)
        monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "A Card")
        device, config = choose.network(SMALL_LATENT, LATENT_CONFIG)
        assert device.type == ("cuda" if gpu else "cpu") and config is (LATENT_CONFIG if gpu else SMALL_LATENT)
        (line,) = capsys.readouterr().out.splitlines()
        chosen, other = reversed(sizes) if gpu else sizes
        assert line.startswith(f"training {chosen} weights on ") and other in line and ("A Card" in line) is gpu
