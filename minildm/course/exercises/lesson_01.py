"""Lesson 01, principal directions: latents and rebuilt pictures, and how many directions are enough."""

from collections.abc import Callable

import torch
from torch import Tensor

from . import Exercise, Wrong, hint_for, near, seeded, told

# 01.pca

CENTRE = (
    "The directions are those of the cloud around its MEAN. Take the mean of `seen` away first; without that the "
    "strongest direction mostly points at the mean itself."
)
BACK = "The projection was made around the mean, so the mean has to be added again at the end: mean + z @ directions."
ONE_MEAN = "Each number of a picture has a mean of its own: `seen.mean(0)`, (d,). `seen.mean()` is one for all of them."
OWN_MEAN = "`new` has a mean of its own here. A decoder cannot know that of pictures to come: use the mean of `seen`."
LEAK = (
    "Mean and directions came from `new`. They are learned from `seen` alone, or the test pictures have been seen and "
    "the error on them says nothing."
)
WEAKEST = (
    "These are the WEAKEST directions. `torch.linalg.eigh` sorts the variances from small to large, so the strongest "
    "are the last columns; `torch.linalg.svd` sorts the other way."
)
ROWS = (
    "Rows and columns are exchanged. `eigh` keeps the directions in the COLUMNS of its matrix; `svd` gives U, S and "
    "Vh, and they are the ROWS of Vh."
)
WHITE = (
    "A latent is the plain length of the shadow, (x - mean) . u with |u| = 1. Here it was divided by its spread (or "
    "multiplied by a singular value), and nothing undoes that."
)
PIXELS = (
    "Each pixel was divided by its own spread first. That is another question, with other directions: pixels that "
    "hardly ever change count as much as all others."
)
LATENTS = (
    "The rebuilt pictures are right, the latents are not: they are the shadows on the k directions, around the mean "
    "and strongest first, (new - mean) @ directions.T, of shape (m, k)."
)
OF_NEW = "The latents belong to `new`, one row for each of its points: (m, k). The pictures that come back are (m, d)."
TORCH = "Stay in torch: `torch.linalg.svd` or `torch.linalg.eigh`, or `torch.from_numpy` at the end."
PAIR = "Give back both, the latents first: `return z, rebuilt`."
PROJECT = (
    "rebuilt = mean + z @ directions, with unit directions that are at right angles: eigenvectors are both. "
    "(`torch.pca_lowrank` is only nearly right: it throws dice.)"
)


def shadows(seen: Tensor, new: Tensor, k: int, change: str = "") -> Tensor:
    """`new`, rebuilt from its k latents; or what a mistake makes of it."""
    of = new if change == "leak" else seen
    mean = {"no mean": torch.zeros_like(of[0]), "one mean": of.mean().expand(of.shape[1])}.get(change, of.mean(0))
    scale = of.std(0) if change == "pixels" else torch.ones_like(of[0])
    variances, columns = torch.linalg.eigh(((of - mean) / scale).T @ ((of - mean) / scale) / len(of))
    columns = columns if change in ("weakest", "weakest rows") else columns.flip(1)
    directions = (columns if change in ("rows", "weakest rows") else columns.T)[:k]
    if change == "columns of Vh" and len(of) >= of.shape[1]:
        directions = torch.linalg.svd(of - mean, full_matrices=False)[2][:, :k].T
    start = new.mean(0) if change in ("own mean", "half own mean") else mean
    z = (new - start) / scale @ directions.T
    if change in ("white", "multiplied"):
        spread = variances.flip(0)[:k].clamp(min=1e-9).sqrt()
        z = z / spread if change == "white" else z * spread * len(of) ** 0.5
    end = mean if change == "half own mean" else start
    return z @ directions * scale + (0 if change == "not back" else end)


SLIPS = {
    "no mean": CENTRE, "one mean": ONE_MEAN, "not back": BACK, "own mean": OWN_MEAN, "half own mean": OWN_MEAN,
    "leak": LEAK, "weakest": WEAKEST, "rows": ROWS, "weakest rows": ROWS, "columns of Vh": ROWS,
    "white": WHITE, "multiplied": WHITE, "pixels": PIXELS,
}  # fmt: skip


def clouds() -> list[tuple[str, Tensor, Tensor, int]]:
    """Points to learn from, others to rebuild, and how many directions: on a line, in a flat cloud, few and wide."""
    generator = seeded(0)
    along, off = torch.tensor([0.6, 0.8]), torch.tensor([-0.8, 0.6])
    middle = torch.tensor([10.0, -5.0])
    line = middle + torch.tensor([-3.0, -1.0, 0.0, 1.0, 3.0])[:, None] * along
    found = [("Points on a line and new ones beside it", line, middle + torch.stack([2 * along + off, -along]), 1)]
    for what, n, d, k in (("40 points of 6 numbers", 40, 6, 2), ("8 pictures of 20 numbers", 8, 20, 3)):
        mixed = torch.randn(d, d, generator=generator) * torch.linspace(2, 0.2, d)[:, None]
        seen, new = (torch.randn(m, d, generator=generator) @ mixed + torch.arange(d) / 2 + 3 for m in (n, 5))
        found.append((what, seen, new, k))
    return found


def taken(fn: Callable, seen: Tensor, new: Tensor, k: int, call: str) -> tuple[Tensor, Tensor]:
    got = fn(seen, new, k)
    if not isinstance(got, tuple | list) or len(got) != 2:
        raise Wrong(f"{call}: pca gives {told(got)}; latents and rebuilt pictures are wanted", PAIR)
    z, rebuilt = got
    for part, shape in ((z, (len(new), k)), (rebuilt, tuple(new.shape))):
        if not isinstance(part, Tensor):
            raise Wrong(f"{call}: pca gives {told(part)} as one of the two; torch tensors are wanted", TORCH)
        if part.shape != shape:
            hint = PAIR if z.shape == new.shape else OF_NEW
            raise Wrong(f"{call}: pca gives a part of shape {tuple(part.shape)}; it should be {shape}", hint)
    return z, rebuilt


def rebuilds(fn: Callable) -> None:
    for what, seen, new, k in clouds():
        call = f"{what}, k = {k}"
        z, rebuilt = taken(fn, seen, new, k, call)
        want = shadows(seen, new, k)
        if not near(rebuilt, want, 1e-3):
            slips = [(shadows(seen, new, k, change), hint) for change, hint in SLIPS.items()]
            hint = hint_for(rebuilt, slips, PROJECT, within=1e-3)
            at = int((rebuilt - want).abs().amax(1).argmax())
            raise Wrong(f"{call}: point {at} of `new`, {shown(new[at])}, is rebuilt as {shown(rebuilt[at])}; it should "
                        f"be {shown(want[at])}", hint)  # fmt: skip
        directions = torch.linalg.svd(seen - seen.mean(0), full_matrices=False)[2][:k]
        if not near(z.abs(), ((new - seen.mean(0)) @ directions.T).abs(), 1e-3):
            raise Wrong(f"{call}: the latents of point 0 are {shown(z[0])}, apart from signs not what they should be",
                        LATENTS)  # fmt: skip


def shown(values: Tensor) -> str:
    """The first few numbers of a point."""
    return f"({', '.join(f'{value:.3g}' for value in values[:3].tolist())}{', ...' * (len(values) > 3)})"


def keeps_the_variance(fn: Callable) -> None:
    for what, seen, _, k in clouds()[1:]:
        _, once = taken(fn, seen, seen, k, what)
        _, twice = taken(fn, seen, once, k, what)
        if not near(twice, once, 1e-3):
            raise Wrong(f"{what}: rebuilt twice is not rebuilt once, and a shadow is its own shadow", PROJECT)
        centred = seen - seen.mean(0)
        left = torch.linalg.svdvals(centred)[k:].square().sum().item() / len(seen)
        error = (once - seen).square().sum(1).mean().item()
        if abs(error - left) > 1e-3 * left + 1e-4:
            raise Wrong(f"{what}: the error is {error:.4g}, the variance that was thrown away {left:.4g}", PROJECT)


# 01.how_many

TOO_FEW = "With that many, the share is not reached yet. An index counts from 0, how many counts from 1."
TOO_MANY = "One fewer reaches the share already (exactly reached counts as well: `>=`)."
ALONE = "Add up: it is the k largest TOGETHER that have to keep the share. Look at cumulative sums."
UNSORTED = "The list need not be sorted. The best k directions are the k largest variances: sort first, falling."
SMALLEST = "You began with the smallest. The least number comes from beginning with the largest."
ROOTS = "Add the variances themselves. Their roots, the spreads, do not add up: Pythagoras adds squares."
SHARES = "`share` is a part of the whole, 0..1. Divide by the sum of all variances, or multiply the share by it."
LOST = "This many keep what should be LOST. A share of 0.9 is kept if at most 0.1 of all variance is thrown away."
WHOLE = "A number of directions is a whole number: `return int(k)`."


def counted(variances: Tensor, share: float) -> int:
    kept = variances.sort(descending=True).values.cumsum(0)
    return int((kept < share * variances.sum()).sum()) + 1


def counting_slips(variances: Tensor, share: float) -> dict[str, list[int]]:
    """What one comes to by each mistake."""
    falling, rising = variances.sort(descending=True).values, variances.sort().values
    total = variances.sum()
    roots = falling.sqrt()
    return {
        SHARES: [int((falling.cumsum(0) < share).sum()) + 1],
        UNSORTED: [int((variances.cumsum(0) < share * total).sum()) + 1],
        SMALLEST: [int((rising.cumsum(0) < share * total).sum()) + 1],
        ROOTS: [int((roots.cumsum(0) < share * roots.sum()).sum()) + 1],
        LOST: [counted(variances, 1 - share), len(variances) - counted(variances, share)],
        ALONE: [int((falling >= share * falling[0]).sum()), int((falling >= share * total).sum()),
                int((falling >= (1 - share) * falling[0]).sum()), int((falling >= (1 - share) * total).sum())],
    }  # fmt: skip


LISTS = (  # sums are powers of two, so that shares are exact
    ([16.0, 8.0, 4.0, 2.0, 1.0, 1.0], 0.9), ([2.0, 16.0, 1.0, 4.0, 8.0, 1.0], 0.9),
    ([6.0, 4.0, 2.0, 2.0, 1.0, 1.0], 0.75), ([0.25, 0.125, 0.0625, 0.0625], 0.6), ([4.0, 2.0, 1.0, 1.0], 0.75),
    ([4.0, 2.0, 1.0, 1.0], 1.0), ([64.0, 32.0, 16.0, 8.0, 4.0, 4.0], 0.3),
)  # fmt: skip


def counts(fn: Callable) -> None:
    seen = []
    for values, share in LISTS:
        variances = torch.tensor(values)
        got, want = fn(variances, share), counted(variances, share)
        call = f"how_many({values}, {share})"
        if isinstance(got, Tensor) and got.numel() == 1:
            got = got.item()
        if not isinstance(got, int | float) or got != int(got):
            raise Wrong(f"{call} gives {told(got)}; a whole number is wanted", WHOLE)
        seen.append((variances, share, int(got), want, call))
    wrong = [entry for entry in seen if entry[2] != entry[3]]
    if not wrong:
        return
    *_, got, want, call = wrong[0]
    for hint in (SHARES, UNSORTED, SMALLEST, ROOTS, LOST, ALONE):
        ways = zip(*(counting_slips(variances, share)[hint] for variances, share, *_ in seen), strict=True)
        if any(list(way) == [entry[2] for entry in seen] for way in ways):
            raise Wrong(f"{call} gives {got}; it should be {want}", hint)
    raise Wrong(f"{call} gives {got}; it should be {want}", TOO_FEW if got < want else TOO_MANY)


EXERCISES = (
    Exercise("01.pca", (
        "Four things in turn: the mean of `seen`, the directions of what is left, the latents of `new`, and the way "
        "back.",
        "`torch.linalg.svd(seen - mean, full_matrices=False)` gives U, S and Vh. The rows of Vh are the directions, "
        "the strongest first; no covariance matrix is needed.",
        "directions = Vh[:k]; z = (new - mean) @ directions.T; the way back is mean + z @ directions.",
    ), (rebuilds, keeps_the_variance)),
    Exercise("01.how_many", (
        "Which variances would you keep if you may keep one? Two? Go on until it is enough.",
        "Sort falling, then `cumsum(0)`: entry i is what the best i + 1 directions keep together.",
        "kept = variances.sort(descending=True).values.cumsum(0); count how many entries are below share * "
        "variances.sum(), and add 1.",
    ), (counts,)),
)  # fmt: skip
