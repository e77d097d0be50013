"""What it costs to ask what a graph costs.

A chain of 5,000 values shows the time for each value, with every kind of operation known and, for
AlexNet's training step, without; then one evaluation in numbers, and the check before a run.

    python benchmarks/cost.py [--quick]
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
from symgraph.cost.limit import peak_bytes
from symgraph.dims.core import forget

CHAIN = 5000
REPEATS = 1000
PER_NODE = 1e-4
EVALUATE = 20e-6
CHECK = 2e-6


def chain(length: int) -> sg.Graph:
    """Make a graph of as many values, one after the other."""
    x = sg.tensor("x", (sg.dim("B"), 10))
    y = x
    for number in range(length):
        y = (y + 1.0, y * 2.0, sg.sin(y))[number % 3]
    return sg.Graph([x], [y])


def per_node(graph: sg.Graph) -> float:
    """Give the seconds for each value of a graph, with nothing known from before."""
    forget()
    fresh = sg.Graph(graph.inputs, graph.outputs, graph.updates)
    begin = perf_counter()
    sg.cost(fresh)
    return (perf_counter() - begin) / len(fresh.values)


def main() -> int:
    """Measure, interleaved."""
    benchmark = start("cost", __doc__, rounds=21)
    net = AlexNet()
    step = train_step(net, optimizer(net, 0.01), SIDE).graph
    long, found, env = chain(CHAIN), sg.cost(step), {sg.dim("B"): 128}

    def evaluate() -> float:
        begin = perf_counter()
        for _ in range(REPEATS):
            found.evaluate(B=128)
        return (perf_counter() - begin) / REPEATS

    def check() -> float:
        begin = perf_counter()
        for _ in range(10):
            peak_bytes(step, env)
        return (perf_counter() - begin) / 10 / len(step.values)

    taken = benchmark.times(
        [
            Contestant("chain", lambda: per_node(long), own_clock=True),
            Contestant("alexnet", lambda: per_node(step), own_clock=True),
            Contestant("evaluate", evaluate, own_clock=True),
            Contestant("check", check, own_clock=True),
        ]
    )
    benchmark.limit(f"cost() per node, a chain of {CHAIN:,}", taken["chain"], PER_NODE)
    benchmark.limit("cost() per node, a training step of AlexNet", taken["alexnet"], PER_NODE)
    benchmark.limit("evaluate(B=128), a training step of AlexNet", taken["evaluate"], EVALUATE)
    benchmark.limit("peak_bytes per node, before each new size", taken["check"], CHECK)
    return benchmark.finish()


if __name__ == "__main__":
    sys.exit(main())
