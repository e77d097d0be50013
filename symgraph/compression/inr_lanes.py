"""Many small networks fitted side by side: one lane for each image of a batch of one size.

Nothing in a lane depends on another one: each has its own count of steps, and with it its own rate,
and keeps the best numbers that it ever had. A lane whose image is done takes the next image.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from symgraph.autodiff.reverse import grad
from symgraph.data.inrset import MOST
from symgraph.data.siren import COLOURS, Floats, Siren, bytes_of, grid
from symgraph.frozen import frozen
from symgraph.function import function
from symgraph.graph.leaves import Shared, cast_to, constant, shared
from symgraph.graph.node import Value
from symgraph.graph.registry import F
from symgraph.optim import Adam

Array = npt.NDArray[Any]
FREE = -1  # the image of a lane that has none


@frozen(eq=False)
class Numbers:
    """The numbers of one network, layer by layer, and its mean squared error in bytes."""

    weights: Sequence[Floats]
    biases: Sequence[Floats]
    error: float = math.inf


@frozen
class Task:
    """What lanes are fitted to, layer by layer: the dtype in which it will be kept, and how many
    numbers of its matrix (None: all). With `dynamic` these are chosen again every few steps.
    """

    dtypes: tuple[str, ...]
    kept: tuple[int | None, ...]
    dynamic: bool = False


def largest_of(weights: Array, count: int) -> npt.NDArray[np.bool_]:
    """Give where the so many largest magnitudes of each matrix (N, o, i) are."""
    flat = np.abs(weights).reshape(len(weights), -1)
    order = np.argsort(-flat, axis=1, kind="stable")[:, :count]
    mask = np.zeros(flat.shape, np.bool_)
    np.put_along_axis(mask, order, True, axis=1)
    return mask.reshape(weights.shape)


class LaneAdam(Adam):
    """Adam with a count of steps and a rate, along half a cosine, for each lane."""

    def __init__(self, parameters: Sequence[Shared], lanes: int, rate: float, steps: int) -> None:
        super().__init__(parameters, rate)
        self.count = shared(np.zeros((lanes, 1, 1), np.int64), "adam.count")
        part = F.minimum(cast_to(self.count, "float64") / float(steps), 1.0)
        self._rate = cast_to(rate * (1 + F.cos(math.pi * part)) / 2, "float32")

    def step(
        self, parameter: Shared, gradient: Value, rate: Value, decay: float
    ) -> dict[Shared, Value]:
        """Give the updates of one parameter of all lanes."""
        return super().step(parameter, gradient, self._rate, decay)


def kept_weight(weight: Value, mask: Value | None, dtype: str) -> Value:
    """Build weights as they will be kept: pruned, and rounded to a dtype."""
    if mask is not None:
        weight = weight * mask
    if dtype == "int8":
        largest = F.max(F.abs(weight), axis=(1, 2), keepdims=True)
        scale = largest / float(MOST)
        scale = F.where(scale > 0, scale, 1.0)
        return F.round(weight / scale) * scale
    return weight if dtype == "float32" else cast_to(cast_to(weight, "float16"), "float32")


def kept_bias(bias: Value, dtype: str) -> Value:
    """Build biases as they will be kept."""
    return bias if dtype == "float32" else cast_to(cast_to(bias, "float16"), "float32")


class Lanes:
    """As many networks as lanes, and the step that fits all of them."""

    def __init__(
        self,
        siren: Siren,
        size: tuple[int, int],
        count: int,
        rate: float,
        steps: int,
        task: Task,
        backend: str | None = None,
    ) -> None:
        self.made_with = (siren, size, rate, steps, task, backend)
        self.size, self.count, self.steps, self.task = size, count, steps, task
        self.images = np.full(count, FREE, np.int64)
        self.taken = np.zeros(count, np.int64)
        self.variables = _variables(siren, size, count, task)
        self._layers = len(siren.sizes)
        self._step = self._compiled(siren, rate, task, backend)

    def _compiled(self, siren: Siren, rate: float, task: Task, backend: str | None) -> Any:
        have = self.variables
        parts = [f"{kind}.{k}" for kind in ("weight", "bias") for k in range(self._layers)]
        own = [have[part] for part in parts]
        rule = LaneAdam(own, self.count, rate, self.steps)
        have |= {f"adam.{name}": v for name, v in rule.state(dict(zip(parts, own))).items()}
        del have["adam.lr"]
        kept: list[Value] = [
            kept_weight(have[f"weight.{k}"], have.get(f"mask.{k}"), dtype)
            for k, dtype in enumerate(task.dtypes)
        ]
        kept += [kept_bias(have[f"bias.{k}"], dtype) for k, dtype in enumerate(task.dtypes)]
        layers = self._layers
        colours = siren.graph(kept[:layers], kept[layers:], constant(grid(*self.size)))
        wanted = cast_to(have["target"], "float32")
        losses = F.mean(F.square(colours - wanted / 255.0), axis=(1, 2))
        errors = F.mean(F.square(bytes_of(colours) - wanted), axis=(1, 2))
        loss = F.sum(losses)
        # With respect to what is kept: rounding and pruning are looked through, as if they were
        # not there, so that numbers go on moving behind them.
        updates = rule.updates(loss, grad(loss, kept))
        better = errors < have["error"]
        updates[have["error"]] = F.where(better, errors, have["error"])
        chosen = F.reshape(better, (self.count, 1, 1))
        for part, one in zip(parts, kept):
            updates[have[f"best.{part}"]] = F.where(chosen, one, have[f"best.{part}"])
        return function(
            [], updates[have["error"]], updates=updates, name="inr.fit", backend=backend
        )

    @property
    def busy(self) -> npt.NDArray[np.bool_]:
        """Which lanes have an image."""
        found: npt.NDArray[np.bool_] = self.images != FREE
        return found

    def left(self) -> int:
        """How many steps the image that is nearest to its end still takes."""
        return int((self.steps - self.taken[self.busy]).min())

    def advance(self, steps: int) -> Floats:
        """Take steps, at least one; give the best error of each lane so far."""
        for _ in range(steps):
            errors = self._step()
        self.taken += steps
        return np.asarray(errors, np.float32)

    def put(self, images: Mapping[int, tuple[int, Array, Numbers]]) -> None:
        """Give lanes new images: number, pixels (3, H, W), numbers to begin with."""
        if not images:
            return
        arrays = {name: variable.value for name, variable in self.variables.items()}
        for lane, (number, pixels, numbers) in images.items():
            self.images[lane], self.taken[lane] = number, 0
            for name, array in arrays.items():
                array[lane] = np.inf if name == "error" else 0
            arrays["target"][lane] = pixels.reshape(COLOURS, -1)
            for k in range(self._layers):
                arrays[f"weight.{k}"][lane] = numbers.weights[k]
                arrays[f"bias.{k}"][lane, :, 0] = numbers.biases[k]
        rows = list(images)
        for k, count in enumerate(self.task.kept):
            if count is not None:
                arrays[f"mask.{k}"][rows] = largest_of(arrays[f"weight.{k}"][rows], count)
        self.load(arrays)

    def choose(self) -> None:
        """Keep what is largest now: numbers that grew behind their mask come back."""
        for k, count in enumerate(self.task.kept):
            if count is not None:
                mask = largest_of(self.variables[f"weight.{k}"].value, count)
                self.variables[f"mask.{k}"].value = mask.astype(np.float32)

    def load(self, arrays: Mapping[str, Array]) -> None:
        """Set the numbers of all lanes, by name."""
        for name, variable in self.variables.items():
            variable.value = arrays[name]

    def state(self) -> dict[str, Array]:
        """Give the numbers of all lanes by name, but for the images' own."""
        return {
            name: variable.value for name, variable in self.variables.items() if name != "target"
        }

    def best(self, lanes: Sequence[int]) -> list[Numbers]:
        """Give the best numbers that lanes ever had, as they are kept."""
        layers = range(self._layers)
        weights = [self.variables[f"best.weight.{k}"].value for k in layers]
        biases = [self.variables[f"best.bias.{k}"].value[:, :, 0] for k in layers]
        errors = self.variables["error"].value
        return [
            Numbers([w[lane] for w in weights], [b[lane] for b in biases], float(errors[lane]))
            for lane in lanes
        ]

    def release(self, lanes: Sequence[int]) -> None:
        """Have lanes without an image."""
        self.images[list(lanes)] = FREE

    def narrowed(self) -> Lanes:
        """Make as many lanes as there are images left, with their numbers."""
        rows = np.flatnonzero(self.busy)
        siren, size, rate, steps, task, backend = self.made_with
        fewer = Lanes(siren, size, len(rows), rate, steps, task, backend)
        fewer.load({name: variable.value[rows] for name, variable in self.variables.items()})
        fewer.images, fewer.taken = self.images[rows], self.taken[rows]
        return fewer


def _variables(siren: Siren, size: tuple[int, int], count: int, task: Task) -> dict[str, Shared]:
    """Make what is kept of all lanes; a lane is a row of each."""
    made: dict[str, Array] = {
        "target": np.zeros((count, COLOURS, size[0] * size[1]), np.uint8),
        "error": np.full(count, np.inf, np.float32),
    }
    for k, (outputs, inputs) in enumerate(siren.sizes):
        for beginning in ("", "best."):
            made[f"{beginning}weight.{k}"] = np.zeros((count, outputs, inputs), np.float32)
            made[f"{beginning}bias.{k}"] = np.zeros((count, outputs, 1), np.float32)
        if task.kept[k] is not None:
            made[f"mask.{k}"] = np.ones((count, outputs, inputs), np.float32)
    return {name: shared(array, f"inr.{name}") for name, array in made.items()}
