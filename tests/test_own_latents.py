"""Latents on the disk: what the autoencoder says, kept through interruptions, made anew where something changed."""

import own_pictures
import pytest
import tiny
import torch

from minildm import folders
from minildm.files import UserError
from minildm.own import album, latents
from minildm.own.latents import Latents, Wanted
from minildm.vae import VAE


@pytest.fixture(scope="module")
def vae():
    torch.manual_seed(0)
    return VAE(tiny.VAE_CONFIG).eval().requires_grad_(False)


@pytest.fixture
def wanted(tmp_path, monkeypatch):
    monkeypatch.setattr(latents, "SHARD", 4)
    made = album.look(own_pictures.fill(tmp_path / "pictures", 14, ((32, 32), (40, 24))), 32)
    return [Wanted(one, place) for one, place in zip(made.pictures, made.places, strict=True)]


def counted(vae, monkeypatch, wanted, folder, fail_after=None):
    """The latents filled, and how many pictures went through the encoder; or an error in the middle."""
    count, encode = [0], vae.encode

    def encoding(pixels):
        if fail_after is not None and count[0] >= fail_after:
            raise KeyboardInterrupt
        count[0] += len(pixels)
        return encode(pixels)

    with monkeypatch.context() as patch:
        patch.setattr(vae, "encode", encoding)
        store = Latents(folder, vae)
        try:
            told = list(store.fill(wanted))
        except KeyboardInterrupt:
            return None, count[0]
    assert told[-1] == (len(wanted), len(wanted))
    return store, count[0]


def test_what_is_kept_is_what_the_encoder_says(tmp_path, vae, wanted, monkeypatch):
    store, count = counted(vae, monkeypatch, wanted, tmp_path / "cache")
    assert count == 14
    for group in (wanted[0::2], wanted[1::2]):
        pixels = torch.stack([folders.fitted(one.picture, *one.place) for one in group]) / 127.5 - 1
        for kept, said in zip(store(group), vae.encode(pixels), strict=True):
            assert kept.shape == said.shape and kept.dtype == torch.float32
            assert (kept - said).abs().max() < 1e-5
    mirrored = Wanted(wanted[0].picture, wanted[0].place, mirrored=True)
    list(store.fill([mirrored]))
    flipped = vae.encode((folders.fitted(wanted[0].picture, 32, 32) / 127.5 - 1)[None].flip(3))[0]
    assert (store([mirrored])[0] - flipped).abs().max() < 1e-5
    assert (store([mirrored])[0] - store([wanted[0]])[0]).abs().max() > 1e-3


def test_nothing_is_encoded_twice_by_this_run_or_the_next(tmp_path, vae, wanted, monkeypatch):
    first, _ = counted(vae, monkeypatch, wanted, tmp_path / "cache")
    files = {path: path.stat().st_mtime_ns for path in (tmp_path / "cache").iterdir()}
    assert len(files) == 4  # seven of each size, four in a file
    again, count = counted(vae, monkeypatch, wanted, tmp_path / "cache")
    assert count == 0 and files == {path: path.stat().st_mtime_ns for path in (tmp_path / "cache").iterdir()}
    assert torch.equal(again(wanted[::2])[0], first(wanted[::2])[0])
    fewer, count = counted(vae, monkeypatch, wanted[:3], tmp_path / "cache")
    assert count == 0


@pytest.mark.parametrize("fail_after", [0, 1, 5, 9])
def test_caching_that_is_cut_short_goes_on_where_it_was(tmp_path, vae, wanted, monkeypatch, fail_after):
    whole, _ = counted(vae, monkeypatch, wanted, tmp_path / "whole")
    folder = tmp_path / "cache"
    _, before = counted(vae, monkeypatch, wanted, folder, fail_after)
    assert before < 14
    names = {path.name for path in folder.glob("*")}
    assert all(name.endswith(".safetensors") for name in names)  # no half-written file lies about
    store, after = counted(vae, monkeypatch, wanted, folder)
    assert before + after == 14  # what was written is not encoded again
    for group in (wanted[0::2], wanted[1::2]):
        assert all(torch.equal(a, b) for a, b in zip(store(group), whole(group), strict=True))
    assert {p.name: p.read_bytes() for p in folder.iterdir()} == {
        p.name: p.read_bytes() for p in (tmp_path / "whole").iterdir()
    }


def test_a_write_that_fails_leaves_whole_files_only(tmp_path, vae, wanted, monkeypatch):
    import safetensors.torch

    save, calls = safetensors.torch.save_file, []

    def half(made, path, **more):
        save(made, path, **more)
        calls.append(path)
        if len(calls) == 2:
            path.write_bytes(path.read_bytes()[:100])
            raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(safetensors.torch, "save_file", half)
        with pytest.raises(UserError, match="No space"):
            list(Latents(tmp_path / "cache", vae).fill(wanted))
    assert len(list((tmp_path / "cache").iterdir())) == 1
    _, count = counted(vae, monkeypatch, wanted, tmp_path / "cache")
    assert count == 14 - 4


def test_a_file_that_was_cut_is_made_again(tmp_path, vae, wanted, monkeypatch):
    whole, _ = counted(vae, monkeypatch, wanted, tmp_path / "cache")
    path = sorted((tmp_path / "cache").iterdir())[1]
    before = path.read_bytes()
    for broken in (before[:-10], before[:5], b""):
        path.write_bytes(broken)
        _, count = counted(vae, monkeypatch, wanted, tmp_path / "cache")
        assert count in (3, 4) and path.read_bytes() == before


def test_only_what_changed_is_encoded_anew(tmp_path, vae, wanted, monkeypatch):
    folder = tmp_path / "cache"
    counted(vae, monkeypatch, wanted, folder)
    own_pictures.draw(99)[0].save(wanted[2].picture.path)
    made = album.look(tmp_path / "pictures", 32)
    changed = [Wanted(one, place) for one, place in zip(made.pictures, made.places, strict=True)]
    store, count = counted(vae, monkeypatch, changed, folder)
    assert count == 1
    larger = [Wanted(one.picture, (16, 16)) for one in changed[:5]]
    assert counted(vae, monkeypatch, larger, folder)[1] == 5


def test_another_encoder_makes_its_own_and_another_decoder_does_not(tmp_path, wanted, monkeypatch):
    torch.manual_seed(0)
    vae = VAE(tiny.VAE_CONFIG).eval().requires_grad_(False)
    first, _ = counted(vae, monkeypatch, wanted, tmp_path / "cache")
    vae.decoder.conv_in.weight.mul_(2)
    assert counted(vae, monkeypatch, wanted, tmp_path / "cache")[1] == 0
    before = vae.encoder.conv_in.weight.clone()
    vae.encoder.conv_in.weight[0, 0, 0, 0] += 0.5
    other, count = counted(vae, monkeypatch, wanted, tmp_path / "cache")
    assert count == 14 and not torch.equal(other(wanted[::2])[0], first(wanted[::2])[0])
    vae.encoder.conv_in.weight.copy_(before)
    assert counted(vae, monkeypatch, wanted, tmp_path / "cache")[1] == 0  # both are there


def test_what_does_not_fit_into_memory_is_read_from_the_files(tmp_path, vae, wanted, monkeypatch):
    whole, _ = counted(vae, monkeypatch, wanted, tmp_path / "cache")
    monkeypatch.setattr(latents, "MEMORY", 100)
    store, _ = counted(vae, monkeypatch, wanted, tmp_path / "cache")
    assert whole.held and not store.held
    assert all(torch.equal(a, b) for a, b in zip(store(wanted[1::2]), whole(wanted[1::2]), strict=True))


def test_a_latent_that_is_no_number_names_the_picture(tmp_path, wanted):
    vae = VAE(tiny.VAE_CONFIG).requires_grad_(False)
    vae.quant_conv.weight.fill_(float("nan"))
    with pytest.raises(UserError, match=r"latent of .*000.png: got 'a number that is not finite'"):
        list(Latents(tmp_path / "cache", vae).fill(wanted))
