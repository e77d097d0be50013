"""`Call`: a graph inside the graph that carries rules of its own, until the graph is compiled.

Differentiation and batching see one operation and ask its rules; a pass puts the graph itself in
its place before anything is optimised, so that nothing is lost in speed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import ModuleType
from typing import Any

from symgraph.autodiff.batched import Batched
from symgraph.autodiff.template import filled
from symgraph.autodiff.trees import leaves
from symgraph.autodiff.trees import like as shaped
from symgraph.dims import Dim, Size
from symgraph.errors import ShapeError
from symgraph.frozen import frozen
from symgraph.graph.body import Body, closed, like
from symgraph.graph.graph import collect_effects
from symgraph.graph.leaves import Attach, Shared, as_value, items
from symgraph.graph.node import Value, make
from symgraph.graph.op import Array, Cotangent, Nested, Op, op
from symgraph.graph.registry import F, Functions
from symgraph.graph.types import TensorType, TupleType
from symgraph.graph.walk import depends_on, rebuild, topological


class Rules:
    """What a call does on the way back, forwards, and for many lanes."""

    name = "call"
    own_derivative = True

    def pull(self, call: Call, g: Any, y: Any, xs: Sequence[Value]) -> tuple[Cotangent, ...]:
        """Give the cotangents of the operands, as `Op.vjp`."""
        raise NotImplementedError

    def push(self, call: Call, parts: Sequence[Any], y: Any, xs: Sequence[Value]) -> Any:
        """Give the tangents of the results, as `Op.jvp`."""
        return NotImplemented

    def lanes(self, call: Call, size: Size, flags: Sequence[bool], xs: Sequence[Value]) -> Any:
        """Give the results for many lanes, as `Op.batch`."""
        return NotImplemented


@frozen(eq=False)
class Inside(Nested):
    """The graph of a call; backends look through it, as they do not through that of a loop."""

    body: Body

    def dims(self) -> tuple[Dim, ...]:
        return self.body.dims()

    def at(self, env: Mapping[Dim, int]) -> Inside:
        return Inside(self.body.at(env))

    def with_dims(self, sizes: Mapping[Dim, Any]) -> Inside:
        return Inside(self.body.with_dims(sizes))

    def __repr__(self) -> str:
        return repr(self.body)


@op
class Call(Op):
    """The results of a graph; `rules` say what its derivatives are."""

    inside: Inside
    rules: Any
    variadic = True
    takes_complex = True

    @property
    def body(self) -> Body:
        """The graph."""
        return self.inside.body

    def infer(self, *types: TensorType) -> TupleType:
        if len(types) != len(self.body.inputs):
            raise ShapeError(f"takes {len(self.body.inputs)} operands, got {len(types)}.")
        self.body.require_guards()
        return TupleType(tuple(one.tensor for one in self.body.outputs))

    def ref(self, xp: ModuleType, *arrays: Array) -> Any:
        return tuple(self.body.run(xp, arrays))

    def expand(self, F: Functions, *xs: Value) -> tuple[Value, ...]:
        return self.body.inlined(xs)

    def vjp(self, F: Functions, g: Any, y: Any, *xs: Value) -> tuple[Cotangent, ...]:
        found: tuple[Cotangent, ...] = self.rules.pull(self, g, y, xs)
        return found

    def jvp(self, F: Functions, tangents: Sequence[Any], y: Any, *xs: Value) -> Any:
        return self.rules.push(self, tangents, y, xs)

    def batch(self, F: Functions, size: Size, batched: Sequence[bool], *xs: Value) -> Any:
        return self.rules.lanes(self, size, batched, xs)

    def __repr__(self) -> str:
        return f"call({self.rules.name}, {self.inside!r})"


def is_call(op: Op) -> bool:
    """Tell whether an operation is a call, or one for many lanes."""
    while isinstance(op, Batched):
        op = op.inner
    return isinstance(op, Call)


def has_own_derivative(op: Op) -> bool:
    """Tell whether a call says what its derivative is, which need not be that of its graph."""
    while isinstance(op, Batched):
        op = op.inner
    return isinstance(op, Call) and op.rules.own_derivative


def operands_of(args: Any) -> list[Value]:
    """List the values among the leaves of arguments; everything else is fixed."""
    return [leaf for leaf in leaves(args) if isinstance(leaf, Value)]


def with_operands(args: Any, values: Sequence[Any]) -> Any:
    """Give arguments with other values in place of their values."""
    rest = iter(values)
    return shaped(args, [next(rest) if isinstance(one, Value) else one for one in leaves(args)])


def called(
    name: str,
    f: Callable[..., Any],
    args: Sequence[Any],
    rules: Callable[[Any], Rules],
    states: Callable[[], Sequence[Value]] = tuple,
) -> Any:
    """Call a function on placeholders and give what it gives, as results of one `Call`.

    `rules` makes the rules from the structure of the results. What the function reads from outside
    becomes an operand behind its arguments, and so do `states`, leaves of which it reads again.
    Updates that it attaches are attached to the first result.
    """
    operands = operands_of(args)
    own = [like(value.tensor, value.label) for value in operands]
    found = f(*with_operands(tuple(args), own))
    outputs = [as_value(one) for one in leaves(found)]
    leaf = list(dict.fromkeys(states()))
    hidden = _attached_outside(outputs, [*own, *leaf])
    outputs = filled(outputs, hidden)
    effects, strip = collect_effects(outputs)
    body, captured, _ = closed(name, [*own, *leaf], filled(outputs, strip))
    captured = tuple(filled(captured, {new: old for old, new in hidden.items()}))
    results = list(items(make(Call(Inside(body), rules(found)), *operands, *leaf, *captured)))
    if effects and results:
        results[0] = F.with_updates(results[0], _outside(effects, own, operands))
    return shaped(found, results)


def _attached_outside(outputs: Sequence[Value], inputs: Sequence[Value]) -> dict[Value, Value]:
    """Hide what has updates attached and does not depend on the inputs: it stays as it is."""
    inner = depends_on(outputs, inputs)
    return {
        node: like(node.tensor)
        for node in topological(outputs)
        if isinstance(node.op, Attach) and node not in inner
    }


def _outside(
    effects: Mapping[Shared, Value], own: Sequence[Value], operands: Sequence[Value]
) -> dict[Shared, Value]:
    done = rebuild(effects.values(), dict(zip(own, operands)))
    return {target: done[new] for target, new in effects.items()}
