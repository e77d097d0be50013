"""What is said where CUDA cannot be used: what was found, what is needed, what fixes it."""

from __future__ import annotations

import importlib.util
import re
import sys
import types
from pathlib import Path
from typing import Any

import pytest

from symgraph.backends.cuda import device as devices
from symgraph.backends.cuda import offline, wheels
from symgraph.backends.cuda import status as statuses
from symgraph.backends.cuda.cublaslt import library as cublaslt
from symgraph.backends.cuda.cudnn import library as cudnn
from symgraph.backends.cuda.status import status, version
from symgraph.errors import BackendError, DeviceError


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


def drive(monkeypatch: pytest.MonkeyPatch, cuda: int | None, answer: int = 0) -> None:
    """Put a driver for a version of CUDA in place, or none."""

    def loaded(name: str) -> Any:
        assert name == "libcuda.so.1"
        if cuda is None:
            raise OSError("cannot open shared object file")

        def asked(held: Any) -> int:
            held._obj.value = cuda
            return answer

        return types.SimpleNamespace(cuDriverGetVersion=asked)

    monkeypatch.setattr(wheels.ctypes, "CDLL", loaded)


@pytest.mark.parametrize(
    ("driver", "count", "problem", "fix"),
    [
        (0, 1, "there is no NVIDIA driver", "install one for CUDA 13.2 or newer"),
        (
            12040,
            1,
            "the NVIDIA driver is for CUDA 12.4, this CuPy for 13.2",
            "cupy-cuda12x instead of this CuPy, with nvidia-cudnn-cu12 and nvidia-cublas-cu12",
        ),
        (
            11080,
            1,
            "the NVIDIA driver is for CUDA 11.8, this CuPy for 13.2",
            "a newer driver: there is no CuPy of this kind for CUDA 11.8",
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
    drive(monkeypatch, None)
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


# -- packages that go with the driver --------------------------------------------------------------

DRIVERS = [
    # the driver's CUDA, the extra, CuPy, cuBLAS, cuDNN, NVRTC
    (None, "cuda", "cupy-cuda13x", "nvidia-cublas", "nvidia-cudnn-cu13", "nvidia-cuda-nvrtc"),
    (13000, "cuda", "cupy-cuda13x", "nvidia-cublas", "nvidia-cudnn-cu13", "nvidia-cuda-nvrtc"),
    (14010, "cuda", "cupy-cuda13x", "nvidia-cublas", "nvidia-cudnn-cu13", "nvidia-cuda-nvrtc"),
    (
        12040, "cuda12", "cupy-cuda12x", "nvidia-cublas-cu12", "nvidia-cudnn-cu12",
        "nvidia-cuda-nvrtc-cu12",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("cuda", "extra", "cupy", "cublas", "cuda_dnn", "nvrtc"), DRIVERS)
def test_what_is_missing_goes_with_the_driver(
    monkeypatch: pytest.MonkeyPatch,
    cuda: int | None,
    extra: str,
    cupy: str,
    cublas: str,
    cuda_dnn: str,
    nvrtc: str,
) -> None:
    drive(monkeypatch, cuda)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert status().fix == f"pip install 'symgraph[{extra}]'"
    devices.device.cache_clear()
    with pytest.raises(DeviceError, match="CuPy is not installed") as caught:
        devices.device(0)
    assert f"'symgraph[{extra}]'" in str(caught.value)
    monkeypatch.setattr(offline, "found", lambda: (None, "there is none"))
    with pytest.raises(BackendError, match="there is no NVRTC") as problem:
        offline.compiled("", "sm_90")
    assert problem.value.fix == f"pip install {nvrtc}"
    known = cuda or 0
    assert cublaslt.install(known) == f"pip install {cublas}"
    assert cudnn.install(known) == f"pip install {cuda_dnn} {wheels.FRONTEND}"
    assert wheels.wheels(known).cupy == cupy


def test_a_cupy_that_cannot_be_loaded_is_one_for_another_cuda(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delitem(sys.modules, "cupy", raising=False)
    (tmp_path / "cupy.py").write_text("raise ImportError('libnvrtc.so.13: cannot open')")
    monkeypatch.syspath_prepend(tmp_path)
    drive(monkeypatch, 12080)
    found = status()
    sys.modules.pop("cupy", None)
    assert found.fix == (
        "pip install 'symgraph[cuda12]', which brings cupy-cuda12x; only one CuPy may be installed"
    )


def test_a_driver_that_is_too_old_for_any(monkeypatch: pytest.MonkeyPatch) -> None:
    drive(monkeypatch, 11080)
    assert statuses.install() == (
        "a driver for CUDA 12 or newer, then pip install 'symgraph[cuda12]'"
    )


def test_a_driver_that_does_not_answer_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    drive(monkeypatch, 12040, answer=999)
    assert wheels.driver_version() == 0
    monkeypatch.setattr(wheels.ctypes, "CDLL", lambda name: object())
    assert wheels.driver_version() == 0
    drive(monkeypatch, None)
    assert wheels.driver_version() == 0
    drive(monkeypatch, 12040)
    assert wheels.driver_version() == 12040


def test_extras_bring_what_hints_name() -> None:
    """The hint that names an extra and those that name packages say the same."""
    text = (Path(__file__).parents[2] / "setup.py").read_text(encoding="utf-8")
    for own in wheels.WHEELS.values():
        assert f'"{own.extra}": ["{own.cupy}>=' in text
        for name in (own.cublas, own.cudnn, wheels.FRONTEND):
            assert re.search(rf'"{re.escape(name)}[">=]', text), name
