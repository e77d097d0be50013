"""Patterns: expressions with holes, written like the mathematics that they match.

`P.log(P.softmax(x, axis=A))` with `x = wild("x")` and `A = attribute("A")` matches any logarithm of
a softmax. Matching goes by operation, and knows three things that a text would not: operands of
commutative operations come in any order; a number stands for any constant array that is full of it,
repeated or reshaped; and an elementwise operation is found behind a reshape, a permutation of axes
or a repetition, because it could as well have come before.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields
from functools import cache
from inspect import Parameter, signature
from typing import TYPE_CHECKING, Any

import numpy as np

from symgraph.errors import ArgumentError, ArgumentTypeError, PassError, UnknownNameError
from symgraph.frozen import frozen
from symgraph.graph.elementwise import Elementwise
from symgraph.graph.leaves import Constant
from symgraph.graph.node import Value, make
from symgraph.graph.op import Op
from symgraph.graph.registry import FUNCTIONS, OPS, Functions

Bindings = Mapping[str, Any]

# The same elements in another arrangement: elementwise operations may come before or after.
VIEWS = frozenset({"broadcast_to", "permute_dims", "reshape"})
# What the functions of these operations call an attribute that the operation calls otherwise.
_ATTRIBUTES = {"logsumexp": {"axis": "axes"}}


class Pattern:
    """An expression with holes. Operators build larger patterns, as they do with values."""

    # fmt: off
    def __add__(self, other: Any) -> Pattern: return apply("add", self, other)
    def __radd__(self, other: Any) -> Pattern: return apply("add", other, self)
    def __sub__(self, other: Any) -> Pattern: return apply("subtract", self, other)
    def __rsub__(self, other: Any) -> Pattern: return apply("subtract", other, self)
    def __mul__(self, other: Any) -> Pattern: return apply("multiply", self, other)
    def __rmul__(self, other: Any) -> Pattern: return apply("multiply", other, self)
    def __truediv__(self, other: Any) -> Pattern: return apply("divide", self, other)
    def __rtruediv__(self, other: Any) -> Pattern: return apply("divide", other, self)
    def __floordiv__(self, other: Any) -> Pattern: return apply("floor_divide", self, other)
    def __rfloordiv__(self, other: Any) -> Pattern: return apply("floor_divide", other, self)
    def __mod__(self, other: Any) -> Pattern: return apply("remainder", self, other)
    def __rmod__(self, other: Any) -> Pattern: return apply("remainder", other, self)
    def __pow__(self, other: Any) -> Pattern: return apply("pow", self, other)
    def __rpow__(self, other: Any) -> Pattern: return apply("pow", other, self)
    def __matmul__(self, other: Any) -> Pattern: return apply("matmul", self, other)
    def __lt__(self, other: Any) -> Pattern: return apply("less", self, other)
    def __le__(self, other: Any) -> Pattern: return apply("less_equal", self, other)
    def __gt__(self, other: Any) -> Pattern: return apply("greater", self, other)
    def __ge__(self, other: Any) -> Pattern: return apply("greater_equal", self, other)
    def __neg__(self) -> Pattern: return apply("negative", self)
    def __abs__(self) -> Pattern: return apply("abs", self)
    # fmt: on

    def __bool__(self) -> bool:
        raise ArgumentTypeError(
            "pattern: a pattern is neither true nor false.",
            fix="ask for conditions in a function as the new side of the rule",
        )

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            hint = f"write sg.P.{name}(x)" if name in OPS else "build it with sg.P"
            raise UnknownNameError(f"pattern: a pattern has no member `{name}`.", fix=hint)

    def match(self, value: Value, known: Bindings) -> Iterator[Bindings]:
        """Give every way in which the value is this expression, each as bindings of the holes."""
        raise PassError(f"pattern: {type(self).__name__} cannot match.")

    def build(self, F: Functions, known: Bindings) -> Any:
        """Build the expression from what fills the holes."""
        raise PassError(f"pattern: {type(self).__name__} cannot be built.")


@frozen
class Wild(Pattern):
    """A hole for any value; the same name must be the same value everywhere."""

    name: str

    def match(self, value: Value, known: Bindings) -> Iterator[Bindings]:
        bound = known.get(self.name)
        if bound is None:
            yield {**known, self.name: value}
        elif bound is value:
            yield known

    def build(self, F: Functions, known: Bindings) -> Any:
        return known[self.name]


@frozen
class Literal(Pattern):
    """A hole for a number: a constant whose elements are all the same; bound to that number."""

    name: str

    def match(self, value: Value, known: Bindings) -> Iterator[Bindings]:
        found = number_of(value)
        if found is not None and known.get(self.name, found) == found:
            yield {**known, self.name: found}

    def build(self, F: Functions, known: Bindings) -> Any:
        return known[self.name]


@frozen
class Number(Pattern):
    """A given number; the sign of zero counts."""

    value: float

    def match(self, value: Value, known: Bindings) -> Iterator[Bindings]:
        found = number_of(value)
        if found is not None and found == self.value and _sign(found) == _sign(self.value):
            yield known

    def build(self, F: Functions, known: Bindings) -> Any:
        return self.value


@frozen
class Attribute:
    """A hole for an attribute of an operation, such as the axis of a sum."""

    name: str


@frozen
class Apply(Pattern):
    """An operation by name, on patterns, with attributes that are given or holes."""

    name: str
    operands: tuple[Pattern, ...]
    attributes: tuple[tuple[str, Any], ...]  # of the operation, under the function's names
    fields: tuple[str, ...]  # the same attributes under the operation's names
    commutes: bool
    elementwise: bool  # it and all that it is applied to: these may stand behind a view

    def match(self, value: Value, known: Bindings) -> Iterator[Bindings]:
        name = value.op.name
        if name == self.name:
            met = self._attributes(value, known)
            if met is not None:
                yield from self._operands(value, met)
        elif self.elementwise and name in VIEWS:
            yield from self._behind(value, known)

    def _attributes(self, value: Value, known: Bindings) -> Bindings | None:
        for field, (_, wanted) in zip(self.fields, self.attributes):
            found = getattr(value.op, field)
            if isinstance(wanted, Attribute):
                if known.get(wanted.name, found) != found:
                    return None
                known = {**known, wanted.name: found}
            elif found != wanted:
                return None
        return known

    def _operands(self, value: Value, known: Bindings) -> Iterator[Bindings]:
        inputs = value.inputs
        if len(self.operands) == 1:
            yield from self.operands[0].match(inputs[0], known)
        elif len(self.operands) == 2:
            first, second = self.operands
            for met in first.match(inputs[0], known):
                yield from second.match(inputs[1], met)
            if self.commutes and inputs[0] is not inputs[1]:
                for met in first.match(inputs[1], known):
                    yield from second.match(inputs[0], met)
        elif len(self.operands) == len(inputs):
            ways = [known]
            for pattern, operand in zip(self.operands, inputs):
                ways = [met for way in ways for met in pattern.match(operand, way)]
            yield from ways

    def _behind(self, view: Value, known: Bindings) -> Iterator[Bindings]:
        """Match what the view rearranges, and rearrange what fills the holes instead."""
        views, source = [view], view.inputs[0]
        while source.op.name in VIEWS:
            views.append(source)
            source = source.inputs[0]
        if source.op.name != self.name:
            return
        for met in self.match(source, {}):
            seen: Bindings | None = met
            for each in reversed(views):
                if seen is not None:
                    seen = _merged({}, {name: _seen(each, part) for name, part in seen.items()})
            merged = None if seen is None else _merged(known, seen)
            if merged is not None:
                yield merged

    def build(self, F: Functions, known: Bindings) -> Any:
        operands = [pattern.build(F, known) for pattern in self.operands]
        attributes = {
            name: known[wanted.name] if isinstance(wanted, Attribute) else wanted
            for name, wanted in self.attributes
        }
        return getattr(F, self.name)(*operands, **attributes)


def _seen(view: Value, part: Any) -> Any:
    """Give what fills a hole as the view shows it; None where the view cannot show it."""
    if not isinstance(part, Value) or (not part.shape and view.inputs[0].shape):
        return part  # a number among arrays: arithmetic repeats it
    if not part.tensor.same(part.tensor.with_shape(view.inputs[0].shape)):
        return None
    return make(view.op, part)


def _merged(known: Bindings, found: Bindings) -> Bindings | None:
    for name, part in found.items():
        bound = known.get(name, part)
        if part is None or (bound is not part and (isinstance(part, Value) or bound != part)):
            return None
    return {**known, **found}


def _sign(number: float) -> bool:
    return bool(np.signbit(number))


def number_of(value: Value) -> Any:
    """Give the number that a constant is full of, through repetition and reshaping; else None."""
    while value.op.name in VIEWS:
        value = value.inputs[0]
    return value.op.uniform if isinstance(value.op, Constant) else None


def pattern_of(part: Any) -> Pattern:
    """Make a pattern of what a user wrote as an operand: a pattern, or a number."""
    if isinstance(part, Pattern):
        return part
    if isinstance(part, bool | int | float):
        return Number(part)
    raise ArgumentError(
        f"pattern: {part!r:.60} is neither a pattern nor a number.",
        fix='make holes with sg.wild("x")',
    )


def apply(name: str, *operands: Any, **attributes: Any) -> Apply:
    """Make the pattern of an operation; every attribute of it must be given.

    Raises `PassError` for a missing attribute, `ArgumentError` for an operand too many or too few.
    """
    kind = OPS[name]
    renamed = _ATTRIBUTES.get(name, {})
    own = tuple(renamed.get(given, given) for given in attributes)
    needed = {field.name for field in fields(kind)}
    if set(own) != needed:
        raise PassError(
            f"pattern: {name} has the attributes {sorted(needed)}, the pattern says {sorted(own)}.",
            fix='give each, as a value or as sg.attribute("A")',
        )
    parts = tuple(map(pattern_of, operands))
    _check_count(name, kind, len(parts), needed)
    # behind a view an axis would be another one, so what has axes is found as it stands only
    within = all(part.elementwise for part in parts if isinstance(part, Apply))
    return Apply(
        name,
        parts,
        tuple(attributes.items()),
        own,
        kind.commutes,
        issubclass(kind, Elementwise) and within,
    )


def _check_count(name: str, kind: type[Op], count: int, attributes: set[str]) -> None:
    """Raise `ArgumentError` for a number of operands that the operation never has."""
    told = FUNCTIONS.get(name) if issubclass(kind, Elementwise) else kind.infer
    if told is None:
        return
    operands = [each for each in _parameters(told) if each.name not in {"self", *attributes}]
    if any(each.kind is Parameter.VAR_POSITIONAL for each in operands):
        return
    least = sum(each.default is Parameter.empty for each in operands)
    if not least <= count <= len(operands):
        names = ", ".join(each.name for each in operands)
        raise ArgumentError(
            f"pattern: {name} has the operands ({names}), the pattern gives {count}."
        )


@cache
def _parameters(told: Callable[..., Any]) -> tuple[Parameter, ...]:
    return tuple(signature(told).parameters.values())


def _near(name: str) -> str:
    near = difflib.get_close_matches(name, OPS, n=3)
    return f"did you mean {' or '.join(near)}?" if near else "see dir(sg.P) for the operations"


class Patterns:
    """The operations as pattern builders: `P.exp(x)`."""

    def __getattr__(self, name: str) -> Callable[..., Apply]:
        if name not in OPS:
            raise UnknownNameError(f"pattern: there is no operation `{name}`.", fix=_near(name))
        return lambda *operands, **attributes: apply(name, *operands, **attributes)

    def __dir__(self) -> list[str]:
        return sorted(OPS)


P = Patterns()


def wild(names: str) -> Any:
    """Make holes for values: `x = wild("x")`, `x, y = wild("x y")`.

    Raises `ArgumentError` for what is no name, `ArgumentTypeError` for what is no string.
    """
    return _holes("wild", Wild, names)


def literal(names: str) -> Any:
    """Make holes for numbers, bound to Python numbers: `c = literal("c")`; raises as `wild`."""
    return _holes("literal", Literal, names)


def attribute(names: str) -> Any:
    """Make holes for attributes: `A = attribute("A")`; raises as `wild`."""
    return _holes("attribute", Attribute, names)


def _holes(asked: str, kind: Callable[[str], Any], names: Any) -> Any:
    fix = f'{asked}("x"), or {asked}("x y") for several'
    if not isinstance(names, str):
        raise ArgumentTypeError(
            f"{asked}: the names must be a string, got {type(names).__name__}.", fix=fix
        )
    listed = names.split()
    wrong = [name for name in listed if not name.isidentifier() or name == "F"]
    if wrong or not listed:
        what = f"`{wrong[0]}` is no name of a hole" if wrong else "there is no name"
        reason = ": rules call the operations F" if wrong == ["F"] else ""
        raise ArgumentError(f"{asked}: {what}{reason}.", fix=fix)
    made = [kind(name) for name in listed]
    return made[0] if len(made) == 1 else made
