"""An epoch of ResNet-18 whose images are networks, beside the same images as bytes and as JPEG.

Ours decodes each batch in its step. The first peer is our own step on bytes that lie in memory:
what decoding costs. The others are PyTorch with a DataLoader on JPEG files, of one or two workers,
the same network in its best setting. Images are tiles of the two photographs that ship with
scikit-learn, cropped and mirrored at random everywhere; the networks' numbers are those that a
fitting begins with, since time does not depend on them. Checked is that an epoch has each image.

    python benchmarks/inr_epoch.py [--size 32,224] [--quick]
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
import ours
from harness import Benchmark, Contestant, start
from ours import Problem
from peers import need
from peers.torch_settings import settle
from races import sizes
from rapid_inr import drawn, kept

import symgraph as sg
from models.common.inr import GREY, tiles
from models.rapid_inr import optimizer
from models.resnet import ResNet

Array = np.ndarray[Any, Any]

DEPTH, RATE, QUALITY = 18, 1e-3, 95
#        layers, width, images, batch, stem
CASES = {
    8:   (2, 8, 8, 4, "small"),
    32:  (5, 13, 256, 32, "small"),
    224: (10, 28, 32, 16, "imagenet"),
}  # fmt: skip
LOADERS = ("torch Pillow, 1 worker", "torch Pillow, 2 workers, prefetch 4")


def pictures(side: int, count: int) -> tuple[Array, Array]:
    """Cut the images (count, 3, side, side) and their labels, again and again where they end."""
    found = tiles(side)
    order = np.arange(count) % len(found.images)
    return np.stack(found.images)[order], found.labels[order]


def batches(count: int, batch: int) -> Iterator[Array]:
    """Give the numbers of an epoch's images in a random order."""
    order = np.random.default_rng(0).permutation(count).astype(np.int32)
    yield from order.reshape(-1, batch)


class Ours:
    """Steps of our network on images that are made in the step."""

    def __init__(self, labels: Array, batch: int, stem: str) -> None:
        sg.seed(1)
        self.labels, self.batch = labels, batch
        self.net = ResNet(DEPTH, 2, stem=stem)
        self.numbers = sg.tensor("indices", (batch,), "int32")
        self.wanted = sg.tensor("labels", (batch,), "int32")

    def compiled(self, pixels: Any, inputs: list[Any]) -> Any:
        """Compile a step."""
        logits = self.net(pixels - np.float32(GREY), train=True)
        loss = sg.cross_entropy(logits, self.wanted).mean()
        updates = optimizer(self.net, RATE).updates(loss)
        given = [self.numbers, self.wanted, *inputs]
        return ours.compiled(given, loss, updates, name="epoch")

    def contestant(self, name: str, step: Callable[..., Any], *more: Any) -> Contestant:
        """Make a contestant: an epoch of steps."""

        def run() -> Array:
            seen = np.zeros(2, np.int64)
            for numbers in batches(len(self.labels), self.batch):
                step(numbers, self.labels[numbers], *(make() for make in more))
                seen += np.bincount(self.labels[numbers], minlength=2)
            return seen

        return Contestant(name, run)


def decoding(side: int, crop: int, labels: Array, layers: int, width: int, batch: int, stem: str):
    """Make the contestant whose images are networks."""
    images = kept(drawn(layers, width, len(labels)), side, "float16")
    mine = Ours(labels, batch, stem)
    pixels = images.pixels(mine.numbers, side, side, crop=crop, mirror=True, random=True)
    return mine.contestant("symgraph, networks", mine.compiled(pixels, []))


def bytes_in_memory(side: int, crop: int, images: Array, labels: Array, batch: int, stem: str):
    """Make the contestant whose images are bytes."""
    mine, random = Ours(labels, batch, stem), np.random.default_rng(1)
    held = sg.shared(images, "images")
    top, left = (sg.tensor(name, (batch,), "int32") for name in ("top", "left"))
    turned = sg.tensor("turned", (batch,), "bool")
    pixels = sg.crop_mirror(sg.take(held, mine.numbers, axis=0), crop, top, left, turned)
    step = mine.compiled(pixels, [top, left, turned])
    starts = lambda: random.integers(0, side - crop + 1, batch).astype(np.int32)
    return mine.contestant(
        "symgraph, bytes in memory", step, starts, starts, lambda: random.random(batch) < 0.5
    )


def written(root: Path, images: Array, labels: Array) -> list[tuple[str, int]]:
    """Write the images as JPEG files."""
    from PIL import Image

    files = []
    for number, (image, label) in enumerate(zip(images, labels, strict=True)):
        name = f"{number:05}.jpg"
        Image.fromarray(image.transpose(1, 2, 0)).save(root / name, quality=QUALITY)
        files.append((name, int(label)))
    return files


def torch_epochs(
    root: Path, files: list[tuple[str, int]], side: int, crop: int, batch: int, stem: str
) -> list[Contestant]:
    """Make PyTorch's contestants: settings of the network by loaders."""
    from peers import torch_loading
    from peers.torch_nets import COMPILED_LAST, EAGER, LAST, Net, Setting, torch, usual_step

    sg.seed(1)
    net = ResNet(DEPTH, 2, stem=stem)
    draws = ours.draw((batch, 3, crop, crop), 2)

    def contestant(loader: str, setting: Setting) -> Contestant:
        loading = torch_loading.Loading(loader, root, files, batch, side, crop)
        made = Net(Problem(net, optimizer(net, RATE), *draws), setting, "fp32", "train")
        step = usual_step(made)
        layout = torch.channels_last if setting.channels_last else torch.contiguous_format

        def run() -> Array:
            seen = np.zeros(2, np.int64)
            for images, labels in loading.epoch():
                made.images, made.labels = images.contiguous(memory_format=layout), labels
                step.run()
                seen += np.bincount(labels.numpy(), minlength=2)
            return seen

        return Contestant(f"{loader}, {setting.name}", run)

    return [contestant(loader, s) for s in (EAGER, LAST, COMPILED_LAST) for loader in LOADERS]


def race(benchmark: Benchmark, side: int) -> None:
    """Race epochs of images of one size."""
    layers, width, count, batch, stem = CASES[side]
    crop = 7 * side // 8
    images, labels = pictures(side, count)
    case = f"epoch of {count} images of {side} px, ResNet-18 b={batch} fp32, {layers}x{width}"
    own = decoding(side, crop, labels, layers, width, batch, stem)
    seen = np.bincount(labels, minlength=2)
    stored = bytes_in_memory(side, crop, images, labels, batch, stem)
    options: dict[str, Any] = {"reference": seen, "tolerance": 0.0}
    benchmark.compare(f"{case} vs bytes in memory", own, [stored], target=0.0, **options)
    with tempfile.TemporaryDirectory() as folder:
        files = written(Path(folder), images, labels)
        peers = torch_epochs(Path(folder), files, side, crop, batch, stem)
        benchmark.compare(f"{case} vs JPEG, DataLoader", own, peers, target=1.0, **options)


def options(parser: argparse.ArgumentParser) -> None:
    """Add the flags of this script."""
    parser.add_argument("--size", type=sizes, default=[32, 224], help="sides (default: 32,224)")


def main() -> int:
    """Measure, interleaved."""
    benchmark = start("inr_epoch", __doc__, rounds=5, options=options)
    settle()
    need("torch")
    for side in [8] if benchmark.quick else benchmark.chosen.size:
        race(benchmark, side)
    return benchmark.finish()


if __name__ == "__main__":
    sys.exit(main())
