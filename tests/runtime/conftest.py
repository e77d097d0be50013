"""A CUDA device for functions where there is none: this CPU."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest

from tests.backends.host_device import HostDevice


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> HostDevice:
    made = HostDevice(tmp_path, f"cuda of {tmp_path}")
    monkeypatch.setattr(importlib.import_module("symgraph.function"), "device", lambda number: made)
    return made
