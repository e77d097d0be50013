"""What dtypes are, meet in and hold, in the array API's words."""

from __future__ import annotations

import numpy as np
import pytest

import symgraph as sg
from symgraph.errors import ArgumentError, ArgumentTypeError, DTypeError


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_limits_of_floats_are_numpys(dtype: str) -> None:
    found, expected = sg.finfo(dtype), np.finfo(dtype)
    for name in ("bits", "eps", "max", "min", "smallest_normal"):
        assert getattr(found, name) == float(getattr(expected, name))
    assert found.dtype == dtype


def test_limits_are_those_of_a_value_too() -> None:
    assert sg.finfo(sg.tensor("x", (2,), "bfloat16")).max == 255 * 2.0**120
    assert sg.iinfo(np.zeros(2, np.uint16)).max == 65535
    with pytest.raises(DTypeError, match="finfo: int8 is no float"):
        sg.finfo("int8")
    with pytest.raises(DTypeError, match="iinfo: float32 is no integer"):
        sg.iinfo(sg.float32)


def test_kinds() -> None:
    assert sg.isdtype(sg.int8, "signed integer")
    assert not sg.isdtype(sg.bool, "numeric")
    assert sg.isdtype(sg.bfloat16, ("integral", "real floating"))
    assert sg.isdtype(np.float32, sg.float32)
    assert not sg.isdtype("float32", "complex floating")
    assert sg.isdtype(sg.complex64, "complex floating")
    assert sg.isdtype(sg.complex128, "numeric")
    assert sg.finfo("complex64") == sg.finfo("float32")
    assert sg.result_type("float32", 1j) == "complex64"
    with pytest.raises(ArgumentError, match="isdtype: 'whole' is neither"):
        sg.isdtype("int8", "whole")


def test_meeting() -> None:
    x = sg.tensor("x", (2,), "int8")
    assert sg.result_type(x, "uint8") == "int16"
    assert sg.result_type(x, 2) == "int8"
    assert sg.result_type(x, 2.5) == "float32"
    assert sg.result_type(True, 1) == "int64"
    assert sg.can_cast(x, "int16")
    assert not sg.can_cast("uint64", "int64")
    with pytest.raises(ArgumentTypeError, match="result_type: needs"):
        sg.result_type()
    with pytest.raises(DTypeError, match="no dtype holds both"):
        sg.result_type("uint64", "int64")


def test_constants_and_names() -> None:
    assert (sg.pi, sg.e, sg.inf) == (np.pi, np.e, np.inf)
    assert np.isnan(sg.nan)
    x = sg.tensor("x", (2,), sg.float64)
    assert x[sg.newaxis].shape == (1, 2)
    assert x.astype(sg.bool).dtype == "bool"
