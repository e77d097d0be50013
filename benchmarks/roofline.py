"""The least time in which a machine can do a step: its products at peak, its data moved once.

The work is that of convolutions and matrix products alone, counted by `sg.cost` in the graph as the
user built it. The traffic is what no program can avoid: inputs and shared variables read once,
updates and outputs written once; activations may stay in caches. Nothing can be faster than
max(work / peak, traffic / bandwidth), and no program overlaps all of the two.
"""

from __future__ import annotations

from dataclasses import dataclass

import symgraph as sg
from symgraph.cost.flops import node_flops
from symgraph.dims import evaluate, total
from symgraph.graph.graph import Graph

PRODUCTS = ("conv", "matmul")


@dataclass(frozen=True)
class Work:
    """A step in numbers: the FLOPs of its products, all FLOPs, and the bytes that must move."""

    products: int
    flops: int
    traffic: int

    def least(self, peak: float, bandwidth: float) -> float:
        """Give the seconds that it takes at least."""
        return max(self.products / peak, self.traffic / bandwidth)


def work(graph: Graph, **sizes: int) -> Work:
    """Count a graph's work for sizes by name."""
    numbers = {sg.dim(name): value for name, value in sizes.items()}
    products = total(
        node_flops(value) for value in graph.values if value.op.name.startswith(PRODUCTS)
    )
    moved = [*graph.inputs, *graph.shared, *graph.outputs, *graph.updates.values()]
    traffic = total(value.tensor.nbytes for value in moved)
    flops = sg.cost(graph).evaluate(sizes).flops
    return Work(evaluate(products, numbers), flops, evaluate(traffic, numbers))
