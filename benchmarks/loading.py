"""Loading images: what the trainer waits for, and what an image costs a core.

The first rows train AlexNet on one core while the loader's process works on another: the share of
the step that the trainer waits for a batch, at most 2 %; notes tell what it would be if the trainer
loaded by itself. The other rows are seconds of processors, of all processes that take part, for
each image: our way is a folder of JPEG files that `prepare` makes into shards once, and a loader of
these; the peers decode the same files in every epoch with a PyTorch DataLoader, by Pillow and by
torchvision's decode_jpeg where torchvision is installed (`pip install torchvision --no-deps`). Both
crop, mirror and normalise each image. Another row holds `prepare` itself, with resizing, sums and
writing to the disk, against the peers' epoch, and one a loader that hands over whole images as
bytes, for a step that cuts them on its device, against our own that cuts them.

The files are those of --images, one folder a class, or cut from scikit-learn's two photographs,
500 x 375 as ImageNet's usual ones.

    python benchmarks/loading.py [--part wait,images] [--images FOLDER] [--batch 32] [--quick]
"""

from __future__ import annotations

import argparse
import contextlib
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
import ours
from harness import Benchmark, Contestant, start
from peers import need
from races import list_of

import symgraph as sg
from models.alexnet import SIDE, AlexNet, optimizer
from symgraph.data import Loader, ShardedDataset, open_dataset, prepare
from symgraph.data.images import SUFFIXES
from symgraph.data.source import list_source

PARTS = ("wait", "images")
WAIT, TARGET, PREPARE = 0.02, 2.0, 1.0
STEPS = 4  # of a round
PASSES = 8  # epochs of shards in a round: one is too short for a clock of 10 ms
CHECKED = 8  # images
CUT = (500, 375)
QUALITY = 95
TICK = os.sysconf("SC_CLK_TCK")


def photographs(root: Path, count: int) -> Path:
    """Write JPEG files cut from scikit-learn's photographs, in two classes."""
    from PIL import Image
    from sklearn.datasets import load_sample_images

    random = np.random.default_rng(1)
    photos = [Image.fromarray(pixels) for pixels in load_sample_images().images]
    for number in range(count):
        photo = photos[number % 2]
        wide, high = (int(side * random.uniform(0.5, 1.0)) for side in photo.size)
        left = int(random.integers(0, photo.width - wide + 1))
        top = int(random.integers(0, photo.height - high + 1))
        cut = photo.resize(CUT, Image.Resampling.BICUBIC, (left, top, left + wide, top + high))
        folder = root / f"photo{number % 2}"
        folder.mkdir(parents=True, exist_ok=True)
        cut.save(folder / f"{number:05}.jpg", quality=QUALITY)
    return root


def worked() -> float:
    """Give the seconds of processors that this process and its children have used so far."""
    ended = os.times()
    total = time.process_time() + ended.children_user + ended.children_system
    for task in Path("/proc/self/task").iterdir():
        for child in (task / "children").read_text("ascii").split():
            with contextlib.suppress(OSError):  # it has just ended
                fields = Path(f"/proc/{child}/stat").read_text("ascii").rpartition(")")[2].split()
                total += (int(fields[11]) + int(fields[12])) / TICK
    return total


class Wait:
    """A trainer of AlexNet with its loader, each on a core of its own."""

    def __init__(
        self, dataset: ShardedDataset, batch: int, cores: list[int], **options: Any
    ) -> None:
        self.loader = Loader(dataset, batch, crop=SIDE, drop_last=True, **options)
        if self.loader.pid is not None:
            os.sched_setaffinity(self.loader.pid, {cores[-1]})

    def round(self, step: Callable[..., Any]) -> tuple[float, float]:
        """Train a few steps; give the share of the time that was waited, and seconds of a step."""
        begin, waited = time.perf_counter(), self.loader.wait_seconds
        for _ in range(STEPS):
            batch = self.loader.next_batch()
            step(batch.images, batch.labels)
        taken = time.perf_counter() - begin
        return (self.loader.wait_seconds - waited) / taken, taken / STEPS


def wait(benchmark: Benchmark, dataset: ShardedDataset) -> None:
    """Measure what the trainer waits, in turns with one that loads by itself."""
    cores = sorted(os.sched_getaffinity(0))
    batch = 2 if benchmark.quick else benchmark.chosen.batch
    if len(cores) < 2:
        benchmark.leave_out("wait for the loader", "the loader's process has no core of its own")
        return
    sg.seed(1)
    with sg.config(threads=1):
        net = AlexNet(1000)
        images, labels = sg.tensor("images", (sg.dim("B"), 3, SIDE, SIDE)), sg.ivector("labels")
        loss = sg.cross_entropy(net(images, train=True), labels).mean()
        step = ours.compiled(
            [images, labels], loss, optimizer(net, 1e-3).updates(loss), name="train step"
        )
        os.sched_setaffinity(0, {cores[0]})
        try:
            apart = Wait(dataset, batch, cores, process=True)
            alone = Wait(dataset, batch, cores, workers=0)
            with apart.loader, alone.loader:
                for one in (apart, alone):
                    one.round(step)
                found = [(*apart.round(step), *alone.round(step)) for _ in range(benchmark.rounds)]
        finally:
            os.sched_setaffinity(0, cores)
    shares, seconds, own, slower = map(list, zip(*found))
    case = f"wait for the loader's process, alexnet b={batch} train fp32, 1 thread"
    benchmark.limit(case, [max(share, 1e-9) for share in shares], WAIT, "of the step")
    median = statistics.median
    benchmark.notes.append(
        f"a step with its wait took {median(seconds):.3g} s; {median(slower):.3g} s, of which "
        f"{median(own):.1%} for loading, where the trainer loaded by itself"
    )


def cpu_seconds(name: str, images: int, run: Callable[[], Any], notes: dict[str, float], **more):
    """Make a contestant whose clock is that of the processors, for each image."""

    def measured() -> float:
        begin, wall = worked(), time.perf_counter()
        run()
        notes[name] = images / (time.perf_counter() - wall)
        return (worked() - begin) / images

    return Contestant(name, measured, own_clock=True, **more)


def race(benchmark: Benchmark, source: Path, shards: Path) -> None:
    """Race our way against the peers' on the same files."""
    from peers import torch_loading

    quick, rates = benchmark.quick, dict[str, float]()
    listing = list_source(source, 0.0, 1)
    files = [(item.name, item.label) for item in listing.splits["train"]]
    dataset, passes = open_dataset(shards), 4 if quick else PASSES
    batch = min(128, len(files) // 2)
    names = torch_loading.settings()
    if len(names) < len(torch_loading.SETTINGS):
        benchmark.notes.append("torchvision is not installed: peers decode by Pillow only")
    loadings = {name: torch_loading.Loading(name, source, files, batch) for name in names}
    peers = [
        cpu_seconds(
            name, len(files), lambda one=one: consume(one.epoch()), rates,
            check=lambda one=one: one.centres(CHECKED),
        )
        for name, one in loadings.items()
    ]  # fmt: skip
    reference = peers[0].result()
    with Loader(dataset, batch, crop=SIDE, process=True) as loader:
        own = cpu_seconds(
            "loader of shards", passes * len(files),
            lambda: [consume(loader) for _ in range(passes)], rates,
            check=lambda: middles(dataset),
        )  # fmt: skip
        loaded = benchmark.compare(
            "a training image, shards in a process vs JPEG in a DataLoader, core-seconds",
            own, peers, target=TARGET, reference=reference, tolerance=0.02,
        )  # fmt: skip
        with Loader(dataset, batch, crop=SIDE, process=True, cropped=False) as bytewise:
            whole = cpu_seconds(
                "loader of whole images", passes * len(files),
                lambda: [consume(bytewise) for _ in range(passes)], rates,
                check=lambda: middles(dataset, cropped=False),
            )  # fmt: skip
            benchmark.compare(
                "a whole training image as bytes vs one that is cut, core-seconds",
                whole, [own], target=1.0, reference=reference, tolerance=0.02,
            )  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        again = cpu_seconds(
            "prepare", len(files),
            lambda: prepare(source, f"{folder}/set", validation=0.0, jobs=1, overwrite=True),
            rates, check=lambda: middles(open_dataset(shards)),
        )  # fmt: skip
        stored = benchmark.compare(
            "preparing an image, once, vs JPEG in a DataLoader, core-seconds",
            again, peers, target=PREPARE, reference=reference, tolerance=0.02,
        )  # fmt: skip
    for epochs in (1, 10, 60):
        ratio = epochs * loaded.peer / (stored.ours + epochs * loaded.ours)
        benchmark.notes.append(f"with prepare counted in, over {epochs} epochs: ratio {ratio:.2f}")
    told = ", ".join(f"{name} {rate:.0f}" for name, rate in rates.items())
    benchmark.notes.append(f"images per second by the clock on the wall, last round: {told}")
    for one in loadings.values():
        one.close()


def consume(batches: Any) -> None:
    """Take every batch."""
    for _ in batches:
        pass


def middles(dataset: ShardedDataset, *, cropped: bool = True) -> np.ndarray:
    """Give the middles of the first images as they were before the mean was subtracted."""
    at = (dataset.image_size - SIDE) // 2
    middle = slice(at, at + SIDE)
    options = {"shuffle": False, "augment": False, "process": True, "cropped": cropped}
    with Loader(dataset, CHECKED, **options) as loader:
        batch = loader.next_batch()
        if cropped:
            return batch.images + dataset.mean_image[:, middle, middle]
        return batch.images[:, :, middle, middle].astype(np.float32)


def options(parser: argparse.ArgumentParser) -> None:
    """Add the flags of this script."""
    parser.add_argument("--part", type=list_of(PARTS), default=list(PARTS), help="wait,images")
    parser.add_argument("--images", metavar="FOLDER", help="JPEG files, one folder for each class")
    parser.add_argument("--count", type=int, default=512, help="files to make (%(default)s)")
    parser.add_argument("--batch", type=int, default=32, help="of the trainer (%(default)s)")


def main() -> int:
    """Measure."""
    benchmark = start("loading", __doc__, rounds=9, options=options)
    chosen = benchmark.chosen
    if "images" in chosen.part:
        need("torch")
    with tempfile.TemporaryDirectory() as folder:
        given = chosen.images is not None
        count = 32 if benchmark.quick else chosen.count
        made = Path(chosen.images) if given else photographs(Path(folder) / "jpeg", count)
        sizes = [path.stat().st_size for path in made.rglob("*") if path.suffix.lower() in SUFFIXES]
        benchmark.facts["images"] = f"{len(sizes)} files, {np.mean(sizes) / 1000:.0f} kB each"
        prepare(made, Path(folder) / "shards", validation=0.0)
        if "wait" in chosen.part:
            wait(benchmark, open_dataset(Path(folder) / "shards"))
        if "images" in chosen.part:
            race(benchmark, made, Path(folder) / "shards")
    return benchmark.finish()


if __name__ == "__main__":
    sys.exit(main())
