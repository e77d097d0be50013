"""Runs functions on a device: kernels compiled once, a plan for every sizes, calls in turns."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from typing import Any

from symgraph.backends.cuda.device import Device
from symgraph.backends.cuda.exchange import DeviceArray
from symgraph.config import config
from symgraph.dims import Dim
from symgraph.errors import DeviceError
from symgraph.graph.body import Body, nested
from symgraph.graph.dtypes import dtype_name
from symgraph.graph.graph import Graph
from symgraph.graph.node import Value
from symgraph.graph.op import Array
from symgraph.interrupts import held_interrupt
from symgraph.lower.cuda.target import device_target, make_device_plan
from symgraph.lower.plan import CallStep, Plan
from symgraph.runtime.checks import Mark
from symgraph.runtime.device_plan import DevicePlan
from symgraph.runtime.device_steps import Setting
from symgraph.runtime.explain import explained
from symgraph.runtime.foreign import fetched, plain
from symgraph.runtime.functions import Functions
from symgraph.runtime.resident import resident

Env = Mapping[Dim, int]
MOST_BOUND = 16


class DeviceExecutor:
    """A graph compiled for a device; calls take turns."""

    name = "cuda"

    def __init__(
        self,
        graph: Graph,
        device: Device,
        precision: str = "fp32",
        guard: str = "",
        outputs_on: str = "host",
    ) -> None:
        self.graph, self.device, self.precision, self.guard = graph, device, precision, guard
        self.stay = outputs_on == "device"
        self.fast = config.rewrites == "fast"  # when it is made, as for all that is rewritten
        self.plan: Plan | None = None
        self.mark: Mark | None = None  # that they leave, at all sizes
        self.broken = ""  # why no further call can be right
        self._inside: dict[Body, Plan] = {}  # of graphs inside operations
        self._functions: Functions | None = None
        self._bound: dict[frozenset[tuple[Dim, int]], DevicePlan] = {}

    def compile(self, env: Env) -> Plan:
        """Make the plan, at nominal sizes, unless that was done."""
        if self.plan is None:
            libraries = self.device.libraries
            target = device_target(env, libraries.takes, libraries.reads, fast=self.fast)
            narrow, finite = self.precision == "bf16", bool(self.guard)
            plan = make_device_plan(self.graph, env, target, narrow, finite)
            waiting = [plan]
            while waiting:
                for body in _bodies(waiting.pop()):
                    if body not in self._inside:
                        graph = Graph(body.inputs, body.outputs)
                        self._inside[body] = make_device_plan(graph, env, target, narrow)
                        waiting.append(self._inside[body])
            self.plan = plan
        return self.plan

    def bound(self, env: Env) -> DevicePlan:
        """Give the plan at sizes; nothing runs."""
        with self.device.lock:
            return self._bound_at(env)

    def _bound_at(self, env: Env) -> DevicePlan:
        key = frozenset(env.items())
        if key not in self._bound:
            if len(self._bound) >= MOST_BOUND:
                self._bound.pop(next(iter(self._bound)))
            plan, tf32 = self.compile(env), self.precision == "tf32"
            if self._functions is None:
                self._functions = Functions([plan, *self._inside.values()], self.device)
            if plan.latched and self.mark is None:
                self.mark = Mark(self.device, plan, self)
            functions = self._functions.at(env)
            setting = Setting(self.device, env, tf32, self._inside, functions)
            self._bound[key] = DevicePlan(plan, setting, self.mark)
        self._bound[key].move()  # before anybody asks whether a call is one launch
        return self._bound[key]

    def run(self, feeds: Mapping[Value, Array], env: Env) -> list[Any]:
        """Compute the outputs, fresh arrays here or on the device, and write the updates.

        Raises `DeviceError` from then on where a step ended between two of its writes.
        """
        if self.broken:
            raise DeviceError(
                f"{self.device.name}: an earlier step ended in the middle of its updates.",
                details=[self.broken],
                fix="compile the function anew and load the variables from a checkpoint",
            )
        arrays = [plain(feeds[one]) for one in self.graph.inputs]
        with self.device.lock:
            bound = self._bound_at(env)
            # Ctrl-C finds one launch undone or done
            with nullcontext() if bound.is_one_launch() else held_interrupt():
                try:
                    outputs = bound.run(arrays, self.stay)
                except Exception as problem:
                    if bound.writing:
                        self.broken = f"{type(problem).__name__}: {problem}"
                    raise
        if outputs is None:
            return self._sent(explained(self.graph, self.on_host(feeds), env, self.guard))
        return outputs

    def on_host(self, feeds: Mapping[Value, Array]) -> dict[Value, Array]:
        """Give the numbers of inputs here, those too that were given on the device."""
        there = (one for one in feeds if isinstance(feeds[one], DeviceArray))
        return {**feeds, **{one: fetched(self.device, feeds[one]) for one in there}}

    def _sent(self, arrays: list[Array]) -> list[Any]:
        """Give outputs that were computed here where they are wanted."""
        if not self.stay:
            return arrays
        sent = []
        with self.device.lock:
            for array in arrays:
                made, address = self.device.empty(array.shape, dtype_name(array.dtype))
                self.device.follow(self.device.caller())
                self.device.upload(address, array)
                sent.append(made)
        return sent

    def close(self) -> None:
        """Forget everything but the code; variables stay, since other functions may share them.

        Raises `InputError` if a check has failed that nobody was told of.
        """
        with self.device.lock:
            if self.mark is not None:
                self.device.settle()
            self._bound.clear()
            mark, self.mark = self.mark, None
            if mark is not None:
                resident(self.device).marks.discard(mark)
                mark.report()


def _bodies(plan: Plan) -> list[Body]:
    """Give the graphs inside the operations of a plan."""
    calls = [step.call.value.op for step in plan.steps if isinstance(step, CallStep)]
    return [body for op in calls for body in nested(op)]
