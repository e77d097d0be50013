"""The update that an optimiser makes of averaged gradients: by each rank its part, or by all.

Numbers lie one after the other, all gradients and all weights in arenas of the same layout. A rank
owns a part of that line, wherever tensors begin in it: it averages the gradients there, updates its
momenta, and writes new weights to all ranks of its node, in one compiled function.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from symgraph.function import Function, function
from symgraph.graph.dtypes import numpy_dtype
from symgraph.graph.leaves import Shared, cast_to, tensor
from symgraph.graph.node import Value
from symgraph.graph.walk import rebuild
from symgraph.parallel.arena import Arena
from symgraph.parallel.average import computed, mean
from symgraph.parallel.between import averaging
from symgraph.parallel.cut import Cut
from symgraph.parallel.momenta import ArenaOf, Momenta, Piece
from symgraph.parallel.team import PART, Team


class Update(ABC):
    """What follows when all ranks have written their gradients."""

    gradients: Arena

    @property
    @abstractmethod
    def written(self) -> Iterable[Shared]:
        """What it writes."""

    @property
    @abstractmethod
    def held(self) -> Iterable[Shared]:
        """What it gives all ranks by itself."""

    def collect(self) -> None:
        """Bring numbers to their places that were put elsewhere, before ranks meet."""
        self.gradients.collect()

    @abstractmethod
    def __call__(self, shares: Sequence[float]) -> None:
        """Update, gradients weighted by ranks' shares; every rank calls it after all have met."""

    def start(self) -> None:  # noqa: B027 - nothing is held but gradients
        """Give all ranks the numbers of rank 0."""

    @abstractmethod
    def close(self) -> None:
        """Give variables memory of their own."""


class Whole(Update):
    """Every rank makes the whole update: for rules that cannot be cut."""

    def __init__(self, gradients: Arena, compiled: Function) -> None:
        self.gradients, self._compiled = gradients, compiled
        self._averaging = averaging(gradients)

    @property
    def written(self) -> Iterable[Shared]:
        """What the rule updates."""
        return self._compiled.graph.updates

    @property
    def held(self) -> Iterable[Shared]:
        """Gradients only."""
        return self.gradients.variables

    def __call__(self, shares: Sequence[float]) -> None:
        """Average all gradients, and update."""
        self._averaging(shares)
        self._compiled()

    def close(self) -> None:
        """Close everything."""
        self._compiled.close()
        self._averaging.close()
        self.gradients.close()


class Sharded(Update):
    """Each rank makes its part of the update.

    Where the rule needs sums over whole tensors there are two functions: the first averages, and
    sums what is here; the second goes on with what all have summed.
    """

    def __init__(
        self, team: Team, rule: Cut, arena_of: ArenaOf, name: str, backend: str | None
    ) -> None:
        self.team, self.rule = team, rule
        self.weights = arena_of(team, [one.parameter for one in rule.families])
        self.gradients = arena_of(team, [one.gradient for one in rule.families])
        self.momenta = Momenta(team, self.weights, rule.families, arena_of)
        # Between nodes there are only averages; then each node makes the update by itself.
        self._averaging = averaging(self.gradients) if len(team.nodes) > 1 else None
        own = [one for one in self.momenta.pieces if one.rank == team.node.rank]
        self._parts = [_Part(self, one) for one in own]
        self._options: Any = {"precision": "fp32", "backend": backend or self.weights.backend}
        self._summed = [
            (number, part, total)
            for number, total in enumerate(rule.totals)
            for part in self._parts
            if part.family is total.family
        ]
        self._shares = tensor("shares", (team.size,), "float64")
        self._first = self._sums(name) if rule.totals else None
        self._second = self._rest(name)

    # -- what is compiled --------------------------------------------------------------------------

    def _mean(self, part: _Part) -> Value:
        if self._averaging is not None:
            return part.gradient
        return mean(part.gradients, cast_to(self._shares, computed(part.gradient.dtype)))

    def _inputs(self) -> list[Value]:
        return [self._shares] if self._averaging is None and self._parts else []

    def _sums(self, name: str) -> Function:
        """Compile: shares -> sums of the own part, which becomes the average."""
        means = {part: self._mean(part) for part in self._parts}
        sums = [
            self.rule.part_of_total(total, part.places(means[part]))
            for _, part, total in self._summed
        ]
        updates = {part.gradient: one for part, one in means.items() if part.gradient is not one}
        return function(
            self._inputs(), sums, updates=updates, name=f"{name}, sums", **self._options
        )

    def _rest(self, name: str) -> Function:
        """Compile the update, from shares, or from the sums of all."""
        totals = [total.value for total in self.rule.totals]
        known: dict[Value, Value] = {
            one: tensor(f"total {number}", (), one.dtype) for number, one in enumerate(totals)
        }
        updates: dict[Shared, Value] = {
            target: rebuild([new], known)[new] for target, new in self.rule.common.items()
        }
        for part in self._parts:
            gradient = part.gradient if totals else self._mean(part)
            for target, variables in part.targets.items():
                if target in self.rule.updates:
                    new = self.rule.updates[target]
                    places = part.places(gradient) | known
                    updates.update(dict.fromkeys(variables, self.rule.part(new, places)))
        inputs = list(known.values()) if totals else self._inputs()
        return function(inputs, None, updates=updates, name=f"{name}, update", **self._options)

    # -- what is called ----------------------------------------------------------------------------

    @property
    def written(self) -> Iterable[Shared]:
        """What the rule updates."""
        return [*self.rule.updates, *self.rule.common]

    @property
    def held(self) -> Iterable[Shared]:
        """Gradients, parameters and momenta."""
        return [*self.gradients.variables, *self.weights.variables, *self.momenta.slots]

    def collect(self) -> None:
        """Bring gradients to their places, and what somebody has assigned."""
        for arena in (self.gradients, self.weights):
            arena.collect()
        self.momenta.collect()

    def __call__(self, shares: Sequence[float]) -> None:
        """Average and update the own part, and wait for the others."""
        if self._averaging is not None:
            self._averaging(shares)
        given = [np.asarray(shares, np.float64)] if self._inputs() else []
        if self._first is not None:
            found = self._first(*given)
            self._finish(gradients=True)
            given = self._totals([float(one) for one in found])
        self._second(*given)
        self._finish()
        self.team.node.gather()
        self.weights.written()
        self.momenta.written()

    def _totals(self, found: Sequence[float]) -> list[Any]:
        """Add up the sums of all ranks, in their order; every node uses those of the first."""
        own = np.zeros(len(self.rule.totals), np.float64)
        for (number, *_), one in zip(self._summed, found, strict=True):
            own[number] += one
        words = own.tobytes()
        heard = [self.team.gather(words[at : at + PART]) for at in range(0, len(words), PART)]
        ranks = [b"".join(one[rank] for one in heard) for rank in self.team.nodes[0]]
        sums = np.sum([np.frombuffer(one) for one in ranks], axis=0)
        kinds = [numpy_dtype(total.value.dtype) for total in self.rule.totals]
        return [one.astype(kind) for one, kind in zip(sums, kinds, strict=True)]

    def _finish(self, *, gradients: bool = False) -> None:
        for part in self._parts:
            part.finish(gradients=gradients)

    def start(self) -> None:
        """Give all ranks the weights and momenta of rank 0."""
        self.weights.broadcast()
        self.momenta.start()

    def close(self) -> None:
        """Give every rank all weights and momenta, in memory of its own."""
        for compiled in (self._first, self._second, self._averaging):
            if compiled is not None:
                compiled.close()
        self.momenta.close()
        self.weights.close()
        self.gradients.close()


class _Part:
    """Variables for a piece of a family that this rank owns."""

    def __init__(self, whole: Sharded, piece: Piece) -> None:
        self.family, self._rank = piece.family, piece.rank
        there, momenta = (piece.segment, piece.whole), whole.momenta
        self.weights = whole.weights.pieces(*there)
        self.gradients = whole.gradients.pieces(*there)
        self.gradient = self.gradients[piece.rank]
        homes = {slot: momenta.place(slot, piece) for slot in piece.family.slots}
        self._slots = {slot: momenta.arena.pieces(*home) for slot, home in homes.items()}
        self._averaged = [(whole.gradients, self.gradients, *there)]
        self._updated = [
            (whole.weights, self.weights, *there),
            *((momenta.arena, self._slots[slot], *home) for slot, home in homes.items()),
        ]

    @property
    def targets(self) -> Mapping[Shared, Sequence[Shared]]:
        """Where new numbers go: weights to all ranks, momenta here."""
        momenta = {slot: [each[self._rank]] for slot, each in self._slots.items()}
        return {self.family.parameter: self.weights, **momenta}

    def places(self, gradient: Value) -> dict[Value, Value]:
        """Give what the tensors of the family are in this piece."""
        found: dict[Value, Value] = {slot: each[self._rank] for slot, each in self._slots.items()}
        return found | {
            self.family.parameter: self.weights[self._rank], self.family.gradient: gradient
        }  # fmt: skip

    def finish(self, *, gradients: bool) -> None:
        """See that numbers written are in the arenas."""
        for arena, pieces, segment, part in self._averaged if gradients else self._updated:
            arena.finish(pieces, segment, part)
