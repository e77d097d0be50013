"""Derivatives that a user gives: `custom_vjp`, `custom_jvp`, and `checkpoint`."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any

from symgraph.autodiff.batch import lanes
from symgraph.autodiff.call import Call, Inside, Rules, called, operands_of, with_operands
from symgraph.autodiff.forward import push
from symgraph.autodiff.reverse import sweep
from symgraph.autodiff.rules import front
from symgraph.autodiff.template import Template, filled
from symgraph.autodiff.trees import is_tree, leaves
from symgraph.autodiff.trees import like as shaped
from symgraph.dims import Size, equal
from symgraph.errors import ArgumentTypeError, GradError
from symgraph.graph.body import Body, like
from symgraph.graph.draws import collect_draws, drawn
from symgraph.graph.dtypes import has_gradient
from symgraph.graph.leaves import Attach, Item, as_value, items
from symgraph.graph.node import Value, make, operand_lines
from symgraph.graph.op import ZERO, Cotangent
from symgraph.graph.registry import F, function_of
from symgraph.graph.types import TupleType

Function = Callable[..., Any]


class _WithRule:
    """A function whose derivative its user gives."""

    kind = ""
    define = ""

    def __init__(self, f: Function) -> None:
        if not callable(f) or isinstance(f, Value):
            raise ArgumentTypeError(
                f"{self.kind}: takes a function, got {type(f).__name__}.",
                fix=f"@sg.{self.kind} above the function",
            )
        functools.update_wrapper(self, f)  # type: ignore[arg-type]
        self.f = f
        self.label = getattr(f, "__name__", "f")

    def ready(self, rule: Any) -> None:
        """Raise `GradError` unless the rule was given."""
        if rule is None:
            raise GradError(
                f"{self.kind}: `{self.label}` has no rule yet.",
                fix=f"{self.label}.{self.define} before it is called",
            )


class CustomVjp(_WithRule):
    """A function with a gradient of its own; see `custom_vjp`."""

    kind = "custom_vjp"
    define = "defvjp(fwd, bwd)"

    def __init__(self, f: Function) -> None:
        super().__init__(f)
        self.rule: tuple[Function, Function] | None = None

    def defvjp(self, fwd: Function, bwd: Function) -> None:
        """Give the rule: `fwd(*args)` -> (result, residuals), `bwd(residuals, cotangent)` -> one
        cotangent for each argument, of its type, or None for zero.
        """
        for part in (fwd, bwd):
            if not callable(part):
                raise ArgumentTypeError(
                    f"custom_vjp: defvjp takes two functions, got {type(part).__name__}.",
                    fix=f"{self.label}.defvjp(fwd, bwd)",
                )
        self.rule = fwd, bwd

    def __call__(self, *args: Any) -> Any:
        self.ready(self.rule)
        return called(self.kind, self.f, args, lambda found: _PullRules(self, args, found))


class CustomJvp(_WithRule):
    """A function with a forward derivative of its own; see `custom_jvp`."""

    kind = "custom_jvp"
    define = "defjvp(rule)"

    def __init__(self, f: Function) -> None:
        super().__init__(f)
        self.rule: Function | None = None

    def defjvp(self, rule: Function) -> Function:
        """Give the rule: `rule(args, tangents)` -> (result, its tangent), linear in tangents."""
        if not callable(rule):
            raise ArgumentTypeError(
                f"custom_jvp: defjvp takes a function, got {type(rule).__name__}.",
                fix=f"{self.label}.defjvp(rule)",
            )
        self.rule = rule
        return rule

    def __call__(self, *args: Any) -> Any:
        self.ready(self.rule)
        return called(self.kind, self.f, args, lambda found: _PushRules(self, args, found))


@function_of
def custom_vjp(f: Function) -> CustomVjp:
    """Make a function whose gradient `f.defvjp(fwd, bwd)` gives, instead of following from f.

    `fwd(*args)` gives (result, residuals), any values that the way back needs;
    `bwd(residuals, cotangent)` gives one cotangent for each argument, None for zero. Arguments may
    be structures of values; those that are no values are fixed. Values that f reads from outside
    have no gradient. Raises `GradError` where a cotangent has not the type of its argument.

    >>> import symgraph as sg
    >>> f = sg.custom_vjp(lambda x: sg.floor(x))  # a gradient where there is none
    >>> f.defvjp(lambda x: (f(x), x), lambda x, g: (2 * x * g,))
    >>> x = sg.vector("x")
    >>> sg.grad(f(x).sum(), x).eval(x=[1.5, 2.5]).tolist()
    [3.0, 5.0]
    """
    return CustomVjp(f)


@function_of
def custom_jvp(f: Function) -> CustomJvp:
    """Make a function whose derivative `f.defjvp(rule)` gives, instead of following from f.

    `rule(args, tangents)` gives (result, its tangent), linear in the tangents; the gradient is its
    transpose. Tangents of arguments that are not floats are None. Raises `GradError` where the
    tangent has not the type of the result.

    >>> import symgraph as sg
    >>> f = sg.custom_jvp(lambda x: sg.exp(x))
    >>> _ = f.defjvp(lambda args, tangents: (f(*args), args[0] * tangents[0]))
    >>> x = sg.vector("x")
    >>> sg.grad(f(x).sum(), x).eval(x=[1.5, 2.5]).tolist()
    [1.5, 2.5]
    """
    return CustomJvp(f)


@function_of
def checkpoint(f: Function) -> Function:
    """Make a function that keeps nothing but its operands for the way back, and computes again.

    Values and gradients are those of f, random numbers too; the peak of memory is lower and f is
    computed twice. Chen et al., 2016 (arXiv:1604.06174).

    >>> import symgraph as sg
    >>> x = sg.scalar("x")
    >>> float(sg.grad(sg.checkpoint(lambda x: sg.exp(x * x))(x), x).eval(x=0.0))
    0.0
    """
    if not callable(f) or isinstance(f, Value):
        raise ArgumentTypeError(
            f"checkpoint: takes a function, got {type(f).__name__}.", fix="sg.checkpoint(f)(x)"
        )

    @functools.wraps(f)
    def kept(*args: Any) -> Any:
        with collect_draws() as draws:
            found = called(
                "checkpoint", f, args, lambda found: _Again(tuple(draws)),
                states=lambda: [state for value in draws for state in value.inputs],
            )  # fmt: skip
        for value in operands_of((found,))[:1] if draws else ():
            while isinstance(value.op, Attach | Item):  # down to the call, which reads the states
                value = value.inputs[0]
            drawn(value)
        return found

    return kept


# -- rules -----------------------------------------------------------------------------------------


class _PullRules(Rules):
    """What a function with a gradient of its own does."""

    def __init__(self, owner: CustomVjp, args: Sequence[Any], found: Any) -> None:
        self.name = f"custom_vjp of {owner.label}"
        self.owner, self.args, self.found = owner, tuple(args), found
        self.count = len(operands_of(self.args))

    def pull(self, call: Call, g: Any, y: Any, xs: Sequence[Value]) -> tuple[Cotangent, ...]:
        assert self.owner.rule is not None  # `ready` was called
        fwd, bwd = self.owner.rule
        given = fwd(*with_operands(self.args, xs[: self.count]))
        if not isinstance(given, tuple) or len(given) != 2:
            raise GradError(
                f"custom_vjp: `fwd` of `{self.owner.label}` must give (result, residuals)."
            )
        seeds = [
            own if own is not None else F.zeros_like(each) if has_gradient(each.dtype) else None
            for own, each in zip(g, y)
        ]
        pulled = bwd(given[1], shaped(self.found, seeds))
        found = [
            _checked(self.owner, number, x, one)
            for number, (x, one) in enumerate(zip(xs, self._matched(pulled)))
        ]
        return (*found, *(self._captured(x) for x in xs[self.count :]))

    def _matched(self, pulled: Any) -> list[Any]:
        """Give one cotangent for each operand."""
        if len(self.args) == 1 and not isinstance(pulled, tuple):
            pulled = (pulled,)
        if not isinstance(pulled, tuple | list) or len(pulled) != len(self.args):
            count = len(pulled) if isinstance(pulled, tuple | list) else 1
            raise GradError(
                f"custom_vjp: `bwd` of `{self.owner.label}` must give one cotangent for each of "
                f"{len(self.args)} arguments, it gives {count}.",
                fix="None stands for zero",
            )
        flat: list[Any] = []
        for argument, given in zip(self.args, pulled):
            slots = leaves(argument)
            if given is None:
                parts: list[Any] = [None] * len(slots)
            else:
                parts = leaves(given)
            if len(parts) != len(slots) or (
                given is not None and is_tree(given) != is_tree(argument)
            ):
                raise GradError(
                    f"custom_vjp: `bwd` of `{self.owner.label}` must give a cotangent of the "
                    "structure of its argument."
                )
            flat += [part for slot, part in zip(slots, parts) if isinstance(slot, Value)]
        return flat

    def _captured(self, x: Value) -> Cotangent:
        if not has_gradient(x.dtype):
            return None

        def refuse() -> Cotangent:
            raise GradError(
                f"custom_vjp: `{self.owner.label}` reads `{x.label}` from outside, and its rule "
                "says nothing about it.",
                details=operand_lines([x]),
                fix=f"give `{x.label}` as an argument, or read F.stop_gradient of it",
            )

        return refuse


def _checked(owner: CustomVjp, number: int, x: Value, given: Any) -> Cotangent:
    """Give a cotangent that has the type of its operand."""
    if not has_gradient(x.dtype):
        return None
    if given is None or given is ZERO:
        return ZERO
    value = as_value(given, x.dtype)
    _same_type(f"custom_vjp: the cotangent of operand {number} of `{owner.label}`", value, x)
    return F.specify_shape(value, x.shape)


def _same_type(what: str, found: Value, wanted: Value) -> None:
    same = (
        found.dtype == wanted.dtype
        and found.ndim == wanted.ndim
        and all(equal(a, b) is not False for a, b in zip(found.shape, wanted.shape))
    )
    if not same:
        raise GradError(
            f"{what} must be {wanted.type}, as `{wanted.label}` is; it is {found.type}.",
            details=operand_lines([wanted, found]),
            fix="sum over axes that were broadcast, and cast back",
        )


class _PushRules(Rules):
    """What a function with a forward derivative of its own does."""

    def __init__(self, owner: CustomJvp, args: Sequence[Any], found: Any) -> None:
        self.name = f"custom_jvp of {owner.label}"
        self.owner, self.args, self.found = owner, tuple(args), found
        self.count = len(operands_of(self.args))

    def push(self, call: Call, parts: Sequence[Any], y: Any, xs: Sequence[Value]) -> Any:
        for part, x in zip(parts[self.count :], xs[self.count :]):
            if isinstance(part, Value):
                raise self._refused(x)
        tangents = [
            part if isinstance(part, Value) else F.zeros_like(x) if has_gradient(x.dtype) else None
            for part, x in zip(parts[: self.count], xs)
        ]
        return tuple(self._tangents(xs, tangents, y))

    def _tangents(
        self, xs: Sequence[Value], tangents: Sequence[Value | None], y: Sequence[Value]
    ) -> list[Any]:
        assert self.owner.rule is not None  # `ready` was called
        fixed = with_operands(self.args, xs[: self.count])
        given = self.owner.rule(fixed, with_operands(self.args, tangents))
        if not isinstance(given, tuple) or len(given) != 2:
            raise GradError(
                f"custom_jvp: the rule of `{self.owner.label}` must give (result, its tangent)."
            )
        flat = leaves(given[1])
        if len(flat) != len(y):
            raise GradError(
                f"custom_jvp: the rule of `{self.owner.label}` must give a tangent for each of "
                f"{len(y)} results, it gives {len(flat)}."
            )
        found: list[Any] = []
        for number, (one, each) in enumerate(zip(flat, y)):
            if not has_gradient(each.dtype) or one is None:
                found.append(ZERO if has_gradient(each.dtype) else None)
                continue
            value = as_value(one, each.dtype)
            what = f"custom_jvp: the tangent of result {number} of `{self.owner.label}`"
            _same_type(what, value, each)
            found.append(value)
        return found

    def pull(self, call: Call, g: Any, y: Any, xs: Sequence[Value]) -> tuple[Cotangent, ...]:
        own = Template([x.tensor for x in xs], TupleType(tuple(each.tensor for each in y)))
        slots = [n for n in range(self.count) if has_gradient(xs[n].dtype)]
        seeds = [like(xs[n].tensor) for n in slots]
        tangents: list[Value | None] = [None] * self.count
        for slot, seed in zip(slots, seeds):
            tangents[slot] = seed
        pushed = self._tangents(own.xs, tangents, own.ys)
        pairs = [
            (tangent, inner, outer)
            for tangent, inner, outer in zip(pushed, own.gs, g)
            if isinstance(tangent, Value) and inner is not None and outer is not None
        ]
        done, _ = sweep([one for one, _, _ in pairs], seeds, [inner for _, inner, _ in pairs])
        known = own.known(xs, y, [None] * len(own.gs))
        known.update((inner, outer) for _, inner, outer in pairs)
        known.update((seed, F.zeros_like(xs[slot])) for slot, seed in zip(slots, seeds))
        found: list[Cotangent] = [ZERO if has_gradient(x.dtype) else None for x in xs]
        for slot, seed in zip(slots, seeds):
            if isinstance(done.get(seed), Value):
                found[slot] = filled([done[seed]], known)[0]
        captured = (
            functools.partial(self._refuse, x) if has_gradient(x.dtype) else None
            for x in xs[self.count :]
        )
        return (*found[: self.count], *captured)

    def _refuse(self, x: Value) -> Cotangent:
        raise self._refused(x)

    def _refused(self, x: Value) -> GradError:
        return GradError(
            f"custom_jvp: `{self.owner.label}` reads `{x.label}` from outside, and its rule says "
            "nothing about it.",
            details=operand_lines([x]),
            fix=f"give `{x.label}` as an argument, or read F.stop_gradient of it",
        )


class _Again(Rules):
    """What a checkpoint does: the way back computes the graph again, when its cotangents are."""

    name = "checkpoint"
    own_derivative = False

    def __init__(self, drawn: tuple[Value, ...]) -> None:
        self.drawn = drawn

    def pull(self, call: Call, g: Any, y: Any, xs: Sequence[Value]) -> tuple[Cotangent, ...]:
        after = [one for one in g if one is not None]
        own = [F.barrier(x, *after) for x in xs]
        outputs = call.body.inlined(own)
        pairs = [
            (o, one) for o, one in zip(outputs, g) if one is not None and has_gradient(o.dtype)
        ]
        slots = [number for number, x in enumerate(xs) if has_gradient(x.dtype)]
        found: list[Cotangent] = [ZERO if has_gradient(x.dtype) else None for x in xs]
        if not pairs or not slots:
            return tuple(found)
        # a value given twice is one operand here, whose cotangent must not count twice
        first = {own[slot]: slot for slot in reversed(slots)}
        pulled: Iterable[Value] = F.vjp(
            [one for one, _ in pairs], list(first), [one for _, one in pairs], missing="zero"
        )
        for slot, one in zip(first.values(), pulled):
            found[slot] = one
        return tuple(found)

    def push(self, call: Call, parts: Sequence[Any], y: Any, xs: Sequence[Value]) -> Any:
        given = [number for number, part in enumerate(parts) if isinstance(part, Value)]
        inner = call.body.inputs
        holders = [like(inner[number].tensor) for number in given]
        found = push(call.body.outputs, {inner[n]: t for n, t in zip(given, holders)})
        real = [one for one in found if isinstance(one, Value)]
        if not real:
            return tuple(found)
        body = Body((*inner, *holders), tuple(real))
        made = replace(call, inside=Inside(body))
        pushed = iter(items(make(made, *xs, *(parts[number] for number in given))))
        return tuple(next(pushed) if isinstance(one, Value) else one for one in found)

    def lanes(self, call: Call, size: Size, flags: Sequence[bool], xs: Sequence[Value]) -> Any:
        inner = call.body.inputs
        own = [
            like(x.tensor.with_shape((size, *x.shape)), x.label) if on else x
            for x, on in zip(inner, flags)
        ]
        batched = {x: new for x, new, on in zip(inner, own, flags) if on}
        with collect_draws() as draws:
            found = lanes(call.body.outputs, batched, size, self.drawn)
        outputs = [
            front(F, size, old, False) if new is None else new
            for old, new in zip(call.body.outputs, found)
        ]
        body = Body(tuple(own), tuple(outputs))
        return items(make(replace(call, inside=Inside(body), rules=_Again(tuple(draws))), *xs))


__all__ = ["CustomJvp", "CustomVjp", "checkpoint", "custom_jvp", "custom_vjp"]
