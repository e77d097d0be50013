"""Build with symbolic sizes, check every guard and every type, and compute with the reference."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from symgraph.dims import Dim, dim
from symgraph.graph.index import Compute, evaluate
from symgraph.graph.leaves import tensor
from symgraph.graph.node import Value
from symgraph.graph.op import Op
from symgraph.graph.registry import F
from symgraph.graph.walk import topological
from tests.ops.registry_cases import as_list, watch_into

Array = Any


def declared(arrays: Sequence[Array], symbolic: bool) -> tuple[list[Value], dict[Dim, int]]:
    """Make an input for each array; symbolic ones have a named size, which may be 0, per axis."""
    inputs, env = [], {}
    for number, array in enumerate(arrays):
        shape: list[Any] = list(array.shape)
        if symbolic:
            shape = [dim(f"n{number}{d}", min=0) for d in range(array.ndim)]
            env.update(zip(shape, array.shape))
        inputs.append(tensor(f"x{number}", shape, array.dtype))
    return inputs, env


def computed(outputs: Any, inputs: Sequence[Value], arrays: Sequence[Array], env: Any) -> list[Any]:
    """Compute values after checking their guards; every node is held against its type."""
    values = as_list(outputs)
    for node in topological(values):
        for guard in node.guards:
            guard.check(env)
    return watch_into({}, values, dict(zip(inputs, arrays)), env)


def run(call: Callable[..., Any], *arrays: Any, symbolic: bool = True) -> Any:
    """Call a function on symbolic values and compute what it builds for these arrays."""
    given = [np.asarray(array) for array in arrays]
    inputs, env = declared(given, symbolic)
    found = computed(call(*inputs), inputs, given, env)
    return found[0] if len(found) == 1 else found


def run_grad(call: Callable[..., Any], *arrays: Any, order: int = 1, symbolic: bool = True) -> Any:
    """Differentiate the sum of a function by its first operand, `order` times."""
    given = [np.asarray(array) for array in arrays]
    inputs, env = declared(given, symbolic)
    found = call(*inputs)
    for _ in range(order):
        found = F.grad(F.sum(found), inputs[0])
    return computed(found, inputs, given, env)[0]


def check_expansions(call: Callable[..., Any], *arrays: Any, symbolic: bool = True) -> None:
    """Hold the index expression of every node that a function builds against its reference."""
    given = [np.asarray(array) for array in arrays]
    inputs, env = declared(given, symbolic)
    outputs = as_list(call(*inputs))
    seen: dict[Value, Any] = {}
    watch_into(seen, outputs, dict(zip(inputs, given)), env)
    for node in topological(outputs):
        if node.inputs and type(node.op).expand is not Op.expand:
            expansion = node.op.expand(F, *node.inputs)
            if isinstance(expansion, Compute):
                found = evaluate(expansion, [seen[each] for each in node.inputs], env)
                expected = seen[node] if isinstance(seen[node], tuple) else (seen[node],)
                for one, other in zip(found, expected, strict=True):
                    np.testing.assert_array_equal(one, other, repr(node))
