"""The shapes world: draws, pictures, captions, palette."""

import math
import re
import time

import numpy as np
import pytest
import torch

from minildm import draws
from minildm import scenes as sc

N = 20_000
PIXEL = 1 / 32
COLOURS, SHAPES, GROUNDS, SIZES = list(sc.COLOURS), list(sc.SHAPES), list(sc.BACKGROUNDS), list(sc.SIZES)
SIZE_OF = {"small": 0, "tiny": 0, "little": 0, "large": 1, "big": 1, "huge": 1}
OBJECT = re.compile(rf"(?:({'|'.join(SIZE_OF)}) )?({'|'.join(COLOURS)}) ({'|'.join(SHAPES)})")
GROUND = re.compile("|".join(GROUNDS))
PLACE = re.compile(r"(?:in|at|on) the ((?:top|bottom) (?:left|right)|top|bottom|left|right|centre|middle)")
RELATION = re.compile(r"to its (left|right)|(above|below) it|(?:to the )?(left|right) of|(above|below)")


@pytest.fixture(scope="module")
def many():
    return sc.draw(N, seed=1)


def same(a, b):
    names = ("shape", "colour", "size", "x", "y", "background")
    return all(torch.equal(getattr(a, name), getattr(b, name)) for name in names)


def single(shape, size=1, colour=0, background=0, x=0.5, y=0.5):
    """One scene with one object, by hand."""
    slots = [torch.tensor([[value, -1]]) for value in (shape, colour, size)]
    return sc.Scenes(*slots, torch.tensor([[x, 0.0]]), torch.tensor([[y, 0.0]]), torch.tensor([background]))


def pairs(scenes):
    """The set of (colour, shape) names of each scene, absent objects left out."""
    rows = zip(scenes.colour.tolist(), scenes.shape.tolist(), strict=True)
    return [[(COLOURS[a], SHAPES[b]) for a, b in zip(c, s, strict=True) if b >= 0] for c, s in rows]


# Draws


def test_hash_is_splitmix64():
    # The first outputs from the state 1234567, as in Rosetta Code, "Pseudo-random numbers/Splitmix64".
    state = np.uint64(1234567) + np.arange(5, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    assert draws.mixed(state).tolist() == [
        6457827717110365317,
        3203168211198807973,
        9817491932198370423,
        4593380528125082431,
        16408922859458223821,
    ]


def test_uniforms_are_uniform_and_independent():
    u = draws.uniforms(seed=0, start=0, n=50_000, draws=6)
    assert u.dtype == torch.float32 and 0 <= u.min() and u.max() < 1
    assert (u.mean(0) - 0.5).abs().max() < 0.006  # standard error 0.0013
    assert (u.var(0) - 1 / 12).abs().max() < 0.002
    # Neighbours in row, in column and in seed:
    both = torch.cat([u[1:], u[:-1], draws.uniforms(seed=1, start=1, n=49_999, draws=6)], 1)
    off = torch.corrcoef(both.T) - torch.eye(18)
    assert off.abs().max() < 0.025  # standard error 0.0045


def test_scene_depends_only_on_seed_and_number():
    whole = sc.draw(15, seed=7)
    assert same(sc.draw(10, seed=7, start=5), whole[5:])
    assert same(sc.draw(1, seed=7, start=14), whole[14])
    assert same(whole[-1], whole[torch.tensor([14])])
    assert not same(sc.draw(15, seed=8), whole)
    assert len(sc.draw(0)) == 0 and sc.render(sc.draw(0)).shape == (0, 3, 32, 32)
    with pytest.raises(IndexError, match="scene: got 15"):
        whole[15]


def test_types_and_absent_slots(many):
    absent = many.shape[:, 1] < 0
    assert 0.48 < absent.float().mean() < 0.52
    for name in ("shape", "colour", "size"):
        value = getattr(many, name)
        assert value.dtype == torch.int64 and (value[absent, 1] == -1).all() and (value[~absent] >= 0).all()
    assert many.x.dtype == many.y.dtype == torch.float32
    assert (many.x[absent, 1] == 0).all() and (many.y[absent, 1] == 0).all()
    assert torch.equal(many.count, 2 - absent.long())
    assert (sc.draw(100, objects=1).count == 1).all() and (sc.draw(100, objects=2).count == 2).all()


def test_inside_the_frame_and_apart(many):
    r = many.radius
    here = many.shape >= 0
    for v in (many.x, many.y):
        assert (v - r)[here].min() > 0.0149 and (v + r)[here].max() < 0.9851
    two = many[many.count == 2]
    gap = torch.hypot(two.x[:, 0] - two.x[:, 1], two.y[:, 0] - two.y[:, 1]) - two.radius.sum(1)
    assert gap.min() >= 2 * PIXEL
    assert (two.shape[:, 0] * 8 + two.colour[:, 0] != two.shape[:, 1] * 8 + two.colour[:, 1]).all()


def test_relations_are_beyond_doubt_and_even(many):
    two = many[many.count == 2]
    dx, dy = two.x[:, 0] - two.x[:, 1], two.y[:, 0] - two.y[:, 1]
    assert (dx.abs() - dy.abs()).abs().min() >= 1.5 * PIXEL
    found = sc.relation(two)
    names = np.array(sc.RELATIONS)[found.numpy()]
    across, upright = np.where(dx < 0, "left of", "right of"), np.where(dy < 0, "above", "below")
    want = np.where(dx.abs() > dy.abs(), across, upright)
    assert (names == want).all()
    assert (torch.bincount(found, minlength=4) / len(two) - 0.25).abs().max() < 0.02
    assert (sc.relation(many[many.count == 1]) == -1).all()


def test_attributes_are_even(many):
    colour, size = many.colour[:, 0], many.size
    for value, k in ((many.background, 4), (size[:, 0], 2), (size[:, 1], 2), (colour, 8)):
        value = value[value >= 0]
        assert (torch.bincount(value, minlength=k) / len(value) - 1 / k).abs().max() < 0.02
    one = many[many.count == 1]
    small = one.x[one.size[:, 0] == 0, 0]
    edges = torch.linspace(0.125, 0.875, 6)
    share = torch.histogram(small, edges).hist / len(small)
    assert (share - 0.2).abs().max() < 0.03  # uniform over where it may lie


def test_place_and_relation_near_their_boundaries():
    third = 1 / 3
    for x, want in ((third - 1.6 * PIXEL, 3), (third - 1.4 * PIXEL, -1), (third + 1.4 * PIXEL, -1), (0.5, 4)):
        assert sc.place(single(0, x=x)).tolist() == [[want, -1]]
    assert sc.PLACES[sc.place(single(0, x=0.8, y=0.2))[0, 0]] == "top right"
    for more, want in ((-1.6, 0), (-1.4, -1), (1.4, -1), (1.6, 2)):  # pixels by which |dy| exceeds |dx|
        pair = sc.draw(1, objects=2)
        pair.x, pair.y = torch.tensor([[0.3, 0.6]]), torch.tensor([[0.3, 0.6 + more * PIXEL]])
        assert sc.relation(pair).item() == want


def test_held_out_pairs():
    assert len(sc.HELD_OUT) == 8
    assert {c for c, _ in sc.HELD_OUT} == set(COLOURS) and {s for _, s in sc.HELD_OUT} == set(SHAPES)
    held = set(sc.HELD_OUT)
    trained = {p for row in pairs(sc.draw(N, seed=2)) for p in row}
    assert not trained & held and trained | held == {(c, s) for c in COLOURS for s in SHAPES}
    for objects in (1, 2, None):
        rows = pairs(sc.draw(4000, seed=3, objects=objects, held_out=True))
        assert all(sum(p in held for p in row) == 1 for row in rows)
        assert {p for row in rows for p in row if p in held} == held
    first = np.mean([row[0] in held for row in pairs(sc.draw(4000, seed=3, objects=2, held_out=True))])
    assert 0.46 < first < 0.54


@pytest.mark.parametrize("wrong", [{"n": -1}, {"n": 1, "start": -1}, {"n": 1, "objects": 3}])
def test_draw_refuses(wrong):
    with pytest.raises(ValueError, match=f"^{list(wrong)[-1]}: got .*; expected"):
        sc.draw(**wrong)


# Pictures


def test_render_range_and_colours():
    scenes = sc.draw(200, seed=4)
    picture = sc.render(scenes)
    assert picture.shape == (200, 3, 32, 32) and picture.dtype == torch.float32
    assert picture.min() >= -1 and picture.max() <= 1
    ground = torch.tensor(list(sc.BACKGROUNDS.values()))[scenes.background] * 2 - 1
    assert torch.allclose(picture[:, :, 0, 0], ground)  # no object reaches a corner of the frame
    inside = sc.masks(scenes)[:, 0] == 1
    for i in range(20):
        want = torch.tensor(sc.COLOURS[COLOURS[scenes.colour[i, 0]]]) * 2 - 1
        assert inside[i].any() or SIZES[scenes.size[i, 0]] == "small"  # thin strokes may fill no pixel
        found = picture[i][:, inside[i]]
        assert torch.allclose(found, want[:, None].expand_as(found), atol=1e-6)
    assert torch.equal(sc.render(scenes[50:60]), picture[50:60])


def area(shape, r):
    """Area of a shape in the square of r's unit, by plane geometry."""
    arm = 0.9487 * r
    return {
        "circle": math.pi * r**2,
        "square": (1.4 * r) ** 2,
        "triangle": 3 * math.sqrt(3) / 4 * r**2,
        "star": 5 * r * 0.4 * r * math.sin(math.pi / 5),
        "ring": math.pi * (r**2 - (r / 2) ** 2),
        "cross": 2 * (2 * arm) * (2 * arm / 3) - (2 * arm / 3) ** 2,
    }[shape]


@pytest.mark.parametrize("size", [0, 1])
@pytest.mark.parametrize("shape", range(6))
def test_masks_have_the_areas_of_geometry(shape, size):
    radius = list(sc.SIZES.values())[size]
    mask = sc.masks(single(shape, size, x=0.47, y=0.51), 512)
    assert mask[0, 1].sum() == 0
    assert mask[0, 0].sum().item() == pytest.approx(area(SHAPES[shape], radius * 512), rel=0.003)
    # Whole inside the bounding circle (and half a pixel of soft edge), which it touches.
    y, x = torch.nonzero(mask[0, 0] > 0.5, as_tuple=True)
    reach = torch.hypot((x + 0.5) / 512 - 0.47, (y + 0.5) / 512 - 0.51).max().item()
    assert 0.96 * radius < reach <= radius + 0.5 / 512


def test_shapes_stand_upright_and_the_ring_has_a_hole():
    triangle, star = (sc.masks(single(i), 128)[0, 0] for i in (2, 3))
    assert triangle[64 - 25, 64] > 0.5 and triangle[64 - 25, 50] == 0  # a point at the top
    assert torch.allclose(star, star.flip(1), atol=1e-5) and star[64 - 25, 64] > 0.5
    for size in (0, 1):
        ring = sc.masks(single(4, size), 32)[0, 0]
        assert ring[15:17, 15:17].sum() == 0 and ring.max() > 0.9


def test_any_resolution_gives_the_same_drawing():
    scenes = sc.draw(64, seed=5)
    coarse, fine = sc.render(scenes, 32), sc.render(scenes, 64)
    halved = torch.nn.functional.avg_pool2d(fine, 2)
    assert (halved - coarse).abs().mean() < 0.003
    assert (halved - coarse).abs().max() < 0.6  # at corners, where the soft edge is not the true area
    for size in (33, 200):
        assert sc.render(scenes[:2], size).shape == (2, 3, size, size)


def test_layout_and_edge_maps():
    scenes = sc.draw(300, seed=6)
    box, edge, mask = sc.layout_map(scenes, 64), sc.edge_map(scenes, 64), sc.masks(scenes, 64)
    assert box.shape == mask.shape == (300, 2, 64, 64) and edge.shape == (300, 1, 64, 64)
    assert torch.allclose(box.sum((2, 3)), (2 * scenes.radius * 64) ** 2, rtol=1e-4)
    assert (mask * (box == 0)).sum() < 0.001 * mask.sum()
    # The outline lies where the mask changes: in the soft pixels, and nowhere more than two pixels from them.
    soft = ((mask > 0.3) & (mask < 0.7)).any(1, keepdim=True)
    assert 0 <= edge.min() and edge.max() <= 1 and edge[soft].mean() > 0.9
    near = torch.nn.functional.max_pool2d(((mask > 0) & (mask < 1)).any(1, keepdim=True).float(), 3, 1, 1)
    assert edge[near == 0].sum() < 0.01 * edge.sum()
    ring = sc.edge_map(single(4), 256).sum().item() / (256 / 32)  # line length: two circles
    assert ring == pytest.approx(2 * math.pi * 1.5 * 0.21 * 256, rel=0.01)


@pytest.mark.parametrize("size", [7, 32.0, "32", True])
@pytest.mark.parametrize("function", [sc.render, sc.masks, sc.edge_map, sc.layout_map])
def test_size_is_checked(function, size):
    with pytest.raises(ValueError, match="^size: got .*; expected"):
        function(sc.draw(1), size)


def test_render_speed():
    # One thread, so that a busy machine cannot make threads wait for each other; the best of three.
    scenes, threads = sc.draw(4096), torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        seconds = []
        for _ in range(3):
            start = time.perf_counter()
            sc.render(scenes)
            seconds.append(time.perf_counter() - start)
    finally:
        torch.set_num_threads(threads)
    assert 4096 / min(seconds) >= 10_000


# Captions


def check(text, scenes, i, full):
    """Read a caption back without the generator and hold what it says against the scene's own numbers."""
    said = [m.groups() for m in OBJECT.finditer(text)]
    count = int(scenes.count[i])
    assert len(said) == count, text
    order = []
    for size, colour, shape in said:
        match = [
            k
            for k in range(count)
            if (COLOURS[scenes.colour[i, k]], SHAPES[scenes.shape[i, k]]) == (colour, shape)
        ]
        assert len(match) == 1, text
        assert size is not None or not full, text
        assert size is None or SIZE_OF[size] == scenes.size[i, match[0]], text
        order += match
    assert len(set(order)) == count, text
    grounds = GROUND.findall(text)
    assert grounds == [GROUNDS[scenes.background[i]]] or (not grounds and not full), text
    if count == 2:
        found = RELATION.search(text)
        assert found and not RELATION.search(text, found.end()), text
        word = next(filter(None, found.groups()))
        turned = found[1] or found[2] or found.start() < OBJECT.search(text).start()
        subject, other = order[::-1] if turned else order
        dx = float(scenes.x[i, subject] - scenes.x[i, other]) / PIXEL
        dy = float(scenes.y[i, subject] - scenes.y[i, other]) / PIXEL
        along, across = {"left": (-dx, dy), "right": (dx, dy), "above": (-dy, dx), "below": (dy, dx)}[word]
        assert along >= abs(across) + 1.5, text
        return False
    place = PLACE.search(text)
    if place:
        name = place[1].replace("middle", "centre")
        column = 0 if "left" in name else 2 if "right" in name else 1
        row = 0 if "top" in name else 2 if "bottom" in name else 1
        for third, v in ((column, scenes.x[i, 0]), (row, scenes.y[i, 0])):
            low, high = third * 32 / 3, (third + 1) * 32 / 3
            v = float(v) * 32
            assert (third == 0 or v >= low + 1.5 - 1e-4) and (third == 2 or v <= high - 1.5 + 1e-4), text
    else:
        assert not {"top", "bottom", "left", "right", "centre", "middle"} & set(text.split()), text
    return bool(place)


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("forms", ["train", "held_out"])
def test_captions_are_true(many, forms, full):
    part = many[:6000]
    texts = sc.captions(part, seed=9, full=full, forms=forms)
    placed = [check(text, part, i, full) for i, text in enumerate(texts)]
    assert max(len(text.split()) for text in texts) <= 24
    assert all(text == text.lower() and "  " not in text for text in texts)
    assert not any(re.search(r"\ba [aeiou]|\ban [^aeiou]", text) for text in texts)
    one = (part.count == 1).numpy()
    share = np.mean(np.array(placed)[one])
    if full:
        sure = sc.place(part)[:, 0].numpy()[one] >= 0
        assert (np.array(placed)[one] == sure).all() and 0.45 < share < 0.55
    else:
        assert 0.26 < share < 0.34


def test_training_captions_leave_things_out(many):
    texts = sc.captions(many, seed=1)
    sizes = [size for text in texts for size, _, _ in OBJECT.findall(text)]
    assert 0.78 < np.mean([bool(size) for size in sizes]) < 0.82
    assert 0.83 < np.mean([bool(GROUND.search(text)) for text in texts]) < 0.87
    assert set(filter(None, sizes)) == set(SIZE_OF)


def test_caption_depends_only_on_scene_seed_and_number(many):
    whole = sc.captions(many[:40], seed=3)
    assert sc.captions(many[15:40], seed=3, start=15) == whole[15:]
    assert sc.captions(many[:40], seed=4) != whole


def skeleton(text):
    """The sentence form: everything that the scene decides replaced by one letter a kind."""
    text = OBJECT.sub("O", GROUND.sub("G", text))
    return re.sub(r"\ban? O", "O", PLACE.sub("P", RELATION.sub(lambda m: "T" if m[1] or m[2] else "R", text)))


def test_sentence_forms(many):
    seen = {skeleton(text) for text in sc.captions(many, seed=5)}
    new = {skeleton(text) for text in sc.captions(many, seed=5, forms="held_out")}
    assert not seen & new
    for is_kind in (
        lambda s: s.count("O") == 2,
        lambda s: s.count("O") == 1 and "P" not in s,
        lambda s: s.count("O") == 1 and "P" in s,
    ):
        assert sum(map(is_kind, seen)) >= 8 and sum(map(is_kind, new)) >= 4
    words = lambda texts: set(re.findall(r"\w+", " ".join(texts)))  # noqa: E731
    assert words(new) <= words(seen)


def test_words_are_the_words_of_training_captions(many):
    words = lambda texts: set(re.findall(r"\w+|[^\w\s]", " ".join(texts)))  # noqa: E731
    trained = words(sc.captions(many, seed=6))
    assert trained - {","} == sc.WORDS
    assert words(sc.captions(many, seed=6, full=True, forms="held_out")) <= trained  # commas too


def test_either_object_comes_first(many):
    two = many[many.count == 2]
    texts = sc.captions(two, seed=2)
    first = [OBJECT.search(text).group(2, 3) == pair[0] for text, pair in zip(texts, pairs(two), strict=True)]
    assert 0.47 < np.mean(first) < 0.53


def test_caption_errors():
    with pytest.raises(ValueError, match="^forms: got 'test'; expected"):
        sc.captions(sc.draw(1), forms="test")
    doubtful = sc.draw(1, objects=2)
    doubtful.x = doubtful.y = torch.tensor([[0.3, 0.7]])
    with pytest.raises(ValueError, match="^scenes: got two objects in no certain relation"):
        sc.captions(doubtful)


def test_unknown_words():
    assert sc.unknown_words("A large RED circle, on a white background.") == []
    got = sc.unknown_words("a gray cirle and a gray xylophone's case")
    assert [word for word, _ in got] == ["gray", "cirle", "xylophone's", "case"]
    assert got[0][1][0] == "grey" and got[1][1][0] == "circle" and got[2][1] == []
    assert sc.unknown_words("") == []


# Palette


def test_palette_is_safe_for_colour_blind_eyes():
    """The least difference of two colours, in CAM02-UCS (Luo, Cui and Li, 2006), as seen by the eyes that
    Machado, Oliveira and Fernandes (2009) simulate, at full severity."""
    from colorspacious import cspace_convert

    rgb = np.array([*sc.COLOURS.values(), *sc.BACKGROUNDS.values()])
    a, b = np.triu_indices(12, 1)
    grounds = (a >= 8) & (b >= 8)
    for sight, least, least_ground in (
        (None, 23.6, 14.9),
        ("deuteranomaly", 17.0, 14.7),
        ("protanomaly", 17.1, 15.3),
    ):
        space = {"name": "sRGB1+CVD", "cvd_type": sight, "severity": 100} if sight else "sRGB1"
        seen = cspace_convert(np.clip(cspace_convert(rgb, space, "sRGB1"), 0, 1), "sRGB1", "CAM02-UCS")
        apart = np.linalg.norm(seen[a] - seen[b], axis=1)
        assert apart[~grounds].min() >= least  # two colours, or a colour and a background
        assert apart[grounds].min() >= least_ground  # two backgrounds


def test_palette_can_be_read_from_pixels():
    rgb = np.array([*sc.COLOURS.values(), *sc.BACKGROUNDS.values()])
    a, b = np.triu_indices(12, 1)
    apart = np.linalg.norm(rgb[a] - rgb[b], axis=1)
    assert apart[(a < 8)].min() >= 0.35
    # Half-way between two colours is no third colour.
    for i in range(8):
        for j in range(i):
            others = [k for k in range(8) if k not in (i, j)]
            assert np.linalg.norm(rgb[others] - (rgb[i] + rgb[j]) / 2, axis=1).min() >= 0.15
