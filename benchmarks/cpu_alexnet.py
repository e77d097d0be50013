"""AlexNet on the CPU, as published and without its normalisation, against the best of PyTorch, JAX.

Images are 227 x 227, labels 1,000, random. Training is one whole step: loss, gradients and SGD with
momentum and decay, dropout included; inference gives logits. PyTorch runs eagerly and compiled, in
its own layout and channels_last, with fused SGD and huge pages; inference also with frozen weights,
and in bf16 without normalisation also with weights in bf16. JAX is jitted, in channels-last layout.

    python benchmarks/cpu_alexnet.py [--case with-lrn,no-lrn] [--mode train,infer] [--batch 32,128]
                                     [--precision fp32,bf16] [--peers torch,jax] [--quick]
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import ours
from harness import start
from ours import Problem
from peers import need
from peers.torch_settings import settle
from races import add_options, race

import symgraph as sg
from models.alexnet import SIDE, AlexNet, optimizer
from symgraph.nn import LRN

RATE = 1e-3
#                        fp32  bf16
TARGETS = {
    ("with-lrn", "train"): (1.80, 2.50),
    ("with-lrn", "infer"): (1.35, 4.50),
    ("no-lrn",   "train"): (1.00, 1.25),
    ("no-lrn",   "infer"): (1.25, 1.70),
}  # fmt: skip
CASES = ("with-lrn", "no-lrn")


def alexnet(case: str, classes: int = 1000) -> AlexNet:
    """Make the network of a case; its dropout scales while training, as every peer's does."""
    sg.seed(1)
    net = AlexNet(classes)
    ours.invert_dropout(net)
    if case == "no-lrn":
        net.features.layers = [one for one in net.features.layers if not isinstance(one, LRN)]
    return net


def problem(case: str, batch: int, classes: int = 1000) -> Problem:
    """Make the network with its update rule and a batch."""
    net = alexnet(case, classes)
    return Problem(net, optimizer(net, RATE), *ours.draw((batch, 3, SIDE, SIDE), classes))


def options(parser: argparse.ArgumentParser) -> None:
    """Add the flags of this script."""
    add_options(parser, CASES, (32, 128), peers=("torch", "jax"))


def main() -> int:
    """Measure, interleaved."""
    benchmark = start("cpu_alexnet", __doc__, rounds=9, options=options)
    settle()
    need("torch")
    chosen = benchmark.chosen
    batches, classes = ([2], 10) if benchmark.quick else (chosen.batch, 1000)
    for case in chosen.case:
        for batch in batches:
            for mode in chosen.mode:
                for precision in chosen.precision:
                    target = TARGETS[case, mode][ours.PRECISIONS.index(precision)]
                    name = f"alexnet {case} b={batch} {mode} {precision}"
                    race(benchmark, name, problem(case, batch, classes), mode, precision, target)
    return benchmark.finish()


if __name__ == "__main__":
    sys.exit(main())
