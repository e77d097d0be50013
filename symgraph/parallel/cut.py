"""Which updates may be cut into parts, of which every rank makes one: a question to their graph.

A rule may be cut where each new number follows from the old numbers at the same place, from numbers
that all places share, and from sums over whole tensors, such as a norm. So are all rules in
`symgraph.optim`, clipping included. Ranks compute a sum of their parts, and add those up.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from symgraph.frozen import frozen
from symgraph.graph.elementwise import Elementwise
from symgraph.graph.leaves import Shared
from symgraph.graph.node import Value
from symgraph.graph.registry import F
from symgraph.graph.walk import rebuild, topological
from symgraph.ops.reduce import Sum
from symgraph.ops.shape import BroadcastTo


@frozen(eq=False)
class Family:
    """A parameter, its gradient, and its momenta: what is cut at the same places."""

    parameter: Shared
    gradient: Shared
    slots: Sequence[Shared]


@frozen
class Total:
    """A number that is the sum over a whole tensor of a value of its places."""

    value: Value
    family: Family


@frozen
class Cut:
    """An update that may be cut."""

    families: Sequence[Family]
    updates: Mapping[Shared, Value]  # of what families hold
    common: Mapping[Shared, Value]  # of what belongs to no place, such as a counter of steps
    totals: Sequence[Total]
    even: Mapping[Value, Value]  # values that are the same at all places -> as one number

    def part(self, value: Value, places: Mapping[Value, Value]) -> Value:
        """Give a value of some places, from what the tensors of its family are there."""
        reached = topological([value], stop=[*self.even, *places])
        needed = {one: self.even[one] for one in reached if one in self.even}
        numbers = rebuild(needed.values(), places)  # there may be totals in them
        even = {one: numbers[number] for one, number in needed.items()}
        return rebuild([value], {**even, **places})[value]

    def part_of_total(self, total: Total, places: Mapping[Value, Value]) -> Value:
        """Give the sum over some places."""
        return F.sum(self.part(total.value.inputs[0], places))


def cut(updates: Mapping[Shared, Value], families: Sequence[Family]) -> Cut | str:
    """Give how an update may be cut, or why every rank must make the whole one."""
    found = _Places(families)
    for value in topological(updates.values()):
        if problem := found.problem(value):
            return problem
    for target, new in updates.items():
        if found.owner.get(target) is not found.owner.get(new):
            return f"`{target.label}` becomes a value that belongs to other places"
    placed = {target: new for target, new in updates.items() if target in found.owner}
    common = {target: new for target, new in updates.items() if target not in found.owner}
    return Cut(families, placed, common, found.totals, found.even)


@dataclass
class _Places:
    """What each value of an update belongs to."""

    families: Sequence[Family]
    owner: dict[Value, Family] = field(default_factory=dict)
    totals: list[Total] = field(default_factory=list)
    even: dict[Value, Value] = field(default_factory=dict)
    smooth: set[Value] = field(default_factory=set)  # made of even values and of numbers
    late: set[Value] = field(default_factory=set)  # values that need a total

    def __post_init__(self) -> None:
        for family in self.families:
            for one in (family.parameter, family.gradient, *family.slots):
                self.owner[one] = family

    def problem(self, value: Value) -> str:
        """Place a value whose operands are placed; say why it has no place, if so."""
        if value in self.owner:
            return ""
        if any(one in self.late for one in value.inputs):
            self.late.add(value)
        owners = self._owners(value.inputs)
        if isinstance(value.op, BroadcastTo) and not owners and value.inputs[0].shape == ():
            self.even[value] = value.inputs[0]
            self.smooth.add(value)
            return ""
        if not owners:
            if isinstance(value.op, Elementwise) and all(map(self._fits, value.inputs)):
                self.smooth.add(value)
            return ""
        if isinstance(value.op, Sum) and value.shape == ():
            return self._total(value, owners[0])
        return self._elementwise(value, owners)

    def _owners(self, values: Iterable[Value]) -> list[Family]:
        return list(dict.fromkeys(self.owner[one] for one in values if one in self.owner))

    def _fits(self, value: Value) -> bool:
        return value in self.owner or value in self.smooth or value.tensor.shape == ()

    def _total(self, value: Value, owner: Family) -> str:
        if value in self.late:
            return f"a sum over `{owner.parameter.label}` needs another sum first"
        self.totals.append(Total(value, owner))
        self.late.add(value)
        return ""

    def _elementwise(self, value: Value, owners: Sequence[Family]) -> str:
        name, labels = value.op.name, [f"`{one.parameter.label}`" for one in owners]
        if not isinstance(value.op, Elementwise):
            return f"`{name}` looks at several places of {labels[0]}"
        if len(owners) > 1:
            return f"`{name}` mixes {' and '.join(labels[:2])}"
        for one in value.inputs:
            if not self._fits(one):
                return f"`{name}` gives each place of {labels[0]} a number of its own"
        if value.shape != owners[0].parameter.shape:
            return f"`{name}` gives {labels[0]} another shape"
        self.owner[value] = owners[0]
        return ""
