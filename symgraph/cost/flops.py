"""Floating-point operations of a node, counted from what the operation says in `expand`.

An index expression is counted as a compiler would run it: a scalar value is computed once for each
combination of the axes that it depends on, and not again for the others. What counts:

| scalar operation                                             | FLOPs                           |
|--------------------------------------------------------------|---------------------------------|
| `+ - * /`, remainder, min, max, neg, abs, sign, roundings    | 1                               |
| sqrt, exp, log, powers, trigonometry, erf: whatever it takes | 1                               |
| fma: a multiplication and an addition                        | 2                               |
| a comparison of floats, isnan, isinf                         | 1                               |
| a reduction of n floats (sum, max, argmax, ...)              | n                               |
| anything on integers and bools, also where they are indices  | 0                               |
| select, cast, bitcast, a load, a literal, random words       | 0                               |

So a product of (m, k) and (k, n) matrices is 2*m*n*k, and a convolution twice its multiplications.
An operation on complex numbers counts as
four on real ones, which is exact for products of matrices.
Padding counts: a window that hangs over the edge multiplies zeros. So do the gaps that a stride
leaves in the gradient of a convolution by its input.
"""

from __future__ import annotations

from collections.abc import Iterable

from symgraph.config import config
from symgraph.dims import Size, collect_guards, product, total
from symgraph.dims.arithmetic import cached
from symgraph.errors import PassError
from symgraph.graph.dtypes import is_float, real_dtype
from symgraph.graph.index import Axis, Compute
from symgraph.graph.leaves import Item, SizeOf, tensor
from symgraph.graph.node import Value
from symgraph.graph.onhost import of_complex
from symgraph.graph.op import Op
from symgraph.graph.registry import F
from symgraph.graph.scalar import Scalar, scalar_order
from symgraph.graph.types import TensorType
from symgraph.graph.walk import topological

MOVES = frozenset({"cast", "bitcast", "load", "take"})
"""Scalar operations on floats that compute nothing."""

NOTHING: frozenset[Axis] = frozenset()


def node_flops(node: Value) -> Size:
    """Give the FLOPs of one node; its operands' own are not among them.

    Raises `PassError` for an operation without `expand`.

    >>> import symgraph as sg
    >>> print(node_flops(sg.matmul(sg.tensor("a", (sg.dim("B"), 3)), sg.tensor("b", (3, 4)))))
    24*B
    """
    op = node.op
    if op.leaf or op.view or isinstance(op, SizeOf | Item):
        return 0
    types = [operand.tensor for operand in node.inputs]
    if of_complex(node) and not op.host:
        return 4 * op_flops(op, *(one.with_dtype(real_dtype(one.dtype)) for one in types))
    try:
        return op_flops(op, *types)
    except PassError as problem:
        problem.details = problem.details or (node.describe(),)
        raise


@cached
def op_flops(op: Op, *types: TensorType) -> Size:
    """Give the FLOPs of an operation on operands of these types."""
    # what is built here is nobody's line, and its guards belong to the node
    with config(origins=False), collect_guards():
        if type(op).expand is Op.expand:
            return op.flops(node_flops, *types)
        operands = [tensor(None, type.shape, type.dtype) for type in types]
        found = op.expand(F, *operands)
    if isinstance(found, Compute):
        return compute_flops(found)
    parts = topological([found] if isinstance(found, Value) else found)
    return total(node_flops(part) for part in parts)


def compute_flops(compute: Compute) -> Size:
    """Give the FLOPs of an index expression.

    >>> from symgraph.graph.index import SUM, axes, load, reduce
    >>> i, k = axes((4, 5))
    >>> compute_flops(Compute((i,), reduce(SUM, (k,), load(0, "float32", i, k) * 2)))
    40
    """
    free: dict[Scalar, frozenset[Axis]] = {}
    counts: dict[frozenset[Axis], int] = {}
    for node in scalar_order(result.value for result in compute.results):
        if node.op == "axis":
            free[node] = frozenset((node.attr,))
            continue
        below = _union(free[argument] for argument in node.args)
        loops = below
        if node.op == "reduce":
            loops = below.union(node.attr.axes)
            below = below.difference(node.attr.axes)
        free[node] = below
        if node.args and is_float(node.args[0].dtype) and node.op not in MOVES:
            counts[loops] = counts.get(loops, 0) + (2 if node.op == "fma" else 1)
    return total(count * product(axis.extent for axis in loops) for loops, count in counts.items())


def _union(parts: Iterable[frozenset[Axis]]) -> frozenset[Axis]:
    """Join sets of axes; most often they are one and the same."""
    found = NOTHING
    for part in parts:
        if part is not found:
            found = found | part if found else part
    return found
