"""Runs plans on the CPU: kernels as native functions, buffers in one arena, a step as one call.

A plan is made at the first call, at whose sizes it is also optimised; every further size only
places buffers and fills in arguments.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from symgraph.backends.arrays import concrete_array
from symgraph.backends.cpu import host, raw
from symgraph.backends.cpu.calls import prepare, reads, takes
from symgraph.backends.cpu.compiler import Library, compile_text, fingerprint, has_masks
from symgraph.backends.cpu.driver import CALL, CHECK, CLEAR, COPY, KERNEL, WORDS, driver
from symgraph.backends.cpu.interface import Call, Prepared
from symgraph.backends.cpu.threads import library_default, library_threads, thread_count
from symgraph.dims import Dim
from symgraph.errors import BackendError
from symgraph.graph.body import Body, nested
from symgraph.graph.dtypes import itemsize, numpy_dtype
from symgraph.graph.graph import Graph
from symgraph.graph.leaves import Shared
from symgraph.graph.node import Value
from symgraph.graph.onhost import on_host
from symgraph.graph.op import Array, Op
from symgraph.graph.rawkernel import has_kernel
from symgraph.lower.carry import carry
from symgraph.lower.llvm.kernel import print_kernel
from symgraph.lower.llvm.module import module
from symgraph.lower.memory import Interval, plan_memory
from symgraph.lower.nest import Buffer
from symgraph.lower.plan import KERNEL as NAME
from symgraph.lower.plan import CallStep, CheckStep, KernelStep, Plan, Target, make_plan
from symgraph.lower.program import nbytes, number, operand
from symgraph.runtime import inner
from symgraph.runtime.arena import HUGE, Arena, aligned, room, trim, unfilled
from symgraph.runtime.cache import default_cache, key
from symgraph.runtime.explain import explained
from symgraph.runtime.ports import Port, Words, address_of, is_moved

GRAIN = 1 << 16  # scalar operations that are worth a thread
SMALL_STEP = 250e-6  # seconds; a shorter step runs on the calling thread alone
CALLED, GENERATED = (
    1e-11,
    1e-10,
)  # seconds, about, of an operation in a library call and in a kernel
MOST_BOUND = 16


class NativeExecutor:
    """A graph compiled for this CPU; calls take turns."""

    name = "cpu"

    def __init__(
        self, graph: Graph, narrow: bool = False, guard: str = "", threads: int | None = None
    ) -> None:
        self.graph, self.carried = carry(graph)
        self.narrow, self.guard, self.threads = narrow, guard, threads
        self._versions: dict[Shared, tuple[Any, int]] = {}
        self.plan: Plan | None = None
        self.staying: frozenset[Value] = frozenset()  # inputs that are the same in every call
        self.arena = Arena()
        self._library: Library | None = None
        self._kept: Kept = {}
        self._inner: dict[tuple[Body, frozenset[Value]], NativeExecutor] = {}
        self._bound: dict[tuple[int, frozenset[tuple[Dim, int]]], BoundPlan] = {}
        self.last: BoundPlan | None = None

    def run(self, feeds: Mapping[Value, Array], env: Mapping[Dim, int]) -> list[Array]:
        """Compute the outputs, fresh arrays, and write the updates."""
        self.last = bound = self.bound(env)
        return self.again(bound, [np.asarray(feeds[one], order="C") for one in self.graph.inputs])

    def again(self, bound: BoundPlan, arrays: Sequence[Array]) -> list[Array]:
        """Run a bound plan on C-contiguous arrays of its sizes, in the order of the inputs."""
        if not self.carried:
            return bound.run(arrays)
        self._renew()
        outputs = bound.run(arrays)
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
            printer = partial(print_kernel, masks=has_masks())
            target = Target(
                lambda value: takes(value, env), reads, printer, rows=True, turns=True, over=True
            )
            plan = make_plan(self.graph, env, target, self.narrow, bool(self.guard), self.staying)
            names = [f"{NAME}{number}" for number in range(len(plan.kernels))]
            self._library = Library(_object_code(module(plan.kernels, names)), names)
            self.plan = plan
            for step in plan.steps:
                if isinstance(step, CallStep):
                    op = step.call.value.op
                    for body in nested(op):
                        self._inside(op, body).compile(env)
        return self.plan

    def _inside(self, op: Op, body: Body) -> NativeExecutor:
        """Give what compiles a graph inside an operation."""
        key = body, inner.staying(op, body)
        if key not in self._inner:
            made = NativeExecutor(Graph(body.inputs, body.outputs), self.narrow)
            made.staying = key[1]
            self._inner[key] = made
        return self._inner[key]

    def _bind(self, env: Mapping[Dim, int], threads: int) -> BoundPlan:
        plan = self.compile(env)
        assert self._library is not None  # made with the plan
        return BoundPlan(
            plan, self._library, env, self.arena, self._kept, threads, self.guard, self._body
        )

    def _body(
        self, op: Op, body: Body, env: Mapping[Dim, int], threads: int, place: Any
    ) -> BoundPlan:
        """Give the plan of a graph inside an operation, for memory that somebody else holds."""
        made = self._inside(op, body)
        plan = made.compile(env)
        assert made._library is not None  # made with the plan
        return BoundPlan(plan, made._library, env, place, {}, threads, "", made._body, True)

    def bound(self, env: Mapping[Dim, int]) -> BoundPlan:
        """Give the plan at sizes, for as many threads as hold now; nothing runs."""
        threads = thread_count(self.threads)
        key = threads, frozenset(env.items())
        if key not in self._bound:
            if len(self._bound) >= MOST_BOUND:
                self._bound.pop(next(iter(self._bound)))
            self._bound[key] = self._bind(env, threads)
        return self._bound[key]

    def close(self) -> None:
        """Forget everything but the code."""
        self._bound.clear()
        self._kept.clear()
        self.last, self.arena = None, Arena()


def _object_code(text: str) -> bytes:
    """Give the object code of a module: from the disk cache, or compiled and put there."""
    cache, name = default_cache(), key(fingerprint(), text)
    code = cache.get(name)
    if code is None:
        code = compile_text(text)
        cache.put(name, code)
    return code


# What stays between calls: fixed buffers, and copies of them as a primitive wants them.
Kept = dict[Any, Array]


class BoundPlan:
    """A plan at concrete sizes: addresses and sizes filled in, what moves between calls known."""

    def __init__(
        self,
        plan: Plan,
        library: Library,
        env: Mapping[Dim, int],
        arena: Arena,
        kept: Kept,
        threads: int,
        guard: str,
        body: Callable[[Op, Body, Mapping[Dim, int], int, Any], BoundPlan],
        inside: bool = False,
    ) -> None:
        self.plan, self.arena, self.env, self.guard = plan, arena, dict(env), guard
        self.kept, self.body = kept, body
        self.threads = 1 if not inside and self._is_small() else threads
        self.unusual = self.threads != library_default()  # the library is told before each call
        with library_threads(self.threads):
            self._bind(library)

    def _is_small(self) -> bool:
        """Tell whether a step with library calls is over before threads have met a few times."""
        seconds, called = 0.0, False
        for step in self.plan.steps:
            if isinstance(step, CallStep):
                seconds, called = seconds + number(step.work, self.env) * CALLED, True
            elif isinstance(step, KernelStep):
                seconds += number(step.work, self.env) * GENERATED
        return called and seconds < SMALL_STEP

    def _bind(self, library: Library) -> None:
        plan, env = self.plan, self.env
        self._asked: dict[CallStep, Prepared] = {}  # once: settings may be others later
        calls = {step: self._prepared(step) for step in plan.steps if isinstance(step, CallStep)}
        self._plan_memory(calls)
        words = Words()
        records: list[list[int]] = []
        self.calls: list[tuple[Call, dict[str, tuple[Buffer | int | Array, int]]]] = []
        self.pointed: dict[Buffer, list[int]] = {}
        for place, step in enumerate(plan.steps):
            if isinstance(step, KernelStep):
                start = words.add(step.buffers, [number(size, env) for size in step.sizes])
                tasks = number(step.tasks, env)
                threads = min(self.threads, tasks, 1 + number(step.work, env) // GRAIN)
                address = library.addresses[f"{NAME}{step.kernel}"]
                fixed = int(plan.fixed.issuperset(step.writes))
                records.append([KERNEL, address, start, tasks, max(threads, 1), fixed])
            elif isinstance(step, CallStep):
                self._bind_call(place, step, calls[step], records)
            elif isinstance(step, CheckStep):
                self.pointed.setdefault(step.condition, []).append(len(records))
                records.append([CHECK, 0, 0, 0, 0, 0])
        self.copies: list[tuple[Shared, Buffer]] = []
        for shared, new in plan.program.updates.items():
            if shared not in plan.in_place:
                self.copies.append((shared, new))
                records.append([COPY, 0, 0, number(nbytes(new), env), 0, 0])
        self.targets: list[tuple[Shared, int]] = []
        self.words = np.array(words.values or [0], np.int64)
        self.records = np.array(records, np.int64).reshape(len(records), WORDS)
        kernels = self.records[:, 0] == KERNEL
        self.records[kernels, 2] = self.words.ctypes.data + 8 * self.records[kernels, 2]
        self.slots = words.slots
        driver().check_process()
        self.driver, self.repeat = driver().run, driver().repeat
        leaves = [s for s, one in plan.program.shared.items() if one in plan.fixed]
        self.leaves = [s.storage for s in leaves] if self.records[:, 5].any() else []
        self.seen: list[tuple[Any, int]] = []
        self.count = len(self.records)
        self.plain = not self.leaves and not (self.calls and self.unusual)
        self.held = [(one, np.ascontiguousarray(a)) for one, a in plan.program.constants.items()]
        self._address = self.records.ctypes.data

    # -- binding -----------------------------------------------------------------------------------

    def _prepared(self, step: CallStep) -> Prepared:
        if step not in self._asked:
            call = step.call
            arrays = [concrete_array(one, self.env) for one in call.sources]
            results = [concrete_array(operand(one), self.env) for one in call.writes]
            fixed = [one.buffer in self.plan.fixed for one in call.sources]
            op = call.value.op.at(self.env)
            if nested(op):
                # plans belong to the body as it was written; its sizes here are those around it
                whole = call.value.op
                bodies = dict(zip(nested(op), nested(whole)))
                self._asked[step] = inner.prepare(
                    op, arrays, results,
                    lambda one, place: self.body(whole, bodies[one], self.env, self.threads, place),
                )  # fmt: skip
            elif has_kernel(call.value, raw.LANGUAGE):
                self._asked[step] = raw.prepare(op, arrays, results, self.threads)
            elif on_host(call.value):
                self._asked[step] = host.prepare(op, arrays, results)
            else:
                self._asked[step] = prepare(op, arrays, results[0], fixed, self.threads)
        return self._asked[step]

    def _reordered(self, step: CallStep, prepared: Prepared) -> dict[int, Array]:
        """Give memory of its own to what the reorders of fixed operands write, by its number."""
        found: dict[int, Array] = {}
        for use in prepared.uses:
            source = use.roles.get("src", len(step.call.sources))
            if use.primitive.name != "reorder" or source >= len(step.call.sources):
                continue
            own, wanted = step.call.sources[source], use.primitive.arguments["dst"]
            if own.buffer in self.plan.fixed:
                key = (
                    own.buffer,
                    concrete_array(own, self.env),
                    number(own.offset, self.env),
                    wanted.key,
                )
                if key not in self.kept:
                    self.kept[key] = room(wanted.size)
                found[use.roles["dst"]] = self.kept[key]
        return found

    def _plan_memory(self, calls: Mapping[CallStep, Prepared]) -> None:
        """Give temporaries, and the scratch memory of library calls, their places."""
        plan = self.plan
        temporaries = plan.temporaries()
        intervals = plan.intervals(temporaries, self.env)
        scratch: list[tuple[int, int]] = []
        for place, step in enumerate(plan.steps):
            if isinstance(step, CallStep):
                own = self._reordered(step, calls[step])
                first = len(step.call.sources) + len(step.call.writes)
                for count, size in enumerate(calls[step].scratch):
                    if first + count not in own:
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
        operands = [*step.call.sources, *map(operand, step.call.writes)]
        reordered = self._reordered(step, prepared)
        whole = self.plan.fixed.issuperset(step.writes)
        if prepared.clear:
            size = number(nbytes(step.call.writes[0]), self.env)
            self.pointed.setdefault(step.call.writes[0], []).append(len(records))
            records.append([CLEAR, 0, 0, size, 0, 0])
        for use in prepared.uses:
            arguments = use.primitive.arguments
            call = use.primitive.bind({role: (arguments[role], 0) for role in use.roles})
            where: dict[str, tuple[Buffer | int | Array, int]] = {}
            for role, which in use.roles.items():
                if which < len(operands):
                    own = operands[which]
                    start = number(own.offset, self.env) * itemsize(own.buffer.dtype)
                    where[role] = (own.buffer, start)
                elif which in reordered:
                    where[role] = (reordered[which], 0)
                else:
                    where[role] = (self.scratch[place, which - len(operands)], 0)
            self.calls.append((call, where))
            execute, *_ = map(int, call.record)
            fixed = int(whole or use.roles.get("dst", -1) in reordered)
            records.append([CALL, execute, call.record.ctypes.data + 8, 0, 0, fixed])

    # -- running -----------------------------------------------------------------------------------

    def place(self) -> None:
        """Fill in the addresses that stay: those of temporaries, constants and scratch memory."""
        self.base = self.arena.address
        ports: dict[Buffer, Port] = {}
        program = self.plan.program
        for one in {*self.slots, *self.pointed, *self.offsets, *program.outputs}:
            ports[one] = Port(self.words, self.slots.get(one, ()), self.records)
            ports[one].rows.extend(self.pointed.get(one, ()))
        for call, where in self.calls:
            for role, (which, start) in where.items():
                if isinstance(which, int):
                    call.rebind(role, self.base + which + start)
                elif isinstance(which, np.ndarray):
                    call.rebind(role, address_of(which))
                else:
                    port = ports.setdefault(which, Port(self.words, (), self.records))
                    port.calls.append((call, role, start))
        self.targets = []
        for row, (shared, new) in enumerate(self.copies, len(self.records) - len(self.copies)):
            ports[new].sources.append(row)
            self.targets.append((shared, row))
        for one, offset in self.offsets.items():
            ports[one].point(self.base + offset)
        written = {one for step in self.plan.steps for one in step.writes}
        for one in written & self.plan.fixed:
            if one not in self.kept:
                self.kept[one] = room(number(nbytes(one), self.env))
            ports.setdefault(one, Port(self.words, (), self.records))
            ports[one].point(address_of(self.kept[one]))
        for one, array in self.held:
            if one in ports:
                ports[one].point(address_of(array))
        self.inputs = [ports.get(program.inputs[v]) for v in self.plan.graph.inputs]
        self.shared = [
            (shared, ports[one])
            for shared, one in (*program.shared.items(), *self.plan.in_place.items())
            if one in ports
        ]
        self.outputs = [
            (
                ports[one],
                concrete_array(operand(one), self.env).dims,
                numpy_dtype(one.dtype),
                one in self.plan.streamed,
            )
            for one in program.outputs
        ]
        self.updated = [shared.storage for shared in program.updates]

    def _align(self) -> None:
        """Move variables to where vectors do not cross lines; have the old memory given back."""
        moved = [shared.storage for shared, _ in self.shared if is_moved(shared.storage.array)]
        large = sum(storage.array.nbytes for storage in moved) >= HUGE
        if large:
            trim()
        for storage in moved:
            storage.array = aligned(storage.array)
        if large:
            trim()

    def held_bytes(self) -> int:
        """Count the bytes of what is computed once and stays: fixed results, reordered weights."""
        written = {one for step in self.plan.steps for one in step.writes} & self.plan.fixed
        wheres = (which for _, where in self.calls for which, _ in where.values())
        reordered = {id(which): which.nbytes for which in wheres if isinstance(which, np.ndarray)}
        own = sum(number(nbytes(one), self.env) for one in written) + sum(reordered.values())
        used = [use.primitive for each in self._asked.values() for use in each.uses]
        bodies = [one for each in used if isinstance(each, inner.Routine) for one in each.inside]
        return own + sum(body.held_bytes() for body in bodies)

    def fill(self, arrays: Sequence[Array]) -> list[Array]:
        """Fill in the addresses of a call; give its outputs, which are not computed yet."""
        if self.base != self.arena.address:
            self.arena.reserve(self.memory.total)  # a larger plan may have found no memory
            self.place()
            self._align()
        for port, array in zip(self.inputs, arrays):
            if port is not None:
                port.point(address_of(array))
        for shared, port in self.shared:
            if is_moved(shared.storage.array):
                shared.storage.array = aligned(shared.storage.array)
            port.point(address_of(shared.storage.array))
        outputs = []
        for port, shape, dtype, streamed in self.outputs:
            array = unfilled(shape, dtype) if streamed else np.empty(shape, dtype)
            port.point(address_of(array))
            outputs.append(array)
        for shared, row in self.targets:
            self.records[row, 1] = address_of(shared.storage.array)
        return outputs

    def run(self, arrays: Sequence[Array]) -> list[Array]:
        """Run once, on C-contiguous arrays for the inputs in their order."""
        outputs = self.fill(arrays)
        if self.plain:
            failed = self.driver(self._address, self.count)
        else:
            failed = self._walk()
        problem, users = host.problem()
        if failed and users and problem is not None:
            raise problem  # such operations run before anything is written
        if failed:
            self._failed(failed - 1, problem)
            feeds = dict(zip(self.plan.graph.inputs, arrays))
            return explained(self.plan.graph, feeds, self.env, self.guard)
        for storage in self.updated:
            storage.written()
        if problem is not None:
            raise problem
        return outputs

    def _failed(self, record: int, problem: BaseException | None) -> None:
        """Raise what a record failed with, unless that is for the reference to say."""
        refused = self.plan.program.risky or self.records[record, 0] == CHECK
        if problem is not None or not refused:
            raise BackendError(
                f"native: record {record} of the step failed"
                + (f": {type(problem).__name__}: {problem}" if problem else " in the library."),
                fix="go on from the last checkpoint: variables may be half written",
            ) from problem

    def _walk(self) -> int:
        """Run the records: without fixed ones where their variables are those of the last call."""
        now = [(leaf.array, leaf.version) for leaf in self.leaves]
        same = len(now) == len(self.seen) > 0 and all(
            a is b and i == j for (a, i), (b, j) in zip(now, self.seen)
        )
        go = self.repeat if same else self.driver
        if not self.calls or not self.unusual:
            failed = go(self._address, self.count)
        else:
            with library_threads(self.threads):
                failed = go(self._address, self.count)
        if not failed:
            self.seen = now
        return int(failed)
