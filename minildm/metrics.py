"""How like the world a model's pictures are, and how sure one can be of it: statistics of features, by any network.

"real" are features (n, d) of pictures of the world, "made" (m, d) those of a model's pictures. All is computed in
float64. A `Figure` is a value with its 95% interval, as `oracle.wilson` gives one for a share.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from .files import UserError

Figure = tuple[float, float, float]  # value, low, high
Z = 1.959964  # standard deviations to either side that hold 95% of a bell curve


def gaussian_frechet(mean: Tensor, covariance: Tensor, other_mean: Tensor, other_covariance: Tensor) -> float:
    """The squared Fréchet distance of two Gaussians: |m - m'|^2 + tr(C + C' - 2 (C C')^(1/2)); (d,), (d, d) twice.

    Heusel et al. 2017 (arXiv 1706.08500), eq. 6.
    """
    values, vectors = torch.linalg.eigh(covariance)
    root = (vectors * values.clamp(min=0).sqrt()) @ vectors.mT
    # C C' has the eigenvalues of the symmetric C^(1/2) C' C^(1/2), and a trace needs no more than these
    shared = torch.linalg.eigvalsh(root @ other_covariance @ root).clamp(min=0).sqrt().sum()
    distance = (mean - other_mean).square().sum() + covariance.trace() + other_covariance.trace() - 2 * shared
    return max(distance.item(), 0.0)


def frechet(real: Tensor, made: Tensor) -> float:
    """The squared Fréchet distance of Gaussians fitted to two sets of features: 0 for equal ones, and never below.

    It is too large, the more so the fewer pictures and the more features there are: `resampled` corrects for that.
    Raises `UserError` for fewer than two pictures, features of different width, and values that are not finite.
    """
    real, made = _features(real, made)
    return gaussian_frechet(real.mean(0), real.mT.cov(), made.mean(0), made.mT.cov())


def kernel(real: Tensor, made: Tensor) -> Figure:
    """The squared maximum mean discrepancy by the kernel (x . y / d + 1)^3, without bias: 0 on average for equal sets.

    Bińkowski et al. 2018 (arXiv 1801.01401), the kernel distance. It can come out below 0. The interval is 1.96
    standard errors wide on either side, and these are a jackknife's: how much it moves if one picture is left out.
    Raises `UserError` as `frechet` does.
    """
    real, made = _features(real, made)
    n, m = len(real), len(made)

    def similar(a: Tensor, b: Tensor) -> Tensor:
        return (a @ b.mT / a.shape[1] + 1) ** 3

    of_real, of_made, between = similar(real, real), similar(made, made), similar(real, made)
    rows, columns = of_real.sum(1) - of_real.diagonal(), of_made.sum(1) - of_made.diagonal()
    inner, other, cross = rows.sum(), columns.sum(), between.sum()
    value = inner / (n * (n - 1)) + other / (m * (m - 1)) - 2 * cross / (n * m)
    if min(n, m) < 3:
        return value.item(), -math.inf, math.inf
    without_real = (inner - 2 * rows) / ((n - 1) * (n - 2)) - 2 * (cross - between.sum(1)) / ((n - 1) * m)
    without_made = (other - 2 * columns) / ((m - 1) * (m - 2)) - 2 * (cross - between.sum(0)) / (n * (m - 1))
    return _around(value, _jackknife(without_real) + _jackknife(without_made))


def diversity(made: Tensor) -> Figure:
    """The mean distance of two different pictures' features, with the interval of a jackknife."""
    (made,) = _features(made)
    m = len(made)
    rows = torch.cdist(made, made).sum(1)
    total = rows.sum()
    if m < 3:
        return (total / (m * (m - 1))).item(), -math.inf, math.inf
    return _around(total / (m * (m - 1)), _jackknife((total - 2 * rows) / ((m - 1) * (m - 2))))


def neighbours(real: Tensor, made: Tensor, k: int = 5) -> dict[str, Tensor]:
    """Four questions to the k nearest neighbours, answered for each picture; the metric is the mean of its answers.

    Around each picture lies a ball that reaches to its k-th nearest neighbour in its own set.
        precision (m,)  is this made picture in the ball of any real one?
        recall (n,)     is this real picture in the ball of any made one?
        density (m,)    in how many real balls is this made picture, over k? 1 on average for equal sets
        coverage (n,)   is any made picture in the ball of this real one?
    The first two are Kynkäänniemi et al. 2019 (arXiv 1904.06991), eq. 1 and 2, who take k = 3; the others Naeem et
    al. 2020 (arXiv 2002.09797), who take 5. Raises `UserError` as `frechet` does, and for k beyond the pictures.
    """
    real, made = _features(real, made)
    if not 1 <= k < min(len(real), len(made)):
        raise UserError("k", k, f"1 to {min(len(real), len(made)) - 1}, fewer than there are pictures")

    def radius(x: Tensor) -> Tensor:
        return torch.cdist(x, x).kthvalue(k + 1, dim=1).values  # the nearest of all is the picture itself

    apart = torch.cdist(real, made)  #                                                        (n, m)
    in_real, in_made = apart <= radius(real)[:, None], apart <= radius(made)
    return {
        "precision": in_real.any(0).double(),
        "recall": in_made.any(1).double(),
        "density": in_real.sum(0) / k,
        "coverage": in_real.any(1).double(),
    }


def copying(train: Tensor, held_out: Tensor, made: Tensor, generator: torch.Generator | None = None) -> Figure:
    """How often a made picture lies nearer to the training pictures than a real one that was held out does.

    0.5 for a model that has learned the world, 1 for one that repeats its training pictures, near 0 for one that draws
    nothing like them. The test of Meehan et al. 2020 (arXiv 2004.05675), over all pictures at once, as a probability.
    """
    train, held_out, made = _features(train, held_out, made)
    far, near = (torch.cdist(x, train).amin(1) for x in (held_out, made))

    def share(near: Tensor, far: Tensor) -> float:
        order = far.sort().values
        below = torch.searchsorted(order, near), torch.searchsorted(order, near, right=True)
        return 1 - sum(below).double().mean().item() / (2 * len(far))  # equal ones count half

    return share(near, far), *resampled(share, near, far, generator=generator)[1:]


def clip_score(pictures: Tensor, texts: Tensor, scale: float = 2.5) -> Tensor:
    """How near each picture is to its own text: scale * max(cos, 0), by a CLIP's vectors (n, d) twice -> (n,), float64.

    Hessel et al. 2021 (arXiv 2104.08718), whose factor is 2.5; others take 100. The metric is the `mean` of it. How
    large it comes out depends on the CLIP, so compare within one. Raises `UserError` unless each has its partner.
    """
    if pictures.shape != texts.shape:
        raise UserError("vectors", f"{tuple(pictures.shape)} and {tuple(texts.shape)}", "a text for each picture")
    pictures, texts = _features(pictures, texts)
    return scale * torch.cosine_similarity(pictures, texts).clamp(min=0)


def mean(answers: Tensor, generator: torch.Generator | None = None) -> Figure:
    """The mean of one answer for each picture, (n,), with a bootstrap interval."""
    answers = answers.double()
    return answers.mean().item(), *resampled(lambda x: x.mean().item(), answers, generator=generator)[1:]


def resampled(statistic: Callable[..., float], *samples: Tensor, times: int = 200,
              generator: torch.Generator | None = None) -> Figure:  # fmt: skip
    """The value of statistic(*samples), corrected for its bias, and a 95% interval, by the bootstrap.

    Each sample is drawn anew from itself, with replacement, `times` times. What that adds to the statistic on average
    the data have added once already, so it is taken off, and the interval is the drawn ones', turned around the value
    (the bootstrap of Efron & Tibshirani 1993). Not for nearest neighbours: a picture drawn twice is its own.
    """
    value = statistic(*samples)
    drawn = torch.empty(times, dtype=torch.float64)
    for i in range(times):
        picked = (torch.randint(len(x), (len(x),), generator=generator) for x in samples)
        drawn[i] = statistic(*(x[rows] for x, rows in zip(samples, picked, strict=True)))
    low, high = drawn.quantile(torch.tensor([0.025, 0.975], dtype=torch.float64)).tolist()
    return 2 * value - drawn.mean().item(), 2 * value - high, 2 * value - low


def _jackknife(left_out: Tensor) -> Tensor:
    """The variance of a statistic, from its values with one picture left out each time."""
    return (len(left_out) - 1) * left_out.var(correction=0)


def _around(value: Tensor, variance: Tensor) -> Figure:
    reach = Z * variance.sqrt().item()
    return value.item(), value.item() - reach, value.item() + reach


def _features(*sets: Tensor) -> list[Tensor]:
    """Each as (n, d) float64; raises `UserError` for what no statistic can be made of."""
    for x in sets:
        if x.ndim != 2 or len(x) < 2 or x.shape[1] != sets[0].shape[1]:
            shapes = ", ".join(str(tuple(x.shape)) for x in sets)
            raise UserError("features", shapes, "two pictures or more, (n, d), with one d for all")
        if not x.isfinite().all():
            raise UserError("features", "a value that is not finite", "numbers")
    return [x.detach().to("cpu", torch.float64) for x in sets]
