"""A plan carried out: latents first, then the training, all into the folder of the run."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

from .. import processes, recipes
from ..files import UserError, atomic_write
from ..train import Progress, check_length
from .latents import Latents
from .learning import entries, latent_run, vae_run
from .plans import Plan
from .watching import Watched, board

CACHE = "latents"  # the sub-folder of a run for them, where no other is named


def encode(plan: Plan, folder: str | Path, cache: str | Path | None = None) -> Iterator[tuple[int, int]]:
    """Make the latents that a plan's run into `folder` needs and that are not there yet; yields how many are done, of
    how many. `train` does it by itself; ask for it first to see it go on."""
    if plan.kind == "latent":
        yield from Latents(cache or Path(folder) / CACHE, plan.vae).fill(entries(plan))


def train(plan: Plan, folder: str | Path, *, steps: int | None = None, seconds: float | None = None,
          resume: bool = False, snapshots: int = 0, accumulate: int = 1, prompts: Sequence[str] = (),
          cache: str | Path | None = None, tensorboard: bool = False,
          command: str | None = None) -> Iterator[Progress]:  # fmt: skip
    """Carry out a plan into `folder` and yield its progress; `weights.load(folder)` then is the trained model.

    steps or seconds: by default the settings' steps. snapshots: see `recipes.into`. prompts: of the sheets in
    `samples/`, by default some captions. cache: a folder for latents that several runs share. `folder` gets what
    `recipes.into` writes, with the losses on pictures seen and held out in `metrics.jsonl`; and `report.txt`,
    `samples/`, `latents/`, and `command.txt` if there is a `command`.
    Raises `UserError` where the folder holds another run, or one and `resume` is not asked for.
    """
    folder = check(plan, folder, resume, steps, seconds, tensorboard)
    first = processes.rank() == 0  # of several processes this one writes
    if first:
        atomic_write(folder / "report.txt", (plan.report(names=None) + "\n").encode())
    if first and command:
        path = folder / "command.txt"
        before = path.read_text(encoding="utf-8") if resume and path.exists() else ""
        atomic_write(path, f"{before}{command}\n".encode())
    if plan.kind == "latent":
        latents = Latents(cache or folder / CACHE, plan.vae)
        for _ in latents.fill(entries(plan)):
            pass
        processes.totals([0], plan.model.device)  # wait for all: what follows removes files that nobody writes any more
        run, figures = latent_run(plan, latents)
    else:
        run, figures = vae_run(plan)
    watch = Watched(run, figures, plan, folder, prompts, tensorboard)
    yield from recipes.into(folder, run, plan.asked, steps, seconds, plan.seed, snapshots, accumulate, watch)


def check(plan: Plan, folder: str | Path, resume: bool = False, steps: int | None = None,
          seconds: float | None = None, tensorboard: bool = False) -> Path:  # fmt: skip
    """The folder of a run to be. Raises `UserError` as `train` does, before anything is written."""
    folder = Path(folder)
    recipes.check_free(folder, resume)
    if folder.resolve().is_relative_to(plan.album.path.resolve()):
        raise UserError("out", str(folder), f"a folder outside of {plan.album.path}, where the pictures are")
    if steps is not None or seconds is not None:
        check_length(steps, seconds)
    if resume and recipes.states_of(folder).files():
        before = json.loads((folder / "run.json").read_text(encoding="utf-8"))
        for name, value in json.loads(json.dumps(plan.asked)).items():
            if before.get(name) != value and name not in ("data", "vae"):  # which may lie elsewhere now
                raise UserError(f"{name}, on resuming", value, f"{before.get(name)}, as the run in {folder} began")
    if tensorboard:
        board()
    return folder
