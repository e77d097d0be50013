"""A loader in a process of its own: same bits, kept batches, faults, and nothing left behind."""

from __future__ import annotations

import gc
import json
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from symgraph.data import Augment, Batch, Loader, digits, open_dataset
from symgraph.data.messages import PACKET, pack_error, unpack_error
from symgraph.data.remote import _end, process_state
from symgraph.data.ring import Layout, Ring
from symgraph.errors import ArgumentError, DataError

pytestmark = [
    pytest.mark.timeout(120),
    pytest.mark.skipif(not hasattr(os, "memfd_create"), reason="needs Linux"),
]
ROOT = Path(__file__).parent.parent.parent


class UnpackableError(Exception):
    """An exception that can be packed and not unpacked."""

    def __init__(self, a: int, b: int) -> None:
        super().__init__(f"{a} and {b}")


def stop_short(status: int) -> None:
    os._exit(status)


FAULTS: dict[str, Callable[[], Any]] = {
    "raise": lambda: [].index("the disk is on fire"),
    "long": lambda: (_ for _ in ()).throw(RuntimeError("x" * 10**6)),
    "odd": lambda: (_ for _ in ()).throw(UnpackableError(1, 2)),
    "exit": lambda: sys.exit("enough"),
    "memory": lambda: np.empty(1 << 60, np.uint8),
    "status": lambda: stop_short(3),
    "kill": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "segv": lambda: os.kill(os.getpid(), signal.SIGSEGV),
}


class Noise:
    """`count` noisy images of side 10; image i has label i, and the fault of its place, if any."""

    def __init__(
        self,
        count: int = 50,
        faults: dict[int, str] | None = None,
        seconds: float = 0.0,
        diary: Path | None = None,
    ) -> None:
        random = np.random.default_rng(2)
        self.images = random.integers(0, 256, (count, 3, 10, 10), dtype=np.uint8)
        self.mean_image = random.uniform(0, 255, (3, 10, 10)).astype(np.float32)
        self.classes = [str(i) for i in range(count)]
        self.image_size = 10
        self.faults, self.seconds, self.diary = faults or {}, seconds, diary

    def __len__(self) -> int:
        return len(self.images)

    def read(self, indices: Any) -> tuple[np.ndarray, np.ndarray]:
        for index in indices:
            if int(index) in self.faults:
                FAULTS[self.faults[int(index)]]()
        if self.diary is not None:
            with self.diary.open("a") as file:
                file.write(f"{int(indices[0])}\n")
        time.sleep(self.seconds)
        return self.images[indices], np.asarray(indices, dtype=np.int32)


class Unopenable(Noise):
    """A data set that cannot be opened where it arrives."""

    def __reduce__(self) -> tuple[object, ...]:
        return int, ("no number",)


def process_loader(dataset: Any = None, batch: int = 16, **options: Any) -> Loader:
    return Loader(dataset or Noise(), batch, **{"crop": 7, "process": True, **options})


def take(loader: Loader, count: int) -> None:
    for _ in range(count):
        loader.next_batch()


def same(a: Batch, b: Batch) -> bool:
    return (
        a.images.tobytes() == b.images.tobytes()
        and a.labels.tolist() == b.labels.tolist()
        and (a.index, a.row, a.images_of_all) == (b.index, b.row, b.images_of_all)
        and (a.epoch, a.step) == (b.epoch, b.step)
        and a.indices.tolist() == b.indices.tolist()
    )


def alive(process: int) -> bool:
    try:
        stat = Path(f"/proc/{process}/stat").read_text("ascii")
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] not in "ZX"


def wait_until(condition: Callable[[], bool], seconds: float = 20.0) -> bool:
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.01)
    return condition()


def descriptors() -> set[str]:
    gc.collect()
    return {f"{name}: {os.readlink(f'/proc/self/fd/{name}')}" for name in descriptor_names()}


def descriptor_names() -> list[str]:
    names = os.listdir("/proc/self/fd")
    return [name for name in names if os.path.lexists(f"/proc/self/fd/{name}")]


@contextmanager
def nothing_left() -> Iterator[list[int]]:
    """Check that processes noted in the list, and descriptors, are gone at the end."""
    before, processes = descriptors(), list[int]()
    yield processes
    assert processes
    assert not [process for process in processes if alive(process)]
    assert not Path(f"/proc/{processes[0]}").exists()  # waited for, too
    assert descriptors() - before == set()


# -------------------------------------------------------------------------------- the same batches


@pytest.mark.parametrize(
    "options",
    [
        {"batch": 16, "seed": 5, "workers": 3, "prefetch": 4},
        {"batch": 7, "rank": 2, "ranks": 4, "prefetch": 1},
        {"batch": 20, "shuffle": False, "augment": False, "drop_last": True},
        {"batch": 64, "augment": Augment(3, seed=2**64 - 1, mirror=False), "crop": None},
    ],
    ids=["threads", "ranks", "evaluation", "whole"],
)
def test_batches_are_those_of_threads_to_and_fro(options: dict[str, Any]) -> None:
    random = np.random.default_rng(3)
    with process_loader(**options) as ours, Loader(Noise(), **{"crop": 7, **options}) as theirs:
        assert len(ours) == len(theirs)
        states = []
        for _ in range(3 * len(theirs)):
            assert ours.state() == theirs.state()
            states.append(json.loads(json.dumps(theirs.state())))
            assert same(ours.next_batch(), theirs.next_batch())
        for _ in range(12):  # the process always has batches of another place to leave out
            state = states[random.integers(len(states))]
            for loader in (ours, theirs):
                loader.set_state(state)
            for _ in range(random.integers(4)):
                assert same(ours.next_batch(), theirs.next_batch())
        assert [batch.step for batch in ours] == [batch.step for batch in theirs]
        assert ours.epoch == theirs.epoch
        assert ours.images_per_second > 0
        assert ours.wait_seconds > 0


def test_batches_that_nobody_wants_any_more_are_not_begun(tmp_path: Path) -> None:
    noise = Noise(seconds=0.3, diary=tmp_path / "diary")
    with process_loader(noise, 5, shuffle=False, prefetch=9) as loader:
        loader.next_batch()
        loader.set_state({**loader.state(), "position": 45})
        assert loader.next_batch().labels.tolist() == list(range(45, 50))
    read = [int(line) for line in (tmp_path / "diary").read_text().splitlines()]
    assert 45 in read
    assert read.index(45) <= 5  # nine others had been asked for


def test_prepared_and_built_in_data_go_through(prepared: Path) -> None:
    for dataset, crop in ((digits(32), 28), (open_dataset(prepared), 3)):
        with (
            Loader(dataset, 8, crop=crop, process=True) as ours,
            Loader(dataset, 8, crop=crop) as theirs,
        ):
            assert all(same(a, b) for a, b in zip(ours, theirs))


def test_pixels_of_a_prepared_set_are_not_sent(prepared: Path) -> None:
    with process_loader(open_dataset(prepared), 8, crop=3) as loader:
        loader.next_batch()
        maps = Path(f"/proc/{loader.pid}/maps").read_text("utf-8")
    assert str(prepared / "train-00000.npy") in maps


# ----------------------------------------------------------------------------------------- memory


def test_kept_batches_are_never_written_over() -> None:
    with process_loader(prefetch=2) as loader, Loader(Noise(), 16, crop=7) as threads:
        kept = [*loader, *loader]
        views = [batch.images[1:, :, ::2] for batch in [*loader]]
        labels = [batch.labels[1:] for batch in [*loader]]
        for _ in range(20):
            loader.next_batch()
        expected = [*threads, *threads, *threads, *threads]
    del loader
    gc.collect()  # and the memory outlives its loader
    for batch, wanted in zip(kept, expected):
        assert same(batch, wanted)
    for view, wanted in zip(views, expected[8:]):
        np.testing.assert_array_equal(view, wanted.images[1:, :, ::2])
    for label, wanted in zip(labels, expected[12:]):
        np.testing.assert_array_equal(label, wanted.labels[1:])


def test_dropped_batches_lie_in_few_slots_that_can_be_pinned() -> None:
    with process_loader(prefetch=2, workers=2) as loader:
        assert loader.staging is not None
        start, size = loader.staging
        assert start % 4096 == size % 4096 == 0
        addresses = set()
        for _ in range(40):
            batch = loader.next_batch()
            addresses.add(batch.images.ctypes.data)
            assert start <= batch.labels.ctypes.data < start + size
        assert len(addresses) <= 4  # nothing was copied, though one batch was always held
        assert all(start <= at < start + size and at % 4096 == 0 for at in addresses)
        held = [loader.next_batch() for _ in range(5)]
        places = [batch.images.ctypes.data for batch in held]
        assert not all(start <= at < start + size for at in places)  # too many to lie in the ring
    with Loader(Noise(), 16, crop=7) as threads:
        assert threads.staging is threads.pid is None


@given(st.integers(1, 9), st.integers(1, 300), st.integers(1, 40), st.data())
@settings(deadline=None, max_examples=50)
def test_parts_of_slots_lie_apart(slots: int, images: int, crop: int, data: st.DataObject) -> None:
    layout = Layout(slots, images, crop)
    memory = np.zeros(layout.size, np.uint8)
    count = data.draw(st.integers(0, images))
    for slot in range(slots):
        whole = memory[slot * layout.slot_size : (slot + 1) * layout.slot_size]
        for number, part in enumerate(layout.parts(whole, count)):
            assert len(part) == count
            assert not part.any()  # nobody else has written here
            part[...] = slot * 3 + number + 1
    for slot in range(slots):
        whole = memory[slot * layout.slot_size : (slot + 1) * layout.slot_size]
        for number, part in enumerate(layout.parts(whole, count)):
            assert (part == slot * 3 + number + 1).all()


def test_a_slot_is_free_when_its_last_view_is_gone() -> None:
    ring = Ring(Layout(2, 4, 5))
    assert ring.free.popleft() == 0
    images, labels = ring.lend(0, 3)
    assert list(ring.free) == [1]
    view = images[1:, 0].T
    del images
    gc.collect()
    assert list(ring.free) == [1]
    del view
    gc.collect()
    assert list(ring.free) == [1]  # the labels still lie there
    del labels
    assert list(ring.free) == [1, 0]
    copied, _ = ring.copy(ring.free.popleft(), 4)
    assert list(ring.free) == [0, 1]
    assert copied.flags.owndata
    ring.close()


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
        os.kill(loader.pid, signal.SIGTERM)
        assert wait_until(lambda: not alive(loader.pid or 0))
        with pytest.raises(DataError, match="was killed by SIGTERM"):
            take(loader, 4)


def test_damaged_shards_keep_their_message(prepared: Path) -> None:
    with process_loader(open_dataset(prepared), 8, crop=4, shuffle=False) as loader:
        (prepared / "train-00003.npy").write_bytes(b"bad")
        for _ in range(3):
            loader.next_batch()
        with pytest.raises(DataError, match=r"batch 3 .*train-00003.npy is not a .npy file"):
            loader.next_batch()


def test_a_shard_cut_short_under_its_map_is_named(tmp_path: Path) -> None:
    from symgraph.data import prepare

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


def test_what_cannot_be_opened_there_is_an_error_here() -> None:
    with (
        process_loader(Unopenable()) as loader,
        pytest.raises(
            DataError, match=r"the loader process \d+ cannot work: ValueError: invalid literal"
        ),
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
