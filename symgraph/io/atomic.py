"""Files that appear whole or not at all.

A file is written under a temporary name in its own folder, flushed to the disk, and renamed; then
the folder is flushed too. Whoever reads the final name sees the old file or the new one, after a
crash, a `kill -9` or a power cut as well.

The writer holds an advisory lock on its temporary file while it lives. The kernel drops the lock
with the process, so a temporary file whose lock is free belongs to nobody and may be removed.
Process numbers could not tell that: they are reused, and mean nothing in another container.
"""

from __future__ import annotations

import errno
import os
import re
import secrets
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

if sys.platform != "win32":
    import fcntl

PARTIAL_SUFFIX = ".partial"

# Exactly the names made here: other programs keep files in the same folder, `.partial` ones too.
_PARTIAL_NAME = re.compile(r"\..+\.[0-9a-f]{12}\.partial", re.DOTALL)


@contextmanager
def atomic_file(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """A binary file to write; it becomes `path` when the block ends without an exception.

    On any exception, Ctrl-C included, the temporary file is removed and `path` stays as it was.

    Raises:
        OSError: the disk is full, the folder is missing or may not be written, or `path` is a
            device or a pipe, which a file must not replace.
    """
    # what a link points to is written, as by `open`; the link stays
    target = Path(os.path.realpath(path) if os.path.islink(path) else path)
    # os.path and not Path: a name too long does not exist here, and is an error below
    if os.path.exists(target) and not (os.path.isfile(target) or os.path.isdir(target)):
        raise OSError(errno.EEXIST, "a device or a pipe is there, and no file", str(target))
    partial, descriptor = _create_partial(target)
    done = False
    try:
        with os.fdopen(descriptor, "w+b") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
            # Renamed while the lock is held: once it is free, another process may clean up.
            os.replace(partial, target)
            done = True
    finally:
        if not done:
            partial.unlink(missing_ok=True)
    _sync_folder(target.parent)


def remove_stale_partials(folder: Path) -> list[Path]:
    """Remove the temporary files of dead writers in `folder`; returns what was removed."""
    removed = []
    for partial in sorted(folder.glob(f".*{PARTIAL_SUFFIX}")):
        if not _PARTIAL_NAME.fullmatch(partial.name):
            continue
        # It may vanish or be renamed by its writer at any moment, or belong to another user. What
        # cannot be removed costs room, and is no reason to refuse the file that is to be written.
        with suppress(OSError):
            descriptor = os.open(partial, os.O_RDWR | getattr(os, "O_NOFOLLOW", 0))
            try:
                if _lock(descriptor):
                    partial.unlink()
                    removed.append(partial)
            finally:
                os.close(descriptor)
    return removed


def _create_partial(target: Path) -> tuple[Path, int]:
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
    while True:
        partial = target.parent / f".{target.name}.{secrets.token_hex(6)}{PARTIAL_SUFFIX}"
        descriptor = os.open(partial, flags, 0o666)
        # A cleaner that holds the lock lets go at once, with the file gone; hence the wait.
        _lock(descriptor, wait=True)
        # Between creating and locking, a cleaner may have taken the file for a dead writer's.
        if os.fstat(descriptor).st_nlink > 0:
            return partial, descriptor
        os.close(descriptor)


def _lock(descriptor: int, *, wait: bool = False) -> bool:
    """Take the lock if it is free. False where file systems have no locks: nobody cleans there."""
    if sys.platform == "win32":
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except OSError:
        return False
    return True


def _sync_folder(folder: Path) -> None:
    if sys.platform == "win32":  # a folder cannot be opened there; the rename is journaled
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
