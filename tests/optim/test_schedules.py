"""Schedules against their formulas; Plateau's counting, and its state."""

from __future__ import annotations

import json
import math

import pytest

from symgraph.errors import ArgumentError
from symgraph.optim import Cosine, Plateau, Schedule, Steps, Warmup


def test_steps_as_published() -> None:
    """A tenth after 25 epochs, a hundredth after 45."""
    schedule = Steps(0.01, at=(25, 45))
    found = [schedule(epoch) for epoch in (0, 24, 25, 44, 45, 64)]
    assert found == pytest.approx([1e-2, 1e-2, 1e-3, 1e-3, 1e-4, 1e-4], rel=1e-12)
    assert Steps(1.0, at=(), factor=0.5)(1000) == 1.0
    assert Steps(1.0, at=(3, 3), factor=0.5)(3) == 0.25


def test_cosine() -> None:
    schedule = Cosine(0.2, 10, floor=0.02)
    assert schedule(0) == pytest.approx(0.2)
    assert schedule(5) == pytest.approx(0.11)
    assert schedule(2.5) == pytest.approx(0.02 + 0.18 * (1 + math.sqrt(0.5)) / 2)
    assert schedule(10) == schedule(99) == pytest.approx(0.02)
    assert schedule(-1) == pytest.approx(0.2)


def test_warmup_then_the_inner_schedule() -> None:
    schedule = Warmup(Steps(0.1, at=(4, 8)), length=4, start=0.25)
    expected = [0.025, 0.1 * (0.25 + 0.75 / 4), 0.0625, 0.1 * (0.25 + 0.75 * 3 / 4), 0.01, 0.001]
    assert [schedule(p) for p in (0, 1, 2, 3, 4, 8)] == pytest.approx(expected)


def test_plateau_waits_for_patience() -> None:
    schedule = Plateau(1.0, patience=2, threshold=0.1, factor=0.5)
    rates = []
    for measure in (0.1, 0.5, 0.55, 0.59, 0.60, 0.65, 0.7, 0.9, 0.91, 0.92):
        schedule.report(measure)
        rates.append(schedule(0))
    #        first  +.4  stale half   +.1  stale half   +.3  stale half
    assert rates == [1.0, 1.0, 1.0, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.25]


def test_plateau_for_losses_floor_and_wait() -> None:
    schedule = Plateau(1.0, patience=1, threshold=0.0, factor=0.1, floor=0.05, mode="min", wait=3)
    rates = []
    for loss in (3.0, 4.0, 4.0, 4.0, 2.0, 2.5, 2.5):
        schedule.report(loss)
        rates.append(schedule(0))
    assert rates == pytest.approx([1.0, 1.0, 1.0, 0.1, 0.1, 0.05, 0.05])


def test_nan_is_no_improvement() -> None:
    schedule = Plateau(1.0, patience=1, mode="min")
    schedule.report(math.nan)
    assert schedule(0) == pytest.approx(0.1)
    schedule.report(5.0)
    schedule.report(math.nan)
    assert schedule(0) == pytest.approx(0.01)
    assert schedule.state()["best"] == -5.0


def test_plateau_goes_on_from_its_state() -> None:
    measures = [0.1, 0.2, 0.2, 0.2, 0.3, 0.3, 0.3, 0.3]
    whole = Plateau(1.0)
    for measure in measures:
        whole.report(measure)
    for cut in range(len(measures)):
        first, second = Plateau(1.0), Plateau(1.0)
        for measure in measures[:cut]:
            first.report(measure)
        second.set_state(json.loads(json.dumps(first.state())))
        for measure in measures[cut:]:
            second.report(measure)
        assert second.state() == whole.state()


def test_a_state_is_a_copy() -> None:
    schedule = Plateau(1.0)
    before = schedule.state()
    schedule.report(0.5)
    assert before["reports"] == 0


def test_warmup_hands_reports_and_state_to_the_inner_schedule() -> None:
    inner = Plateau(1.0, patience=1)
    schedule = Warmup(inner, 2)
    schedule.report(0.5)
    schedule.report(0.5)
    assert schedule(10) == pytest.approx(0.1)
    other = Warmup(Plateau(1.0, patience=1), 2)
    other.set_state(schedule.state())
    assert other(10) == pytest.approx(0.1)


@pytest.mark.parametrize("schedule", [Steps(0.1, at=(1,)), Cosine(0.1, 5)])
def test_pure_schedules_have_no_state(schedule: Schedule) -> None:
    before = schedule(3)
    schedule.report(0.1)
    assert schedule.state() == {}
    schedule.set_state({})
    assert schedule(3) == before
    with pytest.raises(ArgumentError, match=r"has no state, got \['rate'\]"):
        schedule.set_state({"rate": 1})


def test_errors() -> None:
    with pytest.raises(ArgumentError, match=r"Steps: positions must rise, got \(4, 2\)"):
        Steps(0.1, at=(4, 2))
    with pytest.raises(ArgumentError, match="Steps: lr must be > 0"):
        Steps(0, at=(1,))
    with pytest.raises(ArgumentError, match=r"Cosine: floor must be in \[0, lr\], got 0.2"):
        Cosine(0.1, 3, floor=0.2)
    with pytest.raises(ArgumentError, match="Cosine: length must be > 0"):
        Cosine(0.1, 0)
    with pytest.raises(ArgumentError, match="Warmup: length must be > 0"):
        Warmup(Cosine(0.1, 3), 0)
    with pytest.raises(ArgumentError, match=r"Warmup: start must be in \[0, 1\], got 2"):
        Warmup(Cosine(0.1, 3), 1, start=2)
    with pytest.raises(ArgumentError, match='Plateau: mode must be "max" or "min"'):
        Plateau(0.1, mode="best")
    with pytest.raises(ArgumentError, match="Plateau: patience must be > 0"):
        Plateau(0.1, patience=0)
    with pytest.raises(ArgumentError, match="Plateau: the state lacks best, reports, stale"):
        Plateau(0.1).set_state({"rate": 0.1})
    with pytest.raises(ArgumentError, match="Plateau: `stale` must be a number, got 'x'"):
        Plateau(0.1).set_state({**Plateau(0.1).state(), "stale": "x"})
