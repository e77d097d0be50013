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


def no_library(value: Value) -> bool:
    """Compute everything by kernels."""
    return False


def every_view(value: Value, view: Operand) -> bool:
    """Read operands where they lie."""
    return True


def device_target(
    nominal: Mapping[Dim, int],
    takes: Callable[[Value], bool] = no_library,
    reads: Callable[[Value, Operand], bool] = every_view,
) -> Target:
    """Give the target of a device whose libraries take and read this; kernels fit some sizes."""

    def printed(nest: Nest, schedule: Schedule, name: str) -> Kernel:
        return print_kernel(nest, schedule, name, nominal)

    return Target(takes, reads, printed, GRAIN, choose, copies=True)
