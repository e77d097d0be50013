"""Small networks of sines, one for each image, at all pixels: an operation with kernels by hand.

As products and sines one after another, every layer of every image is written to memory and read
again. The kernels (siren_kernels.py) take a few pixels through all layers, in registers and the
first cache, with weights that the whole image shares.
"""

from __future__ import annotations

import math
from types import ModuleType
from typing import Any

from symgraph.dims import equal, require_equal
from symgraph.errors import ArgumentError, ArgumentTypeError, DTypeError, ShapeError
from symgraph.graph.arguments import plain_int
from symgraph.graph.dtypes import is_float
from symgraph.graph.leaves import as_value
from symgraph.graph.node import Value, make
from symgraph.graph.op import Array, Cotangent, Op, op
from symgraph.graph.rawkernel import RawKernel
from symgraph.graph.registry import F, Functions, function_of
from symgraph.graph.samples import arg, bad, sample
from symgraph.graph.types import TensorType
from symgraph.ops.siren_kernels import TILE, cuda, llvm

COLOURS = 3
MAX_WIDTH = 64  # of the kernels: what fits into registers and the first cache


def sizes_of(layers: int, width: int) -> list[tuple[int, int]]:
    """Give (outputs, inputs) of each layer, the last one included."""
    return list(zip([width] * layers + [COLOURS], [2] + [width] * layers, strict=True))


@op
class Siren(Op):
    """y[b, :, p] = W sin(omega (... sin(omega (W x[:, p] + b)) ...)) + b, with numbers of image b.

    A row of numbers has W, row by row, and then b, for one layer after another.
    """

    layers: int
    width: int
    omega: float

    def infer(self, numbers: TensorType, places: TensorType) -> TensorType:
        count = sum(outputs * (inputs + 1) for outputs, inputs in sizes_of(self.layers, self.width))
        if not is_float(numbers.dtype) or places.dtype != numbers.dtype:
            raise DTypeError(
                f"{{numbers}} and {{places}} must be floats of one dtype, not {places}."
            )
        if numbers.ndim != 2 or equal(numbers.shape[1], count) is False:
            raise ShapeError(f"{{numbers}} must be (B, {count}), not {numbers}.")
        if places.ndim != 2 or equal(places.shape[0], 2) is False:
            raise ShapeError(f"{{places}} must be (2, P), not {places}.")
        # kernels take both as given: of another size they would read what lies behind
        require_equal(numbers.shape[1], count, f"axis 1 of {{numbers}} must be {count}")
        require_equal(places.shape[0], 2, "axis 0 of {places} must be 2")
        return numbers.with_shape((numbers.shape[0], COLOURS, places.shape[1]))

    def _parts(self, numbers: Any, reshape: Any) -> list[tuple[Any, Any]]:
        """Cut rows of numbers into weights (B, o, i) and biases (B, o, 1)."""
        found, begin = [], 0
        for outputs, inputs in sizes_of(self.layers, self.width):
            middle, end = begin + outputs * inputs, begin + outputs * (inputs + 1)
            weight = reshape(numbers[:, begin:middle], (numbers.shape[0], outputs, inputs))
            found.append((weight, reshape(numbers[:, middle:end], (numbers.shape[0], outputs, 1))))
            begin = end
        return found

    def ref(self, xp: ModuleType, *arrays: Array) -> Array:
        value, dtype = arrays[1], arrays[0].dtype
        for layer, (weight, bias) in enumerate(self._parts(arrays[0], xp.reshape)):
            value = (xp.matmul(weight, value) + bias).astype(dtype)
            if layer < self.layers:
                value = xp.sin(dtype.type(self.omega) * value).astype(dtype)
        return value

    def _values(self, F: Functions, numbers: Value, places: Value) -> list[Value]:
        """Build what goes into each layer, and the result."""
        values = [places]
        for layer, (weight, bias) in enumerate(self._parts(numbers, F.reshape)):
            value = F.matmul(weight, values[-1]) + bias
            values.append(F.sin(self.omega * value) if layer < self.layers else value)
        return values

    def expand(self, F: Functions, *xs: Value) -> Value:
        return self._values(F, *xs)[-1]

    def vjp(self, F: Functions, g: Any, y: Any, *xs: Value) -> tuple[Cotangent, ...]:
        values, parts = self._values(F, *xs), self._parts(xs[0], F.reshape)
        found: list[Value] = []
        for layer in range(self.layers, -1, -1):
            weight, _ = parts[layer]
            count = weight.shape[0]
            across = F.permute_dims(F.broadcast_to(
                values[layer], (count, *values[layer].shape[-2:])
            ), (0, 2, 1))  # fmt: skip
            found.append(F.reshape(F.sum(g, axis=2), (count, weight.shape[1])))
            size = weight.shape[1] * weight.shape[2]
            found.append(F.reshape(F.matmul(g, across), (count, size)))
            g = F.matmul(F.permute_dims(weight, (0, 2, 1)), g)
            if layer:
                before, shift = parts[layer - 1]
                inside = F.matmul(before, values[layer - 1]) + shift
                g = g * (self.omega * F.cos(self.omega * inside))
        return F.concat(found[::-1], axis=1), F.sum(g, axis=0)

    def raw_kernel(self, language: str, *types: Any) -> RawKernel | None:
        numbers, places, _ = types
        pixels = places.shape[1]
        if numbers.dtype != "float32" or self.width > MAX_WIDTH:
            return None
        if not isinstance(pixels, int) or pixels < TILE:
            return None
        shape = sizes_of(self.layers, self.width)
        if language == "llvm":
            tiles = -(-pixels // TILE)
            text = llvm(shape, self.omega)
            return RawKernel(text, "siren", numbers.shape[0] * tiles, (pixels, tiles), grain=4)
        text = cuda(shape, self.omega)
        return RawKernel(text, "siren", numbers.shape[0] * pixels, (pixels,), grain=128)

    samples = (
        sample(lambda n, x: F.siren(n, x, 1, 3, 1.0), arg(("B", 21)), arg((2, "P"))),
        sample(lambda n, x: F.siren(n, x, 2, 4, 0.5), arg(("B", 47)), arg((2, 70))),
        sample(lambda n, x: F.siren(n, x, 1, 1, 1.0), arg(("B", 9)), arg((2, 5)), sizes={"B": 17}),
    )
    bad = (
        bad(
            lambda n, x: F.siren(n, x, 1, 3), arg((2, 20)), arg((2, 5)), error=ShapeError,
            match=r"must be \(B, 21\)",
        ),
        bad(
            lambda n, x: F.siren(n, x, 1, 3), arg((2, 21)), arg((3, 5)), error=ShapeError,
            match=r"must be \(2, P\)",
        ),
        bad(
            lambda n, x: F.siren(n, x, 0, 3), arg((2, 21)), arg((2, 5)), error=ArgumentError,
            match="layers and width must be at least 1",
        ),
        bad(
            lambda n, x: F.siren(n, x, 1, 3, float("nan")), arg((2, 21)), arg((2, 5)),
            error=ArgumentError, match="omega must be a finite number, got nan",
        ),
        bad(
            lambda n, x: F.siren(n, x, 1.5, 3), arg((2, 21)), arg((2, 5)), error=ArgumentTypeError,
            match="layers must be an int, got float",
        ),
    )  # fmt: skip


@function_of
def siren(numbers: Any, places: Any, layers: int, width: int, omega: float = 30.0) -> Value:
    """Build colours (B, 3, P) of B networks with numbers (B, n) at places (2, P).

    `layers` of `width` sines and a linear layer (Sitzmann et al., arXiv 2006.09661). In compiled
    kernels arguments of sines are rounded to half turns: sines of 1000 are off by some 1e-4.

    Raises `ArgumentError` without layers and for an omega that is none, `ShapeError` for another n.

    >>> import symgraph as sg
    >>> sg.F.siren(sg.tensor("n", (7, 809)), sg.tensor("x", (2, 64)), 5, 13).shape
    (7, 3, 64)
    """
    layers, width = (
        plain_int("siren", what, value) for what, value in (("layers", layers), ("width", width))
    )
    if layers < 1 or width < 1:
        raise ArgumentError(f"siren: layers and width must be at least 1, got {layers}, {width}.")
    if not (isinstance(omega, int | float) and math.isfinite(omega)):
        raise ArgumentError(f"siren: omega must be a finite number, got {omega!r:.40}.")
    return make(Siren(layers, width, float(omega)), as_value(numbers), as_value(places))
