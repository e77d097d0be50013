"""Sizes that values decide: one for each value, none kept alive, and what follows them."""

from __future__ import annotations

import gc
import weakref

import numpy as np
import pytest

import symgraph as sg
from symgraph.dims import Dim, bounds, codec
from symgraph.errors import DimError, GuardError
from symgraph.graph.graph import Graph
from symgraph.graph.interpret import interpret
from symgraph.graph.measured import EACH, measured, measured_sizes, substituted
from symgraph.graph.node import Value


def count_of(x: Value) -> Value:
    return sg.count_nonzero(x > 0)


def size_of(x: Value, most: int | None = None) -> Dim:
    found = measured(count_of(x), "n", most)
    assert isinstance(found, Dim)
    return found


def test_a_value_has_one_size_and_what_is_known_is_no_other() -> None:
    x, y = sg.tensor("x", (4,)), sg.tensor("y", (4,))
    assert size_of(x) is size_of(x)
    assert size_of(x) is not size_of(y)
    assert bounds(size_of(y)) == (0, None)
    assert bounds(measured(count_of(y * 2), "n", 4)) == (0, 4)
    B = sg.dim("B")
    assert measured(sg.constant(3, "int64"), "n") == 3
    assert measured(sg.size_of(B), "n") is B


def test_a_size_keeps_what_decides_it_alive_and_nothing_else_does() -> None:
    w = sg.shared(np.zeros(100), "w")
    storage = weakref.ref(w.storage)
    n = size_of(w)
    formula = (n + 1) // 2 * n - sg.dims.minimum(n, 3)
    assert sg.dims.equal(n, 7) is None
    del w
    gc.collect()
    assert storage() is not None
    f = sg.function([], sg.arange(n + 1))
    assert f().tolist() == [0]
    del n, formula, f
    others = [size_of(sg.tensor("x", (4,))) for _ in range(EACH)]
    assert len(set(others)) == EACH
    gc.collect()
    assert storage() is None


def test_sizes_are_found_through_sizes() -> None:
    x = sg.tensor("x", (sg.dim("B"),))
    chosen = x[x > 0]
    deeper = chosen[chosen > 1]
    (first,), (second,) = chosen.shape, deeper.shape
    found = measured_sizes([sg.zeros((second, 2))])
    assert set(found) == {first, second}
    graph = Graph([x], [sg.zeros((second,))], {}, found)
    places = {node: place for place, node in enumerate(graph.values)}
    assert places[found[first]] < places[found[second]] < places[graph.outputs[0]]
    graph.verify()
    (array,) = interpret([sg.arange(second)], {x: np.array([3, -1, 0.5, 2], np.float32)},
                         {x.shape[0]: 4})  # fmt: skip
    assert array.tolist() == [0, 1]


def test_what_replaces_a_value_decides_another_size() -> None:
    x, y = sg.tensor("x", (4,)), sg.tensor("y", (4,))
    n = size_of(x)
    steps = sg.arange(2 * n)
    done = substituted([steps], {x: y})
    assert done[steps].shape[0] is 2 * size_of(y)
    assert substituted([steps], {sg.tensor("z", ()): y})[steps] is steps


def test_bounds_are_part_of_what_is_written() -> None:
    n = size_of(sg.tensor("x", (4,)), most=4)
    (again,) = codec.decode(codec.encode((n,)))
    assert bounds(again) == (0, 4)
    with pytest.raises(DimError, match="greatest value"):
        codec.decode({"atoms": [["anonymous", "n", -1]], "sizes": []})


def test_a_number_outside_of_its_bounds_is_refused() -> None:
    x = sg.tensor("x", (4,))
    wrong = measured(count_of(x) + 10, "wrong", 4)
    with pytest.raises(GuardError, match="the data make size `wrong` 10, it must be 0 to 4"):
        sg.zeros((wrong,)).eval(x=np.zeros(4, np.float32))


def test_complex_numbers_have_kinds_too() -> None:
    """A NaN in either part makes a number a kind of its own; the sign of a zero makes none."""
    nan = float("nan")
    numbers = np.array([1j, 2 - 1j, complex(0, nan), -0.0, 1j, complex(nan, 1), 0.0, 2 - 1j, 0, 2])
    z = sg.tensor("z", (sg.dim("kinds", min=0),), "complex128")
    f = sg.function([z], list(sg.unique_all(z)))
    values, indices, inverse, counts = f(numbers)
    np.testing.assert_array_equal(values, numbers[indices])
    np.testing.assert_array_equal(values[inverse], numbers)
    assert inverse.tolist() == [1, 3, 2, 0, 1, 5, 0, 3, 0, 4]
    assert indices.tolist() == [3, 0, 2, 1, 9, 5]
    assert counts.tolist() == [3, 2, 1, 2, 1, 1]
    assert [len(one) for one in f(numbers[:0])] == [0, 0, 0, 0]


def test_the_gradient_of_a_complex_kind_goes_to_where_it_stands_first() -> None:
    z = sg.tensor("z", (4,), "complex128")
    loss = sg.sum(abs(sg.unique_values(z)) ** 2)
    found = sg.grad(loss, z).eval({z: np.array([3j, 1.0, 3j, 2 - 1j])})
    np.testing.assert_allclose(found, [6j, 2.0, 0.0, 4 - 2j])
