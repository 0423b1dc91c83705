"""What is seen of a run while it goes on: figures, sheets of pictures, TensorBoard."""

import warnings
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from .. import recipes, show
from ..files import UserError, atomic_write
from ..tasks import text2img
from ..train import Progress, Run, device_of
from .learning import Figures, Pixels, looked_at, wanted
from .plans import Plan

ROWS, COLUMNS = 4, 4  # prompts of a sheet, and noises that each is drawn from
STEPS, SCALE = 20, 3.0  # of the sampler
SEED = 17  # of those noises


class Watched(recipes.Watch):
    """Figures of pictures seen and held out; sheets in `samples/`, the same prompts and noises each time.

    prompts: one row each; by default captions of the album. tensorboard: write all of it for TensorBoard too.
    """

    def __init__(self, run: Run, figures: Figures, plan: Plan, folder: Path, prompts: Sequence[str] = (),
                 tensorboard: bool = False):  # fmt: skip
        super().__init__(run)
        self.figures, self.plan, self.folder = figures, plan, folder
        self.prompts = list(prompts) or usual_prompts(plan)
        self.part: int | None = None
        self.board = board()(str(folder / "tensorboard")) if tensorboard else None

    def line(self, line: dict[str, float]) -> None:
        if self.board:
            for name in line.keys() - {"step"}:
                self.board.add_scalar(name, line[name], line["step"])
            self.board.flush()

    def step(self, now: Progress, model: nn.Module) -> None:
        samples = self.plan.training.samples
        before, self.part = self.part, int(now.fraction * samples)
        due = now.step == 1 if before is None else self.part > before  # a run that goes on has drawn its own already
        if samples and due:
            self.sheet(now.step, model)

    def sheet(self, step: int, model: nn.Module) -> None:
        """Draw a sheet into samples/step-NNNNNN.png, and beside it what its rows are."""
        folder = self.folder / "samples"
        if self.plan.kind == "vae":
            x, rows = there_and_back(self.plan, model), ["the pictures", "what the autoencoder makes of them"]
        else:
            x, rows = drawn(self.plan, self.run.finish(model), self.prompts), self.prompts
        atomic_write(folder / f"step-{step:06}.png", show.png(x, len(x) // len(rows)))
        atomic_write(folder / "rows.txt", ("\n".join(rows) + "\n").encode())
        if self.board:
            sheet = show.sheet(x, len(x) // len(rows), 4)
            self.board.add_image("samples", sheet, step, dataformats="HWC")
            self.board.flush()


def usual_prompts(plan: Plan) -> list[str]:
    """The first ROWS different captions of pictures that are trained on, in the order of their files' hashes."""
    return list(dict.fromkeys(plan.album.pictures[i].caption for i in looked_at(plan)["seen"]))[:ROWS]


@torch.no_grad()
def drawn(plan: Plan, pipe: nn.Module, prompts: Sequence[str]) -> Tensor:
    """A row of pictures for each prompt, from the same COLUMNS noises every time: (rows * COLUMNS, 3, h, w)."""
    height, width = plan.album.place
    shape = pipe.latent_shape(height, width)
    noise = torch.randn(COLUMNS, *shape, generator=torch.Generator().manual_seed(SEED))
    with warnings.catch_warnings(action="ignore", category=UserWarning):  # of long captions: the report counts them
        rows = [text2img(pipe, [prompt] * COLUMNS, steps=STEPS, scale=SCALE, noise=noise, height=height, width=width)
                for prompt in prompts]  # fmt: skip
    return torch.cat(rows).float().cpu()


@torch.no_grad()
def there_and_back(plan: Plan, vae: nn.Module) -> Tensor:
    """Held-out pictures (or, without any, seen ones) above what comes back of them: (2 * n, 3, h, w)."""
    parts = looked_at(plan)
    numbers = parts.get("held_out", parts["seen"])
    most = max(plan.album.groups(numbers), key=len)[: 2 * COLUMNS]
    x = Pixels()([wanted(plan, i) for i in most]).to(device_of(vae))
    return torch.cat([x, vae.decode(vae.encode(x)[0]).clamp(-1, 1)]).float().cpu()


def board() -> type:
    """TensorBoard's writer. Raises `UserError` where the package is missing."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise UserError("--tensorboard", "no package tensorboard", "it after pip install tensorboard") from error
    return SummaryWriter
