"""Faults that real ports of these networks had, planted one by one: each must make the test beside it fail.

The table in docs/testing.md says the same; a test compares the two.
"""

import re
import tempfile
from pathlib import Path

import published
import pytest
import test_published as pictures
import torch
import torch.nn.functional as F
from parity import test_reference_networks as networks
from parity import test_schedulers as schedulers

from minildm import blocks, denoise, layers, levels, pipe, tasks, text, unet, vae, weights


def after(patch, kind, change):
    """Every instance of our class `kind` is changed once it is made."""
    real = kind.__init__

    def init(self, *args, **kw):
        real(self, *args, **kw)
        change(self)

    patch.setattr(kind, "__init__", init)


def groupnorm_of_vae(patch):
    patch.setattr(vae, "EPS", 1e-5)


def groupnorm_of_resnets(patch):
    patch.setattr(blocks, "EPS", 1e-6)


def groupnorm_of_transformers(patch):
    after(patch, blocks.Transformer, lambda self: setattr(self.norm, "eps", 1e-5))


def more_heads(patch):
    after(patch, layers.Attention, lambda self: setattr(self, "heads", 2 * self.heads))


def padding_on_both_sides(patch):
    patch.setattr(vae, "Downsample", lambda c, padding: layers.Downsample(c, padding=1))


def tanh_gelu(patch):
    def forward(self, x):
        value, gate = self.proj(x).chunk(2, dim=-1)
        return value * F.gelu(gate, approximate="tanh")

    patch.setattr(blocks.GEGLU, "forward", forward)


def sines_first(patch):
    def swapped(t, dim):
        return layers.timestep_embedding(t, dim).roll(dim // 2, dims=-1)

    patch.setattr(unet, "timestep_embedding", swapped)


def gate_and_value(patch):
    def forward(self, x):
        gate, value = self.proj(x).chunk(2, dim=-1)
        return value * F.gelu(gate)

    patch.setattr(blocks.GEGLU, "forward", forward)


def last_alpha(patch):
    real = levels.pick
    patch.setattr(schedulers, "pick", lambda s, n, spacing, offset, last="clean": real(s, n, spacing, offset, "clean"))


def offset_left_out(patch):
    real = levels.pick
    patch.setattr(schedulers, "pick", lambda s, n, spacing, offset, last="clean": real(s, n, spacing, 0, last))


def guidance_sign(patch):
    real = denoise.guided
    patch.setattr(tasks.draw, "guided", lambda cond, uncond, *more: real(uncond, cond, *more))


def final_norm_left_out(patch):
    real = text.Text.encode_ids

    def encode_ids(self, ids):
        states = self.model(input_ids=ids, output_hidden_states=True).hidden_states[-1]
        return states, real(self, ids)[1]

    patch.setattr(text.Text, "encode_ids", encode_ids)


def scaling_factor(patch):
    patch.setattr(pipe.LatentDiffusion, "decode", lambda self, z: self.vae.decode(z).clamp(-1, 1))


def test_unet():
    networks.test_unet(False, (12, 20), 7)


def test_vae():
    networks.test_vae(2)


def test_ddim():
    schedulers.test_ddim("scaled_linear", "eps", 0.0, "first", "leading", 1, 10)


def test_pictures():
    with tempfile.TemporaryDirectory() as folder:
        model = published.pipe("sd15")
        weights.save(model, folder, torch.float64)
        pictures.test_pictures_are_of_the_reference_pipeline({"sd15": (model, folder, None)}, "sd15")


FAULTS = [
    ("GroupNorm eps 1e-5 for 1e-6 in the autoencoder", groupnorm_of_vae, test_vae),
    ("GroupNorm eps 1e-6 for 1e-5 in the U-Net's resnets", groupnorm_of_resnets, test_unet),
    ("GroupNorm eps 1e-5 for 1e-6 before a transformer", groupnorm_of_transformers, test_unet),
    ("twice as many attention heads", more_heads, test_unet),
    ("the encoder's padding on both sides", padding_on_both_sides, test_vae),
    ("tanh for erf in GELU", tanh_gelu, test_unet),
    ("cosines and sines exchanged", sines_first, test_unet),
    ("gate and value exchanged", gate_and_value, test_unet),
    ("a last alpha of 1", last_alpha, test_ddim),
    ("the steps' offset left out", offset_left_out, test_ddim),
    ("the sign of guidance", guidance_sign, test_pictures),
    ("the text's final norm left out", final_norm_left_out, test_pictures),
    ("the scaling factor left out", scaling_factor, test_pictures),
]


@pytest.mark.parametrize("name, plant, test", FAULTS, ids=[name for name, *_ in FAULTS])
def test_each_fault_is_caught(name, plant, test, monkeypatch):
    with monkeypatch.context() as patch:
        plant(patch)
        with pytest.raises((AssertionError, ValueError, RuntimeError)):
            test()


def test_the_table_in_the_docs_is_this_one():
    page = (Path(__file__).parent.parent / "docs" / "testing.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (.+?) \| `(\w+)` \|$", page, flags=re.M)
    assert rows == [(name, test.__name__) for name, _, test in FAULTS]
