"""The namespace has what the standard has, under its names and with its parameters."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import symgraph.array_api as xp
from symgraph.errors import ArgumentError, ArgumentTypeError
from tests.array_api.standard import (
    ATTRIBUTES,
    EXTENSIONS,
    FUNCTIONS,
    METHODS,
    OPERATORS,
    SECTIONS,
    lines,
)  # fmt: skip


def _signatures() -> Iterator[tuple[str, Any, str]]:
    for text in FUNCTIONS.values():
        yield from ((line, xp, line) for line in lines(text))
    for extension, text in EXTENSIONS.items():
        yield from ((f"{extension}.{line}", getattr(xp, extension), line) for line in lines(text))
    yield from ((f"x.{line}", xp.zeros(()), line) for line in lines(METHODS))


CASES = list(_signatures())


@pytest.mark.parametrize(("home", "line"), [case[1:] for case in CASES], ids=[c[0] for c in CASES])
def test_a_function_has_the_parameters_of_the_standard(home: Any, line: str) -> None:
    name = line.split("(")[0]
    found = inspect.signature(getattr(home, name))
    bare = [one.replace(annotation=inspect.Parameter.empty) for one in found.parameters.values()]
    assert str(inspect.Signature(bare)) == line.removeprefix(name)


@pytest.mark.parametrize("name", [name for text in SECTIONS.values() for name in text.split()])
def test_constants_and_dtypes_are_there(name: str) -> None:
    assert hasattr(xp, name)
    assert name in xp.__all__


def test_what_is_listed_is_there_and_documented() -> None:
    names = [line.split("(")[0] for text in FUNCTIONS.values() for line in lines(text)]
    assert set(names) <= set(xp.__all__)
    assert all(getattr(xp, name).__doc__ for name in names)
    for extension, text in EXTENSIONS.items():
        home = getattr(xp, extension)
        assert {line.split("(")[0] for line in lines(text)} == set(home.__all__)
        assert all(getattr(home, name).__doc__ for name in home.__all__)


def test_arrays_have_attributes_and_reflected_operators() -> None:
    assert all(hasattr(xp.Array, name) for name in ATTRIBUTES.split())
    for name in OPERATORS.split():
        assert hasattr(xp.Array, f"__r{name}__")
        assert hasattr(xp.Array, f"__i{name}__")


def test_info_names_dtypes_devices_and_capabilities() -> None:
    info = xp.__array_namespace_info__()
    assert info.capabilities()["boolean indexing"] is True
    assert info.capabilities()["data-dependent shapes"] is True
    assert info.default_dtypes()["real floating"] == xp.zeros(1).dtype == "float32"
    assert info.default_dtypes()["complex floating"] == xp.asarray(1j).dtype == "complex64"
    assert info.default_dtypes()["integral"] == xp.asarray(1).dtype == "int64"
    assert info.default_dtypes()["indexing"] == xp.argmax(xp.zeros(3)).dtype == "int64"
    assert set(info.dtypes()) == set(SECTIONS["dtypes"].split())
    assert set(info.dtypes(kind="signed integer")) == {"int8", "int16", "int32", "int64"}
    assert set(info.dtypes(kind=("bool", "complex floating"))) == {
        "bool", "complex64", "complex128",
    }  # fmt: skip
    assert info.devices() == [info.default_device()] == [xp.zeros(1).device]
    with pytest.raises(ArgumentTypeError, match="a kind is a word"):
        info.dtypes(kind=3)
    with pytest.raises(ArgumentError, match="no device 'gpu'"):
        info.dtypes(device="gpu")


def test_dtypes_are_objects_that_know_their_name() -> None:
    for name in SECTIONS["dtypes"].split():
        dtype = getattr(xp, name)
        assert not isinstance(dtype, str)
        assert dtype == xp.zeros(1, dtype=dtype).dtype == xp.zeros(1, dtype=name).dtype == name
        assert hash(dtype) == hash(xp.zeros(1, dtype=dtype).dtype)
        assert str(dtype) == np.dtype(dtype).name == name
        assert xp.isdtype(dtype, dtype)
        assert xp.isdtype(dtype, (xp.bool, "numeric"))
    assert xp.int8 != xp.uint8
    assert xp.int8 != 8
    for found in (xp.finfo(xp.float32), xp.finfo(xp.complex64), xp.finfo(xp.zeros(1))):
        assert found.dtype is not str(found.dtype)
        assert (found.dtype, found.bits) == (xp.float32, 32)
    assert not isinstance(xp.iinfo(xp.int8).dtype, str)
    assert not isinstance(xp.result_type(xp.int8, xp.uint8), str)
    assert all(not isinstance(one, str) for one in xp.__array_namespace_info__().dtypes().values())


def test_an_array_names_its_namespace() -> None:
    x = xp.zeros(3)
    assert x.__array_namespace__() is xp
    assert x.__array_namespace__(api_version=xp.__array_api_version__) is xp
    with pytest.raises(ArgumentError, match="no version '1999"):
        x.__array_namespace__(api_version="1999.01")
