"""Exercises that check themselves: a gentle "not yet", the mistake by its name, or a tick.

    check.exercise("16.rename", rename)
    check.hint("16.rename")
    check.same(my_target, denoise.target)
    check.agree("alpha squared and sigmoid(log-SNR)", alpha**2, log_snr.sigmoid())
"""

import inspect
import sysconfig
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from . import exercises, worker
from .compare import agree as agree
from .compare import same as same
from .exercises import Wrong, told, wrapped

# Where no learner's code lies: this library, Python itself, and what pip installed.
FOREIGN = (str(Path(__file__).parent.parent), *(sysconfig.get_path(kind) for kind in ("stdlib", "purelib", "platlib")))

_hints_given: dict[str, int] = {}


class NotYet(Exception):
    """There is no answer yet to judge."""


@dataclass(frozen=True)
class Verdict:
    """What is said about an answer. `state` is "right", "not yet" or "wrong"."""

    state: str
    what: str = ""
    hint: str = ""
    printed: str = ""  # by the learner's code


def exercise(name: str, fn: Callable) -> None:
    """Print whether `fn` solves the exercise, and if not, what is amiss. Nothing that `fn` does is raised here.

    Raises `UserError` for a name that no exercise has.
    """
    found = judge(name, fn)
    lines = [{"right": "✓", "not yet": "·", "wrong": "✗"}[found.state] + f" {name}: {found.what or 'right.'}"]
    if found.state != "right":
        if found.printed:
            lines += ["  Your function printed:", *(f"    {line}" for line in found.printed.splitlines()[:10])]
        lines.append(f"  Hint: {found.hint}" if found.hint else f'  A hint: check.hint("{name}")')
    print("\n".join(map(wrapped, lines)))


def hint(name: str) -> None:
    """Print the next hint of an exercise, and all of them again after the last. Raises `UserError` as `exercise`."""
    hints = exercises.find(name).hints
    step = _hints_given.get(name, 0)
    _hints_given[name] = step + 1
    for i, text in enumerate(hints):
        if i == step or step >= len(hints):
            print(wrapped(f"Hint {i + 1} of {len(hints)}: {text}"))
    if step >= len(hints):
        print(wrapped("These are all. One answer, explained, is in the notebook of this name in the folder solutions."))


def judge(name: str, fn: Callable) -> Verdict:
    """What `exercise` prints, as a value. An answer of None or `...` to the very first call is none yet."""
    task = exercises.find(name)
    if not callable(fn):
        return Verdict("wrong", f"{told(fn)} is no function.", "Hand over the function itself, without calling it.")
    watched = Watched(fn)

    def work():
        for check in task.checks:
            check(watched)

    error, printed = worker.run(work, task.seconds)
    if error is None:
        return Verdict("right", printed=printed)
    if isinstance(error, NotYet):
        if printed.strip():
            what = f"{watched.call} prints something and returns nothing."
            return Verdict("wrong", what, "What is printed is gone; end your function with `return`.", printed)
        what = f"not yet. {watched.name} returns nothing so far. (If you did write it: does it end with `return`?)"
        return Verdict("not yet", what, task.hints[0])
    if isinstance(error, Wrong):
        return Verdict("wrong", f"{error}.", error.hint, printed)
    if isinstance(error, worker.Stopped | TimeoutError):
        what = f"no answer after {task.seconds:g} seconds; the last call was {watched.call}."
        advice = "Look at your loops: does what they wait for ever come true?"
        if isinstance(error, TimeoutError):
            advice += " It could not be stopped and still runs. To end it, restart the kernel."
        return Verdict("wrong", what, advice, printed)
    return Verdict("wrong", _blamed(error, watched), "", printed)


class Watched:
    """The learner's function, as a check calls it: knows its last call, and that it left its input as it was."""

    def __init__(self, fn: Callable):
        self.fn, self.called, self.call = fn, False, ""
        self.name = getattr(fn, "__name__", "your function")

    def __call__(self, *args: object) -> object:
        given = zip(_names(self.fn, len(args)), args, strict=True)
        self.call = f"{self.name}({', '.join(_named(*pair) for pair in given)})"
        before = [_frozen(arg) for arg in args]
        got = self.fn(*args)
        for i, arg in enumerate(args):
            if _frozen(arg) != before[i]:
                raise Wrong(
                    f"{self.call} changes what it was given as argument {i + 1}",
                    "Others still need your input as it was. Make something new instead: `x + 1` and not `x += 1`, "
                    "`dict(x)`, `list(x)` or `x.clone()` before you write into it.",
                )
        if not self.called and (got is None or got is ...):
            raise NotYet
        self.called = True
        return got


def _names(fn: Callable, n: int) -> list[str]:
    """What the learner calls the first n arguments; "" for those that have no name."""
    try:
        parameters = inspect.signature(fn).parameters.values()
    except (TypeError, ValueError):  # some functions written in C have none
        parameters = ()
    names = [p.name for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    return (names + [""] * n)[:n]


def _named(name: str, value: object) -> str:
    """An argument in a few words: "x0 (4, 3, 8, 8)" for a tensor, "steps=10" for the rest."""
    if isinstance(value, Tensor):
        return f"{name or 'tensor'} {tuple(value.shape)}"
    return f"{name}={told(value)}" if name else told(value)


def _frozen(value: object) -> object:
    """What an edit in place would change about a value, as something that compares by ==.

    Networks and generators are free to change: that is what they are handed over for.
    """
    if isinstance(value, Tensor):
        if value.is_meta:
            return tuple(value.shape)
        return tuple(value.shape), value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes()
    if isinstance(value, dict):
        return [(key, _frozen(item)) for key, item in value.items()]
    if isinstance(value, list | tuple):
        return [_frozen(item) for item in value]
    return frozenset(value) if isinstance(value, set) else id(value)


def _blamed(error: BaseException, watched: Watched) -> str:
    """An exception in a sentence: in which call, and in which line of the learner's own code."""
    told_as = "".join(traceback.format_exception_only(error)).strip().splitlines()[0][:300]
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if not frame.filename.startswith((*FOREIGN, "<frozen"))]
    if not own:  # it came up while the check looked at what was returned, or the call itself did not fit
        return f"{watched.call} does not fit the check: {told_as}. Compare what goes in and out with the task."
    where = f"line {own[-1].lineno} of your code" + (f" (`{own[-1].line}`)" if own[-1].line else "")
    return f"{watched.call} stops with {told_as}, in {where}."
