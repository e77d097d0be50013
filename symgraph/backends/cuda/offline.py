"""Compiling kernels for devices that are not there, by NVIDIA's runtime compiler, no driver."""

from __future__ import annotations

import ctypes
import importlib.util
import re
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from symgraph.backends.cuda.calls import CONVOLUTIONS, PRODUCTS, Libraries
from symgraph.backends.cuda.cublaslt.operations import Products
from symgraph.backends.cuda.cudnn.operations import Convolutions
from symgraph.backends.cuda.wheels import driver_version, wheels
from symgraph.dims import Dim
from symgraph.errors import BackendError
from symgraph.frozen import frozen
from symgraph.graph.graph import Graph
from symgraph.lower.cuda.module import OPTIONS, numbered
from symgraph.lower.cuda.target import device_target, make_device_plan
from symgraph.lower.plan import Plan

NAME = "libnvrtc.so.*"


@frozen
class Usage:
    """What a kernel needs of a processor; bytes, but for registers of a thread."""

    name: str
    registers: int
    stack: int
    spilled: int
    shared: int


@frozen
class Compiled:
    """The code of a module for one architecture, and what its kernels need."""

    architecture: str
    code: bytes
    kernels: tuple[Usage, ...]


@cache
def found() -> tuple[Any, str]:
    """Give the compiler's library, or None and why it cannot be used."""
    spec = importlib.util.find_spec("nvidia")
    for place in spec.submodule_search_locations or () if spec else ():
        for file in sorted(Path(place).glob(f"*/lib/{NAME}")):
            if "builtins" not in file.name:
                try:
                    return ctypes.CDLL(str(file)), ""
                except OSError as problem:
                    return None, str(problem)
    return None, "nvidia-cuda-nvrtc is not installed"


def install() -> str:
    """Give the command that installs a compiler that goes with the driver, if there is one."""
    return f"pip install {wheels(driver_version()).nvrtc}"


def planned(graph: Graph, env: Mapping[Dim, int], narrow: bool = False, fast: bool = False) -> Plan:
    """Plan a graph as a device with cuDNN and cuBLASLt does; sizes only matter for speed."""
    nowhere: Any = None  # what a library takes and reads does not depend on a device
    libraries = Libraries(
        dict.fromkeys(CONVOLUTIONS, Convolutions(nowhere))
        | dict.fromkeys(PRODUCTS, Products(nowhere))
    )
    target = device_target(env, libraries.takes, libraries.reads, fast=fast)
    return make_device_plan(graph, env, target, narrow)


def source_of(plan: Plan, wide: bool = False) -> str:
    """Give the source of a plan's kernels, which are called kernel0, kernel1 and so on.

    Their indices have 32 bits, or, if wide, 64, and then they are called kernel0_wide.
    """
    return numbered(plan.kernels, [(place, wide) for place in range(len(plan.kernels))])[0]


def compiled(source: str, architecture: str) -> Compiled:
    """Compile a module for an architecture ("sm_90"). Raises `BackendError` with the log."""
    library, problem = found()
    if library is None:
        raise BackendError(f"offline: there is no NVRTC: {problem}.", fix=install())
    options = [*OPTIONS, f"-arch={architecture}", "--ptxas-options=-v"]
    given = (ctypes.c_char_p * len(options))(*(one.encode() for one in options))
    program = ctypes.c_void_p()
    held = ctypes.byref(program)
    _check(library, library.nvrtcCreateProgram(held, source.encode(), b"kernels.cu", 0, None, None))
    try:
        status = library.nvrtcCompileProgram(program, len(options), given)
        log = _text(library, program, "ProgramLog").decode(errors="replace")
        if status:
            raise BackendError(
                f"offline: NVRTC refused the kernels for {architecture}.",
                details=log.splitlines()[:20],
            )
        code = _text(library, program, "CUBIN")
    finally:
        library.nvrtcDestroyProgram(held)
    return Compiled(architecture, code, tuple(_usage(log)))


def _text(library: Any, program: ctypes.c_void_p, what: str) -> bytes:
    """Give one of the results of a compilation."""
    size = ctypes.c_size_t()
    _check(library, getattr(library, f"nvrtcGet{what}Size")(program, ctypes.byref(size)))
    held = ctypes.create_string_buffer(size.value)
    _check(library, getattr(library, f"nvrtcGet{what}")(program, held))
    return held.raw


def _check(library: Any, status: int) -> None:
    if status:
        library.nvrtcGetErrorString.restype = ctypes.c_char_p
        said = library.nvrtcGetErrorString(status)
        raise BackendError(f"offline: NVRTC answered {said.decode()}.")


def _usage(log: str) -> Iterator[Usage]:
    """Read what the assembler says of each kernel."""
    for part in re.split(r"Compiling entry function '", log)[1:]:

        def first(pattern: str, part: str = part) -> int:
            said = re.search(pattern, part)
            return int(said[1]) if said else 0

        yield Usage(
            name=part.split("'", 1)[0],
            registers=first(r"Used (\d+) registers"),
            stack=first(r"(\d+) bytes stack frame"),
            spilled=first(r"(\d+) bytes spill stores"),
            shared=first(r"(\d+) bytes smem"),
        )
