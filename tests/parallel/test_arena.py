"""Variables in memory that all workers reach, and their averages."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import symgraph as sg
from symgraph.errors import ArgumentError, MemoryLimitError, PeerLostError, WorkerError
from symgraph.graph.dtypes import itemsize, numpy_dtype
from symgraph.parallel import Alone, Arena, Averaging, Team
from symgraph.parallel.arena import shard
from tests.parallel.teams import together

DTYPES = ("float32", "float64", "bfloat16", "float16")
ODD = ((3, 5), (), (0, 2), (1,), (257,), (33, 65))


def variables(rank: int, dtypes: tuple[str, ...] = DTYPES) -> list[sg.Shared]:
    random = np.random.default_rng(rank)
    return [
        sg.shared(random.normal(size=shape).astype(numpy_dtype(dtype)), f"{dtype}{shape}")
        for shape in ODD
        for dtype in dtypes
    ]


@pytest.mark.parametrize("size", [1, 2, 3])
def test_all_start_from_rank_0(size: int) -> None:
    def work(team: Team) -> bool:
        own = variables(team.rank)
        arena = Arena(team, own)
        for one, expected in zip(own, variables(0)):
            np.testing.assert_array_equal(one.value, expected.value)
            assert one.storage.array.ctypes.data % 64 == 0
        team.gather()
        own[0].value = own[0].value + team.rank  # an assignment makes a new array
        arena.collect()
        assert np.may_share_memory(own[0].storage.array, arena.regions[team.rank])
        arena.close()
        np.testing.assert_array_equal(own[0].value, variables(0)[0].value + team.rank)
        return True

    assert together(size, work) == [True] * size


@pytest.mark.parametrize("backend", ["cpu", "reference"])
@pytest.mark.parametrize("counts", [(1, 1), (5, 3), (2, 0), (1, 1, 1), (4, 0, 3), (3, 3, 3, 2)])
def test_weighted_means(
    counts: tuple[int, ...], backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    size, shares = len(counts), np.array(counts) / sum(counts)
    monkeypatch.setenv("SYMGRAPH_BACKEND", backend)

    def work(team: Team) -> list[np.ndarray]:
        own = variables(team.rank)
        arena = Arena(team, own)
        for one, start in zip(own, variables(team.rank)):
            one.value = start.value
        averaging, versions = Averaging(arena), [one.storage.version for one in own]
        arena.collect()
        team.gather()
        averaging(shares.tolist())
        assert all(one.storage.version > v for one, v in zip(own, versions))
        return [one.value for one in own]

    found = together(size, work)
    starts = [variables(rank) for rank in range(size)]
    for number, one in enumerate(starts[0]):
        for rank in range(1, size):
            assert found[rank][number].tobytes() == found[0][number].tobytes()  # type: ignore
        wide = [start[number].value.astype(np.float64) for start in starts]
        expected = sum(share * x for share, x in zip(shares, wide))
        close = {"float64": 1e-15, "float32": 3e-7, "float16": 2e-3, "bfloat16": 1e-2}[one.dtype]
        np.testing.assert_allclose(
            found[0][number].astype(np.float64), expected, rtol=close, atol=close  # type: ignore
        )  # fmt: skip


def test_what_agrees_stays_bit_by_bit() -> None:
    def work(team: Team) -> bool:
        own = variables(0)
        arena = Arena(team, own)
        averaging = Averaging(arena)
        for _ in range(3):
            team.gather()
            averaging([0.3, 0.5, 0.2])
        return all(
            one.value.tobytes() == start.value.tobytes() for one, start in zip(own, variables(0))
        )

    assert together(3, work) == [True] * 3


def test_without_a_share_not_even_nan_counts() -> None:
    def work(team: Team) -> Any:
        one = sg.shared(np.float32([1, 2]), "w")
        arena = Arena(team, [one])
        averaging = Averaging(arena)
        one.value = np.float32([1, 3] if team.rank == 0 else [np.nan, np.inf])
        arena.collect()
        team.gather()
        averaging([1.0, 0.0])
        return one.value.tolist()

    assert together(2, work) == [[1, 3]] * 2


@pytest.mark.parametrize("size", [1, 2, 3, 7, 200])
def test_shards_are_all_of_it_once(size: int) -> None:
    def work(team: Team) -> bool:
        arena = Arena(team, variables(0))
        for segment in arena.segments:
            parts = [shard(segment, rank, size) for rank in range(size)]
            ends = [0, *(part.stop for part in parts)]
            assert [part.start for part in parts] == ends[:-1]
            assert ends[-1] * itemsize(segment.dtype) == segment.end - segment.start
        return True

    assert together(1, work) == [True]


def test_other_variables_on_another_rank() -> None:
    def work(team: Team) -> Any:
        return Arena(team, [sg.shared(np.zeros(3 + team.rank, np.float32), "w")])

    for problem in together(2, work):
        assert isinstance(problem, WorkerError)
        assert "have different variables" in str(problem) or isinstance(problem, PeerLostError)


def test_memory_that_is_not_shared_is_noticed() -> None:
    class Blind(Alone):
        size = 2

        def gather(self, message: bytes = b"") -> list[bytes]:
            return [message, message]

        def share(self, size: int) -> list[Any]:
            return [np.zeros(size, np.uint8), np.zeros(size, np.uint8)]

    with pytest.raises(WorkerError, match=r"workers \[0, 1\] do not see the memory"):
        Arena(Blind(), [sg.shared(np.zeros(3, np.float32), "w")])


def test_what_cannot_be_averaged() -> None:
    w = sg.shared(np.zeros(3, np.float32), "w")
    with pytest.raises(ArgumentError, match="`w` is listed twice"):
        Arena(Alone(), [w, w])
    with pytest.raises(ArgumentError, match=r"`n` is int64; only floats are averaged"):
        Arena(Alone(), [sg.shared(0, "n")])
    with sg.config(memory_limit=100), pytest.raises(MemoryLimitError, match="arena of 1 workers"):
        Arena(Alone(), [sg.shared(np.zeros(26, np.float32), "w")])
    assert w.storage.array.flags.owndata  # nothing was moved


@pytest.mark.parametrize("first", [np.nan, 1e8])
def test_the_first_rank_may_be_without_a_share(first: float) -> None:
    """What others are compared with is a rank that counts."""

    def work(team: Team) -> Any:
        one = sg.shared(np.float32(0), "w")
        arena = Arena(team, [one])
        averaging = Averaging(arena)
        one.value = np.float32([first, 3.14159, 2.0][team.rank])
        arena.collect()
        team.gather()
        averaging([0.0, 1.0, 0.0])
        return float(one.value)

    assert together(3, work) == [float(np.float32(3.14159))] * 3
