"""Cases of random programs, and smaller ones that still fail in the same way."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from symgraph.graph.node import Value
from tests.random_checks import Derivative, derivatives
from tests.random_graphs import NUMBERS, Body, Call, Lane, Leaf, Program
from tests.random_maker import wide_program


@dataclass(frozen=True)
class Case:
    """A program, and what of it is differentiated."""

    seed: int
    program: Program
    derivatives: tuple[Derivative, ...]

    @classmethod
    def of(cls, seed: int, program: Program | None = None) -> Case:
        """Give the case of a seed, or of another program."""
        program = wide_program(seed) if program is None else program
        return cls(seed, program, tuple(derivatives(program, seed)))


Fails = Callable[[Case], bool]


def shrunk(case: Case, fails: Fails) -> Case:
    """Take away outputs, updates and steps while the case fails."""
    going = True
    while going:
        going = False
        for smaller in _smaller(case):
            if fails(smaller):
                case, going = smaller, True
                break
    return case


def _smaller(case: Case) -> Iterator[Case]:
    """Give cases with less in them, those with much less first."""
    program = case.program
    slots = [*program.outputs, *(one.output for one in case.derivatives)]
    if len(program.outputs) > 1 or program.updates:
        for slot in program.outputs:
            yield _tidy(case, outputs=[slot], updates={}, derivatives=())
        for derivative in case.derivatives:
            yield _tidy(case, outputs=[derivative.output], updates={}, derivatives=(derivative,))
    for slot in program.outputs:
        rest = [one for one in program.outputs if one != slot]
        if rest and slot not in [one.output for one in case.derivatives]:
            yield _tidy(case, outputs=rest)
    for number in range(len(case.derivatives)):
        kept = case.derivatives[:number] + case.derivatives[number + 1 :]
        yield _tidy(case, derivatives=kept)
    for target in program.updates:
        kept_updates = {key: new for key, new in program.updates.items() if key != target}
        yield _tidy(case, updates=kept_updates)
    if len([lane for lane in program.lanes if not lane.noise]) > 1:
        yield _fewer_lanes(case)
    first = len(program.leaves)
    for number in reversed(range(first, first + len(program.calls))):
        if number not in slots or not case.derivatives:
            yield _cut(case, number)


def _tidy(
    case: Case,
    outputs: list[int] | None = None,
    updates: dict[int, int] | None = None,
    derivatives: tuple[Derivative, ...] | None = None,
) -> Case:
    """Change what is asked for, and leave out what nothing needs."""
    program = replace(
        case.program,
        outputs=case.program.outputs if outputs is None else outputs,
        updates=case.program.updates if updates is None else updates,
    )
    own = case.derivatives if derivatives is None else derivatives
    needed = program.needed() | {one.leaf for one in own}
    first = len(program.leaves)
    kept = [i for i in range(first + len(program.calls)) if i in needed or _keeps(program, i)]
    return _renumbered(Case(case.seed, program, own), kept)


def _keeps(program: Program, slot: int) -> bool:
    """Leaves that a size needs stay, and draws, which are numbered."""
    if slot >= len(program.leaves):
        return False
    leaf = program.leaves[slot]
    return leaf.kind in ("uniform", "normal", "bernoulli") or (
        leaf.kind == "input" and any(isinstance(size, str) for size in leaf.shape)
    )


def _renumbered(case: Case, kept: Sequence[int]) -> Case:
    """Keep some slots, in this order; leaves come first."""
    old, first = case.program, len(case.program.leaves)
    place = {slot: number for number, slot in enumerate(kept)}
    program = replace(
        old,
        leaves=[old.leaves[i] for i in kept if i < first],
        calls=[
            replace(old.calls[i - first], slots=tuple(place[s] for s in old.calls[i - first].slots))
            for i in kept
            if i >= first
        ],
        outputs=[place[i] for i in old.outputs],
        updates={place[a]: place[b] for a, b in old.updates.items()},
        results=[old.results[i] for i in kept],
        dtypes=[old.dtypes[i] for i in kept],
    )
    own = tuple(replace(d, output=place[d.output], leaf=place[d.leaf]) for d in case.derivatives)
    return Case(case.seed, program, own)


def _fewer_lanes(case: Case) -> Case:
    """Keep the first choice of sizes only."""
    old = case.program
    count = next(i for i, lane in enumerate(old.lanes) if i and not lane.noise)
    program = replace(old, lanes=old.lanes[:count], results=[one[:count] for one in old.results])
    return Case(case.seed, program, case.derivatives)


def _cut(case: Case, slot: int) -> Case:
    """Make an input of what a step gives."""
    old = case.program
    first = len(old.leaves)
    value = old.build(old.declare())[slot]
    shape, lanes = _own_sizes(value, old, slot)
    leaf = Leaf("input", old.dtypes[slot], shape, 0, tuple(old.results[slot]))

    def moved(place: int) -> int:
        if place == slot:
            return first
        return place + 1 if first <= place < slot else place

    calls = [
        replace(call, slots=tuple(map(moved, call.slots)))
        for number, call in enumerate(old.calls, start=first)
        if number != slot
    ]
    order = [*range(first), slot, *(i for i in range(first, len(old.results)) if i != slot)]
    program = replace(
        old, lanes=lanes, leaves=[*old.leaves, leaf], calls=calls,
        outputs=list(dict.fromkeys(map(moved, old.outputs))),
        updates={moved(a): moved(b) for a, b in old.updates.items()},
        results=[old.results[i] for i in order], dtypes=[old.dtypes[i] for i in order],
    )  # fmt: skip
    own = tuple(replace(d, output=moved(d.output)) for d in case.derivatives)
    return _tidy(Case(case.seed, program, own))


def _own_sizes(
    value: Value, program: Program, slot: int
) -> tuple[tuple[str | int, ...], list[Lane]]:
    """Give a shape of names and numbers; what is a formula gets a name of its own."""
    shape: list[str | int] = []
    lanes = list(program.lanes)
    for axis, size in enumerate(value.shape):
        if isinstance(size, int) or str(size) in program.sizes:
            shape.append(size if isinstance(size, int) else str(size))
            continue
        name = f"S{slot}_{axis}"
        shape.append(name)
        lanes = [
            replace(lane, sizes={**lane.sizes, name: one.shape[axis]})
            for lane, one in zip(lanes, program.results[slot])
        ]
    return tuple(shape), lanes


def script(case: Case, backend: str) -> str:
    """Give a Python program that shows the failure, to run beside the folder `tests`."""
    program = case.program
    lines = [
        "import numpy as np", "import symgraph as sg",
        "from tests.random_blocks import BLOCKS", "from tests.random_more_steps import MORE",
        "from tests.random_steps import STEPS", "", "step = {**STEPS, **MORE, **BLOCKS}",
        f'backend = "{backend}"',
    ]  # fmt: skip
    if backend == "shim":
        lines += [
            "import pathlib, tempfile", "from tests.random_runs import prepared",
            'backend = prepared("shim", pathlib.Path(tempfile.mkdtemp()))',
        ]  # fmt: skip
    names = sorted(
        {size for leaf in program.leaves for size in leaf.shape if isinstance(size, str)}
    )
    lines += [f'{name} = sg.dim("{name}", min={_least(name)})' for name in names]
    if any(leaf.kind in ("uniform", "normal", "bernoulli") for leaf in program.leaves):
        lines.append("stream = sg.random.stream(7)")
    lines += [_leaf(program, number) for number in range(len(program.leaves))]
    bodies: list[str] = []
    steps = [
        f"v{number} = {_call(call, 'v', bodies)}"
        for number, call in enumerate(program.calls, start=len(program.leaves))
    ]
    lines += [*bodies, *steps]
    own = [f"d{number}" for number in range(len(case.derivatives))]
    lines += [f"{name} = {one.text()}" for name, one in zip(own, case.derivatives)]
    inputs = ", ".join(f"v{i}" for i, leaf in enumerate(program.leaves) if leaf.kind == "input")
    outputs = ", ".join([*(f"v{i}" for i in program.outputs), *own])
    updates = ", ".join(f"v{a}: v{b}" for a, b in program.updates.items())
    lines.append(f"f = sg.function([{inputs}], [{outputs}], {{{updates}}}, backend=backend)")
    for lane in (i for i, one in enumerate(program.lanes) if not one.noise):
        given = ", ".join(_array(array) for array in program.given(lane))
        lines.append(f"print(f({given}))")
        lines += [f"# v{i}: {_array(program.results[i][lane])}" for i in program.outputs]
    return "\n".join(lines)


def _least(name: str) -> int:
    return min(NUMBERS.get(name, (0,)))


def _leaf(program: Program, number: int) -> str:
    leaf = program.leaves[number]
    shape = f"({''.join(f'{size}, ' for size in leaf.shape)})"
    if leaf.kind == "input":
        return f'v{number} = sg.tensor("v{number}", {shape}, "{leaf.dtype}")'
    if leaf.kind == "bernoulli":
        return f"v{number} = stream.bernoulli({shape})"
    if leaf.kind in ("uniform", "normal"):
        return f'v{number} = stream.{leaf.kind}({shape}, dtype="{leaf.dtype}")'
    return f"v{number} = sg.{leaf.kind}({_array(program.fed(number))})"


def _array(array: Any) -> str:
    if not array.size:
        return f'np.zeros({array.shape}, "{array.dtype}")'
    text = np.array2string(
        array, separator=", ", threshold=10**6, floatmode="unique", max_line_width=10**6
    )
    return f'np.array({" ".join(text.split())}, "{array.dtype}")'


def _call(call: Call, name: str, bodies: list[str]) -> str:
    """Give the text of a call; the functions that it needs are added to `bodies`."""
    given = [f"{name}{slot}" for slot in call.slots]
    for one in call.attributes:
        if isinstance(one, Body):
            given.append(_body(one, bodies))
        else:
            given.append(repr(one))
    return f'step["{call.step.name}"].build({", ".join(given)})'


def _body(body: Any, bodies: list[str]) -> str:
    count = len(body.parameters)
    needed = {body.result}
    for number in reversed(range(count, count + len(body.calls))):
        if number in needed:
            needed.update(body.calls[number - count].slots)
    lines = [
        f"    p{number} = {_call(call, 'p', bodies)}"
        for number, call in enumerate(body.calls, start=count)
        if number in needed
    ]
    name = f"body{len(bodies)}"
    head = f"def {name}({', '.join(f'p{i}' for i in range(count))}):"
    bodies.append("\n".join([head, *lines, f"    return p{body.result}", ""]))
    return name
