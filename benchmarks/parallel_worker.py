"""What the worker processes of data_parallel.py run: steps, exchanges and copies, each on one core.

A training step of AlexNet, by `symgraph.parallel.train_step`; the exchange alone, as the step does
it; the exchange of gradients and the update after it; the exchange as published, a copy of each
tensor of the peer into a twin and then the average of both; copies of memory on all workers at
once, for the bandwidth; and what PyTorch does instead, in peers/torch_ddp.py. This program is
started by

    python benchmarks/data_parallel.py [--quick]
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from math import prod
from pathlib import Path
from typing import Any
from unittest.mock import patch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
import ours
from groups import Work, main
from machine import huge_array
from ours import Problem

import symgraph as sg
from models.alexnet import SIDE, AlexNet, optimizer
from symgraph.graph.leaves import Shared
from symgraph.nn import (
    LRN,
    Activation,
    Conv2d,
    Dense,
    Dropout,
    Flatten,
    MaxPool2d,
    Sequential,
)
from symgraph.parallel import Alone, Arena, Averaging, Step, Team, train_step

Array = np.ndarray[Any, Any]
RATE = 1e-3
STEPS = 2  # in a check: the second starts from averaged weights and momenta
SMALL_SIDE = 67  # pixels of a smoke run
PIECE = 1 << 16  # numbers that stay in the cache between two operations on them


class Small(AlexNet):
    """A narrow AlexNet of small images, for smoke runs."""

    def __init__(self) -> None:
        self.features = Sequential(
            Conv2d(3, 16, 11, stride=4), Activation("relu"), MaxPool2d(3, 2), LRN(),
            Conv2d(16, 32, 5, padding=2, groups=2), Activation("relu"), MaxPool2d(3, 2), LRN(),
            Conv2d(32, 32, 3, padding=1, groups=2), Activation("relu"), MaxPool2d(3, 2),
        )  # fmt: skip
        self.classifier = Sequential(
            Flatten(), Dense(32, 256), Activation("relu"), Dropout(0.5), Dense(256, 10)
        )


def network(quick: bool) -> AlexNet:
    """Make the network; its dropout scales while training, as every peer's does."""
    sg.seed(1)
    net = Small() if quick else AlexNet(1000)
    ours.invert_dropout(net)
    return net


def problem(rows: tuple[int, int], whole: int, quick: bool) -> Problem:
    """Make the network, its update rule and rows [first, last) of a batch of `whole` images."""
    side = SMALL_SIDE if quick else SIDE
    images, labels = ours.draw((whole, 3, side, side), 10 if quick else 1000)
    net, part = network(quick), slice(*rows)
    return Problem(net, optimizer(net, RATE), images[part].copy(), labels[part].copy())


def own_rows(team: Team, rows: int) -> tuple[int, int]:
    """Give where a worker's images begin and end."""
    return team.rank * rows, (team.rank + 1) * rows


def sharing(shared: bool) -> contextlib.AbstractContextManager[Any]:
    """Have updates cut, or every worker make the whole one, as of a rule that cannot be cut."""
    if shared:
        return contextlib.nullcontext()
    return patch.object(sys.modules["symgraph.parallel.step"], "cut", lambda *given: "to compare")


def step(
    team: Team, *, rows: int, whole: int, average: str, quick: bool, shared: bool = True
) -> Work:
    """Make a training step on `rows` images of each worker; checked without dropout."""
    given = own_rows(team, rows)
    task = problem(given, whole, quick)
    kept: list[Step] = []

    def made() -> Step:
        images, labels = task.inputs()
        loss = sg.cross_entropy(task.net(images, train=True), labels, axis=task.axis).mean()
        with sharing(shared):
            return train_step(team, [images, labels], loss, task.optimizer, average=average)

    def run() -> None:
        if not kept:
            task.reset()
            kept.append(made())
        kept[0](task.images, task.labels, row=given[0])

    def check(file: str) -> dict[str, Any]:
        with ours.without_dropout(task.net):
            one = made()
        task.reset()
        for _ in range(STEPS):
            loss = one(task.images, task.labels, row=given[0]).loss
        if team.rank == 0:
            np.savez(file, **task.directions(loss))
        backend = one.local.backend
        one.close()
        return {"backend": backend}

    def close() -> None:
        for one in kept:
            one.close()

    count = sum(p.storage.array.size for p in task.net.parameters())
    return Work(run, check, close, {"bytes": 4 * count * (2 if average == "params" else 1)})


@cache
def shapes(quick: bool, average: str) -> list[tuple[int, ...]]:
    """Give the shapes of what is averaged: of weights and momenta, or of gradients."""
    found = [p.storage.array.shape for p in network(quick).parameters()]
    return found * 2 if average == "params" else found


def filled(rank: int, sizes: Sequence[int]) -> Iterator[Array]:
    """Draw the numbers that a rank begins a check with, for one tensor after the other."""
    rng = np.random.default_rng(rank)
    return (rng.random(size, dtype=np.float32) for size in sizes)


def furthest(team: Team, tensors: Sequence[Array], factor: float = 1.0) -> float:
    """Compare averages, multiplied by a factor, with those in float64 of what `filled` drew.

    The largest difference on any rank, relative to the largest average.
    """
    sizes = [tensor.size for tensor in tensors]
    worst = largest = 0.0
    for tensor, *drawn in zip(tensors, *(filled(rank, sizes) for rank in range(team.size))):
        mean = sum(one.astype(np.float64) for one in drawn) / team.size
        difference = np.abs(tensor.reshape(-1) * np.float64(factor) - mean).max(initial=0.0)
        if not np.isfinite(difference):
            difference = np.inf
        worst = max(worst, float(difference))
        largest = max(largest, float(np.abs(mean).max(initial=0.0)))
    answers = team.gather(repr(worst).encode())
    return max(float(answer) for answer in answers) / largest


def checked(
    team: Team, tensors: Sequence[Array], run: Callable[[], Any], factor: float = 1.0
) -> dict[str, Any]:
    """Average numbers that are known, and give the error; leave numbers that stay as they are."""
    for tensor, drawn in zip(tensors, filled(team.rank, [tensor.size for tensor in tensors])):
        tensor[...] = drawn.reshape(tensor.shape)
    team.gather()
    run()
    team.gather()
    error = furthest(team, tensors, factor)
    for tensor in tensors:
        tensor[...] = 0.0
    team.gather()
    return {"error": error}


def exchange(team: Team, *, average: str, quick: bool) -> Work:
    """Make the exchange of a step, without the step."""
    given = [Shared(np.zeros(shape, np.float32), "one") for shape in shapes(quick, average)]
    arena = Arena(team, given)
    averaging = Averaging(arena)
    shares = [1.0 / team.size] * team.size

    def run() -> None:
        averaging(shares)

    def check(file: str) -> dict[str, Any]:
        arrays = [one.storage.array for one in given]
        return checked(team, arrays, run)

    def close() -> None:
        averaging.close()
        arena.close()

    size = sum(segment.end - segment.start for segment in arena.segments)
    return Work(run, check, close, {"bytes": size})


def update(team: Team, *, shared: bool, quick: bool) -> Work:
    """Make what follows when all have their gradients: their average, new momenta and weights."""
    task = problem((0, 1), 1, quick)
    images, labels = task.inputs()
    loss = sg.cross_entropy(task.net(images, train=True), labels, axis=task.axis).mean()
    rule = sg.optim.SGD(task.net.parameters(), 1.0, momentum=0.9)
    with sharing(shared):
        made = train_step(team, [images, labels], loss, rule, average="grads")
    shares = [1.0 / team.size] * team.size
    after = made.update
    if after is None:
        raise ValueError("a worker alone has no update apart from its step")

    def run() -> None:
        after.collect()
        team.gather()
        after(shares)

    def check(file: str) -> dict[str, Any]:
        """From momenta of zero: they become the average gradient times -1."""
        gradients = [one.storage.array for one in after.gradients.variables]
        sizes = [one.size for one in gradients]
        for one, drawn in zip(gradients, filled(team.rank, sizes)):
            one[...] = drawn.reshape(one.shape)
        run()
        slots = [rule.slots[p]["velocity"] for p in rule.parameters]
        error = furthest(team, [one.storage.array for one in slots], -1.0)
        for one in gradients:
            one[...] = 0.0
        for slot in slots:
            slot.value = np.zeros(slot.storage.array.shape, np.float32)
        team.gather()
        return {"error": error}

    return Work(run, check, made.close)


def published(team: Team, *, quick: bool) -> Work:
    """Make the published exchange of two workers: every tensor into a twin, then each average.

    A barrier stands between the two: nobody may average what another has not copied. The averages
    are NumPy's over a whole tensor ("whole"), NumPy's over pieces that stay in the cache
    ("pieces"), or a compiled function for each tensor, as Theano's were ("compiled").
    """
    if team.size != 2:
        raise ValueError("the published exchange is one of two workers")
    listed = shapes(quick, "params")
    starts = np.cumsum([0, *(-(-prod(shape) // 16) * 16 for shape in listed)])
    regions = [region.view(np.float32) for region in team.share(int(starts[-1]) * 4)]

    def parts(memory: Array) -> list[Array]:
        return [memory[start : start + prod(s)].reshape(s) for start, s in zip(starts, listed)]

    own, peers = parts(regions[team.rank]), parts(regions[1 - team.rank])
    twins = parts(huge_array(int(starts[-1])))
    compiled = [_average_of(*pair) for pair in zip(own, twins)]
    averages: dict[str, Callable[[int], Any]] = {
        "whole": lambda number: _average(own[number], twins[number]),
        "pieces": lambda number: _average_in_pieces(own[number], twins[number]),
        "compiled": lambda number: compiled[number](),
    }

    def run(form: str) -> None:
        for twin, peer in zip(twins, peers):
            np.copyto(twin, peer)
        team.gather()
        for number in range(len(own)):
            averages[form](number)
        team.gather()

    def check(file: str, form: str) -> dict[str, Any]:
        return checked(team, own, lambda: run(form))

    return Work(run, check)


def _average(one: Array, twin: Array) -> None:
    np.add(one, twin, out=one)
    np.multiply(one, np.float32(0.5), out=one)


def _average_in_pieces(one: Array, twin: Array) -> None:
    one, twin = one.reshape(-1), twin.reshape(-1)
    for start in range(0, one.size, PIECE):
        _average(one[start : start + PIECE], twin[start : start + PIECE])


def _average_of(own: Array, twin: Array) -> Callable[[], None]:
    """Compile own <- (own + twin) / 2."""
    variable, other = Shared(own, "own"), Shared(twin, "twin")
    average = sg.function([], None, updates={variable: (variable + other) * 0.5}, nan_guard=False)

    def run() -> None:
        average()
        if variable.storage.array is not own:  # the reference makes new arrays
            own[...] = variable.storage.array
            variable.storage.array = own

    return run


def copy(team: Team, *, form: str, memory: str, quick: bool) -> Work:
    """Make a copy that all workers do at once: "copy", or "add" in place, which reads and writes.

    In "huge" pages of each worker's own, or in memory that is "shared", in the pages it has.
    """
    count = 1 << (16 if quick else 25)
    if memory == "huge":
        source, target = huge_array(count), huge_array(count)
    else:
        both = team.share(8 * count)[team.rank].view(np.float32)
        both[...] = 0.0  # which touches small pages, and they stay
        source, target = both[:count], both[count:]
    if form == "copy":
        run: Callable[[], Any] = lambda: np.copyto(target, source)
    else:
        run = lambda: [np.add(one, np.float32(1), out=one) for one in (source, target)]
    moved = team.size * (2 if form == "copy" else 4) * source.nbytes
    return Work(run, lambda file: {}, facts={"bytes": moved})


def alone(team: Team, **options: Any) -> Work:
    """Make a step of a worker without a team."""
    return step(Alone(), average="params", **options)


def ddp(team: Team, *, rows: int, whole: int, setting: str, quick: bool) -> Work:
    """Make a step of PyTorch's; checked as ours."""
    from peers import torch_ddp

    task = problem(own_rows(team, rows), whole, quick)
    return torch_ddp.training(team, task, torch_ddp.NAMED[setting], STEPS)


def gloo(team: Team, *, quick: bool) -> Work:
    """Make PyTorch's exchange of as many numbers."""
    from peers import torch_ddp

    count = {a: sum(map(prod, shapes(quick, a))) for a in ("params", "grads")}
    numbers, reduce = torch_ddp.all_reduce(team, count["params"])

    def run(form: str, average: str) -> None:
        reduce(form, count[average])

    def check(file: str, form: str, average: str) -> dict[str, Any]:
        part = numbers[: count[average]]
        return checked(team, [part], lambda: run(form, average), 1.0 / team.size)

    return Work(run, check)


MAKERS = {
    "alone": alone, "step": step, "exchange": exchange, "update": update, "published": published,
    "copy": copy, "ddp": ddp, "gloo": gloo,
}  # fmt: skip

if __name__ == "__main__":
    sys.exit(main(MAKERS, __doc__))
