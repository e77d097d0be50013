"""A data set appears whole or not at all: full disks, kills, Ctrl-C, and what may be replaced."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import symgraph.data
from symgraph.data import open_dataset, prepare
from symgraph.data.staging import Staging
from symgraph.errors import ArgumentError, DataError, DataMissingError

ROOT = str(Path(symgraph.data.__file__).parents[2])


def start(script: str, *arguments: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", script, *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": ROOT},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


SLOW = """
import sys, time
from symgraph.data import prepare
def progress(done, total):
    if done == 20:
        print("half-way", flush=True)
        time.sleep(60)
try:
    prepare(sys.argv[1], sys.argv[2], 4, shard_images=4, progress=progress)
except KeyboardInterrupt:
    print("interrupted", flush=True)
"""


def make_old(folder: Path, hidden) -> None:
    long_ago = time.time() - 3600
    for name in hidden(folder):
        os.utime(folder / name, (long_ago, long_ago))


def test_kill_leaves_no_target_and_the_next_run_cleans_up(
    make_source, tmp_path: Path, hidden
) -> None:
    source, out = make_source(), tmp_path / "set"
    with start(SLOW, source, out) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "half-way\n"
        (left,) = hidden(tmp_path)
        assert list((tmp_path / left).glob("train-*.npy"))
        make_old(tmp_path, hidden)
        with Staging(out):  # the owner lives: its folder is not touched
            assert left in hidden(tmp_path)
        process.kill()
        process.wait()
    assert not out.exists()
    assert hidden(tmp_path) == [left]
    prepare(source, out, 4)
    assert hidden(tmp_path) == []
    assert len(open_dataset(out)) == 32


def test_ctrl_c_leaves_nothing(make_source, tmp_path: Path, hidden) -> None:
    source, out = make_source(), tmp_path / "set"
    with start(SLOW, source, out) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "half-way\n"
        process.send_signal(signal.SIGINT)
        assert process.communicate(timeout=20)[0] == "interrupted\n"
    assert not out.exists()
    assert hidden(tmp_path) == []


LIMITED = """
import resource, sys
from symgraph.data import prepare
from symgraph.errors import DataError
resource.setrlimit(resource.RLIMIT_FSIZE, (3000, 3000))
try:
    prepare(sys.argv[1], sys.argv[2], 8, shard_images=30)
except DataError as error:
    print(error)
"""


def test_a_real_limit_on_file_size(make_source, tmp_path: Path, hidden) -> None:
    with start(LIMITED, make_source(), tmp_path / "set") as process:
        output = process.communicate(timeout=30)[0]
    assert "set cannot be written: train-00000.npy: File too large. Nothing was left" in output
    assert not (tmp_path / "set").exists()
    assert hidden(tmp_path) == []


class FullDisk:
    """A file that takes a few bytes and then reports a full disk."""

    def __init__(self, path: Path, room: int) -> None:
        self.file, self.room = path.open("xb"), room

    def __enter__(self) -> FullDisk:
        return self

    def __exit__(self, *details: object) -> None:
        self.file.close()

    def write(self, data: bytes) -> None:
        self.room -= len(data)
        if self.room < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self.file.write(data)

    def flush(self) -> None:
        self.file.flush()

    def fileno(self) -> int:
        return self.file.fileno()


@pytest.mark.parametrize("room", [0, 100, 200, 1000])
def test_full_disk(make_source, tmp_path: Path, monkeypatch, hidden, room: int) -> None:
    monkeypatch.setattr("symgraph.data.staging.open_new", lambda path: FullDisk(path, room))
    with pytest.raises(DataError, match=r"(?s)No space left.*Nothing was left.*fix: free some"):
        prepare(make_source(), tmp_path / "set", 4)
    assert not (tmp_path / "set").exists()
    assert hidden(tmp_path) == []


def test_full_disk_keeps_the_data_set_that_was_to_be_replaced(
    make_source, tmp_path: Path, monkeypatch, hidden
) -> None:
    source, out = make_source(), tmp_path / "set"
    prepare(source, out, 4)
    monkeypatch.setattr("symgraph.data.staging.open_new", lambda path: FullDisk(path, 100))
    with pytest.raises(DataError, match="No space left"):
        prepare(source, out, 5, overwrite=True)
    assert open_dataset(out).image_size == 4
    assert hidden(tmp_path) == []


def test_a_rename_that_fails_puts_the_old_data_set_back(
    make_source, tmp_path: Path, monkeypatch, hidden
) -> None:
    source, out = make_source(), tmp_path / "set"
    prepare(source, out, 4)
    rename = os.rename

    def fails(old: Path, new: Path) -> None:
        if ".partial-" in str(old):
            raise OSError(errno.EIO, "Input/output error")
        rename(old, new)

    monkeypatch.setattr(os, "rename", fails)
    with pytest.raises(DataError, match="Input/output error"):
        prepare(source, out, 5, overwrite=True)
    assert open_dataset(out).image_size == 4
    assert hidden(tmp_path) == []


def test_too_small_a_disk_is_noticed_first(make_source, tmp_path: Path, monkeypatch) -> None:
    usage = type("Usage", (), {"free": 1000})
    monkeypatch.setattr("shutil.disk_usage", lambda path: usage)
    with pytest.raises(DataError, match=r"would need 0.0 GB for 36 images; 0.0 GB are free"):
        prepare(make_source(), tmp_path / "set")
    assert not (tmp_path / "set").exists()


def test_existing_targets(make_source, tmp_path: Path, hidden) -> None:
    source, out = make_source(), tmp_path / "set"
    prepare(source, out, 4)
    with pytest.raises(DataError, match=r"(?s)set exists already.*fix: .*overwrite=True"):
        prepare(source, out, 5)
    assert open_dataset(out).image_size == 4
    prepare(source, out, 5, overwrite=True)
    assert open_dataset(out).image_size == 5
    assert hidden(tmp_path) == []
    (out / "thesis.tex").write_text("years of work")
    with pytest.raises(DataError, match="not a prepared data set, or holds other files too"):
        prepare(source, out, 4, overwrite=True)
    assert (out / "thesis.tex").exists()


def test_only_data_sets_are_overwritten(make_source, tmp_path: Path) -> None:
    source, home = make_source(), tmp_path / "home"
    home.mkdir()
    (home / "letters").write_text("dear")
    for target in (home, home / "letters"):
        with pytest.raises(DataError, match="is not a prepared data set"):
            prepare(source, target, 4, overwrite=True)
    prepare(source, tmp_path / "real", 4)
    (tmp_path / "link").symlink_to(tmp_path / "real")
    with pytest.raises(DataError, match="is not a prepared data set"):
        prepare(source, tmp_path / "link", 4, overwrite=True)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="exists already"):
        prepare(source, tmp_path / "empty", 4)
    prepare(source, tmp_path / "empty", 4, overwrite=True)
    assert (home / "letters").read_text() == "dear"


def test_target_and_source_must_be_apart(make_source, tmp_path: Path) -> None:
    source = make_source("up/source")
    for target in (source, source / "set", source / "class0", tmp_path / "up", tmp_path):
        with pytest.raises(DataError, match="cannot be written inside its source, nor around it"):
            prepare(source, target, overwrite=True)
    assert len(list(source.rglob("*.png"))) == 36
    with pytest.raises(DataMissingError, match=r"(?s)deep does not exist.*fix: mkdir -p"):
        prepare(source, tmp_path / "deep" / "set")
    with pytest.raises(ArgumentError, match="OUT must name a folder"):
        prepare(source, "/")


def test_a_folder_without_permission(make_source, tmp_path: Path, monkeypatch) -> None:
    def refuses(path: Path, *arguments: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    source = make_source()
    monkeypatch.setattr(Path, "mkdir", refuses)
    with pytest.raises(DataError, match="cannot be written: set: Permission denied"):
        prepare(source, tmp_path / "set")
