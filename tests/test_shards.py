"""Tar shards: read as they were written, in an order by seed that no number of processes changes, and broken ones."""

import io
import json
import tarfile
from collections import Counter

import pytest
import torch
from PIL import Image

from minildm import draws, processes, shards
from minildm.files import UserError

SHARDS, EACH = 5, 7


def png(value, size=12):
    file = io.BytesIO()
    Image.new("RGB", (size, size + 4), (value, 255 - value, 0)).save(file, "png")
    return file.getvalue()


def write(path, files):
    with tarfile.open(path, "w") as tar:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """35 pictures, number i of colour (i, 255 - i, 0) with the caption "number i"."""
    folder = tmp_path_factory.mktemp("shards")
    for s in range(SHARDS):
        files = {"part/": b""}
        for i in range(s * EACH, (s + 1) * EACH):
            kind, said = ("json", json.dumps({"caption": f"number {i}"})) if i % 2 else ("txt", f"number {i}\n")
            files |= {f"part/{i:04}.png": png(i), f"part/{i:04}.{kind}": said.encode()}
        write(folder / f"{s}.tar", files)
    return folder


def numbers(samples):
    return [int(sample.caption().split()[1]) for sample in samples]


def test_a_shard_is_read_as_it_was_written(folder):
    found = list(shards.read(folder / "1.tar"))
    assert numbers(found) == list(range(7, 14))
    for i, sample in zip(range(7, 14), found, strict=True):
        assert sample.key == f"part/{i:04}"
        exact = torch.tensor([i, 255 - i, 0]).view(3, 1, 1) / 127.5 - 1
        assert torch.allclose(sample.picture(8), exact.expand(3, 8, 8), atol=1e-6)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # it leaves the shard open
def test_webdataset_reads_the_same(folder):
    import webdataset

    theirs = list(webdataset.WebDataset(str(folder / "2.tar"), shardshuffle=False))
    ours = list(shards.read(folder / "2.tar"))
    assert [sample["__key__"] for sample in theirs] == [sample.key for sample in ours]
    for their, our in zip(theirs, ours, strict=True):
        assert {name: value for name, value in their.items() if not name.startswith("__")} == our.parts


def test_every_sample_comes_once_an_epoch_in_an_order_by_seed(folder):
    """With a buffer of one the stream is the shards, so 35 batches of 4 are four epochs."""
    stream = shards.Stream(folder, 4, buffer=1)
    assert stream.lanes == 4
    given = [number for step in range(35) for number in numbers(stream.samples(step))]
    counts = Counter(given)
    assert len(counts) == SHARDS * EACH and max(counts.values()) - min(counts.values()) <= 1

    def first(seed, buffer):
        stream = shards.Stream(folder, 4, seed, buffer)
        return [number for step in range(9) for number in numbers(stream.samples(step))]

    assert first(0, 1) == given[:36] == first(0, 1)
    assert len({tuple(first(seed, buffer)) for seed in (0, 1) for buffer in (1, 12)}) == 4
    neighbours = [abs(a - b) for a, b in zip(first(0, 24)[::4], first(0, 24)[4::4], strict=False)]
    assert neighbours.count(1) < 3  # with a buffer of one they follow each other as they lie


@pytest.mark.parametrize("batch", [4, 6, 7])
def test_any_split_and_any_start_give_the_same_samples(folder, batch, monkeypatch):
    def numbers_of(stream, step, part=None):
        return numbers(stream.samples(step, part and draws.Draws(0, step, part)))

    whole = shards.Stream(folder, batch, seed=5, buffer=10)
    steps = [numbers_of(whole, step) for step in range(20)]
    for count, accumulate in ((2, 1), (3, 1), (2, 2)):
        monkeypatch.setattr(processes, "count", lambda count=count: count)
        streams = [shards.Stream(folder, batch, seed=5, buffer=10) for _ in range(count)]
        for step in range(20):
            found = []
            for rank, stream in enumerate(streams):
                monkeypatch.setattr(processes, "rank", lambda rank=rank: rank)
                for part in processes.shares(batch, accumulate):
                    found += numbers_of(stream, step, part)
            assert found == steps[step]
    resumed = shards.Stream(folder, batch, seed=5, buffer=10)
    assert [numbers_of(resumed, step) for step in range(13, 20)] == steps[13:]
    assert numbers_of(whole, 3) == steps[3]  # back again


def test_what_is_skipped_is_not_read(folder, monkeypatch):
    sizes, real = [], shards._read
    monkeypatch.setattr(shards, "_read", lambda *asked: sizes.append(asked[2]) or real(*asked))
    numbers(shards.Stream(folder, 4, buffer=4).samples(30))
    assert len(sizes) < 24  # of 240 files before that step


def test_a_batch_as_tensors(folder):
    pictures, captions = shards.Stream(folder, 3, buffer=9).pairs(0, 8)
    assert pictures.shape == (3, 3, 8, 8) and pictures.dtype == torch.float32
    assert [round((x[0, 0, 0].item() + 1) * 127.5) for x in pictures] == [int(said.split()[1]) for said in captions]


def test_a_shard_cut_anywhere_is_named(tmp_path):
    write(tmp_path / "whole.tar", {f"{i}.{kind}": b"x" * 600 for i in range(3) for kind in ("png", "txt")})
    whole = (tmp_path / "whole.tar").read_bytes()
    end = 6 * (512 + 1024)
    assert len(list(shards.read(tmp_path / "whole.tar"))) == 3
    for cut in (0, 100, 512, 700, 1535, 1536, 1700, 5000, end - 1024, end - 500, end, end + 100):
        (tmp_path / "cut.tar").write_bytes(whole[:cut])
        with pytest.raises(UserError, match="cut.tar"):
            list(shards.read(tmp_path / "cut.tar"))
    (tmp_path / "bad.tar").write_bytes(whole[: 2 * 1536] + b"\xff" * 512 + whole[2 * 1536 + 512 :])
    with pytest.raises(UserError, match=r"bad.tar.*after 0.txt"):
        list(shards.read(tmp_path / "bad.tar"))


@pytest.mark.parametrize("files, said", [
    ({"7.txt": b"a cat"}, "shard .*broken.tar, 7: .*a picture"),
    ({"7.png": b"no picture", "7.txt": b"a cat"}, "broken.tar, 7.png: .*whole picture"),
    ({"7.png": png(3)[:50], "7.txt": b"a cat"}, "broken.tar, 7.png: .*whole picture"),
    ({"7.png": png(3, 4), "7.txt": b"a cat"}, r"broken.tar, 7.png: got \(4, 8\).*8 pixels"),
    ({"7.png": png(3)}, "broken.tar, 7: .*a caption"),
    ({"7.png": png(3), "7.txt": b"\xff\xfe\xff"}, "broken.tar, 7.txt: "),
    ({"7.png": png(3), "7.txt": b" \n"}, "broken.tar, 7.txt: .*no text"),
    ({"7.png": png(3), "7.json": b"{"}, "broken.tar, 7.json: "),
    ({"7.png": png(3), "7.json": b"[]"}, "broken.tar, 7.json: "),
    ({"7.png": png(3), "7.json": b'{"text": 3}'}, "broken.tar, 7.json: "),
    ({".hidden": b""}, "broken.tar: got 'no sample'"),
])  # fmt: skip
def test_what_is_wrong_is_told_in_one_line_with_shard_and_file(tmp_path, files, said):
    write(tmp_path / "broken.tar", files)
    with pytest.raises(UserError, match=said) as error:
        shards.Stream(tmp_path, 1, buffer=1).pairs(0, 8)
    assert "\n" not in str(error.value)


def test_no_shards_and_no_tar_are_named(tmp_path):
    with pytest.raises(UserError, match="folder with .tar files"):
        shards.Stream(tmp_path, 4)
    (tmp_path / "a.tar").write_bytes(b"not a tar file at all" * 100)
    with pytest.raises(UserError, match="a.tar"):
        shards.Stream(tmp_path, 4).samples(0)
