"""Which folder the cache uses, and which it does not trust: what it reads is run."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from symgraph.config import config
from symgraph.runtime import cache as module
from symgraph.runtime.cache import DiskCache, cache_folder, default_cache, key
from tests.runtime.cached import KEY, entry, files, warnings

posix = pytest.mark.skipif(sys.platform == "win32", reason="owners and modes of POSIX")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@posix
def test_a_new_folder_is_private(folder: Path) -> None:
    before = os.umask(0)
    try:
        DiskCache(folder / "deep").put(KEY, b"code")
    finally:
        os.umask(before)
    assert {path.stat().st_mode & 0o777 for path in (folder, folder / "deep")} == {0o700}
    assert entry(folder / "deep").stat().st_mode & 0o777 == 0o600


def refuses(folder: Path, caplog: pytest.LogCaptureFixture, message: str) -> None:
    """Check that a folder with an entry in it is not used, neither for reading nor writing."""
    before = files(folder) if folder.is_dir() else set()
    cache = DiskCache(folder)
    assert cache.get(KEY) is None
    cache.put(key("two"), b"two")
    assert cache.get(key("two")) is None
    assert (files(folder) if folder.is_dir() else set()) == before
    (told,) = warnings(caplog)
    assert told.startswith(f"cache: {folder} is not used: ")
    assert message in told
    stats = cache.stats()
    assert stats.state.startswith("not used: ")
    assert message in stats.state
    assert (stats.hits, stats.misses, stats.entries) == (0, 2, 0)


@posix
@pytest.mark.parametrize("mode", [0o770, 0o720, 0o707, 0o1777, 0o702])
def test_a_folder_that_others_may_write_to_is_refused(
    folder: Path, caplog: pytest.LogCaptureFixture, mode: int
) -> None:
    DiskCache(folder).put(KEY, b"code")
    folder.chmod(mode)
    refuses(folder, caplog, f"others may write to it; chmod go-w {folder}")


@posix
@pytest.mark.parametrize("mode", [0o700, 0o755, 0o750])
def test_a_folder_that_others_may_only_read_is_used(folder: Path, mode: int) -> None:
    folder.mkdir()
    folder.chmod(mode)
    cache = DiskCache(folder)
    cache.put(KEY, b"code")
    assert cache.get(KEY) == b"code"


@posix
def test_a_link_is_as_good_as_what_it_leads_to(
    tmp_path: Path, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    link = tmp_path / "link"
    DiskCache(folder).put(KEY, b"code")
    link.symlink_to(folder)
    assert DiskCache(link).get(KEY) == b"code"
    folder.chmod(0o777)
    refuses(link, caplog, "others may write to it")


@posix
def test_a_folder_that_others_may_replace_is_refused(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    open_to_all = tmp_path / "open"
    folder = open_to_all / "between" / "cache"
    DiskCache(folder).put(KEY, b"code")
    open_to_all.chmod(0o777)
    refuses(folder, caplog, f"others may replace it, because they may write to {open_to_all}")
    caplog.clear()
    link = tmp_path / "link"
    link.symlink_to(folder)
    refuses(link, caplog, f"others may replace it, because they may write to {open_to_all}")
    open_to_all.chmod(0o1777)  # as /tmp
    assert DiskCache(folder).get(KEY) == b"code"


@posix
def test_a_folder_of_another_user_is_refused(
    folder: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    DiskCache(folder).put(KEY, b"code")
    owner = os.getuid()
    monkeypatch.setattr(module.os, "getuid", lambda: owner + 1)
    refuses(folder, caplog, f"it belongs to user {owner} and not to you")


def test_a_file_is_no_folder(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder.write_text("mine")
    refuses(folder, caplog, "it is not a folder")
    assert folder.read_text() == "mine"


@posix
def test_a_folder_below_a_file_and_a_circle_of_links_stop_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("mine")
    circle = tmp_path / "circle"
    circle.symlink_to(circle)
    for folder in (tmp_path / "file" / "cache", circle, Path("/proc/nowhere")):
        cache = DiskCache(folder)
        cache.put(KEY, b"code")
        assert cache.get(KEY) is None
        assert cache.stats().state.startswith("not used: ")
    assert len(warnings(caplog)) == 3


@pytest.fixture
def by_default() -> Iterator[None]:
    """Let the setting have its default, which the tests else switch off."""
    with config(cache=""):
        yield


@pytest.mark.usefixtures("by_default")
def test_the_setting_names_the_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert cache_folder() == tmp_path / ".cache" / "symgraph"
    monkeypatch.setenv("XDG_CACHE_HOME", "not/absolute")
    assert cache_folder() == tmp_path / ".cache" / "symgraph"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_folder() == tmp_path / "xdg" / "symgraph"
    with config(cache=tmp_path / "mine"):
        assert cache_folder() == tmp_path / "mine"
        assert default_cache() is default_cache()
        default_cache().put(KEY, b"code")
        assert entry(tmp_path / "mine").exists()
    with config(cache="~/tilde"):
        assert cache_folder() == tmp_path / "tilde"
    with config(cache="relative"):
        assert cache_folder() == Path.cwd() / "relative"
    with config(cache="off"):
        off = default_cache()
        off.put(KEY, b"code")
        assert off.get(KEY) is None
        stats = off.stats()
    assert cache_folder() == tmp_path / "xdg" / "symgraph"
    assert (stats.folder, stats.state, stats.entries) == (None, "off: config.cache", 0)
    assert stats.misses > 0
    assert warnings(caplog) == []


@pytest.mark.usefixtures("by_default")
def test_a_user_without_a_home_has_no_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    def homeless(*arguments: object) -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(module.Path, "home", homeless)
    assert cache_folder() is None
    assert default_cache().stats().state == "off: there is no home folder"
    with config(cache="~nobody-of-this-name/cache"):
        assert cache_folder() is None
