"""Which module each value of a graph belongs to, and the graph as modules inside modules.

A module is used by the forward and by the backward pass. `outline` lists the values in an order in
which each module's values stand together as far as the edges allow, and cuts it where they do not:
since every part is a stretch of one topological order, parts folded into boxes make no cycle.
"""

from __future__ import annotations

import heapq
import re
from collections.abc import Iterable, Mapping

from symgraph.frozen import frozen
from symgraph.graph.graph import Graph
from symgraph.graph.leaves import Constant, Input, SizeOf
from symgraph.graph.node import Value
from symgraph.graph.origin import module_of
from symgraph.graph.walk import postorder, topological

Path = tuple[str, ...]

MOST = 100  # parts side by side in one group; more are divided into stretches
STRETCH = 40


@frozen
class Group:
    """A stretch of values: of one module, or of neighbours where there are too many."""

    key: str  # the same in every graph of a history, so that a reader's choices last
    label: str
    module: str
    parts: tuple[Group | Value, ...]

    def values(self) -> list[Value]:
        """List all values inside, in order."""
        found: list[Value] = []
        stack: list[Group | Value] = [self]
        while stack:
            part = stack.pop()
            if isinstance(part, Group):
                stack.extend(reversed(part.parts))
            else:
                found.append(part)
        return found


def split(module: str) -> Path:
    """Give the steps of a path: `AlexNet/features.0` is AlexNet, features, 0."""
    return tuple(re.split(r"[/.]", module)) if module else ()


def boxes(graph: Graph) -> list[Value]:
    """List the values that get a box: all but constants and sizes, which are written where they
    are used, unless they are results.
    """
    roots = set(graph.roots)
    return [v for v in graph.values if v in roots or not isinstance(v.op, Constant | SizeOf)]


def modules_of(graph: Graph) -> dict[Value, str]:
    """Give the module of each value, or "".

    Leaves belong to the module that uses them first. What stands between values of modules, such
    as a sum of gradients, belongs to the innermost module around them, and so does what only serves
    the updates of their variables.
    """
    found = {value: module_of(value.origins) for value in graph.values}
    users: dict[Value, list[Value]] = {value: [] for value in graph.values}
    for value in graph.values:
        for operand in value.inputs:
            users[operand].append(value)
    leaves = {v for v in graph.values if not v.inputs and not isinstance(v.op, Input)}
    for leaf in leaves:
        found[leaf] = _first(found[user] for user in users[leaf]) or found[leaf]
    for value in graph.values:
        near = [
            v for v in (*value.inputs, *users[value]) if not isinstance(v.op, Constant | SizeOf)
        ]
        if not found[value] and value.inputs and users[value] and all(found[v] for v in near):
            found[value] = _common([split(found[v]) for v in near])
    serves: dict[Value, set[str]] = {}  # what only serves updates -> the modules of their targets
    for target, new in graph.updates.items():
        serves.setdefault(new, set()).add(found.get(target, ""))
    kept = set(topological(graph.outputs))
    for value in reversed(graph.values):
        if found[value] or value in kept or isinstance(value.op, Input):
            continue
        named = {module for module in serves.get(value, ()) if module}
        owners = named.union(*(serves.get(user, {""}) for user in users[value]))
        serves[value] = owners or {""}
        inside = any(found[operand] for operand in value.inputs if operand.inputs)
        if "" not in serves[value] and (inside or len(owners) == 1):
            found[value] = _common([split(owner) for owner in owners])
    return found


def _common(paths: list[Path]) -> str:
    """Give the innermost module around all."""
    steps = []
    for names in zip(*paths):
        if len(set(names)) > 1:
            break
        steps.append(names[0])
    return _joined(steps) if steps else ""


def _first(names: Iterable[str]) -> str:
    return next((name for name in names if name), "")


def arranged(graph: Graph) -> list[tuple[Value, Path]]:
    """List all values but literals, operands first, with modules kept together.

    A leaf, or what is computed of shared variables alone, stands right before its first user.
    """
    modules = modules_of(graph)
    paths = {value: split(module) for value, module in modules.items()}
    shown = boxes(graph)
    late = _deferred(graph, shown, paths)
    place = {value: number for number, value in enumerate(shown)}
    waiting: dict[Value, int] = {}
    users: dict[Value, list[Value]] = {}
    for value in shown:
        if value in late:
            continue
        needed = {each for each in value.inputs if each in place and each not in late}
        waiting[value] = len(needed)
        for each in needed:
            users.setdefault(each, []).append(value)
    ready: dict[Path, list[int]] = {}
    for value, count in waiting.items():
        if not count:
            heapq.heappush(ready.setdefault(paths[value], []), place[value])
    order: list[tuple[Value, Path]] = []
    done: set[Value] = set()
    here: Path = ()
    while ready:
        here = here if here in ready else _nearest(here, ready)
        value = shown[heapq.heappop(ready[here])]
        if not ready[here]:
            del ready[here]
        fresh = postorder([value], lambda v: [u for u in v.inputs if u in late and u not in done])
        done.update(fresh)
        order.extend((each, here) for each in fresh)
        for user in users.get(value, ()):
            waiting[user] -= 1
            if not waiting[user]:
                heapq.heappush(ready.setdefault(paths[user], []), place[user])
    return order


def _deferred(graph: Graph, shown: list[Value], paths: Mapping[Value, Path]) -> set[Value]:
    """Find the values that can wait for their first user: shared leaves, and what is made of such
    leaves inside one module alone.
    """
    users: dict[Value, set[Path]] = {}
    for value in shown:
        for operand in value.inputs:
            users.setdefault(operand, set()).add(paths[value])
    roots = set(graph.roots)
    found: set[Value] = set()
    for value in shown:
        free = not isinstance(value.op, Input) and all(
            operand in found or isinstance(operand.op, Constant | SizeOf)
            for operand in value.inputs
        )
        home = not value.inputs or users.get(value) == {paths[value]}
        if free and home and value not in roots and value in users:
            found.add(value)
    return found


def _nearest(here: Path, ready: Mapping[Path, list[int]]) -> Path:
    """Choose where to go on: the module that shares most of the path, then the first value."""

    def shared(path: Path) -> int:
        count = 0
        for ours, theirs in zip(here, path):
            if ours != theirs:
                break
            count += 1
        return count

    return min(ready, key=lambda path: (-shared(path), ready[path][0]))


def outline(graph: Graph) -> Group:
    """Give the whole graph as one group of values and groups."""
    forward = set(topological(graph.outputs)) if graph.updates else set(graph.values)
    counts: dict[str, int] = {}
    root: list[Group | Value] = []
    open_: list[tuple[str, list[Group | Value]]] = [("", root)]

    def close(depth: int) -> None:
        while len(open_) > depth + 1:
            step, parts = open_.pop()
            path = [name for name, _ in open_[1:]] + [step]
            module = _joined(path)
            counts[module] = counts.get(module, 0) + 1
            open_[-1][1].append(_group(module, counts[module], tuple(parts), forward))

    for value, path in arranged(graph):
        here = tuple(name for name, _ in open_[1:])
        depth = 0
        while depth < min(len(here), len(path)) and here[depth] == path[depth]:
            depth += 1
        close(depth)
        open_.extend((step, []) for step in path[depth:])
        open_[-1][1].append(value)
    close(0)
    return Group("", "", "", _stretched(tuple(root), ""))


def _joined(path: list[str]) -> str:
    return path[0] + ("/" + ".".join(path[1:]) if path[1:] else "")


def _group(module: str, count: int, parts: tuple[Group | Value, ...], forward: set[Value]) -> Group:
    if len(parts) == 1 and isinstance(parts[0], Group):
        return parts[0]  # a module that only calls one other
    key = module if count == 1 else f"{module}#{count}"
    made = Group(key, module, module, _stretched(parts, key))
    if forward.isdisjoint(made.values()):
        return Group(key, f"{module} backward", module, made.parts)
    return made


def _stretched(parts: tuple[Group | Value, ...], key: str) -> tuple[Group | Value, ...]:
    """Divide many parts into stretches, and those again."""
    level = 0
    while len(parts) > MOST:
        level += 1
        parts = tuple(
            Group(
                f"{key}[{level}.{start // STRETCH}]",
                f"part {start // STRETCH + 1}",
                "",
                parts[start : start + STRETCH],
            )
            for start in range(0, len(parts), STRETCH)
        )
    return parts
