"""Answers to the exercises of lesson 07."""

import torch

from minildm import train

# 07.loss


def columns(schedule, t):
    return schedule.alpha[t].float()[:, None, None, None], schedule.sigma[t].float()[:, None, None, None]


def loss_by_columns(network, x0, t, eps, schedule):
    alpha, sigma = columns(schedule, t)
    out = network(alpha * x0 + sigma * eps, t)
    return (out - (alpha * eps - sigma * x0)).square().flatten(1).mean(1)


def loss_by_pictures(network, x0, t, eps, schedule):
    noisy, wanted = [], []
    for picture, noise, i in zip(x0, eps, t.tolist(), strict=True):
        alpha, sigma = float(schedule.alpha[i]), float(schedule.sigma[i])
        noisy.append(alpha * picture + sigma * noise)
        wanted.append(alpha * noise - sigma * picture)
    error = network(torch.stack(noisy), t) - torch.stack(wanted)
    return torch.einsum("bchw,bchw->b", error, error) / error[0].numel()


def loss_with(noisy=None, target=None, time=None, reduce=None):
    """A right loss but for the noisy picture, the target, the time that is told, or the mean."""

    def v_loss(network, x0, t, eps, schedule):
        alpha, sigma = columns(schedule, t)
        x = noisy(x0, t, eps, alpha, sigma) if noisy else alpha * x0 + sigma * eps
        v = target(x0, eps, alpha, sigma) if target else alpha * eps - sigma * x0
        error = network(x, time(t) if time else t) - v
        return reduce(error) if reduce else error.square().flatten(1).mean(1)

    return v_loss


def loss_of_the_clean():
    """The picture is handed to the network as it came from the data set, as when training a classifier."""
    return loss_with(noisy=lambda x0, t, eps, alpha, sigma: x0)


def loss_without_the_root():
    """1 - alpha-bar in the place of its root: How-Diffusion-Models-Work issue 1, labml issue 152."""
    return loss_with(noisy=lambda x0, t, eps, alpha, sigma: alpha * x0 + sigma**2 * eps)


def loss_with_a_root_too_many():
    """In papers alpha-bar is what has a root over it; the table's alpha and sigma have theirs already."""
    return loss_with(noisy=lambda x0, t, eps, alpha, sigma: alpha.sqrt() * x0 + sigma.sqrt() * eps)


def loss_with_noise_of_its_own():
    """`torch.randn_like` is what the loop of every tutorial draws at this place."""
    return loss_with(noisy=lambda x0, t, eps, alpha, sigma: alpha * x0 + sigma * torch.randn_like(x0))


def loss_of_one_level():
    """Tried on a batch of one, where the level of the first picture is the level of all."""
    return loss_with(noisy=lambda x0, t, eps, alpha, sigma: alpha[:1] * x0 + sigma[:1] * eps)


def loss_from_one():
    """Papers count the steps from 1 and tables from 0; somebody adds the one at the wrong place."""
    return loss_with(time=lambda t: t + 1)


def loss_of_eps():
    """The loss of the DDPM paper's eq. 14, copied, for a network that answers something else."""
    return loss_with(target=lambda x0, eps, alpha, sigma: eps)


def loss_of_x0():
    """The clean picture is what one wants in the end, so it is taken for the target."""
    return loss_with(target=lambda x0, eps, alpha, sigma: x0)


def loss_with_the_sign_turned():
    """Picture minus noise: the order in which one says it."""
    return loss_with(target=lambda x0, eps, alpha, sigma: sigma * x0 - alpha * eps)


def loss_with_factors_swapped():
    """alpha belongs to the picture everywhere else, so it is put there in v, too."""
    return loss_with(target=lambda x0, eps, alpha, sigma: sigma * eps - alpha * x0)


def loss_summed():
    """The norm in the paper's formula is a sum over all numbers."""
    return loss_with(reduce=lambda error: error.square().flatten(1).sum(1))


def loss_absolute():
    """`l1_loss` is known to be robust, and looks like the same with another name."""
    return loss_with(reduce=lambda error: error.abs().flatten(1).mean(1))


def loss_without_gradient():
    """`no_grad` is copied from the sampling loop, where it belongs."""

    @torch.no_grad()
    def v_loss(network, x0, t, eps, schedule):
        return loss_by_columns(network, x0, t, eps, schedule)

    return v_loss


# 07.ema


def ema_by_loop(path, decay):
    average = path[0]
    for k, weights in enumerate(path[1:]):
        d = min(decay, (1 + k) / (10 + k))
        average = d * average + (1 - d) * weights
    return average


def ema_by_shares(path, decay):
    share, total, remaining = [], 0, 1.0
    for k in reversed(range(len(path) - 1)):
        d = min(decay, (1 + k) / (10 + k))
        share.append(remaining * (1 - d))
        remaining *= d
    for weight, weights in zip([remaining, *reversed(share)], path, strict=True):
        total = total + weight * weights
    return total


def ema_with(decays=None, start=None):
    """A right average but for its decays or where it begins."""

    def averaged(path, decay):
        average = start(path) if start else path[0]
        for k, weights in enumerate(path[1:]):
            d = decays(k, decay) if decays else min(decay, (1 + k) / (10 + k))
            average = d * average + (1 - d) * weights
        return average

    return averaged


def ema_turned():
    """In other programs the factor is called momentum or alpha and belongs to the new value."""
    return ema_with(decays=lambda k, decay: 1 - min(decay, (1 + k) / (10 + k)))


def ema_constant():
    """The formula with d is read, and the sentence that d rises is not."""
    return ema_with(decays=lambda k, decay: decay)


def ema_from_one():
    """One counts steps from 1, as papers and people do."""
    return ema_with(decays=lambda k, decay: min(decay, (2 + k) / (11 + k)))


def ema_max():
    """ "At most decay" is translated as max."""
    return ema_with(decays=lambda k, decay: max(decay, (1 + k) / (10 + k)))


def ema_from_zero():
    """Running means often start at zero, in Adam for one, which then corrects for it."""
    return ema_with(start=lambda path: torch.zeros_like(path[0]))


def ema_plain_mean():
    """An average of the weights is what the heading says."""

    def averaged(path, decay):
        return torch.stack(path).mean(0)

    return averaged


# 07.overfit


def loop_with_the_library(network, optimizer, x0, schedule, steps, generator):
    losses = []
    for _ in range(steps):
        loss = train.diffusion_loss(network, x0.expand(16, -1, -1, -1), schedule, "v", generator).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def loop_by_hand(network, optimizer, x0, schedule, steps, generator):
    history = []
    while len(history) < steps:
        network.zero_grad(set_to_none=True)
        t = torch.randint(len(schedule), (32,), generator=generator)
        eps = torch.randn(32, *x0.shape[1:], generator=generator)
        alpha, sigma = columns(schedule, t)
        error = network(alpha * x0 + sigma * eps, t) - (alpha * eps - sigma * x0)
        error.square().mean().backward()
        optimizer.step()
        history.append(float(error.detach().square().mean()))
    return history


def loop_with(clear="before", back=True, step=True, level=None, noise=None, target=None, keep=float):
    """A right loop but for what is named."""

    def overfit(network, optimizer, x0, schedule, steps, generator):
        losses = []
        same_t = torch.randint(len(schedule), (16,), generator=generator)
        same_eps = torch.randn(16, *x0.shape[1:], generator=generator)
        for _ in range(steps):
            t = same_t if level else torch.randint(len(schedule), (16,), generator=generator)
            eps = same_eps if noise else torch.randn(16, *x0.shape[1:], generator=generator)
            alpha, sigma = columns(schedule, t)
            v = target(x0, eps) if target else alpha * eps - sigma * x0
            loss = (network(alpha * x0 + sigma * eps, t) - v).square().mean()
            if clear == "before":
                optimizer.zero_grad()
            if back:
                loss.backward()
            if clear == "between":
                optimizer.zero_grad()
            if step:
                optimizer.step()
            losses.append(keep(loss.detach()))
        return losses

    return overfit


def loop_that_piles_up():
    """Who comes from NumPy does not know that PyTorch adds gradients up."""
    return loop_with(clear="never")


def loop_that_clears_between():
    """All three lines are there, in the wrong order."""
    return loop_with(clear="between")


def loop_without_a_step():
    """`backward` sounds as if it did all the work."""
    return loop_with(step=False)


def loop_without_backward():
    """The optimizer is thought to find the gradient by itself."""
    return loop_with(back=False)


def loop_with_the_same_levels():
    """Levels are drawn before the loop, with everything else that is prepared."""
    return loop_with(level=True)


def loop_with_the_same_noise():
    """The noise is drawn before the loop; the loss falls beautifully, since it is learned by heart."""
    return loop_with(noise=True)


def loop_of_eps():
    """The target of the DDPM paper in the loop of a network that is read as v."""
    return loop_with(target=lambda x0, eps: eps)


# 07.pixels


def bytes_in_one_line(x):
    return ((x.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).permute(0, 2, 3, 1)


def bytes_step_by_step(x):
    unit = (x.moveaxis(1, -1) / 2 + 0.5) * 255
    whole = torch.floor(unit + 0.5)
    whole = torch.where(whole < 0, torch.zeros_like(whole), whole)
    return torch.where(whole > 255, torch.full_like(whole, 255.0), whole).byte()


def bytes_that_wrap(x):
    """The values look fine in a histogram: only one in a thousand overshoots."""
    return ((x + 1) * 127.5).round().to(torch.int64).to(torch.uint8).permute(0, 2, 3, 1)


def bytes_of_zero_to_one(x):
    """Pictures are expected in 0..1, as torchvision gives them."""
    return (x.clamp(0, 1) * 255).round().to(torch.uint8).permute(0, 2, 3, 1)


def bytes_cut_off(x):
    """The conversion to whole numbers is believed to round."""
    return ((x.clamp(-1, 1) + 1) * 127.5).to(torch.uint8).permute(0, 2, 3, 1)


def bytes_reshaped(x):
    """The shape is what the error message asked for, and `reshape` gives that shape."""
    b, c, h, w = x.shape
    return ((x.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).reshape(b, h, w, c)


RIGHT = {
    "07.loss": [loss_by_columns, loss_by_pictures],
    "07.ema": [ema_by_loop, ema_by_shares],
    "07.overfit": [loop_with_the_library, loop_by_hand],
    "07.pixels": [bytes_in_one_line, bytes_step_by_step],
}
WRONG = {
    "07.loss": [
        (loss_of_the_clean, "Make it noisy first"), (loss_without_the_root, "Neither square it nor"),
        (loss_with_noise_of_its_own, "the same one"), (loss_of_one_level, "level of its own"),
        (loss_from_one, "Tables count from 0"), (loss_of_eps, "answers eps"), (loss_of_x0, "answers x0"),
        (loss_with_the_sign_turned, "sign is turned"), (loss_with_factors_swapped, "changed places"),
        (loss_summed, "SUM"), (loss_absolute, "SQUARED"), (loss_without_gradient, "no_grad"),
    ],
    "07.ema": [
        (ema_turned, "turned round"), (ema_constant, "The decay rises"), (ema_from_one, "step 0"),
        (ema_max, "`min`"), (ema_from_zero, "not at zero"), (ema_plain_mean, "plain mean"),
    ],
    "07.overfit": [
        (loop_that_piles_up, "ADD UP"), (loop_that_clears_between, "between"),
        (loop_without_a_step, "moves the weights"),
        (loop_without_backward, "nobody computed"), (loop_with_the_same_levels, "INSIDE"),
        (loop_with_the_same_noise, "learns that noise by heart"), (loop_of_eps, "not that of v"),
    ],
    "07.pixels": [
        (bytes_that_wrap, "wrap round"), (bytes_of_zero_to_one, "-1 has to become 0"), (bytes_cut_off, "Round first"),
        (bytes_reshaped, "permute"),
    ],
}  # fmt: skip
