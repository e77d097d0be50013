"""Costs counted from what NumPy really does, without any formula: arrays that are really alive and
elements that are really computed.
"""

from __future__ import annotations

import weakref
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest

from symgraph.cost.flops import node_flops
from symgraph.dims import Dim, evaluate
from symgraph.graph import index
from symgraph.graph.graph import Graph
from symgraph.graph.index import Compute
from symgraph.graph.interpret import interpret
from symgraph.graph.leaves import tensor
from symgraph.graph.node import Value
from symgraph.graph.onhost import on_host
from symgraph.graph.registry import F
from tests.ops.registry_cases import as_list, results
from tests.tolerances import is_floating

Array = Any
Env = Mapping[Dim, int]

# one for each element of the result (fma: two); written out here, so that a new scalar operation is
# looked at
COUNTED = {
    "add", "sub", "mul", "div", "fmod", "neg", "abs", "sign", "min", "max", "sqrt", "exp", "expm1",
    "log", "log1p", "sin", "cos", "tan", "asin", "acos", "atan", "atan2", "sinh", "cosh", "tanh",
    "erf", "erfc", "pow", "floor", "ceil", "rint", "trunc", "eq", "ne", "lt", "le", "gt", "ge",
    "isnan", "isinf", "fma",
}  # fmt: skip
FREE = {
    "const", "axis", "size", "operand", "load", "row", "take", "cast", "bitcast", "select",
    "philox", "and", "or", "not", "idiv", "imod", "bitand", "bitor", "bitxor", "bitnot", "shl",
    "shr",
}  # fmt: skip


# -- floating operations ---------------------------------------------------------------------------


@contextmanager
def counted_elements() -> Iterator[list[int]]:
    """Collect the elements of every floating operation that `index.evaluate` really does."""
    found: list[int] = []
    compute = index._one

    def counting(node: Any, args: list[Any], *rest: Any) -> Any:
        result = compute(node, args, *rest)
        if node.op == "load" and args:  # of an empty array it gives one element for all places
            result = np.broadcast_to(result, np.broadcast_shapes(*(a.shape for a in args)))
        if node.op in COUNTED and is_floating(args[0].dtype):
            found.append(np.asarray(result).size * (2 if node.op == "fma" else 1))
        if node.op == "reduce" and is_floating(args[0].dtype):
            place, extent = rest[-2:]
            over = [place[axis] for axis in node.attr.axes]
            grid = [extent[d] if d in over else n for d, n in enumerate(args[0].shape)]
            found.append(np.broadcast_to(args[0], grid).size)
        assert node.op in COUNTED | FREE | {"reduce"}, f"is `{node.op}` a floating operation?"
        return result

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(index, "_one", counting)
        yield found


def counted_flops(node: Value, arrays: Sequence[Array], env: Env) -> int:
    """Run what a node expands into on the arrays of its operands, and count."""
    if node.op.leaf or not hasattr(type(node.op), "samples") or node.op.name in ("item", "size_of"):
        return 0
    if on_host(node):  # a formula that nothing counts
        return evaluate(node_flops(node), env)
    fresh = [tensor(f"x{i}", x.shape, x.dtype) for i, x in enumerate(node.inputs)]
    expansion = node.op.expand(F, *fresh)
    if isinstance(expansion, Compute):
        with counted_elements() as found:
            index.evaluate(expansion, arrays, env)
        return sum(found)
    total = 0
    seen: dict[Value, Array] = {}

    def watch(inner: Value, array: Array) -> None:
        nonlocal total
        seen[inner] = array
        if inner not in feeds:
            total += counted_flops(inner, [seen[operand] for operand in inner.inputs], env)

    feeds = dict(zip(fresh, arrays))
    interpret(as_list(expansion), feeds, env, watch=watch)
    return total


# -- bytes -----------------------------------------------------------------------------------------


def owner(array: Array) -> Array:
    """Give the array that owns the memory of this one."""
    while isinstance(getattr(array, "base", None), np.ndarray):
        array = array.base
    return array


def must_copy(node: Value, operands: Sequence[Any], result: Any) -> bool:
    """Tell whether NumPy copied in a reshape, because strides cannot say the result."""
    if node.op.name != "reshape" or operands[0].flags.c_contiguous:
        return False
    return owner(result) is not owner(operands[0])


def counted_bytes(operands: Sequence[Any], result: Any) -> tuple[int, int]:
    """Count the bytes of different operands, and of a result with memory of its own."""
    given = {id(a): a for operand in operands for a in results(operand)}
    made = results(result)
    if any(owner(one) is owner(a) for one in made for a in given.values()):
        return 0, 0
    return sum(a.nbytes for a in given.values()), sum(a.nbytes for a in made)


class Run:
    """Watches a run of a graph: the bytes it moves, and the most that are alive at once.

    Whatever owns memory is seen through a weak reference only, so what counts is what something
    still refers to. NumPy's scalars allow none; they count until their last use. Where a reshape
    must copy, the array that it copies counts in the place of the copy, as long as that lives.
    """

    def __init__(self, graph: Graph, feeds: Mapping[Value, Array]) -> None:
        held = [feeds[value] for value in graph.inputs]
        held += [shared.storage.array for shared in graph.shared]
        held += [node.op.array for node in graph.values if node.op.name == "constant"]
        self.held = {id(owner(array)): array.nbytes for array in held}
        self.owners: dict[int, Any] = {}
        self.instead: dict[int, Array] = {}
        self.seen: dict[Value, Any] = {}
        self.scalars: dict[Value, int] = {}
        self.uses = Counter(operand for node in graph.values for operand in set(node.inputs))
        self.uses.update(set(graph.roots))
        self.peak = sum(self.held.values())
        self.read = self.written = self.copies = 0

    def watch(self, node: Value, result: Any) -> None:
        """Take note of a result; called when it was made and its operands are still there."""
        self.seen[node] = [_weak(array) for array in results(result)]
        if not node.op.leaf:
            operands = [[at() for at in self.seen[operand]] for operand in node.inputs]
            assert all(array is not None for each in operands for array in each)
            self._move(node, operands, result)
        self.peak = max(self.peak, self._now())
        for operand in set(node.inputs):
            self.uses[operand] -= 1
            if not self.uses[operand]:
                self.scalars.pop(operand, None)

    def written_out(self, outputs: Sequence[Value], arrays: Sequence[Array]) -> None:
        """Count arrays of their own for outputs that repeat elements: no caller gets a view."""
        found = dict(zip(outputs, arrays))
        written = sum(found[one].nbytes for one in found if _repeats(one))
        self.peak = max(self.peak, self._now() + written)

    def _now(self) -> int:
        alive = (at() for at in self.owners.values())
        arrays = sum(array.nbytes for array in alive if array is not None)
        return sum(self.held.values()) + arrays + sum(self.scalars.values())

    def _move(self, node: Value, operands: list[list[Array]], result: Any) -> None:
        if operands and must_copy(node, operands[0], result):
            self._stand_in(owner(operands[0][0]), owner(result))
            return
        moved = counted_bytes([tuple(each) for each in operands], result)
        self.read, self.written = self.read + moved[0], self.written + moved[1]
        for array in results(result):
            own = owner(array)
            if isinstance(own, np.generic):
                self.scalars[node] = own.nbytes
            elif id(own) not in self.held and id(own) not in self.instead:
                self.owners[id(own)] = weakref.ref(own)

    def _stand_in(self, original: Array, copy: Array) -> None:
        """Let the array that was copied live on, and count, until its copy is gone."""
        self.copies += 1
        key = id(copy)
        self.instead[key] = self.instead.get(id(original), original)
        weakref.finalize(copy, self.instead.pop, key)


def _repeats(value: Value) -> bool:
    while value.op.view and value.op.name != "broadcast_to":
        value = value.inputs[0]
    return value.op.view


def _weak(array: Any) -> Any:
    return (lambda: array) if isinstance(array, np.generic) else weakref.ref(array)
