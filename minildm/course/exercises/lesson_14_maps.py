"""Lesson 14, maps: a mask on the grid of latents, and a ControlNet's zero convolutions."""

import copy
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from . import Exercise, Wrong, expect, hint_for, near, seeded, told

# 14.grid

CORNER = (
    "You look at one pixel of each cell. A thin stroke goes through between those pixels, and is lost (a program did "
    "so until 2026: stable-diffusion.cpp #1357). ANY painted pixel opens its cell."
)
MIDDLE = "One pixel in the middle speaks for its whole cell. ANY painted pixel opens its cell."
MAJORITY = (
    "By majority a stroke that covers a quarter of a cell is lost, and what was to go shines through. Any pixel "
    "counts."
)
SOFT = "A cell is opened or not: 1 or 0. A share of 0.3 would mix what stays with what is new, at every step."
GREYS = "The largest grey is no 0 or 1 yet. Every pixel above 0 counts as painted: `mask > 0` first."
HALF = "Pixels of 0.5 and less count too: the soft rim of a stroke shows in the picture, so it has to be drawn."
WHOLE = "Only cells that are painted all over are opened. Those at the rim would keep a part of what is to go."
TURNED = "1 and 0 are exchanged: 1 is to be painted anew."
STRIDE = "The window moves pixel by pixel. It should move by whole cells, `factor` pixels: one number for each cell."
CUT = (
    "The last rows and columns are lost where the size is no multiple of the factor. A cell that hangs over the edge "
    "is judged by what it has: `ceil_mode=True`, or pad first."
)
BOOL = "Numbers are wanted, 0.0 and 1.0: the hole is multiplied with, and shown to networks. `.float()`"
ANY = "One number for each cell: is ANY of its factor x factor pixels above 0?"


def any_pixel(mask: Tensor, f: int) -> Tensor:
    h, w = -(-mask.shape[2] // f) * f, -(-mask.shape[3] // f) * f
    full = F.pad(mask, (0, w - mask.shape[3], 0, h - mask.shape[2]))
    return (full.unflatten(2, (h // f, f)).unflatten(4, (w // f, f)) > 0).float().amax((3, 5))


def opens_every_cell_that_is_touched(fn: Callable) -> None:
    stroke = torch.zeros(1, 1, 12, 16)
    stroke[0, 0, 5, 2:15] = 1  # one pixel thin, through no cell's corner or middle
    stroke[0, 0, 9:12, :4], stroke[0, 0, 10, 2] = 1, 0  # most of a cell, but for its corner and its middle
    stroke[0, 0, 8, 4] = stroke[0, 0, 10, 10] = 1  # a corner alone, a middle alone
    stroke[0, 0, 8:, 12:] = 1  # a whole cell
    soft = torch.zeros(2, 1, 8, 8)
    soft[0, 0, 1:4, 1:3], soft[1, 0, 2:7, 3:8] = 0.4, 1
    soft[1, 0, 2:7, 3], soft[0, 0, 6, 6] = 0.2, 1
    odd = torch.zeros(1, 1, 9, 14)
    odd[0, 0, 8, 13], odd[0, 0, 0:4, 0:4] = 1, 1
    for name, mask, f in (("A stroke one pixel thin", stroke, 4), ("Soft masks", soft, 2),
                          ("Sides that are no multiple", odd, 4), ("Factor 1", soft, 1)):  # fmt: skip
        call = f"{name}, {mask.shape[2]} x {mask.shape[3]}: on_grid(mask, {f})"
        want = any_pixel(mask, f)
        got = fn(mask, f)
        if isinstance(got, Tensor) and got.dtype == torch.bool:
            raise Wrong(f"{call} gives a tensor of booleans; numbers are wanted", BOOL)
        if isinstance(got, Tensor) and got.shape != want.shape and f > 1:
            sizes = {(mask.shape[2] // f, mask.shape[3] // f): CUT,
                     (mask.shape[2] - f + 1, mask.shape[3] - f + 1): STRIDE}  # fmt: skip
            expect(got, want, call, sizes.get(tuple(got.shape[2:]), ANY))
        mean = F.avg_pool2d(mask, f, ceil_mode=True)
        touched = (mask > 0).float()
        slips = [
            (mask[..., ::f, ::f], CORNER), (touched[..., ::f, ::f], CORNER),
            (touched[..., f // 2 :: f, f // 2 :: f], MIDDLE), (mask[..., f // 2 :: f, f // 2 :: f], MIDDLE),
            ((mean > 0.5).float(), MAJORITY), ((mean >= 0.5).float(), MAJORITY), (mean.round(), MAJORITY), (mean, SOFT),
            (F.avg_pool2d(touched, f, ceil_mode=True), SOFT),
            (F.interpolate(mask, want.shape[2:], mode="bilinear"), SOFT),
            (F.interpolate(mask, want.shape[2:], mode="area"), SOFT),
            (F.max_pool2d(mask, f, ceil_mode=True), GREYS), (any_pixel((mask > 0.5).float(), f), HALF),
            (any_pixel((mask >= 0.5).float(), f), HALF), (1 - any_pixel(1 - touched, f), WHOLE),
            (-F.max_pool2d(-touched, f, ceil_mode=True), WHOLE), (1 - want, TURNED),
            (any_pixel(1 - touched, f), TURNED),
        ]  # fmt: skip
        slips = [(slip, hint) for slip, hint in slips if not near(slip, want)]
        expect(got, want, call, hint_for(got, slips, ANY))


# 14.zero

PARTS = "Return three things: the function forward(x, hint), the copy, and the list [into, out] of the convolutions."
RANDOM = (
    "The convolutions begin as PyTorch draws them, and so the picture is disturbed before anything is learned. Weights "
    "AND bias to zero: nn.init.zeros_ for both."
)
BIAS = "The weights are zero, the bias is not: PyTorch draws that too. nn.init.zeros_ for both."
SHARED = (
    "The copy IS the block: training the one trains the other, and the model you began with is gone. copy.deepcopy."
)
FRESH = "This is a new network of the same shape. The copy begins with the block's weights: it knows pictures already."
EMPTY = (
    "The copy is zero as well. Then what `out` is given is zero, so is the gradient of its weights, and nothing but "
    "its bias ever begins to learn. Only the convolutions are zero."
)
UNLOCKED = "The block's own weights would be trained too. Lock them: block.requires_grad_(False), after you copied it."
FROZEN = "The copy cannot learn: it was copied after the lock, and the lock came along. Copy first, or unlock the copy."
FROZEN_ZERO = "The zero convolutions cannot learn: they are to BEGIN at zero, not to stay there."
DETACHED = (
    "No gradient gets back to `out`: is there a detach or a no_grad on the way? Zero is where they begin, not stay."
)
PRODUCT = "The block's answer is multiplied by a zero. What the copy found is ADDED to it."
ALONE = "What comes out is the copy's part alone. It is added to what the locked block says, block(x)."
NO_HINT = "The hint never gets in: into(hint) is added to x, and the copy sees the sum."
HINT_ALONE = "The copy sees the hint alone. It is a copy of a block that reads x: give it x + into(hint)."
AFTER = (
    "The hint comes in after the copy. Then the copy never sees it, and cannot learn to read it: copy(x + "
    "into(hint))."
)
TO_BLOCK = "The locked block is given the hint. It stays as it was, with what it is given: block(x)."
NO_OUT = "What the copy says reaches the sum without passing through `out`; at the start that is not nothing."
FORMULA = "forward(x, hint) is block(x) + out(copy(x + into(hint)))."


def small_block(seed: int) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Sequential(nn.Conv2d(4, 6, 3, padding=1), nn.SiLU(), nn.Conv2d(6, 4, 3, padding=1))


def begins_as_nothing_and_learns(fn: Callable) -> None:
    x, hint = (torch.randn(2, 4, 5, 5, generator=seeded(i)) for i in (1, 2))
    block = small_block(0)
    before = copy.deepcopy(block)
    plain = before(x).detach()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(9)
        got = fn(block, 4)
    shape = isinstance(got, tuple | list) and len(got) == 3 and callable(got[0]) and isinstance(got[1], nn.Module)
    if not shape or not isinstance(got[2], tuple | list | nn.ModuleList) or len(got[2]) != 2:
        raise Wrong(f"add_control gives {told(got)}; a function, a module and a list of two are wanted", PARTS)
    forward, twin, (into, out) = got
    call = "At the start: forward(x, hint)"
    y = forward(x, hint)
    zeros = [w for conv in (into, out) for w in conv.parameters()]
    if not isinstance(y, Tensor) or y.shape != plain.shape or not torch.equal(y.detach(), plain):
        why = FORMULA
        if any(w.any() for w in zeros):
            why = BIAS if not (into.weight.any() or out.weight.any()) else RANDOM
        elif near(y, torch.zeros_like(plain)):
            why = PRODUCT if not near(filled(forward, into, out, x, hint, 0.0, 1.0), torch.zeros_like(plain)) else ALONE
            why = ALONE if near(filled(forward, into, out, x, hint, 0.3), out(before(x + into(hint))).detach()) else why
        elif near(y, plain + plain):
            why = NO_OUT
        expect(y, plain, call, why)
        raise Wrong(f"{call} is not block(x) to the last bit", why)
    weights = list(twin.parameters())
    own = {id(w) for w in block.parameters()}
    if twin is block or any(id(w) in own for w in weights):
        raise Wrong("The copy and the block hold the same tensors", SHARED)
    if not any(w.any() for w in weights):
        raise Wrong("All weights of the copy are zero", EMPTY)
    same = [near(a, b) for a, b in zip(weights, before.parameters(), strict=False)]
    if len(weights) != 4 or not all(same):
        raise Wrong("The copy does not begin with the block's weights", FRESH)
    if any(w.requires_grad for w in block.parameters()):
        raise Wrong("The block's own weights are not locked", UNLOCKED)
    for parts, name, why in ((weights, "copy", FROZEN), (zeros, "zero convolutions", FROZEN_ZERO)):
        if not all(w.requires_grad for w in parts):
            raise Wrong(f"The weights of the {name} take no gradient", why)
    if y.grad_fn is not None:
        y.sum().backward()
    if out.weight.grad is None or not out.weight.grad.any():
        raise Wrong("The gradient of out.weight is zero, or there is none", DETACHED)
    with torch.no_grad():
        got = filled(forward, into, out, x, hint, 0.3)
        seen, sum_in = before(x + into(hint)), into(hint)
        want = plain + out(seen)
        slips = [(plain + out(before(x)), NO_HINT), (plain + out(before(sum_in)), HINT_ALONE),
                 (plain + out(before(hint)), HINT_ALONE), (plain + out(before(x) + sum_in), AFTER),
                 (before(x + sum_in) + out(seen), TO_BLOCK), (out(seen), ALONE)]  # fmt: skip
        expect(got, want, "With other numbers in the convolutions: forward(x, hint)", hint_for(got, slips, FORMULA))
    out.zero_grad()
    forward(x, hint).square().sum().backward()
    if any(w.grad is None or not w.grad.any() for w in [*weights, *into.parameters()]):
        raise Wrong("Once `out` is no longer zero, no gradient reaches the copy and `into`", DETACHED)


def filled(forward: Callable, into: nn.Module, out: nn.Module, x: Tensor, hint: Tensor, *values: float) -> Tensor:
    """The answer with other numbers in the two convolutions."""
    with torch.no_grad():
        for i, conv in enumerate((into, out)):
            for w in conv.parameters():
                w.copy_(values[i % len(values)] * torch.randn(w.shape, generator=seeded(i + 7)))
        return forward(x, hint).detach()


EXERCISES = (
    Exercise("14.grid", (
        "First say which pixels are painted: those above 0. Then ask of each cell whether it has one.",
        "The largest of zeros and ones is 1 if there is a 1. `F.max_pool2d` gives the largest of each window.",
        "`F.max_pool2d((mask > 0).float(), factor, ceil_mode=True)`: the step is as wide as the window.",
    ), (opens_every_cell_that_is_touched,)),
    Exercise("14.zero", (
        "Copy the block (copy.deepcopy), lock it (requires_grad_(False)), make two nn.Conv2d(channels, channels, 1).",
        "nn.init.zeros_ on weight and bias of both convolutions. Copy before you lock, or unlock the copy.",
        "`def forward(x, hint): return block(x) + out(twin(x + into(hint)))`, and return forward, twin, [into, out].",
    ), (begins_as_nothing_and_learns,)),
)  # fmt: skip
