"""Averages over several nodes: the right number, the same bits on every rank, and never a hang."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import symgraph as sg
from symgraph.errors import PeerLostError, WorkerError
from symgraph.parallel import Arena, Averaging, Team, between, sockets
from symgraph.parallel import team as teams
from symgraph.parallel.launch import LOST
from symgraph.parallel.meeting import listen
from symgraph.parallel.nodes import Nodes
from symgraph.parallel.sockets import SocketLeaders
from symgraph.runtime.process import start
from tests.parallel.nodes import leaders, local, run_all, together
from tests.parallel.runs import until

LAYOUTS: list[list[list[int]]] = [
    [[0], [1]],
    [[0, 1], [2, 3]],
    [[0, 1, 2], [3], [4, 5]],
    [[0, 2, 4], [1, 3]],  # as `mpiexec --map-by node` places them
]
SIZES = (7, 1, 33, 5000)


def numbers(rank: int, dtype: Any = np.float32) -> list[np.ndarray]:
    """Give arrays of which every rank has others."""
    random = np.random.default_rng(rank)
    return [random.standard_normal(size).astype(dtype) for size in SIZES]


def averaged(team: Team, shares: Sequence[float], dtype: Any = np.float32) -> list[np.ndarray]:
    """Average the arrays of a rank with those of others."""
    variables = [sg.shared(one, f"v{n}") for n, one in enumerate(numbers(0, dtype))]
    arena = Arena(team, variables)
    for variable, own in zip(variables, numbers(team.rank, dtype)):
        variable.value = own
    arena.collect()
    team.gather()
    between.averaging(arena)(shares)
    found = [np.array(one.value) for one in variables]
    team.gather()
    arena.close()
    return found


def weighted_mean(shares: Sequence[float], dtype: Any = np.float32) -> list[np.ndarray]:
    ranks = [numbers(rank, dtype) for rank in range(len(shares))]
    return [
        sum(share * of[n].astype(np.float64) for share, of in zip(shares, ranks) if share)
        for n in range(len(SIZES))
    ]  # type: ignore[misc]


def some_shares(size: int) -> list[float]:
    counts = [3 + (5 * rank) % 4 for rank in range(size)]
    return [count / sum(counts) for count in counts]


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make several rounds of a few numbers."""
    monkeypatch.setattr(between, "CHUNK", 4096)


@pytest.mark.parametrize("nodes", LAYOUTS, ids=str)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_average_is_the_weighted_mean_with_the_same_bits_everywhere(
    nodes: list[list[int]], dtype: Any, small_chunks: None
) -> None:
    shares = some_shares(sum(map(len, nodes)))
    found = together(nodes, lambda team: averaged(team, shares, dtype))
    tolerance = 1e-6 if dtype is np.float32 else 1e-14
    for rank, arrays in enumerate(found):
        assert isinstance(arrays, list), (rank, arrays)
        for one, first, right in zip(arrays, found[0], weighted_mean(shares, dtype)):
            assert one.tobytes() == first.tobytes()
            np.testing.assert_allclose(one, right, rtol=tolerance, atol=tolerance)


def test_it_equals_the_average_of_one_node_and_the_arena_of_one_node_is_as_before() -> None:
    shares = some_shares(4)
    two = together([[0, 1], [2, 3]], lambda team: averaged(team, shares))
    workers = local(4)
    one = run_all([lambda team=team: averaged(team, shares) for team in workers])
    for team in workers:
        team.close()
    for ours, theirs in zip(two[0], one[0]):  # type: ignore[arg-type]
        np.testing.assert_allclose(ours, theirs, rtol=1e-6, atol=1e-6)
    assert isinstance(run_all([lambda: between.averaging(Arena(local(1)[0], []))])[0], Averaging)


@pytest.mark.parametrize("late", range(4))
def test_who_comes_late_changes_no_bit(late: int, small_chunks: None) -> None:
    shares = some_shares(4)

    def work(team: Team, wait: bool) -> list[np.ndarray]:
        time.sleep(0.2 * (wait and team.rank == late))
        return averaged(team, shares)

    first = together([[0, 1], [2, 3]], lambda team: work(team, False))
    again = together([[0, 1], [2, 3]], lambda team: work(team, True))
    for one, two in zip(first[0], again[0]):  # type: ignore[arg-type]
        assert one.tobytes() == two.tobytes()


def test_nodes_and_ranks_without_a_share_do_not_count() -> None:
    def work(team: Team, shares: list[float]) -> list[np.ndarray]:
        variable = sg.shared(np.zeros(9, np.float32), "v")
        arena = Arena(team, [variable])
        value = np.nan if shares[team.rank] == 0 else team.rank + 1.0
        variable.value = np.full(9, value, np.float32)
        arena.collect()
        team.gather()
        between.averaging(arena)(shares)
        return [np.array(variable.value)]

    for shares, right in (([0.75, 0.25, 0.0, 0.0], 1.25), ([0.5, 0.0, 0.5, 0.0], 2.0)):
        for one in together([[0, 1], [2, 3]], lambda team, s=shares: work(team, s)):
            np.testing.assert_array_equal(one[0], np.full(9, right, np.float32))  # type: ignore


def test_all_start_with_the_numbers_of_rank_0(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("symgraph.parallel.arena.CHUNK", 1000)

    def work(team: Team) -> list[np.ndarray]:
        variables = [sg.shared(one, f"v{n}") for n, one in enumerate(numbers(team.rank))]
        arena = Arena(team, variables)
        found = [np.array(one.value) for one in variables]
        team.gather()
        arena.close()
        return found

    for arrays in together([[0, 2], [1, 3]], work):
        for one, right in zip(arrays, numbers(0)):  # type: ignore[arg-type]
            assert one.tobytes() == right.tobytes()


def test_words_reach_all_in_the_order_of_ranks() -> None:
    words = [b"", b"one", b"2" * 1000, b"three", b"\0"]
    found = together([[0, 2, 4], [1, 3]], lambda team: team.gather(words[team.rank]))
    assert found == [words] * 5


def test_a_step_of_two_nodes_is_the_step_of_one_worker_on_the_whole_batch() -> None:
    images = np.random.default_rng(5).standard_normal((12, 6)).astype(np.float32)

    def work(team: Team) -> tuple[float, np.ndarray]:
        x, w = sg.matrix("x"), sg.shared(np.linspace(-1, 1, 6).astype(np.float32), "w")
        optimizer = sg.optim.SGD([w], lr=0.1, momentum=0.9)
        loss = ((x @ w) ** 2).mean()
        step = sg.parallel.train_step(team, [x], loss, optimizer, average="params")
        part = 12 // team.size
        for _ in range(3):
            done = step(images[team.rank * part :][:part], row=team.rank * part)
        found = np.array(w.value)
        team.gather()
        step.close()
        return done.loss, found

    right = work(sg.parallel.Alone())
    for loss, found in together([[0, 1], [2, 3]], work):  # type: ignore[misc]
        assert loss == pytest.approx(right[0], rel=1e-5)
        np.testing.assert_allclose(found, right[1], rtol=1e-5)


# -- failures --------------------------------------------------------------------------------------


@pytest.mark.parametrize("dead", range(4))
def test_a_death_in_an_average_is_seen_at_once_on_every_rank(dead: int) -> None:
    def work(team: Team) -> float:
        arena = Arena(team, [sg.shared(np.zeros(1 << 20, np.float32), "v")])
        average = between.averaging(arena)
        team.gather()
        if team.rank == dead:
            raise RuntimeError("dies")
        while True:
            average([0.25] * 4)

    start = time.monotonic()
    found = together([[0, 1], [2, 3]], work)
    assert time.monotonic() - start < 20
    for rank, problem in enumerate(found):
        assert isinstance(problem, RuntimeError if rank == dead else PeerLostError), (rank, problem)


@pytest.mark.parametrize("dead", range(5))
def test_all_know_of_a_death_before_the_first_that_noticed_has_ended(dead: int) -> None:
    """Whoever notices is busy for seconds, as with closing files, before its sockets close."""
    noticed: list[float] = []
    all_noticed = threading.Event()

    def work(team: Team) -> None:
        team.gather()
        if team.rank == dead:
            return
        with pytest.raises(PeerLostError):
            deque(iter(team.gather, None))  # the dead one may not have left yet
        noticed.append(time.monotonic())
        if len(noticed) == team.size - 1:
            all_noticed.set()
        all_noticed.wait(5.0)

    found = together([[0, 1], [2, 3], [4]], work)
    assert found == [None] * 5
    assert len(noticed) == 4
    assert max(noticed) - min(noticed) < 1.0


def test_a_death_is_seen_while_another_one_is_waited_for(opened: list[Any]) -> None:
    heads = leaders(3)
    opened.extend(heads)
    began = time.monotonic()
    heads[2].close()
    with pytest.raises(PeerLostError, match="worker 2 is gone"):
        heads[0].gather(b"x")  # to which leader 1 never comes
    assert time.monotonic() - began < 1.0


def test_a_leader_that_announces_a_huge_message_is_refused(opened: list[Any]) -> None:
    first, second = leaders(2)
    opened.extend((first, second))
    second._peers[0].sendall(b"\xff\xff\xff\xffmore")
    with pytest.raises(WorkerError, match="worker 1 announces a message of 4294967295 bytes"):
        first.gather(b"x")


@pytest.mark.full
@pytest.mark.parametrize("dead", range(4))
def test_a_killed_process_is_missed_by_all_within_a_second(dead: int, tmp_path: Path) -> None:
    """Two launchers as on two machines; every worker writes down when it missed another one.

    On a busy machine it takes the system itself a moment to end a process that was killed.
    """
    nodes = [[0, 1], [2, 3]]
    doors = [listen() for _ in nodes]
    program = Path(__file__).with_name("node_program.py")
    job = {
        "command": [sys.executable, str(program), str(tmp_path)],
        "nodes": nodes, "token": "00" * 32, "patience": 60,
        "addresses": [one.getsockname()[:2] for one in doors],
    }  # fmt: skip
    parts = []
    for number, door in enumerate(doors):
        report = os.open(tmp_path / f"report.{number}", os.O_WRONLY | os.O_CREAT)
        held = {"listener": door.fileno(), "report": report}
        command = [sys.executable, "-m", "symgraph.parallel.part"]
        part = start(command, list(held.values()), {}, stdin=subprocess.PIPE)
        assert part.stdin is not None
        part.stdin.write(json.dumps({**job, **held, "number": number}).encode())
        part.stdin.close()
        parts.append(part)
        os.close(report)
        door.close()
    ready = [tmp_path / f"ready.{rank}" for rank in range(4)]
    assert until(lambda: all(one.exists() and one.read_text() for one in ready))
    killed = time.monotonic()
    os.kill(int(ready[dead].read_text()), signal.SIGKILL)
    assert [part.wait(60.0) for part in parts] == [0, 0]
    missed = [tmp_path / f"missed.{rank}" for rank in range(4) if rank != dead]
    waited = [float(one.read_text()) - killed for one in missed]
    assert max(waited) - min(waited) < 1.0, waited
    assert max(waited) < 5.0, waited
    reports = [json.loads((tmp_path / f"report.{n}").read_text()) for n in range(2)]
    assert f"worker {dead} (process" in reports[dead // 2]["reason"]
    assert reports[1 - dead // 2]["status"] == LOST


def test_a_leader_that_is_silent_is_named_after_the_patience(
    monkeypatch: pytest.MonkeyPatch, opened: list[Any]
) -> None:
    monkeypatch.setattr(teams, "LONG", 0.1)
    first, second = leaders(2, patience=0.3)
    opened.extend((first, second))
    with pytest.raises(WorkerError, match="waiting for node 1"):
        first.gather(b"x")
    second.close()
    with pytest.raises(PeerLostError):
        first.gather(b"x")


def test_leaders_that_wait_say_so_to_their_launcher(
    monkeypatch: pytest.MonkeyPatch, opened: list[Any]
) -> None:
    monkeypatch.setattr(sockets, "LONG", 0.05)
    first, second = leaders(2)
    opened.extend((first, second))
    said: list[str] = []
    first._report = said.append
    buffer = np.zeros(8, np.uint8)
    waiting = threading.Thread(target=first.exchange, args=({}, {1: [buffer]}))
    waiting.start()
    time.sleep(0.3)
    second.exchange({0: [np.arange(8, dtype=np.uint8)]}, {})
    waiting.join(10)
    assert buffer.tolist() == list(range(8))
    assert said
    assert said[0].startswith("waiting for node 1")


def test_nodes_share_no_memory() -> None:
    (one,) = local(1)
    with pytest.raises(WorkerError, match="share no memory"):
        Nodes(one, None, [[0], [1]], 0).share(8)
    with pytest.raises(WorkerError, match="share no memory"):
        SocketLeaders(0, 1, {}).share(8)
