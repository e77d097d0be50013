"""The cache of compiled code: what is read was written, whatever happens to the folder."""

from __future__ import annotations

import errno
import hashlib
import multiprocessing
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from symgraph.errors import ArgumentError
from symgraph.runtime import cache as module
from symgraph.runtime.cache import HEADER, DiskCache, key
from tests.runtime.cached import KEY, entry, files, warnings

posix = pytest.mark.skipif(sys.platform == "win32", reason="owners and modes of POSIX")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def test_what_is_put_is_got_by_any_process(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    cache = DiskCache(folder)
    assert cache.get(KEY) is None
    assert not folder.exists()
    for data in (b"", b"code", os.urandom(100_000)):
        cache.put(KEY, data)
        assert cache.get(KEY) == data
        assert DiskCache(folder).get(KEY) == data
    assert cache.get(key("two")) is None
    assert files(folder) == {f"{KEY}.code"}
    stats = cache.stats()
    assert (stats.hits, stats.misses, stats.entries) == (3, 2, 1)
    assert stats.bytes == HEADER.size + 100_000
    assert (stats.folder, stats.state) == (folder, "ready")
    assert warnings(caplog) == []


def test_keys_tell_parts_and_kinds_apart() -> None:
    different = [
        (),
        ("",),
        (b"",),
        ("", ""),
        ("a", "b"),
        ("ab",),
        (b"ab",),
        ("a", b"b"),
        ("\ud800",),
    ]
    keys = [key(*parts) for parts in different]
    assert len(set(keys)) == len(keys)
    assert key("a", b"b") == key("a", b"b")
    assert all(len(one) == 64 and int(one, 16) >= 0 for one in keys)


@pytest.mark.parametrize("wrong", ["", "a", KEY[:-1], KEY.upper(), "../" + KEY[3:], KEY + "\n", 3])
def test_what_is_no_key_never_becomes_a_path(folder: Path, wrong: str) -> None:
    cache = DiskCache(folder)
    with pytest.raises(ArgumentError, match="64 hexadecimal digits"):
        cache.get(wrong)
    with pytest.raises(ArgumentError, match="64 hexadecimal digits"):
        cache.put(wrong, b"")
    assert not folder.exists()


def flipped(text: bytes, place: int) -> bytes:
    return text[:place] + bytes([text[place] ^ 1]) + text[place + 1 :]


DAMAGES: list[tuple[Callable[[bytes], bytes], str]] = [
    (lambda text: b"", "cut short"),
    (lambda text: text[: HEADER.size - 1], "cut short"),
    (lambda text: text[:-1], "it has 999 bytes and not 1000"),
    (lambda text: text + b"x", "it has 1001 bytes and not 1000"),
    (lambda text: text[: HEADER.size], "it has 0 bytes and not 1000"),
    (lambda text: b"\x7fELF" + text[4:], "not an entry of this cache"),
    (lambda text: bytes(len(text)), "not an entry of this cache"),
    (lambda text: flipped(text, 8), "it has format 0 and not 1"),
    (lambda text: flipped(text, 12), "the entry of another key"),
    (lambda text: flipped(text, 44), "not those that were written"),
    (lambda text: flipped(text, HEADER.size), "not those that were written"),
    (lambda text: flipped(text, len(text) - 1), "not those that were written"),
]


@pytest.mark.parametrize(("damage", "message"), DAMAGES)
def test_a_damaged_entry_is_a_miss_removed_and_told_once(
    folder: Path,
    caplog: pytest.LogCaptureFixture,
    damage: Callable[[bytes], bytes],
    message: str,
) -> None:
    cache = DiskCache(folder)
    cache.put(KEY, bytes(1000))
    entry(folder).write_bytes(damage(entry(folder).read_bytes()))
    assert cache.get(KEY) is None
    assert not entry(folder).exists()
    assert cache.get(KEY) is None
    (told,) = warnings(caplog)
    assert message in told
    assert str(entry(folder)) in told
    assert "\n" not in told
    cache.put(KEY, b"again")
    assert cache.get(KEY) == b"again"
    assert (cache.stats().hits, cache.stats().misses) == (1, 2)


def test_every_flipped_bit_of_a_header_is_seen(folder: Path) -> None:
    cache = DiskCache(folder)
    cache.put(KEY, b"code")
    whole = entry(folder).read_bytes()
    for place in range(len(whole)):
        entry(folder).write_bytes(flipped(whole, place))
        assert cache.get(KEY) is None, place
    entry(folder).write_bytes(whole)
    assert cache.get(KEY) == b"code"


def test_an_entry_under_another_name_is_foreign(folder: Path) -> None:
    cache = DiskCache(folder)
    cache.put(KEY, b"code")
    os.rename(entry(folder), entry(folder, key("two")))
    assert cache.get(key("two")) is None


def test_what_cannot_be_read_is_a_miss(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    cache = DiskCache(folder)
    cache.put(KEY, b"code")
    entry(folder).unlink()
    entry(folder).mkdir()
    assert cache.get(KEY) is None
    assert cache.get(KEY) is None
    (told,) = warnings(caplog)
    assert "cannot be read: Is a directory" in told
    cache.put(key("two"), b"two")
    assert cache.get(key("two")) == b"two"


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES])
@pytest.mark.parametrize("call", ["open", "replace", "fdopen"])
def test_a_folder_that_cannot_be_written_to_is_told_once(
    folder: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    number: int,
    call: str,
) -> None:
    cache = DiskCache(folder)
    cache.put(KEY, b"code")

    def refused(*arguments: object) -> None:
        if call == "fdopen":
            os.close(arguments[0])  # type: ignore[arg-type]
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patched:
        patched.setattr(module.os, call, refused)
        cache.put(key("two"), b"two")
    assert files(folder) == {f"{KEY}.code"}
    cache.put(key("three"), b"three")
    assert cache.get(key("three")) is None
    assert cache.get(KEY) == b"code", "what is there can be read"
    (told,) = warnings(caplog)
    assert told == f"cache: nothing more is written to {folder}: {os.strerror(number)}."
    assert cache.stats().state == f"nothing more is written: {os.strerror(number)}"


FULL = """
import logging, os, resource, sys
from pathlib import Path
from symgraph.runtime.cache import DiskCache, key

logging.basicConfig(format="%(levelname)s %(name)s %(message)s")
cache = DiskCache(Path(sys.argv[1]))
cache.put(key("small"), b"small")
resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))
cache.put(key("large"), os.urandom(1_000_000))
cache.put(key("later"), b"later")
assert cache.get(key("large")) is None and cache.get(key("later")) is None
assert cache.get(key("small")) == b"small"
assert cache.stats().entries == 1
"""


@posix
def test_an_entry_that_is_cut_off_while_it_is_written_leaves_nothing(folder: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", FULL, str(folder)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr.splitlines() == [
        f"WARNING symgraph cache: nothing more is written to {folder}: {os.strerror(errno.EFBIG)}."
    ]
    assert files(folder) == {f"{key('small')}.code"}


def test_an_interrupt_leaves_nothing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = DiskCache(folder)

    def interrupted(*arguments: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(module.os, "replace", interrupted)
        with pytest.raises(KeyboardInterrupt):
            cache.put(KEY, b"code")
    assert files(folder) == set()
    cache.put(KEY, b"code")
    assert cache.get(KEY) == b"code"


def test_a_folder_that_is_removed_is_made_again(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cache = DiskCache(folder)
    cache.put(KEY, b"code")
    entry(folder).unlink()
    folder.rmdir()
    assert cache.get(KEY) is None
    cache.put(KEY, b"lost")
    cache.put(KEY, b"code")
    assert cache.get(KEY) == b"code"
    assert warnings(caplog) == []


def test_the_entries_that_were_not_used_for_longest_are_evicted(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    size = 1000 + HEADER.size
    monkeypatch.setattr(module, "MOST_BYTES", 10 * size)
    monkeypatch.setattr(module, "AFTER_EVICTION", 8 * size)
    cache = DiskCache(folder)
    keys = [key(str(number)) for number in range(11)]
    for age, one in enumerate(keys[:10]):
        cache.put(one, bytes(1000))
        os.utime(entry(folder, one), (10_000 + age, 10_000 + age))
    (folder / "other.code").write_bytes(bytes(100_000))
    assert cache.stats().bytes == 10 * size
    assert cache.get(keys[0]) is not None  # used now
    cache.put(keys[10], bytes(1000))
    kept = {one for one in keys if entry(folder, one).exists()}
    assert kept == {keys[0], *keys[4:]}, "eight are left, the oldest went, others' files stay"
    assert (folder / "other.code").exists()
    assert cache.stats().bytes == 8 * size
    cache.put(key("huge"), bytes(9 * size))
    assert cache.get(key("huge")) is None
    assert len(kept) == cache.stats().entries


def test_what_other_processes_write_is_counted(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    size = 1000 + HEADER.size
    monkeypatch.setattr(module, "MOST_BYTES", 20 * size)
    monkeypatch.setattr(module, "AFTER_EVICTION", 18 * size)
    monkeypatch.setattr(module, "LOOK_AGAIN", 4)
    theirs, ours = DiskCache(folder), DiskCache(folder)
    ours.put(KEY, bytes(1000))
    for number in range(15):
        theirs.put(key(str(number)), bytes(1000))
    for number in range(15, 30):
        ours.put(key(str(number)), bytes(1000))
        assert ours.stats().entries <= 20
    late = DiskCache(folder)
    for number in range(30, 40):
        late.put(key(str(number)), bytes(1000))
        assert late.stats().entries <= 20
    assert late.stats().entries >= 18


def test_two_processes_may_evict_the_same_entry(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    size = 1000 + HEADER.size
    monkeypatch.setattr(module, "MOST_BYTES", 2 * size)
    monkeypatch.setattr(module, "AFTER_EVICTION", 2 * size)
    cache = DiskCache(folder)
    cache.put(KEY, bytes(1000))
    seen = cache._entries
    gone = (0, f"{key('gone')}.code", size)
    monkeypatch.setattr(cache, "_entries", lambda: [gone, *seen()])
    cache.put(key("two"), bytes(1000))
    cache.put(key("three"), bytes(1000))
    assert cache.get(key("three")) == bytes(1000)
    assert cache.stats().state == "ready"


def test_what_a_dead_writer_left_is_removed_later(folder: Path) -> None:
    DiskCache(folder).put(KEY, b"code")
    left, fresh = (folder / f".{KEY}.{digit * 12}.partial" for digit in "ab")
    strange = folder / ".mine.partial"
    for path in (left, fresh, strange):
        path.write_bytes(b"half")
    then = time.time() - 2 * module.ABANDONED
    for path in (left, strange):
        os.utime(path, (then, then))
    assert DiskCache(folder).stats().entries == 1
    assert files(folder) == {f"{KEY}.code", fresh.name, strange.name}


def data_of(name: str, turn: int) -> bytes:
    """Contents that say which they are, of different lengths."""
    return hashlib.sha256(f"{name} {turn % 3}".encode()).digest() * (1 + 500 * (turn % 3))


def hammer(folder: Path, seed: int, turns: int) -> tuple[int, int]:
    """Read and write the same few keys; gives how often something was found, and was wrong."""
    cache = DiskCache(folder)
    found = wrong = 0
    for turn in range(turns):
        name = str((turn * 7 + seed) % 5)
        got = cache.get(key(name))
        if got is not None:
            found += 1
            wrong += got not in [data_of(name, number) for number in range(3)]
        if turn % 2:
            cache.put(key(name), data_of(name, turn + seed))
    assert cache.stats().state == "ready"
    return found, wrong


@pytest.mark.parametrize("bounded", [False, True])
def test_many_threads_use_one_folder(
    folder: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, bounded: bool
) -> None:
    if bounded:
        monkeypatch.setattr(module, "MOST_BYTES", 70_000)
        monkeypatch.setattr(module, "AFTER_EVICTION", 50_000)
    cache = DiskCache(folder)
    results: list[tuple[int, int]] = []

    def work(seed: int) -> None:
        results.append(hammer(folder, seed, 100))
        for _ in range(50):
            cache.get(KEY)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 8
    assert all(found and not wrong for found, wrong in results)
    assert cache.stats().misses == 8 * 50
    assert warnings(caplog) == []
    assert {Path(name).suffix for name in files(folder)} <= {".code"}


def test_many_processes_use_one_folder(folder: Path) -> None:
    with multiprocessing.get_context("spawn").Pool(8) as pool:
        results = pool.starmap(hammer, [(folder, seed, 200) for seed in range(8)], chunksize=1)
    assert sum(found for found, _ in results) > 8 * 150
    assert not any(wrong for _, wrong in results)
    assert files(folder) == {f"{key(str(number))}.code" for number in range(5)}
