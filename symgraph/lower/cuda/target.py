"""What the plan of a device is made by."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from symgraph.dims import Dim
from symgraph.graph.node import Value
from symgraph.lower.cuda.kernel import Kernel, print_kernel
from symgraph.lower.cuda.schedule import GRAIN, choose
from symgraph.lower.nest import Nest
from symgraph.lower.plan import Target
from symgraph.lower.program import Operand
from symgraph.lower.schedule import Schedule


def device_target(
    nominal: Mapping[Dim, int],
    takes: Callable[[Value], bool] = Target.chosen,
    reads: Callable[[Value, Operand], bool] = Target.reads,
    rows: bool = False,
) -> Target:
    """Give the target of a device whose libraries take and read this; kernels fit some sizes.

    With `rows` threads keep rows of what windows read, where no library computes the windows.
    """

    def printed(nest: Nest, schedule: Schedule, name: str) -> Kernel:
        return print_kernel(nest, schedule, name, nominal)

    return Target(takes, reads, printed, GRAIN, choose, copies=True, rows=rows)
