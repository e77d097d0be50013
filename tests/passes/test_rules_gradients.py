"""Gradients: rules that run before differentiation keep them, stabilisations make them right.

The gradient of log(softmax(x)) as written is 0/0 for logits far apart; as log_softmax it is not.
Rewriting must have happened before, whatever stands between the two operations.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import mpmath
import numpy as np
import pytest
from scipy import special

import symgraph as sg
from symgraph.graph.dtypes import is_float
from symgraph.graph.node import Value
from tests.passes.exact import numbers
from tests.passes.rule_cases import CASES, Case, computed, drawn, each

Array = Any

KEPT = [case for case in CASES if case.rule.before_grad]
DIFFERENTIABLE = [
    case for case in KEPT if all(is_float(one.dtype) for one in case.operands.values())
]


@each(DIFFERENTIABLE, "gradient")
def test_the_gradient_is_that_of_what_was_replaced(case: Case) -> None:
    """Of a weighted sum, by each operand, in float64; both are differentiated as they stand."""
    site = case.site("float64") or case.site()
    assert site is not None
    if not is_float(site.old.dtype):
        return
    rng = case.rng()
    weight = sg.constant(rng.uniform(0.5, 2, site.old.shape), site.old.dtype)
    wrt = [value for value in site.inputs.values() if is_float(value.dtype)]
    with sg.config(rewrites="none"):
        old, new = (
            sg.grad(sg.sum(weight * side), wrt, missing="zero") for side in (site.old, site.new)
        )
    tolerance = 1e-8 if site.old.dtype == "float64" else 1e-5
    for _ in range(4):
        feeds = drawn(case, site.inputs, rng)
        for before, after in zip(computed(old, feeds), computed(new, feeds)):
            scale = np.abs(before).max(initial=1.0)
            np.testing.assert_allclose(after, before, rtol=tolerance, atol=tolerance * scale)


def test_what_changes_no_value_keeps_gradients() -> None:
    """A real rule that is not run before differentiation says so for a reason."""
    late = {case.rule.name for case in CASES if case.rule.sound == "real"}
    late -= {case.rule.name for case in KEPT}
    assert late == set(), f"run before differentiation, or say here why not: {sorted(late)}"


# -- far out, end to end --------------------------------------------------------------------------

FAR = np.array([1e4, -1e4, 104.0, -104.0, 88.7, -88.7, 20.0, -20.0, 0.5, -0.5, 0.0, 1.0])
SHOWN: dict[str, Callable[[Value], Value]] = {
    "plain": lambda x: x,
    "reshape": lambda x: sg.reshape(x, (2, 6)),
    "transpose": lambda x: sg.reshape(x, (4, 3)).T,
    "expand": lambda x: x[:, None],
    "repeat": lambda x: sg.broadcast_to(x, (5, 12)),
}


def total(value: Value) -> Value:
    """Sum everything once; what was repeated counts as its mean."""
    return sg.sum(value) * (12 / float(np.prod(value.shape)))


# what a user writes, from inner to outer operation, and its derivative
NAIVE: dict[str, tuple[Callable[[Value], Value], Callable[[Value], Value], Any]] = {
    "log(1 + exp(x))": (sg.exp, lambda e: sg.log(1 + e), special.expit),
    "log(sigmoid(x))": (sg.sigmoid, sg.log, lambda x: special.expit(-x)),
    "log(1/(1+exp(-x)))": (lambda x: 1 + sg.exp(-x), lambda e: sg.log(1 / e),
                           lambda x: special.expit(-x)),
    "log(1 - sigmoid(x))": (sg.sigmoid, lambda s: sg.log(1 - s), lambda x: -special.expit(x)),
    "sqrt(x * x)": (lambda x: x * x, sg.sqrt, np.sign),
    "exp(x)/(1 + exp(x))": (sg.exp, lambda e: e / (1 + e),
                            lambda x: special.expit(x) * special.expit(-x)),
    "log(exp(x))": (sg.exp, sg.log, np.ones_like),
}  # fmt: skip


def gradient(build: Callable[[Value], Value], at: Array) -> Array:
    """Differentiate a scalar that a user wrote, in float32."""
    x = sg.tensor("x", at.shape)
    with sg.config(verify=True):
        return sg.function([x], sg.grad(build(x), x))(at.astype(np.float32))


@pytest.mark.parametrize("shown", SHOWN)
@pytest.mark.parametrize("name", NAIVE)
def test_elementwise_gradients_far_out(name: str, shown: str) -> None:
    inner, outer, derivative = NAIVE[name]
    found = gradient(lambda x: total(outer(SHOWN[shown](inner(x)))), FAR)
    expected = derivative(FAR)
    if name == "sqrt(x * x)":
        found, expected = found[FAR != 0], expected[FAR != 0]
    np.testing.assert_allclose(found, expected, rtol=2e-6, atol=1e-37)


def test_x_over_its_root_square_is_flat_away_from_0() -> None:
    far = FAR[FAR != 0]
    found = gradient(lambda x: sg.sum(x / sg.sqrt(x * x)), far)
    np.testing.assert_allclose(found, 0, atol=1e-7)


@pytest.mark.parametrize("shown", SHOWN)
@pytest.mark.parametrize("written", ["sigmoid", "quotient", "mean"])
def test_binary_cross_entropy_of_probabilities(written: str, shown: str) -> None:
    truth = (np.arange(12) % 3) / 2.0

    def loss(x: Value) -> Value:
        y = SHOWN[shown](sg.constant(truth, "float32"))
        p = sg.sigmoid(x) if written == "sigmoid" else 1 / (1 + sg.exp(-x))
        p = SHOWN[shown](p)
        if written == "mean":
            return -sg.mean(y * sg.log(p) + (1 - y) * sg.log(1 - p)) * 12
        return total(-y * sg.log(p) - (1.0 - y) * sg.log(1.0 - p))

    found = gradient(loss, FAR)
    # at 0, 1/2 and 1 the difference of two numbers near 1 is not exact in the probabilities
    np.testing.assert_allclose(found, special.expit(FAR) - truth, rtol=2e-6, atol=1e-7)


ROWS = np.array(
    [[1e4, -1e4, 0.0, 3.0], [104.0, -104.0, 88.0, -1.0], [1.0, 2.0, 3.0, 4.0], [-1e4, -1e4, 0, 1]]
)
PICK = np.array([[0, 1, 0, 0], [0, 0, 0, 1], [1, 0, 0, 0], [1, 0, 0, 0]], np.float64)

SOFT: dict[str, Callable[[Value], Value]] = {
    "softmax": lambda x: sg.softmax(x, axis=1),
    "exp_over_sum": lambda x: sg.exp(x) / sg.exp(x).sum(axis=1, keepdims=True),
    "exp_over_sum_expanded": lambda x: sg.exp(x) / sg.exp(x).sum(axis=1)[:, None],
    "exp_over_sum_transposed": lambda x: (sg.exp(x).T / sg.exp(x).sum(axis=1)).T,
    "shifted": lambda x: (lambda e: e / e.sum(axis=1, keepdims=True))(
        sg.exp(x - x.max(axis=1, keepdims=True))
    ),
}
BETWEEN: dict[str, Callable[[Value], Value]] = {
    "plain": lambda p: p,
    "flat": lambda p: sg.reshape(p, (16,)),
    "transpose": lambda p: p.T,
    "expand": lambda p: p[:, None, :],
    "flat_and_back": lambda p: sg.reshape(sg.reshape(p, (16,)), (4, 4)),
    "flat_of_transpose": lambda p: sg.reshape(p.T, (16,)),
}


@pytest.mark.parametrize("between", BETWEEN)
@pytest.mark.parametrize("soft", SOFT)
def test_cross_entropy_of_softmax(soft: str, between: str) -> None:
    pick = sg.constant(PICK, "float32")
    found = gradient(
        lambda x: -sg.sum(BETWEEN[between](pick) * sg.log(BETWEEN[between](SOFT[soft](x)))), ROWS
    )
    np.testing.assert_allclose(found, special.softmax(ROWS, axis=1) - PICK, rtol=2e-6, atol=1e-7)


@pytest.mark.parametrize("between", ["plain", "transpose", "expand"])
@pytest.mark.parametrize("axis", [None, 0, 1])
def test_logarithm_of_a_sum_of_exponentials(axis: int | None, between: str) -> None:
    def loss(x: Value) -> Value:
        place = {"plain": (0, 1), "transpose": (1, 0), "expand": (0, 2)}[between]
        over = None if axis is None else place[axis]
        return sg.sum(sg.log(sg.sum(BETWEEN[between](sg.exp(x)), axis=over)))

    np.testing.assert_allclose(
        gradient(loss, ROWS), special.softmax(ROWS, axis=axis), rtol=2e-6, atol=1e-7
    )


def test_without_rules_these_gradients_are_wrong() -> None:
    """What the tests above are about: as written, far out, there is nothing to be had."""
    with sg.config(rewrites="none"):
        for name, (inner, outer, _) in NAIVE.items():
            found = gradient(lambda x, f=inner, g=outer: sg.sum(g(f(x))), FAR[FAR != 0])
            assert np.isnan(found).any() or name == "sqrt(x * x)", name
        found = gradient(lambda x: sg.sum(sg.log(sg.softmax(x, axis=1))), ROWS)
        assert np.isnan(found).any()


def test_a_gradient_by_what_a_rule_would_swallow() -> None:
    """`p` is a value of its own: the rule for log(sigmoid(x)) must leave it there."""
    x = sg.vector("x")
    p = sg.sigmoid(x)
    loss = sg.sum(sg.log(p))
    by_p, by_x = sg.function([x], sg.grad(loss, [p, x]))([0.0, 2.0])
    np.testing.assert_allclose(by_p, 1 / special.expit([0.0, 2.0]), rtol=1e-6)
    np.testing.assert_allclose(by_x, special.expit([0.0, -2.0]), rtol=1e-6)


@pytest.mark.parametrize("name", ["log1p", "expm1", "logaddexp"])
def test_second_derivatives_far_out(name: str) -> None:
    """Of log(1 + exp(x)), exp(x) - 1 and log(exp(x) + exp(2 x)), against many digits."""
    build = {
        "log1p": lambda x: sg.log(1 + sg.exp(x)),
        "expm1": lambda x: sg.exp(x) - 1,
        "logaddexp": lambda x: sg.log(sg.exp(x) + sg.exp(2 * x)),
    }[name]
    second = {
        "log1p": lambda x: 1 / (2 + mpmath.exp(x) + mpmath.exp(-x)),
        "expm1": mpmath.exp,
        "logaddexp": lambda x: 1 / (2 + mpmath.exp(x) + mpmath.exp(-x)),
    }[name]
    at = np.array([-80.0, -20, -1, 0, 1, 20, 80])
    found = gradient(lambda x: sg.sum(sg.grad(sg.sum(build(x)), x)), at)
    with mpmath.workdps(60):
        expected = np.array([float(second(x)) for x in numbers(at)])
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-7)
