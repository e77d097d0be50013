"""What a plan has on a device beside its kernels and libraries: loops, branches, operations that
`ref` computes there, and kernels by hand.

A body is a plan of its own, whose memory is part of the plan around it. A step of a loop is one
launch of what was recorded in its second step; rows are copied to and from fixed places before and
after it. Nothing is allocated, and nobody waits, unless the loop asks its first state whether it
goes on: that is read back before each step. A branch reads back which of its bodies it runs.

A check inside a body does not end it: it sets a byte, at which the host, or whatever writes over
variables, looks afterwards. Loops that ask whether they go on look at it, too, for what they ask
may then never be false.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import accumulate

import numpy as np

from symgraph.backends.arrays import Array, concrete_array, number_types
from symgraph.backends.cuda.calls import LANGUAGE, rounded
from symgraph.backends.cuda.device import Device, Memory
from symgraph.errors import LoweringError
from symgraph.graph.body import Body, nested
from symgraph.graph.node import Value
from symgraph.graph.onhost import on_host
from symgraph.graph.op import Op
from symgraph.graph.rawkernel import Launch, has_kernel, kernel_of
from symgraph.lower.nest import Buffer
from symgraph.lower.plan import CallStep, Plan
from symgraph.lower.program import may_refuse, operand
from symgraph.ops.branch import Branch
from symgraph.ops.loop import Loop
from symgraph.runtime.device_steps import Inner, Setting, Steps


def inner_steps(plan: Plan, setting: Setting) -> dict[int, Inner]:
    """Make those steps of a plan, by number, that the host walks."""
    return {
        place: _made(step, setting)
        for place, step in enumerate(plan.steps)
        if isinstance(step, CallStep) and _is_walked(step.call.value)
    }


def _is_walked(value: Value) -> bool:
    return on_host(value) or bool(nested(value.op)) or has_kernel(value, LANGUAGE)


def _made(step: CallStep, setting: Setting) -> Inner:
    call, env = step.call, setting.env
    op = call.value.op.at(env)
    arrays = [concrete_array(one, env) for one in call.sources]
    results = [concrete_array(operand(one), env) for one in call.writes]
    if has_kernel(call.value, LANGUAGE):
        return RawCall(setting.device, op, arrays, results)
    if on_host(call.value):
        return HostCall(setting.device, op, arrays, results)
    # plans belong to the body as it was written; its sizes here are those around it
    bodies = [BodyPlan(one, setting) for one in nested(call.value.op)]
    risky = may_refuse(call.value)
    if isinstance(op, Loop):
        return LoopCall(setting.device, op, arrays, results, bodies[0], risky)
    assert isinstance(op, Branch)  # nothing else has graphs inside
    return BranchCall(setting.device, len(arrays), bodies, risky)


class BodyPlan(Steps):
    """A body at sizes: `kept` bytes stay between calls, `memory.total` are free after each.

    Inputs and outputs are where `point` says.
    """

    def __init__(self, body: Body, setting: Setting) -> None:
        plan = setting.plans[body]
        super().__init__(plan, setting, inner_steps(plan, setting))
        program = plan.program
        self.inputs = [program.inputs[one] for one in plan.graph.inputs]
        self.outputs = program.outputs
        self._region: Memory | None = None
        self.tune(self._room)
        self._region = None
        self._constants = {
            one: np.ascontiguousarray(array) for one, array in program.constants.items()
        }
        kept = sum(rounded(one.nbytes) for one in self._constants.values())
        self.kept = kept + self.kept_inside
        self.arrange(self.fixed(), self.workspaces())
        self.segments = self.segmented(cuts=False)
        self._pointed: dict[Buffer, int] = {}
        self._known = False  # whether everything is where it was in the last run

    def _room(self, needed: Mapping[int, int]) -> Mapping[Buffer, int]:
        """Lay everything out in memory of its own, to try libraries in it."""
        whole = [*self.inputs, *self.plan.program.constants, *self.outputs, *self.fixed()]
        self._region = self.device.reserve(self.arrange(whole, needed).total)
        self.settle(self._region.address)
        return self.places

    def place(self, kept: int, workspace: int, failed: int) -> None:
        """Take memory; nothing of it is used between two runs but what is kept."""
        self.settle(workspace)
        for one, array in self._constants.items():
            self.places[one] = kept
            self.device.upload(kept, array)
            kept += rounded(array.nbytes)
        self.settle_inner(kept, failed)
        self.places.update(self._pointed)
        self._known = False

    def point(self, one: Buffer, address: int) -> None:
        """Say where an input or an output lies; where it is another place, steps are recorded."""
        if self._pointed.get(one) != address:
            self._pointed[one] = self.places[one] = address
            self._known = False

    def run(self, last: Callable[[], None] | None = None) -> None:
        """Queue its steps; `last` comes after them, and is recorded with them."""
        known, self._known = self._known, False  # if a step fails, the next run begins anew
        for segment in self.segments:
            end = last if segment is self.segments[-1] else None
            self.advance(segment, self.places, known, end)
        self._known = True


class LoopCall:
    """A loop at sizes."""

    recorded = False
    implementation = "compiled"

    def __init__(
        self, device: Device, op: Loop, arrays: Sequence[Array], results: Sequence[Array],
        body: BodyPlan, risky: bool,
    ) -> None:  # fmt: skip
        self.device, self.op, self.body, self.risky = device, op, body, risky
        self.kept, self.failed = body.kept, 0
        first, last = op.sequences, op.sequences + op.states
        self.operands = len(arrays)
        self.rows = [_row(one) for one in arrays[:first]]
        self.sizes = [one.size for one in results[: op.states]]
        self.keeps = [_row(one) for one in results[op.states :]]
        own = [*self.rows, *self.sizes, *self.sizes, *self.keeps]
        self._starts = [rounded(body.memory.total)]
        for size in own:
            self._starts.append(self._starts[-1] + rounded(size))
        self.workspace = self._starts.pop()
        self._others = range(last, len(arrays))
        self._read = device.pinned(2)  # whether it goes on, and whether a check has failed

    def place(self, kept: int, workspace: int, failed: int) -> None:
        """Give rows, states, and what a step makes, their places after those of the body."""
        first, states, self.failed = self.op.sequences, self.op.states, failed
        self.body.place(kept, workspace, failed)
        at = [workspace + start for start in self._starts]
        self.at, self.held, self.made = at[:first], at[first : first + states], at[first + states :]
        for one, address in zip(self.body.inputs, at[: first + states]):
            self.body.point(one, address)
        for one, address in zip(self.body.outputs, self.made):
            self.body.point(one, address)

    def run(self, addresses: Sequence[int]) -> None:
        """Walk; results are written row by row, and the last states at the end."""
        copy, op = self.device.copy, self.op
        operands, results = addresses[: self.operands], addresses[self.operands :]
        for number in self._others:
            self.body.point(self.body.inputs[number], operands[number])
        for there, source, size in zip(self.held, operands[op.sequences :], self.sizes):
            copy(there, source, size)
        length = None if op.length is None else int(op.length)
        step = 0
        while (length is None or step < length) and self._goes_on():
            row = step if length is None or not op.reverse else length - 1 - step
            for there, source, size in zip(self.at, operands, self.rows):
                copy(there, source + row * size, size)
            self.body.run(self._carry)
            for made, whole, size in zip(self.made[op.states :], results[op.states :], self.keeps):
                copy(whole + row * size, made, size)
            step += 1
        left = (length or 0) - step
        for whole, size in zip(results[op.states :], self.keeps):
            self.device.clear(whole + (0 if op.reverse else step * size), left * size)
        for there, source, size in zip(results, self.held, self.sizes):
            copy(there, source, size)

    def _carry(self) -> None:
        """Queue the new states to where the next step finds them."""
        for there, made, size in zip(self.held, self.made, self.sizes):
            self.device.copy(there, made, size)

    def _goes_on(self) -> bool:
        """Ask whether there is a step; the host waits for what was queued."""
        if not self.op.conditional:
            return True
        self._read.bytes[:] = 0
        self.device.send(self._read.address, self.held[0], 1)
        if self.failed:
            self.device.send(self._read.address + 1, self.failed, 1)
        self.device.settle()
        going, failed = map(bool, self._read.bytes)
        return going and not failed


class BranchCall:
    """A branch at sizes."""

    recorded = False
    implementation = "compiled"

    def __init__(
        self, device: Device, operands: int, bodies: Sequence[BodyPlan], risky: bool
    ) -> None:
        self.device, self.operands, self.bodies, self.risky = device, operands, bodies, risky
        self.kept = sum(rounded(one.kept) for one in bodies)
        self.workspace = max(one.memory.total for one in bodies)
        self._read = device.pinned(4)

    def place(self, kept: int, workspace: int, failed: int) -> None:
        """Let all bodies work in one piece of memory: only one of them is run."""
        for one in self.bodies:
            one.place(kept, workspace, failed)
            kept += rounded(one.kept)

    def run(self, addresses: Sequence[int]) -> None:
        """Read which it is, and run that one, which reads and writes where things lie."""
        which, *operands = addresses[: self.operands]
        self.device.send(self._read.address, which, 4)
        self.device.settle()
        (asked,) = self._read.bytes.view(np.int32)
        body = self.bodies[min(max(int(asked), 0), len(self.bodies) - 1)]
        for one, address in zip(body.inputs, operands):
            body.point(one, address)
        for one, address in zip(body.outputs, addresses[self.operands :]):
            body.point(one, address)
        body.run()


class HostCall:
    """An operation of which no loops say what it does: its `ref`, on arrays of the device."""

    kept = workspace = 0
    risky = recorded = False

    def __init__(
        self, device: Device, op: Op, arrays: Sequence[Array], results: Sequence[Array]
    ) -> None:
        self.device, self.op = device, op
        self.arrays, self.results = tuple(arrays), tuple(results)
        self.implementation = device.computes

    def place(self, kept: int, workspace: int, failed: int) -> None:
        """Take nothing: what `ref` needs comes from where arrays of the device come from."""

    def run(self, addresses: Sequence[int]) -> None:
        """Queue what `ref` does."""
        operands = list(zip(addresses, self.arrays))
        results = list(zip(addresses[len(operands) :], self.results))
        self.device.compute(self.op, operands, results)


class RawCall:
    """An operation with a kernel by hand: launches in order, which are recorded as others are."""

    kept = 0
    risky = False
    recorded = True
    implementation = "CUDA C by hand"

    def __init__(
        self, device: Device, op: Op, arrays: Sequence[Array], results: Sequence[Array]
    ) -> None:
        found = kernel_of(op, LANGUAGE, number_types(arrays, results))
        if found is None:
            raise LoweringError(f"{op.name}: it has no kernel for CUDA at these sizes.")
        self.device, launches = device, [one for one in found.launches if int(one.tasks)]
        names = list(dict.fromkeys(one.name for one in launches))
        functions = dict(zip(names, device.functions(found.source, names) if names else ()))
        self.launches = [
            (functions[one.name], -(-int(one.tasks) // one.grain), one.grain, _words(one))
            for one in launches
        ]
        *self._starts, self.workspace = accumulate(
            (rounded(int(size)) for size in found.scratch), initial=0
        )
        self.scratch: list[int] = []

    def place(self, kept: int, workspace: int, failed: int) -> None:
        """Take the memory in which it works."""
        self.scratch = [workspace + start for start in self._starts]

    def run(self, addresses: Sequence[int]) -> None:
        """Queue it."""
        for function, blocks, threads, (tasks, *sizes) in self.launches:
            words = [tasks, *addresses, *self.scratch, *sizes]
            self.device.launch(function, blocks, threads, words)


def _words(one: Launch) -> list[int]:
    return [int(one.tasks), *(int(size) for size in one.sizes)]


def _row(one: Array) -> int:
    return one.size // one.dims[0] if one.dims[0] else 0
