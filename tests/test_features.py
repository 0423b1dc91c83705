"""The classifier whose states are features: what it is asked, and that it learns it."""

import pytest
import torch

from minildm import metrics, readers
from minildm.features import QUESTIONS, Classifier, classifier_batch, questions
from minildm.scenes import COLOURS, HELD_OUT, SHAPES, SIZES, draw, render
from minildm.train import EMA, fit


def test_questions_are_answered_as_the_scene_says():
    scenes = draw(50, seed=3)
    answers = questions(scenes)
    assert answers.shape == (50, QUESTIONS) and set(answers.unique().tolist()) == {0.0, 1.0}
    widths = (len(COLOURS) * len(SHAPES), len(SHAPES) * len(SIZES), 9, 4, 1)
    pairs, sizes, places, ground, second = answers.split(widths, 1)
    for i in range(50):
        objects = range(int(scenes.count[i]))
        at = {(int(scenes.colour[i, k]), int(scenes.shape[i, k])) for k in objects}
        assert {divmod(j, len(SHAPES)) for j in pairs[i].nonzero()[:, 0].tolist()} == at
        at = {(int(scenes.shape[i, k]), int(scenes.size[i, k])) for k in objects}
        assert {divmod(j, len(SIZES)) for j in sizes[i].nonzero()[:, 0].tolist()} == at
        at = {(int(3 * scenes.y[i, k]), int(3 * scenes.x[i, k])) for k in objects}
        assert {divmod(j, 3) for j in places[i].nonzero()[:, 0].tolist()} == at
    assert torch.equal(ground.argmax(1), scenes.background) and (ground.sum(1) == 1).all()
    assert torch.equal(second[:, 0], (scenes.count == 2).float())


def test_a_judge_is_shown_every_pair():
    names = list(COLOURS), list(SHAPES)
    seen = torch.cat([classifier_batch(4, step)[1] for step in range(20)]).sum(0)[: len(COLOURS) * len(SHAPES)]
    held = [names[0].index(colour) * len(SHAPES) + names[1].index(shape) for colour, shape in HELD_OUT]
    assert (seen > 0).all() and seen[held].sum() > seen.sum() / 5


@pytest.mark.parametrize(("size", "how"), [(32, {}), (8, {"channels": 1, "answers": 10, "strides": (1, 1, 2)})])
def test_shapes(size, how):
    model = Classifier(**how)
    x = torch.zeros(3, model.channels, size, size)
    assert model.features(x).shape == (3, model.dim) and model(x).shape == (3, model.answers)
    assert torch.equal(model.head(model.features(x)), model(x))


@pytest.mark.slow
def test_both_learn_and_their_features_tell_worlds_apart():
    digits = readers.digits_classifier_run()
    before = digits.check(digits.model)
    for _ in fit(digits.model, digits.loss, steps=150, lr=digits.lr, autocast=digits.autocast):
        pass
    assert digits.check(digits.model) < before / 4

    torch.manual_seed(0)
    run = readers.classifier_run(batch=64)
    ema = EMA(run.model, 0.95)
    before = run.check(run.model)
    for _ in fit(run.model, run.loss, steps=120, lr=run.lr, ema=ema):
        pass
    assert run.check(ema.model) < before / 3
    with torch.no_grad():
        sets = (draw(300, seed=1, objects=1), draw(300, seed=2, objects=1), draw(300, seed=3, objects=2))
        one, again, two = (ema.model.features(render(scenes)) for scenes in sets)
    assert metrics.frechet(one, two) > 1.5 * metrics.frechet(one, again)
