"""What a person sees while a model trains, and Ctrl-C."""

from __future__ import annotations

import io
import math
import os
import re
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from models.common.interrupt import GLANCE, hold_interrupts, wait_for_batch
from models.common.progress import Progress, show_progress

ROOT = Path(__file__).parent.parent.parent


class Clock:
    """A clock that stands still until it is set."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


def course(clock: Clock, stream: Any, **options: Any) -> Progress:
    options = {"total": 100, "epochs": 4, "every": 10.0, **options}
    return show_progress(stream=stream, clock=clock, **options)


def test_plain_lines() -> None:
    """At 2 steps of 32 images a second: one line in ten seconds."""
    clock, stream = Clock(), io.StringIO()
    with course(clock, stream) as progress:
        for step in range(1, 51):
            clock.now += 0.5
            progress.step(step, epoch=step // 26, images=32, loss=1 / step, learning_rate=0.01)
        assert stream.getvalue().splitlines() == [
            "epoch 1/4  step 20/100  64 images/s  loss 0.0500  rate 0.01  left 0:00:40",
            "epoch 2/4  step 40/100  64 images/s  loss 0.0250  rate 0.01  left 0:00:30",
        ]
        progress.epoch_end(validation_accuracy=0.91234567, validation_loss=math.nan)
        assert stream.getvalue().splitlines()[2:] == [
            "epoch 2/4  step 50/100  64 images/s  loss 0.0200  rate 0.01  left 0:00:25"
            "  validation accuracy 0.9123  validation loss nan",
        ]
        clock.now += 5.0  # a line was left just now: the next one is ten seconds after that
        progress.step(51, epoch=1, images=32, loss=1.0, learning_rate=1e-5)
        progress.say("by the way")
    assert stream.getvalue().splitlines()[3:] == ["by the way"]


def test_what_is_no_training_shows_a_course_of_its_own() -> None:
    clock, stream = Clock(), io.StringIO()
    with course(clock, stream) as progress:
        progress.course = {"done": "20.0 %", "steps": "300", "quality": "31.2 dB"}
        clock.now += 10.0
        progress.step(20, epoch=0, images=20, loss=0.0, learning_rate=0.0)
    line = "done 20.0 %  steps 300  quality 31.2 dB  left 0:00:40\n"
    assert stream.getvalue() == line


def test_the_time_left() -> None:
    clock = Clock()
    progress = course(clock, io.StringIO(), total=10_000, first=400)
    assert progress.left() == "-:--:--"
    assert progress.fields()["step"] == "400/10000"
    clock.now += 1.0
    # The steps before the run was resumed are not its own.
    progress.step(401, epoch=0, images=8, loss=1.0, learning_rate=1.0)
    assert (progress.left(), progress.fields()[""]) == ("2:39:59", "8 images/s")
    for step in range(402, 600):  # ten times as fast: after half a minute only that counts
        clock.now += 0.25
        progress.step(step, epoch=0, images=8, loss=1.0, learning_rate=1.0)
    assert (progress.left(), progress.fields()[""]) == ("0:39:10", "32 images/s")
    progress.step(10_001, epoch=0, images=8, loss=1.0, learning_rate=1.0)
    assert progress.left() == "0:00:00"


def test_a_clock_that_stands_still() -> None:
    progress = course(Clock(), io.StringIO(), every=0.0)
    progress.step(1, epoch=0, images=8, loss=1.0, learning_rate=1.0)
    assert progress.fields()["left"] == "-:--:--"


def test_quiet() -> None:
    clock, stream = Clock(), io.StringIO()
    with course(clock, stream, quiet=True) as progress:
        for step in range(1, 101):
            clock.now += 10
            progress.step(step, epoch=0, images=8, loss=1.0, learning_rate=1.0)
        progress.epoch_end(validation_accuracy=0.5)
        progress.say("nothing")
    assert stream.getvalue() == ""


SHOW = """
from models.common.progress import show_progress
with show_progress(total=20, epochs=2) as progress:
    for step in range(1, 21):
        progress.step(step, epoch=step // 11, images=8, loss=1 / step, learning_rate=0.5)
        if step % 10 == 0:
            progress.epoch_end(validation_accuracy=step / 40)
    progress.say("[bold]as it is[/bold]")
"""


def on_a_terminal(code: str, **environment: str) -> str:
    """Run Python with a pseudo-terminal as its output; give all that it wrote there."""
    pty = pytest.importorskip("pty")
    above, below = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdout=below, cwd=ROOT,
        env={**os.environ, "COLUMNS": "120", "LINES": "40", "TERM": "xterm", **environment},
    )  # fmt: skip
    os.close(below)
    written = b""
    while True:
        try:
            piece = os.read(above, 65536)
        except OSError:  # how Linux says that the other end is closed
            break
        if not piece:
            break
        written += piece
    os.close(above)
    assert process.wait() == 0
    return written.decode()


def test_a_live_bar_on_a_terminal() -> None:
    pytest.importorskip("rich")
    text = on_a_terminal(SHOW)
    assert "\x1b[" in text
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text)
    lines = plain.replace("\r", "\n").splitlines()
    ends = [line for line in lines if "validation accuracy" in line]
    assert [line.split("validation accuracy ")[1].strip() for line in ends] == ["0.25", "0.5"]
    assert any(line.strip() == "[bold]as it is[/bold]" for line in lines)
    bars = [line for line in lines if "\u2501" in line]
    assert bars[-1].startswith("epoch 2/2  step 20/20 ")
    assert re.search(r"images/s  loss 0\.0500  rate 0\.5  left 0:00:00", bars[-1])
    assert text.rindex("\x1b[?25h") > text.rindex("\x1b[?25l"), "the cursor is left hidden"


def test_plain_lines_on_a_dumb_terminal() -> None:
    text = on_a_terminal(SHOW, TERM="dumb")
    assert "\x1b" not in text
    first, second, last = text.replace("\r", "").splitlines()
    assert first.startswith("epoch 1/2  step 10/20  ")
    assert second.endswith("validation accuracy 0.5")
    assert last == "[bold]as it is[/bold]"


LOOP = """
import os, signal, sys, time
from models.common.commandline import exit_with
from models.common.interrupt import hold_interrupts

def main():
    with hold_interrupts() as interrupted:
        print("ready", flush=True)
        while not interrupted or "stubborn" in sys.argv:
            time.sleep(0.01)
        print("saved", flush=True)
    return interrupted.exit_code

if "deaf" in sys.argv:
    os.close(2)
exit_with(main)
"""


class Loop:
    """A loop in a process of its own, to be hit by signals."""

    def __init__(self, *arguments: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", LOOP, *arguments],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT,
        )  # fmt: skip
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == "ready\n"

    def hit(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def end(self) -> tuple[int, str, str]:
        output, errors = self.process.communicate(timeout=60)
        return self.process.returncode, output, errors


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_waits_for_the_step(number: signal.Signals) -> None:
    loop = Loop()
    loop.hit(number)
    notice = f"\n{number.name}: stopping after this step; once more to stop at once\n"
    assert loop.end() == (128 + number, "saved\n", notice)


@pytest.mark.parametrize(
    ("first", "second", "code", "text"),
    [
        (signal.SIGTERM, signal.SIGINT, 130, "stopped\n"),
        (signal.SIGINT, signal.SIGTERM, 143, ""),
    ],
)
def test_the_second_signal_stops_at_once(
    first: signal.Signals, second: signal.Signals, code: int, text: str
) -> None:
    loop = Loop("stubborn")
    loop.hit(first)
    assert loop.process.stderr is not None
    assert loop.process.stderr.readline() == "\n"
    assert loop.process.stderr.readline().startswith(f"{first.name}: stopping")
    loop.hit(second)
    assert loop.end() == (code, "", text)


def test_a_notice_that_nobody_can_read_does_not_break_the_step() -> None:
    """As in `... 2>&1 | tee log`, where Ctrl-C ends tee as well."""
    loop = Loop("deaf")
    loop.hit(signal.SIGINT)
    assert loop.end() == (130, "saved\n", "")


def test_handlers_return(capfd: pytest.CaptureFixture[str]) -> None:
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    with hold_interrupts(notice="") as interrupted:
        assert not interrupted
        assert interrupted.exit_code == 0
        signal.raise_signal(signal.SIGTERM)
        assert interrupted
        assert interrupted.signal is signal.SIGTERM
        assert interrupted.exit_code == 143
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before
    with pytest.raises(ZeroDivisionError), hold_interrupts():
        raise ZeroDivisionError
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before
    assert capfd.readouterr().err == ""


class Images:
    """A loader that has its batch the third time that somebody asks, if anybody else lets it."""

    def __init__(self, signal_at: int = 0) -> None:
        self.asked: list[float] = []
        self.signal_at = signal_at

    def ready(self, seconds: float) -> bool:
        self.asked.append(seconds)
        if len(self.asked) == self.signal_at:
            os.kill(os.getpid(), signal.SIGINT)
        return not self.signal_at and len(self.asked) == 3


def test_a_batch_is_waited_for_until_a_signal_comes() -> None:
    with hold_interrupts("") as interrupted:
        patient, stuck, late = Images(), Images(signal_at=5), Images()
        wait_for_batch(patient, interrupted)
        assert patient.asked == [GLANCE] * 3
        wait_for_batch(stuck, interrupted)
        assert len(stuck.asked) == 5
        wait_for_batch(late, interrupted)
        assert late.asked == []


def test_another_thread_holds_nothing() -> None:
    found: list[Any] = []

    def work() -> None:
        before = signal.getsignal(signal.SIGINT)
        with hold_interrupts() as interrupted:
            found.extend([bool(interrupted), signal.getsignal(signal.SIGINT) is before])

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [False, True]
