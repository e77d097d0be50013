"""CIFAR-10, CIFAR-100 and MNIST in the files in which their authors give them.

Read as they are, from a folder or, of CIFAR, from the `.tar.gz` with binary files: bytes at known
places, whose sizes are compared with what a set of images has before anything is made of them. The
files of CIFAR for Python are pickles, which run programs when they are opened, and are refused.
"""

from __future__ import annotations

import gzip
import os
import tarfile
import zlib
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from symgraph.data.dataset import Images, Labels, Mean, check_indices
from symgraph.data.index import SPLITS
from symgraph.data.npy import open_plain, shown
from symgraph.errors import ArgumentError, DataError, DataMissingError

Bytes = npt.NDArray[np.uint8]

_CIFAR_SIDE = 32
_MAX_SIDE = 1024
_MAX_BYTES = 1 << 28  # of a file, unpacked; the largest of these sets has 154 MB
_MAX_MEMBERS = 1000  # of a tar file; there are ten at most
_MAX_UNPACKED = 1 << 30  # of a tar file; the largest has 185 MB
_GZIP = b"\x1f\x8b"
_PACKED = ".gz"

_TRAIN_10 = tuple(f"data_batch_{number}.bin" for number in range(1, 6))
_TRAIN_MNIST = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte")
_TEST_MNIST = ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")
#  kind: files of each split, file with names of classes, number of classes
_SETS = {
    "CIFAR-10": ((_TRAIN_10, ("test_batch.bin",)), "batches.meta.txt", 10),
    "CIFAR-100": ((("train.bin",), ("test.bin",)), "fine_label_names.txt", 100),
    "MNIST": ((_TRAIN_MNIST, _TEST_MNIST), "", 10),
}
_PICKLES, _PICKLED = ("data_batch_1", "train"), "pickles"  # of CIFAR for Python


class Archive:
    """One split of CIFAR-10, CIFAR-100 or MNIST; follows the `Dataset` protocol.

    `kind` names the set; "validation" is what its authors call the test set. Grey images become
    three equal channels. All images of a split are in memory, at most 154 MB.
    """

    def __init__(self, path: str | os.PathLike[str], split: str = "train") -> None:
        if split not in SPLITS:
            raise ArgumentError(f"split must be one of {', '.join(SPLITS)}, got {split!r}.")
        self.path, self.split = Path(path).absolute(), split
        self.kind = _kind(self.path)
        self._pixels, self._labels, self._classes = _read(self.path, self.kind, split)

    def __reduce__(self) -> tuple[object, ...]:
        return Archive, (str(self.path), self.split)

    def __len__(self) -> int:
        return len(self._labels)

    def __repr__(self) -> str:
        side = self.image_size
        return f"Archive({self.kind}, {self.split}: {len(self)} images of 3 x {side} x {side})"

    @property
    def classes(self) -> list[str]:
        """The name of each label; where the files have none, its number."""
        return list(self._classes)

    @property
    def image_size(self) -> int:
        """The side of the images, in pixels."""
        return int(self._pixels.shape[-1])

    @property
    def mean_image(self) -> Mean:
        """The mean of the training images: float32 (3, S, S), read-only."""
        return _mean(self.path)

    @property
    def mirror(self) -> bool:
        """Whether a mirrored image shows the same: not where it is a digit."""
        return self.kind != "MNIST"

    def read(self, indices: npt.ArrayLike) -> tuple[Images, Labels]:
        """Return the images uint8 (n, 3, S, S) and labels int32 (n,) at these indices."""
        wanted = check_indices(indices, len(self), "Archive.read")
        side = self.image_size
        images = np.empty((len(wanted), 3, side, side), dtype=np.uint8)
        images[:] = self._pixels[wanted]
        return images, self._labels[wanted]


def open_archive(path: str | os.PathLike[str], split: str = "train") -> Archive:
    """Open CIFAR-10, CIFAR-100 or MNIST, "train" or "validation".

    `path` is the folder with the files as published (`data_batch_1.bin`, `train.bin`, or
    `train-images-idx3-ubyte`, also with `.gz`), or the `.tar.gz` of CIFAR's binary version. Raises
    `DataMissingError` where nothing is there, `DataError` where it is something else or damaged.
    """
    return Archive(path, split)


def is_archive(path: str | os.PathLike[str]) -> bool:
    """Tell whether a path looks like one of these sets, by the names of the files in it."""
    try:
        return _looks_like(Path(path)) is not None
    except DataError:
        return False


def _looks_like(path: Path) -> str | None:
    names = _names(path)
    for kind, ((train, _), _, _) in _SETS.items():
        if train[0] in names or train[0] + _PACKED in names:
            return kind
    return _PICKLED if any(name in names for name in _PICKLES) else None


def _kind(path: Path) -> str:
    """Give the set; raises `DataError` where it is none of them."""
    found = _looks_like(path)
    if found in _SETS:
        return found
    if found == _PICKLED:
        raise DataError(
            f"{shown(path)} is CIFAR for Python: pickles, which run programs when they are opened.",
            fix="take the binary version of the set (cifar-10-binary.tar.gz)",
        )
    raise DataError(
        f"{shown(path)} is none of {', '.join(_SETS)}: a first file of training images is missing.",
        details=[f"{kind}: {train[0]}" for kind, ((train, _), _, _) in _SETS.items()],
    )


def _names(path: Path) -> set[str]:
    if path.is_dir():
        try:
            return set(os.listdir(path))
        except OSError as error:
            raise DataError(f"{shown(path)} cannot be read: {error.strerror}.") from error
    if not path.exists():
        raise DataMissingError(f"{shown(path)} does not exist.")
    about = path.stat()
    return set(_names_in_tar(path, about.st_mtime_ns, about.st_size))


@lru_cache(maxsize=4)  # a second of unpacking
def _names_in_tar(path: Path, changed: int, size: int) -> tuple[str, ...]:
    found: list[str] = []
    _walk_tar(path, lambda name, read: found.append(name))
    return tuple(found)


class _Unpacked(gzip.GzipFile):
    """A packed file of which no more is read than a set of images may have."""

    def read(self, size: int | None = -1) -> bytes:
        """Read so many bytes; raises `OSError` for more than the bound."""
        if size is not None and size > _MAX_UNPACKED:  # of a header that says so
            raise OSError(f"{size} bytes in one piece")
        return super().read(size)


def _walk_tar(path: Path, visit: Callable[[str, Callable[[], bytes]], None]) -> None:
    """Visit the plain files of a tar file by the last part of their names; nothing is unpacked.

    Packed ones are read to their end, where the sum of all bytes is compared.
    """
    try:
        with open_plain(path.parent, path.name) as file:
            packed = file.read(2) == _GZIP
            file.seek(0)
            with _Unpacked(fileobj=file) if packed else nullcontext(file) as whole:
                _walk_members(path, whole, visit)
                while packed and whole.read(1 << 20):
                    _check_unpacked(path, whole.tell())
    except (tarfile.TarError, EOFError, OSError, zlib.error) as error:
        raise DataError(
            f"{shown(path)} is no tar file, or a damaged one: {error}.",
            fix="give a prepared data set, a folder, or the .tar.gz as it was published",
        ) from error


def _walk_members(
    path: Path, whole: Any, visit: Callable[[str, Callable[[], bytes]], None]
) -> None:
    with tarfile.open(fileobj=whole, mode="r:") as tar:
        for count, member in enumerate(tar):
            if count >= _MAX_MEMBERS:
                raise DataError(f"{shown(path)} has more than {_MAX_MEMBERS} files.")
            _check_unpacked(path, member.offset_data + member.size)
            held = tar.extractfile(member) if member.isreg() else None
            if held is not None:
                name = member.name.rsplit("/", 1)[-1]
                visit(name, partial(held.read, _MAX_BYTES + 1))


def _check_unpacked(path: Path, size: int) -> None:
    if size > _MAX_UNPACKED:
        raise DataError(f"{shown(path)} has more than {_MAX_UNPACKED} bytes, unpacked.")


def _files(path: Path, wanted: tuple[str, ...]) -> Mapping[str, bytes]:
    """Read files of a folder or of a tar file; those ending in .gz are unpacked."""
    found: dict[str, bytes] = {}
    if path.is_dir():
        for name in wanted:
            for real in (name, name + _PACKED):
                if (path / real).exists():
                    found[name] = _file(path, real)
                    break
    else:

        def visit(name: str, read: Callable[[], bytes]) -> None:
            if name in wanted:
                found[name] = read()

        _walk_tar(path, visit)
    for name, data in found.items():
        if len(data) > _MAX_BYTES:
            raise DataError(f"{shown(path / name)} has more than {_MAX_BYTES} bytes.")
    return found


def _file(folder: Path, name: str) -> bytes:
    with open_plain(folder, name) as file:
        if not name.endswith(_PACKED):
            return file.read(_MAX_BYTES + 1)
        try:
            with gzip.open(file) as unpacked:
                return unpacked.read(_MAX_BYTES + 1)
        except (OSError, EOFError, zlib.error) as error:
            raise DataError(f"{shown(folder / name)} is damaged: {error}.") from error


def _read(path: Path, kind: str, split: str) -> tuple[Images, Labels, list[str]]:
    """Give pixels, (n, 3, S, S) or (n, 1, S, S), labels and names of a split."""
    splits, listed, classes = _SETS[kind]
    wanted = splits[SPLITS.index(split)]
    found = _files(path, (*wanted, listed) if listed else wanted)
    for name in wanted:
        if name not in found:
            raise DataMissingError(f"{shown(path / name)} is missing: {kind}, {split}.")
    names = found.get(listed, b"").decode("utf-8", "replace").split()
    if len(names) != classes:
        names = [str(number) for number in range(classes)]
    each = [np.frombuffer(found[name], np.uint8) for name in wanted]
    if kind == "MNIST":
        pixels, labels = _idx(each[0], each[1], path, wanted)
    else:
        records = [_records(one, path / name, kind) for one, name in zip(each, wanted)]
        whole = np.concatenate(records)
        labels, side = whole[:, -(3 * _CIFAR_SIDE**2) - 1], _CIFAR_SIDE
        pixels = whole[:, -(3 * side**2) :].reshape(-1, 3, side, side)
    if int(labels.max()) >= classes:
        raise DataError(
            f"{shown(path)}: labels must lie in 0 .. {classes - 1}, got {int(labels.max())}."
        )
    return pixels, labels.astype(np.int32), names


def _records(data: Bytes, where: Path, kind: str) -> Bytes:
    """Give the records of a file of CIFAR: labels (coarse and fine of CIFAR-100), then pixels."""
    length = 3 * _CIFAR_SIDE**2 + (2 if kind == "CIFAR-100" else 1)
    if not data.size or data.size % length:
        raise DataError(
            f"{shown(where)} is damaged: {data.size} bytes are not whole images of {length}."
        )
    return data.reshape(-1, length)


def _idx(pixels: Bytes, labels: Bytes, path: Path, names: tuple[str, ...]) -> tuple[Bytes, Bytes]:
    """Give the contents of two files of MNIST: sizes of four bytes, then a byte for each number."""
    found = []
    for data, rank, name in ((pixels, 3, names[0]), (labels, 1, names[1])):
        where, start = shown(path / name), 4 * (rank + 1)
        if data.size < start or bytes(data[:4]) != bytes((0, 0, 8, rank)):
            raise DataError(f"{where} is no file of MNIST: it begins with other bytes.")
        sizes = [int(size) for size in data[4:start].view(">u4")]
        count = data.size - start
        if not count or int(np.prod(sizes, dtype=object)) != count:
            raise DataError(f"{where} is damaged: {sizes} are the sizes of {count} bytes.")
        found.append(data[start:].reshape(sizes))
    images, marks = found
    if images.shape[1] != images.shape[2] or images.shape[1] > _MAX_SIDE:
        raise DataError(f"{shown(path / names[0])}: images must be square, got {images.shape[1:]}.")
    if len(images) != len(marks):
        raise DataError(f"{shown(path)}: {len(images)} images have {len(marks)} labels.")
    return images[:, None], marks


@lru_cache(maxsize=2)
def _mean(path: Path) -> Mean:
    """Return the mean of the training images, from exact sums."""
    pixels, _, _ = _read(path, _kind(path), "train")
    total = pixels.sum(axis=0, dtype=np.int64)
    mean: Mean = np.repeat((total / len(pixels)).astype(np.float32), 3 // len(total), axis=0)
    mean.flags.writeable = False
    return mean
