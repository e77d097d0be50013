"""A small problem with weights and biases, and a way to run an optimiser on it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import pytest

import symgraph as sg

Arrays = dict[str, np.ndarray]


@dataclass
class Problem:
    """loss = mean((tanh(x w0 + b0) w1 + b1 - t)^2) in one dtype, other data in every step."""

    dtype: str
    variables: dict[str, sg.Shared]
    loss: sg.Value
    inputs: list[sg.Value]

    def batch(self, step: int) -> list[np.ndarray]:
        """Give x (8, 5) and t (8, 2) of a step."""
        rng = np.random.default_rng(100 + step)
        return [rng.normal(size=size).astype(self.dtype) for size in ((8, 5), (8, 2))]

    def gradients(self, at: Mapping[str, np.ndarray], step: int) -> Arrays:
        """Differentiate by hand, in the dtype of the weights."""
        x, t = self.batch(step)
        h = np.tanh(x @ at["w0"] + at["b0"])
        d_y = 2 * (h @ at["w1"] + at["b1"] - t) / t.size
        d_h = (d_y @ at["w1"].T) * (1 - h * h)
        return {"w0": x.T @ d_h, "b0": d_h.sum(0), "w1": h.T @ d_y, "b1": d_y.sum(0)}

    def values(self) -> Arrays:
        """Give the present weights."""
        return {name: variable.value for name, variable in self.variables.items()}

    def run(self, optimizer: sg.optim.Optimizer, steps: int = 20) -> Arrays:
        """Take some steps and give the weights."""
        train = sg.function(self.inputs, self.loss, updates=optimizer.updates(self.loss))
        for step in range(steps):
            train(*self.batch(step))
        return self.values()

    def groups(self, **biases: float) -> list[sg.optim.Group]:
        """Group weights and biases, the latter with settings of their own."""
        w0, b0, w1, b1 = self.variables.values()
        return [sg.optim.Group([w0, w1]), sg.optim.Group([b0, b1], **biases)]


@pytest.fixture
def problem() -> Callable[..., Problem]:
    """Return a maker of the problem in a dtype, always from the same weights."""

    def make(dtype: str = "float64") -> Problem:
        rng = np.random.default_rng(7)
        shapes = {"w0": (5, 6), "b0": (6,), "w1": (6, 2), "b1": (2,)}
        variables = {
            name: sg.shared(rng.normal(0, 0.5, shape).astype(dtype), name)
            for name, shape in shapes.items()
        }
        batch = sg.dim("B")
        x, t = sg.tensor("x", (batch, 5), dtype), sg.tensor("t", (batch, 2), dtype)
        w0, b0, w1, b1 = variables.values()
        error = sg.tanh(x @ w0 + b0) @ w1 + b1 - t
        return Problem(dtype, variables, (error * error).mean(), [x, t])

    return make
