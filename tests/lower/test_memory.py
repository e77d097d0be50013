"""The memory plan: nothing overlaps that is live at once, and little is wasted."""

from __future__ import annotations

import random
from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from symgraph.errors import ArgumentError
from symgraph.lower.memory import ALIGN, MOST_MARKS, Interval, MemoryPlan, plan_memory


def rounded(size: int) -> int:
    return (size + ALIGN - 1) // ALIGN * ALIGN


def shares(a: int, b: int, intervals: list[Interval], plan: MemoryPlan) -> bool:
    """Whether `b` may stand in the place of `a`, and does."""
    return intervals[b].inplace == a and plan.offsets[a] == plan.offsets[b]


def require_sound(intervals: list[Interval], plan: MemoryPlan) -> None:
    """Check a plan against what it promises, pair by pair."""
    assert len(plan.offsets) == len(intervals)
    assert all(offset >= 0 and offset % ALIGN == 0 for offset in plan.offsets)
    ends = [offset + rounded(each.size) for offset, each in zip(plan.offsets, intervals)]
    assert plan.total == max(ends, default=0)
    assert plan.total >= plan.lower_bound
    heirs: dict[int, int] = {}
    for b, later in enumerate(intervals):
        for a in range(b):
            earlier = intervals[a]
            if later.first > earlier.last or earlier.first > later.last:
                continue
            if plan.offsets[a] >= ends[b] or plan.offsets[b] >= ends[a]:
                continue
            if not later.size or not earlier.size:
                continue  # nothing overlaps with nothing
            old, new = (a, b) if shares(a, b, intervals, plan) else (b, a)
            assert shares(old, new, intervals, plan), (a, b, earlier, later)
            assert rounded(intervals[new].size) <= rounded(intervals[old].size)
            assert intervals[old].first < intervals[new].first == intervals[old].last
            assert heirs.setdefault(old, new) == new, "two in the same place"


def live_bytes(intervals: list[Interval]) -> int:
    """Give the largest sum of live sizes where nothing is computed in place."""
    return max(
        (
            sum(rounded(each.size) for each in intervals if each.first <= step <= each.last)
            for step in {each.first for each in intervals}
        ),
        default=0,
    )


@st.composite
def any_intervals(draw: st.DrawFn) -> list[Interval]:
    """Intervals of every kind, many of them at the same steps, some in place of others."""
    count = draw(st.integers(0, 24))
    found: list[Interval] = []
    for _ in range(count):
        size = draw(st.sampled_from([0, 1, 64, 65, 128, 200, 1000, 4096]))
        place = draw(st.none() | st.integers(0, len(found) - 1)) if found else None
        first = draw(st.integers(0, 12)) if place is None else found[place].last
        found.append(Interval(size, first, first + draw(st.integers(0, 8)), place))
    return found


def trained(rng: random.Random, layers: int) -> list[Interval]:
    """The buffers of a network that is trained: forwards, then backwards to step 2 * layers."""
    found = []
    for layer in range(layers):
        back = 2 * layers - layer
        size = int(2 ** rng.uniform(8, 24))
        found.append(Interval(size, layer, back))
        found.append(Interval(int(2 ** rng.uniform(6, 24)), layer, layer + rng.randint(0, 2)))
        found.append(Interval(size, back - 1, back + rng.randint(0, 1)))
        found.append(Interval(int(2 ** rng.uniform(6, 20)), back, rng.choice([back, 3 * layers])))
    return found


@given(any_intervals())
def test_a_plan_is_sound_and_repeatable(intervals: list[Interval]) -> None:
    plan = plan_memory(intervals)
    require_sound(intervals, plan)
    assert plan == plan_memory(list(intervals))
    assert plan.lower_bound <= live_bytes(intervals)
    if all(each.inplace is None for each in intervals):
        assert plan.lower_bound == live_bytes(intervals)


@given(st.lists(st.integers(0, 1 << 24), max_size=60))
def test_activations_that_are_nested_waste_nothing(sizes: list[int]) -> None:
    last = 2 * len(sizes)
    intervals = [Interval(size, layer, last - layer) for layer, size in enumerate(sizes)]
    plan = plan_memory(intervals)
    require_sound(intervals, plan)
    assert plan.total == plan.lower_bound == live_bytes(intervals)


@given(st.randoms(use_true_random=False), st.integers(1, 60))
def test_training_wastes_little(rng: random.Random, layers: int) -> None:
    intervals = trained(rng, layers)
    plan = plan_memory(intervals)
    require_sound(intervals, plan)
    assert plan.total <= 1.25 * plan.lower_bound


def best_total(intervals: list[Interval]) -> int:
    """Give the total of the best plan there is, by trying every order of stacking.

    A plan in which nothing can sink is the one that its own order by offsets gives.
    """
    best = 0
    for number, order in enumerate(permutations(intervals)):
        tops: list[tuple[Interval, int]] = []
        for each in order:
            below = [
                top for other, top in tops if other.first <= each.last and each.first <= other.last
            ]
            tops.append((each, max(below, default=0) + rounded(each.size)))
        total = max(top for _, top in tops)
        best = total if number == 0 else min(best, total)
    return best


def test_few_buffers_are_planned_as_well_as_can_be() -> None:
    rng = random.Random(3)
    worst, missed, tried = 1.0, 0, 60
    for _ in range(tried):
        intervals = []
        for _ in range(6):
            first = rng.randint(0, 5)
            intervals.append(Interval(64 * rng.randint(1, 6), first, first + rng.randint(0, 3)))
        best, plan = best_total(intervals), plan_memory(intervals)
        require_sound(intervals, plan)
        assert plan.lower_bound <= best <= plan.total
        worst = max(worst, plan.total / best)
        missed += plan.total > best
    assert worst <= 1.15
    assert missed <= tried // 20


def test_the_plans_of_two_thousand_buffers_and_of_more_than_are_marked() -> None:
    rng = random.Random(5)
    for layers in (500, MOST_MARKS // 2 + 100):
        intervals = trained(rng, layers)
        plan = plan_memory(intervals)
        assert plan.total <= 1.02 * plan.lower_bound
        assert len(plan.offsets) == 4 * layers
    by_offset = sorted(range(len(intervals)), key=lambda number: plan.offsets[number])
    for step in range(0, 3 * layers, 97):  # what is live at a step, from the floor upwards
        top = 0
        for number in by_offset:
            each = intervals[number]
            if each.first <= step <= each.last:
                assert plan.offsets[number] >= top
                top = plan.offsets[number] + rounded(each.size)


def test_a_chain_in_place_needs_one_buffer() -> None:
    chain = [Interval(1000, step, step + 1, step - 1 if step else None) for step in range(50)]
    plan = plan_memory(chain)
    assert plan == MemoryPlan((0,) * 50, 1024, 1024)
    apart = plan_memory([Interval(each.size, each.first, each.last) for each in chain])
    assert apart.total == apart.lower_bound == 2048


def test_the_rest_of_a_place_is_free_for_others() -> None:
    intervals = [Interval(6400, 0, 1), Interval(640, 1, 3, 0), Interval(5760, 2, 3)]
    plan = plan_memory(intervals)
    require_sound(intervals, plan)
    assert plan.offsets == (0, 0, 640)
    assert plan.total == 6400


def test_a_place_is_taken_once_and_only_by_what_fits() -> None:
    intervals = [Interval(640, 0, 1), Interval(64, 1, 2, 0), Interval(640, 1, 2, 0)]
    plan = plan_memory(intervals)
    require_sound(intervals, plan)
    assert plan.offsets[2] == plan.offsets[0]
    assert plan.total == plan.lower_bound == 704
    larger = [Interval(64, 0, 1), Interval(65, 1, 2, 0)]
    plan = plan_memory(larger)
    require_sound(larger, plan)
    assert plan.total == plan.lower_bound == 192


def test_what_one_step_makes_it_cannot_read() -> None:
    circle = [Interval(64, 3, 3, 1), Interval(64, 3, 3, 0)]
    chain = [Interval(64, 0, 3), Interval(64, 3, 3, 0), Interval(64, 3, 3, 1)]
    for intervals in (circle, chain):
        plan = plan_memory(intervals)
        require_sound(intervals, plan)
        assert plan.total == plan.lower_bound == 128


def test_nothing_and_empty_buffers() -> None:
    assert plan_memory([]) == MemoryPlan((), 0, 0)
    assert plan_memory([Interval(0, 0, 5)]) == MemoryPlan((0,), 0, 0)
    intervals = [Interval(64, 0, 9), Interval(0, 2, 3), Interval(64, 2, 3), Interval(0, 3, 9, 1)]
    plan = plan_memory(intervals)
    require_sound(intervals, plan)
    assert plan.total == 128


def test_steps_may_be_far_apart_and_negative() -> None:
    intervals = [Interval(64, -(10**12), 10**12), Interval(64, 0, 0), Interval(64, 5, 10**15)]
    plan = plan_memory(intervals)
    require_sound(intervals, plan)
    assert plan.total == 128


@pytest.mark.parametrize(
    ("intervals", "message"),
    [
        ([Interval(-1, 0, 1)], "interval 0 has a negative size"),
        ([Interval(1, 0, 1), Interval(1, 2, 1)], "interval 1 has a negative size or ends before"),
        ([Interval(1, 0, 0, 0)], "takes the place of 0, which is not another of the 1 intervals"),
        ([Interval(1, 0, 0, -1)], "takes the place of -1"),
        ([Interval(1, 0, 0), Interval(1, 0, 0, 2)], "takes the place of 2, which is not another"),
        ([Interval(1, 0, 3), Interval(1, 2, 3, 0)], "starts at step 2 and takes the place of 0"),
    ],
)
def test_an_interval_without_meaning_is_refused(intervals: list[Interval], message: str) -> None:
    with pytest.raises(ArgumentError, match=message) as caught:
        plan_memory(intervals)
    assert caught.value.fix
