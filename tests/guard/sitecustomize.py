"""Python imports this first in every child and kernel of a test run: conftest.py puts it on the path."""

import warnings

import network_guard  # noqa: F401

# As in pyproject.toml: what our own modules warn of is an error in lessons and children too.
warnings.filterwarnings("error", module=r"minildm(\.|$)")
