"""Loss scaling: steps that overflow leave no trace but their count; small gradients survive."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import symgraph as sg
from symgraph.errors import ArgumentError
from symgraph.optim import SGD, Adam, LossScaling


def problem(scaling: LossScaling | None, size: float = 1.0) -> tuple[Any, dict[str, sg.Shared]]:
    """A step of a net that has all sorts of state: moments, a counter, statistics, random masks."""
    sg.seed(3)
    x = sg.tensor("x", (4, 6))
    net = sg.nn.Sequential(
        sg.nn.Dense(6, 5), sg.nn.BatchNorm(5), sg.nn.Dropout(0.5), sg.nn.Dense(5, 1)
    )
    loss = (net(x, train=True) ** 2).mean() * size
    adam = Adam(net.parameters(), lr=0.01, scaling=scaling)
    step = sg.function([x], loss, updates=adam.updates(loss), precision="fp16", backend="reference")
    state = {**net.named_state(), **adam.state()}
    return step, {**state, **{v.label: v for v in step.graph.shared}}


def snapshot(state: dict[str, sg.Shared]) -> dict[str, Any]:
    return {name: np.array(one.value) for name, one in state.items()}


ROWS = np.random.default_rng(0).standard_normal((4, 6)).astype(np.float32)


def test_a_step_that_overflows_leaves_everything_but_the_scale() -> None:
    scaling = LossScaling(2.0**40)
    step, state = problem(scaling)
    before = snapshot(state)
    step(ROWS)
    after = snapshot(state)
    changed = {name for name in before if not np.array_equal(before[name], after[name])}
    assert changed == {"loss_scale", "loss_scale.skipped"}
    assert scaling.scale.value == 2.0**39
    assert scaling.skipped.value == 1
    assert any("random" in name for name in state), "a random stream is part of it"
    for _ in range(40):
        step(ROWS)
    assert int(scaling.skipped.value) < 40
    changed = {name for name, old in before.items() if not np.array_equal(old, state[name].value)}
    assert "adam.count" in changed
    assert all(np.isfinite(one.value).all() for one in state.values())


def test_in_float32_a_power_of_two_changes_no_bit() -> None:
    def trained(scaling: LossScaling | None) -> Any:
        w = sg.shared(np.linspace(-1, 1, 8, dtype=np.float32))
        x = sg.tensor("x", (8,))
        loss = (sg.tanh(w * x) ** 2).sum()
        step = sg.function([x], loss, SGD([w], lr=0.1, momentum=0.9, scaling=scaling).updates(loss))
        for n in range(5):
            step(np.full(8, 0.3 + n, np.float32))
        return w.value

    np.testing.assert_array_equal(trained(LossScaling(1024.0)), trained(None))


@pytest.mark.parametrize("scaled", [False, True])
def test_gradients_below_the_least_of_float16_survive(scaled: bool) -> None:
    w = sg.shared(np.full((32, 32), 0.01, np.float32))
    v = sg.shared(np.full((32, 32), 0.01, np.float32))
    x = sg.tensor("x", (32, 32))
    loss = ((x @ w) @ v).sum() * 1e-7
    sgd = SGD([w, v], lr=1.0, scaling=LossScaling() if scaled else None)
    step = sg.function([x], loss, sgd.updates(loss), precision="fp16", backend="reference")
    before = np.array(w.value)
    step(np.ones((32, 32), np.float32))
    moved = before - w.value
    exact = 32 * 32 * 0.01 * 1e-7
    if scaled:
        np.testing.assert_allclose(moved, exact, rtol=0.05)
    else:
        assert np.abs(moved - exact).max() > 0.2 * exact, "float16 alone loses them"


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64"])
def test_parameters_of_other_dtypes_learn_as_without(dtype: str) -> None:
    """2**16 is infinite in float16."""
    found = []
    for scaling in (None, LossScaling()):
        w = sg.shared(sg.constant([1.0, 2.0]).cast(dtype).eval())
        x = sg.tensor("x", (2,))
        loss = (w.cast("float32") * x).sum()
        step = sg.function([x], loss, SGD([w], lr=100.0, scaling=scaling).updates(loss))
        step(np.full(2, 1e-3, np.float32))
        found.append(np.asarray(w.value, np.float64))
    np.testing.assert_allclose(found[1], found[0], rtol=1e-2)
    assert (found[1] < [1.0, 2.0]).all()


def test_the_scale_grows_after_good_steps_and_stops_at_its_bounds() -> None:
    w = sg.shared(np.ones(3, np.float32))
    x = sg.tensor("x", (3,))
    scaling = LossScaling(2.0, interval=3)
    loss = (w * x).sum()
    step = sg.function([x], loss, SGD([w], lr=0.1, scaling=scaling).updates(loss))
    seen = []
    for _ in range(7):
        step(np.ones(3, np.float32))
        seen.append((float(scaling.scale.value), int(scaling.good.value)))
    assert seen == [(2, 1), (2, 2), (4, 0), (4, 1), (4, 2), (8, 0), (8, 1)]
    for _ in range(5):
        step(np.full(3, np.inf, np.float32))
    assert (float(scaling.scale.value), int(scaling.good.value)) == (1.0, 0)
    assert scaling.skipped.value == 5


def test_a_checkpoint_has_it() -> None:
    w = sg.shared(np.ones(3, np.float32), "w")
    names = set(SGD([w], lr=0.1, scaling=LossScaling()).state())
    assert names == {"lr", "loss_scale", "loss_scale.good", "loss_scale.skipped"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"scale": 0.5}, "scale must lie"),
        ({"scale": float("nan")}, "scale must lie"),
        ({"growth": 0.5}, "growth"),
        ({"backoff": 1.0}, "backoff"),
        ({"interval": 0}, "interval"),
    ],
)
def test_bad_settings(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        LossScaling(**options)
