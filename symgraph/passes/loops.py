"""What a loop need not do step by step, and what it need not do at all.

* Loops over the same rows with the same states are one: a gradient runs its loop again to keep
  more of each step, and the first one has become needless.
* States, rows and results that nobody needs are dropped.
* What is the same in every step is computed before the loop.
* A product of rows by a matrix that stays is one large product before the loop; one that is only
  kept is one large product after it.
* A sum over the steps, such as the gradient of weights, is one large product after the loop.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from symgraph.dims import Dim
from symgraph.graph.body import Body, like
from symgraph.graph.graph import Graph
from symgraph.graph.leaves import Item, item
from symgraph.graph.node import Value, make
from symgraph.graph.registry import F
from symgraph.graph.walk import depends_on, rebuild, topological
from symgraph.ops.loop import Loop
from symgraph.passes.manager import graph_pass


@graph_pass(stage="clean", after=["dead_code"])
def loops(graph: Graph) -> dict[Value, Value]:
    """Join loops that are one, and move out of them what need not be inside."""
    used: dict[Value, dict[int, Value]] = {}
    for value in graph.values:
        if isinstance(value.op, Item) and isinstance(value.inputs[0].op, Loop):
            used.setdefault(value.inputs[0], {})[value.op.index] = value
    groups: dict[tuple[Any, ...], list[Value]] = {}
    for node in used:
        groups.setdefault(_identity(node), []).append(node)
    found: dict[Value, Value] = {}
    for nodes in groups.values():
        found.update(_Work(nodes, used).replaced())
    return found


def _identity(node: Value) -> tuple[Any, ...]:
    """Give what is equal for loops that can be joined."""
    op = node.op
    assert isinstance(op, Loop)  # by its caller
    first, last = op.sequences, op.sequences + op.states
    news = op.body.outputs[: op.states]
    size = id(op.length) if isinstance(op.length, Dim) else op.length
    return (
        first, last, size, op.reverse, op.conditional, op.again,
        *map(id, op.body.inputs), *map(id, node.inputs), *map(id, news),
    )  # fmt: skip


@dataclass(eq=False)
class _Row:
    """A placeholder of the body, and the operand that it stands for."""

    inner: Value
    outer: Value


@dataclass(eq=False)
class _State:
    """A placeholder of the body, its first value, and its new one."""

    inner: Value
    start: Value
    new: Value


class _Work:
    """Loops that are one, on their way to another."""

    def __init__(self, nodes: Sequence[Value], used: dict[Value, dict[int, Value]]) -> None:
        op = nodes[0].op
        assert isinstance(op, Loop)  # by its caller
        self.loop, self.results = op, len(nodes[0].type.types)  # type: ignore[union-attr]
        first, last = op.sequences, op.sequences + op.states
        pairs = [*zip(op.body.inputs, nodes[0].inputs)]
        self.rows = [_Row(*pair) for pair in pairs[:first]]
        self.others = [_Row(*pair) for pair in pairs[last:]]
        states = [_State(*pair, new) for pair, new in zip(pairs[first:last], op.body.outputs)]
        self.states = states
        self.finals: dict[Value, _State] = {}  # by their items
        self.wanted: dict[Value, Value] = {}  # what was kept, by its item
        for node in nodes:
            outputs = node.op.body.outputs  # type: ignore[attr-defined]
            for index, value in used[node].items():
                if index < op.states:
                    self.finals[value] = states[index]
                else:
                    self.wanted[value] = outputs[index]
        self.kept = dict.fromkeys(self.wanted.values())  # in order
        self.now = {one: one for one in self.kept}  # what stands inside for what was kept
        self.after: dict[Value, Value] = {}  # what stands outside for it
        self.sums: dict[_State, Value] = {}  # what stands outside for a last state
        self.later: dict[Value, Value] = {}  # placeholders for what the new loop keeps
        self.changed = len(nodes) > 1

    def replaced(self) -> dict[Value, Value]:
        """Give the items of the loops as what stands for them; none where nothing changes."""
        self._drop_states()
        self._invariant()
        if self.loop.length is not None and not self.loop.conditional:
            self._products_before()
            self._sums_after()
            self._products_after()
        self._drop_states()
        self._drop_rows()
        fewer = len(self.states) + len(self.kept) < self.results
        return self._made() if self.changed or fewer else {}

    # -- dropping ----------------------------------------------------------------------------------

    def _roots(self) -> list[Value]:
        """Give what must be computed in a step."""
        return [*self.kept, *(one.new for one in self.states)]

    def _drop_states(self) -> None:
        """Drop states that neither a result nor another state needs."""
        asked = {*self.finals.values()} - self.sums.keys()
        needed = [one for one in self.states if one in asked]
        if self.loop.conditional and self.states[0] not in needed:
            needed.append(self.states[0])
        while True:
            inside = set(topological([*self.kept, *(one.new for one in needed)]))
            more = [one for one in self.states if one.inner in inside and one not in needed]
            if not more:
                break
            needed += more
        left = [one for one in self.states if one in needed]
        self.changed = self.changed or len(left) < len(self.states)
        self.states = left

    def _drop_rows(self) -> None:
        inside = set(topological(self._roots()))
        rows = [one for one in self.rows if one.inner in inside]
        others = [one for one in self.others if one.inner in inside]
        dropped = len(rows) < len(self.rows) or len(others) < len(self.others)
        self.rows, self.others, self.changed = rows, others, self.changed or dropped

    # -- before the loop ---------------------------------------------------------------------------

    def _moving(self) -> set[Value]:
        return depends_on(
            self._roots(), [*(r.inner for r in self.rows), *(s.inner for s in self.states)]
        )

    def _invariant(self) -> None:
        """Compute before the loop what depends on nothing that changes."""
        moving = self._moving()
        fixed = depends_on(self._roots(), [one.inner for one in self.others]) - moving
        edge: dict[Value, None] = {}
        for value in topological(self._roots()):
            for operand in value.inputs if value in moving else ():
                while operand.op.name == "broadcast_to":  # stays small
                    operand = operand.inputs[0]
                if operand in fixed and operand.inputs:
                    edge[operand] = None
        if not edge:
            return
        outside = rebuild(list(edge), {one.inner: one.outer for one in self.others})
        self._put({value: self._other(value, outside[value]) for value in edge})

    def _other(self, value: Value, outer: Value) -> Value:
        made = _Row(like(value.tensor, value.label), outer)
        self.others.append(made)
        return made.inner

    def _put(self, new: dict[Value, Value]) -> None:
        """Put values in the place of others, in all that a step computes."""
        done = rebuild(self._roots(), new)
        self.kept = dict.fromkeys(done[one] for one in self.kept)
        self.now = {old: done.get(one, one) for old, one in self.now.items()}
        for state in self.states:
            state.new = done[state.new]
        self.changed = True

    def _products_before(self) -> None:
        """Multiply all rows by a matrix that stays at once."""
        rows = {one.inner: one.outer for one in self.rows}
        others = {one.inner: one.outer for one in self.others}
        new: dict[Value, Value] = {}
        for value in topological(self._roots()):
            if value.op.name != "matmul" or value.inputs[1].ndim != 2:
                continue
            left, right = value.inputs
            if left in rows and right in others:
                outer = F.matmul(rows[left], others[right])
                made = _Row(like(value.tensor, value.label), outer)
                self.rows.append(made)
                new[value] = made.inner
        if new:
            self._put(new)
        known = {one.inner: one.outer for one in self.rows}
        for value in [one for one in self.kept if one in known]:
            self.after[value] = known[value]  # kept of each step: it is there already
            del self.kept[value]
            self.changed = True

    # -- after the loop ----------------------------------------------------------------------------

    def _users(self) -> dict[Value, int]:
        count: dict[Value, int] = {}
        for value in topological(self._roots()):
            for operand in value.inputs:
                count[operand] = count.get(operand, 0) + 1
        for one in self.states:
            count[one.new] = count.get(one.new, 0) + 1
        return count

    def _products_after(self) -> None:
        """Keep a factor instead of a product by a matrix that stays, and multiply outside."""
        others = {one.inner: one.outer for one in self.others}
        users = self._users()
        for value in list(self.kept):
            if value.op.name != "matmul" or value in users or value.inputs[1].ndim != 2:
                continue
            left, right = value.inputs
            if right in others and left.ndim == 2:
                self.after[value] = F.matmul(self._stacked(left), others[right])
                del self.kept[value]
                self.changed = True

    def _stacked(self, value: Value) -> Value:
        """Give a value of each step, stacked, outside: a placeholder until the loop is made."""
        for one in self.rows:
            if one.inner is value:
                return one.outer
        self.kept[value] = None
        if value not in self.later:
            shape = (self.loop.length, *value.shape)
            self.later[value] = like(value.tensor.with_shape(shape), value.label)  # type: ignore[arg-type]
        return self.later[value]

    def _sums_after(self) -> None:
        """Sum products over the steps as one product, where nobody needs the sums on the way."""
        for one in list(self.states):
            inside = set(topological([*self.kept, *(s.new for s in self.states if s is not one)]))
            terms = list(_terms(one.new))
            rest = [term for term in terms if term is not one.inner]
            if one.inner in inside or len(terms) != len(rest) + 1:
                continue
            if one.inner in set(topological(rest)):
                continue
            if all(self._can_sum(term) for term in rest):
                self.sums[one] = one.start
                for term in rest:
                    self.sums[one] = self.sums[one] + self._summed(term)
                self.states.remove(one)
                self.changed = True

    def _can_sum(self, term: Value) -> bool:
        """Tell whether the sum of a term over all steps is no worse outside."""
        return _is_product(term) or self._is_partial(term) or term.ndim <= 1

    def _is_partial(self, term: Value) -> bool:
        return term.op.name == "sum" and term.inputs[0] in self.kept and term.ndim < 2

    def _summed(self, term: Value) -> Value:
        """Give the sum of a term over all steps as a value outside."""
        length = 0 if self.loop.length is None else self.loop.length
        if _is_product(term):
            left, right = term.inputs
            columns = F.reshape(self._stacked(right), (length * right.shape[0], right.shape[1]))
            if left.op.name == "permute_dims":
                rows = self._stacked(left.inputs[0])
                rows = F.reshape(rows, (length * left.shape[1], left.shape[0]))
                return F.matmul(F.permute_dims(rows, (1, 0)), columns)
            rows = F.permute_dims(self._stacked(left), (1, 0, 2))
            return F.matmul(F.reshape(rows, (left.shape[0], length * left.shape[1])), columns)
        if self._is_partial(term):
            axes = term.op.attributes()["axis"]
            whole = self._stacked(term.inputs[0])
            total = F.sum(whole, axis=(0, *(axis + 1 for axis in axes)))
            return F.reshape(total, term.shape)
        return F.sum(self._stacked(term), axis=0)

    # -- the new loop ------------------------------------------------------------------------------

    def _made(self) -> dict[Value, Value]:
        """Make the loop, and say for each item of the old ones what stands for it."""
        inner = [
            *(one.inner for one in self.rows),
            *(one.inner for one in self.states),
            *(one.inner for one in self.others),
        ]
        outer = [
            *(one.outer for one in self.rows),
            *(one.start for one in self.states),
            *(one.outer for one in self.others),
        ]
        body, states = (
            Body(tuple(inner), (*(one.new for one in self.states), *self.kept)),
            len(self.states),
        )
        last: dict[_State, Value] = dict(self.sums)
        results: dict[Value, Value] = {}
        if body.outputs:
            node = make(
                replace(self.loop, body=body, sequences=len(self.rows), states=states), *outer
            )
            last |= {state: item(node, number) for number, state in enumerate(self.states)}
            results = {one: item(node, states + n) for n, one in enumerate(self.kept)}
        known = {place: results[value] for value, place in self.later.items()}
        done = rebuild([*self.after.values(), *last.values()], known)
        found = {one: done[last[state]] for one, state in self.finals.items()}
        for one, value in self.wanted.items():
            current = self.now[value]
            found[one] = done[self.after[current]] if current in self.after else results[current]
        return found


def _is_product(value: Value) -> bool:
    return value.op.name == "matmul" and all(one.ndim == 2 for one in value.inputs)


def _terms(value: Value) -> Iterable[Value]:
    """List the terms of a sum of values."""
    stack = [value]
    while stack:
        one = stack.pop()
        if one.op.name == "add":
            stack.extend(reversed(one.inputs))
        else:
            yield one
