"""Answers to the exercises of lesson 10."""

import torch

# 10.cfg


def guide_one_formula(cond, uncond, number, convention):
    scale = number if convention == "scale" else 1 + number
    return uncond + scale * (cond - uncond)


def guide_by_factors(cond, uncond, number, convention):
    if convention == "w":
        return (1 + number) * cond - number * uncond
    return number * cond + (1 - number) * uncond


def guide_by_lerp(cond, uncond, number, convention):
    return torch.lerp(uncond, cond, number + {"scale": 0.0, "w": 1.0}[convention])


def guide_sign(cond, uncond, number, convention):
    """labml #177: the formula in the text has s - 1 where 1 - s belongs, and is copied from there."""
    scale = number if convention == "scale" else 1 + number
    return scale * cond + (scale - 1) * uncond


def guide_from_cond(cond, uncond, number, convention):
    """threestudio #127, stable-dreamfusion #32: the paper's formula is used with a number counted the other way."""
    return cond + number * (cond - uncond)


def guide_ignores_convention(cond, uncond, number, convention):
    """diffusers #5882, denoising-diffusion-pytorch #155: scale and w are taken for the same number."""
    return uncond + number * (cond - uncond)


def guide_backwards(cond, uncond, number, convention):
    """s = 1 + w is remembered, and solved for the wrong one of the two."""
    scale = number if convention == "scale" else number - 1
    return uncond + scale * (cond - uncond)


def guide_swapped(cond, uncond, number, convention):
    """Programs chunk the batch as uncond, cond, papers name cond first: the two change places."""
    scale = number if convention == "scale" else 1 + number
    return cond + scale * (uncond - cond)


def guide_plus(cond, uncond, number, convention):
    """stable-dreamfusion #32: a comment writes the paper's formula with a plus between its parts."""
    if convention == "w":
        return (1 + number) * cond + number * uncond
    return uncond + number * (cond - uncond)


def guide_clipped(cond, uncond, number, convention):
    """A mixture of two things has a share between 0 and 1, everywhere else in life."""
    scale = number if convention == "scale" else 1 + number
    return uncond + min(max(scale, 0.0), 1.0) * (cond - uncond)


def guide_no_brackets(cond, uncond, number, convention):
    """dome272 #22: the formula is unrolled by hand and one of the two products is lost."""
    scale = number if convention == "scale" else 1 + number
    return (1 - scale) * uncond + cond


# 10.dropout


def drop_where(labels, null, p, generator):
    dropped = torch.rand(len(labels), generator=generator) < p
    return torch.where(dropped, null, labels)


def drop_by_bernoulli(labels, null, p, generator):
    coins = torch.bernoulli(torch.full(labels.shape, float(p)), generator=generator).bool()
    return labels.masked_fill(coins, null)


def drop_by_loop(labels, null, p, generator):
    made = [null if torch.rand(1, generator=generator).item() < p else label for label in labels.tolist()]
    return torch.tensor(made)


def drop_to_zero(labels, null, p, generator):
    """A mask is multiplied with, as dropout does, and nobody remembers that 0 is a digit."""
    return labels * (torch.rand(len(labels), generator=generator) >= p).long()


def drop_kept(labels, null, p, generator):
    """Libraries speak of keep masks and of drop probabilities, and one stands in the other's place."""
    keep = torch.rand(len(labels), generator=generator) < p
    return torch.where(keep, labels, null)


def drop_all_or_none(labels, null, p, generator):
    """The paper says "with probability p_uncond", and a program asks once a step: one `if` for the whole batch."""
    if torch.rand(1, generator=generator).item() < p:
        return torch.full_like(labels, null)
    return labels.clone()


def drop_first_ones(labels, null, p, generator):
    """A share p of the batch is p * b pictures, so the first ones are taken."""
    made = labels.clone()
    made[: round(p * len(labels))] = null
    return made


def drop_to_any_class(labels, null, p, generator):
    """"Drop" is read as "do not tell the truth": a random class in place of the label."""
    dropped = torch.rand(len(labels), generator=generator) < p
    return torch.where(dropped, torch.randint(10, labels.shape, generator=generator), labels)


def drop_own_seed(labels, null, p, generator):
    """For results that can be repeated one seeds right before one draws, as in every tutorial."""
    dropped = torch.rand(len(labels), generator=torch.Generator().manual_seed(len(labels) + round(p * 10))) < p
    return torch.where(dropped, null, labels)


def drop_no_generator(labels, null, p, generator):
    """The generator is an argument that nothing seems to need."""
    return torch.where(torch.rand(len(labels)) < p, null, labels)


def drop_in_place(labels, null, p, generator):
    """Indexing by a mask and writing is the shortest way, and spoils the labels of the data set."""
    labels[torch.rand(len(labels), generator=generator) < p] = null
    return labels


# 10.interval


def between_by_if(cond, uncond, scale, low, high):
    def denoise(x, level):
        if not low <= level.sigma <= high:
            return cond(x, level)
        plain = uncond(x, level)
        return plain + scale * (cond(x, level) - plain)

    return denoise


def between_by_scale(cond, uncond, scale, low, high):
    def denoise(x, level):
        wanted = cond(x, level)
        now = scale if low <= level.sigma and level.sigma <= high else 1
        return wanted if now == 1 else now * wanted + (1 - now) * uncond(x, level)

    return denoise


def between_uncond_outside(cond, uncond, scale, low, high):
    """"No guidance" is taken for scale 0, and in our numbering that is no condition at all."""

    def denoise(x, level):
        now = scale if low <= level.sigma <= high else 0.0
        return uncond(x, level) + now * (cond(x, level) - uncond(x, level))

    return denoise


def between_inside_out(cond, uncond, scale, low, high):
    """The early return is written for the wrong one of the two cases."""

    def denoise(x, level):
        if low <= level.sigma <= high:
            return cond(x, level)
        return uncond(x, level) + scale * (cond(x, level) - uncond(x, level))

    return denoise


def between_one_end(cond, uncond, scale, low, high):
    """Guidance hurts at the noisy end, says the text, so the other end is not looked at."""

    def denoise(x, level):
        if level.sigma > high:
            return cond(x, level)
        return uncond(x, level) + scale * (cond(x, level) - uncond(x, level))

    return denoise


def between_times(cond, uncond, scale, low, high):
    """Programs give the interval in steps or in t, and a level has a t."""

    def denoise(x, level):
        if not low <= level.t <= high:
            return cond(x, level)
        return uncond(x, level) + scale * (cond(x, level) - uncond(x, level))

    return denoise


def between_wasteful(cond, uncond, scale, low, high):
    """Both answers are fetched in the first two lines, as in the function without an interval."""

    def denoise(x, level):
        wanted, plain = cond(x, level), uncond(x, level)
        return plain + scale * (wanted - plain) if low <= level.sigma <= high else wanted

    return denoise


def between_never(cond, uncond, scale, low, high):
    """The comparison is made with a table's integer level or a wrong sign, and is true nowhere."""

    def denoise(x, level):
        if not low <= -level.sigma <= high:
            return cond(x, level)
        return uncond(x, level) + scale * (cond(x, level) - uncond(x, level))

    return denoise


def between_always(cond, uncond, scale, low, high):
    """InvokeAI #521 asks for a scale for each step: at first there is one constant, whatever the level."""

    def denoise(x, level):
        return uncond(x, level) + scale * (cond(x, level) - uncond(x, level))

    return denoise


# 10.classifier


def steer_by_tweedie(uncond, log_prob, scale):
    def denoise(x, level):
        with torch.enable_grad():
            probe = x.detach().requires_grad_()
            (slope,) = torch.autograd.grad(log_prob(probe, level).sum(), probe)
        return uncond(x, level) + scale * level.sigma**2 / level.alpha * slope

    return denoise


def steer_by_eps(uncond, log_prob, scale):
    def denoise(x, level):
        probe = x.clone().detach().requires_grad_(True)
        with torch.enable_grad():
            log_prob(probe, level).sum().backward()
        eps = (x - level.alpha * uncond(x, level)) / level.sigma
        eps = eps - scale * level.sigma * probe.grad
        return (x - level.sigma * eps) / level.alpha

    return denoise


def steer_by_func(uncond, log_prob, scale):
    def denoise(x, level):
        with torch.enable_grad():
            slope = torch.func.grad(lambda y: log_prob(y, level).sum())(x)
        return uncond(x, level) + scale * (level.sigma / level.alpha) * level.sigma * slope.detach()

    return denoise


def slope_of(log_prob, x, level, reduce=torch.sum):
    with torch.enable_grad():
        probe = x.detach().requires_grad_()
        return torch.autograd.grad(reduce(log_prob(probe, level)), probe)[0]


def steer_with(factor, reduce=torch.sum):
    """A right answer but for the factor of the slope, or for what the slope is of."""

    def steer(uncond, log_prob, scale):
        return lambda x, level: uncond(x, level) + scale * factor(level) * slope_of(log_prob, x, level, reduce)

    return steer


def steer_away():
    """Losses are gone down: the habit of every training loop puts a minus before a gradient."""
    return steer_with(lambda level: -(level.sigma**2) / level.alpha)


def steer_as_eps():
    """eps - sigma * slope is the published line, and its sigma is carried over to x0."""
    return steer_with(lambda level: level.sigma)


def steer_no_alpha():
    """In the frame of many papers alpha is 1, and Tweedie's formula is x + sigma^2 * score."""
    return steer_with(lambda level: level.sigma**2)


def steer_mean():
    """guided-diffusion #51: the sum over the batch looks like a bug, so a mean is taken."""
    return steer_with(lambda level: level.sigma**2 / level.alpha, torch.mean)


def steer_bare():
    """Guidance is told as "add the gradient", and a scale is there to set its size."""
    return steer_with(lambda level: 1.0)


def steer_of_p():
    """A classifier gives probabilities, so it is the slope of the probability that is taken."""
    return steer_with(lambda level: level.sigma**2 / level.alpha, lambda log: log.exp().sum())


def steer_without_grad(uncond, log_prob, scale):
    """denoising-diffusion-pytorch and others sample under no_grad; the slope was tried outside a sampler."""

    def denoise(x, level):
        probe = x.detach().requires_grad_()
        slope = torch.autograd.grad(log_prob(probe, level).sum(), probe)[0]
        return uncond(x, level) + scale * level.sigma**2 / level.alpha * slope

    return denoise


def steer_own_x(uncond, log_prob, scale):
    """Tutorials on gradients write x.requires_grad_() on the tensor at hand, and there it does no harm."""

    def denoise(x, level):
        with torch.enable_grad():
            x = x.requires_grad_()
            slope = torch.autograd.grad(log_prob(x, level).sum(), x)[0]
        return uncond(x, level) + scale * level.sigma**2 / level.alpha * slope

    return denoise


def steer_attached(uncond, log_prob, scale):
    """Everything stands inside the block that switches the gradients on, the return as well."""

    def denoise(x, level):
        with torch.enable_grad():
            probe = x.detach().requires_grad_()
            slope = torch.autograd.grad(log_prob(probe, level).sum(), probe)[0]
            return uncond(probe, level) + scale * level.sigma**2 / level.alpha * slope

    return denoise


RIGHT = {
    "10.cfg": [guide_one_formula, guide_by_factors, guide_by_lerp],
    "10.dropout": [drop_where, drop_by_bernoulli, drop_by_loop],
    "10.interval": [between_by_if, between_by_scale],
    "10.classifier": [steer_by_tweedie, steer_by_eps, steer_by_func],
}
WRONG = {
    "10.cfg": [
        (guide_sign, "have to add up to 1"), (guide_from_cond, "You start from cond"),
        (guide_ignores_convention, "counts from cond"), (guide_backwards, "add 1 to it"),
        (guide_swapped, "have changed places"), (guide_plus, "MINUS w uncond"), (guide_clipped, "goes beyond cond"),
        (guide_no_brackets, "both parts of the difference"),
    ],
    "10.dropout": [
        (drop_to_zero, "0 is a class"), (drop_kept, "here it is 1 - p"), (drop_all_or_none, "one coin for all"),
        (drop_first_ones, "always the same places"), (drop_to_any_class, "would be a false label"),
        (drop_own_seed, "do not seed anything"), (drop_no_generator, "comes from elsewhere"),
        (drop_in_place, "Others still need your input"),
    ],
    "10.interval": [
        (between_uncond_outside, "there still is a condition"), (between_inside_out, "Turned inside out"),
        (between_one_end, "has two ends"), (between_times, "not `level.t`"), (between_wasteful, "thrown away"),
        (between_never, "Never guided"), (between_always, "Guided at every level"),
    ],
    "10.classifier": [
        (steer_away, "leads away"), (steer_as_eps, "takes from EPS"), (steer_no_alpha, "divide by alpha"),
        (steer_mean, "a mean divides"), (steer_bare, "no right size"), (steer_of_p, "a logarithm already"),
        (steer_own_x, "was switched to gradients"),
        (steer_without_grad, "Samplers run without gradients"), (steer_attached, "hangs on its gradients"),
    ],
}  # fmt: skip
