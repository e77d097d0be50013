"""Bytes in memory while a graph is computed, step by step, for a chart."""

from __future__ import annotations

from collections.abc import Mapping

from symgraph.cost.liveness import tensor_types
from symgraph.dims import Dim, evaluate
from symgraph.graph.graph import Graph
from symgraph.graph.leaves import Item
from symgraph.graph.node import Value


def live_bytes(graph: Graph, env: Mapping[Dim, int]) -> tuple[int, list[int]]:
    """Give the bytes that are there all the time, and those in memory while each value of the
    graph is computed, in order, the former included.

    The rules are those of `cost`: inputs, shared variables and constants stay; any other value is
    there from its own step to the last that needs it, and a view has no memory of its own.
    """
    leaves = [value for value in graph.values if value.op.leaf]
    always = dict.fromkeys([*graph.inputs, *graph.shared, *leaves])
    held = sum(_bytes(value, env)[0] for value in always)
    memory: dict[Value, tuple[int, ...]] = {}  # the numbers of the buffers that a value keeps
    sizes: list[int] = []
    born: list[int] = []
    last: list[int] = []

    def need(value: Value, step: int) -> None:
        for buffer in memory[value]:
            last[buffer] = step

    for step, value in enumerate(graph.values):
        if value.op.leaf:
            memory[value] = ()
            continue
        for operand in value.inputs:
            need(operand, step)
        if value.op.view:
            whole = memory[value.inputs[0]]
            part = isinstance(value.op, Item) and len(whole) > 1
            memory[value] = (whole[value.op.index],) if part else whole  # type: ignore[attr-defined]
            continue
        for size in _bytes(value, env):
            memory[value] = (*memory.get(value, ()), len(sizes))
            sizes.append(size)
            born.append(step)
            last.append(step)
    count = len(graph.values)
    for root in graph.roots:
        need(root, count)
    change = [0] * (count + 2)
    for size, first, final in zip(sizes, born, last):
        change[first] += size
        change[final + 1] -= size
    now, result = held, []
    for step in range(count):
        now += change[step]
        result.append(now)
    return held, result


def _bytes(value: Value, env: Mapping[Dim, int]) -> list[int]:
    return [max(0, evaluate(type.nbytes, env)) for type in tensor_types(value.type)]
