"""Stochastic gradient descent with momentum, Nesterov's form, and weight decay."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from symgraph.errors import ArgumentError
from symgraph.graph.leaves import Shared
from symgraph.graph.node import Value
from symgraph.optim.optimizer import Group, Optimizer
from symgraph.optim.scaling import LossScaling


class SGD(Optimizer):
    """g' = g + decay w;  v <- momentum v - lr g';  w <- w + v.

    Nesterov: w <- w + momentum v_new - lr g'. Without momentum: w <- w - lr g'. Decay is part of
    the gradient (L2 regularisation), as published for AlexNet.

    >>> import symgraph as sg
    >>> w = sg.shared([1.0], "w")
    >>> step = sg.function([], None, updates=sg.optim.SGD([w], lr=0.5).updates((w * w).sum()))
    >>> step(); w.value.tolist()
    [0.0]
    """

    def __init__(
        self,
        parameters: Iterable[Shared | Group],
        lr: float,
        *,
        momentum: float = 0.0,
        nesterov: bool = False,
        weight_decay: float = 0.0,
        clip_norm: float | None = None,
        clip_value: float | None = None,
        scaling: LossScaling | None = None,
    ) -> None:
        if not 0 <= momentum < 1:
            raise ArgumentError(f"SGD: momentum must be in [0, 1), got {momentum}.")
        if nesterov and not momentum:
            raise ArgumentError("SGD: Nesterov's form needs a momentum.", fix="momentum=0.9")
        self.momentum = momentum
        self.nesterov = nesterov
        super().__init__(
            parameters,
            lr,
            weight_decay=weight_decay,
            clip_norm=clip_norm,
            clip_value=clip_value,
            scaling=scaling,
        )

    def slot_names(self) -> Sequence[str]:
        """One velocity for each parameter when there is momentum."""
        return ("velocity",) if self.momentum else ()

    def step(
        self, parameter: Shared, gradient: Value, rate: Value, decay: float
    ) -> dict[Shared, Value]:
        """Give the updates of one parameter and its velocity."""
        if decay:
            gradient = gradient + decay * parameter
        move = rate * gradient
        if not self.momentum:
            return {parameter: parameter - move}
        velocity = self.slots[parameter]["velocity"]
        new = self.momentum * velocity - move
        ahead = self.momentum * new - move if self.nesterov else new
        return {velocity: new, parameter: parameter + ahead}
