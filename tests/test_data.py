"""Data sets: each loader on small files in its original format, and one line for all that can be wrong."""

import gzip
import hashlib
import io
import json
import pickle
import struct
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from minildm import data
from minildm.files import UserError


def refuses(*words):
    return pytest.raises(UserError, match="(?s)" + ".*".join(words))


# --- where the files lie


def test_root_prefers_the_argument_then_the_variable_then_the_checkout(monkeypatch, tmp_path):
    monkeypatch.delenv("MINILDM_DATA", raising=False)
    assert data.root() == Path(__file__).parent.parent / "datasets"
    monkeypatch.setenv("MINILDM_DATA", str(tmp_path / "mine"))
    assert data.root() == tmp_path / "mine"
    assert data.root(tmp_path) == tmp_path


@pytest.mark.parametrize(
    "platform, variable, tail",
    [("linux", "XDG_CACHE_HOME", "minildm/datasets"), ("win32", "LOCALAPPDATA", "minildm/datasets")],
)
def test_away_from_a_checkout_the_users_cache_is_used(monkeypatch, tmp_path, platform, variable, tail):
    monkeypatch.delenv("MINILDM_DATA", raising=False)
    monkeypatch.setattr(data, "HOME", tmp_path / "site-packages")
    monkeypatch.setattr("sys.platform", platform)
    monkeypatch.setenv(variable, str(tmp_path / "cache"))
    assert data.root() == tmp_path / "cache" / tail
    monkeypatch.delenv(variable)
    assert data.root().is_relative_to(Path.home())


def test_on_a_mac_the_cache_is_the_librarys(monkeypatch, tmp_path):
    monkeypatch.delenv("MINILDM_DATA", raising=False)
    monkeypatch.setattr(data, "HOME", tmp_path)
    monkeypatch.setattr("sys.platform", "darwin")
    assert data.root() == Path.home() / "Library" / "Caches" / "minildm" / "datasets"


# --- always there


def test_digits_are_all_of_scikit_learns_in_a_fixed_split():
    from sklearn.datasets import load_digits

    parts = [data.load("digits", split) for split in ("train", "test")]
    assert [len(x) for x, _ in parts] == [1437, 360]
    x, labels = torch.cat([x for x, _ in parts]), torch.cat([y for _, y in parts])
    assert x.dtype == torch.float32 and labels.dtype == torch.int64
    assert (x.min(), x.max()) == (-1, 1)
    bunch = load_digits()
    assert np.array_equal((x[:, 0].numpy() + 1) * 8, bunch.images)
    assert np.array_equal(labels.numpy(), bunch.target)
    assert (parts[1][1].bincount(minlength=10) >= 30).all()  # every digit is in the test split


def test_scenes_have_captions_and_the_splits_share_none():
    x, captions = data.load("scenes", "train", n=50)
    other, _ = data.scenes("test", n=50)
    assert x.shape == (50, 3, 32, 32) and len(captions) == 50
    assert (x[:, None] - other[None]).abs().flatten(2).amax(2).min() > 0
    assert torch.equal(data.scenes(n=50)[0], x)


def test_unknown_names_and_splits_are_refused():
    with refuses("data set", "'minst'", "mnist"):
        data.load("minst")
    with refuses("split", "'valid'", "train, test"):
        data.digits("valid")


# --- MNIST and Fashion-MNIST: idx files


def idx(array):
    """The idx format: two zero bytes, 8 for bytes, the number of axes, each length, then the values."""
    return struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.tobytes()


def make_idx(folder, seed=0):
    random, made = np.random.default_rng(seed), {}
    folder.mkdir(parents=True)
    for part, n in (("train", 5), ("t10k", 3)):
        images = random.integers(0, 256, (n, 28, 28), dtype=np.uint8)
        labels = random.integers(0, 10, n, dtype=np.uint8)
        made[part] = images, labels
        (folder / f"{part}-images-idx3-ubyte.gz").write_bytes(gzip.compress(idx(images)))
        (folder / f"{part}-labels-idx1-ubyte.gz").write_bytes(gzip.compress(idx(labels)))
    return made


@pytest.mark.parametrize("name, folder", [("mnist", "MNIST"), ("fashion-mnist", "FashionMNIST")])
def test_idx_files_are_read_packed_or_not(tmp_path, name, folder):
    made = make_idx(tmp_path / folder / "raw")
    for _ in range(2):  # the second time from the files that the first unpacked
        for split, part in (("train", "train"), ("test", "t10k")):
            x, labels = data.load(name, split, path=tmp_path)
            images, numbers = made[part]
            assert x.shape == (len(images), 1, 28, 28) and x.dtype == torch.float32
            np.testing.assert_allclose((x[:, 0].numpy() + 1) * 127.5, images, atol=1e-4)
            assert labels.dtype == torch.int64 and labels.tolist() == numbers.tolist()
        for packed in tmp_path.rglob("*.gz"):
            packed.unlink()


def test_without_files_the_error_says_which_go_where(tmp_path):
    with refuses("MNIST", "train-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz", "raw", "download=True"):
        data.mnist(path=tmp_path)
    with refuses("cifar10", "cifar-10-python.tar.gz", "cifar-10-batches-py", "download=True"):
        data.cifar10(path=tmp_path)
    with refuses("FashionMNIST", "train-images-idx3-ubyte.gz"):
        data.fashion_mnist("train", tmp_path)
    assert not list(tmp_path.rglob("*"))


@pytest.mark.parametrize("name", ["mnist", "cifar10"])
def test_a_download_offline_is_one_error_too(tmp_path, name):
    with refuses("files of", "gz") as caught:  # every address is refused under test (tests/guard)
        data.load(name, path=tmp_path, download=True)
    assert "\n" not in str(caught.value) and "download=True" not in str(caught.value)


def test_a_broken_archive_leaves_nothing_behind(tmp_path):
    raw = tmp_path / "MNIST" / "raw"
    make_idx(raw)
    whole = (raw / "train-images-idx3-ubyte.gz").read_bytes()
    (raw / "train-images-idx3-ubyte.gz").write_bytes(whole[: len(whole) // 2])
    before = sorted(raw.iterdir())
    with refuses("files of MNIST", "EOFError"):
        data.mnist(path=tmp_path)
    assert sorted(raw.iterdir()) == before


def test_a_truncated_idx_file_is_refused(tmp_path):
    raw = tmp_path / "MNIST" / "raw"
    make_idx(raw)
    data.mnist(path=tmp_path)
    images = raw / "train-images-idx3-ubyte"
    images.write_bytes(images.read_bytes()[:-1])
    with refuses("files of MNIST"):
        data.mnist(path=tmp_path)


# --- CIFAR-10: pickled batches in a tar archive


@pytest.fixture
def cifar(tmp_path, monkeypatch):
    """A tiny archive in CIFAR-10's format; torchvision is told its checksums instead of the real files'."""
    from torchvision.datasets import CIFAR10

    random, made, sums = np.random.default_rng(0), {}, {}
    with tarfile.open(tmp_path / "cifar-10-python.tar.gz", "w:gz") as tar:

        def add(name, content):
            raw = pickle.dumps(content, protocol=2)
            sums[name] = hashlib.md5(raw).hexdigest()
            info = tarfile.TarInfo(f"cifar-10-batches-py/{name}")
            info.size = len(raw)
            tar.addfile(info, io.BytesIO(raw))

        for name in [*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"]:
            rows = random.integers(0, 256, (2, 3072), dtype=np.uint8)
            made[name] = rows, random.integers(0, 10, 2).tolist()
            add(name, {"data": rows, "labels": made[name][1]})
        add("batches.meta", {"label_names": [f"class {i}" for i in range(10)]})
    for attribute in ("train_list", "test_list"):
        names = [name for name, _ in getattr(CIFAR10, attribute)]
        monkeypatch.setattr(CIFAR10, attribute, [[name, sums[name]] for name in names])
    monkeypatch.setattr(CIFAR10, "meta", {**CIFAR10.meta, "md5": sums["batches.meta"]})
    return made


def test_cifar_batches_are_read_from_the_archive(tmp_path, cifar):
    for split, names in (("train", [f"data_batch_{i}" for i in range(1, 6)]), ("test", ["test_batch"])):
        x, labels = data.load("cifar10", split, path=tmp_path)
        rows = np.concatenate([cifar[name][0] for name in names]).reshape(-1, 3, 32, 32)
        assert x.shape == rows.shape and x.dtype == torch.float32 and x.is_contiguous()
        np.testing.assert_allclose((x.numpy() + 1) * 127.5, rows, atol=1e-4)
        assert labels.tolist() == [label for name in names for label in cifar[name][1]]
        assert labels.dtype == torch.int64


def test_an_altered_cifar_batch_is_refused(tmp_path, cifar):
    data.cifar10(path=tmp_path)
    batch = tmp_path / "cifar-10-batches-py" / "data_batch_3"
    batch.write_bytes(batch.read_bytes()[:-5])
    with refuses("files of cifar10", "corrupted"):
        data.cifar10(path=tmp_path)


# --- a folder of one's own pictures


def save(path, size, colour, mode="RGB"):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, colour).save(path)


@pytest.fixture
def pictures(tmp_path):
    save(tmp_path / "wide.png", (80, 40), (255, 0, 0))
    save(tmp_path / "clear.png", (64, 64), (0, 0, 0, 0), "RGBA")
    save(tmp_path / "more" / "grey.jpg", (64, 50), 128, "L")
    (tmp_path / "notes.txt").write_text("not a picture", encoding="utf-8")
    rows = [("wide.png", "a red wall"), ("more/grey.jpg", "fog, à la Turner"), ("clear.png", "nothing")]
    write(tmp_path, [json.dumps({"file_name": name, "text": text}) for name, text in rows])
    return tmp_path


def write(folder, lines):
    (folder / "metadata.jsonl").write_text("\n".join(lines) + "\n\n", encoding="utf-8")


def test_a_folder_gives_pictures_and_captions_in_the_order_of_its_lines(pictures):
    x, captions = data.load("folder", pictures, size=32)
    assert captions == ["a red wall", "fog, à la Turner", "nothing"]
    assert x.shape == (3, 3, 32, 32) and x.dtype == torch.float32
    assert torch.equal(x[0], torch.tensor([1.0, -1, -1])[:, None, None].expand(3, 32, 32))
    assert (x[1] - (128 / 127.5 - 1)).abs().max() < 0.02
    assert torch.equal(x[2], torch.ones(3, 32, 32))  # what is transparent becomes white


def test_a_folders_pictures_are_cut_at_the_centre(tmp_path):
    image = Image.new("RGB", (96, 32), "black")
    image.paste("white", (32, 0, 64, 32))
    image.save(tmp_path / "a.png")
    write(tmp_path, ['{"file_name": "a.png", "text": "the middle"}'])
    assert (data.folder(tmp_path, 32)[0] == 1).all()


LINE = '{"file_name": "wide.png", "text": "a red wall"}'


@pytest.mark.parametrize(
    "lines, words",
    [
        ([LINE], ["caption of .*clear.png", "None", "metadata.jsonl"]),
        ([LINE, "{"], ["line 2", "file_name"]),
        (['{"text": "no name"}'], ["line 1", "no name", "file_name"]),
        (['{"file_name": "wide.png"}'], ["line 1", "text"]),
        (['{"file_name": "wide.png", "text": " "}'], ["line 1, text", "a caption"]),
        (['{"file_name": "wide.png", "text": 3}'], ["line 1, text: got 3"]),
        (['["wide.png", "a red wall"]'], ["line 1", "file_name"]),
        ([], ["metadata.jsonl", "no line"]),
    ],
)
def test_wrong_metadata_is_named_by_line(pictures, lines, words):
    write(pictures, lines)
    with refuses(*words):
        data.folder(pictures)


def test_wrong_pictures_are_named(pictures):
    whole = (pictures / "wide.png").read_bytes()
    with refuses("picture .*grey.jpg", r"\(64, 50\)", "at least 51 pixels"):
        save(pictures / "wide.png", (80, 60), "red")
        data.folder(pictures, 51)
    (pictures / "wide.png").write_bytes(whole[:60])
    with refuses("picture .*wide.png", "a whole picture file"):
        data.folder(pictures)
    (pictures / "wide.png").write_text("not a picture at all", encoding="utf-8")
    with refuses("picture .*wide.png", "UnidentifiedImageError", "a whole picture file"):
        data.folder(pictures)
    (pictures / "wide.png").unlink()
    with refuses("picture .*wide.png", "no such file"):
        data.folder(pictures)


@pytest.mark.parametrize("size", [0, -1, 1.5, "32", True])
def test_a_size_that_is_no_number_of_pixels_is_refused(pictures, size):
    with refuses("size"):
        data.folder(pictures, size)


def test_a_folder_without_pictures_is_refused(tmp_path):
    with refuses("folder", "no picture", "metadata.jsonl, one line a picture"):
        data.folder(tmp_path)
    with refuses("folder", "nowhere", "a folder of pictures"):
        data.folder(tmp_path / "nowhere")
