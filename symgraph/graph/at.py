"""`x.at[key].set(value)`: the value that `x` would be with some elements changed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from symgraph.graph.registry import apply

if TYPE_CHECKING:
    from symgraph.graph.node import Value


class At:
    """Places of a value, chosen by a key: `x.at[key]`."""

    __slots__ = ("_value",)

    def __init__(self, value: Value) -> None:
        self._value = value

    def __getitem__(self, key: Any) -> Places:
        return Places(self._value, key)


class Places:
    """What can be done with the elements at some places; each gives a new value."""

    __slots__ = ("_key", "_value")

    def __init__(self, value: Value, key: Any) -> None:
        self._value, self._key = value, key

    def get(self) -> Value:
        """Give the elements: x[key]."""
        return apply("index", self._value, self._key)

    def set(self, new: Any) -> Value:
        """Give the value with these elements replaced."""
        return apply("update_at", self._value, self._key, new, "set")

    def add(self, other: Any) -> Value:
        """Give the value with something added to these elements."""
        return apply("update_at", self._value, self._key, other, "add")

    def subtract(self, other: Any) -> Value:
        """Give the value with something subtracted from these elements."""
        return apply("update_at", self._value, self._key, apply("negative", other), "add")

    def multiply(self, factor: Any) -> Value:
        """Give the value with these elements multiplied."""
        return apply("update_at", self._value, self._key, factor, "multiply")

    def max(self, other: Any) -> Value:
        """Give the value with these elements raised to at least something."""
        return apply("update_at", self._value, self._key, other, "max")

    def min(self, other: Any) -> Value:
        """Give the value with these elements lowered to at most something."""
        return apply("update_at", self._value, self._key, other, "min")
