"""The class `Dim`: interned integer polynomials over named sizes and atoms.

A polynomial is a dictionary from a product of atoms (a sorted tuple, repeated for powers; the
empty one for the constant) to its integer coefficient. Atoms are Dims themselves: a named size,
`p//q`, `min(...)` or `max(...)` with three arguments and more. Two things are deliberately no
atoms, because each formula shall have one form: `p % q` is `p - q*(p//q)`, and `max(a, b)` is
`a + b - min(a, b)`. The printer turns them back.
"""

from __future__ import annotations

import gc
import itertools
import keyword
import operator
import os
import threading
from collections.abc import Callable, Iterable
from typing import Any, Literal, NoReturn, TypeAlias
from weakref import WeakValueDictionary

from symgraph.errors import DimError, UndecidedError

MAX_TERMS = 10_000
"""A polynomial with more terms than this is refused."""

MAX_PRODUCTS = 250_000
"""A multiplication that would need more products of terms than this is refused."""

MAX_DEGREE = 256
"""A product of more than this many sizes is refused."""

Kind: TypeAlias = Literal["symbol", "sum", "//", "min", "max"]
Mono: TypeAlias = "tuple[Dim, ...]"
Terms: TypeAlias = "dict[tuple[Dim, ...], int]"
Range: TypeAlias = "tuple[int | None, int | None]"


class _Operations:
    """The algebra, filled in by arithmetic.py, decide.py and text.py.

    The class of sizes and the algebra need each other; this table lets the imports go one way.
    """

    add: Callable[[Size, Size], Size]
    subtract: Callable[[Size, Size], Size]
    multiply: Callable[[Size, Size], Size]
    floor_divide: Callable[[Size, Size], Size]
    modulo: Callable[[Size, Size], Size]
    power: Callable[[Size, int], Size]
    compare: Callable[[str, Size, Size], Any]
    total: Callable[[Iterable[Size]], Size]
    minimum: Callable[..., Size]
    maximum: Callable[..., Size]
    text: Callable[[Size], str]
    encode: Callable[[Size], object]
    decode: Callable[[Any], Size]
    caches: list[Callable[[], None]]


operations = _Operations()
operations.caches = []


class Dim:
    """A symbolic size: an integer polynomial over named sizes, in one normal form.

    Made by `dim`, `dims`, `anonymous` and by arithmetic, never by the constructor. Equal formulas
    are the same object, so `is`, tuples and dictionaries work as expected. A question that does
    not have the same answer for all sizes is an `Undecided`, whose `bool()` raises.

    >>> B = dim("B")
    >>> (B - 3)//2 + 1 is (B - 1)//2, B < 1
    (True, False)
    """

    __slots__ = (
        "__weakref__", "_free", "_terms", "_text", "_walk",
        "args", "kind", "name", "order", "range", "source",
    )  # fmt: skip
    __hash__ = object.__hash__
    __array_ufunc__ = None  # a NumPy scalar on the left leaves the operation to this class

    kind: Kind
    name: str  # of a symbol; else empty
    args: tuple[Size, ...]  # of an atom that is no symbol
    order: tuple[int, str, int]  # position in products
    range: Range | None  # proven bounds; of a sum: None until asked for
    source: Any  # what computes the number of an anonymous size that data decide; else None
    _terms: Terms | None
    _free: frozenset[Dim] | None
    _text: str | None
    _walk: tuple[Dim, ...] | None

    def __new__(cls, *_: object) -> Dim:
        raise DimError("Dim(...) makes no size.", fix='use sg.dim("B") or sg.dims("B H W")')

    @property
    def terms(self) -> Terms:
        """The polynomial: a tuple of atoms -> its coefficient. Not to be changed."""
        return {(self,): 1} if self._terms is None else self._terms

    # Arithmetic: each line takes ints, NumPy integers and Dims; floats and bools are refused.

    def __add__(self, other: SizeLike) -> Size:
        right = operand(other)
        return NotImplemented if right is None else operations.add(self, right)

    __radd__ = __add__

    def __sub__(self, other: SizeLike) -> Size:
        right = operand(other)
        return NotImplemented if right is None else operations.subtract(self, right)

    def __rsub__(self, other: SizeLike) -> Size:
        left = operand(other)
        return NotImplemented if left is None else operations.subtract(left, self)

    def __mul__(self, other: SizeLike) -> Size:
        right = operand(other)
        return NotImplemented if right is None else operations.multiply(self, right)

    __rmul__ = __mul__

    def __floordiv__(self, other: SizeLike) -> Size:
        right = operand(other)
        return NotImplemented if right is None else operations.floor_divide(self, right)

    def __rfloordiv__(self, other: SizeLike) -> Size:
        left = operand(other)
        return NotImplemented if left is None else operations.floor_divide(left, self)

    def __mod__(self, other: SizeLike) -> Size:
        right = operand(other)
        return NotImplemented if right is None else operations.modulo(self, right)

    def __rmod__(self, other: SizeLike) -> Size:
        left = operand(other)
        return NotImplemented if left is None else operations.modulo(left, self)

    def __divmod__(self, other: SizeLike) -> tuple[Size, Size]:
        return self // other, self % other

    def __rdivmod__(self, other: SizeLike) -> tuple[Size, Size]:
        return other // self, other % self

    def __pow__(self, exponent: SizeLike) -> Size:
        right = operand(exponent)
        if right is None:
            return NotImplemented
        if not isinstance(right, int):
            raise DimError(f"the exponent of ({self})**({right}) must be a number, not a size.")
        return operations.power(self, right)

    def __rpow__(self, base: SizeLike) -> NoReturn:
        raise DimError(f"the exponent of {base}**({self}) must be a number, not a size.")

    def __truediv__(self, other: object) -> NoReturn:
        raise DimError(
            f"({self})/({other}) is no size: sizes are integers.",
            fix="use // (rounds down) or sg.dims.ceil_div (rounds up)",
        )

    __rtruediv__ = __truediv__

    def __neg__(self) -> Size:
        return operations.multiply(self, -1)

    def __pos__(self) -> Size:
        return self

    # Comparison: True or False where it holds for every admissible value, else Undecided.

    def __eq__(self, other: object) -> Any:
        if other is self:
            return True
        right = operand(other)
        return NotImplemented if right is None else operations.compare("==", self, right)

    def __ne__(self, other: object) -> Any:
        if other is self:
            return False
        right = operand(other)
        return NotImplemented if right is None else operations.compare("!=", self, right)

    def __lt__(self, other: SizeLike) -> Any:
        right = operand(other)
        return NotImplemented if right is None else operations.compare("<", self, right)

    def __le__(self, other: SizeLike) -> Any:
        right = operand(other)
        return NotImplemented if right is None else operations.compare("<=", self, right)

    def __gt__(self, other: SizeLike) -> Any:
        right = operand(other)
        return NotImplemented if right is None else operations.compare("<", right, self)

    def __ge__(self, other: SizeLike) -> Any:
        right = operand(other)
        return NotImplemented if right is None else operations.compare("<=", right, self)

    # What needs a number.

    def __bool__(self) -> bool:
        return bool(operations.compare("!=", self, 0))

    def __index__(self) -> int:
        raise UndecidedError(
            f"size `{self}` has no number yet: it is a formula.",
            fix="bind its sizes by calling the compiled function, or use "
            "sg.dims.evaluate(size, {B: 128})",
        )

    __int__ = __index__

    def __str__(self) -> str:
        return operations.text(self)

    __repr__ = __str__

    def __format__(self, spec: str) -> str:
        return format(operations.text(self), spec)

    def __copy__(self) -> Dim:
        return self

    def __deepcopy__(self, memo: object) -> Dim:
        return self

    def __reduce__(self) -> tuple[object, ...]:
        return operations.decode, (operations.encode(self),)


Size: TypeAlias = int | Dim
"""A size: a plain int, or a symbolic `Dim`."""

SizeLike: TypeAlias = Any
"""What arithmetic accepts: an int, a NumPy integer or a `Dim`."""


def operand(value: object) -> Size | None:
    """`value` as a size; None where it is of a foreign type; DimError for floats and bools."""
    kind = type(value)
    if kind is int or kind is Dim:
        return value  # type: ignore[return-value]
    if kind is bool or kind.__name__ in ("bool", "bool_"):
        raise DimError(
            f"{value!r} is no size: a bool is a truth value.", fix=f"write {value:d} if meant"
        )
    if isinstance(value, (float, complex)):
        raise DimError(
            f"{value!r} is no size: sizes are integers, and rounding must be said.",
            fix="use int(...), // or sg.dims.ceil_div",
        )
    if getattr(value, "ndim", 0) == 0 and hasattr(kind, "__index__"):
        try:
            return operator.index(value)  # type: ignore[arg-type]
        except TypeError:
            return None
    if kind.__module__ == "numpy" and getattr(value, "ndim", 1) == 0:
        raise DimError(f"{value!r} is no size: sizes are integers.")
    return None


def as_size(value: object, what: str = "a size") -> Size:
    """`value` as an int or Dim. Raises DimError for anything else.

    >>> as_size(3)
    3
    """
    size = operand(value)
    if size is None:
        raise DimError(f"{what} must be an int or a Dim, not {type(value).__name__} {value!r}.")
    return size


# One table for all: it holds objects weakly, and keys only as long as their object lives.
_table: WeakValueDictionary[object, Dim] = WeakValueDictionary()
_lock = threading.RLock()
_serial = itertools.count()


def _new_lock() -> None:
    """Open the lock in a child of fork, which lacks the thread that may have held it."""
    global _lock
    _lock = threading.RLock()


if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=_new_lock)


def _make(
    kind: Kind, name: str, args: tuple[Size, ...], terms: Terms | None, bounds: Range | None
) -> Dim:
    new: Dim = object.__new__(Dim)
    new.kind = kind
    new.name = name
    new.args = args
    new.order = (0 if kind == "symbol" else 1, name, next(_serial))
    new.range = bounds
    new.source = None
    new._terms = terms
    new._free = frozenset() if kind == "symbol" else None
    new._text = name or None
    new._walk = None
    return new


def polynomial(terms: Terms) -> Size:
    """The size with these terms, none of which may have the coefficient 0."""
    if not terms:
        return 0
    if len(terms) == 1:
        ((mono, coefficient),) = terms.items()
        if not mono:
            return coefficient
        if coefficient == 1 and len(mono) == 1:
            return mono[0]
    key = frozenset(terms.items())
    found = _table.get(key)
    if found is not None:
        return found
    if len(terms) > MAX_TERMS:
        raise DimError(f"a size formula has {len(terms)} terms; at most {MAX_TERMS} are allowed.")
    with _lock:
        found = _table.get(key)
        if found is None:
            found = _table[key] = _make("sum", "", (), terms, None)
        return found


def atom(kind: Kind, args: tuple[Size, ...], bounds: Callable[[], Range]) -> Dim:
    """The atom `kind` of `args`; the order of arguments of min and max does not matter."""
    key = (kind, args if kind == "//" else frozenset(args))
    found = _table.get(key)
    if found is not None:
        return found
    known = bounds()
    with _lock:
        found = _table.get(key)
        if found is None:
            found = _table[key] = _make(kind, "", args, None, known)
        return found


def dim(name: str, min: int = 1) -> Dim:
    """A named size that is at least `min`; the same name gives the same object.

    Raises DimError if the name is no Python identifier, or if a size of this name with another
    `min` is still in use.

    >>> dim("B") is dim("B")
    True
    """
    if not isinstance(name, str) or not name.isidentifier() or keyword.iskeyword(name):
        raise DimError(f"the name of a size must be a Python identifier, not {name!r}.")
    if type(min) is not int or min < 0:
        raise DimError(f"the least value of size `{name}` must be an int >= 0, not {min!r}.")
    found = _symbol(name, min)
    if found.range != (min, None):
        # Formulas nobody holds any more may still keep the old size alive: let go of them first.
        del found
        forget()
        gc.collect()
        found = _symbol(name, min)
    if found.range != (min, None):
        least = (found.range or (0, None))[0]
        raise DimError(
            f"size `{name}` exists with min={least}; it cannot also have min={min}.",
            fix="use the same min, or another name",
        )
    return found


def _symbol(name: str, low: int) -> Dim:
    key = ("symbol", name)
    found = _table.get(key)
    if found is not None:
        return found
    with _lock:
        found = _table.get(key)
        if found is None:
            found = _table[key] = _make("symbol", name, (), None, (low, None))
        return found


def dims(names: str, min: int = 1) -> tuple[Dim, ...]:
    """Several named sizes at once.

    >>> dims("B H W")
    (B, H, W)
    """
    return tuple(dim(name, min) for name in names.replace(",", " ").split())


def anonymous(label: str, most: int | None = None, source: Any = None) -> Dim:
    """A fresh size from 0 to `most`, equal to nothing else, that prints as its label.

    `source` is what computes its number, where data decide it (`graph/measured.py`).

    >>> anonymous("x.shape[0]")
    x.shape[0]
    """
    if not isinstance(label, str) or not label:
        raise DimError(f"the label of an anonymous size must be a string, not {label!r}.")
    if most is not None and (type(most) is not int or most < 0):
        raise DimError(f"the greatest value of size `{label}` must be an int >= 0, not {most!r}.")
    made = _make("symbol", label, (), None, (0, most))
    made.source = source
    return made


def is_symbol(size: Size) -> bool:
    """Whether `size` is a named or anonymous size, not a formula or a number."""
    return type(size) is Dim and size.kind == "symbol"


def terms_of(size: Size) -> Terms:
    """The terms of a size; of an int: its constant."""
    if type(size) is Dim:
        return {(size,): 1} if size._terms is None else size._terms
    return {(): size} if size else {}  # type: ignore[dict-item]


def forget() -> None:
    """Empty all caches of results, so that formulas nobody holds disappear."""
    for clear in operations.caches:
        clear()


def is_anonymous(size: Size) -> bool:
    """Whether `size` was made by `anonymous`."""
    return (
        type(size) is Dim
        and size.kind == "symbol"
        and _table.get(("symbol", size.name)) is not size
    )
