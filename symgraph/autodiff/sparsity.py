"""Which elements of a result depend on which elements of an input: read off index expressions.

Every operation says what it loads for each element of its result; the places are computed, the
numbers are not. Where a place depends on numbers (a gather by computed indices), or an operation
brings no index expression (a loop) or a derivative of its own, the element counts as depending on
all: never too little.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from symgraph.autodiff.call import has_own_derivative
from symgraph.autodiff.template import results_of, types_of
from symgraph.dims import collect_guards, free
from symgraph.dims import evaluate as evaluate_size
from symgraph.errors import ShapeError
from symgraph.graph.dtypes import has_gradient, is_float
from symgraph.graph.index import Compute, Load, evaluate
from symgraph.graph.leaves import Item
from symgraph.graph.node import Value, operand_lines
from symgraph.graph.onhost import on_host
from symgraph.graph.op import Op
from symgraph.graph.registry import F
from symgraph.graph.scalar import Scalar, scalar_order
from symgraph.graph.walk import depends_on, topological

# for each element (row) the inputs that it depends on, as bits
Bits = np.ndarray[Any, np.dtype[np.uint8]]
BLOCK = 1 << 25  # bytes of rows that are joined at a time


def depends(y: Value, x: Value) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Give a matrix of bools: whether element i of `y` may change with element j of `x`.

    Raises `ShapeError` where a size between them is no number.

    >>> from symgraph.graph.leaves import tensor
    >>> x = tensor("x", (3,))
    >>> depends(x[1:] * x[:-1], x).astype(int).tolist()
    [[1, 1, 0], [0, 1, 1]]
    """
    between = depends_on([y], [x])
    for value in between:
        sizes = [size for one in types_of(value.type) for size in one.shape]
        if any(free(size) for size in sizes):
            raise ShapeError(
                'jacobian: sparsity="detect" needs sizes that are numbers between `y` and `x`.',
                details=operand_lines([value]),
                fix="give the pattern, or fixed sizes",
            )
    count = int(x.size)  # a number, as all sizes between
    known: dict[Value, tuple[Bits, ...]] = {x: (np.packbits(np.eye(count, dtype=bool), axis=1),)}
    with collect_guards():  # they belong to the nodes, not to their expansions
        _walk([y], known, between)
    bits = known[y][0] if y in known else np.zeros((int(y.size), -(-count // 8)), np.uint8)
    return np.unpackbits(bits, axis=1, count=count).astype(bool)


def _walk(outputs: Sequence[Value], known: dict[Value, tuple[Bits, ...]], live: set[Value]) -> None:
    """Find out about everything between what is known and the outputs, expansions in turn."""
    waiting = [(iter(topological(outputs, stop=known)), live)]
    follow: list[tuple[Value, Sequence[Value]]] = []
    while waiting:
        order, inside = waiting[-1]
        node = next(order, None)
        if node is None:
            waiting.pop()
            if follow:
                whole, parts = follow.pop()
                known[whole] = tuple(_bits_of(part, known) for part in parts)
            continue
        if node in known or node not in inside:
            continue
        inner = _expanded(node, known)
        if inner is not None:
            follow.append((node, inner))
            waiting.append((iter(topological(inner, stop=known)), depends_on(inner, known)))


def _expanded(node: Value, known: dict[Value, tuple[Bits, ...]]) -> list[Value] | None:
    """Find out about one node, or give the operations that it consists of."""
    if isinstance(node.op, Item):
        whole = known.get(node.inputs[0])
        if whole is not None:
            known[node] = (whole[node.op.index],)
        return None
    if node.op.name == "stop_gradient" or not any(x in known for x in node.inputs):
        return None
    if on_host(node) or type(node.op).expand is Op.expand or has_own_derivative(node.op):
        known[node] = _everything(node, known)
        return None
    found = node.op.expand(F, *node.inputs)
    if not isinstance(found, Compute):
        return [found] if isinstance(found, Value) else list(found)
    width = _width(known)
    known[node] = tuple(_read(one, node.inputs, known, width) for one in found.results)
    return None


def _width(known: Mapping[Value, tuple[Bits, ...]]) -> int:
    return int(next(iter(known.values()))[0].shape[1])


def _bits_of(value: Value, known: Mapping[Value, tuple[Bits, ...]]) -> Bits:
    if value in known:
        return known[value][0]
    size: Any = value.size
    return np.zeros((size, _width(known)), np.uint8)


def _everything(node: Value, known: Mapping[Value, tuple[Bits, ...]]) -> tuple[Bits, ...]:
    """Let every element of every float result depend on all that the operands depend on."""
    joined = np.zeros(_width(known), np.uint8)
    for x in node.inputs:
        if x in known:
            joined |= np.bitwise_or.reduce(known[x][0], axis=0)
    found = []
    for one in results_of(node):
        size: Any = one.size
        found.append(np.tile(joined * np.uint8(has_gradient(one.dtype)), (size, 1)))
    return tuple(found)


def _read(
    compute: Compute, operands: Sequence[Value], known: Mapping[Value, tuple[Bits, ...]], width: int
) -> Bits:
    """Join for each element of a result what the elements that it loads depend on."""
    shape = tuple(evaluate_size(axis.extent, {}) for axis in compute.axes)
    total = np.zeros((int(np.prod(shape)), width), np.uint8)
    for node in _float_loads(compute.value):
        source = known.get(operands[node.attr.operand])
        if source is None or not is_float(operands[node.attr.operand].dtype):
            continue
        places = _places(compute, node, operands)
        if places is None:
            total |= np.bitwise_or.reduce(source[0], axis=0)
        else:
            _join(total, source[0], *places)
    return total


def _float_loads(root: Scalar) -> Iterator[Scalar]:
    """Give the loads whose numbers go into a float through floats: conditions do not count."""
    seen: set[Scalar] = set()
    stack = [root]
    while stack:
        node = stack.pop()
        if node in seen or not is_float(node.dtype):
            continue
        seen.add(node)
        if node.op == "load":
            yield node
        else:
            stack.extend(node.args)


def _places(compute: Compute, node: Scalar, operands: Sequence[Value]) -> Any:
    """Give pairs (element of the result, element loaded); None where numbers decide."""
    which: Load = node.attr
    parts = list(node.args)
    order = scalar_order(parts)
    if any(each.op == "load" for each in order):
        return None
    axes = list(compute.axes)
    axes += [each.attr for each in order if each.op == "axis" and each.attr not in compute.axes]
    grid = [evaluate(Compute(tuple(axes), part), (), {})[0].ravel() for part in parts]
    shape = tuple(evaluate_size(axis.extent, {}) for axis in axes)
    inner = int(np.prod(shape[len(compute.axes) :]))
    row = np.arange(int(np.prod(shape))) // max(inner, 1)
    here = grid.pop().astype(bool) if which.guarded else np.ones(row.shape, bool)
    sizes: Any = operands[which.operand].shape
    if not sizes:
        return row[here], np.zeros(int(here.sum()), np.int64)
    index = [np.asarray(one, np.int64)[here] for one in grid]
    return row[here], np.ravel_multi_index(tuple(index), sizes)


def _join(total: Bits, source: Bits, rows: Any, columns: Any) -> None:
    """Add to each row the bits of the source's rows that it loads."""
    step = max(BLOCK // max(source.shape[1], 1), 1)
    for start in range(0, len(rows), step):
        own, loaded = rows[start : start + step], source[columns[start : start + step]]
        first = np.flatnonzero(np.diff(own, prepend=-1))
        total[own[first]] |= np.bitwise_or.reduceat(loaded, first, axis=0)
