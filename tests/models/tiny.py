"""A classifier of a few numbers with everything that a run has to keep, and a way to kill its runs.

It has dropout (random state), batch norm (buffers), momentum, crops and mirrors, and a schedule
with a state. As a program it is a server: a line of JSON on standard input is a command line to
run in a forked child, which may be told to die at a certain moment; the answer is a line of JSON.
Importing everything once makes a run cost a tenth of a second.
"""

from __future__ import annotations

import errno
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

if not __package__:
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent.parent))

import symgraph as sg
import symgraph.io.checkpoint as checkpoints
from models.common import loop, trainer
from models.common.classifier import Classifier, evaluate, predict
from models.common.commandline import ModelParser, build_parser, exit_with
from models.common.pictures import check_pictures
from symgraph.nn import BatchNorm, Dense, Dropout, Flatten, Module
from symgraph.parallel import Step

CROP, HIDDEN = 12, 6


class Tiny(Module):
    """Two dense layers."""

    def __init__(self, classes: int) -> None:
        self.flat, self.drop = Flatten(), Dropout(0.4)
        self.first = Dense(3 * CROP * CROP, HIDDEN, weight=sg.nn.init.normal(1e-3))
        self.norm, self.last = BatchNorm(HIDDEN), Dense(HIDDEN, classes)

    def forward(self, x: Any, *, train: bool = False) -> sg.Value:
        """Images to logits."""
        hidden = self.norm(self.first(self.flat(x)), train=train)
        return self.last(self.drop(sg.relu(hidden), train=train))

    def filters(self) -> sg.Value:
        """The first layer as pictures."""
        return sg.transpose(self.first.weight).reshape(HIDDEN, 3, CROP, CROP)


MODEL = Classifier(
    name="tiny",
    crop=CROP,
    build=Tiny,
    optimizer=lambda net, lr: sg.optim.SGD(net.parameters(), lr, momentum=0.9, weight_decay=1e-3),
    schedule=lambda lr: sg.optim.Plateau(lr, patience=1, factor=0.5, threshold=0.05),
    first_layer=lambda net: net.filters(),  # type: ignore[attr-defined]
)
COMMANDS = {"train": trainer.train, "evaluate": evaluate, "predict": predict}


def make_parser() -> ModelParser:
    """Make the command line."""
    parser = build_parser("tiny", "A tiny classifier.")
    parser.train.set_defaults(epochs=4, batch=8, learning_rate=0.05, checkpoint_every=3)
    return parser


def main(arguments: list[str]) -> int:
    """Run a command line."""
    chosen = make_parser().parse_args(arguments)
    return COMMANDS[chosen.command](MODEL, chosen)


class Plan:
    """Sends this process a signal, or several, at the n-th of some event."""

    def __init__(self, event: str, count: int, number: int, times: int = 1) -> None:
        self.event, self.count, self.number, self.times = event, count, number, times

    def at(self, event: str) -> bool:
        """Count an event; say whether it is the one."""
        if event != self.event:
            return False
        self.count -= 1
        return self.count == 0

    def act(self) -> None:
        """Send the signal; 0, -1 and -2: be out of memory, leave, find the disk full."""
        if self.number == 0:
            raise MemoryError("no more of it")
        if self.number == -1:
            os._exit(0)
        if self.number == -2:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        for _ in range(self.times):
            os.kill(os.getpid(), self.number)

    def before(self, event: str, call: Callable[..., Any]) -> Callable[..., Any]:
        """Wrap a function so that the signal comes before it."""

        def wrapped(*args: Any, **options: Any) -> Any:
            if self.at(event):
                self.act()
            return call(*args, **options)

        return wrapped

    def after(self, event: str, call: Callable[..., Any]) -> Callable[..., Any]:
        """Wrap a function so that the signal comes after it."""

        def wrapped(*args: Any, **options: Any) -> Any:
            result = call(*args, **options)
            if self.at(event):
                self.act()
            return result

        return wrapped

    def install(self) -> None:
        """Put the signal's place into the run."""
        write, measurement = checkpoints.write_tensors, trainer.measurement

        def write_half(file: Any, tensors: Any, document: Any) -> None:
            if self.at("write"):
                file.write(b"half of a checkpoint")
                file.flush()
                self.act()
            write(file, tensors, document)

        checkpoints.write_tensors = write_half
        os.replace = self.after("replaced", self.before("replace", os.replace))
        Step.__call__ = self.before("step", self.after("stepped", Step.__call__))  # type: ignore
        trainer.measurement = lambda *args: self.before("measure", measurement(*args))
        loop.MetricsLog.write = self.after("logged", loop.MetricsLog.write)  # type: ignore


def _draw_nothing(*args: Any, **options: Any) -> Any:
    return None


def _serve(job: dict[str, Any]) -> dict[str, Any]:
    child = os.fork()
    if child == 0:
        os.dup2(os.open(job["output"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC), 1)
        os.dup2(1, 2)
        if "event" in job:
            Plan(job["event"], job["count"], job["signal"], job.get("times", 1)).install()
        if not job.get("pictures"):
            loop.plot_curves = trainer.plot_filters = lambda *args, **options: Path()
        exit_with(lambda: main(job["arguments"]))
    if "after" in job:
        time.sleep(job["after"])
        os.kill(child, job["signal"])
    return {"code": os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])}


if __name__ == "__main__":
    if len(sys.argv) > 1:  # a worker, or a run of its own, without pictures
        loop.check_pictures = loop.plot_curves = trainer.plot_filters = _draw_nothing
        plan = json.loads(os.environ.get("TINY_PLAN", "{}"))
        if plan and json.loads(os.environ.get("_SYMGRAPH_TEAM", "{}")).get("rank") == plan.pop(
            "rank"
        ):
            Plan(**plan).install()
        exit_with(lambda: main(sys.argv[1:]))
    check_pictures()  # imports matplotlib, which takes a second
    sys.stdin.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    for line in sys.stdin:
        print(json.dumps(_serve(json.loads(line))), flush=True)
