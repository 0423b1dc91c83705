"""Answers to the exercises of lesson 13."""

import torch
import torch.nn.functional as F

# 13.frechet


def frechet_eigenvalues(real, made):
    m, w = real.mean(0), made.mean(0)
    c, d = torch.cov(real.T), torch.cov(made.T)
    shared = torch.linalg.eigvals(c @ d).real.clamp(min=0).sqrt().sum()
    return (m - w).square().sum() + c.trace() + d.trace() - 2 * shared


def frechet_singular_values(real, made):
    """The nuclear norm of the product of two roots of the covariances, by the centred rows themselves."""
    a = (real - real.mean(0, keepdim=True)) / (len(real) - 1) ** 0.5
    b = (made - made.mean(0, keepdim=True)) / (len(made) - 1) ** 0.5
    step = real.mean(0) - made.mean(0)
    return float(step @ step + (a**2).sum() + (b**2).sum() - 2 * torch.linalg.svdvals(a @ b.T).sum())


def frechet_with(
    between=lambda m, w: (m - w).square().sum(),
    cov=lambda x: torch.cov(x.T),
    shared=lambda c, d: 2 * torch.linalg.eigvals(c @ d).real.clamp(min=0).sqrt().sum(),
    end=lambda value: value,
):
    """A right answer but for one of its parts."""

    def frechet(real, made):
        c, d = cov(real), cov(made)
        return end(between(real.mean(0), made.mean(0)) + c.trace() + d.trace() - shared(c, d))

    return frechet


def root_of(c):
    values, vectors = torch.linalg.eigh(c)
    return (vectors * values.clamp(min=0).sqrt()) @ vectors.T


def frechet_one_root():
    """The 2 of the formula stands before a long root, and is lost when it is copied."""
    return frechet_with(shared=lambda c, d: torch.linalg.eigvals(c @ d).real.clamp(min=0).sqrt().sum())


def frechet_root_of_entries():
    """.sqrt() is a root, and the matrix is a tensor, so it seems to be the root of the matrix."""
    return frechet_with(shared=lambda c, d: 2 * (c @ d).sqrt().trace())


def frechet_roots_apart():
    """A root of each covariance is easy to get, and the root of a product is the product of roots, for numbers."""
    return frechet_with(shared=lambda c, d: 2 * (root_of(c) @ root_of(d)).trace())


def frechet_of_variances(real, made):
    """One bell curve for each feature by itself, which needs no matrices at all."""
    s, t = real.std(0), made.std(0)
    return ((real.mean(0) - made.mean(0)) ** 2 + (s - t) ** 2).sum()


def frechet_of_deviations(real, made):
    """std and var are one word apart, and the formula of variances is remembered for numbers."""
    s, t = real.std(0), made.std(0)
    return ((real.mean(0) - made.mean(0)) ** 2 + s + t - 2 * (s * t).sqrt()).sum()


def frechet_uncentred():
    """E[x x^T] is what a covariance is for features of mean 0, and features are believed to be so."""
    return frechet_with(cov=lambda x: x.T @ x / len(x))


def frechet_rooted():
    """It is called a distance, and distances end with a root."""
    return frechet_with(end=lambda value: value.clamp(min=0).sqrt())


def frechet_norm():
    """|m - m'| is written as a norm, and torch has one; its square is overlooked."""
    return frechet_with(between=lambda m, w: (m - w).norm())


def frechet_mean_of_squares():
    """Squared errors are averaged everywhere else in this course."""
    return frechet_with(between=lambda m, w: (m - w).square().mean())


def frechet_means_alone(real, made):
    """Two crowds are compared by their averages, as one does with heights and incomes."""
    return (real.mean(0) - made.mean(0)).square().sum()


def frechet_biased():
    """A mean of squared distances from the mean divides by n, as any mean does."""
    return frechet_with(cov=lambda x: torch.cov(x.T, correction=0))


def frechet_of_rows():
    """`torch.cov` is the one function of torch that wants features first."""
    return frechet_with(cov=torch.cov)


def frechet_without_root():
    """The exponent 1/2 behind a bracket is read over: the product alone is traced."""
    return frechet_with(shared=lambda c, d: 2 * (c @ d).trace())


# 13.kernel


def kernel_tables(real, made):
    def inner(a):
        table = (a @ a.T / a.shape[1] + 1) ** 3
        return (table.sum() - table.diagonal().sum()) / (len(a) * (len(a) - 1))

    return inner(real) + inner(made) - 2 * ((real @ made.T / real.shape[1] + 1) ** 3).mean()


def kernel_by_a_mask(real, made):
    both = torch.cat([real, made])
    likeness = (1 + both @ both.T / both.shape[1]).pow(3)
    n, m = len(real), len(made)
    others = ~torch.eye(n + m, dtype=torch.bool)
    a, b = likeness[:n, :n][others[:n, :n]].mean(), likeness[n:, n:][others[n:, n:]].mean()
    return (a + b - likeness[:n, n:].mean() - likeness[n:, :n].mean()).item()


def kernel_with(power=3, by=None, plus=1, kept=False, square=False, times=2, cross=False, end=lambda value: value):
    """A right answer but for one of its numbers."""

    def kernel_distance(real, made):
        def table(a, b):
            return (a @ b.T / (by or a.shape[1]) + plus) ** power

        def inner(a):
            n, of = len(a), table(a, a)
            if kept:
                return of.mean()
            return (of.sum() - of.trace()) / (n * n if square else n * (n - 1))

        between = table(real, made)
        if cross:
            few = min(between.shape)
            mean = (between.sum() - between.diagonal().sum()) / (between.numel() - few)
        else:
            mean = between.mean()
        return end(inner(real) + inner(made) - times * mean)

    return kernel_distance


def kernel_diagonal():
    """The mean of a table is `.mean()`, and nobody thinks of the pictures that meet themselves in it."""
    return kernel_with(kept=True)


def kernel_normaliser():
    """The diagonal is taken out of the sum, and the number of pairs is left as it was."""
    return kernel_with(square=True)


def kernel_second_power():
    """Squares are what kernels of this kind are taught with."""
    return kernel_with(power=2)


def kernel_without_d():
    """A dot product seems to need no division; the published one divides by the width of the layer."""
    return kernel_with(by=1)


def kernel_without_one():
    """The constant looks like a safeguard against zeros that can be left out."""
    return kernel_with(plus=0)


def kernel_once():
    """Three means, two with a plus and one with a minus, look complete."""
    return kernel_with(times=1)


def kernel_cross_diagonal():
    """What is done to two of the tables is done to the third as well."""
    return kernel_with(cross=True)


def kernel_rooted():
    """A squared discrepancy is rooted to give a distance, and kept from going below 0."""
    return kernel_with(end=lambda value: value.clamp(min=0).sqrt())


# 13.precision


def precision_cdist(real, made, k):
    def radius(x):
        return torch.cdist(x, x).kthvalue(k + 1, dim=1).values

    apart = torch.cdist(real, made)
    precision = (apart <= radius(real)[:, None]).any(0).double().mean()
    recall = (apart <= radius(made)).any(1).double().mean()
    return precision, recall


def precision_by_sorting(real, made, k):
    def share(balls, asked):
        own = (balls[:, None] - balls[None]).norm(dim=-1).sort(dim=1).values[:, k]
        hits = [bool(((balls - x).norm(dim=-1) <= own).any()) for x in asked]
        return sum(hits) / len(hits)

    return [share(real, made), share(made, real)]


def precision_with(radius=lambda x, k: torch.cdist(x, x).kthvalue(k + 1, dim=1).values,
                   say=lambda inside, dim: inside.any(dim).double().mean(), power=1, balls=False,
                   turned=False):  # fmt: skip
    """A right answer but for one of its parts."""

    def precision_recall(real, made, k):
        apart = torch.cdist(real, made) ** power
        in_real, in_made = apart <= radius(real, k)[:, None], apart <= radius(made, k)
        if balls:
            in_real, in_made = in_made, in_real
        both = say(in_real, 0), say(in_made, 1)
        return both[::-1] if turned else both

    return precision_recall


def precision_exchanged():
    """Precision and recall are mixed up by everybody at first, also outside of pictures."""
    return precision_with(turned=True)


def precision_counts_itself():
    """The k-th smallest of the distances is the k-th neighbour, one thinks, and forgets the 0 in each row."""
    return precision_with(radius=lambda x, k: torch.cdist(x, x).kthvalue(k, dim=1).values)


def precision_own_balls():
    """Each picture asks for neighbours within its own reach, as people do."""
    return precision_with(balls=True)


def precision_all_balls():
    """any and all are one word apart, and a made picture should please every real one, it seems."""
    return precision_with(say=lambda inside, dim: inside.all(dim).double().mean())


def precision_one_radius():
    """One threshold for all is simpler, and the mean radius looks like a fair one."""
    return precision_with(radius=lambda x, k: torch.cdist(x, x).kthvalue(k + 1, 1).values.mean().expand(len(x)))


def precision_nearest():
    """The nearest neighbour is the one that comes to mind, and k is left unused."""
    return precision_with(radius=lambda x, k: torch.cdist(x, x).kthvalue(2, dim=1).values)


def precision_squared():
    """Squared distances save a root, but only one of the two sides is changed."""
    return precision_with(power=2)


def precision_counts():
    """Hits are summed, and that there are more made ones than real ones is overlooked."""
    return precision_with(say=lambda inside, dim: inside.any(dim).double().sum())


def precision_pairs():
    """The mean of the whole table of True and False is a share too."""
    return precision_with(say=lambda inside, dim: inside.double().mean())


# 13.bootstrap


def interval_loop(statistic, values, times, generator):
    drawn = []
    for _ in range(times):
        rows = torch.randint(len(values), (len(values),), generator=generator)
        drawn.append(float(statistic(values[rows])))
    low, high = torch.tensor(drawn).quantile(torch.tensor([0.025, 0.975]))
    return low, high


def interval_sorted(statistic, values, times, generator):
    n = len(values)
    u = torch.rand(times, n, generator=generator)
    answers = sorted(statistic(values[row]) for row in (u * n).long())
    out = round(0.025 * times)
    return answers[out], answers[-1 - out]


def interval_with(
    draw=lambda values, generator: values[torch.randint(len(values), (len(values),), generator=generator)],
    ends=lambda drawn: drawn.quantile(torch.tensor([0.025, 0.975])),
):
    """A right answer but for how it draws, or for its ends."""

    def interval(statistic, values, times, generator):
        return tuple(ends(torch.tensor([statistic(draw(values, generator)) for _ in range(times)])))

    return interval


def interval_shuffles():
    """"Resample" is taken for "shuffle", and randperm is the function of that kind one knows."""
    return interval_with(draw=lambda values, g: values[torch.randperm(len(values), generator=g)])


def interval_of_numbers():
    """Every number is data, so numbers are drawn, and filled in again in the same shape."""

    def draw(values, g):
        flat = values.flatten()
        return flat[torch.randint(len(flat), values.shape, generator=g)]

    return interval_with(draw=draw)


def interval_of_half():
    """A sample is less than the whole, so half of the pictures are drawn."""
    return interval_with(draw=lambda values, g: values[torch.randint(len(values), (len(values) // 2,), generator=g)])


def interval_of_the_values(statistic, values, times, generator):
    """The standard error of the textbook, from the pictures' own statistics and without a draw."""
    each = torch.tensor([statistic(row[None]) for row in values])
    half = 1.96 * each.std() / len(values) ** 0.5
    return each.mean() - half, each.mean() + half


def interval_same_draw():
    """A seed is set inside the loop, so that the result can be repeated."""

    def draw(values, g):
        again = torch.Generator().manual_seed(0)
        return values[torch.randint(len(values), (len(values),), generator=again)]

    return interval_with(draw=draw)


def interval_ninety():
    """5% are to be left out, and so 0.05 is written at both ends."""
    return interval_with(ends=lambda drawn: drawn.quantile(torch.tensor([0.05, 0.95])))


def interval_min_max():
    """The range of what was seen looks like the range of what is possible."""
    return interval_with(ends=lambda drawn: (drawn.min(), drawn.max()))


def interval_of_deviations():
    """Mean and 1.96 standard deviations are an interval everywhere else in statistics."""
    return interval_with(ends=lambda drawn: (drawn.mean() - 1.96 * drawn.std(), drawn.mean() + 1.96 * drawn.std()))


def interval_divided():
    """A standard error is a deviation over the root of n, so the draws' deviation is divided once more."""

    def ends(drawn):
        half = 1.96 * drawn.std() / len(drawn) ** 0.5
        return drawn.mean() - half, drawn.mean() + half

    return interval_with(ends=ends)


def interval_turned():
    """The larger number is written first, as one says it of scores."""
    return interval_with(ends=lambda drawn: drawn.quantile(torch.tensor([0.975, 0.025])))


def interval_own_dice():
    """torch.randint draws without being handed a generator, so none is handed over."""
    return interval_with(draw=lambda values, g: values[torch.randint(len(values), (len(values),))])


# 13.copying


def copying_table(train, held_out, made):
    near, far = (torch.cdist(x, train).amin(1) for x in (made, held_out))
    wins = (near[:, None] < far).double() + (near[:, None] == far).double() / 2
    return wins.mean()


def copying_by_counting(train, held_out, made):
    def reach(x):
        return [min((x_i - t).norm().item() for t in train) for x_i in x]

    near, far = reach(made), reach(held_out)
    points = sum(1.0 if a < b else 0.5 if a == b else 0.0 for a in near for b in far)
    return points / (len(near) * len(far))


def half_for_ties(near, far):
    return ((near[:, None] < far).double() + (near[:, None] == far) / 2).mean()


def copying_with(reach=lambda x, train: torch.cdist(x, train).amin(1), say=half_for_ties):
    """A right answer but for its distances, or for how they are compared."""
    return lambda train, held_out, made: say(reach(made, train), reach(held_out, train))


def copying_turned():
    """Large distances are good news, so it is counted how often a made picture is farther away."""
    return copying_with(say=lambda near, far: ((near[:, None] > far).double() + (near[:, None] == far) / 2).mean())


def copying_strict():
    """Nearer is nearer: `<` says what the sentence says, and ties are not thought of."""
    return copying_with(say=lambda near, far: (near[:, None] < far).double().mean())


def copying_not_strict():
    """`<=` seems the safe choice where a copy is to be caught."""
    return copying_with(say=lambda near, far: (near[:, None] <= far).double().mean())


def copying_in_pairs():
    """Two lists of distances, compared place by place as tensors are."""
    return copying_with(say=lambda near, far: ((near < far).double() + (near == far) / 2).mean())


def copying_ratio():
    """"How much nearer" is asked in everyday speech, and answered by a quotient."""
    return copying_with(say=lambda near, far: near.mean() / far.mean())


def copying_other_axis():
    """cdist gives a table, and amin(0) is the shorter thing to write."""
    return copying_with(reach=lambda x, train: torch.cdist(x, train).amin(0))


def copying_mean_distance():
    """The distance to a set is taken for the mean of the distances to its members."""
    return copying_with(reach=lambda x, train: torch.cdist(x, train).mean(1))


def copying_threshold():
    """One typical held-out distance is easier to compare with than all of them."""
    return copying_with(say=lambda near, far: (near < far.mean()).double().mean())


def copying_no_held_out(train, held_out, made):
    """How near the training pictures are to each other seems to be the natural measure of near."""
    near = torch.cdist(made, train).amin(1)
    own = torch.cdist(train, train).kthvalue(2, dim=1).values
    return ((near[:, None] < own).double() + (near[:, None] == own) / 2).mean()


# 13.probe


def probe_lstsq(features, labels, train):
    x = torch.cat([features, torch.ones(len(features), 1, dtype=features.dtype)], 1)
    weights = torch.linalg.lstsq(x[:train], F.one_hot(labels).to(x)[:train]).solution
    said = (x[train:] @ weights).argmax(1)
    return (said == labels[train:]).double().mean()


def probe_sklearn(features, labels, train):
    from sklearn.linear_model import LinearRegression

    names = labels.unique()
    targets = (labels[:, None] == names).double()
    model = LinearRegression().fit(features[:train].numpy(), targets[:train].numpy())
    said = names[torch.from_numpy(model.predict(features[train:].numpy())).argmax(1)]
    return float((said == labels[train:]).float().mean())


def probe_with(fit=lambda n, train: slice(train), score=lambda n, train: slice(train, n), ones=True, names=True,
               say=lambda right: right.double().mean()):  # fmt: skip
    """A right answer but for one of its parts."""

    def probe(features, labels, train):
        x, n = features, len(features)
        if ones:
            x = torch.cat([x, torch.ones(n, 1, dtype=x.dtype)], 1)
        target = F.one_hot(labels).to(x) if names else labels.to(x)[:, None]
        a, b = fit(n, train), score(n, train)
        answer = x[b] @ torch.linalg.lstsq(x[a], target[a]).solution
        said = answer.argmax(1) if names else answer[:, 0].round().long()
        return say(said == labels[b])

    return probe


def probe_on_training():
    """The fit has just been made, and its own rows are at hand to score it."""
    return probe_with(score=lambda n, train: slice(train))


def probe_leaks():
    """The weights are fitted once to everything, and the split comes in only when it is scored."""
    return probe_with(fit=lambda n, train: slice(n))


def probe_all():
    """`train` is taken for a switch, or for a number of steps, and not used at all."""
    return probe_with(fit=lambda n, train: slice(n), score=lambda n, train: slice(n))


def probe_through_zero():
    """"Linear" is taken literally: a matrix and nothing else."""
    return probe_with(ones=False)


def probe_of_numbers():
    """Labels are whole numbers, so they are fitted as numbers and rounded."""
    return probe_with(names=False)


def probe_errors():
    """The error rate is what papers often print."""
    return probe_with(say=lambda right: (~right).double().mean())


def probe_counts():
    """The number of hits is printed first, and the division is put off."""
    return probe_with(say=lambda right: right.sum())


RIGHT = {
    "13.frechet": [frechet_eigenvalues, frechet_singular_values],
    "13.kernel": [kernel_tables, kernel_by_a_mask],
    "13.precision": [precision_cdist, precision_by_sorting],
    "13.bootstrap": [interval_loop, interval_sorted],
    "13.copying": [copying_table, copying_by_counting],
    "13.probe": [probe_lstsq, probe_sklearn],
}
WRONG = {
    "13.frechet": [
        (frechet_one_root, "subtracted twice"), (frechet_root_of_entries, "a root of each entry"),
        (frechet_roots_apart, "Multiply first"), (frechet_of_variances, "the variance of each feature"),
        (frechet_of_deviations, "where variances belong"), (frechet_uncentred, "still in your covariance"),
        (frechet_rooted, "reported SQUARED"), (frechet_norm, "counts squared"), (frechet_mean_of_squares, "SUMMED"),
        (frechet_means_alone, "Only the means"), (frechet_biased, "n - 1"), (frechet_without_root, "is missing"),
        (frechet_of_rows, "one ROW for each feature"),
    ],
    "13.kernel": [
        (kernel_diagonal, "compared with itself"), (kernel_normaliser, "The diagonal is out"),
        (kernel_second_power, "THIRD power"), (kernel_without_d, "number of features d"),
        (kernel_without_one, "1 is added"), (kernel_once, "counts twice"), (kernel_cross_diagonal, "meets himself"),
        (kernel_rooted, "took a root"),
    ],
    "13.precision": [
        (precision_exchanged, "changed places"), (precision_counts_itself, "is itself"),
        (precision_own_balls, "Whose balls"), (precision_all_balls, "not of all of them"),
        (precision_one_radius, "a radius of its own"), (precision_nearest, "stops at the nearest"),
        (precision_squared, "one of yours is squared"), (precision_counts, "counts pictures"),
        (precision_pairs, "averages over all pairs"),
    ],
    "13.bootstrap": [
        (interval_shuffles, "WITH replacement"), (interval_of_numbers, "and not pictures"),
        (interval_of_half, "as many pictures as there are"), (interval_of_the_values, "of them, and take"),
        (interval_same_draw, "the same one"), (interval_ninety, "90% of the draws"), (interval_min_max, "move on"),
        (interval_of_deviations, "lopsided"), (interval_divided, "once more"), (interval_turned, "Low comes first"),
        (interval_own_dice, "the same interval"),
    ],
    "13.copying": [
        (copying_turned, "Turned round"), (copying_strict, "somebody let"), (copying_not_strict, "count whole"),
        (copying_in_pairs, "not belong together"), (copying_ratio, "A ratio"),
        (copying_other_axis, "of each TRAINING picture"), (copying_mean_distance, "not the mean"),
        (copying_threshold, "their spread is lost"), (copying_no_held_out, "Near compared with what"),
    ],
    "13.probe": [
        (probe_on_training, "it was FITTED to"), (probe_leaks, "were fitted too"), (probe_all, "nothing is held out"),
        (probe_through_zero, "A constant is missing"), (probe_of_numbers, "Labels are names"),
        (probe_errors, "share of mistakes"), (probe_counts, "This is a count"),
    ],
}  # fmt: skip
