"""Runs plans on the CPU: kernels as native functions, buffers in one arena, a step as one call.

A plan is made at the first call, at whose sizes it is also optimised; every further size only
places buffers and fills in arguments.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from symgraph.backends.cpu.calls import Array as ArrayAt
from symgraph.backends.cpu.calls import Prepared, prepare, takes
from symgraph.backends.cpu.compiler import Library, compile_text, fingerprint
from symgraph.backends.cpu.driver import CALL, CHECK, CLEAR, COPY, KERNEL, WORDS, driver
from symgraph.backends.cpu.onednn.calls import Call
from symgraph.backends.cpu.threads import usable_cores
from symgraph.dims import Dim, Size
from symgraph.errors import BackendError
from symgraph.graph.dtypes import itemsize, numpy_dtype
from symgraph.graph.graph import Graph
from symgraph.graph.leaves import Shared
from symgraph.graph.node import Value
from symgraph.graph.op import Array
from symgraph.lower.carry import carry
from symgraph.lower.llvm.module import module
from symgraph.lower.memory import Interval, plan_memory
from symgraph.lower.nest import Buffer
from symgraph.lower.plan import KERNEL as NAME
from symgraph.lower.plan import CallStep, KernelStep, Plan, make_plan
from symgraph.lower.program import Operand, nbytes, number, operand
from symgraph.runtime.arena import Arena
from symgraph.runtime.cache import default_cache, key
from symgraph.runtime.interpreted import InterpretedExecutor

GRAIN = 1 << 16  # scalar operations that are worth a thread
MOST_BOUND = 16


class NativeExecutor:
    """A graph compiled for this CPU; calls take turns."""

    name = "cpu"

    def __init__(self, graph: Graph, narrow: bool = False) -> None:
        self.graph, self.carried = carry(graph)
        self.narrow = narrow
        self._versions: dict[Shared, tuple[Any, int]] = {}
        self.plan: Plan | None = None
        self.arena = Arena()
        self._library: Library | None = None
        self._bound: dict[tuple[int, ...], BoundPlan] = {}

    def run(self, feeds: Mapping[Value, Array], env: Mapping[Dim, int]) -> list[Array]:
        """Compute the outputs, fresh arrays, and write the updates."""
        key = tuple(env.values())
        bound = self._bound.get(key)
        if bound is None:
            bound = self._bind(env)
            if len(self._bound) >= MOST_BOUND:
                self._bound.pop(next(iter(self._bound)))
            self._bound[key] = bound
        self._renew()
        outputs = bound.run(feeds)
        for source in self.carried.values():
            self._versions[source] = source.storage.array, source.storage.version
        return outputs

    def _renew(self) -> None:
        """Make copies of variables anew that were changed by others since the last call."""
        for copy, source in self.carried.items():
            array, version = self._versions.get(source, (None, -1))
            if source.storage.array is not array or source.storage.version != version:
                copy.storage.array[...] = source.storage.array

    def compile(self, env: Mapping[Dim, int]) -> Plan:
        """Make the plan and its code, at nominal sizes, unless that was done."""
        if self.plan is None:
            plan = make_plan(self.graph, env, lambda value: takes(value, env), self.narrow)
            names = [f"{NAME}{number}" for number in range(len(plan.kernels))]
            self._library = Library(_object_code(module(plan.kernels, names)), names)
            self.plan = plan
        return self.plan

    def _bind(self, env: Mapping[Dim, int]) -> BoundPlan:
        plan = self.compile(env)
        assert self._library is not None  # made with the plan
        return BoundPlan(plan, self._library, env, self.arena)


def _object_code(text: str) -> bytes:
    """Give the object code of a module: from the disk cache, or compiled and put there."""
    cache, name = default_cache(), key(fingerprint(), text)
    code = cache.get(name)
    if code is None:
        code = compile_text(text)
        cache.put(name, code)
    return code


class BoundPlan:
    """A plan at concrete sizes: addresses and sizes filled in, what moves between calls known."""

    def __init__(self, plan: Plan, library: Library, env: Mapping[Dim, int], arena: Arena) -> None:
        self.plan, self.arena, self.env = plan, arena, dict(env)
        calls = {step: self._prepared(step) for step in plan.steps if isinstance(step, CallStep)}
        self._plan_memory(calls)
        words = _Words()
        records: list[list[int]] = []
        self.calls: list[tuple[Call, dict[str, tuple[Buffer | int, int]]]] = []
        self.pointed: dict[Buffer, list[int]] = {}
        for place, step in enumerate(plan.steps):
            if isinstance(step, KernelStep):
                start = words.add(step.buffers, [number(size, env) for size in step.sizes])
                tasks = number(step.tasks, env)
                threads = min(usable_cores(), tasks, 1 + number(step.work, env) // GRAIN)
                address = library.addresses[f"{NAME}{step.kernel}"]
                records.append([KERNEL, address, start, tasks, max(threads, 1), 0])
            elif isinstance(step, CallStep):
                self._bind_call(place, step, calls[step], records)
            else:
                self.pointed.setdefault(step.condition, []).append(len(records))
                records.append([CHECK, 0, 0, 0, 0, 0])
        self.copies: list[tuple[Shared, Buffer]] = []
        for shared, new in plan.program.updates.items():
            if shared not in plan.in_place:
                self.copies.append((shared, new))
                records.append([COPY, 0, 0, number(nbytes(new), env), 0, 0])
        self.words = np.array(words.values or [0], np.int64)
        self.records = np.array(records, np.int64).reshape(len(records), WORDS)
        kernels = self.records[:, 0] == KERNEL
        self.records[kernels, 2] = self.words.ctypes.data + 8 * self.records[kernels, 2]
        self.slots = {one: np.array(places, np.intp) for one, places in words.slots.items()}
        self.results = [
            (one, tuple(number(size, env) for size in one.shape), numpy_dtype(one.dtype))
            for one in plan.program.outputs
        ]
        self.held = [(one, np.ascontiguousarray(a)) for one, a in plan.program.constants.items()]
        self._address = self.records.ctypes.data

    # -- binding -----------------------------------------------------------------------------------

    def _array(self, one: Operand) -> ArrayAt:
        def numbers(sizes: Iterable[Size]) -> tuple[int, ...]:
            return tuple(number(size, self.env) for size in sizes)

        return ArrayAt(numbers(one.shape), one.buffer.dtype, numbers(one.strides))

    def _prepared(self, step: CallStep) -> Prepared:
        call = step.call
        arrays = [self._array(one) for one in call.sources]
        return prepare(call.value.op.at(self.env), arrays, self._array(operand(call.writes[0])))

    def _plan_memory(self, calls: Mapping[CallStep, Prepared]) -> None:
        """Give temporaries, and the scratch memory of library calls, their places."""
        plan = self.plan
        temporaries = plan.temporaries()
        intervals = plan.intervals(temporaries, self.env)
        scratch: list[tuple[int, int]] = []
        for place, step in enumerate(plan.steps):
            if isinstance(step, CallStep):
                for count, size in enumerate(calls[step].scratch):
                    intervals.append(Interval(size, place, place))
                    scratch.append((place, count))
        self.memory = plan_memory(intervals)
        offsets = list(self.memory.offsets)
        self.offsets = dict(zip(temporaries, offsets))
        self.scratch = dict(zip(scratch, offsets[len(temporaries) :]))
        self.arena.reserve(self.memory.total)
        self.base = -1

    def _bind_call(
        self,
        place: int,
        step: CallStep,
        prepared: Prepared,
        records: list[list[int]],
    ) -> None:
        """Make the records of a library call."""
        operands = [*step.call.sources, operand(step.call.writes[0])]
        if prepared.clear:
            size = number(nbytes(step.call.writes[0]), self.env)
            self.pointed.setdefault(step.call.writes[0], []).append(len(records))
            records.append([CLEAR, 0, 0, size, 0, 0])
        for use in prepared.uses:
            arguments = use.primitive.arguments
            call = use.primitive.bind({role: (arguments[role], 0) for role in use.roles})
            where: dict[str, tuple[Buffer | int, int]] = {}
            for role, which in use.roles.items():
                if which < len(operands):
                    own = operands[which]
                    start = number(own.offset, self.env) * itemsize(own.buffer.dtype)
                    where[role] = (own.buffer, start)
                else:
                    where[role] = (self.scratch[place, which - len(operands)], 0)
            self.calls.append((call, where))
            execute, *_ = map(int, call.record)
            records.append([CALL, execute, call.record.ctypes.data + 8, 0, 0, 0])

    # -- running -----------------------------------------------------------------------------------

    def _place(self) -> None:
        """Fill in the addresses that stay: those of temporaries, constants and scratch memory."""
        self.base = self.arena.address
        self.at = {one: self.base + offset for one, offset in self.offsets.items()}
        self.at.update((one, array.ctypes.data) for one, array in self.held)
        for one, address in self.at.items():
            self._write(one, address)
        self.moving: dict[Buffer, list[tuple[Call, str, int]]] = {}
        for call, where in self.calls:
            for role, (which, start) in where.items():
                if isinstance(which, int):
                    call.rebind(role, self.base + which + start)
                elif which in self.at:
                    call.rebind(role, self.at[which] + start)
                else:
                    self.moving.setdefault(which, []).append((call, role, start))
        program = self.plan.program
        self.inputs = [(v, b) for v, b in program.inputs.items()]
        self.shared = [(s, b) for s, b in (*program.shared.items(), *self.plan.in_place.items())]

    def _write(self, one: Buffer, address: int) -> None:
        if one in self.slots:
            self.words[self.slots[one]] = address
        if one in self.pointed:
            self.records[self.pointed[one], 1] = address

    def _point(self, one: Buffer, address: int) -> None:
        """Fill in an address that changes between calls."""
        if self.at.get(one) == address:
            return
        self.at[one] = address
        self._write(one, address)
        for call, role, start in self.moving.get(one, ()):
            call.rebind(role, address + start)

    def run(self, feeds: Mapping[Value, Array]) -> list[Array]:
        """Run once."""
        if self.base != self.arena.address:
            self._place()
        alive = []
        for value, one in self.inputs:
            array = np.ascontiguousarray(feeds[value])
            alive.append(array)
            self._point(one, array.ctypes.data)
        for shared, one in self.shared:
            self._point(one, shared.storage.array.ctypes.data)
        outputs = [np.empty(shape, dtype) for _, shape, dtype in self.results]
        for (one, _, _), array in zip(self.results, outputs):
            self._point(one, array.ctypes.data)
        count = len(self.records)
        for row, (shared, new) in enumerate(self.copies, count - len(self.copies)):
            self.records[row, 1] = shared.storage.array.ctypes.data
            self.records[row, 2] = self.at[new]
        failed = driver().run(self._address, count)
        if failed and self.records[failed - 1, 0] == CHECK:
            InterpretedExecutor(self.plan.graph).run(feeds, self.env)  # raises, and says what
            raise BackendError("native: a check of the step failed that the reference accepts.")
        if failed:
            raise BackendError(f"native: record {failed - 1} of the step failed in the library.")
        for shared in self.plan.program.updates:
            shared.storage.replace(shared.storage.array)
        return outputs


class _Words:
    """The arguments of all kernels in one list, and where each buffer's address stands in it."""

    def __init__(self) -> None:
        self.values: list[int] = []
        self.slots: dict[Buffer, list[int]] = {}

    def add(self, buffers: Iterable[Buffer], numbers: Iterable[int]) -> int:
        """Add the arguments of one kernel; give where they start."""
        start = len(self.values)
        for one in buffers:
            self.slots.setdefault(one, []).append(len(self.values))
            self.values.append(0)
        self.values.extend(numbers)
        return start
