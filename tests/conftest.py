"""For the tests alone. (Not for notebooks: their kernels draw into the page.)"""

import os

os.environ["MPLBACKEND"] = "Agg"  # before anything imports matplotlib: a test opens no window
