"""Low-rank training and inference on the CPU: five strategies against dense, and PyTorch's same.

Networks are ResNet-50 and ViT-S on images of 224 x 224, random, with 1,000 labels. Each layer has
half of its numbers as factors ("low-rank"); ranks are what this device computes well
("rank-search"); factors are trained in turn ("freezing", the mean of both turns); "combined" is
both. PyTorch computes the same networks with the same ranks, frozen by `requires_grad`, in its best
of three settings. A row says how many times faster a strategy is than dense symgraph ("vs dense"),
or than PyTorch with the same strategy ("vs torch"). Everybody's loss, gradients and logits are
checked against PyTorch in float64 on the same factors. Inference knows no freezing: there are
three networks.

    python benchmarks/lowrank.py [--case resnet50,vit-s] [--mode train,infer] [--batch 32]
                                 [--precision fp32,bf16] [--compression 2] [--quick]
"""

from __future__ import annotations

import argparse
import gc
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import cpu_resnet
import ours
import vit
from harness import Benchmark, Contestant, Row, relative_error, spread, start
from ours import Problem, compiled
from peers import need
from peers.torch_settings import settle
from races import TOLERANCE, add_options

import symgraph as sg
from models.common.lowrank import STRATEGIES
from symgraph.compression import DeviceTimer, decompose_layers, freeze_sets, rank_search

SMALL = {"width": 8, "side": 64, "classes": 10}  # of the smoke run
TARGETS = {("train", "combined"): 1.3, ("infer", "combined"): 1.2}
ALIKE = ("freezing", "rank-search")  # in inference, as low-rank and as combined
PEER_SETTINGS = ("EAGER", "LAST", "COMPILED_LAST")


@dataclass(frozen=True)
class Entry:
    """A strategy's problem, and what is frozen in its steps."""

    problem: Problem
    sets: Sequence[tuple[sg.Shared, ...]]


def problem(case: str, batch: int, quick: bool) -> Problem:
    """Make the dense network with a batch."""
    if case == "vit-s":
        return vit.problem(batch, quick)
    return cpu_resnet.problem(batch, **(SMALL if quick else {}))


def entries(benchmark: Benchmark, case: str, batch: int, precision: str) -> dict[str, Entry]:
    """Make every strategy's network, from the same weights."""
    chosen, quick = benchmark.chosen, benchmark.quick
    found = {"original": Entry(dense := problem(case, batch, quick), ((),))}
    timer = DeviceTimer(chosen.backend, precision, repeats=2 if quick else 7)
    searched = rank_search(
        dense.net, dense.images.shape, ratio=chosen.compression, timer=timer,
        most=2 if quick else 8,
    )  # fmt: skip
    before, after = searched.seconds
    benchmark.notes.append(
        f"{case} {precision}: rank search: {sum(map(bool, searched.ranks.values()))} of "
        f"{len(searched.ranks)} layers in factors, {before:.4g} -> {after:.4g} s"
    )
    for name, strategy in STRATEGIES.items():
        if strategy.low:
            made = problem(case, batch, quick)
            options: Any = {"ranks": searched.ranks} if strategy.search else {}
            report = decompose_layers(made.net, **(options or {"ratio": chosen.compression}))
            if not report.ranks:
                benchmark.leave_out(f"{case} {name}", "no layer is worth factors")
                continue
            rule = made.optimizer
            again = sg.optim.SGD(
                made.net.parameters(), float(rule.lr.value), momentum=rule.momentum,
                weight_decay=rule.weight_decay,
            )  # fmt: skip
            low = Problem(made.net, again, made.images, made.labels)
            found[name] = Entry(low, freeze_sets(made.net, strategy.policy))
    return found


def mean_seconds(runs: Sequence[Callable[[], Any]]) -> float:
    """Time steps one after another; give the mean."""
    begin = time.perf_counter()
    for run in runs:
        run()
    return (time.perf_counter() - begin) / len(runs)


def training(entry: Entry, precision: str, backend: str | None) -> Contestant:
    """Make symgraph's contestant that trains, with a step for each freeze set."""
    made, steps = entry.problem, []
    images, labels = made.inputs()
    loss = sg.cross_entropy(made.net(images, train=True), labels).mean()
    for frozen in entry.sets:
        rule = made.optimizer.without(frozen) if frozen else made.optimizer
        step = compiled(
            [images, labels], loss, rule.updates(loss), precision=precision, backend=backend,
            name="train step",
        )  # fmt: skip
        steps.append(step)

    def check() -> dict[str, Any]:
        found: dict[str, Any] = {}
        for step, frozen in reversed(list(zip(steps, entry.sets, strict=True))):
            made.reset()
            seen = made.directions(float(step(made.images, made.labels)))
            still = {name for name, one in made.net.named_parameters() if one in set(frozen)}
            found |= {name: array for name, array in seen.items() if name not in still}
        made.reset()
        return found

    made.reset()
    runs = [partial(step, made.images, made.labels) for step in steps]
    run: Callable[[], float] = lambda: mean_seconds(runs)
    return Contestant(ours.called(steps[0]), run, own_clock=True, check=check)


def measured(
    benchmark: Benchmark, entry: Entry, case: str, mode: str, precision: str
) -> tuple[Contestant, Contestant, float]:
    """Make symgraph's contestant and PyTorch's best, checked; give the error of ours too."""
    from peers import torch_lowrank, torch_nets

    made = entry.problem
    if mode == "train":
        us = training(entry, precision, benchmark.chosen.backend)
        make = lambda one: torch_lowrank.training(made, one, precision, entry.sets, mean_seconds)
    else:
        us = ours.inference(made, precision, benchmark.chosen.backend)
        make = lambda one: torch_nets.inference(made, one, precision)
    settings = PEER_SETTINGS[:1] if benchmark.quick else PEER_SETTINGS
    them = [make(getattr(torch_nets, name)) for name in settings]
    reference = torch_nets.exact(made, mode)
    plain = relative_error(them[0].result(), reference)
    allowed = max(TOLERANCE[mode, precision], 2 * plain)
    made.reset()
    errors = {}
    for one in (us, *them):
        errors[one.name] = relative_error(one.result(), reference)
        if not errors[one.name] <= allowed:
            raise ArithmeticError(f"{case}: {one.name}: error {errors[one.name]:.1e}")
    made.reset()
    for one in them:
        one.seconds()  # may still compile
    best = min(them, key=lambda one: min(one.seconds() for _ in range(2)))
    return us, best, errors[us.name]


def race(benchmark: Benchmark, case: str, found: Mapping[str, Entry], mode: str, how: str) -> None:
    """Time all strategies of both libraries in turns, and add their rows."""
    names = [name for name in found if mode == "train" or name not in ALIKE]
    made = {name: measured(benchmark, found[name], case, mode, how) for name in names}
    everybody = [
        Contestant(f"{one.name}, {name}", one.run, one.own_clock, one.check, one.wait)
        for name in names
        for one in made[name][:2]
    ]
    taken = benchmark.times(everybody)
    seconds = {
        (name, which): taken[f"{made[name][which].name}, {name}"]  # type: ignore[union-attr]
        for name in names
        for which in (0, 1)
    }
    for name in names:
        _, peer, error = made[name]
        title, mine = f"{case} {mode} {how} {name}", seconds[name, 0]
        if name != "original":
            target = TARGETS.get((mode, name), 1.0)
            rivals = seconds["original", 0]
            benchmark.add(row(f"{title} vs dense", mine, rivals, target, error, "symgraph dense"))
        benchmark.add(row(f"{title} vs torch", mine, seconds[name, 1], 1.0, error, peer.name))


def row(
    case: str, mine: list[float], rivals: list[float], target: float, error: float, versus: str
) -> Row:
    """Make a line from the seconds of each round."""
    ratios = [rival / own for rival, own in zip(rivals, mine, strict=True)]
    middle = statistics.median
    return Row(
        case, middle(mine), middle(rivals), "s", middle(ratios), spread(ratios), target, error,
        versus,
    )  # fmt: skip


def options(parser: argparse.ArgumentParser) -> None:
    """Add the flags of this script."""
    add_options(parser, ("resnet50", "vit-s"), (32,), peers=("torch",))
    parser.add_argument("--compression", type=float, default=2.0, help="of each layer's numbers")


def main() -> int:
    """Measure, interleaved."""
    benchmark = start("lowrank", __doc__, rounds=9, options=options)
    settle()
    need("torch")
    from peers import torch_nets, torch_transformers  # noqa: F401 - registers the twins

    chosen = benchmark.chosen
    for case in chosen.case:
        for batch in [4] if benchmark.quick else chosen.batch:
            for precision in chosen.precision:
                found = entries(benchmark, case, batch, precision)
                for mode in chosen.mode:
                    race(benchmark, f"{case} b={batch}", found, mode, precision)
                    torch_nets.forget()
                    gc.collect()
    return benchmark.finish()


if __name__ == "__main__":
    sys.exit(main())
