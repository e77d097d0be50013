"""Schedules of the learning rate: plain functions of a position (epoch or step), with state where
they need one. Assign the result to `optimizer.lr.value`.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

from symgraph.errors import ArgumentError


class Schedule(ABC):
    """A rate for each position; `state` and `set_state` make it part of a checkpoint."""

    @abstractmethod
    def __call__(self, position: float) -> float:
        """Give the learning rate at a position (in epochs or steps, as the caller counts)."""

    def report(self, measure: float) -> None:  # noqa: B027 - most schedules do not listen
        """Take the measure of one validation, for schedules that follow it."""

    def state(self) -> dict[str, Any]:
        """Give what a checkpoint must keep; nothing for pure functions of the position."""
        return {}

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Take back what `state` gave."""
        if state:
            raise ArgumentError(f"{type(self).__name__}: has no state, got {sorted(state)}.")


def _positive(name: str, **values: float) -> None:
    for option, value in values.items():
        if not value > 0:
            raise ArgumentError(f"{name}: {option} must be > 0, got {value}.")


class Steps(Schedule):
    """Multiply by `factor` at each of the positions `at`: lr * factor^(number passed).

    >>> schedule = Steps(0.01, at=(20, 40), factor=0.1)
    >>> [round(schedule(e), 6) for e in (0, 19, 20, 40)]
    [0.01, 0.01, 0.001, 0.0001]
    """

    def __init__(self, lr: float, at: Sequence[float], factor: float = 0.1) -> None:
        _positive("Steps", lr=lr, factor=factor)
        if list(at) != sorted(at):
            raise ArgumentError(f"Steps: positions must rise, got {tuple(at)}.")
        self.lr, self.at, self.factor = lr, tuple(at), factor

    def __call__(self, position: float) -> float:
        return self.lr * self.factor ** sum(position >= place for place in self.at)


class Cosine(Schedule):
    """Fall from `lr` to `floor` along half a cosine over `length` positions, then stay.

    floor + (lr - floor) (1 + cos(pi p / length)) / 2
    """

    def __init__(self, lr: float, length: float, floor: float = 0.0) -> None:
        _positive("Cosine", lr=lr, length=length)
        if not 0 <= floor <= lr:
            raise ArgumentError(f"Cosine: floor must be in [0, lr], got {floor}.")
        self.lr, self.length, self.floor = lr, length, floor

    def __call__(self, position: float) -> float:
        part = min(max(position / self.length, 0.0), 1.0)
        return self.floor + (self.lr - self.floor) * (1 + math.cos(math.pi * part)) / 2


class Warmup(Schedule):
    """Rise linearly from `start` times the inner rate over `length` positions, then follow it."""

    def __init__(self, inner: Schedule, length: float, start: float = 0.0) -> None:
        _positive("Warmup", length=length)
        if not 0 <= start <= 1:
            raise ArgumentError(f"Warmup: start must be in [0, 1], got {start}.")
        self.inner, self.length, self.start = inner, length, start

    def __call__(self, position: float) -> float:
        part = min(max(position / self.length, 0.0), 1.0)
        return self.inner(position) * (self.start + (1 - self.start) * part)

    def report(self, measure: float) -> None:
        """Hand the measure to the inner schedule."""
        self.inner.report(measure)

    def state(self) -> dict[str, Any]:
        """Give the inner schedule's state."""
        return self.inner.state()

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Take back the inner schedule's state."""
        self.inner.set_state(state)


class Plateau(Schedule):
    """Multiply by `factor` when a watched measure stops improving by `threshold`.

    Call `report(measure)` after each validation; after `patience` reports without an improvement
    of at least `threshold` over the best, the rate falls, not below `floor`, and not before
    `wait` reports were made. `mode` is "max" for accuracies, "min" for losses.
    """

    def __init__(
        self,
        lr: float,
        *,
        factor: float = 0.1,
        patience: int = 2,
        threshold: float = 0.01,
        wait: int = 0,
        floor: float = 0.0,
        mode: str = "max",
    ) -> None:
        _positive("Plateau", lr=lr, factor=factor, patience=patience)
        if mode not in ("max", "min"):
            raise ArgumentError(f'Plateau: mode must be "max" or "min", got {mode!r}.')
        self.lr, self.factor, self.patience, self.threshold = lr, factor, patience, threshold
        self.wait, self.floor, self.sign = wait, floor, 1 if mode == "max" else -1
        self._state: dict[str, Any] = {"rate": lr, "best": None, "stale": 0, "reports": 0}

    def __call__(self, position: float) -> float:
        return float(self._state["rate"])

    def report(self, measure: float) -> None:
        """Take the measure of one validation."""
        state = self._state
        state["reports"] += 1
        score = self.sign * measure
        better = state["best"] is None or score >= state["best"] + self.threshold
        if better and not math.isnan(score):
            state["best"], state["stale"] = score, 0
            return
        state["stale"] += 1
        if state["stale"] >= self.patience and state["reports"] > self.wait:
            state["rate"] = max(state["rate"] * self.factor, self.floor)
            state["stale"] = 0

    def state(self) -> dict[str, Any]:
        """Give the present rate, the best measure and the counters."""
        return dict(self._state)

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Take back what `state` gave."""
        missing = set(self._state) - set(state)
        if missing:
            raise ArgumentError(f"Plateau: the state lacks {', '.join(sorted(missing))}.")
        for key in self._state:
            if not isinstance(state[key], int | float) and not (
                key == "best" and state[key] is None
            ):
                raise ArgumentError(f"Plateau: `{key}` must be a number, got {state[key]!r:.60}.")
        self._state = {key: state[key] for key in self._state}
