"""NumPy functions as operations."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import symgraph as sg
from symgraph.errors import ArgumentTypeError, DTypeError, GradError, PassError, ShapeError

Array = Any
BACKENDS = pytest.mark.parametrize("backend", ["reference", "cpu"])
calls: list[str] = []


@sg.numpy_op(
    infer=lambda x, w, power: x,
    vjp=lambda g, y, x, w, power: (g * power * w * x ** (power - 1), (g * x**power).sum()),
    flops=lambda x, w, power: x.size * power,
)
def scaled_power_in_tests(x: Array, w: Array, *, power: int = 2) -> Array:
    """Give w * x ** power."""
    calls.append("scaled_power")
    return w * x**power


@sg.numpy_op(infer=lambda x: (x, x.with_dtype("int64")))
def sorted_in_tests(x: Array) -> Any:
    return np.sort(x), np.argsort(x)


@sg.numpy_op(infer=lambda x, how: x)
def strange_in_tests(x: Array, *, how: str) -> Any:
    if how == "write":
        x += 1
    found: dict[str, Any] = {
        "dtype": x.astype(np.float64), "shape": x[:1], "raise": x, "none": None, "good": x,
    }  # fmt: skip
    if how == "raise":
        raise OverflowError("the user's own")
    return found[how]


@BACKENDS
def test_values_and_gradients(backend: str) -> None:
    x, w = sg.vector("x"), sg.scalar("w")
    y = scaled_power_in_tests(x, w, power=3)
    f = sg.function([x, w], [y, *sg.grad(y.sum(), [x, w])], backend=backend)
    array = np.array([1, 2, 3], np.float32)
    calls.clear()
    for factor in (1.0, 2.0):
        found = f(array, factor)
        np.testing.assert_array_equal(found[0], factor * array**3)
        np.testing.assert_array_equal(found[1], 3 * factor * array**2)
        assert float(found[2]) == 36
    assert calls == ["scaled_power"] * 2
    assert sg.grad(sg.grad(y.sum(), x).sum(), x).eval(x=array, w=1.0).tolist() == [6, 12, 18]


@BACKENDS
def test_several_results(backend: str) -> None:
    x = sg.vector("x")
    f = sg.function([x], list(sg.F.sorted_in_tests(x)), backend=backend)
    values, places = f(np.array([3, 1, 2], np.float32))
    assert values.tolist() == [1, 2, 3]
    assert places.tolist() == [1, 2, 0]
    assert f([])[0].shape == (0,)


@BACKENDS
@pytest.mark.parametrize(
    ("how", "error", "text"),
    [
        ("dtype", DTypeError, r"infer says float32\[3\], the NumPy function gave float64"),
        ("shape", ShapeError, r"infer says float32\[3\], the NumPy function gave float32\[1\]"),
        ("none", DTypeError, "gave object"),
        ("raise", OverflowError, "the user's own"),
        ("write", ValueError, "read-only"),
    ],
)
def test_what_it_gives_is_checked_and_nothing_is_written(
    backend: str, how: str, error: type[Exception], text: str
) -> None:
    x, n = sg.vector("x"), sg.shared(np.zeros(3, np.float32), "n")
    y = strange_in_tests(x * 1.5, how=how)
    f = sg.function([x], y.sum(), updates={n: n + y}, backend=backend)
    with pytest.raises(error, match=text):
        f(np.ones(3, np.float32))
    assert n.value.sum() == 0


def test_attributes_are_part_of_identity() -> None:
    x = sg.vector("x")
    one, other = (strange_in_tests(x, how=how) for how in ("good", "good"))
    assert one is other
    assert one is not strange_in_tests(x, how="raise")
    assert scaled_power_in_tests(x, 2.0) is scaled_power_in_tests(x, 2.0, power=2)
    assert scaled_power_in_tests.__doc__ == "Give w * x ** power."
    cost = sg.cost(sg.function([x], scaled_power_in_tests(x, 2.0, power=3)))
    assert "3" in str(cost.flops)


def test_constants_are_not_computed_while_compiling() -> None:
    calls.clear()
    f = sg.function([], scaled_power_in_tests(sg.constant([1.0, 2.0]), 1.0), backend="cpu")
    assert calls == []
    assert [f().tolist() for _ in range(2)] == [[1, 4]] * 2
    assert len(calls) == 2


def test_mistakes() -> None:
    x = sg.vector("x")
    with pytest.raises(GradError, match="strange_in_tests: the operation has no gradient"):
        sg.grad(strange_in_tests(x, how="good").sum(), x)
    with pytest.raises(ArgumentTypeError, match="strange_in_tests: missing a required"):
        strange_in_tests(x)
    with pytest.raises(ArgumentTypeError, match="scaled_power_in_tests: missing a required arg"):
        scaled_power_in_tests(x)
    with pytest.raises(PassError, match="registered twice"):
        sg.numpy_op(infer=lambda x: x, name="exp")(lambda x: x)
    with pytest.raises(ArgumentTypeError, match=r"parameter \*xs"):
        sg.numpy_op(infer=lambda x: x)(lambda *xs: xs)
    with pytest.raises(ArgumentTypeError, match="takes a function"):
        sg.numpy_op(infer=lambda x: x)(3)  # type: ignore[arg-type]
    wrong = sg.numpy_op(infer=lambda x: "float32", name="wrong_in_tests")(lambda x: x)
    with pytest.raises(ArgumentTypeError, match="infer must give a type"):
        wrong(x)
    short = sg.numpy_op(infer=lambda x, y: x, vjp=lambda g, y, a, b: g, name="short_in_tests")
    with pytest.raises(GradError, match="for each of 2 operands, it gives 1"):
        sg.grad(short(lambda x, y: x)(x, x).sum(), x)


def test_it_is_saved_by_name_and_asked_for_where_it_is_not_registered(tmp_path: Path) -> None:
    x = sg.vector("x")
    f = sg.function([x], scaled_power_in_tests(x, 2.0, power=3))
    f.save(tmp_path / "f.sgz")
    assert sg.load(tmp_path / "f.sgz")([2.0]).tolist() == [16]
    code = f"import symgraph as sg; sg.load({str(tmp_path / 'f.sgz')!r})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "needs the operation `scaled_power_in_tests`" in done.stderr
    assert f"import the module {__name__}" in done.stderr
