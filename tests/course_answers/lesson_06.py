"""Answers to the exercises of lesson 06."""

import math

import torch
from torch import nn

# 06.time


def embed_by_table(t, dim, cosines_first, shift):
    half = dim // 2
    speeds = torch.exp(-math.log(10000) * torch.arange(half) / (half - shift))
    angle = t[:, None] * speeds
    return torch.cat([angle.cos(), angle.sin()] if cosines_first else [angle.sin(), angle.cos()], dim=1)


def embed_hand_by_hand(t, dim, cosines_first, shift):
    rows, half = [], dim // 2
    for time in t.tolist():
        angles = [time / 10000 ** (i / (half - shift)) for i in range(half)]
        cosines, sines = [math.cos(a) for a in angles], [math.sin(a) for a in angles]
        rows.append(cosines + sines if cosines_first else sines + cosines)
    return torch.tensor(rows)


def embed_by_complex_numbers(t, dim, cosines_first, shift):
    h = dim // 2
    hands = torch.polar(torch.ones(len(t), h), t.float()[:, None] * 10000 ** (-torch.arange(h) / (h - shift)))
    return torch.cat([hands.real, hands.imag][:: 1 if cosines_first else -1], 1)


def embed_with(speeds=lambda i, h, shift: torch.exp(-math.log(10000) * i / (h - shift)), scale=1.0):
    """A right answer but for the speeds."""

    def embed(t, dim, cosines_first, shift):
        angle = scale * t[:, None] * speeds(torch.arange(dim // 2), dim // 2, shift)
        return torch.cat([angle.cos(), angle.sin()] if cosines_first else [angle.sin(), angle.cos()], dim=1)

    return embed


def embed_one_order(t, dim, cosines_first, shift):
    """flashinfer #3819: one school's order is written down, and the flag swaps the wrong halves or none."""
    return embed_by_table(t, dim, True, shift)


def embed_interleaved(t, dim, cosines_first, shift):
    """huggingface/blog #2183, diffusers #3981: the formula of the Transformer paper alternates sines and cosines."""
    cos, sin = embed_by_table(t, dim, True, shift).chunk(2, dim=1)
    return torch.stack([cos, sin] if cosines_first else [sin, cos], dim=2).flatten(1)


def embed_whole_division():
    """dim // 2 has just been written, and so the second division is written alike."""
    return embed_with(lambda i, h, shift: torch.exp(-math.log(10000) * (i // (h - shift + 1))))


def embed_no_log():
    """The 10000 is remembered and e to some power, the logarithm between them is not."""
    return embed_with(lambda i, h, shift: torch.exp(-10000.0 * i / (h - shift)))


def embed_log10():
    """ln is read as the logarithm one has at hand, and ln(10000) = 4 looks so neat."""
    return embed_with(lambda i, h, shift: torch.exp(-math.log10(10000) * i / (h - shift)))


def embed_no_minus():
    """A minus in an exponent is easily lost when a formula is copied by hand."""
    return embed_with(lambda i, h, shift: torch.exp(math.log(10000) * i / (h - shift)))


def embed_by_dim():
    """In the Transformer paper 2i is divided by the whole width; one factor of two is lost on the way."""
    return embed_with(lambda i, h, shift: torch.exp(-math.log(10000) * i / (2 * h - shift)))


def embed_from_one():
    """In formulas counting begins with 1, and arange(1, h + 1) makes h numbers as well."""
    return embed_with(lambda i, h, shift: torch.exp(-math.log(10000) * (i + 1) / (h - shift)))


def embed_no_shift():
    """hojonathanho/diffusion #15, denoising-diffusion-pytorch #126: the "minus 1" looks like a slip and is dropped."""
    return embed_with(lambda i, h, shift: torch.exp(-math.log(10000) * i / h))


def embed_scaled():
    """se3_diffusion #8: times in 0..1 for hands that are made for whole steps; all faces are nearly one."""
    return embed_with(scale=1e-3)


def embed_along_batch(t, dim, cosines_first, shift):
    """gmongaras/Diffusion_models_from_scratch #10: `[::2]` takes every second TIME, and the model learned without."""
    half = dim // 2
    angle = t[:, None] * torch.exp(-math.log(10000) * torch.arange(half) / (half - shift))
    angle = torch.cat([angle, angle], 1)
    first, second = (torch.cos, torch.sin) if cosines_first else (torch.sin, torch.cos)
    out = torch.zeros_like(angle)
    out[::2], out[1::2] = first(angle[::2]), second(angle[1::2])
    return out


# 06.group_norm


def norm_in_rows(x, groups, weight, bias, eps):
    rows = x.reshape(x.shape[0], groups, -1)
    rows = (rows - rows.mean(-1, keepdim=True)) / torch.sqrt(rows.var(-1, correction=0, keepdim=True) + eps)
    return rows.reshape(x.shape) * weight.view(1, -1, 1, 1) + bias.view(1, -1, 1, 1)


def norm_group_by_group(x, groups, weight, bias, eps):
    made, size = torch.empty_like(x), x.shape[1] // groups
    for picture in range(len(x)):
        for first in range(0, x.shape[1], size):
            part = x[picture, first : first + size]
            away = part - part.sum() / part.numel()
            made[picture, first : first + size] = away / math.sqrt((away**2).sum() / part.numel() + eps)
    return torch.einsum("bchw,c->bchw", made, weight) + bias[None, :, None, None]


def norm_with(cut=lambda x, groups: x.unflatten(1, (groups, -1)), axes=(2, 3, 4), correction=0, below=None):
    """A right norm but for what is taken together, or what it is divided by."""

    def norm(x, groups, weight, bias, eps):
        y = cut(x, groups)
        var = y.var(axes, correction=correction, keepdim=True)
        y = (y - y.mean(axes, keepdim=True)) / (below(var, eps) if below else (var + eps).sqrt())
        return y.reshape(x.shape) * weight[:, None, None] + bias[:, None, None]

    return norm


def norm_unbiased():
    """pytorch #22617: torch.var divides by m - 1 if nobody tells it otherwise."""
    return norm_with(correction=1)


def norm_eps_outside():
    """taokong/group_normalization #1: eps is there against dividing by zero, so it is added to what one divides by."""
    return norm_with(below=lambda var, eps: var.sqrt() + eps)


def norm_no_root():
    """The formula's root is lost, since "variance 1" is what is wanted."""
    return norm_with(below=lambda var, eps: var + eps)


def norm_no_eps():
    """A number of 0.00001 looks as if it could be left out."""
    return norm_with(below=lambda var, eps: var.sqrt())


def norm_all_groups():
    """BrainPy #765: the axes are listed as "all but the batch", after the groups became an axis of their own."""
    return norm_with(axes=(1, 2, 3, 4))


def norm_each_channel():
    """Normalising a map by itself is what one knows from InstanceNorm, and `groups` seems to be about storage."""
    return norm_with(cut=lambda x, groups: x, axes=(2, 3))


def norm_over_batch():
    """BatchNorm is the norm that everybody meets first, and its mean goes over the batch."""
    return norm_with(axes=(0, 2, 3, 4))


def norm_group_size():
    """`groups` is read as "so many channels in a group"."""
    return norm_with(cut=lambda x, groups: x.unflatten(1, (-1, groups)))


def norm_columns(x, groups, weight, bias, eps):
    """A weight of shape (c,) fits a map that is as wide as it has channels, and nothing complains."""
    y = norm_in_rows(x, groups, torch.ones_like(weight), torch.zeros_like(bias), eps)
    return y * weight + bias if x.shape[3] == len(weight) else y * weight[:, None, None] + bias[:, None, None]


# 06.attention


def attention_by_unflatten(q, k, v, heads):
    q, k, v = (x.unflatten(-1, (heads, -1)).transpose(1, 2) for x in (q, k, v))
    look = (q @ k.mT / math.sqrt(q.shape[-1])).softmax(-1)
    return (look @ v).transpose(1, 2).flatten(2)


def attention_head_by_head(q, k, v, heads):
    answers = []
    for one, two, three in zip(*(x.chunk(heads, dim=2) for x in (q, k, v)), strict=True):
        scores = torch.bmm(one, two.transpose(1, 2)) * one.shape[2] ** -0.5
        answers.append(torch.softmax(scores, dim=2) @ three)
    return torch.cat(answers, dim=2)


def attention_by_einsum(q, k, v, heads):
    b, n, d = q.shape
    q, k, v = (x.view(b, -1, heads, d // heads) for x in (q, k, v))
    scores = torch.einsum("bnhe,bmhe->bhnm", q, k) / (d // heads) ** 0.5
    return torch.einsum("bhnm,bmhe->bnhe", nn.functional.softmax(scores, dim=3), v).reshape(b, n, d)


def attention_with(scale=lambda d, wide: wide**-0.5, weights=lambda scores: scores.softmax(-1)):
    """A right answer but for the scale or the weights."""

    def attention(q, k, v, heads):
        d = q.shape[-1]
        q, k, v = (x.unflatten(-1, (heads, -1)).transpose(1, 2) for x in (q, k, v))
        return (weights(q @ k.mT * scale(d, d // heads)) @ v).transpose(1, 2).flatten(2)

    return attention


def attention_no_scale():
    """MONAI GenerativeModels #146: softmax of q k^T is the idea, and the root looks like a detail."""
    return attention_with(lambda d, wide: 1.0)


def attention_whole_width():
    """vit-pytorch #65, set_transformer #18: the paper's d is taken for the width of the token, not of the head."""
    return attention_with(lambda d, wide: d**-0.5)


def attention_no_root():
    """"Divide by the dimension" is what stays in memory."""
    return attention_with(lambda d, wide: 1 / wide)


def attention_wrong_axis():
    """labml #146 had it, and labml #282 asks to put it back: whose weights add up to 1 is easily turned round."""
    return attention_with(weights=lambda scores: scores.softmax(-2))


def attention_over_heads():
    """softmax(dim=1) is what a classifier has; with heads in front axis 1 is that of the heads."""
    return attention_with(weights=lambda scores: scores.softmax(1))


def attention_no_softmax():
    """The matrix products are written down, and the function between them is forgotten."""
    return attention_with(weights=lambda scores: scores)


def attention_overflow():
    """The exponentials of the formula are written out as they stand."""
    return attention_with(weights=lambda scores: scores.exp() / scores.exp().sum(-1, keepdim=True))


def attention_reshaped(q, k, v, heads):
    """ajhalthor/Transformer-Neural-Network #8: the shape that is wanted is asked for in one go, on the way in."""
    b, n, d = q.shape
    q, k, v = (x.reshape(b, heads, -1, d // heads) for x in (q, k, v))
    return ((q @ k.mT / math.sqrt(d // heads)).softmax(-1) @ v).transpose(1, 2).flatten(2)


def attention_merged(q, k, v, heads):
    """transformer-from-scratch #6: the transpose back is missing, and a simple test still passed."""
    b, n, d = q.shape
    q, k, v = (x.unflatten(-1, (heads, -1)).transpose(1, 2) for x in (q, k, v))
    return ((q @ k.mT / math.sqrt(d // heads)).softmax(-1) @ v).reshape(b, n, d)


def attention_of_heads(q, k, v, heads):
    """The heads are cut and not brought to the front, and the shapes fit all the same."""
    q, k, v = (x.unflatten(-1, (heads, -1)) for x in (q, k, v))
    return ((q @ k.mT / math.sqrt(q.shape[-1])).softmax(-1) @ v).flatten(2)


def attention_keys_ask():
    """Q K^T and K Q^T are mixed up; for self-attention both have the shape (n, n)."""
    return attention_with(weights=lambda scores: scores.mT.softmax(-1))


def attention_divided_late():
    """"Divide by the root" is done to the weights, where one sees that they are too large."""
    return attention_with(lambda d, wide: 1.0, lambda scores: scores.softmax(-1) / 2)


def attention_one_head(q, k, v, heads):
    """The single head works and has the right shape; `heads` is left unused."""
    return (q @ k.mT / math.sqrt(q.shape[-1])).softmax(-1) @ v


# 06.count


def count_parts(c_in, c_out, time_dim, side):
    convs = [(9 * c_in, c_out), (9 * c_out, c_out)] + [(c_in, c_out)] * (c_in != c_out)
    parameters = sum(a * b + b for a, b in convs) + time_dim * c_out + c_out + 2 * (c_in + c_out)
    return parameters, 2 * sum(a * b for a, b in convs) * side**2 + 2 * time_dim * c_out


def count_built(c_in, c_out, time_dim, side):
    parts = [nn.GroupNorm(1, c_in), nn.Conv2d(c_in, c_out, 3), nn.Linear(time_dim, c_out), nn.GroupNorm(1, c_out),
             nn.Conv2d(c_out, c_out, 3)]  # fmt: skip
    parts += [nn.Conv2d(c_in, c_out, 1)] if c_in != c_out else []
    runs = {nn.GroupNorm: 0, nn.Conv2d: side * side, nn.Linear: 1}
    flops = sum(2 * runs[type(part)] * part.weight.numel() for part in parts)
    return sum(p.numel() for part in parts for p in part.parameters()), flops


def count_with(parameters=lambda right, a, b, t: right, flops=lambda right, a, b, t, pixels: right):
    """A right answer but for one thing."""

    def count(c_in, c_out, time_dim, side):
        one, two = count_parts(c_in, c_out, time_dim, side)
        return parameters(one, c_in, c_out, time_dim), flops(two, c_in, c_out, time_dim, side * side)

    return count


def count_no_biases():
    """The matrix is the layer; the few biases behind it are not thought of."""
    return count_with(lambda right, a, b, t: right - (3 + (a != b)) * b)


def count_no_norms():
    """A norm "only divides by something", so it seems to have nothing to learn."""
    return count_with(lambda right, a, b, t: right - 2 * (a + b))


def count_no_shortcut():
    """x is added in the formula, and an addition has no parameters."""
    return count_with(lambda right, a, b, t: right - (a != b) * (a * b + b))


def count_shortcut_always():
    """The shortcut's convolution is counted wherever there is a shortcut."""
    return count_with(lambda right, a, b, t: right + (a == b) * (a * b + b))


def count_both_norms_in():
    """Both norms are counted with c_in, since each stands before a convolution."""
    return count_with(lambda right, a, b, t: right + 2 * (a - b))


def count_no_time():
    """The picture's way is counted, and the second input of the block is forgotten."""
    return count_with(lambda right, a, b, t: right - (t + 1) * b)


def count_macs():
    """Half of all papers count a multiplication with its addition as one."""
    return count_with(flops=lambda right, a, b, t, pixels: right // 2)


def count_time_everywhere():
    """The time is added at every pixel, so its layer seems to run at every pixel."""
    return count_with(flops=lambda right, a, b, t, pixels: right + 2 * t * b * (pixels - 1))


def count_once():
    """Parameters times two is taken for the work, as it is for a layer that runs once."""
    return count_with(flops=lambda right, a, b, t, pixels: (right - 2 * t * b) // pixels + 2 * t * b)


# 06.skip


def through_a_pile(x, down, middle, up):
    pile = []
    for block in down:
        x = block(x)
        pile.append(x)
    x = middle(x)
    for block in up:
        x = block(torch.cat([x, pile.pop()], dim=1))
    return x


def through_by_index(x, down, middle, up):
    maps = [x]
    for block in down:
        maps = [*maps, block(maps[-1])]
    out = middle(maps[-1])
    for i, block in enumerate(up):
        out = block(torch.concat((out, maps[len(down) - i]), 1))
    return out


def through_recursion(x, down, middle, up):
    if not down:
        return middle(x)
    left = down[0](x)
    return up[-1](torch.cat([through_recursion(left, down[1:], middle, up[:-1]), left], 1))


def through_with(join=lambda own, left: torch.cat([own, left], 1), take=-1, keep_input=False):
    """A right way but for one thing."""

    def through(x, down, middle, up):
        pile = []
        for block in down:
            before, x = x, block(x)
            pile.append(before if keep_input else x)
        x = middle(x)
        for block in up:
            x = block(join(x, pile.pop(take)))
        return x

    return through


def through_left_first():
    """In a drawing of the U the skip comes from the left, so it is written first."""
    return through_with(lambda own, left: torch.cat([left, own], 1))


def through_queue():
    """The lists are walked through from their beginnings, both of them, as with zip."""
    return through_with(take=0)


def through_added():
    """tryonlabs/opentryon #24: the shortcut of a residual block is added, so the long one is added, too."""
    return through_with(lambda own, left: torch.cat([own + left, own + left], 1)[:, : own.shape[1]])


def through_other_axis():
    """torch.cat joins along axis 0 if it is not told otherwise."""
    return through_with(lambda own, left: torch.cat([own, left]))


def through_inputs():
    """meetps/pytorch-semseg #1: where along a block the map is taken off is easily mistaken."""
    return through_with(keep_input=True)


def through_no_middle(x, down, middle, up):
    """With the pile in mind one goes down and up again, and the bottom is passed over."""
    return through_a_pile(x, down, lambda x: x, up)


def through_no_skips(x, down, middle, up):
    """milesial/Pytorch-UNet #252: a U without its bars is an autoencoder, and looks like a U."""
    for block in [*down, middle, *up]:
        x = block(x)
    return x


RIGHT = {
    "06.time": [embed_by_table, embed_hand_by_hand, embed_by_complex_numbers],
    "06.group_norm": [norm_in_rows, norm_group_by_group],
    "06.attention": [attention_by_unflatten, attention_head_by_head, attention_by_einsum],
    "06.count": [count_parts, count_built],
    "06.skip": [through_a_pile, through_by_index, through_recursion],
}
WRONG = {
    "06.time": [
        (embed_one_order, "the wrong way round"), (embed_interleaved, "take turns"),
        (embed_whole_division, "`/` and not `//`"), (embed_no_log, "a logarithm is missing"),
        (embed_log10, "natural logarithm"), (embed_no_minus, "The minus"),
        (embed_by_dim, "it is h that i is divided by"), (embed_no_shift, "`shift` is not used"),
        (embed_from_one, "counted from 0"),
        (embed_scaled, "t was made smaller"), (embed_along_batch, "the place in the BATCH"),
    ],
    "06.group_norm": [
        (norm_unbiased, "divided by m - 1"), (norm_eps_outside, "beside the VARIANCE"),
        (norm_no_root, "It is its root"), (norm_no_eps, "eps has been forgotten"), (norm_all_groups, "LayerNorm"),
        (norm_each_channel, "InstanceNorm"),
        (norm_over_batch, "BatchNorm"), (norm_group_size, "not of channels in a group"),
        (norm_columns, "one number per CHANNEL"),
    ],
    "06.attention": [
        (attention_no_scale, "not divided by anything"), (attention_whole_width, "the root of THAT"),
        (attention_no_root, "the ROOT of the width"), (attention_wrong_axis, "over those who ASK"),
        (attention_over_heads, "runs over the heads"), (attention_no_softmax, "the bare scores"),
        (attention_overflow, "infinite over infinite"), (attention_reshaped, "on the way IN"),
        (attention_merged, "on the way OUT"), (attention_one_head, "one head over all d numbers"),
        (attention_of_heads, "the heads of ONE token"), (attention_keys_ask, "The keys ask here"),
        (attention_divided_late, "after the softmax"),
    ],
    "06.count": [
        (count_no_biases, "Biases are missing"), (count_no_norms, "The norms are missing"),
        (count_no_shortcut, "The shortcut is missing"), (count_shortcut_always, "although c_in is c_out"),
        (count_both_norms_in, "The FIRST norm"), (count_no_time, "The time is missing"), (count_macs, "as one (MACs)"),
        (count_time_everywhere, "ONE vector per picture"), (count_once, "runs for every pixel"),
    ],
    "06.skip": [
        (through_left_first, "Own maps first"), (through_queue, "A pile, no queue"), (through_added, "They are to be"),
        (through_other_axis, "The channels are axis 1"), (through_inputs, "what a block RETURNS"),
        (through_no_middle, "The middle is missing"), (through_no_skips, "what came up alone"),
    ],
}  # fmt: skip
