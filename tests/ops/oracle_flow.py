"""Oracles of loops and branches: the bodies written out, one step after the other, in Python."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from symgraph.graph.interpret import interpret

Array = Any


def inside(body: Any, arrays: Sequence[Array]) -> list[Array]:
    """Compute a body; what is symbolic in it has numbers by now."""
    cast = [np.asarray(a).astype(x.dtype) for a, x in zip(arrays, body.inputs)]
    return interpret(body.outputs, dict(zip(body.inputs, cast)), body.sizes)


def loop(op: Any, *arrays: Array) -> list[Array]:
    """Unroll a loop into lists of rows."""
    rows = [list(one) for one in arrays[: op.sequences]]
    states = list(arrays[op.sequences : op.sequences + op.states])
    others = arrays[op.sequences + op.states :]
    order = list(range(op.length))
    kept: dict[int, list[Array]] = {}
    for t in reversed(order) if op.reverse else order:
        if op.conditional and not states[0]:
            break
        found = inside(op.body, [*(one[t] for one in rows), *states, *others])
        states, kept[t] = found[: op.states], found[op.states :]
    result = [np.asarray(one) for one in states]
    for number, output in enumerate(op.body.outputs[op.states :]):
        shape = [n if isinstance(n, int) else op.body.sizes[n] for n in output.shape]
        nothing = np.zeros(shape)
        each = [kept[t][number] if t in kept else nothing for t in order]
        result.append(np.stack(each) if each else np.zeros((0, *shape)))
    return result


def branch(op: Any, which: Array, *arrays: Array) -> list[Array]:
    """Compute the branch that was asked for."""
    bodies = dict(enumerate(op.branches))
    return inside(bodies[sorted([0, int(which), len(bodies) - 1])[1]], arrays)


ORACLES = {"loop": loop, "branch": branch, "tap": lambda op, x, *before: np.array(x, copy=True)}
