"""Lesson 11, words: from a sentence to numbers, and the contrastive loss."""

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from . import Exercise, Wrong, expect, hint_for, seeded, told

# 11.tokenizer

MERGES = [("e", "d_"), ("r", "e"), ("i", "n"), ("r", "ed_"), ("in", "g_"), ("b", "l"), ("o", "o"), ("bl", "u"),
          ("r", "in"), ("blu", "e_"), ("s", "t"), ("st", "a"), ("sta", "r_")]  # fmt: skip
LETTERS = "abcdefghijklmnopqrstuvwxyz"
NUMBERS = {piece: i for i, piece in enumerate([
    *LETTERS, *(letter + "_" for letter in LETTERS), *(a + b for a, b in MERGES), "<start>", "<end>",
])}  # fmt: skip
PIECES = {number: piece for piece, number in NUMBERS.items()}
START, END = NUMBERS["<start>"], NUMBERS["<end>"]
NO_START = "The first number is that of <start>, before any word."
FULL = "Always exactly `length` numbers: whatever is missing is filled up with the number of <end>."
PADDED = "Fill up with the number of <end>, here {}. 0 is a piece like any other: it is the letter a."
KEEP_END = (
    "Too many pieces: the last ones have to go, and the <end> has to stay. The sentence is read there. So cut before "
    "you put the end on: at most length - 1 numbers, then the end."
)
MARK = "The last letter of each word carries the mark: `word[-1] + \"_\"`. Without it nobody knows where a word ends."
MARKED_ALL = "Only the LAST letter of a word has the `_` behind it."
IN_TURN = (
    "In order: the merges are done first learned first, each to what those before it left. Looking for the longest "
    "piece that is known cuts some words elsewhere."
)
EVERYWHERE = "A pair is merged wherever it stands in the word, not just the first time."
SMALL = "Capitals are made small first: `sentence.lower()`."
LETTERWISE = "No merge was done: the pieces are single letters. Go through `merges` and join each pair where it stands."
BY_WORD = "Each word by itself: `sentence.split()`. A merge never reaches over a blank, and a blank is no piece."
BACKWARDS = "The merges are done in the wrong direction: the first of the list was learned first and is done first."


def cut(word: str, mode: str = "") -> list[str]:
    """The pieces of a word, by the rule or by a mistake."""
    pieces = [*word[:-1], word[-1] + ("" if mode == "no mark" else "_")]
    if mode == "all marked":
        pieces = [letter + "_" for letter in word]
    if mode == "longest":
        word, pieces = word + "_", []
        while word:
            n = max(n for n in range(1, len(word) + 1) if word[:n] in NUMBERS)
            pieces, word = [*pieces, word[:n]], word[n:]
        return pieces
    for pair in {"letters": [], "backwards": MERGES[::-1]}.get(mode, MERGES):
        made, done = [], False
        for piece in pieces:
            if made and (made[-1], piece) == pair and not (mode == "once" and done):
                made[-1], done = made[-1] + piece, True
            else:
                made.append(piece)
        pieces = made
    return pieces


MODES = {"no mark": MARK, "all marked": MARKED_ALL, "letters": LETTERWISE, "backwards": BACKWARDS, "longest": IN_TURN,
         "once": EVERYWHERE}  # fmt: skip


def numbers_of(sentence: str, mode: str = "") -> list[int]:
    return [NUMBERS[piece] for word in sentence.lower().split() for piece in cut(word, mode)]


def why_pieces(got: list, sentence: str) -> str:
    """The hint for wrong pieces between start and end."""
    inside = [number for number in got if number not in (START, END)]
    return next((hint for mode, hint in MODES.items() if inside == numbers_of(sentence, mode)), IN_TURN)


def cuts_words(fn: Callable) -> None:
    for sentence in ("red", "a blue ring", "a a", "inning", "breed", "string", "ringing"):
        want = [START, *numbers_of(sentence), END]
        want += [END] * (20 - len(want))
        call = f"to_ids({sentence!r}, merges, numbers, 20)"
        try:
            got = fn(sentence, list(MERGES), dict(NUMBERS), 20)
        except KeyError as error:
            blank = any(mark in str(error) for mark in (" ", "''"))
            raise Wrong(f"{call} asks `numbers` for {error}, which is no piece", BY_WORD if blank else MARK) from None
        if isinstance(got, Tensor):
            got = got.tolist()
        if not isinstance(got, list) or not all(isinstance(number, int) for number in got):
            raise Wrong(f"{call} gives {told(got)}; a list of numbers is wanted", "Look up each piece in `numbers`.")
        if got == want:
            continue
        names = [PIECES.get(number, number) for number in got]
        shown = " ".join(str(name) for name in names[:9]) + (" ..." if len(names) > 9 else "")
        what = f"{call} gives {len(got)} numbers, the pieces {shown}"
        if got[:1] != [START]:
            raise Wrong(what, NO_START)
        body = len(numbers_of(sentence)) + 1
        if got[:body] != want[:body]:
            raise Wrong(what, why_pieces(got, sentence))
        if set(got[body + 1 :]) == {0} or (got[body:] and set(got[body:]) == {0}):
            raise Wrong(what, PADDED.format(END))
        raise Wrong(what, FULL)


def stays_in_its_length(fn: Callable) -> None:
    sentence = "a blue star in a red ring"
    pieces = numbers_of(sentence)
    for length in (5, 8, len(pieces) + 1, len(pieces) + 2):
        got, call = fn(sentence, list(MERGES), dict(NUMBERS), length), f"to_ids({sentence!r}, ..., {length})"
        got = got.tolist() if isinstance(got, Tensor) else got
        if len(got) != length:
            hint = KEEP_END if len(got) > length or got[-1] == END else FULL
            raise Wrong(f"{call} gives {len(got)} numbers; it should be {length}", hint)
        if got[-1] != END:
            raise Wrong(f"{call} ends with {PIECES.get(got[-1], got[-1])}, and not with <end>", KEEP_END)
        want = [START, *pieces[: length - 2], END]
        if got != want:
            raise Wrong(f"{call} keeps {got.index(END) - 1} pieces; there is room for {length - 2}", KEEP_END)
    got = fn("A Red STAR", list(MERGES), dict(NUMBERS), 6)
    expect(list(got), [START, *numbers_of("a red star"), END, END][:6], "to_ids('A Red STAR', ..., 6)", SMALL)


def comes_back(fn: Callable) -> None:
    for sentence in ("mauve", "bluish stars reading", "zzz oo ooo"):
        got = fn(sentence, list(MERGES), dict(NUMBERS), 40)
        back = "".join(PIECES[n] for n in got if n not in (START, END)).replace("_", " ").strip()
        expect(back, sentence, f"The pieces of {sentence!r} put together again: to_ids", why_pieces(got, sentence))


# 11.contrastive

NORMS = "Cosines need vectors of length 1: divide each by its own norm, `x / x.norm(dim=1, keepdim=True)`."
NORM_AXIS = "Each VECTOR gets length 1, so the norm runs over dim 1; over dim 0 it mixes the pictures of the batch."
EXP = "What is learned is the LOGARITHM of the scale: multiply by `log_scale.exp()`."
DIVIDED = "The scale multiplies. It is the temperature, 1 over the scale, that one divides by."
CLAMP = "A scale above 100 counts as 100: `log_scale.exp().clamp(max=100)`."
CLAMP_LOG = "It is the scale that is at most 100, and not its logarithm: first exp, then clamp."
ROWS_ONLY = (
    "Half of it is missing: pictures look for their captions along the rows. Captions also look for their pictures, "
    "along the columns (`logits.T`), and the loss is the mean of both."
)
COLUMNS_ONLY = "Captions look for their pictures here, and nobody asks the other way. The loss is the mean of both."
SUMMED = "A mean, not a sum: over the pictures, and over the two ways. All alike has to give log N."
SOFT = "`cross_entropy` does the log-softmax itself: give it the logits, and not a softmax of them."
SIGN = "A surprise is MINUS the log-probability: the loss is 0 at best and never below."
NO_LOG = "The loss is the mean of minus the LOGARITHMS of the probabilities. 1 minus a probability is something else."
NO_OTHERS = "Only what belongs together is asked to be near. Without all the others in it, all may be alike."
KEPT = "Keep it a tensor: `.item()` and `float()` cut the gradient off."
LOSS_OTHER = "Test it by hand: all vectors alike, log N. Pictures and captions the same, a scale of 100: 0."


def losses(p: Tensor, t: Tensor, log_scale: Tensor) -> list[tuple[Tensor, str]]:
    """The right loss first, then what the usual mistakes give."""
    def from_logits(logits: Tensor) -> Tensor:
        own = torch.arange(len(logits))
        return (F.cross_entropy(logits, own) + F.cross_entropy(logits.T, own)) / 2

    n, s, own = F.normalize, log_scale.exp().clamp(max=100), torch.arange(len(p))
    cosines = n(p, dim=1) @ n(t, dim=1).T
    logits, across = s * cosines, s * n(p, dim=0) @ n(t, dim=0).T
    share = (logits.softmax(1).diagonal().mean() + logits.softmax(0).diagonal().mean()) / 2
    return [
        (from_logits(logits), ""), (from_logits(s * p @ t.T), NORMS), (from_logits(across), NORM_AXIS),
        (from_logits(log_scale * cosines), EXP), (from_logits(cosines / s), DIVIDED),
        (from_logits(log_scale.exp() * cosines), CLAMP), (from_logits(log_scale.clamp(max=100).exp() * cosines), CLAMP),
        (F.cross_entropy(logits, own), ROWS_ONLY), (F.cross_entropy(logits.T, own), COLUMNS_ONLY),
        (2 * from_logits(logits), SUMMED), (len(p) * from_logits(logits), SUMMED),
        (2 * len(p) * from_logits(logits), SUMMED), (-from_logits(logits), SIGN),
        ((F.cross_entropy(logits.softmax(1), own) + F.cross_entropy(logits.T.softmax(1), own)) / 2, SOFT),
        ((F.cross_entropy(logits.softmax(1), own) + F.cross_entropy(logits.softmax(0).T, own)) / 2, SOFT),
        (1 - share, NO_LOG), (-share, NO_LOG), (-logits.diagonal().mean(), NO_OTHERS),
        (-cosines.diagonal().mean(), NO_OTHERS), (1 - cosines.diagonal().mean(), NO_OTHERS),
    ]  # fmt: skip


def one_number(got: object, call: str) -> Tensor:
    if not isinstance(got, Tensor):
        raise Wrong(f"{call} gives {told(got)}; a tensor without axes is wanted, or no gradient could pass", KEPT)
    if got.ndim:
        raise Wrong(f"{call} gives the shape {tuple(got.shape)}; one number is wanted", SUMMED)
    return got


def has_known_values(fn: Callable) -> None:
    start = torch.tensor(1 / 0.07).log()
    for b in (4, 7):
        p, t = 3 * torch.randn(2, b, 5, generator=seeded(b), dtype=torch.float64)
        (want, _), *slips = losses(p, t, start)
        call = f"For {b} random pictures and captions and a scale of 14.3, clip_loss"
        got = one_number(fn(p, t, start), call)
        expect(got, want.to(got), call, hint_for(got.double(), slips, LOSS_OTHER))
    alike = torch.ones(6, 3)
    got = one_number(fn(alike, alike.clone(), start), "For vectors all alike, clip_loss")
    expect(got, torch.tensor(math.log(6)), "For 6 vectors that are all alike, clip_loss", LOSS_OTHER)
    got = fn(torch.eye(6), torch.eye(6), torch.tensor(100.0).log())
    expect(got, torch.tensor(0.0), "For perfect answers and a scale of 100, clip_loss", LOSS_OTHER)


def is_symmetric(fn: Callable) -> None:
    p, t = torch.randn(2, 5, 4, generator=seeded(3), dtype=torch.float64)
    scale = torch.tensor(1.5)
    expect(fn(t, p, scale), fn(p, t, scale), "Pictures and captions exchanged: clip_loss", ROWS_ONLY)


def keeps_the_scale_below_100(fn: Callable) -> None:
    p, t = torch.randn(2, 5, 4, generator=seeded(4), dtype=torch.float64)
    want, free = losses(p, t, torch.tensor(100.0).log())[0][0], torch.tensor(300.0).log()
    got = fn(p, t, free)
    unclamped = losses(p, t, free)[5][0]
    hint = hint_for(got.double(), [(unclamped, CLAMP)], CLAMP_LOG)
    expect(got, want.to(got), "With a scale of 300 in place of 100, clip_loss", hint)
    learned = torch.tensor(1.0, requires_grad=True)
    loss = fn(p, t, learned)
    if not loss.requires_grad:
        raise Wrong("No gradient reaches log_scale", KEPT)


EXERCISES = (
    Exercise("11.tokenizer", (
        "Three parts: cut the words, look up the numbers, and bring the list to its length.",
        "For one word: `pieces = [*word[:-1], word[-1] + \"_\"]`, then for each pair of `merges` walk along the "
        "pieces and join two neighbours that are that pair.",
        "At the end: `ids = ids[: length - 1]`, and `ids + [numbers[\"<end>\"]] * (length - len(ids))`.",
    ), (cuts_words, stays_in_its_length, comes_back)),
    Exercise("11.contrastive", (
        "Four steps: lengths of 1, all cosines times the scale, what each row costs, what each column costs.",
        "`logits = log_scale.exp().clamp(max=100) * pictures @ texts.T`; the right caption of picture i is number i.",
        "(F.cross_entropy(logits, own) + F.cross_entropy(logits.T, own)) / 2 with own = torch.arange(len(logits)).",
    ), (has_known_values, is_symmetric, keeps_the_scale_below_100)),
)  # fmt: skip
