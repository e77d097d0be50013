"""What every model of texts does: train on windows in a row, measure, write on.

States are carried from window to window, and gradients end at the beginning of each: truncated
backpropagation through time (Williams and Peng, 1990).
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

import symgraph as sg
from models.common import saved
from models.common.interrupt import Interrupted
from models.common.loop import Run
from models.common.runs import find_checkpoint
from models.common.text import Text, Windows, encoded, open_text
from models.common.workers import backend_of
from symgraph.errors import CheckpointError
from symgraph.function import Function
from symgraph.graph.leaves import Shared
from symgraph.graph.node import Value
from symgraph.io import Checkpoint
from symgraph.ops.random import stream
from symgraph.parallel import Alone
from symgraph.parallel.step import Result

States = tuple[Value, ...]
PLACES = 8  # of the validation text that are read at once: another number is another measure


class Reader(sg.nn.Module):
    """A network that reads characters and says which may come next: base of models of texts."""

    def state_shapes(self, batch: int) -> list[tuple[int, ...]]:
        """Give the shape of each state for so many places."""
        raise NotImplementedError

    def read(self, x: Value, states: States, *, train: bool = False) -> tuple[Value, States]:
        """Numbers (T, B) -> logits (T, B, characters), and the states after them."""
        raise NotImplementedError


@dataclass(frozen=True)
class LanguageModel:
    """A model of texts as the trainer sees it; the fields are those of `Classifier`.

    `build(characters)` makes the network, and `steps` is the length of a window.
    """

    name: str
    steps: int
    build: Callable[[int], Reader]
    optimizer: Callable[[sg.nn.Module, float], sg.optim.Optimizer]
    schedule: Callable[[float], sg.optim.Schedule]
    settings: Mapping[str, int | float | str] = field(default_factory=dict)
    variant: Callable[..., LanguageModel] | None = None

    @property
    def kinds(self) -> dict[str, type]:
        """The type of each setting in a checkpoint, by name."""
        own = {name: type(value) for name, value in self.settings.items()}
        return {**saved.TEXTS.settings, **own}

    def with_settings(self, values: Mapping[str, Any]) -> LanguageModel:
        """Make the variant with these values of its settings; others are not looked at."""
        if self.variant is None:
            return self
        return self.variant(**{name: values[name] for name in self.settings})

    def of(self, checkpoint: Checkpoint) -> LanguageModel:
        """Make the variant that wrote a checkpoint."""
        kinds = self.kinds
        return self.with_settings(
            {name: saved.setting(checkpoint, name, kinds[name]) for name in self.settings}
        )

    def graph(self) -> Function:
        """Compile a training step for 100 characters and 32 places, to be looked at."""
        net = self.build(100)
        return train_step(net, self.optimizer(net, 0.01), carried(net, 32))


@dataclass(frozen=True)
class Score:
    """The measured quality on some characters."""

    characters: int
    loss: float
    top1: float

    @property
    def bits(self) -> float:
        """The bits that a character takes."""
        return self.loss / math.log(2)

    @property
    def perplexity(self) -> float:
        """Among how many characters the choice is, as hard as it is."""
        return math.exp(min(self.loss, 700.0))

    def text(self) -> str:
        """Say it in one line."""
        return (
            f"validation {self.bits:.3f} bits per character  (perplexity {self.perplexity:.3f}, "
            f"accuracy {100 * self.top1:.1f} %, {self.characters} characters)"
        )

    def record(self) -> dict[str, float]:
        """Give what stands in a line of the metrics."""
        return {
            "accuracy": self.top1, "bits_per_character": self.bits, "perplexity": self.perplexity,
            "loss": self.loss,
        }  # fmt: skip


def carried(net: Reader, batch: int) -> list[Shared]:
    """Make variables for states that go on from window to window."""
    shapes = net.state_shapes(batch)
    return [sg.shared(np.zeros(shape, np.float32), f"state{n}") for n, shape in enumerate(shapes)]


def forget(states: Sequence[Shared]) -> None:
    """Start from zero."""
    for state in states:
        state.value = np.zeros(state.storage.array.shape, np.float32)


def _windows() -> tuple[Value, Value]:
    shape = (sg.dim("T"), sg.dim("B"))
    return sg.tensor("inputs", shape, "int32"), sg.tensor("targets", shape, "int32")


def train_step(
    net: Reader,
    optimizer: sg.optim.Optimizer,
    states: Sequence[Shared],
    backend: str | None = None,
) -> Function:
    """Compile a step: inputs, targets -> mean loss, with all updates."""
    inputs, targets = _windows()
    logits, after = net.read(inputs, tuple(states), train=True)
    loss = sg.nn.cross_entropy(logits, targets).mean()
    updates = {**optimizer.updates(loss), **dict(zip(states, after))}
    return sg.function([inputs, targets], loss, updates=updates, name="train step", backend=backend)


def measurement(net: Reader, states: Sequence[Shared], backend: str | None = None) -> Function:
    """Compile a measurement: inputs, targets -> sums of loss and hits."""
    inputs, targets = _windows()
    logits, after = net.read(inputs, tuple(states))
    hits = sg.equal(sg.argmax(logits, axis=-1), targets)
    sums = {
        "loss": sg.nn.cross_entropy(logits, targets).sum(),
        "top1": sg.cast(hits, "int64").sum(),
    }
    updates = dict(zip(states, after))
    return sg.function(
        [inputs, targets], sums, updates=updates, name="measurement", backend=backend
    )


class Examiner:
    """Measures a network on the validation text, with states of its own."""

    def __init__(self, net: Reader, text: Text, steps: int, backend: str | None) -> None:
        self.windows = Windows(text.validation, PLACES, steps)
        self.states = carried(net, PLACES)
        self.measure = measurement(net, self.states, backend)

    def score(self, interrupted: Any = None) -> Score | None:
        """Read the whole text; None after an interrupt."""
        forget(self.states)
        loss, hits, count = 0.0, 0, 0
        for window in self.windows:
            if interrupted:
                break
            found = self.measure(window.inputs, window.targets)
            loss += found["loss"].item()
            hits += found["top1"].item()
            count += window.inputs.size
        self.windows.set_state({**self.windows.state(), "epoch": 0, "position": 0})
        return None if interrupted else Score(count, loss / count, hits / count)


class Reading(Run):
    """One run of a model of texts."""

    TASK = saved.TEXTS
    THINGS = "characters"

    def prepare(self) -> None:
        """Open the text, and make the network, its update rule, the schedule and the windows."""
        model, chosen = self.model, self.chosen
        self.text = open_text(chosen.data)
        self.net: Reader = model.build(len(self.text.characters))
        self.optimizer = model.optimizer(self.net, chosen.learning_rate)
        self.schedule = model.schedule(chosen.learning_rate)
        self.loader = Windows(self.text.train, chosen.batch, model.steps)
        self.states = carried(self.net, chosen.batch)

    def compile(self, backend: str | None) -> None:
        """Compile the step and the measurement."""
        self.train = train_step(self.net, self.optimizer, self.states, backend)
        self.examiner = Examiner(self.net, self.text, self.model.steps, backend)

    def check_data(self, resumed: Checkpoint) -> None:
        """Raise `CheckpointError` unless the text is the same."""
        if resumed.meta["digest"] != self.text.digest:
            raise CheckpointError(
                f"{resumed.path} was trained on another text than {self.chosen.data} is now.",
                fix="each version of Python has a documentation of its own; start a new run",
            )

    def document(self) -> dict[str, Any]:
        """Give the characters, and what tells the text from others."""
        return {"characters": self.text.characters, "digest": self.text.digest}

    def more(self) -> dict[str, Any]:
        """Give the states that go on."""
        return {f"{saved.CARRIED}{number}": state for number, state in enumerate(self.states)}

    def take(self, batch: Any, *, settle: bool) -> Result:
        """Take a step on a window."""
        if batch.first:
            forget(self.states)
        return Result(float(self.train(batch.inputs, batch.targets)), batch.inputs.size, True)

    def measured(self, interrupted: Interrupted) -> Score | None:
        """Measure the quality on the validation text."""
        return self.examiner.score(interrupted)

    def close(self) -> None:
        """Give the memory of the functions back."""
        self.train.close()
        self.examiner.measure.close()


def train(model: LanguageModel, chosen: argparse.Namespace) -> int:
    """Train a model as the command line says, in this process; give the exit status."""
    return Reading(model, chosen, Alone()).run()


def _loaded(
    model: LanguageModel, chosen: argparse.Namespace
) -> tuple[LanguageModel, Checkpoint, Reader]:
    path = find_checkpoint(chosen.checkpoint, model.name)
    checkpoint = saved.load(path, model.name, saved.TEXTS)
    model = model.of(checkpoint)
    net = model.build(len(str(checkpoint.meta["characters"])))
    saved.restore(checkpoint, model.name, net)
    return model, checkpoint, net


def evaluate(model: LanguageModel, chosen: argparse.Namespace) -> int:
    """Measure a checkpoint on the validation text."""
    model, checkpoint, net = _loaded(model, chosen)
    name = chosen.data if "data" in chosen.given else saved.setting(checkpoint, "data")
    text = open_text(name, str(checkpoint.meta["characters"]))
    score = Examiner(net, text, model.steps, backend_of(chosen)).score()
    assert score is not None  # nobody interrupts
    print(score.text())
    return 0


def sampler(
    net: Reader, characters: int, states: Sequence[Shared], seed: int, backend: str | None = None
) -> Function:
    """Compile a step of writing: a character (1, 1), a temperature -> the next one (1, 1).

    The largest of log p / temperature + g, with g from Gumbel's distribution, is a draw from the
    softmax of the first term.
    """
    last = sg.tensor("last", (1, 1), "int32")
    temperature = sg.tensor("temperature", ())
    logits, after = net.read(last, tuple(states))
    chance = stream(seed).uniform((1, 1, characters))
    drawn = sg.argmax(logits / temperature - sg.log(-sg.log(chance)), axis=-1)
    return sg.function(
        [last, temperature], sg.cast(drawn, "int32"), updates=dict(zip(states, after)),
        name="writing", backend=backend,
    )  # fmt: skip


def predict(model: LanguageModel, chosen: argparse.Namespace) -> int:
    """Go on with a text."""
    _, checkpoint, net = _loaded(model, chosen)
    characters = str(checkpoint.meta["characters"])
    numbers = encoded(chosen.prompt or "\n", characters)
    states = carried(net, 1)
    write = sampler(net, len(characters), states, chosen.seed, backend_of(chosen))
    temperature = np.float32(chosen.temperature)
    for number in numbers:
        following = write(np.full((1, 1), number, np.int32), temperature)
    written = []
    for _ in range(chosen.length):
        written.append(characters[int(following[0, 0])])
        following = write(following, temperature)
    print(chosen.prompt + "".join(written))
    return 0
