"""Images as small networks on the CPU, against PyTorch: decoding in a step, and fitting.

Decoding gathers the networks of a batch by number, in float32, and gives whole bytes. PyTorch runs
the published chain of batched products, the same with as few arrays as it can, and compiled.
Fitting is timed for one step of one image: symgraph fits many together, PyTorch one after another
as published, eagerly, with the fused Adam, and compiled. Checked are the bytes, and the errors at
the start; the notes say what both reach from the same numbers in as many steps.

    python benchmarks/rapid_inr.py [--part decode,encode] [--quick]
"""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
import ours
from harness import Benchmark, Contestant, start
from peers import need
from peers.torch_settings import settle
from races import WITHIN, list_of

import symgraph as sg
from symgraph.compression.inr_lanes import Lanes, Numbers, Task
from symgraph.data import InrImages, InrSet, Siren, quantised
from symgraph.data.siren import grid, psnr

Array = np.ndarray[Any, Any]

PARTS = ("decode", "encode")
RATE = 5e-3
ONE_BYTE = 0.0079  # of the brightest, 127 at least: colours between two bytes may differ by one
#         layers, width, side, images
DECODE = ((5, 13, 32, 64), (10, 28, 224, 8), (10, 40, 224, 8))
#         layers, width, side, lanes, steps of a run, steps of the comparison, target
ENCODE = ((5, 13, 32, 64, 20, 1000, 5.0), (10, 28, 224, 1, 3, 200, 2.0))
DECODE_TARGET = 4.0


@dataclass(frozen=True)
class Networks:
    """Numbers of several networks: weights (N, o, i) and biases (N, o, 1), layer by layer."""

    siren: Siren
    weights: list[Array]
    biases: list[Array]
    rate: float = RATE

    @property
    def omega(self) -> float:
        """What sines are multiplied by inside."""
        return self.siren.omega

    def one(self, image: int) -> Numbers:
        """The numbers of one network."""
        return Numbers([w[image] for w in self.weights], [b[image, :, 0] for b in self.biases])


def drawn(layers: int, width: int, count: int) -> Networks:
    """Draw networks as a fitting begins with them."""
    siren = Siren(layers, width)
    each = [siren.start(np.random.default_rng(k)) for k in range(count)]
    weights = [np.stack([w[k] for w, _ in each]) for k in range(layers + 1)]
    biases = [np.stack([b[k] for _, b in each])[..., None] for k in range(layers + 1)]
    biases[-1] += np.float32(0.5)  # colours in the middle, not cut off at black
    return Networks(siren, weights, biases)


def waves(count: int, side: int) -> list[Array]:
    """Draw images that are neither flat nor noise: sums of waves of random direction."""
    rng = np.random.default_rng(7)
    y, x = np.mgrid[:side, :side] / side
    images = []
    for _ in range(count):
        colours = np.zeros((3, side, side))
        for number in range(1, 13):
            angle, phase = rng.uniform(0, 2 * np.pi, 2)
            wave = np.sin(2 * np.pi * number * (y * np.sin(angle) + x * np.cos(angle)) + phase)
            colours += rng.normal(size=(3, 1, 1)) * wave / number
        images.append(np.clip(127 + 60 * colours, 0, 255).astype(np.uint8))
    return images


def kept(networks: Networks, side: int, dtype: str) -> InrImages:
    """Make a set of networks, of images of one side, in a dtype."""
    count = len(networks.weights[0])
    layers = [
        quantised(w, b[..., 0], dtype)
        for w, b in zip(networks.weights, networks.biases, strict=True)
    ]
    return InrImages(
        InrSet(
            networks.siren, tuple(layers), np.full((count, 2), side, np.int32),
            np.zeros(count, np.int32), ("image",), np.ones(count, np.float32),
        )
    )  # fmt: skip


def our_decoder(networks: Networks, side: int, indices: Array) -> Contestant:
    """Make symgraph's contestant."""
    images = kept(networks, side, "float32")
    number = sg.tensor("indices", (sg.dim("B"),), "int32")
    pixels = images.pixels(number, side, side)
    run = ours.compiled([number], sg.flatten(pixels, 2), name="decode")
    return Contestant(ours.called(run), lambda: run(indices))


def decode_row(benchmark: Benchmark, layers: int, width: int, side: int, batch: int) -> None:
    """Race decoding a batch of images."""
    from peers import torch_inr

    networks = drawn(layers, width, 2 * batch)
    indices = np.random.default_rng(3).permutation(2 * batch)[:batch].astype(np.int32)
    benchmark.compare(
        f"decode {layers}x{width} {side} px b={batch} fp32",
        our_decoder(networks, side, indices),
        torch_inr.decoders(networks, grid(side, side), indices),
        target=DECODE_TARGET, tolerance=ONE_BYTE, within=WITHIN,
    )  # fmt: skip


def filled(networks: Networks, images: list[Array], steps: int) -> Lanes:
    """Make lanes that are about to begin."""
    side, layers = images[0].shape[1], len(networks.weights)
    task = Task(("float32",) * layers, (None,) * layers)
    lanes = Lanes(networks.siren, (side, side), len(images), networks.rate, steps, task)
    lanes.put({k: (k, image, networks.one(k)) for k, image in enumerate(images)})
    return lanes


def encode_row(
    benchmark: Benchmark, layers: int, width: int, side: int, count: int, steps: int,
    compared: int, target: float,
) -> None:  # fmt: skip
    """Race a step of one image, and note what both reach."""
    from peers import torch_inr

    networks, images = drawn(layers, width, count), waves(count, side)
    checked, places = min(count, 4), grid(side, side)
    lanes = filled(networks, images, steps)

    def run() -> float:
        begin = time.perf_counter()
        lanes.advance(steps)
        return (time.perf_counter() - begin) / (steps * count)

    def check() -> Array:
        return np.asarray(filled(networks, images, steps).advance(1)[:checked], np.float64)

    case = f"encode {layers}x{width} {side} px, {count} at once, one step of one image"
    benchmark.compare(
        case, Contestant("symgraph", run, own_clock=True, check=check),
        torch_inr.fitters(networks, images, places, steps, checked),
        target=target, tolerance=1e-2, within=WITHIN,
    )  # fmt: skip
    mine = filled(networks, images[:1], compared).advance(compared)
    theirs = torch_inr.error_after(networks, images[0], places, compared)
    reached = psnr([float(mine[0]), theirs])
    benchmark.notes.append(
        f"{case}: after {compared} steps {reached[0]:.1f} dB, PyTorch {reached[1]:.1f} dB"
    )


def options(parser: argparse.ArgumentParser) -> None:
    """Add the flags of this script."""
    parser.add_argument("--part", type=list_of(PARTS), default=PARTS, help="what is measured")


def main() -> int:
    """Measure, interleaved."""
    benchmark = start("rapid_inr", __doc__, rounds=9, options=options)
    settle()
    need("torch")
    if "decode" in benchmark.chosen.part:
        for row in [(2, 8, 16, 4)] if benchmark.quick else DECODE:
            decode_row(benchmark, *row)
    if "encode" in benchmark.chosen.part:
        for each in [(2, 8, 16, 4, 3, 5, 5.0)] if benchmark.quick else ENCODE:
            encode_row(benchmark, *each)
    return benchmark.finish()


if __name__ == "__main__":
    sys.exit(main())
