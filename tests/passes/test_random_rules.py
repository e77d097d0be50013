"""Random programs through the rules: every pass of rules, and all of them, keep values and types.

Beside the programs of tests/random_graphs.py there are planted ones, rich in what rules look for:
exponentials, logarithms, sums, reshapes, and the constants 0, 1, -1, 1/2 and 2.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import symgraph as sg
from symgraph.graph.graph import Graph
from symgraph.graph.node import Value
from symgraph.passes.manager import PASSES, RulePass, run_passes
from tests.passes.rule_cases import computed
from tests.random_graphs import Program, programs

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


def kept(inputs: Sequence[Value], roots: Sequence[Value], arrays: Sequence[Array]) -> None:
    """Check that every pass of rules alone, and the whole pipeline, give what was written."""
    feeds = dict(zip(inputs, arrays))
    expected = computed(roots, feeds)
    graph = Graph(inputs, roots)
    after = {name: one(graph) for name, one in PASSES.items() if isinstance(one, RulePass)}
    for level in ("exact", "real"):
        with sg.config(rewrites=level):
            after[f"all {level}"] = run_passes(graph)
    for name, changed in after.items():
        assert [root.type for root in changed.outputs] == [root.type for root in roots], name
        for found, wanted in zip(computed(changed.outputs, feeds), expected, strict=True):
            same(found, wanted, name)


def same(found: Array, wanted: Array, what: str) -> None:
    """Compare: floats relative to the largest element, all else exactly."""
    assert (found.dtype, found.shape) == (wanted.dtype, wanted.shape), what
    if wanted.dtype.kind != "f":
        np.testing.assert_array_equal(found, wanted, err_msg=what)
        return
    scale = np.abs(wanted).max(initial=1.0, where=np.isfinite(wanted))
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

CONSTANTS = (0.0, 1.0, -1.0, 0.5, 2.0, -0.0, 3.0, 4.0)
ONE: dict[str, Callable[[Value], Value]] = {
    "exp": sg.exp, "log": sg.log, "log1p": sg.log1p, "expm1": sg.expm1, "negative": sg.negative,
    "square": sg.square, "sqrt": sg.sqrt, "rsqrt": sg.rsqrt, "reciprocal": sg.reciprocal,
    "sigmoid": sg.sigmoid, "softplus": sg.softplus, "abs": sg.abs, "relu": sg.relu,
    "erf": sg.erf, "cos": sg.cos, "sin": sg.sin, "tanh": sg.tanh, "floor": sg.floor,
    "same": lambda x: x + x, "itself": lambda x: x * x, "half": lambda x: x / 2,
    "flat": lambda x: sg.reshape(x, (-1,)), "column": lambda x: sg.reshape(x, (-1, 1)),
    "row": lambda x: sg.reshape(x, (1, -1)), "transpose": lambda x: sg.permute_dims(x),
    "two": lambda x: sg.reshape(x, (2, -1)) if int(x.size) % 2 == 0 else x,
    "repeat": lambda x: sg.broadcast_to(x, (2, *x.shape)) if x.ndim < 3 else x,
    "softmax": lambda x: sg.softmax(x, axis=-1) if x.ndim else x,
    "log_softmax": lambda x: sg.log_softmax(x, axis=0) if x.ndim else x,
    "logsumexp": lambda x: sg.logsumexp(x, axis=-1, keepdims=True) if x.ndim else x,
    "share": lambda x: sg.exp(x) / sg.sum(sg.exp(x), axis=-1, keepdims=True) if x.ndim else x,
    "centre": lambda x: x - sg.mean(x, axis=-1, keepdims=True) if x.ndim else x,
    "from_largest": lambda x: x - sg.max(x, axis=-1, keepdims=True) if x.ndim else x,
    "norm": lambda x: x / sg.sqrt(sg.mean(x * x, axis=-1, keepdims=True) + 1e-5) if x.ndim else x,
    "spread": lambda x: sg.mean(x * x) - sg.square(sg.mean(x)),
    "sum": lambda x: sg.sum(x), "sum_last": lambda x: sg.sum(x, axis=-1) if x.ndim else x,
    "sum_first": lambda x: sg.sum(x, axis=0, keepdims=True) if x.ndim else x,
    "max": lambda x: sg.max(x), "max_last": lambda x: sg.max(x, axis=-1) if x.ndim else x,
    "widen": lambda x: sg.cast(sg.cast(x, "float64"), x.dtype),
    "chosen": lambda x: sg.where(x > 0.3, x, -x), "not": lambda x: sg.where(~(x > 0.3), x, 2 * x),
}  # fmt: skip
TWO: dict[str, Callable[[Any, Any], Value]] = {
    "add": sg.add, "subtract": sg.subtract, "multiply": sg.multiply, "divide": sg.divide,
    "logaddexp": sg.logaddexp, "maximum": sg.maximum, "log_sum": lambda x, y: sg.log(
        sg.exp(x) + sg.exp(y)), "quotient": lambda x, y: sg.exp(x) / (1 + sg.exp(y)),
    "entropy": lambda x, y: y * sg.softplus(-x) + (1 - y) * sg.softplus(x),
}  # fmt: skip


@dataclass
class Planted:
    """Steps on numbered slots: the first are an array and a scalar, then the constants."""

    shape: tuple[int, ...]
    seed: int
    steps: list[tuple[str, tuple[int, ...]]] = field(default_factory=list)

    def build(self) -> tuple[list[Value], list[Value], list[Array]]:
        """Make the inputs, every slot, and numbers for the inputs."""
        inputs = [sg.tensor("x", self.shape, "float64"), sg.tensor("s", (), "float64")]
        slots = [*inputs, *(sg.constant(number, "float64") for number in CONSTANTS)]
        for name, operands in self.steps:
            made = {**ONE, **TWO}[name](*(slots[i] for i in operands))
            slots.append(made)
        rng = np.random.default_rng(self.seed)
        return inputs, slots, [rng.uniform(-2, 2, self.shape), np.asarray(rng.uniform(-2, 2))]


@st.composite
def planted(draw: Any) -> Planted:
    """Draw steps that fit together; results that are no ordinary numbers are not used further."""
    program = Planted(
        draw(st.sampled_from([(2, 3), (4,), (1, 3), (2, 1, 2), (3, 1)])), draw(st.integers(0, 99))
    )
    usable = list(range(2 + len(CONSTANTS)))
    for _ in range(draw(st.integers(2, 16))):
        late = st.sampled_from(usable[-4:]) | st.sampled_from(usable)
        name = draw(st.sampled_from([*ONE, *TWO, "add", "multiply", "divide", "subtract", "exp"]))
        operands = tuple(draw(late) for _ in range(1 if name in ONE else 2))
        program.steps.append((name, operands))
        if tame(program):
            usable.append(len(program.steps) + 1 + len(CONSTANTS))
        else:
            program.steps.pop()
    return program


def tame(program: Planted) -> bool:
    """Tell whether the last step can be taken, and gives ordinary numbers that rounding keeps."""
    try:
        inputs, slots, arrays = program.build()
    except sg.errors.SymgraphError:
        return False
    last = slots[-1]
    if last.ndim > 3 or last.size > 60:
        return False
    with sg.config(rewrites="none"):
        (found,) = computed([last], dict(zip(inputs, arrays)))
        near = [array * (1 + 1e-13) + 1e-13 for array in arrays]
        (moved,) = computed([last], dict(zip(inputs, near)))
    with np.errstate(all="ignore"):
        steady = np.abs(moved - found) <= 1e-11 * np.abs(found).max(initial=1.0)
    return bool(np.all(np.abs(found) < 1e4) and np.all(steady))


def check_planted(program: Planted) -> None:
    inputs, slots, arrays = program.build()
    kept(inputs, [slots[-1], slots[-1 - len(program.steps) // 2]], arrays)


def test_planted_programs_keep_their_values() -> None:
    run(planted(), check_planted, QUICK)


@pytest.mark.full
def test_two_thousand_planted_programs_keep_their_values() -> None:
    run(planted(), check_planted, WHOLE)
