"""Values that stay as they are, with cotangents that do not: clipped, scaled, reversed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from symgraph.errors import ArgumentError, ArgumentTypeError
from symgraph.graph.dtypes import is_float
from symgraph.graph.elementwise import Elementwise, GraphMath
from symgraph.graph.leaves import as_value
from symgraph.graph.node import Value, make
from symgraph.graph.op import Cotangent, op
from symgraph.graph.registry import F, Functions, composite, function_of
from symgraph.graph.samples import arg, bad, sample


class Passing(Elementwise):
    """The operand itself; a subclass says what becomes of its cotangent."""

    view = True

    def run_body(self, m: Any, *operands: Any) -> Any:
        return operands[0]


@op
class ClipGradient(Passing):
    """The operand; its cotangent is limited to [low, high], each element alone."""

    low: float
    high: float
    samples = (
        sample(lambda x: F.clip_gradient(x, -1, 0.5), arg(("B", 3)), gradient=()),
        sample(lambda x: F.clip_gradient(x, high=1.0), arg(()), gradient=()),
        sample(lambda x: F.clip_gradient(x, -1, 1), arg(("B",)), sizes={"B": 0}, gradient=()),
    )
    bad = (
        bad(
            lambda x: F.clip_gradient(x, 2, 1), arg((3,)),
            error=ArgumentError, match="low must be at most high: 2 > 1",
        ),
        bad(
            lambda x: F.clip_gradient(x, "a"), arg((3,)),
            error=ArgumentTypeError, match="low must be a number",
        ),
    )  # fmt: skip

    def pull_back(
        self, m: GraphMath, number: int, g: Value, y: Value, xs: Sequence[Value]
    ) -> Cotangent:
        return F.clip(g, self.low, self.high)

    def jvp(self, F: Functions, tangents: Sequence[Any], y: Any, *xs: Value) -> Any:
        return tangents[0]  # the value changes as it changes: only cotangents are clipped


@op
class ScaleGradient(Passing):
    """The operand; its cotangent is multiplied by `scale`."""

    scale: float
    samples = (
        sample(lambda x: F.scale_gradient(x, 0.5), arg(("B", 3)), gradient=()),
        sample(lambda x: F.scale_gradient(x, 0), arg((17,)), gradient=()),
        sample(lambda x: F.scale_gradient(x, -2), arg(("B",)), sizes={"B": 1}, gradient=()),
    )
    bad = (
        bad(
            lambda x: F.scale_gradient(x, None), arg((3,)),
            error=ArgumentTypeError, match="scale must be a number",
        ),
    )  # fmt: skip

    def pull_back(
        self, m: GraphMath, number: int, g: Value, y: Value, xs: Sequence[Value]
    ) -> Cotangent:
        return g * self.scale


@function_of
def clip_gradient(x: Any, low: float = -math.inf, high: float = math.inf) -> Value:
    """Give x; on the way back its cotangent is limited to [low, high], each element alone.

    Forward mode sees the value only: tangents pass as they are. Raises `ArgumentError` where low
    is above high.

    >>> import symgraph as sg
    >>> x = sg.scalar("x")
    >>> float(sg.grad(sg.clip_gradient(x, -1, 1) * 5, x).eval())
    1.0
    """
    value = as_value(x)
    limits = _number("clip_gradient", "low", low), _number("clip_gradient", "high", high)
    if limits[0] > limits[1]:
        raise ArgumentError(
            f"clip_gradient: low must be at most high: {low} > {high}.", fix="exchange them"
        )
    return make(ClipGradient(*limits), value) if is_float(value.dtype) else value


@function_of
def scale_gradient(x: Any, scale: float) -> Value:
    """Give x; on the way back its cotangent is multiplied by a number.

    0 stops the gradient, and the path still counts as connected.

    >>> import symgraph as sg
    >>> x = sg.scalar("x")
    >>> float(sg.grad(sg.scale_gradient(x, 0.5) * 4, x).eval())
    2.0
    """
    value, factor = as_value(x), _number("scale_gradient", "scale", scale)
    return make(ScaleGradient(factor), value) if is_float(value.dtype) else value


@composite(
    samples=[
        sample(lambda x: F.reverse_gradient(x), arg(("B", 3)), gradient=()),
        sample(lambda x: F.reverse_gradient(x, 0.25), arg((33,)), gradient=()),
    ],
    bad=[
        bad(
            lambda x: F.reverse_gradient(x, "a"), arg((3,)),
            error=ArgumentTypeError, match="must be a number",
        ),
    ],
)  # fmt: skip
def reverse_gradient(x: Any, scale: float = 1.0) -> Value:
    """Give x; on the way back its cotangent changes sign, and is multiplied by a number.

    Between features and a classifier of domains it makes the features useless for it. Ganin et
    al., JMLR 17, 2016.
    """
    return F.scale_gradient(x, -_number("reverse_gradient", "scale", scale))


def _number(name: str, what: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float | np.number):
        raise ArgumentTypeError(
            f"{name}: {what} must be a number, got {value!r:.40}.",
            fix="for a value of the graph use sg.custom_vjp",
        )
    return float(value)
