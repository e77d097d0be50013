"""Random programs: every way to build and run one agrees with NumPy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings

import symgraph as sg
from symgraph.graph.graph import Graph
from symgraph.graph.node import Value
from symgraph.graph.walk import rebuild
from symgraph.passes.manager import PASSES
from tests.random_graphs import Program
from tests.random_maker import programs

Array = Any
QUICK = {"values": 250, "gradients": 150, "views": 60}
WHOLE = 2000


def test_random_programs_agree_with_numpy() -> None:
    _run("values", _check_values)


@pytest.mark.full
def test_two_thousand_random_programs_agree_with_numpy() -> None:
    _run("values", _check_values, WHOLE)


def test_gradients_of_random_programs_agree_with_differences() -> None:
    _run("gradients", _check_gradients)


@pytest.mark.full
def test_gradients_of_two_thousand_random_programs_agree_with_differences() -> None:
    _run("gradients", _check_gradients, WHOLE)


def test_random_programs_can_be_shown() -> None:
    _run("views", _check_views)


@pytest.mark.full
def test_two_thousand_random_programs_can_be_shown() -> None:
    _run("views", _check_views, WHOLE)


def _run(what: str, check: Any, count: int = 0) -> None:
    drawn = programs(smooth=what == "gradients", steps=8 if what == "gradients" else 14)
    quiet = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]
    limits = settings(max_examples=count or QUICK[what], suppress_health_check=quiet)

    @limits
    @given(drawn)
    def each(program: Program) -> None:
        with sg.config(float_dtype="float64"):
            check(program)

    each()


# -- values ---------------------------------------------------------------------------------------


def _check_values(program: Program) -> None:
    leaves = program.declare()
    slots = program.build(leaves)
    assert all(a is b for a, b in zip(program.build(leaves), slots)), "rebuilding gives new nodes"
    _check_types(program, slots)
    roots = [*(slots[i] for i in program.outputs), *(slots[i] for i in program.updates.values())]
    expected = [program.arrays[i] for i in [*program.outputs, *program.updates.values()]]
    inputs, env = program.inputs(slots), program.env()
    feeds = dict(zip(inputs, program.given()))
    _same(sg.interpret(roots, feeds, env), expected, "interpret")
    graph = Graph(inputs, roots)
    for one in PASSES.values():
        _same(sg.interpret(one(graph).outputs, feeds, env), expected, one.name)
    _check_function(program, slots, expected)
    _check_numbers(program, slots, expected)


def _check_types(program: Program, slots: list[Value]) -> None:
    env = program.env()
    for value, array in zip(slots, program.arrays):
        shape = tuple(sg.dims.evaluate(size, env) for size in value.shape)
        assert (value.dtype, shape) == (str(array.dtype), array.shape), value


def _check_function(program: Program, slots: list[Value], expected: list[Array]) -> None:
    """Compile; the inputs stay as they are, and the updates are written."""
    updates = program.new_values(slots)
    outputs = [slots[i] for i in program.outputs]
    compiled = sg.function(program.inputs(slots), outputs, updates)
    given = program.given()
    kept = [array.copy() for array in given]
    found = compiled(*given)
    _same([*found, *(target.value for target in updates)], expected, "function")
    assert all(np.array_equal(a, b) for a, b in zip(given, kept)), "an input was written"
    for output in found:
        output[...] = 0
    again = [target.value for target in updates]
    _same(again, expected[len(outputs) :], "a shared variable followed an output")
    for target, number in zip(updates, program.updates):
        target.value = program.arrays[number]


def _check_numbers(program: Program, slots: list[Value], expected: list[Array]) -> None:
    """Building with numbers, and putting numbers for names, both give the same values."""
    roots = [*program.outputs, *program.updates.values()]
    leaves = [
        fixed if leaf.kind == "input" else slot
        for leaf, fixed, slot in zip(program.leaves, program.declare(symbolic=False), slots)
    ]
    feeds = dict(zip(program.inputs(leaves), program.given()))
    direct = program.build(leaves)
    _same(sg.interpret([direct[i] for i in roots], feeds), expected, "built with numbers")
    env = program.env()
    replace = {old: new for old, new in zip(slots, leaves) if old is not new}
    done = rebuild([slots[i] for i in roots], replace, lambda op: op.with_dims(env))
    substituted = [done[slots[i]] for i in roots]
    _same(sg.interpret(substituted, feeds), expected, "sizes substituted")
    assert all(value.type == direct[i].type for value, i in zip(substituted, roots))


def _same(found: list[Array], expected: list[Array], what: str) -> None:
    for one, other in zip(found, expected, strict=True):
        one = np.asarray(one)
        assert (one.dtype, one.shape) == (other.dtype, other.shape), what
        if other.dtype.kind == "f":
            np.testing.assert_allclose(one, other, rtol=1e-10, atol=1e-10, err_msg=what)
        else:
            np.testing.assert_array_equal(one, other, err_msg=what)


# -- gradients ------------------------------------------------------------------------------------


def _check_gradients(program: Program) -> None:
    slots = program.build(program.declare())
    last = slots[program.outputs[0]]
    rng = np.random.default_rng(0)
    weight = np.asarray(rng.uniform(-1, 1, program.arrays[-1].shape))
    inputs = program.inputs(slots)
    if not inputs:
        return
    loss = (last * sg.specify_shape(sg.constant(weight), last.shape)).sum()
    gradients = sg.grad(loss, inputs, missing="zero")
    compiled = sg.function(inputs, gradients)
    found = compiled(*program.given())
    for number, (leaf, gradient) in enumerate(zip(inputs, found)):
        assert gradient.shape == program.given()[number].shape, leaf
        direction = np.asarray(rng.uniform(-1, 1, gradient.shape))
        slope, curve = _difference(program, number, direction, weight)
        scale = max(1.0, abs(slope), abs(curve))
        assert abs(np.sum(gradient * direction) - slope) < 1e-5 * scale, leaf


def _difference(
    program: Program, number: int, direction: Array, weight: Array
) -> tuple[float, float]:
    """Give the slope along a direction by central differences, and how much it bends."""
    place = [i for i, leaf in enumerate(program.leaves) if leaf.kind == "input"][number]

    def loss(distance: float) -> float:
        arrays = list(program.arrays[: len(program.leaves)])
        arrays[place] = arrays[place] + distance * direction
        with np.errstate(all="ignore"):
            for call in program.calls:
                operands = [arrays[i] for i in call.slots]
                arrays.append(np.asarray(call.step.numpy(*operands, *call.attributes)))
        return float(np.sum(arrays[program.outputs[0]] * weight))

    step = 1e-5
    ahead, here, behind = loss(step), loss(0.0), loss(-step)
    wide = (loss(2 * step) - loss(-2 * step)) / (4 * step)
    slope = (ahead - behind) / (2 * step)
    return (4 * slope - wide) / 3, (ahead - 2 * here + behind) / step**2


# -- views ----------------------------------------------------------------------------------------


def _check_views(program: Program) -> None:
    slots = program.build(program.declare())
    outputs = [slots[i] for i in program.outputs]
    compiled = sg.function(program.inputs(slots), outputs, program.new_values(slots))
    for text in (sg.show(compiled), sg.show(outputs), sg.show(outputs[0], origins=False)):
        assert max(map(len, text.splitlines())) <= 100, text
        assert "\n  return " in text
    assert sg.debugprint(compiled)
    for value in outputs:
        assert value._repr_html_().count("<pre>") == 1
        formula = value._repr_latex_()
        assert formula.count("{") == formula.count("}")
        assert formula.count(r"\left") == formula.count(r"\right")
