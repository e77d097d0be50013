"""`x[key]`, take, scatter and topk against NumPy over random keys, and their errors."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import symgraph as sg
from symgraph.dims import dim
from symgraph.errors import (
    GuardError,
    IndexRangeError,
    ShapeError,
)
from symgraph.graph.index import evaluate
from symgraph.graph.registry import F
from tests.ops.running import check_expansions, computed, declared, run, run_grad

B = dim("B")


@st.composite
def keys(draw: Any) -> tuple[tuple[int, ...], tuple[Any, ...]]:
    """Draw a shape and a key that NumPy may or may not accept."""
    shape = tuple(draw(st.lists(st.integers(0, 5), max_size=4)))
    used = draw(st.integers(0, len(shape)))
    parts: list[Any] = []
    length = draw(st.integers(0, 4))
    for size in shape[:used]:
        bound = st.none() | st.integers(-7, 7)
        kinds: list[Any] = [
            st.builds(slice, bound, bound, st.sampled_from([None, 1, 2, 3, -1, -2, -5]))
        ]
        if size:
            inside = st.integers(-size, size - 1)
            kinds.append(inside)
            array = st.lists(inside, min_size=length, max_size=length)
            kinds.append(array.map(lambda places: np.array(places, np.int32)))
            kinds.append(inside.map(lambda place: np.array([[place]])))
        parts.append(draw(st.one_of(kinds)))
    for _ in range(draw(st.integers(0, 2))):
        parts.insert(draw(st.integers(0, len(parts))), None)
    if draw(st.booleans()):
        parts.insert(draw(st.integers(0, len(parts))), Ellipsis)
    return shape, tuple(parts)


def numbered(shape: tuple[int, ...]) -> Any:
    return np.arange(float(np.prod(shape))).reshape(shape)


@given(keys(), st.booleans())
def test_any_key_means_what_it_means_in_numpy(case: Any, symbolic: bool) -> None:
    shape, key = case
    x = numbered(shape)
    found = run(lambda value: value[key], x, symbolic=symbolic)
    np.testing.assert_array_equal(found, x[key])


@given(keys(), st.booleans())
def test_the_gradient_of_any_key_goes_back_to_where_it_came_from(case: Any, symbolic: bool) -> None:
    shape, key = case
    x = numbered(shape)
    weight = np.arange(1.0, 1 + x[key].size).reshape(x[key].shape)
    expected = np.zeros(shape)
    np.add.at(expected, key, weight)
    inputs, env = declared([x], symbolic)
    output = inputs[0][key]
    pulled = F.vjp([output], inputs, [sg.constant(weight)])
    np.testing.assert_array_equal(computed(pulled, inputs, [x], env)[0], expected)


@given(keys())
def test_the_index_expressions_of_any_key(case: Any) -> None:
    shape, key = case
    check_expansions(lambda x: x[key], numbered(shape))
    check_expansions(lambda x: F.grad(F.sum(x[key] ** 2), x), numbered(shape))


def test_sizes_of_symbolic_slices() -> None:
    x = sg.tensor("x", (B, 3))
    assert x[1:].shape[0] is B - 1
    assert x[::-1].shape[0] is B
    assert x[:-1].shape[0] is B - 1
    assert x[B - 1 :].shape[0] == 1
    assert x[-1].shape == (3,)
    assert not x[-1].guards
    assert not x[1:-1].guards


def test_a_slice_that_takes_everything_is_the_value_itself() -> None:
    x = sg.tensor("x", (B, 3))
    assert x[:] is x
    assert x[0:, ...] is x
    assert x[:, 0:3] is x


@pytest.mark.parametrize("b", [1, 2, 5, 9])
def test_symbolic_bounds_mean_their_numbers(b: int) -> None:
    x = np.arange(7.0)
    value = sg.tensor("value", (7,), "float64")
    for key, wanted in [
        (slice(B, None), x[b:]),
        (slice(None, B), x[:b]),
        (slice(-B, None), x[-b:]),
        (slice(None, None, -1), x[::-1]),
        (slice(B + 2, B - 1, -2), x[b + 2 : b - 1 : -2]),
    ]:
        found = computed(value[key], [value], [x], {B: b})[0]
        np.testing.assert_array_equal(found, wanted, str(key))


def test_a_bound_of_unknown_sign_is_guarded() -> None:
    value = sg.tensor("value", (9,), "float64")
    cut = value[B - 3 :]
    np.testing.assert_array_equal(computed(cut, [value], [np.arange(9.0)], {B: 5})[0], range(2, 9))
    with pytest.raises(GuardError, match="slice: a bound of a slice of `value` is counted"):
        computed(cut, [value], [np.arange(9.0)], {B: 2})


def test_an_integer_beyond_a_symbolic_size_is_found_when_the_size_is_known() -> None:
    value = sg.tensor("value", (B,))
    with pytest.raises(GuardError, match="slice: the index into axis 0 of `value` must be inside"):
        computed(value[2], [value], [np.zeros(2)], {B: 2})
    x = sg.tensor("x", (B + 3,))
    assert not x[2].guards


def test_an_integer_out_of_range_is_an_index_error_with_the_users_line() -> None:
    x = sg.tensor("x", (3, 4))
    with pytest.raises(IndexError) as info:
        x[0, 4]
    assert info.type is IndexRangeError
    text = str(info.value)
    assert "index: 4 is out of range for axis 1 of `x`, whose size is 4." in text
    assert "x : float32[3, 4]   made at test_index.py:" in text
    assert "fix: use -4 to 3" in text


def test_iteration_stops_at_the_end() -> None:
    x = np.arange(6.0).reshape(3, 2)
    rows = run(lambda value: F.stack(list(value)), x, symbolic=False)
    np.testing.assert_array_equal(rows, x)


@pytest.mark.parametrize(
    ("call", "wrong"),
    [
        (lambda x, i: F.take(x, i), "take: index 7 at position (1, 0) is out of range for axis 0"),
        (lambda x, i: F.take(x, -i), "take: index -7 at position (1, 0) is out of range"),
        (
            lambda x, i: F.scatter_add((4,), i, F.zeros(i.shape)),
            "scatter_add: index 7 at position (1, 0) is out of range for axis 0 of size 4",
        ),
        (
            lambda x, i: F.take_along_axis(F.reshape(x, (1, 4)), i, axis=1),
            "take_along_axis: index 7 at position (1, 0) is out of range for axis 1 of size 4",
        ),
        (
            lambda x, i: F.scatter_add_along_axis(F.zeros(i.shape), i, 4, axis=0),
            "scatter_add_along_axis: index 7 at position (1, 0) is out of range for axis 0",
        ),
    ],
)
def test_an_index_value_out_of_range_is_named(call: Any, wrong: str) -> None:
    with pytest.raises(IndexRangeError) as info:
        run(call, np.zeros(4), np.array([[3], [7], [9]]), symbolic=False)
    assert wrong in str(info.value)
    assert "indices must be -4 to 3" in str(info.value)


def test_index_expressions_read_nothing_out_of_range() -> None:
    x, i = sg.tensor("x", (3,)), sg.tensor("i", (3,), "int32")
    numbers, places = np.arange(3.0, dtype=np.float32), np.array([2, 3, -4], np.int32)
    for node in (F.take(x, i), F.take_along_axis(x, i)):
        found = evaluate(node.op.expand(F, x, i), [numbers, places], {})[0]
        np.testing.assert_array_equal(found, [2, np.nan, np.nan])
    for node in (F.scatter_add((3,), i, x), F.scatter_add_along_axis(x, i, 3)):
        found = evaluate(node.op.expand(F, x, i), [numbers, places], {})[0]
        np.testing.assert_array_equal(found, [0, 0, 0])


def test_unsigned_indices_do_not_wrap() -> None:
    x = np.arange(300.0)
    np.testing.assert_array_equal(run(F.take, x, np.array([255, 0], np.uint8)), [255, 0])
    with pytest.raises(IndexRangeError, match="18446744073709551615"):
        run(F.take, x, np.array([2**64 - 1], np.uint64))


def test_repeated_indices_add_up_in_float32() -> None:
    updates = np.full(3000, 0.1, np.float16)
    places = np.zeros(3000, np.int64)
    found = run(lambda u, i: F.scatter_add((2,), i, u), updates, places)
    assert found.dtype == np.float16
    exact = 3000 * float(updates[0])
    assert abs(float(found[0]) - exact) <= exact * 2**-10
    assert found[1] == 0


def test_the_second_gradient_of_a_selection() -> None:
    x = np.array([0.5, 2.0, -1.0])
    i = np.array([1, 1, 0])
    found = run_grad(lambda a, k: a[k] ** 3, x, i, order=2)
    np.testing.assert_allclose(found, [6 * 0.5, 2 * 6 * 2.0, 0])


def test_picking_one_class_per_row() -> None:
    scores = np.random.default_rng(0).normal(size=(4, 3))
    labels = np.array([2, 0, 1, 2])
    found = run(lambda p, y: p[F.arange(p.shape[0]), y], scores, labels)
    np.testing.assert_array_equal(found, scores[np.arange(4), labels])


@given(st.lists(st.integers(-3, 3), min_size=1, max_size=9), st.data())
def test_topk_is_a_stable_sort(row: list[int], data: Any) -> None:
    k = data.draw(st.integers(0, len(row)))
    values, places = run(lambda x: F.topk(x, k), np.array(row), symbolic=False)
    expected = sorted(range(len(row)), key=lambda i: (-row[i], i))[:k]
    assert places.tolist() == expected
    assert values.tolist() == [row[i] for i in expected]


def test_topk_at_the_ends_of_integers() -> None:
    row = np.array([0, -128, 127, -128], np.int8)
    assert run(lambda x: F.topk(x, 4)[1], row).tolist() == [2, 0, 1, 3]
    assert run(lambda x: F.topk(x, 2)[1], np.array([0, 255, 254], np.uint8)).tolist() == [1, 2]


def test_topk_of_too_few_is_found_when_the_size_is_known() -> None:
    x = sg.tensor("x", (B,))
    values, _ = F.topk(x, 3)
    with pytest.raises(GuardError, match="k must be at most the size of axis 0"):
        computed(values, [x], [np.zeros(2)], {B: 2})
    with pytest.raises(ShapeError, match="k must be at most"):
        F.topk(sg.tensor("x", (2,)), 3)


def test_one_hot_outside_is_a_row_of_zeros() -> None:
    found = run(lambda i: F.one_hot(i, 3), np.array([-1, 0, 3]))
    np.testing.assert_array_equal(found, [[0, 0, 0], [1, 0, 0], [0, 0, 0]])
    assert found.dtype == np.float32


@pytest.mark.parametrize("backend", ["reference", "cpu"])
def test_crops_have_the_bits_of_the_loader(backend: str) -> None:
    rng = np.random.default_rng(3)
    images = rng.integers(0, 256, (5, 3, 32, 32)).astype(np.uint8)
    mean = rng.uniform(0, 255, (3, 32, 32)).astype(np.float32)
    draws = sg.data.Augment(crop=27, seed=4).draws(np.arange(5), epoch=2, size=32)
    x, m = sg.tensor("x", (sg.dim("crops"), 3, 32, 32), "uint8"), sg.tensor("m", (3, 32, 32))
    places = [sg.tensor(name, x.shape[:1], "int64") for name in ("top", "left")]
    turned = sg.tensor("turned", x.shape[:1], "bool")
    cropped = sg.crop_mirror(x, 27, *places, turned, m)
    f = sg.function([x, *places, turned, m], cropped, backend=backend)
    wanted = sg.data.crop_mirror(images, 27, *draws, mean=mean)
    assert f(images, *draws, mean).tobytes() == wanted.tobytes()
    for outside in (draws[0] + 6, draws[0] - 6):
        with pytest.raises(IndexRangeError):
            f(images, outside, *draws[1:], mean)


def test_a_fixed_index_into_an_axis_of_unknown_size_is_checked_when_the_size_is_known() -> None:
    x = sg.tensor("x", (B,))
    f = sg.function([x], x[[5]] * 2)
    assert f(np.arange(8, dtype=np.float32)) == 10
    with pytest.raises(IndexRangeError, match=r"index 5 .* size 3"):
        f(np.arange(3, dtype=np.float32))


@given(keys(), st.booleans(), st.sampled_from(["set", "add", "multiply"]))
def test_changing_at_any_key_means_what_it_means_in_numpy(
    case: Any, symbolic: bool, mode: str
) -> None:
    shape, key = case
    x = numbered(shape)
    new = np.arange(2.0, 2.0 + x[key].size).reshape(x[key].shape)
    expected = x.copy()
    if mode == "set":
        expected[key] = new
    else:
        getattr(np, mode).at(expected, key, new)
    found = run(lambda value: getattr(value.at[key], mode)(new), x, symbolic=symbolic)
    np.testing.assert_array_equal(found, expected)


def test_a_subtensor_is_told_by_the_key_it_was_made_with() -> None:
    w = sg.tensor("w", (4, 2))
    inner = w[1:]
    array = np.zeros((4, 2), np.float32)
    assert sg.set_subtensor(inner[0], 1).shape == (3, 2)
    assert sg.set_subtensor(w[1:], 1).shape == (4, 2)
    np.testing.assert_array_equal(
        sg.eval(sg.set_subtensor(w[1:, 1], 1), {w: array}), [[0, 0], [0, 1], [0, 1], [0, 1]]
    )
