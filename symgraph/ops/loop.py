"""The loop: a body that is run again and again, with states that go from step to step.

`scan`, `while_loop`, `map` and `reduce` are made of it (`scan.py`, `control_flow.py`). Its gradient
is a loop the other way round, over what the first one keeps of each step.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import ModuleType
from typing import Any

import networkx as nx

from symgraph.dims import Dim, Size, evaluate, free, product, require_equal
from symgraph.errors import DTypeError, GradError, ShapeError
from symgraph.graph.body import Body, closed, like, nested, require_same
from symgraph.graph.dtypes import has_gradient, itemsize, numpy_dtype
from symgraph.graph.leaves import items
from symgraph.graph.node import Value, make
from symgraph.graph.op import ZERO, Array, Cotangent, Op, op
from symgraph.graph.registry import F, Functions, function_of
from symgraph.graph.samples import arg, bad, sample
from symgraph.graph.types import TensorType, TupleType
from symgraph.graph.walk import depends_on, rebuild, topological

USUAL = 64  # what an unknown size is taken for where it is decided what to keep of each step


@op
class Loop(Op):
    """Run `body` for t = 0, 1, ..., length - 1, or backwards from length - 1 with `reverse`.

    The operands, and the inputs of the body: `sequences` arrays, of which step t sees row t, then
    `states` values, which a step takes from the one before, then what is the same in all steps. The
    outputs of the body: the new states, then what is kept of each step as row t. The results: the
    last states, and what was kept, stacked. With `conditional` the first state is a bool, and the
    loop ends where it is false; rows of steps that were not run are zero. Without a length it ends
    only there, and nothing is kept.
    """

    body: Body
    sequences: int
    states: int
    length: Size | None
    reverse: bool = False
    conditional: bool = False
    again: bool = False  # a gradient of what is around it computes it again and keeps nothing of it
    variadic = True
    takes_complex = True

    def infer(self, *types: TensorType) -> TupleType:
        body, first = self.body, self.sequences
        if len(types) != len(body.inputs):
            raise ShapeError(f"takes {len(body.inputs)} operands, got {len(types)}.")
        for place, (type, inner) in enumerate(zip(types, body.inputs)):
            wanted = inner.tensor
            if place < first:
                if not type.ndim:
                    raise ShapeError(f"{{x{place}}} must have an axis to walk along.")
                length = 0 if self.length is None else self.length
                require_equal(type.shape[0], length, f"{{x{place}}} must have a row for each step")
                type = type.with_shape(type.shape[1:])
            require_same(f"{{x{place}}}", type, wanted)
        for place, new in enumerate(body.outputs[: self.states]):
            old = body.inputs[first + place].tensor
            require_same(f"the new value of {{x{first + place}}}", new.tensor, old)
        if self.conditional and body.inputs[first].tensor != TensorType("bool", ()):
            raise DTypeError("the first state must be a bool.")
        body.require_guards()
        length = 0 if self.length is None else self.length
        kept = (one.tensor for one in body.outputs[self.states :])
        return TupleType(
            (
                *(one.tensor for one in body.inputs[first : first + self.states]),
                *(one.with_shape((length, *one.shape)) for one in kept),
            )
        )

    def ref(self, xp: ModuleType, *arrays: Array) -> tuple[Array, ...]:
        body, first, last = self.body, self.sequences, self.sequences + self.states
        rows, others = arrays[:first], arrays[last:]
        state = [xp.array(one) for one in arrays[first:last]]  # a result of its own without steps
        kept = [
            xp.zeros((int(self.length or 0), *_shape(one, body.sizes)), numpy_dtype(one.dtype))
            for one in body.outputs[self.states :]
        ]
        step = 0
        while (self.length is None or step < self.length) and (
            not self.conditional or bool(state[0])
        ):
            t = int(self.length or 0) - 1 - step if self.reverse else step
            found = body.run(xp, [*(row[t] for row in rows), *state, *others])
            state = found[: self.states]
            for whole, row in zip(kept, found[self.states :]):
                whole[t] = row
            step += 1
        return (*state, *kept)

    def flops(self, of: Callable[[Value], Size], *types: TensorType) -> Size:
        return self.body.flops(of) * (1 if self.length is None else self.length)

    # -- the gradient ------------------------------------------------------------------------------

    def vjp(self, F: Functions, g: Any, y: Any, *xs: Value) -> tuple[Cotangent, ...]:
        if self.length is None:
            raise GradError(
                "while_loop: the number of steps is not known, so nothing can be kept of each.",
                fix="say how many there may be: while_loop(..., max_steps=100)",
            )
        return _Reverse(self, F, g, xs).cotangents()


class _Reverse:
    """The gradient of a loop: first the loop again, keeping what is needed, then backwards."""

    def __init__(self, loop: Loop, F: Functions, g: Sequence[Any], xs: Sequence[Value]) -> None:
        self.loop, self.F, self.xs = loop, F, xs
        body, first, last = loop.body, loop.sequences, loop.sequences + loop.states
        self.first, self.last = first, last
        self.wrt = [place for place, one in enumerate(body.inputs) if has_gradient(one.dtype)]
        outputs: list[Value] = []
        seeds: list[Value] = []
        self.carried: list[int] = []  # states that have cotangents, by number
        self.seeded: list[Any] = []  # cotangents of what was kept
        for number, output in enumerate(body.outputs):
            if not has_gradient(output.dtype):
                continue
            if number < loop.states:
                self.carried.append(number)
            elif g[number] is None:
                continue
            else:
                self.seeded.append(g[number])
            outputs.append(output)
            seeds.append(like(output.tensor, f"d_{number}"))
        self.start = [
            F.zeros_like(xs[first + number]) if g[number] is None else g[number]
            for number in self.carried
        ]
        self.seeds = seeds
        wrt = [body.inputs[place] for place in self.wrt]
        self.pulled: list[Value] = []
        if wrt and outputs:
            self.pulled = list(F.vjp(outputs, wrt, seeds, missing="zero"))

    def cotangents(self) -> tuple[Cotangent, ...]:
        loop, F, body = self.loop, self.F, self.loop.body
        if not self.pulled:
            return tuple(ZERO if has_gradient(x.dtype) else None for x in self.xs)
        by_place = dict(zip(self.wrt, self.pulled))
        carried_seeds = self.seeds[: len(self.carried)]
        row_seeds = self.seeds[len(self.carried) :]
        ran = like(TensorType("bool", ()), "ran")
        totals = [place for place in self.wrt if place >= self.last]
        sums = [like(body.inputs[place].tensor, "sum") for place in totals]
        states = [by_place[self.first + number] for number in self.carried]
        states += [one + by_place[place] for one, place in zip(sums, totals)]
        rows = [by_place[place] for place in self.wrt if place < self.first]
        if loop.conditional:
            old = [*carried_seeds, *sums]
            states = [F.where(ran, new, before) for new, before in zip(states, old)]
            rows = [F.where(ran, row, F.zeros_like(row)) for row in rows]
        kept = worth_keeping(loop, [*states, *rows])
        saved = [like(one.tensor, one.label) for one in kept]
        done = rebuild([*states, *rows], dict(zip(kept, saved)))
        extra = [*kept, *([F.constant(True)] if loop.conditional else [])]
        again = Body(body.inputs, (*body.outputs, *extra))
        whole = items(make(_with_body(loop, again), *self.xs))[len(body.outputs) :]
        inputs = [*body.inputs[: self.first], *row_seeds, *saved]
        operands = [*self.xs[: self.first], *self.seeded, *whole[: len(kept)]]
        if loop.conditional:
            inputs.append(ran)
            operands.append(whole[-1])
        others = body.inputs[self.last :]
        back = Body(
            (*inputs, *carried_seeds, *sums, *others), tuple(done[one] for one in (*states, *rows))
        )
        zeros = [F.zeros_like(self.xs[place]) for place in totals]
        reverse = Loop(back, len(inputs), len(states), loop.length, not loop.reverse)
        found = items(make(reverse, *operands, *self.start, *zeros, *self.xs[self.last :]))
        result: list[Cotangent] = [ZERO if has_gradient(x.dtype) else None for x in self.xs]
        places = [*(self.first + number for number in self.carried), *totals]
        places += [place for place in self.wrt if place < self.first]
        for place, value in zip(places, found):
            result[place] = value
        return tuple(result)


def _with_body(loop: Loop, body: Body) -> Loop:
    return Loop(
        body, loop.sequences, loop.states, loop.length, loop.reverse, loop.conditional, loop.again
    )


def worth_keeping(loop: Loop, backward: Sequence[Value]) -> list[Value]:
    """Choose which values of each step are kept for the way back: those of a minimum cut.

    What is cheap is computed again from what is kept; rows of sequences, and what is the same in
    all steps, are there anyway.
    """
    body = loop.body
    forward = set(body.values) | set(body.inputs)
    states = set(body.inputs[loop.sequences : loop.sequences + loop.states])
    uses = {
        operand
        for value in topological(backward)
        if value not in forward
        for operand in value.inputs
        if operand in forward
    } | (set(backward) & forward)
    moving = depends_on(body.values, body.inputs)
    cut = nx.DiGraph()
    cut.add_nodes_from(["start", "end"])
    for value in body.values:
        if value not in moving or isinstance(value.type, TupleType):
            continue
        node = value.node
        cut.add_edge((node, "made"), (node, "kept"), bytes=_bytes(value.tensor))
        if value in states or _dear(value):
            cut.add_edge("start", (node, "made"))
        for operand in _made_of(value):
            if operand in moving:
                cut.add_edge((operand.node, "kept"), (node, "made"))
        if value in uses:
            cut.add_edge((node, "kept"), "end")
    if not nx.has_path(cut, "start", "end"):
        return []
    _, (before, _) = nx.minimum_cut(cut, "start", "end", capacity="bytes")
    return [
        value
        for value in body.values
        if (value.node, "made") in before and (value.node, "kept") not in before
    ]


def _made_of(value: Value) -> Sequence[Value]:
    """Give what has to be there for a value: behind an item, the operands of the whole."""
    found = [one.inputs if isinstance(one.type, TupleType) else (one,) for one in value.inputs]
    return [one for several in found for one in several]


def _dear(value: Value) -> bool:
    """Tell whether a value is kept rather than computed again."""
    makers = [one.op for one in value.inputs if isinstance(one.type, TupleType)] or [value.op]
    return any(
        op.host or op.name in DEAR or (nested(op) and not getattr(op, "again", False))
        for op in makers
    )


DEAR = frozenset(
    {
        "matmul", "matmul_bias", "matmul_bias_relu", "conv", "conv_bias", "conv_input",
        "conv_weight", "sort", "topk",
    }
)  # fmt: skip


def _bytes(type: TensorType) -> int:
    size = product(type.shape)
    if isinstance(size, Dim):
        size = evaluate(size, dict.fromkeys(free(size), USUAL))
    return int(size) * itemsize(type.dtype) + 1


def _shape(value: Value, sizes: Mapping[Dim, int]) -> tuple[int, ...]:
    return tuple(n if isinstance(n, int) else evaluate(n, sizes) for n in value.shape)


@function_of
def loop(
    body: Body,
    sequences: Sequence[Value],
    states: Sequence[Value],
    others: Sequence[Value],
    length: Size | None,
    *,
    reverse: bool = False,
    conditional: bool = False,
    again: bool = False,
) -> tuple[Value, ...]:
    """Run a body with states from step to step: (last states, then what was kept of each step).

    See `Loop`; `scan` and `while_loop` are the functions for users.
    """
    made = Loop(body, len(sequences), len(states), length, reverse, conditional, again)
    return items(make(made, *sequences, *states, *others))


def _running(kind: str) -> Any:
    """Make a sample: a loop with one state, one sequence and one value from outside."""

    def build(x: Value, h: Value, w: Value) -> Value:
        row, state = like(x.tensor.with_shape(x.shape[1:])), like(h.tensor)
        new = F.tanh(state * w + row)
        body, others, _ = closed("loop", [row, state], [new, new * row])
        last, rows = F.loop(body, [x], [h], others, x.shape[0], reverse=kind == "reverse")
        return F.sum(rows, axis=0) + last

    return build


def _until(x: Value, h: Value) -> Value:
    going, row = like(TensorType("bool", ())), like(x.tensor.with_shape(x.shape[1:]))
    state = like(h.tensor)
    new = state * row
    body, others, _ = closed("loop", [row, going, state], [F.sum(F.abs(new)) < 3.0, new, new])
    _, last, rows = F.loop(body, [x], [F.constant(True), h], others, x.shape[0], conditional=True)
    return F.sum(rows, axis=0) + last


def _wrong(x: Value, h: Value) -> Any:
    row, state = like(x.tensor.with_shape(x.shape[1:])), like(h.tensor)
    body, others, _ = closed("loop", [row, state], [F.cast(state + row, "float64")])
    return F.loop(body, [x], [h], others, x.shape[0])


Loop.samples = (
    sample(_running("forward"), arg(("T", 3)), arg((3,)), arg((3,))),
    sample(_running("reverse"), arg((4, "B")), arg(("B",)), arg(())),
    sample(_running("forward"), arg(("T", 2)), arg((2,)), arg((2,)), sizes={"T": 0}),
    sample(_until, arg((6, 2), low=1.2, high=1.9), arg((2,), low=0.3, high=0.6)),
)
Loop.bad = (
    bad(_wrong, arg(("T", 3)), arg((3,)), error=DTypeError, match="new value of .* float64"),
    bad(
        lambda x, h: F.loop(closed("loop", [x, h], [h])[0], [x], [h], [], 4),
        arg((4,)), arg((3,)), match="loop: .*must be float32",
    ),
)  # fmt: skip
