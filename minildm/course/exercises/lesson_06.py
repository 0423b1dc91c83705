"""Lesson 06, what goes into every block: the face of a time step, and GroupNorm."""

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from . import Exercise, Slips, Wrong, expect, hint_for, seeded

# 06.time

ORDER = (
    "The two halves are the wrong way round. `cosines_first` decides which comes first, so there are two cases to "
    "write; at t = 0 every cosine is 1 and every sine 0."
)
INTERLEAVED = (
    "Here cosines and sines take turns, as in the formula of Vaswani et al. Asked for are two blocks: `torch.cat` "
    "of all cosines and all sines, not a `stack`."
)
ONE_CLOCK = (
    "All hands turn at the same speed, so times 44 apart look alike (7 whole turns). The exponent has to be a "
    "fraction: `/` and not `//`."
)
NO_LOG = "exp(-10000 ...) is 0 from the second hand on. e to the power ln(10000) is 10000: a logarithm is missing."
OTHER_LOG = "Another base: exp undoes the natural logarithm, `math.log(10000)`, and no log10 or log2."
UPWARDS = "The minus in the exponent is missing: each hand should be slower than the one before, not faster."
BY_DIM = "There are h = dim / 2 hands, and it is h that i is divided by. This divides by dim, or by dim - shift."
SHIFT = "`shift` is not used: the exponent is divided by h - shift."
SHIFT_ADDED = "The shift is taken away from h, not added: with 1 the last hand turns with exactly 1/10000."
SCALED = (
    "t was made smaller first, to 0..1 perhaps. These hands are made for steps that are counted as whole "
    "numbers."
)
BY_BATCH = (
    "Cosine and sine were chosen by the place in the BATCH: the first axis is that of the times, the second that "
    "of the hands. In a slice it is `[:, ...]`."
)
FROM_ONE = (
    "The hands are counted from 0: the first one has i = 0 and turns with speed 1. `torch.arange(h)` begins "
    "so."
)
JOINED = (
    "Cosines and sines stand side by side in each row: `torch.cat(..., dim=1)`; without `dim` they are put "
    "below."
)
SPEEDS = "Look at the hands one by one: what stands at t = 1 are the cosines and sines of the speeds themselves."


def clocks(t: Tensor, dim: int, first: bool, shift: int) -> tuple[Tensor, Slips]:
    """The right faces, and what the usual mistakes make of them."""
    h, i, t = dim // 2, torch.arange(dim // 2), t.float()[:, None]

    def face(exponent: Tensor, first: bool = first, scale: float = 1.0) -> Tensor:
        angle = scale * t * exponent.exp()
        both = (angle.cos(), angle.sin()) if first else (angle.sin(), angle.cos())
        return torch.cat(both, 1)

    right = -math.log(10000) * i / (h - shift)
    angle = t * right.exp()
    pairs = [angle.cos(), angle.sin()] if first else [angle.sin(), angle.cos()]
    rows = torch.cat([angle, angle], 1)
    mixed = torch.where((torch.arange(len(t)) % 2 == 0)[:, None], *((rows.sin(), rows.cos())[:: -1 if first else 1]))
    whole = [face(right, scale=s) for s in (1e-3, 1 / 999, 1e-4, 1000.0, 2 * math.pi, math.pi)]
    return face(right), [
        (face(right, not first), ORDER), (torch.stack(pairs, 2).flatten(1), INTERLEAVED),
        (torch.stack(pairs[::-1], 2).flatten(1), INTERLEAVED), (face(0.0 * i), ONE_CLOCK),
        (face(-10000.0 * i / (h - shift)), NO_LOG), (face(-math.log10(10000) * i / (h - shift)), OTHER_LOG),
        (face(-math.log2(10000) * i / (h - shift)), OTHER_LOG), (face(-right), UPWARDS),
        (face(-math.log(10000) * i / dim), BY_DIM), (face(-math.log(10000) * i / (dim - shift)), BY_DIM),
        (face(-math.log(10000) * 2 * i / (h - shift)), BY_DIM), (face(-math.log(10000) * i / h), SHIFT),
        (face(-math.log(10000) * i / (h - 1)), SHIFT), (face(-math.log(10000) * i / (h + shift)), SHIFT_ADDED),
        (face(-math.log(10000) * (i + 1) / (h - shift)), FROM_ONE), (face(-math.log(10000) * (i + 1) / h), FROM_ONE),
        (torch.cat(pairs), JOINED), (torch.cat(pairs[::-1]), JOINED), (mixed, BY_BATCH),
        *((one, SCALED) for one in whole),
    ]  # fmt: skip


def alike(got: object, right: Tensor) -> bool:
    """Whether the values are what is wrong, and not the kind or the shape."""
    return isinstance(got, Tensor) and got.shape == right.shape


def is_the_clock(fn: Callable) -> None:
    for times, dim, first, shift in (((0, 1, 2), 8, True, 0), ((0, 1, 3, 40), 8, False, 1), ((7,), 12, True, 1),
                                     ((5, 20), 6, False, 0)):  # fmt: skip
        t = torch.tensor(times)
        right, slips = clocks(t, dim, first, shift)
        got = fn(t, dim, first, shift)
        hint = hint_for(got, slips, SPEEDS if alike(got, right) else "")
        expect(got, right, f"embed({list(times)}, {dim}, {first}, {shift})", hint)


def tells_times_apart(fn: Callable) -> None:
    faces = fn(torch.arange(1000), 32, True, 0).double()
    apart = torch.cdist(faces, faces) + 9 * torch.eye(1000)
    if apart.min() < 0.3:
        a, b = divmod(int(apart.argmin()), 1000)
        raise Wrong(f"t = {a} and t = {b} have nearly the same face ({apart.min():.3f} apart)", ONE_CLOCK)


# 06.group_norm

PLACES = "The mean goes over the places too: all of height and width, and the channels of the group."
GROUPED = (
    "Everything of a picture was taken together, as if there were one group (that is LayerNorm). After cutting the "
    "channels into groups, leave the axis of the groups out of the mean."
)
ALONE = "Each channel was taken by itself: that is InstanceNorm. A group has c / groups channels, and ONE mean."
BATCH = "The mean went over the batch, too: that is BatchNorm. Each picture is normalised by itself."
COUNT = (
    "`groups` is the number of groups, not of channels in a group. `reshape(b, groups, -1)` puts all of one group "
    "into one row."
)
SPREAD = (
    "Neighbours belong together: channels 0 and 1 before 2 and 3. Here each group takes every so-manieth "
    "channel."
)
UNBIASED = (
    "The variance is divided by m - 1 here, as `torch.var` and `std` do by default. In the formula it is a plain "
    "mean: `correction=0`, or the mean of the squares."
)
OUTSIDE = "eps stands beside the VARIANCE, under the root, and not beside the standard deviation."
NO_EPS = "eps has been forgotten: under the root it is variance + eps."
NO_ROOT = "Divided by the variance. It is its root that has the size of the numbers themselves."
NO_MEAN = "The mean is still in it: subtract it before you divide."
COLUMNS = (
    "weight and bias have one number per CHANNEL, but PyTorch lines shapes up from the right, and so (c,) meets "
    "the width. Give them the shape (c, 1, 1)."
)
AFFINE = "After normalising, each channel is multiplied by its weight, and then its bias is added."
BACK = "The numbers are right, the shape is that of the groups. Go back to the shape of x: `.reshape(x.shape)`."
MOMENTS = "Compare the mean and the variance of one group in what you return: 0 and nearly 1?"


def normed(x: Tensor, groups: int, eps: float) -> tuple[Tensor, Slips]:
    """x normalised, and what the usual mistakes make of it."""
    b, c = x.shape[:2]

    def norm(y: Tensor, axes: tuple, by: Callable | None = None, correction: int = 0) -> Tensor:
        mean, var = y.mean(axes, keepdim=True), y.var(axes, correction=correction, keepdim=True)
        return ((y - mean) / (by(var) if by else (var + eps).sqrt())).reshape(x.shape)

    cut = x.unflatten(1, (groups, c // groups))
    turned, apart = x.unflatten(1, (c // groups, groups)), (2, 3, 4)
    wrong_way = norm(turned.transpose(1, 2), apart).reshape(b, groups, c // groups, *x.shape[2:])
    mean = cut.mean(apart, keepdim=True)
    return F.group_norm(x, groups, eps=eps), [
        (norm(x, (1, 2, 3)), GROUPED), (norm(x, (2, 3)), ALONE), (norm(x, (0, 2, 3)), BATCH),
        (norm(cut, (0, *apart)), BATCH), (norm(turned, apart), COUNT),
        (wrong_way.transpose(1, 2).reshape(x.shape), SPREAD), (norm(cut, apart, correction=1), UNBIASED),
        (norm(cut, apart, lambda var: var.sqrt() + eps), OUTSIDE), (norm(cut, apart, lambda var: var.sqrt()), NO_EPS),
        (norm(cut, apart, lambda var: var + eps), NO_ROOT), (norm(cut, (2,)), PLACES),
        (((cut - mean) / (cut.std(apart, keepdim=True) + eps)).reshape(x.shape), OUTSIDE),
        ((cut / (cut.var(apart, correction=0, keepdim=True) + eps).sqrt()).reshape(x.shape), NO_MEAN),
    ]  # fmt: skip


def is_group_norm(fn: Callable) -> None:
    for shape, groups, eps in (((2, 6, 2, 3), 2, 1e-5), ((3, 8, 3, 2), 2, 0.5), ((1, 4, 4, 4), 4, 1e-5)):
        generator = seeded(shape[1])
        x = 1 + 2 * torch.randn(shape, generator=generator) + torch.arange(shape[1]).view(-1, 1, 1)
        right, slips = normed(x, groups, eps)
        call = f"x of shape {shape}, {groups} groups, eps = {eps:g}, weights 1 and biases 0: group_norm"
        got = fn(x, groups, torch.ones(shape[1]), torch.zeros(shape[1]), eps)
        slips += [(right.reshape(shape[0], groups, -1), BACK), (right.unflatten(1, (groups, -1)), BACK)]
        expect(got, right, call, hint_for(got, slips, MOMENTS if alike(got, right) else ""))
    for shape in ((2, 4, 4, 4), (2, 6, 3, 5)):
        x, c = torch.randn(shape, generator=seeded(9)), shape[1]
        weight, bias = torch.arange(1.0, c + 1), torch.arange(c) / 10
        plain = F.group_norm(x, 2)
        right = plain * weight.view(-1, 1, 1) + bias.view(-1, 1, 1)
        got, slips = fn(x, 2, weight, bias, 1e-5), [(plain, AFFINE)]
        if c == shape[3]:
            slips.append((plain * weight + bias, COLUMNS))
        expect(got, right, f"x of shape {shape}, weights 1 to {c}: group_norm", hint_for(got, slips, AFFINE))


EXERCISES = (
    Exercise("06.time", (
        "First the speeds, (h,); then all times by all speeds, (b, h); then cosines and sines of that.",
        "`speeds = torch.exp(-math.log(10000) * torch.arange(h) / (h - shift))`, and `t[:, None] * speeds` is a table.",
        "`torch.cat([angle.cos(), angle.sin()], dim=1)`, and the other order where `cosines_first` is False.",
    ), (is_the_clock, tells_times_apart)),
    Exercise("06.group_norm", (
        "Bring all numbers of a group into one row, normalise the rows, and go back to the shape of x.",
        "`y = x.reshape(b, groups, -1)`; then mean and variance along the last axis, with keepdim=True.",
        "((y - mean) / (variance + eps).sqrt()).reshape(b, c, h, w), times weight[:, None, None], plus "
        "bias[:, None, None].",
    ), (is_group_norm,)),
)  # fmt: skip
