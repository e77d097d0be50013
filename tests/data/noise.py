"""What the tests of loaders in processes share: a data set that goes wrong, and what is left."""

from __future__ import annotations

import gc
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from symgraph.data import Batch, Loader


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


def refuse(seconds: float) -> None:
    """Fail after some time."""
    time.sleep(seconds)
    int("no number")


class Unopenable(Noise):
    """A data set that cannot be opened where it arrives; that takes some time."""

    def __reduce__(self) -> tuple[object, ...]:
        return refuse, (self.seconds,)


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
