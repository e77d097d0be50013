"""What is said where CUDA cannot be used: what was found, what is needed, what fixes it."""

from __future__ import annotations

import importlib.util
import sys
import types
from pathlib import Path
from typing import Any

import pytest

from symgraph.backends.cuda import device as devices
from symgraph.backends.cuda.status import status, version
from symgraph.errors import DeviceError


class RuntimeProblemError(RuntimeError):
    """cudaError of a fake CuPy."""


def fake(monkeypatch: pytest.MonkeyPatch, driver: int = 13000, count: Any = 1) -> None:
    """Put a CuPy for CUDA 13 in place."""

    def counted() -> int:
        if isinstance(count, str):
            raise RuntimeProblemError(count)
        return int(count)

    cupy = types.ModuleType("cupy")
    cupy.__dict__["cuda"] = types.SimpleNamespace(
        runtime=types.SimpleNamespace(
            CUDARuntimeError=RuntimeProblemError, getDeviceCount=counted,
            runtimeGetVersion=lambda: 13020, driverGetVersion=lambda: driver,
        )
    )  # fmt: skip
    monkeypatch.setitem(sys.modules, "cupy", cupy)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())


@pytest.mark.parametrize(
    ("driver", "count", "problem", "fix"),
    [
        (0, 1, "there is no NVIDIA driver", "install one for CUDA 13.2 or newer"),
        (
            12040,
            1,
            "the NVIDIA driver is for CUDA 12.4, this CuPy for 13.2",
            "cupy-cuda12x instead",
        ),
        (
            13000,
            "cudaErrorNoDevice: none\nmore",
            "no usable GPU (cudaErrorNoDevice: none)",
            "nvidia-smi",
        ),
        (13000, 0, "the NVIDIA driver finds no GPU", "CUDA_VISIBLE_DEVICES"),
    ],
)
def test_what_is_in_the_way(
    monkeypatch: pytest.MonkeyPatch, driver: int, count: Any, problem: str, fix: str
) -> None:
    fake(monkeypatch, driver, count)
    found = status()
    assert problem in found.problem
    assert fix in found.fix
    assert found.devices == 0


def test_a_machine_with_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    fake(monkeypatch, count=2)
    assert (status().devices, status().problem) == (2, "")
    devices.device.cache_clear()
    with pytest.raises(DeviceError, match="cuda:2: this machine has 2 CUDA devices") as caught:
        devices.device(2)
    assert caught.value.fix == "use a number from 0 to 1"


def test_without_cupy_and_with_one_that_cannot_be_loaded(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delitem(sys.modules, "cupy", raising=False)
    with monkeypatch.context() as inside:
        inside.setattr(importlib.util, "find_spec", lambda name: None)
        assert status().problem == "CuPy is not installed"
        assert status().fix == "pip install 'symgraph[cuda]'"
    (tmp_path / "cupy.py").write_text("raise ImportError('\\nlibcudart.so.12: cannot open\\nmore')")
    monkeypatch.syspath_prepend(tmp_path)
    found = status()
    assert found.problem == "CuPy is installed but cannot be loaded (libcudart.so.12: cannot open)"
    assert "cupy-cuda12x, cupy-cuda13x" in found.fix
    sys.modules.pop("cupy", None)


def test_versions_are_written_as_people_do() -> None:
    assert [version(n) for n in (12040, 13000, 11080)] == ["12.4", "13.0", "11.8"]
