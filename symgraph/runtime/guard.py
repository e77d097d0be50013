"""The NaN guard: which value of a run is the first that is not finite."""

from __future__ import annotations

import numpy as np

from symgraph.errors import NotFiniteError
from symgraph.graph.node import Value
from symgraph.graph.op import Array
from symgraph.graph.origin import describe
from symgraph.graph.scalar import widen


class NanGuard:
    """Watches one run, value by value, operands first.

    A NaN is refused wherever it appears. An infinity is refused where no operand has one: a mask
    may hold infinities on purpose, but whatever makes one out of finite numbers has overflowed.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self._infinite: set[Value] = set()
        self._ranges: dict[Value, str] = {}

    def __call__(self, value: Value, result: Array) -> None:
        """Look at a result; raises `NotFiniteError` with the value, its operands and its line."""
        parts = result if isinstance(result, tuple) else (result,)
        for array in map(np.asarray, parts):
            if array.dtype.kind in "biu":
                continue
            numbers = widen(array)
            bad = np.isnan(numbers)
            if not bad.any():
                infinite = np.isinf(numbers)
                if not infinite.any():
                    continue
                known = not value.inputs or self._infinite.intersection(value.inputs)
                self._infinite.add(value)
                if known:
                    continue
                bad = infinite
            raise self._refused(value, numbers, bad)
        self._ranges[value] = _range(parts[0])

    def _refused(self, value: Value, numbers: Array, bad: Array) -> NotFiniteError:
        count, size = int(bad.sum()), bad.size
        place = tuple(int(i) for i in np.argwhere(bad)[0])
        found = numbers[place]
        what = "NaN" if np.isnan(found) else "infinite"
        where = f", first at {list(place)}" if place else ""
        how = f"{count} of {size} elements are" if size > 1 else "it is"
        made = f"   made at {describe(value.origins[0])}" if value.origins else ""
        rows = [f"{value.label} = {formula(value)} : {value.type}{made}"]
        rows += [
            f"  {operand.label} : {operand.type}   {self._ranges.get(operand, '')}".rstrip()
            for operand in dict.fromkeys(value.inputs)
        ]
        return NotFiniteError(
            f"{self.name}: `{value.label}` is the first value that is not finite: "
            f"{how} {what}{where}.",
            details=rows,
            fix="nothing was updated; look at the operands above, from their least to their "
            "largest element",
        )


def formula(value: Value) -> str:
    """Give an operation on its operands by name: `log(h)`."""
    if not value.inputs:
        return value.op.name
    return f"{value.op.name}({', '.join(operand.label for operand in value.inputs)})"


def _range(array: Array) -> str:
    numbers = np.asarray(array)
    if numbers.size == 0 or numbers.dtype.kind == "b":
        return ""
    wide = widen(numbers)
    return f"from {float(wide.min()):.6g} to {float(wide.max()):.6g}"
