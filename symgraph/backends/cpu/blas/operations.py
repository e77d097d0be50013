"""Products as BLAS computes them: matrices with rows or columns one after another.

A factor whose columns lie one after another is handed over as a transposed one. A batch is a list
of offsets; its matrices, and parts of them, are shared out among threads.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from symgraph.backends.arrays import Array, Arrays
from symgraph.backends.cpu.blas.library import GENERAL, PLAIN, ROWS, TURNED, Blas, find
from symgraph.backends.cpu.blas.wrapper import WORDS, wrapper
from symgraph.backends.cpu.interface import Fixed, Prepared, Use
from symgraph.backends.matrices import Matrices, fold
from symgraph.config import usable_cores
from symgraph.dims import Dim, Size, less_equal
from symgraph.errors import BackendError
from symgraph.graph.node import Value
from symgraph.graph.op import Op
from symgraph.lower.program import number

COLUMNS = 102  # cblas: the order of columns
GRAIN = 1 << 18  # products of two numbers that are worth a thread
TILE = 192  # rows and columns of a part at most: larger ones are 3 % faster, but fewer to share out
EDGE = 16  # parts end at multiples of it, where the kernels of BLAS have no rest
SHORTEST = 16  # sums that are worth a call
SMALLEST = 1 << 15  # products of two numbers that are
USUAL = 64  # what a size that may change is taken for at least
LARGEST = 2**31 - 1  # of a size or a stride: a BLAS may have integers of 32 bits
ROLES = ("src", "weights", "dst")


def offers(dtypes: Sequence[str]) -> bool:
    """Tell whether there is a BLAS and has these dtypes, which must be one."""
    return len(set(dtypes)) == 1 and dtypes[0] in GENERAL and find() is not None


def takes(value: Value, env: Mapping[Dim, int]) -> bool:
    """Tell whether a product is large enough; a size that may change is taken for a large one.

    Generated loops are as fast or faster for products by vectors, of vectors and of small matrices.
    """
    x, y = (one.tensor.shape for one in value.inputs)
    rows, inner, columns = (
        math.prod(s if isinstance(s, int) else max(number(s, env), USUAL) for s in sizes)
        for sizes in (x[:-1] if len(y) == 2 else x[-2:-1], x[-1:], y[-1:])
    )
    long = inner >= SHORTEST and min(rows, columns) > 1
    return long and rows * inner * columns >= SMALLEST


def reads(op: str, shape: Sequence[Size], strides: Sequence[Size]) -> bool:
    """Tell whether an operand that lies so is a matrix of rows or of columns, at all sizes."""
    (rows, columns), (down, along) = shape[-2:], strides[-2:]
    return any(
        _is_one(step) and less_equal(length, line) is True
        for step, length, line in ((along, columns, down), (down, rows, along))
    )


def _is_one(size: Size) -> bool:
    return isinstance(size, int) and size == 1


def prepare(op: Op, arrays: Arrays, result: Array, fixed: Fixed, threads: int) -> Prepared:
    """Give a product as one primitive. Raises `BackendError` where BLAS cannot read an operand."""
    found = find()
    if found is None:
        raise BackendError("matmul: there is no BLAS.")
    made = Product(found, (*arrays, result), threads or usable_cores())
    return Prepared([Use(made, {role: number for number, role in enumerate(ROLES)})])


class Product:
    """One product, or a batch of them, with how it is cut into parts."""

    name = "matmul"
    is_reference = False

    def __init__(self, found: Blas, arrays: Arrays, threads: int) -> None:
        self.blas = found
        self.arguments: Mapping[str, Array] = dict(zip(ROLES, arrays))
        self.dtype = arrays[-1].dtype
        x, y, out = (Matrices(one, arrays[-1].dims[:-2]) for one in arrays)
        fold(x, y, out)
        turned, line_out = out.lies("the result")
        turn_x, line_x = x.lies("the first factor")
        turn_y, line_y = y.lies("the second factor")
        batch, rows, inner, columns = math.prod(out.batch), x.rows, x.columns, y.columns
        worth = batch * rows * inner * columns // GRAIN if found.shares else 1
        tall, wide = (_part(rows), _part(columns)) if found.shares else (rows, columns)
        down, along = -(-rows // tall), -(-columns // wide)
        parts = batch * down * along
        self.threads = max(1, min(threads, worth, parts))
        numbers = {
            "order": COLUMNS if turned else ROWS,
            "turn_x": TURNED if turn_x != turned else PLAIN,
            "turn_y": TURNED if turn_y != turned else PLAIN,
            "rows": rows, "inner": inner, "columns": columns,
            "line_x": line_x, "line_y": line_y, "line_out": line_out,
            "step_x": x.down, "step_y": y.along,
            "down_out": out.down, "along_out": out.along,
            "tall": tall, "wide": wide, "down": down, "along": along, "parts": parts,
        }  # fmt: skip
        offsets = np.stack([one.offsets() for one in (x, y, out)], axis=1)
        self.words = np.array([*(numbers[name] for name in WORDS), *offsets.ravel()], np.int64)
        if max(rows, inner, columns, line_x, line_y, line_out) > LARGEST:
            raise BackendError("matmul: BLAS counts in 32 bits.")

    @property
    def implementation(self) -> str:
        """The name of the BLAS and of its function."""
        return f"{self.blas.maker} {GENERAL[self.dtype]}"

    def bind(self, buffers: Mapping[str, tuple[Any, int]]) -> Call:
        """Bind factors and result to addresses, which may be 0 until `Call.rebind` gives them."""
        return Call(self, [buffers[role][1] for role in ROLES])


class Call:
    """A product at addresses; its record is the words of a function, see `interface.Call`."""

    def __init__(self, product: Product, addresses: Sequence[int]) -> None:
        self._product = product
        self._wrapper = wrapper(product.blas)
        self._addresses = np.array(addresses, np.int64)
        self.record: npt.NDArray[np.int64] = np.array(
            [
                self._wrapper.addresses[product.dtype],
                product.words.ctypes.data,
                0,
                product.threads,
                self._addresses.ctypes.data,
            ],
            np.int64,
        )

    def rebind(self, role: str, address: int) -> None:
        """Move an argument to another address."""
        self._addresses[ROLES.index(role)] = address


def _part(length: int) -> int:
    """Give the length of parts: about equal, by the size alone, so that threads change no bits."""
    parts = -(-length // TILE)
    return min(length, -(-length // parts // EDGE) * EDGE)
