"""Tokenizers and text towers: from files to `Text` and `TextPair`, and back."""

from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from .. import hub
from ..files import UserError
from ..original import TEXT_MODEL
from ..text import Text
from . import archive

if TYPE_CHECKING:
    from transformers import CLIPTextConfig, CLIPTokenizer


def load_tokenizer(folder: Path) -> tuple["CLIPTokenizer", int]:
    """The tokenizer of a folder with `vocab.json` and `merges.txt`, or with `tokenizer.json`; and what it pads with.

    Padding is ours to do: a tokenizer that knows "!" as its padding (SD 2.x, SDXL's second) takes the one in a prompt
    for padding too. Raises `UserError` that says which files are missing.
    """
    from transformers import CLIPTokenizer

    if (folder / "vocab.json").is_file() and (folder / "merges.txt").is_file():
        vocab = archive.read_json(folder / "vocab.json")
        lines = (folder / "merges.txt").read_text(encoding="utf-8").split("\n")
        merges = [tuple(line.split(" ")) for line in lines if line.strip() and not line.startswith("#version")]
    elif (folder / "tokenizer.json").is_file():
        model = archive.read_json(folder / "tokenizer.json")["model"]
        vocab = model["vocab"]
        merges = [tuple(pair.split(" ")) if isinstance(pair, str) else tuple(pair) for pair in model["merges"]]
    else:
        raise UserError(f"tokenizer {folder}", "no such files", "vocab.json and merges.txt, or tokenizer.json")
    told = {}
    for name in ("tokenizer_config.json", "special_tokens_map.json"):
        if (folder / name).is_file():
            told |= archive.read_json(folder / name)
    tokenizer = CLIPTokenizer(vocab=vocab, merges=merges, model_max_length=told.get("model_max_length", 77))
    pad = told.get("pad_token", tokenizer.eos_token)
    pad = pad["content"] if isinstance(pad, dict) else pad
    if pad not in vocab:
        raise UserError(f"tokenizer {folder}, pad_token", pad, "a token of its vocabulary")
    return tokenizer, vocab[pad]


def text_config(path: Path) -> "CLIPTextConfig":
    """A published `text_encoder/config.json`; also read out of a whole CLIP's, which has it inside."""
    from transformers import CLIPTextConfig

    config = archive.read_json(path)
    return CLIPTextConfig.from_dict(config.get("text_config", config))


def build_text(
    config: "CLIPTextConfig", tensors: dict[str, Tensor], tokenizer: tuple["CLIPTokenizer", int],
    dtype: torch.dtype, what: str, penultimate: bool = False, pooled: bool = False,
) -> Text:  # fmt: skip
    """A text tower out of tensors named as transformers names them. `pooled`: with the projection of the pooled state.

    Raises ONE `UserError` that lists every fault of the tensors.
    """
    from transformers import CLIPTextModel

    words, pad = tokenizer
    if len(words) > config.vocab_size or words.model_max_length > config.max_position_embeddings:
        most = f"at most {config.vocab_size} and {config.max_position_embeddings}, as its config says"
        got = f"{len(words)} tokens, {words.model_max_length} in a prompt"
        raise UserError(f"tokenizer of {what}", got, most)
    tensors = {name.removeprefix(TEXT_MODEL): tensor for name, tensor in tensors.items()}
    with torch.device("meta"):
        model = nn.Module()
        model.inner = CLIPTextModel(config)
        if pooled:
            model.text_projection = nn.Linear(config.hidden_size, config.projection_dim, bias=False)
    inner = {name if name.startswith("text_projection.") else f"inner.{name}": t for name, t in tensors.items()}
    archive.fill(model, inner, dtype, what)
    # not part of the file, and left on the meta device
    model.inner.embeddings.position_ids = torch.arange(config.max_position_embeddings)[None]
    return Text(words, model.inner, pad, penultimate, model.text_projection if pooled else None)


def save_text(text: Text, folder: Path, dtype: torch.dtype, part: str = "text_encoder") -> None:
    """Write a tower and its tokenizer into `folder`, as `text_encoder` and `tokenizer` or what `part` says."""
    projected = text.text_projection is not None
    kind = "CLIPTextModelWithProjection" if projected else "CLIPTextModel"
    # a pipeline that opens in float32 must not meet a text tower in float16
    config = text.model.config.to_dict() | {"architectures": [kind], "dtype": "float32"}
    tensors = {TEXT_MODEL + name: tensor for name, tensor in text.model.state_dict().items()}
    if projected:
        tensors["text_projection.weight"] = text.text_projection.weight
    archive.write(tensors, config, folder / part, hub.TEXT_WEIGHTS, dtype)
    own = folder / part.replace("text_encoder", "tokenizer")
    text.tokenizer.save_pretrained(own)
    if text.pad != text.tokenizer.pad_token_id:
        path = own / "tokenizer_config.json"
        told = archive.read_json(path) | {"pad_token": text.tokenizer.convert_ids_to_tokens(text.pad)}
        archive.write_json(path, told)
