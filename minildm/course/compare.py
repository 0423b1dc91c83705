"""A lesson's own function or network beside the library's, `same(mine, theirs)`; two values side by side, `agree`."""

import copy
import inspect
from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from ..files import UserError
from ..levels import Level, Schedule
from .exercises import told, wrapped
from .makers import MAKERS

# What two ways of writing the same formula may differ by, as a share of 1 + |value|.
ROUNDING = {torch.float32: 1e-5, torch.float64: 1e-10}
TIMES = " times as much"


class Different(Exception):
    """What differs; and the likely cause, "" where nobody can tell."""

    def __init__(self, what: str, cause: str = ""):
        super().__init__(what)
        self.cause = cause


def same(mine: Callable, theirs: Callable) -> None:
    """Print how far `mine` is from the library function `theirs` on random inputs of several shapes and dtypes.

    Both may be classes of networks, with parameters of the same names: then they are compared with the same weights.
    Raises `AssertionError` with what is printed where they differ by more than rounding: on which input, by what
    values, and why if that is known. Raises `UserError` for a function of which nobody knows what to feed it.
    """
    if theirs not in MAKERS:
        raise UserError("function to compare with", name(theirs), "one of " + ", ".join(map(name, MAKERS)))
    runs = [network(kind, theirs) for kind in (mine, theirs)] if isinstance(theirs, type) else [mine, theirs]
    inputs, lacking = fitting(runs[0], MAKERS[theirs](torch.Generator().manual_seed(0)))
    if not inputs:
        raise UserError(f"arguments of {name(mine)}", str(inspect.signature(mine)), f"{lacking} among them")
    worst, wrong, batches = 0.0, [], {"right": set(), "wrong": set()}
    for i, (args, more) in enumerate(inputs):
        keywords = [f"{key}={shown(value)}" for key, value in more.items()]
        call = f"{name(mine)}({', '.join([*map(shown, args), *keywords])}), input {i + 1} of {len(inputs)}"
        try:
            worst = max(worst, difference(*runs, args, more))
            batches["right"].add(batch_of(args))
        except Different as error:
            wrong.append((f"{error}, for {call}", error.cause))
            batches["wrong"].add(batch_of(args))
        except Exception as error:
            if wrong:  # known to differ already
                break
            error.add_note(f"in {call}")
            raise
    if wrong:
        cause = likely(wrong, batches)
        text = f"✗ {name(mine)} is not {name(theirs)}: {wrong[0][0]}."
        text += f" Likely: {cause}." if cause else ""
        print(wrapped(text))
        raise AssertionError(text)
    allowed = ", ".join(f"{most:g} in {str(dtype)[6:]}" for dtype, most in ROUNDING.items())
    text = (
        f"✓ {name(mine)} is {name(theirs)}: largest difference {worst:.1g} on {len(inputs)} inputs "
        f"(allowed, of 1 + |value|: {allowed}{'; yours takes no ' + lacking if lacking else ''})."
    )
    print(wrapped(text))


def agree(what: str, mine: Tensor | float, theirs: Tensor | float, within: float = 1e-5) -> None:
    """Print how far two values are apart at most. Raises `AssertionError` where that is more than `within`, or nan."""
    a, b = (v if isinstance(v, Tensor) else torch.tensor(v, dtype=torch.float64) for v in (mine, theirs))
    apart = (a - b).abs().max().item()
    assert apart <= within, f"{what}: not the same, {apart:.1e} apart where {within:.0e} is allowed"
    print(f"{what}: the same (largest difference {apart:.0e})")


def network(kind: Callable, like: type[nn.Module]) -> Callable:
    """A class of networks as a function: (what one is made with, what it is then given) -> its answer.

    Its weights are those that `like` begins with, moved a little: a norm begins as if it had none.
    """

    def call(made_with: tuple, given: tuple) -> Tensor:
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            torch.manual_seed(0)
            first = {name: w + 0.1 * torch.randn_like(w) for name, w in like(*made_with).state_dict().items()}
            net = kind(*made_with)
            net.load_state_dict(first)
            return net.to(given[0].dtype)(*given)

    return call


def likely(wrong: list[tuple[str, str]], batches: dict[str, set[int]]) -> str:
    """The cause that all wrong answers have in common, "" where there is none."""
    causes = {cause for _, cause in wrong} - {""}  # one number alone tells no cause; later inputs have more of them
    if len(causes) > 1 and all(TIMES in cause for cause in causes):
        return "a factor that depends on the shape, as of a mean in the place of a sum"
    if not causes and 1 in batches["right"] - batches["wrong"]:
        return "right for one picture; numbers (b,) have to become (b, 1, 1, 1) before they meet pictures (b, c, h, w)"
    return wrong[0][1] or (causes.pop() if len(causes) == 1 else "")


def fitting(mine: Callable, inputs: list[tuple]) -> tuple[list[tuple[tuple, dict]], str]:
    """The inputs as arguments and keyword arguments, without those whose keywords `mine` lacks; and these keywords."""
    takes = inspect.signature(mine).parameters
    every = any(p.kind is p.VAR_KEYWORD for p in takes.values())
    found, lacking = [], {}
    for given in inputs:
        args, more = (given[:-1], given[-1]) if isinstance(given[-1], dict) else (given, {})
        lacks = [key for key in more if key not in takes and not every]
        lacking |= dict.fromkeys(lacks)
        if not lacks:
            found.append((args, more))
    return found, " and ".join(lacking)


def difference(mine: Callable, theirs: Callable, args: tuple, more: dict) -> float:
    """How far two functions are apart on one input. Raises `Different` where that is more than rounding."""
    want = theirs(*copy.deepcopy(args), **copy.deepcopy(more))
    given = copy.deepcopy(args)
    result = mine(*given, **copy.deepcopy(more))
    got, wanted, worst = parts(result), parts(want), 0.0
    if result is None or result is ...:
        raise Different("it returns nothing", "a missing `return`")
    if len(got) != len(wanted):
        what = f"parts of the answer: {len(got)} instead of {len(wanted)}"
        raise Different(what, "every state of a sampler is yielded" if isinstance(want, Iterator) else "")
    for n, (a, b) in enumerate(zip(got, wanted, strict=True)):
        at = f" in part {n + 1} of {len(wanted)}" if len(wanted) > 1 else ""
        if not isinstance(a, Tensor | int | float):
            raise Different(f"it gives {told(a)}{at}", "a value that left torch")
        a, b = (v.detach() if isinstance(v, Tensor) else torch.tensor(v, dtype=torch.float64) for v in (a, b))
        if a.shape != b.shape:
            raise Different(f"it gives the shape {tuple(a.shape)} instead of {tuple(b.shape)}{at}", why_shape(a, b))
        if isinstance(want, Schedule):  # published tables were made in float32: no formula agrees any closer
            a, b = a.float(), b.float()
        rounding = max(ROUNDING.get(v.dtype, 0.0) for v in (a, b))
        off = ~close(a, b, rounding)
        if off.any():
            i = tuple(off.nonzero()[0].tolist())
            what = f"it gives {a[i]:.6g} instead of {b[i]:.6g}{f' at index {i}' if i else ''}{at}"
            raise Different(what, why(a.double(), b.double(), rounding))
        if a.dtype != b.dtype and isinstance(want, Tensor | Iterator):
            raise Different(f"it gives {a.dtype} instead of {b.dtype}{at}", "a number or a table of another dtype")
        apart = (a.double() - b.double()).abs()
        worst = max(worst, apart[apart.isfinite()].max().item() if apart.isfinite().any() else 0.0)
    for n, (now, before) in enumerate(zip(parts(given), parts(args), strict=True)):
        if isinstance(now, Tensor) and not torch.equal(now, before):
            raise Different(f"it changes its input, tensor {n + 1}", "an edit in place, such as `x += 1`")
    return worst


def parts(value: object) -> list:
    """A value as a flat list: a schedule is its alpha and sigma, a sampler all its states."""
    if isinstance(value, Schedule):
        return [value.alpha, value.sigma]
    return [part for item in value for part in parts(item)] if isinstance(value, tuple | list | Iterator) else [value]


def close(a: Tensor, b: Tensor, rounding: float) -> Tensor:
    return torch.isclose(a.double(), b.double(), rtol=rounding, atol=rounding, equal_nan=True)


def why(a: Tensor, b: Tensor, rounding: float) -> str:
    """What turns b into a, where that is something simple."""
    slips = {
        "the sign": -b, "the square of it (alpha-bar is alpha squared)": b**2, "the root of it": b.abs().sqrt(),
        "one over it": 1 / b, "the order is reversed": b.flip(0) if b.ndim else b,
    }  # fmt: skip
    if b.ndim > 1 and b.shape[-1] == b.shape[-2]:
        slips["transposed"] = b.mT
    for slip, value in slips.items():
        if close(a, value, rounding).all() and not close(value, b, rounding).all():
            return slip
    kept = a.isfinite() & b.isfinite() & (b != 0)
    for kind, by in (("{:.4g}" + TIMES, a[kept] / b[kept]), ("{:+.4g} everywhere", (a - b)[kept])):
        if len(by) > 1 and (by - by[0]).abs().max() <= 100 * rounding * by[0].abs():
            return kind.format(by[0].item())
    if not a.isfinite().all() and b.isfinite().all():
        return "a division by zero, or the logarithm of something negative"
    if rounding < 1e-9 and close(a, b, 1e-5).all():
        return "computed in float32 on the way"
    return ""


def why_shape(a: Tensor, b: Tensor) -> str:
    if a.ndim > 1 and a.mT.shape == b.shape:
        return "transposed"
    if a.numel() == 1:
        return "a sum or mean over the batch too, which should stay"
    if a.ndim > b.ndim and b.ndim == 1:
        return "a sum that is missing: one number for each of the batch"
    return "a tensor (b,) that was spread over the wrong dimension" if a.ndim == b.ndim else ""


def batch_of(args: tuple) -> int:
    return next((len(part) for part in parts(args) if isinstance(part, Tensor) and part.ndim), 1)


def name(fn: Callable) -> str:
    module = getattr(fn, "__module__", "").removeprefix("minildm.")
    told_as = getattr(fn, "__name__", "your function")
    return f"{module}.{told_as}" if fn in MAKERS else told_as


def shown(value: object) -> str:
    """An argument: few numbers as they are, a tensor by its dtype and shape."""
    if isinstance(value, Tensor):
        short = value.numel() <= 4 and value.ndim < 2
        return str([round(v, 4) for v in value.tolist()]) if short else f"{str(value.dtype)[6:]} {tuple(value.shape)}"
    if isinstance(value, Level):
        return f"Level({', '.join(map(shown, value))})"
    if isinstance(value, list):
        return f"{len(value)} rows"
    if isinstance(value, tuple):
        return f"({', '.join(map(shown, value))})"
    if isinstance(value, float):
        return f"{value:.4g}"
    return getattr(value, "__name__", None) or (repr(value) if isinstance(value, str | int) else type(value).__name__)
