"""The committed notebooks are what `make notebooks` makes of notebooks/src; the tool does what it says."""

import io
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import nbformat
import numpy as np
import pytest
from PIL import Image

import notebooks as tool

ROOT = Path(__file__).parent.parent
SOURCES = sorted((ROOT / "notebooks" / "src").glob("*.py"))
COMMITTED = sorted([*ROOT.glob("notebooks/*.ipynb"), *ROOT.glob("notebooks/solutions/*.ipynb")])
names = [path.relative_to(ROOT).as_posix() for path in COMMITTED]


def content(book):
    return [(cell.cell_type, cell.source, cell.metadata.get("tags", []), cell.id) for cell in book.cells]


def test_every_source_has_its_notebooks_and_no_other():
    built = [path for source in SOURCES for path in tool.build(source)]
    assert sorted(built) == COMMITTED


@pytest.mark.parametrize("page", ["README.md", "docs/teaching.md"])
def test_learners_and_teachers_are_told_of_every_lesson(page):
    text = (ROOT / page).read_text(encoding="utf-8")
    assert [source.stem for source in SOURCES if f"notebooks/{source.stem}.ipynb" not in text] == []


@pytest.mark.parametrize("source", SOURCES, ids=[path.stem for path in SOURCES])
def test_notebook_equals_its_source(source):
    for path, built in tool.build(source).items():
        book = nbformat.read(path, as_version=4)
        nbformat.validate(book)
        assert content(book) == content(built)
        digest = built.metadata["minildm"]["source"]
        assert book.metadata["minildm"]["source"] == digest, "not run since its source changed"
        assert {k: book.metadata[k] for k in tool.plain_metadata()} == tool.plain_metadata()
        assert "jupytext" not in book.metadata


@pytest.mark.parametrize("path", COMMITTED, ids=names)
def test_notebook_is_clean(path):
    assert path.stat().st_size < 1.5e6
    assert b"\r" not in path.read_bytes()
    code = [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]
    if path.parent.name == "notebooks":
        assert len(code) <= 26, "a lesson has at most about 25 code cells"
    counts = [cell.execution_count for cell in code]
    assert counts == list(range(1, len(code) + 1)), "run from top to bottom, once"
    for cell in code:
        for output in cell.outputs:
            assert output.output_type != "error", cell.source
            assert output.get("name") != "stderr", output.text


@pytest.mark.parametrize("path", COMMITTED, ids=names)
def test_printed_lines_fit_the_page(path):
    """JupyterLab on a laptop's screen breaks longer ones in the middle of a number."""
    for cell in nbformat.read(path, as_version=4).cells:
        for output in cell.get("outputs", []):
            for line in output.get("text", "").splitlines():
                assert len(line) <= 100, line


@pytest.mark.parametrize("path", COMMITTED, ids=names)
def test_every_picture_has_words_for_who_cannot_see_it_and_a_caption(path):
    for cell in nbformat.read(path, as_version=4).cells:
        outputs = cell.get("outputs", [])
        for output, after in pairwise([*outputs, {}]):
            data = output.get("data", {})
            if any(kind.startswith("image/") for kind in data):
                assert output.metadata.get("image/png", {}).get("alt"), f"no alt: {cell.source}"
                assert after.get("data", {}).get("text/markdown"), f"no caption: {cell.source}"
            assert "<img" not in data.get("text/html", "").replace("<img alt=", ""), f"no alt: {cell.source}"


def test_the_whole_of_latent_diffusion_is_one_cell_in_three_lessons():
    """The promise of lesson 00: the last lesson runs it with nothing changed but the folder and the prompt."""
    cells = []
    for source in SOURCES:
        for cell in next(iter(tool.build(source).values())).cells:
            if "whole-of-latent-diffusion" in cell.metadata.get("tags", []):
                cells.append(cell.source[cell.source.index("pipe = weights.load(FOLDER") :])
    assert len(cells) == 3 and len(set(cells)) == 1


# The tool itself

LESSON = """\
# %% [markdown]
# # A lesson

# %% tags=["setup"]
import math

# %% tags=["nbval-check-output"]
print(math.floor(2.5))

# %% tags=["exercise"]
def area(r):
    # BEGIN SOLUTION
    square = r * r
    return math.pi * square
    # END SOLUTION

# %% [markdown] tags=["solution"]
# Because of Archimedes.
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    (tmp_path / "notebooks" / "src").mkdir(parents=True)
    (tmp_path / "notebooks" / "src" / "00_test.py").write_text(LESSON, encoding="utf-8")
    monkeypatch.setattr(tool, "NOTEBOOKS", tmp_path / "notebooks")
    return tmp_path / "notebooks"


def run(monkeypatch, *options):
    monkeypatch.setattr(sys, "argv", ["notebooks.py", *options])
    return tool.main()


def test_lesson_has_the_stub_and_solutions_have_the_solution(folder):
    lesson, solved = tool.build(folder / "src" / "00_test.py").values()
    assert [cell.cell_type for cell in lesson.cells] == ["markdown", "code", "code", "code"]
    assert lesson.cells[3].source == "def area(r):\n    ...  # your code here"
    assert lesson.cells[2].metadata.tags == ["nbval-check-output"]
    assert [cell.source for cell in solved.cells] == [
        "import math",
        "def area(r):\n    square = r * r\n    return math.pi * square",
        "Because of Archimedes.",
    ]
    assert [cell.id for cell in solved.cells] == ["cell-00", "cell-01", "cell-02"]


def test_lesson_without_exercises_has_no_solutions(folder):
    source = folder / "src" / "01_plain.py"
    source.write_text("# %%\n1 + 1\n", encoding="utf-8")
    assert list(tool.build(source)) == [folder / "01_plain.ipynb"]


@pytest.mark.parametrize(
    ("change", "message"),
    [(("    # END SOLUTION\n", ""), "pair up"), (('["exercise"]', '["other"]'), "needs the tag")],
)
def test_faulty_marks_are_errors(folder, change, message):
    source = folder / "src" / "00_test.py"
    source.write_text(LESSON.replace(*change), encoding="utf-8")
    with pytest.raises(ValueError, match=message):
        tool.build(source)


def test_build_runs_what_changed_and_nothing_else(folder, monkeypatch, capsys):
    assert run(monkeypatch) == 0
    lesson = folder / "00_test.ipynb"
    book = nbformat.read(lesson, as_version=4)
    assert book.cells[2].outputs[0].text == "2\n"
    assert (folder / "solutions" / "00_test.ipynb").exists()
    assert set(book.metadata) == {"kernelspec", "language_info", "minildm"}
    before = lesson.stat().st_mtime_ns
    assert run(monkeypatch) == 0 and lesson.stat().st_mtime_ns == before
    # A learner's or maintainer's edit is not overwritten without --force; what the tool wrote itself is.
    source = folder / "src" / "00_test.py"
    source.write_text(LESSON.replace("2.5", "3.5"), encoding="utf-8")
    assert run(monkeypatch, "--no-run") == 0
    assert nbformat.read(lesson, as_version=4).cells[2].source == "print(math.floor(3.5))"
    book = nbformat.read(lesson, as_version=4)
    book.cells[0].source += " with a note of mine"
    nbformat.write(book, lesson)
    capsys.readouterr()
    assert run(monkeypatch, "--no-run", "--only", "00") == 1
    assert "uncommitted changes" in capsys.readouterr().out
    assert "note of mine" in lesson.read_text(encoding="utf-8")
    assert run(monkeypatch, "--no-run", "--force") == 0
    assert "note of mine" not in lesson.read_text(encoding="utf-8")


def test_committed_notebooks_are_overwritten(folder, monkeypatch):
    assert run(monkeypatch, "--no-run") == 0
    lesson = folder / "00_test.ipynb"
    book = nbformat.read(lesson, as_version=4)
    book.cells[0].source = "# A saved and committed note"
    nbformat.write(book, lesson)
    assert tool.has_uncommitted_work(lesson)
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@example.org"]
    for command in (["init", "-q"], ["add", "."], ["commit", "-q", "-m", "x"]):
        subprocess.run([*git, *command], cwd=folder, check=True)
    assert not tool.has_uncommitted_work(lesson)


def test_cell_that_warns_is_not_written(folder, monkeypatch):
    source = folder / "src" / "00_test.py"
    source.write_text("# %%\nimport sys\nprint('careful', file=sys.stderr)\n", encoding="utf-8")
    with pytest.raises(RuntimeError, match="careful"):
        run(monkeypatch)
    assert not list(folder.glob("*.ipynb"))


def png_of(pixels):
    Image.fromarray(pixels).save(file := io.BytesIO(), "png")
    return file.getvalue()


def test_a_palette_is_taken_only_where_nobody_sees_it():
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    assert (np.asarray(Image.open(io.BytesIO(tool.with_palette(png_of(noise))))) == noise).all()
    clear = np.dstack([noise, np.full((64, 64), 128, np.uint8)])
    assert tool.with_palette(png_of(clear)) == png_of(clear)
    opaque = np.dstack([noise, np.full((64, 64), 255, np.uint8)])
    assert len(tool.with_palette(png_of(opaque))) < len(png_of(opaque))
    few = np.random.default_rng(1).choice(noise[0], (64, 64))  # 64 colours, anyhow
    light = tool.with_palette(png_of(few))
    assert Image.open(io.BytesIO(light)).mode == "P" and len(light) < len(png_of(few))
    assert (np.asarray(Image.open(io.BytesIO(light)).convert("RGB")) == few).all()
