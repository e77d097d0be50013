"""Binding: the sizes of the given arrays become numbers for every symbolic size, checked once.

Bindings are cached by the shapes of the inputs; a new batch size costs one solve, no compilation.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from symgraph.cost.formulas import Arguments
from symgraph.cost.limit import memory_limit, require_memory
from symgraph.dims import Dim, Guard, Size, bounds, evaluate, free, solve_all
from symgraph.errors import ArgumentError, GuardError, InputError
from symgraph.graph.dtypes import numpy_dtype
from symgraph.graph.graph import Graph
from symgraph.graph.node import Value
from symgraph.graph.op import Array

Env = Mapping[Dim, int]


class Binder:
    """Turns shapes of inputs into numbers for sizes, and checks what could not be decided."""

    def __init__(
        self,
        name: str,
        graph: Graph,
        guards: Sequence[Guard],
        limit: int = 64,
        machine: int | None = None,
    ) -> None:
        self.name, self.machine = name, machine  # the bytes of a device's memory
        self.graph = graph
        self.inputs = graph.inputs
        self.measured = frozenset(graph.sizes)  # what data decide: known while a call runs
        self.guards = tuple(one for one in guards if self.measured.isdisjoint(one.free()))
        self.later = tuple(one for one in guards if one not in set(self.guards))
        self.needed = _needed(graph, self.guards) - self.measured
        self.limit = limit
        self._known: dict[tuple[tuple[int, ...], ...], tuple[Env, int]] = {}  # and what may be used

    def bind(self, feeds: Mapping[Value, Array], given: Env | None = None) -> Env:
        """Give the number of each symbolic size.

        Raises `GuardError` when shapes contradict the declaration or each other, naming the input,
        `InputError` when a size stands in no input's shape, and `MemoryLimitError` when the graph
        cannot fit into memory at these sizes.
        """
        if given:
            return self._solve(feeds, given)
        key = tuple(feeds[value].shape for value in self.inputs)
        allowed = memory_limit(self.machine)
        env, least = self._known.get(key, (None, 0))
        if env is None:
            env, least = self._solve(feeds, {}), allowed
            if len(self._known) >= self.limit:
                self._known.pop(next(iter(self._known)))
            self._known[key] = env, least
        if allowed < least:  # the limit was higher when these sizes came first
            require_memory(self.name, self.graph, env, allowed)
            self._known[key] = env, allowed
        return env

    def bind_sizes(self, sizes: Mapping[Any, int] | None, named: Mapping[str, int]) -> Env:
        """Give the numbers that a call has whose inputs are of these sizes.

        Sizes go by themselves or by name. Raises `ArgumentError` for one that is missing, unknown
        or too small, and as `bind` does.
        """
        shapes = [size for value in self.inputs for size in value.shape]
        arguments = Arguments([*shapes, *self.needed, *self.measured])
        given = arguments.known("bind", sizes, named)
        known = self._solved(list(given.items()))
        numbers = dict(zip(arguments.symbols, arguments.take("bind", known, {})))
        feeds: dict[Value, Array] = {}
        for value in self.inputs:
            shape = tuple(s if isinstance(s, int) else evaluate(s, numbers) for s in value.shape)
            if min(shape, default=0) < 0:
                raise ArgumentError(
                    f"bind: `{value.label}` has the shape {shape} at these sizes.",
                    details=[value.describe()],
                )
            feeds[value] = np.broadcast_to(np.zeros((), numpy_dtype(value.dtype)), shape)
        env = dict(self.bind(feeds))  # in the order in which a call knows them
        for size in self.measured:
            self.decide(env, size, numbers[size])
        return env

    def decide(self, env: dict[Dim, int], size: Dim, number: int) -> None:
        """Add the number of a size that data decide, and check what is known now.

        Raises `GuardError` where an operation cannot have this size, naming both, or where an
        input was given with another, and `MemoryLimitError` where the graph gets too large.
        """
        if env.get(size, number) != number:
            raise GuardError(
                f"{self.name}: size `{size}` is {env[size]} in the given arrays, but the data "
                f"make it {number}.",
                fix="give arrays whose sizes fit",
            )
        low, high = bounds(size)
        if number < (low or 0) or (high is not None and number > high):
            upto = "or more" if high is None else f"to {high}"
            raise GuardError(
                f"{self.name}: the data make size `{size}` {number}, it must be {low or 0} {upto}.",
                details=[self.graph.sizes[size].describe()],
                fix="see that what decides it is in these bounds, e.g. sg.maximum(n, 0)",
            )
        env[size] = number
        for guard in self.later:
            if size in guard.free() and guard.free() <= env.keys():
                try:
                    guard.check(env)
                except GuardError as problem:
                    raise GuardError(
                        f"{self.name}: {problem.message}", details=problem.details,
                        fix=f"`{size}` is decided by the data of the call: see that it fits",
                    ) from None  # fmt: skip
        if self.measured <= env.keys():
            require_memory(self.name, self.graph, env, memory_limit(self.machine))

    def _solve(self, feeds: Mapping[Value, Array], given: Env) -> Env:
        pairs: list[tuple[Size, int]] = list(given.items())
        for value in self.inputs:
            for axis, (size, number) in enumerate(zip(value.shape, feeds[value].shape)):
                if isinstance(size, int) and size != number:
                    raise GuardError(
                        f"{self.name}: axis {axis} of `{value.label}` must be {size}, "
                        f"it is {number}.",
                        details=[f"{value.label} was given shape {feeds[value].shape}",
                                 value.describe()],
                    )  # fmt: skip
                pairs.append((size, number))
        try:
            env = self._solved(pairs)
        except GuardError as problem:
            raise self._explained(problem, feeds) from None
        if not self.needed <= env.keys():
            names = ", ".join(sorted(map(str, self.needed - env.keys())))
            raise InputError(
                f"{self.name}: the size {names} stands in no input's shape and has no number.",
                fix="declare an input with that size, or give the number: x.eval({B: 4})",
            )
        for guard in self.guards:
            try:
                guard.check(env)
            except GuardError as problem:
                raise self._explained(problem, feeds) from None
        require_memory(self.name, self.graph, env, memory_limit(self.machine))
        return env

    def _solved(self, pairs: list[tuple[Size, int]]) -> dict[Dim, int]:
        """Solve for the sizes; one that stands in no input may follow from a guard of equality."""
        env = solve_all(pairs)
        while not self.needed <= env.keys():
            known = len(env)
            pairs = [*pairs, *(pair for guard in self.guards for pair in _implied(guard, env))]
            env = solve_all(pairs)
            if len(env) == known:
                break
        return env

    def _explained(self, problem: GuardError, feeds: Mapping[Value, Array]) -> GuardError:
        lines = [
            f"{value.label} : {value.type}   given shape {feeds[value].shape}"
            for value in self.inputs
        ]
        return GuardError(
            f"{self.name}: {problem.message}", details=[*problem.details, *lines], fix=problem.fix
        )


def _implied(guard: Guard, env: Env) -> Iterator[tuple[Size, int]]:
    """Give what an equality says of a side that is unknown yet."""
    if guard.relation != "equal":
        return
    for side, other in ((guard.left, guard.right), (guard.right, guard.left)):
        if free(other) <= env.keys() and not free(side) <= env.keys():
            yield side, evaluate(other, env)


def _needed(graph: Graph, guards: Iterable[Guard]) -> frozenset[Dim]:
    sizes: set[Dim] = set().union(*(guard.free() for guard in guards))
    for node in graph.values:
        for size in node.op.dims() if node.inputs or not node.op.leaf else ():
            sizes |= free(size)
    return frozenset(sizes)
