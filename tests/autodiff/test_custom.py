"""Derivatives that a user gives, checkpoints, and what only cotangents see."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import symgraph as sg
from symgraph.autodiff.call import Call
from symgraph.errors import ArgumentTypeError, GradError
from symgraph.graph.registry import F
from symgraph.graph.walk import topological

X = np.array([[0.5, -1.0, 2.0], [1.5, 0.25, -0.75]])


def run(outputs: Any, *pairs: Any) -> Any:
    """Compile for these inputs and run: custom rules are gone by then."""
    f = sg.function([x for x, _ in pairs], outputs)
    return f(*(array for _, array in pairs))


@pytest.fixture
def x() -> Any:
    return sg.tensor("x", (sg.dim("B"), 3), "float64")


def rounded() -> Any:
    """Make a rounding whose gradient is twice the cotangent times the operand."""
    f = sg.custom_vjp(lambda x: F.round(x))
    f.defvjp(lambda x: (f(x), x), lambda x, g: (2 * x * g,))
    return f


def test_a_custom_gradient_is_used_and_the_value_is_the_functions(x: Any) -> None:
    f = rounded()
    y = f(x)
    found = run([y, sg.grad(y.sum(), x)], (x, X))
    np.testing.assert_array_equal(found[0], np.round(X))
    np.testing.assert_allclose(found[1], 2 * X)


def test_a_custom_gradient_is_differentiated_again_and_forwards(x: Any) -> None:
    f = rounded()
    first = sg.grad((f(x) * x).sum(), x)  # f + 2 x^2, of which f counts with 2 x again
    second = sg.grad(first.sum(), x)
    forward = sg.jvp(f(x), x, sg.constant(np.ones((2, 3))))
    found = run([first, second, forward], (x, X))
    np.testing.assert_allclose(found[0], np.round(X) + 2 * X * X)
    np.testing.assert_allclose(found[1], 2 * X + 4 * X)
    np.testing.assert_allclose(found[2], 2 * X)


def test_a_custom_gradient_stays_under_vmap(x: Any) -> None:
    f = rounded()
    inner = sg.vmap(lambda row: sg.grad(f(row).sum(), row))(x)
    outer = sg.grad(sg.vmap(f)(x).sum(), x)
    twice = sg.grad(sg.vmap(sg.vmap(f))(x).sum(), x)
    for found in run([inner, outer, twice], (x, X)):
        np.testing.assert_allclose(found, 2 * X)


def test_a_custom_gradient_works_on_structures_and_fixed_arguments(x: Any) -> None:
    @sg.custom_vjp
    def f(pair: Any, power: int) -> Any:
        return {"sum": pair["a"] + pair["b"], "power": pair["a"] ** power}

    f.defvjp(
        lambda pair, power: (f(pair, power), pair["a"]),
        lambda a, g: ({"a": 3 * g["sum"] + g["power"] * a, "b": None}, None),
    )
    b = sg.tensor("b", x.shape, "float64")
    found = f({"a": x, "b": b}, 3)
    loss = found["sum"].sum() + 2 * found["power"].sum()
    numbers = run([found["power"], *sg.grad(loss, [x, b])], (x, X), (b, X))
    np.testing.assert_allclose(numbers[0], X**3)
    np.testing.assert_allclose(numbers[1], 3 + 2 * X)
    np.testing.assert_array_equal(numbers[2], np.zeros_like(X))


def test_a_custom_jvp_is_used_both_ways(x: Any) -> None:
    @sg.custom_jvp
    def f(a: Any, b: Any) -> Any:
        return F.sin(a) * b

    f.defjvp(lambda args, t: (f(*args), args[1] * t[0] + 5 * t[1]))
    b = sg.tensor("b", (3,), "float64")
    wide = F.broadcast_to(b, x.shape)
    weights = np.array([1.0, 2.0, 3.0])
    y = f(x, wide)
    pulled = sg.grad(y.sum(), [x, b])
    pushed = sg.jvp(y, [x, b], [sg.constant(np.ones((2, 3))), sg.constant(np.ones(3))])
    lanes = sg.vmap(lambda row: sg.grad(f(row, b).sum(), row))(x)
    found = run([y, *pulled, pushed, lanes], (x, X), (b, weights))
    np.testing.assert_allclose(found[0], np.sin(X) * weights)
    np.testing.assert_allclose(found[1], np.tile(weights, (2, 1)))
    np.testing.assert_allclose(found[2], np.full(3, 10.0))
    np.testing.assert_allclose(found[3], np.tile(weights + 5, (2, 1)))
    np.testing.assert_allclose(found[4], np.tile(weights, (2, 1)))


def test_rules_are_gone_when_a_function_is_compiled(x: Any) -> None:
    f, g = rounded(), rounded()
    once = sg.function([x], f(g(x) + g(x * 2)))
    plain = sg.function([x], F.round(F.round(x) + F.round(x * 2)))
    assert [v.op.name for v in once.graph.values] == [v.op.name for v in plain.graph.values]
    assert not any(isinstance(v.op, Call) for v in once.graph.values)


def broken(cotangent: Any) -> Any:
    f = sg.custom_vjp(lambda x: x * 2)
    f.defvjp(lambda x: (f(x), x), lambda x, g: cotangent(x, g))
    return f


@pytest.mark.parametrize(
    ("cotangent", "message"),
    [
        (
            lambda x, g: (F.sum(g, axis=0),),
            r"must be float64\[B, 3\], as `x` is; it is float64\[3\]",
        ),
        (lambda x, g: (F.cast(g, "float32"),), r"it is float32\[B, 3\]"),
        (lambda x, g: (g, g), "one cotangent for each of 1 arguments, it gives 2"),
        (lambda x, g: ((g, g),), "the structure of its argument"),
    ],
)
def test_a_wrong_cotangent_is_one_sentence(x: Any, cotangent: Any, message: str) -> None:
    y = broken(cotangent)(x).sum()
    with pytest.raises(GradError, match=message):
        sg.grad(y, x)


def test_a_wrong_tangent_is_one_sentence(x: Any) -> None:
    f = sg.custom_jvp(lambda x: F.sum(x, axis=0))
    f.defjvp(lambda args, t: (f(*args), t[0]))
    with pytest.raises(GradError, match=r"tangent of result 0 .* must be float64\[3\]"):
        sg.jvp(f(x), x, x)


def test_what_a_rule_knows_nothing_about_is_refused(x: Any) -> None:
    w = sg.shared(np.ones(3), "w")
    f = sg.custom_vjp(lambda x: x * w)
    f.defvjp(lambda x: (f(x), None), lambda _, g: (g,))
    g = sg.custom_jvp(lambda x: x * w)
    g.defjvp(lambda args, t: (g(*args), t[0]))
    np.testing.assert_allclose(run(sg.grad(f(x).sum(), x), (x, X)), np.ones((2, 3)))
    for each in (f, g):
        with pytest.raises(GradError, match="reads `w` from outside"):
            sg.grad(each(x).sum(), w)
    with pytest.raises(GradError, match="has no rule yet"):
        sg.custom_vjp(lambda x: x)(x)
    with pytest.raises(ArgumentTypeError, match="custom_jvp: takes a function, got int"):
        sg.custom_jvp(3)  # type: ignore[arg-type]


# -- checkpoints -----------------------------------------------------------------------------------


def tower(x: Any, w: Any) -> Any:
    for _ in range(6):
        x = F.tanh(x @ w) * 1.5
    return x


def test_a_checkpoint_changes_neither_values_nor_gradients(x: Any) -> None:
    w = sg.shared(np.eye(3) + 0.1, "w")
    plain = tower(x, w)
    kept = sg.checkpoint(tower)(x, w)
    captured = sg.checkpoint(lambda x: tower(x, w))(x)
    results = []
    for y in (plain, kept, captured):
        loss = (y * y).sum()
        second = sg.grad(sg.grad(loss, w).sum(), x)
        forward = sg.jvp(y, x, sg.constant(np.ones((2, 3))))
        lanes = sg.vmap(lambda row: sg.grad(sg.checkpoint(tower)(row, w).sum(), row))(x)
        results.append(run([y, *sg.grad(loss, [x, w]), second, forward, lanes], (x, X)))
    for one, other in zip(results[0], results[1]):
        np.testing.assert_allclose(one, other, rtol=1e-12)
    for one, other in zip(results[0], results[2]):
        np.testing.assert_allclose(one, other, rtol=1e-12)


def test_a_value_given_twice_to_a_checkpoint_has_its_gradient_once(x: Any) -> None:
    y = sg.checkpoint(lambda one, other: one * sg.exp(other))(x, x)
    only = sg.checkpoint(lambda one, other: sg.exp(other))(x, x)
    found = run([sg.grad(y.sum(), x), sg.grad(only.sum(), x)], (x, X))
    np.testing.assert_allclose(found[0], np.exp(X) * (1 + X))
    np.testing.assert_allclose(found[1], np.exp(X))


def test_a_checkpoint_lowers_the_peak_of_memory() -> None:
    x = sg.tensor("x", (sg.dim("B"), 64))
    w = sg.shared(np.eye(64, dtype=np.float32), "w")

    def peak(part: Any) -> int:
        y = x
        for _ in range(6):
            y = part(y, w)
        step = sg.function([x], sg.grad(y.sum(), w))
        return sg.cost(step).evaluate(B=4096).peak

    with_it, without = peak(sg.checkpoint(tower)), peak(tower)
    assert with_it < 0.6 * without, (with_it, without)


def test_remat_finds_more_where_checkpoints_were_set_by_hand() -> None:
    x = sg.tensor("x", (sg.dim("B"), 64))
    w = sg.shared(np.eye(64, dtype=np.float32) * 0.9, "w")
    y = tower(tower(sg.checkpoint(tower)(x, w), w), w)
    slope = sg.grad(y.sum(), w)
    by_hand = sg.function([x], slope)
    peak = sg.cost(by_hand).evaluate(B=256).peak
    fitted = sg.function([x], slope, passes=[sg.remat(peak * 3 // 4, B=256)])
    assert sg.cost(fitted).evaluate(B=256).peak <= peak * 3 // 4
    array = np.random.default_rng(0).normal(size=(256, 64)).astype(np.float32)
    np.testing.assert_allclose(fitted(array), by_hand(array), rtol=1e-4, atol=1e-4)


def test_a_checkpoint_draws_the_same_random_numbers_again(x: Any) -> None:
    stream = F.stream(5)
    dropped = sg.checkpoint(lambda x: F.dropout(x, 0.5, stream=stream) * x)
    y = dropped(x)
    first, slope = run([y, sg.grad(y.sum(), x)], (x, X))
    np.testing.assert_allclose(slope, np.where(first != 0, 4 * X, 0.0))  # d 2 x^2
    f = sg.function([x], y)
    assert not np.array_equal(f(np.ones((40, 3))), f(np.ones((40, 3))))  # the stream goes on


# -- what only cotangents see ----------------------------------------------------------------------


def test_cotangents_are_clipped_scaled_and_reversed(x: Any) -> None:
    clipped = sg.grad((sg.clip_gradient(x, -1, 0.5) * sg.constant(X)).sum(), x)
    scaled = sg.grad((sg.scale_gradient(x, 3) * x).sum(), x)
    reverse = sg.grad((sg.reverse_gradient(x, 0.5) * 4).sum(), x)
    pushed = sg.jvp(sg.clip_gradient(x, -1, 0.5), x, sg.constant(X))
    found = run([clipped, scaled, reverse, pushed], (x, X))
    np.testing.assert_allclose(found[0], np.clip(X, -1, 0.5))
    np.testing.assert_allclose(found[1], 4 * X)
    np.testing.assert_allclose(found[2], np.full((2, 3), -2.0))
    np.testing.assert_allclose(found[3], X)
    plain = sg.function([x], x * 2)
    through = sg.function([x], sg.clip_gradient(sg.scale_gradient(x, 3), -1, 1) * 2)
    names = [[v.op.name for v in f.graph.values] for f in (plain, through)]
    assert names[0] == names[1]


def test_integers_have_no_cotangent_to_change() -> None:
    i = sg.tensor("i", (3,), "int32")
    assert sg.clip_gradient(i, -1, 1) is i
    assert sg.scale_gradient(i, 2) is i


def test_a_graph_with_rules_is_one_operation(x: Any) -> None:
    calls = [v for v in topological([rounded()(x)]) if isinstance(v.op, Call)]
    assert len(calls) == 1
    assert "custom_vjp" in repr(calls[0].op)
