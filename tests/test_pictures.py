"""Pictures and masks of every mode that a user may bring, against the numbers that were put in."""

import math
from unittest import mock

import numpy as np
import pytest
import torch
from PIL import Image

from minildm import pictures
from minildm.files import UserError

RED, GREEN = (230, 0, 10), (25, 135, 76)


def two(mode="RGB", left=RED, right=GREEN):
    """8 x 4 pixels, the left half of one colour and the right of another."""
    image = Image.new(mode, (8, 4), left)
    image.paste(right, (4, 0, 8, 4))
    return image


def colours(x):
    """The four corners' bytes, clockwise from the upper left, and that there is nothing else."""
    assert x.dtype == torch.float32 and x.shape[:2] == (1, 3) and x.is_contiguous()
    back = ((x[0] + 1) * 127.5).round()
    corners = [tuple(int(v) for v in back[:, y, i]) for y, i in ((0, 0), (0, -1), (-1, -1), (-1, 0))]
    assert {tuple(v) for v in back.flatten(1).T.tolist()} == set(corners)
    return corners


@pytest.mark.parametrize("kind", ["png", "bmp", "tiff", "webp"])
def test_a_file_comes_back_as_its_bytes(tmp_path, kind):
    path = tmp_path / f"two.{kind}"
    two().save(path, **({"lossless": True} if kind == "webp" else {}))
    for given in (path, str(path), two()):
        assert colours(pictures.read(given)) == [RED, GREEN, GREEN, RED]
    assert pictures.read(path).shape == (1, 3, 4, 8)


def test_a_camera_s_turn_is_undone(tmp_path):
    """EXIF orientation 6: the upper left corner of what is stored belongs at the upper right."""
    exif = Image.Exif()
    exif[0x0112] = 6
    two().save(tmp_path / "turned.png", exif=exif)
    x = pictures.read(tmp_path / "turned.png")
    assert x.shape == (1, 3, 8, 4) and colours(x) == [RED, RED, GREEN, GREEN]
    two("L", 255, 0).save(tmp_path / "mask.png", exif=exif)
    mask = pictures.read_mask(tmp_path / "mask.png")
    assert mask.shape == (1, 1, 8, 4) and mask[0, 0, :4].eq(1).all() and mask[0, 0, 4:].eq(0).all()


def test_what_is_transparent_lies_over_white():
    half = 128  # of 255
    seen = tuple(round(255 + (c - 255) * half / 255) for c in RED)
    (corner, other, *_) = colours(pictures.read(two("RGBA", (*RED, half), (9, 9, 9, 0))))
    assert max(abs(a - b) for a, b in zip(corner, seen, strict=True)) <= 1 and other == (255, 255, 255)
    assert colours(pictures.read(two("LA", (40, 255), (40, 0))))[:2] == [(40,) * 3, (255,) * 3]


def test_palettes_with_and_without_a_transparent_entry(tmp_path):
    image = Image.new("P", (8, 4), 0)
    image.putpalette([*RED, *GREEN])
    image.paste(1, (4, 0, 8, 4))
    assert colours(pictures.read(image)) == [RED, GREEN, GREEN, RED]
    image.save(tmp_path / "clear.png", transparency=1)
    assert colours(pictures.read(tmp_path / "clear.png"))[:2] == [RED, (255, 255, 255)]


def test_grey_of_every_depth(tmp_path):
    """16 bits a pixel become 8 by their share of the range; cut at 255 they would be white."""
    deep = np.full((4, 8), 65535 * 40 // 255, np.uint16)
    deep[:, 4:] = 65535 * 200 // 255
    Image.fromarray(deep).save(tmp_path / "deep.png")
    with Image.open(tmp_path / "deep.png") as file:
        assert file.mode.startswith("I")
    wanted = [(40,) * 3, (200,) * 3]
    for given in (tmp_path / "deep.png", Image.fromarray(deep), Image.fromarray(deep.astype(np.int32)),
                  Image.fromarray((deep / 65535).astype(np.float32)), two("L", 40, 200)):  # fmt: skip
        assert colours(pictures.read(given))[:2] == wanted
    assert colours(pictures.read(two("1", 0, 1)))[:2] == [(0,) * 3, (255,) * 3]


def test_black_is_black_in_every_depth():
    for dtype in (np.uint8, np.uint16, np.int32, np.float32):
        assert pictures.read(Image.fromarray(np.zeros((4, 4), dtype))).eq(-1).all()


def test_inks_of_print(tmp_path):
    two("CMYK", (0, 255, 255, 0), (0, 0, 0, 255)).save(tmp_path / "inks.tiff")
    assert colours(pictures.read(tmp_path / "inks.tiff"))[:2] == [(255, 0, 0), (0, 0, 0)]


@pytest.mark.parametrize("image", [
    two("L", 255, 0), two("1", 1, 0), two("RGB", (255,) * 3, (0,) * 3), two("RGBA", (255,) * 4, (255, 255, 255, 0)),
    two("LA", (255, 255), (255, 0)), Image.fromarray(np.repeat([[65535] * 4 + [0] * 4], 4, 0).astype(np.uint16)),
])  # fmt: skip
def test_masks_of_every_mode(image):
    """White is to be painted anew; black and transparent stay."""
    mask = pictures.read_mask(image)
    assert mask.shape == (1, 1, 4, 8) and mask.dtype == torch.float32
    assert mask[..., :4].eq(1).all() and mask[..., 4:].eq(0).all()


@pytest.mark.parametrize("image", [
    two("RGBA", (255, 0, 51, 255), (255, 255, 255, 0)), two("RGB", (255, 0, 51), (0,) * 3),
])  # fmt: skip
def test_a_map_is_its_colours_and_black_where_it_is_empty(image, tmp_path):
    image.save(tmp_path / "map.png")
    for given in (image, tmp_path / "map.png"):
        made = pictures.read_map(given)
        assert made.shape == (1, 3, 4, 8) and made.dtype == torch.float32 and made[..., 4:].eq(0).all()
        assert torch.allclose(made[0, :, 0, 0], torch.tensor([1.0, 0.0, 0.2]))
    assert torch.equal(pictures.read_map(made), made)
    for wrong in ("nowhere.png", made * 255, 5):
        with pytest.raises(UserError, match="^control map"):
            pictures.read_map(wrong)


def test_a_mask_s_grey_is_its_share():
    assert pictures.read_mask(two("L", 51, 0))[0, 0, 0, 0] == torch.tensor(0.2)


def test_tensors_are_checked_and_come_back():
    x, mask = torch.rand(2, 3, 5, 6) * 2 - 1, torch.rand(2, 1, 5, 6)
    assert pictures.read(x) is x
    assert torch.equal(pictures.read_mask(mask), mask)
    assert torch.equal(pictures.read_mask(mask > 0.5), (mask > 0.5).float())


def bad(value, channels=3):
    x = torch.zeros(1, channels, 4, 4)
    x[0, 0, 0, 0] = value
    return x


@pytest.mark.parametrize(("given", "words"), [
    (torch.zeros(3, 4, 4), r"\(3, 4, 4\).*\(b, 3, h, w\)"), (torch.zeros(1, 4, 4, 4), r"\(1, 4, 4, 4\)"),
    (torch.zeros(1, 3, 0, 4), r"\(1, 3, 0, 4\)"), (torch.zeros(1, 3, 4, 4, dtype=torch.uint8), "uint8"),
    (bad(255.0), "values 0 to 255.*from -1 to 1"), (bad(-1.5), "values -1.5"), (bad(float("nan")), "nan"),
    (bad(float("inf")), "inf"), (np.zeros((4, 4, 3)), "ndarray.*a path"), (None, "NoneType"),
    (Image.fromarray(np.full((4, 4), 2**20, np.int32)), "mode I.*0 to 65535"),
    (Image.fromarray(np.full((4, 4), np.nan, np.float32)), "mode F.*nan"),
    (Image.fromarray(np.full((4, 4), 255, np.int32)), "mode I: got 'values up to 255'.*of 8 bits it is mode L"),
    (Image.fromarray(np.full((4, 4), 255, np.uint16)), "mode I;16: got 'values up to 255'.*of 8 bits it is mode L"),
    ("nowhere.png", "nowhere.png.*no such file"),
])  # fmt: skip
def test_what_is_no_picture_is_named_in_one_line(given, words):
    with pytest.raises(UserError, match=f"^picture.*{words}") as error:
        pictures.read(given)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(("given", "words"), [
    (torch.zeros(1, 3, 4, 4), r"\(1, 3, 4, 4\).*\(b, 1, h, w\)"), (bad(1.5, 1), "values 0 to 1.5.*from 0 to 1"),
    (bad(-1.0, 1), "values -1"), (bad(float("nan"), 1), "nan"), ("nowhere.png", "no such file"),
    (torch.ones(1, 1, 4, 4, dtype=torch.int64), "int64"),
])  # fmt: skip
def test_what_is_no_mask_is_named_in_one_line(given, words):
    with pytest.raises(UserError, match=f"^mask.*{words}"):
        pictures.read_mask(given)


def test_broken_files_are_named(tmp_path):
    two().save(tmp_path / "whole.png")
    (tmp_path / "half.png").write_bytes((tmp_path / "whole.png").read_bytes()[:60])
    (tmp_path / "text.png").write_text("words", encoding="utf-8")
    for path in (tmp_path / "half.png", tmp_path / "text.png", tmp_path):
        with pytest.raises(UserError, match="a whole picture file"):
            pictures.read(path)


@pytest.mark.parametrize(("h", "w"), [(1, 1), (7, 8), (8, 8), (13, 22)])
def test_padding_repeats_the_border_and_crops_back(h, w):
    x = torch.rand(2, 3, h, w)
    wide = pictures.padded(x, 4)
    assert wide.shape == (2, 3, -(-h // 4) * 4, -(-w // 4) * 4)
    assert torch.equal(wide[..., :h, :w], x)
    assert wide[..., h:, :w].eq(x[..., -1:, :]).all() and wide[..., :h, w:].eq(x[..., -1:]).all()


def test_a_cell_is_painted_anew_if_any_pixel_is():
    for y, x in ((0, 0), (3, 3), (4, 7)):
        for value in (1.0, 0.01):
            mask = torch.zeros(1, 1, 8, 12)
            mask[0, 0, y, x] = value
            grid = pictures.on_grid(mask, 4)
            assert grid.shape == (1, 1, 2, 3) and grid.sum() == 1 and grid[0, 0, y // 4, x // 4] == 1


def far_apart(b=2, h=9, w=12):
    """A given picture and a made one of other numbers, small enough that nothing is cut at -1 and 1; float64."""
    return torch.rand(2, b, 3, h, w, generator=torch.Generator().manual_seed(1), dtype=torch.float64) * 0.3


def holes(h=9, w=12):
    """One in the middle, one at two sides of the picture; both are whole cells of 3 x 3."""
    masks = torch.zeros(2, 1, h, w)
    masks[0, :, 3:6, 3:9] = masks[1, :, :6, 9:] = 1
    return masks


@pytest.mark.parametrize("factor", [1, 3])
def test_what_is_added_dies_away_from_the_rim_as_a_fin_cools(factor):
    image, _ = far_apart()
    hole = torch.zeros(1, 1, 9, 12)
    hole[..., 3:] = 1  # nine columns to the picture's border, which is a mirror: analytic, in one dimension
    added = pictures.blended(image - 0.2, image, hole, factor)[..., 3:] - (image - 0.2)[..., 3:]
    decay = math.acosh(1 + factor**-2 / 2)  # of e^(-decay k), whose second difference is it / factor^2
    k = torch.arange(1, 10).double()
    assert (added - 0.2 * torch.cosh((9.5 - k) * decay) / math.cosh(9.5 * decay)).abs().max() < 1e-12


@pytest.mark.parametrize("factor", [1, 3])
def test_a_spring_holds_what_the_neighbours_pull_and_known_pixels_stay_to_the_last_bit(factor):
    image, made = far_apart()
    blended = pictures.blended(made, image, holes(), factor)
    hole = holes().expand_as(image) > 0
    assert torch.equal(blended[~hole], image[~hole])
    lift = torch.nn.functional.pad(blended - made, (1, 1, 1, 1))  # known pixels: by what both differ
    there = torch.nn.functional.pad(torch.ones_like(image), (1, 1, 1, 1))
    beside = [(dy, dx) for dy, dx in ((-1, 0), (1, 0), (0, -1), (0, 1))]
    total, count = (sum(x.roll(step, (2, 3)) for step in beside)[..., 1:-1, 1:-1] for x in (lift, there))
    assert ((blended - made) * (count + factor**-2) - total)[hole].abs().max() < 1e-12
    assert (blended - made)[hole].abs().min() > 0


def test_a_hole_in_a_large_picture_costs_no_more_than_in_a_small_one():
    from sklearn.feature_extraction import image as graphs

    image, made = far_apart(1, 40, 50)
    hole, near = torch.zeros(1, 1, 40, 50), (slice(9, 24), slice(15, 36))
    hole[..., 12:21, 18:33] = 1
    with mock.patch.object(graphs, "grid_to_graph", wraps=graphs.grid_to_graph) as looked:
        whole = pictures.blended(made, image, hole, factor=3)
    assert looked.call_args.args == (11, 17)  # the hole and its rim
    small = pictures.blended(*(x[..., near[0], near[1]] for x in (made, image, hole)), factor=3)
    assert torch.allclose(whole[..., near[0], near[1]], small, atol=1e-12)


def test_a_mask_for_each_picture_or_one_for_all():
    image, made = far_apart()
    both = pictures.blended(made, image, holes())
    for i, mask in enumerate(holes()):
        assert torch.allclose(both[i], pictures.blended(made, image, mask[None])[i], atol=1e-12)
        assert torch.allclose(both[i], pictures.blended(made[i : i + 1], image[i : i + 1], mask[None])[0], atol=1e-12)


def test_without_a_rim_there_is_nothing_to_meet():
    image, made = far_apart()
    for value, whole in ((0.0, image), (1.0, made)):
        assert torch.equal(pictures.blended(made, image, torch.full((1, 1, 9, 12), value)), whole)


def test_a_mask_between_mixes_both_after_they_met():
    image, made = far_apart()
    half = pictures.blended(made, image, holes() / 2)
    assert torch.allclose(half, (image + pictures.blended(made, image, holes())) / 2, atol=1e-12)


def test_a_blend_stays_in_range_and_takes_the_wider_dtype():
    image, made = far_apart()
    bright = pictures.blended(made.float() + 0.7, image + 0.7, holes())  # up to 1.0 and what is added, then it is cut
    assert bright.dtype == torch.float64 and bright.max() == 1


def test_known_pixels_in_a_cell_that_is_drawn_anew_hold_no_membrane():
    image, made = far_apart()
    hole = torch.zeros(1, 1, 9, 12)
    hole[..., 2:4, 5:7] = 1  # cells of 3 x 3: rows 0 to 6 and columns 3 to 9 are drawn anew
    cells = torch.zeros(1, 1, 9, 12)
    cells[..., :6, 3:9] = 1
    blended = pictures.blended(made, image, hole, factor=3)
    anew = hole.expand_as(image) > 0
    assert torch.equal(blended[~anew], image[~anew])
    assert torch.allclose(blended[anew], pictures.blended(made, image, cells, factor=3)[anew], atol=1e-12)
    ragged = pictures.blended(made[..., :8, :], image[..., :8, :], hole[..., :8, :], factor=3)  # no multiple of it
    assert ragged.shape == made[..., :8, :].shape and torch.equal(ragged[..., 6:, :], image[..., 6:8, :])
