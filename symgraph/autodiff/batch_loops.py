"""Batch and forward rules of loops and branches: rules of the graphs inside them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from symgraph.autodiff.forward import Tangent, jvp_rule, push
from symgraph.autodiff.rules import batch_rule, front, fronts
from symgraph.dims import Size
from symgraph.graph.body import Body, like
from symgraph.graph.dtypes import has_gradient
from symgraph.graph.leaves import items
from symgraph.graph.node import Value, make
from symgraph.graph.op import ZERO
from symgraph.graph.registry import Functions
from symgraph.graph.types import TensorType
from symgraph.graph.walk import depends_on
from symgraph.ops.branch import Branch
from symgraph.ops.loop import Loop

Flags = Sequence[bool]
Values = Sequence[Value]


def _moving(loop: Loop, flags: Sequence[bool], floats: bool = False) -> list[bool]:
    """Tell which inputs of a body change with the operands in `flags`: states go round."""
    body, first = loop.body, loop.sequences
    found = list(flags)
    for _ in range(loop.states + 1):
        live = depends_on(body.outputs, [x for x, on in zip(body.inputs, found) if on])
        for number in range(loop.states):
            usable = not floats or has_gradient(body.outputs[number].dtype)
            found[first + number] |= usable and body.outputs[number] in live
    return found


def _lane_body(body: Body, F: Functions, size: Size, flags: Flags) -> tuple[list[Value], list[Any]]:
    """Give inputs and outputs of a body for all lanes."""
    inputs = [
        like(x.tensor.with_shape((size, *x.shape)), x.label) if on else x
        for x, on in zip(body.inputs, flags)
    ]
    batched = {x: new for x, new, on in zip(body.inputs, inputs, flags) if on}
    outputs: Any = F.batch(body.outputs, batched, size)
    return inputs, outputs


# -- loops -----------------------------------------------------------------------------------------


@batch_rule("loop")
def loop_lanes(F: Functions, size: Size, op: Loop, flags: Flags, xs: Values) -> Any:
    """Run all lanes in one loop; a conditional one ends when the last lane does.

    A lane whose condition is false keeps its states from then on, and its rows are zero.
    """
    first, last = op.sequences, op.sequences + op.states
    moving = _moving(op, flags)
    rows = [F.moveaxis(x, 0, 1) if on else x for x, on in zip(xs[:first], flags)]
    states = [
        x if flag or not on else front(F, size, x, False)
        for x, flag, on in zip(xs[first:last], flags[first:last], moving[first:last])
    ]
    if op.conditional and moving[first]:
        return _until_all_end(F, size, op, moving, rows, states, xs[last:])
    inputs, outputs = _lane_body(op.body, F, size, moving)
    same = [n for n in range(op.states) if not moving[first + n]]
    kept = list(outputs)
    for number in same:  # the same in all lanes: as they are
        kept[number] = op.body.outputs[number]
    made = replace(op, body=Body(tuple(inputs), tuple(kept)))
    found = items(make(made, *rows, *states, *xs[last:]))
    return _stacked(F, size, op, found, same)


def _until_all_end(
    F: Functions, size: Size, op: Loop, moving: Flags, rows: Values, states: Values, others: Values
) -> Any:
    first, last = op.sequences, op.sequences + op.states
    every = [on or first <= place < last for place, on in enumerate(moving)]
    inputs, outputs = _lane_body(op.body, F, size, every)
    any_runs, runs = like(TensorType("bool", ())), inputs[first]
    states = [x if on else front(F, size, x, False) for x, on in zip(states, moving[first:last])]
    olds = inputs[first + 1 : last]
    going = F.logical_and(runs, outputs[0])
    news = [_where(F, runs, new, old) for new, old in zip(outputs[1 : op.states], olds)]
    kept = [_where(F, runs, one, F.zeros_like(one)) for one in outputs[op.states :]]
    body = Body((*inputs[:first], any_runs, *inputs[first:]), (F.any(going), going, *news, *kept))
    made = replace(op, body=body, states=op.states + 1)
    found = items(make(made, *rows, F.any(states[0]), *states, *others))
    return _stacked(F, size, op, found[1:], ())


def _where(F: Functions, runs: Value, new: Value, old: Value) -> Value:
    """Choose lane by lane."""
    return F.where(F.reshape(runs, (runs.shape[0], *(1,) * (new.ndim - 1))), new, old)


def _stacked(F: Functions, size: Size, op: Loop, found: Values, same: Sequence[int]) -> list[Value]:
    """Give results with the axis of lanes in front."""
    ends = [front(F, size, x, number not in same) for number, x in enumerate(found[: op.states])]
    return [*ends, *(F.moveaxis(x, 1, 0) for x in found[op.states :])]


@jvp_rule("loop")
def loop_tangents(F: Functions, op: Any, parts: Sequence[Tangent], y: Any, xs: Values) -> Any:
    """Carry tangents beside the states; it needs no length, so it is there for every loop."""
    body, first, last = op.body, op.sequences, op.sequences + op.states
    moving = _moving(op, [isinstance(part, Value) for part in parts], floats=True)
    places = [place for place, on in enumerate(moving) if on]
    holders = {place: like(body.inputs[place].tensor) for place in places}
    pushed = push(body.outputs, {body.inputs[place]: t for place, t in holders.items()})
    carried = [place - first for place in places if first <= place < last]
    ends = [_solid(F, pushed[number], body.outputs[number]) for number in carried]
    kept = [n for n in range(op.states, len(body.outputs)) if isinstance(pushed[n], Value)]
    tangents = {
        place: _solid(F, parts[place], xs[place]) for place in places
    }  # fmt: skip

    def with_tangents(plain: Sequence[Any], more: Any, start: int, stop: int) -> list[Any]:
        return [*plain[start:stop], *(more[p] for p in places if start <= p < stop)]

    size = len(body.inputs)
    bounds = ((0, first), (first, last), (last, size))
    inputs = [one for each in bounds for one in with_tangents(body.inputs, holders, *each)]
    operands = [one for each in bounds for one in with_tangents(xs, tangents, *each)]
    outputs = (
        *body.outputs[: op.states], *ends, *body.outputs[op.states :], *(pushed[n] for n in kept),
    )  # fmt: skip
    made = replace(
        op, body=Body(tuple(inputs), outputs), states=op.states + len(carried),
        sequences=first + sum(place < first for place in places),
    )  # fmt: skip
    found = items(make(made, *operands))
    results: list[Tangent] = [
        ZERO if has_gradient(output.dtype) else None for output in body.outputs
    ]
    for number, value in zip(carried, found[op.states :]):
        results[number] = value
    for number, value in zip(kept, found[len(outputs) - len(kept) :]):
        results[number] = value
    return tuple(results)


def _solid(F: Functions, part: Tangent, x: Value) -> Value:
    return part if isinstance(part, Value) else F.zeros_like(x)


# -- branches --------------------------------------------------------------------------------------


@batch_rule("branch")
def branch_lanes(F: Functions, size: Size, op: Branch, flags: Flags, xs: Values) -> Any:
    """Run the one branch for all lanes; where lanes choose, run all branches and select."""
    which, *operands = xs
    if not flags[0]:
        bodies = []
        for body in op.branches:
            inputs, outputs = _lane_body(body, F, size, flags[1:])
            bodies.append(Body(tuple(inputs), tuple(outputs)))
        return items(make(replace(op, branches=tuple(bodies)), which, *operands))
    chosen = F.clip(which, 0, len(op.branches) - 1)
    results: list[Value] = []
    for number, body in enumerate(op.branches):
        if not any(flags[1:]):
            found = fronts(F, size, body.inlined(operands), [False] * len(body.outputs))
        else:
            inputs, outputs = _lane_body(body, F, size, flags[1:])
            found = list(Body(tuple(inputs), tuple(outputs)).inlined(operands))
        here = F.equal(chosen, number)
        results = [_where(F, here, n, o) for n, o in zip(found, results)] if results else found
    return results


@jvp_rule("branch")
def branch_tangents(F: Functions, op: Any, parts: Sequence[Tangent], y: Any, xs: Values) -> Any:
    """Push tangents on through the branch that is run."""
    given = [number for number, part in enumerate(parts) if isinstance(part, Value)]
    pushed = []
    holders = []
    for body in op.branches:
        own = {number: like(xs[number].tensor) for number in given}
        holders.append(own)
        pushed.append(push(body.outputs, {body.inputs[n - 1]: t for n, t in own.items()}))
    reached = [
        n for n in range(len(y)) if any(isinstance(each[n], Value) for each in pushed)
    ]  # fmt: skip
    results: list[Tangent] = [ZERO if has_gradient(one.dtype) else None for one in y]
    if not reached:
        return tuple(results)
    bodies = [
        Body(
            (*own.values(), *body.inputs),
            tuple(_solid(F, each[n], body.outputs[n]) for n in reached),
        )
        for body, own, each in zip(op.branches, holders, pushed)
    ]
    tangents = [parts[number] for number in given]
    found = items(make(replace(op, branches=tuple(bodies)), xs[0], *tangents, *xs[1:]))
    for number, value in zip(reached, found):
        results[number] = value
    return tuple(results)
