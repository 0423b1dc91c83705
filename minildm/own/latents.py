"""What an autoencoder makes of pictures, kept on the disk: encoded once, found again by what they were made of.

An entry's name is the hash of the picture's bytes, of the encoder's weights and of the size. So nothing has to be
thrown away or checked: what changed has another name and is encoded anew, what did not is found. Files hold up to
SHARD entries and are written whole or not at all, so an interruption costs one of them.
"""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from .. import folders
from ..devices import device_of
from ..files import UserError, atomic_write
from ..folders import Picture
from ..vae import VAE
from ..weights.archive import put
from .buckets import Place

SHARD = 64  # entries in a file
MEMORY = 2**30  # bytes of entries that are held in memory; more stay on the disk, and are read as they are needed
AT_ONCE = 2**20  # pixels that go through the encoder together


@dataclass(frozen=True)
class Wanted:
    """One entry: a picture at a size, mirrored or not."""

    picture: Picture
    place: Place  # height and width in pixels
    mirrored: bool = False


def encoder_digest(vae: VAE) -> str:
    """12 hexadecimal digits that name what encodes. A decoder that is trained further changes no latent."""
    digest = hashlib.sha256()
    for part in (vae.encoder, vae.quant_conv):
        for name, tensor in part.state_dict().items():
            digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
            digest.update(tensor.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:12]


class Latents:
    """Means and log variances of pictures, in files of a folder. Call `fill` before asking for any of them."""

    def __init__(self, folder: str | Path, vae: VAE):
        self.folder, self.vae, self.digest = Path(folder), vae, encoder_digest(vae)
        self.where: dict[str, Path] = {}  # an entry's name -> its file
        self.held: dict[str, Tensor] = {}  # what is in memory
        self.open: dict[Path, object] = {}

    def key(self, wanted: Wanted) -> str:
        """The name of an entry: 64 hexadecimal digits."""
        made_of = (wanted.picture.digest, self.digest, wanted.place, wanted.mirrored)
        return hashlib.sha256(repr(made_of).encode()).hexdigest()

    def fill(self, wanted: Sequence[Wanted]) -> Iterator[tuple[int, int]]:
        """Encode what is not there yet; yields how many are there and how many there will be, at first and after
        each file. Raises `UserError` for a picture whose latent is not finite, or whose file has changed."""
        self._find()
        rows = {self.key(one): one for one in wanted}
        missing: dict[Place, list[str]] = {}
        for key, one in rows.items():
            if key not in self.where:
                missing.setdefault(one.place, []).append(key)
        done = len(rows) - sum(map(len, missing.values()))
        yield done, len(rows)
        for keys in missing.values():
            for first in range(0, len(keys), SHARD):
                part = keys[first : first + SHARD]
                self._write({key: rows[key] for key in part})
                done += len(part)
                yield done, len(rows)
        self._hold(list(rows))

    def __call__(self, wanted: Sequence[Wanted]) -> tuple[Tensor, Tensor]:
        """Entries of one size that `fill` was asked for -> mean and log variance, each (b, c, h/f, w/f), on the CPU."""
        mean, logvar = torch.stack([self._one(self.key(one)) for one in wanted]).chunk(2, dim=1)
        return mean, logvar

    def _one(self, key: str) -> Tensor:
        if key in self.held:
            return self.held[key]
        return self._opened(self.where[key]).get_tensor(key)

    def _opened(self, path: Path):
        from safetensors import safe_open

        if path not in self.open:
            self.open[path] = safe_open(path, framework="pt")  # mapped: only what is asked for is read
        return self.open[path]

    def _find(self) -> None:
        """Look what lies in the folder. A file that is not whole counts as not there: its entries are made again."""
        from safetensors import SafetensorError, safe_open

        for path in sorted(self.folder.glob("*.safetensors")):
            try:
                with safe_open(path, framework="pt") as file:
                    self.where |= dict.fromkeys(file.keys(), path)
            except (SafetensorError, OSError, ValueError):
                path.unlink(missing_ok=True)

    @torch.no_grad()
    def _write(self, rows: dict[str, Wanted]) -> None:
        keys, made = list(rows), {}
        height, width = rows[keys[0]].place
        count = max(1, AT_ONCE // (height * width))
        device = device_of(self.vae)
        for first in range(0, len(keys), count):
            some = keys[first : first + count]
            pixels = folders.scaled(torch.stack([pixels_of(rows[key]) for key in some]))  #  (b, 3, h, w)
            moments = torch.cat(self.vae.encode(pixels.to(device)), dim=1).float().cpu()  #  (b, 2c, h/f, w/f)
            for key, one in zip(some, moments, strict=True):
                if not one.isfinite().all():
                    what = f"latent of {rows[key].picture.path}"
                    raise UserError(what, "a number that is not finite", "an autoencoder for such pictures")
                made[key] = one.contiguous()
        name = hashlib.sha256("".join(sorted(made)).encode()).hexdigest()[:16]
        path = atomic_write(self.folder / f"{name}.safetensors", lambda part: put(made, part))
        self.where |= dict.fromkeys(made, path)

    def _hold(self, keys: list[str]) -> None:
        if keys and len(keys) * self._one(keys[0]).nbytes <= MEMORY:
            self.held = {key: self._one(key).clone() for key in keys}
            self.open.clear()


def pixels_of(wanted: Wanted) -> Tensor:
    """The picture of an entry: bytes (3, h, w)."""
    pixels = folders.fitted(wanted.picture, *wanted.place)
    return pixels.flip(2) if wanted.mirrored else pixels
