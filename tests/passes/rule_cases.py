"""Every rule with every example of it: where it fires, and the numbers with which it is tried."""

from __future__ import annotations

import itertools
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import pytest

import symgraph as sg
from symgraph.graph.dtypes import is_float, numpy_dtype
from symgraph.graph.elementwise import Elementwise
from symgraph.graph.interpret import interpret
from symgraph.graph.leaves import tensor
from symgraph.graph.node import Value
from symgraph.graph.samples import Arg
from symgraph.graph.walk import sweep, topological
from symgraph.passes.rules import Example, Rule
from symgraph.passes.stabilise import EVERY
from symgraph.passes.sweeper import Sweeper

Array = Any
Feeds = Mapping[Value, Array]

FLOATS = ("float16", "bfloat16", "float32", "float64")
WHOLE = ("int8", "uint8", "int32")


@dataclass(frozen=True)
class Site:
    """A place where a rule fires: the inputs by name, what was there, and what comes."""

    inputs: Mapping[str, Value]
    old: Value
    new: Value

    @property
    def elementwise(self) -> bool:
        """Whether each element of the result is made of one element of each input."""
        values = [node for node in topological([self.old, self.new]) if node.inputs]
        return all(isinstance(node.op, Elementwise) for node in values)


@dataclass(frozen=True)
class Case:
    """One rule and one of its examples."""

    rule: Rule
    number: int

    @property
    def id(self) -> str:
        return self.rule.name if self.number == 0 else f"{self.rule.name}:{self.number}"

    @property
    def example(self) -> Example:
        return self.rule.examples[self.number]

    @property
    def operands(self) -> Mapping[str, Arg]:
        return self.example.operands

    def build(self, dtype: str | None = None) -> tuple[dict[str, Value], Value]:
        """Make the inputs and the expression; a dtype replaces all but bools."""
        inputs = {
            name: tensor(
                name, one.shape, one.dtype if dtype is None or one.dtype == "bool" else dtype
            )
            for name, one in self.operands.items()
        }
        return inputs, self.example.write(**inputs)

    def site(self, dtype: str | None = None) -> Site | None:
        """Find where the rule fires: at the root as it stands, further in, or after other rules."""
        inputs, value = self.build(dtype)
        for node in reversed(topological([value])):
            new = fires(self.rule, node)
            if new is not None:
                return Site(inputs, node, new)
        with sg.config(rewrites="fast"):
            sweeper = Sweeper("cases", EVERY, len(topological([value])))
            sweep([value], sweeper.step)
        for change in sweeper.changes:
            if change.reason == self.rule.name:
                return Site(inputs, change.old, change.new)
        return None

    def rng(self) -> np.random.Generator:
        """Give a generator of this case's own."""
        return np.random.default_rng(zlib.crc32(self.id.encode()))


def fires(rule: Rule, node: Value) -> Value | None:
    """Apply a rule to a value as a sweep would: to the operations that it looks at only."""
    return rule(node) if not rule.roots or node.op.name in rule.roots else None


CASES = [Case(one, number) for one in EVERY for number in range(len(one.examples))]
FIRST = [case for case in CASES if case.number == 0]


def each(cases: Sequence[Case], check: str, whole: bool = True) -> Any:
    """Parametrise a test over cases; the ids end with what is checked.

    Unless `whole` one example of each rule, chosen by its name and the check's, is daily; the
    others are for `-m full`.
    """
    ranked = sorted(cases, key=lambda case: zlib.crc32(f"{case.id}:{check}".encode()))
    daily = {case.id for case in cases} if whole else {c.rule.name: c.id for c in ranked}.values()
    return pytest.mark.parametrize(
        "case",
        [
            pytest.param(
                case,
                id=f"{case.id}:{check}",
                marks=() if case.id in daily else pytest.mark.full,
            )
            for case in cases
        ],
    )


def level(rule: Rule) -> str:
    """Give the setting of `rewrites` under which a rule runs and the fewest beside it."""
    return "fast" if rule.sound == "fast" else "real"


# -- numbers --------------------------------------------------------------------------------------


def drawn(case: Case, inputs: Mapping[str, Value], rng: np.random.Generator) -> dict[Value, Array]:
    """Draw operands from the ranges of the example, in the dtypes of the inputs."""
    found: dict[Value, Array] = {}
    for name, one in case.operands.items():
        value = inputs[name]
        array = one.draw(rng, {}, "float64" if is_float(one.dtype) else None)
        found[value] = array.astype(numpy_dtype(value.dtype))
    return found


def spread(
    inputs: Mapping[str, Value],
    pools: Mapping[str, Array],
    rng: np.random.Generator,
    elementwise: bool,
    most: int,
) -> Iterator[dict[Value, Array]]:
    """Fill operands from pools of numbers by dtype, at most `most` times.

    Elementwise expressions meet every combination of numbers where that is not too many; others
    meet random ones.
    """
    sizes = [int(np.prod(value.shape)) for value in inputs.values()]
    given = [pools[value.dtype] for value in inputs.values()]
    count = int(np.prod([len(pool) for pool in given]))
    if elementwise and len(set(sizes)) == 1 and count <= most * sizes[0]:
        combined = list(itertools.product(*(range(len(pool)) for pool in given)))
        places = np.resize(np.array(combined, int), (-(-count // sizes[0]) * sizes[0], len(given)))
        for start in range(0, len(places), sizes[0]):
            rows = places[start : start + sizes[0]].T
            yield {
                value: pool[row].reshape(value.shape)
                for value, pool, row in zip(inputs.values(), given, rows)
            }
        return
    for _ in range(most):
        yield {
            value: pool[rng.integers(0, len(pool), size)].reshape(value.shape)
            for value, pool, size in zip(inputs.values(), given, sizes)
        }


@cache
def edges(dtype: str) -> Array:
    """Give the numbers of a dtype at which something changes, and random bits."""
    target = numpy_dtype(dtype)
    rng = np.random.default_rng(0)
    if dtype == "bool":
        return np.array([False, True])
    if not is_float(dtype):
        limits = np.iinfo(target)
        near = [limits.min, limits.min + 1, -2, -1, 0, 1, 2, 3, limits.max // 2, limits.max]
        own = [n for n in near if limits.min <= n <= limits.max]
        return np.array(own, target)
    bits = {2: np.uint16, 4: np.uint32, 8: np.uint64}[target.itemsize]
    tiny = {"float16": 2.0**-14, "bfloat16": 2.0**-126, "float32": 2.0**-126}.get(dtype, 2.0**-1022)
    least = np.array([1], bits).view(target)
    infinity = np.array([np.inf], target)
    largest = (infinity.view(bits) - bits(1)).view(target)
    plain = np.array([0.0, 1.0, 1.5, tiny, np.inf], target)
    positive = np.concatenate([plain, least, largest])
    random = np.frombuffer(rng.bytes(6 * target.itemsize), target)
    return np.concatenate([positive, -positive, np.array([np.nan], target), random])


def computed(outputs: Iterable[Value], feeds: Feeds) -> list[Array]:
    """Compute with the oracle."""
    with np.errstate(all="ignore"):
        found = interpret(list(outputs), feeds)
    return [np.asarray(array) for array in found]
