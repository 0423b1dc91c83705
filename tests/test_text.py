"""The tokenizer, the text model and the mini-CLIP."""

import math
import re

import pytest
import torch
import torch.nn.functional as F

from minildm import scenes
from minildm.clip import MiniCLIP, clip_batch, clip_loss, contrastive_loss
from minildm.files import UserError
from minildm.scenes import negatives
from minildm.text import Text, train_tokenizer


def _captions(n=4000):
    drawn = scenes.draw(n, seed=1)
    return scenes.captions(drawn, seed=1) + scenes.captions(drawn, seed=2, full=True)


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer(_captions())


@pytest.fixture(scope="module")
def text(tokenizer):
    torch.manual_seed(0)
    return Text.tiny(tokenizer, width=32, layers=2).eval()


# --- the tokenizer


def test_every_word_of_the_grammar_is_one_token(tokenizer):
    assert {word: len(tokenizer.tokenize(word)) for word in scenes.WORDS} == dict.fromkeys(scenes.WORDS, 1)
    assert tokenizer.tokenize("a large Red circle, on white") == [
        f"{word}</w>" for word in ("a", "large", "red", "circle", ",", "on", "white")
    ]


def test_no_caption_is_cut(tokenizer):
    drawn = scenes.draw(3000, seed=9, held_out=True)
    for forms in ("train", "held_out"):
        said = scenes.captions(drawn, seed=9, full=True, forms=forms)
        assert max(len(ids) for ids in tokenizer(said).input_ids) <= tokenizer.model_max_length == 24


def test_any_text_survives(tokenizer):
    strange = "zebra \u00e9t\u00e9 \u6f22\u5b57 \U0001f984 42%"
    ids = tokenizer(strange).input_ids
    words = [int(i) for i in ids[1:-1]]
    assert (ids[0], ids[-1]) == (tokenizer.bos_token_id, tokenizer.eos_token_id)
    assert tokenizer.eos_token_id not in words  # which would be "unknown"
    assert tokenizer.decode(words).replace(" ", "") == strange.replace(" ", "")
    assert tokenizer.decode(tokenizer("A  RED Ring").input_ids, skip_special_tokens=True) == "a red ring"


def test_the_vocabulary_is_laid_out_as_the_published_one(tokenizer):
    names = sorted(tokenizer.get_vocab(), key=tokenizer.get_vocab().get)
    assert sorted(tokenizer.get_vocab().values()) == list(range(len(names)))
    assert all(len(name) == 1 for name in names[:256]) and len(set(names[:256])) == 256
    assert names[256:512] == [name + "</w>" for name in names[:256]]
    assert names[-2:] == ["<|startoftext|>", "<|endoftext|>"]
    assert tokenizer.pad_token == tokenizer.eos_token == "<|endoftext|>"


def test_the_order_of_the_captions_does_not_matter(tokenizer):
    again = train_tokenizer(reversed(_captions()))
    assert again.get_vocab() == tokenizer.get_vocab()


def test_the_tokenizer_reopens_equal(tokenizer, tmp_path):
    from transformers import CLIPTokenizer

    tokenizer.save_pretrained(tmp_path)
    again = CLIPTokenizer.from_pretrained(tmp_path)
    assert again.get_vocab() == tokenizer.get_vocab()
    assert again.model_max_length == tokenizer.model_max_length
    assert again.backend_tokenizer.to_str() == tokenizer.backend_tokenizer.to_str()
    said = [*_captions(200), "Zebra \u6f22!", ""]
    kwargs = {"padding": "max_length", "truncation": True}
    assert again(said, **kwargs).input_ids == tokenizer(said, **kwargs).input_ids


@pytest.mark.parametrize(("texts", "length"), [([], 24), (["a red circle on white"], 6)])
def test_a_tokenizer_that_cannot_be(texts, length):
    with pytest.raises(UserError, match="expected at least"):
        train_tokenizer(texts, length)


# --- the text model


def test_hidden_states_of_prompts(text, tokenizer):
    prompts = ["a red circle", "a large blue star to the left of a small pink ring on a grey background"]
    states = text(prompts)
    assert states.shape == (2, 24, 32)
    inner = text.model
    assert torch.allclose(states.mean(-1), torch.zeros(2, 24), atol=1e-5)  # after the final layer norm, as it begins
    torch.testing.assert_close(text(prompts[0])[0], states[0])
    ids = text.ids(prompts)
    assert ids[0, 5:].unique().tolist() == [tokenizer.pad_token_id]
    torch.testing.assert_close(text.encode_ids(ids)[0], inner(input_ids=ids).last_hidden_state)
    assert text("").isfinite().all()


def test_pooled_is_the_state_at_the_first_end(text, tokenizer):
    prompts = ["a red circle", "", "a large blue star above a ring"]
    states, ids = text(prompts), text.ids(prompts)
    ends = [row.index(tokenizer.eos_token_id) for row in ids.tolist()]
    assert ends == [4, 1, 8]
    torch.testing.assert_close(text.pooled(prompts), states[range(3), ends], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(text.pooled(prompts), text.both(prompts)[1], atol=1e-5, rtol=1e-5)


def test_a_prompt_too_long_is_cut_and_the_warning_shows_where(text, tokenizer):
    with pytest.warns(UserWarning, match=r"room for 22 tokens; cut off: 'red circle a'"):
        ids = text.ids(["a red circle " * 8 + "a", "a star"])
    with pytest.warns(UserWarning):
        pass_on = text("a red circle " * 30)
    assert ids.shape == (2, 24) and ids[0, -1] == tokenizer.eos_token_id and pass_on.shape == (1, 24, 32)


def test_what_follows_the_end_is_padding_that_sees_it(text):
    """Padding is not masked, as in Stable Diffusion: its states carry the prompt too, and attention looks back only."""
    red, blue = text(["a red circle", "a blue circle"])
    torch.testing.assert_close(red[:2], blue[:2])
    assert (red[2:] - blue[2:]).abs().amax(1).min() > 1e-4


@pytest.mark.parametrize("prompt", [None, 3, [], ["a red circle", None], {"prompt": "a"}])
def test_a_prompt_is_text(text, prompt):
    with pytest.raises(UserError, match="^prompt: got .* expected a string or a list of strings$"):
        text(prompt)


def test_the_text_model_stays_on_its_device_and_in_its_dtype(tokenizer):
    assert Text.tiny(tokenizer, 32, 1).to("meta")("a red circle").device.type == "meta"
    assert Text.tiny(tokenizer, 32, 1).to(torch.bfloat16)("a red circle").dtype == torch.bfloat16


def test_tokenizer_and_text_model_steer_the_reference_pipeline(text, tokenizer, tmp_path):
    """Saved in the published layout and opened by diffusers, they give the pipeline the very same states."""
    pytest.importorskip("diffusers")
    from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel

    pipe = StableDiffusionPipeline(
        vae=AutoencoderKL(block_out_channels=(8,), norm_num_groups=4),
        text_encoder=text.model,
        tokenizer=tokenizer,
        unet=UNet2DConditionModel(
            sample_size=8,
            block_out_channels=(8,),
            norm_num_groups=4,
            attention_head_dim=2,
            cross_attention_dim=32,
            down_block_types=("CrossAttnDownBlock2D",),
            up_block_types=("CrossAttnUpBlock2D",),
            layers_per_block=1,
        ),
        scheduler=DDIMScheduler(steps_offset=1, clip_sample=False),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipe.save_pretrained(tmp_path)
    again = StableDiffusionPipeline.from_pretrained(tmp_path)
    prompt = "a small red circle on Zebra"
    with torch.no_grad():
        positive, negative = again.encode_prompt(prompt, torch.device("cpu"), 1, True, negative_prompt="")
        torch.testing.assert_close(positive, text(prompt), atol=1e-6, rtol=0)
        torch.testing.assert_close(negative, text(""), atol=1e-6, rtol=0)


# --- contrastive loss


def test_loss_of_equal_logits():
    """All vectors alike: the choice among b texts costs ln b, among b + k costs ln(b + k)."""
    ones = F.normalize(torch.ones(6, 4), dim=-1)
    scale = torch.tensor(7.0)
    assert contrastive_loss(ones, ones, scale).item() == pytest.approx(math.log(6), abs=1e-5)
    hard = ones[:, None].expand(6, 3, 4)
    half = (math.log(9) + math.log(6)) / 2
    assert contrastive_loss(ones, ones, scale, hard).item() == pytest.approx(half, abs=1e-5)


def test_loss_by_hand():
    """Two pairs at right angles: every truth scores s, every other 0, and each costs ln(1 + e^-s)."""
    eye = torch.eye(2)
    for scale in (0.5, 3.0, 40.0):
        got = contrastive_loss(eye, eye, torch.tensor(scale)).item()
        assert got == pytest.approx(math.log1p(math.exp(-scale)), abs=1e-6)
        # one more text for each picture, opposite to it, scores -s
        got = contrastive_loss(eye, eye, torch.tensor(scale), -eye[:, None]).item()
        more = math.log1p(math.exp(-scale) + math.exp(-2 * scale))
        assert got == pytest.approx((more + math.log1p(math.exp(-scale))) / 2, abs=1e-6)


def test_loss_is_symmetric_without_negatives():
    a, b = F.normalize(torch.randn(2, 8, 5, generator=torch.Generator().manual_seed(0)), dim=-1)
    scale = torch.tensor(5.0)
    assert contrastive_loss(a, b, scale).item() == pytest.approx(contrastive_loss(b, a, scale).item(), abs=1e-6)
    order = torch.randperm(8, generator=torch.Generator().manual_seed(1))
    assert contrastive_loss(a[order], b[order], scale).item() == pytest.approx(
        contrastive_loss(a, b, scale).item(), abs=1e-6
    )


def test_scale_starts_as_published_and_is_clamped(text):
    clip = MiniCLIP(text)
    assert clip.scale.item() == pytest.approx(1 / 0.07, rel=1e-5)
    torch.nn.init.constant_(clip.log_scale, 9.0)
    assert clip.scale.item() == 100


# --- hard negatives


SIZE_OF = {word: size for size, words in scenes.words.SIZE_WORDS.items() for word in words}


def _is_true(caption, scene):
    """Whether a caption is true of a scene, read by patterns of its own, not by the grammar that wrote it."""
    sized = "|".join(SIZE_OF)
    named = "|".join(scenes.COLOURS), "|".join(scenes.SHAPES)
    phrase = rf"an? (?:({sized}) )?({named[0]}) ({named[1]})\b"
    found = list(re.finditer(phrase, caption))
    assert len(found) == scene.count.item()
    rest = re.sub(phrase, "OBJECT", caption)
    for ground in re.findall("|".join(scenes.BACKGROUNDS), rest):
        if ground != list(scenes.BACKGROUNDS)[scene.background]:
            return False
    order = []  # which slot each named object is
    for match in found:
        size, colour, shape = match.groups()
        slots = [
            i
            for i in range(len(found))
            if list(scenes.COLOURS)[scene.colour[0, i]] == colour and scenes.SHAPES[scene.shape[0, i]] == shape
        ]
        if not slots or (size and SIZE_OF[size] != list(scenes.SIZES)[scene.size[0, slots[0]]]):
            return False
        order.append(slots[0])
    words = set(re.findall(r"\w+", rest))
    where = {"left": (-1, 0), "right": (1, 0), "above": (0, -1), "below": (0, 1)}
    x, y = scene.x[0].tolist(), scene.y[0].tolist()
    if len(found) == 2:
        if sorted(order) != [0, 1]:
            return False
        told = [way for way in where if way in words]
        assert len(told) == 1
        # "A left of B" tells of the first named; "B with A to its left" of the second
        about, other = reversed(order) if re.search(r"\bit$|\bits\b|\bit\b (?:on|$)", rest) else order
        if re.search(r"and on it", rest):
            about, other = order
        dx, dy = x[about] - x[other], y[about] - y[other]
        return list(where)[(dx > 0) if abs(dx) > abs(dy) else 2 + (dy > 0)] == told[0]
    places = {"top", "bottom", "left", "right", "centre", "middle"} & words
    if places:
        here = {("left", None, "right")[int(3 * x[0])], ("top", None, "bottom")[int(3 * y[0])]} - {None}
        return (places - {"centre", "middle"}) == here
    return True


def test_the_truth_of_captions_can_be_told():
    """The judge of the next tests finds every training caption true of its own scene."""
    drawn = scenes.draw(1500, seed=3)
    for full in (False, True):
        said = scenes.captions(drawn, seed=4, full=full)
        assert [c for i, c in enumerate(said) if not _is_true(c, drawn[i])] == []


@pytest.mark.parametrize("full", [False, True])
def test_no_false_caption_is_true(full):
    drawn = scenes.draw(1000, seed=5)
    said = scenes.captions(drawn, seed=6, full=full)
    false = negatives.false_captions(drawn, seed=6, full=full, count=4)
    assert {len(row) for row in false} == {4}
    wrong = [(said[i], c) for i, row in enumerate(false) for c in row if _is_true(c, drawn[i])]
    assert wrong == []
    # one change leaves the form of the sentence, so the number of words can change by that of the place alone
    for a, row in zip(said, false, strict=True):
        for b in row:
            assert abs(len(a.split()) - len(b.split())) <= 3


def test_hard_negatives_hold_no_held_out_pair_and_two_different_objects():
    held = {(list(scenes.COLOURS).index(c), scenes.SHAPES.index(s)) for c, s in scenes.HELD_OUT}
    drawn = scenes.draw(4000, seed=7)
    for changed in negatives.hard_negatives(drawn, seed=8, count=4):
        assert torch.equal(changed.count, drawn.count)
        pairs = torch.stack([changed.colour, changed.shape], 2).tolist()  # n times 2 slots times (colour, shape)
        pairs = [[tuple(pair) for pair in row] for row in pairs]
        assert not any(pair in held for row in pairs for pair in row)
        assert all(a != b for a, b in pairs)
        two = changed.count == 2
        assert (scenes.relation(changed)[two] >= 0).all()


def test_every_kind_of_change_does_what_its_name_says():
    drawn = scenes.draw(2000, seed=9)
    u = torch.rand(2000, 2, generator=torch.Generator().manual_seed(0))
    fields = {
        "colour": {"colour"},
        "shape": {"shape"},
        "size": {"size"},
        "background": {"background"},
        "place": {"x", "y"},
        "colours swapped": {"colour"},
        "shapes swapped": {"shape"},
        "sizes swapped": {"size"},
        "mirrored": {"x", "y"},
        "turned": {"x", "y"},
    }
    assert fields.keys() == negatives.CHANGES.keys()
    for name, make in negatives.CHANGES.items():
        changed, fits = make(drawn, u)
        differs = {key for key in vars(drawn) if not torch.equal(vars(drawn)[key][fits], vars(changed)[key][fits])}
        assert differs == fields[name]
        assert fits.float().mean() > 0.15
        rows = torch.stack([(vars(drawn)[key] != vars(changed)[key]).view(2000, -1).sum(1) for key in differs])
        assert (rows.sum(0)[fits] > 0).all()
        if name in ("colour", "shape", "size", "background"):
            assert fits.all() and (rows.sum(0) == 1).all()
    two = drawn.count == 2
    before = scenes.relation(drawn)
    mirrored, turned = (scenes.relation(negatives.CHANGES[name](drawn, u)[0]) for name in ("mirrored", "turned"))
    assert torch.equal(mirrored[two], torch.tensor([1, 0, 3, 2])[before[two]])
    assert torch.equal(turned[two] // 2, 1 - before[two] // 2)  # the other axis
    dx, dy = drawn.x[two].diff(dim=1)[:, 0], drawn.y[two].diff(dim=1)[:, 0]  # object 1 from object 0
    loosely = torch.stack([dx > 0, dx < 0, dy > 0, dy < 0], 1)  # left of, right of, above, below
    assert not loosely[torch.arange(len(dx)), turned[two]].any()
    moved, lone = negatives.CHANGES["place"](drawn, u)
    assert (scenes.place(moved)[lone, 0] >= 0).all()
    assert (scenes.place(moved)[lone, 0] != scenes.place(drawn)[lone, 0]).all()


def test_a_hard_negative_depends_on_its_number_alone():
    drawn = scenes.draw(50, seed=3)
    whole = negatives.false_captions(drawn, seed=1, start=10)
    assert negatives.false_captions(drawn[20:23], seed=1, start=30) == whole[20:23]
    assert negatives.false_captions(drawn, seed=2, start=10) != whole
    with pytest.raises(ValueError, match="count: got 5; expected 1 to 4"):
        negatives.hard_negatives(drawn, count=5)


# --- training


def test_asked_for_mirrored_the_first_hard_negative_of_two_objects_has_them_exchanged():
    drawn = scenes.draw(300, seed=21)
    two = drawn.count == 2
    first, _ = negatives.hard_negatives(drawn, seed=4, mirrored=True)
    assert torch.equal(first.x[two], drawn.x[two].flip(1)) and torch.equal(first.y[two], drawn.y[two].flip(1))
    for name in ("colour", "shape", "size", "background"):
        assert torch.equal(getattr(first, name)[two], getattr(drawn, name)[two]), name
    other_first, _ = negatives.hard_negatives(drawn, seed=4)
    for name in vars(drawn):  # one object, and the second changes: as ever
        assert torch.equal(getattr(first, name)[~two], getattr(other_first, name)[~two]), name
    _, _, false = clip_batch(5, 0, 64, 2, mirrored=True)
    _, _, usual = clip_batch(5, 0, 64, 2)
    assert [row[0] for row in false] != [row[0] for row in usual]


def test_a_batch_is_the_same_however_it_is_reached():
    pictures, said, false = clip_batch(5, 3, batch=8, negatives=3)
    assert pictures.shape == (8, 3, 32, 32) and len(said) == len(false) == 8
    assert {len(row) for row in false} == {3}
    again = clip_batch(5, 3, batch=8, negatives=3)
    assert torch.equal(again[0], pictures) and again[1:] == (said, false)
    assert clip_batch(5, 4, batch=8)[1] != said
    assert clip_batch(5, 3, batch=8, negatives=0)[1:] == (said, [])
    torch.testing.assert_close(pictures, scenes.render(scenes.draw(8, 5, 24)))


def test_the_loss_reaches_every_part_and_falls(tokenizer):
    torch.manual_seed(0)
    clip = MiniCLIP(Text.tiny(tokenizer, width=32, layers=1, heads=2), dim=16, channels=8)
    optimizer = torch.optim.AdamW(clip.parameters(), lr=5e-3)
    batch = clip_batch(0, 0, batch=16)
    assert clip.similarity(batch[0], batch[1][:3]).shape == (16, 3)
    assert clip.pictures(batch[0]).norm(dim=1).allclose(torch.ones(16))
    losses = []
    for _ in range(25):
        loss = clip_loss(clip, batch)
        optimizer.zero_grad()
        loss.backward()
        if not losses:
            assert [name for name, p in clip.named_parameters() if p.grad is None] == []
        optimizer.step()
        losses.append(loss.item())
    assert clip_loss(clip, (*batch[:2], [])) < clip_loss(clip, batch)  # fewer captions to choose among
    # who knows nothing pays ln 18 for a choice among 16 captions and 2 false ones, and ln 16 among 16 pictures
    assert losses[-1] < 0.5 * (math.log(18) + math.log(16)) / 2
