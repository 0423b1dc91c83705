"""Write the figures of the pages out of what was measured: docs/results/*.json into README.md and docs/*.md.

    python tools/measurements.py [--check]

`make measurements` calls it. docs/results/NAME.json is one command with its date, machine, `values` and `goals`; one
with a "model" has the values that the manifest of the shipped models has, and more of its own. docs/results/NAME.md.in
is the text of a page, or of a part of one, and these stand in it for what was measured:

    {shapes/one/all:.3f}           a value by file and keys, [value, low, high] with its interval, several in a row
    {shapes/one/all/0:.3f}         the value without its interval
    {shapes/command}               also date and machine
    {goal shapes/one/all:.2f dB}   "goal 0.98 dB", and ": missed" where a value does not reach it
    {league}                       the tables of the league, out of minildm/league/results

docs/league.png is drawn anew where it shows anything else than these runs.

A page takes it in between `<!-- from docs/results/NAME.md.in -->` and `<!-- end -->`. With --check nothing is written:
each line that is not what was measured is named, and each share with an interval that was typed into a page.
"""

import argparse
import json
import operator
import os
import platform
import re
import sys
from datetime import date
from pathlib import Path

import torch
from PIL import Image

from minildm import league as contest
from minildm.files import UserError, atomic_write

ROOT = Path(__file__).resolve().parent.parent
RESULTS = Path("docs", "results")
RUNS, FIGURE = Path("minildm", "league", "results"), Path("docs", "league.png")
PLACE = re.compile(r"\{(goal )?((?:[^{}:]|: )+)(?::(?! )([^{}]+))?\}")  # a key may hold ": ", a format never begins so
BLOCK = re.compile(r"(<!-- from docs/results/(\S+)\.md\.in\b[^>]*-->\n)(.*?)(<!-- end -->)", re.DOTALL)
TYPED = re.compile(r"\d\.\d+ \(\d\.\d+ to \d(?:\.\d+)?\)")
REACHED = {"at least": operator.ge, "at most": operator.le, "below": operator.lt,
           "between": lambda value, ends: ends[0] <= value <= ends[1]}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description="Write the figures of the pages out of what was measured.")
    parser.add_argument("--check", action="store_true", help="write nothing, say what is not as measured")
    asked = parser.parse_args()
    try:
        wrong = differences(ROOT) if asked.check else []
        if not asked.check and outdated(ROOT):
            contest.save(contest.kept(ROOT / RUNS), ROOT / FIGURE)
            print(FIGURE.as_posix())
        for path, text in {} if asked.check else pages(ROOT).items():
            if text != path.read_text(encoding="utf-8"):
                atomic_write(path, text.encode())
                print(path.relative_to(ROOT).as_posix())
    except UserError as error:
        parser.exit(2, f"error: {error}\n")
    sys.exit("\n".join(wrong) or None)


def results(root: Path) -> dict[str, dict]:
    """Every docs/results/NAME.json by name, with the figures of the manifest where it names a model."""
    models = json.loads((root / "minildm/checkpoints/manifest.json").read_text(encoding="utf-8"))["models"]
    found = {}
    for path in sorted((root / RESULTS).glob("*.json")):
        where = path.relative_to(root).as_posix()
        try:
            one = json.loads(path.read_text(encoding="utf-8"))
            entry = models[one["model"]] if "model" in one else {}
        except (ValueError, KeyError) as error:
            raise UserError(where, str(error), "JSON, and a shipped model's name") from error
        one["values"] = entry.get("figures", {}) | one.get("values", {})
        one["date"] = entry.get("date", one.get("date"))
        for key in ("command", "machine", "date"):
            if not isinstance(one.get(key), str) or not one[key]:
                raise UserError(where, f"no {key!r}", "a command, the machine and the date of every result")
        if not re.fullmatch(r"\d{4}-\d\d-\d\d", one["date"]):
            raise UserError(where, one["date"], "a date such as 2026-11-21")
        found[path.stem] = one
    return found


def pages(root: Path) -> dict[Path, str]:
    """Every page that takes in measured text, as it should be."""
    known = results(root)
    texts = {path.name.removesuffix(".md.in"): path for path in (root / RESULTS).glob("*.md.in")}

    def filled(block: re.Match) -> str:
        if block[2] not in texts:
            raise UserError("page", block[1].strip(), "one of " + ", ".join(sorted(texts)))
        path = texts[block[2]]
        text = path.read_text(encoding="utf-8")
        return f"{block[1]}\n{render(text, known, path.relative_to(root).as_posix(), root)}\n{block[4]}"

    taken = {path: text for path in _prose(root) if BLOCK.search(text := path.read_text(encoding="utf-8"))}
    return {path: BLOCK.sub(filled, text) for path, text in taken.items()}


def _prose(root: Path) -> list[Path]:
    return sorted(path for folder in (".", "docs", "notebooks", "datasets") for path in (root / folder).glob("*.md"))


def render(text: str, known: dict[str, dict], where: str, root: Path = ROOT) -> str:
    """A text with all that stands for a measurement filled in. `where`, its file, is named in what goes wrong."""

    def filled(place: re.Match) -> str:
        if place[0] == "{league}":
            return league(root)
        name, *keys = place[2].split("/")
        if name not in known:
            raise UserError(f"{where}: {place[0]}", name, "the name of a file in docs/results")
        one = known[name]
        if keys in (["command"], ["date"], ["machine"]):
            return one[keys[0]]
        kind, value = "value", one["values"]
        try:
            for key in keys:
                value = value[int(key)] if isinstance(value, list) else value[key]
            if not place[1]:
                return _shown(value, place[3] or "")
            kind = "goal"
            return _goal(one["goals"]["/".join(keys)], value, place[3] or "")
        except (KeyError, IndexError, ValueError, TypeError) as error:
            lacks = f"no {kind} {'/'.join(keys)!r} that can be shown"
            raise UserError(f"{RESULTS.as_posix()}/{name}.json", lacks, f"what {where} has: {place[0]}") from error

    return re.sub(r"\n{3,}", "\n\n", PLACE.sub(filled, text))  # a section can be empty


def _shown(value: dict | list | float, spec: str) -> str:
    """A number by a format and what follows it, such as ".1f dB"."""
    if isinstance(value, dict):
        parts = [_shown(part, spec) for part in value.values()]
        return f"{parts[0]} each" if len(parts) > 1 and len(set(parts)) == 1 else ", ".join(parts)
    spec, _, unit = spec.partition(" ")
    unit = unit and f" {unit}"
    parts = value if isinstance(value, list) else [value]
    middle, *ends = [format(part, spec).replace("e-0", "e-") for part in parts]
    return middle + unit + (f" ({' to '.join(ends)})" if ends else "")


def _goal(aim: dict, value: dict | list | float, spec: str) -> str:
    ((how, bound),) = aim.items()
    reached = all(REACHED[how](number, bound) for number in _numbers(value))
    said = " to ".join(_shown(end, spec) for end in (bound if isinstance(bound, list) else [bound]))
    return f"goal {said}" + ("" if reached else ": missed")


def _numbers(value: dict | list | float) -> list[float]:
    """All numbers below a value; of one with an interval the value itself."""
    if isinstance(value, dict):
        return [number for part in value.values() for number in _numbers(part)]
    return [value[0] if isinstance(value, list) else value]


def league(root: Path) -> str:
    """What the committed runs of the league came to: the learning rates, then a table for each length of training."""
    folder = root / RUNS
    runs = contest.kept(folder)
    tables = [contest.rates(folder)]
    for seconds in sorted({run["seconds"] for run in runs}):
        tables.append(f"After {seconds:,} s:\n\n{contest.table(runs, seconds)}")
    return "\n\n".join(tables)


def outdated(root: Path) -> bool:
    """Whether docs/league.png shows anything else than the committed runs."""
    runs = contest.kept(root / RUNS)
    if not runs:
        return False
    if not (root / FIGURE).exists():
        return True
    with Image.open(root / FIGURE) as image:
        return image.info.get("plotted") != contest.plotted(contest.figure(runs))


def differences(root: Path) -> list[str]:
    """One line for each line of a page that is not what was measured, or is a measured share that somebody typed."""
    found = []
    for path, right in pages(root).items():
        name, text = path.relative_to(root).as_posix(), path.read_text(encoding="utf-8")
        said, wanted = (list(enumerate(page.splitlines(), 1)) for page in (text, right))
        extra = set(dict(said).values()) - set(dict(wanted).values())
        lost = set(dict(wanted).values()) - set(dict(said).values())
        found += [f"{name}, line {i}: not as measured: {line}" for i, line in said if line in extra]
        found += [f"{name}: is not there (`make measurements` writes it): {line}" for _, line in wanted if line in lost]
        if text != right and not extra | lost:
            found.append(f"{name}: lines in another order than measured")
    if outdated(root):
        found.append(f"{FIGURE.as_posix()}: not as measured (`make measurements` draws it)")
    for path in _prose(root):
        name, text = path.relative_to(root).as_posix(), BLOCK.sub(r"\1\4", path.read_text(encoding="utf-8"))
        found += [f"{name}: typed, not taken from docs/results: {share}" for share in TYPED.findall(text)]
    return found


def record(name: str, command: str, values: dict, goals: dict | None = None, root: Path = ROOT) -> Path:
    """Put what a command has just measured into docs/results/NAME.json, with today's date and this machine.

    Values that were there go, since they have another date; without new goals the old ones stay.
    """
    path = root / RESULTS / f"{name}.json"
    goals = goals or (json.loads(path.read_text(encoding="utf-8")).get("goals") if path.exists() else None)
    python = ".".join(platform.python_version_tuple()[:2])
    machine = f"{os.cpu_count()} cores, torch {torch.__version__.split('+')[0]}, Python {python}, {platform.system()}"
    one = {"command": command, "date": date.today().isoformat(), "machine": machine, "values": values}
    if goals:
        one["goals"] = goals
    return atomic_write(path, written(one).encode())


def written(one: dict) -> str:
    """JSON with what holds nothing but numbers on one line."""
    text = json.dumps(one, indent=1, ensure_ascii=False)
    return re.sub(r"[\[{]\s[^][{}]{,160}[\]}]", lambda part: re.sub(r"\s*\n\s*", " ", part[0]), text) + "\n"


if __name__ == "__main__":
    main()
