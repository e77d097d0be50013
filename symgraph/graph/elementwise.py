"""Elementwise operations: a body written once, and derivatives written by hand.

`tanh = scalar_op("tanh", lambda m, x: m.tanh(x), d=lambda m, x, y: 1 - y * y)` is a whole
operation: type rule, reference, gradient, index expression and formula follow. A body gets a math
namespace `m` and operands; a derivative gets `m`, the operands and the result `y`, and is used on
graph values. Half precisions compute in float32 and round once at the end.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from inspect import Parameter, Signature, signature
from types import ModuleType
from typing import Any, ClassVar

import numpy as np

from symgraph.dims import Size, broadcast_shapes
from symgraph.errors import ArgumentTypeError, DTypeError, ShapeError
from symgraph.frozen import frozen
from symgraph.graph.dtypes import (
    DType,
    dtype_name,
    has_gradient,
    is_complex,
    is_float,
    is_integer,
    numpy_dtype,
)
from symgraph.graph.index import Compute, axes, broadcast_load
from symgraph.graph.index import m as trace
from symgraph.graph.leaves import as_value, cast_to, common
from symgraph.graph.node import Value, make
from symgraph.graph.op import ZERO, Array, Cotangent, Op, op
from symgraph.graph.registry import Functions, function_of
from symgraph.graph.samples import Arg, Bad, Sample, sample
from symgraph.graph.samples import bad as bad_case
from symgraph.graph.scalar import NumpyMath, Scalar, SympyMath, compute_dtype, operands_of, widen
from symgraph.graph.types import TensorType, Type

Body = Callable[..., Any]
Range = tuple[float, float]


@frozen
class Pull:
    """A derivative given as the whole cotangent: `rule(m, g, *operands, y)`.

    For derivatives that are exactly zero somewhere: `where(c, g, 0)` is zero there also when `g`
    is infinite, and `g * 0` is not.
    """

    rule: Callable[..., Any]


def masked(condition: Callable[..., Any]) -> Pull:
    """Give the derivative that is 1 where `condition(m, *operands, y)` holds and 0 elsewhere."""
    return Pull(lambda m, g, *xs: m.select(condition(m, *xs), g, m.like(0, g)))


Derivative = Callable[..., Any] | Pull | int | None


class Elementwise(Op):
    """One result element from one element of each operand, with NumPy's broadcasting.

    `takes` tells which dtypes the operands may have (a key of `KINDS`), `result` what comes out:
    "same" or "bool". Subclasses with attributes override `run_body`, `pull_back`, `result_dtype`.
    """

    body: ClassVar[Body]
    derivatives: ClassVar[tuple[Derivative, ...]] = (None,)
    takes: ClassVar[str] = "float"
    result: ClassVar[str] = "same"
    latex: ClassVar[str | None] = None
    domain: ClassVar[tuple[Range, ...]] = ((-3.0, 3.0),)  # where samples are drawn
    numpys: ClassVar[str] = ""  # NumPy's function of complex numbers, where it is not the body

    def infer(self, *types: TensorType) -> Type:
        self.check_dtypes(types)
        shape = broadcast_shapes(*(type.shape for type in types))
        return TensorType(self.result_dtype([type.dtype for type in types]), shape)

    def check_dtypes(self, types: Sequence[TensorType]) -> None:
        """Raise `DTypeError` unless all operands have one dtype of the right kind."""
        if any(type.dtype != types[0].dtype for type in types):
            raise DTypeError(
                f"operands must have one dtype, got {', '.join(t.dtype for t in types)}.",
                fix="cast them to one dtype first",
            )
        if not (self.takes_complex and is_complex(types[0].dtype)):
            require_kind(self.takes, types[0].dtype)

    def result_dtype(self, dtypes: Sequence[DType]) -> DType:
        """Give the dtype of the result."""
        return "bool" if self.result == "bool" else dtypes[-1]

    def run_body(self, m: Any, *operands: Any) -> Any:
        """Apply the body; subclasses with attributes pass them on here."""
        return type(self).body(m, *operands)

    def ref(self, xp: ModuleType, *arrays: Array) -> Array:
        dtypes = [dtype_name(array.dtype) for array in arrays]
        wide = [widen(array) for array in arrays]
        with np.errstate(all="ignore"):
            if self.numpys and is_complex(dtypes[-1]):
                found = xp.asarray(getattr(xp, self.numpys)(*wide))
            else:
                found = xp.asarray(self.run_body(NumpyMath(xp), *wide))
            return found.astype(numpy_dtype(self.result_dtype(dtypes)), copy=False)

    def traced(self, dtypes: Sequence[DType]) -> Scalar:
        """Give the body as a scalar expression on operands of these dtypes."""
        return self._scalar(operands_of(dtypes), self.result_dtype(dtypes))

    def expand(self, F: Functions, *xs: Value) -> Compute:
        out = axes(broadcast_shapes(*(x.shape for x in xs)))
        loads = [broadcast_load(number, x.type, out) for number, x in enumerate(xs)]
        return Compute(out, self._scalar(loads, self.result_dtype([x.dtype for x in xs])))

    def _scalar(self, operands: Sequence[Scalar], result: DType) -> Scalar:
        wide = [trace.cast(one, compute_dtype(one.dtype)) for one in operands]
        found = self.run_body(trace, *wide)
        value = found if isinstance(found, Scalar) else trace.like(found, wide[0])
        return trace.cast(value, result)

    def vjp(self, F: Functions, g: Any, y: Any, *xs: Value) -> tuple[Cotangent, ...]:
        # built only where it is asked for: x ** 2 has no use for the logarithm of x
        return tuple(
            partial(self._pulled, F, number, g, y, xs) if has_gradient(x.dtype) else None
            for number, x in enumerate(xs)
        )

    def _pulled(
        self, F: Functions, number: int, g: Value, y: Value, xs: Sequence[Value]
    ) -> Cotangent:
        if is_complex(xs[number].dtype):
            # derivatives are written without conjugation, and these functions are holomorphic
            cotangent = self.pull_back(GraphMath(F), number, F.conj(g), y, xs)
            cotangent = F.conj(cotangent) if isinstance(cotangent, Value) else cotangent
        else:
            cotangent = self.pull_back(GraphMath(F), number, g, y, xs)
        return fit(F, cotangent, xs[number]) if isinstance(cotangent, Value) else cotangent

    def pull_back(
        self, m: GraphMath, number: int, g: Value, y: Value, xs: Sequence[Value]
    ) -> Cotangent:
        """Give the cotangent of one operand, of the shape of the result."""
        derivative = self.derivatives[number]
        if derivative is None:
            return None
        if isinstance(derivative, int):
            return g if derivative == 1 else -g if derivative == -1 else ZERO
        if isinstance(derivative, Pull):
            return derivative.rule(m, g, *xs, y)
        return g * derivative(m, *xs, y)

    def formula(self, *symbols: Any) -> Any:
        """Give the body as a SymPy expression."""
        return self.run_body(SympyMath(), *symbols)


KINDS = {
    "float": "floats", "number": "numbers", "integer": "integers", "bool": "bools",
    "bits": "integers or bools", "any": "any dtype",
}  # fmt: skip
FIXES = {
    "float": 'cast first, e.g. x.cast("float32")',
    "number": 'cast first, e.g. x.cast("int32"); bools have &, | and ~',
    "integer": 'cast first, e.g. x.cast("int32")',
    "bool": "compare first, e.g. x != 0",
    "bits": 'cast first, e.g. x.cast("int32")',
    "any": "",
}


def accepts(kind: str, dtype: DType) -> bool:
    """Tell whether a kind of operation takes a dtype."""
    if kind == "any":
        return True
    if is_complex(dtype):
        return False
    if kind == "bool" or dtype == "bool":
        return dtype == "bool" and kind in ("bool", "bits")
    if kind == "float":
        return is_float(dtype)
    return kind == "number" or not is_float(dtype)


def require_kind(kind: str, dtype: DType) -> None:
    """Raise `DTypeError` unless a kind of operation takes a dtype."""
    if not accepts(kind, dtype):
        raise DTypeError(f"takes {KINDS[kind]}, not {dtype}.", fix=FIXES[kind])


def fit(F: Functions, cotangent: Value, x: Value) -> Value:
    """Sum a cotangent over the axes along which `x` was broadcast.

    An axis was broadcast where `x` lacks it or has 1 and the result has not.
    """
    lead = cotangent.ndim - x.ndim
    over = [
        axis
        for axis in range(cotangent.ndim)
        if axis < lead or (_one(x.shape[axis - lead]) and not _one(cotangent.shape[axis]))
    ]
    if over:
        cotangent = F.sum(cotangent, axis=tuple(over), keepdims=True)
    shape = tuple(x.shape)
    return cotangent if cotangent.ndim == x.ndim else F.reshape(cotangent, shape)


def _one(size: Size) -> bool:
    return isinstance(size, int) and size == 1


class GraphMath:
    """The math namespace of graph values, in which derivatives are written."""

    _NAMES: ClassVar[dict[str, str]] = {
        "add": "add", "sub": "subtract", "mul": "multiply", "div": "divide", "max": "maximum",
        "min": "minimum", "select": "where", "neg": "negative", "eq": "equal", "ne": "not_equal",
        "lt": "less", "le": "less_equal", "gt": "greater", "ge": "greater_equal",
        "and": "logical_and", "or": "logical_or", "not": "logical_not", "rint": "round",
    }  # fmt: skip

    def __init__(self, F: Functions) -> None:
        self._functions = F

    def __getattr__(self, name: str) -> Callable[..., Value]:
        plain = name.rstrip("_")
        build: Callable[..., Value] = getattr(self._functions, self._NAMES.get(plain, plain))
        return build

    def like(self, value: float, sibling: Value) -> Value:
        """Make a literal of a sibling's dtype."""
        return self._functions.constant(value, sibling.dtype)


def scalar_op(
    name: str,
    body: Body,
    *,
    d: Derivative | tuple[Derivative, ...] = None,
    takes: str = "float",
    result: str = "same",
    latex: str | None = None,
    doc: str = "",
    domain: Range | tuple[Range, ...] = (-3.0, 3.0),
    samples: Sequence[Sample] = (),
    bad: Sequence[Bad] = (),
    integers: str = "convert",
    commutes: bool = False,
    view: bool = False,
    complex: bool | str = False,
    of_complex: Callable[..., Value] | None = None,
) -> Callable[..., Value]:
    """Define an elementwise operation in one line and give the function that builds it.

    `d` has one derivative for each operand: a function of (m, *operands, y), a `Pull`, 0 (zero
    almost everywhere), 1 or -1, or None (no gradient). `domain` is where samples are drawn, one
    range for each operand; `latex` a template such as `r"\\tanh {0}"`. `integers="keep"` gives an
    integer operand back as it is, where the operation does nothing to whole numbers; `commutes`
    says that two operands may be exchanged (of two zeros max and min may then give the other),
    `view` that the operand comes back as it is. `complex` says that operands may be complex, or
    names NumPy's function for them; the derivative must hold for them too: it is a function of x,
    not of conj(x). `of_complex` builds what comes instead of the operation for complex operands.
    """
    names = list(signature(body).parameters)[1:]
    derivatives = d if isinstance(d, tuple) else (d,) * len(names)
    ranges = domain if isinstance(domain[0], tuple) else (domain,) * len(names)
    members = {
        "name": name,
        "body": staticmethod(body),
        "derivatives": derivatives,
        "result": result,
        "takes": takes,
        "latex": latex,
        "domain": ranges,
        "commutes": commutes,
        "view": view,
        "takes_complex": bool(complex),
        "numpys": complex if isinstance(complex, str) else "",
        "__doc__": doc,
        "__module__": body.__module__,
    }
    made: type[Elementwise] = op(type(name.title().replace("_", ""), (Elementwise,), members))
    the_op = made()

    def build(*operands: Any) -> Value:
        if len(operands) != len(names):
            raise ArgumentTypeError(
                f"{name}: takes {len(names)} operands ({', '.join(names)}), got {len(operands)}."
            )
        if takes == "bool":
            return make(the_op, *(cast_to(as_value(operand), "bool") for operand in operands))
        values = common(name, *operands)
        if of_complex is not None and is_complex(values[0].dtype):
            return of_complex(*values)
        if integers == "keep" and is_integer(values[0].dtype):
            return values[0]
        return make(the_op, *(common(name, *values, floating=True) if takes == "float" else values))

    build.__name__ = build.__qualname__ = name
    build.__doc__ = doc
    build.__module__ = body.__module__
    parameters = [Parameter(each, Parameter.POSITIONAL_ONLY, annotation=Any) for each in names]
    build.__signature__ = Signature(parameters, return_annotation=Value)  # type: ignore[attr-defined]
    gradient = tuple(slot for slot, derivative in enumerate(derivatives) if derivative is not None)
    made.samples = tuple(samples) or standard_samples(build, takes, ranges, gradient)
    if complex:
        made.samples = (*made.samples, complex_sample(build, ranges, gradient))
    made.bad = (*standard_bad(build, takes, len(names)), *bad)
    return function_of(build)


_SAMPLE_DTYPES = {
    "float": ("float32",), "number": ("float32", "int32", "uint8"), "integer": ("int32", "uint8"),
    "bool": ("bool",), "bits": ("int32", "uint8", "bool"), "any": ("float32", "int32", "bool"),
}  # fmt: skip


def standard_samples(
    build: Callable[..., Any], takes: str, ranges: Sequence[Range], gradient: tuple[int, ...]
) -> tuple[Sample, ...]:
    """Make the samples every elementwise operation has: each kind of dtype, broadcasting, a scalar.

    The named size stands for any size: tests of elementwise operations run it at many.
    """

    def of(label: str, dtype: str, shapes: Sequence[tuple[int | str, ...]]) -> Sample:
        args = [Arg(shape, dtype, *area) for shape, area in zip(shapes, ranges)]
        checked = gradient if is_float(dtype) else ()
        return sample(build, *args, label=label, gradient=checked)

    count = len(ranges)
    made = [of(dtype, dtype, [("B", 4)] * count) for dtype in _SAMPLE_DTYPES[takes]]
    made.append(of("scalar", _SAMPLE_DTYPES[takes][0], [()] * count))
    if count > 1:
        spread: list[tuple[int | str, ...]] = [("B", 1), (4,), (2, 1, 1)]
        made.append(of("broadcast", _SAMPLE_DTYPES[takes][0], spread[:count]))
    return tuple(made)


def complex_sample(
    build: Callable[..., Any], ranges: Sequence[Range], gradient: tuple[int, ...]
) -> Sample:
    """Make the sample of operations that take complex numbers."""
    args = [Arg(("B", 3), "complex64", *area) for area in ranges]
    return sample(build, *args, label="complex", gradient=gradient)


def standard_bad(build: Callable[..., Any], takes: str, count: int) -> tuple[Bad, ...]:
    """Make the error cases that every elementwise operation of a kind has."""
    cases = []
    good = _SAMPLE_DTYPES[takes][0]
    wrong = {"number": "bool", "bits": "float32", "integer": "float32"}.get(takes)
    if wrong is not None:
        args = [Arg((3,), wrong)] * count
        cases.append(bad_case(build, *args, error=DTypeError, match=f"takes .*not {wrong}"))
    if count > 1:
        args = [Arg((2, 3), good)] * (count - 1) + [Arg((4,), good)]
        cases.append(bad_case(build, *args, error=ShapeError, match="cannot broadcast .*3 != 4"))
    return tuple(cases)
