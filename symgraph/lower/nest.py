"""Loop nests: what a kernel computes. Pure, nothing searched, nothing depends on names.

A nest has axes and stores; each store writes one element of a buffer for every position along its
axes, which are the first few of the nest's. Values are typed scalars; loads name a buffer and an
index. Every value is meant to be computed at the outermost loop that fixes all its axes, so that a
row's largest element is found once a row without a word about it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from symgraph.dims import Dim, Size, free, product
from symgraph.dims import evaluate as evaluate_size
from symgraph.errors import LoweringError
from symgraph.frozen import frozen
from symgraph.graph.dtypes import DType, numpy_dtype
from symgraph.graph.index import Axis, Compute, Load, evaluate
from symgraph.graph.scalar import Scalar, scalar, scalar_order
from symgraph.lower.linear import Linear, linear, replaced, substitute


@dataclass(eq=False)
class Buffer:
    """Memory that a kernel reads or writes: identity is the object. Strides count elements.

    They are row-major until the layout is chosen, which is before any nest reads the buffer.
    """

    name: str
    dtype: DType
    shape: tuple[Size, ...]
    strides: tuple[Size, ...]

    def __str__(self) -> str:
        return self.name


BINDING = ("reduce", "row")  # scalars with axes of their own


@frozen
class Along:
    """The attribute of a `row`: the axis along which its first argument is computed and kept.

    `row(value, place)` is the value where the axis is at that place, which is one of its positions.
    A kernel computes all positions once, before the loop that asks for places.
    """

    axes: tuple[Axis]


def without_rows(value: Scalar) -> Scalar:
    """Give a value that computes at each place what rows would have kept."""

    def change(node: Scalar, args: tuple[Scalar, ...]) -> Scalar | None:
        if node.op != "row":
            return None
        (along,) = node.attr.axes
        return replaced([args[0]], {along.scalar(): args[1]})[args[0]]

    return substitute([value], change)[value]


def plain_strides(shape: Sequence[Size]) -> tuple[Size, ...]:
    """Give the strides of row-major order."""
    return tuple(product(shape[d + 1 :]) for d in range(len(shape)))


def buffer(name: str, dtype: DType, shape: Sequence[Size]) -> Buffer:
    """Make a buffer in row-major order."""
    return Buffer(name, dtype, tuple(shape), plain_strides(shape))


@frozen
class Element:
    """The attribute of a load in a nest: its buffer, and what comes where the guard is false."""

    buffer: Buffer
    fill: float = 0.0
    guarded: bool = False

    def __str__(self) -> str:
        return self.buffer.name


@frozen(eq=False)
class Store:
    """`buffer[index] = value` for every position along `axes`."""

    buffer: Buffer
    axes: tuple[Axis, ...]
    index: tuple[Scalar, ...]
    value: Scalar

    @cached_property
    def reads(self) -> tuple[Buffer, ...]:
        """The buffers that the value is made of, each once."""
        loads = (n for n in scalar_order([self.value]) if n.op == "load")
        return tuple(dict.fromkeys(n.attr.buffer for n in loads))

    @cached_property
    def reduces(self) -> bool:
        """Whether there is a reduction in the value."""
        return any(n.op == "reduce" for n in scalar_order([self.value]))


@frozen(eq=False)
class Nest:
    """What one kernel computes. `limits` ends an axis early: at the value of an outer scalar."""

    name: str
    axes: tuple[Axis, ...]
    stores: tuple[Store, ...]
    limits: Mapping[Axis, Scalar] = field(default_factory=dict)

    @property
    def roots(self) -> tuple[Scalar, ...]:
        """All scalars from which the nest is made: values, then indices, then limits."""
        return (
            *(store.value for store in self.stores),
            *(index for store in self.stores for index in store.index),
            *self.limits.values(),
        )

    def order(self) -> tuple[Scalar, ...]:
        """Give all scalars, arguments first."""
        return self._order

    def free(self) -> Mapping[Scalar, frozenset[Axis]]:
        """Give the axes that each scalar depends on."""
        return self._free

    def reads(self) -> tuple[Buffer, ...]:
        """Give the buffers that are read, each once."""
        return self._reads

    # found once: a nest is asked ten times on its way to a kernel

    @cached_property
    def _order(self) -> tuple[Scalar, ...]:
        return tuple(scalar_order(self.roots))

    @cached_property
    def _free(self) -> Mapping[Scalar, frozenset[Axis]]:
        return free_axes(self._order)

    @cached_property
    def _reads(self) -> tuple[Buffer, ...]:
        return tuple(dict.fromkeys(n.attr.buffer for n in self._order if n.op == "load"))

    def writes(self) -> tuple[Buffer, ...]:
        """Give the buffers that are written."""
        return tuple(store.buffer for store in self.stores)

    def changed(self, new: Mapping[Scalar, Scalar], axes: Sequence[Axis] | None = None) -> Nest:
        """Give the nest with its scalars replaced by what `new` says of them."""
        own = tuple(self.axes if axes is None else axes)
        stores = tuple(
            Store(
                store.buffer,
                store.axes if axes is None else tuple(a for a in own if a in store.axes),
                tuple(new.get(one, one) for one in store.index),
                new.get(store.value, store.value),
            )
            for store in self.stores
        )
        limits = {axis: new.get(one, one) for axis, one in self.limits.items()}
        return Nest(self.name, own, stores, limits)


def from_compute(
    name: str, compute: Compute, sources: Sequence[Buffer], targets: Sequence[Buffer]
) -> list[Nest]:
    """Give the nests of an operation: one for each result, reading and writing buffers."""
    found = []
    for one, target in zip(compute.results, targets, strict=True):
        value = bound(one.value, sources)
        index = tuple(axis.scalar() for axis in one.axes)
        found.append(Nest(name, one.axes, (Store(target, one.axes, index, value),)))
    return found


def bound(value: Scalar, sources: Sequence[Buffer]) -> Scalar:
    """Make loads of numbered operands loads of buffers."""

    def change(node: Scalar, args: tuple[Scalar, ...]) -> Scalar | None:
        if node.op != "load" or not isinstance(node.attr, Load):
            return None
        element = Element(sources[node.attr.operand], node.attr.fill, node.attr.guarded)
        return scalar("load", args, node.dtype, element)

    return substitute([value], change)[value]


def place(node: Scalar) -> Linear:
    """Give the offset, in elements, of a load."""
    index = node.args[:-1] if node.attr.guarded else node.args
    return offset(node.attr.buffer, index)


def offset(buffer: Buffer, index: Sequence[Scalar]) -> Linear:
    """Give the offset, in elements, of an index in a buffer."""
    total = Linear({}, 0)
    for one, stride in zip(index, buffer.strides, strict=True):
        total = total + linear(one).times(stride)
    return total


def free_axes(order: Iterable[Scalar]) -> dict[Scalar, frozenset[Axis]]:
    """Give the axes that each scalar depends on; a reduction fixes its own, and so does a row."""
    found: dict[Scalar, frozenset[Axis]] = {}
    none: frozenset[Axis] = frozenset()
    for node in order:
        if node.op == "axis":
            found[node] = frozenset((node.attr,))
            continue
        own = none.union(*(found[argument] for argument in node.args)) if node.args else none
        found[node] = own.difference(node.attr.axes) if node.op in BINDING else own
    return found


def verify(nest: Nest) -> None:
    """Hold a nest to its invariants; a broken one is a bug of whoever made it (`LoweringError`)."""
    order = nest.order()
    axes_of = nest.free()
    own = set(nest.axes)
    for store in nest.stores:
        if any(axis not in own for axis in store.axes):
            raise LoweringError(f"{nest.name}: a store of `{store.buffer}` has an axis of its own.")
        if len(store.index) != len(store.buffer.shape):
            raise LoweringError(f"{nest.name}: `{store.buffer}` is written with a wrong index.")
        needs = axes_of[store.value].union(*(axes_of[one] for one in store.index))
        if not needs <= set(store.axes):
            extra = ", ".join(sorted(a.name for a in needs - set(store.axes)))
            raise LoweringError(f"{nest.name}: the store of `{store.buffer}` does not fix {extra}.")
        if store.value.dtype != store.buffer.dtype:
            raise LoweringError(
                f"{nest.name}: `{store.buffer}` is {store.buffer.dtype}, "
                f"its value {store.value.dtype}."
            )
    written: dict[Buffer, list[Store]] = {}
    for store in nest.stores:
        written.setdefault(store.buffer, []).append(store)
    places = {(s.buffer, offset(s.buffer, s.index).key()) for s in nest.stores}
    if len(places) != len(nest.stores):
        raise LoweringError(f"{nest.name}: an element of a buffer is stored twice.")
    for node in order:
        if node.op != "load":
            continue
        if not isinstance(node.attr, Element):
            raise LoweringError(f"{nest.name}: a load of operand {node.attr} has no buffer.")
        if len(node.args) - node.attr.guarded != len(node.attr.buffer.shape):
            raise LoweringError(f"{nest.name}: `{node.attr.buffer}` is read with a wrong index.")
        same = written.get(node.attr.buffer, [])
        if any(place(node).key() != offset(s.buffer, s.index).key() for s in same):
            raise LoweringError(
                f"{nest.name}: `{node.attr.buffer}` is written in place but read elsewhere."
            )


def sizes_of(nest: Nest) -> frozenset[Dim]:
    """Give the named sizes that stand anywhere in a nest."""
    found: set[Dim] = set()
    for node in nest.order():
        if node.op == "size":
            found |= free(node.attr)
        elif node.op == "axis":
            found |= free(node.attr.extent)
        elif node.op in BINDING:
            for axis in node.attr.axes:
                found |= free(axis.extent)
        elif node.op == "load":
            for stride in node.attr.buffer.strides:
                found |= free(stride)
    for axis in nest.axes:
        found |= free(axis.extent)
    return frozenset(found)


def run(nest: Nest, arrays: Mapping[Buffer, Any], env: Mapping[Dim, int]) -> dict[Buffer, Any]:
    """Compute a nest with NumPy: its meaning, slow and obviously right (no limits, plain order)."""
    if nest.limits:
        raise LoweringError(f"{nest.name}: a nest with limits has no meaning in NumPy.")
    reads = list(nest.reads())

    def change(node: Scalar, args: tuple[Scalar, ...]) -> Scalar | None:
        if node.op != "load":
            return None
        which = Load(reads.index(node.attr.buffer), node.attr.fill, node.attr.guarded)
        return scalar("load", args, node.dtype, which)

    given = [arrays[each] for each in reads]
    found: dict[Buffer, Any] = {}
    for store in nest.stores:
        plain = without_rows(store.value)
        numbered = substitute([plain], change)[plain]
        (values,) = evaluate(Compute(store.axes, numbered), given, env)
        shape = [s if isinstance(s, int) else evaluate_size(s, env) for s in store.buffer.shape]
        result = found.get(store.buffer)
        if result is None:
            result = np.zeros(shape, numpy_dtype(store.buffer.dtype))
        index = [evaluate(Compute(store.axes, one), given, env)[0] for one in store.index]
        result[tuple(index)] = values
        found[store.buffer] = result
    return found
