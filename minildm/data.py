"""Data sets by name, as tensors in memory: pictures (n, c, h, w) float32 in -1..1, and what belongs to them.

`scenes` and `digits` are always there. The others need files, and nothing is downloaded unless asked for.
"""

import gzip
import os
import sys
import tarfile
from pathlib import Path

import torch
from torch import Tensor

from . import folders
from . import scenes as world
from .files import UserError, atomic_write

SPLITS = ("train", "test")
HOME = Path(__file__).parent.parent  # the checkout, if that is where we run from


def root(path: str | Path | None = None) -> Path:
    """The folder of the data sets: `path`, else $MINILDM_DATA, else `datasets` of the checkout, else a cache.

    The cache is the user's own, where this system keeps them. Nothing is made here.
    """
    path = path or os.environ.get("MINILDM_DATA")
    if path:
        return Path(path).expanduser()
    if (HOME / "pyproject.toml").exists():
        return HOME / "datasets"
    if sys.platform == "win32":
        cache = os.environ.get("LOCALAPPDATA") or "~/AppData/Local"
    elif sys.platform == "darwin":
        cache = "~/Library/Caches"
    else:
        cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(cache).expanduser() / "minildm" / "datasets"


def load(name: str, *args: object, **options: object) -> tuple[Tensor, Tensor | list[str]]:
    """The data set of this name; arguments are its function's. Raises `UserError` for an unknown name."""
    if name not in DATASETS:
        raise UserError("data set", name, "one of " + ", ".join(DATASETS))
    return DATASETS[name](*args, **options)


def scenes(split: str = "train", n: int = 10_000, size: int = 32) -> tuple[Tensor, list[str]]:
    """n scenes of the shapes world: pictures (n, 3, size, size) and captions, other ones in each split."""
    seed = 1_000 + SPLITS.index(_split(split))
    drawn = world.draw(n, seed=seed)
    return world.render(drawn, size), world.captions(drawn, seed=seed)


def digits(split: str = "train") -> tuple[Tensor, Tensor]:
    """scikit-learn's handwritten digits: pictures (n, 1, 8, 8), labels (n,) int64; 1,437 and 360 of them.

    They are the test set of E. Alpaydin and C. Kaynak's "Optical Recognition of Handwritten Digits" (1998),
    by 13 writers. Our own test split is its last fifth, in one piece: neighbours may be by one writer.
    """
    from sklearn.datasets import load_digits

    _split(split)
    bunch = load_digits()
    x = torch.from_numpy(bunch.images).float()[:, None] / 8 - 1  # they count the ink of a cell, 0..16
    labels = torch.from_numpy(bunch.target).long()
    part = slice(1437) if split == "train" else slice(1437, None)
    return x[part], labels[part]


def mnist(
    split: str = "train", path: str | Path | None = None, download: bool = False
) -> tuple[Tensor, Tensor]:
    """MNIST's digits (LeCun et al. 1998): pictures (n, 1, 28, 28), labels (n,) int64; 60,000 and 10,000.

    path: as in `root`. Raises `UserError` that says which files go where, if they are not there or broken.
    """
    return _idx("MNIST", split, path, download)


def fashion_mnist(
    split: str = "train", path: str | Path | None = None, download: bool = False
) -> tuple[Tensor, Tensor]:
    """Ten kinds of clothes (Xiao et al. 2017, arXiv 1708.07747), in all else like `mnist`."""
    return _idx("FashionMNIST", split, path, download)


def cifar10(
    split: str = "train", path: str | Path | None = None, download: bool = False
) -> tuple[Tensor, Tensor]:
    """CIFAR-10 (Krizhevsky 2009): pictures (n, 3, 32, 32), labels (n,) int64; 50,000 and 10,000.

    Arguments and errors as in `mnist`.
    """
    from torchvision.datasets import CIFAR10

    folder, archive = root(path), root(path) / CIFAR10.filename

    def unpack() -> None:
        if archive.exists() and not (folder / CIFAR10.base_folder).exists():
            with tarfile.open(archive) as tar:
                tar.extractall(folder, filter="data")

    where = f"{archive}, or unpacked in {folder / CIFAR10.base_folder}"
    found = _open(CIFAR10, "cifar10", split, folder, download, unpack, where)
    return folders.scaled(torch.from_numpy(found.data).permute(0, 3, 1, 2)), torch.tensor(found.targets)


def folder(path: str | Path, size: int = 32) -> tuple[Tensor, list[str]]:
    """One's own captioned pictures, cut square at the centre and scaled: (n, 3, size, size), n captions.

    Captions and pictures are read as `folders.look` says; what is transparent becomes white.
    Raises `UserError` that names the file or line: a broken or missing picture, one of less than `size`
    pixels each way, a picture without a caption, a line of `metadata.jsonl` that is none.
    """
    if isinstance(size, bool) or not isinstance(size, int) or size < 1:
        raise UserError("size", size, "a whole number of pixels above 0")
    found = folders.look(path, lambda width, height: (size, size))
    for fault in found.faults:
        raise fault.error
    pixels = torch.stack([folders.fitted(one, size, size) for one in found.pictures])
    return folders.scaled(pixels), [one.caption for one in found.pictures]


def _idx(name: str, split: str, path: str | Path | None, download: bool) -> tuple[Tensor, Tensor]:
    """MNIST or a set in its format, of torchvision's class `name`."""
    from torchvision import datasets

    kind = getattr(datasets, name)
    raw = root(path) / name / "raw"
    names = [archive for archive, _ in kind.resources]

    def unpack() -> None:
        for archive in (raw / name for name in names):
            if archive.exists() and not archive.with_suffix("").exists():
                atomic_write(archive.with_suffix(""), gzip.decompress(archive.read_bytes()))

    where = f"{', '.join(names)} in {raw}"
    found = _open(kind, name, split, root(path), download, unpack, where)
    return folders.scaled(found.data[:, None]), found.targets.long()


def _open(kind, name, split, folder, download, unpack, where):
    """A torchvision data set, or one `UserError` for all that can be wrong with its files."""
    train = _split(split) == "train"
    try:
        unpack()
        return kind(folder, train=train, download=download)
    except Exception as error:  # each format has broken files of its own kind
        got = " ".join(f"{type(error).__name__}: {error}".split())
        allowed = f"{where}, whole" + ("" if download else "; or download=True")
        raise UserError(f"files of {name}", got, allowed) from error


def _split(split: str) -> str:
    if split not in SPLITS:
        raise UserError("split", split, "one of " + ", ".join(SPLITS))
    return split


DATASETS = {
    "scenes": scenes,
    "digits": digits,
    "mnist": mnist,
    "fashion-mnist": fashion_mnist,
    "cifar10": cifar10,
    "folder": folder,
}
