"""Kernels that look at the mark of failed checks before they write over variables."""

from __future__ import annotations

from dataclasses import replace

from symgraph.lower.plan import KernelStep, Plan


def latch(plan: Plan) -> bool:
    """Have what writes over variables look at the mark; False where that is not done.

    Copies, of which some updates consist, cannot look. What has no updates is waited for.
    """
    program, updates = plan.program, plan.program.updates
    checked = program.checks or program.risky
    if not checked or not updates or any(s not in plan.in_place for s in updates):
        return False
    targets = frozenset(plan.in_place.values())
    holding: dict[int, int] = {}
    for place, step in enumerate(plan.steps):
        if isinstance(step, KernelStep) and not targets.isdisjoint(step.writes):
            if step.kernel not in holding:
                holding[step.kernel] = len(plan.kernels)
                plan.kernels.append(plan.kernels[step.kernel].holding())
            plan.steps[place] = replace(step, kernel=holding[step.kernel])
    return True
