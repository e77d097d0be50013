"""PyTensor's LSTM: `scan`, by Numba, with the products of the inputs before it."""

from __future__ import annotations

from typing import Any

import numpy as np
from harness import Contestant

from peers import load

pytensor = load("pytensor")
pt = load("pytensor.tensor")

Array = np.ndarray[Any, Any]


def steps(lstm: Any, lr: float) -> list[Contestant]:
    """Make PyTensor's contestant."""
    batch, hidden = lstm.rows.shape[1], lstm.hidden.shape[0]
    weights = [pytensor.shared(one.copy()) for one in lstm.weights]
    wx, wh, bias = weights
    rows = pt.ftensor3("rows")

    def cell(row: Any, h: Any, c: Any, wh: Any) -> list[Any]:
        gates = row + h @ wh
        i, f, g, o = (gates[:, k * hidden : (k + 1) * hidden] for k in range(4))
        c = pt.sigmoid(f) * c + pt.sigmoid(i) * pt.tanh(g)
        return [pt.sigmoid(o) * pt.tanh(c), c]

    zeros = pt.zeros((batch, hidden), dtype="float32")
    (outputs, _), _ = pytensor.scan(
        cell, sequences=[rows @ wx + bias], outputs_info=[zeros, zeros], non_sequences=[wh]
    )
    loss = (outputs * outputs).sum() / np.float32(2 * batch)
    gradients = pytensor.grad(loss, weights)
    updates = [(w, w - np.float32(lr) * g) for w, g in zip(weights, gradients, strict=True)]
    step = pytensor.function([rows], loss, updates=updates, mode="NUMBA")

    def run() -> None:
        step(lstm.rows)

    def check() -> Array:
        run()
        found: Array = lstm.gradients([w.get_value() for w in weights])
        for variable, first in zip(weights, lstm.weights, strict=True):
            variable.set_value(first.copy())
        return found

    return [Contestant("pytensor NUMBA", run, check=check)]
