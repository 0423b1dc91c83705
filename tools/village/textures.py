"""What walls and roofs are made of: each fills a whole page of a colour, of which a form shows its part."""

from .brush import box, oval, tone


def bricks(page, colour):
    dice, y, row = page.dice, 0.0, 0
    while y < page.height:
        x = -4 + 2.7 * (row % 2)
        while x < page.width:
            if dice.chance(0.3):
                page.form(box(x, y, x + 5.4, y + 3), tone(colour, dice.pick((-0.14, 0.16))), line=None, rough=0)
            page.line([(x, y), (x, y + 3)], tone(colour, 0.5), 0.5, rough=0)
            x += 5.4
        page.line([(0, y), (page.width, y)], tone(colour, 0.5), 0.5, rough=0)
        y, row = y + 3, row + 1


def planks(page, colour):
    dice, y = page.dice, 1.0
    while y < page.height:
        page.line([(0, y), (page.width, y)], tone(colour, -0.32), 0.55, rough=0.1)
        for _ in range(page.width // 12):
            x = dice.between(0, page.width)
            page.line([(x, y + 1.7), (x + dice.between(2, 5), y + 1.7)], tone(colour, -0.17), 0.5, rough=0)
        y += 3.6


def plaster(page, colour):
    dice = page.dice
    for _ in range(page.width * page.height // 70):
        x, y = dice.between(0, page.width), dice.between(0, page.height)
        page.line([(x, y), (x + dice.between(1, 2.5), y)], tone(colour, -0.12), 0.6, rough=0)


def shingles(page, colour):
    y, row = 0.0, 0
    while y < page.height:
        x = -3 + 2 * (row % 2)
        while x < page.width + 4:
            shade = tone(colour, page.dice.pick((-0.06, 0, 0, 0.12)))
            page.form(oval(x, y, 2.1, 3.2, 0, 180), shade, line=tone(colour, -0.34), width=0.5, rough=0)
            x += 4
        y, row = y + 2.7, row + 1


def straw(page, colour):
    for _ in range(page.width * page.height // 5):
        x, y = page.dice.between(0, page.width), page.dice.between(0, page.height)
        shade = tone(colour, page.dice.pick((-0.24, -0.14, 0.3)))
        page.line([(x, y), (x + (x - page.width / 2) * 0.05, y + page.dice.between(2.5, 4))], shade, 0.55, rough=0)
