"""The sweep of rules: it ends or says why not, sees each value once, and takes deep graphs."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

import symgraph as sg
from symgraph.errors import PassError
from symgraph.graph.graph import Graph
from symgraph.graph.interpret import interpret
from symgraph.graph.node import Value
from symgraph.graph.walk import sweep, topological
from symgraph.passes.manager import RulePass, run_passes
from symgraph.passes.patterns import P, wild
from symgraph.passes.rules import Rule, local_rule, rule
from symgraph.passes.stabilise import EVERY
from symgraph.passes.sweeper import Sweeper

x, y = wild("x y")


def rule_pass(*rules: Rule) -> RulePass:
    return RulePass("test", lambda graph: {}, "fold", rules=rules)


class Counting:
    """A step that counts how often it sees each value."""

    def __init__(self, *rules: Rule, nodes: int = 10) -> None:
        self.sweeper = Sweeper("test", rules, nodes)
        self.seen: Counter[Value] = Counter()

    def __call__(self, value: Value) -> Value | None:
        self.seen[value] += 1
        return self.sweeper.step(value)


sine = rule("sine", P.sin(x), P.cos(x))
longer = rule("longer", P.cos(x), P.exp(P.cos(x)))


# -- what a sweep gives ---------------------------------------------------------------------------


def test_operands_are_final_before_a_value_is_seen() -> None:
    a = sg.vector("a")
    value = sg.exp(sg.sin(a)) * sg.sin(a)
    order: list[str] = []

    def step(value: Value) -> Value | None:
        order.append(value.op.name)
        return sine(value) if value.op.name == "sin" else None

    done = sweep([value], step)
    assert done[value] is sg.exp(sg.cos(a)) * sg.cos(a)
    assert order == ["input", "sin", "cos", "exp", "multiply"]
    assert done[sg.sin(a)] is sg.cos(a)
    assert done[a] is a


def test_what_a_rule_gives_is_swept_too() -> None:
    a = sg.vector("a")
    twice = rule("twice", P.square(P.sin(x)), P.exp(P.negative(P.sin(x))))
    done = sweep([sg.square(sg.sin(a))], Counting(twice, sine).sweeper.step)
    # bottom-up: the sine is gone before the square is seen
    assert done[sg.square(sg.sin(a))] is sg.square(sg.cos(a))
    inside = rule("inside", P.tanh(x), P.exp(P.negative(P.sin(x))))
    assert sweep([sg.tanh(a)], Counting(inside, sine).sweeper.step)[sg.tanh(a)] is sg.exp(
        -sg.cos(a)
    )


def test_the_first_rule_that_fires_wins() -> None:
    a = sg.vector("a")
    other = rule("other", P.sin(x), P.tan(x))
    assert sweep([sg.sin(a)], Counting(sine, other).sweeper.step)[sg.sin(a)] is sg.cos(a)
    assert sweep([sg.sin(a)], Counting(other, sine).sweeper.step)[sg.sin(a)] is sg.tan(a)


def test_rules_without_a_root_come_last_and_see_everything() -> None:
    a = sg.vector("a")
    seen: list[str] = []

    @local_rule()
    def watch(value: Value) -> Value | None:
        """Only look."""
        seen.append(value.op.name)
        return None

    sweep([sg.exp(sg.sin(a))], Counting(watch, sine).sweeper.step)
    assert seen == ["input", "cos", "exp"]


def test_each_value_is_seen_once() -> None:
    a = sg.vector("a")
    shared = sg.sin(a)
    value = sg.exp(shared) + sg.tanh(shared) * shared
    count = Counting(sine)
    sweep([value, sg.exp(shared), shared], count)
    assert set(count.seen.values()) == {1}


def test_origins_are_united() -> None:
    a = sg.vector("a")
    inner = sg.sin(a)
    outer = sg.log(1 + sg.exp(inner))
    new = run_passes(Graph([a], [outer])).outputs[0]
    assert new.op.name == "softplus"
    assert set(new.origins) >= set(outer.origins)
    plain = sweep([outer], Counting(sine).sweeper.step)[outer]
    assert plain.op.name == "log"
    assert set(plain.origins) >= set(outer.origins)
    cosine = sweep([inner], Counting(sine).sweeper.step)[inner]
    assert set(cosine.origins) >= set(inner.origins)


def test_a_limit_stops_after_so_many_applications() -> None:
    a = sg.vector("a")
    graph = Graph([a], [sg.sin(a) + sg.sin(sg.exp(a)) + sg.sin(-a)])
    for limit in range(5):
        step = rule_pass(sine)(graph, limit=limit).history[-1]
        assert len(step.changes) == min(limit, 3)
        assert all(change.reason == "sine" for change in step.changes)


def test_nothing_to_do_leaves_the_same_values() -> None:
    a = sg.vector("a")
    graph = Graph([a], [sg.exp(a)])
    after = rule_pass(sine)(graph)
    assert after.outputs[0] is graph.outputs[0]
    assert [step.changes for step in after.history] == [()]


# -- what does not end, and what is wrong ---------------------------------------------------------


def test_a_rule_that_makes_more_work_for_ever_raises_and_is_named() -> None:
    a = sg.vector("a")
    grow = rule("grow", P.sin(x), P.sin(P.exp(x)))
    with pytest.raises(PassError, match=r"test: rules went on firing .*`grow`") as caught:
        rule_pass(grow)(Graph([a], [sg.sin(a)]))
    assert "one direction" in caught.value.fix
    assert "the last rule was grow" in "\n".join(caught.value.details)


def test_two_rules_that_undo_each_other_raise() -> None:
    a = sg.vector("a")
    back = rule("back", P.cos(x), P.sin(x))
    with pytest.raises(PassError, match=r"test: .*leads back to it") as caught:
        rule_pass(sine, back)(Graph([a], [sg.sin(a)]))
    assert "the last rule was back" in "\n".join(caught.value.details)
    farther = rule("farther", P.cos(x), P.tan(x))
    home = rule("home", P.tan(x), P.sin(x))
    with pytest.raises(PassError, match="leads back"):
        rule_pass(sine, farther, home)(Graph([a], [sg.sin(a)]))


def test_a_rule_that_wraps_its_own_value_raises() -> None:
    a = sg.vector("a")
    with pytest.raises(PassError, match="leads back to it"):
        rule_pass(longer)(Graph([a], [sg.cos(a)]))


def test_a_rule_of_another_type_raises() -> None:
    a = sg.vector("a")
    wrong = rule("wrong", P.sin(x), lambda F, x: F.cast(x, "float64"))
    with pytest.raises(PassError, match=r"test: wrong: the rule replaces float32.* by float64"):
        rule_pass(wrong)(Graph([a], [sg.sin(a)]))


def test_operands_in_the_other_order_become_one_value() -> None:
    a, b = sg.tensor("a", (3,)), sg.tensor("b", (3,))
    graph = Graph([a, b], [sg.exp(a * b), sg.exp(b * a), a - b, b - a])
    first, second, third, fourth = rule_pass(sine)(graph).outputs
    assert first is second
    assert third is not fourth


# -- deep and shared graphs -----------------------------------------------------------------------

DEEP = 20_000


@pytest.mark.parametrize("kind", ["unary", pytest.param("binary", marks=pytest.mark.full), "rules"])
def test_a_chain_of_twenty_thousand_values(kind: str) -> None:
    a = sg.vector("a")
    value = a
    for number in range(DEEP if kind != "rules" else DEEP // 4):
        if kind == "unary":
            value = sg.sin(value) if number % 2 else sg.tanh(value)
        elif kind == "binary":
            value = value + a if number % 2 else value * a
        else:
            value = sg.log(1 + sg.exp(value - 1.0))
    count = Counting(*EVERY, nodes=len(topological([value])))
    done = sweep([value], count)[value]
    assert set(count.seen.values()) == {1}
    values = len(topological([value]))
    assert len(count.seen) < 6 * values
    if kind == "rules":
        assert {node.op.name for node in topological([done])} <= {
            "input", "constant", "softplus", "subtract", "add", "negative",
        }  # fmt: skip


@pytest.mark.parametrize("name", ["multiply", "add", "subtract", "exp_log", "product"])
def test_two_hundred_times_shared_takes_steps_and_not_paths(name: str) -> None:
    build = {
        "multiply": lambda e: e * e,
        "add": lambda e: e + e,
        "subtract": lambda e: (e - 1) * (1 - e),
        "exp_log": lambda e: sg.log(sg.exp(e) + sg.exp(-e)),
        "product": lambda e: sg.exp(e) * e / (1 + sg.exp(e)),
    }[name]
    a = sg.vector("a")
    value = a
    for _ in range(200):
        value = build(value)
    with sg.config(rewrites="fast"):
        count = Counting(*EVERY, nodes=len(topological([value])))
        sweep([value], count)
    assert set(count.seen.values()) == {1}
    assert len(count.seen) < 20 * len(topological([value]))


def test_a_deep_shared_graph_keeps_its_value_through_the_pipeline() -> None:
    a = sg.vector("a")
    value = a
    for _ in range(200):
        value = sg.log(1 + sg.exp(value)) * 0.5 + 0.5 * value
    compiled = sg.function([a], value)
    feeds = {a: np.array([0.1, -0.2], np.float32)}
    np.testing.assert_allclose(compiled(feeds[a]), interpret([value], feeds)[0], rtol=1e-4)
    assert len(compiled.graph.values) < 2500


def test_before_a_gradient_depth_is_no_matter() -> None:
    a = sg.scalar("a")
    value = a
    for _ in range(2_000):
        value = sg.log(1 + sg.exp(value * 0.5))
    gradient = sg.grad(value, a)
    assert np.isfinite(sg.function([a], gradient)(0.3))
