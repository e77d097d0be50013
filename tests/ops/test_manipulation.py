"""NumPy's functions and methods that sort, accumulate and move, on symbolic values."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np
import pytest

import symgraph as sg
from symgraph.errors import ArgumentTypeError
from tests.ops.running import run

ARRAY = np.array([[3.0, 1.0, 2.0], [0.5, 0.5, -1.0]])

CALLS: dict[str, Callable[[Any], Any]] = {
    "cumsum": lambda x: np.cumsum(x, axis=1),
    "cumprod": lambda x: x.cumprod(0),
    "sort": lambda x: np.sort(x, axis=0),
    "argsort": lambda x: x.argsort(1),
    "roll": lambda x: np.roll(x, 1, axis=1),
    "tile": lambda x: np.tile(x, (2, 1)),
    "repeat": lambda x: x.repeat(2, axis=1),
    "diff": lambda x: np.diff(x, axis=0),
    "median": lambda x: np.median(x, axis=1),
    "quantile": lambda x: np.quantile(x, 0.25, axis=0),
    "trace": lambda x: x.trace(1),
    "tril": lambda x: np.tril(x, 1),
    "einsum": lambda x: np.einsum("ij,kj->ik", x, x),
    "hypot": lambda x: np.hypot(x, 2.0),
    "radians": lambda x: np.radians(x),
    "copysign": lambda x: np.copysign(x, -1.0),
    "allclose": lambda x: np.allclose(x, x),
    "isin": lambda x: np.isin(x, [0.5, 3.0]),
    "mT": lambda x: x.mT,
    "squeeze": lambda x: x[:1].squeeze(0).take([2, 0]),
    "sum": lambda x: np.sum(x, dtype=np.float32),
    "kron": lambda x: np.kron(x, x),
}


@pytest.mark.parametrize("name", list(CALLS))
def test_what_numpy_calls_builds_what_numpy_computes(name: str) -> None:
    expected = CALLS[name](ARRAY)
    np.testing.assert_allclose(run(CALLS[name], ARRAY), expected, rtol=1e-6)


def test_arguments_that_mean_something_else_are_refused() -> None:
    x = sg.matrix("x")
    with pytest.raises(ArgumentTypeError, match=r"numpy\.diff: has no symbolic form"):
        np.diff(x, 2)


def test_infinities_become_the_largest_numbers_of_the_dtype() -> None:
    x = sg.tensor("x", (3,), "bfloat16")
    array = np.array([np.inf, -np.inf, np.nan], ml_dtypes.bfloat16)
    found = sg.eval(sg.nan_to_num(x), {x: array}).astype(np.float64)
    assert found.tolist() == [sg.finfo(x).max, sg.finfo(x).min, 0]
