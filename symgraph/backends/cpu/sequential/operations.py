"""Which operations these loops compute, and what they are told about sizes."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from symgraph.backends.arrays import Array, Arrays
from symgraph.backends.cpu.compiler import Library
from symgraph.backends.cpu.interface import Fixed, Prepared, Use
from symgraph.backends.cpu.sequential import kernels
from symgraph.backends.cpu.sequential.calls import Call, compiled
from symgraph.backends.cpu.sequential.text import Code
from symgraph.config import usable_cores
from symgraph.dims import Dim, Size, product
from symgraph.errors import BackendError
from symgraph.graph.dtypes import is_integer
from symgraph.graph.node import Value
from symgraph.graph.op import Op
from symgraph.graph.types import same_size
from symgraph.lower.nest import plain_strides
from symgraph.lower.program import number

HALVES = ("float16", "bfloat16")  # they are added up in float32: by generated loops
LONG = 128  # elements that are worth sorting by merging
MANY = 16  # updates that are worth a loop
USUAL = 64  # what a size that may change is taken for at least
GRAIN = 1 << 13  # elements that are worth a thread

Key = tuple[Any, ...]


def offers(dtypes: Sequence[str]) -> bool:
    """Tell whether loops have these dtypes; `takes` looks closer."""
    return True


def takes(value: Value, env: Mapping[Dim, int]) -> bool:
    """Tell whether an axis is long, or updates are many; what may change is taken for a lot."""
    op: Any = value.op
    if op.name == "argsort":
        return _usual(value.shape[op.axis], env) >= LONG or not isinstance(
            value.shape[op.axis], int
        )
    if value.dtype in HALVES:
        return False
    if op.name == "scatter_add_along_axis":
        return _usual(value.inputs[0].shape[op.axis], env) >= MANY
    indices = value.inputs[2 if op.name == "scatter" else 1]
    return _usual(product(indices.shape), env) >= MANY


def _usual(size: Size, env: Mapping[Dim, int]) -> int:
    return size if isinstance(size, int) else max(number(size, env), USUAL)


def reads(op: str, shape: Sequence[Size], strides: Sequence[Size]) -> bool:
    """Tell whether an operand lies in row-major order."""
    return all(
        same_size(own, plain) or same_size(size, 1)
        for size, own, plain in zip(shape, strides, plain_strides(shape))
    )


def prepare(op: Op, arrays: Arrays, result: Array, fixed: Fixed, threads: int) -> Prepared:
    """Give an operation as one primitive."""
    made: dict[str, Callable[..., _Loops]] = {
        "argsort": _argsort,
        "scatter": _scatter,
        "scatter_add": _scatter,
        "scatter_add_along_axis": _scatter_along,
    }
    if op.name not in made:
        raise BackendError(f"{op.name}: there is no loop for it.")
    loops = made[op.name](op, arrays, result, threads or usable_cores())
    roles = {role: place for place, role in enumerate(loops.arguments)}
    return Prepared([Use(loops, roles)], [loops.room] if loops.room else [])


class _Loops:
    """One operation at concrete sizes."""

    is_reference = False

    def __init__(
        self, name: str, key: Key, words: Sequence[int], arrays: Sequence[Array], threads: int,
        work: int,
    ) -> None:  # fmt: skip
        self.name, self.key = name, key
        self.words = np.array(words, np.int64)
        self.threads = max(1, min(threads, words[0], work // GRAIN))
        self.room = 0
        self.arguments: dict[str, Array] = {f"array{d}": one for d, one in enumerate(arrays)}

    @property
    def implementation(self) -> str:
        """The name of the loops."""
        return f"loops {' '.join(map(str, self.key[:2]))}"

    def with_room(self, size: int) -> _Loops:
        """Add memory of its own."""
        self.room = size
        self.arguments["room"] = Array((size,), "uint8", (1,))
        return self

    def bind(self, buffers: Mapping[str, tuple[Any, int]]) -> Call:
        """Bind arrays to addresses, which may be 0 until `rebind` gives them."""
        addresses = [buffers[role][1] for role in self.arguments]
        return Call(_compiled(self.key), self.words, self.threads, list(self.arguments), addresses)


@functools.cache
def _compiled(key: Key) -> Library:
    """Give native code for a kernel and its dtypes."""
    kernel, *details = key
    write: Callable[..., Code] = getattr(kernels, kernel)
    return compiled(write(*details))


def _around(dims: Sequence[int], axis: int, count: int = 1) -> tuple[int, int]:
    """Give the elements before and behind some axes."""
    return math.prod(dims[:axis]), math.prod(dims[axis + count :])


def _argsort(op: Any, arrays: Arrays, result: Array, threads: int) -> _Loops:
    (x,) = arrays
    size = x.dims[op.axis]
    outer, inner = _around(x.dims, op.axis)
    work = outer * inner * size * max(size.bit_length(), 1)
    words = [outer * inner, size, inner]
    key = ("argsort", x.dtype, op.descending)
    loops = _Loops(op.name, key, words, [x, result], threads, work)
    return loops.with_room(16 * size * loops.threads)


def _scatter(op: Any, arrays: Arrays, result: Array, threads: int) -> _Loops:
    into = op.name == "scatter"
    updates, indices = arrays[into], arrays[into + 1 :]
    mode = op.mode if into else "add"
    selected = result.dims[op.axis : op.axis + len(indices)]
    outer, inner = _around(result.dims, op.axis, len(indices))
    count = math.prod(indices[0].dims)
    strides = [math.prod(selected[d + 1 :]) for d in range(len(selected))]
    axes = [word for pair in zip(selected, strides) for word in pair]
    words = [inner, outer, count, math.prod(selected), *axes]
    dtypes = tuple(index.dtype for index in indices)
    if not all(map(is_integer, dtypes)) or updates.dtype in HALVES:
        raise BackendError(f"{op.name}: there is no loop for {updates.dtype} at {dtypes}.")
    key = ("scatter", result.dtype, mode, dtypes, into)
    work = outer * inner * (count + math.prod(selected))
    return _Loops(op.name, key, words, [*arrays, result], threads, work)


def _scatter_along(op: Any, arrays: Arrays, result: Array, threads: int) -> _Loops:
    updates, indices = arrays
    outer, inner = _around(updates.dims, op.axis)
    words = [outer * inner, updates.dims[op.axis], result.dims[op.axis], inner]
    key = ("scatter_along", result.dtype, indices.dtype)
    work = outer * inner * (words[1] + words[2])
    return _Loops(op.name, key, words, [updates, indices, result], threads, work)
