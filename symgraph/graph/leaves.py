"""The leaves of a graph (inputs, constants, shared variables, sizes as numbers) and two structural
operations: an item of a tuple-valued node, and updates attached to a value.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from types import ModuleType
from typing import Any, ClassVar, Protocol

import numpy as np

from symgraph.dims import Dim, Size, equal
from symgraph.errors import ArgumentTypeError, DTypeError, GraphError, ShapeError
from symgraph.graph.arrays import as_array, is_array, lossless, require_lossless
from symgraph.graph.dtypes import (
    DType,
    default_float,
    dtype_name,
    has_gradient,
    is_complex,
    is_integer,
    numpy_dtype,
    promote,
    real_dtype,
    weak_dtype,
)
from symgraph.graph.node import Value, make, operand_lines
from symgraph.graph.op import ZERO, Array, Cotangent, Op, op
from symgraph.graph.registry import Functions, apply, function_of
from symgraph.graph.types import TensorType, TupleType, Type, tensor_type

_keys = itertools.count()
_counting = threading.Lock()
SMALL = 1024  # bytes up to which equal constants are one node


@op
class Input(Op):
    """A value that the caller gives."""

    label: str | None
    dtype: DType
    shape: tuple[Size, ...]
    serial: int
    leaf = True
    takes_complex = True

    def infer(self, *types: Any) -> Type:
        return TensorType(self.dtype, self.shape)


@op
class Constant(Op):
    """A fixed array; small ones are interned by their bytes, large ones by object."""

    array: Any
    leaf = True
    takes_complex = True

    @property
    def key(self) -> tuple[Any, ...]:
        found = self.__dict__.get("_key")
        if found is None:
            array = self.array
            content = array.tobytes() if array.nbytes <= SMALL else id(array)
            found = (Constant, str(array.dtype), array.shape, content)
            object.__setattr__(self, "_key", found)
            object.__setattr__(self, "_hash", hash(found))
        return found

    def infer(self, *types: Any) -> Type:
        return TensorType(dtype_name(self.array.dtype), self.array.shape)

    def ref(self, xp: ModuleType, *arrays: Array) -> Array:
        return xp.asarray(self.array)

    @property
    def uniform(self) -> Any:
        """The number that all elements are, bit for bit; None where they differ or are none."""
        if "_uniform" not in self.__dict__:
            flat = self.array.reshape(-1)
            same = flat.size > 0 and flat[:1].tobytes() * flat.size == flat.tobytes()
            object.__setattr__(self, "_uniform", flat[0].item() if same else None)
        return self.__dict__["_uniform"]

    def __repr__(self) -> str:
        return f"constant({short_text(self.array)})"


@op
class SharedLeaf(Op):
    """The place of a shared variable in the graph; its numbers live in `Shared.storage`."""

    label: str | None
    dtype: DType
    shape: tuple[int, ...]
    serial: int
    name = "shared"
    leaf = True
    takes_complex = True

    def infer(self, *types: Any) -> Type:
        return TensorType(self.dtype, self.shape)


@op
class SizeOf(Op):
    """A symbolic size as a number in the graph."""

    dim: Size
    dtype: DType

    def infer(self, *types: Any) -> Type:
        return TensorType(self.dtype, ())

    def ref(self, xp: ModuleType, *arrays: Array) -> Array:
        return xp.asarray(self.dim, numpy_dtype(self.dtype))

    def vjp(self, F: Functions, g: Any, y: Any, *xs: Value) -> tuple[Cotangent, ...]:
        return ()


@op
class Item(Op):
    """One result of a node with several."""

    index: int
    view = True
    takes_complex = True

    def infer(self, whole: TupleType) -> Type:
        return whole.types[self.index]

    def ref(self, xp: ModuleType, *arrays: Array) -> Array:
        return arrays[0][self.index]


@op
class Attach(Op):
    """The first operand; whoever compiles it also updates shared variables to the others."""

    targets: tuple[Value, ...]
    variadic = True
    view = True
    takes_complex = True

    def infer(self, value: TensorType, *new: TensorType) -> Type:
        return value

    def ref(self, xp: ModuleType, *arrays: Array) -> Array:
        return arrays[0]

    def vjp(self, F: Functions, g: Any, y: Any, *xs: Value) -> tuple[Cotangent, ...]:
        return (g, *(ZERO for _ in xs[1:]))

    def expand(self, F: Functions, *xs: Value) -> Value:
        return xs[0]


class Home(Protocol):
    """A device where the numbers of a variable lie too: it takes arrays that lie there."""

    def read(self, subject: str, given: Any) -> Any:
        """Look at an array of this device; None where it is not one."""

    def keep(self, variable: Shared, array: Any) -> None:
        """Make what `read` gave, of the right shape, the numbers of a variable."""


class Storage:
    """The numbers of a shared variable; `version` counts the writes.

    They may lie on a device: then `array` is there as soon as somebody asks for it.
    """

    __slots__ = ("__weakref__", "_fetch", "array", "home", "version")

    touched: ClassVar[int] = 0  # how often variables were fetched and written
    array: np.ndarray[Any, Any]

    def __init__(self, array: np.ndarray[Any, Any]) -> None:
        self.array = array
        self.home: Home | None = None
        self.version = 0

    def __getattr__(self, name: str) -> Any:
        if name != "array":
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        self._fetch(self._put)
        return self.array

    def _put(self, array: np.ndarray[Any, Any]) -> None:
        self.array = array
        with _counting:
            Storage.touched += 1

    def postpone(self, fetch: Callable[[Callable[[np.ndarray[Any, Any]], None]], None]) -> None:
        """Say that there are other numbers now; `fetch` is called with what takes them."""
        self._fetch = fetch
        with suppress(AttributeError):  # where it was postponed already
            del self.array
        self.written()

    def settle(self) -> None:
        """Have no home any more; the numbers are in `array`."""
        self.home = None
        with suppress(AttributeError):  # where nothing was ever postponed
            del self._fetch

    def replace(self, array: np.ndarray[Any, Any]) -> None:
        """Put another array in place (not copied)."""
        self.array = array
        self.written()

    def written(self) -> None:
        """Count a write."""
        with _counting:
            self.version += 1
            Storage.touched += 1


class Shared(Value):
    """A leaf that keeps its numbers between calls; functions update it."""

    __slots__ = ("storage",)

    storage: Storage

    def __init__(self, array: np.ndarray[Any, Any], label: str | None) -> None:
        leaf = SharedLeaf(label, dtype_name(array.dtype), array.shape, next(_keys))
        super().__init__(leaf, (), leaf.infer())
        object.__setattr__(self, "storage", Storage(array))

    @property
    def value(self) -> np.ndarray[Any, Any]:
        """A copy of the numbers; assigning checks dtype and shape.

        An array of CuPy stays on the device where a function of that device has used the variable.
        """
        return self.storage.array.copy()

    @value.setter
    def value(self, new: Any) -> None:
        self._assign(new)

    def _assign(self, new: Any) -> None:
        subject, home = f"shared: `{self.label}`", self.storage.home
        try:
            there = None if home is None else home.read(subject, new)
            array = lossless(subject, new, self.dtype) if there is None else there
            require_lossless(subject, array.dtype, self.dtype)
        except DTypeError as problem:
            problem.details = (self.describe(),)
            raise
        if array.shape != self.shape:
            given = TensorType(self.dtype, array.shape)
            raise ShapeError(
                f"shared: `{self.label}` is {self.type}, the new value is {given}.",
                details=[self.describe()],
                fix="give an array of the same shape",
            )
        if home is None or there is None:
            self.storage.replace(np.array(array, order="C"))
        else:
            home.keep(self, there)

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "value":
            self._assign(value)
        else:
            super().__setattr__(name, value)


def tensor(name: str | None, shape: Sequence[Any], dtype: Any = None) -> Value:
    """Make an input: an array that the caller of a function gives.

    Sizes are ints or symbolic (`sg.dim`); the dtype is `config.float_dtype` unless told otherwise.
    Two inputs of one name and type stay two.

    >>> import symgraph as sg
    >>> sg.tensor("x", (sg.dim("B"), 3)).type.shape
    (B, 3)
    """
    if name is not None and not isinstance(name, str):
        raise ArgumentTypeError(
            f"tensor: the name must be a string, got {name!r}.", fix='sg.tensor("x", (2, 3))'
        )
    type = tensor_type(dtype or default_float(), shape)
    return make(Input(name, type.dtype, type.shape, next(_keys)))


def shared(value: Any, name: str | None = None, dtype: Any = None) -> Shared:
    """Make a variable that keeps its numbers between calls; the array is copied.

    Python floats become `config.float_dtype`, Python ints int64.

    >>> import symgraph as sg
    >>> w = sg.shared([[1.0, 2.0]], "w")
    >>> str(w.type)
    'float32[1, 2]'
    """
    if name is not None and not isinstance(name, str):
        raise ArgumentTypeError(
            f"shared: the name must be a string, got {name!r}.", fix='sg.shared(value, "w")'
        )
    return Shared(np.array(_numbers("shared", value, dtype), order="C"), name)


@function_of
def constant(value: Any, dtype: Any = None) -> Value:
    """Make a constant from a number, a list or an array."""
    array = _numbers("constant", value, dtype)
    if array.nbytes <= SMALL or array.flags.writeable or not array.flags.c_contiguous:
        array = np.array(array, order="C")
        array.flags.writeable = False
    return make(Constant(array))


def _numbers(name: str, value: Any, dtype: Any) -> np.ndarray[Any, Any]:
    if isinstance(value, Value):
        raise ArgumentTypeError(
            f"{name}: `{value.label}` is symbolic, numbers are needed.", fix="x.eval()"
        )
    return as_array(f"{name}: it", value, dtype)


def short_text(array: np.ndarray[Any, Any]) -> str:
    """Give a constant in a few characters."""
    if array.size == 1:
        return f"{array.item():.6g}" if has_gradient(dtype_name(array.dtype)) else str(array.item())
    if array.size <= 4:
        return str(array.tolist())
    return f"{dtype_name(array.dtype)}{list(array.shape)}"


def as_value(value: Any, meets: DType | None = None) -> Value:
    """Make anything an operand: values stay, numbers take the dtype that they meet."""
    if isinstance(value, Value):
        value.tensor  # noqa: B018 - a tuple-valued node is refused here
        return value
    if isinstance(value, _NUMBERS) and not isinstance(value, np.generic):
        return constant(value, weak_dtype(value, meets))
    if isinstance(value, Dim):
        if meets is not None and is_complex(meets):
            return apply("cast", make(SizeOf(value, real_dtype(meets))), meets)
        return make(SizeOf(value, meets if meets and meets != "bool" else "int64"))
    if isinstance(value, list | tuple) or is_array(value):
        return constant(value)
    raise ArgumentTypeError(
        f"operand: {type(value).__name__} cannot be a value of the graph ({value!r:.60}).",
        fix="give a symbolic value, a number, a list of numbers or a NumPy array",
    )


def is_weak(value: Any) -> bool:
    """Tell whether an operand takes its dtype from the others."""
    return isinstance(value, Dim) or (
        isinstance(value, _NUMBERS) and not isinstance(value, np.generic)
    )


_NUMBERS = bool | int | float | complex


def common(name: str, *values: Any, floating: bool = False) -> tuple[Value, ...]:
    """Make operands of one dtype: promoted by the table, weak numbers adapted, casts inserted.

    With `floating`, integers and bools become `config.float_dtype`; complex numbers stay.
    Raises `DTypeError` naming the operation where no dtype holds all.
    """
    strong = [as_value(value) for value in values if not is_weak(value)]
    try:
        meets = promote(*(value.dtype for value in strong)) if strong else None
        for value in values:
            if is_weak(value):
                number = 0 if isinstance(value, Dim) else value
                met = weak_dtype(number, meets)
                meets = met if meets is None else promote(meets, met)
    except DTypeError as problem:
        raise DTypeError(
            f"{name}: {problem.message}", details=operand_lines(strong), fix=problem.fix
        ) from None
    if meets is None:
        raise ArgumentTypeError(f"{name}: needs at least one operand.")
    if floating and not has_gradient(meets):
        meets = default_float()
    return tuple(cast_to(as_value(value, meets), meets) for value in values)


def cast_to(value: Value, dtype: DType) -> Value:
    """Convert unless it is of that dtype already."""
    return value if value.dtype == dtype else apply("cast", value, dtype)


def item(node: Value, index: int) -> Value:
    """Take one result of a node with several."""
    return make(Item(index), node)


def items(node: Value) -> tuple[Value, ...]:
    """Take all results of a node with several."""
    if not isinstance(node.type, TupleType):
        return (node,)
    return tuple(item(node, i) for i in range(len(node.type.types)))


def check_update(target: Any, new: Any) -> tuple[Shared, Value]:
    """Make an update acceptable: a shared variable and a value of exactly its type."""
    if not isinstance(target, Shared):
        raise GraphError(
            f"updates: only shared variables can be updated, got {target!r:.80}.",
            fix="make it with sg.shared(...)",
        )
    value = as_value(new, target.dtype)
    if is_weak(new):
        value = cast_to(value, target.dtype)
    if value.dtype != target.dtype:
        raise DTypeError(
            f"updates: the new value of `{target.label}` must have its dtype: "
            f"{value.type} is not {target.type}.",
            details=operand_lines([target, value]),
            fix=f'cast the new value: .cast("{target.dtype}")',
        )
    possible = value.ndim == target.ndim and all(
        equal(size, own) is not False for size, own in zip(value.shape, target.shape)
    )
    if not possible:
        raise ShapeError(
            f"updates: the new value of `{target.label}` must have its shape: "
            f"{value.type} is not {target.type}.",
            details=operand_lines([target, value]),
            fix="reduce or reshape the new value",
        )
    if not target.tensor.same(value.tensor):
        value = apply("specify_shape", value, target.shape)
    return target, value


@function_of
def with_updates(value: Value, updates: Mapping[Shared, Any]) -> Value:
    """Give `value`, and have every function that computes it apply `updates` after each call.

    Layers with state use it (running means, random streams): it needs no second path beside the
    graph, and an update is applied only where its value is used.
    """
    pairs = [check_update(target, new) for target, new in updates.items()]
    if not pairs:
        return value
    return make(Attach(tuple(t for t, _ in pairs)), value, *(new for _, new in pairs))


@function_of
def size_of(size: Size, dtype: Any = "int64") -> Value:
    """Give a size as a number in the graph: a constant, or a symbolic size known at each call."""
    name = dtype_name(dtype)
    if isinstance(size, Dim):
        return make(SizeOf(size, name))
    return constant(np.asarray(size, numpy_dtype(name)))


def is_constant(value: Value) -> bool:
    """Tell whether a value is a literal."""
    return isinstance(value.op, Constant)


def needs_integer(name: str, value: Value) -> Value:
    """Check that an operand holds integers, for indices and labels."""
    if not is_integer(value.dtype):
        raise DTypeError(
            f"{name}: `{value.label}` must hold integers, not {value.dtype}.",
            details=[value.describe()],
            fix='declare it with an integer dtype, or cast: x.cast("int32")',
        )
    return value
