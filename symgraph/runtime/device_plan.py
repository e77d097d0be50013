"""A plan at concrete sizes on a device: its memory, and its steps as captured graphs.

Steps between two checks are a segment (`device_steps.py`); loops and branches are segments of their
own, whose bodies are captured (`device_inner.py`).

So inputs are brought into the plan's memory before steps that are recorded, and outputs copied out
of it. Steps that are not read arrays of the device where they lie, and write outputs that stay
there at once. What lives between calls, such as constants, has memory of its own;
all else is in a room that the functions of the device share (`room.py`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import accumulate
from typing import Any

import numpy as np

from symgraph.backends.cuda.calls import ALIGNED, rounded
from symgraph.backends.cuda.exchange import DeviceArray
from symgraph.config import config
from symgraph.cost.limit import memory_limit, too_large
from symgraph.graph.dtypes import itemsize, numpy_dtype
from symgraph.graph.leaves import Storage
from symgraph.lower.nest import Buffer
from symgraph.lower.plan import CheckStep, Plan, Step, parts
from symgraph.lower.program import nbytes, number
from symgraph.runtime.checks import Mark
from symgraph.runtime.device_inner import inner_steps
from symgraph.runtime.device_steps import Segment, Setting, Steps
from symgraph.runtime.foreign import Given, bring, is_plain, release
from symgraph.runtime.resident import resident
from symgraph.runtime.room import Room


class DevicePlan(Steps):
    """A plan at sizes, with its memory."""

    def __init__(self, plan: Plan, setting: Setting, mark: Mark | None) -> None:
        super().__init__(plan, setting, inner_steps(plan, setting))
        self.mark = mark
        self.resident = resident(self.device)
        self._moved: tuple[int, ...] | None = None  # where variables lay in the last call
        self._touched, self._where = -1, dict[Buffer, int]()  # and when nobody touched one since
        self._seen: list[tuple[Storage, int]] = []  # versions of which the numbers were used
        self.room: Room | None = None
        if self.tune(self._tried):
            self.room = None
            del self.region
        self.lay_out()
        if mark is not None:
            self.resident.marks.add(mark)
        self._copies = any(one not in plan.in_place for one in plan.program.updates)
        self._shapes = [
            tuple(number(size, self.env) for size in one.shape) for one in plan.program.outputs
        ]

    def lay_out(self) -> None:
        """Give everything its place, for the ways in which libraries compute now."""
        self._place(self.workspaces(), self.resident.rooms.at_least)
        self._touched, self._moved, self._rooms = -1, None, self.resident.rooms.made
        self.segments = self.segmented(cuts=self.mark is None)

    def _tried(self, needed: Mapping[int, int]) -> Mapping[Buffer, int]:
        # not the room of all: it would stay as large as what was tried needs
        self._place(needed, partial(Room, self.device))
        return self._filled(())

    def _place(self, needed: Mapping[int, int], room: Callable[[int], Room]) -> None:
        """Give every buffer its place, and steps what they work in."""
        plan, program = self.plan, self.plan.program
        leaves = {*program.shared.values(), *plan.in_place.values()}
        own = list(program.constants)
        whole = dict.fromkeys([*program.inputs.values(), *program.outputs, *self.fixed()])
        self.arrange([one for one in whole if one not in leaves and one not in own], needed)
        waits = self.mark is None and bool(program.risky)  # a byte of its own for checks inside
        sizes = [rounded(n) for n in (*map(self.size, own), self.kept_inside, int(waits))]
        self.kept = sum(sizes)
        self._require_memory()
        self.region, self.room = self.device.reserve(self.kept), room(self.memory.total)
        self.settle(self.room.address)
        *at, kept, failed = (self.region.address + n for n in accumulate([0, *sizes[:-1]]))
        self.places |= zip(own, at, strict=True)
        self.made = {one for step in plan.steps for one in step.writes} & self.places.keys()
        for one, array in program.constants.items():
            self.device.upload(self.places[one], np.ascontiguousarray(array))
        if self.mark is not None:
            failed = self.mark.address
        elif not waits:
            failed = 0
        self.settle_inner(kept, failed)

    def _require_memory(self) -> None:
        """Refuse what does not fit beside the variables, before any of it is reserved."""
        variables = {*self.plan.program.shared, *self.plan.program.updates}
        held = sum(number(math.prod(one.shape), {}) * itemsize(one.dtype) for one in variables)
        needed, limit = self.total + held, memory_limit(self.device.memory)
        if needed > limit:
            raise too_large(self.device.name, needed, limit)

    @property
    def total(self) -> int:
        """The bytes of a call, without variables."""
        return self.kept + self.memory.total

    def move(self) -> None:
        """Go where the others are, so that what this plan computed in is given back."""
        if (
            self._rooms != self.resident.rooms.made
            and self.resident.rooms.largest() is not self.room
        ):
            self.lay_out()

    def is_one_launch(self) -> bool:
        """Tell whether the next call is one launch of what is recorded, with nothing to note."""
        (first, *others) = self.segments
        same = self._touched == Storage.touched and config.capture and not self._copies
        plain = first.check is None and first.captured is not None
        return same and not others and plain

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
        if self.failed and self.mark is None:
            device.clear(self.failed, 1)
        for segment in self.segments:
            self.advance(segment, places, known, self._last(segment))
            if segment.check is not None and not self._holds(segment.check, places):
                return None
            if segment.risky and self._has_failed():
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
        for one, shape in zip(self.plan.program.outputs, self._shapes):
            if stay:
                made.append(self.device.empty(shape, one.dtype))
            else:
                made.append((np.empty(shape, numpy_dtype(one.dtype)), 0))
        return made

    def _last(self, segment: Segment) -> Callable[[], None] | None:
        """Give what comes after the steps of a segment: the mark is brought after the last."""
        if self.mark is None or segment is not self.segments[-1]:
            return None
        return self.mark.bring

    def _has_failed(self) -> bool:
        """Look whether a check inside a step has failed, when everything before is done."""
        found = np.empty((), np.bool_)
        self.device.download(found, self.failed)
        return bool(found)

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
        if self.failed and self.mark is None:
            device.clear(self.failed, 1)
        for _ in range(repeat + 1):
            try:
                for place, step in enumerate(self.plan.steps):
                    taken[place].append(device.seconds(partial(self.step, place, places)))
                    if self._refused(place, step, places):
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

    def _refused(self, place: int, step: Step, places: Mapping[Buffer, int]) -> bool:
        """Look whether a step that has run was a check that failed, or had one inside."""
        checks = [one for one in parts(step) if isinstance(one, CheckStep)]
        if checks:
            return not all(self._holds(one, places) for one in checks)
        return place in self.inner and self.inner[place].risky and self._has_failed()

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
