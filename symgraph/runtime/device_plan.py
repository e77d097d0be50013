"""A plan at concrete sizes on a device: one piece of memory, and its steps as captured graphs.

Steps between two checks are a segment. The first call runs the steps one by one; the second lets
the device record each segment, and from then on a segment is one launch. What is recorded are
addresses: where a variable has moved, segments are recorded again.

So inputs are brought into the plan's memory before steps that are recorded, and outputs copied out
of it. Steps that are not read arrays of the device where they lie, and write outputs that stay
there at once.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np

from symgraph.backends.cuda.calls import ALIGNED, concrete, empty, rounded, start
from symgraph.backends.cuda.device import Device
from symgraph.backends.cuda.exchange import DeviceArray
from symgraph.backends.cuda.interface import Routine
from symgraph.config import config
from symgraph.cost.limit import memory_limit, too_large
from symgraph.dims import Dim
from symgraph.errors import BackendError, MemoryLimitError
from symgraph.graph.dtypes import itemsize, numpy_dtype
from symgraph.graph.leaves import Storage
from symgraph.lower.memory import Interval, plan_memory
from symgraph.lower.nest import Buffer
from symgraph.lower.plan import CallStep, CheckStep, KernelStep, Plan
from symgraph.lower.program import nbytes, number
from symgraph.runtime.checks import Mark
from symgraph.runtime.foreign import Given, bring, is_plain, release
from symgraph.runtime.resident import resident
from symgraph.runtime.tuning import choose_fastest, most_workspace, recalled

Env = Mapping[Dim, int]


@dataclass
class Segment:
    """Steps that follow each other without a check, by number, and the check after them."""

    steps: list[int] = field(default_factory=list)
    check: CheckStep | None = None
    writes: bool = False  # whether they write over variables
    warm: bool = False  # whether they ran, so that modules are loaded
    captured: Any = None


class DevicePlan:
    """A plan at sizes, with its memory."""

    def __init__(
        self, plan: Plan, functions: Sequence[Any], env: Env, device: Device, tf32: bool,
        mark: Mark | None,
    ) -> None:  # fmt: skip
        self.plan, self.functions, self.env, self.device = plan, functions, dict(env), device
        self.routines: dict[int, Routine] = {}
        for place, step in enumerate(plan.steps):
            if isinstance(step, CallStep) and not empty(step.call, env):
                asked = concrete(step.call, env)
                self.routines[place] = device.libraries.prepare(*asked, tf32)
        self.resident = resident(device)
        self.writing = False  # whether a step is between its first write and its last
        self._moved: tuple[int, ...] | None = None  # where variables lay in the last call
        self._touched, self._where = -1, dict[Buffer, int]()  # and when nobody touched one since
        self._seen: list[tuple[Storage, int]] = []  # versions of which the numbers were used
        undecided = {k for k, one in self.routines.items() if not recalled(device, one)}
        if undecided:
            self._tune(undecided)
        self.lay_out()
        self.mark = mark
        if mark is not None:
            self.resident.marks.add(mark)
        self._targets = frozenset(plan.in_place.values())
        self._copies = any(one not in plan.in_place for one in plan.program.updates)
        self.segments = self._segments()

    def lay_out(self) -> None:
        """Give everything its place, for the ways in which libraries compute now."""
        self._place({k: one.workspace for k, one in self.routines.items()})
        self._touched = -1

    def _tune(self, undecided: set[int]) -> None:
        """Find the fastest ways of libraries, in memory that is then laid out anew."""
        needed = {
            k: most_workspace(one) if k in undecided else one.workspace
            for k, one in self.routines.items()
        }
        try:
            self._place(needed)
        except (BackendError, MemoryLimitError):  # then only the ways that need no more
            needed = {k: one.workspace for k, one in self.routines.items()}
            self._place(needed)
        places = self._filled(())
        for place in sorted(undecided):
            routine = self.routines[place]
            if not recalled(self.device, routine):  # the same operation may have come before
                addresses, workspace = self._operands(place, places)
                choose_fastest(self.device, routine, addresses, workspace, needed[place])
        del self.region

    def _place(self, needed: Mapping[int, int]) -> None:
        """Give every buffer its place in one piece of memory, and libraries what they work in."""
        plan, program, env = self.plan, self.plan.program, self.env
        own = list(dict.fromkeys([*program.inputs.values(), *program.constants, *program.outputs]))
        written = {one for step in plan.steps for one in step.writes}
        own += sorted(plan.fixed & written, key=lambda one: one.name)
        leaves = {*program.shared.values(), *plan.in_place.values()}
        whole = [one for one in dict.fromkeys(own) if one not in leaves]
        temporaries = plan.temporaries()
        intervals = plan.intervals(temporaries, env)
        count = len(plan.steps)
        intervals += [Interval(number(nbytes(one), env), 0, count) for one in whole]
        working = [place for place, size in needed.items() if size]
        intervals += [Interval(needed[k], k, k) for k in working]
        self.memory = plan_memory([replace(one, size=rounded(one.size)) for one in intervals])
        self._require_memory()
        self.region = self.device.reserve(self.memory.total)
        at = [self.region.address + offset for offset in self.memory.offsets]
        self.places = dict(zip([*temporaries, *whole], at))
        self.workspace = dict(zip(working, at[len(at) - len(working) :]))
        self.made = written & self.places.keys()  # by steps, in the plan's own memory
        for one, array in program.constants.items():
            self.device.upload(self.places[one], np.ascontiguousarray(array))

    def _require_memory(self) -> None:
        """Refuse what does not fit beside the variables, before any of it is reserved."""
        variables = {*self.plan.program.shared, *self.plan.program.updates}
        held = sum(number(math.prod(one.shape), {}) * itemsize(one.dtype) for one in variables)
        needed, limit = self.memory.total + held, memory_limit(self.device.memory)
        if needed > limit:
            raise too_large(self.device.name, needed, limit)

    def _segments(self) -> list[Segment]:
        """Cut the steps at checks, if the host must wait for them."""
        found = [Segment()]
        for place, step in enumerate(self.plan.steps):
            if isinstance(step, CheckStep) and self.mark is None:
                found[-1].check = step
                found.append(Segment())
            else:
                found[-1].steps.append(place)
                found[-1].writes |= not self._targets.isdisjoint(step.writes)
        return found

    def is_one_launch(self) -> bool:
        """Tell whether the next call is one launch of what is recorded, with nothing to note."""
        (first, *others) = self.segments
        same = self._touched == Storage.touched and config.capture and not self._copies
        return same and not others and first.captured is not None

    def run(self, arrays: Sequence[Given], stay: bool = False) -> list[Any] | None:
        """Run once; None where a check has failed, before anything was written.

        Outputs are of NumPy, or, if they stay, arrays of the device for the caller's stream.
        """
        self.writing, capture = False, config.capture
        if self.mark is not None:
            self.mark.report()
        steady = Storage.touched == self._touched  # now: others may write while inputs are brought
        places = self._filled(arrays, not capture, steady)
        if capture:  # they were copied
            release(self.device, arrays)
        try:
            return self._run(places, stay, capture, steady)
        except BaseException as problem:
            self._ended(problem)
            raise
        finally:
            if not capture:
                release(self.device, arrays)

    def _run(
        self, places: dict[Buffer, int], stay: bool, capture: bool, steady: bool
    ) -> list[Any] | None:
        plan, program, device = self.plan, self.plan.program, self.device
        caller, outputs = device.caller() if stay else 0, self._outputs(stay)
        if stay:
            device.follow(caller)  # it may still use what the memory of outputs was before
            for one, (_, address) in zip(program.outputs, () if capture else outputs):
                if one in self.made and places[one] == self.places[one]:
                    places[one] = address
        if not steady:
            leaves = (*program.shared.values(), *plan.in_place.values())
            moved = tuple(places[one] for one in leaves)
            known, self._moved = capture and moved == self._moved, moved
        else:
            known = capture
        for segment in self.segments:
            self._advance(segment, places, known)
            if segment.check is not None and not self._holds(segment.check, places):
                return None
        for one, (array, address) in zip(program.outputs, outputs):
            if not stay:
                device.download(array, places[one])
            elif address != places[one]:
                device.copy(address, places[one], number(nbytes(one), self.env))
        if self.mark is not None and outputs and not stay and self.mark.seen():
            return None
        self.writing = bool(program.updates)
        for shared, new in program.updates.items():
            if shared not in plan.in_place:
                target = self.resident.address(shared.storage)
                device.copy(target, places[new], number(nbytes(new), self.env))
        if not steady:
            self._note_updates()
        self.writing = False
        if stay:
            device.lead(caller)
        return [array for array, _ in outputs]

    def _ended(self, problem: BaseException) -> None:
        """Look whether a check had failed when a step ended early: then it wrote nothing."""
        if self.mark is not None and self.mark.tell(problem):
            self.writing = False

    def _note_updates(self) -> None:
        """Say that variables are newest here; till somebody touches one, that stays so."""
        before = Storage.touched
        alone = all(storage.version == version for storage, version in self._seen)
        for shared in self.plan.program.updates:
            self.resident.updated(shared)
        alone = alone and Storage.touched - before == len(self.plan.program.updates)
        self._touched = Storage.touched if alone else -1

    def _outputs(self, stay: bool) -> list[tuple[Any, int]]:
        """Make the arrays of a call's outputs, and tell where those of the device lie."""
        made: list[tuple[Any, int]] = []
        for one in self.plan.program.outputs:
            shape = tuple(number(size, self.env) for size in one.shape)
            if stay:
                made.append(self.device.empty(shape, one.dtype))
            else:
                made.append((np.empty(shape, numpy_dtype(one.dtype)), 0))
        return made

    def _holds(self, check: CheckStep, places: Mapping[Buffer, int]) -> bool:
        holds = np.empty((), np.bool_)
        self.device.download(holds, places[check.condition])
        return bool(holds)

    def timed(self, arrays: Sequence[Given], repeat: int) -> list[list[float]] | None:
        """Give the seconds of each step, `repeat` times; variables are as before afterwards.

        None where a check has failed.
        """
        device = self.device
        if self.mark is not None:
            device.settle()
            self.mark.report()
        places = self._filled(arrays)
        release(device, arrays)
        written = {
            places[one]: number(nbytes(one), self.env) for one in self.plan.in_place.values()
        }
        kept = {at: device.reserve(size) for at, size in written.items()}
        taken: list[list[float]] = [[] for _ in self.plan.steps]
        for at, memory in kept.items():
            device.copy(memory.address, at, written[at])
        for _ in range(repeat + 1):
            try:
                for place, step in enumerate(self.plan.steps):
                    taken[place].append(device.seconds(partial(self._step, place, places)))
                    if isinstance(step, CheckStep) and not self._holds(step, places):
                        if self.mark is not None:
                            self.mark.clear()
                        return None
            except BaseException as problem:
                self._ended(problem)
                raise
            finally:
                for at, memory in kept.items():
                    device.copy(at, memory.address, written[at])
        return [each[1:] for each in taken]

    def _filled(
        self, arrays: Sequence[Given], direct: bool = False, steady: bool = False
    ) -> dict[Buffer, int]:
        """Bring inputs to their places and tell where every buffer is."""
        plan, program = self.plan, self.plan.program
        if not steady:
            self._where = dict(self.places)
            for shared in program.updates:  # memory is asked for before anything is written
                self.resident.address(shared.storage)
            for shared, one in (*program.shared.items(), *plan.in_place.items()):
                self._where[one] = self.resident.address(shared.storage)
            leaves = dict.fromkeys((*program.shared, *program.updates))
            self._seen = [(one.storage, one.storage.version) for one in leaves]
        places = dict(self._where) if direct else self._where
        for value, array in zip(plan.graph.inputs, arrays):
            if value in program.inputs:
                one = program.inputs[value]
                places[one] = self._brought(array, one, places[one], direct)
        return places

    def _brought(self, array: Given, one: Buffer, place: int, direct: bool) -> int:
        """Bring an input to its place, unless it can be read where it lies; tell where it is."""
        if not isinstance(array, DeviceArray):
            self.device.upload(place, array)
        elif direct and is_plain(array, one.dtype) and array.address % ALIGNED == 0 < array.nbytes:
            return array.address
        else:
            bring(self.device, place, array, one.dtype)
        return place

    def _advance(self, segment: Segment, places: Mapping[Buffer, int], known: bool) -> None:
        """Run a segment: step by step, or, where nothing has moved, as it was recorded."""

        def work() -> None:
            for place in segment.steps:
                self._step(place, places)
            if self.mark is not None:
                self.mark.bring()

        if not segment.steps:
            return
        if not known or not segment.warm or not config.capture:
            segment.captured = None
            work()
            segment.warm = True
            return
        if segment.captured is None:
            segment.captured = self.device.capture(work)
        self.writing = self.writing or segment.writes
        self.device.replay(segment.captured)

    def _step(self, place: int, places: Mapping[Buffer, int]) -> None:
        step = self.plan.steps[place]
        self.writing = self.writing or not self._targets.isdisjoint(step.writes)
        if isinstance(step, KernelStep):
            self._launch(step, self.functions[place], places)
        elif isinstance(step, CheckStep) and self.mark is not None:
            words = [places[step.condition], self.mark.address]
            self.device.launch(self.functions[place], 1, 1, words)
        elif isinstance(step, CallStep) and place in self.routines:
            self.device.call(self.routines[place], *self._operands(place, places))

    def _operands(self, place: int, places: Mapping[Buffer, int]) -> tuple[list[int], int]:
        """Give where the operands of a library call lie, its result, and what it works in."""
        step = self.plan.steps[place]
        assert isinstance(step, CallStep)
        addresses = [places[one.buffer] + start(one, self.env) for one in step.call.sources]
        addresses.append(places[step.call.writes[0]])
        return addresses, self.workspace.get(place, 0)

    def _launch(self, step: KernelStep, function: Any, places: Mapping[Buffer, int]) -> None:
        tasks = number(step.tasks, self.env)
        if tasks:
            kernel = self.plan.kernels[step.kernel]
            words = [places[one] for one in step.buffers]
            words += [number(size, self.env) for size in step.sizes]
            blocks = kernel.blocks(tasks, self.device.most_blocks)
            words.append(tasks)
            if kernel.held and self.mark is not None:
                words.append(self.mark.address)
            self.device.launch(function, blocks, kernel.threads, words)
