"""`bisect_passes`: which step of the optimiser changes a result, down to the single replacement."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from symgraph.debug.compare import difference, require_function, require_tolerance, tolerance
from symgraph.frozen import frozen
from symgraph.function import Function
from symgraph.graph.graph import Change, Graph, Step
from symgraph.graph.interpret import interpret
from symgraph.graph.node import operand_lines
from symgraph.passes.manager import Pass, RulePass


@frozen
class Culprit:
    """The step, and in it the replacement, after which a function gives another result.

    `error` is relative to the largest element; `before` and `after` are the graphs around the one
    replacement.
    """

    step: Step
    change: Change
    error: float
    before: Graph
    after: Graph

    def __str__(self) -> str:
        change = self.change
        lines = [
            f"pass `{self.step.reason}`, `{change.reason}`: results differ by {self.error:.1e} "
            "of the largest element.",
            f"  {change.old.op!r} -> {change.new.op!r}",
            *(f"  {line}" for line in operand_lines([change.old, change.new])),
        ]
        return "\n".join(lines)


def bisect_passes(
    f: Function, *args: Any, rtol: float | None = None, **named: Any
) -> Culprit | None:
    """Find the replacement that changes what a function computes, or None where none does.

    Arguments are those of a call; nothing is updated. Each step of `f.history` is run on them by
    the oracle; inside the first that differs, the number of replacements is halved until one
    remains. `rtol` as in `check`.

    >>> import symgraph as sg
    >>> x, y = sg.wild("x y")
    >>> wrong = sg.rule("wrong", sg.P.exp(x) * sg.P.exp(y), sg.P.exp(x - y))
    >>> a, b = sg.vector("a"), sg.vector("b")
    >>> f = sg.function([a, b], sg.exp(a) * sg.exp(b), passes=[wrong])
    >>> sg.bisect_passes(f, [1.0], [2.0]).change.reason
    'wrong'
    """
    require_function("bisect_passes", f)
    require_tolerance("bisect_passes", rtol)
    feeds, env = f.given(*args, **named)

    def results(graph: Graph) -> list[Any]:
        return interpret(graph.roots, feeds, env, order=graph.values, measured=graph.sizes)

    oracle = results(f.built)

    def error_of(graph: Graph) -> float:
        """Give the largest difference from the graph as written, 0 where it is rounding."""
        errors = [(difference(a, b), tolerance(a, rtol)) for a, b in zip(oracle, results(graph))]
        return max((error for error, allowed in errors if error > allowed), default=0.0)

    for step, one in zip(f.history, f.passes):
        if step.changes and error_of(step.after):
            return _inside(step, one, error_of)
    return None


def _inside(step: Step, one: Pass, error_of: Callable[[Graph], float]) -> Culprit:
    """Halve the number of replacements of a step until one makes the difference."""
    again = _repeat(step, one)
    right, wrong = 0, len(step.changes)
    while wrong - right > 1:
        middle = (right + wrong) // 2
        if error_of(again(middle)):
            wrong = middle
        else:
            right = middle
    after = again(wrong)
    return Culprit(step, step.changes[wrong - 1], error_of(after), again(right), after)


def _repeat(step: Step, one: Pass) -> Callable[[int], Graph]:
    """Give the step again with its first replacements only."""
    if isinstance(one, RulePass):
        return lambda count: one(step.before, limit=count)
    found = one.run(step.before)
    wanted = [change.old for change in step.changes]
    return lambda count: step.before.rewrite(
        {old: found[old] for old in wanted[:count]}, step.reason
    )
