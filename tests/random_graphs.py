"""Random programs over the registered operations, each with a plain NumPy evaluation beside it.

A `Program` is a list of steps on numbered slots; it can be built with symbolic sizes or with
numbers, again and again, and printed: a failing one reads as the code that makes it. It is drawn
together with its NumPy results, so that a step that is undefined there (an empty maximum, a root of
a negative number), or so near to a jump that rounding decides, is never taken.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any

import numpy as np
from hypothesis import strategies as st

import symgraph as sg
from symgraph.errors import SymgraphError
from symgraph.graph.leaves import Shared
from symgraph.graph.node import Value
from tests.random_steps import STEPS, Refused, Step

Array = Any
LARGEST = 1e3  # floats beyond it would make the tolerance meaningless
NUMBERS = {"A": (0, 1, 2, 3, 5), "B": (1, 2, 3, 4), "C": (1, 2, 7)}
FIXED = (1, 2, 3, 4)
DTYPES = ("float64", "float64", "float64", "int64", "int32", "bool")


@dataclass(frozen=True)
class Leaf:
    """An input, a shared variable or a constant: sizes by name or number, and numbers by seed."""

    kind: str
    dtype: str
    shape: tuple[str | int, ...]
    seed: int

    def array(self, sizes: dict[str, int]) -> Array:
        """Draw the numbers."""
        shape = tuple(sizes[size] if isinstance(size, str) else size for size in self.shape)
        rng = np.random.default_rng(self.seed)
        if self.dtype == "bool":
            return rng.integers(0, 2, shape).astype(bool)
        if self.dtype != "float64":
            return rng.integers(-3, 4, shape).astype(self.dtype)
        return np.asarray(rng.uniform(-2, 2, shape))


@dataclass(frozen=True)
class Call:
    """One step: which, on which slots, with which attributes."""

    step: Step
    slots: tuple[int, ...]
    attributes: tuple[Any, ...]

    def __str__(self) -> str:
        inside = [f"v{slot}" for slot in self.slots] + [repr(each) for each in self.attributes]
        return f"{self.step.name}({', '.join(inside)})"


@dataclass
class Program:
    """Leaves, steps, and which slots are results and new values of shared variables."""

    sizes: dict[str, int]
    leaves: list[Leaf] = field(default_factory=list)
    calls: list[Call] = field(default_factory=list)
    outputs: list[int] = field(default_factory=list)
    updates: dict[int, int] = field(default_factory=dict)
    arrays: list[Array] = field(default_factory=list)

    def declare(self, symbolic: bool = True) -> list[Value]:
        """Make the leaves, with named sizes or with their numbers."""
        made: list[Value] = []
        for number, leaf in enumerate(self.leaves):
            array = self.arrays[number]
            if leaf.kind == "shared":
                made.append(sg.shared(array, f"v{number}"))
            elif leaf.kind == "constant":
                made.append(sg.constant(array))
            else:
                shape = [named(size) if symbolic else self.number(size) for size in leaf.shape]
                made.append(sg.tensor(f"v{number}", shape, leaf.dtype))
        return made

    def number(self, size: str | int) -> int:
        """Give a size as a number."""
        return self.sizes[size] if isinstance(size, str) else size

    def build(self, leaves: Sequence[Value]) -> list[Value]:
        """Build all slots on these leaves."""
        slots = list(leaves)
        for call in self.calls:
            slots.append(call.step.build(*(slots[i] for i in call.slots), *call.attributes))
        return slots

    def inputs(self, slots: Sequence[Any]) -> list[Any]:
        """Pick what belongs to the inputs."""
        return [slots[i] for i, leaf in enumerate(self.leaves) if leaf.kind == "input"]

    def env(self) -> dict[sg.Dim, int]:
        """Give the numbers of the named sizes."""
        return {named(size): number for size, number in self.sizes.items()}

    def new_values(self, slots: Sequence[Value]) -> dict[Shared, Value]:
        """Give the updates of the shared variables."""
        return {slots[target]: slots[new] for target, new in self.updates.items()}  # type: ignore[misc]

    def __repr__(self) -> str:
        sizes = ", ".join(f"{name}={number}" for name, number in self.sizes.items())
        lines = [f"sizes {sizes}"]
        needed = self._needed()
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

    def _needed(self) -> set[int]:
        """Give the slots that the results depend on; a printed program shows no others."""
        needed = {*self.outputs, *self.updates, *self.updates.values()}
        first = len(self.leaves)
        for number in reversed(range(first, first + len(self.calls))):
            if number in needed:
                needed.update(self.calls[number - first].slots)
        return needed

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        printer.text(repr(self))  # Hypothesis shows the program, not the fields of the dataclass


def named(name: str | int) -> Any:
    """Give the named size, or the number itself; `A` may be 0."""
    return sg.dim(name, min=min(NUMBERS[name])) if isinstance(name, str) else name


@st.composite
def programs(draw: Any, steps: int = 14, smooth: bool = False) -> Program:
    """Draw a program; a `smooth` one takes only steps that have derivatives, on floats."""
    program = Program({name: draw(st.sampled_from(values)) for name, values in NUMBERS.items()})
    size = st.sampled_from([*NUMBERS, *FIXED])
    for _ in range(draw(st.integers(1, 4))):
        kind = draw(st.sampled_from(["input", "input", "input", "shared", "constant"]))
        own = size if kind == "input" else st.sampled_from(FIXED)
        shape = tuple(draw(st.lists(own, max_size=3)))
        dtype = "float64" if smooth else draw(st.sampled_from(DTYPES))
        leaf = Leaf(kind, dtype, shape, draw(st.integers(0, 9)))
        program.leaves.append(leaf)
        program.arrays.append(leaf.array(program.sizes))
    values = program.declare()
    known = [step for step in STEPS.values() if step.smooth or not smooth]
    chance = draw(st.randoms(use_true_random=False))  # spreads evenly, and shrinks all the same
    for _ in range(draw(st.integers(1, 3)) * steps):
        _take_step(draw, program, values, chance.choice(known), chance)
    _choose_results(draw, program, values)
    return program


def _take_step(
    draw: Any, program: Program, values: list[Value], step: Step, chance: Random
) -> None:
    """Draw operands and attributes; where they do not suit, nothing happens."""
    slots: list[int] = []
    for kind in step.kinds:
        fitting = [i for i, array in enumerate(program.arrays) if array.dtype.kind in kind]
        if not fitting:
            return
        slots.append(chance.choice(fitting))
    arrays = [program.arrays[i] for i in slots]
    try:
        attributes = tuple(draw(each(*arrays)) for each in step.attributes)
        step.check(*arrays, *attributes)
        with np.errstate(all="ignore"):
            result = np.asarray(step.numpy(*arrays, *attributes))
    except Refused:
        return
    floating = result.dtype.kind == "f"
    if (floating and not np.all(np.abs(result) < LARGEST)) or result.size > 3000:
        return
    if result.dtype.kind == "i" and np.any(np.abs(result) > 2**20):
        return
    operands = [values[i] for i in slots]
    if step.aligned and not _aligned(operands, arrays):
        return
    values.append(step.build(*operands, *attributes))
    program.calls.append(Call(step, tuple(slots), attributes))
    program.arrays.append(result)


def _aligned(values: Sequence[Value], arrays: Sequence[Array]) -> bool:
    """Whether operands broadcast for what is known: a named size is not a 1 that stretches."""
    shapes = [list(zip(v.shape, a.shape))[::-1] for v, a in zip(values, arrays)]
    for axis in range(max(map(len, shapes))):
        here = [shape[axis] for shape in shapes if axis < len(shape)]
        fixed = [pair for pair in here if not (isinstance(pair[0], int) and pair[0] == 1)]
        if len({number for _, number in fixed}) > 1:
            return False
    return True


def _choose_results(draw: Any, program: Program, values: Sequence[Value]) -> None:
    last = len(values) - 1
    chosen = draw(st.lists(st.integers(0, last), max_size=2, unique=True))
    program.outputs = list(dict.fromkeys([last, *chosen]))
    for target, leaf in enumerate(program.leaves):
        if leaf.kind != "shared":
            continue
        own = program.arrays[target]
        new = [
            i
            for i, array in enumerate(program.arrays)
            if array.dtype == own.dtype and array.shape == own.shape and _possible(values[i], own)
        ]
        if draw(st.booleans()):
            program.updates[target] = draw(st.sampled_from(new))


def _possible(value: Value, array: Array) -> bool:
    try:
        sg.specify_shape(value, array.shape)
    except SymgraphError:
        return False
    return True
