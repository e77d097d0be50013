"""`while_loop`, `cond`, `switch` and `ifelse`: what is computed depends on numbers.

States and operands may be values, or lists, tuples and dictionaries of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from symgraph.errors import ArgumentError, ArgumentTypeError, ShapeError
from symgraph.graph.arguments import plain_int
from symgraph.graph.body import closed, decided_inside, like, same_type
from symgraph.graph.draws import collect_draws, draw_by_step, drawn
from symgraph.graph.leaves import as_value
from symgraph.graph.measured import substituted
from symgraph.graph.node import Value, now, operand_lines
from symgraph.graph.registry import F, function_of
from symgraph.graph.types import TensorType
from symgraph.graph.walk import topological

Tree = Any  # a value, or a list, tuple or dictionary of trees


def flat(tree: Tree) -> list[Value]:
    """List the values of a tree, in order."""
    if isinstance(tree, Mapping):
        return [one for part in tree.values() for one in flat(part)]
    if isinstance(tree, list | tuple):
        return [one for part in tree for one in flat(part)]
    return [as_value(tree)]


def shaped(tree: Tree, values: Sequence[Value]) -> Tree:
    """Give values in the shape of a tree."""
    rest = iter(values)

    def fill(part: Tree) -> Tree:
        if isinstance(part, Mapping):
            return {key: fill(one) for key, one in part.items()}
        if isinstance(part, list | tuple):
            return type(part)(fill(one) for one in part)
        return next(rest)

    return fill(tree)


@function_of
def while_loop(
    cond: Callable[[Tree], Value],
    body: Callable[[Tree], Tree],
    init: Tree,
    *,
    max_steps: int | None = None,
) -> Tree:
    """Apply `body` to a state while `cond` of it holds; give the last state.

    With `max_steps` there are no more steps than that, and the loop has a gradient, for which the
    states of all these steps are kept. Raises `ShapeError` or `DTypeError` where `body` changes the
    type of the state. Random values made inside differ from step to step.

    >>> import symgraph as sg
    >>> n = sg.iscalar("n")
    >>> steps = lambda s: (sg.where(s[0] % 2 == 0, s[0] // 2, 3 * s[0] + 1), s[1] + 1)
    >>> sg.while_loop(lambda s: s[0] > 1, steps, (n, 0))[1].eval(n=27).item()
    111
    """
    starts = flat(init)
    inputs = [like(one.tensor, one.label) for one in starts]
    with collect_draws() as draws:
        found = flat(body(shaped(init, inputs)))
        if len(found) != len(starts):
            raise ArgumentError(
                f"while_loop: body gives {len(found)} values, the state has {len(starts)}.",
                details=operand_lines(starts),
                fix="give a state of the same structure",
            )
        news = [
            same_type("while_loop", f"part {n} of the state", *pair, "the initial one")
            for n, pair in enumerate(zip(found, starts))
        ]
        again = _condition(cond(shaped(init, news)))
    first = _condition(cond(shaped(init, starts)))
    if draws:
        step = like(TensorType("int64", ()), "step")
        done = substituted([again, *news], draw_by_step(draws, step))
        again, *news = (done[one] for one in (again, *news))
        starts, inputs, news = [*starts, F.constant(0, "int64")], [*inputs, step], [*news, step + 1]
    going = like(TensorType("bool", ()), "going")
    made, others, effects = closed("while_loop", [going, *inputs], [again, *news])
    length = None if max_steps is None else plain_int("while_loop", "max_steps", max_steps)
    last: Any = F.loop(made, [], [first, *starts], others, length, conditional=True)
    if draws:
        drawn(last[0].inputs[0])
    results = list(last[1 : 1 + len(inputs) - bool(draws)])
    if effects and results:
        results[0] = F.with_updates(results[0], effects)
    return shaped(init, results)


def _condition(value: Any) -> Value:
    found = F.cast(as_value(value), "bool")
    if found.ndim:
        raise ShapeError(
            f"while_loop: the condition must be a scalar, it is {found.type}.",
            details=operand_lines([found]),
            fix="use sg.any(...) or sg.all(...)",
        )
    return found


@function_of
def switch(index: Any, branches: Sequence[Callable[..., Tree]], *operands: Tree) -> Tree:
    """Compute `branches[index](*operands)`, and none of the others.

    An index below 0 is 0, one beyond the last is the last. All branches give results of the same
    structure and types; raises `ShapeError` or `DTypeError` otherwise. The gradient, too, runs one
    branch.

    >>> import symgraph as sg
    >>> k, x = sg.iscalar("k"), sg.scalar("x")
    >>> y = sg.switch(k, [lambda x: x + 1, lambda x: x * x, lambda x: -x], x)
    >>> [y.eval(k=k, x=3.0).item() for k in range(3)]
    [4.0, 9.0, -3.0]
    """
    if not isinstance(branches, list | tuple) or not all(map(callable, branches)) or not branches:
        raise ArgumentTypeError("switch: branches must be a list of functions.")
    return _branched("switch", index, branches, operands)


@function_of
def cond(
    condition: Any, then: Callable[..., Tree], other: Callable[..., Tree], *operands: Tree
) -> Tree:
    """Compute `then(*operands)` where a scalar condition holds, else `other(*operands)`.

    Only one is computed, and before it whatever decides about sizes in either (how many elements a
    mask selects). What the functions use from outside may be given as operands, or not.
    Results must have the same structure and types; raises `ShapeError` or `DTypeError` otherwise.

    >>> import symgraph as sg
    >>> x = sg.scalar("x")
    >>> y = sg.cond(x > 0, lambda: sg.sqrt(x), lambda: -x)
    >>> y.eval(x=9.0).item(), y.eval(x=-9.0).item()
    (3.0, 9.0)
    """
    if not callable(then) or not callable(other):
        raise ArgumentTypeError(
            "cond: then and other must be functions.", fix="cond(c, lambda: a, lambda: b)"
        )
    flag = _condition_of("cond", condition)
    return _branched("cond", F.cast(flag, "int32"), [other, then], operands)


@function_of
def ifelse(condition: Any, then: Tree, other: Tree) -> Tree:
    """Give `then` where a scalar condition holds, else `other`, as Theano's `ifelse`.

    What only the other one needs is not computed. For the gradient both are; `cond` with functions
    runs one there, too.
    Raises `ShapeError` or `DTypeError` unless both have the same types.

    >>> import symgraph as sg
    >>> x = sg.scalar("x")
    >>> sg.ifelse(x > 0, sg.log(x), x).eval(x=-2.0).item()
    -2.0
    """
    flag = _condition_of("ifelse", condition)
    return _branched(
        "ifelse", F.cast(flag, "int32"), [lambda a, b: b, lambda a, b: a], (then, other)
    )


def _condition_of(name: str, condition: Any) -> Value:
    value = as_value(condition)
    if value.ndim:
        raise ShapeError(
            f"{name}: the condition must be a scalar, it is {value.type}.",
            details=operand_lines([value]),
            fix="use sg.where(condition, a, b), which selects element by element",
        )
    return F.not_equal(value, 0) if value.dtype != "bool" else value


def _branched(
    name: str, index: Any, branches: Sequence[Callable[..., Tree]], operands: Sequence[Tree]
) -> Tree:
    given = flat(list(operands))
    inputs = [like(one.tensor, one.label) for one in given]
    since = now()
    trees = [one(*shaped(list(operands), inputs)) for one in branches]
    results = [flat(tree) for tree in trees]
    for number, found in enumerate(results):
        if len(found) != len(results[0]):
            raise ArgumentError(
                f"{name}: branch {number} gives {len(found)} values, the first {len(results[0])}.",
                fix="give results of the same structure",
            )
    results = [
        [same_type(name, f"branch {number}", *pair, "the first") for pair in zip(found, results[0])]
        for number, found in enumerate(results)
    ]
    # all close over the same values, so that they take the same operands
    sizes = [len(found) for found in results]
    flat_results = [one for found in results for one in found]
    if decided_inside(inputs, topological(flat_results)):
        # such a size is computed before, whichever branch is run, and so from what stands outside
        there = substituted(flat_results, dict(zip(inputs, given)))
        flat_results, inputs, given = [there[one] for one in flat_results], [], []
    whole, others, effects = closed(name, inputs, flat_results, since)
    bodies = []
    for number in range(len(results)):
        start = sum(sizes[:number])
        outputs = whole.outputs[start : start + sizes[number]]
        bodies.append(type(whole)(whole.inputs, outputs))
    which = as_value(index)
    if which.ndim:
        raise ShapeError(f"{name}: the index must be a scalar.", details=operand_lines([which]))
    branched: Any = F.branch(which, bodies, [*given, *others])
    values = list(branched)
    if effects and values:
        values[0] = F.with_updates(values[0], effects)
    return shaped(trees[0], values)
