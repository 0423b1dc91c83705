"""A learner's code, run where it can neither stop nor stall the notebook."""

import contextlib
import ctypes
import io
import threading
import time
from collections.abc import Callable

import torch

KEPT = 2000  # characters of what it prints
PATIENCE = 2.0  # seconds that it is given to stop


class Stopped(BaseException):
    """Raised inside the learner's code when its time is over; `except Exception` lets it through."""


class Kept(io.TextIOBase):
    """Keeps the beginning of what is written: an endless loop may print for ever."""

    text = ""

    def write(self, text: str) -> int:
        self.text += text[: KEPT - len(self.text)]
        return len(text)


def run(work: Callable[[], object], seconds: float) -> tuple[BaseException | None, str]:
    """Call `work` for at most so many seconds: what it raised, None if it ended well, and what it printed.

    Seconds of computing are counted, so that a busy machine is nobody's mistake; waiting may take four times as many.
    PyTorch computes on one thread in it: several wait for each other on a busy machine, and that would count.

    Overtime raises `Stopped` in it. Where that is swallowed or cannot arrive (in a long `sleep`, say), the work is
    left running in its own thread, and what is returned is a `TimeoutError`.
    """
    ended: list[BaseException | None] = []
    begun, threads = threading.Event(), torch.get_num_threads()

    def body():
        try:
            begun.set()
            torch.set_num_threads(1)  # of this thread, and of those that begin after it
            work()
            ended.append(None)
        except BaseException as error:  # whatever it is, it belongs into the verdict
            ended.append(error)

    # a thread and no process, because functions of a notebook do not travel; no signal, because Windows has none
    thread = threading.Thread(target=body, daemon=True)
    printed = Kept()
    with contextlib.redirect_stdout(printed):
        thread.start()
        try:
            begun.wait()  # from here on whatever is raised in it is caught in it
            _wait(thread, seconds)
        finally:  # also where the learner interrupts the waiting
            stop(thread)
            torch.set_num_threads(threads)  # not in the thread, where `Stopped` may arrive in the midst of it
    return (ended[0] if ended else TimeoutError()), printed.text


def _wait(thread: threading.Thread, seconds: float) -> None:
    computed, waited = time.process_time() + seconds, time.monotonic() + 4 * seconds
    while thread.is_alive() and time.process_time() < computed and time.monotonic() < waited:
        thread.join(0.02)


def stop(thread: threading.Thread) -> None:
    """Raise `Stopped` in the thread until it ends, or for two seconds."""
    for _ in range(10):
        if not thread.is_alive():
            return
        ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread.ident), ctypes.py_object(Stopped))
        thread.join(PATIENCE / 10)
