"""The house is built as CONTRIBUTING.md says: who may import whom, how long a file may be, who prints."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "minildm"

# A room imports only from lower floors. "files" is the ground: its one error type is raised on every floor.
FLOORS = {
    "files": -1, "draws": -1,
    "levels": 0, "layers": 0, "blocks": 0.5, "scenes": 0, "show": 0, "devices": 0, "processes": 0, "strips": 0,
    "pictures": 0, "checkpoint": 0.5, "folders": 0.5,
    "data": 1, "shards": 1, "denoise": 1, "exact": 1, "sample": 1, "vae": 1, "unet": 1, "text": 1, "oracle": 1,
    "metrics": 1,
    "clip": 2, "features": 2, "pipe": 2, "layouts": 2, "train": 2, "hub": 2, "control": 2, "lora": 2, "mmdit": 2,
    "configs": 2, "original": 2,
    "weights": 3, "tasks": 3, "runs": 3, "readers": 3, "hints": 3,
    "hinted": 4, "edits": 4, "given": 4,
    "evaluate": 5, "recipes": 5, "pngs": 5,
    "league": 6, "own": 6,
    "cli": 7,
}  # fmt: skip
WING = "course"  # uses the library; the library never imports it
HEAVY = {"accelerate", "anywidget", "diffusers", "IPython", "ipywidgets", "matplotlib", "scipy", "sklearn",
         "tokenizers", "torchvision", "transformers", "typer", "webdataset"}  # fmt: skip
LONGEST = 250

MODULES = sorted(PACKAGE.rglob("*.py"))
names = [path.relative_to(PACKAGE).as_posix() for path in MODULES]
each_module = pytest.mark.parametrize("path", MODULES, ids=names)


def room_of(path):
    """The room a file belongs to; a package, such as scenes, is one room. "" is `__init__.py`."""
    first = path.relative_to(PACKAGE).parts[0]
    return "" if first == "__init__.py" else first.removesuffix(".py")


def parse(path):
    return ast.parse(path.read_text(encoding="utf-8"))


def imports(path):
    """The modules a file imports, anywhere in it, as whole names: `from . import a` is minildm.a."""
    package = ["minildm", *path.relative_to(PACKAGE).parent.parts]
    for node in ast.walk(parse(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            stem = ".".join([*base, *filter(None, [node.module])])
            yield from [f"{stem}.{alias.name}" for alias in node.names] if stem == "minildm" else [stem]


def our_rooms(path):
    """The other rooms that a file imports from."""
    for name in imports(path):
        parts = name.split(".")
        if parts[0] == "minildm" and len(parts) > 1 and parts[1] != room_of(path):
            yield parts[1]


def at_import(tree):
    """The nodes that run when a module is imported: not inside a function, nor for the type checker alone."""
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        if isinstance(node, ast.If) and ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING"):
            continue
        yield node
        if hasattr(node, "body"):
            yield from at_import(node)


@each_module
def test_imports_only_from_lower_floors(path):
    room = room_of(path)
    if room in ("", WING):
        return
    assert room in FLOORS, f"give {room} a floor, here and in CONTRIBUTING.md"
    for other in our_rooms(path):
        assert other != WING, "the library does not know the course"
        assert FLOORS[other] < FLOORS[room], f"{room} imports {other}"


@each_module
def test_heavy_packages_wait_until_they_are_needed(path):
    allowed = {"typer"} if room_of(path) == "cli" else set()
    for node in at_import(parse(path)):
        found = [a.name for a in node.names] if isinstance(node, ast.Import) else []
        found += [node.module] if isinstance(node, ast.ImportFrom) and not node.level else []
        assert not {name.split(".")[0] for name in found} & (HEAVY - allowed), ast.unparse(node)


def test_import_brings_nothing_heavy():
    code = (
        "import sys, torch\nbefore = set(sys.modules)\nimport minildm\n"
        f"print(*sorted({HEAVY!r} & (set(sys.modules) - before)))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == ""


@each_module
def test_files_are_short(path):
    assert len(path.read_text(encoding="utf-8").splitlines()) <= LONGEST


@each_module
def test_library_does_not_print(path):
    if room_of(path) in ("cli", WING):
        return
    for node in ast.walk(parse(path)):
        assert not (isinstance(node, ast.Call) and ast.unparse(node.func) == "print"), f"line {node.lineno}"


def test_contributing_has_the_same_floors():
    """The table of rooms lists every room there is, on the floor this test holds it to."""
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    text = text.partition("## Rooms and floors")[2].partition("\n## ")[0]
    told = {}
    for floor, rooms in re.findall(r"^\| (ground|\d) \| ([^|]*) \|", text, re.MULTILINE):
        told |= {room: floor for room in re.findall(r"`(\w+)\.py`|`(\w+)/`", rooms) for room in room if room}
    here = {room for room in map(room_of, MODULES) if room not in ("", WING)}
    assert here <= set(told)
    for room, floor in told.items():
        assert floor == ("ground" if FLOORS[room] < 0 else str(int(FLOORS[room]))), room


def test_the_walk_sees_what_it_should(tmp_path, monkeypatch):
    """The checks above can fail: a module that breaks each rule is seen breaking it."""
    monkeypatch.setitem(globals(), "PACKAGE", tmp_path)
    bad = tmp_path / "levels.py"
    bad.write_text(
        "from . import tasks\nfrom .vae import VAE\nimport minildm.pipe\n"
        "try:\n    import typer\nexcept E:\n    pass\n"
        "def f():\n    import sklearn\n    from .course.check import same\n",
        encoding="utf-8",
    )
    assert set(our_rooms(bad)) == {"tasks", "vae", "pipe", "course"}
    with pytest.raises(AssertionError):
        test_imports_only_from_lower_floors(bad)
    with pytest.raises(AssertionError, match="typer"):
        test_heavy_packages_wait_until_they_are_needed(bad)
