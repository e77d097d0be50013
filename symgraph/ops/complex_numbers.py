"""The parts of complex numbers, and numbers made of them.

A gradient by a complex z = x + iy is dL/dx + i dL/dy, so that z - rate * gradient goes down
(docs/design.md says why).
"""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np

from symgraph.dims import Size, broadcast_shapes, product
from symgraph.errors import DTypeError
from symgraph.graph.dtypes import (
    complex_dtype,
    dtype_name,
    is_complex,
    numpy_dtype,
    real_dtype,
)
from symgraph.graph.elementwise import fit
from symgraph.graph.leaves import as_value, common
from symgraph.graph.node import Value, make
from symgraph.graph.op import Array, Cotangent, Op, op
from symgraph.graph.registry import F, Functions, composite, function_of
from symgraph.graph.samples import arg, bad, sample
from symgraph.graph.types import TensorType


class _Part(Op):
    takes_complex = True
    host = True

    def infer(self, x: TensorType) -> TensorType:
        if not is_complex(x.dtype):
            raise DTypeError(f"takes complex numbers, not {x.dtype}.")
        return x.with_dtype(real_dtype(x.dtype))

    def flops(self, of: Callable[[Value], Size], *types: Any) -> Size:
        return 0


def _part_bad(cls: Callable[[], Op]) -> tuple[Any, ...]:
    return (bad(lambda x: make(cls(), x), arg((3,)), error=DTypeError, match="takes complex"),)


@op
class Real(_Part):
    """The real part."""

    samples = (
        sample(lambda x: F.real(x), arg(("B", 3), "complex64")),
        sample(lambda x: F.real(x), arg((), "complex64")),
        sample(lambda x: F.real(x), arg(("N",), "complex64"), sizes={"N": 0}),
    )
    bad = _part_bad(lambda: Real())

    def ref(self, xp: ModuleType, *arrays: Array) -> Array:
        return xp.array(xp.real(arrays[0]))

    def vjp(self, F: Functions, g: Any, y: Any, *xs: Value) -> tuple[Cotangent, ...]:
        return (F.cast(g, xs[0].dtype),)


@op
class Imag(_Part):
    """The imaginary part."""

    samples = (
        sample(lambda x: F.imag(x), arg(("B", 3), "complex64")),
        sample(lambda x: F.imag(x), arg((1,), "complex64")),
    )
    bad = _part_bad(lambda: Imag())

    def ref(self, xp: ModuleType, *arrays: Array) -> Array:
        return xp.array(xp.imag(arrays[0]))

    def vjp(self, F: Functions, g: Any, y: Any, *xs: Value) -> tuple[Cotangent, ...]:
        return (F.complex(F.zeros_like(g), g),)


@op
class Conj(_Part):
    """The conjugate: the imaginary part with the other sign."""

    samples = (
        sample(lambda x: F.conj(x), arg(("B", 3), "complex64")),
        sample(lambda x: F.conj(x), arg((2, 0), "complex64")),
    )
    bad = _part_bad(lambda: Conj())

    def infer(self, x: TensorType) -> TensorType:
        super().infer(x)
        return x

    def ref(self, xp: ModuleType, *arrays: Array) -> Array:
        return xp.asarray(xp.conj(arrays[0]))

    def vjp(self, F: Functions, g: Any, y: Any, *xs: Value) -> tuple[Cotangent, ...]:
        return (F.conj(g),)


@op
class Modulus(_Part):
    """The absolute value."""

    samples = (
        sample(lambda x: F.abs(x), arg(("B", 3), "complex64")),
        sample(lambda x: F.abs(x), arg((2,), "complex64", values=(0.0, 3 + 4j)), gradient=()),
    )
    bad = _part_bad(lambda: Modulus())

    def ref(self, xp: ModuleType, *arrays: Array) -> Array:
        return xp.asarray(xp.abs(arrays[0]))

    def flops(self, of: Callable[[Value], Size], *types: Any) -> Size:
        return product((4, *types[0].shape))

    def vjp(self, F: Functions, g: Any, y: Any, *xs: Value) -> tuple[Cotangent, ...]:
        return (g * F.sign(xs[0]),)


@op
class Complex(Op):
    """x + iy."""

    takes_complex = True
    host = True
    samples = (
        sample(lambda x, y: F.complex(x, y), arg(("B", 3)), arg(("B", 3))),
        sample(lambda x, y: F.complex(x, y), arg(("B", 1)), arg((4,))),
        sample(lambda x: F.complex(x, 2), arg(("N",)), sizes={"N": 0}),
    )
    bad = (
        bad(lambda x: F.complex(x, x), arg((3,), "complex64"), error=DTypeError,
            match="complex: takes real numbers"),
        bad(lambda x, y: F.complex(x, y), arg((3,)), arg((4,)), match="cannot broadcast"),
    )  # fmt: skip

    def infer(self, x: TensorType, y: TensorType) -> TensorType:
        if is_complex(x.dtype) or is_complex(y.dtype):
            raise DTypeError("takes real numbers.", fix="x + 1j * y")
        shape = broadcast_shapes(x.shape, y.shape)
        return TensorType(complex_dtype(x.dtype), shape)

    def ref(self, xp: ModuleType, *arrays: Array) -> Array:
        x, y = arrays
        kind = numpy_dtype(complex_dtype(dtype_name(x.dtype)))
        found = xp.empty(np.broadcast_shapes(x.shape, y.shape), kind)
        found.real, found.imag = x, y
        return found

    def flops(self, of: Callable[[Value], Size], *types: Any) -> Size:
        return 0

    def vjp(self, F: Functions, g: Any, y: Any, *xs: Value) -> tuple[Cotangent, ...]:
        parts = (F.real(g), F.imag(g))
        return tuple(fit(F, F.cast(p, x.dtype), x) for p, x in zip(parts, xs))


@function_of
def real(x: Any) -> Value:
    """Give the real part; of real numbers these themselves.

    >>> real([1 + 2j]).eval().tolist()
    [1.0]
    """
    value = as_value(x)
    return make(Real(), value) if is_complex(value.dtype) else value


@function_of
def imag(x: Any) -> Value:
    """Give the imaginary part; of real numbers zeros.

    >>> imag([1 + 2j]).eval().tolist()
    [2.0]
    """
    value = as_value(x)
    return make(Imag(), value) if is_complex(value.dtype) else F.zeros_like(value)


@function_of
def modulus(x: Any) -> Value:
    """Give |x| of complex numbers; users call `abs`."""
    return make(Modulus(), as_value(x))


@function_of
def conj(x: Any) -> Value:
    """Give the conjugate x - iy of x + iy; of real numbers these themselves.

    >>> conj([1 + 2j]).eval().tolist()
    [(1-2j)]
    """
    value = as_value(x)
    if not is_complex(value.dtype):
        return value
    return value.inputs[0] if isinstance(value.op, Conj) else make(Conj(), value)


@function_of
def complex(real: Any, imag: Any) -> Value:
    """Make complex numbers of their parts: real + i imag; float64 gives complex128, else complex64.

    Raises `DTypeError` for complex parts, `ShapeError` for shapes that cannot be broadcast.

    >>> complex([1.0], [2.0]).eval().tolist()
    [(1+2j)]
    """
    return make(Complex(), *common("complex", real, imag, floating=True))


@composite(
    samples=[
        sample(lambda x: F.angle(x), arg(("B", 3), "complex64"), label="complex"),
        sample(lambda x: F.angle(x), arg((4,), low=0.5), gradient=(), label="real"),
    ],
)
def angle(x: Any) -> Value:
    """Give the angle of complex numbers in (-pi, pi]: atan2(imag, real).

    The gradient at 0 is NaN. Real numbers have the angles 0 and pi.

    >>> angle([1.0 + 0j]).eval().tolist()
    [0.0]
    """
    (value,) = common("angle", x, floating=True)
    return F.atan2(F.imag(value), F.real(value))
