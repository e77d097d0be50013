"""Decomposition of graphs and of networks: what is exchanged, what it computes, and back again."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any, NamedTuple

import numpy as np
import pytest

import symgraph as sg
from symgraph.compression import Decomposition, decompose, decompose_layers, merge, merge_layers
from symgraph.errors import ArgumentError, ArgumentTypeError
from symgraph.nn import (
    Activation,
    Conv2d,
    Dense,
    Flatten,
    LowRankConv2d,
    LowRankDense,
    Module,
    MultiHeadAttention,
    Sequential,
)

B = sg.dim("B")
ON = [pytest.param("reference"), pytest.param("cpu")]
FULL = {"0": (3, 24), "2": (24, 20), "4": 16, "7": 18}
NAMES = [
    "0.first.weight", "0.core.weight", "0.last.weight", "0.last.bias", "2.first.weight",
    "2.core.weight", "2.last.weight", "4.first.weight", "4.last.weight", "4.last.bias",
    "7.first.weight", "7.last.weight", "7.last.bias",
]  # fmt: skip


def small() -> Sequential:
    """Layers of all kinds: with and without stride, padding, dilation and bias."""
    sg.seed(2)
    net = Sequential(
        Conv2d(3, 24, 3, padding=1), Activation("tanh"),
        Conv2d(24, 20, (3, 2), stride=2, padding=1, dilation=2, bias=None), Activation("tanh"),
        Conv2d(20, 16, 1, stride=2, padding=1), Activation("tanh"),
        Flatten(), Dense(16 * 9, 18), Dense(18, 4),
    )  # fmt: skip
    for variable in net.parameters("bias"):
        variable.value = np.linspace(-1, 1, variable.value.size).astype(np.float32)
    return net


def image() -> sg.Value:
    return sg.tensor("x", (B, 3, 9, 8))


def dense_weights(net: Sequential) -> list[np.ndarray[Any, Any]]:
    """The weights of all layers, those of factors multiplied out."""
    kinds = (Conv2d, Dense, LowRankConv2d, LowRankDense)
    return [one.weight.eval() for one in net.layers if isinstance(one, kinds)]


# -- networks --------------------------------------------------------------------------------------


@pytest.mark.parametrize("backend", ON)
def test_full_rank_computes_the_same(rng: np.random.Generator, backend: str) -> None:
    net, x = small(), image()
    before = sg.function([x], net(x), backend=backend)
    report = decompose_layers(net, ranks=FULL)
    after = sg.function([x], net(x), backend=backend)
    images = rng.normal(size=(3, 3, 9, 8)).astype(np.float32)
    np.testing.assert_allclose(after(images), before(images), rtol=1e-4, atol=1e-5)
    assert [name for name, _ in net.named_parameters()][: len(NAMES)] == NAMES
    assert all(layer.error < 1e-6 for layer in report.layers)


@pytest.mark.parametrize("ratio", [2.0, 5.0])
def test_merging_gives_what_the_factors_compute(rng: np.random.Generator, ratio: float) -> None:
    net, x = small(), image()
    decompose_layers(net, layers=list(FULL), ratio=ratio)
    low = sg.function([x], net(x), backend="reference")
    weights = dense_weights(net)
    assert merge_layers(net) == list(FULL)
    assert [type(layer) for layer in net.layers] == [type(layer) for layer in small().layers]
    assert net.named_state().keys() == small().named_state().keys()
    for now, wanted in zip(dense_weights(net), weights, strict=True):
        np.testing.assert_allclose(now, wanted, atol=1e-6)
    images = rng.normal(size=(2, 3, 9, 8)).astype(np.float32)
    dense = sg.function([x], net(x), backend="reference")
    np.testing.assert_allclose(dense(images), low(images), rtol=1e-4, atol=1e-5)


def test_merged_full_rank_is_what_was_there() -> None:
    net = small()
    before = dense_weights(net)
    decompose_layers(net, ranks=FULL)
    merge_layers(net)
    for now, wanted in zip(dense_weights(net), before, strict=True):
        np.testing.assert_allclose(now, wanted, atol=1e-6)


def test_what_stays_by_itself() -> None:
    """Few channels, groups, one weight in two modules, factors, and what would cost more."""
    net = Sequential(
        Conv2d(3, 64, 7), Conv2d(64, 64, 3), Conv2d(64, 64, 3, groups=2), Dense(64, 64),
        Dense(64, 64), LowRankDense(64, 64, 8), Dense(64, 10), Conv2d(32, 32, 1),
    )  # fmt: skip
    net[4].weight = net[3].weight
    report = decompose_layers(net, ratio=2)
    assert list(report.ranks) == ["1", "7"]
    assert [layer.name for layer in report.layers] == ["0", "1", "6", "7"]
    assert "0: stays dense" in str(report)
    assert "rank 38 x 38" in str(report)
    worse = Sequential(Dense(64, 64))
    assert not decompose_layers(worse, error=1e-3).ranks
    assert isinstance(worse[0], Dense)


def test_an_error_is_kept_in_each_layer() -> None:
    net = small()
    report = decompose_layers(net, layers=list(FULL), error=0.4)
    assert all(0 < layer.error <= 0.4 for layer in report.layers if layer.ranks != (16,))


class Pair(NamedTuple):
    """Two modules."""

    first: Any
    second: Any


class Holder(Module):
    """Modules inside of what is no plain list, beside what holds none."""

    def __init__(self) -> None:
        self.pair = Pair(Dense(64, 64), Dense(64, 64))
        self.table = OrderedDict(a=Dense(64, 64))
        self.sizes = Pair(3, 4)
        self.list = [1, 2]

    def forward(self, x: Any, *, train: bool = False) -> sg.Value:
        """Call all of them."""
        return self.table["a"](self.pair.second(self.pair.first(x)))


def test_named_tuples_and_dicts_stay_what_they_are() -> None:
    net = Holder()
    sizes, numbers = net.sizes, net.list
    x = sg.tensor("x", (B, 64))
    net(x)
    assert list(decompose_layers(net).ranks) == ["pair.0", "pair.1", "table.a"]
    assert type(net.pair) is Pair
    assert type(net.table) is OrderedDict
    assert net.sizes is sizes
    assert net.list is numbers
    assert all(type(one) is LowRankDense for one in [*net.pair, net.table["a"]])
    assert net(x).shape == (B, 64)


def test_ranks_of_one_network_fit_another(rng: np.random.Generator) -> None:
    """As a checkpoint does: structure from the ranks, numbers from the state."""
    net = small()
    report = decompose_layers(net, layers=["2", "7"], ratio=3)
    other = small()
    again = decompose_layers(other, ranks=report.ranks, values="draw")
    assert again.ranks == report.ranks
    assert all(layer.error is None for layer in again.layers)
    assert all(variable.value.any() for variable in again.parameters if variable.label == "weight")
    for name, variable in other.named_state().items():
        variable.value = net.named_state()[name].value
    x = image()
    images = rng.normal(size=(2, 3, 9, 8)).astype(np.float32)
    f, g = (sg.function([x], one(x), backend="reference") for one in (net, other))
    np.testing.assert_array_equal(f(images), g(images))
    kept = decompose_layers(small(), ranks={"2": (), "7": 3})
    assert kept.ranks == {"7": (3,)}


def test_inside_attention_with_a_memory(rng: np.random.Generator) -> None:
    """It takes columns of its matrix, which the factors give as their product."""
    net = MultiHeadAttention(16, 2)
    x, y = sg.tensor("x", (B, 3, 16)), sg.tensor("y", (B, 5, 16))
    before = sg.function([x, y], net(x, memory=y), backend="reference")
    decompose_layers(net, ranks={"inputs": 16, "outputs": 16})
    after = sg.function([x, y], net(x, memory=y), backend="reference")
    given = [rng.normal(size=(2, n, 16)).astype(np.float32) for n in (3, 5)]
    np.testing.assert_allclose(after(*given), before(*given), rtol=1e-4, atol=1e-5)


def test_factors_train(rng: np.random.Generator) -> None:
    net = small()
    decompose_layers(net, layers=list(FULL), ratio=2)
    x, y = image(), sg.tensor("y", (B,), "int32")
    loss = sg.nn.cross_entropy(net(x, train=True), y).mean()
    step = sg.function([x, y], loss, updates=sg.optim.SGD(net.parameters(), 0.1).updates(loss))
    images = rng.normal(size=(8, 3, 9, 8)).astype(np.float32)
    labels = np.arange(8, dtype=np.int32) % 4
    losses = [float(step(images, labels)) for _ in range(15)]
    assert losses[-1] < 0.5 * losses[0]


# -- graphs ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("backend", ON)
def test_a_graph_of_full_rank_computes_the_same(rng: np.random.Generator, backend: str) -> None:
    net, x = small(), image()
    graph = sg.Graph([x], [net(x)])
    names = {f"Sequential/{name}": ranks for name, ranks in FULL.items()}
    low, report = decompose(graph, ranks=names)
    assert list(report.ranks) == list(names)
    assert low.history[-1].reason == "decompose"
    assert [one.op.name for one in low.values].count("conv") == 3 + 3 + 2
    assert not {net[0].weight, net[7].weight} & set(low.values)
    images = rng.normal(size=(3, 3, 9, 8)).astype(np.float32)
    run = lambda one: sg.function(one.inputs, one.outputs[0], backend=backend)(images)
    np.testing.assert_allclose(run(low), run(graph), rtol=1e-4, atol=1e-5)
    back = merge(low, report)
    assert len(back.values) == len(graph.values)
    np.testing.assert_allclose(run(back), run(graph), rtol=1e-4, atol=1e-5)


def test_what_shares_a_weight_shares_its_factors() -> None:
    w = sg.shared(np.eye(32, dtype=np.float32), "w")
    x, y = sg.tensor("x", (B, 32)), sg.tensor("y", (B, 5, 32))
    low, report = decompose(sg.Graph([x, y], [x @ w, y @ w]))
    assert [layer.name for layer in report.layers] == ["w", "w"]
    assert len(low.shared) == 2 == len(report.parameters)
    assert report.layers[0].parameters == (1024, 512)


def test_a_constant_matrix_and_what_is_no_layer() -> None:
    matrix = sg.constant(np.ones((32, 32), np.float32))
    x, w = sg.tensor("x", (B, 32)), sg.tensor("w", (32, 32))
    grouped = sg.shared(np.ones((32, 16, 3, 3), np.float32), "grouped")
    images = sg.tensor("images", (B, 32, 8, 8))
    outputs = [x @ matrix, x @ w, sg.conv2d(images, grouped, groups=2)]
    low, report = decompose(sg.Graph([x, w, images], outputs), error=0.01, layers=None)
    assert [layer.ranks for layer in report.layers] == [(1,)]
    assert low.outputs[1:] == tuple(outputs[1:])


# -- wrong calls -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"layers": ["nine"]}, "no layer to decompose is called 'nine'"),
        ({"layers": "0"}, "layers must be a list of names"),
        ({"ranks": {"nine": 2}}, "no layer to decompose is called 'nine'"),
        ({"ranks": {"7": 0}}, "a rank must lie in 1 .. 18 .* got 0"),
        ({"ranks": {"7": 19}}, "a rank must lie in 1 .. 18 .* got 19"),
        ({"ranks": {"7": (2, 2)}}, "a matrix has one rank"),
        ({"ranks": {"2": 4}}, "2 ranks are needed, got 1"),
        ({"ranks": {"2": (4, 30)}}, "must lie in 1 .. 20 .20 outputs., got 30"),
        ({"ranks": {"7": 2.5}}, "a rank of 7 must be an int"),
        ({"ratio": 0.5}, "the ratio must be >= 1, got 0.5"),
        ({"error": 2}, "the error must lie in"),
        ({"ratio": 2, "error": 0.1}, "ratio and error say the same thing"),
        ({"ranks": {"7": 2}, "layers": ["7"]}, "layers and ranks say the same thing"),
        ({"values": "guess"}, "values must be one of fit, draw"),
        ({"rounds": -1}, "rounds must be >= 0, got -1"),
    ],
)
def test_wrong_options(options: dict[str, Any], text: str) -> None:
    net = small()
    with pytest.raises((ArgumentError, ArgumentTypeError), match=text):
        decompose_layers(net, **options)
    assert net.named_state().keys() == small().named_state().keys()  # nothing was exchanged


def test_wrong_subjects() -> None:
    with pytest.raises(ArgumentTypeError, match=r"decompose_layers: takes a module, got Graph"):
        decompose_layers(sg.Graph([], [sg.constant(1.0)]))  # type: ignore[arg-type]
    with pytest.raises(ArgumentTypeError, match=r"decompose: takes a graph, got Sequential"):
        decompose(small())  # type: ignore[arg-type]
    with pytest.raises(ArgumentError, match="the network is one Dense, whose place nothing holds"):
        decompose_layers(Dense(4, 4))
    with pytest.raises(ArgumentError, match="no layer to merge is called '0'"):
        merge_layers(small(), layers=["0"])
    assert str(Decomposition(())) == ""
