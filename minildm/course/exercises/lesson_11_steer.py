"""Lesson 11, CLIP guidance: the log-probability of a sentence, for a picture that is only guessed."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from ...levels import Level
from . import Exercise, Wrong, expect, hint_for, seeded, told

# 11.clip_guidance

NOISY = "The CLIP was shown the noisy x. It reads clean pictures: show it the guess, `guess(x, level)`, decoded."
UNDECODED = "The guess is in latents, and the CLIP reads pictures: `decode` comes between them."
NO_NORM = "What `look` answers has any length. Cosines need length 1: `F.normalize(..., dim=-1)`."
COSINE_ONLY = (
    "This is the cosine or a multiple of it. A log-probability compares it with all the other sentences: log-softmax."
)
OTHER_AXIS = (
    "The softmax runs over the pictures, which then compete with each other. Each picture chooses among the SENTENCES: "
    "rows of pictures, dim 1."
)
NO_SCALE = "The cosines have to be multiplied by `scale` before the softmax; as they are, they can hardly decide."
PROBABILITY = "This is the probability itself. Its LOGARITHM is wanted: `log_softmax`."
FLAT = (
    "No slope in x comes out: somewhere the gradient is cut, by `.detach()`, `.item()` or torch.no_grad. The path from "
    "x to the log-probability has to stay whole."
)
ALL_OF_THEM = "One number for each picture, that of its OWN sentence: the diagonal of the (b, b) table."
MATCH = "Look up, decode, look, length 1, times sentences and scale, log-softmax over dim 1, the diagonal."
LATER = "What you return is asked later with (x, level): define a function inside, and return it."


class World:
    """A guess, a decoder and a reader simple enough to know every answer."""

    def __init__(self, b: int, seed: int):
        def draw(*size: int) -> Tensor:
            return torch.randn(*size, generator=seeded(seed + sum(size)), dtype=torch.float64)

        self.x, self.wide, self.eye = draw(b, 4), draw(4, 4), draw(4, 5)
        self.sentences = F.normalize(draw(b, 5), dim=-1)
        self.level = Level(300.0, 0.8, 0.6)

        # functions and no methods: a message tells a method by its address
        def guess(x: Tensor, level: Level) -> Tensor:
            return level.alpha * x + 0.3 * x.sin()

        def decode(z: Tensor) -> Tensor:
            return torch.tanh(z @ self.wide)

        def look(pictures: Tensor) -> Tensor:
            return 3 * pictures @ self.eye

        self.guess, self.decode, self.look = guess, decode, look

    def answers(self, x: Tensor, scale: float) -> list[tuple[Tensor, str]]:
        z = self.guess(x, self.level)
        seen = F.normalize(self.look(self.decode(z)), dim=-1)

        def own(vectors: Tensor, s: float = scale, dim: int = 1) -> Tensor:
            return (s * vectors @ self.sentences.T).log_softmax(dim).diagonal()

        cosines = (seen * self.sentences).sum(1)
        return [
            (own(seen), ""), (own(F.normalize(self.look(self.decode(x)), dim=-1)), NOISY),
            (own(F.normalize(self.look(x), dim=-1)), NOISY), (own(F.normalize(self.look(z), dim=-1)), UNDECODED),
            (own(self.look(self.decode(z))), NO_NORM), (cosines, COSINE_ONLY), (scale * cosines, COSINE_ONLY),
            (own(seen, dim=0), OTHER_AXIS), (own(seen, 1.0), NO_SCALE), (own(seen).exp(), PROBABILITY),
        ]  # fmt: skip


def knows_its_sentence(fn: Callable) -> None:
    for b, scale in ((3, 5.0), (4, 14.0)):
        world = World(b, seed=b)
        call = f"For {b} pictures and a scale of {scale:g}, log_prob(x, level)"
        log_prob = fn(world.guess, world.decode, world.look, world.sentences, scale)
        if not callable(log_prob):
            raise Wrong(f"log_prob_of gives {told(log_prob)}; a function of (x, level) is wanted", LATER)
        x = world.x.clone().requires_grad_()
        got = log_prob(x, world.level)
        (want, _), *slips = world.answers(world.x, scale)
        if got is None:
            raise Wrong(f"{call} gives None", "The inner function needs a `return` of its own.")
        if isinstance(got, Tensor) and got.shape in ((b, b), ()):
            raise Wrong(f"{call} gives the shape {tuple(got.shape)}; it should be ({b},)", ALL_OF_THEM)
        expect(got.detach() if isinstance(got, Tensor) else got, want, call,
               hint_for(got.detach() if isinstance(got, Tensor) else got, slips, MATCH))  # fmt: skip
        if not got.requires_grad:
            raise Wrong(f"{call} does not depend on x, as PyTorch sees it", FLAT)
        (slope,) = torch.autograd.grad(got.sum(), x)
        y = world.x.clone().requires_grad_()
        (right,) = torch.autograd.grad(world.answers(y, scale)[0][0].sum(), y)
        expect(slope, right, f"The slope of {call}", FLAT)


EXERCISES = (
    Exercise("11.clip_guidance", (
        "A function inside a function. Follow one picture: noisy, guessed, decoded, looked at, compared.",
        "`seen = F.normalize(look(decode(guess(x, level))), dim=-1)`, and `scale * seen @ sentences.T` is a table: a "
        "row for each picture, a column for each sentence.",
        "return (scale * seen @ sentences.T).log_softmax(dim=1).diagonal()",
    ), (knows_its_sentence,)),
)  # fmt: skip
