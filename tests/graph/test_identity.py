"""Interning: the same operation on the same operands is the same object, and nothing else is."""

import copy
import gc
import pickle

import numpy as np
import pytest

import symgraph as sg
from symgraph.errors import ArgumentTypeError, GraphError
from symgraph.graph.leaves import constant
from symgraph.graph.node import alive


def test_equal_expressions_are_one_object() -> None:
    x, y = sg.vector("x"), sg.vector("y")
    assert sg.exp(x) is sg.exp(x)
    assert (x + y) * 2 is (x + y) * 2
    assert x + y is not y + x


def test_two_inputs_of_one_name_and_type_stay_two() -> None:
    shape = (sg.dim("B"), 3)
    first, second = sg.tensor("x", shape), sg.tensor("x", shape)
    assert first is not second
    f = sg.function([first, second], first - second)
    ones = np.ones((2, 3), np.float32)
    assert f(ones, 3 * ones).tolist() == [[-2, -2, -2]] * 2


def test_two_shared_variables_of_equal_value_stay_two() -> None:
    a, b = sg.shared([1.0], "w"), sg.shared([1.0], "w")
    assert a is not b
    assert sg.exp(a) is not sg.exp(b)


@pytest.mark.parametrize(
    ("first", "second"),
    [(1, 1.0), (0.0, -0.0), (True, 1), (np.float32(1), np.float64(1)), ([1], [[1]])],
)
def test_constants_that_differ_in_kind_or_sign_stay_apart(first: object, second: object) -> None:
    assert constant(first) is not constant(second)


def test_small_constants_are_one_by_content_and_cannot_be_changed_from_outside() -> None:
    source = np.arange(4.0)
    node = constant(source)
    assert constant(np.arange(4.0)) is node
    source[0] = 99
    assert node.eval().tolist() == [0, 1, 2, 3]
    assert constant(np.nan) is constant(np.nan)


def test_large_constants_do_not_follow_their_source() -> None:
    source = np.zeros(1000)
    node = constant(source)
    source[:] = 7
    assert node.eval().sum() == 0


def test_attributes_of_operations_are_part_of_identity() -> None:
    x = sg.matrix("x")
    assert sg.sum(x, axis=0) is sg.sum(x, axis=(0,))
    assert sg.sum(x, axis=0) is not sg.sum(x, axis=1)
    assert sg.leaky_relu(x, 0.0) is not sg.leaky_relu(x, -0.0)


def test_equality_builds_a_node_and_a_value_has_no_truth() -> None:
    x, y = sg.vector("x"), sg.vector("y")
    assert (x == y).dtype == "bool"
    assert (x == y).op.name == "equal"
    with pytest.raises(ArgumentTypeError, match=r"neither true nor false") as caught:
        bool(x == y)
    assert "sg.where" in str(caught.value)


def test_values_are_immutable_and_refuse_pickle() -> None:
    x = sg.vector("x")
    with pytest.raises(GraphError, match="immutable"):
        x.type = None  # type: ignore[assignment]
    with pytest.raises(GraphError, match="pickled"):
        pickle.dumps(x)
    assert copy.copy(x) is x
    assert copy.deepcopy([x])[0] is x


def test_nodes_die_when_nothing_holds_them() -> None:
    x = sg.vector("x")
    gc.collect()
    before = alive()
    y = sg.exp(sg.exp(sg.exp(x) + 1) + 1)
    assert alive() > before
    del y
    gc.collect()
    assert alive() <= before


def test_a_long_chain_is_built_run_differentiated_and_freed() -> None:
    x = sg.scalar("x")
    value = x
    for _ in range(20_000):
        value = sg.sin(value)
    gradient = sg.grad(value, x)
    f = sg.function([x], [value, gradient])
    expected, slope = 0.5, 1.0
    for _ in range(20_000):
        slope *= np.cos(expected)
        expected = np.sin(expected)
    found = f(0.5)
    assert found[0] == pytest.approx(expected, rel=1e-3)
    assert found[1] == pytest.approx(slope, rel=1e-2)
    assert len(sg.show(f).splitlines()) > 20_000
    del value, gradient, f
    gc.collect()


def test_a_deep_square_stays_a_line() -> None:
    x = sg.scalar("x", "float64")
    value = x
    for _ in range(200):
        value = value * value
    f = sg.function([x], [value, sg.grad(value, x)])
    assert len(f.graph.values) < 1300
    assert [float(v) for v in f(1.0)] == [1.0, 2.0**200]
    assert len(sg.debugprint(value).splitlines()) < 500
    assert len(value._repr_latex_()) < 100_000
