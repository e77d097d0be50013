"""The loops that a scan is made of: one, two where its gradient stops, one in another."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from symgraph.dims import Size, equal, minimum
from symgraph.errors import ArgumentError
from symgraph.frozen import frozen
from symgraph.graph.arguments import plain_int
from symgraph.graph.body import closed, like
from symgraph.graph.node import Value
from symgraph.graph.registry import F


def _stopped(values: Iterable[Value]) -> list[Value]:
    return [F.stop_gradient(one) for one in values]


@frozen
class ScanLoop:
    """What is the same in all loops of a scan: the step, how many states, and what it reads."""

    body: Any
    states: int
    conditional: bool
    others: list[Value]

    def run(
        self,
        sequences: Sequence[Value],
        starts: Sequence[Value],
        length: Size,
        limit: int,
        checkpoint: int | None,
        name: str,
    ) -> tuple[list[Value], list[Value]]:
        """Make one loop, or two where the gradient stops between them, or one inside another."""
        if limit == 0 or limit < -1:
            raise ArgumentError(f"{name}: truncate_gradient must be -1 or positive, got {limit}.")
        if limit > 0 and self.conditional:
            raise ArgumentError(
                f"{name}: truncate_gradient needs to know the last step; until does not tell it."
            )
        if checkpoint is not None:
            if limit > 0 or self.conditional:
                raise ArgumentError(f"{name}: checkpoint goes with neither until nor truncation.")
            return self._nested(
                sequences, starts, length, plain_int(name, "checkpoint", checkpoint)
            )
        if limit < 0 or (isinstance(length, int) and length <= limit):
            return self._plain(sequences, starts, length)
        head = length - minimum(length, limit)
        first = _stopped([one[:head] for one in sequences])
        states, before = self._plain(first, _stopped(starts), head, stopped=True)
        rest = [one[head:] for one in sequences]
        last, after = self._plain(rest, _stopped(states), length - head)
        return last, [F.concat([F.stop_gradient(a), b], axis=0) for a, b in zip(before, after)]

    def _plain(
        self,
        sequences: Sequence[Value],
        starts: Sequence[Value],
        length: Size,
        stopped: bool = False,
    ) -> tuple[list[Value], list[Value]]:
        others = _stopped(self.others) if stopped else self.others
        found: Any = F.loop(
            self.body, sequences, starts, others, length, conditional=self.conditional
        )
        return list(found[: self.states]), list(found[self.states :])

    def _nested(
        self, sequences: Sequence[Value], starts: Sequence[Value], length: Size, each: int
    ) -> tuple[list[Value], list[Value]]:
        """Make a loop over groups of steps, each of which is a loop that is computed again.

        Steps that fill no group are one more loop behind.
        """
        if each < 1:
            raise ArgumentError(f"scan: checkpoint must be at least 1, got {each}.", fix="about 10")
        groups = length // each
        whole = groups * each
        if equal(whole, length) is True:
            return self._groups(sequences, starts, groups, each)
        states, before = self._groups([one[:whole] for one in sequences], starts, groups, each)
        rest = [one[whole:] for one in sequences]
        found: Any = F.loop(self.body, rest, states, self.others, length - whole, again=True)
        after = found[self.states :]
        return list(found[: self.states]), [F.concat(two, axis=0) for two in zip(before, after)]

    def _groups(
        self, sequences: Sequence[Value], starts: Sequence[Value], groups: Size, each: int
    ) -> tuple[list[Value], list[Value]]:
        rows = [F.reshape(one, (groups, each, *one.shape[1:])) for one in sequences]
        row_inputs = [like(one.tensor.with_shape(one.shape[1:])) for one in rows]
        state_inputs = [like(one.tensor) for one in starts]
        others = [like(one.tensor) for one in self.others]
        found: Any = F.loop(self.body, row_inputs, state_inputs, others, each, again=True)
        body, outside, _ = closed("scan", [*row_inputs, *state_inputs, *others], list(found))
        whole: Any = F.loop(body, rows, starts, [*self.others, *outside], groups)
        kept = [F.reshape(one, (groups * each, *one.shape[2:])) for one in whole[self.states :]]
        return list(whole[: self.states]), kept
