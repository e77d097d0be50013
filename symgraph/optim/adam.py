"""Adam (Kingma and Ba, 2015) and AdamW, its form with decoupled decay (Loshchilov, Hutter 2019)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from symgraph.errors import ArgumentError
from symgraph.graph.leaves import Shared, cast_to, shared
from symgraph.graph.node import Value
from symgraph.graph.registry import F
from symgraph.optim.optimizer import Group, Optimizer
from symgraph.optim.scaling import LossScaling


class Adam(Optimizer):
    """m <- b1 m + (1-b1) g;  v <- b2 v + (1-b2) g^2;  w <- w - lr m^ / (sqrt(v^) + epsilon).

    m^ = m / (1 - b1^t) and v^ = v / (1 - b2^t) correct the start from zero; weight decay is part
    of the gradient.
    """

    decoupled = False

    def __init__(
        self,
        parameters: Iterable[Shared | Group],
        lr: float = 1e-3,
        *,
        betas: tuple[float, float] = (0.9, 0.999),
        epsilon: float = 1e-8,
        weight_decay: float = 0.0,
        clip_norm: float | None = None,
        clip_value: float | None = None,
        scaling: LossScaling | None = None,
    ) -> None:
        name = type(self).__name__
        if len(betas) != 2 or not all(0 <= beta < 1 for beta in betas):
            raise ArgumentError(f"{name}: betas must be two numbers in [0, 1), got {betas}.")
        if not epsilon > 0:
            raise ArgumentError(f"{name}: epsilon must be > 0, got {epsilon}.")
        self.betas = betas
        self.epsilon = epsilon
        self.count = shared(np.int64(0), "adam.count")
        super().__init__(
            parameters,
            lr,
            weight_decay=weight_decay,
            clip_norm=clip_norm,
            clip_value=clip_value,
            scaling=scaling,
        )

    def slot_names(self) -> Sequence[str]:
        """The two running moments."""
        return ("mean", "square")

    def common_state(self) -> dict[str, Shared]:
        """The rate and the number of steps taken."""
        return {**super().common_state(), "count": self.count}

    def common_updates(self) -> dict[Shared, Value]:
        """Count the step."""
        return {self.count: self.count + 1}

    def step(
        self, parameter: Shared, gradient: Value, rate: Value, decay: float
    ) -> dict[Shared, Value]:
        """Give the updates of one parameter and its moments."""
        first, second = self.betas
        slots = self.slots[parameter]
        if decay and not self.decoupled:
            gradient = gradient + decay * parameter
        mean = first * slots["mean"] + (1 - first) * gradient
        square = second * slots["square"] + (1 - second) * gradient * F.conj(gradient)
        count = cast_to(self.count + 1, "float64")
        mean_scale = cast_to(1 / (1 - F.pow(first, count)), parameter.dtype)
        square_scale = cast_to(1 / (1 - F.pow(second, count)), parameter.dtype)
        move = rate * (mean * mean_scale) / (F.sqrt(square * square_scale) + self.epsilon)
        if decay and self.decoupled:
            move = move + rate * decay * parameter
        return {slots["mean"]: mean, slots["square"]: square, parameter: parameter - move}


class AdamW(Adam):
    """Adam with decay apart from the gradient: w <- w - lr (adam step + decay w)."""

    decoupled = True

    def __init__(
        self,
        parameters: Iterable[Shared | Group],
        lr: float = 1e-3,
        *,
        betas: tuple[float, float] = (0.9, 0.999),
        epsilon: float = 1e-8,
        weight_decay: float = 1e-2,
        clip_norm: float | None = None,
        clip_value: float | None = None,
        scaling: LossScaling | None = None,
    ) -> None:
        super().__init__(
            parameters,
            lr,
            betas=betas,
            epsilon=epsilon,
            weight_decay=weight_decay,
            clip_norm=clip_norm,
            clip_value=clip_value,
            scaling=scaling,
        )
