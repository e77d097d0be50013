"""The rules of shapes against NumPy, Python's own slices, and counted windows."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from symgraph.dims import (
    Size,
    anonymous,
    broadcast_shapes,
    collect_guards,
    concat_sizes,
    dim,
    dims,
    evaluate,
    evaluate_all,
    reshape,
    same_padding,
    slice_length,
    split_sizes,
    window,
)
from symgraph.errors import DimError, UndecidedError

B, C, H, W = dims("B C H W")
Z = dim("Z", min=0)
SHAPES = st.lists(st.sampled_from([0, 1, 1, 2, 3]), max_size=4).map(tuple)


@given(st.lists(SHAPES, max_size=3))
def test_broadcast_as_numpy(shapes: list[tuple[int, ...]]) -> None:
    try:
        expected = np.broadcast_shapes(*shapes)
    except ValueError:
        with pytest.raises(DimError, match="cannot broadcast"):
            broadcast_shapes(*shapes)
    else:
        assert broadcast_shapes(*shapes) == expected


def test_broadcast_of_formulas() -> None:
    n = anonymous("n")
    assert broadcast_shapes((B, 3, H), (3, 1), (1,)) == (B, 3, H)
    assert broadcast_shapes((B, 1), (1, B + 1)) == (B, B + 1)
    assert broadcast_shapes((), (B,)) == (B,)
    for pair, expected in [
        ((B, 4), 4), ((n, B), B), ((B, n), B), ((B + 1, C), C), ((n, B * C), B * C), ((n, 5), 5),
    ]:  # fmt: skip
        with collect_guards() as guards:
            assert broadcast_shapes((pair[0], 1), (pair[1], 2)) == (expected, 2)
        (guard,) = guards
        assert {str(guard.left), str(guard.right)} == {str(pair[0]), str(pair[1])}
        assert "axis -2" in guard.why
        assert guard.relation == "equal"
    with pytest.raises(
        DimError, match=r"cannot broadcast \(B, 3\) with \(B, 4\): axis -1 has 3 != 4, and"
    ):
        broadcast_shapes((B, 3), (B, 4))
    with pytest.raises(DimError, match=r"axis -1 has B != B \+ 1 for every B"):
        broadcast_shapes((B,), (B + 1,))
    with pytest.raises(UndecidedError, match="B == C"):
        broadcast_shapes((B,), (C,))


@given(SHAPES, st.lists(st.sampled_from([-1, 0, 1, 2, 3, 4, 6]), max_size=4).map(tuple))
def test_reshape_as_numpy(shape: tuple[int, ...], new: tuple[int, ...]) -> None:
    try:
        expected = np.zeros(shape).reshape(new).shape
    except ValueError:
        with pytest.raises(DimError, match="reshape"):
            reshape(shape, new)
    else:
        assert reshape(shape, new) == expected


def test_reshape_of_formulas() -> None:
    assert reshape((B, 256, 6, 6), (B, -1)) == (B, 9216)
    assert reshape((B, C, H, W), (B * H * W, -1)) == (B * H * W, C)
    assert reshape((Z, 4), (Z, -1)) == (Z, 4)
    assert reshape((B, 4), (2, B, 2)) == (2, B, 2)
    assert reshape((B + 1, B + 1), (-1, B + 1)) == (B + 1, B + 1)
    with collect_guards() as guards:
        assert reshape((B, 4), (8, -1)) == (8, B // 2)
        assert reshape((B, 4), (8, C)) == (8, C)
        assert str(reshape((B, C), (H, -1))[1]) == "(B*C)//H"
        (_, left) = reshape((B,), (Z, -1))
    assert evaluate(left, {B: 6, Z: 3}) == 2
    assert [guard.relation for guard in guards] == [
        "divides", "equal", "divides", "less_equal", "divides",
    ]  # fmt: skip
    assert [str(g).split(" (")[0] for g in guards[:3]] == [
        "(4*B) % 8 == 0", "4*B == 8*C", "(B*C) % H == 0",
    ]  # fmt: skip
    assert guards[3].holds({Z: 0}) is False
    for shape, new, words in [
        ((B, 3), (-1, -1), "only one size can be -1, not 2"),
        ((B, 3), (-2, 3), "the size -2 is negative"),
        ((2 * B, 3), (2 * B, 2), "number of elements differs: 6*B != 4*B for every B"),
        ((2, 3), (4, -1), "6 elements are no multiple of 4"),
        ((0, 3), (0, -1), "the other sizes have the product 0"),
        ((2 * B + 1,), (2, -1), "2*B + 1 elements are no multiple of 2 for every B"),
    ]:
        with pytest.raises(DimError) as error:
            reshape(shape, new)
        assert words in str(error.value)


def positions(size: int, kernel: int, stride: int, low: int, high: int, dilation: int) -> int:
    """Windows that fit, counted one by one."""
    extent = dilation * (kernel - 1) + 1
    return sum(1 for start in range(0, low + size + high, stride)
               if start + extent <= low + size + high)  # fmt: skip


def hanging(size: int, kernel: int, stride: int, low: int, high: int, dilation: int) -> int:
    """Windows of ceil mode: as many as reach every element, if they start before the end."""
    extent = dilation * (kernel - 1) + 1
    starts = [0]
    while starts[-1] + extent < low + size + high:
        starts.append(starts[-1] + stride)
    return sum(1 for start in starts if start < low + size)


WINDOWS = list(itertools.product((1, 2, 3, 5), (1, 2, 3), (0, 1), (0, 2), (1, 2)))


def test_window_against_counting() -> None:
    for (kernel, stride, low, high, dilation), size in itertools.product(WINDOWS, range(12)):
        args = (kernel, stride, low, high, dilation)
        count = positions(size, *args)
        if count:
            assert window(size, *args) == count
        else:
            with pytest.raises(DimError, match="does not fit"):
                window(size, *args)


def test_window_of_a_formula() -> None:
    for kernel, stride, low, high, dilation in WINDOWS:
        args = (kernel, stride, low, high, dilation)
        with collect_guards() as guards:
            formula = window(H, *args)
            rounded_up = window(H, *args, ceil_mode=True)
        for size in range(1, 12):
            fits = all(guard.holds({H: size}) for guard in guards)
            assert not fits or evaluate(formula, {H: size}) == positions(size, *args)
            assert not fits or evaluate(rounded_up, {H: size}) == hanging(size, *args)
            assert fits == (positions(size, *args) > 0 and hanging(size, *args) > 0)


def test_window_in_ceil_mode() -> None:
    for (kernel, stride, low, high, dilation), size in itertools.product(WINDOWS, range(12)):
        args = (kernel, stride, low, high, dilation)
        count = hanging(size, *args)
        if count and positions(size, *args):
            assert window(size, *args, ceil_mode=True) == count
    assert window(6, 3, 2, ceil_mode=True) == 3
    assert str(window(2 * H + 7, 3, 2, ceil_mode=True)) == "H + 3"


def test_window_errors() -> None:
    for args, words in [
        ((0, 1), "a window of 1 (extent 1) does not fit into the size 0"),
        ((2, 3), "a window of 3 (extent 3) does not fit into the size 2 (padded 2)"),
        ((3, 0), "the kernel of a window must be >= 1, not 0"),
        ((3, 1, 0), "the stride of a window must be >= 1, not 0"),
        ((3, 2, 1, 0, 0, 0), "the dilation of a window must be >= 1, not 0"),
        ((H % 2, 3), "does not fit into the size H % 2 (padded H % 2) for every H"),
    ]:
        with pytest.raises(DimError) as error:
            window(*args)
        assert words in str(error.value)
    with pytest.raises(DimError, match="no window of 2 fits into the size 0"):
        window(0, 2, ceil_mode=True)
    with pytest.raises(UndecidedError, match=r"a window of 3 must fit.*3 <= H depends"):
        window(H, 3)


def test_alexnet_and_resnet_sizes() -> None:
    def alexnet(size: Size) -> Size:
        size = window(window(size, 11, 4), 3, 2)
        size = window(window(size, 5, 1, 2, 2), 3, 2)
        return window(window(size, 3, 1, 1, 1), 3, 2)

    def resnet(size: Size) -> Size:
        for kernel in (7, 3, 3, 3, 3):
            size = window(size, kernel, 2, kernel // 2, kernel // 2)
        return size

    assert (alexnet(227), resnet(224)) == (6, 7)
    with collect_guards() as guards:
        assert str(resnet(H)) == "(H + 31)//32"
        size = alexnet(H)
    for value in range(63, 300):
        fits = all(guard.holds({H: value}) for guard in guards)
        assert fits == (value >= 67)
        assert not fits or evaluate(size, {H: value}) == alexnet(value)


def test_same_padding() -> None:
    for size, kernel, stride, dilation in itertools.product(
        range(1, 14), (1, 2, 3, 5), (1, 2, 3), (1, 2)
    ):
        low, high = same_padding(size, kernel, stride, dilation)
        assert 0 <= high - low <= 1
        assert positions(size, kernel, stride, low, high, dilation) == -(-size // stride)
        if low + high:  # less padding would give fewer windows
            assert positions(size, kernel, stride, 0, low + high - 1, dilation) < -(-size // stride)
        formula = same_padding(H, kernel, stride, dilation)
        assert evaluate_all(formula, {H: size}) == (low, high)
    assert same_padding(H, 3) == (1, 1)
    assert same_padding(H, 5, 1, 2) == (4, 4)


BOUNDS = st.none() | st.integers(-12, 12)
STEPS = st.sampled_from([None, 1, 2, 3, -1, -2, -3])


@settings(max_examples=500, suppress_health_check=list(HealthCheck))
@given(st.integers(0, 9), BOUNDS, BOUNDS, STEPS)
def test_slices_as_python(size: int, start: int | None, stop: int | None, step: int | None) -> None:
    expected = range(size)[slice(start, stop, step)]
    first, length = slice_length(size, start, stop, step)
    assert length == len(expected)
    assert not len(expected) or first == expected.start


@settings(max_examples=150, suppress_health_check=list(HealthCheck))
@given(BOUNDS, BOUNDS, STEPS)
def test_slices_of_formulas_as_python(
    start: int | None, stop: int | None, step: int | None
) -> None:
    for symbol, least in ((B, 1), (Z, 0)):
        formulas = slice_length(symbol, start, stop, step)
        for size in range(least, 16):
            expected = range(size)[slice(start, stop, step)]
            first, length = evaluate_all(formulas, {symbol: size})
            assert length == len(expected)
            assert not len(expected) or first == expected.start


def test_slices_are_clean_formulas() -> None:
    n = anonymous("n")
    for size, bounds, expected in [
        (B, (1, None, None), (1, B - 1)),
        (B, (None, -1, None), (0, B - 1)),
        (B, (None, None, 2), (0, (B + 1) // 2)),
        (B, (None, None, -1), (B - 1, B)),
        (B, (1, None, 2), (1, B // 2)),
        (B, (None, None, None), (0, B)),
        (B, (0, C * 0 + 1, None), (0, 1)),
        (n, (None, None, None), (0, n)),
        (B + C, (None, B, None), (0, B)),
        (B + C, (B, None, None), (B, C)),
        (B + C, (-C, None, None), (B, C)),
        (2 * B, (None, B - 1, None), (0, B - 1)),
    ]:
        assert slice_length(size, *bounds) == expected
    assert [str(s) for s in slice_length(B, None, 5)] == ["0", "min(B, 5)"]
    assert [str(s) for s in slice_length(B, 5, None)] == ["min(B, 5)", "max(B - 5, 0)"]
    with collect_guards() as guards:
        assert str(slice_length(n, None, n - 1)[1]) == "max(n - 1, 0)"
    assert "counted from the front" in guards[0].why
    with pytest.raises(DimError, match="step of a slice must not be 0"):
        slice_length(B, None, None, 0)
    with pytest.raises(DimError, match="step of a slice must be a number, not the size `C`"):
        slice_length(B, None, None, C)
    with pytest.raises(DimError, match="the start of a slice must be an int or a Dim"):
        slice_length(B, "1", None)


def test_concat_and_split() -> None:
    assert concat_sizes((B, 3, B)) is 2 * B + 3
    assert concat_sizes(()) == 0
    assert split_sizes(6 * B, 3) == (2 * B,) * 3
    assert split_sizes(B + 3, (B, 3)) == (B, 3)
    with collect_guards() as guards:
        assert split_sizes(B, 2) == (B // 2, B // 2)
        assert split_sizes(B, (C, 1)) == (C, 1)
    assert [str(g).split(" (")[0] for g in guards] == ["B % 2 == 0", "C + 1 == B"]
    for args, words in [
        ((7, 2), "split of 7 into 2 equal pieces: 7 % 2 != 0"),
        ((2 * B + 1, 2), "for every B"),
        ((7, (3, 3)), "split of 7 into pieces of (3, 3): 6 != 7"),
        ((7, (-1, 8)), "0 > -1"),
        ((7, 0), "the number of pieces must be an int >= 1, not 0"),
        ((7, B), "the number of pieces must be an int >= 1, not B"),
    ]:
        with pytest.raises(DimError) as error:
            split_sizes(*args)
        assert words in str(error.value)
