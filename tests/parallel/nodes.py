"""Teams of several nodes in the threads of one process, whose leaders meet over TCP."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from symgraph.parallel import Team
from symgraph.parallel.meeting import listen, meet
from symgraph.parallel.nodes import Nodes
from symgraph.parallel.sockets import SocketLeaders
from symgraph.parallel.team import SocketTeam

T = TypeVar("T")
TOKEN = b"only for this test"


def local(size: int) -> list[SocketTeam]:
    """Connect the workers of a node, each to each."""
    ends: list[dict[int, socket.socket]] = [{} for _ in range(size)]
    for low in range(size):
        for high in range(low + 1, size):
            ends[low][high], ends[high][low] = socket.socketpair()
    return [SocketTeam(rank, size, ends[rank]) for rank in range(size)]


def run_all(works: Sequence[Callable[[], T]], seconds: float = 60.0) -> list[T | Exception]:
    """Run functions at the same time; give what each returned or raised."""
    found: list[Any] = [TimeoutError("still running")] * len(works)

    def run(number: int) -> None:
        try:
            found[number] = works[number]()
        except Exception as problem:  # noqa: BLE001 - it is what is looked at
            found[number] = problem

    threads = [threading.Thread(target=run, args=(n,), daemon=True) for n in range(len(works))]
    for one in threads:
        one.start()
    for one in threads:
        one.join(seconds)
    return found


def leaders(size: int, patience: float = 60.0) -> list[SocketLeaders]:
    """Make leaders that are connected over the loopback."""
    listeners = [listen() for _ in range(size)]
    addresses = [one.getsockname()[:2] for one in listeners]

    def lead(rank: int) -> SocketLeaders:
        peers = meet(rank, addresses, TOKEN, listeners[rank], 30.0)
        return SocketLeaders(rank, size, peers, patience=patience)

    found = run_all([lambda rank=rank: lead(rank) for rank in range(size)])
    for one in listeners:
        one.close()
    assert all(isinstance(one, SocketLeaders) for one in found), found
    return found  # type: ignore[return-value]


def together(
    nodes: Sequence[Sequence[int]], work: Callable[[Team], T], patience: float = 60.0
) -> list[T | Exception]:
    """Run `work` as every rank; `nodes` are the ranks of each. A rank that fails leaves."""
    heads = leaders(len(nodes), patience)
    teams: list[Team] = [Nodes(local(1)[0], None, [[0]], 0)] * sum(map(len, nodes))
    for number, ranks in enumerate(nodes):
        for place, (rank, node) in enumerate(zip(ranks, local(len(ranks)))):
            teams[rank] = Nodes(node, None if place else heads[number], nodes, number)

    def run(team: Team) -> T:
        try:
            return work(team)
        finally:
            team.close()

    return run_all([lambda team=team: run(team) for team in teams])
