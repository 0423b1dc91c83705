"""Which of several pictures a model denoises best: whole things against cut ones, by the shipped model."""

import pytest
import torch

from minildm import scenes, tasks, weights
from minildm.files import UserError
from minildm.scenes import Scenes

N = 16


@pytest.fixture(scope="module")
def pipe():
    return weights.load("shapes")


@pytest.fixture(scope="module")
def drawn() -> Scenes:
    return scenes.draw(N, seed=910_000, objects=1)


@pytest.fixture(scope="module")
def said(drawn):
    return scenes.captions(drawn, 910_000, full=True)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def cut(drawn):
    """The scenes with the right half of their object painted over with the background."""
    whole = scenes.render(drawn)
    made = whole.clone()
    for picture, x in zip(made, drawn.x[:, 0].tolist(), strict=True):
        picture[:, :, round(x * 32) :] = picture[:, :1, :1]
    return whole, made


@pytest.mark.slow
def test_whole_things_are_likelier_than_cut_ones(pipe, drawn, said):
    whole, half = cut(drawn)
    for candidates in ([whole, half], [half, whole]):
        chosen = tasks.likeliest(pipe, said, candidates, seeded())
        right = [torch.equal(a, b) for a, b in zip(chosen, whole, strict=True)]
        assert sum(right) >= 15


@pytest.mark.slow
def test_what_the_prompt_says_is_likelier(pipe, drawn, said):
    others = scenes.render(drawn).flip(0)  # good pictures, of other prompts
    chosen = tasks.likeliest(pipe, said, [others, scenes.render(drawn)], seeded())
    right = [torch.equal(a, b) for a, b in zip(chosen, scenes.render(drawn), strict=True)]
    assert sum(right) >= 15


@pytest.mark.slow
def test_each_prompt_has_its_own_choice_and_equals_give_the_first(pipe, drawn, said):
    whole, half = cut(drawn)
    mixed = [torch.cat([whole[:8], half[8:]]), torch.cat([half[:8], whole[8:]])]
    one = tasks.likeliest(pipe, said, mixed, seeded())
    assert torch.equal(one, tasks.likeliest(pipe, said, [whole, half], seeded()))
    assert torch.equal(tasks.likeliest(pipe, said, [whole, whole], seeded()), whole)
    assert torch.equal(tasks.likeliest(pipe, said[0], [whole[:1]], seeded()), whole[:1])


@pytest.mark.parametrize(("prompt", "shapes", "named"), [
    ("a red ring", [], "candidates"), ("a red ring", [(1, 32, 32), (1, 32, 36)], "candidates"),
    (["a", "b", "c"], [(2, 32, 32)], "prompts"), (3, [(1, 32, 32)], "prompt"),
])  # fmt: skip
def test_what_cannot_be_compared_is_named(pipe, prompt, shapes, named):
    with pytest.raises(UserError, match=f"^{named}"):
        tasks.likeliest(pipe, prompt, [torch.zeros(b, 3, h, w) for b, h, w in shapes])
    with pytest.raises(UserError, match="^candidates: got 5"):
        tasks.likeliest(pipe, "a red ring", 5)
