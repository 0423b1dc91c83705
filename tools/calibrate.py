"""Prints what the oracle can and cannot read: the calibration table of docs/measurements.md."""
import torch
import torch.nn.functional as F
from minildm.scenes import BACKGROUNDS, COLOURS, SHAPES, SIZES, Scenes, draw, masks, render
from minildm.scenes.render import circle, cross, ring, square, star, triangle

DISTANCES = (circle, square, triangle, star, ring, cross)
GROUND = torch.tensor(list(BACKGROUNDS.values())) * 2 - 1
COLOUR = torch.tensor(list(COLOURS.values())) * 2 - 1

def compose(scenes, mask, colour=None):
    ground = GROUND[scenes.background]
    colour = COLOUR[scenes.colour.clamp(min=0)] if colour is None else colour
    return ground[:, :, None, None] + torch.einsum("nkc,nkhw->nchw", colour - ground[:, None], mask)

def blur(p, std):
    r = 1 if std <= 0.5 else 3
    t = torch.arange(-r, r + 1.)
    w = torch.exp(-t**2 / 2 / std**2); w = w / w.sum()
    return F.conv2d(F.pad(p, (r,) * 4, "replicate"), (w[:, None] * w).expand(3, 1, -1, -1), groups=3)

def other(i, k, g):
    return (i + torch.randint(1, k, i.shape, generator=g)) % k

def shape_fade(n, seed=0, kind="fade"):
    s = draw(n, seed=seed); g = torch.Generator().manual_seed(seed)
    sh = s.shape.clone(); sh[:, 0] = other(sh[:, 0], 6, g)
    m = masks(s)
    if kind == "fade":
        m[:, 0] = (m[:, 0] + masks(Scenes(sh, s.colour, s.size, s.x, s.y, s.background))[:, 0]) / 2
    else:
        t = torch.arange(32) + .5
        for i in range(n):
            r = s.radius[i, 0] * 32
            y, x = torch.meshgrid(t - s.y[i, 0] * 32, t - s.x[i, 0] * 32, indexing="ij")
            d = (DISTANCES[s.shape[i, 0]](x, y, float(r)) + DISTANCES[sh[i, 0]](x, y, float(r))) / 2
            m[i, 0] = (.5 - d).clamp(0, 1)
    return compose(s, m), s, sh[:, 0]

def size_mid(n, seed=0):
    s = draw(n, seed=seed); m = masks(s); t = torch.arange(32) + .5
    keep = []
    for i in range(n):
        r = .16 * 32
        y, x = torch.meshgrid(t - s.y[i, 0] * 32, t - s.x[i, 0] * 32, indexing="ij")
        m[i, 0] = (.5 - DISTANCES[s.shape[i, 0]](x, y, r)).clamp(0, 1)
        keep.append((m[i].sum(0) <= 1).all())
    return compose(s, m)

def colour_fade(n, seed=0):
    s = draw(n, seed=seed); g = torch.Generator().manual_seed(seed)
    c = COLOUR[s.colour.clamp(min=0)].clone()
    c[:, 0] = (c[:, 0] + COLOUR[other(s.colour[:, 0], 8, g)]) / 2
    return compose(s, masks(s), c), s

def thirds(n, seed=0):
    two = draw(20 * n, seed=seed, objects=2); one = draw(20 * n, seed=seed + 1, objects=1)
    far = ((two.x - one.x[:, :1])**2 + (two.y - one.y[:, :1])**2).sqrt() > two.radius + one.radius[:, :1] + 2.05 / 32
    ok = far.all(1).nonzero()[:n, 0]; assert len(ok) == n
    two, one = two[ok], one[ok]; one.background = two.background
    m = masks(one)
    c = COLOUR[one.colour[:, 0]]
    p = render(two)
    return p + m[:, :1] * (c[:, :, None, None] - p)

def stacked(n, seed=0):
    "a small object drawn over a large one"
    g = torch.Generator().manual_seed(seed)
    a = draw(n, seed=seed, objects=1); b = draw(n, seed=seed + 1, objects=1)
    a.size[:, 0] = 1; b.size[:, 0] = 0
    a.x[:, 0] = .25 + .5 * torch.rand(n, generator=g); a.y[:, 0] = .25 + .5 * torch.rand(n, generator=g)
    ang = 6.283 * torch.rand(n, generator=g); rad = .2 * torch.rand(n, generator=g)
    b.x[:, 0] = a.x[:, 0] + rad * ang.cos(); b.y[:, 0] = a.y[:, 0] + rad * ang.sin()
    b.colour[:, 0] = other(a.colour[:, 0], 8, g)
    p = render(a); m = masks(b)[:, :1]
    return p + m * (COLOUR[b.colour[:, 0]][:, :, None, None] - p)

def noise(n, seed=0):
    g = torch.Generator().manual_seed(seed)
    p = torch.randn(n, 3, 32, 32, generator=g)
    p[: n // 2] = torch.rand(n // 2, 3, 32, 32, generator=g) * 2 - 1
    return p.clamp(-1, 1)

def flat(n, seed=0):
    g = torch.Generator().manual_seed(seed)
    c = torch.rand(n, 3, generator=g) * 2 - 1
    c[: n // 2] = GROUND[torch.randint(4, (n // 2,), generator=g)]
    return c[:, :, None, None].expand(n, 3, 32, 32).contiguous()

def rectangles(n, seed=0):
    g = torch.Generator().manual_seed(seed)
    p = flat(n, seed)
    t = torch.arange(32)
    for i in range(n):
        for _ in range(int(torch.randint(1, 9, (), generator=g))):
            x, y = torch.randint(0, 29, (2,), generator=g).tolist()
            w, h = torch.randint(3, 17, (2,), generator=g).tolist()
            p[i, :, y:y + h, x:x + w] = (torch.rand(3, 1, 1, generator=g) * 2 - 1)
    return p

def patchwork(n, seed=0, cell=8):
    g = torch.Generator().manual_seed(seed)
    return F.interpolate(torch.rand(n, 3, 32 // cell, 32 // cell, generator=g) * 2 - 1, scale_factor=cell)

def tiles(n, seed=0, cell=8):
    "every cell from another scene"
    k = 32 // cell
    p = render(draw(n * k * k, seed=seed)).view(n, k, k, 3, 32, 32)
    out = torch.empty(n, 3, 32, 32)
    for i in range(k):
        for j in range(k):
            a, b = slice(i * cell, i * cell + cell), slice(j * cell, j * cell + cell)
            out[:, :, a, b] = p[:, i, j][:, :, a, b]
    return out

def pasted(n, seed=0):
    g = torch.Generator().manual_seed(seed)
    a, b = draw(n, seed=seed), draw(n, seed=seed + 1)
    b.background = other(a.background, 4, g)
    p, q = render(a), render(b)
    for i in range(n):
        w, h = torch.randint(6, 21, (2,), generator=g).tolist()
        x = int(torch.randint(0, 33 - w, (), generator=g)); y = int(torch.randint(0, 33 - h, (), generator=g))
        p[i, :, y:y+h, x:x+w] = q[i, :, y:y+h, x:x+w]
    return p
