"""What each run of a network that reads pictures trains, on what, by which loss: mini-CLIPs and classifiers."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from . import scenes, text
from .clip import Batch, MiniCLIP, clip_batch, clip_loss
from .features import Classifier, classifier_batch
from .train import CHECK_SEED, Run, device_of

# Seeds of the endless streams of scenes, others than those of `runs`.
CLIP_SEED, RELATIONS_SEED, FEATURES_SEED = 3, 13, 4


def contrast(batch: Batch) -> Callable[[nn.Module], float]:
    """The contrastive loss of this batch, as a check of a run."""

    @torch.no_grad()
    def check(clip: nn.Module) -> float:
        return clip_loss(clip, batch).item()

    return check


def clip_run(batch: int = 128, negatives: int = 2, alone: int = 300, steps: int = 1200) -> Run:
    """The tokenizer, learned from captions, and a mini-CLIP trained from nothing; hard negatives come after `alone`.

    The first steps tell whole captions apart, which costs a third of the time and leaves the loss's plateau at once.
    """
    said = [
        caption
        for full in (False, True)
        for caption in scenes.captions(scenes.draw(20_000, seed=CLIP_SEED), seed=CLIP_SEED, full=full)
    ]
    model = MiniCLIP(text.Text.tiny(text.train_tokenizer(said)))
    check = contrast(clip_batch(CHECK_SEED, 0, 256, 4))

    def loss(step: int, generator: torch.Generator) -> Tensor:
        return clip_loss(model, clip_batch(CLIP_SEED, step, batch, negatives if step >= alone else 0))

    return Run(model, loss, check, lambda clip: clip, steps, lr=1e-3, ema=0.995)


def relations_run(model: MiniCLIP, batch: int = 96, steps: int = 800) -> Run:
    """A mini-CLIP once more, now with two scenes in three of two objects, and captions that have them exchanged.

    Among all other hard negatives these are too few to be worth learning: it came out of `clip_run` unable to tell
    left from right, and what its states do not hold apart no picture can show (docs/measurements.md).
    """
    model.requires_grad_(True)

    def pairs(seed: int, step: int, count: int) -> Batch:
        two = clip_batch(seed, step, count - count // 3, 2, objects=2, mirrored=True)
        one = clip_batch(seed, step, count // 3, 2, objects=1)
        return torch.cat([two[0], one[0]]), two[1] + one[1], two[2] + one[2]

    check = contrast(pairs(CHECK_SEED, 0, 240))

    def loss(step: int, generator: torch.Generator) -> Tensor:
        return clip_loss(model, pairs(RELATIONS_SEED, step, batch))

    return Run(model, loss, check, lambda clip: clip, steps, lr=1e-3, ema=0.98)


def classifier_run(batch: int = 128, steps: int = 8000) -> Run:
    """The classifier of the shapes world: what is in a picture, each question by itself (`features.questions`)."""
    model = Classifier().to(memory_format=torch.channels_last)
    pictures, answers = classifier_batch(CHECK_SEED, 0, 512)

    @torch.no_grad()
    def check(model: nn.Module) -> float:
        return F.binary_cross_entropy_with_logits(model(pictures.to(device_of(model))).cpu().float(), answers).item()

    def loss(step: int, generator: torch.Generator) -> Tensor:
        x, y = (tensor.to(device_of(model)) for tensor in classifier_batch(FEATURES_SEED, step, batch))
        return F.binary_cross_entropy_with_logits(model(x).float(), y)

    return Run(model, loss, check, lambda model: model, steps, lr=2e-3, ema=0.995)


def digits_classifier_run(batch: int = 128, steps: int = 1500) -> Run:
    """A classifier of scikit-learn's handwritten digits."""
    from .data import digits

    (pictures, labels), (held_back, truth) = digits("train"), digits("test")
    model = Classifier(channels=1, answers=10, strides=(1, 1, 2))

    @torch.no_grad()
    def check(model: nn.Module) -> float:
        return F.cross_entropy(model(held_back.to(device_of(model))).cpu(), truth).item()

    def loss(step: int, generator: torch.Generator) -> Tensor:
        i = torch.randint(len(pictures), (batch,), generator=generator)
        shift = torch.randint(-1, 2, (2,), generator=generator).tolist()  # hands do not aim for the middle
        x, y = pictures[i].roll(shift, (2, 3)), labels[i]
        return F.cross_entropy(model(x.to(device_of(model))), y.to(device_of(model)))

    return Run(model, loss, check, lambda model: model, steps, lr=1e-3, ema=0.99, autocast=None)
