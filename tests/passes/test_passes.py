"""The pass manager: order, history, failure; dead code and constant folding."""

import numpy as np
import pytest

import symgraph as sg
from symgraph.errors import ArgumentError, PassError
from symgraph.graph.graph import Graph
from symgraph.graph.node import Value
from symgraph.passes.canonical import canonical
from symgraph.passes.clean import dead_code
from symgraph.passes.manager import PASSES, Pass, graph_pass, ordered, run_passes


def _nothing(graph: Graph) -> dict[Value, Value]:
    return {}


def test_stages_order_and_wishes_inside_a_stage() -> None:
    late = Pass("late", _nothing, "fuse")
    first = Pass("zz_first", _nothing, "fold", before=("aa_second",))
    second = Pass("aa_second", _nothing, "fold")
    third = Pass("bb_third", _nothing, "fold", after=("aa_second",))
    names = [one.name for one in ordered([late, third, second, first])]
    assert names == ["zz_first", "aa_second", "bb_third", "late"]


def test_contradicting_wishes_raise() -> None:
    a = Pass("a", _nothing, "fold", before=("b",))
    b = Pass("b", _nothing, "fold", before=("a",))
    with pytest.raises(PassError, match="contradicts itself"):
        ordered([a, b])
    wrong = Pass("c", _nothing, "fuse", before=("d",))
    with pytest.raises(PassError, match="contradicts itself"):
        ordered([wrong, Pass("d", _nothing, "clean")])


def test_unknown_stages_and_double_names_raise() -> None:
    with pytest.raises(ArgumentError, match="no stage 'nowhere'"):
        graph_pass(stage="nowhere")
    with pytest.raises(PassError, match="registered twice"):
        graph_pass(stage="fold")(type(dead_code.run)(dead_code.run.__code__, {}, "dead_code"))
    assert set(PASSES) >= {"dead_code", "canonical", "stabilise"}


def test_a_user_pass_runs_and_stands_in_the_history() -> None:
    @graph_pass(stage="canonical", default=False)
    def double_negation(graph: Graph) -> dict[Value, Value]:
        return {
            node: node.inputs[0].inputs[0]
            for node in graph.values
            if node.op.name == "negative" and node.inputs[0].op.name == "negative"
        }

    x = sg.vector("x")
    f = sg.function([x], sg.negative(-x), passes=[double_negation])
    reasons = [step.reason for step in f.history]
    place = reasons.index("double_negation")
    assert set(reasons[:place]) == {
        "inline",
        "dead_code",
        "branches",
        "loops",
        "taps",
        "canonical",
    }
    assert reasons[place + 1 :] == ["stabilise"]
    (change,) = f.history[place].changes
    assert (change.reason, change.old.op.name) == ("double_negation", "negative")
    assert change.new is x
    assert f.history[place].before is f.history[place - 1].after
    assert f.history[place].became[f.history[place].before.outputs[0]] is x
    assert len(f.graph.values) == 1
    assert "double_negation" not in PASSES
    assert f([1, 2]).tolist() == [1, 2]


def test_a_pass_that_changes_a_type_raises_with_its_name() -> None:
    @graph_pass(stage="fold", default=False)
    def wrong(graph: Graph) -> dict[Value, Value]:
        return {node: node.sum() for node in graph.values if node.op.name == "exp"}

    x = sg.vector("x")
    with pytest.raises(PassError, match="wrong: replaces"):
        sg.function([x], sg.exp(x), passes=[wrong])


def test_dead_code_removes_what_only_building_needed() -> None:
    x, n = sg.vector("x"), sg.shared(0, "n")
    y = sg.with_updates(sg.stop_gradient(+x), {n: n + 1})
    graph = dead_code(Graph([x], [y * 2], {n: n + 1}))
    assert {node.op.name for node in graph.values} == {
        "input", "constant", "multiply", "shared", "add",
    }  # fmt: skip


def test_constants_fold_to_the_oracles_values() -> None:
    x = sg.vector("x")
    y = x * (sg.exp(sg.constant(1.0)) + sg.sqrt(sg.constant(2.0)))
    graph = canonical(Graph([x], [y]))
    assert [node.op.name for node in graph.values] == ["input", "constant", "multiply"]
    found = sg.function([x], y)([1.0])
    assert found == pytest.approx(np.e + np.sqrt(2), rel=1e-6)


def test_large_or_sized_constants_are_not_folded() -> None:
    big = sg.exp(sg.constant(np.arange(300_000.0)))
    assert [node.op.name for node in canonical(Graph([], [big])).values] == ["constant", "exp"]
    sized = sg.size_of(sg.dim("B")) + 1
    assert len(canonical(Graph([], [sized])).values) == 3


def test_a_repeated_number_stays_a_number() -> None:
    big = sg.broadcast_to(sg.constant(1.0), (1000, 1000)) + 1
    folded = canonical(Graph([], [big])).outputs[0]
    assert folded.op.name == "broadcast_to"
    assert folded.inputs[0].op.array.tolist() == 2.0
    total = sg.sum(sg.broadcast_to(sg.constant(1.0), (10, 10)) + 1)
    (only,) = canonical(Graph([], [total])).values
    assert only.op.array.tolist() == 200.0
    written = canonical(Graph([], [sg.constant(np.full((3, 4), 7.0))])).outputs[0]
    assert written.op.name == "broadcast_to"


def test_random_values_never_fold() -> None:
    value = sg.random.uniform((2,))
    f = sg.function([], value)
    assert f().tolist() != f().tolist()


def test_running_no_passes_twice_changes_nothing() -> None:
    x = sg.vector("x")
    graph = Graph([x], [sg.exp(x) * 2])
    once = run_passes(graph)
    assert run_passes(once).outputs == once.outputs or once.outputs[0] is graph.outputs[0]


def test_operands_in_another_order_are_one_value() -> None:
    x, y = sg.vector("x"), sg.vector("y")
    f = sg.function([x, y], [x * y, y * x, x - y, y - x])
    assert f.graph.outputs[0] is f.graph.outputs[1]
    assert f.graph.outputs[2] is not f.graph.outputs[3]
    (change,) = [change for step in f.history for change in step.changes]
    assert change.reason == "same_operands"


def test_rules_are_chosen_by_soundness() -> None:
    x = sg.vector("x")

    def names(level: str) -> set[str]:
        with sg.config(rewrites=level):
            f = sg.function([x], [sg.log(1 + sg.exp(x)), sg.negative(-x), x / x])
        return {change.reason for step in f.history for change in step.changes}

    assert names("none") == set()
    assert names("exact") == {"negative_negative"}
    assert names("real") == {"negative_negative", "log1p", "softplus"}
    assert names("fast") >= {"over_itself"}


def test_a_rule_given_to_a_function_runs_with_all_others() -> None:
    a, b = sg.wild("a b")
    turn = sg.rule("turn", sg.P.sin(a) * b, sg.P.log(1 + sg.P.exp(a)) * b)
    x, y = sg.vector("x"), sg.vector("y")
    f = sg.function([x, y], sg.sin(x) * y, passes=[turn])
    assert {node.op.name for node in f.graph.values} == {"input", "softplus", "multiply"}
    assert "turn" not in {one.name for one in PASSES["stabilise"].rules}
    with pytest.raises(PassError, match="two rules called `turn`"):
        sg.function([x, y], sg.sin(x) * y, passes=[turn, turn])


def test_rules_that_feed_each_other_raise_with_their_names() -> None:
    a = sg.wild("a")
    grow = sg.rule("grow", sg.P.sin(a), sg.P.cos(a + 1.5))
    grow_too = sg.rule("grow_too", sg.P.cos(a), sg.P.sin(a * 2.5))
    x = sg.vector("x")
    with pytest.raises(PassError, match=r"stabilise: rules went on firing .*`grow`"):
        sg.function([x], sg.sin(x), passes=[grow, grow_too])
    back = sg.rule("back", sg.P.cos(a), sg.P.sin(a))
    forth = sg.rule("forth", sg.P.sin(a), sg.P.cos(a))
    with pytest.raises(PassError, match="leads back to it") as caught:
        sg.function([x], sg.sin(x), passes=[back, forth])
    assert "the last rule was" in str(caught.value)


def test_a_rule_that_fails_or_changes_the_type_raises_with_its_name() -> None:
    a = sg.wild("a")
    x = sg.vector("x")
    wrong = sg.rule("wrong", sg.P.sin(a), lambda F, a: F.cast(a, "float64"))
    with pytest.raises(PassError, match=r"wrong: the rule replaces float32.* by float64"):
        sg.function([x], sg.sin(x), passes=[wrong])
    broken = sg.rule("broken", sg.P.sin(a), lambda F, a: F.reshape(a, (2, 3, -2)))
    with pytest.raises(PassError, match="broken: the rule failed on") as caught:
        sg.function([x], sg.sin(x), passes=[broken])
    assert "test_passes.py" in str(caught.value)
