"""Broken and hostile files: none runs anything, none is half-loaded, each error is one message with file and cause."""

import json
import os
import pickle
import struct
import zipfile
from pathlib import Path

import published
import pytest
import torch
from safetensors.torch import load_file, save_file

from minildm import weights
from minildm.files import UserError

UNET = "unet/diffusion_pytorch_model.safetensors"


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    """A whole model of SD 1.x in small: {"folder": ..., "single": bytes, "files": relative path -> bytes}."""
    folder = tmp_path_factory.mktemp("good")
    pipe = published.pipe("sd15")
    weights.save(pipe, folder / "m")
    single = published.save_single(pipe, "sd15", folder / "single.safetensors", torch.float32)
    files = {p.relative_to(folder / "m").as_posix(): p.read_bytes() for p in (folder / "m").rglob("*") if p.is_file()}
    other = published.save_single(published.pipe("sdxl"), "sdxl", folder / "xl.safetensors", torch.float32)
    return {"folder": folder / "m", "single": single, "files": files, "sdxl": other}


def copy(good, folder):
    for name, content in good["files"].items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return folder


class Runs:
    """Unpickled, it would write a file."""

    def __init__(self, call, *args):
        self.call, self.args = call, args

    def __reduce__(self):
        return self.call, self.args


def harms(mark):
    """Pickles that would leave a mark if anything in them ran."""
    order = f"open({str(mark)!r}, 'w').close()"
    payloads = {
        "os.system": Runs(os.system, f"touch {mark}"),
        "eval": Runs(eval, order),
        "exec": Runs(exec, order),
        "open": Runs(open, str(mark), "w"),
        "Path.touch": Runs(Path.touch, Path(mark)),
        "getattr": Runs(getattr, "os", "system"),
        "torch.load": Runs(torch.load, str(mark)),
    }
    for name, payload in payloads.items():
        yield f"pickle {name} alone", ".ckpt", pickle.dumps(payload)
        yield f"pickle {name} among tensors", ".ckpt", zipped({"state_dict": {"betas": torch.zeros(3), "x": payload}})
        yield f"pickle {name} as a key's neighbour", ".bin", zipped({"callbacks": payload, "state_dict": {}})


def zipped(content):
    import io

    file = io.BytesIO()
    torch.save(content, file)
    return file.getvalue()


def safetensors(header, data=b"", length=None):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def entry(shape=(2,), dtype="F32", offsets=(0, 8)):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": list(offsets)}


def broken_singles(whole):
    """(kind, suffix, bytes) of files that claim to be one whole model."""
    yield "empty", ".safetensors", b""
    yield "empty", ".ckpt", b""
    yield "text", ".safetensors", b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 4\n"
    yield "web page", ".ckpt", b"<!doctype html><title>404</title>"
    yield "suffix", ".txt", whole
    yield "suffix", ".onnx", whole
    for share in (0.0, 0.001, 0.3, 0.9, 0.9999):
        yield f"truncated to {share}", ".safetensors", whole[: int(8 + share * (len(whole) - 9))]
    yield "longer", ".safetensors", whole + b"\0" * 64
    for place in (0, 3, 7, 8, 9, 40, 100):
        flipped = bytes([whole[place] ^ 0x40])
        yield f"bit flipped at {place}", ".safetensors", whole[:place] + flipped + whole[place + 1 :]
    for length in (0, 2**31, 2**62, 2**64 - 1, len(whole)):
        yield f"header of {length}", ".safetensors", struct.pack("<Q", length) + whole[8:]
    yield "header a list", ".safetensors", safetensors([1, 2])
    yield "header no JSON", ".safetensors", safetensors(b"{" * 40)
    yield "header of headers", ".safetensors", safetensors(b"[" * 100_000)
    yield "entry without offsets", ".safetensors", safetensors({"a": {"dtype": "F32", "shape": [2]}}, b"\0" * 8)
    yield "offsets beyond the file", ".safetensors", safetensors({"a": entry(offsets=(0, 8000))}, b"\0" * 8)
    yield "offsets backwards", ".safetensors", safetensors({"a": entry(offsets=(8, 0))}, b"\0" * 8)
    yield "offsets overlap", ".safetensors", safetensors({"a": entry(), "b": entry(offsets=(4, 12))}, b"\0" * 12)
    yield "negative shape", ".safetensors", safetensors({"a": entry(shape=(-2,))}, b"\0" * 8)
    yield "shape beyond memory", ".safetensors", safetensors({"a": entry(shape=(2**40, 2**20))}, b"\0" * 8)
    yield "dtype unknown", ".safetensors", safetensors({"a": entry(dtype="Q7")}, b"\0" * 8)
    yield "no tensors", ".safetensors", safetensors({})
    yield "not a dictionary", ".ckpt", zipped([1, 2, 3])
    yield "a tensor alone", ".ckpt", zipped(torch.zeros(3))
    yield "nothing inside", ".ckpt", zipped({})
    yield "numbers for tensors", ".ckpt", zipped({"state_dict": {"betas": 3, "alphas_cumprod": "x"}})
    yield "numbered names", ".ckpt", zipped({"state_dict": {1: torch.zeros(2)}})
    yield "archive cut short", ".ckpt", zipped({"state_dict": {"betas": torch.zeros(999)}})[:-200]


def wrong_tensors(single, sdxl):
    """(kind, tensors, words that the message must hold) of single files that are no whole SD 1.x model."""
    name, head = "model.diffusion_model.out.2.weight", "model.diffusion_model."

    def without(mark):
        return {n: t for n, t in single.items() if mark not in n}

    def with_(value):
        return single | {name: value}

    yield "key missing", without(name), ["missing conv_out.weight"]
    yield "many missing", without(".output_blocks.3."), [
        "missing up_blocks.1.resnets.0.norm1.weight", "missing up_blocks.1.attentions.0.proj_in.bias",
    ]  # fmt: skip
    yield "key too many", single | {head + "out.3.weight": torch.zeros(2)}, ["unknown out.3.weight"]
    yield "foreign key", single | {"lora.alpha": torch.zeros(2)}, ["lora.alpha"]
    yield "shape", with_(torch.zeros(4, 9, 3, 3)), ["conv_out.weight of shape (4, 9, 3, 3) instead of (4, 8, 3, 3)"]
    yield "scalar", with_(torch.zeros(())), ["conv_out.weight of shape ()"]
    yield "integers", with_(torch.zeros(4, 8, 3, 3, dtype=torch.int64)), ["conv_out.weight of torch.int64"]
    yield "8 bits", with_(torch.zeros(4, 8, 3, 3).to(torch.float8_e4m3fn)), ["conv_out.weight of torch.float8"]
    yield "not a number", with_(torch.full((4, 8, 3, 3), float("nan"))), ["conv_out.weight with entries", "not finite"]
    yield "infinite", with_(torch.full((4, 8, 3, 3), float("inf"))), ["conv_out.weight with entries", "not finite"]
    yield "no autoencoder", without("first_stage"), ["no vae"]
    yield "no text tower", without("cond_stage"), ["no text_encoder"]
    part = {n.removeprefix(head): t for n, t in single.items() if n.startswith(head)}
    yield "one part alone", part, ["a whole model in the original layout"]
    lora = {"lora_unet_down_blocks_0.lora_up.weight": torch.zeros(4, 2), "x.lora_down.weight": torch.zeros(2, 4)}
    yield "LoRA", lora, ["a LoRA"]
    yield "SDXL as SD 1.x", sdxl, ["unknown add_embedding.linear_1.weight", "attn2.to_k.weight of shape (16, 32)"]


def refused(source, **options):
    with pytest.raises(UserError) as caught:
        weights.load(source, **options)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_no_broken_or_hostile_file_loads_or_runs(good, tmp_path):
    mark = tmp_path / "ran"
    whole = good["single"].read_bytes()
    seen = []
    for kind, suffix, content in [*broken_singles(whole), *harms(mark)]:
        path = tmp_path / f"model{suffix}"
        path.write_bytes(content)
        assert path.name in refused(path, config=good["folder"]), kind
        if suffix != ".safetensors" or "bit flipped at 100" not in kind:  # what the header says may still be possible
            with pytest.raises(UserError):
                print(kind)
                weights.inspect(path)
        assert not mark.exists(), kind
        seen.append(kind)
    assert len(seen) >= 50


def test_every_wrong_tensor_is_listed(good, tmp_path):
    path = tmp_path / "model.safetensors"
    for kind, tensors, words in wrong_tensors(load_file(good["single"]), load_file(good["sdxl"])):
        save_file(tensors, path)
        message = refused(path, config=good["folder"])
        assert all(word in message for word in ["model.safetensors", *words]), (kind, message[:400])


def index(weight_map):
    return json.dumps({"metadata": {}, "weight_map": weight_map}).encode()


@pytest.mark.parametrize("kind, change, words", [
    ("no index", lambda f: (f / "model_index.json").unlink(), ["config.json"]),
    ("index a list", lambda f: (f / "model_index.json").write_text("[]"), ["model_index.json", "JSON object"]),
    ("no weights", lambda f: (f / UNET).unlink(), ["diffusion_pytorch_model.safetensors", "no such file"]),
    ("a directory for a file", lambda f: ((f / UNET).unlink(), (f / UNET).mkdir()), ["diffusion_pytorch_model"]),
    ("path traversal", lambda f: sharded(f, {"a": "../../vae/diffusion_pytorch_model.safetensors"}), ["../../vae"]),
    ("absolute path", lambda f: sharded(f, {"a": "/etc/passwd"}), ["/etc/passwd"]),
    ("backslashes", lambda f: sharded(f, {"a": "..\\x.safetensors"}), ["same folder"]),
    ("a pickle for a shard", lambda f: sharded(f, {"a": "x.bin"}), ["x.bin"]),
    ("missing shard", lambda f: sharded(f, {"a": "gone-1.safetensors"}), ["missing gone-1.safetensors"]),
    ("empty map", lambda f: sharded(f, {}), ["weight_map"]),
    ("map of numbers", lambda f: sharded(f, {"a": 3}), ["weight_map"]),
    ("huge config", lambda f: edit(f / "unet/config.json", block_out_channels=[10**9] * 4), ["from 1 to 65536"]),
    ("other depth", lambda f: edit(f / "unet/config.json", layers_per_block=3), ["missing down_blocks.0.resnets.2."]),
    ("other width", lambda f: edit(f / "unet/config.json", cross_attention_dim=17), ["attn2.to_k.weight of shape"]),
    ("tokenizer too large", lambda f: edit(f / "text_encoder/config.json", vocab_size=9), ["tokenizer"]),
    ("tokenizer gone", lambda f: [p.unlink() for p in (f / "tokenizer").iterdir()], ["tokenizer", "merges.txt"]),
])  # fmt: skip
def test_broken_folders_are_named(good, tmp_path, kind, change, words):
    folder = copy(good, tmp_path / "model")
    change(folder)
    message = refused(folder)
    assert all(word in message for word in words), message[:400]


def sharded(folder, weight_map):
    (folder / UNET).unlink()
    (folder / f"{UNET}.index.json").write_bytes(index(weight_map))


def edit(path, **changes):
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_shards_are_one_model(good, tmp_path):
    folder = copy(good, tmp_path / "model")
    tensors = load_file(folder / UNET)
    names = sorted(tensors)
    half = {names[i]: f"diffusion_pytorch_model-{1 + i % 2:05}-of-00002.safetensors" for i in range(len(names))}
    for file in set(half.values()):
        save_file({name: tensors[name] for name in names if half[name] == file}, folder / "unet" / file)
    sharded(folder, half)
    back = weights.load(folder).unet.state_dict()
    assert all(torch.equal(back[name], tensors[name]) for name in names)


def test_a_checkpoint_of_2022_loads_without_its_library(good, tmp_path):
    """With what those files name beside tensors: a callback's class as a key, numbers of numpy, schedule buffers."""
    import numpy as np

    path = tmp_path / "model.ckpt"
    tensors = load_file(good["single"])
    state = {n: t.half() for n, t in tensors.items()} | {
        "cond_stage_model.transformer.text_model.embeddings.position_ids": torch.arange(77)[None]
    }
    torch.save({"epoch": 3, "state_dict": state, "callbacks": {"KEY": {"best": np.float64(2.5)}}}, path)
    swapped = tmp_path / "swapped.ckpt"
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(swapped, "w") as new:
        for item in old.namelist():
            content = old.read(item)
            if item.endswith("data.pkl"):  # the key becomes a class, and numpy's module gets its name of then
                key = b"X\x03\x00\x00\x00KEY"
                assert content.count(key) == 1
                content = content.replace(key, b"cpytorch_lightning.callbacks.model_checkpoint\nModelCheckpoint\n")
                content = content.replace(b"cnumpy._core.multiarray\n", b"cnumpy.core.multiarray\n")
            new.writestr(item, content)
    loaded = weights.load(swapped, config=good["folder"]).state_dict()
    wanted = weights.load(good["folder"], dtype=torch.float16).state_dict()
    assert all(torch.equal(loaded[name], wanted[name].float()) for name in wanted)
