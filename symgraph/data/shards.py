"""A prepared data set, read through memory maps and trusted only as far as it has been checked."""

from __future__ import annotations

import hashlib
import mmap
import os
import threading
from bisect import bisect_right
from collections.abc import Callable
from itertools import accumulate
from pathlib import Path
from typing import BinaryIO

import numpy as np
import numpy.typing as npt

from symgraph.data.dataset import Images, Labels, Mean, check_indices
from symgraph.data.index import SPLITS, FileEntry, Index, files, read_index
from symgraph.data.npy import check_header, open_plain, read_part, shown
from symgraph.errors import ArgumentError, DataError

Progress = Callable[[int, int], None]

_PART = 1 << 20


def _check_digest(file: BinaryIO, entry: FileEntry, where: str) -> None:
    """Raise `DataError` where the bytes of the file are not those that were written."""
    digest = hashlib.sha256()
    # By reading, not through the map: a bad disk is then an error and not a signal.
    file.seek(0)
    while part := read_part(file, _PART, where):
        digest.update(part)
    found = digest.hexdigest()
    if found != entry.sha256:
        raise DataError(
            f"{where} is damaged: its sha256 is not the one in the index.",
            details=[f"expected: {entry.sha256}", f"got     : {found}"],
            fix="copy the file again, or prepare the data set again",
        )


def _map(
    folder: Path, entry: FileEntry, dtype: str, shape: tuple[int, ...], verify: bool
) -> npt.NDArray[np.generic]:
    """Return a read-only array over a file of the data set, checked against the index."""
    where = shown(folder / entry.file)
    with open_plain(folder, entry.file) as file:
        offset = check_header(file, where, dtype, shape)
        if verify:
            _check_digest(file, entry, where)
        view = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    return np.frombuffer(view, dtype=dtype, offset=offset).reshape(shape)


def _read_labels(folder: Path, entry: FileEntry, classes: int) -> Labels:
    """Return a private copy of a split's labels, all of them in range."""
    labels = np.array(_map(folder, entry, "<i4", (entry.count,), True), dtype=np.int32)
    if int(labels.min()) < 0 or int(labels.max()) >= classes:
        raise DataError(
            f"{shown(folder / entry.file)}: labels must lie in 0 .. {classes - 1}, "
            f"got {int(labels.min())} .. {int(labels.max())}."
        )
    return labels


def _read_mean(folder: Path, entry: FileEntry, size: int) -> Mean:
    """Return a private copy of the mean image, its values within 0 .. 255."""
    shape = (3, size, size)
    mean = np.array(_map(folder, entry, "<f4", shape, True), dtype=np.float32)
    if not bool(((mean >= 0) & (mean <= 255)).all()):
        raise DataError(f"{shown(folder / entry.file)}: the mean image must lie in 0 .. 255.")
    mean.flags.writeable = False
    return mean


class ShardedDataset:
    """One split of a data set written by `prepare`; follows the `Dataset` protocol.

    The index, the labels and the mean image are checked when it is opened, each shard when it is
    first read: its header, its size and, unless `verify=False`, the sha256 of its bytes. For a set
    larger than memory, check it once with `python -m symgraph data check` and pass `verify=False`,
    because a shuffled epoch touches every shard almost at once. Reading is safe from many threads;
    the object can be sent to a spawned process, which opens the files by itself.

    Raises `DataMissingError` where there is no data set or split, `DataError` where it is damaged.
    """

    def __init__(
        self, path: str | os.PathLike[str], split: str = "train", *, verify: bool = True
    ) -> None:
        if split not in SPLITS:
            raise ArgumentError(f"split must be one of {', '.join(SPLITS)}, got {split!r}.")
        self.path = Path(path).absolute()
        self.split = split
        self.verify = verify
        self.index: Index = read_index(self.path)
        if split not in self.index.splits:
            raise DataError(
                f"{shown(self.path)} has no {split} split; it has "
                f"{', '.join(sorted(self.index.splits))}."
            )
        entry = self.index.splits[split]
        self._shards = entry.shards
        self._starts = [0, *accumulate(shard.count for shard in entry.shards)]
        self._labels = _read_labels(self.path, entry.labels, len(self.index.classes))
        self._mean = _read_mean(self.path, self.index.mean, self.index.image_size)
        self._maps: dict[int, Images] = {}
        self._lock = threading.Lock()

    def __reduce__(self) -> tuple[object, ...]:
        return _reopen, (str(self.path), self.split, self.verify)

    def __len__(self) -> int:
        return len(self._labels)

    def __repr__(self) -> str:
        size = self.image_size
        return (
            f"ShardedDataset({shown(self.path)!r}, {self.split}: {len(self)} images of "
            f"3 x {size} x {size}, {len(self.index.classes)} classes)"
        )

    @property
    def classes(self) -> list[str]:
        """The name of each label: the class folders of the source, in order."""
        return list(self.index.classes)

    @property
    def image_size(self) -> int:
        """The side S of the stored images, in pixels."""
        return self.index.image_size

    @property
    def mean_image(self) -> Mean:
        """The mean of the training images: float32 (3, S, S), read-only."""
        return self._mean

    def _shard(self, number: int) -> Images:
        """Return a shard's images, opening and checking it the first time."""
        images = self._maps.get(number)
        if images is None:
            with self._lock:
                images = self._maps.get(number)
                if images is None:
                    entry, size = self._shards[number], self.image_size
                    shape = (entry.count, 3, size, size)
                    opened = _map(self.path, entry, "|u1", shape, self.verify)
                    images = self._maps[number] = opened.astype(np.uint8, copy=False)
        return images

    def read(self, indices: npt.ArrayLike) -> tuple[Images, Labels]:
        """Return copies of the images uint8 (n, 3, S, S) and labels int32 (n,) at `indices`.

        Raises `DataError` that names the shard where one is damaged.
        """
        wanted = check_indices(indices, len(self), "ShardedDataset.read")
        size = self.image_size
        images = np.empty((len(wanted), 3, size, size), dtype=np.uint8)
        for row, index in enumerate(wanted.tolist()):
            number = bisect_right(self._starts, index) - 1
            images[row] = self._shard(number)[index - self._starts[number]]
        return images, self._labels[wanted]

    def examine(self, indices: npt.ArrayLike) -> None:
        """Raise `DataError` that names a file from which these images cannot be read any more.

        For after a crash: a file that was cut short, or a disk that fails, ends a process that
        looks at it through a memory map. Here it is read.
        """
        size = 3 * self.image_size**2
        for index in check_indices(indices, len(self), "ShardedDataset.examine").tolist():
            number = bisect_right(self._starts, index) - 1
            entry, where = self._shards[number], shown(self.path / self._shards[number].file)
            shape = (entry.count, 3, self.image_size, self.image_size)
            with open_plain(self.path, entry.file) as file:
                offset = check_header(file, where, "|u1", shape)
                file.seek(offset + (index - self._starts[number]) * size)
                read_part(file, size, where)


def _reopen(path: str, split: str, verify: bool) -> ShardedDataset:
    return ShardedDataset(path, split, verify=verify)


def open_dataset(
    path: str | os.PathLike[str], split: str = "train", *, verify: bool = True
) -> ShardedDataset:
    """Open one split, "train" or "validation", of a data set written by `prepare`.

    Raises `DataMissingError` where there is none and `DataError` where it is damaged.
    """
    return ShardedDataset(path, split, verify=verify)


def check_dataset(path: str | os.PathLike[str], progress: Progress | None = None) -> list[str]:
    """Check every file of a data set, checksums included; return what is wrong, one line each.

    `progress(done, total)` counts files. Raises `DataError` where the index itself cannot be read.
    """
    folder = Path(path).absolute()
    index = read_index(folder)
    size, problems, entries = index.image_size, [], files(index)
    labels = {split.labels.file for split in index.splits.values()}
    for number, entry in enumerate(entries):
        try:
            if entry is index.mean:
                _read_mean(folder, entry, size)
            elif entry.file in labels:
                _read_labels(folder, entry, len(index.classes))
            else:
                _map(folder, entry, "|u1", (entry.count, 3, size, size), True)
        except DataError as error:
            problems.append(str(error))
        if progress is not None:
            progress(number + 1, len(entries))
    return problems
