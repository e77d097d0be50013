"""Freezing: what is updated, what is never computed, and what a swap does to momentum."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import symgraph as sg
from symgraph.compression import Freezing, factor_sets, freeze_sets
from symgraph.errors import ArgumentError
from symgraph.nn import Activation, Conv2d, Dense, Flatten, LowRankConv2d, LowRankDense, Sequential

BATCH, WIDE, RANK = 6, 20, 4


def small() -> Sequential:
    sg.seed(4)
    return Sequential(
        LowRankConv2d(2, 4, 3, (2, 3)), LowRankConv2d(4, 4, 1, 2), Activation("tanh"),
        Flatten(), LowRankDense(16, 12, 5), Dense(12, 3),
    )  # fmt: skip


def pair() -> Sequential:
    """One pair of factors, of which all FLOPs can be counted by hand."""
    sg.seed(4)
    return Sequential(LowRankDense(WIDE, WIDE, RANK, bias=None))


def names_of(net: sg.nn.Module, frozen: tuple[sg.Shared, ...]) -> list[str]:
    those = set(frozen)
    return [name for name, variable in net.named_parameters() if variable in those]


class Training:
    """A net with a batch, whose steps are compiled by freeze set."""

    def __init__(self, net: Sequential, shape: tuple[int, ...], rule: Any = None) -> None:
        self.net = net
        x = sg.tensor("x", (BATCH, *shape))
        self.inputs = np.random.default_rng(3).normal(size=x.shape).astype(np.float32)
        self.x, self.loss = x, (net(x, train=True) ** 2).mean()
        make = rule or (lambda these: sg.optim.SGD(these, 0.1, momentum=0.9))
        self.optimizer = make(net.parameters())

    def compile(self, rule: sg.optim.Optimizer) -> sg.Function:
        updates = rule.updates(self.loss)
        return sg.function([self.x], self.loss, updates=updates, backend="reference")

    def freezing(self, policy: str, **options: Any) -> Freezing[sg.Function]:
        return Freezing(self.optimizer, freeze_sets(self.net, policy), self.compile, **options)

    def values(self) -> dict[str, Any]:
        return {name: v.value.copy() for name, v in self.net.named_parameters()}


def changed(training: Training, step: sg.Function) -> set[str]:
    before = training.values()
    step(training.inputs)
    after = training.values()
    return {name for name in before if (before[name] != after[name]).any()}


# -- which -----------------------------------------------------------------------------------------


def test_sets_as_published() -> None:
    net = small()
    outer, inner = factor_sets(net)
    assert names_of(net, outer) == ["0.first.weight", "0.last.weight", "1.first.weight",
                                    "4.first.weight"]  # fmt: skip
    assert names_of(net, inner) == ["0.core.weight", "1.last.weight", "4.last.weight"]
    assert freeze_sets(net, "none") == ((),)
    assert freeze_sets(net, "static") == (outer,)
    assert freeze_sets(net) == (outer, inner)


@pytest.mark.parametrize(("policy", "epochs"), [("static", (0, 1, 2)), ("sequential", (0, 1, 2))])
def test_only_what_is_not_frozen_changes(policy: str, epochs: tuple[int, ...]) -> None:
    training = Training(small(), (2, 4, 4))
    freezing = training.freezing(policy)
    every = {name for name, _ in training.net.named_parameters()}
    for epoch in epochs:
        frozen = set(names_of(training.net, freezing.frozen(epoch)))
        assert frozen
        assert changed(training, freezing.at(epoch)) == every - frozen
    assert (freezing.at(0) is freezing.at(1)) == (policy == "static")
    assert freezing.at(0) is freezing.at(2)


def test_nothing_frozen_is_the_optimiser_itself() -> None:
    training = Training(small(), (2, 4, 4))
    freezing = training.freezing("none")
    assert freezing.rules == [training.optimizer]
    assert len(changed(training, freezing.at(5))) == len(training.net.parameters())


# -- what is not computed --------------------------------------------------------------------------


def nodes(step: sg.Function) -> int:
    return sum(not value.op.leaf for value in step.graph.values)


def test_gradients_and_updates_of_the_frozen_are_gone() -> None:
    """Of a pair in front no gradient of its input is needed, so that all counts are known."""
    training = Training(pair(), (WIDE,))
    whole, first, last = (
        training.compile(training.optimizer.without(frozen) if frozen else training.optimizer)
        for frozen in ((), *freeze_sets(training.net))
    )
    counted = {step: sg.cost(step).flops for step in (whole, first, last)}
    product, numbers = 2 * BATCH * WIDE * RANK, WIDE * RANK
    update = sg.cost(list(training.optimizer.without(training.net.parameters()[:1]).step(
        training.net.parameters()[1], sg.tensor("g", (RANK, WIDE)), sg.scalar("rate"), 0.0
    ).values())).flops  # fmt: skip
    assert update >= 4 * numbers
    # the first one's gradient is a product by that of what lies between, which is one too
    assert counted[whole] - counted[first] == 2 * product + update
    assert counted[whole] - counted[last] == product + update
    for step in (first, last):
        assert nodes(step) < nodes(whole)
        assert len(step.graph.updates) == 2
    velocity = [slots["velocity"] for slots in training.optimizer.slots.values()]
    assert velocity[0] not in set(first.graph.values)
    assert velocity[1] not in set(last.graph.values)
    assert training.net.parameters()[1] in set(last.graph.values)  # it is read still


def test_clipping_looks_at_what_is_trained() -> None:
    rule = lambda these: sg.optim.SGD(these, 1.0, clip_norm=1e-3)
    training = Training(small(), (2, 4, 4), rule)
    before = training.values()
    training.freezing("sequential").at(0)(training.inputs)
    after = training.values()
    moved = np.sqrt(sum(((after[name] - before[name]) ** 2).sum() for name in before))
    np.testing.assert_allclose(moved, 1e-3, rtol=1e-3)


def test_groups_keep_their_settings() -> None:
    net = small()
    outer, _ = factor_sets(net)
    others = [one for one in net.parameters() if one not in set(outer)]
    groups = [sg.optim.Group(outer, rate=2.0), sg.optim.Group(others, rate=3.0, decay=0.5)]
    rule = sg.optim.SGD(groups, 0.1)
    left = rule.without(outer)
    assert [(group.rate, group.decay) for group in left.groups] == [(3.0, 0.5)]
    assert left.lr is rule.lr
    assert len(rule.parameters) == len(net.parameters())  # as it was


# -- momentum --------------------------------------------------------------------------------------


@pytest.mark.parametrize("momentum", ["keep", "reset"])
def test_momentum_on_a_swap(momentum: str) -> None:
    training = Training(small(), (2, 4, 4))
    freezing = training.freezing("sequential", momentum=momentum)
    velocity = lambda frozen: [training.optimizer.slots[one]["velocity"].value for one in frozen]
    outer, inner = factor_sets(training.net)
    freezing.at(0)(training.inputs)
    kept = velocity(inner)
    assert all(one.any() for one in kept)
    assert not any(one.any() for one in velocity(outer))
    freezing.at(1)(training.inputs)
    for now, then in zip(velocity(inner), kept):
        np.testing.assert_array_equal(now, then)  # nobody touches what is frozen
    step = freezing.at(2)  # where the second set is trained again
    assert all(one.any() == (momentum == "keep") for one in velocity(inner))
    step(training.inputs)
    now = velocity(inner)
    assert freezing.at(2) is step  # and the epoch goes on
    for one, other in zip(now, velocity(inner)):
        np.testing.assert_array_equal(one, other)


def test_an_epoch_that_goes_on_in_another_run_is_not_a_swap() -> None:
    training = Training(small(), (2, 4, 4))
    training.freezing("sequential").at(0)(training.inputs)
    _, inner = factor_sets(training.net)
    slot = training.optimizer.slots[inner[0]]["velocity"]
    training.freezing("sequential", momentum="reset").at(2, begins=False)
    assert slot.value.any()
    training.freezing("sequential", momentum="reset").at(2)
    assert not slot.value.any()


def test_momentum_kept_is_that_of_a_run_of_plain_steps() -> None:
    """By hand: v <- 0.9 v - lr g, for what has its turn."""
    training = Training(pair(), (WIDE,))
    freezing = training.freezing("sequential")
    u, v = (one.value.astype(np.float64) for one in training.net.parameters())
    x = training.inputs.astype(np.float64)
    speed = [np.zeros_like(u), np.zeros_like(v)]
    for epoch in (0, 0, 1, 1, 2):
        freezing.at(epoch)(training.inputs)
        slope = 2 * (x @ u @ v) / (BATCH * WIDE)
        gradients = x.T @ (slope @ v.T), (x @ u).T @ slope
        turn = 1 - epoch % 2
        speed[turn] = 0.9 * speed[turn] - 0.1 * gradients[turn]
        u, v = (u, v + speed[1]) if turn else (u + speed[0], v)
    for variable, wanted in zip(training.net.parameters(), (u, v)):
        np.testing.assert_allclose(variable.value, wanted, rtol=1e-5, atol=1e-6)


def test_steps_made_on_demand_do_the_same() -> None:
    runs = []
    for ahead in (True, False):
        training = Training(small(), (2, 4, 4))
        freezing = training.freezing("sequential", ahead=ahead)
        losses = [float(freezing.at(epoch)(training.inputs)) for epoch in (0, 1, 1, 2)]
        runs.append((losses, training.values()))
        freezing.close()
    assert runs[0][0] == runs[1][0]
    for name, values in runs[0][1].items():
        np.testing.assert_array_equal(values, runs[1][1][name])


# -- wrong calls -----------------------------------------------------------------------------------


def test_wrong_calls() -> None:
    net = small()
    training = Training(net, (2, 4, 4))
    with pytest.raises(ArgumentError, match="the policy must be one of none, static, sequential"):
        freeze_sets(net, "often")
    with pytest.raises(ArgumentError, match="Sequential has no layer of low rank"):
        freeze_sets(Sequential(Conv2d(3, 3, 3)))
    with pytest.raises(ArgumentError, match="everything is frozen: no parameter is left"):
        Freezing(training.optimizer, [tuple(net.parameters())], training.compile)
    stranger = sg.shared(1.0, "stranger")
    with pytest.raises(ArgumentError, match="`stranger` is to be frozen and is no parameter"):
        training.optimizer.without([stranger])
    with pytest.raises(ArgumentError, match="there are no sets"):
        Freezing(training.optimizer, [], training.compile)
    with pytest.raises(ArgumentError, match="momentum must be one of keep, reset"):
        training.freezing("static", momentum="halve")
    adam = Training(net, (2, 4, 4), lambda these: sg.optim.Adam(these, 0.1))
    with pytest.raises(ArgumentError, match="Adam corrects its moments by a count of steps"):
        adam.freezing("static", momentum="reset")
    with pytest.raises(ArgumentError, match="epochs count from 0, got -1"):
        training.freezing("static").at(-1)
