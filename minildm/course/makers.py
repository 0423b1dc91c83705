"""Random inputs for the library's functions, for `check.same`: a table from function to maker.

A maker takes a generator and returns inputs: tuples of arguments, for a batch of one before larger ones. A dict
at the end of a tuple holds keyword arguments; an input is left out where the other function does not take them.
For a class of networks an input is (what one is made with, what it is then given).
Batches are also as long as the pictures are wide: only then does a missing `view(-1, 1, 1, 1)` go unseen by PyTorch.
"""

import math
from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from .. import clip, denoise, exact, layers, levels, sample, tasks, train, unet, vae, weights
from ..levels import Level

Maker = Callable[[torch.Generator], list[tuple]]

DTYPES = (torch.float32, torch.float64)
PICTURES = ((1, 3, 4, 4), (1, 1, 8, 8), (4, 3, 4, 4), (5, 4, 6, 2))
MOMENTS = ((1, 2), (1, 4, 2, 2), (4, 4), (3, 4, 3, 3))  # a latent is a vector in lesson 02, later a small picture


def draws(shapes: tuple, g: torch.Generator, count: int) -> Iterator[tuple[Tensor, ...]]:
    """For each dtype and shape, `count` normal draws."""
    for dtype in DTYPES:
        for shape in shapes:
            yield tuple(torch.randn(shape, dtype=dtype, generator=g) for _ in range(count))


def level_like(x: Tensor, g: torch.Generator) -> Level:
    """A variance-preserving level for each of the batch, neither clean nor pure noise."""
    t = torch.randint(1, 999, (len(x),), generator=g).to(x)
    angle = (0.05 + 0.9 * torch.rand(len(x), dtype=x.dtype, generator=g)) * math.pi / 2
    return Level(t, angle.cos(), angle.sin())


def two_and_a_level(g: torch.Generator) -> list[tuple]:
    """For `denoise`: two pictures, a level as in training and as in sampling, and every prediction."""
    found = []
    for a, b in draws(PICTURES, g, 2):
        level = level_like(a, g)
        for prediction in denoise.PREDICTIONS:
            found += [(a, b, level, prediction), (a, b, Level(500.0, 0.6, 0.8), prediction)]
    return found


def one_level(g: torch.Generator) -> list[tuple]:
    as_sampled = [(level,) for level in levels.cosine(50).rows()]
    return [(level_like(x, g),) for (x,) in draws(PICTURES, g, 1)] + as_sampled


def moments(g: torch.Generator) -> list[tuple]:
    return list(draws(MOMENTS, g, 2))


def moments_and_noise(g: torch.Generator) -> list[tuple]:
    return [(*pair, {"generator": torch.Generator().manual_seed(i)}) for i, pair in enumerate(moments(g))]


def small_vaes(g: torch.Generator) -> list[tuple]:
    """For `vae_loss`: small networks, pictures for them, and the weight of the KL term."""
    found = []
    for i, shape in enumerate(((1, 4, 4), (3, 4, 6))):
        for batch, weight in ((1, 0.2), (4, 0.0), (5, 3.0)):
            pixels = torch.randn(batch, *shape, generator=g)
            with torch.random.fork_rng():
                torch.manual_seed(i)
                model = vae.FlatVAE(shape, latent=2 + i, hidden=8)
            found.append((model, pixels, weight, {"generator": torch.Generator().manual_seed(batch)}))
    return found


def times(g: torch.Generator) -> list[tuple]:
    # Below 50: at t = 1000 a float32 angle is known to 6e-5 only, however its frequency was come by.
    found = [(torch.randint(50, (b,), generator=g), dim) for b in (1, 4, 8) for dim in (2, 8, 64)]
    return found + [(torch.rand(5, generator=g) * 50, 32)]


def fractions(g: torch.Generator) -> list[tuple]:
    points = [0.0, 0.01, 0.03, 0.5, 1.0, *torch.rand(20, generator=g).tolist()]
    return [(point,) for point in points] + [(point, {"warmup": 0.2}) for point in points]


def lengths(g: torch.Generator) -> list[tuple]:
    return [(steps,) for steps in (1000, 100, 50)]


def lengths_and_betas(g: torch.Generator) -> list[tuple]:
    return [*lengths(g), (1000, {"beta_start": 0.001, "beta_end": 0.02}), (200, {"beta_start": 1e-4, "beta_end": 0.05})]


def lengths_and_shifts(g: torch.Generator) -> list[tuple]:
    return [*lengths(g), *[(100, {"shift": shift}) for shift in (0.5, 1.0, 3.0)]]


def lengths_and_pieces(g: torch.Generator) -> list[tuple]:
    return [*lengths(g), (200, {"start": 0.0, "end": 3.0}), (200, {"start": -1.0, "end": 4.0, "tau": 0.7})]


def schedules(g: torch.Generator) -> list[tuple]:
    return [(levels.linear(),), (levels.scaled_linear(),), (levels.linear(100, 0.001, 0.1),), (levels.cosine(200),)]


def schedules_and_ratios(g: torch.Generator) -> list[tuple]:
    return [(*table, ratio) for table in schedules(g) for ratio in (0.5, 1.0, 2.0, 8.0)]


def rows(g: torch.Generator) -> list[tuple]:
    return [(levels.pick(levels.scaled_linear(), n),) for n in (1, 5, 20)]


def mixtures(g: torch.Generator) -> list[tuple]:
    """For `exact`: noisy points, a level as in sampling, and the data they came from: points, and wider modes."""
    found = []
    for (x,) in draws(PICTURES, g, 1):
        means = torch.randn(6, *x.shape[1:], dtype=x.dtype, generator=g)
        for level in (Level(500.0, 0.6, 0.8), Level(150.0, 0.95, 0.31)):
            found.append((x, level, means))
            wide = {"spread": torch.linspace(0.1, 0.6, 6, dtype=x.dtype), "weights": torch.arange(1, 7) / 21}
            found.append((x, level, means, wide))
    return found


def walks(g: torch.Generator) -> list[tuple]:
    """For samplers that draw no noise: a perfect denoiser, a start, and rows of several schedules."""
    found = []
    for i, (x,) in enumerate(draws(PICTURES, g, 1)):
        schedule = (levels.scaled_linear(), levels.linear(200), levels.flow(100))[i % 3]
        found.append((exact.denoiser(torch.full_like(x[:1], 0.3), 0.5), x, levels.pick(schedule, 2 + i)))
    return found


def drawing_walks(g: torch.Generator) -> list[tuple]:
    """For samplers that draw noise."""
    return [(*walk, {"generator": torch.Generator().manual_seed(i)}) for i, walk in enumerate(walks(g))]


def walks_by_eta(g: torch.Generator) -> list[tuple]:
    """For `ddim`: without noise, then with some and with all of it."""
    found = walks(g)
    for eta in (0.5, 1.0):
        found += [(*args, more | {"eta": eta}) for *args, more in drawing_walks(g)]
    return found


def resnets(g: torch.Generator) -> list[tuple]:
    """For `ResnetBlock`: as many channels as before, more and fewer; the batch is as long as the pictures are wide."""
    found = []
    for c_in, c_out, side in ((4, 8, 1), (4, 4, 4), (8, 4, 3)):
        for dtype in DTYPES:
            x = torch.randn(side, c_in, side, side, dtype=dtype, generator=g)
            found.append(((c_in, c_out, 2, 1e-5, 6), (x, torch.randn(side, 6, dtype=dtype, generator=g))))
    return found


def tokens(g: torch.Generator) -> list[tuple]:
    """For `Attention`: tokens that look at themselves, and at a context of another length and width."""
    found = []
    for dtype in DTYPES:
        for b, n, d, heads in ((1, 5, 8, 2), (3, 4, 8, 1), (2, 4, 8, 4)):
            x, context = (torch.randn(b, *size, dtype=dtype, generator=g) for size in ((n, d), (3, 6)))
            found += [((d, heads), (x,)), ((d, heads, 6), (x, context))]
    return found


def towers(g: torch.Generator) -> list[tuple]:
    """For `contrastive_loss`: unit vectors of pictures and texts, a scale; then with texts that are false of each."""
    found = []
    for dtype in DTYPES:
        for b, d, scale in ((1, 4, 1.0), (4, 4, 14.3), (8, 3, 30.0)):
            drawn = (torch.randn(*size, dtype=dtype, generator=g) for size in ((b, d), (b, d), (b, 2, d)))
            pictures, texts, false = (F.normalize(vectors, dim=-1) for vectors in drawn)
            found += [(pictures, texts, scale), (pictures, texts, scale, {"negatives": false})]
    return found


def unets(g: torch.Generator) -> list[tuple]:
    """For `UNet`, in float64 (so deep a network rounds by more than is allowed): with and without a prompt, both ways
    into a transformer, several blocks, and a size that cannot be halved twice."""
    plain = unet.UNetConfig(3, 3, (4, 8, 8), 1, (0, 0, 1), 1, (1, 1, 2), None, norm_num_groups=2)
    told = unet.UNetConfig(4, 4, (4, 8), 2, (1, 2), 2, (1, 4), 6, norm_num_groups=2)
    linear = unet.UNetConfig(2, 3, (8,), 1, (1,), 1, (2,), 6, linear_projection=True, norm_num_groups=4)
    found = []
    for config, b, side in ((plain, 1, 8), (told, 1, 4), (linear, 1, 3), (plain, 2, 6), (told, 3, 4)):
        x = torch.randn(b, config.in_channels, side, side, dtype=torch.float64, generator=g)
        given = (x, torch.randint(1000, (b,), generator=g))
        if config.context_dim:
            given += (torch.randn(b, 5, config.context_dim, dtype=torch.float64, generator=g),)
        found.append(((config,), given))
    return found


def given_pictures(g: torch.Generator) -> list[tuple]:
    """For `img2img`: the shipped model, pictures of two sizes, and strengths from none to all, also between steps."""
    pipe, found = weights.load("shapes"), []
    for b, width, strength in ((1, 32, 0.5), (1, 48, 0.3), (2, 32, 1.0), (2, 32, 0.0)):
        image = torch.rand(b, 3, 32, width, generator=g) * 2 - 1
        noise = torch.randn(b, *pipe.latent_shape(32, width), generator=g)
        found.append((pipe, "a red ring", image, strength, {"steps": 5, "scale": 3.0, "noise": noise}))
    return found


MAKERS: dict[Callable, Maker] = {
    clip.contrastive_loss: towers,
    levels.linear: lengths_and_betas,
    levels.scaled_linear: lengths_and_betas,
    levels.cosine: lengths,
    levels.flow: lengths_and_shifts,
    levels.sigmoid: lengths_and_pieces,
    levels.shifted: schedules_and_ratios,
    levels.zero_terminal_snr: schedules,
    levels.log_snr: one_level,
    levels.rescaled: rows,
    exact.log_density: mixtures,
    exact.posterior_mean: mixtures,
    layers.timestep_embedding: times,
    layers.ResnetBlock: resnets,
    layers.Attention: tokens,
    unet.UNet: unets,
    denoise.target: two_and_a_level,
    denoise.to_x0: two_and_a_level,
    denoise.to_output: two_and_a_level,
    sample.ddim: walks_by_eta,
    sample.ddpm: drawing_walks,
    sample.euler: walks,
    sample.heun: walks,
    sample.dpmpp_2m: walks,
    sample.pndm: walks,
    tasks.img2img: given_pictures,
    train.learning_rate: fractions,
    train.vae_loss: small_vaes,
    vae.kl_divergence: moments,
    vae.sample_latent: moments_and_noise,
}
