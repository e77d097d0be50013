"""Training steps of five other networks on the CPU, against the best of PyTorch and JAX.

A MobileNet-like net, a U-Net with transposed convolutions, a transformer encoder, a GRU unrolled
over its steps, and a net drawn at random from --seed, built in both with the same weights. A step
is loss, gradients and SGD with momentum and decay. PyTorch uses its own attention and GRU, eagerly
and compiled; of sequences also with one thread and compiled as a whole; JAX runs what its twins
cover, which is the first.

    python benchmarks/cpu_zoo.py [--case mobile,unet,transformer,recurrent,random] [--seed 2026]
                                 [--precision fp32,bf16] [--peers torch,jax] [--quick]
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import zoo
from harness import start
from peers import need
from peers.torch_settings import settle
from races import add_options, race

TARGET, SEED = 1.0, 2026


def options(parser: argparse.ArgumentParser) -> None:
    """Add the flags of this script."""
    add_options(parser, tuple(zoo.SHAPES), (), ("train",), peers=("torch", "jax"))
    parser.set_defaults(precision=["fp32"])
    parser.add_argument("--seed", type=int, default=SEED, help="draws the random net (%(default)s)")


def main() -> int:
    """Measure, interleaved."""
    benchmark = start("cpu_zoo", __doc__, rounds=11, options=options)
    settle()
    need("torch")
    from peers import torch_transformers, torch_zoo  # noqa: F401 - register the twins

    chosen = benchmark.chosen
    for name in chosen.case:
        for precision in chosen.precision:
            made = zoo.problem(name, chosen.seed, benchmark.quick)
            which = f"{name} (seed {chosen.seed})" if name == "random" else name
            case = f"{which} b={len(made.images)} train {precision}"
            race(benchmark, case, made, "train", precision, TARGET)
    return benchmark.finish()


if __name__ == "__main__":
    sys.exit(main())
