"""Starts the workers of a training, watches them, and sees that none is left.

The launcher computes nothing. It holds a socket to every worker, whose end is seen at once, and
names the first that ended and why; the others, which wait for it in vain, are ended then.
"""

from __future__ import annotations

import errno
import json
import os
import selectors
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import FrameType
from typing import Any, BinaryIO, cast

from symgraph.config import usable_cores
from symgraph.errors import ArgumentError, WorkerError
from symgraph.frozen import frozen
from symgraph.parallel.team import PLACE
from symgraph.runtime.process import start

if sys.platform != "win32":
    import resource

DIED = 71  # EX_OSERR: how a worker ends whose loader died: it might do better the next time
LOST = 75  # EX_TEMPFAIL: how a worker ends that misses another one; the other one is the reason
GRACE = 60.0  # seconds in which workers end by themselves when one has died: one may be saving
NOT_MOVING = 30.0  # seconds between two words about a worker for which others wait

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_STOPPED = {0, LOST, *(128 + one for one in _SIGNALS)}  # how workers end that nothing happened to


@dataclass
class Worker:
    """A worker as its launcher sees it; `rank` counts the workers of this launch."""

    rank: int
    number: int  # its rank in the whole team
    process: subprocess.Popen[bytes]
    control: socket.socket
    at: str = "starting"  # its last words
    joined: bool = False  # it is past its imports, and knows what to do about a signal
    lines: list[str] = field(default_factory=list)  # the last of its errors
    told: bytes = b""  # half a message
    printed: bytes = b""  # half a line
    code: int | None = None

    def name(self) -> str:
        """Name it."""
        return f"worker {self.number} (process {self.process.pid})"


@frozen
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
    given the descriptors too, which are closed here.

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
        self.signals: list[int] = []
        self.ended: list[Worker] = []  # in order
        self.failed: Worker | None = None
        self.reason = ""
        self.waiting: dict[int, tuple[float, float]] = {}  # by rank: since when, and when told
        self.deadline: float | None = None

    def run(self) -> Outcome:
        """Start, watch, and leave nobody behind, however this ends."""
        try:
            with self._held_signals():
                self._start()
                if not self.signals:  # or nothing has begun
                    self._watch()
        finally:
            self._kill()
            self.selector.close()
        return self._outcome()

    def _outcome(self) -> Outcome:
        codes = [one.code or 0 for one in self.workers]
        if self.first is None and self.failed is None and not self.signals and LOST in codes:
            missed = next((one for one in self.ended if one.code != LOST), self.ended[0])
            self._fail(missed, f"{missed.name()} ended before the others")
        if self.failed is not None:
            code = self.failed.code or 0
            again = not self.signals and (code < 0 or code == DIED)
            return Outcome(max(code, 1), self.failed.number, self.reason, again)
        if self.signals:
            return Outcome(128 + self.signals[0])
        return Outcome(
            next((code for code in codes if code not in (0, LOST)), max(codes, default=0))
        )

    def _fail(self, worker: Worker, reason: str) -> None:
        self.failed, self.reason = worker, reason
        self.say(reason)

    # -- starting ----------------------------------------------------------------------------------

    def _start(self) -> None:
        """Start all, each connected to each; half a team is ended by `run`."""
        sockets: list[dict[int, socket.socket]] = [{} for _ in range(self.count)]
        _allow_descriptors(self.count * self.count)
        try:
            for rank in range(self.count):
                for other in range(rank + 1, self.count):
                    sockets[rank][other], sockets[other][rank] = socket.socketpair()
                self.workers.append(self._started(rank, sockets[rank]))
                for one in sockets[rank].values():
                    one.close()
                if self.signals:
                    return
        except OSError as problem:
            if problem.errno != errno.EMFILE:
                raise
            raise WorkerError(
                f"launch: {self.count} workers need more open files than this process may have.",
                fix="ulimit -n 65536, or fewer workers",
            ) from problem
        finally:
            for each in sockets:
                for one in each.values():
                    one.close()
            for descriptor in self.descriptors:  # the first worker has them now
                os.close(descriptor)

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
        os.set_blocking(cast("BinaryIO", process.stderr).fileno(), False)
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
            if self.deadline is not None:
                self._end_the_rest()

    def _heard(self, worker: Worker, control: socket.socket) -> None:
        worker.joined = True  # before it is read: a signal may come right after
        more = control.recv(1 << 16)
        if not more:  # it died, or will do so in a moment
            self.selector.unregister(control)
            return
        *whole, worker.told = (worker.told + more).split(b"\n")
        for line in whole:
            message = json.loads(line)
            if "waiting" in message:
                self.waiting.setdefault(int(message["waiting"]), (time.monotonic(), -NOT_MOVING))
            elif "came" in message:
                self.waiting.pop(int(message["came"]), None)
            else:
                worker.at = str(message["at"])
                self.waiting.pop(worker.rank, None)

    def _read(self, worker: Worker, stream: BinaryIO) -> bool:
        """Take in what a worker has written; tell whether there may be more at once."""
        try:
            more = os.read(stream.fileno(), 1 << 16)
        except BlockingIOError:
            return False
        if not more:
            self.selector.unregister(stream)
            return False
        *whole, worker.printed = (worker.printed + more).split(b"\n")
        for line in whole:
            text = line.decode(errors="replace")
            worker.lines = [*worker.lines[-19:], text]
            if worker.number == 0:
                print(text, file=sys.stderr, flush=True)
        return True

    def _ended(self, worker: Worker) -> None:
        worker.code = worker.process.wait()
        self.ended.append(worker)
        self._rest(worker)
        asked = self.signals and -worker.code in (*_SIGNALS, signal.SIGKILL)
        if worker.code not in _STOPPED and not asked and self.failed is None:
            self._fail(worker, self._why(worker))
        if (self.failed is not None or worker.code == LOST) and self.deadline is None:
            self.deadline = time.monotonic() + GRACE

    def _rest(self, worker: Worker) -> None:
        """Read what an ended worker still had to say, but wait for nobody who keeps its output."""
        stream = cast("BinaryIO", worker.process.stderr)
        while stream.fileno() in self.selector.get_map() and self._read(worker, stream):
            pass
        if worker.printed:
            worker.lines.append(worker.printed.decode(errors="replace"))
            if worker.number == 0:
                print(worker.lines[-1], file=sys.stderr, flush=True)
            worker.printed = b""

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

    def _end_the_rest(self) -> None:
        """End workers that miss another one and cannot notice, or have not for long."""
        late = self.deadline is not None and time.monotonic() > self.deadline
        for worker in self.workers:
            if worker.code is None and (late or _letter(worker.process.pid) == "T"):
                worker.process.kill()

    @contextmanager
    def _held_signals(self) -> Iterator[None]:
        """Pass Ctrl-C and SIGTERM on while workers run; only the main thread can get one."""

        def handle(number: int, frame: FrameType | None) -> None:
            self.signals.append(number)
            for worker in self.workers:
                if worker.process.poll() is None:
                    ends = len(self.signals) > 2 or not _has_joined(worker)
                    worker.process.send_signal(signal.SIGKILL if ends else number)

        if threading.current_thread() is not threading.main_thread():
            yield
            return

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


def _allow_descriptors(count: int) -> None:
    """Have this process open as many files as it may, where it needs more than the usual."""
    if sys.platform != "win32":
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        if count > soft // 2:
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _letter(process: int) -> str:
    """Give the system's letter for what a process does; "" where it does not tell."""
    try:
        with open(f"/proc/{process}/stat", encoding="ascii", errors="replace") as file:
            return file.read().rpartition(")")[2].split()[0]
    except OSError:
        return ""


def _state(process: int) -> str:
    """Tell what the system says that a process does."""
    letter = _letter(process)
    if not letter:
        return "the system does not tell what it does"
    known = {"T": "it is stopped by a signal", "t": "it is held by a debugger",
             "D": "it waits for a disk or a device", "Z": "it is dead"}  # fmt: skip
    return known.get(letter, "it is running")


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _has_joined(worker: Worker) -> bool:
    """Tell whether a worker has said anything, be it that nobody has read it yet."""
    if worker.joined:
        return True
    try:
        return bool(worker.control.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT))
    except OSError:
        return False
