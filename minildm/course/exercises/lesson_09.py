"""Lesson 09, four targets: each answer turned into each other, and what a loss on one is as a loss on another."""

from collections.abc import Callable

import torch
from torch import Tensor

from ...denoise import PREDICTIONS
from . import Exercise, Wrong, expect, hint_for, seeded

# 09.convert

PAIR = ("eps", "x0", "v", "flow")
DIVIDED = (
    "x = alpha * x0 + sigma * eps: to get x0 out of it, subtract sigma * eps AND divide by alpha; for eps, divide by "
    "sigma."
)
V_SIGN = "The sign of v: it is alpha * eps - sigma * x0, MINUS. A plus gives x once more, with the factors exchanged."
V_TURNED = "v is alpha * eps - sigma * x0: noise with a plus, picture with a minus. This is its negative."
V_EXCHANGED = "In v it is alpha that goes with eps, and sigma that goes with x0: the other way round than in x."
FLOW_SIGN = "flow is eps - x0: it points from the picture to the noise. This is x0 - eps, as other programs have it."
ANY_ROWS = (
    "Right where alpha^2 + sigma^2 = 1, and these rows are others. Solve the two equations for alpha and sigma as they "
    "are: for v a factor alpha^2 + sigma^2 has to be divided out, for flow alpha + sigma."
)
FLOW_ROWS = (
    "x0 = x - sigma * flow holds where alpha + sigma = 1. In general divide by it: (x - sigma * flow) / (alpha + "
    "sigma)."
)
ENDS = (
    "On the way you divide by a number that is 0 here. The answer knows both: find x0 AND eps straight from the "
    "two equations, neither through the other."
)
ALL_KINDS = "Start from the equations x = alpha x0 + sigma eps and out = p x0 + q eps, and solve for x0 and eps."
MEASURED = "With x0 = 2 and eps = -1"


def target(x0: Tensor, eps: Tensor, alpha: float, sigma: float, kind: str) -> Tensor:
    return {"eps": eps, "x0": x0, "flow": eps - x0, "v": alpha * eps - sigma * x0}[kind]


def misread(out: Tensor, x: Tensor, alpha: float, sigma: float, have: str, slip: str) -> tuple[Tensor, Tensor]:
    """x0 and eps as somebody finds them who makes this mistake."""
    p, q = {"eps": (0, 1), "x0": (1, 0), "v": (-sigma, alpha), "flow": (-1, 1)}[have]
    if slip == "turned" and have in ("v", "flow"):
        p, q = -p, -q
    if slip == "plus" and have == "v":
        p = sigma
    if slip == "exchanged" and have == "v":
        p, q = -alpha, sigma
    det = alpha * q - sigma * p
    if slip == "undivided" and have in ("eps", "x0"):
        return (x - sigma * out, out) if have == "eps" else (out, x - alpha * out)
    if slip == "preserving" and have == "v":
        det = 1.0
    if slip == "straight" and have == "flow":
        x0 = x - sigma * out
        return x0, x0 + out
    det = det or 1e-9
    return (q * x - sigma * out) / det, (alpha * out - p * x) / det


def wished(x0: Tensor, eps: Tensor, alpha: float, sigma: float, want: str, slip: str) -> Tensor:
    """What somebody makes of x0 and eps who makes this mistake."""
    if slip == "plus" and want == "v":
        return alpha * eps + sigma * x0
    if slip == "exchanged" and want == "v":
        return sigma * eps - alpha * x0
    right = target(x0, eps, alpha, sigma, want)
    return -right if slip == "turned" and want in ("v", "flow") else right


def slips_of(out: Tensor, x: Tensor, alpha: float, sigma: float, have: str, want: str) -> list[tuple[Tensor, str]]:
    known = {"undivided": DIVIDED, "plus": V_SIGN, "exchanged": V_EXCHANGED, "preserving": ANY_ROWS,
             "straight": FLOW_ROWS}  # fmt: skip
    found = []
    for slip, hint in known.items():
        found.append((wished(*misread(out, x, alpha, sigma, have, slip), alpha, sigma, want, slip), hint))
    turned = V_TURNED if "v" in (have, want) and "flow" not in (have, want) else FLOW_SIGN
    found.append((wished(*misread(out, x, alpha, sigma, have, "turned"), alpha, sigma, want, "turned"), turned))
    # for those who have one sign turned only
    other = {"flow": "v", "v": "flow"}
    for kind, hint in (("v", V_TURNED), ("flow", FLOW_SIGN)):
        if kind in (have, want) and other[kind] in (have, want):
            sign = -1 if want == kind else 1
            x0, eps = misread(out, x, alpha, sigma, have, "turned" if have == kind else "")
            found.append((sign * target(x0, eps, alpha, sigma, want), hint))
    return found


def walks_all_pairs(fn: Callable) -> None:
    x0, eps = torch.full((1, 2), 2.0), torch.full((1, 2), -1.0)
    for alpha, sigma in ((0.8, 0.6), (0.7, 0.3), (1.0, 2.0)):
        x = alpha * x0 + sigma * eps
        for have in PAIR:
            for want in ("x0", "eps", "v", "flow"):
                out = target(x0, eps, alpha, sigma, have)
                got = fn(out, x, alpha, sigma, have, want)
                call = f"{MEASURED}, alpha = {alpha} and sigma = {sigma}: from {have} to {want} convert"
                hint = hint_for(got, slips_of(out, x, alpha, sigma, have, want), ALL_KINDS)
                expect(got, target(x0, eps, alpha, sigma, want), call, hint)


def goes_there_and_back(fn: Callable) -> None:
    out, x = torch.randn(2, 5, 3, generator=seeded(0))
    for have in PAIR:
        for want in PAIR:
            there = fn(out, x, 0.6, 0.8, have, want)
            if isinstance(there, Tensor):
                expect(fn(there, x, 0.6, 0.8, want, have), out, f"From {have} to {want} and back: convert", ALL_KINDS)


def holds_at_the_ends(fn: Callable) -> None:
    x0, eps = torch.randn(2, 4, 2, generator=seeded(1))
    for alpha, sigma, kinds in ((0.0, 1.0, ("v", "flow", "x0")), (1.0, 0.0, ("v", "flow", "eps"))):
        x = alpha * x0 + sigma * eps
        for have in kinds:
            for want in PAIR:
                where = f"At alpha = {alpha:.0f}, sigma = {sigma:.0f}, where {have} still tells all: "
                call = where + f"from {have} to {want} convert"
                try:
                    got = fn(target(x0, eps, alpha, sigma, have), x, alpha, sigma, have, want)
                except ZeroDivisionError:
                    raise Wrong(call + " divides by 0", ENDS) from None
                expect(got, target(x0, eps, alpha, sigma, want), call, ENDS)


# 09.weight

UPSIDE_DOWN = "Upside down. `want` stands above the line: loss of want = weight * loss of have."
EXPONENT = "log_snr is a logarithm. SNR is its exponential, `log_snr.exp()`."
SQUARES = "These are the factors of the ERRORS. A loss is a squared error, so square them; SNR is alpha^2 / sigma^2."
PLUS_ONE = "v's loss is (SNR + 1) times the x0 loss, not SNR times: 1 / sigma^2 = (alpha^2 + sigma^2) / sigma^2."
NOISE_IS_EPS = (
    "The other way for eps: x0 = (x - sigma * eps) / alpha, so an error of x0 is sigma / alpha times that of eps. Its "
    "loss is SNR times that of x0, not 1 / SNR times."
)
NOT_V = "flow is not v: its determinant is alpha + sigma. So its loss is ((alpha + sigma) / sigma)^2 times that of x0."
ONLY_WANT = "This is what `want` weighs against x0. Divide by what `have` weighs: it is `have` you start from."
TIMES = "Multiplied where it should be divided: from have to x0 is one over have's weight, from x0 to want is want's."
ONE_EACH = (
    "One factor for each level, so a tensor like `log_snr`, also where all of them are 1: `torch.ones_like(log_snr)`."
)
NO_ROOTS = "sigmoid(log-SNR) is alpha SQUARED, and sigmoid(-log-SNR) is sigma squared: take the roots first."
MEAN_IT = "Go through x0: which multiple of the x0 loss is the loss of each kind? Then divide one by the other."

CHANGES = {"exponent": EXPONENT, "squares": SQUARES, "plus one": PLUS_ONE, "eps": NOISE_IS_EPS, "flow": NOT_V,
           "no roots": NO_ROOTS}  # fmt: skip


def on_x0(log_snr: Tensor, kind: str, change: str = "") -> Tensor:
    """The weight of the x0 loss in the loss of this kind, or what a mistake makes of it."""
    snr = log_snr if change == "exponent" else log_snr.exp()
    root = (log_snr / 2).exp() if change != "exponent" else log_snr.abs().sqrt()
    table = {"eps": snr, "x0": torch.ones_like(snr), "v": snr + 1, "flow": (root + 1) ** 2}
    if change == "no roots":
        alpha, sigma = log_snr.sigmoid(), (-log_snr).sigmoid()
        det = {"eps": alpha, "x0": sigma, "v": alpha**2 + sigma**2, "flow": alpha + sigma}
        table = {kind: (size / sigma) ** 2 for kind, size in det.items()}
    if change == "plus one":
        table["v"] = snr
    if change == "eps":
        table["eps"] = 1 / snr
    if change == "flow":
        table["flow"] = snr + 1
    return table[kind].sqrt() if change == "squares" else table[kind]


def is_the_ratio_of_losses(fn: Callable) -> None:
    log_snr = torch.tensor([-4.0, -0.5, 0.75, 3.0])
    for have in ("x0", "eps", "v", "flow"):
        for want in ("v", "flow", "eps", "x0"):
            got = fn(log_snr, have, want)
            right = on_x0(log_snr, want) / on_x0(log_snr, have)
            slips = [(on_x0(log_snr, want) * on_x0(log_snr, have), TIMES), (on_x0(log_snr, want), ONLY_WANT)]
            for change, hint in CHANGES.items():
                slips.append((on_x0(log_snr, want, change) / on_x0(log_snr, have, change), hint))
            slips += [(1 / right, UPSIDE_DOWN), (1 / right.sqrt(), UPSIDE_DOWN)]
            call = f"For log-SNR {log_snr.tolist()}, from {have} to {want}: weight"
            single = isinstance(got, int | float) or isinstance(got, Tensor) and not got.ndim
            expect(got, right, call, ONE_EACH if single else hint_for(got, slips, MEAN_IT))


def agrees_with_a_guess(fn: Callable) -> None:
    x0, eps, guess = torch.randn(3, 200, 2, dtype=torch.float64, generator=seeded(2))
    for log_snr in (-5.0, 0.0, 4.0):
        at = torch.tensor([log_snr], dtype=torch.float64)
        alpha, sigma = at.sigmoid().sqrt().item(), (-at).sigmoid().sqrt().item()
        x = alpha * x0 + sigma * eps
        loss = {kind: (target(guess, (x - alpha * guess) / sigma, alpha, sigma, kind)
                       - target(x0, eps, alpha, sigma, kind)).square().mean() for kind in PREDICTIONS}  # fmt: skip
        for have in PREDICTIONS:
            for want in PREDICTIONS:
                got = fn(at, have, want)
                what = f"A guess at log-SNR {log_snr:.0f}, measured: loss on {want} over loss on {have}, and weight"
                expect(got, (loss[want] / loss[have]).view(1), what, MEAN_IT)


EXERCISES = (
    Exercise("09.convert", (
        "Write down p and q for each kind: out = p * x0 + q * eps. With x = alpha * x0 + sigma * eps these are two "
        "equations for two unknowns.",
        "With det = alpha * q - sigma * p it is x0 = (q * x - sigma * out) / det and eps = (alpha * out - p * x) / "
        "det.",
        'kinds = {"eps": (0, 1), "x0": (1, 0), "v": (-sigma, alpha), "flow": (-1, 1)}. Take p, q of `have` to find x0 '
        "and eps, then p, q of `want`, and return p * x0 + q * eps.",
    ), (walks_all_pairs, holds_at_the_ends, goes_there_and_back)),
    Exercise("09.weight", (
        "Which multiple of the x0 loss is the eps loss? The v loss? The formulas are right above.",
        "`snr = log_snr.exp()`. The four multiples are snr, 1, snr + 1 and (snr.sqrt() + 1) ** 2.",
        "Return the multiple of `want` divided by the multiple of `have`.",
    ), (is_the_ratio_of_losses, agrees_with_a_guess)),
)  # fmt: skip
