"""The contract of an operation: a frozen dataclass of static attributes and a few methods.

Complete operations give `infer` (types -> type), `ref` (NumPy or CuPy, obviously right), `vjp`,
and `expand` (the operation as other operations or as one index expression), with `samples` and
`bad` from which the tests are generated. `jvp` and `batch` are optional.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, replace
from types import ModuleType
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar, dataclass_transform

from symgraph.dims import Dim, Size, evaluate, substitute
from symgraph.errors import GradError, PassError
from symgraph.frozen import frozen
from symgraph.graph.registry import OPS, Functions
from symgraph.graph.samples import Bad, Sample
from symgraph.graph.types import Type

if TYPE_CHECKING:
    from symgraph.graph.index import Compute
    from symgraph.graph.node import Value
    from symgraph.graph.rawkernel import RawKernel

Array = Any
Cotangent = Any  # a Value, ZERO, None, or a function without arguments that gives one of these


class _Zero:
    """A cotangent that is connected but exactly zero; never built, never added."""

    def __repr__(self) -> str:
        return "ZERO"


ZERO = _Zero()


class Nested:
    """An attribute that is a graph of its own: what an operation does once, or again and again."""

    def dims(self) -> tuple[Dim, ...]:
        """Give the symbolic sizes that stand in it."""
        raise NotImplementedError

    def at(self, env: Mapping[Dim, int]) -> Nested:
        """Give it for sizes that are numbers."""
        raise NotImplementedError

    def with_dims(self, sizes: Mapping[Dim, Any]) -> Nested:
        """Give it with sizes substituted by other sizes."""
        raise NotImplementedError


@frozen(eq=False, repr=False)
class Op:
    """What a node does. Subclasses are made with the decorator `@op`."""

    name: ClassVar[str] = "op"
    samples: ClassVar[Sequence[Sample]] = ()
    bad: ClassVar[Sequence[Bad]] = ()
    variadic: ClassVar[bool] = False  # takes any number of operands
    commutes: ClassVar[bool] = False  # its two operands may be exchanged
    view: ClassVar[bool] = False  # the result is the first operand's memory: nothing is moved
    leaf: ClassVar[bool] = False  # takes none and is not a function of its attributes alone
    host: ClassVar[bool] = False  # no loops say what it does: `ref` computes it on every backend
    takes_complex: ClassVar[bool] = False  # operands and results may be complex
    # `ref` calls code of the user's: once in a call, never while compiling, and it may raise
    calls_user: ClassVar[bool] = False

    # -- what a subclass gives ------------------------------------------------------------------

    def infer(self, *types: Any) -> Type:
        """Give the type of the result, or raise `ShapeError` / `DTypeError`.

        Texts of requirements may name operands as `{x}`, where `x` is a parameter of `infer`.
        """
        raise PassError(f"{self.name}: the operation has no `infer`.")

    def ref(self, xp: ModuleType, *arrays: Array) -> Array:
        """Compute the result with NumPy or CuPy; all sizes in the attributes are ints by now."""
        raise PassError(f"{self.name}: the operation has no `ref`.")

    def vjp(self, F: Functions, g: Any, y: Any, *xs: Value) -> tuple[Cotangent, ...]:
        """Give the cotangent of each operand from the cotangent `g` of the result `y`.

        A cotangent is a Value, `ZERO` (connected, but zero) or None (no path for gradients), or a
        function that gives one of these, which is called only where the cotangent is needed.
        Several results: `g` and `y` are tuples, and parts of `g` may be None.
        """
        raise GradError(f"{self.name}: the operation has no gradient.")

    def jvp(self, F: Functions, tangents: Sequence[Any], y: Any, *xs: Value) -> Any:
        """Give the tangent of the result `y` from those of its operands.

        A tangent is a Value, `ZERO` or None, as a cotangent is; several results give a tuple.
        Without this rule it follows from `vjp`, transposed.
        """
        return NotImplemented

    def batch(self, F: Functions, size: Size, batched: Sequence[bool], *xs: Value) -> Any:
        """Give the results for `size` lanes at once, along a new first axis.

        Operands with `batched` have that axis too, the others are the same for all lanes; at least
        one has it. `NotImplemented` where the rule that follows from `expand` is to be taken.
        """
        return NotImplemented

    def legal(self, F: Functions, *xs: Value) -> Value | None:
        """Give a bool of the graph that is true where `ref` accepts the numbers of its operands.

        None where it takes all. A backend whose kernels cannot raise looks at it before the first
        write, and lets the reference say what is wrong.
        """
        return None

    def below_size(self) -> Size | None:
        """Give a size below which all elements are, whole numbers from 0, if that is sure."""
        return None

    def expand(self, F: Functions, *xs: Value) -> Value | tuple[Value, ...] | Compute:
        """Give the operation as other operations, or as one index expression."""
        raise PassError(f"{self.name}: the operation has no `expand`.")

    def raw_kernel(self, language: str, *types: Any) -> RawKernel | None:
        """Give a kernel by hand in "llvm" or "cuda", for the types of the operands and the result.

        It is called wherever it exists; elsewhere `expand` is, or `ref` of an op with `host`.
        """
        return None

    def flops(self, of: Callable[[Value], Size], *types: Any) -> Size:
        """Give the floating-point operations of what no index expression says.

        `of` gives those of a value, for an operation with a graph inside.
        """
        raise PassError(
            f"cost: the FLOPs of `{self.name}` are not known: it has no `expand`.",
            fix="say in `expand` what it computes, or give a formula in `flops`",
        )

    # -- what follows from the attributes -------------------------------------------------------

    @property
    def key(self) -> tuple[Any, ...]:
        """Identity: the class and all attributes, floats by their bits, sizes by identity."""
        found: tuple[Any, ...] | None = self.__dict__.get("_key")
        if found is None:
            values = (getattr(self, field.name) for field in fields(self))
            found = (type(self), *map(canonical, values))
            object.__setattr__(self, "_key", found)
            object.__setattr__(self, "_hash", hash(found))
        return found

    def __eq__(self, other: object) -> bool:
        return self is other or (
            isinstance(other, Op) and hash(self) == hash(other) and self.key == other.key
        )

    def __hash__(self) -> int:
        found: int | None = self.__dict__.get("_hash")
        if found is None:
            found = hash(self.key)
        return found

    def attributes(self) -> dict[str, Any]:
        """Give the attributes by name, in order."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    def dims(self) -> tuple[Dim, ...]:
        """Give the symbolic sizes that stand in the attributes."""
        found: tuple[Dim, ...] | None = self.__dict__.get("_dims")
        if found is None:
            sizes: list[Dim] = []
            for value in self.attributes().values():
                _collect(value, sizes)
            found = tuple(sizes)
            object.__setattr__(self, "_dims", found)
        return found

    def at(self, env: Mapping[Dim, int]) -> Op:
        """Give the same operation with every size in the attributes replaced by its number."""
        if not self.dims():
            return self
        return self._mapped(lambda size: evaluate(size, env), lambda inner: inner.at(env))

    def with_dims(self, sizes: Mapping[Dim, Any]) -> Op:
        """Give the same operation with sizes substituted by other sizes."""
        if not self.dims():
            return self
        return self._mapped(
            lambda size: substitute(size, sizes), lambda inner: inner.with_dims(sizes)
        )

    def _mapped(self, change: Callable[[Dim], Any], enter: Callable[[Any], Any]) -> Op:
        changed = {name: _map(value, change, enter) for name, value in self.attributes().items()}
        return replace(self, **changed)

    def __repr__(self) -> str:
        """Give the name and the attributes that differ from their defaults."""
        shown = (
            f"{field.name}={_show(getattr(self, field.name))}"
            for field in fields(self)
            if canonical(getattr(self, field.name)) != canonical(field.default)
        )
        return f"{self.name}({', '.join(shown)})"


def _show(value: Any) -> str:
    if isinstance(value, tuple):
        return f"({', '.join(map(_show, value))}{',' if len(value) == 1 else ''})"
    return str(value) if isinstance(value, Dim) else repr(value)


def _collect(value: Any, sizes: list[Dim]) -> None:
    if isinstance(value, Dim):
        sizes.append(value)
    elif isinstance(value, Nested | Op):
        sizes.extend(value.dims())
    elif isinstance(value, tuple):
        for part in value:
            _collect(part, sizes)


def _map(value: Any, change: Callable[[Dim], Any], enter: Callable[[Any], Any]) -> Any:
    if isinstance(value, Dim):
        return change(value)
    if isinstance(value, Nested | Op):
        return enter(value)
    if isinstance(value, tuple):
        return tuple(_map(part, change, enter) for part in value)
    return value


def canonical(value: Any) -> Any:
    """Give a key in which 1, 1.0 and True differ, as do 0.0 and -0.0, and nan equals nan."""
    if isinstance(value, Dim):
        return ("size", id(value))
    if isinstance(value, float):
        return ("float", value.hex())
    if isinstance(value, tuple):
        return tuple(map(canonical, value))
    if isinstance(value, bool | int | complex):
        return (type(value).__name__, value)
    return value


SomeOp = TypeVar("SomeOp", bound=Op)


@dataclass_transform(frozen_default=True, eq_default=False)
def op(cls: type[SomeOp]) -> type[SomeOp]:
    """Make a class an operation: a frozen dataclass, registered under its name.

    The name is the class's own in lower case with underscores, unless it sets `name`.
    """
    # a class without attributes needs no methods of its own
    own = "__annotations__" in cls.__dict__
    made = frozen(eq=False, repr=False)(cls) if own else cls
    if "name" not in cls.__dict__:
        made.name = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", cls.__name__).lower()
    if made.name in OPS:
        raise PassError(f"registry: the operation `{made.name}` is registered twice.")
    OPS[made.name] = made
    return made
