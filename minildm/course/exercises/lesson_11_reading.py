"""Lesson 11, reading pictures: zero-shot answers, and cross-attention with a mask."""

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from . import Exercise, Wrong, expect, hint_for, near, seeded, told

# 11.zero_shot

PER_ROW = "Each PICTURE spreads its belief over the sentences: the softmax runs along dim 1."
MEAN = "A sum, not a mean: an answer with many sentences may well be the likelier one, and a row has to add up to 1."
LOGITS_FIRST = (
    "First the softmax over all sentences, then the sum. Adding up logits multiplies probabilities, as if a picture "
    "had to fit ALL sentences of an answer at once."
)
BEST_ONLY = "This is the best sentence of each answer alone. All sentences that name the answer count."
COUNTED = "A share is wanted for each answer, not which one wins."
NOT_NORMED = "Probabilities add up to 1: after the exponential divide by the sum over ALL sentences of the picture."
ORDERED = "`answers[j]` says which answer sentence j gives. They need not stand in order, nor be equally many for each."
ONE_OF_MANY = (
    "`found[:, answers] += share` writes each column once, however often it is named: of sentences with one answer "
    "one alone is left. `index_add` adds all of them."
)
READ_OTHER = "Softmax over dim 1, then column a is the sum of all columns j with answers[j] == a."


def readings(logits: Tensor, answers: Tensor, k: int) -> list[tuple[Tensor, str]]:
    which = F.one_hot(answers, k).to(logits)  #                                           (m, k)
    share, many = logits.softmax(1), which.sum(0).clamp(min=1)
    hidden = logits[:, :, None].masked_fill(which[None] == 0, -math.inf)
    right, last = share @ which, torch.zeros(len(logits), k).to(logits)
    for j, a in enumerate(answers.tolist()):
        last[:, a] = share[:, j]
    return [
        (right, ""), (last, ONE_OF_MANY), (logits.softmax(0) @ which, PER_ROW), (right / many, MEAN),
        ((logits @ which).softmax(1), LOGITS_FIRST), ((logits @ which / many).softmax(1), LOGITS_FIRST),
        (logits @ which, LOGITS_FIRST), (hidden.amax(1).softmax(1), BEST_ONLY),
        (hidden.softmax(1).nan_to_num(0).amax(1), BEST_ONLY), ((share[:, :, None] * which).amax(1), BEST_ONLY),
        (logits.exp() @ which, NOT_NORMED), (hidden.logsumexp(1), NOT_NORMED),
        (F.one_hot(right.argmax(1), k).to(logits), COUNTED), ((right / many) / (right / many).sum(1, True), MEAN),
    ]  # fmt: skip


def adds_up(fn: Callable) -> None:
    for answers, k in (((0, 1, 0, 2, 2, 0), 3), ((1, 0, 1, 1), 2), ((3, 0, 3, 1, 1), 4)):
        answers = torch.tensor(answers)
        logits = 2 * torch.randn(4, len(answers), generator=seeded(k), dtype=torch.float64)
        (want, _), *slips = readings(logits, answers, k)
        call = f"With answers {answers.tolist()} and k = {k}, read_by"
        got = fn(logits, answers, k)
        if isinstance(got, Tensor) and got.shape == want.shape:
            in_order = readings(logits, answers.sort().values, k)[0]
            expect(got, want, call, hint_for(got, [*slips, (in_order[0], ORDERED)], READ_OTHER))
        expect(got, want, call, COUNTED if isinstance(got, Tensor) and got.ndim == 1 else READ_OTHER)


def stands_large_logits(fn: Callable) -> None:
    logits = torch.tensor([[900.0, 880.0, 900.0]])
    want = torch.tensor([[0.5, 0.5]])
    got = fn(logits, torch.tensor([0, 0, 1]), 2)
    expect(got, want, "With logits of 900, read_by", "exp(900) is more than a number can hold: use `softmax`.")


# 11.cross_attention

ROOT = "The scores are divided by the root of d, the width of the KEYS (lesson 06)."
AFTER = "Rows have to add up to 1 again. Hide BEFORE the softmax: set the scores of hidden tokens to -infinity."
ZERO_SCORE = "A score of 0 is not little: exp(0) is 1. A hidden token needs the score -infinity."
TURNED = "The wrong ones are hidden: `shown` is True for what MAY be looked at. `masked_fill(~shown, ...)`."
NO_MASK = "`shown` changes nothing here: hidden tokens are looked at as before."
WRONG_AXIS = "Each place spreads its look over the TOKENS: the softmax runs over the last axis."
VALUES = "The shares are right where the answers are not: out = shares @ v."
MASKED_VALUES = "The values of hidden tokens were made 0, and their shares are still spent on them. Hide the scores."
LARGE = "-1000 is not -infinity: what is hidden can have a score of any size. `-math.inf` is always enough."
ONE_FOR_ALL = "Each sentence of the batch has a mask of its own: `shown[:, None, :]` has one row for each."
LOOK_OTHER = "Scores (b, p, n), hidden ones to -infinity, softmax over the last axis; then shares @ v."


def looked(q: Tensor, k: Tensor, v: Tensor, shown: Tensor) -> list[tuple[Tensor, Tensor, str]]:
    """Answers and shares: the right ones first, then those of the usual mistakes."""
    scores, m = q @ k.mT / math.sqrt(q.shape[-1]), shown[:, None, :]

    def by(scores: Tensor, hint: str, v: Tensor = v) -> tuple[Tensor, Tensor, str]:
        return scores.softmax(-1) @ v, scores.softmax(-1), hint

    after = scores.softmax(-1) * m
    across = scores.masked_fill(~m, -math.inf).softmax(1).nan_to_num(0)
    return [
        by(scores.masked_fill(~m, -math.inf), ""), (after @ v, after, AFTER), by(scores * m, ZERO_SCORE),
        by(scores.masked_fill(m, -math.inf), TURNED), by(scores, NO_MASK), (across @ v, across, WRONG_AXIS),
        by((scores * math.sqrt(q.shape[-1])).masked_fill(~m, -math.inf), ROOT),
        by((scores * math.sqrt(q.shape[-1]) / math.sqrt(v.shape[-1])).masked_fill(~m, -math.inf), ROOT),
        by((scores * math.sqrt(q.shape[-1]) / q.shape[-1]).masked_fill(~m, -math.inf), ROOT),
        by((scores * math.sqrt(q.shape[-1] / q.shape[1])).masked_fill(~m, -math.inf), ROOT),
        by((scores * math.sqrt(q.shape[-1] / k.shape[1])).masked_fill(~m, -math.inf), ROOT),
        by(scores, MASKED_VALUES, v * shown[:, :, None]), by(scores.masked_fill(~m[:1], -math.inf), ONE_FOR_ALL),
    ]  # fmt: skip


def tried(fn: Callable, args: tuple, call: str) -> tuple[Tensor, Tensor]:
    got = fn(*args)
    if not isinstance(got, tuple | list) or len(got) != 2:
        raise Wrong(f"{call} gives {told(got)}; the answers and the shares are wanted", "`return shares @ v, shares`")
    return got


def looks_where_it_may(fn: Callable) -> None:
    shown = torch.tensor([[True, True, False, True, False], [True, False, True, True, True]])
    for seed, mask in ((0, torch.ones(2, 5, dtype=torch.bool)), (1, shown)):
        q, k, v = (torch.randn(2, *size, generator=seeded(10 * seed + i), dtype=torch.float64)
                   for i, size in enumerate(((4, 3), (5, 3), (5, 6))))  # fmt: skip
        call = f"Where {'some tokens are hidden' if seed else 'every token is shown'}, look"
        (out, shares, _), *slips = looked(q, k, v, mask)
        if not seed:  # what has to do with masks cannot be seen yet
            slips = [slip for slip in slips if slip[2] in (ROOT, WRONG_AXIS)]
        got = tried(fn, (q, k, v, mask), call)
        # Hidden values and hidden shares give the same answers: the shares tell which it was.
        made = [(s, hint) for o, s, hint in slips if hint not in (MASKED_VALUES, NO_MASK) or near(got[0], o)]
        nothing_left = not seed and isinstance(got[1], Tensor) and bool(got[1].isnan().any())
        hint = TURNED if nothing_left else hint_for(got[1], made, LOOK_OTHER)
        expect(got[1], shares, call + ", the shares", hint)
        expect(got[0], out, call + ", the answers", VALUES)


def asked_and_told() -> list[Tensor]:
    """Queries, keys and values of one sentence of four tokens."""
    sizes = ((3, 4), (4, 4), (4, 2))
    return [torch.randn(1, *size, generator=seeded(i), dtype=torch.float64) for i, size in enumerate(sizes)]


def hides_completely(fn: Callable) -> None:
    q, k, v = asked_and_told()
    q, shown = q.abs(), torch.tensor([[True, False, True, True]])
    before = tried(fn, (q, k, v, shown), "look")[0]
    loud, far = k.clone(), v.clone()
    loud[:, 1], far[:, 1] = 1e5, 1e6
    after = tried(fn, (q, loud, far, shown), "look")[0]
    lost = isinstance(after, Tensor) and bool(after.isnan().any())  # all was spent on it, and nothing is left to divide
    expect(after, before, "With enormous numbers in the token that is hidden, look", AFTER if lost else LARGE)
    k = -1e5 * k.abs()  # what may be looked at fits as badly as can be
    (want, shares, _), *_ = looked(q, k, v, shown)
    got = tried(fn, (q, k, v, shown), "look")
    expect(got[1], shares, "Where all scores are far below -1000, look, the shares", LARGE)
    expect(got[0], want, "Where all scores are far below -1000, look, the answers", VALUES)


def knows_no_order(fn: Callable) -> None:
    q, k, v = asked_and_told()
    shown, turn = torch.tensor([[True, True, False, True]]), torch.tensor([2, 0, 3, 1])
    before = tried(fn, (q, k, v, shown), "look")[0]
    after = tried(fn, (q, k[:, turn], v[:, turn], shown[:, turn]), "look")[0]
    expect(after, before, "With the tokens in another order (their masks with them), look", LOOK_OTHER)


EXERCISES = (
    Exercise("11.zero_shot", (
        "First one probability for each sentence, then the sum over the sentences of each answer.",
        "`share = logits.softmax(dim=1)`; now column j of share belongs to answer `answers[j]`.",
        "`torch.zeros(b, k).index_add(1, answers, share)`, or a matrix product with `F.one_hot(answers, k)`.",
    ), (adds_up, stands_large_logits)),
    Exercise("11.cross_attention", (
        "As attention in lesson 06, with one more line between the scores and the softmax.",
        "`shown` is (b, n), the scores are (b, p, n): `shown[:, None, :]` fits to all places.",
        "scores = scores.masked_fill(~shown[:, None, :], -math.inf)",
    ), (looks_where_it_may, hides_completely, knows_no_order)),
)  # fmt: skip
