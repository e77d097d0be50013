"""What all optimisers share: groups of parameters, the rate, clipping, state for checkpoints."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Self

import numpy as np

from symgraph.autodiff.reverse import grad
from symgraph.errors import ArgumentError, ArgumentTypeError
from symgraph.frozen import frozen
from symgraph.graph.leaves import Shared, cast_to, shared
from symgraph.graph.node import Value
from symgraph.graph.precision import wide
from symgraph.graph.registry import F
from symgraph.optim.scaling import LossScaling


@frozen
class Group:
    """Parameters that share settings: `rate` multiplies the learning rate, `decay` replaces the
    optimiser's weight decay.

    >>> import symgraph as sg
    >>> bias = sg.shared([0.0], "bias")
    >>> sg.optim.Group([bias], rate=2.0, decay=0.0).rate
    2.0
    """

    parameters: Iterable[Shared]
    rate: float = 1.0
    decay: float | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "parameters", tuple(self.parameters))


class Optimizer(ABC):
    """Turns a loss into updates; subclasses give `step` for one parameter.

    The learning rate is itself a shared variable, `optimizer.lr` (float64, rounded to the dtype of
    each parameter), so a schedule changes it without compiling again. `clip_norm` scales all
    gradients together so that their joint Euclidean norm is at most this; `clip_value` limits each
    element first. With `scaling`, for float16, gradients come from a scaled loss, and a step in
    which one is not finite writes nothing.
    """

    def __init__(
        self,
        parameters: Iterable[Shared | Group],
        lr: float,
        *,
        weight_decay: float = 0.0,
        clip_norm: float | None = None,
        clip_value: float | None = None,
        scaling: LossScaling | None = None,
    ) -> None:
        name = type(self).__name__
        _at_least(name, "lr", lr, 0)
        _at_least(name, "weight_decay", weight_decay, 0)
        for option, value in (("clip_norm", clip_norm), ("clip_value", clip_value)):
            if value is not None and not value > 0:
                raise ArgumentError(f"{name}: {option} must be > 0, got {value}.")
        self.groups = _grouped(name, parameters)
        self.weight_decay = weight_decay
        self.clip_norm = clip_norm
        self.clip_value = clip_value
        self.scaling = scaling
        self.lr = shared(np.float64(lr), "lr")
        self.slots: dict[Shared, dict[str, Shared]] = {
            parameter: {
                slot: shared(np.zeros_like(parameter.storage.array), f"{parameter.label}.{slot}")
                for slot in self.slot_names()
            }
            for parameter in self.parameters
        }

    @property
    def parameters(self) -> list[Shared]:
        """All parameters, in order."""
        return [parameter for group in self.groups for parameter in group.parameters]

    def slot_names(self) -> Sequence[str]:
        """Name the arrays kept for each parameter (momentum and the like)."""
        return ()

    @abstractmethod
    def step(
        self, parameter: Shared, gradient: Value, rate: Value, decay: float
    ) -> dict[Shared, Value]:
        """Give the updates of one parameter and its slots."""

    def common_updates(self) -> dict[Shared, Value]:
        """Give the updates of state that all parameters share (a step counter)."""
        return {}

    def common_state(self) -> dict[str, Shared]:
        """Name the state that all parameters share."""
        return {"lr": self.lr}

    def updates(self, loss: Value, gradients: Sequence[Value] | None = None) -> dict[Shared, Value]:
        """Give the updates of one step on a scalar loss, for `sg.function(..., updates=...)`.

        `gradients` are computed with `sg.grad` unless given (one for each parameter); given ones
        are not scaled, only checked.
        """
        parameters = self.parameters
        if gradients is not None:
            found = list(gradients)
        elif self.scaling is None:
            found = grad(loss, parameters)
        else:
            found = self.scaling.gradients(loss, parameters)
        if len(found) != len(parameters):
            raise ArgumentError(
                f"{type(self).__name__}: {len(parameters)} parameters but {len(found)} gradients."
            )
        clipped = dict(zip(parameters, self._clipped(found)))
        result = self.common_updates()
        for group in self.groups:
            decay = self.weight_decay if group.decay is None else group.decay
            for parameter in group.parameters:
                rate = cast_to(self.lr, parameter.dtype)
                if group.rate != 1:
                    rate = rate * group.rate
                result.update(self.step(parameter, clipped[parameter], rate, decay))
        return result if self.scaling is None else self.scaling.guarded(loss, found, result)

    def without(self, frozen: Iterable[Shared]) -> Self:
        """Give the same rule, with the same rate and state, for all but some parameters.

        Its updates leave these and their slots alone, and their gradients are not computed; the
        norm for `clip_norm` is that of the others. Raises `ArgumentError` for one that is no
        parameter, and where none is left.

        >>> import symgraph as sg
        >>> v, w = sg.shared([1.0], "v"), sg.shared([1.0], "w")
        >>> [one.label for one in sg.optim.SGD([v, w], lr=0.1).without([v]).parameters]
        ['w']
        """
        left, name = set(frozen), type(self).__name__
        for one in left - set(self.slots):
            raise ArgumentError(
                f"{name}: `{getattr(one, 'label', one)}` is to be frozen and is no parameter.",
                fix="give some of optimizer.parameters",
            )
        if left == set(self.slots):
            raise ArgumentError(
                f"{name}: everything is frozen: no parameter is left to train.",
                fix="leave some of optimizer.parameters out",
            )
        other = copy.copy(self)
        kept = [[one for one in group.parameters if one not in left] for group in self.groups]
        pairs = zip(self.groups, kept, strict=True)
        other.groups = [replace(group, parameters=those) for group, those in pairs if those]
        other.slots = {one: slots for one, slots in self.slots.items() if one not in left}
        return other

    def _clipped(self, gradients: list[Value]) -> list[Value]:
        if self.clip_value is not None:
            gradients = [F.clip(g, -self.clip_value, self.clip_value) for g in gradients]
        if self.clip_norm is None:
            return gradients
        # One number for each gradient: float64 costs nothing here and does not overflow.
        wider = [wide(g) for g in gradients]
        squares = [cast_to(F.real(F.sum(g * F.conj(g))), "float64") for g in wider]
        total = squares[0]
        for square in squares[1:]:
            total = total + square
        norm = F.sqrt(total)
        scale = F.where(norm > self.clip_norm, self.clip_norm / norm, F.ones_like(norm))
        return [g * cast_to(scale, g.dtype) for g in gradients]

    def state(self, names: Mapping[str, Shared] | None = None) -> dict[str, Shared]:
        """Name every shared variable of the optimiser, for checkpoints.

        `names` gives the parameters' names (`module.named_state()`); without it they are numbered.
        """
        by_parameter = {variable: name for name, variable in (names or {}).items()}
        result = self.common_state()
        if self.scaling is not None:
            result.update(self.scaling.state())
        for index, (parameter, slots) in enumerate(self.slots.items()):
            prefix = by_parameter.get(parameter, str(index))
            for slot, variable in slots.items():
                name = f"{prefix}.{slot}"
                if name in result:
                    raise ArgumentError(
                        f"{type(self).__name__}: two arrays of the state are called `{name}`.",
                        fix="give the names of all parameters: net.named_state()",
                    )
                result[name] = variable
        return result


def _at_least(name: str, option: str, value: Any, least: float) -> None:
    if not hasattr(value, "__float__") or isinstance(value, Value):
        raise ArgumentTypeError(
            f"{name}: {option} must be a number, got {type(value).__name__}.",
            fix="a rate that changes is optimizer.lr, a shared variable: optimizer.lr.value = 0.01",
        )
    if not value >= least:
        raise ArgumentError(f"{name}: {option} must be >= {least}, got {value}.")


def _grouped(name: str, parameters: Any) -> list[Group]:
    if isinstance(parameters, Value) or not isinstance(parameters, Iterable):
        raise ArgumentTypeError(
            f"{name}: takes a list of shared variables, got {type(parameters).__name__}.",
            fix="give net.parameters(), or [w] for one",
        )
    given = list(parameters)
    plain = [one for one in given if not isinstance(one, Group)]
    groups = [one for one in given if isinstance(one, Group)]
    if plain:
        groups.insert(0, Group(plain))
    seen: set[Shared] = set()
    for group in groups:
        _at_least(name, "rate of a group", group.rate, 0)
        _at_least(name, "decay of a group", group.decay or 0.0, 0)
        for parameter in group.parameters:
            if not isinstance(parameter, Shared):
                raise ArgumentTypeError(
                    f"{name}: parameters must be shared variables, got {type(parameter).__name__}.",
                    fix="give net.parameters()",
                )
            if parameter in seen:
                raise ArgumentError(f"{name}: `{parameter.label}` is listed twice.")
            seen.add(parameter)
    if not seen:
        raise ArgumentError(f"{name}: there are no parameters.", fix="give net.parameters()")
    return groups
