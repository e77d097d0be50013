"""What is differentiated is stabilised first, and nothing else about it changes."""

import numpy as np
import pytest

import symgraph as sg
from symgraph.errors import GradError

X = np.array([[0.0, 1e4, -1e4], [1.0, 2.0, 3.0]], "float32")


def test_the_gradient_of_a_naive_loss_is_finite_where_the_loss_is() -> None:
    x = sg.matrix("x")
    loss = -sg.log(sg.exp(x) / sg.exp(x).sum(axis=1, keepdims=True))[:, 1].sum()
    found = sg.grad(loss, x).eval(x=X)
    assert np.isfinite(found).all()
    shares = sg.softmax(x, axis=1).eval(x=X)
    assert found == pytest.approx(shares - np.array([0, 1, 0]), abs=1e-6)


def test_a_value_that_is_differentiated_by_does_not_vanish() -> None:
    x = sg.matrix("x")
    h = sg.softmax(x, axis=1)
    loss = sg.log(h).sum()
    assert sg.grad(loss, h).eval(x=X[1:]) == pytest.approx(1 / h.eval(x=X[1:]), rel=1e-5)
    with pytest.raises(GradError, match="does not depend on"):
        sg.grad(loss, sg.softmax(x, axis=0))


def test_constants_have_gradients_too() -> None:
    c = sg.constant(np.array([1.0, 1.0], "float32"))
    assert sg.grad(sg.exp(c * 2.0).sum(), c).eval() == pytest.approx(2 * np.exp([2.0, 2.0]))


def test_updates_attached_to_values_are_found_once() -> None:
    def block() -> sg.nn.Module:
        return sg.nn.Sequential(
            sg.nn.Dense(8, 8),
            sg.nn.BatchNorm(8),
            lambda x: sg.log(1 + sg.exp(x)),
            sg.nn.Dropout(0.5),
        )

    net = sg.nn.Sequential(block(), block())
    x = sg.tensor("x", (sg.dim("B"), 8))
    loss = sg.square(net(x, train=True)).mean()
    train = sg.function([x], loss, updates=sg.optim.SGD(net.parameters(), 0.1).updates(loss))
    means = [value for name, value in net.named_state().items() if name.endswith("mean")]
    before = [mean.value for mean in means]
    first, second = (float(train(np.ones((4, 8), "float32"))) for _ in range(2))
    assert np.isfinite([first, second]).all()
    assert all((mean.value != old).any() for mean, old in zip(means, before))
    # the gradient alone keeps them as well: it computes the same values
    alone = sg.function([x], sg.grad(loss, net.parameters()[0]))
    assert set(means) <= set(alone.graph.updates)


def test_second_derivatives_are_those_of_the_expression_as_written() -> None:
    x = sg.vector("x", "float64")
    y = sg.log(1 + sg.exp(3 * x)).sum()
    first = sg.grad(y, x)
    second = sg.grad(first.sum(), x)
    at = np.linspace(-2.0, 2.0, 9)
    s = 1 / (1 + np.exp(-3 * at))
    assert first.eval(x=at) == pytest.approx(3 * s, rel=1e-12)
    assert second.eval(x=at) == pytest.approx(9 * s * (1 - s), rel=1e-12)


def test_it_can_be_switched_off() -> None:
    x = sg.vector("x")
    with sg.config(rewrites="none"):
        naive = sg.function([x], sg.grad(sg.log(1 + sg.exp(x)).sum(), x))
    assert np.isnan(naive([1000.0])).all()
    assert sg.grad(sg.log(1 + sg.exp(x)).sum(), x).eval(x=[1000.0]).tolist() == [1.0]


def test_ties_keep_their_convention() -> None:
    x = sg.vector("x")
    assert sg.grad(sg.maximum(x, 0.0).sum(), x).eval(x=[0.0, 1.0]).tolist() == [0.5, 1.0]
    assert sg.grad(sg.relu(x).sum(), x).eval(x=[0.0, 1.0]).tolist() == [0.0, 1.0]
