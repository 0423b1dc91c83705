"""Every figure of a page is the one that was measured: pages, templates and results agree, and a lie is found."""

import json
import re
import shutil
import sys

import measurements
import pytest
from measurements import ROOT, differences, pages, record, render, results

from minildm.files import UserError

SHAPES = "docs/results/shapes.json"
MANIFEST = "minildm/checkpoints/manifest.json"
TEMPLATES = sorted((ROOT / "docs" / "results").glob("*.md.in"))


@pytest.fixture
def house(tmp_path):
    """A copy of all that the figures depend on, its pages as they should be."""
    for name in ("README.md", "docs", MANIFEST):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (shutil.copytree if (ROOT / name).is_dir() else shutil.copy)(ROOT / name, tmp_path / name)
    for path, text in pages(tmp_path).items():
        path.write_text(text, encoding="utf-8")
    return tmp_path


def replace(path, old, new):
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new, 1), encoding="utf-8")


def table_rows(text):
    """Each row of the tables that have a column of commands, as a dict by heading."""
    heads = None
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.strip().strip("|").split(" | ")] if line.startswith("|") else None
        if cells is None or "command" in cells:
            heads = cells
        elif heads and "command" in heads and not line.startswith("|--"):
            yield dict(zip(heads, [*cells, ""] if len(cells) < len(heads) else cells, strict=True))


def test_every_page_says_what_was_measured():
    assert differences(ROOT) == []
    assert {path.name for path in pages(ROOT)} >= {"README.md", "measurements.md", "model_card.md"}


@pytest.mark.parametrize(("file", "old", "new", "named"), [
    ("README.md", "0.966 (0.953", "0.976 (0.963", "README.md, line"),
    ("README.md", "goal 0.98: missed", "goal 0.98", "README.md, line"),
    ("README.md", "shapes --set two` | 0.851", "shapes` | 0.851", "README.md, line"),
    ("docs/measurements.md", "| 43.2 dB, 39.9 dB", "| 43.2 dB, 49.9 dB", "docs/measurements.md, line"),
    ("docs/measurements.md", "| 2026-11-22 |", "| 2026-11-23 |", "docs/measurements.md, line"),
    ("docs/measurements.md", "\n| half precision | 5.8", "\n| half precision | 4.8", "docs/measurements.md, line"),
    ("docs/model_card.md", "| 0.825", "| 0.925", "docs/model_card.md, line"),
    ("docs/results/unet.json", "1.01, 0.96", "0.91, 0.86", "docs/measurements.md, line"),
    (MANIFEST, "0.966,", "0.967,", "README.md, line"),
    ("docs/testing.md", "# How", "It is right in 0.966 (0.953 to 0.976).\n\n# How", "docs/testing.md: typed"),
])  # fmt: skip
def test_a_changed_figure_is_found(house, file, old, new, named):
    assert differences(house) == []
    replace(house / file, old, new)
    assert any(line.startswith(named) for line in differences(house))


def test_a_row_that_was_taken_out_is_found(house):
    text = (house / "README.md").read_text(encoding="utf-8")
    row = next(line for line in text.splitlines() if "the oracle reads" in line)
    (house / "README.md").write_text(text.replace(row + "\n", ""), encoding="utf-8")
    assert differences(house) == [f"README.md: is not there (`make measurements` writes it): {row}"]


def test_every_row_has_a_command_and_a_date():
    rows = [row for text in pages(ROOT).values() for row in table_rows(text)]
    assert len(rows) > 60
    for row in rows:
        assert row["command"], row
        assert re.fullmatch(r"\d{4}-\d\d-\d\d", row["date"]) or "not measured" in row.values(), row


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: path.name)
def test_no_template_holds_a_figure_of_its_own(path):
    text = path.read_text(encoding="utf-8")
    for row in table_rows(text):
        number = measurements.PLACE.sub("", row.get("number", row.get("ratio")))
        lessons = r"\b\d\d( to \d\d)?:"  # "00 to 12:" names lessons
        assert not re.search(r"\d", re.sub(lessons, "", number)), row
    assert not measurements.TYPED.search(text) and ": missed" not in text


def test_every_result_is_shown():
    shown = {place[2].split("/")[0] for path in TEMPLATES
             for place in measurements.PLACE.finditer(path.read_text(encoding="utf-8"))}  # fmt: skip
    assert shown - {"league"} == set(results(ROOT))


def test_another_machine_is_named_beside_its_figures():
    known = results(ROOT)
    said = "".join(path.read_text(encoding="utf-8") for path in TEMPLATES)
    for name, one in known.items():
        assert one["machine"] == known["shapes"]["machine"] or f"{{{name}/machine}}" in said, name


def test_the_shipped_models_figures_stand_in_one_place():
    models = json.loads((ROOT / MANIFEST).read_text(encoding="utf-8"))["models"]
    for path in (ROOT / "docs" / "results").glob("*.json"):
        one = json.loads(path.read_text(encoding="utf-8"))
        assert not set(one.get("values", {})) & set(models[one["model"]]["figures"] if "model" in one else {}), path


KNOWN = {"a": {"command": "run a", "date": "2026-01-02", "machine": "m", "values": {
    "share": [0.966, 0.9529, 1.0], "size": 1627, "small": 2.5e-7, "two: keys": {"x": 1.5, "y": 2.5},
    "same": {"x": 1, "y": 1},
}, "goals": {
    "share": {"at least": 0.966}, "size": {"at most": 1626}, "small": {"below": 2.5e-7},
    "two: keys": {"between": [1, 2]}, "two: keys/x": {"between": [1, 2]}, "same": {"at least": 1},
}}}  # fmt: skip


@pytest.mark.parametrize(("text", "shown"), [
    ("{a/share:.3f}", "0.966 (0.953 to 1.000)"),
    ("{a/share/0:.2f}", "0.97"),
    ("{a/size:,}", "1,627"),
    ("{a/size:, MB}, {a/size}", "1,627 MB, 1627"),
    ("{a/small:.1e}", "2.5e-7"),
    ("{a/two: keys:.1f s}", "1.5 s, 2.5 s"),
    ("{a/same:d}", "1 each"),
    ("`{a/command}` {a/date} {a/machine}", "`run a` 2026-01-02 m"),
    ("{goal a/share:.2f}", "goal 0.97"),
    ("{goal a/size:, s}", "goal 1,626 s: missed"),
    ("{goal a/two: keys:.1f}", "goal 1.0 to 2.0: missed"),  # one of both misses it
    ("{goal a/two: keys/x:.1f}", "goal 1.0 to 2.0"),
    ("{goal a/small:.1e}", "goal 2.5e-7: missed"),  # below is not equal
    ("{goal a/same}", "goal 1"),
])  # fmt: skip
def test_what_stands_for_a_measurement(text, shown):
    assert render(text, KNOWN, "page") == shown


def test_a_goal_is_missed_until_the_value_reaches_it(house):
    assert "goal 0.98: missed" in pages(house)[house / "README.md"]
    manifest = json.loads((house / MANIFEST).read_text(encoding="utf-8"))
    manifest["models"]["shapes"]["figures"]["one"]["all"] = [0.98, 0.97, 0.99]
    (house / MANIFEST).write_text(json.dumps(manifest), encoding="utf-8")
    text = pages(house)[house / "README.md"]
    assert "goal 0.98 |" in text and "0.980 (0.970 to 0.990)" in text and "goal 0.92: missed" in text


@pytest.mark.parametrize(("file", "old", "new", "told"), [
    ("docs/results/unet.json", '"training step, same"', '"a"', r"unet\.json: .*no value 'training step, same/ratio'"),
    (SHAPES, '"two/all"', '"three/all"', r"shapes\.json: .*no goal 'two/all'.*(measurements|card|claims)\.md\.in has"),
    ("docs/results/claims.md.in", "{parity/date}", "{purity/date}", r"claims\.md\.in: \{purity/date\}: got 'purity'"),
    ("README.md", "results/claims.md.in", "results/clams.md.in", r"got .*clams.*; expected one of card, claims"),
    (SHAPES, "2026-11-21", "21.11.", r"shapes\.json: got '21\.11\.'; expected a date"),
    (SHAPES, '"command"', '"order"', r"shapes\.json: got \"no 'command'\""),
    (SHAPES, '"model": "shapes"', '"model": "forms"', r"shapes\.json: got \"'forms'\""),
    (SHAPES, '"goals"', "goals", r"shapes\.json: got .*line 6"),
])  # fmt: skip
def test_what_is_missing_is_named_in_one_line(house, file, old, new, told):
    replace(house / file, old, new)
    with pytest.raises(UserError, match=told) as error:
        pages(house)
    assert "\n" not in str(error.value)


def test_what_a_command_records_is_shown(house):
    path = record("test-networks", "pytest tests/test_networks.py", {"strips": 2e-9}, root=house)
    one = json.loads(path.read_text(encoding="utf-8"))
    assert one["values"] == {"strips": 2e-9} and "torch" in one["machine"] and "goals" not in one
    assert f"| within 2e-9 | {one['date']} |" in pages(house)[house / "docs" / "measurements.md"]
    before = json.loads((house / SHAPES).read_text(encoding="utf-8"))
    kept = json.loads(record("shapes", "run", {"a": [1, 2, 3]}, root=house).read_text(encoding="utf-8"))
    assert kept["goals"] == before["goals"] and kept["values"] == {"a": [1, 2, 3]}


def test_pages_are_written_once(house, monkeypatch, capsys):
    monkeypatch.setattr(measurements, "ROOT", house)

    def run(*words):
        monkeypatch.setattr(sys, "argv", ["measurements.py", *words])
        with pytest.raises(SystemExit) as stop:
            measurements.main()
        return stop.value.code, *capsys.readouterr()

    assert run("--check") == (None, "", "") == run()
    before = (house / "README.md").read_text(encoding="utf-8")
    replace(house / "README.md", "0.966 (0.953", "0.976 (0.963")
    code, out, _ = run("--check")
    assert "README.md, line" in code and "0.976 (0.963" in code and out == ""
    assert run() == (None, "README.md\n", "") and run() == (None, "", "") == run("--check")
    assert (house / "README.md").read_text(encoding="utf-8") == before
    replace(house / SHAPES, '"command"', '"order"')
    code, out, err = run()
    assert code == 2 and out == "" and err.startswith("error: docs/results/shapes.json") and err.count("\n") == 1


def test_the_league_stands_in_the_page(house):
    page = house / "docs" / "measurements.md"
    assert "After 300 s" not in pages(house)[page]
    folder = house / "minildm" / "league" / "results"
    shutil.copytree(ROOT / "minildm" / "league" / "results", folder, ignore=shutil.ignore_patterns("*.pt"))
    told = pages(house)[page]
    assert "After 300 s:\n\n|  | kernel distance |" in told and "| conditional VAE | " in told
    (changed,) = folder.glob("vae_300s_seed0_lr*.json")
    record = json.loads(changed.read_text(encoding="utf-8"))
    record["seen"]["kernel"][0] += 1
    shutil.copy(ROOT / "docs" / "league.png", house / "docs" / "league.png")
    assert not measurements.outdated(house)
    changed.write_text(json.dumps(record), encoding="utf-8")
    assert pages(house)[page] != told, "and follows its files"
    assert measurements.outdated(house), "and so does the figure"
