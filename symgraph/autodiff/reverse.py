"""Reverse mode: `grad` of a scalar and `vjp` of anything, as new nodes of the same graph."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Literal, overload

from symgraph.dims import equal
from symgraph.errors import ArgumentError, ArgumentTypeError, GradError, PassError
from symgraph.graph.dtypes import has_gradient, is_complex
from symgraph.graph.leaves import Item, as_value, items
from symgraph.graph.node import Value, operand_lines
from symgraph.graph.op import ZERO, Cotangent
from symgraph.graph.origin import inherit
from symgraph.graph.registry import F, function_of
from symgraph.graph.types import TupleType
from symgraph.graph.walk import depends_on, topological

Missing = Literal["error", "zero"]
Cut = tuple[Value, Value]  # (the node that cuts, the operand it cuts off)


@overload
def grad(loss: Value, wrt: Value, *, missing: Missing = "error") -> Value: ...
@overload
def grad(loss: Value, wrt: Sequence[Value], *, missing: Missing = "error") -> list[Value]: ...
@function_of
def grad(
    loss: Value, wrt: Value | Sequence[Value], *, missing: Missing = "error"
) -> Value | list[Value]:
    """Differentiate a scalar: give d loss / d w for each `w`, of the shape of `w`.

    Raises `GradError` when the loss is no float scalar, or when no path leads to a `w`; the error
    shows where the path is cut. `missing="zero"` gives zeros instead.

    >>> import symgraph as sg
    >>> x = sg.scalar("x")
    >>> float(sg.grad(x * x * x, x).eval(x=2.0))
    12.0
    """
    if not isinstance(loss, Value):
        raise GradError(
            f"grad: the loss must be a symbolic value, got {type(loss).__name__}.",
            fix="build it from symbolic values, and do not compute it first",
        )
    if loss.ndim:
        raise GradError(
            f"grad: `{loss.label}` must be a scalar, it is {loss.type}.",
            details=[loss.describe()],
            fix="reduce it, e.g. loss.mean(), or use sg.vjp with a cotangent",
        )
    if is_complex(loss.dtype):
        raise GradError(
            f"grad: a complex loss has no least value; `{loss.label}` is {loss.type}.",
            details=[loss.describe()],
            fix="take real(loss) or abs(loss), or use sg.vjp with a cotangent",
        )
    check_float("grad", loss)
    single = isinstance(wrt, Value)
    one = F.constant(1.0, loss.dtype)
    found = _pull("grad", [loss], values("grad", "wrt", wrt), [one], missing)
    return found[0] if single else found


@function_of
def vjp(
    outputs: Value | Sequence[Value],
    inputs: Value | Sequence[Value],
    cotangents: Any,
    *,
    missing: Missing = "error",
) -> Any:
    """Pull cotangents of outputs back to inputs: sum over outputs of cotangent^T d output/d input.

    `cotangents` have the types of `outputs`. Gives one value for each input (a list when `inputs`
    is one). Raises as `grad` does.
    """
    outs = values("vjp", "outputs", outputs)
    given = [cotangents] if isinstance(outputs, Value) else list(cotangents)
    if len(outs) != len(given):
        raise ArgumentError(
            f"vjp: {len(outs)} outputs but {len(given)} cotangents.", fix="give one for each"
        )
    seeds = []
    for output, cotangent in zip(outs, given):
        check_float("vjp", output)
        seeds.append(fitted("vjp", output, as_value(cotangent, output.dtype)))
    found = _pull("vjp", outs, values("vjp", "inputs", inputs), seeds, missing)
    return found[0] if isinstance(inputs, Value) else found


def values(name: str, what: str, given: Any) -> list[Value]:
    """Give one value or several as a list, checked."""
    several = [given] if isinstance(given, Value) else given
    if isinstance(several, Iterable):
        several = list(several)
        wrong = [value for value in several if not isinstance(value, Value)]
        if not wrong:
            return several
        several = wrong[0]
    raise ArgumentTypeError(
        f"{name}: {what} must be a symbolic value or a list of them, "
        f"got {type(several).__name__} {several!r:.40}.",
        fix="give inputs, shared variables, or values built from them",
    )


def check_float(name: str, value: Value) -> None:
    """Raise `GradError` unless a value holds floats, real or complex."""
    if not has_gradient(value.dtype):
        raise GradError(
            f"{name}: only floats have gradients, real or complex; "
            f"`{value.label}` is {value.type}.",
            details=[value.describe()],
            fix='cast it first, e.g. x.cast("float32")',
        )


def _pull(
    name: str,
    outputs: list[Value],
    wrt: list[Value],
    cotangents: list[Value],
    missing: Missing,
) -> list[Value]:
    if missing not in ("error", "zero"):
        raise ArgumentError(f'{name}: missing must be "error" or "zero", got {missing!r}.')
    for value in wrt:
        check_float(name, value)
    stable: Any = F.before_grad(outputs, wrt)
    found, cuts = sweep(stable, wrt, cotangents)
    results = []
    for value in wrt:
        cotangent = found.get(value)
        if cotangent is None and missing == "error":
            raise _disconnected(name, outputs, value, cuts)
        results.append(cotangent if isinstance(cotangent, Value) else F.zeros_like(value))
    return results


def sweep(
    outputs: list[Value], wrt: list[Value], seeds: list[Value]
) -> tuple[dict[Value, Cotangent], list[Cut]]:
    """Walk from the outputs to the sources, collecting cotangents; note where paths are cut."""
    live = depends_on(outputs, wrt)
    parts: dict[Value, list[Cotangent]] = {}
    for output, seed in zip(outputs, seeds):
        parts.setdefault(output, []).append(seed)
    done: dict[Value, Cotangent] = {}
    cuts: list[Cut] = []
    for node in reversed(topological(outputs)):
        if node not in live or node not in parts:
            continue
        with inherit(node.origins):
            cotangent = done[node] = _total(node, parts.pop(node))
            if not node.inputs:
                continue
            if isinstance(node.op, Item):
                parts.setdefault(node.inputs[0], []).append((node.op.index, cotangent))
                continue
            if cotangent is ZERO:
                pulled: tuple[Cotangent, ...] = (ZERO,) * len(node.inputs)
            else:
                pulled = _rule(node, cotangent, live)
        for operand, part in zip(node.inputs, pulled):
            if operand not in live:
                continue
            if part is None:
                cuts.append((node, operand))
                continue
            if isinstance(part, Value):
                part = fitted(node.op.name, operand, part)
            parts.setdefault(operand, []).append(part)
    return done, cuts


def _rule(node: Value, cotangent: Any, live: set[Value]) -> tuple[Cotangent, ...]:
    result = items(node) if isinstance(node.type, TupleType) else node
    pulled = node.op.vjp(F, cotangent, result, *node.inputs)
    if len(pulled) != len(node.inputs):
        raise PassError(
            f"{node.op.name}: its gradient rule gives {len(pulled)} cotangents "
            f"for {len(node.inputs)} operands."
        )
    # what is built lazily is built for those that lead to a source only
    return tuple(
        (part() if operand in live else None) if callable(part) else part
        for operand, part in zip(node.inputs, pulled)
    )


def _total(node: Value, parts: list[Any]) -> Any:
    """Add up the parts; for a node with several results, one sum for each."""
    if not isinstance(node.type, TupleType):
        return _sum(parts)
    by_item: list[list[Cotangent]] = [[] for _ in node.type.types]
    for index, part in parts:
        by_item[index].append(part)
    sums = [_sum(group) if group else None for group in by_item]
    if all(part is None or part is ZERO for part in sums):
        return ZERO
    return tuple(None if part is ZERO else part for part in sums)


def _sum(parts: list[Cotangent]) -> Cotangent:
    values = [part for part in parts if part is not ZERO]
    if not values:
        return ZERO
    total = values[0]
    for part in values[1:]:
        total = total + part
    return total


def fitted(name: str, operand: Value, cotangent: Value, what: str = "cotangent") -> Value:
    """Give a cotangent exactly the type of its operand; sizes that are undecided get a guard."""
    if cotangent.type == operand.type:
        return cotangent
    fits = (
        cotangent.dtype == operand.dtype
        and cotangent.ndim == operand.ndim
        and all(equal(a, b) is not False for a, b in zip(cotangent.shape, operand.shape))
    )
    if not fits:
        raise GradError(
            f"{name}: the {what} of `{operand.label}` must be {operand.type}, "
            f"it is {cotangent.type}.",
            details=operand_lines([operand, cotangent]),
        )
    return F.specify_shape(cotangent, operand.shape)


def _disconnected(name: str, outputs: list[Value], value: Value, cuts: list[Cut]) -> GradError:
    what = outputs[0].label if len(outputs) == 1 else "the outputs"
    below = depends_on(outputs, [value])
    if not below.intersection(outputs):
        return GradError(
            f"{name}: `{what}` does not depend on `{value.label}`.",
            details=operand_lines([*outputs[:1], value]),
            fix='pass missing="zero" to get zeros',
        )
    here = [(node, operand) for node, operand in cuts if operand in below]
    places = [f"cut at {node.op.name}: {node.describe()}" for node, _ in here[:4]]
    return GradError(
        f"{name}: no gradient flows from `{what}` to `{value.label}`: every path is cut.",
        details=[*operand_lines([*outputs[:1], value]), *places],
        fix='remove the cut (stop_gradient, comparison, argmax, cast), or pass missing="zero"',
    )
