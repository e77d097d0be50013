"""Runs plans on a device: kernels of one module, one piece of memory, variables that stay there.

A variable that was updated on the device comes back when somebody asks for its numbers, and goes
there again only when somebody else has changed them.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np

from symgraph.backends.cuda.device import Device, Memory
from symgraph.dims import Dim
from symgraph.errors import DeviceError
from symgraph.graph.dtypes import numpy_dtype
from symgraph.graph.graph import Graph
from symgraph.graph.leaves import Shared, Storage
from symgraph.graph.node import Value
from symgraph.graph.op import Array
from symgraph.lower.cuda.kernel import Kernel, print_kernel
from symgraph.lower.cuda.module import module
from symgraph.lower.memory import Interval, plan_memory
from symgraph.lower.nest import Buffer, Nest
from symgraph.lower.plan import CheckStep, KernelStep, Plan, Target, make_plan
from symgraph.lower.program import nbytes, number
from symgraph.lower.schedule import Schedule
from symgraph.runtime.commit import held_interrupt
from symgraph.runtime.explain import explained

Env = Mapping[Dim, int]
MOST_BOUND = 16


class Resident:
    """Copies of variables on one device, by their storage."""

    def __init__(self, device: Device) -> None:
        self.device = device
        self._held: WeakKeyDictionary[Storage, tuple[Memory, int]] = WeakKeyDictionary()

    def address(self, storage: Storage) -> int:
        """Give where the newest numbers of a variable lie; they are copied there if need be."""
        memory, version = self._held.get(storage, (None, -1))
        if memory is None or version != storage.version:
            array = np.ascontiguousarray(storage.array)
            memory = memory or self.device.reserve(array.nbytes)
            self.device.upload(memory.address, array)
            self._held[storage] = memory, storage.version
        return memory.address

    def updated(self, shared: Shared) -> None:
        """Say that the newest numbers of a variable are those on the device."""
        memory, _ = self._held[shared.storage]
        shared.storage.postpone(partial(self._fetched, memory, shared))
        self._held[shared.storage] = memory, shared.storage.version

    def _fetched(self, memory: Memory, shared: Shared) -> Array:
        array = np.empty(shared.op.shape, numpy_dtype(shared.dtype))  # type: ignore[attr-defined]
        self.device.download(array, memory.address)
        return array


_residents: dict[str, Resident] = {}
_lock = threading.Lock()


def resident(device: Device) -> Resident:
    """Give the variables of a device, which all functions share."""
    with _lock:
        return _residents.setdefault(device.name, Resident(device))


class DeviceExecutor:
    """A graph compiled for a device; calls take turns."""

    name = "cuda"

    def __init__(self, graph: Graph, device: Device, guard: str = "") -> None:
        self.graph, self.device, self.guard = graph, device, guard
        self.plan: Plan | None = None
        self.broken = ""  # why no further call can be right
        self._functions: list[Any] = []
        self._bound: dict[frozenset[tuple[Dim, int]], DevicePlan] = {}

    def compile(self, env: Env) -> Plan:
        """Make the plan and its code, at nominal sizes, unless that was done."""
        if self.plan is None:

            def printed(nest: Nest, schedule: Schedule, name: str) -> Kernel:
                return print_kernel(nest, schedule, name, env)

            plan = make_plan(self.graph, env, Target(printer=printed), finite=bool(self.guard))
            names = [f"kernel{place}" for place in range(len(plan.kernels))]
            if names:
                self._functions = self.device.functions(module(plan.kernels, names), names)
            self.plan = plan
        return self.plan

    def bound(self, env: Env) -> DevicePlan:
        """Give the plan at sizes; nothing runs."""
        key = frozenset(env.items())
        if key not in self._bound:
            if len(self._bound) >= MOST_BOUND:
                self._bound.pop(next(iter(self._bound)))
            self._bound[key] = DevicePlan(self.compile(env), self._functions, env, self.device)
        return self._bound[key]

    def run(self, feeds: Mapping[Value, Array], env: Env) -> list[Array]:
        """Compute the outputs, fresh arrays, and write the updates.

        Raises `DeviceError` from then on where a step ended between two of its writes.
        """
        if self.broken:
            raise DeviceError(
                f"{self.device.name}: an earlier step ended in the middle of its updates.",
                details=[self.broken],
                fix="compile the function anew and load the variables from a checkpoint",
            )
        bound = self.bound(env)
        arrays = [np.ascontiguousarray(feeds[one]) for one in self.graph.inputs]
        with held_interrupt():
            try:
                outputs = bound.run(arrays)
            except BaseException as problem:
                if bound.writing:
                    self.broken = f"{type(problem).__name__}: {problem}"
                raise
        if outputs is None:
            return explained(self.graph, feeds, env, self.guard)
        return outputs


class DevicePlan:
    """A plan at concrete sizes on a device."""

    def __init__(self, plan: Plan, functions: Sequence[Any], env: Env, device: Device) -> None:
        self.plan, self.functions, self.env, self.device = plan, functions, dict(env), device
        self.resident = resident(device)
        self.targets = frozenset(plan.in_place.values())
        self.writing = False  # whether a step is between its first write and its last
        program, count = plan.program, len(plan.steps)
        own = list(dict.fromkeys([*program.inputs.values(), *program.constants, *program.outputs]))
        written = {one for step in plan.steps for one in step.writes}
        own += sorted(plan.fixed & written, key=lambda one: one.name)
        leaves = {*program.shared.values(), *plan.in_place.values()}
        whole = [one for one in dict.fromkeys(own) if one not in leaves]
        temporaries = plan.temporaries()
        intervals = plan.intervals(temporaries, env)
        intervals += [Interval(number(nbytes(one), env), 0, count) for one in whole]
        self.memory = plan_memory(intervals)
        self.region = device.reserve(self.memory.total)
        self.places = {
            one: self.region.address + offset
            for one, offset in zip([*temporaries, *whole], self.memory.offsets)
        }
        for one, array in program.constants.items():
            device.upload(self.places[one], np.ascontiguousarray(array))

    def run(self, arrays: Sequence[Array]) -> list[Array] | None:
        """Run once; None where a check has failed, before anything was written."""
        plan, program, device = self.plan, self.plan.program, self.device
        self.writing = False
        places = dict(self.places)
        for shared, one in program.shared.items():
            places[one] = self.resident.address(shared.storage)
        for shared, one in plan.in_place.items():
            places[one] = self.resident.address(shared.storage)
        for value, array in zip(plan.graph.inputs, arrays):
            if value in program.inputs:
                device.upload(places[program.inputs[value]], array)
        for step in plan.steps:
            if isinstance(step, CheckStep):
                holds = np.empty((), np.bool_)
                device.download(holds, places[step.condition])
                if not holds:
                    return None
            else:
                assert isinstance(step, KernelStep)  # no library is asked
                self.writing = self.writing or not self.targets.isdisjoint(step.writes)
                self._launch(step, places)
        outputs = []
        for one in program.outputs:
            shape = tuple(number(size, self.env) for size in one.shape)
            outputs.append(np.empty(shape, numpy_dtype(one.dtype)))
            device.download(outputs[-1], places[one])
        self.writing = bool(program.updates)
        for shared, new in program.updates.items():
            if shared not in plan.in_place:
                target = self.resident.address(shared.storage)
                device.copy(target, places[new], number(nbytes(new), self.env))
        for shared in program.updates:
            self.resident.updated(shared)
        self.writing = False
        return outputs

    def _launch(self, step: KernelStep, places: Mapping[Buffer, int]) -> None:
        tasks = number(step.tasks, self.env)
        if tasks:
            kernel = self.plan.kernels[step.kernel]
            words = [places[one] for one in step.buffers]
            words += [number(size, self.env) for size in step.sizes]
            blocks = kernel.blocks(tasks, self.device.most_blocks)
            function = self.functions[step.kernel]
            self.device.launch(function, blocks, kernel.threads, [*words, tasks])
