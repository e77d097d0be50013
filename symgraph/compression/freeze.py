"""Freezing: which factors of a low-rank network are trained, and when the others have their turn.

A frozen variable gets no updates, so that its gradient, its momentum and its part of the update
rule are never computed. There is one compiled step for each set of frozen variables. Published with
low-rank decomposition (arXiv 2309.03824): the sets alternate by epoch, so that no factor keeps what
the decomposition gave it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Generic, Protocol, TypeVar

import numpy as np

from symgraph.errors import ArgumentError
from symgraph.graph.arguments import plain_int
from symgraph.graph.leaves import Shared
from symgraph.nn import LowRankConv2d, LowRankDense, Module
from symgraph.optim import Optimizer

POLICIES = ("none", "static", "sequential")
MOMENTA = ("keep", "reset")

FreezeSet = tuple[Shared, ...]


class Closes(Protocol):
    """A compiled step."""

    def close(self) -> None:
        """Give its memory back."""


Step = TypeVar("Step", bound=Closes)


def factor_sets(net: Module) -> tuple[FreezeSet, FreezeSet]:
    """Give the weights of a network's factors in two sets, of which one may be frozen at a time.

    In the first set is the first factor of a pair, and of a triple the two of 1 x 1; in the second
    the last factor of a pair, and of a triple the kernel in the middle. Raises `ArgumentError`
    where nothing has factors.

    >>> import symgraph as sg
    >>> net = sg.nn.Sequential(sg.nn.LowRankDense(8, 8, 2), sg.nn.LowRankConv2d(4, 4, 3, (2, 2)))
    >>> [len(one) for one in factor_sets(net)]
    [3, 2]
    """
    outer: list[Shared] = []
    inner: list[Shared] = []
    for _, one in net.named_modules():
        if isinstance(one, LowRankConv2d) and one.core is not None:
            outer += [one.first.weight, one.last.weight]
            inner.append(one.core.weight)
        elif isinstance(one, LowRankDense | LowRankConv2d):
            outer.append(one.first.weight)
            inner.append(one.last.weight)
    if not outer:
        raise ArgumentError(
            f"freezing: {type(net).__name__} has no layer of low rank.",
            fix="sg.compression.decompose_layers(net) first",
        )
    return tuple(outer), tuple(inner)


def freeze_sets(net: Module, policy: str = "sequential") -> tuple[FreezeSet, ...]:
    """Give what is frozen in epoch 0, 1, ..., after which it begins again.

    "none" freezes nothing, "static" always the first of `factor_sets`, and "sequential" alternates:
    the first in even epochs, the second in odd ones. Biases, norms and dense layers are always
    trained. Raises `ArgumentError` for another policy and where nothing has factors.
    """
    if policy not in POLICIES:
        raise ArgumentError(
            f"freezing: the policy must be one of {', '.join(POLICIES)}, got {policy!r:.60}."
        )
    if policy == "none":
        return ((),)
    outer, inner = factor_sets(net)
    return (outer,) if policy == "static" else (outer, inner)


class Freezing(Generic[Step]):
    """One compiled step for each freeze set, in turn by epoch.

    `compile(optimizer)` makes a step whose updates are those of the optimiser that it gets. All are
    made at once, so that a swap costs nothing; with `ahead=False` only the one that is needed, and
    the one before is closed (two steps cannot both hold the variables that workers share).

    What a swap means for momentum: with `momentum="keep"` a variable that is trained again goes on
    with the slots that it had when it was frozen, with "reset" it begins with zeros. An optimiser
    that corrects its moments by a count of steps (Adam) keeps them: zeros would count as old as the
    others, and the first steps would be about three times as long as they should be.

    Raises `ArgumentError` for sets that freeze everything, and for "reset" with such an optimiser.

    >>> import symgraph as sg
    >>> net = sg.nn.Sequential(sg.nn.LowRankDense(8, 8, 2), sg.nn.Dense(8, 1))
    >>> loss = net(sg.constant(np.ones((4, 8), np.float32))).mean()
    >>> compile = lambda rule: sg.function([], loss, updates=rule.updates(loss))
    >>> freezing = Freezing(sg.optim.SGD(net.parameters(), 0.1), freeze_sets(net), compile)
    >>> [len(freezing.at(epoch).graph.updates) for epoch in (0, 1, 2)]
    [4, 4, 4]
    """

    def __init__(
        self,
        optimizer: Optimizer,
        sets: Sequence[FreezeSet],
        compile: Callable[[Optimizer], Step],
        *,
        momentum: str = "keep",
        ahead: bool = True,
    ) -> None:
        if momentum not in MOMENTA:
            raise ArgumentError(
                f"freezing: momentum must be one of {', '.join(MOMENTA)}, got {momentum!r:.60}."
            )
        if momentum == "reset" and optimizer.common_updates():
            raise ArgumentError(
                f"freezing: {type(optimizer).__name__} corrects its moments by a count of steps, "
                "which moments of zero do not fit.",
                fix='momentum="keep"',
            )
        if not sets:
            raise ArgumentError("freezing: there are no sets.", fix="freeze_sets(net)")
        self.sets = tuple(tuple(one) for one in sets)
        self.rules = [optimizer.without(one) if one else optimizer for one in self.sets]
        self.optimizer, self.momentum = optimizer, momentum
        self._compile, self._ahead = compile, ahead
        self._steps: dict[int, Step] = {}
        self._epoch: int | None = None
        if ahead:
            self._steps = {number: compile(rule) for number, rule in enumerate(self.rules)}

    def frozen(self, epoch: int) -> FreezeSet:
        """Give what is frozen in an epoch."""
        return self.sets[epoch % len(self.sets)]

    def at(self, epoch: int, *, begins: bool = True) -> Step:
        """Give the step of an epoch.

        `begins` says that no step of this epoch was taken before, in an earlier run: only then
        does momentum begin anew, where that was asked for.
        """
        number = plain_int("freezing", "the epoch", epoch)
        if number < 0:
            raise ArgumentError(f"freezing: epochs count from 0, got {number}.")
        if number != self._epoch:
            if begins and self.momentum == "reset" and number:
                self._reset(set(self.frozen(number - 1)) - set(self.frozen(number)))
            self._epoch = number
        place = number % len(self.sets)
        if place not in self._steps:
            self.close()
            self._steps[place] = self._compile(self.rules[place])
        return self._steps[place]

    def _reset(self, variables: set[Shared]) -> None:
        for variable in variables:
            for slot in self.optimizer.slots[variable].values():
                slot.value = np.zeros_like(slot.value)

    def close(self) -> None:
        """Give the memory of the steps back."""
        for step in self._steps.values():
            step.close()
        self._steps.clear()
