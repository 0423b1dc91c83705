"""Answers to the exercises of lesson 01."""

import math

import torch
from torch import nn

# 01.pca


def pca_by_svd(seen, new, k):
    mean = seen.mean(0)
    directions = torch.linalg.svd(seen - mean, full_matrices=False)[2][:k]
    z = (new - mean) @ directions.T
    return z, mean + z @ directions


def pca_by_covariance(seen, new, k):
    mean = seen.mean(dim=0, keepdim=True)
    _, columns = torch.linalg.eigh(torch.cov(seen.T))
    best = columns[:, -k:].flip(1)
    z = torch.einsum("md,dk->mk", new - mean, best)
    return z, torch.einsum("mk,dk->md", z, best) + mean


def pca_one_by_one(seen, new, k):
    """The strongest direction by doubling the covariance again and again, then the next in what is left."""
    mean = seen.double().mean(0)
    left, of, latents, rebuilt = seen.double() - mean, new.double() - mean, [], mean.expand(len(new), -1)
    for _ in range(k):
        power = left.T @ left
        for _ in range(40):
            power = power @ power / power.norm() ** 2
        u = power[:, power.diagonal().argmax()]
        u = u / u.norm()
        latents.append(of @ u)
        rebuilt = rebuilt + latents[-1][:, None] * u
        left = left - (left @ u)[:, None] * u
    return torch.stack(latents, 1), rebuilt


def pca_no_mean(seen, new, k):
    """SVD is said to "be" PCA, so it is taken of the data as they are."""
    directions = torch.linalg.svd(seen, full_matrices=False)[2][:k]
    z = new @ directions.T
    return z, z @ directions


def pca_one_mean(seen, new, k):
    """`mean()` without an axis: in a notebook it prints a number, and nothing complains."""
    mean = seen.mean()
    directions = torch.linalg.svd(seen - mean, full_matrices=False)[2][:k]
    z = (new - mean) @ directions.T
    return z, mean + z @ directions


def pca_mean_lost(seen, new, k):
    """ajdawson/eofs #99, scikit-learn #16654: centred on the way in, and nothing added on the way out."""
    z, rebuilt = pca_by_svd(seen, new, k)
    return z, rebuilt - seen.mean(0)


def pca_own_mean(seen, new, k):
    """"Centre the data" is done to whatever data are at hand, new ones too."""
    directions = torch.linalg.svd(seen - seen.mean(0), full_matrices=False)[2][:k]
    z = (new - new.mean(0)) @ directions.T
    return z, new.mean(0) + z @ directions


def pca_of_new(seen, new, k):
    """rushter/MLAlgorithms #17: the example fitted PCA with test data, too; fit_transform is one word."""
    return pca_by_svd(new, new, k) if k <= len(new) else pca_by_svd(seen, new, k)


def pca_weakest(seen, new, k):
    """TSne.jl #21, TurbuStat #35: eigh sorts from small to large, and the first k columns are taken."""
    mean = seen.mean(0)
    directions = torch.linalg.eigh(torch.cov(seen.T))[1][:, :k].T
    z = (new - mean) @ directions.T
    return z, mean + z @ directions


def pca_rows_of_eigh(seen, new, k):
    """eigh's matrix is read by rows, as one reads the components of scikit-learn."""
    mean = seen.mean(0)
    directions = torch.linalg.eigh(torch.cov(seen.T))[1].flip(1)[:k]
    z = (new - mean) @ directions.T
    return z, mean + z @ directions


def pca_whitened(seen, new, k):
    """Latents of unit spread are handy, and the way back is not told."""
    mean = seen.mean(0)
    _, s, directions = torch.linalg.svd(seen - mean, full_matrices=False)
    z = (new - mean) @ directions[:k].T / (s[:k] / math.sqrt(len(seen)))
    return z, mean + z @ directions[:k]


def pca_standardised(seen, new, k):
    """Recipes for tables of data begin with StandardScaler, since their columns have units."""
    mean, spread = seen.mean(0), seen.std(0)
    directions = torch.linalg.svd((seen - mean) / spread, full_matrices=False)[2][:k]
    z = (new - mean) / spread @ directions.T
    return z, mean + spread * (z @ directions)


def pca_raw_latents(seen, new, k):
    """The mean is a constant, so it seems to change nothing about the latents."""
    mean = seen.mean(0)
    directions = torch.linalg.svd(seen - mean, full_matrices=False)[2][:k]
    return new @ directions.T, mean + (new - mean) @ directions.T @ directions


# 01.how_many


def count_by_sum(variances, share):
    kept = variances.sort(descending=True).values.cumsum(0)
    return int((kept < share * variances.sum()).sum()) + 1


def count_by_loop(variances, share):
    left, k = sum(variances.tolist()) * share, 0
    for variance in sorted(variances.tolist(), reverse=True):
        if left <= 0:
            break
        left, k = left - variance, k + 1
    return k


def count_index(variances, share):
    """Argmax of "is it enough?" is an index, and indices count from 0."""
    kept = variances.sort(descending=True).values.cumsum(0) / variances.sum()
    return int((kept >= share).float().argmax())


def count_strictly(variances, share):
    """scikit-learn #15669 is about just this: is the share reached when it is exactly reached?"""
    kept = variances.sort(descending=True).values.cumsum(0) / variances.sum()
    return min(int((kept <= share).sum()) + 1, len(variances))


def count_unsorted(variances, share):
    """Eigenvalues come sorted from every function one has met, so nobody sorts."""
    return int((variances.cumsum(0) < share * variances.sum()).sum()) + 1


def count_rising(variances, share):
    """`sort()` sorts from small to large, as eigh does."""
    return int((variances.sort().values.cumsum(0) < share * variances.sum()).sum()) + 1


def count_spreads(variances, share):
    """Spreads are in the units of the pixels, and look like the better measure of size."""
    spread = variances.sort(descending=True).values.sqrt()
    return int((spread.cumsum(0) < share * spread.sum()).sum()) + 1


def count_no_total(variances, share):
    """explained_variance_ and explained_variance_ratio_ are taken for each other."""
    return int((variances.sort(descending=True).values.cumsum(0) < share).sum()) + 1


def count_lost(variances, share):
    """Is 0.9 what is kept, or what may be lost? Papers say both."""
    return count_by_sum(variances, 1 - share)


def count_strong_ones(variances, share):
    """A threshold for each direction by itself, as one cuts off small coefficients."""
    return int((variances >= (1 - share) * variances.max()).sum())


# 01.conv


def conv_by_stride(channels, latent):
    encoder = nn.Sequential(nn.Conv2d(channels, 8, 4, 2, 1), nn.SiLU(), nn.Conv2d(8, latent, 4, 2, 1))
    decoder = nn.Sequential(nn.ConvTranspose2d(latent, 8, 4, 2, 1), nn.SiLU(), nn.ConvTranspose2d(8, channels, 4, 2, 1))
    return encoder, decoder


def conv_by_pooling(channels, latent):
    encoder = nn.Sequential(
        nn.Conv2d(channels, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(8, latent, 3, padding=1),
        nn.MaxPool2d(2),
    )  # fmt: skip
    decoder = nn.Sequential(
        nn.Upsample(scale_factor=2), nn.Conv2d(latent, 8, 3, padding=1), nn.ReLU(), nn.Upsample(scale_factor=2),
        nn.Conv2d(8, channels, 3, padding=1), nn.Tanh(),
    )  # fmt: skip
    return encoder, decoder


def conv_by_shuffling(channels, latent):
    """Blocks of 4 x 4 pixels become channels, and back."""
    encoder = nn.Sequential(
        nn.PixelUnshuffle(4), nn.Conv2d(16 * channels, 8, 3, padding=1), nn.GELU(), nn.Conv2d(8, latent, 1)
    )
    decoder = nn.Sequential(
        nn.Conv2d(latent, 8, 1), nn.GELU(), nn.Conv2d(8, 16 * channels, 3, padding=1), nn.PixelShuffle(4)
    )
    return encoder, decoder


def conv_with_linear(channels, latent):
    """locuslab/convex_adversarial #15 and many more: a Linear after Flatten, worked out for 32 x 32."""
    encoder = nn.Sequential(nn.Conv2d(channels, 8, 4, 4), nn.SiLU(), nn.Flatten(), nn.Linear(8 * 64, latent * 64),
                            nn.Unflatten(1, (latent, 8, 8)))  # fmt: skip
    return encoder, conv_by_stride(channels, latent)[1]


def conv_flat(channels, latent):
    """A latent is called a vector everywhere, so the map is laid out flat."""
    encoder, decoder = conv_by_stride(channels, latent)
    return nn.Sequential(encoder, nn.Flatten()), decoder


def conv_no_padding(channels, latent):
    """tyiannak/deep_audio_features #23 is off by one; padding is left at its default of 0 and the rim is lost."""
    return nn.Sequential(nn.Conv2d(channels, 8, 3, 2), nn.SiLU(), nn.Conv2d(8, latent, 3, 2)), nn.Identity()


def conv_once(channels, latent):
    """"Stride 2" is done once, and the second layer just follows."""
    encoder = nn.Sequential(nn.Conv2d(channels, 8, 4, 2, 1), nn.SiLU(), nn.Conv2d(8, latent, 3, padding=1))
    return encoder, conv_by_stride(channels, latent)[1]


def conv_short(channels, latent):
    """Lasagne #711: the transposed convolution of 3x3 and stride 2 gives 31 where 32 went in."""
    decoder = nn.Sequential(
        nn.ConvTranspose2d(latent, 8, 3, 2, 1), nn.SiLU(), nn.ConvTranspose2d(8, channels, 3, 2, 1)
    )
    return conv_by_stride(channels, latent)[0], decoder


def conv_small(channels, latent):
    """Two convolutions down are mirrored by two convolutions, and only one of them doubles."""
    decoder = nn.Sequential(nn.Conv2d(latent, 8, 3, padding=1), nn.SiLU(), nn.ConvTranspose2d(8, channels, 4, 2, 1))
    return conv_by_stride(channels, latent)[0], decoder


def conv_to_32(channels, latent):
    """Upsample asks for a size, and 32 is the size of our pictures."""
    decoder = nn.Sequential(nn.Conv2d(latent, 8, 3, padding=1), nn.SiLU(), nn.Upsample(size=(32, 32)),
                            nn.Conv2d(8, channels, 3, padding=1))  # fmt: skip
    return conv_by_stride(channels, latent)[0], decoder


def conv_sigmoid(channels, latent):
    """AliJalalifar/Character_Animation #3, mikesj-public #9: the last activation of a tutorial with data in 0..1."""
    encoder, decoder = conv_by_stride(channels, latent)
    return encoder, nn.Sequential(decoder, nn.Sigmoid())


def conv_linear(channels, latent):
    """Shapes are the puzzle, and once they fit the activations are forgotten."""
    encoder = nn.Sequential(nn.Conv2d(channels, 8, 4, 2, 1), nn.Conv2d(8, latent, 4, 2, 1))
    return encoder, nn.Sequential(nn.ConvTranspose2d(latent, 8, 4, 2, 1), nn.ConvTranspose2d(8, channels, 4, 2, 1))


def conv_colours_only(channels, latent):
    """All pictures so far had three colours, so 3 is what is written."""
    return conv_by_stride(3, latent)


def conv_wide(channels, latent):
    """The number of hidden channels is given to the narrow place as well."""
    encoder = nn.Sequential(nn.Conv2d(channels, 8, 4, 2, 1), nn.SiLU(), nn.Conv2d(8, 16, 4, 2, 1))
    return encoder, conv_by_stride(channels, 16)[1]


def conv_broken_chain(channels, latent):
    """The number of channels is changed in one layer, and the next keeps the old one."""
    encoder = nn.Sequential(nn.Conv2d(channels, 16, 4, 2, 1), nn.SiLU(), nn.Conv2d(8, latent, 4, 2, 1))
    return encoder, conv_by_stride(channels, latent)[1]


# 01.psnr


def psnr_plain(x, rebuilt):
    error = (x - rebuilt.clamp(-1, 1)).square().flatten(1).mean(1)
    return 10 * torch.log10(4 / error)


def psnr_of_roots(x, rebuilt):
    shown = rebuilt.double().clip(min=-1.0, max=1.0)
    off = torch.linalg.vector_norm(x.double() - shown, dim=(1, 2, 3)) / math.sqrt(x[0].numel())
    return 20 * (math.log10(2) - off.log10())


def psnr_in_bytes(x, rebuilt):
    """Both as bytes 0..255 without rounding, one picture after the other."""
    a, b = ((v.clamp(-1, 1) + 1) * 127.5 for v in (x, rebuilt))
    return torch.stack([10 * (255**2 / (p - q).square().mean()).log10() for p, q in zip(a, b, strict=True)])


def psnr_with(peak=2.0, error=lambda d: d.square().flatten(1).mean(1), log=torch.log10, cut=True, factor=10):
    def psnr(x, rebuilt):
        return factor * log(peak**2 / error(x - (rebuilt.clamp(-1, 1) if cut else rebuilt)))

    return psnr


def psnr_peak_one():
    """jzyustc/MBRS #4: three people discuss whether it is 1, 2 or 255; skimage's default decides by the dtype."""
    return psnr_with(peak=1.0)


def psnr_bytes():
    """nothinglo/Deep-Photo-Enhancer #31: 255 stands in every formula that one looks up."""
    return psnr_with(peak=255.0)


def psnr_brightest(x, rebuilt):
    """leftthomas/SRGAN #153: the "peak" is read as the largest value that is there."""
    error = (x - rebuilt.clamp(-1, 1)).square().flatten(1).mean(1)
    return 10 * (x.flatten(1).amax(1) ** 2 / error).log10()


def psnr_roots():
    """The error is kept as its root, as one reports it, and 10 log10 stays."""
    return psnr_with(error=lambda d: d.square().flatten(1).mean(1).sqrt())


def psnr_natural():
    """`torch.log` is what one types for a logarithm."""
    return psnr_with(log=torch.log)


def psnr_sum():
    """A loss is a sum over pixels as often as a mean."""
    return psnr_with(error=lambda d: d.square().flatten(1).sum(1))


def psnr_batch():
    """F.mse_loss averages over everything, the batch too."""
    return psnr_with(error=lambda d: d.square().mean())


def psnr_uncut():
    """The loss in training is not cut, so neither is the report."""
    return psnr_with(cut=False)


def psnr_upside_down(x, rebuilt):
    """The fraction is turned round, as for a noise level in decibels."""
    error = (x - rebuilt.clamp(-1, 1)).square().flatten(1).mean(1)
    return 10 * torch.log10(error / 4)


# 01.holes


def holes_by_table(z, encoded):
    among = torch.cdist(encoded, encoded).fill_diagonal_(math.inf)
    return torch.cdist(z, encoded).amin(1) / among.amin(1).median()


def holes_by_sorting(z, encoded):
    """The second smallest of each row: the smallest is the latent itself."""
    usual = torch.cdist(encoded, encoded).sort(1).values[:, 1].median()
    return torch.cdist(z, encoded).topk(1, largest=False).values[:, 0] / usual


def holes_one_by_one(z, encoded):
    def nearest(point, others):
        return min((point - other).square().sum().sqrt().item() for other in others)

    own = sorted(nearest(point, [*encoded[:i], *encoded[i + 1 :]]) for i, point in enumerate(encoded))
    return torch.tensor([nearest(point, encoded) for point in z]) / own[len(own) // 2]


def holes_with_itself(z, encoded):
    """pysal #779, fiftyone #3305: nearest neighbours of a set within itself begin with oneself."""
    return torch.cdist(z, encoded).amin(1) / torch.cdist(encoded, encoded).amin(1).median()


def holes_mean_distance(z, encoded):
    """"How far from the others" is answered by an average."""
    among = torch.cdist(encoded, encoded).fill_diagonal_(math.inf)
    return torch.cdist(z, encoded).mean(1) / among.amin(1).median()


def holes_squared(z, encoded):
    """Squared distances are quicker to write, and have the same nearest."""
    among = (encoded[:, None] - encoded).square().sum(2).fill_diagonal_(math.inf)
    return (z[:, None] - encoded).square().sum(2).amin(1) / among.amin(1).median()


def holes_not_scaled(z, encoded):
    """The distance to the nearest is the answer already, it seems."""
    return torch.cdist(z, encoded).amin(1)


def holes_wrong_axis(z, encoded):
    """Dim 0 is the first one that one tries."""
    among = torch.cdist(encoded, encoded).fill_diagonal_(math.inf)
    return torch.cdist(z, encoded).amin(0) / among.amin(1).median()


def holes_farthest(z, encoded):
    """max and min are exchanged, as "far from everything" sounds like a maximum."""
    among = torch.cdist(encoded, encoded).fill_diagonal_(math.inf)
    return torch.cdist(z, encoded).amax(1) / among.amin(1).median()


def holes_by_mean(z, encoded):
    """"Usual" is read as the mean, which one loner can double."""
    among = torch.cdist(encoded, encoded).fill_diagonal_(math.inf)
    return torch.cdist(z, encoded).amin(1) / among.amin(1).mean()


def holes_from_centre(z, encoded):
    """How far out it is, as for an outlier of a bell curve."""
    among = torch.cdist(encoded, encoded).fill_diagonal_(math.inf)
    return (z - encoded.mean(0)).norm(dim=1) / among.amin(1).median()


def holes_among_themselves(z, encoded):
    """The usual distance is taken from the numbers at hand, those of z."""
    nearest = torch.cdist(z, encoded).amin(1)
    return nearest / nearest.median()


RIGHT = {
    "01.pca": [pca_by_svd, pca_by_covariance, pca_one_by_one],
    "01.how_many": [count_by_sum, count_by_loop],
    "01.conv": [conv_by_stride, conv_by_pooling, conv_by_shuffling],
    "01.psnr": [psnr_plain, psnr_of_roots, psnr_in_bytes],
    "01.holes": [holes_by_table, holes_by_sorting, holes_one_by_one],
}
WRONG = {
    "01.pca": [
        (pca_no_mean, "the cloud around its MEAN"), (pca_one_mean, "has a mean of its own"),
        (pca_mean_lost, "has to be added again"),
        (pca_own_mean, "use the mean of `seen`"), (pca_of_new, "learned from `seen` alone"),
        (pca_weakest, "the WEAKEST directions"), (pca_rows_of_eigh, "Rows and columns are exchanged"),
        (pca_whitened, "divided by its spread"), (pca_standardised, "Each pixel was divided"),
        (pca_raw_latents, "the latents are not"),
    ],
    "01.how_many": [
        (count_index, "An index counts from 0"), (count_strictly, "exactly reached counts"),
        (count_unsorted, "sort first"), (count_rising, "began with the smallest"), (count_spreads, "do not add up"),
        (count_no_total, "a part of the whole"), (count_lost, "what should be LOST"),
        (count_strong_ones, "the k largest TOGETHER"),
    ],
    "01.conv": [
        (conv_with_linear, "fits one size of picture"), (conv_flat, "The latents stay a map"),
        (conv_no_padding, "eats the rim"), (conv_once, "Twice halved"), (conv_short, "output_padding=1"),
        (conv_small, "one doubling on the way up"), (conv_to_32, "always draws one size"),
        (conv_sigmoid, "cannot go below 0"), (conv_linear, "one linear map"), (conv_colours_only, "is `channels`"),
        (conv_wide, "has `latent` channels"), (conv_broken_chain, "Each layer takes as many channels"),
    ],
    "01.psnr": [
        (psnr_peak_one, "the peak is 2"), (psnr_bytes, "255 is the peak"), (psnr_brightest, "what the scale allows"),
        (psnr_roots, "goes with SQUARES"), (psnr_natural, "powers of ten"), (psnr_sum, "not the sum"),
        (psnr_batch, "leave the batch alone"), (psnr_uncut, "Cut what is rebuilt"),
        (psnr_upside_down, "Upside down"),
    ],
    "01.holes": [
        (holes_with_itself, "is itself, at distance 0"), (holes_mean_distance, "To the NEAREST one"),
        (holes_squared, "squared distances"), (holes_not_scaled, "Divide by the usual distance"),
        (holes_wrong_axis, "over dim 1"), (holes_farthest, "to the FARTHEST"), (holes_by_mean, "is the MEDIAN"),
        (holes_from_centre, "says how far out"), (holes_among_themselves, "each to its nearest other"),
    ],
}  # fmt: skip
