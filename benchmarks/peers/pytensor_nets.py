"""PyTensor's perceptrons, with symgraph's weights. It has no layers for images.

Modes: its default, which compiles with Numba, and the one that compiles C, where there is a
compiler. PyTensor has no bf16.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from harness import Contestant
from ours import Problem

from peers import load
from symgraph.nn import Activation, Dense, Flatten, Module, Sequential

pytensor = load("pytensor")
pt = load("pytensor.tensor")

MODES = ("NUMBA", "CVM")


def supports(module: Module) -> bool:
    """Tell whether a network is a perceptron."""
    layers = [layer for _, layer in module.named_modules()]
    return all(isinstance(layer, Sequential | Dense | Activation | Flatten) for layer in layers)


def activation(name: str, x: Any) -> Any:
    """Apply an elementwise function by symgraph's name."""
    if name == "relu":
        return pt.maximum(x, np.float32(0))
    return getattr(pt, name)(x)


def forward(net: Module, x: Any, weights: dict[str, Any]) -> Any:
    """Build the graph of a perceptron."""
    for path, layer in net.named_modules():
        match layer:
            case Dense():
                x = x @ weights[f"{path}.weight"]
                x = x if layer.bias is None else x + weights[f"{path}.bias"]
            case Activation():
                x = activation(layer.name, x)
            case Flatten():
                x = x.reshape((x.shape[0], -1))
    return x


class Net:
    """The shared variables of a problem and its batch."""

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        self.weights = {
            name: pytensor.shared(problem.state[name].copy(), name)
            for name, _ in problem.net.named_parameters()
        }
        self.images = pt.TensorType("float32", (None,) * problem.images.ndim)("images")
        self.labels = pt.ivector("labels")

    def loss(self) -> Any:
        """Build the mean cross-entropy."""
        logits = forward(self.problem.net, self.images, self.weights)
        rows = pt.arange(self.labels.shape[0])
        return -pt.special.log_softmax(logits, axis=1)[rows, self.labels].mean()


def training(problem: Problem, mode: str) -> Contestant:
    """Make the contestant that trains; for what is checked see `ours.training`."""
    net = Net(problem)
    momentum = np.float32(problem.optimizer.momentum)
    loss = net.loss()
    gradients = dict(zip(net.weights, pytensor.grad(loss, list(net.weights.values())), strict=True))
    moving = {name: pytensor.shared(np.zeros_like(problem.state[name])) for name in net.weights}
    updates = []
    for name, (lr, decay) in problem.rates.items():
        weight = net.weights[name]
        direction = gradients[name] + np.float32(decay) * weight if decay else gradients[name]
        velocity = momentum * moving[name] + direction
        updates += [(moving[name], velocity), (weight, weight - np.float32(lr) * velocity)]
    step = pytensor.function([net.images, net.labels], loss, updates=updates, mode=mode)
    step.trust_input = True

    def run() -> float:
        return float(step(problem.images, problem.labels))

    def check() -> dict[str, Any]:
        found: dict[str, Any] = {"loss": np.asarray(run())}
        for name, velocity in moving.items():
            found[name] = velocity.get_value().astype(np.float64)
            velocity.set_value(np.zeros_like(problem.state[name]))
            net.weights[name].set_value(problem.state[name].copy())
        return found

    return Contestant(f"pytensor {mode}", run, check=check)


def inference(problem: Problem, mode: str) -> Contestant:
    """Make the contestant that computes logits."""
    net = Net(problem)
    logits = forward(problem.net, net.images, net.weights)
    function = pytensor.function([net.images], logits, mode=mode)
    function.trust_input = True
    return Contestant(f"pytensor {mode}", lambda: function(problem.images))
