"""Operators, methods and protocols of symbolic values; each is one call of a registered function.

NumPy functions on a symbolic value (`np.sin(x)`, `np.sum(x, axis=0)`) build graph as well.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from inspect import signature
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np

from symgraph.errors import ArgumentError, ArgumentTypeError, UndecidedError
from symgraph.graph.arguments import no_device
from symgraph.graph.at import At
from symgraph.graph.registry import FUNCTIONS, apply

if TYPE_CHECKING:
    from symgraph.graph.node import Value

Axis = int | Sequence[int] | None
VERSIONS = ("2021.12", "2022.12", "2023.12", "2024.12")  # of the array API

# NumPy's name -> ours, where they differ
NUMPY_NAMES = {
    "true_divide": "divide", "power": "pow", "absolute": "abs", "mod": "remainder",
    "invert": "bitwise_invert", "left_shift": "bitwise_left_shift",
    "right_shift": "bitwise_right_shift", "rint": "round", "amax": "max", "amin": "min",
    "arcsin": "asin", "arccos": "acos", "arctan": "atan", "arctan2": "atan2",
    "arcsinh": "asinh", "arccosh": "acosh", "arctanh": "atanh", "concatenate": "concat",
    "transpose": "permute_dims", "ravel": "flatten", "conjugate": "conj",
    "cumsum": "cumulative_sum", "cumprod": "cumulative_prod", "radians": "deg2rad",
    "degrees": "rad2deg", "fabs": "abs",
}  # fmt: skip
# NumPy's keywords -> ours, where they differ
_NUMPY_KEYWORDS = {
    "ddof": "correction",
    "a_min": "low",
    "a_max": "high",
    "min": "low",
    "max": "high",
}


class TensorMethods:
    """What a symbolic value can do; `Value` inherits it."""

    __slots__ = ()

    # fmt: off
    def __add__(self, other: Any) -> Value: return apply("add", self, other)
    def __radd__(self, other: Any) -> Value: return apply("add", other, self)
    def __sub__(self, other: Any) -> Value: return apply("subtract", self, other)
    def __rsub__(self, other: Any) -> Value: return apply("subtract", other, self)
    def __mul__(self, other: Any) -> Value: return apply("multiply", self, other)
    def __rmul__(self, other: Any) -> Value: return apply("multiply", other, self)
    def __truediv__(self, other: Any) -> Value: return apply("divide", self, other)
    def __rtruediv__(self, other: Any) -> Value: return apply("divide", other, self)
    def __floordiv__(self, other: Any) -> Value: return apply("floor_divide", self, other)
    def __rfloordiv__(self, other: Any) -> Value: return apply("floor_divide", other, self)
    def __mod__(self, other: Any) -> Value: return apply("remainder", self, other)
    def __rmod__(self, other: Any) -> Value: return apply("remainder", other, self)
    def __pow__(self, other: Any) -> Value: return apply("pow", self, other)
    def __rpow__(self, other: Any) -> Value: return apply("pow", other, self)
    def __matmul__(self, other: Any) -> Value: return apply("matmul", self, other)
    def __rmatmul__(self, other: Any) -> Value: return apply("matmul", other, self)
    def __neg__(self) -> Value: return apply("negative", self)
    def __pos__(self) -> Value: return apply("positive", self)
    def __abs__(self) -> Value: return apply("abs", self)
    def __and__(self, other: Any) -> Value: return apply("bitwise_and", self, other)
    def __rand__(self, other: Any) -> Value: return apply("bitwise_and", other, self)
    def __or__(self, other: Any) -> Value: return apply("bitwise_or", self, other)
    def __ror__(self, other: Any) -> Value: return apply("bitwise_or", other, self)
    def __xor__(self, other: Any) -> Value: return apply("bitwise_xor", self, other)
    def __rxor__(self, other: Any) -> Value: return apply("bitwise_xor", other, self)
    def __invert__(self) -> Value: return apply("bitwise_invert", self)
    def __lshift__(self, other: Any) -> Value: return apply("bitwise_left_shift", self, other)
    def __rlshift__(self, other: Any) -> Value: return apply("bitwise_left_shift", other, self)
    def __rshift__(self, other: Any) -> Value: return apply("bitwise_right_shift", self, other)
    def __rrshift__(self, other: Any) -> Value: return apply("bitwise_right_shift", other, self)
    def __eq__(self, other: Any) -> Value: return apply("equal", self, other)  # type: ignore[override]
    def __ne__(self, other: Any) -> Value: return apply("not_equal", self, other)  # type: ignore[override]
    def __lt__(self, other: Any) -> Value: return apply("less", self, other)
    def __le__(self, other: Any) -> Value: return apply("less_equal", self, other)
    def __gt__(self, other: Any) -> Value: return apply("greater", self, other)
    def __ge__(self, other: Any) -> Value: return apply("greater_equal", self, other)
    def __getitem__(self, key: Any) -> Value: return apply("index", self, key)
    def __divmod__(self, other: Any) -> tuple[Value, Value]: return self // other, self % other
    def __rdivmod__(self, other: Any) -> tuple[Value, Value]: return other // self, other % self
    # fmt: on

    __hash__ = object.__hash__

    @property
    def T(self) -> Value:  # noqa: N802 - NumPy's name
        """The transpose: all axes reversed."""
        return apply("permute_dims", self, None)

    @property
    def mT(self) -> Value:  # noqa: N802 - NumPy's name
        """The transposes of all matrices in a stack: the last two axes exchanged."""
        return apply("matrix_transpose", self)

    @property
    def device(self) -> None:
        """None: what a function runs on is said when it is compiled. The array API asks for it."""

    def to_device(self, device: Any, /, *, stream: Any = None) -> Value:
        """Give the value itself; raises `ArgumentError` for any device but None."""
        no_device("to_device", device)
        value: Any = self
        found: Value = value
        return found

    def __array_namespace__(self, /, *, api_version: str | None = None) -> ModuleType:
        """Give `symgraph`, so that a function written for the array API builds graph of values.

        >>> import symgraph as sg
        >>> sg.vector("x").__array_namespace__() is sg
        True
        """
        if api_version is not None and api_version not in VERSIONS:
            raise ArgumentError(
                f"__array_namespace__: there is no version {api_version!r:.40} here.",
                fix=f"one of {', '.join(VERSIONS)}",
            )
        return sys.modules[__name__.partition(".")[0]]

    @property
    def at(self) -> At:
        """Places by a key: `x.at[key].set(v)` is a new value with these elements changed.

        >>> import symgraph as sg
        >>> sg.constant([1, 2, 3]).at[[0, 2, 0]].add(1).eval().tolist()
        [3, 2, 4]
        """
        value: Any = self
        return At(value)

    @property
    def real(self) -> Value:
        """The real part."""
        return apply("real", self)

    @property
    def imag(self) -> Value:
        """The imaginary part; zeros for real numbers."""
        return apply("imag", self)

    def conj(self) -> Value:
        """Conjugate; real numbers stay as they are."""
        return apply("conj", self)

    def sum(self, axis: Axis = None, *, keepdims: bool = False) -> Value:
        """Sum over axes (all of them by default)."""
        return apply("sum", self, axis, keepdims=keepdims)

    def prod(self, axis: Axis = None, *, keepdims: bool = False) -> Value:
        """Multiply over axes."""
        return apply("prod", self, axis, keepdims=keepdims)

    def mean(self, axis: Axis = None, *, keepdims: bool = False) -> Value:
        """Average over axes."""
        return apply("mean", self, axis, keepdims=keepdims)

    def var(self, axis: Axis = None, *, correction: float = 0, keepdims: bool = False) -> Value:
        """Variance over axes, divided by (count - correction)."""
        return apply("var", self, axis, correction=correction, keepdims=keepdims)

    def std(self, axis: Axis = None, *, correction: float = 0, keepdims: bool = False) -> Value:
        """Standard deviation over axes."""
        return apply("std", self, axis, correction=correction, keepdims=keepdims)

    def max(self, axis: Axis = None, *, keepdims: bool = False) -> Value:
        """Largest over axes; a NaN wins."""
        return apply("max", self, axis, keepdims=keepdims)

    def min(self, axis: Axis = None, *, keepdims: bool = False) -> Value:
        """Smallest over axes; a NaN wins."""
        return apply("min", self, axis, keepdims=keepdims)

    def argmax(self, axis: int | None = None, *, keepdims: bool = False) -> Value:
        """Position of the first largest element along an axis."""
        return apply("argmax", self, axis, keepdims=keepdims)

    def argmin(self, axis: int | None = None, *, keepdims: bool = False) -> Value:
        """Position of the first smallest element along an axis."""
        return apply("argmin", self, axis, keepdims=keepdims)

    def argsort(self, axis: int = -1, *, descending: bool = False) -> Value:
        """Positions of the elements along an axis in order."""
        return apply("argsort", self, axis, descending=descending)

    def cumsum(self, axis: int | None = None, *, dtype: Any = None) -> Value:
        """Running sum along an axis (NumPy's name for `cumulative_sum`)."""
        return apply("cumulative_sum", self, axis, dtype=dtype)

    def cumprod(self, axis: int | None = None, *, dtype: Any = None) -> Value:
        """Running product along an axis (NumPy's name for `cumulative_prod`)."""
        return apply("cumulative_prod", self, axis, dtype=dtype)

    def any(self, axis: Axis = None, *, keepdims: bool = False) -> Value:
        """Whether any element is true (not zero)."""
        return apply("any", self, axis, keepdims=keepdims)

    def all(self, axis: Axis = None, *, keepdims: bool = False) -> Value:
        """Whether all elements are true (not zero)."""
        return apply("all", self, axis, keepdims=keepdims)

    def reshape(self, *shape: Any) -> Value:
        """Give the same elements another shape; one size may be -1."""
        sizes = shape[0] if len(shape) == 1 and isinstance(shape[0], tuple | list) else shape
        return apply("reshape", self, tuple(sizes))

    def squeeze(self, axis: Axis = None) -> Value:
        """Remove axes of size 1."""
        return apply("squeeze", self, axis)

    def swapaxes(self, axis1: int, axis2: int) -> Value:
        """Exchange two axes."""
        return apply("swapaxes", self, axis1, axis2)

    def take(self, indices: Any, axis: int = 0) -> Value:
        """Select along an axis by integers."""
        return apply("take", self, indices, axis)

    def nonzero(self) -> tuple[Value, ...]:
        """Positions of the elements that are not zero, a vector for each axis."""
        found: Any = apply("nonzero", self)
        return tuple(found)

    def repeat(self, repeats: Any, axis: int | None = None) -> Value:
        """Give each element along an axis several times."""
        return apply("repeat", self, repeats, axis)

    def diagonal(self, offset: int = 0, axis1: int = 0, axis2: int = 1) -> Value:
        """Take the diagonal of two axes."""
        return apply("diagonal", self, offset, axis1, axis2)

    def trace(self, offset: int = 0, axis1: int = 0, axis2: int = 1) -> Value:
        """Add up the diagonal of two axes."""
        return apply("trace", self, offset, axis1, axis2)

    def round(self) -> Value:
        """Round to the nearest whole number, halves to the even one."""
        return apply("round", self)

    def flatten(self, start: int = 0, stop: int = -1) -> Value:
        """Join the axes from `start` to `stop` (inclusive) into one."""
        return apply("flatten", self, start, stop)

    def transpose(self, *axes: Any) -> Value:
        """Permute the axes; without arguments reverse them."""
        order = axes[0] if len(axes) == 1 and not isinstance(axes[0], int) else axes or None
        return apply("permute_dims", self, order)

    def cast(self, dtype: Any) -> Value:
        """Convert to another dtype."""
        return apply("cast", self, dtype)

    def astype(self, dtype: Any) -> Value:
        """Convert to another dtype (NumPy's name for `cast`)."""
        return apply("cast", self, dtype)

    def clip(self, low: Any = None, high: Any = None) -> Value:
        """Limit to [low, high]; None leaves a side open."""
        return apply("clip", self, low, high)

    def eval(self, feeds: Any = None, /, **named: Any) -> Any:
        """Compute this value now; feeds map inputs to arrays, or give inputs by name.

        >>> import symgraph as sg
        >>> x = sg.vector("x")
        >>> float((x * x).sum().eval(x=[1, 2, 3]))
        14.0
        """
        return apply("eval", self, feeds, **named)

    # -- protocols -----------------------------------------------------------------------------

    def __len__(self) -> int:
        value: Any = self
        if not value.shape:
            raise ArgumentTypeError(
                f"len: `{value.label}` is a scalar: it has no length and no elements.",
                details=[value.describe()],
            )
        if not isinstance(value.shape[0], int):
            raise UndecidedError(
                f"len: the first size of `{value.label}` is symbolic: {value.shape[0]}.",
                details=[value.describe()],
                fix="x.shape[0] is the size; iterate over axes of known size only",
            )
        return value.shape[0]

    def __iter__(self) -> Iterator[Value]:
        return iter([self[i] for i in range(len(self))])

    def __contains__(self, element: Any) -> bool:
        value: Any = self
        raise ArgumentTypeError(
            f"in: whether `{value.label}` contains a number is not known before it is computed.",
            details=[value.describe()],
            fix="use sg.any(x == number), a symbolic bool",
        )

    def __round__(self, digits: int | None = None) -> Value:
        if digits:
            raise ArgumentTypeError(
                f"round: only to whole numbers, not to {digits} digits.",
                fix=f"round(x * 10**{digits}) / 10**{digits}",
            )
        return apply("round", self)

    def __setitem__(self, key: Any, new: Any) -> None:
        value: Any = self
        raise ArgumentTypeError(
            f"assignment: `{value.label}` is a value of a graph and never changes.",
            details=[value.describe()],
            fix="x = x.at[key].set(new) is a new value with these elements changed",
        )

    def __bool__(self) -> bool:
        value: Any = self
        raise ArgumentTypeError(
            "bool: a symbolic value is neither true nor false while the graph is built.",
            details=[value.describe()],
            fix="use sg.where(condition, a, b); `is` compares identity; x.eval() gives numbers",
        )

    def _no_number(self, kind: str) -> ArgumentTypeError:
        value: Any = self
        return ArgumentTypeError(
            f"{kind}: `{value.label}` is symbolic and has no number yet.",
            details=[value.describe()],
            fix="x.eval(...) gives numbers; sg.stack joins values; sg.take(array, x) picks by them",
        )

    def __float__(self) -> float:
        raise self._no_number("float")

    def __int__(self) -> int:
        raise self._no_number("int")

    def __index__(self) -> int:
        raise self._no_number("index")

    def __array__(self, *args: Any, **options: Any) -> Any:
        raise self._no_number("array")

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *args: Any, **options: Any) -> Any:
        name = NUMPY_NAMES.get(ufunc.__name__, ufunc.__name__)
        if method != "__call__" or options or name not in FUNCTIONS or ufunc.nout > 1:
            raise ArgumentTypeError(
                f"numpy.{ufunc.__name__}: has no symbolic form for this call "
                f"(method {method}, options {sorted(options)}).",
                fix="see symgraph.F for the functions there are",
            )
        return apply(name, *args)

    def __array_function__(
        self, function: Callable[..., Any], types: Any, args: Any, options: Any
    ) -> Any:
        plain = function.__name__
        if function in (np.shape, np.ndim, np.size) and len(args) == 1 and not options:
            return getattr(args[0], plain)
        name = NUMPY_NAMES.get(plain, plain)
        homes = (np, np.linalg, np.fft)
        if name not in FUNCTIONS or all(getattr(o, plain, None) is not function for o in homes):
            raise ArgumentTypeError(
                f"numpy.{plain}: has no symbolic form.",
                fix="see symgraph.F for the functions there are",
            )
        if function is np.take and len(args) == 2 and options.get("axis") is None:
            # NumPy flattens without an axis, the array API has none for vectors only
            args, options = (apply("flatten", args[0]), args[1]), {"axis": 0}
        named = {_NUMPY_KEYWORDS.get(key, key): value for key, value in options.items()}
        build = FUNCTIONS[name]
        try:
            signature(build).bind(*args, **named)
        except TypeError as problem:
            raise ArgumentTypeError(
                f"numpy.{plain}: has no symbolic form for these arguments: {problem}.",
                fix=f"call sg.F.{name}, see its documentation",
            ) from None
        return build(*args, **named)

    def _repr_html_(self) -> str:
        return str(apply("to_html", self))

    def _repr_latex_(self) -> str:
        return rf"$\displaystyle {apply('latex', self)}$"
