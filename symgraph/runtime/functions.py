"""The kernels of plans, compiled for a device in the width that sizes need.

Indices of 32 bits are faster and take fewer registers; they serve wherever they reach everything.
Either way the text is that of the plan. What no sizes have asked for is not compiled. A plan and
those of the bodies inside it are one module.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from symgraph.backends.cuda.device import Device
from symgraph.dims import Dim
from symgraph.lower.cuda.module import Width, numbered
from symgraph.lower.plan import BundleStep, CheckStep, KernelStep, Plan


class Functions:
    """The compiled kernels of plans, in one width or both."""

    def __init__(self, plans: Sequence[Plan], device: Device) -> None:
        self._plans, self._device = tuple(plans), device
        self._kernels: list[Any] = []  # each text once
        known: dict[str, int] = {}
        self._numbers: dict[Plan, list[int]] = {}  # of each kernel of a plan
        for plan in self._plans:
            for one in plan.kernels:
                if one.text not in known:
                    known[one.text] = len(self._kernels)
                    self._kernels.append(one)
            self._numbers[plan] = [known[one.text] for one in plan.kernels]
        self._made: dict[Width, Any] = {}
        self._latch: Any = None

    def at(self, env: Mapping[Dim, int]) -> dict[Plan, list[Any]]:
        """Give the function of each step of each plan at sizes, None for a call of a library."""
        widths = {
            plan: [self._width(plan, step, env) for step in plan.steps] for plan in self._plans
        }
        needed = dict.fromkeys(one for each in widths.values() for one in each if one is not None)
        missing = [one for one in needed if one not in self._made]
        if missing or (self._latch is None and self._checks()):
            source, names = numbered(self._kernels, missing)
            *made, self._latch = self._device.functions(source, names)
            self._made.update(zip(missing, made, strict=True))
        return {
            plan: [
                self._latch if isinstance(step, CheckStep) else width and self._made[width]
                for step, width in zip(plan.steps, widths[plan])
            ]
            for plan in self._plans
        }

    def _checks(self) -> bool:
        return any(isinstance(step, CheckStep) for plan in self._plans for step in plan.steps)

    def _width(self, plan: Plan, step: Any, env: Mapping[Dim, int]) -> Width | None:
        if not isinstance(step, KernelStep | BundleStep):
            return None
        kernel = self._numbers[plan][step.kernel]
        stride = self._kernels[kernel].stride(self._device.most_blocks)
        return kernel, not step.reach.fits(env, stride)
