"""How far the indices of a kernel go at given sizes: whether 32 bits hold all of them.

Axes and sizes are known when a kernel is bound, and what whole arithmetic makes of them lies
between two numbers that follow from theirs. Numbers of users, which memory holds, are no indices:
they keep their 64 bits.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from symgraph.dims import Dim, Size, evaluate
from symgraph.frozen import frozen
from symgraph.graph.scalar import Scalar, scalar_order
from symgraph.lower.linear import Linear

LIMIT = (1 << 31) - 1  # the largest number that 32 bits with a sign hold
Env = Mapping[Dim, int]


@frozen
class Range:
    """The least and the largest number that something may be."""

    low: int
    high: int

    def __add__(self, other: Range) -> Range:
        return Range(self.low + other.low, self.high + other.high)

    def __sub__(self, other: Range) -> Range:
        return Range(self.low - other.high, self.high - other.low)

    def __mul__(self, other: Range) -> Range:
        ends = [a * b for a in (self.low, self.high) for b in (other.low, other.high)]
        return Range(min(ends), max(ends))

    def __floordiv__(self, other: Range) -> Range:
        if other.low <= 0:  # nothing gets larger than it was
            return Range(-self.furthest, self.furthest)
        ends = [a // b for a in (self.low, self.high) for b in (other.low, other.high)]
        return Range(min(ends), max(ends))

    def __mod__(self, other: Range) -> Range:
        if other.low <= 0:
            return Range(-other.furthest, other.furthest)
        inside = self.low >= 0 and self.high < other.low
        return self if inside else Range(0, other.high - 1)

    def __neg__(self) -> Range:
        return Range(-self.high, -self.low)

    def __or__(self, other: Range) -> Range:
        return Range(min(self.low, other.low), max(self.high, other.high))

    @property
    def furthest(self) -> int:
        """The largest distance from 0."""
        return max(-self.low, self.high)


ARITHMETIC: Mapping[str, Callable[..., Range]] = {
    "add": Range.__add__, "sub": Range.__sub__, "mul": Range.__mul__, "neg": Range.__neg__,
    "idiv": Range.__floordiv__, "imod": Range.__mod__, "min": Range.__or__, "max": Range.__or__,
    "select": Range.__or__,  # of what may be selected
}  # fmt: skip


class Indices:
    """Tells which scalars are indices: made of axes, sizes and small numbers alone."""

    def __init__(self) -> None:
        self._known: dict[Scalar, bool] = {}

    def __contains__(self, node: Scalar) -> bool:
        if node not in self._known:
            ready = all(one in self._known for one in node.args)
            for one in [node] if ready else scalar_order([node]):
                if one not in self._known:
                    self._known[one] = self._is_index(one)
        return self._known[node]

    def _is_index(self, node: Scalar) -> bool:
        if node.dtype != "int64":
            return False
        if node.op == "const":
            return abs(int(node.attr)) <= LIMIT
        if node.op in ("axis", "size"):
            return True
        return node.op in ARITHMETIC and all(self._known[one] for one in numbers(node))


def numbers(node: Scalar) -> tuple[Scalar, ...]:
    """Give the arguments that are numbers: all, but for what decides a selection."""
    return node.args[1:] if node.op == "select" else node.args


@frozen
class Reach:
    """What a kernel computes with as indices.

    `offsets` are added up product after product; `counts` are ends of loops, whose counters go
    beyond by a stride; `sizes` are what it is given.
    """

    scalars: tuple[Scalar, ...] = ()
    offsets: tuple[Linear, ...] = ()
    counts: tuple[Size, ...] = ()
    sizes: tuple[Size, ...] = ()

    def furthest(self, env: Env, stride: int = 0) -> int:
        """Give the largest distance from 0 of any index; loops have strides up to this one."""
        indices, known = Indices(), dict[Scalar, Range]()
        atoms = [atom for one in self.offsets for atom in one.terms]
        for node in scalar_order([*self.scalars, *atoms]):
            if node in indices:
                known[node] = _range(node, known, env)
        found = [one.furthest for one in known.values()]
        for one in self.offsets:
            found += _offset(one, known, env)
        found += [abs(evaluate(one, env)) for one in self.sizes]
        found += [evaluate(one, env) + stride for one in self.counts]
        return max(found, default=0)

    def fits(self, env: Env, stride: int = 0) -> bool:
        """Tell whether 32 bits hold every index."""
        return self.furthest(env, stride) <= LIMIT


NOWHERE = Reach()  # what has no indices that could be narrow


def all_of(reaches: Iterable[Reach]) -> Reach:
    """Give what several kernels compute with as indices."""
    found = NOWHERE
    for one in reaches:
        found = Reach(
            found.scalars + one.scalars, found.offsets + one.offsets,
            found.counts + one.counts, found.sizes + one.sizes,
        )  # fmt: skip
    return found


def _range(node: Scalar, known: Mapping[Scalar, Range], env: Env) -> Range:
    """Give the range of an index whose arguments are known."""
    if node.op == "const":
        return Range(int(node.attr), int(node.attr))
    if node.op == "size":
        size = evaluate(node.attr, env)
        return Range(size, size)
    if node.op == "axis":
        return Range(0, max(evaluate(node.attr.extent, env) - 1, 0))
    return ARITHMETIC[node.op](*(known[one] for one in numbers(node)))


def _offset(form: Linear, known: Mapping[Scalar, Range], env: Env) -> Sequence[int]:
    """Give the furthest of each product, and of each sum of some of them.

    What is multiplied by a number of users has 64 bits, and whatever it is added to then, too.
    """
    constant = evaluate(form.constant, env)
    low, high, found = min(constant, 0), max(constant, 0), [abs(constant)]
    for atom, factor in form.terms.items():
        step = evaluate(factor, env)
        found.append(abs(step))
        if atom in known:
            part = known[atom] * Range(step, step)
            low, high = low + min(part.low, 0), high + max(part.high, 0)
    return [*found, -low, high]
