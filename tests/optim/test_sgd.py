"""SGD against loops written from the formulas, over 20 steps in float64."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest

import symgraph as sg
from symgraph.errors import ArgumentError
from symgraph.optim import SGD, Group

LR, MOMENTUM, DECAY = 0.05, 0.9, 5e-2


def by_hand(
    problem: Any,
    steps: int = 20,
    *,
    momentum: float = 0.0,
    nesterov: bool = False,
    decay: float = 0.0,
    bias_rate: float = 1.0,
    bias_decay: float | None = None,
    lr: Callable[[int], float] = lambda step: LR,
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Give the weights and velocities after some steps."""
    at = problem.values()
    velocity = {name: np.zeros_like(value) for name, value in at.items()}
    for step in range(steps):
        for name, gradient in problem.gradients(at, step).items():
            bias = name.startswith("b")
            rate = lr(step) * (bias_rate if bias else 1.0)
            pull = bias_decay if bias and bias_decay is not None else decay
            g = gradient + pull * at[name]
            if not momentum:
                at[name] = at[name] - rate * g
                continue
            velocity[name] = momentum * velocity[name] - rate * g
            ahead = momentum * velocity[name] - rate * g if nesterov else velocity[name]
            at[name] = at[name] + ahead
    return at, velocity


def assert_same(found: Mapping[str, np.ndarray], expected: Mapping[str, np.ndarray]) -> None:
    for name in expected:
        np.testing.assert_allclose(found[name], expected[name], rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("decay", [0.0, DECAY])
@pytest.mark.parametrize(
    ("momentum", "nesterov"), [(0.0, False), (MOMENTUM, False), (MOMENTUM, True)]
)
def test_against_a_loop(problem: Any, momentum: float, nesterov: bool, decay: float) -> None:
    subject = problem()
    expected, _ = by_hand(subject, momentum=momentum, nesterov=nesterov, decay=decay)
    optimizer = SGD(
        subject.variables.values(), LR, momentum=momentum, nesterov=nesterov, weight_decay=decay
    )
    assert_same(subject.run(optimizer), expected)


@pytest.mark.parametrize("momentum", [0.0, MOMENTUM])
def test_the_published_rule(problem: Any, momentum: float) -> None:
    """Weights: g + decay w at the rate; biases: no decay, twice the rate (arXiv 1412.2302)."""
    subject = problem()
    expected, velocity = by_hand(
        subject, momentum=momentum, decay=DECAY, bias_rate=2.0, bias_decay=0.0
    )
    groups = subject.groups(rate=2.0, decay=0.0)
    optimizer = SGD(groups, LR, momentum=momentum, weight_decay=DECAY)
    assert_same(subject.run(optimizer), expected)
    if momentum:
        state = optimizer.state(subject.variables)
        assert_same({n: state[f"{n}.velocity"].value for n in velocity}, velocity)


def test_published_nesterov_is_the_same_move() -> None:
    """The paper's w <- w + mu^2 v - (1 + mu) step g is our w + mu v_new - step g."""
    w = sg.shared(np.array([2.0]), "w")
    step = sg.function(
        [], None, updates=SGD([w], 0.1, momentum=0.9, nesterov=True).updates((w * w).sum())
    )
    value, v = 2.0, 0.0
    for _ in range(5):
        g = 2 * value
        value += 0.9**2 * v - 1.9 * 0.1 * g
        v = 0.9 * v - 0.1 * g
        step()
        assert w.value.item() == pytest.approx(value, rel=1e-12)


def test_the_rate_changes_without_compiling_again(problem: Any) -> None:
    subject = problem()

    def lr(step: int) -> float:
        return LR / (1 + step)

    expected, _ = by_hand(subject, momentum=MOMENTUM, bias_rate=3.0, lr=lr)
    optimizer = SGD(subject.groups(rate=3.0), 123.0, momentum=MOMENTUM)
    train = sg.function(subject.inputs, None, updates=optimizer.updates(subject.loss))
    for step in range(20):
        optimizer.lr.value = lr(step)
        train(*subject.batch(step))
    assert_same(subject.values(), expected)


def test_float32_follows_the_rule_in_float32(problem: Any) -> None:
    subject = problem("float32")
    expected, _ = by_hand(problem(), momentum=MOMENTUM, decay=DECAY)
    found = subject.run(SGD(subject.variables.values(), LR, momentum=MOMENTUM, weight_decay=DECAY))
    for name in expected:
        assert found[name].dtype == np.float32
        np.testing.assert_allclose(found[name], expected[name], rtol=2e-5, atol=2e-6)


def test_updates_use_the_weights_of_before(problem: Any) -> None:
    subject = problem()
    before, (x, t) = subject.values(), subject.batch(0)
    optimizer = SGD(subject.variables.values(), LR)
    train = sg.function(subject.inputs, subject.loss, updates=optimizer.updates(subject.loss))
    h = np.tanh(x @ before["w0"] + before["b0"])
    assert train(x, t) == pytest.approx(np.mean((h @ before["w1"] + before["b1"] - t) ** 2))


def test_given_gradients_are_used() -> None:
    w = sg.shared(np.array([1.0, 2.0]), "w")
    updates = SGD([w], 0.5).updates(w.sum(), gradients=[sg.constant(np.array([2.0, -4.0]))])
    sg.function([], None, updates=updates)()
    assert w.value.tolist() == [0.0, 4.0]


def test_one_loss_over_the_joint_batch_is_the_mean_of_averaged_halves(problem: Any) -> None:
    """Averaging weights and velocities of two workers equals one step on the joint batch."""
    whole = problem()
    train = {}
    for name, subject in (("whole", whole), ("a", problem()), ("b", problem())):
        optimizer = SGD(subject.groups(rate=2.0, decay=0.0), LR, momentum=0.9, weight_decay=DECAY)
        function = sg.function(subject.inputs, None, updates=optimizer.updates(subject.loss))
        train[name] = function, {**subject.variables, **optimizer.state(subject.variables)}
    for step in range(10):
        x, t = whole.batch(step)
        train["whole"][0](x, t)
        train["a"][0](x[:4], t[:4])
        train["b"][0](x[4:], t[4:])
        for key in train["a"][1]:
            pair = train["a"][1][key], train["b"][1][key]
            mean = (pair[0].value + pair[1].value) / 2
            for variable in pair:
                variable.value = mean
    for key, variable in train["whole"][1].items():
        np.testing.assert_allclose(train["a"][1][key].value, variable.value, rtol=1e-11, atol=1e-13)


def test_errors() -> None:
    w = sg.shared([1.0], "w")
    with pytest.raises(ArgumentError, match=r"SGD: momentum must be in \[0, 1\), got 1"):
        SGD([w], 0.1, momentum=1.0)
    with pytest.raises(ArgumentError, match="SGD: Nesterov's form needs a momentum"):
        SGD([w], 0.1, nesterov=True)
    with pytest.raises(ArgumentError, match=r"SGD: lr must be >= 0, got -0.1"):
        SGD([w], -0.1)
    with pytest.raises(ArgumentError, match="SGD: rate of a group must be >= 0, got -1"):
        SGD([Group([w], rate=-1)], 0.1)
