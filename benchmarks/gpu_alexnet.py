"""AlexNet on a GPU, as published or without its normalisation, against the best of PyTorch and JAX.

Images are 227 x 227, labels 1,000, random. Training is one whole step: loss, gradients and SGD with
momentum and decay, dropout included; inference gives logits. Everything lies on the device before
it is timed, and steps follow each other without waiting: see gpu.py. PyTorch runs eagerly and
compiled, in its own layout and channels_last, with fused SGD and measured convolutions, in bf16 by
autocast; inference also with frozen weights. JAX is jitted, in channels-last layout. A row of its
own holds the time in Python of a call of ours, captured as a CUDA graph, against its limit.

    python benchmarks/gpu_alexnet.py [--case with-lrn,no-lrn] [--mode train,infer] [--batch 256]
                                     [--precision tf32,bf16] [--peers torch,jax]
                                     [--settings eager,compile-last] [--out FILE] [--quick]
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import cpu_alexnet
import gpu

CASES = ("with-lrn", "no-lrn")
#           target  steps in a row
MODES = {
    "train": (1.3,  10),
    "infer": (1.0,  20),
}  # fmt: skip


def options(parser: argparse.ArgumentParser) -> None:
    """Add the flags of this script."""
    gpu.options_of_nets(parser, CASES, (256,), ("tf32", "bf16"))
    parser.set_defaults(case=["with-lrn"])


def main() -> int:
    """Measure, interleaved."""
    benchmark = gpu.begin("gpu_alexnet", __doc__, options)
    chosen = benchmark.chosen
    batches, classes = ([2], 10) if benchmark.quick else (chosen.batch, 1000)
    for case in chosen.case:
        for batch in batches:
            problem = cpu_alexnet.problem(case, batch, classes)
            for mode in chosen.mode:
                target, repeats = MODES[mode]
                for precision in chosen.precision:
                    gpu.race(
                        benchmark, f"alexnet {case} b={batch} {mode} {precision}", problem, mode,
                        precision, target, repeats=2 if benchmark.quick else repeats,
                    )  # fmt: skip
    return benchmark.finish()


if __name__ == "__main__":
    sys.exit(main())
