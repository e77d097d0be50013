"""Checks of a step on a device that the host does not wait for.

A check that fails leaves a mark on the device. Whatever writes over variables looks at it first and
does nothing, in later steps too, until somebody here has seen the mark and raised.
"""

from __future__ import annotations

import weakref
from contextlib import suppress

import numpy as np

from symgraph.backends.cuda.device import Device
from symgraph.cost.table import made_at
from symgraph.errors import InputError
from symgraph.lower.plan import CheckStep, Plan, parts
from symgraph.runtime.attribution import Attribution


class Mark:
    """The mark of failed checks, and a copy of it here, which is brought at the end of a step."""

    def __init__(self, device: Device, plan: Plan, owner: object) -> None:
        self.device = device
        self._plan, self._owner = weakref.ref(plan), weakref.ref(owner)
        self._there, self._here = device.reserve(1), device.pinned(1)
        self.clear()

    def forgotten(self) -> bool:
        """Tell whether whoever could tell of it is gone."""
        return self._owner() is None

    def clear(self) -> None:
        """Wipe it off."""
        self.device.upload(self._there.address, np.zeros(1, np.uint8))
        self._here.bytes[0] = 0

    @property
    def address(self) -> int:
        """Where it is on the device."""
        return self._there.address

    def bring(self) -> None:
        """Queue the copy to here."""
        self.device.send(self._here.address, self._there.address, 1)

    def seen(self) -> bool:
        """Tell whether a step that is done has left it, and wipe it off."""
        found = bool(self._here.bytes[0])
        if found:
            self.clear()
        return found

    def report(self) -> None:
        """Raise `InputError` if an earlier step has left it."""
        if self.seen():
            raise InputError(
                "a step before this one was given numbers that it must not be given; nothing was"
                " written by it, nor by this function since.",
                details=self._suspects(),
                fix="ask for an output, which waits for each step, to see in which it is",
            )

    def tell(self, problem: BaseException) -> bool:
        """Wipe it off after a step that something else ended, and give whether it was left.

        The exception says so in a note: whoever calls next is not to blame. Where the device does
        not answer any more, that is what the exception is about.
        """
        found = False
        with suppress(Exception):
            self.bring()
            self.device.settle()
            found = self.seen()
        if found:
            lines = (
                "this step, or one before that nobody waited for, was given numbers that it must"
                " not be given as well; nothing was written by it, nor by this function since.",
                *(f"  {line}" for line in self._suspects()),
            )
            problem.add_note("\n".join(lines))
        return found

    def _suspects(self) -> list[str]:
        """Name the operations that check."""
        plan = self._plan()
        if plan is None:
            return []
        known = Attribution(plan)
        risky = frozenset(plan.program.risky)
        checks = [
            step
            for whole in plan.steps
            for step in parts(whole)
            if isinstance(step, CheckStep) or not risky.isdisjoint(step.writes)
        ]
        values = dict.fromkeys(value for step in checks for value in known.owners(step))
        return [f"{value.op.name}  made at {made_at(value)}" for value in values]
