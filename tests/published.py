"""Models in the published layouts, every name and block of them, but so narrow that a test can hold them."""

import gzip
import json
from functools import cache
from pathlib import Path

import torch
from safetensors.torch import save_file

from minildm import levels, original
from minildm.pipe import LatentDiffusion
from minildm.text import Text, TextPair, train_tokenizer
from minildm.unet import SINUSOIDS, UNet, UNetConfig
from minildm.vae import VAE, VAEConfig

FIXTURES = Path(__file__).parent / "fixtures"
STYLES = {"sd15": "sd15.compvis", "sd21": "sd21.compvis", "sdxl": "sdxl.sgm"}  # and the single file of each
WIDTH = 16  # of a text tower
PROMPTS = ["a large red circle on a white background", "a cat!", "the sea", "two small blue stars left of a cross"]


@cache
def facts(name):
    """A fixture: "published_keys", names and shapes; "published_configs"; "clip_ids"."""
    known = json.loads(gzip.decompress((FIXTURES / f"{name}.json.gz").read_bytes()))
    if name == "published_keys":
        for part in ("unet", "vae"):
            path = FIXTURES / f"sd15_{part}_keys.json"
            known["folders"][f"sd15.{part}"] = json.loads(path.read_text(encoding="utf-8"))
    return known


def randomise(model):
    """Weights large enough that every branch counts, in float64; constructors leave biases and gains trivial."""
    generator = torch.Generator().manual_seed(0)
    model.double()
    for p in model.parameters():
        p.data = 0.1 * torch.randn(p.shape, generator=generator, dtype=torch.float64)
    return model.eval().requires_grad_(False)


def tower(tokenizer, layers, activation, pad=None, penultimate=False, projected=False):
    from transformers import CLIPTextConfig, CLIPTextModel

    config = CLIPTextConfig(
        vocab_size=len(tokenizer), hidden_size=WIDTH, intermediate_size=4 * WIDTH, projection_dim=24,
        num_hidden_layers=layers, num_attention_heads=2, max_position_embeddings=77, hidden_act=activation,
        bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id, pad_token_id=1,
    )  # fmt: skip
    projection = torch.nn.Linear(WIDTH, 24, bias=False) if projected else None
    return Text(tokenizer, CLIPTextModel(config), pad, penultimate, projection)


def pipe(style, channels=4):
    """A `LatentDiffusion` with every block and layer of the published model of this style, in float64."""
    words = train_tokenizer(PROMPTS, length=77)
    pad = words.convert_tokens_to_ids("!")
    torch.manual_seed(0)
    common = {"schedule": levels.scaled_linear(), "last": "first", "offset": 1}
    vae = VAE(VAEConfig(block_out_channels=(8, 16, 32, 32), norm_num_groups=4))
    four = {"block_out_channels": (8, 16, 32, 32), "norm_num_groups": 4, "context_dim": WIDTH, "in_channels": channels}
    if style == "sd15":
        return randomise(LatentDiffusion(UNet(UNetConfig(heads=(2,) * 4, **four)), vae,
                                         tower(words, 12, "quick_gelu"), size=64, **common))  # fmt: skip
    if style == "sd21":
        unet = UNet(UNetConfig(heads=(1, 2, 4, 4), linear_projection=True, **four))
        return randomise(LatentDiffusion(unet, vae, tower(words, 23, "gelu", pad), prediction="v", size=64, **common))
    unet = UNet(UNetConfig(
        block_out_channels=(8, 16, 32), transformer_layers=(0, 2, 10), mid_layers=10, heads=(1, 2, 4),
        norm_num_groups=4, context_dim=2 * WIDTH, linear_projection=True, added_dim=24 + 6 * SINUSOIDS,
        in_channels=channels,
    ))  # fmt: skip
    pair = TextPair(tower(words, 12, "quick_gelu", penultimate=True), tower(words, 32, "gelu", pad, True, True))
    common |= {"spacing": "leading", "zeros_for_empty": True}
    return randomise(LatentDiffusion(unet, vae, pair, size=64, **common))


class Origin(str):
    """A name in place of a tensor: `original.parts` then tells where each comes from."""

    ndim = 2

    def __new__(cls, name, half=None, flip=False):
        made = super().__new__(cls, name)
        made.third, made.flip = half, flip
        return made

    def chunk(self, n):
        return [Origin(self, half=i) for i in range(n)]

    @property
    def T(self):
        return Origin(self, flip=True)


def as_single_file(pipe, style):
    """The tensors of a pipe under the names and in the shapes of the style's original single file."""
    names = facts("published_keys")["files"][STYLES[style]]
    ours = {"unet": pipe.unet.state_dict(), "vae": pipe.vae.state_dict()}
    texts = [pipe.text.first, pipe.text.second] if style == "sdxl" else [pipe.text]
    for part, text in zip(("text_encoder", "text_encoder_2"), texts, strict=False):
        ours[part] = dict(text.model.state_dict())
        if text.text_projection is not None:
            ours[part]["text_projection.weight"] = text.text_projection.weight
    whole, thirds = {}, {}
    for part, table in original.parts({name: Origin(name) for name in names}).items():
        for name, origin in table.items():
            if name not in ours[part]:  # a layer or a projection that nobody reads
                layer = name.replace("layers.23.", "layers.22.")
                tensor = torch.zeros(WIDTH, 24).T if "text_projection" in name else ours[part][layer] + 1
            else:
                tensor = ours[part][name]
            if origin.third is not None:
                thirds.setdefault(str(origin), [None] * 3)[origin.third] = tensor
            elif origin.flip:
                whole[str(origin)] = tensor.T.contiguous()
            else:
                wide = len(names[origin]) == 4 and tensor.ndim == 2
                whole[str(origin)] = tensor[:, :, None, None].contiguous() if wide else tensor
    whole |= {name: torch.cat(three) for name, three in thirds.items()}
    return whole | {"betas": torch.zeros(1000), "model_ema.decay": torch.zeros(())}


def save_single(pipe, style, path, dtype=torch.float64):
    save_file({name: tensor.to(dtype) for name, tensor in as_single_file(pipe, style).items()}, path)
    return path


def write_vocabulary(folder):
    """`vocab.json` and `merges.txt` out of the vocabulary that open_clip carries, as its README says in words."""
    import open_clip

    packed = Path(open_clip.__file__).parent / "bpe_simple_vocab_16e6.txt.gz"
    merges = gzip.decompress(packed.read_bytes()).decode("utf-8").split("\n")[1:48895]
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in plain]
    letters = [chr(byte) for byte in plain] + [chr(256 + i) for i in range(len(others))]
    tokens = [*letters, *(letter + "</w>" for letter in letters), *(pair.replace(" ", "") for pair in merges)]
    tokens += ["<|startoftext|>", "<|endoftext|>"]
    (folder / "vocab.json").write_text(json.dumps({token: i for i, token in enumerate(tokens)}), encoding="utf-8")
    (folder / "merges.txt").write_text("#version: 0.2\n" + "\n".join(merges) + "\n", encoding="utf-8")
    return folder
