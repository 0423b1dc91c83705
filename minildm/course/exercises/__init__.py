"""What an exercise is, and where each is found: in the tuple `EXERCISES` of a module here, `lesson_NN` or more."""

import importlib
import inspect
import pkgutil
import reprlib
import textwrap
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from ...files import UserError

Slips = Iterable[tuple[Tensor, str]]  # what one comes to by a mistake, and the hint for it


@dataclass(frozen=True)
class Exercise:
    """One task of a lesson, and how an answer is judged.

    A check is given the learner's function and calls it; it raises `Wrong` where the answer is not as asked. The
    first check that does so decides, so what everything else rests on comes first.
    """

    name: str  # lesson and task, such as "16.rename"
    hints: tuple[str, ...]  # one to three, from a nudge to nearly the answer
    checks: tuple[Callable[[Callable], None], ...]
    seconds: float = 5.0  # that all checks together may take


class Wrong(Exception):
    """What is not so, on which input; and the hint for the mistake that is behind it, "" where nobody can tell."""

    def __init__(self, what: str, hint: str = ""):
        super().__init__(what)
        self.hint = hint


def every() -> dict[str, Exercise]:
    """All exercises there are, by name."""
    lessons = [importlib.import_module(f"{__name__}.{m.name}") for m in pkgutil.iter_modules(__path__)]
    return {task.name: task for lesson in lessons for task in lesson.EXERCISES}


def find(name: str) -> Exercise:
    """The exercise of this name. Raises `UserError` where there is none."""
    known = every()
    if name not in known:
        raise UserError("exercise", name, "one of " + ", ".join(sorted(known)))
    return known[name]


def expect(got: object, want: object, call: str, hint: str = "") -> None:
    """Raise `Wrong` unless `got`, the answer of `call`, is `want`: of its kind, its shape and its values.

    Tensors may differ by float32 rounding and in dtype; everything else has to be equal by ==.
    """
    if isinstance(want, Tensor):
        if not isinstance(got, Tensor):
            raise Wrong(f"{call} gives {told(got)}; a torch tensor is wanted", hint)
        if got.shape != want.shape:
            raise Wrong(f"{call} gives the shape {tuple(got.shape)}; it should be {tuple(want.shape)}", hint)
        off = ~torch.isclose(got.to(want), want, rtol=1e-4, atol=1e-5)
        if off.any():
            at = tuple(off.nonzero()[0].tolist())
            raise Wrong(f"{call} gives {got[at]:g} at index {at}; it should be {want[at]:g}", hint)
    elif got != want:
        raise Wrong(f"{call} gives {told(got)}; it should be {told(want)}", hint)


def near(got: object, want: Tensor, within: float = 1e-4) -> bool:
    """Whether `got` is this tensor but for rounding: `within` of its values, or a tenth of that near 0."""
    same = isinstance(got, Tensor) and got.shape == want.shape
    return same and torch.allclose(got.to(want), want, within, within / 10)


def hint_for(got: object, slips: Slips, otherwise: str = "", within: float = 1e-4) -> str:
    """The hint for a wrong answer, by how one comes to it: that of the first slip that gives what the learner got."""
    return next((hint for slip, hint in slips if near(got, slip, within)), otherwise)


def seeded(seed: int) -> torch.Generator:
    """A generator that begins with `seed`."""
    return torch.Generator().manual_seed(seed)


def told(value: object) -> str:
    """A value in a few words: a tensor by its shape, a function by its name, a list of tensors by its length, objects
    by their class, else the repr."""
    if isinstance(value, Tensor):
        return f"a tensor of shape {tuple(value.shape)}"
    if type(value).__module__ == "numpy":
        return f"a NumPy {type(value).__name__}"
    if inspect.isfunction(value):
        return value.__name__
    if type(value) in (list, tuple) and any(isinstance(v, Tensor) for v in value):
        return f"a {type(value).__name__} of {len(value)}, the first {told(value[0])}"
    if type(value).__module__ != "builtins" and not isinstance(value, tuple):
        return f"<{type(value).__name__}>"
    return SHORT.repr(value)


def wrapped(line: str) -> str:
    """A line as lines of at most 100 letters: JupyterLab breaks one that is too long inside a word."""
    return textwrap.fill(line, 100, subsequent_indent=" " * 6, break_long_words=False, break_on_hyphens=False)


SHORT = reprlib.Repr()
SHORT.maxdict, SHORT.maxlist, SHORT.maxstring, SHORT.maxother = 4, 6, 120, 120
