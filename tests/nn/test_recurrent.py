"""Recurrent layers against a loop in NumPy, and embeddings."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy.special import expit

import symgraph as sg
from symgraph.errors import ArgumentError, DTypeError, IndexRangeError, ShapeError
from symgraph.graph.walk import topological
from symgraph.nn import GRU, LSTM, RNN, Embedding
from symgraph.nn.recurrent import Recurrent

KINDS: dict[str, Any] = {"RNN": RNN, "LSTM": LSTM, "GRU": GRU}
Arrays = list[np.ndarray]


def step(kind: str, x: np.ndarray, states: Arrays, weights: dict[str, np.ndarray]) -> Arrays:
    """Take a step as PyTorch's pages write it: each gate by itself."""
    hidden = states[0].shape[1]

    def part(number: int, which: str, row: np.ndarray) -> np.ndarray:
        columns = slice(number * hidden, (number + 1) * hidden)
        bias = weights.get(f"{which}_bias", np.zeros(4 * hidden))
        return row @ weights[f"{which}_weight"][:, columns] + bias[columns]

    def both(number: int) -> np.ndarray:
        return part(number, "input", x) + part(number, "state", states[0])

    if kind == "RNN":
        return [np.tanh(both(0))]
    if kind == "LSTM":
        memory = expit(both(1)) * states[1] + expit(both(0)) * np.tanh(both(2))
        return [expit(both(3)) * np.tanh(memory), memory]
    reset, keep = expit(both(0)), expit(both(1))
    new = np.tanh(part(2, "input", x) + reset * part(2, "state", states[0]))
    return [(1 - keep) * new + keep * states[0]]


def walked(net: Recurrent, kind: str, x: np.ndarray, states: Arrays) -> tuple[np.ndarray, Arrays]:
    """Walk through a sequence row by row."""
    last: list[Arrays] = []
    for cells in net.layers:
        ways = []
        for way, cell in enumerate(cells):
            weights = {name: v.value for name, v in cell.named_parameters()}
            now, rows = [one[len(last)] for one in states], []
            for row in x[::-1] if way else x:
                now = step(kind, row, now, weights)
                rows.append(now[0])
            ways.append(np.stack(rows[::-1] if way else rows))
            last.append(now)
        x = np.concatenate(ways, axis=2)
    return x, [np.stack(column) for column in zip(*last)]


def listed(states: Any) -> list[Any]:
    return list(states) if isinstance(states, tuple) else [states]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("layers", "options"), [(1, {}), (2, {"bidirectional": True}), (3, {"bias": False})]
)
def test_against_a_loop(
    rng: np.random.Generator, kind: str, layers: int, options: dict[str, Any]
) -> None:
    with sg.config(float_dtype="float64"):
        net = KINDS[kind](3, 4, layers, **options)
        x = sg.tensor("x", (sg.dim("T"), sg.dim("B"), 3))
        places = layers * net.directions
        starts = [sg.tensor(f"s{n}", (places, x.shape[1], 4)) for n in range(net.CELL.STATES)]
        outputs, last = net(x, tuple(starts))
        zero, _ = net(x)
    f = sg.function([x, *starts], [outputs, *listed(last)])
    for steps, rows in ((5, 2), (1, 3)):
        feed = rng.normal(size=(steps, rows, 3))
        states = [rng.normal(size=(places, rows, 4)) for _ in starts]
        found, *ends = f(feed, *states)
        expected, after = walked(net, kind, feed, states)
        np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-12)
        for one, other in zip(ends, after, strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-12, atol=1e-12)
    expected, _ = walked(net, kind, feed, [np.zeros_like(one) for one in states])
    np.testing.assert_allclose(zero.eval({x: feed}), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_against_differences(rng: np.random.Generator, kind: str) -> None:
    with sg.config(float_dtype="float64"):
        net = KINDS[kind](2, 3, 2)
        x, weight = sg.tensor("x", (4, 2, 2)), rng.normal(size=(4, 2, 3))
        outputs, last = net(x)
        loss = (outputs * weight).sum() + sum(one.sum() for one in listed(last))
    parameters = net.parameters()
    feed = rng.normal(size=(4, 2, 2))
    compute, gradients = sg.function([x], loss), sg.function([x], sg.grad(loss, parameters))
    for variable, gradient in zip(parameters, gradients(feed), strict=True):
        kept = variable.value
        direction = rng.normal(size=kept.shape)
        ends = []
        for sign in (1, -1):
            variable.value = kept + sign * 1e-5 * direction
            ends.append(float(compute(feed)))
        variable.value = kept
        slope = (ends[0] - ends[1]) / 2e-5
        assert (gradient * direction).sum() == pytest.approx(slope, rel=1e-6, abs=1e-8)


@pytest.mark.parametrize("kind", KINDS)
def test_states_continue_a_sequence(rng: np.random.Generator, kind: str) -> None:
    net = KINDS[kind](3, 4, 2)
    x = sg.tensor("x", (sg.dim("T"), 2, 3))
    states = [sg.tensor(f"s{n}", (2, 2, 4)) for n in range(net.CELL.STATES)]
    outputs, last = net(x, states if len(states) > 1 else states[0])
    f = sg.function([x, *states], [outputs, *listed(last)])
    feed = rng.normal(size=(7, 2, 3)).astype(np.float32)
    now = [np.zeros((2, 2, 4), np.float32) for _ in states]
    whole, *end = f(feed, *now)
    first, *now = f(feed[:3], *now)
    second, *now = f(feed[3:], *now)
    np.testing.assert_allclose(np.concatenate([first, second]), whole, rtol=1e-5, atol=1e-6)
    for one, other in zip(now, end, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_the_products_of_all_inputs_are_one(kind: str) -> None:
    net = KINDS[kind](3, 4)
    x = sg.tensor("x", (sg.dim("T"), sg.dim("B"), 3))
    f = sg.function([x], net(x)[0])
    weight = net.layers[0][0].input_weight
    products = [v for v in topological(f.graph.outputs) if v.op.name == "matmul"]
    assert [list(one.inputs) for one in products] == [[x, weight]]


def test_dropout_is_between_layers_and_in_training_only(rng: np.random.Generator) -> None:
    sg.seed(1)
    x = sg.tensor("x", (3, 2, 3))
    feed = rng.normal(size=(3, 2, 3)).astype(np.float32)
    for layers, differ in ((1, False), (2, True)):
        net = LSTM(3, 4, layers, dropout=0.5)
        trained, still = (sg.function([x], net(x, train=train)[0]) for train in (True, False))
        assert (trained(feed) != still(feed)).any() == differ


def test_initial_weights_and_names() -> None:
    net = LSTM(3, 4, 2, bidirectional=True)
    names = ["input_weight", "state_weight", "input_bias", "state_bias"]
    expected = [f"{layer}.{way}.{name}" for layer in (0, 1) for way in (0, 1) for name in names]
    assert [name for name, _ in net.named_parameters()] == expected
    assert net.count() == 2 * (3 + 4 + 2) * 16 + 2 * (8 + 4 + 2) * 16
    assert all(np.abs(v.value).max() <= 0.5 for v in net.parameters())
    assert net.example().shape[1:] == (net.example().shape[1], 8)
    assert RNN(3, 4, bias=False).count() == 28


def test_relu_instead_of_tanh(rng: np.random.Generator) -> None:
    net = RNN(3, 4, activation="relu")
    found = net(sg.constant(rng.normal(size=(5, 2, 3)).astype(np.float32)))[0].eval()
    assert found.min() == 0
    assert found.max() > 0


@pytest.mark.parametrize(
    ("make", "kind", "text"),
    [
        (lambda: LSTM(0, 4), ArgumentError, "LSTM: inputs must be >= 1, got 0"),
        (lambda: GRU(3, 4, 0), ArgumentError, "GRU: layers must be >= 1, got 0"),
        (lambda: LSTM(3, 4, dropout=1.0), ArgumentError, r"rate must be in \[0, 1\)"),
        (lambda: RNN(3, 4, activation="gelu"), ArgumentError, 'RNN: activation must be "tanh" or'),
        (lambda: LSTM(3, 4)(sg.matrix("x")), ShapeError, r"x must have the shape \(T, B, 3\)"),
        (lambda: LSTM(3, 4)(sg.tensor("x", (5, 2, 4))), ShapeError, r"must have the shape"),
        (
            lambda: LSTM(3, 4)(sg.tensor("x", (5, 2, 3)), sg.tensor("h", (1, 2, 4))),
            ArgumentError, "LSTM: it has 2 states, got 1",
        ),
        (
            lambda: GRU(3, 4)(sg.tensor("x", (5, 2, 3)), sg.tensor("h", (2, 2, 4))),
            ShapeError, r"a state must have the shape \(1, B, 4\)",
        ),
        (lambda: Embedding(0, 4), ArgumentError, "Embedding: count must be >= 1, got 0"),
        (lambda: Embedding(3, 4)(sg.vector("x")), DTypeError, "integer"),
        (lambda: Embedding(3, 4)(sg.constant([3])), IndexRangeError, "3"),
    ],
)  # fmt: skip
def test_wrong_arguments(make: Any, kind: type[Exception], text: str) -> None:
    with pytest.raises(kind, match=text):
        make()


def test_embedding(rng: np.random.Generator) -> None:
    net = Embedding(5, 3)
    x = sg.tensor("x", (sg.dim("T"), sg.dim("B")), "int32")
    y = net(x)
    weight = rng.normal(size=(5, 3)).astype(np.float32)
    net.weight.value = weight
    numbers = np.array([[0, 4], [4, 2], [1, 4]], np.int32)
    found, gradient = sg.function([x], [y, sg.grad((y * y).sum(), net.weight)])(numbers)
    np.testing.assert_array_equal(found, weight[numbers])
    times = np.bincount(numbers.ravel(), minlength=5)[:, None]
    np.testing.assert_allclose(gradient, 2 * weight * times, rtol=1e-6)
    assert net.example().type.shape[1:] == (3,)
