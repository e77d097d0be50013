"""The steps of a plan at sizes on a device: what computes each, where, and runs of them recorded.

Steps between two where the host has something to do are a segment. The first run does them one by
one; the second lets the device record each segment, and from then on a segment is one launch. What
is recorded are addresses: where one is another, segments are recorded again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from symgraph.backends.cuda.calls import concrete, empty, rounded, start
from symgraph.backends.cuda.device import Device
from symgraph.backends.cuda.interface import Routine
from symgraph.config import config
from symgraph.dims import Dim
from symgraph.errors import BackendError, MemoryLimitError
from symgraph.frozen import frozen
from symgraph.graph.body import Body
from symgraph.lower.memory import Interval, MemoryPlan, plan_memory
from symgraph.lower.nest import Buffer
from symgraph.lower.plan import BundleStep, CallStep, CheckStep, KernelStep, Plan, parts
from symgraph.lower.program import nbytes, number
from symgraph.runtime.tuning import choose_fastest, most_workspace, recalled

Env = Mapping[Dim, int]


@frozen
class Setting:
    """What plans are bound to: a device, sizes, and what was compiled, of bodies too."""

    device: Device
    env: Env
    tf32: bool
    plans: Mapping[Body, Plan]
    functions: Mapping[Plan, Sequence[Any]]  # of each step


class Inner(Protocol):
    """A loop, a branch, what `ref` computes on the device, or a kernel by hand."""

    implementation: str
    kept: int  # bytes of memory that stay as they are between calls
    workspace: int  # bytes while it runs
    risky: bool  # whether something inside is checked
    recorded: bool  # whether it is launches alone: else the host walks it

    def place(self, kept: int, workspace: int, failed: int) -> None:
        """Take the memory, and the place of a byte that a check which fails sets."""

    def run(self, addresses: Sequence[int]) -> None:
        """Queue it, for operands and then results at these addresses."""


@dataclass
class Segment:
    """Steps that follow each other, by number, and what the host looks at after them."""

    steps: list[int] = field(default_factory=list)
    check: CheckStep | None = None
    risky: bool = False  # whether the byte that checks set inside is looked at
    writes: bool = False  # whether they write over variables
    alone: bool = False  # one step that the host walks, which is not recorded
    warm: bool = False  # whether they ran, so that modules are loaded
    captured: Any = None


class Steps:
    """A plan at sizes; whoever owns it says where its memory is."""

    def __init__(self, plan: Plan, setting: Setting, inner: Mapping[int, Inner]) -> None:
        self.plan, self.device, self.env = plan, setting.device, dict(setting.env)
        self.functions = setting.functions[plan]
        self.inner = dict(inner)
        self.routines: dict[int, Routine] = {}
        for place, step in enumerate(plan.steps):
            if isinstance(step, CallStep) and place not in inner and not empty(step.call, self.env):
                asked = concrete(step.call, self.env)
                self.routines[place] = self.device.libraries.prepare(*asked, setting.tf32)
        self.places: dict[Buffer, int] = {}
        self.workspace: dict[int, int] = {}
        self.failed = 0  # where the byte is that a check inside sets
        self.writing = False  # whether a step is between its first write and its last
        self._targets = frozenset(plan.in_place.values())

    # -- memory ------------------------------------------------------------------------------------

    def fixed(self) -> list[Buffer]:
        """Give what is the same in every call, though steps compute it, in order."""
        written = {one for step in self.plan.steps for one in step.writes}
        return sorted(self.plan.fixed & written, key=lambda one: one.name)

    def size(self, one: Buffer) -> int:
        """Give the bytes of a buffer."""
        return number(nbytes(one), self.env)

    def arrange(self, whole: Sequence[Buffer], needed: Mapping[int, int]) -> MemoryPlan:
        """Plan one piece of memory: temporaries, what steps work in, what lives till the end."""
        temporaries = self.plan.temporaries()
        count = len(self.plan.steps)
        intervals = self.plan.intervals(temporaries, self.env)
        intervals += [Interval(self.size(one), 0, count) for one in whole]
        inner = {place: one.workspace for place, one in self.inner.items()}
        self._working = {k: size for k, size in (inner | dict(needed)).items() if size}
        intervals += [Interval(size, k, k) for k, size in self._working.items()]
        self._buffers = [*temporaries, *whole]
        self.memory = plan_memory([replace(one, size=rounded(one.size)) for one in intervals])
        return self.memory

    def settle(self, base: int) -> None:
        """Say where that memory is."""
        at = [base + offset for offset in self.memory.offsets]
        self.places = dict(zip(self._buffers, at))
        self.workspace = dict(zip(self._working, at[len(self._buffers) :]))

    def settle_inner(self, kept: int, failed: int) -> None:
        """Give inner steps their memory: that which stays, and that in which they work."""
        self.failed = failed
        for place, one in self.inner.items():
            one.place(kept, self.workspace.get(place, 0), failed)
            kept += rounded(one.kept)

    @property
    def kept_inside(self) -> int:
        """The bytes that inner steps keep between calls."""
        return sum(rounded(one.kept) for one in self.inner.values())

    # -- the fastest ways --------------------------------------------------------------------------

    def tune(self, room: Callable[[Mapping[int, int]], Mapping[Buffer, int]]) -> bool:
        """Find the fastest ways of libraries; tell whether there was something to find.

        `room` lays memory out for what routines need, by step, and tells where buffers are.
        """
        undecided = {k for k, one in self.routines.items() if not recalled(self.device, one)}
        if not undecided:
            return False
        needed = {
            k: most_workspace(one) if k in undecided else one.workspace
            for k, one in self.routines.items()
        }
        try:
            places = room(needed)
        except (BackendError, MemoryLimitError):  # then only the ways that need no more
            needed = self.workspaces()
            places = room(needed)
        for place in sorted(undecided):
            routine = self.routines[place]
            if not recalled(self.device, routine):  # the same operation may have come before
                addresses = self.operands(place, places)
                workspace = self.workspace.get(place, 0)
                choose_fastest(self.device, routine, addresses, workspace, needed[place])
        return True

    def workspaces(self) -> dict[int, int]:
        """Give the bytes that routines need as they compute now."""
        return {k: one.workspace for k, one in self.routines.items()}

    # -- running -----------------------------------------------------------------------------------

    def segmented(self, cuts: bool) -> list[Segment]:
        """Cut the steps where the host walks and, if it waits for them, at checks; one at least."""
        found = [Segment()]
        for place, step in enumerate(self.plan.steps):
            if place in self.inner and not self.inner[place].recorded:
                risky = cuts and self.inner[place].risky
                found += [Segment([place], risky=risky, alone=True), Segment()]
            elif isinstance(step, CheckStep) and cuts:
                found[-1].check = step
                found.append(Segment())
            else:
                found[-1].steps.append(place)
                found[-1].writes |= not self._targets.isdisjoint(step.writes)
        return [one for one in found if one.steps or one.check is not None] or found[:1]

    def advance(
        self,
        segment: Segment,
        places: Mapping[Buffer, int],
        known: bool,
        last: Callable[[], None] | None = None,
    ) -> None:
        """Run a segment: step by step, or, where nothing has moved, as it was recorded.

        `last` queues what comes after the steps and is recorded with them, always the same.
        """

        def work() -> None:
            for place in segment.steps:
                self.step(place, places)
            if last is not None:
                last()

        if not segment.steps and last is None:
            return
        if segment.alone or not known or not segment.warm or not config.capture:
            segment.captured = None
            work()
            segment.warm = True
            return
        if segment.captured is None:
            segment.captured = self.device.capture(work)
        self.writing = self.writing or segment.writes
        self.device.replay(segment.captured)

    def step(self, place: int, places: Mapping[Buffer, int]) -> None:
        """Queue a step."""
        step = self.plan.steps[place]
        self.writing = self.writing or not self._targets.isdisjoint(step.writes)
        if isinstance(step, KernelStep | BundleStep):
            self._launch(step, self.functions[place], places)
        elif isinstance(step, CheckStep):
            if self.failed:  # or whoever runs the steps looks at the condition
                words = [places[step.condition], self.failed]
                self.device.launch(self.functions[place], 1, 1, words)
        elif place in self.inner:
            self.inner[place].run(self.operands(place, places))
        elif place in self.routines:
            workspace = self.workspace.get(place, 0)
            self.device.call(self.routines[place], self.operands(place, places), workspace)

    def operands(self, place: int, places: Mapping[Buffer, int]) -> list[int]:
        """Give where the operands of a library call lie, then its results."""
        step = self.plan.steps[place]
        assert isinstance(step, CallStep)
        addresses = [places[one.buffer] + start(one, self.env) for one in step.call.sources]
        return [*addresses, *(places[one] for one in step.call.writes)]

    def _launch(
        self, step: KernelStep | BundleStep, function: Any, places: Mapping[Buffer, int]
    ) -> None:
        """Start a kernel, or several as one, each of which is told how many blocks it has."""
        kernel = self.plan.kernels[step.kernel]
        words, total = [], 0
        for own, part in zip(kernel.parts, parts(step), strict=True):
            assert isinstance(part, KernelStep | CheckStep)  # nothing else is in a bundle
            tasks = number(part.tasks, self.env)
            blocks = own.blocks(tasks, self.device.most_blocks) if tasks else 0
            words += [places[one] for one in part.buffers]
            words += [number(size, self.env) for size in part.sizes]
            words += [tasks, blocks] if isinstance(step, BundleStep) else [tasks]
            total += blocks
        if kernel.held and self.failed:
            words.append(self.failed)
        if total:
            self.device.launch(function, total, kernel.threads, words)
