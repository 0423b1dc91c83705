"""The oracle: reads a scene back from pixels by fitting the renderer to them, or says that it cannot.

It is not trained, so its answers mean the same in every lesson. A picture that is half-way between two shapes
or two colours, holds a third object, or is no scene at all is unreadable. tools/calibrate.py prints how often it
errs.
"""

from .judge import accuracy, errors, matches, wilson
from .places import in_boxes, overlap
from .reading import WHY, Reading, describe, read

__all__ = [
    "WHY", "Reading", "accuracy", "describe", "errors", "in_boxes", "matches", "overlap",
    "read", "wilson",
]
