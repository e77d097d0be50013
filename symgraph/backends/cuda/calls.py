"""Library calls on a device: which library computes an operation there."""

from __future__ import annotations

import math
from collections.abc import Mapping

from symgraph.backends.arrays import Array, Arrays, concrete_array
from symgraph.backends.cuda.cublaslt import library as cublaslt
from symgraph.backends.cuda.cublaslt.operations import Products
from symgraph.backends.cuda.cudnn import library as cudnn
from symgraph.backends.cuda.cudnn.operations import Convolutions
from symgraph.backends.cuda.interface import Library, Routine
from symgraph.dims import Dim
from symgraph.errors import BackendError
from symgraph.graph.body import nested
from symgraph.graph.dtypes import itemsize
from symgraph.graph.node import Value
from symgraph.graph.onhost import on_host
from symgraph.graph.op import Op
from symgraph.graph.rawkernel import has_kernel
from symgraph.lower.program import LibraryCall, Operand, number, operand

CONVOLUTIONS = ("conv", "conv_input", "conv_weight")
PRODUCTS = ("matmul", "matmul_bias", "matmul_bias_relu")
LANGUAGE = "cuda"  # of kernels by hand
ALIGNED = 256  # bytes of which addresses are multiples: cuBLASLt refuses other places to work in


class Libraries:
    """The libraries of a device, by the operations that they compute."""

    def __init__(self, table: Mapping[str, Library]) -> None:
        self._table = dict(table)

    @property
    def versions(self) -> str:
        """The libraries with their versions."""
        return ", ".join(sorted({one.version for one in self._table.values()}))

    def takes(self, value: Value) -> bool:
        """Tell whether a library computes an operation, at all sizes.

        What has no loops is not generated: `ref` computes it, and a body is a plan of its own. Nor
        is what has a kernel by hand.
        """
        if on_host(value) or nested(value.op) or has_kernel(value, LANGUAGE):
            return True
        library = self._table.get(value.op.name)
        return library is not None and library.takes(value)

    def reads(self, value: Value, view: Operand) -> bool:
        """Tell whether the library of an operation reads an operand where it lies."""
        library = None if has_kernel(value, LANGUAGE) else self._table.get(value.op.name)
        return library is not None and library.reads(value, view)

    def prepare(self, op: Op, arrays: Arrays, result: Array, alignment: int, tf32: bool) -> Routine:
        """Plan an operation. Raises `BackendError` where its library has no implementation."""
        library = self._table.get(op.name)
        if library is None:
            raise BackendError(f"{op.name}: no library has it.")
        return library.prepare(op, arrays, result, alignment, tf32)


def rounded(size: int) -> int:
    """Give a size after which the next place begins as it must."""
    return -(-size // ALIGNED) * ALIGNED


def start(one: Operand, env: Mapping[Dim, int]) -> int:
    """Give the bytes from where a buffer begins to where a view of it does."""
    return number(one.offset, env) * itemsize(one.buffer.dtype)


def empty(call: LibraryCall, env: Mapping[Dim, int]) -> bool:
    """Tell whether the result of a call has no elements."""
    return concrete_array(operand(call.writes[0]), env).empty


def concrete(call: LibraryCall, env: Mapping[Dim, int]) -> tuple[Op, Arrays, Array, int]:
    """Give an operation, its operands, its result and what addresses are multiples of."""
    arrays = tuple(concrete_array(one, env) for one in call.sources)
    alignment = math.gcd(ALIGNED, *(start(one, env) for one in call.sources))
    return call.value.op.at(env), arrays, concrete_array(operand(call.writes[0]), env), alignment


def opened(stream: int, number: int) -> Libraries:
    """Open what is installed on the current device, which has this number.

    What is not installed is left to generated kernels.
    """
    table: dict[str, Library] = {}
    products, _ = cublaslt.found()
    if products is not None:
        table |= dict.fromkeys(PRODUCTS, Products(cublaslt.CublasLt(products, stream)))
    convolutions, _ = cudnn.found()
    if convolutions is not None:
        opened = Convolutions(cudnn.on_stream(convolutions, stream, number))
        table |= dict.fromkeys(CONVOLUTIONS, opened)
    return Libraries(table)
