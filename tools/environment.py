"""Make .venv and install the project into it: what `make lab`, `make test` and `make browser` begin with.

    python tools/environment.py lab     # or: test, browser

Run by the interpreter that .venv is to be made from. It does nothing when .venv is as pyproject.toml asks.
A torch that the interpreter already has is kept: .venv then looks into that interpreter's packages too.
"""

import argparse
import hashlib
import json
import os
import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
OLDEST = (3, 11)


def main() -> None:
    parser = argparse.ArgumentParser(description="Make .venv and install the project into it.")
    parser.add_argument("extra", choices=["lab", "test", "browser"], help="the extra of pyproject.toml to install")
    parser.add_argument("--venv", type=Path, default=ROOT / ".venv")
    parser.add_argument("--asked", action="store_true", help="say so if .venv is another interpreter's")
    parser.add_argument("--dry-run", action="store_true", help="only print the commands")
    options = parser.parse_args()
    if sys.version_info < OLDEST:
        found = sys.version.split()[0]
        sys.exit(f"{sys.executable} is Python {found}; minildm needs 3.11 or later: make lab PYTHON=...")

    venv, note = options.venv, read_note(options.venv)
    digest = hashlib.sha256((ROOT / "pyproject.toml").read_bytes()).hexdigest()
    new = not works(venv)
    if options.asked and not new and note["python"] != sys.executable:
        print(f"{venv} was made from {note['python']} and stays; delete it to make it from {sys.executable}")
    if not new and note["pyproject"] == digest and options.extra in note["extras"]:
        return
    if new:
        outer, pin = outer_torch()
        note = {"python": sys.executable, "outer": outer, "pin": pin, "pyproject": "", "extras": []}
        run([sys.executable, "-m", "venv", "--clear", str(venv)], options.dry_run)
        write_note(venv, note, options.dry_run)  # before the installs: one cut short is taken up again
    for command in installs(venv, options.extra, note):
        run(command, options.dry_run)
    done = set(note["extras"]) if note["pyproject"] == digest else set()
    note |= {"pyproject": digest, "extras": sorted(done | {"lab", options.extra})}  # test holds lab
    write_note(venv, note, options.dry_run)


def installs(venv: Path, extra: str, note: dict) -> list[list[str]]:
    """The commands that fill `venv`, in order."""
    python = str(interpreter(venv))
    pip = [python, "-m", "pip", "install", "--disable-pip-version-check"]
    keep = ["-c", str(venv / "torch.txt")] if note["pin"] else []  # so that pip does not replace that torch
    commands = []
    if note["outer"] and not list(venv.glob("**/site-packages/outer.pth")):
        # Jupyter has to be whole inside .venv, with its files and its kernel; so it is installed before .venv
        # can see the other interpreter's packages.
        commands.append([*pip, *lab_packages()])
        commands.append([python, "-c", SHARE, *note["outer"]])
    commands.append([*pip, *keep, "-e", f".[{extra}]"])
    # The notebooks name the kernel "python3": make that this interpreter, whatever kernels the machine has.
    commands.append([python, "-m", "ipykernel", "install", "--sys-prefix"])
    return commands


SHARE = """
import sys, sysconfig, pathlib
pathlib.Path(sysconfig.get_path("purelib"), "outer.pth").write_text("\\n".join(sys.argv[1:]) + "\\n")
"""  # run in .venv: what stands in a .pth file joins sys.path, behind .venv's own packages


def outer_torch() -> tuple[list[str], str]:
    """Where this interpreter keeps a torch new enough for us, and the version to hold on to; or ([], "")."""
    try:
        version = metadata.version("torch")
    except metadata.PackageNotFoundError:
        return [], ""
    needed = re.search(r'"torch>=([\d.]+)', (ROOT / "pyproject.toml").read_text(encoding="utf-8"))[1]
    if numbers(version) < numbers(needed):
        print(f"{sys.executable} has torch {version}; minildm needs {needed} or later and installs its own")
        return [], ""
    folders = [p for p in sys.path if Path(p).name in ("site-packages", "dist-packages") and Path(p).is_dir()]
    print(f"keeping torch {version} of {sys.executable}")
    return folders, f"torch=={version}"


def numbers(version: str) -> tuple[int, ...]:
    return tuple(int(n) for n in re.match(r"\d+(\.\d+)*", version)[0].split("."))


def lab_packages() -> list[str]:
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return project["optional-dependencies"]["lab"]


def interpreter(venv: Path) -> Path:
    return venv / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def works(venv: Path) -> bool:
    """Whether `venv` has an interpreter that runs and a pip (an interrupted start leaves neither)."""
    try:
        run = subprocess.run([interpreter(venv), "-m", "pip", "--version"], capture_output=True)
        return run.returncode == 0
    except OSError:
        return False


def run(command: list[str], dry: bool) -> None:
    print("$", " ".join(word for word in command if word != SHARE), flush=True)
    if not dry and subprocess.run(command, cwd=ROOT).returncode:
        sys.exit("That step failed, so .venv is not complete. docs/troubleshooting.md may say why.")


def read_note(venv: Path) -> dict:
    """What earlier runs wrote down: the interpreter, its shared folders, pyproject's digest, the extras."""
    note = {"python": sys.executable, "outer": [], "pin": "", "pyproject": "", "extras": []}
    try:
        return note | json.loads((venv / "minildm.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return note


def write_note(venv: Path, note: dict, dry: bool) -> None:
    if not dry:
        (venv / "minildm.json").write_text(json.dumps(note, indent=1) + "\n", encoding="utf-8")
        (venv / "torch.txt").write_text(note["pin"] + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
