"""What is to be trained on which pictures: the networks, the settings and the album, all checked before a run."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch

from .. import evaluate, folders, levels, weights
from ..devices import device_of
from ..files import UserError
from ..pipe import LatentDiffusion
from ..runs import VAE_CONFIG
from ..unet import UNet, UNetConfig
from ..vae import VAE
from . import words
from .album import Album, look
from .latents import encoder_digest
from .settings import LatentTraining, TextConfig, Training, VAETraining, changed, names, told

KINDS = ("latent", "vae")
STEP = 8  # sides of pictures are multiples of this, or of what the networks need
SHIPPED_VAE = "shapes/vae"
LEARNED = 5000  # a vocabulary learned from captions is smaller, a published one larger: that one is left as it is
# Two levels: attention only where a 64x64 picture has 8x8 places.
UNET_CONFIG = UNetConfig(
    block_out_channels=(64, 128), layers_per_block=1, transformer_layers=(0, 1), heads=(4, 4), context_dim=128,
    linear_projection=True, norm_num_groups=16,
)  # fmt: skip
POOR = 22.0  # decibels: below, an autoencoder blurs what a model could have learned to draw
MEASURED = 64  # pictures that an autoencoder is tried on


@dataclass
class Plan:
    """A training that is ready to start. `model`: a `LatentDiffusion`, or for the kind "vae" a `VAE`."""

    kind: str  # one of KINDS
    album: Album
    training: Training
    model: LatentDiffusion | VAE
    learns_words: bool  # whether the text tower is trained too
    asked: dict  # what was asked for, as `run.json` keeps it
    seed: int
    fresh: bool  # whether the network starts from random weights

    @property
    def vae(self) -> VAE:
        return self.model if self.kind == "vae" else self.model.vae

    def report(self, names: int | None = 5) -> str:
        """What was found in the folder, and how well the autoencoder knows such pictures; see `Album.report`."""
        text = self.album.report(names)
        if self.kind == "vae" and self.fresh:
            return text
        if self.too_long:
            most = self.model.text.tokenizer.model_max_length - 2
            text += f"\n  captions  {self.too_long} are longer than the text tower reads: {most} tokens, and no more"
        found = self.psnr
        text += f"\n  autoencoder {found:.1f} dB PSNR on these pictures"
        if self.kind == "latent" and found < POOR:
            text += f", and below {POOR:g} they blur; train one first:"
            text += f"\n             minildm train vae --data {self.album.path} --out VAE, then --vae VAE here"
        return text

    @cached_property
    def too_long(self) -> int:
        """How many captions the text tower does not read to their end."""
        captions = [one.caption for one in self.album.pictures]
        return 0 if self.kind == "vae" else words.too_long(self.model.text, captions)

    @cached_property
    @torch.no_grad()
    def psnr(self) -> float:
        """How near the autoencoder's pictures are to these before any training, in decibels, on up to MEASURED."""
        device = device_of(self.vae)
        some = sorted(range(len(self.album.pictures)), key=lambda i: self.album.pictures[i].digest)[:MEASURED]
        error = count = 0.0
        for i in some:
            x = folders.scaled(folders.fitted(self.album.pictures[i], *self.album.places[i])[None]).to(device)
            error += (self.vae.decode(self.vae.encode(x)[0]).clamp(-1, 1) - x).square().sum().item()
            count += x.numel()
        return evaluate.psnr(error / count)


def plan(kind: str, data: str | Path, *, vae: str | None = None, clip: str | None = None, start: str | None = None,
         settings: Sequence[str] = (), seed: int = 0, device: str | torch.device = "cpu") -> Plan:  # fmt: skip
    """Everything a training on the pictures of the folder `data` needs; nothing is written.

    kind "latent": a text-to-picture model in the latents of `vae` (folder or name; by default the shipped one, or that
    of `start`). Its words are learned from the captions, by a text tower that is trained along; or the frozen tower of
    `clip` is used. start: a trained model to go on from, its text tower included.
    kind "vae": an autoencoder, by default the shipped one trained further; a setting such as
    "vae.latent_channels=8", or start="none", begins with random weights.
    settings: see `settings.changed`; "lr=1e-4", "unet.block_out_channels=64,128".
    Raises `UserError` for all that is wrong with any of these.
    """
    if kind not in KINDS:
        raise UserError("recipe", kind, "one of " + ", ".join(KINDS) + ", for pictures of one's own")
    if kind == "latent" and start == "none":
        start = None
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        make = _vae if kind == "vae" else _latent
        made = make(data, vae, clip, start, list(settings))
        made.model.to(device)
    made.seed = seed
    encoder = encoder_digest(made.vae) if kind == "latent" else None
    made.asked |= {
        "recipe": kind, "seed": seed, "data": str(data), "album": made.album.digest,
        "pictures": len(made.album.pictures), "vae": vae, "clip": clip, "start": start, "encoder": encoder,
    }  # fmt: skip
    return made


def usual(kind: str) -> list[str]:
    """All settings of a kind of training that starts from nothing, as they are if nobody changes them."""
    configs = {"training": LatentTraining(), "unet": UNET_CONFIG, "text": TextConfig()}
    if kind == "vae":
        configs = {"training": VAETraining(), "vae": VAE_CONFIG}
    values = [value for config in configs.values() for value in dataclasses.asdict(config).values()]
    return [f"{name}={told(value)}" for name, value in zip(names(configs), values, strict=True)]


def _vae(data, vae, clip, start, settings) -> Plan:
    for name, value in (("vae", vae), ("clip", clip)):
        if value is not None:
            raise UserError(name, value, "nothing, for an autoencoder; --start goes on from one")
    configs = changed({"training": VAETraining(), "vae": VAE_CONFIG}, settings)
    own = any(setting.strip().startswith("vae.") for setting in settings)
    start = start or ("none" if own else SHIPPED_VAE)
    if start == "none":
        model = VAE(configs["vae"])
    else:
        model = weights.load(start)
        model = model.vae if isinstance(model, LatentDiffusion) else model
        if not isinstance(model, VAE) or (own and model.config != configs["vae"]):
            raise UserError("start", start, f"an autoencoder with this network: {configs['vae']}")
        configs["vae"] = model.config
        model.requires_grad_(True)
    training = configs["training"]
    album = look(data, training.size, max(STEP, model.config.downscale), training.held_out)
    return Plan("vae", album, training, model, False, _told(configs), 0, start == "none")


def _latent(data, vae, clip, start, settings) -> Plan:
    before = weights.load(start) if start else None
    if before is not None and not (isinstance(before, LatentDiffusion) and before.text and before.vae):
        raise UserError("start", start, "a model with an autoencoder that draws what a prompt says")
    known = {"training": LatentTraining(), "unet": before.unet.config if before else UNET_CONFIG}
    published = before is not None and len(before.text.tokenizer) > LEARNED
    learns = clip is None and not published
    if learns and not before:
        known["text"] = TextConfig()
    configs = changed(known, settings)
    training = configs["training"]
    if before and configs["unet"] != known["unet"]:
        raise UserError("set", [s for s in settings if s.strip().startswith("unet.")], "no other network than start's")
    coder = weights.load(vae or SHIPPED_VAE) if vae or not before else before.vae
    if not isinstance(coder, VAE):
        raise UserError("vae", vae, "an autoencoder, as `minildm train vae` makes one")
    tower = getattr(weights.load(clip), "text", None) if clip is not None else None
    if clip is not None and tower is None:
        raise UserError("clip", clip, "a mini-CLIP or a model with a text tower")
    halvings = 2 ** (len(configs["unet"].block_out_channels) - 1)
    album = look(data, training.size, max(STEP, coder.config.downscale * halvings), training.held_out)
    # only what is trained on, or the held-out captions' words would have vectors that nothing ever moved
    captions = [album.pictures[i].caption for i in album.numbers(held_out=False)]
    if clip is not None:
        text = tower
    elif before:
        text = before.text if published else words.grown(before.text, captions)
    else:
        text = words.fresh(captions, configs["text"])
    c = coder.config.latent_channels
    if before is None:
        follows = {"context_dim": text.model.config.hidden_size, "in_channels": c, "out_channels": c}
        for name, value in follows.items():
            if (wish := getattr(configs["unet"], name)) not in (value, getattr(UNET_CONFIG, name)):
                raise UserError(f"unet.{name}", wish, f"{value}, which the text tower and the autoencoder have")
        configs["unet"] = dataclasses.replace(configs["unet"], **follows)
        rows = levels.flow() if training.prediction == "flow" else levels.cosine()
        pipe = LatentDiffusion(UNet(configs["unet"]), coder, text, schedule=rows, prediction=training.prediction,
                               spacing="trailing", size=training.size)  # fmt: skip
    else:
        pipe = _checked(before, start, c)
        configs["training"] = training = dataclasses.replace(training, prediction=pipe.prediction)
        pipe.vae, pipe.text, pipe.size = coder, text, training.size
        pipe.unet.requires_grad_(True)
    text.requires_grad_(learns)
    pipe.vae.requires_grad_(False)
    return Plan("latent", album, training, pipe, learns, _told(configs), 0, before is None)


def _checked(pipe: LatentDiffusion, start: str, channels: int) -> LatentDiffusion:
    config = pipe.unet.config
    if (config.in_channels, config.out_channels) != (channels, channels) or config.added_dim or pipe.low:
        raise UserError("start", start, f"a model of {channels} latent channels that is told nothing but a prompt")
    return pipe


def _told(configs: dict[str, object]) -> dict:
    return {part: dataclasses.asdict(config) for part, config in configs.items()}
