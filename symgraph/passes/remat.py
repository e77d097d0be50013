"""Rematerialisation: what the second half of a graph needs of the first is computed again there.

A training step keeps nearly all of its forward part until the backward part has used it. `remat`
keeps what a minimum cut of the graph chooses and computes the rest again, late. The cut weighs
bytes against seconds: it minimises

    sum of bytes(v), v kept  +  price * sum of seconds(v), v computed again

over all choices in which every value that is needed is kept, or can be computed from what is kept.
One number, the price of a second in bytes, leads from "compute all again" to "keep all"; the
highest price at which the peak fits is found by bisection, and for its price each cut is the best
choice. PyTorch's AOTAutograd cuts too: bytes alone, with rules for what is never computed again.

A second computation is a second node because it stands on barriers (`ops/barrier.py`), and they
order it: the second half is split into chunks, and whatever a chunk takes from the first half
waits until the chunk before it is done. That alone lets go of values earlier. Values that are
computed again are computed from those of their own stretch of the graph, so that no stretch needs
another one: a square root of checkpoints, as in Chen et al., 2016 (arXiv:1604.06174).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import field
from itertools import accumulate

import networkx as nx

from symgraph.config import parse_bytes
from symgraph.cost.flops import node_flops
from symgraph.cost.formulas import Arguments, Sizes
from symgraph.cost.liveness import liveness, tensor_types
from symgraph.cost.units import number_text
from symgraph.dims import Dim, Size, evaluate_all, total
from symgraph.errors import ArgumentError, ArgumentTypeError, MemoryLimitError, PassError
from symgraph.frozen import frozen
from symgraph.graph.body import calls_user
from symgraph.graph.graph import Graph
from symgraph.graph.leaves import Constant
from symgraph.graph.node import Value, make
from symgraph.graph.origin import inherit
from symgraph.graph.registry import F
from symgraph.graph.walk import postorder, sweep
from symgraph.ops.barrier import Barrier
from symgraph.passes.halves import Halves, is_source
from symgraph.passes.manager import Pass

FLOPS = 2e11  # a second; of this machine model only the quotient of the two matters,
BYTES = 2e10  # and a roofline with a knee at 10 FLOPs per byte fits CPUs and GPUs alike
CUTS = 8  # minimum cuts for one graph, at most
FAVOUR = 4.0  # how much dearer it is to compute again what is needed first: it frees the least
STRETCHES = (1, 2, 3, 4, 6, 8, 11, 16, 23, 32, 45, 64)


def remat(budget: int | str, sizes: Sizes | None = None, /, **named: int) -> Pass:
    """Make a pass that computes values again where they would be kept, until a graph fits.

    The peak memory (`cost(f).peak`) at the given sizes becomes at most `budget`, bytes or a text
    such as "2 GB". Sizes are given as for `Cost.evaluate`: by keywords, or as a mapping. A graph
    that fits is left alone; of what fits, the choice with the least work is taken. The pass raises
    `MemoryLimitError` when no choice fits and `ArgumentError` for a size without a number.

    >>> import symgraph as sg
    >>> x = sg.tensor("x", (sg.dim("B"), 100))
    >>> f = sg.function([x], sg.grad(sg.sin(sg.exp(x)).sum(), x), passes=[sg.remat("1 GB", B=50)])
    """
    try:
        limit = parse_bytes(budget)
    except ValueError as problem:
        raise ArgumentError(
            f"remat: the budget must be {problem}, got {budget!r:.60}.", fix='sg.remat("2 GB")'
        ) from None
    if sizes is not None and not isinstance(sizes, Mapping):
        raise ArgumentTypeError(
            f"remat: sizes must be a mapping, got {type(sizes).__name__}.",
            fix='sg.remat("2 GB", B=128) or sg.remat("2 GB", {B: 128})',
        )
    given = dict(sizes or {})
    return Pass("remat", lambda graph: _fitted(graph, limit, given, named), "remat")


def _fitted(
    graph: Graph, limit: int, sizes: Sizes, named: Mapping[str, int]
) -> Mapping[Value, Value]:
    """Give the replacements after which a graph fits; none where it does."""
    env = _numbers(graph, sizes, named)
    before = liveness(graph).peak_bytes(env)
    if before <= limit:
        return {}
    found = _Search(Halves(graph, env), limit).run()
    if found.peak <= limit:
        return found.replace
    least = min(before, found.peak)
    if any(isinstance(value.op, Barrier) for value in graph.values):
        once, became = _computed_once(graph)
        found = _Search(Halves(once, env), limit).run()
        if found.peak <= limit:
            return {root: found.replace.get(became[root], became[root]) for root in graph.roots}
        least = min(least, found.peak)
    raise _too_small(limit, before, least, env)


def _computed_once(graph: Graph) -> tuple[Graph, Mapping[Value, Value]]:
    """Give a graph without barriers, where nothing is computed twice, and what values became."""

    def without(value: Value) -> Value | None:
        return value.inputs[0] if isinstance(value.op, Barrier) else None

    became = sweep(graph.roots, without)
    updates = {target: became[value] for target, value in graph.updates.items()}
    sizes = {size: became[value] for size, value in graph.sizes.items()}
    outputs = [became[value] for value in graph.outputs]
    return Graph(graph.inputs, outputs, updates, sizes), became


def _numbers(graph: Graph, sizes: Sizes, named: Mapping[str, int]) -> dict[Dim, int]:
    """Give all sizes of a graph as numbers."""
    types = [part for value in graph.values for part in tensor_types(value.type)]
    types += [value.tensor for value in (*graph.inputs, *graph.shared)]
    every = [size for type in types for size in type.shape]
    every += [size for value in graph.values for size in value.op.dims()]
    arguments = Arguments(list(dict.fromkeys(size for size in every if isinstance(size, Dim))))
    env = arguments.known("remat", sizes, named)
    missing = [str(symbol) for symbol in arguments.symbols if symbol not in env]
    if missing:
        listed = ", ".join(f'"{name}": 128' for name in missing)
        raise ArgumentError(
            f"remat: the size{'s' * (len(missing) > 1)} {', '.join(missing)} "
            f"{'have' if len(missing) > 1 else 'has'} no number.",
            fix=f'sg.remat("2 GB", {{{listed}}}): the sizes at which it shall fit',
        )
    return env


def _too_small(limit: int, before: int, least: int, env: Mapping[Dim, int]) -> MemoryLimitError:
    details = [
        f"as it is : {number_text(before, 'B')}",
        f"at best  : {number_text(least, 'B')} = {least} bytes, with values computed again",
        f"budget   : {number_text(limit, 'B')}",
    ]
    if env:
        details.insert(2, f"sizes    : {', '.join(f'{size} = {env[size]}' for size in env)}")
    return MemoryLimitError(
        "remat: no choice of values to compute again makes the peak fit the budget.",
        details=details,
        fix=f"a budget of at least {least} bytes" + (", or smaller sizes" if env else ""),
    )


# -- the cut ---------------------------------------------------------------------------------------


class _Cut:
    """The network whose minimum cut chooses what is kept, for a number of stretches.

    Each base is an edge that costs its bytes; a path from the source that enters it costs the
    seconds of computing it again. Whatever is read in the second half hangs on the sink.
    """

    def __init__(self, halves: Halves, seconds: Mapping[Value, float], stretches: int) -> None:
        self.halves = halves
        self.seconds = seconds
        begin = halves.begin
        self.bases = [value for value in halves.graph.values if value in begin]
        self.operands = {v: [o for o in halves.bases(v.inputs) if o in begin] for v in self.bases}
        self.stretch = self._stretches(stretches)
        self.fixed = {
            v for v in self.bases if begin[v] == 0 or v not in seconds or calls_user(v.op)
        }
        self.last = {v: halves.uses.get(v, [0])[-1] for v in self.bases}
        for value in self.bases:
            for operand in self.operands[value]:
                if self.stretch[operand] != self.stretch[value]:
                    self.fixed.add(operand)
                    self.last[operand] = max(self.last[operand], begin[value])

    def _stretches(self, count: int) -> dict[Value, int]:
        """Split what is needed again into about equal parts, where little goes from one to the
        next; give the part of each base.
        """
        begin, nbytes = self.halves.begin, self.halves.nbytes
        chunks = self.halves.chunks
        weight, crossing = [0] * chunks, [0] * (chunks + 1)
        span = {value: [begin[value]] for value in self.bases}
        for value in self.bases:
            weight[begin[value]] += nbytes[value]
            for operand in self.operands[value]:
                span[operand].append(begin[value])
        for value, chunk in span.items():
            crossing[min(chunk) + 1] += nbytes[value]
            crossing[max(chunk) + 1] -= nbytes[value]
        crossing = list(accumulate(crossing))  # what is read on both sides of each chunk's start
        before = [0, *accumulate(weight)]
        starts = set()
        for part in range(1, count):
            wanted, reach = before[-1] * part / count, before[-1] / count / 3
            near = [c for c in range(1, chunks) if abs(before[c] - wanted) <= reach]
            if near:
                starts.add(min(near, key=lambda c: (crossing[c], abs(before[c] - wanted))))
        number = list(accumulate(int(chunk in starts) for chunk in range(chunks)))
        return {value: number[begin[value]] for value in self.bases}

    def estimate(self) -> int:
        """Guess the bytes at the worst stretch, were everything computed again that can be."""
        nbytes, begin = self.halves.nbytes, self.halves.begin
        again: dict[int, int] = {}
        start: dict[int, int] = {}
        for value in self.bases:
            at = self.stretch[value]
            start[at] = min(start.get(at, begin[value]), begin[value])
            # what nothing of the second half reads is gone as soon as its stretch is there
            lasts = value in self.halves.uses and value not in self.fixed
            again[at] = again.get(at, 0) + nbytes[value] * lasts
        kept = [0] * (2 + max(self.last.values(), default=0))
        for value in self.fixed:
            kept[self.last[value]] += nbytes[value]
        for chunk in reversed(range(len(kept) - 1)):
            kept[chunk] += kept[chunk + 1]
        return max((kept[min(start[at], len(kept) - 1)] + again[at] for at in again), default=0)

    def price_of(self, value: Value) -> float:
        """Give what computing a value again counts, in seconds: dearer the sooner it is needed."""
        late = self.halves.begin[value] / max(self.halves.chunks, 1)
        return self.seconds[value] * math.pow(FAVOUR, 1.0 - late)

    def prices(self) -> tuple[float, float]:
        """Give prices of a second between which everything happens."""
        every = [
            self.halves.nbytes[value] / cost
            for value in self.bases
            if value not in self.fixed and (cost := self.price_of(value)) > 0
        ]
        every = [ratio for ratio in every if ratio > 0]
        return (min(every) / len(every), max(every)) if every else (1.0, 1.0)

    def kept(self, price: float) -> frozenset[Value]:
        """Give the bases that the minimum cut keeps."""
        network = nx.DiGraph()
        source, sink = -2, -1  # numbers as all others: the order of strings in sets is random
        network.add_nodes_from((source, sink))
        number = {value: 2 * count for count, value in enumerate(self.bases)}
        for value, enter in number.items():
            stays = value in self.halves.stays  # results are kept for nothing
            network.add_edge(enter, enter + 1, capacity=0 if stays else self.halves.nbytes[value])
            if value in self.fixed:
                network.add_edge(source, enter)  # without a capacity: never cut
            else:
                cost = max(1, round(price * self.price_of(value)))
                network.add_edge(source, enter, capacity=cost)
                for operand in self.operands[value]:
                    network.add_edge(number[operand] + 1, enter)
            if self.halves.uses.get(value, [0])[-1] > 0:
                network.add_edge(enter + 1, sink)
        _, (before, behind) = nx.minimum_cut(network, source, sink)
        return frozenset(
            v for v, enter in number.items() if enter in before and enter + 1 in behind
        )


# -- the new second half ---------------------------------------------------------------------------


@frozen
class _Plan:
    """Replacements, the peak after them, and the seconds that computing again takes."""

    replace: Mapping[Value, Value] = field(repr=False)
    peak: int
    seconds: float


class _Build:
    """Writes the second half on what is kept, with the rest computed again and all in order."""

    def __init__(self, halves: Halves, kept: frozenset[Value] | None) -> None:
        self.halves = halves
        self.keeps: Callable[[Value], bool] = (
            (lambda base: True) if kept is None else kept.__contains__
        )
        self.new: dict[Value, Value] = {}
        self.copies: dict[Value, Value] = {}
        self.made: dict[Value, int] = {}  # the chunk for which a copy was made
        self.barriers: dict[tuple[Value, int], Value] = {}
        self.token: Value = F.constant(False)
        chunk = 0
        # nothing else makes them be computed in the first half
        waiting = [root for root in halves.graph.roots if root in halves.first]
        for value in halves.second:
            if halves.chunk[value] != chunk:
                chunk = halves.chunk[value]
                self.token = make(Barrier(chunk), F.constant(False), *self._before(waiting))
                waiting = []
            with inherit(value.origins):
                operands = tuple(self._operand(operand, chunk) for operand in value.inputs)
                changed = any(a is not b for a, b in zip(operands, value.inputs))
                self.new[value] = make(value.op, *operands) if changed else value
            if self._ends(value):
                waiting.append(self.new[value])

    def _before(self, waiting: Sequence[Value]) -> list[Value]:
        first = self.token.op.name != "barrier"
        return list(dict.fromkeys(waiting if first else [self.token, *waiting]))

    def _ends(self, value: Value) -> bool:
        """Tell whether nothing of its own chunk reads a value."""
        chunk = self.halves.chunk
        return all(chunk.get(user) != chunk[value] for user in self.halves.users[value])

    def _operand(self, value: Value, chunk: int) -> Value:
        """Give what stands for an operand in a chunk of the second half."""
        halves = self.halves
        if value in self.new:
            return self.new[value]
        if value not in halves.first or chunk == 0 or is_source(halves.base[value]):
            return value
        if self.keeps(halves.base[value]):
            return self._barrier(value, chunk)
        if value not in self.copies:
            self._copy(value, chunk)
        copy = self.copies[value]
        return copy if self.made[value] == chunk else self._barrier(copy, chunk)

    def _barrier(self, value: Value, chunk: int) -> Value:
        found = self.barriers.get((value, chunk))
        if found is None:
            with inherit(value.origins):
                found = self.barriers[value, chunk] = make(Barrier(chunk), value, self.token)
        return found

    def _there(self, value: Value) -> bool:
        base = self.halves.base[value]
        return is_source(base) or self.keeps(base)

    def _copy(self, value: Value, chunk: int) -> None:
        """Compute a value again, and what it needs."""

        def below(one: Value) -> Sequence[Value]:
            if one in self.copies or self._there(one):
                return ()
            return one.inputs[:1] if one.op.view else one.inputs

        for one in postorder([value], below):
            if one in self.copies or self._there(one):
                continue
            operands = [self._again(operand, chunk) for operand in one.inputs]
            if one.op.view:
                operands[1:] = one.inputs[1:]
            if all(a is b for a, b in zip(operands, one.inputs)):
                # made of inputs and weights: only a barrier tells it from the first computation
                operands = [
                    operand if isinstance(operand.op, Constant) else self._barrier(operand, chunk)
                    for operand in operands
                ]
            with inherit(one.origins):
                self.copies[one] = make(one.op, *operands)
            self.made[one] = chunk

    def _again(self, value: Value, chunk: int) -> Value:
        if value in self.copies:
            copy = self.copies[value]
            return copy if self.made[value] == chunk else self._barrier(copy, chunk)
        if is_source(self.halves.base[value]):
            return value
        return self._barrier(value, chunk)

    def plan(self, seconds: Mapping[Value, float]) -> _Plan:
        """Give the replacements, and measure the graph that they make."""
        graph = self.halves.graph
        replace = {old: new for old, new in self.new.items() if old is not new}
        outputs = [replace.get(value, value) for value in graph.outputs]
        updates = {target: replace.get(new, new) for target, new in graph.updates.items()}
        peak = liveness(Graph(graph.inputs, outputs, updates)).peak_bytes(self.halves.env)
        return _Plan(replace, peak, sum(seconds.get(value, 0.0) for value in self.copies))


# -- the search ------------------------------------------------------------------------------------


class _Search:
    """Looks for the choice that fits and takes the fewest seconds, in at most `CUTS` cuts."""

    def __init__(self, halves: Halves, limit: int) -> None:
        self.halves = halves
        self.limit = limit
        self.seconds = _seconds(halves)
        self.cuts = 0
        self.known: dict[frozenset[Value] | None, _Plan] = {}

    def run(self) -> _Plan:
        """Give the best plan that fits, or else the one with the lowest peak."""
        ordered = self.plan(None)
        if ordered.peak <= self.limit or not self.seconds:
            return self.best()
        cuts = [_Cut(self.halves, self.seconds, count) for count in STRETCHES]
        cuts.sort(key=lambda cut: cut.estimate())
        for cut in cuts[:3]:
            low, high = cut.prices()
            if self.cut(cut, low).peak <= self.limit:
                self.bisect(cut, low, high)
                break
        return self.best()

    def bisect(self, cut: _Cut, low: float, high: float) -> None:
        """Raise the price of a second, from one at which it fits, as far as it goes."""
        while self.cuts < CUTS and high > low * 1.001:
            middle = math.sqrt(low * high)
            if self.cut(cut, middle).peak <= self.limit:
                low = middle
            else:
                high = middle

    def cut(self, cut: _Cut, price: float) -> _Plan:
        """Cut once, and give the plan."""
        self.cuts += 1
        return self.plan(cut.kept(price))

    def plan(self, kept: frozenset[Value] | None) -> _Plan:
        """Give the plan that keeps some bases, or all of them."""
        if kept not in self.known:
            self.known[kept] = _Build(self.halves, kept).plan(self.seconds)
        return self.known[kept]

    def best(self) -> _Plan:
        """Give the best plan that is known."""
        fitting = [plan for plan in self.known.values() if plan.peak <= self.limit]
        if fitting:
            return min(fitting, key=lambda plan: (plan.seconds, plan.peak))
        return min(self.known.values(), key=lambda plan: plan.peak)


def _seconds(halves: Halves) -> dict[Value, float]:
    """Give the time of each base of the first half that can be computed again.

    The roofline: max(FLOPs / peak, bytes / bandwidth); Williams et al., CACM 52, 2009.
    """
    bases: list[Value] = []
    sizes: list[Size] = []
    for value in halves.begin:
        if all(isinstance(operand.op, Constant) for operand in value.inputs):
            continue  # no barrier could tell it from the first computation
        try:
            flops = node_flops(value)
        except PassError:
            continue  # of an operation without `expand` nobody knows what it costs
        types = {t for operand in value.inputs for t in tensor_types(operand.type)}
        moved = total(t.nbytes for t in (*types, *tensor_types(value.type)))
        bases.append(value)
        sizes += (flops, moved)
    numbers = evaluate_all(sizes, halves.env)
    return {
        value: max(numbers[2 * at] / FLOPS, numbers[2 * at + 1] / BYTES)
        for at, value in enumerate(bases)
    }
