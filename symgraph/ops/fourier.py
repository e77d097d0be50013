"""Discrete Fourier transforms over axes; the functions that users call are in fourier_functions.

The transform is linear, so its gradient is the adjoint: a transform in the other direction, with
the factor of `norm` on the other side.
"""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any, ClassVar

from symgraph.dims import Dim, Size, product, require_equal, require_less_equal
from symgraph.errors import DTypeError
from symgraph.frozen import frozen
from symgraph.graph.dtypes import (
    complex_dtype,
    dtype_name,
    has_gradient,
    is_complex,
    is_float,
    numpy_dtype,
    real_dtype,
)
from symgraph.graph.node import Value, make
from symgraph.graph.op import Array, Cotangent, Op, op
from symgraph.graph.registry import Functions
from symgraph.graph.samples import arg, bad, sample
from symgraph.graph.scalar import widen
from symgraph.graph.types import TensorType

NORMS = ("backward", "ortho", "forward")
OTHER = {"backward": "forward", "ortho": "ortho", "forward": "backward"}
USUAL = 10  # what the binary logarithm of an unknown size is taken for


@frozen(eq=False, repr=False)
class Transform(Op):
    """What transforms share: axes, all different and not negative, and where the factor stands."""

    axes: tuple[int, ...]
    norm: str
    host: ClassVar[bool] = True
    takes_complex: ClassVar[bool] = True

    def compute(self, xp: ModuleType, x: Array) -> Array:
        """Let NumPy or CuPy transform."""
        raise NotImplementedError

    def ref(self, xp: ModuleType, *arrays: Array) -> Array:
        (x,) = arrays
        kind = self.infer(TensorType(dtype_name(x.dtype), x.shape)).dtype  # type: ignore[union-attr]
        found = self.compute(xp, widen(x)) if self.axes else xp.array(x)
        return xp.asarray(found).astype(numpy_dtype(kind), copy=False)

    def check(self, x: TensorType) -> None:
        """Raise `ShapeError` for an axis without elements."""
        for axis in self.axes:
            require_less_equal(1, x.shape[axis], f"axis {axis} of {{x}} must not be empty")

    def flops(self, of: Callable[[Value], Size], *types: Any) -> Size:
        # 5 n log2 n for each row, as is usual; half of it where one side is real
        shape = self._whole(types[0])
        logarithms = sum(
            USUAL if isinstance(shape[d], Dim) else (int(shape[d]) - 1).bit_length()
            for d in self.axes
        )
        count = 5 * product(shape) * logarithms
        return count if type(self) is Dft else count // 2

    def _whole(self, x: TensorType) -> tuple[Size, ...]:
        return tuple(x.shape)


@op
class Dft(Transform):
    """y[k] = sum over j of x[j] exp(-2 pi i j k / n) along axes; + instead of - with `inverse`."""

    inverse: bool
    samples = (
        sample(lambda x: make(Dft((1,), "backward", False), x), arg(("B", 4), "complex64")),
        sample(lambda x: make(Dft((0, 2), "ortho", False), x), arg((3, "B", 5), "complex64")),
        sample(lambda x: make(Dft((0,), "backward", True), x), arg((6,), "complex64")),
        sample(lambda x: make(Dft((1,), "forward", False), x), arg(("B", 3))),
        sample(
            lambda x: make(Dft((0,), "backward", False), x),
            arg(("N",), "complex64"),
            sizes={"N": 1000},
        ),
        sample(lambda x: make(Dft((1,), "backward", False), x), arg((0, 1), "complex64")),
    )
    bad = (
        bad(
            lambda x: make(Dft((0,), "ortho", False), x),
            arg((0,), "complex64"),
            match="dft: axis 0 .* must not be empty",
        ),
        bad(
            lambda x: make(Dft((0,), "ortho", False), x),
            arg((3,), "int32"),
            error=DTypeError,
            match="takes floats, not int32",
        ),
    )

    def infer(self, x: TensorType) -> TensorType:
        if not has_gradient(x.dtype):
            raise DTypeError(
                f"takes floats, not {x.dtype}.", fix='cast first, e.g. x.cast("float32")'
            )
        self.check(x)
        return x.with_dtype(complex_dtype(x.dtype))

    def compute(self, xp: ModuleType, x: Array) -> Array:
        transform = xp.fft.ifftn if self.inverse else xp.fft.fftn
        return transform(x, axes=self.axes, norm=self.norm)

    def vjp(self, F: Functions, g: Any, y: Any, *xs: Value) -> tuple[Cotangent, ...]:
        found = make(Dft(self.axes, OTHER[self.norm], not self.inverse), g)
        if is_complex(xs[0].dtype):
            return (found,)
        return (F.cast(F.real(found), xs[0].dtype),)


def _weights(F: Functions, size: Size, whole: Size, inner: float, dtype: str) -> Value:
    """Give 1 for what stands once in a spectrum of real numbers, `inner` for what stands twice."""
    place = F.arange(size)
    once = F.logical_or(F.equal(place, 0), F.equal(place * 2, F.size_of(whole)))
    return F.where(once, F.constant(1.0, dtype), F.constant(inner, dtype))


@op
class RealDft(Transform):
    """The transform of real numbers: along the last of the axes only the first n // 2 + 1 places.

    The others are their conjugates.
    """

    samples = (
        sample(lambda x: make(RealDft((1,), "backward"), x), arg(("B", 4))),
        sample(lambda x: make(RealDft((2, 0), "ortho"), x), arg((3, "B", 5))),
        sample(lambda x: make(RealDft((0,), "forward"), x), arg((5,))),
        sample(lambda x: make(RealDft((0,), "backward"), x), arg(("N",)), sizes={"N": 1000}),
        sample(lambda x: make(RealDft((1,), "backward"), x), arg((2, 1))),
    )
    bad = (
        bad(
            lambda x: make(RealDft((0,), "ortho"), x),
            arg((0,)),
            match="real_dft: axis 0 .*empty",
        ),
        bad(
            lambda x: make(RealDft((0,), "ortho"), x),
            arg((3,), "complex64"),
            error=DTypeError,
            match="takes real floats, not complex64",
        ),
    )

    def infer(self, x: TensorType) -> TensorType:
        if not is_float(x.dtype):
            raise DTypeError(f"takes real floats, not {x.dtype}.", fix="use fft, or real(x)")
        self.check(x)
        last = self.axes[-1]
        shape = (*x.shape[:last], x.shape[last] // 2 + 1, *x.shape[last + 1 :])
        return TensorType(complex_dtype(x.dtype), shape)

    def compute(self, xp: ModuleType, x: Array) -> Array:
        return xp.fft.rfftn(x, axes=self.axes, norm=self.norm)

    def vjp(self, F: Functions, g: Any, y: Any, *xs: Value) -> tuple[Cotangent, ...]:
        whole, last = xs[0].shape[self.axes[-1]], self.axes[-1]
        weights = _weights(F, y.shape[last], whole, 0.5, real_dtype(g.dtype))
        spread = F.reshape(weights, [-1 if d == last else 1 for d in range(y.ndim)])
        found = make(InverseRealDft(self.axes, OTHER[self.norm], whole), g * spread)
        return (F.cast(found, xs[0].dtype),)


@op
class InverseRealDft(Transform):
    """The inverse of `RealDft`, to `size` real numbers along the last of the axes."""

    size: Size
    samples = (
        sample(lambda x: make(InverseRealDft((1,), "backward", 4), x), arg(("B", 3), "complex64")),
        sample(lambda x: make(InverseRealDft((1, 0), "ortho", 5), x), arg((3, 2), "complex64")),
        sample(lambda x: make(InverseRealDft((0,), "forward", 5), x), arg((3,), "complex64")),
        sample(
            lambda x: make(InverseRealDft((0,), "backward", 2 * x.shape[0] - 2), x),
            arg(("N",), "complex64"),
            sizes={"N": 401},
        ),
        sample(lambda x: make(InverseRealDft((0,), "backward", 1), x), arg((1,), "complex64")),
    )
    bad = (
        bad(
            lambda x: make(InverseRealDft((0,), "ortho", 4), x),
            arg((2,), "complex64"),
            match="inverse_real_dft: axis 0 .* must have size // 2 . 1 places: 2 != 3",
        ),
        bad(
            lambda x: make(InverseRealDft((0,), "ortho", 4), x),
            arg((3,)),
            error=DTypeError,
            match="takes complex numbers, not float32",
        ),
    )

    def infer(self, x: TensorType) -> TensorType:
        if not is_complex(x.dtype):
            raise DTypeError(f"takes complex numbers, not {x.dtype}.", fix="cast first")
        self.check(x)
        last = self.axes[-1]
        require_less_equal(1, self.size, "the number of results must be >= 1")
        require_equal(
            x.shape[last],
            self.size // 2 + 1,
            f"axis {last} of {{x}} must have size // 2 + 1 places",
        )
        shape = (*x.shape[:last], self.size, *x.shape[last + 1 :])
        return TensorType(real_dtype(x.dtype), shape)

    def compute(self, xp: ModuleType, x: Array) -> Array:
        shape = [x.shape[d] for d in self.axes[:-1]] + [int(self.size)]
        return xp.fft.irfftn(x, s=shape, axes=self.axes, norm=self.norm)

    def _whole(self, x: TensorType) -> tuple[Size, ...]:
        last = self.axes[-1]
        return (*x.shape[:last], self.size, *x.shape[last + 1 :])

    def vjp(self, F: Functions, g: Any, y: Any, *xs: Value) -> tuple[Cotangent, ...]:
        last = self.axes[-1]
        found = make(RealDft(self.axes, OTHER[self.norm]), g)
        weights = _weights(F, xs[0].shape[last], self.size, 2.0, g.dtype)
        spread = F.reshape(weights, [-1 if d == last else 1 for d in range(found.ndim)])
        return (found * spread,)
