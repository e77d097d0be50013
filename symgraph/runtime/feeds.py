"""What a caller gives becomes arrays of exactly the declared types, or an error that says why not.

What may be converted, and what is refused with the cast to write, stands in graph/arrays.py.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from symgraph.backends.cuda.device import Device
from symgraph.backends.cuda.exchange import DeviceArray, on_device
from symgraph.dims import Dim
from symgraph.errors import ArgumentError, DTypeError, InputError
from symgraph.graph.arrays import lossless, require_lossless
from symgraph.graph.dtypes import DType
from symgraph.graph.node import Value
from symgraph.graph.op import Array


class Feeds:
    """The declared inputs of a function; `take` makes arrays of a call's arguments."""

    def __init__(self, name: str, inputs: Sequence[Value], device: Device | None = None) -> None:
        self.name, self.device = name, device
        self.inputs = tuple(inputs)
        self.by_name: dict[str, Value] = {}
        self.ambiguous: set[str] = set()
        for value in self.inputs:
            label = value.label
            if label in self.by_name:
                self.ambiguous.add(label)
            self.by_name[label] = value

    def take(self, args: Sequence[Any], named: Mapping[str, Any]) -> dict[Value, Array]:
        """Match arguments with inputs and convert them; raises `InputError`."""
        if len(args) > len(self.inputs):
            raise InputError(
                f"{self.name}: takes {len(self.inputs)} inputs, got {len(args)}.",
                details=self._expected(),
            )
        feeds = dict(zip(self.inputs, args))
        for label, given in named.items():
            feeds[self._named(label, feeds)] = given
        absent = [value for value in self.inputs if value not in feeds]
        if absent:
            names = ", ".join(f"`{value.label}`" for value in absent)
            raise InputError(
                f"{self.name}: missing {names}.", details=[value.describe() for value in absent]
            )
        return {one: convert(self.name, one, feeds[one], self.device) for one in self.inputs}

    def _named(self, label: str, taken: Mapping[Value, Any]) -> Value:
        value = self.by_name.get(label)
        if value is None:
            raise InputError(
                f"{self.name}: has no input called `{label}`.", details=self._expected()
            )
        if label in self.ambiguous:
            raise InputError(
                f"{self.name}: several inputs are called `{label}`.",
                details=self._expected(),
                fix="give them by position",
            )
        if value in taken:
            raise InputError(f"{self.name}: `{label}` is given twice.")
        return value

    def _expected(self) -> list[str]:
        return [value.describe() for value in self.inputs]


def convert(name: str, value: Value, given: Any, device: Device | None = None) -> Array:
    """Make one argument an array of its input's dtype; shapes are checked when sizes are bound.

    One on the function's device stays there (a `DeviceArray`).
    """
    if isinstance(given, Value | Dim):
        raise InputError(
            f"{name}: `{value.label}` needs numbers, it was given something symbolic.",
            details=[value.describe()],
            fix="build the expression before compiling, or use givens",
        )
    subject = f"{name}: `{value.label}`"
    try:
        if on_device(given):
            array: Any = _there(subject, given, value.dtype, device)
        else:
            array = lossless(subject, given, value.dtype)
    except DTypeError as problem:
        raise InputError(problem.message, details=[value.describe()], fix=problem.fix) from None
    if array.ndim != value.ndim:
        raise InputError(
            f"{name}: `{value.label}` has {value.ndim} axes, it was given {array.ndim}: "
            f"shape {array.shape}.",
            details=[value.describe()],
            fix="reshape the array, or declare the input with that many axes",
        )
    found: Array = array
    return found


def _there(subject: str, given: Any, dtype: DType, device: Device | None) -> DeviceArray:
    """Look at an array on a device; nothing is copied."""
    if device is None:
        raise InputError(
            f"{subject} lies on a CUDA device, the function runs on the CPU.",
            fix='array.get() in CuPy, tensor.cpu() in PyTorch; or compile with backend="cuda"',
        )
    array = device.read(subject, given)
    require_lossless(subject, array.dtype, dtype)
    return array


def merge_named(feeds: Any, named: Mapping[str, Any]) -> dict[Any, Any]:
    """Join feeds by value or size and feeds by name (for `eval`)."""
    if feeds is None:
        feeds = {}
    if not isinstance(feeds, Mapping):
        raise ArgumentError(
            f"eval: feeds must be a mapping from inputs to arrays, got {type(feeds).__name__}.",
            fix="x.eval({a: array}) or x.eval(a=array)",
        )
    return {**feeds, **named}
