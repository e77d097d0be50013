"""Teams of threads, for tests of what workers do together."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from typing import Any, TypeVar

from symgraph.parallel import Team
from symgraph.parallel.team import SocketTeam

T = TypeVar("T")


def make(size: int) -> list[SocketTeam]:
    """Connect each to each."""
    ends: list[dict[int, socket.socket]] = [{} for _ in range(size)]
    for low in range(size):
        for high in range(low + 1, size):
            ends[low][high], ends[high][low] = socket.socketpair()
    return [SocketTeam(rank, size, ends[rank]) for rank in range(size)]


def together(size: int, work: Callable[[Team], T], seconds: float = 60.0) -> list[T | Exception]:
    """Run `work` as every rank; give what each returned or raised. A rank that fails leaves."""
    found: list[Any] = [TimeoutError("still running")] * size

    def run(team: SocketTeam) -> None:
        try:
            found[team.rank] = work(team)
        except Exception as problem:  # noqa: BLE001 - the test looks at it
            found[team.rank] = problem
        finally:
            team.close()

    threads = [threading.Thread(target=run, args=(team,), daemon=True) for team in make(size)]
    for one in threads:
        one.start()
    for one in threads:
        one.join(seconds)
    return found
