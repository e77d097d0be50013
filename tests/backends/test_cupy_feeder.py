"""What CuPy is asked for when arrays are brought to a device beside its work."""

from __future__ import annotations

import gc
import weakref
from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from symgraph.backends.cuda.feeder import CupyFeeder
from symgraph.errors import DeviceError

COPIES, CALLER = 7, 3  # streams
TO_DEVICE = 1


class RefusedError(Exception):
    """What CuPy raises."""


class Cuda:
    """CuPy's `cuda`, which notes what it is asked for; events are done when somebody says so."""

    def __init__(self) -> None:
        self.asked: list[tuple[Any, ...]] = []
        self.done = False
        self.refuses = False
        self.runtime = SimpleNamespace(
            memcpyHostToDevice=TO_DEVICE,
            memcpyAsync=lambda *given: self.asked.append(("copy", *given)),
            hostRegister=self._register,
            hostUnregister=lambda address: self.asked.append(("unpin", address)),
            CUDARuntimeError=RefusedError,
        )

    def _register(self, address: int, size: int, flags: int) -> None:
        if self.refuses:
            raise RefusedError("cudaErrorMemoryAllocation")
        self.asked.append(("pin", address, size, flags))

    def Stream(self, non_blocking: bool) -> Any:  # noqa: N802 - CuPy's name
        assert non_blocking  # else it would wait for the default stream
        return SimpleNamespace(ptr=COPIES)

    def Event(self, disable_timing: bool) -> Any:  # noqa: N802
        cuda = self

        class Event:
            done = property(lambda self: cuda.done)

            def record(self, stream: Any) -> None:
                cuda.asked.append(("record", stream.ptr))

            def synchronize(self) -> None:
                cuda.asked.append(("wait",))

        return Event()

    def get_current_stream(self) -> Any:
        return SimpleNamespace(
            ptr=CALLER, wait_event=lambda event: self.asked.append(("follow", CALLER))
        )


@pytest.fixture
def cuda() -> Cuda:
    return Cuda()


@pytest.fixture
def feeder(cuda: Cuda) -> CupyFeeder:
    def empty(shape: Any, dtype: str) -> Any:
        cuda.asked.append(("empty", tuple(shape), dtype))
        return f"array {dtype}", 4096 * len(cuda.asked)

    def order(first: int, second: int) -> None:
        cuda.asked.append(("order", first, second))

    return CupyFeeder(SimpleNamespace(cuda=cuda), nullcontext(), empty, order)


def test_copies_are_queued_behind_the_caller_and_waited_for_by_it(
    cuda: Cuda, feeder: CupyFeeder
) -> None:
    images, labels = np.ones((2, 3), np.uint8), np.zeros(2, np.int32)
    sent = feeder.send([images, labels, np.zeros((0, 4), np.float32)])
    assert cuda.asked == [
        ("empty", (2, 3), "uint8"), ("empty", (2,), "int32"), ("empty", (0, 4), "float32"),
        ("order", CALLER, COPIES),  # whoever had that memory before may still use it
        ("copy", 4096, images.ctypes.data, 6, TO_DEVICE, COPIES),
        ("copy", 8192, labels.ctypes.data, 8, TO_DEVICE, COPIES),
        ("record", COPIES),
    ]  # fmt: skip
    assert sent.hand_over() == ("array uint8", "array int32", "array float32")
    assert cuda.asked[-1] == ("follow", CALLER)
    assert ("wait",) not in cuda.asked  # the host did not


def test_what_is_copied_is_kept_until_it_has_arrived(cuda: Cuda, feeder: CupyFeeder) -> None:
    for ask in ("arrived", "wait"):
        cuda.done = False
        sent = feeder.send([np.ones(5), kept := np.ones(6)])
        seen = weakref.ref(kept)
        del kept
        assert not sent.arrived()
        assert seen() is not None
        cuda.done = True
        getattr(sent, ask)()
        assert sent.arrived()
        assert seen() is None


def test_pages_are_let_go_once(cuda: Cuda, feeder: CupyFeeder) -> None:
    pages = feeder.pin(4096, 8192)
    assert cuda.asked == [("pin", 4096, 8192, 0)]
    pages.close()
    pages.close()
    del pages
    assert cuda.asked[1:] == [("unpin", 4096)]
    feeder.pin(8192, 4096)  # dropped at once
    gc.collect()
    assert cuda.asked[2:] == [("pin", 8192, 4096, 0), ("unpin", 8192)]


def test_pages_that_are_refused(cuda: Cuda, feeder: CupyFeeder) -> None:
    cuda.refuses = True
    with pytest.raises(DeviceError, match=r"1,048,576 bytes .* cannot be pinned") as raised:
        feeder.pin(4096, 1 << 20)
    assert "process=False" in raised.value.fix
