"""Build the lessons: notebooks/src/NN_name.py -> notebooks/NN_name.ipynb, executed, and its solutions.

    python tools/notebooks.py [--only 00] [--no-run] [--force] [--all]

A source is a jupytext py:percent file, and the one place where a lesson is edited. Only what changed there is
built and run. Marks in a source:

    # BEGIN SOLUTION, # END SOLUTION    the lines between are an exercise's solution; the lesson shows a stub
    # %% tags=["exercise"]              statement, stub and check: in the lesson, and solved in the solutions
    # %% tags=["solution"]              an explanation: in the solutions alone
    # %% tags=["setup"]                 in both

notebooks/solutions/NN_name.ipynb exists only for lessons with exercises. Every other tag is passed on, such
as nbval-check-output for a cell that always shows the same.
"""

import argparse
import base64
import hashlib
import io
import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import jupytext
import nbformat

NOTEBOOKS = Path(__file__).resolve().parent.parent / "notebooks"
SOLUTION = re.compile(r"^([ \t]*)# BEGIN SOLUTION\n(.*?)^[ \t]*# END SOLUTION$", re.DOTALL | re.MULTILINE)
MARK = re.compile(r"# (?:BEGIN|END) SOLUTION")
STUB = "...  # your code here"
CELL_SECONDS = 600
UNSEEN = (0.25, 12)  # change of a colour, of 255, on average and in one of a thousand, that nobody sees


def main() -> int:
    parser = argparse.ArgumentParser(description="Build and run the lessons whose source changed.")
    parser.add_argument("--only", default="", metavar="NN", help="only lessons whose name starts like this")
    parser.add_argument("--no-run", action="store_true", help="leave outputs empty; the next build runs them")
    parser.add_argument("--force", action="store_true", help="overwrite notebooks with uncommitted changes")
    parser.add_argument("--all", action="store_true", help="also those whose source did not change")
    options = parser.parse_args()
    sources = sorted((NOTEBOOKS / "src").glob(f"{options.only}*.py"))
    if not sources:
        sys.exit(f"notebooks/src has no lesson that starts with {options.only!r}")
    refused = 0
    for source in sources:
        for path, book in build(source).items():
            if not options.all and executed_from(path) == book.metadata["minildm"]["source"]:
                continue
            if not options.force and has_uncommitted_work(path):
                print(f"{path}: has uncommitted changes and stays as it is (--force overwrites it)")
                refused += 1
                continue
            start = time.monotonic()
            if options.no_run:
                book.metadata["minildm"]["source"] = ""  # its outputs are of no source
            else:
                execute(book, path.parent)
            write(book, path)
            print(f"{path}: {time.monotonic() - start:.0f} s, {path.stat().st_size / 1e3:.0f} kB", flush=True)
    return int(refused > 0)


def build(source: Path) -> dict[Path, nbformat.NotebookNode]:
    """The lesson of a source file, and its solutions if it has exercises, by path; without outputs."""
    text = source.read_text(encoding="utf-8")
    cells = jupytext.reads(text, fmt="py:percent").cells
    for cell in cells:
        if SOLUTION.search(cell.source) and "exercise" not in tags(cell):
            raise ValueError(f'{source}: a cell with a solution needs the tag "exercise":\n{cell.source}')
        if len(MARK.findall(cell.source)) != 2 * len(SOLUTION.findall(cell.source)):
            raise ValueError(f"{source}: BEGIN SOLUTION and END SOLUTION do not pair up:\n{cell.source}")
    digest = hashlib.sha256(text.encode()).hexdigest()
    folder = source.parent.parent
    shown = [cell for cell in cells if "solution" not in tags(cell)]
    lesson = [(cell, SOLUTION.sub(rf"\1{STUB}", cell.source)) for cell in shown]
    books = {folder / f"{source.stem}.ipynb": notebook(lesson, digest)}
    if any(SOLUTION.search(cell.source) for cell in cells):
        kept = [cell for cell in cells if {"setup", "exercise", "solution"} & tags(cell)]
        solved = [(cell, SOLUTION.sub(lambda m: m[2].rstrip("\n"), cell.source)) for cell in kept]
        books[folder / "solutions" / f"{source.stem}.ipynb"] = notebook(solved, digest)
    return books


def tags(cell: nbformat.NotebookNode) -> set[str]:
    return set(cell.metadata.get("tags", []))


def notebook(cells: list[tuple[nbformat.NotebookNode, str]], digest: str) -> nbformat.NotebookNode:
    """A notebook of these cells with their new texts, plain metadata, and ids that count them."""
    book = nbformat.v4.new_notebook()
    book.metadata = nbformat.from_dict(plain_metadata() | {"minildm": {"source": digest}})
    for number, (cell, text) in enumerate(cells):
        new = nbformat.v4.new_markdown_cell if cell.cell_type == "markdown" else nbformat.v4.new_code_cell
        book.cells.append(new(text, id=f"cell-{number:02d}", metadata=dict(cell.metadata)))
    return book


def plain_metadata() -> dict:
    """What a notebook says of its kernel: no version, no machine, and no pairing with its source."""
    return {
        "kernelspec": {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"},
        "language_info": {"name": "python", "file_extension": ".py", "mimetype": "text/x-python"},
    }


def execute(book: nbformat.NotebookNode, folder: Path) -> None:
    """Run every cell in place. Raises where a cell fails or anything is written to the standard error."""
    import nbclient

    os.environ |= {"HF_HUB_OFFLINE": "1", "JUPYTER_PREFER_ENV_PATH": "1"}
    folder.mkdir(exist_ok=True)
    client = nbclient.NotebookClient(
        book, timeout=CELL_SECONDS, kernel_name="python3", resources={"metadata": {"path": str(folder)}},
        record_timing=False,
    )  # fmt: skip
    client.execute()
    book.metadata |= plain_metadata()  # the client wrote the exact version of Python there
    for cell in book.cells:
        for output in cell.get("outputs", []):
            if output.get("name") == "stderr":
                raise RuntimeError(f"a cell wrote to the standard error:\n{cell.source}\n\n{output['text']}")


def lighten(book: nbformat.NotebookNode) -> None:
    """Store each picture with a palette of 256 colours where nobody could tell: a third of all bytes, in all."""
    for cell in book.cells:
        for output in cell.get("outputs", []):
            if png := output.get("data", {}).get("image/png"):
                output.data["image/png"] = base64.b64encode(with_palette(base64.b64decode(png))).decode()


def with_palette(png: bytes) -> bytes:
    """A PNG file in at most 256 colours, where they do; in any case without an alpha that says nothing, and no larger.

    They do where pixels change by at most UNSEEN[0] of 255 on average, and by UNSEEN[1] in one channel of a thousand.
    """
    import numpy as np
    from PIL import Image

    given = Image.open(io.BytesIO(png))
    if given.mode == "RGBA" and given.getextrema()[3][0] < 255:
        return png
    full = given.convert("RGB")
    for method in (Image.Quantize.MEDIANCUT, Image.Quantize.MAXCOVERAGE):
        few = full.quantize(256, method=method, kmeans=4, dither=Image.Dither.NONE)
        change = np.abs(np.asarray(few.convert("RGB")).astype(int) - np.asarray(full).astype(int))
        if change.mean() <= UNSEEN[0] and np.quantile(change, 0.999) <= UNSEEN[1]:
            break
    else:
        few = full
    few.save(out := io.BytesIO(), "png", optimize=True)
    return min(out.getvalue(), png, key=len)


def write(book: nbformat.NotebookNode, path: Path) -> None:
    """Write the notebook whole or not at all, with a fingerprint of its cells as built."""
    lighten(book)
    book.metadata["minildm"]["built"] = fingerprint(book)
    path.parent.mkdir(exist_ok=True)
    part = path.with_suffix(".part")
    part.write_text(nbformat.writes(book) + "\n", encoding="utf-8", newline="\n")
    part.replace(path)


def executed_from(path: Path) -> str:
    """The digest of the source that this notebook's outputs come from; "" where there is none."""
    if not path.exists():
        return ""
    return nbformat.read(path, as_version=4).metadata.get("minildm", {}).get("source", "")


def has_uncommitted_work(path: Path) -> bool:
    """Whether overwriting `path` would lose somebody's work: neither committed, nor as this tool left it."""
    if not path.exists():
        return False
    command = ["git", "status", "--porcelain", "--", path.name]
    status = subprocess.run(command, cwd=path.parent, capture_output=True, text=True)
    if status.returncode == 0 and not status.stdout.strip():
        return False
    book = nbformat.read(path, as_version=4)
    return book.metadata.get("minildm", {}).get("built") != fingerprint(book)


def fingerprint(book: nbformat.NotebookNode) -> str:
    """A digest of all cells with their outputs, the same before writing and after reading."""
    cells = nbformat.reads(nbformat.writes(book), as_version=4).cells
    return hashlib.sha256(json.dumps(cells, sort_keys=True).encode()).hexdigest()


if __name__ == "__main__":
    sys.exit(main())
