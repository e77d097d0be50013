"""Compiled object code on disk, by the hash of all that it was made from.

What is read here is run, so a folder in which others may write is not used at all. Every entry
says what it is and is checked whole when it is read. Nothing that goes wrong here stops a program:
it is logged in one sentence, and the code is compiled again.

Entries are written under another name and renamed, so that any number of processes may use one
folder. They are not flushed to the disk: what a power cut leaves behind fails the check.
"""

from __future__ import annotations

import hashlib
import logging
import os
import re
import secrets
import stat
import struct
import threading
import time
from contextlib import suppress
from pathlib import Path

from symgraph.config import config
from symgraph.errors import ArgumentError
from symgraph.frozen import frozen

MOST_BYTES = 1 << 30  # of all entries; processes that write at once may exceed it for a while
AFTER_EVICTION = MOST_BYTES * 9 // 10  # so that not every entry that is written evicts one
LOOK_AGAIN = 64  # entries that are written before the folder is measured again: others write too
ABANDONED = 3600.0  # seconds after which a file that is still being written has no writer

READY = "ready"
MAGIC = b"symgraph"
FORMAT = 1
HEADER = struct.Struct("<8sI32s32sQ")  # magic, format, key, digest of the payload, its length

_KEY = re.compile(r"[0-9a-f]{64}")
_ENTRY = re.compile(r"[0-9a-f]{64}\.code")
_PARTIAL = re.compile(r"\.[0-9a-f]{64}\.[0-9a-f]{12}\.partial")

_log = logging.getLogger("symgraph")


@frozen
class CacheStats:
    """What this process found in the cache, and what is on the disk now.

    `state` is "ready", or says why entries are not kept.
    """

    hits: int
    misses: int
    entries: int
    bytes: int
    folder: Path | None
    state: str


def key(*parts: str | bytes) -> str:
    """Give the SHA-256 of the parts, each with its kind and length, as 64 hexadecimal digits.

    >>> key("ab", "c") == key("a", "bc"), len(key(b"text", "x86-64"))
    (False, 64)
    """
    digest = hashlib.sha256(struct.pack("<I", FORMAT))
    for part in parts:
        kind = b"t" if isinstance(part, str) else b"b"
        data = part.encode("utf-8", "surrogatepass") if isinstance(part, str) else part
        digest.update(kind + struct.pack("<Q", len(data)))
        digest.update(data)
    return digest.hexdigest()


def cache_folder() -> Path | None:
    """Give the folder that the setting `cache` names, or None for "off" or where there is no home.

    By default it is `$XDG_CACHE_HOME/symgraph`, or `~/.cache/symgraph`.
    """
    setting = config.cache
    if setting == "off":
        return None
    try:
        if setting:
            return Path(setting).expanduser().absolute()
        base = Path(os.environ.get("XDG_CACHE_HOME", ""))
        # A relative path there has no meaning, says the specification of these folders.
        return (base if base.is_absolute() else Path.home() / ".cache") / "symgraph"
    except (RuntimeError, OSError):  # no home, or no current folder
        return None


def default_cache() -> DiskCache:
    """Give this process's cache for the setting `cache` that holds here and now."""
    folder = cache_folder()
    off = "off: config.cache" if config.cache == "off" else "off: there is no home folder"
    return _CACHES.setdefault((folder, off if folder is None else ""), DiskCache(folder, off))


class DiskCache:
    """Entries of bytes in one folder; safe for threads and for any number of processes.

    Without a folder nothing is kept, for the reason `off`.
    """

    def __init__(self, folder: Path | None, off: str = "off") -> None:
        self.folder = folder
        self._real = Path()  # without links, once it is trusted
        self._state = off if folder is None else READY
        self._trusted: bool | None = None if folder else False  # None: not looked at yet
        self._writes = True
        self._hits = 0
        self._misses = 0
        self._size = 0  # about the bytes in the folder
        self._until_look = 0  # entries that may be written before it is measured
        self._told: set[str] = set()
        self._lock = threading.RLock()

    def get(self, key: str) -> bytes | None:
        """Give the entry of `key`, or None; raises `ArgumentError` for what is no key."""
        _require_key(key)
        data = self._read(key) if self._usable() else None
        with self._lock:
            if data is None:
                self._misses += 1
            else:
                self._hits += 1
        return data

    def put(self, key: str, data: bytes) -> None:
        """Keep `data` for `key` if that is possible; raises `ArgumentError` for what is no key."""
        _require_key(key)
        size = HEADER.size + len(data)
        if not self._writes or size > AFTER_EVICTION or not self._usable(create=True):
            return
        try:
            self._make_room(size)
            self._write(key, data)
        except FileNotFoundError:  # somebody removed the folder, which is made anew with the next
            self._trusted = None
        except OSError as problem:
            self._writes = False
            self._state = f"nothing more is written: {_reason(problem)}"
            self._tell(f"cache: nothing more is written to {self.folder}: {_reason(problem)}.")

    def stats(self) -> CacheStats:
        """Count what this process found, and look at what is on the disk."""
        entries: list[tuple[int, str, int]] = []
        if self._usable():
            with suppress(OSError):
                entries = self._entries()
        size = sum(size for _, _, size in entries)
        with self._lock:
            return CacheStats(
                self._hits, self._misses, len(entries), size, self.folder, self._state
            )

    def _usable(self, create: bool = False) -> bool:
        """Tell whether the folder is there and trusted, which is looked at once."""
        if self.folder is None or self._trusted is not None:
            return bool(self._trusted)
        with self._lock:
            try:
                if create:
                    _make(self.folder)
                elif not self.folder.exists():
                    return False  # a later `put` makes it
                self._real = self.folder.resolve()
                problem = _distrust(self._real)
            except (OSError, RuntimeError) as error:  # RuntimeError: a circle of links
                problem = _reason(error)
            if problem:
                self._state = f"not used: {problem}"
                self._tell(f"cache: {self.folder} is not used: {problem}.")
            self._trusted = not problem
            return not problem

    def _read(self, key: str) -> bytes | None:
        path = self._real / f"{key}.code"
        try:
            with open(path, "rb") as file:
                text = file.read(HEADER.size + MOST_BYTES)
        except FileNotFoundError:
            return None
        except OSError as problem:
            self._tell(f"cache: {path} cannot be read: {_reason(problem)}.")
            return None
        damage = _damage(key, text)
        with suppress(OSError):  # another process may remove it, and the folder may be read-only
            if damage:
                path.unlink()
            else:
                os.utime(path)
        if damage:
            self._tell(f"cache: {path} is removed and made again: {damage}.")
            return None
        return text[HEADER.size :]

    def _write(self, key: str, data: bytes) -> None:
        partial = self._real / f".{key}.{secrets.token_hex(6)}.partial"
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
        descriptor = os.open(partial, flags, 0o600)
        done = False
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(_header(key, data))
                file.write(data)
            os.replace(partial, self._real / f"{key}.code")
            done = True
        finally:
            if not done:  # Ctrl-C as well
                with suppress(OSError):
                    partial.unlink()

    def _make_room(self, size: int) -> None:
        """Evict the entries that were not used for longest if `size` bytes more are too many."""
        with self._lock:
            if self._until_look == 0 or self._size + size > MOST_BYTES:
                entries = sorted(self._entries())
                self._size = sum(size for _, _, size in entries)
                self._until_look = LOOK_AGAIN
                if self._size + size > MOST_BYTES:
                    self._evict(entries, AFTER_EVICTION - size)
            self._size += size
            self._until_look -= 1

    def _evict(self, entries: list[tuple[int, str, int]], wanted: int) -> None:
        for _, name, size in entries:
            if self._size <= wanted:
                break
            with suppress(FileNotFoundError):  # another process evicts as well
                (self._real / name).unlink()
            self._size -= size

    def _entries(self) -> list[tuple[int, str, int]]:
        """List (time of last use, name, bytes), and remove what dead writers left behind."""
        found = []
        with os.scandir(self._real) as files:
            for file in files:
                partial = _PARTIAL.fullmatch(file.name)
                if not partial and not _ENTRY.fullmatch(file.name):
                    continue  # not ours
                with suppress(OSError):  # gone since
                    about = file.stat(follow_symlinks=False)
                    if not partial:
                        found.append((about.st_mtime_ns, file.name, about.st_size))
                    elif time.time() - about.st_mtime > ABANDONED:
                        os.unlink(file.path)
        return found

    def _tell(self, sentence: str) -> None:
        with self._lock:
            if sentence in self._told:
                return
            self._told.add(sentence)
        _log.warning("%s", sentence)


_CACHES: dict[tuple[Path | None, str], DiskCache] = {}


def _require_key(key: str) -> None:
    if not isinstance(key, str) or not _KEY.fullmatch(key):
        raise ArgumentError(
            f"cache: a key is 64 hexadecimal digits, got {key!r}.",
            fix="make it with symgraph.runtime.cache.key(...)",
        )


def _header(key: str, data: bytes) -> bytes:
    digest = hashlib.sha256(data).digest()
    return HEADER.pack(MAGIC, FORMAT, bytes.fromhex(key), digest, len(data))


def _damage(key: str, text: bytes) -> str:
    """Say what is wrong with a file, or nothing."""
    if len(text) < HEADER.size:
        return "it is cut short"
    magic, number, own, digest, length = HEADER.unpack_from(text)
    if magic != MAGIC:
        return "it is not an entry of this cache"
    if number != FORMAT:
        return f"it has format {number} and not {FORMAT}"
    if own.hex() != key:
        return "it is the entry of another key"
    if length != len(text) - HEADER.size:
        return f"it has {len(text) - HEADER.size} bytes and not {length}"
    if digest != hashlib.sha256(memoryview(text)[HEADER.size :]).digest():
        return "its bytes are not those that were written"
    return ""


def _make(folder: Path) -> None:
    """Make a folder and those around it that only the user may enter, whatever the umask."""
    missing = [parent for parent in (folder, *folder.parents) if not parent.exists()]
    for each in reversed(missing):
        each.mkdir(mode=0o700, exist_ok=True)


def _distrust(folder: Path) -> str:
    """Say why code in a folder may be somebody else's, or nothing."""
    about = folder.stat()
    if not stat.S_ISDIR(about.st_mode):
        return "it is not a folder"
    if not hasattr(os, "getuid"):  # Windows: the folders of a user are the user's own
        return ""
    if about.st_uid != os.getuid():
        return f"it belongs to user {about.st_uid} and not to you"
    if about.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        return f"others may write to it; chmod go-w {folder}"
    for parent in folder.parents:
        mode = parent.stat().st_mode
        if mode & stat.S_IWOTH and not mode & stat.S_ISVTX:  # /tmp has the bit: nobody renames
            return f"others may replace it, because they may write to {parent}"
    return ""


def _reason(problem: BaseException) -> str:
    words = problem.strerror if isinstance(problem, OSError) else None
    return words or f"{type(problem).__name__}: {problem}"
