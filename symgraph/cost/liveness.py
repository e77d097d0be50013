"""What is in memory at each step of a graph, when its values are computed in their order.

Inputs, shared variables and constants are there all the time. Any other value is there from its own
step to the last step that needs it; outputs and new values of shared variables stay to the end. A
view (`Op.view`) has no memory of its own: it keeps that of its first operand. An output that
repeats elements is written out at the end.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from weakref import WeakKeyDictionary

from symgraph.cost.envelope import Polynomial, envelope
from symgraph.dims import Dim, Size, evaluate, evaluate_all, free, total
from symgraph.frozen import frozen
from symgraph.graph.graph import Graph
from symgraph.graph.leaves import Item
from symgraph.graph.node import Value
from symgraph.graph.types import TensorType, TupleType, Type

Buffer = int  # its number in the order of birth


@frozen
class Liveness:
    """The arrays of a graph by kind, and when they come and go.

    `sizes` are the bytes of each kind of array (each type that occurs); `held` and the pairs (born,
    dead after it) in `steps` are numbers of kinds. Steps at which nothing comes or goes are absent.
    """

    sizes: tuple[Size, ...]
    held: tuple[int, ...]
    steps: tuple[tuple[tuple[int, ...], tuple[int, ...]], ...]

    def held_bytes(self) -> Size:
        """Give the bytes that are there all the time."""
        return total(self.sizes[kind] for kind in self.held)

    def peak_bytes(self, env: Mapping[Dim, int], *, partial: bool = False) -> int:
        """Give the most bytes that are there at once, for sizes.

        With `partial`, arrays whose size does not follow from `env` count nothing; without, they
        raise `DimError`.
        """
        if partial and not all(free(size) <= env.keys() for size in self.sizes):
            sizes = tuple(evaluate(s, env) if free(s) <= env.keys() else 0 for s in self.sizes)
        else:
            sizes = evaluate_all(self.sizes, env)
        now = peak = sum([sizes[kind] for kind in self.held])
        for born, dead in self.steps:
            for kind in born:
                now += sizes[kind]
            if now > peak:
                peak = now
            for kind in dead:
                now -= sizes[kind]
        return peak

    def peaks(self) -> tuple[Size, ...]:
        """Give formulas of bytes whose maximum, for any sizes, is the peak; the fewest found."""
        return envelope(self._candidates(), self.held_bytes())

    def _candidates(self) -> Iterator[Polynomial]:
        """Give what is there, beside what is held, at every step after which something goes."""
        kinds = [Polynomial.of(size) for size in self.sizes]
        now = Polynomial()
        grown = True
        for born, dead in self.steps:
            for kind in born:
                now.add(kinds[kind])
            grown = grown or bool(born)
            if grown and dead:
                yield now.copy()
                grown = False
            for kind in dead:
                now.add(kinds[kind], -1)
        if grown:
            yield now


_known: WeakKeyDictionary[Graph, Liveness] = WeakKeyDictionary()


def liveness(graph: Graph) -> Liveness:
    """Give the arrays of a graph and when they come and go; found once for each graph."""
    found = _known.get(graph)
    if found is None:
        found = _known[graph] = _Lives(graph).found()
    return found


class _Lives:
    """One walk over a graph: which memory each value keeps, and the last step that needs it."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.kinds: dict[TensorType, int] = {}
        self.kind: list[int] = []  # of each buffer, in the order of birth
        self.last: list[int] = []  # the last step that needs it
        self.born: list[int] = []  # the number of buffers before each step
        self.memory: dict[Value, tuple[Buffer, ...]] = {}

    def found(self) -> Liveness:
        """Walk, and sort what was found by steps."""
        graph = self.graph
        leaves = [value for value in graph.values if value.op.leaf]
        always = dict.fromkeys([*graph.inputs, *graph.shared, *leaves])
        held = tuple(self._kind(value.tensor) for value in always)
        for step, value in enumerate(graph.values):
            self._visit(step, value)
        for root in graph.roots:
            self._need(len(graph.values), root)
        self.born.append(len(self.kind))
        repeated = [value for value in dict.fromkeys(graph.outputs) if _repeats(value)]
        self.kind.extend(self._kind(value.tensor) for value in repeated)
        self.last.extend([len(graph.values)] * len(repeated))
        return Liveness(tuple(kind.nbytes for kind in self.kinds), held, tuple(self._steps()))

    def _visit(self, step: int, value: Value) -> None:
        self.born.append(len(self.kind))
        if value.op.leaf:
            self.memory[value] = ()
            return
        for operand in value.inputs:
            self._need(step, operand)
        if value.op.view:
            self.memory[value] = self._seen(value)
            return
        first = len(self.kind)
        self.kind.extend(self._kind(type) for type in tensor_types(value.type))
        self.memory[value] = tuple(range(first, len(self.kind)))
        self.last.extend([step] * (len(self.kind) - first))

    def _seen(self, view: Value) -> tuple[Buffer, ...]:
        """Give the memory that a view keeps: one part where it is one of several results."""
        whole = self.memory[view.inputs[0]]
        several = isinstance(view.op, Item) and len(whole) > 1
        return (whole[view.op.index],) if several else whole  # type: ignore[attr-defined]

    def _need(self, step: int, value: Value) -> None:
        for buffer in self.memory[value]:
            self.last[buffer] = step

    def _kind(self, type: TensorType) -> int:
        return self.kinds.setdefault(type, len(self.kinds))

    def _steps(self) -> Iterator[tuple[tuple[int, ...], tuple[int, ...]]]:
        end = len(self.graph.values)
        dead: dict[int, list[int]] = {}
        for buffer, last in enumerate(self.last):
            if last < end:
                dead.setdefault(last, []).append(self.kind[buffer])
        bounds = [*self.born, len(self.kind)]
        for step in range(end + 1):
            born = tuple(self.kind[bounds[step] : bounds[step + 1]])
            gone = tuple(dead.get(step, ()))
            if born or gone:
                yield born, gone


def _repeats(value: Value) -> bool:
    """Tell whether a value is a view of which several elements are one in memory."""
    while value.op.view and value.op.name != "broadcast_to":
        value = value.inputs[0]
    return value.op.view


def tensor_types(type: Type) -> tuple[TensorType, ...]:
    """Give the types of all results of a node."""
    return type.types if isinstance(type, TupleType) else (type,)
