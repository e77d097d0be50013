"""`f.bind(B=128)`: what a call at these sizes holds in memory, known before it runs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import field
from types import MappingProxyType

from symgraph.cost.limit import peak_bytes
from symgraph.cost.units import number_text
from symgraph.dims import Dim
from symgraph.frozen import frozen
from symgraph.graph.dtypes import itemsize
from symgraph.graph.graph import Graph
from symgraph.graph.node import Value
from symgraph.lower.program import number
from symgraph.runtime.device import DeviceExecutor
from symgraph.runtime.interpreted import InterpretedExecutor
from symgraph.runtime.native import NativeExecutor
from symgraph.runtime.staged import StagedExecutor, own_sizes

Executor = NativeExecutor | DeviceExecutor | InterpretedExecutor | StagedExecutor


@frozen(eq=False)
class Bound:
    """A function at sizes that have numbers: the bytes that a call holds at once, by what they are.

    `inputs` and `outputs` are those of one call, plain arrays; `shared` counts the variables and
    the low-precision copies of them that a compiled function keeps; `kept` is what a call leaves
    for the next as nothing of it changes, such as weights in the order that a library wants;
    `arena` is the memory of everything between, which calls at several sizes share. Code does not
    count, nor do the few MB that oneDNN and BLAS take for each thread. On the reference `peak` is
    that of `sg.cost`, a lower bound, and `arena` is 0. On a device `shared` and `arena` are its
    memory, and inputs, constants and outputs lie in the arena; all but constants and `kept` things
    are in memory that the functions of the device share, as much as the largest of them needs.
    """

    name: str
    backend: str
    inputs: int
    shared: int
    constants: int
    outputs: int
    arena: int
    peak: int
    kept: int = 0
    env: Mapping[Dim, int] = field(default_factory=dict)

    def __repr__(self) -> str:
        sizes = ", ".join(f"{size} = {value}" for size, value in self.env.items())
        named = ("inputs", "shared", "constants", "kept", "outputs", "arena")
        parts = [f"{number_text(getattr(self, n), 'B')} {n}" for n in named if getattr(self, n)]
        peak = number_text(self.peak, "B")
        if self.backend == "reference":
            return f"<{self.name}{f' at {sizes}' if sizes else ''}: at least {peak}>"
        at = f" at {sizes}" if sizes else ""
        return f"<{self.name}{at}: {peak}{' = ' + ' + '.join(parts) if parts else ''}>"


def bound(
    name: str,
    executor: Executor,
    graph: Graph,
    env: Mapping[Dim, int],
) -> Bound:
    """Give what a call of an executor holds at sizes; its plan is made, nothing runs."""
    inputs, outputs = _bytes(graph.inputs, env), _bytes(graph.outputs, env)
    sizes = MappingProxyType(dict(env))
    if isinstance(executor, StagedExecutor):
        parts = [
            bound(name, one, stage.graph, own_sizes(stage, env))
            for stage, one in zip(executor.stages, executor.executors)
        ]
        return _together(parts, inputs, outputs, sizes)
    if isinstance(executor, InterpretedExecutor):
        held = sum(one.storage.array.nbytes for one in graph.shared)
        fixed = sum(one.op.array.nbytes for one in graph.values if hasattr(one.op, "array"))
        peak = peak_bytes(graph, env)
        return Bound(name, executor.name, inputs, held, fixed, outputs, 0, peak, env=sizes)
    shared = sum(one.storage.array.nbytes for one in executor.graph.shared)
    if isinstance(executor, DeviceExecutor):
        arena = executor.bound(env).total  # with inputs, constants and outputs in it
        return Bound(name, executor.name, 0, shared, 0, 0, arena, shared + arena, env=sizes)
    plan = executor.bound(env)
    constants = sum(array.nbytes for _, array in plan.held)
    arena, kept = plan.memory.total, plan.held_bytes()
    peak = inputs + shared + constants + outputs + arena + kept
    return Bound(name, executor.name, inputs, shared, constants, outputs, arena, peak, kept, sizes)


def _together(parts: Sequence[Bound], inputs: int, outputs: int, sizes: Mapping[Dim, int]) -> Bound:
    """Add up stages: each has an arena, and what goes from one to the next lies beside them."""
    total = {name: sum(getattr(part, name) for part in parts) for name in ("constants", "kept")}
    between = sum(part.inputs + part.outputs for part in parts) - inputs - outputs
    arena = sum(part.arena for part in parts) + max(between, 0)
    shared = max(part.shared for part in parts)
    peak = inputs + outputs + arena + shared + sum(total.values())
    first = parts[0]
    return Bound(
        first.name, first.backend, inputs, shared, total["constants"], outputs, arena, peak,
        total["kept"], sizes,
    )  # fmt: skip


def _bytes(values: Iterable[Value], env: Mapping[Dim, int]) -> int:
    total = 0
    for value in values:
        count = itemsize(value.dtype)
        for size in value.shape:
            count *= number(size, env)
        total += count
    return total
