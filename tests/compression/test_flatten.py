"""Flattening of graphs and of networks: what is exchanged, what stays, what it computes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import symgraph as sg
from symgraph.compression import Flattening, flatten, flatten_layers
from symgraph.errors import ArgumentError, ArgumentTypeError
from symgraph.nn import Activation, BatchNorm, Conv2d, Dense, Flatten, FlattenedConv, Sequential

B = sg.dim("B")
ON = [pytest.param("reference"), pytest.param("cpu")]


def small() -> Sequential:
    return Sequential(
        Conv2d(3, 16, 3, padding=1), Activation("relu"),
        Conv2d(16, 24, 5, stride=2, padding=2), Activation("relu"),
        Flatten(), Dense(24 * 16, 4),
    )  # fmt: skip


def kept(report: Flattening) -> dict[str, bool]:
    return {layer.name: layer.flat is None for layer in report.layers}


def rank_one_filters(rng: np.random.Generator, net: sg.nn.Module) -> None:
    """Let every filter of a network be a product, so that nothing is lost."""
    for _, one in net.named_modules():
        if isinstance(one, Conv2d):
            vectors = [rng.normal(size=(one.weight.shape[0], n)) for n in one.weight.shape[1:]]
            dense = np.einsum("oc,oi,oj->ocij", *vectors)
            one.weight.value = (dense / np.sqrt(dense.size)).astype(one.weight.dtype)
            one.bias.value = rng.normal(size=one.bias.shape).astype(one.bias.dtype)


# -- graphs ----------------------------------------------------------------------------------------


def test_a_first_layer_of_three_channels_costs_more_and_stays() -> None:
    x = sg.tensor("x", (B, 3, 32, 32))
    wide = Sequential(Conv2d(3, 96, 5, padding=2), Conv2d(96, 128, 5, padding=2))
    graph, report = flatten(sg.Graph([x], [wide(x)]))
    assert kept(report) == {"Sequential/0": True, "Sequential/1": False}
    first, second = report.layers
    assert first.after > first.before  # type: ignore[operator]
    assert "left alone" in str(first)
    assert second.parameters == (96 * 128 * 25, 32_000 - 128)  # its bias stays in the graph
    assert [one.op.name for one in graph.values].count("conv") == 1 + 6
    assert graph.history[-1].reason == "flatten"


@pytest.mark.parametrize("stages", [1, 2, 3])
def test_of_products_the_graph_computes_the_same(rng: np.random.Generator, stages: int) -> None:
    net = small()
    rank_one_filters(rng, net)
    x = sg.tensor("x", (B, 3, 8, 8))
    before = sg.Graph([x], [net(x)])
    names = ["Sequential/0", "Sequential/2"]
    after, report = flatten(before, layers=names, stages=stages, values="fit")
    assert [layer.error for layer in report.layers] == pytest.approx([0, 0], abs=1e-6)
    feed = rng.normal(size=(3, 3, 8, 8)).astype(np.float32)
    each = [(g.outputs[0], sg.grad((g.outputs[0] ** 2).sum(), x)) for g in (before, after)]
    wanted, found = (sg.function([x], list(both))(feed) for both in each)
    for ours, theirs in zip(found, wanted):
        np.testing.assert_allclose(ours, theirs, rtol=2e-3, atol=2e-3 * np.abs(theirs).max())


def test_a_filter_used_twice_is_one_layer(rng: np.random.Generator) -> None:
    conv = Conv2d(16, 16, 5, padding=2)
    x = sg.tensor("x", (B, 16, 9, 9))
    graph, report = flatten(sg.Graph([x], [conv(sg.relu(conv(x)))]), stages=1)
    assert len({id(layer.flat) for layer in report.layers}) == 1
    assert len(report.parameters) == 5
    assert len(graph.shared) == 5 + 1


def test_the_names_of_filters_and_constants_will_do(rng: np.random.Generator) -> None:
    filters = rng.normal(size=(8, 8, 3, 3)).astype(np.float32)
    x = sg.tensor("x", (B, 8, 8, 8))
    own = sg.shared(filters, "mine")
    y = sg.conv2d(sg.conv2d(x, own, padding=1), sg.constant(filters), padding=1)
    graph, report = flatten(sg.Graph([x], [y]), layers=["mine"], values="fit")
    assert [layer.flat is None for layer in report.layers] == [False, True]
    assert 0 < report.layers[0].error < 1
    assert own not in set(graph.shared)


def test_dtypes_of_filters_are_kept(rng: np.random.Generator) -> None:
    own = sg.shared(rng.normal(size=(8, 8, 5, 5)), "w")
    x = sg.tensor("x", (B, 8, 8, 8), "float64")
    graph, report = flatten(sg.Graph([x], [sg.conv2d(x, own)]))
    assert {one.dtype for one in report.parameters} == {"float64"}
    assert graph.outputs[0].type.same(sg.conv2d(x, own).type)


def test_what_it_costs_may_depend_on_sizes() -> None:
    x = sg.tensor("x", (B, 32, sg.dim("height", min=5), sg.dim("width", min=5)))
    layer = Conv2d(32, 32, 5)
    _, report = flatten(sg.Graph([x], [layer(x)]))
    assert kept(report) == {"Conv2d": False}


def test_a_flattened_graph_is_trained(rng: np.random.Generator) -> None:
    sg.seed(1)
    x, labels = sg.tensor("x", (B, 3, 8, 8)), sg.tensor("labels", (B,), "int32")
    net = small()
    graph, report = flatten(sg.Graph([x], [net(x)]))
    assert kept(report) == {"Sequential/0": True, "Sequential/2": False}
    loss = sg.nn.cross_entropy(graph.outputs[0], labels).mean()
    step = sg.optim.SGD(list(graph.shared), lr=0.1, momentum=0.9)
    train = sg.function([x, labels], loss, updates=step.updates(loss), backend="cpu")
    feed = rng.normal(size=(16, 3, 8, 8)).astype(np.float32)
    classes = rng.integers(0, 4, 16).astype(np.int32)
    losses = [float(train(feed, classes)) for _ in range(30)]
    assert losses[-1] < 0.2 * losses[0]


# -- networks --------------------------------------------------------------------------------------


def test_layers_of_a_network_are_exchanged_wherever_they_are_held(
    rng: np.random.Generator,
) -> None:
    class Odd(sg.nn.Module):
        def __init__(self) -> None:
            self.one = Conv2d(16, 16, 5, padding=2)
            self.others = {"a": [Conv2d(16, 16, 5, padding=2)], "b": (self.one, BatchNorm(16))}

        def forward(self, x: Any, *, train: bool = False) -> sg.Value:
            for one in (self.one, *self.others["a"], *self.others["b"]):
                x = one(x, train=train)
            return x

    net = Odd()
    before = net.one.bias
    before.value = rng.normal(size=16).astype(np.float32)
    report = flatten_layers(net)
    assert kept(report) == {"one": False, "others.a.0": False}
    assert isinstance(net.one, FlattenedConv)
    assert net.one is net.others["b"][0]
    assert isinstance(net.others["a"][0], FlattenedConv)
    np.testing.assert_array_equal(net.one.horizontal[-1].bias.value, before.value)
    assert set(report.parameters) <= set(net.parameters())
    assert flatten_layers(net).layers == ()  # parts of flattened layers are left alone


@pytest.mark.parametrize("backend", ON)
def test_of_products_the_network_computes_the_same(rng: np.random.Generator, backend: str) -> None:
    net = small()
    rank_one_filters(rng, net)
    x = sg.tensor("x", (B, 3, 8, 8))
    feed = rng.normal(size=(3, 3, 8, 8)).astype(np.float32)
    before = sg.function([x], net(x), backend=backend)(feed)
    flatten_layers(net, layers=["0", "2"], values="fit")
    after = sg.function([x], net(x), backend=backend)(feed)
    np.testing.assert_allclose(after, before, rtol=1e-3, atol=1e-3)


# -- refusals --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "error", "match"),
    [
        ({"stages": 0}, ArgumentError, "flatten.*: stages must be >= 1, got 0"),
        ({"stages": "2"}, ArgumentTypeError, "stages must be an int"),
        ({"values": "svd"}, ArgumentError, "values must be one of draw, fit, got 'svd'"),
        ({"layers": ["9"]}, ArgumentError, "is called '9'.*\n.*fix: one of (Sequential/)?0, "),
        ({"layers": "0"}, ArgumentTypeError, "layers must be a list of names"),
    ],
)
@pytest.mark.parametrize("call", [flatten, flatten_layers])
def test_what_makes_no_sense_is_refused(
    call: Any, options: Any, error: type[Exception], match: str
) -> None:
    x = sg.tensor("x", (B, 3, 8, 8))
    net = small()
    with pytest.raises(error, match=match):
        call(net if call is flatten_layers else sg.Graph([x], [net(x)]), **options)
    assert isinstance(net[0], Conv2d)


def test_other_things_than_graphs_and_networks_are_refused() -> None:
    with pytest.raises(ArgumentTypeError, match="takes a graph, got Sequential"):
        flatten(small())  # type: ignore[arg-type]
    with pytest.raises(ArgumentTypeError, match="takes a module, got int"):
        flatten_layers(3)  # type: ignore[arg-type]
    with pytest.raises(ArgumentError, match="the network is one Conv2d"):
        flatten_layers(Conv2d(3, 4, 5))
