"""A CUDA device for functions where there is none: this CPU."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest

from tests.backends.host_device import HostDevice


@pytest.fixture(scope="session")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give the folder in which tests find the kernels that others have compiled."""
    return tmp_path_factory.mktemp("kernels")


@pytest.fixture
def host(tmp_path: Path, compiled: Path, monkeypatch: pytest.MonkeyPatch) -> HostDevice:
    made = HostDevice(compiled, f"cuda of {tmp_path}")
    monkeypatch.setattr(importlib.import_module("symgraph.function"), "device", lambda number: made)
    return made
