"""A graph as a program: buffers, and for each what computes it.

Every operation becomes either a call of a library, or a definition: an index expression whose loads
name buffers. Composites are expanded, sizes and small constants become scalars. Nothing is fused
here: `fuse.py` decides what is computed together.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from symgraph.dims import Dim, Size, collect_guards, evaluate, product
from symgraph.errors import BackendError
from symgraph.frozen import frozen
from symgraph.graph.body import nested
from symgraph.graph.dtypes import has_gradient, is_complex, itemsize
from symgraph.graph.graph import Graph
from symgraph.graph.index import Axis, Compute, axes, load, m, position
from symgraph.graph.leaves import Attach, Constant, Input, Item, Shared, SizeOf
from symgraph.graph.node import Value
from symgraph.graph.onhost import on_host
from symgraph.graph.registry import F
from symgraph.graph.scalar import Scalar, const, scalar_order
from symgraph.graph.types import TupleType
from symgraph.graph.walk import topological
from symgraph.lower.linear import ZERO, replaced, substitute
from symgraph.lower.nest import Buffer, bound, buffer

Chosen = Callable[[Value], bool]


@frozen(eq=False)
class Definition:
    """`target[axes] = value` for every position along the axes; not before `after` is there."""

    target: Buffer
    axes: tuple[Axis, ...]
    value: Scalar
    after: frozenset[Buffer] = frozenset()

    def reads(self) -> tuple[Buffer, ...]:
        """Give the buffers that are read."""
        return self._reads

    @cached_property
    def reduces(self) -> bool:
        """Whether there is a reduction in the expression."""
        return any(n.op == "reduce" for n in scalar_order([self.value]))

    @cached_property
    def _reads(self) -> tuple[Buffer, ...]:
        loads = (n for n in scalar_order([self.value]) if n.op == "load")
        return tuple(dict.fromkeys(n.attr.buffer for n in loads))

    @property
    def writes(self) -> tuple[Buffer, ...]:
        """The buffers that are written."""
        return (self.target,)


@frozen
class Operand:
    """A strided view of a buffer: an array as a library takes it. Strides count elements."""

    buffer: Buffer
    shape: tuple[Size, ...]
    strides: tuple[Size, ...]
    offset: Size = 0
    whole: bool = False  # of the shape and the strides of its buffer


@dataclass(eq=False)
class LibraryCall:
    """An operation that a library computes."""

    value: Value
    sources: tuple[Operand, ...]
    writes: tuple[Buffer, ...]
    after: frozenset[Buffer] = frozenset()

    def reads(self) -> tuple[Buffer, ...]:
        """Give the buffers that are read."""
        return tuple(dict.fromkeys(one.buffer for one in self.sources))


def positions(axes: Sequence[Axis]) -> tuple[Scalar, ...]:
    """Give the index along axes: 0 where there is only one position."""
    return tuple(ZERO if _is_one(one.extent) else one.scalar() for one in axes)


def _is_one(extent: Size) -> bool:
    return isinstance(extent, int) and extent == 1


def operand(held: Buffer) -> Operand:
    """Give the whole of a buffer."""
    return Operand(held, held.shape, held.strides, whole=True)


@dataclass(eq=False)
class Program:
    """Items in order, and what the buffers at the borders are."""

    items: list[Definition | LibraryCall] = field(default_factory=list)
    inputs: dict[Value, Buffer] = field(default_factory=dict)
    shared: dict[Shared, Buffer] = field(default_factory=dict)
    constants: dict[Buffer, Any] = field(default_factory=dict)
    outputs: list[Buffer] = field(default_factory=list)
    updates: dict[Shared, Buffer] = field(default_factory=dict)
    checks: list[Buffer] = field(default_factory=list)  # bools that must hold before any write
    risky: list[Buffer] = field(default_factory=list)  # made by what may refuse: before any write
    origin: dict[Buffer, Value] = field(default_factory=dict)

    @property
    def kept(self) -> set[Buffer]:
        """The buffers that must be in memory when the program has run."""
        return {*self.outputs, *self.updates.values(), *self.checks}


def nbytes(one: Buffer) -> Size:
    """Give the bytes of a buffer."""
    return product(one.shape) * itemsize(one.dtype)


def number(size: Size, env: Mapping[Dim, int]) -> int:
    """Give a size as a number."""
    return size if isinstance(size, int) else evaluate(size, env)


def may_refuse(node: Value) -> bool:
    """Tell whether something inside an operation is checked while it runs, or may raise."""
    if node.op.calls_user:
        return True
    inside = (value for body in nested(node.op) for value in body.values)
    return any(v.op.legal(F, *v.inputs) is not None or may_refuse(v) for v in inside)


def build(
    graph: Graph,
    chosen: Chosen = lambda value: False,
    finite: bool = False,
    latches: bool = False,
) -> Program:
    """Give the program of a graph; `chosen` tells which operations a library computes.

    With `finite` it is also checked that outputs and new values of variables are finite. With
    `latches`, kernels look whether a check has failed before they write over a variable; a library
    cannot, so where something is checked a kernel copies what it has computed.
    """
    with collect_guards():  # they belong to the graph's nodes, not to their expansions
        return _Builder(graph, chosen, finite, latches).program


class _Builder:
    def __init__(self, graph: Graph, chosen: Chosen, finite: bool, latches: bool) -> None:
        self.program = Program()
        self.chosen = chosen
        self.known: dict[Value, tuple[Buffer, ...]] = {}
        self.literals: dict[Buffer, Scalar] = {}
        self.roots: set[Buffer] = set()
        for value in graph.inputs:
            held = buffer(value.label, value.dtype, value.shape)
            self.program.inputs[value] = held
            self.known[value] = (held,)
        self.walk(graph.roots)
        checks = [node.op.legal(F, *node.inputs) for node in graph.values]
        if finite:
            checks += [F.all(F.isfinite(one)) for one in graph.roots if has_gradient(one.dtype)]
        wanted = list(dict.fromkeys(one for one in checks if one is not None))
        called = [one for one in self.program.items if isinstance(one, LibraryCall)]
        copied = {one for call in called for one in call.writes}
        if not latches or not (wanted or self.program.risky):
            copied = set()
        count = len(graph.outputs)
        made = [self.border(self.known[root][0], root) for root in graph.outputs]
        self.program.outputs = made
        made = [self.border(self.known[root][0], root, copied) for root in graph.roots[count:]]
        self.program.updates = dict(zip(graph.updates, made))
        self.walk(wanted)
        self.program.checks = [self.border(self.known[one][0], one) for one in wanted]

    def walk(self, roots: Sequence[Value]) -> None:
        """Define everything that the roots need; expansions are walked in turn."""
        for node in topological(roots, stop=self.known):
            if node in self.known:
                continue
            self.known[node] = self.one(node)

    def one(self, node: Value) -> tuple[Buffer, ...]:
        """Define one value whose operands are defined."""
        if not node.inputs and (node.op.leaf or isinstance(node.op, SizeOf)):
            return (self.leaf(node),)
        if isinstance(node.op, Item):
            return (self.known[node.inputs[0]][node.op.index],)
        if isinstance(node.op, Attach):
            return self.known[node.inputs[0]]
        if node.op.name == "barrier":
            return self.later(node)
        if self.chosen(node):
            sources = tuple(operand(self.whole(self.known[x][0], x)) for x in node.inputs)
            targets = self.fresh(node)
            self.program.items.append(LibraryCall(node, sources, targets))
            if may_refuse(node):
                self.program.risky.extend(targets)
            return targets
        if on_host(node):
            raise BackendError(
                f"{node.op.name}: no loops express it, and this backend cannot ask NumPy.",
                details=[node.describe()],
                fix='compile with backend="cpu"',
            )
        return self.expanded(node)

    def later(self, node: Value) -> tuple[Buffer, ...]:
        """Define what a barrier lets through, each part once the others are there."""
        value, *others = node.inputs
        after = frozenset(one for other in others for one in self.known[other])
        targets = self.fresh(node)
        for source, target in zip(self.known[value], targets, strict=True):
            if is_complex(target.dtype):
                self.copied(source, target, value, after)
                continue
            out = axes(target.shape)
            read = self.inlined(bound(load(0, target.dtype, *out), [source]))
            self.define(target, out, read, after)
        return targets

    def expanded(self, node: Value) -> tuple[Buffer, ...]:
        """Define a value by its expansion."""
        expansion = node.op.expand(F, *node.inputs)
        if isinstance(expansion, Compute):
            targets = self.fresh(node)
            sources = [self.known[x][0] for x in node.inputs]
            for one, target in zip(expansion.results, targets, strict=True):
                self.define(target, one.axes, self.inlined(bound(one.value, sources)))
            return targets
        results = expansion if isinstance(expansion, tuple) else (expansion,)
        self.walk(results)
        if len(results) == 1:
            return self.known[results[0]]
        return tuple(self.known[result][0] for result in results)

    def leaf(self, node: Value) -> Buffer:
        """Give the buffer of a leaf; one number is written into the expressions that read it."""
        held = buffer(node.label, node.dtype, node.shape)
        self.program.origin[held] = node
        if isinstance(node, Shared):
            self.program.shared[node] = held
        elif isinstance(node.op, Constant):
            array = node.op.array
            if array.size == 1 and not is_complex(node.dtype):
                self.literals[held] = const(array.item(), node.dtype)
            self.program.constants[held] = array
        elif isinstance(node.op, SizeOf):
            self.literals[held] = m.cast(position(node.op.dim), node.dtype)
        elif isinstance(node.op, Input):
            self.program.inputs[node] = held
        return held

    def inlined(self, value: Scalar) -> Scalar:
        """Put literals in the place of loads."""

        def change(node: Scalar, args: tuple[Scalar, ...]) -> Scalar | None:
            if node.op != "load" or node.attr.buffer not in self.literals:
                return None
            found = self.literals[node.attr.buffer]
            if not node.attr.guarded:
                return found
            return m.select(args[-1], found, const(node.attr.fill, node.dtype))

        return substitute([value], change)[value]

    def whole(self, held: Buffer, value: Value) -> Buffer:
        """Give a buffer that has memory: a size, used as an array, needs a definition."""
        if held in self.literals and held not in self.program.constants:
            made = buffer(held.name, held.dtype, held.shape)
            out = axes(value.shape)
            self.define(made, out, self.literals[held])
            return made
        return held

    def border(self, held: Buffer, value: Value, copied: Container[Buffer] = ()) -> Buffer:
        """Give a buffer of its own for a root that would otherwise be a leaf's or another's.

        Those that are to be copied are others', too.
        """
        leaf = held in copied or held in self.literals
        leaf = leaf or any(
            held in table.values() for table in (self.program.inputs, self.program.shared)
        )
        if not leaf and held not in self.program.constants and held not in self.roots:
            self.roots.add(held)
            return held
        made = buffer(held.name, held.dtype, held.shape)
        self.program.origin[made] = value
        if is_complex(made.dtype):
            self.copied(held, made, value)
            return made
        out = axes(value.shape)
        self.define(made, out, self.inlined(bound(load(0, value.dtype, *out), [held])))
        return made

    def copied(
        self, source: Buffer, target: Buffer, value: Value, after: frozenset[Buffer] = frozenset()
    ) -> None:
        """Let a library copy what no kernel can: complex numbers."""
        call = LibraryCall(F.barrier(value), (operand(source),), (target,), after)
        self.program.items.append(call)

    def define(
        self,
        target: Buffer,
        out: tuple[Axis, ...],
        value: Scalar,
        after: frozenset[Buffer] = frozenset(),
    ) -> None:
        """Add a definition; along an axis of one position everything is at position 0."""
        single = {one.scalar(): ZERO for one in out if _is_one(one.extent)}
        if single:
            value = replaced([value], single)[value]
        self.program.items.append(Definition(target, out, value, after))

    def fresh(self, node: Value) -> tuple[Buffer, ...]:
        """Make the buffers of a value's results."""
        types = node.type.types if isinstance(node.type, TupleType) else (node.tensor,)
        made = tuple(buffer(node.label, type.dtype, type.shape) for type in types)
        for one in made:
            self.program.origin[one] = node
        return made
