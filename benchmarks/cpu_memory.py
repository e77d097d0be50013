"""The memory of AlexNet's training step on the CPU, against PyTorch's, each in a fresh process.

Measured is the most that a process ever held (VmHWM) above what it held after its imports, after
three steps. PyTorch runs eagerly in its own layout and channels_last, with fused SGD, with the
default allocator and with the settings of the races: the least of these counts. symgraph runs as
installed. The error is that of a first loss on two images, against symgraph's reference backend.
Another row says how much of the measured memory `bind` foresees, where functions have it.

    python benchmarks/cpu_memory.py [--batch 128] [--quick]
"""

from __future__ import annotations

import argparse
import statistics
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
import ours
from harness import Row, spread, start
from peers import need, torch_settings
from workers import add_measure, measure, memory, report

import symgraph as sg
from models.alexnet import SIDE, AlexNet, optimizer
from models.common.classifier import inputs

TARGET, FORESEEN = 2.0, 0.9
STEPS, FEW = 3, 2
SETTINGS = ("eager", "eager channels_last")


def network(classes: int) -> AlexNet:
    """Make AlexNet with the dropout that PyTorch has."""
    sg.seed(1)
    net = AlexNet(classes)
    ours.invert_dropout(net)
    return net


def symgraph_step(batch: int, classes: int, backend: str | None) -> int:
    """In a child: train with symgraph."""
    base = memory("VmHWM")
    net = network(classes)
    images, labels = inputs(SIDE)
    loss = sg.cross_entropy(net(images, train=True), labels).mean()
    updates = optimizer(net, 1e-3).updates(loss)
    step = ours.compiled([images, labels], loss, updates, backend=backend)
    data = ours.draw((batch, 3, SIDE, SIDE), classes)
    first = float(step(*(array[:FEW] for array in data)))
    for _ in range(STEPS):
        step(*data)
    peak = memory("VmHWM") - base
    bind = getattr(step, "bind", None)
    foreseen = float(bind(B=batch).peak) if bind is not None else 0.0
    return report(bytes=peak, loss=first, foreseen=foreseen)


def torch_step(setting: str, batch: int, classes: int) -> int:
    """In a child: train with PyTorch."""
    from peers.torch_twins import Book, torch, twin

    base = memory("VmHWM")
    net = network(classes)
    module = twin(net, Book())
    del net
    images, labels = (torch.from_numpy(array) for array in ours.draw((batch, 3, SIDE, SIDE), 9))
    layout = torch.channels_last if "channels_last" in setting else torch.contiguous_format
    module, images = module.to(memory_format=layout), images.to(memory_format=layout)
    optimizer = torch.optim.SGD(
        module.parameters(), 1e-3, momentum=0.9, weight_decay=5e-4, fused=True
    )
    for _ in range(STEPS):
        loss = torch.nn.functional.cross_entropy(module(images), labels.long())
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
    return report(bytes=memory("VmHWM") - base, loss=float(loss.detach()))


def reference_loss(classes: int) -> float:
    """Give the first loss of symgraph's step by the reference backend, on a few images."""
    net = network(classes)
    images, labels = inputs(SIDE)
    loss = sg.cross_entropy(net(images, train=True), labels).mean()
    # as in the child, so that the optimizer's variables do not change what dropout draws
    updates = optimizer(net, 1e-3).updates(loss)
    step = ours.compiled([images, labels], loss, updates, backend="reference")
    return float(step(*ours.draw((FEW, 3, SIDE, SIDE), classes)))


def options(parser: argparse.ArgumentParser) -> None:
    """Add the flags of this script."""
    parser.add_argument("--batch", type=int, default=128, help="images in a batch (%(default)s)")
    parser.add_argument("--backend", help="symgraph's backend (default: the one it chooses)")
    add_measure(parser)


def main() -> int:
    """Run the children."""
    benchmark = start("cpu_memory", __doc__, rounds=3, options=options)
    chosen, quick = benchmark.chosen, benchmark.quick
    batch, classes = (2, 10) if quick else (chosen.batch, 1000)
    if chosen.measure == "symgraph":
        return symgraph_step(batch, classes, chosen.backend)
    need("torch")
    if chosen.measure:
        return torch_step(chosen.measure, batch, classes)
    rounds = 1 if quick else benchmark.rounds
    arguments = ["--batch", str(batch), *(["--quick"] if quick else [])]
    backend = ["--backend", chosen.backend] if chosen.backend else []
    plain = torch_settings.environment(memory=False)
    helped = torch_settings.environment()
    us = [measure("symgraph", [*arguments, *backend], plain) for _ in range(rounds)]
    them = {
        f"torch {setting}, {allocator}": [
            float(measure(setting, arguments, environment)["bytes"]) for _ in range(rounds)
        ]
        for setting in SETTINGS
        for allocator, environment in (("default allocator", plain), ("as in the races", helped))
    }
    best = min(them, key=lambda name: statistics.median(them[name]))
    peaks = [float(one["bytes"]) for one in us]
    reference = reference_loss(classes)
    error = abs(us[0]["loss"] - reference) / abs(reference)
    ratios = [peer / own for own, peer in zip(peaks, them[best], strict=True)]
    case = f"memory of alexnet with-lrn b={batch} train fp32"
    ours_mb, best_mb = statistics.median(peaks) / 1e6, statistics.median(them[best]) / 1e6
    ratio = float(np.median(ratios))
    versus = (spread(ratios), TARGET, error, best)
    benchmark.add(Row(case, ours_mb, best_mb, "MB", ratio, *versus))
    foreseen = us[0]["foreseen"]
    if foreseen:
        shares = [foreseen / peak for peak in peaks]
        text = f"{case}, foreseen by bind(B={batch}).peak"
        versus = (spread(shares), FORESEEN, error, "measured")
        benchmark.add(Row(text, foreseen / 1e6, ours_mb, "MB", float(np.median(shares)), *versus))
    else:
        benchmark.leave_out(f"{case}, foreseen by bind", "functions of this symgraph have no bind")
    return benchmark.finish()


if __name__ == "__main__":
    sys.exit(main())
