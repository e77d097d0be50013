"""Every sample of the registry pushed forwards, and done for many lanes at once.

Forward mode is held against reverse mode and against differences, a batch against a Python loop
over its lanes. Samples of an operation are one test: `-k conv` runs those of one. Two of each, its
first and one that differs from check to check, are daily where lanes are looped over; `-m full`
takes all.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
import pytest

from symgraph.autodiff.batched import Batched
from symgraph.dims import dim
from symgraph.errors import ShapeError
from symgraph.graph.dtypes import has_gradient
from symgraph.graph.elementwise import Elementwise
from symgraph.graph.index import Compute, evaluate
from symgraph.graph.interpret import interpret
from symgraph.graph.leaves import tensor
from symgraph.graph.measured import measured_sizes
from symgraph.graph.node import Value
from symgraph.graph.onhost import on_host
from symgraph.graph.op import Op
from symgraph.graph.registry import OPS, F
from symgraph.graph.walk import depends_on, topological
from tests.ops.registry_cases import (
    CASES,
    NAMES,
    NO_EXPANSION,
    Built,
    Case,
    build,
    chosen,
    random_like,
    watch_into,
)
from tests.tolerances import DIFFERENCE, STEP, assert_close

Array = Any
LANES = 3


whole_or_two = pytest.mark.parametrize(
    "whole", [pytest.param(False, id="two"), pytest.param(True, id="all", marks=pytest.mark.full)]
)


@cache
def cases_of(name: str) -> list[Case]:
    return [case for case in CASES if case.name == name]


def some(cases: Sequence[Case], check: str, whole: bool) -> list[Case]:
    """Give all samples, or the first and one chosen for this check."""
    daily = chosen(cases, check)
    return [one for place, one in enumerate(cases) if whole or not place or one.id in daily]


def of_operands(name: str) -> list[Case]:
    return [case for case in cases_of(name) if case.sample.args]


DIFFERENTIABLE = [name for name in NAMES if any(case.checked for case in cases_of(name))]


def floats(values: Sequence[Value]) -> list[Value]:
    return [value for value in values if has_gradient(value.dtype)]


def connected(built: Built) -> list[int]:
    """Give the operands to differentiate by: those the sample names, else all connected ones."""
    if built.case.sample.gradient is not None:
        return list(built.case.sample.gradient)
    needed = set(topological(floats(built.outputs)))
    return [slot for slot in built.case.float_operands if built.inputs[slot] in needed]


def placeholders(values: Sequence[Value], name: str) -> list[Value]:
    return [tensor(f"{name}{number}", v.shape, v.dtype) for number, v in enumerate(values)]


# -- forward mode ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", DIFFERENTIABLE)
def test_jvp(name: str) -> None:
    for case in cases_of(name):
        if case.checked:
            check_jvp(case)


def check_jvp(case: Case) -> None:
    rng = np.random.default_rng(case.seed)
    built = build(case, "float64")
    outputs, slots = floats(built.outputs), connected(built)
    if not outputs or not slots:
        return
    wrt = [built.inputs[slot] for slot in slots]
    tangents, cotangents = placeholders(wrt, "t"), placeholders(outputs, "c")
    pushed = F.jvp(outputs, wrt, tangents, missing="zero")
    pulled = F.vjp(outputs, wrt, cotangents, missing="zero")
    feeds = dict(built.feeds)
    for value in (*tangents, *cotangents):
        feeds[value] = random_like(rng, value.tensor, built.env)
    count = len(pushed)
    found = watch_into({}, [*pushed, *pulled], feeds, built.env)
    # of complex numbers the parts are like two real ones: the real part of conj(a) b
    forward = [float(np.vdot(a, feeds[c]).real) for a, c in zip(found[:count], cotangents)]
    backward = [float(np.vdot(a, feeds[t]).real) for a, t in zip(found[count:], tangents)]
    scale = sum(float(np.sum(np.abs(a * feeds[t]))) for a, t in zip(found[count:], tangents))
    assert abs(sum(forward) - sum(backward)) <= 1e-9 * (scale + 1e-3), (
        f"{case.id}: forward mode gives {sum(forward)}, reverse mode {sum(backward)}"
    )
    check_differences(built, outputs, dict(zip(wrt, tangents)), found[:count], feeds)


def check_differences(
    built: Built,
    outputs: Sequence[Value],
    along: dict[Value, Value],
    found: Sequence[Array],
    feeds: dict[Value, Array],
) -> None:
    sides = []
    for step in (STEP, -STEP):
        moved = {x: feeds[x] + step * feeds[t] for x, t in along.items()}
        sides.append(interpret(outputs, {**feeds, **moved}, built.env))
    for above, below, tangent in zip(*sides, found):
        expected = (above - below) / (2 * STEP)
        scale = np.max(np.abs(tangent), initial=0.0) + 1e-3 * np.max(np.abs(above), initial=1.0)
        worst = np.max(np.abs(expected - tangent), initial=0.0)
        assert worst <= 10 * DIFFERENCE[1] * scale, (
            f"{built.case.id}: differences differ by {worst}"
        )


# -- batches ---------------------------------------------------------------------------------------


class Lanes:
    """A sample with arrays for each of a few lanes; operands in `slots` differ between them."""

    def __init__(
        self, case: Case, slots: Sequence[int], count: int, dtype: str | None = None
    ) -> None:
        self.built = build(case, dtype)
        self.slots, self.count = slots, count
        # a number where all differ, so that lanes can be groups of a convolution; else a symbol
        all_differ = len(slots) == len(case.sample.args)
        self.size: Any = count if all_differ else dim("V")
        if not all_differ:
            self.built.env[self.size] = count
        rng = np.random.default_rng(case.seed)
        sizes = case.sample.sizes
        self.arrays = {
            slot: [self.built.arrays[slot]]
            + [case.sample.args[slot].draw(rng, sizes, dtype) for _ in range(count - 1)]
            for slot in slots
        }
        self.whole = {
            self.built.inputs[slot]: tensor(
                f"v{slot}",
                (self.size, *self.built.inputs[slot].shape),
                self.built.inputs[slot].dtype,
            )
            for slot in slots
        }

    def of_lane(self, lane: int) -> dict[Value, Array]:
        """Give the arrays of one lane."""
        own = {self.built.inputs[slot]: self.arrays[slot][lane] for slot in self.slots}
        return {**self.built.feeds, **own}

    def feeds(self) -> dict[Value, Array]:
        """Give the arrays of all lanes."""
        stacked = {
            self.whole[self.built.inputs[slot]]: np.stack(self.arrays[slot]) for slot in self.slots
        }
        return {**self.built.feeds, **stacked}

    def are_ragged(self) -> bool:
        """Tell whether the data of a lane decide a size."""
        counts = measured_sizes(self.built.outputs).values()
        return any(depends_on([one], self.whole) for one in counts)

    def check(
        self, outputs: Sequence[Value], found: Sequence[Value], what: str, expand: bool = False
    ) -> None:
        """Compare what was built for all lanes with a loop over them."""
        seen: dict[Value, Any] = {}
        together = watch_into(seen, found, self.feeds(), self.built.env)
        alone = [
            interpret(outputs, self.of_lane(lane), self.built.env) for lane in range(self.count)
        ]
        for number, array in enumerate(together):
            wanted = np.stack([each[number] for each in alone])
            assert_close(array, wanted, "composite", f"{self.built.case.id} {what}")
        for node in seen:
            if expand and isinstance(node.op, Batched):
                self.check_expansion(node, seen)

    def check_expansion(self, node: Value, seen: dict[Value, Any]) -> None:
        """Hold the index expression of a derived rule against its reference."""
        if type(node.op).expand is Op.expand or on_host(node):
            return
        found = node.op.expand(F, *node.inputs)
        arrays = [seen[operand] for operand in node.inputs]
        wanted = seen[node] if isinstance(seen[node], tuple) else (seen[node],)
        if isinstance(found, Compute):
            for one, other in zip(evaluate(found, arrays, self.built.env), wanted, strict=True):
                assert_close(one, other, "composite", f"{self.built.case.id} {node.op}")


def subsets(built: Built) -> list[list[int]]:
    """Choose the operands that differ: the first alone, the last alone, all of them."""
    count = len(built.inputs)
    every = [[0], [count - 1], list(range(count))]
    return [slots for number, slots in enumerate(every) if slots not in every[:number]]


@whole_or_two
@pytest.mark.parametrize("name", list(NAMES))
def test_batch(name: str, whole: bool) -> None:
    for case in some(of_operands(name), "batch", whole):
        for slots in subsets(build(case)):
            for count in (LANES, 1) if len(slots) == len(case.sample.args) else (LANES,):
                lanes = Lanes(case, slots, count)
                outputs = lanes.built.outputs
                if lanes.are_ragged():
                    require_refused(lanes)
                    continue
                found: Any = F.batch(outputs, lanes.whole, lanes.size)
                lanes.check(outputs, found, f"for {count} lanes of operands {slots}", True)


def require_refused(lanes: Lanes) -> None:
    with pytest.raises(ShapeError, match="differs from lane to lane"):
        F.batch(lanes.built.outputs, lanes.whole, lanes.size)


@whole_or_two
@pytest.mark.parametrize("name", list(NAMES))
def test_no_lanes_at_all(name: str, whole: bool) -> None:
    size = dim("V", min=0)
    for case in some(of_operands(name), "no lanes", whole):
        if Lanes(case, range(len(case.sample.args)), LANES).are_ragged():
            continue  # refused, as seen above
        built = build(case)
        lanes = {x: tensor("v", (size, *x.shape), x.dtype) for x in built.inputs}
        found: Any = F.batch(built.outputs, lanes, size)
        feeds = {
            lanes[x]: np.zeros((0, *array.shape), array.dtype) for x, array in built.feeds.items()
        }
        arrays = watch_into({}, found, feeds, {**built.env, size: 0})
        assert [array.shape[0] for array in arrays] == [0] * len(found)


@whole_or_two
@pytest.mark.parametrize("name", DIFFERENTIABLE)
def test_gradients_of_batches_and_batches_of_gradients(name: str, whole: bool) -> None:
    for case in some([case for case in cases_of(name) if case.checked], "gradients", whole):
        check_gradients(case)


def check_gradients(case: Case) -> None:
    lanes = Lanes(case, list(range(len(case.sample.args))), 2, "float64")
    if lanes.are_ragged():
        return
    built = lanes.built
    outputs, slots = floats(built.outputs), connected(built)
    if not outputs or not slots:
        return
    wrt = [built.inputs[slot] for slot in slots]
    cotangents: list[Value] = [F.ones_like(output) for output in outputs]
    pulled: Any = F.vjp(outputs, wrt, cotangents, missing="zero")
    lanes.check(pulled, F.batch(pulled, lanes.whole, lanes.size), "batch of gradients")  # type: ignore[arg-type]
    whole: Any = F.batch(outputs, lanes.whole, lanes.size)
    wholes = [lanes.whole[x] for x in wrt]
    ones = [F.ones_like(each) for each in whole]
    lanes.check(pulled, F.vjp(whole, wholes, ones, missing="zero"), "gradient of a batch")  # type: ignore[arg-type]


# -- what follows for operations that bring no rule ------------------------------------------------

PLAIN = [
    name
    for name, kind in OPS.items()
    if name in NAMES
    and name not in NO_EXPANSION
    and not issubclass(kind, Elementwise)
    and of_operands(name)
]


@whole_or_two
@pytest.mark.parametrize("name", PLAIN)
def test_derived_rules(name: str, whole: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """With no rule in the table, every operation is batched by its index expression alone."""
    monkeypatch.setattr("symgraph.autodiff.batch.BATCH", {})
    for case in some(of_operands(name), "derived", whole):
        for slots in subsets(build(case))[:1] + subsets(build(case))[-1:]:
            lanes = Lanes(case, slots, 2)
            found: Any = F.batch(lanes.built.outputs, lanes.whole, lanes.size)
            lanes.check(lanes.built.outputs, found, f"derived, operands {slots}", True)
        if case.checked:
            check_gradients(case)
