"""`Body`: a closed graph inside an operation, which may run it once, never, or many times.

A body reads nothing but its own inputs: what it was written with from outside becomes an operand of
the operation (`closed`), and so whatever does not depend on the inputs is computed once, outside.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import field, replace
from functools import cached_property
from types import ModuleType
from typing import Any

from symgraph.dims import Dim, Size, equal, free, require, require_equal, substitute, total
from symgraph.errors import DTypeError, GraphError, ShapeError
from symgraph.frozen import frozen
from symgraph.graph.graph import collect_effects
from symgraph.graph.interpret import interpret
from symgraph.graph.leaves import Constant, Input, Shared, SharedLeaf, SizeOf, tensor
from symgraph.graph.measured import measures
from symgraph.graph.node import Value, operand_lines
from symgraph.graph.op import Array, Nested, Op
from symgraph.graph.registry import F
from symgraph.graph.types import TensorType, TupleType
from symgraph.graph.walk import depends_on, rebuild, topological

_serials = itertools.count()


@frozen(eq=False)
class Body(Nested):
    """`outputs` as a function of `inputs`, which are placeholders; identity is the object.

    `sizes` are the numbers of its symbolic sizes, where they are known.
    """

    inputs: tuple[Value, ...]
    outputs: tuple[Value, ...]
    sizes: Mapping[Dim, int] = field(default_factory=dict)
    serial: int = field(default_factory=lambda: next(_serials))

    def __post_init__(self) -> None:
        given = set(self.inputs)
        for value in self.values:
            if isinstance(value.op, Input | SharedLeaf) and value not in given:
                raise GraphError(f"body: reads `{value.label}`, which is not among its inputs.")
        require_known_sizes("body", self.inputs, self.values)

    @cached_property
    def values(self) -> tuple[Value, ...]:
        """Everything in it, operands first."""
        return tuple(topological(self.outputs))

    @cached_property
    def _dims(self) -> tuple[Dim, ...]:
        found: dict[Dim, None] = {}
        for value in (*self.inputs, *self.values):
            types = value.type.types if isinstance(value.type, TupleType) else (value.tensor,)
            sizes = [size for type in types for size in type.shape]
            for size in (*sizes, *value.op.dims()):
                found.update(dict.fromkeys(sorted(free(size), key=str)))
        return tuple(found)

    def dims(self) -> tuple[Dim, ...]:
        return self._dims

    def at(self, env: Mapping[Dim, int]) -> Body:
        return replace(self, sizes={size: env[size] for size in self._dims})

    def with_dims(self, sizes: Mapping[Dim, Any]) -> Body:
        inputs = {
            value: tensor(value.label, [substitute(n, sizes) for n in value.shape], value.dtype)
            for value in self.inputs
        }
        done = rebuild(self.outputs, inputs, lambda op: op.with_dims(sizes))
        return Body(tuple(inputs.values()), tuple(done[one] for one in self.outputs))

    def run(self, xp: ModuleType, arrays: Sequence[Array]) -> list[Array]:
        """Compute the outputs from arrays for the inputs, one operation after the other."""
        feeds = dict(zip(self.inputs, arrays, strict=True))
        return interpret(self.outputs, feeds, self.sizes, xp, order=self.values)

    def inlined(self, operands: Sequence[Value]) -> tuple[Value, ...]:
        """Give the outputs as values of the graph outside, for operands of the inputs' types."""
        done = rebuild(self.outputs, dict(zip(self.inputs, operands, strict=True)))
        return tuple(done[one] for one in self.outputs)

    def require_guards(self) -> None:
        """State again what could not be decided in it, for the node that is being made."""
        for value in self.values:
            for guard in value.guards:
                require(guard)

    def flops(self, of: Callable[[Value], Size]) -> Size:
        """Add up what its operations cost."""
        return total(of(value) for value in self.values)

    def __repr__(self) -> str:
        return f"<body {self.serial}: {len(self.values)} nodes>"


def decided_inside(inputs: Iterable[Value], values: Iterable[Value]) -> tuple[Dim, Value] | None:
    """Find a size that is measured from the inputs of a body, and a value that has it."""
    given, known = set(inputs), set[Dim]()
    for value in values:
        for size in measures(value.op):
            if size not in known and not given.isdisjoint(topological([size.source])):
                return size, value
            known.add(size)
    return None


def require_known_sizes(name: str, inputs: Iterable[Value], values: Iterable[Value]) -> None:
    """Raise `GraphError` for a size in a body that is another one each time the body runs."""
    found = decided_inside(inputs, values)
    if found is not None:
        size, value = found
        raise GraphError(
            f"{name}: the size `{size}` of `{value.label}` depends on numbers that change inside, "
            "and a body has the same sizes whenever it runs.",
            details=[value.describe()],
            fix="keep the shape: sg.where(mask, x, 0), x.at[mask].set(v), x[i + sg.arange(n)] for "
            "n elements from i on, sg.scan(..., pad=True); or select before",
        )


Effects = dict[Shared, Value]


def closed(
    name: str, inputs: Sequence[Value], outputs: Sequence[Value], since: int | None = None
) -> tuple[Body, tuple[Value, ...], Effects]:
    """Close a graph over its inputs: (body, values that it needs from outside, updates).

    What does not depend on the inputs stays outside, but for numbers, and what is made of numbers
    alone without computing; with `since` only what is older than that (`node.now`). Updates
    attached inside are taken out; raises `GraphError` for one that depends on the inputs.
    """
    effects, strip = collect_effects(outputs)
    inner = depends_on([*outputs, *effects.values()], inputs)
    for target, new in effects.items():
        if new in inner:
            raise GraphError(
                f"{name}: the update of `{target.label}` depends on what changes inside.",
                details=[new.describe()],
                fix="carry it as a state, and update the variable with the last state",
            )
    found = rebuild(outputs, strip) if strip else {}
    roots = [found.get(one, one) for one in outputs]
    require_known_sizes(name, inputs, topological(roots))
    inner = depends_on(roots, inputs)
    if since is not None:
        inner |= {one for one in topological(roots) if one.inputs and one.serial >= since}
    captured: dict[Value, Value] = {}
    literal = literals(roots)
    for value in topological(roots):
        for operand in value.inputs if value in inner else ():
            if operand not in inner and operand not in literal:
                captured.setdefault(operand, _placeholder(operand))
    for root in roots:
        if root not in inner and root not in literal:
            captured.setdefault(root, _placeholder(root))
    done = rebuild(roots, {**captured, **{one: one for one in inputs}})
    body = Body((*inputs, *captured.values()), tuple(done[root] for root in roots))
    return body, tuple(captured), effects


def _placeholder(value: Value) -> Value:
    return like(value.tensor, value.label)


def like(type: TensorType, name: str | None = None) -> Value:
    """Make a placeholder of a type."""
    return tensor(name, type.shape, type.dtype)


def literals(roots: Iterable[Value]) -> set[Value]:
    """Find what is made of numbers and sizes alone, without computing: it costs nothing inside."""
    found: set[Value] = set()
    for value in topological(roots):
        if value.inputs:
            cheap = value.op.view and all(operand in found for operand in value.inputs)
        else:
            cheap = isinstance(value.op, Constant | SizeOf) or not value.op.leaf
        if cheap:
            found.add(value)
    return found


def nested(op: Op) -> tuple[Body, ...]:
    """Give the graphs inside an operation."""
    parts: list[Body] = []
    for value in op.attributes().values():
        parts.extend(
            part for part in (value if isinstance(value, tuple) else (value,))
            if isinstance(part, Body)
        )  # fmt: skip
    return tuple(parts)


def calls_user(op: Op) -> bool:
    """Tell whether an operation, or one inside it, calls code of the user's."""
    return op.calls_user or any(calls_user(v.op) for body in nested(op) for v in body.values)


def with_bodies(op: Op, new: Mapping[Body, Body]) -> Op:
    """Give an operation with other graphs inside."""

    def change(value: Any) -> Any:
        if isinstance(value, tuple):
            return tuple(change(part) for part in value)
        return new.get(value, value) if isinstance(value, Body) else value

    return replace(op, **{name: change(value) for name, value in op.attributes().items()})


def require_same(what: str, found: TensorType, wanted: TensorType) -> None:
    """Raise unless a type is another one; sizes that are undecided get a guard."""
    if found.dtype != wanted.dtype:
        raise DTypeError(
            f"{what} must be {wanted.dtype}, it is {found.dtype}.", fix="cast it where it is made"
        )
    if found.ndim != wanted.ndim:
        raise ShapeError(f"{what} must be {wanted}, it is {found}.", fix="reshape it")
    for axis, (size, need) in enumerate(zip(found.shape, wanted.shape)):
        require_equal(size, need, f"axis {axis} of {what} must be the same")


def same_type(name: str, what: str, found: Value, wanted: Value, like: str) -> Value:
    """Give a value the type of another one, whose sizes may have other names.

    Raises `DTypeError` and `ShapeError` where it cannot have it.
    """
    pairs = zip(found.shape, wanted.shape)
    kind: type[DTypeError] | type[ShapeError] | None = None
    if found.dtype != wanted.dtype:
        kind, fix = DTypeError, f'cast one of them, e.g. x.cast("{found.dtype}")'
    elif found.ndim != wanted.ndim or any(equal(a, b) is False for a, b in pairs):
        kind, fix = ShapeError, "give both one shape"
    if kind is not None:
        raise kind(
            f"{name}: {what} must be {wanted.type}, as {like}; it is {found.type}.",
            details=operand_lines([wanted, found]),
            fix=fix,
        )
    return F.specify_shape(found, wanted.shape)
