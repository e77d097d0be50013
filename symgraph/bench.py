"""How fast this machine is, in a few seconds: products, copies, a kernel, a call, a compilation.

Everything is the best of several runs, with all cores that this process may use; what else runs
on them makes it slower. The best peaks of all measurements are kept, for `profile` too.
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

import numpy as np

from symgraph._version import __version__
from symgraph.config import config, usable_cores
from symgraph.cost.table import aligned
from symgraph.cost.units import number_text, seconds_text
from symgraph.dims import Dim, anonymous
from symgraph.doctor import cpu_model
from symgraph.frozen import frozen
from symgraph.function import Function, function
from symgraph.graph.leaves import tensor
from symgraph.graph.registry import F
from symgraph.nn import Activation, Dense, Sequential, cross_entropy
from symgraph.optim import SGD
from symgraph.runtime.calibrate import best, peaks

NUMBERS = 1 << 22  # of the elementwise kernel
CALLS = 200  # of an empty function, in each run
BATCH = 128


@frozen
class Measured:
    """One line: a number in its unit, and by what it was reached."""

    name: str
    value: float
    unit: str
    how: str = ""

    @property
    def text(self) -> str:
        """The number as people read it."""
        if self.unit == "s":
            return seconds_text(self.value)
        kind, _, rest = self.unit.partition("/")
        return f"{number_text(round(self.value), kind)}/{rest}"


def measure() -> Iterator[Measured]:
    """Measure one thing after another."""
    machine = peaks(anew=True)
    how = machine.how
    for dtype in ("float32", "bfloat16"):
        yield Measured(f"products, {dtype}", machine.flops(dtype), "FLOP/s", how.get(dtype, ""))
    yield Measured("copy", machine.bandwidth, "B/s", how.get("bandwidth", ""))
    yield from _kernel()
    yield _call()
    yield from _training()


def _kernel() -> Iterator[Measured]:
    """Time a function of one elementwise kernel."""
    x = tensor("x", (anonymous("n"),), "float32")
    compiled = function([x], F.tanh(x * 2.0 + 1.0), name="kernel")
    numbers = np.linspace(-2, 2, NUMBERS, dtype=np.float32)
    seconds = best(lambda: compiled(numbers))
    how = f"tanh(2 x + 1) of {number_text(NUMBERS)} float32 on {compiled.backend}"
    yield Measured("elementwise function", 8.0 * NUMBERS / seconds, "B/s", how)


def _call() -> Measured:
    """Time a call that has hardly any work."""
    x = tensor("x", (anonymous("n"),), "float32")
    compiled = function([x], x + 1.0, name="call")
    numbers = np.arange(8, dtype=np.float32)

    def run() -> None:
        for _ in range(CALLS):
            compiled(numbers)

    return Measured("call", best(run) / CALLS, "s", f"x + 1 of 8 float32 on {compiled.backend}")


def _training() -> Iterator[Measured]:
    """Time how long it takes to compile a training step, and the step."""
    draw = np.random.default_rng(1)
    images = draw.standard_normal((BATCH, 784), np.float32)
    labels = draw.integers(0, 10, BATCH).astype(np.int32)
    net = "784-128-10 perceptron"
    with config(cache="off"):
        begin = time.perf_counter()
        size = anonymous("B")
        step = _step(size)
        step.bind({size: BATCH})
        seconds = time.perf_counter() - begin
    yield Measured("compile a training step", seconds, "s", f"{net}, without the disk cache")
    how = f"batch {BATCH}, momentum, on {step.backend}"
    yield Measured("training step", best(lambda: step(images, labels)), "s", how)


def _step(size: Dim) -> Function:
    x = tensor("x", (size, 784), "float32")
    labels = tensor("labels", (size,), "int32")
    net = Sequential(Dense(784, 128), Activation("relu"), Dense(128, 10))
    loss = cross_entropy(net(x), labels).mean()
    updates = SGD(net.parameters(), lr=0.01, momentum=0.9).updates(loss)
    return function([x, labels], loss, updates, name="training step")


def render(rows: list[Measured]) -> str:
    """Lay the numbers out for people."""
    cells = [(row.name, row.text, row.how) for row in rows]
    return "\n".join([f"{cpu_model()}, {usable_cores()} cores", *aligned(cells)])


def to_json(rows: list[Measured]) -> str:
    """Give the same as one JSON object."""
    machine = {
        "cpu": cpu_model(),
        "threads": usable_cores(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
    }
    report = {"symgraph": __version__, "machine": machine, "rows": [asdict(row) for row in rows]}
    return json.dumps(report, indent=2)


def add_arguments(subparsers: Any) -> None:
    """Add `bench` to the commands of the shell."""
    parser: argparse.ArgumentParser = subparsers.add_parser(
        "bench",
        help="how fast this machine is, in a few seconds",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.set_defaults(func=run)


def run(arguments: argparse.Namespace) -> int:
    """Measure and print."""
    rows = list(measure())
    print(to_json(rows) if arguments.json else render(rows))
    return 0
