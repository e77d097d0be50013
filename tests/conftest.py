"""What holds for every test: verified graphs, fixed seeds, and two Hypothesis profiles."""

from __future__ import annotations

import gc
import os
import random
import re
import zlib

import numpy as np
import pytest
from hypothesis import HealthCheck, settings

from symgraph.config import PREFIX, config

# `ci` finds the same examples in every run: a red run can be run again. `full` looks for new ones.
# Neither has a deadline: two cores are shared with whatever else runs, and nothing here is timed.
settings.register_profile(
    "ci",
    derandomize=True,
    database=None,
    deadline=None,
    max_examples=30,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.register_profile(
    "full",
    deadline=None,
    max_examples=500,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow],
)

# Thousands of functions that are called once are not worth compiling, here or in a process that a
# test starts; tests of the compiled backend ask for it. Nothing is read from the caller's cache of
# code, nothing is left there.
BY_DEFAULT = {"backend": "reference", "cache": "off"}


def pytest_configure(config: pytest.Config) -> None:
    """Choose the profile, and make the run independent of the caller's SYMGRAPH_* variables."""
    if not config.getoption("--hypothesis-profile", default=None):
        whole = re.search(r"(?<!not )\bfull\b", config.option.markexpr or "")
        settings.load_profile("full" if whole else "ci")
    for variable in [name for name in os.environ if name.startswith(PREFIX)]:
        del os.environ[variable]
    os.environ.update({PREFIX + name.upper(): value for name, value in BY_DEFAULT.items()})
    _verify_graphs()


def pytest_collection_finish() -> None:
    """Keep the collector of garbage off the tens of thousands of tests, which stay to the end."""
    gc.collect()
    gc.freeze()


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files named test_torch_*.py are the second opinion, without saying so again in each."""
    for item in items:
        if item.path.name.startswith("test_torch_"):
            item.add_marker("torch")


def _verify_graphs() -> None:
    config.reset()
    config.set(verify=True)


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Start every test from a state of its own, whichever tests ran before it."""
    seed = zlib.crc32(item.nodeid.encode())  # no fixture: that costs more than a small test
    random.seed(seed)
    np.random.seed(seed)


@pytest.fixture
def rng(request: pytest.FixtureRequest) -> np.random.Generator:
    """A NumPy generator whose seed is the name of the test."""
    return np.random.default_rng(zlib.crc32(request.node.nodeid.encode()))
