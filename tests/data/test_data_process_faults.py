"""A loader's process that fails, stalls, dies or is closed: it is told, and nothing is left."""

from __future__ import annotations

import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from symgraph.data import Loader, open_dataset, prepare
from symgraph.data.messages import PACKET, pack_error, unpack_error
from symgraph.data.remote import _end, process_state
from symgraph.errors import ArgumentError, DataError
from tests.data.noise import (
    Noise,
    Unopenable,
    alive,
    descriptors,
    nothing_left,
    process_loader,
    same,
    take,
    wait_until,
)

pytestmark = [
    pytest.mark.timeout(120),
    pytest.mark.skipif(not hasattr(os, "memfd_create"), reason="needs Linux"),
]
ROOT = Path(__file__).parent.parent.parent


# ----------------------------------------------------------------------------------------- faults


def test_what_is_raised_there_is_raised_here_at_its_batch() -> None:
    faults = {33: "raise", 42: "long", 51: "odd", 60: "exit", 70: "memory"}
    with process_loader(Noise(90, faults), 10, shuffle=False, prefetch=3) as loader:
        pid, start = loader.pid, loader.state()
        assert [loader.next_batch().step for _ in range(3)] == [0, 1, 2]
        for _ in range(2):
            with pytest.raises(
                DataError, match="batch 3 of epoch 0 could not be loaded: ValueError: 'the disk is"
            ) as caught:
                loader.next_batch()
        assert isinstance(caught.value.__cause__, ValueError)
        (note,) = caught.value.__cause__.__notes__
        assert "In the loader process:" in note
        assert "in read" in note
        for step, message in (
            (4, "RuntimeError: xxx"),
            (5, "UnpackableError: 1 and 2"),
            (6, "SystemExit: enough"),
            (7, "MemoryError: Unable to allocate"),
        ):
            loader.set_state({**start, "position": step * 10})
            with pytest.raises(DataError, match=message) as caught:
                loader.next_batch()
            assert len(str(caught.value)) < 10**4
        loader.set_state({**start, "position": 80})
        assert loader.next_batch().labels.tolist() == list(range(80, 90))
        assert loader.pid == pid  # it has outlived all that


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("kill", "was killed by SIGKILL.*fix: the system does that where memory is short"),
        ("segv", "was killed by SIGSEGV"),
        ("status", "ended with exit status 3.*fix: what it has written to the standard error"),
    ],
)
def test_its_death_is_an_error_at_once_and_another_takes_over(fault: str, message: str) -> None:
    with nothing_left() as processes:
        with process_loader(Noise(faults={33: fault}), 10, shuffle=False, prefetch=3) as loader:
            assert loader.pid is not None
            processes.append(loader.pid)
            kept, begin = loader.next_batch(), time.monotonic()
            with pytest.raises(DataError, match=f"(?s)the loader process {loader.pid} {message}"):
                take(loader, 4)
            assert time.monotonic() - begin < 10
            assert loader.pid is None
            with pytest.raises(DataError, match=f"(?s){message}"):
                loader.next_batch()
            loader.set_state({**loader.state(), "position": 40})
            assert loader.next_batch().labels.tolist() == list(range(40, 50))
            assert loader.pid not in (None, *processes)
            processes.append(loader.pid)
        assert kept.labels.tolist() == list(range(10))
        del kept, loader


def test_an_idle_process_that_dies_is_replaced_or_told_of() -> None:
    with process_loader() as loader:
        loader.next_batch()
        assert loader.pid is not None
        os.kill(loader.pid, signal.SIGUSR1)
        assert wait_until(lambda: not alive(loader.pid or 0))
        with pytest.raises(DataError, match="was killed by SIGUSR1"):
            take(loader, 4)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_that_stop_a_run_are_for_its_trainer(number: int) -> None:
    """A system that ends a group of processes sends them to all; the trainer wants to save."""
    with process_loader() as loader:
        loader.next_batch()
        assert loader.pid is not None
        os.kill(loader.pid, number)
        pid = loader.pid
        assert len(loader.next_batch()) > 0
        assert loader.pid == pid


def test_damaged_shards_keep_their_message(prepared: Path) -> None:
    with process_loader(open_dataset(prepared), 8, crop=4, shuffle=False) as loader:
        (prepared / "train-00003.npy").write_bytes(b"bad")
        for _ in range(3):
            loader.next_batch()
        with pytest.raises(DataError, match=r"batch 3 .*train-00003.npy is not a .npy file"):
            loader.next_batch()


def test_a_shard_cut_short_under_its_map_is_named(tmp_path: Path) -> None:
    Image = pytest.importorskip("PIL.Image")
    (tmp_path / "source/one").mkdir(parents=True)
    for number in range(8):
        Image.new("RGB", (64, 64), (number, 0, 0)).save(tmp_path / f"source/one/{number}.png")
    prepare(tmp_path / "source", tmp_path / "set", 64, shard_images=8, validation=0.0)
    with process_loader(open_dataset(tmp_path / "set"), 1, crop=60, shuffle=False) as loader:
        loader.next_batch()  # the file is mapped, and its checksum was right
        os.truncate(tmp_path / "set/train-00000.npy", 4096)
        with pytest.raises(
            DataError, match=r"was killed by SIGBUS: .*train-00000.npy has 4096 bytes"
        ) as caught:
            take(loader, 7)
        assert isinstance(caught.value.__cause__, DataError)


def test_a_stopped_process_is_reported_and_waited_for(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, "symgraph")
    with process_loader(Noise(seconds=0.01), patience=0.3) as loader:
        loader.next_batch()
        pid = loader.pid
        assert pid is not None
        caplog.clear()
        os.kill(pid, signal.SIGSTOP)
        timer = threading.Timer(1.5, os.kill, (pid, signal.SIGCONT))
        timer.start()
        before = loader.wait_seconds
        with Loader(Noise(), 16, crop=7) as threads:
            threads.next_batch()
            for _ in range(6):
                assert same(loader.next_batch(), threads.next_batch())
        timer.join()
    lines = [record.getMessage() for record in caplog.records]
    assert 1 <= len(lines) <= 20
    start = f"Loader: no batch for 0.3 seconds; the loader process {pid} "
    assert lines[0] == f"{start}is stopped by a signal."
    assert all(line.startswith(start) for line in lines)
    assert loader.wait_seconds - before > 0.9


def test_states_are_told_in_words() -> None:
    sleeper = subprocess.Popen(["sleep", "60"])
    try:
        assert wait_until(lambda: process_state(sleeper.pid) == "is asleep")
        sleeper.send_signal(signal.SIGSTOP)
        assert wait_until(lambda: process_state(sleeper.pid) == "is stopped by a signal")
    finally:
        sleeper.kill()
    assert wait_until(lambda: process_state(sleeper.pid) == "has ended")
    sleeper.wait()
    assert process_state(sleeper.pid) == "is in a state that this system does not tell"


class Interrupted:
    """A channel upon which Ctrl-C comes once, just when an answer was read."""

    def __init__(self, channel: socket.socket) -> None:
        self.channel, self.yet = channel, True

    def recv(self, size: int) -> bytes:
        packet = self.channel.recv(size)
        if self.yet:
            self.yet = False
            raise KeyboardInterrupt
        return packet

    def __getattr__(self, name: str) -> Any:
        return getattr(self.channel, name)


@pytest.mark.parametrize("moment", ["waiting", "reading"])
def test_ctrl_c_loses_no_batch(moment: str) -> None:
    with process_loader(Noise(seconds=0.4), shuffle=False) as loader:
        loader.next_batch()
        if moment == "reading":
            maker: Any = loader._maker
            maker._channel = Interrupted(maker._channel)
        else:
            main = threading.main_thread().ident
            assert main is not None
            timer = threading.Timer(0.2, signal.pthread_kill, (main, signal.SIGINT))
            timer.start()
        with pytest.raises(KeyboardInterrupt):
            take(loader, 4)
        if moment == "waiting":
            timer.join()
        with Loader(Noise(), 16, crop=7, shuffle=False) as threads:
            threads.set_state(loader.state())
            for _ in range(5):
                assert same(loader.next_batch(), threads.next_batch())


def test_a_loader_made_in_a_thread_that_ended_says_so() -> None:
    with ThreadPoolExecutor(1) as pool:
        loader = pool.submit(process_loader).result()
        pool.submit(loader.next_batch).result()
    with loader, pytest.raises(DataError, match="fix: it ends with the thread that made"):
        take(loader, 10)


def test_what_cannot_be_sent_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = Noise()
    before = descriptors()
    for options, message in (
        ({"workers": 0}, "process=True needs workers=1 or more"),
        ({"patience": 0}, "patience must be a positive number of seconds, got 0"),
        ({"patience": float("nan")}, "patience must be a positive number"),
        ({"patience": True}, "patience must be a positive number"),
    ):
        with pytest.raises(ArgumentError, match=message):
            process_loader(dataset, **options)
    dataset.faults = lambda: None  # type: ignore[assignment]
    with pytest.raises(ArgumentError, match=r"(?s)cannot be sent to a process.*fix: put its class"):
        process_loader(dataset)
    monkeypatch.setattr(Noise, "__module__", "__main__")
    with pytest.raises(ArgumentError, match="cannot find the class Noise"):
        process_loader()
    assert descriptors() == before


@pytest.mark.parametrize("late", [False, True])
def test_what_cannot_be_opened_there_is_an_error_here(late: bool) -> None:
    """Also when nobody listens before the process has ended, without having read its orders."""
    with process_loader(Unopenable(seconds=0.5 if late else 0.0)) as loader:
        if late:
            loader.ready(0.01)
            assert loader.pid is not None
            pid = loader.pid
            wait_until(lambda: not alive(pid))
        with pytest.raises(
            DataError, match=r"the loader process \d+ cannot work: ValueError: invalid literal"
        ):
            loader.next_batch()


@given(st.text(max_size=40000), st.sampled_from([ValueError, KeyError, OSError, DataError]))
@settings(deadline=None, max_examples=40)
def test_errors_fit_into_a_packet(text: str, kind: type[Exception]) -> None:
    packed = pack_error(kind(text))
    assert len(packed) < PACKET - 100
    told, error = unpack_error(packed)
    assert told == f"{kind.__name__}: {kind(text)}"[:8192]
    assert error is None or (type(error) is kind and str(error) == str(kind(text)))
    assert error is not None or len(text) > 1000


# ------------------------------------------------------------------------------ nothing left behind


@pytest.mark.parametrize("moment", ["start", "work", "stopped", "forgotten", "idle", "dead"])
def test_closing_leaves_nothing(moment: str) -> None:
    with nothing_left() as processes:
        loader = process_loader(Noise(seconds=5.0 if moment == "work" else 0.0))
        assert loader.pid is not None
        processes.append(loader.pid)
        if moment == "work":
            loader._maker.submit(np.arange(5), 0)
            time.sleep(1.0)
        elif moment != "start":
            loader.next_batch()
        if moment in ("stopped", "dead"):
            os.kill(loader.pid, signal.SIGSTOP if moment == "stopped" else signal.SIGKILL)
        begin = time.monotonic()
        if moment == "forgotten":
            del loader
        else:
            loader.close()
            loader.close()
            with pytest.raises(ArgumentError, match="it is closed"):
                loader.next_batch()
        assert time.monotonic() - begin < 4


CONSUMER = """
import sys, time
sys.path.insert(0, {root!r})
from symgraph.data import Loader, open_dataset
loader = Loader(open_dataset({path!r}), 8, crop=4, process=True)
print(loader.pid, flush=True)
loader.next_batch()
print("ready", flush=True)
time.sleep({seconds})
"""


@pytest.mark.parametrize("how", ["killed", "killed beside a stopped one", "ended"])
def test_it_ends_with_its_consumer(how: str, prepared: Path) -> None:
    seconds = 0 if how == "ended" else 60
    code = CONSUMER.format(root=str(ROOT), path=str(prepared), seconds=seconds)
    consumer = subprocess.Popen(
        [sys.executable, "-c", code],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert consumer.stdout is not None
    try:
        process = int(consumer.stdout.readline())
        assert consumer.stdout.readline() == "ready\n"
        if how != "ended":
            if "stopped" in how:
                os.kill(process, signal.SIGSTOP)
            assert alive(process)
            consumer.kill()
        _, errors = consumer.communicate(timeout=30)
        assert wait_until(lambda: not alive(process))
        assert errors == ""
    finally:
        consumer.kill()
        consumer.communicate()


def test_a_forked_copy_leaves_the_process_alone() -> None:
    sleeper = subprocess.Popen(["sleep", "60"])
    try:
        copy = subprocess.Popen.__new__(subprocess.Popen)
        copy.__dict__.update(sleeper.__dict__)
        _end(copy, socket.socket(), owner=os.getpid() + 1)
        assert alive(sleeper.pid)
        _end(sleeper, socket.socket(), owner=os.getpid())
        assert not alive(sleeper.pid)
    finally:
        sleeper.kill()
        sleeper.wait()


# --------------------------------------------------------------------------------- waiting a while


def test_waiting_for_a_batch_takes_none() -> None:
    with (
        process_loader(Noise(seconds=0.3), shuffle=False) as loader,
        Loader(Noise(), 16, crop=7, shuffle=False) as other,
    ):
        start = loader.state()
        assert not loader.ready(0.01)
        assert loader.ready(30.0)
        assert loader.ready()
        assert loader.state() == start
        assert loader.wait_seconds > 0.01
        for _ in range(5):
            assert loader.ready(30.0)
            assert same(loader.next_batch(), other.next_batch())


def test_what_goes_wrong_is_ready_and_raised_when_it_is_taken() -> None:
    with process_loader(Noise(faults={0: "kill"}), shuffle=False) as loader:
        assert loader.ready(30.0)
        with pytest.raises(DataError, match="was killed by SIGKILL"):
            loader.next_batch()
        with pytest.raises(DataError, match="was killed by SIGKILL"):
            loader.ready()


def test_ctrl_c_while_waiting_a_while_loses_no_batch() -> None:
    with process_loader(Noise(seconds=0.4), shuffle=False) as loader:
        maker: Any = loader._maker
        loader.next_batch()
        maker._channel = Interrupted(maker._channel)
        with pytest.raises(KeyboardInterrupt):
            loader.ready(30.0)
        with Loader(Noise(), 16, crop=7, shuffle=False) as threads:
            threads.set_state(loader.state())
            for _ in range(5):
                assert same(loader.next_batch(), threads.next_batch())


def test_short_waits_together_are_a_long_one(caplog: pytest.LogCaptureFixture) -> None:
    """Whoever waits again and again is told as one who waits once."""
    caplog.set_level(logging.WARNING, "symgraph")
    with process_loader(Noise(seconds=1.5), patience=0.4) as loader:
        while not loader.ready(0.05):
            pass
    assert sum("no batch for 0.4 seconds" in one.getMessage() for one in caplog.records) >= 2
