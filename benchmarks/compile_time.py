"""The time of the passes for each node of a graph, from graphs of 10 nodes to 10,000.

Deep: a chain of elementwise operations. Wide: as many sums of short expressions, joined. Gradient:
the gradient of a deep perceptron, most of which rules rewrite. AlexNet: its training step. What is
measured is every pass of `function`, history included, on a graph that is built already.

    python benchmarks/compile_time.py [--quick]
"""

from __future__ import annotations

import sys
from pathlib import Path
from time import perf_counter

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from harness import Contestant, start

import symgraph as sg
from models.alexnet import SIDE, AlexNet, optimizer
from models.common.classifier import train_step
from symgraph.passes.manager import pipeline, run_passes

SIZES = (10, 100, 1000, 10_000)
PER_NODE = 0.5e-3


def deep(nodes: int) -> sg.Graph:
    """Make a chain of operations, with numbers that rules look at."""
    x = sg.tensor("x", (sg.dim("B"), 10))
    y = x
    for number in range(nodes):
        y = (y + 1.0, sg.exp(y), y * 2.0, sg.reshape(y, (-1,)), sg.reshape(y, x.shape), -y)[
            number % 6
        ]
    return sg.Graph([x], [y])


def wide(nodes: int) -> sg.Graph:
    """Make many short expressions of one input, all of them outputs."""
    x = sg.tensor("x", (sg.dim("B"), 10))
    outputs = [sg.sum(sg.log(1 + sg.exp(x * float(n + 2)))) for n in range(nodes // 6)]
    return sg.Graph([x], outputs)


def gradient(nodes: int) -> sg.Graph:
    """Make loss and gradients of a perceptron with as many layers as give the nodes."""
    x = sg.tensor("x", (sg.dim("B"), 8))
    weights, y = [], x
    for _ in range(max(nodes // 14, 1)):
        w = sg.shared([[0.1] * 8] * 8)
        b = sg.shared([0.1] * 8)
        weights += [w, b]
        y = sg.tanh(y @ w + b)
    loss = -sg.log(sg.softmax(y, axis=1)).mean()
    return sg.Graph([x], [loss, *sg.grad(loss, weights)])


def per_node(graph: sg.Graph) -> float:
    """Give the seconds of all passes for each node of a graph."""
    planned = pipeline()
    begin = perf_counter()
    run_passes(graph, planned)
    return (perf_counter() - begin) / len(graph.values)


def main() -> int:
    """Measure, interleaved."""
    benchmark = start("compile_time", __doc__, rounds=7)
    sizes = SIZES[:-1] if benchmark.quick else SIZES
    graphs = {
        f"passes per node, {kind.__name__}, N={size}": kind(size)
        for kind in (deep, wide, gradient)
        for size in sizes
    }
    net = AlexNet()
    graphs["passes per node, AlexNet's training step"] = train_step(
        net, optimizer(net, 0.01), SIDE
    ).built
    taken = benchmark.times(
        [
            Contestant(case, lambda graph=graph: per_node(graph), own_clock=True)  # type: ignore[misc]
            for case, graph in graphs.items()
        ]
    )
    for case, seconds in taken.items():
        benchmark.limit(case, seconds, PER_NODE)
    return benchmark.finish()


if __name__ == "__main__":
    sys.exit(main())
