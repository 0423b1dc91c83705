"""Original single files: every published name lands on ours, each once, with its shape and its value."""

import pytest
import torch
from published import Origin, facts

from minildm import original
from minildm.files import UserError

# part: the published folder that holds the same
FILES = {
    "sd15.compvis": {"unet": "sd15.unet", "vae": "sd15.vae", "text_encoder": "sd15.text_encoder"},
    "sd21.compvis": {"unet": "sd21.unet", "vae": "sd15.vae", "text_encoder": "sd21.text_encoder"},
    "sdxl.sgm": {
        "unet": "sdxl.unet", "vae": "sd15.vae", "text_encoder": "sdxl.text_encoder",
        "text_encoder_2": "sdxl.text_encoder_2",
    },
}  # fmt: skip
CASES = [(file, part, folder) for file, parts in FILES.items() for part, folder in parts.items()]


@pytest.fixture(scope="module")
def published():
    """{"files": names and shapes of single files, "folders": of folders, "maps": folder name -> single-file name}."""
    return facts("published_keys")


def empty(shapes):
    return {name: torch.empty(shape, device="meta") for name, shape in shapes.items()}


@pytest.mark.parametrize("file, part, folder", CASES)
def test_a_single_file_holds_the_names_and_shapes_of_the_folder(published, file, part, folder):
    ours = {name: list(t.shape) for name, t in original.parts(empty(published["files"][file]))[part].items()}
    wanted = {name.removeprefix("text_model."): shape for name, shape in published["folders"][folder].items()}
    wanted.pop("embeddings.position_ids", None)  # a row of numbers 0 to 76, which nobody reads
    if folder == "sd21.text_encoder":  # the folder leaves out what nobody uses: the last layer and the projection
        ours = {name: shape for name, shape in ours.items() if ".layers.23." not in name and "projection" not in name}
    assert ours == wanted


@pytest.mark.parametrize("file, part, table", [
    ("sd15.compvis", "unet", "sd15.unet"), ("sd21.compvis", "unet", "sd21.unet"), ("sdxl.sgm", "unet", "sdxl.unet"),
    ("sd15.compvis", "vae", "vae"), ("sd21.compvis", "vae", "vae"), ("sdxl.sgm", "vae", "vae"),
])  # fmt: skip
def test_each_name_is_the_published_translation(published, file, part, table):
    names = {name: Origin(name) for name in published["files"][file]}
    assert original.parts(names)[part] == published["maps"][table]


def test_averages_and_schedule_buffers_are_left_out(published):
    both = published["files"]["sd15.compvis"] | published["files"]["sd15.compvis_ema_extra"]
    plain, with_average = (original.parts(empty(names)) for names in (published["files"]["sd15.compvis"], both))
    assert plain.keys() == with_average.keys()
    assert all(plain[part].keys() == with_average[part].keys() for part in plain)
    assert len(both) > len(published["files"]["sd15.compvis"])


def test_every_strange_name_is_told_at_once(published):
    some = empty(published["files"]["sd15.compvis"] | {"lora_down.weight": [4, 320], "extra.bias": [3]})
    with pytest.raises(UserError, match=r"extra\.bias, lora_down\.weight"):
        original.parts(some)


def test_the_older_spelling_of_the_autoencoder_is_ours_too(published):
    legacy = dict(original.vae_attention(*item) for item in empty(published["folders"]["sd15.vae.legacy"]).items())
    assert {name: list(t.shape) for name, t in legacy.items()} == published["folders"]["sd15.vae"]
    ours = dict(original.vae_attention(*item) for item in empty(published["folders"]["sd15.vae"]).items())
    assert {name: list(t.shape) for name, t in ours.items()} == published["folders"]["sd15.vae"]


def test_what_is_reshaped_keeps_its_values():
    joined, bias, projection, square = torch.randn(6, 2), torch.randn(6), torch.randn(2, 5), torch.randn(4, 4, 1, 1)
    ours = original.parts({
        "cond_stage_model.model.transformer.resblocks.3.attn.in_proj_weight": joined,
        "cond_stage_model.model.transformer.resblocks.3.attn.in_proj_bias": bias,
        "cond_stage_model.model.text_projection": projection,
        "first_stage_model.encoder.mid.attn_1.q.weight": square,
    })  # fmt: skip
    layer = "encoder.layers.3.self_attn"
    for i, letter in enumerate("qkv"):
        assert torch.equal(ours["text_encoder"][f"{layer}.{letter}_proj.weight"], joined[2 * i : 2 * i + 2])
        assert torch.equal(ours["text_encoder"][f"{layer}.{letter}_proj.bias"], bias[2 * i : 2 * i + 2])
    assert torch.equal(ours["text_encoder"]["text_projection.weight"], projection.T)
    assert torch.equal(ours["vae"]["encoder.mid_block.attentions.0.to_q.weight"], square[:, :, 0, 0])


def test_a_file_tells_its_layout(published):
    assert original.is_original(published["files"]["sdxl.sgm"])
    assert not original.is_original(published["folders"]["sd15.unet"])
