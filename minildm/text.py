"""From a prompt to hidden states: transformers' CLIP text model, with a tokenizer of our own or a published one.

Nothing here is special to the small model: `Text` holds the published Stable Diffusion text encoder as well.
"""

import json
import re
import warnings
from collections.abc import Iterable
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from .files import UserError

if TYPE_CHECKING:
    from transformers import CLIPTextModel, CLIPTokenizer

SHOWN = 200  # characters of what was cut off a prompt
START, END = "<|startoftext|>", "<|endoftext|>"


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

    What conditions the U-Net is the last layer's output after the final layer norm (Stable Diffusion 1.x and 2.x),
    or with `penultimate` the output of the layer before it, as it is (SDXL). Every prompt is padded to
    `tokenizer.model_max_length` with `pad`, by default the tokenizer's own padding; padding is not masked.
    `projection`, a linear layer, is for the pooled state alone.
    """

    def __init__(self, tokenizer: "CLIPTokenizer", model: "CLIPTextModel", pad: int | None = None,
                 penultimate: bool = False, projection: nn.Linear | None = None):  # fmt: skip
        super().__init__()
        self.tokenizer, self.model, self.text_projection = tokenizer, model, projection
        self.pad = tokenizer.pad_token_id if pad is None else pad
        self.penultimate = penultimate

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

    def ids(self, prompts: str | list[str], longest: bool = False) -> Tensor:
        """Token numbers (b, n) int64 of one prompt or b of them, start and end included, on the model's device.

        Shorter prompts are padded to n = `tokenizer.model_max_length`, or with `longest` to the longest of these.
        Of longer ones the end is cut off, with a warning that shows it.
        Raises `UserError` for anything but a string or a list of at least one string, and for halves of characters.
        """
        prompts = [prompts] if isinstance(prompts, str) else prompts
        if not isinstance(prompts, (list, tuple)) or not prompts or not all(isinstance(p, str) for p in prompts):
            raise UserError("prompt", prompts, "a string or a list of strings")
        if halves := [p for p in prompts if re.search("[\ud800-\udfff]", p)]:
            raise UserError("prompt", halves[0], "text without halves of characters (lone surrogates)")
        prompts = [p.lower() for p in prompts]  # as the first CLIP: also what stands for a special token
        rows = self.tokenizer(prompts, padding=False, truncation=False, verbose=False)["input_ids"]
        most = self.tokenizer.model_max_length
        for row in rows:
            if len(row) > most:
                lost = self.tokenizer.decode(row[most - 1 : -1])
                lost = lost if len(lost) <= SHOWN else lost[:SHOWN] + "..."
                warnings.warn(f"the prompt has room for {most - 2} tokens; cut off: {lost!r}", stacklevel=2)
                del row[most - 1 : -1]  # and the end token stays
        n = max(map(len, rows)) if longest else most
        return torch.tensor([row + [self.pad] * (n - len(row)) for row in rows], device=self.model.device)

    def encode_ids(self, ids: Tensor) -> tuple[Tensor, Tensor]:
        """Token numbers (b, n) -> hidden states (b, n, d), and one (b, d) for the whole of each prompt.

        The second is the state at the first end token, which has seen all words, after the final layer norm and
        `projection`.
        """
        out = self.model(input_ids=ids, output_hidden_states=self.penultimate)
        states = out.hidden_states[-2] if self.penultimate else out.last_hidden_state
        return states, self.text_projection(out.pooler_output) if self.text_projection else out.pooler_output

    def forward(self, prompts: str | list[str]) -> Tensor:
        """One prompt or b of them -> hidden states (b, n, d). Raises `UserError` as `ids` does."""
        return self.both(prompts)[0]

    def both(self, prompts: str | list[str]) -> tuple[Tensor, Tensor]:
        """One prompt or b of them -> hidden states (b, n, d) and pooled states (b, d), as `encode_ids` gives them."""
        return self.encode_ids(self.ids(prompts))

    def pooled(self, prompts: str | list[str]) -> Tensor:
        """Prompts -> the pooled state (b, d) alone."""
        # Attention looks back only: padding would cost time and change nothing.
        return self.encode_ids(self.ids(prompts, longest=True))[1]


class TextPair(nn.Module):
    """Two text towers side by side, as SDXL has them (Podell et al. 2024, arXiv 2307.01952).

    Their states are joined, (b, n, d1 + d2); the pooled state is the second one's.
    """

    def __init__(self, first: Text, second: Text):
        super().__init__()
        self.first, self.second = first, second

    @property
    def tokenizer(self) -> "CLIPTokenizer":
        return self.first.tokenizer

    def forward(self, prompts: str | list[str]) -> Tensor:
        """One prompt or b of them -> hidden states (b, n, d1 + d2). Raises `UserError` as `Text.ids` does."""
        return self.both(prompts)[0]

    def both(self, prompts: str | list[str]) -> tuple[Tensor, Tensor]:
        """One prompt or b of them -> hidden states (b, n, d1 + d2) and the second tower's pooled state (b, d)."""
        states, pooled = self.second.both(prompts)
        return torch.cat([self.first(prompts), states], dim=-1), pooled
