"""What all optimisers share: clipping, state for checkpoints, groups, errors."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import symgraph as sg
from symgraph.errors import ArgumentError, ArgumentTypeError, GradError
from symgraph.optim import SGD, Adam, AdamW, Group, Optimizer


def moved(optimizer: SGD, gradients: list[np.ndarray]) -> list[np.ndarray]:
    """Give the gradients that plain SGD with rate 1 really used."""
    before = [p.value for p in optimizer.parameters]
    given = [sg.constant(g) for g in gradients]
    sg.function([], None, updates=optimizer.updates(optimizer.parameters[0].sum(), given))()
    return [old - p.value for old, p in zip(before, optimizer.parameters)]


def pair(dtype: str = "float64") -> list[sg.Shared]:
    return [sg.shared(np.zeros((2, 2), dtype), "a"), sg.shared(np.zeros(3, dtype), "b")]


BIG = [np.array([[3.0, -4.0], [0.0, 12.0]]), np.array([0.0, -84.0, 0.0])]  # norm 85


def test_clip_norm_scales_all_gradients_together() -> None:
    found = moved(SGD(pair(), 1.0, clip_norm=8.5), BIG)
    for got, gradient in zip(found, BIG):
        np.testing.assert_allclose(got, gradient / 10, rtol=1e-12)


def test_clip_norm_leaves_small_gradients_alone() -> None:
    for limit in (85.0, 1000.0):
        for got, gradient in zip(moved(SGD(pair(), 1.0, clip_norm=limit), BIG), BIG):
            assert (got == gradient).all()
    for got in moved(SGD(pair(), 1.0, clip_norm=1.0), [g * 0 for g in BIG]):
        assert not got.any()


def test_clip_value_limits_each_element() -> None:
    for got, gradient in zip(moved(SGD(pair(), 1.0, clip_value=3.5), BIG), BIG):
        assert (got == np.clip(gradient, -3.5, 3.5)).all()


def test_value_is_clipped_before_norm() -> None:
    clipped = [np.clip(g, -4, 4) for g in BIG]
    norm = np.sqrt(sum((g**2).sum() for g in clipped))
    found = moved(SGD(pair(), 1.0, clip_norm=2.0, clip_value=4.0), BIG)
    for got, gradient in zip(found, clipped):
        np.testing.assert_allclose(got, gradient * 2 / norm, rtol=1e-12)


def test_clip_norm_in_half_precision_does_not_overflow() -> None:
    a = sg.shared(np.zeros(4, np.float16), "a")
    found = moved(SGD([a], 1.0, clip_norm=1.0), [np.full(4, 5000, np.float16)])
    np.testing.assert_allclose(found[0], 0.5, rtol=1e-3)


def test_clip_norm_of_huge_float32_gradients() -> None:
    a = sg.shared(np.zeros(1, np.float32), "a")
    b = sg.shared(np.zeros(1, np.float32), "b")
    big = [np.array([1.5e19], np.float32)] * 2  # the sum of squares is above 3.4e38
    for got in moved(SGD([a, b], 1.0, clip_norm=1.0), big):
        np.testing.assert_allclose(got, np.sqrt(0.5), rtol=1e-6)


@pytest.mark.parametrize("kind", [Adam, AdamW, SGD])
def test_clipping_comes_before_the_rule(problem: Any, kind: type[Optimizer]) -> None:
    """Clipped training equals training on gradients that were clipped by hand."""
    clipped, given = problem(), problem()
    found = clipped.run(kind(clipped.variables.values(), 0.05, clip_norm=0.1), steps=5)
    optimizer = kind(given.variables.values(), 0.05)
    inputs = {n: sg.tensor(n, v.shape, "float64") for n, v in given.variables.items()}
    train = sg.function(
        list(inputs.values()), None, updates=optimizer.updates(given.loss, list(inputs.values()))
    )
    for step in range(5):
        gradients = given.gradients(given.values(), step)
        norm = np.sqrt(sum((g**2).sum() for g in gradients.values()))
        assert norm > 0.1
        train(*(gradients[name] * 0.1 / norm for name in inputs))
    for name, value in given.values().items():
        np.testing.assert_allclose(found[name], value, rtol=1e-11, atol=1e-13)


def test_state_has_stable_unique_names() -> None:
    def names(optimizer: Optimizer, net: sg.nn.Module) -> list[str]:
        state = optimizer.state(net.named_state())
        assert len(set(map(id, state.values()))) == len(state)
        return list(state)

    def net() -> sg.nn.Module:
        return sg.nn.Sequential(sg.nn.Dense(2, 3), sg.nn.BatchNorm(3), sg.nn.Dense(3, 1))

    one, two = net(), net()
    momentum = names(SGD(one.parameters(), 0.1, momentum=0.9), one)
    assert momentum == names(SGD(two.parameters(), 0.1, momentum=0.9), two)
    parameters = ["0.weight", "0.bias", "1.scale", "1.shift", "2.weight", "2.bias"]
    assert momentum == ["lr", *(f"{name}.velocity" for name in parameters)]
    assert names(SGD(one.parameters(), 0.1), one) == ["lr"]
    slots = [f"{name}.{slot}" for name in parameters for slot in ("mean", "square")]
    assert names(Adam(one.parameters(), 0.1), one) == ["lr", "count", *slots]


def test_state_without_names_is_numbered() -> None:
    optimizer = SGD(pair(), 0.1, momentum=0.5)
    assert list(optimizer.state()) == ["lr", "0.velocity", "1.velocity"]


def test_names_that_meet_are_refused() -> None:
    a, b = pair()
    with pytest.raises(ArgumentError, match=r"two arrays of the state are called `1\.velocity`"):
        SGD([a, b], 0.1, momentum=0.5).state({"1": a})


@pytest.mark.parametrize("kind", [SGD, Adam, AdamW])
def test_the_state_is_all_that_a_run_needs_to_go_on(problem: Any, kind: type[Optimizer]) -> None:
    options: dict[str, Any] = {"momentum": 0.9} if kind is SGD else {}
    whole, first, second = problem(), problem(), problem()
    expected = whole.run(kind(whole.variables.values(), 0.02, **options), steps=9)
    optimizer = kind(first.variables.values(), 0.02, **options)
    first.run(optimizer, steps=4)
    later = kind(second.variables.values(), 0.7, **options)
    for key, variable in later.state(second.variables).items():
        variable.value = optimizer.state(first.variables)[key].value
    for name, variable in second.variables.items():
        variable.value = first.values()[name]
    train = sg.function(second.inputs, None, updates=later.updates(second.loss))
    for step in range(4, 9):
        train(*second.batch(step))
    for name, value in second.values().items():
        assert (value == expected[name]).all()


def test_groups_and_plain_parameters_mix() -> None:
    a, b = pair()
    optimizer = SGD([Group(v for v in [b]), a], 0.1)  # a group may be given as a generator
    assert [p.label for p in optimizer.parameters] == ["a", "b"]
    assert [len(list(group.parameters)) for group in optimizer.groups] == [1, 1]


def test_the_rate_is_shown_as_given() -> None:
    assert SGD(pair(), 0.01).lr.value.item() == 0.01


def test_errors() -> None:
    a, b = pair()
    for wrong, text in (
        ({"weight_decay": -1.0}, "weight_decay must be >= 0"),
        ({"clip_norm": 0.0}, "clip_norm must be > 0"),
        ({"clip_value": -1.0}, "clip_value must be > 0"),
        ({"lr": float("nan")}, "lr must be >= 0"),
    ):
        with pytest.raises(ArgumentError, match=f"SGD: {text}"):
            SGD([a], **{"lr": 0.1, **wrong})
    for what in (a, sg.nn.Dense(2, 3)):
        with pytest.raises(ArgumentTypeError, match=r"SGD: takes a list of shared variables, got"):
            SGD(what, 0.1)  # type: ignore[arg-type]
    for rate in (a, "fast"):
        with pytest.raises(ArgumentTypeError, match="SGD: lr must be a number, got"):
            SGD([a], rate)  # type: ignore[arg-type]
    with pytest.raises(ArgumentError, match="SGD: `a` is listed twice"):
        SGD([a, Group([b, a])], 0.1)
    with pytest.raises(ArgumentError, match="SGD: decay of a group must be >= 0, got -1"):
        SGD([Group([a], decay=-1)], 0.1)
    with pytest.raises(ArgumentError, match=r"SGD: there are no parameters") as caught:
        SGD([], 0.1)
    assert "net.parameters()" in caught.value.fix
    with pytest.raises(ArgumentTypeError, match="must be shared variables, got ndarray"):
        SGD([np.zeros(2)], 0.1)  # type: ignore[list-item]
    with pytest.raises(ArgumentError, match="SGD: 2 parameters but 1 gradients"):
        SGD([a, b], 0.1).updates(a.sum(), gradients=[a])
    with pytest.raises(GradError, match="`b`"):
        SGD([a, b], 0.1).updates(a.sum())
