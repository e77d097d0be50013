"""Which small kernels of a plan run as one launch: a launch costs more than they do.

A kernel waits until the last moment, or the first good one, for others that are independent of it:
nothing between the two places may need what it writes, or write over what it reads. What is alone
then may still run earlier, beside others. Whether that is legal and whether it pays are two
questions. A waiting kernel keeps its operands in memory, one that is early its results, so that
what is live may only grow by little.
"""

from __future__ import annotations

import math
from bisect import bisect_right, insort
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import networkx as nx
import numpy as np

from symgraph.dims import Dim
from symgraph.errors import LoweringError
from symgraph.lower.cuda.bundle import CHECK, Bundle
from symgraph.lower.cuda.joining import MOST_THREADS
from symgraph.lower.cuda.kernel import Kernel
from symgraph.lower.nest import Buffer
from symgraph.lower.plan import BundleStep, CheckStep, KernelStep, Plan, Step, parts
from symgraph.lower.program import nbytes, number

MOST_BYTES = 1 << 25  # that a part moves: 8 us of a large device's memory, a launch takes 2
MOST_WORK = 1 << 25  # operations of a part
MOST_LINES = 400  # of the text of a part: more take more registers than others should pay for
MOST_PARTS = 16
MOST_WORDS = 400  # arguments of 64 bits: a launch takes 4 KB
FEW = 1024  # blocks that a large device runs at once: idle threads among them cost nothing
ROOM = 1 << 25  # bytes by which memory may grow
MOST_ASKED = 64  # places that a kernel looks at
Env = Mapping[Dim, int]


def bundle(plan: Plan, nominal: Env) -> None:
    """Let small kernels of a plan run together; sizes that only matter for speed are nominal.

    Checks are taken along where nobody but kernels waits for them.
    """
    before = list(plan.steps)
    waits = dependences(plan, before)
    tried = [_Bundler(plan, waits, nominal, late).found() for late in (False, True)]
    chosen = min(tried, key=len)
    steps: list[Step] = []
    for places in chosen:
        own = [before[place] for place in places]
        steps.append(_together(plan, own, nominal) if len(own) > 1 else own[0])
    verify(plan, before, steps)
    plan.steps = steps
    _forget_unused(plan)


# -- legality --------------------------------------------------------------------------------------


def dependences(plan: Plan, steps: Sequence[Step]) -> nx.DiGraph:
    """Give, by number, which step waits for which earlier one.

    It reads what that one writes, or writes over what that one reads or writes: new numbers of a
    variable that are written in place stand where the old ones are. What writes over variables also
    waits for every check, and for what may refuse while it runs.
    """
    program = plan.program
    same: dict[Buffer, object] = {one: key.storage for key, one in program.shared.items()}
    same |= {one: key.storage for key, one in plan.in_place.items()}
    targets, risky = frozenset(plan.in_place.values()), frozenset(program.risky)
    found = nx.DiGraph()
    found.add_nodes_from(range(len(steps)))
    writer: dict[object, int] = {}
    readers: dict[object, list[int]] = {}
    first: list[int] = []  # what comes before any write over a variable
    for place, step in enumerate(steps):
        for one in step.buffers:
            key = same.get(one, one)
            if key in writer:
                found.add_edge(writer[key], place)
            if one not in step.writes:
                readers.setdefault(key, []).append(place)
        for one in step.writes:
            key = same.get(one, one)
            found.add_edges_from((reader, place) for reader in readers.pop(key, ()))
            writer[key] = place
        if not targets.isdisjoint(step.writes):
            found.add_edges_from((other, place) for other in first)
        if isinstance(step, CheckStep) or not risky.isdisjoint(step.writes):
            first.append(place)
    found.remove_edges_from([(place, place) for place in range(len(steps))])
    return found


def verify(plan: Plan, before: Sequence[Step], after: Sequence[Step]) -> None:
    """Raise `LoweringError` unless every part is there once and runs after what it waits for."""
    where = {part: place for place, step in enumerate(after) for part in parts(step)}
    count = sum(len(parts(step)) for step in after)
    if count != len(before) or any(step not in where for step in before):
        raise LoweringError("cuda: the bundles of a plan have not the steps that it had before.")
    for first, second in dependences(plan, before).edges:
        a, b = before[first], before[second]
        if where[a] >= where[b]:
            together = "in one launch with" if where[a] == where[b] else "before"
            raise LoweringError(f"cuda: `{b.name}` runs {together} `{a.name}`, which it waits for.")


# -- profit ----------------------------------------------------------------------------------------


def pays(plan: Plan, step: Step, nominal: Env) -> bool:
    """Tell whether a step is small enough, and light enough, to run beside others."""
    if isinstance(step, CheckStep):
        return plan.latched
    if not isinstance(step, KernelStep):
        return False
    kernel = plan.kernels[step.kernel]
    moved = sum(number(nbytes(one), nominal) for one in step.buffers)
    return (
        kernel.threads <= MOST_THREADS
        and all(room.common for room in kernel.shared)  # arrays of a thread are many registers
        and len(kernel.body) <= MOST_LINES
        and moved <= MOST_BYTES
        and number(step.work, nominal) <= MOST_WORK
    )


def block_of(plan: Plan, step: Step) -> int:
    """Give how many threads the blocks of a step have beside others.

    A block may have idle threads where it is nearly as large, or where there are few; short rows,
    of which there are as many as a user gives, are left to small blocks.
    """
    if not isinstance(step, KernelStep):
        return MOST_THREADS
    threads: int = plan.kernels[step.kernel].threads
    few = isinstance(step.tasks, int) and step.tasks <= FEW
    return MOST_THREADS if few or 2 * threads >= MOST_THREADS else threads


class _Bundler:
    """Takes steps from the last to the first: each stays, or waits for a later one.

    With `late` it is the last that it may wait for, else the first.
    """

    def __init__(self, plan: Plan, waits: nx.DiGraph, nominal: Env, late: bool) -> None:
        self.plan, self.waits, self.late = plan, waits, late
        self.slot = list(range(len(plan.steps)))  # where each step runs
        self.light = [pays(plan, step, nominal) for step in plan.steps]
        self.words = [_words(plan, one) for one in plan.steps]  # of all that run in each slot
        self.parts: dict[int, list[int]] = {}
        # slots that may take more, in order, by the threads of a block
        self.open: dict[int, list[int]] = {}
        self.memory = _Live(plan, nominal)

    def found(self) -> list[list[int]]:
        """Give the steps that run together, by number, in the order in which they run."""
        for place, step in reversed(list(enumerate(self.plan.steps))):
            slot = self.wanted(place) if self.light[place] else None
            if slot is not None:
                self.memory.delay(place, slot)
                self.slot[place] = slot
                self.words[slot] += _words(self.plan, step)
            elif self.light[place]:
                insort(self.open.setdefault(block_of(self.plan, step), []), place)
            self.parts.setdefault(self.slot[place], []).append(place)
        for slot in sorted(self.parts):
            self.advance(slot)
        return [sorted(self.parts[slot]) for slot in sorted(self.parts)]

    def wanted(self, place: int) -> int | None:
        """Give the slot for which a step waits, None if it stays where it is."""
        end = min((self.slot[one] for one in self.waits.successors(place)), default=math.inf)
        slots = self.between(place, place, end)
        for slot in (slots[::-1] if self.late else slots)[:MOST_ASKED]:
            if self.takes(slot, place) and self.memory.allows(place, slot):
                return slot
        return None

    def advance(self, slot: int) -> None:
        """Let all that runs in a slot run earlier, where there are others for each; or nothing."""
        moves: dict[int, list[int]] = {}
        for place in self.parts[slot]:
            if not self.light[place]:
                return
            begin = max((self.slot[one] for one in self.waits.predecessors(place)), default=-1)
            for other in self.between(place, begin, slot)[: -MOST_ASKED - 1 : -1]:
                new = [*moves.get(other, ()), place]
                if self.takes(other, *new) and self.memory.allows_early(new, other, slot):
                    moves[other] = new
                    break
            else:
                return
        for other, places in moves.items():
            self.memory.hasten(places, other, slot)
            self.parts[other] += places
            self.words[other] += sum(_words(self.plan, self.plan.steps[one]) for one in places)
            for place in places:
                self.slot[place] = other
        del self.parts[slot]
        self.open[block_of(self.plan, self.plan.steps[slot])].remove(slot)

    def between(self, place: int, begin: int, end: float) -> list[int]:
        """Give the slots after one and before another that have blocks like those of a step."""
        own = self.open.get(block_of(self.plan, self.plan.steps[place]), [])
        return own[bisect_right(own, begin) : bisect_right(own, end - 1)]

    def takes(self, slot: int, *places: int) -> bool:
        """Tell whether a slot has room for more."""
        words = self.words[slot] + sum(_words(self.plan, self.plan.steps[one]) for one in places)
        return len(self.parts[slot]) + len(places) <= MOST_PARTS and words <= MOST_WORDS


def _words(plan: Plan, step: Step) -> int:
    if isinstance(step, CheckStep):
        return len(CHECK.arguments) + 1
    return len(plan.kernels[step.kernel].arguments) + 1 if isinstance(step, KernelStep) else 0


class _Live:
    """The bytes of temporaries that are live at each step, as steps are delayed."""

    def __init__(self, plan: Plan, nominal: Env) -> None:
        temporaries = plan.temporaries()
        intervals = plan.intervals(temporaries, nominal)
        self.size = {one: each.size for one, each in zip(temporaries, intervals)}
        self.last = {one: each.last for one, each in zip(temporaries, intervals)}
        self.live = np.zeros(len(plan.steps) + 1, np.int64)
        for each in intervals:
            self.live[each.first : each.last + 1] += each.size
        self.limit = int(self.live.max()) + ROOM
        self.steps = plan.steps

    def _kept(self, place: int, slot: int) -> list[tuple[Buffer, int]]:
        """Give the operands that a step keeps by waiting, and after which step they would end."""
        step = self.steps[place]
        own = [one for one in step.buffers if one in self.size and one not in step.writes]
        return [(one, self.last[one]) for one in dict.fromkeys(own) if self.last[one] < slot]

    def allows(self, place: int, slot: int) -> bool:
        """Tell whether there is room for what a step keeps while it waits."""
        kept = sum(self.size[one] for one, _ in self._kept(place, slot))
        return int(self.live[place + 1 : slot + 1].max(initial=0)) + kept <= self.limit

    def delay(self, place: int, slot: int) -> None:
        """Let a step run later: operands stay, results are there later."""
        for one, last in self._kept(place, slot):
            self.live[last + 1 : slot + 1] += self.size[one]
            self.last[one] = slot
        for one in self.steps[place].writes & self.size.keys():
            self.live[place:slot] -= self.size[one]

    def _early(self, places: Sequence[int]) -> int:
        made = [one for place in places for one in self.steps[place].writes & self.size.keys()]
        return sum(self.size[one] for one in made)

    def allows_early(self, places: Sequence[int], slot: int, late: int) -> bool:
        """Tell whether there is room for what steps have made until it is wanted."""
        return int(self.live[slot:late].max()) + self._early(places) <= self.limit

    def hasten(self, places: Sequence[int], slot: int, late: int) -> None:
        """Let steps run earlier: results are there earlier."""
        self.live[slot:late] += self._early(places)


# -- the plan --------------------------------------------------------------------------------------


def _together(plan: Plan, steps: Sequence[Step], nominal: Env) -> BundleStep:
    """Make one step of several; what does most has the first blocks."""

    def moved(step: Step) -> int:
        return -sum(number(nbytes(one), nominal) for one in step.buffers)

    ordered = sorted(steps, key=moved)
    made = Bundle("kernel", tuple(_printed(plan, one) for one in ordered))
    plan.kernels.append(made)
    kept = tuple(one for one in ordered if isinstance(one, KernelStep | CheckStep))
    return BundleStep(len(plan.kernels) - 1, kept)


def _printed(plan: Plan, step: Step) -> Kernel:
    """Give the kernel of a part, for blocks as large as those of the others."""
    if not isinstance(step, KernelStep):
        return CHECK
    kernel: Kernel = plan.kernels[step.kernel]
    threads = block_of(plan, step)
    if kernel.threads == threads or kernel.again is None:
        return kernel
    return replace(kernel.again(threads), held=kernel.held)


def _forget_unused(plan: Plan) -> None:
    """Keep the kernels that steps call, equal ones once."""
    known: dict[str, int] = {}
    kept: list[Any] = []
    for place, step in enumerate(plan.steps):
        if isinstance(step, KernelStep | BundleStep):
            kernel = plan.kernels[step.kernel]
            if kernel.text not in known:
                known[kernel.text] = len(kept)
                kept.append(kernel)
            plan.steps[place] = replace(step, kernel=known[kernel.text])
    plan.kernels = kept
