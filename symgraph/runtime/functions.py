"""The kernels of a plan, compiled for a device in the width that sizes need.

Indices of 32 bits are faster and take fewer registers; they serve wherever they reach everything.
Either way the text is that of the plan. What no sizes have asked for is not compiled.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from symgraph.backends.cuda.device import Device
from symgraph.dims import Dim
from symgraph.lower.cuda.module import Width, numbered
from symgraph.lower.plan import CheckStep, KernelStep, Plan


class Functions:
    """The compiled kernels of a plan, in one width or both."""

    def __init__(self, plan: Plan, device: Device) -> None:
        self._plan, self._device = plan, device
        self._made: dict[Width, Any] = {}
        self._latch: Any = None

    def at(self, env: Mapping[Dim, int]) -> list[Any]:
        """Give the function of each step at sizes, None for a call of a library."""
        steps = self._plan.steps
        widths = [self._width(one, env) if isinstance(one, KernelStep) else None for one in steps]
        needed = dict.fromkeys(one for one in widths if one is not None)
        missing = [one for one in needed if one not in self._made]
        if missing:
            source, names = numbered(self._plan.kernels, missing)
            *made, self._latch = self._device.functions(source, names)
            self._made.update(zip(missing, made, strict=True))
        return [
            self._latch if isinstance(step, CheckStep) else width and self._made[width]
            for step, width in zip(steps, widths)
        ]

    def _width(self, step: KernelStep, env: Mapping[Dim, int]) -> Width:
        stride = self._plan.kernels[step.kernel].stride(self._device.most_blocks)
        return step.kernel, not step.reach.fits(env, stride)
