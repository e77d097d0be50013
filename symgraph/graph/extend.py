"""`numpy_op`: a NumPy function as an operation, on every backend that runs on the CPU."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from inspect import Parameter, signature
from types import ModuleType
from typing import Any

import numpy as np

from symgraph.dims import Size, collect_guards
from symgraph.errors import ArgumentTypeError, DTypeError, GradError, ShapeError
from symgraph.graph.dtypes import dtype_name, is_float
from symgraph.graph.leaves import as_value, items
from symgraph.graph.node import Value, make
from symgraph.graph.op import Array, Cotangent, Op, op
from symgraph.graph.registry import Functions, function_of
from symgraph.graph.types import TensorType, TupleType, Type

Rule = Callable[..., Any]
_EMPTY = Parameter.empty


class NumpyOp(Op):
    """What operations that are NumPy functions share; see `numpy_op`."""

    host = True
    calls_user = True
    rules: dict[str, Any]

    def infer(self, *types: Any) -> Type:
        return _type(self.name, self.rules["infer"](*types, **self.attributes()))

    def ref(self, xp: ModuleType, *arrays: Array) -> Any:
        given = []
        for array in map(np.asarray, arrays):
            view = array.view()
            view.flags.writeable = False  # it may be the caller's own, or somebody else's operand
            given.append(view)
        found = self.rules["ref"](*given, **self.attributes())
        with collect_guards():
            types = [TensorType(dtype_name(one.dtype), one.shape) for one in given]
            wanted = self.infer(*types)
        if isinstance(wanted, TensorType):
            return _checked(self.name, found, wanted)
        if not isinstance(found, tuple | list) or len(found) != len(wanted.types):
            raise ShapeError(f"{self.name}: must give {len(wanted.types)} arrays, see its infer.")
        return tuple(_checked(self.name, one, type) for one, type in zip(found, wanted.types))

    def vjp(self, F: Functions, g: Any, y: Any, *xs: Value) -> tuple[Cotangent, ...]:
        rule = self.rules["vjp"]
        if rule is None:
            if not any(is_float(x.dtype) for x in xs):
                return tuple(None for _ in xs)
            raise GradError(
                f"{self.name}: the operation has no gradient.",
                fix="say what it is: numpy_op(infer=..., vjp=lambda g, y, x: ...)",
            )
        found = rule(g, y, *xs, **self.attributes())
        several = found if isinstance(found, tuple | list) else (found,)
        if len(several) != len(xs):
            raise GradError(
                f"{self.name}: vjp must give a cotangent for each of {len(xs)} operands, "
                f"it gives {len(several)}.",
                fix="None for an operand without a gradient",
            )
        return tuple(several)

    def flops(self, of: Callable[[Value], Size], *types: Any) -> Size:
        rule = self.rules["flops"]
        found: Size = 0 if rule is None else rule(*types, **self.attributes())
        return found


def _type(name: str, found: Any) -> Type:
    if isinstance(found, TensorType | TupleType):
        return found
    if isinstance(found, tuple | list) and all(isinstance(one, TensorType) for one in found):
        return TupleType(tuple(found))
    raise ArgumentTypeError(
        f"{name}: infer must give a type, or several, got {found!r:.60}.",
        fix="infer=lambda x: x.with_shape((*x.shape, 2))",
    )


def _checked(name: str, found: Any, wanted: TensorType) -> Array:
    """Give a result as an array of exactly the inferred type, or say how it differs."""
    array = np.asarray(found)
    if array.dtype.kind == "O" or dtype_name(array.dtype) != wanted.dtype:
        raise DTypeError(
            f"{name}: its infer says {wanted}, the NumPy function gave {array.dtype}.",
            fix=f'return result.astype("{wanted.dtype}"), or infer another dtype',
        )
    if array.shape != wanted.shape:
        given = TensorType(wanted.dtype, array.shape)
        raise ShapeError(f"{name}: its infer says {wanted}, the NumPy function gave {given}.")
    return array


def numpy_op(
    *, infer: Rule, vjp: Rule | None = None, flops: Rule | None = None, name: str | None = None
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Make a NumPy function an operation: it gets arrays, and is called when a graph is computed.

    Its positional parameters are operands, its keyword-only ones attributes. `infer` gives the type
    of the result from those of the operands (a tuple of types for several results),
    `vjp(g, y, *operands)` the cotangents in symbolic values, `flops` the work from the types (else
    none is counted); each gets the attributes too. The arrays that it gets cannot be written to. It
    is called once in each call; what it raises ends the call before any variable is written.
    Raises `ArgumentTypeError` for what is no such function, `PassError` for a name that is taken.
    docs/how-to/add-an-op.md shows one.
    """

    def register(fn: Callable[..., Any]) -> Callable[..., Any]:
        if not callable(fn) or not callable(infer):
            raise ArgumentTypeError(
                "numpy_op: takes a function of arrays, and infer, a function of types.",
                fix="@sg.numpy_op(infer=lambda x: x) above a def",
            )
        called = name or str(getattr(fn, "__name__", "numpy_op"))
        operands, attributes = _parameters(called, fn)
        kind = _class(
            called, fn, attributes, {"ref": fn, "infer": infer, "vjp": vjp, "flops": flops}
        )
        return _builder(called, fn, kind, operands)

    return register


def _parameters(name: str, fn: Callable[..., Any]) -> tuple[list[str], list[Parameter]]:
    operands, attributes = [], []
    for each in signature(fn).parameters.values():
        if each.kind is Parameter.KEYWORD_ONLY:
            attributes.append(each)
        elif each.kind in (Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD):
            operands.append(each.name)
        else:
            raise ArgumentTypeError(
                f"numpy_op: `{name}` has the parameter {each}; operands are counted.",
                fix="name each operand, and make attributes keyword-only: def f(x, *, k=2)",
            )
    return operands, attributes


def _class(
    name: str, fn: Callable[..., Any], attributes: Sequence[Parameter], rules: dict[str, Any]
) -> type[NumpyOp]:
    members: dict[str, Any] = {
        "name": name, "rules": rules, "__doc__": fn.__doc__, "__module__": fn.__module__,
    }  # fmt: skip
    members |= {one.name: one.default for one in attributes if one.default is not _EMPTY}
    if attributes:
        members["__annotations__"] = {
            one.name: Any if one.annotation is _EMPTY else one.annotation for one in attributes
        }
    return op(type(name.title().replace("_", ""), (NumpyOp,), members))


def _builder(
    name: str, fn: Callable[..., Any], kind: type[NumpyOp], operands: Sequence[str]
) -> Callable[..., Any]:
    def build(*given: Any, **attributes: Any) -> Any:
        try:
            bound = signature(fn).bind(*given, **attributes)
        except TypeError as problem:
            raise ArgumentTypeError(f"{name}: {problem}.") from None
        bound.apply_defaults()
        values = [as_value(bound.arguments.pop(one)) for one in operands]
        node = make(kind(**bound.arguments), *values)
        return items(node) if isinstance(node.type, TupleType) else node

    build.__name__ = build.__qualname__ = name
    build.__doc__, build.__module__ = fn.__doc__, fn.__module__
    build.__signature__ = signature(fn)  # type: ignore[attr-defined]
    return function_of(build)
