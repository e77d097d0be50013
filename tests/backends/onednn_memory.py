"""Memory in any layout, written and read by NumPy from the numbers of a `Key`, for the tests.

Nothing here asks the library: where an element lies is computed from strides and blocks.
"""

from __future__ import annotations

import functools
import importlib.util
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from symgraph.backends.cpu.onednn import library
from symgraph.backends.cpu.onednn.calls import Call, Primitive
from symgraph.backends.cpu.onednn.descriptors import (
    Descriptor,
    Key,
    channels_last,
    row_major,
)
from symgraph.backends.cpu.onednn.library import UnimplementedError
from symgraph.backends.cpu.onednn.primitives import reorder
from symgraph.graph.dtypes import numpy_dtype

ALIGNMENT = 64


def need_onednn() -> None:
    """Skip a file of tests only where cffi or a file that may be oneDNN is not installed."""
    if importlib.util.find_spec("cffi") is None:
        pytest.skip("cffi is not installed", allow_module_level=True)
    if not any(Path(each.path).is_file() for each in library.find()) and library.status().problem:
        pytest.skip(library.status().problem, allow_module_level=True)


def implemented(dtype: str) -> bool:
    """Tell whether this processor must have a computation of a dtype; float16 may be missing."""
    if dtype == "bfloat16":
        return "avx512" in library.status().instructions
    return dtype != "float16"


def where_implemented(test: Callable[..., None]) -> Callable[..., None]:
    """Let the library say, where the processor lacks a test's `dtype`, that it has nothing."""

    @functools.wraps(test)
    def checked(*arguments: Any, dtype: str, **others: Any) -> None:
        try:
            test(*arguments, dtype=dtype, **others)
        except UnimplementedError:
            if implemented(dtype):
                raise

    return checked


LAYOUTS = {"any": None, "row_major": row_major, "channels_last": channels_last}


def described(dims: tuple[int, ...], dtype: str, layout: str) -> Descriptor:
    """Describe a tensor in one of LAYOUTS."""
    strides = LAYOUTS[layout]
    return Descriptor(dims, dtype, None if strides is None else strides(dims))


def offsets(key: Key) -> np.ndarray:
    """Give the place of every element, in elements: each block, then the stride of its axis."""
    position = list(np.indices(key.dims)) if key.dims else []
    place = np.zeros(key.dims, np.int64)
    step = 1
    for size, axis in reversed(key.blocks):
        place += position[axis] % size * step
        position[axis] = position[axis] // size
        step *= size
    for index, stride in zip(position, key.strides):
        place += index * stride
    return place


def memory(size: int, fill: int = 0) -> np.ndarray:
    """Give aligned bytes; at least one, so that there is an address."""
    raw = np.full(size + ALIGNMENT, fill, np.uint8)
    start = -raw.ctypes.data % ALIGNMENT
    return raw[start : start + max(size, 1)]


def elements(descriptor: Descriptor) -> int:
    """Give the bytes of the elements and their padding, of plain layouts with the gaps."""
    if not descriptor._key.blocks:
        return descriptor.size
    return math.prod(descriptor.padded_dims) * numpy_dtype(descriptor.dtype).itemsize


def packed(array: Any, descriptor: Descriptor) -> np.ndarray:
    """Write an array in the layout of a descriptor, with zeros in the padding.

    Where that holds more than the elements (sums of columns beside int8 weights, on processors
    that multiply uint8 by int8 only) the library alone can write it.
    """
    buffer = memory(descriptor.size)
    if descriptor.size > elements(descriptor):
        plain = Descriptor.dense(descriptor.dims, descriptor.dtype)
        given = packed(array, plain)
        bound(reorder(plain, descriptor), {"src": given, "dst": buffer})()
        return buffer
    numbers = buffer[: descriptor.size].view(numpy_dtype(descriptor.dtype))
    numbers[offsets(descriptor._key)] = np.asarray(array).astype(numpy_dtype(descriptor.dtype))
    return buffer


def unpacked(buffer: np.ndarray, descriptor: Descriptor) -> np.ndarray:
    """Read an array; the padding must hold zeros. What else is held stands behind it."""
    numbers = buffer[: elements(descriptor)].view(numpy_dtype(descriptor.dtype))
    places = offsets(descriptor._key)
    if descriptor._key.blocks:
        padding = np.ones(numbers.size, bool)
        padding[places] = False
        assert not numbers[padding].any(), f"{descriptor}: the padding is not zero"
    return numbers[places]


def buffers_of(primitive: Primitive, arrays: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Pack what is given, as an array or as bytes, and fill the rest with NaN."""
    buffers = {}
    for role, descriptor in primitive.arguments.items():
        array = arrays.get(role)
        if array is None:
            buffers[role] = memory(descriptor.size, fill=255)
        elif role == "workspace":
            buffers[role] = array
        else:
            buffers[role] = packed(array, descriptor)
    assert not set(arrays) - set(primitive.arguments), "an array is given that nothing reads"
    return buffers


def bound(primitive: Primitive, buffers: Mapping[str, np.ndarray]) -> Call:
    """Bind every argument to its buffer."""
    return primitive.bind(
        {
            role: (descriptor, buffers[role].ctypes.data)
            for role, descriptor in primitive.arguments.items()
        }
    )


def run(primitive: Primitive, **arrays: Any) -> dict[str, np.ndarray]:
    """Run once; give every argument as an array, but the workspace as its bytes."""
    buffers = buffers_of(primitive, arrays)
    bound(primitive, buffers)()
    return {
        role: buffers[role] if role == "workspace" else unpacked(buffers[role], descriptor)
        for role, descriptor in primitive.arguments.items()
        if role != "scratchpad"
    }


def normal(rng: np.random.Generator, dims: tuple[int, ...], dtype: str) -> np.ndarray:
    """Draw numbers that the dtype holds exactly, small integers for the integers."""
    if dtype in ("int8", "uint8", "int32"):
        low = 0 if dtype == "uint8" else -6
        return rng.integers(low, 7, dims).astype(dtype)
    return rng.standard_normal(dims).astype(numpy_dtype(dtype))
