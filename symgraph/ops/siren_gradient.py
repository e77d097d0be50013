"""The gradient of `siren` with respect to its numbers: an operation with a kernel by hand.

With products and sines every layer's values are written to memory, and read twice on the way back.
The kernel (siren_gradient_kernels.py) takes 64 pixels forwards and backwards through all layers.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any

from symgraph.dims import require_equal
from symgraph.errors import ArgumentError, ShapeError
from symgraph.graph.arguments import plain_int
from symgraph.graph.leaves import as_value
from symgraph.graph.node import Value, make
from symgraph.graph.op import Array, Cotangent, Op, op
from symgraph.graph.rawkernel import RawKernel
from symgraph.graph.registry import F, Functions, function_of
from symgraph.graph.samples import arg, bad, sample
from symgraph.graph.types import TensorType
from symgraph.ops.siren_gradient_kernels import LARGEST, TILE, llvm, memory
from symgraph.ops.siren_parts import (
    COLOURS,
    MAX_WIDTH,
    backwards,
    check_types,
    checked_sizes,
    matrices,
    sizes_of,
    slice_of,
    values_of,
)


@op
class SirenGradient(Op):
    """y[b, k] = gradient of sum(g[b] siren(numbers, places)[b]) with respect to numbers[b], summed
    over the pixels of part k only: parts are slices of as many tiles of 64 pixels.
    """

    layers: int
    width: int
    omega: float
    parts: int

    def infer(self, numbers: TensorType, places: TensorType, g: TensorType) -> TensorType:
        check_types(self.layers, self.width, numbers, places)
        if g.dtype != numbers.dtype or g.ndim != 3:
            raise ShapeError(f"{{g}} must be {numbers.dtype} (B, {COLOURS}, P), not {g}.")
        wanted = (numbers.shape[0], COLOURS, places.shape[1])
        for axis, (size, other) in enumerate(zip(g.shape, wanted)):
            require_equal(size, other, f"axis {axis} of {{g}} must be {other}")
        return numbers.with_shape((numbers.shape[0], self.parts, numbers.shape[1]))

    def ref(self, xp: ModuleType, *arrays: Array) -> Array:
        numbers, places, gradients = arrays
        dtype, size = numbers.dtype, slice_of(places.shape[1], self.parts, TILE)
        found = xp.empty((len(numbers), self.parts, numbers.shape[1]), dtype)
        weights = matrices(self.layers, self.width, numbers, xp.reshape)
        omega = dtype.type(self.omega)
        for part in range(self.parts):
            inside = slice(part * size, (part + 1) * size)
            values, g = [places[None, :, inside]], gradients[:, :, inside]
            angles = []
            for weight, bias in weights[:-1]:
                angles.append(omega * (xp.matmul(weight, values[-1]) + bias))
                values.append(xp.sin(angles[-1]).astype(dtype))
            rows = []
            for layer in range(self.layers, -1, -1):
                across = xp.swapaxes(values[layer], 1, 2)
                rows.append(xp.sum(g, axis=2))
                rows.append(xp.reshape(xp.matmul(g, across), (len(numbers), -1)))
                if layer:
                    g = xp.matmul(xp.swapaxes(weights[layer][0], 1, 2), g)
                    g = (g * omega * xp.cos(angles[layer - 1])).astype(dtype)
            found[:, part] = xp.concatenate(rows[::-1], axis=1)
        return found

    def expand(self, F: Functions, *xs: Value) -> Value:
        numbers, places, g = xs
        batch, extra = numbers.shape[0], 1
        if self.parts > 1:
            places, g = self._cut(F, places, g)
        else:  # the very products of `siren` then
            extra = 0
        weights = matrices(self.layers, self.width, numbers, F.reshape, extra)
        values = values_of(F, weights, places, self.omega)
        axes = (*range(g.ndim - 2), g.ndim - 1, g.ndim - 2)
        between = (batch, self.parts) if self.parts > 1 else (batch,)
        found: list[Value] = []
        layers = zip(weights, values, backwards(F, weights, values, g, self.omega)[1:])
        for (weight, _), value, back in layers:
            before = F.broadcast_to(value, (*between, *value.shape[-2:]))
            outputs, inputs = weight.shape[-2:]
            product = F.matmul(back, F.permute_dims(before, axes))
            found.append(F.reshape(product, (batch, self.parts, outputs * inputs)))
            found.append(F.reshape(F.sum(back, axis=-1), (batch, self.parts, outputs)))
        return F.concat(found, axis=2)

    def _cut(self, F: Functions, places: Value, g: Value) -> tuple[Value, Value]:
        """Give places (parts, 2, size) and gradients (B, parts, 3, size), zeros at the end."""
        size, pixels = slice_of(places.shape[1], self.parts, TILE), places.shape[1]
        more = size * self.parts - pixels
        places = F.reshape(F.pad(places, ((0, 0), (0, more))), (2, self.parts, size))
        shape = (g.shape[0], COLOURS, self.parts, size)
        g = F.reshape(F.pad(g, ((0, 0), (0, 0), (0, more))), shape)
        return F.permute_dims(places, (1, 0, 2)), F.permute_dims(g, (0, 2, 1, 3))

    def vjp(self, F: Functions, g: Any, y: Any, *xs: Value) -> tuple[Cotangent, ...]:
        pulled: Any = F.vjp([self.expand(F, *xs)], list(xs), [g], missing="zero")
        return tuple(pulled)

    def raw_kernel(self, language: str, *types: Any) -> RawKernel | None:
        numbers, places, *_ = types
        pixels = places.shape[1]
        if language != "llvm" or not fits(self.layers, self.width, numbers.dtype, pixels):
            return None
        text = llvm(sizes_of(self.layers, self.width), self.omega)
        sizes = (pixels, self.parts, slice_of(pixels, self.parts, TILE))
        return RawKernel(text, "siren_gradient", numbers.shape[0] * self.parts, sizes, grain=1)

    samples = (
        sample(
            lambda n, x, g: F.siren_gradient(n, x, g, 1, 3, 1.0),
            arg(("B", 21)), arg((2, "P")), arg(("B", 3, "P")),
        ),
        sample(
            lambda n, x, g: F.siren_gradient(n, x, g, 2, 4, 0.5, parts=2),
            arg((2, 47)), arg((2, 70)), arg((2, 3, 70)),
        ),
        sample(
            lambda n, x, g: F.siren_gradient(n, x, g, 1, 1, 1.0),
            arg(("B", 9)), arg((2, 5)), arg(("B", 3, 5)), sizes={"B": 17},
        ),
    )  # fmt: skip
    bad = (
        bad(
            lambda n, x, g: F.siren_gradient(n, x, g, 1, 3), arg((2, 20)), arg((2, 5)),
            arg((2, 3, 5)), error=ShapeError, match=r"must be \(B, 21\)",
        ),
        bad(
            lambda n, x, g: F.siren_gradient(n, x, g, 1, 3), arg((2, 21)), arg((2, 5)),
            arg((2, 3, 6)), error=ShapeError, match=r"axis 2 of `\w+` must be 5",
        ),
        bad(
            lambda n, x, g: F.siren_gradient(n, x, g, 1, 3), arg((2, 21)), arg((2, 5)),
            arg((2, 5)), error=ShapeError, match=r"must be float32 \(B, 3, P\)",
        ),
        bad(
            lambda n, x, g: F.siren_gradient(n, x, g, 1, 3, parts=0), arg((2, 21)), arg((2, 5)),
            arg((2, 3, 5)), error=ArgumentError, match="parts must be at least 1, got 0",
        ),
    )  # fmt: skip


def fits(layers: int, width: int, dtype: str, pixels: Any) -> bool:
    """Tell whether there is a kernel for a network."""
    small = width <= MAX_WIDTH and memory(sizes_of(layers, width)) <= LARGEST
    return small and dtype == "float32" and isinstance(pixels, int) and pixels >= 1


@function_of
def siren_gradient(
    numbers: Any, places: Any, g: Any, layers: int, width: int, omega: float = 30.0, parts: int = 1
) -> Value:
    """Build the gradient of sum(g * siren(numbers, places)) by numbers, (B, parts, n).

    What pixels add to it lies in `parts`, slices of whole tiles of 64, which cores share.

    Raises what `siren` does, and `ShapeError` for a `g` of another shape than (B, 3, P).

    >>> import symgraph as sg
    >>> n, x, g = sg.tensor("n", (7, 809)), sg.tensor("x", (2, 64)), sg.tensor("g", (7, 3, 64))
    >>> sg.F.siren_gradient(n, x, g, 5, 13).shape
    (7, 1, 809)
    """
    layers, width, omega = checked_sizes("siren_gradient", layers, width, omega)
    if (number := plain_int("siren_gradient", "parts", parts)) < 1:
        raise ArgumentError(f"siren_gradient: parts must be at least 1, got {number}.")
    made = SirenGradient(layers, width, omega, number)
    return make(made, as_value(numbers), as_value(places), as_value(g))
