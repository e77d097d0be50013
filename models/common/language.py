"""What every model of texts does: train on windows in a row, measure, write on.

States are carried from window to window, and gradients end at the beginning of each: truncated
backpropagation through time (Williams and Peng, 1990).
"""

from __future__ import annotations

import argparse
import math
import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

import symgraph as sg
from models.common import saved
from models.common.interrupt import Interrupted
from models.common.loop import Run
from models.common.runs import find_checkpoint
from models.common.text import Text, Windows, encoded, open_text
from models.common.workers import backend_of, supervise, team_of, transport_of
from symgraph.errors import CheckpointError
from symgraph.function import Function
from symgraph.graph.leaves import Shared
from symgraph.graph.node import Value
from symgraph.io import Checkpoint
from symgraph.ops.random import stream
from symgraph.parallel import Alone, Step, Team
from symgraph.parallel.step import Result
from symgraph.parallel.team import MOST

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


def team_step(
    team: Team, net: Reader, optimizer: sg.optim.Optimizer, states: Sequence[Shared], **options: Any
) -> Step:
    """Compile the step of a team: inputs and targets (B, T) of a worker's places, whose rows are
    those that workers divide; `options` are those of `sg.parallel.train_step`.
    """
    shape = (sg.dim("B"), sg.dim("T"))
    inputs, targets = sg.tensor("inputs", shape, "int32"), sg.tensor("targets", shape, "int32")
    logits, after = net.read(inputs.T, tuple(states), train=True)
    loss = sg.nn.cross_entropy(logits, targets.T).mean()
    own = dict(zip(states, after, strict=True))
    return sg.parallel.train_step(team, [inputs, targets], loss, optimizer, own=own, **options)


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


def share(team: Team, places: int, rank: int | None = None) -> slice:
    """Give the places that a worker reads: this one, or that of a rank."""
    own = team.rank if rank is None else rank
    return slice(places * own // team.size, places * (own + 1) // team.size)


def part_of(numbers: np.ndarray[Any, Any], places: slice) -> np.ndarray[Any, Any]:
    """Give some places of a window (T, B)."""
    return np.ascontiguousarray(numbers[:, places])


class Examiner:
    """Measures a network on the validation text, with states of its own.

    Workers of a team have a part of the places each; some may have none.
    """

    def __init__(
        self, net: Reader, text: Text, steps: int, backend: str | None, team: Team | None = None
    ) -> None:
        self.team = team or Alone()
        self.windows = Windows(text.validation, PLACES, steps)
        self.part = share(self.team, PLACES)
        count = self.part.stop - self.part.start
        self.states = carried(net, count) if count else []
        self.measure = measurement(net, self.states, backend) if count else None

    def score(self, interrupted: Any = None) -> Score | None:
        """Read the whole text, all workers at the same time; None after an interrupt."""
        forget(self.states)
        loss, hits, count = 0.0, 0, 0
        for window in self.windows:
            if interrupted or self.measure is None:
                break
            inputs, targets = (part_of(one, self.part) for one in (window.inputs, window.targets))
            found = self.measure(inputs, targets)
            loss += found["loss"].item()
            hits += found["top1"].item()
            count += inputs.size
        self.windows.set_state({**self.windows.state(), "epoch": 0, "position": 0})
        all_of_them = self.team.gather(_SUMS.pack(count, loss, hits))
        count, loss, hits = (sum(each) for each in zip(*map(_SUMS.unpack, all_of_them)))
        return None if interrupted or not count else Score(count, loss / count, hits / count)

    def close(self) -> None:
        """Give the memory of the function back."""
        if self.measure is not None:
            self.measure.close()


_SUMS = struct.Struct("<qdq")


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
        self.part = share(self.team, chosen.batch)
        self.states = carried(self.net, self.part.stop - self.part.start)
        # What a checkpoint holds: states of all places.
        self.whole = self.states if self.team.size == 1 else carried(self.net, chosen.batch)

    def compile(self) -> None:
        """Compile the steps of all workers and the measurement."""
        if self.team.size > 1:  # they may have come from a checkpoint
            for own, whole in zip(self.states, self.whole, strict=True):
                own.value = part_of(whole.value, self.part)
        chosen = self.chosen
        self.train = team_step(
            self.team, self.net, self.optimizer, self.states,
            average=chosen.average, every=chosen.average_every, backend=self.backend,
            transport=transport_of(chosen, self.team),
        )  # fmt: skip
        self.examiner = Examiner(self.net, self.text, self.model.steps, self.backend, self.team)

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
        return {f"{saved.CARRIED}{number}": state for number, state in enumerate(self.whole)}

    def collect(self) -> None:
        """Give every worker the states of all places."""
        if self.team.size == 1:
            return
        for own, whole in zip(self.states, self.whole, strict=True):
            found = whole.value
            for rank, numbers in enumerate(_gathered(self.team, own.value, found.nbytes)):
                part = share(self.team, found.shape[1], rank)
                found[:, part] = numbers.reshape(found[:, part].shape)
            whole.value = found

    def take(self, batch: Any, *, settle: bool) -> Result:
        """Take a step on this worker's places of a window."""
        if batch.first:
            forget(self.states)
        places = (
            np.ascontiguousarray(one[:, self.part].T) for one in (batch.inputs, batch.targets)
        )
        done = self.train(*places, row=self.part.start, settle=settle)
        return replace(done, rows=batch.inputs.size)

    def measured(self, interrupted: Interrupted) -> Score | None:
        """Measure the quality on the validation text, each worker at some places of it."""
        found = self.examiner.score(interrupted)
        return None if self._stopping(interrupted) else found

    def close(self) -> None:
        """Give the memory of the functions back."""
        self.train.close()
        self.examiner.close()


def _gathered(team: Team, own: np.ndarray[Any, Any], most: int) -> list[np.ndarray[Any, Any]]:
    """Give the numbers of all ranks, at most so many bytes each, in messages."""
    words, size = own.tobytes(), MOST // (2 * team.size)
    heard = [team.gather(words[at : at + size]) for at in range(0, most, size)]
    return [np.frombuffer(b"".join(parts), own.dtype) for parts in zip(*heard)]


def train(model: LanguageModel, chosen: argparse.Namespace) -> int:
    """Train a model as the command line says, on as many workers; give the exit status."""
    team = team_of(chosen)
    if team is None:
        return supervise(model.name, chosen)
    status = Reading(model, chosen, team).run()
    team.close()  # after an error nobody does, which is how the others learn of it
    return status


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
