"""How much of what the machine can do AlexNet's training step reaches.

The least time is max(products / peak, compulsory traffic / copy bandwidth), see roofline.py; the
peak is the best library's in this run, so it differs between fp32 and bf16. The error is that
of loss and gradients, as in races.py; cpu_alexnet.py holds it against a tolerance.

    python benchmarks/cpu_roofline.py [--batch 128] [--precision fp32,bf16] [--quick]
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import cpu_alexnet
import ours
from harness import relative_error, start
from machine import Machine
from ours import Unsupported
from peers import need
from peers.torch_settings import settle
from races import list_of, sizes
from roofline import work

TARGETS = {"fp32": 0.75, "bf16": 0.40}


def options(parser: argparse.ArgumentParser) -> None:
    """Add the flags of this script."""
    parser.add_argument("--batch", type=sizes, default=[128], help="images in a batch (128)")
    kinds = list(ours.PRECISIONS)
    parser.add_argument("--precision", type=list_of(kinds), default=kinds, help="precisions")
    parser.add_argument("--backend", help="symgraph's backend (default: the one it chooses)")


def main() -> int:
    """Measure peak, bandwidth, then the step."""
    benchmark = start("cpu_roofline", __doc__, rounds=9, options=options)
    settle()
    need("torch")
    from peers.contestants import exact

    machine, chosen = Machine(benchmark.quick), benchmark.chosen
    batches, classes = ([2], 10) if benchmark.quick else (chosen.batch, 1000)
    for batch in batches:
        for precision in chosen.precision:
            case = f"alexnet with-lrn b={batch} train {precision}, of roofline"
            problem = cpu_alexnet.problem("with-lrn", batch, classes)
            try:
                step = ours.training(problem, precision, chosen.backend)
            except Unsupported as reason:
                benchmark.leave_out(case, str(reason))
                continue
            counted = work(ours.train_function(problem, "fp32").built, B=batch)
            reference = exact(problem, "train")
            problem.reset()
            error = relative_error(step.result(), reference)
            if not error < 1:
                raise ArithmeticError(f"{case}: error {error:.1e}")
            machine.copy_bandwidth()
            peak = machine.gemm_peak(precision)
            taken = benchmark.times([step])[step.name]
            peak, bandwidth = machine.gemm_peak(precision), machine.copy_bandwidth()
            least = counted.least(peak, bandwidth)
            rates = [counted.products / seconds / 1e9 for seconds in taken]
            attainable = counted.products / least / 1e9
            target = TARGETS[precision]
            benchmark.ceiling(case, rates, attainable, target, "GFLOP/s", error)
            benchmark.notes.append(
                f"{case}: {counted.products / 1e9:.4g} GFLOP in products "
                f"({counted.flops / 1e9:.4g} in all), {counted.traffic / 1e9:.4g} GB of compulsory "
                f"traffic, at least {least:.4g} s"
            )
    benchmark.notes += machine.notes.values()
    return benchmark.finish()


if __name__ == "__main__":
    sys.exit(main())
