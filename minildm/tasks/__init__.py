"""What one does with a model: each task a short function over denoisers and a sampler, none a class."""

from .choose import likeliest
from .draw import prompted, states, text2img
from .edit import finish, img2img, inpaint, outpaint, vary
from .enlarge import shown, upscale

__all__ = [
    "finish", "img2img", "inpaint", "likeliest", "outpaint", "prompted", "shown", "states", "text2img", "upscale",
    "vary",
]  # fmt: skip
