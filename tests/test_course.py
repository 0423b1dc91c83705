"""Exercises: right answers pass however they are written, mistakes get their own hint, and no code of a beginner's
stops the notebook."""

import contextlib
import importlib
import inspect
import io
import re
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

import notebooks as tool
from minildm.course import check, exercises, worker
from minildm.course.exercises import Exercise, Wrong, expect
from minildm.files import UserError

ROOT = Path(__file__).parent.parent
SOURCES = sorted((ROOT / "notebooks" / "src").glob("*.py"))
MODULES = sorted((ROOT / "tests" / "course_answers").glob("lesson_*.py"))
ANSWERS = [importlib.import_module(f"course_answers.{path.stem}") for path in MODULES]
RIGHT = {name: fns for module in ANSWERS for name, fns in module.RIGHT.items()}
WRONG = {name: pairs for module in ANSWERS for name, pairs in module.WRONG.items()}
EVERY = exercises.every()


def answer(entry):
    """The function itself, or what a maker of answers makes: it takes nothing."""
    return entry if inspect.signature(entry).parameters else entry()


def say(name, fn):
    """What check.exercise prints, its long lines in one piece again."""
    with contextlib.redirect_stdout(io.StringIO()) as out:
        assert check.exercise(name, fn) is None
    assert max(map(len, out.getvalue().splitlines())) <= 120
    return out.getvalue().replace("\n" + " " * 6, " ")


# The exercises


def test_every_exercise_has_enough_answers():
    assert set(RIGHT) == set(WRONG) == set(EVERY)
    for name, task in EVERY.items():
        assert 1 <= len(task.hints) <= 3 and task.checks, name
        assert len({inspect.getsource(fn) for fn in RIGHT[name]}) >= 2, f"{name}: two answers, written differently"
        assert all("minildm" not in inspect.getsource(fn) for fn in RIGHT[name]), f"{name}: copies the library"
        assert len(WRONG[name]) >= 3, f"{name}: three different mistakes"
        for wrong, _ in WRONG[name]:
            assert len((wrong.__doc__ or "").split()) >= 6, f"{wrong.__name__}: why would a student write it?"


@pytest.mark.slow
@pytest.mark.parametrize("name, fn", [(name, fn) for name, fns in RIGHT.items() for fn in fns])
def test_right_answers_pass(name, fn):
    assert check.judge(name, fn) == check.Verdict("right")
    assert say(name, fn) == f"✓ {name}: right.\n"


@pytest.mark.slow
@pytest.mark.parametrize("name", WRONG)
def test_each_mistake_gets_its_own_hint(name):
    hints, counted = {}, 0
    for wrong, hint in WRONG[name]:
        found = check.judge(name, answer(wrong))
        assert found.state == "wrong" and hint in found.hint, wrong.__name__
        hints[wrong.__name__] = found.hint
        counted += not re.search("gives the shape|a torch tensor is wanted", found.what)
    assert len(set(hints.values())) == len(hints), "each its own"
    assert counted >= 3, "a wrong type and a wrong shape do not count"


# The lessons


def test_an_exercise_is_three_lines_or_more():
    for source in SOURCES:
        text = source.read_text(encoding="utf-8")
        for solution in re.findall(r"# BEGIN SOLUTION\n(.*?)# END SOLUTION", text, re.DOTALL):
            lines = [line for line in solution.splitlines() if line.strip() and not line.strip().startswith("#")]
            assert len(lines) >= 3, f"{source.stem}: {lines[0].strip()}"


@pytest.mark.slow
@pytest.mark.parametrize("source", SOURCES, ids=[path.stem for path in SOURCES])
def test_solutions_are_right_and_stubs_are_not_yet(source):
    """Run as scripts, the solutions get a tick for each exercise, and the lesson's stubs a hint and no error."""
    books = tool.build(source)
    asked = re.findall(r'check\.exercise\("([\w.]+)"', source.read_text(encoding="utf-8"))
    assert set(asked) == {name for name in EVERY if name.split(".")[0] == source.stem[:2]}
    assert (len(books) == 2) == bool(asked)
    if not asked:
        return
    lesson, solved = books.values()
    for book, mark in ((solved, "✓"), (lesson, "·")):
        out, place = io.StringIO(), {"__name__": "__main__"}
        with contextlib.redirect_stdout(out):
            for cell in book.cells:
                if cell.cell_type == "code" and {"setup", "exercise"} & tool.tags(cell):
                    exec(compile(cell.source, "<cell>", "exec"), place)
        assert re.findall(r"^[✓·✗] [\w.]+", out.getvalue(), re.MULTILINE) == [f"{mark} {name}" for name in asked]


# The machinery, on an exercise of its own: double a tensor


def doubles(fn):
    for x in (torch.tensor([[1.0, 2.0]]), torch.zeros(3)):
        expect(fn(x), 2 * x, f"double({x.tolist()})", "Twice as much, please.")


@pytest.fixture(autouse=True)
def toy(monkeypatch):
    tasks = EVERY | {"99.double": Exercise("99.double", ("add", "x + x"), (doubles,), seconds=0.5)}
    monkeypatch.setattr(exercises, "every", lambda: tasks)
    monkeypatch.setattr(check, "_hints_given", {})


def stub(x):
    ...  # your code here


def dots(x):
    return ...


def prints(x):
    print(2 * x)


def adds(x):
    return x + 2


def wrong_shape(x):
    return 2 * x[0]


def as_numpy(x):
    return 2 * x.numpy()


def as_list(x):
    return (2 * x).tolist()


def in_place(x):
    x *= 2
    return x


def sometimes_none(x):
    if x.ndim == 2:
        return 2 * x


def raises(x):
    y = {}
    return y["two"] * x


def raises_in_torch(x):
    return x @ torch.ones(7)


def asserts(x):
    assert x.ndim == 1


def leaves(x):
    sys.exit("bye")


def recurses(x):
    return recurses(x)


def two_arguments(x, y):
    return x


class Hostile(Exception):
    def __str__(self):
        raise ValueError("even this")


def hostile_error(x):
    raise Hostile


def hostile_value(x):
    class Value:
        def __repr__(self):
            raise ValueError("no repr")

    return Value()


def generator(x):
    yield 2 * x


def bad_generator(x):
    print("debugging")
    return np.array(["a", "b"])


@pytest.mark.parametrize("fn, said", [
    (stub, r"^· 99.double: not yet\. stub returns nothing .*\n  Hint: add\n$"),
    (dots, r"^· .*not yet"),
    (prints, r"^✗ .*prints something and returns nothing.\n  Your function printed:\n    tensor\(.*\n.*`return`"),
    (adds, r"double\(\[\[1.0, 2.0\]\]\) gives 3 at index \(0, 0\); it should be 2.\n  Hint: Twice"),
    (wrong_shape, r"the shape \(2,\); it should be \(1, 2\)"),
    (as_numpy, r"gives a NumPy ndarray; a torch tensor is wanted"),
    (as_list, r"gives \[\[2.0, 4.0\]\]; a torch tensor is wanted"),
    (in_place, r"changes what it was given as argument 1.\n  Hint: .*x\.clone\(\)"),
    (sometimes_none, r"double\(\[0.0, 0.0, 0.0\]\) gives None; a torch"),
    (raises, r'stops with KeyError: \'two\', in line \d+ of your code \(`return y\["two"\] \* x`\)\.\n  A hint: check'),
    (raises_in_torch, r"stops with RuntimeError: .*, in line \d+ of your code \(`return x @"),
    (asserts, r"AssertionError: .*, in line"),
    (leaves, r"SystemExit: bye, in line"),
    (recurses, r"RecursionError: .*, in line \d+ of your code"),
    (hostile_error, r"Hostile.*, in line"),
    (hostile_value, r"gives <Value>; a torch tensor"),
    (generator, r"gives <generator.*; a torch tensor is wanted"),
    (bad_generator, r"NumPy ndarray.*\n  Your function printed:\n    debugging\n"),
    (3, r"3 is no function.\n  Hint: Hand over the function itself"),
    (None, r"None is no function"),
    (lambda x: x + x, r"^✓ 99.double: right.\n$"),
])  # fmt: skip
def test_what_beginners_write_is_answered(fn, said):
    assert re.search(said, say("99.double", fn)), say("99.double", fn)


def endless(x):
    while True:
        pass


def endless_that_catches(x):
    while True:
        try:
            while True:
                print(x)
        except Exception:
            pass


def deaf(x):
    for _ in range(40):  # four seconds in all, so that nothing is left of it after the tests
        try:
            time.sleep(0.1)
        except BaseException:
            pass


@pytest.mark.parametrize("fn", [endless, endless_that_catches])
def test_endless_loops_are_stopped(fn):
    start = time.monotonic()
    said = say("99.double", fn)
    assert time.monotonic() - start < 5
    assert "no answer after 0.5 seconds; the last call was" in said and "restart" not in said
    assert len(said) < 4000


def test_what_cannot_be_stopped_is_left_and_told(monkeypatch):
    monkeypatch.setattr(worker, "PATIENCE", 0.5)
    start = time.monotonic()
    assert "still runs. To end it, restart the kernel" in say("99.double", deaf)
    assert time.monotonic() - start < 4


def test_interrupting_the_wait_stops_the_work(monkeypatch):
    stopped = []

    class Impatient(worker.threading.Thread):
        def join(self, timeout=None):
            if not stopped:
                stopped.append(self)
                raise KeyboardInterrupt
            super().join(timeout)

    monkeypatch.setattr(worker.threading, "Thread", Impatient)
    with pytest.raises(KeyboardInterrupt):
        check.judge("99.double", endless)
    assert not stopped[0].is_alive()


def test_edits_of_a_table_are_seen_too():
    task = Exercise("99.table", ("a",), (lambda fn: expect(fn({"a": (1, 2)}), 1, "size"),))
    exercises.every()["99.table"] = task
    assert "changes what it was given" in say("99.table", lambda table: table.pop("a")[0])
    assert say("99.table", lambda table: np.int64(table["a"][0])).startswith("✓")


def test_hints_come_one_by_one(capsys):
    for wanted in ("Hint 1 of 2: add\n", "Hint 2 of 2: x + x\n", "Hint 1 of 2: add\nHint 2 of 2: x + x\nThese are all"):
        check.hint("99.double")
        assert capsys.readouterr().out.startswith(wanted)


def test_a_function_with_other_parameters_is_told_so():
    found = check.judge("16.rename", two_arguments)
    assert "does not fit the check: TypeError: two_arguments() missing 1 required" in found.what


def test_unknown_exercises_are_an_error():
    for call in (lambda: check.exercise("16.renam", stub), lambda: check.hint("16.renam")):
        with pytest.raises(UserError, match=r"'16\.renam'; expected one of .*16\.find_eps, "):
            call()


def test_wrong_without_a_hint_says_how_to_get_one():
    def never(fn):
        raise Wrong("It is never right")

    exercises.every()["99.never"] = Exercise("99.never", ("a",), (never,))
    assert say("99.never", stub) == '✗ 99.never: It is never right.\n  A hint: check.hint("99.never")\n'


def test_inputs_that_share_their_memory_are_watched_too():
    assert check._frozen(torch.zeros(1).expand(3)) == check._frozen(torch.zeros(3))
    assert check._frozen(torch.zeros(1).expand(3)) != check._frozen(torch.ones(1).expand(3))
