"""Modules: which variables they hold, under which names, in which order."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import symgraph as sg
from symgraph.errors import ArgumentError, ArgumentTypeError
from symgraph.nn import Activation, BatchNorm, Dense, Module, Sequential


class Block(Module):
    """A module with everything that can hold variables."""

    def __init__(self) -> None:
        self.first = Dense(3, 4)
        self.scale = self.parameter("scale", (4,), sg.nn.init.ONES)
        self.many = [[Dense(4, 4), Dense(4, 4, bias=None)], (BatchNorm(4),)]
        self.heads = {"left": Dense(4, 1), "right": Dense(4, 2)}
        self.weights = [self.parameter("w", (2,), sg.nn.init.ZEROS) for _ in range(2)]
        self.note, self.nothing, self.numbers = "text", None, [1, 2]


NAMES = [
    "scale", "weights.0", "weights.1", "first.weight", "first.bias", "many.0.0.weight",
    "many.0.0.bias", "many.0.1.weight", "many.1.0.scale", "many.1.0.shift", "heads.left.weight",
    "heads.left.bias", "heads.right.weight", "heads.right.bias",
]  # fmt: skip


def test_names_and_order_through_lists_tuples_and_dicts() -> None:
    net = Block()
    assert [name for name, _ in net.named_parameters()] == NAMES
    state = list(net.named_state())
    assert [name for name in state if name in NAMES] == NAMES
    assert set(state) - set(NAMES) == {"many.1.0.mean", "many.1.0.var"}
    assert [name for name, _ in net.named_modules()] == [
        "", "first", "many.0.0", "many.0.1", "many.1.0", "heads.left", "heads.right",
    ]  # fmt: skip


def test_names_are_the_same_in_every_run() -> None:
    assert list(Block().named_state()) == list(Block().named_state())


def test_parameters_and_count() -> None:
    net = Block()
    assert all(a is b for a, (_, b) in zip(net.parameters(), net.named_parameters(), strict=True))
    assert net.count() == 4 + 2 + 2 + 16 + 20 + 16 + 8 + 5 + 10
    biases = net.parameters("bias")
    assert [v.shape for v in biases] == [(4,), (4,), (1,), (2,)]
    assert net.parameters("ias") == []


def test_a_variable_used_twice_comes_once() -> None:
    one, two = Dense(3, 3), Dense(3, 3)
    two.weight = one.weight
    net = Sequential(one, two, one)
    assert [name for name, _ in net.named_parameters()] == ["0.weight", "0.bias", "1.bias"]
    assert net.count() == 9 + 3 + 3
    assert [name for name, _ in net.named_modules()] == ["", "0", "1"]


def test_a_tied_variable_gets_the_sum_of_both_gradients() -> None:
    one = Dense(2, 2, bias=None)
    x = sg.tensor("x", (1, 2), "float32")
    loss = Sequential(one, one)(x).sum()
    found = sg.function([x], sg.grad(loss, one.weight))(np.array([[1.0, 2.0]], np.float32))
    w, row, ones = one.weight.value.astype(float), np.array([[1.0, 2.0]]), np.ones((1, 2))
    expected = (row @ w).T @ ones + row.T @ (ones @ w.T)
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_buffers_are_state_and_not_trained_even_when_another_module_holds_them() -> None:
    class Peeking(Module):
        def __init__(self) -> None:
            norm = BatchNorm(3)
            self.running = norm.mean  # found before the module that owns it
            self.norm = norm

    net = Peeking()
    assert list(net.named_state()) == ["running", "norm.scale", "norm.shift", "norm.var"]
    assert [name for name, _ in net.named_parameters()] == ["norm.scale", "norm.shift"]


def test_a_module_may_know_its_parent() -> None:
    class Child(Module):
        def __init__(self, parent: Module) -> None:
            self.parent = parent
            self.weight = self.parameter("weight", (1,), sg.nn.init.ONES)

    class Parent(Module):
        def __init__(self) -> None:
            self.child = Child(self)

    assert list(Parent().named_state()) == ["child.weight"]


def test_dtypes_of_parameters() -> None:
    net = Module()
    assert net.parameter("a", (2,), sg.nn.init.ONES).dtype == "float32"
    assert net.parameter("a", (2,), sg.nn.init.ONES, "float64").dtype == "float64"
    with sg.config(float_dtype="float64"):
        assert Dense(2, 2).weight.dtype == "float64"


def test_calling_passes_train_and_options() -> None:
    class Layer(Module):
        def forward(self, x: Any, *, train: bool = False, times: int = 1) -> Any:
            return x * times + int(train)

    x = sg.tensor("x", (1,), "float32")
    feed = np.ones(1, np.float32)
    assert Layer()(x).eval({x: feed}).item() == 1
    assert Layer()(x, train=True, times=3).eval({x: feed}).item() == 4


def test_sequential_takes_modules_and_functions() -> None:
    net = Sequential(Dense(2, 3, bias=None), sg.exp, Activation("relu"), lambda x: x.sum(axis=1))
    assert len(net) == 4
    assert isinstance(net[0], Dense)
    x = sg.tensor("x", (sg.dim("B"), 2), "float32")
    feed = np.array([[1.0, -1.0], [0.5, 2.0]], np.float32)
    expected = np.exp(feed.astype(float) @ net[0].weight.value).sum(axis=1)
    np.testing.assert_allclose(net(x).eval({x: feed}), expected, rtol=1e-5)


def test_nested_sequentials_pass_train_on() -> None:
    net = Sequential(Sequential(sg.nn.Dropout(0.5)), lambda x: x)
    x = sg.tensor("x", (1000,), "float32")
    ones = np.ones(1000, np.float32)
    assert net(x).eval({x: ones}).sum() == 1000
    assert set(net(x, train=True).eval({x: ones}).tolist()) == {0.0, 2.0}


def test_errors() -> None:
    with pytest.raises(ArgumentTypeError, match="Module: the module has no `forward`") as caught:
        Module()(sg.scalar("x"))
    assert "def" in caught.value.fix
    with pytest.raises(ArgumentError, match="Sequential: there are no layers"):
        Sequential()
    with pytest.raises(ArgumentTypeError, match=r"a layer must be a module or a function, got int"):
        Sequential(Dense(1, 1), 3)  # type: ignore[arg-type]
