"""Compiled steps beside the oracle: the first kernel that computes something else.

Every step is given what the steps before it really computed, and its results are compared with what
the oracle makes of the same numbers. So an error is found where it is made, and the rounding of
many steps does not add up.
"""

from __future__ import annotations

import ctypes
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from symgraph.backends.cpu.driver import WORDS, driver
from symgraph.debug.compare import difference, tolerance
from symgraph.dims import Dim
from symgraph.frozen import frozen
from symgraph.graph.dtypes import dtype_name, is_float, numpy_dtype
from symgraph.graph.leaves import Shared
from symgraph.graph.node import Value, operand_lines
from symgraph.graph.op import Array
from symgraph.graph.scalar import widen
from symgraph.graph.types import TupleType
from symgraph.lower.nest import Buffer
from symgraph.lower.plan import CheckStep, Step
from symgraph.lower.program import number
from symgraph.runtime.attribution import Attribution, in_order, operands_of
from symgraph.runtime.native import BoundPlan, NativeExecutor
from symgraph.runtime.profile import records_of, stepwise

TRIALS = 2  # with other noise each
EPSILONS = {"float64": 2.0**-52, "float32": 2.0**-23, "float16": 2.0**-10, "bfloat16": 2.0**-7}
LIKE_IT = 16.0  # times what noise in the last bit does


@frozen
class KernelDifference:
    """The first step of a compiled function whose result is not what the oracle computes.

    `value` is the value of the graph that it computes (or a part of), `step` its name in the plan,
    `runs_as` "generated kernel" or the library's name of what ran; `error` is relative to the
    largest element, `place` is that of the largest difference, where the oracle has `expected`.
    """

    value: Value
    step: str
    runs_as: str
    error: float
    place: tuple[int, ...]
    expected: float
    found: float

    def __str__(self) -> str:
        where = f" at {list(self.place)}" if self.place else ""
        return "\n".join(
            [
                f"`{self.value.label}` differs by {self.error:.1e} of its largest element.",
                *(f"  {line}" for line in operand_lines([self.value])),
                f"  computed by the step `{self.step}` ({self.runs_as})",
                f"  expected {self.expected:.9g}{where}, found {self.found:.9g}",
            ]
        )


class _FoundError(Exception):
    """Ends a run: a difference was found. Never seen outside."""

    def __init__(self, found: KernelDifference) -> None:
        super().__init__(str(found))
        self.found = found


def check_kernels(
    executor: NativeExecutor,
    feeds: Mapping[Value, Array],
    env: Mapping[Dim, int],
    rtol: float | None = None,
) -> KernelDifference | None:
    """Run a compiled function step by step beside the oracle; nothing is updated."""
    watched = _Watched(executor, feeds, env, rtol)
    try:
        stepwise(executor, env, feeds, watched.run)
    except _FoundError as end:
        return end.found
    return None


class _Watched:
    def __init__(
        self,
        executor: NativeExecutor,
        feeds: Mapping[Value, Array],
        env: Mapping[Dim, int],
        rtol: float | None,
    ) -> None:
        self.bound: BoundPlan = executor.bound(env)
        self.plan = self.bound.plan
        self.env, self.rtol = env, rtol
        self.known = Attribution(self.plan)
        self.leaves: dict[Value, Array] = {**feeds}
        self.sources = executor.carried
        self.variables = executor.graph.shared
        self.index: dict[Buffer, int] = {}
        seen: dict[Value, int] = {}
        for one, value in self.plan.program.origin.items():
            self.index[one] = seen.get(value, 0)
            seen[value] = self.index[one] + 1
        self.reads = self._reads()
        self.last = {one: place for place, read in enumerate(self.reads) for one in read}
        self.held: dict[Buffer, Array] = {}

    def _reads(self) -> list[tuple[Buffer, ...]]:
        """Give what each step reads; for parts of a reduction, what those are made of."""
        origin, program = self.plan.program.origin, self.plan.program
        given = {*program.inputs.values(), *origin}
        made: dict[Buffer, tuple[Buffer, ...]] = {}
        found = []
        for step in self.plan.steps:
            own: list[Buffer] = []
            for one in step.buffers:
                if one not in step.writes:
                    own.extend([one] if one in given else made.get(one, ()))
            found.append(tuple(dict.fromkeys(own)))
            made.update((one, found[-1]) for one in step.writes if one not in origin)
        return found

    # -- running -----------------------------------------------------------------------------------

    def run(self, address: int, count: int) -> int:
        """Run the records of each step, then look at what it wrote."""
        for one in self.variables:  # before anything is written in place
            self.leaves[one] = one.storage.array.copy()
        run, record = driver().run, 0
        for place, step in enumerate(self.plan.steps):
            for _ in records_of(self.bound, step):
                if run(address + 8 * WORDS * record, 1):
                    return record + 1
                record += 1
            if not isinstance(step, CheckStep):
                self.compare(place, step)
        for rest in range(record, count):
            if run(address + 8 * WORDS * rest, 1):
                return rest + 1
        return 0

    def compare(self, place: int, step: Step) -> None:
        """Compare what a step wrote; raises `_FoundError`."""
        written = [one for one in step.buffers if one in step.writes and one in self.index]
        if written:
            expected = self.expected(place, written)
            for one in written:
                self.held[one] = found = self.array(one)
                error = difference(expected[one], found)
                allowed = max(tolerance(each, self.rtol) for each in (expected[one], found))
                if error > allowed and not self.ill_conditioned(place, one, expected[one], found):
                    raise _FoundError(self.explained(step, one, expected[one], found))
        for one in [one for one in self.held if self.last.get(one, -1) <= place]:
            del self.held[one]

    def explained(self, step: Step, one: Buffer, expected: Array, found: Array) -> KernelDifference:
        """Say where two arrays differ most."""
        value = self.plan.program.origin[one]
        place = _place(expected, found)
        return KernelDifference(
            self.known.owner(value), step.name, records_of(self.bound, step)[-1],
            difference(expected, found), place,
            float(widen(expected)[place]), float(widen(found)[place]),
        )  # fmt: skip

    def ill_conditioned(self, place: int, one: Buffer, expected: Array, found: Array) -> bool:
        """Tell whether the last bit of what a step reads changes its result about as much.

        A sum of large numbers that is nearly zero has few right digits in any order, and what is
        compared with a threshold may fall on either side. `rtol` of one's own is taken literally.
        """
        if self.rtol is not None:
            return False
        distances = []
        for seed in range(TRIALS):
            again = self.expected(place, [one], np.random.default_rng(seed))[one]
            distances.append(_distance(expected, again))
        return _distance(expected, found) <= LIKE_IT * max(distances)

    # -- the oracle --------------------------------------------------------------------------------

    def expected(
        self, place: int, written: Sequence[Buffer], noise: np.random.Generator | None = None
    ) -> dict[Buffer, Array]:
        """Compute what a step should have written, from what it read, with some noise if asked."""
        origin = self.plan.program.origin
        arrays: dict[Value, Any] = {v: _noisy(array, noise) for v, array in self.leaves.items()}
        for one in self.reads[place]:
            if one in self.held and one in origin:
                self.put(arrays, one, _noisy(self.held[one], noise))
        roots = [origin[one] for one in written]
        stored = {origin[one]: one for one in written}
        for value, inside in in_order(roots, arrays):
            if inside is None:
                operands = [self.operand(arrays, x) for x in operands_of(value)]
                arrays[value] = value.op.at(self.env).ref(np, *operands)
            elif isinstance(value.type, TupleType):
                arrays[value] = tuple(self.operand(arrays, one) for one in inside)
            else:
                arrays[value] = self.operand(arrays, inside[0])
            if value in stored and not isinstance(value.type, TupleType):
                self.put(arrays, stored[value], np.asarray(arrays[value]))
        return {one: self.part(one, self.operand(arrays, origin[one])) for one in written}

    def operand(self, arrays: dict[Value, Any], value: Value) -> Any:
        """Give a value that was computed, or a leaf."""
        if value not in arrays:
            arrays[value] = value.op.at(self.env).ref(np)
        return arrays[value]

    def part(self, one: Buffer, array: Any) -> Array:
        """Give the one of several results that a buffer holds, rounded as the buffer is."""
        result = np.asarray(array[self.index[one]] if isinstance(array, tuple) else array)
        return result.astype(numpy_dtype(one.dtype), copy=False)

    def put(self, arrays: dict[Value, Any], one: Buffer, array: Array) -> None:
        """Let a value be what a buffer holds, in the value's own dtype."""
        value = self.plan.program.origin[one]
        if isinstance(value.type, TupleType):
            types = value.type.types
            parts = list(arrays.get(value, (None,) * len(types)))
            number = self.index[one] % len(types)
            parts[number] = array.astype(numpy_dtype(types[number].dtype), copy=False)
            arrays[value] = tuple(parts)
            return
        held = array.astype(numpy_dtype(one.dtype), copy=False)
        arrays[value] = held.astype(numpy_dtype(value.dtype), copy=False)

    # -- memory ------------------------------------------------------------------------------------

    def array(self, one: Buffer) -> Array:
        """Copy what a buffer holds now."""
        kind = numpy_dtype(one.dtype)
        shape = tuple(number(size, self.env) for size in one.shape)
        strides = tuple(number(size, self.env) * kind.itemsize for size in one.strides)
        if 0 in shape:
            return np.empty(shape, kind)
        span = sum((size - 1) * step for size, step in zip(shape, strides)) + kind.itemsize
        region: Any = (ctypes.c_char * span).from_address(self.address(one))
        return np.ndarray(shape, kind, region, 0, strides).copy()

    def address(self, one: Buffer) -> int:
        """Give where a buffer is that a step has written."""
        bound, program = self.bound, self.plan.program
        if one in bound.offsets:
            return int(bound.base + bound.offsets[one])
        if one in program.outputs:
            port, *_ = bound.outputs[program.outputs.index(one)]
            return int(port.address)
        target: Shared = next(s for s, new in self.plan.in_place.items() if new is one)
        return int(target.storage.array.ctypes.data)


def _noisy(array: Array, noise: np.random.Generator | None) -> Array:
    """Change floats in their last bit, up or down; of half precision only some, it is coarse."""
    kind = dtype_name(array.dtype)
    if noise is None or kind not in EPSILONS:
        return array
    signs = noise.integers(0, 2, array.shape, np.int8) * 2 - 1
    if kind in ("bfloat16", "float16"):
        signs *= noise.integers(0, 16, array.shape, np.int8) == 0
    wide = widen(array)
    changed = wide * (1 + signs * EPSILONS[kind])
    return np.where(np.isfinite(changed), changed, wide).astype(array.dtype)


def _distance(expected: Array, found: Array) -> float:
    """Give the relative difference, or how many elements differ where they are no floats."""
    if is_float(dtype_name(expected.dtype)):
        return difference(expected, found)
    return float(np.count_nonzero(expected != found))


def _place(expected: Array, found: Array) -> tuple[int, ...]:
    """Give the place of the largest difference; what is finite only in the oracle comes first."""
    a, b = widen(expected), widen(found)
    if not is_float(dtype_name(expected.dtype)):
        apart = (a != b).astype(np.float64)
    else:
        finite = np.isfinite(a)
        with np.errstate(invalid="ignore", over="ignore"):
            apart = np.where(finite, np.abs(a.astype(np.float64) - b.astype(np.float64)), 0)
        apart = np.where(finite & ~np.isfinite(b), np.inf, apart)
    return tuple(int(i) for i in np.unravel_index(int(np.argmax(apart)), apart.shape))
