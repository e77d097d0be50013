"""Arrays of other libraries on a device that is this CPU: their memory is NumPy's."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any

import numpy as np

import symgraph as sg
from symgraph.backends.cuda import dlpack
from tests.backends.host_device import HostArray, HostDevice

Numbers = np.ndarray[Any, Any]
BFLOAT = 4


class Tensor:
    """Speaks DLPack alone, and does what it has yet to do when it is told who waits."""

    def __init__(
        self,
        numbers: Numbers,
        number: int = 0,
        work: Callable[[], None] | None = None,
        kind: int = dlpack.CUDA,
        versioned: bool = True,
    ) -> None:
        self.numbers, self.number, self.kind, self.versioned = numbers, number, kind, versioned
        self.work = work
        self.asked: list[int] = []

    def __dlpack_device__(self) -> tuple[int, int]:
        return self.kind, self.number

    def __dlpack__(self, *, stream: int, **later: Any) -> Any:
        if later and not self.versioned:
            raise TypeError("unexpected keyword argument 'max_version'")
        self.asked.append(stream)
        if self.work is not None:
            self.work()
        narrow = self.numbers.dtype.name == "bfloat16"
        plain = self.numbers.view(np.uint16) if narrow else self.numbers
        version = (1, 0) if self.versioned else None
        capsule = plain.__dlpack__(max_version=version)
        if narrow:
            told(capsule).dtype.code = BFLOAT
        return capsule


def told(capsule: Any) -> Any:
    """Give what a capsule holds, to be changed."""
    pointer = ctypes.pythonapi.PyCapsule_GetPointer
    if dlpack._is_valid(capsule, b"dltensor_versioned"):
        at = pointer(capsule, b"dltensor_versioned")
        return dlpack._Versioned.from_address(at).tensor
    return dlpack._Tensor.from_address(pointer(capsule, b"dltensor"))


class Streaming(Tensor):
    """Speaks DLPack, and says in which stream it works."""

    def __cuda_stream__(self) -> tuple[int, int]:
        return 0, 9


class Interface:
    """Speaks `__cuda_array_interface__` alone; its stream is a number, an object or not told."""

    def __init__(self, numbers: Numbers, stream: Any = None, **other: Any) -> None:
        self.numbers, self.stream, self.other = numbers, stream, other

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        numbers, stream = self.numbers, self.stream
        interface = {
            "shape": numbers.shape, "typestr": numbers.dtype.str, "version": 3,
            "data": (numbers.ctypes.data, True), "strides": numbers.strides,
        }  # fmt: skip
        if stream is not None:
            interface["stream"] = stream
        return interface | self.other


class Stream:
    """A stream of another library."""

    def __init__(self, number: int, version: int = 0) -> None:
        self.number, self.version = number, version

    def __cuda_stream__(self) -> tuple[int, int]:
        return self.version, self.number


MAKERS: dict[str, Callable[[HostDevice, Any], Any]] = {
    "own": lambda host, numbers: HostArray(host, numbers),
    "dlpack": lambda host, numbers: Tensor(numbers),
    "dlpack 0.6": lambda host, numbers: Tensor(numbers, versioned=False),
    "dlpack, stream": lambda host, numbers: Streaming(numbers),
    "managed": lambda host, numbers: Tensor(numbers, number=3, kind=13),
    "interface": lambda host, numbers: Interface(numbers, 5),
    "interface, stream": lambda host, numbers: Interface(numbers, Stream(5)),
    "interface, no stream": lambda host, numbers: Interface(numbers),
}


def aligned(shape: tuple[int, ...], seed: int = 0) -> Any:
    """Random numbers where memory of a device would lie."""
    size = 4 * int(np.prod(shape))
    held = np.zeros(size + 256, np.uint8)
    start = -held.ctypes.data % 256
    array = held[start : start + size].view(np.float32).reshape(shape)
    array[...] = np.random.default_rng(seed).standard_normal(shape)
    return array


def affine(**options: Any) -> Any:
    x, y = sg.tensor("x", (sg.dim("array_batch"), 8)), sg.tensor("y", (8,))
    return sg.function([x, y], [x * 2 + y, x.sum(axis=0)], name="f", backend="cuda", **options)
