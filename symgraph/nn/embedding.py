"""Tables of trained rows."""

from __future__ import annotations

from typing import Any

from symgraph.dims import dim
from symgraph.errors import ArgumentError
from symgraph.graph.arguments import counts, plain_int
from symgraph.graph.leaves import tensor
from symgraph.graph.node import Value
from symgraph.graph.registry import F
from symgraph.graph.types import Shape
from symgraph.nn import init
from symgraph.nn.module import Module


class Embedding(Module):
    """y = weight[x]: one trained row of `features` numbers for each of `count` numbers.

    The row `padding`, where it is given, starts as zeros and is not trained. Raises `DTypeError`
    unless x holds integers, and `IndexRangeError` for one that is not below `count`.
    """

    def __init__(
        self,
        count: int,
        features: int,
        *,
        padding: int | None = None,
        weight: init.Initialiser | None = None,
    ) -> None:
        count, features = counts("Embedding", count=count, features=features)
        if padding is not None and not 0 <= plain_int("Embedding", "padding", padding) < count:
            raise ArgumentError(
                f"Embedding: padding must be a row of the table, 0 to {count - 1}, got {padding}."
            )
        self.padding = padding
        self.weight = self.parameter("weight", (count, features), weight or init.normal(1.0))
        if padding is not None:
            table = self.weight.value.copy()
            table[padding] = 0
            self.weight.value = table

    def input_shape(self) -> Shape:
        """(B,), of integers."""
        return (dim("B"),)

    def example(self) -> Value:
        """Build the graph on integers `x`, to be looked at."""
        return self(tensor("x", self.input_shape(), "int32"))

    def forward(self, x: Any, *, train: bool = False) -> Value:
        """x: (...) of integers -> (..., features)."""
        return F.embedding(x, self.weight, padding=self.padding)
