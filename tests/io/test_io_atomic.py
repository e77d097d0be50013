"""A crash, a full disk or a second process never costs a checkpoint that was there."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import symgraph as sg
from symgraph.errors import ArgumentError, CheckpointError, CheckpointMissingError
from symgraph.io import (
    atomic_file,
    check_matches,
    latest_checkpoint,
    list_checkpoints,
    load_checkpoint,
    read_checkpoint_header,
    save_checkpoint,
)
from symgraph.io.atomic import remove_stale_partials

ROOT = Path(__file__).parent.parent.parent
SMALL = {"w": np.arange(4, dtype=np.float32)}

SAVING = """
import sys
import numpy as np
from symgraph.io import save_checkpoint
step = 0
while True:
    step += 1
    tensors = {name: np.full(30_000, step, np.float32) for name in "abcd"}
    save_checkpoint(sys.argv[1], tensors, {"step": step}, keep=2)
    if step == 1:
        print("saved", flush=True)
"""

LIMITED = """
import resource, sys
import numpy as np
from symgraph.io import save_checkpoint
for limit in sys.argv[2:]:
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(limit), resource.RLIM_INFINITY))
    try:
        save_checkpoint(sys.argv[1], {"w": np.zeros(500_000)}, {"step": 2})
    except Exception as error:
        print(f"{type(error).__name__}: {error}", flush=True)
"""


def python(code: str, *arguments: Any) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT,
    )  # fmt: skip


def hidden(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.name.startswith("."))


def names(folder: Path) -> list[str]:
    return [path.name for path in list_checkpoints(folder)]


def test_killed_while_saving(tmp_path: Path, rng: np.random.Generator) -> None:
    """Whatever moment is hit, the newest file is whole; what lies about goes with the next save."""
    folder, before, cut = tmp_path / "run", 0, 0
    for delay in rng.uniform(0.0, 0.05, 20):
        process = python(SAVING, folder)
        assert process.stdout is not None
        assert process.stdout.readline() == "saved\n", process.communicate()[1]
        time.sleep(delay)
        process.kill()
        assert process.wait() == -signal.SIGKILL
        process.communicate()
        cut += bool(hidden(folder))
        numbers = []
        for path in list_checkpoints(folder):
            found = load_checkpoint(path)
            for array in found.tensors.values():
                np.testing.assert_array_equal(array, np.float32(found.meta["step"]))
            numbers.append(int(path.name.split("-")[1]))
        # Killed between adding a file and removing the oldest, there is one more than `keep`.
        assert 1 <= len(numbers) <= 3
        assert numbers[-1] > before
        before = numbers[-1]
        save_checkpoint(folder, {"w": np.zeros(4)}, {"step": 0}, keep=2)
        assert hidden(folder) == []
        assert len(list_checkpoints(folder)) == 2
        before += 1
        if cut == 3:
            break
    assert cut, "no kill came in the middle of a file"


@pytest.mark.skipif(sys.platform == "win32", reason="no such limit there")
def test_a_full_disk(tmp_path: Path) -> None:
    kept = save_checkpoint(tmp_path, SMALL, {"step": 1})
    limits = (0, 4, 100, 1_000_000, 3_999_999)
    output, errors = python(LIMITED, tmp_path, *limits).communicate()
    lines = output.splitlines()
    assert len(lines) == 5 * len(limits), output + errors
    for at in range(0, len(lines), 5):
        message, needed, free, intact, fix = lines[at : at + 5]
        text = f"CheckpointError: checkpoint {tmp_path} could not be written: File too large."
        assert message == text
        assert needed == "  needed : 4,000,000 bytes"
        assert free.endswith(f"bytes on the disk of {tmp_path}")
        assert intact == f"  intact : {kept}"
        assert fix == "  fix: make room, or save elsewhere"
    assert list(tmp_path.iterdir()) == [kept]
    np.testing.assert_array_equal(load_checkpoint(tmp_path).tensors["w"], SMALL["w"])


@pytest.mark.skipif(sys.platform == "win32", reason="no such limit there")
def test_a_full_disk_leaves_the_file_that_would_be_replaced(tmp_path: Path) -> None:
    path = save_checkpoint(tmp_path / "model.safetensors", SMALL, {"step": 1})
    output, _ = python(LIMITED, path, 100_000).communicate()
    assert f"checkpoint {path} could not be written: File too large." in output
    assert load_checkpoint(path).meta["step"] == 1
    assert list(tmp_path.iterdir()) == [path]


def test_folders_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(CheckpointError, match=r"file/run could not be written: Not a directory"):
        save_checkpoint(tmp_path / "file" / "run", SMALL, {"step": 1})
    with pytest.raises(CheckpointError, match=r"file could not be written: File exists"):
        save_checkpoint(tmp_path / "file", SMALL, {"step": 1})
    with pytest.raises(CheckpointError, match=r"could not be written: File name too long"):
        save_checkpoint(tmp_path / ("x" * 250 + ".safetensors"), SMALL, {"step": 1})


def write_half(target: Path, kind: type[BaseException]) -> None:
    with atomic_file(target) as file:
        file.write(b"half")
        raise kind


def test_an_exception_leaves_what_was_there(tmp_path: Path) -> None:
    target = tmp_path / "file"
    target.write_bytes(b"before")
    for kind in (ValueError, KeyboardInterrupt, SystemExit):
        with pytest.raises(kind):
            write_half(target, kind)
        assert target.read_bytes() == b"before"
        assert hidden(tmp_path) == []
    with atomic_file(target) as file:
        file.write(b"after")
        file.flush()
        assert target.read_bytes() == b"before"
    assert target.read_bytes() == b"after"
    assert hidden(tmp_path) == []


def test_a_new_file_may_be_read_by_whom_the_umask_lets(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        path = save_checkpoint(tmp_path, SMALL, {"step": 1})
    finally:
        os.umask(before)
    assert path.stat().st_mode & 0o777 == 0o640


def test_only_files_of_dead_writers_are_removed(tmp_path: Path) -> None:
    dead = tmp_path / f".x.safetensors.{'0' * 12}.partial"
    dead.write_bytes(b"half")
    others = [tmp_path / ".download.partial", tmp_path / "y.partial", tmp_path / ".z.abc.partial"]
    for other in others:
        other.touch()
    with atomic_file(tmp_path / "alive") as file:
        assert remove_stale_partials(tmp_path) == [dead]
        assert len(hidden(tmp_path)) == 3
        file.write(b"whole")
    assert (tmp_path / "alive").read_bytes() == b"whole"
    assert all(other.exists() for other in others)


def test_leftovers_that_cannot_be_opened_keep_nobody_from_saving(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(b"secret")
    link = tmp_path / f".a.{'0' * 12}.partial"
    link.symlink_to(secret)
    folder = tmp_path / f".b.{'0' * 12}.partial"
    folder.mkdir()
    save_checkpoint(tmp_path, SMALL, {"step": 1})
    assert link.is_symlink()
    assert folder.is_dir()
    assert secret.read_bytes() == b"secret"


def test_a_cleaner_never_takes_a_file_that_is_being_made(tmp_path: Path) -> None:
    """Between making a file and locking it, a cleaner may find it: the writer makes another."""
    stop = threading.Event()

    def clean() -> None:
        while not stop.is_set():
            remove_stale_partials(tmp_path)

    cleaners = [threading.Thread(target=clean) for _ in range(2)]
    for cleaner in cleaners:
        cleaner.start()
    try:
        for number in range(100):
            with atomic_file(tmp_path / "file") as file:
                file.write(str(number).encode())
            assert (tmp_path / "file").read_bytes() == str(number).encode()
    finally:
        stop.set()
        for cleaner in cleaners:
            cleaner.join()


def test_names_and_order(tmp_path: Path) -> None:
    """After going back to an older step, the newest file is still the one saved last."""
    assert list_checkpoints(tmp_path / "nothing") == []
    for step in (500, 1000, 250):
        save_checkpoint(tmp_path, SMALL, {"step": step}, keep=10)
    assert names(tmp_path) == [
        "checkpoint-0001-step-500.safetensors",
        "checkpoint-0002-step-1000.safetensors",
        "checkpoint-0003-step-250.safetensors",
    ]
    assert latest_checkpoint(tmp_path).name == "checkpoint-0003-step-250.safetensors"
    assert load_checkpoint(tmp_path).meta["step"] == 250
    assert read_checkpoint_header(tmp_path).path == latest_checkpoint(tmp_path)


def test_numbers_beyond_four_digits(tmp_path: Path) -> None:
    first = save_checkpoint(tmp_path, SMALL, {"step": 1})
    first.rename(tmp_path / "checkpoint-9999-step-1.safetensors")
    save_checkpoint(tmp_path, SMALL, {"step": 2})
    assert names(tmp_path)[-1] == "checkpoint-10000-step-2.safetensors"
    assert save_checkpoint(tmp_path, SMALL, {"step": 3}).name.startswith("checkpoint-10001-")


def test_the_longest_step_is_found_again(tmp_path: Path) -> None:
    path = save_checkpoint(tmp_path, SMALL, {"step": 10**18 - 1})
    assert latest_checkpoint(tmp_path) == path


@pytest.mark.parametrize("keep", [1, 2, 3])
def test_keep(tmp_path: Path, keep: int) -> None:
    others = ["notes.txt", "model.safetensors", "checkpoint-1-step-1.safetensors", "metrics.jsonl"]
    for other in others:
        (tmp_path / other).touch()
    (tmp_path / "checkpoint-0000-step-0.safetensors").mkdir()
    for step in range(1, 6):
        save_checkpoint(tmp_path, SMALL, {"step": step}, keep=keep)
        last = range(max(step - keep, 0) + 1, step + 1)
        assert names(tmp_path) == [f"checkpoint-{n:04}-step-{n}.safetensors" for n in last]
    assert all((tmp_path / other).exists() for other in others)


def test_keep_is_three_and_at_least_one(tmp_path: Path) -> None:
    for step in range(5):
        save_checkpoint(tmp_path, SMALL, {"step": step})
    assert len(list_checkpoints(tmp_path)) == 3
    wrong: Any
    for wrong in (0, -1, True, 2.0, None):
        with pytest.raises(ArgumentError, match=f"keep must be at least 1, not {wrong}"):
            save_checkpoint(tmp_path, SMALL, {"step": 9}, keep=wrong)
    assert len(list_checkpoints(tmp_path)) == 3


def test_a_file_of_its_own_name_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "best.safetensors"
    for rate in (0.1, 0.2):
        assert save_checkpoint(path, SMALL, {"rate": rate}) == path  # no step is needed
        assert load_checkpoint(path).meta["rate"] == rate
    assert list(path.parent.iterdir()) == [path]


def test_an_empty_folder_has_no_latest(tmp_path: Path) -> None:
    for read in (latest_checkpoint, load_checkpoint, read_checkpoint_header):
        with pytest.raises(CheckpointMissingError, match=f"no checkpoint in {tmp_path}") as caught:
            read(tmp_path)
        assert caught.value.fix == "give the folder of a run, or the .safetensors file itself"


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    """Return a checkpoint of two weights and the state of an optimizer."""
    tensors = {
        "w": np.zeros((2, 3), np.float32),
        "b": np.zeros(3, np.float32),
        "optimizer.w": np.zeros((2, 3), np.float32),
    }
    return save_checkpoint(tmp_path, tensors, {"step": 1, "model": "tiny"})


FITS: dict[str, Any] = {
    "w": ((2, 3), "float32"), "b": ([3], np.float32), "optimizer.w": ((2, np.int64(3)), "f4"),
}  # fmt: skip


def test_what_fits(saved: Path) -> None:
    check_matches(read_checkpoint_header(saved), FITS)
    check_matches(load_checkpoint(saved), dict(reversed(FITS.items())))
    weights = {name: FITS[name] for name in ("w", "b")}
    check_matches(load_checkpoint(saved), weights, ignore=("optimizer.",))


def test_what_does_not_fit(saved: Path) -> None:
    expected: dict[str, Any] = {
        "w": ((2, 4), "float32"),
        "b": ((3,), np.float16),
        "scale": ((), "float64"),
    }
    for checkpoint in (load_checkpoint(saved), read_checkpoint_header(saved)):
        with pytest.raises(CheckpointError) as caught:
            check_matches(checkpoint, expected, "the model of today")
        assert str(caught.value).splitlines() == [
            f"checkpoint {saved} does not fit the model of today: 1 tensors missing, 1 surplus, "
            "2 of another shape or dtype.",
            "  it was saved from tiny",
            "  missing : scale float64[]",
            "  surplus : optimizer.w float32[2, 3]",
            "  differs : w: float32[2, 3] in the checkpoint, float32[2, 4] in the model of today",
            "  differs : b: float32[3] in the checkpoint, float16[3] in the model of today",
            "  fix: load it into the model it was saved from, or build the model of today with "
            "the same settings",
        ]


def test_ignored_names_may_be_surplus_and_not_wrong(saved: Path) -> None:
    expected = {**FITS, "optimizer.w": ((3, 2), "float32"), "optimizer.b": ((3,), "float32")}
    with pytest.raises(CheckpointError, match="1 tensors missing, 0 surplus, 1 of another"):
        check_matches(load_checkpoint(saved), expected, ignore=("optimizer.",))


def test_of_many_differences_a_few_are_listed(saved: Path) -> None:
    expected = {f"layer{n}": ((n,), "float32") for n in range(100)}
    with pytest.raises(CheckpointError) as caught:
        check_matches(load_checkpoint(saved), expected)
    missing = [line for line in caught.value.details if line.startswith("missing")]
    assert missing[0] == "missing : layer0 float32[0]"
    assert missing[5:] == ["missing : and 95 more"]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no pipes with names here")
def test_a_device_or_a_pipe_stays_what_it_is(tmp_path: Path) -> None:
    pipe = tmp_path / "net.safetensors"
    os.mkfifo(pipe)
    with pytest.raises(CheckpointError, match="a device or a pipe is there, and no file"):
        save_checkpoint(pipe, SMALL, {})
    function = sg.function([], sg.zeros((2,)))
    with pytest.raises(CheckpointError, match="a device or a pipe is there, and no file"):
        function.save(pipe)
    assert pipe.is_fifo()
    assert os.listdir(tmp_path) == [pipe.name]


def test_a_link_stays_and_its_file_is_written(tmp_path: Path) -> None:
    (tmp_path / "far").mkdir()
    link, target = tmp_path / "link", tmp_path / "far" / "file"
    link.symlink_to(Path("far") / "file")
    for content in (b"new", b"newer"):
        with atomic_file(link) as file:
            file.write(content)
        assert link.is_symlink()
        assert target.read_bytes() == content
        assert not target.is_symlink()
    assert hidden(tmp_path / "far") == []
