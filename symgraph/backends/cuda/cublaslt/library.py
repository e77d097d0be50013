"""Loading cuBLASLt, and calls of it whose failures are errors."""

from __future__ import annotations

import ctypes
import importlib
import weakref
from collections.abc import Callable
from functools import cache
from typing import Any

from symgraph.backends.cuda.cublaslt.declarations import HANDLE, SIGNATURES, STATUS
from symgraph.backends.cuda.wheels import wheels
from symgraph.errors import BackendError


def install(cuda: int) -> str:
    """Give the command that installs what goes with a version of CUDA."""
    return f"pip install {wheels(cuda).cublas}"


def declared(loaded: ctypes.CDLL) -> ctypes.CDLL:
    """Give a loaded library the signatures of its functions."""
    for name, arguments in SIGNATURES.items():
        function = getattr(loaded, name)
        function.argtypes, function.restype = arguments, ctypes.c_int
    loaded.cublasLtGetVersion.argtypes, loaded.cublasLtGetVersion.restype = (), ctypes.c_size_t
    return loaded


@cache
def found() -> tuple[ctypes.CDLL | None, str]:
    """Give the library that goes with this CUDA, or else why there is none."""
    try:
        pathfinder: Any = importlib.import_module("cuda.pathfinder")
    except ImportError:
        return None, "cuda-pathfinder, which finds it, is not installed"
    try:
        path = pathfinder.load_nvidia_dynamic_lib("cublasLt").abs_path
        return declared(ctypes.CDLL(path)), ""
    except (pathfinder.DynamicLibNotFoundError, OSError, AttributeError) as problem:
        return None, str(problem).splitlines()[0]


class CublasLt:
    """cuBLASLt on the current device, with one stream."""

    def __init__(self, lib: ctypes.CDLL, stream: int) -> None:
        self.lib, self.stream = lib, stream
        self.handle = self.create("cublasLtCreate", "cublasLtDestroy", self)

    def create(self, function: str, destroy: str, owner: object, *arguments: Any) -> HANDLE:
        """Make a handle, which is destroyed when its owner is gone."""
        made = HANDLE()
        self.call(function, ctypes.byref(made), *arguments)
        ending: Callable[..., Any] = getattr(self.lib, destroy)
        weakref.finalize(owner, ending, made).atexit = False
        return made

    def set(self, function: str, handle: HANDLE, attribute: int, value: Any) -> None:
        """Set an attribute to a number of C."""
        size = ctypes.sizeof(value)
        self.call(function, handle, attribute, ctypes.byref(value), size)

    def call(self, function: str, *arguments: Any) -> None:
        """Call a function; raise `BackendError` unless it succeeds."""
        status = getattr(self.lib, function)(*arguments)
        if status:
            raise BackendError(
                f"{function}: cuBLASLt answered {status} ({STATUS.get(status, 'unknown')})."
            )
