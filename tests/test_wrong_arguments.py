"""What users give wrongly to rules, patterns, passes and tools, and what says so."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import symgraph as sg
from symgraph.errors import ArgumentError, ArgumentTypeError, ConfigError, PassError

P = sg.P
a, b = sg.wild("a b")
A = sg.attribute("A")
x = sg.tensor("x", (sg.dim("B"), 3))


def apply(new: Any) -> Any:
    """Run a rule whose new side is a function."""
    return sg.function([x], sg.exp(x), passes=[sg.rule("mine", P.exp(a), new)])


def run(found: Any) -> Any:
    """Run a pass that gives something."""
    made = sg.graph_pass(stage="fuse", default=False)(lambda graph: found)
    return sg.function([x], sg.exp(x), passes=[made])


def fail() -> Any:
    raise ZeroDivisionError("in my rule")


MISTAKES: dict[str, tuple[type[sg.SymgraphError], str, Callable[[], Any]]] = {
    "wild of a number": (ArgumentTypeError, "wild: the names must be", lambda: sg.wild(3)),
    "wild of nothing": (ArgumentError, "there is no name", lambda: sg.wild(" ")),
    "wild of no name": (ArgumentError, "`1` is no name of a hole", lambda: sg.literal("1")),
    "wild F": (ArgumentError, "rules call the operations F", lambda: sg.attribute("A F")),
    "too few operands": (ArgumentError, r"add has the operands \(x, y\)", lambda: P.add(a)),
    "too many operands": (ArgumentError, "exp has the operands", lambda: P.exp(a, b)),
    "no operand of sum": (
        ArgumentError, "the pattern gives 0", lambda: P.sum(axis=A, keepdims=True)
    ),
    "a method": (sg.errors.UnknownNameError, r"write sg.P.sum\(x\)", lambda: a.sum()),
    "a truth": (ArgumentTypeError, "neither true nor false", lambda: a if a < b else b),
    "new side of None": (ArgumentTypeError, "got NoneType", lambda: apply(None)),
    "new side of a value": (ArgumentTypeError, "got Value", lambda: apply(x)),
    "an empty hole": (ArgumentError, "nothing fills the hole `b`", lambda: apply(P.sin(b))),
    "an empty attribute": (
        ArgumentError, "nothing fills the hole `A`",
        lambda: apply(P.sum(a, axis=A, keepdims=False)),
    ),
    "two kinds of holes": (
        ArgumentError, "two kinds of holes called `a`",
        lambda: sg.rule("mine", a * sg.literal("a"), a),
    ),
    "a rule's name": (ArgumentTypeError, "must be a string", lambda: sg.rule(3, P.exp(a), a)),
    "ulps": (ArgumentError, "within '4' ulps", lambda: sg.rule("m", P.exp(a), a, ulps="4")),
    "an example": (
        ArgumentTypeError, "must be a mapping", lambda: sg.rule("m", P.exp(a), a, example=[1])
    ),
    "what is written": (
        ArgumentTypeError, "must be functions", lambda: sg.rule("m", P.exp(a), a, written=[1])
    ),
    "parameters": (PassError, "mine: the rule failed on `exp`: TypeError", lambda: apply(fail)),
    "an exception": (PassError, "in my rule", lambda: apply(lambda F, a: fail())),
    "a rule of no value": (
        PassError, "gives str 'no', which is no value",
        lambda: sg.local_rule("exp")(lambda value: "no")(sg.exp(x)),
    ),
    "a rule on a number": (
        ArgumentTypeError, "takes a value", lambda: sg.rule("m", P.exp(a), a)(3)
    ),
    "a root": (ArgumentError, "no operation 'expp'", lambda: sg.local_rule("expp")),
    "no parentheses": (ArgumentError, "no operation <function", lambda: sg.local_rule(fail)),
    "a rule of no function": (ArgumentTypeError, "got int", lambda: sg.local_rule("exp")(3)),
    "a pass of None": (PassError, "the pass gives NoneType None", lambda: run(None)),
    "a pass of a list": (PassError, "the pass gives list", lambda: run([x])),
    "a pass of numbers": (PassError, "the pass gives dict", lambda: run({3: x})),
    "before": (
        ArgumentTypeError, "list of names", lambda: sg.graph_pass(stage="fuse", before="fold")
    ),
    "passes": (
        ArgumentTypeError, "must be a list of passes and rules",
        lambda: sg.function([x], x, passes=sg.rule("m", P.exp(a), a)),
    ),
    "no passes": (ArgumentTypeError, "got None", lambda: sg.function([x], x, passes=None)),
    "a guard": (
        ArgumentTypeError, "True or False, got 'no'", lambda: sg.function([x], x, nan_guard="no")
    ),
    "a function's name": (ArgumentTypeError, "a string", lambda: sg.function([x], x, name=3)),
    "evaluate": (ArgumentTypeError, "must be a mapping", lambda: sg.cost(x).evaluate("B")),
    "critical_path": (ArgumentTypeError, "got list", lambda: sg.cost(x).critical_path([3])),
    "a long number": (
        ArgumentError, "bytes as an integer", lambda: sg.cost(x).max_dim("B", "9" * 5000)
    ),
    "check of a value": (ArgumentTypeError, "takes a compiled function", lambda: sg.check(x, 1)),
    "bisect of None": (ArgumentTypeError, "got NoneType", lambda: sg.bisect_passes(None)),
    "rtol": (
        ArgumentError, "a number >= 0, got -1",
        lambda: sg.check(sg.function([x], x), [[1, 2, 3]], rtol=-1),
    ),
    "a path with a null": (ArgumentError, "no null", lambda: sg.draw(x, "a\0.html")),
    "a long path": (ArgumentError, "too long", lambda: sg.to_dot(x, "x" * 300)),
    "a setting's name": (ConfigError, "is a string, got list", lambda: sg.config.where([])),
    "words": (sg.errors.DTypeError, "was given <U1", lambda: sg.constant("x", "float32")),
}  # fmt: skip


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_says_what_is_wrong(name: str) -> None:
    kind, text, make = MISTAKES[name]
    with pytest.raises(kind, match=text):
        make()


def test_what_a_rule_raised_is_still_there() -> None:
    with pytest.raises(PassError) as caught:
        apply(lambda F, a: fail())
    assert isinstance(caught.value.__cause__, ZeroDivisionError)


def test_patterns_have_the_operators_of_values() -> None:
    m, n = sg.tensor("m", (3, 3)), sg.tensor("n", (3, 3))
    written: list[Callable[[Any, Any], Any]] = [
        lambda p, q: p @ q, lambda p, q: p // q, lambda p, q: p % q, lambda p, q: p < q,
        lambda p, q: p <= q, lambda p, q: p > q, lambda p, q: p >= q, lambda p, q: 2.0**p - q,
        lambda p, q: abs(p) + q, lambda p, q: 2.0 // p - q, lambda p, q: 2.0 % p - q,
    ]  # fmt: skip
    for write in written:
        found = next(write(a, b).match(write(m, n), {}))
        assert found["a"] is m
        assert found["b"] is n


def test_an_axis_behind_a_view_is_not_the_axis_of_the_pattern() -> None:
    gone = sg.rule("gone", P.tanh(P.exp(P.softmax(a, axis=A))), P.softmax(a, axis=A))
    y = sg.tensor("y", (3, 3))
    inner = sg.exp(sg.softmax(y, axis=1))
    assert gone(sg.tanh(inner)) is sg.softmax(y, axis=1)
    found = gone(sg.tanh(sg.permute_dims(inner, (1, 0))))
    assert found is None or found is sg.softmax(sg.permute_dims(y, (1, 0)), axis=0)


def test_patterns_are_found_behind_any_number_of_views() -> None:
    y = sg.tensor("y", (3, 4))
    value = sg.exp(y)
    for _ in range(1000):
        value = sg.permute_dims(sg.reshape(value, (3, 4)), (1, 0))
    assert sg.rule("log_of_exp", P.log(P.exp(a)), a)(sg.log(value)) is not None


def test_long_chains_of_views_and_arithmetic_compile() -> None:
    y = sg.tensor("y", (3, 4))
    value = y
    for _ in range(60):
        value = sg.permute_dims(sg.reshape(value, (2, 6)), (1, 0))
        value = sg.reshape(value, (3, 4))
    for _ in range(60):
        value = sg.tanh(sg.sin(value))
    f = sg.function([y], value)
    array = np.linspace(-1, 1, 12, dtype="float32").reshape(3, 4)
    with sg.config(rewrites="none"):
        assert np.array_equal(f(array), sg.function([y], value)(array))


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no named pipes")
def test_a_pipe_stays_a_pipe(tmp_path: Path) -> None:
    pipe = tmp_path / "graph.dot"
    os.mkfifo(pipe)
    with ThreadPoolExecutor(1) as pool:
        read = pool.submit(pipe.read_text)
        sg.to_dot(x, pipe)
        assert read.result(timeout=30) == sg.to_dot(x)
    assert pipe.is_fifo()


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    link = tmp_path / "link.dot"
    link.symlink_to(tmp_path / "there" / "graph.dot")
    sg.to_dot(x, link)
    assert link.is_symlink()
    assert (tmp_path / "there" / "graph.dot").read_text() == sg.to_dot(x)
