"""Runs a random program through the whole pipeline, and compares everything with NumPy.

A program is compiled once, with gradients and forward derivatives of some outputs beside it, and
called with two choices of sizes and again with the first: results are those of NumPy, variables are
updated, equal calls give equal bits.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

import numpy as np

import symgraph as sg
from symgraph.graph.node import Value
from tests.random_graphs import STREAM_SEED, Program, allowed
from tests.tolerances import EPSILON, HALVES

Array = Any
STEP = 1e-4, 1e-3  # of central differences, in float64; of second ones


class DifferenceError(AssertionError):
    """A result differs from NumPy's, or from that of an equal call."""


@dataclass(frozen=True)
class Derivative:
    """A derivative of sin(3 y) by an input x, all of them along cos(x).

    `kind` is "jvp", "grad" (of the sum), or "hvp" (the second derivative of the sum).
    """

    kind: str
    output: int
    leaf: int

    def build(self, slots: Sequence[Value]) -> Value:
        """Build it on the slots."""
        y, x = sg.sin(3 * slots[self.output]), slots[self.leaf]
        if self.kind == "jvp":
            return sg.jvp(y, x, sg.cos(x), missing="zero")
        if self.kind == "grad":
            return sg.grad(sg.sum(y), x, missing="zero")
        return sg.hvp(sg.sum(y), x, sg.stop_gradient(sg.cos(x)), missing="zero")

    def text(self) -> str:
        """Give the code of `build`."""
        y, x = f"sg.sin(3 * v{self.output})", f"v{self.leaf}"
        if self.kind == "jvp":
            return f'sg.jvp({y}, {x}, sg.cos({x}), missing="zero")'
        if self.kind == "grad":
            return f'sg.grad(sg.sum({y}), {x}, missing="zero")'
        return f'sg.hvp(sg.sum({y}), {x}, sg.stop_gradient(sg.cos({x})), missing="zero")'

    def check(self, program: Program, found: Array, lanes: Sequence[int]) -> str:
        """Compare with differences; what is said is empty where all is well."""
        slopes = [self._slope(program, number) for number in lanes]
        if any(slope is None for slope in slopes):
            return ""
        got = np.asarray(found, np.float64)
        if self.kind != "jvp":
            got = got * np.cos(program.results[self.leaf][lanes[0]])
            slopes = [np.sum(one) for one in slopes]
        parts = float(np.max(np.abs(got), initial=0.0))
        if self.kind != "jvp":
            parts, got = float(np.sum(np.abs(got))), np.sum(got)
        if got.shape != np.shape(slopes[0]):
            return f"shape {got.shape}, not {np.shape(slopes[0])}"
        return _compared(got, slopes, program, parts)

    def _slope(self, program: Program, number: int) -> Array | None:
        """Differentiate in one lane; None where two widths of differences disagree: a kink."""
        lane = program.lanes[number]
        leaves = [program.results[i][number] for i in range(len(program.leaves))]

        def at(distance: float) -> Array:
            moved = [*leaves]
            moved[self.leaf] = moved[self.leaf] + distance * np.cos(moved[self.leaf])
            return np.sin(3 * program.evaluate(lane, moved, checked=False)[self.output])

        def difference(width: float) -> Array:
            if self.kind != "hvp":
                return (at(width) - at(-width)) / (2 * width)
            return (at(width) - 2 * at(0.0) + at(-width)) / width**2

        step = STEP[self.kind == "hvp"]
        narrow, wide = difference(step), difference(2 * step)
        if not np.allclose(narrow, wide, rtol=1e-3, atol=1e-3):
            return None
        return np.asarray((4 * narrow - wide) / 3)


def _compared(got: Array, slopes: Sequence[Array], program: Program, parts: float) -> str:
    """Say how a derivative differs from differences, if it does by more than rounding."""
    wanted, *others = slopes
    single = any(dtype == "float32" for dtype in program.dtypes)
    largest = float(np.max(np.abs(wanted), initial=0.0)) + parts
    off = max((float(np.max(np.abs(one - wanted), initial=0.0)) for one in others), default=0.0)
    limit = 64 * off + (1e-3 if single else 1e-5) * max(1.0, largest)
    if np.all(np.abs(got - wanted) <= limit):
        return ""
    return f"{got}, differences give {wanted}, allowed {limit}"


def derivatives(program: Program, seed: int) -> list[Derivative]:
    """Choose what is differentiated: nothing in half precision, nothing through endless loops."""
    chance = Random(f"derivatives {seed}")
    if chance.randint(0, 1) or any(dtype in HALVES for dtype in program.dtypes):
        return []
    by = [
        i
        for i, leaf in enumerate(program.leaves)
        if leaf.kind == "input" and leaf.dtype in ("float32", "float64")
    ]
    of = [i for i in program.outputs if program.dtypes[i] in EPSILON and _ends(program, i)]
    if not by or not of:
        return []
    single = any(dtype == "float32" for dtype in program.dtypes)
    kinds = ["grad", "grad", "jvp", "jvp" if single else "hvp"]
    found = [Derivative(chance.choice(kinds), chance.choice(of), chance.choice(by)) for _ in "ab"]
    return list(dict.fromkeys(found))


def _ends(program: Program, slot: int) -> bool:
    """Whether no loop without an end leads to a slot."""
    first = len(program.leaves)
    needed = {slot}
    for number in reversed(range(first, slot + 1)):
        if number in needed:
            call = program.calls[number - first]
            if "'while'" in repr([call.step.name]) or " while(" in f" {call!r}":
                return False
            needed.update(call.slots)
    return True


def check(
    program: Program, own: Sequence[Derivative], backend: str, says: Callable[[str], None]
) -> None:
    """Compile and run a program; raises `DifferenceError`, or whatever symgraph raises."""
    says("build")
    slots = program.build(program.declare())
    outputs = [slots[i] for i in program.outputs]
    beside = [one.build(slots) for one in own]
    updates = program.new_values(slots)
    says("compile")
    compiled = sg.function(program.inputs(slots), [*outputs, *beside], updates, backend=backend)
    state = _stream_of(program, slots)
    first: list[Array] = []
    exact = [i for i, lane in enumerate(program.lanes) if not lane.noise]
    for turn, lane in enumerate([*exact, exact[0]]):
        says(f"call {turn}")
        for target, number in zip(updates, program.updates):
            target.value = program.fed(number)
        if state is not None:
            state.value = np.array([STREAM_SEED, 0, 0], np.uint64)
        given = program.given(lane)
        kept = [array.copy() for array in given]
        found = [np.asarray(one) for one in compiled(*given)]
        if not all(np.array_equal(a, b) for a, b in zip(given, kept)):
            raise DifferenceError("an input was written")
        found += [np.asarray(target.value) for target in updates]
        _compare(program, found, lane, len(own))
        _derived(program, own, found[len(outputs) :], lane)
        if turn == len(exact):
            _same_bits(first, found)
        first = first or [one.copy() for one in found]


def _stream_of(program: Program, slots: Sequence[Value]) -> Any:
    for value, leaf in zip(slots, program.leaves):
        if leaf.kind in ("uniform", "normal", "bernoulli"):
            return _state(value)
    return None


def _state(value: Value) -> Any:
    while value.inputs:
        value = value.inputs[0]
    return value


def _group(program: Program, lane: int) -> list[int]:
    """Give the lanes of the same sizes, from an exact one on."""
    after = lane + 1
    while after < len(program.lanes) and program.lanes[after].noise:
        after += 1
    return list(range(lane, after))


def _compare(program: Program, found: Sequence[Array], lane: int, skipped: int) -> None:
    results = list(found[: len(program.outputs)])
    results += found[len(program.outputs) + skipped :]
    for slot, got in zip([*program.outputs, *program.updates.values()], results, strict=True):
        exact, *others = (program.results[slot][i] for i in _group(program, lane))
        dtype = program.dtypes[slot]
        if (str(got.dtype), got.shape) != (dtype, exact.shape):
            raise DifferenceError(
                f"v{slot}: {got.dtype}{got.shape}, NumPy has {dtype}{exact.shape}"
            )
        if dtype not in EPSILON:
            wrong = got != exact
        else:
            got = got.astype(np.float64)
            wrong = ~(np.abs(got - exact) <= allowed(exact, others, dtype))
        if np.any(wrong):
            shown = f"{np.asarray(got)[wrong][:4]}, NumPy has {exact[wrong][:4]}"
            raise DifferenceError(
                f"v{slot} ({dtype}): {int(np.sum(wrong))} of {wrong.size} wrong: {shown}"
            )


def _derived(
    program: Program, own: Sequence[Derivative], found: Sequence[Array], lane: int
) -> None:
    for one, got in zip(own, found):
        said = one.check(program, got, _group(program, lane))
        if said:
            raise DifferenceError(f"{one.kind} of v{one.output} by v{one.leaf}: {said}")


def _same_bits(first: Sequence[Array], found: Sequence[Array]) -> None:
    for number, (one, other) in enumerate(zip(first, found, strict=True)):
        if one.tobytes() != other.tobytes():
            raise DifferenceError(
                f"result {number} differs from that of an equal call: {one} {other}"
            )
