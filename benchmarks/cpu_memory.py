"""The memory of AlexNet's training step on the CPU, against PyTorch's, each in a fresh process.

Measured is the most that a process ever held (VmHWM) in two steps, above what a bare interpreter
holds; PyTorch's is spared what the modules of this script take. PyTorch runs eagerly with fused
SGD: in its own layout and channels_last, and with the allocator's settings of the races; the least
of these counts. symgraph runs as installed. A note tells both without their imports. The error is
that of a first loss on two images, against symgraph's reference backend. Another row holds what
`bind` foresees against what the process grew by since the compiler and the libraries were loaded.

    python benchmarks/cpu_memory.py [--batch 128] [--rounds 1] [--quick]
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import ours
from harness import Row, spread, start
from peers import need, torch_settings
from workers import STATUS, add_measure, measure, memory, report

import symgraph as sg
from models.alexnet import SIDE, AlexNet, optimizer
from models.common.classifier import inputs

TARGET, FORESEEN = 2.0, 0.98
STEPS, FEW, WARM = 2, 2, 128  # momenta and gradients are there together from the second step on
#                       layout                  allocator of the races
SETTINGS = {
    "torch eager": ("eager", False),
    "torch eager channels_last": ("eager channels_last", False),
    "torch eager, allocator of the races": ("eager", True),
}
BARE = f"print(next(r for r in open({str(STATUS)!r}) if r.startswith('VmHWM:')).split()[1])"


def bare() -> int:
    """Give the bytes that an interpreter holds which has imported nothing."""
    command = [sys.executable, "-c", BARE]
    return 1024 * int(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout)


def network(classes: int) -> AlexNet:
    """Make AlexNet with the dropout that PyTorch has."""
    sg.seed(1)
    net = AlexNet(classes)
    ours.invert_dropout(net)
    return net


def warm_up(backend: str | None) -> None:
    """Load what compiles and computes, and let it take the memory that it keeps for itself."""
    nn = sg.nn
    images, labels = inputs(8)
    layers = [nn.Conv2d(3, 64, 3), nn.Activation("relu"), nn.Flatten(), nn.Dense(64 * 36, 1024)]
    net = nn.Sequential(*layers, nn.Activation("relu"), nn.Dense(1024, 1000))
    loss = sg.cross_entropy(net(images, train=True), labels).mean()
    step = ours.compiled(
        [images, labels], loss, optimizer(net, 1e-3).updates(loss), backend=backend
    )
    data = ours.draw((WARM, 3, 8, 8), 1000)
    for _ in range(STEPS):
        step(*data)


def symgraph_step(batch: int, classes: int, backend: str | None) -> int:
    """In a child: train with symgraph."""
    imported = memory("VmRSS")
    warm_up(backend)
    loaded = memory("VmRSS")
    net = network(classes)
    images, labels = inputs(SIDE)
    loss = sg.cross_entropy(net(images, train=True), labels).mean()
    updates = optimizer(net, 1e-3).updates(loss)
    step = ours.compiled([images, labels], loss, updates, backend=backend)
    bind = getattr(step, "bind", None)
    # before the first call, so that everything is laid out for this batch and not for a few images
    foreseen = float(bind(B=batch).peak) if bind is not None else 0.0
    data = ours.draw((batch, 3, SIDE, SIDE), classes)
    first = float(step(*(array[:FEW] for array in data)))
    for _ in range(STEPS):
        step(*data)
    peak = memory("VmHWM")
    return report(
        peak=peak, imported=imported, loaded=loaded, base=bare(), loss=first, foreseen=foreseen
    )


def torch_step(setting: str, batch: int, classes: int) -> int:
    """In a child: train with PyTorch."""
    base = memory("VmRSS")
    from peers.torch_twins import Book, torch, twin

    imported = memory("VmRSS")
    net = network(classes)
    module = twin(net, Book())
    del net
    images, labels = (torch.from_numpy(a) for a in ours.draw((batch, 3, SIDE, SIDE), classes))
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
    return report(peak=memory("VmHWM"), imported=imported, base=base, loss=float(loss.detach()))


def reference_loss(batch: int, classes: int) -> float:
    """Give the first loss of symgraph's step by the reference backend, on a few images."""
    warm_up("reference")  # as in the child: dropout draws by how many variables there were
    net = network(classes)
    images, labels = inputs(SIDE)
    loss = sg.cross_entropy(net(images, train=True), labels).mean()
    # as in the child, so that the optimizer's variables do not change what dropout draws
    updates = optimizer(net, 1e-3).updates(loss)
    step = ours.compiled([images, labels], loss, updates, backend="reference")
    data = ours.draw((batch, 3, SIDE, SIDE), classes)
    return float(step(*(array[:FEW] for array in data)))


def options(parser: argparse.ArgumentParser) -> None:
    """Add the flags of this script."""
    parser.add_argument("--batch", type=int, default=128, help="images in a batch (%(default)s)")
    parser.add_argument("--backend", help="symgraph's backend (default: the one it chooses)")
    add_measure(parser)


def child(
    name: str, what: str, arguments: list[str], environment: Mapping[str, str]
) -> dict[str, float]:
    """Measure in a new process; say so, as a large batch takes its time."""
    begin = time.perf_counter()
    found: dict[str, float] = measure(what, arguments, environment)
    held, seconds = found["peak"] - found["base"], time.perf_counter() - begin
    print(f"{name}: {held / 1e6:.0f} MB, after {seconds:.0f} s", file=sys.stderr, flush=True)
    return found


def above(found: list[dict[str, float]], base: str) -> list[float]:
    """Give the peaks of children above what they held at a point."""
    return [one["peak"] - one[base] for one in found]


def main() -> int:
    """Run the children."""
    benchmark = start("cpu_memory", __doc__, rounds=1, options=options)
    chosen, quick = benchmark.chosen, benchmark.quick
    batch, classes = (2, 10) if quick else (chosen.batch, 1000)
    if chosen.measure == "symgraph":
        return symgraph_step(batch, classes, chosen.backend)
    need("torch")
    if chosen.measure:
        return torch_step(chosen.measure, batch, classes)
    rounds = range(benchmark.rounds if not quick else 1)
    arguments = ["--batch", str(batch), *(["--quick"] if quick else [])]
    backend = ["--backend", chosen.backend] if chosen.backend else []
    environments = [torch_settings.environment(memory=helped) for helped in (False, True)]
    us = [child("symgraph", "symgraph", [*arguments, *backend], environments[0]) for _ in rounds]
    them = {
        name: [child(name, layout, arguments, environments[helped]) for _ in rounds]
        for name, (layout, helped) in SETTINGS.items()
    }
    best = min(them, key=lambda name: statistics.median(above(them[name], "base")))
    own, peer = above(us, "base"), above(them[best], "base")
    reference = reference_loss(batch, classes)
    error = abs(us[0]["loss"] - reference) / abs(reference)
    case = f"memory of alexnet with-lrn b={batch} train fp32"
    ratios = [theirs / mine for mine, theirs in zip(own, peer, strict=True)]
    ours_mb, best_mb = statistics.median(own) / 1e6, statistics.median(peer) / 1e6
    versus = (spread(ratios), TARGET, error, best)
    benchmark.add(Row(case, ours_mb, best_mb, "MB", statistics.median(ratios), *versus))
    alone = [statistics.median(above(found, "imported")) / 1e6 for found in (us, them[best])]
    text = f"without their imports {alone[0]:.0f} MB against {alone[1]:.0f} MB"
    benchmark.notes.append(f"{case}: {text}, ratio {alone[1] / alone[0]:.2f}")
    foreseen = us[0]["foreseen"]
    if foreseen:
        grown = above(us, "loaded")
        shares = [min(foreseen / each, each / foreseen) for each in grown]
        text = f"{case}, foreseen by bind(B={batch}).peak"
        versus = (spread(shares), FORESEEN, error, "measured")
        measured = statistics.median(grown) / 1e6
        ratio = statistics.median(shares)
        benchmark.add(Row(text, foreseen / 1e6, measured, "MB", ratio, *versus))
    else:
        benchmark.leave_out(f"{case}, foreseen by bind", "functions of this symgraph have no bind")
    return benchmark.finish()


if __name__ == "__main__":
    sys.exit(main())
