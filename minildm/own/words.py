"""A vocabulary and a text tower for one's own captions, new or grown out of a trained one's."""

from collections.abc import Sequence

import torch

from ..text import Text, train_tokenizer
from .settings import TextConfig

LEAST, MOST = 24, 77  # tokens of a prompt: as many as the longest caption has, within these


def tokenizer_for(captions: Sequence[str]):
    """A tokenizer with a token for every word of these captions; see `text.train_tokenizer`."""
    tokenizer = train_tokenizer(captions, length=10**9)
    longest = max(len(row) for row in tokenizer(list(captions), verbose=False)["input_ids"])
    tokenizer.model_max_length = min(max(LEAST, longest), MOST)
    return tokenizer


def fresh(captions: Sequence[str], config: TextConfig) -> Text:
    """An untrained tower with a vocabulary learned from these captions."""
    return Text.tiny(tokenizer_for(captions), config.width, config.layers, config.heads)


@torch.no_grad()
def grown(text: Text, captions: Sequence[str]) -> Text:
    """A tower that knows the words of these captions, and all that `text` knows of them.

    Its vocabulary is learned anew. Words (and bytes) that are in both keep their vectors, places their own; new words
    get random vectors, and all layers are copied.
    """
    config = text.model.config
    new = Text.tiny(tokenizer_for(captions), config.hidden_size, config.num_hidden_layers, config.num_attention_heads)
    mine, theirs = new.model.embeddings, text.model.embeddings
    theirs_by_token = text.tokenizer.get_vocab()
    for token, row in new.tokenizer.get_vocab().items():
        if token in theirs_by_token:
            mine.token_embedding.weight[row] = theirs.token_embedding.weight[theirs_by_token[token]]
    n = min(len(mine.position_embedding.weight), len(theirs.position_embedding.weight))
    mine.position_embedding.weight[:n] = theirs.position_embedding.weight[:n]
    kept = {name: tensor for name, tensor in text.model.state_dict().items() if "embeddings." not in name}
    new.model.load_state_dict(kept, strict=False)
    return new


def too_long(text: Text, captions: Sequence[str]) -> int:
    """How many of the captions have more tokens than a tower reads; the end of such a one is cut off."""
    rows = text.tokenizer([caption.lower() for caption in captions], verbose=False)["input_ids"]
    return sum(len(row) > text.tokenizer.model_max_length for row in rows)
