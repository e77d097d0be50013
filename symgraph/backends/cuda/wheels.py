"""The packages that go with a version of CUDA, and the version that the driver knows."""

from __future__ import annotations

import ctypes

from symgraph.frozen import frozen

FRONTEND = "nvidia-cudnn-frontend==1.28.0"


@frozen
class Wheels:
    """Names of packages for one version of CUDA, and the extra of symgraph that brings them."""

    extra: str
    cupy: str
    cublas: str
    cudnn: str
    nvrtc: str
    nccl: str

    @property
    def everything(self) -> str:
        """The command that installs all that functions on GPUs need."""
        return f"pip install 'symgraph[{self.extra}]'"


WHEELS = {
    12: Wheels(
        extra="cuda12",
        cupy="cupy-cuda12x",
        cublas="nvidia-cublas-cu12",
        cudnn="nvidia-cudnn-cu12",
        nvrtc="nvidia-cuda-nvrtc-cu12",
        nccl="nvidia-nccl-cu12",
    ),
    13: Wheels(
        extra="cuda",
        cupy="cupy-cuda13x",
        cublas="nvidia-cublas",
        cudnn="nvidia-cudnn-cu13",
        nvrtc="nvidia-cuda-nvrtc",
        nccl="nvidia-nccl-cu13",
    ),
}
OLDEST, NEWEST = min(WHEELS), max(WHEELS)


def wheels(cuda: int) -> Wheels:
    """Give the packages for a version of CUDA, written as 12040.

    They are the newest for a version that is newer, or not known (0), and the oldest for older.
    """
    major = cuda // 1000 or NEWEST
    return WHEELS[min(max(major, OLDEST), NEWEST)]


def driver_version() -> int:
    """Ask the driver for the newest CUDA that it knows, as 12040; 0 where there is no driver.

    It is loaded for that, and nothing is initialised.
    """
    held = ctypes.c_int()
    try:
        problem = ctypes.CDLL("libcuda.so.1").cuDriverGetVersion(ctypes.byref(held))
    except (OSError, AttributeError):
        return 0
    return 0 if problem else held.value
