"""The figures: right pictures score 1, wrong ones 0, and the prompts are what they are said to be."""

import math
from dataclasses import replace

import pytest
import tiny
import torch

from minildm import evaluate, oracle, recipes, runs, scenes, weights
from minildm.clip import MiniCLIP
from minildm.features import QUESTIONS, Classifier, questions
from minildm.files import UserError
from minildm.pipe import LatentDiffusion
from minildm.scenes.captions import split
from minildm.scenes.words import SIZE_WORDS
from minildm.unet import UNet
from minildm.vae import VAE, FlatVAE

N = 200


# --- the prompts


@pytest.mark.parametrize("name", evaluate.SETS)
def test_prompts_name_every_attribute(name):
    said, wanted = evaluate.prompts(name, N)
    assert len(said) == len(wanted) == N
    tables = [list(scenes.SHAPES), list(scenes.COLOURS), [*SIZE_WORDS.values()], list(scenes.BACKGROUNDS)]
    for i, prompt in enumerate(said):
        words = set(split(prompt))
        scene = wanted[i]
        assert tables[3][scene.background] in words
        for slot in range(int(scene.count)):
            assert tables[0][scene.shape[0, slot]] in words
            assert tables[1][scene.colour[0, slot]] in words
            assert words & set(tables[2][scene.size[0, slot]])
    assert (wanted.count == (1 if name.startswith("one") else 2)).all()
    if name.startswith("two"):
        assert (scenes.relation(wanted) >= 0).all()


def test_half_of_the_one_object_prompts_state_the_place():
    _, wanted = evaluate.prompts("one", 1000)
    assert 0.45 < (scenes.place(wanted)[:, 0] >= 0).float().mean() < 0.55


@pytest.mark.parametrize("name", evaluate.SETS)
def test_unseen_sets_hold_one_unseen_pair_and_the_others_none(name):
    _, wanted = evaluate.prompts(name, N)
    names = list(scenes.COLOURS)
    held = torch.tensor([[names.index(c), scenes.SHAPES.index(s)] for c, s in scenes.HELD_OUT])
    pairs = torch.stack([wanted.colour, wanted.shape], 2)  #                          (n, 2, 2)
    unseen = (pairs[:, :, None] == held).all(3).any(2).sum(1)
    assert (unseen == int(name.endswith("unseen"))).all()


def test_the_last_quarter_has_sentences_that_no_training_caption_has():
    said, wanted = evaluate.prompts("two", N)
    seed = evaluate.SEED + 1000
    usual = scenes.captions(wanted, seed, full=True)
    assert said[:150] == usual[:150]
    assert said[150:] == scenes.captions(wanted, seed, full=True, forms="held_out")[150:]
    assert all(a != b for a, b in zip(said[150:], usual[150:], strict=True))


def test_prompts_are_drawn_from_the_seed_and_from_no_seed_of_training():
    first, again, other = (evaluate.prompts("one", 50, seed) for seed in (0, 0, 1))
    assert first[0] == again[0] and first[0] != other[0]
    starts = {evaluate.SEED + 1000 * i + seed for i in range(4) for seed in range(10)}
    used = {value for room in (recipes, runs) for name, value in vars(room).items() if name.endswith("_SEED")}
    assert used and not starts & used
    with pytest.raises(UserError, match="set: got 'three'"):
        evaluate.prompts("three")


# --- what the pictures are worth


@pytest.mark.parametrize("name", evaluate.SETS)
def test_perfect_pictures_score_one(name):
    _, wanted = evaluate.prompts(name, N)
    row = evaluate.pictured(scenes.render(wanted), wanted)
    for key in ("all", "shape", "colour", "size", "background", "readable", "held-out forms"):
        assert row[key][0] == 1 and row[key][1] > 0.9, key
    assert ("place" in row) == name.startswith("one") and ("relation" in row) == name.startswith("two")
    assert row.get("place", row.get("relation"))[0] == 1
    assert ("wrong binding" in row) == ("wrong relation" in row) == name.startswith("two")
    assert row.get("wrong binding", [0])[0] == row.get("wrong relation", [0])[0] == 0
    assert abs(row["spread x"] - 1) < 0.02 and abs(row["spread y"] - 1) < 0.02


def changed(wanted, **columns):
    return scenes.Scenes(**(vars(wanted) | columns))


def test_exchanged_colours_are_a_wrong_binding_and_exchanged_places_a_wrong_relation():
    _, wanted = evaluate.prompts("two", 100)
    wanted = wanted[(wanted.colour[:, 0] != wanted.colour[:, 1]) & (wanted.size[:, 0] == wanted.size[:, 1])]
    row = evaluate.pictured(scenes.render(changed(wanted, colour=wanted.colour.flip(1))), wanted)
    assert row["wrong binding"][0] > 0.9 and row["all"][0] < 0.1
    row = evaluate.pictured(scenes.render(changed(wanted, x=wanted.x.flip(1), y=wanted.y.flip(1))), wanted)
    assert row["wrong relation"][0] > 0.9 and row["wrong binding"][0] < 0.1


@pytest.mark.parametrize("key", ["shape", "colour", "size", "background"])
def test_one_wrong_attribute_scores_zero_there_and_in_all(key):
    _, wanted = evaluate.prompts("one", 100)
    size = {"shape": 6, "colour": 8, "size": 2, "background": 4}[key]
    value = getattr(wanted, key)
    other = torch.where(value >= 0, (value + 1) % size, value)
    if key == "size":  # a large object where a small one was may leave the frame: move both inwards
        x, y = (torch.where(v > 0, v.clamp(0.25, 0.75), v) for v in (wanted.x, wanted.y))
        wanted = changed(wanted, x=x, y=y)
    row = evaluate.pictured(scenes.render(changed(wanted, **{key: other})), wanted)
    assert row[key][0] == 0 and row["all"][0] == 0
    for good in {"shape", "colour", "size", "background", "readable"} - {key}:
        assert row[good][0] > 0.95, good


def test_swapped_objects_have_the_wrong_relation():
    _, wanted = evaluate.prompts("two", 100)
    turned = changed(wanted, x=wanted.x.flip(1), y=wanted.y.flip(1))
    same = (wanted.size[:, 0] == wanted.size[:, 1]).nonzero()[:, 0]  # else they might touch the frame
    row = evaluate.pictured(scenes.render(turned[same]), wanted[same])
    assert row["relation"][0] == 0 and row["all"][0] == 0 and row["shape"][0] == 1


def test_pictures_of_other_prompts_and_noise_score_zero():
    _, wanted = evaluate.prompts("two", 100)
    row = evaluate.pictured(scenes.render(wanted).roll(1, 0), wanted)
    assert row["all"][0] < 0.02 and row["readable"][0] == 1
    grain = torch.rand(100, 3, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1
    row = evaluate.pictured(grain, wanted)
    assert row["readable"][0] == 0 and row["all"][0] == 0 and "spread x" not in row


def test_the_place_counts_only_where_the_prompt_states_it():
    _, wanted = evaluate.prompts("one", 400)
    stated = scenes.place(wanted)[:, 0] >= 0
    middle = torch.tensor([0.5, 0.0]).expand(400, 2)
    row = evaluate.pictured(scenes.render(changed(wanted, x=middle, y=middle)), wanted)
    in_the_centre = (scenes.place(wanted)[stated, 0] == 4).float().mean().item()
    assert row["place"][0] == pytest.approx(in_the_centre)
    assert row["all"][0] == pytest.approx(1 - (1 - in_the_centre) * stated.float().mean().item())


def test_spread_shows_a_collapse():
    _, wanted = evaluate.prompts("one", N)
    x = torch.where(wanted.x > 0, 0.5 + (wanted.x - 0.5) / 2, wanted.x)
    row = evaluate.spread(oracle.read(scenes.render(changed(wanted, x=x))), wanted)
    assert row["spread x"] == pytest.approx(0.5, abs=0.03)
    assert row["spread y"] == pytest.approx(1, abs=0.03)
    middle = torch.tensor([0.5, 0.0]).expand(N, 2)
    row = evaluate.spread(oracle.read(scenes.render(changed(wanted, x=middle, y=middle))), wanted)
    assert row["spread x"] < 0.03 and row["spread y"] < 0.03


# --- models


class Painter:
    """Stands in for text2img: draws what each prompt was drawn from, and forgets none."""

    def __init__(self, wrong=()):
        self.wanted, self.calls = {}, []
        for name in evaluate.SETS:
            said, wanted = evaluate.prompts(name, 12)
            self.wanted |= {prompt: wanted[i] for i, prompt in enumerate(said)}

    def __call__(self, pipe, prompt, steps, scale, sampler, noise, generator):
        assert len(noise) == len(prompt)
        self.calls.append((len(prompt), steps, scale, sampler, noise))
        return torch.cat([scenes.render(self.wanted[text]) for text in prompt])


def test_every_prompt_gets_one_picture_in_batches(monkeypatch):
    painter, steps = Painter(), []
    monkeypatch.setattr(evaluate, "text2img", painter)
    model = tiny.pipe()
    each = lambda done, total: steps.append((done, total))  # noqa: E731
    table = evaluate.evaluate(model, 12, steps=7, scale=2.5, sampler="euler", batch=5, each=each)
    assert list(table) == list(evaluate.SETS)
    assert all(row["all"][0] == 1 and row["seconds"] > 0 for row in table.values())
    assert [call[0] for call in painter.calls] == [5, 5, 2] * 4
    assert all(call[1:4] == (7, 2.5, "euler") for call in painter.calls)
    assert steps[0] == (5, 48) and steps[-1] == (48, 48)
    noise = torch.cat([call[4] for call in painter.calls[:3]])
    assert len({tuple(z.flatten().tolist()) for z in noise}) == 12  # every picture has a start of its own


def test_a_models_figures_do_not_depend_on_the_batch():
    model = tiny.pipe()
    tables = [evaluate.evaluate(model, 6, steps=2, sets=["two"], batch=batch) for batch in (6, 4)]
    for table in tables:
        assert table["two"].pop("seconds") > 0
    assert tables[0] == tables[1]


def test_a_model_without_prompts_is_asked_for_readable_pictures():
    torch.manual_seed(0)
    plain = {"context_dim": None, "transformer_layers": (0, 0), "mid_layers": 0}
    config = replace(tiny.UNET, in_channels=3, out_channels=3, **plain)
    model = LatentDiffusion(UNet(config), schedule=tiny.pipe().schedule, prediction="v", spacing="trailing").eval()
    table = evaluate.evaluate(model, 4, steps=2)
    assert table["unprompted"]["readable"][0] == 0 and set(table["unprompted"]) == {"readable", "seconds"}


class Perfect(VAE):
    """Gives back what it got, off by a known error."""

    def __init__(self, error=0.0):
        super().__init__(tiny.VAE_CONFIG)
        self.error = error

    def encode(self, pixels):
        return pixels, torch.zeros_like(pixels)

    def decode(self, z):
        sign = torch.where(z > 0, -1.0, 1.0)  # inwards, so that nothing is clamped
        return z + self.error * sign


def test_an_autoencoder_is_measured_by_psnr_and_by_the_oracle():
    table = evaluate.evaluate(Perfect(), 60, batch=32)
    assert set(table) == {"seen", "unseen"}
    assert all(row["all"][0] == 1 and row["PSNR in dB"] == math.inf for row in table.values())
    row = evaluate.evaluate(Perfect(0.02), 60)["seen"]
    assert row["PSNR in dB"] == pytest.approx(20 * math.log10(2 / 0.02), abs=1e-3)  # 40 dB
    torch.manual_seed(0)
    assert evaluate.evaluate(VAE(tiny.VAE_CONFIG).eval(), 20)["seen"]["all"][0] == 0


def test_digits_are_measured_on_the_test_split(monkeypatch):
    pictures = torch.rand(20, 1, 8, 8, generator=torch.Generator().manual_seed(0)) * 2 - 1
    monkeypatch.setattr(evaluate.data, "digits", {"test": (pictures, None)}.__getitem__)
    model = FlatVAE(latent=2, hidden=8)
    for parameter in model.parameters():
        parameter.data.zero_()  # it answers 0 and knows nothing: mean 0, variance 1
    row = evaluate.evaluate(model)["digits"]
    assert row["squared error"] == pytest.approx(pictures.square().mean().item(), rel=1e-5)
    assert row["PSNR in dB"] == pytest.approx(10 * math.log10(4 / row["squared error"]))
    assert row["KL in nats"] == 0


class Knows(Classifier):
    """Answers what `questions` says of the scenes that `evaluate` draws, but for a share of the first question."""

    def __init__(self, wrong):
        super().__init__(width=8, dim=4)
        self.wrong, self.asked = wrong, 0

    def forward(self, x):
        answers = questions(self.scenes[self.asked : self.asked + len(x)]) * 2 - 1
        self.asked += len(x)
        answers[: round(self.wrong * len(x)), 0] *= -1
        return answers


def test_a_classifier_is_asked_about_every_pair(monkeypatch):
    for name, held in (("seen", False), ("unseen", True)):
        model = Knows(0.3)
        model.scenes = scenes.draw(40, evaluate.SEED, held_out=held)
        monkeypatch.setattr(evaluate, "_SEEN", {name: held})
        row = evaluate.evaluate(model, 40)[name]
        assert row["all"] == oracle.wilson(28, 40)
        assert row["one"] == oracle.wilson(40 * QUESTIONS - 12, 40 * QUESTIONS)


def test_a_classifier_of_digits_reads_the_test_split(monkeypatch):
    pictures, labels = torch.zeros(20, 1, 8, 8), torch.arange(20) % 10
    monkeypatch.setattr(evaluate.data, "digits", {"test": (pictures, labels)}.__getitem__)
    model = Classifier(1, 10, (1, 1, 2), width=8, dim=4)
    for parameter in model.parameters():
        parameter.data.zero_()  # it says 0 whatever it sees
    assert evaluate.evaluate(model)["digits"]["right"] == oracle.wilson(2, 20)


class Reader(MiniCLIP):
    """Knows which caption belongs to which picture: their vectors point the same way, or, if wrong, never do."""

    def __init__(self, wrong=False):
        super().__init__(tiny.text(), dim=8, channels=8)
        self.sign = -1.0 if wrong else 1.0

    def pictures(self, x):
        return torch.ones(len(x), 2)

    def prompts(self, texts):
        true = len(texts) // 5
        return torch.tensor([[self.sign if i < true else 0.0] * 2 for i in range(len(texts))])


def test_a_clip_is_measured_by_its_hard_negatives():
    table = evaluate.evaluate(Reader(), 30, batch=20)
    assert set(table) == {"one", "two"}
    assert all(row["beats all four"][0] == row["beats one"][0] == 1 for row in table.values())
    assert all(row["beats one"][0] == 0 for row in evaluate.evaluate(Reader(wrong=True), 30).values())


def test_figures_are_ready_for_json(tmp_path):
    import json

    weights.save(tiny.pipe(), tmp_path)
    table = evaluate.figures(tmp_path, 4, steps=1, sets=["one"])
    assert json.loads(json.dumps(table)) == table
    share, low, high = table["one"]["all"]
    assert low <= share <= high


@pytest.mark.parametrize(
    "wrong, word",
    [({"n": 0}, "n: got 0"), ({"n": 2.5}, "n: got 2.5"), ({"batch": 0}, "batch"), ({"sets": ["three"]}, "'three'"),
     ({"steps": 0}, "steps: got 0"), ({"scale": math.nan}, "scale"), ({"sampler": "magic"}, "sampler: got 'magic'")],
)  # fmt: skip
def test_wrong_wishes_are_refused(wrong, word):
    with pytest.raises(UserError, match=word):
        evaluate.evaluate(tiny.pipe(), **({"n": 2, "sets": ["one"]} | wrong))


def test_other_models_are_refused():
    with pytest.raises(UserError, match="model: got 'Linear'"):
        evaluate.evaluate(torch.nn.Linear(1, 1))


@pytest.mark.parametrize("name", ["shapes/vae", "digits-vae", "clip", "digits-classifier", "pixel"])
def test_sets_of_prompts_are_for_models_with_prompts(name):
    with pytest.raises(UserError, match=r"sets: got \['one'\]; expected none"):
        evaluate.evaluate(weights.load(name), 2, sets=["one"])
