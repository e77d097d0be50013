"""symgraph's side of a race: a problem, and the contestants that train and run its network.

The one place where precision and backend are chosen: a symgraph whose `function` does not take
such a keyword raises `Unsupported`, and the row is left out with these words.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from harness import Contestant

import symgraph as sg
from symgraph.nn import Dropout, Module

PRECISIONS = ("fp32", "bf16")
Array = np.ndarray[Any, Any]


class Unsupported(Exception):  # noqa: N818 - no error: this symgraph is older than the benchmark
    """What a row needs and this symgraph cannot do."""


def compiled(
    inputs: Any,
    outputs: Any,
    updates: Any = None,
    *,
    precision: str = "fp32",
    backend: str | None = None,
    name: str = "benchmark",
    nan_guard: bool = False,
) -> sg.Function:
    """Compile for a precision and a backend; raises `Unsupported`."""
    known = inspect.signature(sg.function).parameters
    options: dict[str, Any] = {}
    if precision != "fp32" or "precision" in known:
        options["precision"] = precision
    if backend is not None:
        options["backend"] = backend
    for option, value in options.items():
        if option not in known:
            raise Unsupported(
                f"sg.function of symgraph {sg.__version__} takes no {option}={value!r}"
            )
    return sg.function(inputs, outputs, updates, name=name, nan_guard=nan_guard, **options)


def called(function: sg.Function) -> str:
    """Name symgraph's contestant by the backend that it runs on."""
    return f"symgraph {getattr(function, 'backend', 'reference')}"


def has_setting(name: str) -> bool:
    """Tell whether symgraph has a setting, and so an environment variable of that name."""
    return name in dir(sg.config)


@dataclass(frozen=True)
class Problem:
    """A network, its update rule, and the batch that everybody works on.

    `axis` holds the classes in the logits. Weights are those of `state`, the network's own when the
    problem was made: every contestant starts from them. `device` is where the peers work.
    """

    net: Module
    optimizer: sg.optim.SGD
    images: Array
    labels: Array
    axis: int = -1
    device: str = "cpu"
    state: dict[str, Array] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, variable in self.net.named_state().items():
            self.state[name] = np.array(variable.value)

    @property
    def rates(self) -> dict[str, tuple[float, float]]:
        """Learning rate and weight decay of each parameter, by name."""
        lr = float(self.optimizer.lr.value)
        names = {variable: name for name, variable in self.net.named_parameters()}
        return {
            names[parameter]: (
                lr * group.rate,
                self.optimizer.weight_decay if group.decay is None else group.decay,
            )
            for group in self.optimizer.groups
            for parameter in group.parameters
        }

    def inputs(self) -> tuple[sg.Value, sg.Value]:
        """Make the symbolic batch, of any number of images."""
        batch = sg.dim("B")
        images = sg.tensor("images", (batch, *self.images.shape[1:]), str(self.images.dtype))
        return images, sg.tensor("labels", (batch, *self.labels.shape[1:]), "int32")

    def reset(self) -> None:
        """Give the network its first weights back, and no velocity."""
        for name, variable in self.net.named_state().items():
            variable.value = self.state[name]
        for slots in self.optimizer.slots.values():
            for slot in slots.values():
                slot.value = np.zeros_like(slot.value)

    def directions(self, loss: float) -> dict[str, Array]:
        """Give loss and gradients (with decay) of a first step, from the velocities it left."""
        found = {"loss": np.asarray(loss)}
        rates = self.rates
        for name, parameter in self.net.named_parameters():
            velocity = self.optimizer.slots[parameter]["velocity"].value
            found[name] = np.asarray(velocity, np.float64) / -rates[name][0]
        return found


def draw(shape: tuple[int, ...], classes: int, places: tuple[int, ...] = ()) -> tuple[Array, Array]:
    """Draw a batch: images of the given shape, and a label for each, or for each of its places."""
    rng = np.random.default_rng(12)
    images = rng.standard_normal(shape, dtype=np.float32)
    return images, rng.integers(0, classes, (shape[0], *places)).astype(np.int32)


def invert_dropout(net: Module) -> None:
    """Have dropout scale while training, as every peer's does, and do nothing otherwise."""
    for _, module in net.named_modules():
        if isinstance(module, Dropout):
            module.inverted = True


@contextmanager
def without_dropout(net: Module) -> Iterator[bool]:
    """Build without dropout; the block is told whether there is any."""
    layers = [module for _, module in net.named_modules() if isinstance(module, Dropout)]
    rates = [layer.rate for layer in layers]
    for layer in layers:
        layer.rate = 0.0
    try:
        yield bool(layers)
    finally:
        for layer, rate in zip(layers, rates, strict=True):
            layer.rate = rate


def train_function(
    problem: Problem, precision: str, backend: str | None = None, nan_guard: bool = False
) -> sg.Function:
    """Compile a training step: images, labels -> mean loss."""
    images, labels = problem.inputs()
    logits = problem.net(images, train=True)
    loss = sg.cross_entropy(logits, labels, axis=problem.axis).mean()
    updates = problem.optimizer.updates(loss)
    return compiled(
        [images, labels], loss, updates, precision=precision, backend=backend, name="train step",
        nan_guard=nan_guard,
    )  # fmt: skip


def inference_function(problem: Problem, precision: str, backend: str | None = None) -> sg.Function:
    """Compile images -> logits."""
    images, _ = problem.inputs()
    net = problem.net(images)
    return compiled([images], net, precision=precision, backend=backend, name="inference")


def resident_training(
    problem: Problem, precision: str, backend: str | None, wait: Callable[[], Any]
) -> Contestant:
    """Make the contestant that trains with everything in shared variables.

    A call has no arguments and gives nothing, so that on a device nothing is copied: the batch lies
    there, and so does the loss. What is checked is what `training` checks.
    """
    images, labels = sg.shared(problem.images, "images"), sg.shared(problem.labels, "labels")
    kept = sg.shared(np.float32(0), "loss")

    def made() -> sg.Function:
        logits = problem.net(images, train=True)
        loss = sg.cross_entropy(logits, labels, axis=problem.axis).mean()
        updates = {**problem.optimizer.updates(loss), kept: loss}
        return compiled([], [], updates, precision=precision, backend=backend, name="train step")

    step = made()

    def check() -> dict[str, Array]:
        with without_dropout(problem.net) as any_dropout:
            again = made() if any_dropout else step
        problem.reset()
        again()
        found = problem.directions(float(kept.value))
        again.close()
        problem.reset()
        return found

    problem.reset()
    return Contestant(called(step), step, check=check, wait=wait)


def resident_inference(
    problem: Problem, precision: str, backend: str | None, wait: Callable[[], Any]
) -> Contestant:
    """Make the contestant that computes logits of a shared batch into a shared variable."""
    problem.reset()
    logits = problem.net(sg.shared(problem.images, "images"))
    shape = tuple(int(size) for size in logits.shape)
    return resident(logits, shape, precision=precision, backend=backend, wait=wait)


def resident(
    value: sg.Value,
    shape: tuple[int, ...],
    *,
    backend: str | None,
    wait: Callable[[], Any],
    precision: str = "fp32",
) -> Contestant:
    """Make the contestant that computes a value of shared variables into another one."""
    kept = sg.shared(np.zeros(shape, np.float32), "result")
    step = compiled([], [], {kept: value}, precision=precision, backend=backend, name="step")

    def check() -> Array:
        step()
        return kept.value

    return Contestant(called(step), step, check=check, wait=wait)


def training(
    problem: Problem, precision: str, backend: str | None = None, nan_guard: bool = False
) -> Contestant:
    """Make the contestant that trains.

    What is checked is the loss and each gradient of a first step on the batch, without dropout:
    masks differ between libraries.
    """
    step = train_function(problem, precision, backend, nan_guard)

    def check() -> dict[str, Array]:
        with without_dropout(problem.net) as any_dropout:
            again = train_function(problem, precision, backend, nan_guard) if any_dropout else step
        problem.reset()
        found = problem.directions(float(again(problem.images, problem.labels)))
        problem.reset()
        return found

    problem.reset()
    run: Callable[[], float] = lambda: float(step(problem.images, problem.labels))
    return Contestant(called(step), run, check=check)


def inference(problem: Problem, precision: str, backend: str | None = None) -> Contestant:
    """Make the contestant that computes logits."""
    problem.reset()
    function = inference_function(problem, precision, backend)
    return Contestant(called(function), lambda: function(problem.images))
