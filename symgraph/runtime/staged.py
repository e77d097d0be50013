"""Runs a graph that is cut into stages: each finds sizes, with which the next is bound.

A stage is a graph like others, with a plan of its own; a plan at sizes is made once and kept, as
for calls with other sizes. Everything is computed before the last stage writes the updates, so a
size that an operation cannot have is found while nothing was written. On a device what goes from
one stage to the next stays there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from symgraph.backends.cuda.device import Device
from symgraph.backends.cuda.exchange import DeviceArray
from symgraph.dims import Dim
from symgraph.graph.graph import Graph
from symgraph.graph.node import Value
from symgraph.graph.op import Array
from symgraph.lower.cuts import Stage, stages_of
from symgraph.runtime.device import DeviceExecutor
from symgraph.runtime.foreign import fetched
from symgraph.runtime.native import NativeExecutor

Decide = Callable[[dict[Dim, int], Dim, int], None]
One = NativeExecutor | DeviceExecutor
Run = Callable[[One, dict[Value, Array], dict[Dim, int]], list[Any]]


class StagedExecutor:
    """Stages and what runs each; `decide(env, size, number)` adds a size, or refuses it."""

    def __init__(
        self,
        graph: Graph,
        decide: Decide,
        device: Device | None,
        precision: str = "fp32",
        guard: str = "",
        threads: int | None = None,
        outputs_on: str = "host",
    ) -> None:
        self.graph, self.device, self._decide = graph, device, decide
        self.stages = stages_of(graph)
        self.executors: list[One] = []
        for number, stage in enumerate(self.stages):
            if device is None:
                made: One = NativeExecutor(stage.graph, precision == "bf16", guard, threads)
            else:
                last = number == len(self.stages) - 1
                where = outputs_on if last else "device"
                made = DeviceExecutor(stage.graph, device, precision, guard, where)
            self.executors.append(made)
        self.name = self.executors[0].name
        self.stay = outputs_on == "device"

    def run(self, feeds: Mapping[Value, Array], env: Mapping[Dim, int]) -> list[Any]:
        """Compute the outputs, fresh arrays, and write the updates."""
        outputs: list[Any] = [None] * len(self.graph.outputs)
        last = self.stages[-1]
        for stage, found in self.walk(feeds, env, _run):
            for place, array in zip(stage.results, found[len(stage.sizes) + len(stage.kept) :]):
                outputs[place] = array if stage is last or self.stay else self._here(array)
        return outputs

    def walk(
        self, feeds: Mapping[Value, Array], env: Mapping[Dim, int], run: Run
    ) -> Iterator[tuple[Stage, list[Any]]]:
        """Go through the stages, each with what came out of it; `run` runs one."""
        known, sizes = dict(feeds), dict(env)
        for stage, executor in zip(self.stages, self.executors):
            given = {one: known[one] for one in stage.graph.inputs}
            found = run(executor, given, own_sizes(stage, sizes))
            for size, number in zip(stage.sizes, found):
                self._decide(sizes, size, int(self._here(number)))
            for one, array in zip(stage.kept, found[len(stage.sizes) :]):
                known[one] = array if self.device is None else self.device.read(one.label, array)
            yield stage, found

    def on_host(self, feeds: Mapping[Value, Array]) -> dict[Value, Array]:
        """Give the numbers of inputs here, those too that were given on the device."""
        there = {one for one in feeds if isinstance(feeds[one], DeviceArray)}
        return {
            one: fetched(self.device, array) if self.device and one in there else array
            for one, array in feeds.items()
        }

    def close(self) -> None:
        """Forget everything but the code."""
        for executor in self.executors:
            executor.close()

    def _here(self, array: Any) -> Array:
        """Give the numbers of what a stage has computed; stages before the last leave it there."""
        if isinstance(array, np.ndarray) or self.device is None:
            return array
        return fetched(self.device, self.device.read("a result", array))


def own_sizes(stage: Stage, sizes: Mapping[Dim, int]) -> dict[Dim, int]:
    """Give the sizes that a stage depends on, so that others do not make it bind again."""
    return {one: number for one, number in sizes.items() if one in stage.dims}


def _run(executor: One, feeds: dict[Value, Array], env: dict[Dim, int]) -> list[Any]:
    found: list[Any] = executor.run(feeds, env)
    return found
