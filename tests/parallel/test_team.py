"""Workers meet: everybody's message in order, memory that all see, and ends that are noticed."""

from __future__ import annotations

import os
import threading
import time

import pytest

from symgraph.errors import ArgumentError, PeerLostError
from symgraph.parallel import Alone, Team, join
from symgraph.parallel import team as module
from tests.parallel.teams import make, together


@pytest.mark.parametrize("size", [2, 3, 5])
def test_messages_in_the_order_of_ranks(size: int) -> None:
    def work(team: Team) -> list[list[bytes]]:
        return [team.gather(bytes([team.rank]) * round * 1000) for round in range(4)]

    expected = [[bytes([rank]) * round * 1000 for rank in range(size)] for round in range(4)]
    assert together(size, work) == [expected] * size


def test_nobody_leaves_before_all_came() -> None:
    came = threading.Event()

    def work(team: Team) -> bool:
        if team.rank == 1:
            time.sleep(0.2)
            came.set()
        team.gather()
        return came.is_set()

    assert together(3, work) == [True] * 3


def test_memory_that_all_see_and_no_descriptor_left() -> None:
    before = len(os.listdir("/proc/self/fd"))

    def work(team: Team) -> list[list[int]]:
        regions = team.share(100)
        regions[team.rank][:] = team.rank + 1
        team.gather()
        seen = [sorted(set(region.tolist())) for region in regions]
        team.gather()
        regions[(team.rank + 1) % team.size][team.rank] = 9
        team.gather()
        assert regions[team.rank][(team.rank - 1) % team.size] == 9
        return seen

    assert together(3, work) == [[[1], [2], [3]]] * 3
    assert len(os.listdir("/proc/self/fd")) == before


@pytest.mark.parametrize("how", ["gather", "share"])
def test_a_worker_that_leaves_is_missed_at_once(how: str) -> None:
    def work(team: Team) -> float:
        team.gather()
        if team.rank == 2:
            return 0.0
        began = time.monotonic()
        # The one that misses it first leaves as well, and may be missed in turn.
        with pytest.raises(PeerLostError, match=r"worker \d is gone"):
            team.gather() if how == "gather" else team.share(10)
        return time.monotonic() - began

    found = together(3, work)
    assert all(isinstance(one, float) and one < 1 for one in found), found


def test_a_look_sees_ends_and_nothing_else() -> None:
    first, second, third = make(3)
    first.look()
    second._peers[0].sendall(b"x")  # what was sent before is still to be read
    first.look()
    third.close()
    with pytest.raises(PeerLostError, match="worker 2 is gone"):
        first.look()
    with pytest.raises(PeerLostError, match="worker 0 is gone"):
        second.look()
    first.close()
    second.close()


def test_half_a_message_is_an_end_too() -> None:
    first, second = make(2)
    second._peers[0].sendall(b"\x10\x00\x00\x00half")
    second.close()
    with pytest.raises(PeerLostError, match="worker 1 is gone"):
        first.gather(b"x")
    first.close()


def test_long_waits_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LONG", 0.05)
    told: list[object] = []
    monkeypatch.setattr(module.SocketTeam, "_tell", lambda self, **message: told.append(message))

    def work(team: Team) -> list[bytes]:
        if team.rank == 1:
            time.sleep(0.3)
        return team.gather(b"a")

    assert together(2, work) == [[b"a", b"a"]] * 2
    assert len(told) > 1
    assert told == [{"waiting": 1}] * (len(told) - 1) + [{"came": 1}]


def test_large_messages_are_refused() -> None:
    teams = make(2)
    with pytest.raises(ArgumentError, match="a message of 32769 bytes; at most 32768 are sent"):
        teams[0].gather(b"x" * 32769)
    for team in teams:
        team.close()


def test_alone() -> None:
    team = join()
    assert isinstance(team, Alone)
    assert (team.rank, team.size, team.gather(b"x")) == (0, 1, [b"x"])
    assert [region.size for region in team.share(12)] == [12]
    team.report("here")
    team.close()
