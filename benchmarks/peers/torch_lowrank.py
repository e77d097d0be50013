"""PyTorch's twins of layers of low rank, and steps in which some of their factors are frozen."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from harness import Contestant
from ours import Problem

from peers.torch_nets import Net, Setting, Step, usual_step
from peers.torch_twins import Book, nn, torch, twin
from symgraph.compression.freeze import FreezeSet
from symgraph.nn import LowRankConv2d, LowRankDense


@twin.register
def _(module: LowRankDense, book: Book) -> Any:
    return nn.Sequential(*(twin(part, book) for _, part in module.children()))


@twin.register
def _(module: LowRankConv2d, book: Book) -> Any:
    return nn.Sequential(*(twin(part, book) for _, part in module.children()))


def _frozen(net: Net, frozen: FreezeSet) -> Step:
    """Make a usual step that leaves some tensors alone, as `requires_grad` has it."""
    still = [net.book.entries[variable][0] for variable in frozen]
    every = [tensor for tensor, _ in net.names.values()]

    def settle() -> None:
        for tensor in every:
            tensor.requires_grad_(True)
        for tensor in still:
            tensor.requires_grad_(False)
            tensor.grad = None  # the optimizer passes by what has none

    step = usual_step(net)

    def run() -> Any:
        settle()
        return step.run()

    def velocities() -> dict[str, Any]:
        names = {variable: name for name, variable in net.problem.net.named_parameters()}
        left = {names[variable] for variable in frozen}
        whole, net.names = net.names, {n: t for n, t in net.names.items() if n not in left}
        try:
            return step.velocities()
        finally:
            net.names = whole

    return Step(run, velocities, step.reset)


def training(
    problem: Problem,
    setting: Setting,
    precision: str,
    sets: Sequence[FreezeSet],
    timed: Callable[[Sequence[Callable[[], Any]]], float],
) -> Contestant:
    """Make the contestant that trains, with a step for each freeze set, timed together.

    What is checked is the loss, and each gradient in the first step of which it is a part.
    """
    net = Net(problem, setting, precision, "train")
    first = {name: tensor.clone() for name, tensor in net.module.state_dict().items()}
    steps = [_frozen(net, frozen) for frozen in sets]

    def check() -> dict[str, Any]:
        found: dict[str, Any] = {}
        for step in reversed(steps):
            net.module.load_state_dict(first)
            found["loss"] = np.asarray(float(step.run()))
            for name, velocity in step.velocities().items():
                buffer = velocity.double().numpy()
                found[name] = np.array(buffer.T if net.names[name][1] else buffer)
            step.reset()
        net.module.load_state_dict(first)
        return found

    def run() -> float:
        net.take_turn()
        return timed([step.run for step in steps])

    with torch.enable_grad():
        return Contestant(f"torch {setting.name}", run, own_clock=True, check=check)
