"""Answers to the exercises of lesson 14."""

import copy
import math
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import nn

from minildm import oracle


def ddim(denoise, x, rows):
    for level, below in pairwise(rows):
        x0 = denoise(x, level)
        x = below.alpha * x0 + below.sigma * (x - level.alpha * x0) / level.sigma
    return x


# 14.img2img


def img2img_loop(encode, decode, denoise, picture, noise, rows, strength):
    n = len(rows) - 1
    left = rows[n - int(n * strength) :]
    if len(left) == 1:
        return picture
    x = left[0].alpha * encode(picture) + left[0].sigma * noise
    for level, below in pairwise(left):
        x0 = denoise(x, level)
        eps = (x - level.alpha * x0) / level.sigma
        x = below.alpha * x0 + below.sigma * eps
    return decode(x)


def img2img_recursive(encode, decode, denoise, picture, noise, rows, strength):
    steps = math.floor((len(rows) - 1) * strength)
    if not steps:
        return picture.clone()
    *left, last = rows[-steps - 1 :]
    x = torch.add(left[0].alpha * encode(picture), noise, alpha=left[0].sigma)
    for level, below in zip(left, [*left[1:], last], strict=True):
        x0 = denoise(x, level)
        x = (below.sigma / level.sigma) * (x - level.alpha * x0) + below.alpha * x0
    return decode(x)


def img2img_with(start=None, left=None, nothing=True, end=lambda decode, x: decode(x)):
    """A right one but for where it starts, which rows it takes, or how it ends."""

    def img2img(encode, decode, denoise, picture, noise, rows, strength):
        n = len(rows) - 1
        k = int(n * strength)
        chosen = left(rows, n, strength) if left else rows[n - k :]
        if nothing and len(chosen) < 2:
            return picture
        z = encode(picture)
        first = chosen[0]
        x = start(z, noise, rows, chosen, strength) if start else first.alpha * z + first.sigma * noise
        return end(decode, ddim(denoise, x, chosen))

    return img2img


def img2img_round_trip():
    """With no step left the loop does nothing, and what it did nothing with is decoded."""
    return img2img_with(nothing=False)


def img2img_backwards():
    """mflux #123 and others: there the strength is that of the picture, and 0 leaves none of it."""
    return img2img_with(left=lambda rows, n, s: rows[int(n * s) :])


def img2img_first_rows():
    """k steps are the first k steps of the table, one thinks, and never gets to the clean end."""
    return img2img_with(left=lambda rows, n, s: rows[: int(n * s) + 1] if int(n * s) else rows[:1])


def img2img_stops_early():
    """rows[n - k : n] are k rows, and k steps were wanted; a step needs two."""
    return img2img_with(left=lambda rows, n, s: rows[n - int(n * s) : n] if int(n * s) > 1 else rows[n - int(n * s) :])


def img2img_walks_all():
    """The noise is chosen by strength, and then the sampler is called as it always is."""

    def img2img(encode, decode, denoise, picture, noise, rows, strength):
        n = len(rows) - 1
        first = rows[n - int(n * strength)]
        if first.sigma == 0:
            return picture
        return decode(ddim(denoise, first.alpha * encode(picture) + first.sigma * noise, rows))

    return img2img


def img2img_too_noisy():
    """Noise is added as text2img begins, at the first row of the table; then the steps are cut."""
    return img2img_with(lambda z, noise, rows, left, s: rows[0].alpha * z + rows[0].sigma * noise)


def img2img_one_row_off():
    """The picture is brought to where the first step LEADS, an off-by-one of published pipelines' early days."""
    return img2img_with(lambda z, noise, rows, left, s: left[1].alpha * z + left[1].sigma * noise)


def img2img_mixes_by_strength():
    """Strength 0.6 sounds like 60% noise, so the two are mixed by it."""
    return img2img_with(lambda z, noise, rows, left, s: (1 - s) * z + s * noise)


def img2img_without_noise():
    """The sampler starts at the right row, and takes a clean picture for a noisy one."""
    return img2img_with(lambda z, noise, rows, left, s: z)


def img2img_without_alpha():
    """Noise is added TO the picture, as the sentence goes: z + sigma * noise."""
    return img2img_with(lambda z, noise, rows, left, s: z + left[0].sigma * noise)


def img2img_pure_at_one():
    """diffusers #436: strength 1 shall ignore the picture, so it starts from pure noise there."""
    return img2img_with(
        lambda z, noise, rows, left, s: noise if s >= 1 else left[0].alpha * z + left[0].sigma * noise
    )


def img2img_latents():
    """The loop's last state is returned, and the decoder forgotten."""
    return img2img_with(end=lambda decode, x: x)


def img2img_rounds_up():
    """At least one step should be done, so the number is rounded up."""
    return img2img_with(left=lambda rows, n, s: rows[n - math.ceil(n * s) :])


def img2img_counts_rows():
    """len(rows) is taken for the number of steps; there is one row more."""
    return img2img_with(left=lambda rows, n, s: rows[max(n - int((n + 1) * s), 0) :])


# 14.grid


def grid_pool(mask, factor):
    return F.max_pool2d((mask > 0).float(), factor, ceil_mode=True)


def grid_reshape(mask, factor):
    b, c, h, w = mask.shape
    high, wide = math.ceil(h / factor), math.ceil(w / factor)
    cells = torch.zeros(b, c, high, wide)
    for y in range(h):
        for x in range(w):
            cells[:, :, y // factor, x // factor] += mask[:, :, y, x]
    return (cells > 0).float()


def grid_corner(mask, factor):
    """stable-diffusion.cpp before #1357: one sample in the corner of each cell, which is what "nearest" means."""
    return (mask[..., ::factor, ::factor] > 0).float()


def grid_middle(mask, factor):
    """A cell is judged by the pixel in its middle, as image programs scale down without smoothing."""
    full = F.pad(mask, (0, -mask.shape[3] % factor, 0, -mask.shape[2] % factor), mode="replicate")
    return (full[..., factor // 2 :: factor, factor // 2 :: factor] > 0).float()


def grid_majority(mask, factor):
    """More than half of the cell painted: what rounding would do."""
    return (F.avg_pool2d(mask, factor, ceil_mode=True) > 0.5).float()


def grid_soft(mask, factor):
    """The mean of each cell, so that the rim becomes soft; half a cell then is mixed at every step."""
    return F.avg_pool2d(mask, factor, ceil_mode=True)


def grid_greys(mask, factor):
    """The largest of each cell, as it is: a soft stroke stays soft."""
    return F.max_pool2d(mask, factor, ceil_mode=True)


def grid_half(mask, factor):
    """Masks are made black and white at one half first, as published pipelines do it."""
    return F.max_pool2d((mask > 0.5).float(), factor, ceil_mode=True)


def grid_whole(mask, factor):
    """Known pixels must not change, so only cells without any known pixel are opened."""
    return -F.max_pool2d(-(mask > 0).float(), factor, ceil_mode=True)


def grid_turned(mask, factor):
    """In other programs white is what stays."""
    return 1 - F.max_pool2d((mask > 0).float(), factor, ceil_mode=True)


def grid_stride(mask, factor):
    """Pooling with a step of one: the mask gets wider and the grid does not get coarser."""
    return F.max_pool2d((mask > 0).float(), factor, stride=1)


def grid_cut(mask, factor):
    """What does not fill a cell is left out, as max_pool2d does unless told."""
    return F.max_pool2d((mask > 0).float(), factor)


def grid_bool(mask, factor):
    """Open or not is true or false, so a tensor of booleans is returned."""
    return F.max_pool2d(mask, factor, ceil_mode=True) > 0


# 14.inpaint


def inpaint_loop(encode, decode, denoise, picture, mask, hole, noise, rows):
    z, x = encode(picture), noise
    for level, below in pairwise(rows):
        x = torch.where(hole > 0, x, level.alpha * z + level.sigma * noise)
        x0 = torch.where(hole > 0, denoise(x, level), z)
        eps = (x - level.alpha * x0) / level.sigma
        x = below.alpha * x0 + below.sigma * eps
    return torch.where(mask > 0, decode(x), picture)


def inpaint_by_answers(encode, decode, denoise, picture, mask, hole, noise, rows):
    # DDIM from z and the noise that is there leads along alpha * z + sigma * noise by itself
    z = encode(picture)

    def knowing(x, level):
        return hole * denoise(x, level) + (1 - hole) * z

    result = picture.clone()
    x = torch.where(hole > 0, noise, rows[0].alpha * z + rows[0].sigma * noise)
    made = decode(ddim(knowing, x, rows))
    painted = (mask > 0).expand_as(result)
    result[painted] = made[painted]
    return result


def inpaint_with(shown=lambda z, noise, level, below, i, x: level.alpha * z + level.sigma * noise,
                 answer=lambda x0, z, hole: torch.where(hole > 0, x0, z), paste=None):  # fmt: skip
    """A right one but for what is imposed, what is answered, or what is pasted."""

    def inpaint(encode, decode, denoise, picture, mask, hole, noise, rows):
        z, x = encode(picture), noise
        for i, (level, below) in enumerate(pairwise(rows)):
            x = torch.where(hole > 0, x, shown(z, noise, level, below, i, x))
            x0 = answer(denoise(x, level), z, hole)
            x = below.alpha * x0 + below.sigma * (x - level.alpha * x0) / level.sigma
        made = decode(x)
        return paste(made, picture, mask, hole) if paste else torch.where(mask > 0, made, picture)

    return inpaint


def inpaint_no_paste():
    """basujindal/stable-diffusion #88: the known latents are kept, and the decoder is believed to keep the pixels."""
    return inpaint_with(paste=lambda made, picture, mask, hole: made)


def inpaint_pastes_by_cells():
    """The hole of the latents is enlarged again and used for the pixels, too."""

    def paste(made, picture, mask, hole):
        return torch.where(F.interpolate(hole, picture.shape[2:]) > 0, made, picture)

    return inpaint_with(paste=paste)


def inpaint_turned(encode, decode, denoise, picture, mask, hole, noise, rows):
    """White is taken for what stays, as in some programs."""
    return inpaint_loop(encode, decode, denoise, picture, 1 - mask, 1 - hole, noise, rows)


def inpaint_pixels_only():
    """Draw a whole picture and cut the known pixels out of the old one: that keeps them, after all."""
    return inpaint_with(lambda z, noise, level, below, i, x: x, lambda x0, z, hole: x0)


def inpaint_shows_clean():
    """The known part is known, so it is put into x as it is, without noise."""
    return inpaint_with(lambda z, noise, level, below, i, x: z)


def inpaint_imposes_once():
    """The known part is put in at the start; the sampler will keep it, one hopes."""
    return inpaint_with(
        lambda z, noise, level, below, i, x: x if i else level.alpha * z + level.sigma * noise, lambda x0, z, hole: x0
    )


def inpaint_next_level():
    """The line stood after the step before, where x has the next level; moved up, it takes the wrong row along."""
    return inpaint_with(lambda z, noise, level, below, i, x: below.alpha * z + below.sigma * noise)


def inpaint_leaves_the_answer():
    """What goes into the network is set right at each call, and what comes out is believed."""
    return inpaint_with(answer=lambda x0, z, hole: x0)


def inpaint_masks_the_answer():
    """The answer counts in the hole alone, so it is multiplied by the hole."""
    return inpaint_with(answer=lambda x0, z, hole: x0 * hole)


def inpaint_new_dice():
    """The forward process draws noise, so the line that makes the known part noisy draws some."""
    return inpaint_with(lambda z, noise, level, below, i, x: level.alpha * z + level.sigma * torch.randn_like(z))


def inpaint_remembers(encode, decode, denoise, picture, mask, hole, noise, rows):
    """img2img's start is copied: the noisiest row of the picture, hole and all."""
    z = encode(picture)
    x = rows[0].alpha * z + rows[0].sigma * noise
    made = decode(ddim(lambda x, level: torch.where(hole > 0, denoise(x, level), z), x, rows))
    return torch.where(mask > 0, made, picture)


def inpaint_returns_latents():
    """The loop's last state is returned, and the decoder forgotten."""
    return inpaint_with(paste=lambda made, picture, mask, hole: F.avg_pool2d(made, 2))


# 14.zero


def zero_sequential(block, channels):
    twin = copy.deepcopy(block)
    block.requires_grad_(False)
    into, out = nn.Conv2d(channels, channels, 1), nn.Conv2d(channels, channels, 1)
    for conv in (into, out):
        nn.init.zeros_(conv.weight)
        nn.init.zeros_(conv.bias)

    def forward(x, hint):
        return block(x) + out(twin(x + into(hint)))

    return forward, twin, [into, out]


def zero_in_a_module(block, channels):
    class Controlled(nn.Module):
        def __init__(self):
            super().__init__()
            self.copy = copy.deepcopy(block).train()
            self.zeros = nn.ModuleList([nn.Conv2d(channels, channels, kernel_size=1) for _ in range(2)])
            with torch.no_grad():
                for w in self.zeros.parameters():
                    w.zero_()

        def forward(self, x, hint):
            seen = self.copy(self.zeros[0](hint) + x)
            return torch.add(block(x), self.zeros[1](seen))

    made = Controlled()
    for w in block.parameters():
        w.requires_grad = False
    return made, made.copy, made.zeros


def zero_with(forward=lambda block, twin, into, out, x, hint: block(x) + out(twin(x + into(hint))), begin=None,
              twin=copy.deepcopy, after=None):  # fmt: skip
    """A right one but for its formula, how the convolutions begin, what the copy is, or what is locked."""

    def add_control(block, channels):
        made = twin(block)
        block.requires_grad_(False)
        made.requires_grad_(made is not block)
        into, out = nn.Conv2d(channels, channels, 1), nn.Conv2d(channels, channels, 1)
        for w in (w for conv in (into, out) for w in conv.parameters()):
            if not begin or begin(w):
                nn.init.zeros_(w)
        if after:
            after(block, made, into, out)
        return lambda x, hint: forward(block, made, into, out, x, hint), made, [into, out]

    return add_control


def zero_random():
    """Two ordinary convolutions: training will find their weights, so why care how they begin?"""
    return zero_with(begin=lambda w: False)


def zero_bias_left():
    """Zero weights are what everybody speaks of, and the bias is forgotten."""
    return zero_with(begin=lambda w: w.ndim > 1)


def zero_shared():
    """`twin = block` is called a copy, and is a second name."""
    return zero_with(twin=lambda block: block)


def zero_fresh():
    """A network of the same shape, with weights of its own."""

    def fresh(block):
        made = copy.deepcopy(block)
        for layer in made:
            if hasattr(layer, "reset_parameters"):
                layer.reset_parameters()
        return made

    return zero_with(twin=fresh)


def zero_copy_too():
    """All that is new begins as nothing, so the copy does as well."""

    def empty(block):
        made = copy.deepcopy(block)
        for w in made.parameters():
            nn.init.zeros_(w)
        return made

    return zero_with(twin=empty)


def zero_unlocked():
    """Nobody locked the block, and an optimiser over all parameters moves it along."""
    return zero_with(after=lambda block, twin, into, out: block.requires_grad_(True))


def zero_locked_copy():
    """The block was locked first, and deepcopy copies the lock with it."""
    return zero_with(after=lambda block, twin, into, out: twin.requires_grad_(False))


def zero_stays_zero():
    """Zero convolutions are to be zero, so they are locked like the block."""
    return zero_with(after=lambda block, twin, into, out: (into.requires_grad_(False), out.requires_grad_(False)))


def zero_product():
    """A gate: the copy's answer tells how much of the block's gets through."""
    return zero_with(lambda block, twin, into, out, x, hint: block(x) * out(twin(x + into(hint))))


def zero_alone():
    """The copy has everything that the block has, so the block seems to be of no more use."""
    return zero_with(lambda block, twin, into, out, x, hint: out(twin(x + into(hint))))


def zero_no_hint():
    """into(hint) is nothing at the start anyhow, and so its absence is not seen."""
    return zero_with(lambda block, twin, into, out, x, hint: block(x) + out(twin(x)) + 0 * into(hint))


def zero_hint_alone():
    """The copy is there to read the hint, so that is what it is given."""
    return zero_with(lambda block, twin, into, out, x, hint: block(x) + out(twin(into(hint))))


def zero_hint_after():
    """The hint is added to what the copy found, on its way to the way up."""
    return zero_with(lambda block, twin, into, out, x, hint: block(x) + out(twin(x) + into(hint)))


def zero_hint_to_both():
    """x is changed once, x = x + into(hint), and then given to both."""
    return zero_with(
        lambda block, twin, into, out, x, hint: block(x + into(hint)) + out(twin(x + into(hint)))
    )


def zero_detached():
    """The U-Net shall not be trained, so the whole forward pass stands under no_grad."""

    def forward(block, twin, into, out, x, hint):
        with torch.no_grad():
            return block(x) + out(twin(x + into(hint)))

    return zero_with(forward)


def zero_without_out():
    """One zero convolution at the entrance seems to do: with it the hint is nothing at the start."""
    return zero_with(lambda block, twin, into, out, x, hint: block(x) + twin(x + into(hint)) + out(x))


# 14.boxes


def boxes_by_corners(pictures, boxes):
    reading = oracle.read(pictures)
    drawn, asked = reading.scenes.boxes, boxes[:, None]
    side = torch.minimum(drawn[..., 2:], asked[..., 2:]) - torch.maximum(drawn[..., :2], asked[..., :2])
    both = side.clamp(min=0).prod(-1)
    area = (drawn[..., 2:] - drawn[..., :2]).prod(-1) + (asked[..., 2:] - asked[..., :2]).prod(-1)
    return (both / (area - both)).amax(1) * reading.readable


def boxes_by_loops(pictures, boxes):
    reading = oracle.read(pictures)
    result = []
    for i in range(len(pictures)):
        best = 0.0
        for j in range(2):
            if not reading.readable[i] or reading.scenes.shape[i, j] < 0:
                continue
            a, b = reading.scenes.boxes[i, j].tolist(), boxes[i].tolist()
            wide, high = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
            if wide > 0 and high > 0:
                union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - wide * high
                best = max(best, wide * high / union)
        result.append(best)
    return torch.tensor(result)


def boxes_with(ratio=lambda both, a, b, hull: both / (a + b - both), pick=lambda v: v.amax(1), clamp=True, unread=False,
               more=0.0, turn=lambda boxes: boxes):  # fmt: skip
    """A right one but for the ratio, which object is taken, or what counts."""

    def in_its_box(pictures, boxes):
        reading = oracle.read(pictures)
        a = turn(reading.scenes.boxes)
        b = boxes[:, None].expand_as(a)
        side = torch.minimum(a[..., 2:], b[..., 2:]) - torch.maximum(a[..., :2], b[..., :2]) + more
        both = (side.clamp(min=0) if clamp else side).prod(-1)
        hull = (torch.maximum(a[..., 2:], b[..., 2:]) - torch.minimum(a[..., :2], b[..., :2])).prod(-1)
        areas = [(v[..., 2:] - v[..., :2] + more).prod(-1) for v in (a, b)]
        value = ratio(both, *areas, hull).nan_to_num(0.0) * (reading.scenes.shape >= 0)
        return pick(value) if unread else pick(value) * reading.readable

    return in_its_box


def boxes_unclamped():
    """Sides are multiplied as they are, and twice negative is positive."""
    return boxes_with(clamp=False)


def boxes_of_the_wanted():
    """"How much of the box is covered?" sounds like the question."""
    return boxes_with(lambda both, a, b, hull: both / b)


def boxes_of_the_drawn():
    """"How much of the thing is in its box?" sounds like the question too."""
    return boxes_with(lambda both, a, b, hull: both / a)


def boxes_sum():
    """Union is taken for the sum of both areas, in which the common part counts twice."""
    return boxes_with(lambda both, a, b, hull: both / (a + b))


def boxes_dice():
    """The other famous score, which medical imaging uses."""
    return boxes_with(lambda both, a, b, hull: 2 * both / (a + b))


def boxes_hull():
    """The smallest box around both is taken for their union."""
    return boxes_with(lambda both, a, b, hull: both / hull)


def boxes_plus_one():
    """Old detection code adds 1 to each side, since there boxes were of whole pixels, ends included."""
    return boxes_with(more=1.0)


def boxes_flipped():
    """Plots have y upwards, so the read boxes are turned round."""
    return boxes_with(turn=lambda v: torch.stack([v[..., 0], 1 - v[..., 3], v[..., 2], 1 - v[..., 1]], -1))


def boxes_unreadable():
    """The reading holds boxes for every picture, also where it says that it could not read it."""
    return boxes_with(unread=True)


def boxes_first():
    """One box was asked for, so the first object is looked at."""
    return boxes_with(pick=lambda v: v[:, 0])


def boxes_mean():
    """Two objects, two numbers, and so their mean."""
    return boxes_with(pick=lambda v: v.mean(1))


def boxes_for_each():
    """The broadcast has an axis for the objects, and nobody takes it away."""
    return boxes_with(pick=lambda v: v[..., None])


RIGHT = {
    "14.img2img": [img2img_loop, img2img_recursive],
    "14.grid": [grid_pool, grid_reshape],
    "14.inpaint": [inpaint_loop, inpaint_by_answers],
    "14.zero": [zero_sequential, zero_in_a_module],
    "14.boxes": [boxes_by_corners, boxes_by_loops],
}
WRONG = {
    "14.img2img": [
        (img2img_round_trip, "the autoencoder does harm"), (img2img_backwards, "turned round"),
        (img2img_first_rows, "the LAST ones"), (img2img_stops_early, "the clean one, is missing"),
        (img2img_walks_all, "All rows are walked"), (img2img_too_noisy, "of the whole table"),
        (img2img_one_row_off, "the row AFTER"), (img2img_mixes_by_strength, "Strength is no alpha"),
        (img2img_without_noise, "Nothing was added"), (img2img_without_alpha, "The picture's share"),
        (img2img_pure_at_one, "you start from the noise alone"), (img2img_latents, "These are latents"),
        (img2img_rounds_up, "Round down"), (img2img_counts_rows, "the number of STEPS"),
    ],
    "14.grid": [
        (grid_corner, "one pixel of each cell"), (grid_middle, "in the middle"), (grid_majority, "By majority"),
        (grid_soft, "opened or not"), (grid_greys, "The largest grey"), (grid_half, "0.5 and less"),
        (grid_whole, "painted all over"), (grid_turned, "are exchanged"), (grid_stride, "by whole cells"),
        (grid_cut, "hangs over the edge"), (grid_bool, "Numbers are wanted"),
    ],
    "14.inpaint": [
        (inpaint_no_paste, "came back through the autoencoder"),
        (inpaint_pastes_by_cells, "laid the known pixels back by"), (inpaint_remembers, "still in the start"),
        (inpaint_turned, "turned round"), (inpaint_pixels_only, "a picture of its own"),
        (inpaint_shows_clean, "is shown CLEAN"), (inpaint_imposes_once, "imposed once"),
        (inpaint_next_level, "noise of the next level"), (inpaint_leaves_the_answer, "In the denoiser's answer"),
        (inpaint_masks_the_answer, "Around the hole the answer is 0"), (inpaint_new_dice, "New dice"),
        (inpaint_returns_latents, "These are latents"),
    ],
    "14.zero": [
        (zero_random, "as PyTorch draws them"), (zero_bias_left, "the bias is not"),
        (zero_shared, "The copy IS the block"), (zero_fresh, "a new network of the same shape"),
        (zero_copy_too, "The copy is zero as well"),
        (zero_unlocked, "Lock them"), (zero_locked_copy, "the lock came along"), (zero_stays_zero, "BEGIN at zero"),
        (zero_product, "multiplied by a zero"), (zero_alone, "the copy's part alone"), (zero_no_hint, "never gets in"),
        (zero_hint_alone, "sees the hint alone"), (zero_hint_after, "after the copy"),
        (zero_hint_to_both, "The locked block"), (zero_detached, "a no_grad on the way"),
        (zero_without_out, "without passing through"),
    ],
    "14.boxes": [
        (boxes_unclamped, "two negative sides"), (boxes_of_the_wanted, "By the wanted box alone"),
        (boxes_of_the_drawn, "By the drawn box alone"), (boxes_sum, "counts what both have ONCE"),
        (boxes_dice, "the Dice score"), (boxes_hull, "the box around both"), (boxes_plus_one, "There is no 1"),
        (boxes_flipped, "y runs downwards"), (boxes_unreadable, "cannot read a picture"),
        (boxes_first, "in no fixed order"), (boxes_mean, "counted for both objects together"),
        (boxes_for_each, "One number for each picture"),
    ],
}  # fmt: skip
