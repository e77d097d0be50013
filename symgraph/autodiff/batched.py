"""`Batched`: an operation done for many lanes at once, whatever the operation is.

Its index expression is that of the operation with one more axis, in every load of an operand that
differs from lane to lane; its gradient is the gradient of the operation, batched in turn.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from types import ModuleType
from typing import Any

from symgraph.autodiff.template import Template, filled, types_of
from symgraph.dims import Size, collect_guards, free, require_equal
from symgraph.errors import ShapeError
from symgraph.graph.body import like
from symgraph.graph.dtypes import dtype_name, numpy_dtype
from symgraph.graph.index import Compute, axis
from symgraph.graph.leaves import items
from symgraph.graph.node import Value, make, operand_lines
from symgraph.graph.op import Array, Cotangent, Op, op
from symgraph.graph.registry import Functions
from symgraph.graph.scalar import scalar, scalar_order
from symgraph.graph.types import TensorType, TupleType, Type


@op
class Batched(Op):
    """`inner` for `size` lanes: operands with `batched`, and all results, have an axis of lanes."""

    inner: Op
    batched: tuple[bool, ...]
    size: Size
    variadic = True
    takes_complex = True  # where the operation of one lane does: its `infer` is asked

    def infer(self, *types: TensorType) -> Type:
        for number, (type, batched) in enumerate(zip(types, self.batched, strict=True)):
            if batched:
                if not type.ndim:
                    raise ShapeError(f"{{x{number}}} must have an axis of lanes.")
                why = f"axis 0 of {{x{number}}} must have one row for each lane"
                require_equal(type.shape[0], self.size, why)
        return with_lanes(self.inner.infer(*lane_types(types, self.batched)), self.size)

    def ref(self, xp: ModuleType, *arrays: Array) -> Array:
        size: Any = self.size
        lanes = [
            self.inner.ref(xp, *(a[lane, ...] if b else a for a, b in zip(arrays, self.batched)))
            for lane in range(size)
        ]
        if not lanes:
            return self._empty(xp, arrays)
        if isinstance(lanes[0], tuple):
            return tuple(xp.stack(parts) for parts in zip(*lanes))
        return xp.stack(lanes)

    def _empty(self, xp: ModuleType, arrays: Sequence[Array]) -> Array:
        """Give the results for no lane at all."""
        types = [TensorType(dtype_name(array.dtype), array.shape) for array in arrays]
        made = self.infer(*types)
        found = tuple(xp.zeros(one.shape, numpy_dtype(one.dtype)) for one in types_of(made))
        return found if isinstance(made, TupleType) else found[0]

    def lane(self, *xs: Value) -> list[Value]:
        """Make placeholders for what one lane sees of the operands."""
        return [like(type) for type in lane_types([x.tensor for x in xs], self.batched)]

    def over_lanes(
        self, F: Functions, outputs: Sequence[Value], lane: Sequence[Value], xs: Sequence[Value]
    ) -> list[Value]:
        """Give values of one lane for all lanes."""
        varying = {own: x for own, x, b in zip(lane, xs, self.batched) if b}
        fixed = {own: x for own, x, b in zip(lane, xs, self.batched) if not b}
        return _over_lanes(F, outputs, varying, fixed, self.size)

    def legal(self, F: Functions, *xs: Value) -> Value | None:
        lane = self.lane(*xs)
        found = self.inner.legal(F, *lane)
        return None if found is None else F.all(self.over_lanes(F, [found], lane, xs)[0])

    def vjp(self, F: Functions, g: Any, y: Any, *xs: Value) -> tuple[Cotangent, ...]:
        gs: Sequence[Any] = g if isinstance(g, tuple) else (g,)
        ys: Sequence[Value] = y if isinstance(y, tuple) else (y,)
        lane = lane_types([x.tensor for x in xs], self.batched)
        with collect_guards():  # they belong to the node
            made = self.inner.infer(*lane)
        own = Template(lane, made, [one is not None for one in gs])
        pulled = own.pull(self.inner)
        varying = {o: x for o, x, b in zip(own.xs, xs, self.batched) if b}
        varying.update(zip(own.ys, ys))
        varying.update((o, one) for o, one in zip(own.gs, gs) if o is not None)
        fixed = {o: x for o, x, b in zip(own.xs, xs, self.batched) if not b}

        def one(number: int) -> Cotangent:
            part = pulled[number]
            part = part() if callable(part) else part
            if not isinstance(part, Value):
                return part
            whole = _over_lanes(F, [part], varying, fixed, self.size)[0]
            return whole if self.batched[number] else F.sum(whole, axis=0)

        return tuple(
            None if pulled[number] is None else partial(one, number) for number in range(len(xs))
        )

    def expand(self, F: Functions, *xs: Value) -> Value | tuple[Value, ...] | Compute:
        lane = self.lane(*xs)
        found = self.inner.expand(F, *lane)
        if isinstance(found, Compute):
            return lifted(found, self.batched, self.size)
        outputs = [found] if isinstance(found, Value) else list(found)
        whole = self.over_lanes(F, outputs, lane, xs)
        return whole[0] if isinstance(found, Value) else tuple(whole)


@op
class BatchedHost(Batched):
    """`Batched` of an operation that only its `ref` computes, lane after lane."""

    host = True
    expand = Op.expand

    def flops(self, of: Callable[[Value], Size], *types: Any) -> Size:
        return self.inner.flops(of, *lane_types(types, self.batched)) * self.size


def lane_types(types: Sequence[TensorType], batched: Sequence[bool]) -> list[TensorType]:
    """Give the types of what one lane sees."""
    return [t.with_shape(t.shape[1:]) if b else t for t, b in zip(types, batched, strict=True)]


def _over_lanes(
    F: Functions,
    outputs: Sequence[Value],
    varying: Mapping[Value, Value],
    fixed: Mapping[Value, Value],
    size: Size,
) -> list[Value]:
    """Give values of one lane for all lanes: on placeholders first, so that no walk goes on."""
    holders = {own: like(value.tensor) for own, value in varying.items()}
    whole: Any = F.batch(outputs, holders, size)
    return filled(whole, {**fixed, **{holders[own]: x for own, x in varying.items()}})


def with_lanes(type: Type, size: Size) -> Type:
    """Give a type with an axis of lanes in front of every result."""
    if isinstance(type, TupleType):
        return TupleType(tuple(one.with_shape((size, *one.shape)) for one in type.types))
    return type.with_shape((size, *type.shape))


def lifted(compute: Compute, batched: Sequence[bool], size: Size) -> Compute:
    """Give an index expression one more axis in front, and in the loads of batched operands."""
    results = []
    for one in compute.results:
        lead = axis(size, "v")
        done: dict[Any, Any] = {}
        for node in scalar_order([one.value]):
            args = tuple(done[argument] for argument in node.args)
            if node.op == "load" and batched[node.attr.operand]:
                args = (lead.scalar(), *args)
            same = len(args) == len(node.args) and all(
                a is b for a, b in zip(args, node.args)
            )  # fmt: skip
            done[node] = node if same else scalar(node.op, args, node.dtype, node.attr)
        results.append(Compute((lead, *one.axes), done[one.value]))
    first, *others = results
    return Compute(first.axes, first.value, tuple(others))


def _require_known_sizes(op: Op, batched: Sequence[bool], xs: Sequence[Value]) -> None:
    """Raise `ShapeError` where results have sizes that their numbers decide, lane by lane."""
    known = {size for x in xs for part in x.shape for size in free(part)}
    known.update(size for part in op.dims() for size in free(part))
    with collect_guards():
        types = types_of(op.infer(*lane_types([x.tensor for x in xs], batched)))
    if any(not free(part) <= known for one in types for part in one.shape):
        raise ShapeError(
            f"vmap: the size of the result of {op.name} depends on its numbers, so lanes would "
            "have different shapes.",
            details=operand_lines(xs),
            fix="give all lanes one size, e.g. with a mask",
        )


def wrapped(op: Op, size: Size, batched: Sequence[bool], xs: Sequence[Value]) -> tuple[Value, ...]:
    """Give the results of an operation for all lanes by the rule that fits every operation."""
    _require_known_sizes(op, batched, xs)
    kind = BatchedHost if op.host or type(op).expand is Op.expand else Batched
    return items(make(kind(op, tuple(batched), size), *xs))
