"""Which module a value belongs to, and graphs as modules inside modules."""

from __future__ import annotations

from typing import Any

import networkx as nx
import pytest

import symgraph as sg
from symgraph.debug.scopes import MOST, Group, arranged, boxes, modules_of, outline
from symgraph.graph.walk import topological
from symgraph.nn import Activation, Dense, Module, Sequential

B = sg.dim("B")


class Block(Module):
    """Two layers under different kinds of names."""

    def __init__(self) -> None:
        self.first = Dense(4, 4)
        self.rest = {"left": [Dense(4, 4)], "right": Dense(4, 4)}

    def forward(self, x: Any, *, train: bool = False) -> sg.Value:
        h = sg.tanh(self.first(x))
        return self.rest["left"][0](h) + self.rest["right"](h)


class Net(Module):
    """A block in a list, used below its parent's hand."""

    def __init__(self) -> None:
        self.blocks = [Block()]
        self.head = Sequential(Activation("relu"), Dense(4, 2))

    def forward(self, x: Any, *, train: bool = False) -> sg.Value:
        return self.head(self.blocks[0](x))


def step(net: Module) -> sg.Function:
    x, y = sg.tensor("x", (B, 4)), sg.tensor("y", (B,), "int32")
    loss = sg.nn.cross_entropy(net(x), y).mean()
    update = sg.optim.SGD(net.parameters(), lr=0.1, momentum=0.9).updates(loss)
    return sg.function([x, y], loss, updates=update)


def made_in(value: sg.Value) -> dict[str, str]:
    return {v.op.name: v.origins[0].module for v in topological([value]) if v.inputs}


def test_values_know_the_module_that_made_them() -> None:
    net = Net()
    y = net(sg.tensor("x", (B, 4)))
    modules = {v.origins[0].module for v in topological([y]) if v.inputs}
    assert modules == {
        "Net/blocks.0", "Net/blocks.0.first", "Net/blocks.0.rest.left.0",
        "Net/blocks.0.rest.right", "Net/head.0", "Net/head.1",
    }  # fmt: skip
    named = {f"Net/{name}" for name, _ in net.named_modules()}
    assert modules <= named
    assert (y * 2).origins[0].module == ""
    assert y.origins[0].file == __file__


def test_a_module_called_alone_has_its_class_for_a_name() -> None:
    layer = Dense(4, 2)
    assert layer(sg.tensor("x", (B, 4))).origins[0].module == "Dense"


def test_a_module_made_during_the_call_is_named_after_where_it_is() -> None:
    class Late(Module):
        def forward(self, x: Any, *, train: bool = False) -> sg.Value:
            return Activation("tanh")(x)

    assert Late()(sg.vector("x")).origins[0].module == "Late.Activation"


def test_the_scope_ends_with_the_call_even_when_it_fails() -> None:
    class Fails(Module):
        def forward(self, x: Any, *, train: bool = False) -> sg.Value:
            raise RuntimeError("no")

    with pytest.raises(RuntimeError):
        Fails()(sg.vector("x"))
    assert sg.exp(sg.vector("x")).origins[0].module == ""
    assert Dense(4, 2)(sg.tensor("x", (B, 4))).origins[0].module == "Dense"


def test_errors_name_the_module() -> None:
    with pytest.raises(sg.errors.ShapeError, match=r"made at test_scopes.py:\d+ in Sequential/0"):
        Sequential(Dense(4, 3), Dense(4, 3))(sg.tensor("x", (B, 4)))


def test_show_tells_modules_where_there_is_room() -> None:
    text = sg.show(Sequential(Dense(4, 3), Activation("tanh"))(sg.tensor("x", (B, 4))))
    line = next(line for line in text.splitlines() if "tanh" in line)
    assert line.endswith(" in Sequential/1")
    assert max(map(len, text.splitlines())) <= 100


def test_gradients_and_rewrites_inherit_the_module() -> None:
    f = step(Net())
    modules = modules_of(f.graph)
    gradients = [v for v in f.graph.values if v.op.name == "matmul"]
    assert len(gradients) > 8
    assert all(modules[v].startswith("Net/") for v in gradients)
    shared = [v for v in f.graph.values if v.op.name == "shared" and v.label != "lr"]
    assert {modules[v].rpartition(".")[2] for v in shared} == {"first", "0", "right", "1"}


@pytest.mark.parametrize("origins", [True, False])
def test_an_outline_lists_every_value_once_and_keeps_the_order(origins: bool) -> None:
    with sg.config(origins=origins):
        graph = step(Net()).graph
    found = outline(graph).values()
    assert len(found) == len(set(found))
    assert set(found) == set(boxes(graph))
    seen: set[sg.Value] = set()
    for value in found:
        assert all(v in seen or v not in set(found) for v in value.inputs)
        seen.add(value)
    assert [value for value, _ in arranged(graph)] == found


def quotient(root: Group, depth: int) -> nx.DiGraph:
    """Fold every group at a depth into one node."""
    box: dict[sg.Value, Any] = {}
    level: list[tuple[Any, Any, int]] = [(part, part, 0) for part in root.parts]
    while level:
        part, owner, at = level.pop()
        if isinstance(part, Group):
            level += [(each, owner if at >= depth else each, at + 1) for each in part.parts]
        else:
            box[part] = owner
    folded = nx.DiGraph()
    ids = {value: id(owner) for value, owner in box.items()}
    for value in box:
        for operand in value.inputs:
            if operand in box and ids[operand] != ids[value]:
                folded.add_edge(ids[operand], ids[value])
    return folded


@pytest.mark.parametrize("depth", range(4))
def test_folded_groups_never_make_a_cycle(depth: int) -> None:
    assert nx.is_directed_acyclic_graph(quotient(outline(step(Net()).graph), depth))


def test_forward_and_backward_are_one_group_each() -> None:
    root = outline(step(Net()).graph)
    groups = [part for part in root.parts if isinstance(part, Group)]
    assert [group.label for group in groups] == ["Net", "Net backward"]
    loss = [part.op.name for part in root.parts if not isinstance(part, Group)]
    assert {"cross_entropy", "cross_entropy_grad"} <= set(loss)


def test_keys_are_those_of_the_next_step_too() -> None:
    f = step(Net())
    first, last = (outline(graph) for graph in (f.built, f.graph))
    keys = [{p.key for p in root.parts if isinstance(p, Group)} for root in (first, last)]
    assert keys[0] == keys[1]


def test_long_lists_are_divided() -> None:
    x = sg.vector("x")
    for number in range(5000):
        x = sg.sin(x) * float(number + 2)
    root = outline(sg.Graph([], [x]))
    assert len(root.values()) == 10_001
    waiting = [root]
    while waiting:
        group = waiting.pop()
        assert len(group.parts) <= MOST
        waiting.extend(part for part in group.parts if isinstance(part, Group))


def test_names_are_looked_up_once_for_each_call_of_the_outermost(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    net = Sequential(*(Dense(2, 2) for _ in range(300)))
    calls: list[Module] = []
    plain = Module.named_modules

    def counted(self: Module) -> list[tuple[str, Module]]:
        calls.append(self)
        return plain(self)

    monkeypatch.setattr(Module, "named_modules", counted)
    y = net(sg.tensor("x", (B, 2)))
    assert calls == [net]
    assert y.origins[0].module == "Sequential/299"
