"""The classifier whose states are features: what it is asked, and that it learns it."""

import pytest
import torch
from torchvision.models import Inception_V3_Weights, inception_v3
from torchvision.transforms.functional import normalize, resize

from minildm import metrics, readers
from minildm.features import QUESTIONS, Classifier, classifier_batch, inception, questions
from minildm.files import UserError
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
    states = model.trunk(x)
    assert torch.equal(model.head(states), model(x))
    spread = (states - states.mean(1, keepdim=True)) / states.var(1, correction=0, keepdim=True).add(1e-5).sqrt()
    torch.testing.assert_close(model.features(x), spread)


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


@pytest.fixture(scope="module")
def photographer(tmp_path_factory):
    """Torchvision's own network with random weights, as its users call it, and its file in a cache of torch's."""
    torch.manual_seed(0)
    network = inception_v3(init_weights=False, transform_input=True).eval()
    for layer in network.modules():
        if isinstance(layer, torch.nn.Conv2d):  # as it is, nothing of the picture would come out at the end
            torch.nn.init.kaiming_normal_(layer.weight)
    folder = tmp_path_factory.mktemp("hub")
    path = folder / "checkpoints" / Inception_V3_Weights.IMAGENET1K_V1.url.split("/")[-1]
    path.parent.mkdir()
    torch.save(network.state_dict(), path)
    network.fc = torch.nn.Identity()
    return network, folder, path


@pytest.mark.slow
@pytest.mark.parametrize("size", [(32, 32), (400, 320)])
def test_inception_is_torchvisions_on_what_torchvision_documents(photographer, size, monkeypatch):
    network, folder, path = photographer
    x = torch.rand(2, 3, *size, generator=torch.Generator().manual_seed(1)) * 2 - 1
    said = Inception_V3_Weights.IMAGENET1K_V1.transforms()
    ready = normalize(resize((x + 1) / 2, [299, 299], said.interpolation, antialias=True), said.mean, said.std)
    with torch.no_grad():
        wanted = network(ready)
    got = inception(path)(x)
    assert got.shape == (2, 2048) and not got.requires_grad
    apart = (wanted[0] - wanted[1]).norm()  # two pictures of noise differ little, and still by far more than rounding
    assert (got - wanted).norm() < 1e-3 * apart
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(folder))
    for download in (False, True):  # what is in the cache is not fetched
        assert torch.equal(inception(download=download)(x), got)


def test_inception_without_its_weights_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    with pytest.raises(UserError, match=r"got '.*inception_v3_google.*download=True$"):
        inception()
    torch.save({"fc.weight": torch.zeros(3)}, tmp_path / "other")
    (tmp_path / "broken").write_bytes(b"no weights")
    for name in ("other", "broken"):
        with pytest.raises(UserError, match=rf"{name}'; expected torchvision's inception_v3, unaltered$"):
            inception(tmp_path / name)
