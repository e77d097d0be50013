"""`function`: arguments, ownership, atomic updates, guards, givens, eval."""

import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import symgraph as sg
from symgraph.errors import (
    ArgumentTypeError,
    DTypeError,
    GraphError,
    GuardError,
    InputError,
    ShapeError,
    SymgraphError,
)
from symgraph.graph.leaves import Shared


def _ones(*shape: int) -> np.ndarray:
    return np.ones(shape, np.float32)


def test_outputs_come_back_as_they_were_asked_for() -> None:
    x = sg.vector("x")
    assert sg.function([x], None)(_ones(2)) is None
    assert sg.function([x], x + 1)(_ones(1)).tolist() == [2]
    assert [v.tolist() for v in sg.function([x], [x, x + 1])(_ones(1))] == [[1], [2]]
    assert sg.function([x], {"a": x})(_ones(1))["a"].tolist() == [1]
    assert sg.function([], sg.constant(3.0))().tolist() == 3


def test_arguments_go_by_position_or_name() -> None:
    x, y = sg.scalar("x"), sg.scalar("y")
    f = sg.function([x, y], x - y)
    assert f(3, 1) == f(3, y=1) == f(y=1, x=3) == 2


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda f: f(), "missing `x`, `y`"),
        (lambda f: f(1, 2, 3), "takes 2 inputs, got 3"),
        (lambda f: f(1, z=3), "no input called `z`"),
        (lambda f: f(1, 2, x=3), "`x` is given twice"),
        (lambda f: f([1], 2), "`x` has 0 axes, it was given 1"),
        (lambda f: f(np.float64(1), 2), "float32, it was given float64"),
        (lambda f: f("a", 2), "`x` is float32, it was given <U1"),
        (lambda f: f(sg.scalar("q"), 2), "something symbolic"),
        (lambda f: f([[1], [2, 3]], 2), "cannot be made an array"),
    ],
)
def test_wrong_arguments(call: object, text: str) -> None:
    x, y = sg.scalar("x"), sg.scalar("y")
    with pytest.raises(InputError) as caught:
        call(sg.function([x, y], x - y, name="minus"))  # type: ignore[operator]
    assert text in str(caught.value)
    assert str(caught.value).startswith("minus: ")


@pytest.mark.parametrize(
    ("dtype", "given", "fine"),
    [
        ("float32", np.uint8([3]), True),
        ("float32", np.int32([3]), False),
        ("float64", np.int32([3]), True),
        ("float32", [3], True),
        ("float32", [0.1], True),
        ("int32", [3], True),
        ("int32", [2**40], False),
        ("int32", [1.5], False),
        ("uint8", [-1], False),
        ("uint8", [255], True),
        ("bool", [True], True),
        ("bool", [1], False),
        ("int64", np.array([True]), True),
        ("bfloat16", [1.5], True),
    ],
)
def test_lossless_conversions_only(dtype: str, given: object, fine: bool) -> None:
    x = sg.vector("x", dtype)
    f = sg.function([x], x)
    if fine:
        assert str(f(given).dtype) == dtype
    else:
        with pytest.raises(InputError, match="it was given"):
            f(given)


def test_names_shared_by_two_inputs_must_go_by_position() -> None:
    first, second = sg.scalar("x"), sg.scalar("x")
    f = sg.function([first, second], first - second)
    assert f(3, 1) == 2
    with pytest.raises(InputError, match="several inputs are called `x`"):
        f(3, x=1)


def test_one_compile_serves_every_size_and_guards_what_was_unknown() -> None:
    batch = sg.dim("B")
    x, y = sg.tensor("x", (batch, 3)), sg.vector("y")
    f = sg.function([x, y], x + y, name="shift")
    for n in (1, 2, 7):
        assert f(_ones(n, 3), _ones(3)).shape == (n, 3)
    with pytest.raises(GuardError) as caught:
        f(_ones(2, 3), _ones(1))
    assert "y.shape[0]" in str(caught.value)
    with pytest.raises(GuardError, match="axis 1 of `x` must be 3"):
        f(_ones(2, 4), _ones(3))
    with pytest.raises(GuardError, match="B"):
        f(_ones(0, 3), _ones(3))
    z = sg.tensor("z", (batch,))
    with pytest.raises(GuardError, match="B"):
        sg.function([x, z], [x, z])(_ones(2, 3), _ones(3))


def test_inputs_are_never_written_and_outputs_belong_to_the_caller() -> None:
    x = sg.vector("x")
    w = sg.shared(_ones(3), "w")
    f = sg.function([x], [x, x[1:], w, x.reshape(3, 1), x], updates={w: x})
    given = _ones(3)
    outputs = f(given)
    for output in outputs:
        output[...] = 99
    assert given.tolist() == [1, 1, 1]
    assert w.value.tolist() == [1, 1, 1]
    assert len({id(output) for output in outputs}) == 5
    a = f(given)[0]
    f(2 * given)
    assert a.tolist() == [1, 1, 1]
    given[0] = 5
    assert w.value.tolist() == [2, 2, 2]


def test_a_constant_output_cannot_be_spoiled() -> None:
    f = sg.function([], sg.constant([1.0, 2.0]))
    f()[0] = 9
    assert f().tolist() == [1, 2]


def test_updates_see_the_values_before_the_call() -> None:
    a, b = sg.shared(1.0, "a"), sg.shared(2.0, "b")
    swap = sg.function([], a + b, updates=[(a, b), (b, a)])
    assert swap() == 3
    assert (float(a.value), float(b.value)) == (2, 1)


def test_a_call_that_fails_writes_nothing() -> None:
    x, i = sg.vector("x"), sg.scalar("i", "int64")
    a, b = sg.shared(0.0, "a"), sg.shared(0.0, "b")
    f = sg.function([x, i], None, updates={a: a + 1, b: b + sg.take(x, i)})
    f([1, 2], 1)
    with pytest.raises(SymgraphError):
        f([1, 2], 5)
    short = sg.function([x], x[5], updates={a: a + 1})
    with pytest.raises(GuardError):
        short([1])
    assert (float(a.value), float(b.value)) == (1, 2)


@pytest.mark.parametrize(
    ("new", "error", "text"),
    [
        (lambda w: w.cast("float64"), DTypeError, "float64[3] is not float32[3]"),
        (lambda w: w[:2], ShapeError, "float32[2] is not float32[3]"),
        (lambda w: w.sum(), ShapeError, "float32 is not float32[3]"),
    ],
)
def test_updates_keep_the_type(new: object, error: type[Exception], text: str) -> None:
    w = sg.shared(_ones(3), "w")
    with pytest.raises(error) as caught:
        sg.function([], None, updates={w: new(w)})  # type: ignore[operator]
    assert text in str(caught.value)


def test_an_update_of_unknown_size_is_checked_when_called() -> None:
    x, w = sg.vector("x"), sg.shared(_ones(3), "w")
    f = sg.function([x], None, updates={w: x})
    f([1, 2, 3])
    with pytest.raises(GuardError):
        f([1, 2])
    assert w.value.tolist() == [1, 2, 3]


def test_only_shared_variables_are_updated_once() -> None:
    x, w = sg.vector("x"), sg.shared(1.0, "w")
    with pytest.raises(GraphError, match="only shared variables"):
        sg.function([x], None, updates={x: x})
    with pytest.raises(GraphError, match="updated twice"):
        sg.function([], None, updates=[(w, w), (w, w + 1)])


def test_attached_updates_are_applied_and_must_agree() -> None:
    x, n = sg.scalar("x"), sg.shared(0, "n")
    counted = sg.with_updates(x, {n: n + 1})
    f = sg.function([x], counted * counted)
    f(2)
    assert f(3) == 9
    assert n.value == 2
    assert all(node.op.name != "attach" for node in f.graph.values)
    other = sg.with_updates(x, {n: n + 2})
    with pytest.raises(GraphError, match="two different values"):
        sg.function([x], counted + other)
    mine = sg.function([x], counted, updates={n: n + 10})
    mine(1)
    assert n.value == 12


def test_an_attached_update_may_hang_on_another() -> None:
    x, n, k = sg.scalar("x"), sg.shared(0, "n"), sg.shared(0, "k")
    inner = sg.with_updates(x.cast("int64"), {n: n + 1})
    outer = sg.with_updates(x, {k: k + inner})
    f = sg.function([x], outer)
    f(3)
    assert (int(n.value), int(k.value)) == (1, 3)


def test_givens_replace_values() -> None:
    x, y = sg.vector("x"), sg.vector("y")
    h = sg.exp(x)
    f = sg.function([y], h * 2, givens={x: y + 1})
    assert f([0]).tolist() == pytest.approx([2 * np.e])
    assert sg.function([y], h * 2, givens={h: y})([3]).tolist() == [6]
    with pytest.raises(DTypeError, match="must keep the dtype"):
        sg.function([y], h, givens={x: y.cast("float64")})
    with pytest.raises(ShapeError, match="number of axes"):
        sg.function([y], h, givens={x: y.sum()})


def test_inputs_must_be_inputs_and_complete() -> None:
    x, w = sg.vector("x"), sg.shared(1.0, "w")
    with pytest.raises(GraphError, match=r"need `x`"):
        sg.function([], x)
    with pytest.raises(GraphError, match="`w` cannot be an input: it is a shared variable"):
        sg.function([w], w)
    y = x + 1
    with pytest.raises(GraphError, match="`y` cannot be an input: it is made by add"):
        sg.function([y], y)
    with pytest.raises(GraphError, match="listed twice"):
        sg.function([x, x], x)


def test_eval_takes_arrays_and_sizes_by_value_or_name() -> None:
    batch = sg.dim("B")
    x = sg.tensor("x", (batch,))
    assert x.sum().eval({x: [1, 2]}) == 3
    assert x.sum().eval(x=[1, 2]) == 3
    assert sg.zeros((batch, 2)).eval({batch: 3}).shape == (3, 2)
    with pytest.raises(InputError, match="size B stands in no input"):
        sg.zeros((batch, 2)).eval()
    with pytest.raises(InputError, match="missing `x`"):
        x.sum().eval()
    with pytest.raises(InputError, match="does not depend on an input 'y'"):
        x.sum().eval(x=[1], y=2)


def test_shared_values_are_copied_in_and_out() -> None:
    source = _ones(2)
    w = sg.shared(source, "w")
    source[0] = 5
    w.value[0] = 7
    assert w.value.tolist() == [1, 1]
    w.value = [3, 4]
    assert w.value.tolist() == [3, 4]
    with pytest.raises(ShapeError, match="`w` is float32"):
        w.value = _ones(3)
    with pytest.raises(DTypeError, match="`w` is float32, it was given float64"):
        w.value = np.ones(2)


def test_calls_from_many_threads_are_counted_once_each() -> None:
    n = sg.shared(0, "n")
    f = sg.function([], n, updates={n: n + 1})
    threads = [threading.Thread(target=lambda: [f() for _ in range(50)]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert n.value == 200
    assert isinstance(n, Shared)


@pytest.mark.parametrize(
    "outputs", [lambda x: [(x, x)], lambda x: {"a": [x]}, lambda x: ({"b": x},)]
)
def test_outputs_in_outputs_are_refused(outputs: Callable[[sg.Value], Any]) -> None:
    x = sg.tensor("x", (3,))
    with pytest.raises(ArgumentTypeError, match="an output must be one value, got a"):
        sg.function([x], outputs(x))
    (found,) = sg.function([x], [[1, 2]])(np.ones(3, np.float32))  # numbers are a value
    assert found.tolist() == [1, 2]
