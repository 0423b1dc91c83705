"""One's own pictures: looked at, kept as latents, and trained on.

    plan = own.plan("latent", "datasets/village", settings=["lr=5e-4"])
    print(plan.report())
    for now in own.train(plan, "runs/village", seconds=300):
        ...
    pipe = minildm.load("runs/village")
"""

from .album import Album, look
from .buckets import Order, places
from .latents import Latents, Wanted
from .plans import KINDS, Plan, plan, usual
from .training import check, encode, train

__all__ = ["KINDS", "Album", "Latents", "Order", "Plan", "Wanted", "check", "encode", "look", "places", "plan", "train",
           "usual"]
