"""From a network to a denoiser: a function denoise(x, level) -> x0.

A network may be trained to predict any of four things about x = alpha * x0 + sigma * eps:

    "eps"   the noise                                  (Ho et al. 2020, arXiv 2006.11239, eq. 14)
    "x0"    the clean picture
    "v"     alpha * eps - sigma * x0                   (Salimans & Ho 2022, arXiv 2202.00512, appendix D)
    "flow"  eps - x0, the velocity of a straight path  (Esser et al. 2024, arXiv 2403.03206)

Each is a mix of x0 and eps, so with x and the level known each gives x0, and all the others. The loss uses
`target`; sampling uses `denoiser`, and never learns what the network predicts. The rules hold on any rows,
variance-preserving or not.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from .files import UserError
from .levels import Denoiser, Level

PREDICTIONS = ("eps", "v", "x0", "flow")
FRAMES = ("vp", "flow")
STEEPEST = 20  # sigma / alpha from which a factor of guidance grows no more; published tables begin at 15


def target(x0: Tensor, eps: Tensor, level: Level, prediction: str) -> Tensor:
    """What a network with this prediction should answer; x0, eps and the result have one shape (b, ...)."""
    _check(prediction)
    if prediction == "eps":
        return eps
    if prediction == "x0":
        return x0
    if prediction == "flow":
        return eps - x0
    return _column(level.alpha, x0) * eps - _column(level.sigma, x0) * x0


def to_x0(out: Tensor, x: Tensor, level: Level, prediction: str) -> Tensor:
    """The clean picture that a network's answer `out` at x (b, ...) stands for.

    Raises UserError for an eps answer at pure noise (a float alpha of 0): x then says nothing about x0.
    """
    _check(prediction)
    alpha, sigma = _column(level.alpha, x), _column(level.sigma, x)
    if prediction == "x0":
        return out
    if prediction == "v":
        return (alpha * x - sigma * out) / (alpha**2 + sigma**2)
    if prediction == "flow":
        return (x - sigma * out) / (alpha + sigma)
    if not isinstance(alpha, Tensor) and alpha == 0:
        raise UserError("prediction at pure noise (alpha = 0)", prediction, "one of v, x0, flow")
    return (x - sigma * out) / alpha


def to_output(x0: Tensor, x: Tensor, level: Level, prediction: str) -> Tensor:
    """The inverse of `to_x0`: the answer at x (b, ...) that stands for this x0.

    Raises UserError if the level is clean (a float sigma of 0) and the prediction is not x0: x then says
    nothing about eps.
    """
    _check(prediction)
    if prediction == "x0":
        return x0
    alpha, sigma = _column(level.alpha, x), _column(level.sigma, x)
    if not isinstance(sigma, Tensor) and sigma == 0:
        raise UserError("prediction at a clean level (sigma = 0)", prediction, "x0")
    return target(x0, (x - alpha * x0) / sigma, level, prediction)


def denoiser(
    network: Callable[..., Tensor],
    prediction: str,
    frame: str | None = None,
    dtype: torch.dtype | None = None,
    **condition: object,
) -> Denoiser:
    """Wrap network(x, t, **condition) as denoise(x, level) -> x0, all pictures (b, ...).

    t reaches the network as a float32 tensor (b,), whether the level holds floats or tensors. `frame` says
    on which rows the network was trained: "vp" (alpha^2 + sigma^2 = 1) or "flow" (alpha + sigma = 1); by
    default "flow" for a flow prediction, else "vp". x is divided accordingly, so any rescaled rows give the
    same x0 and native rows are left as they are. With `dtype` (say bfloat16) x and the tensors of
    `condition` are cast for the call; the answer is cast back, so the sampler's state keeps its own dtype.
    Raises UserError for an unknown prediction or frame, and where `to_x0` does.
    """
    _check(prediction)
    frame = frame or ("flow" if prediction == "flow" else "vp")
    if frame not in FRAMES:
        raise UserError("frame", frame, "one of " + ", ".join(FRAMES))
    if dtype is not None:
        condition = {name: _cast(value, dtype) for name, value in condition.items()}

    def denoise(x: Tensor, level: Level) -> Tensor:
        alpha, sigma = level.alpha, level.sigma
        size = (alpha**2 + sigma**2) ** 0.5 if frame == "vp" else alpha + sigma
        x = x / _column(size, x)
        level = Level(level.t, alpha / size, sigma / size)
        # t stays float32 whatever the network's dtype: bfloat16 cannot tell 999 from 1000.
        t = torch.as_tensor(level.t, dtype=torch.float32, device=x.device).expand(len(x))  #             (b,)
        out = network(x if dtype is None else x.to(dtype), t, **condition)
        return to_x0(out.to(x.dtype), x, level, prediction)

    return denoise


def guided(
    cond: Denoiser, uncond: Denoiser, scale: float, rescale: float = 0.0, prediction: str | None = None
) -> Denoiser:
    """Classifier-free guidance: uncond + scale * (cond - uncond), so 0 ignores the condition and 1 obeys it.

    Ho & Salimans 2022 (arXiv 2207.12598), eq. 6, with scale = 1 + w; mixing x0 mixes eps or v alike.
    `rescale` in 0..1 brings the spread of the guided answer back towards the conditional one's, against
    washed-out colours (Lin et al. 2023, arXiv 2305.08891, section 3.4). It acts on the network's own
    output and therefore needs `prediction`: UserError without.
    """
    if rescale:
        _check(prediction)

    def denoise(x: Tensor, level: Level) -> Tensor:
        wanted, plain = cond(x, level), uncond(x, level)
        x0 = plain + scale * (wanted - plain)
        if rescale:
            out = to_output(x0, x, level, prediction)
            spread = _spread(to_output(wanted, x, level, prediction)) / _spread(out)
            x0 = to_x0(out * (1 + rescale * (spread - 1)), x, level, prediction)
        return x0

    return denoise


def steered(denoise: Denoiser, log_prob: Callable[[Tensor, Level], Tensor], scale: float) -> Denoiser:
    """Guidance by a slope: denoise + scale * sigma^2 / alpha * d log_prob / dx, so 0 changes nothing.

    `log_prob(x, level)` gives one number for each noisy picture, (b, ...) -> (b,), say log p(y | x) of a classifier
    (Dhariwal & Nichol 2021, arXiv 2105.05233: there the noise is moved, eps - scale * sigma * slope), and torch can
    differentiate it. Works under `torch.no_grad`, where samplers run.
    Raises UserError at pure noise (a float alpha of 0): no x0 follows from a slope there.
    """

    def moved(x: Tensor, level: Level) -> Tensor:
        if not isinstance(level.alpha, Tensor) and level.alpha == 0:
            raise UserError("level", "pure noise (alpha = 0)", "rows that begin in a trace of the picture")
        with torch.enable_grad():
            probe = x.detach().requires_grad_()
            # the slope of the sum is each picture's own: no picture looks at another
            (uphill,) = torch.autograd.grad(log_prob(probe, level).sum(), probe)
        return denoise(x, level) + scale * _column(level.sigma**2 / level.alpha, x) * uphill

    return moved


def halves(both: Denoiser) -> tuple[Denoiser, Denoiser]:
    """The two denoisers inside one of twice as many pictures, for `guided`: one call of the network answers for both.

    `both` was given two conditions, one for each half of its pictures.
    """
    last: list = [None, None, ()]  # what was asked, and the two answers

    def half(i: int) -> Denoiser:
        def denoise(x: Tensor, level: Level) -> Tensor:
            if last[0] is not x or last[1] is not level:
                last[:] = x, level, both(torch.cat([x, x]), level).chunk(2)
            return last[2][i]

        return denoise

    return half(0), half(1)


def clamped(denoise: Denoiser, lo: float, hi: float) -> Denoiser:
    """A denoiser whose x0 stays in lo..hi; for models of pixels, whose range is known (-1..1)."""
    return lambda x, level: denoise(x, level).clamp(lo, hi)


def keep(denoise: Denoiser, x0: Tensor, mask: Tensor, eps: Tensor, start: float) -> Denoiser:
    """A denoiser that knows x0 (b, c, h, w) where `mask` (b, 1, h, w) is 0, and answers by `denoise` where it is 1.

    Before each call the known part of x becomes alpha * x0 + sigma * eps, so that the network sees around the hole
    what it would see there at this level. Only at time `start`, that of the first row, x stays as the caller began
    it: with pure noise, as published pipelines do, or with the same mix. The known part of the answer is x0 itself, so
    any sampler that ends on a clean row ends at x0 there. Lugmayr et al. 2022 (arXiv 2201.09865) fill holes so with a
    model that never saw one, and go back and forth besides, which this does not.
    """

    def kept(x: Tensor, level: Level) -> Tensor:
        if level.t != start:
            x = torch.where(mask > 0, x, level.alpha * x0 + level.sigma * eps)
        return torch.where(mask > 0, denoise(x, level), x0)

    return kept


def reconstructing(denoise: Denoiser, x0: Tensor, mask: Tensor, weight: float = 1.0) -> Denoiser:
    """Reconstruction guidance: the network itself is to find x0 (b, c, h, w) where `mask` (b, 1, h, w) is 0.

    `keep` overrules the answer there, and the hole never hears of it. Here the whole answer moves along the slope of
    log p(x0 | x), by weight * sigma^2 / alpha of it (Ho et al. 2022, arXiv 2204.03458). p is normal about the answer.
    Its variance is what x leaves of a variance of 1, sigma^2 / (alpha^2 + sigma^2) (Song et al. 2023, ICLR); Ho et al.
    take sigma^2 / alpha^2, so their weights are not these. From STEEPEST on the factor grows no more. Rows are floats.
    Costs a gradient through the network: twice the time, and memory as in training. Works under `torch.no_grad`, not
    under `torch.inference_mode`.
    """

    def moved(x: Tensor, level: Level) -> Tensor:
        with torch.enable_grad():
            probe = x.detach().requires_grad_()
            answer = denoise(probe, level)
            missed = torch.where(mask > 0, 0, answer - x0).square().sum() / 2  # no picture looks at another
            (slope,) = torch.autograd.grad(missed, probe)
        factor = (level.alpha**2 + level.sigma**2) / max(level.alpha, level.sigma / STEEPEST)
        return answer.detach() - weight * factor * slope

    return moved


def beside(network: Callable[..., Tensor], given: Tensor) -> Callable[..., Tensor]:
    """A network that is shown `given` (b, c, h, w) beside x, as further channels: called like the network itself.

    x may hold a multiple of b pictures, as guidance asks for: `given` is repeated.
    """

    def called(x: Tensor, t: Tensor, **condition: object) -> Tensor:
        repeated = given.to(x.dtype).repeat(len(x) // len(given), 1, 1, 1)
        return network(torch.cat([x, repeated], dim=1), t, **condition)

    return called


def _check(prediction: str | None) -> None:
    if prediction not in PREDICTIONS:
        raise UserError("prediction", prediction, "one of " + ", ".join(PREDICTIONS))


def _cast(value: object, dtype: torch.dtype) -> object:
    return value.to(dtype) if isinstance(value, Tensor) and value.is_floating_point() else value


def _column(value: float | Tensor, x: Tensor) -> float | Tensor:
    """A float as it is; a tensor (b,) made to multiply x (b, ...)."""
    return value.view(-1, *[1] * (x.ndim - 1)) if isinstance(value, Tensor) else value


def _spread(out: Tensor) -> Tensor:
    return out.std(dim=list(range(1, out.ndim)), keepdim=True)  #                              (b, 1, ...)
