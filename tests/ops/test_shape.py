"""Shapes with symbolic sizes against NumPy, and the texts of their errors."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import symgraph as sg
from symgraph.dims import dim, dims
from symgraph.errors import ArgumentError, ArgumentTypeError, DTypeError, GuardError, ShapeError
from symgraph.graph.index import evaluate
from symgraph.graph.registry import F
from symgraph.graph.scalar import scalar_order
from tests.ops.running import check_expansions, computed, run, run_grad

B, C = dims("B C")


@st.composite
def shapes(draw: Any) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Draw two shapes with the same number of elements; one size of the second may be -1."""
    factors = draw(st.lists(st.sampled_from([1, 1, 2, 3, 5]), max_size=5))

    def grouped() -> list[int]:
        sizes = [1] * draw(st.integers(1, 4))
        for factor in factors:
            sizes[draw(st.integers(0, len(sizes) - 1))] *= factor
        return sizes

    old, new = grouped(), grouped()
    if draw(st.booleans()):
        new[draw(st.integers(0, len(new) - 1))] = -1
    return tuple(old), tuple(new)


@given(shapes())
def test_reshape_is_numpys(case: Any) -> None:
    old, new = case
    x = np.arange(float(np.prod(old))).reshape(old)
    np.testing.assert_array_equal(run(lambda v: F.reshape(v, new), x), x.reshape(new))
    np.testing.assert_array_equal(run_grad(lambda v: F.reshape(v, new) ** 2, x), 2 * x)
    check_expansions(lambda v: F.reshape(v, new), x)
    check_expansions(lambda v: F.reshape(v, new), x, symbolic=False)


@given(st.permutations(range(4)), st.data())
def test_permute_is_numpys(order: list[int], data: Any) -> None:
    shape = tuple(data.draw(st.lists(st.integers(0, 4), min_size=4, max_size=4)))
    x = np.arange(float(np.prod(shape))).reshape(shape)
    np.testing.assert_array_equal(run(lambda v: F.permute_dims(v, order), x), x.transpose(order))
    check_expansions(lambda v: F.permute_dims(v, order), x)
    source, end = order[:2], order[2:]
    np.testing.assert_array_equal(
        run(lambda v: F.moveaxis(v, source, end), x), np.moveaxis(x, source, end)
    )


def test_sizes_follow_symbolically() -> None:
    x = sg.tensor("x", (B, 2, 3))
    assert F.reshape(x, (-1,)).shape[0] is 6 * B
    assert F.reshape(x, (-1, 6)).shape[0] is B
    assert F.flatten(x, 1).shape == (B, 6)
    assert not F.flatten(x, 1).guards
    y = sg.tensor("y", (C, 2, 3))
    assert F.concat([x, y]).shape[0] is B + C
    assert F.pad(x, ((1, 2), 0, (0, C))).shape == (B + 3, 2, C + 3)
    assert F.split(x, (1, -1))[1].shape[0] is B - 1
    assert F.arange(2, B + 4, 2).shape[0] is (B + 3) // 2
    assert F.flip(x).shape == x.shape


def test_what_changes_nothing_is_the_value_itself() -> None:
    x = sg.tensor("x", (B, 1))
    assert F.reshape(x, (B, 1)) is x
    assert F.reshape(x, (-1, 1)) is x
    assert F.broadcast_to(x, x.shape) is x
    assert F.permute_dims(x, (0, 1)) is x
    assert F.concat([x]) is x
    assert F.split(x, 1)[0] is x
    assert F.pad(x, 0) is x
    assert F.pad(sg.scalar("s"), 3).ndim == 0


@pytest.mark.parametrize(("b", "c"), [(1, 4), (3, 1), (5, 2)])
def test_concat_and_split_of_symbolic_sizes_are_inverse(b: int, c: int) -> None:
    x, y = sg.tensor("x", (B, 2), "float64"), sg.tensor("y", (C, 2), "float64")
    one, two = np.random.default_rng(0).normal(size=(2, 5, 2))
    arrays = [one[:b], two[:c]]
    whole = F.concat([x, y])
    parts = F.split(whole, (B, C))
    weighted = F.grad(F.sum(parts[1] ** 2), [x, y], missing="zero")
    found = computed([*parts, *weighted], [x, y], arrays, {B: b, C: c})
    np.testing.assert_array_equal(found[0], arrays[0])
    np.testing.assert_array_equal(found[1], arrays[1])
    np.testing.assert_array_equal(found[2], np.zeros((b, 2)))
    np.testing.assert_array_equal(found[3], 2 * arrays[1])


def test_one_piece_of_a_split_gets_its_gradient_and_the_others_zeros() -> None:
    x = np.arange(6.0)
    found = run_grad(lambda v: F.split(v, 3)[1] ** 2, x, symbolic=False)
    np.testing.assert_array_equal(found, [0, 0, 4, 6, 0, 0])


def test_what_is_undecided_is_checked_when_the_sizes_are_known() -> None:
    x = sg.tensor("x", (B, 3))
    cases = [
        (F.reshape(x, (2, -1)), r"reshape of \(B, 3\) to \(2, "),
        (F.squeeze(x, 0), "reshape"),
        (F.split(x, 2)[0], "split of B into"),
        (F.broadcast_to(x, (4, 3)), "axis 0 of .* must be 1 or the target's size"),
        (F.concat([x, sg.tensor("y", (C, 3))], axis=1), "axis 0 of .* must equal axis 0"),
    ]
    for value, text in cases:
        guards = [guard for node in (value, *value.inputs) for guard in node.guards]
        assert len(guards) == 1
        with pytest.raises(GuardError, match=text):
            guards[0].check({B: 7, C: 5})


def test_a_reshape_that_fits_needs_no_guard_and_one_that_may_fit_has_one() -> None:
    x = sg.tensor("x", (B, 4))
    assert not F.reshape(x, (2 * B, 2)).guards
    (guard,) = F.reshape(x, (8, -1)).guards
    assert guard.relation == "divides"
    assert str(guard).endswith("% 8 == 0 (reshape of (B, 4) to (8, -1))")
    assert F.reshape(x, (-1, 2)) is F.reshape(x, (2 * B, 2))


def test_merging_the_tail_leaves_the_batch_index_plain() -> None:
    x = sg.tensor("x", (B, 3, 4))
    node = F.flatten(x, 1)
    compute = node.op.expand(F, x)
    kinds = [node.op for node in scalar_order([compute.value])]
    assert "size" not in kinds  # the symbolic size takes no part in the index
    inserted = F.expand_dims(x, (1, -1))
    compute = inserted.op.expand(F, x)
    assert {node.op for node in scalar_order([compute.value])} == {"axis", "load"}
    numbers = np.arange(24.0, dtype=np.float32).reshape(2, 3, 4)
    found = evaluate(compute, [numbers], {B: 2})[0]
    np.testing.assert_array_equal(found, numbers[:, None, ..., None])


def test_errors_name_the_value_and_the_users_line() -> None:
    x = sg.tensor("x", (2, 3))
    with pytest.raises(ShapeError) as info:
        F.reshape(x, (4, -1))
    text = str(info.value)
    assert text.startswith("reshape:")
    assert "6 elements are no multiple of 4" in text
    assert "x : float32[2, 3]   made at test_shape.py:" in text
    y = sg.tensor("y", (B, 4))
    with pytest.raises(ShapeError) as info:
        F.concat([x, y])
    text = str(info.value)
    assert "concat: axis 1 of `x` must equal axis 1 of `y`: 3 != 4" in text
    assert "y : float32[B, 4]" in text


def test_a_size_that_is_never_one_is_not_squeezed() -> None:
    x = sg.tensor("x", (B + 1, 1))
    with pytest.raises(ShapeError, match=r"squeeze: axis 0 of `x` must have size 1, it has B \+ 1"):
        F.squeeze(x, 0)
    assert F.squeeze(x).shape == (B + 1,)
    y = sg.tensor("y", (B, 1))
    assert F.squeeze(y).shape == (B,)  # only a size written as 1 goes by itself


def test_broadcasting_repeats_only_what_is_written_as_one() -> None:
    n = sg.vector("n")
    row = F.broadcast_to(n, (2, 3))
    assert len(row.guards) == 1
    with pytest.raises(GuardError):
        row.guards[0].check({n.shape[0]: 1})


@given(st.integers(-9, 9), st.integers(-9, 9), st.sampled_from([-3, -2, -1, 1, 2, 5]))
def test_arange_is_pythons_range(start: int, stop: int, step: int) -> None:
    found = run(lambda: F.arange(start, stop, step))
    assert found.tolist() == list(range(start, stop, step))


@pytest.mark.parametrize("b", [1, 4, 6])
def test_arange_with_symbolic_bounds(b: int) -> None:
    for value, wanted in [
        (F.arange(B), range(b)),
        (F.arange(B, 2 * B), range(b, 2 * b)),
        (F.arange(B, 0, -2), range(b, 0, -2)),
        (F.arange(3, B), range(3, b)),
    ]:
        assert computed(value, [], [], {B: b})[0].tolist() == list(wanted)


def test_arange_of_floats_is_numpys() -> None:
    np.testing.assert_array_equal(
        run(lambda: F.arange(0.0, 1.0, 0.1, dtype="float64")), np.arange(0.0, 1.0, 0.1)
    )
    assert F.arange(0.0, 1.0, 0.25).dtype == "float32"
    assert F.arange(5, dtype="uint8").dtype == "uint8"


def test_fills_are_not_stored() -> None:
    value = F.zeros((B, 1000, 1000))
    assert value.op.name == "broadcast_to"
    assert value.inputs[0].shape == ()
    s = sg.scalar("s")
    assert F.full((B,), s).inputs[0] is s
    assert F.zeros_like(sg.tensor("x", (B,), "int8")).dtype == "int8"
    assert F.eye(B, dtype="bool").shape == (B, B)


@pytest.mark.parametrize(
    "widths", [1, (1, 2), ((1, 2), (0, 3)), [(0, 0), (2, 0)], ((1, 0), 2)], ids=str
)
def test_padding_is_numpys(widths: Any) -> None:
    x = np.arange(6.0).reshape(2, 3)
    plain = ((1, 0), (2, 2)) if widths == ((1, 0), 2) else widths
    found = run(lambda v: F.pad(v, widths, value=7), x)
    np.testing.assert_array_equal(found, np.pad(x, plain, constant_values=7))
    np.testing.assert_array_equal(run_grad(lambda v: F.pad(v, widths) ** 2, x), 2 * x)


def test_padding_by_a_symbolic_width() -> None:
    x = sg.tensor("x", (B, 2))
    padded = F.pad(x, ((0, C - B), 0))
    with pytest.raises(GuardError, match=r"padding of axis 0 .* must be >= 0"):
        padded.guards[0].check({B: 3, C: 2})
    numbers = np.ones((2, 2), np.float32)
    found = computed(padded, [x], [numbers], {B: 2, C: 5})[0]
    np.testing.assert_array_equal(found, np.pad(numbers, ((0, 3), (0, 0))))


def test_arguments_of_a_wrong_kind() -> None:
    x = sg.tensor("x", (2, 3))
    with pytest.raises(ArgumentTypeError, match="must be an int"):
        F.reshape(x, (2.0, 3))
    with pytest.raises(ArgumentTypeError, match="must be an int, got bool"):
        F.expand_dims(x, True)
    with pytest.raises(ArgumentError, match="must name each axis"):
        F.permute_dims(x, (1,))
    with pytest.raises(DTypeError, match="uint64"):
        F.concat([sg.tensor("u", (2,), "uint64"), sg.tensor("i", (2,), "int64")])


def test_numpy_functions_build_graph() -> None:
    x = sg.tensor("x", (B, 3))
    assert np.transpose(x) is x.T
    assert np.concatenate([x, x], axis=1) is F.concat([x, x], axis=1)
    assert np.expand_dims(x, 0) is F.expand_dims(x, 0)
    assert np.moveaxis(x, 0, 1) is F.permute_dims(x, (1, 0))
    assert np.flip(x, 0) is x[::-1]
    assert np.stack([x, x]).shape == (2, B, 3)
    assert np.take(x, [0], axis=1).shape == (B, 1)


def test_a_named_size_that_may_be_zero() -> None:
    n = dim("rows_or_0", min=0)
    x = sg.tensor("x", (n, 2), "float64")
    empty = np.zeros((0, 2))
    values = [x[1:], x[::-1], F.reshape(x, (-1,)), F.concat([x, x]), F.flip(x), F.sum(x, axis=0)]
    shapes = [a.shape for a in computed(values, [x], [empty], {n: 0})]
    assert shapes == [(0, 2), (0, 2), (0,), (0, 2), (0, 2), (2,)]
