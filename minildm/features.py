"""A small classifier of pictures, whose inner states are features for `metrics`, and what it learns from.

A network that was trained to name what is in a picture has to hold that in its last states; distances of these are
what the Fréchet and kernel distance look at. Inception was trained on photographs and says little about shapes; for
photographs `inception` opens it, where its weights are at hand.
"""

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .files import UserError
from .scenes import BACKGROUNDS, COLOURS, PLACES, SHAPES, SIZES, Scenes, draw, ninth, render

QUESTIONS = len(COLOURS) * len(SHAPES) + len(SHAPES) * len(SIZES) + len(PLACES) + len(BACKGROUNDS) + 1


class Classifier(nn.Module):
    """Pictures (b, c, h, w) in -1..1 -> logits (b, answers); `features` are the states (b, dim) before the last layer.

    The strides of the convolutions have to bring it to 4 x 4: (1, 2, 2, 2) from 32 x 32 pixels, (1, 1, 2) from 8 x 8.
    """

    def __init__(self, channels: int = 3, answers: int = QUESTIONS, strides: tuple[int, ...] = (1, 2, 2, 2),
                 width: int = 32, dim: int = 64):  # fmt: skip
        super().__init__()
        self.channels, self.answers, self.strides = channels, answers, tuple(strides)
        self.width, self.dim = width, dim
        layers, c = [], channels
        for stride, out in zip(strides, (width, *[2 * width] * (len(strides) - 1)), strict=True):
            layers += [nn.Conv2d(c, out, 3, stride, padding=1), nn.GroupNorm(8, out), nn.SiLU()]
            c = out
        self.trunk = nn.Sequential(*layers, nn.Flatten(), nn.Linear(16 * c, dim), nn.SiLU())
        self.head = nn.Linear(dim, answers)

    def features(self, x: Tensor) -> Tensor:
        """Pictures (b, c, h, w) in -1..1 -> features (b, dim), each picture's of mean 0 and variance 1.

        Unlike the bare states, which are largest in pictures such as the classifier never saw, and would then drown
        all others in a distance: kernel distances went into the millions.
        """
        return F.layer_norm(self.trunk(x), (self.dim,))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.trunk(x))


def questions(scenes: Scenes) -> Tensor:
    """What a picture of each scene should be answered, 0 or 1: (n, QUESTIONS) float32.

    Is there an object of this colour and shape, one of this shape and size, one in this ninth of the frame, this
    background, a second object?
    """
    n = len(scenes)
    there = (scenes.shape >= 0).float()
    shape, colour, size = (value.clamp(min=0) for value in (scenes.shape, scenes.colour, scenes.size))

    def asked(index: Tensor, count: int) -> Tensor:
        return torch.zeros(n, count).scatter_reduce(1, index, there, "amax")

    return torch.cat([
        asked(colour * len(SHAPES) + shape, len(COLOURS) * len(SHAPES)),
        asked(shape * len(SIZES) + size, len(SHAPES) * len(SIZES)),
        asked(ninth(scenes), len(PLACES)),
        F.one_hot(scenes.background, len(BACKGROUNDS)),
        (scenes.count == 2)[:, None],
    ], 1)  # fmt: skip


def classifier_batch(seed: int, step: int, batch: int = 128) -> tuple[Tensor, Tensor]:
    """Batch number `step` of a run: pictures (b, 3, 32, 32) and what `questions` says of them.

    Half of the scenes have a pair that no model is shown: a judge has to know every pair.
    """
    parts = [draw(batch // 2, seed, step * batch, held_out=held) for held in (False, True)]
    return torch.cat([render(part) for part in parts]), torch.cat([questions(part) for part in parts])


def inception(weights: str | Path | None = None, download: bool = False) -> nn.Module:
    """Torchvision's Inception v3: pictures (b, 3, h, w) in -1..1, of any size -> features (b, 2048), for photographs.

    `weights` is torchvision's file, by default the one in its cache; where there is none it is fetched only with
    `download`. Pictures are resized to 299 x 299. These are torchvision's ImageNet weights, not those by which Heusel
    et al. 2017 measured: distances compare with each other, not with published FIDs. Raises `UserError` for a file that
    is missing or no Inception.
    """
    from torchvision.models import Inception_V3_Weights, inception_v3
    from torchvision.transforms import Resize

    known = Inception_V3_Weights.IMAGENET1K_V1
    path = Path(weights or Path(torch.hub.get_dir(), "checkpoints", known.url.split("/")[-1]))
    # torchvision documents the means and deviations of ImageNet, and its network's first act is to undo them: the
    # weights were made for -1..1. Without `transform_input` our pictures go in as they are.
    network = inception_v3(init_weights=False, transform_input=False)
    try:
        if weights is None and download:
            state = known.get_state_dict(progress=False, check_hash=True)
        else:
            state = torch.load(path, map_location="cpu", weights_only=True)
        network.load_state_dict(state)
    except OSError as error:
        raise UserError("weights of Inception", str(path), f"{known.url} in that place, or download=True") from error
    except Exception as error:  # what a broken or hostile pickle raises has no end
        raise UserError("weights of Inception", str(path), "torchvision's inception_v3, unaltered") from error
    network.fc = nn.Identity()
    return nn.Sequential(Resize((299, 299)), network).eval().requires_grad_(False)
