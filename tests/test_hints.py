"""Edges, boxes and layouts, how well a picture follows them, and the measures of editing made of that."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import ndimage
from torchvision.ops import box_iou

from minildm import edits, evaluate, hinted, hints, oracle, scenes, tasks, weights
from minildm.control import ControlNet
from minildm.files import UserError
from minildm.train import fit

DRAWN = scenes.draw(60, seed=31)


@pytest.fixture(scope="module")
def clip():
    return weights.load("clip")


@pytest.fixture(scope="module")
def pipe():
    return weights.load("shapes")


# --- boxes


def test_box_maps_have_the_boxes_areas():
    boxes = torch.tensor([[0.1, 0.2, 0.55, 0.9], [0.0, 0.0, 1.0, 1.0], [0.5, 0.5, 0.52, 0.98]])
    wide = scenes.box_map(boxes, 24, 40)
    assert wide.shape == (3, 24, 40)
    areas = (boxes[:, 2] - boxes[:, 0]) * 40 * (boxes[:, 3] - boxes[:, 1]) * 24
    torch.testing.assert_close(wide.sum((1, 2)), areas, rtol=1e-4, atol=0)
    assert torch.equal(scenes.box_map(DRAWN.boxes, 32), scenes.layout_map(DRAWN, 32))


def test_overlap_is_torchvisions():
    generator = torch.Generator().manual_seed(0)
    corners = torch.rand(2, 50, 2, 2, generator=generator).sort(2).values
    boxes, others = (torch.cat([c[:, 0], c[:, 1]], 1) for c in corners)
    torch.testing.assert_close(oracle.overlap(boxes[:, None], others[None]), box_iou(boxes, others))
    empty = torch.zeros(4)
    assert oracle.overlap(empty, empty) == 0 and oracle.overlap(empty, boxes[0]) == 0


def test_objects_are_looked_for_in_their_boxes():
    reading = oracle.read(scenes.render(DRAWN))
    iou, right = oracle.in_boxes(reading, DRAWN)
    asked = DRAWN.shape >= 0
    assert torch.equal(~iou.isnan(), asked) and torch.equal(right, asked)
    assert iou[asked].mean() > 0.95  # the oracle finds centres to 0.2 pixels
    two = DRAWN[DRAWN.count == 2]
    there = oracle.read(scenes.render(two))
    swapped = replace(two, **{name: getattr(two, name).flip(1) for name in ("shape", "colour", "size")})
    assert not oracle.in_boxes(there, swapped)[1].all(1).any()  # each is in the other's box
    turned = replace(two, **{name: getattr(two, name).flip(1) for name in ("shape", "colour", "size", "x", "y")})
    assert oracle.in_boxes(there, turned)[1].all()  # the order says nothing
    noise = torch.rand(3, 3, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1
    iou, right = oracle.in_boxes(oracle.read(noise), DRAWN[:3])
    assert iou.nansum() == 0 and not right.any()
    moved = replace(DRAWN, x=DRAWN.x.roll(1), y=DRAWN.y.roll(1))
    assert oracle.in_boxes(reading, moved)[0][asked].nanmean() < 0.4
    with pytest.raises(UserError, match="scenes"):
        oracle.in_boxes(reading, DRAWN[:2])


# --- edges


def test_edge_f1_is_the_one_of_scipys_dilation():
    pictures, maps = scenes.render(DRAWN), hints.edges(DRAWN)
    shifted = maps.roll(2, 3)
    found = hints.edge_f1(pictures, shifted)
    square = np.ones((3, 3), bool)
    for i in range(len(DRAWN)):
        drawn, wanted = hints.outlines(pictures)[i, 0].numpy(), shifted[i, 0].numpy() > 0.5
        precision = (drawn & ndimage.binary_dilation(wanted, square)).sum() / drawn.sum()
        recall = (wanted & ndimage.binary_dilation(drawn, square)).sum() / wanted.sum()
        assert found[i].item() == pytest.approx(2 * precision * recall / (precision + recall), abs=1e-5)
    assert found.max() < 0.95


def test_a_picture_follows_its_own_edges_and_no_others():
    pictures, maps = scenes.render(DRAWN), hints.edges(DRAWN)
    assert maps.shape == (60, 3, 32, 32)
    assert hints.edge_f1(pictures, maps).min() > 0.98
    assert hints.edge_f1(pictures, maps.roll(1, 0)).mean() < 0.4
    assert hints.edge_f1(torch.zeros(1, 3, 32, 32), maps[:1]) == 0
    blurred = torch.nn.functional.avg_pool2d(pictures, 9, 1, 4)
    assert hints.edge_f1(blurred, maps).mean() < 0.9


# --- layouts


def test_a_layout_holds_the_captions_vectors_where_the_boxes_are(clip):
    boxes = [hints.Box("a small red circle", 0, 0, 0.5, 0.25), hints.Box("a large blue ring", 0.5, 0.5, 1, 1)]
    made = hints.layout(clip, boxes, 16, 32)
    assert made.shape == (1, clip.dim, 16, 32)
    vectors = clip.prompts([box.caption for box in boxes]) * clip.dim**0.5
    torch.testing.assert_close(made[0, :, 2, 10], vectors[0])
    torch.testing.assert_close(made[0, :, 12, 20], vectors[1])
    assert made[0, :, 8:, :16].abs().max() == 0 and made[0, :, 4:8].abs().max() == 0


@pytest.mark.parametrize(
    "boxes, told",
    [
        ([], "no boxes"),
        ([hints.Box("", 0, 0, 1, 1)], "box 0, caption"),
        ([hints.Box("a ring", 0, 0, 1, 1), hints.Box("a star", 0.5, 0.2, 0.5, 0.8)], r"box 1 \(a star\).*an area"),
        ([hints.Box("a ring", 0.5, 0.8, 0.6, 0.2)], "an area"),
        ([hints.Box("a ring", 0.5, 0.2, 0.5 + 1e-12, 0.8)], r"box 0 \(a ring\).*at least one pixel of the map"),
        ([hints.Box("a ring", 0, 0, 1, 1), hints.Box("a star", 0.5, 0.5, 0.53, 0.53)], "box 1.*at least one pixel"),
        ([hints.Box("a ring", 0, 0, 1.2, 1)], "in 0..1"),
        ([hints.Box("a ring", float("nan"), 0, 1, 1)], "in 0..1"),
        ([hints.Box("a ring", 0, 0, 10**400, 1)], "in 0..1"),
    ],
)
def test_boxes_that_are_none_are_named(clip, boxes, told):
    with pytest.raises(UserError, match=told):
        hints.layout(clip, boxes)


@pytest.mark.parametrize(
    "name, size", [("height", (0,)), ("height", (7, 32)), ("width", (32, 0)), ("width", (32, 9.5))]
)
def test_a_layout_of_no_size_is_named(clip, name, size):
    with pytest.raises(UserError, match=f"^{name}: .* from 8 to"):
        hints.layout(clip, [hints.Box("a ring", 0, 0, 1, 1)], *size)


def test_boxes_of_scenes_say_what_is_in_them():
    boxes = hints.boxes_of(DRAWN)
    assert [len(row) for row in boxes] == DRAWN.count.tolist()
    for row, said in zip(boxes, scenes.captions(DRAWN, full=True), strict=True):
        assert all(word in said or word in ("small", "large") for box in row for word in box.caption.split()[1:])


# --- measures: a painter that draws what was asked, and one that does nothing


def perfect(wanted):
    """A task that draws the scenes of its own prompts: `wanted` by prompt."""

    def drawn(task, pipe, said, *given, control=(), **more):
        if said[0] == edits.NOTHING:
            return given[0] if given else torch.zeros(len(said), 3, 32, 32)
        return scenes.render(wanted)

    return drawn


def idle(task, pipe, said, *given, **more):
    return given[0] if given else torch.zeros(len(said), 3, 32, 32)


def test_inpainting_is_right_where_the_scene_is_back(pipe):
    drawn = scenes.draw(10, edits.SEED)
    figures = edits.inpainted(pipe, 10, perfect(drawn))
    assert all(figures[name][0] == 1 for name in ("all", "first", "plain", "known pixels exact"))
    assert figures["without"][0] == 0 and edits.inpainted(pipe, 10, idle)["all"][0] == 0

    def careless(*args, **more):
        return perfect(drawn)(*args, **more) + 1e-6

    assert edits.inpainted(pipe, 10, careless)["known pixels exact"][0] == 0


@pytest.mark.slow
def test_inpainting_counts_the_picture_that_the_model_finds_likeliest(pipe):
    """One try in eight is right, and the others left the hole as it was."""
    drawn = scenes.draw(10, edits.SEED)
    asked = []

    def once_right(task, pipe, said, *given, **more):
        if task is not tasks.inpaint:  # the choice, in two parts as of a small batch
            seeded = torch.Generator().manual_seed(0)
            some = [[said[half], *(x[half] for x in given)] for half in (slice(0, 4), slice(4, 10))]
            return torch.cat([task(pipe, *part, generator=seeded, steps=3) for part in some])
        asked.append(more)
        return perfect(drawn)(task, pipe, said, *given) if len(asked) == 4 else given[0]

    figures = edits.inpainted(pipe, 10, once_right)
    assert figures["all"][0] >= 0.9 and figures["first"][0] == figures["plain"][0] == 0
    plain, told, untold = asked[0], asked[1 : 1 + edits.TRIES], asked[1 + edits.TRIES :]
    assert len(told) == len(untold) == edits.TRIES and len(asked) == edits.drawings("inpaint") - 2  # less the choices
    for tries, scale in ((told, edits.GUIDANCE), (untold, 1)):
        wanted = ("ddpm", 1, scale)
        assert all((more["sampler"], more["reconstruction"], more["scale"]) == wanted for more in tries)
        assert len({more["generator"].initial_seed() for more in tries}) == edits.TRIES
    assert not {"sampler", "reconstruction"} & plain.keys()


def test_recolouring_is_right_where_the_colour_alone_is_new():
    drawn = scenes.draw(40, edits.SEED + 1, objects=1)
    seen = {}

    def keep(task, pipe, said, pictures, strength):
        seen.setdefault("said", said)
        return pictures

    figures = edits.recoloured(None, 40, keep)
    assert figures["all"][0] == 0 and figures["shape"][0] == figures["place"][0] == 1  # nothing was recoloured
    asked = [next(i for i, name in enumerate(scenes.COLOURS) if f" {name} " in f" {said} ".replace(
        " a white", "").replace(" a black", "")) for said in seen["said"]]  # fmt: skip
    new = replace(drawn, colour=drawn.colour.clone())
    new.colour[:, 0] = torch.tensor(asked)
    assert (new.colour[:, 0] != drawn.colour[:, 0]).all()
    pairs = {(list(scenes.COLOURS)[c], scenes.SHAPES[s]) for c, s in zip(asked, drawn.shape[:, 0], strict=True)}
    assert not pairs & set(scenes.HELD_OUT)
    assert edits.recoloured(None, 40, perfect(new))["all"][0] == 1
    gone = replace(new, x=1 - new.x, y=1 - new.y)
    assert edits.recoloured(None, 40, perfect(gone))["all"][0] < 0.3


def test_seams_of_real_pictures_are_within_their_own_range():
    drawn = scenes.draw(200, edits.SEED + 2)
    real, asked = scenes.render(drawn), []

    def cut(task, pipe, said, *given, **more):  # what stands beside the seam is of the next picture
        asked.append((task, more))
        if task not in (tasks.outpaint, tasks.text2img):  # the choice
            return real
        return torch.cat([real[..., : edits.KEPT], real.roll(1, 0)[..., edits.KEPT :]], 3)

    figures = edits.outpainted(None, 200, cut)
    assert figures["within range"][0] >= 0.97 and figures["seam"] == figures["real"]
    assert figures["without"][0] == figures["first"][0] == figures["plain"][0] < 0.7
    assert len(asked) == edits.drawings("outpaint") == edits.TRIES + 3
    for task, more in asked[: edits.TRIES]:
        assert task is tasks.outpaint and more["right"] == 12
        assert (more["sampler"], more["reconstruction"], more["scale"]) == ("ddpm", 1, edits.GUIDANCE)


def test_enlarging_is_measured_beside_bicubic_interpolation():
    pipe = hinted.upscaler_run(weights.load("shapes/vae"), weights.load("clip").text).finish(None)
    drawn = scenes.draw(20, edits.SEED + 3)

    def good(task, pipe, said, small, factor, level, scale):
        assert small.shape[2:] == (16, 16) and factor == 4 and scale == 1
        return scenes.render(drawn, 64) * 0.98

    figures = edits.enlarged(pipe, 20, good)
    assert figures["PSNR in dB"][0] > 30 > figures["PSNR in dB without"][0] and figures["all"][0] == 1


# --- the runs


def test_a_new_controlnet_changes_nothing_and_learns(pipe, clip):
    run = hinted.control_run(pipe, clip)
    assert isinstance(run.model, ControlNet) and run.model.config.conditioning_channels == clip.dim
    with torch.no_grad():
        told, plain = (run.loss(0, torch.Generator().manual_seed(0)) for _ in range(2))
    assert told == plain
    weights_before = [p.clone() for p in pipe.parameters()]
    for _ in fit(run.model, run.loss, steps=2, lr=run.lr, autocast=run.autocast):
        pass
    assert run.model.controlnet_mid_block.weight.abs().max() > 0
    assert all(torch.equal(a, b) for a, b in zip(weights_before, pipe.parameters(), strict=True))
    with torch.no_grad():
        assert run.loss(0, torch.Generator().manual_seed(0)) != plain


def test_the_upscaler_is_told_its_noise(pipe):
    run = hinted.upscaler_run(pipe.vae, pipe.text)
    seen = []
    run.model.register_forward_pre_hook(lambda net, args, kwargs: seen.append((args, kwargs)), with_kwargs=True)
    with torch.no_grad():
        assert run.loss(0, torch.Generator().manual_seed(0)).isfinite()
    (x, _), more = seen[0]
    label = more["label"]
    assert x.shape == (16, 7, 16, 16) and label.max() < hinted.NOISIEST and len(label.unique()) > 10
    made = run.finish(run.model)
    assert made.low is not None and made.size == 64


@pytest.mark.slow
def test_evaluate_measures_control_and_editing(pipe, clip):
    net = hinted.control_run(pipe, clip).model.eval().requires_grad_(False)
    steps = []
    table = evaluate.evaluate(net, 2, steps=1, batch=1, each=lambda done, total: steps.append((done, total)))
    assert set(table["layout"]) >= {"inpaint", "IoU", "right in its box", "IoU without", "IoU no prompt"}
    assert steps[-1] == (8, 8)
    table = evaluate.evaluate(pipe, 2, steps=2, sets=["inpaint", "outpaint"])
    assert table["inpaint"]["known pixels exact"][0] == 1 and "seam" in table["outpaint"]
    edges = ControlNet.from_unet(pipe.unet, 3, hinted.EDGES_EMBEDDING).eval()
    assert evaluate.evaluate(edges, 2, steps=1)["edges"].keys() >= {"edge F1", "edge F1 without"}
    with pytest.raises(UserError, match="sets"):
        evaluate.evaluate(net, 2, sets=["one"])
    with pytest.raises(UserError, match="one of .*inpaint"):
        evaluate.evaluate(pipe, 2, sets=["repaint"])
