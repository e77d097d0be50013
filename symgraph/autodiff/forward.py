"""Forward mode: tangents of inputs pushed on to outputs, as new nodes of the same graph.

An operation's tangent comes from its own rule (`Op.jvp`); elementwise, from its derivatives; where
it is linear, from itself; in all other cases from its `vjp`, which is linear in the cotangent: the
transpose of a transpose is the thing itself.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

from symgraph.autodiff.reverse import Missing, check_float, fitted, sweep, values
from symgraph.autodiff.template import Template, filled, results_of, types_of
from symgraph.errors import ArgumentError, GradError
from symgraph.graph.body import like
from symgraph.graph.dtypes import has_gradient, is_complex
from symgraph.graph.elementwise import Elementwise, GraphMath
from symgraph.graph.leaves import Item, as_value, items
from symgraph.graph.node import Value, make, operand_lines
from symgraph.graph.op import ZERO, Op
from symgraph.graph.origin import inherit
from symgraph.graph.registry import F, Functions, function_of
from symgraph.graph.types import TupleType
from symgraph.graph.walk import depends_on, topological

Tangent = Any  # a Value, ZERO (connected, but zero) or None (no path)
Rule = Callable[[Functions, Op, Sequence[Tangent], Any, Sequence[Value]], Any]

# -- for users -------------------------------------------------------------------------------------


@function_of
def jvp(
    outputs: Value | Sequence[Value],
    inputs: Value | Sequence[Value],
    tangents: Any,
    *,
    missing: Missing = "error",
) -> Any:
    """Push tangents of inputs on to outputs: sum over inputs of d output/d input · tangent.

    `tangents` have the types of `inputs`. Gives one value for each output (a list when `outputs`
    is one). Raises `GradError` as `grad` does; `missing="zero"` gives zeros where no path leads.

    >>> import symgraph as sg
    >>> x = sg.scalar("x")
    >>> float(sg.jvp(x * x * x, x, 2.0).eval(x=3.0))
    54.0
    """
    outs, wrt = values("jvp", "outputs", outputs), values("jvp", "inputs", inputs)
    given = [tangents] if isinstance(inputs, Value) else list(tangents)
    if len(wrt) != len(given):
        raise ArgumentError(
            f"jvp: {len(wrt)} inputs but {len(given)} tangents.", fix="give one for each"
        )
    if missing not in ("error", "zero"):
        raise ArgumentError(f'jvp: missing must be "error" or "zero", got {missing!r}.')
    known: dict[Value, Tangent] = {}
    for value, tangent in zip(wrt, given):
        check_float("jvp", value)
        part = fitted("jvp", value, as_value(tangent, value.dtype), "tangent")
        known[value] = part if value not in known else known[value] + part
    for output in outs:
        check_float("jvp", output)
    stable: Any = F.before_grad(outs, wrt)
    found = push(stable, known)
    results = []
    for output, part in zip(outs, found):
        if part is None and missing == "error":
            raise _disconnected(output, wrt)
        results.append(part if isinstance(part, Value) else F.zeros_like(output))
    return results[0] if isinstance(outputs, Value) else results


@function_of
def linearize(outputs: Any, inputs: Any = None, *points: Value, missing: Missing = "error") -> Any:
    """Give the derivative as a function of tangents: `linearize(y, x)(t)` is `jvp(y, x, t)`.

    With a function and the values to take it at, `linearize(f, x, ...)`, it gives (f(x, ...), the
    function of one tangent for each); arguments count as independent. Raises as `jvp` does, when
    the function is called.

    >>> import symgraph as sg
    >>> x = sg.scalar("x")
    >>> y, push = sg.linearize(lambda x: x * x, x)
    >>> float(push(1.0).eval(x=3.0))
    6.0
    """
    if callable(outputs) and not isinstance(outputs, Value):
        at = values("linearize", "arguments", [inputs, *points])
        own = [
            like(value.tensor, value.label) for value in at
        ]  # arguments may depend on each other
        found = outputs(*own)
        several = values("linearize", "the result", found)

        def push_on(*tangents: Any) -> Any:
            held = [like(value.tensor) for value in at]
            given = [
                fitted("linearize", x, as_value(t, x.dtype), "tangent")
                for x, t in zip(at, tangents, strict=True)
            ]
            pushed: Any = jvp(several, own, held, missing=missing)
            done = filled(pushed, {**dict(zip(own, at)), **dict(zip(held, given))})
            return done[0] if isinstance(found, Value) else done

        result = filled(several, dict(zip(own, at)))
        return (result[0] if isinstance(found, Value) else result), push_on
    if points:
        raise ArgumentError(
            "linearize: takes outputs and inputs, or a function and its arguments.",
            fix="give several inputs as a list",
        )
    return lambda tangents: jvp(outputs, inputs, tangents, missing=missing)


@function_of
def hvp(loss: Value, wrt: Any, vectors: Any, *, missing: Missing = "error") -> Any:
    """Multiply the second derivatives of a scalar with vectors: sum over j of H_ij v_j.

    Forward over reverse: it costs a few gradients and never forms H. Gives one value for each
    `wrt`. Raises as `grad` does.

    >>> import symgraph as sg
    >>> x = sg.vector("x")
    >>> sg.hvp((x ** 3).sum(), x, [1.0, 0.0]).eval(x=[2.0, 5.0]).tolist()
    [12.0, 0.0]
    """
    first: Any = F.grad(loss, wrt, missing=missing)
    return jvp(first, wrt, vectors, missing="zero")


# -- the walk --------------------------------------------------------------------------------------


def push(outputs: Sequence[Value], tangents: Mapping[Value, Tangent]) -> list[Tangent]:
    """Give the tangents of outputs; a value that has one may depend on others that have one."""
    live = depends_on(outputs, tangents)
    order = topological(outputs)
    used: dict[Value, set[int]] = {}  # of several results, those that are read
    for node in order:
        if isinstance(node.op, Item):
            used.setdefault(node.inputs[0], set()).add(node.op.index)
    known: dict[Value, Any] = {}
    for node in order:
        if node not in live:
            continue
        with inherit(node.origins):
            parts = [known.get(x) for x in node.inputs]
            found = _node(node, parts, used.get(node, {0})) if node.inputs else None
            if node in tangents:
                found = added([tangents[node], found])
        known[node] = found
    return [known.get(output) for output in outputs]


def _node(node: Value, parts: Sequence[Tangent], used: Collection[int]) -> Any:
    """Give the tangent of a node, a tuple of them for several results."""
    if isinstance(node.op, Item):
        whole = parts[0]
        return whole[node.op.index] if isinstance(whole, tuple) else whole
    ys = results_of(node)
    if all(part is None for part in parts):
        return None
    if not any(isinstance(part, Value) for part in parts):
        return _all(node, [ZERO if has_gradient(y.dtype) else None for y in ys])
    if not any(has_gradient(y.dtype) for y in ys):
        return _all(node, [None] * len(ys))
    found = _pushed(node, parts, ys, used)
    given = found if isinstance(found, tuple) else (found,)
    fit = [
        fitted(node.op.name, y, part, "tangent") if isinstance(part, Value) else part
        for y, part in zip(ys, given, strict=True)
    ]
    return _all(node, fit)


def _all(node: Value, parts: Sequence[Tangent]) -> Any:
    return tuple(parts) if isinstance(node.type, TupleType) else parts[0]


def _pushed(
    node: Value, parts: Sequence[Tangent], ys: Sequence[Value], used: Collection[int]
) -> Any:
    op, xs = node.op, node.inputs
    y: Any = tuple(ys) if isinstance(node.type, TupleType) else ys[0]
    found = op.jvp(F, parts, y, *xs)
    if found is NotImplemented and op.name in RULES:
        found = RULES[op.name](F, op, parts, y, xs)
    if found is NotImplemented and op.name in LINEAR:
        found = _linear(op, parts, xs, LINEAR[op.name])
    if found is NotImplemented and _is_plain(node):
        found = _elementwise(op, parts, y, xs)  # type: ignore[arg-type]
    return _transposed(node, parts, ys, used) if found is NotImplemented else found


def added(parts: Sequence[Tangent]) -> Tangent:
    """Add tangents up; zeros and missing ones are not added."""
    total: Tangent = None
    for part in parts:
        if isinstance(part, Value):
            total = part if not isinstance(total, Value) else total + part
        elif part is ZERO and total is None:
            total = ZERO
    return total


# -- rules that follow -----------------------------------------------------------------------------

RULES: dict[str, Rule] = {}


def jvp_rule(name: str) -> Callable[[Rule], Rule]:
    """Register the forward rule of an operation that does not bring its own."""

    def register(rule: Rule) -> Rule:
        RULES[name] = rule
        return rule

    return register


# Linear in each of these operands, the others given: the tangent takes the operand's place.
LINEAR: Mapping[str, tuple[int, ...]] = {
    **dict.fromkeys(
        (
            "reshape", "permute_dims", "broadcast_to", "slice", "slice_put", "sum", "split", "cast",
            "specify_shape", "barrier", "take", "take_along_axis", "scatter_add",
            "scatter_add_along_axis", "avg_pool", "avg_pool_grad", "max_pool_grad", "max_pool_take",
            "window_sum", "real", "imag", "conj",
        ),
        (0,),
    ),
    **dict.fromkeys(("matmul", "conv", "conv_input", "conv_weight"), (0, 1)),
}  # fmt: skip


def _linear(op: Op, parts: Sequence[Tangent], xs: Sequence[Value], slots: Sequence[int]) -> Any:
    terms: list[tuple[Value, ...]] = []
    for slot in slots:
        if isinstance(parts[slot], Value):
            operands = [*xs]
            operands[slot] = parts[slot]
            terms.append(items(make(op, *operands)))
    if not terms:
        return None
    sums = tuple(added(each) for each in zip(*terms))
    return sums if len(sums) > 1 else sums[0]


def _is_plain(node: Value) -> bool:
    """Tell whether derivatives say all about an operation: elementwise, in one float dtype."""
    op = node.op
    return (
        isinstance(op, Elementwise)
        and type(op).vjp is Elementwise.vjp
        and not is_complex(node.dtype)  # whose cotangents are conjugated
        and all(x.dtype == node.dtype for x in node.inputs if has_gradient(x.dtype))
    )


def _elementwise(op: Elementwise, parts: Sequence[Tangent], y: Value, xs: Sequence[Value]) -> Any:
    """Each derivative times the tangent: what is a cotangent's way back is a tangent's way on."""
    math = GraphMath(F)
    found: list[Tangent] = []
    for number, part in enumerate(parts):
        if isinstance(part, Value):
            whole = F.broadcast_to(part, y.shape)
            part = op.pull_back(math, number, whole, y, xs)
        found.append(part)
    return added(found)


def _transposed(
    node: Value, parts: Sequence[Tangent], ys: Sequence[Value], used: Collection[int]
) -> Any:
    """Transpose the operation's `vjp`, which is linear in the cotangent."""
    wanted = [number in used for number in range(len(ys))]
    own = Template([x.tensor for x in node.inputs], node.type, wanted)
    pulled = own.pull(node.op)
    connected = False
    chosen: list[tuple[Value, Value]] = []
    for x, part, cotangent in zip(own.xs, parts, pulled, strict=True):
        if part is None:
            continue
        cotangent = cotangent() if callable(cotangent) else cotangent
        if isinstance(part, Value) and isinstance(cotangent, Value):
            chosen.append((fitted(node.op.name, x, cotangent), part))
        elif cotangent is not None:
            connected = True
    nothing = ZERO if connected else None
    types = types_of(node.type)
    if not chosen:
        found: list[Tangent] = [nothing if has_gradient(one.dtype) else None for one in types]
        return tuple(found) if len(found) > 1 else found[0]
    seeds = [g for g in own.gs if g is not None]
    inner = Template([part.tensor for _, part in chosen], node.type).xs
    done, _ = sweep([cotangent for cotangent, _ in chosen], seeds, inner)
    found = [None if g is None else done.get(g, ZERO) for g in own.gs]
    known = own.known(node.inputs, ys)
    known.update(zip(inner, (part for _, part in chosen)))
    # the result is the same for every cotangent, but it may be written with one: zero is the least
    known.update((seed, F.zeros_like(y)) for seed, y in zip(own.gs, ys) if seed is not None)
    real = [one for one in found if isinstance(one, Value)]
    put = dict(zip(real, filled(real, known)))
    found = [put[one] if isinstance(one, Value) else one for one in found]
    return tuple(found) if isinstance(node.type, TupleType) else found[0]


# -- rules of single operations --------------------------------------------------------------------


@jvp_rule("pad")
def _pad(F: Functions, op: Any, parts: Sequence[Tangent], y: Any, xs: Sequence[Value]) -> Any:
    return make(replace(op, value=0.0), parts[0])


@jvp_rule("concat")
def _concat(F: Functions, op: Any, parts: Sequence[Tangent], y: Any, xs: Sequence[Value]) -> Any:
    whole = [p if isinstance(p, Value) else F.zeros_like(x) for p, x in zip(parts, xs)]
    return make(op, *whole)


@jvp_rule("attach")
def _attach(F: Functions, op: Any, parts: Sequence[Tangent], y: Any, xs: Sequence[Value]) -> Any:
    return parts[0]


def _disconnected(output: Value, wrt: Sequence[Value]) -> GradError:
    which = f"`{wrt[0].label}`" if len(wrt) == 1 else "any of the inputs"
    if output not in depends_on([output], wrt):
        return GradError(
            f"jvp: `{output.label}` does not depend on {which}.",
            details=operand_lines([output, *wrt[:3]]),
            fix='pass missing="zero" to get zeros',
        )
    return GradError(
        f"jvp: no tangent reaches `{output.label}` from {which}: every path is cut.",
        details=operand_lines([output, *wrt[:3]]),
        fix='remove the cut (stop_gradient, comparison, argmax, cast), or pass missing="zero"',
    )
