"""Starts the workers of a training, watches them, and sees that none is left.

The launcher computes nothing. It holds a socket to every worker, whose end is seen at once, and
names the first that ended and why; the others, which wait for it in vain, are ended then.
"""

from __future__ import annotations

import json
import os
import selectors
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import FrameType
from typing import Any, BinaryIO, cast

from symgraph.config import usable_cores
from symgraph.errors import ArgumentError
from symgraph.parallel.team import PLACE
from symgraph.runtime.process import start

DIED = 71  # EX_OSERR: how a worker ends whose loader died: it might do better the next time
LOST = 75  # EX_TEMPFAIL: how a worker ends that misses another one; the other one is the reason
GRACE = 5.0  # seconds that workers have to end by themselves when one has died
NOT_MOVING = 30.0  # seconds between two words about a worker for which others wait

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


@dataclass
class Worker:
    """A worker as its launcher sees it; `rank` counts the workers of this launch."""

    rank: int
    number: int  # its rank in the whole team
    process: subprocess.Popen[bytes]
    control: socket.socket
    at: str = "starting"  # its last words
    lines: list[str] = field(default_factory=list)  # the last of its errors
    told: bytes = b""  # half a message
    printed: bytes = b""  # half a line
    code: int | None = None

    def name(self) -> str:
        """Name it."""
        return f"worker {self.number} (process {self.process.pid})"


@dataclass(frozen=True)
class Outcome:
    """How a training ended: an exit status for the shell, and the worker that was the reason.

    `failed` is None where all ended well, or where a user stopped them.
    """

    status: int
    failed: int | None = None
    reason: str = ""
    killed: bool = False  # it, or a loader of it, did not end by itself


def launch(
    command: Sequence[str],
    workers: int,
    *,
    environment: Callable[[int], Mapping[str, str]] | None = None,
    patience: float = 600.0,
    say: Callable[[str], None] | None = None,
    first: int | None = None,
    descriptors: Sequence[int] = (),
) -> Outcome:
    """Run a program as several workers, which call `join`, until all have ended.

    Rank 0 writes to this process's output, the others nowhere; errors of all come here, and what
    this function has to say goes to `say` (standard error). Each worker has its share of the
    cores, unless the environment says how many threads it has; `environment` adds to that of a
    rank. A worker for which others wait longer than `patience` seconds counts as dead.

    Where these are a part of a team, `first` is the rank in it of the first of them. That one is
    given the descriptors too.

    Ctrl-C and SIGTERM are passed on to all; the third time they are killed.
    """
    if workers < 1:
        raise ArgumentError(f"launch: workers must be at least 1, got {workers}.")
    watch = _Watch(command, workers, environment, patience, say or _say)
    watch.first, watch.descriptors = first, descriptors
    return watch.run()


class _Watch:
    """One launch."""

    def __init__(
        self,
        command: Sequence[str],
        count: int,
        environment: Callable[[int], Mapping[str, str]] | None,
        patience: float,
        say: Callable[[str], None],
    ) -> None:
        self.command, self.count, self.environment = list(command), count, environment
        self.patience, self.say = patience, say
        self.first: int | None = None  # the rank of the first one in a team of several launches
        self.descriptors: Sequence[int] = ()
        self.workers: list[Worker] = []
        self.selector = selectors.DefaultSelector()
        self.signals = 0
        self.ended: list[Worker] = []  # in order
        self.failed: Worker | None = None
        self.reason = ""
        self.waiting: dict[int, tuple[float, float]] = {}  # by rank: since when, and when told
        self.deadline: float | None = None

    def run(self) -> Outcome:
        """Start, watch, and leave nobody behind, however this ends."""
        try:
            with self._signals():
                self._start()
                self._watch()
        finally:
            self._kill()
            self.selector.close()
        if (
            self.first is None
            and self.failed is None
            and not self.signals
            and any(w.code == LOST for w in self.workers)
        ):
            self.failed = self.ended[0]
            self.reason = f"{self.failed.name()} ended before the others"
            self.say(self.reason)
        if self.failed is not None:
            code = self.failed.code or 0
            killed = code < 0 or code == DIED
            return Outcome(max(code, 1), self.failed.number, self.reason, killed)
        codes = [one.code or 0 for one in self.workers]
        return Outcome(next((code if code > 0 else 128 - code for code in codes if code), 0))

    # -- starting ----------------------------------------------------------------------------------

    def _start(self) -> None:
        """Start all, each connected to each; half a team is ended by `run`."""
        sockets: list[dict[int, socket.socket]] = [{} for _ in range(self.count)]
        try:
            for low in range(self.count):
                for high in range(low + 1, self.count):
                    sockets[low][high], sockets[high][low] = socket.socketpair()
            for rank in range(self.count):
                self.workers.append(self._started(rank, sockets[rank]))
        finally:
            for each in sockets:
                for one in each.values():
                    one.close()

    def _started(self, rank: int, peers: Mapping[int, socket.socket]) -> Worker:
        ours, theirs = socket.socketpair()
        number = (self.first or 0) + rank
        place = {
            "rank": rank,
            "size": self.count,
            "peers": {other: one.fileno() for other, one in peers.items()},
            "control": theirs.fileno(),
        }
        with theirs:
            process = start(
                self.command,
                [
                    theirs.fileno(),
                    *(one.fileno() for one in peers.values()),
                    *(() if rank else self.descriptors),
                ],
                {**self._threads(), **self._own(rank), PLACE: json.dumps(place)},
                stdin=subprocess.DEVNULL,
                stdout=None if number == 0 else subprocess.DEVNULL,
                stderr=subprocess.PIPE,
            )
        worker = Worker(rank, number, process, ours)
        self.selector.register(ours, selectors.EVENT_READ, (worker, self._heard))
        self.selector.register(
            cast("BinaryIO", process.stderr), selectors.EVENT_READ, (worker, self._read)
        )
        return worker

    def _own(self, rank: int) -> Mapping[str, str]:
        return self.environment(rank) if self.environment else {}

    def _threads(self) -> dict[str, str]:
        """Give each worker its share of the cores."""
        share = str(max(1, usable_cores() // self.count))
        names = ("SYMGRAPH_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
        return {name: share for name in names if name not in os.environ}

    # -- watching ----------------------------------------------------------------------------------

    def _watch(self) -> None:
        while any(one.code is None for one in self.workers):
            for key, _ in self.selector.select(timeout=0.2):
                worker, handle = key.data
                handle(worker, key.fileobj)
            for worker in self.workers:
                if worker.code is None and worker.process.poll() is not None:
                    self._ended(worker)
            self._look_at_waiting()
            if self.deadline is not None and time.monotonic() > self.deadline:
                self._kill()
                self.deadline = None

    def _heard(self, worker: Worker, control: socket.socket) -> None:
        more = control.recv(1 << 16)
        if not more:  # it died, or will do so in a moment
            self.selector.unregister(control)
            return
        *whole, worker.told = (worker.told + more).split(b"\n")
        for line in whole:
            message = json.loads(line)
            if "waiting" in message:
                self.waiting.setdefault(int(message["waiting"]), (time.monotonic(), -NOT_MOVING))
            else:
                worker.at = str(message["at"])
                self.waiting.pop(worker.rank, None)

    def _read(self, worker: Worker, stream: BinaryIO) -> None:
        more = os.read(stream.fileno(), 1 << 16)
        if not more:
            self.selector.unregister(stream)
            return
        *whole, worker.printed = (worker.printed + more).split(b"\n")
        for line in whole:
            text = line.decode(errors="replace")
            worker.lines = [*worker.lines[-19:], text]
            if worker.number == 0:
                print(text, file=sys.stderr, flush=True)

    def _ended(self, worker: Worker) -> None:
        worker.code = worker.process.wait()
        self.ended.append(worker)
        self._rest(worker)
        expected = worker.code == 0 or self.signals or worker.code == LOST
        if not expected and self.failed is None:
            self.failed, self.reason = worker, self._why(worker)
            self.say(self.reason)
            self.deadline = time.monotonic() + GRACE
        elif worker.code == LOST and self.deadline is None:
            self.deadline = time.monotonic() + GRACE

    def _rest(self, worker: Worker) -> None:
        """Read what an ended worker still had to say."""
        stream = cast("BinaryIO", worker.process.stderr)
        while stream.fileno() in self.selector.get_map():
            self._read(worker, stream)
        if worker.printed:
            worker.lines.append(worker.printed.decode(errors="replace"))

    def _why(self, worker: Worker) -> str:
        """Say in one sentence how a worker ended, and where it was."""
        code = worker.code or 0
        if code >= 0:
            how = f"ended with status {code}"
        elif -code == signal.SIGKILL:
            how = "was killed by SIGKILL: by somebody, or by the system for want of memory"
        else:
            how = f"was killed by {signal.Signals(-code).name}"
        said = _last_words(worker.lines) if worker.number else ""  # the first's are shown anyway
        return f"{worker.name()} {how}; it was at: {worker.at}" + (said and f"; it said: {said}")

    def _look_at_waiting(self) -> None:
        now = time.monotonic()
        for rank, (since, told) in list(self.waiting.items()):
            worker = self.workers[rank]
            if worker.code is not None:
                del self.waiting[rank]
            elif now - since > self.patience and self.failed is None:
                worker.process.kill()
                self.waiting.pop(rank)
                self.say(f"{worker.name()} has kept others waiting for {now - since:.0f} s: ended")
            elif now - told >= NOT_MOVING:
                self.waiting[rank] = since, now
                self.say(
                    f"others wait for {worker.name()}: {_state(worker.process.pid)}; "
                    f"it was at: {worker.at}"
                )

    # -- ending ------------------------------------------------------------------------------------

    @contextmanager
    def _signals(self) -> Iterator[None]:
        """Pass Ctrl-C and SIGTERM on while workers run."""

        def handle(number: int, frame: FrameType | None) -> None:
            self.signals += 1
            for worker in self.workers:
                if worker.process.poll() is None:
                    worker.process.send_signal(signal.SIGKILL if self.signals > 2 else number)

        before: dict[signal.Signals, Any] = {}
        try:
            for number in _SIGNALS:
                before[number] = signal.signal(number, handle)
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, signal.SIG_DFL if handler is None else handler)

    def _kill(self) -> None:
        for worker in self.workers:
            if worker.process.poll() is None:
                worker.process.kill()
            if worker.code is None:
                worker.code = worker.process.wait()
            worker.control.close()
            if worker.process.stderr is not None:
                worker.process.stderr.close()


def _last_words(lines: Sequence[str]) -> str:
    """Give a whole error of symgraph, which may have several lines, or the last line of another."""
    written = [line for line in lines if line.strip()]
    first = len(written) - 1
    for number, line in enumerate(written):
        if line.startswith("error: "):
            first = number
    return "\n".join(written[max(first, 0) :])


def _state(process: int) -> str:
    """Tell what the system says that a process does."""
    try:
        with open(f"/proc/{process}/stat", encoding="ascii", errors="replace") as file:
            letter = file.read().rpartition(")")[2].split()[0]
    except OSError:
        return "the system does not tell what it does"
    known = {"T": "it is stopped by a signal", "t": "it is held by a debugger",
             "D": "it waits for a disk or a device", "Z": "it is dead"}  # fmt: skip
    return known.get(letter, "it is running")


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
