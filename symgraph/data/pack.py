"""A folder of images to a data set of uint8 shards, once, so that training only reads."""

from __future__ import annotations

import os
import shutil
import warnings
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from symgraph.data.dataset import Images
from symgraph.data.draws import check_seed
from symgraph.data.images import MAX_PIXELS, check_size, decode_file, require_pil
from symgraph.data.index import INDEX_FILE, FileEntry, Index, SplitEntry, encode, is_prepared
from symgraph.data.npy import header, shown
from symgraph.data.source import ImageFile, Listing, Skipped, list_source
from symgraph.data.staging import Staging
from symgraph.errors import ArgumentError, DataError
from symgraph.frozen import frozen

_MAX_SHARD_BYTES = 1 << 30
# Decoded images that wait for their turn, for each thread: bounds the memory.
_AHEAD = 4

Progress = Callable[[int, int], None]


@frozen
class Report:
    """What `prepare` did: images stored by split, files skipped and why, names not looked at."""

    path: Path
    classes: list[str]
    counts: dict[str, int]
    skipped: list[Skipped]
    ignored: list[str]


@frozen
class _Options:
    size: int
    shard_images: int
    seed: int
    keep_aspect: bool
    jobs: int
    max_pixels: int

    @property
    def image_bytes(self) -> int:
        return 3 * self.size * self.size


@dataclass
class _Progress:
    """Counts finished images over both splits for the caller's callback."""

    total: int
    callback: Progress | None
    done: int = 0

    def step(self) -> None:
        self.done += 1
        if self.callback is not None:
            self.callback(self.done, self.total)


@dataclass
class _SplitWriter:
    """Collects one split's images into shards and sums them exactly."""

    staging: Staging
    name: str
    options: _Options
    labels: list[int] = field(default_factory=list)
    shards: list[FileEntry] = field(default_factory=list)

    def __post_init__(self) -> None:
        shape = (3, self.options.size, self.options.size)
        self._buffer = np.empty((self.options.shard_images, *shape), dtype=np.uint8)
        self._filled = 0
        self.total = np.zeros(shape, dtype=np.uint64)

    def add(self, image: Images, label: int) -> None:
        self._buffer[self._filled] = image
        self._filled += 1
        self.labels.append(label)
        if self._filled == len(self._buffer):
            self.flush()

    def flush(self) -> None:
        """Write the images collected so far as one shard."""
        if not self._filled:
            return
        images = self._buffer[: self._filled]
        # Integers: the sum is exact whatever the order, so the mean is rounded once, at its end.
        self.total += images.sum(axis=0, dtype=np.uint64)
        file = f"{self.name}-{len(self.shards):05d}.npy"
        digest = _write_array(self.staging, file, images, "|u1")
        self.shards.append(FileEntry(file, self._filled, digest))
        self._filled = 0

    def finish(self) -> SplitEntry:
        self.flush()
        file, count = f"{self.name}-labels.npy", len(self.labels)
        digest = _write_array(self.staging, file, np.array(self.labels, dtype="<i4"), "<i4")
        return SplitEntry(count, FileEntry(file, count, digest), tuple(self.shards))


def _write_array(staging: Staging, file: str, array: npt.NDArray[np.generic], dtype: str) -> str:
    """Write one .npy file and return its sha256."""
    data = np.ascontiguousarray(array).reshape(-1).view(np.uint8).data
    return staging.write(file, [header(dtype, array.shape), data])


def _decode(path: str, options: _Options) -> Images | str:
    """Return the pixels of a file, or why it has none."""
    try:
        return decode_file(path, options.size, options.keep_aspect, options.max_pixels)
    except DataError as error:
        return error.message


def _decoded(
    pool: ThreadPoolExecutor, root: Path, items: list[ImageFile], options: _Options
) -> Iterator[tuple[ImageFile, Images | str]]:
    """Decode in parallel, yield in order, and never hold more than a few images."""
    waiting: deque[tuple[ImageFile, Future[Images | str]]] = deque()
    for item in items:
        path = os.path.join(root, item.name)
        waiting.append((item, pool.submit(_decode, path, options)))
        if len(waiting) >= options.jobs * _AHEAD:
            first, future = waiting.popleft()
            yield first, future.result()
    while waiting:
        first, future = waiting.popleft()
        yield first, future.result()


def _write_split(
    writer: _SplitWriter,
    pool: ThreadPoolExecutor,
    listing: Listing,
    skipped: list[Skipped],
    progress: _Progress,
) -> SplitEntry:
    """Store one split; files that cannot be decoded are noted in `skipped`."""
    items = listing.splits[writer.name]
    for item, result in _decoded(pool, listing.root, items, writer.options):
        if isinstance(result, str):
            skipped.append(Skipped(shown(item.name), result))
        else:
            writer.add(result, item.label)
        progress.step()
    if not writer.labels:
        raise _all_failed(f"{writer.name} images", skipped)
    missing = set(range(len(listing.classes))) - set(writer.labels)
    if missing and writer.name == "train":
        names = ", ".join(shown(listing.classes[label]) for label in sorted(missing)[:5])
        raise _all_failed(f"training images of {len(missing)} classes ({names})", skipped)
    return writer.finish()


def _all_failed(what: str, skipped: list[Skipped]) -> DataError:
    return DataError(
        f"None of the {what} could be read.",
        details=[f"{item.file}: {item.reason}" for item in skipped[:5]],
        fix="look at the files named above; `load_image` reads a single one",
    )


def _processors() -> int:
    """Return how many processors this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _check_options(
    size: int, shard_images: int, seed: int, keep_aspect: bool, jobs: int | None, max_pixels: int
) -> _Options:
    for name, value in (("shard_images", shard_images), ("jobs", jobs), ("max_pixels", max_pixels)):
        if value is not None and (type(value) is not int or value < 1):
            raise ArgumentError(f"{name} must be a positive integer, got {value!r}.")
    threads = jobs if jobs is not None else min(_processors(), 16)
    options = _Options(
        check_size(size), shard_images, check_seed(seed), keep_aspect, threads, max_pixels
    )
    if shard_images * options.image_bytes > _MAX_SHARD_BYTES:
        raise ArgumentError(
            f"A shard of {shard_images} images of side {size} would have "
            f"{shard_images * options.image_bytes} bytes; at most {_MAX_SHARD_BYTES} are allowed.",
            fix=f"pass shard_images={_MAX_SHARD_BYTES // options.image_bytes} or less",
        )
    return options


def _check_target(source: str | os.PathLike[str], out: Path, overwrite: bool) -> None:
    """Refuse targets whose making or replacing would destroy something else."""
    source_path, out_path = os.path.realpath(source), os.path.realpath(out)
    if not out.name:
        raise ArgumentError(f"OUT must name a folder, got {str(out)!r}.")
    if os.path.commonpath([source_path, out_path]) in (source_path, out_path):
        raise DataError(
            "The data set cannot be written inside its source, nor around it.",
            details=[f"source: {shown(source_path)}", f"out   : {shown(out_path)}"],
            fix="choose a folder beside the source",
        )
    if overwrite and os.path.lexists(out) and not is_prepared(out):
        raise DataError(
            f"{shown(out)} is not a prepared data set, or holds other files too, so it is not "
            "overwritten.",
            fix="remove it yourself, or choose another place",
        )


def _check_space(out: Path, images: int, options: _Options) -> None:
    """Fail before the first image, not after two days, where the disk is too small."""
    needed = images * (options.image_bytes + 4)
    free = shutil.disk_usage(out.parent).free
    if needed > free:
        raise DataError(
            f"{shown(out)} would need {needed / 1e9:.1f} GB for {images} images; "
            f"{free / 1e9:.1f} GB are free.",
            fix="free some disk space, choose a place on another disk, or a smaller size",
        )


def _mean(total: npt.NDArray[np.uint64], count: int) -> npt.NDArray[np.float32]:
    """Return the mean image from the exact sum: below 2**53, so float64 holds it exactly."""
    return (total.astype(np.float64) / count).astype("<f4")


def prepare(
    source: str | os.PathLike[str],
    out: str | os.PathLike[str],
    size: int = 256,
    shard_images: int = 256,
    seed: int = 1,
    validation: float | None = None,
    *,
    keep_aspect: bool = False,
    overwrite: bool = False,
    jobs: int | None = None,
    max_pixels: int = MAX_PIXELS,
    progress: Progress | None = None,
) -> Report:
    """Turn a folder of images (one sub-folder for each class) into a data set at `out`.

    Images become uint8 (3, size, size), see `load_image`; the file list is shuffled once, by
    `seed`; `shard_images` of them make a shard (n, 3, size, size). `train/` and `val/` splits are
    kept where the source has them, else a fraction `validation` (default 0.1) of each class is
    held out. The mean image is that of the training split, from exact sums. Damaged files are
    skipped and listed in the report. `progress(done, total)` counts images.

    `out` appears whole or not at all; an existing data set is replaced only with `overwrite`.
    Raises `DataMissingError` and `DataError` for a source or a target that cannot be used.
    """
    require_pil()
    options = _check_options(size, shard_images, seed, keep_aspect, jobs, max_pixels)
    target = Path(out).absolute()
    _check_target(source, target, overwrite)
    listing = list_source(source, validation, options.seed)
    images = sum(len(items) for items in listing.splits.values())
    skipped = list(listing.skipped)
    counter = _Progress(images, progress)
    with Staging(target, replace=overwrite) as staging:
        _check_space(target, images, options)
        splits = _write_splits(staging, listing, skipped, options, counter)
        counts = {name: entry.count for name, entry in splits.items()}
        staging.commit()
    return Report(target, listing.classes, counts, skipped, listing.ignored)


def _write_splits(
    staging: Staging,
    listing: Listing,
    skipped: list[Skipped],
    options: _Options,
    progress: _Progress,
) -> dict[str, SplitEntry]:
    """Write all files of the data set into the staging folder, the index last."""
    splits: dict[str, SplitEntry] = {}
    mean = np.zeros(0, dtype=np.float32)
    pool = ThreadPoolExecutor(options.jobs, thread_name_prefix="symgraph-prepare")
    try:
        with warnings.catch_warnings():
            # PIL warns of odd metadata and large images; what matters is in `skipped`.
            warnings.filterwarnings("ignore", module=r"PIL\.")
            for name in listing.splits:
                writer = _SplitWriter(staging, name, options)
                splits[name] = _write_split(writer, pool, listing, skipped, progress)
                if name == "train":
                    mean = _mean(writer.total, len(writer.labels))
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
    digest = _write_array(staging, "mean.npy", mean, "<f4")
    index = Index(
        classes=tuple(shown(name) for name in listing.classes),
        image_size=options.size,
        seed=options.seed,
        keep_aspect=options.keep_aspect,
        mean=FileEntry("mean.npy", 1, digest),
        splits=splits,
        skipped=tuple(skipped),
    )
    staging.write(INDEX_FILE, [encode(index)])
    return splits
