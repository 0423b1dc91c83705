"""One's own pictures, looked at: captions of three kinds, every fault by its kind, buckets, what is held out."""

import json
import shutil

import numpy as np
import own_pictures
import pytest
import torch
from PIL import Image

from minildm import folders
from minildm.files import UserError
from minildm.own import album, buckets


def refuses(*words):
    return pytest.raises(UserError, match="(?s)" + ".*".join(words))


def captions(folder):
    return {one.name: one.caption for one in folders.look(folder).pictures}


def kinds(faults):
    return {(fault.kind, fault.name) for fault in faults}


# --- captions


def test_captions_come_from_metadata_texts_or_folders(tmp_path):
    own_pictures.fill(tmp_path / "lines", 3)
    assert captions(tmp_path / "lines") == {f"{i:03}.png": own_pictures.draw(i)[1] for i in range(3)}
    texts = own_pictures.fill(tmp_path / "texts", 2, captions=False)
    (texts / "000.txt").write_text("\ufeffa  house,\nas it  was\n", encoding="utf-8")
    (texts / "001.TXT").write_text("a field", encoding="utf-8")
    assert captions(texts) == {"000.png": "a house, as it was", "001.png": "a field"}
    parts = tmp_path / "parts"
    own_pictures.fill(parts / "red_houses", 2, captions=False)
    own_pictures.fill(parts / "all" / "trees", 1, captions=False)
    assert captions(parts) == {
        "all/trees/000.png": "trees", "red_houses/000.png": "red houses", "red_houses/001.png": "red houses",
    }  # fmt: skip


def test_each_kind_of_captions_has_its_gaps(tmp_path):
    lines = own_pictures.fill(tmp_path / "lines", 3)
    with (lines / "metadata.jsonl").open("a", encoding="utf-8") as file:
        file.write('\n{"file_name": "gone.png", "text": "a ghost"}\n{"file_name": "bare.png", "text": " "}\n')
    own_pictures.draw(8)[0].save(lines / "new.png")
    own_pictures.draw(9)[0].save(lines / "bare.png")
    found = folders.look(lines)
    assert len(found.pictures) == 3
    assert kinds(found.faults) == {("missing", "gone.png"), ("uncaptioned", "bare.png"), ("uncaptioned", "new.png")}
    texts = own_pictures.fill(tmp_path / "texts", 3, captions=False)
    (texts / "000.txt").write_text("a house", encoding="utf-8")
    (texts / "001.txt").write_text(" \n", encoding="utf-8")
    (texts / "notes.txt").write_text("buy paint", encoding="utf-8")
    found = folders.look(texts)
    assert captions(texts) == {"000.png": "a house"}
    assert kinds(found.faults) == {("uncaptioned", "001.png"), ("uncaptioned", "002.png"), ("missing", "notes.txt")}
    parts = tmp_path / "parts"
    own_pictures.fill(parts / "houses", 2, captions=False)
    own_pictures.draw(5)[0].save(parts / "top.png")
    assert kinds(folders.look(parts).faults) == {("uncaptioned", "top.png")}


def test_hidden_files_and_other_files_are_passed_over(tmp_path):
    own_pictures.fill(tmp_path, 2)
    (tmp_path / "._000.png").write_bytes(b"what another system leaves")
    (tmp_path / ".thumbs").mkdir()
    shutil.copy(tmp_path / "000.png", tmp_path / ".thumbs" / "000.png")
    (tmp_path / "readme.md").write_text("mine", encoding="utf-8")
    found = folders.look(tmp_path)
    assert len(found.pictures) == 2 and not found.faults


@pytest.mark.parametrize(
    "line, words",
    [
        ({"file_name": "../a.png", "text": "x"}, ["line 3, file_name", "within the folder"]),
        ({"file_name": "/a.png", "text": "x"}, ["line 3, file_name", "within the folder"]),
        ({"file_name": "001.png", "text": "x"}, ["line 3, file_name", "every picture once"]),
    ],
)
def test_a_line_that_leads_astray_is_refused(tmp_path, line, words):
    own_pictures.fill(tmp_path, 2)
    with (tmp_path / "metadata.jsonl").open("a", encoding="utf-8") as file:
        file.write("\n" + json.dumps(line))
    with refuses(*words):
        folders.look(tmp_path)


def test_a_picture_is_what_people_see_of_it(tmp_path):
    pixels = np.zeros((32, 48, 3), dtype=np.uint8)
    pixels[:, :24] = 255
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by a quarter
    Image.fromarray(pixels).save(tmp_path / "turned.png", exif=exif)
    Image.fromarray(pixels).save(tmp_path / "plain.png")
    rows = [{"file_name": name, "text": "half"} for name in ("turned.png", "plain.png")]
    (tmp_path / "metadata.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    turned, plain = folders.look(tmp_path).pictures
    assert (turned.width, turned.height) == (32, 48) and (plain.width, plain.height) == (48, 32)
    x = folders.fitted(turned, 32, 32)
    assert x.dtype == torch.uint8 and x.shape == (3, 32, 32)
    assert (x[:, :14] == 255).all() and (x[:, 18:] == 0).all()  # cut at the centre: above white, below black


def test_a_file_that_was_exchanged_is_noticed(tmp_path):
    own_pictures.fill(tmp_path, 2)
    one = folders.look(tmp_path).pictures[0]
    own_pictures.draw(77)[0].save(one.path)
    with refuses("000.png", "another file"):
        folders.fitted(one, 32, 32)


# --- an album


def test_an_album_leaves_out_what_cannot_be_used_and_says_so(tmp_path):
    folder = own_pictures.fill(tmp_path, 9)
    (folder / "001.png").write_bytes((folder / "001.png").read_bytes()[:60])
    own_pictures.draw(2, 20, 20)[0].save(folder / "002.png")
    shutil.copy(folder / "000.png", folder / "003.png")
    Image.open(folder / "000.png").save(folder / "004.png", compress_level=0)
    (folder / "005.png").unlink()
    own_pictures.draw(50)[0].save(folder / "extra.png")
    made = album.look(folder, size=32, held_out=0.2)
    assert kinds(made.faults) == {
        ("broken", "001.png"), ("tiny", "002.png"), ("same file", "003.png"), ("same pixels", "004.png"),
        ("missing", "005.png"), ("uncaptioned", "extra.png"),
    }  # fmt: skip
    assert [one.name for one in made.pictures] == ["000.png", "006.png", "007.png", "008.png"]
    told = made.report()
    for words in ("4 can be used", "metadata.jsonl", "32x32: 4", "1 broken pictures: 001.png", "too small: 002.png",
                  "byte by byte: 003.png", "different files: 004.png", "without a picture: 005.png",
                  "without a caption: extra.png", "cut away  0.0% of all pixels\n"):  # fmt: skip
        assert words in told, words


def test_a_long_list_is_short_in_print_and_whole_in_a_file(tmp_path):
    folder = own_pictures.fill(tmp_path, 12)
    for number in range(8):
        (folder / f"{number:03}.png").write_bytes(b"no picture")
    made = album.look(folder, 32)
    assert "004.png and 3 more" in made.report() and "005.png" not in made.report()
    assert "004.png, 005.png, 006.png, 007.png" in made.report(names=None)


def test_too_little_is_an_error_that_says_why(tmp_path):
    folder = own_pictures.fill(tmp_path, 3)
    with refuses("0 usable, 3 tiny", "at least 2 pictures", "size 64", "at least 64 pixels each way"):
        album.look(folder, 64)
    for wrong in (20, 4, 0, "32", True):
        with refuses("size", "a multiple of 8"):
            album.look(folder, wrong)


def test_the_held_out_are_chosen_by_file_and_stay_when_others_come(tmp_path):
    folder = own_pictures.fill(tmp_path, 120)
    made = album.look(folder, 32, held_out=0.1)
    held = {made.pictures[i].name for i in made.numbers(True)}
    assert 4 <= len(held) <= 22  # 12 expected; five standard deviations to either side
    assert len(made.numbers(False)) + len(held) == 120
    own_pictures.fill(folder, 180)
    more = album.look(folder, 32, held_out=0.1)
    assert held == {more.pictures[i].name for i in more.numbers(True)} & {f"{i:03}.png" for i in range(120)}
    assert more.digest != made.digest == album.look(own_pictures.fill(tmp_path / "b", 120), 32).digest
    few = album.look(own_pictures.fill(tmp_path / "few", 2), 32, held_out=0.001)
    assert few.held_out.count(True) == 1
    assert album.look(tmp_path / "few", 32, held_out=0.0).held_out == [False, False]


# --- buckets


@pytest.mark.parametrize("size, step", [(32, 8), (64, 8), (64, 16), (256, 32), (512, 64)])
def test_buckets_have_about_one_area(size, step):
    choices = buckets.places(size, step)
    assert (size, size) in choices and len(choices) == len(set(choices)) and len(choices) % 2 == 1
    for h, w in choices:
        assert h % step == w % step == 0 and (w, h) in choices
        assert max(h, w) <= 2 * min(h, w)
        assert size * size - step * max(h, w) < h * w <= size * size  # no side could be a step longer
    assert buckets.places(64, 8) == [(48, 80), (56, 72), (64, 64), (72, 56), (80, 48)]


def test_a_picture_goes_where_least_is_cut_away():
    choices = buckets.places(64, 8)
    assert buckets.best(640, 640, choices) == (64, 64)
    assert buckets.best(720, 560, choices) == (56, 72)
    assert buckets.best(300, 1000, choices) == (80, 48)
    random = np.random.default_rng(0)
    for width, height in random.integers(100, 400, (50, 2)).tolist():
        shares = {}
        for h, w in choices:  # scaled until it covers the bucket, and the rest counted
            scale = max(h / height, w / width)
            shares[h, w] = 1 - h * w / (scale * width * scale * height)
            assert buckets.cropped(width, height, (h, w)) == pytest.approx(shares[h, w])
        assert shares[buckets.best(width, height, choices)] == pytest.approx(min(shares.values()))


def test_an_albums_pictures_lie_in_their_buckets(tmp_path):
    made = album.look(own_pictures.fill(tmp_path, 9, ((40, 24), (32, 32), (33, 90))), 32, held_out=0.0)
    assert made.places[:3] == [(24, 40), (32, 32), (40, 24)]
    assert made.groups(range(9)) == [[0, 3, 6], [1, 4, 7], [2, 5, 8]]
    # 33 x 90 is cut to 33 x 55; the two others fit
    share = 3 * 33 * 35 / (3 * (40 * 24 + 32 * 32 + 33 * 90))
    assert f"cut away  {share:.1%} of all pixels, at most 38.9% (002.png)" in made.report()


# --- the order


def test_every_picture_is_seen_equally_often_in_batches_of_one_bucket():
    groups = [list(range(10)), list(range(10, 60)), [60]]
    order = buckets.Order(groups, batch=4, seed=1)
    seen = np.zeros(61, dtype=int)
    steps = 61 * 30
    for step in range(steps):
        batch = order.at(step)
        assert len(batch) == 4 and any(set(batch) <= set(group) for group in groups)
        np.add.at(seen, batch, 1)
    assert seen.sum() == 4 * steps
    assert abs(seen - 4 * 30).max() <= 4  # a batch more or less


def test_the_order_is_a_function_of_seed_and_step():
    groups = [list(range(7)), list(range(7, 40))]
    straight = [buckets.Order(groups, 5, 3).at(step) for step in range(50)]
    order = buckets.Order(groups, 5, 3)
    assert [order.at(step) for step in reversed(range(50))] == straight[::-1]
    assert buckets.Order(groups, 5, 4).at(0) != straight[0]
    alone = buckets.Order([list(range(20))], 5, 3)
    first, second = (sum((alone.at(step) for step in range(4 * e, 4 * e + 4)), []) for e in (0, 1))
    assert sorted(first) == sorted(second) == list(range(20)) and first != second
    with refuses("pictures to train on"):
        buckets.Order([[]], 5, 3)
