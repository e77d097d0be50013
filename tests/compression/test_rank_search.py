"""Rank search: plateaus and choices of made-up times, what is timed, what is kept, the picture."""

from __future__ import annotations

import math
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import symgraph as sg
from symgraph.compression import DeviceTimer, RankSearch, Work, decompose_layers, rank_search
from symgraph.compression.rank_search import candidates
from symgraph.compression.ranks import factorised, parameters
from symgraph.compression.staircase import Point, choose, plateaus
from symgraph.errors import ArgumentError, ArgumentTypeError
from symgraph.nn import Activation, Conv2d, Dense, Flatten, Sequential
from symgraph.runtime.cache import default_cache

B = sg.dim("B")


def points(times: dict[int, float]) -> list[Point]:
    return [Point((rank,), seconds, 3 * seconds) for rank, seconds in times.items()]


def chosen(times: dict[int, float], dense: float, epsilon: float = 0.05) -> tuple[int, ...]:
    return choose(Point((), dense, 3 * dense), points(times), "forward", epsilon).ranks


def blocks(
    size: int, dense: float = 100.0, asked: list[Work] | None = None
) -> Callable[[Sequence[Work]], list[tuple[float, float]]]:
    """A device that takes a second for each block of ranks that is begun."""

    def timer(works: Sequence[Work]) -> list[tuple[float, float]]:
        if asked is not None:
            asked.extend(works)
        times = [float(sum(math.ceil(rank / size) for rank in work.ranks)) for work in works]
        return [(seconds or dense, 3 * (seconds or dense)) for seconds in times]

    return timer


def net() -> Sequential:
    sg.seed(1)
    return Sequential(
        Conv2d(3, 32, 3, padding=1), Activation("tanh"), Conv2d(32, 32, 3, padding=1),
        Conv2d(32, 32, 1), Conv2d(32, 32, 1), Flatten(), Dense(32 * 16, 64), Dense(64, 4),
    )  # fmt: skip


SHAPE = (2, 3, 4, 4)
LOOKED_AT = ["2", "3", "4", "6"]

# -- the staircase ---------------------------------------------------------------------------------


def test_the_edge_of_the_published_example() -> None:
    """Rank 257 takes 15 % more than 256."""
    times = {rank: 1.0 + 0.001 * (rank - 200) for rank in range(206, 257)}
    times |= {rank: 1.2 + 0.001 * (rank - 200) for rank in range(257, 310)}
    times = {rank: 4 * seconds for rank, seconds in times.items() if rank > 250}
    assert chosen(times, 10.0, epsilon=0.02) == (256,)


def test_times_in_proportion_keep_the_largest_rank() -> None:
    assert chosen({rank: 0.01 * rank for rank in range(100, 201, 10)}, 10.0) == (200,)
    assert chosen({rank: 1 + 0.01 * rank for rank in range(100, 201, 10)}, 10.0) == (200,)
    assert chosen(dict.fromkeys(range(100, 201, 10), 1.0), 10.0) == (200,)


def test_blocks_are_filled() -> None:
    times = {rank: float(math.ceil(rank / 64)) for rank in range(65, 200)}
    assert chosen(times, 100.0) == (192,)
    times = {rank: float(math.ceil(rank / 64)) for rank in range(65, 140)}
    assert chosen(times, 100.0) == (128,)


def test_a_rank_that_is_slow_for_itself_is_not_taken_and_ends_no_plateau() -> None:
    times = {96: 1.0, 100: 1.5, 104: 1.0, 108: 1.4, 112: 1.01, 116: 1.6}
    groups = plateaus(points(times), "forward", 0.05)
    assert [[one.ranks[0] for one in group] for group in groups] == [
        [96, 100, 104, 108, 112],
        [116],
    ]
    assert chosen(times, 100.0) == (112,)


@pytest.mark.parametrize(
    ("dense", "wanted"), [(1.0, ()), (1.04, ()), (1.06, (128,)), (9.0, (128,))]
)
def test_a_layer_stays_dense_where_factors_do_not_pay(
    dense: float, wanted: tuple[int, ...]
) -> None:
    assert chosen({96: 1.0, 128: 1.0, 160: 2.0}, dense) == wanted


def test_noise_within_epsilon_changes_nothing(rng: np.random.Generator) -> None:
    times = {rank: float(math.ceil(rank / 64)) for rank in range(70, 140, 3)}
    wanted = chosen(times, 100.0)
    assert wanted == (127,)
    for _ in range(20):
        noisy = {rank: s * (1 + 0.02 * rng.random()) for rank, s in times.items()}
        assert chosen(noisy, 100.0) == wanted


def test_the_direction_is_that_of_the_time_that_counts() -> None:
    low, high = Point((32,), 1.0, 9.0), Point((64,), 1.9, 10.0)
    dense = Point((), 50.0, 50.0)
    assert choose(dense, [low, high], "forward", 0.01) == high
    low = low._replace(forward=0.5)
    assert choose(dense, [low, high], "forward", 0.01) == low
    assert choose(dense, [low, high], "both", 0.01) == high


# -- candidates ------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(768, 768), (512, 512, 3, 3), (64, 128, 3, 3), (256, 64, 1, 1)])
def test_candidates_lie_between_two_ratios(shape: tuple[int, ...]) -> None:
    found = candidates(shape, 2, 16, 100)
    assert [ranks[0] for ranks in found] == sorted({ranks[0] for ranks in found})
    counts = [parameters(shape, ranks) for ranks in found]
    assert counts[-1] <= parameters(shape) / 2
    assert counts[0] <= parameters(shape) / 3 <= counts[0] * 1.1
    assert all(ranks[0] % 16 == 0 for ranks in found[1:-1])
    few = candidates(shape, 2, 1, 4)
    assert len(few) == 4
    assert (few[0], few[-1]) == (found[0], found[-1])


# -- the search ------------------------------------------------------------------------------------


def test_a_network() -> None:
    subject = net()
    asked: list[Work] = []
    search = rank_search(subject, SHAPE, step=1, most=99, timer=blocks(8, asked=asked))
    assert list(search.ranks) == LOOKED_AT
    assert search.ranks == {"2": (16, 16), "3": (8,), "4": (8,), "6": (24,)}
    assert len(asked) == len(set(asked))  # of layers that are alike one is measured
    assert {work.input for work in asked} == {(2, 32, 4, 4), (2, 512)}
    assert all(work.moves == (1, 1, 1) for work in asked if work.shape == (32, 32, 3, 3))
    assert search.seconds == (4 * 300.0, 3 * (4 + 1 + 1 + 3.0))
    assert "3 and 1 like it: rank 8, 300 s -> 3 s" in str(search.staircases[1])
    report = decompose_layers(subject, ranks=search.ranks)
    assert report.ranks == search.ranks


def test_the_stream_of_random_numbers_is_as_before() -> None:
    subject = net()
    before = sg.random.default_stream().state()
    rank_search(subject, SHAPE, timer=blocks(4))
    assert sg.random.default_stream().state() == before


def test_a_fast_dense_layer_stays() -> None:
    search = rank_search(net(), SHAPE, timer=blocks(4, dense=2.2))
    assert set(search.ranks.values()) == {(), (8,)}
    assert search.ranks["6"] == ()
    assert "6: stays dense, 6.6 s: factors save less than 5 %" in str(search.staircases[-1])
    assert "6" not in decompose_layers(net(), ranks=search.ranks).ranks


def test_what_has_no_fewer_flops_is_not_run() -> None:
    """A stride of four in front: the first factor works on sixteen times the pixels."""
    subject = Sequential(Conv2d(32, 32, 3, stride=4))

    asked: list[Work] = []
    search = rank_search(subject, (2, 32, 35, 35), timer=blocks(4, asked=asked))
    assert [work.ranks for work in asked] == [()]  # the dense layer takes its time nevertheless
    assert search.ranks == {"0": ()}
    assert "0: stays dense, 300 s: factors have no fewer FLOPs" in str(search.staircases[0])
    assert search.seconds == (300.0, 300.0)
    assert search.within(301.0) == {"0": ()}
    with pytest.raises(ArgumentError, match="all layers together take 300 s at least"):
        search.within(299.0)


def test_a_layer_in_two_places_is_timed_in_both() -> None:
    layer = Dense(32, 32)
    asked: list[Work] = []
    x = sg.tensor("x", (2, 5, 32))
    search = rank_search(Sequential(layer), layer(layer(x)[:, 0]), timer=blocks(4, asked=asked))
    assert {work.input for work in asked} == {(2, 5, 32), (2, 32)}
    assert search.staircases[0].dense.forward == 200.0


def test_a_budget_is_met_at_the_least_loss() -> None:
    subject = net()
    layer = subject[3]  # which has nothing to lose
    assert isinstance(layer, Conv2d)
    last, first = factorised(layer.weight.value, (4,)).weights[::-1]
    layer.weight.value = (last[:, :, 0, 0] @ first[:, :, 0, 0])[..., None, None].astype(np.float32)
    search = rank_search(subject, SHAPE, layers=["3", "6"], step=1, timer=blocks(4, dense=20.0))
    assert search.within(1e9) == {"3": (), "6": ()}
    first = search.within(119.0)  # both take 60 seconds dense
    assert first["6"] == ()
    assert first["3"]
    whole = search.within(40.0)
    by_name = {name: one for one in search.staircases for name in one.names}
    assert sum(by_name[name].at(ranks) for name, ranks in whole.items()) <= 40.0
    with pytest.raises(
        ArgumentError, match=r"all layers together take .* s at least, more than 1 s"
    ):
        search.within(1.0)


# -- the clock -------------------------------------------------------------------------------------


class Clock:
    """Every second look is later by the next of some durations."""

    def __init__(self, durations: list[float]) -> None:
        self.durations, self.now, self.looks = durations, 0.0, 0

    def __call__(self) -> float:
        if self.looks % 2:
            self.now += self.durations[self.looks // 2 % len(self.durations)]
        self.looks += 1
        return self.now


WORK = Work((16, 24), (3, 16), (4,))
FILTERS = Work((16, 8, 3, 3), (2, 8, 6, 6), (4, 8), moves=(2, 1, 1))


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path) -> Any:
    with sg.config(cache=str(tmp_path / "cache")):
        yield


@pytest.mark.parametrize("work", [WORK, FILTERS, replace(FILTERS, ranks=())])
def test_a_time_is_the_median_of_what_counts(work: Work) -> None:
    """Two runs that do not count, then three."""
    clock = Clock([9.0, 9.0, 1.0, 5.0, 2.0])
    assert DeviceTimer("reference", repeats=3, clock=clock)([work]) == [(2.0, 2.0)]
    assert clock.looks == 2 * 2 * 5


def test_layers_take_turns() -> None:
    """Another one begins each round; a slow moment in one round changes nobody's median."""
    works = [WORK, replace(WORK, ranks=())]
    #         first second | second first | first second | second first | first second
    rounds = [1.0, 2.0,      2.0, 1.0,      1.0, 2.0,      9.0, 9.0,      1.0, 2.0]  # fmt: skip
    clock = Clock(rounds)
    assert DeviceTimer("reference", repeats=3, clock=clock)(works) == [(1.0, 1.0), (2.0, 2.0)]


def test_times_are_kept_by_all_that_they_depend_on() -> None:
    clock = Clock([1.0])
    timer = DeviceTimer("reference", repeats=1, clock=clock)
    assert timer([WORK]) == [(1.0, 1.0)]
    looks = clock.looks
    assert timer([WORK]) == [(1.0, 1.0)]
    assert DeviceTimer("reference", repeats=1, clock=Clock([7.0]))([WORK]) == [(1.0, 1.0)]
    assert clock.looks == looks
    others: list[tuple[DeviceTimer, Work]] = [
        (timer, replace(WORK, ranks=(5,))), (timer, replace(WORK, input=(4, 16))),
        (timer, replace(WORK, dtype="float64")), (replace(timer, precision="bf16"), WORK),
        (replace(timer, anew=True), WORK), (replace(timer, repeats=2), WORK),
    ]  # fmt: skip
    for each, work in others:
        before = clock.looks
        each([work])
        assert clock.looks > before


def test_what_was_kept_and_is_damaged_is_measured_again() -> None:
    timer = DeviceTimer("reference", repeats=1, clock=Clock([1.0]))
    cache = default_cache()
    for data in (b"[1.0]", b"[1.0, -2.0]", b"{}", b"[", b"[1.0, " + b"2" * 300 + b"]"):
        cache.put(timer._key(WORK), data)
        assert timer([WORK]) == [(1.0, 1.0)]


@pytest.mark.full
def test_a_search_on_this_machine() -> None:
    """Whatever the times are: ranks that a network can have, from real runs."""
    subject = net()
    search = rank_search(subject, SHAPE, most=2, timer=DeviceTimer(repeats=3))
    assert list(search.ranks) == LOOKED_AT
    assert all(one.dense.forward > 0 for one in search.staircases)
    decompose_layers(subject, ranks=search.ranks)
    assert sg.function([x := sg.tensor("x", SHAPE)], subject(x))(np.ones(SHAPE, np.float32)).any()


# -- the picture -----------------------------------------------------------------------------------


def test_the_picture_shows_what_was_chosen(tmp_path: Path) -> None:
    search = rank_search(net(), SHAPE, step=1, most=99, timer=blocks(8))
    path = search.draw(tmp_path / "stairs.svg")
    root = ElementTree.fromstring(path.read_text())
    name = "{http://www.w3.org/2000/svg}"
    words = [one.text or "" for one in root.iter(f"{name}text")]
    assert {"2", "3 (x 2)", "6"} <= set(words)
    assert any("forward and backward: rank 16 x 16" in one for one in words)
    dots = list(root.iter(f"{name}circle"))
    assert len(dots) == sum(len(one.points) for one in search.staircases)
    assert len([one for one in dots if one.get("r") == "5.5"]) == 3
    assert RankSearch((), net()).draw(tmp_path / "none.svg").read_text().startswith("<svg")


# -- wrong calls -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"layers": ["nine"]}, "no layer to search ranks for is called 'nine'"),
        ({"step": 0}, "step=0, most=8, epsilon=0.05, direction='both' do not fit"),
        ({"most": 1}, "most=1"),
        ({"epsilon": 1.0}, "epsilon=1.0"),
        ({"direction": "sideways"}, "direction='sideways'"),
        ({"ratio": 0.2}, "the ratio must be >= 1"),
        ({"step": 1.5}, "step must be an int"),
        ({"layers": "6"}, "layers must be a list of names, got the text '6'"),
        ({"timer": lambda works: [(1.0, 2.0)]}, r"two finite times above 0 for each of \d+ works"),
        ({"timer": lambda works: [(0.0, 0.0)] * len(works)}, r"got \[\(0.0, 0.0\)"),
    ],
)
def test_wrong_options(options: dict[str, Any], text: str) -> None:
    with pytest.raises((ArgumentError, ArgumentTypeError), match=text):
        rank_search(net(), SHAPE, **{"timer": blocks(4), **options})


def test_wrong_subjects() -> None:
    subject = net()
    free = subject(sg.tensor("x", (B, 3, 4, 4)))
    with pytest.raises(ArgumentError, match="the input of 6 has sizes without numbers"):
        rank_search(subject, free, layers=["6"], timer=blocks(4))
    with pytest.raises(ArgumentTypeError, match="a size of the example must be an int"):
        rank_search(net(), (B, 3, 4, 4), timer=blocks(4))
    with pytest.raises(ArgumentError, match="repeats must be >= 1, got 0"):
        DeviceTimer(repeats=0)
    with pytest.raises(ArgumentError, match="the seconds must be above 0, got nan"):
        RankSearch((), net()).within(math.nan)
    with pytest.raises(ArgumentError, match="the network is one Dense"):
        rank_search(Dense(32, 32), (2, 32), timer=blocks(4))
