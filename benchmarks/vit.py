"""A vision transformer on the CPU, against the best of PyTorch and JAX.

ViT-S with patches of 16 on images of 224 x 224, 1,000 labels, both random. A step is loss,
gradients and SGD with momentum and decay. PyTorch uses its own attention, eagerly and compiled,
each also with channels last; JAX its own `dot_product_attention`, jitted. The dense layer that ends
the network begins at random numbers: with the model's zeros no other gradient would be checked.

    python benchmarks/vit.py [--mode train] [--batch 32] [--precision fp32,bf16]
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
from models.vit import SIZES, VisionTransformer

RATE, MOMENTUM, DECAY = 1e-3, 0.9, 5e-2
TARGETS = dict(zip(ours.PRECISIONS, (1.0, 1.2), strict=True))
SIDE, PATCH, CLASSES = 224, 16, 1000


def problem(batch: int, quick: bool) -> Problem:
    """Make the network with its update rule and a batch."""
    sg.seed(1)
    features, blocks, heads = (16, 2, 2) if quick else SIZES["S"]
    side, patch, classes = (32, 8, 10) if quick else (SIDE, PATCH, CLASSES)
    net = VisionTransformer(features, blocks, heads, classes, crop=side, patch=patch)
    drawn = np.random.default_rng(5).standard_normal((features, classes), dtype=np.float32)
    net.head.weight.value = drawn * np.float32(features**-0.5)
    rule = sg.optim.SGD(net.parameters(), RATE, momentum=MOMENTUM, weight_decay=DECAY)
    return Problem(net, rule, *ours.draw((batch, 3, side, side), classes))


def options(parser: argparse.ArgumentParser) -> None:
    """Add the flags of this script."""
    add_options(parser, ("vit-s",), (32,), ("train",), peers=("torch", "jax"))


def main() -> int:
    """Measure, interleaved."""
    benchmark = start("vit", __doc__, rounds=9, options=options)
    settle()
    need("torch")
    from peers import jax_transformers, torch_transformers  # noqa: F401 - registers the twins

    chosen = benchmark.chosen
    for batch in [4] if benchmark.quick else chosen.batch:
        for precision in chosen.precision:
            case = f"vit-s b={batch} train {precision}"
            made = problem(batch, benchmark.quick)
            race(benchmark, case, made, "train", precision, TARGETS[precision])
    return benchmark.finish()


if __name__ == "__main__":
    sys.exit(main())
