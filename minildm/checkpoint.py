"""The states of a training run on disk: each written whole or not at all, the last two kept, damage found out.

A state is all that a run needs to go on as if nothing had happened: weights, their average, the optimizer, the step,
the seconds so far, and torch's global random state, which dropout draws from. Everything else random in a step is
drawn from (seed, step): which pictures come, their noise and their levels. So that is not kept, only the step.
"""

import glob
import hashlib
import json
import re
import signal
import threading
import warnings
from contextlib import suppress
from pathlib import Path

import torch
from torch import nn

from .devices import device_of
from .files import UserError, atomic_write, lock, sweep

KEEP = 2  # states at a time; while one is written there is a third
DIGEST = 32  # bytes of SHA-256 behind torch's own file, which torch.load does not mind
SIGNALS = (signal.SIGTERM, signal.SIGINT)  # what a cluster sends some seconds before it kills; Ctrl-C


class States:
    """The states of one run, side by side: those of `path` runs/a/state.pt are runs/a/state-120.pt and so on.

    As a context it holds the folder for this process alone (a lock, which the kernel lets go whatever the process
    dies of), removes what a killed writer left, and reads the newest whole state: `step` and `spent` tell where the
    run stands. A damaged one is passed over with a warning. Left by Ctrl-C, or because its generator is closed, it
    saves once more; in the middle of a step Ctrl-C and SIGTERM wait for its end, unless Ctrl-C comes twice. It can be
    entered again while it is entered. `writes` is for all processes of a run but the first: without it nothing is
    locked, removed or saved. A `path` of None keeps nothing.
    Raises `UserError` where another training has the folder, where it cannot be written to, and where there are
    states but none is whole.
    """

    def __init__(self, path: str | Path | None, writes: bool = True):
        self.path = Path(path) if path else None
        self.writes = writes and self.path is not None
        self.step, self.spent = 0, 0.0  # where the run stands
        self.saved, self.saved_at = 0, 0.0  # step and seconds of its newest state
        self.notes = {}  # plain values of whoever brings these states, such as sums up to this step; saved along
        self._found = self._parts = self._lock = self._random = self._last = None
        self._entered, self._standing = 0, True
        self._handlers, self._came = {}, 0  # what signals did before; the signal that waits

    def files(self) -> list[Path]:
        """The states that lie there, newest first, whole or not."""
        if self.path is None:
            return []
        here = self.path.parent.iterdir() if self.path.parent.is_dir() else ()
        return sorted(filter(self._number, here), key=self._number, reverse=True)

    def _number(self, file: Path) -> int:
        """Of a state's file 1 + its step, and 0 of any other file; 1 too without a step, as a state was once named."""
        name = re.fullmatch(re.escape(self.path.stem) + r"(?:-(\d+))?" + re.escape(self.path.suffix), file.name)
        return 1 + int(name[1] or 0) if name else 0

    def __enter__(self) -> "States":
        if self._entered == 0:
            if self.writes:
                self._lock = lock(self.path.with_name(f".{self.path.stem}.lock"))
                sweep(self.path.parent, f".{glob.escape(self.path.stem)}*.part")
            try:
                self._read()
            except BaseException:
                self._close()
                raise
            if self.writes and threading.current_thread() is threading.main_thread():
                for one in SIGNALS:
                    if callable(handler := signal.getsignal(one)):  # else it kills or does nothing
                        self._handlers[one] = handler
                        signal.signal(one, self._stop)
        self._entered += 1
        return self

    def __exit__(self, kind: type | None, *_: object) -> None:
        self._entered -= 1
        try:
            if kind in (KeyboardInterrupt, GeneratorExit):
                self.save()
        finally:
            if self._entered == 0:
                self._close()

    def _close(self) -> None:
        if threading.current_thread() is threading.main_thread():
            for one in list(self._handlers):
                signal.signal(one, self._handlers.pop(one))
        if self._lock:
            self._lock.close()  # the empty file stays: who removes it may remove the lock of the next
        self._lock = None

    def _stop(self, number: int, frame: object = None) -> None:
        """What a signal did before; but between two steps only, so that no state is saved out of the middle of one."""
        if self._standing or self._came == number == signal.SIGINT:
            self._came = 0
            signal.signal(number, self._handlers.pop(number))
            signal.raise_signal(number)
        else:
            self._came = self._came or number

    def _read(self) -> None:
        files = self.files()
        for file in files:
            try:
                if self._number(file) > 1 and not _whole(file):
                    raise ValueError("its SHA-256 is another")
                self._found = torch.load(file, weights_only=True, map_location="cpu")
                self.step, self.spent = self._found["step"], self._found["spent"]
                self.notes = self._found.get("notes", {})
                self.saved, self.saved_at, self._last = self.step, self.spent, file
                return
            except Exception as error:  # what a broken pickle raises has no end
                reason = str(error).splitlines()[0][:100] if str(error) else type(error).__name__
                if file != files[-1]:
                    warnings.warn(f"{file} is damaged ({reason}); the state before it is taken", stacklevel=3)
        if files:
            found = ", ".join(file.name for file in files)
            raise UserError(
                f"checkpoint {self.path.parent}", f"{found}, none of them whole ({reason})",
                "a whole state: put one back from a copy, or delete these to begin anew",
            )  # fmt: skip

    def restore(self, model: nn.Module, optimizer: torch.optim.Optimizer, ema: object, run: dict) -> tuple[int, float]:
        """Put the state that was found into these three (ema: `train.EMA` or None), which `save` saves from then on.

        run: what has to be the same for a run to be the same, in plain values. Returns (step, seconds so far),
        zeros without a state. Raises `UserError` for the state of another run or network.
        """
        self._parts, state, self._found = (model, optimizer, ema, run), self._found, None
        if state:
            what = f"checkpoint {self._last}"
            if state.get("run") != run or ("ema" in state) != (ema is not None):
                raise UserError(what, state.get("run"), f"a checkpoint of the run {run}")
            try:
                model.load_state_dict(state["model"])
                optimizer.load_state_dict(state["optimizer"])
                if ema:
                    ema.model.load_state_dict(state["ema"])
                    ema.step = state["ema_step"]
            except (RuntimeError, ValueError, KeyError) as error:
                raise UserError(what, "the weights of another network", "the options this run began with") from error
            _set_random(device_of(model), state.get("random", []))
        self.stand(self.step, self.spent)
        return self.step, self.spent

    def moving(self) -> None:
        """From here on the weights change: there is nothing to save, and signals wait, until `stand`."""
        self._standing = False

    def stand(self, step: int, spent: float) -> None:
        """The run stands after so many steps and seconds, the weights with it, and all that belongs to them is done."""
        self.step, self.spent = step, spent
        if self.writes:
            self._random = _random(device_of(self._parts[0]))
        self._standing = True
        if self._came:
            self._stop(self._came)

    def save(self) -> None:
        """Save the state in which the run stands, if it stands and is not saved, and remove all but the newest `KEEP`.

        Raises `UserError` where it cannot be written, or weights are no longer finite; then nothing is removed.
        """
        if not self.writes or self._parts is None or not self._standing or self.step == self.saved:
            return
        model, optimizer, ema, run = self._parts
        for part in (model, ema.model) if ema else (model,):
            for name, weight in part.named_parameters():
                if not weight.isfinite().all():
                    raise UserError(f"weight {name} at step {self.step}", "nan or inf", f"finite ones; {self.last()}")
        state = {
            "model": model.state_dict(), "optimizer": optimizer.state_dict(), "step": self.step, "spent": self.spent,
            "run": run, "random": self._random, "notes": self.notes,
        }  # fmt: skip
        if ema:
            state |= {"ema": ema.model.state_dict(), "ema_step": ema.step}
        file = self.path.with_name(f"{self.path.stem}-{self.step}{self.path.suffix}")
        atomic_write(file, lambda part: _write(state, part))
        self.saved, self.saved_at, self._last = self.step, self.spent, file
        files = self.files()
        newest = files.index(file)  # only damaged ones are newer, since a run goes on from the newest whole one
        for old in files[:newest] + files[newest + KEEP :]:
            with suppress(OSError):
                old.unlink()

    def last(self) -> str:
        """Half a sentence: which state is the last one saved."""
        return f"the last good state is {self._last}" if self._last else "no state was saved"


def cut(path: str | Path, step: int) -> None:
    """Leave of a file of JSON lines those up to a step: what comes after it will be written again."""
    path = Path(path)
    if not path.exists():
        return
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines(keepends=True)
    kept = [line for line in lines if _step(line) <= step]
    if kept != lines:
        atomic_write(path, "".join(kept).encode())


def _step(line: str) -> float:
    with suppress(ValueError, KeyError, TypeError):
        return json.loads(line)["step"] if line.endswith("\n") else float("inf")
    return float("inf")  # a line cut short by a kill


def _write(state: dict, part: Path) -> None:
    with part.open("wb") as file:  # not torch.save(state, part): that would keep the reason of a failure to itself
        torch.save(state, file)
    with part.open("rb+") as file:
        digest = hashlib.file_digest(file, "sha256").digest()
        file.write(digest)


def _whole(file: Path) -> bool:
    """torch.load alone takes a tensor with a flipped bit for a good one."""
    left, digest = file.stat().st_size - DIGEST, hashlib.sha256()
    with file.open("rb") as content:
        while left > 0:
            chunk = content.read(min(left, 1 << 20))
            digest.update(chunk)
            left -= len(chunk)
        return content.read() == digest.digest()


def _random(device: torch.device) -> list[torch.Tensor]:
    return [torch.get_rng_state()] + ([torch.cuda.get_rng_state(device)] if device.type == "cuda" else [])


def _set_random(device: torch.device, states: list[torch.Tensor]) -> None:
    if states:
        torch.set_rng_state(states[0])
    if states[1:] and device.type == "cuda":
        torch.cuda.set_rng_state(states[1], device)
