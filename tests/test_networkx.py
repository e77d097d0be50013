"""What NetworkX is asked matters: with a plausible stand-in each answer would be another.

Each test runs a piece of work as it is, then again with one algorithm replaced by what somebody
might write instead, and shows that the outcome is wrong or lost.
"""

from typing import Any

import networkx as nx
import numpy as np
import pytest

import symgraph as sg
from symgraph.errors import PassError
from symgraph.graph.graph import Graph
from symgraph.passes.manager import Pass, ordered


def _pass(name: str, stage: str, **wishes: tuple[str, ...]) -> Pass:
    return Pass(name, lambda graph: {}, stage, **wishes)


def test_the_order_of_passes_is_a_topological_sort(monkeypatch: pytest.MonkeyPatch) -> None:
    passes = [_pass("c", "fold"), _pass("b", "fold", before=("c",)), _pass("a", "fuse")]
    assert [one.name for one in ordered(passes)] == ["b", "c", "a"]
    monkeypatch.setattr(nx, "lexicographical_topological_sort", lambda graph: sorted(graph))
    assert [one.name for one in ordered(passes)] != ["b", "c", "a"]


def test_contradicting_wishes_are_shown_as_the_cycle_they_are(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    passes = [_pass("a", "fold", before=("b",)), _pass("b", "fold", before=("a",))]
    with pytest.raises(PassError, match=r"a -> b|b -> a"):
        ordered(passes)
    monkeypatch.setattr(nx, "find_cycle", lambda graph: list(graph.edges)[:1])
    with pytest.raises(PassError) as caught:
        ordered(passes)
    assert not ({"a", "b"} <= {*caught.value.message.split(": ")[-1].strip(".").split(" -> ")})


def test_wrong_results_are_traced_to_their_common_dominator(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    a, b = sg.wild("a b")
    wrong = sg.rule("wrong", sg.P.sin(a) * sg.P.exp(b), sg.P.cos(a) * sg.P.exp(b))
    x = sg.vector("x")
    wave = sg.sin(x) * sg.exp(x)
    shared = sg.tanh(wave)
    f = sg.function([x], [sg.atan(shared), sg.cos(shared)], passes=[wrong])
    given = np.linspace(0.2, 1.0, 7, dtype="float32")
    found = sg.check(f, given)
    assert found is not None
    assert found.blamed is not None
    assert found.blamed.op.name == "tanh"  # nearer to the results than the product itself

    def parents(graph: nx.DiGraph, start: Any) -> dict[Any, Any]:
        return dict.fromkeys(graph, start)  # "it all comes from the beginning"

    monkeypatch.setattr(nx, "immediate_dominators", parents)
    diamond = sg.function(
        [x], [sg.cosh(x) + sg.atan(shared), sg.tan(x) - sg.cos(wave)], passes=[wrong]
    )
    blamed = sg.check(diamond, given)
    monkeypatch.undo()
    honest = sg.check(diamond, given)
    assert blamed is not None
    assert honest is not None
    assert honest.blamed is not None
    assert honest.blamed.op.name == "multiply"
    assert blamed.blamed is not honest.blamed


def test_the_critical_path_is_the_longest_weighted_one(monkeypatch: pytest.MonkeyPatch) -> None:
    x = sg.tensor("x", (sg.dim("B"), 64))
    w = sg.shared(np.ones((64, 64), "float32"), "w")
    dear = (x @ w) @ w  # short and dear
    cheap = x
    for _ in range(12):  # long and cheap
        cheap = sg.sin(cheap)
    total = dear + cheap
    path = sg.cost(total).critical_path(B=4)
    assert [value.op.name for value in path.values].count("matmul") == 2

    def longest_by_count(graph: nx.DiGraph, **options: Any) -> list[Any]:
        order = list(nx.topological_sort(graph))
        best: dict[Any, list[Any]] = {}
        for node in order:
            before = [best[one] for one in graph.predecessors(node)]
            best[node] = [*max(before, key=len, default=[]), node]
        return max(best.values(), key=len)

    monkeypatch.setattr(nx, "dag_longest_path", longest_by_count)
    other = sg.cost(total).critical_path(B=4)
    assert other.flops < path.flops


def test_the_check_for_cycles_catches_what_types_cannot(monkeypatch: pytest.MonkeyPatch) -> None:
    x = sg.vector("x")
    graph = Graph([x], [sg.exp(sg.sin(x))])
    last, first = graph.outputs[0], graph.outputs[0].inputs[0]
    graph.add_edge(last.node, first.node, 1)  # what no rewrite can make, and a bug could
    with pytest.raises(PassError, match="there is a cycle"):
        graph.verify()
    monkeypatch.setattr(nx, "is_directed_acyclic_graph", lambda graph: True)
    graph.verify()
