"""Every value of every step of every pass still knows a line of the user's program."""

from pathlib import Path

import pytest

import symgraph as sg
from models.alexnet import SIDE, AlexNet, optimizer
from models.common.classifier import train_step
from symgraph.function import Function
from symgraph.graph.node import Value
from symgraph.passes.manager import PASSES

PACKAGE = str(Path(sg.__file__).parent)


@pytest.fixture(scope="module")
def step() -> Function:
    """AlexNet's training step, every pass recorded."""
    net = AlexNet(classes=10)
    return train_step(net, optimizer(net, 0.01), SIDE)


def without_a_line(values: tuple[Value, ...]) -> list[Value]:
    """List values with no line outside the library (a module is one line of it at least)."""
    return [
        value
        for value in values
        if not any(not origin.file.startswith(PACKAGE) for origin in value.origins)
    ]


def test_all_passes_run_over_alexnet(step: Function) -> None:
    assert {one.reason for one in step.history} == set(PASSES)
    assert len(step.graph.values) < len(step.built.values)
    assert sum(len(one.changes) for one in step.history) > 10


def test_every_value_of_every_step_has_a_users_line(step: Function) -> None:
    for one in step.history:
        assert not without_a_line(one.before.values)
        assert not without_a_line(one.after.values)


def test_every_replacement_has_the_lines_of_what_it_replaces(step: Function) -> None:
    for one in step.history:
        for change in one.changes:
            assert {*change.old.origins[:1]} <= {*change.new.origins}, str(change)
