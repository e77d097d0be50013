"""Rematerialisation of graphs in which `sg.checkpoint` has chosen already."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import symgraph as sg
from symgraph.errors import MemoryLimitError
from symgraph.function import Function
from symgraph.graph.leaves import Shared
from symgraph.graph.node import Value
from tests.passes.test_remat import BATCH, B, fed, peak, trained, weights


def blocks(depth: int, by_hand: str) -> tuple[list[Value], Value, list[Shared]]:
    """Blocks of three layers with noise; those named by a letter are checkpoints."""
    x, y = sg.tensor("x", (B, 16)), sg.tensor("y", (B,), "int32")
    parameters = [weights((16, 16), number) for number in range(3 * depth)]
    streams = [sg.random.Stream(70 + number) for number in range(depth)]

    def block(number: int, h: Value) -> Value:
        for w in parameters[3 * number : 3 * number + 3]:
            h = sg.tanh(sg.exp(0.1 * sg.sin(h @ w)))
        return sg.dropout(h, 0.2, stream=streams[number])

    h = x
    for number in range(depth):
        made = lambda h, number=number: block(number, h)
        h = (sg.checkpoint(made) if by_hand[number] == "c" else made)(h)
    return [x, y], sg.nn.cross_entropy(h, y).mean(), parameters


def made_of(step: Function) -> Any:
    return sg.cost(step).evaluate(B=BATCH)


full = pytest.mark.full
ALL = ["c-c-", *(pytest.param(one, marks=full) for one in ("cccc", "cc--", "--cc"))]


@pytest.mark.parametrize("by_hand", ALL)
def test_checkpoints_set_by_hand_are_kept_where_they_fit_and_undone_where_not(by_hand: str) -> None:
    """Below what checkpoints alone reach it goes as far as without them."""
    free, given_ = (lambda: blocks(4, "----")), (lambda: blocks(4, by_hand))
    plain = trained(free)
    start, least = peak(trained(given_).graph), int(peak(plain.graph) * 0.45)
    assert start > 1.2 * least
    by_themselves = made_of(trained(given_)).flops
    for budget in (start - 1, least):
        fitted = trained(given_, [sg.remat(budget, B=BATCH)])
        assert made_of(fitted).peak <= budget
        chosen = made_of(trained(free, [sg.remat(budget, B=BATCH)])).flops
        assert made_of(fitted).flops <= 1.25 * max(by_themselves, chosen)
        other = trained(free)
        for _ in range(2):
            np.testing.assert_array_equal(other(*fed(other)), fitted(*fed(fitted)))
            one, two = (
                sorted(step.graph.updates, key=lambda v: (v.label, v.value.tolist()))
                for step in (other, fitted)
            )
            for a, b in zip(one, two, strict=True):
                np.testing.assert_array_equal(a.value, b.value)
    with pytest.raises(MemoryLimitError, match="no choice of values"):
        trained(given_, [sg.remat(1000, B=BATCH)])


def test_checkpoints_that_fit_stay_as_they_are() -> None:
    """All of these second computations are still there, and no other ones."""
    given_ = lambda: blocks(4, "cccc")
    plain = trained(given_)
    fitted = trained(given_, [sg.remat(int(peak(plain.graph) * 0.8), B=BATCH)])
    assert made_of(fitted).flops == made_of(plain).flops
