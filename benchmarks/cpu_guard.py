"""What the NaN guard costs: training steps with `nan_guard=True` beside the same without.

AlexNet with normalisation and the larger perceptron, float32, compiled. Both train the same weights
on the same batch, with dropout, and take turns. The limit is 10 % more time: the ratio is 1.1 times
the time without, by the time with the guard. The error is that of loss and gradients of a first
step with the guard, against those without.

    python benchmarks/cpu_guard.py [--case alexnet,mlp] [--batch 32] [--backend cpu] [--quick]
"""

from __future__ import annotations

import argparse
import statistics
import sys
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import cpu_alexnet
import cpu_mlp
import ours
from harness import Benchmark, Row, relative_error, repeated, spread, start
from ours import Problem
from races import list_of, sizes

LIMIT = 1.1  # times the step without
TOLERANCE = 1e-6
LAYERS, _, _, STEPS = cpu_mlp.CASES["large"]
CASES = ("alexnet", "mlp")


def hold(benchmark: Benchmark, case: str, problem: Problem, backend: str, repeats: int) -> None:
    """Add the row of one network."""
    guarded, plain = (
        replace(ours.training(problem, "fp32", backend, guard), name=name)
        for guard, name in ((True, "with the guard"), (False, "without"))
    )
    error = relative_error(guarded.result(), plain.result())
    if error > TOLERANCE:
        raise ArithmeticError(f"{case}: the guard changes the step: error {error:.1e}")
    taken = benchmark.times([repeated(guarded, repeats), repeated(plain, repeats)])
    own, limits = taken[guarded.name], [LIMIT * seconds for seconds in taken[plain.name]]
    ratios = [limit / seconds for limit, seconds in zip(limits, own, strict=True)]
    middle, ratio = (statistics.median(own), statistics.median(limits)), statistics.median(ratios)
    versus = f"{LIMIT} x without"
    benchmark.add(Row(case, *middle, "s", ratio, spread(ratios), 1.0, error, versus))


def options(parser: argparse.ArgumentParser) -> None:
    """Add the flags of this script."""
    parser.add_argument("--case", type=list_of(CASES), default=list(CASES), help="networks")
    parser.add_argument("--batch", type=sizes, default=[32], help="images of AlexNet's batch")
    parser.add_argument("--backend", default="cpu", help="symgraph's backend (%(default)s)")


def main() -> int:
    """Measure, interleaved."""
    benchmark = start("cpu_guard", __doc__, rounds=15, options=options)
    chosen, quick = benchmark.chosen, benchmark.quick
    if "alexnet" in chosen.case:
        batches, classes = ([2], 10) if quick else (chosen.batch, 1000)
        for batch in batches:
            case = f"alexnet with-lrn b={batch} train fp32 with nan_guard"
            problem = cpu_alexnet.problem("with-lrn", batch, classes)
            hold(benchmark, case, problem, chosen.backend, 1)
    if "mlp" in chosen.case:
        layers, batch = (tuple(min(size, 16) for size in LAYERS), 4) if quick else (LAYERS, 128)
        case = f"mlp {'-'.join(map(str, layers))} b={batch} train fp32 with nan_guard"
        problem = cpu_mlp.problem(layers, batch)
        hold(benchmark, case, problem, chosen.backend, 2 if quick else STEPS)
    return benchmark.finish()


if __name__ == "__main__":
    sys.exit(main())
