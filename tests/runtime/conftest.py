"""A CUDA device for functions where there is none: this CPU."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import pytest

from symgraph.runtime import device_profile
from symgraph.runtime.calibrate import Peaks
from tests.backends.host_device import HostDevice
from tests.backends.test_gpu import GPU, HOST


@pytest.fixture(scope="session")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give the folder in which tests find the kernels that others have compiled."""
    return tmp_path_factory.mktemp("kernels")


@pytest.fixture
def host(tmp_path: Path, compiled: Path, monkeypatch: pytest.MonkeyPatch) -> HostDevice:
    made = HostDevice(compiled, f"cuda of {tmp_path}")
    monkeypatch.setattr(importlib.import_module("symgraph.function"), "device", lambda number: made)
    return made


@pytest.fixture(params=[HOST, GPU])
def there(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Let "cuda" be this CPU, whose peaks nobody measures, or a GPU."""
    if request.param == "host":
        peaks = Peaks(1e9, 1e9, 1e9)
        monkeypatch.setattr(device_profile, "device_peaks", lambda device, precision: peaks)
        return request.getfixturevalue("host")
    return importlib.import_module("symgraph.backends.cuda.device").device(0)
