"""Which of a library's ways to compute an operation is fastest on a device: measured, and kept.

What was chosen is kept on disk, for a device, its driver and the versions of its libraries: a later
process then computes the same bits, and need not measure. With its name is kept what the library
made for it, where it says that this can be read back: then nothing is built again, either.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from functools import partial

from symgraph.backends.cuda.device import Device
from symgraph.backends.cuda.interface import Routine
from symgraph.errors import BackendError
from symgraph.frozen import frozen
from symgraph.runtime.cache import default_cache, key

FORMAT = "fastest ways 2"
RUNS = 5
CLEARLY = 0.97  # of the time of the library's own choice: what is not faster is noise
HOPELESS = 2.0  # times as slow in one run: not run again
MOST_WORKSPACE = 1 << 30  # bytes
MOST_SAVED = 1 << 20  # bytes of a way: those of cuDNN have up to 58 kB

_log = logging.getLogger("symgraph")


@frozen
class Way:
    """A way by its name, and what a routine has saved of it: nothing, or what it can restore."""

    name: str
    saved: bytes = b""

    @property
    def entry(self) -> bytes:
        """What is kept on disk."""
        return self.name.encode() + b"\0" + self.saved


_known: dict[str, Way] = {}


def recalled(device: Device, routine: Routine) -> bool:
    """Take the way that was chosen before; False if the fastest must still be found."""
    name = _key(device, routine)
    if name not in _known:
        _read(name)
    way = _known.get(name)
    if way is not None:
        if way.saved and routine.restore(way.name, way.saved):
            return True
        if routine.choose(way.name):
            _keep(name, routine)
            return True
    if len(routine.alternatives()) > 1:
        return False
    _keep(name, routine)
    return True


def _read(name: str) -> None:
    """Know what is kept on disk."""
    entry = default_cache().get(name)
    if entry is None:
        return
    way, mark, saved = entry.partition(b"\0")
    if not mark or len(saved) > MOST_SAVED:
        _log.warning("cache: what is kept as the fastest way of a library is none: it is measured.")
        return
    _known[name] = Way(way.decode("utf-8", errors="replace"), saved)


def _keep(name: str, routine: Routine) -> None:
    """Keep the way in which a routine computes now, unless that is what is known."""
    saved = routine.saved()
    if len(saved) > MOST_SAVED:
        _log.debug("cache: %d bytes of a way are not kept: %s", len(saved), routine.key)
        saved = b""
    way = Way(routine.implementation, saved)
    if _known.get(name) != way:
        _known[name] = way
        default_cache().put(name, way.entry)


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
    """Run all ways that have the room, on whatever lies at the addresses, and take the fastest.

    A way that fails is none, be it the first. Raises `BackendError` where every way fails.
    """
    first = routine.implementation
    taken: dict[str, float] = {}
    failed: dict[str, str] = {}
    for name in dict.fromkeys([first, *routine.alternatives()]):
        routine.choose(name)
        if routine.workspace > room:
            failed[name] = f"not tried: {routine.workspace:,} bytes to work in are not to be had"
            continue
        try:
            taken[name] = _seconds(device, routine, addresses, workspace, taken.values())
        except BackendError as problem:
            failed[name] = " ".join(str(problem).split())
    if not taken:
        routine.choose(first)
        raise _nothing_works(routine, failed)
    best = min(taken, key=lambda name: taken[name])
    chosen = first if first in taken and taken[best] >= CLEARLY * taken[first] else best
    routine.choose(chosen)
    _keep(_key(device, routine), routine)


def _nothing_works(routine: Routine, failed: Mapping[str, str]) -> BackendError:
    """Give the error that says what each way said."""
    name = routine.key.split(" of ", 1)[0].split("(", 1)[0]
    return BackendError(
        f"{name}: none of the library's ways to compute it works.",
        details=[routine.key, *(f"{way}: {said}" for way, said in failed.items())],
        fix='compile with backend="cpu", and please report this',
    )


def _seconds(
    device: Device,
    routine: Routine,
    addresses: Sequence[int],
    workspace: int,
    others: Iterable[float],
) -> float:
    """Give the least time of a few runs, after one that does not count.

    What is hopeless beside others runs once.
    """
    work = partial(device.call, routine, addresses, workspace)
    work()
    found = device.seconds(work)
    if found > HOPELESS * min(others, default=found):
        return found
    return min([found, *(device.seconds(work) for _ in range(RUNS - 1))])


def _key(device: Device, routine: Routine) -> str:
    return key(FORMAT, device.kind, routine.key)
