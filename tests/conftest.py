"""For the tests alone. (Not for notebooks: their kernels draw into the page.)"""

import os

os.environ["MPLBACKEND"] = "Agg"  # before anything imports matplotlib: a test opens no window
# Before anything imports torch: the tests' networks are so small that a second thread slows them down.
os.environ.setdefault("OMP_NUM_THREADS", "1")
