"""`Value`: an immutable, interned node of the expression graph; identity is equality.

The same operation on the same operands is the same object, so common subexpressions never exist
twice. `==` builds an `equal` node: library code compares with `is`. Leaves carry a unique key.
"""

from __future__ import annotations

import inspect
import itertools
import os
import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import cache
from typing import Any
from weakref import WeakValueDictionary, ref

from symgraph.dims import Guard, Size, collect_guards
from symgraph.errors import DimError, DTypeError, GraphError, ShapeError, SymgraphError
from symgraph.graph.dsl import TensorMethods
from symgraph.graph.dtypes import is_complex
from symgraph.graph.op import Op
from symgraph.graph.origin import Origins, assigned_name, describe, here, union
from symgraph.graph.registry import hooks
from symgraph.graph.types import Shape, TensorType, TupleType, Type


class Node:
    """A value as NetworkX sees it: nodes compare by identity, which its algorithms rely on.

    Values build a comparison on `==`, so they cannot be nodes themselves.
    """

    __slots__ = ("__weakref__", "value")

    def __init__(self, value: Value) -> None:
        self.value = value

    @property
    def op(self) -> Op:
        """The operation."""
        return self.value.op

    @property
    def type(self) -> Type:
        """The type of the result."""
        return self.value.type

    @property
    def label(self) -> str:
        """The user's name for the value."""
        return self.value.label

    @property
    def inputs(self) -> tuple[Node, ...]:
        """The operands as nodes, in order."""
        return tuple(operand.node for operand in self.value.inputs)

    def __repr__(self) -> str:
        return f"<node {self.label}: {self.type}>"


class Value(TensorMethods):
    """A node of the graph: an operation, its operands, and the type of its result."""

    __slots__ = (
        "__weakref__", "_node", "guards", "inputs", "op", "origins", "picked", "serial", "type",
    )  # fmt: skip

    op: Op
    inputs: tuple[Value, ...]
    type: Type
    guards: tuple[Guard, ...]  # what must be checked when sizes are known
    origins: Origins  # outside identity
    serial: int  # in the order in which values were made
    picked: tuple[Value | None, Any] | None  # the value and the key that gave it; outside identity
    _node: ref[Node] | None

    def __init__(
        self, op: Op, inputs: tuple[Value, ...], type: Type, guards: tuple[Guard, ...] = ()
    ) -> None:
        put = object.__setattr__
        put(self, "op", op)
        put(self, "inputs", inputs)
        put(self, "type", type)
        put(self, "guards", guards)
        put(self, "origins", here())
        put(self, "serial", next(_serials))
        put(self, "picked", None)
        put(self, "_node", None)

    def __setattr__(self, name: str, value: Any) -> None:
        raise GraphError(
            f"graph: values are immutable; `{name}` of `{self.label}` cannot be set.",
            fix="build a new value, or hold changing numbers in sg.shared(...)",
        )

    def __delattr__(self, name: str) -> None:
        raise GraphError(f"graph: values are immutable; `{name}` of `{self.label}` stays.")

    __hash__ = object.__hash__

    @property
    def node(self) -> Node:
        """This value as a node of a NetworkX graph; always the same one while somebody holds it."""
        found = self._node() if self._node is not None else None
        if found is None:
            with _lock:
                found = self._node() if self._node is not None else None
                if found is None:
                    found = Node(self)
                    object.__setattr__(self, "_node", ref(found))
        return found

    @property
    def tensor(self) -> TensorType:
        """The type, known to be an array's; a tuple-valued node raises `GraphError`."""
        if isinstance(self.type, TupleType):
            raise GraphError(f"graph: `{self.op.name}` has several results; take its items.")
        return self.type

    @property
    def dtype(self) -> str:
        """The dtype by its canonical name."""
        return self.tensor.dtype

    @property
    def shape(self) -> Shape:
        """The sizes of all axes: ints and symbolic sizes."""
        return self.tensor.shape

    @property
    def ndim(self) -> int:
        """The number of axes."""
        return len(self.tensor.shape)

    @property
    def size(self) -> Size:
        """The number of elements."""
        return self.tensor.size

    @property
    def label(self) -> str:
        """The user's name for this value: a leaf's own, else what its line assigns it to."""
        own = getattr(self.op, "label", None)
        return own or assigned_name(self.origins) or self.op.name

    def describe(self) -> str:
        """Give the line about this value that error messages show."""
        made = f"   made at {describe(self.origins[0])}" if self.origins else ""
        return f"{self.label} : {self.type}{made}"

    def __repr__(self) -> str:
        return f"<{self.label}: {self.type} = {self.op!r}>"

    def __reduce__(self) -> Any:
        raise GraphError(
            "graph: values cannot be pickled; identity would be lost.",
            fix="save the weights as a checkpoint, or the function with its own save",
        )

    def __copy__(self) -> Value:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Value:
        return self


def add_origins(value: Value, origins: Origins, *, first: bool = False) -> None:
    """Add source lines to a node, behind its own or first; they are not part of its identity."""
    if origins and value.origins is not origins:
        both = (origins, value.origins) if first else (value.origins, origins)
        object.__setattr__(value, "origins", union(*both))


_serials = itertools.count()


def remember(value: Value, whole: Value, key: Any) -> None:
    """Note that a value is `whole[key]`, for what changes elements of the whole.

    Of several keys that give one node the last one counts. A key that selects everything gives the
    value itself: then None stands for it, as a value must not keep itself alive.
    """
    object.__setattr__(value, "picked", (None if value is whole else whole, key))


_table: WeakValueDictionary[tuple[Any, ...], Value] = WeakValueDictionary()
_lock = threading.Lock()


def _new_lock() -> None:
    """Open the lock in a child of fork, which lacks the thread that may have held it."""
    global _lock
    _lock = threading.Lock()


if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=_new_lock)


def make(op: Op, *inputs: Value) -> Value:
    """Give the node of an operation on operands: the existing one, or a new one.

    Raises `ShapeError` or `DTypeError` that names the operation, the operands and the user's lines.
    """
    key = (op, *map(id, inputs))
    found = _table.get(key)
    if found is not None:
        add_origins(found, here())
        return found
    with collect_guards() as guards:
        try:
            type = op.infer(*(operand.type for operand in inputs))
            if not op.takes_complex:
                _refuse_complex(type, inputs)
        except (DimError, ShapeError, DTypeError) as problem:
            raise explained(problem, op, inputs) from None
    made = Value(op, inputs, type, tuple(_named(guard, op, inputs) for guard in guards))
    with _lock:
        return _table.setdefault(key, made)


def _refuse_complex(type: Type, inputs: Sequence[Value]) -> None:
    """Raise `DTypeError` where an operation that has no complex numbers meets one."""
    for one in (*(operand.type for operand in inputs), type):
        for part in one.types if isinstance(one, TupleType) else (one,):
            if is_complex(part.dtype):
                raise DTypeError(
                    f"takes no complex numbers, and a value is {part.dtype}.",
                    fix="take real(x), imag(x) or abs(x) first",
                )


def now() -> int:
    """Give the serial that the next value gets at least: what is older is smaller."""
    return next(_serials)


def alive() -> int:
    """Count the interned nodes alive; tests of leaks use it."""
    return len(_table)


@cache
def _parameters(infer: Callable[..., Type]) -> tuple[str, ...]:
    return tuple(inspect.signature(infer).parameters)[1:]


def in_users_names(text: str, op: Op, inputs: Sequence[Value]) -> str:
    """Replace the parameters of `infer`, written `{x}`, by the user's names of the operands."""
    if "{" not in text:
        return text
    names = _parameters(type(op).infer)
    if op.variadic:
        names = tuple(f"x{i}" for i in range(len(inputs)))
    for name, operand in zip(names, inputs):
        text = text.replace("{" + name + "}", f"`{operand.label}`")
    return text


def _named(guard: Guard, op: Op, inputs: Sequence[Value]) -> Guard:
    """Give a guard that says, in the user's names, which operation needs it."""
    why = in_users_names(guard.why, op, inputs)
    return replace(guard, why=why if why.startswith(op.name) else f"{op.name}: {why}")


def explained(problem: SymgraphError, op: Op, inputs: Sequence[Value]) -> SymgraphError:
    """Give the error again with the operation, the operands by name, and the user's lines."""
    if problem.details:
        return problem
    message, fix = (in_users_names(text, op, inputs) for text in (problem.message, problem.fix))
    if not message.startswith(f"{op.name}:"):
        message = f"{op.name}: {message}"
    kind = DTypeError if isinstance(problem, DTypeError) else ShapeError
    return kind(message, details=operand_lines(inputs), fix=fix)


def operand_lines(values: Iterable[Value]) -> list[str]:
    """Give the aligned lines about operands that an error message ends with."""
    unique = list(dict.fromkeys(values))
    width = max((len(value.label) for value in unique), default=0)
    kinds = max((len(str(value.type)) for value in unique), default=0)
    lines = []
    for value in unique:
        made = f"   made at {describe(value.origins[0])}" if value.origins else ""
        lines.append(f"{value.label:<{width}} : {value.type!s:<{kinds}}{made}".rstrip())
    return lines


def _lines_about(arguments: Iterable[Any]) -> list[str]:
    """Give the lines about the values among the arguments of a function, lists of them included."""
    found: list[Value] = []
    for argument in arguments:
        parts = argument if isinstance(argument, list | tuple) else (argument,)
        found.extend(part for part in parts if isinstance(part, Value))
    return operand_lines(found)


hooks.operand_lines = _lines_about
