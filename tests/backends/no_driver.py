"""A CUDA driver that has no device, for processes that only plan.

cuDNN asks the driver for its version, and lets it load what it has compiled, even when it plans for
a device that is described to it. Where there is no driver these calls are answered here: modules
load, handles are not null, and everything that needs a device says that there is none.
"""

from __future__ import annotations

import ctypes
import re
import subprocess
from functools import cache
from pathlib import Path

NO_DEVICE, VERSION = 100, 13000
LOADED = ("Library", "Kernel", "Module", "Func", "Occupancy", "CtxGet", "CtxSet", "DevicePrimary")
HANDLES = {
    "cuLibraryLoadData", "cuModuleLoadData", "cuLibraryGetKernel", "cuModuleGetFunction",
    "cuKernelGetFunction", "cuLibraryGetModule",
}  # fmt: skip


def is_there() -> bool:
    """Tell whether there is a driver."""
    try:
        ctypes.CDLL("libcuda.so.1")
    except OSError:
        return False
    return True


def source(library: Path) -> str:
    """Write a function for every name of the driver that a library mentions."""
    found = set(re.findall(rb"\0(cu[A-Z]\w{3,})(?=\0)", library.read_bytes()))
    lines = []
    for name in sorted(one.decode() for one in found):
        if name.startswith(("cuDNN", "cuda")):
            continue
        if name == "cuDriverGetVersion":
            body = f"(int* found) {{ *found = {VERSION}; return 0; }}"
        elif name in HANDLES:
            body = "(void** made) { *made = (void*)0x1000; return 0; }"
        else:
            fine = name == "cuInit" or name[2:].startswith(LOADED)
            body = f"() {{ return {0 if fine else NO_DEVICE}; }}"
        lines.append(f'extern "C" int {name}{body}')
    return "\n".join(lines)


@cache
def pretend(library: Path, folder: Path, compiler: str) -> None:
    """Load such a driver into this process, for good, unless there is one."""
    if is_there():
        return
    text, made = folder / "driver.cpp", folder / "libcuda.so.1"
    text.write_text(source(library))
    command = [compiler, "-shared", "-fPIC", "-w", "-Wl,-soname,libcuda.so.1"]
    subprocess.run([*command, "-o", str(made), str(text)], check=True)
    ctypes.CDLL(str(made), mode=ctypes.RTLD_GLOBAL)
