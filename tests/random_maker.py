"""Draws random programs: leaves, steps on them that suit, and what of it becomes a result."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

import numpy as np
from hypothesis import strategies as st

import symgraph as sg
from symgraph.errors import SymgraphError
from symgraph.graph.body import like
from symgraph.graph.node import Value
from tests.random_blocks import BLOCKS
from tests.random_graphs import (
    DRAWS,
    FIXED,
    NUMBERS,
    Body,
    Call,
    Lane,
    Leaf,
    Program,
    allowed,
)
from tests.random_more_steps import MORE
from tests.random_steps import STEPS, Refused, Step, margin
from tests.tolerances import EPSILON, HALVES

Array = Any
WORST = 1e-3, 0.2  # a value that may be further off is not computed with; of halves
DTYPES = ("float64", "float64", "float64", "int64", "int32", "bool")
ALL_DTYPES = (
    "float32", "float32", "float32", "float32", "float64", "float64", "int64", "int32", "int8",
    "uint8", "bool", "float16", "bfloat16",
)  # fmt: skip
RANKS = (0, 1, 1, 2, 2, 2, 3)
PRODUCTS = ("matmul", "batched_matmul", "linear_relu", "matmul_turned", "einsum")
LANES = 3  # evaluations for each choice of sizes, all but the first perturbed


@dataclass(frozen=True)
class Slot:
    """What is known of a slot while a program is drawn."""

    value: Value
    dtype: str
    lanes: tuple[Array, ...]
    error: float  # how far off it may be, in the worst lane


class Maker:
    """Slots and calls so far, of a program or of a body in it."""

    def __init__(self, chance: Random, lanes: Sequence[Lane], deep: int = 0) -> None:
        self.chance, self.lanes, self.deep = chance, lanes, deep
        self.slots: list[Slot] = []
        self.calls: list[Call] = []
        self.refused: Counter[str] = Counter()

    def add(self, value: Value, dtype: str, lanes: Sequence[Array], given: bool = False) -> Slot:
        """Add a slot; `Refused` where rounding would spoil it, unless it is given."""
        error = 0.0
        for number, lane in enumerate(self.lanes):
            if lane.noise:
                continue
            exact = lanes[number]
            others = [
                other
                for other, own in zip(lanes, self.lanes)
                if own.noise and own.sizes == lane.sizes
            ]
            if any(one.shape != exact.shape for one in others):
                raise Refused("ill-conditioned")
            if dtype not in EPSILON:
                if any(not np.array_equal(exact, one) for one in others):
                    raise Refused("ill-conditioned")
                continue
            error = max(error, float(np.max(allowed(exact, others, dtype), initial=0.0)))
            worst = WORST[dtype in HALVES] * max(1.0, float(np.max(np.abs(exact), initial=0.0)))
            if error > worst and not given:
                raise Refused("ill-conditioned")
        made = Slot(value, dtype, tuple(lanes), error)
        self.slots.append(made)
        return made

    def pick(self, kinds: str, first: Slot | None) -> int:
        """Choose a slot of these NumPy kinds: late ones more often, and what fits the first."""
        kinds += "u" * ("i" in kinds)
        fitting = [i for i, one in enumerate(self.slots) if one.lanes[0].dtype.kind in kinds]
        if not fitting:
            raise Refused("operands")
        if first is not None and self.chance.randint(0, 2):
            shape = first.lanes[0].shape
            near = [i for i in fitting if _near(shape, self.slots[i].lanes[0].shape)]
            return self.chance.choice(near or fitting)
        if self.chance.randint(0, 1):
            return self.chance.choice(fitting[-6:])
        return self.chance.choice(fitting)

    def take(self, step: Step) -> bool:
        """Draw operands and attributes; where they do not suit, nothing happens."""
        try:
            self._take(step)
        except Refused as reason:
            self.refused[str(reason) or "operands"] += 1
            return False
        return True

    def _take(self, step: Step) -> None:
        places: tuple[int, ...] = ()
        for kind in step.kinds:
            places += (self.pick(kind, self.slots[places[0]] if places else None),)
        own = [self.slots[i] for i in places]
        first = [one.lanes[0] for one in own]
        with margin(4 * max((one.error for one in own), default=0.0)):
            if step.prepare is not None:
                attributes, dtype = step.prepare(self, *own)
            else:
                attributes = tuple(each(self.chance, *first) for each in step.attributes)
                dtype = ""
            dtypes = tuple(one.dtype for one in own)
            call = Call(step, places, attributes, dtype, dtypes)
            if not dtype:
                call = Call(step, places, attributes, self._dtype(call, first), dtypes)
            lanes = self._lanes(call)
        values = [one.value for one in own]
        if step.aligned and not all(
            _aligned(values, [one.lanes[k] for one in own]) for k in range(len(self.lanes))
        ):
            raise Refused("broadcast")
        self.add(_built(call, [one.value for one in self.slots]), call.dtype, lanes)
        self.calls.append(call)

    def _dtype(self, call: Call, first: Sequence[Array]) -> str:
        """Give the dtype of the result: floats stay what they are, of two the wider counts."""
        with np.errstate(all="ignore"):
            try:
                call.step.check(*first, *call.attributes)
                kind = np.asarray(call.step.numpy(*first, *call.attributes)).dtype
            except (IndexError, ValueError, OverflowError):
                raise Refused("operands") from None
        if kind == np.uint64:
            raise Refused("operands")  # nothing holds it together with a signed integer
        if kind.kind != "f":
            return str(kind)
        floats = {one for one in call.dtypes if one in EPSILON}
        if call.step.dtype is not None or not floats:
            return call.step.dtype or "float64"
        for dtype in ("float64", "float32"):
            if dtype in floats:
                return dtype
        return floats.pop() if len(floats) == 1 else "float32"

    def _lanes(self, call: Call) -> list[Array]:
        found = []
        for number, lane in enumerate(self.lanes):
            slots = [one.lanes[number] for one in self.slots]
            try:
                found.append(call.evaluate(lane, slots, True, len(self.slots)))
            except (IndexError, ValueError, OverflowError):  # other sizes
                raise Refused("operands") from None
        return found

    def body(
        self, parameters: Sequence[tuple[Value, str, Sequence[Array]]], steps: int, wanted: int = -1
    ) -> tuple[Body, Slot]:
        """Draw a body on parameters; its result is of the type of parameter `wanted`, or any."""
        inner = Maker(self.chance, self.lanes, self.deep + 1)
        for value, dtype, lanes in parameters:
            inner.add(like(value.tensor), dtype, lanes, given=True)
        known = _known(self.deep + 1)
        for _ in range(3 * steps):
            if len(inner.calls) >= steps:
                break
            inner.take(self.chance.choice(known))
        fitting = list(range(len(parameters), len(inner.slots))) or [0]
        if wanted >= 0:
            model = inner.slots[wanted]
            fitting = [i for i in fitting if _same(inner.slots[i], model)] or [wanted]
        result = self.chance.choice(fitting[-4:])
        dtypes = tuple(dtype for _, dtype, _ in parameters)
        return Body(dtypes, tuple(inner.calls), result), inner.slots[result]


def _near(one: tuple[int, ...], other: tuple[int, ...]) -> bool:
    """Whether two shapes go well together: equal, or such that their product exists."""
    return one == other or (len(other) > 0 and one[-1:] == other[:1])


def _same(one: Slot, other: Slot) -> bool:
    return (
        one.dtype == other.dtype
        and one.value.type == other.value.type
        and all(a.shape == b.shape for a, b in zip(one.lanes, other.lanes))
    )


def _built(call: Call, values: Sequence[Value]) -> Value:
    try:
        return call.build(values)
    except Exception as error:
        shown = [f"{values[i].type}" for i in call.slots]
        error.add_note(f"while {call} was built on {', '.join(shown)}")
        raise


def _aligned(values: Sequence[Value], arrays: Sequence[Array]) -> bool:
    """Whether operands broadcast for what is known: a named size is not a 1 that stretches."""
    shapes = [list(zip(v.shape, a.shape))[::-1] for v, a in zip(values, arrays)]
    for axis in range(max(map(len, shapes), default=0)):
        here = [shape[axis] for shape in shapes if axis < len(shape)]
        fixed = [pair for pair in here if not (isinstance(pair[0], int) and pair[0] == 1)]
        if len({number for _, number in fixed}) > 1:
            return False
    return True


def _known(deep: int) -> list[Step]:
    """Give the steps that are drawn at a depth; blocks are rarer inside of blocks."""
    plain = [*STEPS.values(), *MORE.values()]
    plain += 5 * [one for one in plain if one.name in PRODUCTS]
    return plain + (list(BLOCKS.values()) if not deep else [BLOCKS["cond"], BLOCKS["scan"]])


def draw(
    chance: Random,
    steps: int,
    known: Sequence[Step],
    dtypes: Sequence[str],
    lanes: Sequence[Lane],
    kinds: Sequence[str] = ("input", "input", "input", "shared", "constant"),
) -> Program:
    """Draw a program of so many steps at most."""
    maker = Maker(chance, lanes)
    program = Program(list(lanes))
    fed: set[str | int] = set()  # sizes that an input has
    names = [*NUMBERS] if chance.randint(0, 3) == 0 else [*NUMBERS][:3]  # D is large
    pool: list[str | int] = chance.sample([*names, *FIXED], 4)
    for _ in range(chance.randint(1, 6)):
        kind = chance.choice(kinds)
        own = [size for size in pool if kind == "input" or size in fed or isinstance(size, int)]
        if kind in ("shared", "constant"):
            own = [size for size in own if isinstance(size, int)]
        shape = tuple(chance.choice(own or [2]) for _ in range(chance.choice(RANKS)))
        leaf = Leaf(
            kind, _leaf_dtype(chance, kind, dtypes), shape, _leaf_seed(program, kind, chance)
        )
        program.leaves.append(leaf)
        fed.update(shape if kind == "input" else ())
    arrays = [[leaf.array(lane.sizes) for lane in lanes] for leaf in program.leaves]
    program.results, program.dtypes = arrays, [leaf.dtype for leaf in program.leaves]
    for value, leaf, own_lanes in zip(program.declare(), program.leaves, arrays):
        maker.add(value, leaf.dtype, own_lanes, given=True)
    for _ in range(3 * steps):
        if len(maker.calls) >= steps:
            break
        maker.take(chance.choice(known))
    program.calls = maker.calls
    program.results = [list(one.lanes) for one in maker.slots]
    program.dtypes = [one.dtype for one in maker.slots]
    program.refused = maker.refused
    _choose_results(chance, program, [one.value for one in maker.slots])
    return program


def _leaf_dtype(chance: Random, kind: str, dtypes: Sequence[str]) -> str:
    if kind == "bernoulli":
        return "bool"
    floats = [one for one in dtypes if one in ("float32", "float64")]
    return chance.choice(floats if kind in DRAWS else list(dtypes))


def _leaf_seed(program: Program, kind: str, chance: Random) -> int:
    if kind in DRAWS:
        return sum(leaf.kind in DRAWS for leaf in program.leaves)
    return chance.randint(0, 9)


def _choose_results(chance: Random, program: Program, values: Sequence[Value]) -> None:
    last = len(values) - 1
    chosen = chance.sample(range(len(values)), min(len(values), chance.randint(0, 2)))
    used = {i for call in program.calls for i in call.slots}
    ends = [i for i in range(len(program.leaves), len(values)) if i not in used]
    many = ends if chance.randint(0, 1) else ends[-2:]
    program.outputs = list(dict.fromkeys([last, *chosen, *many[-12:]]))
    for target, leaf in enumerate(program.leaves):
        if leaf.kind != "shared":
            continue
        own = program.results[target][0]
        new = [
            i
            for i, lanes in enumerate(program.results)
            if program.dtypes[i] == leaf.dtype
            and all(array.shape == own.shape for array in lanes)
            and _possible(values[i], own)
        ]
        if chance.randint(0, 1):
            program.updates[target] = chance.choice(new)


def _possible(value: Value, array: Array) -> bool:
    try:
        sg.specify_shape(value, array.shape)
    except SymgraphError:
        return False
    return True


@st.composite
def programs(draw_one: Any, steps: int = 14, smooth: bool = False) -> Program:
    """Draw a program in float64; a `smooth` one takes only steps that have derivatives."""
    chance = draw_one(st.randoms(use_true_random=False))  # spreads evenly, and shrinks all the same
    sizes = {name: chance.choice(numbers[:5]) for name, numbers in NUMBERS.items()}
    known = [one for one in STEPS.values() if one.smooth or not smooth]
    dtypes = ("float64",) if smooth else DTYPES
    taken = max(1, chance.randint(1, 3) * steps * 3 // 5)
    return draw(chance, taken, known, dtypes, [Lane(sizes)])


def wide_program(seed: int, most: int = 200) -> Program:
    """Give the program of a seed: all steps, blocks and dtypes, two choices of sizes."""
    chance = Random(f"program {seed}")
    steps = round(4 * (most / 4) ** (chance.random() ** 2))
    lanes = []
    for _ in range(2):
        sizes = {name: chance.choice(numbers) for name, numbers in NUMBERS.items()}
        lanes += [Lane(sizes, noise) for noise in range(LANES)]
    kinds = ("input", "input", "input", "input", "shared", "shared", "constant", *DRAWS)
    return draw(chance, steps, _known(0), ALL_DTYPES, lanes, kinds)
