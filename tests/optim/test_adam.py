"""Adam and AdamW against loops written from the papers' formulas."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import symgraph as sg
from symgraph.errors import ArgumentError
from symgraph.optim import Adam, AdamW


def by_hand(
    problem: Any, lr: float, betas: tuple[float, float], epsilon: float, decay: float,
    decoupled: bool, bias_rate: float = 1.0, bias_decay: float | None = None,
) -> dict[str, np.ndarray]:  # fmt: skip
    """Give the weights after 20 steps: algorithm 1 of Kingma and Ba, 2 of Loshchilov and Hutter."""
    at = problem.values()
    m = {name: np.zeros_like(value) for name, value in at.items()}
    v = {name: np.zeros_like(value) for name, value in at.items()}
    for t in range(1, 21):
        for name, g in problem.gradients(at, t - 1).items():
            bias = name.startswith("b")
            rate = lr * (bias_rate if bias else 1)
            pull = bias_decay if bias and bias_decay is not None else decay
            if not decoupled:
                g = g + pull * at[name]
            m[name] = betas[0] * m[name] + (1 - betas[0]) * g
            v[name] = betas[1] * v[name] + (1 - betas[1]) * g**2
            m_hat, v_hat = m[name] / (1 - betas[0] ** t), v[name] / (1 - betas[1] ** t)
            old = at[name]
            at[name] = old - rate * m_hat / (np.sqrt(v_hat) + epsilon)
            if decoupled:
                at[name] = at[name] - rate * pull * old
    return at


@pytest.mark.parametrize("decay", [0.0, 0.1])
@pytest.mark.parametrize("kind", [Adam, AdamW])
@pytest.mark.parametrize(("betas", "epsilon"), [((0.9, 0.999), 1e-8), ((0.5, 0.9), 1e-2)])
def test_against_a_loop(
    problem: Any, kind: type[Adam], betas: tuple[float, float], epsilon: float, decay: float
) -> None:
    subject = problem()
    expected = by_hand(subject, 0.03, betas, epsilon, decay, decoupled=kind is AdamW)
    variables = subject.variables.values()
    optimizer = kind(variables, 0.03, betas=betas, epsilon=epsilon, weight_decay=decay)
    found = subject.run(optimizer)
    for name in expected:
        np.testing.assert_allclose(found[name], expected[name], rtol=1e-11, atol=1e-13)
    assert optimizer.state()["count"].value == 20


def test_groups(problem: Any) -> None:
    subject = problem()
    expected = by_hand(
        subject, 0.03, (0.9, 0.999), 1e-8, 0.1, decoupled=True, bias_rate=2.0, bias_decay=0.0
    )
    found = subject.run(AdamW(subject.groups(rate=2.0, decay=0.0), 0.03, weight_decay=0.1))
    for name in expected:
        np.testing.assert_allclose(found[name], expected[name], rtol=1e-11, atol=1e-13)


def test_the_first_step_has_the_size_of_the_rate() -> None:
    w = sg.shared(np.array([3.0, -2.0, 1e-3]), "w")
    optimizer = Adam([w], 0.01, epsilon=1e-15)
    sg.function([], None, updates=optimizer.updates((w * w).sum()))()
    np.testing.assert_allclose(w.value, [2.99, -1.99, -0.009], rtol=1e-9)


def test_defaults() -> None:
    w = sg.shared([1.0], "w")
    assert Adam([w]).weight_decay == 0
    assert AdamW([w]).weight_decay == 0.01
    assert Adam([w]).lr.value == 1e-3


def test_errors() -> None:
    w = sg.shared([1.0], "w")
    with pytest.raises(ArgumentError, match=r"AdamW: betas must be two numbers in \[0, 1\), got"):
        AdamW([w], betas=(0.9, 1.0))
    with pytest.raises(ArgumentError, match=r"Adam: betas must be two numbers"):
        Adam([w], betas=(0.9,))  # type: ignore[arg-type]
    with pytest.raises(ArgumentError, match=r"Adam: epsilon must be > 0, got 0"):
        Adam([w], epsilon=0)
