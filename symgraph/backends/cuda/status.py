"""Whether CUDA can be used here, and if not, in one sentence why, and what to do."""

from __future__ import annotations

import importlib
import importlib.util
from typing import Any

from symgraph.backends.cuda.wheels import OLDEST, driver_version, wheels
from symgraph.frozen import frozen


@frozen
class Status:
    """CuPy with its devices, or what is in the way and the fix."""

    cupy: Any = None
    devices: int = 0
    problem: str = ""
    fix: str = ""


def status() -> Status:
    """Look for CuPy, a driver that suits it, and GPUs; nothing is opened."""
    if importlib.util.find_spec("cupy") is None:
        return Status(problem="CuPy is not installed", fix=install())
    try:
        cupy = importlib.import_module("cupy")
    except ImportError as error:
        return Status(
            problem=f"CuPy is installed but cannot be loaded ({_one_line(error)})",
            fix=_other_cupy(),
        )
    runtime = cupy.cuda.runtime
    try:
        needed, driver = runtime.runtimeGetVersion(), runtime.driverGetVersion()
        if driver == 0:
            return Status(
                cupy,
                problem="there is no NVIDIA driver",
                fix=f"install one for CUDA {version(needed)} or newer; nvidia-smi shows it",
            )
        if driver // 1000 < needed // 1000:
            return Status(
                cupy,
                problem=f"the NVIDIA driver is for CUDA {version(driver)},"
                f" this CuPy for {version(needed)}",
                fix=_older_cupy(driver),
            )
        devices = int(runtime.getDeviceCount())
    except runtime.CUDARuntimeError as error:
        return Status(
            cupy,
            problem=f"the NVIDIA driver finds no usable GPU ({_one_line(error)})",
            fix="check the driver with nvidia-smi, and CUDA_VISIBLE_DEVICES",
        )
    if not devices:
        return Status(
            cupy,
            problem="the NVIDIA driver finds no GPU",
            fix="check nvidia-smi, and CUDA_VISIBLE_DEVICES",
        )
    return Status(cupy, devices)


def install() -> str:
    """Give the command that installs what goes with the driver, the newest where there is none."""
    driver = driver_version()
    newer = f"a driver for CUDA {OLDEST} or newer, then " if 0 < driver < 1000 * OLDEST else ""
    return newer + wheels(driver).everything


def _other_cupy() -> str:
    """Tell which CuPy to install where the one that is there cannot be loaded."""
    driver = driver_version()
    if not driver:
        return (
            f"{install()}, or the CuPy for your CUDA: cupy-cuda12x, cupy-cuda13x; only one of them"
        )
    return f"{install()}, which brings {wheels(driver).cupy}; only one CuPy may be installed"


def _older_cupy(driver: int) -> str:
    """Tell what to install where the driver is older than CuPy."""
    if driver < 1000 * OLDEST:
        return f"a newer driver: there is no CuPy of this kind for CUDA {version(driver)}"
    older = wheels(driver)
    return (
        f"a newer driver, or pip install {older.cupy} instead of this CuPy,"
        f" with {older.cudnn} and {older.cublas}"
    )


def version(number: int) -> str:
    """Give a version of CUDA as people write it: 12040 is 12.4."""
    return f"{number // 1000}.{number % 1000 // 10}"


def _one_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__
