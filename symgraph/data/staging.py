"""A folder that appears whole or not at all.

Everything is written to a hidden folder beside the target, synced to the disk and renamed in one
step. A failure or Ctrl-C removes the hidden folder; what a kill leaves behind is removed by the
next run for the same target, which sees from a lock that its owner is gone.
"""

from __future__ import annotations

import errno
import hashlib
import os
import secrets
import shutil
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

from symgraph.data.npy import shown
from symgraph.errors import DataError, DataMissingError

if sys.platform != "win32":
    import fcntl

# Between making a folder and locking it lie microseconds; a minute is a safe age to judge one.
_STALE_SECONDS = 60.0


def _lock(folder: Path) -> int | None:
    """Lock a folder and return its descriptor; None where another process holds the lock."""
    if sys.platform == "win32":  # folders cannot be locked there: stale ones stay
        return None
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        return None
    return descriptor


def _sync_folder(folder: Path) -> None:
    """Make the names in a folder durable."""
    if sys.platform == "win32":
        return
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def open_new(path: Path) -> BinaryIO:
    """Open a file for writing that must not exist yet."""
    return open(path, "xb")


class Staging:
    """Write files for `target`, then `commit()`; leaving the `with` block without it removes all.

    Raises `DataError` where the target exists or a write fails, `DataMissingError` where the
    folder above it does not exist. The caller decides what may be replaced: with `replace=True`
    an existing target is moved aside and removed after the new one stands.
    """

    def __init__(self, target: Path, *, replace: bool = False) -> None:
        self.target = target
        self.replace = replace
        self._descriptor: int | None = None
        self._folder: Path | None = None

    @property
    def folder(self) -> Path:
        """The hidden folder that is being filled."""
        if self._folder is None:
            raise DataError(f"{shown(self.target)}: its staging folder is not open.")
        return self._folder

    def __enter__(self) -> Self:
        parent = self.target.parent
        if not parent.is_dir():
            raise DataMissingError(
                f"{shown(self.target)} cannot be made: the folder {shown(parent)} does not exist.",
                fix=f"mkdir -p {shown(parent)}",
            )
        if os.path.lexists(self.target) and not self.replace:
            raise DataError(
                f"{shown(self.target)} exists already.",
                fix="choose another place, or pass overwrite=True (--overwrite)",
            )
        self._remove_stale()
        try:
            self._folder = parent / f".{self.target.name}.partial-{secrets.token_hex(6)}"
            self._folder.mkdir()
        except OSError as error:
            raise self._failed(self.target.name, error) from error
        self._descriptor = _lock(self._folder)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = None
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def _remove_stale(self) -> None:
        """Remove what killed runs for this target left behind."""
        patterns = [f".{self.target.name}.partial-"]
        if self.target.exists():  # else it may be the only copy of what was being replaced
            patterns.append(f".{self.target.name}.replaced-")
        for entry in list(os.scandir(self.target.parent)):
            if not entry.name.startswith(tuple(patterns)) or not entry.is_dir(
                follow_symlinks=False
            ):
                continue
            if time.time() - entry.stat(follow_symlinks=False).st_mtime < _STALE_SECONDS:
                continue
            descriptor = _lock(Path(entry.path))
            if descriptor is not None:
                shutil.rmtree(entry.path, ignore_errors=True)
                os.close(descriptor)

    def _failed(self, name: str, error: OSError) -> DataError:
        """Return the error to raise for a write that failed."""
        reason = error.strerror or type(error).__name__
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        return DataError(
            f"{shown(self.target)} cannot be written: {shown(name)}: {reason}. "
            "Nothing was left behind.",
            fix="free some disk space, or choose a place on another disk" if full else "",
        )

    def write(self, name: str, parts: Iterable[bytes | memoryview]) -> str:
        """Write one new file, sync it, and return the sha256 of its bytes in hexadecimal."""
        digest = hashlib.sha256()
        try:
            with open_new(self.folder / name) as file:
                for part in parts:
                    file.write(part)
                    digest.update(part)
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise self._failed(name, error) from error
        return digest.hexdigest()

    def commit(self) -> None:
        """Give the folder its name; from here on it exists, also after a power failure."""
        folder, parent = self.folder, self.target.parent
        aside: Path | None = None
        try:
            _sync_folder(folder)
            if self.replace and os.path.lexists(self.target):
                aside = parent / f".{self.target.name}.replaced-{secrets.token_hex(6)}"
                os.rename(self.target, aside)
            try:
                os.rename(folder, self.target)
            except BaseException:
                if aside is not None:
                    os.rename(aside, self.target)
                raise
            self._folder = None
            _sync_folder(parent)
        except OSError as error:
            raise self._failed(self.target.name, error) from error
        if aside is not None:
            shutil.rmtree(aside, ignore_errors=True)
