"""Processes that end with the one that started them, and memory that they share without a name.

A child is a new interpreter, never a fork: threads, CUDA and OpenMP do not survive one. It shares
descriptors that were passed to it and nothing else, so that nothing is left behind whoever dies.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

import numpy as np

from symgraph.errors import DeviceError
from symgraph.graph.op import Array

PARENT = "_SYMGRAPH_PARENT"  # in a child's environment: the number of the process to end with
_SET_DEATH_SIGNAL = 1  # PR_SET_PDEATHSIG


def start(
    command: Sequence[str],
    descriptors: Sequence[int] = (),
    environment: Mapping[str, str] | None = None,
    **options: Any,
) -> subprocess.Popen[bytes]:
    """Start a program in a session of its own, where Ctrl-C of a terminal does not reach it.

    It keeps the descriptors given, under the same numbers. Options are those of `Popen`. The
    program calls `end_with_parent` first of all.
    """
    surroundings = {**os.environ, **(environment or {}), PARENT: str(os.getpid())}
    return subprocess.Popen(
        list(command), pass_fds=tuple(descriptors), env=surroundings, start_new_session=True,
        **options,
    )  # fmt: skip


def end_with_parent() -> None:
    """Have the system kill this process when the thread that started it ends, however it ends.

    Elsewhere than on Linux there is no such order; there a child ends when it next reads from its
    parent, at the end of what it is doing.
    """
    parent = os.environ.get(PARENT)
    if parent is None or not sys.platform.startswith("linux"):
        return
    ctypes.CDLL(None).prctl(_SET_DEATH_SIGNAL, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != int(parent):  # it was gone before the order was given
        with suppress(OSError):
            os.write(2, b"symgraph: the process that started this one is gone, or did not itself\n")
        os._exit(1)


def machine() -> str:
    """Give what tells this machine, since it was started, from all others.

    >>> machine() == machine() != ""
    True
    """
    with suppress(OSError), open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
        return file.read().strip()
    return socket.gethostname()


def shared_memory(size: int) -> int:
    """Make memory without a name and give its descriptor; it is gone with the last one.

    Raises `DeviceError` where the system has no such memory, or not as much.
    """
    if not hasattr(os, "memfd_create"):
        raise DeviceError(
            "shared memory: this system has no memory without a name (memfd).",
            fix="run on Linux, or with one process",
        )
    descriptor = os.memfd_create("symgraph", os.MFD_CLOEXEC)
    try:
        os.ftruncate(descriptor, max(size, 1))
    except OSError as problem:
        os.close(descriptor)
        raise DeviceError(
            f"shared memory: {size:,} bytes are not to be had: {problem.strerror}."
        ) from problem
    return descriptor


def mapped(descriptor: int) -> Array:
    """Give shared memory as bytes; the descriptor may be closed then. Unmapped with the array."""
    size = os.fstat(descriptor).st_size
    return np.frombuffer(mmap.mmap(descriptor, size), np.uint8)
