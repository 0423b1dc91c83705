"""A small CLIP, how it learns, and what it learns from: pictures of scenes and captions, true and almost true."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .scenes import Scenes, captions, draw, render
from .scenes.negatives import false_captions
from .text import Text

Batch = tuple[Tensor, list[str], list[list[str]]]


class MiniCLIP(nn.Module):
    """Pictures (b, 3, 32, 32) in -1..1 and prompts, both as unit vectors (b, d): near where the prompt is true.

    After Radford et al. 2021, section 2.3, with a small convolutional picture tower that keeps where things are.
    """

    def __init__(self, text: Text, dim: int = 128, channels: int = 32):
        super().__init__()
        self.text, self.dim, self.channels = text, dim, channels
        c = channels
        self.picture = nn.Sequential(  #                                                  (b, 3, 32, 32)
            nn.Conv2d(3, c, 3, stride=2, padding=1),
            nn.GroupNorm(8, c),
            nn.SiLU(),
            nn.Conv2d(c, 2 * c, 3, stride=2, padding=1),  #                               (b, 2c, 8, 8)
            nn.GroupNorm(8, 2 * c),
            nn.SiLU(),
            nn.Conv2d(2 * c, 2 * c, 3, stride=2, padding=1),
            nn.GroupNorm(8, 2 * c),
            nn.SiLU(),
            nn.Flatten(),  #                                                              (b, 32c)
            nn.Linear(32 * c, 8 * c),
            nn.LayerNorm(8 * c),
            nn.SiLU(),
            nn.Linear(8 * c, dim),
        )
        self.project = nn.Linear(text.model.config.hidden_size, dim, bias=False)
        self.log_scale = nn.Parameter(torch.tensor(1 / 0.07).log())

    @property
    def scale(self) -> Tensor:
        """What the cosines are multiplied by, at most 100 (Radford et al. 2021, section 2.5)."""
        return self.log_scale.exp().clamp(max=100)

    def pictures(self, x: Tensor) -> Tensor:
        """Pictures (b, 3, 32, 32) in -1..1 -> unit vectors (b, d)."""
        return F.normalize(self.picture(x), dim=-1)

    def prompts(self, texts: str | list[str]) -> Tensor:
        """Prompts -> unit vectors (b, d)."""
        return F.normalize(self.project(self.text.pooled(texts)), dim=-1)

    def similarity(self, x: Tensor, texts: str | list[str]) -> Tensor:
        """Cosines of every picture with every prompt: (b, 3, 32, 32) and m prompts -> (b, m), in -1..1."""
        return self.pictures(x) @ self.prompts(texts).T


def contrastive_loss(pictures: Tensor, texts: Tensor, scale: Tensor, negatives: Tensor | None = None) -> Tensor:
    """Symmetric cross-entropy of which text belongs to which picture: unit vectors (b, d) twice -> scalar, in nats.

    Radford et al. 2021, figure 3. `negatives` (b, k, d) are more texts that are false of their own picture; they
    join that picture's choice among the texts, where there are then b + k.
    """
    logits = scale * pictures @ texts.T  #                                                (b, b)
    truth = torch.arange(len(logits), device=logits.device)
    of_picture = logits
    if negatives is not None:
        hard = scale * torch.einsum("bd,bkd->bk", pictures, negatives)
        of_picture = torch.cat([logits, hard], 1)  #                                      (b, b + k)
    return (F.cross_entropy(of_picture, truth) + F.cross_entropy(logits.T, truth)) / 2


def clip_batch(
    seed: int, step: int, batch: int = 128, negatives: int = 2, objects: int | None = None, mirrored: bool = False
) -> Batch:
    """Batch number `step` of a run: pictures (b, 3, 32, 32), b captions, and of each, captions that are false of it.

    Half of the captions name everything, half leave things out. No held-out pair, no held-out sentence form.
    `objects`, 1 or 2 in each scene (None: both kinds); `mirrored`, see `scenes.negatives.hard_negatives`.
    """
    start = step * batch
    scenes = draw(batch, seed, start, objects)
    texts, false = [], []
    for full, half in ((True, slice(0, batch // 2)), (False, slice(batch // 2, batch))):
        part: Scenes = scenes[half]
        texts += captions(part, seed, start + half.start, full)
        if negatives:
            false += false_captions(part, seed, start + half.start, full, negatives, mirrored)
    return render(scenes), texts, false


def clip_loss(model: MiniCLIP, batch: Batch) -> Tensor:
    """The contrastive loss of a batch from `clip_batch`, on the model's device."""
    pictures, texts, false = batch
    b = len(texts)
    vectors = model.prompts(texts + [text for row in false for text in row])
    images = model.pictures(pictures.to(model.log_scale.device))
    hard = vectors[b:].unflatten(0, (b, -1)) if false else None
    return contrastive_loss(images, vectors[:b], model.scale, hard)
