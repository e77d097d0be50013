"""A loader's process as the process that uses the batches sees it.

All planning stays here: the other side (`symgraph.data.process`) is told which images to make and
into which slot of a shared ring, and answers that it has. So it can be killed and started anew, and
what it makes has the bits that threads would have made.
"""

from __future__ import annotations

import contextlib
import logging
import os
import pickle
import signal
import socket
import subprocess
import sys
import threading
import time
import weakref
from collections import deque
from dataclasses import dataclass
from pathlib import Path

from symgraph.data.messages import (
    ANSWER,
    BROKEN,
    FAILED,
    FORGET,
    MADE,
    ORDER,
    PACKET,
    said,
    unpack_error,
)
from symgraph.data.recipe import Arrays, Places, Recipe
from symgraph.data.ring import Layout, Ring
from symgraph.errors import ArgumentError, DataError
from symgraph.runtime.process import mapped, shared_memory, start

_log = logging.getLogger("symgraph")
_ROOT = str(Path(__file__).resolve().parents[2])
_COMMAND = [sys.executable, "-P", "-m", "symgraph.data.process"]
_GLANCE = 1.0  # seconds after which it is looked whether the process is still there
_FAREWELL = 5.0  # seconds that it has to end once it has closed its channel
# By letter in /proc, the most telling first: a process has several threads.
_STATES = {
    "Z": "has ended",
    "T": "is stopped by a signal",
    "t": "is stopped by a debugger",
    "D": "waits for a disk or another device",
    "R": "is running",
    "S": "is asleep",
}


class LoadingError(Exception):
    """A batch that could not be made in the other process; `cause` is what was raised there.

    With `died`, the process is gone, and another one might do better.
    """

    def __init__(
        self, text: str, cause: BaseException | None = None, fix: str = "", died: bool = False
    ) -> None:
        super().__init__(text)
        self.cause, self.fix, self.died = cause, fix, died


@dataclass(eq=False)
class Order:
    """One batch that was asked for."""

    number: int
    places: Places
    epoch: int
    slot: int = -1  # none yet
    made: bool = False
    dropped: bool = False
    failure: LoadingError | None = None


def process_state(process: int) -> str:
    """Return in words what a process does at the moment, by the most telling of its threads."""
    letters = set()
    with contextlib.suppress(OSError):
        for thread in Path(f"/proc/{process}/task").iterdir():
            with contextlib.suppress(OSError, IndexError):
                letters.add((thread / "stat").read_text("ascii").rpartition(")")[2].split()[0])
    for letter, words in _STATES.items():
        if letter in letters:
            return words
    return "is in a state that this system does not tell"


def _end(process: subprocess.Popen[bytes], channel: socket.socket, owner: int) -> None:
    """End the process, which has nothing to save; a forked copy of its owner leaves it alone."""
    channel.close()
    if os.getpid() == owner:
        process.kill()
        process.wait()
    else:
        process.returncode = 0  # not ours to wait for


def _packed(recipe: Recipe, layout: Layout, workers: int) -> bytes:
    """Return what the process needs to know.

    Raises `ArgumentError` where the data set cannot be sent.
    """
    kind = type(recipe.dataset)
    fix = "put its class into a module that can be imported, or load in threads (process=False)"
    if kind.__module__ == "__main__":
        raise ArgumentError(
            f"Loader: a process of its own cannot find the class {kind.__qualname__}, which the "
            "script itself defines.",
            fix=fix,
        )
    try:
        return pickle.dumps((recipe, layout, workers))
    except Exception as error:
        raise ArgumentError(
            f"Loader: the data set cannot be sent to a process of its own: {said(error)}.", fix=fix
        ) from error


class LoaderProcess:
    """Makes batches in a process of its own; `submit`, `take` and `drop` as in `makers`.

    The process ends with this one, however that ends. When it dies by itself, `take` raises
    `LoadingError`, and the next `submit` starts another.
    """

    def __init__(self, recipe: Recipe, layout: Layout, workers: int, patience: float) -> None:
        self._recipe, self._workers, self._patience = recipe, workers, patience
        self.seconds, self.images = 0.0, 0
        self._numbers = 0
        self._waiting: deque[Order] = deque()  # for a slot
        self._asked: dict[int, Order] = {}
        self._forget = False  # the process is still to be told of orders that were dropped
        self._waited_for: Order | None = None
        self._since = 0.0  # when that began, or the process last said something
        self._process: subprocess.Popen[bytes] | None = None
        packed = _packed(recipe, layout, workers)
        self.ring = Ring(layout)
        try:
            self._start(packed)
        except BaseException:
            self.ring.close()
            raise

    def _start(self, packed: bytes) -> None:
        try:
            with contextlib.ExitStack() as stack:
                setup = shared_memory(len(packed))
                stack.callback(os.close, setup)
                mapped(setup).data[: len(packed)] = packed
                here, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
                stack.callback(there.close)
                unused = stack.enter_context(contextlib.ExitStack())
                unused.callback(here.close)
                self._process = self._started(there.fileno(), self.ring.descriptor, setup)
                unused.pop_all()
        except OSError as error:
            raise DataError(f"Loader: its process cannot be started: {error}.") from error
        self._channel, self._starter = here, threading.current_thread()
        self._stop = weakref.finalize(self, _end, self._process, here, os.getpid())

    def _started(self, *descriptors: int) -> subprocess.Popen[bytes]:
        # It finds the modules that this process finds, in the same order.
        search = [*(folder or os.getcwd() for folder in sys.path), _ROOT]
        threads = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
        return start(
            [*_COMMAND, *map(str, descriptors)],
            descriptors,
            {"PYTHONPATH": os.pathsep.join(search), **threads},
            stdin=subprocess.DEVNULL,
        )

    @property
    def pid(self) -> int | None:
        """The number of the process; None where it has ended and none was started since."""
        return None if self._process is None else self._process.pid

    def submit(self, places: Places, epoch: int) -> Order:
        """Ask for a batch; it is begun when there is a slot for it."""
        self._numbers += 1
        order = Order(self._numbers, places, epoch)
        self._waiting.append(order)
        self._feed()
        return order

    def drop(self, order: Order) -> None:
        """Forget about a batch that was asked for."""
        order.dropped = True
        if order.made:
            self.ring.free.append(order.slot)
        elif order.number in self._asked:
            self._forget = True
        elif order in self._waiting:
            self._waiting.remove(order)

    def ready(self, order: Order, seconds: float) -> bool:
        """Wait so long for a batch; tell whether `take` would give it, or raise, at once.

        While the process does not come up with it, a line is logged after every `patience` seconds.
        """
        end = time.monotonic() + seconds
        if self._waited_for is not order:
            self._waited_for, self._since = order, time.monotonic()
        try:
            while not order.made and order.failure is None:
                self._feed()
                warn = self._since + self._patience
                if self._answered(min(end, warn) - time.monotonic()):
                    self._since = time.monotonic()
                elif time.monotonic() >= warn:
                    self._warn()
                elif time.monotonic() >= end:
                    return False
        except BaseException:  # Ctrl-C, which may have come between an answer and its reading
            self._renew()
            raise
        return True

    def take(self, order: Order) -> Arrays:
        """Wait for a batch and return it; `LoadingError` says why there is none."""
        while not self.ready(order, self._patience):
            pass
        if order.failure is not None:
            raise order.failure
        order.made = False
        count = len(order.places)
        # A ring whose batches are all kept has no slot left for the next.
        arrays = (self.ring.lend if self.ring.free else self.ring.copy)(order.slot, count)
        return (*arrays, *self._recipe.windows(order.places, order.epoch))

    def _warn(self) -> None:
        self._since = time.monotonic()
        _log.warning(
            "Loader: no batch for %g seconds; the loader process %s %s.",
            self._patience, self.pid, process_state(self.pid or 0),
        )  # fmt: skip

    def _feed(self) -> None:
        """Send the orders for which there are slots; a process that died meanwhile is replaced."""
        if self._process is None:
            self._start(_packed(self._recipe, self.ring.layout, self._workers))
        with contextlib.suppress(OSError):  # it has died: that is found when its answer is read
            if self._forget:
                dropped = [number for number, order in self._asked.items() if order.dropped]
                if dropped:
                    self._channel.send(ORDER.pack(max(dropped), 0, 0, FORGET))
                self._forget = False
            while self._waiting and self.ring.free:
                order = self._waiting[0]
                self._asked[order.number] = order
                order.slot = self.ring.free.popleft()
                self._waiting.popleft()
                count = len(order.places)
                self.ring.layout.parts(self.ring.slot(order.slot), count)[2][:] = order.places
                self._channel.send(ORDER.pack(order.number, order.slot, order.epoch, count))

    def _answered(self, seconds: float) -> bool:
        """Take in one answer; return False where none has come in this time."""
        end = time.monotonic() + seconds
        while True:
            self._channel.settimeout(max(min(end - time.monotonic(), _GLANCE), 1e-3))
            try:
                packet = self._channel.recv(PACKET)
                break
            except TimeoutError:
                if time.monotonic() >= end:
                    return False
                assert self._process is not None
                if self._process.poll() is not None:  # its end is held open by whom it started
                    packet = self._last_words()
                    break
            except ConnectionError:  # it left orders unread: that is told before what it has said
                packet = self._last_words()
                break
        if packet:
            self._read(packet)
        else:
            self._lost(self._obituary())
        return True

    def _last_words(self) -> bytes:
        """Return what a process that has ended has said and nobody has read; empty for nothing."""
        self._channel.settimeout(0.0)
        with contextlib.suppress(OSError):
            return self._channel.recv(PACKET)
        return b""

    def _read(self, packet: bytes) -> None:
        kind, number, seconds = ANSWER.unpack_from(packet)
        if kind == BROKEN:
            text, cause = unpack_error(packet[ANSWER.size :])
            self._lost(LoadingError(f"the loader process {self.pid} cannot work: {text}", cause))
            return
        order = self._asked.pop(number)
        if kind == MADE:
            self.seconds += seconds
            self.images += len(order.places)
        if kind == MADE and not order.dropped:
            order.made = True
            return
        self.ring.free.append(order.slot)
        if kind == FAILED:
            order.failure = LoadingError(*unpack_error(packet[ANSWER.size :]))

    def _obituary(self) -> LoadingError:
        """Return how the process ended, once its channel is closed."""
        assert self._process is not None
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(_FAREWELL)
        status, who = self._process.returncode, f"the loader process {self.pid}"
        if status is None:
            return LoadingError(f"{who} does not answer any more.")
        if status >= 0:
            fix = "what it has written to the standard error says why"
            return LoadingError(f"{who} ended with exit status {status}.", fix=fix, died=True)
        try:
            name = signal.Signals(-status).name
        except ValueError:
            name = f"signal {-status}"
        if status == -signal.SIGBUS and (cause := self._damage()) is not None:
            return LoadingError(f"{who} was killed by {name}: {cause}", cause)
        fix = ""
        if status == -signal.SIGKILL:
            fix = "the system does that where memory is short: try a smaller batch or prefetch"
            if not self._starter.is_alive():
                fix = "it ends with the thread that made the loader: make it where it is used"
        return LoadingError(f"{who} was killed by {name}.", fix=fix, died=True)

    def _damage(self) -> Exception | None:
        """Return what is wrong with the files that were being read through a memory map."""
        examine = getattr(self._recipe.dataset, "examine", None)
        try:
            if examine is not None:
                for order in self._asked.values():
                    examine(order.places)
        except DataError as error:
            return error
        return None

    def _lost(self, failure: LoadingError) -> None:
        """Bury the process: what it was asked for fails, what it has made stays."""
        self._stop()
        self._process = None
        for order in self._waiting:
            order.failure = failure
        for order in self._asked.values():
            order.failure = failure
            self.ring.free.append(order.slot)
        self._asked.clear()
        self._waiting.clear()
        self._forget = False

    def _renew(self) -> None:
        """End the process and ask the next one for all that this one was asked for."""
        self._stop()
        self._process = None
        for number in sorted(self._asked, reverse=True):
            order = self._asked.pop(number)
            if order.slot >= 0:
                self.ring.free.append(order.slot)
            order.slot = -1
            if not order.dropped and order not in self._waiting:
                self._waiting.appendleft(order)
        self._forget = False

    def close(self) -> None:
        """End the process and give the ring back, as far as no batch lies in it."""
        self._stop()
        self._process = None
        self.ring.close()
