"""Lesson 17, your own pictures: which pictures a step sees, and whether the model listens to the captions."""

import random
from collections.abc import Callable

import torch
from torch import Tensor

from . import Exercise, Wrong, seeded, told

# 17.order

STATE = (
    "The answer depends on what was asked before. A run that is stopped and resumed at this step would see other "
    "pictures. Let it follow from (seed, step) alone."
)
GLOBAL = (
    "You seed the random numbers that the whole program shares. Whoever draws noise next gets other noise. Have a "
    "generator of your own: `torch.Generator().manual_seed(...)`."
)
UNSEEDED = "Two calls with the same arguments give two batches: nothing seeds the random numbers."
SHORT = "The last batch of an epoch is short here. Fill it with the first pictures of the next epoch."
AGAIN = (
    "Drawn with replacement, some pictures come twice in an epoch and others not at all. Shuffle all of them, and go "
    "through the list."
)
DROPPED = (
    "What is left at the end of an epoch is never shown in it: the last batch is dropped. A batch may run over the end "
    "into the next epoch."
)
FILLED = "The last batch of an epoch is filled with pictures it had already. Take them from the NEXT epoch."
FIXED = "Every epoch has the same order. Shuffle anew for each, by (seed, epoch)."
NO_SEED = "Another seed gives the same order."
SORTED = "These are in the order of the folder: all houses, then all plants. Shuffle them."
ADDED = (
    "Epoch 1 of seed 0 is epoch 0 of seed 1: you add the two, so runs with neighbouring seeds see the same orders. "
    "Mix them, with a hash of the pair, say."
)
ORDER = "Place p = step * size + i lies in epoch p // n, at position p % n of that epoch's shuffled list."


def numbers(fn: Callable, n: int, size: int, seed: int, step: int) -> list[int]:
    """The batch as a list of numbers, whatever it was."""
    got = fn(n, size, seed, step)
    call = f"batch({n}, {size}, {seed}, {step})"
    got = got.tolist() if isinstance(got, Tensor) or type(got).__module__ == "numpy" else got
    if not isinstance(got, list | tuple) or not all(isinstance(i, int) for i in got):
        raise Wrong(f"{call} gives {told(got)}; a list of numbers is wanted")
    if len(got) != size:
        raise Wrong(f"{call} has {len(got)} pictures; it should have {size}", SHORT)
    if not all(0 <= i < n for i in got):
        raise Wrong(f"{call} gives {list(got)}; the pictures are numbered from 0 to {n - 1}")
    return list(got)


def follows_from_seed_and_step(fn: Callable) -> None:
    before = torch.get_rng_state(), random.getstate()
    forth = [numbers(fn, 10, 4, 0, step) for step in range(5)]
    after = torch.get_rng_state(), random.getstate()
    shared = not torch.equal(before[0], after[0]) or before[1] != after[1]
    if forth != [numbers(fn, 10, 4, 0, step) for step in range(5)]:
        raise Wrong("The steps 0 to 4, asked twice, are other batches", UNSEEDED if shared else STATE)
    if forth != [numbers(fn, 10, 4, 0, step) for step in (4, 3, 2, 1, 0)][::-1]:
        raise Wrong("The steps 4 to 0, asked backwards, are other batches", STATE)
    if shared:
        raise Wrong("After a call the program's shared random numbers stand elsewhere", GLOBAL)


def shows_each_once(fn: Callable) -> None:
    for n, size in ((10, 4), (7, 7), (9, 2), (3, 8)):
        steps = [numbers(fn, n, size, 1, step) for step in range(2 * n)]
        row = sum(steps, [])
        epochs = [row[i * n : (i + 1) * n] for i in range(2 * size)]
        call = f"{n} pictures in batches of {size}: "
        bad = next((i for i, epoch in enumerate(epochs) if sorted(epoch) != list(range(n))), None)
        if bad is not None:
            what = f"{call}the pictures {bad * n + 1} to {bad * n + n} to be shown are {epochs[bad]}"
            whole = n // size * size
            starts = [row[i * whole : (i + 1) * whole] for i in range(2)] if whole else []
            filled = -(-n // size) * size
            if whole and filled != n and all(sorted(set(row[i * filled : i * filled + n])) == list(range(n))
                                             for i in range(2)):  # fmt: skip
                raise Wrong(what, FILLED)
            if starts and all(len(set(start)) == whole for start in starts):
                raise Wrong(what, DROPPED)
            raise Wrong(what, AGAIN)
        if n > 5 and all(epoch == list(range(n)) for epoch in epochs):
            raise Wrong(f"{call}{steps[0]} comes first, in every epoch", SORTED)
        if n > 5 and all(epoch == epochs[0] for epoch in epochs):
            raise Wrong(f"{call}the epochs all are {epochs[0]}", FIXED)


def seeds_differ(fn: Callable) -> None:
    seen = [[numbers(fn, 40, 40, seed, step) for step in range(2)] for seed in range(3)]
    if seen[0][0] == seen[1][0]:
        raise Wrong("Seed 0 and seed 1 give the same first epoch", NO_SEED)
    if seen[0][1] == seen[1][0] or seen[1][1] == seen[2][0]:
        raise Wrong("The second epoch of one seed is the first of the next seed", ADDED)


# 17.listens

OTHER_NOISE = (
    "The two errors are over different noise. What noise changes is far more than what a caption changes: ask both "
    "with the SAME seed, then subtract."
)
SIGN = "Turned round: what the wrong caption costs is wrong minus right, and positive for a model that listens."
DIVIDED = "Asked is the difference of the two errors, not their ratio."
BACKWARDS = "Reversed, the picture in the middle keeps its own caption. Move all of them on by one."
PREVIOUS = "Picture i is to be told caption i + 1, the last one caption 0. Yours are moved the other way."
SILENT = (
    "Without a caption is another question: how much captions help at all. A model trained on mixed-up captions may "
    "well miss them. Tell each picture another picture's caption."
)
ONE_SEED = "That is seed 0 alone. Take the mean over the seeds 0 to 7."
SUMMED = "Take the mean over pictures and seeds, not the sum."
RIGHT_ONLY = "This is the error with the right captions. It can be low with captions that mean nothing."
MIXED = "Shuffled by chance, some pictures may keep their caption, and each call gives another answer. Move on by one."
LISTENS = "moved = captions[1:] + captions[:1]; mean of error(moved, seed) - error(captions, seed) over seeds 0 to 7."
KNOWN = ["a house", "a fern", "a smiling face", "a flag with a fish", "a tall house", "tulips", "a sad face"]
WRONG_COSTS = torch.tensor([0.1, 0.3, 0.02, 0.07, 0.2, 0.05, 0.4])


def error(captions: list[str], seed: int) -> Tensor:
    """A model's error on seven pictures: noise, and some more where the caption is another's."""
    noise = 0.5 + 0.3 * torch.rand(len(KNOWN), generator=seeded(seed + 100))
    place = {caption: i for i, caption in enumerate(KNOWN)}
    far = torch.tensor([0.6 if c not in place else (place[c] - i) % 7 for i, c in enumerate(captions)])
    return noise + WRONG_COSTS * far.sqrt() * (1 + 0.2 * (seed % 3))


def tells_captions_apart(fn: Callable) -> None:
    moved = KNOWN[1:] + KNOWN[:1]
    right = torch.stack([error(KNOWN, seed) for seed in range(16)])
    wrong = torch.stack([error(moved, seed) for seed in range(16)])
    back, before, none = (torch.stack([error(said, seed) for seed in range(8)])
                          for said in (KNOWN[::-1], KNOWN[-1:] + KNOWN[:-1], [""] * 7))  # fmt: skip
    gap = wrong[:8] - right[:8]
    got = fn(error, list(KNOWN))
    if isinstance(got, Tensor) and got.numel() > 1:
        raise Wrong(f"listens gives {told(got)}; one number is wanted", SUMMED)
    if isinstance(got, bool) or not isinstance(got, int | float | Tensor):
        raise Wrong(f"listens gives {told(got)}; one number is wanted")
    got = float(got)
    want = gap.mean().item()
    slips = [
        (wrong[8:].mean() - right[:8].mean(), OTHER_NOISE), (wrong[1:9].mean() - right[:8].mean(), OTHER_NOISE),
        (-gap.mean(), SIGN), (wrong[:8].mean() / right[:8].mean(), DIVIDED), ((wrong[:8] / right[:8]).mean(), DIVIDED),
        ((back - right[:8]).mean(), BACKWARDS), ((before - right[:8]).mean(), PREVIOUS),
        ((none - right[:8]).mean(), SILENT), (gap[0].mean(), ONE_SEED), (gap.sum(), SUMMED),
        (gap.sum(0).mean(), SUMMED), (gap.sum(1).mean(), SUMMED), (right[:8].mean(), RIGHT_ONLY),
    ]  # fmt: skip
    if abs(got - want) > 1e-4:
        near = [hint for slip, hint in slips if abs(got - float(slip)) < 1e-4]
        again = float(fn(error, list(KNOWN)))
        hint = near[0] if near else MIXED if again != got else LISTENS
        raise Wrong(f"On seven pictures listens gives {got:.4f}; it should be {want:.4f}", hint)


EXERCISES = (
    Exercise("17.order", (
        "Lay the epochs end to end, each of them a shuffled list of all pictures. A batch is a piece of that long row.",
        "The batch of a step has the places step * size to step * size + size - 1. Which epoch does a place lie in?",
        "For place p: epoch, at = divmod(p, n), and the number is torch.randperm(n, generator=g)[at], where g is a "
        "torch.Generator seeded by a number made of seed and epoch, such as seed * 1_000_003 + epoch.",
    ), (follows_from_seed_and_step, shows_each_once, seeds_differ)),
    Exercise("17.listens", (
        "Two calls of `error` for each seed: one with the captions as they are, one with wrong ones.",
        "`moved = captions[1:] + captions[:1]` gives every picture the caption of the next one.",
        "For each seed of range(8): (error(moved, seed) - error(captions, seed)).mean(). Then the mean of these eight.",
    ), (tells_captions_apart,)),
)  # fmt: skip
