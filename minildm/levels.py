"""Noise levels: the rows (t, alpha, sigma) of x = alpha * x0 + sigma * eps, and how to choose some of them.

That equation is the project's one contract (Ho et al. 2020, arXiv 2006.11239, eq. 4, where alpha is
sqrt(alpha-bar) and sigma is sqrt(1 - alpha-bar)). A kind of diffusion is nothing but a table of rows.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from .files import UserError

SPACINGS = ("leading", "trailing", "linspace", "rounded")


class Level(NamedTuple):
    """How noisy a picture is: x = alpha * x0 + sigma * eps, and t is what the network is told.

    While sampling the fields are Python floats, so that no dtype and no device leaks into the state;
    while training they are float32 tensors of shape (b,), one level for each picture.
    """

    t: float | Tensor
    alpha: float | Tensor
    sigma: float | Tensor


Denoiser = Callable[[Tensor, Level], Tensor]  # denoise(x, level) -> x0: all that a sampler knows of a network


@dataclass(frozen=True, eq=False)
class Schedule:
    """Every level a network is trained on: three float64 CPU tensors of shape (T,), noise rising.

    `shift` is None except for flow schedules, whose rows between two table rows are known exactly.
    """

    t: Tensor
    alpha: Tensor
    sigma: Tensor
    shift: float | None = None

    def __len__(self) -> int:
        return len(self.t)

    def at(self, index: Tensor) -> Level:
        """The rows of `index`, an int64 tensor (b,) in 0..T-1, as float32 tensors (b,) on its device."""
        # float32 before the move: Apple's MPS has no float64.
        return Level(*(table.float().to(index.device)[index] for table in (self.t, self.alpha, self.sigma)))

    def rows(self) -> list[Level]:
        """All T rows as Python floats, cleanest first."""
        table = zip(self.t.tolist(), self.alpha.tolist(), self.sigma.tolist(), strict=True)
        return [Level(*row) for row in table]


def linear(steps: int = 1000, beta_start: float = 1e-4, beta_end: float = 0.02) -> Schedule:
    """Betas on a straight line: Ho et al. 2020 (arXiv 2006.11239), section 4."""
    return _from_betas(torch.linspace(beta_start, beta_end, steps, dtype=torch.float32))


def scaled_linear(steps: int = 1000, beta_start: float = 0.00085, beta_end: float = 0.012) -> Schedule:
    """Square roots of the betas on a straight line; the default is Stable Diffusion's table.

    Rombach et al. 2022 (arXiv 2112.10752) and the scheduler configuration published with their weights.
    """
    return _from_betas(torch.linspace(beta_start**0.5, beta_end**0.5, steps, dtype=torch.float32) ** 2)


def cosine(steps: int = 1000) -> Schedule:
    """alpha-bar follows a squared cosine, betas capped at 0.999.

    Nichol & Dhariwal 2021 (arXiv 2102.09672), eq. 17; `squaredcos_cap_v2` in published configurations.
    """

    def alpha_bar(u: float) -> float:
        return math.cos((u + 0.008) / 1.008 * math.pi / 2) ** 2

    ends = [alpha_bar(i / steps) for i in range(steps + 1)]
    betas = [min(1 - ends[i + 1] / ends[i], 0.999) for i in range(steps)]
    return _from_betas(torch.tensor(betas, dtype=torch.float32))


def sigmoid(steps: int = 1000, start: float = -3.0, end: float = 3.0, tau: float = 1.0) -> Schedule:
    """alpha-bar falls along the piece of a sigmoid between start / tau and end / tau, down to 1e-9.

    Chen 2023 (arXiv 2301.10972), where alpha-bar is called gamma.
    """
    curve = ((start + (end - start) * torch.arange(steps + 1).double() / steps) / tau).sigmoid()
    return _from_alpha_bar(((curve[-1] - curve[1:]) / (curve[-1] - curve[0])).clamp(min=1e-9))


def flow(steps: int = 1000, shift: float = 1.0) -> Schedule:
    """A straight path from data to noise: alpha = 1 - sigma, t = steps * sigma, the last row pure noise.

    `shift` above 1 moves rows towards noise, for large pictures. Esser et al. 2024 (arXiv 2403.03206),
    eq. 23, where `shift` is the square root of the ratio of pixel counts.
    """
    u = torch.arange(1, steps + 1, dtype=torch.float32) / steps
    sigma = shift * u / (1 + (shift - 1) * u)
    return Schedule((sigma * steps).double(), 1 - sigma.double(), sigma.double(), shift)


def zero_terminal_snr(schedule: Schedule) -> Schedule:
    """The same table moved and stretched so that its last row is pure noise, alpha = 0, and its first stays.

    Lin et al. 2023 (arXiv 2305.08891), algorithm 1. A network must have been trained on such rows, and to predict
    something other than eps.
    """
    first, last = schedule.alpha[0], schedule.alpha[-1]
    alpha = (schedule.alpha - last) * (first / (first - last))
    return Schedule(schedule.t, alpha, (1 - alpha**2).sqrt())


def shifted(schedule: Schedule, ratio: float) -> Schedule:
    """The same table for pictures `ratio` times as wide and high: log-SNR is lowered by 2 log(ratio) everywhere.

    Hoogeboom et al. 2023 (arXiv 2301.11093), section 3.1. Raises UserError for flow schedules: give those a `shift`.
    """
    if schedule.shift is not None:
        raise UserError("schedule to shift", "flow", "one with alpha^2 + sigma^2 = 1; flow has a `shift` of its own")
    power = schedule.alpha**2 + (ratio * schedule.sigma) ** 2
    return Schedule(schedule.t, schedule.alpha / power.sqrt(), ratio * schedule.sigma / power.sqrt())


def _from_betas(betas: Tensor) -> Schedule:
    # The published tables were multiplied up in float32, and networks were trained on exactly those
    # numbers: make them the same way and widen only then.
    return _from_alpha_bar(torch.cumprod(1.0 - betas, dim=0).double())


def _from_alpha_bar(alpha_bar: Tensor) -> Schedule:
    return Schedule(torch.arange(len(alpha_bar), dtype=torch.float64), alpha_bar.sqrt(), (1 - alpha_bar).sqrt())


def pick(
    schedule: Schedule, n: int, spacing: str = "leading", offset: int = 1, last: str = "clean"
) -> list[Level]:
    """Choose n + 1 rows to sample through, noisiest first, the last one the end of the way.

    n: 1..T. spacing (after Lin et al. 2023, arXiv 2305.08891, table 2, whose "linspace" is our "rounded"):
        "leading"   every (T // n)-th row from row 0 up, moved up by `offset` rows where there is room
        "trailing"  every (T / n)-th row from row T-1 down, rounded
        "linspace"  n points from row T-1 to row 0, in between rows where need be (t is then no whole number)
        "rounded"   the same points, rounded to whole rows
    last: "clean" ends at alpha = 1, sigma = 0; "first" ends at row 0 of the table, which still has a
        little noise (`set_alpha_to_one: false` in published configurations).
    Raises UserError for another n, spacing or last.
    """
    size = len(schedule)
    if isinstance(n, bool) or not isinstance(n, int) or not 1 <= n <= size:
        raise UserError("steps", n, f"a whole number from 1 to {size}")
    if spacing not in SPACINGS:
        raise UserError("spacing", spacing, "one of " + ", ".join(SPACINGS))
    if last not in ("clean", "first"):
        raise UserError("last row", last, "one of clean, first")

    table = schedule.rows()
    end = table[0] if last == "first" else Level(0.0, 1.0, 0.0)
    if spacing == "linspace" and schedule.shift is not None:
        return [*_flow_rows(table, n, schedule.shift), end]
    if spacing == "leading":
        step = size // n
        offset = min(offset, size - 1 - (n - 1) * step)  # all T rows leave no room to move up
        places = [offset + i * step for i in reversed(range(n))]
    elif spacing == "trailing":
        # Where a place falls exactly between two rows its last bit decides: the published order of sums.
        step = (size - size / n) - size
        places = [round(size + i * step) - 1 for i in range(n)]
    else:
        step = (size - 1) / max(n - 1, 1)
        places = [size - 1, *(i * step for i in reversed(range(n - 1)))]
        places = [round(place) for place in places] if spacing == "rounded" else places
    return [*(_between(table, place) for place in places), end]


def _between(table: list[Level], place: float) -> Level:
    """The level at a place between two rows of a variance-preserving table (alpha^2 + sigma^2 = 1)."""
    below = table[int(place)]
    if place == int(place):
        return below
    above = table[int(place) + 1]
    # Published samplers draw the straight line in sigma / alpha.
    low, high = below.sigma / below.alpha, above.sigma / above.alpha
    ratio = low + (place - int(place)) * (high - low)
    alpha = 1 / math.sqrt(1 + ratio**2)
    return Level(place, alpha, ratio * alpha)


def _flow_rows(table: list[Level], n: int, shift: float) -> list[Level]:
    """n points from the noisiest to the cleanest row, then shifted."""
    # The two ends come from a table that is shifted already, and are shifted once more here. It looks like a
    # slip, but the published sampler of Stable Diffusion 3 does so, and its last steps depend on it.
    high, low = table[-1].sigma, table[0].sigma
    points = [high + (low - high) * i / max(n - 1, 1) for i in range(n)]
    sigmas = [shift * u / (1 + (shift - 1) * u) for u in points]
    return [Level(sigma * len(table), 1 - sigma, sigma) for sigma in sigmas]


def karras(schedule: Schedule, rows: Sequence[Level], rho: float = 7.0) -> list[Level]:
    """As many rows between the same two ends, closer together where there is less noise.

    Karras et al. 2022 (arXiv 2206.00364): sigma / alpha to the power 1 / rho falls in equal steps. The last
    row, the end of the way, stays. Times in between are read off the table's log(sigma / alpha).
    Raises UserError if a row is pure noise (alpha = 0).
    """
    *noisy, end = rescaled(rows)
    table = (schedule.sigma / schedule.alpha).log()
    high, low = noisy[0].sigma ** (1 / rho), noisy[-1].sigma ** (1 / rho)
    found = []
    for i in range(len(noisy)):
        ratio = (high + (low - high) * i / max(len(noisy) - 1, 1)) ** rho
        above = int(torch.searchsorted(table, math.log(ratio)).clamp(1, len(table) - 1))
        share = (math.log(ratio) - table[above - 1]) / (table[above] - table[above - 1])
        alpha = 1 / math.sqrt(1 + ratio**2)
        found.append(Level(above - 1 + float(share.clamp(0, 1)), alpha, ratio * alpha))
    return [*found, rows[-1]]


def rescaled(rows: Sequence[Level]) -> list[Level]:
    """The same levels for x / alpha instead of x: alpha = 1 and sigma = sigma / alpha in every row.

    The frame of Karras et al. 2022 (arXiv 2206.00364). Divide the start by the first row's alpha too.
    Rows are floats. Raises UserError if a row is pure noise (alpha = 0), which has no such form.
    """
    if any(row.alpha == 0 for row in rows):
        raise UserError("alpha of a row to rescale", 0.0, "a number above 0")
    return [Level(row.t, 1.0, row.sigma / row.alpha) for row in rows]


def log_snr(level: Level) -> float | Tensor:
    """log(alpha^2 / sigma^2): the logarithm of signal power over noise power, float or (b,) like the level.

    +inf for a clean level, -inf for pure noise.
    """
    if isinstance(level.alpha, Tensor):
        return 2 * (level.alpha.log() - level.sigma.log())
    if level.sigma == 0 or level.alpha == 0:
        return math.inf if level.sigma == 0 else -math.inf
    return 2 * math.log(level.alpha / level.sigma)
