"""The interpreter on numbers that overflow."""

from __future__ import annotations

import numpy as np

import symgraph as sg
from symgraph.graph.interpret import interpret


def test_overflow_is_a_result_and_no_warning() -> None:
    x = sg.tensor("x", (2, 3))
    outputs = [x.sum(), x.mean(), sg.softmax(x, axis=1), x * x - x * x, x @ x.T]
    row = np.array([[np.inf, -np.inf, 1.0], [3e38, 3e38, -3e38]], np.float32)
    found = interpret(outputs, {x: row})  # a warning would be an error here
    assert np.isnan(found[0])
    assert np.isnan(found[3]).any()
