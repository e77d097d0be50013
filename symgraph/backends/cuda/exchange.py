"""Arrays of other libraries on CUDA devices: where they lie, and when their numbers are there.

DLPack tells the device, and has our stream wait for whoever makes the numbers. The arrays of CuPy,
and those that speak `__cuda_array_interface__` alone, name a stream, which is waited for.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from symgraph.backends.cuda.dlpack import CUDA, MANAGED, VERSION, opened
from symgraph.errors import DTypeError, InputError
from symgraph.graph.dtypes import numpy_dtype

_HOST = (np.ndarray, np.generic, bool, int, float, str, list, tuple, range)
_COMMON = {f"<{kind}": np.dtype(kind) for kind in ("f2", "f4", "f8", "i4", "i8")}
_COMMON |= {f"|{kind}": np.dtype(kind) for kind in ("b1", "i1", "u1")}


@dataclass(eq=False, slots=True)  # made in every call: freezing would double what that takes
class DeviceArray:
    """Somebody's array as it lies on a device; it is read and never written."""

    address: int
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    steps: tuple[int, ...] | None  # its strides, if they were told
    stream: int | None  # where its owner works, if that is known
    owner: Any  # keeps the memory

    @property
    def ndim(self) -> int:
        """The number of axes."""
        return len(self.shape)

    @property
    def nbytes(self) -> int:
        """The bytes of its elements."""
        return math.prod(self.shape) * self.dtype.itemsize

    @property
    def strides(self) -> tuple[int, ...]:
        """Its strides, in bytes."""
        told = self.steps
        return plain_strides(self.shape, self.dtype.itemsize) if told is None else told

    @property
    def contiguous(self) -> bool:
        """Whether its elements lie in plain order without gaps."""
        if self.steps is None:
            return True
        plain = plain_strides(self.shape, self.dtype.itemsize)
        pairs = zip(self.shape, self.steps, plain)
        return self.nbytes == 0 or all(size == 1 or a == b for size, a, b in pairs)


class Reader(Protocol):
    """What reading an array asks of a device."""

    @property
    def name(self) -> str:
        """What users call it."""

    @property
    def number(self) -> int:
        """Its number in this process."""

    @property
    def stream(self) -> int:
        """Its stream, as DLPack takes it."""

    @property
    def array(self) -> type:
        """The class of arrays that stay on the device."""

    @property
    def lock(self) -> AbstractContextManager[Any]:
        """What whoever uses the stream holds."""

    def where(self, address: int) -> int | None:
        """Give the number of the device that has an address, None where every device reaches it."""

    def caller(self) -> int:
        """Give the stream in which whoever calls works."""

    def follow(self, stream: int) -> None:
        """Let what comes here wait for what is queued in another stream."""


def plain_strides(shape: Sequence[int], itemsize: int) -> tuple[int, ...]:
    """Give the strides, in bytes, of an array in plain order.

    >>> plain_strides((2, 3, 4), 4)
    (48, 16, 4)
    """
    return tuple(itemsize * math.prod(shape[axis + 1 :]) for axis in range(len(shape)))


def on_device(given: Any) -> bool:
    """Tell whether something is an array on a CUDA device."""
    if isinstance(given, _HOST):
        return False
    if hasattr(type(given), "__dlpack_device__"):
        return int(given.__dlpack_device__()[0]) in (CUDA, MANAGED)
    return hasattr(given, "__cuda_array_interface__")


def place(given: Any, device: Reader) -> int | None:
    """Give the number of the device that has an array, None where every device reaches it."""
    if hasattr(type(given), "__dlpack_device__"):
        kind, number = given.__dlpack_device__()
        return int(number) if int(kind) == CUDA else None
    address = int(given.__cuda_array_interface__["data"][0] or 0)
    return device.where(address) if address else device.number


def read(subject: str, given: Any, device: Reader) -> DeviceArray:
    """Look at an array on a device, which waits for its numbers; nothing is copied.

    Raises `InputError` for one on another device, `DTypeError` for one that cannot be read.
    """
    number = place(given, device)
    if number not in (None, device.number):
        raise InputError(
            f"{subject} lies on cuda:{number}, it is needed on cuda:{device.number}.",
            fix=f"with cupy.cuda.Device({device.number}): array = cupy.array(array); "
            f'or compile with backend="cuda:{number}"',
        )
    with device.lock:  # nobody may be recording the stream
        if hasattr(type(given), "__dlpack__") and not isinstance(given, device.array):
            return _by_dlpack(subject, given, device)
        return _by_interface(subject, given, device)


def _by_dlpack(subject: str, given: Any, device: Reader) -> DeviceArray:
    try:
        try:
            capsule = given.__dlpack__(stream=device.stream, max_version=VERSION)
        except TypeError:  # from before DLPack 1.0
            capsule = given.__dlpack__(stream=device.stream)
    except BufferError as problem:
        raise DTypeError(
            f"{subject} cannot be read where it lies: {problem}",
            fix="give a plain array, of PyTorch: tensor.detach()",
        ) from problem
    address, dtype, shape, strides = opened(subject, capsule)
    stream = _told_stream(subject, given)
    if stream is not None:
        device.follow(stream)
    return DeviceArray(address, dtype, shape, strides, stream, (given, capsule))


def _by_interface(subject: str, given: Any, device: Reader) -> DeviceArray:
    told = given.__cuda_array_interface__
    if told.get("mask") is not None:
        raise DTypeError(f"{subject} has a mask.", fix="fill in what is masked")
    dtype = _COMMON.get(told["typestr"])
    if dtype is None:
        dtype = np.dtype(told["typestr"])
        if dtype.kind == "V" and getattr(given, "dtype", None) == numpy_dtype("bfloat16"):
            dtype = numpy_dtype("bfloat16")  # the protocol cannot spell it
        if dtype.byteorder == ">":
            raise DTypeError(f"{subject} is of foreign byte order.", fix="convert it before")
    stream = told.get("stream")
    if stream is None or hasattr(stream, "__cuda_stream__"):
        stream = _told_stream(subject, given if stream is None else stream)
    if stream is None and isinstance(given, device.array):
        stream = device.caller()
    if stream is not None:
        stream = int(stream)
        device.follow(stream)
    strides = told.get("strides")
    return DeviceArray(
        int(told["data"][0] or 0), dtype, tuple(map(int, told["shape"])),
        tuple(map(int, strides)) if strides else None, stream, given,
    )  # fmt: skip


def _told_stream(subject: str, given: Any) -> int | None:
    """Give the stream of what speaks `__cuda_stream__`."""
    tells = getattr(given, "__cuda_stream__", None)
    if tells is None:
        return None
    version, stream = tells()
    if version != 0:
        raise DTypeError(
            f"{subject} speaks version {version} of __cuda_stream__, 0 is known here.",
            fix="a newer symgraph",
        )
    return int(stream)
