"""Runs that are killed, stopped, starved of disk or damaged, and go on to the same weights to the last bit."""

import errno
import io
import json
import math
import os
import random
import shlex
import signal
import stat
import subprocess
import sys
import time
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path

import kills
import pytest
import torch
from torch import nn
from typer.testing import CliRunner

from minildm import checkpoint, cli, files, recipes, weights
from minildm.checkpoint import KEEP, States
from minildm.cli.plumbing import stopping
from minildm.files import UserError
from minildm.train import EMA, fit

STEPS = 24


def network():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.5), nn.Tanh(), nn.Linear(8, 1))


class Training:
    """A small regression with dropout. `at` is called as at(where, step) and may send a signal; `bent` bends a loss."""

    def __init__(self, path, at=lambda where, step: None, save_every=0.0, bent=lambda value, step: value):
        torch.manual_seed(7)  # of the global generator, which dropout draws from
        self.model, self.path, self.seen = network(), path, []
        self.ema = ema = EMA(self.model, 0.9)

        def loss(step, generator):
            x = torch.randn(16, 4, generator=generator)
            self.seen.append((step, x.sum().item()))
            at("loss", step)
            return bent((self.model(x) - x.sum(1, keepdim=True)).square().mean(), step)

        update = ema.update

        def averaged(model):
            at("before the average", ema.step)
            update(model)
            at("after the average", ema.step - 1)

        ema.update = averaged
        self.progress = fit(self.model, loss, steps=STEPS, ema=ema, checkpoint=path, save_every=save_every)
        self.at = at

    def run(self, stop=None):
        for now in self.progress:
            self.at("consumer", now.step - 1)
            if now.step == stop:
                break
        self.progress.close()
        return self

    def weights(self):
        return [*self.model.parameters(), *self.ema.model.parameters()]


def same(a, b):
    return all(torch.equal(x, y) for x, y in zip(a.weights(), b.weights(), strict=True))


@pytest.fixture(scope="module")
def whole():
    """The run that nothing disturbs."""
    return Training(None).run()


@pytest.fixture
def path(tmp_path):
    return tmp_path / "run" / "state.pt"


def names(path):
    """What lies in a run's folder, but for its lock."""
    return sorted(file.name for file in path.parent.iterdir() if file.suffix != ".lock")


# --- what a state holds, and how it is written


@pytest.mark.parametrize("stop", [1, 11, STEPS - 1])
def test_weights_samples_and_dropout_go_on_as_if_nothing_had_happened(whole, path, stop):
    first = Training(path).run(stop)
    second = Training(path)
    torch.manual_seed(99)  # the state of another process
    second.run()
    assert same(second, whole)
    assert first.seen + second.seen == whole.seen  # each step drew its own samples, in the same order


def test_the_dropout_of_these_tests_does_draw(whole):
    other = Training(None)
    torch.manual_seed(99)
    assert not same(other.run(), whole)


def test_the_last_states_are_kept_and_nothing_else_is_touched(path):
    path.parent.mkdir()
    for name in ("state.txt", "state-x.pt", "estate-3.pt", ".other.part"):
        (path.parent / name).write_text("not ours", encoding="utf-8")
    (path.parent / ".state-3.pt.abc.part").write_text("of a killed writer", encoding="utf-8")
    Training(path).run(9)
    ours = [f"state-{step}.pt" for step in range(10 - KEEP, 10)]
    assert names(path) == sorted([".other.part", "estate-3.pt", "state-x.pt", "state.txt", *ours])


def test_a_file_is_on_the_disk_before_it_has_its_name_and_the_name_is_too(tmp_path, monkeypatch):
    done = []
    real = {name: getattr(os, name) for name in ("fsync", "replace")}

    def flushed(handle):
        done.append("folder" if stat.S_ISDIR(os.fstat(handle).st_mode) else "file")
        real["fsync"](handle)

    monkeypatch.setattr(files.os, "fsync", flushed)
    monkeypatch.setattr(files.os, "replace", lambda a, b: done.append("name") or real["replace"](a, b))
    files.atomic_write(tmp_path / "a", b"content")
    assert done == ["file", "name"] + ["folder"] * (sys.platform != "win32")


def test_a_state_of_one_file_is_read_as_before(whole, path):
    """Runs that were begun when there was one file, state.pt, go on."""
    Training(path).run(11)
    newest = States(path).files()[0]
    newest.rename(path)
    for other in path.parent.glob("state-*.pt"):
        other.unlink()
    second = Training(path).run()
    assert second.seen[0][0] == 11 and same(second, whole)
    assert names(path) == [f"state-{STEPS - 1}.pt", f"state-{STEPS}.pt"]


def test_the_notes_of_whoever_brings_the_states_are_those_of_the_step(path):
    def total(stop):
        with States(path) as states, closing(Training(states, save_every=math.inf).progress) as progress:
            for now in progress:
                states.notes["sum"] = states.notes.get("sum", 0) + now.step
                states.stand(now.step, now.seconds)
                if now.step == stop:
                    break
        return states.notes["sum"]

    assert total(11) == sum(range(12)) and total(STEPS) == sum(range(STEPS + 1))


# --- damage


def truncated(content):
    return content[: len(content) // 2]


def flipped(content):
    """One bit of a weight, which torch.load does not notice."""
    weight = torch.load(io.BytesIO(content))["model"]["0.weight"]
    place = content.index(weight.numpy().tobytes()) + 5
    return content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :]


DAMAGES = {
    "truncated": truncated,
    "one byte short": lambda content: content[:-1],
    "a flipped bit": flipped,
    "garbage": lambda content: random.Random(0).randbytes(len(content)),
    "empty": lambda content: b"",
    "a byte more": lambda content: content + b"\0",
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_of_a_damaged_state_the_one_before_is_taken_with_a_warning(whole, path, damage):
    Training(path).run(11)
    newest = States(path).files()[0]
    newest.write_bytes(damage(newest.read_bytes()))
    second = Training(path)
    with pytest.warns(UserWarning, match=r"state-11\.pt is damaged .*; the state before it is taken") as told:
        second.run(12)
    assert len(told) == 1 and "\n" not in str(told[0].message)
    assert second.seen[0][0] == 10
    third = Training(path).run()  # without a warning: the damaged one is gone, though its step was higher for a while
    assert same(third, whole)


def test_a_damaged_state_does_not_outlive_the_next_save(path):
    Training(path).run(11)
    newest = States(path).files()[0]
    newest.rename(path.with_name("state-20.pt"))  # of a higher step than the next states will have
    path.with_name("state-20.pt").write_bytes(b"garbage")
    with pytest.warns(UserWarning, match="state-20.pt is damaged"):
        Training(path).run(13)
    assert names(path) == ["state-12.pt", "state-13.pt"]


def test_every_changed_byte_is_noticed_and_torch_alone_would_not(path):
    Training(path).run(3)
    file = States(path).files()[0]
    content = file.read_bytes()
    draw, missed = random.Random(1), 0
    for place in draw.sample(range(len(content)), 150):
        file.write_bytes(content[:place] + bytes([content[place] ^ 1 << draw.randrange(8)]) + content[place + 1 :])
        assert not checkpoint._whole(file), place
        try:
            torch.load(file, weights_only=True)
            missed += 1
        except Exception:  # what a broken pickle raises has no end
            pass
    assert missed > 30
    file.write_bytes(content)
    assert checkpoint._whole(file)


def test_without_a_whole_state_it_says_what_to_do_and_changes_nothing(path):
    Training(path).run(11)
    for file in States(path).files():
        file.write_bytes(truncated(file.read_bytes()))
    before = {file: file.read_bytes() for file in path.parent.iterdir()}
    with (
        pytest.raises(UserError, match="state-11.pt, state-10.pt, none of them whole .*; expected .* begin anew"),
        pytest.warns(UserWarning, match="damaged"),
    ):
        Training(path).run()
    assert before == {file: file.read_bytes() for file in path.parent.iterdir()}


# --- no room, no leave, not alone


@contextmanager
def small_files():
    """Files of this process can have 2,000 bytes, and a state needs more."""
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2_000, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@contextmanager
def failing(module, name, number):
    def fails(*_, **__):
        raise OSError(number, os.strerror(number))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, name, fails)
        yield


FAILURES = {
    "while it is written": small_files,
    "when it is flushed": partial(failing, files.os, "fsync", errno.ENOSPC),
    "when it gets its name": partial(failing, files.os, "replace", errno.EROFS),
    "when it is made": partial(failing, files.tempfile, "mkstemp", errno.EACCES),
}


@pytest.mark.parametrize("failure", FAILURES.values(), ids=FAILURES)
def test_a_state_that_cannot_be_written_is_one_line_and_leaves_the_last_ones(whole, path, failure):
    Training(path).run(11)
    before = {file: file.read_bytes() for file in path.parent.iterdir()}
    with failure(), pytest.raises(UserError, match=r"state-12\.pt.*can be written \(.+\); nothing .* lost") as told:
        Training(path).run()
    assert "\n" not in str(told.value)
    assert before == {file: file.read_bytes() for file in path.parent.iterdir()}
    assert same(Training(path).run(), whole)


def test_a_folder_without_leave_to_write_is_one_line(path):
    if sys.platform == "win32":
        pytest.skip("folders have no such mode")
    Training(path).run(11)
    before = {file: file.read_bytes() for file in path.parent.iterdir()}
    root = os.geteuid() == 0
    path.parent.chmod(0o555)
    if root:
        os.seteuid(65534)  # nobody: to root no folder is closed
    try:
        with pytest.raises(UserError, match="can be written .*denied"):
            Training(path).run()
    finally:
        if root:
            os.seteuid(0)
        path.parent.chmod(0o755)
    assert before == {file: file.read_bytes() for file in path.parent.iterdir()}


HOLDER = """
import importlib.util, sys
spec = importlib.util.spec_from_file_location("files", sys.argv[1])
files = importlib.util.module_from_spec(spec)
spec.loader.exec_module(files)
held = files.lock(sys.argv[2])
print("held", flush=True)
sys.stdin.read()
"""


def test_a_second_process_is_refused_until_the_first_is_dead(whole, path):
    Training(path).run(11)
    before = {file: file.read_bytes() for file in path.parent.iterdir()}
    command = [sys.executable, "-c", HOLDER, files.__file__, str(path.with_name(".state.lock"))]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout.readline().strip() == b"held"
        with pytest.raises(UserError, match="a folder that no other training is writing to"):
            Training(path).run()
        assert before == {file: file.read_bytes() for file in path.parent.iterdir()}
        child.kill()
    assert same(Training(path).run(), whole)


def test_two_runs_of_one_process_are_kept_apart_too(path):
    first = Training(path)
    next(first.progress)
    with pytest.raises(UserError, match="no other training"):
        Training(path).run()
    first.progress.close()
    assert Training(path).run(3).seen[0][0] == 1


def test_a_process_that_only_reads_neither_locks_nor_saves(path):
    Training(path).run(5)
    before = {file: file.read_bytes() for file in path.parent.iterdir()}
    with States(path):  # the process that saves
        Training(States(path, writes=False)).run(7)
    assert before == {file: file.read_bytes() for file in path.parent.iterdir()}


def test_a_drive_without_locks_is_told(path):
    fcntl = pytest.importorskip("fcntl")
    with failing(fcntl, "flock", errno.ENOLCK), pytest.warns(UserWarning, match="no locks in .*let no second"):
        Training(path).run(2)
    assert names(path) == ["state-1.pt", "state-2.pt"]


# --- Ctrl-C

PLACES = ("loss", "before the average", "after the average", "consumer")


@pytest.mark.parametrize("where", PLACES)
def test_ctrl_c_saves_wherever_it_comes(whole, path, where):
    """In the middle of a step it waits until the weights, their average and the step belong together again."""

    def at(place, step):
        if (place, step) == (where, 11):
            signal.raise_signal(signal.SIGINT)

    first = Training(path, at, save_every=math.inf)
    with pytest.raises(KeyboardInterrupt):
        first.run()
    first.progress.close()
    assert names(path) == ["state-11.pt" if where == "loss" else "state-12.pt"]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert same(Training(path).run(), whole)


def test_ctrl_c_twice_stops_in_the_middle_of_a_step_and_saves_nothing_of_it(whole, path):
    def at(place, step):
        if (place, step) == ("before the average", 11):
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGTERM)  # which a cluster may send at any time: it is none of the two
            assert names(path) == ["state-10.pt", "state-11.pt"]
            signal.raise_signal(signal.SIGINT)
            raise AssertionError("the second one has not stopped it")

    first = Training(path, at)
    with stopping(), pytest.raises(KeyboardInterrupt):
        first.run()
    assert first.seen[-1][0] == 11 and names(path) == ["state-10.pt", "state-11.pt"]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert same(Training(path).run(), whole)


def test_ctrl_c_in_the_middle_of_a_save_saves_once_more(whole, path, monkeypatch):
    write, asked = checkpoint._write, []

    def stopped(state, part):
        asked.append(state["step"])
        part.write_bytes(b"half of it")
        if asked == [1, 2, 3]:
            signal.raise_signal(signal.SIGINT)
        write(state, part)

    monkeypatch.setattr(checkpoint, "_write", stopped)
    with pytest.raises(KeyboardInterrupt):
        Training(path).run()
    assert asked == [1, 2, 3, 3] and names(path) == ["state-2.pt", "state-3.pt"]
    assert same(Training(path).run(), whole)


def signals_at(monkeypatch, number, stop):
    """The recipe sends its own process a signal when it computes the loss of a step."""
    real = recipes.prepare

    def prepare(*args, **options):
        run = real(*args, **options)
        loss = run.loss
        run.loss = lambda step, source: (signal.raise_signal(number) if step == stop else None) or loss(step, source)
        return run

    monkeypatch.setattr(recipes, "prepare", prepare)


def minildm(*words):
    return CliRunner().invoke(cli.app, [str(word) for word in words], prog_name="minildm")


def metrics(folder):
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    return [(line["step"], line["loss"], line["check"]) for line in lines]


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    """A small run of a real recipe that nothing disturbs: its folder."""
    folder = tmp_path_factory.mktemp("digits")
    for _ in recipes.train("digits-vae", folder, steps=30, seed=3, snapshots=2):
        pass
    return folder


@pytest.mark.parametrize("number, code", [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_the_command_line_says_how_to_go_on_and_that_works(digits, tmp_path, number, code):
    out = tmp_path / "a folder"
    words = ["train", "digits-vae", "--out", out, "--steps", "30", "--seed", "3", "--snapshots", "2"]
    with pytest.MonkeyPatch.context() as patch:
        signals_at(patch, number, 17)
        stopped = minildm(*words)
    assert stopped.exit_code == code and stopped.stdout == ""
    assert States(out / "state.pt").files()[0].name == "state-17.pt"
    line = stopped.stderr.splitlines()[-1]
    program, *again = shlex.split(line.removeprefix("warning: stopped; this goes on: "))
    assert program == "minildm" and again == [*map(str, words), "--resume"]
    assert minildm(*again).exit_code == 0
    assert weights.fingerprint(out) == weights.fingerprint(digits) and metrics(out) == metrics(digits)
    for name in ("snapshot-1", "snapshot-2"):
        assert weights.fingerprint(out / name) == weights.fingerprint(digits / name)


# --- numbers that are none


@pytest.mark.parametrize("what", ["loss", "gradient"])
def test_nan_stops_before_the_weights_and_names_step_state_and_causes(path, what):
    def bent(value, step):
        weight = training.model[0].weight
        if step != 6:
            return value
        # the root has an infinite slope at 0: this loss is finite, its gradient is not
        return value * math.nan if what == "loss" else value + (weight * 0).abs().sqrt().sum()

    training = Training(path, bent=bent)
    with pytest.raises(UserError, match=rf"^{what} at step 6: got (nan|inf); .*learning rate.*state-6\.pt$"):
        training.run()
    assert all(p.isfinite().all() for p in training.weights())
    assert names(path) == ["state-5.pt", "state-6.pt"]


def test_nan_without_a_state_says_so():
    model = nn.Linear(1, 1)
    with pytest.raises(UserError, match="loss at step 0: got inf; .*no state was saved"):
        list(fit(model, lambda step, generator: model.weight.sum() * math.inf, steps=3))


@pytest.mark.parametrize("average", [False, True])
def test_weights_that_are_no_numbers_are_never_saved(path, average):
    training = Training(path)
    with pytest.raises(UserError, match=r"weight 0\.weight at step 6: got 'nan or inf'.*state-5\.pt"):
        for now in training.progress:
            if now.step == 6:
                (training.ema.model if average else training.model)[0].weight.data[0, 0] = math.nan
    assert names(path) == ["state-4.pt", "state-5.pt"]


# --- the lines of metrics.jsonl


def test_lines_after_the_state_are_cut_off_and_none_is_lost(digits, tmp_path):
    out = tmp_path / "run"
    for now in recipes.train("digits-vae", out, steps=30, seed=3, snapshots=2):
        if now.step == 13:
            break
    with (out / "metrics.jsonl").open("a", encoding="utf-8") as file:  # of steps that a killed process did not save
        file.write('{"step": 14, "loss": 1.0, "check": 1.0}\n{"step": 15, "lo')
    for _ in recipes.train("digits-vae", out, steps=30, seed=3, snapshots=2, resume=True):
        pass
    assert metrics(out) == metrics(digits)
    assert len({step for step, *_ in metrics(out)}) == len(metrics(out)) == 30


@pytest.mark.slow
def test_a_run_of_few_seconds_takes_no_more_figures_than_seconds(tmp_path):
    for _ in recipes.train("digits-vae", tmp_path / "run", seconds=2.5):
        pass
    assert 1 < len(metrics(tmp_path / "run")) <= 3  # the first step, and one for each second


@pytest.mark.parametrize("step", [0, 13])
def test_ctrl_c_in_the_middle_of_a_step_loses_no_line(digits, tmp_path, monkeypatch, step):
    class Stopped(EMA):
        def update(self, model):
            super().update(model)
            if self.step == step + 1:
                signal.raise_signal(signal.SIGINT)

    out = tmp_path / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(recipes, "EMA", Stopped)
        with pytest.raises(KeyboardInterrupt):
            list(recipes.train("digits-vae", out, steps=30, seed=3, snapshots=2))
    assert States(out / "state.pt").files()[0].name == f"state-{step + 1}.pt"
    assert len(metrics(out)) == step + 1
    list(recipes.train("digits-vae", out, steps=30, seed=3, snapshots=2, resume=True))
    assert metrics(out) == metrics(digits)


def test_lines_of_a_run_that_never_saved_do_not_stay(digits, tmp_path):
    out = tmp_path / "run"
    out.mkdir()
    (out / "metrics.jsonl").write_text('{"step": 1, "loss": 1.0, "check": 1.0}\n', encoding="utf-8")
    for _ in recipes.train("digits-vae", out, steps=30, seed=3, snapshots=2):
        pass
    assert metrics(out) == metrics(digits)


def test_the_state_of_another_run_leaves_the_folder_as_it_was(digits):
    before = {file: file.read_bytes() for file in digits.rglob("*") if file.is_file()}
    with pytest.raises(UserError, match="state-30.pt"):
        list(recipes.train("digits-vae", digits, steps=31, seed=3, resume=True))
    with pytest.raises(UserError, match="or --resume"):
        list(recipes.train("digits-vae", digits, steps=30, seed=3))
    assert before == {file: file.read_bytes() for file in digits.rglob("*") if file.is_file()}


def test_the_weights_of_another_network_are_named(path):
    Training(path).run(3)
    model = nn.Linear(2, 2)
    with pytest.raises(UserError, match="state-3.pt: got 'the weights of another network'"):
        list(fit(model, lambda *_: model.weight.sum(), steps=STEPS, ema=EMA(model, 0.9), checkpoint=path))


# --- the command line: one line, exit code 2


def refuses(*words):
    done = minildm(*words)
    assert done.exit_code == 2, done.output
    lines = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1 and "Traceback" not in done.stderr
    return lines[0]


def test_a_full_disk_on_the_command_line(tmp_path):
    out = tmp_path / "run"
    with small_files():
        line = refuses("train", "digits-vae", "--out", out, "--steps", 2)
    assert "state-2.pt" in line and "File too large" in line
    assert minildm("train", "digits-vae", "--out", out, "--steps", 2, "--resume").exit_code == 0


def test_a_full_disk_at_the_last_file(tmp_path, monkeypatch):
    """The state of the end is there; the weights are not; once there is room, --resume writes them."""
    import safetensors.torch

    def no_room(*args, **options):
        raise safetensors.SafetensorError("Error while serializing: I/O error: No space left on device")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(safetensors.torch, "save_file", no_room)
        assert "No space left" in refuses("train", "digits-vae", "--out", tmp_path, "--steps", 2)
    assert minildm("train", "digits-vae", "--out", tmp_path, "--steps", 2, "--resume").exit_code == 0
    assert type(weights.load(tmp_path)).__name__ == "FlatVAE"


def test_a_busy_folder_and_a_damaged_state_on_the_command_line(tmp_path):
    words = ("train", "digits-vae", "--out", tmp_path, "--steps", 2, "--resume")
    assert minildm(*words).exit_code == 0
    with States(tmp_path / "state.pt") as states:
        assert "no other training" in refuses(*words)
    newest = states.files()[0]
    newest.rename(tmp_path / "state-1.pt")
    newest.write_bytes(b"garbage")
    done = minildm(*words)
    assert done.exit_code == 0 and done.stderr.count("warning: ") == 1 and "state-2.pt is damaged" in done.stderr


# --- killed


@pytest.mark.slow
def test_eight_kills_lose_nothing(tmp_path):
    found = kills.trial(tmp_path, 8, seed=1)
    assert found["kills"] == 8 and found["inside a save"] >= 2
    assert found["states lost"] == 0 and found["different"] == 0
    assert found["steps before the last kill"] > 8


def test_the_comparison_of_the_kills_sees_one_bit():
    a = {"w": [torch.zeros(3), 1]}
    b = {"w": [torch.tensor([0.0, 0.0, 1e-45]), 1]}
    assert kills.equal(a, a) and not kills.equal(a, b) and not kills.equal(a, {"w": [torch.zeros(3), 2]})


@pytest.mark.slow
def test_a_real_process_stops_by_a_real_ctrl_c(tmp_path):
    if sys.platform == "win32":
        pytest.skip("another way to send it")
    words = ["train", "digits-vae", "--steps", "100000", "--out", str(tmp_path)]
    with subprocess.Popen([*kills.NORMAL, *words], stderr=subprocess.PIPE, text=True) as child:
        while not (tmp_path / "metrics.jsonl").exists():
            assert child.poll() is None
            time.sleep(0.05)
        child.send_signal(signal.SIGINT)
        _, told = child.communicate(timeout=60)
    assert child.returncode == 130 and "Traceback" not in told
    assert told.splitlines()[-1].endswith(f"--out {shlex.quote(str(Path(tmp_path)))} --resume")
    assert States(tmp_path / "state.pt").files()
