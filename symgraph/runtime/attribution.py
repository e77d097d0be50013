"""What the steps of a plan compute, in terms of the graph: values, FLOPs, bytes, the user's lines.

A plan knows for each buffer the value it holds. That may be a value of an operation's expansion,
which is no value of the graph; it belongs to the operation that was expanded.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping
from functools import cached_property

from symgraph.config import config
from symgraph.cost.flops import node_flops
from symgraph.dims import Dim, collect_guards, total
from symgraph.graph.body import nested
from symgraph.graph.dtypes import has_gradient
from symgraph.graph.index import Compute
from symgraph.graph.leaves import Attach, Item, SizeOf
from symgraph.graph.node import Value
from symgraph.graph.onhost import on_host
from symgraph.graph.registry import F
from symgraph.graph.types import TensorType
from symgraph.lower.nest import Buffer
from symgraph.lower.plan import BundleStep, CallStep, CheckStep, KernelStep, Plan, Step, parts
from symgraph.lower.program import nbytes, number


class Attribution:
    """Tells what the steps of a plan compute."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan

    def values(self, step: Step) -> list[Value]:
        """Give the values that a step computes; none for parts of a reduction."""
        if isinstance(step, BundleStep):
            return list(dict.fromkeys(value for one in step.parts for value in self.values(one)))
        buffers = [step.condition] if isinstance(step, CheckStep) else step.buffers
        written = [one for one in buffers if one in step.writes or isinstance(step, CheckStep)]
        return list(dict.fromkeys(v for v in map(self._value, written) if v is not None))

    def owners(self, step: Step) -> list[Value]:
        """Give the values of the graph that a step computes, or computes parts of."""
        return list(dict.fromkeys(self.owner(value) for value in self.values(step)))

    def owner(self, value: Value) -> Value:
        """Give the value of the graph to which a value belongs: itself where it is one."""
        return self._owners.get(value, value)

    def operations(self, step: Step) -> list[str]:
        """Name the operations of the graph that a step computes, operands first, each once."""
        if isinstance(step, BundleStep):
            return list(dict.fromkeys(name for one in step.parts for name in self.operations(one)))
        done = [step.call.value] if isinstance(step, CallStep) else self._between(step)
        if isinstance(step, KernelStep) and not self._library.isdisjoint(done):
            done = self.values(step)
        return list(dict.fromkeys(self.owner(value).op.name for value in done))

    def flops(self, step: Step, env: Mapping[Dim, int]) -> int:
        """Count the FLOPs of a step as `sg.cost` does: everything between its buffers, once."""
        if isinstance(step, BundleStep):
            return sum(self.flops(one, env) for one in step.parts)
        if isinstance(step, CheckStep):
            return 0
        done = [step.call.value] if isinstance(step, CallStep) else self._between(step)
        if isinstance(step, KernelStep) and not self._library.isdisjoint(done):
            return number(step.work, env)  # no value stands for what it reads: its own operations
        return number(total(node_flops(value) for value in done), env)

    def nbytes(self, step: Step, env: Mapping[Dim, int]) -> int:
        """Count the bytes that a step has to move: each of its buffers once.

        Of a large table that is read at a few places only so much counts as there are reads.
        """
        if isinstance(step, BundleStep):
            return sum(self.nbytes(one, env) for one in step.parts)
        most = 0 if isinstance(step, CallStep | CheckStep) else number(step.work, env)
        found = 0
        for one in dict.fromkeys(step.buffers):
            size = number(nbytes(one), env)
            if most and one not in step.writes:
                size = min(size, most * 8)
            found += size
        return found

    @cached_property
    def _steps(self) -> list[Step]:
        """Give the steps that are no bundles, and the parts of those that are."""
        return [one for step in self.plan.steps for one in parts(step)]

    # -- inside ------------------------------------------------------------------------------------

    def _value(self, one: Buffer) -> Value | None:
        found = self.plan.program.origin.get(one)
        return self._parts.get(one) if found is None else found

    def _between(self, step: Step) -> list[Value]:
        """List what is computed between what a step reads and what it writes, operands first.

        A reduction that is made in parts counts where the first of them are made.
        """
        join = self._joins.get(step, (step,))
        if step is not join[0]:
            return []
        read = {
            self._value(one)
            for part in join
            for one in part.buffers
            if one not in part.writes and one not in self._parts
        }
        return [v for v, inside in in_order(self.values(join[-1]), read) if inside is None]

    @cached_property
    def _library(self) -> set[Value]:
        """Give what libraries compute."""
        return {step.call.value for step in self._steps if isinstance(step, CallStep)}

    @cached_property
    def _joins(self) -> dict[Step, tuple[Step, ...]]:
        """Give, for steps that make parts or join them, those that belong together, in order."""
        made = {one: step for step in self._steps for one in step.writes if one in self._parts}
        found: dict[Step, tuple[Step, ...]] = {}
        for step in self._steps:
            own = dict.fromkeys(made[one] for one in step.buffers if one in made)
            if own and step not in own:
                found |= dict.fromkeys((*own, step), (*own, step))
        return found

    @cached_property
    def _parts(self) -> dict[Buffer, Value]:
        """Give the value whose reduction the parts in a buffer belong to."""
        found: dict[Buffer, Value] = {}
        program = self.plan.program
        origin, given = program.origin, set(program.inputs.values())
        for step in self._steps:
            if isinstance(step, CallStep):
                continue
            made = next(
                (origin[one] for one in step.buffers if one in step.writes & origin.keys()), None
            )
            for one in step.buffers:
                if made is not None and not (one in origin or one in given or one in step.writes):
                    found.setdefault(one, made)
        return found

    @cached_property
    def _owners(self) -> dict[Value, Value]:
        graph = self.plan.graph
        own, found = set(graph.values), dict[Value, Value]()
        for value in graph.values:
            waiting = [*(expansion(value) or ()), *_checks(value)]
            while waiting:
                inner = waiting.pop()
                if inner in own or inner in found:
                    continue
                found[inner] = value
                inside = expansion(inner)
                waiting.extend(operands_of(inner))
                waiting.extend(inside or ())
        return found


def operands_of(value: Value) -> tuple[Value, ...]:
    """Give what a value is computed from; updates that are attached to it are not."""
    return value.inputs[:1] if isinstance(value.op, Attach) else tuple(value.inputs)


def _checks(value: Value) -> list[Value]:
    """Give the bools that compiled code looks at before it writes: of `legal` and the NaN guard."""
    with config(origins=False), collect_guards():
        legal = value.op.legal(F, *value.inputs)
        finite = isinstance(value.type, TensorType) and has_gradient(value.dtype)
        found = F.all(F.isfinite(value)) if finite else None
    return [one for one in (legal, found) if one is not None]


def in_order(
    roots: Iterable[Value], known: Container[Value | None]
) -> list[tuple[Value, tuple[Value, ...] | None]]:
    """List what roots need beside leaves and what is known, operands first.

    Each comes with the values that it stands for, which are listed before it, or with None.
    """

    def stops(value: Value) -> bool:
        return value in known or value.op.leaf or isinstance(value.op, SizeOf)

    inside: dict[Value, tuple[Value, ...] | None] = {}
    found: dict[Value, tuple[Value, ...] | None] = {}
    waiting = [value for value in roots if not stops(value)]
    while waiting:  # each is taken up twice: before what it needs, and after it
        value = waiting[-1]
        if value in inside:
            found[waiting.pop()] = inside[value]
            continue
        inside[value] = expansion(value)
        needs = inside[value] or operands_of(value)
        waiting.extend(one for one in needs if not stops(one) and one not in inside)
    return list(found.items())


def expansion(value: Value) -> tuple[Value, ...] | None:
    """Give the values that an operation stands for; None for a leaf or an index expression.

    None also for what no loops express, and for a graph inside an operation.
    """
    op = value.op
    if op.leaf or isinstance(op, SizeOf | Item | Attach) or on_host(value) or nested(op):
        return None
    with config(origins=False), collect_guards():  # what is made here is nobody's line
        found = op.expand(F, *value.inputs)
    if isinstance(found, Compute):
        return None
    return found if isinstance(found, tuple) else (found,)
