"""The league: equal seconds, equal sizes, equal prompts, and figures that tell a good picture from a bad one."""

import json
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from minildm import cli, league, metrics, oracle, runs, weights
from minildm.evaluate import prompts
from minildm.files import UserError
from minildm.league import contestants, judging, running, telling
from minildm.league.running import Job
from minildm.scenes import SHAPES, draw, render
from minildm.train import Progress
from minildm.unet import UNet
from minildm.vae import VAE


@pytest.fixture
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def size(*modules):
    return sum(p.numel() for module in modules for p in module.parameters())


def test_the_four_have_equally_many_weights_within_a_tenth():
    latent = size(VAE(contestants.VAE_CONFIG), UNet(contestants.LATENT))
    conditional = size(contestants.ConditionalVAE(VAE(contestants.VAE_CONFIG), UNet(contestants.LATENT)))
    sizes = [latent, conditional, size(UNet(contestants.PIXEL))]
    assert min(sizes) > 0.9 * max(sizes)


@pytest.mark.slow
@pytest.mark.parametrize("entry", league.ENTRIES)
def test_a_contestant_spends_its_seconds_and_draws_what_it_is_asked_for(entry, one_thread):
    contestant = league.Contestant(entry)
    begun = time.process_time()
    *_, last = contestant.train(6.0)
    assert 6.0 <= time.process_time() - begun < 7.5, "its seconds, and at most a step of each part more"
    assert last.fraction == 1.0
    assert 5.9 < sum(contestant.seconds.values()) < 7.0
    parts = {"autoencoder", "drawing"} if entry in ("latent", "flow") else {"drawing"}
    assert contestant.steps.keys() == parts
    if len(parts) == 2:
        assert 2.0 <= contestant.seconds["autoencoder"] < 3.8, "a third, and measuring the scale of its latents"
    said = ["a red circle", "a blue star", "a green ring"]
    first, again = (contestant.draw(said, 2, torch.Generator().manual_seed(1)) for _ in range(2))
    assert first.shape == (3, 3, 32, 32)
    assert first.abs().max() <= 1
    assert torch.equal(first, again)
    assert contestant.memory() > 4 * 4 * size(contestant.model.unet) / 1e6, "weights, their mean and two moments alone"
    parts = [contestant.model] if entry == "vae" else [contestant.model.unet, *filter(None, [contestant.vae])]
    assert contestant.parameters == size(*parts)


def test_the_conditional_vae_hears_the_prompt():
    torch.manual_seed(0)
    model = contestants.ConditionalVAE(VAE(contestants.VAE_CONFIG), UNet(contestants.LATENT))
    torch.nn.init.normal_(model.unet.conv_out.weight, std=0.1)
    z, said = torch.randn(1, contestants.LATENTS).expand(2, -1), torch.randn(2, 24, 128)
    with torch.no_grad():
        (one, other), (mean, logvar) = model.decode(z, said), model.prior(said)
        assert [part.shape for part in model.encode(torch.randn(5, 3, 32, 32))] == [(5, contestants.LATENTS)] * 2
    assert (one - other).abs().max() > 1e-3
    assert (mean[0] - mean[1]).abs().max() > 1e-3 and (logvar[0] - logvar[1]).abs().max() > 1e-3


def test_kl_between_is_that_of_torch():
    a, b, c, d = torch.randn(4, 7, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    normal = torch.distributions.Normal
    wanted = torch.distributions.kl_divergence(normal(a, (b / 2).exp()), normal(c, (d / 2).exp())).sum(1)
    torch.testing.assert_close(contestants.kl_between(a, b, c, d), wanted)


def test_its_loss_is_the_negative_bound_of_a_gaussian_decoder_with_the_best_noise():
    """Up to log(2 pi e) / 2 a value: the density of a Gaussian, by torch.distributions, and its own KL divergence."""
    torch.manual_seed(0)
    words = weights.load("clip").text
    run = contestants.conditional_run(words)
    pipe = contestants.LatentDiffusion(run.model.unet, None, words, schedule=contestants.levels.cosine())
    pixels, condition = runs.from_pool(runs.told(pipe, 1), 0, contestants.BATCH)
    normal = torch.distributions.Normal
    with torch.no_grad():
        ours = run.loss(0, torch.Generator().manual_seed(3)).item()
        posterior, prior = (normal(mean, (logvar / 2).exp())
                            for mean, logvar in (run.model.encode(pixels), run.model.prior(**condition)))  # fmt: skip
        noise = torch.randn(posterior.mean.shape, generator=torch.Generator().manual_seed(3))
        out = run.model.decode(posterior.mean + posterior.stddev * noise, **condition)
        kl = torch.distributions.kl_divergence(posterior, prior).sum(1).mean()
        deviation = (out - pixels).square().mean().sqrt()
        nats = -normal(out, deviation).log_prob(pixels).mean() + kl / pixels[0].numel()
    constant = 0.5 * torch.tensor(2 * torch.pi * torch.e).log()
    assert ours == pytest.approx((nats - constant).item(), abs=1e-4)


def test_the_classifier_names_the_attributes_of_real_pictures_and_of_exchanged_ones_not():
    said, wanted = prompts("one", 200)
    with torch.no_grad():
        logits = weights.load("classifier")(render(wanted))
    right = judging.attributes_right(logits, wanted).double().mean(0)
    assert right.min() > 0.9, "shape, colour, size, background"
    other = judging.attributes_right(logits, replace(wanted, shape=(wanted.shape + 1) % len(SHAPES)))
    assert other[:, 0].double().mean() < 0.1
    assert torch.equal(other[:, 1:], judging.attributes_right(logits, wanted)[:, 1:])


@pytest.mark.slow
def test_figures_prefer_real_pictures_to_blurred_ones_and_to_noise():
    _, wanted = prompts("one", 128)
    real = render(wanted)
    blurred = torch.nn.functional.avg_pool2d(real, 9, 1, 4, count_include_pad=False)
    noise = torch.randn(real.shape, generator=torch.Generator().manual_seed(0)).clamp(-1, 1)
    good, soft, bad = (league.figures(x) for x in (real, blurred, noise))
    assert good.keys() == judging.FIGURES.keys()
    for name, better in judging.FIGURES.items():
        low, high = good[name][1:]
        assert low - 1e-9 <= good[name][0] <= high + 1e-9, name
        if better == "more":
            assert good[name][0] > bad[name][0], name
        elif better == "less":
            assert good[name][0] < soft[name][0] < bad[name][0], name
        if name in judging.SHARES:  # intervals of a share: none leaves 0..1, and none has no width
            assert all(0 <= low < high <= 1 for low, high in (row[name][1:] for row in (good, soft, bad))), name
    assert good["oracle all"][0] > 0.98
    assert soft["detail"][0] < 0.8 < good["detail"][0] < 1.2 < bad["detail"][0]
    assert soft["oracle all"][0] < 0.1
    assert 0.4 < good["copying"][0] < 0.6, "real pictures are as near to the training ones as real pictures are"


def test_bytes_are_judged_as_the_pictures_they_stand_for():
    _, wanted = prompts("one-unseen", 64)
    real = render(wanted)
    exact, coded = (league.figures(x, "unseen") for x in (real, judging.to_bytes(real)))
    assert exact["kernel"][0] == pytest.approx(coded["kernel"][0], abs=1e-3)
    assert exact["oracle all"] == coded["oracle all"]
    assert exact["oracle all"][0] > 0.98


def test_pairs_never_seen_are_compared_with_a_world_of_such_pairs():
    scenes = draw(256, 31, objects=1, held_out=True)
    with torch.no_grad():
        made = weights.load("classifier").features(render(scenes))
    value, low, high = metrics.kernel(judging.world_features("unseen")["real"], made)
    assert low < 0 < high
    assert metrics.kernel(judging.world_features("seen")["real"], made)[1] > 0


def test_a_smaller_set_of_prompts_is_another_one():
    """Whoever judges the first pictures of a set has to take the first prompts of that set."""
    few, many = (prompts("one", n)[0] for n in (running.RUNG, league.PICTURES))
    assert few != many[: running.RUNG]


def fake(folder, job, kernel, **more):
    figures = {name: [0.5, 0.4, 0.6] for name in judging.FIGURES} | {"kernel": [kernel, kernel - 0.1, kernel + 0.1]}
    record = {"entry": job.entry, "seconds": job.seconds, "seed": job.seed, "lr": job.lr, "parameters": 836_000,
              "memory": 30.0, "sampling": {"1": 0.1, "25": 3.0}, "seen": figures, "unseen": figures, "calls": {}}
    folder.joinpath(f"{job.name}.json").write_text(json.dumps(record | more))


def test_every_job_is_done_once_the_rates_first_and_the_best_one_is_kept(tmp_path):
    done = []
    for job in league.jobs(300, 2, tmp_path, ["vae", "latent-shipped"]):
        done.append(job)
        fake(tmp_path, job, abs(job.lr - running.RATES[job.entry == "vae"]) * 100 + job.seed)
    tuning = [job for job in done if job.seconds == running.TUNING]
    assert done[:6] == tuning
    assert {(job.entry, job.lr) for job in tuning} == {(e, lr) for e in ("vae", "latent") for lr in running.RATES}
    rest = {(job.entry, job.seconds, job.seed, job.lr) for job in done[6:]}
    assert rest == {(e, 300, s, running.RATES[e == "vae"]) for e in ("vae", "latent-shipped") for s in (0, 1)}
    assert list(league.jobs(300, 2, tmp_path, ["vae", "latent-shipped"])) == []
    assert [job.seed for job in league.jobs(300, 3, tmp_path, ["vae"])] == [2], "and what is new is all that is left"
    assert "| **0.000 (-0.100 to 0.100)** |" in league.rates(tmp_path)
    runs = league.kept(tmp_path)
    assert {run["lr"] for run in runs if run["entry"] == "vae"} == {running.RATES[1]}
    assert [run["seconds"] for run in runs if run["entry"] == "vae"] == [300, 300]
    assert [(job.seconds, job.seed) for job in league.jobs(60, 2, tmp_path, ["vae"])] == [(60, 1), (60, 2)], (
        "the run that chose the rate does not count again"
    )


def test_seeds_are_told_by_their_mean_and_the_widest_interval(tmp_path):
    for lr in running.RATES:
        fake(tmp_path, Job("vae", 60, 0, lr), lr)
    for seed, kernel in enumerate((1.0, 2.0, 6.0)):
        fake(tmp_path, Job("vae", 300, seed, running.RATES[0]), kernel)
    runs = [run for run in league.kept(tmp_path) if run["seconds"] == 300]
    assert telling.over_seeds(runs, "seen", "kernel") == pytest.approx((3.0, 0.9, 6.1))
    line = league.table(league.kept(tmp_path), 300).splitlines()[2]
    assert line.startswith("| conditional VAE | 3.000 (0.900 to 6.100) |")
    assert "| 3 | 0.84 M | 0.1 | 30 |" in line


def test_the_figure_shows_every_run_with_its_interval(tmp_path):
    ladder = {str(calls): {"kernel": [1 / calls, 0.5 / calls, 2 / calls]} for calls in running.LADDER}
    for seconds, seed in ((60, 0), (60, 1), (60, 2), (300, 0)):
        for lr in running.RATES:
            for at, entry in enumerate(league.ENTRIES):
                fake(tmp_path, Job(entry, seconds, seed, lr), 60 / seconds + at, calls=ladder if seconds > 60 else {})
    fig = league.figure(league.kept(tmp_path))
    fig.savefig(tmp_path / "league.png")
    quality, *_, by_calls, costs = fig.axes
    assert len(quality.containers) == len(by_calls.containers) == len(costs.lines) == len(league.ENTRIES)
    for at, bars in enumerate(quality.containers):
        assert bars.lines[0].get_xdata().tolist() == [60, 300]
        assert bars.lines[0].get_ydata().tolist() == pytest.approx([1 + at, 0.2 + at])
    assert by_calls.containers[1].lines[0].get_xdata().tolist() == list(running.LADDER)
    assert "after 300 s" in by_calls.get_title(loc="left")
    seen = league.plotted(fig)
    assert league.plotted(league.figure(league.kept(tmp_path))) == seen
    assert {text.get_text() for text in costs.texts} == set(league.ENTRIES.values()), "no dot without its name"
    fake(tmp_path, Job("vae", 60, 1, running.RATES[0]), 1.01)
    assert league.plotted(league.figure(league.kept(tmp_path))) != seen, "a fingerprint of what is shown"


@pytest.mark.slow
def test_a_job_leaves_figures_and_pictures_and_is_not_trained_twice(tmp_path, monkeypatch):
    monkeypatch.setattr(running, "PICTURES", 32)
    monkeypatch.setattr(running, "RUNG", 16)
    monkeypatch.setattr(running, "TUNING", 1)
    job = Job("vae", 3, 0, 1e-3)
    threads = torch.get_num_threads()
    torch.set_num_threads(threads + 1)  # one is what a run itself works with
    parts = list(league.play(job, tmp_path))
    assert torch.get_num_threads() == threads + 1
    torch.set_num_threads(threads)
    assert parts[-1].fraction == 1.0
    record = json.loads((tmp_path / f"{job.name}.json").read_text())
    assert {"entry": "vae", "seconds": 3, "seed": 0, "lr": 1e-3}.items() <= record.items()
    assert record["seen"].keys() == record["unseen"].keys() == record["calls"]["1"].keys() == judging.FIGURES.keys()
    assert record["memory"] > 1
    (tmp_path / f"{job.name}.json").unlink()
    monkeypatch.setattr(running, "_played", None)  # a call of it would raise
    assert list(league.play(job, tmp_path)) == []
    again = json.loads((tmp_path / f"{job.name}.json").read_text())
    assert again == record
    drawn = torch.load(tmp_path / f"{job.name}.pt", weights_only=True)["pictures"]["seen"][:16]
    for lr in running.RATES:
        fake(tmp_path, Job("vae", 1, 0, lr), 0.0 if lr == running.RATES[0] else 1.0)
    (tmp_path / f"{job.name}.png").rename(tmp_path / f"{Job('vae', 3, 0, running.RATES[0]).name}.png")
    monkeypatch.setattr(telling, "RUNG", 16)
    shown = league.pictures("vae", 3, tmp_path)
    assert torch.equal(judging.to_bytes(shown), drawn), "the PNG holds the very pictures"


def test_unknown_entries_and_missing_pictures_are_told_in_one_line(tmp_path):
    with pytest.raises(UserError, match="entry: got 'gan'; expected one of vae, pixel"):
        league.Contestant("gan")
    with pytest.raises(UserError, match="entry: got 'gan'"):
        list(league.jobs(60, 1, tmp_path, ["gan"]))
    with pytest.raises(UserError, match="pictures of"):
        league.pictures("vae", 7, tmp_path)


def test_the_committed_runs_are_whole_and_their_shares_have_intervals_of_shares():
    for run in league.results():
        sets = [(run[which], running.PICTURES) for which in judging.SETS]
        for row, made in [*sets, *((row, running.RUNG) for row in run["calls"].values())]:
            for name in judging.SHARES:  # the runs are older than these intervals, which were made of value and n
                n = made if name == "precision" else judging.REAL
                share = oracle.wilson(round(row[name][0] * n), n)
                assert row[name] == pytest.approx(share, rel=1e-4), (run["entry"], run["seconds"], name)


def test_what_the_page_says_of_busy_neighbours():
    runs = [run["steps"] for run in league.kept() if run["seconds"] == 300]
    steps = [parts["autoencoder"] for parts in runs if "autoencoder" in parts]
    page = Path(__file__).parent.parent / "docs" / "results" / "measurements.md.in"
    assert f"equal networks made {min(steps)} to {max(steps)} steps" in page.read_text(encoding="utf-8")


def test_what_lesson_13_says_of_the_committed_runs():
    runs = league.kept()

    def told(entry, seconds, name="kernel", which="seen"):
        return league.over_seeds([r for r in runs if (r["entry"], r["seconds"]) == (entry, seconds)], which, name)

    def less(first, second):
        return first[2] < second[1]

    def level(first, second):
        return not less(first, second) and not less(second, first)

    fair, marked = ("vae", "pixel", "latent", "flow"), ("latent-shipped", "flow-shipped")
    assert all(0.3 < told(entry, 60, "classifier one")[0] < 0.4 for entry in fair), "nobody draws"
    assert all(told(entry, 60, "classifier one")[0] > 0.5 for entry in marked)
    for seconds in (60, 300):
        assert less(told("vae", seconds), told("pixel", seconds)) and level(told("vae", seconds), told("flow", seconds))
    assert less(told("latent", 60), told("vae", 60)) and level(told("latent", 300), told("vae", 300))
    assert min(told(entry, 300)[0] for entry in fair) == told("latent", 300)[0]
    assert level(told("vae", 1200), told("pixel", 1200))
    assert 3 * max(told(e, 1200)[0] for e in ("latent", "flow")) < min(told(e, 1200)[0] for e in ("vae", "pixel"))
    assert told("latent-shipped", 60)[0] < told("latent", 300)[0]
    assert told("latent-shipped", 300)[0] == pytest.approx(told("latent", 1200)[0], rel=0.2), "about where it is"
    assert told("vae", 300, "detail")[2] < 1 < told("vae", 1200, "detail")[1]
    assert told("vae", 1200, "coverage")[0] < 0.5 * told("latent", 1200, "coverage")[0]
    assert max(told(entry, 300, "oracle all")[0] for entry in league.ENTRIES) < 0.06
    for entry in league.ENTRIES:
        seen, unseen = ({name: told(entry, 1200, name, which)[0] for name in judging.FIGURES} for which in judging.SETS)
        assert 0 <= seen["classifier one"] - unseen["classifier one"] < 0.07
        assert unseen["precision"] < seen["precision"] / 2 and unseen["coverage"] < seen["coverage"] / 2
        assert seen["copying"] < 0.4 and unseen["copying"] > 0.6
    pixel = next(run for run in runs if (run["entry"], run["seconds"]) == ("pixel", 1200))["calls"]
    assert pixel["1"]["kernel"][0] < pixel["2"]["kernel"][0]


def test_the_table_shows_the_oracle_where_it_reads_anything(tmp_path):
    for lr in running.RATES:
        fake(tmp_path, Job("vae", 60, 0, lr), lr)
    for seconds, share in ((300, 0.004), (1200, 0.02)):
        row = {name: [0.5, 0.4, 0.6] for name in judging.FIGURES} | {"oracle all": [share, 0.0, 0.1]}
        fake(tmp_path, Job("vae", seconds, 0, running.RATES[0]), 1.0, seen=row | {"kernel": [1.0, 0.9, 1.1]})
    runs = league.kept(tmp_path)
    heads = [league.table(runs, seconds).splitlines()[0] for seconds in (300, 1200)]
    assert ["oracle" in head for head in heads] == [False, True]
    assert all("| coverage, never seen |" in head and "| attributes, never seen |" in head for head in heads)
    assert "0.020 (0.000 to 0.100)" in league.table(runs, 1200)


def test_oracle_and_figures_agree_on_what_is_asked():
    _, wanted = prompts("one", 64)
    read = oracle.accuracy(oracle.read(render(wanted)), wanted)
    assert league.figures(render(wanted))["oracle all"] == read["all"]


@pytest.fixture
def at_once(monkeypatch):
    """Instead of runs of a minute and more: the jobs that were begun."""
    begun = []

    def played(job, folder, device):
        begun.append(job)
        fake(Path(folder), job, job.lr)
        yield Progress(1, 1.0, 1.0, 0.0, 0.0)

    monkeypatch.setattr(cli.contest, "play", played)
    return begun


def test_the_command_runs_what_is_missing_and_prints_the_table(tmp_path, at_once):
    words = ["league", "--budget", "300", "--seeds", "1", "--entry", "vae", "--out", str(tmp_path)]
    done = CliRunner().invoke(cli.app, words)
    assert done.exit_code == 0, done.stderr
    assert done.stdout.count(".json") == len(running.RATES) + 1
    assert "| conditional VAE |" in done.stdout
    again = CliRunner().invoke(cli.app, words)
    assert ".json" not in again.stdout
    assert "| conditional VAE |" in again.stdout


@pytest.mark.parametrize(("words", "told"), [
    (["--entry", "gan"], "entry: got 'gan'; expected one of vae"),
    (["--budget", "0"], "got '0'; expected a whole number from 1"),
    (["--seeds", "two"], "got 'two'; expected a whole number from 1"),
])  # fmt: skip
def test_a_wrong_wish_for_the_league_is_one_line(words, told, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(cli.app, ["league", *words])
    assert done.exit_code == 2
    assert told in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not list(tmp_path.iterdir()), "and nothing was written"


@pytest.mark.parametrize(("words", "told"), [
    (["--out", "afile"], "got 'afile'; expected one that can be written"),
    (["--out", "afile/league"], "got 'afile/league'; expected one that can be written"),
    (["--figure", "afile/x.png"], "got 'afile'; expected one that can be written"),
    (["--figure", "afolder.png"], "got 'afolder.png'; expected a file"),
    (["--figure", "x.jpg"], "got 'x.jpg'; expected a name that ends in .png"),
])  # fmt: skip
def test_a_place_that_cannot_be_written_to_is_told_before_the_first_run(words, told, tmp_path, monkeypatch, at_once):
    monkeypatch.chdir(tmp_path)
    Path("afile").write_text("")
    Path("afolder.png").mkdir()
    done = CliRunner().invoke(cli.app, ["league", *words])
    assert done.exit_code == 2, done.output
    assert told in done.stderr and len(done.stderr.splitlines()) == 1
    assert at_once == []


def test_the_figure_goes_into_a_new_folder_and_remembers_what_it_shows(tmp_path, at_once):
    words = ["--budget", "300", "--seeds", "1", "--entry", "vae", "--out", str(tmp_path / "runs")]
    done = CliRunner().invoke(cli.app, ["league", *words, "--figure", str(tmp_path / "nope" / "dir" / "x.png")])
    assert done.exit_code == 0, done.output
    with Image.open(tmp_path / "nope" / "dir" / "x.png") as image:
        assert image.text["plotted"] == league.plotted(league.figure(league.kept(tmp_path / "runs")))


@pytest.mark.parametrize(("broken", "told"), [
    (lambda text: text[: len(text) // 2], "Expecting"),
    (lambda text: "", "Expecting value"),
    (lambda text: "[1, 2]", "list indices"),
    (lambda text: text.replace('"kernel"', '"colonel"', 1), "no 'kernel'"),
    (lambda text: text.replace('"seen"', '"scene"'), "no 'seen'"),
    (lambda text: text.replace('"vae"', '"gan"'), "gan"),
    (lambda text: text.replace("30.0", "null"), "something else"),
    (lambda text: text.replace("[0.5, 0.4, 0.6]", "[0.5]", 1), "not enough values"),
])  # fmt: skip
def test_a_broken_record_is_named_before_the_first_run(broken, told, tmp_path, at_once):
    fake(tmp_path, Job("vae", 60, 0, running.RATES[1]), 1.0)
    (file,) = tmp_path.iterdir()
    file.write_text(broken(file.read_text()))
    for call in (league.results, league.kept, league.rates):
        with pytest.raises(UserError, match="vae_60s_seed0"):
            call(tmp_path)
    done = CliRunner().invoke(cli.app, ["league", "--out", str(tmp_path)])
    assert done.exit_code == 2, done.output
    assert file.name in done.stderr and told in done.stderr and len(done.stderr.splitlines()) == 1
    assert at_once == []
