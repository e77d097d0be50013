"""Finding and loading oneDNN: which file, whether it can be used, and in words why not.

Any oneDNN 3 for CPUs that computes in the calling thread and its pool is taken. SYCL builds are
refused: they compute later, on threads of their own, while a plan reads results after each call.
"""

from __future__ import annotations

import ctypes
import importlib
import os
import re
import site
import sys
import sysconfig
import threading
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

from symgraph.backends.cpu.onednn.declarations import (
    CPU,
    DECLARATIONS,
    IN_ORDER,
    INSTRUCTIONS,
    RUNTIMES,
    STATUS,
    SUCCESS,
    UNIMPLEMENTED,
)
from symgraph.backends.cpu.onednn.openmp import OpenMP, file_of
from symgraph.config import config
from symgraph.errors import BackendError
from symgraph.frozen import frozen

NAME = "libdnnl.so.3"
WHEEL = "onednn-cpu-gomp==2023.2.0"
INSTALL = f"pip install cffi {WHEEL}, or set SYMGRAPH_ONEDNN to the path of a {NAME}"
NONE = "none"


class UnimplementedError(BackendError):
    """oneDNN has no implementation of this, so that the caller must compute it another way."""


@frozen
class Candidate:
    """A file that may be oneDNN, or a bare name for the system's loader, and who named it."""

    path: str
    origin: str


@frozen
class Status:
    """What a report says: either where and what the library is, or in `problem` why it is not."""

    path: str = ""
    version: str = ""
    threading: str = ""
    instructions: str = ""
    openmp: str = ""
    problem: str = ""
    fix: str = ""


class Library:
    """One loaded oneDNN with its CPU engine; `load` makes it, nothing unloads it."""

    def __init__(self, ffi: Any, lib: Any, path: str) -> None:
        found = lib.dnnl_version()
        isa = int(lib.dnnl_get_effective_cpu_isa())
        self.ffi = ffi
        self.lib = lib
        self.nothing = ffi.NULL
        self.path = path
        self.process = os.getpid()
        self.version = f"{found.major}.{found.minor}.{found.patch}"
        self.threading = RUNTIMES.get(found.cpu_runtime, f"runtime {found.cpu_runtime}")
        self.instructions = INSTRUCTIONS.get(isa, hex(isa))
        self.openmp = OpenMP(ffi, lib) if self.threading == "OpenMP" else None
        self.engine = self.create("engine", lib.dnnl_engine_create, CPU, 0)

    def create(self, what: str, function: Callable[..., int], *arguments: Any) -> Any:
        """Call a function whose first parameter takes the handle that it makes; give the handle."""
        made = self.ffi.new("handle *")
        self.check(function(made, *arguments), what)
        return made[0]

    def create_stream(self) -> Any:
        """Make a stream: the order in which one caller's primitives run."""
        return self.create("stream", self.lib.dnnl_stream_create, self.engine, IN_ORDER)

    def check(self, status: int, what: str, details: Callable[[], list[str]] = list) -> None:
        """Raise `BackendError`, or `UnimplementedError`, unless a status is success."""
        if status == SUCCESS:
            return
        kind = UnimplementedError if status == UNIMPLEMENTED else BackendError
        name = STATUS[status] if status < len(STATUS) else str(status)
        raise kind(f"{what}: oneDNN {self.version} answered {name}.", details=details())

    def own(self, owner: object, destroy: Callable[[Any], int], handle: Any) -> None:
        """Destroy a handle when its owner is gone; at exit everything is left to the system."""
        weakref.finalize(owner, destroy, handle).atexit = False

    def address(self, function: str) -> int:
        """Give the address of a C function, for native callers."""
        return int(self.ffi.cast("intptr_t", getattr(self.lib, function)))

    def check_process(self) -> None:
        """Raise in a process that was forked off the one which loaded the library."""
        if self.process != os.getpid():
            raise BackendError(
                "oneDNN: this process was forked after the library was loaded; its threads stayed"
                " with the parent.",
                fix='start workers with multiprocessing.get_context("spawn")',
            )


_LOCK = threading.Lock()
_CHOSEN: dict[str, Library] = {}  # by the value of the setting
_LOADED: dict[int, Library] = {}  # by the address of a function: once for each file


def find() -> list[Candidate]:
    """List where oneDNN may be, the first that can be used wins; nothing is loaded.

    `config.onednn` alone if it is set; else the wheel's folders, conda's, then the system's.
    """
    chosen = config.onednn
    if chosen:
        return [] if chosen == NONE else [Candidate(chosen, "config.onednn")]
    folders = [
        (sys.prefix, "this environment"),
        (sysconfig.get_path("data"), "this environment"),
        (site.getuserbase() if site.ENABLE_USER_SITE else "", "the user's packages"),
        (os.environ.get("CONDA_PREFIX", ""), "conda"),
    ]
    candidates = [
        Candidate(str(path), origin)
        for prefix, origin in folders
        if prefix and (path := _in_folder(Path(prefix) / "lib")) is not None
    ]
    return [*dict.fromkeys(candidates), Candidate(NAME, "the system")]


def _in_folder(folder: Path) -> Path | None:
    exact = folder / NAME
    return exact if exact.is_file() else min(folder.glob(NAME + ".*"), default=None)


def load() -> Library:
    """Give the library, the same one for every caller of the process.

    Raises `BackendError` if there is none that can be used, with the reason for each candidate.
    """
    chosen = config.onednn
    library = _CHOSEN.get(chosen)
    if library is None:
        with _LOCK:
            library = _CHOSEN.get(chosen) or _search(chosen)
            _CHOSEN[chosen] = library
    library.check_process()
    return library


def status() -> Status:
    """Tell what `load` gives, or the plain reason why it gives nothing."""
    try:
        library = load()
    except BackendError as error:
        reasons = "; ".join(error.details)
        return Status(problem=reasons or error.message, fix=error.fix)
    return Status(
        path=library.path,
        version=library.version,
        threading=library.threading,
        instructions=library.instructions,
        openmp=library.openmp.path if library.openmp is not None else "",
    )


class _UnusableError(Exception):
    """Why one candidate cannot be used: the rest of a sentence that starts with its path."""


def _search(chosen: str) -> Library:
    if chosen == NONE:
        raise BackendError(
            "oneDNN: it is switched off.",
            fix="unset config.onednn (SYMGRAPH_ONEDNN) to search for it",
        )
    reasons = []
    for candidate in find():
        try:
            return _open(candidate.path)
        except _UnusableError as problem:
            reasons.append(f"{candidate.path} ({candidate.origin}) {problem}.")
    if chosen:
        raise BackendError(f"oneDNN: {reasons[0]}", fix=INSTALL)
    raise BackendError("oneDNN: no library can be used.", details=reasons, fix=INSTALL)


def _foreign_functions() -> Any:
    try:
        cffi = importlib.import_module("cffi")
    except ImportError as error:
        raise BackendError(
            "oneDNN: cffi, through which it is called, is not installed.", fix=INSTALL
        ) from error
    ffi = cffi.FFI()
    ffi.cdef(DECLARATIONS)
    return ffi


def _open(path: str) -> Library:
    if os.sep in path and not os.path.isfile(path):
        raise _UnusableError("is not a file")
    ffi = _foreign_functions()
    try:
        # Not by ffi.dlopen, which answers a failure by running a compiler to look for the file.
        loaded = ctypes.CDLL(path)
    except OSError as error:
        raise _UnusableError(_why_not_loaded(path, str(error))) from None
    lib = ffi.dlopen(ffi.cast("void *", loaded._handle))
    _check_build(lib)
    place = int(ffi.cast("intptr_t", lib.dnnl_version))
    if place not in _LOADED:
        _LOADED[place] = Library(ffi, lib, file_of(place) or path)
    return _LOADED[place]


def _why_not_loaded(path: str, message: str) -> str:
    reason = message.splitlines()[0]
    missing = re.match(r"(\S+): cannot open shared object file: No such file", reason)
    if missing is None:
        return f"cannot be loaded: {reason.removeprefix(f'{path}: ')}"
    if missing[1] == path:
        return "is not installed"
    package = " (libgomp1 of Debian, libgomp of Fedora)" if "libgomp" in missing[1] else ""
    return f"needs {missing[1]}, which is not installed{package}"


def _check_build(lib: Any) -> None:
    """Raise `_UnusableError` unless a loaded file is oneDNN 3 that computes in its caller."""
    try:
        found = lib.dnnl_version()
    except AttributeError:
        raise _UnusableError("is a library, but not oneDNN: it has no dnnl_version") from None
    if found.major != 3:
        version = f"{found.major}.{found.minor}.{found.patch}"
        raise _UnusableError(f"is oneDNN {version}, version 3 is needed")
    runtime = RUNTIMES.get(found.cpu_runtime, "unknown")
    if runtime == "none":
        raise _UnusableError("is built for GPUs alone, without a CPU engine")
    if runtime == "SYCL":
        engine = lib.dnnl_engine_get_count(CPU) > 0
        detail = "which computes on threads of its own" if engine else "and finds no CPU engine"
        raise _UnusableError(f"is a SYCL build, {detail}; {WHEEL} is not")
