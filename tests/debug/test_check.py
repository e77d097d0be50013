"""`check` names the first value that differs, `bisect_passes` the replacement to blame."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import symgraph as sg
from symgraph.graph.graph import Graph
from symgraph.graph.node import Value
from symgraph.passes.manager import Pass
from symgraph.passes.rules import Rule

a, b = sg.wild("a b")


def planted_rule() -> Rule:
    """A rule that is wrong: it takes the sine for the cosine."""
    return sg.rule("planted", sg.P.exp(a) * sg.P.sin(b), sg.P.exp(a) * sg.P.cos(b))


def planted_pass() -> Pass:
    """A pass that replaces several values rightly and one wrongly."""

    @sg.graph_pass(stage="fuse", default=False)
    def planted(graph: Graph) -> dict[Value, Value]:
        right: dict[Value, Value] = {}
        for node in graph.values:
            if node.op.name == "square":
                right[node] = node.inputs[0] * node.inputs[0]
            elif node.op.name == "cos":
                right[node] = sg.sin(node.inputs[0])
        return right

    return planted


def written(x: Value) -> Value:
    wave = sg.exp(x) * sg.sin(x)
    return sg.square(wave) + sg.square(x) + sg.cos(x) * 3.0


VALUES = np.linspace(0.1, 2.0, 5, dtype="float32")


def test_what_is_right_has_no_difference_and_no_culprit() -> None:
    x = sg.vector("x")
    f = sg.function([x], written(x))
    assert sg.check(f, VALUES) is None
    assert sg.bisect_passes(f, VALUES) is None


def test_check_names_the_first_value_that_differs() -> None:
    x = sg.vector("x")
    f = sg.function([x], written(x), passes=[planted_rule()])
    found = sg.check(f, VALUES)
    assert found is not None
    assert found.written.op.name == "multiply"
    assert found.error > 0.1
    assert "wave" in str(found)
    assert "test_check.py" in str(found)


@pytest.mark.parametrize(
    ("plant", "reason", "old"),
    [(planted_rule, "planted", "multiply"), (planted_pass, "planted", "cos")],
)
def test_bisection_names_the_replacement(plant: Callable[[], Any], reason: str, old: str) -> None:
    x = sg.vector("x")
    f = sg.function([x], written(x), passes=[plant()])
    culprit = sg.bisect_passes(f, VALUES)
    assert culprit is not None
    assert (culprit.change.reason, culprit.change.old.op.name) == (reason, old)
    assert culprit.before is not culprit.after
    assert reason in str(culprit)
    assert "test_check.py" in str(culprit)


def test_bisection_replays_the_rules_that_were_allowed_when_it_was_compiled() -> None:
    x = sg.vector("x")
    wrong = sg.rule("hasty", sg.P.exp(a) * sg.P.sin(b), sg.P.exp(a), sound="fast")
    with sg.config(rewrites="fast"):
        f = sg.function([x], written(x), passes=[wrong])
    culprit = sg.bisect_passes(f, VALUES)
    assert culprit is not None
    assert culprit.change.reason == "hasty"


def test_updates_are_compared_and_not_made() -> None:
    x, w = sg.vector("x"), sg.shared(np.ones(5, "float32"), "w")
    f = sg.function([x], [], updates={w: w + written(x)}, passes=[planted_rule()])
    assert sg.check(f, VALUES) is not None
    assert sg.bisect_passes(f, VALUES) is not None
    assert w.storage.version == 0


def test_a_stabilised_expression_is_no_difference() -> None:
    x = sg.matrix("x")
    f = sg.function([x], sg.log(sg.softmax(x, axis=1)))
    wild = np.array([[0.0, 500.0], [1.0, 2.0]], "float32")
    assert sg.check(f, wild) is None
    assert np.isfinite(f(wild)).all()


def test_several_wrong_outputs_are_traced_to_what_they_share() -> None:
    x = sg.vector("x")
    wave = sg.exp(x) * sg.sin(x)
    f = sg.function([x], [sg.tanh(wave), sg.atan(wave), sg.floor(x)], passes=[planted_rule()])
    found = sg.check(f, VALUES)
    assert found is not None
    assert found.blamed is found.value
    assert "every wrong output comes through `wave`" in str(found)
