"""Arrays of other libraries on the CPU: whatever NumPy or DLPack can read is taken."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import symgraph as sg
from symgraph.errors import DTypeError, InputError

NUMBERS = np.array([[1.5, -2.0], [0.25, 4.0]])


class ByDlpack:
    """Speaks DLPack alone."""

    def __init__(self, numbers: Any) -> None:
        self.numbers = numbers

    def __dlpack__(self, **options: Any) -> Any:
        return self.numbers.__dlpack__(**options)

    def __dlpack_device__(self) -> tuple[int, int]:
        return self.numbers.__dlpack_device__()  # type: ignore[no-any-return]


class ByArray:
    """Makes an array when it is asked."""

    def __init__(self, numbers: Any) -> None:
        self.numbers = numbers

    def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
        return self.numbers if dtype is None else self.numbers.astype(dtype)


class ByInterface:
    """Tells where its numbers lie."""

    def __init__(self, numbers: Any) -> None:
        self.numbers = numbers

    @property
    def __array_interface__(self) -> dict[str, Any]:
        return self.numbers.__array_interface__  # type: ignore[no-any-return]


KINDS = pytest.mark.parametrize("kind", [ByDlpack, ByArray, ByInterface])


@KINDS
@pytest.mark.parametrize("dtype", ["float64", "float32", "int32", "bool"])
def test_functions_variables_and_operands_take_them(kind: Any, dtype: str) -> None:
    numbers = NUMBERS.astype(dtype)
    x = sg.matrix("x", dtype)
    f = sg.function([x], x)
    found = f(kind(numbers))
    assert type(found) is np.ndarray
    np.testing.assert_array_equal(found, numbers)
    w = sg.shared(kind(numbers), "w")
    assert w.dtype == dtype  # its own, not that of Python's numbers
    w.value = kind(numbers[::-1])
    np.testing.assert_array_equal(w.value, numbers[::-1])
    assert (x == kind(numbers)).eval(x=numbers).all()
    np.testing.assert_array_equal(sg.jit(lambda a: a)(kind(numbers)), numbers)


@KINDS
def test_nothing_is_shared_with_a_variable(kind: Any) -> None:
    numbers = NUMBERS.copy()
    w = sg.shared(kind(numbers), "w")
    numbers[:] = 0
    np.testing.assert_array_equal(w.value, NUMBERS)


@KINDS
def test_what_would_lose_something_is_refused(kind: Any) -> None:
    x = sg.matrix("x")
    with pytest.raises(InputError, match="`x` is float32, it was given float64"):
        sg.function([x], x)(kind(NUMBERS))


def test_an_array_that_refuses_is_explained() -> None:
    class Elsewhere(ByDlpack):
        def __dlpack__(self, **options: Any) -> Any:
            raise BufferError("it lies elsewhere")

    class Tracked(ByArray):
        def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
            raise RuntimeError("it requires a gradient")

    with pytest.raises(DTypeError, match="cannot be made an array: it lies elsewhere"):
        sg.shared(Elsewhere(NUMBERS))
    with pytest.raises(DTypeError, match="it requires a gradient") as found:
        sg.shared(Tracked(NUMBERS))
    assert "detach" in found.value.fix
