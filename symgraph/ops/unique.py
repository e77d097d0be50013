"""The different elements of an array: `unique_values`, `unique_counts`, `unique_inverse`,
`unique_all`.

The elements are sorted; one that differs from the one before is the first of its kind. How many
kinds there are is a size that the data decide. Each NaN is a kind of its own, 0.0 and -0.0 are one.
Complex numbers are ordered by their real parts, and by their imaginary parts where these are equal.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from symgraph.dims import Size
from symgraph.graph.dtypes import is_complex
from symgraph.graph.leaves import as_value
from symgraph.graph.measured import measured
from symgraph.graph.node import Value
from symgraph.graph.registry import F, composite
from symgraph.graph.samples import Sample, arg, sample


class UniqueAll(NamedTuple):
    """Different elements, where each stands first, which is which, and how often each is there."""

    values: Value
    indices: Value
    inverse_indices: Value
    counts: Value


class UniqueCounts(NamedTuple):
    """Different elements, and how often each is there."""

    values: Value
    counts: Value


class UniqueInverse(NamedTuple):
    """Different elements, and which of them each element of the array is."""

    values: Value
    inverse_indices: Value


class _Kinds:
    """What all four are made of: the elements in order, and which are the first of their kind."""

    def __init__(self, x: Any) -> None:
        self.x = as_value(x)
        self.flat = F.reshape(self.x, (-1,))
        self.order = _order(self.flat)
        ordered = F.take(self.flat, self.order)
        size = self.flat.shape[0]
        # an element is compared with the one before it, the first with itself
        before = F.take(ordered, F.maximum(F.arange(size) - 1, 0))
        self.first = F.logical_or(F.not_equal(ordered, before), F.equal(F.arange(size), 0))
        found = F.count_nonzero(self.first)
        self.count: Size = measured(found, f"{self.x.label}.unique", size)
        self.indices = F.take(self.order, F.places(self.first, self.count))
        self.values = F.take(self.flat, self.indices)

    def inverse(self) -> Value:
        """Give for each element the number of its kind."""
        kinds = F.cumulative_sum(F.cast(self.first, "int64")) - 1
        return F.reshape(F.take(kinds, self._places()), self.x.shape)

    def counts(self) -> Value:
        """Give for each kind how many elements are of it."""
        ones = F.ones_like(self.order)
        return F.scatter_add((self.count,), F.reshape(self.inverse(), (-1,)), ones)

    def _places(self) -> Value:
        """Give for each element its place in order."""
        if is_complex(self.flat.dtype):
            return F.argsort(self.order)  # the inverse of a permutation
        if self.flat.dtype == "bool":
            return F.sort_places(F.cast(self.flat, "uint8"))
        return F.sort_places(self.flat)


def _order(flat: Value) -> Value:
    """Give the places of a vector's elements in order; equal ones keep theirs."""
    if not is_complex(flat.dtype):
        return F.argsort(flat)
    by_imaginary = F.argsort(F.imag(flat))
    return F.take(by_imaginary, F.argsort(F.take(F.real(flat), by_imaginary)))


def _samples(build: Callable[[Value], Any]) -> list[Sample]:
    nan = float("nan")
    return [
        sample(build, arg(("B",), "int32", values=(3, -1, 3, 0, 3, -1)), sizes={"B": 6}),
        sample(build, arg((2, "B"), values=(1.5, nan, 0.0, -0.0, nan, 1.5)), sizes={"B": 3},
               gradient=(), label="matrix"),
        sample(build, arg((3, 2), distinct=True), label="different"),
        sample(build, arg((0, 2), "uint8"), label="empty"),
        sample(build, arg((5,), "bool"), label="bools"),
        sample(build, arg((2, "B"), "complex64", values=(1j, 2 - 1j, -0.0, 1j, 2 + 3j, 0.0)),
               sizes={"B": 3}, gradient=(), label="complex"),
    ]  # fmt: skip


@composite(samples=_samples(lambda x: F.unique_all(x)))
def unique_all(x: Any) -> UniqueAll:
    """Give the different elements, in order, with `indices`, `inverse_indices` and `counts`.

    `indices` are the places in the flattened array where they stand first, `inverse_indices` has
    the shape of `x`: values[inverse_indices] = x. How many there are is a size that the data
    decide. The gradient of a value goes to where it stands first. Complex numbers are ordered by
    their real parts, then by their imaginary parts.

    >>> import symgraph as sg
    >>> values, indices, inverse, counts = sg.unique_all(sg.constant([5, 2, 5]))
    >>> values.eval().tolist(), inverse.eval().tolist(), counts.eval().tolist()
    ([2, 5], [1, 0, 1], [1, 2])
    """
    kinds = _Kinds(x)
    return UniqueAll(kinds.values, kinds.indices, kinds.inverse(), kinds.counts())


@composite(samples=_samples(lambda x: F.unique_counts(x)))
def unique_counts(x: Any) -> UniqueCounts:
    """Give the different elements, in order, and how often each is there; see `unique_all`."""
    kinds = _Kinds(x)
    return UniqueCounts(kinds.values, kinds.counts())


@composite(samples=_samples(lambda x: F.unique_inverse(x)))
def unique_inverse(x: Any) -> UniqueInverse:
    """Give the different elements, in order, and which of them each is; see `unique_all`."""
    kinds = _Kinds(x)
    return UniqueInverse(kinds.values, kinds.inverse())


@composite(samples=_samples(lambda x: F.unique_values(x)))
def unique_values(x: Any) -> Value:
    """Give the different elements, in order; see `unique_all`.

    >>> import symgraph as sg
    >>> sg.unique_values(sg.constant([5, 2, 5])).eval().tolist()
    [2, 5]
    """
    return _Kinds(x).values
