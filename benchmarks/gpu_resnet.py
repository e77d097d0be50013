"""ResNet-50 on a GPU, against the best of PyTorch and JAX.

Images are 224 x 224, labels 1,000, random. Training is one whole step with SGD, momentum and decay;
inference gives logits by running statistics. How it is measured, and the settings of the peers, are
those of gpu_alexnet.py; the network is that of cpu_resnet.py.

    python benchmarks/gpu_resnet.py [--mode train,infer] [--batch 128] [--precision tf32,bf16]
                                    [--peers torch,jax] [--settings eager-last,compile-last]
                                    [--out FILE] [--quick]
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import cpu_resnet
import gpu

#           target  steps in a row
MODES = {
    "train": (1.0,  5),
    "infer": (1.0,  10),
}  # fmt: skip
# what takes long to compile, and does not win, is left to --settings
SETTINGS = ["eager", "eager-last", "compile-last"]


def options(parser: argparse.ArgumentParser) -> None:
    """Add the flags of this script."""
    gpu.options_of_nets(parser, ("resnet50",), (128,), ("tf32", "bf16"))
    parser.set_defaults(settings=SETTINGS)


def main() -> int:
    """Measure, interleaved."""
    benchmark = gpu.begin("gpu_resnet", __doc__, options, rounds=7)
    chosen = benchmark.chosen
    small = {"width": 8, "side": 64, "classes": 10} if benchmark.quick else {}
    for batch in [4] if benchmark.quick else chosen.batch:
        problem = cpu_resnet.problem(batch, **small)
        for mode in chosen.mode:
            target, repeats = MODES[mode]
            for precision in chosen.precision:
                gpu.race(
                    benchmark, f"resnet50 b={batch} {mode} {precision}", problem, mode, precision,
                    target, repeats=2 if benchmark.quick else repeats,
                )  # fmt: skip
    return benchmark.finish()


if __name__ == "__main__":
    sys.exit(main())
