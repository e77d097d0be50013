"""Products as cuBLASLt computes them: column after column, one bias added, batches by one step.

A result of rows is its transposed one of columns: z = x y is computed as z' = y' x'.
"""

from __future__ import annotations

import ctypes
import math
from collections.abc import Sequence
from typing import Any

from symgraph.backends.arrays import Array, Arrays
from symgraph.backends.cuda.cublaslt import declarations as api
from symgraph.backends.cuda.cublaslt.library import CublasLt
from symgraph.backends.matrices import Matrices, always_sums, fold
from symgraph.dims import less_equal
from symgraph.errors import BackendError
from symgraph.graph.dtypes import itemsize
from symgraph.graph.node import Value
from symgraph.graph.op import Op
from symgraph.lower.program import Operand

WORKSPACE = 32 << 20  # bytes at most; NVIDIA recommends as much for compute capability 9
MOST_ALGORITHMS = 6  # that are measured
NAME = "cublasLt matmul"
EPILOGUES = {"matmul_bias": api.WITH_BIAS, "matmul_bias_relu": api.WITH_BIAS_AND_RELU}
SMALLEST = 16  # rows, columns and terms of a product that is worth a call, where they are known


class Products:
    """Products on one device."""

    def __init__(self, library: CublasLt) -> None:
        self.library = library

    @property
    def version(self) -> str:
        """The library and its version."""
        return f"cuBLASLt {self.library.lib.cublasLtGetVersion()}"

    def takes(self, value: Value) -> bool:
        """Take matrices of floats that are not known to be tiny, with a bias of their dtype."""
        types = [one.tensor for one in (*value.inputs, value)]
        if any(one.dtype != value.dtype or one.dtype not in api.TYPES for one in types):
            return False
        if any(one.ndim < 2 for one in (*types[:2], types[-1])) or not always_sums(value):
            return False
        sizes = (*types[0].shape[-2:], types[1].shape[-1])
        return all(not isinstance(size, int) or size >= SMALLEST for size in sizes)

    def reads(self, value: Value, view: Operand) -> bool:
        """Read matrices of rows or of columns, and a bias without gaps."""
        if len(view.shape) == 1:
            return _is_one(view.strides[0])
        (rows, columns), (down, along) = view.shape[-2:], view.strides[-2:]
        return any(
            _is_one(step) and less_equal(length, line) is True
            for step, length, line in ((along, columns, down), (down, rows, along))
        )

    def prepare(self, op: Op, arrays: Arrays, result: Array, alignment: int, tf32: bool) -> Product:
        """Plan a product. Raises `BackendError` where an operand cannot be read."""
        return Product(self.library, op.name, arrays, result, alignment, tf32)


def _is_one(size: Any) -> bool:
    return isinstance(size, int) and size == 1


class Product:
    """One product, or a batch of them; batches that have no one step are several calls."""

    def __init__(
        self, library: CublasLt, name: str, arrays: Arrays, result: Array, alignment: int,
        tf32: bool,
    ) -> None:  # fmt: skip
        self.library = library
        x, y, out = (Matrices(one, result.dims[:-2]) for one in (*arrays[:2], result))
        fold(x, y, out)
        turned, line_out = out.lies("the result")
        bias = arrays[2] if len(arrays) > 2 else None
        if turned and bias is not None:
            raise BackendError(f"{name}: cuBLASLt adds no bias along the rows of a result.")
        first, second = (x, y) if turned else (y, x)
        self._swapped = not turned
        sides = [(one, *one.lies("a factor")) for one in (first, second)]
        count, steps, self._outer = _one_step(out.batch, [first.steps, second.steps, out.steps])
        scale = "float64" if result.dtype == "float64" else "float32"
        number = ctypes.c_double if scale == "float64" else ctypes.c_float
        self._one, self._zero = number(1), number(0)
        compute = api.DOUBLE if scale == "float64" else api.EXACT
        if tf32 and result.dtype == "float32":
            compute = api.TF32
        self._size = itemsize(result.dtype)
        self._description = library.create(
            "cublasLtMatmulDescCreate", "cublasLtMatmulDescDestroy", self,
            compute, api.TYPES[scale],
        )  # fmt: skip
        for attribute, (_, columns, _) in zip((api.TURN_A, api.TURN_B), sides):
            # what lies by columns is read as it is by a result of columns, and the other way
            plain = columns if turned else not columns
            self._describe(attribute, ctypes.c_int(api.PLAIN if plain else api.TURNED))
        self._bias = bias is not None
        if bias is not None:
            self._describe(api.EPILOGUE, ctypes.c_int(EPILOGUES[name]))
            self._describe(api.BIAS, ctypes.c_void_p(alignment))  # some address, to plan with
            self._describe(api.BIAS_TYPE, ctypes.c_int(api.TYPES[bias.dtype]))
        self._layouts = [
            self._layout(one, columns, line, result.dtype, count, step)
            for (one, columns, line), step in zip((*sides, (out, turned, line_out)), steps)
        ]
        inside = (start * self._size for starts in self._outer for start in starts)
        begins = math.gcd(alignment, *inside)
        self.key = f"{name} of {arrays} as {result}, {compute}, at multiples of {begins}"
        self._found = self._algorithms(begins)
        self._way = 0

    @property
    def implementation(self) -> str:
        """The library's function, and which of its algorithms runs."""
        return self.alternatives()[self._way]

    @property
    def workspace(self) -> int:
        """The bytes that the algorithm needs while it runs."""
        return int(self._found[self._way].workspace)

    def alternatives(self) -> list[str]:
        """Name the algorithms that the library thinks are fastest."""
        more = (f"{NAME}, choice {place}" for place in range(2, len(self._found) + 1))
        return [NAME, *more]

    def choose(self, name: str) -> bool:
        """Take one of them from now on; False if there is none of that name."""
        names = self.alternatives()
        if name not in names:
            return False
        self._way = names.index(name)
        return True

    def saved(self) -> bytes:
        """Give nothing: an algorithm is found by its name in no time."""
        return b""

    def restore(self, name: str, saved: bytes) -> bool:
        """Read nothing."""
        return False

    def _describe(self, attribute: int, value: Any) -> None:
        self.library.set("cublasLtMatmulDescSetAttribute", self._description, attribute, value)

    def _layout(
        self, one: Matrices, columns: bool, line: int, dtype: str, count: int, step: int
    ) -> Any:
        """Describe matrices in memory; one of rows is the transposed one of columns."""
        high, wide = (one.rows, one.columns) if columns else (one.columns, one.rows)
        made = self.library.create(
            "cublasLtMatrixLayoutCreate", "cublasLtMatrixLayoutDestroy", self,
            api.TYPES[dtype], high, wide, line,
        )  # fmt: skip
        if count > 1:
            name = "cublasLtMatrixLayoutSetAttribute"
            self.library.set(name, made, api.COUNT, ctypes.c_int32(count))
            self.library.set(name, made, api.STEP, ctypes.c_int64(step))
        return made

    def _algorithms(self, alignment: int) -> list[api.Found]:
        """Ask for the algorithms that the library thinks are fastest."""
        library = self.library
        preference = library.create(
            "cublasLtMatmulPreferenceCreate", "cublasLtMatmulPreferenceDestroy", self
        )
        name = "cublasLtMatmulPreferenceSetAttribute"
        library.set(name, preference, api.MOST_WORKSPACE, ctypes.c_size_t(WORKSPACE))
        # parts of a sum are added in the dtype of the sums, not of the result
        library.set(name, preference, api.REDUCTIONS, ctypes.c_uint32(api.IN_SUMS))
        for attribute in api.ALIGNMENTS:
            library.set(name, preference, attribute, ctypes.c_uint32(alignment))
        found, count = (api.Found * MOST_ALGORITHMS)(), ctypes.c_int()
        a, b, d = self._layouts
        library.call(
            "cublasLtMatmulAlgoGetHeuristic", library.handle, self._description, a, b, d, d,
            preference, MOST_ALGORITHMS, found, ctypes.byref(count),
        )  # fmt: skip
        usable = [one for one in found[: count.value] if not one.state]
        if not usable:
            raise BackendError(
                "matmul: cuBLASLt has no algorithm for these operands.",
                fix='compile with backend="cpu", and please report the sizes',
            )
        return usable

    def run(self, addresses: Sequence[int], workspace: int) -> None:
        """Queue the product of the first two; then come a bias, if there is one, and the result."""
        x, y, *rest, out = addresses
        if self._bias:
            self._describe(api.BIAS, ctypes.c_void_p(rest[0]))
        starts = (y, x, out) if self._swapped else (x, y, out)
        a, b, d = self._layouts
        algorithm = self._found[self._way].algorithm
        one, zero = ctypes.byref(self._one), ctypes.byref(self._zero)
        for offsets in self._outer:
            at = [start + offset * self._size for start, offset in zip(starts, offsets)]
            self.library.call(
                "cublasLtMatmul", self.library.handle, self._description, one, at[0], a, at[1], b,
                zero, at[2], d, at[2], d, ctypes.byref(algorithm), workspace,
                self.workspace, self.library.stream,
            )  # fmt: skip


def _one_step(
    batch: Sequence[int], steps: Sequence[Sequence[int]]
) -> tuple[int, list[int], list[tuple[int, ...]]]:
    """Give the innermost part of a batch that every operand crosses in equal steps.

    How many matrices it has, the step of each operand, and where the others of the batch begin.
    """
    axes = [(size, [own[k] for own in steps]) for k, size in enumerate(batch) if size > 1]
    count, inner = axes.pop() if axes else (1, [0] * len(steps))
    while axes and all(up == down * count for up, down in zip(axes[-1][1], inner)):
        count *= axes.pop()[0]
    starts: list[tuple[int, ...]] = [(0,) * len(steps)]
    for size, own in axes:
        starts = [
            tuple(at + step * k for at, step in zip(start, own))
            for start in starts
            for k in range(size)
        ]
    return count, inner, starts
