"""Training steps of perceptrons on the CPU, against the best of PyTorch, JAX and PyTensor.

A small one, where calls count, and a larger one, also held against the machine's own limits. A step
is loss, gradients and SGD with momentum; the batch stays the same. PyTorch runs eagerly with fused
SGD, compiled, each also with one thread, and with the whole step compiled as one function; JAX jits
the step and gets its weights donated; PyTensor updates shared variables, by Numba and by C.

    python benchmarks/cpu_mlp.py [--case small,large] [--peers torch,jax,pytensor] [--quick]
"""

from __future__ import annotations

import argparse
import itertools
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import ours
from harness import start
from machine import Machine
from ours import Problem
from peers import need
from peers.torch_settings import settle
from races import add_options, race
from roofline import work

import symgraph as sg
from symgraph.nn import Activation, Dense, Sequential

#         layers                  batch  target  steps in a row
CASES = {
    "small": ((784, 128, 10),        32,    3.0,   200),
    "large": ((784, 1024, 1024, 10), 128,   1.3,    20),
}  # fmt: skip
ROOFLINE = 0.6


def problem(layers: tuple[int, ...], batch: int) -> Problem:
    """Make a perceptron with relu, its update rule and a batch."""
    sg.seed(1)
    parts: list[sg.nn.Module] = []
    for inputs, outputs in itertools.pairwise(layers):
        parts += [Dense(inputs, outputs), Activation("relu")]
    net = Sequential(*parts[:-1])
    optimizer = sg.optim.SGD(net.parameters(), 1e-3, momentum=0.9)
    return Problem(net, optimizer, *ours.draw((batch, layers[0]), layers[-1]))


def options(parser: argparse.ArgumentParser) -> None:
    """Add the flags of this script."""
    add_options(parser, tuple(CASES), (), ("train",))
    parser.set_defaults(precision=["fp32"])


def main() -> int:
    """Measure, interleaved."""
    benchmark = start("cpu_mlp", __doc__, rounds=21, options=options)
    settle()
    need("torch")
    machine = Machine(benchmark.quick)
    for which in benchmark.chosen.case:
        layers, batch, target, repeats = CASES[which]
        if benchmark.quick:
            layers, batch, repeats = tuple(min(size, 16) for size in layers), 4, 2
        for precision in benchmark.chosen.precision:
            text = "-".join(map(str, layers))
            case = f"mlp {text} b={batch} train {precision}"
            made = problem(layers, batch)
            race(benchmark, case, made, "train", precision, target, repeats=repeats)
            if which != "large" or case not in benchmark.taken:
                continue
            counted = work(ours.train_function(made, "fp32").built, B=batch)
            least = counted.least(machine.gemm_peak(precision), machine.copy_bandwidth())
            rates = [counted.products / seconds / 1e9 for seconds in benchmark.taken[case]]
            attainable = counted.products / least / 1e9
            text, error = f"{case}, of roofline", benchmark.rows[-1].error
            benchmark.ceiling(text, rates, attainable, ROOFLINE, "GFLOP/s", error)
    benchmark.notes += machine.notes.values()
    return benchmark.finish()


if __name__ == "__main__":
    sys.exit(main())
