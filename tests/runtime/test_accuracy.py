"""Training steps of the compiled engine are as exact as float32 allows, from the oracle's states.

The reference backend trains in float32 and gives its states on the way; from each of them compiled
code computes one step, and the reference in float64 says what is right, with the same elements
dropped. Images are noise: on flat ones maxima would tie, and either choice is right.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

import symgraph as sg
from symgraph.backends.cpu.compiler import unavailable
from symgraph.nn import LRN, Activation, Conv2d, Dense, Dropout, Flatten, MaxPool2d, Sequential
from symgraph.ops.random import default_stream

pytestmark = pytest.mark.skipif(bool(unavailable()), reason=unavailable() or "there is a compiler")

Arrays = dict[str, np.ndarray]
SEED, BATCH, SIDE, CLASSES = 7, 8, 20, 6
STEPS, FREE_STEPS = (0, 5, 20), 10
LIMIT = 1e-5


def network() -> Sequential:
    """AlexNet's kinds of layers: groups, strides, windows that overlap, both ways to drop."""
    return Sequential(
        Conv2d(3, 8, 5, stride=2), Activation("relu"), MaxPool2d(3, 2), LRN(alpha=1e-2),
        Conv2d(8, 12, 3, padding=1, groups=2), Activation("relu"), MaxPool2d(3, 2), Flatten(),
        Dense(12, 32), Activation("relu"), Dropout(0.5, inverted=False),
        Dense(32, 16), Activation("relu"), Dropout(0.25), Dense(16, CLASSES),
    )  # fmt: skip


@dataclass(frozen=True)
class State:
    """Where training stands after some steps."""

    step: int
    weights: Arrays
    velocities: Arrays


@dataclass
class Job:
    """The training of a network in one dtype: the same seed gives the same weights and masks."""

    dtype: str
    net: Sequential = field(init=False)

    def __post_init__(self) -> None:
        with sg.config(float_dtype=self.dtype):
            sg.seed(SEED)
            self.net = network()
            batch = sg.dim("B")
            images = sg.tensor("images", (batch, 3, SIDE, SIDE))
            self.inputs = [images, sg.tensor("labels", (batch,), "int32")]
            logits = self.net(images, train=True)
            self.loss = sg.nn.cross_entropy(logits, self.inputs[1]).mean()
        self.parameters = dict(self.net.named_parameters())
        self.optimizer = sg.optim.SGD(
            self.net.parameters(), 0.02, momentum=0.9, weight_decay=5e-4
        )  # fmt: skip

    def gradients(self, backend: str) -> sg.Function:
        """Compile loss and gradients, by name."""
        found = sg.grad(self.loss, list(self.parameters.values()))
        wanted = {"loss": self.loss, **dict(zip(self.parameters, found))}
        return sg.function(self.inputs, wanted, backend=backend)

    def training(self, backend: str) -> sg.Function:
        """Compile a training step."""
        updates = self.optimizer.updates(self.loss)
        return sg.function(self.inputs, self.loss, updates, backend=backend)

    def call(self, function: sg.Function, step: int) -> Any:
        """Call a function as the step of a number: its batch, its masks."""
        rng = np.random.default_rng([SEED, step])
        labels = rng.integers(0, CLASSES, BATCH).astype(np.int32)
        images = rng.normal(0, 1, (BATCH, 3, SIDE, SIDE)).astype(np.float32)
        images += labels[:, None, None, None] / np.float32(CLASSES)  # something to be learned
        default_stream().set_state({"seed": SEED, "step": step, "offset": 0})
        return function(images.astype(self.dtype), labels)

    def load(self, state: State) -> None:
        """Go to a state."""
        for name, variable in self.parameters.items():
            variable.value = state.weights[name].astype(self.dtype)
            slot = self.optimizer.slots[variable]["velocity"]
            slot.value = state.velocities[name].astype(self.dtype)

    def state(self, step: int) -> State:
        """Copy where training stands."""
        slots = self.optimizer.slots
        weights = {name: np.array(v.value) for name, v in self.parameters.items()}
        velocities = {name: slots[v]["velocity"].value for name, v in self.parameters.items()}
        return State(step, weights, {name: np.array(v) for name, v in velocities.items()})

    def run(self, function: sg.Function, state: State, steps: int) -> list[float]:
        """Train freely from a state; give the losses."""
        self.load(state)
        return [float(self.call(function, state.step + number)) for number in range(steps)]


@dataclass(frozen=True)
class Oracle:
    """The same job in both dtypes, and the states of the reference's training in float32."""

    job: Job
    exact: Job
    states: list[State]


@pytest.fixture(scope="module")
def oracle() -> Oracle:
    job = Job("float32")
    training = job.training("reference")

    def along() -> Iterator[State]:
        now = job.state(0)
        for step in STEPS:
            job.run(training, now, step - now.step)
            now = job.state(step)
            yield now

    return Oracle(job, Job("float64"), list(along()))


def distance(found: Arrays, right: Arrays, names: list[str]) -> float:
    """Give the norm of all differences over the norm of all that is right."""
    square: Callable[[np.ndarray], float] = lambda array: float(np.vdot(array, array))
    off = sum(square(found[name].astype(np.float64) - right[name]) for name in names)
    return float((off / sum(square(right[name]) for name in names)) ** 0.5)


def test_the_training_goes_somewhere(oracle: Oracle) -> None:
    """Gradients at three times the same state would show little."""
    moved = [
        distance(state.weights, oracle.states[0].weights, list(oracle.job.parameters))
        for state in oracle.states
    ]
    assert moved[0] == 0 < 0.01 < moved[1] < moved[2]


def test_loss_and_gradients_of_a_step(oracle: Oracle) -> None:
    job, exact, names = oracle.job, oracle.exact, list(oracle.job.parameters)
    compiled, reference = job.gradients("cpu"), exact.gradients("reference")
    assert compiled.backend == "cpu"
    for state in oracle.states:
        job.load(state)
        exact.load(state)
        found, right = job.call(compiled, state.step), exact.call(reference, state.step)
        assert {str(array.dtype) for array in found.values()} == {"float32"}
        assert {str(array.dtype) for array in right.values()} == {"float64"}
        assert float(found["loss"]) == pytest.approx(float(right["loss"]), rel=LIMIT)
        assert distance(found, right, names) < LIMIT, state.step
        worst = max(names, key=lambda name: distance(found, right, [name]))
        assert distance(found, right, [worst]) < LIMIT, (state.step, worst)


def test_ten_steps_that_run_freely(oracle: Oracle) -> None:
    job, exact = oracle.job, oracle.exact
    compiled, reference = job.training("cpu"), exact.training("reference")
    for state in oracle.states:
        found = job.run(compiled, state, FREE_STEPS)
        right = exact.run(reference, state, FREE_STEPS)
        assert len(set(right)) == FREE_STEPS
        assert found == pytest.approx(right, rel=LIMIT), state.step
