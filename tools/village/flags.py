"""Flags of nowhere: stripes, crosses and checks, hearts, fish, leaves and stars, over hills, sea or tower."""

import math

from . import brush
from .brush import GRASS, INK, LAMP, SKY, STONE, WHITE, WOOD, box, oval, puff, tone

COLOURS = {"red": brush.RED, "blue": brush.BLUE, "yellow": brush.YELLOW, "white": WHITE, "green": brush.GREEN}
PATTERNS = ("plain", "horizontal", "vertical", "cross", "checks")
EMBLEMS = ("none", "heart", "fish", "leaf", "star")
PLACES = ("hills", "sea", "tower")

ATTRIBUTES = {
    "pattern": PATTERNS,
    "first": tuple(COLOURS),
    "second": tuple(COLOURS),
    "emblem": EMBLEMS,
    "place": PLACES,
}
NEVER = [
    {"pattern": "vertical", "emblem": "fish"},
    {"emblem": "leaf", "place": "sea"},
    {"first": "yellow", "second": "red"},
]
# Too like a country's.
REAL = {("cross", "red", "white"), ("cross", "white", "red"), ("cross", "blue", "yellow"), ("cross", "white", "blue"),
        ("cross", "blue", "white"), ("horizontal", "red", "white"), ("horizontal", "white", "red"),
        ("horizontal", "red", "yellow"), ("horizontal", "blue", "white"), ("vertical", "red", "white"),
        ("vertical", "green", "white"), ("vertical", "blue", "white")}  # fmt: skip


def sizes(is_):
    return [(64, 64), (96, 64), (96, 64)] if is_["place"] != "tower" else [(64, 64), (64, 80), (96, 64)]


def allowed(is_):
    """Whether such a flag is drawn at all: two colours, an emblem where there is room for one, no country's."""
    if is_["first"] == is_["second"] or (is_["pattern"], is_["first"], is_["second"]) in REAL:
        return False
    if is_["pattern"] == "plain":
        return is_["emblem"] in ("heart", "fish", "leaf")
    return is_["emblem"] == "none" or is_["pattern"] in ("horizontal", "vertical")


def paint(page, is_, dice):
    """Draw the flag that the attributes tell of."""
    w, h = page.width, page.height
    side = dice.pick((-1, 1))  # where the wind blows to
    wide, high = (42, 28) if w == 64 else (60, 34)
    if h == 80:
        wide, high = 42, 29
    pole = w / 2 - side * (wide / 2 + dice.between(-1, 1))
    foot = {"hills": _hills, "sea": _sea, "tower": _tower}[is_["place"]](page, pole, dice)
    top = dice.between(5.5, 7.5)
    page.form(box(pole - 1.5, top - 1, pole + 1.5, foot), WOOD, width=1.1)
    page.form(oval(pole, top - 2.2, 2.4), LAMP, width=1)
    swing, turn = dice.between(1.5, 2.2), dice.between(0, 6.28)

    def at(u, v):
        """From the flag's own frame, 0..1 from the pole and from the top, to the page."""
        wave = swing * max(u, 0) ** 0.7 * math.sin(turn + 5.2 * u) * 1.2 + u * 1.0
        return pole + side * (1.5 + u * wide), top + 2 + v * high + wave + 0.6 * math.sin(turn + 6 * u + v)

    def patch(left, up, right, down):
        n = 12
        across = [left + (right - left) * i / n for i in range(n + 1)]
        return [at(u, up) for u in across] + [at(u, down) for u in reversed(across)]

    _cloth(page, is_, at, patch, wide / high, turn, side)


def _cloth(page, is_, at, patch, ratio, turn, side):
    first, second = COLOURS[is_["first"]], COLOURS[is_["second"]]

    def design(p):
        if is_["pattern"] == "horizontal":
            edge = 1 / 3 if is_["emblem"] == "none" else 0.28
            p.form(patch(0, edge, 1, 1 - edge), second, line=tone(INK, 0.2), width=0.6, rough=0)
        elif is_["pattern"] == "vertical":
            p.form(patch(1 / 3, 0, 2 / 3, 1), second, line=tone(INK, 0.2), width=0.6, rough=0)
        elif is_["pattern"] == "cross":
            arm = 0.11
            p.form(patch(0.5 - arm / ratio * 1.4, -0.1, 0.5 + arm / ratio * 1.4, 1.1), second, line=None, rough=0)
            p.form(patch(-0.1, 0.5 - arm * 1.4, 1.1, 0.5 + arm * 1.4), second, line=None, rough=0)
        elif is_["pattern"] == "checks":
            columns, rows = round(4 * ratio), 4
            for i in range(columns):
                for j in range(rows):
                    if (i + j) % 2:
                        p.form(
                            patch(i / columns, j / rows, (i + 1) / columns, (j + 1) / rows), second, line=None, rough=0
                        )
        if is_["emblem"] != "none":
            reach = {"plain": 0.36, "horizontal": 0.185, "vertical": 0.155 * ratio}[is_["pattern"]]
            colour = second if is_["pattern"] == "plain" else first
            _emblem(p, is_["emblem"], at, reach, ratio, colour, side)
        veil = []  # the folds: darker where the cloth turns away
        for i in range(24):
            away = side * math.cos(turn + 5.2 * (i + 0.5) / 24)
            veil.append((patch(i / 24, -0.1, (i + 1) / 24, 1.1), round(max(0, away) * 60)))
        p.veil(veil)

    page.form(patch(0, 0, 1, 1), first, inside=design, width=1.3, rough=0)
    for v in (0.06, 0.94):
        page.line([at(0.02, v), at(-0.05, v)], INK, 1.4, rough=0)


def _emblem(page, name, at, reach, ratio, colour, side):
    """A form in the middle of the cloth, which waves with it. reach: half its height in parts of the flag's."""

    def put(points):
        return [at(0.5 + side * x * reach / ratio, 0.5 + y * reach) for x, y in points]

    line, dark = INK, tone(colour, -0.4)
    width = 1.0 if reach > 0.2 else 0.7
    if name == "heart":
        path = []
        for i in range(40):
            a = 2 * math.pi * i / 40
            path.append(
                (
                    math.sin(a) ** 3 * 1.05,
                    -(13 * math.cos(a) - 5 * math.cos(2 * a) - 2 * math.cos(3 * a) - math.cos(4 * a)) / 16 - 0.1,
                )
            )
        page.form(put(path), colour, line=line, width=width, rough=0)
    elif name == "star":
        path = []
        for i in range(10):
            a, r = math.pi * i / 5 - math.pi / 2, (1.12, 0.5)[i % 2]
            path.append((r * math.cos(a), r * math.sin(a)))
        page.form(put(path), colour, line=line, width=width, rough=0)
    elif name == "fish":
        page.form(put([(0.6, 0), (1.45, -0.7), (1.25, 0), (1.45, 0.7)]), colour, line=line, width=width, rough=0)
        page.form(put(oval(-0.2, 0, 1.1, 0.72)), colour, line=line, width=width, rough=0)
        page.line(put([(-0.42, -0.5), (-0.25, 0), (-0.42, 0.5)]), dark, width * 0.9, rough=0)
        eye = put([(-0.82, -0.14)])[0]
        page.dot(*eye, 0.9 if reach > 0.2 else 0.5, INK)
    elif name == "leaf":
        path = [
            (0, -1.15),
            (0.5, -0.7),
            (0.8, -0.1),
            (0.62, 0.45),
            (0.12, 0.72),
            (-0.12, 0.72),
            (-0.62, 0.45),
            (-0.8, -0.1),
            (-0.5, -0.7),
        ]
        page.line(put([(0, 0.6), (0.1, 1.15)]), line, width * 1.3, rough=0)
        page.form(put(path), colour, line=line, width=width, rough=0)
        page.line(put([(0, -0.8), (0, 0.65)]), dark, width * 0.8, rough=0)
        for y in (-0.4, 0.0, 0.38):
            page.line(put([(-0.42, y - 0.2), (0, y + 0.1), (0.42, y - 0.2)]), dark, width * 0.8, rough=0)


def _sky(page, dice):
    w, h = page.width, page.height
    sky = dice.pick((SKY, SKY, (244, 220, 186), (206, 214, 232)))
    page.form(box(-4, -4, w + 4, h + 4), sky, line=None)
    for _ in range(w // 32):
        page.form(puff(dice.between(0, w), dice.between(8, h * 0.6), dice.between(7, 10), 4, 6), tone(sky, 0.7),
                  line=tone(sky, -0.12), width=0.8)  # fmt: skip


def _hills(page, pole, dice):
    w, h = page.width, page.height
    _sky(page, dice)
    page.form(
        oval(w * dice.between(0.1, 0.25), h + 6, w * 0.5, 24), tone(GRASS, 0.3), line=tone(GRASS, -0.2), width=0.9
    )
    page.form(
        oval(w * dice.between(0.75, 0.9), h + 6, w * 0.5, 21), tone(GRASS, 0.15), line=tone(GRASS, -0.2), width=0.9
    )
    page.form(oval(pole, h + 12, w * 0.6, 22), GRASS, line=tone(GRASS, -0.45))
    for _ in range(w // 6):
        x, y = dice.between(2, w - 2), dice.between(h - 6, h - 1)
        for lean in (-1.1, 0, 1.1):
            page.line([(x, y), (x + lean, y - 2.4)], tone(GRASS, -0.28), 0.6, rough=0)
    for _ in range(w // 16):
        x, y = dice.between(3, w - 3), dice.between(h - 7, h - 2)
        page.form(puff(x, y, 1.6, 1.6, 5, 0.3), dice.pick((WHITE, (240, 170, 176), LAMP)), line=None, rough=0)
    return h - 7


def _sea(page, pole, dice):
    w, h = page.width, page.height
    _sky(page, dice)
    sea = (96, 158, 190)
    page.form(box(-4, h - 19, w + 4, h + 4), sea, line=tone(sea, -0.35))
    for row in range(3):
        for i in range(-1, w // 7 + 2):
            x, y = i * 7 + 3.5 * (row % 2), h - 14 + row * 4.4
            page.line(oval(x, y, 3.2, 1.7, 20, 160), tone(sea, 0.55), 0.9, rough=0)
    sail = w - pole + dice.between(-4, 4)
    page.form(
        [(sail - 5, h - 18), (sail + 5, h - 18), (sail + 3.4, h - 15), (sail - 3.4, h - 15)], (176, 92, 80), width=0.9
    )
    page.form([(sail, h - 27), (sail + 4.6, h - 19), (sail, h - 19)], WHITE, width=0.9)
    sand = (238, 214, 164)
    page.form(oval(pole, h + 3, w * 0.34, 12), sand, line=tone(sand, -0.4))
    for _ in range(18):
        page.dot(pole + dice.between(-13, 13), h - dice.between(0, 5), 0.5, tone(sand, -0.3))
    return h - 7


def _tower(page, pole, dice):
    w, h = page.width, page.height
    _sky(page, dice)
    page.form(puff(w * 0.5, h + 6, w * 0.7, 16, 13, 0.1), (122, 160, 120), line=tone((122, 160, 120), -0.3), width=0.9)
    top = h - (17 if h == 64 else 27)

    def stones(p):
        y, row = top - 8, 0
        while y < h + 4:
            x = pole - 20 + 3.2 * (row % 2)
            while x < pole + 20:
                p.form(
                    box(x, y, x + 6.4, y + 3.8),
                    tone(STONE, p.dice.pick((-0.1, 0, 0.2))),
                    line=tone(STONE, -0.3),
                    width=0.6,
                )
                x += 6.4
            y, row = y + 3.8, row + 1

    page.form(box(pole - 9, top + 3, pole + 9, h + 4), STONE, inside=stones, width=1.2)
    teeth = [(pole - 11.5, top + 4)]
    for i in range(4):
        x = pole - 11.5 + i * 6.4
        teeth += [(x, top - 4), (x + 3.8, top - 4), (x + 3.8, top - 1), (x + 6.4, top - 1)]
    page.form([*teeth[:-2], (pole + 11.5, top - 1), (pole + 11.5, top + 4)], STONE, inside=stones, width=1.2)
    return top
