"""Who makes the batches of a loader: the caller, threads, or a process (`remote`)."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Any, Protocol

import numpy as np

from symgraph.data.buffers import BufferPool
from symgraph.data.recipe import Arrays, Places, Recipe


class Maker(Protocol):
    """Makes batches."""

    @property
    def images(self) -> int:
        """How many images were made."""

    @property
    def seconds(self) -> float:
        """How long that took."""

    def submit(self, places: Places, epoch: int) -> Any:
        """Ask for the batch of these images; return the order."""

    def ready(self, order: Any, seconds: float) -> bool:
        """Wait so long for a batch; tell whether `take` would give it, or raise, at once."""

    def take(self, order: Any) -> Arrays:
        """Wait for a batch and return it, or raise what went wrong."""

    def drop(self, order: Any) -> None:
        """Forget about an order."""

    def close(self) -> None:
        """Stop everything."""


class Caller:
    """Makes a batch when it is taken, in the thread that takes it."""

    def __init__(self, recipe: Recipe, images: int) -> None:
        self._recipe = recipe
        self._buffers = BufferPool(images * recipe.image_bytes)
        self.seconds, self.images = 0.0, 0

    def submit(self, places: Places, epoch: int) -> tuple[Places, int]:
        """Note what is wanted."""
        return places, epoch

    def ready(self, order: Any, seconds: float) -> bool:
        """Nobody else makes it: there is nothing to wait for."""
        return True

    def take(self, order: tuple[Places, int]) -> Arrays:
        """Make the batch."""
        return self._counted(_make(self._recipe, self._buffers, *order))

    def _counted(self, made: tuple[float, Arrays]) -> Arrays:
        seconds, arrays = made
        self.images += len(arrays[0])
        self.seconds += seconds
        return arrays

    def drop(self, order: Any) -> None:
        """Nothing was begun."""

    def close(self) -> None:
        """Nothing is running."""


class Threads(Caller):
    """Makes batches in threads, which are started with the first."""

    def __init__(self, recipe: Recipe, images: int, workers: int) -> None:
        super().__init__(recipe, images)
        self._workers = workers
        self._pool: ThreadPoolExecutor | None = None

    def submit(self, places: Places, epoch: int) -> Any:
        """Have a thread make the batch."""
        if self._pool is None:
            self._pool = ThreadPoolExecutor(self._workers, thread_name_prefix="symgraph-loader")
        return self._pool.submit(_make, self._recipe, self._buffers, places, epoch)

    def ready(self, order: Any, seconds: float) -> bool:
        """Wait for the batch, but no longer."""
        return bool(wait([order], seconds).done)

    def take(self, order: Any) -> Arrays:
        """Wait for the batch."""
        future: Future[tuple[float, Arrays]] = order
        return self._counted(future.result())

    def drop(self, order: Any) -> None:
        """Leave the batch out where it was not begun."""
        order.cancel()

    def close(self) -> None:
        """Stop the threads."""
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)
            self._pool = None


def _make(recipe: Recipe, buffers: BufferPool, places: Places, epoch: int) -> tuple[float, Arrays]:
    """Make a batch into memory that nobody looks at any more; no loader is held meanwhile."""
    side, count = recipe.side, len(places)
    images = buffers.take()[: count * recipe.image_bytes].view(recipe.dtype)
    images = images.reshape(count, 3, side, side)
    labels = np.empty(count, dtype=np.int32)
    seconds = recipe.make(places, epoch, images, labels)
    return seconds, (images, labels, *recipe.windows(places, epoch))
