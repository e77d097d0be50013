"""What two leaders of nodes need to average AlexNet's weights and momenta, and to meet.

    python benchmarks/leaders.py [--quick]                  over TCP, on the loopback
    mpiexec -n 2 python benchmarks/leaders.py --mpi         over MPI

2 x 61 M float32 in an arena of each, in place; both leaders are on this machine, so that the times
are those of its memory and its system calls, not of a network.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time

from harness import start

import symgraph as sg
from symgraph.parallel import Arena, Team, mpi
from symgraph.parallel.between import averaging
from symgraph.parallel.meeting import listen, meet
from symgraph.parallel.nodes import Nodes
from symgraph.parallel.sockets import SocketLeaders
from symgraph.parallel.team import SocketTeam

NUMBERS = 122_000_000
MEETINGS = 1000
TOKEN = b"a benchmark on the loopback"


def options(parser: argparse.ArgumentParser) -> None:
    """Add what says how leaders meet."""
    parser.add_argument("--mpi", action="store_true", help="started by mpiexec -n 2")
    parser.add_argument("--port", type=int, help=argparse.SUPPRESS)


def team_of(chosen: argparse.Namespace) -> tuple[Team, subprocess.Popen[bytes] | None]:
    """Make two nodes of one worker each; over TCP the other one is started here."""
    if chosen.mpi:
        return mpi.join([0, 1]), None
    with listen() as listener:
        other, rank = None, 0
        addresses = [listener.getsockname()[:2]] * 2
        if chosen.port:
            addresses, rank = [("127.0.0.1", chosen.port)] * 2, 1
        else:
            words = [sys.executable, *sys.argv, "--port", str(addresses[0][1])]
            other = subprocess.Popen(words, stdout=subprocess.DEVNULL)
        peers = meet(rank, addresses, TOKEN, listener, 60.0)
    leaders = SocketLeaders(rank, 2, peers)
    return Nodes(SocketTeam(0, 1, {}), leaders, [[0], [1]], rank), other


def main() -> int:
    """Measure both."""
    os.environ.setdefault("SYMGRAPH_THREADS", "1")
    benchmark = start("leaders", __doc__, rounds=9, options=options)
    team, other = team_of(benchmark.chosen)
    count = NUMBERS // (100 if benchmark.quick else 1)
    variable = sg.shared(sg.zeros((count,)).eval(), "numbers")
    arena = Arena(team, [variable])
    average = averaging(arena)
    exchange, meetings = [], []
    for number in range(benchmark.warmup + benchmark.rounds):
        team.gather()
        begin = time.perf_counter()
        average([0.5, 0.5])
        between = time.perf_counter()
        for _ in range(MEETINGS):
            team.gather()
        if number >= benchmark.warmup:
            exchange.append(between - begin)
            meetings.append((time.perf_counter() - between) / MEETINGS)
    first = team.rank == 0
    arena.close()
    team.close()
    if other is not None:
        other.wait()
    if not first:
        return 0
    way = "MPI" if benchmark.chosen.mpi else "TCP"
    benchmark.limit(f"{count:,} float32 averaged between two leaders, {way}", exchange, 1.0)
    benchmark.limit(f"a barrier of two leaders, {way}", meetings, 1e-3)
    return benchmark.finish()


if __name__ == "__main__":
    sys.exit(main())
