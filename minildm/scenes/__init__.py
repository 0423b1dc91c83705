"""The shapes world: scenes of coloured shapes, their pictures and their captions, all from one seed."""

from .captions import WORDS, captions, unknown_words
from .render import box_map, edge_map, layout_map, masks, render
from .words import BACKGROUNDS, COLOURS, HELD_OUT, PLACES, RELATIONS, SHAPES, SIZES
from .world import Scenes, draw, join, ninth, place, relation

__all__ = [
    "BACKGROUNDS",
    "COLOURS",
    "HELD_OUT",
    "PLACES",
    "RELATIONS",
    "SHAPES",
    "SIZES",
    "WORDS",
    "Scenes",
    "box_map",
    "captions",
    "draw",
    "edge_map",
    "join",
    "layout_map",
    "masks",
    "ninth",
    "place",
    "relation",
    "render",
    "unknown_words",
]
