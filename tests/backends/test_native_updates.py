"""Updates of variables by compiled functions: in place where all others have read before."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import symgraph as sg
from symgraph.backends.cpu.compiler import unavailable
from symgraph.runtime import native

pytestmark = pytest.mark.skipif(bool(unavailable()), reason=unavailable() or "there is a compiler")


def compiled(inputs: Any, outputs: Any, updates: Any = None) -> sg.Function:
    return sg.function(inputs, outputs, updates, backend="cpu")


def in_place(f: sg.Function) -> set[str]:
    """Give the names of the variables that are written over without a copy."""
    executor = f._executor
    assert isinstance(executor, native.NativeExecutor)
    assert executor.plan is not None
    return {shared.label for shared in executor.plan.in_place}


def test_an_update_of_each_element_is_in_place() -> None:
    a = sg.shared(np.arange(1000, dtype=np.float32), "a")
    f = compiled([], a.sum(), {a: a * 2 + 1})
    assert f() == 499500  # the first call may move the variable to where lines of the cache begin
    assert in_place(f) == {"a"}
    storage = a.storage.array
    assert f() == 1_000_000
    assert a.storage.array is storage
    np.testing.assert_array_equal(a.value, np.arange(1000) * 4 + 3)


NOT_IN_PLACE = {
    "reversed": lambda a: sg.flip(a),
    "rolled": lambda a: sg.concat([a[1:], a[:1]]),
    "sorted out": lambda a: a - a[0] + a[-1],
    "normalised": lambda a: a / a.sum(),
    "softmax": lambda a: sg.softmax(a),
    "gathered": lambda a: sg.take(a, sg.constant(np.arange(1000)[::-1].copy())),
}


@pytest.mark.parametrize("kind", list(NOT_IN_PLACE))
def test_an_update_that_reads_elsewhere_sees_the_old_numbers(kind: str) -> None:
    start = np.random.default_rng(0).uniform(1, 2, 1000).astype(np.float32)
    values = []
    for backend in ("cpu", "reference"):
        a = sg.shared(start, "a")
        f = sg.function([], None, {a: NOT_IN_PLACE[kind](a)}, backend=backend)
        f()
        f()
        values.append(a.value)
    np.testing.assert_allclose(values[0], values[1], 1e-5)


def test_variables_are_swapped_and_turned() -> None:
    a, b = sg.shared(np.full(50, 1.0), "a"), sg.shared(np.full(50, 2.0), "b")
    swap = compiled([], [a, b], {a: b, b: a})
    old_a, old_b = swap()
    assert (old_a[0], old_b[0]) == (1, 2)
    assert (a.value == 2).all()
    assert (b.value == 1).all()
    c = sg.shared(np.full(50, 5.0), "c")
    turn = compiled([], None, {a: b + c, b: c + a, c: a + b})
    turn()
    assert (a.value[0], b.value[-1], c.value[7]) == (6, 7, 3)
    turn()
    assert (a.value[0], b.value[-1], c.value[7]) == (10, 9, 13)


def test_other_results_see_what_an_update_replaces() -> None:
    x, a = sg.vector("x"), sg.shared(np.zeros(40, np.float32), "a")
    f = compiled([x], [a, a + x, (a * 3).sum(), sg.exp(a)], {a: a + x})
    ones = np.ones(40, np.float32)
    for step in range(3):
        before, after, total, grown = f(ones)
        assert (before == step).all()
        assert (after == step + 1).all()
        assert total == 3 * 40 * step
        np.testing.assert_allclose(grown, np.exp(np.float32(step)), 1e-6)
    assert (a.value == 3).all()


def test_values_that_were_handed_out_do_not_change() -> None:
    a = sg.shared(np.zeros(3), "a")
    f = compiled([], None, {a: a + 1})
    f()
    before, version = a.value, a.storage.version
    f()
    assert before.tolist() == [1, 1, 1]
    assert a.value.tolist() == [2, 2, 2]
    assert a.storage.version == version + 1
    a.value = np.asfortranarray([7, 8, 9])
    f()
    assert a.value.tolist() == [8, 9, 10]


def test_both_backends_write_the_same_variable() -> None:
    a = sg.shared(np.zeros((2, 3)), "a")
    add = compiled([], a, {a: a + 1})
    double = sg.function([], a, {a: a * 2}, backend="reference")
    for f in (add, double, add, double, double):
        f()
    assert (a.value == 12).all()
    assert double().tolist() == np.full((2, 3), 12).tolist()


def product(side: int = 24) -> tuple[sg.Value, sg.Value, np.ndarray]:
    """Make a matrix, its product with its transpose, which a library computes, and numbers."""
    x = sg.tensor("x", (sg.dim("rows_of_x"), side))
    return x, x.T @ x, np.random.default_rng(4).standard_normal((50, side)).astype(np.float32)


@pytest.mark.parametrize("kind", ["alone", "handed out", "used on", "read before"])
def test_a_library_writes_new_numbers_where_the_old_are(kind: str) -> None:
    x, square, numbers = product()
    g = sg.shared(np.ones((24, 24), np.float32), "g")
    outputs = {
        "alone": None, "handed out": square, "used on": [sg.exp(-square), square @ square],
        "read before": [g.sum(), g @ g],
    }[kind]  # fmt: skip
    f = compiled([x], outputs, {g: square})
    reference = sg.function([x], outputs, {g: square}, backend="reference")
    for factor in (1, 2, 3):
        before = g.value
        wanted = reference(numbers * factor)
        expected, g.value = g.value, before
        found = f(numbers * factor)
        np.testing.assert_allclose(g.value, expected, 1e-4, 1e-3)
        for one, other in zip(as_list(found), as_list(wanted), strict=True):
            np.testing.assert_allclose(one, other, 1e-4, 1e-2)
            assert not np.may_share_memory(one, g.storage.array)
    assert in_place(f) == {"g"}


def as_list(found: Any) -> list[Any]:
    """Give what a call gave as a list."""
    return [] if found is None else found if isinstance(found, list) else [found]


def test_a_profile_leaves_what_a_library_writes() -> None:
    x, square, numbers = product()
    g = sg.shared(np.ones((24, 24), np.float32), "g")
    f = compiled([x], None, {g: square})
    f.profile(numbers)
    assert (g.value == 1).all()
    assert in_place(f) == {"g"}


def test_a_library_that_reads_the_old_numbers_writes_elsewhere() -> None:
    start = np.random.default_rng(1).standard_normal((24, 24)).astype(np.float32)
    w = sg.shared(start, "w")
    f = compiled([], None, {w: w @ w})
    f()
    assert in_place(f) == set()
    np.testing.assert_allclose(w.value, start @ start, 1e-4, 1e-4)


def test_a_library_writes_nothing_where_a_check_fails() -> None:
    x, square, numbers = product()
    y = sg.ivector("y")
    g = sg.shared(np.ones((24, 24), np.float32), "g")
    loss = sg.cross_entropy(x, y).sum()
    f = compiled([x, y], loss, {g: square})
    with pytest.raises(sg.errors.ArgumentError, match="the label 24"):
        f(numbers, np.full(50, 24, np.int32))
    assert (g.value == 1).all()
    f(numbers, np.zeros(50, np.int32))
    assert in_place(f) == {"g"}
    np.testing.assert_allclose(g.value, numbers.T @ numbers, 1e-4, 1e-3)
    guarded = sg.function([x], None, {g: square}, nan_guard=True, backend="cpu")
    kept = g.value
    numbers[3, 3] = np.nan
    with pytest.raises(sg.errors.NotFiniteError):
        guarded(numbers)
    np.testing.assert_array_equal(g.value, kept)
    assert in_place(guarded) == set()


def test_two_variables_of_one_product() -> None:
    x, square, numbers = product()
    a, b = (sg.shared(np.zeros((24, 24), np.float32), name) for name in "ab")
    compiled([x], None, {a: square, b: square})(numbers)
    np.testing.assert_array_equal(a.value, b.value)
    np.testing.assert_allclose(a.value, numbers.T @ numbers, 1e-4, 1e-3)
    assert not np.may_share_memory(a.storage.array, b.storage.array)
