"""ResNet-50 on the CPU, against the best of PyTorch and JAX.

Images are 224 x 224, labels 1,000, random. Training is one whole step with SGD, momentum and decay;
inference gives logits by running statistics. Settings of the peers are those of cpu_alexnet.py. The
last scale of each residual branch starts at 0.2: with 1, gradients of random weights amplify
rounding so much that no library in fp32 agrees with float64; speed does not depend on it.

    python benchmarks/cpu_resnet.py [--mode train,infer] [--batch 32] [--precision fp32,bf16]
                                    [--peers torch,jax] [--quick]
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
import ours
from harness import start
from ours import Problem
from peers import need
from peers.torch_settings import settle
from races import add_options, race

import symgraph as sg
from models.resnet import Residual, ResNet, optimizer

RATE, LAST_SCALE = 1e-3, 0.2
#           fp32  bf16
TARGETS = {
    "train": (1.00, 1.25),
    "infer": (1.25, 1.70),
}


def problem(batch: int, *, width: int = 64, side: int = 224, classes: int = 1000) -> Problem:
    """Make the network with its update rule and a batch."""
    sg.seed(1)
    net = ResNet(50, classes, width=width)
    for _, module in net.named_modules():
        if isinstance(module, Residual):
            scale = module.branch[-1].scale  # type: ignore[union-attr]
            scale.value = np.full_like(scale.value, LAST_SCALE)
    return Problem(net, optimizer(net, RATE), *ours.draw((batch, 3, side, side), classes))


def options(parser: argparse.ArgumentParser) -> None:
    """Add the flags of this script."""
    add_options(parser, ("resnet50",), (32,), peers=("torch", "jax"))


def main() -> int:
    """Measure, interleaved."""
    benchmark = start("cpu_resnet", __doc__, rounds=9, options=options)
    settle()
    need("torch")
    chosen = benchmark.chosen
    for batch in [4] if benchmark.quick else chosen.batch:
        for mode in chosen.mode:
            for precision in chosen.precision:
                target = TARGETS[mode][ours.PRECISIONS.index(precision)]
                case = f"resnet50 b={batch} {mode} {precision}"
                small = {"width": 8, "side": 64, "classes": 10} if benchmark.quick else {}
                race(benchmark, case, problem(batch, **small), mode, precision, target)
    return benchmark.finish()


if __name__ == "__main__":
    sys.exit(main())
