"""A page to draw on: filled forms with an ink outline that looks drawn by hand, and textures inside them.

Lengths are pixels of the finished picture. The page itself is FINE times larger and scaled down at the end, which is
what makes edges smooth.
"""

import copy
import math
import random

from PIL import Image, ImageDraw

FINE = 6
INK = (56, 46, 66)

# Captions rely on these. They keep apart for readers who do not see red and green as others do (tests/test_village.py).
RED, BLUE, YELLOW, WHITE = (206, 72, 52), (58, 98, 172), (246, 200, 76), (252, 248, 238)
GREEN, CLAY = (84, 176, 138), (212, 136, 96)

LEAF, PINE, GRASS, WOOD, STONE = (98, 152, 84), (58, 112, 92), (162, 198, 116), (206, 164, 114), (176, 172, 178)
SKY, NIGHT, SNOWY, SNOW, LAMP = (190, 222, 236), (52, 60, 104), (206, 212, 228), (246, 248, 252), (255, 218, 120)


class Dice(random.Random):
    """Random numbers that stay the same from one Python to the next: everything comes from `random` alone."""

    def pick(self, items):
        items = list(items)
        return items[int(self.random() * len(items))]

    def between(self, low, high):
        return low + (high - low) * self.random()

    def chance(self, share):
        return self.random() < share

    def mixed(self, items):
        """The items in another order."""
        keyed = [(self.random(), number) for number in range(len(items))]
        return [items[number] for _, number in sorted(keyed)]


def tone(colour, amount):
    """A colour, darker for an amount below 0 and lighter above, by that share of the way to ink or to white."""
    goal = WHITE if amount > 0 else (40, 30, 70)
    return tuple(round(a + (b - a) * abs(amount)) for a, b in zip(colour, goal, strict=True))


def box(left, top, right, bottom):
    return [(left, top), (right, top), (right, bottom), (left, bottom)]


def oval(x, y, rx, ry=None, first=0, last=360):
    """Points on an ellipse, clockwise from the right; an arc between two angles in degrees."""
    ry = rx if ry is None else ry
    n = max(10, int(6 * max(rx, ry) ** 0.5 * (last - first) / 180))
    angles = [math.radians(first + (last - first) * i / n) for i in range(n + (last - first < 360))]
    return [(x + rx * math.cos(a), y + ry * math.sin(a)) for a in angles]


def puff(x, y, rx, ry, bumps, depth=0.14, turn=0.0):
    """A closed outline of round bumps: a cloud, a bush, a curly head."""
    points = []
    for i in range(bumps * 8):
        a = 2 * math.pi * i / (bumps * 8)
        out = 1 - depth + depth * abs(math.sin(bumps * a / 2 + turn)) * 1.6
        points.append((x + rx * out * math.cos(a), y + ry * out * math.sin(a)))
    return points


class Page:
    """A picture being drawn."""

    def __init__(self, width, height, ground, dice):
        self.width, self.height, self.dice = width, height, dice
        self.image = Image.new("RGB", (width * FINE, height * FINE), ground)
        self.draw = ImageDraw.Draw(self.image)
        self.origin, self.scale = (0, 0), 1.0

    def at(self, x, y, scale=1.0):
        """The same page, on which (0, 0) is (x, y) and forms are so much larger; lines are not."""
        other = copy.copy(self)
        other.origin, other.scale = (x, y), scale
        return other

    def _placed(self, points):
        (x, y), scale = self.origin, self.scale
        return [(x + a * scale, y + b * scale) for a, b in points]

    def form(self, points, fill, line=INK, width=1.1, inside=None, rough=0.18):
        """A filled form. inside(page): draws on a page of the fill's colour, of which the form shows its part."""
        points = self._placed(points)
        if rough:
            points = self._rough(points, rough)
        fine = [(x * FINE, y * FINE) for x, y in points]
        if inside is None:
            self.draw.polygon(fine, fill=fill)
        else:
            other = Page(self.width, self.height, fill, self.dice)
            inside(other.at(*self.origin, self.scale))
            mask = Image.new("L", self.image.size)
            ImageDraw.Draw(mask).polygon(fine, fill=255)
            self.image.paste(other.image, mask=mask)
        if line:
            self._stroke([*points, points[0]], line, width)

    def veil(self, parts, colour=(40, 30, 70)):
        """Lay a colour over forms: parts are pairs of points and of how much, 0..255."""
        mask = Image.new("L", self.image.size)
        for points, amount in parts:
            ImageDraw.Draw(mask).polygon([(x * FINE, y * FINE) for x, y in self._placed(points)], fill=amount)
        self.image.paste(colour, mask=mask)

    def line(self, points, colour=INK, width=1.1, rough=0.12):
        """A stroke through the points, with round ends."""
        points = self._placed(points)
        self._stroke(self._rough(points, rough, closed=False) if rough else points, colour, width)

    def _stroke(self, points, colour, width):
        fine, wide = [(x * FINE, y * FINE) for x, y in points], width * FINE
        self.draw.line(fine, fill=colour, width=round(wide))
        if wide > 2:
            for x, y in fine:
                self.draw.ellipse((x - wide / 2, y - wide / 2, x + wide / 2 - 1, y + wide / 2 - 1), fill=colour)

    def dot(self, x, y, r, colour, ry=None):
        """A disc without an outline, or an oval."""
        self.draw.polygon([(a * FINE, b * FINE) for a, b in self._placed(oval(x, y, r, ry))], fill=colour)

    def _rough(self, points, amount, closed=True):
        """The points, each a little aside, and long edges a little bent."""
        out = []
        ends = points[1:] + points[:1] if closed else [*points[1:], None]
        for (x, y), end in zip(points, ends, strict=True):
            out.append((x + self.dice.between(-amount, amount), y + self.dice.between(-amount, amount)))
            if end and math.hypot(end[0] - x, end[1] - y) > 9:
                aside = [self.dice.between(-amount, amount) * 1.6 for _ in range(2)]
                out.append(((x + end[0]) / 2 + aside[0], (y + end[1]) / 2 + aside[1]))
        return out

    def finished(self):
        """The picture at its own size."""
        return self.image.reduce(FINE)
