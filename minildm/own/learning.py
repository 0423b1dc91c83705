"""The losses of both trainings, and the numbers that show whether a model learns or only memorises."""

import warnings
from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor, nn

from .. import draws, folders
from ..pipe import LatentDiffusion
from ..train import Run, device_of, diffusion_loss, vae_loss
from ..vae import VAE, sample_latent
from .buckets import Order
from .latents import MEMORY, Latents, Wanted, pixels_of
from .plans import Plan

LOOKED_AT = 64  # pictures of each part that the figures are of
TRIES = 4  # noise levels that each of them is seen at
Figures = Callable[[nn.Module], dict[str, float]]


class Taught(nn.Module):
    """A U-Net and the text tower that is trained with it: one module for the optimizer and the average."""

    def __init__(self, unet: nn.Module, text: nn.Module):
        super().__init__()
        self.unet, self.text = unet, text


class Remembered:
    """A frozen text tower's answer to each caption, worked out once, as long as they fit into memory."""

    def __init__(self, pipe: LatentDiffusion):
        self.pipe, self.known, self.bytes = pipe, {}, 0

    def __call__(self, captions: list[str]) -> dict[str, Tensor]:
        """Captions -> what the U-Net is told of them, {"context": (b, n, d)}."""
        if self.bytes > MEMORY:
            return self._asked(captions)
        if new := sorted(set(captions) - self.known.keys()):
            for caption, state in zip(new, self._asked(new)["context"], strict=True):
                self.known[caption] = state
                self.bytes += state.nbytes
        return {"context": torch.stack([self.known[caption] for caption in captions])}

    def _asked(self, captions: list[str]) -> dict[str, Tensor]:
        with torch.autocast(self.pipe.device.type, enabled=False):
            return self.pipe.condition(captions)


class Pixels:
    """Pictures as bytes (3, h, w), held in memory as long as they fit, else read anew each time."""

    def __init__(self):
        self.held: dict[Wanted, Tensor] = {}
        self.bytes = 0

    def __call__(self, wanted: list[Wanted]) -> Tensor:
        """Entries of one size -> pictures (b, 3, h, w) in -1..1."""
        return folders.scaled(torch.stack([self._one(one) for one in wanted]))

    def _one(self, wanted: Wanted) -> Tensor:
        if wanted in self.held:
            return self.held[wanted]
        pixels = pixels_of(wanted)
        if self.bytes < MEMORY:
            self.held[wanted] = pixels
            self.bytes += pixels.nbytes
        return pixels


def entries(plan: Plan) -> list[Wanted]:
    """All pictures of a plan's album as training asks for them: with flips, each mirrored too."""
    sides = (False, True) if plan.training.flips else (False,)
    return [wanted(plan, i, side) for i in range(len(plan.album.pictures)) for side in sides]


def wanted(plan: Plan, number: int, mirrored: bool = False) -> Wanted:
    return Wanted(plan.album.pictures[number], plan.album.places[number], mirrored)


def batches(plan: Plan) -> Callable[[int, draws.Source], tuple[list[int], list[Wanted]]]:
    """f(step, source) -> the numbers of the pictures asked for, and the entries to show: some mirrored, if so asked."""
    album, training = plan.album, plan.training
    order = Order(album.groups(album.numbers(held_out=False)), training.batch, plan.seed)

    def batch(step: int, source: draws.Source) -> tuple[list[int], list[Wanted]]:
        whole = order.at(step)
        numbers = [whole[i] for i in draws.places(len(whole), source)]
        turned = draws.uniform((len(numbers),), source) < 0.5 if training.flips else [False] * len(numbers)
        return numbers, [wanted(plan, i, bool(side)) for i, side in zip(numbers, turned, strict=True)]

    return batch


def looked_at(plan: Plan) -> dict[str, list[int]]:
    """The pictures that the figures are of: as many that training sees as are held out, in their hashes' order."""
    parts = {"seen": plan.album.numbers(held_out=False), "held_out": plan.album.numbers(held_out=True)}
    parts = {name: sorted(part, key=lambda i: plan.album.pictures[i].digest) for name, part in parts.items() if part}
    least = min(LOOKED_AT, *map(len, parts.values())) if len(parts) > 1 else LOOKED_AT
    return {name: part[:least] for name, part in parts.items()}


def latent_run(plan: Plan, latents: Latents) -> tuple[Run, Figures]:
    """The training of a text-to-picture model, and f(model) -> its loss on pictures seen and held out.

    Both losses are over the same noise every time: only the network can change them. They part where it memorises.
    """
    pipe, training, album = plan.model, plan.training, plan.album
    if plan.fresh:
        some = [wanted(plan, i) for i in album.numbers(held_out=False)[:1024]]
        values = torch.cat([latents([one])[0].flatten() for one in some])
        pipe.vae.config = replace(pipe.vae.config, scaling_factor=round(1 / values.std().item(), 5))
    factor = pipe.vae.config.scaling_factor
    remembered = Remembered(pipe)
    model = Taught(pipe.unet, pipe.text) if plan.learns_words else pipe.unet
    batch = batches(plan)

    def error(model: nn.Module, z: Tensor, said: list[str], source: draws.Source, noisy: float = 0.0) -> Tensor:
        with warnings.catch_warnings(action="ignore", category=UserWarning):  # of long captions: the report counts them
            unet, told = (model.unet, {"context": model.text(said)}) if plan.learns_words else (model, remembered(said))
        z = (z * factor).to(device_of(model))
        return diffusion_loss(unet, z, pipe.schedule, pipe.prediction, source, noisy, **told)

    def loss(step: int, source: draws.Source) -> Tensor:
        numbers, shown = batch(step, source)
        z = sample_latent(*latents(shown), source)  #                                     (b, c, h/f, w/f)
        left_out = draws.uniform((len(numbers),), source) < training.unsaid
        said = ["" if left else album.pictures[i].caption for i, left in zip(numbers, left_out, strict=True)]
        return error(model, z, said, source, training.noisy).mean()

    @torch.no_grad()
    def figures(model: nn.Module) -> dict[str, float]:
        found = {}
        for name, part in looked_at(plan).items():
            losses = []
            for group in album.groups(part):
                group = group * TRIES
                z = latents([wanted(plan, i) for i in group])[0]
                said = [album.pictures[i].caption for i in group]
                losses.append(error(model, z, said, torch.Generator().manual_seed(0)))
            found[name] = torch.cat(losses).mean().item()
        return found

    def finish(model: nn.Module) -> LatentDiffusion:
        pipe.unet, pipe.text = (model.unet, model.text) if plan.learns_words else (model, pipe.text)
        return pipe

    return _run(plan, model, loss, figures, finish), figures


def vae_run(plan: Plan) -> tuple[Run, Figures]:
    """The training of an autoencoder, and f(model) -> its squared error on pictures seen and held out."""
    model, training, album = plan.model, plan.training, plan.album
    pixels, batch = Pixels(), batches(plan)

    def loss(step: int, source: draws.Source) -> Tensor:
        x = pixels(batch(step, source)[1]).to(device_of(model), memory_format=torch.channels_last)
        return sum(vae_loss(model, x, training.kl_weight, source))

    def each(part: list[int]) -> list[Tensor]:
        return [pixels([wanted(plan, i) for i in group[first : first + 16]]).to(device_of(model))
                for group in album.groups(part) for first in range(0, len(group), 16)]  # fmt: skip

    @torch.no_grad()
    def figures(vae: nn.Module) -> dict[str, float]:
        found = {}
        for name, part in looked_at(plan).items():
            errors = [(vae.decode(vae.encode(x)[0]) - x).square().flatten(1).mean(1) for x in each(part)]
            found[name] = torch.cat(errors).mean().item()
        return found

    @torch.no_grad()
    def finish(vae: VAE) -> VAE:
        values = torch.cat([vae.encode(x)[0].flatten() for x in each(album.numbers(held_out=False)[:1024])])
        vae.config = replace(vae.config, scaling_factor=round(1 / values.std().item(), 5))
        return vae

    model.to(memory_format=torch.channels_last)
    return _run(plan, model, loss, figures, finish), figures


def _run(plan, model, loss, figures, finish) -> Run:
    def check(model: nn.Module) -> float:
        found = figures(model)
        return found.get("held_out", found["seen"])

    training = plan.training
    bf16 = device_of(model).type == "cuda" if training.bf16 is None else training.bf16
    return Run(model, loss, check, finish, training.steps, training.lr, training.ema, training.batch,
               torch.bfloat16 if bf16 else None)  # fmt: skip
