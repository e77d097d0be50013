"""`Array`: what holds an expression and computes it when its numbers are asked for."""

from __future__ import annotations

import operator
from collections.abc import Iterator
from types import ModuleType
from typing import Any, NoReturn

import numpy as np

from symgraph.array_api.cell import Cell, cell_of
from symgraph.array_api.dtype import DType
from symgraph.array_api.kinds import (
    ANY,
    BITS,
    FLOAT,
    INT,
    NUM,
    REAL,
    is_scalar,
    meet,
    meet_scalar,
    require,
)  # fmt: skip
from symgraph.errors import ArgumentError, ArgumentTypeError, DTypeError, ShapeError
from symgraph.graph.dsl import VERSIONS
from symgraph.graph.leaves import constant
from symgraph.graph.node import Value
from symgraph.graph.registry import apply

DEVICE = "cpu"
LEFT, RIGHT = "bitwise_left_shift", "bitwise_right_shift"
namespaces: list[ModuleType] = []  # the package, which puts itself here once it is complete


class Array:
    """An array of the array API: an expression whose numbers are computed when asked for.

    Made by the functions of `symgraph.array_api`. Changing it (`x[0] = 1`, `x += 1`) gives it
    another expression; what was made of it before stays as it was, as there are no views.

    >>> import symgraph.array_api as xp
    >>> x = xp.asarray([1.0, 2.0, 3.0])
    >>> x[0] = 5.0
    >>> float(xp.sum(x * 2.0))
    20.0
    """

    __slots__ = ("__weakref__", "_cell")
    __array_ufunc__ = None  # operators of NumPy's arrays leave the answer to ours
    __hash__ = None  # type: ignore[assignment] # it can be changed

    _cell: Cell

    def __init__(self, *args: Any, **options: Any) -> None:
        raise ArgumentTypeError(
            "Array: is not made by calling it.", fix="xp.asarray(numbers), xp.zeros(shape)"
        )

    # -- what it is ----------------------------------------------------------------------------

    @property
    def expression(self) -> Value:
        """The expression as a value of the graph: to draw it, derive it, or build on it."""
        return self._cell.value

    @property
    def is_computed(self) -> bool:
        """Whether the numbers are known already."""
        return self._cell.is_computed

    @property
    def dtype(self) -> DType:
        """The dtype: `xp.float32`, which equals its name."""
        return DType(self._cell.dtype)

    @property
    def device(self) -> str:
        """Where the numbers are: always "cpu"."""
        return DEVICE

    @property
    def shape(self) -> tuple[int, ...]:
        """The sizes of all axes."""
        return self._cell.shape

    @property
    def ndim(self) -> int:
        """The number of axes."""
        return len(self._cell.shape)

    @property
    def size(self) -> int:
        """The number of elements."""
        return int(np.prod(self._cell.shape, dtype=np.int64))

    @property
    def T(self) -> Array:  # noqa: N802 - the standard's name
        """The transpose of a matrix; raises `ShapeError` unless there are two axes."""
        if self.ndim != 2:
            raise ShapeError(
                f"T: takes matrices, this array has {self.ndim} axes.",
                fix="x.mT for stacks of matrices, xp.permute_dims for others",
            )
        return call("permute_dims", self, (1, 0))

    @property
    def mT(self) -> Array:  # noqa: N802 - the standard's name
        """The transposes of all matrices of a stack; raises `ShapeError` below two axes."""
        return call("matrix_transpose", self)

    # -- numbers -------------------------------------------------------------------------------

    def _number(self, kind: str, takes: str) -> Any:
        if self.ndim:
            raise ArgumentTypeError(
                f"{kind}: takes arrays without axes, this one has shape {self.shape}.",
                fix="select an element first: x[0]",
            )
        require(kind, takes, self.dtype)
        return self._cell.numbers.item()

    def __bool__(self) -> bool:
        return bool(self._number("bool", ANY))

    def __int__(self) -> int:
        found = self._number("int", ANY)
        if isinstance(found, complex):
            raise DTypeError("int: takes real-valued arrays.", fix="xp.real(x) first")
        return int(found)

    def __float__(self) -> float:
        found = self._number("float", ANY)
        if isinstance(found, complex):
            raise DTypeError("float: takes real-valued arrays.", fix="xp.real(x) first")
        return float(found)

    def __complex__(self) -> complex:
        return complex(self._number("complex", ANY))

    def __index__(self) -> int:
        return int(self._number("index", INT))

    def __len__(self) -> int:
        if not self.ndim:
            raise ArgumentTypeError("len: an array without axes has no length.")
        return self.shape[0]

    def __iter__(self) -> Iterator[Array]:
        return iter([self[place] for place in range(len(self))])

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray[Any, Any]:
        """Give the numbers to NumPy: a view that cannot be written into, unless it is a copy."""
        return np.array(self._cell.numbers, dtype, copy=copy)

    def __copy__(self) -> Array:
        return again(self)

    def __deepcopy__(self, memo: dict[int, Any]) -> Array:
        return again(self)

    def __reduce__(self) -> tuple[Any, ...]:
        return of_numbers, (self._cell.numbers,)

    def __dlpack__(
        self,
        *,
        stream: Any = None,
        max_version: tuple[int, int] | None = None,
        dl_device: tuple[int, int] | None = None,
        copy: bool | None = None,
    ) -> Any:
        """Give the numbers to another library; who cannot be told to read only gets a copy.

        Raises `BufferError` where that copy is forbidden, or numbers are wanted on a device.
        """
        numbers = self._cell.numbers
        if copy is not True and (max_version is None or max_version < (1, 0)):
            if copy is False:
                raise BufferError("__dlpack__: DLPack before 1.0 cannot say what is read only.")
            numbers = numbers.copy()
        return numbers.__dlpack__(
            stream=stream, max_version=max_version, dl_device=dl_device, copy=copy
        )

    def __dlpack_device__(self) -> tuple[int, int]:
        """Give DLPack's words for where the numbers are."""
        return self._cell.numbers.__dlpack_device__()

    def to_device(self, device: Any, /, *, stream: Any = None) -> Array:
        """Give the array on a device: "cpu"; raises `ArgumentError` for others."""
        require_device("to_device", device)
        if stream is not None:
            raise ArgumentError("to_device: the device cpu has no streams.", fix="stream=None")
        return again(self)

    def __array_namespace__(self, /, *, api_version: str | None = None) -> ModuleType:
        """Give `symgraph.array_api`; raises `ArgumentError` for a version that it is not."""
        if api_version is not None and api_version not in VERSIONS:
            raise ArgumentError(
                f"__array_namespace__: there is no version {api_version!r:.40} here.",
                fix=f"one of {', '.join(VERSIONS)}",
            )
        return namespaces[0]

    def __repr__(self) -> str:
        text = np.array2string(self._cell.numbers, separator=", ", prefix="Array(")
        return f"Array({text}, dtype={self.dtype})"

    # -- elements ------------------------------------------------------------------------------

    def __getitem__(self, key: Any, /) -> Array:
        plain = plain_key("index", key, self.shape)
        if _is_one_bool(plain):  # a mask without axes selects all or nothing, along a new axis
            return call("index", call("expand_dims", self, 0), slice(0, int(plain)))
        return call("index", self, plain)

    def __setitem__(self, key: Any, value: Any, /) -> None:
        if isinstance(value, Array):
            met = meet("assignment", self.dtype, value.dtype)
        elif is_scalar(value):
            met = meet_scalar("assignment", value, self.dtype)
        else:
            _refuse("assignment", value)
        if met != self.dtype:
            raise DTypeError(
                f"assignment: an array of {self.dtype} does not hold {met}.",
                fix=f"convert first: xp.astype(value, xp.{self.dtype})",
            )
        plain = plain_key("assignment", key, self.shape)
        if not _is_one_bool(plain):
            self._cell = call("update_at", self, plain, value, "set")._cell
        elif plain:
            self._cell = call("update_at", self, ..., value, "set")._cell

    # -- operators -----------------------------------------------------------------------------

    # fmt: off
    def __add__(self, other: Any, /) -> Array: return _two("add", NUM, self, other)
    def __radd__(self, other: Any, /) -> Array: return _two("add", NUM, other, self)
    def __iadd__(self, other: Any, /) -> Array: return self._becomes(self + other)
    def __sub__(self, other: Any, /) -> Array: return _two("subtract", NUM, self, other)
    def __rsub__(self, other: Any, /) -> Array: return _two("subtract", NUM, other, self)
    def __isub__(self, other: Any, /) -> Array: return self._becomes(self - other)
    def __mul__(self, other: Any, /) -> Array: return _two("multiply", NUM, self, other)
    def __rmul__(self, other: Any, /) -> Array: return _two("multiply", NUM, other, self)
    def __imul__(self, other: Any, /) -> Array: return self._becomes(self * other)
    def __truediv__(self, other: Any, /) -> Array: return _two("divide", FLOAT, self, other)
    def __rtruediv__(self, other: Any, /) -> Array: return _two("divide", FLOAT, other, self)
    def __itruediv__(self, other: Any, /) -> Array: return self._becomes(self / other)
    def __floordiv__(self, other: Any, /) -> Array: return _two("floor_divide", REAL, self, other)
    def __rfloordiv__(self, other: Any, /) -> Array: return _two("floor_divide", REAL, other, self)
    def __ifloordiv__(self, other: Any, /) -> Array: return self._becomes(self // other)
    def __mod__(self, other: Any, /) -> Array: return _two("remainder", REAL, self, other)
    def __rmod__(self, other: Any, /) -> Array: return _two("remainder", REAL, other, self)
    def __imod__(self, other: Any, /) -> Array: return self._becomes(self % other)
    def __pow__(self, other: Any, /) -> Array: return _two("pow", NUM, self, other)
    def __rpow__(self, other: Any, /) -> Array: return _two("pow", NUM, other, self)
    def __ipow__(self, other: Any, /) -> Array: return self._becomes(self ** other)
    def __and__(self, other: Any, /) -> Array: return _two("bitwise_and", BITS, self, other)
    def __rand__(self, other: Any, /) -> Array: return _two("bitwise_and", BITS, other, self)
    def __iand__(self, other: Any, /) -> Array: return self._becomes(self & other)
    def __or__(self, other: Any, /) -> Array: return _two("bitwise_or", BITS, self, other)
    def __ror__(self, other: Any, /) -> Array: return _two("bitwise_or", BITS, other, self)
    def __ior__(self, other: Any, /) -> Array: return self._becomes(self | other)
    def __xor__(self, other: Any, /) -> Array: return _two("bitwise_xor", BITS, self, other)
    def __rxor__(self, other: Any, /) -> Array: return _two("bitwise_xor", BITS, other, self)
    def __ixor__(self, other: Any, /) -> Array: return self._becomes(self ^ other)
    def __lshift__(self, other: Any, /) -> Array: return _two(LEFT, INT, self, other)
    def __rlshift__(self, other: Any, /) -> Array: return _two(LEFT, INT, other, self)
    def __ilshift__(self, other: Any, /) -> Array: return self._becomes(self << other)
    def __rshift__(self, other: Any, /) -> Array: return _two(RIGHT, INT, self, other)
    def __rrshift__(self, other: Any, /) -> Array: return _two(RIGHT, INT, other, self)
    def __irshift__(self, other: Any, /) -> Array: return self._becomes(self >> other)
    def __matmul__(self, other: Any, /) -> Array: return _product(self, other)
    def __rmatmul__(self, other: Any, /) -> Array: return _product(other, self)
    def __imatmul__(self, other: Any, /) -> Array: return self._becomes(self @ other)
    def __lt__(self, other: Any, /) -> Array: return _two("less", REAL, self, other)
    def __le__(self, other: Any, /) -> Array: return _two("less_equal", REAL, self, other)
    def __gt__(self, other: Any, /) -> Array: return _two("greater", REAL, self, other)
    def __ge__(self, other: Any, /) -> Array: return _two("greater_equal", REAL, self, other)
    def __eq__(self, other: Any, /) -> Array: return _same("equal", self, other)  # type: ignore[override]
    def __ne__(self, other: Any, /) -> Array: return _same("not_equal", self, other)  # type: ignore[override]
    def __neg__(self, /) -> Array: return unary("negative", NUM, self)
    def __pos__(self, /) -> Array: return unary("positive", NUM, self)
    def __abs__(self, /) -> Array: return unary("abs", NUM, self)
    def __invert__(self, /) -> Array: return unary("bitwise_invert", BITS, self)
    # fmt: on

    def _becomes(self, new: Array) -> Array:
        """Take another expression, of the same dtype and shape: what `x += 1` does."""
        if new.dtype != self.dtype or new.shape != self.shape:
            raise ArgumentTypeError(
                f"in place: {self.dtype}{list(self.shape)} cannot become "
                f"{new.dtype}{list(new.shape)}.",
                fix="x = x + y instead of x += y",
            )
        self._cell = new._cell
        return self


def wrapped(value: Value, depth: int = 0) -> Array:
    """Make an array of an expression."""
    made = object.__new__(Array)
    made._cell = cell_of(value, depth)
    return made


def of_numbers(numbers: Any, dtype: Any = None) -> Array:
    """Make an array of NumPy's numbers; they are copied unless nobody can write into them."""
    return wrapped(constant(numbers, dtype))


def again(x: Array) -> Array:
    """Make another array of the same numbers; changing one does not change the other."""
    made = object.__new__(Array)
    made._cell = x._cell
    return made


def call(name: str, *args: Any, **options: Any) -> Array:
    """Call a function of the graph on the expressions of arrays; its result becomes an array."""
    depth = [0]
    plain = [_plain(one, depth) for one in args]
    return wrapped(
        apply(name, *plain, **{key: _plain(one, depth) for key, one in options.items()}),
        depth[0] + 1,
    )


def call_several(name: str, *args: Any, **options: Any) -> tuple[Array, ...]:
    """Call a function of the graph that gives several values."""
    depth = [0]
    plain = [_plain(one, depth) for one in args]
    several: Any = apply(name, *plain, **options)
    return tuple(wrapped(one, depth[0] + 1) for one in several)


def _plain(given: Any, depth: list[int]) -> Any:
    """Give the expressions of arrays, in lists and tuples too, and note how deep they are."""
    if isinstance(given, Array):
        depth[0] = max(depth[0], given._cell.depth)
        return given._cell.value
    if isinstance(given, np.generic):  # NumPy's float64 is a float of Python, so it counts as one
        return given.item()
    if type(given) in (list, tuple):
        return type(given)(_plain(one, depth) for one in given)
    return given


def require_array(name: str, given: Any) -> Array:
    """Give an array back; raises `ArgumentTypeError` for anything else."""
    if not isinstance(given, Array):
        _refuse(name, given)
    return given


def _refuse(name: str, given: Any) -> NoReturn:
    raise ArgumentTypeError(
        f"{name}: takes arrays of symgraph.array_api, got {type(given).__name__} {given!r:.60}.",
        fix="xp.asarray(it) first",
    )


def require_device(name: str, device: Any) -> None:
    """Raise `ArgumentError` for a device other than "cpu"; None is that one."""
    if device is not None and device != DEVICE:
        raise ArgumentError(
            f"{name}: there is no device {device!r:.40} here, only {DEVICE!r}.",
            fix="compile for devices: sg.jit(backend=...) on a function of arrays",
        )


def plain_key(name: str, key: Any, shape: tuple[int, ...]) -> Any:
    """Give a key with the numbers of masks, which decide about shapes, and arrays for the rest.

    An axis of a mask may be 0 where that of the array is not; the mask then selects nothing.
    """
    if isinstance(key, tuple):
        return tuple(_plain_part(name, part) for part in key)
    plain = _plain_part(name, key)
    if isinstance(plain, np.ndarray) and plain.ndim and not plain.size:
        own = shape[: plain.ndim]
        if len(own) == plain.ndim and all(n in (0, size) for n, size in zip(plain.shape, own)):
            return np.zeros(own, bool)
    return plain


def _plain_part(name: str, part: Any) -> Any:
    if isinstance(part, Array):
        require(name, BITS, part.dtype)
        return part._cell.numbers if part.dtype == "bool" else part
    if isinstance(part, slice):
        bounds = (part.start, part.stop, part.step)
        return slice(*(operator.index(b) if isinstance(b, Array) else b for b in bounds))
    return part


def _is_one_bool(key: Any) -> bool:
    return isinstance(key, np.ndarray) and key.dtype == bool and not key.ndim


def unary(name: str, takes: str, x: Any) -> Array:
    """Call an elementwise function of one array of the kinds that it takes."""
    require(name, takes, require_array(name, x).dtype)
    return call(name, x)


def binary(name: str, takes: str, x1: Any, x2: Any) -> Array:
    """Call an elementwise function of two arrays, one of which may be a Python number.

    Raises `DTypeError` where they do not meet, `ArgumentTypeError` for two numbers.
    """
    dtypes = [one.dtype for one in (x1, x2) if isinstance(one, Array)]
    if not dtypes:
        raise ArgumentTypeError(f"{name}: takes at least one array.", fix="xp.asarray(number)")
    require(name, takes, *dtypes)
    for one in (x1, x2):
        if is_scalar(one):
            met = meet_scalar(name, one, dtypes[0])
            require(name, takes, met)
        elif not isinstance(one, Array):
            _refuse(name, one)
    meet(name, *dtypes)
    return call(name, x1, x2)


def product(name: str, takes: str, x1: Any, x2: Any, *args: Any, **options: Any) -> Array:
    """Call a function of two arrays that meet, with other arguments."""
    dtypes = [require_array(name, one).dtype for one in (x1, x2)]
    require(name, takes, *dtypes)
    meet(name, *dtypes)
    return call(name, x1, x2, *args, **options)


def _two(name: str, takes: str, x1: Any, x2: Any) -> Array:
    if _knows(x1) and _knows(x2):
        return binary(name, takes, x1, x2)
    _refuse_numpy(name, x1, x2)
    return NotImplemented  # type: ignore[no-any-return]


def _same(name: str, x1: Array, x2: Any) -> Array:
    """Compare; of what it does not know Python would say that it differs, so that is an error."""
    if isinstance(x2, Value):
        return NotImplemented  # type: ignore[no-any-return] # the other one is asked
    return binary(name, ANY, x1, x2)


def _product(x1: Any, x2: Any) -> Array:
    if isinstance(x1, Array) and isinstance(x2, Array):
        return product("matmul", NUM, x1, x2)
    _refuse_numpy("matmul", x1, x2)
    return NotImplemented  # type: ignore[no-any-return]


def _refuse_numpy(name: str, *operands: Any) -> None:
    """Raise for arrays of NumPy, which would say something else; others may know what to do."""
    for one in operands:
        if isinstance(one, np.ndarray | np.generic):
            _refuse(name, one)


def _knows(given: Any) -> bool:
    return isinstance(given, Array) or is_scalar(given)
