"""ControlNet: the published names, files of both layouts, what a new one does, and what is refused."""

import json
from dataclasses import replace

import published
import pytest
import tiny
import torch
from safetensors.torch import save_file
from test_networks import NoFloat64

from minildm import original, tasks, weights
from minildm.control import ControlNet, ControlNetConfig, Hint, controlled
from minildm.files import UserError
from minildm.unet import UNet, UNetConfig
from minildm.weights import controls

UNET = UNetConfig(
    block_out_channels=(8, 16), layers_per_block=1, transformer_layers=(0, 1), heads=(2, 4), context_dim=12,
    norm_num_groups=4,
)  # fmt: skip
NAME = "sd15.control"
PUBLISHED = published.facts("published_configs")["sd15_control"]["controlnet"]


def facts():
    """Names and shapes of the published folder, those of the single file, and the table between them."""
    known = published.facts("published_keys")
    return known["folders"][NAME], known["files"][NAME], known["maps"][NAME]


def shapes(tensors):
    return {name: list(t.shape) for name, t in tensors.items()}


def meta(table):
    return {name: torch.empty(shape, device="meta") for name, shape in table.items()}


def trained(unet=None, channels=3, embedding=(4, 6, 8)):
    """A ControlNet none of whose weights is zero."""
    net = ControlNet.from_unet(unet or UNet(UNET), channels, embedding)
    with torch.no_grad():
        for p in net.parameters():
            p.normal_(std=0.2, generator=torch.Generator().manual_seed(p.numel()))
    return net.eval().requires_grad_(False)


def inputs(count=2):
    g = torch.Generator().manual_seed(0)
    x, context = torch.randn(count, 4, 8, 6, generator=g), torch.randn(count, 5, 12, generator=g)
    return x, torch.linspace(3, 981, count), context


def map_of(count=2, channels=3, size=(32, 24), seed=0):
    return torch.rand(count, channels, *size, generator=torch.Generator().manual_seed(seed))


# --- at full size


def test_the_default_network_is_the_published_one():
    with torch.device("meta"):
        state = ControlNet().state_dict()
    assert shapes(state) == facts()[0]
    assert sum(t.numel() for t in state.values()) == 361_279_120


def test_the_default_config_is_the_published_one():
    assert controls.control_from_hf(PUBLISHED) == ControlNetConfig()


def test_the_single_file_is_a_bijection_onto_the_folder():
    folder, single, table = facts()
    names = original.parts({name: published.Origin(name) for name in single})
    assert names == {"control": table}
    assert sorted(names["control"]) == sorted(folder) and sorted(names["control"].values()) == sorted(single)
    assert shapes(original.parts(meta(single))["control"]) == folder


def test_shapes_and_family_say_what_the_published_config_says():
    tensors = original.parts(meta(facts()[1]))["control"]
    assert controls.control_config(tensors, "the file", None) == ControlNetConfig()
    with pytest.raises(UserError, match=r"no controlnet_cond_embedding\.conv_in\.weight"):
        controls.control_config({k: t for k, t in tensors.items() if "cond" not in k}, "the file", None)


@pytest.mark.parametrize("changes, config", [
    ({"attention_head_dim": [5, 10, 20, 20], "cross_attention_dim": 1024, "use_linear_projection": True},
     {"heads": (5, 10, 20, 20), "context_dim": 1024, "linear_projection": True}),
    ({"conditioning_channels": 1, "conditioning_embedding_out_channels": [8, 16]},
     {"conditioning_channels": 1, "embedding_channels": (8, 16)}),
])  # fmt: skip
def test_configs_there_and_back(changes, config):
    made = controls.control_from_hf(PUBLISHED | changes)
    assert made == replace(ControlNetConfig(), **config)
    assert controls.control_from_hf(json.loads(json.dumps(controls.control_to_hf(made)))) == made


@pytest.mark.parametrize("changes", [
    {"controlnet_conditioning_channel_order": "bgr"}, {"global_pool_conditions": True}, {"act_fn": "gelu"},
    {"mid_block_type": "UNetMidBlock2D"}, {"class_embed_type": "timestep"}, {"encoder_hid_dim": 5},
    {"a_feature_of_tomorrow": 3}, {"down_block_types": ["AttnDownBlock2D"] * 4}, {"addition_embed_type": "text"},
])  # fmt: skip
def test_features_that_are_not_built_are_refused_by_name(changes):
    (name, value), *_ = changes.items()
    with pytest.raises(UserError) as caught:
        controls.control_from_hf(PUBLISHED | changes)
    assert f"control config, {name}: got {value!r}" in str(caught.value)


def test_the_published_format_has_no_words_for_one_without_text(tmp_path):
    net = ControlNet(ControlNetConfig(**vars(replace(UNET, context_dim=None))))
    with pytest.raises(UserError, match="context_dim"):
        weights.save(net, tmp_path)


# --- files


def as_single_file(net):
    """Under the names of the original file, as a network of the published numbers of blocks."""
    names = facts()[2]
    return {names[name]: tensor.contiguous() for name, tensor in net.state_dict().items()}


@pytest.fixture(scope="module")
def four():
    """As many blocks as the published one, but narrow."""
    config = UNetConfig(block_out_channels=(8, 16, 32, 32), heads=(2,) * 4, context_dim=16, norm_num_groups=4)
    return trained(UNet(config), embedding=(4, 4, 8, 8))


def test_folder_and_single_file_give_the_same_network(four, tmp_path):
    weights.save(four, tmp_path / "folder")
    save_file(as_single_file(four), tmp_path / "single.safetensors")
    for loaded in (weights.load(tmp_path / "folder"),
                   weights.load(tmp_path / "single.safetensors", config=tmp_path / "folder")):  # fmt: skip
        assert isinstance(loaded, ControlNet) and not loaded.training and loaded.config == four.config
        assert not any(p.requires_grad for p in loaded.parameters())
        assert all(torch.equal(t, four.state_dict()[name]) for name, t in loaded.state_dict().items())
    with pytest.raises(UserError, match="width of the text states: got 16"):
        weights.load(tmp_path / "single.safetensors")


def test_a_single_file_that_holds_a_whole_model_too_gives_the_controlnet(four, tmp_path):
    rest = {"model.diffusion_model.out.2.bias": torch.zeros(4), "betas": torch.zeros(1000)}
    weights.save(four, tmp_path)
    save_file(as_single_file(four) | rest, tmp_path / "both.safetensors")
    assert isinstance(weights.load(tmp_path / "both.safetensors", config=tmp_path), ControlNet)


def test_every_fault_of_a_file_is_told_at_once(four, tmp_path):
    weights.save(four, tmp_path)
    good = as_single_file(four)
    bad = {name: t for name, t in good.items() if name != "control_model.zero_convs.3.0.weight"}
    bad |= {"control_model.middle_block_out.0.bias": torch.zeros(3), "control_model.extra": torch.zeros(1)}
    save_file(bad, tmp_path / "bad.safetensors")
    with pytest.raises(UserError) as caught:
        weights.load(tmp_path / "bad.safetensors", config=tmp_path)
    for fault in ("missing controlnet_down_blocks.3.weight", "controlnet_mid_block.bias of shape (3,)",
                  "unknown extra"):  # fmt: skip
        assert fault in str(caught.value)


def test_inspect_says_what_it_is(four, tmp_path):
    weights.save(four, tmp_path / "folder", torch.float16)
    save_file(as_single_file(four), tmp_path / "single.safetensors")
    count = f"{sum(p.numel() for p in four.parameters()):,}"
    for path, layout in ((tmp_path / "folder", "diffusers"), (tmp_path / "single.safetensors", "original"),
                         (tmp_path / "folder" / "diffusion_pytorch_model.safetensors", "diffusers")):  # fmt: skip
        told = str(weights.inspect(path))
        assert f"a ControlNet for a U-Net with text states of width 16, 4 levels, {layout} layout" in told
        assert f"(control {count})" in told and told.startswith(path.name)


# --- what it does


@pytest.mark.parametrize("device", ["cpu", "meta"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@torch.no_grad()
def test_runs_on_any_device_and_dtype(device, dtype):
    with torch.device(device), NoFloat64():
        unet = UNet(UNET).to(dtype)
        net = ControlNet.from_unet(unet, 2, (4, 6, 8))
        x, t, context = torch.randn(2, 4, 8, 6, dtype=dtype), torch.tensor([3, 981]), torch.randn(2, 5, 12, dtype=dtype)
        told = net(x, t, context, torch.rand(2, 2, 32, 24, dtype=dtype))
        out = unet(x, t, context, control=told)
    sizes = [(8, 8, 6), (8, 8, 6), (8, 4, 3), (16, 4, 3), (16, 4, 3)]
    assert [tuple(y.shape[1:]) for y in told] == sizes and all(y.dtype == dtype for y in told)
    assert (out.shape, out.dtype, out.device.type) == ((2, 4, 8, 6), dtype, device)


def test_a_new_one_changes_nothing_and_begins_to_learn():
    """Its answers are zero, so the U-Net's stay bit for bit; the gradient of what made them zero is not."""
    unet = UNet(UNET).eval().requires_grad_(False)
    net = ControlNet.from_unet(unet, embedding_channels=(4, 6, 8))
    x, t, context = inputs()
    plain = unet(x, t, context)
    led = controlled(unet, [Hint(net, map_of())])(x, t, context)
    assert torch.equal(led, plain)
    assert not net.controlnet_cond_embedding(map_of()).any()  # the copy begins as the way down it was copied from
    led.square().sum().backward()
    for outlet in [*net.controlnet_down_blocks, net.controlnet_mid_block]:
        assert outlet.weight.grad.abs().max() > 0 and outlet.bias.grad.abs().max() > 0
    # and what lies behind them waits for the next step
    assert not net.conv_in.weight.grad.any() and not net.controlnet_cond_embedding.conv_out.weight.grad.any()
    with torch.no_grad():
        for p in net.parameters():
            p -= 0.01 * p.grad
    led = controlled(unet, [Hint(net, map_of())])(x, t, context)
    net.zero_grad()
    led.square().sum().backward()
    assert not torch.equal(led, plain)
    assert net.conv_in.weight.grad.any() and net.controlnet_cond_embedding.conv_out.weight.grad.any()


def test_gradient_reaches_every_weight():
    net = trained().requires_grad_(True)
    x, t, context = inputs()
    sum(y.square().sum() for y in net(x, t, context, map_of())).backward()
    assert [name for name, p in net.named_parameters() if p.grad is None or not p.grad.any()] == []


def test_a_copy_is_a_copy():
    """Equal to the way down, on its own memory and to be trained, whatever is done with the U-Net's."""
    unet = UNet(replace(UNET, in_channels=9, added_dim=6, num_class_embeds=3)).double().requires_grad_(False)
    net = ControlNet.from_unet(unet, 5, (4, 6))
    theirs, ours = unet.state_dict(), net.state_dict()
    way_up = ("up_blocks.", "conv_norm_out.", "conv_out.")
    assert ours.keys() & theirs.keys() == {name for name in theirs if not name.startswith(way_up)}
    assert all(torch.equal(ours[name], theirs[name]) for name in ours.keys() & theirs.keys())
    assert {t.data_ptr() for t in ours.values()}.isdisjoint(t.data_ptr() for t in theirs.values())
    assert all(p.requires_grad and p.dtype == torch.float64 for p in net.parameters())
    assert net.config.downscale == 2 and net.config.conditioning_channels == 5


@torch.no_grad()
def test_residuals_go_where_they_belong():
    """Zeros change nothing; each place alone changes the answer; one too few is an error."""
    unet = UNet(UNET)
    x, t, context = inputs()
    told = trained()(x, t, context, map_of())
    plain = unet(x, t, context)
    nothing = [torch.zeros_like(y) for y in told]
    assert torch.equal(unet(x, t, context, control=nothing), plain)
    for i, y in enumerate(told):
        assert not torch.equal(unet(x, t, context, control=[*nothing[:i], y, *nothing[i + 1 :]]), plain)
    with pytest.raises(ValueError):
        unet(x, t, context, control=told[:-1])


@torch.no_grad()
def test_weights_add_up():
    """Two nets at weights are the residuals' weighted sum; the same net twice at a half is once; weight 0 is none."""
    unet, first, second = UNet(UNET).double(), trained().double(), trained(embedding=(4, 6, 10)).double()
    x, t, context = (y.double() for y in inputs())
    one, two = map_of(seed=1).double(), map_of(seed=2).double()
    pairs = zip(first(x, t, context, one), second(x, t, context, two), strict=True)
    expected = unet(x, t, context, control=[0.7 * a - 1.3 * b for a, b in pairs])
    both = controlled(unet, [Hint(first, one, 0.7), Hint(second, two, -1.3)])
    torch.testing.assert_close(both(x, t, context), expected, atol=1e-12, rtol=0)
    once, halved = controlled(unet, [Hint(first, one)]), controlled(unet, [Hint(first, one, 0.5)] * 2)
    torch.testing.assert_close(halved(x, t, context), once(x, t, context), atol=1e-12, rtol=0)
    assert torch.equal(controlled(unet, [Hint(first, one, 0)])(x, t, context), unet(x, t, context))
    assert controlled(unet, []) is unet


@torch.no_grad()
def test_maps_reach_their_pictures_when_guidance_doubles_them():
    unet, net = UNet(UNET).double(), trained().double()
    x, t, context = (y.double() for y in inputs(4))
    maps = map_of(2).double()
    led = controlled(unet, [Hint(net, maps)])(x, t, context)
    for i in range(4):
        own = controlled(unet, [Hint(net, maps[i % 2][None])])(x[i][None], t[i][None], context[i][None])
        torch.testing.assert_close(led[i], own[0], atol=1e-10, rtol=0)
    assert not torch.allclose(led, controlled(unet, [Hint(net, maps.flip(0))])(x, t, context))


@pytest.mark.parametrize("scale", [1.0, 3.0])
@pytest.mark.parametrize(("drawn", "maps"), [(2, 4), (4, 2), (3, 2)])
def test_maps_are_one_or_as_many_as_pictures_with_guidance_and_without(drawn, maps, scale):
    pipe = tiny.pipe()
    hint = Hint(trained(pipe.unet), torch.rand(maps, 3, 32, 32))
    told = f"^control maps: got {maps}; expected one, or as many as the noise has pictures: {drawn}"
    with pytest.raises(UserError, match=told):
        tasks.text2img(pipe, "a red ring", steps=2, scale=scale, noise=torch.randn(drawn, 4, 8, 8), control=[hint])
    assert len(tasks.text2img(pipe, "a red ring", steps=2, scale=scale, control=[hint])) == maps


@torch.no_grad()
def test_a_map_is_read_once():
    unet, net = UNet(UNET), trained()
    calls = []
    net.controlnet_cond_embedding.register_forward_hook(lambda *_: calls.append(1))
    network = controlled(unet, [Hint(net, map_of())])
    for _ in range(3):
        network(*inputs())
    assert len(calls) == 1


@torch.no_grad()
def test_an_inpainting_unet_shows_the_noisy_channels_alone():
    unet, net = UNet(replace(UNET, in_channels=9)), trained()
    x, t, context = inputs()
    nine = torch.cat([x, torch.randn(2, 5, 8, 6)], 1)
    led = controlled(unet, [Hint(net, map_of())])(nine, t, context)
    assert torch.equal(led, unet(nine, t, context, control=net(x, t, context, map_of())))


# --- mistakes


@pytest.mark.parametrize("hint, told", [
    (lambda net: Hint(net, map_of(size=(32, 32))), "control map: got '32 x 32 (height x width)'; expected 32 x 24"),
    (lambda net: Hint(net, map_of(size=(24, 32))), "control map: got '24 x 32 (height x width)'; expected 32 x 24"),
    (lambda net: Hint(net, map_of(channels=1)), "control map: got (2, 1, 32, 24); expected a tensor of shape (b, 3,"),
    (lambda net: Hint(net, map_of()[0]), "control map: got (3, 32, 24)"),
    (lambda net: Hint(net, "edges.png"), "control map: got 'str'"),
    (lambda net: Hint(net, map_of(3)), "control maps: got 3; expected one, or one for each picture"),
    (lambda net: Hint(net, map_of(0)), "control maps: got 0"),
    (lambda net: Hint(net, 2 * map_of()), "control map: got 'values from 0.00"),
    (lambda net: Hint(net, map_of() - 0.5), "control map: got 'values from -0."),
    (lambda net: Hint(net, map_of() * float("nan")), "control map: got 'values from nan to nan'; expected values in"),
    (lambda net: Hint(net, map_of() * float("inf")), "control map: got 'values from "),
    (lambda net: Hint(net, map_of(), float("nan")), "control weight: got nan"),
    (lambda net: Hint(net, map_of(), float("inf")), "control weight: got inf"),
    (lambda net: Hint(net, map_of(), 1e38), "control weight: got 1e+38; expected a number up to 1000"),
    (lambda net: Hint(net, map_of(), -1001), "control weight: got -1001"),
    (lambda net: (net, map_of(), 1.0), "control: got 'a tuple in a list'; expected a list of Hint(network, map, we"),
    (lambda net: Hint(net, map_of(), "1"), "control weight: got '1'"),
    (lambda net: Hint(net, map_of(), True), "control weight: got True"),
    (lambda net: Hint(UNet(UNET), map_of()), "control network: got 'UNet'; expected a ControlNet"),
    (lambda net: Hint(net.bfloat16(), map_of()), "control network, dtype: got torch.bfloat16"),
    (lambda net: Hint(net.to("meta"), map_of()), "control network, device: got 'meta'; expected cpu"),
])  # fmt: skip
def test_mistakes_are_one_line(hint, told):
    with pytest.raises(UserError) as caught:
        controlled(UNet(UNET), [hint(trained())])(*inputs())
    assert told in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("changes", [
    {"block_out_channels": (16, 16)}, {"layers_per_block": 2}, {"context_dim": 8}, {"context_dim": None},
    {"added_dim": 6}, {"num_class_embeds": 3}, {"in_channels": 9},
])  # fmt: skip
def test_a_network_of_another_shape_is_refused(changes):
    (name, value), *_ = changes.items()
    net = ControlNet(ControlNetConfig(**vars(replace(UNET, **changes)), embedding_channels=(4, 6, 8)))
    with pytest.raises(UserError) as caught:
        controlled(UNet(UNET), [Hint(net, map_of())])
    assert f"control network, {name}: got {value!r}; expected" in str(caught.value)


def test_an_embedding_needs_a_channel():
    with pytest.raises(UserError, match="embedding_channels"):
        ControlNetConfig(embedding_channels=())
