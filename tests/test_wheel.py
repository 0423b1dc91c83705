"""The built wheel, installed away from the checkout, draws a picture."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.mark.slow
def test_the_wheel_draws_a_picture(tmp_path):
    def run(*command, **more):
        done = subprocess.run([sys.executable, *command], cwd=tmp_path, capture_output=True, text=True, **more)
        assert done.returncode == 0, done.stderr

    # what git tracks and no more: a stale build folder of the checkout must not lend the wheel its files
    tracked = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True).stdout
    for name in filter(None, tracked.decode().split("\0")):
        if name.startswith("minildm/") or name in ("pyproject.toml", "README.md", "LICENSE"):
            copy = tmp_path / "source" / name
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes((ROOT / name).read_bytes())
    offline = ["--no-deps", "--no-index", "--disable-pip-version-check", "-q"]
    run("-m", "pip", "wheel", *offline, "--no-build-isolation", "--wheel-dir", "wheels", "./source")
    (wheel,) = (tmp_path / "wheels").glob("*.whl")
    run("-m", "pip", "install", *offline, "--target", "site", str(wheel))
    course = tmp_path / "site" / "minildm" / "course"
    assert {path.name for path in course.iterdir()} >= {"points.js", "paint.js", "boxes.js", "painting.css"}
    draw = (
        "import minildm; assert 'site' in minildm.__file__, minildm.__file__; "
        "from minildm.cli import app; "
        "app(['picture', 'a large red circle on a white background', '--count', '1', '--steps', '2', '--out', 'a.png'])"
    )
    run("-P", "-c", draw, env=os.environ | {"PYTHONPATH": str(tmp_path / "site")})
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
