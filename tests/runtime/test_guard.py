"""The NaN guard names the first value that is not finite; nothing is updated."""

import numpy as np
import pytest

import symgraph as sg
from symgraph.errors import NotFiniteError


def test_a_nan_is_named_with_its_formula_operands_and_line() -> None:
    x = sg.tensor("x", (sg.dim("B"), 3))
    shifted = x - 2
    root = sg.sqrt(shifted)
    f = sg.function([x], sg.exp(root).sum(), name="step", nan_guard=True)
    assert np.isfinite(f(np.full((2, 3), 2.5, "float32")))
    with pytest.raises(NotFiniteError) as caught:
        f(np.array([[3, 3, 3], [3, 1, 1]], "float32"))
    text = str(caught.value)
    assert "step: `root` is the first value that is not finite" in text
    assert "2 of 6 elements are NaN, first at [1, 1]" in text
    assert "root = sqrt(shifted)" in text
    assert "shifted : float32[B, 3]   from -1 to 1" in text
    assert "test_guard.py" in text
    assert isinstance(caught.value, FloatingPointError)


def test_nothing_is_updated() -> None:
    x, w = sg.scalar("x"), sg.shared(1.0, "w")
    f = sg.function([x], w, updates={w: w + sg.log(x)}, nan_guard=True)
    with pytest.raises(NotFiniteError, match="it is NaN"):
        f(-1.0)
    assert w.value == 1.0
    f(1.0)
    assert w.storage.version == 1


def test_an_infinity_made_of_finite_numbers_is_refused_and_a_mask_is_not() -> None:
    x, keep = sg.vector("x"), sg.tensor("keep", (sg.dim("N"),), "bool")
    overflow = sg.function([x], sg.exp(x) + 1.0, nan_guard=True)
    with pytest.raises(NotFiniteError, match="infinite, first at"):
        overflow([1.0, 1000.0])
    masked = sg.function([x, keep], sg.softmax(sg.where(keep, x, -np.inf), axis=0), nan_guard=True)
    assert masked([1.0, 2.0], [True, False]).tolist() == [1.0, 0.0]


def test_a_nan_among_the_inputs_or_weights_is_named_itself() -> None:
    x, w = sg.vector("x"), sg.shared(np.array([np.nan, 1.0], "float32"), "w")
    f = sg.function([x], x * w, nan_guard=True)
    with pytest.raises(NotFiniteError, match="`w` is the first"):
        f([1.0, 2.0])
    g = sg.function([x], x + 1.0, nan_guard=True)
    with pytest.raises(NotFiniteError, match="`x` is the first"):
        g([np.nan, 2.0])


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64"])
def test_every_float_dtype_is_watched(dtype: str) -> None:
    x = sg.vector("x", dtype)
    f = sg.function([x], sg.log(x), nan_guard=True)
    with pytest.raises(NotFiniteError, match=r"is NaN|are NaN"):
        f(-np.ones(1).astype(sg.graph.dtypes.numpy_dtype(dtype)))


def test_several_results_and_whole_numbers_pass() -> None:
    x = sg.matrix("x")
    values, places = sg.topk(x, 2)
    f = sg.function([x], [values, places], nan_guard=True)
    assert f([[1.0, 3.0, 2.0]])[1].tolist() == [[1, 2]]
