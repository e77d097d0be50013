"""Small networks of sines, one for each image, at all pixels: an operation with kernels by hand.

As products and sines one after another, every layer of every image is written to memory and read
again. The kernels (siren_kernels.py) take a few pixels through all layers, in registers and the
first cache, with weights that the whole image shares.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any

from symgraph.errors import ArgumentError, ArgumentTypeError, ShapeError
from symgraph.graph.leaves import as_value
from symgraph.graph.node import Value, make
from symgraph.graph.op import Array, Cotangent, Op, op
from symgraph.graph.rawkernel import RawKernel
from symgraph.graph.registry import F, Functions, function_of
from symgraph.graph.samples import arg, bad, sample
from symgraph.graph.types import TensorType
from symgraph.ops.siren_kernels import TILE, cuda, llvm
from symgraph.ops.siren_parts import (
    COLOURS,
    MAX_WIDTH,
    backwards,
    check_types,
    checked_sizes,
    matrices,
    sizes_of,
    values_of,
)

SHARE = 1024  # pixels that are worth a task of their own, when gradients are added up
MOST = 32  # tasks of one image


@op
class Siren(Op):
    """y[b, :, p] = W sin(omega (... sin(omega (W x[:, p] + b)) ...)) + b, with numbers of image b.

    A row of numbers has W, row by row, and then b, for one layer after another.
    """

    layers: int
    width: int
    omega: float

    def infer(self, numbers: TensorType, places: TensorType) -> TensorType:
        check_types(self.layers, self.width, numbers, places)
        return numbers.with_shape((numbers.shape[0], COLOURS, places.shape[1]))

    def ref(self, xp: ModuleType, *arrays: Array) -> Array:
        value, dtype = arrays[1], arrays[0].dtype
        parts = matrices(self.layers, self.width, arrays[0], xp.reshape)
        for layer, (weight, bias) in enumerate(parts):
            value = (xp.matmul(weight, value) + bias).astype(dtype)
            if layer < self.layers:
                value = xp.sin(dtype.type(self.omega) * value).astype(dtype)
        return value

    def expand(self, F: Functions, *xs: Value) -> Value:
        numbers, places = xs
        parts = matrices(self.layers, self.width, numbers, F.reshape)
        return values_of(F, parts, places, self.omega)[-1]

    def vjp(self, F: Functions, g: Any, y: Any, *xs: Value) -> tuple[Cotangent, ...]:
        numbers, places = xs

        def of_numbers() -> Value:
            pixels = places.shape[1]
            parts = min(MOST, max(1, pixels // SHARE)) if isinstance(pixels, int) else 1
            attributes = (self.layers, self.width, self.omega, parts)
            return F.sum(F.siren_gradient(numbers, places, g, *attributes), axis=1)

        def of_places() -> Value:
            parts = matrices(self.layers, self.width, numbers, F.reshape)
            values = values_of(F, parts, places, self.omega)
            return F.sum(backwards(F, parts, values, g, self.omega)[0], axis=0)

        return of_numbers, of_places

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
            lambda n, x: F.siren(n, x, 1, 3, 1e39), arg((2, 21)), arg((2, 5)),
            error=ArgumentError, match="omega must be a finite number, got 1e[+]39",
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
    layers, width, omega = checked_sizes("siren", layers, width, omega)
    return make(Siren(layers, width, omega), as_value(numbers), as_value(places))
