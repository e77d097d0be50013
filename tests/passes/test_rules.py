"""Every rule fires: by itself, from what a user writes, in every dtype, and behind reshapes.

All tests are made from the rules' own examples: `pytest tests/passes/test_rules.py -k softplus`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import mpmath
import numpy as np
import pytest

import symgraph as sg
from symgraph.graph.elementwise import Elementwise
from symgraph.graph.interpret import interpret
from symgraph.graph.node import Value
from symgraph.graph.walk import rebuild, sweep, topological
from symgraph.passes import stabilise
from symgraph.passes.manager import PASSES
from symgraph.passes.stabilise import EVERY
from symgraph.passes.sweeper import Sweeper
from tests.passes.exact import DIGITS, exact, numbers
from tests.passes.rule_cases import (
    CASES,
    FIRST,
    FLOATS,
    Case,
    computed,
    drawn,
    each,
    level,
)
from tests.tolerances import EPSILON

Array = Any


def test_every_rule_has_an_example_a_name_of_its_own_and_a_bound() -> None:
    names = [rule.name for rule in EVERY]
    assert len(set(names)) == len(names)
    for rule in EVERY:
        assert rule.examples, rule.name
        assert rule.ulps == 0 or rule.sound == "real", rule.name
        assert rule.about or rule.sound != "fast", f"{rule.name}: why is it only fast?"


# -- by itself ------------------------------------------------------------------------------------


@each(CASES, "alone")
def test_fires_and_keeps_the_type(case: Case) -> None:
    site = case.site()
    assert site is not None, f"{case.id} never fires"
    assert site.new is not site.old
    assert site.new.type == site.old.type
    assert case.rule(site.old) is site.new


@each(CASES, "ends")
def test_the_rules_end_and_a_second_sweep_finds_nothing(case: Case) -> None:
    site = case.site()
    assert site is not None
    with sg.config(rewrites="fast"):
        once, count = _swept(site.new)
        again, more = _swept(once)
    assert count < 100
    assert again is once
    assert more == 0


def _swept(value: Value) -> tuple[Value, int]:
    """Apply all rules to a value; give what it became and how many fired."""
    sweeper = Sweeper("all", EVERY, len(topological([value])))
    done = sweep([value], sweeper.step)
    return done[value], len(sweeper.changes)


# -- through the whole pipeline -------------------------------------------------------------------


@each(CASES, "pipeline")
def test_fires_from_what_a_user_writes(case: Case) -> None:
    """In float64, so that the value is compared with what was written."""
    inputs, written = case.build("float64" if case.site("float64") else None)
    with sg.config(verify=True, rewrites=level(case.rule)):
        compiled = sg.function(list(inputs.values()), written)
    fired = [change.reason for step in compiled.history for change in step.changes]
    assert case.rule.name in fired, f"only {', '.join(dict.fromkeys(fired)) or 'nothing'} fired"
    rng = case.rng()
    for _ in range(3):
        feeds = drawn(case, inputs, rng)
        (expected,) = computed([written], feeds)
        found = compiled(*feeds.values())
        assert (found.dtype, found.shape) == (expected.dtype, expected.shape)
        scale = np.abs(expected).max() if expected.dtype.kind == "f" and expected.size else 0.0
        np.testing.assert_allclose(found, expected, rtol=1e-10, atol=1e-10 * scale)


@each(FIRST, "none")
def test_nothing_fires_where_none_may(case: Case) -> None:
    inputs, written = case.build()
    with sg.config(rewrites="none"):
        compiled = sg.function(list(inputs.values()), written)
    fired = {change.reason for step in compiled.history for change in step.changes}
    assert fired <= {name for name, one in PASSES.items() if not hasattr(one, "rules")}


@each([case for case in FIRST if case.rule.sound != "exact"], "level")
def test_only_rules_that_are_sound_enough_fire(case: Case) -> None:
    inputs, written = case.build()
    below = {"fast": "real", "real": "exact"}[case.rule.sound]
    with sg.config(rewrites=below):
        compiled = sg.function(list(inputs.values()), written)
    fired = {change.reason for step in compiled.history for change in step.changes}
    assert case.rule.name not in fired


B, C = sg.dim("B"), sg.dim("C")


@each([case for case in FIRST if case.rule.pattern is not None], "sizes")
def test_fires_with_named_sizes(case: Case) -> None:
    """One optimised graph serves every size: here B = 2 and C = 3, then others."""
    names = {2: B, 3: C, 1: 1}
    inputs = {
        name: sg.tensor(
            name,
            [names[size] for size in one.shape],
            "float64" if one.dtype == "float32" else one.dtype,
        )
        for name, one in case.operands.items()
    }
    written = case.example.write(**inputs)
    with sg.config(verify=True, rewrites=level(case.rule)):
        compiled = sg.function(list(inputs.values()), written)
    fired = [change.reason for step in compiled.history for change in step.changes]
    assert case.rule.name in fired
    for env in ({B: 2, C: 3}, {B: 5, C: 1}, {B: 1, C: 4}):
        rng = case.rng()
        feeds = {}
        for name, one in case.operands.items():
            shape = tuple(env.get(size, size) for size in inputs[name].shape)
            dtype = "float64" if one.dtype == "float32" else None
            feeds[inputs[name]] = replace(one, shape=shape).draw(rng, {}, dtype)
        (expected,) = interpret([written], feeds, env)
        found = compiled(*feeds.values())
        assert (found.dtype, found.shape) == (expected.dtype, expected.shape)
        np.testing.assert_allclose(found, expected, rtol=1e-10, atol=1e-10)


# -- in every dtype -------------------------------------------------------------------------------

FLOATING = [case for case in CASES if case.rule.dtypes in ("float", "number")]


@pytest.mark.parametrize("dtype", FLOATS)
@each(FLOATING, "dtype")
def test_every_float_dtype(case: Case, dtype: str) -> None:
    """The whole pipeline against the old expression with 60 digits, from the same operands.

    The result is as near as the rule says, or as near as the old expression in this dtype; errors
    are measured at the largest element.
    """
    inputs, written = case.build(dtype)
    with sg.config(verify=True, rewrites=level(case.rule)):
        compiled = sg.function(list(inputs.values()), written)
    wide, plain = case.build("float64")
    feeds = drawn(case, inputs, case.rng())
    with sg.config(rewrites="none"), np.errstate(all="ignore"):
        found = compiled(*feeds.values())
        given = {wide[name]: numbers(feeds[inputs[name]]) for name in inputs}
        with mpmath.workdps(60):
            (truth,) = exact([plain], given, DIGITS)
        expected = np.asarray(np.frompyfunc(float, 1, 1)(truth), np.float64)
        (before,) = computed([written], feeds)
        assert (str(found.dtype), found.shape) == (written.dtype, expected.shape)
        error = np.abs(found.astype(np.float64) - expected)
        as_before = np.abs(before.astype(np.float64) - expected)
        largest = np.abs(expected).max(initial=1e-3)
        limit = (case.rule.ulps + 6) * EPSILON[dtype] * largest
    wrong = (error > limit) & ~(error <= as_before)
    assert not wrong.any(), f"{found[wrong]} is not {expected[wrong]} (was {before[wrong]})"


# -- with a rearrangement in between --------------------------------------------------------------

STABLE = [case for case in FIRST if case.rule in stabilise.RULES and case.rule.sound == "real"]
VIEWS: dict[str, Callable[[Value], Value]] = {
    "reshape": lambda x: sg.reshape(x, (-1,)),
    "permute": lambda x: sg.permute_dims(x, (1, 0)),
    "expand": lambda x: sg.reshape(x, (1, *x.shape)),
}


def rearranged(node: Value, view: Callable[[Value], Value]) -> Value | None:
    """Compute one elementwise operation on rearranged operands, and arrange its result as it was.

    None where the rearrangement means something else for each operand.
    """
    if not isinstance(node.op, Elementwise):
        return None
    arrays = [x for x in node.inputs if x.shape]
    if len({view(x).op for x in arrays}) != 1:
        return None
    with sg.config(rewrites="none"):
        moved = getattr(sg, node.op.name)(*(view(x) if x.shape else x for x in node.inputs))
    if view is VIEWS["permute"]:
        return sg.permute_dims(moved, (1, 0))
    return sg.reshape(moved, node.shape)


@pytest.mark.parametrize("view", VIEWS)
@each(STABLE, "view")
def test_fires_with_a_rearrangement_at_every_operation(case: Case, view: str) -> None:
    inputs, written = case.build("float64")
    found = []
    for node in topological([written]):
        other = rearranged(node, VIEWS[view]) if node.inputs else None
        if other is None:
            continue
        changed = rebuild([written], {node: other})[written]
        compiled = sg.function(list(inputs.values()), changed)
        fired = {change.reason for step in compiled.history for change in step.changes}
        assert case.rule.name in fired, f"not with {view} at {node!r}: {sg.show(compiled)}"
        feeds = drawn(case, inputs, case.rng())
        (expected,) = computed([written], feeds)
        np.testing.assert_allclose(compiled(*feeds.values()), expected, rtol=1e-10, atol=1e-12)
        found.append(node)
    assert found or view != "permute", "there is no place for one"
