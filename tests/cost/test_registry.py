"""Every operation and composite: FLOPs and bytes as formulas against what NumPy really did."""

from __future__ import annotations

from collections.abc import Container, Iterator
from typing import Any

import pytest

import symgraph as sg
from symgraph.cost.flops import node_flops
from symgraph.dims import evaluate
from symgraph.graph.node import Value
from symgraph.graph.scalar import ROWS
from symgraph.graph.walk import topological
from tests.cost.counting import COUNTED, FREE, counted_bytes, counted_flops, must_copy, owner
from tests.ops.registry_cases import (
    CASES,
    NO_EXPANSION,
    Built,
    Case,
    build,
    chosen,
    results,
)

SYMBOLIC = [case for case in CASES if case.sample.sizes]

# operations that compute otherwise, or are counted otherwise, when a size is a number
BLOCKS = "a short axis is not cut into blocks"
TRANSFORMS = "the logarithm of an unknown size is taken for 10; such an axis is cut and filled"
BY_SIZE = {
    **dict.fromkeys(("cumulative_sum", "cumulative_prod", "cummax", "cummin"), BLOCKS),
    "repeat": "counts for an axis of unknown size are an index that is computed",
    "searchsorted": "a vector of unknown size is searched in as many rounds as any could need",
    **dict.fromkeys(
        (
            "dft",
            "fft",
            "ifft",
            "fftn",
            "ifftn",
            "rfft",
            "irfft",
            "rfftn",
            "irfftn",
            "hfft",
            "ihfft",
        ),
        TRANSFORMS,
    ),
}


def each(cases: list[Case], daily: Container[str] | None = None) -> Any:
    """Give every sample; those that are not named as daily are for `-m full`."""
    return pytest.mark.parametrize(
        "case",
        [
            pytest.param(
                case,
                id=case.id,
                marks=() if daily is None or case.id in daily else pytest.mark.full,
            )
            for case in cases
        ],
    )


_executed: dict[str, tuple[Built, dict[Value, Any]]] = {}


def executed(case: Case) -> tuple[Built, dict[Value, Any]]:
    """Give a sample with the arrays of all its values, which three checks look at."""
    found = _executed.get(case.id)
    if found is None:
        built = build(case)
        found = _executed[case.id] = (built, built.run())
    return found


@pytest.fixture(scope="module", autouse=True)
def _let_go() -> Iterator[None]:
    """Forget the samples at the end: their sizes would go on living, by names that others use."""
    yield
    _executed.clear()


def test_every_scalar_operation_is_counted_or_free() -> None:
    assert not COUNTED & FREE
    assert COUNTED | FREE | {"reduce"} == set(ROWS)


@each(CASES)
def test_flops_are_those_of_the_executed_expansion(case: Case) -> None:
    built, seen = executed(case)
    for node in topological(built.outputs):
        if node.inputs and node.op.name not in NO_EXPANSION:
            arrays = [seen[operand] for operand in node.inputs]
            assert evaluate(node_flops(node), built.env) == counted_flops(node, arrays, built.env)


@each(CASES)
def test_bytes_are_those_of_the_arrays(case: Case) -> None:
    built, seen = executed(case)
    for row in sg.cost(built.outputs).nodes:
        node = row.node
        if node.inputs:
            operands = [seen[operand] for operand in node.inputs]
            found = evaluate(row.read, built.env), evaluate(row.written, built.env)
            if not must_copy(node, operands, seen[node]):
                assert found == counted_bytes(operands, seen[node]), node


@each(CASES)
def test_a_view_is_what_shares_memory(case: Case) -> None:
    """An array shares the memory of an operand if its operation says so, and only then."""
    built, seen = executed(case)
    for node in topological(built.outputs):
        if node.inputs:
            operands = [a for x in node.inputs for a in results(seen[x])]
            owners = {id(owner(a)) for a in operands}
            shares = {id(owner(a)) in owners for a in results(seen[node])}
            assert shares == {node.op.view} or must_copy(node, operands, seen[node]), node


BY_FORMULA = [case for case in SYMBOLIC if case.name not in BY_SIZE]


@each(BY_FORMULA, daily=chosen(BY_FORMULA, "formulas"))
def test_formulas_agree_with_the_graph_of_numbers(case: Case) -> None:
    symbolic, concrete = build(case), build(case, symbolic=False)
    one, other = sg.cost(symbolic.outputs), sg.cost(concrete.outputs)
    found = one.evaluate({size: symbolic.env[size] for size in one.sizes})
    numbers = other.evaluate({size: concrete.env[size] for size in other.sizes})
    if all(row.node.op.name != "size_of" for row in one.nodes):
        assert found == numbers
    else:  # there a constant stands for a size as a number
        assert found.flops == numbers.flops


def test_a_loop_costs_its_body_for_every_step_and_a_branch_the_dearest_one() -> None:
    T = sg.dim("T")
    x, w = sg.tensor("x", (T, 3)), sg.tensor("w", (3, 3))
    rows, _ = sg.scan(lambda row, s: sg.tanh(s @ w + row), x, [sg.zeros((3,))])
    assert evaluate(sg.cost(rows).flops, {T: 7}) == 7 * (2 * 9 + 3 + 3)
    y = sg.cond(w[0, 0] > 0, lambda: w @ w, lambda: w + 1)
    assert sg.cost(y).flops == 2 * 27 + 1
