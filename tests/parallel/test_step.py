"""Steps of a team: what ranks start from, what a rank without rows does, what is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import symgraph as sg
from symgraph.errors import ArgumentError
from symgraph.parallel import Alone, Team, train_step
from tests.parallel.teams import together


def line(start: float, **options: Any) -> tuple[sg.Shared, Any, list[sg.Value], sg.Value]:
    w = sg.shared(np.float32([start, start + 1]), "w")
    x = sg.tensor("x", (sg.dim("B"), 2))
    return w, sg.optim.SGD([w], 0.5, **options), [x], (x @ w).mean()


@pytest.mark.parametrize("average", ["params", "grads"])
@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_all_ranks_start_from_rank_0(average: str, momentum: float) -> None:
    """Weights, momenta, counters and random states, whatever is averaged."""

    def work(team: Team) -> Any:
        w, rule, inputs, loss = line(float(team.rank), momentum=momentum)
        if momentum:
            rule.slots[w]["velocity"].value = np.float32([team.rank, 1])
        stream = sg.random.Stream(seed=team.rank)
        dropped = sg.where(stream.bernoulli((2,), 0.5), 0.0, inputs[0]) + 0 * loss
        step = train_step(team, inputs, loss + 0 * dropped.sum(), rule, average=average)
        started = w.value.tolist()
        step(np.ones((1, 2), np.float32), row=team.rank)
        w.value = w.value + team.rank  # somebody changes it on one rank
        step.start()
        return started, w.value.tolist(), stream.state()

    first, second = together(2, work)
    assert first == second
    assert first[0] == [0.0, 1.0]  # type: ignore[index]


@pytest.mark.parametrize("every", [1, 2])
def test_a_rank_without_rows_changes_nothing(every: int) -> None:
    def work(team: Team) -> Any:
        w = sg.shared(np.float32(0.0), "w")
        x = sg.tensor("x", (sg.dim("B"),))
        rule = sg.optim.SGD([w], 1.0)
        loss = ((w - x) ** 2).mean() / 2  # a step goes to the mean of the rows
        step = train_step(team, [x], loss, rule, average="params", every=every)
        full, none = np.full(1, 100, np.float32), np.zeros(0, np.float32)
        found = []
        for rows in [full] * (every - 1) + [full if team.rank == 0 else none]:
            found.append(step(rows, row=team.rank))
        return float(w.value), found[-1].rows, found[-1].settled

    assert together(2, work) == [(100.0, 1, True)] * 2


@pytest.mark.parametrize("average", ["params", "grads"])
def test_a_rank_keeps_what_belongs_to_its_rows(average: str) -> None:
    """Weights are those of all; sums of a rank's rows are its own, whatever rank 0 has."""

    def work(team: Team) -> Any:
        w, rule, inputs, loss = line(0.0)
        total = sg.shared(np.full(team.rank + 1, team.rank, np.float32), "total")
        own = {total: total + inputs[0].sum(axis=1)}
        step = train_step(team, inputs, loss, rule, average=average, own=own)
        for _ in range(2):
            step(np.full((team.rank + 1, 2), team.rank + 1, np.float32), row=team.rank)
        step.start()
        return w.value.tolist(), total.value.tolist()

    first, second = together(2, work)
    assert first[0] == second[0]  # type: ignore[index]
    assert (first[1], second[1]) == ([4.0], [9.0, 9.0])  # type: ignore[index]


def test_no_rows_at_all_are_an_error_on_all_ranks() -> None:
    def work(team: Team) -> Any:
        _, rule, inputs, loss = line(0.0)
        return train_step(team, inputs, loss, rule)(np.zeros((0, 2), np.float32))

    for problem in together(2, work):
        assert isinstance(problem, ArgumentError)
        assert "no rank has any rows" in str(problem)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"average": "all"}, "average='all' is none of params, grads"),
        ({"every": 0}, "every=0 .* it counts steps from 1"),
        ({"every": 2}, "gradients are averaged in each step"),
        ({"transport": "pigeon"}, "transport='pigeon' with backend=None"),
        ({"transport": "peer"}, "transport='peer' with backend=None"),
        ({"transport": "peer", "backend": "cpu"}, "transport='peer' with backend='cpu'"),
    ],
)
def test_what_is_refused(options: dict[str, Any], text: str) -> None:
    _, rule, inputs, loss = line(0.0)
    with pytest.raises(ArgumentError, match=text):
        train_step(Alone(), inputs, loss, rule, **options)


def test_loss_scaling_is_refused_with_others() -> None:
    def work(team: Team) -> Any:
        _, rule, inputs, loss = line(0.0, scaling=sg.optim.LossScaling())
        return train_step(team, inputs, loss, rule)

    for problem in together(2, work):
        assert "would skip different steps" in str(problem)
