"""Library calls: which library computes an operation, and what it says to concrete sizes.

`TABLE` has the libraries of an operation in the order in which they are asked; the first that has
more than plain loops computes it. What no library takes is left to generated loops.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from symgraph.backends.arrays import Array
from symgraph.backends.cpu import raw
from symgraph.backends.cpu.blas import operations as blas
from symgraph.backends.cpu.interface import Library, Prepared
from symgraph.backends.cpu.onednn import operations as onednn
from symgraph.backends.cpu.sequential import operations as sequential
from symgraph.backends.matrices import always_sums
from symgraph.dims import Dim
from symgraph.errors import BackendError
from symgraph.graph.body import nested
from symgraph.graph.node import Value
from symgraph.graph.onhost import on_host
from symgraph.graph.op import Op
from symgraph.graph.rawkernel import has_kernel
from symgraph.lower.program import Operand

TABLE: Mapping[str, tuple[Library, ...]] = {
    "conv": (onednn,),
    "conv_bias": (onednn,),
    "conv_input": (onednn,),
    "conv_weight": (onednn,),
    "matmul": (onednn, blas),
    "matmul_bias": (onednn,),
    "argsort": (sequential,),
    "scatter": (sequential,),
    "scatter_add": (sequential,),
    "scatter_add_along_axis": (sequential,),
}
BIASED = ("conv_bias", "matmul_bias")


def prepare(
    op: Op,
    arrays: Sequence[Array],
    result: Array,
    fixed: Sequence[bool] = (),
    threads: int = 0,
) -> Prepared:
    """Give the primitives of an operation. Raises `BackendError` where no library has any.

    `fixed` tells which operands are the same in every call: they may be reordered for it once. The
    calls run with so many threads (0: all), and oneDNN is set to as many (`library_threads`).
    """
    if result.empty:
        return Prepared()
    if any(one.empty for one in arrays) and (sequential,) != TABLE.get(op.name):
        return Prepared(clear=True)  # nothing is summed
    fixed = tuple(fixed) or (False,) * len(arrays)
    problem = BackendError(f"{op.name}: no library has it.")
    slow: Prepared | None = None
    for library in _asked(op.name, [one.dtype for one in (*arrays, result)]):
        try:
            found = library.prepare(op, tuple(arrays), result, fixed, threads)
        except BackendError as refusal:
            problem = refusal
            continue
        if not found.is_reference:
            return found
        slow = slow or found
    if slow is None:
        raise problem
    return slow


def _asked(op: str, dtypes: Sequence[str]) -> Iterator[Library]:
    return (library for library in TABLE.get(op, ()) if library.offers(dtypes))


def takes(value: Value, env: Mapping[Dim, int]) -> bool:
    """Tell whether a library computes an operation well; `env` has the sizes to try.

    What has no loops is not generated: NumPy computes it, and a body is a plan of its own. Nor is
    what has a kernel by hand.
    """
    if on_host(value) or nested(value.op) or has_kernel(value, raw.LANGUAGE):
        return True
    return any(library.takes(value, env) for library in _libraries(value))


def reads(value: Value, view: Operand) -> bool:
    """Tell whether an operation that a library takes reads a view where it lies, at all sizes."""
    alone = on_host(value) or has_kernel(value, raw.LANGUAGE)
    library = None if alone else next(_libraries(value), None)
    return library is not None and library.reads(value.op.name, view.shape, view.strides)


def _libraries(value: Value) -> Iterator[Library]:
    """Give the libraries that are there for an operation; scalars and vectors are for loops."""
    types = [one.tensor for one in (*value.inputs, value)] if value.op.name in TABLE else []
    if TABLE.get(value.op.name) == (sequential,):
        return _asked(value.op.name, [one.dtype for one in types])
    if any(one.ndim < 2 for one in (*types[:2], *types[-1:])):
        return iter(())
    if value.op.name in BIASED and not always_sums(value):  # loops still give the bias
        return iter(())
    return _asked(value.op.name, [one.dtype for one in types])
