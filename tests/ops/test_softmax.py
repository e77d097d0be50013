"""Softmax and losses: extreme logits, half precisions, and the errors of labels."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import scipy.special

from symgraph.errors import ArgumentError, DTypeError, ShapeError
from symgraph.graph.dtypes import numpy_dtype
from symgraph.graph.index import Compute, evaluate
from symgraph.graph.interpret import interpret
from symgraph.graph.leaves import constant, tensor
from symgraph.graph.node import Value
from symgraph.graph.registry import F

INF = float("inf")
WILD = [[1e4, -1e4, 0.0], [-INF, 0.0, 0.0], [1e4, 1e4, -INF], [3.0, -1e4, 3.0]]


def value(found: Value) -> Any:
    return interpret([found], {})[0]


def gradient(call: Any, x: Any, dtype: str = "float64") -> Any:
    leaf = tensor("x", np.shape(x), dtype)
    found = F.grad(F.sum(call(leaf)), leaf)
    return interpret([found], {leaf: np.asarray(x, numpy_dtype(dtype))})[0]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_extreme_logits(dtype: str) -> None:
    x = constant(WILD, dtype)
    wide = np.array(WILD)
    np.testing.assert_allclose(value(F.softmax(x)), scipy.special.softmax(wide, axis=1), rtol=1e-6)
    logs = scipy.special.log_softmax(wide, axis=1)
    np.testing.assert_allclose(value(F.log_softmax(x)), logs, rtol=1e-6)
    sums = scipy.special.logsumexp(wide, axis=1)
    np.testing.assert_allclose(value(F.logsumexp(x, axis=1)), sums, rtol=1e-6)
    losses = value(F.cross_entropy(x, [1, 0, 0, 0]))
    np.testing.assert_allclose(losses, [2e4, INF, np.log(2), np.log(2)], rtol=1e-6)


@pytest.mark.parametrize("name", ["softmax", "log_softmax", "logsumexp"])
def test_gradients_at_extreme_logits_are_finite(name: str) -> None:
    weights = np.where(np.isfinite(WILD), 1.0, 0.0)  # a loss does not weigh impossible classes
    call = getattr(F, name)

    def weighted(x: Value) -> Value:
        return call(x, axis=1) if name == "logsumexp" else F.where(weights > 0, call(x), 0.0)

    found = gradient(weighted, WILD)
    assert np.all(np.isfinite(found))
    np.testing.assert_array_equal(found[~np.isfinite(WILD)], 0)


def test_cross_entropy_gradient_at_extreme_logits() -> None:
    found = gradient(lambda x: F.cross_entropy(x, [1, 1, 0, 2]), WILD)
    expected = scipy.special.softmax(np.array(WILD), axis=1)
    expected[np.arange(4), [1, 1, 0, 2]] -= 1
    np.testing.assert_allclose(found, expected, atol=1e-15)


def test_logsumexp_of_nothing() -> None:
    nothing = np.full((2, 3), -INF)
    np.testing.assert_array_equal(value(F.logsumexp(nothing, axis=1)), [-INF, -INF])
    np.testing.assert_array_equal(gradient(lambda x: F.logsumexp(x, axis=1), nothing), 0)
    assert value(F.logsumexp(np.array([INF, 0.0]))) == INF
    assert np.isnan(value(F.logsumexp(np.array([np.nan, 0.0]))))


def test_softmax_of_an_impossible_row_is_nan() -> None:
    assert np.all(np.isnan(value(F.softmax(np.full(3, -INF)))))
    assert np.isnan(value(F.softmax(np.array([INF, 0.0])))[0])


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precisions_sum_in_float32(dtype: str) -> None:
    zeros = np.zeros(5000, numpy_dtype(dtype))  # in float16, 2048 + 1 is 2048
    exact = np.asarray(np.log(5000.0), numpy_dtype(dtype))
    assert value(F.logsumexp(zeros)) == exact
    assert value(F.cross_entropy(zeros, 7)) == exact
    assert value(F.log_softmax(zeros))[0] == -exact


def test_the_largest_of_many_classes_keeps_its_digits() -> None:
    x = np.zeros(1000, np.float32)
    x[3] = 30.0
    exact = np.log1p(999 * np.exp(-30.0))
    np.testing.assert_allclose(value(F.cross_entropy(x, 3)), exact, atol=1e-7)


def test_results_are_fresh_and_inputs_untouched() -> None:
    x = np.arange(6.0).reshape(2, 3)
    before = x.copy()
    leaf = tensor("x", (2, 3), "float64")
    for found in (F.softmax(leaf), F.log_softmax(leaf), F.cross_entropy(leaf, [0, 1])):
        interpret([found, F.grad(F.sum(found * found), leaf)], {leaf: x})
    np.testing.assert_array_equal(x, before)


def test_not_contiguous_logits() -> None:
    x = np.asfortranarray(np.random.default_rng(0).normal(size=(4, 6)))[::2, ::-1]
    np.testing.assert_allclose(value(F.softmax(x)), scipy.special.softmax(x, axis=1), rtol=1e-13)


# -- labels ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (
            [0, 3, 1],
            r"cross_entropy: the label 3 of row 1 is no class: there are 3 classes, 0 to 2",
        ),
        ([0, 1, -1], r"cross_entropy: the label -1 of row 2 is no class"),
    ],
)
def test_labels_out_of_range(labels: list[int], message: str) -> None:
    loss = F.cross_entropy(np.zeros((3, 3)), labels)
    with pytest.raises(ArgumentError, match=message) as info:
        value(loss)
    assert "fix: number the classes from 0" in str(info.value)
    logits = tensor("logits", (3, 3), "float64")
    slope = F.grad(F.sum(F.cross_entropy(logits, labels)), logits)
    with pytest.raises(ArgumentError, match=message):
        interpret([slope], {logits: np.zeros((3, 3))})


def test_labels_out_of_range_name_their_place() -> None:
    labels = np.zeros((2, 4), np.uint8)
    labels[1, 2] = 255
    with pytest.raises(ArgumentError, match=r"label 255 of row \(1, 2\) is no class"):
        value(F.cross_entropy(np.zeros((2, 3, 4)), labels, axis=1))
    with pytest.raises(ArgumentError, match="the label 3 is no class"):
        value(F.cross_entropy(np.zeros(3), 3))
    with pytest.raises(ArgumentError, match=r"there are 0 classes\."):
        value(F.cross_entropy(np.zeros((1, 0)), [0]))


def test_an_index_expression_gives_nan_for_a_wrong_label() -> None:
    x, y = tensor("x", (3, 2), "float64"), tensor("y", (3,), "int64")
    loss = F.cross_entropy(x, y)
    arrays = [np.zeros((3, 2)), np.array([0, 2, -1])]
    expansion = loss.op.expand(F, x, y)
    assert isinstance(expansion, Compute)
    np.testing.assert_allclose(evaluate(expansion, arrays, {})[0], [np.log(2), np.nan, np.nan])
    slope = F.grad(F.sum(loss), x)
    expansion = slope.op.expand(F, *slope.inputs)
    assert isinstance(expansion, Compute)
    found = evaluate(expansion, [np.ones(3), *arrays], {})[0]
    np.testing.assert_array_equal(np.isnan(found).all(axis=1), [False, True, True])


def test_one_hot_labels_are_refused_with_a_fix() -> None:
    logits, labels = tensor("logits", (4, 3)), tensor("labels", (4, 3), "int64")
    with pytest.raises(ShapeError, match="one label for each row") as info:
        F.cross_entropy(logits, labels)
    text = str(info.value)
    assert "`logits` without axis 1 has 1 axes, `labels` has 2" in text
    assert "labels are class numbers, not one-hot rows" in text
    assert "test_softmax.py:" in text


def test_float_labels_are_refused() -> None:
    with pytest.raises(DTypeError, match="cross_entropy: `labels` must hold integers, not float32"):
        F.cross_entropy(tensor("logits", (4, 3)), tensor("labels", (4,)))


def test_integer_logits_become_floats() -> None:
    assert F.softmax([1, 2, 3]).dtype == "float32"
    assert F.cross_entropy([[1, 2]], [0]).dtype == "float32"


# -- binary cross-entropy --------------------------------------------------------------------------


def test_binary_cross_entropy_at_extreme_logits() -> None:
    x, y = [1e4, 1e4, -1e4, -1e4, 0.0, 12.0], [1.0, 0.0, 1.0, 0.0, 1.0, 1.0]
    found = value(F.binary_cross_entropy_with_logits(constant(x, "float32"), y))
    expected = [0, 1e4, 1e4, 0, np.log(2), np.log1p(np.exp(-12.0))]
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_binary_cross_entropy_gradient_is_sigmoid_minus_target() -> None:
    x = [-1e4, -2.0, 0.0, 2.0, 1e4]
    found = gradient(lambda leaf: F.binary_cross_entropy_with_logits(leaf, 0.25), x)
    np.testing.assert_allclose(found, scipy.special.expit(x) - 0.25, rtol=1e-12)
