"""Lesson 06, blocks: what one costs, and the way through a U."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from ... import layers
from . import Exercise, Wrong, expect, hint_for, seeded, told

# 06.count

PAIR = "`return parameters, flops`: two whole numbers."
MISSING = {
    "biases": "Biases are missing: one for each channel that a convolution or the linear layer makes.",
    "time bias": "The linear layer for the time has a bias, too: c_out numbers.",
    "conv biases": "The convolutions have a bias for each channel that they make.",
    "norms": "The norms are missing: each of the two has a weight and a bias for each channel that it is given.",
    "half norms": "A norm has two numbers per channel, a weight AND a bias.",
    "time": "The time is missing: a linear layer from time_dim to c_out.",
    "shortcut": "The shortcut is missing: where c_in is not c_out, a 1x1 convolution adapts x, bias included.",
    "shortcut bias": "The shortcut's 1x1 convolution has a bias as well.",
}
ALWAYS = (
    "There is a shortcut here although c_in is c_out. x can then be added as it is, and no convolution is "
    "needed."
)
WIDE = "The shortcut is a 1x1 convolution: one pixel wide, so no factor 9."
NORM_IN = "The FIRST norm stands before the first convolution, so it has c_in channels; the second has c_out."
ONE_CONV = "There are two convolutions: from c_in to c_out, and from c_out to c_out."
SECOND = "The second convolution takes c_out channels, no longer c_in."
PARTS = "Write the parts down one by one: two norms, two 3x3 convolutions, the linear layer, the shortcut."
MACS = "This counts a multiplication and its addition as one (MACs). Here they are two operations."
TIME_ONCE = "The time is ONE vector per picture: its layer runs once, and not for every pixel."
NO_TIME = "The linear layer for the time multiplies, too: 2 * time_dim * c_out, once for the picture."
NO_SHORT = "Where c_in is not c_out the shortcut's convolution has to be counted, for every pixel."
BIASES = "Biases are added, not multiplied: by custom they are not counted among the operations."
PIXELS = "A convolution runs for every pixel, and there are side * side of them."
WORK = "For each convolution: 2 times the numbers of its matrix, for each of the side * side pixels."


def right_counts(c_in: int, c_out: int, time_dim: int, side: int) -> tuple[int, int]:
    """By measurement, on the library's block: its parameters, and the products of each layer as it runs."""
    block, flops = layers.ResnetBlock(c_in, c_out, 1, 1e-5, time_dim), []

    def counted(layer: nn.Module, given: tuple, out: Tensor) -> None:
        flops.append(2 * layer.weight.numel() * out[0, 0].numel())  # for each pixel; of a vector there is one

    for layer in block.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            layer.register_forward_hook(counted)
    with torch.no_grad():
        block(torch.zeros(1, c_in, side, side), torch.zeros(1, time_dim))
    return sum(p.numel() for p in block.parameters()), sum(flops)


def parameter_slip(got: int, c_in: int, c_out: int, time_dim: int) -> str:
    short = c_in != c_out
    total = 9 * c_in * c_out + 9 * c_out * c_out + 2 * c_out + (time_dim + 1) * c_out + 2 * (c_in + c_out)
    total += short * (c_in + 1) * c_out
    less = {
        "biases": (3 + short) * c_out, "conv biases": (2 + short) * c_out, "norms": 2 * (c_in + c_out),
        "half norms": c_in + c_out, "time": (time_dim + 1) * c_out, "time bias": c_out,
        "shortcut": short * (c_in + 1) * c_out, "shortcut bias": short * c_out,
    }  # fmt: skip
    slips = {
        -(c_in + 1) * c_out: ALWAYS, -c_in * c_out: ALWAYS, -(9 * c_in + 1) * c_out: ALWAYS, -8 * c_in * c_out: WIDE,
        2 * (c_in - c_out): NORM_IN, 2 * (c_out - c_in): NORM_IN, (9 * c_out + 1) * c_out: ONE_CONV,
        9 * (c_out - c_in) * c_out: SECOND,
    }  # fmt: skip
    found = {by: MISSING[name] for name, by in less.items() if by}
    for (one, a), (two, b) in ((p, q) for p in less.items() for q in less.items() if p[0] < q[0]):
        found.setdefault(a + b, f"{MISSING[one]} {MISSING[two]}" if a and b else "")
    return {**slips, **found}.get(total - got) or PARTS


def flop_slip(got: int, c_in: int, c_out: int, time_dim: int, side: int) -> str:
    short, pixels = c_in != c_out, side * side
    matrix = 9 * c_in * c_out + 9 * c_out * c_out + short * c_in * c_out
    right = 2 * (matrix * pixels + time_dim * c_out)
    slips = {
        right // 2: MACS, 2 * (matrix + time_dim * c_out) * pixels: TIME_ONCE, 2 * matrix * pixels: NO_TIME,
        right - short * 2 * c_in * c_out * pixels: NO_SHORT, 2 * (matrix + time_dim * c_out): PIXELS,
        2 * (matrix * side + time_dim * c_out): PIXELS, matrix * pixels: MACS,
        right + (2 + short) * c_out * pixels + c_out: BIASES, right + (2 + short) * c_out * pixels: BIASES,
        right + 2 * c_in * c_out * pixels * (not short): ALWAYS, (matrix + time_dim * c_out) * pixels: TIME_ONCE,
        right + 2 * ((2 + short) * c_out * pixels + c_out): BIASES,
    }  # fmt: skip
    return slips.get(got, WORK)


def counts(fn: Callable) -> None:
    for given in ((8, 8, 32, 4), (6, 10, 20, 5), (24, 8, 16, 3), (64, 32, 96, 8)):
        call, right = f"count{given}", right_counts(*given)
        got = fn(*given)
        if not isinstance(got, tuple | list) or len(got) != 2 or not all(isinstance(v, int | float) for v in got):
            raise Wrong(f"{call} gives {told(got)}; two numbers are wanted", PAIR)
        if got[0] != right[0]:
            what = f"{call} gives {got[0]:,} parameters; the block has {right[0]:,}"
            raise Wrong(what, parameter_slip(got[0], *given[:3]))
        if got[1] != right[1]:
            what = f"{call}: the parameters are right; {got[1]:,} FLOPs, and {right[1]:,} are counted"
            raise Wrong(what, flop_slip(got[1], *given))


# 06.skip

BEHIND = "Own maps first: `torch.cat([x, left], dim=1)`. Here the map that was left behind stands in front."
LAST_FIRST = (
    "A pile, no queue: the map that was left LAST is taken first. It has the size of what comes from the middle; "
    "`pop()` without a number takes from the end."
)
ADDED = "The two were added. They are to be concatenated, so that the block itself can choose what to take of each."
CHANNELS = "Joined along another axis. The channels are axis 1 of (b, c, h, w): `dim=1`."
BEFORE = "What is left behind is what a block RETURNS. Here it is what the block was given."
MIDDLE = "The middle is missing on the way: after the last block down, and before the first one up."
WITHOUT = "The blocks on the way up are given what came up alone, without the map that was left behind."
AGAIN = "The middle is passed once, at the bottom, and not before every block of the way up."
FROM_START = "Each block down is given what the one before returned, and not always the first x."
UP_LOST = "Each block up is given what the one before it returned, and not always the answer of the middle."
ONE_LEFT = "Every block up got the same map. Take the used one off the pile."
TIMES = "How often and in what order are the blocks called? Each once, the list `up` from its beginning."


def mark(value: float) -> Callable[[Tensor], Tensor]:
    """A block that adds a number, so that one sees by whom a map was made."""
    return lambda x: x + value


def recorder(i: int, seen: list) -> Callable[[Tensor], Tensor]:
    """A block on the way up that writes down what it is given, and goes on with the first two channels."""

    def block(given: Tensor) -> Tensor:
        seen.append((i, given))
        return given[:, :2] + 0.1 * (i + 1)

    return block


def goes_through_the_u(fn: Callable) -> None:
    x = torch.randn(2, 2, 3, 4, generator=seeded(0))
    for count in (1, 3):
        seen: list[tuple[int, Tensor]] = []
        up = [recorder(i, seen) for i in range(count)]
        got = fn(x, [mark(2.0 ** (i + 1)) for i in range(count)], mark(0.5), up)
        maps = [x]
        for i in range(count):
            maps.append(maps[-1] + 2.0 ** (i + 1))
        own = bottom = maps[-1] + 0.5
        for i, (number, joined) in enumerate(seen):
            if number != i:
                raise Wrong(f"{count} blocks up: block {number + 1} is called where block {i + 1} is due", TIMES)
            hint = join_slip(joined, own, maps, i, bottom)
            right = torch.cat([own, maps[count - i]], 1)
            expect(joined, right, f"To block {i + 1} of {count} on the way up, through", hint)
            own = own + 0.1 * (i + 1)
        if len(seen) != count:
            raise Wrong(f"{len(seen)} of {count} blocks on the way up are called", TIMES)
        expect(got, own, f"{count} blocks down and up: through", "Return what the last block of the way up returns.")


def join_slip(joined: object, own: Tensor, maps: list[Tensor], i: int, bottom: Tensor) -> str:
    """The hint for what block i on the way up was given. maps: x, and what each block down makes of it."""
    count, skip = len(maps) - 1, maps[len(maps) - 1 - i]
    alone = maps[0] + 2.0 ** (count - i)
    slips = [(torch.cat(pair, dim), CHANNELS) for pair in ((own, skip), (skip, own)) for dim in (0, 2, 3)]
    slips += [(own + skip, ADDED), ((own + skip) / 2, ADDED), (own, WITHOUT), (torch.cat([skip, own], 1), BEHIND)]
    pairs = [
        (own - 0.5, skip, MIDDLE), (own + 0.5, skip, AGAIN), (bottom, skip, UP_LOST), (own, maps[i + 1], LAST_FIRST),
        (own, maps[-1], ONE_LEFT), (own, maps[count - 1 - i], BEFORE), (own, maps[i], BEFORE),
        (alone + 0.5, alone, FROM_START),
    ]  # fmt: skip
    slips += [(torch.cat(order, 1), hint) for *pair, hint in pairs for order in (pair, pair[::-1])]
    return hint_for(joined, slips, "")


def skips_matter(fn: Callable) -> None:
    """Where the middle lets nothing through, the picture and its gradient still get across."""
    x = torch.randn(1, 2, 4, 4, generator=seeded(1)).requires_grad_()
    down, up = [torch.sin, torch.cos], [lambda z: z[:, :2] + z[:, 2:]] * 2
    got = fn(x, down, torch.zeros_like, up)
    expect(got, x.sin() + x.sin().cos(), "A middle that answers 0: through", WITHOUT)
    (slope,) = torch.autograd.grad(got.sum(), x)
    if not slope.abs().sum() > 0:
        raise Wrong("With a middle that answers 0 no gradient reaches x", WITHOUT)


EXERCISES = (
    Exercise("06.count", (
        "List the layers in the order of `forward`: norm, convolution, linear, norm, convolution, maybe a shortcut.",
        "A 3x3 convolution from a to b channels has 9*a*b + b parameters and takes 2*9*a*b*side*side FLOPs; a "
        "linear layer has a*b + b and takes 2*a*b; a norm of c channels has 2*c.",
        "The convolutions are (c_in to c_out) and (c_out to c_out), the linear layer (time_dim to c_out), the "
        "norms have c_in and c_out channels, and where c_in != c_out there is a 1x1 convolution: c_in*c_out + c_out.",
    ), (counts,)),
    Exercise("06.skip", (
        "A list is a pile: `append` on the way down, `pop` on the way up.",
        "Three parts: a loop over `down` that appends what each block returns; `x = middle(x)`; a loop over `up`.",
        "In the last loop: `x = block(torch.cat([x, pile.pop()], dim=1))`.",
    ), (goes_through_the_u, skips_matter)),
)  # fmt: skip
