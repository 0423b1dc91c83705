"""One training on one process or on many: the same weights, and what becomes of it when one of them is killed."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import scaling
import torch
from torch import nn

from minildm import processes, recipes, weights
from minildm.files import UserError
from minildm.train import fit

HERE = Path(__file__).parent
COMMAND = [sys.executable, "-c", "from minildm.cli import app; app()"]


def launch(count, *what, by="torchrun"):
    """Start so many processes; returns when all have ended, or ends them after four minutes and fails."""
    launcher = {
        "torchrun": ["torch.distributed.run", "--standalone", f"--nproc_per_node={count}"],
        "accelerate": ["accelerate.commands.launch", "--multi_gpu", f"--num_processes={count}", "--num_machines=1",
                       "--mixed_precision=no", "--dynamo_backend=no", "--main_process_port=0"],
    }[by]  # fmt: skip
    command = [sys.executable, "-m", *launcher, *map(str, what)]
    job = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
                           env=os.environ | {"OMP_NUM_THREADS": "1"})  # fmt: skip
    try:
        out, err = job.communicate(timeout=240)
    except subprocess.TimeoutExpired:
        os.killpg(job.pid, signal.SIGKILL)
        job.communicate()
        raise
    return subprocess.CompletedProcess(command, job.returncode, out, err)


def apart(one, other, part):
    """The largest difference of all weights whose name begins so."""
    return max((one[name] - value).abs().max().item() for name, value in other.items() if name.startswith(part))


@pytest.fixture(scope="module")
def alone():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as the launched ones
    yield dict(scaling.ways())
    torch.set_num_threads(threads)


def close(alone, ways):
    for name, trained in ways.items():
        dtype = name.split(",")[0]
        for part in ("model", "ema", "losses"):
            assert apart(alone[f"{dtype}, 1"], trained, part) < {"float64": 1e-9, "float32": 1e-4}[dtype], (name, part)


@pytest.mark.slow
def test_a_batch_in_parts_gives_the_same_weights(alone):
    assert len(alone) == 4
    close(alone, alone)
    other = scaling.train(torch.float64, steps=30, seed=4)
    assert apart(scaling.train(torch.float64, steps=30), other, "model") > 1e-3  # or nothing above says anything


@pytest.mark.slow
@pytest.mark.parametrize("by, job, count, ways", [("accelerate", "accelerate", 2, 3), ("torchrun", "proof", 4, 1)])
def test_many_processes_give_the_same_weights(alone, tmp_path, by, job, count, ways):
    done = launch(count, HERE / "scaling.py", job, tmp_path, by=by)
    assert done.returncode == 0, done.stderr
    found = torch.load(tmp_path / f"{job}-{count}.pt")
    assert len(found) == ways
    close(alone, found)


@pytest.mark.slow
def test_a_killed_process_ends_the_job_and_the_checkpoint_goes_on_to_the_same_weights(alone, tmp_path):
    fallen = launch(2, HERE / "scaling.py", "fall", tmp_path)
    assert fallen.returncode not in (0, -9) and "SIGKILL" in fallen.stderr and "rank      : 1" in fallen.stderr
    found = scaling.train(torch.float64, checkpoint=tmp_path / "state.pt")  # now on one process
    assert len(found.pop("losses")) in (70, 75)  # saved every 5, and killed at the end of step 30 of 100
    assert max(apart(alone["float64, 1"], found, part) for part in ("model", "ema")) < 1e-9


@pytest.mark.slow
def test_the_command_under_torchrun_writes_what_one_process_writes(tmp_path):
    for _ in recipes.train("digits-vae", tmp_path / "one", steps=20):
        pass
    asked = ["train", "digits-vae", "--steps", 20, "--accumulate", 2, "--out", tmp_path / "two"]
    done = launch(2, "--no-python", *COMMAND, *asked)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [str(tmp_path / "two")]
    one, two = (weights.load(tmp_path / name).state_dict() for name in ("one", "two"))
    assert all(torch.allclose(two[name], value, atol=1e-5) for name, value in one.items())
    logs = [[json.loads(line) for line in (tmp_path / name / "metrics.jsonl").read_text().splitlines()]
            for name in ("one", "two")]  # fmt: skip
    assert [line["step"] for line in logs[0]] == [line["step"] for line in logs[1]]
    assert all(abs(a["loss"] - b["loss"]) < 1e-5 for a, b in zip(*logs, strict=True))


@pytest.mark.parametrize("count", [1, 2, 3, 8])
@pytest.mark.parametrize("accumulate", [1, 3])
def test_every_sample_is_taken_once(monkeypatch, count, accumulate):
    monkeypatch.setattr(processes, "count", lambda: count)
    taken = []
    for rank in range(count):
        monkeypatch.setattr(processes, "rank", lambda rank=rank: rank)
        shares = processes.shares(29, accumulate)
        assert len(shares) == accumulate
        taken += shares
    assert [i for share in taken for i in share] == list(range(29))
    assert len({len(share) for share in taken}) <= 2
    with pytest.raises(UserError, match=f"at least {count * accumulate}"):
        processes.shares(count * accumulate - 1, accumulate)


def test_the_mean_of_unequal_parts_is_the_mean_of_the_batch():
    """Seven samples in three parts: the gradient of the mean is known."""
    model = nn.Linear(1, 1, bias=False)
    targets, seen = torch.arange(7.0), []

    def loss(step, source):
        seen.append(model.weight.grad is None or model.weight.grad.item())
        return (model.weight - targets[source.indices]).square().mean()

    before = model.weight.item()
    progress = fit(model, loss, steps=2, batch=7, accumulate=3)
    assert next(progress).loss == pytest.approx((before - targets).square().mean().item())
    assert len(seen) == 3 and seen[0] is True
    assert seen[2] == pytest.approx(2 * sum(before - t for t in range(4)) / 7, rel=1e-5)


def test_a_loss_of_whole_batches_is_not_split():
    model = nn.Linear(1, 1)
    with pytest.raises(UserError, match="whole batches"):
        next(fit(model, lambda step, source: model.weight.sum(), steps=1, accumulate=2))
