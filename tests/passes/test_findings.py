"""Programs on which rules once went wrong, each as small as it can be written."""

from collections.abc import Callable

import numpy as np
import pytest

import symgraph as sg
from symgraph.errors import PassError
from symgraph.graph.node import Value


def views(value: Value) -> Value:
    """Three views that do not merge."""
    return sg.reshape(sg.permute_dims(sg.reshape(value, (2, 6)), (1, 0)), (3, 4))


def piled(value: Value, size: int) -> Value:
    for _ in range(size):
        value = views(value)
    for _ in range(size):
        value = sg.tanh(sg.sin(value))
    return value


def alternating(value: Value, size: int) -> Value:
    for _ in range(size):
        value = views(sg.tanh(value)) + 1.0
    return value


@pytest.mark.parametrize("build", [piled, alternating])
def test_long_chains_of_views_take_linear_work(build: Callable[[Value, int], Value]) -> None:
    def replacements(size: int) -> int:
        x = sg.tensor("x", (3, 4), "float64")
        y = build(x, size)
        f = sg.function([x], [y, sg.grad(y.sum(), x)])
        given = np.linspace(-1.0, 1.0, 12).reshape(3, 4)
        with sg.config(rewrites="none"):
            plain = sg.function([x], [y, sg.grad(y.sum(), x)])
        for found, expected in zip(f(given), plain(given)):
            assert found == pytest.approx(expected, rel=1e-10, abs=1e-300)
        return sum(len(step.changes) for step in f.history)

    assert replacements(80) < 2.5 * replacements(40)


def test_gelu_is_recognised_by_a_constant_as_exact_as_its_dtype() -> None:
    def ops(dtype: str, number: float) -> set[str]:
        x = sg.vector("x", dtype)
        f = sg.function([x], 0.5 * x * (1 + sg.erf(x * number)))
        return {node.op.name for node in f.graph.values}

    assert "gelu" in ops("float32", 0.70710678)
    assert "gelu" not in ops("float32", 0.7071)
    assert "gelu" in ops("float64", np.sqrt(0.5))
    assert "gelu" not in ops("float64", 0.70710678)


def test_adding_and_taking_away_a_large_number_still_rounds() -> None:
    x = sg.vector("x")
    f = sg.function([x], (x + 12582912.0) - 12582912.0)
    assert f([1.4, 2.6]).tolist() == [1.0, 3.0]


def test_the_sum_of_nothing_is_zero_whatever_would_be_repeated() -> None:
    n = sg.dim("maybe_none", min=0)
    x, y = sg.scalar("x"), sg.tensor("y", (n,))
    f = sg.function([x, y], sg.sum(sg.broadcast_to(x, (n,))))
    assert f(np.inf, np.zeros(0, "float32")) == 0
    assert f(2.0, np.zeros(3, "float32")) == 6


def test_a_rule_that_brings_in_an_input_is_refused_when_compiling() -> None:
    a = sg.wild("a")
    stranger = sg.vector("stranger")
    wrong = sg.rule("wrong", sg.P.sin(a), lambda F, a: F.specify_shape(stranger, a.shape))
    x = sg.vector("x")
    named = r"after the pass `stabilise` .* needs the input `stranger`"
    with sg.config(verify=False), pytest.raises(PassError, match=named):
        sg.function([x], sg.sin(x), passes=[wrong])
