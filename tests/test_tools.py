"""The scripts that are run by hand tell a mistake in one line, as the command line does."""

import importlib
import sys

import pytest


def refuses(monkeypatch, capsys, module, *words):
    """The one line that a mistake is told in."""
    monkeypatch.setattr(sys, "argv", [module, *map(str, words)])
    with pytest.raises(SystemExit) as stop:
        importlib.import_module(module).main()
    out, err = capsys.readouterr()
    assert stop.value.code == 2 and out == ""
    assert err.startswith("error: ") and err.count("\n") == 1
    return err


def test_full_size_writes_over_nothing(monkeypatch, capsys, tmp_path):
    file = tmp_path / "file"
    file.write_text("mine", encoding="utf-8")
    for path in (file, tmp_path):
        assert f"got {str(path)!r}; expected a new or an empty one" in refuses(
            monkeypatch, capsys, "tools.full_size", "sd15", path)  # fmt: skip
    refuses(monkeypatch, capsys, "tools.full_size", "sd15", file / "below")
    assert [*tmp_path.iterdir()] == [file] and file.read_text(encoding="utf-8") == "mine"


def test_memory_of_a_model_that_is_not_there(monkeypatch, capsys, tmp_path):
    for more in ((), ("--trick", "float32")):
        told = refuses(monkeypatch, capsys, "benchmarks.memory", tmp_path / "none", *more)
        assert "model: got" in told and "expected a folder or file" in told
