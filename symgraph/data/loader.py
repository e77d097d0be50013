"""Batches made in the background, in an order that a seed fixes and a cursor can resume."""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Iterator
from types import TracebackType
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from symgraph.backends.choice import device_number
from symgraph.backends.cuda.device import device as opened
from symgraph.data.augment import Augment
from symgraph.data.dataset import Dataset
from symgraph.data.draws import check_seed, permutation
from symgraph.data.makers import Caller, Maker, Threads
from symgraph.data.recipe import Arrays, Places, Recipe
from symgraph.data.remote import LoaderProcess, LoadingError
from symgraph.data.ring import Layout
from symgraph.data.upload import Uploader
from symgraph.errors import ArgumentError, DataError, LoaderLostError, SymgraphError
from symgraph.frozen import frozen

# Slots beyond the batches made ahead: what the consumer holds and what it has just been given.
_IN_USE = 2


@frozen(eq=False)
class Batch:
    """The images of one step on one rank.

    `images` is float32 (n, 3, c, c) and `labels` int32 (n,); `index` is the position of the first
    image in the epoch's order over all ranks, `row` its place among the `images_of_all` of this
    step; `indices` (n,) are the images' places in the data set. With several ranks the end of an
    epoch may leave a rank no image: then n is 0, so that all ranks take the same number of steps.

    Where they are not cropped, `images` is uint8 (n, 3, S, S), and `top`, `left` and `mirror` (n,)
    say where `sg.crop_mirror` cuts them; else these are None. On a device all of them are CuPy's.
    """

    images: Any
    labels: Any
    index: int
    row: int
    images_of_all: int
    epoch: int
    step: int
    indices: npt.NDArray[np.int64]
    top: Any = None
    left: Any = None
    mirror: Any = None

    def __len__(self) -> int:
        return len(self.indices)

    @property
    def inputs(self) -> Arrays:
        """What a step is given: images, labels and, if there are any, tops, lefts and mirrors."""
        windows = () if self.top is None else (self.top, self.left, self.mirror)
        return (self.images, self.labels, *windows)


@frozen
class _Job:
    """One batch on its way."""

    epoch: int
    step: int
    start: int  # of the step, over all ranks
    first: int  # of this rank
    end: int
    indices: Places
    order: Any  # as its maker gives it


def _positive(name: str, value: int, low: int = 1) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < low:
        raise ArgumentError(f"Loader: {name} must be an integer of at least {low}, got {value!r}.")
    return value


def _seconds(name: str, value: float) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not value > 0:
        raise ArgumentError(f"Loader: {name} must be a positive number of seconds, got {value!r}.")
    return float(value)


def _make_augment(augment: bool | Augment, crop: int | None, size: int, seed: int) -> Augment:
    """Return the augmentation meant by the arguments, which must fit the images."""
    if isinstance(augment, Augment):
        if crop is not None and crop != augment.crop:
            raise ArgumentError(
                f"Loader: crop={crop} contradicts augment.crop={augment.crop}.",
                fix="leave crop out",
            )
        chosen = augment
    elif isinstance(augment, bool):
        chosen = Augment(227 if crop is None else crop, seed, train=augment)
    else:
        raise ArgumentError(f"Loader: augment must be a bool or an Augment, got {augment!r}.")
    chosen.draws(np.zeros(0, dtype=np.int64), 0, size)  # raises where the crop is too large
    return chosen


class Loader:
    """Cuts a data set into batches, `prefetch` of them ahead of their use.

    `for batch in loader` goes to the end of the current epoch; the next `for` is the next epoch.
    The order is a new permutation for each (seed, epoch), or the stored order with
    `shuffle=False`; crops depend on (seed, epoch, image) only, so that neither batch size nor
    ranks nor workers change an image. The last, smaller batch is used unless `drop_last`.

    `batch` is the number of images of a step over all ranks: step s holds the positions s * batch
    and on, of which rank r takes its contiguous share; shares differ by one image at most.
    `augment` is True (random crop and mirror), False (centre crop) or an `Augment`; `crop` is the
    side of what is cut out, 227 unless given.
    `workers` threads load; `workers=0` loads in the caller, without any thread. With
    `process=True` these threads are in a process of their own, started at once, which hands over
    batches in shared memory: they have the same bits, and loading takes nothing from the consumer
    but a core. It is for data sets that can be pickled; its death is a `LoaderLostError`, and when
    no batch comes for `patience` seconds, a line of the logger `symgraph` says what it does.
    Batches may be kept: their memory is used again only when they are dropped.
    With `cropped=False` batches have whole images as bytes, for a step that begins with
    `sg.crop_mirror`: a third of what floats take, and next to no work here. `device` ("cuda",
    "cuda:1") brings them to a device, each while the step before it computes.

    Raises `ArgumentError` for arguments that do not fit, `DataError` for an empty data set and
    `DeviceError` for a device that is not there; an error while loading is raised when the batch
    concerned is asked for, and again after it.
    """

    def __init__(
        self,
        dataset: Dataset,
        batch: int,
        seed: int = 1,
        shuffle: bool = True,
        augment: bool | Augment = True,
        crop: int | None = None,
        prefetch: int = 2,
        drop_last: bool = False,
        workers: int = 1,
        rank: int = 0,
        ranks: int = 1,
        process: bool = False,
        patience: float = 60.0,
        cropped: bool = True,
        device: str | None = None,
    ) -> None:
        self.dataset = dataset
        self.batch = _positive("batch", batch)
        self.seed = check_seed(seed, "Loader: seed")
        self.shuffle, self.drop_last = shuffle, drop_last
        self.prefetch = _positive("prefetch", prefetch)
        self.workers = _positive("workers", workers, 0)
        self.ranks = _positive("ranks", ranks)
        self.rank = _positive("rank", rank, 0)
        if rank >= ranks:
            raise ArgumentError(f"Loader: rank must be below ranks={ranks}, got {rank}.")
        self._count = len(dataset)
        if self._count == 0:
            raise DataError("Loader: the data set is empty.")
        if drop_last and self._count < batch:
            raise ArgumentError(
                f"Loader: {self._count} images do not fill one batch of {batch}, and "
                "drop_last drops all of them.",
                fix="use a smaller batch, or drop_last=False",
            )
        self.augment = _make_augment(augment, crop, dataset.image_size, seed)
        self._maker = self._make_maker(process, patience, cropped, device)
        self._owner = os.getpid()
        self._ahead: deque[_Job] = deque()
        self._orders: dict[int, npt.NDArray[np.int64]] = {}
        self._cursor = self._planned = (0, 0)  # the next to hand out, the next to ask for
        self._error: SymgraphError | None = None
        self._closed = False
        self.wait_seconds = 0.0

    def _make_maker(
        self, process: bool, patience: float, cropped: bool, device: str | None
    ) -> Maker:
        """Return who makes the batches."""
        if device is not None and device_number(device) < 0:
            raise ArgumentError(
                f"Loader: device={device!r:.40} is none.", fix='device="cuda" or "cuda:1"'
            )
        recipe = Recipe(self.dataset, self.augment, self.dataset.mean_image, cropped)
        images = -(-self.batch // self.ranks)
        there = None if device is None else opened(device_number(device))
        self._process: LoaderProcess | None = None
        maker: Maker
        if process:
            if not self.workers:
                raise ArgumentError("Loader: process=True needs workers=1 or more, got 0.")
            layout = Layout(self.prefetch + _IN_USE, images, recipe.side, recipe.dtype)
            wait = _seconds("patience", patience)
            maker = self._process = LoaderProcess(recipe, layout, self.workers, wait)
        elif self.workers:
            maker = Threads(recipe, images, self.workers)
        else:
            maker = Caller(recipe, images)
        if there is None:
            return maker
        try:
            return Uploader(maker, there)
        except BaseException:  # a process would stay as long as this one
            maker.close()
            raise

    def __len__(self) -> int:
        """Return the number of batches of a whole epoch."""
        return self._end // self.batch if self.drop_last else -(-self._count // self.batch)

    @property
    def _end(self) -> int:
        """The number of images that an epoch uses."""
        return self._count - self._count % self.batch if self.drop_last else self._count

    @property
    def images_per_second(self) -> float:
        """How many images one thread of the loader makes in a second of its work; 0 before any."""
        return self._maker.images / self._maker.seconds if self._maker.seconds else 0.0

    @property
    def pid(self) -> int | None:
        """The number of the loader's own process; None where it has none."""
        return None if self._process is None else self._process.pid

    @property
    def epoch(self) -> int:
        """The epoch of the next batch."""
        return self._cursor[0]

    def __iter__(self) -> Iterator[Batch]:
        """Yield the batches up to the end of the current epoch."""
        epoch = self.epoch
        while self.epoch == epoch:
            yield self.next_batch()

    def ready(self, seconds: float = 0.0) -> bool:
        """Wait so long for the next batch; tell whether `next_batch` would not have to wait.

        Whoever has other things to look at, such as a wish to stop, waits by this: no batch is
        taken, and the cursor stays. The time spent waiting is added to `wait_seconds`.
        """
        job = self._next()
        start = time.perf_counter()
        try:
            return self._maker.ready(job.order, seconds)
        finally:
            self.wait_seconds += time.perf_counter() - start

    def _next(self) -> _Job:
        """Return the next batch on its way, with as many behind it as are made ahead."""
        self._check_usable()
        while len(self._ahead) < (self.prefetch if self.workers else 1):
            self._plan()
        return self._ahead[0]

    def next_batch(self) -> Batch:
        """Return the next batch, going on to the next epoch after the last.

        The time spent waiting is added to `wait_seconds`.
        """
        job = self._next()
        start = time.perf_counter()
        images, labels, *windows = self._result(job)
        self.wait_seconds += time.perf_counter() - start
        self._ahead.popleft()
        self._cursor = self._after(job.epoch, job.end)
        if self.workers:
            self._plan()  # before the consumer computes, so that nothing idles meanwhile
        row, count = job.first - job.start, job.end - job.start
        place = (job.first, row, count, job.epoch, job.step, job.indices)
        return Batch(images, labels, *place, *windows)

    def _result(self, job: _Job) -> Arrays:
        """Return a batch's arrays when they are made."""
        try:
            return self._maker.take(job.order)
        except LoadingError as error:  # in the process
            kind = LoaderLostError if error.died else DataError
            self._error = self._failure(job, str(error), error.fix, kind)
            raise self._error from error.cause
        except Exception as error:  # of any kind: the data set may be the user's own code
            self._error = self._failure(job, f"{type(error).__name__}: {error}")
            raise self._error from error

    def _failure(
        self, job: _Job, text: str, fix: str = "", kind: type[DataError] = DataError
    ) -> DataError:
        where = f"batch {job.step} of epoch {job.epoch}"
        return kind(f"Loader: {where} could not be loaded: {text}", fix=fix)

    def _after(self, epoch: int, position: int) -> tuple[int, int]:
        """Return the cursor behind a step that ended at `position`."""
        return (epoch, position) if position < self._end else (epoch + 1, 0)

    def _order(self, epoch: int) -> npt.NDArray[np.int64]:
        """Return the order of an epoch; the last two are kept, for steps across its end."""
        if epoch not in self._orders:
            while len(self._orders) > 1:
                del self._orders[min(self._orders)]
            self._orders[epoch] = (
                permutation(self._count, self.seed, epoch)
                if self.shuffle
                else np.arange(self._count)
            )
        return self._orders[epoch]

    def _plan(self) -> None:
        """Ask for one more batch."""
        epoch, position = self._planned
        end = min(position + self.batch, self._end)
        share = end - position
        # Rounded up, so that rank 0 has images as long as there are any.
        first = position + -(-share * self.rank // self.ranks)
        last = position + -(-share * (self.rank + 1) // self.ranks)
        indices = self._order(epoch)[first:last]
        step = position // self.batch
        order = self._maker.submit(indices, epoch)
        self._ahead.append(_Job(epoch, step, position, first, end, indices, order))
        self._planned = self._after(epoch, end)

    def _check_usable(self) -> None:
        if self._closed:
            raise ArgumentError("Loader: it is closed.")
        if self._error is not None:
            raise self._error
        if os.getpid() != self._owner:
            # Threads do not survive a fork: waiting for one would last for ever.
            raise ArgumentError(
                "Loader: it was made in another process, and threads do not survive a fork.",
                fix="make the loader in the process that uses it",
            )

    def state(self) -> dict[str, int]:
        """Return the cursor behind the last batch handed out: plain integers, fit for JSON.

        `position` counts images over all ranks. Batches loaded ahead are not counted.
        """
        epoch, position = self._cursor
        return {"epoch": epoch, "position": position, "seed": self.seed, "images": self._count}

    def set_state(self, state: dict[str, int]) -> None:
        """Go to a cursor from `state`: the batches that follow have the bits they would have had.

        Raises `DataError` where it comes from another data set or seed, or is damaged.
        """
        for key in ("epoch", "position", "seed", "images"):
            if type(state.get(key)) is not int:
                raise DataError(f"Loader: the state's `{key}` must be an integer: {state!r}.")
        for key, ours in (("images", self._count), ("seed", self.seed)):
            if state[key] != ours:
                raise DataError(
                    f"Loader: the state is of a run with {key}={state[key]}; "
                    f"this loader has {key}={ours}.",
                    fix=f"use the same {'data set' if key == 'images' else 'seed'}",
                )
        if state["epoch"] < 0 or not 0 <= state["position"] < self._count:
            raise DataError(
                f"Loader: the state's epoch and position must lie in 0 .. and "
                f"0 .. {self._count - 1}, got {state['epoch']} and {state['position']}."
            )
        if self.drop_last and state["position"] % self.batch:
            raise DataError(
                f"Loader: position {state['position']} is not between two batches of "
                f"{self.batch} images, and drop_last allows whole batches only.",
                fix="use the batch of the run that was saved",
            )
        self._drop_ahead()
        self._error = None
        self._cursor = self._planned = self._after(state["epoch"], state["position"])

    def _drop_ahead(self) -> None:
        while self._ahead:
            self._maker.drop(self._ahead.popleft().order)

    def close(self) -> None:
        """Stop the threads or the process, forget the batches made ahead; may be called twice."""
        self._closed = True
        try:
            self._drop_ahead()
        finally:
            self._maker.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
