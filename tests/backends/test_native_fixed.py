"""What depends only on variables that a function does not write: computed once, and kept."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import symgraph as sg
from symgraph.backends.cpu.compiler import unavailable
from symgraph.runtime.native import NativeExecutor

pytestmark = pytest.mark.skipif(bool(unavailable()), reason=unavailable() or "there is a compiler")


def executor(f: sg.Function) -> NativeExecutor:
    found = f._executor
    assert isinstance(found, NativeExecutor)
    return found


def counted(f: sg.Function, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Note for every run of the step whether all of it ran, or all but what is fixed."""
    bound, seen = executor(f).last, []
    assert bound is not None
    whole, rest = bound.driver, bound.repeat

    def noted(name: str, run: Any) -> Any:
        def call(address: int, count: int) -> int:
            seen.append(name)
            return int(run(address, count))

        return call

    monkeypatch.setattr(bound, "driver", noted("whole", whole))
    monkeypatch.setattr(bound, "repeat", noted("rest", rest))
    return seen


def test_fixed_results_are_computed_again_when_a_variable_changes(
    monkeypatch: pytest.MonkeyPatch, rng: np.random.Generator
) -> None:
    first, second = (rng.standard_normal((50, 40)).astype("float32") for _ in range(2))
    w = sg.shared(first, "w")
    x = sg.tensor("x", (sg.dim("fixed_rows"), 50))
    f = sg.function([x], x @ sg.exp(w), backend="cpu")
    data = rng.standard_normal((7, 50)).astype("float32")
    np.testing.assert_allclose(f(data), data @ np.exp(first), rtol=1e-4, atol=1e-4)
    seen = counted(f, monkeypatch)
    np.testing.assert_allclose(f(data), data @ np.exp(first), rtol=1e-4, atol=1e-4)
    assert seen == ["rest"]
    w.value = second
    np.testing.assert_allclose(f(data), data @ np.exp(second), rtol=1e-4, atol=1e-4)
    assert seen == ["rest", "whole"]
    f(data)
    assert seen == ["rest", "whole", "rest"]


def test_other_sizes_and_other_functions_see_the_change(rng: np.random.Generator) -> None:
    w = sg.shared(np.ones((6, 5), "float32"), "w")
    x = sg.tensor("x", (sg.dim("fixed_rows"), 6))
    f = sg.function([x], x @ (w * 2), backend="cpu")
    more = sg.function([], None, {w: w + 1}, backend="cpu")
    for step in range(3):
        for rows in (1, 3, 4):
            data = rng.standard_normal((rows, 6)).astype("float32")
            expected = data @ np.full((6, 5), 2.0 * (1 + step), "float32")
            np.testing.assert_allclose(f(data), expected, rtol=1e-4, atol=1e-5)
        more()


def test_a_variable_that_is_written_is_not_fixed() -> None:
    w = sg.shared(np.ones((6, 5), "float32"), "w")
    x = sg.tensor("x", (2, 6))
    f = sg.function([x], x @ (w * 2), {w: w + 1}, backend="cpu")
    data = np.ones((2, 6), "float32")
    assert [float(f(data)[0, 0]) for _ in range(3)] == [12.0, 24.0, 36.0]


def test_what_depends_on_a_size_is_not_kept() -> None:
    w = sg.shared(np.arange(3, dtype="float32"), "w")
    x = sg.tensor("x", (sg.dim("fixed_rows"),))
    f = sg.function([x], sg.outer(x, w) + x.sum(), backend="cpu")
    for rows in (2, 5):
        data = np.ones(rows, "float32")
        np.testing.assert_array_equal(f(data), np.outer(data, np.arange(3)) + rows)
