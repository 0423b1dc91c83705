"""Tasks on given pictures, on a small random model: what must hold whatever the weights are."""

import dataclasses
import math

import pytest
import test_sample
import tiny
import torch
from PIL import Image
from test_control import trained

from minildm import levels, pictures, tasks
from minildm.control import Hint
from minildm.denoise import beside, keep, reconstructing
from minildm.files import UserError
from minildm.levels import Level
from minildm.sample import SAMPLERS
from minildm.unet import UNet

HOW = {"steps": 4, "scale": 3.0}
FACTOR = tiny.VAE_CONFIG.downscale


@pytest.fixture(scope="module")
def pipe():
    return tiny.pipe()


@pytest.fixture(scope="module")
def published():
    """Rows as published: they begin with a trace of the picture and end in a little noise."""
    return tiny.pipe(levels.scaled_linear(), "eps", "leading", last="first")


def model_of(channels, **config):
    """The same with a U-Net of more input channels."""
    pipe = tiny.pipe()
    torch.manual_seed(2)
    pipe.unet = UNet(dataclasses.replace(tiny.UNET, in_channels=channels, **config)).eval().requires_grad_(False)
    return pipe


def image(b=1, h=32, w=32, seed=5):
    return torch.rand(b, 3, h, w, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def noise(b=1, h=32, w=32, seed=6):
    shape = (b, 4, -(-h // FACTOR), -(-w // FACTOR))
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def hole(h=32, w=32):
    """A mask that begins and ends inside cells."""
    mask = torch.zeros(1, 1, h, w)
    mask[..., 6:19, 9:23] = 1
    return mask


# --- keep, beside


@pytest.mark.parametrize("name", SAMPLERS)
@pytest.mark.parametrize("begun", ["mixed", "noise"])
def test_every_sampler_ends_at_what_is_kept(name, begun):
    """A denoiser that answers 7 everywhere: 7 in the hole, what is known around it."""
    x0, eps, mask = image(2), torch.randn(2, 3, 32, 32), hole()
    rows = levels.pick(levels.scaled_linear(), 6)
    seen = []

    def seven(x, level):
        seen.append((x, level))
        return torch.full_like(x, 7.0)

    start = rows[0].alpha * x0 + rows[0].sigma * eps if begun == "mixed" else eps
    walk = SAMPLERS[name](keep(seven, x0, mask, eps, rows[0].t), start, rows, generator=torch.Generator())
    *_, last = walk
    assert torch.allclose(last[:, :, 6:19, 9:23], torch.tensor(7.0), atol=1e-4)
    torch.testing.assert_close(torch.where(mask > 0, 0, last), torch.where(mask > 0, 0, x0), atol=1e-5, rtol=0)
    assert torch.equal(seen[0][0], start)
    for x, level in seen[1:]:
        known = level.alpha * x0 + level.sigma * eps
        torch.testing.assert_close(torch.where(mask > 0, 0, x), torch.where(mask > 0, 0, known), atol=1e-6, rtol=0)


def test_what_lies_beside_is_repeated_for_both_halves_of_guidance():
    given, x = torch.rand(2, 5, 4, 4), torch.rand(4, 3, 4, 4)
    called = beside(lambda x, t, **said: (x, t, said), given)
    out, t, said = called(x, 3, context=1)
    assert torch.equal(out, torch.cat([x, torch.cat([given, given])], dim=1)) and (t, said) == (3, {"context": 1})


# --- img2img


def test_strength_zero_is_the_picture_itself(pipe):
    given = image(2, 30, 45)
    for strength in (0, 0.0, 0.2):  # a fifth of four steps is none
        assert torch.equal(tasks.img2img(pipe, "a red ring", given, strength, **HOW), given)
    made = tasks.img2img(pipe, ["a", "b", "c"], given[:1], 0, **HOW)
    assert torch.equal(made, given[:1].expand(3, -1, -1, -1))
    assert torch.equal(tasks.inpaint(pipe, "a red ring", given, hole(30, 45), 0, **HOW), given)
    one = torch.rand(1, 3, 8, 8)
    tasks.img2img(pipe, "", one, 0, **HOW).zero_()
    assert one.abs().sum() > 0


def test_strength_one_is_text2img_where_the_first_row_is_pure_noise():
    """In the cosine table alpha is 5e-5 there, in a table of zero terminal SNR it is 0."""
    pipe = tiny.pipe(levels.zero_terminal_snr(levels.scaled_linear()))
    wanted = tasks.text2img(pipe, "a red ring", noise=noise(2), **HOW)
    assert torch.equal(tasks.img2img(pipe, "a red ring", image(), 1.0, noise=noise(2), **HOW), wanted)
    assert torch.equal(tasks.img2img(pipe, "a red ring", image(), 1, noise=noise(2), **HOW), wanted)


def test_strength_one_keeps_a_trace_on_published_rows(published):
    film = list(tasks.states(published, "", image=image(), strength=1.0, noise=noise(), **HOW))
    row = published.rows(4, "ddim")[0]
    torch.testing.assert_close(film[0], row.alpha * published.encode(image()) + row.sigma * noise())
    assert len(film) == 5


@pytest.mark.parametrize(("strength", "left"), [(0.26, 2), (0.5, 5), (0.29, 2), (0.99, 9), (1.0, 10)])
def test_strength_is_the_share_of_the_steps_that_is_left(pipe, strength, left):
    film = list(tasks.states(pipe, "", steps=10, image=image(), strength=strength, noise=noise()))
    assert len(film) == left + 1
    row = pipe.rows(10, "ddim")[10 - left]
    torch.testing.assert_close(film[0], row.alpha * pipe.encode(image()) + row.sigma * noise())


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_every_sampler_edits(published, sampler):
    seeded = torch.Generator().manual_seed(1)
    for made in (
        tasks.img2img(published, "a red ring", image(), 0.6, sampler=sampler, generator=seeded, **HOW),
        tasks.inpaint(published, "a red ring", image(), hole(), sampler=sampler, generator=seeded, **HOW),
    ):
        assert made.shape == (1, 3, 32, 32) and made.isfinite().all() and made.abs().max() <= 1


@pytest.mark.parametrize("strength", [0.2, 0.5, 0.8, 1.0])
def test_pndm_begins_in_the_middle_of_its_rows(published, monkeypatch, strength):
    """With an exact answer every state is the picture with the noise of its row, and the first step looks ahead.

    The reference is no help below strength 1: it leaves out the beginning of a list in which the second time stands
    twice. In what is left the second time stands there once, and its states are not those of the times it asks at.
    """
    asked = []

    def exact(x, t, *more, **said):
        asked.append(t[0].item())
        return noise().expand(len(x), -1, -1, -1)

    monkeypatch.setattr(published.unet, "forward", exact)
    given = {"image": image(), "strength": strength, "noise": noise()}
    film = list(tasks.states(published, "", steps=10, scale=1, sampler="pndm", **given))
    left = int(10 * strength)
    rows = published.rows(10, "pndm")[10 - left :]
    assert len(film) == left + 1
    for row, x in zip(rows, film, strict=True):
        torch.testing.assert_close(x, row.alpha * published.encode(image()) + row.sigma * noise(), atol=1e-4, rtol=0)
    times = [row.t for row in rows[:-1]]
    assert asked == [*times[:2], *times[1:]]


def test_lists_of_prompts_and_pictures(pipe):
    """Each picture of a batch is what it is alone."""
    prompts, given, mask = ["a red ring", "a blue star"], image(2), torch.cat([hole(), hole().flip(3)])
    for task, more in ((tasks.img2img, ()), (tasks.inpaint, (mask,))):
        both = task(pipe, prompts, given, *more, 0.5, noise=noise(2), **HOW)
        for i in range(2):
            one = [part[i : i + 1] for part in more]
            alone = task(pipe, prompts[i], given[i : i + 1], *one, 0.5, noise=noise(2)[i : i + 1], **HOW)
            torch.testing.assert_close(both[i : i + 1], alone, atol=1e-5, rtol=0)
        wide = task(pipe, prompts[0], given[:1], *(part[:1] for part in more), 0.5, noise=noise(2), **HOW)
        torch.testing.assert_close(wide[:1], both[:1], atol=1e-5, rtol=0)
    assert len(tasks.img2img(pipe, "", image(3), 0.5, **HOW)) == 3
    assert len(tasks.inpaint(pipe, "", image(), torch.cat([hole()] * 3), **HOW)) == 3


def test_vary_says_nothing_and_asks_once(pipe, monkeypatch):
    calls = []
    real = pipe.unet.forward
    monkeypatch.setattr(pipe.unet, "forward", lambda x, *more, **said: calls.append(len(x)) or real(x, *more, **said))
    made = tasks.vary(pipe, image(), 0.5, steps=4, noise=noise(2))
    assert calls == [2, 2]
    assert torch.equal(made, tasks.img2img(pipe, "", image(), 0.5, steps=4, scale=1, noise=noise(2)))
    assert not torch.equal(made[0], made[1])
    led = tasks.vary(pipe, image(), 0.5, scale=3.0, negative="a red ring", steps=4, noise=noise(2))
    how = {"negative": "a red ring", "noise": noise(2)} | HOW
    assert torch.equal(led, tasks.img2img(pipe, "", image(), 0.5, **how)) and not torch.equal(led, made)
    del calls[2:]
    tasks.img2img(pipe, "a red ring", image(), 0.5, noise=noise(2), **HOW)
    assert calls[2:] == [4, 4]  # both halves of guidance in one call


# --- holes


@pytest.mark.parametrize("channels", [4, 9])
@pytest.mark.parametrize(("h", "w"), [(32, 32), (33, 46)])
@pytest.mark.parametrize("strength", [0.5, 1.0])
def test_known_pixels_are_exact_and_the_hole_is_new(channels, h, w, strength):
    pipe = model_of(channels)
    given, mask = image(2, h, w), hole(h, w)
    made = tasks.inpaint(pipe, "a red ring", given, mask, strength, **HOW)
    assert made.shape == given.shape
    assert torch.equal(made[(mask == 0).expand_as(made)], given[(mask == 0).expand_as(made)])
    assert ((made != given) & (mask > 0)).sum() > 0.99 * 2 * 3 * mask.sum()


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_reconstruction_changes_the_hole_alone(published, sampler):
    def made(seed=1, **more):
        seeded = torch.Generator().manual_seed(seed)
        return tasks.inpaint(published, "a red ring", image(), hole(), sampler=sampler, generator=seeded, **HOW, **more)

    plain, told = made(), made(reconstruction=1.0)
    known = (hole() == 0).expand_as(plain)
    assert torch.equal(told[known], image()[known]) and told.isfinite().all()
    assert not torch.allclose(told, plain) and torch.equal(plain, made(reconstruction=0.0))
    given, side = image(1, 32, 20), {"sampler": sampler, "noise": noise(), **HOW}
    wide = [tasks.outpaint(published, "", given, right=12, reconstruction=weight, **side) for weight in (0.0, 1.0)]
    assert torch.equal(wide[1][..., :20], given) and not torch.equal(*wide)


def test_reconstruction_is_that_of_the_wrapper_under_keep(pipe):
    """With all that is random given, each state is that of the sampler on the two wrappers."""
    z, cells = pipe.encode(image()), torch.nn.functional.max_pool2d(hole(), FACTOR)
    rows = pipe.rows(4, "ddim")
    told = reconstructing(tasks.prompted(pipe, ["a red ring"], None, 3.0), z, cells, 0.7)
    wanted = [*SAMPLERS["ddim"](keep(told, z, cells, noise(), rows[0].t), noise(), rows)]
    given = {"image": image(), "mask": hole(), "noise": noise(), "reconstruction": 0.7}
    film = list(tasks.states(pipe, "a red ring", **given, **HOW))
    for ours, theirs in zip(film[1:], wanted, strict=True):
        torch.testing.assert_close(ours, theirs)


def test_reconstruction_knows_each_picture_apart():
    """Two pictures, prompts and holes are what they are alone, also from the middle of the steps."""
    pipe = tiny.pipe().double()  # in float32 rounding alone comes near to the bound
    prompts, given, mask = ["a red ring", "a blue star"], image(2).double(), torch.cat([hole(), hole().flip(3)])
    for strength in (1.0, 0.5):
        how = {"strength": strength, "reconstruction": 1.0} | HOW
        both = tasks.inpaint(pipe, prompts, given, mask, noise=noise(2).double(), **how)
        for i in range(2):
            some = slice(i, i + 1)
            alone = tasks.inpaint(pipe, prompts[i], given[some], mask[some], noise=noise(2).double()[some], **how)
            torch.testing.assert_close(both[some], alone, atol=1e-10, rtol=0)


def test_reconstruction_at_its_bound_and_in_pixels(published):
    far = tasks.inpaint(published, "a red ring", image(), hole(), noise=noise(), reconstruction=10, **HOW)
    assert far.isfinite().all()
    pixels = model_of(3, out_channels=3)
    pixels.vae = None
    given = {"image": image(), "mask": hole(), "noise": torch.randn(1, 3, 32, 32), "reconstruction": 10.0}
    *_, last = tasks.states(pixels, "a red ring", **given, **HOW)
    assert last.abs().max() <= 1 + 1e-6


def test_reconstruction_out_of_place_is_named(pipe):
    for weight in (-0.1, 10.1, math.nan, 1e9, True, "1"):
        with pytest.raises(UserError, match="^reconstruction"):
            tasks.inpaint(pipe, "", image(), hole(), reconstruction=weight, **HOW)
    with pytest.raises(UserError, match=r"^reconstruction: got 1\.0; expected 0: an inpainting model is shown"):
        tasks.inpaint(model_of(9), "", image(), hole(), reconstruction=1.0, **HOW)
    with pytest.raises(UserError, match=r"^reconstruction: got 1\.0; expected 0: without a mask"):
        tasks.img2img(pipe, "", image(), reconstruction=1.0, **HOW)


def test_soft_masks_mix(pipe):
    given, hard = image(), hole()
    new = tasks.inpaint(pipe, "a red ring", given, hard, noise=noise(), **HOW)
    mixed = tasks.inpaint(pipe, "a red ring", given, hard * 0.25, noise=noise(), **HOW)
    torch.testing.assert_close(mixed, torch.where(hard > 0, 0.75 * given + 0.25 * new, given), atol=1e-6, rtol=0)


def test_a_hole_is_filled_without_looking_into_it_at_strength_one(pipe):
    """What lies in the hole's cells reaches the result neither through latents nor through pixels...

    ...of a pixel model, that is: an autoencoder's cells around the hole look into it.
    """
    given, other, mask = image(), image(seed=8), hole()
    other = torch.where(mask > 0, other, given)
    pixels = model_of(3, out_channels=3)
    pixels.vae = None
    start = torch.randn(1, 3, 32, 32)
    made = [tasks.inpaint(pixels, "a red ring", x, mask, noise=start, **HOW) for x in (given, other)]
    assert torch.equal(*made)
    part = [tasks.inpaint(pixels, "a red ring", x, mask, 0.5, noise=start, **HOW) for x in (given, other)]
    assert not torch.equal(*part)


def test_the_last_state_is_clean_where_the_picture_is_known(published):
    *_, last = tasks.states(published, "a red ring", image=image(), mask=hole(), noise=noise(), **HOW)
    known = torch.ones(1, 4, 8, 8, dtype=torch.bool)
    known[..., 1:5, 2:6] = False
    assert torch.equal(last[known], published.encode(image())[known])


def test_an_inpainting_model_sees_the_mask_and_what_lies_around(monkeypatch):
    pipe, seen = model_of(9), []
    real = pipe.unet.forward
    monkeypatch.setattr(pipe.unet, "forward", lambda x, *more, **said: seen.append(x) or real(x, *more, **said))
    tasks.inpaint(pipe, "a red ring", image(), hole(), noise=noise(), **HOW)
    around = torch.where(hole() > 0, 0, image())
    for x in seen:
        assert x.shape == (2, 9, 8, 8) and torch.equal(x[0, 4:], x[1, 4:])
        assert torch.equal(x[0, 4], torch.nn.functional.max_pool2d(hole(), FACTOR)[0, 0])
        torch.testing.assert_close(x[:1, 5:], pipe.encode(around))
    assert torch.equal(seen[0][:1, :4], noise())


def test_outpaint_keeps_every_given_pixel(pipe):
    given = image(2, 29, 34)
    made = tasks.outpaint(pipe, "a red ring", given, left=5, right=0, top=3, bottom=8, **HOW)
    assert made.shape == (2, 3, 40, 39)
    assert torch.equal(made[..., 3:32, 5:], given)
    assert torch.equal(tasks.outpaint(pipe, "a red ring", given, **HOW), given)


def test_outpaint_lets_the_given_picture_begin_between_cells(pipe):
    """Else the cells at its left and upper rim would be drawn anew, and half of each covered by it again."""
    given, start = image(1, 28, 32), noise(1, 36, 40)
    whole = tasks.outpaint(pipe, "a red ring", given, left=8, top=8, noise=start, **HOW)
    for left, top in ((5, 8), (8, 7), (6, 5)):
        made = tasks.outpaint(pipe, "a red ring", given, left=left, top=top, noise=start, **HOW)
        assert torch.equal(made, whole[..., 8 - top :, 8 - left :])


def test_maps_go_with_what_outpaint_makes(pipe):
    """A map of whole cells at the left, of which three columns are cut off, and one that begins where it is cut."""
    large = torch.rand(1, 3, 32, 40)
    large[..., :3] = large[..., 3:4]
    net = trained(pipe.unet)
    how = {"noise": noise(1, 32, 40), **HOW}
    whole = tasks.outpaint(pipe, "", image(), left=8, control=[Hint(net, large)], **how)
    made = tasks.outpaint(pipe, "", image(), left=5, control=[Hint(net, large[..., 3:])], **how)
    assert torch.equal(made, whole[..., 3:])
    assert not torch.equal(made, tasks.outpaint(pipe, "", image(), left=5, **how))
    lines = (large > 0.5)[..., 3:]  # of true and false
    drawn = [tasks.outpaint(pipe, "", image(), left=5, control=[Hint(net, m)], **how) for m in (lines, lines.float())]
    assert torch.equal(*drawn)
    for wrong in ([Hint(net, large)], Hint(net, large), [Hint(net, 3)]):
        with pytest.raises(UserError, match="^control"):
            tasks.outpaint(pipe, "", image(), left=5, control=wrong, **how)


def test_files_of_any_kind_are_edited(pipe, tmp_path):
    Image.new("RGB", (30, 21), "red").save(tmp_path / "picture.jpg")
    mask = Image.new("1", (30, 21), 0)
    mask.paste(1, (10, 5, 20, 15))
    made = tasks.inpaint(pipe, "a red ring", tmp_path / "picture.jpg", mask, **HOW)
    assert made.shape == (1, 3, 21, 30)
    assert tasks.vary(pipe, Image.new("RGBA", (9, 9)), steps=2).shape == (1, 3, 9, 9)


# --- upscale


def test_an_ordinary_model_enlarges_and_repaints(pipe):
    small = image(2, 9, 12)
    large = torch.nn.functional.interpolate(small, scale_factor=3, mode="bicubic").clamp(-1, 1)
    made = tasks.upscale(pipe, "a red ring", small, 3, strength=0.5, noise=noise(2, 27, 36), **HOW)
    assert torch.equal(made, tasks.img2img(pipe, "a red ring", large, 0.5, noise=noise(2, 27, 36), **HOW))
    assert torch.equal(tasks.upscale(pipe, "", small, 3, strength=0, **HOW), large)


def test_an_upscaler_sees_the_small_picture_with_the_noise_of_its_label(monkeypatch):
    pipe, seen = model_of(7, num_class_embeds=20), []
    pipe.low = levels.linear(100)
    real = pipe.unet.forward
    monkeypatch.setattr(pipe.unet, "forward",
                        lambda x, *more, **said: seen.append((x, said["label"])) or real(x, *more, **said))  # fmt: skip
    small = image(2, 7, 9)
    made = tasks.upscale(pipe, "a red ring", small, FACTOR, level=13, generator=torch.Generator().manual_seed(4), **HOW)
    assert made.shape == (2, 3, 28, 36)
    row, eps = pipe.low.rows()[13], torch.randn(small.shape, generator=torch.Generator().manual_seed(4))
    for x, label in seen:
        assert label.tolist() == [13] * 4 and label.dtype == torch.int64
        for half in x[:, 4:].chunk(2):
            torch.testing.assert_close(half, row.alpha * small + row.sigma * eps)
    prompts = ["a red ring", "a blue ring", "a star"]
    assert len(tasks.upscale(pipe, prompts, small[:1], FACTOR, level=0, **HOW)) == 3
    pipe.low, pipe.unet = None, model_of(7).unet  # one that was trained without noise
    assert tasks.upscale(pipe, "a red ring", small, FACTOR, **HOW).shape == (2, 3, 28, 36)


# --- control


def test_control_stands_in_the_unet_s_place(pipe, monkeypatch):
    """A fake that turns the answer's sign: it is given the U-Net, and maps of the padded size."""
    given = []

    def controlled(unet, hints):
        given.append((unet, [hint.map.shape[2:] for hint in hints]))
        return lambda *args, **said: -unet(*args, **said)

    monkeypatch.setattr("minildm.tasks.draw.controlled", controlled)
    hint = Hint(None, torch.zeros(1, 3, 30, 33))
    for film in (
        lambda **more: list(tasks.states(pipe, "a red ring", noise=noise(), **HOW, **more)),
        lambda **more: list(tasks.states(pipe, "", image=image(1, 30, 33), noise=noise(1, 32, 36), **HOW, **more)),
    ):
        plain, other = film(), film(control=[hint])
        assert torch.equal(plain[0], other[0]) and not torch.allclose(plain[1], other[1])
    assert given[0] == (pipe.unet, [(30, 33)]) and given[1] == (pipe.unet, [(32, 36)])
    assert tasks.text2img(pipe, "", noise=noise(), control=[hint], **HOW).shape == (1, 3, 32, 32)
    assert tasks.inpaint(model_of(9), "", image(), hole(), control=[hint], **HOW).shape == (1, 3, 32, 32)
    with pytest.raises(UserError, match="^control"):
        tasks.upscale(model_of(7), "", image(), FACTOR, control=[hint], **HOW)


# --- devices and dtypes


@pytest.mark.parametrize("channels", [4, 7, 9])
def test_no_float64_and_half_precision_for_the_networks_alone(channels):
    pipe = model_of(channels).to(torch.bfloat16)
    with test_sample.NoDoubles():
        if channels == 7:
            films = [tasks.upscale(pipe, "a red ring", image(1, 8, 8), FACTOR, **HOW)]
        else:
            how = {"image": image(), "mask": hole(), "strength": 0.5, "reconstruction": float(channels == 4)}
            films = [*tasks.states(pipe, "a red ring", **how, **HOW), tasks.inpaint(pipe, "", image(), hole(), **HOW)]
    assert all(x.dtype == torch.float32 and x.isfinite().all() for x in films)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_keep_and_beside_make_nothing_on_another_device(dtype):
    x, mask = torch.zeros(2, 4, 8, 8, device="meta", dtype=dtype), torch.zeros(1, 1, 8, 8, device="meta")
    denoise = keep(lambda x, level: beside(lambda y, t: y[:, :4], x)(x, 3), x, mask, x, 9.0)
    out = denoise(x, Level(3.0, 0.8, 0.6))
    assert out.device.type == "meta" and out.dtype == dtype


def test_new_pixels_meet_the_known_ones_where_cells_were_kept(pipe):
    how = {"noise": noise(2), **HOW}
    made = tasks.inpaint(pipe, ["a red ring", "a blue star"], image(), hole(), **how)
    *_, last = tasks.states(pipe, ["a red ring", "a blue star"], image=image(), mask=hole(), **how)
    decoded = pipe.decode(last)
    assert torch.equal(made, pictures.blended(decoded, image(), hole(), FACTOR))
    assert not torch.equal(made, torch.where(hole() > 0, decoded, image()))
    assert not torch.equal(made, pictures.blended(decoded, image(), hole()))


def test_a_film_of_a_model_that_may_be_trained_is_finished_too():
    pipe = tiny.pipe().requires_grad_(True)
    film = tasks.states(pipe, "a red ring", image=image(), mask=hole(), noise=noise(), **HOW)
    made = tasks.finish(pipe, film, image(), hole())
    assert torch.equal(made, tasks.inpaint(pipe, "a red ring", image(), hole(), noise=noise(), **HOW))


# --- mistakes


@pytest.mark.parametrize("strength", [-0.1, 1.1, math.nan, math.inf, "half", None, True])
def test_a_strength_outside_its_range_is_refused(pipe, strength):
    for task, more in ((tasks.img2img, ()), (tasks.inpaint, (hole(),)), (tasks.outpaint, ())):
        with pytest.raises(UserError, match="^strength.* from 0 to 1") as error:
            task(pipe, "a red ring", image(), *more, strength=strength)
        assert "\n" not in str(error.value)


@pytest.mark.parametrize(("wrong", "named"), [
    ({"mask": torch.zeros(1, 1, 32, 31)}, r"mask: got \(32, 31\); expected the picture's .*\(32, 32\)"),
    ({"mask": torch.zeros(1, 1, 8, 8)}, "mask"), ({"mask": hole() * 255}, "mask: got 'values 0 to 255'"),
    ({"mask": torch.full((1, 1, 32, 32), math.nan)}, "mask"), ({"mask": "nowhere.png"}, "mask nowhere.png"),
    ({"image": torch.zeros(1, 1, 32, 32)}, "picture"), ({"image": image() * 9}, "picture"),
    ({"image": "nowhere.png"}, "picture nowhere.png"), ({"noise": torch.zeros(1, 4, 9, 8)}, "noise.*b, 4, 8, 8"),
    ({"prompt": ["a"] * 3, "noise": torch.zeros(2, 4, 8, 8)}, "prompts"),
    ({"image": image(3), "noise": torch.zeros(2, 4, 8, 8)}, "pictures"), ({"image": image(3), "prompt": ["a"] * 2},
    "prompts"), ({"mask": torch.cat([hole()] * 3), "prompt": ["a"] * 2}, "prompts"), ({"height": 32}, "height"),
    ({"mask": None}, "mask: got None"), ({"control": 3}, "control: got 'a int'"),
    ({"control": Hint(None, image())}, "control: got 'a Hint'; expected a list of Hint"),
    ({"control": [(None, image(), 1.0)]}, "control: got 'a tuple in a list'; expected a list of Hint"),
    ({"control": [Hint(None, "map.png")]}, "control network"),
    ({"steps": 0}, "steps"), ({"scale": math.nan}, "scale"), ({"sampler": "magic"}, "sampler"),
    ({"scale": 10**400}, "scale"), ({"strength": 10**400}, "strength"), ({"reconstruction": 10**400}, "reconstruction"),
])  # fmt: skip
def test_wrong_pictures_masks_and_numbers_are_named(pipe, wrong, named):
    with pytest.raises(UserError, match=f"^{named}"):
        tasks.inpaint(pipe, **({"prompt": "a red ring", "image": image(), "mask": hole()} | wrong))


@pytest.mark.parametrize("channels", [4, 9])
def test_masks_and_pictures_of_different_numbers_are_refused(channels):
    with pytest.raises(UserError, match="^masks: got 3; expected one, or as many as there are pictures: 2"):
        tasks.inpaint(model_of(channels), "", image(2), torch.cat([hole()] * 3), **HOW)


def test_a_mask_without_a_picture_is_refused(pipe):
    with pytest.raises(UserError, match="^image"):
        tasks.states(pipe, "a red ring", mask=hole())


@pytest.mark.parametrize("side", [-1, 1.5, True, "2", None])
def test_sides_that_are_no_numbers_of_pixels_are_refused(pipe, side):
    for name in ("left", "right", "top", "bottom"):
        with pytest.raises(UserError, match=f"^{name}"):
            tasks.outpaint(pipe, "a red ring", image(), **{name: side})


@pytest.mark.parametrize("factor", [0, -2, 1.5, True, "2", None, math.nan])
def test_a_factor_that_is_no_whole_number_is_refused(pipe, factor):
    with pytest.raises(UserError, match="^factor"):
        tasks.upscale(pipe, "a red ring", image(), factor)


def test_what_an_upscaler_cannot_do_is_refused():
    pipe = model_of(7, num_class_embeds=20)
    pipe.low = levels.linear(100)
    with pytest.raises(UserError, match="^factor: got 2; expected 4"):
        tasks.upscale(pipe, "a red ring", image(), 2)
    for level in (-1, 20, 2.5, True, None):
        with pytest.raises(UserError, match="^level.*0 to 19"):
            tasks.upscale(pipe, "a red ring", image(), FACTOR, level=level)
    pipe.low = None  # no noise, but labels
    with pytest.raises(UserError, match="^level.*0 to 19"):
        tasks.upscale(pipe, "a red ring", image(), FACTOR, level=20)
    for wrong in ({"prompt": ["a"] * 3}, {"prompt": "a", "noise": noise(4, 32 * FACTOR, 32 * FACTOR)}):
        with pytest.raises(UserError, match="^pictures: got 2; expected one, or as many as are to be drawn"):
            tasks.upscale(pipe, image=image(2), factor=FACTOR, **wrong)
    with pytest.raises(UserError, match="^prompts: got 2"):
        tasks.upscale(pipe, ["a"] * 2, image(3), FACTOR)
    for wrong in (torch.tensor(1.0), torch.zeros(0, 4, 32, 32), torch.zeros(4, 32, 32)):
        with pytest.raises(UserError, match="^noise"):
            tasks.upscale(pipe, ["a"] * 2, image(2), FACTOR, level=0, noise=wrong)
    for model in (pipe, model_of(4)):
        with pytest.raises(UserError, match="^height"):
            tasks.upscale(model, "a", image(), FACTOR, height=32)


@pytest.mark.parametrize("channels", [7, 9])
def test_models_that_take_more_are_told_from_ordinary_ones(channels):
    pipe = model_of(channels)
    for task in (tasks.img2img, tasks.text2img):
        told = f"^model: got 'a U-Net of {channels} channels'; expected one of 4; an upscaler is for tasks.upscale"
        with pytest.raises(UserError, match=told):
            task(pipe, "a red ring", *([image()] if task is tasks.img2img else []))
    if channels == 7:
        with pytest.raises(UserError, match="^model"):
            tasks.inpaint(pipe, "a red ring", image(), hole())
