"""`sg.jit`: what is traced, when, and what comes back."""

from __future__ import annotations

import copy
import importlib
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

import symgraph as sg
from symgraph.errors import ArgumentError, ArgumentTypeError, ShapeError

Array = Any
X = np.arange(6, dtype=np.float32).reshape(2, 3)


def test_one_trace_serves_all_sizes() -> None:
    calls: list[int] = []

    @sg.jit
    def f(x: Any, y: Any) -> Any:
        """What it does."""
        calls.append(1)
        return sg.tanh(x @ y).sum(axis=0)

    for n in (2, 3, 1, 0, 5):
        a, b = np.ones((n, 4), np.float32), np.ones((4, n + 1), np.float32)
        np.testing.assert_allclose(f(a, b), np.tanh(a @ b).sum(axis=0), rtol=1e-6)
    assert calls == [1]
    assert len(f.traces) == 1
    assert f.traces[0].shapes is None
    assert (f.__name__, f.__doc__) == ("f", "What it does.")
    assert "float32" in str(f.traces[0])
    f.clear()
    assert f.traces == ()


def test_another_dtype_rank_or_structure_is_another_trace() -> None:
    f = sg.jit(lambda x: sg.sum(x["a"]) if isinstance(x, dict) else sg.sum(x))
    f(X), f(X.astype(np.float64)), f(X[0]), f({"a": X}), f(X * 2)
    assert len(f.traces) == 4
    assert f(X.astype(np.float64)).dtype == np.float64
    with sg.config(float_dtype="float64"):
        assert f(1.5).dtype == np.float64
    assert f(1.5).dtype == np.float32


class Pair(NamedTuple):
    """A tuple with names."""

    left: Any
    right: Any


def test_arguments_and_results_are_trees() -> None:
    @sg.jit
    def f(state: Any, *rest: Any, scale: Any = 2.0, **more: Any) -> Any:
        pair = Pair(state["w"] * scale, [rest[0] + more["b"], None, 7])
        return {"pair": pair, "count": len(rest), 3: (state["n"],)}

    found = f({"w": X, "n": 4}, X[0], X, b=1)
    assert list(found) == ["pair", "count", 3]
    assert isinstance(found["pair"], Pair)
    np.testing.assert_array_equal(found["pair"].left, X * 2)
    np.testing.assert_array_equal(found["pair"].right[0], X[0] + 1)
    assert found["pair"].right[1] is None
    assert (int(found["pair"].right[2]), int(found["count"]), int(found[3][0])) == (7, 2, 4)
    assert [one.label for one in f.traces[0].function.inputs] == [
        "state['w']", "state['n']", "rest[0]", "rest[1]", "more['b']",
    ]  # fmt: skip
    np.testing.assert_array_equal(f({"w": X, "n": 4}, X[0], b=1, scale=3.0)["pair"].left, X * 3)


def test_sizes_that_must_be_numbers_are_traced_for_each_shape() -> None:
    calls: list[Any] = []

    @sg.jit
    def f(x: Any, y: Any) -> Any:
        calls.append(x.shape)
        total = x * 0
        for row in range(y.shape[0]):
            total = total + y[row]
        return total

    for n in (2, 3, 2):
        np.testing.assert_array_equal(f(X[0], np.ones((n, 3), np.float32)), [n] * 3)
    assert len(calls) == 3  # once for any sizes, in vain, then for 2 and 3
    assert [one.shapes for one in f.traces] == [((3,), (3, 3)), ((3,), (2, 3))]  # used last: 2


def test_the_shapes_used_last_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    module = importlib.import_module("symgraph.jit")  # `sg.jit` is the function
    monkeypatch.setattr(module, "MOST_SHAPES", 2)
    seen: list[int] = []

    @sg.jit(backend="reference")
    def padded(x: sg.Value) -> sg.Value:
        size = int(x.shape[0])  # a number, or an error
        seen.append(size)
        return sg.concat([x, sg.zeros(8 - size)])

    for size in (1, 2, 1, 3, 1, 2):
        assert padded(np.ones(size)).sum() == size
    assert seen == [1, 2, 3, 2]
    assert len(padded.traces) == 2


def test_a_size_of_one_is_broadcast_in_a_trace_of_its_own() -> None:
    f = sg.jit(lambda x, y: x + y)
    np.testing.assert_array_equal(f(X, X), 2 * X)
    np.testing.assert_array_equal(f(X, X[:1]), X + X[:1])
    np.testing.assert_array_equal(f(X[:1], X), X + X[:1])
    np.testing.assert_array_equal(f(X.T, X.T), 2 * X.T)
    assert len(f.traces) == 3
    with pytest.raises(ShapeError, match="3 != 4") as found:
        f(X, np.ones((2, 4), np.float32))
    assert "test_jit.py" in str(found.value)


def test_static_arguments_are_given_as_they_are() -> None:
    @sg.jit(static=("kind", "n"))
    def f(x: Any, kind: str, *, n: int = 2) -> Any:
        return {"sum": sg.sum, "max": sg.max}[kind](x) * n

    assert float(f(X, "sum")) == 30
    assert float(f(X, "max", n=3)) == 15
    assert float(f(X * 2, kind="max", n=3)) == 30
    assert len(f.traces) == 2
    with pytest.raises(ArgumentTypeError, match="f: static arguments must be hashable"):
        f(X, ["sum"])
    with pytest.raises(ArgumentError, match="f has no parameter `m`"):
        sg.jit(static="m")(f.__wrapped__)


def test_symbolic_values_are_inlined() -> None:
    @sg.jit
    def f(x: Any, scale: Any = 1.0) -> Any:
        return [sg.exp(x) * scale]

    x = sg.vector("x")
    (y,) = f(x, scale=2.0)
    assert isinstance(y, sg.Value)
    assert y is sg.exp(x) * 2.0
    assert f.traces == ()
    outer = sg.jit(lambda a: f(a)[0] + 1)
    np.testing.assert_allclose(outer(X[0]), np.exp(X[0]) + 1, rtol=1e-6)
    np.testing.assert_allclose(sg.jit(lambda a: sg.grad(f(a)[0].sum(), a))(X), np.exp(X), rtol=1e-6)


def test_methods_trace_for_their_instance() -> None:
    class Scaler:
        def __init__(self, by: float) -> None:
            self.by, self.weight = by, sg.shared(by, "by")

        @sg.jit
        def __call__(self, x: Any) -> Any:
            return x * self.by + self.weight

    two, three = Scaler(2.0), Scaler(3.0)
    np.testing.assert_array_equal(two(X), X * 2 + 2)
    np.testing.assert_array_equal(three(X), X * 3 + 3)
    two.weight.value = 0.0
    np.testing.assert_array_equal(two(X), X * 2)
    assert len(two.__call__.traces) == 1
    another = copy.copy(two)
    another.by = 10.0
    np.testing.assert_array_equal(another(X), X * 10)
    deep = copy.deepcopy(three.__call__)
    assert deep.traces == ()


def test_updates_and_random_streams_are_those_of_a_function() -> None:
    n = sg.shared(0, "n")
    f = sg.jit(lambda x: sg.with_updates(x + n.cast("float32"), {n: n + 1}))
    assert [float(f(1.0)) for _ in range(3)] == [1, 2, 3]
    sg.seed(1)
    drawn = sg.jit(lambda x: sg.dropout(x, 0.5))
    first, second = drawn(np.ones(64, np.float32)), drawn(np.ones(64, np.float32))
    assert (first != second).any()


def test_options_and_what_is_compiled(tmp_path: Path) -> None:
    f = sg.jit(backend="cpu", threads=1)(lambda x: sg.exp(x) + 1)
    function = f.trace(X)
    assert function.backend == "cpu"
    assert function is f.trace(X + 1) is f.traces[0].function
    function.save(tmp_path / "f.sgz")
    np.testing.assert_array_equal(sg.load(tmp_path / "f.sgz", backend="cpu")(X)[0], f(X))


def test_mistakes_name_the_function_and_the_argument() -> None:
    f = sg.jit(lambda x, mode=0: x)
    with pytest.raises(ArgumentTypeError, match="missing a required argument: 'x'"):
        f()
    with pytest.raises(
        ArgumentTypeError, match="`mode` is of type str, which is no array"
    ) as found:
        f(X, mode="fast")
    assert "static=('mode',)" in found.value.fix
    with pytest.raises(ArgumentTypeError, match=r"result\['a'\] is of type str"):
        sg.jit(lambda x: {"a": "text"})(X)
    with pytest.raises(ArgumentTypeError, match="jit: takes a function, got int"):
        sg.jit(3)  # type: ignore[call-overload]
    with pytest.raises(ArgumentTypeError, match="was given something symbolic"):
        f.trace(sg.vector("x"))
    with pytest.raises(ZeroDivisionError):
        sg.jit(lambda x: x + 1 // 0)(X)


def test_a_class_without_a_place_is_told() -> None:
    class Tight:
        __slots__ = ()

        @sg.jit
        def call(self, x: Any) -> Any:
            return x

    with pytest.raises(ArgumentTypeError, match="Tight has no place for what `call` traces"):
        Tight().call(X)
