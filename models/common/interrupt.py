"""Ctrl-C that waits for the end of a training step.

An update that is cut in the middle leaves weights of two different moments. So the first SIGINT or
SIGTERM only sets a flag; the training loop reads it between two steps, saves there and leaves.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any

_HELD = (signal.SIGINT, signal.SIGTERM)

GLANCE = 0.1  # seconds of waiting for a batch after which it is looked whether to stop

# A system that ends a group of processes sends SIGTERM to each, and whoever started one passes his
# on: within so many seconds they are one.
AGAIN = 1.0


class Interrupted:
    """True once the user or the system asked the run to stop."""

    def __init__(self) -> None:
        self.signal: signal.Signals | None = None
        self.got: tuple[int, float] | None = None  # the first signal of this process, and when

    def hear(self, number: int) -> None:
        """Take note of a signal that another process of the same run has got."""
        self.signal = self.signal or signal.Signals(number)

    def __bool__(self) -> bool:
        return self.signal is not None

    @property
    def exit_code(self) -> int:
        """What a shell expects of a program that a signal ended: 128 + its number, else 0."""
        return 0 if self.signal is None else 128 + self.signal


def wait_for_batch(loader: Any, interrupted: object) -> None:
    """Wait until a loader has its next batch, or the user asked to stop: it is not taken."""
    while not interrupted and not loader.ready(GLANCE):
        pass


@contextmanager
def hold_interrupts(
    notice: str = "stopping after this step; once more to stop at once",
) -> Iterator[Interrupted]:
    """Hold SIGINT and SIGTERM back while the block runs, and tell the loop through a flag.

    The first signal sets the flag and prints `notice` (if not empty) to standard error. The second
    aborts at once: KeyboardInterrupt for SIGINT, SystemExit(143) for SIGTERM. The handlers from
    before return when the block ends. Only the main thread of Python may set handlers: in any other
    thread nothing is held and the flag stays False.

    >>> with hold_interrupts() as interrupted:
    ...     steps = 0
    ...     while not interrupted and steps < 3:
    ...         steps += 1
    """
    interrupted = Interrupted()
    if threading.current_thread() is not threading.main_thread():
        yield interrupted
        return

    def handle(number: int, frame: FrameType | None) -> None:
        if interrupted.got is not None:
            first, when = interrupted.got
            if number == first == signal.SIGTERM and time.monotonic() - when < AGAIN:
                return
            if number == signal.SIGINT:
                raise KeyboardInterrupt
            raise SystemExit(128 + number)
        interrupted.got = number, time.monotonic()
        interrupted.hear(number)
        if notice:
            # print() is not safe here: the signal may have come in the middle of a print(). And in
            # `... | tee log`, Ctrl-C ends tee as well: nobody reads, and the step must go on.
            with suppress(OSError):
                os.write(2, f"\n{signal.Signals(number).name}: {notice}\n".encode())

    before: dict[signal.Signals, Any] = {}
    try:
        for number in _HELD:
            before[number] = signal.signal(number, handle)
        yield interrupted
    finally:
        for number, handler in before.items():
            # None: it was set by C code, which Python can neither name nor set again.
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
