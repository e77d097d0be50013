"""What `doctor` says is missing for GPUs goes with the CUDA that is there."""

from __future__ import annotations

import sys
import types
from pathlib import Path
from typing import Any

import pytest

from symgraph import doctor
from tests.test_cli import CUPY, hide


def test_libraries_go_with_the_cuda_of_cupy(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "cupy.py").write_text(CUPY.format(count="return 1"))
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "cupy", raising=False)
    for each in (doctor.cublaslt, doctor.cudnn):
        monkeypatch.setattr(each, "found", lambda: (None, "not installed"))
    found = {finding.name: finding for finding in doctor._device()}
    sys.modules.pop("cupy", None)  # not by monkeypatch, which would put it back
    assert found["cuBLASLt"].faster == "pip install nvidia-cublas-cu12"
    assert found["cuDNN"].faster.startswith("pip install nvidia-cudnn-cu12 nvidia-cudnn-frontend==")


@pytest.mark.parametrize(
    ("cuda", "written", "extra"), [(12080, "12.8", "cuda12"), (13000, "13.0", "cuda")]
)
def test_cupy_goes_with_the_driver(
    monkeypatch: pytest.MonkeyPatch, cuda: int, written: str, extra: str
) -> None:
    def asked(held: Any) -> int:
        held._obj.value = cuda
        return 0

    hide(monkeypatch, "cupy")
    driver = types.SimpleNamespace(cuDriverGetVersion=asked)
    monkeypatch.setattr(doctor.ctypes, "CDLL", lambda name: driver)
    found = {finding.name: finding for finding in doctor._device()}
    assert found["NVIDIA driver"].note == f"libcuda.so.1, for CUDA {written}"
    assert found["CuPy"].faster == found["CuPy"].fix == f"pip install 'symgraph[{extra}]'"
