"""The oracle: what it reads right, what it refuses, and how readings are compared with scenes."""

import time

import pytest
import torch
import trials
from scipy.stats import binomtest

from minildm import oracle
from minildm.files import UserError
from minildm.oracle import fit, reading
from minildm.scenes import COLOURS, SHAPES, Scenes, draw, masks, negatives, place, relation, render

N = 2_000
FIELDS = ("shape", "colour", "size", "x", "y", "background")


@pytest.fixture(scope="module")
def scenes():
    return trials.scenes_of(N, seed=1)


@pytest.fixture(scope="module")
def clean(scenes):
    return render(scenes)


@pytest.fixture(scope="module")
def read(clean):
    return oracle.read(clean)


def share_right(pictures, scenes):
    return oracle.accuracy(oracle.read(pictures), scenes, every_place=True)["all"][0]


def single(shape=0, colour=0, size=1, x=0.5, y=0.5, background=0):
    """One scene with one object, by hand."""
    slot = lambda value, none: torch.tensor([[value, none]])  # noqa: E731
    columns = (slot(shape, -1), slot(colour, -1), slot(size, -1), slot(x, 0.0), slot(y, 0.0))
    return Scenes(*columns, torch.tensor([background]))


def changed(scenes, **columns):
    return Scenes(*(columns.get(name, getattr(scenes, name)) for name in FIELDS))


def perfect(scenes):
    """A reading that found exactly these scenes."""
    n = len(scenes)
    zero, one = torch.zeros(n), torch.ones(n)
    return oracle.Reading(torch.ones(n, dtype=torch.bool), torch.zeros(n).long(), scenes, zero, one, zero, zero)


# Reading


def test_clean_renders(read, scenes):
    assert oracle.accuracy(read, scenes, every_place=True)["all"][0] >= 0.995
    one = scenes.count == 1  # then slots need no matching
    assert torch.equal(read.scenes.shape[one], scenes.shape[one])
    for name in ("x", "y"):
        off = (getattr(read.scenes, name) - getattr(scenes, name))[one, 0].abs() * 32
        assert off.max() < 0.25, "two steps of the search grid"


@pytest.mark.parametrize("clamped", [False, True])
def test_noise(clean, scenes, clamped):
    pictures = trials.noisy(clean, 0.05)
    assert share_right(pictures.clamp(-1, 1) if clamped else pictures, scenes) >= 0.98


def test_soft_and_off_colour(clean, scenes):
    assert share_right(trials.noisy(trials.blurred(clean, 0.5), 0.01), scenes) >= 0.97
    assert share_right(trials.tinted(scenes, 0.05), scenes) >= 0.97


@pytest.mark.parametrize("size", [48, 64, 128])
def test_other_sizes(scenes, size):
    assert share_right(render(scenes[:100], size), scenes[:100]) == 1


def test_residual_is_the_distance_to_the_scene_drawn_again(read, clean):
    again = render(read.scenes)
    expected = ((again - clean) ** 2).mean(dim=(1, 2, 3)) ** 0.5
    torch.testing.assert_close(read.residual, expected)
    assert read.residual.max() < 0.07
    assert read.residual.dtype == read.margin.dtype == torch.float32


@pytest.fixture
def sharp(monkeypatch):
    """The search without softness."""
    monkeypatch.setattr(fit, "SOFTNESS", (0.0,))
    fit.drawings.cache_clear()
    yield
    fit.drawings.cache_clear()


def test_margin_is_linear_in_a_cross_fade(sharp):
    scene = single(x=16.5 / 32, y=15.25 / 32)  # on the search grid
    circle, ring = (masks(changed(scene, shape=torch.tensor([[shape, -1]])))[:, 0] for shape in (0, 4))
    for u in (0.0, 0.1, 0.2, 0.3, 0.4, 0.5):
        picture = trials.drawn(scene, torch.lerp(circle, ring, u))
        assert oracle.read(picture).margin.item() == pytest.approx(1 - 2 * u, abs=1e-4)


def test_a_picture_does_not_depend_on_its_batch(read, clean):
    some = torch.arange(0, N, 97)
    alone = oracle.read(clean[some])
    for name in ("shape", "colour", "size", "x", "y", "background"):
        assert torch.equal(getattr(alone.scenes, name), getattr(read.scenes[some], name))
    torch.testing.assert_close(alone.margin, read.margin[some], atol=1e-4, rtol=0)


def test_input_kinds(clean, read):
    before = clean[:50].clone()
    assert oracle.read(before.bfloat16()).readable.all()
    beyond = torch.where(before == before.amax(), before + 0.5, before)  # white, where a picture has any
    assert torch.equal(oracle.read(beyond).scenes.shape, read.scenes.shape[:50])
    oracle.read(before.requires_grad_())
    assert torch.equal(before, clean[:50])
    assert len(oracle.read(clean[:0])) == 0


@pytest.mark.parametrize(
    "pictures",
    [torch.zeros(3, 32, 32), torch.zeros(1, 1, 32, 32), torch.zeros(1, 3, 32, 40), torch.zeros(1, 3, 16, 16),
     torch.zeros(1, 3, 32, 32, dtype=torch.uint8)],
)  # fmt: skip
def test_wrong_pictures(pictures):
    with pytest.raises(UserError, match="pictures: got .* expected floats of shape"):
        oracle.read(pictures)


def test_speed(clean):
    oracle.read(clean[:256])
    best = min(_seconds(clean[:1024]) for _ in range(3))
    assert 1024 / best > 1000, "pictures in a second of processor time; the aim is 2,000"


def _seconds(pictures):
    start = time.process_time()
    oracle.read(pictures)
    return time.process_time() - start


# Refusing


def refused(pictures):
    return (~oracle.read(pictures).readable).float().mean().item()


@pytest.mark.parametrize("maker", trials.NO_SCENE, ids=lambda maker: maker.__name__)
def test_what_is_no_scene(maker):
    assert refused(maker(500)) >= 0.99


@pytest.mark.parametrize("distances", [False, True], ids=["cross-fade", "distances"])
def test_half_way_between_shapes(distances):
    pictures, scenes, other = trials.shapes_mixed(1000, distances=distances)
    if distances:  # the mean distance of a circle and a ring about one centre is a circle's, so it is no morph
        pairs = zip(scenes.shape[:, 0].tolist(), other.tolist(), strict=True)
        pictures = pictures[[{SHAPES[a], SHAPES[b]} != {"circle", "ring"} for a, b in pairs]]
    assert refused(pictures) >= 0.9


def test_half_way_between_colours_and_sizes():
    assert refused(trials.colours_mixed(1000)) >= 0.9
    assert refused(trials.sizes_mixed(500)) >= 0.9


def test_third_objects():
    found = oracle.read(trials.three(500))
    assert (found.why == oracle.WHY.index("too many objects")).float().mean() >= 0.99
    assert refused(trials.stacked(500)) >= 0.95


def test_reasons(clean):
    why = lambda pictures: {oracle.WHY[i] for i in oracle.read(pictures).why.tolist()}  # noqa: E731
    grounds = trials.GROUNDS[:, :, None, None].expand(-1, -1, 32, 32)
    assert why(grounds) == {"no object"}
    assert why(-trials.PALETTE[:1, :, None, None].expand(-1, -1, 32, 32)) == {"background"}
    pale = trials.drawn(single(), masks(single())[:, 0], torch.tensor([[0.8, 0.8, 1.0]]))
    assert why(pale) == {"colour"}
    spotted = render(single())
    spotted[:, :, 15:18, 15:18] = 1  # a hole that no shape has
    assert why(spotted) == {"fit"}
    assert why(trials.noisy(clean[:20], 0.2)) <= {"noise", "too many objects"}


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_values_that_are_not_finite(clean, value):
    pictures = clean[:200].clone()
    at = torch.randint(32, (2, 200), generator=trials.generator(0))
    pictures[torch.arange(200), 1, at[0], at[1]] = value
    assert refused(pictures) == 1
    assert refused(torch.full((1, 3, 32, 32), value)) == 1


def test_bounds_are_what_the_comments_say():
    colours = torch.tensor(list(COLOURS.values()))
    a, b = torch.triu_indices(len(colours), len(colours), 1)
    nearest = torch.cdist((colours[a] + colours[b]) / 2, colours).amin(1)
    names = list(COLOURS)
    near = [
        {names[i], names[j]}
        for i, j in zip(a[nearest < reading.COLOUR_NEAR], b[nearest < reading.COLOUR_NEAR], strict=True)
    ]
    assert near == [{"red", "yellow"}]
    grounds = (trials.GROUNDS + 1) / 2
    assert torch.pdist(grounds).min() / 2 > reading.GROUND_NEAR
    assert torch.cdist(trials.PALETTE, trials.GROUNDS).min() / 2 > fit.CONTRAST
    area = masks(draw(500, objects=1))[:, 0].sum((1, 2))
    assert 13 < area.min() and fit.SPECK < area.min()


# Comparing


def test_matches_one_attribute_at_a_time():
    scenes = draw(500, seed=3, objects=2)
    right = oracle.matches(perfect(scenes), scenes)
    assert set(right) == {"shape", "colour", "size", "background", "count", "place", "relation", "all"}
    assert all(value.all() for value in right.values())
    for name, count in (("shape", 6), ("colour", 8), ("size", 2)):
        other = getattr(scenes, name).clone()
        other[:, 0] = (other[:, 0] + 1) % count
        got = oracle.matches(perfect(changed(scenes, **{name: other})), scenes)
        if name == "size":  # of two objects of one shape or colour, another order may then agree as well
            assert not got["size"].any() and got["shape"].all() and got["colour"].all()
        assert not got[name].any() and not got["all"].any() and got["background"].all()
    got = oracle.matches(perfect(changed(scenes, background=(scenes.background + 1) % 4)), scenes)
    assert not got["background"].any() and not got["all"].any() and got["shape"].all() and got["relation"].all()


def test_matches_takes_objects_in_the_order_that_fits():
    scenes = draw(500, seed=4, objects=2)
    turned = Scenes(*(getattr(scenes, name).flip(1) for name in FIELDS[:5]), scenes.background)
    assert oracle.matches(perfect(turned), scenes, every_place=True)["all"].all()
    # The same objects in each other's places: everything but relation and, where asked, place.
    moved = changed(scenes, x=scenes.x.flip(1), y=scenes.y.flip(1))
    got = oracle.matches(perfect(moved), scenes)
    assert not got["relation"].any() and not got["all"].any()
    assert got["shape"].all() and got["colour"].all() and got["size"].all() and got["place"].all()
    places = place(scenes)
    differ = (places >= 0).all(1) & (places[:, 0] != places[:, 1])
    assert differ.any() and not oracle.matches(perfect(moved), scenes, every_place=True)["place"][differ].any()


def test_place_is_asked_where_a_caption_states_it():
    scenes = draw(2000, seed=5, objects=1)
    away = changed(scenes, x=(scenes.x + 1 / 3) % 1)  # another column
    got = oracle.matches(perfect(away), scenes)
    sure = place(scenes)[:, 0] >= 0
    assert torch.equal(got["place"], ~sure) and torch.equal(got["all"], ~sure)
    # Read a little over the line: in doubt for a caption, still a reading of the other cell.
    wanted = single(x=0.28)
    assert oracle.matches(perfect(single(x=0.332)), wanted)["place"].all()
    assert not oracle.matches(perfect(single(x=0.335)), wanted)["place"].any()


def test_count_and_unreadable():
    one, two = draw(300, seed=6, objects=1), draw(300, seed=6, objects=2)
    for got, wanted in ((one, two), (two, one)):
        right = oracle.matches(perfect(got), wanted)
        assert not right["count"].any() and not right["all"].any() and not right["shape"].any()
        assert torch.equal(right["background"], got.background == wanted.background)
    blind = perfect(two)
    blind.readable[:] = False
    assert not any(value.any() for value in oracle.matches(blind, two).values())
    with pytest.raises(UserError, match="scenes: got 10; expected as many"):
        oracle.matches(blind, two[:10])


def test_accuracy_counts_only_what_is_asked():
    scenes = draw(1000, seed=7)
    shares = oracle.accuracy(perfect(scenes), scenes)
    assert set(shares) == {"readable", "shape", "colour", "size", "background", "count", "place", "relation", "all"}
    two = int((relation(scenes) >= 0).sum())
    assert shares["relation"] == oracle.wilson(two, two) and shares["all"] == oracle.wilson(1000, 1000)
    sure = int(((place(scenes)[:, 0] >= 0) & (scenes.count == 1)).sum())
    assert 0 < sure < 500 and shares["place"] == oracle.wilson(sure, sure)
    assert "relation" not in oracle.accuracy(perfect(scenes[scenes.count == 1]), scenes[scenes.count == 1])
    half = perfect(scenes)
    half.readable[:500] = False
    assert oracle.accuracy(half, scenes)["all"] == oracle.wilson(500, 1000)


def test_errors_are_told_apart():
    """Colours or shapes exchanged are errors of binding, objects exchanged one of relation, others neither."""
    wanted, coin = draw(200, seed=5, objects=2), torch.rand(200, 2, generator=torch.Generator().manual_seed(0))
    for what, (other, possible), name in (
        ("colours", negatives.swap(wanted, "colour", coin), "binding"),
        ("shapes", negatives.swap(wanted, "shape", coin), "binding"),
        ("objects", negatives.mirror(wanted, coin), "relation"),
        ("a new colour", negatives.change(wanted, "colour", coin), None),
        ("nothing", (wanted, wanted.count == 2), None),
    ):
        # where the shapes or the colours are the same, exchanging the others exchanges the objects
        clear = (wanted.shape[:, 0] != wanted.shape[:, 1]) & (wanted.colour[:, 0] != wanted.colour[:, 1]) & possible
        clear &= oracle.read(render(other)).readable  # objects of two sizes may not fit into each other's places
        found = oracle.errors(oracle.read(render(other[clear])), wanted[clear])
        assert clear.sum() > 50 and set(found) == {"binding", "relation"}
        for kind, (share, _, _) in found.items():
            assert share >= 0.97 if kind == name else share <= 0.03, (what, found)
    one = draw(5, seed=5, objects=1)
    assert oracle.errors(oracle.read(render(one)), one) == {}


@pytest.mark.parametrize(("hits", "n"), [(0, 1), (1, 1), (0, 100), (50, 100), (98, 100), (1000, 1000), (9950, 10000)])
def test_wilson_against_scipy(hits, n):
    share, low, high = oracle.wilson(hits, n)
    expected = binomtest(hits, n).proportion_ci(0.95, method="wilson")
    assert share == hits / n and low <= share <= high
    assert (low, high) == pytest.approx((expected.low, expected.high), abs=1e-7)


@pytest.mark.parametrize(("hits", "n"), [(1, 0), (-1, 5), (6, 5)])
def test_wilson_refuses(hits, n):
    with pytest.raises(UserError, match="hits of n"):
        oracle.wilson(hits, n)


def test_describe(clean):
    corner = oracle.read(render(single(x=0.25, y=0.25)))
    assert oracle.describe(corner, 0) == "a large red circle, top left, on white"
    assert (
        oracle.describe(oracle.read(render(single(x=0.33, y=0.25, background=3))), 0) == "a large red circle, on beige"
    )
    assert oracle.describe(oracle.read(trials.flat(4)), 0) == "unreadable: no object"
    scenes = Scenes(
        torch.tensor([[3, 4]]), torch.tensor([[4, 3]]), torch.tensor([[1, 0]]),
        torch.tensor([[0.25, 0.75]]), torch.tensor([[0.5, 0.55]]), torch.tensor([1]),
    )  # fmt: skip
    found = oracle.read(render(scenes))
    assert oracle.describe(found, 0) == "a large blue star left of a small green ring, on black"
