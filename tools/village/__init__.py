"""The village: the visual world of the example folder, drawn with Pillow. `tools/draw_village.py` is the command."""
