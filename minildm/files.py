"""Files written whole or not at all, their fingerprints, and the one error a user's mistake raises."""

import errno
import hashlib
import os
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO


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


@contextmanager
def writing(path: str | Path) -> Iterator[None]:
    """Where writing `path` goes wrong, by a full disk, a folder that is not ours or its name, it is a `UserError`."""
    try:
        if b"\0" in os.fsencode(path):
            raise OSError("a zero byte in its name")
        yield
    except UnicodeEncodeError as error:
        raise UserError("file", str(path), "a name that a file can have") from error
    except (OSError, RuntimeError) as error:
        reason = error if isinstance(error, OSError) else error.__context__  # torch.save hides the disk's own error
        if not isinstance(reason, OSError):
            raise
        told = f"one that can be written ({reason.strerror or reason}); nothing that was there is lost"
        raise UserError("file", str(path), told) from error


def atomic_write(path: str | Path, content: bytes | Callable[[Path], object]) -> Path:
    """Write `path` whole or leave what was there: a temporary file beside it, flushed, then renamed.

    `content` is the bytes themselves or a function that writes them to the path it is given.
    The file gets the ordinary mode of a new file (some writers leave 0600). Returns the path.
    A killed process leaves at most the temporary file, which `sweep` removes.
    Raises `UserError` where the disk is full, or the folder cannot be written to.
    """
    path = Path(path)
    with writing(path):
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
    _flush(path.parent)
    return path


def _flush(folder: Path) -> None:
    """Put a folder's list of names on the disk: until then a power cut can undo a renaming."""
    if os.name == "nt":  # a folder cannot be opened there, and the file system keeps its own journal
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):  # some network file systems refuse; the file itself is there
            os.fsync(handle)
    finally:
        os.close(handle)


def ready(folder: str | Path) -> Path:
    """A folder, made if need be, in which files can be written. Raises `UserError` where they cannot."""
    with writing(folder):
        Path(folder).mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    return Path(folder)


def sweep(folder: str | Path, pattern: str = "**/.*.part") -> None:
    """Remove the temporary files that killed writers left in a folder, and below it unless `pattern` says otherwise.

    Only for a folder that nobody else writes into: a living writer's temporary file looks the same.
    """
    for part in Path(folder).glob(pattern):
        with suppress(OSError):
            part.unlink()


def lock(path: str | Path) -> IO:
    """Hold the lock of a file, made if need be, until what is returned is closed or this process ends in any way.

    Raises `UserError` if somebody else holds it. Warns where the file system has no locks: some network drives.
    """
    with writing(path):
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("ab")
    try:
        if os.name == "nt":
            import msvcrt

            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EACCES, errno.EAGAIN, errno.EDEADLK):
            file.close()
            raise UserError("out", str(path.parent), "a folder that no other training is writing to") from error
        warnings.warn(f"no locks in {path.parent} ({error.strerror}): let no second training write there", stacklevel=2)
    return file


def append(path: str | Path, line: str) -> None:
    """Add a line to a text file, and have it on the disk before going on. Raises `UserError` as `atomic_write` does."""
    with writing(path), Path(path).open("a", encoding="utf-8", newline="\n") as file:
        file.write(line + "\n")
        file.flush()
        os.fsync(file.fileno())


def sha256(path: str | Path) -> str:
    """The SHA-256 of a file as 64 hexadecimal digits."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
