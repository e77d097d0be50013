"""What is checked of indices before a compiled step writes: each number once, and none in vain."""

from __future__ import annotations

import numpy as np
import pytest

import symgraph as sg
from symgraph.errors import IndexRangeError
from symgraph.graph.walk import topological

B = sg.dim("batch_of_legal")


def checked(value: sg.Value) -> list[str]:
    """Give the types of the index arrays that the checks of a value look at."""
    found = []
    for node in topological([value]):
        condition = node.op.legal(sg.F, *node.inputs)
        if condition is not None:
            every = [one for one in topological([condition]) if one.op.name == "all"]
            found += [str(one.inputs[0].shape) for one in every]
    return found


def test_repeated_indices_are_looked_at_once() -> None:
    x, rows = sg.tensor("x", (B, 5, 7)), sg.tensor("rows", (B,), "int32")
    whole = x[sg.arange(B)[:, None, None], rows[:, None, None], sg.arange(7)]
    assert str(whole.shape) == str((B, 1, 7))
    assert checked(whole) == [str((B,))], "those that count what is there are sure"
    turned = sg.broadcast_to(rows[:, None], (B, 9)).T
    assert checked(sg.take(x, turned, axis=1)) == [str((B,))]


def test_what_counts_too_far_or_may_be_negative_is_looked_at() -> None:
    x = sg.tensor("x", (B, 5))
    assert checked(sg.take(x, sg.arange(B + 1))) == [str((B + 1,))]
    assert checked(sg.take(x, sg.arange(B) + 1)) == [str((B,))]
    assert checked(sg.take(x, sg.arange(B, dtype="int8"))) == [str((B,))], "it wraps round"
    assert checked(sg.take(x, sg.arange(B))) == []


@pytest.mark.parametrize("backend", ["cpu", "reference"])
def test_numbers_that_are_repeated_no_times_may_be_wrong(backend: str) -> None:
    none = sg.dim("repeats_of_legal", min=0)
    x, rows, like = sg.matrix("x"), sg.ivector("rows"), sg.tensor("like", (none,))
    found = x[sg.broadcast_to(rows[:, None], (rows.shape[0], none)), 0] + like
    f = sg.function([x, rows, like], found, backend=backend)
    table, wrong = np.ones((3, 2), np.float32), np.array([1, 3], np.int32)
    assert f(table, wrong, np.zeros(0, np.float32)).shape == (2, 0)
    with pytest.raises(IndexRangeError, match="index 3 at position"):
        f(table, wrong, np.zeros(4, np.float32))


@pytest.mark.parametrize("backend", ["cpu", "reference"])
def test_windows_that_stick_out_are_found(backend: str) -> None:
    pixels, top = sg.tensor("pixels", (B, 3, 6, 8), "uint8"), sg.tensor("top", (B,), "int64")
    left, mirror = sg.tensor("left", (B,), "int64"), sg.tensor("mirror", (B,), "bool")
    f = sg.function(
        [pixels, top, left, mirror], sg.crop_mirror(pixels, 4, top, left, mirror), backend=backend
    )
    images = np.random.default_rng(0).integers(0, 256, (2, 3, 6, 8), dtype=np.uint8)
    flags = np.array([False, True])
    assert f(images, np.array([2, 0]), np.array([0, 4]), flags).shape == (2, 3, 4, 4)
    for tops, lefts in (([2, 3], [0, 0]), ([-1, 0], [0, 0]), ([0, 0], [5, 0]), ([0, 0], [0, -1])):
        with pytest.raises(IndexRangeError):
            f(images, np.array(tops), np.array(lefts), flags)
