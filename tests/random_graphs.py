"""Random programs over the registered operations, each with a plain NumPy evaluation beside it.

A `Program` is a list of steps on numbered slots; it can be built with symbolic sizes or with
numbers, again and again, and printed: a failing one reads as the code that makes it. It is drawn
together with its NumPy results, in one or several lanes (other sizes, or other roundings), so that
a step that is undefined in one of them (an empty maximum, a root of a negative number), or so near
to a jump that rounding decides, is never taken.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import ml_dtypes
import numpy as np

import symgraph as sg
from symgraph.graph.leaves import Shared
from symgraph.graph.node import Value
from tests.ops import oracle_random
from tests.random_steps import Refused, Step
from tests.tolerances import EPSILON, HALVES, SMALLEST

Array = Any
LARGEST = 1e3  # floats beyond it would make the tolerance meaningless
MOST_ELEMENTS = 3000
SAFETY = 64, 8  # how many times as far off as a perturbed lane a result may be; of halves
ROUNDINGS = 16, 3  # epsilons of itself that a result may be off besides; of halves
NUMBERS = {"A": (0, 1, 2, 3, 5, 17), "B": (1, 2, 3, 4, 33), "C": (1, 2, 7, 16), "D": (1, 63, 130)}
FIXED = (1, 2, 3, 4)
DRAWS = ("uniform", "normal", "bernoulli")
STREAM_SEED = 7


@dataclass(frozen=True)
class Lane:
    """One evaluation in float64: the numbers of the sizes, and a seed of perturbations, or 0."""

    sizes: Mapping[str, int]
    noise: int = 0

    def number(self, size: str | int) -> int:
        """Give a size as a number."""
        return self.sizes[size] if isinstance(size, str) else size

    def blurred(self, array: Array, dtype: str, *place: int) -> Array:
        """Perturb floats by at most one epsilon of their dtype; the same place, the same way."""
        if not self.noise or dtype not in EPSILON:
            return array
        chance = np.random.default_rng([self.noise, *place]).uniform(-1, 1, array.shape)
        return array * (1 + EPSILON[dtype] * chance)


@dataclass(frozen=True)
class Leaf:
    """An input, a shared variable, a constant or a draw: sizes by name or number, and a seed.

    The seed of a draw is its number among the draws of the program.
    """

    kind: str
    dtype: str
    shape: tuple[str | int, ...]
    seed: int
    given: tuple[Array, ...] = ()  # numbers for each lane, where they are not drawn

    def array(self, sizes: Mapping[str, int]) -> Array:
        """Draw the numbers; floats are float64 that the own dtype holds exactly."""
        shape = tuple(sizes[size] if isinstance(size, str) else size for size in self.shape)
        if self.kind in DRAWS:
            return self._drawn(shape)
        rng = np.random.default_rng(self.seed)
        if self.dtype == "bool":
            return rng.integers(0, 2, shape).astype(bool)
        if self.dtype not in EPSILON:
            return (rng.integers(-3, 4, shape) + 3 * (self.dtype == "uint8")).astype(self.dtype)
        return np.asarray(rng.uniform(-2, 2, shape)).astype(self.dtype).astype(np.float64)

    def _drawn(self, shape: tuple[int, ...]) -> Array:
        own = SimpleNamespace(
            name=f"random_{self.kind}", dtype=self.dtype, shape=shape, node=self.seed,
            by_row=False, threshold=2**31,
        )  # fmt: skip
        return getattr(oracle_random, own.name)(own, (STREAM_SEED, 0, 0))


@dataclass(frozen=True)
class Body:
    """What a loop or a branch does: calls on slots, of which the first are its parameters."""

    parameters: tuple[str, ...]  # dtypes
    calls: tuple[Call, ...]
    result: int

    def build(self, *values: Any) -> Value:
        """Build the result on values."""
        slots = [*values]
        for call in self.calls:
            slots.append(call.build(slots))
        return slots[self.result]

    def at(self, lane: Lane, checked: bool, *place: int) -> Callable[..., Array]:
        """Give the NumPy evaluation in a lane."""

        def run(*arrays: Array) -> Array:
            slots = list(arrays)
            for number, call in enumerate(self.calls):
                slots.append(call.evaluate(lane, slots, checked, *place, number))
            return slots[self.result]

        return run


@dataclass(frozen=True)
class Call:
    """One step: which, on which slots, with which attributes."""

    step: Step
    slots: tuple[int, ...]
    attributes: tuple[Any, ...]
    dtype: str
    dtypes: tuple[str, ...]  # of the operands

    def build(self, slots: Sequence[Value]) -> Value:
        """Build the step on the values of all slots."""
        made = [one.build if isinstance(one, Body) else one for one in self.attributes]
        return self.step.build(*(slots[i] for i in self.slots), *made)

    def evaluate(self, lane: Lane, slots: Sequence[Array], checked: bool, *place: int) -> Array:
        """Compute the step by NumPy; `Refused` where it is not defined or not bounded."""
        operands = [
            lane.blurred(slots[i], dtype, *place, k)
            for k, (i, dtype) in enumerate(zip(self.slots, self.dtypes))
        ]
        rest = [
            one.at(lane, checked, *place, 77) if isinstance(one, Body) else one
            for one in self.attributes
        ]
        if checked:
            self.step.check(*operands, *rest)
        with np.errstate(all="ignore"):
            result = np.asarray(self.step.numpy(*operands, *rest))
        if checked:
            _bounded(result)
        return lane.blurred(result, self.dtype, *place, 99)

    def __repr__(self) -> str:
        inside = [f"v{slot}" for slot in self.slots] + [repr(each) for each in self.attributes]
        return f"{self.step.name}({', '.join(inside)})"


def _bounded(result: Array) -> None:
    if result.size > MOST_ELEMENTS:
        raise Refused("large")
    if result.dtype.kind == "f" and not np.all(np.abs(result) < LARGEST):
        raise Refused("far")
    if result.dtype.kind == "i" and np.any(np.abs(result.astype(np.int64)) > 2**20):
        raise Refused("far")


@dataclass
class Program:
    """Leaves, steps, and which slots are results and new values of shared variables."""

    lanes: list[Lane]
    leaves: list[Leaf] = field(default_factory=list)
    calls: list[Call] = field(default_factory=list)
    outputs: list[int] = field(default_factory=list)
    updates: dict[int, int] = field(default_factory=dict)
    results: list[list[Array]] = field(default_factory=list)  # of each slot, in each lane
    dtypes: list[str] = field(default_factory=list)  # of each slot
    refused: Counter[str] = field(default_factory=Counter)

    @property
    def sizes(self) -> Mapping[str, int]:
        """The numbers of the named sizes in the first lane."""
        return self.lanes[0].sizes

    @property
    def arrays(self) -> list[Array]:
        """All slots in the first lane."""
        return [lanes[0] for lanes in self.results]

    def fed(self, slot: int, lane: int = 0) -> Array:
        """Give an array of a leaf in its own dtype."""
        return self.results[slot][lane].astype(numpy_dtype(self.dtypes[slot]))

    def declare(self, symbolic: bool = True) -> list[Value]:
        """Make the leaves, with named sizes or with their numbers."""
        made: list[Value] = []
        stream = sg.random.stream(STREAM_SEED)
        for number, leaf in enumerate(self.leaves):
            shape = [named(s) if symbolic else self.lanes[0].number(s) for s in leaf.shape]
            if leaf.kind == "shared":
                made.append(sg.shared(self.fed(number), f"v{number}"))
            elif leaf.kind == "constant":
                made.append(sg.constant(self.fed(number)))
            elif leaf.kind == "bernoulli":
                made.append(stream.bernoulli(shape))
            elif leaf.kind in DRAWS:
                made.append(getattr(stream, leaf.kind)(shape, dtype=leaf.dtype))
            else:
                made.append(sg.tensor(f"v{number}", shape, leaf.dtype))
        return made

    def build(self, leaves: Sequence[Value]) -> list[Value]:
        """Build all slots on these leaves."""
        slots = list(leaves)
        for call in self.calls:
            slots.append(call.build(slots))
        return slots

    def evaluate(self, lane: Lane, leaves: Sequence[Array], checked: bool = True) -> list[Array]:
        """Compute all slots by NumPy."""
        slots = list(leaves)
        for number, call in enumerate(self.calls, start=len(leaves)):
            slots.append(call.evaluate(lane, slots, checked, number))
        return slots

    def inputs(self, slots: Sequence[Any]) -> list[Any]:
        """Pick what belongs to the inputs."""
        return [slots[i] for i, leaf in enumerate(self.leaves) if leaf.kind == "input"]

    def given(self, lane: int = 0) -> list[Array]:
        """Give the arrays of the inputs."""
        return self.inputs([self.fed(i, lane) for i in range(len(self.leaves))])

    def env(self) -> dict[sg.Dim, int]:
        """Give the numbers of the named sizes."""
        return {named(size): number for size, number in self.sizes.items()}

    def new_values(self, slots: Sequence[Value]) -> dict[Shared, Value]:
        """Give the updates of the shared variables."""
        return {slots[target]: slots[new] for target, new in self.updates.items()}  # type: ignore[misc]

    def needed(self) -> set[int]:
        """Give the slots that the results depend on; a printed program shows no others."""
        needed = {*self.outputs, *self.updates, *self.updates.values()}
        first = len(self.leaves)
        for number in reversed(range(first, first + len(self.calls))):
            if number in needed:
                needed.update(self.calls[number - first].slots)
        return needed

    def __repr__(self) -> str:
        sizes = ", ".join(f"{name}={number}" for name, number in self.sizes.items())
        lines = [f"sizes {sizes}"]
        needed = self.needed()
        for number, leaf in enumerate(self.leaves):
            if number not in needed:
                continue
            shape = ", ".join(map(str, leaf.shape))
            lines.append(f"v{number} = {leaf.kind} {leaf.dtype}[{shape}]  # seed {leaf.seed}")
        for number, call in enumerate(self.calls, start=len(self.leaves)):
            if number in needed:
                lines.append(f"v{number} = {call}")
        lines.extend(f"update v{target} <- v{new}" for target, new in self.updates.items())
        lines.append(f"return {', '.join(f'v{i}' for i in self.outputs)}")
        return "\n" + "\n".join(lines)

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        printer.text(repr(self))  # Hypothesis shows the program, not the fields of the dataclass


def named(name: str | int) -> Any:
    """Give the named size, or the number itself; `A` may be 0."""
    return sg.dim(name, min=min(NUMBERS.get(name, (0,)))) if isinstance(name, str) else name


def numpy_dtype(dtype: str) -> Any:
    """Give the dtype of arrays."""
    return np.dtype(ml_dtypes.bfloat16) if dtype == "bfloat16" else np.dtype(dtype)


def allowed(exact: Array, others: Sequence[Array], dtype: str) -> Array:
    """Give how far each element may be off, from what perturbed lanes make of it."""
    if dtype not in EPSILON or not exact.size:
        return np.zeros(exact.shape)
    half = dtype in HALVES
    own = ROUNDINGS[half] * EPSILON[dtype] * np.abs(exact) + 2 * SMALLEST[dtype]
    if not others:
        return np.asarray(own)
    off = np.max([np.abs(one - exact) for one in others], axis=0)
    return np.asarray(own + SAFETY[half] * np.maximum(off, np.max(off) / 8))
