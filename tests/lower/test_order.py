"""The order of steps: it keeps few bytes live, and does not change what is computed."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import symgraph as sg
from symgraph.backends.cpu.compiler import unavailable
from symgraph.lower import order

needs_compiler = pytest.mark.skipif(bool(unavailable()), reason=unavailable() or "there is one")

BATCH, SIDE = 16, 32


def step(nan_guard: bool) -> tuple[sg.Function, sg.nn.Module]:
    """A network whose last gradients of weights are larger than what they are made of."""
    sg.seed(1)
    B = sg.dim("B")
    x, labels = sg.tensor("x", (B, 3, SIDE, SIDE)), sg.tensor("labels", (B,), "int32")
    net = sg.nn.Sequential(
        sg.nn.Conv2d(3, 16, 3, padding=1), sg.nn.Activation("tanh"), sg.nn.MaxPool2d(2, 2),
        sg.nn.Flatten(), sg.nn.Dense(16 * 16 * 16, 128), sg.nn.Activation("relu"),
        sg.nn.Dense(128, 10),
    )  # fmt: skip
    loss = sg.nn.cross_entropy(net(x, train=True), labels).mean()
    updates = sg.optim.SGD(net.parameters(), lr=0.01, momentum=0.9).updates(loss)
    guard: dict[str, Any] = {"nan_guard": nan_guard}
    return sg.function([x, labels], loss, updates, backend="cpu", **guard), net


@needs_compiler
def test_large_gradients_wait_until_activations_are_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(1)
    images = rng.standard_normal((BATCH, 3, SIDE, SIDE), np.float32)
    labels = rng.integers(0, 10, BATCH, np.int32)
    found = {}
    for orders in (0, order.MOST_ORDERS):
        monkeypatch.setattr(order, "MOST_ORDERS", orders)
        f, net = step(nan_guard=False)
        losses = [float(f(images, labels)) for _ in range(3)]
        weights = [one.value.tobytes() for one in net.parameters()]
        found[orders] = f.bind(B=BATCH).arena, losses, weights
    (first, *expected), (least, *results) = found.values()
    assert least < 0.75 * first
    assert results == expected


@needs_compiler
def test_what_is_checked_comes_first_all_the_same() -> None:
    f, net = step(nan_guard=True)
    before = [one.value.copy() for one in net.parameters()]
    images = np.full((BATCH, 3, SIDE, SIDE), np.nan, np.float32)
    with pytest.raises(sg.errors.NotFiniteError):
        f(images, np.zeros(BATCH, np.int32))
    for one, value in zip(net.parameters(), before, strict=True):
        np.testing.assert_array_equal(one.value, value)
