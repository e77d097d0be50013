"""The time of compiling on the CPU, in fresh processes, and the overhead of a call.

Compiling is everything between a graph that is built and a steady call: `sg.function`, and what the
first call takes longer than later ones (or `bind`, where functions have one). Cold starts without
a cache of compiled code; warm is a second process with the cache that the first one left. A new
batch size is a call with a size that was not seen before, beyond a steady call with that size.
Overhead is a call of x + 1 on eight numbers. The error of a row is that of the first loss, against
the same step on the reference backend.

    python benchmarks/cpu_compile.py [--case cold,warm,batch,overhead] [--quick]
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
import ours
from harness import Benchmark, start
from races import list_of
from workers import add_measure, measure, report

import symgraph as sg
from models.alexnet import SIDE, AlexNet, optimizer
from symgraph.nn import Activation, Dense, Sequential

CASES = ("cold", "warm", "batch", "overhead")
COLD, WARM, CALL = 2.5, 0.5, 4e-6
NEW_BATCH = {"alexnet": 60e-3, "mlp": 5e-3}
BATCH, CALLS = 16, 20_000


def problem(net: str, batch: int) -> ours.Problem:
    """Make AlexNet or a small perceptron."""
    sg.seed(1)
    if net == "alexnet":
        alexnet = AlexNet(1000)
        data = ours.draw((batch, 3, SIDE, SIDE), 1000)
        return ours.Problem(alexnet, optimizer(alexnet, 1e-3), *data)
    mlp = Sequential(Dense(784, 128), Activation("relu"), Dense(128, 10))
    return ours.Problem(
        mlp, sg.optim.SGD(mlp.parameters(), 1e-3, momentum=0.9), *ours.draw((batch, 784), 10)
    )


def new_size(function: sg.Function, images: Any, labels: Any) -> tuple[float, float]:
    """Give the seconds that a batch of a new size costs beyond a steady call, and its loss."""
    size = len(images)
    bind = getattr(function, "bind", None)
    begin = time.perf_counter()
    if bind is not None:
        bind(B=size)
        return time.perf_counter() - begin, float(function(images, labels))
    loss = float(function(images, labels))
    first, later = time.perf_counter() - begin, []
    for _ in range(3):
        begin = time.perf_counter()
        function(images, labels)
        later.append(time.perf_counter() - begin)
    return max(first - statistics.median(later), 0.0), loss


def compile_step(net: str, batch: int, backend: str | None) -> int:
    """In a child: compile a training step and run its first batch."""
    made = problem(net, batch)
    images, labels = made.inputs()
    loss = sg.cross_entropy(made.net(images, train=True), labels).mean()
    updates = made.optimizer.updates(loss)
    begin = time.perf_counter()
    function = ours.compiled([images, labels], loss, updates, backend=backend, name="train step")
    seconds = time.perf_counter() - begin
    more, value = new_size(function, made.images, made.labels)
    return report(seconds=seconds + more, loss=value)


def new_batch(net: str, batch: int, backend: str | None) -> int:
    """In a child: seconds of a second size, when another one has run."""
    made = problem(net, batch)
    function = ours.train_function(made, "fp32", backend)
    _, loss = new_size(function, made.images, made.labels)
    larger = (np.concatenate([array, array[:1]]) for array in (made.images, made.labels))
    seconds, _ = new_size(function, *larger)
    return report(seconds=seconds, loss=loss)


def overhead(backend: str | None, calls: int) -> int:
    """In a child: seconds of a call with hardly any work."""
    x = sg.vector("x")
    function = ours.compiled([x], x + 1, backend=backend)
    array = np.arange(8, dtype=np.float32)
    error = float(np.abs(function(array) - array - 1).max())
    for _ in range(100):
        function(array)
    begin = time.perf_counter()
    for _ in range(calls):
        function(array)
    return report(seconds=(time.perf_counter() - begin) / calls, error=error)


def options(parser: argparse.ArgumentParser) -> None:
    """Add the flags of this script."""
    parser.add_argument("--case", type=list_of(CASES), default=CASES, help="rows")
    parser.add_argument("--backend", help="symgraph's backend (default: the one it chooses)")
    parser.add_argument("--batch", type=int, default=BATCH, help="images in a batch (%(default)s)")
    add_measure(parser)


def child(chosen: argparse.Namespace, quick: bool) -> int:
    """Do what a fresh process was started for."""
    what, _, net = chosen.measure.partition(":")
    if what == "compile":
        return compile_step(net, chosen.batch, chosen.backend)
    if what == "reference":
        return compile_step(net, chosen.batch, "reference")
    if what == "batch":
        return new_batch(net, chosen.batch, chosen.backend)
    return overhead(chosen.backend, 100 if quick else CALLS)


class Children:
    """Starts the children of one run, each as often as there are rounds."""

    def __init__(self, benchmark: Benchmark) -> None:
        self.benchmark, self.cached = benchmark, ours.has_setting("cache")
        chosen = benchmark.chosen
        self.batch = 2 if benchmark.quick else chosen.batch
        self.arguments = ["--batch", str(self.batch)]
        self.arguments += ["--backend", chosen.backend] if chosen.backend else []
        self.arguments += ["--quick"] if benchmark.quick else []
        self.references: dict[str, float] = {}

    def run(self, what: str, folder: str) -> dict[str, Any]:
        """Run one child with a cache of its own."""
        environment = {"SYMGRAPH_CACHE": folder} if self.cached else {}
        return measure(what, self.arguments, environment)

    def error(self, net: str, loss: float) -> float:
        """Give how far a first loss is from the reference backend's."""
        if net not in self.references:
            with tempfile.TemporaryDirectory() as folder:
                found = self.run(f"reference:{net}", folder)
            self.references[net] = found["loss"]
        return abs(loss - self.references[net]) / abs(self.references[net])

    def rounds(self, what: str, net: str, runs: int) -> tuple[list[float], float]:
        """Run children that each start cold, `runs` in a row on one cache; the last one counts."""
        seconds, losses = [], []
        for _ in range(self.benchmark.rounds):
            with tempfile.TemporaryDirectory() as folder:
                for _ in range(runs):
                    found = self.run(f"{what}:{net}", folder)
            seconds.append(found["seconds"])
            losses.append(found["loss"])
        return seconds, max(self.error(net, loss) for loss in losses)


def main() -> int:
    """Run the children."""
    benchmark = start("cpu_compile", __doc__, rounds=5, options=options)
    chosen, quick = benchmark.chosen, benchmark.quick
    if chosen.measure:
        return child(chosen, quick)
    benchmark.rounds = 1 if quick else benchmark.rounds
    children = Children(benchmark)
    name = f"compile AlexNet's training step, b={children.batch}"
    if "cold" in chosen.case:
        seconds, error = children.rounds("compile", "alexnet", 1)
        benchmark.limit(f"{name}, cold", seconds, COLD, error=error)
    if "warm" in chosen.case and not children.cached:
        benchmark.leave_out(f"{name}, warm", "this symgraph keeps no compiled code between runs")
    elif "warm" in chosen.case:
        seconds, error = children.rounds("compile", "alexnet", 2)
        benchmark.limit(f"{name}, warm", seconds, WARM, error=error)
    for net, limit in NEW_BATCH.items() if "batch" in chosen.case else ():
        seconds, error = children.rounds("batch", net, 1)
        benchmark.limit(f"a new batch size of {net}'s training step", seconds, limit, error=error)
    if "overhead" in chosen.case:
        with tempfile.TemporaryDirectory() as folder:
            found = [children.run("overhead", folder) for _ in range(benchmark.rounds)]
        calls = [one["seconds"] for one in found]
        error = max(one["error"] for one in found)
        benchmark.limit("a call of x + 1 on 8 numbers", calls, CALL, error=error)
    return benchmark.finish()


if __name__ == "__main__":
    sys.exit(main())
