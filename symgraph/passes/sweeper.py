"""The sweep: rules tried on every value of a graph, operands first, until none fires.

Beside the rules it merges what differs in the order of operands only: `x * y` and `y * x`. That is
no rule, because it takes two values to see it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from symgraph.config import config
from symgraph.errors import PassError
from symgraph.graph.graph import Change
from symgraph.graph.node import Value
from symgraph.graph.op import Op
from symgraph.graph.origin import inherit
from symgraph.passes.rules import SOUND, Rule, indexed, kinds_of

PER_NODE = 30  # applications for one value, for each node of the graph; far more than needed


def allowed() -> tuple[str, ...]:
    """Give how sound a rule must be for `config.rewrites` to let it through."""
    level = config.rewrites
    return () if level == "none" else SOUND[: SOUND.index(level) + 1]


class Sweeper:
    """What one pass of rules does at each value; `changes` lists what it did."""

    def __init__(
        self, name: str, rules: Iterable[Rule], nodes: int, limit: int | None = None
    ) -> None:
        self.name = name
        self.changes: list[Change] = []
        self._index = indexed(rules)
        self._tried: dict[str, list[Rule]] = {}
        self._exchanged: dict[tuple[Op, int, int], Value] = {}  # by operands in the other order
        self._bound = 100 + PER_NODE * nodes
        self._limit = limit
        self._settled = 0  # changes when the last value of the graph had its final form

    def step(self, value: Value) -> Value | None:
        """Give what the first rule that fires gives, or None.

        Raises `PassError` when rules go on firing for ever.
        """
        if self._limit is not None and len(self.changes) >= self._limit:
            return None
        rules = self._rules(value.op.name)
        kinds = kinds_of(value) if rules else ()
        with inherit(value.origins):
            for rule in rules:
                found = rule.applied(value) if rule.dtypes in kinds else None
                if found is not None:
                    self.changes.append(Change(rule.name, value, found))
                    if len(self.changes) - self._settled >= self._bound:
                        raise self._endless(value)
                    return found
        return self._met_before(value) if value.op.commutes else None

    def settled(self) -> None:
        """Begin to count again: a value of the graph has its final form."""
        self._settled = len(self.changes)

    def _met_before(self, value: Value) -> Value | None:
        """Give the value of the same operation on the same operands in the other order."""
        first, second = value.inputs
        found = self._exchanged.get((value.op, id(first), id(second)))
        if found is not None and found is not value:
            self.changes.append(Change("same_operands", value, found))
            return found
        self._exchanged[value.op, id(second), id(first)] = value
        return None

    def explained(self, problem: PassError) -> PassError:
        """Give an error of the sweep again, with the rule that was applied last."""
        last = [f"the last rule was {self.changes[-1]}"] if self.changes else []
        return PassError(
            f"{self.name}: {problem.message}", details=[*problem.details, *last], fix=problem.fix
        )

    def _rules(self, name: str) -> list[Rule]:
        found = self._tried.get(name)
        if found is None:
            found = [*self._index.get(name, ()), *self._index.get(None, ())]
            self._tried[name] = found
        return found

    def _endless(self, value: Value) -> PassError:
        late = Counter(change.reason for change in self.changes[-50:])
        return PassError(
            f"rules went on firing after {self._bound} replacements, "
            f"last {', '.join(f'`{name}`' for name, _ in late.most_common(4))}.",
            details=[value.describe()],
            fix="one of them makes larger what another makes smaller: give both one direction",
        )
