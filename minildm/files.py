"""Files written whole or not at all, their fingerprints, and the one error a user's mistake raises."""

import hashlib
import os
import tempfile
from collections.abc import Callable
from pathlib import Path


class UserError(ValueError):
    """A mistake in what the user gave, told in one line: what it was, what came, what is allowed.

    The command line prints it and exits with code 2; in a notebook it is an ordinary `ValueError`.
    """

    def __init__(self, what: str, got: object, allowed: str):
        super().__init__(f"{what}: got {got!r}; expected {allowed}".replace("\n", " "))


def is_there(path: str | Path) -> bool:
    """Whether there is such a file or folder; False too for a name that none can have, where `exists` may raise."""
    try:
        return Path(path).exists()
    except (OSError, ValueError):
        return False


def atomic_write(path: str | Path, content: bytes | Callable[[Path], object]) -> Path:
    """Write `path` whole or leave what was there: a temporary file beside it, flushed, then renamed.

    `content` is the bytes themselves or a function that writes them to the path it is given.
    The file gets the ordinary mode of a new file (some writers leave 0600). Returns the path.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
    os.close(handle)
    part = Path(name)
    try:
        if callable(content):
            content(part)
        else:
            part.write_bytes(content)
        with part.open("rb+") as file:
            os.fsync(file.fileno())
        part.chmod(0o644)
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)
    return path


def sha256(path: str | Path) -> str:
    """The SHA-256 of a file as 64 hexadecimal digits."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
