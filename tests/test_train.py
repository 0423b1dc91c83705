"""The training loop: losses with known values, the average of the weights, runs that survive an interruption."""

import math
import os
import subprocess
import sys
import time
from copy import deepcopy
from dataclasses import replace

import pytest
import torch
from torch import nn

from minildm import levels, readers, recipes, runs, scenes, weights
from minildm.denoise import PREDICTIONS, to_output
from minildm.files import UserError
from minildm.train import EMA, diffusion_loss, each, fit, learning_rate, vae_loss
from minildm.vae import VAE, FlatVAE, kl_divergence


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_a_network_that_knows_the_picture_has_no_loss(prediction):
    """Data of one single picture: the perfect answer is known, so the loss of the formula must be 0."""
    schedule, x0 = levels.cosine(), torch.randn(1, 3, 4, 4, generator=generator()).expand(64, -1, -1, -1)

    def knows(x, t):
        level = schedule.at(t.long())
        return to_output(x0, x, level, prediction)

    loss = diffusion_loss(knows, x0, schedule, prediction, generator(1))
    assert loss.shape == (64,)
    assert loss.max() < 1e-5


def test_the_answer_zero_costs_one_for_eps():
    """E[eps^2] = 1, whatever the data: within five standard errors."""
    x0 = torch.randn(2_000, 3, 4, 4, generator=generator())
    loss = diffusion_loss(lambda x, t: torch.zeros_like(x), x0, levels.linear(), "eps", generator(1)).mean()
    assert abs(loss.item() - 1) < 5 * math.sqrt(2 / x0.numel())


def test_one_seed_is_one_loss():
    x0, network = torch.randn(4, 3, 8, 8), nn.Conv2d(3, 3, 1)
    losses = [diffusion_loss(lambda x, t: network(x), x0, levels.cosine(), "v", generator(s)) for s in (5, 5, 6)]
    assert torch.equal(losses[0], losses[1]) and not torch.equal(losses[0], losses[2])


@pytest.mark.parametrize("noisy, share", [(0.0, 0.25), (0.5, 0.625), (1.0, 1.0)])
def test_noisy_levels_come_as_often_as_asked_and_are_uniform_in_their_quarter(noisy, share):
    schedule, seen = levels.cosine(), []

    def network(x, t):
        seen.append(t)
        return torch.zeros_like(x)

    diffusion_loss(network, torch.zeros(8_000, 1, 1, 1), schedule, "v", generator(3), noisy)
    t = seen[0]
    assert abs((t >= 750).float().mean().item() - share) < 5 * math.sqrt(0.25 / len(t))
    quarter = t[t >= 750].float()
    assert quarter.max() <= 999 and abs(quarter.mean().item() - 874.5) < 5 * 72.2 / math.sqrt(len(quarter))


def test_a_pool_of_scenes_is_encoded_once_and_used_evenly(monkeypatch):
    """Each scene REUSE times, none twice in a batch, and no pool twice."""
    calls, shown, real = [], [], runs.captioned

    def captioned(seed, step, batch, objects, size):
        calls.append(step)
        pictures, said, drawn = real(seed, step, batch, objects, size)
        return torch.arange(len(pictures)).view(-1, 1, 1, 1).expand(pictures.shape).float(), said, drawn

    monkeypatch.setattr(runs, "captioned", captioned)
    tiny = replace(runs.PLAIN_PIXEL, block_out_channels=(8, 8), transformer_layers=(0, 0), heads=(1, 1))
    run = runs.diffusion_run(config=tiny, objects=1, batch=4)
    monkeypatch.setattr(
        runs, "diffusion_loss", lambda model, x0, *args, **kw: shown.append(x0[:, 0, 0, 0].tolist()) or x0.mean()
    )
    steps = runs.POOL * runs.REUSE
    for step in range(steps):
        run.loss(step, generator(step))
    assert calls == [0] and all(len(set(batch)) == 4 for batch in shown)
    counts = torch.tensor(sum(shown, [])).long().bincount()
    assert counts.tolist() == [runs.REUSE] * 4 * runs.POOL
    assert set(map(frozenset, shown[: runs.POOL])) != set(map(frozenset, shown[runs.POOL : 2 * runs.POOL]))
    run.loss(steps, generator(steps))
    assert calls == [0, 1]


def test_a_flow_is_trained_on_straight_rows():
    tiny = replace(runs.PLAIN_PIXEL, block_out_channels=(8, 8), transformer_layers=(0, 0), heads=(1, 1))
    for prediction, straight in (("flow", 1.0), ("v", 2**0.5)):
        run = runs.diffusion_run(config=tiny, batch=4, prediction=prediction)
        pipe = run.finish(run.model)
        assert pipe.prediction == prediction
        assert max(level.alpha + level.sigma for level in pipe.schedule.rows()) == pytest.approx(straight, abs=1e-3)


def test_vae_loss_is_the_sum_of_its_terms():
    vae, x = FlatVAE(latent=3, hidden=8), torch.randn(16, 1, 8, 8)
    error, kl = vae_loss(vae, x, 0.5, generator())
    mean, logvar = vae.encode(x)
    torch.testing.assert_close(kl, 0.5 * kl_divergence(mean, logvar).mean() / 64)
    noise = torch.randn(mean.shape, generator=generator())
    out = vae.decode(mean + (0.5 * logvar).exp() * noise)
    torch.testing.assert_close(error, nn.functional.mse_loss(out, x))


def test_ema_is_the_closed_form():
    """Weights held at w from step 0 on: the average is w + (w0 - w) * (product of the decays)."""
    model = nn.Linear(1, 1, bias=False)
    model.weight.data.fill_(2.0)
    ema = EMA(model, decay=0.5)
    model.weight.data.fill_(5.0)
    product = 1.0
    for step in range(20):
        ema.update(model)
        product *= min(0.5, (1 + step) / (10 + step))
    assert math.isclose(ema.model.weight.item(), 5 + (2 - 5) * product, rel_tol=1e-6)
    assert not ema.model.weight.requires_grad


def test_learning_rate_rises_then_falls_to_nothing():
    values = [learning_rate(i / 1000) for i in range(1001)]
    assert values[0] == 0 and abs(max(values) - 1) < 1e-4 and values[-1] < 1e-12
    assert math.isclose(learning_rate(0.515), 0.5, abs_tol=1e-9)  # half-way through the cosine
    top = values.index(max(values))
    assert values[: top + 1] == sorted(values[: top + 1]) and values[top:] == sorted(values[top:], reverse=True)


def a_run(steps=None, seconds=None, path=None, stop=None, seed=0):
    """A small regression whose batches and noise come from (step, generator) alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1))
    ema = EMA(model, 0.9)

    def loss(step, generator):
        x = torch.randn(16, 4, generator=generator)
        return (model(x) - x.sum(1, keepdim=True)).square().mean()

    seen = []
    for now in fit(model, loss, steps=steps, seconds=seconds, ema=ema, checkpoint=path, save_every=0.0, seed=seed):
        seen.append(now)
        if now.step == stop:
            break
    return [*model.parameters(), *ema.model.parameters()], seen


def test_training_learns_and_reports():
    _, seen = a_run(steps=200)
    assert seen[-1].loss < 0.5 * seen[0].loss
    assert [p.step for p in seen] == list(range(1, 201))
    assert seen[-1].fraction == 1 and all(a.seconds < b.seconds for a, b in zip(seen, seen[1:], strict=False))


def test_a_seed_is_a_run():
    (a, _), (b, _), (c, _) = a_run(20), a_run(20), a_run(20, seed=1)
    assert all(torch.equal(x, y) for x, y in zip(a, b, strict=True))
    assert not all(torch.equal(x, y) for x, y in zip(a, c, strict=True))


def test_resumed_weights_are_the_same_to_the_last_bit(tmp_path):
    whole, _ = a_run(steps=30)
    a_run(steps=30, path=tmp_path / "state.pt", stop=11)
    parts, seen = a_run(steps=30, path=tmp_path / "state.pt")
    assert 11 <= seen[0].step <= 12
    assert all(torch.equal(x, y) for x, y in zip(whole, parts, strict=True))


CHILD = """
import sys, time
sys.path.insert(0, sys.argv[2])
import test_train
import torch
save = torch.save
def slowly(*args):  # most kills then fall inside a save
    save(*args); time.sleep(0.02); print("step", flush=True)
torch.save = slowly
test_train.a_run(steps=60, path=sys.argv[1])
"""


@pytest.mark.slow
def test_a_killed_process_resumes_to_the_same_weights(tmp_path):
    path = tmp_path / "state.pt"
    command = [sys.executable, "-c", CHILD, str(path), os.path.dirname(__file__)]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, env=os.environ | {"OMP_NUM_THREADS": "1"})
    for _ in range(20):
        assert child.stdout.readline()
    time.sleep(0.013)
    child.kill()
    child.wait()
    child.stdout.close()
    whole, _ = a_run(steps=60)
    parts, seen = a_run(steps=60, path=path)
    assert 15 < seen[0].step < 60
    assert all(torch.equal(x, y) for x, y in zip(whole, parts, strict=True))


def test_each_does_every_job_once_and_reports_after_each():
    done = []
    jobs = [lambda i=i: done.append(i) or i * 0.5 for i in range(4)]
    reports = [(now.step, now.fraction, now.loss, len(done)) for now in each(jobs)]
    assert reports == [(1, 0.25, 0.0, 1), (2, 0.5, 0.5, 2), (3, 0.75, 1.0, 3), (4, 1.0, 1.5, 4)]


def test_seconds_are_kept():
    _, seen = a_run(seconds=0.3)
    assert 0.3 <= seen[-1].seconds < 2 and seen[-1].fraction == 1


def test_another_clock_can_count_the_seconds():
    ticks = iter(range(1000))
    model = nn.Linear(1, 1)
    parts = list(fit(model, lambda step, generator: model.weight.square().sum(), seconds=5, clock=lambda: next(ticks)))
    assert [part.seconds for part in parts] == [1, 2, 3, 4, 5]


@pytest.mark.parametrize("wrong", [{}, {"steps": 5, "seconds": 5}, {"steps": 0}, {"seconds": -1}])
def test_wrong_lengths_are_named(wrong):
    with pytest.raises(UserError, match="steps, seconds"):
        a_run(**wrong)


def test_a_checkpoint_of_another_run_or_a_broken_one_is_named(tmp_path):
    path = tmp_path / "state.pt"
    a_run(steps=30, path=path, stop=5)
    with pytest.raises(UserError, match="state-5.pt"):
        a_run(steps=31, path=path)
    for state in tmp_path.glob("state-*.pt"):
        state.write_bytes(state.read_bytes()[:500])
    with pytest.raises(UserError, match="state-5.pt, state-4.pt, none of them whole"), pytest.warns(match="damaged"):
        a_run(steps=30, path=path)


def test_a_loss_that_is_no_number_stops_the_run():
    model = nn.Linear(1, 1)
    with pytest.raises(UserError, match="loss at step 3"):
        for _ in fit(model, lambda step, g: model(torch.ones(1, 1)).sum() * (math.nan if step == 3 else 1), steps=9):
            pass


def test_the_decoder_run_leaves_every_latent_as_it_is_and_redraws_better():
    torch.manual_seed(0)
    first = VAE(replace(runs.VAE_CONFIG, block_out_channels=(16, 16, 16)))
    run = runs.decoder_run(deepcopy(first), batch=8)
    for _ in fit(run.model, run.loss, steps=40, lr=run.lr, autocast=run.autocast):
        pass
    pictures = scenes.render(scenes.draw(64, seed=5, objects=2))
    with torch.no_grad():
        z = first.encode(pictures)[0]
        errors = [vae.decode(z).sub(pictures).square().mean() for vae in (first, run.model)]
    for part in ("encoder", "quant_conv"):
        before, after = (getattr(vae, part).state_dict() for vae in (first, run.model))
        assert all(torch.equal(before[name], after[name]) for name in before), part
    assert errors[1] < 0.9 * errors[0]


def test_the_decoder_recipe_trains_the_decoder_of_the_vae_it_is_given():
    run = recipes.prepare("decoder", vae="shapes/vae")
    trained = {name.split(".")[0] for name, p in run.model.named_parameters() if p.requires_grad}
    assert trained == {"decoder", "post_quant_conv"}
    assert run.model.config == weights.load("shapes/vae").config


def test_hard_negatives_join_the_mini_clip_late(monkeypatch):
    asked = []
    real = readers.clip_batch

    def noted(seed, step, batch, negatives):
        asked.append((step, negatives))
        return real(seed, step, batch, negatives)

    monkeypatch.setattr(readers, "clip_batch", noted)
    run = readers.clip_run(batch=8, negatives=2, alone=3)
    asked.clear()
    for step in range(2, 5):
        assert math.isfinite(run.loss(step, torch.Generator()).item())
    assert asked == [(2, 0), (3, 2), (4, 2)]


def test_the_relations_recipe_goes_on_with_the_mini_clip_it_is_given():
    run = recipes.prepare("relations", clip="clip")
    given = weights.load("clip")
    assert all(torch.equal(a, b) for a, b in zip(run.model.parameters(), given.parameters(), strict=True))
    assert all(p.requires_grad for p in run.model.parameters())
    assert math.isfinite(run.check(run.model))


def test_a_run_can_start_from_a_trained_model():
    run = recipes.prepare("latent", small=True, start="latent-300")
    given = weights.load("latent-300").unet
    assert all(torch.equal(a, b) for a, b in zip(run.model.parameters(), given.parameters(), strict=True))
    assert all(p.requires_grad for p in run.model.parameters())
