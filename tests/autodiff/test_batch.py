"""`vmap`: structures, axes, errors, random numbers, and operations that nobody has seen before."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np
import pytest

import symgraph as sg
from symgraph.autodiff.batched import BatchedHost
from symgraph.dims import anonymous
from symgraph.errors import (
    ArgumentError,
    ArgumentTypeError,
    GraphError,
    ShapeError,
    SymgraphError,
)
from symgraph.graph.draws import drawn
from symgraph.graph.dtypes import is_float
from symgraph.graph.node import make
from symgraph.graph.op import Op, op
from symgraph.graph.registry import F
from symgraph.graph.types import TensorType
from symgraph.graph.walk import topological

X = np.arange(6.0).reshape(2, 3)


def matrix(name: str = "x") -> Any:
    return sg.tensor(name, (sg.dim("B"), 3), "float64")


def run(outputs: Any, *pairs: Any) -> Any:
    return sg.function([x for x, _ in pairs], outputs)(*(array for _, array in pairs))


# -- structures and axes ---------------------------------------------------------------------------


def test_axes_of_arguments_and_results() -> None:
    x, w = matrix(), sg.tensor("w", (3,), "float64")
    weights = np.array([1.0, 2.0, 3.0])
    columns = sg.vmap(lambda column: column.sum(), in_axes=1)(x)
    same = sg.vmap(lambda row, w: row * w, in_axes=(0, None))(x, w)
    turned = sg.vmap(lambda row: row * 2, out_axes=1)(x)
    last = sg.vmap(lambda column: column, in_axes=-1, out_axes=-1)(x)
    pairs = sg.vmap(lambda a: sg.vmap(lambda b: a * b)(w))(w)
    found = run([columns, same, turned, last, pairs], (x, X), (w, weights))
    expected = [X.sum(0), X * weights, (X * 2).T, X, np.outer(weights, weights)]
    for one, other in zip(found, expected):
        np.testing.assert_allclose(one, other)


def test_structures_of_arguments_and_results() -> None:
    x, w = matrix(), sg.tensor("w", (3,), "float64")

    def f(pair: Any, *, scale: Any) -> Any:
        return {"a": pair["x"] * scale, "b": [pair["w"], (pair["x"].sum(),)]}

    mapped = sg.vmap(f, in_axes=({"x": 0, "w": None},), out_axes={"a": 1, "b": [None, 0]})
    found = mapped({"x": x, "w": w}, scale=sg.constant([1.0, 10.0], "float64"))
    assert set(found) == {"a", "b"}
    assert found["b"][0] is w
    outputs = run([found["a"], found["b"][1][0]], (x, X))
    np.testing.assert_allclose(outputs[0], (X * [[1.0], [10.0]]).T)
    np.testing.assert_allclose(outputs[1], X.sum(1))


def test_what_does_not_differ_is_computed_once_and_repeated() -> None:
    x, w = matrix(), sg.tensor("w", (3,), "float64")
    y = sg.vmap(lambda row: F.exp(w))(x)
    assert y.shape == (x.shape[0], 3)
    (node,) = [v for v in topological([y]) if v.op.name == "exp"]
    assert node.shape == (3,)
    alone = sg.vmap(lambda: sg.ones(2), size=4)()
    assert alone.eval().shape == (4, 2)


def test_a_product_with_plain_weights_is_one_large_product() -> None:
    x, w = matrix(), sg.tensor("w", (3, 5), "float64")
    y = sg.vmap(lambda row: F.matmul(row, w))(x)
    assert y is F.matmul(x, w)
    images, filters = sg.tensor("i", (4, 2, 3, 5, 5)), sg.tensor("f", (6, 3, 2, 2))
    z = sg.vmap(lambda one: F.conv2d(one, filters))(images)
    (conv,) = [v for v in topological([z]) if v.op.name == "conv"]
    assert conv.shape == (8, 6, 4, 4)


def test_gradients_of_each_example() -> None:
    x, w = matrix(), sg.tensor("w", (3,), "float64")
    weights = np.array([0.1, -0.2, 0.3])
    each = sg.vmap(lambda row: sg.grad(F.tanh((row * w).sum()), w))(x)
    found = run(each, (x, X), (w, weights))
    np.testing.assert_allclose(found, (1 - np.tanh(X @ weights) ** 2)[:, None] * X)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda x, y: sg.vmap(lambda a: a, in_axes=2)(x), ArgumentError, "`x` has no axis 2"),
        (lambda x, y: sg.vmap(lambda a: a)(1.0), ArgumentError, "no axis 0 to map over"),
        (
            lambda x, y: sg.vmap(lambda a, b: a)(x, y),
            ShapeError,
            "one size: axis 0 of `x` is 2, axis 0 of `y` is 4",
        ),
        (lambda x, y: sg.vmap(lambda a: a, size=5)(x), ShapeError, "size=5, axis 0 of `x` is 2"),
        (lambda x, y: sg.vmap(lambda a: a, in_axes=None)(x), ArgumentError, "nothing is mapped"),
        (lambda x, y: sg.vmap(lambda a: a, out_axes=3)(x), ArgumentError, "no axis of a result"),
        (lambda x, y: sg.vmap(lambda a: a, out_axes=None)(x), ArgumentError, "lane to lane"),
        (lambda x, y: sg.vmap(lambda a: a, in_axes=(0, 1))(x), ArgumentError, "one entry for each"),
        (lambda x, y: sg.vmap(lambda a: a, in_axes="0")(x), ArgumentError, "one entry|an int"),
        (lambda x, y: sg.vmap(3)(x), ArgumentTypeError, "takes a function"),  # type: ignore[type-var]
    ],
)
def test_wrong_calls_say_what_must_hold(call: Any, error: Any, message: str) -> None:
    x, y = sg.tensor("x", (2, 3)), sg.tensor("y", (4, 3))
    with pytest.raises(SymgraphError, match=message):
        call(x, y)


def test_sizes_that_are_not_known_are_checked_at_run_time() -> None:
    x, y = sg.matrix("x"), sg.matrix("y")
    f = sg.function([x, y], sg.vmap(lambda a, b: a.sum() * b.sum())(x, y))
    assert f(np.ones((2, 3), np.float32), np.ones((2, 4), np.float32)).tolist() == [12.0, 12.0]
    with pytest.raises(ShapeError):
        f(np.ones((2, 3), np.float32), np.ones((3, 4), np.float32))


def test_an_update_must_be_the_same_for_all_lanes() -> None:
    x, count = matrix(), sg.shared(0.0, "count", "float64")
    once = sg.vmap(lambda row: sg.with_updates(row.sum(), {count: count + 1}))(x)
    f = sg.function([x], once)
    f(X)
    f(X)
    assert count.value == 2.0
    with pytest.raises(GraphError, match="the update of `count` differs from lane to lane"):
        sg.vmap(lambda row: sg.with_updates(row.sum(), {count: row.sum()}))(x)


# -- random numbers --------------------------------------------------------------------------------


def test_rows_drawn_in_lanes_are_rows_of_the_batch() -> None:
    """Workers with a part of the batch each draw what one would have drawn for all of it."""
    stream = F.stream(11)
    x = matrix()
    f = sg.function([x], sg.vmap(lambda row: F.dropout(row, 0.5, stream=stream))(x))
    start = stream.state()
    whole = f(np.ones((6, 3)))
    stream.set_state({**start, "offset": 4})
    np.testing.assert_array_equal(f(np.ones((2, 3))), whole[4:])


@op
class StateNumber(Op):
    """A random operation that vmap knows nothing about: a number from a state and a parameter."""

    host = True

    def infer(self, state: TensorType, p: TensorType) -> TensorType:
        return p

    def ref(self, xp: ModuleType, *arrays: Any) -> Any:
        return np.asarray((int(arrays[0][0]) % 1000) * arrays[1])


def test_a_random_operation_that_nobody_knows_gets_a_state_for_each_lane() -> None:
    state = sg.constant(np.array([5, 0, 0], np.uint64))

    def draw(p: Any) -> Any:
        made = make(StateNumber(), state, p)
        drawn(made)
        return made

    y = sg.vmap(draw)(sg.constant(np.ones(5)))
    assert len(np.unique(y.eval())) == 5


# -- operations that nobody has seen ---------------------------------------------------------------


@op
class CubeOnHost(Op):
    """Computed by its `ref` alone, with a gradient of other operations."""

    host = True

    def infer(self, x: TensorType) -> TensorType:
        return x

    def ref(self, xp: ModuleType, *arrays: Any) -> Any:
        assert arrays[0].ndim == 1, "one lane at a time"
        return arrays[0] ** 3

    def vjp(self, F: Any, g: Any, y: Any, *xs: Any) -> Any:
        return (3 * xs[0] * xs[0] * g,) if is_float(xs[0].dtype) else (None,)


def test_an_operation_of_the_host_is_run_lane_after_lane() -> None:
    x = matrix()

    def cube(row: Any) -> Any:
        return make(CubeOnHost(), row)

    y = sg.vmap(cube)(x)
    assert isinstance(y.op, BatchedHost)
    slopes = [sg.grad(y.sum(), x), sg.vmap(lambda r: sg.grad(cube(r).sum(), r))(x)]
    pushed = sg.jvp(y, x, F.ones_like(x))
    second = sg.vmap(lambda r: sg.hvp(cube(r).sum(), r, F.ones_like(r)))(x)
    twice = sg.vmap(sg.vmap(cube))(F.reshape(x, (1, x.shape[0], 3)))
    found = run([y, *slopes, pushed, second, twice], (x, X))
    for one, other in zip(found, [X**3, 3 * X**2, 3 * X**2, 3 * X**2, 6 * X, (X**3)[None]]):
        np.testing.assert_allclose(one, other)


@op
class PositivePart(Op):
    """As many elements as are positive: lanes would differ in size."""

    host = True

    def infer(self, x: TensorType) -> TensorType:
        return x.with_shape((anonymous("k"),))

    def ref(self, xp: ModuleType, *arrays: Any) -> Any:
        return arrays[0][arrays[0] > 0]


def test_sizes_that_depend_on_numbers_are_refused() -> None:
    with pytest.raises(ShapeError, match="the size of the result of positive_part depends on"):
        sg.vmap(lambda row: make(PositivePart(), row))(matrix())


@op
class WithRules(Op):
    """An operation with a batch rule and a forward rule of its own."""

    size: int = 1

    def infer(self, x: TensorType) -> TensorType:
        return x

    def ref(self, xp: ModuleType, *arrays: Any) -> Any:
        return arrays[0] * self.size

    def batch(self, F: Any, size: Any, batched: Any, *xs: Any) -> Any:
        return make(WithRules(2), *xs)

    def jvp(self, F: Any, tangents: Any, y: Any, *xs: Any) -> Any:
        return tangents[0] * 7


def test_rules_of_an_operation_go_first() -> None:
    x = sg.constant(X)
    f: Callable[[Any], Any] = lambda row: make(WithRules(), row)
    np.testing.assert_array_equal(sg.vmap(f)(x).eval(), 2 * X)
    np.testing.assert_array_equal(sg.jvp(f(x), x, x).eval(), 7 * X)
