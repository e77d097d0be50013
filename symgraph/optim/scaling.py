"""Loss scaling for float16: gradients too small for it are computed as multiples of themselves."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np

from symgraph.autodiff.reverse import grad
from symgraph.errors import ArgumentError
from symgraph.graph.graph import collect_effects
from symgraph.graph.leaves import Shared, cast_to, shared
from symgraph.graph.node import Value
from symgraph.graph.precision import wide
from symgraph.graph.registry import F

LARGEST = 2.0**60  # further growth would only reach the largest float32 faster


class LossScaling:
    """A factor of the loss that adapts: halved where a gradient overflows, doubled now and then.

    A step whose gradients are not all finite writes nothing, neither parameters nor slots nor the
    updates of layers or random streams, and is counted in `skipped`. After `interval` good steps in
    a row the factor grows. Powers of two change no bits of what neither over- nor underflows.
    (Micikevicius et al., "Mixed precision training", arXiv 1710.03740.)

    >>> import symgraph as sg
    >>> w = sg.shared([1.0], "w")
    >>> sgd = sg.optim.SGD([w], lr=0.5, scaling=sg.optim.LossScaling(8.0))
    >>> step = sg.function([], None, updates=sgd.updates((w * w).sum()))
    >>> step(); w.value.tolist(), int(sgd.scaling.skipped.value)
    ([0.0], 0)
    """

    def __init__(
        self,
        scale: float = 2.0**16,
        *,
        growth: float = 2.0,
        backoff: float = 0.5,
        interval: int = 2000,
    ) -> None:
        if not 1 <= scale <= LARGEST:
            raise ArgumentError(
                f"LossScaling: scale must lie in 1 .. 2**60, got {scale}.", fix="scale=2.0**16"
            )
        if not growth >= 1:
            raise ArgumentError(
                f"LossScaling: growth must be >= 1, got {growth}.", fix="growth=2.0"
            )
        if not 0 < backoff < 1:
            raise ArgumentError(
                f"LossScaling: backoff must lie between 0 and 1, got {backoff}.", fix="backoff=0.5"
            )
        if not interval >= 1:
            raise ArgumentError(
                f"LossScaling: interval must be >= 1, got {interval}.", fix="interval=2000"
            )
        self.growth, self.backoff, self.interval = growth, backoff, interval
        self.scale = shared(np.float32(scale), "loss_scale")
        self.good = shared(np.int64(0), "loss_scale.good")
        self.skipped = shared(np.int64(0), "loss_scale.skipped")

    def state(self) -> dict[str, Shared]:
        """Name the variables, for checkpoints."""
        return {one.label: one for one in (self.scale, self.good, self.skipped)}

    def gradients(self, loss: Value, parameters: Iterable[Shared]) -> list[Value]:
        """Give the gradients of a loss, computed from the scaled one."""
        found = grad(wide(loss) * self.scale, list(parameters))
        # in float32: 2**16 is infinite in float16
        return [cast_to(wide(g) / self.scale, g.dtype) for g in found]

    def guarded(
        self, loss: Value, gradients: Iterable[Value], updates: Mapping[Shared, Value]
    ) -> dict[Shared, Value]:
        """Give updates that write nothing unless all gradients are finite, and the scale's own.

        What layers and random streams update beside the loss is guarded too.
        """
        finite = [F.all(F.isfinite(g)) for g in gradients]
        good = finite[0]
        for one in finite[1:]:
            good = F.logical_and(good, one)
        effects, _ = collect_effects([loss, *updates.values()])
        result = {
            target: F.where(good, new, target) for target, new in (effects | dict(updates)).items()
        }
        count = self.good + 1
        grows = count >= self.interval
        larger = F.minimum(self.scale * np.float32(self.growth), np.float32(LARGEST))
        smaller = F.maximum(self.scale * np.float32(self.backoff), np.float32(1))
        result[self.scale] = F.where(good, F.where(grows, larger, self.scale), smaller)
        result[self.good] = F.where(good, F.where(grows, F.zeros_like(count), count), 0 * count)
        result[self.skipped] = F.where(good, self.skipped, self.skipped + 1)
        return result
