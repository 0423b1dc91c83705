"""The fixed words of the shapes world: what can be drawn, its colours and sizes, and what is held out."""

SHAPES = ("circle", "square", "triangle", "star", "ring", "cross")

# sRGB, 0..1. Found by a search for the palette, true to its names, whose least difference of any two colours,
# and of any colour and background, is largest for an eye with deuteranopia or protanopia
# (tests/test_scenes.py says how large: 17 units of CAM02-UCS).
COLOURS = {
    "red": (0.90, 0.00, 0.04),
    "orange": (0.97, 0.60, 0.00),
    "yellow": (1.00, 0.94, 0.11),
    "green": (0.10, 0.53, 0.30),
    "blue": (0.11, 0.45, 0.89),
    "purple": (0.40, 0.08, 0.60),
    "pink": (1.00, 0.56, 0.81),
    "brown": (0.37, 0.18, 0.09),
}
BACKGROUNDS = {
    "white": (1.00, 1.00, 1.00),
    "black": (0.00, 0.00, 0.00),
    "grey": (0.57, 0.57, 0.57),
    "beige": (0.96, 0.90, 0.73),
}

# Radius of the bounding circle as a fraction of the frame: 3.5 and 6.7 pixels of 32.
SIZES = {"small": 0.11, "large": 0.21}
SIZE_WORDS = {"small": ("small", "tiny", "little"), "large": ("large", "big", "huge")}

RELATIONS = ("left of", "right of", "above", "below")
PLACES = ("top left", "top", "top right", "left", "centre", "right", "bottom left", "bottom", "bottom right")

# Each colour once and each shape at least once. No training data ever shows one of these pairs.
HELD_OUT = (
    ("red", "cross"),
    ("orange", "triangle"),
    ("yellow", "ring"),
    ("green", "square"),
    ("blue", "triangle"),
    ("purple", "star"),
    ("pink", "circle"),
    ("brown", "square"),
)
