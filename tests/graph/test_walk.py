"""Walks and rewrites: order, substitution, simultaneous replacement, cycles."""

import networkx as nx
import pytest

import symgraph as sg
from symgraph.errors import PassError
from symgraph.graph.graph import Graph
from symgraph.graph.walk import depends_on, rebuild, rewrite, topological


def test_topological_order_puts_operands_first_and_is_stable() -> None:
    x = sg.vector("x")
    y = sg.exp(x) + sg.sin(x) * sg.exp(x)
    order = topological([y])
    places = {node: i for i, node in enumerate(order)}
    assert all(places[operand] < places[node] for node in order for operand in node.inputs)
    assert order == topological([y])
    assert len(order) == 5


def test_depends_on_gives_the_values_between() -> None:
    x, z = sg.vector("x"), sg.vector("z")
    a, b = sg.exp(x), sg.exp(z)
    assert depends_on([a + b], [x]) == {x, a, a + b}


def test_substitution_does_not_look_into_replacements() -> None:
    x = sg.vector("x")
    y = sg.exp(x) + x
    new = rebuild([y], {x: x * 2})[y]
    assert new is sg.exp(x * 2) + x * 2


def test_a_rewrite_may_wrap_a_value_in_itself() -> None:
    x = sg.vector("x")
    y = sg.exp(x)
    z = sg.sin(y)
    assert rewrite([z], {y: sg.tanh(y)})[z] is sg.sin(sg.tanh(sg.exp(x)))


def test_replacements_may_mention_each_other() -> None:
    x = sg.vector("x")
    a = sg.exp(x)
    b = sg.sin(a)
    done = rewrite([b], {b: sg.cos(a), a: sg.tanh(x)})
    assert done[b] is sg.cos(sg.tanh(x))


def test_a_rewrite_that_makes_a_cycle_raises() -> None:
    x = sg.vector("x")
    a = sg.exp(x)
    b = sg.sin(a)
    c = sg.cos(b)
    with pytest.raises(PassError, match="depend on itself"):
        rewrite([c], {a: sg.tanh(b), b: sg.tanh(a)})


def test_a_graph_is_a_networkx_graph() -> None:
    x, y = sg.vector("x"), sg.vector("y")
    z = sg.subtract(sg.exp(x), sg.exp(x) * y)
    graph = Graph([x, y], [z])
    assert nx.is_directed_acyclic_graph(graph)
    above = {node.value for node in nx.ancestors(graph, z.node)}
    assert above == {x, y, sg.exp(x), sg.exp(x) * y}
    assert graph.number_of_edges(sg.exp(x).node, z.node) == 1
    slots = {(u.op.name, key) for u, _, key in graph.in_edges(z.node, keys=True)}
    assert slots == {("exp", 0), ("multiply", 1)}
    square = Graph([x], [x * x])
    assert square.number_of_edges(x.node, (x * x).node) == 2
    plain = graph.copy()
    plain.remove_node(z.node)
    assert z in graph


def test_networkx_algorithms_that_compare_nodes_work_too() -> None:
    x = sg.vector("x")
    h = sg.exp(x)
    y = sg.sin(h) + sg.cos(h)
    graph = Graph([x], [y])
    assert nx.immediate_dominators(graph, x.node)[y.node] is h.node
    assert [node.op.name for node in nx.dag_longest_path(graph)][:2] == ["input", "exp"]
    assert nx.has_path(graph, x.node, y.node)
    assert nx.shortest_path_length(graph, x.node, y.node) == 3
    simple = nx.DiGraph(graph)
    nx.set_edge_attributes(simple, 1, "capacity")
    assert nx.minimum_cut(simple, x.node, y.node)[0] == 1
    other = Graph([z := sg.vector("z")], [sg.sin(sg.exp(z)) + sg.cos(sg.exp(z))])
    assert nx.is_isomorphic(graph, other)
    assert list(nx.weakly_connected_components(graph)) == [set(graph)]


def test_nodes_stay_the_same_while_a_graph_holds_them() -> None:
    x = sg.vector("x")
    y = sg.exp(x)
    first, second = Graph([x], [y]), Graph([x], [y * 2])
    assert set(first) <= set(second)
    assert y.node is y.node
    assert y.node.inputs[0] is x.node
    assert y in first
    assert y * 3 not in first
    assert second.users(y) == [y * 2]


def test_rewriting_a_graph_keeps_history_and_checks_types() -> None:
    x = sg.vector("x")
    y = sg.exp(x) + 0
    graph = Graph([x], [y])
    small = graph.rewrite({y: sg.exp(x)}, "drop zero")
    assert [step.reason for step in small.history] == ["drop zero"]
    (step,) = small.history
    assert step.before is graph
    assert step.after is small
    assert [(change.old, change.new) for change in step.changes] == [(y, sg.exp(x))]
    assert len(small.values) < len(graph.values)
    assert graph.history == ()
    with pytest.raises(PassError, match="a pass must keep types"):
        graph.rewrite({y: y.sum()}, "wrong")
