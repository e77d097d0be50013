"""The plan of a graph: kernels as text, the steps in order, and the buffers between them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Protocol

import networkx as nx

from symgraph.cost.flops import node_flops
from symgraph.dims import Dim, Size
from symgraph.frozen import frozen
from symgraph.graph.body import calls_user, nested
from symgraph.graph.dtypes import is_float
from symgraph.graph.graph import Graph
from symgraph.graph.leaves import Shared
from symgraph.graph.node import Value
from symgraph.graph.onhost import on_host
from symgraph.graph.scalar import Scalar
from symgraph.lower.absorb import absorb
from symgraph.lower.approximations.power import power
from symgraph.lower.approximations.table import body
from symgraph.lower.flatten import flatten
from symgraph.lower.fuse import Group, fuse
from symgraph.lower.layout import choose_layouts, copy_given, look_through_views
from symgraph.lower.linear import replaced, substitute
from symgraph.lower.llvm.kernel import print_kernel as print_native
from symgraph.lower.memory import Interval
from symgraph.lower.nest import Buffer, Nest, verify
from symgraph.lower.order import in_order
from symgraph.lower.program import LibraryCall, Operand, Program, build, nbytes, number
from symgraph.lower.reach import NOWHERE, Reach, all_of
from symgraph.lower.schedule import Schedule, choose, work
from symgraph.lower.split import CPU, Grain
from symgraph.lower.turn import turned_apart
from symgraph.lower.widen import widen

KERNEL = "kernel"  # the name under which kernels are printed, so that equal ones are equal


class Kernel(Protocol):
    """What a printer gives: the text of a function, and what its arguments are."""

    @property
    def text(self) -> str:
        """The text."""

    @property
    def buffers(self) -> tuple[Buffer, ...]:
        """The buffers whose addresses it takes."""

    @property
    def sizes(self) -> tuple[Size, ...]:
        """The sizes that it takes."""

    @property
    def tasks(self) -> Size:
        """How many tasks it has."""

    @property
    def reach(self) -> Reach:
        """What must fit in 32 bits for its indices to have no more."""


Printer = Callable[[Nest, Schedule, str], Kernel]
Choice = Callable[[Nest, Mapping[Dim, int], Container[Buffer]], Schedule]


@frozen
class Target:
    """What a backend computes by libraries, and how it prints the rest.

    `chosen` tells which operations a library computes, `reads` which views of operands it can read
    where they lie; `grain` says how reductions are cut, `choice` chooses the schedule of a nest and
    `printer` gives its text. With `copies`, inputs of convolutions are brought into the library's
    layout; with `rows`, kernels keep rows of what windows read; with `fast`, products take
    activations along, though libraries may do otherwise with NaN; with `turns`, what would be
    stored across vectors is stored along them and copied; with `over`, libraries write new values
    of variables where the old ones are. With `latches`, kernels look whether a check has failed
    before they do, see `program.build`.
    """

    chosen: Callable[[Value], bool] = lambda value: False
    reads: Callable[[Value, Operand], bool] = lambda value, view: True
    printer: Printer = print_native
    grain: Grain = CPU
    choice: Choice = choose
    copies: bool = False
    rows: bool = False
    fast: bool = False
    turns: bool = False
    over: bool = False
    latches: bool = False


PLAIN = Target()


@frozen(eq=False)
class KernelStep:
    """One call of a kernel: the buffers and sizes that it is given, and how much it does."""

    name: str
    kernel: int  # in Plan.kernels
    buffers: tuple[Buffer, ...]
    sizes: tuple[Size, ...]
    tasks: Size
    work: Size
    writes: frozenset[Buffer]
    reach: Reach = NOWHERE


@frozen(eq=False)
class CallStep:
    """One call of a library."""

    name: str
    call: LibraryCall
    writes: frozenset[Buffer]
    work: Size

    @property
    def buffers(self) -> tuple[Buffer, ...]:
        """The buffers that are read and written."""
        return (*self.call.reads(), *self.call.writes)


@frozen(eq=False)
class CheckStep:
    """Ends the step, with nothing written, unless a bool holds."""

    condition: Buffer
    name: str = "check"
    writes: frozenset[Buffer] = frozenset()
    sizes: tuple[Size, ...] = ()
    tasks: Size = 1

    @property
    def buffers(self) -> tuple[Buffer, ...]:
        """The buffers that are read."""
        return (self.condition,)


@frozen(eq=False)
class BundleStep:
    """Kernels and checks of which none waits for another, as one call of a kernel."""

    kernel: int  # in Plan.kernels
    parts: tuple[KernelStep | CheckStep, ...]
    name: str = "bundle"

    @cached_property
    def buffers(self) -> tuple[Buffer, ...]:
        """The buffers that are read and written."""
        return tuple(dict.fromkeys(one for part in self.parts for one in part.buffers))

    @cached_property
    def writes(self) -> frozenset[Buffer]:
        """The buffers that are written."""
        return frozenset().union(*(part.writes for part in self.parts))

    @cached_property
    def reach(self) -> Reach:
        """What must fit in 32 bits for its indices to have no more."""
        return all_of(part.reach for part in self.parts if isinstance(part, KernelStep))


Step = KernelStep | CallStep | CheckStep | BundleStep


def parts(step: Step) -> tuple[Step, ...]:
    """Give what runs side by side in a step: itself, if it is no bundle."""
    return step.parts if isinstance(step, BundleStep) else (step,)


@dataclass(eq=False)
class Plan:
    """Everything that runs at any sizes: nothing here depends on numbers but what was chosen."""

    graph: Graph
    program: Program
    kernels: list[Any] = field(default_factory=list)  # as the printer gives them
    steps: list[Step] = field(default_factory=list)
    in_place: dict[Shared, Buffer] = field(default_factory=dict)  # updates that need no copy
    fixed: set[Buffer] = field(default_factory=set)  # the same in every call, see `_fixed`
    streamed: set[Buffer] = field(default_factory=set)  # must begin with a line of the cache
    latched: bool = False  # whether checks are waited for by kernels, not by the host

    def temporaries(self) -> list[Buffer]:
        """Give the buffers that live in the arena, in the order of their first use."""
        program = self.program
        outside = {
            *program.inputs.values(), *program.shared.values(), *program.constants,
            *program.outputs, *self.in_place.values(), *self.fixed,
        }  # fmt: skip
        found = dict.fromkeys(one for step in self.steps for one in step.buffers)
        return [one for one in found if one not in outside]

    def intervals(self, temporaries: Sequence[Buffer], env: Mapping[Dim, int]) -> list[Interval]:
        """Give the bytes of temporaries and when they are live."""
        first: dict[Buffer, int] = {}
        last: dict[Buffer, int] = {}
        for place, step in enumerate(self.steps):
            for one in step.buffers:
                first.setdefault(one, place)
                last[one] = place
        for one in self.program.updates.values():
            last[one] = len(self.steps)
        return [Interval(number(nbytes(one), env), first[one], last[one]) for one in temporaries]


def make_plan(
    graph: Graph,
    nominal: Mapping[Dim, int],
    target: Target = PLAIN,
    narrow: bool = False,
    finite: bool = False,
    staying: Collection[Value] = (),
) -> Plan:
    """Give the plan of a graph; sizes that only matter for speed are those of `nominal`.

    With `narrow`, large tensors of float32 between two nests are kept as bfloat16. With `finite`,
    nothing is written where an output or a new value of a variable is not finite. Inputs that are
    `staying` are the same in every call, as those of a loop's body that are no rows or states.
    """
    graph = widen(graph, target.chosen)
    if target.fast:
        graph = absorb(graph, target.chosen)
    program = build(graph, target.chosen, finite, target.latches)
    choose_layouts(program, nominal, copy_given(program) if target.copies else ())
    look_through_views(program, target.reads)
    order = fuse(program, nominal, narrow, target.rows)
    plan = Plan(graph, program)
    _in_place(plan, order, target.over)
    items = in_order(order, program, nominal)
    kept = frozenset(plan.in_place.values())
    aligned = {one for item in items for one in item.writes} - kept
    known: dict[str, int] = {}
    checks = set(program.checks)
    for item in items:
        if isinstance(item, LibraryCall):
            flops = node_flops(item.value)
            plan.steps.append(CallStep(item.value.op.name, item, frozenset(item.writes), flops))
            continue
        nest = approximated(item.nest())
        verify(nest)
        for each, schedule in _scheduled(nest, nominal, target, aligned, kept):
            plan.streamed |= schedule.streamed
            kernel = target.printer(each, schedule, KERNEL)
            if kernel.text not in known:
                known[kernel.text] = len(plan.kernels)
                plan.kernels.append(kernel)
            plan.steps.append(
                KernelStep(
                    each.name, known[kernel.text], kernel.buffers, kernel.sizes, kernel.tasks,
                    work(each), frozenset(each.writes()), kernel.reach,
                )
            )  # fmt: skip
        plan.steps.extend(CheckStep(one) for one in item.writes if one in checks)
    plan.fixed = _fixed(plan, staying)
    return plan


def _scheduled(
    nest: Nest, nominal: Mapping[Dim, int], target: Target, aligned: Container[Buffer],
    kept: Container[Buffer],
) -> Iterator[tuple[Nest, Schedule]]:  # fmt: skip
    """Give the kernels of a nest, in order, each with its schedule."""
    for each in flatten(nest, nominal, target.grain)[0]:
        schedule = target.choice(each, nominal, aligned)
        parts = turned_apart(each, schedule, nominal, kept) if target.turns else None
        if parts is None:
            yield each, schedule
        else:
            yield from ((part, target.choice(part, nominal, aligned)) for part in parts)


def approximated(nest: Nest) -> Nest:
    """Write transcendental operations in terms of primitive ones."""

    def change(node: Scalar, args: tuple[Scalar, ...]) -> Scalar | None:
        if node.op == "pow" and args[1].op == "const" and is_float(node.dtype):
            simple = power(args[0], args[1].attr)
            if simple is not None:
                return simple
        found = body(node.op, node.dtype)
        if found is None:
            return None
        new = dict(zip(found.operands, args, strict=True))
        return replaced([found.value], new)[found.value]

    return nest.changed(substitute(nest.roots, change))


def _fixed(plan: Plan, staying: Collection[Value]) -> set[Buffer]:
    """Find what depends only on constants, on what stays, and on variables that nothing writes.

    Weights of an inference, their rounded or reordered copies: computed once and kept, while
    nobody changes the variables. All sizes share them, so what a size decides (how often a loop
    runs) is not among them, unless it is inside of a body, where each size has its own.
    """
    program = plan.program
    found = {one for shared, one in program.shared.items() if shared not in program.updates}
    found |= {*program.constants, *(program.inputs[one] for one in staying)}
    kept = program.kept
    for step in plan.steps:
        reads = [one for one in step.buffers if one not in step.writes]
        static = all(isinstance(n, int) for one in step.writes for n in one.shape)
        again = isinstance(step, CallStep) and calls_user(step.call.value.op)
        if (
            reads
            and static
            and not again
            and (staying or not _asks_sizes(step))
            and found.issuperset(reads)
            and not kept.intersection(step.writes)
        ):
            found |= step.writes
    return found


def _asks_sizes(step: Step) -> bool:
    """Tell whether a step computes something else at other sizes, of operands that stay."""
    if isinstance(step, KernelStep):
        return not all(isinstance(size, int) for size in (*step.sizes, step.tasks))
    return isinstance(step, CallStep) and bool(step.call.value.op.dims())


def _in_place(plan: Plan, order: nx.DiGraph, calls: bool) -> None:
    """Let updates be written over what they replace, where all others have read it before.

    With `calls`, by a library too.
    """
    program = plan.program
    readers: dict[Buffer, list[Any]] = {}
    writer: dict[Buffer, Any] = {}
    for item in order.nodes:
        for read in item.reads():
            readers.setdefault(read, []).append(item)
        for written in item.writes:
            writer[written] = item
    for shared, new in program.updates.items():
        old = program.shared.get(shared)
        item = writer[new]
        if isinstance(item, Group):
            if old is not None and not _pointwise(item, old, new):
                continue
        elif not calls or old in item.reads() or _may_raise(item):
            continue
        others = [one for one in readers.get(old, []) if one is not item] if old else []
        if any(nx.has_path(order, item, other) for other in others):
            continue
        before = {writer[one] for one in (*program.checks, *program.risky)} - {item}
        if any(nx.has_path(order, item, one) for one in before):
            continue
        order.add_edges_from((other, item) for other in (*others, *before))
        plan.in_place[shared] = new


def _may_raise(call: LibraryCall) -> bool:
    """Tell whether a call may raise, as code of users, NumPy and checks in graphs inside do."""
    op = call.value.op
    return bool(nested(op)) or calls_user(op) or on_host(call.value)


def _pointwise(group: Group, old: Buffer, new: Buffer) -> bool:
    """Tell whether a nest reads what it replaces only where it writes."""
    nest = group.nest()
    (store, *others) = (one for one in nest.stores if one.buffer is new)
    if others or len(store.axes) != len(nest.axes):
        return False
    for node in nest.order():
        if node.op == "load" and node.attr.buffer is old:
            same = all(a is b for a, b in zip(node.args, store.index))
            if node.attr.guarded or not same:
                return False
    return True
