"""Which of a library's ways to compute an operation is fastest on a device: measured, and kept.

What was chosen is kept on disk, for a device, its driver and the versions of its libraries: a later
process then computes the same bits, and need not measure.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from symgraph.backends.cuda.device import Device
from symgraph.backends.cuda.interface import Routine
from symgraph.errors import BackendError
from symgraph.runtime.cache import default_cache, key

FORMAT = "fastest ways 1"
RUNS = 5
CLEARLY = 0.97  # of the time of the library's own choice: what is not faster is noise
HOPELESS = 2.0  # times as slow in one run: not run again
MOST_WORKSPACE = 1 << 30  # bytes
_known: dict[str, str] = {}


def recalled(device: Device, routine: Routine) -> bool:
    """Take the way that was chosen before; False if the fastest must still be found."""
    name = _key(device, routine)
    if name not in _known:
        found = default_cache().get(name)
        if found is not None:
            _known[name] = found.decode("utf-8", errors="replace")
    if name in _known and routine.choose(_known[name]):
        return True
    return len(routine.alternatives()) == 1


def most_workspace(routine: Routine) -> int:
    """Give the bytes that the ways which may be tried need at most."""
    first, found = routine.implementation, [routine.workspace]
    for name in routine.alternatives():
        routine.choose(name)
        if routine.workspace <= MOST_WORKSPACE:
            found.append(routine.workspace)
    routine.choose(first)
    return max(found)


def choose_fastest(
    device: Device, routine: Routine, addresses: Sequence[int], workspace: int, room: int
) -> None:
    """Run all ways that have the room, on whatever lies at the addresses, and take the fastest."""
    first = routine.implementation
    taken = {first: _seconds(device, routine, addresses, workspace, None)}
    for name in routine.alternatives():
        routine.choose(name)
        if name not in taken and routine.workspace <= room:
            try:
                taken[name] = _seconds(device, routine, addresses, workspace, min(taken.values()))
            except BackendError:  # it is no way, after all
                continue
    best = min(taken, key=lambda name: taken[name])
    chosen = best if taken[best] < CLEARLY * taken[first] else first
    routine.choose(chosen)
    name = _key(device, routine)
    _known[name] = chosen
    default_cache().put(name, chosen.encode())


def _seconds(
    device: Device, routine: Routine, addresses: Sequence[int], workspace: int, best: float | None
) -> float:
    """Give the least time of a few runs, after one that does not count."""
    work = partial(device.call, routine, addresses, workspace)
    work()
    found = device.seconds(work)
    if best is not None and found > HOPELESS * best:
        return found
    return min([found, *(device.seconds(work) for _ in range(RUNS - 1))])


def _key(device: Device, routine: Routine) -> str:
    return key(FORMAT, device.kind, routine.key)
