"""Answers to the exercises of lesson 03."""

import math

import torch

# 03.quantile_grid


def grid_by_quantile(latents, n):
    steps = torch.quantile(latents, (torch.arange(n) + 0.5) / n, dim=0)
    return torch.stack(torch.meshgrid(steps[:, 0], steps[:, 1].flip(0), indexing="xy"), -1)


def grid_by_sorting(latents, n):
    """The latent in the middle of each slice of the sorted list, cell by cell."""
    ordered, grid = latents.sort(0).values, torch.zeros(n, n, 2)
    for row in range(n):
        for column in range(n):
            grid[row, column, 0] = ordered[int((column + 0.5) / n * len(latents)), 0]
            grid[row, column, 1] = ordered[int((n - row - 0.5) / n * len(latents)), 1]
    return grid


def grid_by_kthvalue(latents, n):
    places = [max(1, round((2 * i + 1) / (2 * n) * len(latents))) for i in range(n)]
    across, up = (torch.stack([latents[:, k].kthvalue(place).values for place in places]) for k in (0, 1))
    return torch.cat([across.expand(n, n)[..., None], up.flip(0)[:, None].expand(n, n)[..., None]], 2)


def grid_of(across, up, indexing="xy"):
    return torch.stack(torch.meshgrid(across, up.flip(0), indexing=indexing), -1)


def grid_even(latents, n):
    """A grid is drawn with linspace from the smallest to the largest, as in every plotting tutorial."""
    low, high = latents.amin(0), latents.amax(0)
    return grid_of(*(torch.linspace(low[k], high[k], n) for k in (0, 1)))


def grid_of_the_prior(latents, n):
    """The lesson's cell above uses the bell curve, and its line is typed again: `latents` goes unused."""
    steps = torch.special.ndtri((torch.arange(n) + 0.5) / n)
    return grid_of(steps, steps)


def grid_of_a_bell(latents, n):
    """Moved and stretched to mean and spread of the data, which is enough for a bell curve and for nothing else."""
    bell = torch.special.ndtri((torch.arange(n) + 0.5) / n)
    return grid_of(*(latents[:, k].mean() + latents[:, k].std() * bell for k in (0, 1)))


def grid_with_ends(latents, n):
    """linspace includes both ends, and 0 and 1 are the ends of a share."""
    steps = torch.quantile(latents, torch.linspace(0, 1, n), dim=0)
    return grid_of(steps[:, 0], steps[:, 1])


def grid_at_cuts(latents, n):
    """n points cut a line into n + 1 pieces, as textbooks define quantiles: i / (n + 1)."""
    steps = torch.quantile(latents, torch.arange(1, n + 1) / (n + 1), dim=0)
    return grid_of(steps[:, 0], steps[:, 1])


def grid_of_one_heap(latents, n):
    """torch.quantile without `dim` flattens what it is given, and says nothing."""
    steps = torch.quantile(latents, (torch.arange(n) + 0.5) / n)
    return grid_of(steps, steps)


def grid_upside_down(latents, n):
    """An array counts its rows from the top, a map counts upwards; imshow's `origin` exists for this slip."""
    steps = torch.quantile(latents, (torch.arange(n) + 0.5) / n, dim=0)
    return grid_of(steps[:, 0], steps[:, 1].flip(0))


def grid_swapped(latents, n):
    """meshgrid's default, "ij", lets the first table grow down the rows; a warning is all PyTorch says of it."""
    steps = torch.quantile(latents, (torch.arange(n) + 0.5) / n, dim=0)
    return grid_of(steps[:, 0], steps[:, 1], indexing="ij")


# 03.slerp


def slerp_by_sines(a, b, t):
    lengths = a.norm(dim=-1, keepdim=True) * b.norm(dim=-1, keepdim=True)
    angle = ((a * b).sum(-1, keepdim=True) / lengths).clamp(-1, 1).arccos()
    arc = (torch.sin((1 - t) * angle) * a + torch.sin(t * angle) * b) / torch.sin(angle)
    return torch.where(torch.sin(angle) < 1e-6, (1 - t) * a + t * b, arc)


def slerp_by_rotation(a, b, t):
    """Along two perpendicular directions of their plane, in float64; for vectors of one length."""
    made = []
    for start, end in zip(a.double(), b.double(), strict=True):
        length = start.norm()
        u, v = start / length, end / end.norm()
        side = v - (u @ v) * u
        if side.norm() < 1e-9:
            made.append((1 - t) * start + t * end)
            continue
        angle = math.atan2(side.norm(), u @ v)
        made.append(length * (math.cos(t * angle) * u + math.sin(t * angle) * side / side.norm()))
    return torch.stack(made).float()


def slerp_by_lists(a, b, t):
    made = torch.empty_like(a)
    for i in range(len(a)):
        cosine = float(torch.nn.functional.cosine_similarity(a[i].double(), b[i].double(), dim=0))
        angle = math.acos(max(-1.0, min(1.0, cosine)))
        weights = (1 - t, t)
        if math.sin(angle) > 1e-7:
            weights = (math.sin((1 - t) * angle) / math.sin(angle), math.sin(t * angle) / math.sin(angle))
        made[i] = weights[0] * a[i] + weights[1] * b[i]
    return made


def slerp_straight(a, b, t):
    """soumith/dcgan.torch #14: the straight line, as torch.lerp offers it under a similar name."""
    return torch.lerp(a, b, t)


def slerp_from_b(a, b, t):
    """Whether t is the share of a or of b is a convention: stable-diffusion-webui #3068 has both in one function."""
    return slerp_by_sines(b, a, t)


def slerp_of_units(a, b, t):
    """"slerp is for unit vectors", so both are made such, and their length never comes back (Polytoria #1169)."""
    a, b = a / a.norm(dim=-1, keepdim=True), b / b.norm(dim=-1, keepdim=True)
    return slerp_by_sines(a, b, t)


def slerp_chord(a, b, t):
    """Normalised lerp, which games use in the place of slerp since it is cheaper (hlslpp #68)."""
    line = (1 - t) * a + t * b
    return line * a.norm(dim=-1, keepdim=True) / line.norm(dim=-1, keepdim=True).clamp(min=1e-9)


def slerp_of_raw_dot(a, b, t):
    """glm #1423: the dot product is taken for the cosine, as it is for unit vectors, and arccos gets 4.5."""
    angle = (a * b).sum(-1, keepdim=True).arccos()
    return (torch.sin((1 - t) * angle) * a + torch.sin(t * angle) * b) / torch.sin(angle)


def slerp_one_angle(a, b, t):
    """The sum runs over everything, as it does in the textbook's formula for two vectors: one angle for the batch."""
    angle = ((a * b).sum() / (a.norm() * b.norm())).clamp(-1, 1).arccos()
    return (torch.sin((1 - t) * angle) * a + torch.sin(t * angle) * b) / torch.sin(angle)


def slerp_no_fallback(a, b, t):
    """gl-matrix #500, playcanvas #39: nobody walks from a point to itself, until somebody does."""
    lengths = a.norm(dim=-1, keepdim=True) * b.norm(dim=-1, keepdim=True)
    angle = ((a * b).sum(-1, keepdim=True) / lengths).clamp(-1, 1).arccos()
    return (torch.sin((1 - t) * angle) * a + torch.sin(t * angle) * b) / torch.sin(angle)


def slerp_fallback_reversed(a, b, t):
    """AUTOMATIC1111/stable-diffusion-webui #3068: the fallback for like directions has its ends exchanged."""
    lengths = a.norm(dim=-1, keepdim=True) * b.norm(dim=-1, keepdim=True)
    cosine = ((a * b).sum(-1, keepdim=True) / lengths).clamp(-1, 1)
    angle = cosine.arccos()
    arc = (torch.sin((1 - t) * angle) * a + torch.sin(t * angle) * b) / torch.sin(angle)
    return torch.where(cosine > 0.9995, t * a + (1 - t) * b, arc)


def slerp_half_angle(a, b, t):
    """Quaternions turn things by twice their angle, so texts about rotation speak of half of it."""
    lengths = a.norm(dim=-1, keepdim=True) * b.norm(dim=-1, keepdim=True)
    angle = ((a * b).sum(-1, keepdim=True) / lengths).clamp(-1, 1).arccos() / 2
    return (torch.sin((1 - t) * angle) * a + torch.sin(t * angle) * b) / torch.sin(angle)


# 03.probe


def probe_by_pinv(x, y, x_new, y_new):
    ones = torch.ones(len(x), 1)
    w = torch.linalg.pinv(torch.cat([x, ones], 1)) @ y
    guess = torch.cat([x_new, torch.ones(len(x_new), 1)], 1) @ w
    return 1 - (guess - y_new).square().sum() / (y_new - y_new.mean()).square().sum()


def probe_by_centring(x, y, x_new, y_new):
    """No column of ones: the means are taken away, which comes to the same."""
    w = torch.linalg.lstsq((x - x.mean(0)).double(), (y - y.mean()).double()[:, None], driver="gelsd").solution[:, 0]
    guess = (x_new - x.mean(0)).double() @ w + y.mean()
    left = ((guess - y_new) ** 2).mean()
    return float(1 - left / y_new.double().var(correction=0))


def probe_with(ones=True, fit=None, score=None):
    """A right probe but for the offset, the fit or the score."""

    def solve(a, b):
        return torch.linalg.pinv(a) @ b

    def r2(guess, y_new, y):
        return (1 - (guess - y_new).square().sum() / (y_new - y_new.mean()).square().sum()).item()

    def probe(x, y, x_new, y_new):
        a, b = (torch.cat([v, torch.ones(len(v), 1)], 1) if ones else v for v in (x, x_new))
        return (score or r2)(b @ (fit or solve)(a, y), y_new, y)

    return probe


def probe_no_bias():
    """w^T x is what a lecture writes, and the bias hides in "absorbed into x"."""
    return probe_with(ones=False)


def probe_on_training(x, y, x_new, y_new):
    """The score that is at hand after a fit is the fit's own; `model.score(X, y)` is typed with the same X and y."""
    return probe_with()(x, y, x, y)


def probe_refitted(x, y, x_new, y_new):
    """fit_transform habits: the new data are fitted anew, and tested on themselves."""
    return probe_with()(x_new, y_new, x_new, y_new)


def probe_correlation():
    """R² is called after r, the correlation, and for a fit on its own data the two are the same."""
    return probe_with(score=lambda guess, y_new, y: torch.corrcoef(torch.stack([guess, y_new]))[0, 1].item() ** 2)


def probe_around_zero():
    """"Total sum of squares" is read as the sum of the squares of y."""
    return probe_with(score=lambda guess, y_new, y: (1 - (guess - y_new).square().sum() / y_new.square().sum()).item())


def probe_training_mean():
    """The mean is something learned, so it is taken from the training data like everything else."""
    return probe_with(
        score=lambda guess, y_new, y: (1 - (guess - y_new).square().sum() / (y_new - y.mean()).square().sum()).item()
    )


def probe_error():
    """Losses are what one prints everywhere else, so the mean squared error is returned."""
    return probe_with(score=lambda guess, y_new, y: (guess - y_new).square().mean().item())


def probe_unexplained():
    """The last step, 1 minus, is forgotten: the quotient alone looks like a score in 0..1."""
    return probe_with(
        score=lambda guess, y_new, y: ((guess - y_new).square().sum() / (y_new - y_new.mean()).square().sum()).item()
    )


def probe_by_inverse():
    """Bishop's eq. 3.15 typed letter by letter, with an inverse in it."""

    def fit(a, y):
        return torch.linalg.inv(a.double().T @ a.double()).float() @ a.T @ y

    return probe_with(fit=fit)


# 03.arrow


def arrow_by_shapes(z, colour, shape, old, new):
    found = []
    for s in shape.unique():
        of_old, of_new = z[(shape == s) & (colour == old)], z[(shape == s) & (colour == new)]
        if len(of_old) and len(of_new):
            found.append(of_new.mean(0) - of_old.mean(0))
    return torch.stack(found).mean(0)


def arrow_by_sums(z, colour, shape, old, new):
    flat = z.flatten(1).double()
    kinds = torch.nn.functional.one_hot(shape).double()  # (n, shapes)
    means, counts = [], []
    for c in (old, new):
        mine = kinds * (colour == c)[:, None]
        counts.append(mine.sum(0))
        means.append(mine.T @ flat / mine.sum(0).clamp(min=1)[:, None])
    both = (counts[0] > 0) & (counts[1] > 0)
    return (means[1] - means[0])[both].mean(0).view(z.shape[1:])


def arrow_backwards(z, colour, shape, old, new):
    """old comes first among the arguments, so it comes first in the difference."""
    return arrow_by_shapes(z, colour, shape, new, old)


def arrow_of_means(z, colour, shape, old, new):
    """White 2016: attributes go together in the data (a smile and a sex), and the plain difference takes both along."""
    return z[colour == new].mean(0) - z[colour == old].mean(0)


def arrow_with_empty_shapes(z, colour, shape, old, new):
    """Every shape is looped over; that some lack a colour is what "held out" means, and is easily forgotten."""
    of = [[z[(shape == s) & (colour == c)].mean(0) for c in (old, new)] for s in shape.unique()]
    return torch.stack([of_new - of_old for of_old, of_new in of]).mean(0)


def arrow_added_up(z, colour, shape, old, new):
    """A running sum over the shapes, and the division after the loop is left out."""
    total = torch.zeros_like(z[0])
    for s in shape.unique():
        of_old, of_new = z[(shape == s) & (colour == old)], z[(shape == s) & (colour == new)]
        if len(of_old) and len(of_new):
            total = total + of_new.mean(0) - of_old.mean(0)
    return total


def arrow_from_the_mean(z, colour, shape, old, new):
    """Steering vectors are often told as "mean of those with it minus mean of all", and `old` seems superfluous."""
    return z[colour == new].mean(0) - z.mean(0)


def arrow_of_length_one(z, colour, shape, old, new):
    """An arrow is taken for a direction, and of a direction the length is normalised away."""
    arrow = arrow_by_shapes(z, colour, shape, old, new)
    return arrow / arrow.norm()


def arrow_by_count(z, colour, shape, old, new):
    """np.average with the counts as weights: more data, more trust, which is not what was asked."""
    parts, counts = [], []
    for s in shape.unique():
        of_old, of_new = z[(shape == s) & (colour == old)], z[(shape == s) & (colour == new)]
        if len(of_old) and len(of_new):
            parts.append(of_new.mean(0) - of_old.mean(0))
            counts.append(len(of_old) + len(of_new))
    total = sum(part * count for part, count in zip(parts, counts, strict=True))
    return total / sum(counts)


def arrow_of_one_shape(z, colour, shape, old, new):
    """king - man + woman is told with one word each, so the first pair that fits is taken."""
    for s in shape.unique():
        of_old, of_new = z[(shape == s) & (colour == old)], z[(shape == s) & (colour == new)]
        if len(of_old) and len(of_new):
            return of_new.mean(0) - of_old.mean(0)


RIGHT = {
    "03.quantile_grid": [grid_by_quantile, grid_by_sorting, grid_by_kthvalue],
    "03.slerp": [slerp_by_sines, slerp_by_rotation, slerp_by_lists],
    "03.probe": [probe_by_pinv, probe_by_centring],
    "03.arrow": [arrow_by_shapes, arrow_by_sums],
}
WRONG = {
    "03.quantile_grid": [
        (grid_even, "equally long"), (grid_of_the_prior, "the quantiles of N(0, 1)"), (grid_of_a_bell, "no bell curve"),
        (grid_with_ends, "two strays"), (grid_at_cuts, "have the middles"), (grid_of_one_heap, "in one heap"),
        (grid_upside_down, "Upside down"), (grid_swapped, "changed places"),
    ],
    "03.slerp": [
        (slerp_straight, "the straight line. The weights"), (slerp_from_b, "You walk from b to a"),
        (slerp_of_units, "the length is lost"), (slerp_chord, "it hurries in the middle"),
        (slerp_of_raw_dot, "arccos takes a cosine"), (slerp_one_angle, "an angle of its own"),
        (slerp_no_fallback, "0 / 0 is nan"), (slerp_fallback_reversed, "test the fallback too"),
        (slerp_half_angle, "the whole one"),
    ],
    "03.probe": [
        (probe_no_bias, "one more column, of ones"), (probe_on_training, "nonsense scores too"),
        (probe_correlation, "the squared correlation"), (probe_around_zero, "not from 0"),
        (probe_training_mean, "a constant could do THERE"), (probe_error, "This is the error"),
        (probe_unexplained, "1 minus that"), (probe_by_inverse, "has no inverse"),
    ],
    "03.arrow": [
        (arrow_backwards, "the wrong way"), (arrow_of_means, "colour AND shape"),
        (arrow_with_empty_shapes, "The mean of no picture"), (arrow_added_up, "several arrows long"),
        (arrow_from_the_mean, "the mean of ALL pictures"), (arrow_of_length_one, "Do not normalise"),
        (arrow_by_count, "each counting once"), (arrow_of_one_shape, "for one shape alone"),
    ],
}  # fmt: skip
