"""Cutting a graph where data decide sizes: stages, each with numbers for all of its sizes.

A stage computes the numbers of the sizes that can be known next, and nothing else; the last one
computes the rest, and writes the updates. What an earlier stage has computed anyway a later one
takes as an input. Views, and what is made of no operands, are made again instead.

    x -> mask = x > 0 -> n = count(mask)       | mask, n -> places -> x[places] -> sum
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from symgraph.dims import Dim, free
from symgraph.frozen import frozen
from symgraph.graph.body import like
from symgraph.graph.graph import Graph
from symgraph.graph.leaves import Input, Item
from symgraph.graph.measured import measures
from symgraph.graph.node import Value
from symgraph.graph.types import TupleType
from symgraph.graph.walk import rebuild, topological


@frozen(eq=False)
class Stage:
    """One part: its outputs are the numbers of `sizes`, then `kept`, then results of the whole.

    `kept` are inputs of later stages. `results` has a position in the outputs of the whole for
    each result. `dims` are the sizes that its plan depends on.
    """

    graph: Graph
    sizes: tuple[Dim, ...]
    kept: tuple[Value, ...]
    results: tuple[int, ...]
    dims: frozenset[Dim]


def stages_of(graph: Graph) -> tuple[Stage, ...]:
    """Cut a graph into stages; one stage where no sizes are decided by data."""
    parts = _parts(graph)
    last = len(parts) - 1
    owner = {value: number for number, part in enumerate(parts) for value in part.values}
    home = [owner.get(one, last) for one in graph.outputs]
    kept = _kept(graph, parts, owner)
    placed = {value: like(value.tensor, value.label) for value in kept}
    stages = []
    for number, part in enumerate(parts):
        results = tuple(place for place, where in enumerate(home) if where == number)
        own = [value for value in kept if owner[value] == number]
        earlier = {value: placed[value] for value in kept if owner[value] < number}
        wanted = [*(graph.sizes[one] for one in part.sizes), *own]
        wanted += [graph.outputs[place] for place in results]
        updates = graph.updates if number == last else {}
        done = rebuild([*wanted, *updates.values()], earlier)
        outputs = [done[value] for value in wanted]
        new = {target: done[value] for target, value in updates.items()}
        inputs = _inputs(graph, [*outputs, *new.values()], earlier.values())
        made = Graph(inputs, outputs, new)
        own_inputs = tuple(placed[value] for value in own)
        stages.append(Stage(made, part.sizes, own_inputs, results, _dims(made)))
    return tuple(stages)


@frozen(eq=False)
class _Part:
    """The sizes that a stage finds, and what is computed in it first."""

    sizes: tuple[Dim, ...]
    values: set[Value]


def _parts(graph: Graph) -> list[_Part]:
    """Say where everything is computed: where it is needed first, or at last."""
    level: dict[Value, int] = {}  # the first stage at which all sizes of a value are known
    for node in graph.values:
        own = (graph.sizes[one] for one in measures(node.op) if one in graph.sizes)
        below = [*(level[one] for one in node.inputs), *(level[one] + 1 for one in own)]
        level[node] = max(below, default=0)
    found: dict[int, list[Dim]] = {}
    for size, count in graph.sizes.items():
        found.setdefault(level[count], []).append(size)
    parts: list[_Part] = []
    done: set[Value] = set()
    for number in sorted(found):
        above = topological(graph.sizes[one] for one in found[number])
        new = {node for node in above if node.inputs} - done
        new |= {one for one in graph.values if _is_item(one) and one.inputs[0] in new}
        parts.append(_Part(tuple(found[number]), new))
        done |= new
    parts.append(_Part((), {node for node in graph.values if node.inputs} - done))
    return parts


def _kept(graph: Graph, parts: Sequence[_Part], owner: Mapping[Value, int]) -> tuple[Value, ...]:
    """List what a stage computes and a later one needs, in the order of the graph."""
    needed = [
        (operand, number)
        for number, part in enumerate(parts)
        for value in part.values
        for operand in value.inputs
    ]
    needed += [(value, len(parts) - 1) for value in graph.updates.values()]
    found: set[Value] = set()
    for value, number in needed:
        source = value
        while owner.get(source, number) < number and _is_view(source):
            (source,) = source.inputs
        if owner.get(source, number) < number:
            found.add(source)
    return tuple(value for value in graph.values if value in found)


def _is_item(value: Value) -> bool:
    return isinstance(value.op, Item)


def _is_view(value: Value) -> bool:
    """Tell whether a value is the memory of its operand; an item's is nothing that can be kept."""
    return value.op.view and len(value.inputs) == 1 and not _is_item(value)


def _inputs(graph: Graph, roots: Iterable[Value], earlier: Iterable[Value]) -> tuple[Value, ...]:
    """List the inputs that a stage reads: those of the whole first."""
    read = {node for node in topological(roots) if isinstance(node.op, Input)}
    return tuple(one for one in (*graph.inputs, *earlier) if one in read)


def _dims(graph: Graph) -> frozenset[Dim]:
    """Collect the sizes of everything in a graph."""
    found: set[Dim] = set()
    for node in (*graph.inputs, *graph.values):
        types = node.type.types if isinstance(node.type, TupleType) else (node.tensor,)
        for size in (*node.op.dims(), *(size for type in types for size in type.shape)):
            found |= free(size)
    return frozenset(found)
