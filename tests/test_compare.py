"""check.same: right functions pass however they are written, and each slip is told by its name."""

import math

import pytest
import torch

from minildm import blocks, denoise, layers, levels, sample, train, unet, vae
from minildm.course import check
from minildm.course.makers import MAKERS
from minildm.files import UserError


def column(value, x):
    return value.view(-1, 1, 1, 1) if isinstance(value, torch.Tensor) else value


def my_target(x0, eps, level, prediction):
    alpha, sigma = column(level.alpha, x0), column(level.sigma, x0)
    return {"eps": eps, "x0": x0, "flow": eps - x0, "v": alpha * eps - sigma * x0}[prediction]


def my_ddim(denoise, x, rows):
    for row, below in zip(rows, rows[1:], strict=False):
        x0 = denoise(x, row)
        x = below.alpha * x0 + below.sigma * (x - row.alpha * x0) / row.sigma
        yield x


def my_linear(steps, beta_start=1e-4, beta_end=0.02):
    betas = torch.linspace(beta_start, beta_end, steps, dtype=torch.float64)
    alpha_bar = torch.cumprod(1 - betas, 0)
    return alpha_bar.sqrt(), (1 - alpha_bar).sqrt()


def my_embedding(t, dim):
    angle = t[:, None] * 10000 ** (-torch.arange(dim // 2) / (dim // 2))
    return torch.cat([angle.cos(), angle.sin()], 1)


def my_kl(mean, logvar):
    return 0.5 * (mean**2 + logvar.exp() - 1 - logvar).flatten(1).sum(1)


def my_rate(fraction):
    return fraction / 0.03 if fraction < 0.03 else (1 + math.cos(math.pi * (fraction - 0.03) / 0.97)) / 2


@pytest.mark.parametrize("fn", MAKERS, ids=lambda fn: fn.__name__)
def test_every_registered_function_is_itself(fn, capsys):
    check.same(fn, fn)
    assert "largest difference 0 on " in capsys.readouterr().out


RIGHT = {my_target: denoise.target, my_ddim: sample.ddim, my_linear: levels.linear, my_kl: vae.kl_divergence,
         my_embedding: layers.timestep_embedding, my_rate: train.learning_rate}  # fmt: skip


def said(capsys):
    """What was printed, as one line: long ones are wrapped."""
    return " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize("mine", RIGHT, ids=lambda fn: fn.__name__)
def test_other_ways_of_writing_it_pass(mine, capsys):
    assert check.same(mine, RIGHT[mine]) is None
    out = said(capsys)
    assert out.startswith(f"✓ {mine.__name__} is ") and out.count("✓") == 1
    assert ("yours takes no generator and eta" in out) == (mine is my_ddim)


def no_view(x0, eps, level, prediction):
    return level.alpha * eps - level.sigma * x0 if prediction == "v" else my_target(x0, eps, level, prediction)


def halved(mean, logvar):
    return my_kl(mean, logvar) / 2


def averaged(mean, logvar):
    return 0.5 * (mean**2 + logvar.exp() - 1 - logvar).flatten(1).mean(1)


def over_all(mean, logvar):
    return my_kl(mean, logvar).mean()


def per_value(mean, logvar):
    return 0.5 * (mean**2 + logvar.exp() - 1 - logvar)


def single(mean, logvar):
    return my_kl(mean.float(), logvar.float())


def single_inside(mean, logvar):
    return my_kl(mean.float(), logvar.float()).to(mean)


def in_place(mean, logvar):
    return my_kl(mean.add_(1), logvar) if len(mean) > 1 else my_kl(mean, logvar)


def in_place_but_right(mean, logvar):
    return 0.5 * (mean.square_() + logvar.exp() - 1 - logvar).flatten(1).sum(1)


def off_by_half(mean, logvar):
    return my_kl(mean, logvar) + 0.5


def nothing(mean, logvar):
    print(my_kl(mean, logvar))


def array(mean, logvar):
    return my_kl(mean, logvar).numpy()


def squared(steps):
    return [part**2 for part in my_linear(steps)]


def backwards(steps):
    return [part.flip(0) for part in my_linear(steps)]


def last_state(denoise, x, rows):
    return [*my_ddim(denoise, x, rows)][-1]


def turned(x0, eps, level, prediction):
    return -my_target(x0, eps, level, prediction)


def sideways(x0, eps, level, prediction):
    return my_target(x0, eps, level, prediction).mT


WRONG = [
    (no_view, denoise.target, "(b, 1, 1, 1)"), (halved, vae.kl_divergence, "0.5 times as much"),
    (averaged, vae.kl_divergence, "a mean in the place of a sum"), (over_all, vae.kl_divergence, "over the batch too"),
    (per_value, vae.kl_divergence, "a sum that is missing"), (single, vae.kl_divergence, "another dtype"),
    (single_inside, vae.kl_divergence, "float32 on the way"), (in_place_but_right, vae.kl_divergence, "`x += 1`"),
    (off_by_half, vae.kl_divergence, "+0.5 everywhere"), (nothing, vae.kl_divergence, "`return`"),
    (array, vae.kl_divergence, "left torch"), (squared, levels.linear, "alpha-bar is alpha squared"),
    (backwards, levels.linear, "reversed"), (last_state, sample.ddim, "every state"),
    (turned, denoise.target, "the sign"), (sideways, denoise.target, "transposed"),
    (in_place, vae.kl_divergence, "instead of"),
]  # fmt: skip


@pytest.mark.parametrize("mine, theirs, cause", WRONG, ids=lambda value: getattr(value, "__name__", ""))
def test_a_slip_is_told_with_its_input_and_its_cause(mine, theirs, cause, capsys):
    with pytest.raises(AssertionError) as error:
        check.same(mine, theirs)
    told = said(capsys)
    told = told[told.index("✗") :]  # what it printed itself comes first
    assert told == str(error.value) and told.startswith(f"✗ {mine.__name__} is not ")
    assert cause in told and f", for {mine.__name__}(" in told and ", input " in told
    assert len(told) < 500


class MyAttention(layers.Attention):
    def forward(self, x, context=None):
        heads = [
            (q @ k.mT / math.sqrt(q.shape[-1])).softmax(self.axis) @ v
            for q, k, v in zip(*(y.chunk(self.heads, -1) for y in self.asked(x, context)), strict=True)
        ]
        return self.to_out[0](torch.cat(heads, -1))

    def asked(self, x, context):
        context = x if context is None else context
        return self.to_q(x), self.to_k(context), self.to_v(context)

    axis = -1


class WrongAxis(MyAttention):
    axis = -2


class NoBias(MyAttention):
    def __init__(self, *args):
        super().__init__(*args)
        self.to_out = torch.nn.ModuleList([torch.nn.Linear(args[0], args[0], bias=False)])


class WrongEps(unet.UNet):
    def __init__(self, config):
        super().__init__(config)
        for module in self.modules():
            if isinstance(module, blocks.Transformer):
                module.norm.eps = 1e-5


def test_networks_are_compared_with_the_same_weights(capsys):
    before = torch.random.get_rng_state()
    check.same(MyAttention, layers.Attention)
    assert capsys.readouterr().out.startswith("✓ MyAttention is layers.Attention: ")
    assert torch.equal(before, torch.random.get_rng_state())
    with pytest.raises(AssertionError, match=r"WrongAxis\(\(8, 2\), \(float32 \(1, 5, 8\)\)\), input 1 of 12"):
        check.same(WrongAxis, layers.Attention)
    with pytest.raises(RuntimeError, match="to_out.0.bias"):
        check.same(NoBias, layers.Attention)
    with pytest.raises(AssertionError, match="WrongEps is not unet.UNet"):
        check.same(WrongEps, unet.UNet)


def test_what_it_raises_comes_with_the_input():
    with pytest.raises(ZeroDivisionError) as error:
        check.same(lambda fraction: 1 / 0, train.learning_rate)
    assert error.value.__notes__ == ["in <lambda>(0), input 1 of 25"]


def test_mistakes_of_its_caller():
    with pytest.raises(UserError, match="levels.linear, "):
        check.same(abs, abs)
    with pytest.raises(UserError, match="generator among them"):
        check.same(lambda mean, logvar: mean, vae.sample_latent)


def test_values_agree_or_say_how_far_they_are_apart(capsys):
    check.agree("a half", torch.tensor([0.5, 0.25]), torch.tensor([0.5, 0.25 + 2**-20]))
    assert capsys.readouterr().out == "a half: the same (largest difference 1e-06)\n"
    for mine in (torch.tensor([0.5, 0.26]), torch.tensor([0.5, math.nan])):
        with pytest.raises(AssertionError, match="a half: not the same"):
            check.agree("a half", mine, torch.tensor([0.5, 0.25]))
    with pytest.raises(AssertionError, match="where 1e-09 is allowed"):
        check.agree("numbers", 1.0, 1.0 + 1e-8, within=1e-9)
