"""Fourier transforms as users call them, their frequencies, and the order of their results.

`norm` says where the factor 1 / n stands: "backward" (the default, None) on the inverse, "forward"
on the other, "ortho" the square root of it on both.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from symgraph.dims import Dim, Size, equal, less_equal, maximum
from symgraph.errors import ArgumentError, DTypeError
from symgraph.graph.arguments import distinct_axes, no_device, normal_axes, normal_axis, plain_size
from symgraph.graph.dtypes import (
    complex_dtype,
    default_float,
    dtype_name,
    has_gradient,
    is_complex,
    is_float,
)
from symgraph.graph.leaves import as_value, cast_to
from symgraph.graph.node import Value, make
from symgraph.graph.registry import F, composite
from symgraph.graph.samples import Bad, Sample, arg, bad, sample
from symgraph.ops.fourier import NORMS, OTHER, Dft, InverseRealDft, RealDft

Axes = Sequence[int] | None


def _norm(name: str, norm: Any) -> str:
    if norm is None:
        return "backward"
    if norm not in NORMS:
        raise ArgumentError(
            f"{name}: norm must be one of {', '.join(NORMS)}, got {norm!r:.40}.", fix='norm="ortho"'
        )
    return str(norm)


def _count(name: str, n: Any) -> Size:
    number = plain_size(name, "the number of points", n)
    if not isinstance(number, Dim) and number < 1:
        raise ArgumentError(f"{name}: the number of points must be >= 1, got {number}.", fix="n=1")
    return number


def _plan(
    name: str, x: Value, s: Any, axes: Axes
) -> tuple[tuple[int, ...], tuple[Size | None, ...]]:
    """Give the axes of a transform and the number of points along each, None for all."""
    if axes is None:
        count = x.ndim if s is None else len(tuple(s))
        if count > x.ndim:
            raise ArgumentError(
                f"{name}: {count} numbers of points for {x.ndim} axes.",
                fix="give one for each axis",
            )
        chosen = tuple(range(x.ndim - count, x.ndim))
    else:
        chosen = distinct_axes(name, axes, x.ndim)
    sizes = (None,) * len(chosen) if s is None else tuple(s)
    if len(sizes) != len(chosen):
        raise ArgumentError(
            f"{name}: {len(sizes)} numbers of points for {len(chosen)} axes.",
            fix="give one for each axis",
        )
    return chosen, tuple(None if n is None else _count(name, n) for n in sizes)


def _resized(x: Value, axes: Sequence[int], sizes: Sequence[Size | None]) -> Value:
    """Cut axes, or add zeros at their ends, to numbers of points."""
    for axis, size in zip(axes, sizes):
        own = x.shape[axis]
        if size is None or equal(own, size) is True:
            continue
        if less_equal(size, own) is not True:
            widths = [(0, maximum(size - own, 0) if d == axis else 0) for d in range(x.ndim)]
            x = F.pad(x, widths)
        if less_equal(own, size) is not True:
            x = x[tuple(slice(0, size) if d == axis else slice(None) for d in range(x.ndim))]
    return x


def _floating(x: Any) -> Value:
    """Give a value as floats; what is a float or complex stays as it is."""
    value = as_value(x)
    return value if has_gradient(value.dtype) else cast_to(value, default_float())


def _whole(name: str, x: Any, s: Any, axes: Axes, norm: Any, inverse: bool) -> Value:
    value = _floating(x)
    chosen, sizes = _plan(name, value, s, axes)
    return make(Dft(chosen, _norm(name, norm), inverse), _resized(value, chosen, sizes))


def _forward(name: str, x: Any, s: Any, axes: Axes, norm: str) -> Value:
    value = _floating(x)
    if is_complex(value.dtype):
        raise DTypeError(
            f"{name}: takes real numbers, not {value.dtype}.",
            details=[value.describe()],
            fix="use fft, or real(x)",
        )
    chosen, sizes = _plan(name, value, s, axes)
    _some(name, chosen)
    return make(RealDft(chosen, norm), _resized(value, chosen, sizes))


def _backward(name: str, x: Any, s: Any, axes: Axes, norm: str) -> Value:
    value = _floating(x)
    value = cast_to(value, complex_dtype(value.dtype))
    chosen, sizes = _plan(name, value, s, axes)
    _some(name, chosen)
    last = sizes[-1] if sizes[-1] is not None else 2 * (value.shape[chosen[-1]] - 1)
    places = (*sizes[:-1], last // 2 + 1)
    return make(InverseRealDft(chosen, norm, last), _resized(value, chosen, places))


def _some(name: str, axes: Sequence[int]) -> None:
    if not axes:
        raise ArgumentError(f"{name}: needs at least one axis.", fix="name the axes")


def _one(name: str, x: Value, axis: Any) -> tuple[int]:
    return (normal_axis(name, axis, x.ndim),)


def _samples(name: str, dtype: str, *, several: bool) -> list[Sample]:
    def build(*args: Any, **options: Any) -> Callable[[Value], Value]:
        return lambda x: getattr(F, name)(x, *args, **options)

    if several:
        return [
            sample(build(), arg(("B", 4), dtype), label="all"),
            sample(build((4, 5), (2, 0), norm="ortho"), arg((3, "B", 6), dtype), label="resized"),
        ]
    return [
        sample(build(), arg(("B", 5), dtype), label="last"),
        sample(build(6, 0, norm="ortho"), arg((4, "B"), dtype), label="longer"),
        sample(build(5, norm="forward"), arg(("N",), dtype), sizes={"N": 9}, label="shorter"),
    ]


def _bad(name: str, dtype: str, *, several: bool) -> list[Bad]:
    def build(*args: Any, **options: Any) -> Callable[[Value], Value]:
        return lambda x: getattr(F, name)(x, *args, **options)

    cases = [
        bad(build(norm="all"), arg((3,), dtype), error=ArgumentError, match="norm must be one of"),
    ]
    if several:
        wrong = build((2, 2), (0,))
        cases.append(bad(wrong, arg((3,), dtype), error=ArgumentError, match="2 numbers of points"))
        return cases
    cases.append(bad(build(0), arg((3,), dtype), error=ArgumentError, match=f"{name}: .*>= 1"))
    cases.append(bad(build(axis=1), arg((3,), dtype), error=ArgumentError, match="axis 1"))
    return cases


C, R = "complex64", "float32"


@composite(samples=_samples("fft", C, several=False), bad=_bad("fft", C, several=False))
def fft(x: Any, n: Any = None, axis: int = -1, norm: str | None = None) -> Value:
    """Transform along an axis: y[k] = sum over j of x[j] exp(-2 pi i j k / n).

    With `n`, x is cut or filled up with zeros first. Integers become
    floats (`config.float_dtype`). Raises `ArgumentError` for a wrong n, axis or norm.

    >>> fft([1.0, 0.0, 0.0]).eval().tolist()
    [(1+0j), (1+0j), (1+0j)]
    """
    value = as_value(x)
    return _whole("fft", value, None if n is None else (n,), _one("fft", value, axis), norm, False)


@composite(samples=_samples("ifft", C, several=False), bad=_bad("ifft", C, several=False))
def ifft(x: Any, n: Any = None, axis: int = -1, norm: str | None = None) -> Value:
    """Invert `fft`: x[j] = (sum over k of y[k] exp(2 pi i j k / n)) / n; arguments as for `fft`."""
    value = as_value(x)
    return _whole("ifft", value, None if n is None else (n,), _one("ifft", value, axis), norm, True)


@composite(samples=_samples("fftn", C, several=True), bad=_bad("fftn", C, several=True))
def fftn(x: Any, s: Any = None, axes: Axes = None, norm: str | None = None) -> Value:
    """Transform along several axes, all by default (with `s`: the last len(s)).

    `s` has the number of points along each. Raises `ArgumentError` as `fft`.
    """
    return _whole("fftn", x, s, axes, norm, False)


@composite(samples=_samples("ifftn", C, several=True), bad=_bad("ifftn", C, several=True))
def ifftn(x: Any, s: Any = None, axes: Axes = None, norm: str | None = None) -> Value:
    """Invert `fftn`; arguments as there."""
    return _whole("ifftn", x, s, axes, norm, True)


@composite(
    samples=_samples("rfft", R, several=False),
    bad=[
        *_bad("rfft", R, several=False),
        bad(lambda x: F.rfft(x), arg((3,), C), error=DTypeError, match="rfft: takes real numbers"),
    ],
)
def rfft(x: Any, n: Any = None, axis: int = -1, norm: str | None = None) -> Value:
    """Transform real numbers: the first n // 2 + 1 places of `fft`; the others are conjugates.

    Arguments as for `fft`. Raises `DTypeError` for complex numbers.
    """
    value = as_value(x)
    own = _one("rfft", value, axis)
    return _forward("rfft", value, None if n is None else (n,), own, _norm("rfft", norm))


@composite(samples=_samples("irfft", C, several=False), bad=_bad("irfft", C, several=False))
def irfft(x: Any, n: Any = None, axis: int = -1, norm: str | None = None) -> Value:
    """Invert `rfft`, to n real numbers: by default 2 * (places - 1), which is even."""
    value = as_value(x)
    own = _one("irfft", value, axis)
    return _backward("irfft", value, None if n is None else (n,), own, _norm("irfft", norm))


@composite(samples=_samples("rfftn", R, several=True), bad=_bad("rfftn", R, several=True))
def rfftn(x: Any, s: Any = None, axes: Axes = None, norm: str | None = None) -> Value:
    """Transform real numbers along several axes: `rfft` along the last, `fft` along the others."""
    return _forward("rfftn", x, s, axes, _norm("rfftn", norm))


@composite(samples=_samples("irfftn", C, several=True), bad=_bad("irfftn", C, several=True))
def irfftn(x: Any, s: Any = None, axes: Axes = None, norm: str | None = None) -> Value:
    """Invert `rfftn`; the last of `s` is the number of real numbers along the last axis."""
    return _backward("irfftn", x, s, axes, _norm("irfftn", norm))


@composite(samples=_samples("hfft", C, several=False), bad=_bad("hfft", C, several=False))
def hfft(x: Any, n: Any = None, axis: int = -1, norm: str | None = None) -> Value:
    """Transform half of a signal that is its own conjugate backwards, to n real numbers.

    n is 2 * (places - 1) by default. Arguments as for `fft`.
    """
    value = F.conj(x)
    own, other = _one("hfft", value, axis), OTHER[_norm("hfft", norm)]
    return _backward("hfft", value, None if n is None else (n,), own, other)


@composite(samples=_samples("ihfft", R, several=False), bad=_bad("ihfft", R, several=False))
def ihfft(x: Any, n: Any = None, axis: int = -1, norm: str | None = None) -> Value:
    """Invert `hfft`: from real numbers to n // 2 + 1 places. Arguments as for `fft`."""
    value = as_value(x)
    own, other = _one("ihfft", value, axis), OTHER[_norm("ihfft", norm)]
    return F.conj(_forward("ihfft", value, None if n is None else (n,), own, other))


def _frequency_dtype(name: str, dtype: Any) -> str:
    found = default_float() if dtype is None else dtype_name(dtype)
    if not is_float(found):
        raise DTypeError(f"{name}: the dtype must be a float, not {found}.", fix='dtype="float32"')
    return found


def _scaled(places: Value, n: Size, d: Any, dtype: str) -> Value:
    return cast_to(places, dtype) / (F.size_of(n, dtype) * as_value(d, dtype))


@composite(
    samples=[
        sample(lambda x: F.fftfreq(x.shape[0]), arg(("N",)), gradient=(), label="even"),
        sample(lambda x: F.fftfreq(5, 0.25, dtype="float64"), arg((1,)), gradient=(), label="odd"),
    ],
    bad=[
        bad(lambda: F.fftfreq(0), error=ArgumentError, match="fftfreq: .*>= 1"),
        bad(lambda: F.fftfreq(3, dtype="int32"), error=DTypeError, match="must be a float"),
    ],
)
def fftfreq(n: Any, d: Any = 1.0, *, dtype: Any = None, device: Any = None) -> Value:
    """Give the frequencies of the places of `fft`: [0, 1, ..., -2, -1] / (n * d).

    `d` is the distance of the points; n may be a symbolic size. Raises `ArgumentError` for n < 1,
    `DTypeError` unless the dtype is a float.

    >>> fftfreq(4).eval().tolist()
    [0.0, 0.25, -0.5, -0.25]
    """
    no_device("fftfreq", device)
    count, kind = _count("fftfreq", n), _frequency_dtype("fftfreq", dtype)
    place, whole = F.arange(count), F.size_of(count)
    return _scaled(F.where(place * 2 < whole, place, place - whole), count, d, kind)


@composite(
    samples=[
        sample(lambda x: F.rfftfreq(x.shape[0]), arg(("N",)), gradient=(), label="even"),
        sample(lambda x: F.rfftfreq(5, 0.25), arg((1,)), gradient=(), label="odd"),
    ],
    bad=[bad(lambda: F.rfftfreq(0), error=ArgumentError, match="rfftfreq: .*>= 1")],
)
def rfftfreq(n: Any, d: Any = 1.0, *, dtype: Any = None, device: Any = None) -> Value:
    """Give the frequencies of the places of `rfft`: [0, 1, ..., n // 2] / (n * d).

    Raises as `fftfreq`.
    """
    no_device("rfftfreq", device)
    count, kind = _count("rfftfreq", n), _frequency_dtype("rfftfreq", dtype)
    return _scaled(F.arange(count // 2 + 1), count, d, kind)


def _turned(name: str, x: Any, axes: Any, back: bool) -> Value:
    value = as_value(x)
    for axis in normal_axes(name, axes, value.ndim):
        size = value.shape[axis]
        start = size // 2 if back else size - size // 2
        before = (slice(None),) * axis
        value = F.concat([value[(*before, slice(start, None))], value[(*before, slice(0, start))]],
                         axis=axis)  # fmt: skip
    return value


@composite(
    samples=[
        sample(lambda x: F.fftshift(x), arg(("B", 5)), label="all"),
        sample(lambda x: F.fftshift(x, axes=1), arg((2, 4), "int32"), label="one"),
    ],
    bad=[bad(lambda x: F.fftshift(x, 2), arg((2, 3)), error=ArgumentError, match="fftshift: axis")],
)
def fftshift(x: Any, axes: int | Axes = None) -> Value:
    """Move the frequency 0 to the middle of axes, all by default.

    Raises `ArgumentError` for a wrong axis.
    """
    return _turned("fftshift", x, axes, False)


@composite(
    samples=[
        sample(lambda x: F.ifftshift(x, axes=(0, 1)), arg((4, "N")), sizes={"N": 5}, label="all")
    ],
    bad=[bad(lambda x: F.ifftshift(x, 2), arg((2,)), error=ArgumentError, match="ifftshift: axis")],
)
def ifftshift(x: Any, axes: int | Axes = None) -> Value:
    """Undo `fftshift`. Raises `ArgumentError` for a wrong axis."""
    return _turned("ifftshift", x, axes, True)
