"""Rapid-INR: images stored as small networks, and a ResNet-18 that decodes them as it trains.

Chen, Yang, Fitzmeyer, Hao: "Rapid-INR: Storage Efficient CPU-free DNN Training Using INR", 2023
(arXiv 2306.16699). `encode` fits a network to each image and writes them as a set, `train` trains
on such a set, `compare` shows what became of the images.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from pathlib import Path
from typing import Any

if not __package__:  # run as a file: find `models` and `symgraph` in this checkout
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import symgraph as sg
from models.common.classifier import Classifier, evaluate, predict
from models.common.commandline import (
    CommandParser,
    ModelParser,
    build_parser,
    check_device,
    exit_with,
    positive_float,
    positive_int,
    seed,
)
from models.common.inr import DIGITS, PHOTOS, open_grey, pictures, train
from models.common.interrupt import Interrupted, hold_interrupts
from models.common.pictures import check_pictures, plot_pairs
from models.common.progress import Progress, show_progress
from models.common.runs import RUNS
from models.common.workers import backend_of
from models.resnet import STEMS, ResNet, schedule
from symgraph.compression import Course, Fitting, Smaller, encode, smaller
from symgraph.compression.inr_smaller import KINDS, PRUNING
from symgraph.data import InrSet, Pictures, Siren, decode, measured, open_inr
from symgraph.errors import ArgumentError

NAME = "rapid_inr"
DEPTH = 18
SMALL = 64  # pixels of a side up to which images take the small network and the small stem
MAX_SIDE = 4096
#                                          layers, width
NETWORKS = {"small": (5, 13), "large": (10, 28)}
# for `train` without a set: enough for digits, which are smooth
AT_ONCE = {"layers": 3, "width": 10, "steps": 150, "kind": "mixed", "again": 50}


def optimizer(net: sg.nn.Module, lr: float) -> sg.optim.SGD:
    """Momentum 0.9, and everything decays by 5e-4, as published."""
    return sg.optim.SGD(net.parameters(), lr, momentum=0.9, weight_decay=5e-4)


def classifier(
    set: str = "", size: int = 32, crop: int = 28, stem: str = "small", width: int = 64,
    pad: int = 0,
) -> Classifier:  # fmt: skip
    """ResNet-18 whose images are decoded at `size` pixels, of which `crop` are cut out anywhere."""
    if not 1 <= crop <= size <= MAX_SIDE:
        raise ArgumentError(
            f"rapid_inr: crop must lie in 1 .. size, and size in 1 .. {MAX_SIDE}, "
            f"got {crop} and {size}."
        )
    if not 0 <= pad <= size:
        raise ArgumentError(f"rapid_inr: pad must lie in 0 .. {size}, the size, got {pad}.")
    return Classifier(
        name=NAME,
        crop=crop,
        build=lambda classes: ResNet(DEPTH, classes, stem=stem, width=width),
        optimizer=optimizer,
        schedule=schedule,
        first_layer=lambda net: net.filters,  # type: ignore[attr-defined]
        size=size,
        settings={
            "set": set, "size": size, "crop": crop, "stem": stem, "width": width, "pad": pad,
        },
        variant=classifier,
        opener=open_grey,
    )  # fmt: skip


MODEL = classifier()

NOTES = """\
more commands:
  python models/rapid_inr.py encode --data photos --size 64 --out photos.safetensors
      one small network for each tile of the two photographs that ship with scikit-learn
  python models/rapid_inr.py compare --data photos --size 64 --set photos.safetensors
      a picture of the images before and after, with quality and bytes
  python models/rapid_inr.py train --data photos --set photos.safetensors
      ResNet-18 on these; every step decodes its own images
without --set, images that ship with scikit-learn are encoded first. training goes on from a
checkpoint, and so does an encode that was cut off: call it again with the same flags.
"""


def make_parser() -> ModelParser:
    """Make the command line."""
    parser = build_parser(NAME, "Train ResNet-18 on images that are stored as networks.", NOTES)
    add = parser.add_model_argument
    add("--set", metavar="FILE", help="the set to train on, from `encode` (default: made first)")
    add("--size", type=positive_int, metavar="N", help="side at which images are decoded "
        "(default: that of the largest image)")  # fmt: skip
    add("--crop", type=positive_int, metavar="N", help="side of the network's input, cut out "
        "anywhere (default: seven eighths of the size)")  # fmt: skip
    add("--stem", choices=STEMS, help="the first layer (default: small for a crop of up to 64)")
    add("--width", type=positive_int, default=64, metavar="N", help="channels of the first stage; "
        "another width than 64 is not the published network")  # fmt: skip
    add("--pad", type=int, default=0, metavar="N", help="black pixels that a crop may reach into")
    parser.train.set_defaults(epochs=5, batch=64, learning_rate=0.01)
    _add_encode(parser.add_command("encode", "Fit a small network to each image of a data set."))
    _add_compare(parser.add_command("compare", "Draw images beside what a set makes of them."))
    return parser


def _add_source(command: CommandParser) -> None:
    add = command.add_argument
    add("--data", default=DIGITS, metavar="PATH", help="'digits' or 'photos', which ship with "
        "scikit-learn, a prepared data set, CIFAR, MNIST, or a folder of images")  # fmt: skip
    add("--size", type=positive_int, metavar="N", help="side of digits and tiles (default: 32); "
        "images of a folder are resized to it, and keep their own sizes without")  # fmt: skip
    add("--limit", type=positive_int, metavar="N", help="the first N images only")


def _add_encode(command: CommandParser) -> None:
    _add_source(command)
    add = command.add_argument
    add("--out", metavar="FILE", help=f"the set (default: {RUNS}/{NAME}-<data>.safetensors)")
    network = command.add_argument_group("network of an image")
    add = network.add_argument
    add("--layers", type=positive_int, metavar="N", help="layers of sines (default: 5 for images "
        f"of up to {SMALL} pixels, else 10)")  # fmt: skip
    add("--width", type=positive_int, metavar="N", help="sines in a layer (default: 13 or 28)")
    fitting = command.add_argument_group("fitting")
    add = fitting.add_argument
    add("--steps", type=positive_int, default=1000, metavar="N", help="steps of Adam")
    add("--learning-rate", type=positive_float, default=5e-3, metavar="X", help="at the start; it "
        "falls along a cosine")  # fmt: skip
    add("--target", type=positive_float, metavar="DB", help="stop an image at this quality; exit "
        "with 1 if one does not reach it")  # fmt: skip
    add("--lanes", type=positive_int, metavar="N", help="images at a time (default: by their size)")
    add("--seed", type=seed, default=0, metavar="N", help="of the numbers to begin with")
    add("--checkpoint-every", type=positive_float, default=60.0, metavar="S", help="seconds")
    bytes_ = command.add_argument_group("bytes")
    add = bytes_.add_argument
    add("--kind", choices=tuple(KINDS), default="mixed", help="what numbers are kept as; mixed: "
        "int8, and float16 in the first and last layer")  # fmt: skip
    add("--sparsity", type=float, default=0.0, metavar="X", help="share of hidden numbers to prune")
    add("--pruning", choices=PRUNING, default="iterative", help="how they are chosen")
    add("--again", type=positive_int, default=300, metavar="N", help="steps after each round")


def _add_compare(command: CommandParser) -> None:
    _add_source(command)
    add = command.add_argument
    add("--set", metavar="FILE", help=f"the set (default: {RUNS}/{NAME}-<data>.safetensors)")
    add("--out", metavar="FILE", help="the picture (default: beside the set, .png)")
    add("--images", type=positive_int, default=6, metavar="N", help="images in the picture")


def place_of(data: str) -> Path:
    """Give the file that a set of these images lies in unless told otherwise."""
    return RUNS / f"{NAME}-{Path(data).name}.safetensors"


class Watcher:
    """Shows how far an encoding has come, as training does, and stops it after Ctrl-C."""

    parts = 10_000  # of all the work

    def __init__(self, quiet: bool, interrupted: Interrupted) -> None:
        self.shown: Progress = show_progress(total=self.parts, epochs=1, quiet=quiet)
        self.interrupted, self.begun = interrupted, False

    def __call__(self, course: Course) -> None:
        """Take note of the course; raises `SystemExit` where somebody asked to stop."""
        number = int(self.parts * course.share)
        if not self.begun:  # what an earlier run did says nothing about the speed of this one
            self.shown.number, self.begun = number, True
        again = {} if course.rounds == 1 else {"round": f"{course.round}/{course.rounds}"}
        self.shown.course = {
            "done": f"{100 * course.share:.1f} %", **again,
            "images": f"{course.done}/{course.total}", "steps": str(course.steps),
            "quality": f"{course.psnr:.1f} dB",
        }  # fmt: skip
        self.shown.step(number, epoch=0, images=0, loss=0.0, learning_rate=0.0)
        if self.interrupted:
            self.shown.say("stopped; the same command goes on from here")
            raise SystemExit(self.interrupted.exit_code)


def encode_pictures(found: Pictures, chosen: argparse.Namespace, out: Path) -> InrSet:
    """Fit networks to images and make them smaller; progress stands beside the set until done."""
    largest = max(max(image.shape[1:]) for image in found.images)
    layers, width = NETWORKS["small" if largest <= SMALL else "large"]
    siren = Siren(chosen.layers or layers, chosen.width or width)
    fitting = Fitting(
        steps=chosen.steps, rate=chosen.learning_rate, target=chosen.target,
        lanes=chosen.lanes, seed=chosen.seed,
    )  # fmt: skip
    how = Smaller(chosen.kind, chosen.sparsity, chosen.pruning, steps=chosen.again)
    folder, backend = out.with_name(f"{out.name}.fitting"), backend_of(chosen)
    options: dict[str, Any] = {
        "folder": folder, "backend": backend, "every": chosen.checkpoint_every,
    }  # fmt: skip
    with hold_interrupts("stopping behind a checkpoint; once more to stop at once") as interrupted:
        watcher = Watcher(chosen.quiet, interrupted)
        with watcher.shown:
            made = encode(
                found.images, siren, fitting, labels=found.labels, classes=found.classes,
                watch=watcher, **options,
            )  # fmt: skip
        print(f"fitted    {_said(made)}", flush=True)
        if how.kind != "float32" or how.sparsity:
            watcher = Watcher(chosen.quiet, interrupted)
            with watcher.shown:
                made = smaller(made, found.images, how, watch=watcher, **options)
            print(f"smaller   {_said(made)}", flush=True)
    made = measured(made, found.images, backend)
    made.save(out)
    shutil.rmtree(folder, ignore_errors=True)
    return made


def _said(made: InrSet) -> str:
    quality = made.psnr
    return (
        f"{len(made)} images, {made.stored:,} bytes, {100 * made.stored / made.raw:.1f} % of RGB, "
        f"{float(quality.mean()):.1f} dB ({float(quality.min()):.1f} the worst)"
    )


def run_encode(chosen: argparse.Namespace) -> int:
    """Encode images and write the set."""
    out = Path(chosen.out) if chosen.out else place_of(chosen.data)
    if out.is_dir() or not out.name:
        raise ArgumentError(f"rapid_inr: {out} is a folder.", fix="--out FILE.safetensors")
    found = pictures(chosen.data, chosen.size, chosen.limit)
    made = encode_pictures(found, chosen, out)
    print(f"written   {out}  {_said(made)}")
    if chosen.target is not None:
        made.check_target(chosen.target)
    return 0


def run_compare(chosen: argparse.Namespace) -> int:
    """Draw images beside what a set makes of them."""
    check_pictures()
    path = Path(chosen.set) if chosen.set else place_of(chosen.data)
    made = open_inr(path)
    found = pictures(chosen.data, chosen.size, chosen.limit or len(made))
    made = measured(made, found.images, backend_of(chosen))
    step = max(1, len(made) // chosen.images)
    chosen_ones = list(range(0, len(made), step))[: chosen.images]
    decoded = decode(made, chosen_ones)
    each = made.stored / len(made)
    captions = [
        f"{made.psnr[k]:.1f} dB\n{each:,.0f} of {found.images[k].size:,} bytes" for k in chosen_ones
    ]
    out = Path(chosen.out) if chosen.out else path.with_suffix(".png")
    plot_pairs([found.images[k] for k in chosen_ones], decoded, captions, out, title=_said(made))
    print(_said(made))
    print(f"picture   {out}")
    return 0


def settle(chosen: argparse.Namespace) -> None:
    """Make the set where there is none, and choose sizes that suit it, where not given."""
    path = Path(chosen.set) if chosen.set else place_of(chosen.data)
    if not path.exists() and not chosen.set and chosen.data in (DIGITS, PHOTOS):
        words = [word for name, value in AT_ONCE.items() for word in (f"--{name}", str(value))]
        words += ["--data", chosen.data, *(["--size", str(chosen.size)] if chosen.size else [])]
        words += ["--device", chosen.device, *(["--quiet"] if chosen.quiet else [])]
        run_encode(make_parser().parse_args(["encode", *words]))
    chosen.set = str(path)
    largest = int(open_inr(path).sizes.max())
    chosen.size = chosen.size or largest
    chosen.crop = chosen.crop or max(1, 7 * chosen.size // 8)
    chosen.stem = chosen.stem or ("small" if chosen.crop <= SMALL else "imagenet")


def main(arguments: list[str] | None = None) -> int:
    """Run the command line."""
    chosen = make_parser().parse_args(arguments)
    check_device(chosen.device)
    if chosen.command in ("encode", "compare"):
        return {"encode": run_encode, "compare": run_compare}[chosen.command](chosen)
    if chosen.command == "train" and chosen.resume is None:
        settle(chosen)
    command = {"train": train, "evaluate": evaluate, "predict": predict}[chosen.command]
    return command(MODEL, chosen)


if __name__ == "__main__":
    exit_with(main)
