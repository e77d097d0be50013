"""`scan` and its kin against loops in NumPy, on the reference and compiled."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import symgraph as sg
from symgraph.backends.cpu.compiler import unavailable
from symgraph.errors import (
    ArgumentError,
    ArgumentTypeError,
    DTypeError,
    GradError,
    GuardError,
    ShapeError,
)

RNG = np.random.default_rng(7)

needs_compiler = pytest.mark.skipif(bool(unavailable()), reason=unavailable() or "compiler")
both = pytest.mark.parametrize("backend", ["reference", pytest.param("cpu", marks=needs_compiler)])


def drawn(*shape: int) -> Any:
    return RNG.normal(size=shape)


def check(
    backend: str,
    inputs: list[sg.Value],
    outputs: Any,
    loop: Callable[..., Any],
    arrays: list[Any],
    wrt: list[sg.Value] | None = None,
) -> None:
    """Compare values with a loop, and gradients of a weighted sum with differences, in float64."""
    several = outputs if isinstance(outputs, list) else [outputs]
    expected = loop(*arrays)
    expected = expected if isinstance(expected, list) else [expected]
    weights = [RNG.normal(size=one.shape) for one in expected]
    floats = [(o, w) for o, w in zip(several, weights) if o.dtype == "float64"]
    loss = sum((sg.sum(o * w) for o, w in floats), sg.constant(0.0, "float64"))
    wrt = inputs if wrt is None else wrt
    f = sg.function(inputs, [*several, *sg.grad(loss, wrt)], backend=backend)
    found = f(*arrays)
    for one, wanted in zip(found, expected):
        np.testing.assert_allclose(one, wanted, rtol=1e-11, atol=1e-12)

    def total(*values: Any) -> float:
        made = loop(*values)
        made = made if isinstance(made, list) else [made]
        pairs = [(m, w) for m, w, o in zip(made, weights, several) if o.dtype == "float64"]
        return float(sum(np.sum(m * w) for m, w in pairs))

    for gradient, value in zip(found[len(several) :], wrt):
        place = next(n for n, one in enumerate(inputs) if one is value)
        step = RNG.normal(size=arrays[place].shape)
        above, below = list(arrays), list(arrays)
        above[place], below[place] = arrays[place] + 1e-6 * step, arrays[place] - 1e-6 * step
        slope = (total(*above) - total(*below)) / 2e-6
        assert np.sum(gradient * step) == pytest.approx(slope, rel=2e-6, abs=1e-7)


@both
def test_a_recurrent_network(backend: str) -> None:
    T, B = sg.dim("T"), sg.dim("B")
    x, h = sg.tensor("x", (T, B, 3), "float64"), sg.tensor("h", (B, 4), "float64")
    wx, wh = sg.tensor("wx", (3, 4), "float64"), sg.tensor("wh", (4, 4), "float64")
    b = sg.tensor("b", (4,), "float64")
    rows, _ = sg.scan(lambda row, before: sg.tanh(row @ wx + before @ wh + b), x, [h])

    def loop(x: Any, h: Any, wx: Any, wh: Any, b: Any) -> Any:
        kept = []
        for row in x:
            h = np.tanh(row @ wx + h @ wh + b)
            kept.append(h)
        return np.stack(kept)

    arrays = [drawn(5, 2, 3), drawn(2, 4), drawn(3, 4), drawn(4, 4), drawn(4)]
    check(backend, [x, h, wx, wh, b], rows, loop, arrays)


@both
def test_taps_of_sequences_and_outputs(backend: str) -> None:
    x = sg.tensor("x", (sg.dim("T"),), "float64")
    first = sg.tensor("first", (3,), "float64")

    def step(older: Any, now: Any, later: Any, three: Any, one: Any) -> Any:
        return older * now - later + 0.5 * three * one

    rows, _ = sg.scan(step, {"input": x, "taps": [-2, 0, 1]}, {"initial": first, "taps": [-3, -1]})

    def loop(x: Any, first: Any) -> Any:
        y = list(first)
        for t in range(2, len(x) - 1):
            y.append(x[t - 2] * x[t] - x[t + 1] + 0.5 * y[-3] * y[-1])
        return np.array(y[3:])

    check(backend, [x, first], rows, loop, [drawn(9), drawn(3)])


@both
def test_several_outputs_some_not_fed_back(backend: str) -> None:
    x = sg.tensor("x", (sg.dim("T"), 2), "float64")
    y = sg.tensor("y", (sg.dim("T"), 2), "float64")
    s = sg.tensor("s", (2,), "float64")
    k = sg.tensor("k", (), "float64")
    outputs, _ = sg.scan(
        lambda a, b, before, scale: [before * a + b, sg.sum(before) * scale, a * b],
        [x, y], [s, None, None], [k],
    )  # fmt: skip

    def loop(x: Any, y: Any, s: Any, k: Any) -> Any:
        kept: list[list[Any]] = [[], [], []]
        for a, b in zip(x, y):
            kept[1].append(s.sum() * k)
            s = s * a + b
            kept[0].append(s)
            kept[2].append(a * b)
        return [np.array(one) for one in kept]

    check(backend, [x, y, s, k], outputs, loop, [drawn(4, 2), drawn(4, 2), drawn(2), drawn()])


@both
def test_backwards_and_a_number_of_steps(backend: str) -> None:
    x = sg.tensor("x", (6, 2), "float64")
    rows, _ = sg.scan(lambda a, s: a - 0.3 * s, x, [np.zeros(2)], n_steps=4, go_backwards=True)

    def loop(x: Any) -> Any:
        s, kept = np.zeros(2), []
        for a in x[::-1][:4]:
            s = a - 0.3 * s
            kept.append(s)
        return np.array(kept)

    check(backend, [x], rows, loop, [drawn(6, 2)])


@both
def test_no_sequence(backend: str) -> None:
    a = sg.tensor("a", (2,), "float64")
    powers, _ = sg.scan(lambda p, a: p * a, None, [sg.ones_like(a)], [a], n_steps=5)
    check(backend, [a], powers, lambda a: np.array([a ** (n + 1) for n in range(5)]), [drawn(2)])


@both
def test_no_steps(backend: str) -> None:
    x, w = sg.tensor("x", (sg.dim("steps", min=0), 2), "float64"), sg.tensor("w", (2,), "float64")
    rows, _ = sg.scan(lambda row, s: s * w + row, x, [np.ones(2)])
    last, _ = sg.foldl(lambda row, s: s * w + row, x, [np.ones(2)])
    loss = sg.sum(rows) + sg.sum(last)
    f = sg.function([x, w], [rows, last, sg.grad(loss, w)], backend=backend)
    kept, final, gradient = f(np.zeros((0, 2)), np.ones(2))
    assert kept.shape == (0, 2)
    assert final.tolist() == [1, 1]
    assert gradient.tolist() == [0, 0]
    assert f(np.ones((3, 2)), np.ones(2))[1].tolist() == [4, 4]


@both
@pytest.mark.parametrize("backwards", [False, True])
def test_more_steps_than_rows_are_no_rows_of_others(backend: str, backwards: bool) -> None:
    """Where neither size is known, a call finds it: compiled loops would read what lies behind."""
    x, n, z = sg.vector("x"), sg.iscalar("n"), sg.tensor("z", (sg.dim("scan_rows"),))
    for steps, inputs, count, few, many in (
        (3, [x], 3, [[1.0, 2.0, 4.0]], [[1.0, 2.0]]),
        (n, [x, n], 2, [[1.0, 2.0, 4.0], 2], [[1.0, 2.0, 4.0], 4]),
        (z.shape[0], [x, z], 1, [[1.0, 2.0, 4.0], [0.0]], [[1.0, 2.0], [0.0] * 3]),
    ):
        rows, _ = sg.scan(lambda a, s: s + a, x, [0.0], n_steps=steps, go_backwards=backwards)
        f = sg.function(inputs, [rows, sg.grad(rows.sum(), x)], backend=backend)
        found, slope = f(*few)
        given = np.array(few[0])[:: -1 if backwards else 1]
        assert found.tolist() == np.cumsum(given[:count]).tolist()
        slopes = np.array([*range(count, 0, -1), *[0] * (3 - count)])
        assert slope.tolist() == slopes[:: -1 if backwards else 1].tolist()
        with pytest.raises(GuardError, match=r"needs min\("):
            f(*many)


@both
def test_a_sequence_shorter_than_its_taps(backend: str) -> None:
    x = sg.vector("x")
    rows, _ = sg.scan(lambda a, b: a * b, {"input": x, "taps": [-2, 0]})
    f = sg.function([x], rows, backend=backend)
    assert f([1, 2, 3, 4]).tolist() == [3, 8]
    assert f([1, 2]).tolist() == []
    with pytest.raises(GuardError, match=r"needs 0 <= x.shape\[0\] - 2"):
        f([1])


@both
def test_until(backend: str) -> None:
    x = sg.tensor("x", (7,), "float64")
    step = lambda a, s: (s + a * a, sg.until(s + a * a > 3.0))
    rows, _ = sg.scan(step, x, [np.float64(0)])
    padded, _ = sg.scan(step, x, [np.float64(0)], pad=True)

    def loop(x: Any) -> Any:
        kept = np.cumsum(x * x)
        return kept[: 1 + np.argmax(kept > 3.0)] if kept[-1] > 3.0 else kept

    def filled(x: Any) -> Any:
        return np.resize(np.pad(loop(x), (0, 7)), 7)

    for array in (np.array([1.0, 0.5, 1.2, 1.1, 0.3, 2.0, 1.0]), np.full(7, 0.1)):
        check(backend, [x], rows, loop, [array])
        check(backend, [x], padded, filled, [array])
    f = sg.function([x], [rows[-1], rows.shape[0] + 0], backend=backend)
    assert f(np.full(7, 1.5))[1] == 2


@both
def test_updates_inside_change_from_step_to_step(backend: str) -> None:
    count = sg.shared(np.float64(1), "count")
    x = sg.tensor("x", (sg.dim("T"),), "float64")
    rows, updates = sg.scan(lambda a: (a * count, {count: count * 2}), x)
    f = sg.function([x], rows, updates=updates, backend=backend)
    assert f(np.ones(4)).tolist() == [1, 2, 4, 8]
    assert float(count.value) == 16
    assert f(np.ones(2)).tolist() == [16, 32]


@both
def test_the_gradient_is_truncated(backend: str) -> None:
    x, w = sg.tensor("x", (sg.dim("T"),), "float64"), sg.tensor("w", (), "float64")
    rows, _ = sg.scan(lambda a, s: w * s + a, x, [np.float64(0.5)], truncate_gradient=3)
    f = sg.function([x, w], [rows, *sg.grad(rows[-1], [x, w])], backend=backend)
    values, slope = np.array([1.0, -2.0, 0.5, 3.0, 1.5]), 0.7
    kept, dx, dw = f(values, slope)
    s, states = 0.5, []
    for a in values:
        states.append(s)
        s = slope * s + a
    np.testing.assert_allclose(kept[-1], s)
    np.testing.assert_allclose(dx, [0, 0, slope**2, slope, 1])
    np.testing.assert_allclose(dw, states[4] + slope * states[3] + slope**2 * states[2])


@both
def test_checkpoints_change_nothing_but_memory(backend: str) -> None:
    T = 64
    x, w = sg.tensor("x", (T, 8), "float64"), sg.tensor("w", (8, 8), "float64")

    def made(checkpoint: int | None) -> sg.Function:
        rows, _ = sg.scan(
            lambda row, s: sg.tanh(s @ w + row), x, [np.zeros(8)], checkpoint=checkpoint
        )
        loss = sg.sum(rows[-1] * rows[-1])
        return sg.function([x, w], [loss, sg.grad(loss, w)], backend=backend)

    arrays = drawn(T, 8), drawn(8, 8) * 0.3
    plain, again = made(None), made(8)
    for one, other in zip(plain(*arrays), again(*arrays)):
        np.testing.assert_allclose(one, other, rtol=1e-10)
    assert again.bind().peak < plain.bind().peak


@both
def test_a_checkpoint_need_not_divide_the_steps(backend: str) -> None:
    T, w = sg.dim("steps", min=0), sg.tensor("w", (3,), "float64")
    x = sg.tensor("x", (T, 3), "float64")

    def made(each: int | None, rows: Any) -> sg.Function:
        states, _ = sg.scan(lambda a, s: sg.tanh(s * w + a), rows, [np.zeros(3)], checkpoint=each)
        loss = sg.sum(states * states)
        return sg.function([x, w], [states, sg.grad(loss, w), sg.grad(loss, x)], backend=backend)

    plain, again = made(None, x), made(4, x)
    for count in (0, 3, 4, 11):
        arrays = drawn(count, 3), drawn(3)
        for one, other in zip(plain(*arrays), again(*arrays), strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-10)
    fixed = [made(each, x[:7]) for each in (None, 3, 9)]
    arrays = drawn(8, 3), drawn(3)
    for wanted, *others in zip(*(f(*arrays) for f in fixed), strict=True):
        for other in others:
            np.testing.assert_allclose(other, wanted, rtol=1e-10)


@both
def test_a_loop_in_a_loop(backend: str) -> None:
    x, w = sg.tensor("x", (4, 3), "float64"), sg.tensor("w", (), "float64")

    def outer(row: Any, s: Any) -> Any:
        inner, _ = sg.scan(lambda a, z: sg.sin(z * w + a * s), row, [s])
        return inner[-1]

    rows, _ = sg.scan(outer, x, [np.float64(0.4)])

    def loop(x: Any, w: Any) -> Any:
        s, kept = 0.4, []
        for row in x:
            z = s
            for a in row:
                z = np.sin(z * w + a * s)
            s = z
            kept.append(s)
        return np.array(kept)

    check(backend, [x, w], rows, loop, [drawn(4, 3), np.float64(0.8)])


@both
def test_random_values_differ_from_step_to_step(backend: str) -> None:
    sg.seed(3)
    x = sg.tensor("x", (6,), "float64")
    noise, _ = sg.scan(lambda a: a + sg.random.uniform((50,), dtype="float64"), x)
    outside = sg.random.uniform((50,), dtype="float64")
    same, _ = sg.scan(lambda a: a + outside, x)

    def nested(a: Any) -> Any:
        return sg.scan(lambda b: b + sg.random.uniform((4,), dtype="float64"), x)[0]

    twice, _ = sg.scan(nested, x)
    f = sg.function([x], [noise, same, twice], backend=backend)
    first, fixed, deep = f(np.zeros(6))
    second = f(np.zeros(6))[0]
    assert len(np.unique(first)) == 300
    assert np.intersect1d(first, second).size == 0
    assert np.all(fixed == fixed[0])
    assert len(np.unique(deep)) == 6 * 6 * 4
    assert abs(first.mean() - 0.5) < 0.07


@both
def test_folds(backend: str) -> None:
    x = sg.tensor("x", (sg.dim("T"),), "float64")
    left, _ = sg.foldl(lambda a, s: s * 0.5 + a, x, [np.float64(1)])
    right, _ = sg.foldr(lambda a, s: s * 0.5 + a, x, [np.float64(1)])
    both_, _ = sg.reduce(lambda a, s, p: [s + a, p * a], x, [np.float64(0), np.float64(1)])
    mapped, _ = sg.map(lambda a, b: a * b, [x, x])

    def loop(x: Any) -> Any:
        first = second = 1.0
        for a in x:
            first = first * 0.5 + a
        for a in x[::-1]:
            second = second * 0.5 + a
        return [np.asarray(first), np.asarray(second), x.sum(), x.prod(), x * x]

    check(backend, [x], [left, right, *both_, mapped], loop, [drawn(5)])


@both
def test_while(backend: str) -> None:
    x = sg.tensor("x", (), "float64")
    root = sg.while_loop(
        lambda s: sg.abs(s["y"] * s["y"] - x) > 1e-12,
        lambda s: {"y": 0.5 * (s["y"] + x / s["y"]), "n": s["n"] + 1},
        {"y": x, "n": 0},
        max_steps=60,
    )
    slope = sg.grad(root["y"], x)
    f = sg.function([x], [root["y"], root["n"], slope], backend=backend)
    for value in (2.0, 9.0, 1e6):
        y, n, d = f(value)
        assert y == pytest.approx(value**0.5, rel=1e-12)
        assert d == pytest.approx(0.5 / value**0.5, rel=1e-9)
        assert 1 < n < 20
    assert f(1.0)[1] == 0


@both
def test_a_loop_without_a_bound_has_no_gradient(backend: str) -> None:
    x = sg.tensor("x", (), "float64")
    y = sg.while_loop(lambda s: s < 100.0, lambda s: s * x, x)
    assert sg.function([x], y, backend=backend)(3.0) == 243
    with pytest.raises(GradError, match="max_steps"):
        sg.grad(y, x)


@both
def test_one_branch_is_computed(backend: str) -> None:
    x, k = sg.tensor("x", (3,), "float64"), sg.iscalar("k")
    w = sg.tensor("w", (3,), "float64")

    def slow(a: Any) -> Any:
        return sg.scan(lambda row, s: s + row * w, a, [np.zeros(3)])[0][-1]

    y = sg.switch(k, [lambda a: a * w, slow, lambda a: sg.exp(a)], x)
    f = sg.function([k, x, w], [y, *sg.grad(sg.sum(y), [x, w], missing="zero")], backend=backend)
    a, b = drawn(3), drawn(3)
    ones = np.ones(3)
    expected = {
        0: (a * b, b, a),
        1: (a.sum() * b, ones * b.sum(), ones * a.sum()),
        2: (np.exp(a), np.exp(a), 0 * a),
    }
    for number in (-4, 0, 1, 2, 9):
        found = f(number, a, b)
        for one, wanted in zip(found, expected[min(max(number, 0), 2)]):
            np.testing.assert_allclose(one, wanted, rtol=1e-12, atol=1e-15)


@both
def test_what_only_the_other_branch_needs_is_not_computed(backend: str) -> None:
    x, c = sg.tensor("x", (4,), "float64"), sg.tensor("c", (), "bool")
    table, i = sg.shared(np.arange(3.0)), sg.iscalar("i")
    beyond = sg.exp(sg.take(table, i)) + sg.sum(x)  # raises where it is computed
    f = sg.function([c, x, i], sg.ifelse(c, beyond, sg.sum(x)), backend=backend)
    assert f(False, np.full(4, -1.0), 7) == -4
    assert f(True, np.full(4, 2.0), 0) == 9
    with pytest.raises(IndexError):
        f(True, np.full(4, 2.0), 7)


def test_cond_captures_and_differentiates() -> None:
    x, w = sg.tensor("x", (), "float64"), sg.tensor("w", (), "float64")
    y = sg.cond(x > 0, lambda: x * w, lambda: sg.sin(x))
    f = sg.function([x, w], [y, *sg.grad(y, [x, w])])
    assert [float(one) for one in f(2.0, 3.0)] == [6.0, 3.0, 2.0]
    np.testing.assert_allclose(f(-2.0, 3.0), [np.sin(-2.0), np.cos(-2.0), 0.0])


# -- what is wrong is said where it is written -----------------------------------------------------


def test_a_state_that_changes_its_type() -> None:
    x = sg.tensor("x", (4, 3))
    with pytest.raises(
        DTypeError,
        match=r"scan: output 0 must be float32\[3\], as its initial value; it is float64",
    ):
        sg.scan(lambda a, s: (s + a).cast("float64"), x, [np.zeros(3, "float32")])
    with pytest.raises(
        ShapeError, match="scan: output 0 must be float32, as its initial value"
    ) as found:
        sg.scan(lambda a, s: s + a, x, [np.float32(0)])
    assert "test_scan.py" in str(found.value)
    with pytest.raises(
        DTypeError, match="part 0 of the state must be int64, as the initial one; it is f"
    ):
        sg.while_loop(lambda s: s < 3, lambda s: s + 0.5, 0)
    with pytest.raises(ShapeError, match="condition must be a scalar"):
        sg.while_loop(lambda s: s < 3, lambda s: s, np.zeros(3))


def test_what_does_not_belong_together() -> None:
    x = sg.tensor("x", (4, 3))
    with pytest.raises(ArgumentError, match="outputs_info has 2 entries, fn gives 1"):
        sg.scan(lambda a, s: s + a, x, [np.zeros(3, "float32"), None])
    with pytest.raises(ArgumentError, match="how many steps"):
        sg.scan(lambda s: s, None, [np.zeros(3)])
    with pytest.raises(ShapeError, match="must have an axis"):
        sg.scan(lambda a: a, sg.scalar("s"))
    with pytest.raises(ShapeError, match="scan: 5 steps need 5 rows of `x`, which has 4"):
        sg.scan(lambda a: a, x, n_steps=5)
    with pytest.raises(ShapeError, match="scan: 3 steps need 5 rows of `x`"):
        sg.scan(lambda a, b: a + b, {"input": x, "taps": [-2, 0]}, n_steps=3)
    with pytest.raises(ArgumentError, match="n_steps must be >= 0, got -1"):
        sg.scan(lambda s: s, None, [np.zeros(3)], n_steps=-1)
    with pytest.raises(ArgumentTypeError, match="the key 'a', which is no shared variable"):
        sg.scan(lambda a: {"a": a}, x)
    with pytest.raises(ArgumentError, match="`tap` is not known"):
        sg.scan(lambda a: a, {"input": x, "tap": [0]})
    with pytest.raises(ArgumentError, match="branch 1 gives 2 values"):
        sg.cond(sg.scalar("c") > 0, lambda: (x, x), lambda: x)
    with pytest.raises(DTypeError, match=r"branch 1 must be .*, as the first; it is int32"):
        sg.cond(sg.scalar("c") > 0, lambda: sg.cast(x, "int32"), lambda: x)
    with pytest.raises(ArgumentError, match="truncate_gradient"):
        sg.scan(lambda a: a, x, truncate_gradient=0)


@both
def test_an_index_outside_is_found_inside_a_loop(backend: str) -> None:
    table, x = sg.shared(np.arange(5.0), "table"), sg.ivector("x")
    total, _ = sg.foldl(lambda i, s: s + sg.take(table, i), x, [np.float64(0)])
    f = sg.function([x], total, updates={table: table + 1}, backend=backend)
    assert f(np.array([0, 4], np.int32)) == 4
    with pytest.raises(IndexError):
        f(np.array([0, 5], np.int32))
    assert table.value[0] == 1  # nothing was written
