"""What the plan of a device is made by, and how."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from symgraph.dims import Dim
from symgraph.graph.graph import Graph
from symgraph.graph.node import Value
from symgraph.lower.cuda.bundling import bundle
from symgraph.lower.cuda.kernel import Kernel, print_kernel
from symgraph.lower.cuda.latching import latch
from symgraph.lower.cuda.schedule import GRAIN, choose
from symgraph.lower.nest import Nest
from symgraph.lower.plan import Plan, Target, make_plan
from symgraph.lower.program import Operand
from symgraph.lower.schedule import Schedule


def device_target(
    nominal: Mapping[Dim, int],
    takes: Callable[[Value], bool] = Target.chosen,
    reads: Callable[[Value, Operand], bool] = Target.reads,
    rows: bool = False,
    fast: bool = False,
) -> Target:
    """Give the target of a device whose libraries take and read this; kernels fit some sizes.

    With `rows` threads keep rows of what windows read, where no library computes the windows. With
    `fast` libraries compute activations, though they may do otherwise with NaN.
    """

    def printed(nest: Nest, schedule: Schedule, name: str) -> Kernel:
        return print_kernel(nest, schedule, name, nominal)

    return Target(
        takes, reads, printed, GRAIN, choose,
        copies=True, rows=rows, fast=fast, over=True, latches=True,
    )  # fmt: skip


def make_device_plan(
    graph: Graph,
    nominal: Mapping[Dim, int],
    target: Target,
    narrow: bool = False,
    finite: bool = False,
) -> Plan:
    """Give the plan of a graph as `make_plan` does, with as few launches as small kernels allow.

    What is checked before variables are written is waited for by kernels alone where that can be.
    """
    plan = make_plan(graph, nominal, target, narrow, finite)
    plan.latched = not finite and latch(plan)
    bundle(plan, nominal)
    return plan
