"""Potted plants: cacti, tulips, sunflowers and ferns, on a windowsill, on a table or in a garden."""

import math

from . import brush
from .brush import CLAY, GRASS, INK, LEAF, SKY, WHITE, WOOD, box, oval, puff, tone

POTS = {"clay": CLAY, "blue": brush.BLUE, "yellow": brush.YELLOW, "white": WHITE}
PATTERNS = ("plain", "striped", "spotted")
PLACES = ("windowsill", "table", "garden")
PLANTS = ("cactus", "tulip", "sunflower", "fern")
DEEP = 15  # a pot's height
PETALS = {"red": brush.RED, "yellow": brush.YELLOW, "white": WHITE}  # of tulips

ATTRIBUTES = {"plant": PLANTS, "petals": tuple(PETALS), "pot": tuple(POTS), "pattern": PATTERNS, "place": PLACES,
              "count": (1, 2), "bloom": (True, False)}  # fmt: skip
NEVER = [{"plant": "cactus", "pot": "blue"}, {"plant": "sunflower", "pattern": "striped"},
         {"plant": "tulip", "place": "garden"}]  # fmt: skip


def sizes(is_):
    return [(64, 64), (64, 64), (64, 80)] if is_["count"] == 1 else [(64, 64), (96, 64), (96, 64)]


def paint(page, is_, dice):
    """Draw the plants that the attributes tell of."""
    w, h = page.width, page.height
    foot = {"windowsill": _windowsill, "table": _table, "garden": _garden}[is_["place"]](page, dice)
    if is_["count"] == 1:
        spots, size = [w / 2 + dice.between(-4, 4)], dice.between(1.06, 1.13) * (h / 64) ** 0.6
    else:
        apart, size = (14.5, 0.74) if w == 64 else (21, 0.94)
        spots = [w / 2 - apart, w / 2 + apart]
    for x in spots:
        own = size * dice.between(0.96, 1.04)
        _plant(page.at(x + dice.between(-1, 1), foot + dice.between(0, 1.5) - DEEP * own, own), is_, dice)


def _windowsill(page, dice):
    w, h = page.width, page.height
    wall = dice.pick(((244, 222, 196), (226, 226, 206), (236, 212, 206)))
    page.form(box(-4, -4, w + 4, h + 4), wall, line=None)
    page.form(box(6, -4, w - 6, h - 9), SKY, width=1.3)
    page.form(puff(w * dice.between(0.3, 0.7), dice.between(10, 18), 9, 4, 6), WHITE, line=tone(SKY, -0.2), width=0.8)
    page.form(oval(w * 0.3, h + 4, w * 0.42, 32), tone(GRASS, 0.2), line=tone(GRASS, -0.15), width=0.8)
    page.form(oval(w * 0.85, h + 4, w * 0.4, 26), tone(GRASS, 0.1), line=tone(GRASS, -0.15), width=0.8)
    for x in [w / 2] if w == 64 else [w / 2 - 14, w / 2 + 14]:
        page.line([(x, -2), (x, h - 9)], INK, 4)
        page.line([(x, -2), (x, h - 9)], WHITE, 2.2)
    cloth = dice.pick(((214, 120, 108), (120, 150, 180), (222, 176, 110)))
    for mirrored in (1, -1):
        _curtain(page.at(0 if mirrored == 1 else w, 0), mirrored, cloth)
    page.form(box(-4, h - 11, w + 4, h - 4.5), (250, 240, 222), width=1.2)
    page.form(box(-4, h - 4.5, w + 4, h + 4), tone(wall, -0.12))
    return h - 7


def _curtain(page, side, cloth):
    h = page.height

    def folds(p):
        for i in range(5):
            x, step = side * 3.4 * (i + 0.4), side * 3.4
            p.line([(x + step, -2), (x, h * 0.5), (x - step * 0.6, h)], tone(cloth, -0.28), 0.8)
            p.line([(x + step * 1.4, -2), (x + step * 0.4, h * 0.5), (x - step * 0.2, h)], tone(cloth, 0.35), 0.7)

    page.form([(-4 * side, -3), (16 * side, -3), (12 * side, h * 0.4), (7 * side, h - 10), (-4 * side, h - 10)], cloth,
              inside=folds)  # fmt: skip


def _table(page, dice):
    w, h = page.width, page.height
    wall = dice.pick(((206, 222, 214), (238, 220, 200), (214, 214, 232)))
    page.form(box(-4, -4, w + 4, h + 4), wall, line=None)
    for row in range(h // 8 + 1):
        for column in range(w // 8 + 2):
            x, y = column * 8 + 4 * (row % 2), row * 8 + 3
            page.form(puff(x, y, 1.5, 1.5, 5, 0.3), tone(wall, 0.6), line=None, rough=0)
    edge, colour = h - 15, dice.pick(((198, 96, 92), (84, 124, 166), (108, 150, 120)))

    def checks(p):
        for row in range(6):
            for column in range(-2, w // 5 + 3):
                shade = (colour, tone(colour, 0.5), WHITE)[(row % 2) + (column % 2)]
                x, y = column * 5, edge + row * 3.6
                p.form(box(x, y, x + 5, y + 3.6), shade, line=None, rough=0)

    page.form([(-4, edge), (w + 4, edge), (w + 4, h + 4), (-4, h + 4)], WHITE, inside=checks, width=1.2)
    return edge + 6.5


def _garden(page, dice):
    w, h = page.width, page.height
    page.form(box(-4, -4, w + 4, h + 4), SKY, line=None)
    page.form(puff(w * dice.between(0.2, 0.8), dice.between(8, 13), 9, 4, 6), WHITE, line=tone(SKY, -0.2), width=0.8)
    page.form(puff(w * 0.2, h - 26, w * 0.3, 12, 9, 0.1), tone(LEAF, 0.25), line=tone(LEAF, -0.2), width=0.9)
    page.form(puff(w * 0.85, h - 26, w * 0.3, 9, 9, 0.1), tone(LEAF, 0.15), line=tone(LEAF, -0.2), width=0.9)
    fence = dice.pick(((250, 244, 230), WOOD))
    top = h - 36
    for y in (top + 7, top + 18):
        page.form(box(-4, y, w + 4, y + 2.6), tone(fence, -0.1), width=0.9)
    for i in range(-1, w // 8 + 1):
        x = i * 8 + 5
        page.form(
            [(x, top + 26), (x, top + 2.6), (x + 2.5, top), (x + 5, top + 2.6), (x + 5, top + 26)], fence, width=1
        )
        page.line([(x + 3.4, top + 5), (x + 3.4, top + 16)], tone(fence, -0.18), 0.5)
    page.form(
        [(-4, h - 13), (w / 2, h - 14.5), (w + 4, h - 13), (w + 4, h + 4), (-4, h + 4)], GRASS, line=tone(GRASS, -0.4)
    )
    for _ in range(w // 5):
        x, y = dice.between(1, w - 1), dice.between(h - 11, h - 1)
        for lean in (-1.2, 0, 1.2):
            page.line([(x, y), (x + lean, y - 2.6)], tone(GRASS, -0.28), 0.6, rough=0)
    return h - 6


def _plant(page, is_, dice):
    """A pot whose rim is at y = 0, and what grows in it."""
    {"cactus": _cactus, "tulip": _tulips, "sunflower": _sunflower, "fern": _fern}[is_["plant"]](page, is_, dice)
    pot = POTS[is_["pot"]]
    other = {"white": (84, 96, 150), "yellow": (170, 84, 70)}.get(is_["pot"], WHITE)

    def body(p):
        if is_["pattern"] == "striped":
            for y in (5.2, 10):
                p.form(box(-12, y, 12, y + 2.2), other, line=None, rough=0)
        elif is_["pattern"] == "spotted":
            for row, y in enumerate((6.2, 11.4)):
                for column in range(-2, 3):
                    p.dot(column * 5 + 2.5 * row, y, 1.3, other)
        else:
            p.form([(5.2, 0), (12, 0), (12, DEEP), (3.6, DEEP)], tone(pot, -0.16), line=None, rough=0)
            p.line([(-6, 5), (-4.8, DEEP - 3)], tone(pot, 0.5))

    page.dot(1, DEEP, 9, (120, 104, 110), ry=1.5)
    page.form([(-8.4, 2), (8.4, 2), (5.9, DEEP), (-5.9, DEEP)], pot, inside=body, width=1.2)
    page.form(box(-9.6, -1.4, 9.6, 3), pot, width=1.2)


def _cactus(page, is_, dice):
    green, side, high = (92, 148, 106), dice.pick((-1, 1)), dice.between(23, 27)

    def ribs(p):
        for i in range(-5, 6):
            p.line([(i * 3.1, -40), (i * 3.1, 4)], tone(green, -0.22), 0.6, rough=0)
            for y in range(-40, 4, 3):
                p.line([(i * 3.1 + 1, y + i % 2), (i * 3.1 + 2, y + i % 2 + 0.9)], (240, 240, 206), 0.6, rough=0)

    for way, up, arm in ((side, 0.36, 7), (-side, 0.52, 5)):
        low, near, far = -high * up, way * 6.8, way * 12
        bend = oval(way * 9.4, low - arm, 2.6, 2.6, 180, 360)
        page.form(
            [(0, low + 2.6), (far, low + 2.6), *(bend[::-1] if way > 0 else bend), (near, low - 2.6), (0, low - 2.6)],
            green,
            inside=ribs,
        )
    page.form([(-5, 3), *oval(0, 5 - high, 5, 5, 180, 360), (5, 3)], green, inside=ribs, width=1.2)
    if is_["bloom"]:
        page.form(puff(0, -high - 0.6, 3.6, 3, 5, 0.3), (238, 140, 160), width=0.9)
        page.dot(0, -high - 0.6, 1, brush.YELLOW)


def _stem(page, points, width):
    page.line(points, INK, width + 1.4)
    page.line(points, LEAF, width)


def _blade(page, x, y, dx, dy, wide):
    """A pointed leaf from (x, y) to (x + dx, y + dy)."""
    nx, ny = -dy * wide / math.hypot(dx, dy), dx * wide / math.hypot(dx, dy)
    parts = ((0, 0), (0.3, 1), (0.65, 0.9), (1, 0), (0.65, -0.6), (0.3, -0.8))
    page.form([(x + dx * along + nx * out, y + dy * along + ny * out) for along, out in parts], LEAF, width=1)
    page.line([(x + dx * 0.15, y + dy * 0.15), (x + dx * 0.8, y + dy * 0.8)], tone(LEAF, -0.3), 0.6)


def _tulips(page, is_, dice):
    petals = PETALS[is_["petals"]]
    half = [(0.45, -0.35), (1, -1), (1.05, 0.2), (0.6, 0.85)]  # of the cup's outline, from the top down
    for lean, up in ((-7, 18), (7, 19), (0, 25)):
        tip, top = lean * 1.25, -up
        _stem(page, [(lean * 0.3, 0), (lean * 0.9, -up * 0.5), (tip, top + 3)], 1.3)
        cup = [(0, -1.15), *half, (0, 1), *[(-x, y) for x, y in reversed(half)]]
        page.form([(tip + x * 4.3, top + y * 4.6) for x, y in cup], petals)
        for side in (-1, 1):
            page.line([(tip + side * 1.7, top - 0.5), (tip + side * 0.9, top + 2.8)], tone(petals, -0.25), 0.7)
    for lean in (-1, 1):
        _blade(page, lean * 2, 0, lean * dice.between(8, 10), -dice.between(10, 13), 2.2)


def _sunflower(page, is_, dice):
    lean, top = dice.between(-2, 2), -dice.between(18, 20)
    _stem(page, [(0, 0), (lean * 0.5, top / 2), (lean, top)], 1.6)
    for side, up in ((-1, 5), (1, 8)):
        _blade(page, 0, -up * 0.4, side * 9.5, -up * 0.9, 2.6)
    petal = ((3.8, -1.5), (7.5, -2.1), (10.3, 0), (7.5, 2.1), (3.8, 1.5))  # one that points along x
    for back in (1, 0):
        for i in range(11):
            a = 2 * math.pi * (i + back * 0.5) / 11
            c, s = math.cos(a), math.sin(a)
            page.form([(lean + c * x - s * y, top + s * x + c * y) for x, y in petal],
                      tone(brush.YELLOW, -0.16 * back), width=0.8)  # fmt: skip

    def seeds(p):
        for i in range(60):
            a, far = i * 2.4, 5.2 * (i / 60) ** 0.5  # radians, near the golden angle
            p.dot(lean + far * math.cos(a), top + far * math.sin(a), 0.45, (196, 140, 80) if i % 2 else (84, 54, 48))

    page.form(oval(lean, top, 5.2), (134, 88, 60), inside=seeds, width=1)


def _fern(page, is_, dice):
    dark = (66, 116, 82)
    for angle, long in ((-84, 19), (84, 19), (-54, 23), (54, 23), (-25, 25), (27, 25), (1, 27)):
        angle += dice.between(-3, 3)
        points = []
        for i in range(7):
            far, bend = long * i / 6, math.radians(angle * (0.6 + 0.55 * (i / 6) ** 1.5))
            points.append((far * math.sin(bend), -far * math.cos(bend)))
        colour = dice.pick(((118, 176, 96), (100, 162, 92), (136, 190, 104)))
        for i in range(5, -1, -1):
            (ax, ay), (bx, by) = points[i : i + 2]
            n, leaf = math.hypot(bx - ax, by - ay), 5.0 - 0.45 * i
            dx, dy = (bx - ax) / n, (by - ay) / n
            for side in (-1, 1):
                tx, ty = ax + (dx * 0.9 - dy * side) * leaf, ay + (dy * 0.9 + dx * side) * leaf
                mx, my = ax + (dx * 0.1 - dy * side) * leaf * 0.55, ay + (dy * 0.1 + dx * side) * leaf * 0.55
                page.form([(ax, ay), (mx, my), (tx, ty), (bx, by)], colour, line=dark, width=0.6, rough=0.1)
        page.line(points, dark, 0.8)
