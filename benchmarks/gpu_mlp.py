"""Training steps of a perceptron on a GPU, where calls count, against the best of PyTorch and JAX.

784-1024-1024-10 with relu, a batch of 128; a step is loss, gradients and SGD with momentum. How it
is measured is said in gpu.py. PyTorch runs eagerly with fused SGD, compiled with
mode="reduce-overhead", as a CUDA graph of the eager step, with the whole step compiled as one
function, and as a CUDA graph of that one; JAX jits the step and gets its weights donated. A row of
its own holds the time in Python of a call of ours, captured as a CUDA graph, against its limit.

    python benchmarks/gpu_mlp.py [--batch 128] [--precision fp32,tf32] [--peers torch,jax]
                                 [--settings eager,graph,whole-graph] [--out FILE] [--quick]
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import cpu_mlp
import gpu

LAYERS, TARGET, REPEATS = (784, 1024, 1024, 10), 3.0, 200


def options(parser: argparse.ArgumentParser) -> None:
    """Add the flags of this script."""
    gpu.options_of_nets(parser, ("mlp",), (128,), ("fp32", "tf32"), ("train",))


def main() -> int:
    """Measure, interleaved."""
    benchmark = gpu.begin("gpu_mlp", __doc__, options, rounds=21)
    quick = benchmark.quick
    layers = tuple(min(size, 16) for size in LAYERS) if quick else LAYERS
    text = "-".join(map(str, layers))
    for batch in [4] if quick else benchmark.chosen.batch:
        problem = cpu_mlp.problem(layers, batch)
        for precision in benchmark.chosen.precision:
            gpu.race(
                benchmark, f"mlp {text} b={batch} train {precision}", problem, "train", precision,
                TARGET, repeats=2 if quick else REPEATS,
            )  # fmt: skip
    return benchmark.finish()


if __name__ == "__main__":
    sys.exit(main())
