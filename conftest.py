"""For tests and notebooks alike: the network is refused, here and in every child, and hubs are not asked."""

import os
import sys
from pathlib import Path

GUARD = str(Path(__file__).parent / "tests" / "guard")
if GUARD not in sys.path:
    sys.path.insert(0, GUARD)
import network_guard  # noqa: E402, F401

NOWHERE = "http://127.0.0.1:9"  # for children that are not Python: a port that nothing listens on
os.environ |= {
    "PYTHONPATH": os.pathsep.join(filter(None, [GUARD, os.environ.get("PYTHONPATH")])),
    "HF_HUB_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HTTP_PROXY": NOWHERE,
    "HTTPS_PROXY": NOWHERE,
    "NO_PROXY": "localhost,127.0.0.1,::1",
    "JUPYTER_PREFER_ENV_PATH": "1",
    "MINILDM_TESTED": "1",  # widgets.drive holds explorers to their seconds; for a reader a slow one is still one
}
