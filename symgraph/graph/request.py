"""What a caller of `function` asks for beside outputs, checked: inputs, updates and givens."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from symgraph.errors import ArgumentTypeError, DTypeError, GraphError, ShapeError
from symgraph.graph.leaves import Input, Shared, as_value, check_update
from symgraph.graph.node import Value, operand_lines
from symgraph.graph.registry import apply

Pairs = Mapping[Any, Any] | Sequence[tuple[Any, Any]]


def inputs_of(inputs: Sequence[Value], name: str) -> list[Value]:
    if not isinstance(inputs, Iterable):
        raise ArgumentTypeError(
            f"{name}: inputs must be a list of symbolic values, got {type(inputs).__name__}.",
            fix="sg.function([x, y], ...); [] where there are none",
        )
    result: list[Value] = []
    known: set[Value] = set()
    for value in inputs:
        if not isinstance(value, Value):
            raise ArgumentTypeError(
                f"{name}: inputs must be symbolic values, got {type(value).__name__}.",
                fix='declare one with sg.tensor("x", shape)',
            )
        if not isinstance(value.op, Input):
            what = "a shared variable" if isinstance(value, Shared) else f"made by {value.op.name}"
            raise GraphError(
                f"{name}: `{value.label}` cannot be an input: it is {what}.",
                details=[value.describe()],
                fix="replace it with givens={value: input}",
            )
        if value in known:
            raise GraphError(
                f"{name}: the input `{value.label}` is listed twice.", details=[value.describe()]
            )
        known.add(value)
        result.append(value)
    return result


def pairs(what: str, pairs: Pairs) -> list[tuple[Any, Any]]:
    if isinstance(pairs, Mapping):
        return list(pairs.items())
    listed = list(pairs) if isinstance(pairs, list | tuple) else [pairs]
    for pair in listed:
        if not isinstance(pair, list | tuple) or len(pair) != 2:
            raise ArgumentTypeError(
                f"{what} must be a mapping or a list of pairs, it holds {pair!r:.60}.",
                fix=f"{what}={{old: new}}",
            )
    return [(old, new) for old, new in listed]


def updates_of(updates: Pairs, name: str) -> dict[Shared, Value]:
    result: dict[Shared, Value] = {}
    for target, new in pairs(f"{name}: updates", updates):
        shared, value = check_update(target, new)
        if shared in result:
            raise GraphError(
                f"updates: `{shared.label}` is updated twice.", details=[shared.describe()]
            )
        result[shared] = value
    return result


def givens_of(givens: Pairs, name: str) -> dict[Value, Value]:
    result: dict[Value, Value] = {}
    for old, new in pairs(f"{name}: givens", givens):
        if not isinstance(old, Value):
            raise ArgumentTypeError(
                f"{name}: givens replaces values, got {type(old).__name__}.",
                fix="givens={value: replacement}",
            )
        value = as_value(new, old.dtype)
        if value.dtype != old.dtype:
            raise DTypeError(
                f"{name}: givens must keep the dtype: {value.dtype} is not {old.dtype}.",
                details=operand_lines([old, value]),
                fix=f'cast the replacement: .cast("{old.dtype}")',
            )
        if value.ndim != old.ndim:
            raise ShapeError(
                f"{name}: givens must keep the number of axes: {value.ndim} is not {old.ndim}.",
                details=operand_lines([old, value]),
            )
        # what was built on `old` relies on its sizes
        result[old] = value if value.type == old.type else _resized(name, old, value)
    return result


def _resized(name: str, old: Value, value: Value) -> Value:
    """Give a replacement the shape of what it replaces; what is undecided becomes a guard."""
    try:
        return apply("specify_shape", value, old.shape)
    except ShapeError:
        raise ShapeError(
            f"{name}: givens must keep the shape: {value.type} is not {old.type}.",
            details=operand_lines([old, value]),
        ) from None
