"""Copies to a device beside its work: a stream of its own brings arrays while a step computes."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from symgraph.errors import DeviceError
from symgraph.graph.dtypes import DType, dtype_name
from symgraph.graph.op import Array

PLAIN = 0  # cudaHostRegisterDefault


class Sent(Protocol):
    """Arrays on their way; they keep what is copied until it has arrived."""

    def arrived(self) -> bool:
        """Tell whether all was copied, without waiting for it."""

    def wait(self) -> None:
        """Wait until all was copied."""

    def hand_over(self) -> tuple[Any, ...]:
        """Give the arrays of the device. The caller's stream waits for them, the host does not."""


class Pages(Protocol):
    """Memory of this machine that stays where it is, until this is closed or dropped."""

    def close(self) -> Any:
        """Let it go."""


class Feeder(Protocol):
    """Brings arrays to a device, in a stream of its own."""

    def pin(self, address: int, size: int) -> Pages:
        """Keep whole pages in their place: copies from there run beside host and device."""

    def send(self, arrays: Sequence[Array]) -> Sent:
        """Queue copies of contiguous arrays, which nobody changes before they have arrived."""


class _CupyPages:
    def __init__(self, runtime: Any, address: int) -> None:
        self.close = weakref.finalize(self, runtime.hostUnregister, address)
        self.close.atexit = False  # the driver may have ended before


class _CupySent:
    def __init__(
        self, cupy: Any, device: Any, held: Sequence[Array], made: list[Any], event: Any
    ) -> None:
        self._cupy, self._device, self._held, self._made = cupy, device, held, made
        self._event = event  # that all copies are done

    def arrived(self) -> bool:
        """Ask the event."""
        if self._held and self._event.done:
            self._held = ()
        return not self._held

    def wait(self) -> None:
        """Wait for the event."""
        self._event.synchronize()
        self._held = ()

    def hand_over(self) -> tuple[Any, ...]:
        """Have CuPy's current stream wait for the event."""
        with self._device:
            self._cupy.cuda.get_current_stream().wait_event(self._event)
        return tuple(self._made)


class CupyFeeder:
    """Brings arrays of CuPy. Their memory is of the pool of the caller's stream, as if made there.

    `empty` makes an array, and `order` has a stream wait for what is queued in another.
    """

    def __init__(
        self,
        cupy: Any,
        device: Any,
        empty: Callable[[Sequence[int], DType], tuple[Any, int]],
        order: Callable[[int, int], None],
    ) -> None:
        self._cupy, self._device, self._empty, self._order = cupy, device, empty, order
        with device:
            self._stream = cupy.cuda.Stream(non_blocking=True)

    def pin(self, address: int, size: int) -> Pages:
        """Register the pages with the driver. Raises `DeviceError` where it refuses them."""
        runtime = self._cupy.cuda.runtime
        with self._device:
            try:
                runtime.hostRegister(address, size, PLAIN)
            except runtime.CUDARuntimeError as problem:
                raise DeviceError(
                    f"{size:,} bytes of this machine's memory cannot be pinned: {problem}.",
                    fix="a smaller batch or prefetch, or loading in threads (process=False)",
                ) from problem
        return _CupyPages(runtime, address)

    def send(self, arrays: Sequence[Array]) -> Sent:
        """Queue the copies behind what the caller has queued, who may still use that memory."""
        cuda = self._cupy.cuda
        with self._device:
            made = [self._empty(one.shape, dtype_name(one.dtype)) for one in arrays]
            self._order(int(cuda.get_current_stream().ptr), int(self._stream.ptr))
            for one, (_, address) in zip(arrays, made):
                if one.nbytes:
                    cuda.runtime.memcpyAsync(
                        address, one.ctypes.data, one.nbytes,
                        cuda.runtime.memcpyHostToDevice, self._stream.ptr,
                    )  # fmt: skip
            event = cuda.Event(disable_timing=True)
            event.record(self._stream)
        return _CupySent(self._cupy, self._device, arrays, [array for array, _ in made], event)
