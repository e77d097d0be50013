"""What a person sees while a model trains: a live bar on a terminal, plain lines elsewhere.

Both show the same: epoch, step, images per second, loss, learning rate, time left.
"""

from __future__ import annotations

import importlib.util
import os
import sys
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from rich.progress import Progress as RichBar
    from rich.progress import TaskID

_MEMORY = 30.0  # seconds over which the speed is averaged
_FRAMES = 8.0  # live pictures a second, at most


class Progress(ABC):
    """The course of a training run; used as a context manager. Make one with `show_progress`.

    `total` is the step at which the run ends, `first` the one it starts from (not 0 when resumed);
    `things` are what is counted, images unless told otherwise.
    """

    things = "images"
    course: dict[str, str] | None = None  # shown instead of all that; the first before the bar

    def __init__(self, *, total: int, epochs: int, first: int, clock: Callable[[], float]) -> None:
        self.total, self.epochs, self.first, self.clock = total, epochs, first, clock
        self.epoch, self.number = 0, first
        self.loss = self.learning_rate = float("nan")
        self._speed = _Speed(clock())

    def step(
        self, number: int, *, epoch: int, images: int, loss: float, learning_rate: float
    ) -> None:
        """Say that `number` steps are done, in the `epoch`-th epoch, the last with `images` images.

        Epochs count from 0 here and from 1 on the screen.
        """
        self._speed.add(self.clock(), number - self.number, images)
        self.number, self.epoch = number, epoch
        self.loss, self.learning_rate = float(loss), float(learning_rate)
        self._show_step()

    def epoch_end(self, **measured: float) -> None:
        """Leave a line about the epoch, with what was measured: ``validation_accuracy=0.9``."""
        values = [f"{name.replace('_', ' ')} {value:.4g}" for name, value in measured.items()]
        self.say("  ".join([self.line(), *values]))

    def line(self) -> str:
        """Everything in one line of text."""
        return "  ".join(
            f"{name} {value}" if name else value for name, value in self.fields().items()
        )

    def fields(self) -> dict[str, str]:
        """What both displays show, as text: label to value."""
        if self.course is not None:
            return {**self.course, "left": self.left()}
        return {
            "epoch": f"{self.epoch + 1}/{self.epochs}",
            "step": f"{self.number}/{self.total}",
            "": f"{self._speed.images:,.0f} {self.things}/s",
            "loss": f"{self.loss:.4f}",
            "rate": f"{self.learning_rate:.3g}",
            "left": self.left(),
        }

    def left(self) -> str:
        """The time left at the present speed, as h:mm:ss; dashes until there is a speed."""
        if self._speed.steps <= 0:
            return "-:--:--"
        seconds = round(max(self.total - self.number, 0) / self._speed.steps)
        return f"{seconds // 3600}:{seconds // 60 % 60:02}:{seconds % 60:02}"

    @abstractmethod
    def say(self, text: str) -> None:
        """Leave a line of text that stays on the screen."""

    @abstractmethod
    def _show_step(self) -> None:
        """Bring the display up to date, if it is time."""

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        return


def show_progress(
    *,
    total: int,
    epochs: int,
    first: int = 0,
    quiet: bool = False,
    stream: TextIO | None = None,
    every: float = 10.0,
    clock: Callable[[], float] = time.monotonic,
    things: str = "images",
) -> Progress:
    """The display that suits `stream` (standard output by default).

    A terminal gets a live bar if rich is installed. Everything else gets a plain line every `every`
    seconds and at the end of an epoch. `quiet` shows nothing at all.
    """
    target = stream if stream is not None else sys.stdout
    shown: Progress
    if quiet:
        shown = _Quiet(total=total, epochs=epochs, first=first, clock=clock)
    elif _is_live(target):
        shown = _Live(target, total=total, epochs=epochs, first=first, clock=clock)
    else:
        shown = _Plain(target, every, total=total, epochs=epochs, first=first, clock=clock)
    shown.things = things
    return shown


class _Quiet(Progress):
    def say(self, text: str) -> None:
        return

    def _show_step(self) -> None:
        return


class _Plain(Progress):
    def __init__(
        self,
        stream: TextIO,
        every: float,
        *,
        total: int,
        epochs: int,
        first: int,
        clock: Callable[[], float],
    ) -> None:
        super().__init__(total=total, epochs=epochs, first=first, clock=clock)
        self.stream, self.every = stream, every
        self._last = clock()

    def say(self, text: str) -> None:
        print(text, file=self.stream, flush=True)
        self._last = self.clock()

    def _show_step(self) -> None:
        if self.clock() - self._last >= self.every:
            self.say(self.line())


class _Live(Progress):
    def __init__(
        self, stream: TextIO, *, total: int, epochs: int, first: int, clock: Callable[[], float]
    ) -> None:
        super().__init__(total=total, epochs=epochs, first=first, clock=clock)
        self._bar, self._task = _rich_bar(stream, total, first)
        self._next = 0.0

    def say(self, text: str) -> None:
        self._bar.console.print(text, markup=False, highlight=False, soft_wrap=True)

    def _show_step(self) -> None:
        now = self.clock()
        if now < self._next and self.number < self.total:
            return
        self._next = now + 1 / _FRAMES
        fields = self.fields()
        first = ("epoch", "step") if self.course is None else tuple(self.course)[:1]
        # Drawn from here and not from rich's own thread, which would take time from the step.
        self._bar.update(
            self._task,
            completed=self.number,
            before="  ".join(f"{name} {fields.pop(name)}" for name in first),
            after="  ".join(f"{name} {value}".strip() for name, value in fields.items()),
            refresh=True,
        )

    def __enter__(self) -> Progress:
        self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bar.stop()


def _rich_bar(stream: TextIO, total: int, first: int) -> tuple[RichBar, TaskID]:
    from rich.console import Console
    from rich.progress import BarColumn, TextColumn
    from rich.progress import Progress as RichBar

    bar = RichBar(
        TextColumn("{task.fields[before]}", markup=False),
        BarColumn(bar_width=None),
        TextColumn("{task.fields[after]}", markup=False),
        console=Console(file=stream),
        auto_refresh=False,
        expand=True,
    )
    return bar, bar.add_task("", total=total, completed=first, before="starting", after="")


class _Speed:
    """Steps and images per second, averaged over the last half minute or so."""

    def __init__(self, now: float) -> None:
        self.steps = self.images = 0.0
        self._past = deque([(now, 0.0, 0.0)])

    def add(self, now: float, steps: int, images: int) -> None:
        _, all_steps, all_images = self._past[-1]
        self._past.append((now, all_steps + steps, all_images + images))
        while len(self._past) > 2 and now - self._past[1][0] > _MEMORY:
            self._past.popleft()
        (start, steps_then, images_then), (end, steps_now, images_now) = (
            self._past[0],
            self._past[-1],
        )
        if end > start:
            self.steps = (steps_now - steps_then) / (end - start)
            self.images = (images_now - images_then) / (end - start)


def _is_live(stream: TextIO) -> bool:
    return (
        stream.isatty()
        and os.environ.get("TERM") != "dumb"
        and importlib.util.find_spec("rich") is not None
    )
