"""Training steps of the models, for what is proved of CUDA without a device."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache

import symgraph as sg
from models.alexnet import AlexNet
from models.resnet import ResNet
from symgraph.graph.graph import Graph

B = sg.dim("cuda_batch")


def perceptron() -> sg.nn.Module:
    return sg.nn.Sequential(
        sg.nn.Dense(784, 1024), sg.nn.Activation("relu"),
        sg.nn.Dense(1024, 1024), sg.nn.Activation("relu"), sg.nn.Dense(1024, 10),
    )  # fmt: skip


MODELS: Mapping[str, tuple[Callable[[], sg.nn.Module], tuple[int, ...]]] = {
    "alexnet": (lambda: AlexNet(classes=1000), (3, 227, 227)),
    "resnet50": (lambda: ResNet(50, 1000), (3, 224, 224)),
    "perceptron": (perceptron, (784,)),
}


@cache
def step(model: str, precision: str = "fp32") -> Graph:
    """The graph of a training step for a batch of any size."""
    build, shape = MODELS[model]
    x, y = sg.tensor("x", (B, *shape)), sg.tensor("y", (B,), "int32")
    sg.seed(0)
    net = build()
    loss = sg.nn.cross_entropy(net(x, train=True), y).mean()
    updates = sg.optim.SGD(net.parameters(), lr=0.01, momentum=0.9, weight_decay=5e-4).updates(loss)
    return sg.function([x, y], loss, updates, precision=precision, backend="reference").graph
