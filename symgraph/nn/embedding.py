"""Vectors for whole numbers."""

from __future__ import annotations

from typing import Any

from symgraph.dims import dim
from symgraph.errors import ArgumentError
from symgraph.graph.leaves import tensor
from symgraph.graph.node import Value
from symgraph.graph.registry import F
from symgraph.graph.types import Shape
from symgraph.nn import init
from symgraph.nn.module import Module


class Embedding(Module):
    """A trained vector for each of `count` numbers: y = weight[x], with weight (count, features).

    Raises `DTypeError` unless x holds integers, and `IndexRangeError` for one that is not below
    `count`.
    """

    def __init__(
        self, count: int, features: int, *, weight: init.Initialiser | None = None
    ) -> None:
        if count < 1 or features < 1:
            raise ArgumentError(f"Embedding: sizes must be >= 1, got {count} and {features}.")
        self.weight = self.parameter("weight", (count, features), weight or init.normal(1.0))

    def input_shape(self) -> Shape:
        """(B,), of integers."""
        return (dim("B"),)

    def example(self) -> Value:
        """Build the graph on integers `x`, to be looked at."""
        return self(tensor("x", self.input_shape(), "int32"))

    def forward(self, x: Any, *, train: bool = False) -> Value:
        """x: (...) of integers -> (..., features)."""
        found: Value = F.take(self.weight, x)
        return found
