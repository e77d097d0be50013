"""The oracle of accuracy: the job of models/alexnet.py with its defaults, run by the interpreter.

Training is chaotic, so nobody is compared after running free for long. The reference backend trains
in float32 and gives its states on the way; from a state everybody computes one step, and the
reference in float64 says what is right. A random value of symgraph is a function of seed, number of
its node, step and place: a network built in float64 after the same seed drops the same elements.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

import symgraph as sg
from models.alexnet import MODEL, AlexNet
from models.common.classifier import Classifier, inputs, open_data
from symgraph.data import Augment, Batch, Loader
from symgraph.graph.walk import topological
from symgraph.nn import LRN, Activation, Conv2d, Dense, Dropout, Flatten, MaxPool2d, Sequential
from symgraph.ops.random import RandomBernoulli, default_stream

RATE = 0.01  # as models/alexnet.py, whose batches have 16 images
Array = np.ndarray[Any, Any]
Arrays = dict[str, Array]


class Narrow(AlexNet):
    """AlexNet's kinds of layers, in order, with few channels: for smoke runs."""

    def __init__(self, classes: int = 10) -> None:
        relu = Activation("relu")
        self.features = Sequential(
            Conv2d(3, 16, 11, stride=4), relu, MaxPool2d(3, 2), LRN(),
            Conv2d(16, 24, 5, padding=2, groups=2), relu, MaxPool2d(3, 2), LRN(),
        )  # fmt: skip
        self.classifier = Sequential(
            Flatten(), Dense(96, 32), relu, Dropout(0.5, inverted=False), Dense(32, classes)
        )


NARROW = replace(MODEL, name="narrow", build=Narrow, crop=51, size=58)


@dataclass(frozen=True)
class State:
    """Where training stands after some steps: weights and velocities by name, in float32."""

    step: int
    weights: Arrays
    velocities: Arrays


@dataclass(frozen=True)
class Step:
    """The loss of a step and its gradients by name."""

    loss: float
    gradients: Arrays


@dataclass(frozen=True)
class Errors:
    """Relative errors of a step: loss, norm of all gradients, and the worst norm of one."""

    loss: float
    overall: float
    largest: float
    worst: str


def errors(found: Step, exact: Step) -> Errors:
    """Hold a step against the right one: norms of differences over norms of what is right."""
    parts, off, total = {}, 0.0, 0.0
    for name, right in exact.gradients.items():
        difference = _square(found.gradients[name] - right)
        whole = _square(right)
        parts[name] = (difference / whole) ** 0.5
        off, total = off + difference, total + whole
    worst = max(parts, key=lambda name: parts[name])
    loss = abs(found.loss - exact.loss) / abs(exact.loss)
    return Errors(loss, (off / total) ** 0.5, parts[worst], worst)


def _square(array: Array) -> float:
    flat = array.ravel("K")
    return float(np.vdot(flat, flat))


class Job:
    """The network, the loss of a step and its gradients, built as the job builds them."""

    def __init__(
        self, seed: int, batch: int, dtype: str = "float32", model: Classifier = MODEL
    ) -> None:
        self.seed, self.batch, self.dtype, self.model = seed, batch, dtype, model
        with sg.config(float_dtype=dtype):
            sg.seed(seed)
            data = open_data("digits", model.size)
            self.net = model.build(len(data.train.classes))
            self.optimizer = model.optimizer(self.net, RATE)
            self.images, self.labels = inputs(model.crop)
            logits = self.net(self.images, train=True)
            self.loss = sg.nn.cross_entropy(logits, self.labels).mean()
        self.parameters = dict(self.net.named_parameters())
        self.gradients = sg.grad(self.loss, list(self.parameters.values()))
        nodes = topological([self.loss])
        masks = {
            node.op.node: node for node in nodes if isinstance(node.op, RandomBernoulli)
        }  # numbered in the order of the layers
        self.masks = [masks[number] for number in sorted(masks)]
        self.activations = [node for node in nodes if node.op.name == "relu"]
        augment = Augment(model.crop, seed=seed, mirror=data.mirror)
        self.loader = Loader(data.train, batch, seed=seed, augment=augment, workers=0)

    def function(
        self, extra: Sequence[sg.Value] = (), *, backend: str, precision: str = "fp32"
    ) -> sg.Function:
        """Compile images, labels -> loss, gradients, and what else is asked for."""
        wanted = [self.loss, *self.gradients, *extra]
        return sg.function(
            [self.images, self.labels], wanted, backend=backend, precision=precision, name="step"
        )

    def training(self, backend: str) -> sg.Function:
        """Compile a training step: images, labels -> loss, with all updates."""
        updates = self.optimizer.updates(self.loss)
        return sg.function(
            [self.images, self.labels], self.loss, updates, backend=backend, name="train step"
        )

    def batch_of(self, step: int) -> Batch:
        """Give the batch that the job takes after so many steps."""
        epoch, number = divmod(step, len(self.loader))
        self.loader.set_state(
            self.loader.state() | {"epoch": epoch, "position": number * self.batch}
        )
        return self.loader.next_batch()

    def call(self, function: sg.Function, step: int) -> Any:
        """Call a function on the batch of a step and with its random numbers."""
        batch = self.batch_of(step)
        default_stream().set_state({"seed": self.seed, "step": step, "offset": 0})
        images = batch.images if self.dtype == "float32" else batch.images.astype(self.dtype)
        return function(images, batch.labels)

    def step(self, function: sg.Function, number: int) -> tuple[Step, list[Array]]:
        """Call a function made by `function`; give the step and what else was asked for."""
        loss, *found = self.call(function, number)
        count = len(self.parameters)
        return Step(float(loss), dict(zip(self.parameters, found))), found[count:]

    def load(self, state: State) -> None:
        """Go to a state."""
        for name, variable in self.parameters.items():
            variable.value = state.weights[name].astype(self.dtype)
            slot = self.optimizer.slots[variable]["velocity"]
            slot.value = state.velocities[name].astype(self.dtype)

    def state(self, step: int) -> State:
        """Copy where training stands."""
        slots = self.optimizer.slots
        velocity = {name: slots[v]["velocity"].value for name, v in self.parameters.items()}
        return State(
            step,
            {name: np.array(v.value) for name, v in self.parameters.items()},
            {name: np.array(value) for name, value in velocity.items()},
        )

    def run(self, training: sg.Function, state: State, steps: int) -> list[float]:
        """Train freely from a state; give the losses."""
        self.load(state)
        return [float(self.call(training, state.step + number)) for number in range(steps)]


def states(job: Job, steps: Sequence[int], folder: Path | None) -> Iterator[State]:
    """Train with the reference backend and give its states after these numbers of steps.

    States found in the folder are read, new ones are written there.
    """
    start = job.state(0)
    training = job.training("reference")
    now = start
    for step in sorted(set(steps)):
        path = _path(job, step, folder)
        if path is not None and path.exists():
            now = _read(path, step)
        elif step > now.step:
            job.run(training, now, step - now.step)
            now = job.state(step)
            if path is not None:
                _write(path, now)
        yield now


def _path(job: Job, step: int, folder: Path | None) -> Path | None:
    if folder is None or step == 0:  # the first state is the seed's
        return None
    return folder / f"{job.model.name}-digits-seed{job.seed}-batch{job.batch}-step{step}.npz"


def _write(path: Path, state: State) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    arrays: dict[str, Any] = {f"weight {name}": array for name, array in state.weights.items()}
    arrays |= {f"velocity {name}": array for name, array in state.velocities.items()}
    partial = path.with_suffix(".partial")
    with partial.open("wb") as file:
        np.savez(file, **arrays)
    os.replace(partial, path)


def _read(path: Path, step: int) -> State:
    with np.load(path, allow_pickle=False) as file:
        arrays = {name: file[name] for name in file.files}
    parts = [
        {name.removeprefix(kind): array for name, array in arrays.items() if name.startswith(kind)}
        for kind in ("weight ", "velocity ")
    ]
    return State(step, *parts)
