"""Random programs, compiled for this CPU: their values, their updates and their gradients."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings

import symgraph as sg
from symgraph.backends.cpu.compiler import unavailable
from tests.random_graphs import Program
from tests.random_maker import programs
from tests.test_random_graphs import _check_function, _check_gradients

pytestmark = pytest.mark.skipif(bool(unavailable()), reason=unavailable() or "there is a compiler")

QUIET = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]
QUICK, WHOLE = 30, 1000


def _values(count: int) -> None:
    @settings(max_examples=count, suppress_health_check=QUIET)
    @given(programs())
    def each(program: Program) -> None:
        with sg.config(float_dtype="float64", backend="cpu"):
            slots = program.build(program.declare())
            wanted = [*program.outputs, *program.updates.values()]
            _check_function(program, slots, [program.arrays[number] for number in wanted])

    each()


def _gradients(count: int) -> None:
    @settings(max_examples=count, suppress_health_check=QUIET)
    @given(programs(smooth=True, steps=8))
    def each(program: Program) -> None:
        with sg.config(float_dtype="float64", backend="cpu"):
            _check_gradients(program)

    each()


def test_values_and_updates_agree_with_numpy() -> None:
    _values(QUICK)


def test_gradients_agree_with_differences() -> None:
    _gradients(QUICK)


@pytest.mark.full
def test_values_and_updates_of_a_thousand_programs() -> None:
    _values(WHOLE)


@pytest.mark.full
def test_gradients_of_a_thousand_programs() -> None:
    _gradients(WHOLE)
