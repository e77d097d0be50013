"""Memory descriptors: what they say is what NumPy sees, and keys make them again."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from symgraph.backends.cpu.onednn import tags
from symgraph.backends.cpu.onednn.descriptors import (
    Descriptor,
    Key,
    channels_last,
    row_major,
)
from symgraph.backends.cpu.onednn.library import UnimplementedError
from symgraph.errors import BackendError
from symgraph.graph.dtypes import itemsize
from tests.backends.onednn_memory import need_onednn, offsets

need_onednn()

DTYPES = ["float32", "bfloat16", "float16", "int32", "int8", "uint8"]


def layout_known(dims: tuple[int, ...], tag: str) -> Descriptor | None:
    """Describe a tensor by a name, or give None where an older library does not know the name."""
    try:
        return Descriptor.tagged(dims, "float32", tag)
    except BackendError:
        return None


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("dims", [(5,), (2, 3), (2, 3, 5), (2, 17, 3, 4), (2, 3, 2, 2, 2, 2)])
def test_a_dense_array(dims: tuple[int, ...], dtype: str) -> None:
    array = np.empty(dims, np.int8)
    made = Descriptor.dense(dims, dtype)
    assert (made.dims, made.dtype, made.padded_dims) == (dims, dtype, dims)
    assert made.strides() == row_major(dims) == array.strides
    assert made.size == array.size * itemsize(dtype)
    assert made.layout == "abcdef"[: len(dims)]
    assert not made.is_any


def test_any_has_no_layout_yet() -> None:
    made = Descriptor((2, 3, 4, 5), "bfloat16")
    assert made.is_any
    assert made.strides() is None
    assert made.layout == "any"
    assert str(made) == repr(made) == "bfloat16[2, 3, 4, 5] any"
    assert Descriptor.from_key(made.key) == made


def test_channels_last_and_gaps_in_words() -> None:
    dims = (2, 3, 5, 6)
    assert Descriptor(dims, "float32", channels_last(dims)).layout == "acdb"
    assert str(Descriptor((4, 3), "int32", (8, 2))) == "int32[4, 3] ab strides (8, 2)"
    assert Descriptor((4, 3), "int32", (8, 2)).size == 4 * 4 * 8  # with the gap after the end


def test_blocks() -> None:
    made = Descriptor.tagged((2, 17, 3, 4), "float32", "aBcd16b")
    assert made.strides() is None
    assert made.padded_dims == (2, 32, 3, 4)
    assert made.size == 2 * 32 * 3 * 4 * 4
    assert made.key == Key((2, 17, 3, 4), "float32", (384, 192, 64, 16), (2, 32, 3, 4), ((16, 1),))


# -- keys -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 3, 40])
def test_every_layout_comes_back_from_its_key(size: int) -> None:
    """All names of the table, where the library knows them; axes of one size, so that they tie."""
    known = 0
    for tag in tags.NUMBERS:
        order, blocks = tags.parse(tag)
        dims = (size,) * len(order) if size < 4 else (size, *(2,) * (len(order) - 1))
        if np.prod(dims, dtype=float) > 1e7:
            continue
        made = layout_known(dims, tag)
        if made is None:
            continue
        known += 1
        key = made.key
        again = Descriptor.from_key(key)
        assert again == made, tag
        assert again.key == key, tag
        assert key.blocks == blocks
        if size == 3 and not blocks:
            assert key.layout == tag
    assert known > 700


@pytest.mark.parametrize("tag", ["acdb", "aBcd16b", "ABcd16b16a4b", "aBCd8b16c2b", "AcdB16a2b"])
def test_each_element_has_a_place_of_its_own(tag: str) -> None:
    made = Descriptor.tagged((5, 19, 6, 7), "float32", tag)
    places = offsets(made.key)
    assert np.unique(places).size == places.size
    assert 0 <= places.min() <= places.max() < made.size // 4


def test_a_key_is_plain_numbers_and_survives_json() -> None:
    key = Descriptor.tagged((5, 19, 6, 7), "bfloat16", "ABcd16b16a").key
    fields = json.loads(json.dumps(dataclasses.asdict(key)))
    fields = {name: _tuples(value) for name, value in fields.items()}
    assert Key(**fields) == key
    assert hash(Key(**fields)) == hash(key)
    assert Descriptor.from_key(Key(**fields)).key == key


def _tuples(value: Any) -> Any:
    return tuple(_tuples(each) for each in value) if isinstance(value, list) else value


@st.composite
def plain(draw: st.DrawFn) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Draw dims and strides of an array with its axes in any order and gaps between them."""
    dims = tuple(draw(st.lists(st.integers(0, 5), min_size=1, max_size=6)))
    order = draw(st.permutations(range(len(dims))))
    strides, step = [0] * len(dims), 1
    for axis in order:
        strides[axis] = step
        step = step * max(dims[axis], 1) + draw(st.integers(0, 2))
    return dims, tuple(strides)


@given(plain())
def test_plain_layouts_come_back_from_their_keys(
    drawn: tuple[tuple[int, ...], tuple[int, ...]],
) -> None:
    dims, strides = drawn
    made = Descriptor(dims, "float32", strides)
    again = Descriptor.from_key(made.key)
    assert again == made
    assert again.key == made.key
    found = made.strides()
    assert found is not None
    assert all(a == b for a, b, size in zip(found, strides, dims) if size != 1)


def test_keys_of_equal_descriptors_are_equal() -> None:
    """Strides of axes of size one do not matter to the library, and not to the key."""
    one = Descriptor((2, 1, 5, 5), "float32", row_major((2, 1, 5, 5)))
    other = Descriptor((2, 1, 5, 5), "float32", channels_last((2, 1, 5, 5)))
    third = Descriptor((2, 1, 5, 5), "float32", (25, 777, 5, 1))
    assert one == other == third
    assert len({one, other, third}) == 1
    assert one.key == other.key == third.key


def test_a_layout_without_a_name_cannot_be_made() -> None:
    key = Key((32, 32), "float32", (32 * 16, 7), (32, 32), ((16, 1),))
    with pytest.raises(UnimplementedError, match="oneDNN has no name for float32"):
        Descriptor.from_key(key)


def test_a_descriptor_that_holds_more_than_its_key_says_so() -> None:
    """int8 weights carry sums for signed inputs on processors without instructions for them."""
    code = """
from symgraph.backends.cpu.onednn.descriptors import Descriptor as D
from symgraph.backends.cpu.onednn.library import UnimplementedError
from symgraph.backends.cpu.onednn.primitives import convolution
made = convolution(D((2, 32, 8, 8), "int8"), D((32, 32, 3, 3), "int8"), None,
                   D((2, 32, 6, 6), "int32"))
try:
    print(D.from_key(made.weights.key) == made.weights)
except UnimplementedError as error:
    print("no key says all of int8" in str(error))
"""
    environment = {**os.environ, "DNNL_MAX_CPU_ISA": "AVX2"}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout == "True\n", done.stderr


# -- views ----------------------------------------------------------------------------------------


def test_permute_is_transpose() -> None:
    dims, axes = (2, 3, 5, 7), (2, 0, 3, 1)
    array = np.empty(dims, np.int8).transpose(axes)
    made = Descriptor.dense(dims).permute(axes)
    assert made.dims == array.shape
    assert made.strides() == array.strides
    blocked = Descriptor.tagged(dims, "float32", "aBcd16b").permute(axes)
    assert blocked.padded_dims == (5, 2, 7, 16)


def test_reshape_splits_and_merges() -> None:
    made = Descriptor.dense((4, 6, 5))
    assert made.reshape((4, 30)).strides() == (30, 1)
    assert made.reshape((1, 4, 6, 5, 1)).dims == (1, 4, 6, 5, 1)
    grouped = Descriptor.tagged((32, 16, 3, 3), "float32", "ABcd16b16a").reshape((1, 32, 16, 3, 3))
    assert grouped == Descriptor.tagged((1, 32, 16, 3, 3), "float32", "aBCde16c16b")
    with pytest.raises(BackendError, match=r"reshape of float32.* acb to"):
        Descriptor.tagged((4, 6, 5), "float32", "acb").reshape((24, 5))


# -- errors ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Descriptor(()), "1 to 12 dims of 0 or more are needed, got ()"),
        (lambda: Descriptor((1,) * 13), "1 to 12 dims"),
        (lambda: Descriptor((2, -1)), "1 to 12 dims of 0 or more are needed, got (2, -1)"),
        (lambda: Descriptor((2, 3), "int32", (1,)), "2 strides of 0 or more are needed"),
        (lambda: Descriptor((2, 3), "int32", (-3, 1)), "got (-3, 1)"),
        (lambda: Descriptor((2, 3), "int32", (2, 1)), "answered invalid_arguments"),
        (lambda: Descriptor.tagged((2, 3), "int32", "abz"), "oneDNN has no layout 'abz'"),
        (
            lambda: Descriptor.tagged((2, 3), "int32", "abc"),
            "layout 'abc' has 3 axes, the dims (2, 3) have 2",
        ),
        (lambda: Descriptor((2, 3)).permute((0, 0)), "each axis must be named once"),
        (lambda: Descriptor((2, 3)).permute((0,)), "each axis must be named once"),
    ],
)
def test_impossible_descriptors(make: Any, message: str) -> None:
    with pytest.raises(BackendError) as caught:
        make()
    assert message in str(caught.value)
    assert not isinstance(caught.value, UnimplementedError)


@pytest.mark.parametrize("dtype", ["float64", "int64", "bool"])
def test_a_dtype_that_the_library_lacks(dtype: str) -> None:
    with pytest.raises(UnimplementedError, match=f"oneDNN has no {dtype}, only float16"):
        Descriptor((2,), dtype)


# -- names ----------------------------------------------------------------------------------------


def test_names_are_read_and_written() -> None:
    for name in tags.NUMBERS:
        assert tags.format_name(*tags.parse(name)) == name
    assert tags.NUMBERS["a"] == 2
    assert tags.NUMBERS["acdb"] == 22
    with pytest.raises(ValueError, match="'16b' is not the name of a layout"):
        tags.parse("16b")
