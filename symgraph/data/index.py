"""The index of a prepared data set, `index.json`: written from dataclasses, read as hostile.

What it says is bounded and checked against itself here; that the files agree with it is checked
by whoever opens them.
"""

from __future__ import annotations

import json
import re
from dataclasses import asdict
from pathlib import Path
from typing import TypeVar

from symgraph.data.images import MAX_SIZE
from symgraph.data.npy import open_plain, read_part, shown
from symgraph.data.source import Skipped
from symgraph.errors import DataError, DataMissingError
from symgraph.frozen import frozen

INDEX_FILE = "index.json"
KIND = "symgraph image shards"
FORMAT = 1
MAX_INDEX_BYTES = 1 << 26
MAX_IMAGES = (1 << 31) - 1
SPLITS = ("train", "validation")

# A plain name: no folder, no drive, nothing hidden, so a path cannot leave the data set.
_FILE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,99}\.npy")
_SHA256 = re.compile(r"[0-9a-f]{64}")

T = TypeVar("T")


@frozen
class FileEntry:
    """One .npy file: its name, the number of its rows, the sha256 of its bytes."""

    file: str
    count: int
    sha256: str


@frozen
class SplitEntry:
    """One split: its number of images, its labels, and its shards in order."""

    count: int
    labels: FileEntry
    shards: tuple[FileEntry, ...]


@frozen
class Index:
    """All that `index.json` says."""

    classes: tuple[str, ...]
    image_size: int
    seed: int
    keep_aspect: bool
    mean: FileEntry
    splits: dict[str, SplitEntry]
    skipped: tuple[Skipped, ...]


def encode(index: Index) -> bytes:
    """Return the bytes of `index.json`; `DataError` where it would be too large to read back."""
    table = {"kind": KIND, "format": FORMAT, **asdict(index)}
    data = json.dumps(table, indent=1).encode("ascii") + b"\n"
    if len(data) > MAX_INDEX_BYTES:
        raise DataError(
            f"The index would have {len(data)} bytes, more than the bound of {MAX_INDEX_BYTES}: "
            f"{len(index.classes)} classes, {len(index.skipped)} skipped files.",
            fix="look at the skipped files: is this the right source folder?",
        )
    return data


def _get(table: object, key: str, kind: type[T], where: str) -> T:
    """Return `table[key]`, which must have exactly this type: bool is no int here."""
    if type(table) is not dict:
        raise DataError(f"{where} must be an object, got {type(table).__name__}.")
    if key not in table:
        raise DataError(f"{where}: `{key}` is missing.")
    value: object = table[key]
    if type(value) is not kind:
        raise DataError(
            f"{where}: `{key}` must be of type {kind.__name__}, got {type(value).__name__}."
        )
    return value


def _bounded(table: object, key: str, low: int, high: int, where: str) -> int:
    value = _get(table, key, int, where)
    if not low <= value <= high:
        raise DataError(f"{where}: `{key}` must lie in {low} .. {high}, got {value}.")
    return value


def _file_entry(table: object, where: str) -> FileEntry:
    name = _get(table, "file", str, where)
    if not _FILE_NAME.fullmatch(name):
        raise DataError(
            f"{where}: `file` must be the plain name of a .npy file inside the data set, "
            f"got {name[:200]!r}."
        )
    digest = _get(table, "sha256", str, where)
    if not _SHA256.fullmatch(digest):
        raise DataError(f"{where}: `sha256` must be 64 hexadecimal digits, got {digest[:80]!r}.")
    return FileEntry(name, _bounded(table, "count", 1, MAX_IMAGES, where), digest)


def _split_entry(table: object, where: str) -> SplitEntry:
    count = _bounded(table, "count", 1, MAX_IMAGES, where)
    labels = _file_entry(_get(table, "labels", dict, where), f"{where}.labels")
    shards = tuple(
        _file_entry(shard, f"{where}.shards[{number}]")
        for number, shard in enumerate(_get(table, "shards", list, where))
    )
    total = sum(shard.count for shard in shards)
    if not count == labels.count == total:
        raise DataError(
            f"{where}: counts do not add up: {count} images, {labels.count} labels, "
            f"{total} images in {len(shards)} shards."
        )
    return SplitEntry(count, labels, shards)


def _classes(table: object, where: str) -> tuple[str, ...]:
    names = _get(table, "classes", list, where)
    for name in names:
        if type(name) is not str or not 1 <= len(name) <= 1024:
            raise DataError(f"{where}: every class must be a name of 1 .. 1024 characters.")
    if not names or len(set(names)) != len(names):
        raise DataError(f"{where}: `classes` must be a list of different names, and not empty.")
    return tuple(names)


def _skipped(table: object, where: str) -> tuple[Skipped, ...]:
    return tuple(
        Skipped(_get(item, "file", str, where), _get(item, "reason", str, where))
        for item in _get(table, "skipped", list, where)
    )


def _check_kind(table: object, where: str) -> None:
    if _get(table, "kind", str, where) != KIND:
        raise DataError(f"{where} is not the index of a symgraph data set.")
    found = _get(table, "format", int, where)
    if found != FORMAT:
        newer = found > FORMAT
        raise DataError(
            f"{where} has format {found}; this version reads format {FORMAT}.",
            fix="install a newer symgraph" if newer else "prepare the data set again",
        )


def decode(data: bytes, where: str) -> Index:
    """Return the index held in these bytes; `where` names them in errors.

    Raises `DataError` that names the first member that is missing, out of bounds, or at odds
    with another.
    """
    try:
        table: object = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{where} is not valid JSON: {error}"[:300]) from error
    _check_kind(table, where)
    splits = _get(table, "splits", dict, where)
    unknown = sorted(set(splits) - set(SPLITS))
    if unknown or "train" not in splits:
        raise DataError(
            f"{where}: `splits` must hold `train` and may hold `validation`, "
            f"got {sorted(splits)[:5]}."
        )
    index = Index(
        classes=_classes(table, where),
        image_size=_bounded(table, "image_size", 1, MAX_SIZE, where),
        seed=_bounded(table, "seed", 0, (1 << 64) - 1, where),
        keep_aspect=_get(table, "keep_aspect", bool, where),
        mean=_file_entry(_get(table, "mean", dict, where), f"{where}: mean"),
        splits={name: _split_entry(splits[name], f"{where}: {name}") for name in splits},
        skipped=_skipped(table, where),
    )
    if index.mean.count != 1:
        raise DataError(
            f"{where}: mean: `count` must be 1, the mean image, got {index.mean.count}."
        )
    names = [entry.file for entry in files(index)]
    if len(set(names)) != len(names):
        raise DataError(f"{where}: a file is named twice.")
    return index


def files(index: Index) -> list[FileEntry]:
    """Return every file that the index names, shards last."""
    entries = [index.mean]
    for split in index.splits.values():
        entries.append(split.labels)
    for split in index.splits.values():
        entries.extend(split.shards)
    return entries


def read_index(folder: Path) -> Index:
    """Read and check the index of a data set.

    Raises `DataMissingError` where the folder or its index does not exist.
    """
    where = shown(folder / INDEX_FILE)
    if not folder.exists():
        raise DataMissingError(
            f"There is no data set at {shown(folder)}: the folder does not exist.",
            fix=f"python -m symgraph data prepare SOURCE {shown(folder)}",
        )
    if not folder.is_dir():
        raise DataError(f"{shown(folder)} is not a folder, so it is not a data set.")
    if not (folder / INDEX_FILE).exists():
        raise DataMissingError(
            f"{shown(folder)} is not a prepared data set: it has no {INDEX_FILE}.",
            fix=f"python -m symgraph data prepare {shown(folder)} OUT",
        )
    with open_plain(folder, INDEX_FILE) as file:
        data = read_part(file, MAX_INDEX_BYTES + 1, where)
    if len(data) > MAX_INDEX_BYTES:
        raise DataError(f"{where} has more than {MAX_INDEX_BYTES} bytes.")
    return decode(data, where)


def is_prepared(folder: Path) -> bool:
    """Return whether a folder holds a prepared data set and nothing else, so may be replaced."""
    if folder.is_symlink() or not folder.is_dir():
        return False
    found = {entry.name for entry in folder.iterdir()}
    if not found:
        return True
    try:
        index = read_index(folder)
    except DataError:
        return False
    return found <= {INDEX_FILE, *(entry.file for entry in files(index))}
