"""Answers to the exercises of lesson 04."""

import math

import torch

# 04.q_sample


def leap_by_table(x0, t, betas, eps):
    alpha_bar = (1 - betas).cumprod(0)[t]
    alpha, sigma = alpha_bar.sqrt(), (1 - alpha_bar).sqrt()
    return alpha[:, None, None, None] * x0 + sigma[:, None, None, None] * eps


def leap_picture_by_picture(x0, t, betas, eps):
    made = []
    for picture, steps, noise in zip(x0, t.tolist(), eps, strict=True):
        kept = math.prod(1 - beta for beta in betas.tolist()[: steps + 1])
        made.append(kept**0.5 * picture + math.sqrt(1 - kept) * noise)
    return torch.stack(made)


def leap_by_einsum(x0, t, betas, eps):
    log_bar = torch.cumsum(torch.log1p(-betas.double()), dim=0)[t]
    signal = torch.einsum("b,bchw->bchw", (log_bar / 2).exp(), x0.double())
    return signal + torch.einsum("b,bchw->bchw", (-torch.expm1(log_bar)).sqrt(), eps.double())


def leap_with(signal=lambda bar, beta: bar.sqrt(), noise=lambda bar, beta: (1 - bar).sqrt(), bars=None):
    """A right leap but for one of its two factors, or for the products they are made of."""

    def leap(x0, t, betas, eps):
        bar = (bars or (lambda betas: (1 - betas).cumprod(0)))(betas)[t].view(-1, 1, 1, 1)
        beta = betas[t].view(-1, 1, 1, 1)
        return signal(bar, beta) * x0 + noise(bar, beta) * eps

    return leap


def leap_missing_root():
    """labml #152, How-Diffusion-Models-Work #1: one root is written, and its partner looks finished without."""
    return leap_with(noise=lambda bar, beta: 1 - bar)


def leap_no_signal_root():
    """A table called alpha_bar is taken for the alpha of x = alpha * x0 + sigma * eps."""
    return leap_with(signal=lambda bar, beta: bar)


def leap_one_step():
    """acids-ircam/diffusion_models #1: q(x_t | x_(t-1)) stands in the text where q(x_t | x_0) is meant."""
    return leap_with(lambda bar, beta: (1 - beta).sqrt(), lambda bar, beta: beta.sqrt())


def leap_product_of_betas():
    """LuChengTHU/dpm-solver #13: alphas_cumprod is written down as cumprod(betas)."""
    return leap_with(bars=lambda betas: betas.cumprod(0))


def leap_one_step_short():
    """jychoi118/ilvr_adm #13: whether x_t has t steps or t + 1 is easily lost where counting begins at 0."""
    return leap_with(bars=lambda betas: torch.cat([torch.ones(1), (1 - betas).cumprod(0)]))


def leap_own_noise(x0, t, betas, eps):
    """Lectures draw the noise inside the function, so the argument is overwritten."""
    eps = torch.randn(x0.shape, generator=torch.Generator().manual_seed(0))
    return leap_by_table(x0, t, betas, eps) + 0 * eps


def leap_by_columns(x0, t, betas, eps):
    """HCP-Diffusion #82, joliGEN #527: tried with one picture, where a factor of shape (b,) fits anything."""
    alpha_bar = (1 - betas).cumprod(0)[t]
    return alpha_bar.sqrt() * x0 + (1 - alpha_bar).sqrt() * eps


def leap_first_of_batch(x0, t, betas, eps):
    """diffusers #25: the noising takes one t, so a loop or an index for the batch is forgotten."""
    return leap_by_table(x0, t[:1].expand(len(x0)), betas, eps)


# 04.cosine


def cosine_by_betas(steps):
    u = torch.arange(steps + 1, dtype=torch.float64) / steps
    f = torch.cos((u + 0.008) / 1.008 * math.pi / 2) ** 2
    betas = (1 - f[1:] / f[:-1]).clamp(max=0.999)
    return (1 - betas).cumprod(0)


def cosine_by_loop(steps):
    def f(i):
        return math.cos((i / steps + 0.008) / 1.008 * math.pi / 2) ** 2

    table = [1.0]
    for i in range(steps):
        table.append(table[-1] * max(f(i + 1) / f(i), 0.001))
    return torch.tensor(table[1:])


def cosine_with(square=2, cap=0.999, offset=0.008, turn=0.5, points=lambda steps: torch.arange(steps + 1) / steps):
    """A right table but for one constant or for the points in time."""

    def cosine(steps):
        f = torch.cos((points(steps).double() + offset) / (1 + offset) * math.pi * turn) ** square
        return (1 - (1 - f[1:] / f[:-1]).clamp(max=cap)).cumprod(0)

    return cosine


def cosine_no_square():
    """lilianweng.github.io #9: the square was missing in a much-read text."""
    return cosine_with(square=1)


def cosine_no_cap():
    """guided-diffusion #42 asks whether the cap makes any sense; it is left out as a trifle."""
    return cosine_with(cap=1.0)


def cosine_short():
    """denoising-diffusion-pytorch #19: linspace(0, T + 1, T + 1) over T + 1, and the last point is not 1 in time."""
    return cosine_with(points=lambda steps: torch.arange(steps + 1) / (steps + 1))


def cosine_starts_at_one(steps):
    """MONAI GenerativeModels #489: alpha_bar at i / T begins with 1, which divides by 0 later."""
    u = torch.arange(steps) / steps
    f = torch.cos((u + 0.008) / 1.008 * math.pi / 2) ** 2
    return f / f[0]


def cosine_no_offset():
    """0.008 looks like a safety margin against dividing by 0, and nothing is divided by here."""
    return cosine_with(offset=0.0)


def cosine_half_turn():
    """A cosine falls from 1 to -1 over pi, as one remembers it from school."""
    return cosine_with(turn=1.0)


def cosine_cut_table(steps):
    """The cap of 0.999 is applied to what one has at hand, which is alpha_bar."""
    f = torch.cos((torch.arange(steps + 1) / steps + 0.008) / 1.008 * math.pi / 2) ** 2
    return (f[1:] / f[0]).clamp(min=0.001)


def cosine_betas(steps):
    """Libraries speak of beta schedules, so the betas are taken for the table."""
    table = torch.cat([torch.ones(1), cosine_by_betas(steps)])
    return 1 - table[1:] / table[:-1]


def cosine_not_normed(steps):
    """f is read as alpha_bar itself: f(0) is nearly 1, so that nothing shows in a plot."""
    return torch.cos((torch.arange(1, steps + 1) / steps + 0.008) / 1.008 * math.pi / 2) ** 2


# 04.terminal_snr


def mend_by_roots(alpha_bar):
    alpha = alpha_bar.sqrt()
    first, last = alpha[0], alpha[-1]
    return ((alpha - last) * first / (first - last)) ** 2


def mend_between_the_ends(alpha_bar):
    """Each root as a mixture of first and last, then the last is replaced by 0."""
    roots = [math.sqrt(value) for value in alpha_bar.tolist()]
    share = [(root - roots[-1]) / (roots[0] - roots[-1]) for root in roots]
    return torch.tensor([(part * roots[0]) ** 2 for part in share])


def mend_last_row(alpha_bar):
    """"The last row has to be 0" is done to the letter."""
    return torch.cat([alpha_bar[:-1], torch.zeros(1)])


def mend_powers(alpha_bar):
    """The table at hand is alpha_bar, and that the algorithm begins with a root is read over."""
    first, last = alpha_bar[0], alpha_bar[-1]
    return (alpha_bar - last) * first / (first - last)


def mend_no_stretch(alpha_bar):
    """The last row is 0, the goal is reached, and nobody looks at the first."""
    return (alpha_bar.sqrt() - alpha_bar[-1].sqrt()) ** 2


def mend_to_one(alpha_bar):
    """Scaling to 0..1 is what one does with every data set."""
    alpha = alpha_bar.sqrt()
    return ((alpha - alpha.min()) / (alpha.max() - alpha.min())) ** 2


def mend_roots(alpha_bar):
    """Roots went in, roots come out: the way back is forgotten."""
    return mend_by_roots(alpha_bar).sqrt()


def mend_fading(alpha_bar):
    """A ramp from 1 to 0 keeps the first row and ends at 0, as wished."""
    return (alpha_bar.sqrt() * torch.linspace(1, 0, len(alpha_bar))) ** 2


# 04.shift


def shift_by_size(alpha, sigma, small, large):
    noise = sigma * large / small
    size = (alpha**2 + noise**2).sqrt()
    return alpha / size, noise / size


def shift_by_sigmoid(alpha, sigma, small, large):
    log_snr = 2 * torch.log(alpha / sigma) + 2 * math.log(small / large)
    return log_snr.sigmoid().sqrt(), (-log_snr).sigmoid().sqrt()


def shift_by(move):
    """Log-SNR moved by a function of large / small, with alpha^2 + sigma^2 = 1."""

    def shift(alpha, sigma, small, large):
        log_snr = 2 * torch.log(alpha / sigma) + move(large / small)
        return log_snr.sigmoid().sqrt(), (-log_snr).sigmoid().sqrt()

    return shift


def shift_up():
    """bytetriper/RAE #57: which way to shift is asked; a larger picture seems harder, so it is spared noise."""
    return shift_by(lambda ratio: 2 * math.log(ratio))


def shift_amplitude():
    """The noise's standard deviation falls by k, and SNR is taken for a ratio of standard deviations."""
    return shift_by(lambda ratio: -math.log(ratio))


def shift_twice():
    """The number of pixels grows by k squared, and the formula's factor 2 is put on top of that."""
    return shift_by(lambda ratio: -2 * math.log(ratio**2))


def shift_decades():
    """Signal engineers count in decades: log10 for every logarithm."""
    return shift_by(lambda ratio: -2 * math.log10(ratio))


def shift_noise_only(alpha, sigma, small, large):
    """"It needs more noise", so sigma is multiplied and alpha left in peace."""
    return alpha, sigma * large / small


def shift_no_roots(alpha, sigma, small, large):
    """sigmoid(log-SNR) is remembered as the way back, its square is not."""
    log_snr = 2 * torch.log(alpha / sigma) - 2 * math.log(large / small)
    return log_snr.sigmoid(), (-log_snr).sigmoid()


def shift_time(alpha, sigma, small, large):
    """The rows are moved along t, as "shift" is understood in a film: later rows earlier."""
    ratio = small / large
    log_snr = 2 * torch.log(alpha / sigma)
    places = (torch.arange(len(alpha)) / max(ratio, 1e-6)).long().clamp(max=len(alpha) - 1)
    return log_snr[places].sigmoid().sqrt(), (-log_snr[places]).sigmoid().sqrt()


RIGHT = {
    "04.q_sample": [leap_by_table, leap_picture_by_picture, leap_by_einsum],
    "04.cosine": [cosine_by_betas, cosine_by_loop],
    "04.terminal_snr": [mend_by_roots, mend_between_the_ends],
    "04.shift": [shift_by_size, shift_by_sigmoid],
}
WRONG = {
    "04.q_sample": [
        (leap_missing_root, "the ROOT of 1 - alpha_bar"), (leap_no_signal_root, "it is the root of alpha_bar"),
        (leap_one_step, "This is step t alone"), (leap_product_of_betas, "what each step KEEPS"),
        (leap_one_step_short, "A step is missing"), (leap_own_noise, "Nothing to draw here"),
        (leap_by_columns, "one number per COLUMN"), (leap_first_of_batch, "the level of the first one"),
    ],
    "04.cosine": [
        (cosine_no_square, "This is the cosine itself"), (cosine_no_cap, "Cap every beta"),
        (cosine_short, "falls short"), (cosine_starts_at_one, "T + 1 posts"), (cosine_no_offset, "level at its top"),
        (cosine_half_turn, "a quarter of its turn"), (cosine_cut_table, "It is the beta that is capped"),
        (cosine_betas, "These are the betas"), (cosine_not_normed, "alpha_bar is f(u) / f(0)"),
    ],
    "04.terminal_snr": [
        (mend_last_row, "a cliff of one step"), (mend_powers, "Take the roots first"), (mend_no_stretch, "has sunk"),
        (mend_to_one, "The first row has become 1"), (mend_roots, "square them again"),
        (mend_fading, "the SAME amount"),
    ],
    "04.shift": [
        (shift_up, "The wrong way round"), (shift_amplitude, "SNR is made of squares"), (shift_twice, "Counted twice"),
        (shift_decades, "natural ones"), (shift_noise_only, "has to stay 1"), (shift_no_roots, "the SQUARE of alpha"),
        (shift_time, "the same everywhere"),
    ],
}  # fmt: skip
