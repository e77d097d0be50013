"""Data that a training run goes through again and again, with a cursor that a checkpoint keeps."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

from symgraph.errors import DataError

Part = TypeVar("Part")


class Epochs(ABC, Generic[Part]):
    """Gives `count` parts in each epoch; `for part in epochs` goes to the end of the current one.

    It has what the training loop asks of `symgraph.data.Loader`, and nobody ever waits for it.
    `same` are numbers by which a cursor of other data is told from one of these.
    """

    wait_seconds = 0.0

    def __init__(self, count: int, **same: int) -> None:
        self.count, self.same = count, same
        self.epoch, self._position = 0, 0

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[Part]:
        epoch = self.epoch
        while self.epoch == epoch:
            yield self.next_batch()

    def ready(self, seconds: float = 0.0) -> bool:
        """Tell that nobody has to wait for the next part."""
        return True

    def next_batch(self) -> Part:
        """Give the next part, going on to the next epoch after the last."""
        epoch, position = self.epoch, self._position
        self._position += 1
        if self._position == self.count:
            self.epoch, self._position = epoch + 1, 0
        return self.part(epoch, position)

    @abstractmethod
    def part(self, epoch: int, position: int) -> Part:
        """Give one part of an epoch."""

    def state(self) -> dict[str, int]:
        """Give the cursor behind the last part: plain integers, fit for JSON."""
        return {"epoch": self.epoch, "position": self._position, **self.same}

    def set_state(self, state: dict[str, Any]) -> None:
        """Go to a cursor from `state`.

        Raises `DataError` where it is damaged or that of other data.
        """
        found = {name: state.get(name) for name in self.state()}
        epoch, position = (one if type(one) is int else -1 for one in list(found.values())[:2])
        if epoch < 0 or not 0 <= position < self.count or found != {**found, **self.same}:
            raise DataError(
                f"no such place among {self.count} parts of the data: {state!r:.100}.",
                details=[f"{name} : {number}" for name, number in self.same.items()],
                fix="go on with the data that the run began with",
            )
        self.epoch, self._position = epoch, position

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        return
