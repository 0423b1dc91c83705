"""Houses: brick, wood or plaster under a roof of shingles or straw, and what stands and falls around them."""

from . import brush
from .brush import GRASS, INK, LAMP, LEAF, NIGHT, PINE, SKY, SNOW, SNOWY, WOOD, box, oval, puff, tone
from .textures import bricks, planks, plaster, shingles, straw

WALLS = {"brick": (204, 130, 102), "wooden": (222, 186, 134), "white": (250, 244, 230)}
ROOFS = {"red": brush.RED, "blue": brush.BLUE, "straw": (232, 190, 96)}
DOORS = {"red": brush.RED, "blue": brush.BLUE, "yellow": brush.YELLOW}
TREES = ("none", "pine", "round")
WHEN = ("day", "night", "snow")
HEIGHTS = ("small", "tall")

ATTRIBUTES = {"height": HEIGHTS, "wall": tuple(WALLS), "roof": tuple(ROOFS), "door": tuple(DOORS),
              "tree": TREES, "when": WHEN, "smoke": (True, False)}  # fmt: skip
NEVER = [{"wall": "wooden", "roof": "blue"}, {"wall": "brick", "when": "snow"}, {"tree": "round", "when": "night"}]


def sizes(is_):
    return [(64, 64), (64, 64), (96, 64)] if is_["height"] == "small" else [(64, 64), (64, 80), (64, 80)]


def paint(page, is_, dice):
    """Draw the house that the attributes tell of."""
    w, h = page.width, page.height
    ground = h - dice.between(9, 12)
    _weather(page, is_, dice, ground)
    middle = w / 2 + dice.between(-3, 3) + (dice.between(-10, 10) if w > 80 else 0)
    half = dice.between(15, 17) if is_["height"] == "small" else dice.between(11, 13)
    tall = dice.between(16, 18) if is_["height"] == "small" else dice.between(28, 30) + (h - 64) * 0.5
    eaves, foot = ground + 1 - tall, ground + 2
    ridge = eaves - (dice.between(12, 14) if is_["height"] == "small" else dice.between(11, 13))
    chimney = middle + dice.pick((-1, 1)) * half * 0.55
    if is_["smoke"]:
        _smoke(page, chimney, ridge, is_, dice)
    side = dice.pick((-1, 1))  # of the door; a tree stands on the other
    if w > 80:
        _fence(page, middle + side * half, side, ground, is_)
    _path(page, middle + (0 if is_["height"] == "tall" else side * half * 0.42), foot, is_)
    _walls(page, is_, middle, half, eaves, foot, side)
    _roof(page, is_, middle, half, eaves, ridge, dice)
    if is_["tree"] != "none":
        at = middle - side * (half + dice.between(3, 4.5))
        (_pine if is_["tree"] == "pine" else _round_tree)(page, at, ground + 5, is_, dice)
    _foreground(page, is_, ground, dice)


def _weather(page, is_, dice, ground):
    w, h = page.width, page.height
    when = is_["when"]
    page.form(box(-4, -4, w + 4, h + 4), {"day": SKY, "night": NIGHT, "snow": SNOWY}[when], line=None, rough=0)
    if when == "day":
        x = dice.pick((9, w - 9))
        page.form(oval(x, 9, 5), brush.YELLOW, width=1)
        for _ in range(2 if w > 64 else 1):
            page.form(
                puff(w - x + dice.between(-5, 5), dice.between(8, 15), 8, 4, 6),
                brush.WHITE,
                line=tone(SKY, -0.2),
                width=0.8,
            )
    if when == "night":
        x = dice.pick((9, w - 9))
        page.dot(x, 10, 5, (250, 240, 200))
        page.dot(x + 2.4, 8.6, 4.4, NIGHT)
        for _ in range(w * h // 330):
            page.dot(dice.between(2, w - 2), dice.between(2, ground - 14), dice.pick((0.5, 0.6, 0.8)), (250, 240, 200))
    back = {"day": tone(GRASS, 0.3), "night": (74, 90, 122), "snow": (228, 234, 244)}[when]
    page.form(oval(w * dice.between(0.1, 0.3), ground + 8, w * 0.5, 18), back, line=tone(back, -0.15), width=0.8)
    page.form(oval(w * dice.between(0.75, 0.95), ground + 8, w * 0.45, 14), back, line=tone(back, -0.15), width=0.8)
    land = {"day": GRASS, "night": (94, 124, 112), "snow": SNOW}[when]
    page.form(
        [(-4, ground), (w / 2, ground - 2), (w + 4, ground), (w + 4, h + 4), (-4, h + 4)], land, line=tone(land, -0.4)
    )


def _fence(page, start, side, ground, is_):
    """Pickets from the house to the edge of a wide picture."""
    colour = {"day": (250, 244, 230), "night": (170, 172, 190), "snow": tone(WOOD, -0.1)}[is_["when"]]
    end = page.width + 4 if side > 0 else -4
    left, right = min(start, end), max(start, end)
    page.form(box(left, ground - 3.4, right, ground - 1.4), tone(colour, -0.12), width=0.8)
    x = left + 1.5
    while x < right:
        page.form(
            [(x, ground + 2), (x, ground - 5.6), (x + 1.5, ground - 7.4), (x + 3, ground - 5.6), (x + 3, ground + 2)],
            colour,
            width=0.8,
        )
        x += 5


def _path(page, x, foot, is_):
    colour = {"day": (240, 220, 172), "night": (136, 134, 142), "snow": (222, 226, 238)}[is_["when"]]
    h = page.height
    page.form(
        [(x - 3.6, foot - 1), (x + 3.6, foot - 1), (x + 7, h + 3), (x - 6, h + 3)],
        colour,
        line=tone(colour, -0.25),
        width=0.8,
    )


def _smoke(page, x, ridge, is_, dice):
    colour = {"day": (240, 240, 242), "night": (150, 154, 180), "snow": (166, 170, 186)}[is_["when"]]
    drift = dice.pick((-1, 1))
    for up, r, aside in ((5, 2.2, 0.4), (10, 3.0, 2.0), (16, 3.9, 4.8)):
        if ridge - up > 3:
            page.form(
                puff(x + drift * aside, ridge - up + 2, r * 1.25, r, 5), colour, line=tone(colour, -0.3), width=0.8
            )
    page.form(box(x - 2.8, ridge - 1, x + 2.8, ridge + 14), (186, 108, 88), inside=lambda p: bricks(p, (186, 108, 88)))
    page.form(box(x - 3.6, ridge - 2.5, x + 3.6, ridge + 0.2), (150, 84, 76))


def _walls(page, is_, middle, half, eaves, foot, side):
    colour, night = WALLS[is_["wall"]], is_["when"] == "night"
    if night:
        colour = tone(colour, -0.1)
    texture = {"brick": bricks, "wooden": planks, "white": plaster}[is_["wall"]]
    page.form(box(middle - half, eaves - 2, middle + half, foot), colour, inside=lambda p: texture(p, colour))
    page.form(
        box(middle - half, eaves - 2, middle + half, eaves + 1.6), tone(colour, -0.3), line=None
    )  # the roof's shadow
    glass = LAMP if night else (206, 230, 238)
    aside = 0.0 if is_["height"] == "tall" else side * half * 0.42
    at = middle + aside
    door = DOORS[is_["door"]]
    top = foot - 12.5
    page.form([(at - 4.4, foot), (at - 4.4, top + 3), *oval(at, top + 3, 4.4, 4, 180, 360), (at + 4.4, foot)], door,
              width=1.2)  # fmt: skip
    page.line([(at, top + 1), (at, foot - 1)], tone(door, -0.3), 0.6)
    page.dot(at + 2.3, foot - 5.5, 0.8, LAMP if is_["door"] != "yellow" else INK)
    spots = [(middle - aside * 1.15, eaves + 8.2)]
    if is_["height"] == "tall":
        spots = [(middle - half * 0.5, eaves + 7.6), (middle + half * 0.5, eaves + 7.6)]
    for x, y in spots:
        _window(page, x, y, glass, is_["height"] == "small")


def _window(page, x, y, glass, wide):
    rx, ry = (4.6, 4.4) if wide else (3.4, 3.9)
    page.form(box(x - rx, y - ry, x + rx, y + ry), glass, width=1.2)
    page.line([(x, y - ry), (x, y + ry)], INK, 0.8)
    page.line([(x - rx, y), (x + rx, y)], INK, 0.8)
    page.form(box(x - rx - 1, y + ry, x + rx + 1, y + ry + 1.6), WOOD, width=0.8)


def _roof(page, is_, middle, half, eaves, ridge, dice):
    colour = ROOFS[is_["roof"]]
    if is_["when"] == "night":
        colour = tone(colour, -0.16)
    top = half * (0.45 if is_["height"] == "small" else 0.16)
    points = [
        (middle - half - 4, eaves + 1),
        (middle - top, ridge),
        (middle + top, ridge),
        (middle + half + 4, eaves + 1),
    ]
    page.form(points, colour, width=1.3, inside=lambda p: (straw if is_["roof"] == "straw" else shingles)(p, colour))
    if is_["when"] == "snow":
        edge = [
            (middle - half * 0.85, ridge + 6.5),
            (middle - half * 0.3, ridge + 5.2),
            (middle + half * 0.25, ridge + 7),
            (middle + half * 0.85, ridge + 5.8),
        ]
        page.form([*edge, (middle + top + 0.5, ridge - 1.4), (middle - top - 0.5, ridge - 1.4)], SNOW, width=1)


def _pine(page, x, foot, is_, dice):
    snow, night = is_["when"] == "snow", is_["when"] == "night"
    colour = tone(PINE, -0.2) if night else PINE
    high = dice.between(26, 31)
    page.form(box(x - 1.5, foot - 5, x + 1.5, foot), tone(WOOD, -0.35))
    for part, wide in ((0.12, 8.2), (0.36, 6.6), (0.6, 4.8)):
        low, up = foot - high * part, foot - high * (part + 0.4)
        jag = [(x + wide * (1 - i / 4), low + (0.9 if i % 2 else -0.4)) for i in range(9)]
        page.form([(x, up), *jag], colour, inside=lambda p, low=low, wide=wide: _needles(p, x, low, wide, high, colour))
        if snow:
            page.form([(x, up), (x + wide * 0.42, up + high * 0.17), (x, up + high * 0.13),
                       (x - wide * 0.42, up + high * 0.17)], SNOW, width=0.8)  # fmt: skip


def _needles(page, x, low, wide, high, colour):
    for _ in range(22):
        at, y = x + page.dice.between(-wide, wide), low - page.dice.between(0, high * 0.38)
        page.line(
            [(at, y), (at + (at - x) * 0.12, y + 1.8)], tone(colour, page.dice.pick((0.2, 0.3, -0.3))), 0.6, rough=0
        )


def _round_tree(page, x, foot, is_, dice):
    colour = (184, 200, 206) if is_["when"] == "snow" else LEAF
    y = foot - dice.between(17, 19)
    page.form([(x - 1.7, y), (x + 1.7, y), (x + 2.3, foot), (x - 2.3, foot)], tone(WOOD, -0.35))

    def leaves(p):
        p.dot(x + 3, y + 4, 9.5, tone(colour, -0.16))
        p.dot(x - 1.5, y - 2, 8.2, colour)
        for _ in range(26):
            at, up = x + dice.between(-9, 9), y + dice.between(-9, 9)
            p.line(oval(at, up, 1.3, 1.1, 200, 340), tone(colour, dice.pick((0.35, -0.3))), 0.6, rough=0)

    page.form(puff(x, y, 9.2, 9.2, 9, 0.1), colour, inside=leaves)


def _foreground(page, is_, ground, dice):
    w, h = page.width, page.height
    for _ in range(w // 9):
        x, y = dice.between(2, w - 2), dice.between(ground + 5, h - 1)
        if is_["when"] == "snow":
            page.line(oval(x, y, 2.2, 0.8, 200, 340), (206, 214, 232), 0.7)
        else:
            colour = tone(GRASS, -0.25) if is_["when"] == "day" else (70, 100, 96)
            for lean in (-1.1, 0, 1.1):
                page.line([(x, y), (x + lean, y - 2.2)], colour, 0.6, rough=0)
    if is_["when"] == "snow":
        for _ in range(w * h // 150):
            page.dot(dice.between(0, w), dice.between(0, h), dice.pick((0.6, 0.8, 1.0)), SNOW)
