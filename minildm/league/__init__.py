"""The league: kinds of generative models at equal seconds, told the same captions, judged by the same figures.

Every run trains one contestant, draws its pictures, and leaves two files: NAME.pt with the pictures, and NAME.json with
what `judging` says of them. The runs that the course quotes are in `results`.
"""

from .charts import HUES, figure, plotted, save
from .contestants import ENTRIES, ConditionalVAE, Contestant
from .judging import figures
from .running import PICTURES, Job, jobs, play, tuned
from .telling import kept, over_seeds, pictures, rates, results, table

__all__ = [
    "ENTRIES", "HUES", "PICTURES", "ConditionalVAE", "Contestant", "Job", "figure", "figures", "jobs", "kept",
    "over_seeds", "pictures", "play", "plotted", "rates", "results", "save", "table", "tuned",
]  # fmt: skip
