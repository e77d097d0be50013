"""Every node knows the user's line that made it, and keeps it through rewrites."""

import inspect

import pytest

import symgraph as sg
from symgraph.errors import ShapeError
from symgraph.graph.origin import LIMIT
from symgraph.graph.walk import topological


def _line() -> int:
    frame = inspect.currentframe()
    assert frame is not None
    assert frame.f_back is not None
    return frame.f_back.f_lineno


def test_the_origin_is_the_users_line_and_names_the_value() -> None:
    x = sg.vector("x")
    hidden = sg.exp(x)
    line = _line() - 1
    assert hidden.origins[0] == (__file__, line, "")
    assert hidden.label == "hidden"


def test_a_second_line_that_meets_the_node_is_added_up_to_eight() -> None:
    x = sg.vector("x")
    first = sg.exp(x)
    again = sg.exp(x)
    assert again is first
    assert len(first.origins) == 2
    for _ in range(3):
        for make in [lambda: sg.exp(x), lambda: sg.exp(x)]:
            make()
    exec("\n" * 100 + "\n".join("sg.exp(x)" for _ in range(20)), {"sg": sg, "x": x})
    assert len(first.origins) == 8


def test_gradients_carry_the_line_of_what_they_differentiate() -> None:
    x = sg.vector("x")
    y = sg.exp(x * 3)
    made = y.origins[0]
    gradient = sg.grad(y.sum(), x)
    assert any(made in node.origins for node in topological([gradient]) if node is not y)


def test_every_node_of_a_compiled_function_has_a_line_of_this_file() -> None:
    x = sg.tensor("x", (sg.dim("B"), 4))
    net = sg.nn.Sequential(sg.nn.Dense(4, 3), sg.nn.Activation("tanh"), sg.nn.Dropout(0.5))
    loss = (net(x, train=True) ** 2).mean()
    step = sg.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
    f = sg.function([x], loss, updates=step.updates(loss))
    for node in f.graph.values:
        if node.label == "random_state":  # whoever draws first in a process makes it
            continue
        if len(node.origins) < LIMIT:  # others have a 2 and draw numbers, too
            assert any(origin.file == __file__ for origin in node.origins), node


def test_origins_can_be_switched_off() -> None:
    with sg.config(origins=False):
        x = sg.vector("x")
        assert sg.exp(x).origins == ()


def test_shape_errors_show_both_lines() -> None:
    batch = sg.dim("B")
    x = sg.tensor("x", (batch, 4))
    weights = sg.shared([[1.0, 2.0]] * 3, "V")
    line = _line() - 1
    with pytest.raises(ShapeError) as caught:
        x @ weights
    text = str(caught.value)
    assert "matmul" in text
    assert "4 != 3" in text
    assert "x : float32[B, 4]" in text
    assert f"test_origins.py:{line}" in text
    assert "fix:" in text
