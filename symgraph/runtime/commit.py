"""Handing out results and writing updates: nothing the caller holds is shared with us.

Updates are computed in full before the first is written; the writes are pointer swaps with Ctrl-C
held, so a function's state is the one before a call or the one after it, never between.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

import numpy as np

from symgraph.graph.leaves import Shared
from symgraph.graph.op import Array
from symgraph.interrupts import held_interrupt


class Owner:
    """Knows which arrays belong to somebody; `own` copies those and passes fresh ones through."""

    def __init__(self, foreign: Iterable[Array]) -> None:
        self._taken = {id(array) for array in foreign}
        self._alive: list[Array] = []

    def own(self, array: Array) -> Array:
        """Give an array that nobody else holds, in plain order."""
        array = np.asarray(array)
        fresh = (
            array.base is None
            and array.flags.owndata
            and array.flags.writeable
            and array.flags.c_contiguous
            and id(array) not in self._taken
        )
        if not fresh:
            array = np.array(array, order="C")
        self._taken.add(id(array))
        self._alive.append(array)  # keeps the id from being used again
        return array


def commit(targets: Sequence[Shared], arrays: Sequence[Array]) -> None:
    """Write all new values, or none."""
    with held_interrupt():
        for target, array in zip(targets, arrays):
            target.storage.replace(array)


@contextmanager
def unchanged(variables: Iterable[Shared]) -> Iterator[None]:
    """Put the numbers of shared variables back when the block ends, however it ends."""
    before = [
        (one.storage, one.storage.array, one.storage.array.copy(), one.storage.version)
        for one in variables
    ]
    try:
        yield
    finally:
        with held_interrupt():
            for storage, array, numbers, version in before:
                array[...] = numbers  # compiled code writes in place
                storage.array, storage.version = array, version
