"""From a prompt to hidden states: transformers' CLIP text model, with a tokenizer and a small CLIP of our own.

Nothing here is special to the small model: `Text` holds the published Stable Diffusion text encoder as well.
"""

import json
from collections.abc import Iterable
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .files import UserError
from .scenes import Scenes, captions, draw, render
from .scenes.negatives import false_captions

if TYPE_CHECKING:
    from transformers import CLIPTextModel, CLIPTokenizer

START, END = "<|startoftext|>", "<|endoftext|>"
Batch = tuple[Tensor, list[str], list[list[str]]]


def train_tokenizer(texts: Iterable[str], length: int = 24) -> "CLIPTokenizer":
    """Learn a byte-level BPE tokenizer from texts, say captions; every word that occurs in them becomes one token.

    Sennrich et al. 2016, section 3.2, on bytes (Radford et al. 2019, section 2.2), a word's last byte marked `</w>`.
    The vocabulary has the order of the published one: 256 bytes, the same with `</w>`, the merges as they were
    learned, start, end. So any text can be written, at worst byte by byte. Padding is the end token, as in
    Stable Diffusion 1.x. `length` is the number of tokens of every prompt, start and end included.
    Raises `UserError` if there are no texts or one of them does not fit into `length` tokens.
    """
    from tokenizers import models, pre_tokenizers, trainers
    from transformers import CLIPTokenizer

    texts = list(texts)
    if not texts:
        raise UserError("texts", texts, "at least one to learn from")
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    base = letters + [letter + "</w>" for letter in letters]
    # Borrow the published way of cutting text into words: take a tokenizer of bytes and let its insides learn.
    learner = CLIPTokenizer(vocab={token: i for i, token in enumerate([*base, START, END])}).backend_tokenizer
    learner.model = models.BPE(end_of_word_suffix="</w>", continuing_subword_prefix="")
    # Between pairs of equal count the order of the vocabulary decides. Given as special tokens, the bytes keep theirs.
    trainer = trainers.BpeTrainer(
        vocab_size=100_000, min_frequency=1, special_tokens=base, end_of_word_suffix="</w>", show_progress=False
    )
    learner.train_from_iterator(texts, trainer)
    merges = [tuple(pair) for pair in json.loads(learner.to_str())["model"]["merges"]]
    vocab = {token: i for i, token in enumerate([*base, *(a + b for a, b in merges), START, END])}
    tokenizer = CLIPTokenizer(vocab=vocab, merges=merges, model_max_length=length)
    sizes = [len(encoding) for encoding in tokenizer.backend_tokenizer.encode_batch(texts)]
    if max(sizes) > length:
        raise UserError("length", length, f"at least {max(sizes)}, for {texts[sizes.index(max(sizes))]!r}")
    return tokenizer


class Text(nn.Module):
    """A tokenizer and a CLIP text model (Radford et al. 2021, section 2.4): prompts -> hidden states.

    As in Stable Diffusion 1.x, what conditions the U-Net is the last layer's output after the final layer norm,
    every prompt is padded to `tokenizer.model_max_length`, and padding is not masked.
    """

    def __init__(self, tokenizer: "CLIPTokenizer", model: "CLIPTextModel"):
        super().__init__()
        self.tokenizer = tokenizer
        self.model = model

    @classmethod
    def tiny(cls, tokenizer: "CLIPTokenizer", width: int = 128, layers: int = 4, heads: int = 4) -> "Text":
        """An untrained text model for this tokenizer; `width` is d of the hidden states."""
        from transformers import CLIPTextConfig, CLIPTextModel

        config = CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=width,
            intermediate_size=4 * width,
            projection_dim=width,
            num_hidden_layers=layers,
            num_attention_heads=heads,
            max_position_embeddings=tokenizer.model_max_length,
            hidden_act="quick_gelu",
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
        model = CLIPTextModel(config)
        # Words must stay apart in the hidden states even where the contrastive loss does not ask for it: drawn ten
        # times as large, "left" and "right" differ there by half a state's norm after training, else by a tenth.
        model.embeddings.token_embedding.weight.data *= 10
        return cls(tokenizer, model)

    def ids(self, prompts: str | list[str], padding: str = "max_length") -> Tensor:
        """Token numbers (b, n) int64 of one prompt or b of them, start and end included, on the model's device.

        Longer prompts are cut to n = `tokenizer.model_max_length` and shorter ones padded to it; with `padding`
        "longest", only to the longest of these prompts.
        Raises `UserError` for anything but a string or a list of at least one string.
        """
        prompts = [prompts] if isinstance(prompts, str) else prompts
        if not isinstance(prompts, (list, tuple)) or not prompts or not all(isinstance(p, str) for p in prompts):
            raise UserError("prompt", prompts, "a string or a list of strings")
        batch = self.tokenizer(list(prompts), padding=padding, truncation=True, return_tensors="pt")
        return batch.input_ids.to(self.model.device)

    def encode_ids(self, ids: Tensor) -> Tensor:
        """Token numbers (b, n) -> hidden states (b, n, d) after the final layer norm."""
        return self.model(input_ids=ids).last_hidden_state

    def forward(self, prompts: str | list[str]) -> Tensor:
        """One prompt or b of them -> hidden states (b, n, d). Raises `UserError` as `ids` does."""
        return self.encode_ids(self.ids(prompts))

    def pooled(self, prompts: str | list[str]) -> Tensor:
        """Prompts -> the hidden state (b, d) at each one's first end token, which has seen all its words."""
        # Attention looks back only: padding would cost time and change nothing.
        return self.model(input_ids=self.ids(prompts, "longest")).pooler_output


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
