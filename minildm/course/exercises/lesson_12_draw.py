"""Lesson 12, drawing: latents from a bell curve, and the whole loop of latent diffusion."""

from collections.abc import Callable
from itertools import pairwise

import torch
from torch import Tensor

from ...levels import Level
from . import Exercise, Wrong, expect, hint_for, near, seeded

# 12.gaussian

NO_MEAN = "With eps = 0 nothing is drawn, and what is left is the mean of the given latents. Add it."
OWN_NOISE = "The noise is given, `eps`: nothing to draw here. With eps = 0 the answer is the mean."
ONE_MEAN = "Every one of the c*h*w numbers has a mean of its own: `z.flatten(1).mean(0)`."
DIAGONAL = (
    "Each number has the right spread, but they are drawn independently. That neighbours go together is the "
    "whole point: use the matrix of all covariances, `torch.cov(z.flatten(1).T)`."
)
BY_CHANNEL = "One spread for each channel, and no place knows of another: each place has its own, and goes with others."
ROOT = (
    "You multiply by the covariance matrix, and the result has its square as covariance. As one number needs the "
    "standard deviation, many need a ROOT of the matrix: `torch.linalg.cholesky`."
)
TRANSPOSED = (
    "L L^T is the covariance, and L^T L is another matrix. Your draws are rows, so the factor is turned: "
    "`eps @ L.T` is (L eps^T)^T."
)
EACH_ROOT = "The root of a matrix is not the matrix of the roots. `torch.linalg.cholesky(cov)` gives L, L @ L.T = cov."
CENTRED = "This is the mean of z z^T, with the mean still in it. The covariance is that of z minus its mean."
NORMED = "Correlations are covariances with the spreads divided out: all these draws would have spread 1."
SHAPE = "Rows of c*h*w numbers are for the computing. At the end give them the shape of eps again: `.view(eps.shape)`."
COVARIANCE = "Their covariance should be that of the given latents, `torch.cov(z.flatten(1).T)`."


def known() -> Tensor:
    """400 latents (400, 2, 3, 3) that have a mean, and whose neighbours and channels go together."""
    g = seeded(0)
    d = 18
    mix = torch.randn(d, d, generator=g) * 0.4 + torch.tril(torch.ones(d, d)) * 0.5
    return (torch.randn(400, d, generator=g) @ mix.T + torch.linspace(-2, 3, d)).view(400, 2, 3, 3)


def has_mean_and_covariance(fn: Callable) -> None:
    z = known()
    flat = z.flatten(1)
    mean, cov, d = flat.mean(0), torch.cov(flat.T), flat.shape[1]
    zero = torch.zeros(5, 2, 3, 3)
    want = mean.view(1, 2, 3, 3).expand(5, -1, -1, -1)
    got = fn(z, zero)
    if isinstance(got, Tensor) and got.shape == (5, 18):
        expect(got, want, "400 latents and eps = 0: imitate", SHAPE)
    slips = [(zero, NO_MEAN), (flat.mean().expand(5, 2, 3, 3), ONE_MEAN),
             (z.mean((0, 2, 3)).view(1, 2, 1, 1).expand(5, 2, 3, 3), ONE_MEAN)]  # fmt: skip
    if isinstance(got, Tensor) and got.isnan().any():
        raise Wrong("400 latents and eps = 0: imitate gives nan, which is no number", EACH_ROOT)
    hint = hint_for(got, slips, OWN_NOISE if isinstance(got, Tensor) and not near(got, fn(z, zero)) else NO_MEAN)
    expect(got, want, "400 latents and eps = 0: imitate", hint)
    # one 1 among zeros after another: the sum over these draws is the covariance of all draws, whatever root is used
    ones = torch.eye(d).view(d, 2, 3, 3)
    got = fn(z, ones)
    if not isinstance(got, Tensor) or got.shape != ones.shape:
        expect(got, ones, "400 latents and eps = 18 unit vectors: imitate")  # says what came
    made = (got - want[:1]).flatten(1).double()
    made = made.T @ made
    off = (made - cov).abs().max() / cov.abs().max()
    if not off < 0.01:  # so that nan is off, too
        lower = torch.linalg.cholesky(cov).double()
        second, channel = flat.T @ flat / len(flat), z.var((0, 2, 3)).repeat_interleave(9)
        slips = [
            (cov.diag().diag(), DIAGONAL), (channel.diag(), BY_CHANNEL), (cov @ cov, ROOT),
            (lower.T @ lower, TRANSPOSED), (second, CENTRED), (torch.corrcoef(flat.T), NORMED),
        ]  # fmt: skip
        hint = hint_for(made, [(slip.double(), hint) for slip, hint in slips], COVARIANCE, 0.02)
        at = (made - cov).abs().nan_to_num(torch.inf).argmax().item()
        i, j = divmod(at, d)
        raise Wrong(f"The covariance of numbers {i} and {j} of the draws would be {made[i, j]:.3f}; "
                    f"in the given latents it is {cov[i, j]:.3f}", hint)  # fmt: skip


# 12.whole

SWAPPED = "The two are exchanged: start from the answer WITHOUT the sentence and go towards the one with it."
MINUS_ONE = (
    "This is the guidance of a scale one larger or smaller. Here scale 1 is the sentence taken as it is: "
    "plain + scale * (wanted - plain)."
)
NO_GUIDANCE = "The scale does nothing. Ask both denoisers at every step, and exaggerate how their answers differ."
OLD_LEVEL = "Both put together again at the NEXT level, the lower one: below.alpha and below.sigma."
NEW_LEVEL = (
    "The noise in z is what is left at the level where z IS: (z - level.alpha * z0) / level.sigma. At the level below, "
    "sigma may even be 0."
)
JUMPED = (
    "The first guess was taken for the answer. It is only a guess from nearly pure noise; go a step towards it, "
    "and ask again."
)
FIRST_NOISE = (
    "The noise that the loop began with is added again at every step. But z and the guess have changed since: work out "
    "from them what noise is left NOW."
)
MULTIPLIED = "Before decoding the latents are DIVIDED by the factor: 12.pair."
UNSCALED = "The loop works in scaled latents. Divide by the factor before the decoder sees them."
NOT_CLAMPED = "What comes out of a decoder may overshoot: `.clamp(-1, 1)`, as in 12.pair."
ASKED = "A network's answer is what costs. Ask each once a step, and keep the answer: `without = plain(z, level)`."
REVERSED = "Start at the noisiest row, the first of `rows`: z is pure noise, and clean latents come last."
TO_THE_END = "At the last row z is clean and nobody is asked. The steps are PAIRS of neighbours: `pairwise(rows)`."
DICE = "No dice in this loop: the same z gives the same picture. The noise is worked out from z and the guess."
LATENTS = "These are latents. Divide by the factor, decode, clamp: a picture is wanted."
NO_ALPHA = "z holds alpha * z0, not z0: the noise left is (z - level.alpha * z0) / level.sigma."
NO_NOISE = "The guess was taken for the next z. At the level below z still has noise: below.sigma times what was left."
ORDER = "guess (both), guidance, noise that is left, both again at the level below; after the last row, decode."

ROWS = [Level(900.0, 0.1, 0.995), Level(600.0, 0.5, 0.866), Level(300.0, 0.8, 0.6), Level(0.0, 1.0, 0.0)]
SHRINK = 0.4  # the factor of the check's decoder


def decoded(z: Tensor) -> Tensor:
    return torch.nn.functional.interpolate(0.6 * z - 0.1 * z**2, scale_factor=2.0)


def painted(plain, wanted, z, scale, *, jump=False, old=False, new=False, first=False, bare=False, none=False):
    """The latents at the end, and what some mistakes in the loop make of them."""
    start = z
    for level, below in pairwise(ROWS):
        a = plain(z, level)
        z0 = a + scale * (wanted(z, level) - a)
        if jump:
            return z0
        at = below if new else level
        eps = start if first else (z - (1 if bare else at.alpha) * z0) / max(at.sigma, 1e-9)
        to = level if old else below
        z = z0 if none else to.alpha * z0 + to.sigma * eps
    return z


def walks_as_ddim_does(fn: Callable) -> None:
    z = torch.randn(2, 4, 3, 3, generator=seeded(1))
    calls = []

    def plain(x, level):
        calls.append(("plain", level))
        return 0.3 * x - 0.2

    def wanted(x, level):
        calls.append(("wanted", level))
        return 0.5 * x.roll(1, -1) * level.alpha + 0.4

    def finish(x: Tensor) -> Tensor:
        return decoded(x / SHRINK).clamp(-1, 1)

    for scale in (3.0, 1.0, 0.0):
        calls.clear()
        got = fn(plain, wanted, decoded, SHRINK, z, ROWS, scale)
        asked = [level for _, level in calls]
        end = painted(plain, wanted, z, scale)
        shifted = [painted(plain, wanted, z, s) for s in (scale - 1, scale + 1)]
        slips = [
            *((finish(s), MINUS_ONE) for s in shifted), (finish(painted(wanted, plain, z, scale)), SWAPPED),
            *((finish(painted(plain, wanted, z, one)), NO_GUIDANCE) for one in (1.0, 0.0)),
            (finish(painted(plain, wanted, z, scale, jump=True)), JUMPED),
            (finish(painted(plain, wanted, z, scale, old=True)), OLD_LEVEL),
            (finish(painted(plain, wanted, z, scale, first=True)), FIRST_NOISE),
            (finish(painted(plain, wanted, z, scale, new=True)), NEW_LEVEL),
            (finish(painted(plain, wanted, z, scale, bare=True)), NO_ALPHA),
            (finish(painted(plain, wanted, z, scale, none=True)), NO_NOISE), (end, LATENTS),
            (decoded(end * SHRINK).clamp(-1, 1), MULTIPLIED), (decoded(end).clamp(-1, 1), UNSCALED),
            (decoded(end / SHRINK), NOT_CLAMPED),
        ]  # fmt: skip
        call = f"Two simple denoisers, 3 steps, scale {scale:g}: paint"
        want = finish(end)
        slips = [(slip, hint) for slip, hint in slips if not near(slip, want)]
        bad = isinstance(got, Tensor) and not got.isfinite().all()
        hint = hint_for(got, slips, NEW_LEVEL if bad else ORDER)
        if asked and asked[0] != ROWS[0]:
            hint = REVERSED
        elif ROWS[-1] in asked:
            hint = TO_THE_END
        elif hint == ORDER and near(got, got) and not near(fn(plain, wanted, decoded, SHRINK, z, ROWS, scale), got):
            hint = DICE
        if isinstance(got, Tensor) and got.shape == z.shape:
            hint = LATENTS
        expect(got, want, call, hint)
    if len(asked) > 6:
        raise Wrong(f"Right, but 3 steps asked the denoisers {len(asked)} times in all; 6 are needed", ASKED)


@torch.no_grad()
def paints_with_the_shipped_model(fn: Callable) -> None:
    from ... import tasks, weights

    pipe = weights.load("shapes")
    prompt, steps = "a large red circle on a white background", 4
    noise = torch.randn(1, *pipe.latent_shape(), generator=seeded(0))
    plain, wanted = (tasks.prompted(pipe, [text], None, 1.0) for text in ("", prompt))
    got = fn(plain, wanted, pipe.vae.decode, pipe.vae.config.scaling_factor, noise, pipe.rows(steps, "ddim"), 3.0)
    theirs = tasks.text2img(pipe, prompt, steps=steps, scale=3.0, noise=noise)
    if not isinstance(got, Tensor) or got.shape != theirs.shape or not (got - theirs).abs().max() < 0.02:
        expect(got, theirs, f"The shipped model, {steps} steps, beside tasks.text2img: paint", ORDER)


EXERCISES = (
    Exercise("12.gaussian", (
        "Lay each latent out as a row of c*h*w numbers: `flat = z.flatten(1)`. It has a mean and a covariance matrix.",
        "One number is drawn as mean + std * eps. Many: the mean, plus eps times a ROOT of the covariance matrix.",
        "`L = torch.linalg.cholesky(torch.cov(flat.T))`; then mean + eps.flatten(1) @ L.T, in the shape of eps.",
    ), (has_mean_and_covariance,)),
    Exercise("12.whole", (
        "`for level, below in pairwise(rows):` and in it four lines: two guesses, guidance, noise left, both again.",
        "Guidance: plain + scale * (wanted - plain). Noise left: solve z = alpha * z0 + sigma * eps for eps.",
        "After the loop: decode(z / factor).clamp(-1, 1). In the loop, last: z = below.alpha * z0 + below.sigma * eps.",
    ), (walks_as_ddim_does, paints_with_the_shipped_model), seconds=15.0),
)  # fmt: skip
