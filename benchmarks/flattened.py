"""Flattened convolutions against dense ones, and against other ways to compute them.

Two layers of 128 -> 128 channels and 5 x 5 filters, relu after each, the size kept; flattened, each
is two stages of lateral, vertical and horizontal convolutions (arXiv 1412.5474). `forward` computes
the result, `train` also the gradients of the images and of every parameter. The first row of a case
is symgraph against the best of PyTorch and of the published scheme (each image for itself, nothing
fused, gradients of depthwise filters as the diagonal of a dense product), all flattened. The second
is flattened against dense, both symgraph's: what flattening gains. The reference is PyTorch in
float64.

    python benchmarks/flattened.py [--size 16,32,48,64,80] [--batch 16] [--mode forward,train]
        [--precision fp32,bf16] [--quick]
"""

from __future__ import annotations

import argparse
import gc
import statistics
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
import ours
from harness import Benchmark, Contestant, Row, relative_error, spread, start
from ours import PRECISIONS
from peers import need
from peers.torch_settings import settle
from races import WITHIN, list_of, sizes

import symgraph as sg

Array = np.ndarray[Any, Any]

CHANNELS, KERNEL, STAGES, LAYERS = 128, 5, 2, 2
SIZES = (16, 32, 48, 64, 80)
MODES = ("forward", "train")
TARGET = {("forward", "fp32"): 4.0, ("train", "fp32"): 2.5, ("forward", "bf16"): 1.3,
          ("train", "bf16"): 1.0}  # fmt: skip
LARGE, LARGE_TARGET = 64, 3.5  # pixels, from which on less is asked for
TOLERANCE = {("forward", "fp32"): 1e-4, ("train", "fp32"): 2e-2, ("forward", "bf16"): 5e-2,
             ("train", "bf16"): 1e-1}  # fmt: skip


def options(parser: argparse.ArgumentParser) -> None:
    """Add the flags of this script."""
    parser.add_argument("--size", type=sizes, default=SIZES, help="sides of the images, in pixels")
    parser.add_argument("--batch", type=int, default=16, help="images (default: %(default)s)")
    parser.add_argument("--mode", type=list_of(MODES), default=MODES, help="what is computed")
    parser.add_argument("--precision", type=list_of(PRECISIONS), default=PRECISIONS)
    parser.add_argument("--backend", help="symgraph's backend (default: the one it chooses)")


def network(kind: str, channels: int) -> sg.nn.Sequential:
    """Make two layers, flattened or dense, with weights that keep the size of signals."""
    sg.seed(7)
    layers: list[Any] = []
    for _ in range(LAYERS):
        layers += [
            sg.nn.Conv2d(channels, channels, KERNEL, padding=KERNEL // 2) if kind == "dense"
            else sg.nn.FlattenedConv(
                channels, channels, KERNEL, padding=KERNEL // 2, stages=STAGES
            ),
            sg.relu,
        ]  # fmt: skip
    return sg.nn.Sequential(*layers)


def contestant(
    net: sg.nn.Sequential, images: Array, cotangent: Array, mode: str, precision: str,
    backend: str | None, name: str = "",
) -> Contestant:  # fmt: skip
    """Make symgraph's contestant: the result, or the gradients by name, the images' as `x`."""
    shape = (sg.dim("B"), *images.shape[1:])
    x, g = sg.tensor("x", shape), sg.tensor("g", shape)
    y = net(x)
    if mode == "forward":
        f = ours.compiled([x], y, precision=precision, backend=backend, name=mode)
        return Contestant(name or ours.called(f), lambda: f(images))
    named = dict(net.named_parameters())
    slopes = sg.grad((y * g).sum(), [x, *named.values()])
    outputs = dict(zip(["x", *named], slopes))
    f = ours.compiled([x, g], outputs, precision=precision, backend=backend, name=mode)
    return Contestant(name or ours.called(f), lambda: f(images, cotangent))


def against_dense(
    benchmark: Benchmark, case: str, flat: Contestant, dense: Contestant, target: float
) -> None:
    """Add the row of what flattening gains: the two compute different things."""
    taken = benchmark.times([flat, dense])
    ratios = [theirs / mine for mine, theirs in zip(taken[flat.name], taken[dense.name])]
    medians = [statistics.median(taken[one.name]) for one in (flat, dense)]
    benchmark.add(
        Row(
            case, *medians, "s", statistics.median(ratios), spread(ratios), target,
            versus=dense.name,
        )
    )  # fmt: skip


def measure(
    benchmark: Benchmark, nets: dict[str, sg.nn.Sequential], images: Array, cotangent: Array,
    mode: str, precision: str,
) -> None:  # fmt: skip
    """Add the two rows of a case."""
    from peers import published_flattened, torch_flattened

    case = f"{images.shape[-1]} px b={len(images)} {mode} {precision}"
    arrays, raced = (images, cotangent, mode), {}
    for kind, net in nets.items():
        state = {name: one.value for name, one in net.named_parameters()}
        exact = torch_flattened.exact(state, *arrays)
        peers = torch_flattened.contestants(state, *arrays, precision)
        name = "" if kind == "flattened" else f"symgraph {kind}"
        own = contestant(net, *arrays, precision, benchmark.chosen.backend, name)
        # as in races.py: next to a kink of relu either side is right
        allowed = 2 * relative_error(peers[0].result(), exact)
        allowed = max(TOLERANCE[mode, precision], allowed)
        error = relative_error(own.result(), exact)
        if not error <= allowed:
            raise ArithmeticError(f"{case}: {own.name}: error {error:.1e} > {allowed:.1e}")
        raced[kind] = own
        if kind == "flattened":
            if precision == "fp32":
                peers += published_flattened.contestants(state, *arrays)
            benchmark.compare(
                case, own, peers, target=1.0, reference=exact, tolerance=allowed, within=WITHIN
            )
        del peers
        gc.collect()
    target = TARGET[mode, precision]
    if images.shape[-1] > LARGE and (mode, precision) == ("forward", "fp32"):
        target = LARGE_TARGET
    against_dense(benchmark, f"{case}, of dense", raced["flattened"], raced["dense"], target)


def main() -> int:
    """Measure, interleaved."""
    benchmark = start("flattened", __doc__, rounds=11, options=options)
    settle()
    need("torch")
    chosen = benchmark.chosen
    channels, batch = (8, 2) if benchmark.quick else (CHANNELS, chosen.batch)
    rng = np.random.default_rng(3)
    nets = {kind: network(kind, channels) for kind in ("flattened", "dense")}
    for size in chosen.size[:1] if benchmark.quick else chosen.size:
        shape = (batch, channels, size, size)
        images, cotangent = (rng.standard_normal(shape, dtype=np.float32) for _ in range(2))
        for mode in chosen.mode:
            for precision in chosen.precision:
                measure(benchmark, nets, images, cotangent, mode, precision)
    return benchmark.finish()


if __name__ == "__main__":
    sys.exit(main())
