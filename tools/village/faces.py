"""Faces: hair of four colours and cuts, four moods, glasses, hats and scarves."""

import math

from . import brush
from .brush import INK, WHITE, box, oval, puff, tone

HAIR = {"black": (72, 60, 76), "red": (212, 104, 56), "blond": (244, 208, 118), "white": (240, 238, 240)}
CUTS = ("curly", "long", "short", "braids")
MOODS = ("smiling", "sad", "surprised", "sleeping")
WORN = ("nothing", "hat", "scarf")
CLOTH = {"red": brush.RED, "blue": brush.BLUE, "yellow": brush.YELLOW}  # of the hat or scarf
DOWN = 48  # below any picture's edge
SKINS = ((250, 220, 196), (238, 190, 152), (200, 144, 106), (150, 102, 78))

ATTRIBUTES = {"hair": tuple(HAIR), "cut": CUTS, "mood": MOODS, "glasses": (True, False), "worn": WORN,
              "cloth": tuple(CLOTH)}  # fmt: skip
NEVER = [{"hair": "blond", "cut": "curly"}, {"mood": "sad", "glasses": True}, {"worn": "hat", "cloth": "yellow"}]


def allowed(is_):
    """Whether such a face is drawn at all: no hat hides all of the hair."""
    return (is_["cut"], is_["worn"]) != ("short", "hat")


def sizes(is_):
    return [(64, 64), (64, 64), (64, 80)]


def paint(page, is_, dice):
    """Draw the face that the attributes tell of."""
    hair, cloth, worn = HAIR[is_["hair"]], CLOTH.get(is_["cloth"]), is_["worn"]
    skin = dice.pick(SKINS)
    _wallpaper(page, dice)
    large = page.height > 64
    y = page.height / 2 + dice.between(-1, 1) + 1.5 * (worn == "hat") - large
    head = page.at(page.width / 2 + dice.between(-1.5, 1.5), y, 1.12 if large else 1.0)
    _hair_behind(head, is_, hair)
    _body(head, skin, dice)
    if worn == "scarf":
        _scarf(head, cloth, dice)
    _head(head, skin)
    _features(head, is_, skin, dice)
    _hair_before(head, is_, hair)
    if is_["glasses"]:
        _glasses(head)
    if worn == "hat":
        _hat(head, cloth)


def _wallpaper(page, dice):
    w, h = page.width, page.height
    wall = dice.pick(((176, 210, 206), (236, 206, 186), (198, 204, 228), (224, 222, 184)))
    page.form(box(-4, -4, w + 4, h + 4), wall, line=None)
    kind = dice.pick(("dots", "lines", "leaves"))
    for row in range(h // 8 + 2):
        for column in range(w // 8 + 2):
            x, y = column * 8 + 4 * (row % 2), row * 8
            if kind == "dots":
                page.dot(x, y, 1.1, tone(wall, 0.5))
            elif kind == "leaves":
                page.line(oval(x, y, 1.9, 1.6, 200, 330), tone(wall, -0.12), 0.8)
            elif row == 0:
                page.line([(column * 8, -2), (column * 8, h + 2)], tone(wall, 0.4), 2.2, rough=0)


def _body(page, skin, dice):
    shirt = dice.pick(((112, 148, 160), (190, 112, 112), (134, 118, 164), (124, 156, 116)))

    def knit(p):
        for y in range(21, DOWN, 3):
            for x in range(-30, 30, 3):
                p.line([(x, y), (x + 1.5, y + 1.4), (x + 3, y)], tone(shirt, -0.2), 0.6, rough=0)

    page.form([(-26, DOWN), (-22, 26), (-8, 21), (8, 21), (22, 26), (26, DOWN)], shirt, inside=knit, width=1.2)
    page.form([(-5, 14), (5, 14), (6, 22), (0, 26), (-6, 22)], tone(skin, -0.14))


def _head(page, skin):
    for side in (-1, 1):
        page.form(oval(side * 14.6, 3, 3, 3.6), tone(skin, -0.06))
    page.form(oval(0, 1.5, 14.6, 17), skin, width=1.2)


def _features(page, is_, skin, dice):
    dark, mood = (58, 44, 56), is_["mood"]
    cheek = tuple(round(a * 0.6 + b * 0.4) for a, b in zip(skin, (226, 96, 96), strict=True))
    for side in (-1, 1):
        page.dot(side * 8.6, 8, 2.7, cheek, ry=2)
        ex, ey = side * 6, 2
        if mood == "sleeping":
            page.line(oval(ex, ey - 0.6, 2.7, 2.2, 20, 160), dark, 1.2)
        else:
            r = 2.4 if mood == "surprised" else 2.0
            if mood == "surprised":
                page.form(oval(ex, ey, r * 1.35, r * 1.45), WHITE, width=0.7)
            page.dot(ex, ey, r * (0.9 if mood == "surprised" else 1), dark, ry=r * (1 if mood == "surprised" else 1.2))
            page.dot(ex + 0.6, ey - 0.9, 0.7, WHITE)
        up = {"smiling": 5.2, "sad": 4.8, "surprised": 6.6, "sleeping": 4.4}[mood]
        tilt = {"smiling": 0.3, "sad": -1.5, "surprised": 0, "sleeping": 0}[mood]
        arch = 1.5 if mood == "surprised" else 0.5
        page.line([(ex - side * 2.6, ey - up + tilt), (ex, ey - up - arch), (ex + side * 2.6, ey - up - tilt)],
                  tone(dark, 0.1), 1.1)  # fmt: skip
    page.line(oval(0, 6.2, 1.7, 1.4, 20, 160), tone(skin, -0.42), 1.1)
    my = 11.4
    if mood == "smiling":
        page.form(oval(0, my - 1.2, 5.6, 4.4, 0, 180), (158, 58, 64), width=1.0,
                  inside=lambda p: p.form(box(-9, my - 6, 9, my + 0.4), WHITE, line=None))  # fmt: skip
    elif mood == "sad":
        page.line(oval(0, my + 3.4, 4.6, 3.6, 205, 335), dark, 1.5)
        tear = dice.pick((-1, 1)) * 8.2
        page.form([(tear, 5), (tear + 1.5, 8.4), (tear, 9.8), (tear - 1.5, 8.4)],
                  (150, 206, 236), width=0.7)  # fmt: skip
    elif mood == "surprised":
        page.form(oval(0, my + 0.4, 2.3, 2.8), (176, 74, 76), width=1.0)
    else:
        page.line(oval(0, my - 1.4, 2.6, 1.8, 25, 155), dark, 1.2)


def _strands(colour):
    def draw(p):
        for i in range(-12, 13):
            shade = tone(colour, (-0.22, 0.3, -0.12)[i % 3])
            p.line([(i * 0.9, -20), (i * 1.6, -6), (i * 1.75, 40)], shade, 0.6)

    return draw


def _curls(page, colour, spots):
    for angle, far, r in spots:
        a = math.radians(angle)
        cx, cy = far * math.cos(a), far * math.sin(a) * 1.02
        page.form(oval(cx, cy, r), colour, width=0.9)
        page.line(oval(cx + 0.3, cy + 0.3, r * 0.5, None, 120, 380), tone(colour, -0.26), 0.8)


def _hair_behind(page, is_, hair):
    cut, back = is_["cut"], tone(hair, -0.1)
    if cut == "curly":
        page.form(puff(0, -1, 19, 19, 13, 0.1), tone(hair, -0.16))
        _curls(page, hair, [(a, 17.6, 4.4) for a in range(-210, 31, 22)])
    elif cut == "long":
        page.form([*oval(0, -1, 18.5, 19, 180, 360), (20, 27), (11, 28), (-11, 28), (-20, 27)], back,
                  inside=_strands(back), width=1.2)  # fmt: skip
    elif cut == "braids":
        page.form(oval(0, -1, 16.5, 17.5), back, width=1.2)
    else:
        page.form(oval(0, -2.4, 16, 16.6), back, width=1.2)


def _hair_before(page, is_, hair):
    cut = is_["cut"]
    wide, high, up = {"long": (18.5, 19, 1), "braids": (16.5, 17.5, 1)}.get(cut, (16, 16.6, 2.4))
    top = oval(0, -up, wide, high, 184, 356)
    if cut == "curly":
        _curls(page, hair, [(a, 13.8, 4.3) for a in (-166, -140, -114, -90, -66, -40, -14)])
        return
    fringe = {
        "short": [
            (14, -3),
            (11, -7),
            (8, -4.6),
            (4.5, -8.4),
            (1, -5),
            (-3, -8.6),
            (-7, -4.8),
            (-10.5, -7.4),
            (-14, -3),
        ],
        "long": [(14.6, 6), (11.6, -2), (6, -7), (0, -10), (-6, -7), (-11.6, -2), (-14.6, 6)],
        "braids": [(14.4, -1), (9, -5.6), (0, -7), (-9, -5.6), (-14.4, -1)],
    }[cut]

    def strands(p):
        for i in range(-7, 8):
            p.line([(0, -19), (i * 1.5, -13), (i * 2.4, 2)], tone(hair, (-0.24, 0.3)[i % 2]), 0.7)

    page.form([*top, *fringe], hair, inside=strands, width=1.2)
    if cut == "braids":
        page.line([(0, -17), (0, -7.4)], tone(hair, -0.4), 0.8)
        for side in (-1, 1):
            for i in range(4):
                cx, cy = side * (16.2 + 0.9 * i), 5.5 + 5 * i
                page.form(oval(cx, cy, 3.7, 3.3), hair, width=1)
                page.line([(cx - side * 2.2, cy - 1.2), (cx + side * 0.4, cy + 1.8)], tone(hair, -0.28), 0.8)
            cx, cy = side * 19.8, 24
            page.form(box(cx - 2, cy - 0.6, cx + 2, cy + 1.6), (222, 128, 148), width=0.8)
            page.form([(cx - 1.6, cy + 1.6), (cx + 1.6, cy + 1.6), (cx + 2.6, cy + 5.6), (cx, cy + 4.6),
                       (cx - 2.6, cy + 5.6)], hair, width=0.9)  # fmt: skip


def _glasses(page):
    for side in (-1, 1):
        page.line([*oval(side * 6.2, 2.2, 4.9), (side * 6.2 + 4.9, 2.2)], INK, 1.5)
        page.line([(side * 11.2, 1.6), (side * 15, 0.4)], INK, 1.3)
    page.line(oval(0, 2.4, 1.5, 1.2, 190, 350), INK, 1.4)


def _hat(page, cloth):
    def knit(p):
        for i in range(-8, 9):
            p.line([(i * 1.4, -28), (i * 2.5, -4)], tone(cloth, -0.24), 0.7)

    dome = [(-16.8, -7), *oval(0, -8.4, 16.4, 15.4, 180, 360), (16.8, -7)]
    page.form(oval(0, -24.4, 4), WHITE, width=1)
    page.form(dome, cloth, inside=knit, width=1.3)

    def ribs(p):
        for i in range(-10, 11):
            p.line([(i * 1.9, -14), (i * 1.9, 0)], tone(cloth, -0.1), 0.8, rough=0)

    page.form([(-17.6, -11), (0, -13), (17.6, -11), (17.6, -6), (0, -8),
               (-17.6, -6)], tone(cloth, 0.3), inside=ribs, width=1.2)  # fmt: skip


def _scarf(page, cloth, dice):
    side = dice.pick((-1, 1))

    def stripes(p):
        for i in range(-6, 9):
            p.line([(i * 7 - 3, 10), (i * 7 + 4, 60)], tone(cloth, 0.62), 2.2)

    def bands(p):
        for i in range(8):
            p.line([(-40, 24 + i * 6), (40, 24 + i * 6)], tone(cloth, 0.62), 2.2)

    tail = side * 8
    page.form([(tail - 4, 20), (tail + 4, 20), (tail + 5, DOWN), (tail - 4, DOWN)],
              cloth, inside=bands, width=1.2)  # fmt: skip
    page.form([(-14, 15), (0, 19), (14, 15), (15.5, 21.5), (0, 27),
               (-15.5, 21.5)], cloth, inside=stripes, width=1.2)  # fmt: skip
