"""Which of several pictures a model itself would call the best."""

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from .. import pictures
from ..files import UserError
from ..pipe import LatentDiffusion
from .draw import _prompts, prompted

# Shares of the table. Of eleven from 0.05 to 0.9 these chose best among 7 pictures of each of 100 scenes: in less noise
# everything is easily mended, in more nothing is seen.
LEVELS = (0.5, 0.6, 0.7)
TRIES = 2  # noises at each


@torch.no_grad()
def likeliest(
    pipe: LatentDiffusion,
    prompt: str | Sequence[str],
    candidates: Sequence[pictures.Given],
    generator: torch.Generator | None = None,
) -> Tensor:
    """Of several pictures for each prompt the one that the model denoises with the least error: (b, 3, h, w).

    candidates: several pictures of one size for one prompt, or several batches (b, 3, h, w) for b prompts; each
    prompt's picture is chosen among those at its place. The error in eps, over the same noises for all, is the
    training loss and so a bound on the likelihood (Ho et al. 2020, arXiv 2006.11239, eq. 14); Li et al. 2023 (arXiv
    2303.16203) choose among captions so. Six calls of the network for each candidate. What the model never saw in
    training, such as a thing cut in two, it denoises badly. A low error is no proof: the model trusts its own mistakes.
    Raises `UserError` for no candidates, pictures of different sizes, and as `text2img` does.
    """
    prompts = _prompts(prompt)
    if not isinstance(candidates, Iterable):
        raise UserError("candidates", candidates, "one or more pictures, all of one size")
    shown = [pictures.read(one) for one in candidates]
    if not shown or any(one.shape != shown[0].shape for one in shown):
        raise UserError("candidates", [tuple(one.shape) for one in shown], "one or more pictures, all of one size")
    n = len(shown[0])
    if len(prompts) not in (1, n):
        raise UserError("prompts", len(prompts), f"one, or as many as there are pictures in each: {n}")
    latents = [pipe.encode(pictures.padded(one, pipe.factor)) for one in shown]  #        each (b, c, h/f, w/f)
    if pipe.unet.config.in_channels != latents[0].shape[1]:
        raise UserError("model", f"a U-Net of {pipe.unet.config.in_channels} channels", "one that takes a prompt alone")
    height, width = (side * pipe.factor for side in latents[0].shape[2:])
    denoise = prompted(pipe, prompts * (n // len(prompts)), None, 1.0, height, width)
    table = pipe.schedule.rows()
    errors = torch.zeros(len(latents), n)
    with pipe.at_work(pipe.unet):
        for share in LEVELS:
            row = table[int(share * (len(table) - 1))]
            for _ in range(TRIES):
                eps = torch.randn(latents[0].shape, generator=generator).to(latents[0])
                for error, z in zip(errors, latents, strict=True):
                    wrong = denoise(row.alpha * z + row.sigma * eps, row) - z
                    error += (row.alpha / row.sigma * wrong).square().flatten(1).mean(1).cpu()
    return torch.stack(shown)[errors.argmin(0), torch.arange(n)]
