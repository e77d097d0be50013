"""Random programs through the rules: every pass of rules, and all of them, keep values and types.

Beside the programs of tests/random_graphs.py there are planted ones, rich in what rules look for:
exponentials, logarithms, sums, reshapes, and the constants 0, 1, -1, 1/2 and 2.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import mpmath
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import symgraph as sg
from symgraph.graph.graph import Graph
from symgraph.graph.node import Value
from symgraph.graph.samples import Arg
from symgraph.passes.manager import PASSES, RulePass, run_passes
from symgraph.passes.stabilise import EVERY
from tests.passes.exact import DIGITS, exact, numbers
from tests.passes.rule_cases import CASES, Case, computed
from tests.random_graphs import Program
from tests.random_maker import programs

Array = Any
QUICK = 60
WHOLE = 2000
QUIET = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]


def run(strategy: Any, check: Callable[[Any], None], count: int) -> None:
    """Check drawn examples, in float64."""

    @settings(max_examples=count, suppress_health_check=QUIET)
    @given(strategy)
    def each(example: Any) -> None:
        with sg.config(float_dtype="float64", verify=True):
            check(example)

    each()


def kept(
    inputs: Sequence[Value],
    roots: Sequence[Value],
    arrays: Sequence[Array],
    truth: Sequence[Array] | None = None,
) -> None:
    """Check that every pass of rules alone, and the whole pipeline, give what was written.

    Where `truth` is known, results may also be nearer to it than what was written.
    """
    feeds = dict(zip(inputs, arrays))
    expected = computed(roots, feeds)
    graph = Graph(inputs, roots)
    alone = {name: one.chosen() for name, one in PASSES.items() if isinstance(one, RulePass)}
    after = {name: one(graph) for name, one in alone.items()}
    for level in ("exact", "real"):
        with sg.config(rewrites=level):
            after[f"all {level}"] = run_passes(graph)
    for name, changed in after.items():
        assert [root.type for root in changed.outputs] == [root.type for root in roots], name
        results = computed(changed.outputs, feeds)
        for found, wanted, right in zip(results, expected, truth or expected, strict=True):
            same(found, wanted, right, name)


def same(found: Array, wanted: Array, right: Array, what: str) -> None:
    """Compare: floats relative to the largest element, all else exactly."""
    assert (found.dtype, found.shape) == (wanted.dtype, wanted.shape), what
    if wanted.dtype.kind != "f":
        np.testing.assert_array_equal(found, wanted, err_msg=what)
        return
    with np.errstate(invalid="ignore"):
        nearer = np.abs(found - right) < np.abs(wanted - right)
    scale = np.abs(wanted).max(initial=1.0, where=np.isfinite(wanted))
    wanted = np.where(nearer, found, wanted)
    np.testing.assert_allclose(found, wanted, rtol=1e-10, atol=1e-10 * scale, err_msg=what)


# -- programs over all operations -----------------------------------------------------------------


def check_program(program: Program) -> None:
    leaves = program.declare(symbolic=False)
    slots = program.build(leaves)
    roots = [*(slots[i] for i in program.outputs), *(slots[i] for i in program.updates.values())]
    kept(program.inputs(slots), roots, program.inputs(program.arrays))


def test_random_programs_keep_their_values() -> None:
    run(programs(), check_program, QUICK)


@pytest.mark.full
def test_two_thousand_random_programs_keep_their_values() -> None:
    run(programs(), check_program, WHOLE)


# -- planted programs -----------------------------------------------------------------------------

SHAPE = (2, 3)
CONSTANTS = (0.0, 1.0, -1.0, 0.5, 2.0, -0.0, 3.0, 4.0)
ONE: dict[str, Callable[[Value], Value]] = {
    **{name: getattr(sg, name) for name in (
        "exp", "log", "log1p", "expm1", "negative", "square", "sqrt", "rsqrt", "reciprocal",
        "sigmoid", "softplus", "abs", "relu", "erf", "cos", "sin", "tanh", "floor", "sign",
    )},
    "positive": lambda x: sg.exp(x * 0.5) + 0.25, "flat_sum": lambda x: sg.sum(sg.reshape(x, (6,))),
    "turned": lambda x: sg.reshape(sg.permute_dims(x), SHAPE), "sum": lambda x: sg.sum(x),
    "flat": lambda x: sg.reshape(sg.tanh(sg.reshape(x, (6,))), SHAPE),
    "both_ways": lambda x: sg.permute_dims(sg.exp(sg.permute_dims(x))),
    "sum_of_repeated": lambda x: sg.sum(sg.broadcast_to(x, (4, *SHAPE)), axis=0),
    "softmax": lambda x: sg.softmax(x, axis=1),
    "centre": lambda x: x - sg.mean(x, axis=1, keepdims=True),
    "from_largest": lambda x: x - sg.max(x, axis=1, keepdims=True), "max": lambda x: sg.max(x),
    "chosen": lambda x: sg.where(x > 0.3, x, -x), "last": lambda x: sg.sum(x, axis=1)[:, None],
}  # fmt: skip
TWO: dict[str, Callable[[Any, Any], Value]] = {
    name: getattr(sg, name)
    for name in ("add", "subtract", "multiply", "divide", "logaddexp", "maximum", "minimum")
}


def operand(x: Value, like: Arg) -> Value:
    """Make of a 2 by 3 array what an example of a rule wants in its place."""
    if like.dtype == "bool":
        x = x > 0.1
    if like.shape == ():
        return x[0, 0]
    if len(like.shape) == 1:
        return x[0]
    return sg.permute_dims(x) if like.shape == (3, 2) else x[:, : like.shape[1]]


def planted_rules() -> dict[str, Case]:
    """Give the examples of rules that can be made of 2 by 3 arrays."""
    known = {(), (3,), (2, 1), SHAPE, (3, 2)}
    return {
        case.id: case
        for case in CASES
        if all(
            one.shape in known and one.dtype in ("bool", "float32")
            for one in case.operands.values()
        )
    }


RULES = planted_rules()
NAMES = (*ONE, *TWO, *RULES)


def taken(name: str, operands: Sequence[Value]) -> Value:
    """Take one step; whatever comes out is 2 by 3 again."""
    if name in RULES:
        wanted = RULES[name].operands
        given = {key: operand(x, like) for (key, like), x in zip(wanted.items(), operands)}
        found = RULES[name].example.write(**given)
    else:
        found = {**ONE, **TWO}[name](*operands)
    found = sg.where(found, 1.0, -0.5) if found.dtype == "bool" else sg.cast(found, "float64")
    if found.size == 6:
        return sg.reshape(found, SHAPE)
    if found.shape in ((), (3,), (1, 3), (2, 1), (1, 1)):
        return sg.broadcast_to(found, SHAPE)
    return sg.broadcast_to(sg.sum(found), SHAPE)


def count_of(name: str) -> int:
    return len(RULES[name].operands) if name in RULES else 2 if name in TWO else 1


@dataclass
class Planted:
    """Steps on numbered slots: first two arrays, then the constants."""

    seed: int
    steps: list[tuple[str, tuple[int, ...]]] = field(default_factory=list)

    def build(self) -> tuple[list[Value], list[Value], list[Array]]:
        """Make the inputs, every slot, and numbers for the inputs."""
        inputs = [sg.tensor(name, SHAPE, "float64") for name in "ab"]
        numbers = [sg.broadcast_to(sg.constant(one, "float64"), SHAPE) for one in CONSTANTS]
        slots = [*inputs, *numbers]
        for name, operands in self.steps:
            slots.append(taken(name, [slots[i] for i in operands]))
        rng = np.random.default_rng(self.seed)
        return inputs, slots, [rng.uniform(-2, 2, SHAPE) for _ in inputs]


@st.composite
def planted(draw: Any) -> Planted:
    """Draw steps; results that are no ordinary numbers are not used further."""
    program = Planted(draw(st.integers(0, 99)))
    chance = draw(st.randoms(use_true_random=False))  # spreads evenly, and shrinks all the same
    first = len(CONSTANTS) + 2
    usable = [0, 1]
    for _ in range(draw(st.integers(2, 10))):
        name = chance.choice(NAMES)
        pool = [*usable, *usable[-3:], *usable[-1:] * 4]
        if name not in RULES:
            pool += range(2, first)
        operands = [chance.choice(pool) for _ in range(count_of(name))]
        operands[0] = chance.choice(usable[-3:])
        program.steps.append((name, tuple(operands)))
        if tame(program):
            usable.append(len(program.steps) - 1 + first)
        else:
            program.steps.pop()
    return program


def tame(program: Planted) -> bool:
    """Tell whether the last step can be taken, and gives ordinary numbers that rounding keeps."""
    with sg.config(float_dtype="float64"):
        inputs, slots, arrays = program.build()
    last = slots[-1]
    with sg.config(rewrites="none"):
        (found,) = computed([last], dict(zip(inputs, arrays)))
        near = [array * (1 + 1e-13) + 1e-13 for array in arrays]
        (moved,) = computed([last], dict(zip(inputs, near)))
    with np.errstate(all="ignore"):
        steady = np.abs(moved - found) <= 1e-11 * np.abs(found).max(initial=1.0)
    return bool(np.all(np.abs(found) < 1e4) and np.all(steady))


def check_planted(program: Planted) -> None:
    inputs, slots, arrays = program.build()
    roots = [slots[-1], slots[-1 - len(program.steps) // 2]]
    with mpmath.workdps(60), np.errstate(invalid="ignore"):
        found = exact(roots, dict(zip(inputs, map(numbers, arrays))), DIGITS)
        truth = [np.asarray(np.frompyfunc(float, 1, 1)(array), np.float64) for array in found]
    kept(inputs, roots, arrays, truth)


def test_planted_programs_meet_most_rules() -> None:
    fired: set[str] = set()

    def check(program: Planted) -> None:
        inputs, slots, _ = program.build()
        graph = run_passes(Graph(inputs, slots[-1:]))
        fired.update(change.reason for step in graph.history for change in step.changes)

    run(planted(), check, 3 * QUICK)
    names = {rule.name for rule in EVERY}
    assert len(fired & names) > 80, sorted(names - fired)


def test_planted_programs_keep_their_values() -> None:
    run(planted(), check_planted, QUICK)


@pytest.mark.full
def test_two_thousand_planted_programs_keep_their_values() -> None:
    run(planted(), check_planted, WHOLE)
