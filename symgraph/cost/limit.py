"""Refusing a run that cannot fit into memory, before anything is computed or written."""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import cache
from pathlib import Path

from symgraph.config import config
from symgraph.cost.fit import largest_fit
from symgraph.cost.liveness import liveness
from symgraph.cost.units import number_text, size_text
from symgraph.dims import Dim, Size, evaluate, free
from symgraph.errors import ArgumentError, MemoryLimitError
from symgraph.graph.graph import Graph

UNKNOWN = 1 << 62  # where the system does not say how much memory there is


def peak_bytes(graph: Graph, env: Mapping[Dim, int]) -> int:
    """Give the bytes that a graph needs at least for sizes, in one pass over its steps.

    Raises `DimError` for a size that is not given.

    >>> import symgraph as sg
    >>> B = sg.dim("B")
    >>> x = sg.tensor("x", (B, 2))
    >>> peak_bytes(sg.Graph([x], [x + 1.0]), {B: 10})
    164
    """
    return liveness(graph).peak_bytes(env)


def require_memory(name: str, graph: Graph, env: Mapping[Dim, int], limit: int) -> None:
    """Raise `MemoryLimitError` when a graph needs more than `limit` bytes for sizes.

    Arrays whose size does not follow from `env` count nothing: what is refused cannot fit.
    """
    needed = liveness(graph).peak_bytes(env, partial=True)
    if needed > limit:
        raise _refused(name, graph, env, needed, limit)


def memory_limit(machine: int | None = None) -> int:
    """Give the setting `memory_limit`; where it is None, the memory of a device or this machine."""
    limit = config.memory_limit
    if limit is not None:
        return limit
    return machine_memory() if machine is None else machine


def too_large(subject: str, needed: int, limit: int) -> MemoryLimitError:
    """Give the error of a plan that needs more bytes than it may have."""
    return MemoryLimitError(
        f"{subject}: it does not fit in memory.",
        details=[f"needed : {number_text(needed, 'B')}", f"limit  : {number_text(limit, 'B')}"],
        fix="raise the limit, sg.config.set(memory_limit=...), or compute less",
    )


@cache
def machine_memory() -> int:
    """Give the bytes of physical memory, or those that the control group allows if it is less."""
    try:
        physical = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):  # not on Windows
        physical = 0
    found = [number for number in (physical, *_group_limits(Path("/"))) if number > 0]
    return min(found, default=UNKNOWN)


def _group_limits(root: Path) -> list[int]:
    """Read the limits of this process's control group and of those around it, both versions."""
    found = []
    for line in _text(root / "proc/self/cgroup").splitlines():
        number, kinds, path = (*line.split(":", 2), "", "")[:3]
        if number == "0":
            top, file = root / "sys/fs/cgroup", "memory.max"
        elif "memory" in kinds.split(","):
            top, file = root / "sys/fs/cgroup/memory", "memory.limit_in_bytes"
        else:
            continue
        own = top / path.lstrip("/")
        groups = [own, *(group for group in own.parents if group.is_relative_to(top))]
        texts = [_text(group / file).strip() for group in groups]
        found += [int(text) for text in texts if text.isdigit()]  # "max" is no limit
    return found


def _text(file: Path) -> str:
    try:
        return file.read_text()
    except OSError:
        return ""


def _refused(
    name: str, graph: Graph, env: Mapping[Dim, int], needed: int, limit: int
) -> MemoryLimitError:
    peaks = liveness(graph).peaks()
    known = sorted(frozenset().union(*map(free, peaks)) & env.keys(), key=lambda size: size.order)
    formula = _formula(peaks, env)
    details = [f"needed : at least {number_text(needed, 'B')}{formula}"]
    if known:
        details.append(f"sizes  : {', '.join(f'{size} = {env[size]}' for size in known)}")
    details.append(f"limit  : {number_text(limit, 'B')}")
    fits = [text for size in known if (text := _largest(peaks, size, env, limit))]
    return MemoryLimitError(
        f"{name}: it does not fit in memory.",
        details=details,
        fix=" or ".join(fits)
        or "raise the limit, sg.config.set(memory_limit=...), or compute less",
    )


def _formula(peaks: tuple[Size, ...], env: Mapping[Dim, int]) -> str:
    """Give the formula that is the largest for these sizes, unless it is a number."""
    known = [size for size in peaks if free(size) <= env.keys()]
    if not known:
        return ""
    largest = max(known, key=lambda size: evaluate(size, env))
    return f" = {size_text(largest, 'B')}" if free(largest) else ""


def _largest(peaks: tuple[Size, ...], size: Dim, env: Mapping[Dim, int], limit: int) -> str:
    """Say which is the largest size that fits, the others as they are, or nothing."""
    others = {other: number for other, number in env.items() if other is not size}
    if not frozenset().union(*map(free, peaks)) <= {size, *others}:
        return ""
    try:
        found = largest_fit(peaks, size, others, limit)
    except ArgumentError:
        return ""
    return "" if found is None else f"the largest {size} that fits is {found}"
