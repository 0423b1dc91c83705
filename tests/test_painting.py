"""Controls drawn with the mouse, in the kernel and, where there is Node.js, the arithmetic of their pages."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import ipywidgets as w
import numpy as np
import pytest
import torch

from minildm import scenes as sc
from minildm.course import painting, widgets
from minildm.files import UserError
from minildm.hints import Box

COURSE = Path(painting.__file__).parent
PICTURE = torch.linspace(-1, 1, 3 * 6 * 4).view(3, 6, 4)
LEFT, RIGHT = Box("a small red circle", 0.0, 0.1, 0.4, 0.9), Box("a large blue star", 0.5, 0.0, 1.0, 1.0)


def spot(*places, high=6, wide=4):
    mask = torch.zeros(1, 1, high, wide)
    for y, x in places:
        mask[0, 0, y, x] = 1
    return mask


@pytest.fixture
def node():
    """Run JavaScript after one of the course's modules, and give what it says, read as JSON."""
    if not shutil.which("node"):
        pytest.skip("Node.js is not installed")

    def run(module, say):
        source = f"{(COURSE / module).read_text(encoding='utf-8')}\nconsole.log(JSON.stringify({say}));"
        command = ["node", "--input-type=module", "-"]
        done = subprocess.run(command, input=source, capture_output=True, text=True, encoding="utf-8", timeout=60)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return run


def test_a_mask_goes_to_the_page_and_comes_from_it():
    hole = painting.mask(PICTURE, alt="a ramp")
    assert torch.equal(hole.value, torch.zeros(1, 1, 6, 4)) and hole.value.dtype == torch.float32
    assert (hole.wide, hole.high, hole.size, hole.alt, hole.button) == (4, 6, 256, "a ramp", "")
    hole.value = spot((1, 2), (5, 0))
    there = bytes(hole.get_state("value")["value"])
    assert [i for i, bit in enumerate(there) if bit] == [1 * 4 + 2, 5 * 4 + 0] and len(there) == 24
    seen = []
    hole.observe(lambda change: seen.append(change.new), "value")
    hole.set_state({"value": memoryview(bytes(i == 7 for i in range(24)))})  # as the browser does
    assert len(seen) == 1 and torch.equal(seen[0], spot((1, 3))) and hole.value is seen[0]
    hole.value = spot((0, 0)) == 1
    assert torch.equal(hole.value, spot((0, 0)))


def test_the_page_is_given_the_pictures_own_pixels():
    import io

    from PIL import Image

    for given in (PICTURE, PICTURE[None]):
        picture = np.asarray(Image.open(io.BytesIO(painting.mask(given).picture)))
        assert np.array_equal(picture, ((PICTURE + 1) * 127.5).round().byte().permute(1, 2, 0).numpy())


@pytest.mark.parametrize(
    ("mask", "error"),
    [
        (torch.zeros(1, 1, 6, 5), r"mask: got \(1, 1, 6, 5\); expected the picture's size, \(1, 1, 6, 4\)"),
        (torch.zeros(2, 1, 6, 4), r"mask: got \(2, 1, 6, 4\)"),
        (torch.zeros(6, 4), r"mask: got \(6, 4\)"),
        (torch.full((1, 1, 6, 4), 0.5), "values between 0 and 1"),
        (torch.full((1, 1, 6, 4), 2.0), "values 2 to 2"),
        (None, "NoneType"),
    ],
)
def test_a_mask_that_does_not_fit_is_an_error_and_changes_nothing(mask, error):
    hole = painting.mask(PICTURE)
    hole.value = spot((1, 1))
    with pytest.raises(UserError, match=error) as caught:
        hole.value = mask
    assert "\n" not in str(caught.value)
    assert torch.equal(hole.value, spot((1, 1)))


@pytest.mark.parametrize("given", [torch.zeros(2, 3, 6, 4), torch.zeros(6, 4), torch.full((3, 6, 4), 7.0), None])
def test_what_is_not_one_picture_is_an_error(given):
    with pytest.raises(UserError, match="picture"):
        painting.mask(given)


@pytest.mark.parametrize("size", [0, 32, 99.5, True, "wide"])
def test_a_size_that_is_none_is_an_error(size):
    for control in (lambda: painting.mask(PICTURE, size=size), lambda: painting.boxes(size=size)):
        with pytest.raises(UserError, match="size"):
            control()


def test_boxes_go_to_the_page_and_come_from_it():
    frame = painting.boxes()
    assert frame.value == () and frame.choices[0] == ["a small", "a large"]
    seen = []
    frame.observe(lambda change: seen.append(change.new), "value")
    frame.value = [LEFT, tuple(RIGHT)]
    assert seen == [(LEFT, RIGHT)] and all(isinstance(box, Box) for box in frame.value)
    there = json.loads(json.dumps(frame.get_state("value")["value"]))
    assert there == [["a small red circle", 0.0, 0.1, 0.4, 0.9], ["a large blue star", 0.5, 0.0, 1.0, 1.0]]
    frame.set_state({"value": there[1:]})  # as the browser does
    assert seen[1:] == [(RIGHT,)] and isinstance(frame.value[0], Box)
    typed = painting.boxes((), most=3)
    typed.value = [Box("a ring left of a star", 0, 0, 1, 1)]
    assert typed.words == sorted(sc.WORDS) and frame.words == []


@pytest.mark.parametrize(
    ("given", "error"),
    [
        ([LEFT._replace(right=0.0)], r"box 0 \(a small red circle\).*an area"),
        ([LEFT, RIGHT._replace(top=-0.1)], r"box 1 \(a large blue star\).*0\.\.1 of the frame"),
        ([LEFT, RIGHT, LEFT], "boxes: got 3; expected at most 2"),
        ([LEFT._replace(caption="a small mauve circle")], "box 0, caption: got 'a small mauve circle'; expected a sm"),
        ([LEFT._replace(caption="a red circle")], "box 0, caption"),
        ([LEFT._replace(caption=" ")], "box 0, caption"),
        ([("a small red circle", 0, 0)], "boxes: got"),
        (None, "boxes: got None"),
    ],
)
def test_boxes_that_are_none_are_an_error_and_change_nothing(given, error):
    frame = painting.boxes()
    frame.value = [RIGHT]
    with pytest.raises(UserError, match=error) as caught:
        frame.value = given
    assert "\n" not in str(caught.value) and frame.value == (RIGHT,)


def test_a_typed_caption_has_words_of_the_shapes_world():
    with pytest.raises(UserError, match="box 0, caption: got 'strr'; expected star"):
        painting.boxes(()).value = [LEFT._replace(caption="a strr")]


@pytest.mark.parametrize("given", [{"most": 0}, {"most": 4}, {"most": True}, {"choices": ["red"]}, {"choices": [[]]}])
def test_other_arguments_are_an_error(given):
    with pytest.raises(UserError, match=next(iter(given))):
        painting.boxes(**given)


def test_an_explorer_is_given_both_and_keeps_its_views():
    seen = []

    def view(hole, frame):
        seen.append((hole, frame))
        return hole.expand(-1, 3, -1, -1) * (1 - len(frame) / 2)

    controls = {"hole": painting.mask(PICTURE), "frame": painting.boxes(most=1)}
    box = widgets.explorer(view, **controls)
    assert len(seen) == 1 and seen[0][1] == () and len([one for one in box.children if isinstance(one, w.Image)]) == 1
    before = box.picture()
    controls["hole"].value = spot((2, 2))
    assert box.picture() != before and torch.equal(seen[-1][0], spot((2, 2)))
    controls["hole"].value = spot((2, 2))
    assert len(seen) == 2
    widgets.drive(box, hole=[spot((0, 0), (0, 1))], frame=[[LEFT], [RIGHT]])
    assert {frame for _, frame in seen} == {(), (LEFT,), (RIGHT,)}
    assert torch.equal(controls["hole"].value, spot((2, 2))) and controls["frame"].value == ()


def test_beside_moves_what_is_drawn_on_and_nothing_else():
    hole, frame = painting.mask(PICTURE), painting.boxes()
    box = widgets.explorer(lambda t, hole, frame: hole.expand(-1, 3, -1, -1) - t, t=(0, 1, 1), hole=hole, frame=frame)
    panel, image, message = box.children
    painting.beside(box)
    assert panel.children == (box.controls["t"],) and box.children[::2] == (panel, message)
    assert box.children[1].children == (hole, frame, image)
    before = box.picture()
    hole.value = spot((1, 1))
    assert box.picture() == image.value != before


def test_what_a_view_raises_reaches_who_sets_the_value():
    def view(hole):
        if hole.any():
            raise ValueError("no hole, please")
        return hole.expand(-1, 3, -1, -1)

    hole = painting.mask(PICTURE)
    box = widgets.explorer(view, hole=hole)
    with pytest.raises(ValueError, match="no hole, please"):
        widgets.drive(box, hole=[spot((1, 1))])
    assert not hole.value.any() and "no hole" not in box.children[-1].value
    with pytest.raises(ValueError, match="no hole, please"):
        hole.value = spot((1, 1))
    assert "no hole, please" in box.children[-1].value


def test_what_is_drawn_on_is_busy_while_the_view_is_at_work():
    seen, told = [], []
    hole, frame = painting.mask(PICTURE), painting.boxes()

    def view(hole, frame, grey):
        seen.append(busy())
        if grey > 1:
            raise ZeroDivisionError
        return PICTURE[None] * grey

    def busy():
        return (box.controls["hole"].busy, box.controls["frame"].busy) if told else None

    box = widgets.explorer(view, hole=hole, frame=frame, grey=(0.0, 2.0, 0.5))
    told.append("made")
    hole.value = spot((1, 1))
    box.controls["grey"].value = 0.5
    assert seen == [None, (True, True), (True, True)] and busy() == (False, False)
    with pytest.raises(ZeroDivisionError):
        box.controls["grey"].value = 1.5
    assert busy() == (False, False)


def test_the_paint_is_seen_on_every_ground_and_colour():
    """Differences in CAM02-UCS, for eyes as in test_scenes.py: of the two greys of the cloth over a colour, and of the
    colour and the one that is further from it."""
    from colorspacious import cspace_convert

    source = (COURSE / "paint.js").read_text(encoding="utf-8")
    cloth = json.loads(re.search(r"const CLOTH = (\[.*?\]);", source)[1])
    rgb = np.array([*sc.BACKGROUNDS.values(), *sc.COLOURS.values()])
    mixed = [(1 - alpha) * rgb + alpha * np.array(tint) / 255 for *tint, alpha in cloth]
    assert all(0.3 < alpha < 0.7 for *_, alpha in cloth), "the picture is seen through it"
    assert all(len({*tint}) == 1 for *tint, _ in cloth), "greys turn no colour into another"
    for sight in (None, "deuteranomaly", "protanomaly"):
        space = {"name": "sRGB1+CVD", "cvd_type": sight, "severity": 100} if sight else "sRGB1"
        before, dark, light = (
            cspace_convert(np.clip(cspace_convert(one, space, "sRGB1"), 0, 1), "sRGB1", "CAM02-UCS")
            for one in (rgb, *mixed)
        )
        apart = [np.linalg.norm(one - other, axis=1) for one, other in ((before, dark), (before, light), (dark, light))]
        assert np.maximum(*apart[:2]).min() >= 15 and apart[2].min() >= 30


def test_a_pointer_on_the_page_is_a_pixel_of_the_picture(node):
    at = "{left: 100, top: 50, width: 320, height: 480}"  # a picture of 4 x 6, each pixel 80 wide
    places = [(100, 50), (420, 530), (259.9, 50), (260, 290)]
    said = f"[{','.join(f'position({{clientX: {x}, clientY: {y}}}, {at}, 4, 6)' for x, y in places)}]"
    got = node("paint.js", said)
    assert np.allclose(got, [(0, 0), (4, 6), (1.99875, 0), (2, 3)])


@pytest.mark.parametrize("brush", [1, 2, 3, 4, 7])
def test_a_stroke_paints_what_a_round_brush_covers(node, brush):
    """Beside the same by brute force: a disc laid at many places of the line."""
    high, wide = 12, 16
    strokes = [((6.4, 5.6), (6.4, 5.6)), ((1.2, 1.2), (12.7, 8.1)), ((14.9, 11.5), (0.1, 11.5)), ((-4, 3), (30, 5))]
    calls = (f"stroke(bits, {wide}, {high}, {[*a]}, {[*b]}, {brush}, 1)" for a, b in strokes)
    each = ",".join(f"((bits) => {{ {call}; return [...bits]; }})(new Uint8Array({wide * high}))" for call in calls)
    middles = np.stack(np.meshgrid(np.arange(wide) + 0.5, np.arange(high) + 0.5), -1)

    def snap(value):
        return np.floor(value) + 0.5 if brush % 2 else np.floor(np.add(value, 0.5))

    for (a, b), bits in zip(strokes, node("paint.js", f"[{each}]"), strict=True):
        got, line = np.reshape(bits, (high, wide)), np.linspace(snap(a), snap(b), 2000)
        apart = np.linalg.norm(middles[:, :, None] - line, axis=-1).min(-1)
        assert got[apart < brush / 2 - 1e-3].all() and not got[apart > brush / 2 + 1e-3].any()
        assert got.any()
    assert sum(bits := node("paint.js", f"[{each}]")[0]) == {1: 1, 2: 4, 3: 9, 4: 12, 7: 37}[brush]
    assert bits[5 * wide + 6] == 1, "the pixel that the pointer is on"


def test_an_eraser_takes_away(node):
    erased = "((bits) => { stroke(bits, 4, 1, [1.5, 0.5], [2.5, 0.5], 1, 0); return [...bits]; })"
    assert node("paint.js", f"{erased}(new Uint8Array([1, 1, 1, 1]))") == [1, 0, 0, 1]


def test_boxes_stay_in_the_frame_and_keep_an_area(node):
    said = """[
        position({clientX: 110, clientY: 500}, {left: 100, top: 50, width: 200, height: 400}),
        spanned([0.7, 0.2], [0.1, 0.6]),
        moved([0.1, 0.2, 0.4, 0.6], 0.2, -0.1), moved([0.1, 0.2, 0.4, 0.6], -1, 1),
        resized([0.1, 0.2, 0.4, 0.6], 2, 3, 0.8, 2), resized([0.1, 0.2, 0.4, 0.6], 0, 1, 0.9, 0.3),
    ]"""
    assert node("boxes.js", said) == [
        [0.05, 1], [0.1, 0.2, 0.7, 0.6],
        [0.3, 0.1, 0.6, 0.5], [0, 0.6, 0.3, 1],
        [0.1, 0.2, 0.8, 1], [0.35, 0.3, 0.4, 0.6],
    ]  # fmt: skip


def test_a_caption_falls_into_the_words_of_its_menus(node):
    lists = json.dumps([["a", "a dark"], ["red", "dark red"], ["star"]])
    captions = ["a red star", "a dark red star", "a dark dark red star", "a red", "a red star x", "red star", ""]
    got = node("boxes.js", f"{json.dumps(captions)}.map((caption) => parted(caption, {lists}))")
    assert got[:3] == [["a", "red", "star"], ["a", "dark red", "star"], ["a dark", "dark red", "star"]]
    assert got[3:] == [None] * 4
