"""Random values inside loops: what is drawn in a body is drawn anew in each step."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar

import numpy as np

from symgraph.graph.leaves import Shared, constant
from symgraph.graph.node import Value, make
from symgraph.graph.walk import leaves, rebuild

SPREAD = 0x9E3779B1  # odd, and far from small multiples of itself modulo 2**32

_collectors: ContextVar[tuple[list[Value], ...]] = ContextVar("symgraph_draws", default=())


def drawn(value: Value) -> Value:
    """Tell the innermost `collect_draws` of a value that reads the state of a stream; give it."""
    found = _collectors.get()
    if found:
        found[-1].append(value)
    return value


@contextmanager
def collect_draws() -> Iterator[list[Value]]:
    """Collect the values made inside the block that read the state of a stream."""
    values: list[Value] = []
    token = _collectors.set((*_collectors.get(), values))
    try:
        yield values
    finally:
        _collectors.reset(token)


def draw_by_step(values: Sequence[Value], step: Value) -> dict[Value, Value]:
    """Give in the place of collected values others that draw anew in each step of a loop.

    The number of the step goes into the upper half of the stream's step, which no stream reaches;
    loops inside loops spread it by different factors.
    """
    factor = pow(SPREAD, len(_collectors.get()), 2**32)
    lift = constant(np.array([0, factor << 32, 0], np.uint64))
    number = (step + 1).cast("uint64")

    def moved(one: Value) -> Value:
        if one.dtype != "uint64":
            return one
        states = {leaf: leaf + number * lift for leaf in leaves([one]) if is_state(leaf)}
        return rebuild([one], dict(states))[one]

    return {value: make(value.op, *map(moved, value.inputs)) for value in values}


def is_state(value: Value) -> bool:
    """Tell whether a value is the state of a stream."""
    return isinstance(value, Shared) and value.dtype == "uint64" and value.shape == (3,)
