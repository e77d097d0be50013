"""Processes that end with their parent, and memory without a name."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable

import numpy as np
import pytest

from symgraph.errors import DeviceError
from symgraph.runtime import process

linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="an order of Linux")

CHILD = """
import time
from symgraph.runtime.process import end_with_parent
end_with_parent()
print("ready", flush=True)
time.sleep(60)
"""
PARENT = f"""
import subprocess, sys, time
from symgraph.runtime.process import start
child = start([sys.executable, "-c", {CHILD!r}], stdout=subprocess.PIPE)
child.stdout.readline()
print(child.pid, flush=True)
time.sleep(60)
"""


def until(condition: Callable[[], bool], seconds: float = 10.0) -> bool:
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.01)
    return condition()


def is_gone(number: int) -> bool:
    try:
        with open(f"/proc/{number}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


@linux
@pytest.mark.parametrize("stopped", [False, True])
def test_a_child_ends_with_a_killed_parent(stopped: bool) -> None:
    parent = subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE)
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    assert not is_gone(child)
    if stopped:
        os.kill(child, signal.SIGSTOP)
    parent.kill()
    parent.communicate()
    assert until(lambda: is_gone(child))


@linux
def test_a_parent_that_was_gone_before(tmp_path: object) -> None:
    code = "from symgraph.runtime.process import end_with_parent; end_with_parent(); print('on')"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, env={**os.environ, process.PARENT: "1"}
    )
    if os.getpid() != 1:
        assert (done.returncode, done.stdout) == (1, b"")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True)
    assert (done.returncode, done.stdout) == (0, b"on\n")


@linux
def test_shared_memory_has_no_name_and_ends_with_the_last() -> None:
    before = set(os.listdir("/dev/shm")), len(os.listdir("/proc/self/fd"))
    descriptor = process.shared_memory(1 << 20)
    first, second = process.mapped(descriptor), process.mapped(descriptor)
    os.close(descriptor)
    assert first.size == second.size == 1 << 20
    first[5] = 7
    assert (second[5], second[6]) == (7, 0)
    assert not np.may_share_memory(first, second)  # two places for the same bytes
    del first, second
    assert (set(os.listdir("/dev/shm")), len(os.listdir("/proc/self/fd"))) == before


def test_no_memory_without_a_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "memfd_create", raising=False)
    with pytest.raises(DeviceError, match="no memory without a name"):
        process.shared_memory(1)


@linux
def test_memory_that_the_system_refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(descriptor: int, size: int) -> None:
        raise OSError(errno.EFBIG, os.strerror(errno.EFBIG))

    monkeypatch.setattr(os, "ftruncate", refuse)
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(DeviceError, match="1,048,576 bytes are not to be had: File too large"):
        process.shared_memory(1 << 20)
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_child_has_a_session_of_its_own() -> None:
    code = "import os; print(os.getsid(0) == os.getpid())"
    child = process.start([sys.executable, "-c", code], stdout=subprocess.PIPE)
    assert child.communicate()[0] == b"True\n"
