"""Rapid-INR: images as small networks, many of them fitted at once.

Chen, Yang, Fitzmeyer, Hao: "Rapid-INR: Storage Efficient CPU-free DNN Training Using INR", 2023
(arXiv 2306.16699). Published code fits one image after another; here those of one size go through
one step together, and images of another size are another batch.
"""

from __future__ import annotations

import hashlib
import math
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from symgraph.compression.inr_lanes import Lanes, Numbers, Task
from symgraph.data.dataset import Images
from symgraph.data.images import MAX_SIZE
from symgraph.data.inrset import InrSet, quantised
from symgraph.data.siren import COLOURS, Floats, Siren, psnr
from symgraph.errors import ArgumentError, ArgumentTypeError, DataError
from symgraph.frozen import frozen
from symgraph.io import (
    Checkpoint,
    check_matches,
    list_checkpoints,
    load_checkpoint,
    save_checkpoint,
)

Array = npt.NDArray[Any]

MAX_CLASSES = 1 << 20  # where they have no names
PIXELS = 1 << 16  # pixels of all lanes together, unless told otherwise
LARGEST = 2**63 - 1
CHECK = 20  # steps between two looks at the errors
NARROW = 100  # steps that must be left for fewer lanes to be worth compiling again


@frozen
class Fitting:
    """How images are fitted: Adam steps of each, rate at the start, and when to stop.

    An image stops before `steps` once it is at least `target` decibels good. `lanes` are images at
    a time (default: as many as have about 65,536 pixels), `seed` that of the numbers to begin with.
    """

    steps: int = 1000
    rate: float = 5e-3
    target: float | None = None
    lanes: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        for name, least in (("steps", 1), ("lanes", 1), ("seed", 0)):
            value = getattr(self, name)
            if name == "lanes" and value is None:
                continue
            whole = isinstance(value, int) and not isinstance(value, bool)
            if not (whole and least <= value <= LARGEST):
                raise ArgumentError(
                    f"Fitting: {name} must be an int in {least} .. 2**63 - 1, got {value!r:.40}."
                )
        for name in ("rate", "target"):
            value = getattr(self, name)
            if name == "target" and value is None:
                continue
            number = isinstance(value, int | float) and not isinstance(value, bool)
            if not (number and math.isfinite(value) and value > 0):
                raise ArgumentError(
                    f"Fitting: {name} must be a finite number above 0, got {value!r:.40}."
                )


@frozen
class Course:
    """How far the fitting has come: images done of `total`, steps taken, the mean quality.

    `share` is what is behind of all the work, from 0 to 1: an image that is done early has had all
    its steps. `round` of `rounds` is that of `smaller`, which fits several times.
    """

    done: int
    total: int
    steps: int
    psnr: float
    share: float
    round: int = 1
    rounds: int = 1


def encode(
    images: Images | Sequence[Images],
    siren: Siren | None = None,
    fitting: Fitting | None = None,
    *,
    labels: npt.ArrayLike | None = None,
    classes: Sequence[str] = (),
    folder: str | os.PathLike[str] | None = None,
    every: float = 60.0,
    watch: Callable[[Course], None] | None = None,
    backend: str | None = None,
) -> InrSet:
    """Fit a network to each of the images, uint8 (3, H, W) of any sizes, and give them as a set.

    With a `folder`, checkpoints lie there, one `every` so many seconds; a call with the same
    arguments goes on from the last one. `watch` is told how far it has come; what it raises, to
    stop, ends the fitting behind a checkpoint. An image that does not reach its target is kept as
    good as it became: see `InrSet.check_target`.

    Raises `ArgumentError`, `ArgumentTypeError` and `DataError` for images that are none, labels
    that do not fit, and a folder with checkpoints of something else.
    """
    siren, fitting = siren or Siren(), fitting or Fitting()
    given = checked_images(images, "encode")
    tags, names = checked_labels(labels, classes, len(given), "encode")

    def start(image: int) -> Numbers:
        key = np.array([fitting.seed, image], np.uint64)
        return Numbers(*siren.start(np.random.Generator(np.random.Philox(key=key))))

    layers = len(siren.sizes)
    task = Task(("float32",) * layers, (None,) * layers)
    run = Run(given, siren, fitting, task, start, backend=backend, watch=watch)
    run.work(None if folder is None else Path(folder), every)
    return run.result(tags, names)


def checked_images(images: Any, name: str) -> list[Images]:
    """Give images as a list of uint8 (3, H, W), or raise what is wrong with them."""
    given = list(images)
    if not given:
        raise DataError(f"{name}: there are no images.", fix="give at least one")
    for place, one in enumerate(given):
        if not isinstance(one, np.ndarray) or one.dtype != np.uint8:
            got = one.dtype if isinstance(one, np.ndarray) else type(one).__name__
            raise ArgumentTypeError(f"{name}: image {place} must be a uint8 array, got {got}.")
        if one.ndim != 3 or one.shape[0] != COLOURS or min(one.shape[1:]) < 1:
            raise ArgumentError(
                f"{name}: image {place} must have shape (3, H, W), got {one.shape}.",
                fix="colours come first: image.transpose(2, 0, 1)",
            )
        if max(one.shape[1:]) > MAX_SIZE:
            raise ArgumentError(
                f"{name}: image {place} has a side of {max(one.shape[1:])} pixels, "
                f"more than {MAX_SIZE}."
            )
    return given


def checked_labels(
    labels: npt.ArrayLike | None, classes: Sequence[str], count: int, name: str
) -> tuple[npt.NDArray[np.int32], tuple[str, ...]]:
    """Give labels as int32 (N,) and the names of their classes; zeros where there are none."""
    if isinstance(classes, str) or not all(isinstance(one, str) for one in classes):
        raise ArgumentTypeError(f"{name}: classes must be a list of names, got {classes!r:.60}.")
    if labels is None:
        return np.zeros(count, np.int32), tuple(classes) or ("image",)
    tags = np.asarray(labels)
    if tags.shape != (count,) or tags.dtype.kind not in "iu":
        raise ArgumentError(
            f"{name}: labels must be {count} integers, one for each image, "
            f"got {tags.dtype} {tags.shape}."
        )
    least, most = int(tags.min()), int(tags.max())
    bound = len(classes) or MAX_CLASSES
    if least < 0 or most >= bound:
        raise ArgumentError(
            f"{name}: labels must lie in 0 .. {bound - 1}, got {least} .. {most}.",
            fix="count classes from 0",
        )
    return tags.astype(np.int32), tuple(classes) or tuple(map(str, range(most + 1)))


class Run:
    """The fitting of all images, in batches of one size; what a checkpoint holds."""

    def __init__(
        self,
        images: Sequence[Images],
        siren: Siren,
        fitting: Fitting,
        task: Task,
        start: Callable[[int], Numbers],
        *,
        origin: InrSet | None = None,
        backend: str | None = None,
        watch: Callable[[Course], None] | None = None,
    ) -> None:
        self.origin = origin  # what `start` gives numbers of, if not of the seed alone
        self.images, self.siren, self.fitting, self.task = images, siren, fitting, task
        self.start, self.backend, self.watch = start, backend, watch
        count = len(images)
        self.done = np.zeros(count, np.bool_)
        self.errors = np.full(count, np.inf, np.float32)
        self.weights = [np.zeros((count, *shape), np.float32) for shape in siren.sizes]
        self.biases = [np.zeros((count, shape[0]), np.float32) for shape in siren.sizes]
        self.steps = 0
        self.folder: Path | None = None
        self.every, self.saved = math.inf, time.monotonic()

    def work(self, folder: Path | None = None, every: float = 60.0) -> None:
        """Fit all images that are not done yet."""
        lanes = None
        if folder is not None:
            self.folder, self.every = folder, every
            self.digest = self._digest()
            lanes = self._restored(folder)
        for size, members in sorted(self.buckets().items()):
            self._fit(size, members, lanes if lanes is not None and lanes.size == size else None)
        self._save(None)

    def buckets(self) -> dict[tuple[int, int], list[int]]:
        """List the images that are not done by height and width."""
        found: dict[tuple[int, int], list[int]] = {}
        for place in np.flatnonzero(~self.done).tolist():
            height, width = self.images[place].shape[1:]
            found.setdefault((height, width), []).append(place)
        return found

    def _lanes(self, size: tuple[int, int], count: int) -> Lanes:
        fitting = self.fitting
        return Lanes(self.siren, size, count, fitting.rate, fitting.steps, self.task, self.backend)

    def _fit(self, size: tuple[int, int], members: list[int], lanes: Lanes | None) -> None:
        """Fit the images of one size: free lanes take the next ones, until none are left."""
        if lanes is None:
            room = self.fitting.lanes or max(1, PIXELS // (size[0] * size[1]))
            lanes = self._lanes(size, min(room, len(members)))
        begun = set(lanes.images.tolist())
        waiting = [one for one in members if one not in begun]
        while True:
            free = np.flatnonzero(~lanes.busy).tolist()
            taken, waiting = waiting[: len(free)], waiting[len(free) :]
            lanes.put(
                {at: (one, self.images[one], self.start(one)) for at, one in zip(free, taken)}
            )
            if not lanes.busy.any():
                return
            if 2 * int(lanes.busy.sum()) <= lanes.count and lanes.left() >= NARROW:
                lanes = lanes.narrowed()
            steps = min(CHECK, lanes.left())
            errors = lanes.advance(steps)
            if self.task.dynamic:
                lanes.choose()
            self.steps += steps
            self._harvest(lanes, errors)
            told = False
            try:
                self._tell(lanes, errors)
                told = True
            finally:  # who stops it there loses nothing
                if not told or time.monotonic() - self.saved >= self.every:
                    self._save(lanes)

    def _harvest(self, lanes: Lanes, errors: Floats) -> None:
        """Keep the numbers of images that are good enough, or have had all their steps."""
        enough = lanes.taken >= lanes.steps
        if self.fitting.target is not None:
            enough |= psnr(errors) >= self.fitting.target
        ready = np.flatnonzero(enough & lanes.busy).tolist()
        if not ready:
            return
        for lane, numbers in zip(ready, lanes.best(ready), strict=True):
            image = int(lanes.images[lane])
            self.done[image], self.errors[image] = True, numbers.error
            for k, (weight, bias) in enumerate(zip(numbers.weights, numbers.biases)):
                self.weights[k][image], self.biases[k][image] = weight, bias
        lanes.release(ready)

    def _tell(self, lanes: Lanes, errors: Floats) -> None:
        if self.watch is None:
            return
        present = np.concatenate([self.errors[self.done], errors[lanes.busy]])
        mean = float(psnr(np.maximum(present, 1e-9)).mean())
        done, total = int(self.done.sum()), len(self.images)
        behind = done + int(lanes.taken[lanes.busy].sum()) / lanes.steps
        self.watch(Course(done, total, self.steps, mean, behind / total))

    def result(self, labels: npt.NDArray[np.int32], classes: tuple[str, ...]) -> InrSet:
        """Give all images as a set."""
        sizes = np.array([one.shape[1:] for one in self.images], np.int32)
        layers = [
            quantised(weight, bias, dtype, kept)
            for weight, bias, dtype, kept in zip(
                self.weights, self.biases, self.task.dtypes, self.task.kept, strict=True
            )
        ]
        return InrSet(self.siren, tuple(layers), sizes, labels, classes, self.errors)

    # -- checkpoints -------------------------------------------------------------------------------

    def _digest(self) -> str:
        """Give a digest of everything that the result depends on."""
        found = hashlib.sha256(
            repr((asdict(self.siren), asdict(self.fitting), asdict(self.task))).encode()
        )
        layers = () if self.origin is None else self.origin.layers
        before: list[Array] = [array for layer in layers for array in layer.floats()]
        for array in [*self.images, *before]:
            found.update(repr(array.shape).encode())
            found.update(np.ascontiguousarray(array).data)
        return found.hexdigest()

    def _tensors(self, lanes: Lanes | None) -> dict[str, Array]:
        """Give what a checkpoint holds: what is done, and the lanes."""
        found: dict[str, Array] = {"done": self.done, "errors": self.errors}
        for k, (weight, bias) in enumerate(zip(self.weights, self.biases)):
            found |= {f"weight.{k}": weight, f"bias.{k}": bias}
        if lanes is not None:
            found |= {f"lanes.{name}": array for name, array in lanes.state().items()}
            found |= {"lanes.images": lanes.images, "lanes.taken": lanes.taken}
        return found

    def _save(self, lanes: Lanes | None) -> None:
        """Write a checkpoint."""
        if self.folder is None:
            return
        size = [] if lanes is None else list(lanes.size)
        meta = {"what": "inr", "digest": self.digest, "step": self.steps, "size": size}
        save_checkpoint(self.folder, self._tensors(lanes), meta, keep=1)
        self.saved = time.monotonic()

    def _restored(self, folder: Path) -> Lanes | None:
        """Go back to the last checkpoint in a folder, if there is one; give its lanes."""
        if not list_checkpoints(folder):
            return None
        found = load_checkpoint(folder)
        if found.meta.get("what") != "inr" or found.meta.get("digest") != self.digest:
            raise DataError(
                f"{found.path} belongs to the fitting of other images, or with other settings.",
                fix="give the same images and settings, another folder, or remove this one",
            )
        tensors, step = found.tensors, found.meta.get("step")
        lanes = self._lanes_of(found)
        expected = self._tensors(lanes)
        check_matches(
            found, {name: (a.shape, a.dtype) for name, a in expected.items()}, "this fitting"
        )
        if type(step) is not int or step < 0:
            raise _damaged(found)
        self.done, self.errors, self.steps = tensors["done"], tensors["errors"], step
        layers = range(len(self.weights))
        self.weights = [tensors[f"weight.{k}"] for k in layers]
        self.biases = [tensors[f"bias.{k}"] for k in layers]
        if lanes is None:
            return None
        lanes.images, lanes.taken = tensors["lanes.images"], tensors["lanes.taken"]
        waiting = self.buckets().get(lanes.size, [])
        target = np.zeros(lanes.variables["target"].shape, np.uint8)
        for lane in np.flatnonzero(lanes.busy).tolist():
            image = int(lanes.images[lane])
            if image not in waiting or not 0 <= int(lanes.taken[lane]) <= lanes.steps:
                raise _damaged(found)
            target[lane] = self.images[image].reshape(COLOURS, -1)
        lanes.load({name: tensors.get(f"lanes.{name}", target) for name in lanes.variables})
        return lanes

    def _lanes_of(self, found: Checkpoint) -> Lanes | None:
        """Make as many lanes as a checkpoint has, if any."""
        if "lanes.images" not in found.tensors:
            return None
        count, size = found.tensors["lanes.images"].size, found.meta.get("size")
        for one in self.images:
            if list(one.shape[1:]) == size and 1 <= count <= len(self.images):
                return self._lanes((one.shape[1], one.shape[2]), count)
        raise _damaged(found)


def _damaged(found: Checkpoint) -> DataError:
    return DataError(f"{found.path} does not fit its own images.", fix="remove it, and begin again")
