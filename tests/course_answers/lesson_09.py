"""Answers to the exercises of lesson 09."""

import math

import torch

# 09.convert


def convert_by_determinant(out, x, alpha, sigma, have, want):
    kinds = {"eps": (0, 1), "x0": (1, 0), "v": (-sigma, alpha), "flow": (-1, 1)}
    p, q = kinds[have]
    det = alpha * q - sigma * p
    x0, eps = (q * x - sigma * out) / det, (alpha * out - p * x) / det
    p, q = kinds[want]
    return p * x0 + q * eps


def convert_case_by_case(out, x, alpha, sigma, have, want):
    if have == want:
        return out
    if have == "x0":
        x0 = out
        eps = (x - alpha * x0) / sigma
    elif have == "eps":
        eps = out
        x0 = (x - sigma * eps) / alpha
    elif have == "v":
        power = alpha**2 + sigma**2
        x0, eps = (alpha * x - sigma * out) / power, (sigma * x + alpha * out) / power
    else:
        x0, eps = (x - sigma * out) / (alpha + sigma), (x + alpha * out) / (alpha + sigma)
    if want == "x0":
        return x0
    if want == "eps":
        return eps
    return eps - x0 if want == "flow" else alpha * eps - sigma * x0


def convert_by_solving(out, x, alpha, sigma, have, want):
    rows = {"eps": [0.0, 1.0], "x0": [1.0, 0.0], "v": [-sigma, alpha], "flow": [-1.0, 1.0]}
    system = torch.tensor([[alpha, sigma], rows[have]], dtype=torch.float64)
    seen = torch.stack([x.double().flatten(), out.double().flatten()])
    clean_and_noise = torch.linalg.pinv(system) @ seen
    return (torch.tensor([rows[want]], dtype=torch.float64) @ clean_and_noise).view_as(x)


def convert_with(have_rule=None, want_rule=None, through_x0=False):
    """A right conversion but for how one kind is read or written."""

    def convert(out, x, alpha, sigma, have, want):
        if have == want:
            return out
        rules = {
            "x0": lambda: (out, (x - alpha * out) / sigma),
            "eps": lambda: ((x - sigma * out) / alpha, out),
            "v": lambda: ((alpha * x - sigma * out) / (alpha**2 + sigma**2),
                          (sigma * x + alpha * out) / (alpha**2 + sigma**2)),
            "flow": lambda: ((x - sigma * out) / (alpha + sigma), (x + alpha * out) / (alpha + sigma)),
        }  # fmt: skip
        found = (have_rule or {}).get(have)
        x0, eps = found(out, x, alpha, sigma) if found else rules[have]()
        if through_x0 and have != "eps":
            eps = (x - alpha * x0) / sigma
        made = {"x0": lambda: x0, "eps": lambda: eps, "v": lambda: alpha * eps - sigma * x0, "flow": lambda: eps - x0}
        written = (want_rule or {}).get(want)
        return written(x0, eps, alpha, sigma) if written else made[want]()

    return convert


def convert_v_plus():
    """v looks like x with the two factors exchanged, so the plus of x is kept as well."""
    return convert_with({"v": lambda o, x, a, s: ((a * x - s * o) / (a**2 - s**2), (a * o - s * x) / (a**2 - s**2))},
                        {"v": lambda x0, eps, a, s: a * eps + s * x0})  # fmt: skip


def convert_v_turned():
    """The velocity is thought of as pointing to the data, so sigma * x0 - alpha * eps is written."""
    return convert_with({"v": lambda o, x, a, s: ((a * x + s * o) / (a**2 + s**2), (s * x - a * o) / (a**2 + s**2))},
                        {"v": lambda x0, eps, a, s: s * x0 - a * eps})  # fmt: skip


def convert_v_exchanged():
    """alpha belongs to x0 and sigma to eps in x, and that habit is carried into v."""
    return convert_with({"v": lambda o, x, a, s: ((s * x - s * o) / (2 * a * s), (a * o + a * x) / (2 * a * s))},
                        {"v": lambda x0, eps, a, s: s * eps - a * x0})  # fmt: skip


def convert_flow_turned():
    """Liu et al. and half of all programs (hpcaitech/Open-Sora #628 asks) have x0 - eps; one's memory is of those."""
    return convert_with({"flow": lambda o, x, a, s: ((x + s * o) / (a + s), (x - a * o) / (a + s))},
                        {"flow": lambda x0, eps, a, s: x0 - eps})  # fmt: skip


def convert_undivided():
    """"Subtract the noise" is how everybody describes denoising; that alpha is still on the picture is forgotten."""
    return convert_with({"eps": lambda o, x, a, s: (x - s * o, o)})


def convert_v_preserving():
    """x0 = alpha x - sigma v is the formula of the paper and of lesson 07, whose rows have alpha^2 + sigma^2 = 1."""
    return convert_with({"v": lambda o, x, a, s: (a * x - s * o, s * x + a * o)})


def convert_flow_straight():
    """x0 = x - sigma * flow is in every flow sampler, whose rows have alpha + sigma = 1."""
    return convert_with({"flow": lambda o, x, a, s: (x - s * o, x - s * o + o)})


def convert_through_x0():
    """Samplers make x0 of every answer first, and eps out of it; so one does, and divides by a sigma of 0."""
    return convert_with(through_x0=True)


# 09.weight


def weight_through_x0(log_snr, have, want):
    snr = log_snr.exp()
    on_x0 = {"eps": snr, "x0": torch.ones_like(snr), "v": snr + 1, "flow": (snr.sqrt() + 1) ** 2}
    return on_x0[want] / on_x0[have]


def weight_by_determinants(log_snr, have, want):
    alpha, sigma = log_snr.sigmoid().sqrt(), (-log_snr).sigmoid().sqrt()
    size = {"eps": alpha, "x0": sigma, "v": (alpha**2 + sigma**2), "flow": alpha + sigma}
    return (size[want] / size[have]).square()


def weight_with(**changed):
    """Right but for the multiples of the x0 loss that are given."""

    def weight(log_snr, have, want):
        snr = log_snr.exp()
        table = {"eps": snr, "x0": torch.ones_like(snr), "v": snr + 1, "flow": (snr.sqrt() + 1) ** 2}
        table |= {kind: rule(snr) for kind, rule in changed.items()}
        return table[want] / table[have]

    return weight


def weight_upside_down(log_snr, have, want):
    """One converts the error, not the loss: delta of x0 is sigma / D times, and that goes the other way."""
    return weight_through_x0(log_snr, want, have)


def weight_of_logs(log_snr, have, want):
    """The argument is called log_snr, the formula says SNR, and in a hurry they are one."""
    snr = log_snr
    on_x0 = {"eps": snr, "x0": torch.ones_like(snr), "v": snr + 1, "flow": (snr.abs().sqrt() + 1) ** 2}
    return on_x0[want] / on_x0[have]


def weight_of_errors(log_snr, have, want):
    """The factors of the table of errors are taken over, and a loss is their square."""
    return weight_through_x0(log_snr, have, want).sqrt()


def weight_v_without_one():
    """kohya-ss/sd-scripts #673, Min-SNR-Diffusion-Training #3: v is given the weight of eps."""
    return weight_with(v=lambda snr: snr)


def weight_eps_inverted():
    """More noise, more weight on the noise, says a feeling; so eps gets 1 / SNR."""
    return weight_with(eps=lambda snr: 1 / snr)


def weight_flow_as_v():
    """Both are called velocity, so flow is given the weight of v."""
    return weight_with(flow=lambda snr: snr + 1)


def weight_no_roots(log_snr, have, want):
    """alpha and sigma are made by the sigmoid of lesson 04, and it is forgotten that it gives their squares."""
    alpha, sigma = log_snr.sigmoid(), (-log_snr).sigmoid()
    size = {"eps": alpha, "x0": sigma, "v": alpha**2 + sigma**2, "flow": alpha + sigma}
    return (size[want] / size[have]).square()


def weight_of_want(log_snr, have, want):
    """Everything is told against x0 in the text, so `have` is forgotten."""
    return weight_through_x0(log_snr, "x0", want)


def weight_times(log_snr, have, want):
    """Two conversions, so two factors: both are multiplied."""
    return weight_through_x0(log_snr, "x0", want) * weight_through_x0(log_snr, "x0", have)


# 09.one_step


def euler_by_index(velocity, x, steps):
    for i in range(steps):
        x = x - velocity(x, 1 - i / steps) / steps
    return x


def euler_by_points(velocity, x, steps):
    points = torch.linspace(1, 0, steps + 1).tolist()
    for now, after in zip(points, points[1:], strict=False):
        x = x + (after - now) * velocity(x, now)
    return x


def euler_by_recursion(velocity, x, steps, left=None):
    left = steps if left is None else left
    if left == 0:
        return x
    return euler_by_recursion(velocity, x - velocity(x, left / steps) / steps, steps, left - 1)


def euler_plus(velocity, x, steps):
    """primepake/splitmeanflow #2: the sign of one program, the sampler of another."""
    for i in range(steps):
        x = x + velocity(x, 1 - i / steps) / steps
    return x


def euler_upwards(velocity, x, steps):
    """Liu et al. count time from noise to data, VinAIResearch/LFM #19 asks; so t runs from 0 up."""
    for i in range(steps):
        x = x - velocity(x, i / steps) / steps
    return x


def euler_at_the_end(velocity, x, steps):
    """t is lowered first, as the first line of the loop, and then used."""
    t = 1.0
    for _ in range(steps):
        t = t - 1 / steps
        x = x - velocity(x, t) / steps
    return x


def euler_a_step_short(velocity, x, steps):
    """linspace(1, 0, steps) looks like `steps` steps, and is `steps` points."""
    points = torch.linspace(1, 0, steps).tolist()
    for now in points[:-1]:
        x = x - velocity(x, now) / steps
    return x


def euler_one_direction(velocity, x, steps):
    """Paths are straight, says the paper, so one direction is enough for the whole way."""
    direction = velocity(x, 1.0)
    for _ in range(steps):
        x = x - direction / steps
    return x


def euler_jumps(velocity, x, steps):
    """x0 = x - t * velocity is known from the conversions, and used as if it were a step."""
    for i in range(steps):
        t = 1 - i / steps
        x = x - t * velocity(x, t)
    return x


def euler_looks_ahead(velocity, x, steps):
    """Lesson 08 has shown that Heun is better, so it is what one writes."""
    for i in range(steps):
        t, below = 1 - i / steps, 1 - (i + 1) / steps
        v = velocity(x, t)
        x = x - (v + velocity(x - v / steps, max(below, 1e-6))) / 2 / steps
    return x


def euler_in_rows(velocity, x, steps):
    """Networks are told the row out of 1,000, so the velocity is asked for 1,000 and downwards."""
    for i in range(steps):
        x = x - velocity(x, 1000 - 1000 * i / steps) / steps
    return x


def euler_until_zero(velocity, x, steps):
    """"From 1 down to 0" is written as a while, and a rounding error above 0 is one more step."""
    t = 1.0
    while t > 0:
        x = x - velocity(x, t) / steps
        t -= 1 / steps
    return x


def euler_by_table(velocity, x, steps):
    """Training has 1,000 rows, so a step is taken to be a thousandth."""
    for i in range(steps):
        x = x - velocity(x, 1 - i / steps) / 1000
    return x


# 09.edm


def edm_by_columns(network, x, sigma, spread):
    noise = sigma.view(-1, 1)
    total = spread**2 + noise**2
    skip, out, into = spread**2 / total, spread * noise / total.sqrt(), total.rsqrt()
    return skip * x + out * network(into * x, 0.25 * sigma.log())


def edm_by_angle(network, x, sigma, spread):
    angle = torch.atan2(sigma, torch.full_like(sigma, spread))[:, None]
    size = torch.hypot(sigma, torch.full_like(sigma, spread))[:, None]
    answer = network(x / size, torch.log(sigma) / 4)
    return angle.cos() ** 2 * x + spread * angle.sin() * answer


def edm_point_by_point(network, x, sigma, spread):
    sizes = torch.tensor([math.sqrt(spread**2 + s**2) for s in sigma.tolist()])
    answers = network(torch.stack([one / size for one, size in zip(x, sizes, strict=True)]), sigma.log() / 4)
    made = []
    for one, answer, s, size in zip(x, answers, sigma.tolist(), sizes.tolist(), strict=True):
        made.append((spread / size) ** 2 * one + spread * s / size * answer)
    return torch.stack(made)


def edm_with(skip=None, out=None, into=None, told=lambda sigma: sigma.log() / 4, column=True):
    """A right wrapper but for one of its four factors."""

    def edm(network, x, sigma, s):
        c = sigma[:, None] if column else sigma
        both = s**2 + c**2
        c_skip = skip(c, s) if skip else s**2 / both
        c_out = out(c, s) if out else s * c / both**0.5
        c_in = into(c, s) if into else both**-0.5
        return c_skip * x + c_out * network(c_in * x, told(sigma))

    return edm


def edm_exchanged():
    """More noise, more to skip, one thinks; but the skip passes x through."""
    return edm_with(skip=lambda c, s: c**2 / (c**2 + s**2))


def edm_rooted_skip():
    """alpha is a root everywhere else in this course, so c_skip is given one too."""
    return edm_with(skip=lambda c, s: s / (c**2 + s**2) ** 0.5)


def edm_for_unit_spread():
    """The v of a k-diffusion wrapper is remembered, whose skip is 1 / (sigma^2 + 1)."""
    return edm_with(skip=lambda c, s: 1 / (c**2 + 1))


def edm_out_squared():
    """The least variance comes out of the derivation, and its root is forgotten."""
    return edm_with(out=lambda c, s: s**2 * c**2 / (s**2 + c**2))


def edm_out_without_spread():
    """sigma / root(...) has the look of the sigma of normalised rows, and s is nearly 1 in the lesson."""
    return edm_with(out=lambda c, s: c / (s**2 + c**2) ** 0.5)


def edm_out_sigma():
    """The error in x0 is sigma times that of eps, so c_out is taken to be sigma."""
    return edm_with(out=lambda c, s: c)


def edm_raw_input():
    """Three factors are in the sum, the fourth stands inside the call and is overlooked."""
    return edm_with(into=lambda c, s: 1.0)


def edm_in_variance():
    """Dividing by the variance is thought to make the variance 1."""
    return edm_with(into=lambda c, s: 1 / (s**2 + c**2))


def edm_told_sigma():
    """What the level is called looks like a trifle, so sigma itself is handed over."""
    return edm_with(told=lambda sigma: sigma)


def edm_by_rows():
    """HCP-Diffusion #82: tried with one point, or with one level, where a factor of shape (b,) fits anything."""
    return edm_with(column=False)


RIGHT = {
    "09.convert": [convert_by_determinant, convert_case_by_case, convert_by_solving],
    "09.weight": [weight_through_x0, weight_by_determinants],
    "09.one_step": [euler_by_index, euler_by_points, euler_by_recursion],
    "09.edm": [edm_by_columns, edm_by_angle, edm_point_by_point],
}
WRONG = {
    "09.convert": [
        (convert_v_plus, "MINUS"), (convert_v_turned, "This is its negative"), (convert_v_exchanged, "goes with eps"),
        (convert_flow_turned, "as other programs"), (convert_undivided, "AND divide"),
        (convert_v_preserving, "these rows are others"), (convert_flow_straight, "holds where alpha + sigma"),
        (convert_through_x0, "neither through the other"),
    ],
    "09.weight": [
        (weight_upside_down, "Upside down"), (weight_of_logs, "is a logarithm"), (weight_of_errors, "of the ERRORS"),
        (weight_v_without_one, "(SNR + 1) times"), (weight_eps_inverted, "The other way for eps"),
        (weight_flow_as_v, "flow is not v"), (weight_no_roots, "alpha SQUARED"),
        (weight_of_want, "Divide by what `have`"),
        (weight_times, "Multiplied where"),
    ],
    "09.one_step": [
        (euler_plus, "with a minus"), (euler_upwards, "noise is t = 1"), (euler_at_the_end, "where the step BEGINS"),
        (euler_a_step_short, "A step too few"), (euler_one_direction, "for the whole way"),
        (euler_jumps, "a jump to the end"), (euler_looks_ahead, "Heun"), (euler_by_table, "1 / steps long"),
        (euler_in_rows, "not the number of a row"), (euler_until_zero, "by rounding"),
    ],
    "09.edm": [
        (edm_exchanged, "1 minus that"), (edm_rooted_skip, "c_skip has no root"), (edm_for_unit_spread, "Nothing says"),
        (edm_out_squared, "c_out squared"), (edm_out_without_spread, "s is missing"),
        (edm_out_sigma, "c_out is s * sigma"), (edm_raw_input, "not x itself"), (edm_in_variance, "a ROOT"),
        (edm_told_sigma, "quarter of the natural"), (edm_by_rows, "per COLUMN"),
    ],
}  # fmt: skip
