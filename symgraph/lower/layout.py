"""Layouts: which tensors keep their channels innermost, as the library likes them.

Two labels, plain and the library's, and one minimum cut: what a library reads or writes wants its
label, what enters, leaves or is reshaped is plain, and operations that walk over two tensors alike
want both alike. The cut is the traffic of the copies that remain. A layout is strides only, so that
a copy is nothing but a loop that reads one and writes the other.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Mapping
from dataclasses import replace
from itertools import pairwise

import networkx as nx

from symgraph.dims import Dim, Size, product
from symgraph.graph.index import axes, load
from symgraph.graph.node import Value
from symgraph.graph.scalar import scalar_order
from symgraph.lower.linear import Linear, linear
from symgraph.lower.nest import Buffer, bound, buffer, place
from symgraph.lower.program import (
    Definition,
    LibraryCall,
    Operand,
    Program,
    nbytes,
    number,
    operand,
    positions,
)

SMALL = 64  # times as many bytes are summed into a result as it has itself
PLAIN, LIBRARY = "plain", "library"


def channels_innermost(shape: tuple[Size, ...]) -> tuple[Size, ...]:
    """Give the strides of (batch, channels, *sizes) with the channels innermost."""
    channels, sizes = shape[1], shape[2:]
    inner = [product((*sizes[d + 1 :], channels)) for d in range(len(sizes))]
    return (product((channels, *sizes)), 1, *inner)


def copy_given(program: Program) -> frozenset[Buffer]:
    """Have what is given to convolutions copied, so that its channels are innermost there, too.

    Gives the copies.
    """
    given = {*program.inputs.values(), *program.shared.values(), *program.constants}
    copies: dict[Buffer, Buffer] = {}
    items: list[Definition | LibraryCall] = []
    for item in program.items:
        if isinstance(item, LibraryCall):
            for one in _activations(item):
                if one in given and one not in copies:
                    copies[one] = made = buffer(one.name, one.dtype, one.shape)
                    made.strides = channels_innermost(one.shape)
                    out = axes(one.shape)
                    read = bound(load(0, one.dtype, *positions(out)), [one])
                    items.append(Definition(made, out, read))
            images = set(_activations(item)) & copies.keys()
            item.sources = tuple(
                replace(operand(copies[one.buffer]), whole=False) if one.buffer in images else one
                for one in item.sources
            )  # and no view of what is given
        items.append(item)
    program.items = items
    return frozenset(copies.values())


def choose_layouts(
    program: Program, nominal: Mapping[Dim, int], innermost: Container[Buffer] = ()
) -> None:
    """Set the strides of every buffer whose channels are to be innermost; of some they are."""
    graph = _preferences(program, nominal, innermost)
    if LIBRARY not in graph or not graph[LIBRARY]:
        return
    _, (library, _) = nx.minimum_cut(graph, LIBRARY, PLAIN, capacity="bytes")
    for one in library:
        if isinstance(one, Buffer):
            one.strides = channels_innermost(one.shape)
    for item in program.items:
        if isinstance(item, LibraryCall):
            item.sources = tuple(
                operand(each.buffer) if each.whole else each for each in item.sources
            )


def _preferences(
    program: Program, nominal: Mapping[Dim, int], innermost: Container[Buffer]
) -> nx.DiGraph:
    """Give the graph that is cut: an edge's bytes are paid when its ends have unlike labels."""
    graph = nx.DiGraph()
    graph.add_nodes_from([LIBRARY, PLAIN])
    outside = {*program.inputs.values(), *program.shared.values(), *program.constants,
               *program.outputs, *program.updates.values()}  # fmt: skip

    def tie(first: object, second: object, size: float) -> None:
        for a, b in ((first, second), (second, first)):
            known = graph.get_edge_data(a, b, {"bytes": 0})
            if "bytes" in known:
                graph.add_edge(a, b, bytes=known["bytes"] + size)

    def bytes_of(one: Buffer) -> int:
        return 2 * number(nbytes(one), nominal) + 1

    for item in program.items:
        for one in (*item.reads(), *item.writes):
            if len(one.shape) >= 3 and one in outside:
                graph.add_edge(one, PLAIN)  # no bytes: it cannot be otherwise
        if isinstance(item, LibraryCall):
            for one in _activations(item):
                if one in innermost:
                    graph.add_edge(LIBRARY, one)  # no bytes, either
                elif one not in outside:
                    tie(LIBRARY, one, bytes_of(one))
            for one in _filters(item):
                graph.add_edge(one, PLAIN)
            continue
        target = item.target
        if len(target.shape) < 3:
            for one in item.reads():
                if len(one.shape) >= 3 and not _reduces_alike(item):
                    tie(one, PLAIN, bytes_of(one))
            continue
        summed = _summed(item, bytes_of)
        for first, second in pairwise(summed):
            tie(first, second, bytes_of(first))
        for one in item.reads():
            if one in summed:
                continue
            if len(one.shape) == len(target.shape):
                tie(one, target, bytes_of(one))
            elif bytes_of(one) * 4 > bytes_of(target):  # a reshape, and no bias that is repeated
                tie(target, PLAIN, bytes_of(target))
                if len(one.shape) >= 3:
                    tie(one, PLAIN, bytes_of(one))
    return graph


def _summed(item: Definition, bytes_of: Callable[[Buffer], int]) -> list[Buffer]:
    """Give what is summed into a result that is small beside it, in any layout, if all alike.

    The gradient of the filters of a convolution of each channel by itself reads two images, and
    writes a few numbers, which say nothing about where channels should be.
    """
    if not _reduces_alike(item):
        return []
    rank, least = len(item.target.shape), SMALL * bytes_of(item.target)
    return [one for one in item.reads() if len(one.shape) == rank and bytes_of(one) > least]


def _activations(call: LibraryCall) -> Iterable[Buffer]:
    """Give the tensors of a convolution that have a batch and channels."""
    name, operands = call.value.op.name, [one.buffer for one in call.sources]
    if name in ("conv", "conv_bias", "conv_input"):
        return (operands[0], *call.writes)
    return operands if name == "conv_weight" else ()


def _filters(call: LibraryCall) -> Iterable[Buffer]:
    """Give the operands of a call that stay plain."""
    own = set(_activations(call))
    return [one for one in (*call.reads(), *call.writes) if one not in own and len(one.shape) >= 3]


def _reduces_alike(item: Definition) -> bool:
    """Tell whether a definition reduces, which works in any layout."""
    return any(n.op == "reduce" for n in scalar_order([item.value]))


def look_through_views(
    program: Program, reads: Callable[[Value, Operand], bool] = lambda value, view: True
) -> None:
    """Let library calls read transposed, reshaped and sliced operands where they lie.

    `reads` tells whether a library can; what it cannot read is copied.
    """
    views: dict[Buffer, Operand] = {}
    after: dict[Buffer, frozenset[Buffer]] = {}
    for item in program.items:
        waits = item.after.union(*(after.get(one, frozenset()) for one in item.reads()))
        if isinstance(item, LibraryCall):
            item.after = waits
            seen = [(one, _seen(one, views)) for one in item.sources]
            item.sources = tuple(
                view if view is one or reads(item.value, view) else one for one, view in seen
            )
            continue
        found = _as_view(item, views)
        if found is not None:
            views[item.target] = found
            after[item.target] = waits


def _seen(one: Operand, views: Mapping[Buffer, Operand]) -> Operand:
    return views.get(one.buffer, one) if one.whole else one


def _as_view(item: Definition, views: Mapping[Buffer, Operand]) -> Operand | None:
    """Give a definition that only reads elsewhere as strides, None if it is more than that."""
    value = item.value
    if value.op != "load" or value.attr.guarded:
        return None
    source = value.attr.buffer
    form = place(value)
    if source in views:
        base = views[source]
        total = Linear({}, 0)
        for one, stride in zip(value.args, base.strides, strict=True):
            total = total + linear(one).times(stride)
        form, source = total, base.buffer
        start = base.offset
    else:
        start = 0
    own = {axis.scalar() for axis in item.axes}
    if any(atom not in own for atom in form.terms):
        return None
    strides = tuple(form.terms.get(axis.scalar(), 0) for axis in item.axes)
    return Operand(source, item.target.shape, strides, form.constant + start)
