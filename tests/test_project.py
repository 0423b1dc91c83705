"""The files around the code say what is so: bounds, the conda way, versions, sizes, links."""

import importlib
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import environment
import pytest
import yaml
from packaging.requirements import Requirement

ROOT = Path(__file__).parent.parent
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PROJECT = PYPROJECT["project"]
TEXT = {".py", ".md", ".toml", ".yml", ".yaml", ".json", ".ipynb", ".txt", ".cff", ".jsonl", ".in", ""}


def tracked():
    """The files of the next commit: those git tracks and new ones that it does not ignore."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listing = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if listing.returncode:
        pytest.skip("not a git checkout, so nothing is tracked")
    return sorted(path for name in set(listing.stdout.split("\0")) - {""} if (path := ROOT / name).is_file())


def requirements(*extras):
    """Package name -> Requirement, of the project and these extras."""
    lines = [PROJECT["dependencies"], *(PROJECT["optional-dependencies"][extra] for extra in extras)]
    parsed = [Requirement(line) for part in lines for line in part]
    return {requirement.name: requirement for requirement in parsed if requirement.name != "minildm"}


def test_conda_way_installs_the_project_with_its_lab():
    conda = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))
    python, pip, by_pip = conda["dependencies"]
    assert python == "python" + PROJECT["requires-python"]
    assert pip == "pip"
    assert by_pip == {"pip": ["-e .[lab]"]}
    assert "lab" in PROJECT["optional-dependencies"]


def test_oldest_versions_are_the_lower_bounds():
    pins = {}
    for line in (ROOT / ".github" / "oldest.txt").read_text(encoding="utf-8").splitlines():
        if line and not line.startswith("#"):
            requirement = Requirement(line)
            pins[requirement.name] = str(requirement.specifier).removeprefix("==")
    bounds = {}
    for name, requirement in requirements("lab", "test", "browser").items():
        bounds[name] = next(s.version for s in requirement.specifier if s.operator == ">=")
    assert pins == bounds


def test_what_is_installed_is_within_the_bounds():
    from importlib.metadata import version

    for name, requirement in requirements("lab", "test").items():
        assert requirement.specifier.contains(version(name), prereleases=True), name


def test_workflow_covers_the_oldest_and_newest_python():
    text = (ROOT / ".github" / "workflows" / "ci.yml").read_text(encoding="utf-8")
    jobs = yaml.safe_load(text)["jobs"]
    pythons = {row["python"] for row in jobs["test"]["strategy"]["matrix"]["include"]}
    assert PROJECT["requires-python"] == ">=" + min(pythons, key=environment.numbers)
    systems = {row["os"] for row in jobs["test"]["strategy"]["matrix"]["include"]}
    assert {name.split("-")[0] for name in systems} == {"ubuntu", "macos", "windows"}


def test_citation_and_licence():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["version"] == PROJECT["version"]
    assert citation["license"] == PROJECT["license"] == "MIT"
    assert citation["authors"] == PROJECT["authors"] == [{"name": "the minildm authors"}]
    assert "the minildm authors" in (ROOT / "LICENSE").read_text(encoding="utf-8")


def test_tracked_files_are_small_together():
    assert sum(path.stat().st_size for path in tracked()) < 50e6


def test_datasets_is_a_folder_of_files_and_no_package():
    assert not (ROOT / "datasets" / "__init__.py").exists()
    assert [path.name for path in tracked() if path.parent == ROOT / "datasets"] == ["README.md"]


def test_text_files_are_utf8_with_plain_line_ends():
    for path in tracked():
        if path.suffix in TEXT and b"\0" not in (content := path.read_bytes()):
            content.decode("utf-8")
            assert b"\r" not in content, path


def test_pages_link_to_files_that_are_there():
    for page in [path for path in tracked() if path.suffix == ".md"]:
        text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
        for link in re.findall(r"\]\(([^)#\s]+)[^)]*\)", text):
            if "://" not in link:
                assert (page.parent / link).exists(), f"{page.name}: {link}"


def test_make_and_its_help_agree():
    lines = (ROOT / "Makefile").read_text(encoding="utf-8").splitlines()
    told = {line.split(":")[0] for line in lines if re.match(r"[a-z]+:.*##", line)}
    assert told == {"help", "lab", "test", "quick", "lint", "notebooks", "checkpoints", "parity", "real", "browser",
                    "measurements", "league", "kills", "fuzz"}  # fmt: skip


# tools/environment.py: what `make lab` does, without doing it

VENV = Path("nowhere") / ".venv"


def note(**changes):
    return {"python": sys.executable, "outer": [], "pin": "", "pyproject": "", "extras": []} | changes


def test_environment_of_a_bare_python():
    install, kernel = environment.installs(VENV, "lab", note())
    assert install[1:4] == ["-m", "pip", "install"] and install[-2:] == ["-e", ".[lab]"]
    assert kernel[1:] == ["-m", "ipykernel", "install", "--sys-prefix"]
    assert install[0] == kernel[0] == str(environment.interpreter(VENV))


def test_environment_that_keeps_a_torch():
    """Jupyter goes in first, whole; then the other packages come into sight; then pip, held to that torch."""
    kept = note(outer=["/outer/site-packages"], pin="torch==2.11.0+cpu")
    jupyter, share, install, _ = environment.installs(VENV, "lab", kept)
    assert jupyter[-4:] == sorted(PROJECT["optional-dependencies"]["lab"])
    assert share[-1] == "/outer/site-packages"
    assert install[install.index("-c") + 1] == str(VENV / "torch.txt")


def test_torch_of_this_interpreter_is_found(monkeypatch):
    folders, pin = environment.outer_torch()
    assert any((Path(folder) / "torch").is_dir() for folder in folders)
    assert pin.startswith("torch==2.")
    monkeypatch.setattr(environment.metadata, "version", lambda name: "2.9.1")
    assert environment.outer_torch() == ([], "")  # too old for us: pip installs another


def test_environment_is_made_once(tmp_path, monkeypatch):
    venv, commands = tmp_path / ".venv", []

    def pretend(command, dry):
        commands.append(command)
        if command[1:3] == ["-m", "venv"]:
            venv.mkdir()

    monkeypatch.setattr(environment, "run", pretend)
    monkeypatch.setattr(environment, "works", lambda path: path.exists())
    monkeypatch.setattr(environment, "outer_torch", lambda: ([], ""))

    def make(extra):
        commands.clear()
        monkeypatch.setattr(sys, "argv", ["environment.py", extra, "--venv", str(venv)])
        environment.main()
        return [command[2] for command in commands]

    assert make("lab") == ["venv", "pip", "ipykernel"]
    assert make("lab") == []
    assert make("test") == ["pip", "ipykernel"]
    assert make("lab") == make("test") == []  # test holds lab
    monkeypatch.setattr(environment, "ROOT", tmp_path)  # another pyproject.toml: install again
    (tmp_path / "pyproject.toml").write_text("changed", encoding="utf-8")
    assert make("lab") == ["pip", "ipykernel"]
    assert environment.read_note(venv)["extras"] == ["lab"]


def test_every_cited_work_is_in_the_references():
    """In code and lessons: "First et al. 2020", "First & Second 2020", also with the year in brackets."""
    page = (ROOT / "docs" / "references.md").read_text(encoding="utf-8")
    listed = re.findall(r"^\| ([^|]*?\d{4}) \|", page, re.MULTILINE)
    assert len(set(listed)) == len(listed) > 20, "each work once"
    known = {(entry.split()[0], entry[-4:]) for entry in listed}
    cite = re.compile(r"([A-Z][\w-]+)(?: et al\.| & [A-Z]\w+| and [A-Z]\w+),? \(?((?:19|20)\d\d)\b")
    sources = [*(ROOT / "minildm").rglob("*.py"), *(ROOT / "notebooks" / "src").glob("*.py")]
    cited = {found for path in sources for found in cite.findall(path.read_text(encoding="utf-8"))}
    assert len(cited) > 15
    assert not cited - known


def test_glossary_is_in_order_and_names_what_there_is():
    text = (ROOT / "notebooks" / "glossary.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (?!word|--)(.+?) \| (.+) \| (\d\d) \|$", text, re.MULTILINE)
    words = [word.lower() for word, _, _ in rows]
    assert len(rows) >= 40 and words == sorted(words) and text.count("\n| ") == len(rows) + 1
    assert all(0 <= int(lesson) <= 17 for _, _, lesson in rows)
    for _, meaning, _ in rows:
        for module, name in re.findall(r"`(\w+)\.(\w+)`", meaning):
            assert hasattr(importlib.import_module(f"minildm.{module}"), name), f"{module}.{name}"
